"""DnCNN: a plain stack of convolutions that predicts the noise, not the picture.

| paper | variable | where |
|---|---|---|
| y = x + v | `degraded` | section III, the observation |
| R(y) ~ v | `outputs(...)["residual"]` | section III-A, residual mapping |
| x_hat = y - R(y) | `outputs(...)["restored"]` | section III-A |
| D | `D` | section III-A, depth; receptive field (2D+1) x (2D+1) |
| c | `c` | section III-A, channels of the picture |
| sigma / 255 | `noise_level` | FDnCNN's second input only |

Source: Zhang, Zuo, Chen, Meng, Zhang, "Beyond a Gaussian Denoiser", IEEE TIP 26(7), 2017
(arXiv 1608.03981); released networks and MatConvNet training code in cszn/DnCNN.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

Norm = Literal["batch", "none"]
Initialisation = Literal["he", "official"]

EPSILON = 1e-4  # MatConvNet's; torch's own 1e-5 does not give the released networks back
_SMALLEST_GAMMA = 0.025

VARIANTS: Mapping[str, Mapping[str, int]] = {
    "S": {"D": 17, "c": 1},
    "B": {"D": 20, "c": 1},
    "C": {"D": 20, "c": 3},
    "3": {"D": 20, "c": 1},
}
"""Options of the paper's networks: one noise level, blind, colour blind, three tasks."""


class DnCNN(nn.Module):
    r"""The denoiser `x_hat = y - R(y)` of D zero-padded 3x3 convolutions, section III of the paper.

    Layer 1 is conv + ReLU, layers 2 to D-1 are conv + BN + ReLU, layer D is a convolution; there is
    no pooling and no skip. Convolutions in front of a batch normalisation have no bias (its beta is
    one); every other convolution has.

    Args:
        D: Depth, at least 3. 17 for DnCNN-S, 20 for B, C and 3.
        c: Channels of the picture, 1 or more.
        width: Feature maps of the hidden layers; 64 in the paper.
        norm: "batch", or "none" for the paper's ablation and for networks with merged BN.
        residual: True when the last layer is the noise R(y), False when it is the picture itself.
        noise_map: True for FDnCNN, which reads the noise level as one more input channel. The
            released ones are direct: D=20, norm="none", residual=False.
        initialisation: "he" (paper: normal, variance 2 / fan in, gamma 1), or "official" (released
            training code: every convolution N(0, 2/(9 width)), gamma likewise with its magnitude
            at least 0.025, running standard deviation 0.01).
        momentum: Weight of the newest mini-batch in BN's running moments. 0.1 is torch's; the
            released code has 1.0 (the last mini-batch alone), its torch ports 0.95 and 0.9.
        output_scale: Factor on the initial weights of layer D; short runs start calmer at 0.1.
        generator: Where the initial weights are drawn; None is torch's global generator.

    Raises:
        ValueError: If an option is outside the range given above.

    Source: cszn/DnCNN (e93b278) for BN's epsilon 1e-4 and "official".

    Departs: the paper does not state BN's epsilon and momentum; they are the code's and torch's.

    Example:
        >>> sum(p.numel() for p in DnCNN().parameters())
        556097
        >>> DnCNN(norm="group")
        Traceback (most recent call last):
        ValueError: norm is 'group'; expected 'batch' or 'none'
    """

    def __init__(
        self,
        D: int = 17,
        c: int = 1,
        *,
        width: int = 64,
        norm: Norm = "batch",
        residual: bool = True,
        noise_map: bool = False,
        initialisation: Initialisation = "he",
        momentum: float = 0.1,
        output_scale: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        _check_options(D, c, width, norm, initialisation, momentum)
        self.D, self.c, self.width, self.momentum = D, c, width, momentum
        self.residual, self.noise_map, self.initialisation = residual, noise_map, initialisation
        self.layers = nn.Sequential()
        for depth in range(1, D + 1):
            self._append(depth, norm == "batch" and 1 < depth < D)
        with torch.no_grad():
            self._initialise(generator, output_scale)

    def _append(self, depth: int, normalised: bool) -> None:
        first, last = depth == 1, depth == self.D
        incoming = self.c + self.noise_map if first else self.width
        outgoing = self.c if last else self.width
        self.layers.append(_empty_conv(incoming, outgoing, bias=not normalised))
        if normalised:
            self.layers.append(nn.BatchNorm2d(outgoing, eps=EPSILON, momentum=self.momentum))
        if not last:
            self.layers.append(nn.ReLU())

    def _initialise(self, generator: torch.Generator | None, output_scale: float) -> None:
        official = self.initialisation == "official"
        spread = math.sqrt(2 / (9 * self.width))
        for layer in self.layers:
            if isinstance(layer, nn.Conv2d):
                std = spread if official else math.sqrt(2 / (9 * layer.in_channels))
                nn.init.normal_(layer.weight, std=std, generator=generator)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
            elif isinstance(layer, nn.BatchNorm2d) and official:
                _official_norm(layer, spread, generator)
        last = self.layers[-1]
        assert isinstance(last, nn.Conv2d)  # by construction
        last.weight.mul_(output_scale)

    @property
    def norm(self) -> Norm:
        """What follows the hidden convolutions now; `models.fold` turns "batch" into "none".

        Returns:
            "batch" or "none".
        """
        return "batch" if any(isinstance(x, nn.BatchNorm2d) for x in self.layers) else "none"

    @property
    def receptive_field(self) -> int:
        """Side of the square of input pixels that one output pixel sees, 2D + 1 (section III-A).

        Returns:
            35 at D=17, 41 at D=20.
        """
        return 2 * self.D + 1

    @property
    def options(self) -> dict[str, int | bool | str]:
        """What `models.build("dncnn", **options)` needs to make a network of these shapes.

        Returns:
            D, c, width, norm, residual and noise_map, all of them plain JSON values.
        """
        return {
            "D": self.D,
            "c": self.c,
            "width": self.width,
            "norm": self.norm,
            "residual": self.residual,
            "noise_map": self.noise_map,
        }

    def forward(self, degraded: Tensor, noise_level: Tensor | None = None) -> Tensor:
        """Denoise: `x_hat = y - R(y)`, not clamped.

        Args:
            degraded: Noisy pictures y, (B, c, H, W), [0, 1] before the noise was added, any size.
            noise_level: sigma / 255 as (B, 1, 1, 1), or a map (B, 1, H, W), in [0, 1]; for a
                network with noise_map, and only for one.

        Returns:
            The restored pictures, (B, c, H, W), unbounded.

        Raises:
            ValueError: If a shape does not fit, or noise_level is missing, superfluous or outside
                [0, 1].

        Example:
            >>> DnCNN(D=3, width=4)(torch.zeros(2, 1, 5, 7)).shape
            torch.Size([2, 1, 5, 7])
            >>> DnCNN(D=3, width=4)(torch.zeros(2, 3, 5, 7))
            Traceback (most recent call last):
            ValueError: degraded has shape (2, 3, 5, 7); expected (B, 1, H, W) for c=1
        """
        return self.outputs(degraded, noise_level)["restored"]

    def outputs(self, degraded: Tensor, noise_level: Tensor | None = None) -> dict[str, Tensor]:
        """Both halves of the observation, `y = restored + residual`.

        Args:
            degraded: Noisy pictures y, (B, c, H, W).
            noise_level: As in `forward`.

        Returns:
            "residual" R(y) and "restored" x_hat, each (B, c, H, W); one is the last layer, the
            other is y minus it.

        Raises:
            ValueError: As `forward`.

        Example:
            >>> sorted(DnCNN(D=3, width=4).outputs(torch.zeros(1, 1, 8, 8)))
            ['residual', 'restored']
            >>> DnCNN(D=3, width=4).outputs(torch.zeros(8, 8))
            Traceback (most recent call last):
            ValueError: degraded has shape (8, 8); expected (B, 1, H, W) for c=1
        """
        final: Tensor = self.layers(self._input(degraded, noise_level))
        other = degraded - final
        if self.residual:
            return {"residual": final, "restored": other}
        return {"residual": other, "restored": final}

    def activations(self, degraded: Tensor, noise_level: Tensor | None = None) -> list[Tensor]:
        """What each of the D layers hands on, for probes of what the network keeps where.

        Args:
            degraded: Noisy pictures y, (B, c, H, W).
            noise_level: As in `forward`.

        Returns:
            D tensors: after the ReLU of layers 1 to D-1, (B, width, H, W), and layer D itself,
            (B, c, H, W).

        Raises:
            ValueError: As `forward`.

        Example:
            >>> [x.shape[1] for x in DnCNN(D=3, width=4).activations(torch.zeros(1, 1, 8, 8))]
            [4, 4, 1]
            >>> DnCNN(D=3, width=4).activations(torch.zeros(8, 8))
            Traceback (most recent call last):
            ValueError: degraded has shape (8, 8); expected (B, 1, H, W) for c=1
        """
        features, kept = self._input(degraded, noise_level), []
        for layer in self.layers:
            features = layer(features)
            if isinstance(layer, nn.ReLU):
                kept.append(features)
        return [*kept, features]

    def _input(self, degraded: Tensor, noise_level: Tensor | None) -> Tensor:
        if degraded.ndim != 4 or degraded.shape[1] != self.c or 0 in degraded.shape:
            raise ValueError(
                f"degraded has shape {tuple(degraded.shape)}; "
                f"expected (B, {self.c}, H, W) for c={self.c}"
            )
        if not self.noise_map:
            if noise_level is not None:
                raise ValueError(
                    "noise_level was given to a network without noise_map; leave it out"
                )
            return degraded
        return torch.cat((degraded, _noise_map(degraded, noise_level)), dim=1)


def _empty_conv(incoming: int, outgoing: int, *, bias: bool) -> nn.Module:
    """Unlike nn.Conv2d, it draws nothing: `_initialise` fills it from the given generator."""
    conv: nn.Module = nn.utils.skip_init(  # type: ignore[no-untyped-call]
        nn.Conv2d, incoming, outgoing, 3, padding=1, bias=bias
    )
    return conv


def _noise_map(degraded: Tensor, noise_level: Tensor | None) -> Tensor:
    B, _, H, W = degraded.shape
    if noise_level is None:
        raise ValueError("noise_level is missing; this network has noise_map and needs sigma / 255")
    if tuple(noise_level.shape) not in ((B, 1, 1, 1), (B, 1, H, W)):
        raise ValueError(
            f"noise_level has shape {tuple(noise_level.shape)}; "
            f"expected ({B}, 1, 1, 1) or ({B}, 1, {H}, {W})"
        )
    low, high = float(noise_level.min()), float(noise_level.max())
    if not 0 <= low <= high <= 1:
        raise ValueError(
            f"noise_level runs from {low:g} to {high:g}; expected sigma / 255 in [0, 1]"
        )
    return noise_level.to(degraded).expand(B, 1, H, W)


def _official_norm(layer: nn.BatchNorm2d, spread: float, generator: torch.Generator | None) -> None:
    gamma = torch.empty_like(layer.weight).normal_(std=spread, generator=generator)
    sign = torch.where(gamma < 0, -1.0, 1.0)
    layer.weight.copy_(sign * gamma.abs().clamp(min=_SMALLEST_GAMMA))
    # MatConvNet keeps sqrt(variance + epsilon) and starts it at 0.01, which is variance 0 here
    assert layer.running_var is not None  # nn.BatchNorm2d tracks by default
    layer.running_var.fill_(0.01**2 - EPSILON)


def _check_options(
    D: int, c: int, width: int, norm: str, initialisation: str, momentum: float
) -> None:
    for name, value, least in (("D", D, 3), ("c", c, 1), ("width", width, 1)):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"{name} is {value!r}; expected an integer of at least {least}")
    if norm not in ("batch", "none"):
        raise ValueError(f"norm is {norm!r}; expected 'batch' or 'none'")
    if initialisation not in ("he", "official"):
        raise ValueError(f"initialisation is {initialisation!r}; expected 'he' or 'official'")
    if not 0 < momentum <= 1:
        raise ValueError(f"momentum is {momentum!r}; expected a number in (0, 1]")
