"""The one picture convention: read, write, colour spaces, MATLAB's bicubic resize, tiling.

A picture is a float32 tensor, RGB in [0, 1], of shape (C, H, W) or, as a batch, (B, C, H, W).
Only this module converts between that and files or 8-bit values. Nothing here clamps unless its
name says so (`clip`, `to_uint8`): noisy and resized pictures may leave [0, 1] and stay so.
"""

from __future__ import annotations

import math
import os
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from enhancelib.decoding import Pixels, Refused, decode
from enhancelib.tiling import Tiling, tiled

__all__ = [
    "LIMIT",
    "WRITABLE",
    "ImageError",
    "Range",
    "Tiling",
    "clip",
    "dihedral",
    "from_array",
    "from_uint8",
    "luma",
    "read",
    "resize",
    "rgb_to_ycbcr",
    "tiled",
    "to_uint8",
    "write",
    "ycbcr_to_rgb",
]

LIMIT = 150_000_000
Range = Literal["full", "studio"]

_SAVE: dict[str, tuple[str, dict[str, Any]]] = {
    ".png": ("PNG", {}),
    ".jpg": ("JPEG", {"quality": 95, "subsampling": "4:4:4"}),
    ".jpeg": ("JPEG", {"quality": 95, "subsampling": "4:4:4"}),
    ".webp": ("WEBP", {"quality": 95}),
    ".tif": ("TIFF", {"compression": "tiff_lzw"}),
    ".tiff": ("TIFF", {"compression": "tiff_lzw"}),
}
WRITABLE = tuple(_SAVE)  # suffixes


class ImageError(ValueError):
    """A picture, or a picture file, that does not fit; the message says what was seen."""


def read(path: str | Path, *, grey: bool = False, limit: int = LIMIT) -> Tensor:
    """Read one picture file.

    EXIF orientation is applied; PNG and TIFF of 16 bits keep them; an alpha channel that is opaque
    throughout is dropped. Refused with a sentence: transparency, CMYK, floating-point and animated
    files. An embedded colour profile is not applied: the numbers are those of the file.

    Args:
        path: The file, in any format that Pillow reads.
        grey: Return one channel: the file's own if it is grey, else the full-range `luma`.
        limit: Most pixels accepted; each costs 12 bytes in colour and 4 in grey.

    Returns:
        (3, H, W), a grey file repeated over the channels, or (1, H, W) with `grey`; float32 [0, 1].

    Raises:
        ImageError: If the file is missing, empty, damaged, too large or of a kind named above.

    Example:
        >>> read("missing.png")
        Traceback (most recent call last):
        enhancelib.images.ImageError: missing.png: no such file; check the path
    """
    path = Path(path)
    try:
        image = from_array(decode(path, limit))
    except Refused as error:
        raise ImageError(f"{path}: {error}") from error
    if grey:
        return image if image.shape[0] == 1 else luma(image)
    return image.expand(3, -1, -1).contiguous()


def write(path: str | Path, image: Tensor) -> None:
    """Write one picture with 8 bits per channel; the file appears whole or not at all.

    Args:
        path: Where; the suffix chooses .png, .tif (lossless), .jpg (quality 95, 4:4:4) or .webp.
        image: (3, H, W) or (1, H, W) in [0, 1]; `clip` it first where a network may overshoot.

    Raises:
        ImageError: If the suffix, shape, type or a value does not fit, or the disk refuses.

    Example:
        >>> write("bright.png", torch.full((3, 4, 4), 1.5))
        Traceback (most recent call last):
        enhancelib.images.ImageError: bright.png: values lie in [1.5, 1.5]; expected [0, 1]: ...
    """
    path = Path(path)
    kind, options = _saving(path)
    _check_writable(path, image)
    # Channel by channel: a float copy of 100 megapixels would cost another 1.2 GB.
    levels = torch.stack([to_uint8(channel) for channel in image], dim=-1).cpu().numpy()
    picture = Image.fromarray(levels[..., 0] if levels.shape[2] == 1 else levels)
    partial = path.with_name(f".{secrets.token_hex(8)}.partial")
    try:
        with partial.open("xb") as file:
            picture.save(file, format=kind, **options)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except (OSError, ValueError) as error:
        raise ImageError(f"{path}: cannot be written ({error})") from error
    finally:
        with suppress(OSError):  # gone where all went well
            partial.unlink()


def _saving(path: Path) -> tuple[str, dict[str, Any]]:
    if (suffix := path.suffix.lower()) not in _SAVE:
        raise ImageError(f"{path}: suffix is {suffix!r}; expected one of {', '.join(_SAVE)}")
    return _SAVE[suffix]


def _check_writable(path: Path, image: Tensor) -> None:
    _check(image)
    if image.dim() != 3 or image.shape[0] not in (1, 3) or not image.numel():
        raise ImageError(f"{path}: shape is {tuple(image.shape)}; expected (3, H, W) or (1, H, W)")
    low, high = (float(v) for v in torch.aminmax(image.detach()))
    if math.isnan(low):
        raise ImageError(f"{path}: the picture holds NaN; look for a division by 0 before it")
    if low < 0 or high > 1:
        raise ImageError(
            f"{path}: values lie in [{low:.4g}, {high:.4g}]; expected [0, 1]: use images.clip "
            "if the excess may be cut off"
        )


def _check(image: Tensor, *, channels: int | None = None) -> None:
    if not isinstance(image, Tensor) or not image.is_floating_point():
        seen = getattr(image, "dtype", type(image).__name__)
        raise ImageError(f"picture is {seen}; expected a float tensor in [0, 1] (see from_uint8)")
    wrong = channels is not None and image.dim() >= 3 and image.shape[-3] != channels
    if image.dim() not in (3, 4) or wrong:
        c = "C" if channels is None else channels
        shape = tuple(image.shape)
        raise ImageError(f"picture has shape {shape}; expected ({c}, H, W) or (B, {c}, H, W)")


def clip(image: Tensor) -> Tensor:
    """Cut off what lies outside [0, 1].

    Args:
        image: (..., H, W), any range.

    Returns:
        The same shape, in [0, 1]; NaN stays NaN.
    """
    return image.clamp(0.0, 1.0)


def to_uint8(image: Tensor) -> Tensor:
    """Round to 8 bits after cutting off what lies outside [0, 1].

    Args:
        image: (..., H, W) float, any finite range.

    Returns:
        uint8 of the same shape, min(max(round(255 image), 0), 255), halves to even.

    Raises:
        ImageError: If the picture is not of floating-point type or holds NaN.

    Example:
        >>> to_uint8(torch.tensor([-0.1, 0.5, 2.0])).tolist()
        [0, 128, 255]
        >>> to_uint8(torch.tensor([float("nan")]))
        Traceback (most recent call last):
        enhancelib.images.ImageError: the picture holds NaN; look for a division by 0 before it
    """
    if not image.is_floating_point():
        raise ImageError(f"picture is {image.dtype}; expected a float tensor in [0, 1]")
    levels = (image.detach() * 255.0).round_().clamp_(0.0, 255.0)
    if levels.numel() and bool(levels.amax().isnan()):
        raise ImageError("the picture holds NaN; look for a division by 0 before it")
    return levels.to(torch.uint8)


def from_uint8(levels: Tensor) -> Tensor:
    """Turn 8-bit values into the picture convention.

    Args:
        levels: uint8, any shape, channels where they are.

    Returns:
        float32 of the same shape, levels / 255.

    Raises:
        ImageError: If the type is not uint8.

    Example:
        >>> from_uint8(torch.tensor([0, 51, 255], dtype=torch.uint8)).tolist()
        [0.0, 0.20000000298023224, 1.0]
        >>> from_uint8(torch.tensor([0.5]))
        Traceback (most recent call last):
        enhancelib.images.ImageError: levels are torch.float32; expected torch.uint8
    """
    if levels.dtype != torch.uint8:
        raise ImageError(f"levels are {levels.dtype}; expected torch.uint8")
    return levels.to(torch.float32).div_(255.0)


def from_array(pixels: Pixels) -> Tensor:
    """Turn the pixels of an array library into the picture convention.

    Args:
        pixels: (H, W) or (H, W, C), uint8 or uint16, as Pillow and scikit-image hold them.

    Returns:
        (C, H, W) float32, pixels / 255 or / 65535.

    Raises:
        ImageError: If the type or the number of dimensions differs.

    Example:
        >>> from_array(np.full((2, 5, 3), 255, np.uint8)).shape
        torch.Size([3, 2, 5])
        >>> from_array(np.zeros((2, 5)))
        Traceback (most recent call last):
        enhancelib.images.ImageError: pixels are float64 of shape (2, 5); expected uint8 or ...
    """
    if pixels.dtype not in (np.uint8, np.uint16) or pixels.ndim not in (2, 3):
        raise ImageError(
            f"pixels are {pixels.dtype} of shape {pixels.shape}; "
            "expected uint8 or uint16 of shape (H, W) or (H, W, C)"
        )
    planes = np.moveaxis(np.atleast_3d(pixels), 2, 0)
    image = np.empty(planes.shape, np.float32)
    np.divide(planes, np.float32(np.iinfo(pixels.dtype).max), out=image)
    return torch.from_numpy(image)


# Rows Y, Cb, Cr of ITU-R BT.601, and offsets, on 8-bit levels: "full" as in JFIF, "studio" as
# MATLAB's rgb2ycbcr, whose table is given to three decimals.
_WEIGHTS = {
    "full": (
        (0.299, 0.587, 0.114),
        (-0.299 / 1.772, -0.587 / 1.772, 0.5),
        (0.5, -0.587 / 1.402, -0.114 / 1.402),
    ),
    "studio": (
        (65.481 / 255, 128.553 / 255, 24.966 / 255),
        (-37.797 / 255, -74.203 / 255, 112.0 / 255),
        (112.0 / 255, -93.786 / 255, -18.214 / 255),
    ),
}
_OFFSETS = {"full": (0.0, 128 / 255, 128 / 255), "studio": (16 / 255, 128 / 255, 128 / 255)}


def _conversion(range: Range, like: Tensor) -> tuple[Tensor, Tensor]:
    if range not in _WEIGHTS:
        raise ImageError(f"range is {range!r}; expected 'full' or 'studio'")
    weights = torch.tensor(_WEIGHTS[range], dtype=torch.float64)
    offsets = torch.tensor(_OFFSETS[range], dtype=like.dtype, device=like.device)
    return weights, offsets[:, None, None]


def _mix(image: Tensor, weights: Tensor) -> Tensor:
    """Weighted sums of channels, written out: a matrix product would be TF32 on CUDA."""
    planes = image.unbind(-3)
    rows = [sum(w * p for w, p in zip(row, planes, strict=True)) for row in weights.tolist()]
    return torch.stack([torch.as_tensor(row) for row in rows], dim=-3)


def luma(image: Tensor, range: Range = "full") -> Tensor:
    """Brightness Y of BT.601.

    Y = 0.299 R + 0.587 G + 0.114 B ("full"), or (16 + 65.481 R + 128.553 G + 24.966 B) / 255
    ("studio", 16 to 235 on 8-bit levels, as MATLAB's rgb2ycbcr).

    Args:
        image: (3, H, W) or (B, 3, H, W), RGB.
        range: "full" or "studio".

    Returns:
        (1, H, W) or (B, 1, H, W).

    Raises:
        ImageError: If there are not three channels, or the range is unknown.

    Example:
        >>> [round(float(luma(torch.ones(3, 1, 1), r)) * 255) for r in ("full", "studio")]
        [255, 235]
        >>> luma(torch.ones(1, 8, 8))
        Traceback (most recent call last):
        enhancelib.images.ImageError: picture has shape (1, 8, 8); expected (3, H, W) or ...
    """
    _check(image, channels=3)
    weights, offsets = _conversion(range, image)
    return _mix(image, weights[:1]) + offsets[:1]


def rgb_to_ycbcr(image: Tensor, range: Range = "full") -> Tensor:
    """Convert RGB to Y, Cb, Cr of BT.601.

    Args:
        image: (3, H, W) or (B, 3, H, W), RGB.
        range: "full" (JFIF, chroma centred at 128/255) or "studio" (MATLAB's rgb2ycbcr / 255).

    Returns:
        The same shape; grey pixels have both chroma channels at 128/255.

    Raises:
        ImageError: If there are not three channels, or the range is unknown.

    Example:
        >>> rgb_to_ycbcr(torch.ones(3, 1, 1), "studio").mul(255).round().flatten().tolist()
        [235.0, 128.0, 128.0]
        >>> rgb_to_ycbcr(torch.ones(3, 1, 1), "tv")
        Traceback (most recent call last):
        enhancelib.images.ImageError: range is 'tv'; expected 'full' or 'studio'
    """
    _check(image, channels=3)
    weights, offsets = _conversion(range, image)
    return _mix(image, weights) + offsets


def ycbcr_to_rgb(image: Tensor, range: Range = "full") -> Tensor:
    """Invert `rgb_to_ycbcr`, by the inverse of its matrix.

    Args:
        image: (3, H, W) or (B, 3, H, W): Y, Cb, Cr.
        range: "full" or "studio", as it was made.

    Returns:
        RGB of the same shape; triples that no colour has land outside [0, 1] and stay there.

    Raises:
        ImageError: If there are not three channels, or the range is unknown.

    Example:
        >>> ycbcr_to_rgb(rgb_to_ycbcr(torch.full((3, 1, 1), 0.25))).flatten().tolist()
        [0.25, 0.25, 0.25]
        >>> ycbcr_to_rgb(torch.ones(8, 8))
        Traceback (most recent call last):
        enhancelib.images.ImageError: picture has shape (8, 8); expected (3, H, W) or ...
    """
    _check(image, channels=3)
    weights, offsets = _conversion(range, image)
    return _mix(image - offsets, torch.linalg.inv(weights))


def resize(
    image: Tensor, *, scale: float | None = None, size: tuple[int, int] | None = None
) -> Tensor:
    """Resize as MATLAB's imresize(..., 'bicubic') does, with antialiasing when shrinking.

    Each output line is sum_j w_j x_j with w_j = k(u - j) normalised to sum 1, where k is Keys'
    kernel with a = -0.5, u = i / s + (1 - 1/s) / 2 the output position in input pixels (from 1);
    for s < 1 the kernel is widened to s k(s (u - j)). Borders are mirrored, edge pixel repeated.

    Args:
        image: (C, H, W) or (B, C, H, W), any channels and range.
        scale: One factor for both sides; the new side is ceil(scale * side). Or give `size`:
        size: New (height, width); each side then has its own factor.

    Returns:
        The resized picture, same type; bicubic overshoots at edges, so it may leave [0, 1].

    Raises:
        ImageError: If neither or both of scale and size are given, or one is not positive.

    Example:
        >>> resize(torch.ones(3, 5, 8), scale=1 / 2).shape
        torch.Size([3, 3, 4])
        >>> resize(torch.ones(3, 5, 8), scale=0.0)
        Traceback (most recent call last):
        enhancelib.images.ImageError: scale is 0.0, size is None; expected one of them, above 0

    Source: Keys, "Cubic convolution interpolation for digital image processing", IEEE TASSP 1981.
    Departs: computed in float64 throughout, as MATLAB does for doubles; for uint8 it rounds between
    the two directions.
    """
    _check(image)
    height, width = image.shape[-2:]
    if scale is not None and size is None and 0 < scale < math.inf:
        rows, columns = math.ceil(scale * height), math.ceil(scale * width)
        down, across = scale, scale
    elif size is not None and scale is None and min(size) > 0:
        rows, columns = size
        down, across = rows / height, columns / width
    else:
        raise ImageError(f"scale is {scale}, size is {size}; expected one of them, above 0")
    vertical = _bicubic(height, rows, down).to(image.device)
    horizontal = _bicubic(width, columns, across).to(image.device)
    # float64 also keeps the product out of TF32 and of autocast.
    return (vertical @ image.double() @ horizontal.T).to(image.dtype)


def _bicubic(length: int, new: int, scale: float) -> Tensor:
    """The (new, length) float64 matrix that resizes one direction."""
    shrink = min(scale, 1.0)
    support = 4.0 / shrink
    place = torch.arange(1, new + 1, dtype=torch.float64) / scale + 0.5 * (1 - 1 / scale)
    first = torch.floor(place - support / 2)
    taps = first[:, None] + torch.arange(math.ceil(support) + 2, dtype=torch.float64)
    weights = shrink * _keys(shrink * (place[:, None] - taps))
    weights = weights / weights.sum(1, keepdim=True)
    mirrored = (taps.long() - 1) % (2 * length)
    mirrored = torch.where(mirrored < length, mirrored, 2 * length - 1 - mirrored)
    return torch.zeros(new, length, dtype=torch.float64).scatter_add_(1, mirrored, weights)


def _keys(x: Tensor) -> Tensor:
    x = x.abs()
    near = 1.5 * x**3 - 2.5 * x**2 + 1
    far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return torch.where(x <= 1, near, torch.where(x <= 2, far, torch.zeros_like(x)))


def dihedral(image: Tensor, k: int) -> Tensor:
    """One of the eight flips and quarter turns, the same for a whole batch.

    Args:
        image: (..., H, W).
        k: 0 to 7: k % 4 quarter turns counter-clockwise, after a left-right flip where k >= 4.

    Returns:
        (..., H, W), or (..., W, H) for odd k; k = 0 changes nothing.

    Raises:
        ImageError: If k is not one of 0 to 7.

    Example:
        >>> dihedral(torch.tensor([[[1, 2]]]), 4).tolist()
        [[[2, 1]]]
        >>> dihedral(torch.ones(1, 2, 2), 8)
        Traceback (most recent call last):
        enhancelib.images.ImageError: k is 8; expected 0 to 7
    """
    if k not in range(8):
        raise ImageError(f"k is {k}; expected 0 to 7")
    flipped = image.flip(-1) if k >= 4 else image
    return torch.rot90(flipped, k % 4, (-2, -1))
