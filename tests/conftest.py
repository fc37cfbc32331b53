"""Fixtures for what not every machine has: real test sets, official weights, feature networks.

Without them a test skips with the reason; with CI=true it fails, so that CI cannot pass by
skipping.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NoReturn

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
