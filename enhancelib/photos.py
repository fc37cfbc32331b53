"""Real photographs: those inside scikit-image, and the bank that `enhancelib fetch` brings.

`data/photos.csv` is the catalogue: one row per photograph, with its author, licence, and the
package that carries it. It also fixes the split, by photograph, once and for all. The photos that
other benchmarks share (monarch, sail, tulips, barbara, kodim23) are all in the test split, so
nothing trained here has seen a picture of Set5, Set12, LIVE1 or Kodak. Pictures of one room or one
scene are never in two splits. Left out of the packages: a render, a blank wall, a second exposure
of one scene, a picture with a caption across it.

The sha256 of a row is that of the file as the package stores it; it is checked before the file is
decoded. Fetched photos are kept as PNG, so their pixels are those of the first decoding.
"""

from __future__ import annotations

import csv
import hashlib
import io
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from enhancelib import runtime

SPLITS = ("train", "validation", "test")
BUNDLED = "scikit-image"


class PhotosMissing(RuntimeError):
    """A photo of the catalogue is not on this machine, or what is there is not that photo."""


@dataclass(frozen=True)
class Photo:
    """One row of data/photos.csv.

    Args:
        name: Unique short name.
        split: "train", "validation" or "test".
        package: The package that carries it.
        version: That package's version, pinned by sha256 where it is fetched.
        member: Path inside the package.
        author: The photographer or publisher, or "unknown".
        licence: As the package states it.
        publishable: Whether the picture may appear in figures/.
        sha256: Of the file as the package stores it.
        width: Pixels.
        height: Pixels.
        colour: False where the file has one channel.
    """

    name: str
    split: str
    package: str
    version: str
    member: str
    author: str
    licence: str
    publishable: bool
    sha256: str
    width: int
    height: int
    colour: bool

    @property
    def path(self) -> Path:
        """Where the photo lies on this machine; the file need not exist."""
        if self.package != BUNDLED:
            return runtime.cache() / "photos" / f"{self.name}.png"
        spec = find_spec("skimage")  # found, not imported
        places = spec.submodule_search_locations if spec else None
        return Path(places[0] if places else "skimage").parent / self.member


@lru_cache(maxsize=1)
def catalogue() -> tuple[Photo, ...]:
    """Every photograph that the project knows, at hand or not.

    Returns:
        The rows of data/photos.csv in its order: train, validation, test.
    """
    with runtime.data("photos.csv").open(newline="", encoding="utf-8") as lines:
        return tuple(_photo(row) for row in csv.DictReader(lines))


def _photo(row: dict[str, str]) -> Photo:
    return Photo(
        name=row["name"],
        split=row["split"],
        package=row["package"],
        version=row["version"],
        member=row["member"],
        author=row["author"],
        licence=row["licence"],
        publishable=row["publishable"] == "yes",
        sha256=row["sha256"],
        width=int(row["width"]),
        height=int(row["height"]),
        colour=row["colour"] == "yes",
    )


def names(split: str, colour: bool = True, *, bundled: bool = False) -> tuple[str, ...]:
    """The photos of one split that are on this machine.

    Args:
        split: "train", "validation" or "test".
        colour: True for the colour photographs, False for the grey ones.
        bundled: Only those inside scikit-image: the same list on every machine.

    Returns:
        Names in the catalogue's order.

    Raises:
        ValueError: If the split is unknown.

    Example:
        >>> names("test", bundled=True)
        ('astronaut', 'coffee', 'chelsea')
        >>> names("training")
        Traceback (most recent call last):
        ValueError: split is 'training'; expected one of train, validation, test
    """
    if split not in SPLITS:
        raise ValueError(f"split is {split!r}; expected one of {', '.join(SPLITS)}")
    return tuple(
        photo.name
        for photo in catalogue()
        if photo.split == split
        and photo.colour == colour
        and (photo.package == BUNDLED or not bundled)
        and photo.path.is_file()
    )


def find(name: str) -> Photo:
    """The catalogue's row of one photo.

    Args:
        name: As in the catalogue.

    Returns:
        The row, whether or not the photo is on this machine.

    Raises:
        ValueError: If the catalogue has no such photo.

    Example:
        >>> find("coffee").author
        'Rachel Michetti'
        >>> find("cofee")
        Traceback (most recent call last):
        ValueError: no photo is named 'cofee'; did you mean coffee? data/photos.csv lists all 73
    """
    rows = {photo.name: photo for photo in catalogue()}
    if name in rows:
        return rows[name]
    near = get_close_matches(name, rows, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    raise ValueError(f"no photo is named {name!r}; {hint}data/photos.csv lists all {len(rows)}")


def load(name: str) -> Tensor:
    """Read one photo.

    Args:
        name: As in the catalogue.

    Returns:
        (3, H, W), or (1, H, W) for a grey photo, float32 in [0, 1].

    Raises:
        ValueError: If the catalogue has no such photo.
        PhotosMissing: If the photo is not on this machine, or its file is damaged.

    Example:
        >>> load("chelsea").shape
        torch.Size([3, 300, 451])
        >>> load("Lenna")
        Traceback (most recent call last):
        ValueError: no photo is named 'Lenna'; data/photos.csv lists all 73
        >>> import os
        >>> from unittest.mock import patch
        >>> with patch.dict(os.environ, ENHANCELIB_CACHE="/nowhere"):
        ...     load("kodim23")
        Traceback (most recent call last):
        enhancelib.photos.PhotosMissing: kodim23 is not in /nowhere/photos; \
run `enhancelib fetch --only photos`
    """
    return _pixels(find(name)).to(torch.float32) / 255


def bank(
    split: str,
    colour: bool = True,
    *,
    bundled: bool = False,
    dtype: torch.dtype = torch.float32,
) -> dict[str, Tensor]:
    """All photos of one split that are on this machine.

    Args:
        split: "train", "validation" or "test".
        colour: True for the colour photographs, False for the grey ones.
        bundled: Only those inside scikit-image.
        dtype: torch.float32 for [0, 1]; torch.uint8 for the stored values, a quarter of the
            memory: the whole training split is 0.5 GB as uint8.

    Returns:
        name -> (3, H, W) or (1, H, W), in the catalogue's order.

    Raises:
        ValueError: If the split or the dtype is unknown.
        PhotosMissing: If the file of a photo is damaged.

    Example:
        >>> bank("train", colour=False)["grass"].shape
        torch.Size([1, 512, 512])
        >>> bank("test", dtype=torch.int64)
        Traceback (most recent call last):
        ValueError: dtype is torch.int64; expected torch.float32 or torch.uint8
        >>> import os, pathlib, tempfile
        >>> from unittest.mock import patch
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     broken = pathlib.Path(folder, "photos", "kodim23.png")
        ...     broken.parent.mkdir()
        ...     _ = broken.write_bytes(b"")
        ...     with patch.dict(os.environ, ENHANCELIB_CACHE=folder):
        ...         bank("test")
        Traceback (most recent call last):
        enhancelib.photos.PhotosMissing: ...kodim23.png cannot be read ...
    """
    if dtype not in (torch.float32, torch.uint8):
        raise ValueError(f"dtype is {dtype}; expected torch.float32 or torch.uint8")
    read = _pixels if dtype is torch.uint8 else lambda photo: load(photo.name)
    return {name: read(find(name)) for name in names(split, colour, bundled=bundled)}


def _pixels(photo: Photo) -> Tensor:
    try:
        stored = photo.path.read_bytes()
    except OSError as error:
        raise PhotosMissing(_absence(photo)) from error
    if photo.package == BUNDLED and hashlib.sha256(stored).hexdigest() != photo.sha256:
        raise PhotosMissing(
            f"{photo.path} is not the {photo.name} of {photo.package} {photo.version}; "
            f"install that version again"
        )
    return decode(stored, photo)


def _absence(photo: Photo) -> str:
    if photo.package == BUNDLED:
        return f"{photo.path} is absent; install {photo.package} {photo.version}"
    return f"{photo.name} is not in {photo.path.parent}; run `enhancelib fetch --only photos`"


def decode(stored: bytes, photo: Photo) -> Tensor:
    """Decode the file of one photo, after comparing its header with the catalogue.

    Args:
        stored: The bytes of a PNG or JPEG file.
        photo: Which photo it must be.

    Returns:
        (3, H, W), or (1, H, W) for a grey photo, uint8.

    Raises:
        PhotosMissing: If the bytes are no picture, are cut short, or have another size.

    Example:
        >>> chelsea = find("chelsea")
        >>> decode(chelsea.path.read_bytes(), chelsea).dtype
        torch.uint8
        >>> decode(chelsea.path.read_bytes(), find("coffee"))
        Traceback (most recent call last):
        enhancelib.photos.PhotosMissing: ...coffee.png holds 451x300 RGB, expected 600x400 RGB...
    """
    expected = (photo.width, photo.height), "RGB" if photo.colour else "L"
    try:
        with Image.open(io.BytesIO(stored), formats=("PNG", "JPEG")) as image:
            if (image.size, image.mode) != expected:
                raise PhotosMissing(
                    f"{photo.path} holds {image.width}x{image.height} {image.mode}, expected "
                    f"{photo.width}x{photo.height} {expected[1]}; run `enhancelib fetch` again"
                )
            values = np.array(image)
    except (OSError, SyntaxError, UnidentifiedImageError) as error:  # what Pillow raises
        raise PhotosMissing(
            f"{photo.path} cannot be read ({error}); run `enhancelib fetch --only photos` again"
        ) from error
    planes = values.reshape(photo.height, photo.width, -1).transpose(2, 0, 1)
    return torch.from_numpy(np.ascontiguousarray(planes))
