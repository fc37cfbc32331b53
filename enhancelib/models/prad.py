"""PRaD: a U-Net whose decoder reads every scale of the encoder, and a critic that judges pairs.

| paper | variable | where |
|---|---|---|
| I_s | `degraded`, `source` | Eq. 1, the phone's picture |
| I_e = F_W(I_s) | `outputs(...)["restored"]` | Eq. 1 |
| C | convolution + LeakyReLU | Eqs. 2 to 4 |
| y_enc^n | `outputs(...)["e0"]`, `"e1"`, ... | Eq. 2, scale n has 1 / 2^n of the pixels a side |
| up y_dec^(n+1) | `"up_n"` | Eq. 3 |
| R(up y_dec^(n+1)) | `"refined_n"` | Eq. 4 |
| F_n | `"gathered_n"` | Eq. 4 |
| CFA_n | `"aggregated_n"` | Eq. 4 |
| y_dec^n | `"decoded_n"` | Eq. 3 |
| I_r, I_f | `Critic.inputs(source, image)` | Eq. 5 |

Source: "Perceptual Image Enhancement by Relativistic Discriminant Learning With Cross-Scale
Aggregated Representation", IEEE Access 7, 2019, pp. 39660-39669. Its text names neither widths nor
depth, kernels, R, resampling, activation or output layer, and no code was released: they are
inferred here from the systems that it builds on (DPED, RSGUNet, PPCN).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from enhancelib.models._layers import (
    NORMS,
    Layers,
    Range,
    check_choice,
    check_picture,
    check_widths,
    enlarged,
)
from enhancelib.models.pairwise import Critic, Discriminator
from enhancelib.tiling import Tiling

__all__ = ["SIZES", "Critic", "Discriminator", "Generator"]

Refinement = Literal["residual", "none", "channel_attention"]
Aggregated = Literal["deeper", "shallow"]
Norm = Literal["none", "batch", "instance", "weight"]
Down = Literal["conv", "maxpool"]

SIZES: Mapping[str, tuple[int, ...]] = {"S": (16, 32, 64), "M": (24, 48, 96), "L": (32, 64, 128)}
"""Widths of the generator. S is 10.9 times smaller than GridNet; the paper says "10 times"."""

_REFINEMENTS = ("residual", "none", "channel_attention")
_SQUEEZE = 4  # channels per channel of the attention's bottleneck; 16 channels leave RCAN's 4
_QUIET = 0.1


class Generator(nn.Module):
    r"""The multi-level connected generator `I_e = F_W(I_s)`, Eqs. 1 to 4 of the paper.

    Scale n of the encoder is two convolutions behind a halving (Eq. 2). Scale n of the decoder is
    `y_dec^n = C(CFA_n)`, `CFA_n = C(concat(R(up y_dec^(n+1)), F_n))` (Eqs. 3 and 4), where F_n are
    the encoder's maps of all scales, brought to the width of scale n by 1x1 convolutions and to its
    size by averaging or bilinear enlargement. The output is 0.58 tanh(x) + 0.5.

    The initial values are torch's own (uniform within 1 / sqrt(fan in), biases too), except that
    the last convolution of R starts at a tenth: without norms, every R then starts close to the
    identity. At ten times DPED's rate (Adam 5e-3, squared error, 120 steps on real pairs) torch's
    own values alone threw the output to black with each of three seeds, these with none.

    Args:
        widths: Channels of each scale, finest first, two or more; `SIZES` holds three sets.
        cfa: False for a plain U-Net's skips, F_n = e_n.
        refinement: R: "residual" is x + conv(C(x)); "none" the identity; "channel_attention" the
            residual block of RCAN, whose second term is weighted per channel.
        aggregated: Which convolution of an encoder scale F_n reads: its second ("deeper") or its
            first ("shallow", the paper's ablation).
        norm: "none", or the paper's ablation: "batch", "instance" (both affine) or "weight" in
            every C and in R.
        down: "conv", a C of stride 2, or "maxpool" (then Eq. 2 is meant literally: two
            convolutions a scale).
        slope: Of LeakyReLU for negative values, 0 or more and below 1.
        generator: Where the initial weights are drawn; None is torch's global generator.

    Raises:
        ValueError: If an option is none of those above.

    Source: the paper's text; DPED for the output, RSGUNet for the slope and strided convolutions.

    Departs: Eqs. 3 and 4 enlarge twice, the sizes allow one; odd sizes are rounded up in the
    encoder and cut in the decoder, where the paper says nothing.

    Example:
        >>> sum(p.numel() for p in Generator().parameters())
        206323
        >>> Generator(norm="group")
        Traceback (most recent call last):
        ValueError: norm is 'group'; expected one of 'none', 'batch', 'instance', 'weight'
    """

    def __init__(
        self,
        widths: Sequence[int] = SIZES["S"],
        *,
        cfa: bool = True,
        refinement: Refinement = "residual",
        aggregated: Aggregated = "deeper",
        norm: Norm = "none",
        down: Down = "conv",
        slope: float = 0.2,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.widths = check_widths(widths, 2)
        check_choice("refinement", refinement, _REFINEMENTS)
        check_choice("aggregated", aggregated, ("deeper", "shallow"))
        check_choice("norm", norm, NORMS)
        check_choice("down", down, ("conv", "maxpool"))
        if not 0 <= slope < 1:
            raise ValueError(f"slope is {slope!r}; expected a number in [0, 1)")
        self.cfa, self.refinement, self.aggregated = bool(cfa), refinement, aggregated
        self._norm, self.down, self.slope = norm, down, float(slope)
        self._build(Layers(norm, partial(nn.LeakyReLU, self.slope), generator))

    def _build(self, layers: Layers) -> None:
        w, strided = self.widths, self.down == "conv"
        halvings = [
            layers.block(a, b, stride=2) if strided else nn.MaxPool2d(2, ceil_mode=True)
            for a, b in pairwise(w)
        ]
        arriving = [3, *(w[1:] if strided else w[:-1])]
        self.halvings = nn.ModuleList([nn.Identity(), *halvings])
        self.first = nn.ModuleList(layers.block(a, b) for a, b in zip(arriving, w, strict=True))
        self.second = nn.ModuleList(layers.block(b, b) for b in w)
        self.decoder = nn.ModuleList(
            _Scale(n, w, layers, cfa=self.cfa, refinement=self.refinement)
            for n in range(len(w) - 1)
        )
        plain = Layers(generator=layers.generator)  # the output has neither norm nor LeakyReLU
        self.last = nn.Sequential(plain.conv(w[0], 3), Range())

    @property
    def norm(self) -> Norm:
        """What is normalised now; `models.fold` turns "batch" into "none".

        Returns:
            "none", "batch", "instance" or "weight".
        """
        folded = not any(isinstance(layer, nn.BatchNorm2d) for layer in self.modules())
        return "none" if self._norm == "batch" and folded else self._norm

    @property
    def options(self) -> dict[str, object]:
        """What `models.build("prad", **options)` needs to make a network of these shapes.

        Returns:
            The arguments but `generator`, all of them plain JSON values.
        """
        return {
            "widths": list(self.widths),
            "cfa": self.cfa,
            "refinement": self.refinement,
            "aggregated": self.aggregated,
            "norm": self.norm,
            "down": self.down,
            "slope": self.slope,
        }

    @property
    def tiling(self) -> Tiling | None:
        """How large pictures can be cut into tiles without a difference; None if they cannot.

        Returns:
            None with instance norm or channel attention, and with batch norm while training.
        """
        across = self.norm == "instance" or self.refinement == "channel_attention"
        if across or (self.norm == "batch" and self.training):
            return None
        return Tiling(overlap=self._reach(), multiple=2 ** (len(self.widths) - 1))

    def _reach(self) -> int:
        """Pixels that an output pixel sees to each side: each convolution adds its scale's size."""
        encoded = [2]
        for size in (2**n for n in range(1, len(self.widths))):
            encoded.append(encoded[-1] + size // 2 + 2 * size)
        reach = encoded[-1]
        for n in reversed(range(len(self.widths) - 1)):
            refined = 0 if self.refinement == "none" else 2 * 2**n
            across = [e + 2**m for m, e in enumerate(encoded)] if self.cfa else []
            reach = max(reach + 2 ** (n + 1) + refined, *across, encoded[n]) + 2 * 2**n
        return reach + 1

    def forward(self, degraded: Tensor) -> Tensor:
        """Enhance: `I_e = F_W(I_s)`, Eq. 1.

        Args:
            degraded: The phone's pictures I_s, (B, 3, H, W), RGB in [0, 1], any size.

        Returns:
            (B, 3, H, W) within (-0.08, 1.08), not clamped.

        Raises:
            ValueError: If the shape is another one, or instance norm meets a picture that is no
                larger than one pixel of the coarsest scale.

        Example:
            >>> Generator((2, 4))(torch.zeros(2, 3, 5, 7)).shape
            torch.Size([2, 3, 5, 7])
            >>> Generator((2, 4))(torch.zeros(2, 1, 5, 7))
            Traceback (most recent call last):
            ValueError: degraded has shape (2, 1, 5, 7); expected (B, 3, H, W)
        """
        ((_, restored),) = deque(self._stages(degraded), maxlen=1)  # keeps no map alive
        return restored

    def outputs(self, degraded: Tensor) -> dict[str, Tensor]:
        """Every map on the way, before and after refinement and aggregation.

        Args:
            degraded: As in `forward`.

        Returns:
            "e0", "e1", ...: the encoder's maps (second convolution); for each scale n of the
            decoder, coarsest first, "up_n", "refined_n" = R(up_n), "gathered_n" = F_n,
            "aggregated_n" = CFA_n and "decoded_n" = y_dec^n; at last "restored".

        Raises:
            ValueError: As `forward`.

        Example:
            >>> list(Generator((2, 4)).outputs(torch.zeros(1, 3, 8, 8)))[2:]
            ['up_0', 'refined_0', 'gathered_0', 'aggregated_0', 'decoded_0', 'restored']
            >>> Generator((2, 4)).outputs(torch.zeros(3, 8, 8))
            Traceback (most recent call last):
            ValueError: degraded has shape (3, 8, 8); expected (B, 3, H, W)
        """
        return dict(self._stages(degraded))

    def _stages(self, degraded: Tensor) -> Iterator[tuple[str, Tensor]]:
        above = 2 ** (len(self.widths) - 1) if self.norm == "instance" else 0
        check_picture("degraded", degraded, above=above)
        x, read = degraded, []
        for n in range(len(self.widths)):
            shallow = self.first[n](self.halvings[n](x))
            x = self.second[n](shallow)
            read.append(shallow if self.aggregated == "shallow" else x)
            yield f"e{n}", x
        for n in reversed(range(len(self.widths) - 1)):
            scale = self.decoder[n]
            assert isinstance(scale, _Scale)  # ModuleList does not know
            for name, made in scale.stages(x, read):
                yield f"{name}_{n}", made
            x = made
        yield "restored", self.last(x)


class _Scale(nn.Module):
    """Scale n of the decoder: y_dec^n from y_dec^(n+1) and the encoder's maps, Eqs. 3 and 4."""

    def __init__(
        self, n: int, widths: tuple[int, ...], layers: Layers, *, cfa: bool, refinement: str
    ) -> None:
        super().__init__()
        width, self.n = widths[n], n
        self.up = layers.block(widths[n + 1], width, 1)
        self.refine: nn.Module = nn.Identity()
        if refinement != "none":
            self.refine = _Refinement(width, layers, attention=refinement == "channel_attention")
        others = [m for m in range(len(widths)) if m != n] if cfa else []
        self.project = nn.ModuleDict({str(m): layers.block(widths[m], width, 1) for m in others})
        self.merge = layers.block((2 + len(others)) * width, width)
        self.decode = layers.block(width, width)

    def stages(self, below: Tensor, encoded: Sequence[Tensor]) -> Iterator[tuple[str, Tensor]]:
        up = enlarged(self.up(below), 2, like=encoded[self.n])
        yield "up", up
        refined = self.refine(up)
        yield "refined", refined
        gathered = self._gathered(encoded)
        yield "gathered", gathered
        aggregated = self.merge(torch.cat((refined, gathered), dim=1))
        yield "aggregated", aggregated
        yield "decoded", self.decode(aggregated)

    def _gathered(self, encoded: Sequence[Tensor]) -> Tensor:
        """F_n: each encoder map at the width and size of scale n."""
        own, found = encoded[self.n], []
        for m, e in enumerate(encoded):
            if m == self.n:
                found.append(e)
            elif str(m) in self.project:
                found.append(_resampled(self.project[str(m)](e), m - self.n, like=own))
        return torch.cat(found, dim=1)


def _resampled(x: Tensor, octaves: int, like: Tensor) -> Tensor:
    if octaves > 0:
        return enlarged(x, 2**octaves, like)
    for _ in range(-octaves):
        x = functional.avg_pool2d(x, 2, ceil_mode=True)
    return x


class _Refinement(nn.Module):
    """R: `x + conv(C(x))`, the second term weighted per channel where RCAN's attention is on."""

    def __init__(self, width: int, layers: Layers, *, attention: bool) -> None:
        super().__init__()
        quiet = layers.conv(width, width)
        _scale(quiet, _QUIET)
        self.body = nn.Sequential(layers.block(width, width), *layers.normalised(quiet, width))
        self.attention = _Attention(width, layers) if attention else None

    def forward(self, x: Tensor) -> Tensor:
        change: Tensor = self.body(x)
        return x + (change if self.attention is None else change * self.attention(change))


class _Attention(nn.Sequential):
    """A weight in (0, 1) for each channel from the mean of every channel (RCAN)."""

    global_statistics = True

    def __init__(self, width: int, layers: Layers) -> None:
        plain = Layers(generator=layers.generator)
        squeezed = max(1, width // _SQUEEZE)
        super().__init__(
            nn.AdaptiveAvgPool2d(1),
            plain.conv(width, squeezed, 1),
            nn.ReLU(),
            plain.conv(squeezed, width, 1),
            nn.Sigmoid(),
        )


def _scale(conv: nn.Module, factor: float) -> None:
    with torch.no_grad():
        for parameter in conv.parameters():
            parameter.mul_(factor)
