"""Tiles give what the whole picture gives, or refuse."""

from __future__ import annotations

from typing import Any

import pytest
import skimage.data
import torch
from torch import Tensor, nn

from enhancelib.images import from_array, tiled
from enhancelib.tiling import Tiling

ROCKET = from_array(skimage.data.rocket()[200:271, 250:353]).double()


class Stack(nn.Sequential):
    """Four 3x3 convolutions with zero padding and biases: a receptive field of 9."""

    receptive_field = 9

    def __init__(self) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            super().__init__(
                nn.Conv2d(3, 8, 3, padding=1),
                nn.ReLU(),
                nn.Conv2d(8, 8, 3, padding=1),
                nn.BatchNorm2d(8),
                nn.Conv2d(8, 8, 3, padding=1),
                nn.ReLU(),
                nn.Conv2d(8, 5, 3, padding=1),
            )
        self.double().eval()


class Strided(nn.Sequential):
    """Down by 4 and up again, so that tiles must start at multiples of 4."""

    tiling = Tiling(overlap=18, multiple=4)

    def __init__(self) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            super().__init__(
                nn.Conv2d(3, 6, 3, stride=4, padding=1),
                nn.ReLU(),
                nn.Conv2d(6, 6, 3, padding=1),
                nn.Upsample(scale_factor=4),
                nn.Conv2d(6, 3, 3, padding=1),
            )
        self.double().eval()


@pytest.mark.parametrize("tile", [7, 16, 33, 70, 103, 1000])
@pytest.mark.parametrize("size", [(71, 103), (64, 64), (5, 90), (1, 1), (9, 8)])
def test_tiles_equal_the_whole(tile: int, size: tuple[int, int]) -> None:
    model, image = Stack(), ROCKET[:, : size[0], : size[1]]
    with torch.no_grad():
        whole = model(image[None])[0]
    parts = tiled(model, image, tile=tile)
    assert parts.shape == (5, *size)
    assert torch.allclose(parts, whole, atol=1e-12)


def test_an_overlap_one_pixel_short_differs() -> None:
    model = Stack()
    with torch.no_grad():
        whole = model(ROCKET[None])[0]
    assert not torch.allclose(tiled(model, ROCKET, tile=32, overlap=3), whole, atol=1e-9)
    assert torch.allclose(tiled(model, ROCKET, tile=32, overlap=4), whole, atol=1e-12)


def test_batches() -> None:
    model = Stack()
    batch = torch.stack([ROCKET, ROCKET.flip(-1)])
    with torch.no_grad():
        whole = model(batch)
    assert torch.allclose(tiled(model, batch, tile=40), whole, atol=1e-12)


@pytest.mark.parametrize("tile", [10, 32, 33])
def test_strided_networks_start_at_multiples(tile: int) -> None:
    model, image = Strided(), ROCKET[:, :68, :100]
    with torch.no_grad():
        whole = model(image[None])[0]
    assert torch.allclose(tiled(model, image, tile=tile), whole, atol=1e-12)


def test_no_call_sees_more_than_a_tile_with_its_overlap() -> None:
    seen: list[tuple[int, ...]] = []

    def spy(part: Tensor) -> Tensor:
        seen.append(tuple(part.shape[-2:]))
        return part

    result = tiled(spy, ROCKET, tile=20, overlap=3)
    assert torch.equal(result, ROCKET)
    assert max(max(shape) for shape in seen) <= 26
    assert len(seen) == 4 * 6


def test_no_gradients_are_kept() -> None:
    assert not tiled(Stack(), ROCKET, tile=40).requires_grad


def local_then(part: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), part).double().eval()


class Marked(nn.Identity):
    global_statistics = True


GLOBAL = {
    "InstanceNorm2d": nn.InstanceNorm2d(4),
    "GroupNorm": nn.GroupNorm(2, 4),
    "LayerNorm": nn.LayerNorm([4, 8, 8]),
    "AdaptiveAvgPool2d": nn.AdaptiveAvgPool2d(1),
    "AdaptiveMaxPool2d": nn.AdaptiveMaxPool2d(1),
    "BatchNorm2d": nn.BatchNorm2d(4, track_running_stats=False),
    "Marked": Marked(),
}


@pytest.mark.parametrize("name", GLOBAL)
def test_global_statistics_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name} computes over the whole picture"):
        tiled(local_then(GLOBAL[name]), ROCKET, tile=32, overlap=8)


def test_batch_statistics_are_refused_in_training_mode() -> None:
    with pytest.raises(ValueError, match="BatchNorm2d in training mode computes over the whole"):
        tiled(Stack().train(), ROCKET, tile=32)


def test_stored_statistics_are_local() -> None:
    model = local_then(nn.InstanceNorm2d(4, track_running_stats=True))
    with torch.no_grad():
        whole = model(ROCKET[None])[0]
    assert torch.allclose(tiled(model, ROCKET, tile=32, overlap=1), whole, atol=1e-12)


def test_one_tile_is_the_whole_picture_whatever_the_network() -> None:
    model = local_then(nn.InstanceNorm2d(4))
    with torch.no_grad():
        whole = model(ROCKET[None])[0]
    assert torch.equal(tiled(model, ROCKET, tile=103), whole)


def test_a_network_may_say_how_it_tiles() -> None:
    model = local_then(nn.InstanceNorm2d(4))
    model.tiling = Tiling(overlap=8)  # type: ignore[assignment]
    assert tiled(model, ROCKET, tile=32).shape == (4, 71, 103)


REFUSED: dict[str, tuple[Any, Any, dict[str, int], str]] = {
    "no field": (
        nn.Conv2d(3, 3, 3, padding=1),
        ROCKET,
        {"tile": 32},
        r"Conv2d declares no receptive_field; pass overlap=",
    ),
    "shape": (nn.Identity(), ROCKET[0], {}, r"shape is \(71, 103\); expected \(C, H, W\)"),
    "nothing": (nn.Identity(), ROCKET[:, :0], {}, r"shape is \(3, 0, 103\)"),
    "tile": (nn.Identity(), ROCKET, {"tile": 0}, "tile is 0; expected at least 1"),
    "overlap": (nn.Identity(), ROCKET, {"tile": 8, "overlap": -2}, "overlap is -2"),
    "shrinking": (nn.AvgPool2d(2), ROCKET, {}, r"into \(1, 3, 35, 51\); expected the same height"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals(case: str) -> None:
    model, image, how, reason = REFUSED[case]
    with pytest.raises(ValueError, match=reason):
        tiled(model, image, **how)
