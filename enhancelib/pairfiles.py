"""Files of picture pairs: listing, checking once, decoding in threads."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from enhancelib import runtime
from enhancelib.datasets import DataError
from enhancelib.decoding import Refused, decode
from enhancelib.folders import RunError, write_text
from enhancelib.pairpool import Pairs

PAGE = (
    "DPED, Computer Vision Lab of ETH Zurich (linked from github: aiff22/DPED); PIRM subset: "
    "github: aiff22/ai-challenge, dped/patches (data/README.md)"
)
_LIMIT = 50_000_000  # pixels of one picture
_THREADS = 4
_LARGE = 2000  # pairs from which on a check tells how far it is
T = TypeVar("T")


@dataclass(frozen=True)
class PairFiles:
    """The files of one set: a phone's pictures and the camera's, partner by partner.

    Args:
        title: What tables and messages call the set.
        phone: Folder of the phone's pictures.
        camera: Folder of the camera's; may be the same.
        names: (file name in `phone`, file name in `camera`) of every pair.
    """

    title: str
    phone: Path
    camera: Path
    names: tuple[tuple[str, str], ...]

    def __len__(self) -> int:
        """The number of pairs."""
        return len(self.names)

    def numbers(self) -> list[int]:
        """The N of every N.jpg.

        Returns:
            One number per pair, in order; -1 where a name ends in none.
        """
        return [number(Path(name).stem) for name, _ in self.names]

    def choose(self, places: Sequence[int]) -> PairFiles:
        """Some of the pairs.

        Args:
            places: Which, counted from 0.

        Returns:
            The same set with those alone, in the order given.
        """
        return replace(self, names=tuple(self.names[k] for k in places))

    def paths(self) -> list[Path]:
        """Every file.

        Returns:
            Phone's, camera's, phone's, camera's, ...
        """
        return [f / n for pair in self.names for f, n in zip(self._folders, pair, strict=True)]

    def read(self, places: Sequence[int] | None = None) -> Pairs:
        """Decode pairs.

        Args:
            places: Which, counted from 0; None means all.

        Returns:
            The pictures with 8 bits.

        Raises:
            DataError: If there is no pair, a file cannot be decoded, or sizes differ.

        Example:
            >>> PairFiles("DPED", Path("a"), Path("b"), (("0.jpg", "0.jpg"),)).read()
            Traceback (most recent call last):
            enhancelib.datasets.DataError: DPED: a/0.jpg: no such file; check the path. ...
        """
        chosen = range(len(self)) if places is None else places
        decoded = list(_in_threads(self._decode, chosen))
        if not decoded:
            raise DataError(f"{self.title}: no pair to read. Official page: {PAGE}")
        for place, pair in zip(chosen, decoded, strict=True):
            self._insist_size(place, pair.shape, decoded[0].shape)
        names = tuple(Path(self.names[k][0]).stem for k in chosen)
        return Pairs(names, torch.stack(decoded, dim=1))

    @property
    def _folders(self) -> tuple[Path, Path]:
        return self.phone, self.camera

    def _decode(self, place: int) -> Tensor:
        """(2, 3, H, W) uint8 of one pair."""
        paths = [folder / n for folder, n in zip(self._folders, self.names[place], strict=True)]
        first, second = (_levels(path, self.title) for path in paths)
        if first.shape != second.shape:
            raise DataError(
                f"{self.title}: {paths[0]} is {_size(first.shape)}, {paths[1]} is "
                f"{_size(second.shape)}; expected one size in a pair. Get both files again. "
                f"Official page: {PAGE}"
            )
        return torch.stack([first, second])

    def _insist_size(self, place: int, shape: torch.Size, first: torch.Size) -> None:
        if shape != first:
            raise DataError(
                f"{self.title}: {self.phone / self.names[place][0]} is {_size(shape)}, the pairs "
                f"before it {_size(first)}; crops are cut from pairs of one size. Leave it out or "
                f"cut it. Official page: {PAGE}"
            )


@dataclass(frozen=True)
class Checked:
    """What a check found out.

    Args:
        height: Of every picture, in pixels.
        width: Of every picture.
        white: Places of the pairs that are pure white in both pictures.
    """

    height: int
    width: int
    white: tuple[int, ...]


def check(files: PairFiles) -> Checked:
    """Decode every file once, and see that the set can be trained on.

    A receipt in the user's cache, of names, sizes and times of change, spares the second time.

    Args:
        files: A set as `find` lists it.

    Returns:
        The size of its pictures, and which pairs are pure white.

    Raises:
        DataError: If there is no pair, a file is no whole picture, or sizes differ inside a pair
            or between pairs.

    Example:
        >>> check(PairFiles("DPED", Path("a"), Path("b"), (("0.jpg", "0.jpg"),)))
        Traceback (most recent call last):
        enhancelib.datasets.DataError: DPED: a/0.jpg: no such file; check the path. Official ...
    """
    if not len(files):
        raise DataError(f"{files.title}: no pair in {files.phone}. Official page: {PAGE}")
    digest = _digest(files)
    place = runtime.cache() / "pairs" / f"{_key(files)}.json"
    with suppress(OSError, ValueError, TypeError, KeyError):
        kept = json.loads(place.read_text(encoding="utf-8"))
        if digest and kept.pop("digest") == digest:
            return Checked(kept["height"], kept["width"], tuple(kept["white"]))
    checked = _decode_all(files)
    with suppress(OSError, RunError):  # without a receipt, the next run checks again
        write_text(place, json.dumps({"digest": digest, **asdict(checked)}))
    return checked


def _decode_all(files: PairFiles) -> Checked:
    first, white = None, []
    for place, (shape, is_white) in enumerate(_told(files)):
        first = shape if first is None else first
        files._insist_size(place, shape, first)
        if is_white:
            white.append(place)
    assert first is not None
    return Checked(first[-2], first[-1], tuple(white))


def _told(files: PairFiles) -> Iterator[tuple[torch.Size, bool]]:
    """(shape, pure white) of every pair, with one line on how far it is for a large set."""

    def look(place: int) -> tuple[torch.Size, bool]:
        pair = files._decode(place)
        return pair.shape, bool(pair.min() == 255)

    title, quiet = f"checking {files.title}, once", len(files) < _LARGE
    pairs = _in_threads(look, range(len(files)))
    yield from tqdm(pairs, title, len(files), unit="pair", disable=quiet)


def _in_threads(task: Callable[[int], T], places: Sequence[int]) -> Iterator[T]:
    """The task's results, in order; no more than some hundred wait in memory."""
    limit = Image.MAX_IMAGE_PIXELS  # `decode` swaps it, and threads may swap it back out of turn
    try:
        with ThreadPoolExecutor(_THREADS) as threads:
            for start in range(0, len(places), 512):
                yield from threads.map(task, places[start : start + 512])
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def _levels(path: Path, title: str) -> Tensor:
    """(3, H, W) uint8."""
    try:
        pixels = decode(path, _LIMIT)
    except Refused as error:
        raise DataError(f"{title}: {path}: {error}. Official page: {PAGE}") from error
    if pixels.dtype != np.uint8:
        raise DataError(f"{title}: {path} has 16 bits per channel; expected 8 as in a JPEG")
    return torch.from_numpy(pixels).permute(2, 0, 1).expand(3, -1, -1)


def _size(shape: torch.Size) -> str:
    return f"{shape[-1]} x {shape[-2]}"


def number(stem: str) -> int:
    """The number at the end of a file name.

    Args:
        stem: The name without its suffix.

    Returns:
        The number, or -1 where there is none.
    """
    digits = re.search(r"(\d+)$", stem)
    return int(digits[1]) if digits else -1


def _key(files: PairFiles) -> str:
    places = f"{files.title} {files.phone.resolve()} {files.camera.resolve()}"
    return hashlib.sha256(places.encode()).hexdigest()[:24]


def _digest(files: PairFiles) -> str:
    """Of names, sizes and times of change; empty where a file cannot be asked."""
    total = hashlib.sha256()
    try:
        for path in files.paths():
            seen = path.stat()
            total.update(f"{path.name} {seen.st_size} {seen.st_mtime_ns}\n".encode())
    except OSError:
        return ""
    return total.hexdigest()
