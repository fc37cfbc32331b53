"""A paper of a few cells, for tests of what runs notebooks: real kernels, no training.

`install(folder)` puts it into the catalogue of this process, with its notebook under `folder`; the
notebook's own second cell does the same in its kernel. As a program it is the command line with
the tiny paper in the catalogue:

    python -m tests.tiny FOLDER run tiny -p sigma=15
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import nbformat
import pytest

from enhancelib import cli, papers, runtime
from enhancelib.claims import Claim
from enhancelib.papers import Paper
from enhancelib.papers.parameters import Common, ParameterError, parameter

ROOT = Path(__file__).parent.parent
SLUG = "tiny"
PARAMETERS = """\
profile = "smoke"
seed = 0
seeds = 3
device = "auto"
data_root = ""
weights = ""
out = ""
tables = "main"
sigma = 25.0
mode = "good"
"""
CHECK = """\
from tests import tiny

tiny.install({folder!r})
from enhancelib import results, running

p = running.check("tiny", globals())
run = results.open_run("tiny", p)
print("sigma is", p.sigma)
"""
RECORD = """\
levels = [5, 15, 25]
for seed in p.all_seeds():
    run.record(dataset="photos", method="tiny", metric="psnr_8bit", value=30 + seed - p.sigma / 5,
               seed=seed, setting=f"sigma={p.sigma:g}", table="denoising")
"""
SHOW = """\
from IPython.display import HTML, JSON, display

display(HTML("<b>of html</b>"), JSON({"of": "json"}))
"""
FINISH = """\
run.table("denoising", run.values())
run.claim("c", "C.", statistic=1.0, margin=0.0, test_set="photos", by="analysis")
run.finish()
"""


@dataclass(frozen=True)
class Parameters(Common):
    """The common ones, a number and a choice."""

    sigma: float = parameter(25.0, "noise level in 8-bit units", low=1, high=75)
    mode: str = parameter("good", "what the notebook does", choices=("good", "bad"))


def check(p: Parameters) -> None:
    """Refuse a data_root that is not there, as a paper does."""
    if p.data_root and not Path(p.data_root).is_dir():
        raise ParameterError(f"data_root {p.data_root!r} does not exist")


PAPER = Paper(
    slug=SLUG,
    title="A tiny paper",
    citation="Nobody, 2026",
    claim="It runs.",
    parameters=Parameters,
    check=check,
    claims=(Claim("c", "C.", lambda _: 1.0, 0.0, "sign", "photos", "analysis"),),
    hours=lambda _profile, _tables: 0.0,
)


def install(folder: str | Path) -> None:
    """Put the paper into this process's catalogue, and its notebook under `folder`."""
    room = ModuleType(f"enhancelib.papers.{SLUG}")
    room.PAPER = PAPER  # type: ignore[attr-defined]
    sys.modules[room.__name__] = room
    if SLUG not in papers.PAPERS:
        papers.PAPERS = (*papers.PAPERS, SLUG)
    runtime.data = _data(Path(folder), runtime.data)


def lend(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    """`install` and `write`, undone at the end of the test; kernels find this module anywhere."""
    patch.setattr(papers, "PAPERS", papers.PAPERS)
    patch.setattr(runtime, "data", runtime.data)
    patch.setitem(sys.modules, f"enhancelib.papers.{SLUG}", ModuleType("replaced by install"))
    patch.setenv("PYTHONPATH", str(ROOT), prepend=os.pathsep)
    install(folder)
    write(folder)
    return folder


def command(folder: Path, *words: str) -> list[str]:
    """The command line of the tiny paper, as a process of its own."""
    return [sys.executable, "-m", "tests.tiny", str(folder), *words]


def _data(folder: Path, plain: Callable[[str], Path]) -> Callable[[str], Path]:
    return lambda name="": folder if name == "notebooks" else plain(name)


def write(folder: Path, cells: Sequence[str] = (RECORD, SHOW, FINISH)) -> Path:
    """Write the notebook: the parameters, their check, then these cells."""
    notebook = nbformat.v4.new_notebook()
    notebook.metadata.kernelspec = {"name": "python3", "language": "python", "display_name": "P"}
    for source in (PARAMETERS, CHECK.format(folder=str(folder)), *cells):
        notebook.cells.append(nbformat.v4.new_code_cell(source.strip()))
    notebook.cells[0].metadata.tags = ["parameters"]
    path = folder / f"{SLUG}.ipynb"
    nbformat.write(notebook, path)
    return path


if __name__ == "__main__":
    install(sys.argv[1])
    sys.exit(cli.main(sys.argv[2:]))
