"""Two pictures over one another with a movable divider.

ipywidgets has no such control, so the front end is our own: divider.js and divider.css beside this
file, an ES module that anywidget hands to the page as it is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anywidget
import traitlets

_HERE = Path(__file__).parent
ZOOMS = ("fit", "1", "2", "4")
ARRANGEMENTS = ("divider", "beside")


class BeforeAfter(anywidget.AnyWidget):
    """A before/after view whose divider moves by mouse, touch and keyboard.

    With the divider focused, the arrow keys move it by 1 % (10 % with Shift), Page Up and Page Down
    by 10 %, Home and End to the ends. It needs nothing from outside hosts.

    Args:
        before: PNG bytes of the picture left of the divider.
        after: PNG bytes of the picture right of it, of the same size.
        position: Where the divider stands, in percent of the width.
        labels: What the two pictures are called.
        caption: The line under the pictures; screen readers announce its changes.
        problem: What went wrong, as a sentence; empty when nothing did.
        busy: Whether a newer pair is being computed.
        zoom: "fit", or the screen pixels per picture pixel: "1", "2" or "4". Enlarged pixels are
            shown as squares.
        arrangement: "divider", or "beside" for the two pictures next to each other.
        facts: Name -> number or text that belongs to this pair, such as a colour scale; the page
            carries it as JSON in the figure's data-facts, set together with the pictures.
        still: Name of the still picture that this view replaces while it is alive.

    Raises:
        TraitError: If a value has another type or lies outside its range.

    Example:
        >>> BeforeAfter(position=30, labels=("noisy", "restored")).position
        30.0
        >>> BeforeAfter(zoom="3")
        Traceback (most recent call last):
        traitlets.traitlets.TraitError: ...
    """

    _esm = _HERE / "divider.js"
    _css = _HERE / "divider.css"

    before = traitlets.Bytes(b"").tag(sync=True)
    after = traitlets.Bytes(b"").tag(sync=True)
    position = traitlets.CFloat(50.0, min=0.0, max=100.0).tag(sync=True)
    labels = traitlets.Tuple(
        traitlets.Unicode(), traitlets.Unicode(), default_value=("before", "after")
    ).tag(sync=True)
    caption = traitlets.Unicode("").tag(sync=True)
    problem = traitlets.Unicode("").tag(sync=True)
    busy = traitlets.Bool(False).tag(sync=True)
    zoom = traitlets.Enum(ZOOMS, "fit").tag(sync=True)
    arrangement = traitlets.Enum(ARRANGEMENTS, "divider").tag(sync=True)
    facts = traitlets.Dict().tag(sync=True)
    still = traitlets.Unicode("").tag(sync=True)

    def __init__(self, **traits: Any) -> None:  # noqa: ANN401 - the traits check their types
        super().__init__(**traits)
