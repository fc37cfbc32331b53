"""The notebook's figures: legible, of photos that may be published, and of the right pixels."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from enhancelib import datasets, degradations, models, photos, plots, results, runtime
from enhancelib.papers.dncnn import baselines, data, figures, verdict
from enhancelib.papers.dncnn.settings import Parameters
from enhancelib.papers.dncnn.study import Arm, Study, Trained
from enhancelib.results import Run
from enhancelib.training import History

SIGMA = 25.0


@pytest.fixture
def p(tmp_path: Path) -> Parameters:
    return Parameters(profile="smoke", device="cpu", out=str(tmp_path), sigma=SIGMA)


@pytest.fixture
def run(p: Parameters) -> Run:
    return results.open_run("dncnn", p)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Names of the photos that are read."""
    seen: list[str] = []
    plain = photos.load

    def load(name: str) -> Tensor:
        seen.append(name)
        return plain(name)

    monkeypatch.setattr(photos, "load", load)
    return seen


def network(**options: Any) -> Any:
    plain = {"D": 3, "width": 4, "norm": "none", "output_scale": 0.1, **options}
    return models.build("dncnn", **plain, generator=runtime.generator(0, "figures")).eval()


def history(offset: float = 0.0) -> History:
    made = History()
    for step in (5, 10, 15):
        made.add(step, {"loss": 100 / step + offset, "psnr": 20 + step / 5 + offset})
    return made


def pixels(ax: Any) -> Any:
    return np.asarray(ax.images[0].get_array())


def insist_publishable(run: Run, name: str, read: list[str]) -> None:
    """The PNG is there, and what it shows is named, bundled and may be published."""
    named = run.figures[name]["photos"]
    assert set(read) == set(named)
    for photo in map(photos.find, named):
        assert photo.publishable, photo.name
        assert photo.package == photos.BUNDLED, photo.name
    with Image.open(run.folder / run.figures[name]["file"]) as picture:
        assert picture.width > 300
    assert (run.folder / run.figures[name]["file"]).stat().st_size < results.LARGEST_FIGURE


# Data


def test_the_shown_photo_is_the_centre_of_chelsea() -> None:
    x = figures.shown(192)
    whole = photos.load("chelsea")
    grey = 0.299 * whole[0] + 0.587 * whole[1] + 0.114 * whole[2]
    assert x.shape == (1, 192, 192)
    torch.testing.assert_close(x[0], grey[54:246, 129:321], atol=1e-4, rtol=0)
    row, column = figures.CORNER
    assert max(row, column) + 48 <= 192  # the zoomed crop lies inside


def test_samples_show_clean_patches_above_their_noisy_versions(
    run: Run, p: Parameters, read: list[str]
) -> None:
    made = figures.samples(run, p)
    above, below = (np.stack([pixels(ax) for ax in made.axes[k : k + 8]]) for k in (0, 8))
    inside = (above > 0.25) & (above < 0.75)  # where clipping plays no part
    spread = 255 * float((below - above)[inside].std())
    assert spread == pytest.approx(SIGMA, rel=0.05)
    assert len(np.unique(above.reshape(8, -1), axis=0)) == 8
    insist_publishable(run, "samples", read)


def test_histograms_are_densities_and_the_bell_fits_the_residual(
    run: Run, p: Parameters, read: list[str]
) -> None:
    made = figures.histograms(run, p)
    noisy, clean, residual = made.axes
    for ax in made.axes:
        area = sum(bar.get_height() * bar.get_width() for bar in ax.patches)
        assert area == pytest.approx(1, abs=1e-3)
        assert ax.get_xlabel() == "intensity (1 = white)"
    assert clean.patches[0].get_x() >= 0 > noisy.patches[0].get_x()  # noise is not clipped
    (bell,) = residual.lines
    x, y = (np.asarray(values) for values in bell.get_data())
    assert float(np.trapezoid(y, x)) == pytest.approx(1, abs=1e-3)
    assert float(np.sqrt(np.trapezoid(y * x**2, x))) * 255 == pytest.approx(SIGMA, rel=1e-2)
    heights = {bar.get_x() + bar.get_width() / 2: bar.get_height() for bar in residual.patches}
    fitted = np.interp(list(heights), x, y)
    assert np.abs(fitted - list(heights.values())).max() < 0.05 * y.max()
    insist_publishable(run, "histograms", read)


# Networks and trainings


def test_the_architecture_is_dncnn_s(run: Run, read: list[str]) -> None:
    made = figures.architecture(run)
    assert [t.get_text() for t in made.axes[0].texts if "×" in t.get_text()] == [
        "Conv 3×3\n1 → 64", "Conv 3×3\n64 → 64", "× 15", "Conv 3×3\n64 → 1",
    ]  # fmt: skip
    insist_publishable(run, "architecture", read)


def test_receptive_fields_fill_their_frames(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    small = {"S": {"D": 4, "c": 1, "width": 16}, "B": {"D": 6, "c": 1, "width": 16}}
    monkeypatch.setattr(models.dncnn, "VARIANTS", small)
    made = figures.receptive_fields(run)
    for ax, depth in zip(made.axes, (4, 6), strict=False):  # the third is the colour bar
        (frame,) = ax.patches
        assert frame.get_width() == frame.get_height() == 2 * depth + 1
        assert ax.get_title() == f"D = {depth}: {2 * depth + 1} pixels wide"
        rows, columns = np.nonzero(pixels(ax) > -12)
        # pixel k reaches from k - 0.5 to k + 0.5
        assert (rows.min() - 0.5, columns.min() - 0.5) == frame.get_xy()
        assert rows.max() + 0.5 == frame.get_y() + frame.get_height()


def test_training_shows_both_curves_of_every_seed(run: Run) -> None:
    made = figures.training(
        run, {0: Trained(network(), history()), 3: Trained(network(), history(1.0))}
    )
    loss, psnr = made.axes
    assert [line.get_label() for line in loss.lines] == ["seed 0", "seed 3"]
    assert list(loss.lines[1].get_ydata()) == history(1.0).values["loss"]
    assert list(psnr.lines[0].get_xdata()) == [5, 10, 15]
    assert list(psnr.lines[0].get_ydata()) == [21, 22, 23]
    # the colour variant is trained without such a curve
    bare = History(steps={"loss": [5]}, values={"loss": [1.0]})
    assert not figures.training(run, {0: Trained(network(c=3), bare)}).axes[1].lines


def test_ablation_curves_are_means_over_seeds_by_optimiser(run: Run) -> None:
    arms = {
        Arm(residual, True, optimiser, SIGMA, seed): Trained(
            network(), history(seed + (0 if residual else -2))
        )
        for optimiser in ("adam", "sgd")
        for residual in (True, False)
        for seed in (0, 2)
    }
    made = figures.curves(run, arms)
    assert made is not None
    assert [ax.get_title() for ax in made.axes] == ["Adam", "SGD, momentum 0.9"]
    for ax in made.axes:
        by = {line.get_label(): list(line.get_ydata()) for line in ax.lines}
        assert by == {"residual + BN": [22, 23, 24], "direct + BN": [20, 21, 22]}
    assert figures.curves(run, {}) is None


def test_psnr_against_level_is_sorted_and_the_gain_is_paired(run: Run) -> None:
    assert figures.against_level(run) is None
    words: Any = {"dataset": "photos", "metric": "psnr_8bit"}
    for seed in (0, 1):
        for sigma in (50, 5, 25):
            run.record(
                method=verdict.BLIND, value=40 - sigma / 5 + seed, seed=seed, table="mismatch",
                setting=f"sigma={sigma}", **words,
            )  # fmt: skip
        for sigma in (5, 15, 25, 50):
            for method, more in ((verdict.RESIDUAL, 1 + seed), (verdict.DIRECT, 0)):
                run.record(
                    method=method, value=30 + more, seed=seed, table="gain",
                    setting=f"sigma={sigma}", **words,
                )  # fmt: skip
    made = figures.against_level(run)
    assert made is not None
    (line,), (gain,) = made.axes[0].lines, made.axes[1].lines
    assert list(line.get_xdata()) == [5, 25, 50]
    assert list(line.get_ydata()) == pytest.approx([39.5, 35.5, 30.5])
    assert list(gain.get_ydata()) == pytest.approx([1.5] * 4)


def test_the_probe_is_drawn_in_the_order_of_the_layers(run: Run) -> None:
    for layer in (10, 9, 1):  # "layer 10" comes before "layer 9" as text
        for name in ("x", "v"):
            run.record(
                dataset="validation", method="linear probe", metric="r2", setting=name, seed=0,
                value=layer / 10 - (name == "v"), image=f"layer {layer}", table="probe",
            )  # fmt: skip
    made = figures.probe(run)
    picture, noise = made.axes[0].lines
    assert (picture.get_label(), noise.get_label()) == ("picture x", "noise v")
    assert list(picture.get_xdata()) == [1, 9, 10]
    assert list(picture.get_ydata()) == pytest.approx([0.1, 0.9, 1.0])
    assert list(noise.get_ydata()) == pytest.approx([-0.9, -0.1, 0.0])


# Pictures


def test_denoised_shows_what_each_method_makes_of_one_picture(
    run: Run, p: Parameters, read: list[str]
) -> None:
    s = Study(run, p)
    read.clear()
    one = network()
    made = figures.denoised(s, one)
    above = made.axes[:5]
    assert [ax.get_title() for ax in above] == [
        "clean x", "noisy y, σ = 25", "NLM", "DnCNN", "R(y) + 0.5",
    ]  # fmt: skip
    insist_publishable(run, "denoised", read)
    x = figures.shown()
    y = data.noisy(x, SIGMA)
    with torch.inference_mode():
        restored = one(y[None])[0].clamp(0, 1)
    residual = (y - restored + 0.5).clamp(0, 1)
    for ax, image in zip(
        above, (x, y.clamp(0, 1), baselines.nlm(y, SIGMA), restored, residual), strict=True
    ):
        np.testing.assert_allclose(pixels(ax), image[0].numpy(), atol=1e-5)


def test_six_tiles_are_six_degradations_of_one_photo(
    run: Run, p: Parameters, read: list[str]
) -> None:
    s = Study(run, p)
    assert figures.six_tiles(s, None) is None
    read.clear()
    one = network()
    made = figures.six_tiles(s, one)
    assert made is not None
    insist_publishable(run, "six_tiles", read)
    degraded, restored = made.axes
    assert [t.get_text() for t in degraded.texts] == [name for name, _ in figures.TILES]
    assert [t.get_text() for t in restored.texts] == [name for name, _ in figures.TILES]
    x = datasets.grey_or_colour(photos.load("astronaut"), False)[0, :192, 80:368].numpy()
    y = pixels(degraded)
    assert y.shape == (192, 288)
    tiles = [(row, column) for row in (0, 96) for column in (0, 96, 192)]
    errors = {}
    for (row, column), (name, degradation) in zip(tiles, figures.TILES, strict=True):
        place = np.s_[row : row + 96, column : column + 96]
        errors[name] = 255 * float(np.sqrt(np.square(y[place] - x[place]).mean()))
        if not isinstance(degradation, degradations.GaussianNoise):
            tile = torch.from_numpy(x[place].copy())[None, None]
            wanted = degradation({"clean": tile}, torch.Generator())["degraded"].clamp(0, 1)
            np.testing.assert_allclose(y[place], wanted[0, 0].numpy(), atol=1e-5)
    # clipping at black and white takes a little of the noise
    assert errors["noise σ = 15"] == pytest.approx(15, rel=0.15)
    assert errors["noise σ = 25"] == pytest.approx(25, rel=0.15)
    assert errors["half size"] < errors["third of the size"]
    assert errors["JPEG quality 10"] > errors["JPEG quality 30"]
    assert pixels(restored).shape == y.shape
    assert not np.array_equal(pixels(restored), y)


def test_no_figure_is_wider_than_it_is_printed(run: Run, p: Parameters) -> None:
    made = [figures.architecture(run), figures.samples(run, p), figures.histograms(run, p)]
    assert max(figure.get_figwidth() for figure in made) <= plots.WIDTH


def test_the_panels_pictures_are_of_a_size_that_stays_live() -> None:
    assert [figures.side(Parameters(profile=k)) for k in ("smoke", "small", "large", "paper")] == [
        128, 256, 256, 256,
    ]  # fmt: skip
