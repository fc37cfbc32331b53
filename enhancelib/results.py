"""What a run leaves behind: values, tables, figures, claims and the environment.

A run owns one folder. Every number goes through `Run.record` into one long table (values.csv);
tables and figures are views of it. results.json is written once, at the end, atomically: its
presence means that the notebook ran through.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import math
import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, cast

from enhancelib import claims, runtime

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

SCHEMA = 1
PRINTED_WIDTH = 7.0  # inches: the text width at which figures are judged
SMALLEST_TEXT = 7.0  # points at that width
COLUMNS = ("table", "dataset", "setting", "method", "metric", "image", "seed", "value", "timed")
LOCK_SECONDS = 10.0


class RunError(RuntimeError):
    """A run folder cannot be used: another run holds it, or it cannot be written."""


@dataclass
class Run:
    """One run of one paper's notebook, and the folder that it owns.

    Args:
        slug: The paper.
        profile: "smoke", "small", "large" or "paper".
        parameters: All parameters of the run, recorded verbatim.
        folder: Where the run writes; see `folder_of`.
        runtime: The machine's settings.

    Raises:
        RunError: If another process holds the folder for more than 10 s, or it cannot be written.

    Example:
        >>> import tempfile
        >>> run = Run("dncnn", "smoke", {"seed": 0}, Path(tempfile.mkdtemp()), runtime.setup("cpu"))
        >>> run.record(dataset="Set12", method="DnCNN", metric="psnr", value=30.4, seed=0)
        >>> run.finish().name
        'results.json'
        >>> Run("dncnn", "smoke", {}, Path("/proc/nowhere"), runtime.setup("cpu"))
        Traceback (most recent call last):
        enhancelib.results.RunError: the run folder /proc/nowhere cannot be written ...
    """

    slug: str
    profile: str
    parameters: Mapping[str, Any]
    folder: Path
    runtime: runtime.Runtime
    tables: dict[str, str] = field(default_factory=dict)
    figures: dict[str, dict[str, Any]] = field(default_factory=dict)
    parity: list[dict[str, Any]] = field(default_factory=list)
    claims: list[dict[str, Any]] = field(default_factory=list)
    notes: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Take the folder, and withdraw the results of an earlier run of it."""
        self._began = time.monotonic()
        self._values: list[dict[str, Any]] = []
        self._lock = _take(self.folder)
        (self.folder / "results.json").unlink(missing_ok=True)

    def record(
        self,
        *,
        dataset: str,
        method: str,
        metric: str,
        value: float,
        seed: int | None = None,
        image: str = "mean",
        setting: str = "",
        table: str = "",
        timed: bool = False,
    ) -> None:
        """Add one number.

        Args:
            dataset: What it was measured on, such as "Set12".
            method: Whose output was measured.
            metric: Name of the metric, as in `metrics.METRICS`, or of another quantity.
            value: The number; not finite means n/a.
            seed: Of the training; None where nothing random was trained.
            image: Name of the picture, or "mean" over the data set.
            setting: What was varied, such as "sigma=25".
            table: The table or figure that it belongs to.
            timed: A measured time, which no comparison of two runs looks at.
        """
        row = (table, dataset, setting, method, metric, image, seed, float(value), timed)
        self._values.append(dict(zip(COLUMNS, row, strict=True)))

    def values(self, **where: object) -> pd.DataFrame:
        """The numbers recorded so far.

        Args:
            **where: Columns and the value (or list of values) that a row must have there.

        Returns:
            A frame with the columns of values.csv.

        Raises:
            KeyError: If a name is no column of values.csv.

        Example:
            >>> import tempfile
            >>> run = Run("x", "smoke", {}, Path(tempfile.mkdtemp()), runtime.setup("cpu"))
            >>> run.record(dataset="a", method="m", metric="psnr", value=1.0)
            >>> len(run.values(dataset="a")), len(run.values(dataset=["b"]))
            (1, 0)
            >>> run.values(colour="red")
            Traceback (most recent call last):
            KeyError: "'colour' is no column of values.csv; it has table, dataset, setting, ...
        """
        import pandas as pd

        return select(pd.DataFrame(self._values, columns=list(COLUMNS)), **where)

    def once(self, key: str, function: Callable[[], Any]) -> Any:  # noqa: ANN401
        """The result of an expensive step, computed at most once in the life of the folder.

        Args:
            key: Names the step within the run.
            function: Gives plain JSON values (numbers, text, lists, dicts).

        Returns:
            What the function gave, now or in an earlier run that was cut short.
        """
        path = self.folder / "once" / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.json"
        if path.exists():
            return json.loads(path.read_text())["value"]
        text = json.dumps({"key": key, "value": function()})
        write_text(path, text)
        return json.loads(text)["value"]

    def table(self, name: str, frame: pd.DataFrame, *, note: str = "") -> pd.DataFrame:
        """Keep a table as csv, Markdown and LaTeX.

        Args:
            name: File name without suffix.
            frame: What to print, formatted or not.
            note: Protocols and reservations, printed under the table.

        Returns:
            The same frame, for the notebook to show.
        """
        from enhancelib import tables

        for suffix, text in tables.forms(frame, note=note).items():
            write_text(self.folder / "tables" / f"{name}.{suffix}", text)
        self.tables[name] = f"tables/{name}.csv"
        return frame

    def figure(self, name: str, figure: Figure, *, photos: Sequence[str] = ()) -> Path:
        """Keep a figure as PNG.

        Args:
            name: File name without suffix.
            figure: Its text must be legible when printed 7 inches wide.
            photos: Names of the pictures it shows; `publish` leaves out a figure with a picture
                that is not in the photo bank or whose licence does not allow it.

        Returns:
            The file.

        Raises:
            ValueError: If any text is under 7 pt at printed width.

        Example:
            >>> import tempfile
            >>> from matplotlib.figure import Figure
            >>> run = Run("x", "smoke", {}, Path(tempfile.mkdtemp()), runtime.setup("cpu"))
            >>> wide = Figure(figsize=(14, 3))
            >>> _ = wide.text(0.5, 0.5, "noise level", fontsize=10)
            >>> run.figure("wide", wide)
            Traceback (most recent call last):
            ValueError: figure 'wide': 'noise level' is 5.0 pt at 7.0 inches; at least 7.0 pt ...
        """
        _insist_legible(name, figure)
        path = self.folder / "figures" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        figure.savefig(part, format="png", dpi=150, bbox_inches="tight", facecolor="white")
        part.replace(path)
        self.figures[name] = {"file": f"figures/{name}.png", "photos": list(photos)}
        return path

    def agree(self, name: str, *, ours: float, published: float, within: float, by: str) -> bool:
        """Keep a parity figure: a published number that official weights should give back.

        Args:
            name: What was measured, and on what.
            ours: Measured here.
            published: In the paper.
            within: Largest difference that counts as agreement, fixed before the run.
            by: What it was measured with, such as "official weights".

        Returns:
            Whether the two agree.
        """
        agrees = abs(ours - published) <= within
        row = {"name": name, "ours": ours, "published": published, "within": within, "by": by}
        self.parity.append({**row, "agrees": agrees})
        return agrees

    def claim(
        self,
        name: str,
        statement: str,
        *,
        statistic: float | Sequence[float] | None,
        margin: float,
        test_set: str,
        by: str,
    ) -> bool | None:
        """Judge a claim of the paper; see `claims.judge`.

        Args:
            name: Short name.
            statement: The claim in one sentence.
            statistic: One number, or paired per-seed differences; None where nothing was measured.
            margin: The claim holds where the statistic is above this.
            test_set: What it was measured on.
            by: "official weights", "own training" or "analysis".

        Returns:
            True, False, or None when it cannot be judged: at profile smoke, without a measurement,
            or when the interval crosses the margin.
        """
        verdict = claims.judge(statistic, margin=margin, smoke=self.profile == "smoke")
        row = {"name": name, "statement": statement, "holds": verdict.holds, "by": by}
        row["evidence"] = f"{verdict.evidence}; margin {margin:g}; on {test_set}"
        self.claims.append(row)
        return verdict.holds

    def finish(self) -> Path:
        """Write values.csv and, last of all, results.json.

        Returns:
            The path of results.json.
        """
        write_text(self.folder / "values.csv", self.values().to_csv(index=False))
        results = {
            "schema": SCHEMA,
            "slug": self.slug,
            "profile": self.profile,
            "parameters": dict(self.parameters),
            "tables": self.tables,
            "figures": self.figures,
            "parity": self.parity,
            "claims": self.claims,
            "notes": self.notes,
            "environment": dict(runtime.environment(self.runtime)),
            "date": datetime.now(UTC).strftime("%Y-%m-%d"),
            "seconds": round(time.monotonic() - self._began, 1),
        }
        path = self.folder / "results.json"
        write_text(path, json.dumps(results, indent=1) + "\n")
        return path


def folder_of(slug: str, profile: str, parameters: Mapping[str, Any]) -> Path:
    """Where a run writes: runs/<slug>/<profile>-<hash of parameters>/ under the project.

    Args:
        slug: The paper.
        profile: The profile.
        parameters: All parameters; "out" and "profile" do not enter the hash.

    Returns:
        An absolute path.
    """
    kept = {k: v for k, v in sorted(parameters.items()) if k not in ("out", "profile")}
    digest = hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:8]
    return runtime.root() / "runs" / slug / f"{profile}-{digest}"


def open_run(slug: str, parameters: Any) -> Run:  # noqa: ANN401 - any paper's Parameters
    """Open the run folder for a paper's checked parameters.

    Args:
        slug: The paper.
        parameters: The frozen dataclass of the paper, with profile, device and out.

    Returns:
        The run, its folder locked for this process.

    Raises:
        TypeError: If `parameters` is no dataclass.

    Example:
        >>> open_run("dncnn", {"profile": "smoke"})
        Traceback (most recent call last):
        TypeError: parameters is a dict; expected the Parameters that running.check returns
    """
    if not is_dataclass(parameters) or isinstance(parameters, type):
        kind = type(parameters).__name__
        raise TypeError(
            f"parameters is a {kind}; expected the Parameters that running.check returns"
        )
    plain = asdict(parameters)
    folder = Path(plain["out"]).resolve() if plain["out"] else None
    return Run(
        slug,
        plain["profile"],
        plain,
        folder or folder_of(slug, plain["profile"], plain),
        runtime.setup(plain["device"]),
    )


def select(frame: pd.DataFrame, **where: object) -> pd.DataFrame:
    """Rows of a values frame.

    Args:
        frame: With the columns of values.csv.
        **where: Columns and the value (or list of values) that a row must have there.

    Returns:
        The rows, in their order.

    Raises:
        KeyError: If a name is no column.

    Example:
        >>> import pandas as pd
        >>> select(pd.DataFrame({"method": ["a", "b"]}), method="b").index.tolist()
        [1]
        >>> select(pd.DataFrame({"method": ["a", "b"]}), sigma=3)
        Traceback (most recent call last):
        KeyError: "'sigma' is no column of values.csv; it has method"
    """
    for name, wanted in where.items():
        if name not in frame.columns:
            raise KeyError(
                f"{name!r} is no column of values.csv; it has {', '.join(frame.columns)}"
            )
        frame = frame[frame[name].isin(wanted if isinstance(wanted, list) else [wanted])]
    return frame


def write_text(path: Path, text: str) -> None:
    """Write a text file so that a kill leaves the old file or the new one, never half of one.

    Args:
        path: Its folder is made where absent.
        text: UTF-8.

    Raises:
        RunError: If the folder cannot be written or the disk is full.

    Example:
        >>> write_text(Path("/proc/nowhere/values.csv"), "")
        Traceback (most recent call last):
        enhancelib.results.RunError: /proc/nowhere/values.csv cannot be written ...
    """
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink()
        raise RunError(
            f"{path} cannot be written ({error.strerror}); free some space or choose another "
            "folder with out"
        ) from error


def insist_writable(folder: Path) -> None:
    """See that a run folder can be made and written, before a kernel starts.

    Args:
        folder: The run folder.

    Raises:
        RunError: If it cannot.

    Example:
        >>> insist_writable(Path("/proc/nowhere"))
        Traceback (most recent call last):
        enhancelib.results.RunError: the run folder /proc/nowhere cannot be written ...
    """
    _open_lock(folder).close()


def _open_lock(folder: Path) -> TextIO:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return (folder / ".lock").open("a+", encoding="utf-8")
    except OSError as error:
        raise RunError(
            f"the run folder {folder} cannot be written ({error.strerror}); "
            "choose another one with out"
        ) from error


def _take(folder: Path) -> TextIO:
    """Lock the folder for this process; the lock goes with the process, however it ends."""
    lock = _open_lock(folder)
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() > deadline:
                lock.seek(0)
                holder = lock.read().strip() or "an unknown process"
                lock.close()
                raise RunError(
                    f"{folder} is held by {holder}; wait for it, stop it, or use another folder "
                    "with out"
                ) from None
            time.sleep(0.2)
    lock.truncate(0)
    since = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    lock.write(f"process {os.getpid()} on {socket.gethostname()} since {since}")
    lock.flush()
    return lock


def _insist_legible(name: str, figure: Figure) -> None:
    from matplotlib.text import Text

    shrink = min(1.0, PRINTED_WIDTH / figure.get_figwidth())
    for text in cast(list[Text], figure.findobj(Text)):
        size = float(text.get_fontsize()) * shrink
        if text.get_visible() and text.get_text().strip() and size < SMALLEST_TEXT - 1e-6:
            raise ValueError(
                f"figure {name!r}: {text.get_text()!r} is {size:.1f} pt at {PRINTED_WIDTH} inches; "
                f"at least {SMALLEST_TEXT} pt is wanted: a narrower figure or larger text"
            )


def same(a: pd.DataFrame, b: pd.DataFrame) -> bool:
    """Whether two runs measured the same numbers, bit for bit, times left out.

    Args:
        a: values.csv of one run.
        b: values.csv of the other.

    Returns:
        True when all untimed rows are equal, in the same order.
    """
    first, second = (frame[~frame["timed"]].reset_index(drop=True) for frame in (a, b))
    return bool(first.equals(second))


def finite(value: float) -> bool:
    """Whether a recorded value is a number rather than n/a.

    Args:
        value: As recorded.

    Returns:
        False for nan and infinities.
    """
    return math.isfinite(value)
