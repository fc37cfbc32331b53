r"""The colour loss of the DPED family: pictures are blurred before they are compared.

Blurring takes texture and small misalignment out, so that what is left is brightness and colour.
Two kernels pass under one name:

| kernel | taps | form | standard deviation | sum |
|---|---|---|---|---|
| "code" | 21 x 21 | roots of the mass of the normal density in 21 bins | 4.34 pixels | 1 |
| "paper" | 21 x 21 | `0.053 exp(-(m^2 + n^2) / (2 * 3))` | 1.73 pixels | 0.999 |

The released networks were trained with the first. The paper gives A = 0.053 and s = 3; because
1 / (2 pi 3) = 0.0531, its s must be the variance, not the standard deviation. PRaD drops the blur
(eq. 9 is `pixel.half_sse`).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from enhancelib.losses import _checks

_RADIUS = 10


def gaussian_kernel(kind: str = "code") -> Tensor:
    r"""The weights of the blur.

    "code" splits the normal distribution Phi between -19/6 and 19/6 into 21 bins of width
    w = 19/63, m = -10 ... 10, and is `g(m) g(n)` divided by its sum,
    `g(m) = sqrt(Phi((m + 1/2) w) - Phi((m - 1/2) w))`. "paper" is
    `A exp(-m^2/(2 s) - n^2/(2 s))` with A = 0.053, s = 3.

    Args:
        kind: "code" (released code of DPED) or "paper" (its printed formula, s as variance).

    Returns:
        (21, 21), float64, symmetric, largest in the centre.

    Raises:
        ValueError: If the kind is unknown.

    Source: Ignatov et al., ICCV 2017; aiff22/DPED (ebb0131) for "code".

    Example:
        >>> round(float(gaussian_kernel("code")[10, 10]), 5)
        0.00756
        >>> gaussian_kernel("box")
        Traceback (most recent call last):
        ValueError: kernel is 'box'; expected 'code' or 'paper'
    """
    line = _line(kind)
    return torch.outer(line, line)


def blur(image: Tensor, *, kernel: str = "code") -> Tensor:
    """A picture convolved with the kernel, channel by channel, with zeros outside.

    Args:
        image: (N, C, H, W), floating point, any range.
        kernel: "code" or "paper".

    Returns:
        The same shape. Within 10 pixels of the border it is darker: the zeros count.

    Raises:
        ValueError: If image has another shape or type, or the kernel is unknown.

    Source: Ignatov et al., ICCV 2017; aiff22/DPED (ebb0131).

    Example:
        >>> blur(torch.ones(1, 1, 41, 41))[0, 0, 20, 20].round(decimals=4)
        tensor(1.)
        >>> blur(torch.ones(41, 41))
        Traceback (most recent call last):
        ValueError: image has shape (41, 41); expected (N, C, H, W)
    """
    _checks.pictures(image=image)
    x = _checks.wide(image)
    channels = x.shape[1]
    row = _line(kernel).to(x).expand(channels, 1, 1, -1)
    with torch.autocast(x.device.type, enabled=False):
        x = F.conv2d(x, row, padding=(0, _RADIUS), groups=channels)
        return F.conv2d(x, row.transpose(2, 3), padding=(_RADIUS, 0), groups=channels)


def blurred(output: Tensor, target: Tensor, *, kernel: str = "code") -> Tensor:
    r"""Half the squared error of the blurred pictures, summed over pixels, mean over the batch.

    `L_color = 1/(2N) sum_i || X_b,i - Y_b,i ||_2^2`, X_b the blurred output and Y_b the blurred
    target. The blur is linear, so the difference is blurred, once.

    Args:
        output: Predictions, (N, C, H, W), any range.
        target: Truth of the same shape.
        kernel: "code" or "paper", see `gaussian_kernel`.

    Returns:
        A scalar, at least 0. It is not a mean over pixels: it grows with C H W.

    Raises:
        ValueError: If the shapes differ or are not (N, C, H, W), a tensor is not floating point,
            or the kernel is unknown.

    Source: Ignatov et al., ICCV 2017; aiff22/DPED (ebb0131) for the reduction.

    Example:
        >>> x = torch.rand(2, 3, 16, 16)
        >>> blurred(x, x)
        tensor(0.)
        >>> blurred(x, x[:1])
        Traceback (most recent call last):
        ValueError: output has shape (2, 3, 16, 16), target (1, 3, 16, 16); expected equal shapes
    """
    _checks.alike(output=output, target=target)
    difference = _checks.wide(output) - _checks.wide(target)
    return blur(difference, kernel=kernel).square().sum() / (2 * output.shape[0])


def _line(kind: str) -> Tensor:
    """One axis of the kernel: both are the outer product of a line with itself."""
    m = torch.arange(-_RADIUS, _RADIUS + 1, dtype=torch.float64, device="cpu")
    if kind == "code":
        edges = torch.special.ndtr(torch.stack([m + 0.5, m - 0.5]) * 19 / 63)
        line: Tensor = (edges[0] - edges[1]).sqrt()
        return line / line.sum()
    if kind == "paper":
        return math.sqrt(0.053) * torch.exp(-m.square() / (2 * 3))
    raise ValueError(f"kernel is {kind!r}; expected 'code' or 'paper'")
