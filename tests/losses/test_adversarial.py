"""Every adversarial form by its definition, its signs, its gradients and its penalty."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from skimage import data
from torch import Tensor, nn
from torch.nn import functional as F

from enhancelib.losses import adversarial
from enhancelib.losses.adversarial import (
    FORMS,
    dped_critic,
    dped_texture,
    gradient_penalty,
    relativistic_critic,
    relativistic_generator,
    relativistic_probability,
)

Pair = tuple[float, float]
Reference = Callable[[np.ndarray, np.ndarray], Pair]


def draw(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def s(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def relativistic(r: np.ndarray, f: np.ndarray) -> Pair:
    p, q = s(r - f.mean()), s(f - r.mean())
    critic = -np.log(p).mean() - np.log(1 - q).mean()
    return float(critic), float(-np.log(1 - p).mean() - np.log(q).mean())


def minimax(r: np.ndarray, f: np.ndarray) -> Pair:
    critic = -np.log(s(r)).mean() - np.log(1 - s(f)).mean()
    return float(critic), float(-np.log(s(f)).mean())


def saturating(r: np.ndarray, f: np.ndarray) -> Pair:
    return minimax(r, f)[0], float(np.log(1 - s(f)).mean())


def least_squares(r: np.ndarray, f: np.ndarray) -> Pair:
    critic = 0.5 * ((r - 1) ** 2).mean() + 0.5 * (f**2).mean()
    return float(critic), float(0.5 * ((f - 1) ** 2).mean())


def wasserstein(r: np.ndarray, f: np.ndarray) -> Pair:
    return float(f.mean() - r.mean()), float(-f.mean())


def hinge(r: np.ndarray, f: np.ndarray) -> Pair:
    critic = np.maximum(0, 1 - r).mean() + np.maximum(0, 1 + f).mean()
    return float(critic), float(-f.mean())


REFERENCES: dict[str, Reference] = {
    "relativistic": relativistic,
    "minimax": minimax,
    "saturating": saturating,
    "least_squares": least_squares,
    "wasserstein": wasserstein,
    "hinge": hinge,
}
# what both sides pay where the critic scores everything 0
UNDECIDED = {
    "relativistic": (2 * math.log(2), 2 * math.log(2)),
    "minimax": (2 * math.log(2), math.log(2)),
    "saturating": (2 * math.log(2), -math.log(2)),
    "least_squares": (0.5, 0.5),
    "wasserstein": (0.0, 0.0),
    "hinge": (2.0, 0.0),
}


def test_the_forms() -> None:
    assert list(FORMS) == list(REFERENCES)
    assert [form.name for form in FORMS.values()] == list(FORMS)


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("shape", [(7,), (1,), (3, 1, 2, 5)])
@pytest.mark.parametrize("seed", [0, 10])
def test_definition(name: str, shape: tuple[int, ...], seed: int) -> None:
    r, f = 2 * draw(*shape, seed=seed), 2 * draw(*shape, seed=seed + 1) - 0.5
    critic, generator = REFERENCES[name](r.numpy(), f.numpy())
    assert float(FORMS[name].critic(r, f)) == pytest.approx(critic, rel=1e-12)
    assert float(FORMS[name].generator(r, f)) == pytest.approx(generator, rel=1e-12)


@pytest.mark.parametrize("name", FORMS)
def test_batches_of_two_sizes(name: str) -> None:
    """Fake scores may come from a pool of another size."""
    r, f = draw(3), draw(8, seed=1)
    critic, generator = REFERENCES[name](r.numpy(), f.numpy())
    assert float(FORMS[name].critic(r, f)) == pytest.approx(critic, rel=1e-12)
    assert float(FORMS[name].generator(r, f)) == pytest.approx(generator, rel=1e-12)


@pytest.mark.parametrize("name", FORMS)
def test_an_undecided_critic(name: str) -> None:
    zero = torch.zeros(4, dtype=torch.float64)
    found = float(FORMS[name].critic(zero, zero)), float(FORMS[name].generator(zero, zero))
    assert found == pytest.approx(UNDECIDED[name], abs=1e-15)


@pytest.mark.parametrize("name", FORMS)
def test_descent_goes_the_right_way(name: str) -> None:
    """The critic lifts real scores and lowers fake ones; the generator lifts its own."""
    # between the scores that least squares aims at, 0 and 1, and within the margins of hinge
    r, f = (draw(5, seed=seed).sigmoid().requires_grad_() for seed in (0, 1))
    up, down = torch.autograd.grad(FORMS[name].critic(r, f), (r, f))
    assert bool((up <= 0).all())
    assert bool((down >= 0).all())
    assert bool(up.any())
    assert bool(down.any())
    (lift,) = torch.autograd.grad(FORMS[name].generator(r, f), f)
    assert bool((lift < 0).all())


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("side", ["critic", "generator"])
def test_gradient(name: str, side: str) -> None:
    r, f = draw(4).requires_grad_(), draw(4, seed=1).requires_grad_()
    loss = getattr(FORMS[name], side)
    assert torch.autograd.gradcheck(lambda a, b: loss(a, b) + 0 * a.sum(), (r, f))


@pytest.mark.parametrize("name", FORMS)
def test_sure_critics_do_not_overflow(name: str) -> None:
    """Probabilities of these scores round to 0 or 1, so that their logarithms would be lost."""
    r, f = torch.full((2,), 300.0), torch.full((2,), -300.0).requires_grad_()
    for loss in (FORMS[name].critic, FORMS[name].generator):
        for one, other in ((r, f), (f, r)):
            assert bool(loss(one, other).isfinite())
    if name in ("relativistic", "minimax"):
        (lift,) = torch.autograd.grad(FORMS[name].generator(r, f), f)
        assert bool((lift < -0.4).all())
    if name == "saturating":
        (lift,) = torch.autograd.grad(FORMS[name].generator(r, f), f)
        assert not lift.any()


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_short_floats_are_widened(name: str, dtype: torch.dtype) -> None:
    r, f = draw(9).to(dtype), draw(9, seed=1).to(dtype)
    for loss in (FORMS[name].critic, FORMS[name].generator):
        torch.testing.assert_close(loss(r, f), loss(r.float(), f.float()))


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("side", ["critic", "generator"])
def test_wrong_scores_are_refused(name: str, side: str) -> None:
    loss = getattr(FORMS[name], side)
    with pytest.raises(ValueError, match=r"real has shape \(\); expected \(B, \.\.\.\)"):
        loss(torch.tensor(1.0), torch.zeros(2))
    with pytest.raises(ValueError, match=r"real has shape \(2, 1\), fake \(2,\)"):
        loss(torch.zeros(2, 1), torch.zeros(2))
    with pytest.raises(ValueError, match=r"fake is torch\.int64; expected floating point"):
        loss(torch.zeros(2), torch.zeros(2, dtype=torch.int64))
    with pytest.raises(ValueError, match="at least one value"):
        loss(torch.zeros(0), torch.zeros(0))


# relativistic


def test_probability_by_bce() -> None:
    """The losses are the cross entropies of the probabilities, with the labels of their game."""
    r, f = draw(6), draw(6, seed=1)
    p, q = relativistic_probability(r, f), relativistic_probability(f, r)
    ones, zeros = torch.ones_like(p), torch.zeros_like(p)
    critic = F.binary_cross_entropy(p, ones) + F.binary_cross_entropy(q, zeros)
    generator = F.binary_cross_entropy(p, zeros) + F.binary_cross_entropy(q, ones)
    torch.testing.assert_close(relativistic_critic(r, f), critic)
    torch.testing.assert_close(relativistic_generator(r, f), generator)


def test_only_differences_of_scores_count() -> None:
    r, f = draw(6), draw(6, seed=1)
    for loss in (relativistic_critic, relativistic_generator):
        torch.testing.assert_close(loss(r + 5, f + 5), loss(r, f))
    torch.testing.assert_close(relativistic_critic(r, f), relativistic_generator(f, r))
    assert bool((relativistic_probability(r + 5, f) > relativistic_probability(r, f)).all())


@pytest.mark.parametrize("loss", [relativistic_critic, relativistic_generator])
def test_gradients_flow_through_both_expectations(loss: Callable[..., Tensor]) -> None:
    r, f = draw(6).requires_grad_(), draw(6, seed=1).requires_grad_()
    gradients = torch.autograd.grad(loss(r, f), (r, f))
    singles = torch.zeros(2, 6, dtype=torch.float64)
    p, q = s((r - f.mean()).detach().numpy()), s((f - r.mean()).detach().numpy())
    if loss is relativistic_critic:
        singles[0], singles[1] = torch.from_numpy(p - 1) / 6, torch.from_numpy(q) / 6
    else:
        singles[0], singles[1] = torch.from_numpy(p) / 6, torch.from_numpy(q - 1) / 6
    # each mean hands minus the other side's total, shared equally, to its own scores
    torch.testing.assert_close(gradients[0], singles[0] - singles[1].mean())
    torch.testing.assert_close(gradients[1], singles[1] - singles[0].mean())


def test_probability_needs_a_batch() -> None:
    with pytest.raises(ValueError, match=r"against has shape \(\)"):
        relativistic_probability(torch.zeros(2), torch.tensor(1.0))
    with pytest.raises(ValueError, match="expected the same but for the batch"):
        relativistic_probability(torch.zeros(2, 3), torch.zeros(2, 4))


def test_one_step_of_the_critic_parts_the_scores() -> None:
    """On crops of a photo, sharp against blurred."""
    photo = torch.from_numpy(data.astronaut()).permute(2, 0, 1)[None].double() / 255
    real = F.unfold(photo, 32, stride=96).view(3, 32, 32, -1).permute(3, 0, 1, 2)
    fake = F.avg_pool2d(real, 3, stride=1, padding=1)
    torch.manual_seed(0)
    critic = nn.Sequential(nn.Conv2d(3, 4, 5, stride=4), nn.Flatten(), nn.Linear(4 * 49, 1))
    critic = critic.double()
    before = (critic(real).mean() - critic(fake).mean()).detach()
    loss = relativistic_critic(critic(real).flatten(), critic(fake).flatten())
    gradients = torch.autograd.grad(loss, list(critic.parameters()))
    with torch.no_grad():
        for value, gradient in zip(critic.parameters(), gradients, strict=True):
            value -= 0.05 * gradient
        after = critic(real).mean() - critic(fake).mean()
    assert float(after) > float(before)


# gradient penalty


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def slopes(scale: float) -> Callable[[Tensor], Tensor]:
    """A critic of slope `scale` everywhere."""
    return lambda x: scale * x.flatten(1).sum(dim=1) / math.sqrt(x[0].numel())


@pytest.mark.parametrize(
    ("scale", "options", "wanted"),
    [
        (3.0, {}, 4.0),
        (0.25, {}, 0.5625),
        (1.0, {}, 0.0),
        (3.0, {"one_sided": True}, 4.0),
        (0.25, {"one_sided": True}, 0.0),
        (3.0, {"power": 1}, 2.0),
        (0.25, {"power": 1}, 0.75),
        (3.0, {"power": 1, "one_sided": True}, 2.0),
        (3.0, {"target": 0.0}, 9.0),
        (3.0, {"target": 2.5}, 0.25),
    ],
)
def test_penalty_of_a_linear_critic(scale: float, options: dict[str, float], wanted: float) -> None:
    real, fake = draw(4, 3, 5, 6), draw(4, 3, 5, 6, seed=1)
    found = gradient_penalty(slopes(scale), real, fake, seeded(), **options)  # type: ignore[arg-type]
    assert float(found) == pytest.approx(wanted, abs=1e-12)


def test_penalty_is_taken_on_lines_one_place_per_picture() -> None:
    """The slope of half a square is the place itself."""
    real, fake = draw(5, 2, 3, 4), draw(5, 2, 3, 4, seed=1)
    share = torch.rand(5, generator=seeded(7)).double()
    assert len(set(share.tolist())) == 5
    places = share.view(-1, 1, 1, 1) * real + (1 - share.view(-1, 1, 1, 1)) * fake
    wanted = ((places.flatten(1).norm(dim=1) - 1) ** 2).mean()
    found = gradient_penalty(lambda x: x.square().sum(dim=(1, 2, 3)) / 2, real, fake, seeded(7))
    torch.testing.assert_close(found, wanted)
    other = gradient_penalty(lambda x: x.square().sum(dim=(1, 2, 3)) / 2, real, fake, seeded(8))
    assert not torch.isclose(found, other)


def test_penalty_trains_the_critic_and_only_the_critic() -> None:
    critic = nn.Sequential(nn.Flatten(), nn.Linear(12, 6), nn.Tanh(), nn.Linear(6, 1)).double()
    real, fake = draw(3, 1, 3, 4).requires_grad_(), draw(3, 1, 3, 4, seed=1).requires_grad_()
    loss = gradient_penalty(critic, real, fake, seeded())
    weights = list(critic.parameters())[:3:2]
    found = torch.autograd.grad(loss, [*weights, real, fake], allow_unused=True)
    assert found[2] is None
    assert found[3] is None
    step = 1e-6
    for weight, gradient in zip(weights, found[:2], strict=True):
        assert gradient is not None
        with torch.no_grad():
            weight[0, 1] += step
        above = gradient_penalty(critic, real, fake, seeded())
        with torch.no_grad():
            weight[0, 1] -= 2 * step
        below = gradient_penalty(critic, real, fake, seeded())
        with torch.no_grad():
            weight[0, 1] += step
        slope = float((above - below).detach()) / (2 * step)
        assert float(gradient[0, 1]) == pytest.approx(slope, rel=1e-5, abs=1e-9)


def test_penalty_where_the_critic_is_flat() -> None:
    """Slope 0 costs 1, with a gradient that is finite."""
    weight = torch.zeros(12, dtype=torch.float64, requires_grad=True)
    real, fake = draw(3, 12), draw(3, 12, seed=1)
    loss = gradient_penalty(lambda x: x @ weight, real, fake, seeded())
    assert float(loss.detach()) == pytest.approx(1.0)
    (gradient,) = torch.autograd.grad(loss, weight)
    assert bool(gradient.isfinite().all())


def test_penalty_works_where_gradients_are_off() -> None:
    with torch.no_grad():
        found = gradient_penalty(slopes(3.0), draw(2, 4), draw(2, 4, seed=1), seeded())
    assert float(found) == pytest.approx(4.0)


def test_penalty_is_the_same_for_patch_scores() -> None:
    """Scores of many patches are added: the slope is that of their sum."""
    real, fake = draw(2, 1, 4, 4), draw(2, 1, 4, 4, seed=1)
    found = gradient_penalty(lambda x: 0.75 * x, real, fake, seeded())
    assert float(found) == pytest.approx((0.75 * 4 - 1) ** 2)


@pytest.mark.parametrize(
    "options", [{"target": -1.0}, {"target": math.nan}, {"power": 3}, {"power": 0}]
)
def test_penalty_refuses_other_options(options: dict[str, float]) -> None:
    x = draw(2, 4)
    with pytest.raises(ValueError, match="expected a target of 0 or more, power 1 or 2"):
        gradient_penalty(slopes(1.0), x, x, seeded(), **options)  # type: ignore[arg-type]


def test_penalty_refuses_other_shapes() -> None:
    with pytest.raises(ValueError, match=r"real has shape \(2, 4\), fake \(3, 4\)"):
        gradient_penalty(slopes(1.0), draw(2, 4), draw(3, 4), seeded())


# DPED


def test_dped_losses_by_probabilities() -> None:
    logits = 3 * draw(6, 2)
    real = torch.tensor([True, False, True, True, False, False])
    p = np.exp(logits.numpy()) / np.exp(logits.numpy()).sum(axis=1, keepdims=True)
    labels = np.stack([real.numpy(), ~real.numpy()], axis=1)
    wanted = -float((labels * np.log(np.clip(p, 1e-10, 1))).sum())
    assert float(dped_critic(logits, real)) == pytest.approx(wanted, rel=1e-12)
    assert float(dped_texture(logits)) == pytest.approx(float(np.log(p[:, 1]).sum()), rel=1e-12)
    nothing_real = torch.zeros(6, dtype=torch.bool)
    torch.testing.assert_close(dped_texture(logits), -dped_critic(logits, nothing_real))


def test_dped_sums_over_the_batch() -> None:
    """The value in the logs of the released code with 32 patches and an undecided critic."""
    assert float(dped_texture(torch.zeros(32, 2))) == pytest.approx(-32 * math.log(2), rel=1e-6)
    assert float(dped_critic(torch.zeros(32, 2), torch.arange(32) < 16)) == pytest.approx(
        32 * math.log(2), rel=1e-6
    )


def test_dped_clips() -> None:
    logits = torch.tensor([[40.0, 0.0], [5.0, 0.0]], dtype=torch.float64, requires_grad=True)
    loss = dped_texture(logits)
    wanted = math.log(1e-10) - math.log(1 + math.exp(5.0))
    assert float(loss.detach()) == pytest.approx(wanted, rel=1e-12)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert not gradient[0].any()
    assert gradient[1].all()
    # just above the clip the gradient is there
    edge = torch.tensor([[23.0, 0.0]], dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(dped_texture(edge), edge)
    assert gradient.all()


def test_dped_gradients() -> None:
    logits, real = draw(4, 2).requires_grad_(), torch.tensor([True, False, False, True])
    assert torch.autograd.gradcheck(dped_texture, (logits,))
    assert torch.autograd.gradcheck(lambda x: dped_critic(x, real), (logits,))


def test_dped_refuses_other_shapes() -> None:
    for logits in (torch.zeros(3), torch.zeros(3, 1), torch.zeros(3, 2, 1)):
        with pytest.raises(ValueError, match=r"expected \(B, 2\)"):
            dped_texture(logits)
    with pytest.raises(ValueError, match=r"logits is torch\.int64; expected floating point"):
        dped_texture(torch.zeros(3, 2, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"real is \(2,\) of torch\.bool; expected \(3,\)"):
        dped_critic(torch.zeros(3, 2), torch.tensor([True, False]))
    with pytest.raises(ValueError, match=r"real is \(3,\) of torch\.int64"):
        dped_critic(torch.zeros(3, 2), torch.tensor([1, 0, 1]))


def test_the_head_of_the_module_names_every_form() -> None:
    assert adversarial.__doc__ is not None
    for name in FORMS:
        assert f"| {name} |" in adversarial.__doc__
