r"""What a critic and a generator minimise: the forms of adversarial learning.

Scores are raw, r of real pictures and f of generated ones, (B,) or one per patch (B, ...); s is
the logistic function, p = s(r - E f) and q = s(f - E r). Means are over batch and patches. `FORMS`
has them all:

| name | the critic minimises | the generator minimises |
|---|---|---|
| relativistic | -E log p - E log(1 - q) | -E log(1 - p) - E log q |
| minimax | -E log s(r) - E log(1 - s(f)) | -E log s(f) |
| saturating | the same | E log(1 - s(f)) |
| least_squares | E (r - 1)^2 / 2 + E f^2 / 2 | E (f - 1)^2 / 2 |
| wasserstein | E f - E r | -E f |
| hinge | E max(0, 1 - r) + E max(0, 1 + f) | -E f |

"minimax" has the generator of practice, which does not saturate; "saturating" the one of theory.
Logarithms of s are taken from the scores, never from rounded probabilities. DPED's texture loss
has two logits, sums and a clip, and stands apart: `dped_critic`, `dped_texture`.

Source: Goodfellow et al., NeurIPS 2014; Mao et al., ICCV 2017; Arjovsky et al., ICML 2017; Lim and
Ye, 2017; Jolicoeur-Martineau, ICLR 2019.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from enhancelib.losses import _checks

Loss = Callable[[Tensor, Tensor], Tensor]
Critic = Callable[[Tensor], Tensor]
_LEAST = math.log(1e-10)  # DPED clips probabilities at 1e-10


@dataclass(frozen=True)
class Form:
    """One game: what each side minimises.

    Args:
        name: Its key in `FORMS`.
        critic: (real scores, fake scores) -> scalar that the critic minimises.
        generator: (real scores, fake scores) -> scalar that the generator minimises; only the
            relativistic form looks at the real ones.

    Example:
        >>> form = FORMS["wasserstein"]
        >>> form.critic(torch.tensor([3.0]), torch.tensor([1.0]))
        tensor(-2.)
    """

    name: str
    critic: Loss
    generator: Loss


def relativistic_probability(scores: Tensor, against: Tensor) -> Tensor:
    r"""How likely each picture is more real than the others are on average (PRaD, eq. 6).

    `D(I_r, I_f) = s(C(I_r) - E_{I_f} C(I_f))`.

    Args:
        scores: C of the pictures judged, (B, ...), any real number.
        against: C of the other kind; its mean is what they are measured by.

    Returns:
        The shape of scores, in [0, 1].

    Raises:
        ValueError: If a tensor is not floating point, has no batch, or the shapes differ after it.

    Source: Jolicoeur-Martineau, ICLR 2019.

    Example:
        >>> relativistic_probability(torch.tensor([3.0]), torch.tensor([1.0, 5.0]))
        tensor([0.5000])
        >>> relativistic_probability(torch.tensor(3.0), torch.tensor([1.0, 5.0]))
        Traceback (most recent call last):
        ValueError: scores has shape (); expected (B, ...)
    """
    _check(scores=scores, against=against)
    return torch.sigmoid(_lead(scores, against))


def relativistic_critic(real: Tensor, fake: Tensor) -> Tensor:
    r"""The critic of the relativistic average game (PRaD, eq. 7).

    `L = -E log D(I_r, I_f) - E log(1 - D(I_f, I_r))` with D of `relativistic_probability`.

    Args:
        real: Raw scores of real pictures, (B, ...).
        fake: Raw scores of generated ones, (B', ...).

    Returns:
        A scalar, at least 0; 2 log 2 where all scores are equal.

    Raises:
        ValueError: If a tensor is not floating point, has no batch, or the shapes differ after it.

    Source: Jolicoeur-Martineau, ICLR 2019, whose code halves the sum; PRaD's equation does not.

    Example:
        >>> relativistic_critic(torch.zeros(4), torch.zeros(4))
        tensor(1.3863)
        >>> relativistic_critic(torch.zeros(4), torch.zeros(4, 2))
        Traceback (most recent call last):
        ValueError: real has shape (4,), fake (4, 2); expected the same but for the batch
    """
    _check(real=real, fake=fake)
    return _true(_lead(real, fake)) + _false(_lead(fake, real))


def relativistic_generator(real: Tensor, fake: Tensor) -> Tensor:
    r"""The generator of the relativistic average game (PRaD, eq. 8).

    `L = -E log(1 - D(I_r, I_f)) - E log D(I_f, I_r)`: the critic's loss with the kinds swapped.
    Gradients flow through the single scores and through both means.

    Args:
        real: Raw scores of real pictures, (B, ...).
        fake: Raw scores of generated ones, (B', ...).

    Returns:
        A scalar, at least 0; 2 log 2 where all scores are equal.

    Raises:
        ValueError: If a tensor is not floating point, has no batch, or the shapes differ after it.

    Source: Jolicoeur-Martineau, ICLR 2019, whose code halves the sum; PRaD's equation does not.

    Example:
        >>> relativistic_generator(torch.zeros(4), torch.zeros(4))
        tensor(1.3863)
        >>> relativistic_generator(torch.zeros(4), torch.zeros(4, dtype=torch.int64))
        Traceback (most recent call last):
        ValueError: fake is torch.int64; expected floating point
    """
    _check(real=real, fake=fake)
    return _false(_lead(real, fake)) + _true(_lead(fake, real))


def gradient_penalty(
    critic: Critic,
    real: Tensor,
    fake: Tensor,
    generator: torch.Generator,
    *,
    target: float = 1.0,
    one_sided: bool = False,
    power: int = 2,
) -> Tensor:
    r"""Holds the slope of a critic near 1 between real and generated pictures.

    `E (|| grad C(x) ||_2 - target)^2` at `x = e real + (1 - e) fake`, e uniform in [0, 1], one per
    picture; with one_sided `E max(0, || grad C(x) ||_2 - target)^2`.

    Args:
        critic: Pictures -> scores, (B, ...); what else it judges by is bound to it. The score of
            a picture must not depend on the others: no batch norm in training mode.
        real: Real pictures, (B, ...); no gradient flows into them.
        fake: Generated ones of the same shape; no gradient flows into them.
        generator: Draws e.
        target: The slope asked for, 0 or more.
        one_sided: Leave smaller slopes alone.
        power: 2, or 1 as Deep Photo Enhancer's A-WGAN has it.

    Returns:
        A scalar, at least 0, before its weight (10 in WGAN-GP), differentiable with respect to
        the critic's parameters.

    Raises:
        ValueError: If the shapes differ, a tensor is not floating point, target is negative or
            power is neither 1 nor 2.

    Source: Gulrajani et al., NeurIPS 2017; Chen et al., CVPR 2018, for one side and power 1.

    Example:
        >>> x, e = torch.ones(2, 1, 2, 2), torch.Generator().manual_seed(0)
        >>> gradient_penalty(lambda x: 3 * x.mean(dim=(1, 2, 3)), x, 0 * x, e)
        tensor(0.2500)
        >>> gradient_penalty(lambda x: x, x, x[:1], e)
        Traceback (most recent call last):
        ValueError: real has shape (2, 1, 2, 2), fake (1, 1, 2, 2); expected equal shapes
    """
    _checks.alike(real=real, fake=fake)
    if not (target >= 0 and math.isfinite(target)) or power not in (1, 2):
        raise ValueError(
            f"target is {target} and power {power}; expected a target of 0 or more, power 1 or 2"
        )
    excess = _slopes(critic, real, fake, generator) - target
    if one_sided:
        excess = excess.clamp_min(0)
    return (excess.abs() if power == 1 else excess.square()).mean()


def dped_critic(logits: Tensor, real: Tensor) -> Tensor:
    r"""DPED's discriminator loss: cross entropy, summed over the batch.

    `L_D = -sum_b log clip(p_b, 1e-10, 1)`, p_b the probability of picture b's true class.

    Args:
        logits: (B, 2) before the softmax; column 0 speaks for "camera", 1 for "generated".
        real: (B,) bool, which pictures are the camera's.

    Returns:
        A scalar, at least 0. A picture whose p is below 1e-10 gives no gradient.

    Raises:
        ValueError: If logits is not (B, 2) floating point or real not (B,) bool.

    Source: aiff22/DPED (ebb0131), train_model.

    Example:
        >>> dped_critic(torch.zeros(3, 2), torch.tensor([True, False, True]))
        tensor(2.0794)
        >>> dped_critic(torch.zeros(3, 2), torch.ones(3))
        Traceback (most recent call last):
        ValueError: real is (3,) of torch.float32; expected (3,) of torch.bool
    """
    likelihood = _clipped(logits)
    if real.shape != logits.shape[:1] or real.dtype != torch.bool:
        raise ValueError(
            f"real is {tuple(real.shape)} of {real.dtype}; expected ({len(logits)},) of torch.bool"
        )
    return -torch.where(real, likelihood[:, 0], likelihood[:, 1]).sum()


def dped_texture(logits: Tensor) -> Tensor:
    r"""DPED's texture loss of the generator, as its released code has it.

    `L_texture = sum_b log clip(p(generated | G(x_b)), 1e-10, 1)`: minus the discriminator's loss
    on generated pictures. It saturates where the discriminator is sure.

    Args:
        logits: (B, 2) of generated pictures, columns as in `dped_critic`.

    Returns:
        A scalar, at most 0; -B log 2 where the discriminator cannot tell.

    Raises:
        ValueError: If logits is not (B, 2) floating point.

    Source: aiff22/DPED (ebb0131), train_model.

    Example:
        >>> dped_texture(torch.zeros(32, 2))
        tensor(-22.1807)
        >>> dped_texture(torch.zeros(32))
        Traceback (most recent call last):
        ValueError: logits has shape (32,); expected (B, 2)
    """
    return _clipped(logits)[:, 1].sum()


def _check(**scores: Tensor) -> None:
    _checks.floating(**scores)
    for name, value in scores.items():
        if value.ndim == 0:
            raise ValueError(f"{name} has shape (); expected (B, ...)")
    (first, x), (second, y) = scores.items()
    if x.shape[1:] != y.shape[1:]:
        raise ValueError(
            f"{first} has shape {tuple(x.shape)}, {second} {tuple(y.shape)}; "
            "expected the same but for the batch"
        )


def _lead(scores: Tensor, against: Tensor) -> Tensor:
    return _checks.wide(scores) - _checks.wide(against).mean()


def _true(scores: Tensor) -> Tensor:
    """-E log s."""
    return -F.logsigmoid(scores).mean()


def _false(scores: Tensor) -> Tensor:
    """-E log(1 - s)."""
    return -F.logsigmoid(-scores).mean()


def _checked(loss: Loss) -> Loss:
    def checked(real: Tensor, fake: Tensor) -> Tensor:
        _check(real=real, fake=fake)
        return loss(_checks.wide(real), _checks.wide(fake))

    return checked


def _slopes(critic: Critic, real: Tensor, fake: Tensor, generator: torch.Generator) -> Tensor:
    """(B,) norms of the critic's gradient on the lines between the two."""
    drawn = torch.rand(len(real), generator=generator, device=generator.device).to(real)
    share = drawn.view(-1, *[1] * (real.ndim - 1))
    with torch.enable_grad():
        between = (share * real + (1 - share) * fake).detach().requires_grad_()
        scores = critic(between)
        (slope,) = torch.autograd.grad(scores.sum(), between, create_graph=True)
    norms: Tensor = torch.linalg.vector_norm(_checks.wide(slope).flatten(1), dim=1)
    return norms


def _clipped(logits: Tensor) -> Tensor:
    _checks.floating(logits=logits)
    if logits.ndim != 2 or logits.shape[1] != 2:
        raise ValueError(f"logits has shape {tuple(logits.shape)}; expected (B, 2)")
    return F.log_softmax(_checks.wide(logits), dim=1).clamp_min(_LEAST)


def _least_squares(real: Tensor, fake: Tensor) -> Tensor:
    return (real - 1).square().mean() / 2 + fake.square().mean() / 2


def _hinge(real: Tensor, fake: Tensor) -> Tensor:
    return F.relu(1 - real).mean() + F.relu(1 + fake).mean()


def _form(name: str, critic: Loss, generator: Loss) -> Form:
    return Form(name, _checked(critic), _checked(generator))


FORMS: dict[str, Form] = {
    form.name: form
    for form in (
        Form("relativistic", relativistic_critic, relativistic_generator),
        _form("minimax", lambda r, f: _true(r) + _false(f), lambda _, f: _true(f)),
        _form("saturating", lambda r, f: _true(r) + _false(f), lambda _, f: -_false(f)),
        _form("least_squares", _least_squares, lambda _, f: (f - 1).square().mean() / 2),
        _form("wasserstein", lambda r, f: f.mean() - r.mean(), lambda _, f: -f.mean()),
        _form("hinge", _hinge, lambda _, f: -f.mean()),
    )
}
"""Every form by its name; the table at the head of this module says what each minimises."""
