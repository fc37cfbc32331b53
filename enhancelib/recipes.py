"""How a network is trained, as data: steps, batches, optimiser, learning rates.

Published recipes carry a certainty mark per field; `papers/<slug>.py` lists them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    import pandas as pd

OPTIMISERS = ("adam", "sgd", "lbfgs", "rmsprop")
SCHEDULES = ("constant", "exponential", "milestones", "cosine", "one-cycle")


@dataclass(frozen=True)
class Recipe:
    """How long, on what and with which optimiser a network is trained.

    Args:
        steps: Optimiser steps in all.
        batch: Samples per step.
        patch: Side of the square training patches, in pixels.
        optimiser: "adam", "sgd", "rmsprop", or "lbfgs", one iteration of which is one step.
        learning_rate: Rate at step 0; for "lbfgs" the first step length tried, 1.0 as a rule.
        final_learning_rate: Rate at the last epoch ("exponential", where it is above 0; "cosine").
        schedule: "constant", "exponential", "milestones" (times `decay` at each), "cosine", or
            "one-cycle": up from a 25th of the rate to the rate over the first 30 % of the steps,
            down to nearly nothing over the rest, both along half a cosine (Smith and Topin 2018).
        milestones: Steps at which the rate is multiplied by `decay`.
        decay: The factor of the milestones.
        epoch: Steps per epoch; the rate of "exponential" is constant within one. 0 means each step.
        momentum: Of SGD.
        weight_decay: L2 penalty on every parameter; "lbfgs" has none.
        betas: Of Adam.
        eps: Of Adam.
        sub_batches: A batch is passed in this many pieces whose gradients add up; batch
            normalisation sees one piece.
        clip: Largest gradient norm; 0 means no clipping. "lbfgs" cannot clip.
        seed: Seed of samples and initialisation.
        watch_every: Steps between two calls of `watch`; 0 means only at the end.
        log_every: Steps over which logged values are averaged.
        checkpoint_seconds: Time between two checkpoints.
        certainty: For a published recipe: field -> how sure it is (paper, memory, ...).

    Raises:
        ValueError: If a field is outside what is said above, or the batch does not divide into
            `sub_batches`.

    Example:
        >>> Recipe(steps=100, batch=128, patch=40, optimiser="adan")
        Traceback (most recent call last):
        ValueError: optimiser is 'adan'; expected one of ('adam', 'sgd', 'lbfgs', 'rmsprop')
    """

    steps: int
    batch: int
    patch: int
    optimiser: str = "adam"
    learning_rate: float = 1e-3
    final_learning_rate: float = 0.0
    schedule: str = "constant"
    milestones: tuple[int, ...] = ()
    decay: float = 0.1
    epoch: int = 0
    momentum: float = 0.9
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    sub_batches: int = 1
    clip: float = 0.0
    seed: int = 0
    watch_every: int = 0
    log_every: int = 20
    checkpoint_seconds: float = 20.0
    certainty: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse a recipe that cannot be followed."""
        if self.optimiser not in OPTIMISERS:
            raise ValueError(f"optimiser is {self.optimiser!r}; expected one of {OPTIMISERS}")
        if self.optimiser == "lbfgs" and (self.clip or self.weight_decay):
            raise ValueError(
                f"clip is {self.clip}, weight_decay {self.weight_decay}; expected 0.0 and 0.0 for "
                "optimiser 'lbfgs', whose line search needs the gradient as it is"
            )
        if self.schedule not in SCHEDULES:
            raise ValueError(f"schedule is {self.schedule!r}; expected one of {SCHEDULES}")
        if min(self.batch, self.patch, self.sub_batches, self.log_every) < 1 or self.steps < 0:
            raise ValueError(
                f"steps={self.steps}, batch={self.batch}, patch={self.patch}, "
                f"sub_batches={self.sub_batches}, log_every={self.log_every}; "
                "expected steps >= 0 and the others >= 1"
            )
        if self.batch % self.sub_batches:
            raise ValueError(f"batch {self.batch} does not divide into {self.sub_batches} pieces")
        lowest = 0 if self.schedule != "exponential" else math.nextafter(0, 1)
        if not (0 < self.learning_rate < math.inf and self.final_learning_rate >= lowest):
            raise ValueError(
                f"learning_rate={self.learning_rate}, "
                f"final_learning_rate={self.final_learning_rate}; expected the first above 0, the "
                "second 0 or more, and above 0 for schedule 'exponential'"
            )
        if min(self.epoch, self.watch_every, self.clip, self.checkpoint_seconds) < 0:
            raise ValueError(
                f"epoch={self.epoch}, watch_every={self.watch_every}, clip={self.clip}, "
                f"checkpoint_seconds={self.checkpoint_seconds}; expected 0 or more"
            )

    def rate(self, index: int) -> float:
        """The learning rate of one step.

        Args:
            index: Step number from 0.

        Returns:
            The rate that the optimisers use at this step.

        Example:
            >>> Recipe(steps=3, batch=1, patch=8, schedule="milestones", milestones=(2,)).rate(2)
            0.0001
        """
        if self.schedule == "milestones":
            passed = sum(index >= milestone for milestone in self.milestones)
            return self.learning_rate * self.decay**passed
        if self.schedule == "constant":
            return self.learning_rate
        last = max(1, (self.steps - 1) // max(1, self.epoch))
        progress = (index // max(1, self.epoch)) / last
        if self.schedule == "one-cycle":
            return _one_cycle(self.learning_rate, progress * last, last)
        if self.schedule == "exponential":
            ratio = self.final_learning_rate / self.learning_rate
            return float(self.learning_rate * ratio**progress)
        swing = (self.learning_rate - self.final_learning_rate) / 2
        return self.final_learning_rate + swing * (1 + math.cos(math.pi * progress))


def _one_cycle(peak: float, place: float, last: int) -> float:
    """The rate of torch's OneCycleLR with its defaults, `last + 1` places long."""
    top = max(0.3 * (last + 1) - 1, 1e-9)
    lowest, highest = peak / 25, peak
    if place <= top:
        low, high, share = lowest, highest, 1 - place / top
    else:
        low, high, share = lowest / 1e4, highest, (place - top) / max(last - top, 1e-9)
    return low + (high - low) * (1 + math.cos(math.pi * share)) / 2


def optimiser(parameters: Iterable[nn.Parameter], recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimiser over some parameters.

    Args:
        parameters: What it updates.
        recipe: Names the optimiser and its constants.

    Returns:
        The optimiser; `fit` sets its learning rate at every step. L-BFGS remembers 10 pairs and
        searches its step length by the strong Wolfe conditions; RMSprop has smoothing 0.99 and no
        momentum (both as the style transfer codes have it).
    """
    if recipe.optimiser == "lbfgs":
        return torch.optim.LBFGS(
            parameters,
            lr=recipe.learning_rate,
            max_iter=1,
            max_eval=26,  # of the one iteration: torch 2.13 counts the line search in
            history_size=10,  # as SciPy, which the TensorFlow codes of style transfer call
            tolerance_grad=0.0,  # the caller decides when it is enough
            tolerance_change=0.0,
            line_search_fn="strong_wolfe",
        )
    if recipe.optimiser == "rmsprop":
        return torch.optim.RMSprop(
            parameters, lr=recipe.learning_rate, eps=recipe.eps, weight_decay=recipe.weight_decay
        )
    if recipe.optimiser == "sgd":
        return torch.optim.SGD(
            parameters,
            lr=recipe.learning_rate,
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
        )
    return torch.optim.Adam(
        parameters,
        lr=recipe.learning_rate,
        betas=recipe.betas,
        eps=recipe.eps,
        weight_decay=recipe.weight_decay,
        fused=True,  # one pass over the memory: three times faster on the CPU
    )


def compared(recipes: Mapping[str, Recipe], fields: Iterable[str]) -> pd.DataFrame:
    """Recipes beside one another, with how sure each published value is.

    Args:
        recipes: Column title -> recipe.
        fields: Their fields, in order.

    Returns:
        One row per field, such as "128 [paper]".

    Example:
        >>> known = Recipe(steps=10, batch=128, patch=40, certainty={"batch": "paper"})
        >>> compared({"paper": known}, ("steps", "batch")).to_dict("records")
        [{'': 'steps', 'paper': '10'}, {'': 'batch', 'paper': '128 [paper]'}]
    """
    import pandas as pd

    def cell(recipe: Recipe, name: str) -> str:
        mark = recipe.certainty.get(name, "")
        return f"{getattr(recipe, name)}" + (f" [{mark}]" if mark else "")

    rows = [{"": n, **{title: cell(r, n) for title, r in recipes.items()}} for n in fields]
    return pd.DataFrame(rows)
