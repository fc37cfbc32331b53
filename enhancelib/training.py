"""The one training loop: recipes, steps, checkpoints, exact resume.

`fit` knows nothing of papers. A paper brings `parts` (all that has a state), a `step` that updates
them on one sample, and `batches`, which maps a step number to a sample. Because a sample depends on
the step number alone, a resumed run and a run on several processes need no iterator state.

On the CPU, with the same thread count, a run that was killed at any instant and started again ends
with the same bits as an undisturbed one. A step must therefore keep its state in `parts`.

`torchrun -m enhancelib.training package.module:function key=value ...` calls a function of a paper
on several processes; gradients are averaged before every optimiser step (plain data parallelism).
"""

from __future__ import annotations

import functools
import importlib
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from enhancelib import parallel
from enhancelib import runtime as rt
from enhancelib.checkpoints import Checkpoint, History, Keeper, Parts, Stateful, TrainingError
from enhancelib.recipes import Recipe, optimiser

__all__ = [
    "Batches",
    "History",
    "Parts",
    "Recipe",
    "Sample",
    "Stateful",
    "Step",
    "TrainingError",
    "adversarial",
    "descend",
    "fit",
    "optimiser",
    "supervised",
]

Sample = dict[str, Tensor]
Batches = Callable[[int, torch.Generator], Sample]
Values = Mapping[str, Tensor | float]


Step = Callable[[Parts, Sample, torch.Generator], Values]


def supervised(
    objective: Callable[[Sample], tuple[Tensor, Mapping[str, Tensor]]],
    runtime: rt.Runtime,
    *,
    inputs: Sequence[str] = ("degraded",),
    sub_batches: int = 1,
    clip: float = 0.0,
) -> Step:
    """A step that fits `parts["network"]` to samples with `parts["optimiser"]`.

    Args:
        objective: Maps the sample, with the network's `output` added, to (total, terms); terms are
            means over the batch.
        runtime: Gives the precision of the forward pass.
        inputs: Sample keys that the network takes, in order (a stereo network takes two).
        sub_batches: Pieces of a batch whose gradients add up.
        clip: Largest gradient norm; 0 means no clipping.

    Returns:
        The step for `fit`; it reports "loss" and every term.

    Raises:
        ValueError: If `sub_batches` is below 1 or `clip` negative; from the step, if a batch does
            not divide into its pieces.

    Example:
        >>> supervised(lambda sample: (sample["output"].mean(), {}), rt.setup("cpu"), clip=-1.0)
        Traceback (most recent call last):
        ValueError: sub_batches is 1, clip -1.0; expected 1 or more, and 0.0 (off) or more
    """
    if sub_batches < 1 or not clip >= 0:
        raise ValueError(
            f"sub_batches is {sub_batches}, clip {clip}; expected 1 or more, and 0.0 (off) or more"
        )

    def step(parts: Parts, sample: Sample, generator: torch.Generator) -> Values:
        network, update = cast(nn.Module, parts["network"]), _optimiser(parts["optimiser"])
        network.train()
        update.zero_grad(set_to_none=True)
        logged: dict[str, Tensor] = {}
        for piece in _pieces(sample, sub_batches):
            with runtime.autocast():
                output = network(*(piece[name] for name in inputs))
            if output.dtype == torch.bfloat16:  # of autocast; losses are computed in float32
                output = output.float()
            total, values = objective({**piece, "output": output})
            (total / sub_batches).backward()  # type: ignore[no-untyped-call]
            for name, value in {"loss": total, **values}.items():
                logged[name] = logged.get(name, 0.0) + value.detach() / sub_batches
        descend(update, clip)
        return logged

    return step


def descend(update: torch.optim.Optimizer, clip: float) -> None:
    """One optimiser step on the gradients at hand, their norm bounded.

    Hooks run in their order, so under torchrun clipping sees the averaged gradients.

    Args:
        update: Its parameters hold their gradients.
        clip: Largest gradient norm; 0 means no clipping.
    """
    if not clip:
        update.step()
        return
    parameters = [p for group in update.param_groups for p in group["params"]]

    def bound(*_: object) -> None:
        nn.utils.clip_grad_norm_(parameters, clip)

    clipping = update.register_step_pre_hook(bound)
    update.step()
    clipping.remove()


def adversarial(
    generator_step: Step, critic_step: Step, *, critic_updates: int = 1, fresh: bool = False
) -> Step:
    """A step that updates the critic some times, then the generator once.

    Args:
        generator_step: Updates the generator.
        critic_step: Updates the critic (discriminator).
        critic_updates: Critic updates per generator update.
        fresh: Every update sees items of its own (WGAN-GP, DPED's code): the sample holds
            `critic_updates + 1` batches, that of the generator last. Otherwise all see the whole
            sample (PRaD's Algorithm 1).

    Returns:
        The step for `fit`; it reports the values of both, those of the critic from its last update.

    Raises:
        ValueError: If `critic_updates` is below 1; from the step, if a fresh sample does not divide
            into its batches.

    Example:
        >>> adversarial(lambda *_: {}, lambda *_: {}, critic_updates=0)
        Traceback (most recent call last):
        ValueError: critic_updates is 0; expected 1 or more
    """
    if critic_updates < 1:
        raise ValueError(f"critic_updates is {critic_updates}; expected 1 or more")

    def step(parts: Parts, sample: Sample, generator: torch.Generator) -> Values:
        values: dict[str, Tensor | float] = {}
        count = critic_updates + 1
        batches = _pieces(sample, count, "updates") if fresh else [sample] * count
        for batch in batches[:-1]:
            values.update(critic_step(parts, batch, generator))
        values.update(generator_step(parts, batches[-1], generator))
        return values

    return step


def fit(
    step: Step,
    parts: Parts,
    batches: Batches,
    recipe: Recipe,
    run: Keeper,
    *,
    stage: str = "main",
    samples: str = "",
    watch: Callable[[int], Mapping[str, float]] | None = None,
    until: Callable[[int, History], bool] | None = None,
) -> History:
    """Train, from the stage's checkpoint where there is one, and keep what is needed to go on.

    Args:
        step: Updates the parts on one sample and reports values.
        parts: All that has a state; changed in place.
        batches: (step number, generator) -> sample; the generator is fresh for every step. Under
            torchrun the items divide among the processes.
        recipe: Steps, learning rates, seeds and intervals.
        run: Its folder receives `checkpoints/<stage>.pt`.
        stage: Name of this training within the run; stages follow one another.
        samples: Names what is drawn at random: trainings of one seed that are to see the same
            samples, such as the arms of an ablation, share it. "" means the stage's own.
        watch: Called every `recipe.watch_every` steps and after the last, with the number of steps
            done; it must not change the parts.
        until: Called with the steps done and the curves so far, at the start and after every step;
            True ends the training there. To end a resumed one too, it must look at the parts.

    Returns:
        The curves of the whole training, restarts included.

    Raises:
        TrainingError: If a value or a parameter is not finite (the last good checkpoint stays), or
            the checkpoint was made by another recipe, other parts, or another number of threads.

    Example:
        >>> import pathlib, tempfile, types
        >>> net = nn.Linear(1, 1); recipe = Recipe(steps=2, batch=1, patch=1)
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> run = types.SimpleNamespace(folder=folder, runtime=rt.setup("cpu"))
        >>> fit(lambda *_: {"loss": 1.0}, {"net": net}, lambda i, g: {}, recipe, run).values
        {'loss': [1.0]}
        >>> nan = float("nan")
        >>> fit(lambda *_: {"loss": nan}, {"net": net}, lambda i, g: {}, recipe, run, stage="b")
        Traceback (most recent call last):
        enhancelib.checkpoints.TrainingError: stage 'b': loss is nan at step 2; the last ...
    """
    checkpoint = Checkpoint(run, recipe, stage, parts)
    index, history = checkpoint.resume()
    if until and until(index, history):
        return history
    networks = [part for part in parts.values() if isinstance(part, nn.Module)]
    with parallel.averaging(networks, _optimisers(parts)):
        draws = functools.partial(rt.generator, recipe.seed, samples or stage)
        _loop(step, parts, batches, recipe, checkpoint, (index, history), (watch, until), draws)
    return history


def _loop(
    step: Step,
    parts: Parts,
    batches: Batches,
    recipe: Recipe,
    checkpoint: Checkpoint,
    state: tuple[int, History],
    hooks: tuple[
        Callable[[int], Mapping[str, float]] | None, Callable[[int, History], bool] | None
    ],
    draws: Callable[[int], torch.Generator],
) -> None:
    (start, history), (watch, until) = state, hooks
    window: dict[str, list[Tensor]] = {}
    progress = _Progress(checkpoint.stage, start, recipe.steps)
    for index in range(start, recipe.steps):
        done = index + 1
        _set_rate(parts, recipe.rate(index))
        generator = draws(index)
        sample = parallel.share(batches(index, generator))
        for name, value in step(parts, sample, generator).items():
            window.setdefault(name, []).append(torch.as_tensor(value).detach())
        last = done == recipe.steps or (until is not None and until(done, history))
        if done % recipe.log_every == 0 or last:
            means = {name: _mean(values) for name, values in window.items()}
            means = parallel.mean(means, checkpoint.runtime.device)
            checkpoint.insist_finite(means, done)
            history.add(done, means)
            window = {}
        if watch and (last or (recipe.watch_every and done % recipe.watch_every == 0)):
            history.add(done, watch(done))
        # A checkpoint inside a logging window would lose the window's first half.
        if last or (not window and checkpoint.due()):
            checkpoint.write(done, history, progress.seconds())
        progress.show(done, history)
        if last:
            break


def _pieces(sample: Sample, count: int, what: str = "pieces (sub_batches)") -> list[Sample]:
    if count == 1:
        return [sample]
    parallel.insist_divides(sample, count, what)
    pieces = {name: value.chunk(count) for name, value in sample.items()}
    return [{name: piece[k] for name, piece in pieces.items()} for k in range(count)]


def _mean(values: Sequence[Tensor]) -> float:
    return float(torch.stack([value.double().cpu() for value in values]).mean())


def _optimiser(part: Stateful) -> torch.optim.Optimizer:
    return cast(torch.optim.Optimizer, part)


def _optimisers(parts: Parts) -> list[torch.optim.Optimizer]:
    return [part for part in parts.values() if isinstance(part, torch.optim.Optimizer)]


def _set_rate(parts: Parts, rate: float) -> None:
    for update in _optimisers(parts):
        for group in update.param_groups:
            group["lr"] = rate * group.get("rate_scale", 1.0)


class _Progress:
    """At most ten lines a stage: readable in a log, in a notebook and in papermill's output."""

    def __init__(self, stage: str, start: int, steps: int) -> None:
        self.stage, self.start, self.steps = stage, start, steps
        self.began = time.monotonic()
        self.every = max(1, math.ceil(steps / 10))
        if 0 < start < steps and rt.rank() == 0:
            print(f"{stage}: resumed at step {start} of {steps}", flush=True)

    def seconds(self) -> float:
        return time.monotonic() - self.began

    def show(self, done: int, history: History) -> None:
        slow = self.seconds() > 5 * (1 + done * 10 // max(1, self.steps) / 10)
        last = done == self.steps and self.seconds() > 2
        if rt.rank() or not (last or (slow and done % self.every == 0)):
            return
        rate = (done - self.start) / max(1e-9, self.seconds())
        left = (self.steps - done) / max(1e-9, rate)
        values = ", ".join(f"{name} {v[-1]:.4g}" for name, v in history.values.items())
        print(
            f"{self.stage}: {done}/{self.steps}  {values}  {rate:.1f} steps/s, {left:.0f} s left",
            flush=True,
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """Call `package.module:function` with keyword arguments, on every process of torchrun.

    Args:
        arguments: The target, then `key=value` words (values stay text); None takes sys.argv.

    Raises:
        SystemExit: If the words are not of this form.

    Example:
        >>> main(["platform"])
        Traceback (most recent call last):
        SystemExit: expected package.module:function key=value ..., got 'platform'
    """
    words = list(arguments if arguments is not None else sys.argv[1:])
    target, given = (words or [""])[0], [word.partition("=") for word in words[1:]]
    module, _, name = target.partition(":")
    if not name or not all(key and equals for key, equals, _ in given):
        seen = " ".join(words)
        raise SystemExit(f"expected package.module:function key=value ..., got {seen!r}")
    function = getattr(importlib.import_module(module), name)
    pairs = {key: value for key, _, value in given}
    with parallel.joined():
        function(**pairs)


if __name__ == "__main__":
    main()
