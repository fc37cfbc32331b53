"""One small study for all tests of DILIE's measuring sections."""

from __future__ import annotations

from pathlib import Path

import pytest

from enhancelib.papers.dilie.study import Study
from tests.papers.dilie import small


@pytest.fixture(scope="session")
def whole(features: Path, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A study that keeps what any test has found; use `s`."""
    return small.opened(tmp_path_factory.mktemp("dilie"))


@pytest.fixture
def s(whole: Study, tmp_path: Path) -> Study:
    """The same, in a run folder of the test's own."""
    return small.lent(whole, tmp_path / "run")
