"""One smoke run per notebook and session, as a user would start it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

SmokeRun = Callable[[str], dict[str, Any]]


@pytest.fixture(scope="session")
def smoke_run(tmp_path_factory: pytest.TempPathFactory) -> SmokeRun:
    """`smoke_run(slug)` runs a notebook once at profile smoke; its results.json and "folder"."""
    done: dict[str, dict[str, Any]] = {}

    def run(slug: str) -> dict[str, Any]:
        if slug not in done:
            folder = tmp_path_factory.mktemp(f"golden-{slug}") / "run"
            words = [
                "-m",
                "enhancelib.cli",
                "run",
                slug,
                "--profile",
                "smoke",
                "--out",
                str(folder),
            ]
            ended = subprocess.run(
                [sys.executable, *words], capture_output=True, text=True, timeout=900
            )
            assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-3000:]
            results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
            done[slug] = {**results, "folder": str(folder)}
        return done[slug]

    return run
