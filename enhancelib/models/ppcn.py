r"""PPCN: enhancement by a network of 2,715 parameters, and the larger one that taught it.

| official code | variable | student | teacher |
|---|---|---|---|
| `adjust_contrast` | `contrast` | 1.2 about the mean | the same |
| `W0`, `W1` | `convs[0]`, `[1]` | 1x7, 7x1, 8 maps; gives `c1` | 16 maps |
| `W2`, `W3` | `convs[2]`, `[3]` | 1x7 and 7x1, dilated by 2 | 3x3, 32 and 16 maps; gives `c3` |
| `W4`, `W5` | `convs[4]`, `[5]` | | 3x3, dilated by 2; gives `c5` |
| `W6` | `convs[6]` | | 1x1 on `c3` and `c5` |
| the last `W` | `convs[-1]` | 3x3 to RGB, `tanh(x) * 0.58 + 0.5` | the same |

Source: Hui, Wang, Deng, Gao, "Perception-Preserving Convolutional Networks for Image Enhancement on
Smartphones", ECCV Workshops 2018; released code Zheng222/PPCN (344bd67).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from enhancelib.models._layers import Range, check_picture
from enhancelib.models._official import EPSILON, convolution, initialise

Kind = Literal["student", "teacher"]

SLOPE = 0.05
CONTRAST = 1.2
_Layer = tuple[int, int, tuple[int, int], int, bool]  # in, out, kernel, dilation, normalised
LAYERS: dict[str, tuple[_Layer, ...]] = {
    "student": (
        (3, 8, (1, 7), 1, False),
        (8, 8, (7, 1), 1, False),
        (8, 16, (1, 7), 2, True),
        (16, 8, (7, 1), 2, True),
        (8, 3, (3, 3), 1, False),
    ),
    "teacher": (
        (3, 16, (1, 7), 1, False),
        (16, 16, (7, 1), 1, False),
        (16, 32, (3, 3), 1, True),
        (32, 16, (3, 3), 1, True),
        (16, 32, (3, 3), 2, True),
        (32, 16, (3, 3), 2, True),
        (32, 16, (1, 1), 1, False),
        (16, 3, (3, 3), 1, False),
    ),
}
"""Kind -> its convolutions, in order of use."""


class PPCN(nn.Module):
    r"""The enhancer in its two sizes.

    The student adds `c1` after its last LeakyReLU, the teacher after its normalisations, without
    one. Both work on the picture with its contrast raised.

    Args:
        kind: "student" (2,715 parameters) or "teacher" (21,843).
        generator: Where the initial weights are drawn; None is torch's global generator.

    Raises:
        ValueError: If the kind is another one.

    Source: Zheng222/PPCN, train/models.py, whose initial weights are DPED's.

    Example:
        >>> [sum(p.numel() for p in PPCN(kind).parameters()) for kind in ("student", "teacher")]
        [2715, 21843]
        >>> PPCN("pupil")
        Traceback (most recent call last):
        ValueError: kind is 'pupil'; expected 'student' or 'teacher'
    """

    def __init__(self, kind: Kind = "student", *, generator: torch.Generator | None = None) -> None:
        super().__init__()
        if kind not in LAYERS:
            raise ValueError(f"kind is {kind!r}; expected 'student' or 'teacher'")
        self.kind = kind
        self.convs, self.norms = nn.ModuleList(), nn.ModuleList()
        for incoming, outgoing, kernel, dilation, normalised in LAYERS[kind]:
            self.convs.append(convolution(incoming, outgoing, kernel, dilation=dilation))
            if normalised:
                self.norms.append(nn.InstanceNorm2d(outgoing, eps=EPSILON, affine=True))
        self.range = Range()
        initialise(self, generator)

    @property
    def options(self) -> dict[str, str]:
        """What `models.build("ppcn", **options)` needs to make a network of these shapes.

        Returns:
            kind, a plain JSON value.
        """
        return {"kind": self.kind}

    def forward(self, degraded: Tensor) -> Tensor:
        """Enhance phone photos.

        Args:
            degraded: (B, 3, H, W), RGB in [0, 1], any size but 1 x 1.

        Returns:
            (B, 3, H, W) in [-0.08, 1.08].

        Raises:
            ValueError: If the shape is another one.

        Example:
            >>> PPCN("teacher")(torch.zeros(1, 3, 5, 7)).shape
            torch.Size([1, 3, 5, 7])
            >>> PPCN()(torch.zeros(1, 4, 5, 7))
            Traceback (most recent call last):
            ValueError: degraded has shape (1, 4, 5, 7); expected (B, 3, H, W)
        """
        check_picture("degraded", degraded, above=1)
        x = contrast(degraded)
        c1 = _leaky(self.convs[1](_leaky(self.convs[0](x))))
        features = self._student(c1) if self.kind == "student" else self._teacher(c1)
        restored: Tensor = self.range(self.convs[-1](features))
        return restored

    def _student(self, c1: Tensor) -> Tensor:
        c2 = _leaky(self.norms[0](self.convs[2](c1)))
        return _leaky(self.norms[1](self.convs[3](c2))) + c1

    def _teacher(self, c1: Tensor) -> Tensor:
        c2 = _leaky(self.norms[0](self.convs[2](c1)))
        c3 = self.norms[1](self.convs[3](c2)) + c1
        c4 = _leaky(self.norms[2](self.convs[4](c3)))
        c5 = self.norms[3](self.convs[5](c4)) + c3
        return _leaky(self.convs[6](torch.cat((c3, c5), dim=1)))


def contrast(image: Tensor, factor: float = CONTRAST) -> Tensor:
    """Raise the contrast about the mean of each channel of each picture, without clipping.

    `factor (x - mean) + mean`.

    Args:
        image: (B, C, H, W).
        factor: Any number; 1.2 in the released code, 1 changes nothing.

    Returns:
        The same shape; values may leave [0, 1].

    Example:
        >>> contrast(torch.tensor([[[[0.0, 1.0]]]]))
        tensor([[[[-0.1000,  1.1000]]]])
    """
    mean = image.mean((2, 3), keepdim=True)
    return (image - mean) * factor + mean


def _leaky(x: Tensor) -> Tensor:
    return functional.leaky_relu(x, SLOPE)
