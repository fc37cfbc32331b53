"""A run's folder: whose it is at the moment, and files in it that are never half-written."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import socket
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO
from weakref import WeakValueDictionary

LOCK_SECONDS = 10.0
# A notebook that runs its cells twice opens its folder twice: the process holds it already.
_HELD: WeakValueDictionary[Path, TextIO] = WeakValueDictionary()


class RunError(RuntimeError):
    """A run folder cannot be used: another run holds it, or it cannot be written."""


def hold(folder: Path) -> TextIO:
    """Lock a run folder for this process; the lock goes with the process, however it ends.

    Args:
        folder: Made where absent. A process that holds it already gets the same lock again.

    Returns:
        The open lock file. The folder is free again once nobody keeps it.

    Raises:
        RunError: If another process holds the folder for more than LOCK_SECONDS, or the folder
            cannot be written.

    Example:
        >>> hold(Path("/proc/nowhere"))
        Traceback (most recent call last):
        enhancelib.folders.RunError: the run folder /proc/nowhere cannot be written ...
    """
    held = _HELD.get(folder.resolve())
    if held is not None:
        return held
    lock = _open(folder)
    _wait(lock, folder)
    since = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    try:
        lock.truncate(0)
        lock.write(f"process {os.getpid()} on {socket.gethostname()} since {since}")
        lock.flush()
    except OSError as error:
        with contextlib.suppress(OSError):  # closing writes what is left
            lock.close()
        raise _unwritable(folder, error) from error
    _HELD[folder.resolve()] = lock
    return lock


def _wait(lock: TextIO, folder: Path) -> None:
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                lock.seek(0)
                holder = lock.read().strip() or "an unknown process"
                lock.close()
                raise RunError(
                    f"{folder} is held by {holder}; wait for it, stop it, or use another folder "
                    "with out"
                ) from None
            time.sleep(min(0.2, LOCK_SECONDS))


def _open(folder: Path) -> TextIO:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return (folder / ".lock").open("a+", encoding="utf-8")
    except OSError as error:
        raise _unwritable(folder, error) from error


def _unwritable(folder: Path, error: OSError) -> RunError:
    return RunError(
        f"the run folder {folder} cannot be written ({error.strerror}); free some space or choose "
        "another one with out"
    )


def insist_writable(folder: Path) -> None:
    """See that a run folder can be made and takes a few kilobytes, before a kernel starts.

    Args:
        folder: The run folder.

    Raises:
        RunError: If it cannot.

    Example:
        >>> insist_writable(Path("/proc/nowhere"))
        Traceback (most recent call last):
        enhancelib.folders.RunError: the run folder /proc/nowhere cannot be written ...
    """
    _open(folder).close()
    probe = folder / f".room-{os.getpid()}"
    write_text(probe, " " * 4096)
    probe.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Write a file so that a kill at any instant leaves the old one or the new one, whole.

    Args:
        path: The file; its folder is made where absent.

    Yields:
        Where to write: a file beside it that takes its place at the end of the block, and is
        removed where the block raises.

    Raises:
        RunError: If the folder cannot be written or the disk is full.

    Example:
        >>> with replacing(Path("/proc/nowhere/psnr.png")) as part:
        ...     part.touch()
        Traceback (most recent call last):
        enhancelib.folders.RunError: /proc/nowhere/psnr.png cannot be written ...
    """
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise RunError(
            f"{path} cannot be written ({error.strerror}); free some space or choose another "
            "folder with out"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink()


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all.

    Args:
        path: Its folder is made where absent.
        text: UTF-8.

    Raises:
        RunError: If the folder cannot be written or the disk is full.

    Example:
        >>> write_text(Path("/proc/nowhere/values.csv"), "")
        Traceback (most recent call last):
        enhancelib.folders.RunError: /proc/nowhere/values.csv cannot be written ...
    """
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def set_aside(
    folder: Path, code: str, *, parameters: str = "", ended_otherwise: bool = False
) -> bool:
    """Put away what other code or parameters left unfinished, so that no result mixes two.

    Args:
        folder: A run folder that this process holds.
        code: Digest of the code that is about to run.
        parameters: Digest of the parameters that change what is trained.
        ended_otherwise: A run ended here with another number of threads: nothing is to go on.

    Returns:
        Whether anything was put away, into `superseded/`.
    """
    mark = folder / "code.txt"
    now = [code, parameters]
    known = mark.read_text().split() if mark.exists() else now
    known += now[len(known) :]  # a mark of an earlier version tells the code alone
    stale = [folder / name for name in ("checkpoints", "once") if (folder / name).exists()]
    reason = "its parameters were others" if known[1] != parameters else ""
    if known[0] != code:
        reason = "the code has changed since"
    if ended_otherwise:
        reason = "the finished run had another number of threads"
    if reason and stale:
        old = folder / "superseded"
        shutil.rmtree(old, ignore_errors=True)
        old.mkdir()
        for path in stale:
            path.replace(old / path.name)
        print(
            f"{folder}: {reason}, so training starts again; what was there is in {old.name}/",
            flush=True,
        )
    write_text(mark, " ".join(now).strip())
    return bool(reason and stale)
