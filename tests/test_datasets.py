"""Patches out of real photos, and benchmark sets as their authors lay them out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import skimage.data
import torch
from torch import Tensor

from enhancelib import datasets, images
from enhancelib.datasets import DataError, Layout, PatchPool
from enhancelib.degradations import GaussianNoise

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
SET12 = Layout("Set12", ("Set12", "test12"), 12, False, "github: cszn/DnCNN")
SET5 = Layout("Set5", ("Set5",), 5, True, "github: cszn/DnCNN")


def colour(name: str) -> Tensor:
    return images.from_uint8(torch.from_numpy(getattr(skimage.data, name)().copy()).movedim(2, 0))


@pytest.fixture(scope="module")
def photos() -> list[Tensor]:
    """Three real photos of different sizes; no row or column of a patch occurs twice in them."""
    return [
        colour("astronaut")[:, :96, 100:180],
        colour("coffee")[:, 50:114, 100:228],
        colour("chelsea")[:, 100:148, 100:150],
    ]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def places(photo: Tensor, patch: Tensor) -> list[tuple[int, int]]:
    """Everywhere in the photo where a patch stands, exactly."""
    _, height, width = patch.shape
    inside = photo[:, : photo.shape[1] - height + 1, : photo.shape[2] - width + 1]
    candidates = (inside == patch[:, :1, :1]).all(0).nonzero().tolist()
    return [
        (top, left)
        for top, left in candidates
        if photo[:, top : top + height, left : left + width].equal(patch)
    ]


def found(pictures: Sequence[Tensor], patch: Tensor) -> list[tuple[int, int, int, int]]:
    """(picture, row, column, k) of every place whose `images.dihedral(..., k)` the patch is."""
    hits = []
    for k in range(8):
        for number, picture in enumerate(pictures):
            turned = images.dihedral(picture, k)
            hits += [(number, *_origin(place, patch, turned, k)) for place in places(turned, patch)]
    return hits


def _origin(place: tuple[int, int], patch: Tensor, turned: Tensor, k: int) -> tuple[int, int, int]:
    """Where the upper left corner of the patch's place is in the picture that was turned."""
    rows, columns = torch.meshgrid(
        torch.arange(turned.shape[-2 if k % 2 == 0 else -1]),
        torch.arange(turned.shape[-1 if k % 2 == 0 else -2]),
        indexing="ij",
    )
    (top, left), size = place, patch.shape[-1]
    window = (slice(top, top + size), slice(left, left + size))
    row, column = (int(images.dihedral(x[None], k)[0][window].min()) for x in (rows, columns))
    return row, column, k


def charts(sizes: Sequence[tuple[int, int]]) -> list[Tensor]:
    """Pictures whose pixels say where they are: row, column and number of the picture."""
    made = []
    for number, (height, width) in enumerate(sizes):
        row, column = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        made.append(
            images.from_uint8(torch.stack([row, column, torch.full_like(row, number)]).byte())
        )
    return made


def whence(patches: Tensor) -> Tensor:
    """(picture, row, column, way) of patches of charts, (n, 4); the way is one of eight numbers."""
    levels = images.to_uint8(patches).long()
    row, column, number = levels.unbind(1)
    down, right = (
        levels[:, :2, 1, 0] - levels[:, :2, 0, 0],
        levels[:, :2, 0, 1] - levels[:, :2, 0, 0],
    )
    way = torch.cat([down, right], 1) @ torch.tensor([27, 9, 3, 1])
    place = [x.flatten(1).min(1).values for x in (row, column)]
    return torch.stack([number[:, 0, 0], *place, way], 1)


def even(values: Tensor, kinds: int) -> bool:
    """Whether all kinds occur, each as often as the others within 4 standard deviations."""
    counts = torch.unique(values, return_counts=True)[1]
    expected = len(values) / kinds
    deviation = (expected * (1 - 1 / kinds)) ** 0.5
    return len(counts) == kinds and bool((counts - expected).abs().max() <= 4 * deviation)


# Patches


def test_every_patch_is_found_in_its_picture_on_the_grid(photos: list[Tensor]) -> None:
    pool = PatchPool(photos, 13, stride=7)
    ways = set()
    for patch in pool.sample(60, generator()):
        hits = found(photos, patch)
        assert len(hits) == 1, "from exactly one place, in exactly one of the eight ways"
        _, row, column, k = hits[0]
        assert row % 7 == 0
        assert column % 7 == 0
        ways.add(k)
    assert ways == set(range(8)), "those of images.dihedral"


def test_all_eight_ways_are_as_likely() -> None:
    drawn = whence(PatchPool(charts([(96, 80)]), 24).sample(4000, generator()))
    assert even(drawn[:, 3], 8)


def test_every_picture_is_as_likely_whatever_its_size() -> None:
    pool = PatchPool(charts([(200, 250), (17, 30), (16, 16)]), 16)
    assert even(whence(pool.sample(3000, generator()))[:, 0], 3)


def test_every_place_of_a_picture_is_as_likely_corners_included() -> None:
    pool = PatchPool(charts([(18, 20)]), 16)
    drawn = whence(pool.sample(6000, generator()))
    assert even(drawn[:, 1] * 5 + drawn[:, 2], 3 * 5)
    assert even(
        drawn[:, 1] * 40 + drawn[:, 2] * 8 + torch.unique(drawn[:, 3], return_inverse=True)[1], 120
    )


@pytest.mark.parametrize(("stride", "expected"), [(1, 65 * 49), (10, 7 * 5), (64, 2 * 1)])
def test_the_grid_begins_at_the_corner_and_ends_inside(
    photos: list[Tensor], stride: int, expected: int
) -> None:
    photo = photos[0]  # 96 x 80
    pool = PatchPool([photo], 32, stride=stride)
    assert len(pool) == expected
    columns = (80 - 32) // stride + 1
    for place in (0, columns - 1, expected - 1):
        row, column = divmod(place, columns)
        top, left = row * stride, column * stride
        assert pool.patch(place).equal(photo[:, top : top + 32, left : left + 32])


def test_patches_are_numbered_through_all_pictures(photos: list[Tensor]) -> None:
    pool = PatchPool(photos, 48)
    first = [(photo.shape[1] - 47) * (photo.shape[2] - 47) for photo in photos]
    assert len(pool) == sum(first)
    assert pool.patch(first[0] - 1).equal(photos[0][:, -48:, -48:])
    assert pool.patch(first[0]).equal(photos[1][:, :48, :48])
    assert pool.patch(len(pool) - 1).equal(photos[2][:, -48:, -48:])
    for wrong in (-1, len(pool)):
        with pytest.raises(DataError, match=f"expected 0 to {len(pool) - 1}"):
            pool.patch(wrong)


def test_a_patch_as_large_as_the_picture_is_the_picture(photos: list[Tensor]) -> None:
    photo = photos[2][:, :48, :48]
    pool = PatchPool([photo], 48)
    assert len(pool) == 1
    assert all(len(found([photo], patch)) == 1 for patch in pool.sample(8, generator()))


def test_the_generator_alone_decides(photos: list[Tensor]) -> None:
    pool = PatchPool(photos, 16)
    torch.manual_seed(1)
    first = pool.sample(8, generator(5))
    torch.manual_seed(2)
    assert pool.sample(8, generator(5)).equal(first)
    assert not pool.sample(8, generator(6)).equal(first)
    stream = generator(5)
    assert pool.sample(8, stream).equal(first)
    assert not pool.sample(8, stream).equal(first)


@pytest.mark.parametrize("device", DEVICES)
def test_pixels_live_on_the_device_with_8_bits(photos: list[Tensor], device: str) -> None:
    pool = PatchPool(photos, 16, device=device)
    assert pool.pixels.dtype == torch.uint8
    assert pool.pixels.numel() == sum(photo.numel() for photo in photos)
    drawn = pool.sample(32, generator())
    assert pool.pixels.device.type == drawn.device.type == device
    assert drawn.dtype == torch.float32
    assert drawn.shape == (32, 3, 16, 16)
    assert (drawn * 255 - (drawn * 255).round()).abs().max() < 1e-4
    assert drawn.cpu().equal(PatchPool(photos, 16).sample(32, generator()))


def test_grey_pictures_have_one_channel() -> None:
    grey = images.from_uint8(torch.from_numpy(skimage.data.camera().copy())[None])  # type: ignore[no-untyped-call]
    assert PatchPool([grey], 40, stride=10).sample(2, generator()).shape == (2, 1, 40, 40)


def test_what_cannot_be_cut_is_refused(photos: list[Tensor]) -> None:
    with pytest.raises(DataError, match="no picture"):
        PatchPool([], 8)
    with pytest.raises(DataError, match="a picture of 50 x 48 pixels is smaller than the patch"):
        PatchPool(photos, 49)
    with pytest.raises(DataError, match=r"pictures of \[1, 3\] channels"):
        PatchPool([photos[0], photos[1][:1]], 8)
    for size, stride in ((0, 1), (8, 0)):
        with pytest.raises(DataError, match="expected 1 or more"):
            PatchPool(photos, size, stride=stride)


def test_samples_are_degraded_patches_of_the_step_number_alone(photos: list[Tensor]) -> None:
    batches = datasets.synthetic(PatchPool(photos, 16), GaussianNoise((0.0, 55.0)), 6)
    sample = batches(3, generator(3))
    assert set(sample) == {"clean", "degraded", "noise_level"}
    assert sample["clean"].shape == sample["degraded"].shape == (6, 3, 16, 16)
    assert len(set(sample["noise_level"].flatten().tolist())) == 6
    again = batches(3, generator(3))
    assert all(again[name].equal(value) for name, value in sample.items())


# Sizes


def test_the_released_codes_pyramid_shrinks_one_after_another() -> None:
    # Train400 is 180 x 180; the released code resizes by .9, .8, .7 in turn, each rounded up:
    # 162, then 129.6 -> 130, then 91. Their patches of 40 at stride 10: 225 + 169 + 100 + 36.
    photo = colour("astronaut")[:, :180, 100:280]
    made = list(datasets.pyramid([photo], (1, 0.9, 0.8, 0.7), cumulative=True))
    assert [tuple(p.shape[1:]) for p in made] == [(180,) * 2, (162,) * 2, (130,) * 2, (91,) * 2]
    counts = [len(PatchPool([p], 40, stride=10)) for p in made]
    assert counts == [225, 169, 100, 36]
    assert made[0].equal(photo)
    assert made[2].equal(images.resize(made[1], scale=0.8).clamp(0, 1))


def test_a_pyramid_of_the_original_shrinks_each_picture_by_itself(photos: list[Tensor]) -> None:
    made = list(datasets.pyramid(photos[:2], (1.0, 0.5, 0.25)))
    assert [tuple(p.shape[1:]) for p in made] == [
        *[(96, 80), (48, 40), (24, 20)],
        *[(64, 128), (32, 64), (16, 32)],
    ]
    assert made[2].equal(images.resize(photos[0], scale=0.25).clamp(0, 1))
    assert all(float(p.min()) >= 0 and float(p.max()) <= 1 for p in made)


# Sets on disk


@pytest.fixture
def root(tmp_path: Path, photos: list[Tensor]) -> Path:
    """Set12 with a grey and a colour file, and what people's disks have besides."""
    folder = tmp_path / "SET12"
    folder.mkdir()
    images.write(folder / "02.png", images.luma(photos[0]))
    images.write(folder / "01.PNG", photos[2])
    for name in ("README.txt", "._01.png", "Thumbs.db"):
        (folder / name).write_bytes(b"not a picture")
    (folder / "deeper").mkdir()
    return tmp_path


def test_a_set_is_found_without_regard_to_case_and_read_in_order(
    root: Path, photos: list[Tensor]
) -> None:
    assert SET12.find(root) == root / "SET12"
    assert [file.name for file in SET12.files(root)] == ["01.PNG", "02.png"]
    grey = SET12.read(root)
    assert list(grey) == ["01", "02"]
    assert [tuple(picture.shape) for picture in grey.values()] == [(1, 48, 50), (1, 96, 80)]
    torch.testing.assert_close(grey["01"], images.luma(photos[2]), rtol=0, atol=1e-6)
    assert next(iter(SET12.read(root))) == "01"


def test_the_first_of_several_names_wins(root: Path) -> None:
    (root / "test12").mkdir()
    assert SET12.find(root) == root / "SET12"
    assert Layout("x", ("test12", "Set12"), 1, False, "p").find(root) == root / "test12"
    assert SET5.find(root) is None


@pytest.mark.parametrize("case", ["no root", "no set", "no pictures"])
def test_what_is_missing_is_told_with_the_layout_and_the_source(root: Path, case: str) -> None:
    (root / "Set5").mkdir()
    layout, where, fault = {
        "no root": (SET12, root / "absent", "is no folder"),
        "no set": (Layout("Set14", ("Set14",), 14, True, "the page"), root, "Set14 is not under"),
        "no pictures": (SET5, root, "holds no pictures"),
    }[case]
    with pytest.raises(DataError, match=fault) as error:
        datasets.check(where, [layout])
    assert f"{layout.folders[0]}/*.png ({layout.count} pictures)" in str(error.value)
    assert f"Official source: {layout.page}" in str(error.value)


def test_all_sets_are_checked_before_anything_starts(root: Path) -> None:
    assert {name: len(files) for name, files in datasets.check(root, [SET12]).items()} == {
        "Set12": 2
    }
    with pytest.raises(DataError, match="Set5 is not under"):
        datasets.check(root, [SET12, SET5])


def test_grey_or_colour(photos: list[Tensor]) -> None:
    picture = photos[0]
    grey = images.luma(picture)
    assert datasets.grey_or_colour(picture, True).equal(picture)
    assert datasets.grey_or_colour(picture, False).equal(grey)
    assert datasets.grey_or_colour(grey, False).equal(grey)
    assert datasets.grey_or_colour(grey, True).equal(torch.cat([grey] * 3))
