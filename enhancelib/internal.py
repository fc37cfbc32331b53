r"""Optimising one picture, without any training data: what comes on top of the one `fit`.

A source makes the picture from its variables, an objective looks at it beside what is given, and
`optimise` moves the variables: \(\theta^* = \arg\min_\theta L(f_\theta(z); I)\). Averages, the best
result, moments for a film and the stopping rule are parts of the training like the variables, so a
run that was killed at any instant and started again ends with the same bits.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from enhancelib import capacity, training
from enhancelib._evaluation import Criterion, Evaluation, Graph, Remembered, Seen, made_by
from enhancelib.capacity import MemoryTooSmall, insist_memory
from enhancelib.checkpoints import Checkpoint, History, Keeper, TrainingError
from enhancelib.keeping import Keep, Kept, Moment, Record
from enhancelib.losses import Objective
from enhancelib.recipes import Recipe, optimiser
from enhancelib.runtime import Runtime
from enhancelib.stopping import Backtracking, Fixed, Smoothed, Stopping
from enhancelib.variables import Generated, Pixels, Pyramid, generated

__all__ = [
    "Backtracking",
    "Fixed",
    "Found",
    "Generated",
    "Keep",
    "Kept",
    "MemoryTooSmall",
    "Pixels",
    "Pyramid",
    "Smoothed",
    "Stopping",
    "estimate",
    "insist_memory",
    "optimise",
    "seconds_per_step",
]

Sample = dict[str, Tensor]
Loss = Objective | Callable[[int], Criterion]

_FIXED = Fixed()
_PLENTY = 2**16  # bytes per pixel: more than any network of these papers keeps


@dataclass(frozen=True)
class Found:
    """What an optimisation found.

    Args:
        outputs: What the source makes in the end, without noise.
        average: Exponential average of what it made on the way, bias corrected; None where none was
            asked for.
        kept: The best step; None where none was asked for or scored.
        history: Curves of the loss, of its terms and of what was watched.
        steps: Steps done, those of an earlier start included.
        reason: Why it ended.
        moments: (step, name -> (C, H, W) uint8 on the CPU), the film.
    """

    outputs: Sample
    average: Sample | None
    kept: Kept | None
    history: History
    steps: int
    reason: str
    moments: list[Moment]


class _Descent:
    """The step that `fit` takes, and what it asks in between."""

    def __init__(
        self,
        evaluation: Evaluation,
        objective: Loss,
        recipe: Recipe,
        record: Record,
    ) -> None:
        self.evaluation, self.objective = evaluation, objective
        self.recipe, self.record = recipe, record
        self.remembered = Remembered(evaluation)
        self.jitters = any(part.jitter for part in generated(evaluation.source))
        self.seen: Seen | None = None

    def step(
        self, parts: training.Parts, sample: training.Sample, generator: torch.Generator
    ) -> Mapping[str, Tensor]:
        update = cast(torch.optim.Optimizer, parts["optimiser"])
        for part in generated(self.evaluation.source):
            part.hold(generator)
        closure = self._closure(update, _at(self.objective, self.record.steps), generator)
        self.seen = seen = closure()
        if self.record.look(seen.loss, seen.made, seen.sample):
            return {}
        if isinstance(update, torch.optim.LBFGS):
            update.step(lambda: closure().loss)  # type: ignore[no-untyped-call]
        else:
            training.descend(update, self.recipe.clip)
        return {"loss": seen.loss, **seen.values}

    def _closure(
        self, update: torch.optim.Optimizer, criterion: Criterion, generator: torch.Generator
    ) -> Callable[[], Seen]:
        if not isinstance(update, torch.optim.LBFGS):
            return lambda: self.evaluation(criterion, generator)
        drawn = self.record.steps if self.jitters else 0
        return lambda: self.remembered(criterion, generator, drawn)

    def looked_at(self) -> Sample:
        """The sample of the last step, for a look at it: copies, and the average so far."""
        assert self.seen is not None
        average = (self.record.average() or {}).get("output")
        return {**self.seen.copied().sample, **({} if average is None else {"average": average})}

    def until(self, done: int, history: History) -> bool:
        return bool(self.record.watch.ended)


def _at(objective: Loss, index: int) -> Criterion:
    return objective if isinstance(objective, Objective) else objective(index)


def optimise(
    source: nn.Module,
    given: Mapping[str, Tensor],
    objective: Loss,
    recipe: Recipe,
    run: Keeper,
    *,
    stage: str,
    samples: str = "",
    average: float = 0.0,
    keep: Keep | None = None,
    stopping: Stopping = _FIXED,
    moments: int = 0,
    show: Callable[[int, Sample], None] | None = None,
    watch: Callable[[int, Sample], Mapping[str, float]] | None = None,
    graph: Graph = "auto",
) -> Found:
    """Optimise one picture, or go on where an earlier start of the stage was cut short.

    Args:
        source: Makes the sample's variable part; moved to the run's device and changed in place.
            Its variables are all its parameters that require a gradient.
        given: The fixed part, such as "degraded".
        objective: What is minimised, or a function of the step's index (from 0) that gives it. Such
            a function should give the same object while nothing changes.
        recipe: Steps, optimiser, learning rates, seed and intervals.
        run: Its folder receives `checkpoints/<stage>.pt`.
        stage: Name of this optimisation within the run.
        samples: Names the noise: stages of one seed that share it see the same, as arms of an
            ablation should. "" means the stage's own.
        average: Decay of the exponential average, in [0, 1); 0.99 in Deep Image Prior, 0.0 is none.
        keep: How to choose the best step.
        stopping: `Fixed()`, `Smoothed(...)` or `Backtracking(...)`.
        moments: Most pictures of the film, spread evenly over the recipe's steps.
        show: Called every `recipe.watch_every` steps and after the last, with the steps done and
            the last step's sample ("average" added, where there is one): a live picture.
        watch: Called likewise; its values become curves.
        graph: Capture the evaluation in a CUDA graph: True, False, or "auto" to fall back where the
            loss cannot be captured. Without a GPU it changes nothing.

    Returns:
        What was found.

    Raises:
        ValueError: If average or moments is outside its range.
        MemoryTooSmall: If the networks' maps do not fit into the memory that is free.
        TrainingError: If a loss or a variable is not finite any more. The last good checkpoint
            stays, and the source is put back to it.

    Departs: Deep Image Prior's average begins at the first, grey output and keeps its share; ours
    divides by the sum of the weights.

    Example:
        >>> import pathlib, tempfile, types
        >>> from enhancelib import runtime
        >>> from enhancelib.losses import Term, pixel
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> run = types.SimpleNamespace(folder=folder, runtime=runtime.setup("cpu"))
        >>> objective = Objective({"mse": Term(1.0, pixel.mse)})
        >>> black, recipe = torch.zeros(1, 3, 4, 4), Recipe(steps=50, batch=1, patch=4)
        >>> given = {"clean": black + 0.01}
        >>> found = optimise(Pixels(black), given, objective, recipe, run, stage="a", average=0.9)
        >>> found.steps, round(float(found.outputs["output"].mean()), 3), found.reason
        (50, 0.01, 'all 50 steps are done')
        >>> optimise(Pixels(black), given, objective, recipe, run, stage="b", average=1.0)
        Traceback (most recent call last):
        ValueError: average is 1.0, moments 0; expected [0, 1), and 0 or more
        >>> nan = {"clean": black + float("nan")}
        >>> optimise(Pixels(black), nan, objective, recipe, run, stage="c")
        Traceback (most recent call last):
        enhancelib.checkpoints.TrainingError: stage 'c': loss is nan at step 20; the last ...
        >>> huge = Generated(nn.Conv2d(1, 3, 3, padding=1), torch.zeros(1, 1, 4, 4))
        >>> huge.z = torch.zeros(1, 1, 1, 1).expand(1, 1, 10**5, 10**6)
        >>> optimise(huge, given, objective, recipe, run, stage="d")
        Traceback (most recent call last):
        enhancelib.capacity.MemoryTooSmall: a picture of 1000000 x 100000 pixels needs about ...
    """
    record = Record(recipe.steps, average, keep, moments, stopping.begin(source))
    _insist_it_fits(source, run.runtime.device)
    _arrange(source, recipe, run.runtime.device)
    placed = {name: tensor.to(run.runtime.device) for name, tensor in given.items()}
    evaluation = Evaluation(source, placed, run.runtime, graph)
    descent = _Descent(evaluation, objective, recipe, record)
    parts: training.Parts = {
        "source": source,
        "optimiser": optimiser(evaluation.variables, recipe),
        "record": record,
    }

    def look(done: int) -> Mapping[str, float]:
        sample = descent.looked_at()
        if show:
            show(done, sample)
        return watch(done, sample) if watch else {}

    with _putting_back(source, recipe, run, stage, parts):
        history = training.fit(
            *(descent.step, parts, lambda *_: {}, recipe, run),
            stage=stage, samples=samples, watch=look if show or watch else None,
            until=descent.until,
        )  # fmt: skip
    return _found(source, record, history, run.runtime)


def _found(source: nn.Module, record: Record, history: History, runtime: Runtime) -> Found:
    with torch.no_grad():
        outputs = {n: t.detach().clone() for n, t in made_by(source, None, runtime).items()}
    reason = record.watch.ended or f"all {record.steps} steps are done"
    if times := record.watch.returns:
        reason += f"; {times} times the fit broke, and earlier parameters were put back"
    return Found(
        *(outputs, record.average(), record.kept, history, record.steps, reason, record.moments)
    )


def _insist_it_fits(source: nn.Module, device: torch.device) -> None:
    parts = list(generated(source))
    if not parts:
        return
    height, width = parts[0].z.shape[2:]
    try:
        bytes_needed = sum(capacity.needed(part.network, tuple(part.z.shape)) for part in parts)
    except (NotImplementedError, RuntimeError):  # it does not run on shapes alone
        return
    insist_memory(bytes_needed, device, f"a picture of {width} x {height} pixels")


def _arrange(source: nn.Module, recipe: Recipe, device: torch.device) -> None:
    """Place the source; channels last is the faster layout of the CPU's convolutions."""
    source.to(device)
    if device.type == "cpu" and recipe.optimiser != "lbfgs":  # which flattens without a copy
        for part in generated(source):
            part.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


@contextlib.contextmanager
def _putting_back(
    source: nn.Module, recipe: Recipe, run: Keeper, stage: str, parts: training.Parts
) -> Iterator[None]:
    start = {name: tensor.detach().clone() for name, tensor in source.state_dict().items()}
    try:
        yield
    except TrainingError:
        try:
            done, _ = Checkpoint(run, recipe, stage, parts).resume()
        except TrainingError:
            done = 0
        if not done:
            source.load_state_dict(start)
        raise
    except torch.OutOfMemoryError as error:
        raise MemoryTooSmall(
            f"stage {stage!r} ran out of memory on {run.runtime.device}; make the picture smaller"
        ) from error
    finally:
        for part in generated(source):
            part.hold(None)


def seconds_per_step(
    source: nn.Module,
    given: Mapping[str, Tensor],
    objective: Loss,
    runtime: Runtime,
    *,
    rounds: int = 2,
) -> float:
    """Measure an evaluation of loss and gradients, which is nearly all of a step.

    Args:
        source: Moved to the device; its state stays as it is.
        given: As for `optimise`.
        objective: What is minimised.
        runtime: Device and precision.
        rounds: Evaluations timed, after one that warms up.

    Returns:
        Seconds, the least of the rounds. A step of L-BFGS takes this time once or more.

    Example:
        >>> from enhancelib import runtime
        >>> from enhancelib.losses import Term, pixel
        >>> objective = Objective({"mse": Term(1.0, pixel.mse)})
        >>> black = torch.zeros(1, 3, 4, 4)
        >>> given, machine = {"clean": black}, runtime.setup("cpu")
        >>> 0 < seconds_per_step(Pixels(black), given, objective, machine) < 1
        True
    """
    source.to(runtime.device)
    placed = {name: tensor.to(runtime.device) for name, tensor in given.items()}
    evaluation = Evaluation(source, placed, runtime, graph=False)
    buffers = {name: buffer.clone() for name, buffer in source.named_buffers()}
    times = []
    for _ in range(rounds + 1):
        began = time.perf_counter()
        float(evaluation(_at(objective, 0), torch.Generator().manual_seed(0)).loss)
        times.append(time.perf_counter() - began)
    for variable in evaluation.variables:
        variable.grad = None
    for name, buffer in source.named_buffers():
        buffer.copy_(buffers[name])
    return min(times[1:] or times)


def estimate(
    source: nn.Module,
    given: Mapping[str, Tensor],
    objective: Loss,
    recipe: Recipe,
    runtime: Runtime,
) -> float:
    """How long `optimise` will take, to be told before it starts.

    Args:
        source: As for `optimise`; its state stays as it is.
        given: As for `optimise`.
        objective: What is minimised.
        recipe: Its steps count.
        runtime: Device and precision.

    Returns:
        Seconds for all steps.

    Example:
        >>> from enhancelib import runtime
        >>> from enhancelib.losses import Term, pixel
        >>> objective = Objective({"mse": Term(1.0, pixel.mse)})
        >>> black, recipe = torch.zeros(1, 3, 4, 4), Recipe(steps=10, batch=1, patch=4)
        >>> 0 < estimate(Pixels(black), {"clean": black}, objective, recipe, runtime.setup("cpu"))
        True
    """
    _arrange(source, recipe, runtime.device)
    return recipe.steps * seconds_per_step(source, given, objective, runtime)
