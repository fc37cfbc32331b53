"""The optimisations of DILIE: pictures, seeds, arms that share their noise, exact resume."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from enhancelib import features as networks
from enhancelib import images, photos, runtime
from enhancelib.internal import Smoothed
from enhancelib.papers.dilie import cfe, pictures, settings
from enhancelib.papers.dilie.plans import Prior
from enhancelib.papers.dilie.study import Hazy, Study
from tests.papers.dilie import small


def checkpoints(s: Study) -> set[str]:
    return {file.stem for file in (s.run.folder / "checkpoints").glob("*.pt")}


# Pictures


def test_the_noisy_picture_is_clipped_and_the_same_in_every_run(s: Study, tmp_path: Path) -> None:
    name, clean, noisy = s.noisy_picture()
    side = s.scale.crop
    assert name == "astronaut"
    assert clean.shape == noisy.shape == (3, side, side)
    small_one = images.resize(photos.load("astronaut"), size=(256, 256)).clamp(0, 1)
    low = (256 - side) // 2
    assert torch.equal(clean, small_one[:, low : low + side, low : low + side])
    noise = torch.randn(clean.shape, generator=runtime.generator(0, "noise"))
    assert torch.equal(noisy, (clean + 25 / 255 * noise).clamp(0, 1))
    assert s.bundled_noise()
    other = small.opened(tmp_path / "other", seed=1, sigma=50.0).noisy_picture()[2]
    spread = [float((x - clean)[(x > 0) & (x < 1)].std()) for x in (noisy, other)]
    assert spread[1] > 1.3 * spread[0]


def test_f16_takes_the_place_of_the_bundled_photo(assets: Path, tmp_path: Path) -> None:
    s = small.opened(tmp_path, data_root=str(assets / "data"), profile="small")
    name, clean, _ = s.noisy_picture()
    assert (name, clean.shape) == ("F16", (3, 128, 128))
    f16 = images.read(assets / "data" / "dip" / "F16_GT.png")
    half = images.resize(f16, scale=0.5).clamp(0, 1)
    torch.testing.assert_close(clean, half[:, 64:192, 64:192])
    assert not s.bundled_noise()


def test_noise_at_the_photos_own_size_where_the_profile_is_that_large() -> None:
    p = settings.Parameters(profile="paper")
    name, clean, _ = pictures.noisy(p)
    assert torch.equal(clean, photos.load(name))


def test_synthetic_haze_is_thick_at_the_top(s: Study) -> None:
    (one,) = s.hazy_pictures()
    assert (one.name, one.dataset) == ("astronaut", "synthetic haze")
    assert one.hazy.shape[1:] == s.scale.haze_size
    assert one.t is not None
    assert one.A is not None
    height = s.scale.haze_size[0]
    depth = [1 - 0.85 * row / (height - 1) for row in range(height)]
    wanted = torch.exp(torch.tensor([-1.4 * d for d in depth]))
    torch.testing.assert_close(one.t[0, :, 0], wanted)
    assert one.A.tolist() == pytest.approx([0.80, 0.82, 0.85])
    again = one.t * one.clean + (1 - one.t) * one.A.view(3, 1, 1)
    torch.testing.assert_close(one.hazy, again)
    assert one.radius == max(4, height // 8)


def test_every_bundled_photo_at_small_and_real_pairs_of_every_set(
    assets: Path, tmp_path: Path
) -> None:
    p = small.parameters(tmp_path, profile="small", data_root=str(assets / "data"))
    found = pictures.hazy(p)
    made_up = [one for one in found if one.t is not None]
    assert [one.name for one in made_up] == [
        name for name in pictures.CONTENTS if name in photos.names("test")
    ]
    real = found[len(made_up) :]
    assert [one.dataset for one in real] == ["O-HAZE"] * 2 + ["SOTS indoor"] * 2
    assert {tuple(one.hazy.shape) for one in found} == {(3, 96, 128)}
    assert len({one.name for one in found}) == len(found)
    assert all(one.A is None for one in real)
    assert all(float(one.hazy.min()) >= 0 and float(one.hazy.max()) <= 1 for one in found)
    assert min(one.radius for one in found) == 12
    assert Hazy("a", "b", torch.zeros(3, 768, 1024), torch.zeros(3, 768, 1024)).radius == 50


def test_photos_are_cut_around_their_centre() -> None:
    row = torch.arange(12.0).view(1, 1, 12).expand(3, 4, 12) / 12
    assert torch.equal(pictures.fitted(row, (4, 6)), row[:, :, 3:9])
    assert torch.equal(pictures.cropped(row, 4, 2), row[:, 1:3, 5:7])
    assert pictures.shrunk(row, 12) is row
    assert pictures.shrunk(row, 6).shape == (3, 2, 6)


def test_the_readers_style_photo(s: Study, tmp_path: Path) -> None:
    assert s.style_name() == "rocket"
    assert max(s.style_picture().shape) == s.scale.side
    file = tmp_path / "sunset.png"
    images.write(file, photos.load("coffee"))
    own = small.opened(tmp_path / "own", reference=str(file))
    assert own.style_name() == "sunset"
    assert own.style_picture().shape == (3, round(s.scale.side * 400 / 600), s.scale.side)
    assert s.content_names() == ["astronaut"]
    assert s.framework_photos() == ["astronaut", "rocket"]


# Denoising


def test_curves_are_scores_against_the_clean_picture(s: Study) -> None:
    _, clean, _ = s.noisy_picture()
    found = s.denoised(s.setting(), 0)
    assert found.found.steps == 2
    curves = found.found.history
    assert curves.steps["psnr"][-1] == 2
    assert found.found.average is not None
    average = found.found.average["output"][0].cpu()
    wanted = -10 * (average - clean).double().square().mean().log10()
    assert curves.values["psnr_average"][-1] == pytest.approx(float(wanted), abs=1e-4)
    assert torch.equal(found.picture, found.layers["average"])


def test_what_is_found_is_not_sought_again(s: Study, tmp_path: Path) -> None:
    first = s.denoised(s.setting(), 0)
    assert s.denoised(s.setting(), 0) is first
    assert s.denoised(s.setting(skips=False), 0) is not first
    fresh = small.opened(tmp_path / "fresh")
    mine = fresh.denoised(fresh.setting(), 0)
    before = checkpoints(fresh)
    assert len(before) == 1
    again = small.lent(fresh, fresh.run.folder)  # as after a restart: only the folder is left
    again._found = {}
    file = next((fresh.run.folder / "checkpoints").glob("*.pt"))
    stamp = file.stat().st_mtime_ns
    assert torch.equal(again.denoised(again.setting(), 0).picture, mine.picture)
    assert (checkpoints(again), file.stat().st_mtime_ns) == (before, stamp)
    assert torch.equal(first.picture, mine.picture), "two runs of one seed agree to the bit"


def test_arms_differ_in_what_they_say(s: Study) -> None:
    base = s.denoised(s.setting(), 0)
    for options in (
        {"prior": Prior(distribution="gaussian")},
        {"prior": Prior(upsampling="nearest")},
        {"stopping": Smoothed(1, 1, 0.9)},
    ):
        other = s.denoised(s.setting(), 0, **options)
        same = torch.equal(other.picture, base.picture)
        assert same == ("stopping" in options and other.found.steps == base.found.steps)
    assert not torch.equal(s.denoised(s.setting(), 1).picture, base.picture)
    # the seed of the arm counts, not that of the prior
    assert s.plan(s.scale.dip, 3, prior=Prior(7)).prior == Prior(3)


@pytest.mark.parametrize(("wide", "names"), [(False, ("small", "small_no_skip")),
                                             (True, ("denoise", "no_skip"))])  # fmt: skip
def test_the_profile_sets_the_network(s: Study, wide: bool, names: tuple[str, str]) -> None:
    s.scale = replace(s.scale, wide=wide)
    assert (s.setting(), s.setting(skips=False)) == names


def test_pictures_of_the_figure(s: Study) -> None:
    made = s.denoised_pictures()
    assert list(made)[:2] == ["Gaussian 0.8 px", "NLM"]
    assert list(made)[-4:] == [
        "skips, last output", "skips, average", "no skips, last output", "no skips, average",
    ]  # fmt: skip
    side = s.scale.crop
    assert all(picture.shape == (3, side, side) for picture in made.values())


# Dehazing


def first_loss(found: cfe.Dehazed) -> float:
    return found.passes[0].found.history.values["L_ID"][0]


def test_arms_of_one_seed_begin_alike_and_see_the_same_noise(tmp_path: Path) -> None:
    s = small.opened(tmp_path, steps=1)
    (hazy,) = s.hazy_pictures()
    plain, with_loss, other = (s.dehazed(hazy, *arm) for arm in ((0.0, 0), (0.1, 0), (0.0, 1)))
    assert first_loss(plain) == pytest.approx(first_loss(with_loss), rel=1e-6)
    assert first_loss(other) != pytest.approx(first_loss(plain), rel=1e-3)
    assert "L_CCL" in with_loss.passes[0].found.history.values
    assert "L_CCL" not in plain.passes[0].found.history.values
    assert torch.equal(plain.picture, with_loss.picture), "both are of before the first update"
    ends = [one.passes[0].found.outputs["J"] for one in (plain, with_loss)]
    assert not torch.equal(*ends)


def test_synthetic_haze_comes_with_its_airlight_and_real_haze_without(s: Study) -> None:
    (hazy,) = s.hazy_pictures()
    assert hazy.A is not None
    torch.testing.assert_close(s.dehazed(hazy, 0.0, 0).passes[0].start, hazy.A)
    real = replace(hazy, name="real", t=None, A=None)
    start = s.dehazed(real, 0.0, 0).passes[0].start
    assert float((start - hazy.A).abs().max()) > 1e-3
    # and so its airlight is one colour in the first pass, as in the official code
    layers = s.dehazed(real, 0.0, 0).passes[0].layers
    assert float(layers["A"].flatten(1).std(1).max()) == 0.0


def test_curves_of_the_inverted_model(s: Study) -> None:
    (hazy,) = s.hazy_pictures()
    found = s.dehazed(hazy, 0.0, 0)
    history = found.passes[0].found.history
    assert history.steps["ssim"][-1] == 2
    assert found.passes[0].found.kept is not None
    assert found.passes[0].found.kept.step == 2  # the last step is scored too
    t, A = (found.passes[0].layers[k][None] for k in ("t", "A"))
    picture, _ = cfe.inverted(hazy.hazy[None], t, A, radius=hazy.radius)
    wanted = -10 * (picture[0] - hazy.clean).double().square().mean().log10()
    assert history.values["psnr"][-1] == pytest.approx(float(wanted), abs=1e-4)
    assert torch.equal(found.picture, picture[0])


def test_films_are_of_the_first_seed(s: Study) -> None:
    (hazy,) = s.hazy_pictures()
    film = s.dehazed(hazy, s.p.lam, 0).passes[0].found.moments
    assert [step for step, _ in film] == [1, 2]
    assert set(film[0][1]) == {"output", "J", "t", "A"}
    assert s.dehazed(hazy, 0.0, 1).passes[0].found.moments == []


def test_large_photos_are_scored_in_the_size_of_the_decomposition(s: Study) -> None:
    from enhancelib.papers.dilie import study

    (hazy,) = s.hazy_pictures()
    half = (hazy.hazy.shape[1] // 2, hazy.hazy.shape[2] // 2)
    tiny = images.resize(hazy.hazy, size=half).clamp(0, 1)
    sample = {"degraded": tiny[None], "t": torch.ones(1, 1, *half), "A": torch.ones(1, 3, 1, 1)}
    found = study._scoring(hazy)(1, sample)
    clean = images.resize(hazy.clean, size=half).clamp(0, 1)
    wanted = -10 * (tiny - clean).double().square().mean().log10()
    assert found["psnr"] == pytest.approx(float(wanted), abs=1e-3)


def test_without_vgg19_there_is_no_contextual_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ENHANCELIB_CACHE", str(tmp_path / "empty"))
    s = small.opened(tmp_path / "run", steps=1)
    assert s.vgg19 is None
    said = "VGG19 is not fetched: no L_CCL, no style (enhancelib fetch --only vgg19)\n"
    assert capsys.readouterr().out == said
    (hazy,) = s.hazy_pictures()
    assert s.dehazed(hazy, 0.0, 0).picture.shape == hazy.hazy.shape
    with pytest.raises(networks.FeaturesMissing, match="enhancelib fetch --only vgg19"):
        s.dehazed(hazy, 0.1, 0)


# Style


def test_a_photo_restyled_by_either_loss(s: Study) -> None:
    (hazy,) = s.hazy_pictures()
    found = {kind: s.restyled(kind, hazy.hazy, hazy.name, 0) for kind in ("photo", "art")}
    for kind, one in found.items():
        assert one.E.shape == hazy.hazy.shape
        assert not torch.equal(one.E, hazy.hazy)
        assert any(name.startswith(f"{kind}-astronaut-seed0") for name in checkpoints(s)) or (
            s.restyled(kind, hazy.hazy, hazy.name, 0) is one
        )
    assert set(found["photo"].stages[-1].history.values) >= {"content", "style", "affine"}
    assert not torch.equal(found["photo"].E, found["art"].E)


def test_weights_of_the_run_reach_the_restyling(tmp_path: Path, features: Path) -> None:
    s = small.opened(tmp_path, alpha=2.0, beta=3.0, affine=5.0)
    (hazy,) = s.hazy_pictures()
    values = s.restyled("photo", hazy.hazy, "a", 0).stages[-1].history.values
    last = {name: curve[-1] for name, curve in values.items()}
    total = 2 * last["content"] + 3 * last["style"] + 5 * last["affine"]
    assert last["loss"] == pytest.approx(total, rel=1e-3)


@pytest.mark.parametrize(("kind", "said"), [("sketch", "kind is 'sketch'"),
                                             ("art", "beta is 0.0")])  # fmt: skip
def test_what_cannot_be_restyled_is_refused(tmp_path: Path, kind: str, said: str) -> None:
    s = small.opened(tmp_path, beta=0.0)
    with pytest.raises(ValueError, match=said):
        s.restyled(kind, torch.zeros(3, 8, 8), "x", 0)


def test_pictures_for_figures_are_kept_in_their_order(s: Study) -> None:
    for read in (s.restyled_pictures, s.noisy_pictures):
        with pytest.raises(ValueError, match=r"run styling\."):
            read()
    black: Tensor = torch.zeros(3, 2, 2)
    s.keep("noisy", 50.0, "from I", black)
    s.keep("noisy", 25.0, "from I", black)
    s.keep("noisy", 50.0, "from CFE(I)", black + 1)
    assert {row: list(made) for row, made in s.noisy_pictures().items()} == {
        50.0: ["from I", "from CFE(I)"], 25.0: ["from I"],
    }  # fmt: skip
    s.keep("restyled", "astronaut", "DILIE", black)
    assert list(s.restyled_pictures()) == ["astronaut"]


def test_hours_are_counted_from_the_start(s: Study) -> None:
    s._began = time.monotonic()
    assert not s.time_is_up()
    s.p = replace(s.p, hours=1.0)
    s._began -= 3599
    assert not s.time_is_up()
    s._began -= 2
    assert s.time_is_up()
    s.p = replace(s.p, hours=0.0)
    assert not s.time_is_up()


def test_an_arm_that_was_ended_or_is_of_main_runs_after_the_hours(
    s: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    done: list[str] = []
    s._began = time.monotonic()
    s.p = replace(s.p, hours=1.0)
    s.arm("one", lambda: done.append("one"))
    s._began -= 3601
    for what in ("one", "two"):
        s.arm(what, partial(done.append, what))
    s.arm("three", lambda: done.append("three"), main=True)
    assert done == ["one", "one", "three"]
    assert capsys.readouterr().out == "hours are over: two, not run\n"


def test_an_arm_that_failed_was_not_ended(s: Study) -> None:
    with pytest.raises(ZeroDivisionError):
        s.arm("one", lambda: 1 // 0)
    assert not s.run.knows("arm: one")
