"""The measuring sections of the PRaD notebook, on networks of a few steps."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from enhancelib import metrics, published, results
from enhancelib.papers.prad import classical, data, official, scoring, sections, settings, verdict
from enhancelib.papers.prad.scoring import ALL
from enhancelib.papers.prad.settings import FULL, GROUPS, Arm
from enhancelib.papers.prad.study import Study, Trained
from enhancelib.results import select
from enhancelib.training import History
from tests.papers.prad import small

# prad.md, 3.1: parameters, GMAC at 100 x 100, 1280 x 720 and 2048 x 1536
COUNTS = {
    "PRaD-G S": (206_323, 0.480, 44.3, 151.1),
    "S, plain U-Net": (155_955, 0.288, 26.5, 90.5),
    "S, + R only": (179_091, 0.380, 35.0, 119.5),
    "S, + CFA only": (183_187, 0.388, 35.8, 122.1),
    "PRaD-G M": (463_083, 1.074, 99.0, 337.9),
    "PRaD-G L": (822_243, 1.904, 175.5, 598.9),  # 598.9466; rounded twice in the specification
    "DPED (ResNet-12)": (401_475, 3.997, 368.4, 1257.5),
    "DPED 8_32": (71_331, 0.708, 65.3, 222.9),
    "ResNet-20": (697_923, 6.947, 640.2, 2185.2),
    "ResNet-32": (1_142_595, 11.370, 1047.9, 3576.8),
    "GridNet": (2_242_403, 3.433, 316.4, 1079.9),
    "RSGUNet": (1_451_268,),
    "SRCNN": (69_249,),
    "PPCN student": (2_715,),
    "PPCN teacher": (21_843,),
}
NO_VGG = ("content", "gan", "lcn", "contextual")
CHEAP = {
    "cfa": (
        Arm("first", judges="", without=NO_VGG, options=settings.PLAIN.options),
        Arm("second", judges="", without=(*NO_VGG, "tv"), options=settings.PLAIN.options),
    )
}
"""In place of the 25 arms of tables="all": no VGG, no critic, the plain generator."""


# Accounts


@pytest.fixture(scope="module")
def accounted(tmp_path_factory: pytest.TempPathFactory) -> Any:
    s = small.parameters(tmp_path_factory.mktemp("accounts"))
    run = results.open_run("prad", s)
    return run, sections.accounts(run)


def test_counts_are_those_of_the_specification(accounted: Any) -> None:
    run, frame = accounted
    assert set(COUNTS) <= set(frame["network"]) == set(sections.ACCOUNTED)
    cells = frame.set_index("network")
    titles = [
        "parameters",
        *(f"GMAC, {size}" for size in ("100 × 100", "1280 × 720", "2048 × 1536")),
    ]
    for name, (count, *work) in COUNTS.items():
        assert cells.loc[name, "parameters"] == f"{count:,}"
        rows = run.values(table="accounts", method=name).set_index("metric")["value"]
        assert rows["parameters"] == count
        for title, gmac, digits in zip(titles[1:], work, (3, 1, 1), strict=False):
            assert round(rows[title], digits) == gmac, (name, title)


def test_the_claims_about_counts_hold(accounted: Any) -> None:
    run, _ = accounted
    found = {claim.name: claim.statistic(run.values()) for claim in verdict.CLAIMS}
    assert found["parameter_counts"] == 1.0
    assert found["ten_times_smaller"] == pytest.approx(2_242_403 / 206_323)


def test_receptive_fields_are_told(accounted: Any) -> None:
    """As tests/models/test_accounting.py measures them by gradient; SRCNN is 9-5-5."""
    _, frame = accounted
    cells = frame.set_index("network")["receptive field"].to_dict()
    for name in ("PRaD-G S", "PRaD-G M", "PRaD-G L", "S, + R only"):
        assert cells[name] == "67", name
    for name in ("S, plain U-Net", "S, + CFA only"):
        assert cells[name] == "55", name
    assert cells["SRCNN"] == "17"
    for name in ("DPED (ResNet-12)", "GridNet", "RSGUNet", "Johnson", "PPCN student"):
        assert cells[name] == "whole picture", name


# Recipes


def test_the_recipe_stands_beside_the_papers(s: Study) -> None:
    s.p = replace(s.p, steps=0)
    frame = sections.recipes(s).set_index("")
    assert list(frame.index) == list(sections.SHOWN_FIELDS)
    assert frame.loc["steps", "this run"] == str(s.scale.recipe.steps)
    assert frame.loc["steps", "paper"] == "20000 [official code]"
    assert frame.loc["milestones", "paper"] == "(10000,) [derived]"
    assert float(frame.loc["clip", "paper"]) == settings.RECIPES["paper"].clip
    s.p = replace(s.p, recipe="paper", steps=7)
    frame = sections.recipes(s).set_index("")
    assert frame.loc["steps", "this run"] == "7 [official code]"
    assert frame.loc["batch", "this run"] == "50 [official code]"


# Training


def test_one_seed_or_all_are_trained(s: Study) -> None:
    found = sections.main(s)
    assert list(found) == [0]
    assert found[0] is s.main(0)


def curves(**values: list[float]) -> Trained:
    history = History()
    for name, numbers in values.items():
        for step, value in enumerate(numbers, 1):
            history.add(step, {name: value})
    return Trained(torch.nn.Identity(), None, history)


def test_the_last_quarter_of_the_game_is_recorded(s: Study) -> None:
    s.scale = replace(s.scale, penalty=0.0)
    trained = curves(
        critic=[9.0] * 6 + [1.0, 2.0], gan=[7.0] * 6 + [3.0, 5.0], real_score=[0.5], fake_score=[-1]
    )
    sections.joint(s, {4: trained})
    rows = s.run.values(table="joint")
    assert dict(zip(rows["metric"], rows["value"], strict=True)) == {
        "critic": 1.5, "gan": 4.0, "real_score": 0.5, "fake_score": -1.0,
    }  # fmt: skip
    assert set(rows["seed"]) == {4}
    assert set(rows["method"]) == {FULL.method}


def test_a_training_without_critic_has_no_game(s: Study) -> None:
    sections.joint(s, {0: curves(loss=[1.0], color=[2.0])})
    assert s.run.values(table="joint").empty


def test_the_real_game_is_recorded(s: Study) -> None:
    sections.joint(s, {0: s.main(0)})
    rows = s.run.values(table="joint").set_index("metric")["value"]
    assert set(rows.index) == {"critic", "gan", "real_score", "fake_score"}
    assert all(math.isfinite(value) for value in rows)
    assert 0 <= rows["critic"] < 20, "the relativistic loss, without the penalty on it"


# Quality


def test_every_method_of_the_main_table_is_scored(assets: Path, s: Study) -> None:
    s.scale = replace(s.scale, lpips=())
    s.p = replace(s.p, weights=str(assets / "weights" / "ppcn" / "ppcn_student.npz"))
    loaded = sections.quality(s, {0: s.main(0)})
    assert list(loaded) == [official.PPCN]
    frame = sections.quality_table(s.run)
    assert list(frame["method"]) == [
        "identity", "affine colour map", "quadratic polynomial", "BIMEF", official.PPCN,
        FULL.method, "RRM", "PMN",
    ]  # fmt: skip
    assert set(frame["MOS"][:6]) == {sections.MOS}
    for name in ("RRM", "PMN"):
        cells = frame[frame["method"] == name].iloc[0].tolist()[1:]
        assert all(cell.startswith("not reproducible: ") for cell in cells)
    pairs = data.test(s.p)
    psnr = metrics.METRICS["psnr"]
    wanted = float(psnr(pairs.degraded, pairs.clean).mean())
    assert float(frame.iloc[0]["PSNR, per image"]) == pytest.approx(wanted, abs=0.006)
    rows = s.run.values(table="main", metric="psnr", image="mean", setting=ALL)
    seeds = rows.set_index("method")["seed"]
    assert seeds[FULL.method] == 0
    assert seeds.drop(FULL.method).isna().all()
    protocols = sections.protocol_table(s.run)
    assert list(protocols.columns) == [
        "method", "PSNR, per image", "without white", "PSNR, batches of 50", "PSNR, all pooled",
        "MS-SSIM", "SSIM",
    ]  # fmt: skip
    assert len(protocols) == 6


def test_figures_get_the_same_methods(assets: Path, s: Study) -> None:
    s.p = replace(s.p, weights=str(assets / "weights" / "ppcn"))
    loaded = official.networks(s.p)
    shown = sections.restorers(s, {0: s.main(0)}, loaded)
    assert list(shown) == [verdict.QUADRATIC, official.PPCN, sections.SHIPPED, FULL.method]
    x = data.test(s.p).degraded[:2]
    for restore in shown.values():
        assert restore(x).shape == x.shape
    s.p = replace(s.p, profile="small")  # whose own network is worth a look
    assert list(sections.restorers(s, {0: s.main(0)}, {})) == [verdict.QUADRATIC, FULL.method]


def test_at_smoke_pictures_are_of_the_shipped_network(s: Study) -> None:
    name, network = sections.pictured(s, {0: s.main(0)})
    assert (name, network.training) == (sections.SHIPPED, False)
    s.p = replace(s.p, profile="small")
    name, network = sections.pictured(s, {0: s.main(0)})
    assert (name, network) == (FULL.method, s.main(0).generator)


def test_parity_is_kept_in_the_run(s: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    row = {"name": "n", "ours": 22.5, "published": 22.54, "within": 0.05, "by": "official weights"}
    monkeypatch.setattr(official, "parity", lambda p, run: [row])
    sections.parity(s.run, s.p)
    assert s.run.parity == [{**row, "agrees": True}]


def test_published_tables_are_as_stored() -> None:
    for name in ("main", "ppcn", "dped"):
        frame = published.listed("prad", name)
        assert list(frame.columns) == ["row", "dataset", "metric", "value", "certainty"]
        assert len(frame)
    main = published.listed("prad", "main")
    assert 22.95 in set(main["value"])


def test_the_set_is_told_with_its_white_pairs(s: Study, assets: Path) -> None:
    assert sections.names(s.p) == (
        "bundled photos, degraded: 8 test pairs, 0 of them pure white in both pictures."
    )
    real = replace(s.p, data_root=str(assets / "data"))
    assert sections.names(real) == (
        "PIRM 2018 subset, 300-399: 100 test pairs, 1 of them pure white in both pictures."
    )


# Supervised arms


def test_the_texture_pair_and_its_spread(s: Study) -> None:
    s.p = replace(s.p, seeds=2)
    s.scale = replace(s.scale, texture=replace(s.scale.texture, steps=1))
    found = sections.texture(s)
    assert {method: list(seeds) for method, seeds in found.items()} == {
        verdict.PLAIN_MSE: [0, 1], verdict.PLAIN_TEXTURE: [0, 1], verdict.CFA_TEXTURE: [0, 1],
    }  # fmt: skip
    rows = s.run.values(table="texture", image="mean", setting=ALL)
    assert set(rows["metric"]) >= {"psnr", "gradient_error", "lcn_error", "ssim"}
    assert not set(rows["metric"]) & {"lpips_alex", "lpips_vgg"}
    assert set(rows["method"]) == {*found, *classical.CHEAP}
    frame = sections.spreads(s.run)
    assert list(frame.columns) == ["method", "seed 0", "seed 1", "mean"]
    assert list(frame["method"]) == list(found)
    psnr = select(rows, metric="psnr", method=verdict.PLAIN_MSE).sort_values("seed")["value"]
    assert [float(frame.iloc[0][f"seed {k}"]) for k in (0, 1)] == pytest.approx(
        list(psnr), abs=0.006
    )
    decided = {c.name for c in verdict.CLAIMS if c.statistic(s.run.values()) is not None}
    assert decided == {"texture_gradient", "texture_lcn", "cfa_r_supervised", "gaps_resolvable"}


# Ablations


class Tired(Study):
    """A study whose hours are over after so many trainings."""

    left = 1

    def arm(self, arm: Arm, seed: int) -> Trained:
        found = super().arm(arm, seed)
        self.left -= 1
        if not self.left:
            self._began -= 3600 * 1000
        return found


def ablated(folder: Path, kind: type[Study], **given: Any) -> Study:
    p = small.parameters(folder, tables="all", **given)
    s = kind(results.open_run("prad", p), p)
    s.vgg19 = None
    s.scale = replace(s.scale, lpips=(), seeds=given.get("seeds", 1))
    s.scale = replace(s.scale, recipe=replace(s.scale.recipe, steps=1))
    sections.ablations(s)
    return s


def test_other_tables_are_left_out_and_said(s: Study, capsys: pytest.CaptureFixture[str]) -> None:
    assert sections.wanted(s) == []
    sections.ablations(s)
    said = capsys.readouterr().out
    assert "not run at this profile; tables='all' takes about 0.05 hours more" in said
    assert s.run.values(table="ablations").empty
    assert sections.trained_groups(s.run) == []
    for group in GROUPS:
        frame = sections.group_table(s.run, group)
        assert list(frame["method"]) == [
            *classical.CHEAP, *(arm.method for arm in GROUPS[group]),
        ]  # fmt: skip


def test_all_tables_want_every_arm_once(s: Study) -> None:
    s.p = replace(s.p, tables="all")
    arms = sections.wanted(s)
    assert len(arms) == len(set(arms)) == len({a for group in GROUPS.values() for a in group})
    assert arms[: len(GROUPS["cfa"])] == list(GROUPS["cfa"])


def test_hours_stop_new_trainings_and_the_next_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sections, "GROUPS", CHEAP)
    first = ablated(tmp_path, Tired, hours=1.0)
    assert capsys.readouterr().out == "hours are over: second, seed 0, not run\n"
    rows = first.run.values(table="ablations", metric="psnr", image="mean", setting=ALL)
    assert list(rows["method"]) == [*classical.CHEAP, "first"]
    assert sections.trained_groups(first.run) == [g for g, arms in CHEAP.items() if arms]
    frame = scoring.table(first.run, "ablations", columns=("psnr",), methods=("first", "second"))
    assert frame.iloc[1].tolist() == ["second", "not run", "not run"]
    file = first.run.folder / "checkpoints" / "arm-first-seed0.pt"
    before = file.stat().st_mtime_ns
    second = ablated(tmp_path, Study, hours=1.0)
    assert capsys.readouterr().out == ""
    again = second.run.values(table="ablations", metric="psnr", image="mean", setting=ALL)
    assert list(again["method"]) == [*classical.CHEAP, "first", "second"]
    assert list(again["value"])[:4] == list(rows["value"])
    assert file.stat().st_mtime_ns == before


def test_what_is_finished_is_shown_though_the_hours_are_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Loading is no training: a table does not lose what an earlier run has trained."""
    monkeypatch.setattr(sections, "GROUPS", CHEAP)
    ablated(tmp_path, Study)
    capsys.readouterr()
    late = ablated(tmp_path, Study, hours=1e-9)
    rows = late.run.values(table="ablations", metric="psnr", image="mean", setting=ALL)
    assert list(rows["method"]) == [*classical.CHEAP, "first", "second"]
    assert capsys.readouterr().out == ""


def test_the_first_seed_of_every_arm_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sections, "GROUPS", CHEAP)
    s = ablated(tmp_path, Study, seeds=2)
    rows = s.run.values(table="ablations", metric="psnr", image="mean", setting=ALL)
    trained = rows.dropna(subset=["seed"])
    assert [(m, int(k)) for m, k in zip(trained["method"], trained["seed"], strict=True)] == [
        ("first", 0), ("second", 0), ("first", 1), ("second", 1),
    ]  # fmt: skip
    frame = scoring.table(s.run, "ablations", columns=("psnr",), methods=("first",))
    assert "±" in frame.iloc[0]["PSNR, per image"]


def test_an_arm_without_a_loss_is_left_out_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the explorer's preset "colour alone" leaves them: a run of hours may not end there."""
    monkeypatch.setattr(sections, "GROUPS", CHEAP)
    s = ablated(tmp_path, Study, w_color=0.0, w_texture=0.0)  # the second arm has no TV either
    assert capsys.readouterr().out == "second: no loss is left at these weights, not run\n"
    rows = s.run.values(table="ablations", metric="psnr", image="mean", setting=ALL)
    assert list(rows["method"]) == [*classical.CHEAP, "first"]
