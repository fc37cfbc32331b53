"""DnCNN: the published counts and receptive fields, both ways to predict, both initialisations."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from enhancelib import models
from enhancelib.models.dncnn import VARIANTS, DnCNN


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def draw(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def picture(*shape: int) -> Tensor:
    return torch.rand(shape, generator=draw(3))


# denoise-dehaze.md, A3
@pytest.mark.parametrize(
    ("options", "trained", "merged"),
    [
        ({"D": 17, "c": 1}, 556_097, 555_137),
        ({"D": 20, "c": 1}, 668_225 - 1_152, 665_921),
        ({"D": 20, "c": 3}, 668_227 + 18 * 64, 668_227),
        ({"D": 20, "norm": "none", "residual": False, "noise_map": True}, 666_497, 666_497),
    ],
)
def test_parameter_counts(options: dict[str, object], trained: int, merged: int) -> None:
    network = DnCNN(**options)  # type: ignore[arg-type]
    assert count(network) == trained
    assert count(models.fold(network)) == merged


@pytest.mark.parametrize(("variant", "field"), [("S", 35), ("B", 41), ("C", 41), ("3", 41)])
def test_the_receptive_field_is_where_the_gradient_is(variant: str, field: int) -> None:
    network = DnCNN(**VARIANTS[variant], width=4, norm="none", generator=draw())
    assert network.receptive_field == field
    with torch.no_grad():  # positive everywhere: no ReLU hides a path
        for parameter in network.parameters():
            parameter.abs_()
    y = torch.ones(1, network.c, 61, 61, requires_grad=True)
    centre = network.outputs(y)["residual"][0, 0, 30, 30]
    (gradient,) = torch.autograd.grad(centre, y)
    rows = gradient[0, 0].abs().sum(1).nonzero().ravel()
    columns = gradient[0, 0].abs().sum(0).nonzero().ravel()
    margin = (61 - field) // 2
    assert (int(rows[0]), int(rows[-1])) == (margin, 60 - margin)
    assert (int(columns[0]), int(columns[-1])) == (margin, 60 - margin)


def test_layers_are_those_of_the_paper() -> None:
    layers = list(DnCNN(D=17).layers)
    kinds = [type(layer).__name__ for layer in layers]
    hidden = ["Conv2d", "BatchNorm2d", "ReLU"] * 15
    assert kinds == ["Conv2d", "ReLU", *hidden, "Conv2d"]
    convs = [layer for layer in layers if isinstance(layer, nn.Conv2d)]
    assert [conv.bias is not None for conv in convs] == [True] + [False] * 15 + [True]
    assert {(conv.kernel_size, conv.padding, conv.padding_mode) for conv in convs} == {
        ((3, 3), (1, 1), "zeros")
    }
    assert {layer.eps for layer in layers if isinstance(layer, nn.BatchNorm2d)} == {1e-4}


@pytest.mark.parametrize("size", [(1, 1), (5, 7), (33, 20)])
@pytest.mark.parametrize("c", [1, 3])
def test_any_size_comes_back(size: tuple[int, int], c: int) -> None:
    y = picture(2, c, *size)
    assert DnCNN(D=4, c=c, width=4).eval()(y).shape == y.shape


@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("norm", ["batch", "none"])
def test_what_the_last_layer_is(residual: bool, norm: str) -> None:
    network = DnCNN(D=4, width=8, norm=norm, residual=residual, generator=draw()).eval()  # type: ignore[arg-type]
    y = picture(2, 1, 9, 9)
    with torch.no_grad():
        outputs, last = network.outputs(y), network.layers(y)
        torch.testing.assert_close(outputs["residual"] + outputs["restored"], y)
        assert torch.equal(outputs["residual" if residual else "restored"], last)
        assert torch.equal(network(y), outputs["restored"])


def test_the_output_is_not_clamped() -> None:
    network = DnCNN(D=3, width=4, norm="none", generator=draw())
    with torch.no_grad():
        assert float(network(torch.full((1, 1, 5, 5), 5.0)).max()) > 1


def test_activations_are_one_per_layer() -> None:
    network, y = DnCNN(D=5, width=4, generator=draw()).eval(), picture(1, 1, 8, 8)
    with torch.no_grad():
        kept = network.activations(y)
        assert [tuple(x.shape) for x in kept] == [(1, 4, 8, 8)] * 4 + [(1, 1, 8, 8)]
        assert all(float(x.min()) >= 0 for x in kept[:-1])
        assert torch.equal(kept[-1], network.outputs(y)["residual"])


def test_he_initialisation() -> None:
    network = DnCNN(generator=draw())
    convs = [layer for layer in network.layers if isinstance(layer, nn.Conv2d)]
    for conv in (convs[1], convs[8], convs[-1]):
        expected = math.sqrt(2 / (9 * conv.in_channels))
        assert float(conv.weight.detach().std()) == pytest.approx(expected, rel=0.06)
    assert float(convs[0].weight.detach().std()) == pytest.approx(math.sqrt(2 / 9), rel=0.1)
    quiet = DnCNN(generator=draw(), output_scale=0.1).layers[-1]
    torch.testing.assert_close(quiet.weight, 0.1 * convs[-1].weight)


def test_official_initialisation() -> None:
    network = DnCNN(initialisation="official", momentum=1.0, generator=draw())
    spread = math.sqrt(2 / (9 * 64))
    for layer in network.layers:
        if isinstance(layer, nn.Conv2d):
            assert float(layer.weight.detach().std()) == pytest.approx(spread, rel=0.1)
            assert layer.bias is None or not layer.bias.any()
        if isinstance(layer, nn.BatchNorm2d):
            gamma = layer.weight.detach()
            assert float(gamma.abs().min()) == pytest.approx(0.025)  # some are pushed up to it
            assert bool((gamma < 0).any())
            assert not layer.bias.any()
            assert layer.running_var is not None
            rooted = torch.sqrt(layer.running_var + layer.eps)
            torch.testing.assert_close(rooted, torch.full((64,), 0.01))
    assert network.layers[3].momentum == 1.0


def test_the_generator_alone_decides() -> None:
    state = torch.random.get_rng_state()
    first, second = (DnCNN(D=4, width=4, generator=draw(5)) for _ in range(2))
    assert torch.equal(torch.random.get_rng_state(), state)
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)
    other = DnCNN(D=4, width=4, generator=draw(6))
    assert not torch.equal(first.layers[0].weight, other.layers[0].weight)


def test_the_last_mini_batch_replaces_the_moments_at_momentum_one() -> None:
    network, y = DnCNN(D=3, width=4, momentum=1.0, generator=draw()), picture(4, 1, 8, 8)
    before = network.layers[2](network.layers[1](network.layers[0](y)))
    network(y)
    torch.testing.assert_close(network.layers[3].running_mean, before.mean((0, 2, 3)))


def test_a_noise_map_is_one_number_or_a_picture() -> None:
    network = DnCNN(D=4, width=8, norm="none", residual=False, noise_map=True, generator=draw())
    y, level = picture(2, 1, 6, 6), torch.tensor([0.1, 0.2]).view(2, 1, 1, 1)
    restored = network(y, level)
    torch.testing.assert_close(restored, network(y, level.expand(2, 1, 6, 6)))
    assert not torch.allclose(restored, network(y, 2 * level))


@pytest.mark.parametrize(
    ("level", "sentence"),
    [
        (None, "noise_level is missing"),
        (torch.zeros(2), r"has shape \(2,\); expected \(2, 1, 1, 1\) or \(2, 1, 6, 7\)"),
        (torch.zeros(2, 1, 7, 6), "expected"),
        (torch.full((2, 1, 1, 1), 25.0), r"runs from 25 to 25; expected sigma / 255 in \[0, 1\]"),
        (torch.full((2, 1, 1, 1), float("nan")), "expected sigma / 255"),
    ],
)
def test_a_wrong_noise_level_is_refused(level: Tensor | None, sentence: str) -> None:
    network = DnCNN(D=3, width=4, noise_map=True)
    with pytest.raises(ValueError, match=sentence):
        network(picture(2, 1, 6, 7), level)


def test_a_noise_level_without_a_map_is_refused() -> None:
    with pytest.raises(ValueError, match="without noise_map; leave it out"):
        DnCNN(D=3, width=4)(picture(1, 1, 6, 6), torch.zeros(1, 1, 1, 1))


@pytest.mark.parametrize("shape", [(1, 3, 8, 8), (1, 8, 8), (8, 8), (1, 1, 0, 8), (0, 1, 8, 8)])
def test_a_wrong_picture_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"degraded has shape .*; expected \(B, 1, H, W\)"):
        DnCNN(D=3, width=4)(torch.zeros(shape))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"D": 2}, "D is 2; expected an integer of at least 3"),
        ({"D": 17.0}, "D is 17.0"),
        ({"c": True}, "c is True"),
        ({"width": 0}, "width is 0"),
        ({"norm": "instance"}, "expected 'batch' or 'none'"),
        ({"initialisation": "orthogonal"}, "expected 'he' or 'official'"),
        ({"momentum": 0.0}, r"momentum is 0\.0; expected a number in \(0, 1\]"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        DnCNN(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize("variant", VARIANTS)
def test_options_make_the_network_again(variant: str) -> None:
    network = DnCNN(**VARIANTS[variant], width=4)
    again = models.build("dncnn", **network.options)
    assert list(again.state_dict()) == list(network.state_dict())
    assert again.options == network.options
