"""Verdicts: whether a claim of a paper holds, from numbers alone.

The margin of a claim stands in papers/<slug>.py before the run that judges it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Real
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import pandas as pd

JUDGES = ("official weights", "own training", "analysis")


@dataclass(frozen=True)
class Claim:
    """A claim of a paper and how it is judged.

    Args:
        name: Short name.
        statement: One sentence.
        statistic: From the run's values to one number, paired per-seed differences, or None.
        margin: The claim holds where the statistic is above this.
        reason: Why this margin.
        test_set: What it is measured on.
        by: One of JUDGES.
        arms: For own training, the two methods whose rows are compared; swapping them must turn
            the verdict.

    Raises:
        ValueError: If `by` is none of JUDGES.

    Example:
        >>> Claim("a", "A.", lambda values: 1.0, 0.0, "sign", "Set12", "hope")
        Traceback (most recent call last):
        ValueError: claim 'a' is judged by 'hope'; expected one of official weights, own ...
    """

    name: str
    statement: str
    statistic: Callable[[pd.DataFrame], float | Sequence[float] | None]
    margin: float
    reason: str
    test_set: str
    by: str
    arms: tuple[str, str] | None = None

    def __post_init__(self) -> None:
        """Refuse an unknown kind of evidence."""
        if self.by not in JUDGES:
            raise ValueError(
                f"claim {self.name!r} is judged by {self.by!r}; expected one of {', '.join(JUDGES)}"
            )


@dataclass(frozen=True)
class Verdict:
    """The outcome for one claim.

    Args:
        holds: True, False, or None where it cannot be judged.
        evidence: The numbers, in words.
    """

    holds: bool | None
    evidence: str


def judge(
    statistic: float | Sequence[float] | None, *, margin: float, smoke: bool = False
) -> Verdict:
    """Compare a statistic with the margin fixed beforehand.

    Args:
        statistic: One number (a count, an error, a mean over a test set), or the paired differences
            of several seeds, of which the 95 % interval of the mean is taken.
        margin: The claim holds where the whole interval is above it.
        smoke: At profile smoke nothing is judged.

    Returns:
        The verdict; undecided when the interval contains the margin.

    Example:
        >>> judge([0.8, 0.9, 1.0], margin=0.2).holds, judge([-0.1, 0.5, 0.9], margin=0.2).holds
        (True, None)
        >>> judge(0.1, margin=0.2)
        Verdict(holds=False, evidence='0.1')
    """
    if statistic is None:
        return Verdict(None, "not measured")
    if isinstance(statistic, (int, float, Real)):  # Real: NumPy's scalars
        value = float(statistic)
        if not math.isfinite(value):
            return Verdict(None, "not measured")
        return Verdict(None if smoke else value > margin, f"{value:.4g}")
    if len(statistic) == 0 or not all(map(math.isfinite, statistic)):
        return Verdict(None, "not measured")
    low, high = interval(statistic)
    evidence = f"mean {fmean(statistic):+.3f}, 95 % interval {low:+.3f} to {high:+.3f}"
    evidence += f", {len(statistic)} seed" + ("s" if len(statistic) > 1 else "")
    if smoke or low <= margin <= high:
        return Verdict(None, evidence)
    return Verdict(low > margin, evidence)


def interval(differences: Sequence[float]) -> tuple[float, float]:
    """The 95 % t-interval of the mean of paired differences.

    Args:
        differences: One per seed.

    Returns:
        (low, high); infinite for fewer than two values or a value that is not finite.

    Example:
        >>> [round(x, 2) for x in interval([0.8, 0.9, 1.0])]
        [0.65, 1.15]
    """
    n = len(differences)
    if n < 2 or not all(math.isfinite(value) for value in differences):
        return -math.inf, math.inf
    from scipy.special import stdtrit

    # Student's t, two-sided: three seeds are few, and the interval says so.
    half = float(stdtrit(n - 1, 0.975)) * stdev(differences) / math.sqrt(n)
    return fmean(differences) - half, fmean(differences) + half


class Keeper(Protocol):
    """What `verdicts` needs of a run."""

    def values(self) -> pd.DataFrame:
        """The numbers recorded.

        Returns:
            Rows of values.csv.
        """
        ...

    def claim(
        self,
        name: str,
        statement: str,
        *,
        statistic: float | Sequence[float] | None,
        margin: float,
        test_set: str,
        by: str,
    ) -> bool | None:
        """Judge and keep one claim.

        Args:
            name: Short name.
            statement: One sentence.
            statistic: What `judge` takes.
            margin: What `judge` takes.
            test_set: What it was measured on.
            by: One of JUDGES.

        Returns:
            The verdict.
        """
        ...


def verdicts(run: Keeper, listed: Sequence[Claim]) -> pd.DataFrame:
    """Judge every claim of a paper from the numbers of a run.

    Args:
        run: With all numbers recorded; it keeps the verdicts.
        listed: The paper's claims.

    Returns:
        One row per claim: claim, verdict, evidence, judged by.
    """
    import pandas as pd

    values, rows = run.values(), []
    words = {True: "held", False: "NOT HELD", None: "not judged"}
    for claim in listed:
        found = claim.statistic(values)
        holds = run.claim(
            claim.name,
            claim.statement,
            statistic=found,
            margin=claim.margin,
            test_set=claim.test_set,
            by=claim.by,
        )
        evidence = judge(found, margin=claim.margin).evidence
        rows.append(
            (claim.statement, words[holds], f"{evidence}; margin {claim.margin:g}", claim.by)
        )
    return pd.DataFrame(rows, columns=["claim", "verdict", "evidence", "judged by"])
