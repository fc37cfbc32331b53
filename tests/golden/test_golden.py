"""The smoke run's numbers are those stored in <slug>.json, within the tolerance stored there.

    {"values": [{"key": "...", "value": 27.31, "tolerance": 0.02, "why": "..."}]}

A key is "table|dataset|setting|method|metric|image|seed", as the row stands in values.csv, or,
beginning with "claims/" or "parity/", a place in results.json ("claims/residual/holds"). `why`
says where the tolerance comes from, such as the spread over thread counts. Changing a value needs
a reason in the commit message.
"""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import SmokeRun

HERE = Path(__file__).parent
NOTEBOOKS = HERE.parents[1] / "notebooks"
SLUGS = sorted(file.stem for file in NOTEBOOKS.glob("*.ipynb") if file.stem != "index")
ENTRY = {"key", "value", "tolerance", "why"}
PATH = ("table", "dataset", "setting", "method", "metric", "image", "seed")


def golden(slug: str) -> list[dict[str, Any]]:
    return json.loads((HERE / f"{slug}.json").read_text(encoding="utf-8"))["values"]


def flat(folder: Path) -> dict[str, float | None]:
    """Every number of values.csv under its key; measured times are left out."""
    with (folder / "values.csv").open(newline="", encoding="utf-8") as stream:
        rows = [row for row in csv.DictReader(stream) if row["timed"] not in ("True", "1")]
    found: dict[str, float | None] = {}
    for row in rows:
        key = "|".join(row[name] for name in PATH)
        assert key not in found, f"values.csv has {key} twice"
        found[key] = float(row["value"]) if row["value"] not in ("", "n/a") else None
    return found


def look(results: dict[str, Any], path: str) -> object:
    """The place "claims/name/holds" or "parity/name" in results.json."""
    found: Any = results
    for part in path.split("/"):
        if isinstance(found, list):
            found = next((item for item in found if item.get("name") == part), None)
        else:
            found = found.get(part) if isinstance(found, dict) else None
    return found


def differs(have: object, entry: dict[str, Any]) -> str:
    """What is wrong with a value, or nothing."""
    wanted, tolerance = entry["value"], entry["tolerance"]
    if wanted is None or isinstance(wanted, bool | str) or not isinstance(have, int | float):
        return "" if have == wanted and type(have) is type(wanted) else f"{have!r}, not {wanted!r}"
    if math.isfinite(have) and abs(have - wanted) <= tolerance:
        return ""
    return f"{have}, not {wanted} within {tolerance} ({entry['why']})"


def test_there_are_notebooks() -> None:
    assert SLUGS


@pytest.mark.parametrize("slug", SLUGS)
def test_golden_file_is_well_formed(slug: str) -> None:
    values = golden(slug)
    assert len(values) >= 5
    assert len({entry["key"] for entry in values}) == len(values)
    for entry in values:
        assert set(entry) == ENTRY, entry
        assert entry["tolerance"] >= 0
        assert len(entry["why"]) > 10, f"say why {entry['key']} may differ by {entry['tolerance']}"


@pytest.mark.parametrize("slug", SLUGS)
def test_the_smoke_run_gives_the_golden_values(slug: str, smoke_run: SmokeRun) -> None:
    results = smoke_run(slug)
    values = flat(Path(results["folder"]))
    wrong = []
    for entry in golden(slug):
        key = entry["key"]
        if key.startswith(("claims/", "parity/")):
            have = look(results, key)
        else:
            assert key in values, f"no value {key}; there are\n" + "\n".join(sorted(values)[:40])
            have = values[key]
        if problem := differs(have, entry):
            wrong.append(f"{key}: {problem}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("slug", SLUGS)
def test_a_smoke_run_judges_no_claim(slug: str, smoke_run: SmokeRun) -> None:
    judged = [
        c["name"]
        for c in smoke_run(slug)["claims"]
        if c["by"] == "own training" and c["holds"] is not None
    ]
    assert not judged


@pytest.mark.parametrize(
    ("have", "value", "fine"),
    [
        (27.31, 27.30, True),
        (27.33, 27.30, False),
        (float("nan"), 27.30, False),
        (None, 27.30, False),
        (None, None, True),
        (False, None, False),
        (True, True, True),
        (1.0, True, False),
    ],
)
def test_the_comparison(have: object, value: object, fine: bool) -> None:
    entry = {"key": "k", "value": value, "tolerance": 0.02, "why": "spread over thread counts"}
    assert (differs(have, entry) == "") is fine
