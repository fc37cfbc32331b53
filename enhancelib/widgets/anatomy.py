"""One picture under an objective: what every term says of it, and where each one pulls.

The terms' gradients are computed once. After that every weighting of the terms is a weighted sum
of what is stored,

    L(x) = sum_k w_k l_k(x),    g = dL/dx = sum_k w_k dl_k/dx,

so values, shares, the total gradient and the step x - eta g for any weights cost about a
millisecond and no backward pass.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from enhancelib.losses import Objective, Term

Weights = Mapping[str, float]
Samples = Callable[[Tensor, Tensor, Tensor], Mapping[str, Tensor]]
CUT = 0.005  # share of a gradient's values that may lie beyond its colour scale


def direct(x: Tensor, start: Tensor, target: Tensor) -> dict[str, Tensor]:
    """The sample of an objective that compares the picture itself with its target.

    Args:
        x: The picture that is looked at, (1, 3, H, W).
        start: What it was at first.
        target: What it should become.

    Returns:
        {"output": x, "degraded": start, "clean": target}.
    """
    return {"output": x, "degraded": start, "clean": target}


@dataclass(frozen=True)
class Share:
    """What one term contributes under some weights.

    Args:
        value: l_k, before the weight.
        weighted: w_k l_k.
        of_value: |w_k l_k| / sum_j |w_j l_j|, in [0, 1]; 0 where all are 0, None where a value is
            not finite.
        of_gradient: |w_k| ||dl_k/dx|| / sum_j |w_j| ||dl_j/dx||, likewise; None while unknown.
    """

    value: float
    weighted: float
    of_value: float | None
    of_gradient: float | None = None


def shares(
    values: Mapping[str, float], weights: Weights, norms: Mapping[str, float] | None = None
) -> dict[str, Share]:
    """What every term contributes.

    Args:
        values: Name -> value of the term, before its weight.
        weights: Name -> weight, for the same names.
        norms: Name -> Euclidean norm of the term's gradient, where known.

    Returns:
        Name -> share.

    Example:
        >>> found = shares({"a": 2.0, "b": 6.0}, {"a": 1.0, "b": -1.0}, {"a": 3.0, "b": 1.0})
        >>> found["b"]
        Share(value=6.0, weighted=-6.0, of_value=0.75, of_gradient=0.25)
    """
    weighted = {name: weights[name] * value for name, value in values.items()}
    of_value = _fractions(weighted)
    of_gradient: Mapping[str, float | None] = dict.fromkeys(values)
    if norms is not None:
        of_gradient = _fractions({name: weights[name] * norms[name] for name in values})
    return {
        name: Share(value, weighted[name], of_value[name], of_gradient[name])
        for name, value in values.items()
    }


def _fractions(amounts: Mapping[str, float]) -> dict[str, float | None]:
    total = math.fsum(map(abs, amounts.values()))
    if not math.isfinite(total):
        return dict.fromkeys(amounts)
    return {name: abs(amount) / total if total else 0.0 for name, amount in amounts.items()}


@dataclass(frozen=True)
class Anatomy:
    """Values and gradients of all terms at one picture.

    Args:
        picture: (3, H, W), on the CPU.
        values: Name -> value before its weight.
        gradients: (K, 3, H, W) float32 on the CPU, dl_k/dx in the order of `values`.
    """

    picture: Tensor
    values: dict[str, float]
    gradients: Tensor

    @cached_property
    def norms(self) -> dict[str, float]:
        """Name -> Euclidean norm of the term's gradient.

        Returns:
            Finite or not, as it is.
        """
        found = torch.linalg.vector_norm(self.gradients.flatten(1).double(), dim=1)
        return dict(zip(self.values, found.tolist(), strict=True))

    def of(self, name: str) -> Tensor:
        """The gradient of one term, before its weight.

        Args:
            name: The term.

        Returns:
            (3, H, W).

        Raises:
            ValueError: If there is no such term.

        Example:
            >>> Anatomy(torch.zeros(3, 1, 1), {"a": 0.0}, torch.ones(1, 3, 1, 1)).of("b")
            Traceback (most recent call last):
            ValueError: term is 'b'; expected one of a
        """
        if name not in self.values:
            raise ValueError(f"term is {name!r}; expected one of {', '.join(self.values)}")
        return self.gradients[list(self.values).index(name)]

    def total(self, weights: Weights) -> Tensor:
        """The gradient of the weighted sum, without a backward pass.

        Args:
            weights: Name -> weight, for every term.

        Returns:
            (3, H, W), sum_k w_k dl_k/dx.

        Example:
            >>> gradients = torch.tensor([1.0, 10.0]).view(2, 1, 1, 1).expand(2, 3, 1, 1)
            >>> anatomy = Anatomy(torch.zeros(3, 1, 1), {"a": 0.0, "b": 0.0}, gradients)
            >>> anatomy.total({"a": 2.0, "b": 0.5}).flatten().tolist()
            [7.0, 7.0, 7.0]
        """
        # A term that is switched off must not spoil the sum with 0 x inf.
        on = [k for k, name in enumerate(self.values) if weights[name]]
        if not on:
            return torch.zeros_like(self.picture)
        factors = torch.tensor([weights[name] for name in self.values if weights[name]])
        rows = self.gradients if len(on) == len(self.values) else self.gradients[on]
        return (factors @ rows.flatten(1)).view_as(self.picture)


def dissect(
    objective: Objective, picture: Tensor, start: Tensor, target: Tensor, *, sample: Samples
) -> Anatomy:
    """Values and gradients of all terms: one forward pass, one backward pass per term.

    Args:
        objective: Its weights do not matter here.
        picture: (1, 3, H, W), what the gradients are taken with respect to.
        start: (1, 3, H, W), what it was made from.
        target: (1, 3, H, W), what it should become.
        sample: Builds the objective's sample from the three.

    Returns:
        The anatomy, on the CPU in float32.
    """
    x = picture.detach().clone(memory_format=torch.contiguous_format).requires_grad_()
    seen: dict[str, float] = {}
    terms = {name: _noting(name, term, seen) for name, term in objective.terms.items()}
    gradients = replace(objective, terms=terms).gradients(sample(x, start, target), x)
    stack = torch.stack([gradients[name][0].detach().float().cpu() for name in terms]).contiguous()
    return Anatomy(x.detach()[0].float().cpu(), {name: seen[name] for name in terms}, stack)


def _noting(name: str, term: Term, seen: dict[str, float]) -> Term:
    """The same term, which leaves its value behind: a second forward pass would cost seconds."""

    def noted(*tensors: Tensor) -> Tensor:
        value = term.fn(*tensors)
        if isinstance(value, Tensor) and value.numel() == 1:  # else the objective refuses it
            seen[name] = float(value.detach())
        return value

    return replace(term, fn=noted)


def scale(gradient: Tensor) -> float:
    """The colour scale of a gradient: all but the strongest half percent of its values lie within.

    Args:
        gradient: Any shape.

    Returns:
        The quantile 1 - CUT of |g|, rounded up to three digits so that what is printed is what is
        used; the largest |g| where the quantile is 0; 0 for a gradient of zeros.

    Example:
        >>> scale(torch.linspace(-1, 1, 201)), scale(torch.zeros(3, 8, 8))
        (1.0, 0.0)
    """
    sizes = gradient.detach().abs().flatten().numpy()
    place = min(sizes.size - 1, math.ceil((1 - CUT) * sizes.size))
    edge = float(np.partition(sizes, place)[place]) or float(sizes.max())
    if not edge or not math.isfinite(edge):
        return edge
    unit = 10.0 ** (math.floor(math.log10(edge)) - 2)
    return float(f"{math.ceil(edge / unit * (1 - 1e-12)) * unit:.3g}")


def colours(gradient: Tensor, scale: float) -> Tensor:
    """A signed gradient as a picture, per channel: 0.5 + 0.5 g / scale.

    Mid-grey is 0. Where a channel is lighter the loss falls when the pixel's channel gets darker,
    where it is darker the loss falls when the channel gets lighter.

    Args:
        gradient: (3, H, W).
        scale: |g| of full colour; 0 gives plain grey.

    Returns:
        (3, H, W) in [0, 1]; what lies beyond the scale is shown as its ends.
    """
    if not scale:
        return torch.full_like(gradient, 0.5)
    return (0.5 + gradient * (0.5 / scale)).clamp_(0.0, 1.0)
