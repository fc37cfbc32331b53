"""The explore panel: a paper's render function under live controls.

The panel owns no method of its own. It reads the controls, calls the paper's pure function in the
background, and shows what comes back; while a control is dragged only the newest wish is computed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import IPython.display
import ipywidgets
from torch import Tensor

from enhancelib.widgets import layout
from enhancelib.widgets import pictures as _pictures
from enhancelib.widgets.chooser import PhotoChooser
from enhancelib.widgets.controls import Choice, Control, Slider, View
from enhancelib.widgets.divider import BeforeAfter
from enhancelib.widgets.worker import Newest, sentence

Render = Callable[..., View]
Loader = Callable[[], Tensor]


class Panel:
    """Photo, controls and a before/after picture that is computed anew on every change.

    The first picture is computed at once, so a panel that cannot show its first view raises where
    it is made. Later errors are a sentence in the panel, and the exception is kept in `failure`.

    In a notebook it displays itself, with a still picture beside it for readers without a kernel;
    the still gives way as soon as the live view is there. Attributes for tests and other panels:
    `controls` (name -> ipywidgets control), `photo` (dropdown), `upload`, `view` (BeforeAfter),
    `widget` (the whole), `failure` (the last exception, or None).

    Args:
        render: `render(picture, **values) -> View`, the paper's pure function. `picture` is
            (C, H, W) float32 in [0, 1]; the values carry the names in `controls`.
        controls: Name -> `Slider` or `Choice`; a name is an argument of `render`.
        pictures: Name -> loader of a (C, H, W) picture; the first is shown at the start.
        title: Heading of the panel.
        note: A sentence under the heading.
        labels: What the two pictures are called.
        limit: Longest side of the user's own photo in pixels; a larger one is reduced to it. None
            where only the given pictures can be shown: nothing is opened then.

    Raises:
        ValueError: If there is no picture to start with, or `limit` is not positive.

    Example:
        >>> import torch
        >>> def darken(picture, amount):
        ...     return View(picture, picture * (1 - amount), f"{amount:.1f} darker")
        >>> panel = Panel(
        ...     darken,
        ...     controls={"amount": Slider(0.5, 0.0, 1.0, 0.1)},
        ...     pictures={"white": lambda: torch.ones(3, 8, 8)},
        ... )
        >>> panel.controls["amount"].value = 0.2
        >>> panel.wait().split(" · ")[0]
        '0.2 darker'
        >>> panel.close()
        >>> Panel(darken, controls={}, pictures={})
        Traceback (most recent call last):
        ValueError: pictures is empty; expected at least one name with a loader
    """

    def __init__(
        self,
        render: Render,
        *,
        controls: Mapping[str, Control],
        pictures: Mapping[str, Loader],
        title: str = "",
        note: str = "",
        labels: tuple[str, str] = ("before", "after"),
        limit: int | None = 512,
    ) -> None:
        self._render = render
        self._held: tuple[str, Tensor] | None = None
        self._worker = Newest()
        self.failure: Exception | None = None
        self.view = BeforeAfter(labels=labels)
        self.view.still = self.view.model_id
        self._choose(pictures, 1 if limit is None else limit)
        chooser = [self.photo] if limit is None else [self.photo, self.upload, self._hint]
        self._build(controls, chooser, title, note)
        self._shown = self._show(self.photo.value, self.values())
        for control in self.controls.values():
            control.observe(self._changed, "value")

    @property
    def status(self) -> str:
        """The line under the picture.

        Returns:
            The problem's sentence where there is one, else the caption with its time.
        """
        return str(self.view.problem or self.view.caption)

    def values(self) -> dict[str, Any]:
        """What the controls stand at.

        Returns:
            Name -> value, as `render` receives them.
        """
        return {name: control.value for name, control in self.controls.items()}

    def wait(self, seconds: float = 60.0) -> str:
        """Wait until the picture shows what the controls ask for.

        Args:
            seconds: How long at most.

        Returns:
            The status line.

        Raises:
            TimeoutError: If the rendering has not ended by then.

        Example:
            >>> import threading, torch
            >>> gate = threading.Event()
            >>> def slow(picture, wait):
            ...     gate.wait(10 if wait == "yes" else 0)
            ...     return View(picture, picture)
            >>> panel = Panel(
            ...     slow,
            ...     controls={"wait": Choice("no", ("no", "yes"))},
            ...     pictures={"black": lambda: torch.zeros(3, 8, 8)},
            ... )
            >>> panel.controls["wait"].value = "yes"
            >>> panel.wait(0.1)
            Traceback (most recent call last):
            TimeoutError: the panel is still rendering after 0.1 s
            >>> gate.set()
            >>> panel.close()
        """
        if not self._worker.wait(seconds):
            raise TimeoutError(f"the panel is still rendering after {seconds:g} s")
        return self.status

    def close(self) -> None:
        """Stop rendering, and take the panel and all its parts out of kernel and page."""
        self._worker.close()
        self._chooser.close()
        for control in self.controls.values():
            control.unobserve_all()
        layout.close(self.widget)

    def _ipython_display_(self) -> None:
        self.wait()
        labels = self.view.labels
        still = _pictures.still_html(self._shown, labels=labels, name=self.view.still)
        show: Callable[..., None] = IPython.display.display
        show(self.widget)
        show({"text/html": still, "text/plain": self.status}, raw=True)

    def _choose(self, pictures: Mapping[str, Loader], limit: int) -> None:
        self._chooser = PhotoChooser(
            pictures,
            own=lambda picture: picture,
            limit=limit,
            chosen=self._chosen,
            refused=self._refused,
        )
        self.photo, self.upload = self._chooser.dropdown, self._chooser.upload
        self._loaders, self._hint = self._chooser.loaders, self._chooser.hint

    def _build(
        self,
        controls: Mapping[str, Control],
        chooser: Sequence[ipywidgets.Widget],
        title: str,
        note: str,
    ) -> None:
        self.controls = {name: _control(name, each) for name, each in controls.items()}
        left = ipywidgets.VBox(
            [*chooser, *self.controls.values()],
            layout=layout.layout(flex="1 1 260px", max_width="440px"),
        )
        right = ipywidgets.VBox([self.view], layout=layout.layout(flex="2 1 516px"))
        self.widget = ipywidgets.VBox([*layout.heading(title, note), layout.flow(left, right)])
        self.widget.add_class("enh-panel")

    def _chosen(self, anew: bool) -> None:
        if anew:
            self._held = None
        self._changed()

    def _refused(self, sentence: str) -> None:
        self.view.problem = sentence

    def _changed(self, _change: object = None) -> None:
        name, values = self.photo.value, self.values()
        self._worker.submit(lambda: self._attempt(name, values))

    def _attempt(self, name: str, values: dict[str, Any]) -> None:
        self.view.busy = True
        try:
            self._shown = self._show(name, values)
            self.failure = None
        except Exception as error:  # whatever a paper's function raises must reach the reader
            self.failure = error
            self.view.problem = f"Not updated: {sentence(error)}"
        finally:
            self.view.busy = False

    def _show(self, name: str, values: dict[str, Any]) -> View:
        picture = self._picture(name)
        start = time.perf_counter()
        shown = self._render(picture, **values)
        spent = f"{1000 * (time.perf_counter() - start):.0f} ms"
        before, after = _pictures.png(shown.before), _pictures.png(shown.after)
        with self.view.hold_sync():
            self.view.before, self.view.after, self.view.problem = before, after, ""
            self.view.caption = f"{shown.caption} · {spent}" if shown.caption else spent
        return shown

    def _picture(self, name: str) -> Tensor:
        if self._held is None or self._held[0] != name:
            self._held = (name, self._loaders[name]())
        return self._held[1]


def _label(name: str, control: Control) -> str:
    unit = f" ({control.unit})" if isinstance(control, Slider) and control.unit else ""
    return f"{control.label or name}{unit}"


def _control(name: str, control: Control) -> ipywidgets.ValueWidget:
    shape = layout.shape() | {"description": _label(name, control), "value": control.value}
    if isinstance(control, Choice):
        return ipywidgets.Dropdown(options=control.options, **shape)
    ends = {"min": control.low, "max": control.high, "step": control.step}
    if control.whole:
        return ipywidgets.IntSlider(**ends, **shape)
    decimals = len(f"{control.step:.6f}".rstrip("0").partition(".")[2])
    return ipywidgets.FloatSlider(readout_format=f".{decimals}f", **ends, **shape)
