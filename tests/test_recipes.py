"""Learning rates against closed forms, and recipes that cannot be followed."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import nn

from enhancelib.recipes import Recipe, optimiser

BASE = Recipe(steps=100, batch=4, patch=8, learning_rate=1e-1, final_learning_rate=1e-4)


def test_constant_is_constant() -> None:
    assert {BASE.rate(index) for index in range(100)} == {1e-1}


def test_exponential_falls_by_the_same_factor_every_epoch_and_ends_at_the_final_rate() -> None:
    # the paper's: 50 epochs from 1e-1 to 1e-4, constant within an epoch
    recipe = replace(BASE, schedule="exponential", steps=50 * 16, epoch=16)
    rates = [recipe.rate(16 * epoch) for epoch in range(50)]
    assert rates[0] == 1e-1
    assert rates[-1] == pytest.approx(1e-4, rel=1e-12)
    factors = {round(b / a, 12) for a, b in pairwise(rates)}
    assert factors == {round(10 ** (-3 / 49), 12)}
    assert recipe.rate(15) == rates[0]
    assert recipe.rate(16) == rates[1]


def test_exponential_without_epochs_falls_at_every_step() -> None:
    recipe = replace(BASE, schedule="exponential")
    assert recipe.rate(33) == pytest.approx(1e-1 * 10 ** (-3 * 33 / 99), rel=1e-12)
    assert recipe.rate(99) == pytest.approx(1e-4, rel=1e-12)


@pytest.mark.parametrize("steps", [7, 100, 1500])
def test_one_cycle_is_the_schedule_of_torch(steps: int) -> None:
    recipe = replace(BASE, schedule="one-cycle", steps=steps, learning_rate=8e-4)
    update = torch.optim.Adam([nn.Parameter(torch.zeros(1))])
    theirs = torch.optim.lr_scheduler.OneCycleLR(update, 8e-4, total_steps=steps)
    for index in range(steps):
        assert recipe.rate(index) == pytest.approx(update.param_groups[0]["lr"], rel=1e-9)
        update.step()
        if index < steps - 1:
            theirs.step()
    assert max(recipe.rate(index) for index in range(steps)) <= 8e-4 * (1 + 1e-9)


def test_milestones_multiply_from_their_own_step_on() -> None:
    recipe = replace(BASE, schedule="milestones", milestones=(30, 60), decay=0.1)
    expected = [(0, 1e-1), (29, 1e-1), (30, 1e-2), (59, 1e-2), (60, 1e-3), (99, 1e-3)]
    for index, rate in expected:
        assert recipe.rate(index) == pytest.approx(rate, rel=1e-12), index


def test_cosine_is_half_a_period_between_the_two_rates() -> None:
    recipe = replace(BASE, schedule="cosine", steps=101)
    for index in (0, 25, 50, 100):
        expected = 1e-4 + (1e-1 - 1e-4) * (1 + math.cos(math.pi * index / 100)) / 2
        assert recipe.rate(index) == pytest.approx(expected, rel=1e-12)
    assert recipe.rate(100) == pytest.approx(1e-4, rel=1e-12)


@pytest.mark.parametrize("schedule", ["constant", "exponential", "milestones", "cosine"])
def test_one_step_is_a_schedule_too(schedule: str) -> None:
    assert replace(BASE, steps=1, schedule=schedule).rate(0) == 1e-1


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[("optimiser", "adamw"), ("schedule", "linear"), ("steps", -1), ("batch", 0)],
        *[("patch", 0), ("sub_batches", 0), ("sub_batches", 3), ("log_every", 0)],
        *[("learning_rate", 0.0), ("learning_rate", math.nan), ("learning_rate", math.inf)],
        *[("final_learning_rate", -1e-3), ("clip", -1.0), ("watch_every", -1), ("epoch", -1)],
        ("checkpoint_seconds", -1.0),
    ],
)
def test_a_recipe_that_cannot_be_followed_names_its_value(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=str(value)):
        replace(BASE, **{field: value})  # type: ignore[arg-type]


def test_an_exponential_cannot_end_at_zero() -> None:
    with pytest.raises(ValueError, match="above 0 for schedule 'exponential'"):
        replace(BASE, schedule="exponential", final_learning_rate=0.0)


def test_adam_takes_every_constant_of_the_recipe() -> None:
    recipe = replace(BASE, betas=(0.5, 0.9), eps=1e-6, weight_decay=0.01)
    update = optimiser(nn.Linear(2, 2).parameters(), recipe)
    assert type(update) is torch.optim.Adam
    group = update.param_groups[0]
    assert (group["betas"], group["eps"], group["weight_decay"]) == ((0.5, 0.9), 1e-6, 0.01)
    assert group["lr"] == 1e-1


def test_sgd_takes_every_constant_of_the_recipe() -> None:
    recipe = replace(BASE, optimiser="sgd", momentum=0.8, weight_decay=1e-4)
    update = optimiser(nn.Linear(2, 2).parameters(), recipe)
    assert type(update) is torch.optim.SGD
    group = update.param_groups[0]
    assert (group["momentum"], group["weight_decay"], group["lr"]) == (0.8, 1e-4, 1e-1)


def test_rmsprop_takes_the_constants_of_strotss() -> None:
    recipe = replace(BASE, optimiser="rmsprop", eps=1e-6, weight_decay=0.01)
    update = optimiser(nn.Linear(2, 2).parameters(), recipe)
    assert type(update) is torch.optim.RMSprop
    group = update.param_groups[0]
    assert (group["alpha"], group["momentum"], group["centered"]) == (0.99, 0, False)
    assert (group["eps"], group["weight_decay"], group["lr"]) == (1e-6, 0.01, 1e-1)


def test_lbfgs_makes_one_iteration_a_step_and_searches_its_length() -> None:
    update = optimiser(nn.Linear(2, 2).parameters(), replace(BASE, optimiser="lbfgs"))
    assert type(update) is torch.optim.LBFGS
    group = update.param_groups[0]
    assert (group["max_iter"], group["history_size"]) == (1, 10)
    assert group["max_eval"] == 26  # or the line search has no evaluation of its own
    assert group["line_search_fn"] == "strong_wolfe"
    assert (group["tolerance_grad"], group["tolerance_change"], group["lr"]) == (0.0, 0.0, 1e-1)


@pytest.mark.parametrize("wrong", [{"clip": 1.0}, {"weight_decay": 0.1}])
def test_lbfgs_refuses_what_would_falsify_its_gradient(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="expected 0\\.0 and 0\\.0 for optimiser 'lbfgs'"):
        replace(BASE, optimiser="lbfgs", **wrong)  # type: ignore[arg-type]
