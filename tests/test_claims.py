"""Verdicts from numbers alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from enhancelib import claims, runtime
from enhancelib.claims import Claim
from enhancelib.results import Run

CPU = runtime.Runtime(torch.device("cpu"), 1)
# Gains of residual over direct in dB, as three and ten seeds of a small network gave them.
GAINS = [0.83, 1.12, 0.97]
MORE = [0.83, 1.12, 0.97, 1.05, 0.88, 1.01, 0.92, 1.20, 0.79, 0.95]


@pytest.mark.parametrize("differences", [GAINS[:2], GAINS, MORE, MORE * 10])
def test_the_interval_is_students(differences: list[float]) -> None:
    sem = stats.sem(differences)
    expected = stats.t.interval(0.95, len(differences) - 1, np.mean(differences), sem)
    assert claims.interval(differences) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("differences", [[], [0.9], [0.9, math.nan], [0.9, math.inf, 1.0]])
def test_the_interval_of_too_little_is_everything(differences: list[float]) -> None:
    assert claims.interval(differences) == (-math.inf, math.inf)


@pytest.mark.parametrize(
    ("statistic", "margin", "holds"),
    [
        (GAINS, 0.2, True),
        ([-g for g in GAINS], 0.2, False),
        (GAINS, 0.97, None),
        (GAINS, 1.30, None),  # the mean is below it, three seeds are too few to say so
        (GAINS, 1.40, False),
        (MORE, 0.85, True),
        ([0.5, 0.5, 0.5], 0.5, None),
        ([0.5, 0.5, 0.5], 0.4999, True),
        ([0.9], 0.2, None),
        ([], 0.2, None),
        ([0.9, math.nan, 1.0], 0.2, None),
        ([math.inf, -math.inf], 0.2, None),
        (0.3, 0.2, True),
        (0.2, 0.2, False),
        (-0.3, 0.2, False),
        (True, 0, True),
        (np.float32(0.3), 0.2, True),
        (np.int64(0), 0.2, False),
        (np.array(GAINS), 0.2, True),
        (math.nan, 0.2, None),
        (math.inf, 0.2, None),
        (None, 0.2, None),
    ],
)
def test_a_claim_holds_where_the_whole_interval_is_above_the_margin(
    statistic: float | Sequence[float] | None, margin: float, holds: bool | None
) -> None:
    assert claims.judge(statistic, margin=margin).holds is holds
    assert claims.judge(statistic, margin=margin, smoke=True).holds is None


def test_swapped_arms_turn_the_verdict() -> None:
    for gains in (GAINS, MORE):
        assert claims.judge(gains, margin=0.2).holds is True
        assert claims.judge([-gain for gain in gains], margin=0.2).holds is False


def test_the_evidence_is_the_numbers() -> None:
    assert claims.judge(GAINS, margin=0.2).evidence == (
        "mean +0.973, 95 % interval +0.613 to +1.334, 3 seeds"
    )
    assert claims.judge([0.9], margin=0.2).evidence.endswith("-inf to +inf, 1 seed")
    assert claims.judge(30.4321, margin=30).evidence == "30.43"
    assert claims.judge(None, margin=0.2).evidence == "not measured"
    assert claims.judge(math.nan, margin=0.2).evidence == "not measured"
    assert claims.judge([], margin=0.2).evidence == "not measured"


# The claims of a paper


def gain(values: pd.DataFrame) -> list[float]:
    """Residual minus direct, per seed."""
    table = values.pivot_table(index="seed", columns="method", values="value")
    found: list[float] = (table["residual"] - table["direct"]).tolist()
    return found


CLAIM = Claim(
    "residual",
    "Residual learning beats direct prediction.",
    gain,
    0.2,
    "a fifth of the smallest published gain",
    "15 photos",
    "own training",
    ("residual", "direct"),
)


def recorded(folder: Path, profile: str, arms: tuple[str, str] = ("residual", "direct")) -> Run:
    run = Run("dncnn", profile, {}, folder, CPU)
    for seed, difference in enumerate(GAINS):
        for method, value in zip(arms, (28.0 + difference, 28.0), strict=True):
            run.record(dataset="photos", method=method, metric="psnr", value=value, seed=seed)
    return run


def test_verdicts_are_judged_kept_and_told(tmp_path: Path) -> None:
    run = recorded(tmp_path, "small")
    table = claims.verdicts(run, [CLAIM])
    assert table.loc[0, "verdict"] == "held"
    assert table.loc[0, "claim"] == "Residual learning beats direct prediction."
    assert table.loc[0, "judged by"] == "own training"
    assert "mean +0.973" in str(table.loc[0, "evidence"])
    assert run.claims[0]["holds"] is True


def test_verdicts_turn_with_the_arms_and_wait_at_smoke(tmp_path: Path) -> None:
    swapped = recorded(tmp_path / "a", "small", ("direct", "residual"))
    assert claims.verdicts(swapped, [CLAIM]).loc[0, "verdict"] == "NOT HELD"
    smoke = recorded(tmp_path / "b", "smoke")
    assert claims.verdicts(smoke, [CLAIM]).loc[0, "verdict"] == "not judged"
    assert smoke.claims[0]["holds"] is None


def test_a_claim_names_what_it_is_judged_by() -> None:
    for judge in claims.JUDGES:
        assert replace(CLAIM, by=judge).by == judge
    with pytest.raises(ValueError, match="'residual' is judged by 'hope'; expected one of"):
        replace(CLAIM, by="hope")
