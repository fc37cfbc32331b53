"""From the state of an explorer to what its controls and displays show."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch

from enhancelib.widgets import pictures as _pictures
from enhancelib.widgets.anatomy import Weights
from enhancelib.widgets.curve import Curve
from enhancelib.widgets.desk import CUSTOM, Desk
from enhancelib.widgets.optimise import Film, Moment
from enhancelib.widgets.showing import Shown, State, shown


class Screen:
    """Draws states; it decides nothing and changes no state.

    Args:
        desk: The controls.
        command: Weights -> command line, or None.
        curve: A trade-off curve that was computed before, or None.
        units: Name of a term -> unit of its value.

    Raises:
        ValueError: If a point of the curve lacks a term.

    Example:
        >>> desk = Desk({"tv": 400.0}, {})
        >>> Screen(desk, command=None, curve=Curve(({"content": 1.0},)), units={})
        Traceback (most recent call last):
        ValueError: a point of the curve has no 'tv'; expected every term
        >>> desk.close()
    """

    def __init__(
        self,
        desk: Desk,
        *,
        command: Callable[[Weights], str] | None,
        curve: Curve | None,
        units: Mapping[str, str],
    ) -> None:
        for point in curve.points if curve else ():
            if absent := [name for name in desk.names if name not in point]:
                raise ValueError(f"a point of the curve has no {absent[0]!r}; expected every term")
        self._desk, self._command, self._curve, self._units = desk, command, curve, units
        self._drawn: Moment | None = None  # whose picture the page has

    def beside(self, state: State) -> Shown:
        """What stands beside the picture at present.

        Args:
            state: The picture.

        Returns:
            What the desk's `show` asks for.
        """
        desk = self._desk
        return shown(desk.show.value, state, desk.weights, desk.eta.value)

    def weigh(self, state: State) -> None:
        """Show what the weights do to the picture.

        Args:
            state: The picture.
        """
        desk = self._desk
        # The page draws the numbers while the pictures, which take longer, are on their way.
        self._table(state, desk.weights)
        beside, view = self.beside(state), desk.view
        after = _pictures.quick_png(beside.picture)
        with view.hold_sync():
            if self._drawn is not state.moment:
                view.before = _pictures.quick_png(state.moment.picture)
                self._drawn = state.moment
            view.after, view.caption = after, beside.caption
            view.labels = (f"picture, {state.moment.name}", beside.label)
            view.facts = {"moment": state.moment.name, **beside.facts}

    def name(self) -> None:
        """Say what the weights are called, and the command that goes with them."""
        desk, weights = self._desk, self._desk.weights
        if desk.sets.get(desk.preset.value) != weights:
            names = [name for name, given in desk.sets.items() if given == weights]
            desk.preset.value = names[-1] if names else CUSTOM  # a paper's name tells more
        if self._command is not None:
            desk.command.text = self._command(weights)

    def draw(self, state: State, film: Film, photo: str, *, running: bool) -> None:
        """Show everything.

        Args:
            state: The picture.
            film: The photo's history.
            photo: Its name.
            running: Whether a run goes on.
        """
        self.weigh(state)
        self._buttons(film, running)
        self._history(film.moments, state.moment)
        self._desk.tell(_place(state, film, running, self._desk.most.value))
        self.chart(state, film, photo)

    def lines(self, film: Film, photo: str) -> list[list[Moment]]:
        """The moments behind the chart's lines.

        Args:
            film: The photo's history.
            photo: Its name.

        Returns:
            Per line of the chart its moments, none for the curve that was computed before.
        """
        runs = [run for run in film.runs[1:] if run]
        return [[], *runs] if self._known(photo) else runs

    def chart(self, state: State, film: Film, photo: str) -> None:
        """Show where the picture lies between two terms.

        Args:
            state: The picture.
            film: The photo's history.
            photo: Its name.
        """
        desk = self._desk
        x, y = desk.across.value, desk.up.value
        runs = [run for run in film.runs[1:] if run]
        lines = [_known(self._curve, x, y)] if self._curve and self._known(photo) else []
        lines += [_line(run, x, y, age) for age, run in zip(_ages(len(runs)), runs, strict=True)]
        values = state.values
        with desk.chart.hold_sync():
            desk.chart.x, desk.chart.y = self._axis(x), self._axis(y)
            desk.chart.lines = lines
            desk.chart.current = [values[x], values[y]] if values else []
            desk.chart.note = self._note(photo)

    def _table(self, state: State, weights: Weights) -> None:
        found, gradient = state.shares(weights), state.gradient(weights)
        total = {
            "value": math.fsum(share.weighted for share in found.values()) if found else None,
            "gradient": None if gradient is None else float(torch.linalg.vector_norm(gradient)),
        }
        self._desk.table.show(found, total, pending=state.anatomy is None and state.live is None)

    def _buttons(self, film: Film, running: bool) -> None:
        desk = self._desk
        desk.run.disabled, desk.stop.disabled = running, not running
        for control in (desk.rate, desk.most):
            control.disabled = running
        desk.history.disabled = running or len(film.moments) < 2

    def _history(self, moments: list[Moment], shown: Moment) -> None:
        slider = self._desk.history  # whoever observes it finds that this moment is shown already
        slider.max = max(1, len(moments) - 1)
        slider.value = next((k for k, moment in enumerate(moments) if moment is shown), 0)

    def _known(self, photo: str) -> bool:
        return self._curve is not None and self._curve.picture in ("", photo)

    def _note(self, photo: str) -> str:
        if self._curve is None or self._known(photo):
            return ""
        return f"The curve {self._curve.label!r} belongs to {self._curve.picture!r}."

    def _axis(self, name: str) -> str:
        return f"{name} ({self._units.get(name, 'before its weight')})"


def _ages(count: int) -> range:
    return range(count - 1, -1, -1)


def _line(run: list[Moment], x: str, y: str, age: int) -> dict[str, object]:
    return {
        "label": f"run {run[0].run}",
        "kind": "run",
        "age": age,
        "points": [[moment.values[x], moment.values[y]] for moment in run],
        "texts": [f"step {moment.step}" for moment in run],
    }


def _known(curve: Curve, x: str, y: str) -> dict[str, object]:
    points = [[point[x], point[y]] for point in curve.points]
    return {"label": curve.label, "kind": "known", "points": points, "texts": [""] * len(points)}


def _place(state: State, film: Film, running: bool, most: int) -> str:
    if running:
        return f"{state.moment.name} of at most {most}"
    if len(film.moments) == 1:
        return "start · no run yet"
    kept = "every step" if film.stride == 1 else f"one step in {film.stride}"
    return f"{state.moment.name} · {kept} kept"
