"""The measuring sections: what they record, and the tables made of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import skimage.data
import torch
from torch import Tensor, nn

from enhancelib import datasets, images, metrics, models, results, runtime
from enhancelib.papers.dncnn import baselines, data, sections, verdict
from enhancelib.papers.dncnn.sections import Networks, receptive_field
from enhancelib.papers.dncnn.settings import Parameters
from enhancelib.papers.dncnn.study import Arm, Study, Trained
from enhancelib.results import Run
from enhancelib.training import History

CAT = images.from_uint8(torch.from_numpy(skimage.data.chelsea()[100:148, 100:148, 1].copy()))[None]


def study(folder: Path, **given: Any) -> Study:
    """A study at profile smoke on one small test photo and one small training photo."""
    p = Parameters(profile="smoke", device="cpu", out=str(folder), **given)
    s = Study(results.open_run("dncnn", p), p)
    s._pools[("S", 24)] = datasets.PatchPool([CAT], 24)
    return s


@pytest.fixture
def s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    monkeypatch.setattr(data, "test_photos", lambda p, *, colour: {"cat": CAT})
    return study(tmp_path, seeds=1)


def network(**options: Any) -> Any:
    plain = {"D": 5, "width": 4, "norm": "none", **options}
    return models.build("dncnn", **plain, generator=runtime.generator(0, "network"))


def untrained() -> Networks:
    return Networks({0: Trained(network().eval(), History())}, {})


def psnr_rows(run: Run, table: str, values: Sequence[tuple[str, str, float]], **more: Any) -> None:
    for k, (method, setting, value) in enumerate(values):
        run.record(
            dataset=more.get("dataset", "photos"), method=method, metric="psnr_8bit", value=value,
            seed=more.get("seeds", {}).get(k), setting=setting, table=table,
        )  # fmt: skip


# Architecture


@pytest.mark.parametrize(("depth", "side"), [(17, 35), (20, 41)])
def test_the_papers_depths_see_35_and_41_pixels(depth: int, side: int) -> None:
    assert receptive_field(network(D=depth)) == side


@pytest.mark.parametrize(
    "options",
    [
        {"D": 3},
        {"D": 8, "norm": "batch"},
        {"D": 6, "c": 3},
        {"D": 4, "residual": False},
        {"D": 7, "residual": False, "noise_map": True},
    ],
)
def test_every_network_sees_2d_plus_1(options: dict[str, Any]) -> None:
    assert receptive_field(network(**options)) == 2 * options["D"] + 1


def test_the_receptive_field_is_measured_and_not_computed() -> None:
    dilated, wide = network(), network()
    dilated.layers[2].dilation = dilated.layers[2].padding = (2, 2)
    assert receptive_field(dilated) == 13
    wide.layers[4] = nn.Conv2d(4, 4, 5, padding=2)
    assert receptive_field(wide) == 13
    wide.layers[4] = nn.Conv2d(4, 4, 1)
    assert receptive_field(wide) == 9


def test_the_network_keeps_its_weights() -> None:
    measured = network(norm="batch").train()
    before = {name: value.clone() for name, value in measured.state_dict().items()}
    receptive_field(measured)
    assert measured.training
    assert all(torch.equal(before[k], v) for k, v in measured.state_dict().items())
    assert all(p.grad is None and p.dtype == torch.float32 for p in measured.parameters())


def test_the_published_counts_are_those_of_the_built_networks() -> None:
    # convolutions 9 c w + w, then 9 w w (+ 2 w where normalised, + w where merged), then 9 w c + c
    for name, options, published, field in sections.COUNTS:
        built = models.build("dncnn", **options)
        assert sum(p.numel() for p in built.parameters()) == published, name
        assert field == 2 * int(str(options["D"])) + 1
    counts = {name: published for name, _, published, _ in sections.COUNTS}
    assert counts["DnCNN-S"] == 9 * 64 + 64 + 15 * (9 * 64 * 64 + 2 * 64) + 9 * 64 + 1
    assert counts["CDnCNN, BN merged"] == 27 * 64 + 64 + 18 * (9 * 64 * 64 + 64) + 27 * 64 + 3


def test_a_wrong_count_is_recorded_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = {"D": 3, "width": 4, "norm": "none"}
    count = 9 * 4 + 4 + 9 * 16 + 4 + 9 * 4 + 1
    told = [("right", small, count, 7), ("wrong", small, count + 1, 9)]
    monkeypatch.setattr(sections, "COUNTS", told)
    run = results.open_run("dncnn", Parameters(out=str(tmp_path)))
    frame = sections.architecture(run)
    assert frame.iloc[:, 1:].values.tolist() == [[count, count, 7, 7], [count, count + 1, 7, 9]]
    values = run.values().pivot(index="method", columns="metric", values="value")
    assert values.loc["right"].tolist() == [1.0, 1.0]
    assert values.loc["wrong"].tolist() == [0.0, 0.0]


def test_the_recipe_stands_beside_the_published_ones(s: Study) -> None:
    frame = sections.recipes(s).set_index("")
    assert frame.loc["optimiser"].tolist() == ["adam", "sgd [memory]", "adam [official code]"]
    assert frame.loc["batch", "paper"] == "128 [memory]"
    assert frame.loc["steps", "this run"] == str(s.scale.main_steps)
    assert frame.loc["steps", "paper"] == "80000 [memory]"
    assert list(frame.index) == list(sections.SHOWN_FIELDS)


# Denoising


def test_networks_are_one_per_seed_and_the_given_official_ones(
    tmp_path: Path, assets: Path
) -> None:
    weights = assets / "weights" / "dncnn"
    s = study(tmp_path, seeds=2, steps=1, seed=7, weights=str(weights))
    found = sections.networks(s)
    assert list(found.main) == [7, 8]
    assert set(found.official) == set(data.official(weights))
    assert not any(p.requires_grad for net in found.official.values() for p in net.parameters())


def test_every_method_is_scored_on_the_same_pictures(s: Study) -> None:
    s.scale = replace(s.scale, bm3d=0)
    official = {"S25": network(), "S15": network(), "B": network(), "3": network()}
    found = Networks(untrained().main, official)
    sections.denoising(s, found)
    values = s.run.values(table="denoising", metric="psnr_8bit", image="mean")
    assert list(values["method"]) == [
        "noisy", "Gaussian filter", "NLM", verdict.MAIN, verdict.OFFICIAL_S, verdict.OFFICIAL_B,
    ]  # fmt: skip
    assert set(values["setting"]) == {"sigma=25"}
    psnr = values.set_index("method")["value"]
    noisy = data.noisy(CAT, 25.0)
    wanted = float(metrics.METRICS["psnr_8bit"](noisy.clamp(0, 1)[None], CAT[None]))
    assert psnr["noisy"] == pytest.approx(wanted)
    wanted = float(metrics.METRICS["psnr_8bit"](baselines.nlm(noisy, 25.0)[None], CAT[None]))
    assert psnr["NLM"] == pytest.approx(wanted)


def test_all_tables_have_all_levels_and_the_official_network_of_each(s: Study) -> None:
    s.p = replace(s.p, tables="all", sigma=30.0)
    s.scale = replace(s.scale, bm3d=0)
    sections.denoising(s, Networks(untrained().main, {"S15": network(), "B": network()}))
    values = s.run.values(table="denoising", metric="psnr_8bit", image="mean")
    assert list(dict.fromkeys(values["setting"])) == [f"sigma={k}" for k in (15, 25, 30, 50)]
    specific = values[values["method"] == verdict.OFFICIAL_S]
    assert list(specific["setting"]) == ["sigma=15"]
    assert len(values[values["method"] == verdict.OFFICIAL_B]) == 4


def test_a_colour_network_has_no_grey_table(s: Study) -> None:
    s.p = replace(s.p, variant="C")
    sections.denoising(s, untrained())
    assert s.run.values().empty


@pytest.mark.skipif(not baselines.has_bm3d(), reason="the optional package bm3d is not installed")
def test_bm3d_is_run_once_in_the_life_of_a_folder(
    s: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    sections._baselines(s, "photos", {"cat": CAT}, 25.0)
    first = s.run.values(method=verdict.BM3D, metric="psnr_8bit")["value"].tolist()
    wanted = baselines.bm3d(data.noisy(CAT, 25.0), 25.0)[None]
    assert first == pytest.approx([float(metrics.METRICS["psnr_8bit"](wanted, CAT[None]))] * 2)

    def again(noisy: Tensor, sigma: float) -> Tensor:
        raise AssertionError("BM3D ran again")

    monkeypatch.setattr(baselines, "bm3d", again)
    sections._baselines(s, "photos", {"cat": CAT}, 25.0)
    values = s.run.values(method=verdict.BM3D, metric="psnr_8bit")["value"].tolist()
    assert values == first * 2
    with pytest.raises(AssertionError, match="ran again"):  # another level is another step
        sections._once(s, "photos", "cat", CAT, 15.0)


def test_the_table_has_published_rows_first_and_levels_in_order(tmp_path: Path) -> None:
    run = results.open_run("dncnn", Parameters(out=str(tmp_path)))
    own = [("ours", "sigma=50", 26.0), ("ours", "sigma=50", 27.0), ("ours", "sigma=5", 38.0)]
    psnr_rows(run, "denoising", own, dataset="BSD68", seeds={0: 0, 1: 1, 2: 0})
    psnr_rows(run, "denoising", [("other set", "sigma=15", 1.0)])
    frame = sections.denoising_table(run, "BSD68", sections.published_means("bsd68"))
    assert list(frame.columns) == ["method", "source", *(f"σ = {k}" for k in (5, 15, 25, 50))]
    assert frame["method"].iloc[-1] == "ours"
    assert frame.iloc[-1].tolist()[1:] == ["this run", "38.00", "n/a", "n/a", "26.50 ± 0.71"]
    published = frame[frame["method"] == "DnCNN-S"].iloc[0]
    assert published["source"].startswith("published [")
    # table 2 of the paper
    assert published[["σ = 15", "σ = 25", "σ = 50"]].tolist() == ["31.73", "29.23", "26.23"]
    assert (published["σ = 5"], "other set" in set(frame["method"])) == ("n/a", False)


def test_published_tables_hold_the_papers_methods_only() -> None:
    frame = sections.published_table("set12").set_index("method")
    assert {"BM3D", "WNNM", "TNRD", "DnCNN-S", "DnCNN-B"} <= set(frame.index)
    assert not {"DRUNet", "FDnCNN"} & set(frame.index)
    assert frame.loc["DnCNN-S", ["σ = 15", "σ = 25"]].tolist() == ["32.86", "30.44"]
    assert set(sections.published_means("set12")["image"]) == {"mean"}


def test_parity_compares_the_authors_networks_with_their_own_numbers(tmp_path: Path) -> None:
    run = results.open_run("dncnn", Parameters(out=str(tmp_path)))
    own = [
        (verdict.OFFICIAL_S, "sigma=25", 30.43),
        (verdict.OFFICIAL_S, "sigma=15", 32.80),
        (verdict.OFFICIAL_S, "sigma=30", 29.0),  # never published
        (verdict.OFFICIAL_B, "sigma=25", 30.35),
        (verdict.MAIN, "sigma=25", 20.0),
    ]
    psnr_rows(run, "denoising", own, dataset="Set12")
    psnr_rows(run, "denoising", own, dataset="photos")
    sections.parity(run, sections.published_means("set12"))
    assert [(row["name"], round(row["published"], 2), row["agrees"]) for row in run.parity] == [
        ("DnCNN-S, Set12, sigma=25, PSNR in dB", 30.44, True),
        ("DnCNN-S, Set12, sigma=15, PSNR in dB", 32.86, False),
        ("DnCNN-B, Set12, sigma=25, PSNR in dB", 30.36, True),
    ]
    assert {row["within"] for row in run.parity} == {0.02}


# Ablations


def test_the_ablation_has_every_combination_under_both_optimisers(s: Study) -> None:
    arms = sections.ablation(s)
    assert len(arms) == len({arm.stage for arm in arms}) == 8
    values = s.run.values(table="ablation", image="mean")
    assert set(values["method"]) == {arm.method for arm in arms}
    for arm, one in arms.items():
        rows = values[values["method"] == arm.method].set_index("metric")["value"]
        assert set(rows.index) == {"psnr_8bit", "ssim_8bit", "steps_to_27dB"}
        with torch.inference_mode():
            restored = one.network(data.noisy(CAT, 25.0)[None]).clamp(0, 1)
        wanted = float(metrics.METRICS["psnr_8bit"](restored, CAT[None]))
        assert rows["psnr_8bit"] == pytest.approx(wanted, abs=0.01)
    frame = sections.ablation_table(s.run)
    assert list(frame["arm"]) == list(dict.fromkeys(arm.method for arm in arms))
    # gain and blind go on with the arms that the ablation has trained
    trained = s.arm(Arm(True, False, "adam", 25.0, 0))
    assert trained is arms[Arm(True, False, "adam", 25.0, 0)]


def test_gain_and_mismatch_have_all_levels(s: Study) -> None:
    s.scale = replace(s.scale, arm=replace(s.scale.arm, steps=1))
    sections.gain(s)
    sections.blind(s)
    frame = sections.pivot(s.run, "gain")
    assert list(frame.columns) == ["method", *(f"sigma={k}" for k in (5, 15, 25, 50))]
    assert set(frame["method"]) == {verdict.RESIDUAL, verdict.DIRECT}
    frame = sections.pivot(s.run, "mismatch")
    assert list(frame.columns) == ["method", *(f"sigma={k}" for k in sections.LEVELS)]
    assert set(frame["method"]) == {verdict.BLIND, "specific 15", "specific 25", "specific 50"}
    assert set(sections.pivot(s.run, "blind")["method"]) == {verdict.BLIND, verdict.RESIDUAL}
    values = s.run.values(metric="psnr_8bit", image="mean")
    gain, blind, mismatch = (
        values[(values["table"] == table) & (values["setting"] == "sigma=15")].set_index("method")
        for table in ("gain", "blind", "mismatch")
    )
    # one network under three names
    same = gain["value"][verdict.RESIDUAL], blind["value"][verdict.RESIDUAL]
    assert same == (mismatch["value"]["specific 15"],) * 2


def test_what_is_left_out_leaves_no_rows(s: Study) -> None:
    s.p = replace(s.p, profile="paper")
    assert sections.ablation(s) == {}
    sections.gain(s)
    sections.blind(s)
    assert s.run.values().empty
    assert sections.ablation_table(s.run).empty
    assert sections.pivot(s.run, "gain").empty


def test_the_ablation_table_counts_the_seeds_that_got_there(tmp_path: Path) -> None:
    run = results.open_run("dncnn", Parameters(out=str(tmp_path)))
    for method, reached in (("a", (100, 200, None)), ("b", (None, None, None))):
        rows = [(method, "sigma=25", 27.0 + k) for k in range(3)]
        psnr_rows(run, "ablation", rows, seeds={k: k for k in range(3)})
        for seed, steps in enumerate(reached):
            run.record(
                dataset="validation", method=method, metric="steps_to_27dB", seed=seed,
                value=float("nan") if steps is None else steps, table="ablation",
            )  # fmt: skip
    assert sections.ablation_table(run).values.tolist() == [
        ["a", "28.00 ± 1.00", "150 ± 71 (2 of 3 seeds)"],
        ["b", "28.00 ± 1.00", "not reached"],
    ]


def test_a_pivot_keeps_the_order_and_says_what_is_missing(tmp_path: Path) -> None:
    run = results.open_run("dncnn", Parameters(out=str(tmp_path)))
    rows = [("b", "sigma=50", 2.0), ("b", "sigma=5", 1.0), ("b", "sigma=5", 3.0), ("a", "x", 7.0)]
    psnr_rows(run, "t", rows)
    frame = sections.pivot(run, "t")
    assert list(frame.columns) == ["method", "sigma=50", "sigma=5", "x"]
    found = frame.set_index("method")
    assert found.loc["b"].tolist() == ["2.00", "2.00 ± 1.41", "not measured"]
    assert found.loc["a"].tolist() == ["not measured", "not measured", "7.00"]
    psnr_rows(run, "t", [("b", "sigma=50", 9.0)], dataset="Set5")
    found = sections.pivot(run, "t").set_index(["dataset", "method"])
    assert list(found.index) == [("photos", "b"), ("photos", "a"), ("Set5", "b")]
    assert found["sigma=50"].tolist() == ["2.00", "not measured", "9.00"]


# Seconds


def test_seconds_are_marked_as_times(s: Study) -> None:
    s.scale = replace(s.scale, timed=(8, 16))
    frame = sections.timing(s)
    values = s.run.values(table="seconds")
    assert len(values) == 4
    assert values["timed"].all()
    assert (values["value"] > 0).all()
    own = frame[frame["source"] == "this run, cpu"]
    assert np.all(own[["8²", "16²"]].astype(float) > 0)


def test_published_seconds_stand_under_their_own_sides() -> None:
    frame = pd.DataFrame(sections._published_seconds((256, 1024), "cpu")).set_index("method")
    assert list(frame.columns) == ["source", "256²", "1024²"]
    assert frame.loc["BM3D"].tolist() == ["published, cpu [memory]", "0.65", "11.89"]
