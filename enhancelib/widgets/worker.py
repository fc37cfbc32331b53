"""One background job at a time, and only the newest of those that wait.

A slider that is dragged asks for twenty pictures while the first is still being computed. The
nineteen in between are nobody's wish any more, so a waiting job is replaced, not queued.
"""

from __future__ import annotations

import threading
from collections.abc import Callable


def sentence(error: Exception) -> str:
    """What a reader is told of an error that a background job met.

    A ValueError or OSError is written for people; others need their type to make sense.

    Args:
        error: Any exception.

    Returns:
        One line or more, never empty.

    Example:
        >>> sentence(ValueError("sigma is -1; expected 0 or more")), sentence(KeyError("layer"))
        ('sigma is -1; expected 0 or more', "KeyError: 'layer'")
    """
    text = str(error).strip()
    if isinstance(error, ValueError | OSError) and text:
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


class Newest:
    """Run jobs in a background thread; a waiting job gives way to a newer one.

    The thread lives only while there is work, so an idle one leaves nothing behind. Jobs must
    handle their own errors: there is nobody above them to catch one.

    Example:
        >>> seen = []
        >>> worker = Newest()
        >>> worker.submit(lambda: seen.append("done"))
        >>> worker.wait(10)
        True
        >>> seen
        ['done']
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: Callable[[], None] | None = None
        self._thread: threading.Thread | None = None
        self._closed = False

    def submit(self, job: Callable[[], None]) -> None:
        """Ask for a job; it replaces one that waits, never the one that runs.

        Args:
            job: What to run. After `close` it is dropped.
        """
        with self._changed:
            if self._closed:
                return
            self._waiting = job
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="panel", daemon=True)
                self._thread.start()

    @property
    def superseded(self) -> bool:
        """Whether a newer job waits for the one that runs.

        Returns:
            True when what the running job has not begun yet is nobody's wish any more.
        """
        with self._changed:
            return self._waiting is not None

    def wait(self, seconds: float) -> bool:
        """Wait until nothing runs and nothing waits.

        Args:
            seconds: How long at most.

        Returns:
            True when all work is done, False when the time ran out first.
        """
        with self._changed:
            return self._changed.wait_for(lambda: self._thread is None, timeout=seconds)

    def close(self, seconds: float = 10.0) -> None:
        """Drop what waits, take no more, and let the running job end.

        Args:
            seconds: How long to wait for the running job.
        """
        with self._changed:
            self._closed, self._waiting = True, None
        self.wait(seconds)

    def _next(self) -> Callable[[], None] | None:
        with self._changed:
            job, self._waiting = self._waiting, None
            if job is None:
                self._thread = None
                self._changed.notify_all()
            return job

    def _work(self) -> None:
        while job := self._next():
            try:
                job()
            except BaseException:
                with self._changed:  # a dead thread must not look like a busy one
                    self._thread, self._waiting = None, None
                    self._changed.notify_all()
                raise
