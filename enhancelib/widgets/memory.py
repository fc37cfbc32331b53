"""What an explorer keeps in the run folder: weights and photo, for when its cell runs again.

`explorer/state.json` is replaced as a whole; it names the reader's own photo by the hash of its
content, so a kill at any instant leaves a state and a photo that belong together.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from enhancelib import images
from enhancelib.folders import RunError, write_text
from enhancelib.widgets.terms import insist_weights
from enhancelib.widgets.worker import Newest

_SCHEMA = 1


@dataclass(frozen=True)
class Kept:
    """What is kept.

    Args:
        weights: Name -> weight of every term.
        photo: The photo chosen, by its name in the list.
        own: File name and picture, (3, H, W), of the reader's own photo; None where there is none.
    """

    weights: dict[str, float]
    photo: str
    own: tuple[str, Tensor] | None = None


def keep(folder: Path, kept: Kept) -> None:
    """Write the state so that a kill at any instant leaves the old one or the new one.

    Args:
        folder: The run folder; `explorer/` is made in it where absent.
        kept: What to keep.

    Raises:
        RunError: If the folder cannot be written or the disk is full.
        ImageError: If the photo cannot be written.

    Example:
        >>> keep(Path("/proc/nowhere"), Kept({"a": 1.0}, "cat"))
        Traceback (most recent call last):
        enhancelib.folders.RunError: /proc/nowhere/explorer/state.json cannot be written ...
        >>> import tempfile, torch
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     keep(Path(folder), Kept({"a": 1.0}, "cat", ("cat.png", torch.full((3, 2, 2), 7.0))))
        Traceback (most recent call last):
        enhancelib.images.ImageError: ...: values lie in [7, 7]; expected [0, 1]: ...
    """
    home = folder / "explorer"
    state: dict[str, Any] = {"schema": _SCHEMA, "weights": kept.weights, "photo": kept.photo}
    if kept.own is not None:
        name, picture = kept.own
        file = f"photo-{_digest(picture)}.png"
        if not (home / file).is_file():
            home.mkdir(parents=True, exist_ok=True)
            images.write(home / file, picture)
        state["own"] = {"name": name, "file": file}
    write_text(home / "state.json", json.dumps(state, indent=1) + "\n")
    with contextlib.suppress(OSError):
        for old in home.glob("photo-*.png"):
            if kept.own is None or old.name != file:
                old.unlink()


def recall(folder: Path, names: Sequence[str]) -> Kept | None:
    """Read back what was kept.

    Args:
        folder: The run folder.
        names: The terms of the objective; the weights kept must be theirs.

    Returns:
        What was kept, or None where nothing was.

    Raises:
        ValueError: If the state is damaged or belongs to other terms, or its photo is unreadable.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> recall(folder, ["a"]) is None
        True
        >>> keep(folder, Kept({"a": 1.0}, "cat"))
        >>> recall(folder, ["a"])
        Kept(weights={'a': 1.0}, photo='cat', own=None)
        >>> recall(folder, ["b"])
        Traceback (most recent call last):
        ValueError: .../explorer/state.json cannot be used ('a' is no term; the terms are b); ...
    """
    path = folder / "explorer" / "state.json"
    try:
        if not path.is_file():
            return None
        state = json.loads(path.read_text(encoding="utf-8"))
        return _kept(path.parent, state, names)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        said = f"no {error}" if isinstance(error, KeyError) else error
        raise ValueError(
            f"{path} cannot be used ({said}); the weights and the first photo given are shown"
        ) from error


def _kept(home: Path, state: dict[str, Any], names: Sequence[str]) -> Kept:
    if state["schema"] != _SCHEMA:
        raise ValueError(f"schema is {state['schema']!r}; expected {_SCHEMA}")
    weights, photo, own = insist_weights(state["weights"], names), str(state["photo"]), None
    if "own" in state:
        name, file = str(state["own"]["name"]), Path(str(state["own"]["file"])).name
        own = (name, images.read(home / file))
    return Kept(weights, photo, own)


def _digest(picture: Tensor) -> str:
    return hashlib.sha256(images.to_uint8(picture).cpu().numpy().tobytes()).hexdigest()[:16]


class Memory:
    """Keeps states in a run folder, in the background; what goes wrong is a sentence.

    Args:
        folder: The run folder; None keeps nothing and remembers nothing.
        complain: Called with a sentence where the state cannot be written.

    Example:
        >>> memory = Memory(Path("/proc/nowhere"), print)
        >>> memory.keep(Kept({"a": 1.0}, "cat"))
        >>> memory.wait(10)
        Not kept: /proc/nowhere/explorer/state.json cannot be written (No such file or directory); \
free some space or choose another folder with out
        True
    """

    def __init__(self, folder: Path | None, complain: Callable[[str], None]) -> None:
        self._folder, self._complain, self._worker = folder, complain, Newest()

    def recall(self, names: Sequence[str]) -> Kept | None:
        """Read back what was kept; as the function of this name.

        Args:
            names: The terms of the objective.

        Returns:
            What was kept, or None.
        """
        return recall(self._folder, names) if self._folder else None

    def keep(self, kept: Kept) -> None:
        """Keep a state soon; of several that wait only the newest is written.

        Args:
            kept: The state.
        """
        if self._folder is not None:
            self._worker.submit(lambda: self._keep(kept))

    def wait(self, seconds: float) -> bool:
        """Wait until what was given is kept.

        Args:
            seconds: How long at most.

        Returns:
            False when the time ran out first.
        """
        return self._worker.wait(seconds)

    def close(self) -> None:
        """Keep what is being written, and take no more."""
        self._worker.wait(10.0)
        self._worker.close()

    def _keep(self, kept: Kept) -> None:
        assert self._folder is not None
        try:
            keep(self._folder, kept)
        except (OSError, RunError, images.ImageError) as error:
            self._complain(f"Not kept: {error}")
