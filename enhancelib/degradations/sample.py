"""What every degradation shares: the sample it takes, the protocol it follows, factor tensors.

A sample is a `dict[str, Tensor]` of batches. A degradation reads `degraded` if there is one, else
`clean`, and returns a new dict with `degraded` and the factors that made it, each of shape
(B, 1, 1, 1), so that they broadcast against pictures and can feed a network as maps.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor

Sample = dict[str, Tensor]


class Degradation(Protocol):
    """A way for pictures to get worse: a frozen dataclass that is called on a sample."""

    @property
    def neutral(self) -> Mapping[str, float]:
        """The factors it adds, each with the value that means "nothing happened".

        Returns:
            Name to value; an int stands for an int64 tensor, a float for float32.
        """
        ...

    def __call__(self, sample: Sample, generator: torch.Generator) -> Sample:
        """Degrade every item of the batch.

        Args:
            sample: Holds `clean` or `degraded`, (B, C, H, W), and what else it needs.
            generator: The source of all randomness; its state alone decides the result.

        Returns:
            A new sample with `degraded` and the factors; the given one is untouched.
        """
        ...


def source(sample: Sample) -> Tensor:
    """The picture that the next degradation acts on.

    Args:
        sample: Holds `degraded` or `clean`, (B, C, H, W), float.

    Returns:
        `degraded` where there is one, else `clean`.

    Raises:
        ValueError: If neither is there, or the one is not a float batch of pictures.

    Example:
        >>> source({"clean": torch.zeros(2, 1, 8, 8)}).shape
        torch.Size([2, 1, 8, 8])
        >>> source({"depth": torch.zeros(2, 1, 8, 8)})
        Traceback (most recent call last):
        ValueError: the sample holds depth; expected 'clean' or 'degraded'
    """
    picture = sample.get("degraded", sample.get("clean"))
    if picture is None:
        held = ", ".join(sample) or "nothing"
        raise ValueError(f"the sample holds {held}; expected 'clean' or 'degraded'")
    if picture.dim() != 4 or not picture.is_floating_point():
        seen = f"{picture.dtype} of shape {tuple(picture.shape)}"
        raise ValueError(f"the picture is {seen}; expected a float batch (B, C, H, W)")
    return picture


def interval(name: str, value: float | tuple[float, float]) -> tuple[float, float]:
    """A level or a range of levels, as its two ends.

    Args:
        name: What the message calls it.
        value: One level, or (low, high).

    Returns:
        (low, high); a single level is both.

    Raises:
        ValueError: If there are not two ends, one is not a finite number, or low exceeds high.

    Example:
        >>> interval("sigma", 25.0), interval("sigma", (0, 55))
        ((25.0, 25.0), (0, 55))
        >>> interval("sigma", (55, 0))
        Traceback (most recent call last):
        ValueError: sigma is (55, 0); expected a finite number or a pair (low, high), low <= high
    """
    ends = tuple(value) if isinstance(value, tuple | list) else (value, value)
    numbers = all(isinstance(end, int | float) and not isinstance(end, bool) for end in ends)
    if len(ends) != 2 or not numbers or not all(map(math.isfinite, ends)) or ends[0] > ends[1]:
        raise ValueError(
            f"{name} is {value!r}; expected a finite number or a pair (low, high), low <= high"
        )
    return ends[0], ends[1]


def factor(values: Tensor, like: Tensor) -> Tensor:
    """Per-item values in the shape of a factor.

    Args:
        values: (B,) numbers.
        like: The picture they belong to; gives the device.

    Returns:
        (B, 1, 1, 1) on that device; same type as `values`.
    """
    return values.to(like.device).view(-1, 1, 1, 1)
