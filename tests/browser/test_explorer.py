"""The loss explorer in a real JupyterLab: the pixels of the page against autograd in this process."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
import torch
from nbclient import NotebookClient
from nbconvert import HTMLExporter
from PIL import Image
from torch import Tensor

from enhancelib import features as networks
from enhancelib.losses import Objective, Term, pixel, texture
from enhancelib.losses.perceptual import Taps
from tests.browser.conftest import DARK, LIGHT, Lab, Page, _until

pytestmark = [pytest.mark.browser, pytest.mark.usefixtures("features")]

LAYER = "relu5_4"
TERMS = ("content", "texture", "colour", "tv")
CELLS = (
    """
import skimage.data, torch
from pathlib import Path
from torch.nn.functional import avg_pool2d
from enhancelib import features, images, widgets
from enhancelib.losses import Objective, Term, pixel, texture
from enhancelib.losses.perceptual import Taps

layer = "relu5_4"
objective = Objective(
    {
        "content": Term(1.0, pixel.mse, of=(f"output/{layer}", f"clean/{layer}")),
        "texture": Term(0.4, texture.gradient),
        "colour": Term(0.1, pixel.half_sse),
        "tv": Term(400.0, pixel.total_variation, of=("output",)),
    },
    prepare=Taps(features.load("vgg19"), {"output": (layer,), "clean": (layer,)}),
)
""",
    """
def phone(target):
    soft = avg_pool2d(target, 3, stride=1, padding=1, count_include_pad=False)
    return 0.75 * soft + 0.02 * torch.tensor([0.0, 0.5, 1.0]).view(1, 3, 1, 1)

def pair(name):
    target = images.from_array(getattr(skimage.data, name)())[:, :SIDE, 100:100 + SIDE]
    return phone(target[None]), target

def command(weights):
    words = " ".join(f"-p weight_{name} {value!r}" for name, value in weights.items())
    return f"papermill notebooks/prad.ipynb runs/prad.ipynb {words}"
""",
    """
explorer = widgets.LossExplorer(
    objective,
    pairs={name: (lambda name=name: pair(name)) for name in ("astronaut", "chelsea")},
    degrade=phone,
    presets={
        "PRaD paper": {"content": 1.0, "texture": 0.4, "colour": 0.1, "tv": 400.0},
        "DPED code": {"content": 10.0, "colour": 0.5, "tv": 2000.0},
    },
    command=command,
    curve=widgets.Curve(
        [{"content": 4.0 + 9 * t, "texture": 0.04 + 0.05 * t, "colour": 40 + 1100 * t**2,
          "tv": 0.012 / (1 + 9 * t)} for t in (0, 0.1, 0.2, 0.4, 0.7, 1)],
        label="200 steps for each of six weights",
    ),
    units={"colour": "half the sum of squares", "tv": "mean square difference"},
    folder=Path(FOLDER),
    title="Explore: what every loss term wants of a picture",
    note="Move a weight: value, shares and gradient follow at once. Run moves the pixels.",
)
explorer
""",
    "print('end')",
)


def scratch(path: Path, side: int = 256) -> Path:
    """A notebook with an explorer; its run folder lies beside it."""
    first, *others = (cell.strip() for cell in CELLS)
    first += f"\nSIDE, FOLDER = {side}, {str(path.parent / 'run')!r}"
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(cell) for cell in (first, *others)],
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}},
    )
    nbformat.write(notebook, path)
    return path


@pytest.fixture(scope="module", params=[LIGHT, DARK], ids=["light", "dark"])
def page(
    request: pytest.FixtureRequest, lab: Lab, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Page]:
    notebook = scratch(tmp_path_factory.mktemp("scratch") / "explorer.ipynb")
    page = lab.open(notebook, theme=request.param, width=1400, height=1050)
    page.tab.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.hide_sidebar()
    page.run_all()
    page.wait_for_cells(240)
    settled(page)
    yield page
    assert page.outside == []
    page.close()


def theme(page: Page) -> str:
    light = page.tab.locator("body").get_attribute("data-jp-theme-light")
    return {"true": "light", "false": "dark"}[str(light)]


def facts(page: Page) -> dict[str, Any]:
    text = page.tab.locator("figure.enh-divider").first.get_attribute("data-facts")
    return dict(json.loads(text or "{}"))


def settled(page: Page) -> None:
    """Wait until what is shown belongs to the picture shown and nothing is being computed."""

    def done() -> bool:
        busy = page.tab.locator("figure.enh-divider").first.get_attribute("aria-busy")
        return busy == "false" and facts(page).get("pending") is False

    page.tab.wait_for_selector(".enh-after img[src^=blob]")
    _until(done, 180)


def shown(page: Page, side: str) -> Tensor:
    array = np.array(Image.open(io.BytesIO(page.picture(side))).convert("RGB"))
    return torch.from_numpy(array).permute(2, 0, 1).float() / 255


def objective() -> Objective:
    taps = Taps(networks.load("vgg19"), {"output": (LAYER,), "clean": (LAYER,)})
    return Objective(
        {
            "content": Term(1.0, pixel.mse, of=(f"output/{LAYER}", f"clean/{LAYER}")),
            "texture": Term(0.4, texture.gradient),
            "colour": Term(0.1, pixel.half_sse),
            "tv": Term(400.0, pixel.total_variation, of=("output",)),
        },
        prepare=taps,
    )


def gradient(weights: dict[str, float], x: Tensor, target: Tensor) -> Tensor:
    """Of the weighted total, by autograd from scratch in this process."""
    x = x[None].clone().requires_grad_()
    total, _ = objective().weighted(weights)({"output": x, "clean": target[None]})
    return torch.autograd.grad(total, x)[0][0]


def farthest(page: Page, weights: dict[str, float], target: Tensor) -> float:
    """The largest difference between the page's pixels and the colours of autograd's gradient."""
    wanted = gradient(weights, shown(page, "before"), target)
    expected = (0.5 + 0.5 * wanted / facts(page)["scale"]).clamp(0, 1)
    assert float(expected.std()) > 0.02
    return float((shown(page, "after") - expected).abs().max())


def typed(page: Page, weights: dict[str, float]) -> None:
    """Weights into the number boxes, as a reader types them."""
    for name, value in weights.items():
        box = page.tab.get_by_label(f"weight of {name}, exact")
        box.fill(repr(value))
        box.press("Enter")
    command = page.tab.locator(".enh-line")
    _until(lambda: all(f"weight_{n} {v!r}" in command.inner_text() for n, v in weights.items()))
    settled(page)


def random_photo(seed: int, side: int = 256) -> Any:
    """Clouds of three sizes and some noise: no photo of this repository."""
    generator = np.random.default_rng(seed)
    picture = np.zeros((side, side, 3))
    for cells in (4, 16, 64):
        small = generator.integers(0, 256, (cells, cells, 3), dtype=np.uint8)
        picture += np.asarray(Image.fromarray(small).resize((side, side), Image.Resampling.BICUBIC))
    noise = generator.normal(0, 6, picture.shape)
    return (picture / 3 + noise).round().clip(0, 255).astype(np.uint8)


def test_pixels_are_autograd_of_the_weighted_sum_and_again_after_run_and_stop(
    page: Page, tmp_path: Path
) -> None:
    seed = int.from_bytes(np.random.default_rng().bytes(4), "big")
    print(f"seed {seed}")
    array = random_photo(seed)
    Image.fromarray(array).save(tmp_path / "mine.png")
    target = torch.from_numpy(array).permute(2, 0, 1).float() / 255
    page.tab.locator(".enh-upload input").set_input_files(tmp_path / "mine.png")
    page.tab.wait_for_selector('.enh-hint:text-is("mine.png: 256x256 pixels")')
    _until(lambda: page.values()["photo"] == "yours: mine.png")
    settled(page)
    weights = dict(zip(TERMS, drawn(seed), strict=True))
    typed(page, weights)
    assert farthest(page, weights, target) <= 1 / 255
    page.screenshot(f"explorer-own-{theme(page)}", top=".enh-explorer")
    before = shown(page, "before")
    page.tab.get_by_role("button", name="Run", exact=True).click()
    _until(lambda: re.search(r"run 1, step [2-9]", str(facts(page).get("moment"))) is not None)
    page.tab.get_by_role("button", name="Stop", exact=True).click()
    page.tab.wait_for_selector("button:text-is('Stop'):disabled")
    settled(page)
    assert not torch.equal(shown(page, "before"), before)
    assert farthest(page, weights, target) <= 1 / 255
    page.screenshot(f"explorer-run-{theme(page)}", top=".enh-explorer")


def drawn(seed: int) -> list[float]:
    """Random weights around those of the paper, two decades wide."""
    factors = 10 ** np.random.default_rng(seed).uniform(-1, 1, len(TERMS))
    return [float(f"{w * f:.4g}") for w, f in zip((0.05, 40.0, 0.1, 400.0), factors, strict=True)]


