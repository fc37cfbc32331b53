"""Imports run downhill: nothing below knows what stands above it."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import enhancelib
from enhancelib.papers import PAPERS

PACKAGE = Path(enhancelib.__file__).parent

# From the ground up. A module may import its own level and those below it, as long as no cycle
# arises; it may not import from above. Names are those directly under enhancelib.
LEVELS = (
    ("_compat",),
    ("runtime", "folders"),
    ("images", "decoding", "tiling", "pickles", "packages"),
    ("photos",),
    ("degradations",),
    ("datasets", "pairs", "pairfiles", "pairpool"),
    ("filters", "features", "weights", "models", "losses"),
    ("sources", "fetching"),
    ("recipes", "checkpoints", "parallel", "training", "memories", "adversarial"),
    ("variables", "stopping", "capacity", "keeping", "_evaluation", "internal"),
    ("similarity", "cielab", "metrics"),
    ("published", "claims", "tables", "results"),
    ("plots",),
    ("papers",),
    ("running", "publishing", "status", "enhancing"),
    ("widgets", "cli"),
)
RANK = {name: level for level, names in enumerate(LEVELS) for name in names}
LEAVES = ("widgets", "cli")
LAZY = (
    "torchvision",
    "matplotlib",
    "pandas",
    "ipywidgets",
    "anywidget",
    "skimage",
    "scipy",
    "h5py",
    "papermill",
    "lpips",
)
READERS = {"open", "read_text", "read_bytes", "load_file", "safe_open", "imread", "loadtxt"}
LOADERS = {"torch.load", "np.load", "numpy.load", "h5py.File", "Image.open"}


def modules() -> dict[str, ast.Module]:
    """Dotted name -> parsed source of every module of the package."""
    found = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = ast.parse(file.read_text(encoding="utf-8"))
    return found


MODULES = modules()


def imported(name: str) -> set[str]:
    """The modules of this package that one module imports, anywhere in its body."""
    is_package = (PACKAGE.parent / name.replace(".", "/")).is_dir()
    found = set()
    for node in ast.walk(MODULES[name]):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = name.split(".")
                parts = parts[: len(parts) - node.level + is_package]
                base = ".".join([*parts, *filter(None, [node.module])])
            children = {f"{base}.{alias.name}" for alias in node.names}
            modules = {child for child in children if child in MODULES}
            found |= modules if len(modules) == len(children) else modules | {base}
    return {target for target in found if target.split(".")[0] == "enhancelib"} - {name}


def room(name: str) -> str:
    """The name directly under enhancelib: "models" for enhancelib.models.dncnn."""
    return name.split(".")[1] if "." in name else ""


EDGES = {name: imported(name) for name in MODULES}


def test_every_module_has_a_level() -> None:
    unknown = sorted({room(name) for name in MODULES} - set(RANK) - {""})
    assert not unknown, f"give these a place in LEVELS: {', '.join(unknown)}"


def test_imports_run_downhill() -> None:
    upward = [
        f"{name} imports {target}"
        for name, targets in EDGES.items()
        for target in sorted(targets)
        if room(name) and room(target) and RANK[room(target)] > RANK[room(name)]
    ]
    assert not upward, "\n".join(upward)


def test_the_package_itself_imports_only_the_work_around() -> None:
    assert EDGES["enhancelib"] == {"enhancelib._compat"}


def test_there_is_no_cycle() -> None:
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, f"cycle: {' -> '.join([*path[path.index(name) :], name])}"
        if name not in done:
            for target in sorted(EDGES.get(name, ())):
                visit(target, (*path, name))
            done.add(name)

    for name in MODULES:
        visit(name, ())


def paper(name: str) -> str | None:
    """The paper whose room a module is in: "dncnn" for enhancelib.papers.dncnn.figures."""
    parts = name.split(".")
    return parts[2] if room(name) == "papers" and len(parts) > 2 and parts[2] in PAPERS else None


def test_papers_never_import_each_other() -> None:
    crossing = [
        f"{name} imports {target}"
        for name, targets in EDGES.items()
        for target in targets
        if paper(name) and paper(target) and paper(name) != paper(target)
    ]
    assert not crossing, "\n".join(crossing)


def test_one_paper_is_imported_only_by_the_catalogue_and_running() -> None:
    allowed = ("enhancelib.papers", "enhancelib.running")
    others = [
        f"{name} imports {target}"
        for name, targets in EDGES.items()
        for target in targets
        if paper(target) and paper(name) != paper(target) and name not in allowed
    ]
    assert not others, "\n".join(others)


def test_widgets_and_cli_are_leaves() -> None:
    climbing = [
        f"{name} imports {target}"
        for name, targets in EDGES.items()
        for target in targets
        if room(target) in LEAVES and room(name) != room(target)
    ]
    assert not climbing, "\n".join(climbing)


@pytest.mark.parametrize("place", ["models", "losses"])
def test_models_and_losses_never_read_files(place: str) -> None:
    reading = []
    for name, tree in MODULES.items():
        if room(name) != place:
            continue
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            called = ast.unparse(node.func)
            if called.split(".")[-1] in READERS or called in (
                "torch.load",
                "np.load",
                "numpy.load",
            ):
                reading.append(f"{name}, line {node.lineno}: {called}")
    assert not reading, "\n".join(reading)


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = f"import sys, enhancelib; print([m for m in {LAZY!r} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", sorted(set(MODULES) - {"enhancelib"}))
def test_heavy_libraries_are_imported_where_they_are_used(name: str) -> None:
    allowed = {"ipywidgets", "anywidget"} if room(name) == "widgets" else set()
    top = []
    for node in MODULES[name].body:  # `if TYPE_CHECKING:` blocks are below the top level
        if isinstance(node, ast.Import):
            top += [alias.name.split(".")[0] for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            top.append((node.module or "").split(".")[0])
    heavy = sorted(set(top) & set(LAZY) - allowed)
    assert not heavy, f"{name} imports {', '.join(heavy)} at its top"
