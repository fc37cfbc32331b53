"""Degradations made of degradations: one after the other, or one of several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from enhancelib.degradations.sample import Degradation, Sample, factor, source


@dataclass(frozen=True)
class Chain:
    """One degradation after the other.

    Args:
        steps: In the order in which they act.

    Raises:
        ValueError: If there is none.

    Example:
        >>> from enhancelib.degradations import Bicubic, GaussianNoise
        >>> both = Chain((Bicubic(2), GaussianNoise(5.0)))
        >>> sorted(both({"clean": torch.rand(1, 1, 8, 8)}, torch.Generator()))
        ['clean', 'degraded', 'noise_level', 'scale']
        >>> Chain(())
        Traceback (most recent call last):
        ValueError: steps is empty; expected at least one degradation
    """

    steps: tuple[Degradation, ...]

    def __post_init__(self) -> None:
        _some("steps", self.steps)

    @property
    def neutral(self) -> Mapping[str, float]:
        """The factors of all steps.

        Returns:
            Name to neutral value.
        """
        return _merged(self.steps)

    def __call__(self, sample: Sample, generator: torch.Generator) -> Sample:
        """Apply every step to the result of the one before.

        Args:
            sample: What the first step needs.
            generator: Passed to the steps in turn.

        Returns:
            A new sample; where two steps add the same factor, that of the last.
        """
        for step in self.steps:
            sample = step(sample, generator)
        return sample


@dataclass(frozen=True)
class OneOf:
    """One of several degradations per item of the batch, each as likely.

    Every item carries the factors of all choices: those that did not happen to it at their neutral
    value (or as they came in), and `kind`, the index of the one that did.

    Args:
        choices: The degradations; they keep size and channels.

    Raises:
        ValueError: If there is none.

    Example:
        >>> from enhancelib.degradations import Bicubic, GaussianNoise, Jpeg
        >>> mixed = OneOf((GaussianNoise((0, 55)), Bicubic((2, 3, 4)), Jpeg((5, 99))))
        >>> sample = mixed({"clean": torch.rand(8, 1, 24, 24)}, torch.Generator().manual_seed(0))
        >>> sorted(sample)
        ['clean', 'degraded', 'kind', 'noise_level', 'quality', 'scale']
        >>> OneOf(())
        Traceback (most recent call last):
        ValueError: choices is empty; expected at least one degradation

    Source: DnCNN-3 (IEEE TIP 2017, section III.E): noise, bicubic and JPEG patches in one training.
    """

    choices: tuple[Degradation, ...]

    def __post_init__(self) -> None:
        _some("choices", self.choices)

    @property
    def neutral(self) -> Mapping[str, float]:
        """The factors of all choices, and `kind`.

        Returns:
            Name to neutral value; kind -1 where none of the choices happened.
        """
        return {**_merged(self.choices), "kind": -1}

    def __call__(self, sample: Sample, generator: torch.Generator) -> Sample:
        """Degrade every item by a choice of its own.

        Args:
            sample: What every choice needs; tensors with one row per item.
            generator: Draws the kinds first, then serves the choices in their order.

        Returns:
            A new sample with `degraded`, all factors and `kind` (B, 1, 1, 1), int64.
        """
        picture = source(sample)
        kinds = torch.randint(
            len(self.choices), (len(picture),), generator=generator, device=generator.device
        )
        result = self._untouched(sample, picture)
        for index, choice in enumerate(self.choices):
            chosen = (kinds == index).nonzero().flatten().to(picture.device)
            if len(chosen):
                done = choice({k: v[chosen] for k, v in sample.items()}, generator)
                for name in ("degraded", *choice.neutral):
                    result[name] = _placed(done[name], chosen, result[name])
        # Last, so that a choice which is a OneOf itself does not put its kind in place of ours.
        result["kind"] = factor(kinds, picture)
        return result

    def _untouched(self, sample: Sample, picture: Tensor) -> Sample:
        """The sample with `degraded` as it came in and every factor, new ones at neutral."""
        result = {**sample, "degraded": picture}
        for name, value in _merged(self.choices).items():
            kind = torch.int64 if isinstance(value, int) else torch.float32
            fresh = factor(torch.full((len(picture),), value, dtype=kind), picture)
            result[name] = sample.get(name, fresh)
        return result


def _placed(values: Tensor, rows: Tensor, into: Tensor) -> Tensor:
    """`into` with some rows replaced; a neutral number grows to a map where the values are maps."""
    whole = into.expand(-1, *values.shape[1:]).clone()
    whole[rows] = values.to(whole)
    return whole


def _some(name: str, parts: Sequence[Degradation]) -> None:
    if not parts:
        raise ValueError(f"{name} is empty; expected at least one degradation")


def _merged(parts: Sequence[Degradation]) -> Mapping[str, float]:
    return {name: value for part in parts for name, value in part.neutral.items()}
