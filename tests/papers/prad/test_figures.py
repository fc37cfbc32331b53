"""The notebook's pictures: of the right pixels, and of photos that may be published."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.patches import Rectangle
from PIL import Image
from torch import Tensor

from enhancelib import images, metrics, models, photos, plots, results, runtime
from enhancelib.models.prad import Critic, Generator
from enhancelib.pairs import Pairs
from enhancelib.papers.prad import bundled, data, drawing, figures
from enhancelib.papers.prad.settings import Parameters
from enhancelib.papers.prad.study import Study, apply
from enhancelib.results import Run

METHODS: dict[str, Callable[[Tensor], Tensor]] = {
    "darker": lambda x: 0.5 * x,
    "brighter (than white)": lambda x: x + 0.6,  # clipped where it is shown
}


@pytest.fixture(scope="module")
def s(tmp_path_factory: pytest.TempPathFactory) -> Study:
    p = Parameters(profile="smoke", device="cpu", out=str(tmp_path_factory.mktemp("study")))
    return Study(results.open_run("prad", p), p)


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """On the PIRM subset, where that is at hand."""
    root = runtime.assets()
    if root is None:
        pytest.skip("no test assets: no real pairs")
    folder = tmp_path_factory.mktemp("real")
    p = Parameters(profile="smoke", device="cpu", out=str(folder), data_root=str(root / "data"))
    return Study(results.open_run("prad", p), p)


def generator(**options: Any) -> Generator:
    seeded = torch.Generator().manual_seed(0)
    made: Any = models.build("prad", **{"widths": (4, 6, 8), "generator": seeded, **options})
    return made.eval()


def pixels(ax: Any) -> Any:
    return np.asarray(ax.images[0].get_array())


def channels_last(image: Tensor) -> Any:
    return image.clamp(0, 1).permute(1, 2, 0).numpy()


def insist_publishable(run: Run, name: str, shown: set[str]) -> None:
    """The PNG is there, small enough, and what it shows is named and may be published."""
    assert set(run.figures[name]["photos"]) == shown
    assert all(photos.find(photo).publishable for photo in shown)
    file = run.folder / run.figures[name]["file"]
    with Image.open(file) as picture:
        assert picture.width > 300
    assert file.stat().st_size < results.LARGEST_FIGURE + 20_000  # what `publish` takes


def insist_restricted(run: Run, name: str) -> None:
    names = {photo.name for photo in photos.catalogue()}
    assert run.figures[name]["photos"]
    assert not set(run.figures[name]["photos"]) & names


def test_the_notebook_draws_nothing_that_is_not_here() -> None:
    notebook = (runtime.root() / "notebooks" / "prad.py").read_text(encoding="utf-8")
    called = set(re.findall(r"figures\.(\w+)\(", notebook))
    assert called <= set(figures.__all__)


# Pairs


def test_samples_show_input_target_and_both_in_one(s: Study) -> None:
    made = figures.samples(s)
    axes = np.asarray(made.axes).reshape(3, 8)
    pairs = figures._few(figures._textured(bundled.bank("test", 24, bundled=True)), 8)
    for k in range(8):
        assert np.array_equal(pixels(axes[0, k]), channels_last(pairs.degraded[k]))
        assert np.array_equal(pixels(axes[1, k]), channels_last(pairs.clean[k]))
        red, green, blue = np.moveaxis(pixels(axes[2, k]), -1, 0)
        np.testing.assert_allclose(green, images.luma(pairs.clean[k])[0].numpy(), atol=1e-6)
        assert np.array_equal(green, blue)
        inside = (red > 0) & (red < 1)
        assert np.corrcoef(red[inside], images.luma(pairs.degraded[k])[0].numpy()[inside])[
            0, 1
        ] == pytest.approx(1, abs=1e-4)
    assert [ax.texts[-1].get_text() for ax in axes[:, 0]] == ["phone $I_s$", "target $I_t$", "both"]
    insist_publishable(s.run, "samples", {"astronaut", "coffee", "chelsea"})


def test_a_known_displacement_is_found_and_a_wall_has_none() -> None:
    photo = images.resize(photos.load("chelsea"), size=(150, 225))
    x = photo[:, 20:120, 60:160]
    for right, down in ((0, 0), (2, -1), (-3, 4)):
        y = photo[:, 20 - down : 120 - down, 60 - right : 160 - right]
        words = f"{right}, {down} px".replace("-", "−")
        assert figures._displaced(0.5 * x, y) == words
    far = photo[:, 20:120, 68:168]  # beyond what is looked at
    assert figures._displaced(x, far) == "not clear"
    noise = torch.rand(2, 3, 100, 100, generator=torch.Generator().manual_seed(0))
    assert figures._displaced(*noise) == "not clear"


def test_what_lies_over_one_another_is_grey_in_the_overlay() -> None:
    x = images.resize(photos.load("chelsea"), size=(150, 225))
    grey = figures._overlay(0.4 * x + 0.1, x)
    assert float((grey[0] - grey[1]).abs().max()) < 1e-4
    seams = figures._overlay(x.roll(3, -1), x)
    assert float((seams[0] - seams[1]).abs().mean()) > 0.02


def test_real_pairs_are_shown_besides_and_never_published(real: Study) -> None:
    made = figures.samples(real)
    assert set(real.run.figures) >= {"samples", "samples_real"}
    insist_publishable(real.run, "samples", {"astronaut", "coffee", "chelsea"})
    insist_restricted(real.run, "samples_real")
    # the one that comes back is of the user's pairs
    pairs = figures._few(figures._textured(data.validation(real.p)), 8)
    assert np.array_equal(pixels(made.axes[0]), channels_last(pairs.degraded[0]))

    made = figures.patches(real, METHODS)
    tests = figures._few(data.test(real.p), 4)
    assert np.array_equal(pixels(made.axes[0]), channels_last(tests.degraded[0]))
    insist_restricted(real.run, "patches_real")
    insist_publishable(real.run, "patches", {"astronaut", "coffee", "chelsea"})

    figures.full_size(real, METHODS)
    insist_restricted(real.run, "full_size_real")
    insist_publishable(real.run, "full_size", {"coffee"})


def test_pure_white_pairs_are_not_shown() -> None:
    levels = torch.full((2, 4, 3, 8, 8), 255, dtype=torch.uint8)
    levels[0, 1] = 3
    pairs = Pairs(("a", "b", "c", "d"), levels)
    assert figures._few(pairs, 4).names == ("b",)


# Networks


def test_the_framework_is_that_of_the_modules_and_the_runs_weights(tmp_path: Path) -> None:
    p = Parameters(profile="smoke", device="cpu", out=str(tmp_path), w_tv=0.0, w_cx=0.7)
    run = results.open_run("prad", p)
    net = generator()
    made = figures.framework(run, net, Critic(None, judges="image"))
    texts = [text.get_text() for text in made.axes[0].texts]
    assert "3×3\n3→4" in texts
    assert "total variation\nleft out" in texts
    assert any(text.startswith("contextual\n0.7 × Eq. 17") for text in texts)
    assert texts.count("not\ntrained") == 2  # a fresh generator's output is grey
    assert len(made.axes[0].images) == 2  # I_s of the generator and I_t of the image critic
    insist_publishable(run, "framework", {"astronaut"})


def test_the_framework_shows_what_a_trained_generator_makes(s: Study) -> None:
    net = generator()
    with torch.no_grad():  # a last layer that lets something through
        net.last[0].weight.mul_(300)
    made = figures.framework(s.run, net, Critic(None, judges="image"))
    source, enhanced = (np.asarray(made.axes[0].images[k].get_array()) for k in (0, 1))
    x = torch.from_numpy(source.copy()).permute(2, 0, 1)
    np.testing.assert_allclose(enhanced, channels_last(apply(net, x[None])[0]), atol=1e-4)
    assert "not\ntrained" not in [text.get_text() for text in made.axes[0].texts]


def test_feature_maps_are_means_over_channels(s: Study) -> None:
    net = generator()
    made = figures.feature_maps(s.run, net)
    axes = np.asarray(made.axes).reshape(2, 6)
    x, _ = figures._face()
    with torch.inference_mode():
        found = net.outputs(x[None])
    for row, n in zip(axes, (1, 0), strict=True):
        means = {name: found[f"{name}_{n}"][0].mean(0).numpy() for name in
                 ("up", "refined", "gathered", "aggregated", "decoded")}  # fmt: skip
        for k, name in (
            (0, "up"),
            (1, "refined"),
            (3, "gathered"),
            (4, "aggregated"),
            (5, "decoded"),
        ):
            np.testing.assert_allclose(pixels(row[k]), means[name], atol=1e-6)
        change = means["refined"] - means["up"]
        shown = pixels(row[2])
        assert np.ptp(shown - change) < 1e-6  # but for its mean, which is white
        rim = len(shown) // 12
        inner = shown[rim:-rim, rim:-rim]
        assert abs(inner.mean()) < 0.01 * inner.std()
        low, high = row[2].images[0].get_clim()
        assert low == -high  # white is the mean
    assert axes[0, 0].images[0].get_array().shape == (80, 80)
    assert axes[1, 0].images[0].get_array().shape == (160, 160)
    assert [ax.get_title() for ax in axes[0]][3:5] == ["$F_n$", "after CFA"]
    insist_publishable(s.run, "feature_maps", {"astronaut"})


def test_feature_maps_of_another_number_of_scales_and_without_r(s: Study) -> None:
    made = figures.feature_maps(s.run, generator(widths=(4, 6), refinement="none", cfa=False))
    assert len(made.axes) == 6
    assert not pixels(made.axes[2]).any()  # no R, no change


# Methods


def test_patches_show_every_method_with_its_psnr(s: Study) -> None:
    made = figures.patches(s, METHODS)
    axes = np.asarray(made.axes).reshape(4, 4)
    pairs = figures._few(bundled.bank("test", 24, bundled=True), 4)
    titles = [ax.get_title() for ax in axes[0]]
    assert titles == ["phone", "darker", "brighter\n(than white)", "target"]
    columns = [
        pairs.degraded,
        0.5 * pairs.degraded,
        (pairs.degraded + 0.6).clamp(0, 1),
        pairs.clean,
    ]
    for column, shown in zip(axes.T, columns, strict=True):
        scores = metrics.METRICS["psnr"](shown, pairs.clean).tolist()
        for ax, image, score in zip(column, shown, scores, strict=True):
            assert np.array_equal(pixels(ax), channels_last(image))
            words = [text.get_text() for text in ax.texts]
            assert words == ([] if shown is pairs.clean else [f"{score:.1f} dB"])
    assert made.get_figwidth() <= plots.WIDTH
    insist_publishable(s.run, "patches", {"astronaut", "coffee", "chelsea"})


def test_a_whole_photo_is_shown_with_the_crop_that_is_enlarged(s: Study) -> None:
    made = figures.full_size(s, METHODS)
    before, after, *crops = made.axes
    assert pixels(before).shape == (214, 320, 3)  # coffee at smoke
    np.testing.assert_allclose(pixels(after), (pixels(before) + 0.6).clip(0, 1), atol=1e-6)
    assert after.get_title() == "brighter (than white), 320 × 214"
    (frame,) = (patch for patch in before.patches if isinstance(patch, Rectangle))
    (left, top), side = frame.get_xy(), int(frame.get_width())
    place = np.s_[int(top) : int(top) + side, int(left) : int(left) + side]
    assert [ax.get_title() for ax in crops] == ["phone", "darker", "brighter\n(than white)"]
    assert np.array_equal(pixels(crops[0]), pixels(before)[place])
    np.testing.assert_allclose(pixels(crops[1]), 0.5 * pixels(before)[place], atol=1e-6)
    insist_publishable(s.run, "full_size", {"coffee"})


def test_a_large_photo_is_reduced_and_says_so() -> None:
    photo = photos.load("astronaut").repeat(1, 2, 3)[:, :720, :1280]
    made = figures._full_size(photo, {"same": lambda x: x})
    before, _, crop, same = made.axes
    assert before.get_title() == "phone, 1280 × 720, reduced"
    width = pixels(before).shape[1]
    assert width == pytest.approx(150 * 3.1, abs=1)
    (frame,) = (patch for patch in before.patches if isinstance(patch, Rectangle))
    scale = width / 1280
    assert frame.get_width() == pytest.approx(128 * scale, rel=0.01)
    left, top = (round(place / scale) for place in frame.get_xy())
    cut = channels_last(photo[:, top : top + 128, left : left + 128])
    assert np.array_equal(pixels(crop), cut)  # the crop is not reduced
    assert np.array_equal(pixels(same), cut)


def test_the_crop_is_taken_where_the_detail_is() -> None:
    photo = torch.full((3, 240, 320), 0.5)
    photo[:, 100:140, 180:220] = torch.rand(3, 40, 40, generator=torch.Generator().manual_seed(0))
    top, left = figures._detail(photo, 64)
    assert top <= 104
    assert top + 64 >= 136
    assert left <= 184
    assert left + 64 >= 216


def test_photos_of_other_cameras_are_shown_before_and_after(s: Study) -> None:
    net = generator()
    made = figures.other_cameras(s.run, "a network", net)
    names = ["astronaut", "coffee", "chelsea"]  # at smoke, those that every machine has
    axes = np.asarray(made.axes).reshape(2, 3)
    assert [ax.get_title() for ax in axes[0]] == names
    for above, below, name in zip(*axes, names, strict=True):
        square = figures._square(photos.load(name), pixels(above).shape[0])
        assert np.array_equal(pixels(above), channels_last(square))
        np.testing.assert_allclose(
            pixels(below), channels_last(apply(net, square[None])[0]), atol=1e-5
        )
    insist_publishable(s.run, "other_cameras", set(names))


def test_colours_of_the_framework_are_told_apart() -> None:
    assert len(set(drawing.RESOLUTIONS)) == 3
