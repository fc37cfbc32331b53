"""Tables as people read them, checked by what reads them back."""

from __future__ import annotations

import io
import math
import statistics

import numpy as np
import pandas as pd
import pytest

from enhancelib import tables

FRAME = pd.DataFrame(
    {
        "method": ["BM3D", "DnCNN_S & 50 % | x"],
        "PSNR": [29.97, 30.4349999],
        "seeds": [1, 3],
        "note": [None, "σ = 25"],
    }
)


def test_csv_keeps_every_digit() -> None:
    back = pd.read_csv(io.StringIO(tables.forms(FRAME)["csv"]))
    assert back["PSNR"].tolist() == [29.97, 30.4349999]


def test_markdown_has_a_cell_per_column_in_every_row() -> None:
    text = tables.forms(FRAME, note="PSNR of Y")["md"]
    lines = text.splitlines()
    assert lines[0] == "| method | PSNR | seeds | note |"
    assert lines[1] == "|---|---|---|---|"
    assert lines[2] == "| BM3D | 29.97 | 1 | n/a |"
    assert lines[3] == r"| DnCNN_S & 50 % \| x | 30.435 | 3 | σ = 25 |"
    assert lines[4:] == ["", "PSNR of Y"]


def test_latex_has_a_column_per_column_and_escapes_its_signs() -> None:
    text = tables.forms(FRAME, note="two\nlines")["tex"]
    lines = text.splitlines()
    assert lines[0] == r"\begin{tabular}{llll}"
    assert lines[2] == r"method & PSNR & seeds & note \\"
    assert lines[5] == r"DnCNN\_S \& 50 \% $|$ x & 30.435 & 3 & $\sigma$ = 25 \\"
    assert lines[-3:] == [r"\end{tabular}", "% two", "% lines"]


@pytest.mark.parametrize("sign", list("&%_#${}~^\\<>|±×−≤≥→σ"))
def test_no_sign_that_latex_reads_as_its_own_is_left(sign: str) -> None:
    row = tables.forms(pd.DataFrame({"a": [f"x{sign}y"]}))["tex"].splitlines()[4]
    # what TeX gives a meaning of its own, or has no letter for in text
    bare = row.removesuffix(r" \\")
    for command in (r"\textbackslash{}", r"\textasciitilde{}", r"\textasciicircum{}"):
        bare = bare.replace(command, "")
    for escaped in [rf"\{s}" for s in "&%_#${}"]:
        bare = bare.replace(escaped, "")
    assert not set(bare) & set("&%_#{}~^")
    assert bare.count("$") in (0, 2)
    assert bare.isascii()


def test_a_named_index_becomes_columns_and_levels_of_columns_one_name() -> None:
    long = pd.DataFrame({"set": ["a", "a"], "method": ["x", "y"], "value": [1.0, 2.0]})
    wide = long.pivot_table(index="set", columns="method", values=["value"])
    assert tables.forms(wide)["md"].splitlines()[0] == "| set | value x | value y |"
    assert tables.forms(wide)["md"].splitlines()[2] == "| a | 1 | 2 |"


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        (1 / 3, "0.333333"),
        (np.float32(1.5), "1.5"),
        (math.nan, "n/a"),
        (np.float32("nan"), "n/a"),
        (pd.NA, "n/a"),
        (None, "n/a"),
        (math.inf, "inf"),
        (7, "7"),
        (True, "True"),
        ("two\nlines", "two lines"),
    ],
)
def test_a_cell_of_any_kind(value: object, cell: str) -> None:
    frame = pd.DataFrame({"a": pd.Series([value], dtype=object)})
    assert tables.forms(frame)["md"].splitlines()[2] == f"| {cell} |"


def test_spread_is_the_standard_deviation_over_seeds() -> None:
    values = [27.31, 27.46, 27.52]
    assert tables.spread(values) == f"27.43 ± {statistics.stdev(values):.2f}"
    assert tables.spread(values, digits=0) == "27 ± 0"
    assert tables.spread([27.31, math.nan, 27.51]) == "27.41 ± 0.14"
    assert tables.spread([27.31]) == "27.31", "one seed has no spread, not a spread of 0"
    assert tables.spread([math.nan, math.inf]) == "n/a"


def test_summary_has_mean_spread_and_number_of_every_group() -> None:
    rows = pd.DataFrame(
        {
            "method": ["b", "a", "b", "a", "b"],
            "setting": ["x", None, "x", None, "y"],
            "value": [1.0, 5.0, 3.0, 5.0, 9.0],
        }
    )
    found = tables.summary(rows, ["method", "setting"])
    assert found["method"].tolist() == ["b", "a", "b"], "groups in the order of the rows"
    assert found["mean"].tolist() == [2.0, 5.0, 9.0]
    assert found["std"].tolist()[:2] == [pytest.approx(math.sqrt(2)), 0.0]
    assert math.isnan(found["std"][2])
    assert found["n"].tolist() == [2, 2, 1]


def test_summary_refuses_a_column_that_is_not_there() -> None:
    with pytest.raises(KeyError, match="no column 'sigma'; there are method, value"):
        tables.summary(pd.DataFrame({"method": ["a"], "value": [1.0]}), ["sigma"])
