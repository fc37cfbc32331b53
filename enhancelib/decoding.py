"""Picture files to arrays: what Pillow decodes, without its surprises.

Pillow keeps only 8 of 16 bits in colour, warns about large files on standard error, takes the
first frame of an animation and guesses what CMYK means. Here each is handled or refused.
"""

from __future__ import annotations

import os
import struct
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

Pixels = np.ndarray[Any, np.dtype[Any]]

_DEEP_GREY = ("I;16", "I;16L", "I;16B", "I;16N")
_GREY = ("1", "L", "LA")
_COLOUR = ("P", "PA", "RGB", "RGBA", "RGBX", "YCbCr", "HSV")
_CURE = {
    "CMYK": "its colours depend on a print profile; export it as RGB",
    "LAB": "export it as RGB",
    "F": "the range of its numbers is unknown; save it with 8 or 16 bits",
    "I": "the range of its 32-bit numbers is unknown; save it with 8 or 16 bits",
}
# What Pillow's decoders raise on a damaged file, beside its own UnidentifiedImageError.
_BROKEN = (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, zlib.error)


class Refused(ValueError):
    """The file cannot or must not be decoded; the message says why and what to do."""


def decode(path: Path, limit: int) -> Pixels:
    """Decode one picture file, upright.

    Args:
        path: The file.
        limit: Most pixels accepted; they are counted before any is decoded.

    Returns:
        (H, W, 1) or (H, W, 3), uint8 or uint16.

    Raises:
        Refused: If the file is missing, empty, damaged or too large, or is transparent, CMYK,
            floating-point or animated.

    Example:
        >>> decode(Path("/"), 100)
        Traceback (most recent call last):
        enhancelib.decoding.Refused: is a folder; name one picture file
    """
    _check_file(path)
    try:
        with _no_pillow_limit():
            return _decode(path, limit)
    except Refused:
        raise
    except UnidentifiedImageError as error:
        raise Refused("not a picture that Pillow reads; convert it to PNG or JPEG") from error
    except PermissionError as error:
        raise Refused("no permission to read it") from error
    except _BROKEN as error:
        raise Refused(f"damaged or truncated ({error}); get the file again") from error


def _check_file(path: Path) -> None:
    # os.path answers False where Path.exists raises, as for a name that is too long.
    if os.path.isdir(path):
        raise Refused("is a folder; name one picture file")
    if not os.path.exists(path):
        raise Refused("no such file; check the path")
    if not os.path.isfile(path):
        raise Refused("is a pipe or a device; save the picture to a file first")
    if os.path.getsize(path) == 0:
        raise Refused("is empty (0 bytes); get the file again")


@contextmanager
def _no_pillow_limit() -> Iterator[None]:
    """Let our limit stand in for Pillow's, which only warns and does not name the file."""
    before = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


def _decode(path: Path, limit: int) -> Pixels:
    # Given a name, Pillow 13 maps plain TIFF into memory and then garbles turned grey ones.
    with path.open("rb") as file, Image.open(file) as picture:
        _refuse(picture, limit)
        low_tiles = _low_byte_tiles(picture)
        high = _pixels(picture)
    if low_tiles is None:
        return high
    with path.open("rb") as file, Image.open(file) as picture:
        picture.tile = low_tiles
        low = _pixels(picture, opaque=True)
    both: Pixels = high.astype(np.uint16) * np.uint16(256) + low
    return both


def _refuse(picture: Image.Image, limit: int) -> None:
    width, height = picture.size
    if width * height > limit:
        raise Refused(
            f"{width} x {height} is {width * height / 1e6:.0f} megapixels, over the limit of "
            f"{limit / 1e6:.0f}; cut or shrink it, or raise `limit`"
        )
    # Phones write a preview as the second frame of an MPO; the first is the photograph.
    frames = 1 if picture.format == "MPO" else getattr(picture, "n_frames", 1)
    if frames > 1:
        raise Refused(f"holds {frames} frames or pages; save one of them by itself")
    deep = picture.mode in _DEEP_GREY or (picture.mode == "I" and picture.format in ("PNG", "PPM"))
    if not deep and picture.mode not in _GREY + _COLOUR:
        raise Refused(
            f"colour mode is {picture.mode}; {_CURE.get(picture.mode, 'export it as RGB')}"
        )


def _low_byte_tiles(picture: Image.Image) -> list[Any] | None:
    """Decoder settings that give the low bytes of a 16-bit colour file; None for 8-bit files.

    Pillow keeps the high byte of 16-bit colour. Told the opposite byte order, the same decoder
    keeps the low one.
    """
    tiles = getattr(picture, "tile", [])
    if picture.mode in (*_DEEP_GREY, "I") or all(_opposite(t[3]) == t[3] for t in tiles):
        return None
    if any("LA;16B" in str(tile[3]) for tile in tiles):
        raise Refused("holds 16-bit grey with alpha; save it without the alpha channel")
    return [_with_settings(tile, _opposite(tile[3])) for tile in tiles]


def _with_settings(tile: tuple[Any, ...], settings: object) -> tuple[Any, ...]:
    fresh = (*tile[:3], settings)
    # Pillow's decoders read the fields of a named tuple from version 11 on; before, of a tuple.
    return type(tile)(*fresh) if hasattr(tile, "_fields") else fresh


def _opposite(settings: object) -> object:
    """Decoder settings, a raw mode such as "RGB;16B" or a tuple with one, in the other order."""
    if isinstance(settings, tuple):
        return tuple(_opposite(value) for value in settings)
    if not isinstance(settings, str) or ";16" not in settings:
        return settings
    native = {"little": "L", "big": "B"}[sys.byteorder]
    order = settings[-1].replace("N", native)
    return settings[:-1] + {"L": "B", "B": "L"}.get(order, order)


def _pixels(picture: Image.Image, *, opaque: bool = False) -> Pixels:
    ImageOps.exif_transpose(picture, in_place=True)
    if picture.mode in (*_DEEP_GREY, "I"):
        return np.array(picture).astype(np.uint16)[..., None]
    if picture.has_transparency_data and not opaque:
        low, _ = picture.convert("RGBA").getchannel("A").getextrema()
        if low != 255:
            raise Refused("has transparent pixels; flatten it onto a background first")
    if picture.mode in _GREY:
        return np.array(picture.convert("L"))[..., None]
    return np.array(picture.convert("RGB"))
