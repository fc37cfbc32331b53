"""Eq. 1 as one call: its two steps, its folder, its refusals before any work, its estimate."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import skimage.data
import torch
from torch import Tensor, nn

from enhancelib import capacity, images, runtime
from enhancelib import features as networks
from enhancelib.models.skip import SETTINGS
from enhancelib.papers.dilie import artistic, cfe, demands, framework, sfe
from enhancelib.papers.dilie.framework import Options, dilie, estimate
from enhancelib.papers.dilie.plans import Plan
from enhancelib.papers.dilie.restyling import Loss
from enhancelib.papers.dilie.settings import Parameters
from enhancelib.recipes import Recipe
from enhancelib.training import TrainingError

DATA: Any = skimage.data  # untyped
CAT = images.resize(images.from_array(DATA.chelsea()), size=(36, 48)).clamp(0, 1)
ROCKET = images.resize(images.from_array(DATA.rocket()), size=(33, 40)).clamp(0, 1)
LOSS = Loss(positions=256)
STYLE = Recipe(2, 1, 1, optimiser="lbfgs", learning_rate=1.0)
NOISE = Options(setting=SETTINGS["small"], plan=Plan(steps=3), loss=LOSS, recipe=STYLE)
HAZE = Options(lam=0.0, passes=1, plan=Plan(steps=2), loss=LOSS, recipe=STYLE)


def work(folder: Path) -> Any:
    return SimpleNamespace(folder=folder, runtime=runtime.setup("cpu"))


def test_without_style_it_is_the_first_step(tmp_path: Path) -> None:
    made = dilie(CAT, run=work(tmp_path / "a"), corruption="noise", options=NOISE)
    alone = cfe.denoise(
        CAT, run=work(tmp_path / "b"), setting=SETTINGS["small"], plan=Plan(steps=3)
    )
    assert torch.equal(made.E, alone.picture)
    assert torch.equal(made.content, made.E)
    assert made.S is None
    assert made.sfe is None
    assert list(made.steps()) == ["denoised $\\hat C$"]


def test_haze_is_taken_off_by_decomposition(tmp_path: Path) -> None:
    made = dilie(CAT, run=work(tmp_path / "a"), options=HAZE)
    alone = cfe.dehaze(CAT, run=work(tmp_path / "b"), passes=1, radius=4, plan=Plan(steps=2))
    assert torch.equal(made.content, alone.picture)
    steps = made.steps()
    assert torch.equal(steps["transmission $t$"], alone.layers["t"])
    assert torch.equal(steps["dehazed $\\hat C$"], made.E)
    given = dilie(CAT, run=work(tmp_path / "a"), options=replace(HAZE, airlight=torch.ones(3)))
    assert not torch.equal(given.E, made.E)


@pytest.mark.parametrize("style", ["photo", "art"])
def test_the_second_step_restyles_the_first(tmp_path: Path, features: Path, style: str) -> None:
    options = NOISE if style == "photo" else replace(NOISE, recipe=Recipe(2, 1, 1))
    given: Any = {"corruption": "noise", "style": style, "options": options}
    made = dilie(CAT, ROCKET, run=work(tmp_path / "a"), **given)
    assert made.E.shape == CAT.shape
    assert not torch.equal(made.E, made.content)
    if style == "photo":
        alone = sfe.photorealistic(
            made.content, ROCKET, work(tmp_path / "b"), loss=LOSS, recipe=STYLE
        )
    else:
        recipe = options.recipe
        assert recipe is not None
        alone = artistic.artistic(made.content, ROCKET, work(tmp_path / "b"), recipe=recipe)
    assert torch.equal(made.E, alone.E)


def test_lambda_counts(tmp_path: Path, features: Path) -> None:
    longer = replace(HAZE, plan=Plan(steps=4))  # J acts on t, and so on C^, a step later
    plain = dilie(CAT, run=work(tmp_path), options=longer)
    context = dilie(CAT, run=work(tmp_path), options=replace(longer, lam=10.0))
    assert not torch.equal(plain.E, context.E)


def test_the_seed_is_one_for_both_steps(tmp_path: Path, features: Path) -> None:
    other = replace(NOISE, plan=replace(NOISE.plan, prior=replace(NOISE.plan.prior, seed=7)))
    made = dilie(CAT, ROCKET, run=work(tmp_path), corruption="noise", options=other)
    first = dilie(CAT, ROCKET, run=work(tmp_path), corruption="noise", options=NOISE)
    assert not torch.equal(made.content, first.content)
    again = dilie(CAT, ROCKET, run=work(tmp_path), corruption="noise", options=other)
    assert torch.equal(made.E, again.E)


def test_another_photo_in_the_same_folder_begins_anew(tmp_path: Path) -> None:
    dilie(CAT, run=work(tmp_path / "a"), corruption="noise", options=NOISE)
    flipped = CAT.flip(2)
    made = dilie(flipped, run=work(tmp_path / "a"), corruption="noise", options=NOISE)
    fresh = dilie(flipped, run=work(tmp_path / "b"), corruption="noise", options=NOISE)
    assert torch.equal(made.E, fresh.E)


class Stopped(Exception):
    """Somebody pulled the plug."""


def test_what_was_cut_short_goes_on_to_the_same_bits(tmp_path: Path, features: Path) -> None:
    plan = replace(NOISE.plan, watch_every=1, checkpoint_seconds=0.0)
    whole = dilie(
        CAT, ROCKET, run=work(tmp_path / "a"), corruption="noise",
        options=replace(NOISE, plan=plan),
    )  # fmt: skip
    seen: list[Tensor] = []

    def show(step: int, sample: dict[str, Tensor]) -> None:
        seen.append(sample["output"])
        if len(seen) in (2, 5):  # once in the first step, once in the second
            raise Stopped

    stopping = replace(NOISE, plan=replace(plan, show=show))
    for _ in range(2):
        with pytest.raises(Stopped):
            dilie(CAT, ROCKET, run=work(tmp_path / "b"), corruption="noise", options=stopping)
    made = dilie(CAT, ROCKET, run=work(tmp_path / "b"), corruption="noise", options=stopping)
    assert torch.equal(made.E, whole.E)


def test_a_diverging_second_step_leaves_the_first_done(tmp_path: Path, features: Path) -> None:
    run = work(tmp_path)
    wild = replace(NOISE, recipe=Recipe(3, 1, 1, learning_rate=1e38))
    with pytest.raises(TrainingError, match=r"photo-\w+-free': \w+ is (nan|inf) at step"):
        dilie(CAT, ROCKET, run=run, corruption="noise", options=wild)
    (kept,) = (tmp_path / "checkpoints").glob("denoise-*.pt")
    before = kept.stat().st_mtime_ns
    made = dilie(CAT, ROCKET, run=run, corruption="noise", options=NOISE)
    assert kept.stat().st_mtime_ns == before
    assert made.E.isfinite().all()


# Refusals


@pytest.mark.parametrize(
    ("given", "options", "reason"),
    [
        ((CAT[:2],), {}, r"I is torch.float32 of shape \(2, 36, 48\); expected"),
        ((CAT[:1],), {}, r"I is .* of shape \(1, 36, 48\); expected"),
        ((CAT[:1], ROCKET), {"corruption": "noise"}, r"I is .* of shape \(1, 36, 48\)"),
        ((CAT * 255,), {}, "I reaches from .*; expected a picture"),
        ((CAT + float("nan"),), {}, "I holds values that are not finite"),
        ((CAT, ROCKET * 255), {}, r"S spans \[.*\]; expected"),
        ((CAT, ROCKET[:1]), {}, r"S has shape \(1, 33, 40\)"),
        ((CAT,), {"corruption": "rain"}, "corruption is 'rain', style 'photo'; expected haze"),
        ((CAT,), {"style": "sketch"}, "style 'sketch'; expected .* photo or art"),
        ((CAT[:, :32],), {}, "a photo of 48 x 32 pixels is too small; .* sides of 33 or more"),
        ((CAT[:, :32],), {"corruption": "noise"}, "a photo of 48 x 32 pixels is too small"),
        (
            (torch.zeros(3, 60, 900),),
            {},
            "a photo of 900 x 60 pixels, which is worked on at 450 x 30, is too small",
        ),
    ],
)
def test_refused_before_any_work(
    tmp_path: Path, given: tuple[Tensor, ...], options: dict[str, Any], reason: str
) -> None:
    for call in (dilie, estimate):
        with pytest.raises(ValueError, match=reason):
            call(*given, run=work(tmp_path), **options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("corruption", ["haze", "noise"])
def test_too_large_for_the_memory(tmp_path: Path, corruption: str) -> None:
    large = torch.zeros(1, 1, 1).expand(3, 10**5, 10**6)  # takes no memory itself
    for call in (dilie, estimate):
        with pytest.raises(capacity.MemoryTooSmall, match="a photo of 1000000 x 100000 pixels"):
            call(large, run=work(tmp_path), corruption=corruption)
    assert not list(tmp_path.iterdir())


class Seen(nn.Module):
    """VGG19 up to some layers, for a count of what it keeps."""

    def __init__(self, *layers: str) -> None:
        super().__init__()
        self.layers, self.network = layers, networks.load("vgg19", ceil=True)

    def forward(self, image: Tensor) -> Tensor:
        maps = self.network(image.requires_grad_(), self.layers)
        return torch.stack([one.sum() for one in maps.values()]).sum()


def test_the_memory_of_vgg19_is_what_its_maps_take(features: Path) -> None:
    for layers in (("relu1_2", "relu2_2", "relu3_2", "relu4_2"), ("relu1_1", "relu5_3")):
        kept = capacity.needed(Seen(*layers), (1, 3, 480, 640)) / (480 * 640)
        assert kept == pytest.approx(demands.VGG, rel=0.08)


def test_memory_of_haze_stops_growing_with_the_photo_where_it_is_halved() -> None:
    setting = SETTINGS["denoise"]
    below, above = (
        demands.content((600, long), "haze", setting, context=True) for long in (799, 801)
    )
    assert above < below / 2
    noisy = [demands.content((side, side), "noise", setting, context=False) for side in (100, 400)]
    assert 10 * noisy[0] < noisy[1]


# Time


def test_the_estimate_leaves_the_folder_alone_and_counts_all(
    tmp_path: Path, features: Path
) -> None:
    def told(steps: int, S: Tensor | None, **more: Any) -> float:
        options = replace(NOISE, plan=Plan(steps=steps), recipe=replace(STYLE, steps=steps))
        run = work(tmp_path)
        return estimate(CAT, S, run=run, corruption="noise", options=options, **more)

    few, many = told(10, None), told(1000, None)
    assert 20 < many / few < 500  # 100, on a machine that has other things to do
    assert told(1000, ROCKET) > many
    assert told(1000, ROCKET, style="art") > many
    assert not list(tmp_path.iterdir())


def test_two_passes_take_twice_as_long(tmp_path: Path) -> None:
    long = replace(HAZE, plan=Plan(steps=1000))
    one = estimate(CAT, run=work(tmp_path), options=long)
    two = estimate(CAT, run=work(tmp_path), options=replace(long, passes=2))
    assert 1 < two / one < 8  # a machine with other things to do


def test_what_a_run_chooses() -> None:
    haze = framework.options(Parameters(profile="large", lam=0.01, seed=5, beta=2.0))
    assert (haze.lam, haze.passes, haze.plan.steps, haze.plan.prior.seed) == (0.01, 2, 2000, 5)
    assert haze.plan.learning_rate == 1e-3
    assert (haze.loss.beta, haze.content_weight) == (2.0, 0.5)
    assert haze.recipe is not None
    assert haze.recipe.optimiser == "lbfgs"
    noise = framework.options(Parameters(profile="small", corruption="noise", style="art", steps=9))
    assert (noise.setting, noise.plan.steps) == (SETTINGS["small"], 9)
    assert noise.recipe is not None
    assert noise.recipe.optimiser == "rmsprop"
    assert noise.recipe.steps == 9
