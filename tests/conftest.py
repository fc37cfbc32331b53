"""Fixtures for what not every machine has: real test sets, official weights, feature networks.

Without them a test skips with the reason; with CI=true it fails, so that CI cannot pass by
skipping.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest

from enhancelib import runtime

FEATURES = ("vgg16", "alexnet", "vgg19_normalised", "vgg19")


def absent(reason: str) -> NoReturn:
    """Skip with the reason, or fail where CI=true."""
    if os.environ.get("CI", "").lower() in ("true", "1"):
        pytest.fail(f"CI=true, so this may not be skipped: {reason}", pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def assets() -> Path:
    """The folder with real test sets and official weights."""
    folder = runtime.assets()
    if folder is None:
        absent("no test assets: neither ENHANCELIB_ASSETS nor ../shared/assets is a folder")
    return folder


@pytest.fixture(scope="session")
def features() -> Path:
    """The cache, once every feature network that `enhancelib fetch` brings loads from it."""
    from enhancelib import features as networks

    try:
        for name in FEATURES:
            networks.load(name)
    except networks.FeaturesMissing as missing:
        absent(f"feature networks are not fetched: {missing}")
    return runtime.cache()


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
