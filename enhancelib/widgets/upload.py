"""A button that brings one of the reader's files to the kernel.

ipywidgets' FileUpload sends a file as one message. Jupyter's server ends the connection when a
message exceeds 10 MB, so a photo of 14 MB vanished without a word (measured, jupyter_server 2.21).
This one sends parts of 1 MB; see upload.js beside this file.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anywidget
import traitlets

MOST = 128 * 2**20  # bytes; a 16-bit PNG of 20 megapixels stays below it


class PhotoUpload(anywidget.AnyWidget):
    """A button for choosing one picture file.

    Observe `file`: it becomes (name, bytes) when a file has arrived whole. `refused` becomes a
    sentence when one is too large to be sent.

    Args:
        label: The button's text.
        most: Largest file in bytes.

    Raises:
        TraitError: If a value has another type.

    Example:
        >>> upload = PhotoUpload(label="your own photo")
        >>> upload.file is None, upload.most == 128 * 2**20
        (True, True)
        >>> PhotoUpload(most="much")
        Traceback (most recent call last):
        traitlets.traitlets.TraitError: ...
    """

    _esm = Path(__file__).parent / "upload.js"

    label = traitlets.Unicode("choose a file").tag(sync=True)
    most = traitlets.Int(MOST).tag(sync=True)
    file = traitlets.Any(None, allow_none=True)
    refused = traitlets.Unicode("")

    def __init__(self, **traits: Any) -> None:  # noqa: ANN401 - the traits check their types
        super().__init__(**traits)
        self._name, self._size, self._parts = "", 0, bytearray()
        self.on_msg(self._message)

    def _message(self, _widget: object, content: dict[str, Any], buffers: Sequence[bytes]) -> None:
        if content.get("kind") == "file":
            self._start(str(content["name"]), int(content["size"]))
        elif content.get("kind") == "part" and content["at"] == len(self._parts):
            self._parts += buffers[0]
            self._finish()

    def _start(self, name: str, size: int) -> None:
        self._name, self._size, self._parts = name, size, bytearray()
        if size > self.most:
            self.refused = ""  # the same sentence twice must be seen twice
            self.refused = f"{name}: {size / 1e6:.0f} MB; expected at most {self.most / 1e6:.0f} MB"
        elif size == 0:
            self._finish()

    def _finish(self) -> None:
        if len(self._parts) == self._size:
            content, self._parts = bytes(self._parts), bytearray()
            self.file = None  # the same file twice is two uploads
            self.file = (self._name, content)
            self.file = None  # whoever wanted the bytes has them
