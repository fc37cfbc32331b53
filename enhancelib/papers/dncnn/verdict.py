"""The claims of DnCNN and how this notebook judges them; margins were set before the published run.

Own-training claims compare two arms trained with the same seeds on the same samples; the statistic
is the difference per seed, and its 95 % interval must clear the margin.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from enhancelib.claims import Claim
from enhancelib.results import select

if TYPE_CHECKING:
    import pandas as pd

Statistic = Callable[["pd.DataFrame"], "float | Sequence[float] | None"]

OFFICIAL_S = "DnCNN-S (official weights)"
OFFICIAL_B = "DnCNN-B (official weights)"
BM3D = "BM3D (package)"
MAIN = "DnCNN (trained here)"
BLIND = "blind, residual"
THREE = "DnCNN-3 (trained here)"
RESIDUAL, DIRECT = "residual, Adam", "direct, Adam"
RESIDUAL_BN, DIRECT_BN = "residual + BN, Adam", "direct + BN, Adam"
RESIDUAL_SGD, RESIDUAL_BN_SGD = "residual, SGD", "residual + BN, SGD"


def paired(values: pd.DataFrame, a: str, b: str, **where: object) -> list[float] | None:
    """Per-seed differences of two methods' mean PSNR.

    Args:
        values: Rows of a run.
        a: Method whose numbers come first.
        b: Method that is subtracted.
        **where: Further columns that the rows must match.

    Returns:
        One difference per seed, in dB; None where an arm is missing.
    """
    found = select(values, metric="psnr_8bit", image="mean", **where)
    first = select(found, method=a).groupby("seed")["value"].mean()
    second = select(found, method=b).groupby("seed")["value"].mean()
    difference = (first - second).dropna()
    return [float(value) for value in difference] if len(difference) else None


def _arms(a: str, b: str, **where: object) -> Statistic:
    return lambda values: paired(values, a, b, **where)


def _gain_growth(values: pd.DataFrame) -> list[float] | None:
    low = paired(values, RESIDUAL, DIRECT, table="gain", setting="sigma=5")
    high = paired(values, RESIDUAL, DIRECT, table="gain", setting="sigma=50")
    if low is None or high is None or len(low) != len(high):
        return None
    return [a - b for a, b in zip(low, high, strict=True)]


def _against_baseline(values: pd.DataFrame) -> list[float] | None:
    """Own network minus the best of the baselines, per seed."""
    found = select(values, table="denoising", metric="psnr_8bit", image="mean", dataset="photos")
    baselines = found[found["seed"].isna() & ~found["method"].str.contains("official")]
    baselines = baselines[baselines["method"] != "noisy"]
    own = select(found, method=MAIN)
    if own.empty or baselines.empty:
        return None
    best = baselines.groupby("setting")["value"].max()
    gaps = own.assign(gap=own["value"] - own["setting"].map(best)).groupby("seed")["gap"].mean()
    return [float(value) for value in gaps]


def _three_tasks(values: pd.DataFrame) -> list[float] | None:
    """Per seed, the smallest gain over the degraded input among the three tasks."""
    found = select(values, table="three", metric="psnr_8bit", image="mean", dataset="photos")
    inputs = select(found, method="degraded").set_index("setting")["value"]
    own = select(found, method=THREE)
    if own.empty:
        return None
    gains = own.assign(gain=own["value"] - own["setting"].map(inputs))
    return [float(value) for value in gains.groupby("seed")["gain"].min()]


def _official(a: str, b: str) -> Statistic:
    def statistic(values: pd.DataFrame) -> float | None:
        found = select(values, table="denoising", metric="psnr_8bit", image="mean", dataset="Set12")
        first, second = select(found, method=a), select(found, method=b)
        both = first.merge(second, on="setting")
        return None if both.empty else float((both["value_x"] - both["value_y"]).mean())

    return statistic


def _separation(values: pd.DataFrame) -> list[float] | None:
    """Per seed, how much better the last hidden layer tells the noise than the first does."""
    found = select(values, table="probe", metric="r2", setting="v")
    if found.empty:
        return None
    order = found.assign(layer=found["image"].str.extract(r"(\d+)")[0].astype(int))
    ends = order.sort_values("layer").groupby("seed")["value"].agg(["first", "last"])
    return [float(value) for value in ends["last"] - ends["first"]]


def _exact(metric: str) -> Statistic:
    """1 where every recorded count equals the published one."""

    def statistic(values: pd.DataFrame) -> float | None:
        found = select(values, table="architecture", metric=metric)
        return None if found.empty else float(found["value"].min())

    return statistic


CLAIMS: tuple[Claim, ...] = (
    Claim(
        "residual_bn",
        "With batch normalisation, predicting the noise beats predicting the picture.",
        _arms(RESIDUAL_BN, DIRECT_BN, table="ablation"),
        0.1,
        "smaller gaps than 0.1 dB lie within the spread of seeds in published re-trainings",
        "test photos",
        "own training",
        (RESIDUAL_BN, DIRECT_BN),
    ),
    Claim(
        "residual_plain",
        "Without batch normalisation, predicting the noise beats predicting the picture.",
        _arms(RESIDUAL, DIRECT, table="ablation"),
        0.1,
        "as above",
        "test photos",
        "own training",
        (RESIDUAL, DIRECT),
    ),
    Claim(
        "bn_adam",
        "Batch normalisation improves residual learning under Adam.",
        _arms(RESIDUAL_BN, RESIDUAL, table="ablation"),
        0.0,
        "any gain counts; users report none with Adam (cszn/DnCNN issues 34, 86)",
        "test photos",
        "own training",
        (RESIDUAL_BN, RESIDUAL),
    ),
    Claim(
        "bn_sgd",
        "Batch normalisation improves residual learning under SGD.",
        _arms(RESIDUAL_BN_SGD, RESIDUAL_SGD, table="ablation"),
        0.0,
        "any gain counts",
        "test photos",
        "own training",
        (RESIDUAL_BN_SGD, RESIDUAL_SGD),
    ),
    Claim(
        "gain_low_noise",
        "The gain of residual over direct prediction is larger at sigma 5 than at sigma 50.",
        _gain_growth,
        0.0,
        "the direction is the claim",
        "test photos",
        "own training",
        (RESIDUAL, DIRECT),
    ),
    Claim(
        "blind_near_specific",
        "One blind network stays within 0.3 dB of networks trained for one noise level.",
        _arms(BLIND, RESIDUAL, table="blind"),
        -0.3,
        "the paper's gap on BSD68 is 0.0 to 0.12 dB; short training of one network for all levels "
        "is allowed more",
        "test photos, sigma 15, 25, 50",
        "own training",
        (BLIND, RESIDUAL),
    ),
    Claim(
        "blind_beats_mismatch",
        "At sigma 50 the blind network beats the one trained for sigma 25.",
        _arms(BLIND, "specific 25", table="mismatch", setting="sigma=50"),
        0.5,
        "a mismatch of this size costs several dB; 0.5 is clear of the seeds' spread",
        "test photos",
        "own training",
        (BLIND, "specific 25"),
    ),
    Claim(
        "three_tasks",
        "One network improves noisy, down-sampled and JPEG pictures alike.",
        _three_tasks,
        0.0,
        "the smallest gain over the input, among all tasks and levels, must be positive",
        "test photos",
        "own training",
        (THREE, "degraded"),
    ),
    Claim(
        "beats_baselines",
        "The network trained here beats the best of Gaussian filter, NLM and BM3D.",
        _against_baseline,
        0.0,
        "any gain counts",
        "test photos, the run's sigma",
        "own training",
        (MAIN, BM3D),
    ),
    Claim(
        "gradual_separation",
        "A linear probe reads the noise better from the last hidden layer than from the first.",
        _separation,
        0.0,
        "the direction is the claim",
        "validation crops",
        "own training",
    ),
    Claim(
        "official_beats_bm3d",
        "The authors' DnCNN-S beats BM3D at the run's noise level.",
        _official(OFFICIAL_S, BM3D),
        0.2,
        "the paper's gaps on Set12 are 0.46 to 0.49 dB",
        "Set12",
        "official weights",
    ),
    Claim(
        "official_specific_beats_blind",
        "The authors' network for one noise level beats their blind one at that level.",
        _official(OFFICIAL_S, OFFICIAL_B),
        0.0,
        "the paper's gap on Set12 at sigma 25 is 0.07 dB",
        "Set12",
        "official weights",
    ),
    Claim(
        "receptive_fields",
        "Depths 17 and 20 see 35 and 41 pixels.",
        _exact("receptive_field_exact"),
        0.5,
        "exact equality, measured by gradient",
        "the built networks",
        "analysis",
    ),
    Claim(
        "parameter_counts",
        "The networks have the published numbers of parameters.",
        _exact("parameters_exact"),
        0.5,
        "exact equality",
        "the built networks",
        "analysis",
    ),
)
