"""One start of a command whose process tree can be frozen, and killed as a whole."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil  # type: ignore[import-untyped]


class SoakError(RuntimeError):
    """The run failed by itself, so nothing can be said of kills."""


class Start:
    """The command, started once.

    Args:
        command: Words.
        folder: Its run folder.
        environment: Of the process.
    """

    def __init__(
        self, command: Sequence[str], folder: Path, environment: Mapping[str, str]
    ) -> None:
        self.log = folder.with_name(folder.name + ".log")
        self.lock = folder / ".lock"
        self.holder = self._holder()
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.time, self.began = time.time_ns(), time.monotonic()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, env=dict(environment), start_new_session=True
            )
        self._tree: list[psutil.Process] = []
        self._listed = 0.0

    def alive(self) -> bool:
        """Whether it still runs; it must not have failed by itself."""
        code = self.process.poll()
        if code:
            tail = self.log.read_text(encoding="utf-8", errors="replace")[-2000:]
            raise SoakError(f"the run ended by itself with exit code {code}\n{tail}")
        return code is None

    def opened(self) -> bool:
        """Whether it has taken the run folder: the lock names another process than before."""
        return self._holder() not in ("", self.holder)

    def _holder(self) -> str:
        return self.lock.read_text(encoding="utf-8") if self.lock.exists() else ""

    def freeze(self) -> None:
        """Stop every process of the tree where it stands."""
        self._send(signal.SIGSTOP)  # first those known, then those that came since
        self._list()
        self._send(signal.SIGSTOP)
        deadline = time.monotonic() + 1
        while time.monotonic() < deadline and any(map(_runs, self._tree)):
            time.sleep(0.001)

    def thaw(self) -> None:
        """Let it go on."""
        self._send(signal.SIGCONT)

    def watch(self) -> None:
        """Keep the list of its processes fresh, so that `freeze` loses no time."""
        if time.monotonic() - self._listed > 0.5:
            self._list()

    def kill(self) -> float:
        """SIGKILL for the whole tree; seconds that it lived."""
        self.freeze()  # a stopped tree starts no more processes
        lived = time.monotonic() - self.began
        self._list()
        self._send(signal.SIGKILL)
        self.process.wait(timeout=60)
        psutil.wait_procs(self._tree, timeout=60)
        return lived

    def _list(self) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            first = psutil.Process(self.process.pid)
            self._tree = [first, *first.children(recursive=True)]
        self._listed = time.monotonic()

    def _send(self, number: int) -> None:
        for process in self._tree:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)


def _runs(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(process.status() not in (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE))
    return False


def finish(command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> None:
    """Run the command to its end, undisturbed."""
    start = Start(command, folder, environment)
    try:
        while start.alive():
            time.sleep(0.05)
    except BaseException:
        start.kill()
        raise
