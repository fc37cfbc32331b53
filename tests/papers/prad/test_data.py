"""Which pairs the PRaD notebook trains on, watches and tests."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import torch

from enhancelib import images, pairs, photos, runtime
from enhancelib.datasets import DataError
from enhancelib.degradations import Phone
from enhancelib.papers.parameters import ParameterError
from enhancelib.papers.prad import bundled, data
from enhancelib.recipes import Recipe
from tests import dped

WHITE = {"103", "177", "221", "308"}


@dataclass(frozen=True)
class P:
    """The parameters that the data depend on."""

    profile: str = "smoke"
    data_root: str = ""
    phone: str = "iphone"
    seed: int = 0


@pytest.fixture(autouse=True)
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Photos from the user's cache, receipts in the test's own, nothing remembered."""
    own = tmp_path / "cache"
    own.mkdir()
    if (runtime.cache() / "photos").is_dir():
        (own / "photos").symlink_to(runtime.cache() / "photos")
    monkeypatch.setenv("ENHANCELIB_CACHE", str(own))
    data._real.cache_clear()
    yield
    data._real.cache_clear()


@pytest.fixture
def pirm(assets: Path) -> Any:  # mypy does not see tests; the lead's Parameters have these fields
    return P(profile="small", data_root=str(assets / "data"))


def names(p: Any) -> dict[str, set[str]]:
    parts = {"validation": data.validation(p), "test": data.test(p)}
    return {part: set(found.names) for part, found in parts.items()}


def trained_on(p: Any) -> set[str]:
    splits = data._splits(p.data_root, p.phone)
    return {Path(name).stem for name, _ in splits["train"].names}


def test_the_subset_is_split_by_number(pirm: Any) -> None:
    data.check(pirm)
    parts = names(pirm) | {"train": trained_on(pirm)}
    assert parts["train"] == {str(k) for k in range(236)} - WHITE
    assert parts["validation"] == {str(k) for k in range(236, 300)}
    assert parts["test"] == {str(k) for k in range(300, 400)}
    assert len(data.train(pirm)) == 233
    assert data.name(pirm) == "PIRM 2018 subset, 300-399"


def test_white_test_pairs_stay_and_are_marked(pirm: Any) -> None:
    test = data.test(pirm)
    assert [name for name, white in zip(test.names, test.white, strict=True) if white] == ["308"]
    assert not data.validation(pirm).white.any()
    assert len(test.without_white()) == 99
    subset = data.pirm(pirm)
    assert subset is not None
    assert {n for n, white in zip(subset.names, subset.white, strict=True) if white} == WHITE


def test_training_draws_training_pairs_only(pirm: Any) -> None:
    """Whole pictures drawn from the pool are those of numbers 0 to 235, in one of eight turns."""
    files = pairs.find(pirm.data_root)["pirm"]
    rest = files.choose(range(236, 400)).read().without_white()
    sample = data.train(pirm).sample(300, 100, torch.Generator().manual_seed(0))
    drawn = {
        tuple((sample["clean"][k] * 255).round().sum((1, 2)).long().tolist()) for k in range(300)
    }
    held = {tuple(x.long().sum((1, 2)).tolist()) for x in rest.levels[1]}
    mine = files.choose([k for k in range(236) if str(k) not in WHITE]).read()
    own = {tuple(x.long().sum((1, 2)).tolist()) for x in mine.levels[1]}
    assert drawn <= own
    assert not drawn & held


def test_a_dped_tree_is_read(assets: Path, tmp_path: Path) -> None:
    p: Any = P(profile="paper", data_root=str(dped.tree(assets, tmp_path / "root")))
    data.check(p)
    parts = names(p)
    # real pairs 100 to 129 as 0 to 29: 103 is white; the last fifth is held back
    assert trained_on(p) == {str(k) for k in range(24)} - {"3"}
    assert parts["validation"] == {str(k) for k in range(24, 30)}
    assert data.test(p).names == tuple("012345")
    assert data.name(p) == "DPED iphone, test patches"
    first = data.train(p).batches(2, 64)(0, torch.Generator().manual_seed(0))
    assert first["degraded"].shape == (2, 3, 64, 64)
    assert data.pirm(p) is None


def test_other_phones_are_read_from_their_tree(assets: Path, tmp_path: Path) -> None:
    root = dped.tree(assets, tmp_path / "root", phone="sony", train=10, test=2)
    p: Any = P(profile="paper", data_root=str(root), phone="sony")
    data.check(p)
    assert data.name(p) == "DPED sony, test patches"
    with pytest.raises(DataError, match="phone 'iphone', but pairs of sony: choose that phone"):
        data.check(P(profile="paper", data_root=str(root)))


def test_of_a_large_set_640_are_held_back_and_64_watched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """5,000 pairs by name; decoding is left out, since names alone decide the split."""
    home = tmp_path / "dped" / "iphone"
    for part in ("training_data", "test_data/patches"):
        for side in ("iphone", "canon"):
            (home / part / side).mkdir(parents=True)
            for k in range(5000 if part == "training_data" else 3):
                (home / part / side / f"{k}.jpg").touch()
    checked = pairs.Checked(100, 100, (7, 4990))
    monkeypatch.setattr(pairs, "check", lambda files: checked)
    splits = data._splits(str(tmp_path), "iphone")
    assert splits["train"].numbers() == [k for k in range(4360) if k != 7]
    assert splits["validation"].numbers() == list(range(4360, 5000, 10))
    assert splits["test"].numbers() == [0, 1, 2]


def test_more_pairs_than_a_block_rotate(
    assets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data, "BLOCK", 10)
    p: Any = P(profile="paper", data_root=str(dped.tree(assets, tmp_path / "root")))
    pool = data.train(p)
    assert isinstance(pool, pairs.RotatingPool)
    assert (pool.block, pool.every, len(pool)) == (10, 1000, 23)
    batches = pool.batches(2, 32)
    a, b = (batches(k, torch.Generator().manual_seed(1))["clean"] for k in (0, 1000))
    assert not torch.equal(a, b)
    again = data.train(p).batches(2, 32)
    assert torch.equal(again(1999, torch.Generator().manual_seed(1))["clean"], b)
    assert sum(len(chunk["clean"]) for chunk in data.chunks(p, 4)) == 10


def broken(root: Path, part: str = "training_data") -> Path:
    return root / "dped" / "iphone" / part


def test_bad_trees_are_named_before_training(assets: Path, tmp_path: Path) -> None:
    p: Any = P(profile="paper", data_root=str(dped.tree(assets, tmp_path / "root")))
    lost = broken(tmp_path / "root") / "canon" / "5.jpg"
    content = lost.read_bytes()
    lost.unlink()
    with pytest.raises(DataError, match=r"iphone/5\.jpg has no partner in \S*training_data/canon"):
        data.check(p)
    lost.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"canon/5\.jpg: damaged or truncated"):
        data.check(p)
    lost.write_bytes(content)
    small = broken(tmp_path / "root", "test_data/patches") / "iphone" / "2.jpg"
    images.write(small, torch.zeros(3, 99, 100))
    with pytest.raises(DataError, match=r"iphone/2\.jpg is 100 x 99, \S*canon/2\.jpg is 100 x 100"):
        data.check(p)


def test_one_of_two_parts_is_not_enough(assets: Path, tmp_path: Path) -> None:
    dped.pairs_of(assets, broken(tmp_path), range(10))
    with pytest.raises(DataError, match=r"has no test_data/patches; training and test"):
        data.check(P(profile="paper", data_root=str(tmp_path)))


def test_half_a_subset_is_refused(assets: Path, tmp_path: Path) -> None:
    dped.pairs_of(assets, tmp_path / "dped" / "patches", range(10))
    with pytest.raises(DataError, match="has no pair for validation among its 10"):
        data.check(P(data_root=str(tmp_path)))


def test_the_subset_is_no_other_phone(pirm: Any) -> None:
    with pytest.raises(DataError, match=r"phone 'sony', but pairs of iphone \(the PIRM subset\)"):
        data.check(P(data_root=pirm.data_root, phone="sony"))


def test_without_data_root_there_are_conditions() -> None:
    with pytest.raises(ParameterError, match="phone 'blackberry' is read from data_root"):
        data.check(P(phone="blackberry"))
    with pytest.raises(ParameterError, match="profile 'paper' trains on DPED; give data_root"):
        data.check(P(profile="paper"))
    data.check(P())


def test_a_missing_bank_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENHANCELIB_CACHE", str(tmp_path / "empty"))
    with pytest.raises(ParameterError, match="pictures are missing; run `enhancelib fetch"):
        data.check(P(profile="small"))
    data.check(P())


def test_smoke_needs_no_fetched_photo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENHANCELIB_CACHE", str(tmp_path / "empty"))
    bundled._made.cache_clear()
    p: Any = P()
    own = {"rocket", "motorcycle_left", "astronaut", "coffee", "chelsea"}
    parts = [data.validation(p), data.test(p)]
    assert {name.split(" ")[0] for part in parts for name in part.names} <= own
    assert [len(part) for part in parts] == [8, 8]
    assert len(data.train(p)) == 16
    assert data.name(p) == "bundled photos, degraded"
    assert data.pirm(p) is None


def test_photos_never_cross_splits() -> None:
    found = {}
    for split in photos.SPLITS:
        patches = bundled.bank(split, 6, bundled=True)
        found[split] = {name.split(" ")[0] for name in patches.names}
        assert found[split] <= set(photos.names(split))
    assert all(not a & b for a, b in combinations(found.values(), 2))


def test_test_and_validation_pairs_are_the_same_for_every_seed() -> None:
    a, b = P(seed=0), P(seed=1)
    assert torch.equal(data.test(a).levels, data.test(b).levels)
    assert torch.equal(data.validation(a).levels, data.validation(b).levels)
    bundled._made.cache_clear()
    kept = data.test(a).levels
    bundled._made.cache_clear()
    assert torch.equal(data.test(a).levels, kept)
    pools = [data.train(p).sample(2, 32, torch.Generator().manual_seed(0)) for p in (a, b)]
    assert not torch.equal(pools[0]["clean"], pools[1]["clean"])


def test_made_pairs_hold_no_invented_border() -> None:
    """A repeated border has equal lines: there the phone would lose more detail than inside."""
    moved = Phone(shift=6.0, blur=0.0, noise=0.0, quality=100)
    made = bundled.bank("test", 60, bundled=True, phone=moved)
    for axis in (-2, -1):
        degraded, clean = (
            images.luma(part).diff(dim=axis).abs().transpose(axis, -1).mean((0, 1, 2))
            for part in (made.degraded, made.clean)
        )
        inside = float(degraded[10:-10].mean() / clean[10:-10].mean())
        for edge in (slice(None, 4), slice(-4, None)):
            kept = float(degraded[edge].mean() / clean[edge].mean())
            assert kept == pytest.approx(inside, rel=0.2)


def test_textured_places_are_preferred() -> None:
    """The rocket photo is mostly sky; a place taken at random holds less detail than the best."""
    photo = photos.load("rocket")
    generator = torch.Generator().manual_seed(0)
    at_random = []
    for _ in range(200):
        top = int(torch.randint(427 - 99, (1,), generator=generator))
        left = int(torch.randint(640 - 99, (1,), generator=generator))
        at_random.append(images.luma(photo[:, top : top + 100, left : left + 100]).std())
    chosen = bundled.bank("train", 40, bundled=True).clean
    assert float(images.luma(chosen).std((1, 2, 3)).mean()) > 1.2 * float(
        torch.stack(at_random).mean()
    )


def test_aligned_pairs_lie_over_one_another() -> None:
    exact, moved = data.aligned(P()), data.test(P())
    assert len(exact) == 8
    for k in range(8):
        x, y = (images.luma(part[k : k + 1])[0, 0] for part in (exact.degraded, exact.clean))
        scores = {
            (i, j): float(
                torch.corrcoef(torch.stack([x[5:-5, 5:-5], _window(y, i, j)]).flatten(1))[0, 1]
            )
            for i in (-1, 0, 1)
            for j in (-1, 0, 1)
        }
        assert max(scores, key=lambda place: scores[place]) == (0, 0)
    assert exact.names[0].split(" ")[0] in {name.split(" ")[0] for name in moved.names}


def _window(y: torch.Tensor, down: int, right: int) -> torch.Tensor:
    return y[5 + down : 95 + down, 5 + right : 95 + right]


@pytest.mark.parametrize("shift", [0, 2, 4])
def test_shifted_crops_move_the_target_by_whole_pixels(shift: int) -> None:
    recipe = Recipe(steps=1, batch=64, patch=32)
    batches = data.shifted(P(), recipe, shift)
    still = data.shifted(P(), recipe, 0)
    sample = batches(0, torch.Generator().manual_seed(3))
    assert sample["clean"].shape == sample["degraded"].shape == (64, 3, 32, 32)
    if shift == 0:
        again = still(5, torch.Generator().manual_seed(3))
        assert torch.equal(sample["clean"], again["clean"])
        return
    seen = set()
    source = bundled.bank("train", 16, phone=Phone(shift=0.0), size=108, bundled=True)
    for degraded, clean in zip(sample["degraded"][:12], sample["clean"][:12], strict=True):
        places = [
            (_places(x, degraded), _places(y, clean))
            for k in range(8)
            for x, y in zip(
                images.dihedral(source.degraded, k), images.dihedral(source.clean, k), strict=True
            )
        ]
        moves = {(b[0] - a[0], b[1] - a[1]) for one, other in places for a in one for b in other}
        assert moves
        assert any(max(map(abs, move)) <= shift for move in moves)
        seen |= moves
    assert len(seen) > 4


def _places(picture: torch.Tensor, patch: torch.Tensor) -> list[tuple[int, int]]:
    """Where the patch stands in the picture, exactly."""
    corner = (picture[:, : 108 - 31, : 108 - 31] == patch[:, :1, :1]).all(0).nonzero().tolist()
    return [(r, c) for r, c in corner if torch.equal(picture[:, r : r + 32, c : c + 32], patch)]


def test_clean_patches_are_the_cameras(pirm: Any) -> None:
    files = pairs.find(pirm.data_root)["pirm"]
    patches = data.clean_patches(pirm, 100)
    assert torch.equal(patches, files.read(range(100)).clean)
    assert data.clean_patches(P(), 4).shape == (4, 3, 100, 100)


def test_inputs_are_the_digests_of_what_is_read(pirm: Any, assets: Path, tmp_path: Path) -> None:
    first = data.inputs(pirm)
    folder = assets / "data" / "dped" / "patches"
    files = [folder / side / f"{k}.jpg" for k in range(400) for side in ("iphone", "canon")]
    assert first == {"inputs": {"PIRM 2018 subset": runtime.digest(*files)}, "data_label": "real"}
    root = dped.tree(assets, tmp_path / "root", train=5, test=2)
    found = data.inputs(P(data_root=str(root)))["inputs"]
    assert isinstance(found, dict)
    assert set(found) == {"DPED iphone, training patches", "DPED iphone, test patches"}
    assert data.inputs(P()) == {"inputs": {}, "data_label": ""}


def test_whole_photos_are_the_phones_where_there_are_some(pirm: Any) -> None:
    own = data.full_size(pirm, 1)
    assert {name: tuple(x.shape) for name, x in own.items()} == {"0": (3, 720, 1280)}
    made = data.full_size(P(), 2)
    assert list(made) == ["astronaut", "coffee"]
    clean = photos.load("coffee")
    assert made["coffee"].shape == clean.shape
    assert float(images.luma(made["coffee"]).mean()) < float(images.luma(clean).mean())


def test_the_strip_shows_photos_that_may_be_shown() -> None:
    for profile in ("smoke", "small"):
        listed = data.other_cameras(P(profile=profile))
        assert listed[:3] == ["astronaut", "coffee", "chelsea"]
        assert all(photos.find(name).publishable for name in listed)
        assert all(photos.find(name).split == "test" for name in listed)
    assert max(bundled.whole("coffee").shape) == 600


def test_the_few_pairs_of_a_phone(pirm: Any) -> None:
    found = data.few(P(data_root=pirm.data_root, phone="sony"))
    assert found is not None
    assert len(found) == 4
    assert data.few(P()) is None
