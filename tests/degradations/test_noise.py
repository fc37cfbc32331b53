"""Gaussian noise: its law, its levels, its independence of everything but the generator."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import skimage.data
import torch
from torch import Tensor

from enhancelib.degradations import GaussianNoise
from enhancelib.images import from_array

MOON = from_array(skimage.data.moon())[None]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def residual(noise: GaussianNoise, clean: Tensor, seed: int = 0) -> Tensor:
    sample = noise({"clean": clean}, generator(seed))
    return (sample["degraded"] - clean).double()


@pytest.mark.parametrize("sigma", [5.0, 25.0, 50.0])
def test_the_law_is_normal(sigma: float) -> None:
    v = residual(GaussianNoise(sigma), MOON) / (sigma / 255)
    n = v.numel()
    assert abs(float(v.mean())) < 5 / math.sqrt(n)
    assert abs(float(v.pow(2).mean()) - 1) < 5 * math.sqrt(2 / n)
    assert abs(float(v.pow(4).mean()) - 3) < 5 * math.sqrt(96 / n)


def test_pixels_channels_and_items_are_independent() -> None:
    v = residual(GaussianNoise(25.0), torch.rand(2, 3, 256, 256)) * 255 / 25
    bound = 5 / math.sqrt(v[0, 0].numel())
    pairs = [
        (v[..., :-1], v[..., 1:]),
        (v[..., :-1, :], v[..., 1:, :]),
        (v[:, 0], v[:, 1]),
        (v[0], v[1]),
    ]
    for a, b in pairs:
        assert abs(float((a * b).mean())) < bound


def test_nothing_is_clipped() -> None:
    degraded = GaussianNoise(50.0)({"clean": MOON}, generator())["degraded"]
    extremes = torch.cat([torch.zeros(1, 1, 64, 64), torch.ones(1, 1, 64, 64)])
    noisy = GaussianNoise(50.0)({"clean": extremes}, generator())["degraded"]
    assert float(degraded.min()) < 0
    assert float((noisy[0] < 0).float().mean()) == pytest.approx(0.5, abs=0.04)
    assert float((noisy[1] > 1).float().mean()) == pytest.approx(0.5, abs=0.04)


def test_every_item_has_its_own_level_and_tells_it() -> None:
    clean = MOON[..., :64, :64].expand(300, 1, 64, 64)
    sample = GaussianNoise((10.0, 50.0))({"clean": clean}, generator())
    level = sample["noise_level"]
    assert level.shape == (300, 1, 1, 1)
    measured = (sample["degraded"] - clean).std((1, 2, 3))
    assert torch.allclose(measured, level.flatten(), rtol=0.07)
    on_eight_bits = level.flatten().double().numpy() * 255
    assert on_eight_bits.min() >= 10
    assert on_eight_bits.max() <= 50
    # Kolmogorov-Smirnov distance to U[10, 50], 1 % level for n = 300.
    steps = np.arange(1, 301) / 300
    assert np.abs(np.sort((on_eight_bits - 10) / 40) - steps).max() < 1.63 / math.sqrt(300)


def test_the_generator_alone_decides() -> None:
    before = torch.get_rng_state()
    a = residual(GaussianNoise((0.0, 55.0)), MOON)
    torch.rand(7)
    torch.set_rng_state(before)
    assert torch.equal(a, residual(GaussianNoise((0.0, 55.0)), MOON))
    assert not torch.equal(a, residual(GaussianNoise((0.0, 55.0)), MOON, seed=1))
    assert torch.equal(before, torch.get_rng_state())


def test_levels_are_drawn_before_the_noise() -> None:
    # A change of this order would change every training run of a given seed.
    v = residual(GaussianNoise(25.0), torch.zeros(1, 1, 1, 3)) * 255 / 25
    rng = generator()
    torch.rand(1, generator=rng)
    assert torch.allclose(v.flatten(), torch.randn(3, generator=rng).double(), atol=1e-6)


def test_the_given_sample_is_untouched() -> None:
    clean = MOON.clone()
    sample = {"clean": clean}
    GaussianNoise(0.0)(sample, generator())["degraded"].add_(1)
    assert list(sample) == ["clean"]
    assert torch.equal(clean, MOON)


def test_type_follows_the_picture() -> None:
    sample = GaussianNoise(25.0)({"clean": MOON.double()}, generator())
    assert sample["degraded"].dtype == torch.float64


@pytest.mark.parametrize(
    "sigma", [-1.0, (-1.0, 5.0), (9.0, 5.0), float("nan"), "25", (1.0, 2.0, 3.0)]
)
def test_refusals(sigma: Any) -> None:
    with pytest.raises(ValueError, match=r"^sigma is .*; expected"):
        GaussianNoise(sigma)
