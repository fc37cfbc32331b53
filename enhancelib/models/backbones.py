"""Other networks for phone to DSLR: what the PRaD paper and the PIRM challenge compare with.

All map (B, 3, H, W) to (B, 3, H, W) at any size, and end in the DPED family's 0.58 tanh(x) + b.
GridNet has a file of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from enhancelib.models._layers import (
    Layers,
    Range,
    check_choice,
    check_picture,
    cut,
)
from enhancelib.models.gridnet import GridNet
from enhancelib.models.prad import SIZES, Down, Generator, Norm

__all__ = ["GridNet", "Johnson", "RSGUNet", "unet"]

Up = Literal["transposed", "nearest"]

_SLOPE = 0.2
_BLOCKS = 5


def unet(
    widths: Sequence[int] = SIZES["S"],
    *,
    norm: Norm = "none",
    down: Down = "conv",
    slope: float = 0.2,
    generator: torch.Generator | None = None,
) -> Generator:
    """Make the plain U-Net: PRaD's generator without cross-scale aggregation and refinement.

    Args:
        widths: Channels of each scale, finest first, two or more.
        norm: As `prad.Generator`.
        down: As `prad.Generator`.
        slope: As `prad.Generator`.
        generator: Where the initial weights are drawn; None is torch's global generator.

    Returns:
        The network, in training mode; 155,955 parameters at the default widths.

    Raises:
        ValueError: As `prad.Generator`.

    Example:
        >>> sum(p.numel() for p in unet().parameters())
        155955
        >>> unet((16,))
        Traceback (most recent call last):
        ValueError: widths is (16,); expected at least 2 positive integers, finest scale first
    """
    return Generator(
        widths,
        cfa=False,
        refinement="none",
        norm=norm,
        down=down,
        slope=slope,
        generator=generator,
    )


class RSGUNet(nn.Module):
    """The range scaling global U-Net, winner of the PIRM 2018 challenge's track B.

    A stem halves the picture to 16 maps. Three encoder levels of two convolutions (16, 32, 64) are
    each followed by a strided one; so is the fourth (128), whose result goes through a convolution
    to 256, the mean over the picture and a matrix to 128 values. These stand beside the fourth
    level at every pixel. The decoder enlarges by 2x2 transposed convolutions, reads the encoder's
    level and convolves twice, three times over. Its maps are multiplied by the stem's ("range
    scaling"), enlarged to 3 channels, and a convolution makes 0.58 tanh(x) + 0.52. All convolutions
    are 3x3 with LeakyReLU 0.2; there is no norm.

    Args:
        generator: Where the initial weights (torch's own) are drawn; None is torch's global one.

    Source: Huang et al., "Range Scaling Global U-Net for Perceptual Image Enhancement on Mobile
    Devices", ECCVW 2018; MTLab/rsgunet_image_enhance (adf66906).

    Departs: the zeros around a strided convolution's input are the same on all sides where
    TensorFlow puts them at the bottom and right. The authors released no weights that this could
    spoil.

    Example:
        >>> sum(p.numel() for p in RSGUNet().parameters())
        1451268
    """

    global_statistics = True

    def __init__(self, *, generator: torch.Generator | None = None) -> None:
        super().__init__()
        layers = Layers(activation=partial(nn.LeakyReLU, _SLOPE), generator=generator)
        widths = (16, 32, 64, 128)
        arriving = (16, 16, 32, 64)
        self.stem = layers.block(3, 16, stride=2)
        self.levels = nn.ModuleList(
            _pair(layers, a, b) for a, b in zip(arriving, widths, strict=True)
        )
        self.halvings = nn.ModuleList(layers.block(w, w, stride=2) for w in widths)
        self.whole = layers.block(128, 256)
        self.dense = nn.Sequential(layers.drawn(nn.Linear, 256, 128), nn.ReLU())
        self.joined = _pair(layers, 256, 128)
        self.ups = nn.ModuleList(_enlarging(layers, 2 * w, w) for w in widths[:3])
        self.decoder = nn.ModuleList(_pair(layers, 2 * w, w) for w in widths[:3])
        self.full = _enlarging(layers, 16, 3)
        self.last = nn.Sequential(layers.conv(3, 3), Range(0.52))

    @property
    def options(self) -> dict[str, object]:
        """What `models.build("rsgunet", **options)` needs to make it again.

        Returns:
            An empty dict: there is one RSGUNet only.
        """
        return {}

    def forward(self, degraded: Tensor) -> Tensor:
        """Enhance.

        Args:
            degraded: Pictures, (B, 3, H, W), RGB in [0, 1], any size.

        Returns:
            (B, 3, H, W) within (-0.06, 1.10), not clamped.

        Raises:
            ValueError: If the shape is another one.

        Example:
            >>> RSGUNet()(torch.zeros(1, 3, 33, 20)).shape
            torch.Size([1, 3, 33, 20])
            >>> RSGUNet()(torch.zeros(3, 33, 20))
            Traceback (most recent call last):
            ValueError: degraded has shape (3, 33, 20); expected (B, 3, H, W)
        """
        check_picture("degraded", degraded)
        x = stem = self.stem(degraded)
        encoded = []
        for level, halving in zip(self.levels, self.halvings, strict=True):
            encoded.append(level(x))
            x = halving(encoded[-1])
        everywhere = self.dense(self.whole(x).mean((2, 3)))[:, :, None, None]
        deepest = encoded.pop()
        x = self.joined(torch.cat((deepest, everywhere.expand_as(deepest)), dim=1))
        for n in reversed(range(len(encoded))):
            x = cut(self.ups[n](x), like=encoded[n])
            x = self.decoder[n](torch.cat((x, encoded[n]), dim=1))
        restored: Tensor = self.last(cut(self.full(x * stem), like=degraded))
        return restored


class Johnson(nn.Module):
    """The image transformation network of "Perceptual Losses", DPED's and PRaD's "Neural Art".

    9x9 convolution to 32 maps, two 3x3 of stride 2 to 64 and 128, five residual blocks
    `x + norm(conv(relu(norm(conv(x)))))`, two enlarging 3x3 layers to 64 and 32, each but the
    blocks' last with norm and ReLU; a 9x9 convolution makes 0.58 tanh(x) + 0.5.

    Args:
        up: "transposed" for the paper's convolutions of stride 1/2, "nearest" for repeated pixels
            and a convolution, which leaves no checkerboard; the counts are the same.
        generator: Where the initial weights (torch's own) are drawn; None is torch's global one.

    Raises:
        ValueError: If up is another word.

    Source: Johnson, Alahi, Fei-Fei, ECCV 2016 (arXiv 1603.08155), supplement.

    Departs: affine instance norm (the authors' later code) where the paper has batch norm; zeros
    around every convolution, so that the size is kept, where the paper pads the picture by 40
    reflected pixels and the blocks do not pad; 0.58 tanh(x) + 0.5 where the paper spans 0 to 255.

    Example:
        >>> sum(p.numel() for p in Johnson().parameters())
        1679235
        >>> Johnson(up="bilinear")
        Traceback (most recent call last):
        ValueError: up is 'bilinear'; expected one of 'transposed', 'nearest'
    """

    def __init__(self, *, up: Up = "transposed", generator: torch.Generator | None = None) -> None:
        super().__init__()
        check_choice("up", up, ("transposed", "nearest"))
        self.up = up
        layers = Layers("instance", nn.ReLU, generator)
        self.encoder = nn.Sequential(
            layers.block(3, 32, 9), layers.block(32, 64, stride=2), layers.block(64, 128, stride=2)
        )
        self.blocks = nn.ModuleList(
            nn.Sequential(layers.block(128, 128), *layers.normalised(layers.conv(128, 128), 128))
            for _ in range(_BLOCKS)
        )
        enlarge = self._transposed if up == "transposed" else self._nearest
        self.decoder = nn.Sequential(enlarge(layers, 128, 64), enlarge(layers, 64, 32))
        self.last = nn.Sequential(layers.conv(32, 3, 9), Range())

    @staticmethod
    def _transposed(layers: Layers, incoming: int, outgoing: int) -> nn.Module:
        conv = layers.drawn(
            nn.ConvTranspose2d, incoming, outgoing, 3, stride=2, padding=1, output_padding=1
        )
        return nn.Sequential(*layers.normalised(conv, outgoing), nn.ReLU())

    @staticmethod
    def _nearest(layers: Layers, incoming: int, outgoing: int) -> nn.Module:
        return nn.Sequential(nn.Upsample(scale_factor=2), layers.block(incoming, outgoing))

    @property
    def options(self) -> dict[str, object]:
        """What `models.build("johnson", **options)` needs to make a network of these shapes.

        Returns:
            up.
        """
        return {"up": self.up}

    def forward(self, degraded: Tensor) -> Tensor:
        """Enhance.

        Args:
            degraded: Pictures, (B, 3, H, W), RGB in [0, 1], any size.

        Returns:
            (B, 3, H, W) within (-0.08, 1.08), not clamped.

        Raises:
            ValueError: If the shape is another one, or no side is longer than 4 pixels.

        Example:
            >>> Johnson()(torch.zeros(1, 3, 33, 20)).shape
            torch.Size([1, 3, 33, 20])
            >>> Johnson()(torch.zeros(1, 3, 4, 4))
            Traceback (most recent call last):
            ValueError: degraded is 4 x 4; expected a side of more than 4 pixels, or instance ...
        """
        check_picture("degraded", degraded, above=4)
        x = self.encoder(degraded)
        for block in self.blocks:
            x = x + block(x)
        restored: Tensor = self.last(cut(self.decoder(x), like=degraded))
        return restored


def _pair(layers: Layers, incoming: int, outgoing: int) -> nn.Module:
    return nn.Sequential(layers.block(incoming, outgoing), layers.block(outgoing, outgoing))


def _enlarging(layers: Layers, incoming: int, outgoing: int) -> nn.Module:
    """2x2 transposed convolution of stride 2: every pixel makes four."""
    return layers.drawn(nn.ConvTranspose2d, incoming, outgoing, 2, stride=2, bias=False)
