"""What an install brings: constraints, environment.yml and the wheel agree with pyproject.toml."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# conda and `python -m venv` bring pip themselves; its version is theirs
UNPINNED = {"pip"}


def direct() -> dict[str, Requirement]:
    """Every requirement of pyproject.toml, with all extras, by canonical name."""
    extras = PROJECT["optional-dependencies"]
    lines = [*PROJECT["dependencies"], *(line for extra in extras.values() for line in extra)]
    return {canonicalize_name(Requirement(line).name): Requirement(line) for line in lines}


def pinned() -> dict[str, str]:
    """Name -> version of constraints.txt."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    kept = [line for line in lines if line and not line.startswith("#")]
    pairs = [line.split("==") for line in kept]
    assert all(len(pair) == 2 for pair in pairs), "constraints.txt: one name==version a line"
    return dict(pairs)


def needed(requirement: Requirement, found: set[str]) -> None:
    """Add what one requirement needs here, and what that needs."""
    name = canonicalize_name(requirement.name)
    if name in found:
        return
    found.add(name)
    for line in distribution(name).requires or []:
        child = Requirement(line)
        extras = {"", *requirement.extras}
        if child.marker is None or any(child.marker.evaluate({"extra": e}) for e in extras):
            needed(child, found)


def test_constraints_pin_every_direct_requirement_inside_its_range() -> None:
    have = pinned()
    for name, requirement in direct().items():
        if name not in UNPINNED:
            assert name in have, f"constraints.txt has no {name}"
            assert requirement.specifier.contains(have[name]), f"{name} {have[name]}: {requirement}"


def test_constraints_pin_what_the_requirements_need() -> None:
    found: set[str] = set()
    for requirement in direct().values():
        needed(requirement, found)
    cuda = {name for name in found if re.match(r"nvidia|cuda|triton", name)}
    missing = sorted(found - set(pinned()) - UNPINNED - cuda)
    assert not missing, f"constraints.txt lacks {', '.join(missing)}"


def test_constraints_hold_nothing_that_other_machines_cannot_get() -> None:
    text = (ROOT / "constraints.txt").read_text()
    pins = pinned()
    assert not [name for name, number in pins.items() if "+" in number], "local version label"
    assert not [name for name in pins if re.match(r"nvidia|cuda|triton", name)], "CUDA package"
    assert list(pins) == sorted(pins)
    assert "://" not in text
    assert "-e " not in text


def test_torch_and_torchvision_belong_together() -> None:
    # torchvision's own metadata demands exactly one torch
    lines = [Requirement(line) for line in distribution("torchvision").requires or []]
    torch = next(line for line in lines if line.name == "torch")
    assert version("torchvision").split("+")[0] == pinned()["torchvision"]
    assert torch.specifier.contains(pinned()["torch"])


def test_this_environment_is_the_pinned_one() -> None:
    other = []
    for name, wanted in pinned().items():
        try:
            have = version(name).split("+")[0]
        except PackageNotFoundError:
            continue  # needed on another Python version only
        if have != wanted:
            other.append(f"{name} {have} (constraints: {wanted})")
    assert not other, f"run `make install`: {', '.join(other)}"


def test_environment_yml_equals_pyproject_and_constraints() -> None:
    wanted = yaml.safe_load((ROOT / "environment.yml").read_text())
    conda = [line for line in wanted["dependencies"] if isinstance(line, str)]
    (inner,) = [line["pip"] for line in wanted["dependencies"] if isinstance(line, dict)]
    options = [line for line in inner if line.startswith("-")]
    pins = dict(line.split("==") for line in inner if not line.startswith("-"))
    have = pinned()
    assert [re.split(r"[<>=]", line)[0] for line in conda] == ["python", "pip"]
    assert conda[0].startswith("python" + PROJECT["requires-python"])
    assert conda[1] == str(direct()["pip"])
    assert options == ["--constraint constraints.txt", "--editable ."]
    assert pins == {name: have[name] for name in sorted(set(direct()) - UNPINNED)}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The names inside a wheel built from the tracked and untracked files of this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    skip = shutil.ignore_patterns(".*", "runs", "figures", "build", "dist", "__pycache__")
    shutil.copytree(ROOT, source, ignore=skip)
    command = "-m pip wheel --no-deps --no-build-isolation --no-index --quiet --wheel-dir"
    done = subprocess.run(
        [sys.executable, *command.split(), str(folder), str(source)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    (file,) = folder.glob("*.whl")
    with zipfile.ZipFile(file) as archive:
        return set(archive.namelist())


def test_the_wheel_carries_every_module(wheel: set[str]) -> None:
    files = {p.relative_to(ROOT).as_posix() for p in (ROOT / "enhancelib").rglob("*.py")}
    assert files <= wheel


def test_the_wheel_carries_the_data(wheel: set[str]) -> None:
    published = {f"enhancelib/_data/published/{p.name}" for p in ROOT.glob("data/published/*.csv")}
    assert published
    assert published <= wheel
    assert "enhancelib/_data/photos.csv" in wheel


def test_the_wheel_carries_the_notebooks(wheel: set[str]) -> None:
    notebooks = {f"enhancelib/_data/notebooks/{p.name}" for p in ROOT.glob("notebooks/*.ipynb")}
    assert notebooks
    assert notebooks <= wheel


def test_the_wheel_carries_the_licence_and_no_tests(wheel: set[str]) -> None:
    assert any(name.endswith("licenses/LICENSE") for name in wheel)
    assert not [name for name in wheel if name.startswith("tests/")]
