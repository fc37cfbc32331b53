"""Where pictures lie between two terms of an objective: runs made so far beside a known curve.

Front end: curve.js and curve.css beside this file, drawn as SVG.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anywidget
import traitlets

_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Curve:
    """Points that were computed before: where runs with various weights ended.

    Args:
        points: Per point, the value of every term before its weight, as `optimise.ends` gives
            them.
        label: What the chart calls it.
        picture: The photo it was computed on; shown with this one only. Empty: with all.

    Raises:
        ValueError: If there is no point, or a value is not finite.

    Example:
        >>> Curve(({"content": 6.7, "tv": 0.004},), picture="patch 12").label
        'computed before'
        >>> Curve(())
        Traceback (most recent call last):
        ValueError: points is empty; expected at least one {term: value}
    """

    points: Sequence[Mapping[str, float]]
    label: str = "computed before"
    picture: str = ""

    def __post_init__(self) -> None:
        if not self.points:
            raise ValueError("points is empty; expected at least one {term: value}")
        for point in self.points:
            for name, value in point.items():
                if not math.isfinite(value):
                    raise ValueError(f"{name} of a point is {value}; expected a finite number")


class TradeOff(anywidget.AnyWidget):
    """A chart of two terms' values: one line per run, the known curve, and where the picture is.

    With the chart focused, Left and Right go from point to point, Up and Down from line to line,
    Home and End to the ends of a line, and Enter takes the point (`taken`). A click takes the
    nearest point. An axis is logarithmic where its values are positive and span more than 30-fold.

    Args:
        x: What the horizontal axis shows, with its unit.
        y: What the vertical axis shows, with its unit.
        lines: Dicts of "label", "kind" ("run" or "known"), "points" ([x, y] each) and "texts" (what
            is said of each point).
        current: [x, y] of the picture shown, or [] while its values are unknown.
        note: A sentence under the chart.
        taken: [line, point] that the reader took last; [] at first.

    Raises:
        TraitError: If a value has another type.

    Example:
        >>> TradeOff(x="tv", y="content", current=[0.5, 7.0]).current
        [0.5, 7.0]
        >>> TradeOff(x=1)
        Traceback (most recent call last):
        traitlets.traitlets.TraitError: ...
    """

    _esm = _HERE / "curve.js"
    _css = _HERE / "curve.css"

    x = traitlets.Unicode("").tag(sync=True)
    y = traitlets.Unicode("").tag(sync=True)
    lines: traitlets.List[Any] = traitlets.List().tag(sync=True)
    current: traitlets.List[Any] = traitlets.List().tag(sync=True)
    note = traitlets.Unicode("").tag(sync=True)
    taken: traitlets.List[Any] = traitlets.List().tag(sync=True)

    def __init__(self, **traits: Any) -> None:  # noqa: ANN401 - the traits check their types
        super().__init__(**traits)
