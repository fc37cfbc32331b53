"""Where pictures lie between two terms of an objective: runs made so far beside a known curve.

Front end: curve.js and curve.css beside this file, drawn as SVG.
"""

from __future__ import annotations

import html
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

    def still(self) -> str:
        """The chart for readers without a kernel: ends of the axes instead of ticks.

        Returns:
            An svg element in the page's own colours; nothing where there is no point.

        Example:
            >>> TradeOff(x="tv", y="content", current=[0.5, 7.0]).still()[:4]
            '<svg'
            >>> TradeOff().still()
            ''
        """
        points = [point for line in self.lines for point in line["points"]]
        points += [self.current] if self.current else []
        if not points:
            return ""
        axes = [_Axis([point[k] for point in points], *_ENDS[k]) for k in (0, 1)]
        ways = (_path(axes, one["points"], dashed=one["kind"] == "known") for one in self.lines)
        parts = [_axes(axes, self.x, self.y), *ways]
        if self.current:
            x, y = (axis.at(value) for axis, value in zip(axes, self.current, strict=True))
            parts.append(f'<circle cx="{x}" cy="{y}" r="6" stroke-width="2"/>')
        note = "Circle: the picture shown. Dashed: computed before. Full lines: runs."
        return (
            f'<svg viewBox="0 0 560 250" width="560" style="max-width: 100%" role="img" '
            f'aria-label="{html.escape(f"{self.y} against {self.x}. {note}")}" '
            f'fill="none" stroke="currentColor">{"".join(parts)}</svg>'
        )


_ENDS = ((70.0, 545.0), (205.0, 15.0))  # pixels of the plot: left and right, bottom and top
_LOG_FROM = 30  # as in curve.js


class _Axis:
    def __init__(self, values: Sequence[float], start: float, end: float) -> None:
        self.low, self.high = min(values), max(values)
        self._start, self._end = start, end
        self._log = self.low > 0 and self.high / self.low > _LOG_FROM

    def at(self, value: float) -> float:
        low, high, here = map(self._scaled, (self.low, self.high, value))
        part = (here - low) / (high - low) if high > low else 0.5
        return round(self._start + (self._end - self._start) * (0.04 + 0.92 * part), 1)

    def _scaled(self, value: float) -> float:
        return math.log10(value) if self._log else value


def _axes(axes: Sequence[_Axis], x: str, y: str) -> str:
    (left, right), (bottom, top) = _ENDS
    across, up = axes
    texts = [
        (across.at(across.low), bottom + 16, "middle", f"{across.low:.3g}"),
        (across.at(across.high), bottom + 16, "middle", f"{across.high:.3g}"),
        ((left + right) / 2, bottom + 34, "middle", x),
        (left - 6, up.at(up.low) + 4, "end", f"{up.low:.3g}"),
        (left - 6, up.at(up.high) + 4, "end", f"{up.high:.3g}"),
        (left + 8, top + 4, "start", y),
    ]
    marks = "".join(
        f'<text x="{at}" y="{down}" text-anchor="{anchor}">{html.escape(text)}</text>'
        for at, down, anchor, text in texts
    )
    style = 'fill="currentColor" stroke="none" font-size="12" font-family="sans-serif"'
    return f'<path d="M{left} {top}V{bottom}H{right}" opacity="0.6"/><g {style}>{marks}</g>'


def _path(axes: Sequence[_Axis], points: Sequence[Sequence[float]], *, dashed: bool) -> str:
    at = [f"{axes[0].at(x)} {axes[1].at(y)}" for x, y in points]
    style = 'stroke="#e07b00" stroke-dasharray="5 4"' if dashed else 'stroke="#2f7fd0"'
    return f'<path {style} stroke-width="1.5" d="M{"L".join(at)}"/>'
