"""The controls and displays of the loss explorer, laid out; what they do is in explorer.py."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from typing import Any

import ipywidgets

from enhancelib.widgets import layout
from enhancelib.widgets.command import CopyLine
from enhancelib.widgets.curve import TradeOff
from enhancelib.widgets.divider import BeforeAfter
from enhancelib.widgets.layout import shape
from enhancelib.widgets.terms import TermTable, insist_weights, stops

TOTAL, STEP, TARGET, START = "total gradient g", "one step x − ηg", "target", "start"
GIVEN, CUSTOM = "as given", "custom"
_OF = "gradient: "
_REACH = 3  # decades of η on either side of the fitted one


class Desk:
    """All controls of an explorer, and no more of what they do than what they do to each other.

    Args:
        weights: Name -> weight of every term, at the start.
        presets: Name -> weights; terms that one does not name get 0.

    Raises:
        ValueError: If a preset names an unknown term or has a name of ours, or a weight is not
            finite.

    Example:
        >>> desk = Desk({"tv": 400.0}, {"code": {"tv": 2000.0}})
        >>> desk.preset.options, desk.show.options
        (('as given', 'code', 'custom'), ('total gradient g', 'gradient: tv', 'one step x − ηg', \
'target', 'start'))
        >>> desk.close()
        >>> Desk({"tv": 400.0}, {"code": {"colour": 0.5}})
        Traceback (most recent call last):
        ValueError: preset 'code': 'colour' is no term; the terms are tv
    """

    def __init__(
        self, weights: Mapping[str, float], presets: Mapping[str, Mapping[str, float]]
    ) -> None:
        names = list(weights)
        self.names = names
        self.sets = {GIVEN: dict(weights), **_full(presets, weights)}
        given = {name: [of[name] for of in self.sets.values()] for name in names}
        self.table = TermTable(
            names=names, weights=dict(weights), stops={name: stops(given[name]) for name in names}
        )
        self.view = BeforeAfter(arrangement="beside")
        self.view.still = self.view.model_id
        self.preset = _dropdown("weights of", [*self.sets, CUSTOM])
        options = [TOTAL, *map(gradient_of, names), STEP, TARGET, START]
        self.show = _dropdown("beside the picture", options)
        self.reset = _button("reset", "Back to the weights as given and the picture at its start")
        self.command = CopyLine(label="copy as papermill parameters")
        self._step()
        self._motion()
        self._axes()
        self.preset.observe(self._preset, "value")
        self.show.observe(self._turned, "value")
        self.table.observe(self._picked, "chosen")

    @property
    def weights(self) -> dict[str, float]:
        """Name -> weight, as the sliders stand.

        Returns:
            A copy.
        """
        return {name: float(weight) for name, weight in self.table.weights.items()}

    def arrange(
        self, photo: Sequence[ipywidgets.Widget], *, title: str, note: str, command: bool
    ) -> ipywidgets.Widget:
        """The whole panel.

        Args:
            photo: The controls that choose a photo.
            title: Heading.
            note: A sentence under it.
            command: Whether there is a command to copy.

        Returns:
            The widget.
        """
        for control in photo[:2]:
            control.layout.flex = "1 1 200px"
        left = ipywidgets.VBox(
            [
                _row(*photo[:2]),
                *photo[2:],
                self.view,
                _row(self.show, self.eta, self.fit),
                _row(self.rate, self.most, self.run, self.stop),
                _row(self.history, self.when),
            ],
            layout=layout.layout(flex="1 1 528px"),
        )
        takeaway = [self.command] if command else []
        right = ipywidgets.VBox(
            [
                _row(self.preset, self.reset),
                self.table,
                *takeaway,
                _row(self.across, self.up),
                self.chart,
            ],
            layout=layout.layout(flex="3 1 560px"),
        )
        columns = layout.flow(left, right, grid_gap="24px")
        self.widget = ipywidgets.VBox([*layout.heading(title, note), columns])
        self.widget.add_class("enh-panel")
        self.widget.add_class("enh-explorer")
        return self.widget

    def set_eta(self, value: float) -> None:
        """Move η, and with it the range of its slider.

        Args:
            value: Above 0.
        """
        middle = round(math.log10(value))
        slider = self.eta
        with slider.hold_sync():
            slider.min, slider.max = (
                min(slider.min, middle - _REACH),
                max(slider.max, middle + _REACH),
            )
            slider.value = value
            slider.min, slider.max = middle - _REACH, middle + _REACH

    def tell(self, text: str) -> None:
        """Say which moment of the history is shown.

        Args:
            text: Plain text.
        """
        self.when.value = f'<span class="enh-hint" role="status">{html.escape(text)}</span>'

    def close(self) -> None:
        """Take every part out of kernel and page."""
        everything = [value for value in vars(self).values() if _is_widget(value)]
        for part in everything:
            part.unobserve_all()
        for part in everything:
            layout.close(part)

    def _preset(self, change: Mapping[str, Any]) -> None:
        if change["new"] != CUSTOM:
            self.table.weights = dict(self.sets[change["new"]])

    def _turned(self, change: Mapping[str, Any]) -> None:
        self.table.chosen = term_of(change["new"])

    def _picked(self, change: Mapping[str, Any]) -> None:
        if change["new"] != term_of(self.show.value):
            self.show.value = gradient_of(change["new"]) if change["new"] else TOTAL

    def _step(self) -> None:
        self.eta = ipywidgets.FloatLogSlider(
            value=1.0, min=-3, max=3, step=0.05, readout_format=".2e", description="step η",
            **shape(flex="1 1 180px"),
        )  # fmt: skip
        self.fit = _button("fit η", "Choose η so that no pixel moves by more than 32/255")

    def _motion(self) -> None:
        self.rate = ipywidgets.FloatSlider(
            value=1.0, min=0.1, max=10.0, step=0.1, readout_format=".1f",
            description="Adam's rate (1/255 per step)", **shape(flex="1 1 180px"),
        )  # fmt: skip
        self.most = ipywidgets.BoundedIntText(
            value=200, min=1, max=100_000, description="steps at most", **shape(flex="0 1 110px")
        )
        self.run = _button("Run", "Move the picture's own pixels downhill, from what is shown")
        self.stop = _button("Stop", "Stop, and compute every term's gradient at what is shown")
        self.run.button_style, self.stop.disabled = "primary", True
        self.history = ipywidgets.IntSlider(
            value=0, min=0, max=0, readout=False, disabled=True, description="history",
            **shape(flex="1 1 260px"),
        )  # fmt: skip
        self.when = ipywidgets.HTML(layout=layout.layout(flex="1 1 180px", margin="0 2px 8px"))

    def _axes(self) -> None:
        second = self.names[min(1, len(self.names) - 1)]
        self.across = _dropdown("horizontal axis", self.names, self.names[0])
        self.up = _dropdown("vertical axis", self.names, second)
        self.chart = TradeOff()


def gradient_of(name: str) -> str:
    """What the dropdown calls one term's gradient.

    Args:
        name: The term.

    Returns:
        The option's text.
    """
    return f"{_OF}{name}"


def term_of(option: str) -> str:
    """The inverse of `gradient_of`.

    Args:
        option: Any option of the dropdown.

    Returns:
        The term, or "" where the option is about none.

    Example:
        >>> term_of(gradient_of("tv")), term_of(TARGET)
        ('tv', '')
    """
    return option.removeprefix(_OF) if option.startswith(_OF) else ""


def _row(*children: ipywidgets.Widget) -> ipywidgets.Box:
    return layout.flow(*children, align_items="flex-end", grid_gap="4px 12px")


def _dropdown(label: str, options: Sequence[str], value: str | None = None) -> ipywidgets.Dropdown:
    chosen = options[0] if value is None else value
    return ipywidgets.Dropdown(
        options=options, value=chosen, description=label, **shape(flex="1 1 150px")
    )


def _button(label: str, tooltip: str) -> ipywidgets.Button:
    return ipywidgets.Button(
        description=label, tooltip=tooltip, layout=layout.layout(width="auto", flex="0 0 auto")
    )


def _is_widget(value: object) -> bool:
    return isinstance(value, ipywidgets.Widget)


def _full(
    presets: Mapping[str, Mapping[str, float]], given: Mapping[str, float]
) -> dict[str, dict[str, float]]:
    """A weight for every term: what a paper does not have, it does not weigh."""
    full = {}
    for preset, weights in presets.items():
        if preset in (GIVEN, CUSTOM):
            raise ValueError(f"preset {preset!r}: the name is taken; expected another one")
        try:
            full[preset] = insist_weights({**dict.fromkeys(given, 0.0), **weights}, given)
        except ValueError as error:
            raise ValueError(f"preset {preset!r}: {error}") from error
    return full
