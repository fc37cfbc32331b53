"""What a caller of the framework may choose, and what a notebook's run chooses."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from enhancelib.models.skip import SETTINGS, Setting
from enhancelib.papers.dilie import settings, sfe
from enhancelib.papers.dilie.plans import Plan, Prior
from enhancelib.papers.dilie.restyling import Loss
from enhancelib.papers.dilie.settings import Parameters
from enhancelib.recipes import Recipe


@dataclass(frozen=True)
class Options:
    """What `dilie` leaves to its caller; the defaults are full length.

    Args:
        lam: Weight of the contextual content loss of Eq. 9, for haze.
        airlight: A_0, (3,) in [0, 1], for haze; None estimates it.
        passes: Of the decomposition.
        setting: Network of the reconstruction, for noise: "denoise" or "small" of `SETTINGS`.
        plan: Seed, steps and rate of CFE, and who is shown and told; its `show` sees SFE's steps
            too.
        loss: L_PE, for style "photo".
        content_weight: alpha / beta of L_AE, for style "art".
        recipe: Of every stage of SFE; None means the published one. Its seed is the plan's.

    Raises:
        ValueError: If a weight is negative or not finite, or passes is below 1.

    Example:
        >>> Options(lam=-1.0)
        Traceback (most recent call last):
        ValueError: lam is -1.0, content_weight 1.0, passes 2; expected 0 or more, ... and 1 or more
    """

    lam: float = 0.001
    airlight: Tensor | None = None
    passes: int = 2
    setting: Setting = SETTINGS["denoise"]
    plan: Plan = field(default_factory=Plan)
    loss: Loss = sfe.PE
    content_weight: float = 1.0
    recipe: Recipe | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be optimised."""
        fine = all(0 <= weight < float("inf") for weight in (self.lam, self.content_weight))
        if not fine or self.passes < 1:
            raise ValueError(
                f"lam is {self.lam}, content_weight {self.content_weight}, passes {self.passes}; "
                "expected 0 or more, 0 or more, and 1 or more"
            )


def options(p: Parameters) -> Options:
    """The framework at the size and under the weights of a notebook's run.

    Args:
        p: Its profile, corruption, style, weights, seed and steps count.

    Returns:
        What `dilie` takes.

    Example:
        >>> options(Parameters(profile="small", corruption="noise")).plan.steps
        1000
    """
    scale = settings.scale(p)
    fitting = scale.dip if p.corruption == "noise" else scale.haze
    plan = Plan(
        steps=fitting.steps, learning_rate=fitting.learning_rate, prior=Prior(p.seed),
        watch_every=fitting.watch_every,
    )  # fmt: skip
    return Options(
        lam=p.lam,
        passes=scale.passes,
        setting=SETTINGS["denoise" if scale.wide else "small"],
        plan=plan,
        loss=sfe.weighted(p),
        content_weight=p.alpha / p.beta if p.beta else 1.0,
        recipe=scale.art if p.style == "art" else scale.photo,
    )
