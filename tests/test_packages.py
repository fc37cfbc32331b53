"""Pinned archives: real pip on tiny real wheels and source archives; hashes before parsing."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from enhancelib import packages
from enhancelib.packages import PACKAGES, Member, Package, PackageError, download, members, verify
from tests.archives import local_pip, member, pinned, sdist, sha256, wheel

NOTE = b"a note " * 100


@pytest.fixture
def links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "links"
    folder.mkdir()
    local_pip(monkeypatch, folder)
    return folder


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    folder = tmp_path / "scratch"
    folder.mkdir()
    return folder


@pytest.mark.parametrize(("make", "prefix"), [(wheel, "tiny"), (sdist, "tiny_notes-1.0/tiny")])
def test_pip_brings_a_pinned_archive(links: Path, scratch: Path, make: object, prefix: str) -> None:
    package = (wheel if make is wheel else sdist)(links, "tiny-notes", {"tiny/note.txt": NOTE})
    archive = download(package, scratch)
    assert archive == scratch / package.file
    wanted = member(f"{prefix}/note.txt", NOTE)
    assert list(members(archive, [wanted])) == [(wanted, NOTE)]


def test_progress_is_told_in_bytes(links: Path, scratch: Path) -> None:
    package = sdist(links, "tiny-notes", {"note.txt": NOTE})
    told: list[int] = []
    download(package, scratch, tick=told.append)
    assert told
    assert all(arrived >= 0 for arrived in told)


def test_an_archive_with_another_hash_is_not_opened(links: Path, scratch: Path) -> None:
    package = sdist(links, "tiny-notes", {"note.txt": NOTE})
    trap = f"import pathlib; pathlib.Path({str(scratch / 'ran')!r}).mkdir()".encode()
    sdist(links, "tiny-notes", {"note.txt": NOTE, "backend.py": trap})
    with pytest.raises(PackageError, match=r"tiny-notes 1.0: .*sha256 is not the pinned one"):
        download(package, scratch)
    assert not (scratch / "ran").exists()
    assert not (scratch / package.file).exists()


@pytest.mark.parametrize("make", [wheel, sdist])
def test_a_truncated_archive_is_refused(links: Path, scratch: Path, make: object) -> None:
    package = (wheel if make is wheel else sdist)(links, "tiny-notes", {"note.txt": NOTE})
    archive = links / package.file
    archive.write_bytes(archive.read_bytes()[:-20])
    with pytest.raises(PackageError, match="sha256 is not the pinned one"):
        download(package, scratch)


def test_an_absent_package_is_named(links: Path, scratch: Path) -> None:
    package = replace(PACKAGES["sporco"], options=())
    with pytest.raises(PackageError, match=r"could not bring sporco 0\.2\.2\.post1: .*sporco"):
        download(package, scratch)


def test_verify_reads_size_and_hash(tmp_path: Path) -> None:
    archive = tmp_path / "tiny.whl"
    archive.write_bytes(NOTE)
    package = pinned(archive, "tiny")
    verify(archive, package)
    archive.write_bytes(NOTE[:-1])
    with pytest.raises(PackageError, match=f"has {len(NOTE) - 1} bytes; tiny 1.0 has {len(NOTE)}"):
        verify(archive, package)
    archive.write_bytes(NOTE[:-1] + b"!")
    with pytest.raises(PackageError, match=f"expected {package.sha256}; it was not opened"):
        verify(archive, package)
    archive.unlink()
    with pytest.raises(PackageError, match=r"left no tiny\.whl"):
        verify(archive, package)


@pytest.mark.parametrize("make", [wheel, sdist])
@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (Member("{}absent.txt", "0" * 64), "holds no .*absent.txt"),
        (Member("{}note.txt", "0" * 64), f"has sha256 {sha256(NOTE)}; expected 0000"),
        (Member("{}note.txt", sha256(NOTE), len(NOTE) - 1), f"more than the {len(NOTE) - 1} bytes"),
    ],
)
def test_members_are_held_to_the_table(
    links: Path, make: object, wanted: Member, message: str
) -> None:
    package = (wheel if make is wheel else sdist)(links, "tiny", {"note.txt": NOTE})
    wanted = replace(wanted, path=wanted.path.format("" if make is wheel else "tiny-1.0/"))
    with pytest.raises(PackageError, match=message):
        list(members(links / package.file, [wanted]))


@pytest.mark.parametrize("make", [wheel, sdist])
@pytest.mark.parametrize("length", [0, 30, 300])
def test_damaged_archives_are_refused(links: Path, make: object, length: int) -> None:
    package = (wheel if make is wheel else sdist)(links, "tiny", {"note.txt": NOTE})
    archive = links / package.file
    archive.write_bytes(archive.read_bytes()[:length])
    path = "note.txt" if make is wheel else "tiny-1.0/note.txt"
    with pytest.raises(PackageError, match="is damaged"):
        list(members(archive, [member(path, NOTE)]))


@pytest.mark.parametrize("package", PACKAGES.values(), ids=list(PACKAGES))
def test_the_table_is_whole(package: Package) -> None:
    assert re.fullmatch("[0-9a-f]{64}", package.sha256)
    assert package.file.replace("_", "-").startswith(f"{package.name}-{package.version}")
    assert package.what
    assert package.size < package.stored * 20
    assert all((package.brings, package.licence, package.without))


def test_pip_never_resolves_or_installs() -> None:
    source = Path(packages.__file__).read_text()
    assert '"download", "--no-deps", "--require-hashes"' in source
    assert '"install"' not in source
