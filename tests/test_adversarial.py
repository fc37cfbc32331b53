"""Generator and critic steps: by hand, as real games, after kills, and on two processes."""

from __future__ import annotations

import contextlib
import copy
import io
import math
import random
import shlex
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from enhancelib import adversarial, datasets, losses, runtime, training
from enhancelib.losses import pixel
from enhancelib.losses.adversarial import FORMS, dped_critic, dped_texture, gradient_penalty
from enhancelib.recipes import Recipe
from enhancelib.training import Parts, Sample, Step, TrainingError, Values
from tests import games, soak
from tests.arms import photo
from tests.test_parallel import torchrun
from tests.test_training import CPU, Interrupted, equal, state

IMAGE, PAIR = adversarial.judging(), adversarial.judging("degraded")
SCORES = ("real_scores", "fake_scores")
MSE = losses.Objective({"mse": losses.Term(1.0, pixel.mse)})
SGD = Recipe(steps=1, batch=2, patch=1, optimiser="sgd", momentum=0.0, learning_rate=0.01)


@pytest.fixture(scope="module")
def pool() -> datasets.PatchPool:
    return datasets.PatchPool([photo("camera"), photo("coins")], 16)


def players(generator: nn.Module, critic: nn.Module, recipe: Recipe = SGD) -> dict[str, Any]:
    return {
        "generator": generator,
        "critic": critic,
        "generator_optimiser": training.optimiser(generator.parameters(), recipe),
        "critic_optimiser": training.optimiser(critic.parameters(), recipe),
    }


def objective(form: str, weight: float = 1.0) -> losses.Objective:
    return losses.Objective({"game": losses.Term(weight, FORMS[form].generator, of=SCORES)})


def game(form: str, judge: adversarial.Judge = IMAGE, *, updates: int = 1, **more: Any) -> Step:
    return training.adversarial(
        adversarial.generator_step(objective(form), CPU, judge=judge),
        adversarial.critic_step(FORMS[form], judge, CPU, **more),
        critic_updates=updates,
    )


# By hand


class Gain(nn.Module):
    """`g x`, as a generator; `w mean(x)`, as a critic."""

    def __init__(self, value: float, *, scores: bool) -> None:
        super().__init__()
        self.value, self.scores = nn.Parameter(torch.tensor(value, dtype=torch.float64)), scores

    def forward(self, x: Tensor) -> Tensor:
        return self.value * (x.flatten(1).mean(1) if self.scores else x)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


# Real pictures 1 and 3; degraded ones 1 and 2; scores are w times the picture, fakes g times.
REAL, DEGRADED = [1.0, 3.0], [1.0, 2.0]
Slope = Callable[[float, list[float]], float]  # (w, fakes) -> derivative


def relativistic_critic(w: float, x: list[float]) -> float:
    p = [sigmoid(w * (a - mean(x))) for a in REAL]
    q = [sigmoid(w * (b - mean(REAL))) for b in x]
    real = mean([(p[k] - 1) * (REAL[k] - mean(x)) for k in (0, 1)])
    return real + mean([q[k] * (x[k] - mean(REAL)) for k in (0, 1)])


def relativistic_generator(w: float, x: list[float]) -> float:
    p = [sigmoid(w * (a - mean(x))) for a in REAL]
    q = [sigmoid(w * (b - mean(REAL))) for b in x]
    through_the_mean = mean([-p[k] * w * mean(DEGRADED) for k in (0, 1)])
    return through_the_mean + mean([(q[k] - 1) * w * DEGRADED[k] for k in (0, 1)])


def cross_entropy(w: float, x: list[float]) -> float:
    return mean([-sigmoid(-w * a) * a for a in REAL]) + mean([sigmoid(w * b) * b for b in x])


# form -> dL_D/dw and dL_G/dg, differentiated on paper
SLOPES: Mapping[str, tuple[Slope, Slope]] = {
    "relativistic": (relativistic_critic, relativistic_generator),
    "minimax": (
        cross_entropy,
        lambda w, x: mean([-sigmoid(-w * x[k]) * w * DEGRADED[k] for k in (0, 1)]),
    ),
    "saturating": (
        cross_entropy,
        lambda w, x: mean([-sigmoid(w * x[k]) * w * DEGRADED[k] for k in (0, 1)]),
    ),
    "least_squares": (
        lambda w, x: mean([(w * a - 1) * a for a in REAL]) + mean([w * b * b for b in x]),
        lambda w, x: mean([(w * x[k] - 1) * w * DEGRADED[k] for k in (0, 1)]),
    ),
    "wasserstein": (lambda w, x: mean(x) - mean(REAL), lambda w, x: -w * mean(DEGRADED)),
    "hinge": (
        # with w = 0.4 the real picture 3 scores 1.2, beyond the hinge; the fakes are all above -1
        lambda w, x: mean([-a if w * a < 1 else 0.0 for a in REAL]) + mean(x),
        lambda w, x: -w * mean(DEGRADED),
    ),
}


def test_every_form_is_worked_out_by_hand() -> None:
    assert SLOPES.keys() == FORMS.keys()


@pytest.mark.parametrize("form", FORMS)
def test_one_step_of_either_player_moves_as_worked_out_by_hand(form: str) -> None:
    found = players(Gain(0.5, scores=False), Gain(0.4, scores=True))
    sample = {
        "clean": torch.tensor(REAL).double()[:, None],
        "degraded": torch.tensor(DEGRADED).double()[:, None],
    }
    values = game(form)(found, sample, torch.Generator())
    g, w, fakes = 0.5, 0.4, [0.5, 1.0]
    moved = w - 0.01 * SLOPES[form][0](w, fakes)
    assert float(found["critic"].value.detach()) == pytest.approx(moved, rel=1e-12)
    # the generator is judged by the critic that has moved
    expected = g - 0.01 * SLOPES[form][1](moved, fakes)
    assert float(found["generator"].value.detach()) == pytest.approx(expected, rel=1e-12)
    assert float(values["real_score"]) == pytest.approx(w * 2.0), "mean of what the update saw"
    assert float(values["fake_score"]) == pytest.approx(w * 0.75)
    assert values.keys() == {"critic", "real_score", "fake_score", "loss", "game"}


def restorer() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Conv2d(4, 1, 1))


def drawn(pool: datasets.PatchPool, index: int, count: int = 6) -> Sample:
    generator = runtime.generator(0, "sample", index)
    clean = pool.sample(count, generator)
    noise = 0.1 * torch.randn(clean.shape, generator=generator)
    return {"clean": clean, "degraded": clean + noise}


def test_it_is_algorithm_1_of_the_pairwise_relativistic_paper(pool: datasets.PatchPool) -> None:
    torch.manual_seed(0)
    G, C = restorer().double(), games.Pairwise().double()
    rates = {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8}
    found = players(copy.deepcopy(G), copy.deepcopy(C), replace(SGD, optimiser="adam"))
    for update in (found["generator_optimiser"], found["critic_optimiser"]):
        update.param_groups[0].update(lr=1e-3)
    terms = losses.Objective(
        {
            "mse": losses.Term(1.0, pixel.mse),
            "gan": losses.Term(0.4, FORMS["relativistic"].generator, of=SCORES),
        }
    )
    step = training.adversarial(
        adversarial.generator_step(terms, CPU, judge=PAIR),
        adversarial.critic_step(FORMS["relativistic"], PAIR, CPU),
    )
    # The paper's listing, in plain PyTorch.
    for_G, for_C = (
        torch.optim.Adam(G.parameters(), **rates),
        torch.optim.Adam(C.parameters(), **rates),
    )
    for index in range(4):
        sample = {name: value.double() for name, value in drawn(pool, index).items()}
        source, target = sample["degraded"], sample["clean"]
        for_C.zero_grad()
        c_r, c_f = C(source, target), C(source, G(source).detach())
        D_rf, D_fr = (c_r - c_f.mean()).sigmoid(), (c_f - c_r.mean()).sigmoid()
        L_D = -D_rf.log().mean() - (1 - D_fr).log().mean()
        L_D.backward()
        for_C.step()
        for_G.zero_grad()
        output = G(source)
        c_r, c_f = C(source, target), C(source, output)
        D_rf, D_fr = (c_r - c_f.mean()).sigmoid(), (c_f - c_r.mean()).sigmoid()
        L_GAN = -(1 - D_rf).log().mean() - D_fr.log().mean()
        L_total = (output - target).square().mean() + 0.4 * L_GAN
        L_total.backward()
        for_G.step()
        values = step(found, sample, torch.Generator())
        assert float(values["critic"]) == pytest.approx(float(L_D.detach()), rel=1e-9)
        assert float(values["gan"]) == pytest.approx(float(L_GAN.detach()), rel=1e-9)
        assert float(values["loss"]) == pytest.approx(float(L_total.detach()), rel=1e-9)
    for name, theirs in (("generator", G), ("critic", C)):
        for ours, value in zip(found[name].parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(ours, value, rtol=1e-8, atol=1e-11)


def test_without_a_judge_it_is_supervised_training(pool: datasets.PatchPool) -> None:
    torch.manual_seed(0)
    first = restorer()
    second = copy.deepcopy(first)
    a = {"network": first, "optimiser": training.optimiser(first.parameters(), SGD)}
    b = {"network": second, "optimiser": training.optimiser(second.parameters(), SGD)}
    names = {"network": "network", "optimiser": "optimiser"}
    for index in range(3):
        sample = drawn(pool, index)
        x = training.supervised(MSE, CPU, clip=0.1)(a, sample, torch.Generator())
        y = adversarial.generator_step(MSE, CPU, clip=0.1, **names)(b, sample, torch.Generator())
        assert x == y
    assert equal(state(a), state(b))


# What a step leaves alone


def test_the_generators_step_leaves_the_critic_as_it_was(pool: datasets.PatchPool) -> None:
    found = players(restorer(), games.Pairwise())
    found["critic"].score.bias.requires_grad_(False)  # frozen by the user, and stays so
    found["critic"].eval(), found["generator"].eval()
    before = state({"critic": found["critic"]})
    step = adversarial.generator_step(objective("relativistic"), CPU, judge=PAIR)
    step(found, drawn(pool, 0), torch.Generator())
    assert equal(before, state({"critic": found["critic"]})), "running moments included"
    assert all(p.grad is None for p in found["critic"].parameters())
    flags = {name: p.requires_grad for name, p in found["critic"].named_parameters()}
    assert [name for name, flag in flags.items() if not flag] == ["score.bias"]
    assert found["critic"].training
    assert found["generator"].training
    assert int(found["generator"][1].num_batches_tracked) == 1


@pytest.mark.parametrize("penalty", [None, gradient_penalty])
def test_the_critics_step_leaves_the_generator_as_it_was(
    pool: datasets.PatchPool, penalty: Any
) -> None:
    found = players(restorer(), games.Pairwise())
    found["critic"].eval(), found["generator"].eval()
    before = state({"generator": found["generator"]})
    graphs = []

    def judge(parts: Parts, sample: Sample, key: str) -> Tensor:
        graphs.append((key, sample[key].requires_grad, sample["output"].grad_fn is None))
        return found["critic"](sample["degraded"], sample[key])  # type: ignore[no-any-return]

    step = adversarial.critic_step(FORMS["hinge"], judge, CPU, penalty=penalty)
    step(found, drawn(pool, 0), torch.Generator())
    assert equal(before, state({"generator": found["generator"]})), "running moments included"
    assert all(p.grad is None for p in found["generator"].parameters())
    # real, then fake, without a graph; the penalty's mixture is a leaf of its own
    mixture = [("output", True, True)] if penalty else []
    assert graphs == [("clean", False, True), ("output", False, True), *mixture]
    assert found["critic"].training
    assert found["generator"].training
    # one pass for the real, one for the fake ones; the penalty's does not count
    assert int(found["critic"].body[1].num_batches_tracked) == 2


def test_fakes_are_made_with_the_moments_of_their_batch(pool: datasets.PatchPool) -> None:
    found, seen = players(restorer(), games.Pairwise()), []

    def judge(parts: Parts, sample: Sample, key: str) -> Tensor:
        seen.append(sample["output"].detach())
        return found["critic"](sample["degraded"], sample[key])  # type: ignore[no-any-return]

    sample = drawn(pool, 0)
    adversarial.critic_step(FORMS["hinge"], judge, CPU)(found, sample, torch.Generator())
    adversarial.generator_step(objective("hinge"), CPU, judge=judge)(
        found, sample, torch.Generator()
    )
    assert seen[0].equal(seen[2]), "the critic is taught on the picture that it will judge"


@pytest.mark.parametrize("player", ["generator", "critic"])
def test_clipping_bounds_the_gradient_of_each_player(pool: datasets.PatchPool, player: str) -> None:
    def length(clip: float) -> float:
        torch.manual_seed(0)
        found = players(restorer(), games.Pairwise(), replace(SGD, learning_rate=1.0))
        before = [p.detach().clone() for p in found[player].parameters()]
        make: Any = {
            "generator": partial(adversarial.generator_step, objective("wasserstein"), judge=PAIR),
            "critic": partial(adversarial.critic_step, FORMS["wasserstein"], PAIR),
        }[player]
        make(runtime=CPU, clip=clip)(found, drawn(pool, 0), torch.Generator())
        after = found[player].parameters()
        moved = [(p.detach() - b).flatten() for p, b in zip(after, before, strict=True)]
        return float(torch.cat(moved).norm())

    free = length(0.0)
    assert length(free / 2) == pytest.approx(free / 2, rel=1e-4)
    assert length(free * 2) == pytest.approx(free, rel=1e-6)


def test_losses_of_a_bfloat16_game_are_float32(pool: datasets.PatchPool) -> None:
    machine, seen = replace(CPU, precision="bf16"), []

    def spy(sample: Sample) -> tuple[Tensor, dict[str, Tensor]]:
        seen.extend(sample[name] for name in (*SCORES, "output"))
        return objective("relativistic")(sample)

    def watched(sample: Sample) -> tuple[Tensor, dict[str, Tensor]]:
        seen.extend(sample[name] for name in SCORES)
        return FORMS["hinge"].critic(sample["real_scores"], sample["fake_scores"]), {}

    found = players(restorer(), games.Pairwise())
    passes = []

    def penalty(critic: Any, real: Tensor, fake: Tensor, generator: torch.Generator) -> Tensor:
        passes.append(critic(fake).dtype)
        return gradient_penalty(critic, real, fake, generator)

    adversarial.critic_step(watched, PAIR, machine, penalty=penalty)(
        found, drawn(pool, 0), torch.Generator()
    )
    adversarial.generator_step(spy, machine, judge=PAIR)(found, drawn(pool, 0), torch.Generator())
    assert {value.dtype for value in seen} == {torch.float32}
    rounded = [value.detach().bfloat16().float() for value in seen]
    assert all(value.detach().equal(short) for value, short in zip(seen, rounded, strict=True)), (
        "they were computed with 8 bits of mantissa"
    )
    assert passes == [torch.float32], "the penalty differentiates twice, in full precision"


# Real games


def toner() -> nn.Module:
    tone = nn.Conv2d(1, 1, 1)
    with torch.no_grad():
        tone.weight.fill_(1.0)
        tone.bias.zero_()  # type: ignore[union-attr]
    return tone


def image_critic() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(1, 8, 3, stride=2), nn.LeakyReLU(0.2)),
        *(nn.Conv2d(8, 8, 3, stride=2), nn.LeakyReLU(0.2)),
        nn.Conv2d(8, 1, 3),
    )


TONES = Recipe(steps=150, batch=32, patch=16, learning_rate=5e-3, betas=(0.5, 0.9), log_every=10)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_teaches_a_generator_the_brightness_of_unpaired_photos(
    tmp_path: Path, pool: datasets.PatchPool, form: str
) -> None:
    def batches(index: int, generator: torch.Generator) -> Sample:
        dark = 0.5 * pool.sample(32, generator)  # of other places than the clean ones
        return {"clean": pool.sample(32, generator), "degraded": dark}

    torch.manual_seed(1)
    penalty = gradient_penalty if form in ("wasserstein", "hinge") else None
    run = SimpleNamespace(folder=tmp_path, runtime=CPU)
    alone = players(toner(), image_critic(), TONES)
    step = adversarial.critic_step(FORMS[form], IMAGE, CPU, penalty=penalty)
    learnt = training.fit(step, alone, batches, replace(TONES, steps=60), run, stage="critic")
    real, fake = learnt.values["real_score"], learnt.values["fake_score"]
    gaps = [a - b for a, b in zip(real, fake, strict=True)]
    assert gaps[-1] > 3 * abs(gaps[0])
    assert gaps[-1] > 0.2, "the critic tells dark from bright"
    found = players(toner(), image_critic(), TONES)
    training.fit(game(form, updates=2, penalty=penalty), found, batches, TONES, run)
    gain = float(found["generator"].weight.detach())
    assert abs(gain - 2) < 0.45, "it began at 1; all darkness asks for 2"
    assert abs(float(found["generator"].bias.detach())) < 0.2


def test_wasserstein_with_five_critic_updates_makes_five(pool: datasets.PatchPool) -> None:
    recipe = replace(TONES, optimiser="adam", learning_rate=1e-4)
    found = players(toner(), image_critic(), recipe)
    step = game("wasserstein", updates=5, penalty=gradient_penalty, penalty_weight=10.0)
    draws = torch.Generator().manual_seed(0)
    for index in range(3):
        values = step(found, drawn(pool, index), draws)
    kept = {
        name: found[f"{name}_optimiser"].state_dict()["state"] for name in ("critic", "generator")
    }
    assert {int(s["step"]) for s in kept["critic"].values()} == {15}
    assert {int(s["step"]) for s in kept["generator"].values()} == {3}
    assert float(values["penalty"]) > 0
    expected = values["fake_score"] - values["real_score"] + 10.0 * values["penalty"]
    assert float(values["critic"]) == pytest.approx(float(expected), rel=1e-5)


def test_a_penalty_draws_anew_at_every_update_and_from_the_steps_generator(
    pool: datasets.PatchPool,
) -> None:
    def penalties(seed: int) -> list[float]:
        torch.manual_seed(0)
        found = players(toner(), image_critic(), replace(SGD, learning_rate=1e-12))
        step = adversarial.critic_step(FORMS["wasserstein"], IMAGE, CPU, penalty=gradient_penalty)
        draws = torch.Generator().manual_seed(seed)
        return [float(step(found, drawn(pool, 0), draws)["penalty"]) for _ in range(2)]

    first = penalties(0)
    assert first == penalties(0)
    assert len({*first, *penalties(1)}) == 4


def test_fresh_updates_divide_the_sample() -> None:
    order: list[tuple[str, list[float]]] = []

    def note(name: str) -> Step:
        def step(parts: Parts, sample: Sample, generator: torch.Generator) -> Values:
            order.append((name, sample["clean"].tolist()))
            return {}

        return step

    sample = {"clean": torch.arange(6.0)}
    step = training.adversarial(note("G"), note("D"), critic_updates=2, fresh=True)
    step({}, sample, torch.Generator())
    assert order == [("D", [0, 1]), ("D", [2, 3]), ("G", [4, 5])]
    with pytest.raises(ValueError, match="'clean' has 7 items, which do not divide into 3 updates"):
        step({}, {"clean": torch.arange(7.0)}, torch.Generator())


# Judges


def test_dpeds_discriminator_sees_each_picture_real_or_generated(
    pool: datasets.PatchPool,
) -> None:
    found = players(toner(), nn.Sequential(nn.Flatten(), nn.Linear(256, 2)))
    seen: list[Sample] = []

    def judge(parts: Parts, sample: Sample, key: str) -> adversarial.Verdict:
        seen.append(sample)
        return IMAGE(parts, sample, key)

    shown = {"judge": judge, "forward": adversarial.either(), "judged": ("mixed",)}
    form = losses.Objective(
        {"texture": losses.Term(1.0, dped_critic, of=("mixed_scores", "is_real"))}
    )
    terms = losses.Objective(
        {
            "texture": losses.Term(
                1.0, lambda z, real: -dped_critic(z, real), of=("mixed_scores", "is_real")
            )
        }
    )
    step = training.adversarial(
        adversarial.generator_step(terms, CPU, **shown),
        adversarial.critic_step(form, runtime=CPU, **shown),
    )
    draws = torch.Generator().manual_seed(0)
    for index in range(40):
        values = step(found, drawn(pool, index, 16), draws)
    assert len(seen) == 80, "one pass of the critic in either step"
    for sample in seen:
        real = sample["is_real"]
        assert sample["mixed"][real].equal(sample["clean"][real])
        assert sample["mixed"][~real].equal(sample["output"][~real])
    share = torch.stack([sample["is_real"] for sample in seen]).float().mean()
    assert float(share) == pytest.approx(0.5, abs=5 * 0.5 / math.sqrt(80 * 16))
    assert not seen[0]["is_real"].equal(seen[1]["is_real"]), "drawn again for the generator"
    assert values["critic"] == values["critic_texture"]
    # only the generated half reaches the generator, by the texture loss of that half
    last, critic = seen[-1], found["critic"]
    real, output = last["is_real"], last["output"].detach().requires_grad_()
    mixed = torch.where(real[:, None, None, None], last["clean"], output)
    (slope,) = torch.autograd.grad(-dped_critic(critic(mixed), real), output)
    (expected,) = torch.autograd.grad(dped_texture(critic(output[~real])), output)
    torch.testing.assert_close(slope, expected, rtol=1e-5, atol=1e-8)
    assert float(slope[real].abs().max()) == 0


def test_two_critics_and_their_features_in_one_game(pool: datasets.PatchPool) -> None:
    """EPDN's arrangement: full and half size, least squares, feature matching."""
    critics = nn.ModuleDict({"full": games.Pairwise(), "small": nn.Conv2d(2, 1, 4, stride=2)})
    found = players(restorer(), critics)

    def judge(parts: Parts, sample: Sample, key: str) -> dict[str, Tensor]:
        pair = torch.cat([sample["degraded"], sample[key]], 1)
        features = critics["full"].body(pair)  # type: ignore[union-attr, operator]
        scores = critics["full"].score(features)  # type: ignore[union-attr, operator]
        return {
            "scores": scores,
            "scores_half": critics["small"](nn.functional.avg_pool2d(pair, 2)),
            "features": features,
        }

    form = FORMS["least_squares"]
    both = {
        "full": losses.Term(1.0, form.critic, of=SCORES),
        "half": losses.Term(1.0, form.critic, of=("real_scores_half", "fake_scores_half")),
    }
    terms = {
        "full": losses.Term(2.0, form.generator, of=SCORES),
        "half": losses.Term(2.0, form.generator, of=("real_scores_half", "fake_scores_half")),
        "features": losses.Term(10.0, pixel.l1, of=("fake_features", "real_features")),
    }
    before = state({"critic": critics})
    step = training.adversarial(
        adversarial.generator_step(losses.Objective(terms), CPU, judge=judge),
        adversarial.critic_step(losses.Objective(both), judge, CPU),
    )
    values = step(found, drawn(pool, 0), torch.Generator())
    assert {"critic_full", "critic_half", "features", "half", "real_score"} <= values.keys()
    total = values["critic_full"] + values["critic_half"]
    assert float(values["critic"]) == pytest.approx(float(total), rel=1e-6)
    after = state({"critic": critics})
    moved = {
        name.split("/")[2].split(".")[0] for name in after if not after[name].equal(before[name])
    }
    assert moved == {"full", "small"}


def test_a_cycle_of_two_generators_is_a_forward_of_its_own(pool: datasets.PatchPool) -> None:
    """The arrangement of CycleGAN and Deep Photo Enhancer; one of its two critics has a pool."""
    makers = nn.ModuleDict({"up": toner(), "down": toner()})
    critics = nn.ModuleDict({"up": image_critic(), "down": image_critic()})
    found: dict[str, Any] = {
        **players(makers, critics, TONES),
        "up_optimiser": training.optimiser(critics["up"].parameters(), TONES),
        "down_optimiser": training.optimiser(critics["down"].parameters(), TONES),
        "pool": adversarial.ImagePool(8),
    }

    def cycle(parts: Parts, sample: Sample, generator: torch.Generator) -> Sample:
        bright, dark = makers["up"](sample["degraded"]), makers["down"](sample["clean"])
        back, forth = makers["down"](bright), makers["up"](dark)
        return {"output": bright, "dark": dark, "back": back, "forth": forth}

    def brightened(parts: Parts, sample: Sample, generator: torch.Generator) -> Sample:
        return {"output": makers["up"](sample["degraded"])}

    def darkened(parts: Parts, sample: Sample, generator: torch.Generator) -> Sample:
        return {"clean": sample["degraded"], "output": makers["down"](sample["clean"])}

    def both(parts: Parts, sample: Sample, key: str) -> dict[str, Tensor]:
        return {"up": critics["up"](sample["output"]), "down": critics["down"](sample["dark"])}

    def up(parts: Parts, sample: Sample, key: str) -> Tensor:
        return critics["up"](sample[key])  # type: ignore[no-any-return]

    def down(parts: Parts, sample: Sample, key: str) -> Tensor:
        return critics["down"](sample[key])  # type: ignore[no-any-return]

    form = FORMS["least_squares"]
    terms = losses.Objective(
        {
            "up": losses.Term(1.0, form.generator, of=("fake_up", "fake_up")),
            "down": losses.Term(1.0, form.generator, of=("fake_down", "fake_down")),
            "cycle": losses.Term(10.0, pixel.l1, of=("back", "degraded")),
            "again": losses.Term(10.0, pixel.l1, of=("forth", "clean")),
        }
    )
    upward = adversarial.critic_step(
        form, up, CPU, forward=brightened, optimiser="up_optimiser", pool="pool"
    )
    downward = adversarial.critic_step(
        form, down, CPU, forward=darkened, optimiser="down_optimiser"
    )
    generator = adversarial.generator_step(
        terms, CPU, judge=both, forward=cycle, judged=("output",)
    )
    sample, before = drawn(pool, 0), state({"up": critics["up"], "down": critics["down"]})
    upward(found, sample, torch.Generator())
    middle = state({"up": critics["up"], "down": critics["down"]})
    downward(found, sample, torch.Generator())
    after = state({"up": critics["up"], "down": critics["down"]})
    assert {name[:3] for name in after if not middle[name].equal(before[name])} == {"/up"}
    assert {name[:3] for name in after if not after[name].equal(middle[name])} == {"/do"}
    assert len(found["pool"]) == 6
    values = generator(found, sample, torch.Generator())
    assert values.keys() == {"loss", "up", "down", "cycle", "again"}
    assert all(p.grad is not None for p in makers.parameters())


def test_the_critic_judges_pooled_fakes_with_their_own_source_and_present_real_ones(
    pool: datasets.PatchPool,
) -> None:
    found = players(toner(), games.Pairwise())
    found["pool"] = adversarial.ImagePool(6, keys=("degraded", "output"))
    views: dict[str, Sample] = {}

    def judge(parts: Parts, sample: Sample, key: str) -> adversarial.Verdict:
        views[key] = dict(sample)
        return PAIR(parts, sample, key)

    step = adversarial.critic_step(FORMS["least_squares"], judge, CPU, pool="pool")
    draws, old = torch.Generator().manual_seed(0), 0
    for index in range(8):
        sample = drawn(pool, index)
        tone = copy.deepcopy(found["generator"])
        values = step(found, sample, draws)
        assert views["clean"]["clean"].equal(sample["clean"])
        assert views["clean"]["degraded"].equal(sample["degraded"])
        shown = views["output"]
        now = (shown["degraded"] == sample["degraded"]).flatten(1).all(1)
        old += int((~now).sum())
        assert shown["output"].equal(tone(shown["degraded"]).detach()), "one belongs to the other"
        assert float(values["fake_score"]) != 0
    assert 10 < old < 32, "of 42 that came to the full pool, about half were earlier ones"


# Per-domain labels


def test_the_domain_loss_is_the_cross_entropy_of_what_is_known() -> None:
    logits = torch.tensor([[2.0, 0.0, -1.0], [0.5, 0.5, 3.0]], dtype=torch.float64)
    e = [[math.exp(v) for v in row] for row in logits.tolist()]
    first, second = -math.log(e[0][1] / sum(e[0])), -math.log(e[1][2] / sum(e[1]))
    one = adversarial.domain_loss(logits, torch.tensor([1, 2]))
    assert float(one) == pytest.approx((first + second) / 2, rel=1e-6)
    unknown = adversarial.domain_loss(logits, torch.tensor([1, -1]))
    assert float(unknown) == pytest.approx(first / 2, rel=1e-6)
    nan = float("nan")  # the second data set says nothing of the first two attributes
    several = adversarial.domain_loss(logits, torch.tensor([[1.0, 0.0, nan], [nan, nan, 1.0]]))
    parts = [-math.log(sigmoid(2.0)), -math.log(1 - 0.5), -math.log(sigmoid(3.0))]
    assert float(several) == pytest.approx(sum(parts) / 2, rel=1e-6)


def test_what_is_unknown_has_no_gradient_and_none_that_is_no_number() -> None:
    logits = torch.zeros(2, 2, requires_grad=True)
    adversarial.domain_loss(logits, torch.tensor([[1.0, math.nan], [math.nan, 0.0]])).backward()
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad, torch.tensor([[-0.25, 0.0], [0.0, 0.25]]))
    nothing = adversarial.domain_loss(torch.zeros(2, 2), torch.tensor([-1, -1]))
    assert float(nothing) == 0


@pytest.mark.parametrize(
    "domain", [torch.zeros(2, 3), torch.zeros(2, 2).long(), torch.zeros(3).long()]
)
def test_labels_that_do_not_fit_are_refused(domain: Tensor) -> None:
    with pytest.raises(ValueError, match=r"integers or .* floats for logits"):
        adversarial.domain_loss(torch.zeros(2, 2), domain)


class TwoHeads(nn.Module):
    """A critic that returns (scores, domain logits), as StarGAN's does."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 8, 3, stride=2), nn.LeakyReLU(0.2))
        self.score, self.domain = nn.Conv2d(8, 1, 7), nn.Linear(8, 2)

    def forward(self, picture: Tensor) -> tuple[Tensor, Tensor]:
        features = self.body(picture)
        return self.score(features), self.domain(features.mean((2, 3)))


class Switch(nn.Module):
    """A gain per domain asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.gains = nn.Parameter(torch.ones(2))

    def forward(self, picture: Tensor, target: Tensor) -> Tensor:
        return self.gains[target][:, None, None, None] * picture


def test_a_generator_learns_from_the_labels_of_a_two_headed_critic(
    tmp_path: Path, pool: datasets.PatchPool
) -> None:
    """Domain 0 is dark, domain 1 as it is: asked for 0 it must darken, asked for 1 brighten."""

    def batches(index: int, generator: torch.Generator) -> Sample:
        domain = torch.arange(32) % 2
        clean = pool.sample(32, generator) * torch.tensor([0.4, 1.0])[domain][:, None, None, None]
        target = domain[torch.randperm(32, generator=generator)]
        return {"clean": clean, "degraded": clean, "domain": domain, "target": target}

    torch.manual_seed(0)
    recipe = replace(TONES, steps=120)
    found = players(Switch(), TwoHeads(), recipe)
    form, label = FORMS["wasserstein"], adversarial.domain_loss
    critic = losses.Objective(
        {
            "adversarial": losses.Term(1.0, form.critic, of=SCORES),
            "domains": losses.Term(1.0, label, of=("real_logits", "domain")),
        }
    )
    generator = losses.Objective(
        {
            "adversarial": losses.Term(0.1, form.generator, of=SCORES),
            "domains": losses.Term(1.0, label, of=("fake_logits", "target")),
        }
    )
    inputs = ("degraded", "target")
    step = training.adversarial(
        adversarial.generator_step(generator, CPU, judge=IMAGE, inputs=inputs),
        adversarial.critic_step(critic, IMAGE, CPU, inputs=inputs, penalty=gradient_penalty),
        critic_updates=2,
    )
    run = SimpleNamespace(folder=tmp_path, runtime=CPU)
    history = training.fit(step, found, batches, recipe, run)
    # at first: chance, log 2, and what is dark half of the time stays so under either label
    assert history.values["critic_domains"][0] == pytest.approx(math.log(2), rel=0.15)
    assert history.values["critic_domains"][-1] < 0.75 * math.log(2)
    dark, bright = found["generator"].gains.tolist()
    assert dark < 0.8
    assert bright > 1.2


# Adaptive weight


@pytest.mark.parametrize(("start", "grows"), [(0.01, True), (1000.0, False)])
def test_the_weight_goes_where_the_slope_of_the_critic_sends_it(
    pool: datasets.PatchPool, start: float, grows: bool
) -> None:
    torch.manual_seed(2)
    found = players(toner(), image_critic(), TONES)
    found["balance"] = adversarial.AdaptiveWeight(start, window=5)
    seen: list[float] = []

    def measure(*given: Any) -> Tensor:
        slope = gradient_penalty(*given, target=0.0, power=1)
        seen.append(float(slope.detach()))
        return slope

    step = adversarial.critic_step(
        FORMS["wasserstein"],
        IMAGE,
        CPU,
        penalty=partial(gradient_penalty, one_sided=True, power=1),
        penalty_weight="balance",
        measure=measure,
    )
    draws, weight, window = torch.Generator().manual_seed(0), start, []
    for index in range(80):
        sample = drawn(pool, index, 16)
        dark = 0.5 * sample["degraded"]  # easily told from the clean one: the slope grows
        values = step(found, {**sample, "degraded": dark}, draws)
        assert values["balance"] == weight, "the weight that this step used"
        total = values["fake_score"] - values["real_score"] + weight * values["penalty"]
        assert float(values["critic"]) == pytest.approx(float(total), rel=1e-4, abs=1e-5)
        window.append(seen[-1])  # the paper's rule, written out
        if len(window) >= 5 and mean(window[-5:]) > 1.05:
            weight, window = weight * 2, []
        elif len(window) >= 5 and mean(window[-5:]) < 1.001:
            weight, window = weight / 2, []
    assert found["balance"].value == weight
    assert weight > start if grows else weight < start


def test_by_default_the_adaptive_weight_watches_the_penalty(pool: datasets.PatchPool) -> None:
    found = players(toner(), image_critic())
    found["balance"] = adversarial.AdaptiveWeight(1.0, low=0.0, high=0.05, window=1)
    step = adversarial.critic_step(
        FORMS["wasserstein"], IMAGE, CPU, penalty=gradient_penalty, penalty_weight="balance"
    )
    values = step(found, drawn(pool, 0), torch.Generator())
    assert float(values["penalty"]) > 0.05, "a fresh critic is flat"
    assert found["balance"].value == 2.0


# Killed, diverged, on two processes


def everything(found: Mapping[str, Any]) -> dict[str, Any]:
    numbers = {"balance": found["balance"].state_dict(), "pool": len(found["pool"])}
    return {**state(found), **numbers}


@pytest.mark.parametrize("seed", range(4))
def test_a_game_cut_at_any_moment_goes_on_with_the_same_bits(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    whole, cut = (SimpleNamespace(folder=tmp_path / name, runtime=CPU) for name in ("whole", "cut"))
    undisturbed = games.parts()
    history = games.train(whole, "game", undisturbed)
    for _ in range(2):  # twice, in front of some update: two thirds of them in the middle of a step
        calls = iter(range(rng.randrange(1, 40)))
        broken = games.parts()

        def fall(*_: object) -> None:
            if next(calls, None) is None:  # noqa: B023
                raise Interrupted

        for name in ("generator_optimiser", "critic_optimiser"):
            broken[name].register_step_pre_hook(fall)
        with contextlib.suppress(Interrupted):
            games.train(cut, "game", broken)
    again = games.parts()
    resumed = games.train(cut, "game", again)
    expected, found = everything(undisturbed), everything(again)
    tensors = {name for name, value in expected.items() if isinstance(value, Tensor)}
    assert equal({n: expected[n] for n in tensors}, {n: found[n] for n in tensors})
    assert any("pool" in name for name in tensors)
    assert {n: expected[n] for n in ("balance", "pool")} == {
        n: found[n] for n in ("balance", "pool")
    }
    assert len(set(history.values["balance"])) > 3, "the weight adapts in this game"
    assert resumed.values == history.values
    assert resumed.steps == history.steps


def test_a_game_that_is_killed_ends_with_the_bits_of_an_undisturbed_one(tmp_path: Path) -> None:
    command = f"{shlex.quote(sys.executable)} -m tests.games {{out}}"
    told = io.StringIO()
    with contextlib.redirect_stdout(told):
        code = soak.main(["--kills", "4", "--out", str(tmp_path), "--command", command])
    assert code == 0, told.getvalue()


def test_a_game_that_diverges_stops_and_keeps_its_last_good_checkpoint(
    tmp_path: Path, pool: datasets.PatchPool
) -> None:
    """Least squares with a rate far too high: the critic's scores grow until they overflow."""
    recipe = replace(SGD, steps=400, learning_rate=3.0, log_every=1, checkpoint_seconds=0.0)
    torch.manual_seed(0)
    found = players(toner(), image_critic(), recipe)
    run = SimpleNamespace(folder=tmp_path, runtime=CPU)

    def batches(index: int, generator: torch.Generator) -> Sample:
        return drawn(pool, index)

    with pytest.raises(TrainingError, match=r"stage 'main': .* at step \d+; .* is kept in"):
        training.fit(game("least_squares"), found, batches, recipe, run)
    kept = soak.read(tmp_path / "checkpoints" / "main.pt")
    assert 1 <= kept["index"] < 400
    assert all(value.isfinite().all() for value in soak.tensors(kept["parts"]).values())
    assert all(math.isfinite(v) for values in kept["history"]["values"].values() for v in values)


def shared(out: str) -> None:
    """What torchrun calls: a game whose means do not depend on the division, then the whole one."""
    rank, machine = runtime.rank(), runtime.Runtime(torch.device("cpu"), torch.get_num_threads())
    run = SimpleNamespace(folder=Path(out), runtime=machine)
    torch.manual_seed(rank)  # other weights in every process
    plain = games.parts(rank, norm=False)
    plain["generator"] = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 1, 1))
    plain["generator_optimiser"] = training.optimiser(plain["generator"].parameters(), games.RECIPE)
    step = training.adversarial(
        adversarial.generator_step(objective("least_squares"), machine, judge=PAIR, clip=0.1),
        adversarial.critic_step(FORMS["least_squares"], PAIR, machine, pool="pool", clip=0.1),
        critic_updates=2,
        fresh=True,
    )
    curves = training.fit(step, plain, games.BATCHES, games.RECIPE, run, stage="plain").values
    full = games.parts(rank)
    games.train(run, "full", full, replace(games.RECIPE, steps=8))
    full["critic"] = dict(full["critic"].named_parameters())  # moments are each process's own
    full = {"critic": full["critic"], **{n: full[n].state_dict() for n in ("pool", "balance")}}
    first = {n: plain[n].state_dict() for n in ("generator", "critic", "pool")}
    torch.save((first, full, curves), Path(out) / f"rank{rank}.pt")


def test_two_processes_play_the_game_of_one(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        folder.mkdir()
    shared(str(one))
    done = torchrun(two, 2, "tests.test_adversarial:shared")
    assert done.returncode == 0, done.stderr[-3000:]
    (alone, _, curves), first, second = (
        torch.load(path, weights_only=True)
        for path in (one / "rank0.pt", two / "rank0.pt", two / "rank1.pt")
    )
    expected = soak.tensors(alone)
    for kept in (first, second):
        found = soak.tensors(kept[0])
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, rtol=0, atol=1e-5)
    assert any("/pool/kept/5" in name for name in expected), "pictures of both processes"
    assert first[2] == second[2]
    for name, values in curves.items():
        assert first[2][name] == pytest.approx(values, rel=1e-3, abs=1e-5)
    # batch normalisation, penalty, adaptive weight: the two processes agree with each other
    assert equal(soak.tensors(first[1]), soak.tensors(second[1]))
    assert first[1]["balance"] == second[1]["balance"]
    assert first[1]["balance"]["value"] != 1.0


# Refused


def test_a_part_that_is_missing_or_of_another_kind_is_named(pool: datasets.PatchPool) -> None:
    found, sample = players(toner(), image_critic()), drawn(pool, 0)
    step = adversarial.generator_step(objective("hinge"), CPU, judge=IMAGE)
    with pytest.raises(ValueError, match=r"'critic' is NoneType; expected Module \(the parts"):
        step({n: part for n, part in found.items() if n != "critic"}, sample, torch.Generator())
    pooled = adversarial.critic_step(FORMS["hinge"], IMAGE, CPU, pool="critic")
    with pytest.raises(ValueError, match="part 'critic' is Sequential; expected ImagePool"):
        pooled(found, sample, torch.Generator())


def test_a_judge_that_returns_something_else_is_told_so(pool: datasets.PatchPool) -> None:
    wrong: Any = lambda *_: [torch.zeros(6)]  # noqa: E731
    step = adversarial.critic_step(FORMS["hinge"], wrong, CPU)
    with pytest.raises(ValueError, match="the judge returned list; expected a tensor of scores"):
        step(players(toner(), image_critic()), drawn(pool, 0), torch.Generator())


@pytest.mark.parametrize("clip", [-1.0, float("nan")])
def test_a_clip_that_makes_no_sense_is_refused(clip: float) -> None:
    with pytest.raises(ValueError, match=r"expected 0\.0 \(off\) or more"):
        adversarial.critic_step(FORMS["hinge"], IMAGE, CPU, clip=clip)
    with pytest.raises(ValueError, match=r"expected 0\.0 \(off\) or more"):
        adversarial.generator_step(MSE, CPU, clip=clip)
