"""The notebook's pictures: of the right pixels, and of photos that may be published."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from enhancelib import images, metrics, photos, plots, publishing, results, runtime
from enhancelib.papers.dilie import cfe, dehazing, figures, pictures
from enhancelib.papers.dilie.framework import Made
from enhancelib.papers.dilie.study import Study
from enhancelib.results import Run
from tests.papers.dilie import small


@pytest.fixture
def fresh(tmp_path: Path) -> Study:
    """Without VGG19, so that nothing but Double-DIP's networks is ever fitted."""
    return blind(small.opened(tmp_path))


@pytest.fixture
def real(assets: Path, tmp_path: Path) -> Study:
    return blind(small.opened(tmp_path, data_root=str(assets / "data")))


def blind(s: Study) -> Study:
    s.vgg19 = None
    return s


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def pixels(ax: Any) -> Any:
    return np.asarray(ax.images[0].get_array())


def shown(image: Tensor) -> Any:
    return image.clamp(0, 1).permute(1, 2, 0).numpy()


def insist_publishable(run: Run, name: str, listed: set[str]) -> None:
    """The PNG is there, small enough, and what it shows is named and may be published."""
    assert set(run.figures[name]["photos"]) == listed
    assert publishing._allowed(run.figures[name]["photos"])
    file = run.folder / run.figures[name]["file"]
    with Image.open(file) as picture:
        assert picture.width > 300
    assert file.stat().st_size < results.LARGEST_FIGURE + 20_000  # what `publish` takes


def insist_restricted(run: Run, name: str) -> None:
    names = run.figures[name]["photos"]
    assert names
    assert not publishing._allowed(names)
    assert (run.folder / run.figures[name]["file"]).is_file()


def test_the_notebook_draws_nothing_that_is_not_here() -> None:
    notebook = (runtime.root() / "notebooks" / "dilie.py").read_text(encoding="utf-8")
    called = set(re.findall(r"figures\.(\w+)\(", notebook))
    assert called == {"samples", "denoised", "layers", "restyled", "noisy", "framework"}
    assert all(callable(getattr(figures, name)) for name in called)


# What goes in


def test_samples_are_what_is_optimised_above_the_truth(fresh: Study) -> None:
    made = figures.samples(fresh)
    axes = np.asarray(made.axes).reshape(2, 3)
    (one,), (_, clean, noisy) = fresh.hazy_pictures(), fresh.noisy_picture()
    for column, (top, below) in zip(axes.T, ((one.hazy, one.clean), (noisy, clean)), strict=False):
        assert np.array_equal(pixels(column[0]), shown(top))
        assert np.array_equal(pixels(column[1]), shown(below))
    assert np.array_equal(pixels(axes[0, 2]), shown(fresh.style_picture()))
    assert not axes[1, 2].images
    titles = [ax.get_title() for ax in axes[0]]
    assert titles == ["astronaut, hazy", "astronaut, noisy", "style"]
    insist_publishable(fresh.run, "samples", {"astronaut", "rocket"})
    assert list(fresh.run.figures) == ["samples"]


def test_real_pairs_are_shown_besides_and_never_published(real: Study) -> None:
    figures.samples(real)
    insist_publishable(real.run, "samples", {"astronaut", "rocket"})  # F16 is not in it
    insist_restricted(real.run, "samples_real")


def test_a_readers_style_is_not_published(tmp_path: Path) -> None:
    images.write(tmp_path / "mine.png", noise(3, 40, 60))
    s = small.opened(tmp_path / "run", reference=str(tmp_path / "mine.png"))
    figures.samples(s)
    insist_restricted(s.run, "samples")


# A row of pictures


def test_a_strip_shows_every_picture_with_its_psnr() -> None:
    truth = photos.load("chelsea")[:, :60, :90]
    given = {"bright (1.2)": 1.2 * truth, "grey": images.luma(truth), "truth": truth}
    made = figures.strip(given, truth=truth, rows=2)
    axes = np.asarray(made.axes).reshape(2, 2)
    assert [ax.get_title() for ax in axes.flat] == [*given, ""]
    assert np.array_equal(pixels(axes[0, 0]), shown(1.2 * truth))
    score = float(metrics.METRICS["psnr"]((1.2 * truth).clamp(0, 1)[None], truth[None]))
    words = [[t.get_text() for t in ax.texts] for ax in axes.flat]
    assert words[:2] == [[f"{score:.1f} dB"], []], "one channel has no PSNR against three"
    assert not axes[1, 1].images
    assert not axes[1, 1].axison
    assert not any(ax.texts for ax in figures.strip(given).axes)
    assert made.get_figwidth() <= plots.WIDTH


def test_the_denoised_pictures_are_those_of_the_study(fresh: Study) -> None:
    _, clean, noisy = fresh.noisy_picture()
    fresh._found["filtered"] = {"NLM": 0.9 * noisy}  # the filters themselves take seconds
    made = figures.denoised(fresh)
    wanted = {"noisy": noisy, **fresh.denoised_pictures(), "clean": clean}
    assert len(wanted) == 7
    for ax, (title, image) in zip(made.axes, wanted.items(), strict=False):
        assert ax.get_title() == title
        assert np.array_equal(pixels(ax), shown(image))
    insist_publishable(fresh.run, "denoised", {"astronaut"})


def test_the_denoised_f16_is_not_published(real: Study) -> None:
    assert real.noisy_picture()[0] == "F16"
    real._found["filtered"] = {}
    figures.denoised(real)
    insist_restricted(real.run, "denoised")


# Layers


def dehazed(s: Study, one: pictures.Hazy, seed: int) -> cfe.Dehazed:
    return s.dehazed(one, 0.0, seed)


def insist_layers(row: Any, one: pictures.Hazy, made: cfe.Dehazed) -> None:
    last = made.passes[-1]
    wanted = (
        one.hazy, made.picture, last.layers["J"], made.layers["t"], made.layers["A"],
        made.layers["recomposition"], one.clean,
    )  # fmt: skip
    for ax, image in zip(row, wanted, strict=True):
        found = pixels(ax)
        assert np.array_equal(found, shown(image) if len(image) == 3 else image[0].numpy())


def test_layers_are_those_of_the_runs_own_lambda(fresh: Study) -> None:
    (one,) = fresh.hazy_pictures()
    without, own = (dehazed(fresh, one, seed) for seed in (0, 1))
    found = {("astronaut", 0.0, 0): without, ("astronaut", 0.001, 0): own,
             ("astronaut", 0.001, 1): without}  # fmt: skip
    made = figures.layers(fresh, found)
    insist_layers(made.axes, one, own)
    assert [ax.get_title() for ax in made.axes][::6] == ["hazy $I$", "truth"]
    insist_publishable(fresh.run, "layers", {"astronaut"})
    assert list(fresh.run.figures) == ["layers"]
    assert not np.array_equal(pixels(made.axes[1]), shown(without.picture))


def test_without_vgg19_layers_are_double_dips(fresh: Study) -> None:
    found = dehazing.measure(fresh)
    assert list(found) == [("astronaut", 0.0, 0)]
    made = figures.layers(fresh, found)
    insist_layers(made.axes, fresh.hazy_pictures()[0], found["astronaut", 0.0, 0])


def test_layers_of_real_photos_are_a_figure_of_their_own(real: Study) -> None:
    photo, pair = real.hazy_pictures()
    assert (photo.t is None, pair.t is None) == (False, True)
    found = dict.fromkeys(((one.name, 0.0, 0) for one in (photo, pair)), dehazed(real, pair, 0))
    made = figures.layers(real, found)
    insist_layers(made.axes, pair, found[pair.name, 0.0, 0])  # the last one comes back
    insist_publishable(real.run, "layers", {"astronaut"})
    insist_restricted(real.run, "layers_real")


# Style


def restyled(s: Study, *rows: str) -> dict[str, dict[str, Tensor]]:
    titles = ("input $I$", "Reinhard", "DILIE")
    made = {
        row: {title: noise(3, 40, 54, seed=3 * r + k) for k, title in enumerate(titles)}
        for r, row in enumerate(rows)
    }
    for row, given in made.items():
        for title, picture in given.items():
            s.keep("restyled", row, title, picture)
    return made


def test_restyled_photos_stand_beside_the_style(fresh: Study) -> None:
    rows = restyled(fresh, "astronaut", "astronaut, noisy")
    made = figures.restyled(fresh)
    axes = np.asarray(made.axes).reshape(2, 4)
    for row, (name, given) in zip(axes, rows.items(), strict=True):
        assert [t.get_text() for t in row[0].texts] == [name]
        assert pixels(row[0]).shape == (40, 54, 3)
        for ax, picture in zip(row[1:], given.values(), strict=True):
            assert np.array_equal(pixels(ax), shown(picture))
    titles = [ax.get_title() for ax in axes[0]]
    assert titles == ["style $S$", "input $I$", "Reinhard", "DILIE"]
    insist_publishable(fresh.run, "restyled", {"astronaut", "rocket"})


def test_restyled_with_a_readers_style_is_not_published(tmp_path: Path) -> None:
    images.write(tmp_path / "rocket 2.png", noise(3, 40, 60))
    s = small.opened(tmp_path / "run", reference=str(tmp_path / "rocket 2.png"))
    restyled(s, "astronaut")
    figures.restyled(s)
    insist_restricted(s.run, "restyled")


def test_noisy_photos_are_shown_whole_and_enlarged(fresh: Study) -> None:
    rows = {
        sigma: {"noisy $I$": noise(3, 45, 60, seed=k), "from I": noise(3, 45, 60, seed=k + 9)}
        for k, sigma in enumerate((15.0, 25.0))
    }
    for sigma, given in rows.items():
        for title, picture in given.items():
            fresh.keep("noisy", sigma, title, picture)
    made = figures.noisy(fresh)
    axes = np.asarray(made.axes).reshape(2, 4)
    for row, (sigma, given) in zip(axes, rows.items(), strict=True):
        assert [t.get_text() for t in row[0].texts] == [f"σ = {sigma:g}"]
        for whole, crop, picture in zip(row[:2], row[2:], given.values(), strict=True):
            assert np.array_equal(pixels(whole), shown(picture))
            assert np.array_equal(pixels(crop), shown(picture[:, 15:30, 20:40]))
    assert [ax.get_title() for ax in axes[0]] == ["noisy $I$", "from I", "crop", "crop"]
    insist_publishable(fresh.run, "noisy", {"astronaut", "rocket"})


def test_what_hours_left_out_is_an_empty_place(fresh: Study) -> None:
    for row, title in (("a", "I"), ("a", "STROTSS"), ("a", "DILIE"), ("b", "I"), ("b", "DILIE")):
        fresh.keep("restyled", row, title, noise(3, 45, 60))
        fresh.keep("noisy", 15.0 if row == "a" else 25.0, title, noise(3, 45, 60))
    axes = np.asarray(figures.restyled(fresh).axes).reshape(2, 4)
    assert [ax.get_title() for ax in axes[0]] == ["style $S$", "I", "STROTSS", "DILIE"]
    assert [len(ax.images) for ax in axes.flat] == [1, 1, 1, 1, 1, 1, 0, 1]
    assert not axes[1, 2].axison
    axes = np.asarray(figures.noisy(fresh).axes).reshape(2, 6)
    assert [len(ax.images) for ax in axes[1]] == [1, 0, 1] * 2


# The whole framework


def whole(corruption: str, *, style: bool = True) -> Made:
    I, content, E = (noise(3, 36, 48, seed=k) for k in range(3))  # noqa: E741
    layers = {"t": noise(1, 36, 48, seed=4), "A": noise(3, 36, 48, seed=5)}
    S = noise(3, 90, 60, seed=6) if style else None
    found: Any = None  # the figure does not ask how it was found
    return Made(I, S, corruption, "photo", content, E, layers, found, None, 1.0)


def test_the_framework_is_shown_step_by_step(fresh: Study) -> None:
    made = whole("haze")
    axes = figures.framework(fresh, made).axes
    titles = [
        "input $I$", "transmission $t$", "airlight $A$", "dehazed $\\hat C$", "style $S$",
        "enhanced $E$",
    ]  # fmt: skip
    assert [ax.get_title() for ax in axes][:6] == titles
    wanted = (made.I, made.layers["t"], made.layers["A"], made.content, None, made.E)
    for ax, image in zip(axes, wanted, strict=False):
        if image is not None:
            expected = shown(image) if len(image) == 3 else image[0].numpy()
            assert np.array_equal(pixels(ax), expected)
    assert made.S is not None
    # the middle of the style, in the shape of the photo: 45 of its 90 rows, by means of areas
    middle = torch.nn.functional.interpolate(made.S[None, :, 22:67], size=(36, 48), mode="area")
    assert np.array_equal(pixels(axes[4]), shown(middle[0]))
    insist_publishable(fresh.run, "framework", {"astronaut", "rocket"})


def test_without_style_none_is_shown(fresh: Study) -> None:
    axes = figures.framework(fresh, whole("noise", style=False)).axes
    titles = [ax.get_title() for ax in axes if ax.images]
    assert titles == ["input $I$", "denoised $\\hat C$", "enhanced $E$"]


@pytest.mark.parametrize("which", ["photo", "reference"])
def test_the_framework_on_a_readers_photo_is_not_published(tmp_path: Path, which: str) -> None:
    file = tmp_path / "astronaut.png"  # whatever it is called
    images.write(file, noise(3, 40, 60))
    s = small.opened(tmp_path / "run", **{which: str(file)})
    figures.framework(s, whole("haze"))
    insist_restricted(s.run, "framework")


def test_the_framework_on_f16_is_not_published(real: Study) -> None:
    real.p = replace(real.p, corruption="noise")
    figures.framework(real, whole("noise"))
    insist_restricted(real.run, "framework")
    real.p = replace(real.p, corruption="haze")  # that is a bundled photo
    figures.framework(real, whole("haze"))
    insist_publishable(real.run, "framework", {"astronaut", "rocket"})


def test_the_framework_on_bundled_noise_names_its_photo(fresh: Study) -> None:
    fresh.p = replace(fresh.p, corruption="noise")
    fresh._found["hazy"] = [replace(fresh.hazy_pictures()[0], name="china")]  # as at "small"
    figures.framework(fresh, whole("noise"))
    insist_publishable(fresh.run, "framework", {"astronaut", "rocket"})


def test_without_vgg19_there_is_nothing_restyled_to_draw(fresh: Study) -> None:
    assert figures.restyled(fresh) is None
    assert figures.noisy(fresh) is None
    assert not {"restyled", "noisy"} & set(fresh.run.figures)
