"""The explore panel in a real JupyterLab: keyboard in, other pixels out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest

from tests.browser.conftest import DARK, LIGHT, Lab, Page

CELLS = (
    """
import skimage.data, torch
from torch.nn.functional import conv2d
from enhancelib import images
from enhancelib.widgets import Choice, Panel, Slider, View

def photo(name):
    return lambda: images.from_array(getattr(skimage.data, name)())[:, :256, :256]
""",
    """
def blurred(picture, sigma, kernel, amount):
    reach = torch.arange(-12.0, 13.0)
    line = torch.exp(-(reach**2) / (2 * sigma**2)) if kernel == "Gaussian" else reach.abs() <= sigma
    line = line / line.sum()
    soft = conv2d(picture[:, None], line[None, None, :, None], padding="same")
    soft = conv2d(soft, line[None, None, None, :], padding="same")[:, 0]
    after = picture + amount * (soft - picture)
    mse = (after - picture).square().mean()
    return View(picture, after, f"PSNR {-10 * mse.log10():.2f} dB to the sharp picture")
""",
    """
panel = Panel(
    blurred,
    controls={
        "sigma": Slider(2.0, 0.5, 6.0, 0.5, "blur σ", "px"),
        "amount": Slider(1.0, 0.0, 1.0, 0.05),
        "kernel": Choice("Gaussian", ("Gaussian", "box"), "kernel"),
    },
    pictures={name: photo(name) for name in ("chelsea", "astronaut", "coffee")},
    title="Explore: how blur costs detail",
    note="Move a slider, choose a photo or bring your own; the picture is computed anew each time.",
    labels=("sharp", "blurred"),
)
panel
""",
    "print('end')",
)


def scratch(path: Path) -> Path:
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(cell.strip()) for cell in CELLS],
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}},
    )
    nbformat.write(notebook, path)
    return path


@pytest.fixture(scope="module", params=[LIGHT, DARK], ids=["light", "dark"])
def page(
    request: pytest.FixtureRequest, lab: Lab, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Page]:
    page = lab.open(
        scratch(tmp_path_factory.mktemp("scratch") / "panel.ipynb"), theme=request.param
    )
    page.run_all()
    page.wait_for_cells()
    page.tab.wait_for_selector(".enh-after img[src^=blob]")
    yield page
    page.close()


def test_look(page: Page, request) -> None:
    page.slider("blur").scroll_into_view_if_needed()
    page.screenshot("panel-" + request.node.callspec.id)
    print(page.values(), page.caption(), page.outside, page.outputs())
