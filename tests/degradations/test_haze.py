"""Haze: the scattering model pixel by pixel, its depth, its draws, and how it combines."""

from __future__ import annotations

import math

import numpy as np
import pytest
import skimage.data
import torch
from torch import Tensor

from enhancelib import filters
from enhancelib.degradations import Chain, GaussianNoise, Haze, OneOf
from enhancelib.degradations.haze import scattered
from enhancelib.images import from_array

PHOTO = from_array(skimage.data.astronaut()[:60, 100:180])[None]
AIR = (0.80, 0.82, 0.85)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_model_pixel_by_pixel() -> None:
    made = Haze(1.4, AIR)({"clean": PHOTO}, generator())
    J, I = (made[k][0].double().numpy() for k in ("clean", "degraded"))  # noqa: E741
    for y in (0, 17, 59):
        d = 1 - 0.85 * y / 59
        t = math.exp(-1.4 * d)
        np.testing.assert_allclose(made["transmission"][0, 0, y].numpy(), t, rtol=1e-6)
        expected = J[:, y] * t + np.array(AIR)[:, None] * (1 - t)
        np.testing.assert_allclose(I[:, y], expected, atol=1e-6)
    assert made["airlight"].flatten().tolist() == pytest.approx(AIR)
    assert made["clean"] is PHOTO


def test_a_given_depth_is_used() -> None:
    depth = torch.rand(1, 1, 60, 80, generator=generator())
    made = Haze(0.9, 0.75)({"clean": PHOTO, "depth": depth}, generator())
    t = (-0.9 * depth).exp()
    torch.testing.assert_close(made["transmission"], t)
    torch.testing.assert_close(made["degraded"], PHOTO * t + 0.75 * (1 - t))
    assert made["airlight"].shape == (1, 3, 1, 1)


def test_the_truth_turns_it_back() -> None:
    made = Haze(1.4, AIR)({"clean": PHOTO}, generator())
    back = filters.invert_haze(made["degraded"], made["transmission"], made["airlight"])
    torch.testing.assert_close(back, PHOTO, atol=1e-5, rtol=0)


def test_every_item_draws_its_own_haze_from_the_generator_alone() -> None:
    batch = PHOTO.expand(400, -1, -1, -1)[..., :1, :2]
    haze = Haze((0.6, 1.8), (0.7, 1.0))
    made, again = (haze({"clean": batch}, generator(3)) for _ in range(2))
    assert torch.equal(made["degraded"], again["degraded"])
    beta, A = -made["transmission"][:, 0, 0, 0].log(), made["airlight"][:, 0, 0, 0]  # depth 1
    for found, low, high in ((beta, 0.6, 1.8), (A, 0.7, 1.0)):
        assert low <= float(found.min()) < low + 0.05 * (high - low)
        assert high - 0.05 * (high - low) < float(found.max()) <= high
        assert float(found.mean()) == pytest.approx((low + high) / 2, rel=0.05)
    correlation = torch.corrcoef(torch.stack((beta, A)))[0, 1]
    assert abs(float(correlation)) < 5 / math.sqrt(400)
    assert torch.equal(made["airlight"][:, 0], made["airlight"][:, 2])  # grey


def test_it_chains_and_is_one_of_several() -> None:
    both = Chain((Haze(1.0, AIR), GaussianNoise(10.0)))({"clean": PHOTO}, generator())
    assert {"transmission", "airlight", "noise_level"} < set(both)
    mixed = OneOf((Haze(1.0, AIR), GaussianNoise(10.0)))
    made = mixed({"clean": PHOTO.expand(6, -1, -1, -1)}, generator())
    hazy = made["kind"].flatten() == 0
    assert 0 < int(hazy.sum()) < 6
    assert bool((made["transmission"][~hazy] == 1).all())
    assert bool((made["transmission"][hazy] < 1).all())


def test_no_haze_changes_nothing() -> None:
    made = Haze(0.0, 0.9)({"clean": PHOTO}, generator())
    assert torch.equal(made["degraded"], PHOTO)


def test_an_airlight_that_varies() -> None:
    A = torch.rand(PHOTO.shape, generator=generator())
    t = torch.full((1, 1, 60, 80), 0.3)
    torch.testing.assert_close(scattered(PHOTO, t, A), 0.3 * PHOTO + 0.7 * A)


@pytest.mark.parametrize(
    ("beta", "airlight"),
    [
        (-0.1, 0.8),
        (float("nan"), 0.8),
        ((1.0, 0.5), 0.8),
        (1.0, 1.2),
        (1.0, (0.8, 0.8, 1.3)),
        (1.0, (0.9, 0.5)),
    ],
)
def test_impossible_air_is_refused(beta: float, airlight: float) -> None:
    with pytest.raises(ValueError, match=r"(beta|airlight) is"):
        Haze(beta, airlight)


@pytest.mark.parametrize(
    "depth", [torch.zeros(1, 1, 60, 79), torch.zeros(1, 3, 60, 80), torch.full((1, 1, 60, 80), -1)]
)
def test_a_depth_that_does_not_fit_is_refused(depth: Tensor) -> None:
    with pytest.raises(ValueError, match=r"depth is .*; expected \(1, 1, 60, 80\), 0 or more"):
        Haze()({"clean": PHOTO, "depth": depth.float()}, generator())
