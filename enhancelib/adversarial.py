"""Steps for two players, on the one `fit`: a generator and a critic (discriminator).

`training.adversarial(generator_step(...), critic_step(...), critic_updates=n)` alternates them. A
`Judge` says how a paper's critic looks at a picture; what its scores are worth, a `Form` or an
`Objective` says. The steps look the same for PRaD, DPED, EPDN, StarGAN and Deep Photo Enhancer.

What a step does to the other player: nothing. The critic's step makes the fakes without a graph,
the generator's step asks for no gradient of the critic. Both players are in training mode in both
steps, so batch normalisation uses the moments of the batch; but the running moments, and all other
buffers, move in their own player's step alone. The critic judges real and fake pictures in separate
passes, in this order.

All state lies in the parts (networks, optimisers, an `ImagePool`, an `AdaptiveWeight`), everything
random comes from the step's generator: a run that was killed goes on with the same bits. Under
torchrun a mean over the batch (relativistic scores, batch normalisation) is that of one process.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from enhancelib import parallel
from enhancelib import runtime as rt
from enhancelib.losses.adversarial import Form
from enhancelib.memories import AdaptiveWeight as AdaptiveWeight
from enhancelib.memories import ImagePool as ImagePool
from enhancelib.training import Parts, Sample, Step, Values, descend

_Part = TypeVar("_Part")
Losses = Callable[[Sample], tuple[Tensor, Mapping[str, Tensor]]]

Verdict = Tensor | tuple[Tensor, Tensor] | Mapping[str, Tensor]
"""The raw scores; or (scores, domain logits); or named tensors: "scores" and what else a paper's
objectives ask for, such as logits, features, and the scores of a second critic."""

Judge = Callable[[Parts, Sample, str], Verdict]
"""(parts, sample, key) -> verdict on `sample[key]`. The steps put it into the sample: of the key
"clean" as `real_scores`, `real_logits`, ..., of "output" as `fake_scores`, ..., of any other key
under the key itself."""

Forward = Callable[[Parts, Sample, torch.Generator], Mapping[str, Tensor]]
"""(parts, sample, generator) -> what is added to the sample: "output", and what else a paper makes
(the way back of a cycle). It may also replace "clean", where the critic is to see another set."""

Penalty = Callable[[Callable[[Tensor], Tensor], Tensor, Tensor, torch.Generator], Tensor]
"""(critic, real, fake, generator) -> scalar, as `losses.adversarial.gradient_penalty`."""

_PREFIXES = {"clean": "real", "output": "fake"}


def judging(*given: str, critic: str = "critic") -> Judge:
    """The judge for a critic that is one network.

    Args:
        *given: Keys of the sample that the critic takes in front of the picture: none for an image
            critic, "degraded" for a pair-wise or conditional one.
        critic: Name of the part.

    Returns:
        A judge with the verdict `parts[critic](*given, picture)`.
    """

    def judge(parts: Parts, sample: Sample, key: str) -> Verdict:
        network = _part(parts, critic, nn.Module)
        verdict: Verdict = network(*(sample[name] for name in given), sample[key])
        return verdict

    return judge


def either(network: str = "generator", inputs: Sequence[str] = ("degraded",)) -> Forward:
    """DPED's way of showing pictures to its discriminator: each one real or generated, at random.

    The sample gets `output`, `is_real` (B,) with probability 1/2, and `mixed`, which holds `clean`
    where `is_real` and `output` elsewhere; a step then needs `judged=("mixed",)`.

    Args:
        network: Part that makes the output.
        inputs: Sample keys that it takes, in order.

    Returns:
        The `forward` for both steps.

    Source: aiff22/DPED, train_model.
    """
    make = _through(network, inputs)

    def forward(parts: Parts, sample: Sample, generator: torch.Generator) -> Mapping[str, Tensor]:
        output = make(parts, sample, generator)["output"]
        is_real = (torch.rand(len(output), generator=generator) < 0.5).to(output.device)
        mixed = torch.where(is_real[:, None, None, None], sample["clean"], output.float())
        return {"output": output, "is_real": is_real, "mixed": mixed}

    return forward


def domain_loss(logits: Tensor, domain: Tensor) -> Tensor:
    """How badly the critic's second head names the domain of a picture (StarGAN's `L_cls`).

    Cross entropy for one domain of n, binary cross entropy summed over attributes for several at a
    time, divided by B. The critic learns it from real pictures and their own domain, the generator
    from fake ones and the domain asked for.

    Args:
        logits: (B, n), before the softmax or the sigmoid.
        domain: (B,) integers in [0, n), or (B, n) in [0, 1]; -1, or NaN, where a picture's set
            does not say: such an entry counts nothing.

    Returns:
        A scalar, at least 0.

    Raises:
        ValueError: If the shapes do not fit.

    Source: Choi et al., CVPR 2018; yunjey/stargan.

    Example:
        >>> domain_loss(torch.zeros(2, 4), torch.tensor([3, -1]))  # log(4) / 2
        tensor(0.6931)
        >>> domain_loss(torch.zeros(2, 4), torch.zeros(3))
        Traceback (most recent call last):
        ValueError: domain has shape (3,); expected (2,) integers or (2, 4) floats for logits ...
    """
    logits = logits.float()
    whole = not domain.is_floating_point()
    if logits.ndim != 2 or domain.shape != (logits.shape[:1] if whole else logits.shape):
        rows = tuple(logits.shape[:1])
        raise ValueError(
            f"domain has shape {tuple(domain.shape)}; expected {rows} integers or "
            f"{tuple(logits.shape)} floats for logits {tuple(logits.shape)}"
        )
    if whole:
        return F.cross_entropy(logits, domain, ignore_index=-1, reduction="sum") / len(logits)
    known = ~domain.isnan()
    each = F.binary_cross_entropy_with_logits(logits, domain.nan_to_num(), reduction="none")
    return torch.where(known, each, 0.0).sum() / len(logits)


def generator_step(
    objective: Losses,
    runtime: rt.Runtime,
    *,
    judge: Judge | None = None,
    inputs: Sequence[str] = ("degraded",),
    clip: float = 0.0,
    network: str = "generator",
    optimiser: str = "generator_optimiser",
    critic: str = "critic",
    forward: Forward | None = None,
    judged: Sequence[str] = ("clean", "output"),
) -> Step:
    """A step that updates the generator; without a judge it is `training.supervised`.

    Args:
        objective: Maps the sample, with `output` and the verdicts, to (total, terms), as in
            `Term(0.4, FORMS["relativistic"].generator, of=("real_scores", "fake_scores"))`.
        runtime: Gives the precision of the forward passes; losses are computed in float32.
        judge: How the critic looks at a picture; None for no critic.
        inputs: Sample keys that the generator takes, in order.
        clip: Largest gradient norm; 0 means no clipping.
        network: Part that is updated (a ModuleDict where several networks are).
        optimiser: Part that updates it.
        critic: Part that the judge asks.
        forward: What the generator makes of a sample; None passes `inputs` through `network`.
        judged: Keys of which the judge is asked; `("output",)` saves a pass where neither form nor
            feature matching looks at the real pictures.

    Returns:
        The step for `training.adversarial` or `fit`; it reports "loss" and every term.

    Raises:
        ValueError: If `clip` is negative; from the step, if a part is missing, or the judge returns
            something else.

    Example:
        >>> generator_step(lambda sample: (sample["output"].mean(), {}), rt.setup("cpu"), clip=-1.0)
        Traceback (most recent call last):
        ValueError: clip is -1.0; expected 0.0 (off) or more
    """
    _insist_clip(clip)
    make = forward or _through(network, inputs)

    def step(parts: Parts, sample: Sample, generator: torch.Generator) -> Values:
        update = _ready(parts, network, optimiser)
        spectator = _part(parts, critic, nn.Module).train() if judge else nn.Identity()
        with _asked_only(spectator):
            with runtime.autocast():
                sample = {**sample, **_single(make(parts, sample, generator))}
                if judge:
                    sample |= _verdicts(judge, parts, dict.fromkeys(judged, sample))
            total, values = objective(sample)
            total.backward()  # type: ignore[no-untyped-call]
        descend(update, clip)
        return {"loss": total.detach(), **values}

    return step


def critic_step(
    form: Form | Losses,
    judge: Judge,
    runtime: rt.Runtime,
    *,
    inputs: Sequence[str] = ("degraded",),
    clip: float = 0.0,
    penalty: Penalty | None = None,
    penalty_weight: float | str = 10.0,
    measure: Penalty | None = None,
    pool: str = "",
    generator: str = "generator",
    network: str = "critic",
    optimiser: str = "critic_optimiser",
    forward: Forward | None = None,
    judged: Sequence[str] = ("clean", "output"),
) -> Step:
    """A step that updates the critic on real pictures and on the generator's present ones.

    Args:
        form: One of `FORMS`; or an objective on the sample with its verdicts, for several critics,
            per-domain labels or DPED's two logits.
        judge: How the critic looks at a picture.
        runtime: Gives the precision of the forward passes; losses and penalty are in float32.
        inputs: Sample keys that the generator takes, in order.
        clip: Largest gradient norm; 0 means no clipping.
        penalty: Added to the loss; it sees "scores" of the present fakes, not of pooled ones.
        penalty_weight: Its factor, or the name of an `AdaptiveWeight` among the parts.
        measure: What the adaptive weight watches; None means the penalty (the official code of Deep
            Photo Enhancer). `partial(gradient_penalty, target=0.0, power=1)` is the mean gradient
            norm of its text, for one more pass.
        pool: Name of an `ImagePool` among the parts; "" shows the present fakes.
        generator: Part that makes the fakes.
        network: Part that is updated (a ModuleDict where there are several critics).
        optimiser: Part that updates it.
        forward: What the generator makes of a sample; None passes `inputs` through it.
        judged: Keys of which the judge is asked.

    Returns:
        The step for `training.adversarial`; it reports "critic" (all that is minimised),
        "real_score" and "fake_score" (means), "penalty" before its weight, an adaptive weight under
        its name, and an objective's terms as "critic_<name>".

    Raises:
        ValueError: If `clip` is negative; from the step, if a part is missing, or the judge returns
            something else.

    Example:
        >>> from enhancelib.losses.adversarial import FORMS
        >>> critic_step(FORMS["hinge"], judging(), rt.setup("cpu"), clip=-1.0)
        Traceback (most recent call last):
        ValueError: clip is -1.0; expected 0.0 (off) or more
    """
    _insist_clip(clip)
    objective = _objective(form) if isinstance(form, Form) else form
    make = forward or _through(generator, inputs)
    charge = _charge(penalty, penalty_weight, measure, judge) if penalty else lambda *_: (0.0, {})

    def step(parts: Parts, sample: Sample, draws: torch.Generator) -> Values:
        update = _ready(parts, network, optimiser)
        maker, watched = (_part(parts, name, nn.Module) for name in (generator, network))
        with torch.no_grad(), _buffers_kept(maker.train()), runtime.autocast():
            sample = {**sample, **_single(make(parts, sample, draws))}
        shown = _part(parts, pool, ImagePool).exchange(sample, draws) if pool else sample
        with runtime.autocast():
            views = {key: shown if key == "output" else sample for key in judged}
            verdicts = _verdicts(judge, parts, views)
        total, values = objective({**sample, **verdicts})
        with _buffers_kept(watched):  # until backward has read them
            extra, charged = charge(parts, sample, draws)
            (total + extra).backward()  # type: ignore[no-untyped-call]
        descend(update, clip)
        terms = {f"critic_{name}": value for name, value in values.items()}
        return {"critic": (total + extra).detach(), **_means(verdicts), **charged, **terms}

    return step


def _part(parts: Parts, name: str, kind: type[_Part]) -> _Part:
    found = parts.get(name)
    if not isinstance(found, kind):
        raise ValueError(
            f"part {name!r} is {type(found).__name__}; expected {kind.__name__} "
            f"(the parts are {', '.join(sorted(parts))})"
        )
    return found


def _ready(parts: Parts, network: str, optimiser: str) -> torch.optim.Optimizer:
    _part(parts, network, nn.Module).train()
    update = _part(parts, optimiser, torch.optim.Optimizer)
    update.zero_grad(set_to_none=True)
    return update


def _through(network: str, inputs: Sequence[str]) -> Forward:
    def forward(parts: Parts, sample: Sample, generator: torch.Generator) -> Mapping[str, Tensor]:
        return {"output": _part(parts, network, nn.Module)(*(sample[name] for name in inputs))}

    return forward


def _single(tensors: Mapping[str, Tensor]) -> Sample:
    """What autocast made bfloat16, as float32."""
    return {k: v.float() if v.dtype == torch.bfloat16 else v for k, v in tensors.items()}


def _named(verdict: Verdict) -> Mapping[str, Tensor]:
    if isinstance(verdict, Tensor):
        return {"scores": verdict}
    if isinstance(verdict, Mapping):
        return verdict
    if isinstance(verdict, tuple) and len(verdict) == 2:
        return {"scores": verdict[0], "logits": verdict[1]}
    raise ValueError(
        f"the judge returned {type(verdict).__name__}; expected a tensor of scores, "
        "(scores, logits), or a mapping name -> tensor"
    )


def _verdicts(judge: Judge, parts: Parts, views: Mapping[str, Sample]) -> Sample:
    found = {}
    for key, sample in views.items():
        for name, value in _named(judge(parts, sample, key)).items():
            found[f"{_PREFIXES.get(key, key)}_{name}"] = value
    return _single(found)


def _objective(form: Form) -> Losses:
    return lambda sample: (form.critic(sample["real_scores"], sample["fake_scores"]), {})


def _means(verdicts: Sample) -> Sample:
    kinds = {"real_score": "real_scores", "fake_score": "fake_scores"}
    return {k: verdicts[v].detach().mean() for k, v in kinds.items() if v in verdicts}


_Charge = Callable[[Parts, Sample, torch.Generator], tuple[Tensor | float, Values]]


def _charge(
    penalty: Penalty, weight: float | str, measure: Penalty | None, judge: Judge
) -> _Charge:
    """The weighted penalty; an adaptive weight changes after it was used."""

    def charge(parts: Parts, sample: Sample, draws: torch.Generator) -> tuple[Tensor, Values]:
        def critic(picture: Tensor) -> Tensor:
            return _named(judge(parts, {**sample, "output": picture}, "output"))["scores"]

        value = penalty(critic, sample["clean"], sample["output"], draws)
        logged: dict[str, Tensor | float] = {"penalty": value.detach()}
        if not isinstance(weight, str):
            return weight * value, logged
        adaptive = _part(parts, weight, AdaptiveWeight)
        factor = logged[weight] = adaptive.value
        seen = measure(critic, sample["clean"], sample["output"], draws) if measure else value
        adaptive.update(parallel.mean({"seen": float(seen.detach())}, seen.device)["seen"])
        return factor * value, logged

    return charge


@contextlib.contextmanager
def _buffers_kept(network: nn.Module) -> Iterator[None]:
    """Running moments and other buffers are afterwards what they were before."""
    before = {name: buffer.clone() for name, buffer in network.named_buffers()}
    try:
        yield
    finally:
        with torch.no_grad():
            for name, buffer in network.named_buffers():
                buffer.copy_(before[name])


@contextlib.contextmanager
def _asked_only(network: nn.Module) -> Iterator[None]:
    """The network takes no part in learning: no gradients for its parameters, no new buffers."""
    learning = [parameter for parameter in network.parameters() if parameter.requires_grad]
    network.requires_grad_(False)
    try:
        with _buffers_kept(network):
            yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)


def _insist_clip(clip: float) -> None:
    if not clip >= 0:
        raise ValueError(f"clip is {clip}; expected 0.0 (off) or more")
