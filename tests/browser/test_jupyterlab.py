"""The stored notebook in a real JupyterLab: Run All, the slider, the divider, and its values."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from enhancelib import results, runtime
from tests.browser.conftest import Lab
from tests.conftest import SmokeRun

pytestmark = pytest.mark.browser


def test_the_dncnn_notebook(lab: Lab, tmp_path: Path, smoke_run: SmokeRun) -> None:
    """Run All gives the values of the command line, and the panel answers the keyboard."""
    copy = _with_folder(runtime.data("notebooks") / "dncnn.ipynb", tmp_path)
    page = lab.open(copy, height=1000)
    page.hide_sidebar()
    page.run_all()
    page.wait_for_cells(300)
    page.tab.wait_for_selector(".enh-after img[src^=blob]")
    after, caption = page.picture("after"), page.caption()
    page.press(page.slider("noise level"), "ArrowRight", 3)
    page.wait_for_change(page.caption, caption)
    page.wait_for_change(lambda: page.picture("after"), after)
    handle = page.tab.locator(".enh-handle")
    page.press(handle, "Home", 1)
    assert handle.get_attribute("aria-valuenow") == "0"
    page.screenshot("dncnn", top=".enh-panel")
    assert page.outside == []
    page.close()
    shown = pd.read_csv(tmp_path / "run" / "values.csv")
    typed = pd.read_csv(Path(smoke_run("dncnn")["folder"]) / "values.csv")
    assert results.same(shown, typed)


def _with_folder(notebook: Path, folder: Path) -> Path:
    """A copy whose parameters cell names a run folder of its own."""
    document = json.loads(notebook.read_text(encoding="utf-8"))
    for cell in document["cells"]:
        if "parameters" in cell["metadata"].get("tags", []):
            lines = "".join(cell["source"]).splitlines(keepends=True)
            changed = [
                f"out = {str(folder / 'run')!r}\n" if x.startswith("out = ") else x for x in lines
            ]
            assert changed != lines
            cell["source"] = changed
    copy = folder / notebook.name
    copy.write_text(json.dumps(document), encoding="utf-8")
    return copy
