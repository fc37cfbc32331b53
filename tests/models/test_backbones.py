"""Plain U-Net, RSGUNet and Johnson's network: counts, sizes, what their parts do."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from enhancelib import models, photos
from enhancelib.images import tiled
from enhancelib.models.accounting import parameters
from enhancelib.models.backbones import Johnson, RSGUNet, unet
from enhancelib.models.prad import SIZES, Generator

NETWORKS: dict[str, dict[str, Any]] = {
    "unet": {"widths": (4, 6, 8)},
    "rsgunet": {},
    "johnson": {},
    "gridnet": {"rows": 3, "columns": 4, "widths": (4, 6, 8)},
}


def draw(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def photo(height: int, width: int) -> Tensor:
    return photos.load("astronaut")[None, :, 60 : 60 + height, 150 : 150 + width]


# prad.md 3.1; Johnson's is the count of the well-known port of its authors' later code
@pytest.mark.parametrize(
    ("name", "options", "published"),
    [
        ("unet", {}, 155_955),
        ("unet", {"widths": SIZES["L"]}, 621_155),
        ("rsgunet", {}, 1_451_268),
        ("johnson", {}, 1_679_235),
        ("johnson", {"up": "nearest"}, 1_679_235),
    ],
)
def test_parameter_counts(name: str, options: dict[str, Any], published: int) -> None:
    assert parameters(models.build(name, **options)) == published


@torch.no_grad()
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("size", [(5, 7), (67, 101), (64, 48), (33, 2)])
def test_any_size_comes_back(name: str, size: tuple[int, int]) -> None:
    x = photo(*size).repeat(2, 1, 1, 1)
    y = models.build(name, **NETWORKS[name], generator=draw())(x)
    assert y.shape == x.shape
    assert -0.09 < float(y.min()) < float(y.max()) < 1.11


@pytest.mark.parametrize("name", NETWORKS)
def test_every_parameter_learns(name: str) -> None:
    network = models.build(name, **NETWORKS[name], generator=draw())
    network(photo(40, 36)).square().sum().backward()
    for part, parameter in network.named_parameters():
        assert parameter.grad is not None, part
        assert bool(parameter.grad.isfinite().all()), part
    silent = [k for k, p in network.named_parameters() if not p.grad.any()]  # type: ignore[union-attr]
    assert not silent


@pytest.mark.parametrize("name", NETWORKS)
def test_the_generator_alone_decides(name: str) -> None:
    state = torch.random.get_rng_state()
    first, second, other = (
        models.build(name, **NETWORKS[name], generator=draw(seed)) for seed in (5, 5, 6)
    )
    assert torch.equal(torch.random.get_rng_state(), state)
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(next(first.parameters()), next(other.parameters()))


@torch.no_grad()
@pytest.mark.parametrize("name", NETWORKS)
def test_the_arrangement_for_inference_keeps_the_values(name: str) -> None:
    network, x = models.build(name, **NETWORKS[name], generator=draw()).eval(), photo(73, 90)
    torch.testing.assert_close(models.fast(network)(x), network(x), rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", ["rsgunet", "johnson", "gridnet"])
def test_options_make_the_network_again(name: str) -> None:
    network = models.build(name, **NETWORKS[name])
    again = models.build(name, **network.options)  # type: ignore[arg-type]
    again.load_state_dict(network.state_dict())


@pytest.mark.parametrize("name", ["rsgunet", "johnson", "gridnet"])
def test_global_statistics_are_not_tiled(name: str) -> None:
    with pytest.raises(ValueError, match="computes over the whole picture"):
        tiled(models.build(name, **NETWORKS[name]), photo(64, 64), tile=32, overlap=8)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("shape", [(1, 1, 16, 16), (3, 16, 16), (1, 3, 0, 16)])
def test_a_wrong_picture_is_refused(name: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"degraded has shape .*; expected \(B, 3, H, W\)"):
        models.build(name, **NETWORKS[name])(torch.zeros(shape))


@torch.no_grad()
def test_the_plain_unet_is_prads_generator_without_its_additions() -> None:
    x = photo(32, 32)
    a = unet((4, 6, 8), generator=draw())(x)
    b = Generator((4, 6, 8), cfa=False, refinement="none", generator=draw())(x)
    assert torch.equal(a, b)
    assert unet((4, 6), norm="batch", down="maxpool").options["down"] == "maxpool"


@torch.no_grad()
def test_rsgunet_scales_by_its_stem_and_knows_the_whole_picture() -> None:
    network, x = RSGUNet(generator=draw()).double(), photo(64, 64).double()
    before = network(x)
    far = x.clone()
    far[..., 60:, 60:] = 1 - far[..., 60:, 60:]
    # 64 pixels are two of the deepest map: the corner reaches the other one by the mean alone
    assert not torch.equal(network(far)[..., :8, :8], before[..., :8, :8])
    silent = RSGUNet(generator=draw()).double()
    for parameter in silent.stem.parameters():
        parameter.zero_()
    grey = silent(x)  # nothing times anything: the output layer's bias is left
    bias = silent.last[0].bias  # type: ignore[union-attr]
    inner = grey[0, :, 20:40, 20:40].flatten(1)
    torch.testing.assert_close(inner.mean(1), torch.tanh(bias) * 0.58 + 0.52)  # type: ignore[arg-type]
    assert float(inner.std(1).max()) < 1e-6


@torch.no_grad()
def test_johnsons_enlargements_are_the_two_named_ones() -> None:
    kinds = {up: [type(m) for m in Johnson(up=up).modules()] for up in ("transposed", "nearest")}  # type: ignore[arg-type]
    assert kinds["transposed"].count(nn.ConvTranspose2d) == 2
    assert kinds["nearest"].count(nn.Upsample) == 2
    assert kinds["nearest"].count(nn.Conv2d) == 16  # 3 down, 10 in blocks, 2 up, 1 out


def test_johnson_refuses_pictures_that_leave_nothing_to_average() -> None:
    with pytest.raises(ValueError, match="degraded is 4 x 3; expected a side of more than 4"):
        Johnson()(torch.zeros(1, 3, 4, 3))
    with pytest.raises(ValueError, match="up is 'bilinear'"):
        Johnson(up="bilinear")  # type: ignore[arg-type]
