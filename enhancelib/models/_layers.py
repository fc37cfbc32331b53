"""What the U-Net family is built of: convolutions drawn from a generator, norms, resampling."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations

NORMS = ("none", "batch", "instance", "weight")


@dataclass(frozen=True)
class Layers:
    """One way of making layers, so that a network states it once.

    The initial values are torch's own, uniform within 1 / sqrt(fan in), but drawn from `generator`.
    """

    norm: str = "none"
    activation: Callable[[], nn.Module] | None = None
    generator: torch.Generator | None = None
    epsilon: float = 1e-5  # of the norms

    def conv(self, incoming: int, outgoing: int, size: int = 3, *, stride: int = 1) -> nn.Module:
        """Convolution with bias and zeros around, that keeps the size at stride 1."""
        return self.drawn(nn.Conv2d, incoming, outgoing, size, stride=stride, padding=size // 2)

    def drawn(self, kind: type[nn.Module], *shape: int, **options: object) -> nn.Module:
        """A convolution or matrix whose values come from the generator and nowhere else."""
        layer: nn.Module = nn.utils.skip_init(kind, *shape, **options)  # type: ignore[no-untyped-call]
        weight, bias = layer.weight, layer.bias
        assert isinstance(weight, Tensor)  # the kinds named above have one
        nn.init.kaiming_uniform_(weight, a=math.sqrt(5), generator=self.generator)
        if isinstance(bias, Tensor):
            bound = 1 / math.sqrt(weight[0].numel())
            nn.init.uniform_(bias, -bound, bound, generator=self.generator)
        return parametrizations.weight_norm(layer) if self.norm == "weight" else layer

    def normalised(self, layer: nn.Module, channels: int) -> list[nn.Module]:
        """The layer, and the norm behind it if there is one."""
        return [layer, *self.norms(channels)]

    def norms(self, channels: int) -> list[nn.Module]:
        """The norm if there is one; weight norm is inside the convolution."""
        if self.norm == "batch":
            return [nn.BatchNorm2d(channels, eps=self.epsilon)]
        if self.norm == "instance":
            return [nn.InstanceNorm2d(channels, eps=self.epsilon, affine=True)]
        return []

    def block(self, incoming: int, outgoing: int, size: int = 3, *, stride: int = 1) -> nn.Module:
        """C of the paper: convolution, norm if any, activation."""
        conv = self.conv(incoming, outgoing, size, stride=stride)
        after = [self.activation()] if self.activation else []
        return nn.Sequential(*self.normalised(conv, outgoing), *after)


class Range(nn.Module):
    """The output layer of the DPED family, `0.58 tanh(x) + middle`, a little wider than [0, 1]."""

    def __init__(self, middle: float = 0.5) -> None:
        super().__init__()
        self.middle = middle

    def forward(self, x: Tensor) -> Tensor:
        """Squash."""
        return torch.tanh(x) * 0.58 + self.middle


def enlarged(x: Tensor, factor: int, like: Tensor) -> Tensor:
    """Bilinear enlargement by exactly `factor`, cut at the bottom and right to the size of `like`.

    Stretching to an odd size instead would move every pixel a little, differently in each tile.
    """
    large = functional.interpolate(
        x, scale_factor=float(factor), mode="bilinear", align_corners=False
    )
    return cut(large, like)


def cut(x: Tensor, like: Tensor) -> Tensor:
    """The top left part of x in the size of `like`."""
    return x[..., : like.shape[-2], : like.shape[-1]]


def check_picture(name: str, picture: Tensor, channels: int = 3, *, above: int = 0) -> None:
    """Refuse another layout, and pictures whose coarsest map would be one pixel (`above`)."""
    if picture.ndim != 4 or picture.shape[1] != channels or 0 in picture.shape:
        raise ValueError(f"{name} has shape {tuple(picture.shape)}; expected (B, {channels}, H, W)")
    if max(picture.shape[-2:]) <= above:
        H, W = picture.shape[-2:]
        raise ValueError(
            f"{name} is {H} x {W}; expected a side of more than {above} pixels, "
            "or instance norm has nothing to average"
        )


def check_widths(widths: Sequence[int], least: int) -> tuple[int, ...]:
    """Refuse what is no list of at least `least` positive widths."""
    given = tuple(widths)
    whole = all(isinstance(w, int) and not isinstance(w, bool) and w > 0 for w in given)
    if len(given) < least or not whole:
        raise ValueError(
            f"widths is {widths!r}; expected at least {least} positive integers, finest scale first"
        )
    return given


def check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    """Refuse a word that is not among the choices."""
    if value not in choices:
        expected = ", ".join(repr(choice) for choice in choices)
        raise ValueError(f"{name} is {value!r}; expected one of {expected}")
