r"""MSCNN: the transmission of haze from a coarse and a fine network, then the haze model turned.

| symbol | variable | what it is |
|---|---|---|
| I, J | degraded, returned | hazy and haze-free picture, `J = (I - A) / max(t, 0.1) + A` |
| A | "airlight" | per channel the largest minimum over 15 x 15 pixels |
| t_c, t | "coarse", "transmission" | what the coarse and the fine network make of I / A |

Source: Ren, Liu, Zhang, Pan, Cao, Yang, "Single Image Dehazing via Multi-Scale Convolutional Neural
Networks", ECCV 2016; released code rwenqi/Multi-scale-CNN-Dehazing (5075ccf).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from enhancelib import filters, images
from enhancelib.models._layers import Layers, check_picture

_WINDOW = 15
_FLOOR = 0.1
_COARSE = ((3, 5, 11), (5, 5, 9), (5, 10, 7))  # maps in, out, side
_FINE = ((3, 6, 7), (6, 5, 5), (5, 10, 3))
_NEIGHBOURS, _STRENGTH, _POWER = 5, 2e-5, 0.75  # of the local response normalisation


class _Scale(nn.Module):
    """Three times convolution, ReLU, 2x2 maximum, doubled again; then one sum and a sigmoid."""

    def __init__(self, rows: Sequence[tuple[int, int, int]], layers: Layers) -> None:
        super().__init__()
        for number, row in enumerate(rows, start=1):
            self.add_module(f"conv{number}", layers.conv(*row))
        self.comb = layers.conv(rows[-1][1], 1, 1)

    def forward(self, x: Tensor, replacing: Tensor | None = None) -> Tensor:
        """The map for pictures x; `replacing` stands for the last map of the first convolution."""
        size = x.shape[2:]
        for number in (1, 2, 3):
            x = self.get_submodule(f"conv{number}")(x)
            if number == 1 and replacing is not None:
                x = torch.cat((x[:, :-1], replacing), 1)
            x = functional.interpolate(functional.max_pool2d(functional.relu(x), 2), scale_factor=2)
            if number < 3:  # torch divides the strength by the neighbours, MatConvNet does not
                strength = _STRENGTH * _NEIGHBOURS
                x = functional.local_response_norm(x, _NEIGHBOURS, strength, _POWER, 1.0)
        t = torch.sigmoid(self.comb(x))
        return t if t.shape[2:] == size else images.resize(t, size=(size[0], size[1]))


class MSCNN(nn.Module):
    """The dehazing network, for any resolution of at least 2 x 2 pixels.

    Args:
        joined: Whether t_c takes the place of the last of the fine network's six first maps, as in
            the paper. The released script does so only where sizes differ, which they never do, and
            in the released weights that map is still at its initial size: for them, False.
        generator: Where the initial weights are drawn; None is torch's global generator.

    Source: rwenqi/Multi-scale-CNN-Dehazing. Departs: no gamma that a user chooses for every
        picture, none of the script's further treatment of t, whose code was not at hand.

    Example:
        >>> sum(p.numel() for p in MSCNN().parameters())
        8435
    """

    def __init__(self, *, joined: bool = False, generator: torch.Generator | None = None) -> None:
        super().__init__()
        layers = Layers(generator=generator)
        self.joined = joined
        self.coarse, self.fine = _Scale(_COARSE, layers), _Scale(_FINE, layers)

    @property
    def options(self) -> dict[str, bool]:
        """What `models.build("mscnn", **options)` needs.

        Returns:
            joined.
        """
        return {"joined": self.joined}

    def forward(self, degraded: Tensor) -> Tensor:
        """Dehaze.

        Args:
            degraded: I, (B, 3, H, W), RGB in [0, 1], at least 2 x 2 pixels.

        Returns:
            J, (B, 3, H, W), not clipped.

        Raises:
            ValueError: If the shape is another one.

        Example:
            >>> MSCNN()(torch.rand(1, 3, 5, 7)).shape
            torch.Size([1, 3, 5, 7])
            >>> MSCNN()(torch.rand(1, 3, 1, 7))
            Traceback (most recent call last):
            ValueError: degraded has shape (1, 3, 1, 7); expected at least 2 x 2 pixels
        """
        return self.outputs(degraded)["restored"]

    def outputs(self, degraded: Tensor) -> dict[str, Tensor]:
        """Dehaze, and show what J is made of.

        Args:
            degraded: As for `forward`.

        Returns:
            coarse and transmission, (B, 1, H, W) in (0, 1), airlight (B, 3, 1, 1), restored.

        Raises:
            ValueError: As `forward` does.

        Example:
            >>> sorted(MSCNN().outputs(torch.rand(1, 3, 6, 8)))
            ['airlight', 'coarse', 'restored', 'transmission']
            >>> MSCNN().outputs(torch.rand(3, 6, 8))
            Traceback (most recent call last):
            ValueError: degraded has shape (3, 6, 8); expected (B, 3, H, W)
        """
        check_picture("degraded", degraded)
        if min(degraded.shape[2:]) < 2:
            seen = tuple(degraded.shape)
            raise ValueError(f"degraded has shape {seen}; expected at least 2 x 2 pixels")
        A = _airlight(degraded)
        balanced = degraded / A
        coarse = self.coarse(balanced)
        t = self.fine(balanced, coarse if self.joined else None)
        J = filters.invert_haze(degraded, t, A, floor=_FLOOR)
        return {"coarse": coarse, "transmission": t, "airlight": A, "restored": J}


def _airlight(image: Tensor) -> Tensor:
    """Per channel the largest minimum over a window; 1/255 where a channel is black."""
    B, C, H, W = image.shape
    lowest = filters.dark_channel(image.reshape(B * C, 1, H, W), _WINDOW)
    return lowest.amax((2, 3)).view(B, C, 1, 1).clamp_min(1 / 255)
