"""One evaluation of a picture's loss and gradients: eager, remembered, or out of a CUDA graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

from enhancelib.runtime import Runtime

Sample = dict[str, Tensor]
Criterion = Callable[[Sample], tuple[Tensor, Mapping[str, Tensor]]]
Graph = bool | Literal["auto"]


@dataclass(frozen=True)
class Seen:
    """What an evaluation saw; all detached.

    Args:
        sample: Given and made tensors together.
        made: Names of what the source made.
        loss: The weighted sum.
        values: Name -> value of the term.
    """

    sample: Sample
    made: tuple[str, ...]
    loss: Tensor
    values: Mapping[str, Tensor]

    def scalars_copied(self) -> Seen:
        """The same with loss and values in memory of their own."""
        values = {name: value.clone() for name, value in self.values.items()}
        return replace(self, loss=self.loss.clone(), values=values)

    def copied(self) -> Seen:
        """The same with all that was computed in memory of its own."""
        made = {name: self.sample[name].clone() for name in self.made}
        return replace(self.scalars_copied(), sample={**self.sample, **made})


class Evaluation:
    """Loss and gradients of the source's present state; gradients are left in its variables.

    On a GPU the second evaluation in a row with the same criterion is captured in a CUDA graph, and
    replayed from then on: a small network spends most of a step in launching kernels. Noise must be
    held by the source's `Generated` before, since a graph cannot draw it.
    """

    def __init__(self, source: nn.Module, given: Sample, runtime: Runtime, graph: Graph) -> None:
        self.source, self.given, self.runtime = source, given, runtime
        self.variables = [p for p in source.parameters() if p.requires_grad]
        self.graph: Graph = graph if runtime.device.type == "cuda" else False
        self._replay: Callable[[], Seen] | None = None
        self._last: Criterion | None = None

    def __call__(self, criterion: Criterion, noise: torch.Generator) -> Seen:
        if not self.graph or criterion is not self._last:
            self._last, self._replay = criterion, None
            return self._eager(criterion, noise)
        if self._replay is None:
            self._replay = self._captured(criterion, noise)
        return self._replay()

    def _eager(self, criterion: Criterion, noise: torch.Generator) -> Seen:
        for variable in self.variables:
            variable.grad = None
        made = made_by(self.source, noise, self.runtime)
        total, values = criterion({**self.given, **made})
        total.backward()  # type: ignore[no-untyped-call]
        detached = {name: tensor.detach() for name, tensor in made.items()}
        values = {name: value.detach() for name, value in values.items()}
        return Seen({**self.given, **detached}, tuple(made), total.detach(), values)

    def _captured(self, criterion: Criterion, noise: torch.Generator) -> Callable[[], Seen]:
        def eager() -> Seen:
            return self._eager(criterion, noise)

        try:
            return _captured(eager, self.variables)
        except RuntimeError:
            if self.graph != "auto":
                raise
            self.graph = False  # a loss that asks the processor for values cannot be captured
            torch.cuda.synchronize()
            return eager


def _captured(evaluate: Callable[[], Seen], variables: list[nn.Parameter]) -> Callable[[], Seen]:
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):  # libraries choose their kernels and take their memory
            evaluate()
    torch.cuda.current_stream().wait_stream(side)
    for variable in variables:
        variable.grad = None
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        seen = evaluate()
    gradients = [variable.grad for variable in variables]

    def replay() -> Seen:
        graph.replay()
        for variable, gradient in zip(variables, gradients, strict=True):
            variable.grad = gradient
        return seen.scalars_copied()  # the next replay writes over everything else

    return replay


class Remembered:
    """For L-BFGS: an evaluation that is done once where nothing has changed in between.

    Its line search ends at a point that it has just evaluated, and its next iteration begins with
    evaluating it again: half of the work, where the first step length is taken.
    """

    def __init__(self, evaluation: Evaluation) -> None:
        self.evaluation = evaluation
        self._for: tuple[Criterion, int] | None = None
        self._seen: Seen
        self._at: list[Tensor] = []
        self._gradients: list[Tensor | None] = []

    def __call__(self, criterion: Criterion, noise: torch.Generator, drawn: int) -> Seen:
        """Evaluate, or give back the last evaluation where it was of the same.

        Args:
            criterion: The loss.
            noise: Held already.
            drawn: Tells one noise from another.
        """
        variables = self.evaluation.variables
        if self._for and self._for[0] is criterion and self._for[1] == drawn and self._unmoved():
            for variable, gradient in zip(variables, self._gradients, strict=True):
                variable.grad = None if gradient is None else gradient.clone()
            return self._seen
        self._seen = self.evaluation(criterion, noise).copied()
        self._at = [variable.detach().clone() for variable in variables]
        self._gradients = [None if v.grad is None else v.grad.clone() for v in variables]
        self._for = (criterion, drawn)
        return self._seen

    def _unmoved(self) -> bool:
        return all(map(torch.equal, self.evaluation.variables, self._at))


def made_by(source: nn.Module, noise: torch.Generator | None, runtime: Runtime) -> Sample:
    """What a source makes; in float32 where autocast left bfloat16, since losses need it."""
    with runtime.autocast():
        made: Sample = source(noise)
    return {n: t.float() if t.dtype == torch.bfloat16 else t for n, t in made.items()}
