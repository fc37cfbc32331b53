"""Lays out small trees like DPED's and the PIRM subset's, out of real pairs or bundled photos."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import skimage.data
import torch
from PIL import Image

from enhancelib.degradations import Phone
from enhancelib.images import from_array, to_uint8


def pairs_of(
    assets: Path, folder: Path, numbers: Sequence[int], *, phone: str = "iphone", start: int = 0
) -> Path:
    """Copy real pairs of the PIRM subset into folder/{phone,canon}/, numbered from `start`."""
    for ours, theirs in ((phone, "iphone"), ("canon", "canon")):
        (folder / ours).mkdir(parents=True)
        for k, number in enumerate(numbers, start):
            source = assets / "data" / "dped" / "patches" / theirs / f"{number}.jpg"
            shutil.copyfile(source, folder / ours / f"{k}.jpg")
    return folder


def tree(
    assets: Path, root: Path, *, phone: str = "iphone", train: int = 30, test: int = 6
) -> Path:
    """A DPED tree of real pairs under root/dped; training pairs begin with 100, test with 300."""
    home = root / "dped" / phone
    pairs_of(assets, home / "training_data", range(100, 100 + train), phone=phone)
    pairs_of(assets, home / "test_data" / "patches", range(300, 300 + test), phone=phone)
    return root


def made(folder: Path, numbers: Sequence[int], *, size: int = 40, phone: str = "iphone") -> Path:
    """Pairs cut from a bundled photo and the stand-in phone's picture of it."""
    coffee = from_array(skimage.data.coffee())[None]
    taken = Phone()({"clean": coffee}, torch.Generator().manual_seed(0))["degraded"]
    for name, picture in ((phone, taken[0]), ("canon", coffee[0])):
        (folder / name).mkdir(parents=True)
        for k, number in enumerate(numbers):
            top, left = 7 * k % (400 - size), 31 * k % (600 - size)
            patch = to_uint8(picture[:, top : top + size, left : left + size])
            image = Image.fromarray(patch.permute(1, 2, 0).numpy())
            image.save(folder / name / f"{number}.jpg", quality=95)
    return folder
