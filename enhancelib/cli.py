"""The command line: enhancelib list | fetch | run | table | publish | status | enhance.

Errors are sentences on stderr. Exit codes: 0 done, 1 something failed on the way, 2 the command
itself cannot be carried out as given, 130 interrupted.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from enhancelib import __version__, papers, runtime

if TYPE_CHECKING:
    import pandas as pd

REFUSED, FAILED, INTERRUPTED = 2, 1, 130
_OPTIONS = ("task", "reference", "steps")  # of enhance, where the paper has them


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out one command.

    Args:
        arguments: Words after the program's name; None takes sys.argv.

    Returns:
        The exit code.

    Example:
        >>> main(["list"])
        dncnn  Beyond a Gaussian Denoiser: Residual Learning of Deep CNN for Image Denoising
            profile=smoke: how large the run is (smoke, small, large, paper)
        ...
        0
    """
    given = _parser().parse_args(arguments)
    try:
        return int(given.function(given))
    except KeyboardInterrupt as stop:
        print(f"enhancelib: interrupted{f'; {stop}' if stop.args else ''}", file=sys.stderr)
        return INTERRUPTED
    except _errors() as error:
        print(f"enhancelib: {error}", file=sys.stderr)
        return FAILED if isinstance(error, RuntimeError | OSError) else REFUSED


def _errors() -> tuple[type[Exception], ...]:
    """What the house raises for the user to read; anything else is a defect and keeps its trace."""
    from enhancelib import features, photos, publishing, results, running, weights
    from enhancelib.capacity import MemoryTooSmall
    from enhancelib.images import ImageError
    from enhancelib.papers.parameters import ParameterError
    from enhancelib.training import TrainingError

    refused = (ParameterError, ImageError, MemoryTooSmall)
    unfit = (weights.WeightsError, publishing.PublishError)
    failed = (results.RunError, running.NotebookError, TrainingError)
    missing = (photos.PhotosMissing, features.FeaturesMissing)
    return (*refused, *unfit, *failed, *missing, _Refused, _Failed, OSError)


class _Refused(ValueError):
    """A command that cannot be carried out as given."""


class _Failed(RuntimeError):
    """Something that went wrong on the way."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="enhancelib", description="Papers that rerun themselves.")
    parser.add_argument("--version", action="version", version=f"enhancelib {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    command = commands.add_parser("list", help="the papers of the catalogue and their parameters")
    command.set_defaults(function=_list)

    command = commands.add_parser("fetch", help="bring photographs and feature networks")
    command.add_argument("--only", action="append", default=[], metavar="NAME")
    command.add_argument("--list", action="store_true", help="what there is, and what is here")
    command.set_defaults(function=_fetch)

    command = commands.add_parser("run", help="run one paper's notebook")
    command.add_argument("slug")
    command.add_argument("--profile", help="smoke (default), small, large or paper")
    command.add_argument("-p", action="append", default=[], metavar="NAME=VALUE", dest="parameter")
    command.add_argument("--out", help="run folder; default: one under runs/")
    command.set_defaults(function=_run)

    command = commands.add_parser("table", help="mean, spread and n over runs")
    command.add_argument("runs", nargs="+", metavar="RUN")
    command.add_argument("--by", default="dataset,setting,method", help="columns, by commas")
    command.add_argument("--metric", default="psnr_8bit")
    command.add_argument("--format", choices=("md", "csv", "tex"), default="md")
    command.set_defaults(function=_table)

    command = commands.add_parser("publish", help="copy a run's results to figures/")
    command.add_argument("run")
    command.set_defaults(function=_publish)

    command = commands.add_parser("status", help="what has been published, and how it was judged")
    command.add_argument("--write", action="store_true", help="bring README's section up to date")
    command.set_defaults(function=_status)

    command = commands.add_parser("enhance", help="restore a photo of your own")
    command.add_argument("slug")
    command.add_argument("input", type=Path)
    command.add_argument(
        "-o", "--output", type=Path, required=True, help="8 bits per channel; the suffix says how"
    )
    command.add_argument("--weights", type=Path, help="default: the network in data/weights")
    command.add_argument("--task", help="of dilie: dehaze (default) or denoise")
    command.add_argument("--reference", type=Path, help="of dilie: a photo whose style is taken")
    command.add_argument("--steps", type=int, help="of dilie: iterations of every optimisation")
    command.set_defaults(function=_enhance)
    return parser


def _list(given: argparse.Namespace) -> int:
    for slug in papers.PAPERS:
        paper = papers.load(slug)
        print(f"{slug}  {paper.title}")
        for field in dataclasses.fields(paper.parameters):
            choices = ", ".join(field.metadata["choices"])
            accepted = f" ({choices})" if choices else ""
            print(f"    {field.name}={field.default}: {field.metadata['help']}{accepted}")
    return 0


def _fetch(given: argparse.Namespace) -> int:
    from enhancelib import fetching

    if given.list:
        for row in fetching.listing():
            size = f"{row.size / 1e6:.1f} MB"
            print(f"{row.state:8} {row.name} {row.version}, {size}: {row.brings} ({row.licence})")
        return 0
    only = tuple(name for words in given.only for name in words.split(","))
    try:
        report = fetching.fetch(only)
    except ValueError as error:
        raise _Refused(str(error)) from error
    for line in report.failed:
        print(f"enhancelib: {line}", file=sys.stderr)
    return FAILED if report.failed else 0


def _run(given: argparse.Namespace) -> int:
    from enhancelib import running

    own = {"profile": given.profile, "out": given.out}
    asked = [f"{name}={value}" for name, value in own.items() if value is not None]
    words = _pairs([*asked, *given.parameter])
    folder = running.execute(given.slug, running.parse(given.slug, words))
    print(f"{given.slug}: done, in {folder}")
    return 0


def _pairs(words: Sequence[str]) -> dict[str, str]:
    pairs = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise _Refused(f"-p takes NAME=VALUE, got {word!r}")
        if name in pairs:
            raise _Refused(f"parameter {name!r} is given twice")
        pairs[name] = value
    return pairs


def _table(given: argparse.Namespace) -> int:
    from enhancelib import tables

    by = given.by.split(",")
    try:
        summary = tables.summary(_rows(given.runs, given.metric, by), by)
    except KeyError as error:
        raise _Refused(str(error.args[0])) from error
    print(tables.forms(summary.round(4), note=_protocol(given.metric))[given.format], end="")
    return 0


def _rows(runs: Sequence[str], metric: str, by: Sequence[str]) -> pd.DataFrame:
    """The rows of one metric over runs; a number that stands in several tables counts once."""
    import pandas as pd

    from enhancelib import results

    found = pd.concat(_frames(runs), ignore_index=True)
    if metric not in set(found["metric"]):
        names = ", ".join(dict.fromkeys(found["metric"]))
        raise _Refused(f"no run has values of metric {metric!r}; there are {names}")
    rows = results.select(found, metric=metric)
    if "image" not in by:
        rows = results.select(rows, image="mean")
    if rows.empty:
        raise _Refused(f"{metric!r} has no mean over images; add image to --by")
    infinite = rows["value"].abs() == float("inf")  # PSNR of equal pictures: left out, not counted
    rows = rows.assign(value=rows["value"].mask(infinite))
    return rows.drop_duplicates([name for name in rows.columns if name != "table" or name in by])


def _frames(runs: Sequence[str]) -> list[pd.DataFrame]:
    from enhancelib import publishing

    frames = []
    for run in dict.fromkeys(runs):
        try:
            frames.append(_values(Path(run)))
        except publishing.PublishError as error:
            if len(runs) == 1:
                raise
            print(f"enhancelib: left out: {error}", file=sys.stderr)
    if not frames:
        raise _Refused("none of these runs has ended, so there is nothing to put into a table")
    return frames


def _values(run: Path) -> pd.DataFrame:
    """values.csv of a run, with its parameters as further columns."""
    from enhancelib import publishing, results

    found = publishing.read_results(run)
    folder = run.parent if run.suffix == ".json" else run
    values = results.read_values(folder / "values.csv")
    parameters = {"profile": found["profile"], **found["parameters"]}
    extra = {k: str(v) for k, v in parameters.items() if k not in values.columns}
    return values.assign(run=str(folder), **extra)


def _protocol(metric: str) -> str:
    from enhancelib import metrics

    return metrics.METRICS[metric].protocol if metric in metrics.METRICS else ""


def _publish(given: argparse.Namespace) -> int:
    from enhancelib import publishing

    print(publishing.publish(given.run).relative_to(runtime.root()))
    return 0


def _status(given: argparse.Namespace) -> int:
    from enhancelib import publishing, tables

    print(tables.forms(publishing.status())["md"], end="")
    if given.write:
        changed = publishing.write_section(runtime.root() / "README.md")
        print("README.md is up to date" + (" again" if changed else ""))
    return 0


def _enhance(given: argparse.Namespace) -> int:
    from enhancelib import images

    paper = papers.load(given.slug)
    if paper.enhance is None:
        raise _Refused(f"{given.slug} has no network for a photo of your own")
    asked = _asked(given, paper)
    _insist_room(given.output, given.input)
    restored = paper.enhance(images.read(given.input), given.weights, **asked)
    try:
        images.write(given.output, restored)
    except images.ImageError as error:
        raise _Failed(str(error)) from error
    print(f"{given.output}: {restored.shape[2]} x {restored.shape[1]} pixels")
    return 0


def _asked(given: argparse.Namespace, paper: papers.Paper) -> dict[str, object]:
    """The options that only some papers have, as far as they were given."""
    asked = {name: getattr(given, name) for name in _OPTIONS}
    asked = {name: value for name, value in asked.items() if value is not None}
    for name in asked:
        if name not in paper.options:
            raise _Refused(f"{paper.slug} takes no --{name}")
    return asked


def _insist_room(output: Path, source: Path) -> None:
    """See that the result can be written before minutes of work, and that nothing is lost by it."""
    from enhancelib import images

    if output.suffix.lower() not in images.WRITABLE:
        kinds = ", ".join(images.WRITABLE)
        raise _Refused(f"{output} has suffix {output.suffix!r}; expected one of {kinds}")
    if output.is_dir():
        raise _Refused(f"{output} is a folder; name the file to write")
    if output.exists() and source.exists() and output.samefile(source):
        raise _Refused(f"{output} is the photo itself, which would be lost; name another output")
    try:
        tempfile.TemporaryFile(dir=output.parent).close()
    except OSError as error:
        raise _Refused(
            f"{output.parent} cannot be written ({error.strerror}); name another folder, or make it"
        ) from error


if __name__ == "__main__":
    sys.exit(main())
