"""Whose folder it is, and files that are whole or absent."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from enhancelib import folders
from enhancelib.folders import RunError
from tests.disks import full

HOLDER = """
import sys, time
from pathlib import Path
from enhancelib.folders import hold
lock = hold(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(float(sys.argv[2]))
"""
Holder = Callable[[Path, float], subprocess.Popen[str]]


@pytest.fixture
def holder() -> Iterator[Holder]:
    """Starts a process that holds a folder for some seconds."""
    started = []

    def start(folder: Path, seconds: float) -> subprocess.Popen[str]:
        words = [sys.executable, "-c", HOLDER, str(folder), str(seconds)]
        process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


# Whose it is


def test_a_second_process_waits_and_then_names_the_holder(
    tmp_path: Path, holder: Holder, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = holder(tmp_path, 600)
    monkeypatch.setattr(folders, "LOCK_SECONDS", 0.5)
    began = time.monotonic()
    named = f"is held by process {first.pid} on {socket.gethostname()} since .* UTC; wait for it"
    with pytest.raises(RunError, match=named):
        folders.hold(tmp_path)
    assert time.monotonic() - began >= 0.5


def test_a_second_process_gets_the_folder_when_the_first_ends_in_time(
    tmp_path: Path, holder: Holder
) -> None:
    assert folders.LOCK_SECONDS == 10, "the time that the documents promise"
    holder(tmp_path, 1)
    lock = folders.hold(tmp_path)
    assert (tmp_path / ".lock").read_text().startswith(f"process {os.getpid()} on ")
    lock.close()


def test_a_killed_process_holds_nothing(
    tmp_path: Path, holder: Holder, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = holder(tmp_path, 600)
    first.send_signal(signal.SIGKILL)
    first.wait()
    monkeypatch.setattr(folders, "LOCK_SECONDS", 0.0)
    folders.hold(tmp_path).close()


def test_a_process_that_holds_it_gets_the_same_lock_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folders, "LOCK_SECONDS", 0.0)
    first = folders.hold(tmp_path)
    assert folders.hold(tmp_path / "." / "") is first
    assert folders.hold(tmp_path / "other") is not first


def test_the_folder_is_free_when_nobody_keeps_the_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = folders.hold(tmp_path)
    second = folders.hold(tmp_path)
    code = HOLDER.replace("from enhancelib.folders import hold", "from enhancelib import folders")
    code = code.replace("hold(Path", "folders.LOCK_SECONDS = 0.0; folders.hold(Path")
    code = code.replace("lock = ", "")
    words = [sys.executable, "-c", code, str(tmp_path), "0"]
    del first
    refused = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert "RunError" in refused.stderr
    second.close()
    assert subprocess.run(words, capture_output=True, text=True, timeout=120).returncode == 0


# Whole or absent


def test_a_text_comes_back_and_leaves_no_part(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "values.csv"
    folders.write_text(path, "σ,25\n")
    folders.write_text(path, "σ,50\n")
    assert path.read_bytes() == "σ,50\n".encode()
    assert [file.name for file in path.parent.iterdir()] == ["values.csv"]


def test_the_new_file_replaces_the_old_one_in_one_step(tmp_path: Path) -> None:
    path = tmp_path / "values.csv"
    folders.write_text(path, "old")
    with path.open() as reader:
        folders.write_text(path, "new and longer")
        assert reader.read() == "old", "who has it open reads on in the old file"


def test_a_block_that_fails_keeps_the_old_file_and_leaves_no_part(tmp_path: Path) -> None:
    path = tmp_path / "figure.png"
    path.write_bytes(b"old")

    def interrupted() -> None:
        with folders.replacing(path) as part:
            part.write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["figure.png"]


def test_a_file_that_outgrows_the_disk_keeps_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "values.csv"
    folders.write_text(path, "old")
    with full(100), pytest.raises(RunError, match=r"values\.csv cannot be written .*free some"):
        folders.write_text(path, "x" * 1000)
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["values.csv"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_is_named_as_such(tmp_path: Path) -> None:
    (tmp_path / "values.csv.part").symlink_to("/dev/full")
    with pytest.raises(RunError, match=r"No space left on device.*free some space"):
        folders.write_text(tmp_path / "values.csv", "30.43\n")
    assert not (tmp_path / "values.csv").exists()


# Two versions of the code


def left(folder: Path) -> list[str]:
    files = (p for p in folder.rglob("*") if p.is_file() and p.name != "code.txt")
    return sorted(str(file.relative_to(folder)) for file in files)


def unfinished(folder: Path) -> None:
    for name in ("checkpoints/main.pt", "once/bm3d.json", "values.csv"):
        folders.write_text(folder / name, name)


def test_the_same_code_goes_on_with_what_it_left(tmp_path: Path) -> None:
    for _ in range(2):
        assert not folders.set_aside(tmp_path, "aaaa")
        unfinished(tmp_path)
    assert left(tmp_path) == ["checkpoints/main.pt", "once/bm3d.json", "values.csv"]


def test_other_code_starts_again_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders.set_aside(tmp_path, "aaaa")
    unfinished(tmp_path)
    assert folders.set_aside(tmp_path, "bbbb")
    assert left(tmp_path) == [
        *("superseded/checkpoints/main.pt", "superseded/once/bm3d.json", "values.csv")
    ]
    assert "the code has changed since, so training starts again" in capsys.readouterr().out
    assert not folders.set_aside(tmp_path, "bbbb"), "once"


def test_a_kill_while_putting_away_mixes_nothing(tmp_path: Path) -> None:
    folders.set_aside(tmp_path, "aaaa")
    unfinished(tmp_path)
    (tmp_path / "superseded").mkdir()
    (tmp_path / "once").replace(tmp_path / "superseded" / "once")
    # killed here: the mark still names the old code
    assert folders.set_aside(tmp_path, "bbbb")
    assert not (tmp_path / "checkpoints").exists()
    assert not (tmp_path / "once").exists()


def test_what_was_left_before_there_was_a_mark_is_taken_over(tmp_path: Path) -> None:
    unfinished(tmp_path)
    assert not folders.set_aside(tmp_path, "aaaa")
    assert (tmp_path / "checkpoints" / "main.pt").exists()
    assert (tmp_path / "code.txt").read_text() == "aaaa"


def test_other_parameters_start_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders.set_aside(tmp_path, "aaaa", parameters="first")
    unfinished(tmp_path)
    assert not folders.set_aside(tmp_path, "aaaa", parameters="first")
    assert folders.set_aside(tmp_path, "aaaa", parameters="second")
    assert "its parameters were others, so training starts again" in capsys.readouterr().out
    assert not (tmp_path / "checkpoints").exists()


def test_a_mark_that_tells_the_code_alone_is_still_good(tmp_path: Path) -> None:
    folders.set_aside(tmp_path, "aaaa")
    unfinished(tmp_path)
    assert not folders.set_aside(tmp_path, "aaaa", parameters="first")
    assert (tmp_path / "checkpoints" / "main.pt").exists()


# Before a kernel starts


def test_a_folder_that_can_be_written_is_left_with_its_lock_file_alone(tmp_path: Path) -> None:
    folders.insist_writable(tmp_path / "run")
    assert [file.name for file in (tmp_path / "run").iterdir()] == [".lock"]


def test_a_folder_in_use_can_still_be_written(tmp_path: Path, holder: Holder) -> None:
    first = holder(tmp_path, 600)
    folders.insist_writable(tmp_path)
    assert f"process {first.pid} " in (tmp_path / ".lock").read_text()


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file")
    for wrong in (tmp_path / "run", tmp_path / "run" / "deeper"):
        with pytest.raises(RunError, match=f"the run folder {wrong} cannot be written"):
            folders.insist_writable(wrong)
        with pytest.raises(RunError, match=f"the run folder {wrong} cannot be written"):
            folders.hold(wrong)


def test_a_disk_without_room_is_noticed(tmp_path: Path) -> None:
    with full(0), pytest.raises(RunError, match="cannot be written"):
        folders.insist_writable(tmp_path)
    with full(0), pytest.raises(RunError, match="cannot be written"):
        folders.hold(tmp_path)
