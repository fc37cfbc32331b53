"""What leaves runs/ for figures/, and what the README says of it; in a real git repository."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
import skimage.data
from matplotlib.figure import Figure
from PIL import Image

from enhancelib import photos, publishing, results, runtime
from enhancelib.papers.dncnn.settings import Parameters
from enhancelib.publishing import BEGIN, END, PublishError, publish

ROOT = Path(__file__).parent.parent
SMALL = Parameters(profile="small")
WIDGET = "application/vnd.jupyter.widget-view+json"
README = f"# Project\n\n{BEGIN}\nold\n{END}\n\nThe end.\n"
Make = Callable[..., Path]


def git(folder: Path, *words: str) -> str:
    identity = ("-c", "user.name=Tester", "-c", "user.email=tester@localhost")
    return subprocess.run(
        ["git", *identity, *words], cwd=folder, capture_output=True, text=True, check=True
    ).stdout.strip()


def commit(folder: Path, file: str, text: str) -> str:
    path = folder / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "-m", f"change {file}")
    return git(folder, "rev-parse", "HEAD")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project under git with one commit; `runtime.root` is its folder."""
    git(tmp_path, "init", "--quiet")
    (tmp_path / "data").mkdir()
    shutil.copy(ROOT / "data" / "photos.csv", tmp_path / "data")
    shutil.copy(ROOT / ".gitignore", tmp_path)
    (tmp_path / "enhancelib").mkdir()
    (tmp_path / "enhancelib" / "a.py").write_text("A = 1\n")
    commit(tmp_path, "README.md", README)
    monkeypatch.setattr(runtime, "root", lambda: tmp_path)
    return tmp_path


def figure(noise: int = 0) -> Figure:
    """A few kilobytes, or as many pixels of noise as no PNG makes small."""
    made = Figure(figsize=(4, 4))
    axes = made.add_axes((0, 0, 1, 1))
    axes.imshow(np.random.default_rng(0).random((max(noise, 2), max(noise, 2), 3)))
    return made


def notebook(path: Path, *, characters: int = 10) -> None:
    """An executed notebook, as papermill leaves it: paired, with widgets, a picture and text."""
    made = nbformat.v4.new_notebook()
    made.metadata = {
        "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
        "jupytext": {"formats": "ipynb,py:percent"},
        "widgets": {"application/vnd.jupyter.widget-state+json": {"state": {"a": "b" * 100}}},
    }
    picture = {"image/png": "iVBORw0KGgo=", "text/plain": "<Figure>"}
    panel = {WIDGET: {"model_id": "a"}, "text/html": "<b>a still</b>"}
    outputs = [
        nbformat.v4.new_output("display_data", data=picture),
        nbformat.v4.new_output("stream", text="x" * characters),
        nbformat.v4.new_output("display_data", data=panel),
    ]
    made.cells = [
        nbformat.v4.new_markdown_cell("# A"),
        nbformat.v4.new_code_cell("figure()", outputs=outputs, execution_count=1),
    ]
    nbformat.write(made, path)


@pytest.fixture
def make(project: Path) -> Make:
    """`make(parameters)` is a run folder as `enhancelib run` leaves it."""

    def run(
        p: Parameters = SMALL, *, noise: int = 0, shown: str = "astronaut", notes: Any = ()
    ) -> Path:
        folder = project / "runs" / "dncnn" / "some"
        made = results.Run("dncnn", p.profile, asdict(p), folder, runtime.setup("cpu"))
        made.record(dataset="photos", method="DnCNN", metric="psnr_8bit", value=30.0, seed=0)
        made.table("denoising", made.values())
        made.figure("crops", figure(noise), photos=[shown])
        made.figure("curves", figure())
        by = {"test_set": "photos", "margin": 0.1}
        made.claim("a", "A holds.", statistic=[1.0, 1.1, 1.2], by="own training", **by)
        made.claim("b", "B does not.", statistic=[-1.0, -1.1, -1.2], by="own training", **by)
        made.claim("c", "C is open.", statistic=None, by="own training", **by)
        made.claim("d", "D counts.", statistic=1.0, by="analysis", **by)
        made.agree("Set12, dB", ours=30.43, published=30.44, within=0.02, by="official weights")
        made.agree("BSD68, dB", ours=29.0, published=29.23, within=0.02, by="official weights")
        made.notes.update(notes)
        made.finish()
        notebook(folder / "notebook.ipynb")
        return folder

    return run


def contents(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def change(folder: Path, **places: object) -> None:
    """Another value at the top of results.json."""
    file = folder / "results.json"
    found = json.loads(file.read_text())
    file.write_text(json.dumps({**found, **places}))


# What is copied.


def test_a_run_is_copied_to_its_place(project: Path, make: Make) -> None:
    run = make()
    folder = publish(run)
    assert folder == project / "figures" / "dncnn" / "small"
    copied = contents(folder)
    assert set(copied) == {
        "results.json",
        "values.csv",
        "notebook.ipynb",
        "tables/denoising.csv",
        "tables/denoising.md",
        "tables/denoising.tex",
        "figures/crops.png",
        "figures/curves.png",
    }
    there = contents(run)
    for name in set(copied) - {"results.json", "notebook.ipynb"}:
        assert copied[name] == there[name], name
    assert json.loads(copied["results.json"]) == json.loads(there["results.json"])
    assert [path.name for path in (project / "figures" / "dncnn").iterdir()] == ["small"]


def test_results_json_itself_names_its_run(make: Make) -> None:
    run = make()
    assert publish(run / "results.json") == publish(run)


def test_the_notebook_loses_pairing_and_widgets_and_nothing_else(make: Make) -> None:
    run = make()
    copied = json.loads((publish(run) / "notebook.ipynb").read_text())
    there = json.loads((run / "notebook.ipynb").read_text())
    assert set(there["metadata"]) - set(copied["metadata"]) == {"jupytext", "widgets"}
    # without its state a widget would show an error where its fallback could be seen
    assert there["cells"][1]["outputs"][2]["data"].pop(WIDGET)
    assert copied["cells"] == there["cells"]
    assert "image/png" in copied["cells"][1]["outputs"][0]["data"]


def test_data_of_the_users_go_to_a_place_of_their_own(project: Path, make: Make) -> None:
    p = replace(SMALL, data_root="/data/sets", weights="/data/w.npz", tables="all", device="cpu")
    label = {"data_label": "bsd", "inputs": {"Set12": "ab12"}}
    assert publish(make(p, notes=label)) == project / "figures" / "dncnn" / "small-bsd"
    assert publish(make(p)) == project / "figures" / "dncnn" / "small-real"


def test_a_later_run_takes_the_place_of_an_older_one_whole(project: Path, make: Make) -> None:
    folder = publish(make())
    (folder / "tables" / "older.csv").write_text("of the older run")
    (folder.with_name("small.part") / "rest").mkdir(parents=True)  # of a publish that was killed
    (folder.with_name("small.old.part")).mkdir()
    publish(make())
    assert "tables/older.csv" not in contents(folder)
    assert [path.name for path in folder.parent.iterdir()] == ["small"]


# What is refused.


def refusal(run: Path) -> str:
    """Why a run is not published; the older publication, and nothing else, is there after it."""
    place = runtime.root() / "figures"
    before = contents(place)
    with pytest.raises(PublishError) as caught:
        publish(run)
    assert contents(place) == before
    assert not list(place.glob("*/*.part"))
    return str(caught.value)


def test_uncommitted_changes_are_refused(project: Path, make: Make) -> None:
    run = make()
    (project / "enhancelib" / "a.py").write_text("A = 2\n")
    assert refusal(run).startswith("the tree has uncommitted changes")
    commit(project, "enhancelib/a.py", "A = 2\n")
    publish(run)


@pytest.mark.parametrize("place", ["enhancelib/new.py", "notebooks/new.ipynb"])
def test_code_that_git_does_not_know_is_refused(project: Path, make: Make, place: str) -> None:
    run = make()
    (project / place).parent.mkdir(exist_ok=True)
    (project / place).write_text("")
    assert refusal(run).startswith("the tree has uncommitted changes")


def test_a_note_that_git_does_not_know_does_no_harm(project: Path, make: Make) -> None:
    (project / "todo.txt").write_text("")
    publish(make())


def test_a_run_from_a_changed_tree_is_refused(project: Path, make: Make) -> None:
    (project / "enhancelib" / "a.py").write_text("A = 2\n")
    run = make()
    git(project, "checkout", "--quiet", "--", ".")
    assert refusal(run).startswith("the run was made from a tree with uncommitted changes")


@pytest.mark.parametrize(
    ("foreign", "reason"),
    [
        ({"sigma": 50.0}, "sigma is 50.0, profile 'small' has 25.0; only a profile's own"),
        ({"seed": 1}, "seed is 1, profile 'small' has 0"),
        ({"seeds": 5}, "seeds is 5, profile 'small' has 3"),
        ({"steps": 10}, "steps is 10, profile 'small' has 0"),
        ({"recipe": "paper"}, "recipe is 'paper', profile 'small' has 'profile'"),
    ],
)
def test_parameters_of_ones_own_are_refused(
    make: Make, foreign: dict[str, Any], reason: str
) -> None:
    assert refusal(make(replace(SMALL, **foreign))).startswith(reason)


def test_a_large_figure_is_refused(make: Make) -> None:
    publish(make())
    run = make(noise=600)
    size = (run / "figures" / "crops.png").stat().st_size
    assert size > publishing.LARGEST_PNG
    said = refusal(run)
    assert f"crops.png has {size // 1000} kB; at most 300 kB are published" in said


def test_a_large_notebook_is_refused(make: Make) -> None:
    publish(make())
    run = make()
    notebook(run / "notebook.ipynb", characters=1_600_000)
    assert "notebook.ipynb has 1600 kB; at most 1500 kB are published" in refusal(run)


def embedded(picture: Any, quality: str = "PNG") -> str:
    made = io.BytesIO()
    Image.fromarray(picture).save(made, quality)
    return base64.b64encode(made.getvalue()).decode()


def test_large_pictures_become_jpeg_and_small_ones_stay(make: Make) -> None:
    run = make()
    large, small = embedded(skimage.data.astronaut()), embedded(skimage.data.astronaut()[:64, :64])
    document = json.loads((run / "notebook.ipynb").read_text())
    cell = document["cells"][1]
    still = f'<b>a still</b><img src="data:image/png;base64,{large}">'
    for output, data in zip(
        (cell["outputs"][0], cell["outputs"][2]),
        ({"image/png": large, "text/plain": "<Figure>"}, {"text/html": [still, "<i>end</i>"]}),
        strict=True,
    ):
        output["data"] = data
    cell["outputs"].append({**cell["outputs"][0], "data": {"image/png": small}})
    (run / "notebook.ipynb").write_text(json.dumps(document))
    outputs = json.loads((publish(run) / "notebook.ipynb").read_text())["cells"][1]["outputs"]
    assert set(outputs[0]["data"]) == {"image/jpeg", "text/plain"}
    html = "".join(outputs[2]["data"]["text/html"])
    assert html.startswith('<b>a still</b><img src="data:image/jpeg;base64,')
    assert html.endswith('"><i>end</i>')
    for lean in (outputs[0]["data"]["image/jpeg"], html.split("base64,")[1].split('"')[0]):
        assert len(lean) < 0.5 * len(large)
        with Image.open(io.BytesIO(base64.b64decode(lean))) as picture:
            gap = np.abs(np.asarray(picture).astype(float) - skimage.data.astronaut())
        assert gap.mean() < 4
    assert outputs[3]["data"] == {"image/png": small}


@pytest.mark.parametrize(
    "name", ["values.csv", "notebook.ipynb", "tables/denoising.tex", "figures/curves.png"]
)
def test_a_missing_file_is_named(make: Make, name: str) -> None:
    publish(make())
    run = make()
    (run / name).unlink()
    assert f"{name} is missing; " in refusal(run)


def test_what_is_no_finished_run_is_refused(project: Path, make: Make) -> None:
    run = make()
    change(run, schema=7)
    assert refusal(run).endswith("results.json has schema 7; this version reads 1")
    (run / "results.json").write_bytes(b"\xff\xfe")
    assert "is not valid JSON" in refusal(run)
    (run / "results.json").unlink()
    assert f"{run} holds no results.json: the run has not ended" in refusal(run)


# Pictures that may not be shown.

RESTRICTED = [photo.name for photo in photos.catalogue() if not photo.publishable]


@pytest.mark.parametrize("shown", ["Set12/01", *RESTRICTED[:1]])
def test_a_figure_with_a_photo_that_may_not_be_shown_stays_behind(make: Make, shown: str) -> None:
    folder = publish(make(shown=shown))
    assert "figures/crops.png" not in contents(folder)
    assert "figures/curves.png" in contents(folder)
    assert list(json.loads((folder / "results.json").read_text())["figures"]) == ["curves"]
    # nor does the notebook show it, whichever of its cells that was
    cell = json.loads((folder / "notebook.ipynb").read_text())["cells"][1]
    assert list(cell["outputs"][0]["data"]) == ["text/plain"]
    assert "picture left out" in cell["outputs"][0]["data"]["text/plain"]
    assert cell["outputs"][1]["text"] == ["x" * 10]


@pytest.mark.parametrize(("name", "kept"), [("curves", True), ("crops", False), ("", False)])
def test_the_notebook_keeps_pictures_that_say_which_figure_they_are(
    make: Make, name: str, kept: bool
) -> None:
    run = make(shown="Set12/01")  # crops is left out, curves is not
    document = json.loads((run / "notebook.ipynb").read_text())
    signed = {"enhancelib": {"figure": name}} if name else {}
    document["cells"][1]["outputs"][0]["metadata"] = signed
    (run / "notebook.ipynb").write_text(json.dumps(document))
    cell = json.loads((publish(run) / "notebook.ipynb").read_text())["cells"][1]
    assert ("image/png" in cell["outputs"][0]["data"]) is kept


def test_a_figure_in_a_notebook_carries_its_name(tmp_path: Path) -> None:
    from IPython.core.formatters import DisplayFormatter
    from matplotlib.figure import Figure

    run = results.Run("x", "smoke", {}, tmp_path, runtime.setup("cpu"))
    figure = Figure(figsize=(3, 2))
    run.figure("curves", figure)
    _, metadata = DisplayFormatter().format(figure)
    assert metadata["enhancelib"] == {"figure": "curves"}


def test_a_figure_that_stays_behind_may_be_large(make: Make) -> None:
    publish(make(noise=600, shown="Set12/01"))


# Status.


def test_without_results_there_is_nothing_to_tell(project: Path) -> None:
    assert publishing.status().empty
    assert list(publishing.status().columns) == list(publishing.COLUMNS)
    assert publishing.section() == "No results published yet."


def test_status_counts_claims_by_what_judged_them(project: Path, make: Make) -> None:
    publish(make())
    head = git(project, "rev-parse", "HEAD")[:8]
    date = json.loads((project / "figures/dncnn/small/results.json").read_text())["date"]
    rows = publishing.status().values.tolist()
    tail = [date, head, 0]
    assert rows == [
        ["dncnn", "small", "own training", 1, 1, 1, "none", *tail],
        ["dncnn", "small", "analysis", 1, 0, 0, "none", *tail],
        ["dncnn", "small", "official weights", 0, 0, 0, "1 of 2 within tolerance", *tail],
    ]


def test_a_smoke_run_has_judged_nothing(make: Make) -> None:
    publish(make(Parameters()))
    frame = publishing.status()
    assert frame["held"].tolist() == frame["not held"].tolist() == [0, 0, 0]
    assert frame["not judged"].tolist() == [3, 1, 0]


def test_commits_since_are_those_that_touched_the_library_or_the_notebook(
    project: Path, make: Make
) -> None:
    publish(make())
    commit(project, "figures/note.txt", "published")
    commit(project, "notebooks/other.py", "of another paper")
    assert set(publishing.status()["commits since"]) == {0}
    commit(project, "enhancelib/a.py", "A = 2\n")
    commit(project, "notebooks/dncnn.py", "of this paper")
    assert set(publishing.status()["commits since"]) == {2}


def test_a_commit_that_the_history_does_not_hold(project: Path, make: Make) -> None:
    publish(make())
    folder = project / "figures" / "dncnn" / "small"
    environment = json.loads((folder / "results.json").read_text())["environment"]
    change(folder, environment={**environment, "commit": "0" * 40})
    assert set(publishing.status()["commits since"]) == {"n/a"}


def test_a_folder_that_a_killed_publish_left_is_no_result(project: Path, make: Make) -> None:
    folder = publish(make())
    shutil.copytree(folder, folder.with_name("small.old.part"))
    assert set(publishing.status()["profile"]) == {"small"}


# The README.


def test_the_section_names_every_claim_with_its_evidence(make: Make) -> None:
    publish(make())
    lines = publishing.section().splitlines()
    assert lines[0] == "| " + " | ".join(publishing.COLUMNS) + " |"
    counts = "2 held, 1 not held, 1 not judged, parity 1 of 2"
    assert f"<details><summary>figures/dncnn/small: {counts}</summary>" in lines
    assert "</details>" in lines
    held = "- held (own training): A holds. mean +1.100, 95 % interval"
    assert any(line.startswith(held) for line in lines)
    assert any(line.startswith("- **not held** (own training): B does not. mean") for line in lines)
    assert any(line.startswith("- not judged (own training): C is open. not m") for line in lines)
    parity = "- parity (official weights): Set12, dB: 30.430, published 30.440, tolerance 0.02"
    assert parity in lines


def test_the_section_does_not_repeat_what_smoke_measured(make: Make) -> None:
    publish(make(Parameters()))
    section = publishing.section()
    assert "- Profile smoke judges no claim." in section
    assert "A holds" not in section
    assert "- parity (official weights): Set12, dB" in section


def test_the_section_is_written_between_its_markers(project: Path, make: Make) -> None:
    readme = project / "README.md"
    assert publishing.write_section(readme)
    assert readme.read_text() == README.replace("old", "No results published yet.")
    assert not publishing.write_section(readme)
    git(project, "commit", "--quiet", "--all", "-m", "status")
    publish(make())
    assert publishing.write_section(readme)
    text = readme.read_text()
    assert text.startswith("# Project\n")
    assert text.endswith(f"{END}\n\nThe end.\n")
    assert publishing.section() in text


@pytest.mark.parametrize("text", ["", f"{BEGIN}\n", f"{END}\n{BEGIN}\n"])
def test_a_readme_without_markers_is_left_alone(project: Path, text: str) -> None:
    readme = project / "README.md"
    readme.write_text(text)
    with pytest.raises(PublishError, match=r"README.md has no <!-- status:begin"):
        publishing.write_section(readme)
    assert readme.read_text() == text


def test_only_the_commits_since_are_left_out_of_a_comparison(project: Path, make: Make) -> None:
    publish(make())
    before = publishing.section()
    commit(project, "enhancelib/a.py", "A = 2\n")
    after = publishing.section()
    assert before != after
    assert publishing.timeless(before) == publishing.timeless(after)
    folder = project / "figures" / "dncnn" / "small"
    change(folder, date="2001-01-01")
    assert publishing.timeless(publishing.section()) != publishing.timeless(after)


# This repository.


def stated() -> str:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return text.partition(BEGIN)[2].partition(END)[0].strip()


def since(section: str) -> list[int]:
    """The last column of the status table, without those that the history does not tell."""
    cells = re.findall(r"^\|.*\| [0-9a-f]{8} \| ([^|]*) \|$", section, re.MULTILINE)
    return [int(cell) for cell in cells if cell != "n/a"]


def test_the_readme_of_this_repository_is_not_stale() -> None:
    live = publishing.section()
    advice = "run `enhancelib status --write`"
    assert publishing.timeless(stated()) == publishing.timeless(live), advice
    if len(since(live)) == len(since(stated())):  # else the history is a shallow one
        pairs = zip(since(stated()), since(live), strict=True)
        assert all(then <= now for then, now in pairs), advice


def test_what_this_repository_shows_was_let_through() -> None:
    for file in (ROOT / "figures").rglob("*"):
        assert file.suffix != ".part", "a publish was killed here; run it again"
        if file.suffix == ".png":
            assert file.stat().st_size <= publishing.LARGEST_PNG, file
        if file.name == "results.json":
            found = publishing.read_results(file)
            assert not found["environment"]["dirty"], file
            for shown in found["figures"].values():
                assert (file.parent / shown["file"]).is_file(), shown
        if file.suffix == ".ipynb":
            assert file.stat().st_size <= publishing.LARGEST_NOTEBOOK, file
            assert not {"jupytext", "widgets"} & set(json.loads(file.read_text())["metadata"])
