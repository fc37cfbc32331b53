"""Building by name, folding batch normalisation, and the arrangement for inference."""

from __future__ import annotations

import pytest
import torch
from skimage import data
from torch import Tensor, nn

from enhancelib import models
from enhancelib.models import inference


def photo() -> Tensor:
    """A real photograph with noise, of odd size."""
    clean = torch.from_numpy(data.camera()[100:177, 200:263]).float()[None, None] / 255
    return clean + 0.1 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))


def trained(**options: object) -> nn.Module:
    """A small network whose running moments and affine parameters are far from 0 and 1."""
    network = models.build(
        "dncnn", **{"D": 6, "width": 16, "generator": torch.Generator().manual_seed(0), **options}
    )
    generator = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values, low, high in (
                (module.weight, -1.5, 1.5),
                (module.bias, -0.5, 0.5),
                (module.running_mean, -1.0, 1.0),
                (module.running_var, 0.3, 3.0),
            ):
                assert values is not None
                values.data.uniform_(low, high, generator=generator)
    return network.eval()


@torch.no_grad()
@pytest.mark.parametrize("turn", [models.fold, models.fast])
def test_values_are_those_of_the_plain_network(turn: object) -> None:
    network, y = trained(), photo()
    plain = network(y)
    assert float((plain - y).abs().max()) > 0.1  # it does something
    torch.testing.assert_close(turn(network)(y), plain, atol=1e-5, rtol=0)  # type: ignore[operator]


@torch.no_grad()
@pytest.mark.parametrize(
    ("shape", "D"), [((2, 1, 200, 301), 6), ((1, 1, 50, 4100), 20), ((1, 1, 1, 70_000), 6)]
)
def test_large_pictures_run_in_strips_with_the_same_values(shape: tuple[int, ...], D: int) -> None:
    # the second one has strips of 8 rows, fewer than 20 layers hold back; the third has one row
    assert shape[0] * shape[2] * shape[3] > 2 * inference.STRIP
    network = trained(D=D)
    y = torch.rand(shape, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(models.fast(network)(y), network(y), atol=1e-5, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(2, 2, 3, padding=2, dilation=2),
        nn.Conv2d(2, 2, 3, padding=1, stride=2),
        nn.Conv2d(2, 2, 3),
        nn.Conv2d(2, 2, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(2, 2, 3, padding=1, groups=2),
        nn.Sequential(nn.Conv2d(2, 2, 5, padding=2), nn.ReLU(), nn.Conv2d(2, 2, 1)),
        nn.Sequential(nn.Conv2d(2, 2, 3, padding=1), nn.InstanceNorm2d(2)),
    ],
    ids=["dilated", "strided", "valid", "reflect", "grouped", "sizes", "norm"],
)
def test_other_stacks_keep_their_values(layer: nn.Module) -> None:
    stack = nn.Sequential(layer, nn.ReLU()).eval()
    x = torch.rand(1, 2, 331, 201, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(models.fast(stack)(x), stack(x), atol=1e-5, rtol=0)


@torch.no_grad()
def test_fold_merges_a_bias_before_the_normalisation() -> None:
    network = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4, eps=0.1), nn.ReLU())
    network[1].running_mean.uniform_(-1, 1)
    network[1].running_var.uniform_(0.1, 2)
    folded = models.fold(network)
    assert [type(layer) for layer in folded] == [nn.Conv2d, nn.ReLU]
    torch.testing.assert_close(folded(photo()), network.eval()(photo()), atol=1e-6, rtol=1e-5)


@torch.no_grad()
def test_fold_is_nested_and_keeps_what_is_no_pair() -> None:
    inner = nn.Sequential(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2), nn.BatchNorm2d(2, affine=False))
    frozen = nn.BatchNorm2d(1, track_running_stats=False)
    network = nn.ModuleDict(
        {"a": nn.Sequential(inner, nn.ReLU()), "b": nn.Sequential(nn.Conv2d(1, 1, 1), frozen)}
    )
    folded = models.fold(network)
    assert [type(layer) for layer in folded["a"][0]] == [nn.Conv2d]  # both, one after the other
    assert len(folded["b"]) == 2  # no running moments, nothing to merge
    x = torch.rand(1, 2, 5, 5)
    torch.testing.assert_close(folded["a"](x), network.eval()["a"](x))


def test_the_original_is_left_alone() -> None:
    network = trained().train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    folded, fast = models.fold(network), models.fast(network)
    assert network.training
    assert not folded.training
    assert not fast.training
    after = network.state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert next(network.parameters()).requires_grad
    assert network.layers[2].weight.is_contiguous()
    assert fast.layers[2].weight.is_contiguous(memory_format=torch.channels_last)


def test_a_folded_network_is_one_without_normalisation() -> None:
    folded = models.fold(trained())
    same = models.build("dncnn", **folded.options)
    same.load_state_dict(folded.state_dict())
    assert folded.norm == "none"
    with torch.no_grad():
        torch.testing.assert_close(same(photo()), folded(photo()))


@torch.no_grad()
def test_fast_never_writes_into_what_it_is_given() -> None:
    y = photo()
    before = y.clone()
    fast = models.fast(trained())
    fast.outputs(y)
    fast.activations(y)
    assert torch.equal(y, before)
    starts_with_relu = models.fast(nn.Sequential(nn.ReLU(), nn.Conv2d(1, 1, 1)))
    signed = y - 1
    starts_with_relu(signed)
    assert torch.equal(signed, before - 1)


@torch.no_grad()
def test_fast_activations_are_those_of_the_plain_network() -> None:
    network, y = trained(), photo()
    pairs = zip(models.fast(network).activations(y), network.activations(y), strict=True)
    for fast, plain in pairs:
        torch.testing.assert_close(fast, plain, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_fast_takes_batches_and_noise_maps() -> None:
    y = photo().repeat(3, 1, 1, 1)
    network = trained(noise_map=True, residual=False)
    level = torch.tensor([0.0, 0.1, 0.2]).view(3, 1, 1, 1)
    torch.testing.assert_close(models.fast(network)(y, level), network(y, level), atol=1e-5, rtol=0)


def test_gradients_reach_the_input_of_a_fast_network() -> None:
    network, y = trained(), photo().requires_grad_()
    (plain,) = torch.autograd.grad(network(y).square().sum(), y)
    (fast,) = torch.autograd.grad(models.fast(network)(y).square().sum(), y)
    torch.testing.assert_close(fast, plain, atol=1e-4, rtol=1e-4)


def test_names_and_options_are_checked() -> None:
    with pytest.raises(ValueError, match="model is 'dcnn'; expected one of "):
        models.build("dcnn")
    with pytest.raises(ValueError, match=r"'dncnn' refuses its options: .*'depth'"):
        models.build("dncnn", depth=17)
