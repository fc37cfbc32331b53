"""The pictures that a DILIE run works on, cut to the sizes of its profile."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from enhancelib import images, metrics, photos, runtime
from enhancelib.degradations.haze import Haze
from enhancelib.papers.dilie import data, settings
from enhancelib.papers.dilie.data import HazyPair
from enhancelib.papers.dilie.settings import Parameters, Scale

CONTENTS = ("china", "astronaut", "coffee", "chelsea")
"""Bundled photos that are made hazy, and restyled; those count that are on the machine."""
SYNTHETIC = "synthetic haze"
"""What the data set of hazy bundled photos is called."""
STYLE = "rocket"
HAZE = Haze(1.4, (0.80, 0.82, 0.85))


@dataclass(frozen=True)
class Hazy:
    """A hazy photo whose clean one is known.

    Args:
        name: Of the photo, once in a run.
        dataset: Where it comes from.
        hazy: I, (3, H, W) in [0, 1].
        clean: C, likewise.
        t: True transmission, (1, H, W); None where nobody knows it.
        A: True airlight, (3,); None likewise.
    """

    name: str
    dataset: str
    hazy: Tensor
    clean: Tensor
    t: Tensor | None = None
    A: Tensor | None = None

    @property
    def radius(self) -> int:
        """Of the guided filter that refines t: Double-DIP's 50, or less for a small photo.

        Returns:
            Pixels.
        """
        return min(50, max(4, min(self.hazy.shape[1:]) // 8))


def hazed(name: str, clean: Tensor) -> Hazy:
    """A clean photo under synthetic haze: thick at its top, thin at its bottom (Eq. 8).

    `t = exp(-1.4 d)`, the depth d falling from 1 to 0.15, and one bluish grey for A.

    Args:
        name: Of the photo.
        clean: (3, H, W) in [0, 1].

    Returns:
        The hazy photo with the truth.
    """
    made = HAZE({"clean": clean[None]}, torch.Generator())
    t, A = made["transmission"][0], made["airlight"].flatten()
    return Hazy(name, SYNTHETIC, images.clip(made["degraded"])[0], clean, t, A)


def hazy(p: Parameters) -> list[Hazy]:
    """The photos to dehaze: bundled ones under synthetic haze, then the real pairs at hand.

    Args:
        p: Profile and data_root.

    Returns:
        Photos of the profile's size: only the astronaut at profile smoke, and at most
        `scale.pairs` real ones.
    """
    scale = settings.scale(p)
    names = [name for name in CONTENTS if name in photos.names("test")]
    chosen = ["astronaut"] if p.profile == "smoke" else names
    made = [hazed(name, fitted(photos.load(name), scale.haze_size)) for name in chosen]
    return made + _real(p, scale)


def _real(p: Parameters, scale: Scale) -> list[Hazy]:
    """Pairs of data_root, of every set as many as of the others as far as they go."""
    sets: dict[str, list[HazyPair]] = {}
    for pair in data.pairs(p.data_root):
        sets.setdefault(pair.dataset, []).append(pair)
    rounds = itertools.zip_longest(*sets.values())
    chosen = [pair for one in rounds for pair in one if pair][: scale.pairs]
    found = []
    for pair in sorted(chosen, key=lambda pair: list(sets).index(pair.dataset)):
        hazy, clean = (fitted(photo, scale.haze_size) for photo in pair.read())
        found.append(Hazy(pair.name, pair.dataset, hazy, clean))
    return found


def noisy(p: Parameters) -> tuple[str, Tensor, Tensor]:
    """The picture to denoise: the centre of F16, or of a bundled photo, with noise.

    The photo is reduced to 256 pixels where the crop fits into that; noise is added and clipped, as
    Deep Image Prior does.

    Args:
        p: Profile, data_root, sigma, and the first seed, which draws the noise.

    Returns:
        (name, clean, noisy), both (3, s, s) in [0, 1].
    """
    side = settings.scale(p).crop
    name, photo = official(p, "F16_GT", "astronaut")
    clean = cropped(photo, max(256, side), side)
    noise = torch.randn(clean.shape, generator=runtime.generator(p.seed, "noise"))
    return name, clean, images.clip(clean + p.sigma / 255 * noise)


def style(p: Parameters) -> Tensor:
    """The style photo S: the reader's `reference`, or a bundled one.

    Args:
        p: Its reference and profile.

    Returns:
        (3, h, w) in [0, 1], its long side that of the pictures to restyle.
    """
    photo = images.read(p.reference) if p.reference else photos.load(STYLE)
    return shrunk(photo, settings.scale(p).side)


def shrunk(photo: Tensor, side: int) -> Tensor:
    """A photo whose long side is not longer than it may be.

    Args:
        photo: (C, H, W) in [0, 1].
        side: Pixels.

    Returns:
        (C, h, w) in [0, 1]; the photo itself where it is small enough.
    """
    part = side / max(photo.shape[1:])
    if part >= 1:
        return photo
    height, width = (max(1, round(part * n)) for n in photo.shape[1:])
    return images.clip(images.resize(photo, size=(height, width)))


def official(p: Parameters, name: str, bundled: str) -> tuple[str, Tensor]:
    """A picture of Deep Image Prior's notebooks, or a bundled photo where data_root has none.

    Args:
        p: Its data_root.
        name: Of the file in data_root/dip, without ".png".
        bundled: Name of the photo.

    Returns:
        (name, (3, H, W) in [0, 1]).
    """
    file = Path(p.data_root).expanduser() / "dip" / f"{name}.png"
    if p.data_root and file.is_file():
        return name.removesuffix("_GT"), images.read(file)
    return bundled, photos.load(bundled)


def cropped(photo: Tensor, short: int, side: int) -> Tensor:
    """The centre of a photo that has been made smaller.

    Args:
        photo: (C, H, W) in [0, 1].
        short: Its short side becomes this.
        side: Of the square that is cut out, at most `short`.

    Returns:
        (C, side, side) in [0, 1].
    """
    height, width = photo.shape[1:]
    part = short / min(height, width)
    size = (max(short, round(height * part)), max(short, round(width * part)))
    return _centre(images.clip(images.resize(photo, size=size)), (side, side))


def fitted(photo: Tensor, size: tuple[int, int]) -> Tensor:
    """A photo in another size: as much of its centre as has the new shape, resized.

    Args:
        photo: (C, H, W) in [0, 1].
        size: (height, width).

    Returns:
        (C, height, width) in [0, 1].
    """
    height, width = photo.shape[1:]
    part = min(height / size[0], width / size[1])
    centre = _centre(photo, (round(size[0] * part), round(size[1] * part)))
    return images.clip(images.resize(centre, size=size))


def _centre(photo: Tensor, size: tuple[int, int]) -> Tensor:
    top, left = ((whole - part) // 2 for whole, part in zip(photo.shape[1:], size, strict=True))
    return photo[:, top : top + size[0], left : left + size[1]]


def score(metric: str, picture: Tensor, clean: Tensor) -> float:
    """One metric of one picture, clipped.

    Args:
        metric: A name of `metrics.METRICS`.
        picture: (C, H, W), judged.
        clean: (C, H, W), the truth, in [0, 1].

    Returns:
        The value.
    """
    x, y = images.clip(picture.detach().cpu().float())[None], clean.cpu().float()[None]
    return float(metrics.METRICS[metric](x, y)[0])
