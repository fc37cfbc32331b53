"""The command line: enhancelib list | fetch | run | table | publish | status | enhance.

Errors are sentences on stderr. Exit codes: 0 done, 1 something failed on the way, 2 the command
itself cannot be carried out as given, 130 interrupted.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from enhancelib import __version__, papers, runtime

REFUSED, FAILED, INTERRUPTED = 2, 1, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out one command.

    Args:
        arguments: Words after the program's name; None takes sys.argv.

    Returns:
        The exit code.

    Example:
        >>> main(["list"])
        dncnn  Beyond a Gaussian Denoiser: Residual Learning of Deep CNN for Image Denoising
        0
    """
    given = _parser().parse_args(arguments)
    try:
        return int(given.function(given))
    except KeyboardInterrupt:
        print("enhancelib: interrupted; the same command goes on where it stopped", file=sys.stderr)
        return INTERRUPTED
    except _errors() as error:
        print(f"enhancelib: {error}", file=sys.stderr)
        return FAILED if isinstance(error, RuntimeError) else REFUSED


def _errors() -> tuple[type[Exception], ...]:
    """What the house raises for the user to read; anything else is a defect and keeps its trace."""
    from enhancelib import features, photos, publishing, results, running, weights
    from enhancelib.images import ImageError
    from enhancelib.papers.parameters import ParameterError
    from enhancelib.training import TrainingError

    refused = (ParameterError, ImageError, weights.WeightsError, publishing.PublishError)
    failed = (results.RunError, running.NotebookError, TrainingError)
    return (*refused, *failed, photos.PhotosMissing, features.FeaturesMissing, _Refused)


class _Refused(ValueError):
    """A command that cannot be carried out as given."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="enhancelib", description="Papers that rerun themselves.")
    parser.add_argument("--version", action="version", version=f"enhancelib {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    command = commands.add_parser("list", help="the papers of the catalogue")
    command.set_defaults(function=_list)

    command = commands.add_parser("fetch", help="bring photographs and feature networks")
    command.add_argument("--only", action="append", default=[], metavar="NAME")
    command.add_argument("--list", action="store_true", help="what there is, and what is here")
    command.set_defaults(function=_fetch)

    command = commands.add_parser("run", help="run one paper's notebook")
    command.add_argument("slug")
    command.add_argument("--profile", default="smoke")
    command.add_argument("-p", action="append", default=[], metavar="NAME=VALUE", dest="parameter")
    command.add_argument("--out", default="", help="run folder; default: one under runs/")
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
    command.add_argument("-o", "--output", type=Path, required=True)
    command.add_argument("--weights", type=Path, help="default: the network in data/weights")
    command.set_defaults(function=_enhance)
    return parser


def _list(given: argparse.Namespace) -> int:
    for slug in papers.PAPERS:
        print(f"{slug}  {papers.load(slug).title}")
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

    words = _pairs(given.parameter)
    words.setdefault("profile", given.profile)
    if given.out:
        words["out"] = given.out
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
    import pandas as pd

    from enhancelib import publishing, results, tables

    frames = []
    for run in given.runs:
        found = publishing.read_results(run)
        values = pd.read_csv(
            Path(run) / "values.csv", keep_default_na=False, na_values={"seed": ""}
        )
        values["value"] = pd.to_numeric(values["value"], errors="coerce")
        parameters = {"profile": found["profile"], **found["parameters"]}
        extra = {k: str(v) for k, v in parameters.items() if k not in values.columns}
        frames.append(values.assign(run=str(run), **extra))
    rows = results.select(pd.concat(frames), metric=given.metric, image="mean")
    by = given.by.split(",")
    try:
        summary = tables.summary(rows, by)
    except KeyError as error:
        raise _Refused(str(error.args[0])) from error
    print(tables.forms(summary.round(4), note=_protocol(given.metric))[given.format], end="")
    return 0


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
    if given.output.suffix.lower() not in images.WRITABLE:
        kinds = ", ".join(images.WRITABLE)
        raise _Refused(
            f"{given.output} has suffix {given.output.suffix!r}; expected one of {kinds}"
        )
    restored = paper.enhance(images.read(given.input), given.weights)
    images.write(given.output, restored)
    print(f"{given.output}: {restored.shape[2]} x {restored.shape[1]} pixels")
    return 0


if __name__ == "__main__":
    sys.exit(main())
