"""A loss is a named weighted sum: tables, plots and sliders read the same names and values.

One module per family holds the functions; an `Objective` says which of them a paper adds up, with
which weights, and what each one looks at.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from enhancelib.losses import pixel

__all__ = ["Objective", "Sample", "Term", "pixel"]

Sample = Mapping[str, Tensor]


@dataclass(frozen=True)
class Term:
    """One summand `weight * fn(*(sample[key] for key in of))`.

    Args:
        weight: Its factor, the paper's lambda; any finite number, negative to maximise.
        fn: Takes the tensors of `of` in order and returns a scalar.
        of: Keys of the sample that fn compares.

    Raises:
        ValueError: If the weight is not finite, fn cannot be called, or of names nothing.

    Example:
        >>> from enhancelib.losses import pixel
        >>> Term(0.5, pixel.mse).of
        ('output', 'clean')
        >>> Term(float("nan"), pixel.mse)
        Traceback (most recent call last):
        ValueError: weight is nan; expected a finite number
    """

    weight: float
    fn: Callable[..., Tensor]
    of: tuple[str, ...] = ("output", "clean")

    def __post_init__(self) -> None:
        if not math.isfinite(self.weight):
            raise ValueError(f"weight is {self.weight}; expected a finite number")
        if not callable(self.fn):
            raise ValueError(f"fn is {self.fn!r}; expected a function of the tensors of `of`")
        of: object = self.of  # a lone string would be taken letter by letter
        if not isinstance(of, tuple) or not of:
            raise ValueError(f"of is {self.of!r}; expected a tuple of sample keys")


@dataclass(frozen=True)
class Objective:
    """The total `sum_k weight_k * value_k` of named terms, and each term's own value.

    Calling it with a sample gives (total, {name: value}): the total carries the graph, the values
    are detached and stand BEFORE their weight. ValueError where the sample lacks a key of a term,
    or a term does not return a scalar.

    Args:
        terms: Name -> term, at least one.
        prepare: Adds what several terms share (features of a frozen network) to the sample, once
            per call; None where terms look at the sample as it is.

    Raises:
        ValueError: If there is no term.

    Example:
        >>> from enhancelib.losses import pixel
        >>> objective = Objective({"content": Term(2.0, pixel.mse)})
        >>> total, values = objective({"output": torch.ones(1), "clean": torch.zeros(1)})
        >>> total, values["content"]
        (tensor(2.), tensor(1.))
        >>> Objective({})
        Traceback (most recent call last):
        ValueError: terms is empty; an objective needs at least one Term
    """

    terms: Mapping[str, Term]
    prepare: Callable[[Sample], Sample] | None = None

    def __post_init__(self) -> None:
        if not self.terms:
            raise ValueError("terms is empty; an objective needs at least one Term")

    def __call__(self, sample: Sample) -> tuple[Tensor, dict[str, Tensor]]:  # noqa: D102
        values = self._values(sample)
        total = torch.stack([self.terms[name].weight * v for name, v in values.items()]).sum()
        return total, {name: value.detach() for name, value in values.items()}

    def gradients(self, sample: Sample, wrt: Tensor) -> dict[str, Tensor]:
        """The gradient of every term alone, before its weight.

        The total's gradient is their weighted sum, so a slider that changes a weight needs no
        second backward pass. The graph of the sample is kept for the caller.

        Args:
            sample: What the terms look at; wrt must have been used to make it, or be in it.
            wrt: The tensor that the gradients are taken with respect to.

        Returns:
            Name -> gradient of the unweighted value, in the shape of wrt; zero where a term does
            not depend on it.

        Raises:
            ValueError: If wrt does not require a gradient, or as calling the objective does.

        Example:
            >>> from enhancelib.losses import pixel
            >>> x = torch.ones(2, requires_grad=True)
            >>> objective = Objective({"content": Term(7.0, pixel.mse)})
            >>> objective.gradients({"output": x, "clean": torch.zeros(2)}, x)
            {'content': tensor([1., 1.])}
            >>> objective.gradients({"output": x, "clean": torch.zeros(2)}, torch.ones(2))
            Traceback (most recent call last):
            ValueError: wrt does not require a gradient; call wrt.requires_grad_() before ...
        """
        if not wrt.requires_grad:
            raise ValueError(
                "wrt does not require a gradient; call wrt.requires_grad_() before making a sample"
            )
        values = self._values(sample)
        return {name: _gradient(value, wrt) for name, value in values.items()}

    def weighted(self, weights: Mapping[str, float]) -> Objective:
        """The same terms under other weights.

        Args:
            weights: Name -> new weight; terms that are not named keep theirs.

        Returns:
            A new objective.

        Raises:
            ValueError: If a name is not a term's, or a weight is not finite.

        Example:
            >>> from enhancelib.losses import pixel
            >>> objective = Objective({"content": Term(1.0, pixel.mse)})
            >>> objective.weighted({"content": 3.0}).terms["content"].weight
            3.0
            >>> objective.weighted({"style": 3.0})
            Traceback (most recent call last):
            ValueError: weight for unknown term 'style'; the terms are content
        """
        if unknown := [name for name in weights if name not in self.terms]:
            raise ValueError(
                f"weight for unknown term {unknown[0]!r}; the terms are {', '.join(self.terms)}"
            )
        terms = {
            name: replace(term, weight=weights.get(name, term.weight))
            for name, term in self.terms.items()
        }
        return Objective(terms, self.prepare)

    def _values(self, sample: Sample) -> dict[str, Tensor]:
        if self.prepare:
            sample = self.prepare(sample)
        return {name: _value(name, term, sample) for name, term in self.terms.items()}


def _value(name: str, term: Term, sample: Sample) -> Tensor:
    if missing := [key for key in term.of if key not in sample]:
        raise ValueError(
            f"term {name!r} needs {missing[0]!r}; the sample has {', '.join(sorted(sample))}"
        )
    value = term.fn(*(sample[key] for key in term.of))
    if not isinstance(value, Tensor) or value.ndim:
        got = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else repr(value)
        raise ValueError(f"term {name!r} returned {got}; expected a scalar tensor")
    return value


def _gradient(value: Tensor, wrt: Tensor) -> Tensor:
    if not value.requires_grad:
        return torch.zeros_like(wrt)
    (gradient,) = torch.autograd.grad(value, wrt, retain_graph=True, allow_unused=True)
    return torch.zeros_like(wrt) if gradient is None else gradient
