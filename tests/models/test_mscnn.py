"""MSCNN layer by layer: the normalisation in NumPy, the join of its scales, its haze model."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import minimum_filter
from skimage import data
from torch import Tensor
from torch.nn import functional

from enhancelib import images, models
from enhancelib.models.mscnn import MSCNN


def photo(height: int, width: int) -> Tensor:
    picture = np.ascontiguousarray(data.astronaut()[100 : 100 + height, 150 : 150 + width])
    return torch.from_numpy(picture).permute(2, 0, 1)[None] / 255


def network(*, joined: bool = False) -> MSCNN:
    """Weights large enough for every map to matter."""
    made = MSCNN(joined=joined, generator=torch.Generator().manual_seed(0))
    for p in made.parameters():
        p.data.mul_(2)
    return made.requires_grad_(False)


def lrn(x: Tensor) -> Tensor:
    """MatConvNet's vl_nnnormalize with [5 1 2e-5 0.75]: its alpha is not divided by 5."""
    values = x.double().numpy()
    out = np.empty_like(values)
    for k in range(values.shape[1]):
        near = values[:, max(k - 2, 0) : k + 3]
        out[:, k] = values[:, k] / (1 + 2e-5 * (near**2).sum(1)) ** 0.75
    return torch.from_numpy(out).float()


def scale(net: MSCNN, part: str, x: Tensor, replacing: Tensor | None = None) -> Tensor:
    w = dict(net.named_parameters())
    for k in (1, 2, 3):
        weight = w[f"{part}.conv{k}.weight"]
        x = functional.conv2d(x, weight, w[f"{part}.conv{k}.bias"], padding=weight.shape[-1] // 2)
        if replacing is not None and k == 1:
            x[:, 5:] = replacing
        x = functional.max_pool2d(x.clamp_min(0), 2)
        x = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
        x = lrn(x) if k < 3 else x
    total = (x * w[f"{part}.comb.weight"].view(1, -1, 1, 1)).sum(1, keepdim=True)
    return 1 / (1 + (-total - w[f"{part}.comb.bias"]).exp())


def test_parameters_are_the_released_ones() -> None:
    made = models.build("mscnn")
    assert sum(p.numel() for p in made.coarse.parameters()) == 6321
    assert sum(p.numel() for p in made.fine.parameters()) == 2114


@pytest.mark.parametrize("joined", [False, True])
def test_the_two_scales(joined: bool) -> None:
    net, I = network(joined=joined), photo(24, 32)  # noqa: E741
    A = [minimum_filter(c.numpy(), 15, mode="reflect").max() for c in I[0]]  # as ordfilt2
    found = net.outputs(I)
    assert found["airlight"].flatten().tolist() == A
    coarse = scale(net, "coarse", I / found["airlight"])
    t = scale(net, "fine", I / found["airlight"], coarse if joined else None)
    torch.testing.assert_close(found["coarse"], coarse)
    torch.testing.assert_close(found["transmission"], t)
    J = (I - found["airlight"]) / t.clamp_min(0.1) + found["airlight"]
    torch.testing.assert_close(net(I), J)


def test_joining_matters() -> None:
    picture = photo(24, 32)
    one, two = (network(joined=joined).outputs(picture) for joined in (False, True))
    assert torch.equal(one["coarse"], two["coarse"])
    assert float((one["transmission"] - two["transmission"]).abs().max()) > 1e-3


@pytest.mark.parametrize("size", [(2, 2), (25, 30), (31, 17)])
def test_odd_sizes_are_resized_from_even_ones(size: tuple[int, int]) -> None:
    net = network()
    found = net.outputs(photo(*size))
    assert found["restored"].shape == (1, 3, *size)
    small = scale(net, "coarse", photo(*size) / found["airlight"])
    torch.testing.assert_close(found["coarse"], images.resize(small, size=size))


def test_a_black_channel_divides_by_no_zero() -> None:
    picture = photo(16, 16)
    picture[:, 2] = 0
    assert network()(picture).isfinite().all()


def test_built_again() -> None:
    net = network(joined=True)
    again = models.build("mscnn", **net.options)
    again.load_state_dict(net.state_dict())
    torch.testing.assert_close(again(photo(16, 16)), net(photo(16, 16)))
    with pytest.raises(ValueError, match="at least 2 x 2"):
        net(torch.rand(1, 3, 1, 5))
