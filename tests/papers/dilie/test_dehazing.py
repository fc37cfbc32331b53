"""The haze sections of DILIE: arms, whole curves, errors of the layers, Table 1's rows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import skimage.color
import torch
from torch import Tensor

from enhancelib import filters, images, photos, weights
from enhancelib.papers.dilie import classical, dehazing, pictures, settings, verdict
from enhancelib.papers.dilie.dehazing import Found
from enhancelib.papers.dilie.pictures import Hazy
from enhancelib.papers.dilie.study import Study
from enhancelib.results import select
from tests.papers.dilie import small

Measured = tuple[Study, Found]


def psnr(x: Tensor, y: Tensor) -> float:
    return float(-10 * (x.clamp(0, 1) - y).double().square().mean().log10())


@pytest.fixture(scope="module")
def measured(features: Path, assets: Path, tmp_path_factory: pytest.TempPathFactory) -> Measured:
    """Two seeds, the astronaut under synthetic haze and one real pair."""
    s = small.opened(tmp_path_factory.mktemp("haze"), seeds=2, data_root=str(assets / "data"))
    found = dehazing.measure(s)
    dehazing.compare(s, found)
    return s, found


def test_every_photo_lambda_and_seed(measured: Measured) -> None:
    s, found = measured
    names = [one.name for one in s.hazy_pictures()]
    assert len(names) == 2
    assert set(found) == {(n, lam, seed) for n in names for lam in (0.0, 0.001) for seed in (0, 1)}
    values = s.run.values(table="lambda")
    assert len(values) == len(found) * 2
    assert set(values["method"]) == {"lambda=0", "lambda=0.001"}
    one = s.hazy_pictures()[1]
    row = select(values, image=one.name, method="lambda=0.001", seed=1, metric="psnr")
    assert row["value"].item() == pytest.approx(
        psnr(found[one.name, 0.001, 1].picture, one.clean), abs=1e-4
    )
    assert set(values["dataset"]) == {"synthetic haze", "O-HAZE"}


def test_curves_are_whole_and_end_with_the_last_step(measured: Measured) -> None:
    s, found = measured
    values = s.run.values(table="lambda_curve", metric="ssim", image="astronaut", seed=0)
    own = select(values, method="lambda=0")
    assert list(own["setting"]) == ["step=2"]
    history = found["astronaut", 0.0, 0].passes[0].found.history
    assert list(own["value"]) == history.values["ssim"]
    assert len(s.run.values(table="lambda_curve")) == len(found) * 2


def test_steps_of_a_second_pass_go_on(tmp_path: Path) -> None:
    s = small.opened(tmp_path, lam=0.0)
    s.scale = replace(s.scale, passes=2)
    found = dehazing.measure(s)
    assert [len(one.passes) for one in found.values()] == [2]
    values = s.run.values(table="lambda_curve", metric="psnr")
    assert list(values["setting"]) == ["step=2", "step=4"]


def test_layers_are_judged_where_the_truth_is_known(measured: Measured) -> None:
    s, found = measured
    values = s.run.values(table="layers")
    assert set(values["image"]) == {"astronaut"}
    assert set(values["metric"]) == {"t_error", "t_correlation", "airlight_error"}
    hazy = s.hazy_pictures()[0]
    assert hazy.t is not None
    t = found["astronaut", 0.0, 1].layers["t"].double().numpy().ravel()
    wanted = np.corrcoef(t, hazy.t.double().numpy().ravel())[0, 1]
    row = select(values, method="lambda=0", seed=1, metric="t_correlation")["value"].item()
    assert row == pytest.approx(wanted, abs=1e-6)
    shown = dehazing.layers_table(s.run)
    assert list(shown["lambda"]) == ["0", "0.001"]
    assert list(shown["pictures"]) == [1, 1]


def test_errors_of_layers_by_hand() -> None:
    t = torch.tensor([[[0.2, 0.4], [0.6, 0.8]]])
    layers = {"t": 0.5 * t + 0.1, "A": torch.tensor([0.9, 0.8, 0.6]).view(3, 1, 1).expand(3, 2, 2)}
    found = dehazing.errors(layers, t, torch.tensor([0.8, 0.8, 0.9]))
    assert found["t_error"] == pytest.approx((0.0 + 0.1 + 0.2 + 0.3) / 4)
    assert found["t_correlation"] == pytest.approx(1.0)
    assert found["airlight_error"] == pytest.approx((0.1 + 0.0 + 0.3) / 3)
    turned = dehazing.errors({**layers, "t": 1 - t}, t, torch.ones(3))
    assert turned["t_correlation"] == pytest.approx(-1.0)
    flat = dehazing.errors({**layers, "t": torch.full_like(t, 0.5)}, t, torch.ones(3))
    assert flat["t_correlation"] == 0.0


# Table 1


def test_rows_of_table_1(measured: Measured) -> None:
    s, found = measured
    values = s.run.values(table="dehazing")
    assert list(dict.fromkeys(values["method"])) == [
        "hazy", "1 % stretch", "dark channel (guided filter)", "dark channel (soft matting)",
        "Double-DIP (lambda 0)", "DILIE",
    ]  # fmt: skip
    assert set(values["metric"]) == {"psnr", "ssim", "ciede2000"}
    hazy = s.hazy_pictures()[0]
    row = select(values, method="hazy", image="astronaut")
    assert row["seed"].isna().all()
    assert select(row, metric="psnr")["value"].item() == pytest.approx(psnr(hazy.hazy, hazy.clean))
    lab = [skimage.color.rgb2lab(x.double().permute(1, 2, 0)) for x in (hazy.hazy, hazy.clean)]
    delta = float(skimage.color.deltaE_ciede2000(*lab).mean())  # type: ignore[no-untyped-call]
    assert select(row, metric="ciede2000")["value"].item() == pytest.approx(delta, abs=1e-3)
    own = select(values, method="DILIE", image="astronaut", metric="psnr", seed=1)["value"].item()
    plain = select(values, method="Double-DIP (lambda 0)", image="astronaut", metric="psnr", seed=1)
    assert own == pytest.approx(psnr(found["astronaut", 0.001, 1].picture, hazy.clean), abs=1e-4)
    assert plain["value"].item() == pytest.approx(
        psnr(found["astronaut", 0.0, 1].picture, hazy.clean), abs=1e-4
    )


def test_the_tables_keep_sets_apart_and_spread_over_seeds(measured: Measured) -> None:
    s, _ = measured
    shown = dehazing.table(s.run)
    assert list(dict.fromkeys(shown["data"])) == ["synthetic haze", "O-HAZE"]
    assert list(shown.columns) == [
        "data", "method", "pictures", "PSNR, dB", "SSIM", "CIEDE2000",
    ]  # fmt: skip
    row = shown[(shown["data"] == "O-HAZE") & (shown["method"] == "DILIE")]
    values = select(
        s.run.values(table="dehazing"), dataset="O-HAZE", method="DILIE", metric="ssim"
    )["value"]
    assert row["SSIM"].item() == f"{values.mean():.3f} ± {values.std():.3f}"
    assert "±" not in shown[shown["method"] == "hazy"]["SSIM"].iloc[0]
    shown = dehazing.lambda_table(s.run)
    assert list(shown["lambda"]) == ["0", "0.001", "0", "0.001"]


def test_means_are_over_pictures_first_and_then_over_seeds(tmp_path: Path) -> None:
    s = small.opened(tmp_path)
    for image, seed, value in (("a", 0, 1.0), ("b", 0, 3.0), ("a", 1, 5.0), ("b", 1, 7.0)):
        s.run.record(
            dataset="d", method="lambda=0", metric="psnr", value=value, image=image, seed=seed,
            table="lambda",
        )  # fmt: skip
    row = dehazing.lambda_table(s.run).iloc[0]
    assert (row["pictures"], row["PSNR, dB"]) == (2, "4.00 ± 2.83")


def test_claims_find_their_rows(measured: Measured) -> None:
    s, _ = measured
    judged = {claim.name: claim.statistic(s.run.values()) for claim in verdict.CLAIMS}
    for name in ("ccl_helps", "dehazing_helps", "beats_stretch", "beats_dark_channel",
                 "transmission_found"):  # fmt: skip
        found = judged[name]
        assert isinstance(found, list)
        assert len(found) == 2
    assert judged["large_lambda_hurts"] is None


def test_released_networks_where_their_weights_are_given(
    measured: Measured, assets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "weights"
    folder.mkdir()
    files = {"aodnet": "aodnet_official.npz", "mscnn": "mscnn_official.npz"}
    for name, file in files.items():
        (folder / file).symlink_to(assets / "weights" / name / file)
    s = small.lent(measured[0], tmp_path / "run", weights=str(folder))
    dehazing.compare(s, {})
    assert capsys.readouterr().out == ""
    values = s.run.values(table="dehazing", metric="psnr")
    for hazy in s.hazy_pictures():
        with torch.no_grad():
            J = weights.load("aodnet", folder / files["aodnet"])(hazy.hazy[None])[0]
        row = select(values, method="AOD-Net", image=hazy.name)["value"].item()
        assert row == pytest.approx(psnr(J, hazy.clean), abs=1e-3)
    assert len(select(values, method="MSCNN")) == 2
    assert "DILIE" not in set(values["method"])


def test_without_weights_it_is_said(s: Study, capsys: pytest.CaptureFixture[str]) -> None:
    assert "AOD-Net" not in dehazing.methods(s)
    said = capsys.readouterr().out.splitlines()
    assert said == [f"{n}: not run; its authors' file is not in weights"
                    for n in ("AOD-Net", "MSCNN")]  # fmt: skip


# Which lambdas


def test_all_tables_compare_six_lambdas(s: Study, tmp_path: Path) -> None:
    assert dehazing.lambdas(s) == (0.0, 0.001)
    every = small.lent(s, tmp_path / "all", tables="all")
    assert dehazing.lambdas(every) == settings.LAMBDAS
    own = small.lent(s, tmp_path / "own", lam=0.5, tables="all")
    assert dehazing.lambdas(own) == (*settings.LAMBDAS, 0.5)
    assert dehazing.lambdas(small.lent(s, tmp_path / "none", lam=0.0)) == (0.0,)


def test_no_further_lambda_starts_after_the_hours(
    s: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    late = small.lent(s, tmp_path / "late", tables="all", hours=1.0)
    late._began -= 3601
    found = dehazing.measure(late)
    dehazing.sweep(late)
    assert {lam for _, lam, _ in found} == {0.0, 0.001}
    assert "hours are over: lambda=0.1, seed 0, astronaut, not run" in capsys.readouterr().out
    assert set(late.run.values(table="lambda")["method"]) == {"lambda=0", "lambda=0.001"}


def test_the_sweep_adds_the_other_lambdas(
    s: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dehazing.sweep(s)
    assert "tables='all' compares six" in capsys.readouterr().out
    assert s.run.values(table="lambda").empty
    every = small.lent(s, tmp_path / "every", tables="all")
    found = dehazing.measure(every)
    dehazing.sweep(every)
    assert {lam for _, lam, _ in found} == {0.0, 0.001}
    values = every.run.values(table="lambda", metric="psnr")
    assert sorted(values["method"]) == sorted(map(verdict.lam, settings.LAMBDAS))
    every.p = replace(every.p, hours=1.0)
    every._began -= 3601
    dehazing.sweep(every)
    assert "not run" not in capsys.readouterr().out, "what was ended is loaded"


# The dark channel prior


def test_the_dark_channel_with_a_filter_of_the_pictures_size() -> None:
    clean = pictures.fitted(photos.load("coffee"), (48, 64))
    hazy = pictures.hazed("coffee", clean)
    I, A = hazy.hazy[None], torch.tensor([0.80, 0.82, 0.85]).view(1, 3, 1, 1)  # noqa: E741
    raw = 1 - 0.95 * filters.dark_channel(I / A, 15)
    t = filters.guided_filter(images.luma(I), raw, 6, 1e-4)
    wanted = (I - A) / t.clamp_min(0.1) + A
    found = classical.dark_channel(hazy, matting=False)
    torch.testing.assert_close(found, wanted[0])
    assert psnr(found, clean) > psnr(hazy.hazy, clean) + 5
    matted = classical.dark_channel(hazy, matting=True)
    assert psnr(matted, clean) > psnr(hazy.hazy, clean) + 3
    assert not torch.allclose(matted, found, atol=0.01)


def test_real_haze_has_its_airlight_estimated(assets: Path) -> None:
    read = [images.read(assets / "data" / "ohaze" / f"35_outdoor_{k}.jpg") for k in ("hazy", "GT")]
    hazy, clean = (pictures.fitted(photo, (96, 128)) for photo in read)
    real = Hazy("35", "O-HAZE", hazy, clean)
    found = classical.dark_channel(real, matting=False)
    assert psnr(found, clean) == pytest.approx(20.85, abs=0.1)  # against 14.19 of the hazy photo
    given = classical.dark_channel(replace(real, A=torch.ones(3)), matting=False)
    assert not torch.allclose(given, found, atol=0.01)
