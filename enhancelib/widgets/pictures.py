"""Pictures on their way into a panel and out of it: uploads, PNG bytes, the still for a page.

A panel's state travels to the browser and into saved notebooks, so what goes in is bounded: an
upload is reduced to a stated size, a still to a stated number of bytes.
"""

from __future__ import annotations

import html
import io
import struct
import tempfile
import zlib
from base64 import b64encode
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from enhancelib import images
from enhancelib.widgets.controls import View

STILL_BYTES = 300_000  # what a published picture may weigh
_GAP = 8  # pixels between the two halves of a still


def png(picture: Tensor) -> bytes:
    """PNG bytes of a picture.

    Args:
        picture: (1 or 3, H, W), range [0, 1]; values outside become its ends.

    Returns:
        The file's bytes, 8 bits per channel.

    Example:
        >>> png(torch.zeros(3, 2, 2))[1:4]
        b'PNG'
    """
    levels = images.to_uint8(picture.detach().cpu()).permute(1, 2, 0).contiguous().numpy()
    file = io.BytesIO()
    Image.fromarray(levels.squeeze(2) if levels.shape[2] == 1 else levels).save(file, "PNG")
    return file.getvalue()


def quick_png(picture: Tensor) -> bytes:
    """PNG bytes without compression, for a picture that is gone at the next move of a slider.

    Pillow takes 4 to 20 ms for 256x256 pixels, this 1 ms (measured); a gradient in colours, which
    is mostly noise, hardly compresses anyway.

    Args:
        picture: (3, H, W), range [0, 1]; values outside become its ends.

    Returns:
        The file's bytes, 8 bits per channel.

    Example:
        >>> file = quick_png(torch.tensor([[[1.0]], [[0.0]], [[0.5]]]))
        >>> Image.open(io.BytesIO(file)).getpixel((0, 0))
        (255, 0, 128)

    Source: Portable Network Graphics, W3C, third edition, 2025, sections 5 and 9 to 11.
    """
    levels = images.to_uint8(picture.detach().cpu())
    _, height, width = levels.shape
    rows = np.zeros((height, 1 + 3 * width), np.uint8)  # each row begins with its filter: none
    rows[:, 1:] = levels.permute(1, 2, 0).reshape(height, -1).numpy()
    header = struct.pack(">2I5B", width, height, 8, 2, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), 0)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(map(_chunk, parts))


def _chunk(part: tuple[bytes, bytes]) -> bytes:
    name, content = part
    check = zlib.crc32(content, zlib.crc32(name))
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", check)


def opened(name: str, content: bytes, *, limit: int) -> tuple[Tensor, str]:
    """An uploaded photo, small enough for a panel, and a sentence on what was done to it.

    Args:
        name: The file's name on the user's disk; messages call it so.
        content: The file.
        limit: Longest side in pixels; a larger photo is reduced whole: by means of blocks
            to no less than twice the limit, then bicubic with antialiasing.

    Returns:
        The picture, (3, H, W) in [0, 1], and the sentence.

    Raises:
        ImageError: If the file is no picture that `images.read` takes.

    Example:
        >>> picture, said = opened("dot.png", png(torch.ones(3, 40, 80)), limit=20)
        >>> picture.shape, said
        (torch.Size([3, 10, 20]), 'dot.png: 80x40 pixels, reduced to 20x10')
        >>> opened("notes.txt", b"no picture", limit=20)
        Traceback (most recent call last):
        enhancelib.images.ImageError: ...
    """
    picture = _read(Path(name).name or "photo", content)
    height, width = picture.shape[1:]
    said = f"{name}: {width}x{height} pixels"
    if max(height, width) <= limit:
        return picture, said
    shrink = limit / max(height, width)
    size = (max(1, round(height * shrink)), max(1, round(width * shrink)))
    block = max(height, width) // (2 * limit)  # a phone's 12 megapixels would cost seconds at once
    if block > 1:
        picture = functional.avg_pool2d(picture, block)
    small = images.clip(images.resize(picture, size=size))  # bicubic overshoots at edges
    return small, f"{said}, reduced to {size[1]}x{size[0]}"


def _read(name: str, content: bytes) -> Tensor:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        try:
            return images.read(path)
        except images.ImageError as error:
            # The user knows the file by its name, not by where we put it for reading.
            raise images.ImageError(str(error).replace(f"{folder}/", "")) from error


def still(view: View) -> bytes:
    """Before and after side by side at 1:1, for readers without a kernel.

    Args:
        view: What the panel shows. A pair that would weigh more than STILL_BYTES is cut to its
            centre, never resampled.

    Returns:
        PNG bytes, at most STILL_BYTES.

    Example:
        >>> len(still(View(torch.rand(3, 400, 400), torch.rand(3, 400, 400)))) <= STILL_BYTES
        True
    """
    before, after = (p.detach().cpu().expand(3, -1, -1) for p in (view.before, view.after))
    while True:
        gap = torch.ones(3, before.shape[1], _GAP)
        file = png(torch.cat((before, gap, after), dim=2))
        if len(file) <= STILL_BYTES:
            return file
        keep = 0.98 * (STILL_BYTES / len(file)) ** 0.5
        before, after = _centre(before, keep), _centre(after, keep)


def _centre(picture: Tensor, keep: float) -> Tensor:
    height, width = (max(1, int(side * keep)) for side in picture.shape[1:])
    top, left = (picture.shape[1] - height) // 2, (picture.shape[2] - width) // 2
    return picture[:, top : top + height, left : left + width]


def still_html(view: View, *, labels: tuple[str, str], name: str, more: str = "") -> str:
    """The still as a piece of a page; a live view of the same name hides it.

    Args:
        view: What the panel shows.
        labels: What the two pictures are called.
        name: The view's `still` trait.
        more: Markup that belongs under the caption.

    Returns:
        A figure element that needs nothing from outside.
    """
    source = b64encode(still(view)).decode()
    words = html.escape(f"Left: {labels[0]}; right: {labels[1]}. {view.caption}")
    return (
        f'<figure data-enh-still="{html.escape(name)}" style="margin: 0">'
        f'<img alt="{words}" src="data:image/png;base64,{source}" style="max-width: 100%">'
        f"<figcaption>{words} (Still picture: run this notebook for the live panel.)</figcaption>"
        f"{more}</figure>"
    )
