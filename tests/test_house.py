"""The habits of the house that a machine can count."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "enhancelib"
MODULES = sorted(PACKAGE.rglob("*.py"))
WISHED_FILE, MAX_FILE = 400, 480  # a tenth of the files may pass the first
MAX_BODY, P90_BODY, MEDIAN_BODY = 60, 32, 13
MAX_REPOSITORY = 50e6
SHELVES = ("utils", "util", "helpers", "helper", "common", "misc")
# Where packages come from is the user's pip configuration, never ours. Split so that this file
# passes its own test.
HOSTS = ("pypi" + ".org", "files.python" + "hosted", "pypi" + "-more", "--index" + "-url")


def tracked() -> list[Path]:
    """Files that git tracks or would track."""
    words = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60)
    if done.returncode:
        pytest.skip("not a git checkout")
    return [p for name in done.stdout.split("\0") if name and (p := ROOT / name).is_file()]


def bodies() -> Iterator[tuple[int, str]]:
    """(lines of the body without its docstring, name) of every function."""
    for file in MODULES:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                body = node.body[1:] if ast.get_docstring(node) else node.body
                lines = (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0
                yield lines, f"{file.relative_to(ROOT)}, line {node.lineno}: {node.name}"


def test_files_are_short() -> None:
    sizes = sorted((len(file.read_text(encoding="utf-8").splitlines()), file) for file in MODULES)
    over = [(lines, file) for lines, file in sizes if lines > WISHED_FILE]
    told = "\n".join(f"{lines} {file.relative_to(ROOT)}" for lines, file in over)
    assert sizes[-1][0] <= MAX_FILE, told
    assert len(over) <= len(sizes) // 10, told


def test_functions_are_short() -> None:
    sizes = sorted(bodies())
    longest = "\n".join(f"{lines} {name}" for lines, name in sizes[-8:])
    assert sizes[-1][0] <= MAX_BODY, longest
    assert sizes[len(sizes) * 9 // 10][0] <= P90_BODY, longest
    assert sizes[len(sizes) // 2][0] <= MEDIAN_BODY, longest
    assert sum(lines > 40 for lines, _ in sizes) <= max(1, len(sizes) // 50), longest


def test_there_is_no_shelf_for_odds_and_ends() -> None:
    assert not [str(file) for file in MODULES if file.stem.strip("_") in SHELVES]


def test_the_repository_is_small() -> None:
    sizes = {file: file.stat().st_size for file in tracked()}
    largest = sorted(sizes, key=lambda file: sizes[file])[-5:]
    told = "\n".join(f"{sizes[file] / 1e6:.1f} MB {file.relative_to(ROOT)}" for file in largest)
    assert sum(sizes.values()) < MAX_REPOSITORY, told


def test_no_file_names_a_registry_host() -> None:
    found = []
    for file in tracked():
        content = file.read_bytes()
        found += [f"{file.relative_to(ROOT)}: {host}" for host in HOSTS if host.encode() in content]
    assert not found, "\n".join(found)


def test_no_file_is_left_over() -> None:
    odd = re.compile(r"\.(orig|rej|bak|swp|pyc|part|tmp)$|(^|/)\.DS_Store$")
    assert not [str(file) for file in tracked() if odd.search(file.as_posix())]


def test_input_is_never_checked_by_assert() -> None:
    # `assert isinstance(x, T)` tells mypy what is known already; anything else vanishes under -O
    asserts = [
        f"{file.relative_to(ROOT)}, line {node.lineno}: {ast.unparse(node)}"
        for file in MODULES
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Assert)
        and not re.match(r"isinstance\(|.* is not None$", ast.unparse(node.test))
    ]
    assert not asserts, "\n".join(asserts)


def test_the_licence_is_apache() -> None:
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License" in text
    assert "END OF TERMS AND CONDITIONS" in text
