"""What DPED's released code and the code that grew from it share: layers and how they start."""

from __future__ import annotations

import torch
from torch import nn

EPSILON = 1e-3  # of every instance normalisation there; torch's own is 1e-5
_SPREAD, _BIAS = 0.01, 0.01


def convolution(
    incoming: int,
    outgoing: int,
    kernel: int | tuple[int, int],
    *,
    dilation: int = 1,
    bias: bool = True,
) -> nn.Conv2d:
    """A convolution of stride 1 that keeps the size, zero-padded and not yet initialised."""
    size = (kernel, kernel) if isinstance(kernel, int) else kernel
    padding = (dilation * (size[0] // 2), dilation * (size[1] // 2))
    layer: nn.Conv2d = nn.utils.skip_init(  # type: ignore[no-untyped-call]
        nn.Conv2d, incoming, outgoing, size, padding=padding, dilation=dilation, bias=bias
    )
    return layer


def strided(incoming: int, outgoing: int, kernel: int, stride: int) -> nn.Conv2d:
    """A convolution without padding, not yet initialised."""
    layer: nn.Conv2d = nn.utils.skip_init(  # type: ignore[no-untyped-call]
        nn.Conv2d, incoming, outgoing, kernel, stride=stride
    )
    return layer


def linear(incoming: int, outgoing: int) -> nn.Linear:
    """A matrix with bias, not yet initialised."""
    layer: nn.Linear = nn.utils.skip_init(nn.Linear, incoming, outgoing)  # type: ignore[no-untyped-call]
    return layer


@torch.no_grad()
def initialise(network: nn.Module, generator: torch.Generator | None) -> None:
    """Weights normal with standard deviation 0.01, redrawn beyond twice that; biases 0.01."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            edge = 2 * _SPREAD
            nn.init.trunc_normal_(layer.weight, std=_SPREAD, a=-edge, b=edge, generator=generator)
            if layer.bias is not None:
                nn.init.constant_(layer.bias, _BIAS)
