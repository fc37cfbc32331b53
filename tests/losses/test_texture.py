"""Local contrast normalisation and gradients: windows, borders, both deviations, flat pictures."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage
from skimage import data
from torch import Tensor
from torch.nn import functional as F
from torchmetrics.functional.image import image_gradients

from enhancelib import images
from enhancelib.losses import pixel, texture

# camera against itself moved by one pixel
PINNED = {"lcn": 0.549265612, "gradient": 0.0672777939, "texture": 0.616543406}
Loss = Callable[..., Tensor]
LOSSES: dict[str, Loss] = {
    "lcn": texture.lcn,
    "gradient": texture.gradient,
    "texture": texture.texture,
}


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def patches(assets: Path, camera: str) -> Tensor:
    folder = assets / "data/dped/patches" / camera
    return torch.stack([images.read(folder / f"{k}.jpg") for k in range(100)])


def features(x: Tensor) -> Tensor:
    """A small fixed network of one convolution, in the place of a VGG."""
    weight = draw(4, 3, 3, 3, seed=9).to(x) - 0.5
    return F.relu(F.conv2d(x, weight, padding=1))


@pytest.mark.parametrize("sigma", ["mean", "sum"])
@pytest.mark.parametrize(("P", "Q"), [(3, 3), (1, 2), (0, 1)])
@pytest.mark.parametrize("C", [1 / 255, 0.5])
def test_local_contrast_by_windows(sigma: str, P: int, Q: int, C: float) -> None:
    """Window by window in NumPy, with the picture mirrored about its border pixels."""
    x = draw(2, 2, 7, 9)
    found = texture.local_contrast(x, P=P, Q=Q, C=C, sigma=sigma)
    for b in range(2):
        for c in range(2):
            mirrored = np.pad(x[b, c].numpy(), ((P, P), (Q, Q)), mode="reflect")
            for i in range(7):
                for j in range(9):
                    window = mirrored[i : i + 2 * P + 1, j : j + 2 * Q + 1]
                    squares = (window - window.mean()) ** 2
                    spread = math.sqrt(squares.mean() if sigma == "mean" else squares.sum())
                    wanted = (float(x[b, c, i, j]) - window.mean()) / (spread + C)
                    assert float(found[b, c, i, j]) == pytest.approx(wanted, rel=1e-9, abs=1e-12)


def test_local_contrast_by_an_independent_filter() -> None:
    photo = data.camera() / 255
    mean = ndimage.uniform_filter(photo, 7, mode="mirror")
    variance = ndimage.uniform_filter(photo**2, 7, mode="mirror") - mean**2
    wanted = (photo - mean) / (np.sqrt(np.maximum(variance, 0)) + 1 / 255)
    found = texture.local_contrast(torch.from_numpy(photo)[None, None])[0, 0]
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-6)


def test_defaults_are_seven_by_seven_and_one_grey_level() -> None:
    x = draw(1, 3, 11, 12)
    explicit = texture.local_contrast(x, P=3, Q=3, C=1 / 255, sigma="mean")
    assert torch.equal(texture.local_contrast(x), explicit)


def test_the_printed_sum_is_seven_times_smaller() -> None:
    x = draw(1, 1, 20, 20)
    mean, total = (texture.local_contrast(x, C=1e-9, sigma=s) for s in ("mean", "sum"))
    torch.testing.assert_close(mean, 7 * total, rtol=1e-6, atol=1e-9)


def test_normalised_photos_are_in_the_range_of_a_vgg() -> None:
    photo = torch.from_numpy(data.astronaut()).permute(2, 0, 1)[None] / 255
    found = texture.local_contrast(photo)
    assert abs(float(found.mean())) < 0.05
    assert 0.5 < float(found.std()) < 0.7


def test_local_contrast_is_blind_to_brightness_and_nearly_to_contrast() -> None:
    x = draw(1, 3, 16, 16)
    once = texture.local_contrast(x)
    torch.testing.assert_close(texture.local_contrast(x + 0.3), once)
    # a pixel deviates by at most 7 deviations of its 49, and C is at most 8 % of the deviation
    torch.testing.assert_close(texture.local_contrast(0.5 * x), once, rtol=0.1, atol=0.01)
    scaled = texture.local_contrast(0.5 * x, C=0.5 / 255)
    torch.testing.assert_close(scaled, once)


@pytest.mark.parametrize("value", [0.0, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_flat_pictures_stay_flat_with_finite_gradients(value: float, dtype: torch.dtype) -> None:
    x = torch.full((1, 3, 9, 10), value, dtype=dtype, requires_grad=True)
    found = texture.local_contrast(x)
    assert float(found.detach().abs().max()) < 1e-10
    y = draw(1, 3, 9, 10).to(dtype)
    (gradient,) = torch.autograd.grad(texture.lcn(x, y), x)
    assert bool(gradient.isfinite().all())
    assert float(gradient.abs().max()) < 1e3


def test_flat_regions_are_exact_in_float32() -> None:
    """A bright sky: deviations far below one level, where float32 moments would be noise."""
    noise = 1e-4 * (draw(1, 1, 24, 24) - 0.5)
    x = (0.9 + noise).float()
    torch.testing.assert_close(
        texture.local_contrast(x), texture.local_contrast(x.double()).float(), rtol=1e-5, atol=1e-7
    )


def test_the_picture_for_a_vgg_comes_back_after_its_preparation() -> None:
    x = draw(2, 3, 4, 5) * 6 - 3
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    prepared = (texture.vgg_picture(x) - mean.view(3, 1, 1)) / deviation.view(3, 1, 1)
    torch.testing.assert_close(prepared, x, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_equal_pictures_cost_nothing(name: str) -> None:
    x, y = draw(2, 3, 8, 9), draw(2, 3, 8, 9, seed=1)
    assert float(LOSSES[name](x, x)) == 0
    assert float(LOSSES[name](x, y)) > 0
    assert float(LOSSES[name](x, y)) == pytest.approx(float(LOSSES[name](y, x)), rel=1e-12)


@pytest.mark.parametrize("name", LOSSES)
def test_it_averages_over_batch_and_channels(name: str) -> None:
    x, y = draw(2, 3, 8, 9), draw(2, 3, 8, 9, seed=1)
    once = LOSSES[name](x, y)
    torch.testing.assert_close(LOSSES[name](x.repeat(3, 1, 1, 1), y.repeat(3, 1, 1, 1)), once)
    torch.testing.assert_close(LOSSES[name](x.repeat(1, 2, 1, 1), y.repeat(1, 2, 1, 1)), once)


@pytest.mark.parametrize("name", LOSSES)
def test_gradient_of_the_loss(name: str) -> None:
    x, y = draw(1, 2, 5, 4).requires_grad_(), draw(1, 2, 5, 4, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(LOSSES[name], (x, y))


@pytest.mark.parametrize("loss", [texture.lcn, texture.texture])
def test_gradient_through_features(loss: Loss) -> None:
    x, y = draw(1, 3, 4, 5).requires_grad_(), draw(1, 3, 4, 5, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: loss(a, b, phi=features), (x, y))


@pytest.mark.parametrize("sigma", ["mean", "sum"])
def test_gradient_of_local_contrast(sigma: str) -> None:
    x = draw(1, 1, 4, 5).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda one: texture.local_contrast(one, P=1, Q=2, sigma=sigma), (x,)
    )


@pytest.mark.parametrize("name", LOSSES)
def test_value_on_a_photo(name: str) -> None:
    photo = torch.from_numpy(data.camera()).double()[None, None] / 255
    value = LOSSES[name](photo[..., 1:], photo[..., :-1])
    assert float(value) == pytest.approx(PINNED[name], rel=1e-5)


@pytest.mark.parametrize("shape", [(2, 3, 8, 9), (1, 1, 2, 2), (1, 2, 2, 7)])
def test_gradient_by_hand_and_by_torchmetrics(shape: tuple[int, ...]) -> None:
    x, y = draw(*shape), draw(*shape, seed=1)
    wanted = 0.0
    for axis in (2, 3):
        steps = np.abs(np.diff(x.numpy(), axis=axis) - np.diff(y.numpy(), axis=axis))
        wanted += float(steps.sum() / steps.size)
    assert float(texture.gradient(x, y)) == pytest.approx(wanted, rel=1e-12)
    dy, dx = image_gradients(x - y)  # zero in the last row and column
    other = dy[:, :, :-1].abs().mean() + dx[..., :-1].abs().mean()
    assert float(texture.gradient(x, y)) == pytest.approx(float(other), rel=1e-12)


def test_lcn_in_pixels_and_in_features() -> None:
    x, y = draw(2, 3, 8, 9), draw(2, 3, 8, 9, seed=1)
    a, b = texture.local_contrast(x), texture.local_contrast(y)
    assert float(texture.lcn(x, y)) == pytest.approx(float(((a - b) ** 2).mean()), rel=1e-12)
    seen = [features(texture.vgg_picture(one)) for one in (a, b)]
    wanted = float(((seen[0] - seen[1]) ** 2).mean())
    assert float(texture.lcn(x, y, phi=features)) == pytest.approx(wanted, rel=1e-12)
    assert wanted != pytest.approx(float(texture.lcn(x, y)), rel=0.01)
    total = wanted + float(texture.gradient(x, y))
    assert float(texture.texture(x, y, phi=features)) == pytest.approx(total, rel=1e-12)


def test_options_of_lcn_reach_the_window() -> None:
    x, y = draw(1, 1, 8, 9), draw(1, 1, 8, 9, seed=1)
    for P, Q, C, sigma in ((1, 3, 0.1, "mean"), (3, 1, 0.1, "sum")):
        a, b = (texture.local_contrast(one, P=P, Q=Q, C=C, sigma=sigma) for one in (x, y))
        found = texture.lcn(x, y, P=P, Q=Q, C=C, sigma=sigma)
        torch.testing.assert_close(found, pixel.mse(a, b))


def test_magnitudes_on_real_pairs(assets: Path) -> None:
    """Specification, section 4: the first 100 iPhone patches as they are, against Canon's."""
    x, y = patches(assets, "iphone"), patches(assets, "canon")
    assert float(texture.gradient(x, y)) == pytest.approx(0.0383, abs=5e-5)
    assert float(texture.lcn(x, y)) == pytest.approx(0.425, abs=5e-4)
    assert float(texture.lcn(x, y, sigma="sum")) == pytest.approx(0.0149, abs=5e-5)
    assert float(pixel.half_sse(x, y)) == pytest.approx(578, abs=0.5)
    assert float(pixel.total_variation(y)) == pytest.approx(0.00462, abs=5e-6)
    assert float(pixel.total_variation(x)) == pytest.approx(0.00141, abs=5e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", LOSSES)
def test_short_floats_are_widened(name: str, dtype: torch.dtype) -> None:
    x, y = draw(1, 3, 9, 9).to(dtype), draw(1, 3, 9, 9, seed=1).to(dtype)
    torch.testing.assert_close(LOSSES[name](x, y), LOSSES[name](x.float(), y.float()))


@pytest.mark.parametrize("name", LOSSES)
def test_wrong_input_is_refused(name: str) -> None:
    x = draw(2, 3, 8, 8)
    with pytest.raises(ValueError, match=r"output has shape \(2, 3, 8, 8\), target \(2, 1, 8, 8\)"):
        LOSSES[name](x, x[:, :1])
    with pytest.raises(ValueError, match=r"target is torch\.uint8; expected floating point"):
        LOSSES[name](x, x.byte())
    with pytest.raises(ValueError, match=r"\(3, 8, 8\); expected \(N, C, H, W\)"):
        LOSSES[name](x[0], x[0])
    with pytest.raises(ValueError, match="expected at least"):
        LOSSES[name](x[..., :1], x[..., :1])


def test_wrong_windows_are_refused() -> None:
    x = draw(1, 3, 8, 3)
    with pytest.raises(ValueError, match="expected at least 4 x 4 pixels"):
        texture.local_contrast(x)
    assert texture.local_contrast(x, Q=2).shape == x.shape  # mirrored about the border pixel
    with pytest.raises(ValueError, match="expected at least 4 x 2 pixels"):
        texture.local_contrast(x[:, :, :3], Q=1)
    with pytest.raises(ValueError, match="P, Q are -1, 3; expected 0 or more"):
        texture.local_contrast(x, P=-1)
    for C in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="expected a positive number"):
            texture.local_contrast(x, Q=1, C=C)
    with pytest.raises(ValueError, match="sigma is 'max'; expected 'mean' or 'sum'"):
        texture.local_contrast(x, Q=1, sigma="max")
    with pytest.raises(ValueError, match="expected 3 channels"):
        texture.vgg_picture(x[:, :1])
