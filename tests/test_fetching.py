"""Fetching with real pip on tiny real archives: whole or absent, finished or started again."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from enhancelib import photos, runtime
from enhancelib.fetching import Report, fetch, listing
from enhancelib.sources import Item, Source, standard
from tests.archives import local_pip, member, sdist, wheel

NOTE, SONG = b"a note " * 100, b"a song " * 100


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ENHANCELIB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "links"
    folder.mkdir()
    local_pip(monkeypatch, folder)
    return folder


@pytest.fixture
def sources(links: Path, cache: Path) -> dict[str, Source]:
    notes = wheel(links, "tiny-notes", {"notes/a.txt": NOTE, "notes/b.txt": SONG})
    songs = sdist(links, "tiny-songs", {"song.txt": SONG})
    return {
        "tiny-notes": Source(
            replace(notes, what=("photos",)),
            (
                Item(member("notes/a.txt", NOTE), "photos/a.txt", bytes.upper),
                Item(member("notes/b.txt", SONG), "photos/b.txt", bytes.upper),
            ),
        ),
        "tiny-songs": Source(
            replace(songs, what=("features", "vgg16")),
            (Item(member("tiny_songs-1.0/song.txt", SONG), "features/song.txt", bytes.upper),),
        ),
    }


def files(cache: Path) -> dict[str, bytes]:
    found = {path for path in cache.rglob("*") if path.is_file() and path.name != "fetch.lock"}
    return {str(path.relative_to(cache)): path.read_bytes() for path in found}


def test_everything_arrives_converted(sources: dict[str, Source], cache: Path) -> None:
    report = fetch(progress=False, sources=sources)
    assert report == Report(
        ("tiny-notes 1.0 (a few bytes): ok", "tiny-songs 1.0 (a few bytes): ok"), ()
    )
    stored = {name: content for name, content in files(cache).items() if "receipts" not in name}
    assert stored == {
        "photos/a.txt": NOTE.upper(),
        "photos/b.txt": SONG.upper(),
        "features/song.txt": SONG.upper(),
    }


def test_the_second_run_needs_nothing_and_says_so(
    sources: dict[str, Source], cache: Path, links: Path
) -> None:
    fetch(progress=False, sources=sources)
    before = files(cache)
    shutil.rmtree(links)
    report = fetch(progress=False, sources=sources)
    assert not report.failed
    assert [line.endswith(f"already in {cache}") for line in report.ok] == [True, True]
    assert files(cache) == before


def test_only_takes_groups_and_names(sources: dict[str, Source], cache: Path) -> None:
    fetch(("vgg16",), progress=False, sources=sources)
    assert [row.state for row in listing(sources)] == ["absent", "present"]
    fetch(("tiny-notes",), progress=False, sources=sources)
    assert [row.state for row in listing(sources)] == ["present", "present"]
    with pytest.raises(
        ValueError, match="'vgg'; expected some of photos, features, vgg16, tiny-notes, tiny-songs"
    ):
        fetch(("vgg",), sources=sources)


def test_a_failure_names_the_package_and_what_still_works(
    sources: dict[str, Source], cache: Path, links: Path
) -> None:
    archive = links / sources["tiny-notes"].package.file
    archive.write_bytes(archive.read_bytes()[:-1])
    report = fetch(progress=False, sources=sources)
    assert report.ok == ("tiny-songs 1.0 (a few bytes): ok",)
    (sentence,) = report.failed
    assert sentence.startswith("tiny-notes 1.0 (a few bytes): pip could not bring")
    assert "sha256 is not the pinned one" in sentence
    assert sentence.endswith("without it, the rest works")
    assert not (cache / "photos").exists()
    assert not list(cache.glob("scratch-*"))


def test_a_failure_halfway_starts_again(sources: dict[str, Source], cache: Path) -> None:
    good = sources["tiny-notes"]

    def fails(content: bytes) -> bytes:
        raise ValueError("no such conversion")

    bad = replace(good, items=(good.items[0], replace(good.items[1], convert=fails)))
    report = fetch(progress=False, sources={"tiny-notes": bad})
    assert "no such conversion" in report.failed[0]
    assert set(files(cache)) == {"photos/a.txt"}  # whole, but no receipt
    assert [row.state for row in listing({"tiny-notes": good})] == ["absent"]
    assert fetch(progress=False, sources={"tiny-notes": good}).ok
    assert [row.state for row in listing({"tiny-notes": good})] == ["present"]


@pytest.mark.parametrize("harm", ["flip", "cut", "remove", "receipt", "pin"])
def test_a_broken_package_starts_again_and_a_finished_one_is_kept(
    sources: dict[str, Source], cache: Path, links: Path, harm: str
) -> None:
    fetch(progress=False, sources=sources)
    (links / sources["tiny-songs"].package.file).unlink()  # finished: it is not asked for again
    stored = cache / "photos" / "b.txt"
    receipt = cache / "receipts" / "tiny-notes-1.0.json"
    if harm == "flip":
        stored.write_bytes(b"?" + stored.read_bytes()[1:])
    elif harm == "cut":
        stored.write_bytes(stored.read_bytes()[:-1])
    elif harm == "remove":
        stored.unlink()
    elif harm == "receipt":
        receipt.write_text(receipt.read_text()[:-3])
    else:
        receipt.write_text(receipt.read_text().replace(sources["tiny-notes"].package.sha256, "0"))
    report = fetch(progress=False, sources=sources)
    assert report.failed == ()
    assert "tiny-notes 1.0 (a few bytes): ok" in report.ok
    assert stored.read_bytes() == SONG.upper()


def test_what_a_killed_fetch_left_is_cleaned(sources: dict[str, Source], cache: Path) -> None:
    (cache / "scratch-dead").mkdir(parents=True)
    (cache / "scratch-dead" / "archive.whl").write_bytes(NOTE)
    (cache / "photos").mkdir()
    (cache / "photos" / "a.txt.part").write_bytes(NOTE[:5])
    fetch(progress=False, sources=sources)
    assert not list(cache.glob("scratch-*"))
    assert not list(cache.rglob("*.part"))


def test_an_interrupt_leaves_nothing_half_written(sources: dict[str, Source], cache: Path) -> None:
    def interrupted(content: bytes) -> bytes:
        raise KeyboardInterrupt

    item = replace(sources["tiny-songs"].items[0], convert=interrupted)
    with pytest.raises(KeyboardInterrupt):
        fetch(progress=False, sources={"s": replace(sources["tiny-songs"], items=(item,))})
    assert files(cache) == {}
    assert fetch(progress=False, sources=sources).failed == ()


def test_an_unwritable_cache_is_one_clear_sentence(
    sources: dict[str, Source], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("ENHANCELIB_CACHE", str(tmp_path / "file" / "cache"))
    report = fetch(progress=False, sources=sources)
    assert report.ok == ()
    (sentence,) = report.failed
    assert f"the cache {tmp_path / 'file' / 'cache'} cannot be written" in sentence
    assert "tiny-notes, tiny-songs could not be stored; set ENHANCELIB_CACHE" in sentence


@pytest.fixture
def sealed(cache: Path) -> Iterator[Path]:
    cache.mkdir(exist_ok=True)
    yield cache
    for folder in (cache, *cache.rglob("*")):
        folder.chmod(0o755)


def test_a_read_only_cache_still_serves_what_it_has(
    sources: dict[str, Source], sealed: Path
) -> None:
    fetch(("photos",), progress=False, sources=sources)
    for path in (*sealed.rglob("*"), sealed):
        path.chmod(0o555 if path.is_dir() else 0o444)
    assert len(fetch(("photos",), progress=False, sources=sources).ok) == 1
    if os.geteuid() == 0:
        return  # root writes everywhere; the sentence is tested above
    report = fetch(progress=False, sources=sources)
    assert len(report.ok) == 1
    assert "cannot be written (Permission denied)" in report.failed[0]


def test_too_little_room_is_said_before_pip_starts(sources: dict[str, Source], cache: Path) -> None:
    huge = replace(sources["tiny-notes"].package, stored=10**18)
    source = replace(sources["tiny-notes"], package=huge)
    (sentence,) = fetch(progress=False, sources={"tiny-notes": source}).failed
    assert f"{cache} has " in sentence
    assert "MB of free space and this needs 1000000000000 MB" in sentence


def test_two_fetches_at_once_take_turns(sources: dict[str, Source], cache: Path) -> None:
    reports: list[Report] = []
    workers = [
        threading.Thread(target=lambda: reports.append(fetch(progress=False, sources=sources)))
        for _ in range(2)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [report.failed for report in reports] == [(), ()]
    assert [row.state for row in listing(sources)] == ["present", "present"]


def test_the_official_source_stands_in_for_a_lost_package(
    sources: dict[str, Source], cache: Path, links: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = sources["tiny-songs"]
    (links / source.package.file).unlink()
    asked: list[Path] = []

    def official(folder: Path) -> Iterator[tuple[str, bytes]]:
        asked.append(folder)
        yield "features/song.txt", SONG.upper()

    spare = {"tiny-songs": replace(source, fallback=official)}
    assert fetch(progress=False, sources=spare).failed  # PIP_NO_INDEX: the user wants no network
    assert not asked
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", links.as_uri())
    assert fetch(progress=False, sources=spare) == Report(("tiny-songs 1.0 (a few bytes): ok",), ())
    assert listing(spare)[0].state == "present"


def test_when_the_official_source_fails_too_both_reasons_are_given(
    sources: dict[str, Source], links: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = sources["tiny-songs"]
    (links / source.package.file).unlink()
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", links.as_uri())

    def official(folder: Path) -> Iterator[tuple[str, bytes]]:
        raise OSError("no route to the server")
        yield

    (sentence,) = fetch(
        progress=False, sources={"tiny-songs": replace(source, fallback=official)}
    ).failed
    assert "pip could not bring tiny-songs 1.0" in sentence
    assert "the official source failed too (no route to the server)" in sentence


def test_progress_is_a_line_per_package_where_stderr_is_no_terminal(
    sources: dict[str, Source], capsys: pytest.CaptureFixture[str]
) -> None:
    fetch(sources=sources)
    assert capsys.readouterr().err.splitlines() == [
        "tiny-notes 1.0 (a few bytes): ok",
        "tiny-songs 1.0 (a few bytes): ok",
    ]
    fetch(progress=False, sources=sources)
    assert capsys.readouterr().err == ""


def test_receipts_say_what_was_stored(sources: dict[str, Source], cache: Path) -> None:
    fetch(progress=False, sources=sources)
    receipt = json.loads((cache / "receipts" / "tiny-songs-1.0.json").read_text())
    assert receipt["sha256"] == sources["tiny-songs"].package.sha256
    assert set(receipt["files"]) == {"features/song.txt"}


def test_nothing_of_a_package_is_imported(
    sources: dict[str, Source], links: Path, cache: Path
) -> None:
    code = f"import pathlib; pathlib.Path({str(cache.parent / 'ran')!r}).mkdir()".encode()
    package = wheel(links, "tiny-trap", {"tiny_trap/__init__.py": code, "tiny_trap/a.txt": NOTE})
    item = Item(member("tiny_trap/a.txt", NOTE), "photos/trap.txt", bytes.upper)
    assert fetch(progress=False, sources={"tiny-trap": Source(package, (item,))}).failed == ()
    assert not (cache.parent / "ran").exists()
    found = subprocess.run([sys.executable, "-c", "import tiny_trap"], capture_output=True)
    assert found.returncode == 1


def test_the_real_table_lists_every_package(cache: Path) -> None:
    rows = listing()
    assert [row.state for row in rows] == ["absent"] * 6
    assert {row.name for row in rows} == set(standard())
    brought = {item.target for source in standard().values() for item in source.items}
    fetched = [photo for photo in photos.catalogue() if photo.package != photos.BUNDLED]
    assert {str(photo.path.relative_to(runtime.cache())) for photo in fetched} == {
        target for target in brought if target.startswith("photos/")
    }
    assert len(brought) == len(fetched) + 3
