"""Stored notebooks in a real JupyterLab: Run All, their panels by hand, and their values."""

from __future__ import annotations

import io
import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from enhancelib import filters, images, results, runtime
from tests.browser.conftest import Lab, Page, _until
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


FILM, OWN = (
    f'.enh-panel:has(.enh-title:text-is("{title}"))'
    for title in ("A dehazing, layer by layer", "Your own photo")
)


def test_the_dilie_notebook(lab: Lab, tmp_path: Path) -> None:
    """Run All; then the film of the dehazing is scrubbed, and a photo from outside enhanced."""
    page = lab.open(_with_folder(runtime.data("notebooks") / "dilie.ipynb", tmp_path), height=1000)
    page.hide_sidebar()
    page.run_all()
    page.wait_for_cells(420)
    _scrub(page)
    _bring(page, tmp_path / "mine.png")
    assert page.outside == []
    page.close()


def _scrub(page: Page) -> None:
    """Another moment and another layer are other pixels, and the caption says which."""
    page.tab.wait_for_selector(f"{FILM} .enh-after img[src^=blob]")
    assert page.tab.locator(f"{FILM} .enh-upload").count() == 0, "no other photo has a film"
    seen = {_told(page, FILM): _pixels(page, FILM)}
    moment = page.tab.locator(f"{FILM} .noUi-handle")
    for act in (
        lambda: page.press(moment, "Home"),
        lambda: page.tab.locator(f"{FILM} select").last.select_option("t"),
        lambda: page.press(moment, "End"),
    ):
        before, shown = _told(page, FILM), page.picture(within=FILM)
        act()
        told = page.wait_for_change(lambda: _told(page, FILM), before)
        page.wait_for_change(lambda: page.picture(within=FILM), shown)  # comes after its caption
        seen[told] = _pixels(page, FILM)
    page.screenshot("dilie-film", top=FILM)
    read = [re.fullmatch(r"astronaut, (\w+) after (\d+) steps", caption) for caption in seen]
    assert [one and one[1] for one in read] == ["dehazed", "dehazed", "t", "t"]
    steps = [int(one[2]) for one in read if one]
    assert steps[1] == steps[2] < steps[0] == steps[3]
    pixels = list(seen.values())
    assert not any((a == b).all() for a, b in pairwise(pixels))
    assert (pixels[2] == pixels[2][..., :1]).all(), "t is a grey picture"
    assert not (pixels[1] == pixels[1][..., :1]).all()


def _bring(page: Page, photo: Path) -> None:
    """A photo that nobody has seen: the dark channel of it, then ten steps of a decomposition."""
    levels = np.random.default_rng().integers(0, 256, (6, 8, 3), dtype=np.uint8)
    cloudy = Image.fromarray(levels).resize((64, 48), Image.Resampling.BICUBIC)
    hazy = np.asarray(cloudy) * 0.4 + 140
    Image.fromarray(hazy.round().clip(0, 255).astype(np.uint8)).save(photo)
    before = _pixels(page, OWN)
    page.tab.locator(f"{OWN} .enh-upload input").set_input_files(photo)
    page.wait_for_change(lambda: _pixels(page, OWN).shape, before.shape)
    given = images.read(photo)
    dark = filters.dark_channel_dehaze(given[None])["output"][0].clamp(0, 1)
    seen = torch.from_numpy(_pixels(page, OWN)).permute(2, 0, 1).float() / 255
    torch.testing.assert_close(seen, dark, atol=1.01 / 255, rtol=0)
    page.press(page.tab.locator(f"{OWN} .noUi-handle"), "Home")
    page.press(page.tab.locator(f"{OWN} .noUi-handle"), "ArrowRight", 4)
    page.tab.locator(f"{OWN} select").last.select_option("dehaze")
    _until(lambda: _told(page, OWN) == "dehaze, 10 steps of every optimisation")
    page.screenshot("dilie-own", top=OWN)
    assert _pixels(page, OWN).shape == (48, 64, 3)


def _told(page: Page, panel: str) -> str:
    """The caption without the time that the picture took."""
    return page.caption(within=panel).split(" · ")[0]


def _pixels(page: Page, panel: str) -> Any:
    return np.array(Image.open(io.BytesIO(page.picture(within=panel))).convert("RGB"))


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
