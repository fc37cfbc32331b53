"""Pixel losses: formulas against NumPy, gradients, bounds, and one value on a real photo each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import piq
import pytest
import torch
from skimage import data
from torch import Tensor

from enhancelib.losses import pixel

LOSSES = {
    "half_sse": (pixel.half_sse, lambda d: 0.5 * np.sum(d**2) / len(d), 0.0),
    "mse": (pixel.mse, lambda d: np.sum(d**2) / d.size, 0.0),
    "l1": (pixel.l1, lambda d: np.sum(np.abs(d)) / d.size, 0.0),
    "charbonnier": (pixel.charbonnier, lambda d: np.sum(np.hypot(d, 1e-3)) / d.size, 1e-3),
}
# camera against itself moved by one pixel: the losses of a picture's own detail, 512 x 511 pixels
PINNED = {
    "half_sse": 477.35195,
    "mse": 0.003649033,
    "l1": 0.02733168,
    "charbonnier": 0.02761772,
}
Loss = Callable[..., Tensor]


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("name", LOSSES)
def test_formula(name: str) -> None:
    loss, formula, _ = LOSSES[name]
    x, y = draw(3, 2, 5, 7), draw(3, 2, 5, 7, seed=1)
    expected = formula((x - y).numpy())
    assert float(loss(x, y)) == pytest.approx(expected, rel=1e-12)
    assert float(loss(y, x)) == pytest.approx(expected, rel=1e-12)  # all are symmetric


@pytest.mark.parametrize("name", LOSSES)
def test_equal_pictures_cost_the_least(name: str) -> None:
    loss, _, least = LOSSES[name]
    x = draw(2, 1, 4, 4)
    assert float(loss(x, x)) == pytest.approx(least, abs=1e-15)
    assert float(loss(x, x + 0.1)) > least


@pytest.mark.parametrize("name", LOSSES)
def test_gradient(name: str) -> None:
    x, y = draw(2, 1, 3, 4).requires_grad_(), draw(2, 1, 3, 4, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(LOSSES[name][0], (x, y))


@pytest.mark.parametrize("name", LOSSES)
def test_value_on_a_photo(name: str) -> None:
    photo = torch.from_numpy(data.camera()).double()[None, None] / 255
    value = LOSSES[name][0](photo[..., 1:], photo[..., :-1])
    assert float(value) == pytest.approx(PINNED[name], rel=1e-5)


def test_half_sse_averages_over_patches_and_sums_over_pixels() -> None:
    x, y = draw(2, 1, 4, 4), draw(2, 1, 4, 4, seed=1)
    once = pixel.half_sse(x, y)
    torch.testing.assert_close(pixel.half_sse(x.repeat(3, 1, 1, 1), y.repeat(3, 1, 1, 1)), once)
    torch.testing.assert_close(pixel.half_sse(x.repeat(1, 1, 2, 1), y.repeat(1, 1, 2, 1)), 2 * once)


def test_the_residual_and_the_picture_have_one_loss() -> None:
    # ||R - (y - x)|| = ||x_hat - x|| for x_hat = y - R
    x, y, R = draw(2, 1, 6, 6), draw(2, 1, 6, 6, seed=1), draw(2, 1, 6, 6, seed=2)
    torch.testing.assert_close(pixel.half_sse(R, y - x), pixel.half_sse(y - R, x))


def test_the_gradient_of_l1_vanishes_where_pictures_agree() -> None:
    x = draw(1, 1, 3, 3).requires_grad_()
    (gradient,) = torch.autograd.grad(pixel.l1(x, x.detach().clone()), x)
    assert not gradient.any()


@pytest.mark.parametrize("name", LOSSES)
def test_wrong_input_is_refused(name: str) -> None:
    loss = LOSSES[name][0]
    x = draw(2, 1, 4, 4)
    with pytest.raises(ValueError, match=r"output has shape \(2, 1, 4, 4\), target \(2, 3, 4, 4\)"):
        loss(x, draw(2, 3, 4, 4))
    with pytest.raises(ValueError, match=r"target is torch\.uint8; expected floating point"):
        loss(x, torch.zeros(2, 1, 4, 4, dtype=torch.uint8))
    with pytest.raises(ValueError, match="at least one value"):
        loss(x[:0], x[:0])


def test_half_sse_needs_a_batch() -> None:
    with pytest.raises(ValueError, match=r"\(1, 4, 4\); expected \(N, C, H, W\)"):
        pixel.half_sse(draw(1, 4, 4), draw(1, 4, 4))


@pytest.mark.parametrize("eps", [0.0, -1.0, float("nan"), float("inf")])
def test_charbonnier_needs_a_positive_eps(eps: float) -> None:
    with pytest.raises(ValueError, match="expected a positive number"):
        pixel.charbonnier(draw(1), draw(1), eps=eps)


def by_directions(x: np.ndarray) -> float:
    """Total variation with each direction's own count of differences."""
    total = 0.0
    for axis in (2, 3):
        steps = np.diff(x, axis=axis)
        total += float((steps**2).sum()) / steps.size
    return total


@pytest.mark.parametrize("shape", [(3, 2, 5, 7), (1, 1, 2, 2), (2, 3, 9, 2)])
def test_total_variation(shape: tuple[int, ...]) -> None:
    x = draw(*shape)
    found = float(pixel.total_variation(x))
    assert found == pytest.approx(by_directions(x.numpy()), rel=1e-12)
    assert found > 0
    assert float(pixel.total_variation(x + 0.5)) == pytest.approx(found, rel=1e-9)
    assert float(pixel.total_variation(2 * x)) == pytest.approx(4 * found, rel=1e-12)
    repeated = pixel.total_variation(x.repeat(2, 2, 1, 1))
    assert float(repeated) == pytest.approx(found, rel=1e-12)


def test_total_variation_of_a_flat_picture_is_nothing() -> None:
    assert float(pixel.total_variation(torch.full((2, 3, 4, 5), 0.7))) == 0


def test_total_variation_adds_directions_without_cancelling() -> None:
    """A ramp that rises to the right and falls downwards: eq. 18 to the letter would give 0."""
    ramp = torch.arange(6.0)[None, :] - torch.arange(6.0)[:, None]
    assert float(pixel.total_variation(ramp[None, None])) == 2


def test_total_variation_agrees_with_piq() -> None:
    """piq has the root of the sums of both; on a square picture the counts are the same."""
    x = draw(1, 3, 8, 8)
    theirs = float(piq.total_variation(x, norm_type="l2")) ** 2 / (3 * 8 * 7)
    assert float(pixel.total_variation(x)) == pytest.approx(theirs, rel=1e-12)


def test_total_variation_is_the_official_one(assets: Path) -> None:
    golden = np.load(assets / "weights/dped/golden_official_tf.npz")
    output = torch.from_numpy(golden["iphone_orig"]).permute(0, 3, 1, 2)
    assert float(golden["loss_tv"]) == pytest.approx(0.0014460315, rel=1e-7)
    assert float(pixel.total_variation(output)) == pytest.approx(0.0014460315, rel=1e-5)


def test_total_variation_of_a_photo() -> None:
    photo = torch.from_numpy(data.camera()).double()[None, None] / 255
    assert float(pixel.total_variation(photo)) == pytest.approx(0.00610541528, rel=1e-6)


def test_gradient_of_total_variation() -> None:
    assert torch.autograd.gradcheck(pixel.total_variation, (draw(2, 2, 3, 4).requires_grad_(),))


def test_total_variation_of_short_floats_is_taken_in_float32() -> None:
    x = draw(1, 3, 9, 9).bfloat16()
    assert torch.equal(pixel.total_variation(x), pixel.total_variation(x.float()))


def test_total_variation_refuses_other_input() -> None:
    with pytest.raises(ValueError, match=r"\(1, 4, 4\); expected \(N, C, H, W\)"):
        pixel.total_variation(draw(1, 4, 4))
    with pytest.raises(ValueError, match="expected at least 2 x 2 pixels"):
        pixel.total_variation(draw(1, 3, 1, 4))
    with pytest.raises(ValueError, match=r"output is torch\.uint8; expected floating point"):
        pixel.total_variation(torch.zeros(1, 3, 4, 4, dtype=torch.uint8))
