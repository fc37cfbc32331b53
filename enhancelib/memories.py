"""What adversarial training remembers from one step to the next, kept in the checkpoint.

Both classes are parts of `training.fit`; `enhancelib.adversarial` uses them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from enhancelib import parallel

Sample = dict[str, Tensor]


class ImagePool:
    """Generated pictures of earlier steps, shown to the critic in place of new ones (CycleGAN).

    A picture that comes while the pool has room is kept and shown. After that it is shown as it is
    with probability 1/2; else a random kept one is shown and the new one takes its place. Under
    torchrun all processes keep one and the same pool.

    Args:
        size: Pictures kept; 0 shows every picture as it is.
        keys: Entries of the sample that belong together; name "degraded" besides "output" for a
            pair-wise critic, or the label that was asked for.

    Raises:
        ValueError: If size is negative or keys name nothing.

    Source: Shrivastava et al., CVPR 2017; size 50 and the probability: the CycleGAN authors' code.

    Example:
        >>> pool, generator = ImagePool(1), torch.Generator().manual_seed(0)
        >>> pool.exchange({"output": torch.arange(1.0, 6.0)}, generator)["output"]
        tensor([1., 2., 1., 4., 5.])
        >>> ImagePool(-1)
        Traceback (most recent call last):
        ValueError: size is -1, keys ('output',); expected 0 or more, and a key or more
    """

    def __init__(self, size: int, keys: Sequence[str] = ("output",)) -> None:
        self.size, self.keys = size, tuple(keys)
        if size < 0 or not self.keys or isinstance(keys, str):
            raise ValueError(f"size is {size}, keys {keys}; expected 0 or more, and a key or more")
        self._kept: list[Sample] = []

    def __len__(self) -> int:
        return len(self._kept)

    def exchange(self, sample: Sample, generator: torch.Generator) -> Sample:
        """Show pictures to the pool and get those that the critic is to see.

        Args:
            sample: Holds the pool's keys, one row per picture.
            generator: Chooses; one on the CPU.

        Returns:
            The sample with other rows under the keys; nothing flows back through them.

        Raises:
            ValueError: If the pictures have another size than those kept.

        Example:
            >>> pool, generator = ImagePool(9), torch.Generator()
            >>> _ = pool.exchange({"output": torch.zeros(1, 3, 8, 8)}, generator)
            >>> pool.exchange({"output": torch.zeros(1, 3, 9, 9)}, generator)
            Traceback (most recent call last):
            ValueError: 'output' has pictures of (3, 9, 9), the pool keeps (3, 8, 8)
        """
        arrived = parallel.whole({key: sample[key] for key in self.keys})
        for key, value in arrived.items():
            if self._kept and (kept := self._kept[0][key].shape) != value.shape[1:]:
                raise ValueError(
                    f"{key!r} has pictures of {tuple(value.shape[1:])}, the pool keeps "
                    f"{tuple(kept)}"
                )
        rows = [dict(zip(arrived, row, strict=True)) for row in zip(*arrived.values(), strict=True)]
        shown = [self._one(row, generator) for row in rows]
        stacked = {
            key: torch.stack([row[key].to(arrived[key]) for row in shown]) for key in arrived
        }
        return {**sample, **parallel.share(stacked)}

    def _one(self, row: Sample, generator: torch.Generator) -> Sample:
        if len(self._kept) < self.size:
            self._kept.append(_copied(row))
            return row
        if not self.size or torch.rand((), generator=generator) < 0.5:
            return row
        place = int(torch.randint(self.size, (), generator=generator))
        shown, self._kept[place] = self._kept[place], _copied(row)
        return shown

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps.

        Returns:
            Size, keys and the pictures.
        """
        return {"size": self.size, "keys": list(self.keys), "kept": list(self._kept)}

    def load_state_dict(self, state: Mapping[str, Any], /) -> None:
        """Take what `state_dict` gave.

        Args:
            state: Size, keys and pictures.

        Raises:
            ValueError: If it is the state of another kind of pool.

        Example:
            >>> ImagePool(50).load_state_dict(ImagePool(20).state_dict())
            Traceback (most recent call last):
            ValueError: the pool has size 50 and keys ['output'], the state 20 and ['output']
        """
        if (state["size"], state["keys"]) != (self.size, list(self.keys)):
            raise ValueError(
                f"the pool has size {self.size} and keys {list(self.keys)}, "
                f"the state {state['size']} and {state['keys']}"
            )
        self._kept = list(state["kept"])


def _copied(row: Sample) -> Sample:
    return {key: value.clone() for key, value in row.items()}  # no view of the whole batch


class AdaptiveWeight:
    """The weight of a gradient penalty that follows the critic's slope (A-WGAN).

    Over a moving window of measured values: where their mean is above `high`, the weight doubles;
    where it is below `low`, it halves; after either the window fills anew.

    Args:
        value: The weight at the start, above 0.
        low: Bound for halving; 0 never halves, as the official code, which says that its first
            weight was small.
        high: Bound for doubling. 1.001 and 1.05 are for the mean gradient norm; the official code
            takes 0.05 for the one-sided penalty.
        factor: By which the weight changes.
        window: Values averaged, and at least as many steps between two changes.

    Raises:
        ValueError: If an argument is outside what is said here.

    Source: Chen et al., CVPR 2018 (Deep Photo Enhancer), section 4.
    Departs: the official code averages exponentially (decay 0.99) where the text has a window.

    Example:
        >>> weight = AdaptiveWeight(10.0, window=2)
        >>> [weight.update(slope) for slope in (1.2, 1.2, 1.2, 0.5, 0.5)]
        [10.0, 20.0, 20.0, 10.0, 10.0]
        >>> AdaptiveWeight(0.0)
        Traceback (most recent call last):
        ValueError: value is 0.0, low 1.001, high 1.05, factor 2.0, window 50; expected ...
    """

    def __init__(
        self,
        value: float = 10.0,
        *,
        low: float = 1.001,
        high: float = 1.05,
        factor: float = 2.0,
        window: int = 50,
    ) -> None:
        if not (0 < value < math.inf and 0 <= low < high and factor > 1 and window >= 1):
            raise ValueError(
                f"value is {value}, low {low}, high {high}, factor {factor}, window {window}; "
                "expected value > 0, 0 <= low < high, factor > 1, window >= 1"
            )
        self.value, self.low, self.high = value, low, high
        self.factor, self.window = factor, window
        self._recent: list[float] = []

    def update(self, measured: float) -> float:
        """Take one measured value.

        Args:
            measured: The mean gradient norm, or the penalty.

        Returns:
            The weight from now on.
        """
        self._recent = [*self._recent, measured][-self.window :]
        mean = math.fsum(self._recent) / self.window
        if len(self._recent) == self.window and (mean > self.high or mean < self.low):
            self.value *= self.factor if mean > self.high else 1 / self.factor
            self._recent = []
        return self.value

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps.

        Returns:
            The weight and the window.
        """
        return {"value": self.value, "recent": list(self._recent)}

    def load_state_dict(self, state: Mapping[str, Any], /) -> None:
        """Take what `state_dict` gave.

        Args:
            state: Weight and window.
        """
        self.value, self._recent = float(state["value"]), list(state["recent"])
