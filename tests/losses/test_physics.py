"""Smoothness and the dark channel's term, by loops and by scipy."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy import ndimage
from skimage import data
from torch import Tensor

from enhancelib.losses.physics import dark_channel_term, smoothness

# of astronaut; of the same a tenth of the way to white
PINNED = {"smoothness": 0.00233159672, "dark": 0.210192186}


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def astronaut() -> Tensor:
    return torch.from_numpy(data.astronaut()).permute(2, 0, 1)[None].double() / 255


@pytest.mark.parametrize("shape", [(2, 1, 7, 9), (1, 3, 6, 5), (1, 2, 5, 5)])
def test_smoothness_by_loops(shape: tuple[int, ...]) -> None:
    x = draw(*shape)
    squares = []
    for grey in x.numpy().mean(axis=1):
        for i, j in itertools.product(range(2, shape[2] - 2), range(2, shape[3] - 2)):
            blurred = sum(grey[i + p, j + q] for p in range(-2, 3) for q in range(-2, 3)) / 25
            squares.append((grey[i, j] - blurred) ** 2)
    assert float(smoothness(x)) == pytest.approx(np.mean(squares), rel=1e-12)


def test_smoothness_by_scipy_on_a_photo() -> None:
    grey = astronaut()[0].mean(0).numpy()
    wanted = ((grey - ndimage.uniform_filter(grey, 5))[2:-2, 2:-2] ** 2).mean()
    assert float(smoothness(astronaut())) == pytest.approx(float(wanted), rel=1e-9)
    assert float(wanted) == pytest.approx(PINNED["smoothness"], rel=1e-6)


def test_planes_are_smooth() -> None:
    ramp = torch.arange(9.0).double()
    plane = (0.3 + 0.1 * ramp[:, None] - 0.2 * ramp).expand(1, 3, 9, 9)
    assert float(smoothness(plane)) < 1e-30
    x = draw(1, 3, 9, 9)
    torch.testing.assert_close(smoothness(x + plane), smoothness(x))
    torch.testing.assert_close(smoothness(3 * x), 9 * smoothness(x))


def test_dark_channel_by_loops() -> None:
    J = draw(2, 3, 4, 5)
    darkest = [
        min(float(J[b, c, i, j]) for c in range(3))
        for b, i, j in itertools.product(range(2), range(4), range(5))
    ]
    wanted = sum(one**2 for one in darkest) / len(darkest) - 0.05
    assert float(dark_channel_term(J)) == pytest.approx(wanted, rel=1e-12)
    assert float(dark_channel_term(torch.zeros(1, 3, 2, 2))) == pytest.approx(-0.05)
    assert float(dark_channel_term(J[:, :1])) == pytest.approx(
        float(J[:, :1].square().mean()) - 0.05, rel=1e-12
    )


def test_haze_brightens_the_dark_channel() -> None:
    clean, hazy = astronaut(), 0.9 * astronaut() + 0.1
    assert float(dark_channel_term(hazy)) > float(dark_channel_term(clean)) + 0.02
    assert float(dark_channel_term(hazy)) == pytest.approx(PINNED["dark"], rel=1e-6)


def test_gradients() -> None:
    assert torch.autograd.gradcheck(smoothness, (draw(1, 3, 6, 7).requires_grad_(),))
    assert torch.autograd.gradcheck(dark_channel_term, (draw(1, 3, 3, 4).requires_grad_(),))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_short_floats_are_widened(dtype: torch.dtype) -> None:
    x = draw(1, 3, 8, 8).to(dtype)
    for loss in (smoothness, dark_channel_term):
        assert loss(x).dtype == torch.float32
        torch.testing.assert_close(loss(x), loss(x.float()))


def test_wrong_input_is_refused() -> None:
    x = draw(1, 3, 8, 8)
    for loss in (smoothness, dark_channel_term):
        with pytest.raises(ValueError, match=r"has shape \(3, 8, 8\); expected \(N, C, H, W\)"):
            loss(x[0])
        with pytest.raises(ValueError, match=r"torch\.uint8; expected floating point"):
            loss(x.byte())
    with pytest.raises(ValueError, match="expected at least 5 x 5 pixels"):
        smoothness(x[:, :, :4])
