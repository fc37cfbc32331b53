"""GridNet: rows of scales, columns of depth; half the columns lead down, half lead up.

Source: Fourure, Emonet, Fromont, Muselet, Tremeau, Wolf, "Residual Conv-Deconv Grid Network for
Semantic Segmentation", BMVC 2017 (arXiv 1707.07958). The PRaD paper compares with one that "can
simulate U-Net, FCN and ResNet", has ten times its parameters and instance norm.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from enhancelib.models._layers import (
    Layers,
    Range,
    check_choice,
    check_picture,
    check_widths,
    enlarged,
)
from enhancelib.tiling import Tiling

Norm = Literal["instance", "batch", "none"]


class GridNet(nn.Module):
    r"""A grid of streams: row n holds maps of 1 / 2^n of the side, columns add depth.

    A convolution takes the picture to the first row. With f = conv(relu(norm(.))) twice, 3x3,

    - along a row: `x + f(x)`, at constant width, between any two neighbouring columns;
    - down, in the first half of the columns: f, its first convolution of stride 2 and to the width
      of the row below, the second at that width;
    - up, in the second half: f to the width of the row above, then bilinear enlargement by 2.

    Streams that meet are added. A convolution takes the last column's first row to the output,
    0.58 tanh(x) + 0.5. Convolutions have biases and norms are affine. This composition, with five
    steps along each row of six columns and f before the enlargement, is the one that gives both the
    parameters (2,242,403 for 3 x 6, 13,173,043 for 5 x 6) and the multiply-adds (3.433 and 1.912
    thousand millions at 100 x 100) that PRaD's smallness was measured against.

    Args:
        rows: Scales, two or more.
        columns: An even number, two or more.
        widths: Channels of each row, finest first; 16, 32, 64, 128, 256 for the grid of five.
        norm: "instance" as the PRaD paper used it, "batch" (GridNet's own) or "none".
        generator: Where the initial weights (torch's own) are drawn; None is torch's global one.

    Raises:
        ValueError: If the options do not describe a grid, or norm is another word.

    Departs: no dropout of streams while training; bilinear enlargement instead of transposed
    convolutions; the output layer of the DPED family.

    Example:
        >>> sum(p.numel() for p in GridNet().parameters())
        2242403
        >>> GridNet(rows=4)
        Traceback (most recent call last):
        ValueError: rows is 4, widths are (32, 64, 96); expected as many widths as rows
    """

    def __init__(
        self,
        rows: int = 3,
        columns: int = 6,
        *,
        widths: Sequence[int] = (32, 64, 96),
        norm: Norm = "instance",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.widths, self.norm, self.columns = check_widths(widths, 2), norm, columns
        check_choice("norm", norm, ("instance", "batch", "none"))
        if rows != len(self.widths):
            raise ValueError(
                f"rows is {rows!r}, widths are {self.widths}; expected as many widths as rows"
            )
        if not isinstance(columns, int) or columns < 2 or columns % 2:
            raise ValueError(f"columns is {columns!r}; expected an even number of at least 2")
        w, layers = self.widths, Layers(norm, generator=generator)
        self.first = layers.conv(3, w[0])
        self.along = nn.ModuleList(
            nn.ModuleList(_twice(layers, a, a) for a in w) for _ in range(columns - 1)
        )
        self.down = nn.ModuleList(
            nn.ModuleList(_twice(layers, a, b, stride=2) for a, b in pairwise(w))
            for _ in range(columns // 2)
        )
        self.up = nn.ModuleList(
            nn.ModuleList(_twice(layers, b, a) for a, b in pairwise(w)) for _ in range(columns // 2)
        )
        self.last = nn.Sequential(layers.conv(w[0], 3), Range())

    @property
    def options(self) -> dict[str, object]:
        """What `models.build("gridnet", **options)` needs to make a network of these shapes.

        Returns:
            rows, columns, widths and norm, all of them plain JSON values.
        """
        rows, widths = len(self.widths), list(self.widths)
        return {"rows": rows, "columns": self.columns, "widths": widths, "norm": self.norm}

    @property
    def tiling(self) -> Tiling | None:
        """How large pictures can be cut into tiles without a difference; None if they cannot.

        Returns:
            None with instance norm, and with batch norm while training.
        """
        if self.norm == "instance" or (self.norm == "batch" and self.training):
            return None
        sizes = [2**n for n in range(len(self.widths))]
        reach = [1]  # pixels to each side; a convolution adds the size of its row's pixels
        for size in sizes[1:]:
            reach.append(reach[-1] + size // 2 + size)
        for column in range(1, self.columns):
            reach = [r + 2 * size for r, size in zip(reach, sizes, strict=True)]
            for n in range(len(sizes) - 1) if column < self.columns // 2 else ():
                reach[n + 1] = max(reach[n + 1], reach[n] + 3 * sizes[n])
            for n in reversed(range(len(sizes) - 1)) if column >= self.columns // 2 else ():
                reach[n] = max(reach[n], reach[n + 1] + 6 * sizes[n])
        return Tiling(overlap=reach[0] + 1, multiple=sizes[-1])

    def forward(self, degraded: Tensor) -> Tensor:
        """Enhance.

        Args:
            degraded: Pictures, (B, 3, H, W), RGB in [0, 1], any size.

        Returns:
            (B, 3, H, W) within (-0.08, 1.08), not clamped.

        Raises:
            ValueError: If the shape is another one, or instance norm meets a picture that is no
                larger than one pixel of the last row.

        Example:
            >>> GridNet(2, 2, widths=(2, 4))(torch.zeros(1, 3, 5, 7)).shape
            torch.Size([1, 3, 5, 7])
            >>> GridNet(2, 2, widths=(2, 4))(torch.zeros(1, 3, 2, 2))
            Traceback (most recent call last):
            ValueError: degraded is 2 x 2; expected a side of more than 2 pixels, or instance ...
        """
        rows = len(self.widths)
        above = 2 ** (rows - 1) if self.norm == "instance" else 0
        check_picture("degraded", degraded, above=above)
        streams: list[Tensor] = [self.first(degraded)]
        for n, down in enumerate(_blocks(self.down[0])):
            streams.append(down(streams[n]))
        for column, along in enumerate(self.along, start=1):
            streams = [x + block(x) for x, block in zip(streams, _blocks(along), strict=True)]
            if column < self.columns // 2:
                for n, down in enumerate(_blocks(self.down[column])):
                    streams[n + 1] = streams[n + 1] + down(streams[n])
                continue
            ups = _blocks(self.up[column - self.columns // 2])
            for n in reversed(range(rows - 1)):
                up = enlarged(ups[n](streams[n + 1]), 2, like=streams[n])
                streams[n] = streams[n] + up
        restored: Tensor = self.last(streams[0])
        return restored


def _twice(layers: Layers, incoming: int, outgoing: int, stride: int = 1) -> nn.Sequential:
    """The block f: norm, ReLU and convolution, twice."""
    return nn.Sequential(
        *_before(layers, incoming),
        layers.conv(incoming, outgoing, stride=stride),
        *_before(layers, outgoing),
        layers.conv(outgoing, outgoing),
    )


def _before(layers: Layers, channels: int) -> list[nn.Module]:
    return [*layers.norms(channels), nn.ReLU()]


def _blocks(row: nn.Module) -> list[nn.Module]:
    assert isinstance(row, nn.ModuleList)  # a ModuleList of ModuleLists does not say so
    return list(row)
