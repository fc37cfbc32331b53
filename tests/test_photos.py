"""The photo bank: a whole catalogue, splits that do not leak, pixels that are the package's."""

from __future__ import annotations

import csv
import hashlib
import io
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image

from enhancelib import photos, runtime
from enhancelib.packages import PACKAGES
from enhancelib.photos import BUNDLED, PhotosMissing, bank, catalogue, decode, find, load, names
from tests.conftest import absent

INSIDE = [photo for photo in catalogue() if photo.package == BUNDLED]


def test_the_catalogue_is_whole() -> None:
    rows = catalogue()
    assert len({photo.name for photo in rows}) == len(rows)
    assert len({photo.sha256 for photo in rows}) == len(rows)  # no picture twice
    assert len({(photo.package, photo.member) for photo in rows}) == len(rows)
    for photo in rows:
        assert photo.split in photos.SPLITS
        assert photo.author
        assert photo.licence
        assert min(photo.width, photo.height) >= 300
        assert photo.package == BUNDLED or PACKAGES[photo.package].version == photo.version


def test_the_columns_are_the_documented_ones() -> None:
    with runtime.data("photos.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    fields = list(photos.Photo.__dataclass_fields__)
    assert list(rows[0]) == fields
    assert {row[key] for row in rows for key in ("publishable", "colour")} == {"yes", "no"}


def test_the_bank_is_large_enough_and_split_once_and_for_all() -> None:
    counts = Counter((photo.split, photo.colour) for photo in catalogue())
    assert counts == {
        ("train", True): 45,
        ("validation", True): 7,
        ("test", True): 15,
        ("train", False): 4,
        ("validation", False): 1,
        ("test", False): 1,
    }
    publishable = [p for p in catalogue() if p.split == "test" and p.colour and p.publishable]
    assert len(publishable) >= 10


def test_what_benchmarks_share_is_never_trained_on() -> None:
    for name in ("kodim23", "monarch", "sail", "tulips", "barbara", "camera", "astronaut"):
        assert find(name).split == "test"


def test_pictures_of_unclear_origin_are_not_publishable() -> None:
    for photo in catalogue():
        unclear = photo.licence.startswith(("not stated", "believed", "MIT package; the photo's"))
        assert photo.publishable == (not unclear and photo.name != "flower"), photo.name


@pytest.mark.parametrize("photo", INSIDE, ids=[photo.name for photo in INSIDE])
def test_photos_inside_scikit_image_are_always_at_hand(
    photo: photos.Photo, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ENHANCELIB_CACHE", str(tmp_path))
    assert hashlib.sha256(photo.path.read_bytes()).hexdigest() == photo.sha256
    if photo.name == "motorcycle_left":
        expected = skimage.data.stereo_motorcycle()[0]
    else:
        expected = getattr(skimage.data, photo.name)()
    loaded = load(photo.name)
    assert loaded.dtype == torch.float32
    assert loaded.shape == (3 if photo.colour else 1, photo.height, photo.width)
    values = (loaded * 255).round().byte().permute(1, 2, 0).squeeze(-1).numpy()
    np.testing.assert_array_equal(values, expected)


def test_every_split_has_photos_on_a_bare_machine(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ENHANCELIB_CACHE", str(tmp_path))
    for split in photos.SPLITS:
        assert names(split)
        assert names(split) == names(split, bundled=True)
        assert names(split, False)


def test_the_bank_holds_one_split_at_one_type() -> None:
    grey = bank("train", False, dtype=torch.uint8)
    assert list(grey) == ["brick", "grass", "gravel", "moon"]
    assert {values.dtype for values in grey.values()} == {torch.uint8}
    floats = bank("train", False)
    for name, values in grey.items():
        assert torch.equal(values.float() / 255, floats[name])
        assert values.is_contiguous()


def test_fetched_photos_are_the_catalogued_ones() -> None:
    fetched = [photo for photo in catalogue() if photo.package != BUNDLED]
    lacking = [photo.name for photo in fetched if not photo.path.is_file()]
    if lacking:
        absent(f"{len(lacking)} photos are not fetched, such as {lacking[0]}")
    for photo in fetched[:8]:
        assert load(photo.name).shape == (3, photo.height, photo.width)
    # mean colour of the file inside the sporco wheel, read with Pillow and NumPy alone
    expected = torch.tensor([0.4778, 0.4305, 0.2977])
    assert torch.allclose(load("kodim23").mean((1, 2)), expected, atol=1e-4)


@pytest.fixture
def shelf(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A cache whose kodim23.png is the test's to write."""
    monkeypatch.setenv("ENHANCELIB_CACHE", str(tmp_path))
    path = find("kodim23").path
    path.parent.mkdir()
    Image.fromarray(np.zeros((512, 768, 3), np.uint8)).save(path)
    return path


def test_a_stored_photo_is_at_hand(shelf: Path) -> None:
    assert "kodim23" in names("test")
    assert "kodim23" not in names("test", bundled=True)
    assert load("kodim23").shape == (3, 512, 768)


@pytest.mark.parametrize("length", [0, 7, 40, -30])
def test_a_truncated_photo_names_its_file(shelf: Path, length: int) -> None:
    shelf.write_bytes(shelf.read_bytes()[:length])
    with pytest.raises(PhotosMissing, match=r"kodim23\.png cannot be read .*enhancelib fetch"):
        load("kodim23")


@pytest.mark.parametrize(
    ("shape", "kind"), [((512, 767, 3), "RGB"), ((512, 768), "L"), ((512, 768, 4), "RGBA")]
)
def test_another_picture_is_refused(shelf: Path, shape: tuple[int, ...], kind: str) -> None:
    Image.fromarray(np.zeros(shape, np.uint8)).save(shelf)
    with pytest.raises(PhotosMissing, match=rf"x512 {kind}, expected 768x512 RGB"):
        load("kodim23")


def test_a_header_is_read_before_the_pixels() -> None:
    """A PNG that claims 60000 x 60000 pixels is refused by its header."""
    stored = io.BytesIO()
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(stored, "PNG")
    lying = bytearray(stored.getvalue())
    lying[16:24] = (60000).to_bytes(4, "big") * 2
    with pytest.raises(PhotosMissing):
        decode(bytes(lying), find("kodim23"))


def test_another_version_of_scikit_image_is_noticed(tmp_path: Path) -> None:
    photo = replace(find("coffee"), sha256="0" * 64)
    with pytest.raises(PhotosMissing, match=r"is not the coffee of scikit-image 0\.26\.0"):
        photos._pixels(photo)


def test_unknown_names_are_refused_with_a_hint() -> None:
    with pytest.raises(ValueError, match="did you mean astronaut"):
        load("astronot")
    with pytest.raises(ValueError, match="expected one of train, validation, test"):
        bank("tests")
