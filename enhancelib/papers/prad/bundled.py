"""Pairs made of bundled photos by a stand-in phone, and whole bundled photos."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from enhancelib import images, photos, runtime
from enhancelib.datasets import DataError
from enhancelib.degradations import Phone
from enhancelib.pairs import Pairs

PATCH = 100  # pixels, as DPED's
_TRIES = 3  # places looked at for every patch of a photo; the most textured is taken
_SHORTEST, _LONGEST = 150, 1000  # shorter side of a reduced photo that patches are cut from
_SCREEN = 1280  # longer side of a whole photo


@dataclass(frozen=True)
class Size:
    """How many patches a profile makes of bundled photos.

    Args:
        train: For training.
        validation: For curves and the critic on its own.
        test: For tables.
    """

    train: int
    validation: int
    test: int


SIZES: Mapping[str, Size] = {
    "smoke": Size(16, 8, 8),
    "small": Size(640, 64, 100),
    "large": Size(4000, 64, 100),
    "paper": Size(4000, 64, 100),
}


def bank(
    split: str,
    count: int,
    *,
    seed: int = 0,
    phone: Phone | None = None,
    size: int = PATCH,
    bundled: bool = False,
) -> Pairs:
    """Pairs made of bundled photos: as many patches of each, reduced, then taken by a phone.

    A patch is the most textured of three places in the photo, which holds more walls than detail;
    reduced by 2 or 4 where the photo is large, as a phone's 3 megapixels would show it. Only what
    the degradation saw all around is kept, so no border is made up.

    Args:
        split: "train", "validation" or "test".
        count: Patches in all.
        seed: Of places and degradation.
        phone: The degradation; None means the stand-in for an iPhone 3GS.
        size: Side in pixels.
        bundled: Only photos inside scikit-image.

    Returns:
        `count` pairs in random order, named after their photos.

    Raises:
        DataError: If no photo of the split is at hand.

    Example:
        >>> pairs = bank("test", 6, bundled=True)
        >>> sorted({name.split(" ")[0] for name in pairs.names}), pairs.clean.shape
        (['astronaut', 'chelsea', 'coffee'], torch.Size([6, 3, 100, 100]))
        >>> from unittest.mock import patch
        >>> with patch.object(photos, "names", return_value=()):
        ...     bank("test", 7)
        Traceback (most recent call last):
        enhancelib.datasets.DataError: no photo of split 'test' is at hand; run `enhancelib ...
    """
    return _made(split, count, seed, phone or Phone(), size, bundled)


@lru_cache(maxsize=8)
def _made(split: str, count: int, seed: int, phone: Phone, size: int, bundled: bool) -> Pairs:
    listed = photos.names(split, bundled=bundled)
    if not listed:
        raise DataError(f"no photo of split {split!r} is at hand; run `enhancelib fetch`")
    generator = runtime.generator(seed, "prad", "patches", split)
    names, clean = [], []
    for k, photo in enumerate(listed):
        share = (k + 1) * count // len(listed) - k * count // len(listed)
        if share:
            picture = photos.load(photo)
            names += [f"{photo} {j}" for j in range(share)]
            clean += [_patch(picture, size + 2 * phone.reach, generator) for _ in range(share)]
    order = torch.randperm(count, generator=generator).tolist()
    levels = _pairs(torch.stack([clean[k] for k in order]), phone, generator)
    return Pairs(tuple(names[k] for k in order), levels)


def _pairs(clean: Tensor, phone: Phone, generator: torch.Generator) -> Tensor:
    """(2, N, 3, size, size) uint8 of wider patches; the margin goes."""
    inner = slice(phone.reach, clean.shape[-1] - phone.reach)
    taken = []
    for start in range(0, len(clean), 64):
        sample = phone({"clean": clean[start : start + 64]}, generator)
        kept = [sample[key][..., inner, inner] for key in ("degraded", "clean")]
        taken.append(images.to_uint8(torch.stack(kept)))
    return torch.cat(taken, dim=1)


def _patch(picture: Tensor, side: int, generator: torch.Generator) -> Tensor:
    """(3, side, side): the most textured of some places, reduced."""
    height, width = picture.shape[-2:]
    fitting = [
        f
        for f in (1, 2, 4)
        if f * side <= min(height, width) and _SHORTEST <= min(height, width) / f <= _LONGEST
    ]
    factor = fitting[int(torch.randint(len(fitting), (1,), generator=generator))]
    reach = factor * side
    places = []
    for _ in range(_TRIES):
        top = int(torch.randint(height - reach + 1, (1,), generator=generator))
        left = int(torch.randint(width - reach + 1, (1,), generator=generator))
        places.append(picture[:, top : top + reach, left : left + reach])
    best = max(places, key=lambda x: float(images.luma(x[:, ::factor, ::factor]).std()))
    return best if factor == 1 else images.resize(best, size=(side, side)).clamp(0, 1)


def other_cameras(bundled: bool = False) -> list[str]:
    """Bundled photos of other cameras, for the strip of what a network makes of them.

    Args:
        bundled: Only photos inside scikit-image.

    Returns:
        Names of test photos whose licence allows a figure.
    """
    names = photos.names("test", bundled=bundled)
    return [one for one in names if photos.find(one).publishable]


def whole(name: str) -> Tensor:
    """A bundled photo at the size of a screen.

    Args:
        name: As in the catalogue.

    Returns:
        (3, H, W), at most 1280 pixels long, in [0, 1].
    """
    picture = photos.load(name)
    longest = max(picture.shape[-2:])
    if longest <= _SCREEN:
        return picture
    return images.resize(picture, scale=_SCREEN / longest).clamp(0, 1)


def taken(picture: Tensor, generator: torch.Generator) -> Tensor:
    """A whole photo as the stand-in phone takes it.

    Args:
        picture: (3, H, W) in [0, 1].
        generator: On the CPU.

    Returns:
        (3, H, W) in [0, 1].
    """
    return Phone()({"clean": picture[None]}, generator)["degraded"][0]
