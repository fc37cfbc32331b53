"""DPED, its discriminator and SRCNN: published counts, any size, TensorFlow's padding and start."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from skimage import data
from torch import Tensor, nn
from torch.nn import functional

from enhancelib import models
from enhancelib.models.dped import DPED, SRCNN, DPEDDiscriminator, luma


def draw(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def photo(height: int = 61, width: int = 47) -> Tensor:
    picture = torch.from_numpy(data.astronaut()[40 : 40 + height, 180 : 180 + width].copy())
    return picture.movedim(-1, 0)[None].float() / 255


def lively(network: nn.Module) -> nn.Module:
    """Weights large enough for every layer to matter."""
    generator = draw(1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.empty_like(parameter).normal_(std=0.05, generator=generator))
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                assert module.running_mean is not None
                assert module.running_var is not None
                module.running_mean.uniform_(-0.1, 0.1, generator=generator)
                module.running_var.uniform_(0.05, 0.3, generator=generator)
    return network.eval()


# mpse-mdie.md A.3.1 and A.3.2, prad.md 3.1
@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("dped", {}, 401_475),
        ("dped", {"blocks": 2, "width": 32}, 71_331),
        ("dped", {"blocks": 8}, 697_923),
        ("dped", {"blocks": 14}, 1_142_595),
        ("dped", {"norm": "batch"}, 401_475),
        ("dped", {"norm": "none"}, 401_475 - 16 * 64),
        ("dped.discriminator", {}, 7_361_122),
        ("srcnn", {}, 69_249),
    ],
)
def test_published_parameter_counts(name: str, options: dict[str, Any], expected: int) -> None:
    network = models.build(name, **options)
    assert count(network) == expected
    again = models.build(name, **network.options)
    assert list(again.state_dict()) == list(network.state_dict())


@torch.no_grad()
@pytest.mark.parametrize("size", [(1, 2), (5, 7), (33, 20)])
@pytest.mark.parametrize("name", ["dped", "srcnn"])
def test_any_size_comes_back(name: str, size: tuple[int, int]) -> None:
    degraded = torch.rand(2, 3, *size, generator=draw())
    assert models.build(name)(degraded).shape == degraded.shape


@torch.no_grad()
def test_the_output_range_is_a_little_wider_than_the_picture() -> None:
    network = DPED(blocks=1, width=4, generator=draw())
    for bias, value in ((-50.0, -0.08), (0.0, 0.5), (50.0, 1.08)):
        nn.init.zeros_(network.last.weight)
        nn.init.constant_(network.last.bias, bias)
        torch.testing.assert_close(network(photo()), torch.full((1, 3, 61, 47), value))


@torch.no_grad()
def test_the_sum_comes_after_the_second_relu() -> None:
    network = lively(DPED(blocks=1, width=8, generator=draw()))
    taps: dict[str, Tensor] = {}
    network.head.register_forward_hook(lambda *call: taps.update(head=call[2]))
    network.tail.register_forward_pre_hook(lambda _, given: taps.update(tail=given[0]))
    network(photo())
    assert float(taps["head"].max()) > 0.1
    assert bool((taps["tail"] >= taps["head"]).all())  # a ReLU's output was added, nothing after


@torch.no_grad()
def test_each_picture_is_normalised_by_itself() -> None:
    network = lively(DPED(blocks=1, width=8, generator=draw()))
    first, second = photo(), photo().flip(3) * 0.5
    both = network(torch.cat((first, second)))
    torch.testing.assert_close(both, torch.cat((network(first), network(second))))
    assert {layer.eps for layer in network.modules() if isinstance(layer, nn.InstanceNorm2d)} == {
        1e-3
    }
    network.train()
    torch.testing.assert_close(network(first), both[:1])  # no running statistics


@torch.no_grad()
@pytest.mark.parametrize("norm", ["instance", "batch", "none"])
def test_the_arrangement_for_inference_gives_the_same(norm: Any) -> None:
    network = lively(DPED(blocks=2, width=8, norm=norm, generator=draw()))
    large = photo(300, 260)
    torch.testing.assert_close(models.fast(network)(large), network(large), atol=1e-5, rtol=0)
    folded = models.fold(network)
    assert folded.norm == ("none" if norm == "batch" else norm)
    torch.testing.assert_close(folded(large), network(large), atol=1e-5, rtol=0)
    small = lively(SRCNN(generator=draw()))
    torch.testing.assert_close(models.fast(small)(large), small(large), atol=1e-5, rtol=0)


@torch.no_grad()
def test_the_discriminator_pads_as_tensorflow() -> None:
    network = lively(DPEDDiscriminator(generator=draw()))
    patch = photo(100, 100)
    red, green, blue = patch.unbind(1)
    x = (0.2989 * red + 0.587 * green + 0.114 * blue)[:, None]
    # mpse-mdie.md A.3.2: 3 before and 4 after, then symmetric; 100 -> 25 -> 13 -> 13 -> 13 -> 7
    pads, sides = ((3, 4), (2, 2), (1, 1), (1, 1), (1, 1)), (25, 13, 13, 13, 7)
    for index, ((before, after), side) in enumerate(zip(pads, sides, strict=True)):
        x = functional.pad(x, (before, after, before, after))
        x = functional.leaky_relu(network.convs[index](x), 0.2)
        assert x.shape[2:] == (side, side)
        if index:
            norm = network.norms[index - 1]
            mean = x.mean((2, 3), keepdim=True)
            spread = (x - mean).square().mean((2, 3), keepdim=True)
            x = (x - mean) / (spread + 1e-3).sqrt()
            x = x * norm.weight[:, None, None] + norm.bias[:, None, None]
    x = functional.leaky_relu(network.hidden(x.flatten(1)), 0.2)
    expected = network.logits(x)
    assert expected.abs().min() > 1e-3
    torch.testing.assert_close(network(patch), expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("size", [17, 33, 50, 64, 99])
def test_other_patch_sizes(size: int) -> None:
    network = DPEDDiscriminator(size, generator=draw())
    assert network.hidden.in_features == 128 * math.ceil(size / 16) ** 2
    assert network(torch.rand(2, 3, size, size, generator=draw())).shape == (2, 2)


def test_luma_is_that_of_the_official_code(assets: Path) -> None:
    with np.load(assets / "weights" / "dped" / "golden_official_tf.npz") as golden:
        official = torch.from_numpy(golden["gray_iphone"]).permute(0, 3, 1, 2)
        enhanced = torch.from_numpy(golden["iphone_orig"]).permute(0, 3, 1, 2)
    torch.testing.assert_close(luma(enhanced), official, atol=1e-6, rtol=0)


def test_the_discriminator_sees_brightness_only() -> None:
    network = DPEDDiscriminator(32, generator=draw())
    grey = photo(32, 32).mean(1, keepdim=True).expand(1, 3, 32, 32)
    tinted = grey.clone()
    tinted[:, 0] += 0.1 * 0.1140 / 0.2989
    tinted[:, 2] -= 0.1
    torch.testing.assert_close(network(tinted), network(grey), atol=1e-5, rtol=0)


@pytest.mark.parametrize("build", [DPED, DPEDDiscriminator])
def test_initial_weights_are_the_released_codes(build: Any) -> None:
    network = build(generator=draw())
    layers = [x for x in network.modules() if isinstance(x, nn.Conv2d | nn.Linear)]
    for layer in layers:
        weight = layer.weight.detach()
        assert float(weight.abs().max()) <= 0.02
        # a normal cut at 2 standard deviations keeps 0.8796 of its own
        if weight.numel() > 5_000:
            assert float(weight.std()) == pytest.approx(0.01 * 0.8796, rel=0.05)
        assert bool((layer.bias == 0.01).all())
    norms = [x for x in network.modules() if isinstance(x, nn.InstanceNorm2d)]
    assert norms
    for norm in norms:
        assert bool((norm.weight == 1).all())
        assert bool((norm.bias == 0).all())


def test_srcnn_starts_as_its_own_code() -> None:
    network = SRCNN(generator=draw())
    for layer in (network.layers[0], network.layers[2], network.layers[4]):
        assert float(layer.weight.detach().std()) == pytest.approx(1e-3, rel=0.05)
    assert not any(p.any() for name, p in network.named_parameters() if name.endswith("bias"))
    assert network.bias.shape == (1,)


@pytest.mark.parametrize("name", ["dped", "dped.discriminator", "srcnn", "ppcn"])
def test_the_generator_alone_decides(name: str) -> None:
    state = torch.random.get_rng_state()
    first, second, other = (models.build(name, generator=draw(seed)) for seed in (5, 5, 6))
    assert torch.equal(torch.random.get_rng_state(), state)
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)
    drawn = zip(first.parameters(), other.parameters(), strict=True)
    assert not any(torch.equal(a, b) for a, b in drawn if a.ndim > 1)


@pytest.mark.parametrize("name", ["dped", "srcnn"])
def test_gradients_reach_every_parameter(name: str) -> None:
    network = lively(models.build(name, generator=draw())).train()
    network(photo()).sum().backward()  # type: ignore[no-untyped-call]
    # a bias before an instance norm has none: the norm takes it out again
    silent = [k for k, p in network.named_parameters() if p.grad is None]
    assert not silent
    moving = [k for k, p in network.named_parameters() if float(p.grad.abs().max()) > 1e-6]  # type: ignore[union-attr]
    assert {k for k in network.state_dict() if k.endswith("weight")} <= set(moving)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"blocks": 0}, "blocks is 0; expected an integer of at least 1"),
        ({"blocks": True}, "blocks is True"),
        ({"width": 64.0}, "width is 64.0"),
        ({"norm": "weight"}, "norm is 'weight'; expected 'instance', 'batch' or 'none'"),
        ({"depth": 3}, "refuses its options"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        models.build("dped", **options)


@pytest.mark.parametrize(
    "shape", [(1, 1, 8, 8), (3, 8, 8), (1, 3, 0, 8), (0, 3, 8, 8), (1, 3, 1, 1)]
)
@pytest.mark.parametrize("name", ["dped", "ppcn"])
def test_a_wrong_picture_is_refused(name: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"degraded (has shape|is 1 x 1).*expected"):
        models.build(name)(torch.zeros(shape))


@pytest.mark.parametrize("shape", [(1, 1, 32, 32), (1, 3, 32, 33), (3, 32, 32)])
def test_a_wrong_patch_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"image has shape .*; expected \(B, 3, 32, 32\)"):
        DPEDDiscriminator(32)(torch.zeros(shape))
    with pytest.raises(ValueError, match="size is 16; expected an integer of at least 17"):
        DPEDDiscriminator(16)
