"""Command line and plain papermill are the same run; JupyterLab's Run All: tests/browser."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pandas as pd

from enhancelib import results, runtime
from tests.conftest import SmokeRun


def test_papermill_gives_the_values_of_the_command_line(
    tmp_path: Path, smoke_run: SmokeRun
) -> None:
    folder = tmp_path / "run"
    source = runtime.data("notebooks") / "dncnn.ipynb"
    words = ["papermill", str(source), str(tmp_path / "out.ipynb"), "-p", "out", str(folder)]
    ended = subprocess.run(
        [sys.executable, "-m", *words], cwd=tmp_path, capture_output=True, text=True, timeout=600
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    own = pd.read_csv(folder / "values.csv")
    assert len(own) > 1000
    assert results.same(own, pd.read_csv(Path(smoke_run("dncnn")["folder"]) / "values.csv"))
