"""The loss explorer in a real JupyterLab: the page's pixels against autograd in this process."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
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
    """Of the weighted total, by autograd from scratch in this process.

    Contiguous, as in the kernel: channels-last convolutions differ in the last bit, and where such
    a bit turns a ReLU of VGG19 over, a pixel's gradient jumps by as much as 6/255 of its scale.
    """
    x = x[None].clone(memory_format=torch.contiguous_format).requires_grad_()
    sample = {"output": x, "clean": target[None].contiguous()}
    total, _ = objective().weighted(weights)(sample)
    return torch.autograd.grad(total, x)[0][0]


def farthest(page: Page, weights: dict[str, float], target: Tensor) -> float:
    """The largest difference between the page's pixels and the colours of autograd's gradient."""
    wanted = gradient(weights, shown(page, "before"), target)
    expected = (0.5 + 0.5 * wanted / facts(page)["scale"]).clamp(0, 1)
    assert float(expected.std()) > 0.02
    difference = float((shown(page, "after") - expected).abs().max())
    print(f"pixels against autograd: {255 * difference:.2f}/255 at {facts(page)['moment']}")
    return difference


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


def test_weights_move_by_keyboard(page: Page) -> None:
    preset(page, "PRaD paper")
    slider = page.tab.get_by_label("weight of colour", exact=True)
    box = page.tab.get_by_label("weight of colour, exact")
    assert box.input_value() == "0.1"
    assert slider.get_attribute("aria-valuetext") == "0.1"
    page.press(slider, "ArrowRight", 2)
    _until(lambda: box.input_value() == "0.15")
    page.press(slider, "Home")
    _until(lambda: box.input_value() == "0")
    row = page.tab.locator('[data-term="colour"]')
    _until(lambda: row.locator('[data-cell="of_value"]').inner_text() == "0.0 %")
    page.press(slider, "End")
    _until(lambda: float(box.input_value()) > 5)
    chosen = page.tab.get_by_label("weights of", exact=True)
    _until(lambda: page.values()["weights of"] == "custom")
    chosen.select_option("PRaD paper")
    _until(lambda: box.input_value() == "0.1")
    command = page.tab.locator(".enh-line").inner_text()
    box.fill("many")
    box.press("Enter")
    assert box.get_attribute("aria-invalid") == "true"
    assert page.tab.locator(".enh-line").inner_text() == command
    box.fill("1e-1")
    box.press("Enter")
    assert box.get_attribute("aria-invalid") == "false"
    assert page.values()["weights of"] == "PRaD paper"


def preset(page: Page, name: str) -> None:
    page.tab.get_by_label("weights of", exact=True).select_option(name)
    _until(lambda: page.values()["weights of"] == name)
    settled(page)


LATENCY = """
() => {
  const image = document.querySelector(".enh-after img");
  window.enhTimes = [];
  let pressed = null;
  const listen = () => { pressed = performance.now(); };
  document.addEventListener("keydown", listen, true);
  new MutationObserver(() => {
    const from = pressed;
    if (from === null) return;
    pressed = null;
    requestAnimationFrame(() => { // the message comes after this frame was painted
      const { port1, port2 } = new MessageChannel();
      port1.onmessage = () => window.enhTimes.push(performance.now() - from);
      port2.postMessage(0);
    });
  }).observe(image, { attributes: true, attributeFilter: ["src"] });
}
"""


def test_latency_from_key_press_to_changed_pixels(page: Page) -> None:
    """Stated, not asserted: it is the machine's as much as ours."""
    preset(page, "PRaD paper")
    page.tab.evaluate(LATENCY)
    slider = page.tab.get_by_label("weight of content", exact=True)
    slider.focus()
    for k in range(60):
        before = page.picture()
        page.tab.keyboard.press("ArrowRight" if k % 2 else "ArrowLeft")
        _until(lambda k=k: page.tab.evaluate("window.enhTimes.length") > k, 30)
        assert page.picture() != before
    times = page.tab.evaluate("window.enhTimes")
    half, most = (float(np.percentile(times, q)) for q in (50, 95))
    print(f"latency from key press to changed pixels: p50 {half:.0f} ms, p95 {most:.0f} ms")


def test_history_chart_and_command(page: Page) -> None:
    page.tab.get_by_label("photo", exact=True).select_option("chelsea")
    _until(lambda: page.values()["photo"] == "chelsea")
    settled(page)
    page.tab.get_by_label("steps at most").fill("4")
    page.press(page.tab.get_by_role("button", name="Run", exact=True), "Enter")
    _until(lambda: facts(page)["moment"] == "run 1, step 4", 180)
    settled(page)
    last = page.picture("before")
    page.press(page.slider("history"), "ArrowLeft", 2)
    _until(lambda: facts(page)["moment"] == "run 1, step 2")
    settled(page)
    assert page.picture("before") != last
    chart = page.tab.locator("svg.enh-chart")
    page.press(chart, "End")
    page.tab.keyboard.press("ArrowLeft")
    said = page.tab.locator(".enh-point-said").inner_text()
    assert said.startswith("run 1, step 3: content (before its weight) ")
    page.tab.keyboard.press("Enter")
    _until(lambda: facts(page)["moment"] == "run 1, step 3")
    settled(page)
    page.tab.get_by_label("vertical axis").select_option("colour")
    page.tab.wait_for_selector("svg text:text-is('colour (half the sum of squares)')")
    page.press(page.tab.get_by_role("button", name="copy as papermill parameters"), "Enter")
    page.tab.wait_for_selector(".enh-said:text-is('copied')")
    clipboard = page.tab.evaluate("navigator.clipboard.readText()")
    assert clipboard == page.tab.locator(".enh-line").inner_text()
    assert clipboard.startswith("papermill notebooks/prad.ipynb ")
    page.screenshot(f"explorer-history-{theme(page)}", top=".enh-explorer")


def test_every_control_is_reached_by_tab_has_a_name_and_lets_go(page: Page) -> None:
    page.tab.get_by_label("photo", exact=True).focus()
    seen: list[str] = []
    for _ in range(60):
        inside, name = page.tab.evaluate(
            """() => {
              const on = document.activeElement;
              const label = on.getAttribute("aria-label") || on.labels?.[0]?.textContent
                || on.textContent || on.title;
              return [Boolean(on.closest(".enh-explorer")), (label || "").trim()];
            }"""
        )
        if not inside:
            break
        seen.append(name)
        page.tab.keyboard.press("Tab")
    else:
        raise AssertionError(f"Tab does not leave the explorer: {seen}")
    assert all(seen), seen
    wanted = {"photo", "beside the picture", "step η", "fit η", "Run", "history", "weights of"}
    wanted |= {"reset", "horizontal axis", "copy as papermill parameters"}
    wanted |= {f"weight of {name}" for name in TERMS} | {f"weight of {n}, exact" for n in TERMS}
    assert wanted <= set(seen), wanted - set(seen)


@pytest.mark.parametrize("width", [900, 1400])
def test_nothing_overflows_and_nothing_overlaps(page: Page, width: int) -> None:
    page.tab.set_viewport_size({"width": width, "height": 1050})
    settled(page)
    page.tab.wait_for_timeout(300)
    wide = "(e) => e.scrollWidth - e.clientWidth"
    assert page.tab.locator(".jp-WindowedPanel-outer").evaluate(wide) == 0
    assert page.tab.locator(".enh-explorer").evaluate(wide) <= 0
    cells = page.tab.locator(
        ".enh-explorer :is(.widget-inline-hbox, .lm-Widget.widget-button, .enh-upload,"
        " .enh-terms, .enh-copy, .enh-chart, .enh-frame, .enh-caption, .enh-zooms, .enh-legend)"
    )
    boxes = [box for cell in cells.all() if (box := cell.bounding_box()) and box["height"]]
    assert len(boxes) >= 20
    for k, one in enumerate(boxes):
        for other in boxes[k + 1 :]:
            assert apart(one, other), (one, other)
    texts = page.tab.locator(".enh-terms :is(th, td), .enh-tick, .enh-label").all()
    assert [t.inner_text() for t in texts if t.is_visible() and t.evaluate(wide) > 1] == []
    page.screenshot(f"explorer-{width}-{theme(page)}", top=".enh-explorer")
    page.tab.set_viewport_size({"width": 1400, "height": 1050})


def apart(one: Any, other: Any) -> bool:
    slack = 0.5  # of a pixel: boxes end between pixels
    return bool(
        one["x"] + one["width"] <= other["x"] + slack
        or other["x"] + other["width"] <= one["x"] + slack
        or one["y"] + one["height"] <= other["y"] + slack
        or other["y"] + other["height"] <= one["y"] + slack
    )


def test_text_is_readable_in_this_theme(page: Page) -> None:
    contrasts = page.tab.evaluate(
        """() => {
          const light = (css) => {
            const [r, g, b] = css.match(/[0-9.]+/g).slice(0, 3).map((v) => {
              const x = v / 255;
              return x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4;
            });
            return 0.2126 * r + 0.7152 * g + 0.0722 * b;
          };
          const paper = light(getComputedStyle(document.querySelector(".jp-NotebookPanel"))
            .backgroundColor);
          const names = [".enh-caption", ".enh-hint", ".enh-pick", ".enh-number", ".enh-percent",
            ".enh-exact", ".enh-line", ".enh-tick", ".enh-axis-name", ".enh-entry"];
          return Object.fromEntries(names.map((name) => {
            const style = getComputedStyle(document.querySelector(`.enh-explorer ${name}`));
            const ink = light(name.match(/tick|axis/) ? style.fill : style.color);
            return [name, (Math.max(paper, ink) + 0.05) / (Math.min(paper, ink) + 0.05)];
          }));
        }"""
    )
    assert all(value > 3.5 for value in contrasts.values()), contrasts  # WCAG's contrast ratio


def test_weights_and_photo_return_when_the_cell_runs_again(page: Page, tmp_path: Path) -> None:
    Image.fromarray(random_photo(7, side=64)).save(tmp_path / "kept.png")
    page.tab.locator(".enh-upload input").set_input_files(tmp_path / "kept.png")
    _until(lambda: page.values()["photo"] == "yours: kept.png")
    settled(page)
    weights = dict(zip(TERMS, (0.25, 3.0, 0.125, 77.0), strict=True))
    typed(page, weights)
    before = (
        page.picture("before"),
        page.picture("after"),
        page.tab.locator(".enh-line").inner_text(),
    )
    page.tab.locator(".jp-CodeCell").nth(2).locator(".jp-InputArea-editor").click()
    old = page.tab.locator("[data-enh-still]").get_attribute("data-enh-still")
    page.tab.keyboard.press("Control+Enter")
    still = page.tab.locator("[data-enh-still]")
    _until(lambda: still.count() == 1 and still.get_attribute("data-enh-still") != old)
    settled(page)
    after = (
        page.picture("before"),
        page.picture("after"),
        page.tab.locator(".enh-line").inner_text(),
    )
    assert after == before
    assert page.values()["photo"] == "yours: kept.png"
    assert not still.is_visible()


def everything(page: Page) -> tuple[bytes, bytes, str]:
    command = page.tab.locator(".enh-line").inner_text()
    return page.picture("before"), page.picture("after"), command


def test_html_export_shows_the_still_without_a_network(lab: Lab, tmp_path: Path) -> None:
    notebook = nbformat.read(scratch(tmp_path / "explorer.ipynb", side=128), as_version=4)
    NotebookClient(notebook, timeout=240, store_widget_state=True).execute()
    for look in ("light", "dark"):
        exporter = HTMLExporter(embed_images=True, theme=look)
        html, _ = exporter.from_notebook_node(notebook)
        path = tmp_path / f"{look}.html"
        path.write_text(html, encoding="utf-8")
        context = lab.browser.new_context(offline=True, viewport={"width": 1000, "height": 900})
        tab = context.new_page()
        tab.goto(path.as_uri(), wait_until="commit")
        figure = tab.locator("[data-enh-still]")
        figure.wait_for(state="visible")
        assert figure.locator("img").evaluate("(i) => [i.naturalWidth, i.naturalHeight]") == [
            128 + 8 + 128,
            128,
        ]
        assert figure.locator("tbody tr").count() == len(TERMS)
        assert "share of gradient norm" in figure.inner_text()
        figure.scroll_into_view_if_needed()
        shot = lab.screenshots / f"explorer-export-{look}.png"
        tab.screenshot(path=shot)
        print(f"screenshot: {shot}")
        context.close()
