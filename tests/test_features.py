"""Feature networks: torchvision's activations, the original VGG19's, and refusals."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from enhancelib import photos, runtime
from enhancelib.features import LAYOUTS, Features, FeaturesMissing, digest, load, present, shapes

TAPS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1", "relu5_4")


@pytest.fixture(scope="module")
def coffee() -> Tensor:
    return photos.load("coffee")[None]


def _torchvision(name: str) -> nn.Sequential:
    from torchvision import models

    build: Callable[[], nn.Module] = getattr(models, name)
    stages: nn.Sequential = build().features  # type: ignore[assignment]
    ours = load(name).stages.state_dict()
    stages.load_state_dict(dict(zip(stages.state_dict(), ours.values(), strict=True)))
    for stage in stages:
        if isinstance(stage, nn.ReLU):
            stage.inplace = False
    return stages.eval()


@pytest.mark.parametrize("name", ["vgg16", "alexnet"])
def test_every_layer_agrees_with_torchvision(features: Path, coffee: Tensor, name: str) -> None:
    ours, x = load(name), coffee[..., :131, :97]
    found = ours(x, ours.layers)
    mean, deviation = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    x = (x - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(deviation).view(3, 1, 1)
    with torch.no_grad():
        for stage, layer in zip(_torchvision(name), ours.layers, strict=False):
            x = stage(x)
            torch.testing.assert_close(found[layer], x, rtol=1e-5, atol=1e-5, msg=layer)


def test_first_filters_are_the_published_ones(features: Path) -> None:
    """specs/weights-and-photos.md 2.1: torchvision's first numbers."""
    vgg16 = load("vgg16").stages["conv1_1"].weight[0, 0, 0]
    alexnet = load("alexnet").stages["conv1"].weight[0, 0, 0, :3]
    assert torch.allclose(vgg16, torch.tensor([-0.5537, 0.1427, 0.5290]), atol=5e-5)
    assert torch.allclose(alexnet, torch.tensor([0.1186, 0.0941, 0.0954]), atol=5e-5)


def test_original_vgg19_has_activations_of_its_known_size(features: Path, coffee: Tensor) -> None:
    """The spec gives 27, 125, 126, 503, 41, 1.15 on a photo; these are coffee's own."""
    found = load("vgg19")(coffee, TAPS)
    means = [float(found[name].mean()) for name in TAPS]
    assert means == pytest.approx([27, 125, 126, 503, 41, 1.15], rel=0.2)
    assert means == pytest.approx([25.783, 119.016, 117.613, 480.05, 39.461, 0.986], rel=1e-3)


def test_normalised_vgg19_has_unit_activations(features: Path, coffee: Tensor) -> None:
    found = load("vgg19_normalised")(coffee, TAPS)
    means = [float(found[name].mean()) for name in TAPS]
    assert means == pytest.approx([1.229, 1.053, 0.997, 1.017, 0.841, 0.828], abs=2e-3)


@pytest.mark.parametrize(
    ("layer", "index", "margin"),
    [
        ("relu1_1", 0, 1),
        ("relu2_1", 2, 3),
        ("relu3_1", 4, 5),
        ("relu4_1", 8, 8),
        ("relu5_1", 12, 7),
    ],
)
def test_both_vgg19_agree_up_to_channel_scales_away_from_borders(
    features: Path, coffee: Tensor, layer: str, index: int, margin: int
) -> None:
    x = coffee[..., 64:320, 128:384]  # a multiple of 16, so floor and ceiling pool alike
    with np.load(runtime.data("features/vgg19_channel_scales.npz")) as stored:
        scale = torch.from_numpy(stored[f"a{index:02d}"]).float().view(-1, 1, 1)
    inside = (..., slice(margin, -margin), slice(margin, -margin))
    exact = (load("vgg19")(x, (layer,))[layer] * scale)[inside]
    normalised = load("vgg19_normalised")(x, (layer,))[layer][inside]
    assert exact.numel() > 0
    assert float((exact - normalised).abs().max()) < 1e-4 * float(normalised.abs().max())


def test_borders_and_pooling_differ_as_told(features: Path) -> None:
    x = torch.rand(1, 3, 33, 33, generator=torch.Generator().manual_seed(0))
    assert load("vgg19")(x, ("relu2_1",))["relu2_1"].shape[-1] == 16
    assert load("vgg19_normalised")(x, ("relu2_1",))["relu2_1"].shape[-1] == 17


@pytest.mark.parametrize(
    ("ceil", "sides"), [(True, (100, 50, 25, 13, 7)), (False, (100, 50, 25, 12, 6))]
)
def test_ceiling_keeps_the_last_row_as_dpeds_code_does(
    features: Path, coffee: Tensor, ceil: bool, sides: tuple[int, ...]
) -> None:
    x, taps = coffee[..., :100, :100], ("relu1_2", "relu2_2", "relu3_4", "relu4_4", "relu5_4")
    found = load("vgg19", ceil=ceil)(x, taps)
    assert tuple(found[name].shape[-1] for name in taps) == sides
    assert tuple(found[name].shape[-2] for name in taps) == sides


def test_ceiling_changes_nothing_where_sizes_divide(features: Path, coffee: Tensor) -> None:
    x, taps = coffee[..., :64, :96], ("relu4_2", "relu5_4")
    one, two = (load("vgg19", ceil=ceil)(x, taps) for ceil in (False, True))
    for name in taps:
        assert torch.equal(one[name], two[name]), name


def test_the_normalised_network_always_pools_with_ceiling(features: Path) -> None:
    x = torch.rand(1, 3, 33, 33, generator=torch.Generator().manual_seed(0))
    one, two = (load("vgg19_normalised", ceil=c)(x, ("relu2_1",))["relu2_1"] for c in (True, False))
    assert torch.equal(one, two)


def test_bfloat16_is_close(features: Path, coffee: Tensor) -> None:
    x, taps = coffee[..., :64, :64], ("relu1_2", "relu4_2", "relu5_4")
    exact, rough = load("vgg19")(x, taps), load("vgg19", precision="bf16")(x, taps)
    for name in taps:
        assert rough[name].dtype == torch.bfloat16
        error = (rough[name].float() - exact[name]).norm() / exact[name].norm()
        assert 1e-4 < float(error) < 0.05, name
    with pytest.raises(ValueError, match="precision is 'fp16'; expected 'fp32' or 'bf16'"):
        load("vgg19", precision="fp16")


def test_original_input_is_bgr_minus_the_mean(features: Path) -> None:
    red = torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1).expand(1, 3, 4, 4)
    first = load("vgg19").stages["conv1_1"]
    prepared = torch.tensor([-103.939, -116.779, 255 - 123.68]).view(1, 3, 1, 1).expand(1, 3, 4, 4)
    found = load("vgg19")(red, ("conv1_1",))["conv1_1"]
    assert torch.allclose(found, first(prepared), atol=1e-3)


def test_networks_are_frozen_and_images_are_not(features: Path) -> None:
    network = load("alexnet")
    assert not any(value.requires_grad for value in network.parameters())
    assert not network.training
    image = torch.full((1, 3, 64, 64), 0.5, requires_grad=True)
    network(image, ("relu2",))["relu2"].mean().backward()
    assert image.grad is not None
    assert float(image.grad.abs().sum()) > 0


def test_loading_draws_no_random_numbers(features: Path) -> None:
    before = torch.get_rng_state()
    load("vgg16")
    assert torch.equal(torch.get_rng_state(), before)


def test_nothing_deeper_than_asked_is_computed() -> None:
    network, deeper = Features(LAYOUTS["vgg16"]), []
    network.stages["conv2_1"].register_forward_hook(lambda *_: deeper.append(1))
    x = torch.rand(1, 3, 16, 16)
    assert list(network(x, ("relu1_2", "conv1_1", "relu1_2"))) == ["conv1_1", "relu1_2"]
    assert not deeper
    network(x, ("conv2_1",))
    assert deeper


def test_layer_names_and_counts() -> None:
    convolutions = {"vgg19": 16, "vgg19_normalised": 16, "vgg16": 13, "alexnet": 5}
    numbers = {"vgg19": 20_024_384, "vgg16": 14_714_688, "alexnet": 2_469_696}
    for name, count in convolutions.items():
        found = shapes(LAYOUTS[name])
        assert sum(key.endswith(".weight") for key in found) == count
        assert sum(np.prod(shape) for shape in found.values()) == numbers[name.split("_")[0]]


@pytest.mark.parametrize(
    ("image", "layers", "message"),
    [
        (torch.rand(3, 32, 32), ("relu1_1",), r"image is \(3, 32, 32\)"),
        (torch.rand(1, 1, 32, 32), ("relu1_1",), r"image is \(1, 1, 32, 32\)"),
        (torch.zeros(1, 3, 32, 32, dtype=torch.uint8), ("relu1_1",), "torch.uint8"),
        (torch.rand(1, 3, 32, 32), (), r"layers is \(\)"),
        (torch.rand(1, 3, 32, 32), "relu1_1", "layers is 'relu1_1'"),
        (torch.rand(1, 3, 32, 32), ("relu1_1", "relu1_3"), "asks for relu1_3; .* conv1_1"),
        (torch.rand(1, 3, 15, 64), ("relu5_1",), "pool4 gets 1x8 pixels and needs 2x2"),
    ],
)
def test_bad_input_is_refused(image: Tensor, layers: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Features(LAYOUTS["vgg16"])(image, layers)


@pytest.mark.parametrize(
    ("name", "side", "layer"),
    [("alexnet", 6, "conv1"), ("alexnet", 30, "relu5"), ("vgg19_normalised", 1, "conv1_1")],
)
def test_too_small_images_are_refused(name: str, side: int, layer: str) -> None:
    with pytest.raises(ValueError, match="image is too small"):
        Features(LAYOUTS[name])(torch.rand(1, 3, side, side), (layer,))
    network = Features(LAYOUTS[name])
    assert network(torch.rand(1, 3, side + 1, side + 1), (layer,))[layer].numel()


@pytest.fixture
def own(features: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own with AlexNet in it."""
    stored = tmp_path / "features" / "alexnet.safetensors"
    stored.parent.mkdir()
    shutil.copy(features / "features" / "alexnet.safetensors", stored)
    monkeypatch.setenv("ENHANCELIB_CACHE", str(tmp_path))
    return stored


@pytest.mark.parametrize("name", ["vgg19", "vgg19_normalised", "vgg16"])
def test_missing_values_name_the_command(own: Path, name: str) -> None:
    only = name.removesuffix("_normalised")
    assert not present(name)
    with pytest.raises(FeaturesMissing, match=f"run `enhancelib fetch --only {only}`"):
        load(name)
    assert present("alexnet")
    load("alexnet")


@pytest.mark.parametrize("length", [0, 4, 100, -1])
def test_truncated_values_are_refused(own: Path, length: int) -> None:
    own.write_bytes(own.read_bytes()[:length])
    with pytest.raises(FeaturesMissing, match=r"damaged .*--only alexnet` again"):
        load("alexnet")


def test_one_flipped_bit_is_refused(own: Path) -> None:
    content = bytearray(own.read_bytes())
    content[-5] ^= 1
    own.write_bytes(content)
    with pytest.raises(FeaturesMissing, match="other values than the pinned ones"):
        load("alexnet")


def test_digest_depends_on_every_value(features: Path) -> None:
    state = load("alexnet").stages.state_dict()
    assert digest(state, LAYOUTS["alexnet"]) == LAYOUTS["alexnet"].digest
    changed = {**state, "conv5.bias": state["conv5.bias"] + 1e-6}
    assert digest(changed, LAYOUTS["alexnet"]) != LAYOUTS["alexnet"].digest
    with pytest.raises(ValueError, match=r"conv1.weight is torch.float64"):
        digest({**state, "conv1.weight": state["conv1.weight"].double()}, LAYOUTS["alexnet"])
    with pytest.raises(ValueError, match=r"of \(384,\)"):
        digest({**state, "conv5.bias": torch.zeros(384)}, LAYOUTS["alexnet"])
