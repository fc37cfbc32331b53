"""What a run leaves behind: values, tables, figures, claims and the environment.

A run owns one folder. Every number goes through `Run.record` into one long table (values.csv);
tables and figures are views of it. results.json is written once, at the end, atomically: its
presence means that the notebook ran through.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from enhancelib import claims, runtime
from enhancelib.folders import RunError, hold, insist_writable, replacing, set_aside, write_text
from enhancelib.tables import finite, forms, read_values, same, select

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

__all__ = [
    "Run",
    "RunError",
    "finite",
    "folder_of",
    "insist_writable",
    "open_run",
    "read_values",
    "same",
    "select",
    "write_text",
]

SCHEMA = 1
PRINTED_WIDTH = 7.0  # inches: the text width at which figures are judged
SMALLEST_TEXT = 7.0  # points at that width
LARGEST_FIGURE = 280_000  # bytes; `publish` takes 300 kB
COLUMNS = ("table", "dataset", "setting", "method", "metric", "image", "seed", "value", "timed")


@dataclass
class Run:
    """One run of one paper's notebook, and the folder that it owns.

    Under torchrun only process 0 locks the folder and writes into it.

    Args:
        slug: The paper.
        profile: "smoke", "small", "large" or "paper".
        parameters: All parameters of the run, recorded verbatim.
        folder: Where the run writes; see `folder_of`.
        runtime: The machine's settings.
        across_versions: Go on with checkpoints that an earlier version of the library left; for
            trainings of days whose card lists the commits, never for tables.

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
        enhancelib.folders.RunError: the run folder /proc/nowhere cannot be written ...
    """

    slug: str
    profile: str
    parameters: Mapping[str, Any]
    folder: Path
    runtime: runtime.Runtime
    across_versions: bool = False
    tables: dict[str, str] = field(init=False, default_factory=dict)
    figures: dict[str, dict[str, Any]] = field(init=False, default_factory=dict)
    parity: list[dict[str, Any]] = field(init=False, default_factory=list)
    claims: list[dict[str, Any]] = field(init=False, default_factory=list)
    notes: dict[str, Any] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        """Take the folder, and withdraw the results of an earlier run of it."""
        self._began = time.monotonic()
        self._values: list[dict[str, Any]] = []
        self._writes = runtime.rank() == 0
        # as it is now: files may be edited while the run goes on
        self._environment = dict(runtime.environment(self.runtime))
        if self._writes:
            self._lock = hold(self.folder)
            if not self.across_versions:
                set_aside(
                    self.folder, runtime.code(), parameters=_identity(self.parameters),
                    ended_otherwise=self._ended_otherwise(),
                )  # fmt: skip
            (self.folder / "results.json").unlink(missing_ok=True)

    def _ended_otherwise(self) -> bool:
        """Whether a run ended here with another number of threads, which gives other bits."""
        try:
            found = json.loads((self.folder / "results.json").read_text(encoding="utf-8"))
            return bool(found["environment"]["threads"] != self.runtime.threads)
        except (OSError, ValueError, KeyError, TypeError):
            return False

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
        path = self._once(key)
        if path.exists():
            return json.loads(path.read_text())["value"]
        text = json.dumps({"key": key, "value": function()})
        if self._writes:
            write_text(path, text)
        return json.loads(text)["value"]

    def knows(self, key: str) -> bool:
        """Whether `once` has the result of a step already.

        Args:
            key: Names the step within the run.

        Returns:
            True where the step was ended, now or in an earlier run of the folder.
        """
        return self._once(key).exists()

    def _once(self, key: str) -> Path:
        return self.folder / "once" / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.json"

    def table(self, name: str, frame: pd.DataFrame, *, note: str = "") -> pd.DataFrame:
        """Keep a table as csv, Markdown and LaTeX.

        Args:
            name: File name without suffix.
            frame: What to print, formatted or not.
            note: Protocols and reservations, printed under the table.

        Returns:
            The same frame, for the notebook to show.
        """
        for suffix, text in forms(frame, note=note).items():
            self._write(f"tables/{name}.{suffix}", text)
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
        if self._writes:
            with replacing(path) as part:
                figure.savefig(part, format="png", dpi=150, bbox_inches="tight", facecolor="white")
                if part.stat().st_size > LARGEST_FIGURE:
                    _to_palette(part)
        self.figures[name] = {"file": f"figures/{name}.png", "photos": list(photos)}
        _sign(figure, name)
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
        self._write("values.csv", self.values().to_csv(index=False))
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
            "environment": self._environment,
            "date": datetime.now(UTC).strftime("%Y-%m-%d"),
            "seconds": round(time.monotonic() - self._began, 1),
        }
        self._write("results.json", json.dumps(_plain(results), indent=1, allow_nan=False) + "\n")
        return self.folder / "results.json"

    def _write(self, name: str, text: str) -> None:
        if self._writes:
            write_text(self.folder / name, text)


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
    folder = Path(plain["out"]).expanduser().resolve() if plain["out"] else None
    return Run(
        slug,
        plain["profile"],
        plain,
        folder or folder_of(slug, plain["profile"], plain),
        runtime.setup(plain["device"]),
    )


def _plain(value: object) -> object:
    """JSON has no word for nan and infinities: they become null."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value


def _identity(parameters: Mapping[str, Any]) -> str:
    """A digest of the parameters but those that only say how much of a run is done, and where."""
    free = ("out", "device", "tables", "seeds", "hours")
    kept = {k: v for k, v in sorted(parameters.items()) if k not in free}
    return hashlib.sha256(json.dumps(kept, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _sign(figure: Figure, name: str) -> None:
    """Let the notebook's output of a figure carry its name, so that `publish` knows which it is."""
    signed: Any = figure
    signed._repr_mimebundle_ = lambda **_: ({}, {"enhancelib": {"figure": name}})


def _to_palette(path: Path) -> None:
    """Store 256 colours instead of 16 million: grey pictures lose nothing, files shrink by half."""
    from PIL import Image

    with Image.open(path) as picture:
        small = picture.convert("RGB").quantize(256, dither=Image.Dither.NONE)
    small.save(path, format="png", optimize=True)


def _insist_legible(name: str, figure: Figure) -> None:
    from matplotlib.text import Text

    figure.draw_without_rendering()  # before that, tick labels have no text
    shrink = min(1.0, PRINTED_WIDTH / figure.get_figwidth())
    for text in cast(list[Text], figure.findobj(Text)):
        size = float(text.get_fontsize()) * shrink
        if text.get_visible() and text.get_text().strip() and size < SMALLEST_TEXT - 1e-6:
            raise ValueError(
                f"figure {name!r}: {text.get_text()!r} is {size:.1f} pt at {PRINTED_WIDTH} inches; "
                f"at least {SMALLEST_TEXT} pt is wanted: a narrower figure or larger text"
            )
