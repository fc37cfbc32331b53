"""GridNet: the counts that tell its composition, its wiring, its tiles."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from enhancelib import photos
from enhancelib.images import tiled
from enhancelib.models.accounting import parameters
from enhancelib.models.gridnet import GridNet


def draw(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def photo(height: int, width: int) -> Tensor:
    return photos.load("coffee")[None, :, 60 : 60 + height, 150 : 150 + width]


# prad.md 3.1
@pytest.mark.parametrize(
    ("rows", "widths", "published"),
    [(3, (32, 64, 96), 2_242_403), (5, (16, 32, 64, 128, 256), 13_173_043)],
)
def test_parameter_counts(rows: int, widths: tuple[int, ...], published: int) -> None:
    assert parameters(GridNet(rows, 6, widths=widths)) == published


@torch.no_grad()
def test_a_stream_is_added_to_what_it_meets() -> None:
    """2 x 2 by hand: one step down, one along each row, one up."""
    network, x = GridNet(2, 2, widths=(3, 5), norm="none", generator=draw()), photo(12, 10)
    top = network.first(x)
    below = network.down[0][0](top)  # type: ignore[index]
    top, below = (
        top + network.along[0][0](top),  # type: ignore[index]
        below + network.along[0][1](below),  # type: ignore[index]
    )
    up = nn.functional.interpolate(network.up[0][0](below), (12, 10), mode="bilinear")  # type: ignore[index]
    expected = torch.tanh(network.last[0](top + up)) * 0.58 + 0.5  # type: ignore[operator]
    torch.testing.assert_close(network(x), expected)


def test_blocks_are_pre_activated() -> None:
    block = GridNet().along[0][0]  # type: ignore[index]
    kinds = [type(layer).__name__ for layer in block]  # type: ignore[union-attr]
    assert kinds == ["InstanceNorm2d", "ReLU", "Conv2d"] * 2
    norms = [layer for layer in GridNet().modules() if isinstance(layer, nn.InstanceNorm2d)]
    assert all(layer.affine for layer in norms)


def test_steps_are_counted() -> None:
    network = GridNet(3, 8)
    assert [len(x) for x in (network.along, network.down, network.up)] == [7, 4, 4]


@torch.no_grad()
@pytest.mark.parametrize("norm", ["none", "batch"])
@pytest.mark.parametrize("rows", [2, 3])
def test_tiles_give_the_whole_picture(rows: int, norm: Any) -> None:
    network = GridNet(rows, 4, widths=(3, 4, 5)[:rows], norm=norm, generator=draw())
    network.double().eval()
    x = photo(170, 133).double()
    torch.testing.assert_close(tiled(network, x, tile=48), network(x), rtol=0, atol=1e-12)
    assert network.train().tiling is None or norm == "none"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"rows": 4}, r"rows is 4, widths are \(32, 64, 96\); expected as many widths as rows"),
        ({"columns": 5}, "columns is 5; expected an even number of at least 2"),
        ({"columns": 0}, "columns is 0"),
        ({"widths": (32,), "rows": 1}, "expected at least 2 positive integers"),
        ({"norm": "weight"}, "norm is 'weight'; expected one of 'instance', 'batch', 'none'"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        GridNet(**options)


def test_instance_norm_needs_more_than_one_pixel_of_the_last_row() -> None:
    assert GridNet(2, 2, widths=(2, 3))(torch.zeros(1, 3, 3, 1)).shape == (1, 3, 3, 1)
    with pytest.raises(ValueError, match="degraded is 2 x 2"):
        GridNet(2, 2, widths=(2, 3))(torch.zeros(1, 3, 2, 2))
