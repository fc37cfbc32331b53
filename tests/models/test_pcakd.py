"""PCA-KD: published counts, any size, levels, and what its skips hold.

That its values are those of the released network is tested in tests/weights/test_pcakd.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from skimage import data
from torch import Tensor, nn
from torch.nn import functional

from enhancelib import models
from enhancelib.models.pcakd import PCAKD


def photo(picture: Any, height: int, width: int) -> Tensor:
    cut = np.ascontiguousarray(picture[100 : 100 + height, 60 : 60 + width])
    return torch.from_numpy(cut).movedim(-1, 0)[None].double() / 255


@pytest.fixture(scope="module")
def network() -> PCAKD:
    """Float64, and convolutions scaled up, so that no level's part in the output is lost."""
    made = PCAKD(generator=torch.Generator().manual_seed(0)).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.mul_(4.0)
    return made.double()


def test_published_parameter_counts(network: PCAKD) -> None:
    parts = [
        sum(p.numel() for p in part.parameters()) for part in (network.encoder, network.decoder)
    ]
    assert parts == [141_614, 141_622]
    assert sum(p.numel() for p in models.build("pcakd", **network.options).parameters()) == 283_236


@torch.no_grad()
@pytest.mark.parametrize("size", [(16, 16), (17, 30), (40, 23)])
def test_any_size_comes_back(network: PCAKD, size: tuple[int, int]) -> None:
    content, style = photo(data.coffee(), *size), photo(data.chelsea(), 33, 20)
    assert network(content, style).shape == content.shape


@torch.no_grad()
def test_a_size_that_is_no_multiple_of_8_is_continued_and_cut(network: PCAKD) -> None:
    content, style = photo(data.coffee(), 21, 30), photo(data.chelsea(), 33, 20)
    large = functional.pad(content, (0, 2, 0, 3), mode="replicate")
    torch.testing.assert_close(network(content, style), network(large, style)[..., :21, :30])


def conv(x: Tensor, layer: Any) -> Tensor:
    return functional.conv2d(
        functional.pad(x, (1, 1, 1, 1), mode="reflect"), layer.weight, layer.bias
    )


def zca(content: Tensor, style: Tensor) -> Tensor:
    def power(x: Tensor, exponent: float) -> Tensor:
        u, s, _ = torch.linalg.svd(x @ x.T / x.shape[1] + torch.eye(len(x)).to(x))
        return u @ torch.diag(s**exponent) @ u.T

    c, s = content[0].flatten(1), style[0].flatten(1)
    mean = s.mean(1, keepdim=True)
    c, s = c - c.mean(1, keepdim=True), s - mean
    return (power(s, 0.5) @ power(c, -0.5) @ c + mean).view_as(content)


def literal(network: PCAKD, content: Tensor, style: Tensor) -> Tensor:
    """Operation by operation after the released demo, on the convolutions in their order."""
    encoder, decoder = (
        [[m for m in block.modules() if isinstance(m, nn.Conv2d)] for block in part]
        for part in (network.encoder, network.decoder)
    )

    def encode(x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        features, inputs = [], []
        for level, convs in enumerate(encoder):
            inputs.append(x)
            if level == 0:
                x = functional.conv2d(x, convs[0].weight, convs[0].bias)
            for layer in convs[1:-1] if level == 0 else convs[:-1]:
                x = conv(x, layer).relu()
            x = functional.max_pool2d(x, 2) if level else x
            x = conv(x, convs[-1]).relu()
            features.append(x)
        return features, inputs

    def sharp(x: Tensor) -> Tensor:
        edged = torch.from_numpy(np.pad(x.numpy(), ((0, 0), (0, 0), (1, 1), (1, 1)), mode="edge"))
        h, w = x.shape[2:]
        near = [edged[..., i : i + h, j : j + w] for i in range(3) for j in range(3)]
        return x - sum(near[1:], near[0]) / 9

    wanted, (features, inputs) = encode(style)[0], encode(content)
    x = features[3]
    for level in (3, 2, 1, 0):
        x, skip = zca(x, wanted[level]), sharp(inputs[level])
        if level == 0:
            return conv(torch.cat((x, skip), 1), decoder[0][0])
        x = conv(x, decoder[level][0]).relu()
        x = functional.interpolate(x, size=skip.shape[2:], mode="bilinear", align_corners=False)
        for layer in decoder[level][1:-1]:
            x = conv(x, layer).relu()
        x = conv(x + skip, decoder[level][-1]).relu()
    raise AssertionError


@torch.no_grad()
def test_equals_the_demo_operation_by_operation(network: PCAKD) -> None:
    content, style = photo(data.coffee(), 32, 48), photo(data.chelsea(), 40, 24)
    expected = literal(network, content, style)
    close = 1e-9 * float(expected.std())
    torch.testing.assert_close(network(content, style), expected, atol=close, rtol=0)
    torch.testing.assert_close(
        network.stylise(content, style), expected.clamp(0, 1), atol=close, rtol=0
    )


@torch.no_grad()
def test_a_batch_is_a_picture_at_a_time_and_one_style_serves_all(network: PCAKD) -> None:
    content = torch.cat((photo(data.coffee(), 24, 32), photo(data.rocket(), 24, 32)))
    styles = torch.cat((photo(data.chelsea(), 24, 16), photo(data.astronaut(), 24, 16)))
    both = network(content, styles)
    close = 1e-9 * float(both.std())
    torch.testing.assert_close(both[1:], network(content[1:], styles[1:]), atol=close, rtol=0)
    torch.testing.assert_close(network(content, styles[1:])[1:], both[1:], atol=close, rtol=0)


def test_stylise_clips_and_nothing_draws_a_gradient(network: PCAKD) -> None:
    wild = PCAKD().double()
    wild.load_state_dict(network.state_dict())
    with torch.no_grad():
        wild.get_parameter("decoder.0.0.weight").mul_(100)
    content, style = photo(data.coffee(), 16, 16).requires_grad_(), photo(data.chelsea(), 16, 16)
    raw, out = wild(content, style), wild.stylise(content, style)
    assert float(raw.max()) > 1
    assert torch.equal(out, raw.clamp(0, 1))
    assert not raw.requires_grad


def test_the_seed_fixes_the_weights() -> None:
    first, second, other = (PCAKD(generator=torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    for a, b, c in zip(first.parameters(), second.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
        assert not torch.equal(a, c)
