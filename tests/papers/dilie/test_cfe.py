"""CFE as a whole: passes, airlight modes, best step, settings, resume, and what is refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import skimage.data
import torch
from torch import Tensor

from enhancelib import features as networks
from enhancelib import filters, runtime
from enhancelib.checkpoints import Keeper
from enhancelib.images import from_array, resize
from enhancelib.internal import Smoothed
from enhancelib.models.skip import SETTINGS
from enhancelib.papers.dilie import cfe
from enhancelib.papers.dilie.cfe import Plan, Prior
from enhancelib.papers.dilie.transforms import kept_at_random, lanczos2, without_box

CAT = from_array(skimage.data.chelsea())[:, 60:124, 100:164].clone()
AIR = torch.tensor([0.80, 0.82, 0.85])
NINE = (
    *("denoise", "jpeg", "restore_kate", "restore_barbara", "super4", "super8"),
    *("inpaint_vase", "inpaint_kate", "inpaint_library"),
)


def hazed(clear: Tensor) -> tuple[Tensor, Tensor]:
    """The photo in haze that is thick at its top, and the transmission."""
    depth = torch.linspace(1, 0.15, clear.shape[1]).view(1, -1, 1).expand(1, *clear.shape[1:])
    t = torch.exp(-1.4 * depth)
    return clear * t + AIR.view(3, 1, 1) * (1 - t), t


HAZY = hazed(CAT[:, :40, :48])[0]


@pytest.fixture
def run(tmp_path: Path) -> Keeper:
    return SimpleNamespace(folder=tmp_path, runtime=runtime.setup("cpu"))


def psnr(x: Tensor, y: Tensor) -> float:
    """In dB, for pictures in [0, 1]."""
    return float(-10 * torch.log10((x - y).double().square().mean()))


class Killed(Exception):
    """Stands for the kill signal, at a step of our choice."""


def killing(*steps: tuple[int, int]) -> Plan:
    """A plan that ends at the n-th visit of a step."""
    left = list(steps)
    visits: dict[int, int] = {}

    def watch(step: int, sample: Mapping[str, Tensor]) -> dict[str, float]:
        visits[step] = visits.get(step, 0) + 1
        if left and left[0] == (step, visits[step]):
            left.pop(0)
            raise Killed
        return {"seen": float(sample["output"].mean())}

    return Plan(steps=24, watch_every=11, watch=watch, checkpoint_seconds=0.0)


@pytest.mark.parametrize("name", NINE)
def test_official_settings_run_at_full_size(name: str, run: Keeper) -> None:
    """All seven notebooks, super-resolution at both factors, kate as hole text and as 98 %."""
    setting, plan = SETTINGS[name], Plan(steps=2)
    large = from_array(skimage.data.astronaut())[:, :132, 150:286]
    photo = large if name == "inpaint_library" else large[:, :64, :72]
    if setting.transform == "lanczos2":
        low = photo[:, :: setting.scale, :: setting.scale]
        made = cfe.super_resolve(low, setting.scale, run=run, plan=plan)
    elif setting.transform == "mask":
        mask = without_box(*photo.shape[1:], box=(8, 8, 30, 40))
        made = cfe.inpaint(photo, mask, run=run, setting=setting, plan=plan)
    else:
        made = cfe.denoise(photo, run=run, setting=setting, plan=plan)
    assert made.picture.shape == photo.shape
    assert bool(made.picture.isfinite().all())
    assert made.found.steps == 2
    assert made.reason == "all 2 steps are done"
    assert ("average" in made.layers) == (name in ("denoise", "jpeg"))


def test_denoising_gains_decibels(run: Keeper) -> None:
    """Measured at seeds 0 to 2: 20.2 dB become 26.0 to 26.1, the average 25.5 to 25.9."""
    noise = torch.randn(CAT.shape, generator=torch.Generator().manual_seed(0)) * 25 / 255
    noisy = (CAT + noise).clamp(0, 1)
    made = cfe.denoise(noisy, run=run, setting=SETTINGS["small"], plan=Plan(steps=80))
    assert psnr(made.layers["output"], CAT) > psnr(noisy, CAT) + 4
    assert psnr(made.picture, CAT) > psnr(noisy, CAT) + 4
    assert torch.equal(made.picture, made.layers["average"])
    plain = cfe.denoise(noisy, run=run, setting=SETTINGS["small"], plan=Plan(steps=2, average=0.0))
    assert torch.equal(plain.picture, plain.layers["output"])


def test_inpainting_beats_the_mean_and_keeps_what_is_known(run: Keeper) -> None:
    """Measured at seeds 0 to 2: the mean has 18.1 dB in the holes, the network 24.8 to 25.1."""
    mask = kept_at_random(64, 64, 0.5, torch.Generator().manual_seed(0))
    missing = (mask == 0).expand_as(CAT)
    broken = torch.where(missing, float("nan"), CAT)  # what is missing is not looked at
    made = cfe.inpaint(broken, mask, run=run, setting=SETTINGS["small"], plan=Plan(steps=40))
    mean = (CAT * mask).sum((1, 2), keepdim=True) / mask.sum()
    assert torch.equal(made.picture[~missing], CAT[~missing])
    filled = psnr(made.picture[missing], CAT[missing])
    assert filled > psnr(mean.expand_as(CAT)[missing], CAT[missing]) + 5


def test_super_resolution_fits_what_it_was_given(run: Keeper) -> None:
    """Measured at seeds 0 and 1: 27.5 and 27.1 dB of the reduction, 24.2 and 23.6 of the photo."""
    low = lanczos2(CAT[None], 4)[0]
    made = cfe.super_resolve(low, 4, run=run, setting=SETTINGS["small"], plan=Plan(steps=40))
    assert made.picture.shape == CAT.shape
    assert psnr(lanczos2(made.picture[None], 4)[0], low) > 25
    grey = psnr(torch.full_like(CAT, float(CAT.mean())), CAT)
    assert psnr(made.picture, CAT) > grey + 4


def test_grey_photos_are_restored_as_grey(run: Keeper) -> None:
    grey = CAT.mean(0, keepdim=True)
    made = cfe.denoise(grey, run=run, setting=SETTINGS["small"], plan=Plan(steps=1))
    assert made.picture.shape == (1, 64, 64)


@pytest.mark.parametrize(
    ("airlight", "learned", "counts"),
    [
        (AIR, None, (3, 3)),
        (None, None, (2, 3)),
        (AIR, False, (2, 2)),
        (None, True, (3, 3)),
    ],
)
def test_airlight_modes(
    airlight: Tensor | None, learned: bool | None, counts: tuple[int, int], run: Keeper
) -> None:
    """Given: a network makes A in both passes. Dark channel: constant first, then a network."""
    made = cfe.dehaze(
        HAZY, run=run, airlight=airlight, learned=learned, radius=6, plan=Plan(steps=2)
    )
    start = filters.airlight(HAZY[None], "channel_max", share=1e-4) if airlight is None else AIR
    for one, count in zip(made.passes, counts, strict=True):
        assert torch.equal(one.start, start.flatten())
        assert ("near A_0" in one.found.history.values) == (count == 3)
        flat = bool((one.layers["A"] == one.start.view(3, 1, 1)).all())
        assert flat == (count == 2)


def test_the_second_pass_runs_on_what_the_first_gave(run: Keeper) -> None:
    made = cfe.dehaze(HAZY, run=run, radius=6, plan=Plan(steps=3))
    first, second = made.passes
    assert torch.equal(first.hazy, HAZY)
    assert torch.equal(second.hazy, first.picture)
    assert torch.equal(made.picture, second.picture)
    assert not torch.equal(first.picture, second.picture)
    assert made.reason == "all 3 steps are done; all 3 steps are done"


def test_layers_mix_to_the_photo(run: Keeper) -> None:
    """I = t J + (1 - t) A over both passes, but where a pass clipped its picture."""
    made = cfe.dehaze(HAZY, run=run, airlight=AIR, radius=6, plan=Plan(steps=12))
    J, t, A = (made.layers[name] for name in ("J", "t", "A"))
    torch.testing.assert_close(made.layers["recomposition"], t * J + (1 - t) * A)
    inside = torch.ones_like(HAZY, dtype=torch.bool)
    for one in made.passes:
        refined = filters.guided_filter(one.hazy[None], one.layers["t"][None], 6, 1e-4)
        torch.testing.assert_close(one.refined, refined[0].clamp(0.1, 1), rtol=0, atol=1e-6)
        inside &= (one.picture > 0) & (one.picture < 1)
        mixed = one.refined * one.picture + (1 - one.refined) * one.airlight
        free = (one.picture > 0) & (one.picture < 1)
        torch.testing.assert_close(mixed[free], one.hazy[free], rtol=0, atol=2e-6)
        network = one.layers["t"] * one.layers["J"] + (1 - one.layers["t"]) * one.layers["A"]
        torch.testing.assert_close(one.layers["output"], network)
    assert float(inside.float().mean()) > 0.5
    torch.testing.assert_close(
        made.layers["recomposition"][inside], HAZY[inside], rtol=0, atol=5e-6
    )
    product = made.passes[0].refined * made.passes[1].refined
    torch.testing.assert_close(t, product)


def test_the_best_step_is_that_of_the_best_recomposition(run: Keeper) -> None:
    """Of every 8th step, scored against what was decomposed; the truth is nowhere in sight."""
    seen: dict[int, float] = {}

    def watch(step: int, sample: Mapping[str, Tensor]) -> dict[str, float]:
        seen[step] = psnr(sample["output"], sample["degraded"])
        return {}

    # a rate at which the fit stumbles near the end, so that the last step is not the best
    plan = Plan(steps=26, watch_every=1, watch=watch, learning_rate=0.05, prior=Prior(seed=1))
    one = cfe.dehaze(HAZY, run=run, passes=1, radius=6, plan=plan).passes[0]
    scored = {step: value for step, value in seen.items() if step % 8 == 0 or step == 26}
    kept = one.found.kept
    assert kept is not None
    assert kept.step == max(scored, key=scored.__getitem__)
    assert kept.score == pytest.approx(scored[kept.step], abs=1e-6)
    assert torch.equal(one.layers["t"], kept.outputs["t"][0])


def test_some_haze_goes(run: Keeper) -> None:
    """Measured at seeds 0 to 2: 11.3 dB become 16.5, 20.4 and 19.1; t correlates 0.73 to 0.84."""
    coffee = resize(from_array(skimage.data.coffee()), size=(72, 96)).clamp(0, 1)
    hazy, t = hazed(coffee)
    plan = Plan(steps=40, prior=Prior(seed=1))
    made = cfe.dehaze(hazy, run=run, airlight=AIR, learned=False, passes=1, radius=10, plan=plan)
    assert psnr(made.picture, coffee) > psnr(hazy, coffee) + 4
    both = torch.stack([made.layers["t"].flatten(), t.flatten()])
    assert float(torch.corrcoef(both)[0, 1]) > 0.6


def test_large_photos_are_decomposed_smaller(run: Keeper) -> None:
    """A side at the limit or above is halved; the picture keeps its size."""
    hazy, _ = hazed(from_array(skimage.data.chelsea())[:, 60:140, 100:220])
    made = cfe.dehaze(hazy, run=run, passes=1, radius=6, limit=120, plan=Plan(steps=2))
    assert made.picture.shape == (3, 80, 120)
    assert made.passes[0].layers["t"].shape == (1, 40, 60)
    assert made.layers["A"].shape == (3, 80, 120)
    third = cfe.dehaze(hazy, run=run, passes=1, radius=6, limit=121, plan=Plan(steps=1))
    assert third.passes[0].layers["t"].shape == (1, 80, 120)


def test_zid_feeds_the_photo(run: Keeper) -> None:
    def made(**options: object) -> cfe.Pass:
        return cfe.dehaze(HAZY, run=run, passes=1, radius=6, plan=Plan(steps=1), **options).passes[
            0
        ]

    photo, noise = made(input="image"), made(input="noise")
    assert not torch.equal(photo.layers["t"], noise.layers["t"])
    # no noise of the step: what a step shows is what the same weights make when asked cleanly
    assert photo.found.history.values["L_ID"] != noise.found.history.values["L_ID"]


def test_options_of_the_prior_change_the_network(run: Keeper) -> None:
    def first(prior: Prior) -> Tensor:
        plan = Plan(steps=1, prior=prior)
        return cfe.denoise(CAT, run=run, setting=SETTINGS["small"], plan=plan).picture

    plain = first(Prior())
    assert torch.equal(plain, first(Prior()))
    for other in (Prior(seed=1), Prior(distribution="gaussian"), Prior(upsampling="nearest")):
        assert not torch.equal(plain, first(other))


def test_arms_begin_alike_and_see_the_same_noise(features: Path, tmp_path: Path) -> None:
    """Weights, inputs and noise of one seed do not depend on lambda, so arms can be paired."""
    vgg, starts = networks.load("vgg19"), {}
    for weight in (0.0, 1e-3):
        run = SimpleNamespace(folder=tmp_path, runtime=runtime.setup("cpu"))
        content = cfe.Content(weight, vgg)
        made = cfe.dehaze(
            HAZY, run=run, passes=1, radius=6, content=content, plan=Plan(steps=1, moments=1)
        )
        values = made.passes[0].found.history.values
        assert ("L_CCL" in values) == (weight > 0)
        starts[weight] = (values["L_ID"], made.passes[0].layers)  # of before the first update
    (loss, layers), (other, same) = starts.values()
    assert loss == other
    assert all(torch.equal(layers[name], same[name]) for name in layers)


def test_a_killed_dehazing_ends_with_the_same_bits(tmp_path: Path) -> None:
    """Killed in the first pass and in the second, each time two steps after a checkpoint."""
    made = {}
    for name, kills in (("plain", ()), ("killed", ((22, 1), (22, 3)))):
        run = SimpleNamespace(folder=tmp_path / name, runtime=runtime.setup("cpu"))
        plan = killing(*kills)
        for _ in kills:
            with pytest.raises(Killed):
                cfe.dehaze(HAZY, run=run, radius=6, plan=plan)
        made[name] = cfe.dehaze(HAZY, run=run, radius=6, plan=plan)
    assert torch.equal(made["plain"].picture, made["killed"].picture)
    for one, other in zip(made["plain"].passes, made["killed"].passes, strict=True):
        assert one.found.history.values == other.found.history.values
        assert all(torch.equal(one.layers[k], other.layers[k]) for k in one.layers)


def test_a_killed_denoising_ends_with_the_same_bits(tmp_path: Path) -> None:
    pictures = []
    for name, kills in (("plain", ()), ("killed", ((22, 1),))):
        run = SimpleNamespace(folder=tmp_path / name, runtime=runtime.setup("cpu"))
        plan = killing(*kills)
        for _ in kills:
            with pytest.raises(Killed):
                cfe.denoise(CAT, run=run, setting=SETTINGS["small"], plan=plan)
        pictures.append(cfe.denoise(CAT, run=run, setting=SETTINGS["small"], plan=plan))
    plain, killed = pictures
    assert torch.equal(plain.picture, killed.picture)
    assert torch.equal(plain.layers["output"], killed.layers["output"])


def test_another_photo_or_plan_in_the_same_folder_begins_anew(run: Keeper) -> None:
    """No photo ever gets what a checkpoint of another one holds."""
    small, plan = SETTINGS["small"], Plan(steps=2)
    one, other = (cfe.denoise(x, run=run, setting=small, plan=plan) for x in (CAT, 1 - CAT))
    again = cfe.denoise(CAT, run=run, setting=small, plan=plan)
    assert not torch.equal(one.picture, other.picture)
    assert torch.equal(one.picture, again.picture)
    longer = cfe.denoise(CAT, run=run, setting=small, plan=Plan(steps=3))
    assert longer.found.steps == 3
    assert len(list(run.folder.rglob("*.pt"))) == 3


def test_the_time_is_told_before_it_starts(run: Keeper) -> None:
    told: list[float] = []
    cfe.dehaze(HAZY, run=run, radius=6, plan=Plan(steps=2, told=told.append))
    assert len(told) == 2
    assert 0 < told[1] < 10


def test_a_stopping_rule_ends_it_and_says_why(run: Keeper) -> None:
    plan = Plan(steps=60, stopping=Smoothed(window=5, patience=1, tolerance=0.9))
    made = cfe.denoise(CAT, run=run, setting=SETTINGS["small"], plan=plan)
    assert made.found.steps < 60
    assert "has not fallen" in made.reason


@pytest.mark.parametrize(
    ("photo", "said"),
    [
        (CAT[None], "noisy is torch.float32 of shape .*; expected float of"),
        (CAT[:2], "expected float of .1 or 3, H, W."),
        (torch.zeros(3, 64, 64, dtype=torch.uint8), "noisy is torch.uint8"),
        (torch.full((3, 64, 64), float("nan")), "noisy holds values that are not finite"),
        (CAT * 255, "noisy reaches from .* to .*; expected a picture in"),
        (CAT[:, :20], "a picture of 20 x 64 is too small for this network; expected sides of 33"),
    ],
)
def test_denoising_refuses(photo: Tensor, said: str, run: Keeper) -> None:
    with pytest.raises(ValueError, match=said):
        cfe.denoise(photo, run=run, plan=Plan(steps=1))


@pytest.mark.parametrize(
    ("mask", "said"),
    [
        (torch.ones(1, 64, 63), r"mask has shape \(1, 64, 63\), the picture \(3, 64, 64\)"),
        (torch.ones(64, 64), r"mask has shape \(64, 64\)"),
        (torch.full((1, 64, 64), 0.5), "mask holds other values than 0 and 1"),
        (torch.zeros(1, 64, 64), "or no 1; expected 1 where known"),
        (torch.full((1, 64, 64), float("nan")), "mask holds other values than 0 and 1"),
    ],
)
def test_inpainting_refuses(mask: Tensor, said: str, run: Keeper) -> None:
    with pytest.raises(ValueError, match=said):
        cfe.inpaint(CAT, mask, run=run, plan=Plan(steps=1))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"airlight": torch.tensor([0.5, 0.5])}, "expected three numbers in"),
        ({"airlight": torch.tensor([0.5, 0.5, 1.5])}, "expected three numbers in"),
        ({"passes": 0}, "passes is 0"),
        ({"limit": 63}, "limit 63"),
        ({"radius": 0}, "radius 0"),
        ({"input": "photo"}, "input is 'photo'; expected 'noise' or 'image'"),
    ],
)
def test_dehazing_refuses(options: dict[str, object], said: str, run: Keeper) -> None:
    with pytest.raises(ValueError, match=said):
        cfe.dehaze(HAZY, run=run, plan=Plan(steps=1), **options)
    assert not list(run.folder.rglob("*.pt"))  # before anything was computed


def test_dehazing_refuses_grey(run: Keeper) -> None:
    with pytest.raises(ValueError, match=r"expected float of \(3, H, W\)"):
        cfe.dehaze(HAZY[:1], run=run, plan=Plan(steps=1))


def test_a_jitter_of_sigma_50_is_a_setting_away(run: Keeper) -> None:
    still = replace(SETTINGS["small"], jitter=0.0)
    one, two = (
        cfe.denoise(CAT, run=run, setting=setting, plan=Plan(steps=2))
        for setting in (still, replace(still, jitter=1 / 20))
    )
    assert not torch.equal(one.picture, two.picture)
