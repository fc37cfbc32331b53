"""Smooth local affine maps against loops, and what the edge measure notices."""

from __future__ import annotations

import math

import numpy as np
import pytest
import skimage.data
import torch
from numpy.typing import NDArray
from torch import Tensor

from enhancelib.images import from_array
from enhancelib.papers.dilie import affine

Array = NDArray[np.float64]
COFFEE = from_array(skimage.data.coffee())


def around(y: int, x: int, radius: int, height: int, width: int) -> list[tuple[int, int]]:
    rows = range(max(0, y - radius), min(height, y + radius + 1))
    columns = range(max(0, x - radius), min(width, x + radius + 1))
    return [(i, j) for i in rows for j in columns]


def literal(
    output: Array, guide: Array, window: int, ridge: float, radius: int, edge: float
) -> Array:
    """Pixel by pixel, as the CUDA kernels of Deep Photo Style Transfer."""
    _, height, width = guide.shape
    models = np.zeros((height, width, 3, 4))
    for y in range(height):
        for x in range(width):
            left, right = np.diag([ridge, ridge, ridge, 0.0]), np.zeros((4, 3))
            for i, j in around(y, x, window // 2, height, width):
                colour = np.append(guide[:, i, j], 1.0)
                left += np.outer(colour, colour)
                right += np.outer(colour, output[:, i, j])
            models[y, x] = np.linalg.solve(left, right).T
    found = np.zeros_like(guide)
    for y in range(height):
        for x in range(width):
            total, weights = np.zeros((3, 4)), 0.0
            for i, j in around(y, x, radius, height, width):
                gap = float(((guide[:, i, j] - guide[:, y, x]) ** 2).mean())
                far = ((i - y) ** 2 + (j - x) ** 2) / (2 * (radius / 3) ** 2)
                weight = math.exp(-far) * math.exp(-gap / (2 * edge**2))
                total, weights = total + weight * models[i, j], weights + weight
            found[:, y, x] = total / weights @ np.append(guide[:, y, x], 1.0)
    return found


@pytest.mark.parametrize(("window", "radius", "edge"), [(3, 4, 0.05), (5, 15, 0.01), (3, 1, 0.3)])
def test_it_is_the_official_kernels_in_loops(window: int, radius: int, edge: float) -> None:
    guide = COFFEE[:, 100:113, 200:210].double()
    output = guide.flip(0) ** 0.7 + 0.1 * torch.linspace(0, 1, 10)
    found = affine.smooth_local_affine(
        output, guide, window=window, ridge=1e-3, radius=radius, edge=edge
    )
    expected = literal(output.numpy(), guide.numpy(), window, 1e-3, radius, edge)
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-12)


def test_its_defaults_are_those_of_the_batch_script() -> None:
    guide = COFFEE[:, 100:120, 200:220].double()
    output = guide.flip(0)
    expected = affine.smooth_local_affine(output, guide, window=3, ridge=1e-3, radius=15, edge=0.01)
    assert torch.equal(affine.smooth_local_affine(output, guide), expected)


def test_one_colour_map_for_the_whole_picture_comes_back() -> None:
    guide = COFFEE[None, :, 100:140, 200:240]
    turned = torch.einsum(
        "kc,bchw->bkhw", torch.tensor([[0.5, 0.2, 0], [0, 0.9, 0], [0.1, 0, 0.4]]), guide
    )
    found = affine.smooth_local_affine(turned + 0.1, guide, ridge=1e-8)
    assert torch.allclose(found, turned + 0.1, atol=1e-3)


def test_texture_that_the_guide_lacks_goes() -> None:
    """A checkerboard on a flat guide is no affine function of it."""
    guide = torch.full((3, 24, 24), 0.5)
    board = (torch.arange(24)[:, None] + torch.arange(24)) % 2
    found = affine.smooth_local_affine(0.5 + 0.2 * board.expand(3, -1, -1).float(), guide)
    assert float(found[:, 4:-4, 4:-4].std()) < 0.01


def test_edges_are_measured_in_luma_by_sobel() -> None:
    picture = torch.zeros(1, 3, 16, 16)
    picture[..., 8:] = 1.0
    edges = affine._edges(picture)
    assert edges.shape == (1, 1, 14, 14)
    assert edges[0, 0, 5].round(decimals=5).tolist() == [0.0] * 6 + [4.0, 4.0] + [0.0] * 6


def test_edge_similarity_falls_with_noise_and_bears_a_colour_cast() -> None:
    photo = COFFEE[None, :, 100:196, 200:328]
    noise = torch.randn(photo.shape, generator=torch.Generator().manual_seed(0))
    cast = photo * torch.tensor([0.9, 1.0, 0.9])[:, None, None]

    def score(x: Tensor) -> float:
        return float(affine.edge_similarity(x.clamp(0, 1), photo))

    assert score(photo) == pytest.approx(1.0)
    assert score(cast) > 0.99 > 0.9 > score(photo + 0.05 * noise) > score(photo + 0.2 * noise)


@pytest.mark.parametrize(
    "options", [{"window": 2}, {"window": -1}, {"ridge": 0.0}, {"radius": 0}, {"edge": 0.0}]
)
def test_what_makes_no_filter_is_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="expected an odd window of 1 or more, and positive"):
        affine.smooth_local_affine(COFFEE, COFFEE, **options)  # type: ignore[arg-type]
