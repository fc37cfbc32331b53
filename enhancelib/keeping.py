"""What is kept of the way while one picture is optimised: an average, the best step, a film."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from enhancelib import images
from enhancelib.stopping import Watch

Sample = dict[str, Tensor]
Moment = tuple[int, Sample]


@dataclass(frozen=True)
class Keep:
    """A rule for the best step, which must not look at the clean picture.

    Double-DIP keeps, of every 8th step, the one whose recomposition has the best PSNR against the
    input: `Keep(8, lambda s: psnr(s["t"] * s["J"] + (1 - s["t"]) * s["A"], s["degraded"]))`.

    Args:
        every: Steps between two that are scored; the recipe's last is scored too.
        score: Maps the sample to a number, higher for better.

    Raises:
        ValueError: If every is below 1.

    Example:
        >>> Keep(0, lambda sample: 0.0)
        Traceback (most recent call last):
        ValueError: every is 0; expected 1 or more
    """

    every: int
    score: Callable[[Sample], float]

    def __post_init__(self) -> None:
        """Refuse what makes no rule."""
        if self.every < 1:
            raise ValueError(f"every is {self.every}; expected 1 or more")


@dataclass(frozen=True)
class Kept:
    """The best step of a run.

    Args:
        step: Its number, from 1.
        score: What `Keep.score` gave.
        outputs: What the source made at it, noise of the step included.
    """

    step: int
    score: float
    outputs: Sample


class Record:
    """A part of the training that sees every step; its state is kept in the checkpoint.

    Args:
        last: Steps of the recipe.
        decay: Of the exponential average, in [0, 1); 0.0 for none.
        keep: How to choose the best step; None for none.
        film: Most moments.
        watch: The stopping rule's memory.

    Raises:
        ValueError: If decay or film is outside its range.

    Example:
        >>> record = Record(4, 0.5, None, 2, Watch())
        >>> for value in (1.0, 1.0, 0.0, 0.0):
        ...     sample = {"output": torch.full((1, 3, 1, 1), value)}
        ...     _ = record.look(torch.tensor(0.0), ["output"], sample)
        >>> [step for step, _ in record.moments], round(float(record.average()["output"][0, 0]), 2)
        ([2, 4], 0.2)
        >>> Record(4, 1.0, None, 2, Watch())
        Traceback (most recent call last):
        ValueError: average is 1.0, moments 2; expected [0, 1), and 0 or more
    """

    def __init__(self, last: int, decay: float, keep: Keep | None, film: int, watch: Watch) -> None:
        if not 0 <= decay < 1 or film < 0:
            raise ValueError(f"average is {decay}, moments {film}; expected [0, 1), and 0 or more")
        self._last, self._decay, self._keep, self.watch = last, decay, keep, watch
        self._stride = math.ceil(last / film) if film else 0
        self.steps, self.averaged = 0, 0
        self.sums: Sample = {}
        self.best: dict[str, Any] | None = None
        self.moments: list[Moment] = []

    @property
    def kept(self) -> Kept | None:
        """The best step so far.

        Returns:
            None where none was asked for, or none scored yet.
        """
        return None if self.best is None else Kept(**self.best)

    def state_dict(self) -> dict[str, Any]:
        """All that it has seen.

        Returns:
            Tensors and plain values.
        """
        named = ("steps", "averaged", "sums", "best", "moments")
        return {**{n: getattr(self, n) for n in named}, "watch": self.watch.state_dict()}

    def load_state_dict(self, state_dict: Mapping[str, Any], /) -> None:
        """Take what `state_dict` gave.

        Args:
            state_dict: The state.
        """
        vars(self).update({name: v for name, v in state_dict.items() if name != "watch"})
        self.watch.load_state_dict(state_dict["watch"])

    @torch.no_grad()
    def look(self, loss: Tensor, made: Sequence[str], sample: Sample) -> bool:
        """Look at a step before its update.

        Args:
            loss: The weighted sum.
            made: Names of what the source made.
            sample: This and what was given.

        Returns:
            Whether to leave the update out; nothing of such a step is kept.
        """
        self.steps += 1
        if self.watch.see(self.steps, loss, sample):
            return True
        self._note({name: sample[name] for name in made}, sample)
        return False

    def _note(self, made: Sample, sample: Sample) -> None:
        if self._decay:
            self._average(made)
        due = self._keep and (self.steps % self._keep.every == 0 or self.steps == self._last)
        if self._keep and due:
            score = float(self._keep.score(sample))
            if self.best is None or score > self.best["score"]:
                outputs = {name: tensor.clone() for name, tensor in made.items()}
                self.best = {"step": self.steps, "score": score, "outputs": outputs}
        if self._stride and (self.steps % self._stride == 0 or self.steps == self._last):
            pictures = {n: t[0] for n, t in made.items() if t.ndim == 4 and len(t) == 1}
            if all(bool(t.isfinite().all()) for t in pictures.values()):  # else `fit` will end it
                levels = {name: images.to_uint8(t).cpu() for name, t in pictures.items()}
                self.moments.append((self.steps, levels))

    def _average(self, made: Sample) -> None:
        self.averaged += 1
        for name, tensor in made.items():
            total = self.sums.get(name, torch.zeros_like(tensor)).to(tensor.device)
            self.sums[name] = total.mul_(self._decay).add_(tensor, alpha=1 - self._decay)

    def average(self) -> Sample | None:
        """The exponential average so far, divided by the sum of its weights, 1 - decay^n.

        Returns:
            Name -> tensor; None where none was asked for.
        """
        if not self.averaged:
            return None
        return {n: total / (1 - self._decay**self.averaged) for n, total in self.sums.items()}
