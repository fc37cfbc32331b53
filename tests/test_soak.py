"""The soak itself: it must notice what it looks for, and kill what it says it kills."""

from __future__ import annotations

import os
import random
import shutil
import sys
import time
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest
import torch

from enhancelib import runtime
from enhancelib.checkpoints import save_atomically
from enhancelib.results import Run
from tests import soak
from tests.soak import Death, Soak, Stage
from tests.starts import SoakError, Start, finish

ORDER = [
    Stage(name, 100, 1.0, 10.0)
    for name in (
        "main-seed0",
        *(
            f"arm-rl{rl}-bn0-adam-s{s}-seed{k}"
            for rl in (0, 1)
            for s in ("5", "blind")
            for k in (0, 1)
        ),
        "three-seed0",
    )
]
# A shell that starts a child in a session of its own, as jupyter_client starts kernels.
FAMILY = """
import subprocess, sys, time
code = "import time; print('up', flush=True); time.sleep(600)"
subprocess.Popen([sys.executable, "-c", code], start_new_session=True).wait()
"""


def write(folder: Path, stage: str, index: int, weight: float = 1.0) -> None:
    parts = {"network": {"w": torch.full((3,), weight)}}
    state = {"parts": parts, "index": index, "history": {"seconds": 2.0}}
    save_atomically(state, folder / "checkpoints" / f"{stage}.pt")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A finished run of three stages."""
    run = Run("arms", "smoke", {}, tmp_path / "one", runtime.Runtime(torch.device("cpu"), 1))
    for stage in ("main-seed0", "arm-rl1-bn0-adam-s25-seed0", "arm-rl1-bn0-adam-s25-seed1"):
        write(run.folder, stage, 100)
    run.record(dataset="d", method="m", metric="psnr", value=0.1 + 0.2)
    run.record(dataset="d", method="m", metric="seconds", value=1.0, timed=True)
    run.finish()
    return run.folder


def death(stage: Stage, *parts: str) -> Death:
    return Death(1.0, stage, stage.name, 4, 100, parts)


# Plans


def test_stages_come_back_in_the_order_in_which_they_ended(run: Path) -> None:
    found = soak.stages(run)
    assert [s.name for s in found] == [
        "main-seed0",
        "arm-rl1-bn0-adam-s25-seed0",
        "arm-rl1-bn0-adam-s25-seed1",
    ]
    assert [(s.steps, s.seconds) for s in found] == [(100, 2.0)] * 3
    assert soak.threads(run) == 1


def test_a_kind_is_an_arm_without_level_and_seed() -> None:
    assert [s.kind for s in ORDER[:3]] == ["main", "arm-rl0-bn0-adam", "arm-rl0-bn0-adam"]
    assert {s.kind for s in ORDER} == {"main", "arm-rl0-bn0-adam", "arm-rl1-bn0-adam", "three"}


@pytest.mark.parametrize("seed", range(20))
def test_kills_in_plan_reach_every_kind_and_never_go_back(seed: int) -> None:
    rng, remaining, unhit, left = random.Random(seed), list(ORDER), {s.kind for s in ORDER}, 10
    while left:
        target = soak.choose(remaining, unhit, left, rng)
        remaining = remaining[remaining.index(target) :]
        unhit.discard(target.kind)
        left -= 1
    assert not unhit


def test_the_moments_depend_on_the_seed() -> None:
    first = {soak.choose(ORDER, set(), 3, random.Random(seed)).name for seed in range(30)}
    assert len(first) > 4


# Where a run stands


def test_a_run_in_the_middle_of_its_second_stage(tmp_path: Path) -> None:
    write(tmp_path, ORDER[0].name, 100)
    write(tmp_path, ORDER[1].name, 40)
    before = time.time_ns() - 10**9
    (tmp_path / "checkpoints" / f"{ORDER[1].name}.pt.part").write_bytes(b"half")
    finished = soak.Finished(tmp_path, ORDER)
    assert finished.remaining() == ORDER[1:]
    assert (finished.newest(), finished.step(ORDER[1].name)) == (ORDER[1].name, 40)
    assert finished.parts(before) == (f"{ORDER[1].name}.pt.part",)
    assert finished.parts(time.time_ns() + 10**9) == (), "left by an earlier kill"
    write(tmp_path, ORDER[1].name, 44)
    assert finished.step(ORDER[1].name) == 44


def test_a_run_that_has_not_begun(tmp_path: Path) -> None:
    finished = soak.Finished(tmp_path / "absent", ORDER)
    assert finished.remaining() == ORDER
    assert (finished.newest(), finished.parts(0)) == ("", ())


# Differences


def test_a_copy_is_equal(run: Path, tmp_path: Path) -> None:
    other = shutil.copytree(run, tmp_path / "two")
    assert soak.differences(run, other) == []


def test_one_bit_of_one_weight_is_a_difference(run: Path, tmp_path: Path) -> None:
    other = shutil.copytree(run, tmp_path / "two")
    write(other, "main-seed0", 100, weight=1 + 2**-23)
    assert soak.differences(run, other) == ["main-seed0.pt: /network/w"]


def test_one_bit_of_one_value_is_a_difference_and_a_time_is_none(run: Path, tmp_path: Path) -> None:
    other = shutil.copytree(run, tmp_path / "two")
    values = (other / "values.csv").read_text()
    (other / "values.csv").write_text(values.replace("1.0,True", "9.0,True"))
    assert soak.differences(run, other) == []
    (other / "values.csv").write_text(values.replace("0.30000000000000004", "0.3"))
    assert soak.differences(run, other) == ["values.csv"]


def test_a_missing_stage_is_a_difference(run: Path, tmp_path: Path) -> None:
    other = shutil.copytree(run, tmp_path / "two")
    (other / "checkpoints" / "main-seed0.pt").unlink()
    assert soak.differences(run, other) == ["main-seed0.pt: in one run only"]


# The verdict


def soaked(tmp_path: Path, *deaths: Death) -> Soak:
    found = Soak([], tmp_path, ORDER, {}, random.Random(0))
    found.deaths += deaths
    return found


def test_a_soak_passes_when_it_was_hard_and_nothing_differs(tmp_path: Path) -> None:
    all_kinds = [death(ORDER[0]), death(ORDER[1], "a.pt.part"), death(ORDER[5]), death(ORDER[9])]
    passed, sentence = soak.verdict(soaked(tmp_path, *all_kinds), 4, [])
    assert passed
    assert "4 kills, 4 of 4 kinds of arms hit, 1 checkpoint writes hit" in sentence


@pytest.mark.parametrize(
    ("kept", "kills", "found", "fault"),
    [
        (slice(0, 4), 4, ["values.csv"], "1 differences: values.csv"),
        (slice(0, 4), 5, [], "4 kills of 5"),
        (slice(1, 4), 3, [], "never hit: main"),
        (slice(0, 3), 3, [], "no checkpoint write was hit"),
    ],
)
def test_a_soak_fails_for_each_reason(
    tmp_path: Path, kept: slice, kills: int, found: list[str], fault: str
) -> None:
    deaths = [death(ORDER[0]), death(ORDER[1]), death(ORDER[5]), death(ORDER[9], "a.pt.part")]
    passed, sentence = soak.verdict(soaked(tmp_path, *deaths[kept]), kills, found)
    assert not passed
    assert fault in sentence


# Killing


def test_a_kill_reaches_children_in_sessions_of_their_own(tmp_path: Path) -> None:
    start = Start([sys.executable, "-c", FAMILY], tmp_path / "run", os.environ)
    while "up" not in start.log.read_text():
        assert start.alive()
        time.sleep(0.01)
    family = psutil.Process(start.process.pid).children(recursive=True)
    assert len(family) == 1
    start.kill()
    assert not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in family)
    assert start.process.returncode == -9


def test_a_frozen_run_stands_still_until_it_is_let_go(tmp_path: Path) -> None:
    code = "import time\nfor k in range(10**6): print(k, flush=True); time.sleep(0.001)"
    start = Start([sys.executable, "-c", code], tmp_path / "run", os.environ)
    try:
        while not start.log.read_text():
            time.sleep(0.01)
        start.freeze()
        held = start.log.stat().st_size
        time.sleep(0.1)
        assert start.log.stat().st_size == held
        start.thaw()
        time.sleep(0.3)
        assert start.log.stat().st_size > held
    finally:
        start.kill()


def test_a_run_that_fails_by_itself_is_no_death(tmp_path: Path) -> None:
    words = [sys.executable, "-c", "raise SystemExit('no room for patches')"]
    with pytest.raises(SoakError, match=r"(?s)exit code 1.*no room for patches"):
        finish(words, tmp_path / "run", os.environ)


def test_a_reference_of_other_code_is_refused(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run / "code.txt").write_text("0123456789abcdef")
    assert soak.main(["--out", str(tmp_path / "new"), "--reference", str(run)]) == 2
    assert "another version of enhancelib" in capsys.readouterr().out


def test_it_never_soaks_into_a_folder_that_exists(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "disturbed").mkdir()
    assert soak.main(["--out", str(tmp_path)]) == 2
    assert "choose another folder" in capsys.readouterr().out
