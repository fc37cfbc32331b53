"""What a game remembers: earlier pictures and an adaptive weight."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from enhancelib.memories import AdaptiveWeight, ImagePool
from tests.arms import photo

# Image pool


def patches(first: int, count: int) -> Tensor:
    """Some 8x8 pieces of a photo, no two alike."""
    tiles = photo("camera")[0].unfold(0, 8, 8).unfold(1, 8, 8).reshape(-1, 1, 8, 8)
    return tiles[64 * 30 + first :][:count]


def numbers(first: int, count: int) -> dict[str, Tensor]:
    values = torch.arange(first, first + count, dtype=torch.float32)
    return {"output": values[:, None], "label": values + 0.5, "clean": -values}


def test_the_pool_fills_before_it_gives_anything_back() -> None:
    pool, generator = ImagePool(50), torch.Generator()
    before = generator.get_state()
    for first in range(0, 50, 10):
        shown = pool.exchange({"output": patches(first, 10)}, generator)["output"]
        assert shown.equal(patches(first, 10))
    assert len(pool) == 50
    assert generator.get_state().equal(before), "there was nothing to choose"


def test_a_full_pool_gives_an_earlier_picture_half_of_the_time() -> None:
    pool, generator = ImagePool(50), torch.Generator().manual_seed(0)
    old, trials = 0, 4000
    for index in range(50 + trials):
        (shown,) = pool.exchange(numbers(index, 1), generator)["output"].flatten().tolist()
        old += shown != index
    assert len(pool) == 50
    # binomial with p = 1/2: five standard deviations are 5 * sqrt(4000) / 2 = 158
    assert abs(old - trials / 2) < 158


def test_an_earlier_picture_leaves_when_it_is_shown_and_the_new_one_stays() -> None:
    pool, generator = ImagePool(5), torch.Generator().manual_seed(1)
    kept = set(range(5))
    pool.exchange(numbers(0, 5), generator)
    places = set()
    for index in range(5, 400):
        (shown,) = pool.exchange(numbers(index, 1), generator)["output"].flatten().tolist()
        if shown != index:
            places.add([float(row["output"]) for row in pool._kept].index(index))
            kept = kept - {int(shown)} | {index}
        assert {int(row["output"]) for row in pool._kept} == kept
    assert places == set(range(5)), "every place is drawn"


def test_what_belongs_to_a_picture_goes_with_it_and_nothing_else_does() -> None:
    pool, generator = ImagePool(3, keys=("output", "label")), torch.Generator().manual_seed(0)
    moved = False
    for first in range(0, 40, 4):
        sample = numbers(first, 4)
        shown = pool.exchange(sample, generator)
        assert (shown["label"] - shown["output"][:, 0]).equal(torch.full((4,), 0.5))
        assert shown["clean"] is sample["clean"]
        assert sample["output"].equal(numbers(first, 4)["output"]), "the sample itself stays"
        moved |= not shown["output"].equal(sample["output"])
    assert moved


def test_nothing_flows_back_through_the_pool_and_nothing_in_it_changes_later() -> None:
    pool, generator = ImagePool(4), torch.Generator().manual_seed(0)
    picture = torch.ones(4, 1, requires_grad=True)
    assert not pool.exchange({"output": 2 * picture}, generator)["output"].requires_grad
    made = torch.full((4, 1), 7.0)
    for _ in range(20):
        pool.exchange({"output": made}, generator)
    made.zero_()
    assert [float(row["output"]) for row in pool._kept] == [7.0] * 4


def test_a_pool_without_room_shows_everything_as_it_is() -> None:
    pool, generator = ImagePool(0), torch.Generator()
    assert pool.exchange(numbers(0, 9), generator)["output"].equal(numbers(0, 9)["output"])
    assert len(pool) == 0


def test_a_pool_from_a_checkpoint_goes_on_as_the_first_would(tmp_path: Any) -> None:
    first = ImagePool(8)
    for index in range(12):
        first.exchange({"output": patches(2 * index, 2)}, torch.Generator().manual_seed(index))
    torch.save(first.state_dict(), tmp_path / "pool.pt")
    second = ImagePool(8)
    second.load_state_dict(torch.load(tmp_path / "pool.pt", weights_only=True))
    for index in range(12, 30):
        sample = {"output": patches(2 * index, 2)}
        a, b = (p.exchange(sample, torch.Generator().manual_seed(index)) for p in (first, second))
        assert a["output"].equal(b["output"])
    assert len(second) == 8


def test_a_pool_costs_a_checkpoint_its_own_pictures_and_no_more(tmp_path: Any) -> None:
    pool = ImagePool(2)
    pool.exchange({"output": torch.rand(64, 3, 32, 32)}, torch.Generator())
    torch.save(pool.state_dict(), tmp_path / "pool.pt")
    assert (tmp_path / "pool.pt").stat().st_size < 2 * 3 * 32 * 32 * 4 + 4000


@pytest.mark.parametrize("other", [ImagePool(7), ImagePool(8, keys=("output", "label"))])
def test_the_state_of_another_pool_is_refused(other: ImagePool) -> None:
    with pytest.raises(ValueError, match=r"the pool has size 8 and keys \['output'\], the state"):
        ImagePool(8).load_state_dict(other.state_dict())


def test_pictures_of_another_size_are_refused_with_both_sizes() -> None:
    pool = ImagePool(8)
    pool.exchange({"output": torch.zeros(1, 3, 8, 8)}, torch.Generator())
    with pytest.raises(ValueError, match=r"of \(3, 8, 9\), the pool keeps \(3, 8, 8\)"):
        pool.exchange({"output": torch.zeros(1, 3, 8, 9)}, torch.Generator())


@pytest.mark.parametrize("wrong", [{"size": -1}, {"size": 1, "keys": ()}, {"size": 1, "keys": "x"}])
def test_a_pool_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected 0 or more, and a key or more"):
        ImagePool(**wrong)


# Adaptive weight


def test_the_weight_doubles_above_the_upper_bound_and_halves_below_the_lower_one() -> None:
    weight = AdaptiveWeight(10.0, window=3)
    assert [weight.update(1.2) for _ in range(7)] == [10, 10, 20, 20, 20, 40, 40]
    weight = AdaptiveWeight(10.0, window=3)
    assert [weight.update(0.9) for _ in range(7)] == [10, 10, 5, 5, 5, 2.5, 2.5]
    weight = AdaptiveWeight(10.0, window=3)
    assert {weight.update(slope) for slope in (1.001, 1.02, 1.05) * 20} == {10.0}, "in between"


def test_the_mean_of_the_window_decides_not_the_last_value() -> None:
    weight = AdaptiveWeight(1.0, window=4)
    for slope in (1.0, 1.0, 1.04, 1.04):  # mean 1.02
        assert weight.update(slope) == 1.0
    # the window moves: the mean of the last four is 1.045, then 1.0575
    assert [weight.update(slope) for slope in (1.06, 1.06)] == [1.0, 1.0]
    assert weight.update(1.07) == 2.0


def test_a_bound_of_zero_never_halves() -> None:
    weight = AdaptiveWeight(10.0, low=0.0, high=0.05, window=2)  # the official code's, on penalties
    assert [weight.update(p) for p in (0.0, 0.0, 0.0, 0.2, 0.0)] == [10, 10, 10, 20, 20]


def test_a_weight_that_cannot_be_measured_stays() -> None:
    weight = AdaptiveWeight(10.0, window=1)
    assert weight.update(math.nan) == 10.0


@pytest.mark.parametrize("at", range(9))
def test_a_weight_from_a_checkpoint_goes_on_in_the_middle_of_its_window(at: int) -> None:
    slopes = [1.3, 0.9, 1.1, 1.2, 1.2, 0.5, 0.9, 0.9, 0.8, 1.4]
    whole, cut, again = (AdaptiveWeight(0.1, window=4) for _ in range(3))
    expected = [whole.update(slope) for slope in slopes]
    seen = [cut.update(slope) for slope in slopes[:at]]
    again.load_state_dict(cut.state_dict())
    assert seen + [again.update(slope) for slope in slopes[at:]] == expected
    assert len(set(expected)) > 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"value": 0.0},
        {"value": math.inf},
        {"low": 2.0},
        {"low": -1.0},
        {"factor": 1.0},
        {"window": 0},
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected value > 0, 0 <= low < high, factor > 1"):
        AdaptiveWeight(**wrong)
