"""Gaussian blur, NLM and BM3D: they help, and none was tuned on a test photo."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from enhancelib import metrics, photos
from enhancelib.papers.dncnn import baselines, data

CAT = data.crop(photos.load("chelsea"), 96)
COFFEE = data.crop(photos.load("coffee"), 96)
needs_bm3d = pytest.mark.skipif(
    not baselines.has_bm3d(), reason="the optional package bm3d is not installed"
)
METHODS = [
    pytest.param(baselines.gaussian, 3.0, id="gaussian"),
    pytest.param(baselines.nlm, 4.0, id="nlm"),
    pytest.param(baselines.bm3d, 5.0, id="bm3d", marks=needs_bm3d),
]


def psnr(x: Tensor, y: Tensor) -> float:
    return float(metrics.METRICS["psnr"](x.clamp(0, 1), y))


@pytest.mark.parametrize(("method", "gain"), METHODS)
@pytest.mark.parametrize("clean", [CAT, CAT[1:2]], ids=["colour", "grey"])
def test_each_improves_a_noisy_photo(
    method: Callable[[Tensor, float], Tensor], gain: float, clean: Tensor
) -> None:
    noisy = data.noisy(clean, 25.0)
    kept = noisy.clone()
    restored = method(noisy, 25.0)
    assert torch.equal(noisy, kept)
    assert (restored.shape, restored.dtype) == (clean.shape, clean.dtype)
    assert float(restored.min()) >= 0
    assert float(restored.max()) <= 1
    # noisy is 20.2 to 20.5 dB; each method must clear what it is known to bring on a smooth photo
    assert psnr(restored, clean) > psnr(noisy, clean) + gain


@needs_bm3d
def test_bm3d_is_the_strongest_of_the_three() -> None:
    noisy = data.noisy(COFFEE[:1], 25.0)
    values = [psnr(f(noisy, 25.0), COFFEE[:1]) for f in baselines.BASELINES.values()]
    assert list(baselines.BASELINES) == ["Gaussian filter", "NLM", "BM3D (package)"]
    assert values.index(max(values)) == 2


def test_the_blur_is_that_of_scipy() -> None:
    width = baselines.best_width(25.0)
    wanted = np.stack([ndimage.gaussian_filter(c, width, mode="mirror") for c in CAT.numpy()])
    # scipy stops at 4 widths rounded, ours at 4 widths rounded up: that mass is 1e-4 of the whole
    np.testing.assert_allclose(baselines.gaussian(CAT, 25.0).numpy(), wanted, atol=2e-4)


def test_more_noise_asks_for_a_wider_blur() -> None:
    widths = [baselines.best_width(sigma) for sigma in (5.0, 15.0, 25.0, 50.0)]
    assert widths == sorted(widths)
    assert widths[0] < widths[-1]
    assert set(widths) <= set(baselines.WIDTHS)


def test_the_width_is_chosen_on_validation_photos_only(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    plain = photos.load

    def spy(name: str) -> Tensor:
        read.append(name)
        return plain(name)

    monkeypatch.setattr(photos, "load", spy)
    baselines.best_width.cache_clear()
    baselines.best_width(25.0)
    assert read
    assert {photos.find(name).split for name in read} == {"validation"}
    assert {photos.find(name).package for name in read} == {photos.BUNDLED}  # on every machine
