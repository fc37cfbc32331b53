"""Which photo a panel shows: one of those at hand, or the reader's own."""

from __future__ import annotations

import html
import threading
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

import ipywidgets
from torch import Tensor

from enhancelib.images import ImageError
from enhancelib.widgets import pictures as _pictures
from enhancelib.widgets.layout import layout, shape
from enhancelib.widgets.upload import PhotoUpload

YOURS = "yours: "
T = TypeVar("T")


class PhotoChooser(Generic[T]):
    """A dropdown of named loaders, a button for the reader's own photo, and a hint on its size.

    Attributes: `dropdown`, `upload`, `hint` (the three controls), `loaders` (name -> loader, in
    place), `own` (name and picture of the reader's photo, or None).

    Args:
        loaders: Name -> what loads it; the first is chosen.
        own: Makes of the reader's photo, (3, H, W), what a loader returns.
        limit: Longest side of the reader's photo in pixels; a larger one is reduced to it.
        chosen: Called when another photo is wanted, with True where the loaders changed as well.
        refused: Called with a sentence when a file cannot be taken.

    Raises:
        ValueError: If there is no loader, or `limit` is not positive.

    Example:
        >>> chooser = PhotoChooser(
        ...     {"a": lambda: 1, "b": lambda: 2},
        ...     own=lambda photo: 3, limit=64, chosen=print, refused=print,
        ... )
        >>> chooser.dropdown.value = "b"
        False
        >>> chooser.load()
        2
        >>> PhotoChooser({}, own=id, limit=64, chosen=print, refused=print)
        Traceback (most recent call last):
        ValueError: pictures is empty; expected at least one name with a loader
    """

    def __init__(
        self,
        loaders: Mapping[str, Callable[[], T]],
        *,
        own: Callable[[Tensor], T],
        limit: int,
        chosen: Callable[[bool], None],
        refused: Callable[[str], None],
    ) -> None:
        if not loaders:
            raise ValueError("pictures is empty; expected at least one name with a loader")
        if limit < 1:
            raise ValueError(f"limit is {limit}; expected a positive number of pixels")
        self.loaders = dict(loaders)
        self.own: tuple[str, Tensor] | None = None
        self._make, self._limit = own, limit
        self._chosen, self._refused, self._quiet = chosen, refused, 0
        self.dropdown = ipywidgets.Dropdown(options=list(loaders), description="photo", **shape())
        self.upload = PhotoUpload(label="open your own photo …", layout=layout(margin="4px 2px"))
        self.hint = ipywidgets.HTML(layout=layout(margin="0 2px 4px"))
        self._usual = f"A side of at most {limit} pixels; larger photos are reduced."
        self._said = self._usual  # of the reader's photo
        self._say(self._usual)
        self.dropdown.observe(self._changed, "value")
        self.upload.observe(self._uploaded, "file")
        self.upload.observe(self._too_large, "refused")

    def load(self) -> T:
        """What the chosen photo's loader returns.

        Returns:
            It, loaded anew.
        """
        return self.loaders[self.dropdown.value]()

    def offer(self, name: str, picture: Tensor) -> None:
        """Put a photo of the reader's into the list, in the place of an earlier one, and choose it.

        Args:
            name: Its file name.
            picture: (3, H, W) in [0, 1].
        """
        for key in [key for key in self.loaders if key.startswith(YOURS)]:
            del self.loaders[key]
        self.loaders[f"{YOURS}{name}"] = lambda: self._make(picture)
        self.own = (name, picture)
        self.choose(f"{YOURS}{name}")

    def choose(self, name: str) -> None:
        """Show a name in the dropdown without asking for it.

        Args:
            name: One of the loaders'.
        """
        self._quiet = threading.get_ident()  # new options pass through the first one
        if tuple(self.loaders) != tuple(self.dropdown.options):
            self.dropdown.options = list(self.loaders)
        self.dropdown.value = name
        self._quiet = 0
        self._hint()

    def close(self) -> None:
        """Hear nothing more; the controls are closed with the panel that shows them."""
        self.dropdown.unobserve_all()
        self.upload.unobserve_all()

    def _say(self, text: str) -> None:
        self.hint.value = f'<span class="enh-hint" role="status">{html.escape(text)}</span>'

    def _changed(self, _change: object) -> None:
        if self._quiet != threading.get_ident():  # else it is our own doing, not the reader's
            self._hint()
            self._chosen(False)

    def _hint(self) -> None:
        yours = str(self.dropdown.value).startswith(YOURS)
        self._say(self._said if yours else self._usual)

    def _uploaded(self, change: Mapping[str, Any]) -> None:
        if change["new"] is None:
            return
        name, content = change["new"]
        try:
            picture, said = _pictures.opened(name, content, limit=self._limit)
        except ImageError as error:
            self._refused(f"Not loaded: {error}")
            return
        self._said = said
        self.offer(name, picture)
        self._chosen(True)

    def _too_large(self, change: Mapping[str, Any]) -> None:
        if change["new"]:
            self._refused(f"Not loaded: {change['new']}")
