"""Pairing keeps the right outputs and gives the same file twice."""

from __future__ import annotations

import shutil
from pathlib import Path

import nbformat
import pytest

from tests.notebooks import pair

SCRIPT = """# %% [markdown]
# # Title

# %%
print("not kept")

# %% tags=["keep_output", "nbval-check-output"]
6 * 7
"""


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copy(pair.NOTEBOOKS / "jupytext.toml", tmp_path)
    monkeypatch.setattr(pair, "NOTEBOOKS", tmp_path)
    file = tmp_path / "x.py"
    file.write_text(SCRIPT)
    return file


def test_it_runs_once_and_keeps_only_what_is_tagged(script: Path) -> None:
    assert "ran it for 1 kept outputs" in pair.pair(script)
    notebook = nbformat.read(script.with_suffix(".ipynb"), as_version=4)
    plain, kept = (cell for cell in notebook.cells if cell.cell_type == "code")
    assert (plain.outputs, plain.execution_count) == ([], None)
    assert kept.outputs[0].data["text/plain"] == "42"
    assert kept.execution_count == kept.outputs[0].execution_count == 1
    first = script.with_suffix(".ipynb").read_text()
    assert pair.pair(script) == "x: unchanged"
    assert script.with_suffix(".ipynb").read_text() == first


def test_an_edit_elsewhere_keeps_the_output_without_a_run(script: Path) -> None:
    pair.pair(script)
    script.write_text(script.read_text().replace("not kept", "edited"))
    assert pair.pair(script) == "x: written"
    notebook = nbformat.read(script.with_suffix(".ipynb"), as_version=4)
    assert notebook.cells[-1].outputs[0].data["text/plain"] == "42"


def test_an_edit_of_the_kept_cell_runs_again(script: Path) -> None:
    pair.pair(script)
    script.write_text(script.read_text().replace("6 * 7", "6 * 8"))
    assert "ran it" in pair.pair(script)
    notebook = nbformat.read(script.with_suffix(".ipynb"), as_version=4)
    assert notebook.cells[-1].outputs[0].data["text/plain"] == "48"


def test_the_two_files_are_one_text(script: Path) -> None:
    pair.pair(script)
    assert pair.source(script.with_suffix(".ipynb")) == script.read_text()
    script.write_text(script.read_text().replace("Title", "Tittle"))
    assert pair.source(script.with_suffix(".ipynb")) != script.read_text()
