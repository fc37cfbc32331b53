"""The explore panel in a real JupyterLab: keyboard in, other pixels out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient
from nbconvert import HTMLExporter
from PIL import Image

from tests.browser.conftest import DARK, LIGHT, Lab, Page

pytestmark = pytest.mark.browser

SHOWN = ".enh-after img[src^=blob]"
SIGMA = "radius of the blur, σ (px)"
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
        "sigma": Slider(2.0, 0.5, 6.0, 0.5, "radius of the blur, σ", "px"),
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
    notebook = scratch(tmp_path_factory.mktemp("scratch") / "panel.ipynb")
    page = lab.open(notebook, theme=request.param)
    page.hide_sidebar()
    page.run_all()
    page.wait_for_cells()
    page.tab.wait_for_selector(SHOWN)
    yield page
    assert page.outside == []
    page.close()


def theme(page: Page) -> str:
    light = page.tab.locator("body").get_attribute("data-jp-theme-light")
    return {"true": "light", "false": "dark"}[str(light)]


def test_cells_print_what_they_should(page: Page) -> None:
    outputs = page.outputs()
    assert outputs[0] == outputs[1] == ""
    assert outputs[2].endswith(" ms")
    assert outputs[3] == "end\n"


def test_slider_moves_by_keyboard_and_another_picture_comes(page: Page) -> None:
    before, after, caption = page.picture("before"), page.picture("after"), page.caption()
    shown = page.values()[SIGMA]
    page.press(page.slider("radius"), "ArrowRight", 3)
    page.wait_for_change(page.caption, caption)
    page.wait_for_change(page.picture, after)
    assert page.values()[SIGMA] == f"{float(shown) + 1.5:.1f}"
    assert page.picture("before") == before
    assert page.caption().startswith("PSNR ")
    page.screenshot(f"panel-{theme(page)}", top=".enh-panel")


def test_divider_moves_by_keyboard_and_by_mouse(page: Page) -> None:
    handle, frame = page.tab.locator(".enh-handle"), page.tab.locator(".enh-frame")
    full = frame.screenshot()

    def position() -> float:
        return float(handle.get_attribute("aria-valuenow") or "nan")

    page.press(handle, "Home")
    assert position() == 0
    page.press(handle, "ArrowRight", 7)
    page.press(handle, "Shift+ArrowRight", 2)
    assert position() == 27
    assert handle.get_attribute("aria-valuetext") == "27 % sharp, 73 % blurred"
    assert handle.evaluate("(h) => h === document.activeElement")
    page.press(handle, "End")
    assert position() == 100
    assert frame.screenshot() != full
    box = frame.bounding_box()
    assert box is not None
    middle = box["y"] + box["height"] / 2
    page.tab.mouse.move(box["x"] + box["width"] * 0.8, middle)
    page.tab.mouse.down()
    page.tab.mouse.move(box["x"] + box["width"] * 0.25, middle, steps=4)
    page.tab.mouse.up()
    assert position() == pytest.approx(25, abs=1)


def test_zoom_shows_square_pixels_inside_its_own_frame(page: Page) -> None:
    image, view = page.tab.locator(".enh-after img"), page.tab.locator(".enh-view")
    sizes = {}
    for zoom in ("1:1", "2:1", "4:1", "Fit"):
        page.tab.get_by_role("button", name=zoom, exact=True).click()
        page.tab.wait_for_selector(f'.enh-zoom[aria-pressed="true"]:text-is("{zoom}")')
        sizes[zoom] = image.evaluate("(i) => [i.width, getComputedStyle(i).imageRendering]")
        if zoom == "4:1":
            assert view.evaluate("(v) => v.scrollWidth > v.clientWidth")
            label = page.tab.locator(".enh-after .enh-label").bounding_box()
            frame = view.bounding_box()
            assert label
            assert frame
            assert frame["x"] <= label["x"] <= frame["x"] + frame["width"] - label["width"]
            assert frame["y"] <= label["y"] <= frame["y"] + frame["height"] - label["height"]
            page.screenshot(f"panel-zoomed-{theme(page)}", top=".enh-panel")
    assert sizes["1:1"] == [256, "auto"]
    assert sizes["2:1"] == sizes["Fit"] == [512, "pixelated"]
    assert sizes["4:1"] == [1024, "pixelated"]


def test_nothing_overflows_and_nothing_overlaps(page: Page) -> None:
    wide = "(e) => e.scrollWidth - e.clientWidth"
    assert page.tab.locator(".jp-WindowedPanel-outer").evaluate(wide) == 0
    assert page.tab.locator(".enh-panel").evaluate(wide) == 0
    rows = page.tab.locator(".enh-panel .widget-inline-hbox, .enh-upload, .enh-divider")
    boxes = [box for row in rows.all() if (box := row.bounding_box())]
    assert len(boxes) == 9  # title, note, photo, button, hint, three controls, picture
    assert sorted(box["height"] for box in boxes)[-2] < 80  # of a label and its control
    for k, one in enumerate(boxes):
        for other in boxes[k + 1 :]:
            apart = (
                one["x"] + one["width"] <= other["x"]
                or other["x"] + other["width"] <= one["x"]
                or one["y"] + one["height"] <= other["y"]
                or other["y"] + other["height"] <= one["y"]
            )
            assert apart, (one, other)


def test_text_is_readable_in_this_theme(page: Page) -> None:
    luminances = page.tab.evaluate(
        """() => {
          const colour = (css) => css.match(/[0-9.]+/g).slice(0, 3).map((v) => {
            const x = v / 255;
            return x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4;
          });
          const light = (css) => {
            const [r, g, b] = colour(css);
            return 0.2126 * r + 0.7152 * g + 0.0722 * b;
          };
          const paper = getComputedStyle(document.querySelector(".jp-NotebookPanel"));
          const names = [".enh-caption", ".enh-hint", ".enh-title", ".enh-problem"];
          const ink = (name) => getComputedStyle(document.querySelector(name)).color;
          return [paper.backgroundColor, ...names.map(ink)].map(light);
        }"""
    )
    paper = luminances[0]
    for ink in luminances[1:]:
        bright, dark = max(paper, ink), min(paper, ink)
        assert (bright + 0.05) / (dark + 0.05) > 3.5  # WCAG's contrast ratio; hints are secondary


def test_own_photo_above_the_servers_message_limit(page: Page, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (2400, 2000, 3), dtype=np.uint8)
    photo = tmp_path / "mine.png"
    Image.fromarray(noise).save(photo, compress_level=0)
    assert photo.stat().st_size > 10 * 2**20
    before = page.picture("before")
    page.tab.locator(".enh-upload input").set_input_files(photo)
    page.tab.wait_for_selector(
        '.enh-hint:text-is("mine.png: 2000x2400 pixels, reduced to 427x512")'
    )
    page.wait_for_change(lambda: page.picture("before"), before)
    assert page.values()["photo"] == "yours: mine.png"
    (tmp_path / "bad.jpg").write_bytes(b"not a picture")
    page.tab.locator(".enh-upload input").set_input_files(tmp_path / "bad.jpg")
    page.tab.wait_for_selector('.enh-problem:has-text("Not loaded: bad.jpg")')
    page.screenshot(f"panel-upload-{theme(page)}", top=".enh-panel")


def test_the_still_gives_way_to_the_live_view(page: Page) -> None:
    still = page.tab.locator("[data-enh-still]")
    assert still.count() == 1
    assert not still.is_visible()


def test_html_export_shows_the_still_without_a_network(lab: Lab, tmp_path: Path) -> None:
    notebook = nbformat.read(scratch(tmp_path / "panel.ipynb"), as_version=4)
    NotebookClient(notebook, timeout=120, store_widget_state=True).execute()
    page, _ = HTMLExporter(embed_images=True).from_notebook_node(notebook)
    (tmp_path / "panel.html").write_text(page, encoding="utf-8")
    context = lab.browser.new_context(offline=True, viewport={"width": 1000, "height": 900})
    tab = context.new_page()
    tab.goto((tmp_path / "panel.html").as_uri(), wait_until="commit")
    image = tab.locator("[data-enh-still] img")
    image.wait_for(state="visible")
    assert image.evaluate("(i) => [i.naturalWidth, i.naturalHeight]") == [256 + 8 + 256, 256]
    image.scroll_into_view_if_needed()
    path = lab.screenshots / "panel-export.png"
    tab.screenshot(path=path)
    print(f"screenshot: {path}")
    context.close()
