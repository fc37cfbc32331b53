"""From runs to what the repository shows: `publish` copies a run to figures/, `status` reads them.

Only `publish` writes to figures/. It takes a run made from a clean tree with the profile's own
parameters, and leaves out what may not be shown.
"""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from collections.abc import Sequence, Set
from dataclasses import MISSING, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from enhancelib import papers, photos, results, runtime, tables

if TYPE_CHECKING:
    import pandas as pd

FREE = ("profile", "tables", "data_root", "weights", "out", "device", "hours")
LARGEST_PNG = 300_000
LARGEST_NOTEBOOK = 1_500_000
_LARGE = 60_000  # bytes of an embedded PNG from which on a JPEG of it is tried
BEGIN, END = "<!-- status:begin -->", "<!-- status:end -->"
COLUMNS = (
    "paper", "profile", "judged by", "held", "not held", "not judged", "parity", "date", "commit",
    "commits since",
)  # fmt: skip


class PublishError(ValueError):
    """A run cannot be published."""


def read_results(run: str | Path) -> dict[str, Any]:
    """results.json of a run that went through.

    Args:
        run: The run folder, or results.json itself.

    Returns:
        Its contents.

    Raises:
        PublishError: If it is missing, torn or of another schema.

    Example:
        >>> read_results("/nowhere")
        Traceback (most recent call last):
        enhancelib.publishing.PublishError: /nowhere holds no results.json: the run has not ...
    """
    path = Path(run)
    path = path if path.suffix == ".json" else path / "results.json"
    if not path.is_file():
        raise PublishError(
            f"{path.parent} holds no results.json: the run has not ended, or it is no run folder; "
            "start it again with the same command and it goes on where it stopped"
        )
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise PublishError(f"{path} is not valid JSON ({error}); rerun the notebook") from error
    schema = found.get("schema") if isinstance(found, dict) else None
    if schema != results.SCHEMA:
        raise PublishError(f"{path} has schema {schema}; this version reads {results.SCHEMA}")
    return cast(dict[str, Any], found)


def publish(run: str | Path) -> Path:
    """Copy what a run may show to figures/<slug>/<profile>[-<data>]/.

    Args:
        run: The run folder.

    Returns:
        The folder under figures/.

    Raises:
        PublishError: If the tree was or is dirty, a parameter differs from the profile's (tables,
            data_root, weights and device aside), or a file is missing or larger than allowed.

    Example:
        >>> publish("/nowhere")
        Traceback (most recent call last):
        enhancelib.publishing.PublishError: /nowhere holds no results.json: the run has not ...
    """
    found = read_results(run)
    source = Path(run).parent if Path(run).suffix == ".json" else Path(run)
    _insist_clean(found)
    _insist_own_parameters(found)
    figures = found["figures"]
    shown = {name: figure for name, figure in figures.items() if _allowed(figure["photos"])}
    files = ["values.csv", *_table_files(found), *(figure["file"] for figure in shown.values())]
    for name in files:
        _insist_fit(source / name)
    folder = runtime.root() / "figures" / str(found["slug"]) / _label(found)
    fresh = folder.with_name(folder.name + ".part")
    shutil.rmtree(fresh, ignore_errors=True)  # of a call that was killed
    try:
        for name in files:
            (fresh / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / name, fresh / name)
        document = _notebook(source / "notebook.ipynb", left_out=set(figures) - set(shown))
        results.write_text(fresh / "notebook.ipynb", document)
        text = json.dumps({**found, "figures": shown}, indent=1) + "\n"
        results.write_text(fresh / "results.json", text)
        _replace(folder, fresh)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return folder


def _label(found: dict[str, Any]) -> str:
    """small, or small-real where the data were the user's."""
    data = found["notes"].get("data_label") or ("real" if found["parameters"]["data_root"] else "")
    return "-".join(filter(None, [found["profile"], data]))


def _replace(folder: Path, fresh: Path) -> None:
    """Put a folder in the place of another by two renames; what a kill leaves, git can undo."""
    old = folder.with_name(folder.name + ".old.part")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.replace(old)
    fresh.replace(folder)
    shutil.rmtree(old, ignore_errors=True)


def _insist_clean(found: dict[str, Any]) -> None:
    if found["environment"]["dirty"]:
        raise PublishError(
            "the run was made from a tree with uncommitted changes, so no commit gives it back; "
            "commit, then rerun"
        )
    if runtime.commit()[1]:
        raise PublishError("the tree has uncommitted changes; commit or put them away first")


def _insist_own_parameters(found: dict[str, Any]) -> None:
    for field in fields(papers.load(found["slug"]).parameters):
        seen = found["parameters"].get(field.name, MISSING)
        if field.name not in FREE and seen != field.default:
            raise PublishError(
                f"{field.name} is {seen!r}, profile {found['profile']!r} has {field.default!r}; "
                "only a profile's own parameters are published"
            )


def _allowed(names: Sequence[str]) -> bool:
    listed = {photo.name: photo for photo in photos.catalogue()}
    return all(name in listed and listed[name].publishable for name in names)


def _table_files(found: dict[str, Any]) -> list[str]:
    stems = [name.removesuffix(".csv") for name in found["tables"].values()]
    return [f"{stem}.{suffix}" for stem in stems for suffix in ("csv", "md", "tex")]


def _insist_fit(path: Path) -> None:
    if not path.is_file():
        raise PublishError(f"{path} is missing; start the run again with the same command")
    if path.suffix == ".png" and path.stat().st_size > LARGEST_PNG:
        raise PublishError(
            f"{path} has {path.stat().st_size // 1000} kB; at most {LARGEST_PNG // 1000} kB are "
            "published: show smaller crops"
        )


def _notebook(path: Path, *, left_out: Set[str]) -> str:
    """The executed notebook without pairing and widget state, which mean nothing in a copy.

    Where a figure is left out, only pictures that carry the name of another one stay. Large
    pictures become JPEG, for the PNG of every figure lies beside the notebook.
    """
    if not path.is_file():
        raise PublishError(f"{path} is missing; run the notebook with `enhancelib run`")
    document = json.loads(path.read_text(encoding="utf-8"))
    for key in ("jupytext", "widgets"):
        document["metadata"].pop(key, None)
    for output in _outputs(document):
        data, name = output["data"], output["metadata"].get("enhancelib", {}).get("figure", "")
        data.pop("application/vnd.jupyter.widget-view+json", None)  # the fallback beside it stays
        unknown = left_out and (not name or name in left_out)
        if unknown and any(kind.startswith("image/") for kind in data):
            data.clear()
            data["text/plain"] = "(picture left out: not all photos may be shown)"
        if "image/png" in data and (lean := _jpeg(data["image/png"])):
            del data["image/png"]
            data["image/jpeg"] = lean
        html = "".join(data.get("text/html", ""))
        if (lean := _EMBEDDED.sub(_lean, html)) != html:  # stills of panels
            data["text/html"] = lean
    text = json.dumps(document, indent=1) + "\n"
    if len(text) > LARGEST_NOTEBOOK:
        raise PublishError(
            f"{path} has {len(text) // 1000} kB; at most {LARGEST_NOTEBOOK // 1000} kB are "
            "published: show smaller or fewer pictures"
        )
    return text


_EMBEDDED = re.compile(r"data:image/png;base64,([A-Za-z0-9+/=]+)")


def _lean(found: re.Match[str]) -> str:
    lean = _jpeg(found[1])
    return f"data:image/jpeg;base64,{lean}" if lean else found[0]


def _jpeg(png: str) -> str:
    """A large PNG as JPEG, both in base64; "" where that is not smaller."""
    from PIL import Image

    if len(png) < _LARGE:
        return ""
    made = io.BytesIO()
    with Image.open(io.BytesIO(base64.b64decode(png))) as picture:
        picture.convert("RGB").save(made, "JPEG", quality=90, optimize=True)
    lean = base64.b64encode(made.getvalue()).decode("ascii")
    return lean if len(lean) < len(png) else ""


def _outputs(document: dict[str, Any]) -> list[dict[str, Any]]:
    outputs = [output for cell in document["cells"] for output in cell.get("outputs", [])]
    return [output for output in outputs if "data" in output]


def status() -> pd.DataFrame:
    """What has been published: one row per paper, profile and kind of evidence.

    Returns:
        A frame with COLUMNS; "commits since" counts commits that touched enhancelib/ or the
        notebook after the result's commit.
    """
    import pandas as pd

    rows = [row for path in _published() for row in _rows(read_results(path))]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _published() -> list[Path]:
    found = (runtime.root() / "figures").glob("*/*/results.json")
    return sorted(path for path in found if path.parent.suffix != ".part")


def _rows(found: dict[str, Any]) -> list[tuple[object, ...]]:
    commit = found["environment"]["commit"]
    tail = (found["date"], commit[:8], runtime.commits_since(commit, found["slug"]))
    rows = []
    for by in dict.fromkeys(row["by"] for row in (*found["claims"], *found["parity"])):
        holds = [claim["holds"] for claim in found["claims"] if claim["by"] == by]
        agreed = [row["agrees"] for row in found["parity"] if row["by"] == by]
        parity = f"{sum(agreed)} of {len(agreed)} within tolerance" if agreed else "none"
        counts = [sum(h is wanted for h in holds) for wanted in (True, False, None)]
        rows.append((found["slug"], _label(found), by, *counts, parity, *tail))
    return rows


def section() -> str:
    """The README's section on published results, generated.

    Returns:
        Markdown: the status table, then for every published run a part to unfold, with its claims
        and their evidence.
    """
    frame = status()
    if frame.empty:
        return "No results published yet."
    parts = [tables.forms(frame)["md"]]
    for path in _published():
        title, found = path.parent.relative_to(runtime.root()).as_posix(), read_results(path)
        parts += [f"<details><summary>{title}: {_counted(found)}</summary>\n", *_judged(found)]
        parts += ["\n</details>\n"]
    return "\n".join(parts).strip()


MARKS = {True: "held", False: "**not held**", None: "not judged"}


def _counted(found: dict[str, Any]) -> str:
    holds = [claim["holds"] for claim in found["claims"]]
    counts = [f"{sum(h is one for h in holds)} {name.strip('*')}" for one, name in MARKS.items()]
    if agreed := [row["agrees"] for row in found["parity"]]:
        counts.append(f"parity {sum(agreed)} of {len(agreed)}")
    return ", ".join(counts)


def _judged(found: dict[str, Any]) -> list[str]:
    lines = [
        f"- {MARKS[claim['holds']]} ({claim['by']}): {claim['statement']} {claim['evidence']}."
        for claim in found["claims"]
    ]
    if found["profile"] == "smoke":  # its evidence is that of a few steps, and would mislead
        lines = ["- Profile smoke judges no claim."]
    lines += [
        f"- parity ({row['by']}): {row['name']}: {row['ours']:.3f}, published "
        f"{row['published']:.3f}, tolerance {row['within']:g}"
        for row in found["parity"]
    ]
    return lines


def write_section(readme: Path) -> bool:
    """Bring the README's generated section up to date.

    Args:
        readme: Holds the two markers.

    Returns:
        Whether anything changed.

    Raises:
        PublishError: If a marker is missing.

    Example:
        >>> import tempfile
        >>> write_section(Path(tempfile.mkstemp()[1]))
        Traceback (most recent call last):
        enhancelib.publishing.PublishError: ... has no <!-- status:begin --> ... <!-- status:end -->
    """
    text = readme.read_text(encoding="utf-8")
    start, end = text.find(BEGIN), text.find(END)
    if start < 0 or end < start:
        raise PublishError(f"{readme} has no {BEGIN} ... {END}")
    fresh = f"{text[: start + len(BEGIN)]}\n{section()}\n{text[end:]}"
    if fresh != text:
        results.write_text(readme, fresh)
    return fresh != text


def timeless(section: str) -> str:
    """A section without its last column, which every later commit changes.

    Args:
        section: What `section` gave, now or then.

    Returns:
        The text with the numbers of commits since left out.
    """
    return re.sub(r"(\| [0-9a-f]{8} \|) [^|]* \|", r"\1", section)
