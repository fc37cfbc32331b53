"""The short sections: counts read off the networks, an equation by hand, published numbers."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from enhancelib import claims, images, photos, published, results
from enhancelib.models.skip import SETTINGS as NETWORKS
from enhancelib.papers.dilie import sections, settings, verdict
from tests.papers.dilie import small

# dilie.md: printed by the official notebooks, published, or derived there
COUNTS = {
    "denoise": 2_217_831, "jpeg": 572_827, "restore_kate": 1_027_379, "inpaint_kate": 3_002_627,
    "no_skip": 2_192_515, "double_dip_image": 573_187, "double_dip_mask": 573_169,
    "small": 152_199, "small_no_skip": 145_699, "PCA-KD": 283_236, "WCT2 (cat5)": 10_107_535,
    "PieAPP": 68_376_580, "AOD-Net": 1_761,
}  # fmt: skip


# Counts


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory) -> Any:
    run = results.open_run("dilie", small.parameters(tmp_path_factory.mktemp("counts")))
    return run, sections.counts(run)


def test_counts_are_those_of_the_specification(counted: Any) -> None:
    run, frame = counted
    assert list(frame["network"]) == [*NETWORKS, *sections.OTHERS]
    cells = frame.set_index("network")
    for name, count in COUNTS.items():
        assert cells.loc[name, "parameters"] == cells.loc[name, "known"] == f"{count:,}", name
        (value,) = run.values(table="counts", method=name, metric="parameters")["value"]
        assert value == count
    assert cells.loc["MSCNN", "known"] == ""


def test_the_claim_about_counts_holds(counted: Any) -> None:
    run, _ = counted
    decided = {
        claim.name: judged.holds
        for claim in verdict.CLAIMS
        if (judged := claims.judge(claim.statistic(run.values()), margin=claim.margin)).holds
        is not None
    }
    assert decided == {"parameter_counts": True}


# Recipes


def test_the_recipes_stand_beside_the_component_papers(tmp_path: Path) -> None:
    s = small.opened(tmp_path)
    frame = sections.recipes(s).set_index("")
    steps, rates = frame.loc["steps"], frame.loc["learning_rate"]
    own = ("reconstruction", "decomposition", "L_PE, each stage", "L_AE, each scale")
    assert [steps[k] for k in own] == ["2"] * 4
    theirs = {"as DIP": "3000", "as Double-DIP": "4000", "as DPST": "1000", "as STROTSS": "250"}
    assert {k: steps[k] for k in theirs} == theirs
    s.scale = settings.SCALES["small"]
    small_one = sections.recipes(s).set_index("").loc["steps"]
    assert small_one["decomposition"] == str(settings.SCALES["small"].haze.steps)
    assert small_one["L_AE, each scale"] == str(settings.SCALES["small"].art.steps)
    assert [float(rates[k]) for k in ("as DIP", "as Double-DIP", "as STROTSS")] == [
        0.01, 0.001, 0.002,
    ]  # fmt: skip
    assert frame.loc["optimiser", "as DPST"] == "lbfgs"
    assert frame.loc["optimiser", "as STROTSS"] == "rmsprop"


# Equations


def cx_by_hand(X: Any, Y: Any) -> float:
    """-log CX of two pictures' colours, in float64 NumPy."""
    x, y = (one.reshape(3, -1).astype(np.float64) for one in (X, Y))
    mean = y.mean(1, keepdims=True)
    x, y = ((one - mean) / np.linalg.norm(one - mean, axis=0) for one in (x, y))
    d = (1 - x.T @ y) / 2
    relative = d / (d.min(1, keepdims=True) + 1e-5)
    w = np.exp((1 - relative) / 0.5)
    cx = w / w.sum(1, keepdims=True)
    return -math.log(cx.max(0).mean())


def test_the_evaluated_equations_are_those_of_the_photo() -> None:
    frame = sections.evaluated().set_index("beta")
    assert list(frame.index) == ["0", "0.7", "1.4"]
    J = images.resize(photos.load("astronaut"), size=(32, 32)).clamp(0, 1).double().numpy()
    depth = np.linspace(1, 0.15, 32)[None, :, None]
    for beta in (0.0, 0.7, 1.4):
        t = np.exp(-beta * depth)
        I = J * t + 0.8 * (1 - t)  # noqa: E741
        cells = frame.loc[f"{beta:g}"]
        assert float(cells["MSE to the photo"]) == pytest.approx(((I - J) ** 2).mean(), abs=5.1e-5)
        assert float(cells["-log CX of colours"]) == pytest.approx(cx_by_hand(J, I), abs=2e-3)
        # 5 x 5 means of a map that is constant along its rows
        column = t[0, :, 0]
        box = np.convolve(column, np.ones(5) / 5, mode="valid")
        smooth = ((column[2:-2] - box) ** 2).mean()
        assert float(cells["S(t)"]) == pytest.approx(smooth, rel=0.02, abs=1e-12)


# Names and tables


def test_what_is_optimised_is_told(tmp_path: Path) -> None:
    s = small.opened(tmp_path, sigma=15.0)
    assert sections.names(s) == (
        "Noise: astronaut, sigma 15. Haze, 48 x 36 pixels: astronaut (synthetic haze)."
    )


def test_real_pairs_are_told_too(assets: Path, tmp_path: Path) -> None:
    s = small.opened(tmp_path, data_root=str(assets / "data"))
    assert sections.names(s) == (
        "Noise: F16, sigma 25. Haze, 48 x 36 pixels: astronaut (synthetic haze), "
        "27_outdoor (O-HAZE)."
    )


@pytest.mark.parametrize("table", ["dehazing", "haziness", "dip"])
def test_published_tables_are_as_stored(table: str) -> None:
    frame = published.listed("dilie", table)
    assert list(frame.columns) == ["row", "dataset", "metric", "value", "certainty"]
    stored = published.load("dilie")
    stored = stored[stored["table"] == table]
    assert list(frame["value"]) == list(stored["value"])
    assert list(frame["row"]) == list(stored["row"])
