"""The catalogue: one room per paper, for what only that paper needs.

A paper's module holds `PAPER`, a `Paper`; it is imported only when asked for, by its notebook, by
`running` and by tests. Two papers never import each other.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from torch import Tensor

from enhancelib.claims import Claim
from enhancelib.papers.parameters import Common, ParameterError

PAPERS: tuple[str, ...] = ("dncnn", "prad", "dilie")
"""The slugs of the catalogue, in reading order."""


@dataclass(frozen=True)
class Paper:
    """What the house knows of a paper.

    Args:
        slug: Name of its notebook, its room and its folders.
        title: Of the paper.
        citation: One line.
        claim: The paper's claim in one sentence.
        parameters: The frozen dataclass behind the notebook's parameters cell.
        check: Checks what the parameters point to (data sets, weights) before any work starts.
        claims: What the verdict judges.
        hours: (profile, tables) -> estimated hours.
        enhance: Restores a user's photo: (image (3, H, W), weights file or None for the paper's
            own) -> (3, H, W), or (1, H, W) where the photo is grey; None where the paper has no
            such network.
        options: Names of the keyword arguments of `enhance` that the command line may give.
    """

    slug: str
    title: str
    citation: str
    claim: str
    parameters: type[Common]
    check: Callable[[Any], None]
    claims: Sequence[Claim]
    hours: Callable[[str, str], float]
    enhance: Callable[..., Tensor] | None = None
    options: Sequence[str] = ()


def load(slug: str) -> Paper:
    """A paper of the catalogue.

    Args:
        slug: One of `PAPERS`.

    Returns:
        The paper.

    Raises:
        ParameterError: If the slug is unknown.

    Example:
        >>> load("dncnn").slug
        'dncnn'
        >>> load("dcnn")
        Traceback (most recent call last):
        enhancelib.papers.parameters.ParameterError: no paper 'dcnn'; the catalogue has dncnn, ...
    """
    if slug not in PAPERS:
        raise ParameterError(f"no paper {slug!r}; the catalogue has {', '.join(PAPERS)}")
    return cast(Paper, importlib.import_module(f"enhancelib.papers.{slug}").PAPER)
