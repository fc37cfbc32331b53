"""How the parts of a panel are laid out, and how a whole panel is taken down."""

from __future__ import annotations

import html
from collections.abc import Iterator
from typing import Any

import ipywidgets


def layout(**properties: str) -> ipywidgets.Layout:
    """A layout that may shrink below what its content asks for.

    Args:
        **properties: CSS properties, with underscores.

    Returns:
        The layout.
    """
    return ipywidgets.Layout(min_width="0", **properties)


def shape(**properties: str) -> dict[str, Any]:
    """Layout and style of a labelled control.

    Labels stand above their controls (divider.css), so that long ones cost no slider length.

    Args:
        **properties: CSS properties besides, such as flex.

    Returns:
        Keyword arguments of an ipywidgets control.
    """
    return {
        "layout": layout(**{"width": "auto", "height": "auto", **properties}),
        "style": {"description_width": "100%"},
    }


def flow(*children: ipywidgets.Widget, **properties: str) -> ipywidgets.Box:
    """Parts beside each other, going on below where the page is narrow.

    Args:
        *children: The parts.
        **properties: CSS properties of the box.

    Returns:
        A box.
    """
    wrapping = {"display": "flex", "flex_flow": "row wrap", "grid_gap": "16px"}
    return ipywidgets.Box(children, layout=layout(**{**wrapping, **properties}))


def heading(title: str, note: str) -> list[ipywidgets.HTML]:
    """Title and note of a panel.

    Args:
        title: Plain text.
        note: Plain text, a sentence or two.

    Returns:
        One part for each of the two that is not empty.

    Example:
        >>> [part.value for part in heading("a < b", "")]
        ['<div class="enh-title">a &lt; b</div>']
    """
    words = [(title, "enh-title"), (note, "enh-note")]
    return [
        ipywidgets.HTML(f'<div class="{style}">{html.escape(text)}</div>')
        for text, style in words
        if text
    ]


def close(widget: ipywidgets.Widget) -> None:
    """Take a widget and all its parts out of kernel and page.

    Args:
        widget: The whole.
    """
    for part in list(_tree(widget)):
        part.close()


def _tree(widget: ipywidgets.Widget) -> Iterator[ipywidgets.Widget]:
    for child in getattr(widget, "children", ()):
        yield from _tree(child)
    for part in ("layout", "style"):
        if isinstance(owned := getattr(widget, part, None), ipywidgets.Widget):
            yield owned
    yield widget
