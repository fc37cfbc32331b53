"""The claims of PRaD and how this notebook judges them; margins were set before the published run.

Own-training claims compare two arms trained with the same seeds on the same samples; the statistic
is the difference per seed, and its 95 % interval must clear the margin. One seed leaves them open.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from enhancelib import published
from enhancelib.claims import Claim
from enhancelib.papers.prad import data, settings
from enhancelib.papers.prad.critics import NAMES
from enhancelib.papers.prad.official import DPED, PPCN
from enhancelib.papers.prad.scoring import ALL
from enhancelib.results import select

if TYPE_CHECKING:
    import pandas as pd

Statistic = Callable[["pd.DataFrame"], "float | Sequence[float] | None"]

PLAIN_MSE = "plain U-Net, MSE"
PLAIN_TEXTURE = "plain U-Net, MSE + texture"
CFA_TEXTURE = "CFA + R, MSE + texture"
QUADRATIC = "quadratic polynomial"
FULL = settings.FULL.method
PAIR, IMAGE = NAMES["pair"], NAMES["image"]
SHARP, SMOOTH = "Eq. 19 without critic", "MSE alone"  # of the trainings on shifted pairs


def _real(values: pd.DataFrame) -> pd.DataFrame:
    """Rows of real pairs: the authors' networks were not made for a simulated phone."""
    return values[values["dataset"] != data.MADE]


def _cells(values: pd.DataFrame, method: str, **where: object) -> pd.Series:
    found = select(values, method=method, image="mean", setting=ALL, **where)
    return found.groupby("seed")["value"].mean()


def paired(
    values: pd.DataFrame, a: str, b: str, *, lower_better: bool = False, **where: object
) -> list[float] | None:
    """Per-seed differences of two methods' scores, positive where the first is better.

    Args:
        values: Rows of a run.
        a: Method that is claimed to be better.
        b: The other.
        lower_better: Whether a smaller score is better.
        **where: Further columns that the rows must match (table, metric).

    Returns:
        One difference per seed; None where an arm is missing.
    """
    gap = (_cells(values, a, **where) - _cells(values, b, **where)).dropna()
    sign = -1 if lower_better else 1
    return [sign * float(value) for value in gap] if len(gap) else None


def _arms(a: str, b: str, metric: str = "psnr", table: str = "ablations", **how: bool) -> Statistic:
    return lambda values: paired(values, a, b, table=table, metric=metric, **how)


def _saved(metric: str) -> Statistic:
    """Per seed, the share of an error that the texture loss takes away."""

    def statistic(values: pd.DataFrame) -> list[float] | None:
        plain = _cells(values, PLAIN_MSE, table="texture", metric=metric)
        ours = _cells(values, PLAIN_TEXTURE, table="texture", metric=metric)
        saved = (1 - ours / plain).dropna()
        return [float(value) for value in saved] if len(saved) else None

    return statistic


def _resolvable(values: pd.DataFrame) -> float | None:
    """The paper's largest gap minus the range of one network's PSNR over its seeds."""
    found = _cells(values, PLAIN_TEXTURE, table="texture", metric="psnr")
    gap = published.rows("prad", table="cfa", metric="psnr_gain")["value"].max()
    return float(gap - (found.max() - found.min())) if len(found) > 1 else None


def _above_row(row: str, table: str) -> Statistic:
    """Own network minus a row that no seed touches."""

    def statistic(values: pd.DataFrame) -> list[float] | None:
        own = _cells(values, FULL, table=table, metric="psnr")
        found = select(values, method=row, table=table, metric="psnr", image="mean", setting=ALL)
        if own.empty or found.empty:
            return None
        return [float(value - found["value"].iloc[0]) for value in own]

    return statistic


def _stays(values: pd.DataFrame) -> list[float] | None:
    """Per seed, 0.2 dB minus the distance of the PSNRs with and without critic."""
    gaps = paired(values, FULL, settings.NO_GAN.method, table="ablations", metric="psnr")
    return None if gaps is None else [0.2 - abs(gap) for gap in gaps]


def _brightness(method: str, sign: float) -> Statistic:
    def statistic(values: pd.DataFrame) -> float | None:
        found = select(_real(values), table="main", method=method, metric="brighter", setting=ALL)
        return None if found.empty else sign * float(found["value"].iloc[0])

    return statistic


def _conventions(values: pd.DataFrame) -> float | None:
    """The smallest distance of the two PSNRs of one output, over the official networks."""
    found = select(_real(values), table="main", image="mean", setting=ALL)
    found = found[found["method"].isin([DPED, PPCN])]
    one = found[found["metric"] == "psnr"].set_index("method")["value"]
    other = found[found["metric"] == "psnr_dped"].set_index("method")["value"]
    gaps = (one - other).dropna()
    return float(gaps.min()) if len(gaps) else None


def _critic_wins(values: pd.DataFrame) -> list[float] | None:
    found = select(values, table="critic", metric="critic_loss", method=PAIR)
    return [0.5 - float(value) for value in found["value"]] or None


def _drop(setting: str, *, over: str = "") -> Statistic:
    """Standard deviations that a change costs the pair-wise critic, over what it costs another."""

    def statistic(values: pd.DataFrame) -> list[float] | None:
        found = select(values, table="reactions", metric="drop", setting=setting)
        own = select(found, method=PAIR).groupby("seed")["value"].mean()
        if over:
            own = (own - select(found, method=over).groupby("seed")["value"].mean()).dropna()
        return [float(value) for value in own] or None

    return statistic


def _blanked(values: pd.DataFrame) -> list[float] | None:
    found = select(values, table="reactions", metric="drop", setting="phi blanked", method=PAIR)
    return [abs(float(value)) for value in found["value"]] or None


def _balanced(values: pd.DataFrame) -> float | None:
    """How far both adversarial losses stay from the values of a won game, in the worst run."""
    found = select(values, table="joint")
    critic = select(found, metric="critic").groupby("seed")["value"].mean()
    gan = select(found, metric="gan").groupby("seed")["value"].mean()
    if critic.empty or gan.empty:
        return None
    losses = [float(loss) for pair in zip(critic, gan, strict=True) for loss in pair]
    return min(min(loss / 0.1, 7.0 / max(loss, 1e-9)) - 1 for loss in losses)


def _shift(method: str, other: str, setting: str) -> Statistic:
    def statistic(values: pd.DataFrame) -> float | None:
        found = select(values, table="shift", metric="value", setting=setting)
        one, two = (select(found, method=m)["value"] for m in (method, other))
        return float(two.iloc[0] / one.iloc[0]) if len(one) and len(two) else None

    return statistic


def _sharper(values: pd.DataFrame) -> list[float] | None:
    """Per seed, sharpness under Eq. 19's losses minus that under MSE, pairs shifted up to 4 px."""
    found = select(values, table="misaligned", metric="sharpness", setting="shift=4")
    one, two = (select(found, method=m).groupby("seed")["value"].mean() for m in (SHARP, SMOOTH))
    return [float(gap) for gap in (one - two).dropna()] or None


def _ratio(values: pd.DataFrame) -> float | None:
    found = select(values, table="accounts", metric="parameters")
    one, two = (select(found, method=m)["value"] for m in ("GridNet", "PRaD-G S"))
    return float(one.iloc[0] / two.iloc[0]) if len(one) and len(two) else None


def _counts(values: pd.DataFrame) -> float | None:
    """1 where every count equals the specification's."""
    rows = select(values, table="accounts", metric="parameters")
    found = rows.groupby("method")["value"].mean()  # the cell may have been run twice
    known = {m: n for m, n in COUNTS.items() if m in found.index}
    if not known:
        return None
    return min(float(math.isclose(found[m], n)) for m, n in known.items())


COUNTS = {
    "PRaD-G S": 206_323,
    "S, plain U-Net": 155_955,
    "S, + R only": 179_091,
    "S, + CFA only": 183_187,
    "PRaD-G L": 822_243,
    "DPED (ResNet-12)": 401_475,
    "ResNet-20": 697_923,
    "ResNet-32": 1_142_595,
    "GridNet": 2_242_403,
    "RSGUNet": 1_451_268,
    "SRCNN": 69_249,
}
_GAP = "the paper's gap is {} dB and any gain counts here"


def _ablation(name: str, statement: str, a: str, b: str, gap: str, **how: object) -> Claim:
    metric = str(how.get("metric", "psnr"))
    lower = bool(how.get("lower_better", False))
    reason = _GAP.format(gap) if gap else "the paper gives the direction alone"
    return Claim(
        name, statement, _arms(a, b, metric, lower_better=lower), 0.0, reason, "test pairs",
        "own training", (a, b),
    )  # fmt: skip


def _norm(index: int) -> str:
    return settings.GROUPS["norm"][index].method


CLAIMS: tuple[Claim, ...] = (
    Claim(
        "parameter_counts", "The networks have the numbers of parameters derived for them.",
        _counts, 0.5, "exact equality", "the built networks", "analysis",
    ),
    Claim(
        "ten_times_smaller", "The generator has ten times fewer parameters than GridNet.",
        _ratio, 10.0, "the paper says 10 times", "the built networks", "analysis",
    ),
    Claim(
        "conventions", "One output has PSNRs 2 dB apart under the two conventions in use.",
        _conventions, 2.0, "2.2 to 2.9 dB on the 400 pairs in the specification", "test pairs",
        "official weights",
    ),
    Claim(
        "ppcn_darker", "PPCN's pictures are darker than the target (too gloomy, says the paper).",
        _brightness(PPCN, -1.0), 0.0, "the direction is the claim", "test pairs",
        "official weights",
    ),
    Claim(
        "dped_brighter", "DPED's pictures are brighter than the target.",
        _brightness(DPED, 1.0), 0.0, "the direction is the claim", "test pairs",
        "official weights",
    ),
    Claim(
        "blur_forgives_shifts", "A shift of 2 px costs DPED's blurred colour loss ten times less "
        "than MSE.", _shift("blurred colour (DPED)", "MSE", "shift=2"), 10.0,
        "14 times in the specification's measurement", "target patches", "analysis",
    ),
    Claim(
        "contextual_forgives_shifts", "Of its value between strangers, a shift of 4 px costs the "
        "contextual loss less than it costs PRaD's colour loss.",
        lambda values: _share_gap(values, "color", "contextual", "shift=4"), 0.0,
        "the direction is the claim", "target patches", "analysis",
    ),
    Claim(
        "sharper_when_shifted", "Trained on pairs shifted up to 4 px, the losses of Eq. 19 give "
        "sharper pictures than the squared error.", _sharper, 0.0, "the direction is the claim",
        "aligned test pairs", "own training", (SHARP, SMOOTH),
    ),
    Claim(
        "texture_gradient", "The texture loss lowers the gradient error of held-out pairs.",
        _saved("gradient_error"), 0.05, "about 10 % in the specification's trainings", "test pairs",
        "own training", (PLAIN_TEXTURE, PLAIN_MSE),
    ),
    Claim(
        "texture_lcn", "The texture loss lowers the local-contrast error of held-out pairs.",
        _saved("lcn_error"), 0.15, "about 28 % in the specification's trainings", "test pairs",
        "own training", (PLAIN_TEXTURE, PLAIN_MSE),
    ),
    Claim(
        "cfa_r_supervised", "CFA and R together beat the plain U-Net under the same loss.",
        _arms(CFA_TEXTURE, PLAIN_TEXTURE, table="texture"), 0.0, _GAP.format("0.17"), "test pairs",
        "own training", (CFA_TEXTURE, PLAIN_TEXTURE),
    ),
    Claim(
        "gaps_resolvable", "The paper's largest gap between generators, 0.17 dB, is larger than "
        "the range of one generator over its seeds.", _resolvable, 0.0,
        "else a difference of single runs says nothing", "test pairs", "own training",
        (PLAIN_TEXTURE, PLAIN_TEXTURE),
    ),
    Claim(
        "beats_polynomial", "The whole system beats a quadratic polynomial of the colours.",
        _above_row(QUADRATIC, "main"), 0.0, "the yardstick that costs ten numbers per channel",
        "test pairs", "own training", (FULL, QUADRATIC),
    ),
    Claim(
        "beats_ppcn", "The whole system beats PPCN by 0.4 dB or more.",
        lambda values: _above_row(PPCN, "main")(_real(values)), 0.4,
        "the paper's 22.95 dB against PPCN's published 22.54 dB", "real test pairs",
        "own training", (FULL, PPCN),
    ),
    Claim(
        "critic_can_win", "Against a frozen generator, 200 steps bring the critic's loss below "
        "0.5.", _critic_wins, 0.0, "2 ln 2 = 1.39 is the loss of a critic that knows nothing",
        "64 validation pairs", "own training", (PAIR, PAIR),
    ),
    Claim(
        "critic_sees_the_pair", "The target of another scene costs the pair-wise critic more than "
        "the critic of the image alone.", _drop("target of another scene", over=IMAGE), 0.0,
        "the direction is the claim", "validation pairs", "own training", (PAIR, IMAGE),
    ),
    Claim(
        "critic_sees_the_shift", "A shift of 4 px costs the pair-wise critic more than the critic "
        "of the image alone.", _drop("target shifted by 4 px", over=IMAGE), 0.0,
        "the direction is the claim", "validation pairs", "own training", (PAIR, IMAGE),
    ),
    Claim(
        "critic_uses_phi", "Blanking phi moves the pair-wise critic's score.", _blanked, 0.1,
        "a tenth of a standard deviation of its scores of real pairs", "validation pairs",
        "own training", (PAIR, PAIR),
    ),
    Claim(
        "neither_wins", "In the joint training neither side wins.", _balanced, 0.0,
        "in a won game the winner's loss is under 0.1 or the loser's over 7", "the last quarter "
        "of the training", "own training", (FULL, FULL),
    ),
    _ablation("refinement", "Feature refinement alone helps.", settings.GROUPS["cfa"][1].method,
              settings.PLAIN.method, "0.07"),
    _ablation("aggregation", "Cross-scale aggregation alone helps.",
              settings.GROUPS["cfa"][2].method, settings.PLAIN.method, "0.12"),
    _ablation("cfa_r", "Aggregation and refinement together help.", FULL, settings.PLAIN.method,
              "0.17"),
    _ablation("depth", "Aggregating the deeper feature of each scale helps.", FULL,
              settings.GROUPS["depth"][0].method, "0.03"),
    _ablation("phi", "A critic that sees pair and phi gives a better generator than one that sees "
              "the image alone.", FULL, settings.IMAGE.method, "0.08"),
    Claim(
        "psnr_stays", "Without the critic PSNR stays.", _stays, 0.0,
        "within 0.2 dB counts as similar", "test pairs", "own training",
        (FULL, settings.NO_GAN.method),
    ),
    _ablation("ssim_falls", "Without the critic SSIM falls.", FULL, settings.NO_GAN.method, "",
              metric="ssim"),
    _ablation("bn_worse", "Batch normalisation makes the generator worse.", FULL, _norm(1), ""),
    _ablation("wn_worse", "Weight normalisation makes the generator worse.", FULL, _norm(3), ""),
    _ablation("in_better", "Instance normalisation raises PSNR.", _norm(2), FULL, ""),
    _ablation("in_cast", "Instance normalisation gives a larger colour cast.", FULL, _norm(2), "",
              metric="cast", lower_better=True),
    _ablation("beats_gridnet", "The generator beats GridNet.", FULL, "GridNet", ""),
    _ablation("lpips", "The generator's LPIPS is lower than DPED's backbone under the same losses.",
              FULL, "DPED (ResNet-12)", "", metric="lpips_alex", lower_better=True),
)  # fmt: skip


def _share_gap(values: pd.DataFrame, a: str, b: str, setting: str) -> float | None:
    found = select(values, table="shift", metric="share", setting=setting)
    one, two = (select(found, method=m)["value"] for m in (a, b))
    return float(one.iloc[0] - two.iloc[0]) if len(one) and len(two) else None
