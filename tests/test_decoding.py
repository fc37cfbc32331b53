"""Every kind of file a user may hand over is read as it is or refused with a sentence."""

from __future__ import annotations

import os
import struct
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
import tifffile
from PIL import Image

from enhancelib import images
from enhancelib.decoding import Refused, decode

COFFEE = skimage.data.coffee()[100:164, 200:290]
DEEP = np.random.default_rng(0).integers(0, 65536, (9, 13, 4), dtype=np.uint16)


def png16(pixels: np.ndarray[Any, Any]) -> bytes:
    """A 16-bit PNG of 1 to 4 channels, written by the PNG specification's own rules."""
    height, width, channels = pixels.shape
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    chunks = {
        b"IHDR": struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0),
        b"IDAT": zlib.compress(rows),
        b"IEND": b"",
    }
    parts = [
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks.items()
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "webp", "ppm"])
def test_colour_comes_back_exactly(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"coffee.{suffix}"
    Image.fromarray(COFFEE).save(file, **({"lossless": True} if suffix == "webp" else {}))
    assert np.array_equal(decode(file, 10**6), COFFEE)


@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bits_stay_sixteen(tmp_path: Path, channels: int) -> None:
    file = tmp_path / "deep.png"
    file.write_bytes(png16(DEEP[..., :channels]))
    assert np.array_equal(decode(file, 10**6), DEEP[..., :channels])


def test_sixteen_bits_with_opaque_alpha(tmp_path: Path) -> None:
    file = tmp_path / "deep.png"
    opaque = DEEP.copy()
    opaque[..., 3] = 65535
    file.write_bytes(png16(opaque))
    assert np.array_equal(decode(file, 10**6), DEEP[..., :3])


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_sixteen_bit_tiff(tmp_path: Path, order: str, compression: str | None) -> None:
    file = tmp_path / "deep.tif"
    colour = DEEP[..., :3]
    tifffile.imwrite(file, colour, photometric="rgb", byteorder=order, compression=compression)
    assert np.array_equal(decode(file, 10**6), colour)


def test_sixteen_bit_pgm(tmp_path: Path) -> None:
    file = tmp_path / "deep.pgm"
    grey = DEEP[..., 0]
    file.write_bytes(b"P5 13 9 65535\n" + grey.astype(">u2").tobytes())
    assert np.array_equal(decode(file, 10**6)[..., 0], grey)


# EXIF orientation -> how a viewer turns the stored pixels, from the EXIF 2.3 table.
UPRIGHT: dict[int, Callable[[Any], Any]] = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: np.swapaxes(a, 0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(np.swapaxes(a, 0, 1), 2),
    8: lambda a: np.rot90(a, 1),
}


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int) -> None:
    file = tmp_path / "turned.png"
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(COFFEE).save(file, exif=exif)
    assert np.array_equal(decode(file, 10**6), UPRIGHT[orientation](COFFEE))


@pytest.mark.parametrize("stored", [DEEP[..., :3], DEEP[..., 0], COFFEE, COFFEE[..., 0]])
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_exif_orientation_of_tiff(tmp_path: Path, stored: Any, orientation: int) -> None:
    file = tmp_path / "turned.tif"
    kind = "rgb" if stored.ndim == 3 else "minisblack"
    tag = [(0x0112, "H", 1, orientation, True)]
    tifffile.imwrite(file, stored, photometric=kind, extratags=tag)
    assert np.array_equal(np.squeeze(decode(file, 10**6)), UPRIGHT[orientation](stored))


def test_a_name_that_is_too_long_is_no_file() -> None:
    with pytest.raises(Refused, match="no such file"):
        decode(Path("x" * 5000 + ".png"), 10**6)


def test_palette_one_bit_and_opaque_alpha(tmp_path: Path) -> None:
    few = Image.fromarray(COFFEE).quantize(16)
    few.save(tmp_path / "few.gif")
    assert np.array_equal(decode(tmp_path / "few.gif", 10**6), np.array(few.convert("RGB")))
    line = Image.fromarray(COFFEE).convert("1")
    line.save(tmp_path / "line.png")
    assert set(np.unique(decode(tmp_path / "line.png", 10**6))) == {0, 255}
    Image.fromarray(COFFEE).convert("RGBA").save(tmp_path / "opaque.png")
    assert np.array_equal(decode(tmp_path / "opaque.png", 10**6), COFFEE)


def test_the_preview_in_a_phone_picture_is_left_out(tmp_path: Path) -> None:
    file = tmp_path / "phone.jpg"
    photo = Image.fromarray(COFFEE)
    photo.save(file, format="MPO", save_all=True, append_images=[photo.resize((9, 9))])
    assert decode(file, 10**6).shape == COFFEE.shape


def transparent(file: Path) -> None:
    rgba = np.dstack([COFFEE, np.full(COFFEE.shape[:2], 255, np.uint8)])
    rgba[5, 5, 3] = 254
    Image.fromarray(rgba).save(file, format="PNG")


def transparent_palette(file: Path) -> None:
    Image.fromarray(COFFEE).quantize(8).save(file, format="GIF", transparency=0)


def animated(file: Path) -> None:
    frames = [Image.fromarray(np.roll(COFFEE, n, 0)) for n in range(3)]
    frames[0].save(file, format="GIF", save_all=True, append_images=frames[1:])


def pages(file: Path) -> None:
    page = Image.fromarray(COFFEE)
    page.save(file, format="TIFF", save_all=True, append_images=[page])


def truncated(file: Path) -> None:
    Image.fromarray(COFFEE).save(file, format="JPEG")
    file.write_bytes(file.read_bytes()[:-400])


def pipe(file: Path) -> None:
    os.mkfifo(file)


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda file: None, "no such file; check the path"),
    "a folder": (Path.mkdir, "is a folder; name one picture file"),
    "empty": (Path.touch, r"is empty \(0 bytes\); get the file again"),
    "a pipe": (pipe, "is a pipe or a device; save the picture to a file first"),
    "text": (lambda file: file.write_text("photo"), "not a picture that Pillow reads; convert it"),
    "truncated": (truncated, r"damaged or truncated \(.*\); get the file again"),
    "transparent": (transparent, "has transparent pixels; flatten it"),
    "transparent palette": (transparent_palette, "has transparent pixels; flatten it"),
    "animated": (animated, "holds 3 frames or pages; save one of them"),
    "pages": (pages, "holds 2 frames or pages; save one of them"),
    "CMYK": (
        lambda file: Image.fromarray(COFFEE).convert("CMYK").save(file, format="JPEG"),
        "colour mode is CMYK; .* export it as RGB",
    ),
    "float": (
        lambda file: tifffile.imwrite(file, COFFEE[..., 0] / np.float32(255)),
        "colour mode is F; .* save it with 8 or 16 bits",
    ),
    "16-bit grey with alpha": (
        lambda file: file.write_bytes(png16(DEEP[..., :2])),
        "holds 16-bit grey with alpha; save it without",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_refusals_name_the_file_and_the_reason(tmp_path: Path, kind: str) -> None:
    make, reason = REFUSED[kind]
    file = tmp_path / "given"
    make(file)
    with pytest.raises(Refused, match=reason):
        decode(file, 10**6)
    with pytest.raises(images.ImageError, match=f"^{file}: .*({reason})"):
        images.read(file)


def test_large_files_are_read_up_to_the_limit_without_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "large.png"
    # Past the 179 megapixels at which Pillow itself refuses; one bit each keeps the test small.
    Image.new("1", (14000, 13000)).save(file)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 12345)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        reason = f"{file}: 14000 x 13000 is 182 megapixels, over the limit of 150; cut or shrink it"
        with pytest.raises(images.ImageError, match=reason):
            images.read(file)
        assert decode(file, 200_000_000).shape == (13000, 14000, 1)
    assert Image.MAX_IMAGE_PIXELS == 12345


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP"])
def test_no_damage_gives_anything_but_a_refusal(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "photo"
    Image.fromarray(COFFEE).save(file, format=kind)
    whole = file.read_bytes()
    random = np.random.default_rng(0)
    refused = 0
    for trial in range(60):
        damaged = bytearray(whole[: random.integers(1, len(whole))] if trial % 2 else whole)
        for place in random.integers(0, len(damaged), 4):
            damaged[place] = random.integers(256)
        file.write_bytes(damaged)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                decode(file, 10**6)
        except Refused:
            refused += 1
    assert refused > 10
