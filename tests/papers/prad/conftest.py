"""One small trained system for all tests of PRaD that look at what is trained."""

from __future__ import annotations

from pathlib import Path

import pytest

from enhancelib.papers.prad.study import Study
from tests.papers.prad import small


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A study whose system has been trained for two steps; use `s`."""
    s = small.opened(tmp_path_factory.mktemp("prad"), steps=2)
    s.main(0)
    return s


@pytest.fixture
def s(whole: Study, tmp_path: Path) -> Study:
    """The same, in a run folder of the test's own."""
    return small.lent(whole, tmp_path / "run")
