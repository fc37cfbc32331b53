"""DPED's layout and the PIRM subset: what is found, and what is named before training."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from enhancelib import images, pairs
from enhancelib.datasets import DataError
from tests import dped


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """An iPhone's training and test patches, made of a bundled photo."""
    home = tmp_path / "DPED" / "iphone"
    dped.made(home / "training_data", range(12))
    dped.made(home / "test_data" / "patches", range(3))
    return tmp_path


@pytest.mark.parametrize("inside", ["", "dped", "dped/patches"])
def test_the_subset_is_found_from_any_of_its_folders(assets: Path, inside: str) -> None:
    found = pairs.find(assets / "data" / inside)
    assert list(found) == ["pirm"]
    assert found["pirm"].numbers() == list(range(400))
    assert found["pirm"].names[10] == ("10.jpg", "10.jpg")


def test_both_parts_of_a_phone_are_found(tree: Path) -> None:
    for root in (tree, tree / "DPED"):
        found = pairs.find(root)
        assert {name: len(files) for name, files in found.items()} == {"train": 12, "test": 3}
        assert found["train"].numbers() == list(range(12))  # not 0, 1, 10, 11, 2


def test_the_whole_set_is_preferred_to_the_subset(tree: Path) -> None:
    dped.made(tree / "DPED" / "patches", range(5))
    assert set(pairs.find(tree)) == {"train", "test"}


def test_the_subset_alone_is_no_other_phone(tmp_path: Path) -> None:
    dped.made(tmp_path / "dped" / "patches", range(4))
    assert len(pairs.find(tmp_path)["pirm"]) == 4
    message = (
        r"holds no pairs of phone 'sony', but pairs of iphone \(the PIRM subset\): choose that "
        r"phone, or add it\. Expected: .*/dped/sony/training_data/\{sony,canon\}/N\.jpg .*"
        r"Official page: DPED, Computer Vision Lab of ETH Zurich"
    )
    with pytest.raises(DataError, match=message):
        pairs.find(tmp_path, "sony")


def test_another_phones_folders_are_told(tree: Path) -> None:
    with pytest.raises(DataError, match=r"phone 'blackberry', but pairs of iphone: choose"):
        pairs.find(tree, "blackberry")
    with pytest.raises(DataError, match="phone is 'nokia'; expected one of iphone, blackberry"):
        pairs.find(tree, "nokia")


def test_an_empty_folder_is_no_set(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no pairs of phone 'iphone'\. Expected: .*patches"):
        pairs.find(tmp_path)
    with pytest.raises(DataError, match="is no folder"):
        pairs.find(tmp_path / "nowhere")


@pytest.mark.parametrize(("side", "other"), [("iphone", "canon"), ("canon", "iphone")])
def test_a_missing_partner_is_named(tree: Path, side: str, other: str) -> None:
    folder = tree / "DPED" / "iphone" / "training_data"
    (folder / other / "7.jpg").unlink()
    message = rf"training patches: \S*/{side}/7\.jpg has no partner in \S*/training_data/{other};"
    with pytest.raises(DataError, match=message):
        pairs.find(tree)
    (folder / other / "3.jpg").unlink()
    with pytest.raises(DataError, match=rf"{side}/3\.jpg and 1 more has no partner"):
        pairs.find(tree)


def test_a_missing_or_empty_folder_is_named(tree: Path) -> None:
    canon = tree / "DPED" / "iphone" / "test_data" / "patches" / "canon"
    for file in canon.iterdir():
        file.unlink()
    with pytest.raises(DataError, match=r"patches/canon holds no pictures; expected N\.jpg"):
        pairs.find(tree)
    canon.rmdir()
    with pytest.raises(DataError, match=r"patches/canon is missing"):
        pairs.find(tree)


def test_two_files_of_one_number_are_refused(tree: Path) -> None:
    folder = tree / "DPED" / "iphone" / "training_data" / "canon"
    (folder / "2.png").write_bytes((folder / "2.jpg").read_bytes())
    with pytest.raises(DataError, match="two pictures of one name"):
        pairs.find(tree)


def test_hidden_and_other_files_are_no_pairs(tree: Path) -> None:
    folder = tree / "DPED" / "iphone" / "training_data" / "canon"
    (folder / "Thumbs.db").touch()
    (folder / "._0.jpg").touch()
    assert len(pairs.find(tree)["train"]) == 12


@pytest.mark.parametrize("phone", pairs.PHONES)
def test_the_few_pairs_of_every_phone_are_pairs(assets: Path, phone: str) -> None:
    files = pairs.few(assets / "data", phone)
    assert files is not None
    assert files.numbers() == [0, 50, 100, 150]
    four = files.read()
    assert four.levels.shape == (2, 4, 3, 100, 100)
    x, y = (images.luma(side).flatten(1) for side in (four.degraded, four.clean))
    alike = torch.corrcoef(torch.cat([x, y]))[:4, 4:]
    assert alike.argmax(1).tolist() == [0, 1, 2, 3]
    assert float(alike.diagonal().min()) > 0.6


def test_without_them_there_are_none(tree: Path) -> None:
    assert pairs.few(tree, "iphone") is None


def test_whole_photos(assets: Path, tree: Path) -> None:
    listed = pairs.full_size(assets / "data")
    assert [file.name for file in listed[:2]] == ["0.png", "1.png"]
    assert pairs.full_size(assets / "data", "sony") == []
    assert pairs.full_size(tree) == []
    folder = tree / "DPED" / "iphone" / "test_data" / "full_size_test_images"
    folder.mkdir()
    for number in (10, 9, 1):
        (folder / f"{number}.jpg").touch()
    assert [file.stem for file in pairs.full_size(tree)] == ["1", "9", "10"]
