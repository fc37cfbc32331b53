"""What the style sections record, and that the numbers are those of the pictures they kept."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest
import torch

from enhancelib import images, photos
from enhancelib.losses import photorealism
from enhancelib.models.skip import SETTINGS
from enhancelib.papers.dilie import (
    affine,
    baselines,
    cfe,
    settings,
    sfe,
    styling,
    transfers,
    verdict,
)
from enhancelib.papers.dilie.haziness import ERRORS
from enhancelib.papers.dilie.study import Study
from enhancelib.results import select
from tests.papers.dilie import small


def only(frame: pd.DataFrame, **where: object) -> float:
    (value,) = select(frame, **where)["value"]
    return float(value)


def test_affine_measures_the_result_of_every_weight(s: Study) -> None:
    styling.affine(s)
    values = s.run.values(table="affine")
    assert set(values["method"]) == {f"affine={g:g}" for g in settings.AFFINES}
    assert set(values["metric"]) == {"affine_loss", "edge_ssim"}
    assert only(values, method="affine=0", metric="edge_ssim") < 1
    for claim in verdict.CLAIMS:
        if claim.name in ("affine_loss", "affine_edges"):
            one = s.run.values()
            assert claim.statistic(one) is None, "one photo says nothing"
            least = claim.statistic(pd.concat([one, one.assign(image="again")]))
            assert isinstance(least, float)
            assert math.isfinite(least)
    table = styling.affine_table(s.run)
    assert list(table["weight"]) == ["0", "100", "10000"]


def test_affine_is_measured_on_the_picture(s: Study) -> None:
    styling.affine(s)
    (C,) = [one.clean[None] for one in styling._contents(s)]
    series = sfe.affine_series(
        C[0], s.style_picture(), s.run, recipe=s.scale.photo, stage="affine-astronaut",
    )  # fmt: skip
    E = series[0.0].E[None]
    values = s.run.values(table="affine", method="affine=0")
    assert only(values, metric="affine_loss") == pytest.approx(
        float(photorealism.matting(E, C)), rel=1e-5
    )
    assert only(values, metric="edge_ssim") == pytest.approx(
        float(affine.edge_similarity(E, C)), rel=1e-5
    )


def test_balance_records_both_losses_before_their_weights(s: Study) -> None:
    styling.balance(s)
    values = s.run.values(table="balance")
    assert set(values["method"]) == {"beta=0.1", "beta=10"}
    style = [only(values, method=f"beta={b}", metric="style") for b in ("0.1", "10")]
    assert 0.5 < style[0] / style[1] < 2  # of one size, though their weights are a hundred apart


def test_haziness_from_the_pictures_that_it_kept(s: Study) -> None:
    styling.haziness(s)
    values = s.run.values(table="haziness")
    assert set(values["setting"]) == {verdict.FROM_HAZY, verdict.FROM_CFE}
    assert set(values["image"]) == {"astronaut", "mean"}
    shown = s.restyled_pictures()["astronaut"]
    assert list(shown) == ["input $I$", "Reinhard", "DILIE without CFE", "DILIE"]
    (one,) = styling._contents(s)
    clean = baselines.reinhard(one.clean, s.style_picture()).E
    for name, E in ERRORS.items():
        both = [float(E(one.clean[None], x[None])) for x in (shown["Reinhard"], clean)]
        H = only(
            values, method="Reinhard", setting=verdict.FROM_HAZY, metric=name, image="astronaut"
        )
        assert pytest.approx(both[0] - both[1], abs=1e-6) == H
        table_2 = s.run.values(table="table2", setting="haze", image="mean")
        error = only(table_2, method="Reinhard", metric=name)
        assert error == pytest.approx(both[0], abs=1e-6)


def test_haziness_compares_dilie_with_and_without_its_first_step(s: Study) -> None:
    styling.haziness(s)
    shown = s.restyled_pictures()["astronaut"]
    (one,) = styling._contents(s)
    clean = s.restyled("photo", one.clean, "astronaut clean", 0).E
    E = ERRORS[verdict.ERROR]
    values = s.run.values(table="haziness", method=verdict.DILIE, metric=verdict.ERROR)
    for setting, title in ((verdict.FROM_HAZY, "DILIE without CFE"), (verdict.FROM_CFE, "DILIE")):
        of_this, of_clean = (float(E(one.clean[None], x[None])) for x in (shown[title], clean))
        H = only(values, setting=setting, image="astronaut")
        assert pytest.approx(of_this - of_clean, abs=1e-6) == H
    table_2 = s.run.values(table="table2", method=verdict.DILIE, metric=verdict.ERROR)
    direct = float(E(one.clean[None], shown["DILIE"][None]))
    assert only(table_2, image="astronaut", setting="haze") == pytest.approx(direct, abs=1e-6)
    given = float(E(one.hazy[None], shown["DILIE"][None]))
    against = only(table_2, image="astronaut", setting=f"haze, {styling.AGAINST_I}")
    assert against == pytest.approx(given, abs=1e-6)


def test_the_tables_of_haze(s: Study) -> None:
    styling.haziness(s)
    table = styling.haziness_table(s.run)
    assert list(table.columns) == ["method", "restyled", *ERRORS]
    assert len(table) == 4
    second = styling.table_2(s.run)
    assert set(second["PieAPP (paper)"]) == {"n/a"}
    assert list(second["method"]) == ["Reinhard", "DILIE", "Reinhard", "DILIE"]
    inputs = ["haze", f"haze, {styling.AGAINST_I}"]
    assert list(second["input"]) == [inputs[0]] * 2 + [inputs[1]] * 2
    statistics = {claim.name: claim.statistic(s.run.values()) for claim in verdict.CLAIMS}
    assert statistics["dehaze_first"] is None  # one photo is not four
    for name in ("dilie_least_haze", "dilie_least_error_haze"):
        value = statistics[name]
        assert isinstance(value, float)
        assert math.isfinite(value)


def test_noise_is_on_content_and_style(s: Study) -> None:
    styling.noisy(s)
    values = s.run.values(table="noisy", image="astronaut")
    settings_ = [f"sigma=25; {name}" for name in (styling.FROM_I, verdict.FROM_CFE)]
    assert set(values["setting"]) == {*settings_, f"sigma=25; {styling.CLEANED}"}
    (one,) = styling._contents(s)
    I, S = (  # noqa: E741
        styling._noised(s, x, 25.0, k) for x, k in ((one.clean, "I"), (s.style_picture(), "S"))
    )
    assert float((I - one.clean).std()) == pytest.approx(25 / 255, rel=0.2)  # clipped at both ends
    plan, setting = s.plan(s.scale.dip, 0), SETTINGS["small"]
    cleaned, style = (cfe.denoise(x, run=s.run, setting=setting, plan=plan).picture for x in (I, S))
    E = ERRORS[verdict.ERROR]
    arms = {
        styling.FROM_I: (I, S),
        verdict.FROM_CFE: (cleaned, S),
        styling.CLEANED: (cleaned, style),
    }
    for name, pair in arms.items():
        found = only(values, method="Reinhard", setting=f"sigma=25; {name}", metric=verdict.ERROR)
        made = baselines.reinhard(*pair).E
        assert found == pytest.approx(float(E(one.clean[None], made[None])), abs=1e-6)


def test_noise_in_table_2(s: Study) -> None:
    styling.noisy(s)
    values = s.run.values(table="table2", setting="noise", image="mean", metric=verdict.ERROR)
    by_setting = s.run.values(table="noisy", metric=verdict.ERROR, image="mean")
    pairs = (("Reinhard", styling.FROM_I), (verdict.DILIE, verdict.FROM_CFE))
    for method, setting in pairs:
        same = only(by_setting, method=method, setting=f"sigma=25; {setting}")
        assert only(values, method=method) == same
    assert list(s.noisy_pictures()) == [25.0]
    titles = ["noisy $I$", styling.FROM_I, verdict.FROM_CFE, styling.CLEANED]
    assert list(s.noisy_pictures()[25.0]) == titles
    assert list(s.restyled_pictures()) == ["astronaut, noisy"]
    assert len(styling.noisy_table(s.run)) == 6


def test_strengths_and_methods_by_profile(s: Study, features: Path, tmp_path: Path) -> None:
    assert styling._strengths(s) == (25.0,)
    s.p = small.parameters(tmp_path, profile="small", sigma=20.0)
    assert styling._strengths(s) == [15.0, 20.0, 25.0, 50.0]
    assert transfers.listed(s) == ["Reinhard", "DILIE"]
    s.p = small.parameters(tmp_path, tables="all")
    assert transfers.listed(s) == ["Reinhard", *transfers.OPTIMISED, "DILIE"]
    assert transfers.missing(s) == [
        "PCA-KD, WCT2: not run, the authors' files are wanted (weights=)"
    ]


def test_all_style_transfers_of_the_tables_run(
    features: Path, assets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = assets / "weights" / "dilie"
    s = small.opened(tmp_path, tables="all", steps=1, weights=str(weights))
    styling.haziness(s)
    assert capsys.readouterr().out.startswith("WCT2: not run")
    values = s.run.values(table="table2", image="mean", metric=verdict.ERROR)
    methods = ["Reinhard", "PCA-KD", "Neural style", "DPST", "Contextual", "STROTSS", "DILIE"]
    for reference in ("haze", f"haze, {styling.AGAINST_I}"):
        assert list(select(values, setting=reference)["method"]) == methods
    assert values["value"].map(math.isfinite).all()


def test_hours_that_are_over_are_told(
    s: Study, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(s, "time_is_up", lambda: True)
    monkeypatch.setattr(styling.transfers, "listed", lambda _: ["Reinhard", "DPST"])
    styling.haziness(s)
    styling.noisy(s)
    told = capsys.readouterr().out
    assert "hours are over: DPST on astronaut, not run" in told
    assert "hours are over: DPST at sigma 25, not run" in told
    for table in ("haziness", "noisy"):
        assert set(s.run.values(table=table)["method"]) == {"Reinhard"}, "main tables stay whole"


def test_without_features_nothing_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ENHANCELIB_CACHE", str(tmp_path / "cache"))
    s = small.opened(tmp_path / "run")
    for section in (styling.affine, styling.balance, styling.haziness, styling.noisy):
        section(s)
    assert capsys.readouterr().out.count("not run: VGG19 is needed") == 4
    assert s.run.values().empty


def test_another_style_makes_a_stage_of_its_own(s: Study) -> None:
    content = images.resize(photos.load("chelsea"), size=(36, 48)).clamp(0, 1)
    first = transfers.transfer(s, "DILIE", content, "cat", seed=0)
    other = transfers.transfer(s, "DILIE", content, "cat, other", seed=0, style=content.flip(1))
    assert not torch.equal(first, other)
    assert torch.equal(first, transfers.transfer(s, "DILIE", content, "cat", seed=0))
