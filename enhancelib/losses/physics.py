r"""Priors on the layers of haze: smooth transmission and airlight, dark clean pictures.

| symbol | here | meaning |
|---|---|---|
| t, A | x of `smoothness` | transmission and airlight, of `I = t J + (1 - t) A` |
| J | J | the picture without haze |

Source: Gandelsman, Shocher, Irani, CVPR 2019 (Double-DIP), and yossigandelsman/DoubleDIP
(4f12629); Li et al., IEEE TIP 2020 (ZID), and liboyun/ZID (998ef63).
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from enhancelib.losses import _checks, pixel

_WINDOW = 5
_OFFSET = 0.05


def smoothness(x: Tensor) -> Tensor:
    r"""Mean squared difference of a grey picture and its 5 x 5 box blur, S of Double-DIP.

    `S(x) = mean (g - box_5(g))^2` with g the mean of the channels, where the window is inside.

    Args:
        x: Transmission (B, 1, H, W) or airlight (B, 3, H, W); 5 x 5 pixels or more, any range.

    Returns:
        A scalar, at least 0; 0 for planes, blind to a constant added. Double-DIP weights it 0.005
        for t and 0.1 for A.

    Raises:
        ValueError: If x has another shape or type, or is smaller than the window.

    Source: Gandelsman et al., CVPR 2019; yossigandelsman/DoubleDIP (4f12629).

    Example:
        >>> import torch
        >>> x = torch.zeros(1, 1, 5, 5)
        >>> x[0, 0, 2, 2] = 1.0
        >>> smoothness(x)
        tensor(0.9216)
        >>> smoothness(x[..., :4])
        Traceback (most recent call last):
        ValueError: x has shape (1, 1, 5, 4); expected at least 5 x 5 pixels
    """
    _checks.pictures(height=_WINDOW, width=_WINDOW, x=x)
    grey = _checks.wide(x).mean(dim=1, keepdim=True)
    edge = _WINDOW // 2
    return pixel.mse(grey[..., edge:-edge, edge:-edge], F.avg_pool2d(grey, _WINDOW, stride=1))


def dark_channel_term(J: Tensor) -> Tensor:
    r"""Mean squared dark channel minus 0.05, `mean (min_c J_c)^2 - 0.05` (ZID).

    The minimum is over the channels of a pixel alone; He et al. take one over windows as well. In
    a picture without haze some channel of most pixels is nearly 0.

    Args:
        J: The picture without haze, (B, C, H, W) in [0, 1].

    Returns:
        A scalar, -0.05 or more. The constant changes no gradient; it is ZID's.

    Raises:
        ValueError: If J has another shape, or is not floating point.

    Source: liboyun/ZID (998ef63).

    Example:
        >>> import torch
        >>> dark_channel_term(torch.tensor([0.5, 0.2, 0.9]).view(1, 3, 1, 1))
        tensor(-0.0100)
        >>> dark_channel_term(torch.ones(3, 8, 8))
        Traceback (most recent call last):
        ValueError: J has shape (3, 8, 8); expected (N, C, H, W)
    """
    _checks.pictures(J=J)
    return _checks.wide(J).amin(dim=1).square().mean() - _OFFSET
