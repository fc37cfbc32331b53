"""The docstring of every public name holds its whole contract, and its examples run.

Checked for every public function, class and method: a one-sentence summary; every argument under
`Args:` and none besides; `Returns:` (or `Yields:`) where something comes back; every exception
raised in the body under `Raises:`; and for every entry of `Raises:` a doctest that triggers it.
"""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import enhancelib

PACKAGE = Path(enhancelib.__file__).parent
SECTION = re.compile(r"^([A-Z]\w*(?: \w+)?):(?: (.*))?$")  # also "Source: the paper, part 3"
ENTRY = re.compile(r"^(\*{0,2}[\w.]+(?:, \*{0,2}[\w.]+)*)(?: \([^)]*\))?:(?: |$)")
Function = ast.FunctionDef | ast.AsyncFunctionDef


def files() -> list[Path]:
    """Every module that is public: no part of its name begins with an underscore."""
    found = [file.relative_to(PACKAGE) for file in PACKAGE.rglob("*.py")]
    private = re.compile(r"^_(?!_init__)")
    return sorted(f for f in found if not any(private.match(part) for part in f.parts))


FILES = files()
assert FILES


def dotted(file: Path) -> str:
    parts = ("enhancelib", *file.with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def public(body: list[ast.stmt], prefix: str = "") -> Iterator[tuple[str, Function | ast.ClassDef]]:
    """(qualified name, node) of every public definition, methods included."""
    for node in body:
        if isinstance(node, ast.If | ast.Try):
            yield from public([*node.body, *node.orelse], prefix)
        elif isinstance(node, Function | ast.ClassDef) and not node.name.startswith("_"):
            yield prefix + node.name, node
            if isinstance(node, ast.ClassDef):
                yield from public(node.body, f"{prefix}{node.name}.")


def decorated(node: Function | ast.ClassDef, *names: str) -> bool:
    words = {word for one in node.decorator_list for word in re.findall(r"\w+", ast.unparse(one))}
    return bool(words & set(names))


def arguments(node: Function | ast.ClassDef, *, method: bool) -> list[str]:
    """The names a caller can give; for a class those of __init__ or of the dataclass fields."""
    if isinstance(node, ast.ClassDef):
        return class_arguments(node)
    given = node.args
    names = [arg.arg for arg in (*given.posonlyargs, *given.args)]
    if method and not decorated(node, "staticmethod"):
        names = names[1:]
    names += [arg.arg for arg in given.kwonlyargs]
    names += [arg.arg for arg in (given.vararg, given.kwarg) if arg]
    return [name for name in names if not name.startswith("_")]


def class_arguments(node: ast.ClassDef) -> list[str]:
    if call := constructor(node):
        return arguments(call, method=True)
    if not decorated(node, "dataclass"):
        return []
    fields = [child for child in node.body if isinstance(child, ast.AnnAssign)]
    kept = [f for f in fields if "ClassVar" not in ast.unparse(f.annotation)]
    kept = [f for f in kept if "init=False" not in (ast.unparse(f.value) if f.value else "")]
    return [f.target.id for f in kept if isinstance(f.target, ast.Name) and f.target.id[0] != "_"]


def sections(text: str) -> dict[str, list[str]]:
    """Section title -> its lines, dedented; the text before the first is under ""."""
    found: dict[str, list[str]] = {"": []}
    title = ""
    for line in inspect.cleandoc(text).splitlines():
        if match := SECTION.match(line):
            title = match[1]
            found.setdefault(title, []).append(match[2] or "")
            continue
        if line and not line.startswith(" "):
            title = ""  # a plain paragraph ends the section before it
        found[title].append(line.removeprefix("    ") if title else line)
    return found


def entries(lines: list[str]) -> list[str]:
    """The names that open an entry of an Args or Raises section."""
    matches = [ENTRY.match(line) for line in lines]
    return [name for match in matches if match for name in match[1].split(", ")]


def returns(node: Function) -> bool:
    """Whether something comes back; a property's summary already says what it is."""
    if decorated(node, "property", "cached_property"):
        return False
    nothing = node.returns is None or ast.unparse(node.returns) in ("None", "NoReturn", "Never")
    return not nothing


def raised(node: Function) -> set[str]:
    """Exceptions that the body itself raises by name."""
    found = set()
    for child in ast.walk(node):
        if isinstance(child, ast.Raise) and isinstance(child.exc, ast.Call):
            name = ast.unparse(child.exc.func).split(".")[-1]
            if name[0].isupper() and name != "NotImplementedError":
                found.add(name)
    return found


def offences(name: str, node: Function | ast.ClassDef) -> Iterator[str]:
    if decorated(node, "overload", "setter"):
        return
    text = ast.get_docstring(node)
    if not text:
        yield "has no docstring"
        return
    parts = sections(text)
    if not text.splitlines()[0].rstrip().endswith((".", "?", "!")):
        yield "its first line is not one sentence with a full stop"
    yield from argument_offences(node, parts, method="." in name)
    if isinstance(node, Function):
        if returns(node) and not {"Returns", "Yields"} & set(parts):
            yield "returns something but has no Returns:"
        for missing in sorted(
            raised(node) - {e.split(".")[-1] for e in entries(parts.get("Raises", []))}
        ):
            yield f"raises {missing} but Raises: does not name it"
    yield from raise_offences(text, parts)


def argument_offences(
    node: Function | ast.ClassDef, parts: dict[str, list[str]], *, method: bool
) -> Iterator[str]:
    have = {entry.lstrip("*") for entry in entries(parts.get("Args", []))}
    want = arguments(node, method=method)
    more = open_ended(node)  # **traits: any of its names may stand for it
    for name in want:
        if name not in have and not (name == more and have - set(want)):
            yield f"Args: does not name {name}"
    # a class without __init__ may document what its parent's constructor takes
    if more is None and (isinstance(node, Function) or constructor(node)):
        for name in sorted(have - set(want)):
            yield f"Args: names {name}, which is no argument"


def constructor(node: ast.ClassDef) -> ast.FunctionDef | None:
    for child in node.body:
        if isinstance(child, ast.FunctionDef) and child.name == "__init__":
            return child
    return None


def open_ended(node: Function | ast.ClassDef) -> str | None:
    """The name of **options, where there is one."""
    call = constructor(node) if isinstance(node, ast.ClassDef) else node
    return call.args.kwarg.arg if call and call.args.kwarg else None


def raise_offences(text: str, parts: dict[str, list[str]]) -> Iterator[str]:
    wanted = Counter(entry.split(".")[-1] for entry in entries(parts.get("Raises", [])))
    examples = doctest.DocTestParser().get_examples(text)
    messages = [example.exc_msg.partition(":")[0] for example in examples if example.exc_msg]
    shown = Counter(message.strip().split(".")[-1] for message in messages)
    for name, count in wanted.items():
        if shown[name] < count:
            yield f"Raises: names {name} {count} times, {shown[name]} doctests trigger it"


@pytest.mark.parametrize("file", FILES, ids=dotted)
def test_docstrings_hold_the_contract(file: Path) -> None:
    tree = ast.parse((PACKAGE / file).read_text(encoding="utf-8"))
    found = [] if ast.get_docstring(tree) else ["the module has no docstring"]
    for name, node in public(tree.body):
        found += [f"line {node.lineno}, {name}: {offence}" for offence in offences(name, node)]
    assert not found, f"{dotted(file)}\n  " + "\n  ".join(found)


@pytest.mark.parametrize("file", FILES, ids=dotted)
def test_examples_run(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(dotted(file))
    report: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS, verbose=False)
    for test in doctest.DocTestFinder(exclude_empty=True).find(module):
        runner.run(test, out=report.append)
    assert runner.summarize(verbose=False).failed == 0, "".join(report)


GOOD = '''
def half(x: float, *, y: int = 1) -> float:
    """Divide a number by two.

    Args:
        x: The number, any sign.
        y: Unused
            here.

    Returns:
        Half of it.

    Raises:
        ValueError: If x is not finite.

    Example:
        >>> half(2.0)
        1.0
        >>> half(float("nan"))
        Traceback (most recent call last):
        ValueError: x is nan
    """
    raise ValueError("x is nan")
'''


def first(source: str) -> list[str]:
    return [o for name, node in public(ast.parse(source).body) for o in offences(name, node)]


def test_the_checker_passes_a_whole_contract() -> None:
    assert first(GOOD) == []


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("        x: The number, any sign.\n", "", "Args: does not name x"),
        (
            "        y: Unused\n",
            "        y: Unused\n        z: What\n",
            "names z, which is no argument",
        ),
        ("    Returns:\n        Half of it.\n", "", "has no Returns"),
        ("    Raises:\n        ValueError: If x is not finite.\n", "", "raises ValueError but"),
        (
            "        ValueError: x is nan\n",
            "        TypeError: x is nan\n",
            "0 doctests trigger it",
        ),
        ("Divide a number by two.", "Divide a number", "not one sentence"),
    ],
)
def test_the_checker_notices(old: str, new: str, message: str) -> None:
    assert old in GOOD
    assert any(message in offence for offence in first(GOOD.replace(old, new, 1)))
