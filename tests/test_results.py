"""What a run leaves behind, when it ends well and when it does not."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from enhancelib import results, runtime
from enhancelib.results import Run, RunError
from tests.disks import full

CPU = runtime.Runtime(torch.device("cpu"), torch.get_num_threads())
KEYS = {
    *("schema", "slug", "profile", "parameters", "tables", "figures", "parity", "claims"),
    *("environment", "seconds"),
}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run("dncnn", "small", {"sigma": 25.0, "seeds": 3}, tmp_path / "run", CPU)


def again(run: Run) -> Run:
    return Run(run.slug, run.profile, run.parameters, run.folder, run.runtime)


def read(run: Run) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run.folder / "results.json").read_text())
    return found


def psnr(run: Run, method: str, value: float, **more: Any) -> None:
    run.record(dataset="Set12", method=method, metric="psnr_8bit", value=value, **more)


# results.json


def test_results_are_absent_until_the_end_and_then_whole(run: Run) -> None:
    psnr(run, "DnCNN-S", 30.43)
    run.table("set12", run.values())
    assert not (run.folder / "results.json").exists()
    assert run.finish() == run.folder / "results.json"
    found = read(run)
    assert set(found) >= KEYS
    assert found["schema"] == 1
    assert found["parameters"] == {"sigma": 25.0, "seeds": 3}
    assert found["tables"] == {"set12": "tables/set12.csv"}
    assert found["environment"]["threads"] == CPU.threads
    assert not list(run.folder.rglob("*.part"))


def test_opening_the_folder_again_withdraws_the_results(run: Run) -> None:
    run.finish()
    second = again(run)
    assert not (run.folder / "results.json").exists()
    second.finish()
    assert (run.folder / "results.json").exists()


def test_what_json_has_no_word_for_becomes_null(run: Run) -> None:
    run.agree("Set12", ours=math.nan, published=30.43, within=0.02, by="official weights")
    run.notes["snr"] = [math.inf, 1.5]
    text = run.finish().read_text()
    assert "NaN" not in text
    assert "Infinity" not in text
    assert read(run)["parity"][0]["ours"] is None
    assert read(run)["notes"]["snr"] == [None, 1.5]


def test_a_full_disk_at_the_end_leaves_no_results_and_loses_no_others(run: Run) -> None:
    run.once("slow", lambda: 42)
    psnr(run, "DnCNN-S", 30.43)
    with full(50), pytest.raises(RunError, match=r"values\.csv cannot be written .*choose another"):
        run.finish()
    assert not (run.folder / "results.json").exists()
    assert not list(run.folder.rglob("*.part"))
    assert run.once("slow", lambda: pytest.fail("it is kept")) == 42
    run.finish()
    assert (run.folder / "results.json").exists()


def test_a_folder_that_cannot_be_written_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for wrong in (Path("/proc/nowhere"), tmp_path / "file" / "run"):
        with pytest.raises(RunError, match=f"the run folder {wrong} cannot be written"):
            Run("dncnn", "smoke", {}, wrong, CPU)


# Numbers


def test_numbers_keep_their_order_their_bits_and_their_words(run: Run) -> None:
    psnr(run, "BM3D", 29.97, image="nan", setting="sigma=25", table="set12")
    psnr(run, "DnCNN-S", 0.1 + 0.2, seed=2)
    run.record(dataset="photos", method="DnCNN-S", metric="seconds", value=1e-17, timed=True)
    psnr(run, "none", math.nan)
    psnr(run, "identity", math.inf)
    run.finish()
    found = results.read_values(run.folder / "values.csv")
    assert tuple(found.columns) == results.COLUMNS
    assert found["value"].tolist()[:3] == [29.97, 0.30000000000000004, 1e-17]
    assert math.isnan(found["value"][3])
    assert found["value"][4] == math.inf
    assert found["image"].tolist() == ["nan", "mean", "mean", "mean", "mean"]
    assert found["seed"].fillna(-1).tolist() == [-1, 2, -1, -1, -1]
    assert found["timed"].tolist() == [False, False, True, False, False]


def test_numbers_of_any_kind_are_recorded_as_floats(run: Run) -> None:
    for value in (True, 3, np.float32(0.5), torch.tensor(0.25)):
        psnr(run, "m", value)  # type: ignore[arg-type]
    assert run.values()["value"].tolist() == [1.0, 3.0, 0.5, 0.25]


def test_values_are_selected_by_column(run: Run) -> None:
    for seed in range(3):
        for method in ("residual", "direct"):
            psnr(run, method, 30.0 + seed, seed=seed, setting="sigma=25")
    assert run.values(method="direct", seed=1)["value"].tolist() == [31.0]
    assert len(run.values(seed=[0, 2])) == 4
    assert len(run.values(setting="sigma=50")) == 0
    with pytest.raises(KeyError, match=r"'sigma' is no column.*it has table, dataset, setting"):
        run.values(sigma=25)


def values(*rows: tuple[str, float, bool]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["method", "value", "timed"])


def test_two_runs_are_the_same_when_all_but_their_times_is() -> None:
    a = values(("m", 0.1, False), ("m", 1.0, True), ("n", math.nan, False))
    assert results.same(a, values(("m", 0.1, False), ("m", 9.0, True), ("n", math.nan, False)))
    assert results.same(a, values(("m", 0.1, False), ("n", math.nan, False)))
    assert not results.same(a, values(("m", math.nextafter(0.1, 1), False), ("n", 0.2, False)))
    assert not results.same(a, values(("n", math.nan, False), ("m", 0.1, False)))
    assert not results.same(a, values(("m", 0.1, False)))
    assert results.same(a[:0], a[:0])
    assert results.same(a.astype({"timed": object}), a.astype({"timed": object}))


def test_finite_tells_a_number_from_what_is_not_available() -> None:
    assert results.finite(0.0)
    assert not results.finite(math.nan)
    assert not results.finite(math.inf)


# Steps that are done once


def test_a_step_is_computed_once_in_the_life_of_the_folder(run: Run) -> None:
    count: Iterator[int] = iter(range(9))

    def slow() -> dict[str, Any]:
        return {"call": next(count), "psnr": 0.1 + 0.2, "names": ["a", None, True]}

    first = run.once("bm3d/Set12", slow)
    second = again(run).once("bm3d/Set12", slow)
    assert first == second == {"call": 0, "psnr": 0.30000000000000004, "names": ["a", None, True]}
    assert run.once("bm3d/BSD68", slow)["call"] == 1


def test_a_step_that_fails_is_not_kept(run: Run) -> None:
    with pytest.raises(ZeroDivisionError):
        run.once("slow", lambda: 1 / 0)
    assert run.once("slow", lambda: 2) == 2


def test_the_first_result_has_the_form_of_every_later_one(run: Run) -> None:
    # JSON turns tuples into lists: a first run must not see what a second one would not
    assert run.once("pair", lambda: (1, 2)) == [1, 2]
    assert run.once("pair", lambda: (1, 2)) == [1, 2]


# Tables, figures, parity, claims


def test_a_table_lies_beside_its_numbers_in_three_forms(run: Run) -> None:
    frame = pd.DataFrame({"method": ["BM3D"], "PSNR": [29.97]})
    assert run.table("set12", frame, note="PSNR of Y") is frame
    folder = run.folder / "tables"
    assert sorted(p.name for p in folder.iterdir()) == ["set12.csv", "set12.md", "set12.tex"]
    assert (folder / "set12.csv").read_text() == "method,PSNR\nBM3D,29.97\n"
    assert (folder / "set12.md").read_text().endswith("| BM3D | 29.97 |\n\nPSNR of Y\n")


def drawn(width: float, size: float, where: str) -> Figure:
    """A figure with a text of some points: a title, or the numbers along an axis."""
    figure = Figure(figsize=(width, 3))
    axes = figure.add_subplot()
    axes.plot([0, 1], [25, 30])
    axes.tick_params(labelsize=size if where == "ticks" else 30)
    axes.set_title("PSNR", fontsize=size if where == "title" else 30)
    return figure


@pytest.mark.parametrize("where", ["title", "ticks"])
@pytest.mark.parametrize(
    ("width", "size", "legible"), [(7, 7, True), (7, 6.9, False), (14, 12, False), (3, 6.9, False)]
)
def test_text_is_at_least_seven_points_in_print(
    run: Run, where: str, width: float, size: float, legible: bool
) -> None:
    figure = drawn(width, size, where)
    if legible:
        assert run.figure("curve", figure).stat().st_size > 1000
        return
    with pytest.raises(ValueError, match=r"figure 'curve': .* pt at 7\.0 inches; at least 7\.0"):
        run.figure("curve", figure)
    assert not (run.folder / "figures" / "curve.png").exists()
    assert run.figures == {}


def test_hidden_and_empty_texts_may_be_small(run: Run) -> None:
    figure = drawn(7, 12, "title")
    figure.text(0, 0, "  ", fontsize=2)
    figure.text(0, 0, "hidden", fontsize=2, visible=False)
    run.figure("curve", figure, photos=["coins"])
    assert run.figures == {"curve": {"file": "figures/curve.png", "photos": ["coins"]}}


def test_a_figure_on_a_full_disk_keeps_the_old_one(run: Run) -> None:
    path = run.figure("curve", drawn(7, 12, "title"))
    before = path.read_bytes()
    with full(1000), pytest.raises(RunError, match=r"curve\.png cannot be written"):
        run.figure("curve", drawn(5, 12, "title"))
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("ours", "agrees"), [(30.43, True), (30.45, True), (30.46, False), (math.nan, False)]
)
def test_parity_is_within_its_tolerance_or_not(run: Run, ours: float, agrees: bool) -> None:
    # 0.02 and a rounding error more: 30.45 - 30.43 is 0.01999...8
    told = run.agree("Set12", ours=ours, published=30.43, within=0.02, by="official weights")
    assert told is agrees
    assert run.parity[0]["agrees"] is agrees


def test_a_claim_keeps_its_verdict_and_its_evidence(run: Run) -> None:
    more: dict[str, Any] = {"margin": 0.2, "test_set": "12 photos", "by": "own training"}
    assert run.claim("r", "Residual wins.", statistic=[0.8, 0.9, 1.0], **more) is True
    assert run.claim("b", "BN helps.", statistic=[-0.8, -0.9, -1.0], **more) is False
    assert run.claim("c", "Both.", statistic=[-0.8, 0.9, 1.0], **more) is None
    assert run.claim("d", "Later.", statistic=None, **more) is None
    run.finish()
    first = read(run)["claims"][0]
    assert set(first) == {"name", "statement", "holds", "evidence", "by"}
    assert first["evidence"].endswith("3 seeds; margin 0.2; on 12 photos")
    assert [claim["holds"] for claim in read(run)["claims"]] == [True, False, None, None]


def test_at_profile_smoke_nothing_is_judged(run: Run) -> None:
    smoke = replace(run, profile="smoke", folder=run.folder / "smoke")
    holds = smoke.claim("r", "R.", statistic=5.0, margin=0.0, test_set="t", by="analysis")
    assert holds is None
    assert smoke.claims[0]["evidence"].startswith("5; margin 0")


# Folders


@dataclass(frozen=True)
class Parameters:
    profile: str = "smoke"
    device: str = "cpu"
    out: str = ""
    sigma: float = 25.0


def test_a_run_is_found_by_its_parameters_whatever_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "root", lambda: tmp_path)
    monkeypatch.chdir("/")
    first = results.open_run("dncnn", Parameters())
    other = results.open_run("dncnn", Parameters(sigma=15.0))
    assert first.folder.parent == other.folder.parent == tmp_path / "runs" / "dncnn"
    assert first.folder.name.startswith("smoke-")
    assert first.folder != other.folder
    assert results.open_run("dncnn", Parameters()).folder == first.folder
    assert first.parameters == {"profile": "smoke", "device": "cpu", "out": "", "sigma": 25.0}


def test_out_takes_the_run_where_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert results.open_run("dncnn", Parameters(out="~/a")).folder == tmp_path / "a"
    assert results.open_run("dncnn", Parameters(out="b")).folder == tmp_path / "b"


def test_where_it_writes_and_how_large_it_is_do_not_change_the_hash() -> None:
    plain = {"sigma": 25.0, "profile": "small", "out": ""}
    name = results.folder_of("dncnn", "small", plain).name
    moved = {**plain, "out": "/elsewhere", "profile": "smoke"}
    assert results.folder_of("dncnn", "small", moved).name == name
    # `printf '{"sigma": 25.0}' | sha256sum`: the names of published runs must not change
    assert name == "small-e11c467b"


def test_a_large_figure_is_stored_in_256_colours(run: Run) -> None:
    # noise does not compress: with 24 bits a pixel this figure would be refused by `publish`
    noise = np.random.default_rng(0).random((700, 700))
    figure = Figure(figsize=(5, 5))
    figure.add_subplot().imshow(noise, cmap="gray", interpolation="nearest")
    path = run.figure("noise", figure)
    with Image.open(path) as picture:
        assert picture.mode == "P"
        levels = np.array(picture.convert("RGB"))
    assert len(np.unique(levels.reshape(-1, 3), axis=0)) > 200
    small = Figure(figsize=(5, 5))
    small.add_subplot().plot([0, 1])
    with Image.open(run.figure("line", small)) as picture:
        assert picture.mode != "P"


def test_a_finished_run_starts_again_with_another_number_of_threads(tmp_path: Path) -> None:
    """`make reproduce` runs with all cores, `make test` with one thread, in the same folder."""
    before = runtime.Runtime(torch.device("cpu"), threads=2)
    first = results.Run("dncnn", "smoke", {}, tmp_path, before)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "main.pt").touch()
    first.finish()
    del first
    results.Run("dncnn", "smoke", {}, tmp_path, runtime.Runtime(torch.device("cpu"), threads=1))
    assert not (tmp_path / "checkpoints").exists()
    assert (tmp_path / "superseded" / "checkpoints" / "main.pt").exists()


def test_an_unfinished_run_keeps_its_checkpoints_whatever_the_threads(tmp_path: Path) -> None:
    results.Run(
        "dncnn", "smoke", {}, tmp_path, runtime.Runtime(torch.device("cpu"), threads=2)
    ).record(dataset="a", method="m", metric="psnr", value=1.0)
    (tmp_path / "checkpoints").mkdir()
    results.Run("dncnn", "smoke", {}, tmp_path, runtime.Runtime(torch.device("cpu"), threads=1))
    assert (tmp_path / "checkpoints").exists()


def test_a_folder_given_to_other_parameters_starts_again(tmp_path: Path) -> None:
    def opened(**parameters: object) -> Run:
        return Run("x", "small", {"w_tv": 400.0, "out": "a", **parameters}, tmp_path, CPU)

    def once(run: Run, value: int) -> int:
        found: int = run.once("score", lambda: value)
        run._lock.close()
        return found

    assert once(opened(), 1) == 1
    assert once(opened(out="b", hours=2.0, tables="all"), 2) == 1  # how much of it, and where
    assert once(opened(w_tv=0.0), 3) == 3
