"""An objective is the weighted sum of its terms, in value and in gradient."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn

from enhancelib.losses import Objective, Term, pixel


def two_terms() -> Objective:
    return Objective(
        {
            "content": Term(2.0, pixel.mse),
            "smooth": Term(0.25, lambda x: (x[..., 1:] - x[..., :-1]).abs().mean(), of=("output",)),
        }
    )


def photo(seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    clean = torch.rand(2, 1, 6, 6, generator=generator, dtype=torch.float64)
    degraded = clean + 0.1 * torch.randn(2, 1, 6, 6, generator=generator, dtype=torch.float64)
    return {"clean": clean, "output": degraded.requires_grad_()}


def test_the_total_is_the_weighted_sum_of_the_values() -> None:
    sample = photo()
    total, values = two_terms()(sample)
    assert float(values["content"]) == float(pixel.mse(sample["output"], sample["clean"]).detach())
    expected = 2.0 * values["content"] + 0.25 * values["smooth"]
    torch.testing.assert_close(total.detach(), expected)
    assert total.requires_grad
    assert not any(value.requires_grad for value in values.values())


def test_the_total_gradient_is_the_weighted_sum_of_the_terms_gradients() -> None:
    sample, objective = photo(), two_terms()
    apart = objective.gradients(sample, sample["output"])
    assert list(apart) == ["content", "smooth"]
    for weights in ({}, {"content": -1.5}, {"content": 0.0, "smooth": 7.0}):
        changed = objective.weighted(weights)
        total, _ = changed(sample)
        (whole,) = torch.autograd.grad(total, sample["output"], retain_graph=True)
        summed = sum(changed.terms[name].weight * apart[name] for name in apart)
        torch.testing.assert_close(whole, summed)


def test_gradients_keep_the_graph_of_the_sample() -> None:
    network = nn.Conv2d(1, 1, 3, padding=1, dtype=torch.float64)
    sample = photo()
    sample["output"] = network(sample["output"])
    objective = two_terms()
    apart = objective.gradients(sample, network.weight)
    total, _ = objective(sample)
    total.backward()
    summed = sum(objective.terms[name].weight * apart[name] for name in apart)
    torch.testing.assert_close(network.weight.grad, summed)


def test_a_term_that_does_not_depend_has_gradient_zero() -> None:
    sample = {**photo(), "mask": torch.ones(3, dtype=torch.float64)}
    other = torch.ones(2, dtype=torch.float64, requires_grad=True)
    objective = Objective(
        {"constant": Term(1.0, torch.sum, of=("mask",)), "content": Term(1.0, pixel.mse)}
    )
    constant = objective.gradients(sample, sample["output"])["constant"]
    assert constant.shape == sample["output"].shape
    assert not constant.any()
    assert not objective.gradients(sample, other)["content"].any()


def test_weights_change_without_touching_the_original() -> None:
    objective = two_terms()
    assert objective.weighted({"smooth": 3.0}).terms["smooth"].weight == 3.0
    assert objective.terms["smooth"].weight == 0.25


def test_a_missing_key_is_named_with_those_at_hand() -> None:
    with pytest.raises(ValueError, match=r"'content' needs 'clean'; the sample has depth, output"):
        two_terms()({"output": torch.ones(1), "depth": torch.ones(1)})


@pytest.mark.parametrize(
    ("fn", "shown"), [(lambda x: x, r"shape \(2, 1, 6, 6\)"), (lambda x: 1.0, "1.0")]
)
def test_a_term_must_be_a_scalar(fn: object, shown: str) -> None:
    objective = Objective({"odd": Term(1.0, fn, of=("output",))})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=f"'odd' returned {shown}; expected a scalar tensor"):
        objective(photo())


@pytest.mark.parametrize("weight", [float("nan"), float("inf"), -float("inf")])
def test_a_weight_is_finite(weight: float) -> None:
    with pytest.raises(ValueError, match="expected a finite number"):
        Term(weight, pixel.mse)
    with pytest.raises(ValueError, match="expected a finite number"):
        two_terms().weighted({"content": weight})


def test_other_bad_input() -> None:
    with pytest.raises(ValueError, match="expected a function"):
        Term(1.0, "mse")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected a tuple of sample keys"):
        Term(1.0, pixel.mse, of="output")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected a tuple of sample keys"):
        Term(1.0, pixel.mse, of=())
    with pytest.raises(ValueError, match="at least one Term"):
        Objective({})
    with pytest.raises(ValueError, match="unknown term 'style'; the terms are content, smooth"):
        two_terms().weighted({"style": 1.0})
    with pytest.raises(ValueError, match="does not require a gradient"):
        two_terms().gradients(photo(), torch.ones(1))


# What several terms share


class Doubling:
    """Adds twice the output and half the target; counts how often it is asked."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, sample: Mapping[str, Tensor]) -> dict[str, Tensor]:
        self.calls += 1
        with torch.no_grad():
            half = sample["clean"] / 2
        return {**sample, "twice": torch.sinh(2 * sample["output"]), "half": half}


def sharing(prepare: Doubling | None) -> Objective:
    return Objective(
        {
            "plain": Term(1.5, pixel.mse),
            "one": Term(2.0, pixel.mse, of=("twice", "half")),
            "two": Term(-0.5, pixel.l1, of=("twice", "half")),
        },
        prepare,
    )


def test_what_terms_share_is_prepared_once_per_call() -> None:
    prepare, sample = Doubling(), photo()
    objective = sharing(prepare)
    total, values = objective(sample)
    assert prepare.calls == 1
    x, y = sample["output"].detach(), sample["clean"]
    wanted = {
        "plain": (x - y).square().mean(),
        "one": (torch.sinh(2 * x) - y / 2).square().mean(),
        "two": (torch.sinh(2 * x) - y / 2).abs().mean(),
    }
    torch.testing.assert_close(values, wanted)
    torch.testing.assert_close(
        total.detach(), 1.5 * wanted["plain"] + 2 * wanted["one"] - 0.5 * wanted["two"]
    )
    objective.gradients(sample, sample["output"])
    assert prepare.calls == 2
    assert set(sample) == {"clean", "output"}


def test_gradients_through_the_preparation_are_those_of_autograd() -> None:
    sample, objective = photo(), sharing(Doubling())
    apart = objective.gradients(sample, sample["output"])
    for name, term in objective.terms.items():
        x = sample["output"].detach().clone().requires_grad_()
        prepared = {
            "output": x,
            "clean": sample["clean"],
            "twice": torch.sinh(2 * x),
            "half": sample["clean"] / 2,
        }
        term.fn(*(prepared[key] for key in term.of)).backward()
        assert x.grad is not None
        torch.testing.assert_close(apart[name], x.grad)
    total, _ = objective(sample)
    (whole,) = torch.autograd.grad(total, sample["output"])
    summed = sum(objective.terms[name].weight * apart[name] for name in apart)
    torch.testing.assert_close(whole, summed)


def test_other_weights_keep_the_preparation() -> None:
    prepare = Doubling()
    changed = sharing(prepare).weighted({"one": 0.0})
    assert changed.prepare is prepare
    changed(photo())
    assert prepare.calls == 1


def test_without_the_preparation_its_keys_are_missing() -> None:
    with pytest.raises(ValueError, match="term 'one' needs 'twice'; the sample has clean, output"):
        sharing(None)(photo())
