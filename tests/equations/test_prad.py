"""The numbered equations of the PRaD notebook, held by value.

Eq. 1 is a definition, Eqs. 2 to 4 are architecture. Every other one is compared with its
transcription on random pictures, flat ones, single ones and oblong ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from enhancelib.losses import Objective, pixel, texture
from enhancelib.losses.adversarial import (
    FORMS,
    relativistic_critic,
    relativistic_generator,
    relativistic_probability,
)
from enhancelib.losses.contextual import contextual
from enhancelib.losses.texture import lcn, local_contrast
from enhancelib.models.prad import Critic
from enhancelib.papers.prad import settings
from tests.equations import transcriptions_prad as printed

# single, square, oblong both ways, one channel
SHAPES = [(2, 3, 6, 6), (1, 1, 5, 9), (3, 2, 8, 4), (1, 3, 4, 7)]
KINDS = ["random", "constant", "dark and bright", "one edge"]
WEIGHTS = (torch.rand(4, 3, 3, 3, generator=torch.Generator().manual_seed(99)) - 0.5).double()


def drawn(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def pictures(kind: str, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """(output, target): the target is random, or as flat as the output."""
    output, target = (drawn(*shape, seed=seed).sigmoid() for seed in (1, 2))
    if kind == "constant":
        return torch.full_like(output, 0.5), target
    if kind == "dark and bright":
        return torch.zeros_like(output), torch.ones_like(output)
    if kind == "one edge":
        output = torch.zeros_like(output)
        output[..., shape[3] // 2 :] = 1
        return output, output.flip(3)
    return output, target


def phi(prepared: Tensor) -> Tensor:
    """The network of the transcription."""
    return F.relu(F.conv2d(prepared, WEIGHTS, padding=1))


def phi_of_a_picture(picture: Tensor) -> Tensor:
    """The same behind a VGG's preparation, which `lcn` undoes in advance."""
    mean, deviation = (
        torch.tensor(v, dtype=torch.float64).view(3, 1, 1)
        for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    return phi((picture - mean) / deviation)


@pytest.mark.parametrize("shape", [(2, 3, 6, 5), (1, 3, 4, 4), (3, 3, 3, 8)])
@pytest.mark.parametrize("updates", [0, 1, 2])
def test_pair(shape: tuple[int, ...], updates: int) -> None:
    """Real and fake pairs alike, and what the discriminator sees is this pair."""
    source, real, fake = (drawn(*shape, seed=seed).sigmoid() for seed in (3, 4, 5))
    critic = Critic(phi, phi_channels=4, norm="none").double()
    seen: list[Tensor] = []
    critic.discriminator.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    running = 0.0
    for update in range(updates):
        target = drawn(*shape, seed=10 + update).sigmoid()
        own = float(np.std(phi(target).numpy()))
        running = own if update == 0 else 0.9 * running + 0.1 * own
        critic(source, target, update=True)
    for image in (real, fake):
        maps = phi(image)
        deviation = running if updates else float(np.std(maps.numpy()))
        found = critic.inputs(source, image).detach()
        for b in range(shape[0]):
            wanted = printed.pair(*(x[b].numpy() for x in (source, image, maps)), deviation)
            # the deviation is kept in float32
            np.testing.assert_allclose(found[b], wanted, rtol=2e-6, atol=1e-12)
        critic(source, image)
        assert torch.equal(seen[-1], found)


def test_gradients_reach_the_picture_through_phi() -> None:
    """phi is frozen but not cut off, and its deviation is a constant."""
    source, image = (drawn(1, 3, 4, 4, seed=seed).sigmoid() for seed in (6, 7))
    critic = Critic(phi, phi_channels=4, norm="none").double().eval()
    critic.updates.fill_(1)
    critic.deviation.fill_(0.25)
    image.requires_grad_()
    weights = drawn(1, 10, 4, 4, seed=8)
    (found,) = torch.autograd.grad((critic.inputs(source, image) * weights).sum(), image)
    own = image.detach().requires_grad_()
    alone = (own * weights[:, 3:6]).sum() + (phi(own) / 0.25 * weights[:, 6:]).sum()
    (wanted,) = torch.autograd.grad(alone, own)
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-9)


def test_ablations_of_the_pair() -> None:
    source, image = (drawn(2, 3, 4, 5, seed=seed).sigmoid() for seed in (6, 7))
    without = Critic(None, judges="pair_without_phi").inputs(source, image)
    assert torch.equal(without, torch.cat([source, image], dim=1))
    assert torch.equal(Critic(None, judges="image").inputs(source, image), image)


SCORES = [
    (drawn(5, seed=11), drawn(5, seed=12)),
    (3 * drawn(8, seed=13) + 2, 3 * drawn(8, seed=14) - 1),
    (drawn(1, seed=15), drawn(1, seed=16)),
    (torch.zeros(4).double(), torch.zeros(4).double()),
    (torch.full((2,), 9.0).double(), torch.full((2,), -9.0).double()),
    (torch.full((2,), -9.0).double(), torch.full((2,), 9.0).double()),
]
SIDES = list(enumerate(SCORES))


@pytest.mark.parametrize(("_", "scores"), SIDES, ids=[str(k) for k, _ in SIDES])
def test_probability(_: int, scores: tuple[Tensor, Tensor]) -> None:
    real, fake = scores
    for one, other in ((real, fake), (fake, real)):
        wanted = printed.probability(one.numpy(), other.numpy())
        np.testing.assert_allclose(relativistic_probability(one, other), wanted, rtol=1e-12)


@pytest.mark.parametrize(("_", "scores"), SIDES, ids=[str(k) for k, _ in SIDES])
def test_critic(_: int, scores: tuple[Tensor, Tensor]) -> None:
    real, fake = scores
    wanted = printed.critic(real.numpy(), fake.numpy())
    assert float(relativistic_critic(real, fake)) == pytest.approx(wanted, rel=1e-8)
    assert FORMS["relativistic"].critic is relativistic_critic


@pytest.mark.parametrize(("_", "scores"), SIDES, ids=[str(k) for k, _ in SIDES])
def test_generator(_: int, scores: tuple[Tensor, Tensor]) -> None:
    real, fake = scores
    wanted = printed.generator(real.numpy(), fake.numpy())
    assert float(relativistic_generator(real, fake)) == pytest.approx(wanted, rel=1e-8)
    assert FORMS["relativistic"].generator is relativistic_generator


@pytest.mark.parametrize("name", ["critic", "generator"])
def test_gradients_of_the_game(name: str) -> None:
    """By differences of the transcription: nothing is detached."""
    real, fake = drawn(3, seed=17).requires_grad_(), drawn(3, seed=18).requires_grad_()
    loss = {"critic": relativistic_critic, "generator": relativistic_generator}[name]
    found = torch.autograd.grad(loss(real, fake), (real, fake))
    step, formula = 1e-6, getattr(printed, name)
    for side in (0, 1):
        for k in range(3):
            values = []
            for sign in (1, -1):
                moved = [x.detach().numpy().copy() for x in (real, fake)]
                moved[side][k] += sign * step
                values.append(formula(*moved))
            slope = (values[0] - values[1]) / (2 * step)
            assert float(found[side][k]) == pytest.approx(slope, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("shape", [*SHAPES, (1, 1, 1, 1)])
@pytest.mark.parametrize("kind", KINDS)
def test_color(shape: tuple[int, ...], kind: str) -> None:
    output, target = pictures(kind, shape)
    wanted = printed.color(output.numpy(), target.numpy())
    assert float(pixel.half_sse(output, target)) == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", ["mean", "sum"])
def test_normalised(shape: tuple[int, ...], kind: str, form: str) -> None:
    image, _ = pictures(kind, shape)
    found = local_contrast(image, sigma=form)
    wanted = printed.normalised(image.numpy(), 3, 3, 1 / 255, form)
    np.testing.assert_allclose(found, wanted, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize(("P", "Q"), [(3, 3), (1, 2), (2, 0), (0, 0)])
@pytest.mark.parametrize("shape", SHAPES)
def test_local_mean(shape: tuple[int, ...], P: int, Q: int) -> None:
    """With a C that swamps sigma the result is (I - mu) / C: mu alone is left, borders included."""
    image, C = drawn(*shape, seed=21), 1e9
    found = image - C * local_contrast(image, P=P, Q=Q, C=C)
    for index in np.ndindex(*shape):
        b, c, i, j = index
        wanted = printed.local_mean(image[b, c].numpy(), i, j, P, Q)
        assert float(found[index]) == pytest.approx(wanted, abs=1e-7)


@pytest.mark.parametrize(("P", "Q"), [(3, 3), (1, 2), (2, 0)])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("form", ["mean", "sum"])
def test_local_deviation(shape: tuple[int, ...], P: int, Q: int, form: str) -> None:
    """sigma = (I - mu) / Itilde - C, wherever I is not its window's mean."""
    image, C = drawn(*shape, seed=22), 0.3
    found = local_contrast(image, P=P, Q=Q, C=C, sigma=form)
    for index in np.ndindex(*shape):
        b, c, i, j = index
        channel = image[b, c].numpy()
        apart = float(image[index]) - printed.local_mean(channel, i, j, P, Q)
        wanted = printed.local_deviation(channel, i, j, P, Q, form)
        assert apart / float(found[index]) - C == pytest.approx(wanted, rel=1e-7)


@pytest.mark.parametrize("shape", [(2, 3, 6, 6), (1, 3, 4, 7)])
@pytest.mark.parametrize("kind", KINDS)
def test_lcn(shape: tuple[int, ...], kind: str) -> None:
    output, target = pictures(kind, shape)
    x, y = output.numpy(), target.numpy()
    for form in ("mean", "sum"):
        wanted = printed.lcn(x, y, None, form)
        assert float(lcn(output, target, sigma=form)) == pytest.approx(wanted, rel=1e-7, abs=1e-12)
        wanted = printed.lcn(x, y, WEIGHTS.numpy(), form)
        found = float(lcn(output, target, phi=phi_of_a_picture, sigma=form))
        # the VGG's preparation is kept in float32 digits
        assert found == pytest.approx(wanted, rel=1e-5, abs=1e-12)


@pytest.mark.parametrize("shape", [*SHAPES, (1, 1, 2, 2)])
@pytest.mark.parametrize("kind", KINDS)
def test_gradient(shape: tuple[int, ...], kind: str) -> None:
    output, target = pictures(kind, shape)
    wanted = printed.gradient(output.numpy(), target.numpy())
    assert float(texture.gradient(output, target)) == pytest.approx(wanted, rel=1e-12, abs=1e-15)


def factor(layer: str) -> float:
    """Layers of the network of this test differ by a factor, as "relu4_2" by 4.2."""
    return float(layer.removeprefix("relu").replace("_", "."))


def network(image: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
    maps = phi_of_a_picture(image.double())
    return {layer: factor(layer) * maps for layer in layers}


@pytest.mark.parametrize("kind", KINDS)
def test_texture(kind: str) -> None:
    output, target = pictures(kind, (2, 3, 5, 7))
    x, y = output.numpy(), target.numpy()
    found = float(texture.texture(output, target))
    assert found == pytest.approx(printed.texture(x, y, None), rel=1e-7, abs=1e-12)
    found = float(texture.texture(output, target, phi=phi_of_a_picture))
    assert found == pytest.approx(printed.texture(x, y, WEIGHTS.numpy()), rel=1e-5, abs=1e-12)
    # the notebook's objective has the two as terms, on features of its own layer
    objective = settings.objective({"lcn": 1.0, "gradient": 1.0}, network)
    total, _ = objective({"output": output, "clean": target})
    wanted = printed.texture(x, y, factor(settings.CONTRAST) * WEIGHTS.numpy())
    assert float(total) == pytest.approx(wanted, rel=1e-5, abs=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", KINDS)
def test_content(shape: tuple[int, ...], kind: str) -> None:
    output, target = pictures(kind, shape)
    wanted = printed.content(output.numpy(), target.numpy())
    assert float(pixel.mse(output, target)) == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("shape", [(2, 5, 4, 4), (1, 3, 3, 7), (3, 8, 5, 2), (2, 4, 1, 1)])
@pytest.mark.parametrize("kind", ["random", "equal", "constant", "one of each"])
@pytest.mark.parametrize("h", [0.1, 0.5, 1.5])
def test_contextual(shape: tuple[int, ...], kind: str, h: float) -> None:
    X, Y = drawn(*shape, seed=31), drawn(*shape, seed=32)
    if kind == "equal":
        X = Y.clone()
    if kind == "constant":
        X = torch.full_like(Y, 0.7)
    if kind == "one of each":
        X[..., :1, :1] = Y[..., :1, :1]
    wanted = printed.contextual(X.numpy(), Y.numpy(), h)
    assert float(contextual(X, Y, h=h)) == pytest.approx(wanted, rel=1e-8, abs=1e-12)
    if h == 0.5:
        assert torch.equal(contextual(X, Y), contextual(X, Y, h=h))


@pytest.mark.parametrize("shape", [*SHAPES, (1, 1, 2, 2)])
@pytest.mark.parametrize("kind", KINDS)
def test_total_variation(shape: tuple[int, ...], kind: str) -> None:
    output, _ = pictures(kind, shape)
    wanted = printed.total_variation(output.numpy())
    assert float(pixel.total_variation(output)) == pytest.approx(wanted, rel=1e-12, abs=1e-15)


def paper_objective(side: int) -> Objective:
    """The notebook's objective under the weights that its parameters have by themselves."""
    return settings.objective(settings.Parameters().weights_of_terms(), network, side=side)


@pytest.mark.parametrize("kind", ["random", "constant", "one edge"])
@pytest.mark.parametrize("side", [100, 50])
def test_total(kind: str, side: int) -> None:
    """Every weight of Eq. 19 on values of the transcriptions; the picture stands for a patch."""
    output, target = pictures(kind, (2, 3, 5, 6))
    real, fake = SCORES[0]
    sample = {"output": output, "clean": target, "real_scores": real, "fake_scores": fake}
    found, values = paper_objective(side)(sample)
    x, y = output.numpy(), target.numpy()
    maps = [phi_of_a_picture(one).numpy() for one in (output, target)]
    content = [factor(settings.CONTENT) * one for one in maps]
    context = [factor(settings.CONTEXTUAL) * one for one in maps]
    tilde = [printed.normalised(one, 3, 3, 1 / 255, "mean") for one in (x, y)]
    contrast = [factor(settings.CONTRAST) * printed.features(one, WEIGHTS.numpy()) for one in tilde]
    wanted = {
        "content": printed.content(content[0], content[1]),
        "gan": printed.generator(real.numpy(), fake.numpy()),
        "lcn": printed.content(contrast[0], contrast[1]),
        "gradient": printed.gradient(x, y),
        "color": printed.color(x, y),
        "contextual": printed.contextual(context[0], context[1], 0.5),
        "tv": printed.total_variation(x),
    }
    # a network's activations are kept in float32
    assert {name: float(v) for name, v in values.items()} == pytest.approx(wanted, rel=1e-5)
    wanted["texture"] = wanted["lcn"] + wanted["gradient"]
    wanted["color"] *= (100 / side) ** 2  # a sum over a patch: the weight is that of 100 x 100
    assert float(found) == pytest.approx(printed.total(wanted), rel=1e-5)


def test_the_weights_of_the_total() -> None:
    """One loss of value 1 at a time, so that no weight hides behind a larger one."""
    weights = {name: term.weight for name, term in paper_objective(100).terms.items()}
    assert weights.pop("lcn") == weights["gradient"]
    weights["texture"] = weights.pop("gradient")
    for name in weights:
        alone = dict.fromkeys(weights, 0.0) | {name: 1.0}
        assert weights[name] == printed.total(alone), name
    assert len(weights) == 6


EQUATIONS: dict[str, Callable[..., None]] = {
    "5": test_pair,
    "6": test_probability,
    "7": test_critic,
    "8": test_generator,
    "9": test_color,
    "10": test_normalised,
    "11": test_local_mean,
    "12": test_local_deviation,
    "13": test_lcn,
    "14": test_gradient,
    "15": test_texture,
    "16": test_content,
    "17": test_contextual,
    "18": test_total_variation,
    "19": test_total,
}
