"""Write notebooks/X.ipynb from notebooks/X.py: `make pair`.

The text is the .py. The .ipynb keeps outputs in the cells tagged keep_output only, taken from the
present .ipynb where the cell is unchanged, and otherwise from running the notebook as it stands
(profile smoke). Execution counts are 1 in those cells and null everywhere else: nbval compares
every cell that has a count. Cell ids come from the source, so that a diff shows edits only.

    python -m tests.notebooks.pair [--execute] [slug ...]
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import jupytext
import nbformat
from nbformat import NotebookNode

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
KEEP = ("keep_output", "nbval-check-output")
FORMAT = "py:percent"


def source(file: Path) -> str:
    """The .py of a stored notebook, as `jupytext --to py:percent -o - X.ipynb` prints it."""
    words = [sys.executable, "-m", "jupytext", "--quiet", "--to", FORMAT, "-o", "-", str(file)]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def settle(notebook: NotebookNode) -> None:
    """Metadata that a paired notebook carries; that it is paired stands in jupytext.toml."""
    without = "-jupytext.text_representation.jupytext_version"  # any version writes the same
    notebook.metadata["jupytext"] = {"notebook_metadata_filter": without}
    notebook.metadata["kernelspec"] = {
        "display_name": "Python 3 (ipykernel)",
        "language": "python",
        "name": "python3",
    }
    notebook.metadata["language_info"] = {"name": "python"}


def kept(cell: NotebookNode) -> bool:
    """Whether a cell's output is stored and compared."""
    return cell.cell_type == "code" and set(KEEP) <= set(cell.metadata.get("tags", []))


def identify(notebook: NotebookNode) -> None:
    """Give each cell an id made of its source and of how often that source came before."""
    before: Counter[str] = Counter()
    for cell in notebook.cells:
        text = f"{cell.cell_type}/{cell.source}"
        key = f"{text}/{before[text]}"
        before[text] += 1
        cell["id"] = hashlib.sha256(key.encode()).hexdigest()[:8]


def carry(notebook: NotebookNode, old: NotebookNode) -> list[str]:
    """Copy stored outputs of unchanged cells; the sources of kept cells that have none."""
    outputs = {cell.source: cell.outputs for cell in old.cells if kept(cell)}
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = outputs.get(cell.source, []) if kept(cell) else []
            cell.execution_count = 1 if cell.outputs else None
            for output in cell.outputs:
                if "execution_count" in output:
                    output["execution_count"] = 1
    return [cell.source for cell in notebook.cells if kept(cell) and not cell.outputs]


def execute(notebook: NotebookNode) -> NotebookNode:
    """A copy with every output, run in the notebooks' folder as JupyterLab would."""
    from nbclient import NotebookClient

    copy = nbformat.from_dict(notebook)  # type: ignore[no-untyped-call]
    client = NotebookClient(copy, timeout=1800, resources={"metadata": {"path": str(NOTEBOOKS)}})
    return client.execute()


def write(file: Path, text: str) -> bool:
    """Replace a file in one step where its text differs."""
    if file.is_file() and file.read_text(encoding="utf-8") == text:
        return False
    with tempfile.NamedTemporaryFile("w", dir=file.parent, delete=False, encoding="utf-8") as part:
        part.write(text)
    Path(part.name).chmod(0o644)
    Path(part.name).replace(file)
    return True


def pair(script: Path, *, run: bool = False) -> str:
    """Bring one pair up to date; says what it did.

    The .py is written last, so that it is never older than its .ipynb by an edit of its own:
    JupyterLab refuses to open a pair whose .ipynb is newer than a .py that differs.
    """
    file = script.with_suffix(".ipynb")
    notebook = jupytext.read(script, fmt=FORMAT)
    settle(notebook)
    identify(notebook)
    old = nbformat.read(file, as_version=4) if file.is_file() else nbformat.v4.new_notebook()
    did = ""
    if missing := carry(notebook, old if not run else nbformat.v4.new_notebook()):
        did = f", ran it for {len(missing)} kept outputs"
        carry(notebook, execute(notebook))
    changed = write(file, nbformat.writes(notebook).rstrip("\n") + "\n")
    changed |= write(script, source(file))
    return f"{script.stem}: {'written' if changed else 'unchanged'}{did}"


def main() -> None:
    """Read the command line and pair."""
    parser = argparse.ArgumentParser(description="Write notebooks/X.ipynb from notebooks/X.py.")
    parser.add_argument("slugs", nargs="*", help="which notebooks; default all")
    parser.add_argument("--execute", action="store_true", help="take every kept output anew")
    options = parser.parse_args()
    for script in sorted(NOTEBOOKS.glob("*.py")):
        if not options.slugs or script.stem in options.slugs:
            print(pair(script, run=options.execute), flush=True)


if __name__ == "__main__":
    main()
