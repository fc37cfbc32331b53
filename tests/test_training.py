"""The one loop: ready-made steps, checkpoints, exact resume, several processes."""

from __future__ import annotations

import contextlib
import io
import shlex
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from enhancelib import datasets, degradations, losses, models, runtime, training
from enhancelib.checkpoints import Keeper
from enhancelib.losses import pixel
from enhancelib.recipes import Recipe
from enhancelib.training import Parts, Sample, Step, TrainingError, Values
from tests import soak
from tests.arms import photo

CPU = runtime.Runtime(torch.device("cpu"), torch.get_num_threads())
RECIPE = Recipe(steps=12, batch=4, patch=16, log_every=1, checkpoint_seconds=0.0)
MSE = losses.Objective({"mse": losses.Term(1.0, pixel.mse)})
NOISE = degradations.GaussianNoise(25.0)


class Interrupted(Exception):
    """Stands for a kill inside this process."""


@pytest.fixture
def run(tmp_path: Path) -> Keeper:
    return SimpleNamespace(folder=tmp_path, runtime=CPU)


@pytest.fixture(scope="module")
def pool() -> datasets.PatchPool:
    return datasets.PatchPool([photo("camera"), photo("coins")], 16)


def denoiser(seed: int = 0, **options: Any) -> nn.Module:
    plain = {"D": 4, "width": 6, "norm": "none", **options}
    return models.build("dncnn", **plain, generator=runtime.generator(seed, "network"))


def parts(network: nn.Module, recipe: Recipe = RECIPE) -> dict[str, Any]:
    return {"network": network, "optimiser": training.optimiser(network.parameters(), recipe)}


def state(found: Mapping[str, Any]) -> dict[str, Tensor]:
    """Every tensor of every part, copied."""
    kept = {name: part.state_dict() for name, part in found.items()}
    return {name: tensor.clone() for name, tensor in soak.tensors(kept).items()}


def equal(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(soak.same(a[name], b[name]) for name in a)


def stopping(step: Step, at: int) -> Step:
    """The step, until the run is cut short in front of the at-th."""
    calls = iter(range(at))

    def cut(found: Parts, sample: Sample, generator: torch.Generator) -> Values:
        if next(calls, None) is None:
            raise Interrupted
        return step(found, sample, generator)

    return cut


def constant(values: Mapping[str, float]) -> Step:
    return lambda *_: values


def nothing(index: int, generator: torch.Generator) -> Sample:
    return {}


# Ready-made steps


def test_supervised_learns_to_denoise_real_photos(run: Keeper, pool: datasets.PatchPool) -> None:
    network = denoiser(output_scale=0.1)
    recipe = replace(RECIPE, steps=60, learning_rate=3e-3, log_every=10)
    history = training.fit(
        training.supervised(MSE, CPU),
        parts(network, recipe),
        datasets.synthetic(pool, NOISE, 8),
        recipe,
        run,
    )
    assert history.steps == {"loss": [10, 20, 30, 40, 50, 60], "mse": [10, 20, 30, 40, 50, 60]}
    # At first the network passes the noise through: (25/255)^2 = 0.0096. A third must be gone.
    assert history.values["loss"][0] == pytest.approx((25 / 255) ** 2, rel=0.2)
    assert history.values["loss"][-1] < 0.67 * history.values["loss"][0]


def test_a_stereo_network_takes_both_views_in_order(pool: datasets.PatchPool) -> None:
    class Stereo(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(()))

        def forward(self, left: Tensor, right: Tensor) -> Tensor:
            return self.weight * (2 * left + right)

    generator = torch.Generator().manual_seed(0)
    left, right = pool.sample(4, generator), pool.sample(4, generator)
    sample = {"left": left, "right": right, "clean": torch.zeros_like(left)}
    found = parts(Stereo())
    step = training.supervised(MSE, CPU, inputs=("left", "right"))
    values = step(found, sample, generator)
    assert values["loss"] == pytest.approx(float((2 * left + right).square().mean()), rel=1e-6)


def gradients(sub_batches: int, sample: Sample, norm: str = "none") -> dict[str, Tensor]:
    network = denoiser(norm=norm).double()
    step = training.supervised(MSE, CPU, sub_batches=sub_batches)
    values = step(parts(network, replace(RECIPE, learning_rate=1e-12)), sample, torch.Generator())
    found = {name: p.grad for name, p in network.named_parameters() if p.grad is not None}
    return {**found, "loss": torch.as_tensor(values["loss"])}


@pytest.fixture
def sample(pool: datasets.PatchPool) -> Sample:
    generator = torch.Generator().manual_seed(1)
    drawn = NOISE({"clean": pool.sample(8, generator)}, generator)
    return {name: value.double() for name, value in drawn.items()}


@pytest.mark.parametrize("pieces", [2, 4, 8])
def test_pieces_of_a_batch_have_the_gradient_of_the_whole(pieces: int, sample: Sample) -> None:
    whole, cut = gradients(1, sample), gradients(pieces, sample)
    for name, gradient in whole.items():
        # float64: only the order of the sums differs
        torch.testing.assert_close(cut[name], gradient, rtol=1e-12, atol=1e-15)


def test_batch_normalisation_sees_one_piece_at_a_time(sample: Sample) -> None:
    whole, cut = gradients(1, sample, "batch"), gradients(2, sample, "batch")
    assert any(not torch.allclose(whole[name], cut[name], rtol=1e-3) for name in whole)


def test_pieces_leave_no_item_over(sample: Sample) -> None:
    with pytest.raises(ValueError, match="'clean' has 8 items, which do not divide into 3 pieces"):
        gradients(3, sample)


def step_length(clip: float, sample: Sample) -> float:
    """How far plain SGD of rate 1 moves, which is the norm of the gradient it used."""
    network = denoiser().double()
    recipe = replace(RECIPE, optimiser="sgd", momentum=0.0, learning_rate=1.0)
    before = [p.detach().clone() for p in network.parameters()]
    training.supervised(MSE, CPU, clip=clip)(parts(network, recipe), sample, torch.Generator())
    moved = [p.detach() - b for p, b in zip(network.parameters(), before, strict=True)]
    return float(torch.cat([m.flatten() for m in moved]).norm())


def test_clipping_bounds_the_norm_of_the_whole_gradient_and_no_smaller_one(sample: Sample) -> None:
    free = step_length(0.0, sample)
    assert free > 0
    assert step_length(free / 2, sample) == pytest.approx(free / 2, rel=1e-5)
    assert step_length(free * 2, sample) == pytest.approx(free, rel=1e-9)


def test_clipping_does_not_outlive_its_step(sample: Sample) -> None:
    found = parts(denoiser().double())
    training.supervised(MSE, CPU, clip=1.0)(found, sample, torch.Generator())
    assert not found["optimiser"]._optimizer_step_pre_hooks


@pytest.mark.parametrize("wrong", [{"sub_batches": 0}, {"clip": -1.0}, {"clip": float("nan")}])
def test_a_step_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"expected 1 or more, and 0\.0"):
        training.supervised(MSE, CPU, **wrong)


def test_losses_of_a_bfloat16_forward_pass_are_float32(sample: Sample) -> None:
    seen = []

    def objective(s: Sample) -> tuple[Tensor, dict[str, Tensor]]:
        seen.append(s["output"])
        return s["output"].square().mean(), {}

    single = {name: value.float() for name, value in sample.items()}
    for precision in ("fp32", "bf16"):
        found = parts(denoiser(residual=False))  # its output is that of a convolution
        machine = replace(CPU, precision=precision)
        training.supervised(objective, machine)(found, single, torch.Generator())
    assert [output.dtype for output in seen] == [torch.float32, torch.float32]
    assert not seen[0].equal(seen[1]), "one of the two was computed with 8 bits of mantissa"


# Two networks


def critic() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 4, 3, stride=2), nn.LeakyReLU(0.2), nn.Conv2d(4, 1, 7))


def players() -> dict[str, Any]:
    torch.manual_seed(3)
    restorer, judge = denoiser(), critic()
    return {
        "generator": restorer,
        "critic": judge,
        "generator_optimiser": training.optimiser(restorer.parameters(), RECIPE),
        "critic_optimiser": training.optimiser(
            judge.parameters(), replace(RECIPE, betas=(0.5, 0.9))
        ),
    }


def judge_step(found: Parts, sample: Sample, generator: torch.Generator) -> Values:
    """One critic update of a Wasserstein game with a one-sided penalty on a random mixture."""
    judge, restorer = found["critic"], found["generator"]
    update = found["critic_optimiser"]
    assert isinstance(judge, nn.Module)
    assert isinstance(restorer, nn.Module)
    assert isinstance(update, torch.optim.Optimizer)
    with torch.no_grad():
        fake = restorer(sample["degraded"])
    share = torch.rand(len(fake), 1, 1, 1, generator=generator)
    mixed = (share * sample["clean"] + (1 - share) * fake).requires_grad_()
    (slope,) = torch.autograd.grad(judge(mixed).sum(), mixed, create_graph=True)
    penalty = (slope.flatten(1).norm(dim=1) - 1).relu().square().mean()
    loss = judge(fake).mean() - judge(sample["clean"]).mean() + 10 * penalty
    update.zero_grad()
    loss.backward()
    update.step()
    return {"critic": loss}


def generator_step(found: Parts, sample: Sample, generator: torch.Generator) -> Values:
    restorer, judge = found["generator"], found["critic"]
    update = found["generator_optimiser"]
    assert isinstance(judge, nn.Module)
    assert isinstance(restorer, nn.Module)
    assert isinstance(update, torch.optim.Optimizer)
    restored = restorer(sample["degraded"])
    loss = pixel.mse(restored, sample["clean"]) - 1e-3 * judge(restored).mean()
    update.zero_grad()
    loss.backward()
    update.step()
    return {"generator": loss.detach()}


GAME = training.adversarial(generator_step, judge_step, critic_updates=3)


def test_the_critic_moves_first_and_so_many_times() -> None:
    order: list[str] = []

    def note(name: str) -> Step:
        def step(*_: object) -> Values:
            order.append(name)
            return {name: float(len(order))}

        return step

    game = training.adversarial(note("generator"), note("critic"), critic_updates=3)
    values = game({}, {}, torch.Generator())
    assert order == ["critic", "critic", "critic", "generator"]
    assert values == {"critic": 3.0, "generator": 4.0}, "the critic's last"


@pytest.mark.parametrize("at", [1, 5, 11])
def test_a_game_of_two_networks_goes_on_with_the_same_bits(
    tmp_path: Path, pool: datasets.PatchPool, at: int
) -> None:
    batches = datasets.synthetic(pool, NOISE, 4)
    whole, cut = (SimpleNamespace(folder=tmp_path / name, runtime=CPU) for name in ("whole", "cut"))
    undisturbed = players()
    history = training.fit(GAME, undisturbed, batches, RECIPE, whole)
    with pytest.raises(Interrupted):
        training.fit(stopping(GAME, at), players(), batches, RECIPE, cut)
    again = players()
    resumed = training.fit(GAME, again, batches, RECIPE, cut)
    assert equal(state(undisturbed), state(again))
    assert len(state(again)) > 40, "both networks and both optimisers"
    assert resumed.values == history.values
    assert resumed.steps == history.steps


# The loop


def test_a_sample_depends_on_the_step_number_alone(tmp_path: Path) -> None:
    def drawn(cut_at: int, folder: str) -> list[tuple[int, float]]:
        seen = []

        def batches(index: int, generator: torch.Generator) -> Sample:
            seen.append((index, float(torch.rand((), generator=generator))))
            return {}

        run = SimpleNamespace(folder=tmp_path / folder, runtime=CPU)
        with contextlib.suppress(Interrupted):
            step = stopping(constant({"loss": 1.0}), cut_at)
            training.fit(step, {}, batches, RECIPE, run)
        training.fit(constant({"loss": 1.0}), {}, batches, RECIPE, run)
        return seen

    straight = drawn(99, "a")
    assert [index for index, _ in straight] == list(range(12))
    assert len({value for _, value in straight}) == 12
    for at in (3, 7):
        # the step in front of which the run was cut is drawn twice, the same both times
        assert drawn(at, f"b{at}") == [*straight[: at + 1], *straight[at:]]


def test_two_stages_see_different_samples(run: Keeper) -> None:
    seen = []

    def batches(index: int, generator: torch.Generator) -> Sample:
        seen.append(float(torch.rand((), generator=generator)))
        return {}

    for stage in ("one", "two"):
        training.fit(constant({"loss": 1.0}), {}, batches, RECIPE, run, stage=stage)
    assert len(set(seen)) == 24


def test_the_recipe_sets_the_rate_of_every_optimiser_at_every_step(run: Keeper) -> None:
    recipe = replace(RECIPE, schedule="milestones", milestones=(5,), learning_rate=1e-2)
    slow = nn.Parameter(torch.zeros(1))
    found = {
        "a": torch.optim.Adam([nn.Parameter(torch.zeros(1))], lr=123.0),
        "b": torch.optim.SGD([{"params": [slow], "rate_scale": 0.1}], lr=123.0),
    }
    rates = []

    def step(parts: Parts, *_: object) -> Values:
        rates.append(tuple(found[name].param_groups[0]["lr"] for name in "ab"))
        return {}

    training.fit(step, found, nothing, recipe, run)
    assert rates[4] == pytest.approx((1e-2, 1e-3))
    assert rates[5] == pytest.approx((1e-3, 1e-4))


def test_logged_values_are_means_over_their_window(run: Keeper) -> None:
    values = iter([1.0, 2.0, 6.0, 10.0, 20.0, 0.0, 5.0])
    recipe = replace(RECIPE, steps=7, log_every=3)
    step: Step = lambda *_: {"loss": torch.tensor(next(values), requires_grad=True)}  # noqa: E731
    history = training.fit(step, {}, nothing, recipe, run)
    assert history.steps["loss"] == [3, 6, 7]
    assert history.values["loss"] == [3.0, 10.0, 5.0]


def test_a_window_that_was_cut_is_averaged_whole_after_the_resume(tmp_path: Path) -> None:
    def losses_of(cut_at: int) -> list[float]:
        def step(parts: Parts, sample: Sample, generator: torch.Generator) -> Values:
            return {"loss": float(sample["index"])}

        def batches(index: int, generator: torch.Generator) -> Sample:
            return {"index": torch.tensor([index])}

        recipe = replace(RECIPE, log_every=4)
        run = SimpleNamespace(folder=tmp_path / str(cut_at), runtime=CPU)
        with contextlib.suppress(Interrupted):
            training.fit(stopping(step, cut_at), {}, batches, recipe, run)
        return training.fit(step, {}, batches, recipe, run).values["loss"]

    for at in range(13):
        assert losses_of(at) == [1.5, 5.5, 9.5], at


@pytest.mark.parametrize(("every", "expected"), [(0, [12]), (5, [5, 10, 12]), (4, [4, 8, 12])])
def test_watch_is_called_at_its_interval_and_at_the_end(
    run: Keeper, every: int, expected: list[int]
) -> None:
    recipe = replace(RECIPE, watch_every=every)
    step = constant({"loss": 1.0})
    history = training.fit(step, {}, nothing, recipe, run, watch=lambda done: {"psnr": 20.0 + done})
    assert history.steps["psnr"] == expected
    assert history.values["psnr"] == [20.0 + done for done in expected]


def test_a_finished_stage_is_loaded_and_not_trained_again(
    run: Keeper, pool: datasets.PatchPool
) -> None:
    batches, step = datasets.synthetic(pool, NOISE, 4), training.supervised(MSE, CPU)
    first, second = parts(denoiser(0)), parts(denoiser(1))
    history = training.fit(step, first, batches, RECIPE, run)
    again = training.fit(stopping(step, 0), second, batches, RECIPE, run)
    assert equal(state(first), state(second))
    assert again == history


def test_anything_with_a_state_is_kept(tmp_path: Path) -> None:
    class Lambda:
        """An adaptive weight, as the papers with a balance between two losses have it."""

        def __init__(self) -> None:
            self.value = 1.0

        def state_dict(self) -> dict[str, Any]:
            return {"value": self.value}

        def load_state_dict(self, state_dict: dict[str, Any], /) -> None:
            self.value = state_dict["value"]

    def step(found: Parts, *_: object) -> Values:
        balance = found["lambda"]
        assert isinstance(balance, Lambda)
        balance.value *= 1.1
        return {"lambda": balance.value}

    run = SimpleNamespace(folder=tmp_path, runtime=CPU)
    with pytest.raises(Interrupted):
        training.fit(stopping(step, 7), {"lambda": Lambda()}, nothing, RECIPE, run)
    balance = Lambda()
    training.fit(step, {"lambda": balance}, nothing, RECIPE, run)
    expected = 1.0
    for _ in range(12):
        expected *= 1.1
    assert balance.value == expected


def test_divergence_stops_with_a_sentence_and_keeps_the_last_checkpoint(
    run: Keeper, pool: datasets.PatchPool
) -> None:
    network = denoiser()
    plain = training.supervised(MSE, CPU)
    calls = iter(range(99))

    def step(found: Parts, sample: Sample, generator: torch.Generator) -> Values:
        if next(calls) == 6:
            sample = {**sample, "degraded": sample["degraded"] * float("inf")}
        return plain(found, sample, generator)

    batches = datasets.synthetic(pool, NOISE, 4)
    with pytest.raises(TrainingError, match=r"stage 'main': loss is nan at step 7.*kept in"):
        training.fit(step, parts(network), batches, RECIPE, run)
    kept = soak.read(run.folder / "checkpoints" / "main.pt")
    assert kept["index"] == 6
    assert all(t.isfinite().all() for t in soak.tensors(kept["parts"]).values())


def test_a_step_that_breaks_the_weights_under_a_finite_loss_is_not_kept(
    run: Keeper, pool: datasets.PatchPool
) -> None:
    recipe = replace(RECIPE, optimiser="sgd", learning_rate=1e38, steps=1)
    half_sse = losses.Objective({"half_sse": losses.Term(1e6, pixel.half_sse)})
    step, batches = training.supervised(half_sse, CPU), datasets.synthetic(pool, NOISE, 4)
    with pytest.raises(TrainingError, match="is not finite at step 1"):
        training.fit(step, parts(denoiser(), recipe), batches, recipe, run)
    assert not (run.folder / "checkpoints" / "main.pt").exists()


def test_other_threads_or_another_recipe_are_refused_before_a_step(run: Keeper) -> None:
    training.fit(constant({"loss": 1.0}), {}, nothing, RECIPE, run)
    other = SimpleNamespace(folder=run.folder, runtime=replace(CPU, threads=CPU.threads + 1))
    step = stopping(constant({}), 0)
    with pytest.raises(TrainingError, match=f"threads={CPU.threads}, this run has threads="):
        training.fit(step, {}, nothing, RECIPE, other)
    with pytest.raises(TrainingError, match="steps=12, this run has steps=13"):
        training.fit(step, {}, nothing, replace(RECIPE, steps=13), run)


def test_no_steps_leave_everything_as_it_is(run: Keeper) -> None:
    found = parts(denoiser())
    before = state(found)
    assert training.fit(constant({}), found, nothing, replace(RECIPE, steps=0), run).steps == {}
    assert equal(before, state(found))


# An end before the last step


class Counter:
    """A part that remembers how many steps there were."""

    def __init__(self) -> None:
        self.steps = 0

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps}

    def load_state_dict(self, state_dict: dict[str, Any], /) -> None:
        self.steps = state_dict["steps"]


def test_until_ends_a_training_as_its_last_step_would(run: Keeper) -> None:
    recipe = replace(RECIPE, log_every=4, checkpoint_seconds=99.0)
    counter, asked = Counter(), []

    def step(*_: object) -> Values:
        counter.steps += 1
        return {"loss": float(counter.steps)}

    def until(done: int, history: training.History) -> bool:
        asked.append((done, len(history.values.get("loss", ()))))
        return counter.steps >= 6

    options: dict[str, Any] = {"until": until, "watch": lambda done: {"seen": float(done)}}
    history = training.fit(step, {"counter": counter}, nothing, recipe, run, **options)
    assert asked == [(0, 0), (1, 0), (2, 0), (3, 0), (4, 0), (5, 1), (6, 1)]
    assert history.steps == {"loss": [4, 6], "seen": [6]}
    assert history.values["loss"] == [2.5, 5.5], "the window that was cut is logged"
    assert soak.read(run.folder / "checkpoints" / "main.pt")["index"] == 6
    counter = Counter()
    again = training.fit(step, {"counter": counter}, nothing, recipe, run, **options)
    assert (again, counter.steps) == (history, 6), "an ended training has nothing to add"


def test_until_that_is_never_true_changes_nothing(tmp_path: Path) -> None:
    found = [
        training.fit(
            constant({"loss": 1.0}), {}, nothing, RECIPE,
            SimpleNamespace(folder=tmp_path / name, runtime=CPU), until=until,
        )
        for name, until in (("a", None), ("b", lambda *_: False))
    ]  # fmt: skip
    assert found[0].values == found[1].values
    assert found[0].steps == found[1].steps


# Killed


def test_a_run_killed_ten_times_ends_with_the_bits_of_an_undisturbed_one(tmp_path: Path) -> None:
    # Real DnCNN arms in six stages (tests/arms.py); every start is a fresh process, every third
    # kill waits for a half-written checkpoint. The soak's own tests are in test_soak.py.
    command = f"{shlex.quote(sys.executable)} -m tests.arms {{out}}"
    told = io.StringIO()
    with contextlib.redirect_stdout(told):
        code = soak.main(["--kills", "10", "--out", str(tmp_path), "--command", command])
    assert code == 0, told.getvalue()


# The command


CALLED: list[dict[str, str]] = []


def called(**words: str) -> None:
    CALLED.append(words)


def test_the_command_calls_a_function_with_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    CALLED.clear()
    training.main(["tests.test_training:called", "steps=5", "out=a=b"])
    assert CALLED == [{"steps": "5", "out": "a=b"}]


@pytest.mark.parametrize(
    "words", [[], ["platform"], ["tests.test_training:called", "steps"], ["a:b", "=5"]]
)
def test_other_words_end_in_one_sentence(words: list[str]) -> None:
    with pytest.raises(SystemExit, match=r"expected package\.module:function key=value"):
        training.main(words)
