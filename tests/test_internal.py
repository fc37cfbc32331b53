"""Optimising one picture: sources, averages, the best step, stopping, resume, memory and time.

    python -m tests.test_internal FOLDER

runs the stages that are killed in the last test.
"""

from __future__ import annotations

import contextlib
import io
import math
import shlex
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import skimage.data
import torch
from torch import Tensor, nn

from enhancelib import capacity, images, internal, runtime, stopping, variables
from enhancelib.checkpoints import Keeper, TrainingError
from enhancelib.internal import Found, Generated, Keep, Pixels, Pyramid
from enhancelib.losses import Objective, Term, pixel
from enhancelib.models.skip import Skip, noise_input
from enhancelib.recipes import Recipe
from enhancelib.results import Run
from tests import soak

CPU = runtime.Runtime(torch.device("cpu"), torch.get_num_threads())
RECIPE = Recipe(
    steps=12, batch=1, patch=40, learning_rate=0.01, log_every=1, checkpoint_seconds=0.0
)
FIT = Objective({"mse": Term(1.0, pixel.mse, ("output", "degraded"))})
AWAY = Objective({"mse": Term(-100.0, pixel.mse, ("output", "degraded"))})
CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU on this machine")


class Interrupted(Exception):
    """Stands for a kill inside this process."""


def photo(side: int = 40) -> Tensor:
    """The eye of the astronaut's left side, (1, 3, side, side)."""
    levels = torch.from_numpy(skimage.data.astronaut()[90 : 90 + side, 180 : 180 + side].copy())
    return images.from_uint8(levels.permute(2, 0, 1))[None]


def given(side: int = 40, sigma: float = 0.1) -> dict[str, Tensor]:
    noise = torch.randn((1, 3, side, side), generator=torch.Generator().manual_seed(9))
    return {"degraded": photo(side) + sigma * noise}


def prior(seed: int = 0, jitter: float = 1 / 30, side: int = 40) -> Generated:
    network = Skip(
        4, down=(8, 12), up=(8, 12), skip=(2, 2), generator=runtime.generator(seed, "network")
    )
    return Generated(network, noise_input(4, side, side, runtime.generator(seed, "z")), jitter)


def at(folder: Path) -> Keeper:
    return SimpleNamespace(folder=folder, runtime=CPU)


@pytest.fixture
def run(tmp_path: Path) -> Keeper:
    return at(tmp_path)


def psnr(sample: Mapping[str, Tensor]) -> float:
    error = float((sample["output"] - sample["degraded"]).square().mean())
    return -10 * math.log10(max(error, 1e-12))


def tensors(found: Found) -> dict[str, Tensor]:
    """All that a run hands back, flat."""
    kept = {"outputs": found.kept.outputs, "step": found.kept.step} if found.kept else {}
    state = {"o": found.outputs, "a": found.average or {}, "k": kept, "m": found.moments}
    curves = {n: torch.tensor(v, dtype=torch.float64) for n, v in found.history.values.items()}
    return {**soak.tensors(state), **curves, "steps": torch.tensor(found.steps)}


def equal(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(soak.same(a[name], b[name]) for name in a)


# A deep image prior


def test_an_untrained_network_draws_a_photo_and_its_average_is_better(run: Keeper) -> None:
    recipe = replace(RECIPE, steps=150, watch_every=50)
    seen: list[tuple[int, set[str]]] = []

    def watch(step: int, sample: Mapping[str, Tensor]) -> dict[str, float]:
        return {name: psnr({**sample, "output": sample[name]}) for name in ("output", "average")}

    found = internal.optimise(
        prior(), {"degraded": photo()}, FIT, recipe, run, stage="dip", average=0.9,
        show=lambda step, sample: seen.append((step, set(sample))), watch=watch,
    )  # fmt: skip
    assert found.steps == 150
    assert found.reason == "all 150 steps are done"
    assert seen == [(n, {"degraded", "output", "average"}) for n in (50, 100, 150)]
    curve = found.history.values["output"]
    assert curve[-1] > curve[0] + 1
    assert curve[-1] > 20, "the photo is recognised"
    assert found.average is not None
    assert psnr({"output": found.average["output"], **{"degraded": photo()}}) == pytest.approx(
        found.history.values["average"][-1], abs=1e-5
    )
    assert found.history.values["average"][-1] > curve[-1]
    assert found.history.steps["loss"] == list(range(1, 151))


def test_the_outputs_are_those_without_noise(run: Keeper) -> None:
    source = prior()
    found = internal.optimise(source, given(), FIT, RECIPE, run, stage="a")
    with torch.no_grad():
        assert found.outputs["output"].equal(source.network(source.z))
    assert not found.outputs["output"].requires_grad


# Noise


def test_noise_is_that_of_the_seed_the_stage_and_the_step(run: Keeper) -> None:
    seen: list[Tensor] = []

    class Watched(nn.Conv2d):
        def forward(self, x: Tensor) -> Tensor:
            if not x.is_meta:  # as which its memory is asked
                seen.append(x.detach().clone())
            return super().forward(x)

    z = 0.1 * torch.rand(1, 4, 40, 40)
    for stage, samples in (("a", ""), ("b", ""), ("c", "a")):
        source = Generated(Watched(4, 3, 1), z, jitter=0.25)
        internal.optimise(source, given(), FIT, RECIPE, run, stage=stage, samples=samples)
    with_noise = [x for x in seen if not x.equal(z)]
    assert len(seen) - len(with_noise) >= 3, "the clean calls at the end"
    a, b, c = (with_noise[k : k + 12] for k in (0, 12, 24))
    for index in range(12):
        n = torch.randn(z.shape, generator=runtime.generator(0, "a", index))
        torch.testing.assert_close(a[index], z + 0.25 * n, rtol=0, atol=1e-7)
        assert a[index].equal(c[index])
        assert not a[index].equal(b[index])


def test_held_noise_is_used_until_it_is_let_go() -> None:
    source = Generated(nn.Identity(), torch.zeros(1, 1, 8, 8), jitter=1.0)
    generator = torch.Generator().manual_seed(0)
    source.hold(generator)
    held = source(generator)["output"].clone()
    assert held.equal(source(generator)["output"])
    address = source._held.data_ptr() if source._held is not None else 0
    source.hold(generator)
    assert not held.equal(source(generator)["output"])
    assert source._held is not None
    assert source._held.data_ptr() == address, "a graph reads from where it read before"
    source.hold(None)
    assert not source(generator)["output"].equal(source(generator)["output"])
    assert source(None)["output"].count_nonzero() == 0


def test_all_parts_of_a_decomposition_draw_noise_of_their_own() -> None:
    class Layers(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            z = torch.zeros(1, 1, 4, 4)
            self.j, self.t = (Generated(nn.Identity(), z, jitter) for jitter in (1.0, 0.5))

        def forward(self, noise: torch.Generator | None) -> dict[str, Tensor]:
            return {"J": self.j(noise)["output"], "t": self.t(noise)["output"]}

    source = Layers()
    assert list(variables.generated(source)) == [source.j, source.t]
    made = source(torch.Generator().manual_seed(0))
    assert not made["J"].equal(2 * made["t"])


# Averages, the best step, the film


def followed(run: Keeper, recipe: Recipe = RECIPE, **options: Any) -> tuple[Found, list[Tensor]]:
    """A run, and what the loss saw at every step."""
    outputs: list[Tensor] = []
    found = internal.optimise(
        prior(), given(), FIT, replace(recipe, watch_every=1), run, stage="a",
        show=lambda _, sample: outputs.append(sample["output"]), **options,
    )  # fmt: skip
    return found, outputs


def test_the_average_weighs_by_the_power_of_its_decay_and_its_weights_sum_to_one(
    run: Keeper,
) -> None:
    found, outputs = followed(run, average=0.8)
    weights = [0.2 * 0.8 ** (12 - i) / (1 - 0.8**12) for i in range(1, 13)]
    assert sum(weights) == pytest.approx(1)
    expected = sum(w * x.double() for w, x in zip(weights, outputs, strict=True))
    assert found.average is not None
    torch.testing.assert_close(found.average["output"].double(), expected, rtol=0, atol=1e-6)
    assert followed(at(run.folder / "none"))[0].average is None


def test_the_best_of_every_third_step_and_the_last_is_kept(run: Keeper) -> None:
    scores: list[float] = []

    def score(sample: Mapping[str, Tensor]) -> float:
        scores.append(-abs(psnr(sample) - 10.2))  # best somewhere on the way
        return scores[-1]

    found, outputs = followed(run, replace(RECIPE, steps=13), keep=Keep(3, score))
    scored = [3, 6, 9, 12, 13]
    assert len(scores) == len(scored)
    best = scored[max(range(5), key=scores.__getitem__)]
    assert found.kept is not None
    assert (found.kept.step, found.kept.score) == (best, max(scores))
    assert found.kept.outputs["output"].equal(outputs[best - 1])


@pytest.mark.parametrize(
    ("film", "steps"),
    [(0, []), (1, [12]), (4, [3, 6, 9, 12]), (5, [3, 6, 9, 12]), (99, list(range(1, 13)))],
)
def test_moments_are_no_more_than_asked_and_evenly_spread(
    run: Keeper, film: int, steps: list[int]
) -> None:
    found, outputs = followed(run, moments=film)
    assert [step for step, _ in found.moments] == steps
    for step, pictures in found.moments:
        assert pictures["output"].dtype == torch.uint8
        assert pictures["output"].equal(images.to_uint8(outputs[step - 1])[0])


def test_a_step_that_does_not_divide_ends_the_film_all_the_same(run: Keeper) -> None:
    found, _ = followed(run, replace(RECIPE, steps=11), moments=4)
    assert [step for step, _ in found.moments] == [3, 6, 9, 11]


# Stopping


def test_a_loss_that_no_longer_falls_ends_the_run_and_a_new_start_adds_nothing(
    run: Keeper,
) -> None:
    # Adam at a rate of 0.01 needs some 50 steps for 0.5 and then stands still
    recipe = replace(RECIPE, steps=2000, log_every=7)
    rule = internal.Smoothed(window=20, patience=2, tolerance=0.05)
    target = {"degraded": torch.full((1, 3, 8, 8), 0.5)}

    def optimised() -> Found:
        source = Pixels(torch.zeros(1, 3, 8, 8))
        return internal.optimise(source, target, FIT, recipe, run, stage="a", stopping=rule)

    found = optimised()
    assert 60 <= found.steps < 600
    assert found.steps % 20 == 0
    assert found.reason == (
        "the loss, averaged over 20 steps, has not fallen by 0.05 of itself in 2 such windows"
    )
    assert found.history.steps["loss"][-1] == found.steps
    again = optimised()
    assert equal(tensors(found), tensors(again))
    assert again.reason == found.reason


def test_a_loss_that_falls_goes_on(run: Keeper) -> None:
    rule = internal.Smoothed(window=3, patience=1, tolerance=0.0)
    source, target = Pixels(torch.zeros(1, 3, 8, 8)), {"degraded": torch.ones(1, 3, 8, 8)}
    found = internal.optimise(source, target, FIT, RECIPE, run, stage="a", stopping=rule)
    assert (found.steps, found.reason) == (12, "all 12 steps are done")


@pytest.mark.parametrize(
    ("losses", "ended"),
    [
        ([1.0, 0.95, 0.95], False),  # two windows have waited
        ([1.0, 0.95, 0.92, 0.91], True),
        ([1.0, 0.95, 0.89, 0.85, 0.82], False),  # the third one falls, and two wait from there
        ([1.0, 0.95, 0.89, 0.85, 0.82, 0.81], True),
        ([-1.0, -1.2, -1.4, -1.6], False),
        ([-1.0, -1.05, -1.05, -1.05], True),
        ([0.0, 0.0, 0.0, 0.0], True),
    ],
)
def test_waiting_begins_again_at_every_fall(losses: list[float], ended: bool) -> None:
    watch = stopping.Smoothed(window=1, patience=3, tolerance=0.1).begin(nn.Identity())
    for step, loss in enumerate(losses, 1):
        watch.see(step, torch.tensor(loss), {})
    assert bool(watch.ended) == ended


def jolt(index: int) -> Objective:
    """At one step the loss is another, whose gradient throws the picture far away."""
    if index != 5:
        return FIT
    return Objective({"jolt": Term(-1e4, pixel.mse, ("output", "degraded"))})


def test_a_broken_fit_goes_back_to_the_parameters_of_the_last_check(run: Keeper) -> None:
    recipe = replace(RECIPE, optimiser="sgd", momentum=0.0, learning_rate=100.0)
    begin = Pixels(torch.zeros(1, 3, 40, 40))
    shown: list[Tensor] = []

    def optimised(stage: str, rule: stopping.Stopping) -> Found:
        return internal.optimise(
            begin, given(), jolt, replace(recipe, watch_every=1), run, stage=stage, average=0.5,
            stopping=rule, show=lambda _, sample: shown.append(sample["output"]),
        )  # fmt: skip

    found = optimised("a", internal.Backtracking(drop=5.0))
    assert found.reason.startswith("all 12 steps are done; 1 times the fit broke")
    values = [psnr({"output": output, **given()}) for output in shown]
    assert values[6] < values[5] - 5, "step 7 shows what step 6 has done"
    assert shown[7].equal(shown[5]), "step 8 begins where step 6 began"
    assert values[-1] > values[5]
    assert 7 not in found.history.steps["mse"], "a step that is left out is not logged"
    begin = Pixels(torch.zeros(1, 3, 40, 40))
    broken = optimised("b", internal.Fixed())
    assert psnr({**broken.outputs, **given()}) < 0


def test_a_small_fall_is_let_be(run: Keeper) -> None:
    source = nn.Linear(1, 1)
    watch = internal.Backtracking(drop=5.0, every=2).begin(source)
    target = torch.zeros(100)

    def check(step: int, decibels: float) -> bool:
        output = torch.full((100,), 10 ** (-decibels / 20))
        return watch.see(step, torch.zeros(()), {"output": output, "degraded": target})

    assert not check(2, 20.0)
    assert not check(3, 1.0), "between two checks nothing is looked at"
    before = source.weight.detach().clone()
    with torch.no_grad():
        source.weight += 1
    assert not check(4, 15.1)  # 4.9 dB
    assert not check(6, 10.2)  # 4.9 dB again, from the new mark
    after = source.weight.detach().clone()
    assert not after.equal(before)
    with torch.no_grad():
        source.weight += 1
    assert check(8, 5.1)  # 5.1 dB
    assert source.weight.equal(after)
    assert watch.returns == 1


# Objectives that change


def test_the_objective_may_depend_on_the_step_and_goes_on_after_a_cut(tmp_path: Path) -> None:
    def asked(cut: int, folder: str) -> list[int]:
        indices: list[int] = []

        def objective(index: int) -> Objective:
            indices.append(index)
            if len(indices) == cut:
                raise Interrupted
            return FIT

        for _ in range(2):
            with contextlib.suppress(Interrupted):
                internal.optimise(
                    prior(), given(), objective, RECIPE, at(tmp_path / folder), stage="a"
                )
        return indices

    assert asked(99, "a") == list(range(12)), "a finished stage is not optimised again"
    assert asked(5, "b") == [*range(5), *range(4, 12)]


# Optimisers


def quadratic(side: int = 6) -> tuple[Objective, dict[str, Tensor]]:
    """A badly scaled bowl, whose minimum is `degraded`."""
    scale = torch.logspace(0, 3, side * side, dtype=torch.float64).reshape(1, 1, side, side)
    target = torch.rand(scale.shape, dtype=torch.float64, generator=runtime.generator(0, "bowl"))

    def bowl(x: Tensor, y: Tensor) -> Tensor:
        return (scale * (x - y).square()).sum()

    return Objective({"bowl": Term(1.0, bowl, ("output", "degraded"))}), {"degraded": target}


def test_lbfgs_takes_the_steps_that_torch_takes_in_one_call_and_half_the_evaluations(
    run: Keeper,
) -> None:
    objective, target = quadratic()
    calls = [0, 0]

    def counted(sample: dict[str, Tensor]) -> tuple[Tensor, Mapping[str, Tensor]]:
        calls[0] += 1
        return objective(sample)

    recipe = replace(RECIPE, optimiser="lbfgs", learning_rate=1.0, steps=15)
    source = Pixels(torch.zeros_like(target["degraded"]))
    found = internal.optimise(source, target, lambda _: counted, recipe, run, stage="a")

    x = torch.zeros_like(target["degraded"], requires_grad=True)
    plain = torch.optim.LBFGS(
        [x], lr=1.0, max_iter=15, max_eval=999, history_size=10, tolerance_grad=0.0,
        tolerance_change=0.0, line_search_fn="strong_wolfe",
    )  # fmt: skip

    def closure() -> Tensor:
        calls[1] += 1
        plain.zero_grad()
        total, _ = objective({"output": x, **target})
        total.backward()  # type: ignore[no-untyped-call]
        return total

    plain.step(closure)  # type: ignore[arg-type]
    torch.testing.assert_close(found.outputs["output"], x.detach(), rtol=1e-12, atol=1e-12)
    assert calls[0] <= calls[1] + 15 // 3, "nearly nothing is evaluated twice"
    assert found.history.values["loss"][-1] < 1e-2 * found.history.values["loss"][0]


@pytest.mark.parametrize("optimiser", ["adam", "rmsprop", "sgd", "lbfgs"])
def test_every_optimiser_takes_its_first_step_as_torch_does(run: Keeper, optimiser: str) -> None:
    target = given(8)
    recipe = replace(
        RECIPE, optimiser=optimiser, steps=1, learning_rate=0.5 if optimiser == "lbfgs" else 1e-2
    )
    source = Pixels(torch.zeros(1, 3, 8, 8))
    found = internal.optimise(source, target, FIT, recipe, run, stage=optimiser)
    gradient = -2 * target["degraded"] / target["degraded"].numel()
    if optimiser == "lbfgs":
        assert found.history.values["loss"][0] > float(
            (found.outputs["output"] - target["degraded"]).square().mean()
        )
        return
    expected = {
        "sgd": 1e-2 * gradient,
        "adam": 1e-2 * gradient / (gradient.abs() + 1e-8),
        "rmsprop": 1e-2 * gradient / ((0.01 * gradient.square()).sqrt() + 1e-8),
    }[optimiser]
    torch.testing.assert_close(found.outputs["output"], -expected, rtol=1e-4, atol=1e-9)


def test_lbfgs_moves_a_whole_network_under_noise(run: Keeper) -> None:
    recipe = replace(RECIPE, optimiser="lbfgs", learning_rate=1.0, steps=8)
    found = internal.optimise(prior(), given(), FIT, recipe, run, stage="a")
    values = found.history.values["loss"]
    assert values[-1] < 0.8 * values[0]


# Exact resume


def source_of(kind: str) -> nn.Module:
    if kind == "skip":
        return prior()
    if kind == "pyramid":
        return Pyramid(0.5 * photo(), levels=3)
    return Pixels(torch.full((1, 3, 40, 40), 0.5))


ARMS: dict[str, tuple[str, Recipe, stopping.Stopping]] = {
    "skip-adam": (
        "skip",
        RECIPE,
        internal.Backtracking(drop=0.01),
    ),
    "skip-lbfgs": ("skip", replace(RECIPE, optimiser="lbfgs", learning_rate=1.0), internal.Fixed()),
    "pyramid-rmsprop": (
        "pyramid",
        replace(RECIPE, optimiser="rmsprop"),
        internal.Smoothed(window=2, patience=2, tolerance=0.9),
    ),
    "pixels-lbfgs": (
        "pixels",
        replace(RECIPE, optimiser="lbfgs", learning_rate=1.0),
        internal.Smoothed(window=4, patience=2, tolerance=0.0),
    ),
}


def arm(name: str, run: Keeper, *, stop: Callable[[int], None] = lambda _: None) -> Found:
    """One arm with all that can be remembered."""
    kind, recipe, rule = ARMS[name]

    def objective(index: int) -> Objective:
        stop(index)
        up = name == "skip-adam" and index % 6 == 5  # so that it has to go back
        return AWAY if up else FIT

    return internal.optimise(
        source_of(kind), given(), objective, replace(recipe, watch_every=5), run, stage=name,
        average=0.9, keep=Keep(2, psnr), stopping=rule, moments=4,
        watch=lambda _, sample: {"psnr": psnr(sample)},
    )  # fmt: skip


@pytest.mark.parametrize("name", ARMS)
@pytest.mark.parametrize("cut", [1, 4, 7])
def test_a_run_that_was_cut_hands_back_the_same_bits(tmp_path: Path, name: str, cut: int) -> None:
    whole = arm(name, at(tmp_path / "whole"))

    def stop(index: int) -> None:
        if index == cut:
            raise Interrupted

    with pytest.raises(Interrupted):
        arm(name, at(tmp_path / "cut"), stop=stop)
    again = arm(name, at(tmp_path / "cut"))
    assert equal(tensors(whole), tensors(again))
    assert len(tensors(whole)) > 8
    assert (again.reason, again.history.steps) == (whole.reason, whole.history.steps)
    assert whole.kept is not None
    assert again.kept is not None
    assert again.kept.score == whole.kept.score


def test_arms_do_what_they_are_here_for(tmp_path: Path) -> None:
    found = {name: arm(name, at(tmp_path)) for name in ARMS}
    assert "put back" in found["skip-adam"].reason
    assert 6 <= found["pyramid-rmsprop"].steps < 12, "ended early"


def test_a_run_killed_at_random_moments_ends_with_the_bits_of_an_undisturbed_one(
    tmp_path: Path,
) -> None:
    # SIGKILL to processes of their own; the soak compares every tensor of every checkpoint, where
    # averages, the best step, the film and the rules are, and the values recorded at the end
    command = f"{shlex.quote(sys.executable)} -m tests.test_internal {{out}}"
    told = io.StringIO()
    with contextlib.redirect_stdout(told):
        code = soak.main(["--kills", "3", "--out", str(tmp_path), "--command", command])
    assert code == 0, told.getvalue()


def main(folder: str) -> None:
    """All arms, longer and slower, so that a kill can meet each; their results become values."""
    run = Run("internal", "smoke", {"seed": 0}, Path(folder), runtime.setup("cpu"))
    later: stopping.Stopping = internal.Smoothed(window=2, patience=30, tolerance=0.9)
    for name, (kind, recipe, rule) in list(ARMS.items()):
        rules = {"pyramid-rmsprop": later}
        ARMS[name] = (kind, replace(recipe, steps=60, log_every=3), rules.get(name, rule))
        found = arm(name, run, stop=lambda _: time.sleep(0.02))
        flat = tensors(found)
        for key in sorted(flat):
            value = float(flat[key].double().sum())
            run.record(dataset="photo", method=name, metric=key, value=value)
    run.finish()


# Divergence


def test_divergence_ends_in_a_sentence_and_the_last_good_state_returns(run: Keeper) -> None:
    source = prior()
    good: list[dict[str, Tensor]] = []

    def objective(index: int) -> Objective:
        if index == 6:
            good.append({n: t.clone() for n, t in source.state_dict().items()})
            return Objective({"nan": Term(1.0, broken)})
        return FIT

    def broken(output: Tensor, clean: Tensor) -> Tensor:
        return (output * math.nan).sum()

    sample = {**given(), "clean": photo()}
    with pytest.raises(TrainingError, match=r"stage 'a': .* is nan at step 7.*is kept in"):
        internal.optimise(source, sample, objective, RECIPE, run, stage="a", moments=12)
    assert equal(good[0], source.state_dict())
    kept = soak.read(run.folder / "checkpoints" / "a.pt")
    assert kept["index"] == 6
    assert all(t.isfinite().all() for t in soak.tensors(kept["parts"]).values())
    assert source._held is None, "its noise is let go"


def test_without_a_checkpoint_the_start_returns(run: Keeper) -> None:
    source = prior()
    start = {n: t.clone() for n, t in source.state_dict().items()}
    recipe = replace(RECIPE, checkpoint_seconds=99.0)
    bad = {"degraded": torch.full((1, 3, 40, 40), math.nan)}
    with pytest.raises(TrainingError, match="loss is nan at step 1"):
        internal.optimise(source, bad, FIT, recipe, run, stage="a")
    assert equal(start, source.state_dict())


# Sources


@pytest.mark.parametrize("size", [(37, 50), (64, 64), (5, 3)])
@pytest.mark.parametrize("levels", [1, 3, 5])
def test_a_pyramid_adds_up_to_its_picture(size: tuple[int, int], levels: int) -> None:
    picture = photo(64)[..., : size[0], : size[1]].double()
    pyramid = Pyramid(picture, levels)
    torch.testing.assert_close(pyramid.image(), picture, rtol=0, atol=1e-12)
    assert len(pyramid.levels) == levels + 1
    height, width = size
    for level in pyramid.levels:
        assert level.shape[2:] == (height, width)
        height, width = max(1, height // 2), max(1, width // 2)


def test_a_pyramids_levels_are_differences_to_the_enlarged_half() -> None:
    # bilinear by hand: halving averages 2 x 2; enlarging takes 3/4 and 1/4, edges repeat
    picture = photo(16).double()[:, :1]
    x = picture[0, 0]
    half = torch.zeros(8, 8, dtype=torch.float64)
    for i in range(8):
        for j in range(8):
            half[i, j] = x[2 * i : 2 * i + 2, 2 * j : 2 * j + 2].mean()
    expected = x.clone()
    for i in range(16):
        for j in range(16):
            for di, wi in ((0, 0.75), (1 if i % 2 else -1, 0.25)):
                for dj, wj in ((0, 0.75), (1 if j % 2 else -1, 0.25)):
                    a, b = (min(max(k // 2 + d, 0), 7) for k, d in ((i, di), (j, dj)))
                    expected[i, j] -= wi * wj * half[a, b]
    torch.testing.assert_close(Pyramid(picture, 1).levels[0][0, 0], expected, atol=1e-12, rtol=0)


def test_a_step_in_the_coarsest_level_moves_the_whole_picture() -> None:
    pyramid = Pyramid(torch.zeros(1, 1, 32, 32), levels=3)
    pyramid(None)["output"].sum().backward()
    sums = [float(level.grad.sum()) for level in pyramid.levels if level.grad is not None]
    assert sums == pytest.approx([32 * 32] * 4)


def test_the_callers_picture_is_left_alone(run: Keeper) -> None:
    begin = torch.zeros(1, 3, 8, 8)
    for source in (Pixels(begin), Pyramid(begin, 2)):
        name = type(source).__name__
        found = internal.optimise(source, given(8), FIT, RECIPE, run, stage=name)
        assert begin.count_nonzero() == 0
        torch.testing.assert_close(found.outputs["output"], source.image())
        assert source.image().count_nonzero() > 0


@pytest.mark.parametrize("jitter", [-1.0, math.nan, math.inf])
def test_a_spread_that_is_none_is_refused(jitter: float) -> None:
    with pytest.raises(ValueError, match=r"expected 0\.0"):
        Generated(nn.Identity(), torch.zeros(1, 1, 2, 2), jitter)


@pytest.mark.parametrize("wrong", [{"average": 1.0}, {"average": -0.1}, {"moments": -1}])
def test_what_cannot_be_remembered_is_refused(run: Keeper, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"average is .*; expected \[0, 1\), and 0 or more"):
        internal.optimise(prior(), given(), FIT, RECIPE, run, stage="a", **wrong)


# Memory and time


def test_what_is_needed_is_what_the_backward_pass_keeps() -> None:
    network = Skip(4, down=(8, 12), up=(8, 12), skip=(2, 2))
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        network(torch.rand(1, 4, 96, 80))
    pointers = {p.untyped_storage().data_ptr() for p in network.parameters()}
    maps = sum(t.untyped_storage().nbytes() for k, t in kept.items() if k not in pointers)
    needed = capacity.needed(network, (1, 4, 96, 80))
    sizes = sum(4 * p.numel() for p in network.parameters())
    assert needed == pytest.approx(1.5 * maps + 4 * sizes, rel=0.02)


def test_a_photo_too_large_is_refused_before_a_step(run: Keeper) -> None:
    source = prior(side=40)
    source.z = source.z[:, :, :1, :1].expand(1, 4, 10**6, 10**6)  # takes no memory itself
    with pytest.raises(internal.MemoryTooSmall, match=r"1000000 x 1000000 pixels needs about .*GB"):
        internal.optimise(source, given(), FIT, RECIPE, run, stage="a")
    assert not (run.folder / "checkpoints").exists()


def test_memory_at_hand_is_a_number_of_bytes_of_this_machine() -> None:
    free = capacity.available(torch.device("cpu"))
    assert 2**24 < free < 2**50
    internal.insist_memory(1, torch.device("cpu"))


def test_an_estimate_leaves_everything_as_it_is() -> None:
    class Counting(nn.Sequential):
        pass

    torch.manual_seed(0)
    network = Counting(nn.Conv2d(4, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Conv2d(8, 3, 1))
    source = Generated(network, torch.rand(1, 4, 40, 40), 0.1)
    before = {n: t.clone() for n, t in source.state_dict().items()}
    seconds = internal.estimate(source, given(), FIT, replace(RECIPE, steps=1000), CPU)
    assert equal(before, source.state_dict())
    assert all(p.grad is None for p in source.parameters())
    assert 0.05 < seconds < 600
    per_step = internal.seconds_per_step(source, given(), lambda _: FIT, CPU, rounds=3)
    assert 0 < per_step < 1


# Precision and graphs


def test_losses_of_a_bfloat16_network_are_float32(tmp_path: Path) -> None:
    seen: list[torch.dtype] = []

    def mse(x: Tensor, y: Tensor) -> Tensor:
        seen.append(x.dtype)
        return pixel.mse(x, y)

    objective = Objective({"mse": Term(1.0, mse, ("output", "degraded"))})
    found = {}
    for precision in ("fp32", "bf16"):
        place = SimpleNamespace(
            folder=tmp_path / precision, runtime=replace(CPU, precision=precision)
        )
        found[precision] = internal.optimise(prior(), given(), objective, RECIPE, place, stage="a")
    assert set(seen) == {torch.float32}
    a, b = (found[name].outputs["output"] for name in ("fp32", "bf16"))
    assert a.dtype == b.dtype == torch.float32
    assert not a.equal(b)
    assert float((a - b).abs().mean()) < 0.05


def test_without_a_gpu_graphs_change_no_bit(tmp_path: Path) -> None:
    found = [
        internal.optimise(
            prior(), given(), FIT, RECIPE, at(tmp_path / str(graph)), stage="a", graph=graph
        )
        for graph in (True, False)
    ]
    assert equal(tensors(found[0]), tensors(found[1]))


@CUDA
@pytest.mark.parametrize("optimiser", ["adam", "lbfgs"])
def test_graphs_and_eager_steps_agree(tmp_path: Path, optimiser: str) -> None:
    machine = runtime.setup("cuda")
    recipe = replace(RECIPE, optimiser=optimiser, learning_rate=1e-3, watch_every=1)
    found = []
    for graph in (True, False):
        place = SimpleNamespace(folder=tmp_path / str(graph), runtime=machine)
        found.append(
            internal.optimise(
                prior(),
                given(),
                FIT,
                recipe,
                place,
                stage="a",
                average=0.9,
                graph=graph,
                watch=lambda _, sample: {"psnr": psnr(sample)},
            )
        )
    for name, values in found[0].history.values.items():
        assert values == pytest.approx(found[1].history.values[name], rel=2e-3), name
    a, b = (one.average or {} for one in found)
    torch.testing.assert_close(a["output"], b["output"], rtol=0, atol=2e-3)


@CUDA
def test_a_loss_that_cannot_be_captured_runs_eagerly(tmp_path: Path) -> None:
    def asking(x: Tensor, y: Tensor) -> Tensor:
        return pixel.mse(x, y) * (1.0 if float(x.detach().mean()) < 2 else 2.0)

    objective = Objective({"mse": Term(1.0, asking, ("output", "degraded"))})
    place = SimpleNamespace(folder=tmp_path, runtime=runtime.setup("cuda"))
    found = internal.optimise(prior(), given(), objective, RECIPE, place, stage="a", graph="auto")
    assert found.steps == 12


if __name__ == "__main__":
    main(sys.argv[1])
