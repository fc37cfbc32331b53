"""Panels without a browser: controls are set as a page would set them, traits are read."""

from __future__ import annotations

import gc
import io
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path

import ipywidgets
import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image
from torch import Tensor

from enhancelib import images
from enhancelib.widgets import BeforeAfter, Choice, Panel, PhotoUpload, Slider, View
from enhancelib.widgets.pictures import STILL_BYTES, opened, png, quick_png, still, still_html
from enhancelib.widgets.worker import Newest

LIVING = ipywidgets.widgets.widget._instances  # ipywidgets' own table of open widgets


def photo(name: str = "chelsea") -> Tensor:
    return images.from_array(getattr(skimage.data, name)())[:, 50:178, 100:228]


def pixels(file: bytes) -> Tensor:
    return torch.from_numpy(np.array(Image.open(io.BytesIO(file)).convert("RGB"))).permute(2, 0, 1)


def dim(picture: Tensor, amount: float, way: str = "down") -> View:
    if amount == 0.9:
        raise ValueError("amount is 0.9; expected anything else")
    if amount == 0.8:
        raise KeyError("layer")
    after = picture * (1 - amount) if way == "down" else picture + amount
    return View(picture, after, f"{way} by {amount:.2f}")


@pytest.fixture
def panel() -> Iterator[Panel]:
    made = Panel(
        dim,
        controls={
            "amount": Slider(0.5, 0.0, 1.0, 0.05, "amount of it", "of 1"),
            "way": Choice("down", ("down", "up")),
        },
        pictures={name: lambda name=name: photo(name) for name in ("chelsea", "astronaut")},
        title="a <title>",
        limit=64,
    )
    yield made
    made.close()


def test_the_first_view_is_there_at_once(panel: Panel) -> None:
    assert torch.equal(pixels(panel.view.before), images.to_uint8(photo()))
    assert torch.equal(pixels(panel.view.after), images.to_uint8(photo() * 0.5))
    assert panel.status.startswith("down by 0.50 · ")
    assert panel.status.endswith(" ms")
    assert panel.values() == {"amount": 0.5, "way": "down"}


def test_a_panel_of_given_pictures_opens_no_others() -> None:
    made = Panel(
        dim, controls={"amount": Slider(0.5, 0, 1, 0.1)}, pictures={"a": photo}, limit=None
    )
    shown = _all(made.widget)
    assert made.photo in shown
    assert made.controls["amount"] in shown
    assert made.upload not in shown
    made.close()


def _all(widget: ipywidgets.Widget) -> list[ipywidgets.Widget]:
    """A widget and all below it."""
    below = [deep for child in getattr(widget, "children", ()) for deep in _all(child)]
    return [widget, *below]


def test_controls_change_picture_and_caption(panel: Panel) -> None:
    panel.controls["amount"].value = 0.25
    assert panel.wait().startswith("down by 0.25")
    assert torch.equal(pixels(panel.view.after), images.to_uint8(photo() * 0.75))
    panel.controls["way"].value = "up"
    assert panel.wait().startswith("up by 0.25")
    assert torch.equal(pixels(panel.view.after), images.to_uint8(photo() + 0.25))
    panel.photo.value = "astronaut"
    panel.wait()
    assert torch.equal(pixels(panel.view.before), images.to_uint8(photo("astronaut")))


def test_labels_units_and_number_types(panel: Panel) -> None:
    assert panel.controls["amount"].description == "amount of it (of 1)"
    assert panel.controls["amount"].readout_format == ".2f"
    assert panel.controls["way"].description == "way"
    whole = Panel(
        lambda picture, sigma: View(picture, picture, type(sigma).__name__),
        controls={"sigma": Slider(25, 0, 75)},
        pictures={"chelsea": photo},
    )
    assert whole.status.startswith("int · ")
    assert isinstance(whole.controls["sigma"], ipywidgets.IntSlider)
    whole.close()


def test_text_cannot_become_markup(panel: Panel) -> None:
    assert "a &lt;title&gt;" in panel.widget.children[0].value


def test_dragging_computes_the_newest_wish_only() -> None:
    gate, begun, seen = threading.Event(), threading.Event(), []

    def slow(picture: Tensor, step: int) -> View:
        seen.append(step)
        if step:
            begun.set()
            gate.wait(20)
        return View(picture, picture, f"step {step}")

    panel = Panel(slow, controls={"step": Slider(0, 0, 50)}, pictures={"chelsea": photo})
    for step in range(1, 31):
        panel.controls["step"].value = step
        assert begun.wait(20)  # the first of them is being computed while the others arrive
    assert panel.view.busy
    gate.set()
    assert panel.wait().startswith("step 30 · ")
    assert seen == [0, 1, 30]
    assert not panel.view.busy
    panel.close()


def test_errors_are_a_sentence_and_pass(panel: Panel) -> None:
    good = panel.view.after
    panel.controls["amount"].value = 0.9
    assert panel.wait() == "Not updated: amount is 0.9; expected anything else"
    assert isinstance(panel.failure, ValueError)
    assert panel.view.after == good
    panel.controls["amount"].value = 0.8
    assert panel.wait() == "Not updated: KeyError: 'layer'"
    panel.controls["amount"].value = 0.5
    assert panel.wait().startswith("down by 0.50")
    assert panel.failure is None
    assert panel.view.problem == ""


def test_a_first_view_that_fails_raises() -> None:
    controls = {"amount": Slider(0.9, 0.0, 1.0, 0.05)}
    with pytest.raises(ValueError, match=r"amount is 0\.9"):
        Panel(dim, controls=controls, pictures={"chelsea": photo})


def test_a_photo_that_does_not_load_is_a_sentence(panel: Panel) -> None:
    def missing() -> Tensor:
        raise FileNotFoundError("photo bank is empty; run `enhancelib fetch`")

    panel._loaders["astronaut"] = missing
    panel.photo.value = "astronaut"
    assert panel.wait() == "Not updated: photo bank is empty; run `enhancelib fetch`"


def test_own_photo(panel: Panel) -> None:
    own = skimage.data.coffee()[:60, :48]
    file = io.BytesIO()
    Image.fromarray(own).save(file, "PNG")
    panel.upload.file = ("cup.png", file.getvalue())
    panel.wait()
    assert panel.photo.value == "yours: cup.png"
    assert torch.equal(pixels(panel.view.before), torch.from_numpy(own.copy()).permute(2, 0, 1))
    assert "cup.png: 48x60 pixels<" in panel._hint.value
    panel.upload.file = ("other.png", png(photo()))
    panel.wait()
    assert panel.photo.options == ("chelsea", "astronaut", "yours: other.png")
    assert pixels(panel.view.before).shape == (3, 64, 64)
    assert "other.png: 128x128 pixels, reduced to 64x64<" in panel._hint.value
    panel.photo.value = "chelsea"
    panel.wait()
    assert torch.equal(pixels(panel.view.before), images.to_uint8(photo()))


def test_the_same_name_with_another_content_is_shown(panel: Panel) -> None:
    panel.upload.file = ("mine.png", png(torch.zeros(3, 9, 9)))
    panel.wait()
    panel.upload.file = ("mine.png", png(torch.ones(3, 9, 9)))
    panel.wait()
    assert int(pixels(panel.view.before).min()) == 255


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("empty.jpg", b"", "empty.jpg"),
        ("notes.txt", b"no picture at all", "notes.txt"),
        ("cut.png", png(torch.rand(3, 64, 64))[:2000], "cut.png"),
        ("../../etc/evil.png", b"x", "evil.png"),
    ],
)
def test_a_bad_file_is_refused_with_a_sentence(
    panel: Panel, name: str, content: bytes, words: str
) -> None:
    before = panel.view.before
    panel.upload.file = (name, content)
    assert panel.wait().startswith(f"Not loaded: {words}: ")
    assert "/tmp" not in panel.status
    assert panel.photo.value == "chelsea"
    assert panel.view.before == before


def test_upload_arrives_in_parts() -> None:
    upload, seen = PhotoUpload(most=100), []
    upload.observe(lambda change: seen.append(change["new"]), "file")
    upload._message(None, {"kind": "file", "name": "a.png", "size": 5}, [])
    upload._message(None, {"kind": "part", "at": 0}, [memoryview(b"abc")])
    assert seen == []
    upload._message(None, {"kind": "file", "name": "b.png", "size": 4}, [])  # a new choice wins
    upload._message(None, {"kind": "part", "at": 3}, [memoryview(b"de")])
    upload._message(None, {"kind": "part", "at": 0}, [memoryview(b"12")])
    upload._message(None, {"kind": "part", "at": 2}, [memoryview(b"34")])
    assert seen == [("b.png", b"1234"), None]
    upload._message(None, {"kind": "file", "name": "c.png", "size": 3_000_000}, [])
    assert upload.refused == "c.png: 3 MB; expected at most 0 MB"
    upload.close()


def test_a_file_too_large_is_a_sentence_in_the_panel(panel: Panel) -> None:
    panel.upload._message(None, {"kind": "file", "name": "raw.tif", "size": 500_000_000}, [])
    assert panel.status == "Not loaded: raw.tif: 500 MB; expected at most 134 MB"


def test_quick_png_is_the_same_picture() -> None:
    generator = torch.Generator().manual_seed(0)
    for shape in ((3, 1, 1), (3, 256, 256), (3, 37, 501)):
        picture = torch.rand(shape, generator=generator) * 1.2 - 0.1
        assert torch.equal(pixels(quick_png(picture)), images.to_uint8(picture))


def test_the_hint_speaks_of_the_photo_shown(panel: Panel) -> None:
    panel.upload.file = ("mine.png", png(torch.zeros(3, 9, 9)))
    panel.wait()
    assert "mine.png: 9x9 pixels<" in panel._hint.value
    panel.photo.value = "chelsea"
    assert "A side of at most 64 pixels" in panel._hint.value
    panel.photo.value = "yours: mine.png"
    assert "mine.png: 9x9 pixels<" in panel._hint.value


def test_pictures_may_stand_side_by_side(panel: Panel) -> None:
    assert panel.view.arrangement == "divider"
    panel.view.arrangement = "beside"
    with pytest.raises(Exception, match="above"):
        panel.view.arrangement = "above"


def test_large_photos_keep_their_shape() -> None:
    wide, said = opened("wide.png", png(photo().repeat(1, 4, 8)), limit=100)
    assert wide.shape == (3, 50, 100)
    assert said == "wide.png: 1024x512 pixels, reduced to 100x50"
    assert 0 <= float(wide.min()) <= float(wide.max()) <= 1
    grey = photo().mean()
    assert float(wide.mean()) == pytest.approx(float(grey), abs=0.005)  # means of blocks keep it


def test_still_fits_and_is_never_resampled() -> None:
    view = View(torch.rand(3, 300, 300), torch.rand(1, 300, 300), "noise & <noise>")
    file = still(view)
    assert len(file) <= STILL_BYTES
    shown = pixels(file)
    height, width = shown.shape[1], (shown.shape[2] - 8) // 2
    top, left = (300 - height) // 2, (300 - width) // 2
    centre = images.to_uint8(view.before)[:, top : top + height, left : left + width]
    spots = (shown[:, :, :width].int() - centre.int()).abs().sum()
    assert int(spots) == 0
    small = View(photo(), photo() * 0.5, "")
    assert torch.equal(pixels(still(small))[:, :, :128], images.to_uint8(photo()))


def test_still_is_a_self_contained_figure(panel: Panel, capsys: pytest.CaptureFixture[str]) -> None:
    text = still_html(panel._shown, labels=("a", "<b>"), name=panel.view.still)
    assert f'data-enh-still="{panel.view.model_id}"' in text
    assert "data:image/png;base64," in text
    assert "right: &lt;b&gt;. down by 0.50" in text
    assert "http" not in text
    panel._ipython_display_()
    assert "down by 0.50" in capsys.readouterr().out


def test_close_leaves_nothing() -> None:
    before, threads = set(LIVING), threading.active_count()
    panel = Panel(
        dim, controls={"amount": Slider(0.5, 0.0, 1.0, 0.05)}, pictures={"chelsea": photo}
    )
    panel.controls["amount"].value = 0.1
    panel.close()
    assert set(LIVING) == before
    assert threading.active_count() <= threads
    watch = weakref.ref(panel)
    del panel
    gc.collect()
    assert watch() is None


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_worker_survives_a_job_that_dies() -> None:
    worker, seen = Newest(), []

    def die() -> None:
        raise SystemExit  # ends its thread without a traceback

    worker.submit(die)
    assert worker.wait(10)
    worker.submit(lambda: seen.append(1))
    assert worker.wait(10)
    assert seen == [1]
    worker.close()
    worker.submit(lambda: seen.append(2))
    assert seen == [1]


def test_front_end_needs_nothing_from_outside() -> None:
    folder = Path(images.__file__).parent / "widgets"
    for file in [*folder.glob("*.js"), *folder.glob("*.css")]:
        text = file.read_text(encoding="utf-8")
        assert "http" not in text, file
        assert "import " not in text.replace("no imports", ""), file
    assert 'role: "slider"' in BeforeAfter()._esm
    assert "--jp-ui-font-color1" in BeforeAfter()._css
