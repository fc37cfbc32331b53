r"""What stands between the network's picture and the given one: T of Eq. 6, and masks.

Reconstruction minimises || T(f_theta(z)) - I ||^2. T is the identity for denoising, `lanczos2` for
super-resolution; for inpainting it is the product with a mask, 1 where a pixel is known and 0
where it is to be filled.

| symbol | variable | equation |
|---|---|---|
| T | `lanczos2` | 6 |
| m | `mask` | 6, as T(x) = m x |

Source: Ulyanov, Vedaldi, Lempitsky, CVPR 2018; DmitryUlyanov/deep-image-prior (042e0d4).
"""

from __future__ import annotations

import math

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional as F


def lanczos2(image: Tensor, factor: int) -> Tensor:
    r"""Shrink by a whole factor with Lanczos' kernel of support 2, the T of super-resolution.

    Output pixel i averages the input pixels k within two output pixels of its own centre
    `c = f i + (f - 1) / 2`, with weights `L(d) = sinc(d) sinc(d / 2)`, `d = |k - c| / f`, made to
    sum to 1, in both directions. Borders repeat the edge pixel.

    Args:
        image: (B, C, H, W), any channels and range; gradients flow through.
        factor: f, a whole number of 2 or more that divides both sides.

    Returns:
        (B, C, H / f, W / f). The kernel has negative lobes, so it may leave the range of the input.

    Raises:
        ValueError: If the picture has another shape, or the factor is below 2 or does not divide
            its sides.

    Source: deep-image-prior's `Downsampler` with kernel "lanczos2", phase 0.5 and kept size.
    Departs: the official padding is right for even factors alone; for an odd one (no published
        setting has one) it would lose a row, here the pixel grid stays centred. The kernel is
        applied as two passes of one dimension, which is the same product.

    Example:
        >>> lanczos2(torch.full((1, 3, 16, 24), 0.5), 4)[0, 0, :2, :2]
        tensor([[0.5000, 0.5000],
                [0.5000, 0.5000]])
        >>> lanczos2(torch.zeros(1, 3, 16, 18), 4)
        Traceback (most recent call last):
        ValueError: factor 4 does not divide a picture of 16 x 18; crop it, or use another factor
    """
    if image.ndim != 4 or not image.is_floating_point():
        seen = f"{tuple(image.shape)} of {image.dtype}"
        raise ValueError(f"image is {seen}; expected (B, C, H, W), floating point")
    height, width = image.shape[-2:]
    if factor < 2:
        raise ValueError(f"factor is {factor}; expected a whole number of 2 or more")
    if height % factor or width % factor:
        raise ValueError(
            f"factor {factor} does not divide a picture of {height} x {width}; crop it, or use "
            "another factor"
        )
    taps = _taps(factor).to(image)
    channels, reach = image.shape[1], (len(taps) - factor) // 2
    padded = F.pad(image, (reach,) * 4, mode="replicate")
    across = taps.view(1, 1, 1, -1).expand(channels, 1, 1, -1)
    rows = F.conv2d(padded, across, stride=(1, factor), groups=channels)
    return F.conv2d(rows, across.transpose(2, 3), stride=(factor, 1), groups=channels)


def _taps(factor: int) -> Tensor:
    """The kernel in one direction: 4 f taps, 4 f - 1 where f is odd."""
    count = 4 * factor - factor % 2
    distance = (torch.arange(count, dtype=torch.float64) - (count - 1) / 2) / factor
    taps = torch.sinc(distance) * torch.sinc(distance / 2)
    return taps / taps.sum()


def kept_at_random(
    height: int, width: int, removed: float, generator: torch.Generator, *, channels: int = 1
) -> Tensor:
    """A mask that removes each pixel with one probability, for restoration.

    Args:
        height: Rows.
        width: Columns.
        removed: Probability in [0, 1) that a pixel is removed; 0.5 and 0.98 are the published ones.
        generator: Draws them, on its own device.
        channels: 1 removes whole pixels; 3 draws every colour of a pixel by itself, as the official
            notebook does.

    Returns:
        (channels, height, width) of 0 (removed) and 1 (known), on the generator's device.

    Raises:
        ValueError: If removed is outside [0, 1), or no pixel was kept.

    Source: deep-image-prior's restoration notebook.

    Example:
        >>> mask = kept_at_random(64, 64, 0.5, torch.Generator().manual_seed(0))
        >>> mask.shape, 0.45 < float(mask.mean()) < 0.55
        (torch.Size([1, 64, 64]), True)
        >>> kept_at_random(64, 64, 1.0, torch.Generator())
        Traceback (most recent call last):
        ValueError: removed is 1.0; expected a probability of 0 or more, and below 1
    """
    if not 0 <= removed < 1:
        raise ValueError(f"removed is {removed}; expected a probability of 0 or more, and below 1")
    drawn = torch.rand(channels, height, width, generator=generator, device=generator.device)
    mask = (drawn >= removed).float()
    if not mask.any():
        raise ValueError(
            f"removing {removed:.0%} of {height} x {width} pixels left none; remove fewer"
        )
    return mask


def without_box(height: int, width: int, *, box: tuple[int, int, int, int]) -> Tensor:
    """A mask with one rectangular hole, for inpainting.

    Args:
        height: Rows.
        width: Columns.
        box: (top, left, bottom, right) of the hole, the last two exclusive, in pixels.

    Returns:
        (1, height, width): 0 in the hole, 1 around it.

    Raises:
        ValueError: If the box is empty, leaves the picture, or covers it.

    Example:
        >>> without_box(3, 4, box=(1, 1, 2, 3))[0]
        tensor([[1., 1., 1., 1.],
                [1., 0., 0., 1.],
                [1., 1., 1., 1.]])
        >>> without_box(3, 4, box=(1, 1, 5, 3))
        Traceback (most recent call last):
        ValueError: box is (1, 1, 5, 3) in 3 x 4 pixels; expected 0 <= top < bottom <= 3, ...
    """
    top, left, bottom, right = box
    inside = 0 <= top < bottom <= height and 0 <= left < right <= width
    if not inside or (bottom - top, right - left) == (height, width):
        raise ValueError(
            f"box is {box} in {height} x {width} pixels; expected 0 <= top < bottom <= {height}, "
            f"0 <= left < right <= {width}, and something left around it"
        )
    mask = torch.ones(1, height, width)
    mask[:, top:bottom, left:right] = 0
    return mask


def without_text(height: int, width: int, text: str, *, size: float = 20.0) -> Tensor:
    """A mask with lines of text cut out all over the picture, for inpainting.

    Args:
        height: Rows.
        width: Columns.
        text: One line, repeated to fill the picture.
        size: Height of the letters, in pixels.

    Returns:
        (1, height, width): 0 under the letters, 1 around them.

    Raises:
        ValueError: If the text is blank, or its letters cover nothing or everything.

    Departs: the official mask is a picture file with text of unknown font; Pillow's own font here.

    Example:
        >>> mask = without_text(64, 96, "deep image prior", size=12)
        >>> mask.unique(), 0.6 < float(mask.mean()) < 0.95
        (tensor([0., 1.]), True)
        >>> without_text(64, 96, " ")
        Traceback (most recent call last):
        ValueError: text is ' '; expected letters that fit into 64 x 96 pixels at size 20
    """
    drawing = Image.new("1", (width, height), 1)
    pen, font = ImageDraw.Draw(drawing), ImageFont.load_default(size)
    line = " ".join([text] * math.ceil(2 * width / max(1.0, pen.textlength(text, font))))
    for row in range(math.ceil(height / (1.5 * size))):
        pen.text((-row * size, 1.5 * size * row), line, fill=0, font=font)
    levels = torch.tensor(list(drawing.tobytes("raw", "L")), dtype=torch.float32)
    mask = (levels > 0).float().view(1, height, width)
    if not text.strip() or not 0 < float(mask.mean()) < 1:
        raise ValueError(
            f"text is {text!r}; expected letters that fit into {height} x {width} pixels at size "
            f"{size:g}"
        )
    return mask
