"""A picture whose own pixels go downhill, and what is remembered of the way.

The loop is the house's one training loop: the picture is the only parameter of a network that has
no input.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

from torch import Tensor, nn

from enhancelib import images, training
from enhancelib.checkpoints import Keeper
from enhancelib.losses import Objective
from enhancelib.recipes import Recipe, optimiser
from enhancelib.runtime import Runtime
from enhancelib.widgets.anatomy import Samples, Weights

FRAMES = 48  # pictures kept of one run; 196 kB each at 256x256
RUNS = 8  # runs kept of one photo
_WITHOUT_END = 10**12  # the caller ends a descent, not a number of steps


class Diverged(RuntimeError):
    """A loss, a gradient or a pixel is no finite number any more."""


@dataclass(frozen=True)
class Moment:
    """One picture of the history, as it was shown.

    Args:
        run: Number of the run, from 1; 0 is the start.
        step: Updates since the run began.
        levels: (3, H, W) uint8, the picture rounded to what a screen shows.
        values: Name -> value of the term before its weight, of the unrounded picture; empty
            while unknown.
    """

    run: int
    step: int
    levels: Tensor
    values: dict[str, float]

    @property
    def picture(self) -> Tensor:
        """The picture in the house's convention, (3, H, W) in [0, 1].

        Returns:
            levels / 255.
        """
        return images.from_uint8(self.levels)

    @property
    def name(self) -> str:
        """What the explorer calls this moment.

        Returns:
            "start", or the run and the step.
        """
        return f"run {self.run}, step {self.step}" if self.run else "start"


class Film:
    """The history of one photo: every run's way, in bounded memory.

    A run keeps at most FRAMES pictures: when they become more, every second one is dropped and
    from then on every second step is left out, so they cover the whole run evenly. The newest
    picture is always the last. Beyond RUNS runs the oldest is forgotten, the start never. `stride`
    tells how many steps of the last run lie between two pictures.

    Args:
        start: The first moment.

    Example:
        >>> import torch
        >>> grey = torch.zeros(3, 1, 1, dtype=torch.uint8)
        >>> film = Film(Moment(0, 0, grey, {}))
        >>> run = film.begin()
        >>> for step in range(100):
        ...     film.add(Moment(run, step, grey, {}))
        >>> [moment.step for moment in film.moments][:4], len(film.moments), film.moments[-1].step
        ([0, 0, 4, 8], 27, 99)
    """

    def __init__(self, start: Moment) -> None:
        self.runs: list[list[Moment]] = [[start]]
        self.stride, self._begun = 1, 0

    @property
    def moments(self) -> list[Moment]:
        """All that is kept, in the order of time.

        Returns:
            The start, then run after run.
        """
        return [moment for run in self.runs for moment in run]

    def begin(self) -> int:
        """Open a run.

        Returns:
            Its number.
        """
        self._begun, self.stride = self._begun + 1, 1
        self.runs.append([])
        del self.runs[1:-RUNS]
        return self._begun

    def end(self) -> None:
        """Close the run; one that saw nothing is forgotten."""
        if not self.runs[-1]:
            self.runs.pop()

    def add(self, moment: Moment) -> None:
        """Remember a moment of the run that was opened last.

        Args:
            moment: Of a later step than the one before.
        """
        run = self.runs[-1]
        if run and run[-1].step % self.stride:
            run.pop()  # only the newest may stand between the strides
        run.append(moment)
        if len(run) > FRAMES:
            self.stride *= 2
            run[:] = [one for one in run if one is moment or not one.step % self.stride]


@dataclass(frozen=True)
class Seen:
    """What one step of a descent saw, before it moved the picture.

    Args:
        step: Updates so far.
        picture: (1, 3, H, W), unrounded.
        values: Name -> value of the term before its weight.
        gradient: (3, H, W) on the CPU, of the weighted sum.
    """

    step: int
    picture: Tensor
    values: dict[str, float]
    gradient: Tensor


class _Pixels(nn.Module):
    def __init__(self, picture: Tensor) -> None:
        super().__init__()
        self.picture = nn.Parameter(picture.detach().clone())

    def forward(self) -> Tensor:
        return self.picture


class _Enough(Exception):
    """The way out of a loop without end."""


def descend(
    objective: Callable[[], Objective],
    pair: tuple[Tensor, Tensor, Tensor],
    *,
    sample: Samples,
    rate: float,
    runtime: Runtime,
    look: Callable[[Seen], bool],
) -> None:
    """Move a picture's pixels down the objective with Adam, until `look` has seen enough.

    Args:
        objective: Asked before every step, so that weights may change on the way.
        pair: The picture to begin with, the start and the target, (1, 3, H, W) each.
        sample: Builds the objective's sample from the three.
        rate: Adam's learning rate; close to the change of a pixel per step, of 1.
        runtime: Device and precision.
        look: Called with what every step saw; False ends the descent.

    Raises:
        Diverged: If a value, the gradient or a pixel is not finite; what `look` saw before is good.

    Example:
        >>> import torch
        >>> from enhancelib import runtime
        >>> from enhancelib.losses import Term, pixel
        >>> from enhancelib.widgets.anatomy import direct
        >>> black, steps = torch.zeros(1, 3, 1, 1), []
        >>> def descended(factor):
        ...     objective = Objective({"mse": Term(1.0, lambda x, y: pixel.mse(x, y * factor))})
        ...     descend(lambda: objective, (black, black, black + 1), sample=direct, rate=0.1,
        ...             runtime=runtime.setup("cpu"),
        ...             look=lambda seen: steps.append(seen.values["mse"]) or seen.step < 2)
        >>> descended(1.0); [round(value, 2) for value in steps]
        [1.0, 0.81, 0.64]
        >>> descended(float("inf"))
        Traceback (most recent call last):
        enhancelib.widgets.optimise.Diverged: stopped at step 0: loss is inf; ...
    """
    picture, start, target = pair
    network, seen = _Pixels(picture), _Witness()
    recipe = Recipe(
        *(_WITHOUT_END, 1, picture.shape[-1]),
        learning_rate=rate, log_every=1, watch_every=1, checkpoint_seconds=math.inf,
    )  # fmt: skip

    def total(inner: training.Sample) -> tuple[Tensor, dict[str, Tensor]]:
        x = inner["output"]
        value, values = _pulling(objective())(sample(x, start, target))
        seen.note(x, values)
        # With all weights at 0 nothing pulls, which is a gradient of zeros and no error.
        return (value if value.requires_grad else value + 0.0 * x.sum()), values

    def watch(done: int) -> dict[str, float]:
        if not look(seen.at(done - 1, cast(Tensor, network.picture.grad))):
            raise _Enough
        return {}

    parts: training.Parts = {
        "network": network,
        "optimiser": optimiser(network.parameters(), recipe),
    }
    step = training.supervised(total, runtime, inputs=())
    with tempfile.TemporaryDirectory() as folder:  # for checkpoints, which such a recipe never has
        run = cast(Keeper, SimpleNamespace(folder=Path(folder), runtime=runtime))
        try:
            training.fit(step, parts, lambda *_: {}, recipe, run, stage="picture", watch=watch)
        except _Enough:
            return
        except training.TrainingError as error:
            raise Diverged(f"stopped at step {seen.steps}: {_reason(error)}") from error


class _Witness:
    """What the objective saw last; only what is finite is handed on."""

    def __init__(self) -> None:
        self.steps = 0

    def note(self, picture: Tensor, values: dict[str, Tensor]) -> None:
        self._picture = picture.detach().clone()
        self._values = values

    def at(self, step: int, gradient: Tensor) -> Seen:
        for what, tensor in (("a pixel", self._picture), ("the gradient", gradient)):
            if not bool(tensor.isfinite().all()):
                raise Diverged(f"stopped at step {step}: {what} is not finite; {_ADVICE}")
        self.steps = step + 1
        values = {name: float(value) for name, value in self._values.items()}
        return Seen(step, self._picture, values, gradient.detach()[0].float().cpu())


_ADVICE = "the last good picture is kept. Try a smaller rate, or smaller weights"


def _reason(error: Exception) -> str:
    return f"{str(error).partition(': ')[2].partition(' at step ')[0]}; {_ADVICE}"


def _pulling(objective: Objective) -> Objective:
    """The same values; a term whose weight is 0 costs no backward pass and cannot spoil it."""
    terms = {
        name: term if term.weight else replace(term, fn=_still(term.fn))
        for name, term in objective.terms.items()
    }
    return replace(objective, terms=terms)


def _still(fn: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def still(*tensors: Tensor) -> Tensor:
        return fn(*tensors).detach()

    return still


def ends(
    objective: Objective,
    pair: tuple[Tensor, Tensor],
    weightings: Sequence[Weights],
    *,
    sample: Samples,
    rate: float,
    steps: int,
    runtime: Runtime,
) -> list[dict[str, float]]:
    """Where pictures end under various weights: the points of a trade-off `Curve`.

    Args:
        objective: The terms.
        pair: Start and target, (1, 3, H, W) each.
        weightings: Per point, name -> weight; terms not named keep the objective's.
        sample: Builds the objective's sample.
        rate: Adam's learning rate.
        steps: Updates per point.
        runtime: Device and precision.

    Returns:
        Per weighting, name -> value of the term before its weight.
    """
    start, target = (tensor.to(runtime.device) for tensor in pair)
    found: list[dict[str, float]] = []
    for weights in weightings:
        wanted = objective.weighted(weights)
        last: dict[str, float] = {}

        def look(seen: Seen, last: dict[str, float] = last) -> bool:
            last.update(seen.values)
            return seen.step < steps

        descend(
            lambda wanted=wanted: wanted, (start, start, target),  # type: ignore[misc]
            sample=sample, rate=rate, runtime=runtime, look=look,
        )  # fmt: skip
        found.append(last)
    return found
