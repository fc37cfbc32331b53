"""Figures as a reader sees them: what stands on the axes, in which colour, from which pixels."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
import skimage.data
import torch
from matplotlib.colors import to_hex
from matplotlib.patches import FancyBboxPatch, Rectangle
from torch import Tensor, nn

from enhancelib import images, models, plots
from enhancelib.results import SMALLEST_TEXT

METHODS = ("noisy", "BM3D", "DnCNN-S", "DnCNN-B")
CAT = images.from_uint8(torch.from_numpy(skimage.data.chelsea().transpose(2, 0, 1).copy()))


def axes_of(figure: Any) -> Any:
    return figure.axes[0]


def texts(figure: Any) -> list[str]:
    return [text.get_text() for text in axes_of(figure).texts if text.get_text()]


# Style


def test_no_text_of_the_style_is_too_small_to_print() -> None:
    sizes = {name: size for name, size in plots.style().items() if name.endswith("size")}
    assert len(sizes) >= 5
    assert min(sizes.values()) >= SMALLEST_TEXT
    # and none is given by a word, whose size hangs on another setting
    assert all(isinstance(size, int | float) for size in sizes.values())


def test_a_figure_has_the_house_style_and_stays_out_of_pyplot() -> None:
    from matplotlib import pyplot

    before = pyplot.get_fignums()
    made, axes = plots.figure(2, 3, height=2.0)
    assert axes.shape == (2, 3)
    assert tuple(made.get_size_inches()) == (plots.WIDTH, 2.0)
    assert mpl.rcParams["font.size"] == plots.style()["font.size"]
    assert not axes[0, 0].spines["top"].get_visible()
    assert pyplot.get_fignums() == before
    assert plots.figure(1, 1, height=1.0)[1].shape == (1, 1)


# Colours


def test_a_method_keeps_its_colour_in_every_figure() -> None:
    first = {method: plots.colour(method, METHODS) for method in METHODS}
    assert first == {method: plots.colour(method, METHODS) for method in METHODS}
    assert len(set(first.values())) == len(METHODS)
    assert {plots.colour("noisy", order) for order in (METHODS, METHODS[::-1])} == {"#7F7F7F"}


def test_a_method_that_is_not_listed_has_no_colour() -> None:
    with pytest.raises(ValueError, match="'NLM' is not in list"):
        plots.colour("NLM", METHODS)


# Curves


def drawn(series: dict[str, Any]) -> Any:
    made, axes = plots.figure(1, 1, height=2.0)
    plots.lines(axes[0, 0], series, x="noise level", y="PSNR in dB", title="t")
    return axes_of(made)


def test_a_curve_is_the_mean_over_seeds_and_its_band_the_spread() -> None:
    runs = [[30.0, 28.0, 25.0], [31.0, 28.0, 24.0], [32.0, 28.5, 23.0]]
    ax = drawn({"DnCNN": ([15, 25, 50], runs)})
    (line,), (band,) = ax.lines, ax.collections
    assert list(line.get_xdata()) == [15, 25, 50]
    assert np.asarray(line.get_ydata()) == pytest.approx(np.mean(runs, 0))
    corners = np.asarray(band.get_paths()[0].vertices)
    for x, mean, std in zip((15, 25, 50), np.mean(runs, 0), np.std(runs, 0, ddof=1), strict=True):
        heights = corners[corners[:, 0] == x][:, 1]
        assert (heights.min(), heights.max()) == pytest.approx((mean - std, mean + std))


def test_one_seed_has_no_band() -> None:
    assert not drawn({"DnCNN": ([15, 25], [[30.0, 28.0]])}).collections


def test_curves_are_told_apart_and_the_axes_named() -> None:
    ax = drawn({"noisy": ([1, 2], [[1.0, 2.0]]), "DnCNN": ([1, 2], [[3.0, 4.0]])})
    noisy, ours = ax.lines
    assert (noisy.get_linestyle(), ours.get_linestyle()) == ("--", "-")
    assert to_hex(noisy.get_color()) == plots.colour("noisy", ()).lower()
    assert to_hex(ours.get_color()) == plots.colour("DnCNN", ("noisy", "DnCNN")).lower()
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_title()) == ("noise level", "PSNR in dB", "t")
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["noisy", "DnCNN"]


def ends(series: dict[str, list[float]]) -> Any:
    _, axes = plots.figure(1, 1, height=2.0)
    for name, values in series.items():
        axes[0, 0].plot(range(len(values)), values, label=name)
    axes[0, 0].set_ylim(0, 1)
    plots.name_ends(axes[0, 0])
    return axes[0, 0]


def places(ax: Any) -> dict[str, float]:
    """Label -> points above the end of its curve."""
    return {text.get_text(): text.xyann[1] for text in ax.texts}


def test_curves_are_named_at_their_ends_in_their_colours() -> None:
    ax = ends({"low": [0.0, 0.2], "_no label": [0.5, 0.5], "high": [0.0, 0.8]})
    assert places(ax) == {"low": pytest.approx(0), "high": pytest.approx(0)}
    low, high = ax.texts
    assert low.xy == (1, 0.2)
    assert to_hex(low.get_color()) == to_hex(ax.lines[0].get_color())
    assert to_hex(high.get_color()) == to_hex(ax.lines[2].get_color())
    assert low.arrow_patch is None
    assert not ends({}).texts


def test_labels_of_close_ends_move_apart_in_their_order() -> None:
    ax = ends({"c": [0.5, 0.52], "a": [0.5, 0.5], "far": [0.5, 0.95], "b": [0.5, 0.5]})
    moved = places(ax)
    ax.figure.draw_without_rendering()
    points = 72 / ax.figure.dpi
    heights = {
        t.get_text(): ax.transData.transform(t.xy)[1] * points + t.xyann[1] for t in ax.texts
    }
    order = sorted(("a", "b", "c"), key=lambda name: heights[name])
    assert order[-1] == "c"  # its curve ends highest
    gaps = np.diff([heights[name] for name in order])
    assert gaps.min() > plots.style()["legend.fontsize"]
    assert moved["far"] == pytest.approx(0)
    assert sum(moved[name] for name in "abc") == pytest.approx(0, abs=0.5)  # no drift
    assert next(t for t in ax.texts if t.get_text() == "c").arrow_patch is not None


# Pictures


@pytest.mark.parametrize("image", [CAT, CAT[:1]])
def test_a_picture_is_shown_pixel_for_pixel(image: Tensor) -> None:
    _, axes = plots.figure(1, 1, height=2.0)
    plots.picture(axes[0, 0], image * 1.5 - 0.2, "cat")
    (shown,) = axes[0, 0].images
    assert shown.get_interpolation() == "nearest"
    array = np.asarray(shown.get_array())
    wanted = (image * 1.5 - 0.2).clamp(0, 1).permute(1, 2, 0).numpy().squeeze()
    assert array.shape == wanted.shape
    assert np.array_equal(array, wanted)
    if image.shape[0] == 1:  # a dark picture must not be stretched to white
        assert shown.get_clim() == (0, 1)
    assert not axes[0, 0].axison
    assert axes[0, 0].get_title() == "cat"


def test_the_crop_is_the_framed_place() -> None:
    made = plots.crops([("a", CAT), ("b", CAT.flip(2))], corner=(50, 120), side=32)
    above, below = made.axes[:2], made.axes[2:]
    for image, whole, part in zip((CAT, CAT.flip(2)), above, below, strict=True):
        (frame,) = [p for p in whole.patches if isinstance(p, Rectangle)]
        assert (frame.get_xy(), frame.get_width(), frame.get_height()) == ((120, 50), 32, 32)
        cut = image[:, 50:82, 120:152].permute(1, 2, 0).numpy()
        assert np.array_equal(np.asarray(part.images[0].get_array()), cut)
    assert [ax.get_title() for ax in above] == ["a", "b"]


# Architecture


def drawing(**options: Any) -> Any:
    network: Any = models.build("dncnn", **options)
    return plots.architecture(network.layers, start="y", end="R(y)")


def test_the_blocks_of_dncnn_s_are_those_of_the_paper() -> None:
    # 17 layers: Conv+ReLU, 15 times Conv+BN+ReLU, Conv (section III-A)
    hidden = ["Conv 3×3\n64 → 64", "BN", "ReLU", "× 15"]
    wanted = ["Conv 3×3\n1 → 64", "ReLU", *hidden, "Conv 3×3\n64 → 1", "y", "R(y)"]
    figure = drawing(D=17, c=1)
    assert texts(figure) == wanted
    boxes = [p for p in axes_of(figure).patches if isinstance(p, FancyBboxPatch)]
    shades = [to_hex(box.get_facecolor()) for box in boxes]
    assert len(boxes) == 6
    assert len(set(shades)) == 3
    assert shades[0] == shades[2] == shades[5]  # the convolutions


def test_the_blocks_follow_the_network_that_was_built() -> None:
    folded = texts(drawing(D=5, c=3, width=8, norm="none"))
    assert "BN" not in folded
    assert "Conv 3×3\n3 → 8" in folded
    assert "× 3" in folded
    assert [t for t in texts(drawing(D=3, width=4)) if t.startswith("×")] == []  # one stands alone


def test_layers_of_other_kinds_are_named() -> None:
    layers = nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(4, 8, 5), nn.PReLU(), nn.Conv2d(8, 4, 1))
    found = texts(plots.architecture(layers, start="a", end="b"))
    assert found[:4] == ["PixelUnshuffle", "Conv 5×5\n4 → 8", "PReLU", "Conv 1×1\n8 → 4"]
