"""Crops out of pairs: the same place and turn in both, and what a step sees depends on it alone."""

from __future__ import annotations

import pytest
import torch

from enhancelib import images
from enhancelib.datasets import DataError
from enhancelib.pairpool import PairPool, Pairs, RotatingPool

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
COUNT, HEIGHT, WIDTH = 5, 20, 28


def charts(count: int = COUNT) -> Pairs:
    """Pixels say where they are: row, column, pair; the camera's are 100 brighter."""
    row, column = torch.meshgrid(torch.arange(HEIGHT), torch.arange(WIDTH), indexing="ij")
    first = torch.stack([torch.stack([row, column, torch.full_like(row, k)]) for k in range(count)])
    levels = torch.stack([first, first + 100]).to(torch.uint8)
    return Pairs(tuple(f"chart {k}" for k in range(count)), levels)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("device", DEVICES)
def test_both_crops_are_one_place_and_one_turn(device: str) -> None:
    sample = PairPool(charts(), device=device).sample(400, 8, generator())
    phone, camera = ((sample[key] * 255).round().cpu() for key in ("degraded", "clean"))
    assert sample["clean"].device.type == device
    assert torch.equal(camera, phone + 100)
    seen = set()
    for crop in phone:
        # a chart's crop, turned back, counts up by one along rows and columns
        turns = [
            k
            for k in range(8)
            if torch.equal(
                images.dihedral(_plain(crop), k), crop - crop.amin((1, 2))[:, None, None]
            )
        ]
        assert len(turns) == 1
        seen.add((int(crop[2, 0, 0]), turns[0]))
        assert crop[2].unique().numel() == 1
    assert len(seen) == COUNT * 8
    tops = phone[:, 0].amin((1, 2))
    lefts = phone[:, 1].amin((1, 2))
    assert (tops.min(), tops.max()) == (0, HEIGHT - 8)
    assert (lefts.min(), lefts.max()) == (0, WIDTH - 8)


def _plain(crop: torch.Tensor) -> torch.Tensor:
    row, column = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
    return torch.stack([row, column, torch.zeros(8, 8)])


def test_every_pair_is_as_likely() -> None:
    sample = PairPool(charts()).sample(5000, 4, generator())
    share = (sample["degraded"][:, 2, 0, 0] * 255).round().long().bincount() / 5000
    assert share.tolist() == pytest.approx([0.2] * 5, abs=5 * (0.2 * 0.8 / 5000) ** 0.5)


def test_whole_pictures_can_be_drawn() -> None:
    square = Pairs(("a",), charts(1).levels[..., :20])
    sample = PairPool(square).sample(16, 20, generator())
    assert sample["clean"].shape == (16, 3, 20, 20)
    with pytest.raises(DataError, match=r"crops of 21 pixels out of pictures of 20 x 20"):
        PairPool(square).sample(1, 21, generator())


def test_the_generator_alone_decides() -> None:
    pool = PairPool(charts())
    batches = pool.batches(4, 8)
    a, b = batches(3, generator(7))["clean"], batches(90, generator(7))["clean"]
    assert torch.equal(a, b)
    assert not torch.equal(a, batches(3, generator(8))["clean"])


def numbers(sample: dict[str, torch.Tensor]) -> set[int]:
    return set((sample["degraded"][:, 2, 0, 0] * 255).round().long().tolist())


def rotating(**options: int) -> RotatingPool:
    whole = charts(40)
    return RotatingPool(whole.choose, 40, **{"block": 6, "every": 10, **options})


def test_a_block_is_replaced_after_its_steps() -> None:
    batches = rotating().batches(200, 4)
    seen = [numbers(batches(step, generator(step))) for step in (0, 9, 10, 19, 20)]
    assert [len(one) for one in seen] == [6] * 5
    assert seen[0] == seen[1]
    assert seen[2] == seen[3]
    assert seen[0] != seen[2] != seen[4]


def test_what_a_step_sees_depends_on_its_number_alone() -> None:
    """A run that is killed and started again at any step draws what the first would have drawn."""
    straight, resumed, backward = (rotating().batches(8, 4) for _ in range(3))
    first = [straight(step, generator(step))["clean"] for step in range(35)]
    for step in (34, 12, 13):
        assert torch.equal(resumed(step, generator(step))["clean"], first[step])
    for step in reversed(range(35)):
        assert torch.equal(backward(step, generator(step))["clean"], first[step])


def test_other_seeds_make_other_blocks() -> None:
    a, b = (numbers(rotating(seed=s).batches(200, 4)(0, generator())) for s in (0, 1))
    assert a != b


def test_all_pairs_come_in_time() -> None:
    pool = rotating()
    seen: set[int] = set()
    for block in range(60):
        seen |= numbers(pool.batches(100, 4)(10 * block, generator(block)))
    assert seen == set(range(40))


def test_a_block_is_read_once() -> None:
    read: list[int] = []
    whole = charts(40)

    def choose(places: list[int]) -> Pairs:
        read.append(len(places))
        return whole.choose(places)

    batches = RotatingPool(choose, 40, block=6, every=10).batches(2, 4)
    for step in range(25):
        batches(step, generator())
    assert read == [6, 6, 6]


def test_a_small_set_is_one_block() -> None:
    pool = rotating(block=100)
    assert len(pool.pool(0)) == len(pool.pool(10)) == 40


def test_white_needs_every_pixel_of_both() -> None:
    levels = torch.full((2, 4, 3, 4, 4), 255, dtype=torch.uint8)
    levels[0, 1, 2, 3, 3] = 254
    levels[1, 2, 0, 0, 0] = 254
    pairs = Pairs(tuple("abcd"), levels)
    assert pairs.white.tolist() == [True, False, False, True]
    assert pairs.without_white().names == ("b", "c")


def test_chunks_are_all_pairs_in_order() -> None:
    pairs = charts()
    parts = pairs.chunks(2)
    assert [len(part["clean"]) for part in parts] == [2, 2, 1]
    assert torch.equal(torch.cat([part["degraded"] for part in parts]), pairs.degraded)
    assert torch.equal(torch.cat([part["clean"] for part in parts]), pairs.clean)


@pytest.mark.parametrize(
    "levels",
    [
        torch.zeros(2, 1, 3, 4, 4),
        torch.zeros(1, 1, 3, 4, 4, dtype=torch.uint8),
        torch.zeros(2, 1, 1, 4, 4, dtype=torch.uint8),
        torch.zeros(2, 3, 4, 4, dtype=torch.uint8),
    ],
)
def test_other_levels_are_refused(levels: torch.Tensor) -> None:
    with pytest.raises(DataError, match="1 names for pairs of shape"):
        Pairs(("a",), levels)
