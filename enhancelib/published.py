"""The numbers that papers print, as they stand in data/published/<slug>_<table>.csv.

One line is one number. `setting` is a list of "name=value" separated by blanks ("sigma=25"), so
that a notebook asks for `rows("dncnn", table="set12", sigma=25)`. A number that a paper does not
give has no line; nothing measured here stands in these files.

    certainty       where the number was read
    paper           in material of the authors that restates the paper
    text            in the source text that this project implements
    derived         computed from other published numbers
    official code   in the authors' repository or in their own words there
    third party     in somebody else's repository or paper
    memory          recalled and not read again: tables print it grey, with a mark
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from enhancelib import runtime

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (
    "paper",
    "table",
    "row",
    "dataset",
    "image",
    "metric",
    "setting",
    "value",
    "source",
    "certainty",
)
CERTAINTIES = ("paper", "text", "derived", "official code", "third party", "memory")
_KEY = ("table", "row", "dataset", "image", "metric", "setting")


class PublishedError(ValueError):
    """A file of published numbers says something that cannot be right; names file and line."""


def load(slug: str, *, folder: Path | None = None) -> pd.DataFrame:
    r"""Every published number of one paper.

    Args:
        slug: The paper, such as "dncnn".
        folder: Where the CSV files lie; None means the project's data/published.

    Returns:
        A data frame with the columns `COLUMNS` in the order of the files; `value` is float64,
        everything else text (image "01" keeps its zero).

    Raises:
        ValueError: If there is no file for this paper.
        PublishedError: If a file has other columns, an unknown certainty, a value that is not a
            finite number, an empty cell, another paper's name or the same number twice.

    Example:
        >>> frame = load("dncnn")
        >>> len(frame[frame.table == "set12"]), str(frame.value.dtype)
        (286, 'float64')
        >>> load("dncn")
        Traceback (most recent call last):
        ValueError: no published numbers for 'dncn'; papers with some: ...dncnn...
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> line = "a,t,r,d,mean,psnr,sigma=25,31.2,a guess,rumour"
        >>> _ = (folder / "a_t.csv").write_text(",".join(COLUMNS) + "\n" + line + "\n")
        >>> load("a", folder=folder)
        Traceback (most recent call last):
        enhancelib.published.PublishedError: a_t.csv, line 2: certainty is 'rumour'; expected ...
    """
    import pandas as pd

    folder = folder or runtime.data("published")
    files = sorted(folder.glob(f"{slug}_*.csv")) if slug else []
    if not files:
        known = ", ".join(sorted({file.stem.split("_")[0] for file in folder.glob("*_*.csv")}))
        raise ValueError(f"no published numbers for {slug!r}; papers with some: {known or 'none'}")
    return pd.DataFrame(list(_read(files, slug)), columns=list(COLUMNS))


def rows(slug: str, *, table: str, **filters: str | float) -> pd.DataFrame:
    """The published numbers of one table, narrowed by columns or by settings.

    Args:
        slug: The paper, such as "dncnn".
        table: The table, such as "set12": what the file is called after the slug.
        **filters: A column (row="BM3D", image="mean", metric="psnr") compared as text, or a name
            inside `setting` (sigma=25, scale=2) compared as a number where both are numbers.

    Returns:
        The lines that agree with every filter, renumbered from 0; never empty.

    Raises:
        ValueError: If the table is unknown, a filter is neither a column nor a setting of this
            table, or no line agrees.

    Example:
        >>> rows("dncnn", table="bsd68", row="DnCNN-S", sigma=25).value.tolist()
        [29.23]
        >>> rows("dncnn", table="bsd68", row="DnCNN-S", sigma=26)
        Traceback (most recent call last):
        ValueError: no line of dncnn's table 'bsd68' has sigma=26; it has 15, 25, 50
    """
    frame = load(slug)
    tables = sorted(set(frame.table))
    if table not in tables:
        raise ValueError(f"table is {table!r}; {slug} has {', '.join(tables)}")
    frame = frame[frame.table == table]
    for name, wanted in filters.items():
        frame = _narrow(frame, name, wanted, where=f"{slug}'s table {table!r}")
    return frame.reset_index(drop=True)


def settings(text: str) -> dict[str, str]:
    """The names and values inside one `setting` cell.

    Args:
        text: Such as "size=256 sigma=25 device=cpu"; may be empty.

    Returns:
        Name to value, both as text.

    Raises:
        ValueError: If a part is not "name=value".

    Example:
        >>> settings("size=256 device=cpu")
        {'size': '256', 'device': 'cpu'}
        >>> settings("sigma 25")
        Traceback (most recent call last):
        ValueError: setting is 'sigma 25'; expected "name=value" parts separated by blanks
    """
    parts = [part.split("=") for part in text.split()]
    if any(len(part) != 2 or not all(part) for part in parts):
        raise ValueError(f'setting is {text!r}; expected "name=value" parts separated by blanks')
    return {name: value for name, value in parts}


def _narrow(frame: pd.DataFrame, name: str, wanted: str | float, *, where: str) -> pd.DataFrame:
    if name in COLUMNS:
        have = frame[name].tolist()
    else:
        have = [settings(cell).get(name) for cell in frame.setting]
    present = list(dict.fromkeys(str(value) for value in have if value is not None))
    if not present:
        raise ValueError(f"{where} has neither a column nor a setting named {name!r}")
    kept = frame[[value is not None and _same(value, wanted) for value in have]]
    if kept.empty:
        raise ValueError(f"no line of {where} has {name}={wanted}; it has {', '.join(present)}")
    return kept


def _same(value: object, wanted: str | float) -> bool:
    if isinstance(wanted, str):
        return str(value) == wanted
    number = _number(str(value))
    return number is not None and number == float(wanted)


def listed(slug: str, table: str) -> pd.DataFrame:
    """A published table as it stands, for a notebook to print.

    Args:
        slug: The paper.
        table: What the file is called after the slug.

    Returns:
        Row, data set, metric, value and certainty of every line.

    Raises:
        ValueError: As `rows`.

    Example:
        >>> listed("prad", "cfa").iloc[0].tolist()[:2]
        ['plain U-Net', 'DPED iPhone test patches']
        >>> listed("prad", "cfb")
        Traceback (most recent call last):
        ValueError: ...
    """
    frame = rows(slug, table=table)
    return frame[["row", "dataset", "metric", "value", "certainty"]].reset_index(drop=True)


def _read(files: list[Path], slug: str) -> Iterator[dict[str, object]]:
    for file in files:
        seen: dict[tuple[str, ...], int] = {}
        with file.open(newline="", encoding="utf-8") as stream:
            reader = csv.DictReader(stream)
            if tuple(reader.fieldnames or ()) != COLUMNS:
                raise PublishedError(f"{file.name}, line 1: columns must be {', '.join(COLUMNS)}")
            for line in reader:
                place = f"{file.name}, line {reader.line_num}"
                _check(line, slug, place)
                key = tuple(line[name] for name in _KEY)
                if key in seen:
                    raise PublishedError(f"{place}: the same number as line {seen[key]}")
                seen[key] = reader.line_num
                yield {**line, "value": float(line["value"])}


def _check(line: dict[str, str], slug: str, place: str) -> None:
    # DictReader files surplus cells under None and gives None for missing ones
    if None in line or None in line.values():
        raise PublishedError(f"{place}: expected {len(COLUMNS)} cells")
    empty = [name for name in COLUMNS if not line[name].strip() and name != "setting"]
    if empty:
        raise PublishedError(f"{place}: {empty[0]} is empty")
    if line["paper"] != slug:
        raise PublishedError(f"{place}: paper is {line['paper']!r}; expected {slug!r}")
    if line["certainty"] not in CERTAINTIES:
        allowed = ", ".join(CERTAINTIES)
        raise PublishedError(f"{place}: certainty is {line['certainty']!r}; expected {allowed}")
    if _number(line["value"]) is None:
        raise PublishedError(f"{place}: value is {line['value']!r}; expected a finite number")
    try:
        settings(line["setting"])
    except ValueError as error:
        raise PublishedError(f"{place}: {error}") from None


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
