"""What every loss asks of its input, in one wording."""

from __future__ import annotations

import torch
from torch import Tensor


def floating(**values: Tensor) -> None:
    """ValueError unless every named tensor is floating point and holds at least one value."""
    for name, value in values.items():
        if not value.is_floating_point():
            raise ValueError(f"{name} is {value.dtype}; expected floating point")
        if value.numel() == 0:
            raise ValueError(f"{name} has shape {tuple(value.shape)}; expected at least one value")


def alike(**values: Tensor) -> None:
    """ValueError unless the two named tensors are floating point and have one shape."""
    floating(**values)
    (first, x), (second, y) = values.items()
    if x.shape != y.shape:
        raise ValueError(
            f"{first} has shape {tuple(x.shape)}, {second} {tuple(y.shape)}; expected equal shapes"
        )


def pictures(*, height: int = 1, width: int = 1, **values: Tensor) -> None:
    """ValueError unless every named tensor is (N, C, H, W) with at least this height and width."""
    floating(**values)
    for name, value in values.items():
        if value.ndim != 4:
            raise ValueError(f"{name} has shape {tuple(value.shape)}; expected (N, C, H, W)")
        if value.shape[2] < height or value.shape[3] < width:
            raise ValueError(
                f"{name} has shape {tuple(value.shape)}; expected at least "
                f"{height} x {width} pixels"
            )


def wide(value: Tensor) -> Tensor:
    """The tensor itself, or its float32 copy where mixed precision made it shorter."""
    return value.float() if value.dtype in (torch.float16, torch.bfloat16) else value
