"""CIEDE2000 and CIE L*a*b* against scikit-image and the pairs that the formula's authors print."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage import color, data
from torch import Tensor

from enhancelib import cielab

# Sharma et al. 2005, table 1: L*, a*, b* twice, and the difference
PUBLISHED = (
    (50, 2.6772, -79.7751, 50, 0, -82.7485, 2.0425),
    (50, 3.1571, -77.2803, 50, 0, -82.7485, 2.8615),
    (50, 2.8361, -74.0200, 50, 0, -82.7485, 3.4412),
    (50, -1.3802, -84.2814, 50, 0, -82.7485, 1.0000),
    (50, 0, 0, 50, -1, 2, 2.3669),
    (50, -1, 2, 50, 0, 0, 2.3669),
    (50, 2.4900, -0.0010, 50, -2.4900, 0.0009, 7.1792),
    (50, 2.4900, -0.0010, 50, -2.4900, 0.0011, 7.2195),
    (50, 2.5, 0, 50, 0, -2.5, 4.3065),
    (50, 2.5, 0, 73, 25, -18, 27.1492),
    (50, 2.5, 0, 61, -5, 29, 22.8977),
    (60.2574, -34.0099, 36.2677, 60.4626, -34.1751, 39.4387, 1.2644),
    (2.0776, 0.0795, -1.1350, 0.9033, -0.0636, -0.5514, 0.9082),
)


def tensor(picture: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(picture)).double().permute(2, 0, 1)[None]


def pictures() -> list[np.ndarray]:
    """Photos, every corner of the cube, and greys that have no hue."""
    found = [getattr(data, name)()[100:180, 120:210] / 255 for name in ("astronaut", "coffee")]
    corners = np.array(np.meshgrid([0.0, 0.5, 1.0], [0.0, 1.0], [0.0, 0.04, 1.0])).reshape(3, -1)
    grid = np.resize(corners.T, (80 * 90, 3)).reshape(80, 90, 3)
    noise = np.random.default_rng(0).random((80, 90, 3))
    return [*found, grid, noise, np.repeat(noise[..., :1], 3, axis=2)]


@pytest.mark.parametrize("row", PUBLISHED)
def test_the_authors_pairs(row: tuple[float, ...]) -> None:
    x, y = (
        torch.tensor(part, dtype=torch.float64).view(1, 3, 1, 1) for part in (row[:3], row[3:6])
    )
    assert float(cielab.difference(x, y)) == pytest.approx(row[6], abs=5e-5)


@pytest.mark.parametrize("shift", range(1, 5))
def test_pictures_agree_with_scikit_image(shift: int) -> None:
    found = pictures()
    for x, y in zip(found, found[shift:] + found[:shift], strict=True):
        theirs = color.deltaE_ciede2000(color.rgb2lab(y), color.rgb2lab(x))
        ours = cielab.difference(cielab.from_rgb(tensor(x)), cielab.from_rgb(tensor(y)))
        np.testing.assert_allclose(ours[0].numpy(), theirs, atol=1e-6, rtol=1e-9)
        mean = cielab.ciede2000(tensor(x), tensor(y))
        assert mean.tolist() == pytest.approx([theirs.mean()], abs=1e-7)
        single = cielab.ciede2000(tensor(x)[0].float(), tensor(y)[0].float())
        assert single.dtype == torch.float32
        assert float(single) == pytest.approx(theirs.mean(), abs=1e-4)


def test_lab_agrees_with_scikit_image() -> None:
    for picture in pictures():
        theirs = color.rgb2lab(picture).transpose(2, 0, 1)
        np.testing.assert_allclose(cielab.from_rgb(tensor(picture))[0], theirs, atol=1e-6, rtol=0)


def test_gradients_are_finite_on_equal_and_on_grey_pixels() -> None:
    y = tensor(pictures()[0])
    grey = y.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    for x in (y, grey, torch.zeros_like(y), torch.ones_like(y)):
        moved = x.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(cielab.ciede2000(moved, y).sum(), moved)
        assert bool(gradient.isfinite().all())


def test_gradients_are_those_of_the_formula() -> None:
    draw = torch.Generator().manual_seed(0)
    x, y = (torch.rand(1, 3, 3, 4, generator=draw, dtype=torch.float64) for _ in range(2))
    x.requires_grad_()
    assert torch.autograd.gradcheck(cielab.ciede2000, (x, y), atol=1e-4)


def test_wrong_shapes_are_refused() -> None:
    x = torch.zeros(1, 3, 4, 4)
    with pytest.raises(ValueError, match="expected one shape"):
        cielab.ciede2000(x, x[..., :2])
    with pytest.raises(ValueError, match="defined on RGB"):
        cielab.ciede2000(x[:, :1], x[:, :1])
    with pytest.raises(ValueError, match=r"expected \(B, 3, H, W\) twice"):
        cielab.difference(x, x[:, :, :2])
