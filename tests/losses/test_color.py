"""DPED's colour loss: its two kernels, the official blur, and what it forgives."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage, stats
from skimage import data
from torch import Tensor

from enhancelib import images
from enhancelib.losses import color, pixel

KINDS = ("code", "paper")
# chelsea against itself moved by one pixel, 300 x 450 pixels
PINNED = {"code": 10.6283126, "paper": 34.7244037}


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def chelsea() -> Tensor:
    return torch.from_numpy(data.chelsea()).permute(2, 0, 1)[None].double() / 255


def patches(assets: Path, camera: str, count: int = 100) -> Tensor:
    folder = assets / "data/dped/patches" / camera
    return torch.stack([images.read(folder / f"{k}.jpg") for k in range(count)])


def code_kernel() -> np.ndarray:
    """The released code's recipe: 21 bins of the normal density up to 3 + 1/6 deviations."""
    edges = np.linspace(-3 - 1 / 6, 3 + 1 / 6, 22)
    line = np.diff(stats.norm.cdf(edges))
    raw = np.sqrt(np.outer(line, line))
    return raw / raw.sum()


def paper_kernel() -> np.ndarray:
    """The printed formula with its s = 3 as a variance."""
    wanted = np.zeros((21, 21))
    for m in range(-10, 11):
        for n in range(-10, 11):
            wanted[m + 10, n + 10] = 0.053 * math.exp(-m * m / (2 * 3) - n * n / (2 * 3))
    return wanted


WANTED = {"code": code_kernel, "paper": paper_kernel}


@pytest.mark.parametrize("kind", KINDS)
def test_kernel(kind: str) -> None:
    np.testing.assert_allclose(color.gaussian_kernel(kind), WANTED[kind](), rtol=1e-12, atol=1e-15)


def test_the_printed_features_of_the_kernels() -> None:
    code, paper = color.gaussian_kernel("code"), color.gaussian_kernel("paper")
    m = torch.arange(-10, 11, dtype=torch.float64)
    for kernel, deviation in ((code, 4.34), (paper, math.sqrt(3))):
        line = kernel.sum(dim=0)
        assert float((line * m**2).sum() / line.sum()) ** 0.5 == pytest.approx(deviation, rel=1e-3)
        torch.testing.assert_close(kernel, kernel.T, rtol=1e-12, atol=0)
        torch.testing.assert_close(kernel, kernel.flip(0), rtol=1e-9, atol=0)
    assert float(code.sum()) == pytest.approx(1, abs=1e-14)
    assert float(code[10, 10]) == pytest.approx(0.00756, abs=5e-6)
    assert float(code[0, 10]) == pytest.approx(0.00079, abs=5e-6)
    # A = 0.053 is the area-preserving factor of a Gaussian of variance 3, not of deviation 3
    assert float(paper.sum()) == pytest.approx(0.053 * 2 * math.pi * 3, rel=1e-6)
    assert abs(float(paper.sum()) - 1) < 1e-3


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(1, 1), (5, 40), (33, 12)])
def test_blur_is_a_convolution_with_zeros_outside(kind: str, size: tuple[int, int]) -> None:
    x = draw(2, 3, *size)
    found = color.blur(x, kernel=kind)
    for b in range(2):
        for c in range(3):
            wanted = ndimage.convolve(x[b, c].numpy(), WANTED[kind](), mode="constant")
            np.testing.assert_allclose(found[b, c], wanted, rtol=0, atol=1e-14)


def test_blur_is_the_official_one(assets: Path) -> None:
    golden = np.load(assets / "weights/dped/golden_official_tf.npz")
    output, wanted = (
        torch.from_numpy(golden[key]).permute(0, 3, 1, 2) for key in ("iphone_orig", "blur_iphone")
    )
    torch.testing.assert_close(color.blur(output), wanted, rtol=0, atol=2e-6)


def test_the_loss_is_the_official_one(assets: Path) -> None:
    golden = np.load(assets / "weights/dped/golden_official_tf.npz")
    output = torch.from_numpy(golden["iphone_orig"]).permute(0, 3, 1, 2)
    target = torch.from_numpy(golden["target_u8"]).permute(0, 3, 1, 2) / 255
    assert float(golden["loss_color"]) == pytest.approx(127.97368, abs=1e-5)
    assert float(color.blurred(output, target)) == pytest.approx(127.97368, rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_formula(kind: str) -> None:
    x, y = draw(3, 2, 12, 17), draw(3, 2, 12, 17, seed=1)
    wanted = 0.0
    for b in range(3):
        for c in range(2):
            blurred = [
                ndimage.convolve(one[b, c].numpy(), WANTED[kind](), mode="constant")
                for one in (x, y)
            ]
            wanted += float(((blurred[0] - blurred[1]) ** 2).sum()) / (2 * 3)
    assert float(color.blurred(x, y, kernel=kind)) == pytest.approx(wanted, rel=1e-12)
    assert float(color.blurred(y, x, kernel=kind)) == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_equal_pictures_cost_nothing_and_others_more(kind: str) -> None:
    x = draw(2, 3, 8, 9)
    assert float(color.blurred(x, x, kernel=kind)) == 0
    assert float(color.blurred(x, x + 0.1, kernel=kind)) > 0


def test_it_averages_over_the_batch_and_sums_over_pixels() -> None:
    x, y = draw(2, 3, 8, 8), draw(2, 3, 8, 8, seed=1)
    once = color.blurred(x, y)
    torch.testing.assert_close(color.blurred(x.repeat(3, 1, 1, 1), y.repeat(3, 1, 1, 1)), once)
    torch.testing.assert_close(color.blurred(x.repeat(1, 2, 1, 1), y.repeat(1, 2, 1, 1)), 2 * once)


@pytest.mark.parametrize("kind", KINDS)
def test_gradient(kind: str) -> None:
    x, y = draw(2, 1, 3, 4).requires_grad_(), draw(2, 1, 3, 4, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: color.blurred(a, b, kernel=kind), (x, y))


@pytest.mark.parametrize("kind", KINDS)
def test_value_on_a_photo(kind: str) -> None:
    photo = chelsea()
    value = color.blurred(photo[..., 1:], photo[..., :-1], kernel=kind)
    assert float(value) == pytest.approx(PINNED[kind], rel=1e-5)


@pytest.mark.parametrize(
    ("shift", "plain", "code", "paper"),
    [
        (2, 0.00676, 0.00047, 0.00174),
        (4, 0.01432, 0.00184, 0.00591),
        (6, 0.02014, 0.00396, 0.01072),
        (8, 0.02506, 0.00663, 0.01533),
        (10, 0.02963, 0.00963, 0.01961),
    ],
)
def test_it_forgives_a_shift(
    assets: Path, shift: int, plain: float, code: float, paper: float
) -> None:
    """The table of the specification: mean squares on the 60 x 60 core that no border reaches."""
    y = patches(assets, "canon")

    def cost(image: Tensor) -> float:
        core = image[..., 20:80, 20:80]
        return float(pixel.mse(image[..., 20:80, 20 - shift : 80 - shift], core))

    found = [cost(y), cost(color.blur(y, kernel="code")), cost(color.blur(y, kernel="paper"))]
    assert found == pytest.approx([plain, code, paper], rel=0.02)
    assert found[0] / found[1] > (10 if shift == 2 else 2.5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_short_floats_are_widened(dtype: torch.dtype) -> None:
    x, y = draw(2, 3, 9, 9).to(dtype), draw(2, 3, 9, 9, seed=1).to(dtype)
    torch.testing.assert_close(color.blurred(x, y), color.blurred(x.float(), y.float()))
    assert torch.equal(color.blur(x), color.blur(x.float()))


def test_autocast_does_not_shorten_it() -> None:
    x, y = draw(2, 3, 9, 9).float(), draw(2, 3, 9, 9, seed=1).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = color.blurred(x, y)
    assert torch.equal(found, color.blurred(x, y))


def test_wrong_input_is_refused() -> None:
    x = draw(2, 1, 4, 4)
    with pytest.raises(ValueError, match=r"output has shape \(2, 1, 4, 4\), target \(2, 3, 4, 4\)"):
        color.blurred(x, draw(2, 3, 4, 4))
    with pytest.raises(ValueError, match=r"target is torch\.uint8; expected floating point"):
        color.blurred(x, torch.zeros(2, 1, 4, 4, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"image has shape \(4, 4\); expected \(N, C, H, W\)"):
        color.blur(x[0, 0])
    with pytest.raises(ValueError, match="at least one value"):
        color.blurred(x[:0], x[:0])
    with pytest.raises(ValueError, match="kernel is 'gauss'; expected 'code' or 'paper'"):
        color.blurred(x, x, kernel="gauss")
