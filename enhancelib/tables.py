"""Tables: values.csv as runs keep it, and what people read: csv, Markdown, LaTeX, summaries."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
    from pandas.io.formats.style import Styler

_LATEX = {
    **{sign: "\\" + sign for sign in "&%_#${}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    "|": "$|$",
    "±": r"$\pm$",
    "×": r"$\times$",
    "−": "$-$",
    "≤": r"$\le$",
    "≥": r"$\ge$",
    "→": r"$\to$",
    "σ": r"$\sigma$",
}


def forms(frame: pd.DataFrame, *, note: str = "") -> Mapping[str, str]:
    """A table in the three forms that a run keeps.

    Args:
        frame: Its index, where named, becomes the first columns.
        note: Printed under the table.

    Returns:
        suffix -> text for "csv", "md" and "tex".

    Example:
        >>> import pandas as pd
        >>> print(forms(pd.DataFrame({"PSNR": [30.4]}))["md"])
        | PSNR |
        |---|
        | 30.4 |
        <BLANKLINE>
    """
    flat = frame.reset_index() if any(frame.index.names) else frame
    head = [_name(column) for column in flat.columns]
    body = [[_cell(value) for value in row] for row in flat.itertuples(index=False)]
    return {
        "csv": flat.to_csv(index=False),
        "md": _markdown(head, body) + (f"\n{note}\n" if note else ""),
        "tex": _latex(head, body) + "".join(f"% {line}\n" for line in note.splitlines()),
    }


def spread(values: Sequence[float], *, digits: int = 2) -> str:
    """Mean and standard deviation over seeds, as printed in a cell.

    Args:
        values: One per seed; not finite means n/a.
        digits: After the point.

    Returns:
        "27.41 ± 0.12", the bare value for one seed, "n/a" for none.

    Example:
        >>> spread([27.3, 27.5]), spread([27.3]), spread([])
        ('27.40 ± 0.14', '27.30', 'n/a')
    """
    from statistics import fmean, stdev

    kept = [value for value in values if math.isfinite(value)]
    if not kept:
        return "n/a"
    mean = f"{fmean(kept):.{digits}f}"
    return mean if len(kept) == 1 else f"{mean} ± {stdev(kept):.{digits}f}"


def summary(frame: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Mean, spread and number of values of every group.

    Args:
        frame: Long rows with a column "value".
        by: Columns whose combinations form the groups.

    Returns:
        One row per group with mean, std (nan for one value) and n.

    Raises:
        KeyError: If a column is absent.

    Example:
        >>> import pandas as pd
        >>> rows = pd.DataFrame({"method": ["a", "a"], "value": [1.0, 3.0]})
        >>> summary(rows, ["method"])[["mean", "n"]].values.tolist()
        [[2.0, 2.0]]
        >>> summary(rows, ["sigma"])
        Traceback (most recent call last):
        KeyError: "no column 'sigma'; there are method, value"
    """
    for name in by:
        if name not in frame.columns:
            raise KeyError(f"no column {name!r}; there are {', '.join(frame.columns)}")
    groups = frame.groupby(list(by), sort=False, dropna=False)["value"]
    return groups.agg(["mean", "std", "count"]).rename(columns={"count": "n"}).reset_index()


def read_values(path: Path) -> pd.DataFrame:
    """The long table of a run, as it was recorded.

    Args:
        path: values.csv of a run folder.

    Returns:
        Its rows; every number has the very bits that were written.
    """
    import pandas as pd

    # A picture may be called "nan"; and not every pandas reads a number to its last bit.
    text = pd.read_csv(path, dtype={"value": str}, keep_default_na=False, na_values={"seed": ""})
    return text.assign(value=[float(value or "nan") for value in text["value"]])


def select(frame: pd.DataFrame, **where: object) -> pd.DataFrame:
    """Rows of a values frame.

    Args:
        frame: With the columns of values.csv.
        **where: Columns and the value (or list of values) that a row must have there.

    Returns:
        The rows, in their order.

    Raises:
        KeyError: If a name is no column.

    Example:
        >>> import pandas as pd
        >>> select(pd.DataFrame({"method": ["a", "b"]}), method="b").index.tolist()
        [1]
        >>> select(pd.DataFrame({"method": ["a", "b"]}), sigma=3)
        Traceback (most recent call last):
        KeyError: "'sigma' is no column of values.csv; it has method"
    """
    for name, wanted in where.items():
        if name not in frame.columns:
            raise KeyError(
                f"{name!r} is no column of values.csv; it has {', '.join(frame.columns)}"
            )
        frame = frame[frame[name].isin(wanted if isinstance(wanted, list) else [wanted])]
    return frame


def same(a: pd.DataFrame, b: pd.DataFrame) -> bool:
    """Whether two runs measured the same numbers, bit for bit, times left out.

    Args:
        a: values.csv of one run.
        b: values.csv of the other.

    Returns:
        True when all untimed rows are equal, in the same order.
    """
    kept = (frame[~frame["timed"].astype(bool)] for frame in (a, b))
    first, second = (frame.reset_index(drop=True) for frame in kept)
    return bool(first.equals(second))


def finite(value: float) -> bool:
    """Whether a recorded value is a number rather than n/a.

    Args:
        value: As recorded.

    Returns:
        False for nan and infinities.
    """
    return math.isfinite(value)


def shaded(frame: pd.DataFrame) -> Styler:
    """A table for a notebook, with recalled numbers in grey.

    Args:
        frame: Its column "source" says "memory" where a number was only recalled.

    Returns:
        What JupyterLab shows as a table.

    Raises:
        KeyError: If there is no column "source".

    Example:
        >>> import pandas as pd
        >>> frame = pd.DataFrame({"PSNR": ["31.73"], "source": ["published [memory]"]})
        >>> "color: #8a8a8a" in shaded(frame).to_html()
        True
        >>> shaded(pd.DataFrame({"PSNR": ["31.73"]}))
        Traceback (most recent call last):
        KeyError: "the table has no column 'source'"
    """
    if "source" not in frame.columns:
        raise KeyError("the table has no column 'source'")

    def grey(row: pd.Series[str]) -> list[str]:
        recalled = "memory" in str(row["source"])
        return ["color: #8a8a8a" if recalled else ""] * len(row)

    return frame.style.apply(grey, axis=1).hide(axis="index")


def _name(column: object) -> str:
    parts = column if isinstance(column, tuple) else (column,)
    return " ".join(str(part) for part in parts if str(part))


def _cell(value: object) -> str:
    if isinstance(value, Real) and not isinstance(value, Integral):
        return "n/a" if math.isnan(value) else f"{float(value):.6g}"
    return "n/a" if value is None or str(value) == "<NA>" else " ".join(str(value).split("\n"))


def _markdown(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    rows = [head, ["---"] * len(head), *body]
    lines = ["| " + " | ".join(cell.replace("|", r"\|") for cell in row) + " |" for row in rows]
    lines[1] = "|" + "---|" * len(head)
    return "\n".join(lines) + "\n"


def _latex(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    def line(cells: Sequence[str]) -> str:
        escaped = ("".join(_LATEX.get(sign, sign) for sign in cell) for cell in cells)
        return " & ".join(escaped) + r" \\"

    rows = [line(row) for row in body]
    start = rf"\begin{{tabular}}{{{'l' * len(head)}}}" + "\n\\hline\n"
    return start + line(head) + "\n\\hline\n" + "\n".join(rows) + "\n\\hline\n\\end{tabular}\n"
