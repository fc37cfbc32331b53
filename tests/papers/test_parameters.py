"""Values are refused in one sentence that says what was seen and what is accepted."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import pytest

from enhancelib.papers.parameters import (
    PROFILES,
    TABLES,
    Common,
    ParameterError,
    checked,
    parameter,
)


@dataclass(frozen=True)
class Parameters(Common):
    """The common ones and one of every other kind."""

    sigma: float = parameter(25.0, "noise level", low=1, high=75)
    steps: int = parameter(0, "optimiser steps", low=0)
    shift: float = parameter(0.0, "any number")
    clip: bool = parameter(False, "whether to clip")


def check(**given: object) -> Parameters:
    return checked(Parameters, given, slug="tiny")


def refusal(**given: object) -> str:
    with pytest.raises(ParameterError) as caught:
        check(**given)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_defaults() -> None:
    assert check() == Parameters()


def test_every_default_is_accepted() -> None:
    assert check(**dataclasses.asdict(Parameters())) == Parameters()


def test_whole_numbers_become_floats_where_one_is_wanted() -> None:
    sigma = check(sigma=15).sigma
    assert sigma == 15.0
    assert isinstance(sigma, float)


def test_the_ends_of_a_range_are_in_it() -> None:
    assert [check(sigma=value).sigma for value in (1, 75)] == [1.0, 75.0]
    assert check(seed=2**31 - 1, steps=10**9).steps == 10**9


@pytest.mark.parametrize("name", ["profile", "tables"])
def test_choices(name: str) -> None:
    choices = {"profile": PROFILES, "tables": TABLES}[name]
    for value in choices:
        assert getattr(check(**{name: value}), name) == value
    assert refusal(**{name: "huge"}) == (
        f"tiny: {name} is 'huge'; expected one of {', '.join(choices)}"
    )


def test_an_unknown_name_gets_a_hint_and_the_list() -> None:
    said = refusal(proflie="paper")
    assert said.startswith("tiny has no parameter 'proflie' (did you mean 'profile'?); it takes ")
    assert said.endswith("profile, seed, seeds, device, data_root, weights, out, tables, sigma, "
                         "steps, shift, clip")  # fmt: skip


def test_an_unknown_name_like_no_other_gets_no_hint() -> None:
    assert "did you mean" not in refusal(xyzzy=1)


REFUSED = {
    "text for a number": ({"sigma": "much"}, "sigma is 'much' (text); expected a number from 1"),
    "number for a text": ({"device": 0}, "device is 0 (a whole number); expected text: auto"),
    "a fraction": (
        {"seeds": 2.5},
        "seeds is 2.5 (a number); expected a whole number from 1 to 100",
    ),
    "a float that is whole": ({"seeds": 3.0}, "seeds is 3.0 (a number); expected a whole number"),
    "true is no number": ({"seeds": True}, "seeds is True (true or false); expected a whole"),
    "true is no float": ({"sigma": True}, "sigma is True (true or false); expected a number"),
    "one is not true": ({"clip": 1}, "clip is 1 (a whole number); expected true or false"),
    "nothing": ({"sigma": None}, "sigma is None (NoneType); expected a number from 1 to 75"),
    "a list": ({"sigma": [15, 25]}, "sigma is [15, 25] (list); expected a number from 1 to 75"),
    "below": ({"sigma": 0.5}, "sigma is 0.5; expected a number from 1 to 75"),
    "above": ({"sigma": 76}, "sigma is 76.0; expected a number from 1 to 75"),
    "negative": ({"steps": -1}, "steps is -1; expected a whole number, 0 or more"),
    "not a number": ({"sigma": math.nan}, "sigma is nan; expected a number from 1 to 75"),
    "infinite": ({"sigma": math.inf}, "sigma is inf; expected a number from 1 to 75"),
    "infinite, without a range": ({"shift": -math.inf}, "shift is -inf; expected a number: any"),
    "no float is that large": ({"sigma": 10**400}, "(a whole number); expected a number from 1"),
    "a seed beyond 31 bits": ({"seed": 2**31}, "expected a whole number from 0 to 2.14748e+09"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str) -> None:
    given, reason = REFUSED[case]
    assert reason in refusal(**given)


def test_a_whole_number_of_any_size_without_an_upper_end() -> None:
    assert check(steps=10**400).steps == 10**400


def test_all_seeds() -> None:
    assert check(seed=7, seeds=3).all_seeds() == [7, 8, 9]


def test_parameters_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        check().seed = 1  # type: ignore[misc]
