"""The detour over fewer pixels: published values, alignment, sizes that do not divide."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
import torch
from torch import Tensor

from enhancelib.degradations import Bicubic, modcrop
from enhancelib.images import from_array, from_uint8, luma, read, resize, to_uint8

BRICK = from_array(skimage.data.brick()[:60, :84])[None]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def degraded(bicubic: Bicubic, clean: Tensor) -> Tensor:
    return bicubic({"clean": clean}, generator())["degraded"]


# "Bicubic" on Set5 in VDSR's table; protocol in tests/test_images.py.
@pytest.mark.parametrize(("scale", "published"), [(2, 33.66), (3, 30.39), (4, 28.42)])
def test_set5_is_the_published_one(assets: Path, scale: int, published: float) -> None:
    values = []
    for file in sorted((assets / "data" / "Set5").glob("*.bmp")):
        y = from_uint8(to_uint8(modcrop(luma(read(file), "studio"), scale)))[None]
        error = from_uint8(to_uint8(degraded(Bicubic(scale), y))) - y
        inside = error[..., scale:-scale, scale:-scale].double()
        values.append(-10 * math.log10(float(inside.pow(2).mean())))
    assert np.mean(values) == pytest.approx(published, abs=0.006)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_sizes_that_do_not_divide_stay_aligned(scale: int) -> None:
    whole = degraded(Bicubic(scale), BRICK)
    cut = degraded(Bicubic(scale), BRICK[..., :-1, :-1])
    assert cut.shape[-2:] == (59, 83)
    far = 8 * scale  # beyond the reach of both kernels
    assert torch.allclose(cut[..., :-far, :-far], whole[..., : -far - 1, : -far - 1], atol=1e-6)


def test_a_ramp_comes_back_as_itself() -> None:
    ramp = torch.linspace(0, 1, 61).expand(1, 1, 61, 61)
    for scale in (2, 3, 4):
        inside = slice(4 * scale, -4 * scale)
        error = (degraded(Bicubic(scale), ramp) - ramp)[..., inside]
        assert float(error.abs().max()) < 1e-6


def test_scale_one_changes_nothing() -> None:
    assert torch.allclose(degraded(Bicubic(1), BRICK), BRICK, atol=1e-6)


def test_every_item_has_its_own_scale_and_tells_it() -> None:
    clean = BRICK[..., :50, :50].expand(300, 1, 50, 50)
    sample = Bicubic((2, 3, 4))({"clean": clean}, generator())
    scales = sample["scale"].flatten()
    assert sample["scale"].shape == (300, 1, 1, 1)
    for scale in (2, 3, 4):
        assert abs(int((scales == scale).sum()) - 100) < 4 * math.sqrt(300 * 2 / 9)
        row = int((scales == scale).nonzero()[0])
        down = resize(clean[row], scale=1 / scale)
        expected = resize(down, scale=float(scale))[..., :50, :50]
        assert torch.allclose(sample["degraded"][row], expected, atol=1e-6)


def test_modcrop_keeps_the_top_left() -> None:
    cut = modcrop(BRICK[..., :59, :83], 4)
    assert torch.equal(cut, BRICK[..., :56, :80])
    assert torch.equal(modcrop(BRICK, 1), BRICK)
    with pytest.raises(ValueError, match="scale is 0 for a picture of 60 x 84"):
        modcrop(BRICK, 0)


@pytest.mark.parametrize("scale", [0, -2, 2.0, "2", True, (), (2, 0), (2, 2.5)])
def test_refusals(scale: Any) -> None:
    with pytest.raises(ValueError, match=r"^scale is .*; expected whole numbers >= 1"):
        Bicubic(scale)
