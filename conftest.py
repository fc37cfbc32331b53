"""What holds for every test and every notebook cell that pytest runs: loopback only, few threads.

It lies at the root because `pytest --nbval notebooks/` reads no conftest below tests/.
"""

from __future__ import annotations

import importlib.util
import os
import tempfile
from pathlib import Path
from types import ModuleType

import pytest

GUARD = Path(__file__).parent / "tests" / "forbid_network"


def _guard() -> ModuleType:
    spec = importlib.util.spec_from_file_location("forbid_network", GUARD / "sitecustomize.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _settle() -> None:
    """Set what child processes inherit, before anything imports torch."""
    # small networks gain little from a second thread, and on a busy machine two threads wait for
    # each other: a smoke run then takes minutes instead of half a minute
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    path = os.environ.get("PYTHONPATH", "")
    if str(GUARD) not in path.split(os.pathsep):
        os.environ["PYTHONPATH"] = os.pathsep.join([str(GUARD), *filter(None, [path])])
    os.environ[guard.LOG] = LOG.name


guard = _guard()
LOG = tempfile.NamedTemporaryFile("r", prefix="enhancelib-network-")  # noqa: SIM115 lives as long as pytest
_settle()
guard.forbid()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many tests were skipped, also when none was, and what tried to leave the machine."""
    skipped = len(terminalreporter.stats.get("skipped", []))
    terminalreporter.write_line(f"skipped: {skipped}")
    tried = LOG.read().split()
    if tried:
        hosts = ", ".join(sorted(set(tried)))
        terminalreporter.write_line(f"refused {len(tried)} attempts to leave this machine: {hosts}")
