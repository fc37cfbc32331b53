"""When to end the optimisation of one picture, or to step back: settings and what they remember.

A rule is a frozen dataclass; `begin(source)` makes the `Watch` that remembers for one run. An
untrained network fits the noise too if it goes on for long; no rule here sees the clean picture.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

Sample = Mapping[str, Tensor]


class Watch:
    """What a rule remembers; a part of the training, kept in its checkpoint.

    Attributes without an underscore are its state: tensors and plain values. `ended` tells why the
    run is over, "" while it goes on; `returns` how often parameters were put back. This one never
    ends a run.
    """

    def __init__(self) -> None:
        self.ended = ""
        self.returns = 0

    def see(self, step: int, loss: Tensor, sample: Sample) -> bool:
        """Look at a step before its update.

        Args:
            step: Its number, from 1.
            loss: The weighted sum.
            sample: What the objective saw.

        Returns:
            Whether to leave the update out, the parameters having been put back.
        """
        return False

    def state_dict(self) -> dict[str, Any]:
        """What it remembers.

        Returns:
            Tensors and plain values.
        """
        return {name: value for name, value in vars(self).items() if name[0] != "_"}

    def load_state_dict(self, state_dict: Mapping[str, Any], /) -> None:
        """Take what `state_dict` gave.

        Args:
            state_dict: The state.
        """
        vars(self).update(state_dict)


class Stopping(Protocol):
    """A stopping rule: `Fixed`, `Smoothed`, `Backtracking`, or one of the caller's."""

    def begin(self, source: nn.Module) -> Watch:
        """Begin a run.

        Args:
            source: What is optimised.

        Returns:
            What remembers.
        """
        ...


@dataclass(frozen=True)
class Fixed:
    """All steps of the recipe."""

    def begin(self, source: nn.Module) -> Watch:
        """Begin a run.

        Args:
            source: What is optimised.

        Returns:
            What remembers: nothing.
        """
        return Watch()


@dataclass(frozen=True)
class Smoothed:
    """Until the loss, averaged over windows of steps, no longer falls.

    A window counts as a fall where its mean is below `m - tolerance |m|`, m the mean of the last
    one that did. After `patience` windows without a fall the run is over.

    Args:
        window: Steps that are averaged.
        patience: Windows without a fall that end the run.
        tolerance: Share by which the mean must fall, in [0, 1).

    Raises:
        ValueError: If an argument is outside its range.

    Example:
        >>> watch = Smoothed(window=2, patience=1, tolerance=0.1).begin(nn.Identity())
        >>> for step, loss in enumerate((4.0, 2.0, 1.0, 1.0, 1.0, 0.9), 1):
        ...     _ = watch.see(step, torch.tensor(loss), {})
        >>> watch.ended
        'the loss, averaged over 2 steps, has not fallen by 0.1 of itself in 1 such windows'
        >>> Smoothed(0, 1, 0.1)
        Traceback (most recent call last):
        ValueError: window is 0, patience 1, tolerance 0.1; expected 1 or more, 1 or more, [0, 1)
    """

    window: int = 100
    patience: int = 5
    tolerance: float = 0.01

    def __post_init__(self) -> None:
        """Refuse what makes no rule."""
        if min(self.window, self.patience) < 1 or not 0 <= self.tolerance < 1:
            raise ValueError(
                f"window is {self.window}, patience {self.patience}, tolerance {self.tolerance}; "
                "expected 1 or more, 1 or more, [0, 1)"
            )

    def begin(self, source: nn.Module) -> Watch:
        """Begin a run.

        Args:
            source: What is optimised.

        Returns:
            What remembers the lowest mean.
        """
        return _Falling(self)


class _Falling(Watch):
    def __init__(self, rule: Smoothed) -> None:
        super().__init__()
        self._rule = rule
        self.total = torch.zeros((), dtype=torch.float64)
        self.lowest, self.waited = math.inf, 0

    def see(self, step: int, loss: Tensor, sample: Sample) -> bool:
        rule = self._rule
        self.total = self.total.to(loss.device) + loss.double()
        if step % rule.window:
            return False
        mean = float(self.total) / rule.window  # only here does the processor wait for the device
        self.total = torch.zeros_like(self.total)
        margin = rule.tolerance * abs(self.lowest) if self.lowest < math.inf else 0.0
        if mean < self.lowest - margin:
            self.lowest, self.waited = mean, 0
            return False
        self.waited += 1
        if self.waited >= rule.patience:
            self.ended = (
                f"the loss, averaged over {rule.window} steps, has not fallen by "
                f"{rule.tolerance:.3g} of itself in {rule.patience} such windows"
            )
        return False


@dataclass(frozen=True)
class Backtracking:
    """All steps of the recipe, but back to earlier parameters where the fit suddenly breaks.

    At every check the PSNR of the output against the degraded picture is compared with that of the
    last check. Where it has fallen by more than `drop`, the parameters of that check return and the
    step is left out; Adam keeps its moments.

    Args:
        drop: Fall that is too much, in dB, above 0.
        every: Steps between two checks, 1 or more.
        of: The two keys of the sample that are compared; pictures in [0, 1].

    Raises:
        ValueError: If an argument is outside its range.

    Source: DmitryUlyanov/deep-image-prior, denoising notebook. Departs: it looks at every step
    whose number does not divide by its plotting interval, and still applies the gradient of the
    broken fit to the parameters that it has just put back.

    Example:
        >>> watch = Backtracking(drop=5.0).begin(net := nn.Linear(1, 1))
        >>> good, broken = torch.full((1,), 0.1), torch.full((1,), 0.5)
        >>> def check(step, output):
        ...     return watch.see(step, good, {"output": output, "degraded": torch.zeros(1)})
        >>> check(1, good), check(2, broken), watch.returns
        (False, True, 1)
        >>> Backtracking(drop=0.0)
        Traceback (most recent call last):
        ValueError: drop is 0.0, every 1; expected above 0 dB, and 1 or more
    """

    drop: float = 5.0
    every: int = 1
    of: tuple[str, str] = ("output", "degraded")

    def __post_init__(self) -> None:
        """Refuse what makes no rule."""
        if not self.drop > 0 or self.every < 1:
            raise ValueError(
                f"drop is {self.drop}, every {self.every}; expected above 0 dB, and 1 or more"
            )

    def begin(self, source: nn.Module) -> Watch:
        """Begin a run.

        Args:
            source: What is optimised; its parameters may be put back.

        Returns:
            What remembers the last good parameters.
        """
        return _Backtracker(self, source)


class _Backtracker(Watch):
    def __init__(self, rule: Backtracking, source: nn.Module) -> None:
        super().__init__()
        self._rule, self._variables = rule, list(source.parameters())
        self.psnr = -math.inf
        self.good: list[Tensor] = []

    @torch.no_grad()
    def see(self, step: int, loss: Tensor, sample: Sample) -> bool:
        if step % self._rule.every:
            return False
        x, y = (sample[key].double() for key in self._rule.of)
        psnr = -10 * math.log10(max(float((x - y).square().mean()), 1e-20))
        if math.isnan(psnr):
            return False  # no step back helps Adam's moments any more; the training ends by itself
        if self.good and psnr < self.psnr - self._rule.drop:
            for variable, good in zip(self._variables, self.good, strict=True):
                variable.copy_(good)
            self.returns += 1
            return True
        self.psnr, self.good = psnr, [variable.clone() for variable in self._variables]
        return False
