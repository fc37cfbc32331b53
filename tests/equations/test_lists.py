"""Every numbered equation of every notebook is held by a test, and none is held that is not there.

Under each `\\tag{n}` of a notebook stands one line: `Eq. n: enhancelib.module.function`,
`Eq. n: definition` or `Eq. n: architecture`. For the first kind, tests/equations/test_<slug>.py
has EQUATIONS["n"], a test that compares the function with a literal transcription of the printed
equation. Transcriptions live in tests/equations/transcriptions_<slug>.py and know numpy and math
only, so that they cannot lean on what they check.
"""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest

HERE = Path(__file__).parent
NOTEBOOKS = HERE.parents[1] / "notebooks"
SLUGS = sorted(file.stem for file in NOTEBOOKS.glob("*.ipynb") if file.stem != "index")
TAG = re.compile(r"\\tag\{([^}]+)\}")
HOLDER = re.compile(r"^Eq\. (\S+): `?([\w.]+)`?$", re.MULTILINE)
NO_TEST = ("definition", "architecture")
KNOWS = {"numpy", "math", "__future__", "typing", "collections"}


def equations(text: str) -> tuple[list[str], list[tuple[str, str]]]:
    """(numbers of the tags, (number, holder) of the lines under them) in their order."""
    return TAG.findall(text), HOLDER.findall(text)


def notebook_text(slug: str) -> str:
    notebook = nbformat.read(NOTEBOOKS / f"{slug}.ipynb", as_version=4)
    return "\n\n".join(c.source for c in notebook.cells if c.cell_type == "markdown")


def held(slug: str) -> dict[str, Callable[..., None]]:
    module = importlib.import_module(f"tests.equations.test_{slug}")
    return dict(module.EQUATIONS)


def resolve(dotted: str) -> object:
    """What a dotted name means: the longest module in it, then its attributes."""
    parts = dotted.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            found: object = importlib.import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        for name in parts[cut:]:
            found = getattr(found, name)
        return found
    raise ImportError(dotted)


def test_there_are_notebooks() -> None:
    assert SLUGS


@pytest.mark.parametrize("slug", SLUGS)
def test_every_tag_has_its_line(slug: str) -> None:
    tags, holders = equations(notebook_text(slug))
    assert tags, "no numbered equation"
    assert len(set(tags)) == len(tags), f"a number twice: {tags}"
    assert tags == [number for number, _ in holders]


@pytest.mark.parametrize("slug", SLUGS)
def test_every_line_comes_right_under_its_equation(slug: str) -> None:
    text = notebook_text(slug)
    for number in TAG.findall(text):
        after = text[text.index(f"\\tag{{{number}}}") :]
        between = after[: after.find(f"Eq. {number}:")].splitlines()
        assert f"Eq. {number}:" in after, f"equation {number} has no line"
        assert len([line for line in between if line.strip(" $")]) <= 2, f"equation {number}"


@pytest.mark.parametrize("slug", SLUGS)
def test_notebook_and_tests_list_the_same_equations(slug: str) -> None:
    _, holders = equations(notebook_text(slug))
    wanted = {number for number, holder in holders if holder not in NO_TEST}
    have = held(slug)
    assert set(have) == wanted
    module = importlib.import_module(f"tests.equations.test_{slug}")
    for number, test in have.items():
        name = test.__name__
        assert name.startswith("test_"), f"EQUATIONS[{number!r}] is {name}: pytest would not run it"
        assert getattr(module, name, None) is test, f"EQUATIONS[{number!r}] is not in the module"


@pytest.mark.parametrize("slug", SLUGS)
def test_every_named_function_exists(slug: str) -> None:
    _, holders = equations(notebook_text(slug))
    for number, holder in holders:
        if holder not in NO_TEST:
            assert holder.startswith("enhancelib."), f"equation {number}: {holder}"
            assert callable(resolve(holder)), f"equation {number}: {holder}"


@pytest.mark.parametrize("slug", SLUGS)
def test_the_tests_use_the_named_function(slug: str) -> None:
    source = (HERE / f"test_{slug}.py").read_text(encoding="utf-8")
    words = set(re.findall(r"\w+", source))
    for number, holder in equations(notebook_text(slug))[1]:
        if holder not in NO_TEST:
            assert holder.split(".")[-1] in words, f"equation {number}: {holder} is not used"


@pytest.mark.parametrize("slug", SLUGS)
def test_transcriptions_know_numpy_and_math_only(slug: str) -> None:
    file = HERE / f"transcriptions_{slug}.py"
    assert foreign(file.read_text(encoding="utf-8")) == []
    words = re.findall(r"transcriptions_\w+", (HERE / f"test_{slug}.py").read_text())
    assert file.stem in words, "the tests do not import the transcriptions"


def foreign(source: str) -> list[str]:
    """Imports of anything but numpy and math."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [a.name for a in node.names if a.name.split(".")[0] not in KNOWS]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] not in KNOWS:
            found.append("." * node.level + (node.module or ""))
        elif isinstance(node, ast.Name) and node.id in ("__import__", "exec", "eval"):
            found.append(node.id)
    return found


def test_the_reader_of_equations() -> None:
    text = "$$ y = x + v \\tag{1} $$\nEq. 1: enhancelib.degradations.GaussianNoise\n\n$$a\\tag{2}$$"
    assert equations(text) == (["1", "2"], [("1", "enhancelib.degradations.GaussianNoise")])


@pytest.mark.parametrize(
    "source",
    [
        "import torch",
        "from enhancelib import losses",
        "from . import x",
        "__import__('enhancelib')",
    ],
)
def test_foreign_imports_are_noticed(source: str) -> None:
    assert foreign(source)


def test_numpy_is_allowed() -> None:
    assert foreign("import numpy as np\nfrom math import pi\nimport math") == []
