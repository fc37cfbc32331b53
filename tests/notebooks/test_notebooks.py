"""Every stored notebook keeps to the skeleton, the pair and the parameters cell agree."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode

from tests.notebooks import pair

FILES = sorted(pair.NOTEBOOKS.glob("*.ipynb"))
PAPERS = [file for file in FILES if file.stem != "index"]
FIRST = ["profile", "seed", "seeds", "device", "data_root", "weights", "out", "tables"]
HEADINGS = (
    "parameters",
    "environment",
    "data",
    "method",
    "training",
    "table",
    "figures",
    "ablation",
    "explore",
    "verdict",
    "references",
)
MAX_CELL, MAX_NOTEBOOK, MIN_KEPT = 20, 150, 3

every = pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
papers = pytest.mark.parametrize("file", PAPERS, ids=lambda file: file.stem)


def read(file: Path) -> NotebookNode:
    return nbformat.read(file, as_version=4)


def code(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def lines(cell: NotebookNode) -> int:
    """Lines that hold code; blank lines and comments are free."""
    skip = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)
    tokens = tokenize.generate_tokens(io.StringIO(cell.source).readline)
    spans = [(t.start[0], t.end[0]) for t in tokens if t.type not in (*skip, tokenize.ENDMARKER)]
    return len({line for first, last in spans for line in range(first, last + 1)})


def tagged(cell: NotebookNode, tag: str) -> bool:
    return tag in cell.metadata.get("tags", [])


def parameters(notebook: NotebookNode) -> tuple[int, NotebookNode]:
    """The one parameters cell and its place among the code cells."""
    found = [(i, cell) for i, cell in enumerate(code(notebook)) if tagged(cell, "parameters")]
    assert len(found) == 1, f"{len(found)} cells are tagged parameters"
    return found[0]


def assigned(cell: NotebookNode) -> list[str]:
    names = []
    for node in ast.parse(cell.source).body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        assert isinstance(target, ast.Name), f"line {node.lineno} is no plain assignment"
        names.append(target.id)
    return names


def test_there_are_notebooks() -> None:
    assert PAPERS, "notebooks/ holds no paper"


def test_every_notebook_has_its_script() -> None:
    scripts = {file.stem for file in pair.NOTEBOOKS.glob("*.py")}
    assert scripts == {file.stem for file in FILES}


def test_every_notebook_is_in_the_catalogue() -> None:
    from enhancelib import papers as catalogue

    assert {file.stem for file in PAPERS} == set(catalogue.PAPERS)


@every
def test_the_pair_is_one_text(file: Path) -> None:
    stored = file.with_suffix(".py").read_text(encoding="utf-8")
    assert pair.source(file) == stored, "run `make pair` after editing the .py"


@every
def test_outputs_are_stripped_but_for_the_kept_ones(file: Path) -> None:
    notebook = read(file)
    assert "widgets" not in notebook.metadata
    for cell in code(notebook):
        what = cell.source[:60]
        if pair.kept(cell):
            assert cell.outputs, f"a kept cell has no output: {what}"
            assert cell.execution_count == 1, f"count of a kept cell is not 1: {what}"
        else:
            assert not any(tagged(cell, tag) for tag in pair.KEEP), f"one of two tags: {what}"
            assert not cell.outputs, f"output in a cell that is not kept: {what}"
            assert cell.execution_count is None, f"count in a cell without output: {what}"


@every
def test_kept_outputs_are_text(file: Path) -> None:
    for cell in code(read(file)):
        for output in cell.outputs:
            assert output.output_type in ("stream", "execute_result", "display_data")
            assert output.get("name") != "stderr"
            assert not {"image/png", "image/jpeg", "text/html"} & set(output.get("data", {}))
            assert "object at 0x" not in str(output), "an address differs from run to run"


@papers
def test_enough_outputs_are_kept(file: Path) -> None:
    assert sum(pair.kept(cell) for cell in code(read(file))) >= MIN_KEPT


@every
def test_cells_and_notebooks_are_short(file: Path) -> None:
    cells = code(read(file))
    for cell in cells:
        assert lines(cell) <= MAX_CELL, f"{lines(cell)} lines: {cell.source[:60]}"
    assert sum(map(lines, cells)) <= MAX_NOTEBOOK


@every
def test_there_are_no_classes(file: Path) -> None:
    for cell in code(read(file)):
        if not cell.source.startswith("%%"):
            nodes = ast.walk(ast.parse(re.sub(r"(?m)^[%!].*$", "pass", cell.source)))
            assert not any(isinstance(node, ast.ClassDef) for node in nodes), cell.source[:60]


@papers
def test_the_parameters_cell_begins_as_everywhere(file: Path) -> None:
    index, cell = parameters(read(file))
    assert index == 0, "the parameters cell is the first code cell"
    assert assigned(cell)[: len(FIRST)] == FIRST
    assert ast.literal_eval(ast.parse(cell.source).body[0].value) == "smoke"  # type: ignore[attr-defined]


@papers
def test_papermill_sees_every_parameter(file: Path) -> None:
    # it reads line by line with a regular expression: a second "=" in a line hides the name
    from papermill import inspect_notebook

    _, cell = parameters(read(file))
    assert list(inspect_notebook(str(file))) == assigned(cell)
    for node in ast.parse(cell.source).body:
        ast.literal_eval(node.value)  # type: ignore[attr-defined]


@papers
def test_the_next_cell_checks_them(file: Path) -> None:
    notebook = read(file)
    index, _ = parameters(notebook)
    following = code(notebook)[index + 1].source
    assert f'p = running.check("{file.stem}", globals())' in following.splitlines()


@papers
def test_the_skeleton_is_there_in_order(file: Path) -> None:
    text = "\n".join(c.source for c in read(file).cells if c.cell_type == "markdown")
    titles = [line.lstrip("# ").lower() for line in text.splitlines() if line.startswith("#")]
    assert titles, "no headings"
    place = 0
    for wanted in HEADINGS:
        later = [i for i, title in enumerate(titles) if wanted in title and i >= place]
        assert later, f"no heading with {wanted!r} after heading {place} in {titles}"
        place = later[0]


@papers
def test_the_text_has_its_length(file: Path) -> None:
    words = sum(len(c.source.split()) for c in read(file).cells if c.cell_type == "markdown")
    assert 600 <= words <= 2500, f"{words} words; about 1,000 are wanted"
