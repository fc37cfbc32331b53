"""The terms of an objective as a table: a weight to move, and what the term contributes.

The sliders are our own (terms.js, terms.css) because ipywidgets lacks what a loss weight needs: its
logarithmic slider cannot stand at 0, its selection slider tells screen readers a position instead
of the value, and seven separate rows of widgets neither line up with their numbers nor change in
one message.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from enhancelib.widgets.anatomy import Share

_HERE = Path(__file__).parent
_TWELFTHS = (1.0, 1.2, 1.5, 1.8, 2.2, 2.7, 3.3, 3.9, 4.7, 5.6, 6.8, 8.2)  # E12 of IEC 60063
_REACH = 2  # decades below the smallest and above the largest weight that somebody gave


def stops(given: Iterable[float]) -> list[float]:
    """Where the slider of a weight may stand: 0, twelve stops per decade, and every given weight.

    Args:
        given: Weights that must be hit exactly; those of papers, of either sign.

    Returns:
        Increasing values, with two decades to spare on either side of the given ones; negative
        ones only where a given weight is negative.

    Example:
        >>> found = stops([0.4, 400.0])
        >>> found[:3], 0.4 in found, found[-1]
        ([0.0, 0.001, 0.0012], True, 82000.0)
        >>> stops([-1.0])[0]
        -820.0
    """
    wanted = {float(value) for value in given}
    sizes = [abs(value) for value in wanted if value] or [1.0]
    low = math.floor(math.log10(min(sizes))) - _REACH
    high = math.floor(math.log10(max(sizes))) + _REACH
    grid = {float(f"{step}e{exponent}") for exponent in range(low, high + 1) for step in _TWELFTHS}
    mirrored = {-value for value in grid} if min(wanted, default=0.0) < 0 else set()
    return sorted({0.0} | grid | mirrored | wanted)


class TermTable(anywidget.AnyWidget):
    """One row per term: a slider and an exact number for its weight, its value, its two shares.

    Observe `weights`. The slider takes Left and Right (one stop), Page Up and Page Down (a tenth of
    the way), Home and End; the number box takes any finite number. A click on a term's name makes
    it `chosen`, a second click clears it.

    Args:
        names: The terms, in the order shown.
        weights: Name -> weight; finite, one for every name.
        stops: Name -> values at which the slider stands, increasing.
        rows: What the terms contribute, see `show`.
        total: The weighted sum and the norm of its gradient, None where unknown.
        pending: Whether the numbers that are missing are on their way.
        chosen: The term whose gradient is looked at, or "".

    Raises:
        TraitError: If a weight is absent, unknown or not finite.

    Example:
        >>> table = TermTable(names=["a"], weights={"a": 0.4}, stops={"a": stops([0.4])})
        >>> table.weights = {"a": float("nan")}
        Traceback (most recent call last):
        traitlets.traitlets.TraitError: weight of a is nan; expected a finite number
    """

    _esm = _HERE / "terms.js"
    _css = _HERE / "terms.css"

    names = traitlets.List(traitlets.Unicode()).tag(sync=True)
    weights = traitlets.Dict().tag(sync=True)
    stops = traitlets.Dict().tag(sync=True)
    rows: traitlets.List[Any] = traitlets.List().tag(sync=True)
    total = traitlets.Dict().tag(sync=True)
    pending = traitlets.Bool(False).tag(sync=True)
    chosen = traitlets.Unicode("").tag(sync=True)

    def __init__(self, **traits: Any) -> None:  # noqa: ANN401 - the traits check their types
        super().__init__(**traits)

    @traitlets.validate("weights")
    def _sound(self, proposal: Mapping[str, Any]) -> dict[str, float]:
        weights = proposal["value"]
        try:
            return insist_weights(weights, self.names)
        except ValueError as error:
            raise traitlets.TraitError(str(error)) from error

    def show(
        self, shares: Mapping[str, Share], total: Mapping[str, float | None], *, pending: bool
    ) -> None:
        """Show what the terms contribute, all rows at once.

        Args:
            shares: Name -> share; empty while nothing is known.
            total: "value" and "gradient": the weighted sum and the norm of its gradient.
            pending: Whether what is missing is being computed.
        """
        rows = [_row(shares[name]) if name in shares else {} for name in self.names]
        with self.hold_sync():
            self.rows, self.pending = rows, pending
            self.total = {name: _finite(value) for name, value in total.items()}

    def still(self) -> str:
        """The table for readers without a kernel.

        Returns:
            A table element in the page's own colours.
        """
        titles = ("term", "weight", "value", "weighted", *(title for title, _ in _SHARES))
        heads = "".join(_cell("th", k, title) for k, title in enumerate(titles))
        body = "".join(
            f"<tr>{''.join(_cell('td', k, text) for k, text in enumerate(self._cells(*row)))}</tr>"
            for row in zip(self.names, self.rows, strict=False)
        )
        table = f"<thead><tr>{heads}</tr></thead><tbody>{body}</tbody>"
        return f'<table style="margin: 0.5em 0">{table}</table>'

    def _cells(self, name: str, row: Mapping[str, float | None]) -> list[str]:
        numbers = [self.weights[name], row.get("value"), row.get("weighted")]
        texts = ["–" if number is None else f"{number:.4g}" for number in numbers]
        return [html.escape(name), *texts, *(_bar(row.get(key)) for _, key in _SHARES)]


_SHARES = (("share of |weighted value|", "of_value"), ("share of gradient norm", "of_gradient"))


def insist_weights(weights: Mapping[str, Any], names: Iterable[str]) -> dict[str, float]:
    """Check a full set of weights.

    Args:
        weights: Name -> number.
        names: The terms that must have one.

    Returns:
        Name -> float, in the order of `names`.

    Raises:
        ValueError: If a term has no weight, a name is no term's, or a weight is not finite.

    Example:
        >>> insist_weights({"a": 1}, ["a"])
        {'a': 1.0}
        >>> insist_weights({"a": "much"}, ["a"])
        Traceback (most recent call last):
        ValueError: weight of a is 'much'; expected a finite number
    """
    names = list(names)
    if odd := sorted(set(weights) ^ set(names)):
        state = "has no weight" if odd[0] in names else "is no term"
        raise ValueError(f"{odd[0]!r} {state}; the terms are {', '.join(names)}")
    for name in names:
        value = weights[name]
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not math.isfinite(value):
            raise ValueError(f"weight of {name} is {value!r}; expected a finite number")
    return {name: float(weights[name]) for name in names}


def _row(share: Share) -> dict[str, float | None]:
    return {key: _finite(value) for key, value in vars(share).items()}


def _finite(value: float | None) -> float | None:
    """JSON knows neither NaN nor infinity."""
    return value if value is not None and math.isfinite(value) else None


def _cell(tag: str, column: int, content: str) -> str:
    side = "right" if 1 <= column <= 3 else "left"
    return f'<{tag} style="text-align: {side}">{content}</{tag}>'


def _bar(share: float | None) -> str:
    if share is None:
        return "–"
    length = f"{100 * share:.1f}%"
    return (
        '<span style="display: inline-block; width: 8em; border: 1px solid #8886">'
        f'<span style="display: block; width: {length}; height: 0.7em; background: #4a8fd0">'
        f"</span></span> {length}"
    )
