"""T of Eq. 6: the Lanczos kernel against the official's arithmetic, and what masks leave."""

from __future__ import annotations

import math

import numpy as np
import pytest
import skimage.data
import torch
from numpy.typing import NDArray
from torch import Tensor

from enhancelib.images import from_array
from enhancelib.papers.dilie.transforms import (
    kept_at_random,
    lanczos2,
    without_box,
    without_text,
)

CAT = from_array(skimage.data.chelsea())[None, :, 60:124, 100:196]
Array = NDArray[np.float64]


def kernel(factor: int) -> Array:
    """The two-dimensional kernel, entry by entry, centred between pixels (even factors)."""
    side = 4 * factor
    table = np.empty((side, side))
    for i in range(side):
        for j in range(side):
            value = 1.0
            for place in (i, j):
                d = abs(place + 0.5 - side / 2) / factor
                value *= 2 * math.sin(math.pi * d) * math.sin(math.pi * d / 2) / (math.pi * d) ** 2
            table[i, j] = value
    return table / table.sum()


def shrunk(plane: Array, factor: int) -> Array:
    """One channel: pad by 3 f / 2 with the edge pixel, correlate, keep every f-th place."""
    table, pad = kernel(factor), 3 * factor // 2
    padded = np.pad(plane, pad, mode="edge")
    found = np.empty((plane.shape[0] // factor, plane.shape[1] // factor))
    for i in range(found.shape[0]):
        for j in range(found.shape[1]):
            window = padded[
                i * factor : i * factor + 4 * factor, j * factor : j * factor + 4 * factor
            ]
            found[i, j] = (window * table).sum()
    return found


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_lanczos_is_the_official_kernel(factor: int) -> None:
    ours = lanczos2(CAT.double(), factor)
    theirs = np.stack([shrunk(plane, factor) for plane in CAT[0].double().numpy()])
    np.testing.assert_allclose(ours[0].numpy(), theirs, rtol=0, atol=1e-12)


def test_lanczos_has_a_pinned_value() -> None:
    """A white pixel at row 3, column 4 of black, factor 2: from the formula by hand.

    Output (1, 2) has its centre at (2.5, 4.5), so both distances are 0.25 output pixels.
    """
    image = torch.zeros(1, 1, 8, 12, dtype=torch.float64)
    image[0, 0, 3, 4] = 1

    def L(d: float) -> float:
        return 2 * math.sin(math.pi * d) * math.sin(math.pi * d / 2) / (math.pi * d) ** 2

    one = L(0.25) / (2 * sum(L(0.25 + k / 2) for k in range(4)))
    assert float(lanczos2(image, 2)[0, 0, 1, 2]) == pytest.approx(one**2, abs=1e-12)
    assert one == pytest.approx(0.434303, abs=1e-6)


@pytest.mark.parametrize("factor", [2, 3, 4, 5, 8])
def test_lanczos_keeps_the_grid_and_the_mean(factor: int) -> None:
    """A ramp stays a ramp at the centres of the output pixels, so nothing is shifted."""
    ramp = torch.arange(120, dtype=torch.float64).expand(1, 1, 120, 120)
    found = lanczos2(ramp, factor)[0, 0, 0]
    centres = torch.arange(120 // factor) * factor + (factor - 1) / 2
    inner = slice(2, -2)
    # Lanczos' kernel does not reproduce a ramp exactly between its nodes; by symmetry it does at
    # its own centre
    torch.testing.assert_close(found[inner], centres.double()[inner], rtol=0, atol=1e-9)


def test_lanczos_passes_gradients() -> None:
    x = torch.rand(1, 2, 4, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda image: lanczos2(image, 2), (x,))


def test_lanczos_aliases_less_than_taking_every_second_pixel() -> None:
    board = (torch.arange(32) % 2).float().expand(1, 1, 32, 32)
    inner = lanczos2(board, 2)[..., 2:-2]
    assert float((inner - 0.5).abs().max()) < 1e-6


@pytest.mark.parametrize(
    ("image", "factor", "said"),
    [
        (torch.zeros(3, 8, 8), 2, r"image is \(3, 8, 8\) of torch.float32; expected \(B, C"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), 2, "expected .* floating point"),
        (torch.zeros(1, 3, 8, 8), 1, "factor is 1; expected a whole number of 2 or more"),
        (torch.zeros(1, 3, 8, 9), 2, "factor 2 does not divide a picture of 8 x 9"),
    ],
)
def test_lanczos_refuses(image: Tensor, factor: int, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        lanczos2(image, factor)


def test_random_masks_remove_the_share_asked_for() -> None:
    for removed in (0.0, 0.5, 0.98):
        mask = kept_at_random(200, 300, removed, torch.Generator().manual_seed(1))
        spread = math.sqrt(removed * (1 - removed) / 60_000)
        assert abs(float(mask.mean()) - (1 - removed)) <= 5 * spread
    channels = kept_at_random(64, 64, 0.5, torch.Generator().manual_seed(1), channels=3)
    assert channels.shape == (3, 64, 64)
    assert not torch.equal(channels[0], channels[1])


def test_random_masks_follow_their_generator() -> None:
    first, again, other = (
        kept_at_random(16, 16, 0.5, torch.Generator().manual_seed(seed)) for seed in (3, 3, 4)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_mask_that_keeps_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="left none"):
        kept_at_random(2, 2, 0.999999, torch.Generator().manual_seed(0))


def test_a_box_hole_has_its_area() -> None:
    mask = without_box(40, 30, box=(5, 6, 25, 16))
    assert float((1 - mask).sum()) == 20 * 10
    assert not mask[:, 5:25, 6:16].any()


@pytest.mark.parametrize("box", [(0, 0, 8, 9), (3, 3, 3, 5), (-1, 0, 2, 2), (0, 0, 9, 2)])
def test_a_box_outside_or_empty_is_refused(box: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match="box is"):
        without_box(8, 9, box=box)


def test_text_covers_the_whole_picture() -> None:
    mask = without_text(256, 320, "lorem ipsum", size=20)
    holes = 1 - mask[0]
    for part in (holes[:128], holes[128:], holes[:, :160], holes[:, 160:]):
        assert 0.03 < float(part.mean()) < 0.4
