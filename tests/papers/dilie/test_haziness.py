"""E and H by hand, on real photos, and that no error bears another's name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
from torch import Tensor

from enhancelib import features as networks
from enhancelib import metrics
from enhancelib.images import from_array, resize
from enhancelib.papers.dilie import haziness
from tests.equations import transcriptions_dilie as printed

CLEAN = resize(from_array(skimage.data.coffee()), size=(64, 80)).clamp(0, 1)[None]
DEPTH = torch.linspace(1, 0.15, 64)[:, None]
T = torch.exp(-1.4 * DEPTH)
HAZY = CLEAN * T + torch.tensor([0.80, 0.82, 0.85])[:, None, None] * (1 - T)


def mse(reference: Tensor, distorted: Tensor) -> Tensor:
    return (reference - distorted).square().mean((1, 2, 3))


def test_vgg19_unit_is_its_formula(features: Path) -> None:
    maps = [
        networks.load("vgg19")(one, ("relu1_2", "relu2_2", "relu3_2", "relu3_4"))
        for one in (CLEAN, HAZY)
    ]
    total = 0.0
    for layer in maps[0]:
        x, y = (one[layer][0].double().flatten(1).T.numpy() for one in maps)
        unit = [v / np.linalg.norm(v, axis=1, keepdims=True) for v in (x, y)]
        total += float(((unit[0] - unit[1]) ** 2).sum(1).mean()) / 4
    assert float(haziness.vgg19_unit(CLEAN, HAZY)) == pytest.approx(total, rel=1e-5)


def test_vgg19_unit_is_zero_for_equal_pictures_and_goes_picture_by_picture(features: Path) -> None:
    both = haziness.vgg19_unit(torch.cat([CLEAN, CLEAN]), torch.cat([CLEAN, HAZY]))
    assert both[0] == 0
    assert float(both[1]) == pytest.approx(float(haziness.vgg19_unit(CLEAN, HAZY)), rel=1e-4)
    assert 0.1 < float(both[1]) < 2  # measured: 0.365


def test_lpips_is_that_of_the_metrics(features: Path) -> None:
    found = haziness.errors(CLEAN, HAZY)
    assert list(found) == ["VGG19-unit", "LPIPS (Alex)", "LPIPS (VGG)"]
    for name, metric in (("LPIPS (Alex)", "lpips_alex"), ("LPIPS (VGG)", "lpips_vgg")):
        assert torch.equal(found[name], metrics.METRICS[metric](HAZY, CLEAN))


def test_h_is_the_printed_difference_with_its_sign() -> None:
    restyled = [(one**0.8).flip(1) for one in (HAZY, CLEAN)]
    found = haziness.relative_haze(mse, CLEAN, *restyled)
    arrays = [one[0].double().numpy() for one in (CLEAN, *restyled)]
    assert float(found) == pytest.approx(printed.eq_h(printed.mean_square, *arrays), rel=1e-5)
    assert float(haziness.relative_haze(mse, CLEAN, *restyled[::-1])) == -float(found)


def test_h_is_zero_where_haze_made_no_difference(features: Path) -> None:
    same = CLEAN.flip(1)
    for error in haziness.ERRORS.values():
        assert float(haziness.relative_haze(error, CLEAN, same, same)) == 0


def test_h_falls_as_haze_goes(features: Path) -> None:
    """A style transfer that does nothing carries all haze over; half of it dehazed, less."""
    half = (CLEAN + HAZY) / 2
    for error in haziness.ERRORS.values():
        whole, less = (haziness.relative_haze(error, CLEAN, x, CLEAN) for x in (HAZY, half))
        assert float(whole) > float(less) > 0


def test_e_takes_the_reference_first() -> None:
    seen = []

    def note(reference: Tensor, distorted: Tensor) -> Tensor:
        seen.append((reference, distorted))
        return torch.zeros(1)

    haziness.relative_haze(note, CLEAN, HAZY, CLEAN.flip(1))
    haziness.errors(CLEAN, HAZY, given={"": note})
    assert [reference is CLEAN for reference, _ in seen] == [True] * 3
    assert seen[0][1] is HAZY
    assert seen[2][1] is HAZY
