"""Tiny real wheels and source archives, and an environment in which pip sees no others."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from enhancelib.packages import Member, Package

BACKEND = """
import pathlib

def prepare_metadata_for_build_wheel(directory, config_settings=None):
    folder = pathlib.Path(directory, "{module}-1.0.dist-info")
    folder.mkdir()
    folder.joinpath("METADATA").write_text("Metadata-Version: 2.1\\nName: {name}\\nVersion: 1.0\\n")
    return folder.name

def build_wheel(directory, config_settings=None, metadata_directory=None):
    raise RuntimeError("nothing is built")
"""
PYPROJECT = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'


def local_pip(monkeypatch: pytest.MonkeyPatch, links: Path) -> None:
    """Let pip look into one folder and nowhere else, whatever this machine's configuration."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(links))


def wheel(folder: Path, name: str, files: Mapping[str, bytes]) -> Package:
    """Write NAME 1.0 as a wheel that holds `files`, and pin it."""
    module = name.replace("-", "_")
    path = folder / f"{module}-1.0-py3-none-any.whl"
    info = f"{module}-1.0.dist-info"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as content:
        for inside, value in files.items():
            content.writestr(inside, value)
        content.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        content.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        content.writestr(f"{info}/RECORD", "")
    return pinned(path, name)


def sdist(folder: Path, name: str, files: Mapping[str, bytes]) -> Package:
    """Write NAME 1.0 as a source archive that holds `files`, and pin it."""
    module = name.replace("-", "_")
    path = folder / f"{module}-1.0.tar.gz"
    own = {
        "PKG-INFO": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n".encode(),
        "pyproject.toml": PYPROJECT.encode(),
        "backend.py": BACKEND.format(name=name, module=module).encode(),
    }
    with tarfile.open(path, "w:gz") as content:
        for inside, value in {**own, **files}.items():
            entry = tarfile.TarInfo(f"{module}-1.0/{inside}")
            entry.size = len(value)
            content.addfile(entry, io.BytesIO(value))
    return pinned(path, name)


def pinned(path: Path, name: str) -> Package:
    """The table's entry for an archive as it now is."""
    return Package(
        name=name,
        version="1.0",
        sha256=sha256(path.read_bytes()),
        file=path.name,
        what=("tiny",),
        size=path.stat().st_size,
        stored=1000,
        brings="a few bytes",
        licence="CC0",
        without="the rest works",
    )


def member(path: str, content: bytes) -> Member:
    """The table's entry for a file inside an archive."""
    return Member(path, sha256(content), len(content))


def sha256(content: bytes) -> str:
    """As hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()
