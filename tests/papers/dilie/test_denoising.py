"""The noise sections of DILIE: what is recorded, of which pictures, and filters by value."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from enhancelib import images, metrics, photos
from enhancelib.internal import Backtracking, Smoothed
from enhancelib.models.skip import SETTINGS
from enhancelib.papers.dilie import classical, denoising, pictures, verdict
from enhancelib.papers.dilie.study import Study
from enhancelib.results import select
from tests.papers.dilie import small


def psnr(x: Tensor, y: Tensor) -> float:
    return float(-10 * (x.clamp(0, 1) - y).double().square().mean().log10())


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A study of two seeds and four steps: curves have two points, seeds a spread."""
    return small.opened(tmp_path_factory.mktemp("two"), seeds=2, steps=0)


# Impedance


def test_one_network_on_four_targets_as_whole_curves(two: Study) -> None:
    denoising.impedance(two)
    values = two.run.values(table="impedance")
    assert list(dict.fromkeys(values["method"])) == ["clean", "noisy", "noise", "shuffled"]
    assert set(values["metric"]) == {"mse"}
    assert set(values["setting"]) == {f"step={k}" for k in (1, 2, 3, 4)}
    assert len(values) == 4 * 4 * 2
    assert set(values["seed"]) == {0, 1}
    ends = select(values, setting="step=4").groupby(["method", "seed"])["value"].mean()
    assert ends.nunique() == 8
    # the first outputs are grey, so the errors are near the targets' own spread about grey
    _, clean, noisy = two.noisy_picture()
    for method, target in denoising._targets(clean, noisy, 0).items():
        about = float((target - 0.5).square().mean())
        assert ends[method].mean() == pytest.approx(about, rel=0.5)


def test_shuffled_pixels_are_the_photos_own_and_noise_is_white() -> None:
    clean = images.resize(photos.load("chelsea"), size=(40, 44)).clamp(0, 1)
    made = denoising._targets(clean, clean, 0)
    shuffled = made["shuffled"]
    assert not torch.equal(shuffled, clean)
    rows = [sorted(map(tuple, x.flatten(1).T.tolist())) for x in (clean, shuffled)]
    assert rows[0] == rows[1], "whole pixels move, their colours stay"
    noise = made["noise"]
    assert float(noise.mean()) == pytest.approx(0.5, abs=0.02)
    assert float(noise.var()) == pytest.approx(1 / 12, rel=0.05)
    neighbours = (noise[..., 1:] - 0.5) * (noise[..., :-1] - 0.5)
    assert abs(float(neighbours.mean())) < 0.005
    assert torch.equal(denoising._targets(clean, clean, 0)["noise"], noise)
    assert not torch.equal(denoising._targets(clean, clean, 1)["noise"], noise)


# Denoising against filters


def test_filters_networks_and_their_curves(two: Study) -> None:
    denoising.measure(two)
    values = two.run.values(table="denoising")
    filters = list(classical.denoisers())
    networks = [
        "skips, last output", "skips, average", "no skips, last output", "no skips, average",
    ]  # fmt: skip
    assert list(dict.fromkeys(values["method"])) == ["noisy", *filters, *networks]
    assert set(values["metric"]) == {"psnr", "ssim"}
    assert select(values, method=["noisy", *filters])["seed"].isna().all()
    assert len(select(values, method=networks)) == 4 * 2 * 2
    _, clean, noisy = two.noisy_picture()
    one = select(values, method="noisy", metric="psnr")["value"].item()
    assert one == pytest.approx(psnr(noisy, clean), abs=1e-4)
    best = select(values, method="skips, average", metric="psnr", seed=1)["value"].item()
    found = two.denoised("small", 1)
    assert best == pytest.approx(psnr(found.layers["average"], clean), abs=1e-4)
    without = select(values, method="no skips, last output", metric="ssim", seed=0)["value"].item()
    output = two.denoised("small_no_skip", 0).layers["output"]
    assert without == pytest.approx(
        float(metrics.METRICS["ssim"](output[None].clamp(0, 1), clean[None])[0]), abs=1e-5
    )


def test_curves_are_whole(two: Study) -> None:
    values = two.run.values(table="denoising_curve", method="no skips, average", seed=1)
    history = two.denoised("small_no_skip", 1).found.history
    assert list(values["setting"]) == ["step=2", "step=4"]
    assert list(values["value"]) == history.values["psnr_average"]
    last = two.run.values(table="denoising_curve", method="no skips, last output", seed=1)
    assert list(last["value"]) == history.values["psnr"]
    assert len(two.run.values(table="denoising_curve")) == 4 * 2 * 2


def test_the_table_shows_means_and_spread(two: Study) -> None:
    shown = denoising.table(two.run).set_index("method")
    assert list(shown.columns) == ["PSNR, dB", "SSIM"]
    values = two.run.values(table="denoising", method="skips, average", metric="psnr")["value"]
    cell = f"{values.mean():.2f} ± {values.std():.2f}"
    assert shown.loc["skips, average", "PSNR, dB"] == cell
    assert "±" not in str(shown.loc["NLM", "SSIM"])
    assert metrics.METRICS["ssim"].protocol in denoising.NOTE


def test_claims_find_their_rows(two: Study) -> None:
    values = two.run.values()
    judged = {claim.name: claim.statistic(values) for claim in verdict.CLAIMS}
    for name in ("impedance", "skips_help", "average_helps", "dip_beats_filters"):
        found = judged[name]
        assert isinstance(found, list)
        assert len(found) == 2
        assert all(math.isfinite(value) for value in found)


def test_a_gaussian_of_08_pixels_by_hand() -> None:
    point = torch.zeros(3, 17, 17)
    point[:, 8, 8] = 1.0
    kernel = np.exp(-(np.arange(-3, 4) ** 2) / (2 * 0.8**2))
    kernel /= kernel.sum()
    wanted = torch.from_numpy(np.outer(kernel, kernel)).float()
    found = classical.gaussian(point, 25.0)
    torch.testing.assert_close(found[1, 5:12, 5:12], wanted, atol=1e-6, rtol=0)
    # mirrored without the edge pixel, so that a ramp keeps its mean slope inside
    flat = torch.full((3, 9, 9), 0.25)
    torch.testing.assert_close(classical.gaussian(flat, 25.0), flat)


def test_filters_do_what_the_specification_measured(assets: Path) -> None:
    """F16 at 256 pixels, sigma 25 clipped: 20.4 dB; Gaussian 26.6, NLM 28.4."""
    f16 = images.read(assets / "data" / "dip" / "F16_GT.png")
    clean = images.resize(f16, scale=0.5).clamp(0, 1)
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    noisy = (clean + 25 / 255 * noise).clamp(0, 1)
    assert psnr(noisy, clean) == pytest.approx(20.4, abs=0.15)
    assert psnr(classical.gaussian(noisy, 25.0), clean) == pytest.approx(26.6, abs=0.15)
    assert psnr(classical.nlm(noisy, 25.0), clean) == pytest.approx(28.4, abs=0.3)


# Variants


def test_variants_differ_only_in_what_they_are_called_after(two: Study) -> None:
    denoising.variants(two)
    values = two.run.values(table="dip_variants")
    assert set(values["metric"]) == {"psnr", "ssim", "psnr_last", "steps"}
    of = values[values["metric"] == "psnr"].pivot(index="method", columns="seed", values="value")
    assert len(of) == 6
    base = of.loc["uniform input, bilinear"]
    assert list(of.loc["stopped: fixed"]) == list(base)
    for name in ("gaussian input, bilinear", "uniform input, nearest"):
        assert (of.loc[name] != base).all()
    denoised = two.run.values(table="denoising", method="skips, average", metric="psnr")
    assert list(denoised["value"]) == list(base)
    shown = denoising.variants_table(two.run)
    assert list(shown.columns) == ["method", "PSNR, dB", "SSIM", "last output, dB", "steps"]
    assert shown["steps"].iloc[0] == "4 ± 0"


def test_stopping_rules_are_parts_of_the_recipe() -> None:
    rules = {name: made.get("stopping") for name, made in denoising.arms(1000).items()}
    assert rules["stopped: smoothed"] == Smoothed(50, 2, 0.02)
    assert rules["stopped: backtracking"] == Backtracking(5.0, 10)
    assert denoising.arms(1)["stopped: smoothed"]["stopping"].window == 1


# The official notebooks' settings


@pytest.mark.parametrize("name", list(denoising.NOTEBOOKS))
def test_every_setting_has_a_task(s: Study, name: str) -> None:
    given = denoising.task(s, name)
    side = given.clean.shape[-1]
    assert given.clean.shape[-2] == side
    assert side % 8 == 0
    assert side >= SETTINGS[name].build().least
    found = given.fillings
    assert set(found) == {"yardstick"} | (
        {"nearest"} if SETTINGS[name].transform == "mask" else set()
    )
    assert all(picture.shape == given.clean.shape for picture in found.values())
    assert all(psnr(picture, given.clean) > 5 for picture in found.values())


def test_masks_are_the_notebooks(s: Study) -> None:
    clean = torch.full((3, 64, 64), 0.5)
    masks = {n: denoising._mask(n, clean, torch.Generator().manual_seed(0))
             for n in denoising.NOTEBOOKS if SETTINGS[n].transform == "mask"}  # fmt: skip
    assert float(masks["restore_kate"].mean()) == pytest.approx(0.02, abs=0.005)
    assert float(masks["restore_barbara"].mean()) == pytest.approx(0.5, abs=0.02)
    assert masks["restore_kate"].shape == (3, 64, 64)
    assert float(masks["inpaint_vase"].mean()) == pytest.approx(1 - (24 / 64) ** 2)
    assert 0.6 < float(masks["inpaint_kate"].mean()) < 0.95


def test_fillings_by_hand() -> None:
    picture = torch.tensor([[[0.1, 0.2, 0.3, 0.9]]])
    known = torch.tensor([[[1.0, 0.0, 0.0, 1.0]]])
    torch.testing.assert_close(
        classical.filled(picture, known), torch.tensor([[[0.1, 0.1, 0.9, 0.9]]])
    )
    both = torch.cat([picture, 1 - picture])
    own = classical.filled(both, torch.cat([known, known.flip(2)]))
    torch.testing.assert_close(own[1], torch.tensor([[0.9, 0.9, 0.1, 0.1]]))


def test_holes_are_judged_against_the_mean_of_the_rest(s: Study) -> None:
    given = denoising.task(s, "inpaint_vase")
    yardstick, clean = given.fillings["yardstick"], given.clean
    hole = yardstick != clean
    middle = clean.shape[-1] // 2
    known = ~hole.any(0)
    for channel in range(3):
        mean = clean[channel][known].mean()
        assert float(yardstick[channel, middle, middle]) == pytest.approx(float(mean), abs=1e-4)


def test_settings_run_and_those_of_all_tables_are_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    s = small.opened(tmp_path, steps=1)
    denoising.settings_run(s)
    assert "inpaint_library: not run at this profile; tables='all'" in capsys.readouterr().out
    values = s.run.values(table="seven_settings")
    assert list(dict.fromkeys(values["method"])) == list(denoising.MAIN)
    assert set(values["metric"]) == {"psnr", "yardstick", "nearest", "steps"}
    assert set(values["dataset"]) == {"bundled photo"}
    kate = select(values, method="restore_kate", metric="psnr")["value"].item()
    made = denoising.task(s, "restore_kate")
    recipe = replace(s.scale.dip, learning_rate=SETTINGS["restore_kate"].learning_rate)
    again = made.restore(s.plan(recipe, 0)).picture
    assert kate == pytest.approx(psnr(again, made.clean), abs=1e-4)
    shown = denoising.settings_table(s.run)
    assert list(shown["picture"]) == ["chelsea", "astronaut", "chelsea", "coffee"]
    assert list(shown["nearest, dB"])[:2] == ["n/a", "n/a"]
    by = {claim.name: claim.statistic(s.run.values()) for claim in verdict.CLAIMS}
    assert isinstance(by["super_resolution"], float)
    assert isinstance(by["inpainting"], float)


def test_all_settings_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    s = small.opened(tmp_path, steps=1, tables="all")
    denoising.settings_run(s)
    values = s.run.values(table="seven_settings", metric="steps")
    assert list(values["method"]) == list(denoising.NOTEBOOKS)
    assert set(values["value"]) == {1.0}
    s.p = replace(s.p, hours=1.0)
    s._began -= 3601
    denoising.settings_run(s)
    assert "not run" not in capsys.readouterr().out, "what was ended is loaded"
    (s.run.folder / "once").rename(tmp_path / "once elsewhere")
    denoising.settings_run(s)
    told = capsys.readouterr().out
    assert "hours are over: denoise, not run" in told
    assert "jpeg" not in told, "tables='main' has it"


def test_official_pictures_where_they_are_at_hand(assets: Path, tmp_path: Path) -> None:
    p = small.parameters(tmp_path, data_root=str(assets / "data"))
    for name, (official, bundled) in denoising.NOTEBOOKS.items():
        found, _ = pictures.official(p, official, bundled)
        expected = official.removesuffix("_GT") if official in ("F16_GT", "kate", "vase") else None
        assert found == (expected or bundled), name
