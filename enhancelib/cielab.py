r"""Colours as the eye tells them apart: CIE L*a*b*, and the CIEDE2000 difference.

| symbol | variable | meaning |
|---|---|---|
| L*, a*, b* | lab | lightness 0..100, green to red, blue to yellow |
| C', h' | C, h | chroma and hue angle with a* stretched by 1 + G |
| dL', dC', dH' | dL, dC, dH | differences of lightness, chroma, hue |
| S_L, S_C, S_H, R_T | S_L, S_C, S_H, R_T | weights, and the term that turns blues |

Source: Sharma, Wu, Dalal, "The CIEDE2000 Color-Difference Formula", Color Research and Application
30(1), 2005; IEC 61966-2-1 for sRGB.
"""

from __future__ import annotations

import torch
from torch import Tensor

from enhancelib import similarity

_WHITE = (0.95047, 1.0, 1.08883)  # D65, 2 degrees
_TO_XYZ = (
    (0.412453, 0.357580, 0.180423),
    (0.212671, 0.715160, 0.072169),
    (0.019334, 0.119193, 0.950227),
)
_DARK, _SLOPE, _SHIFT = 0.008856, 7.787, 16 / 116  # below _DARK the cube root becomes a line


def from_rgb(image: Tensor) -> Tensor:
    """CIE L*a*b* of sRGB pictures, for daylight D65 and the 2 degree observer.

    Args:
        image: (B, 3, H, W), sRGB in [0, 1].

    Returns:
        (B, 3, H, W): L* in [0, 100], a* and b* some -110 to 110; the type of the image.

    Raises:
        ValueError: If the shape is another one.

    Example:
        >>> from_rgb(torch.ones(1, 3, 1, 1)).flatten()[0].round()
        tensor(100.)
        >>> from_rgb(torch.ones(3, 1, 1))
        Traceback (most recent call last):
        ValueError: image has shape (3, 1, 1); expected (B, 3, H, W)
    """
    if image.ndim != 4 or image.shape[1] != 3:
        raise ValueError(f"image has shape {tuple(image.shape)}; expected (B, 3, H, W)")
    curved = ((image.clamp_min(0.04045) + 0.055) / 1.055) ** 2.4
    linear = torch.where(image > 0.04045, curved, image / 12.92)
    xyz = torch.einsum("ij,bjhw->bihw", image.new_tensor(_TO_XYZ), linear)
    relative = xyz / image.new_tensor(_WHITE).view(3, 1, 1)
    root = relative.clamp_min(_DARK) ** (1 / 3)
    X, Y, Z = torch.where(relative > _DARK, root, _SLOPE * relative + _SHIFT).unbind(1)
    return torch.stack((116 * Y - 16, 500 * (X - Y), 200 * (Y - Z)), 1)


def difference(x: Tensor, y: Tensor) -> Tensor:
    """CIEDE2000 of every pixel, with k_L = k_C = k_H = 1 (eqs. 2 to 22).

    `dE = sqrt((dL'/S_L)^2 + (dC'/S_C)^2 + (dH'/S_H)^2 + R_T (dC'/S_C)(dH'/S_H))`; 1 is about what
    can just be seen.

    Args:
        x: CIE L*a*b*, (B, 3, H, W), as `from_rgb` gives it.
        y: The same shape; the formula does not care which of the two is the reference.

    Returns:
        (B, H, W), 0 where the colours are equal.

    Raises:
        ValueError: If a shape is another one.

    Source: Sharma et al. 2005, whose 34 test pairs it passes.

    Example:
        >>> x, y = torch.zeros(1, 3, 1, 1), torch.zeros(1, 3, 1, 1)
        >>> x[:, 0], y[:, 0] = 50.0, 51.0
        >>> round(float(difference(x, y)), 4)
        0.9992
        >>> difference(x[0], y[0])
        Traceback (most recent call last):
        ValueError: x and y have shapes (3, 1, 1) and (3, 1, 1); expected (B, 3, H, W) twice
    """
    if x.shape != y.shape or x.ndim != 4 or x.shape[1] != 3:
        seen = f"{tuple(x.shape)} and {tuple(y.shape)}"
        raise ValueError(f"x and y have shapes {seen}; expected (B, 3, H, W) twice")
    (L1, a1, b1), (L2, a2, b2) = x.unbind(1), y.unbind(1)
    stretch = 1.5 - 0.5 * _saturation((_chroma(a1, b1) + _chroma(a2, b2)) / 2)
    (C1, h1), (C2, h2) = _polar(stretch * a1, b1), _polar(stretch * a2, b2)
    grey = C1 * C2 == 0
    turn = torch.where(grey, 0.0, torch.remainder(h2 - h1 + 180, 360) - 180)
    dH = 2 * _root(C1 * C2) * (turn / 2).deg2rad().sin()
    h = torch.where(grey, h1 + h2, torch.remainder(h1 + turn / 2, 360))
    L, C = (L1 + L2) / 2, (C1 + C2) / 2
    S_L = 1 + 0.015 * (L - 50) ** 2 / (20 + (L - 50) ** 2).sqrt()
    S_C, S_H = 1 + 0.045 * C, 1 + 0.015 * C * _hue_weight(h)
    blue = 60 * torch.exp(-(((h - 275) / 25) ** 2))
    R_T = -2 * blue.deg2rad().sin() * _saturation(C)
    l, c, d = (L2 - L1) / S_L, (C2 - C1) / S_C, dH / S_H  # noqa: E741
    return _root(l**2 + c**2 + d**2 + R_T * c * d)


def ciede2000(x: Tensor, y: Tensor) -> Tensor:
    """Mean CIEDE2000 difference of each picture, over its pixels.

    Args:
        x: Judged pictures (B, 3, H, W) or (3, H, W), sRGB in [0, 1].
        y: References of the same shape.

    Returns:
        (B,), 0 for identical pictures; computed in float64, in the type of the pictures.

    Raises:
        ValueError: If the two are not float RGB pictures of one shape, type and device.

    Source: Sharma et al. 2005. Departs: the formula wants flat patches; for photographs the mean
        over pixels is what dehazing tables print (O-HAZE, arXiv 1804.05101).

    Example:
        >>> ciede2000(torch.zeros(3, 4, 4), torch.ones(3, 4, 4))
        tensor([100.])
        >>> ciede2000(torch.zeros(1, 4, 4), torch.ones(1, 4, 4))
        Traceback (most recent call last):
        ValueError: CIEDE2000 is defined on RGB; these pictures have 1 channel
    """
    x, y = similarity.pair(x, y)
    if x.shape[1] != 3:
        raise ValueError(f"CIEDE2000 is defined on RGB; these pictures have {x.shape[1]} channel")
    found = difference(from_rgb(x.double()), from_rgb(y.double()))
    return found.flatten(1).mean(1).to(x.dtype)


def _root(x: Tensor) -> Tensor:
    """Square root whose slope at 0, where colours are equal or grey, is 0 instead of infinite."""
    positive = x > 0
    return torch.where(positive, torch.where(positive, x, 1.0).sqrt(), 0.0)


def _chroma(a: Tensor, b: Tensor) -> Tensor:
    return _root(a**2 + b**2)


def _saturation(C: Tensor) -> Tensor:
    return _root(C**7 / (C**7 + 25.0**7))


def _polar(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Chroma, and hue in degrees from 0 to 360; grey has hue 0."""
    C = _chroma(a, b)
    hue = torch.atan2(b, torch.where(C > 0, a, 1.0)).rad2deg()
    return C, torch.remainder(hue, 360)


def _hue_weight(h: Tensor) -> Tensor:
    """T of eq. 15."""
    terms = ((-0.17, 1, -30), (0.24, 2, 0), (0.32, 3, 6), (-0.20, 4, -63))
    return 1 + sum((g * (k * h + shift).deg2rad().cos() for g, k, shift in terms), torch.zeros(()))
