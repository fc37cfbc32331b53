"""Files of pairs: every one is decoded before training, once."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from enhancelib import pairfiles, pairs, runtime
from enhancelib.datasets import DataError
from enhancelib.pairfiles import PairFiles, check
from tests import dped


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own."""
    monkeypatch.setenv("ENHANCELIB_CACHE", str(tmp_path / "cache"))
    return runtime.cache()


@pytest.fixture
def files(tmp_path: Path) -> PairFiles:
    dped.made(tmp_path / "sets" / "dped" / "patches", range(6))
    return pairs.find(tmp_path / "sets")["pirm"]


def test_the_real_subset_is_whole(assets: Path) -> None:
    files = pairs.find(assets / "data")["pirm"]
    checked = check(files)
    assert (checked.height, checked.width) == (100, 100)
    assert checked.white == (103, 177, 221, 308)


def test_pixels_are_pillows(assets: Path) -> None:
    files = pairs.find(assets / "data")["pirm"].choose([5, 250])
    both = files.read()
    assert both.names == ("5", "250")
    for k, name in enumerate(both.names):
        for side, folder in enumerate((files.phone, files.camera)):
            pillow = torch.from_numpy(np.array(Image.open(folder / f"{name}.jpg")))
            assert torch.equal(both.levels[side, k], pillow.permute(2, 0, 1))
    assert files.read([1]).names == ("250",)


def test_a_truncated_file_is_named(files: PairFiles) -> None:
    broken = files.camera / "4.jpg"
    broken.write_bytes(broken.read_bytes()[:-200])
    message = r"PIRM 2018 subset: \S*/canon/4\.jpg: damaged or truncated .*Official page: DPED"
    for look in (check, PairFiles.read):
        with pytest.raises(DataError, match=message):
            look(files)


@pytest.mark.parametrize(
    ("content", "message"), [(b"", "is empty"), (b"<html>403</html>", "not a picture")]
)
def test_what_is_no_picture_is_named(files: PairFiles, content: bytes, message: str) -> None:
    (files.phone / "1.jpg").write_bytes(content)
    with pytest.raises(DataError, match=rf"iphone/1\.jpg: .*{message}"):
        check(files)


def resave(path: Path, size: tuple[int, int]) -> None:
    Image.open(path).resize(size).save(path)


def test_two_sizes_in_a_pair_are_named(files: PairFiles) -> None:
    resave(files.camera / "2.jpg", (39, 40))
    message = r"iphone/2\.jpg is 40 x 40, \S*canon/2\.jpg is 39 x 40; expected one size in a pair"
    with pytest.raises(DataError, match=message):
        check(files)


def test_two_sizes_in_a_set_are_refused_with_the_reason(files: PairFiles) -> None:
    for folder in (files.phone, files.camera):
        resave(folder / "3.jpg", (64, 48))
    message = r"iphone/3\.jpg is 64 x 48, the pairs before it 40 x 40; crops are cut from pairs"
    for look in (check, PairFiles.read):
        with pytest.raises(DataError, match=message):
            look(files)


def test_sixteen_bits_are_refused(tmp_path: Path) -> None:
    for name in ("iphone", "canon"):
        folder = tmp_path / "deep" / "patches" / name
        folder.mkdir(parents=True)
        Image.fromarray(np.full((8, 8), 40000, np.uint16)).save(folder / "0.png")
    with pytest.raises(DataError, match="has 16 bits per channel; expected 8"):
        check(pairs.find(tmp_path / "deep")["pirm"])


def test_no_pair_is_told(files: PairFiles) -> None:
    for look in (check, PairFiles.read):
        with pytest.raises(DataError, match="no pair"):
            look(files.choose([]))


def test_white_is_told_by_pixels(files: PairFiles) -> None:
    white, almost = Image.new("RGB", (40, 40), "white"), Image.new("RGB", (40, 40), (254,) * 3)
    white.save(files.phone / "1.jpg")
    white.save(files.camera / "1.jpg")
    white.save(files.phone / "5.jpg")  # its partner is a picture
    almost.save(files.phone / "2.jpg")
    white.save(files.camera / "2.jpg")
    assert check(files).white == (1,)
    assert files.read().white.tolist() == [False, True, False, False, False, False]


def test_the_second_check_reads_no_file(files: PairFiles, cache: Path) -> None:
    first = check(files)
    assert len(list((cache / "pairs").glob("*.json"))) == 1
    path = files.phone / "4.jpg"
    seen, size = path.stat(), path.stat().st_size
    path.write_bytes(b"\0" * size)  # damage that a receipt cannot see: size and time are the same
    os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    assert check(files) == first


@pytest.mark.parametrize("change", ["time", "size", "name"])
def test_a_changed_set_is_checked_again(files: PairFiles, change: str) -> None:
    check(files)
    path = files.phone / "4.jpg"
    if change == "time":
        path.write_bytes(b"\0" * path.stat().st_size)
        os.utime(path, ns=(0, 0))
    elif change == "size":
        seen = path.stat()
        path.write_bytes(b"")
        os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    else:  # sizes, times and order stay
        path = files.phone / "9.jpg"
        for folder in (files.phone, files.camera):
            (folder / "5.jpg").rename(folder / "9.jpg")
        seen = path.stat()
        path.write_bytes(b"\0" * seen.st_size)
        os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns))
        files = pairs.find(files.phone.parent.parent)["pirm"]
    with pytest.raises(DataError, match=r"iphone/[49]\.jpg"):
        check(files)


def test_a_broken_receipt_is_no_receipt(files: PairFiles, cache: Path) -> None:
    first = check(files)
    (receipt,) = (cache / "pairs").glob("*.json")
    for content in ("", "[]", '{"digest": 3}', "{"):
        receipt.write_text(content)
        assert check(files) == first


def test_a_cache_that_cannot_be_written_is_no_obstacle(
    files: PairFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENHANCELIB_CACHE", "/proc/nowhere")
    assert check(files).width == 40


def test_large_sets_tell_how_far_they_are(
    files: PairFiles, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    check(files.choose([0, 1]))
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(pairfiles, "_LARGE", 3)
    check(files)
    assert "checking PIRM 2018 subset, once: 100%" in capsys.readouterr().err


def test_threads_leave_pillows_limit_alone(files: PairFiles) -> None:
    before = Image.MAX_IMAGE_PIXELS
    for _ in range(5):
        files.read()
    assert before == Image.MAX_IMAGE_PIXELS


def test_grey_files_become_colour(files: PairFiles) -> None:
    for folder in (files.phone, files.camera):
        grey = io.BytesIO()
        Image.open(folder / "0.jpg").convert("L").save(grey, "JPEG", quality=95)
        (folder / "0.jpg").write_bytes(grey.getvalue())
    first = files.read([0]).levels
    assert torch.equal(first[:, :, 0], first[:, :, 2])
