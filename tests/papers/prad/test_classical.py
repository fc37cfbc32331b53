"""The yardsticks: what one colour map for all pictures reaches, and BIMEF piece by piece."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
from torch import Tensor

from enhancelib import pairs
from enhancelib.images import clip, from_array, luma
from enhancelib.pairs import Pairs
from enhancelib.papers.prad import classical

COFFEE = from_array(skimage.data.coffee())[None, :, :96, :120]


def psnr(x: Tensor, y: Tensor) -> float:
    """Mean over images of the PSNR of the clipped picture, in dB."""
    return float(-10 * torch.log10((clip(x) - y).double().square().mean((1, 2, 3))).mean())


@pytest.fixture(scope="module")
def split(assets: Path) -> tuple[Pairs, Pairs]:
    """The specification's split: 297 pairs for the fit, 99 for the score."""
    files = pairs.find(assets / "data")["pirm"]
    fit, test = files.choose(range(300)).read(), files.choose(range(300, 400)).read()
    return fit.without_white(), test.without_white()


def test_the_yardsticks_have_the_specifications_values(split: tuple[Pairs, Pairs]) -> None:
    """prad.md, section 12: identity 17.22, affine 20.41, quadratic 21.03 dB."""
    fit, test = split
    assert (len(fit), len(test)) == (297, 99)
    maps = classical.fit_all(fit.chunks())
    assert psnr(classical.identity(test.degraded), test.clean) == pytest.approx(17.22, abs=0.005)
    assert psnr(maps[1](test.degraded), test.clean) == pytest.approx(20.41, abs=0.006)
    assert psnr(maps[2](test.degraded), test.clean) == pytest.approx(21.03, abs=0.006)


def test_bimef_brightens_real_pairs_towards_the_target(split: tuple[Pairs, Pairs]) -> None:
    """Measured here: 19.61 dB; no value of the authors is known for these pairs."""
    test = split[1]
    restored = classical.bimef(test.degraded)
    assert psnr(restored, test.clean) == pytest.approx(19.61, abs=0.02)
    assert float(luma(restored).mean()) > float(luma(test.degraded).mean())


def test_streaming_is_the_fit_over_all_at_once(split: tuple[Pairs, Pairs]) -> None:
    some = split[0].choose(range(20))
    r, g, b = some.degraded.double().movedim(1, -1).reshape(-1, 3).unbind(1)
    terms = torch.stack([r**0, r, g, b, r * r, g * g, b * b, r * g, r * b, g * b], dim=1)
    target = some.clean.double().movedim(1, -1).reshape(-1, 3)
    whole = np.linalg.lstsq(terms.numpy(), target.numpy(), rcond=None)[0]
    for size in (3, 20):
        found = classical.fit(some.chunks(size), order=2).coefficients.numpy()
        assert np.abs(found - whole).max() < 1e-6


@pytest.mark.parametrize("order", [1, 2])
def test_a_polynomial_is_found_again(order: int) -> None:
    truth = classical.ColourMap(
        torch.rand((4, 10)[order - 1], 3, generator=torch.Generator().manual_seed(0)).double() / 10
    )
    found = classical.fit([{"degraded": COFFEE, "clean": truth(COFFEE).double()}], order=order)
    assert torch.allclose(found(COFFEE), truth(COFFEE), atol=1e-6)


def test_the_quadratic_map_is_never_worse_on_what_it_was_fitted_to(
    split: tuple[Pairs, Pairs],
) -> None:
    some = split[0].choose(range(30))
    maps = classical.fit_all(some.chunks())
    errors = [float((m(some.degraded) - some.clean).square().mean()) for m in maps.values()]
    identity = float((some.degraded - some.clean).square().mean())
    assert errors[1] < errors[0] < identity


def test_pairs_of_one_colour_can_be_fitted() -> None:
    grey = torch.full((1, 3, 8, 8), 0.25)
    found = classical.fit([{"degraded": grey, "clean": 2 * grey}], order=2)
    assert torch.allclose(found(grey), 2 * grey, atol=1e-6)


def test_maps_are_cut_to_the_range_of_pictures() -> None:
    bright = classical.ColourMap(torch.cat([torch.ones(1, 3), torch.eye(3)]).double())
    assert float(bright(COFFEE).max()) == 1.0
    dark = classical.ColourMap(torch.cat([-torch.ones(1, 3), torch.eye(3)]).double())
    assert float(dark(COFFEE).min()) == 0.0


@pytest.mark.parametrize("order", [0, 3])
def test_other_orders_are_refused(order: int) -> None:
    with pytest.raises(ValueError, match=f"order is {order}, with 1 pairs; expected 1 or 2"):
        classical.fit([{"degraded": COFFEE, "clean": COFFEE}], order=order)


def test_bimef_leaves_bright_pictures_alone() -> None:
    bright = 0.6 + 0.4 * COFFEE
    assert torch.allclose(classical.bimef(bright), bright, atol=1e-6)


def test_bimef_brightens_dark_places_more() -> None:
    dark = COFFEE * 0.3
    gain = luma(classical.bimef(dark)) / luma(dark).clamp_min(1e-3)
    assert float(gain.mean()) > 1.5
    low, high = (luma(dark) < luma(dark).quantile(q) for q in (0.2, 0.8))
    assert float(gain[low].mean()) > float(gain[~high].mean())


def test_the_smoothed_brightness_solves_its_equation() -> None:
    """(t - s) + lambda sum of w (neighbour - s) = 0 at every pixel, by a loop over pixels."""
    t = COFFEE[0].amax(0, keepdim=True)[:, 60:72, 60:77]
    s = classical._smoothed(t)[0].double().numpy()
    plane = t[0].double().numpy()
    rest = plane - s
    for axis in (0, 1):
        step = np.roll(plane, -1, axis) - plane
        for at in np.ndindex(plane.shape):
            window = 0.0
            for k in range(-2, 3):
                place = list(at)
                place[axis] += k
                if 0 <= place[axis] < plane.shape[axis]:
                    window += step[tuple(place)]
            after = list(at)
            after[axis] = (at[axis] + 1) % plane.shape[axis]
            weight = 0.5 / (abs(window) * abs(step[at]) + 1e-3)
            flow = weight * (s[tuple(after)] - s[at])
            rest[at] += flow
            rest[tuple(after)] -= flow
    assert np.abs(rest).max() < 1e-3
    assert np.abs(s - plane).max() > 0.05


def test_the_exposure_has_the_largest_entropy() -> None:
    dark = COFFEE[0] * 0.3
    mask = torch.ones(1, 96, 120, dtype=torch.bool)
    chosen = classical._exposure(dark, mask)
    assert chosen is not None
    assert 1 < chosen < 7
    assert classical._exposure(dark, ~mask) is None


def test_the_camera_response_is_the_published_one() -> None:
    """At k = 1 nothing changes; g(1, k) = exp((1 - k^a) b)."""
    values = torch.tensor([0.1, 0.5, 1.0], dtype=torch.float64)
    assert torch.allclose(classical._brighter(values, 1.0), values)
    expected = math.exp((1 - 4**-0.3293) * 1.1258)
    assert float(classical._brighter(values, 4.0)[2]) == pytest.approx(expected, rel=1e-9)


def test_entropy_is_that_of_levels() -> None:
    assert classical._entropy(torch.arange(256) / 255) == pytest.approx(8.0)
    assert classical._entropy(torch.zeros(9)) == 0.0
