"""A line to take away: shown, and copied to the clipboard by a button."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anywidget
import traitlets

_HERE = Path(__file__).parent


class CopyLine(anywidget.AnyWidget):
    """A button that copies a line of text, and the line itself.

    Only the page can reach the clipboard, so ipywidgets' button cannot do it. Where the browser
    refuses (a page that is neither on this machine nor encrypted), the line is selected instead.

    Args:
        label: The button's text.
        text: The line.

    Raises:
        TraitError: If a value has another type.

    Example:
        >>> CopyLine(label="copy", text="enhancelib run prad").text
        'enhancelib run prad'
        >>> CopyLine(text=7)
        Traceback (most recent call last):
        traitlets.traitlets.TraitError: ...
    """

    _esm = _HERE / "command.js"
    _css = _HERE / "command.css"

    label = traitlets.Unicode("copy").tag(sync=True)
    text = traitlets.Unicode("").tag(sync=True)

    def __init__(self, **traits: Any) -> None:  # noqa: ANN401 - the traits check their types
        super().__init__(**traits)
