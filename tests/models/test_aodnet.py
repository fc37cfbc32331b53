"""AOD-Net's five convolutions, written out once more, and its parameters."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from enhancelib import models
from enhancelib.models.aodnet import AODNet


def draw(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


def large() -> AODNet:
    """Weights large enough for every map to matter."""
    network = AODNet(generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    for p in network.parameters():
        p.data.uniform_(-0.2, 0.3, generator=generator)
    return network.requires_grad_(False)


def test_parameters_are_the_published_ones() -> None:
    assert sum(p.numel() for p in models.build("aodnet").parameters()) == 1761
    assert [tuple(p.shape) for p in AODNet().parameters()][::2] == [
        (3, 3, 1, 1), (3, 3, 3, 3), (3, 6, 5, 5), (3, 6, 7, 7), (3, 12, 3, 3)
    ]  # fmt: skip


@pytest.mark.parametrize("size", [(5, 7), (1, 1), (16, 12)])
def test_the_wiring(size: tuple[int, int]) -> None:
    network, I = large(), draw(2, 3, *size)  # noqa: E741
    w = dict(network.named_parameters())

    def step(k: int, x: Tensor) -> Tensor:
        weight = w[f"conv{k}.weight"]
        padding = weight.shape[-1] // 2
        return functional.conv2d(x, weight, w[f"conv{k}.bias"], padding=padding).clamp_min(0)

    x1 = step(1, I)
    x2 = step(2, x1)
    x3 = step(3, torch.cat((x1, x2), 1))
    x4 = step(4, torch.cat((x2, x3), 1))
    K = step(5, torch.cat((x1, x2, x3, x4), 1))
    found = network.outputs(I)
    torch.testing.assert_close(found["K"], K)
    torch.testing.assert_close(found["restored"], (K * (I - 1) + 1).clamp_min(0))
    torch.testing.assert_close(network(I), found["restored"])


def test_initial_weights_come_from_the_generator() -> None:
    one, two = (AODNet(generator=torch.Generator().manual_seed(3)) for _ in range(2))
    assert all(torch.equal(p, q) for p, q in zip(one.parameters(), two.parameters(), strict=True))
    assert float(one.get_parameter("conv5.weight").detach().std()) == pytest.approx(0.01, rel=0.15)
    assert not one.get_parameter("conv5.bias").any()


def test_folded_and_built_again() -> None:
    network = large()
    again = models.build("aodnet", **network.options)
    again.load_state_dict(network.state_dict())
    picture = draw(1, 3, 40, 33)
    torch.testing.assert_close(models.fast(again)(picture), network(picture))
    with pytest.raises(ValueError, match="refuses its options"):
        models.build("aodnet", D=3)
