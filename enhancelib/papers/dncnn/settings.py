"""Parameters, recipes and sizes of the DnCNN notebook.

Recipes "paper*" are those of the article, "official" that of the released training code (v1.1 of
cszn/DnCNN, e93b278); each field carries how sure it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from enhancelib.papers.parameters import Common, Hours, parameter
from enhancelib.recipes import Recipe

SIGMAS = (15, 25, 50)
BLIND = (0.0, 55.0)


@dataclass(frozen=True)
class Parameters(Common):
    """What the notebook takes.

    Args:
        sigma: Noise level of the specific network and of the ablation, in 8-bit units.
        variant: Network of the training section: "S" (one noise level), "B" (blind), "C" (colour,
            blind) or "3" (noise, super-resolution and JPEG).
        recipe: Recipe of the training section: "profile", or as published, "paper" or "official".
        steps: Optimiser steps of the training section; 0 means the recipe's. At profile "paper" the
            sections that train many networks run with tables="all" only.
    """

    sigma: float = parameter(25.0, "noise level in 8-bit units", low=1, high=75)
    variant: str = parameter("S", "network of the training section", choices=("S", "B", "C", "3"))
    recipe: str = parameter(
        "profile", "recipe of the training section", choices=("profile", "paper", "official")
    )
    steps: int = parameter(0, "optimiser steps; 0 means the recipe's", low=0, high=10**7)


_PAPER = {
    "batch": "memory",
    "patch": "memory",
    "steps": "memory",
    "optimiser": "memory",
    "momentum": "memory",
    "weight_decay": "memory",
    "learning_rate": "memory",
    "final_learning_rate": "memory",
    "schedule": "memory",
    "epoch": "memory",
}
_OFFICIAL = dict.fromkeys(
    ("batch", "patch", "steps", "optimiser", "betas", "eps", "learning_rate", "schedule"),
    "official code",
)


def _paper(patch: int, epoch: int) -> Recipe:
    """SGD, 50 epochs, the rate falling exponentially from 1e-1 to 1e-4."""
    return Recipe(
        steps=50 * epoch,
        batch=128,
        patch=patch,
        optimiser="sgd",
        momentum=0.9,
        weight_decay=1e-4,
        learning_rate=1e-1,
        final_learning_rate=1e-4,
        schedule="exponential",
        epoch=epoch,
        watch_every=epoch,
        log_every=1,
        certainty=_PAPER,
    )


def _official(epochs: tuple[int, int], patches: int = 212_000) -> Recipe:
    """Adam, 1e-3 and then 1e-4; 128 patches as two halves, of which BN sees one at a time."""
    epoch = patches // 128
    return Recipe(
        steps=sum(epochs) * epoch,
        batch=128,
        patch=40,
        learning_rate=1e-3,
        schedule="milestones",
        milestones=(epochs[0] * epoch,),
        decay=0.1,
        epoch=epoch,
        sub_batches=2,
        watch_every=epoch,
        log_every=1,
        # 212,000 = 400 pictures x (225 + 169 + 100 + 36) patches at the four cumulative scales
        certainty={**_OFFICIAL, "epoch": "derived", "sub_batches": "official code"},
    )


RECIPES: Mapping[str, Recipe] = {
    "smoke": Recipe(
        steps=10,
        batch=4,
        patch=24,
        schedule="milestones",
        milestones=(8,),
        watch_every=5,
        log_every=5,
    ),
    "small": Recipe(
        steps=400, batch=16, patch=40, schedule="milestones", milestones=(320,), watch_every=20
    ),
    "large": Recipe(
        steps=3000, batch=128, patch=40, schedule="milestones", milestones=(2400,), watch_every=100
    ),
    "paper": _paper(40, 1600),
    "paper-B": _paper(50, 3000),
    "paper-C": _paper(50, 3000),
    "paper-3": _paper(50, 8000),
    "official": _official((30, 20)),
    "official-dagnn": _official((25, 25)),
}
"""Per profile (ablations), and as published. Data of the published ones: see `data`."""

ORIGIN: Mapping[str, str] = {
    "S": "400 BSD pictures of 180 x 180; 40 x 40 patches, 128 x 1,600 per epoch [paper, memory]",
    "B": "the same 400; 50 x 50; 128 x 3,000; sigma uniform in [0, 55] [paper, memory]",
    "C": "432 colour BSD pictures; 50 x 50; 128 x 3,000 [paper, memory]",
    "3": "91 pictures + 200 of BSD; sigma in [0, 55], bicubic x2, 3, 4, JPEG quality 5 to 99; "
    "50 x 50; 128 x 8,000 [paper, memory]",
    "official": "Train400, stride 10, scales 1, .9, .8, .7 applied one after another",
}
"""Training data as published."""


@dataclass(frozen=True)
class Scale:
    """How large the networks, the pictures and the trainings of a profile are.

    Args:
        D: Depth of the ablation networks.
        width: Their feature maps.
        arm: Recipe of every arm of the ablations; SGD's takes its rate from `sgd_rate`.
        main_D: Depth of the network of the training section.
        main_width: Its feature maps.
        main_steps: Its steps.
        sgd_rate: Learning rate of SGD; the same for all arms, with gradients clipped to norm 1,
            because without it the arms that have no batch normalisation diverge.
        three_steps: Steps of the DnCNN-3 networks.
        side: Test photos are centre-cropped to at most this many pixels.
        photos: Test photos, at most.
        bm3d: Pictures of every set that BM3D restores; more at tables="all".
        timed: Sides of the timed pictures.
    """

    D: int
    width: int
    arm: Recipe
    main_D: int
    main_width: int
    main_steps: int
    sgd_rate: float
    three_steps: int
    side: int
    photos: int
    bm3d: int
    timed: tuple[int, ...]


SCALES: Mapping[str, Scale] = {
    "smoke": Scale(5, 8, RECIPES["smoke"], 5, 8, 20, 1e-2, 10, 96, 3, 1, (64, 128)),
    "small": Scale(7, 32, RECIPES["small"], 7, 32, 1000, 1e-2, 500, 256, 15, 99, (256, 512, 1024)),
    "large": Scale(
        17, 64, RECIPES["large"], 17, 64, 12_000, 1e-2, 6000, 256, 15, 99, (256, 512, 1024)
    ),
    "paper": Scale(
        17, 64, RECIPES["large"], 17, 64, 80_000, 1e-2, 400_000, 256, 15, 99, (256, 512, 1024)
    ),
}


def main_recipe(p: Parameters) -> Recipe:
    """The recipe of the training section.

    Args:
        p: Profile "paper" follows the paper's recipe unless `recipe` says otherwise.

    Returns:
        The recipe, with `steps` and `seed` of the parameters.
    """
    scale = SCALES[p.profile]
    name = "paper" if p.recipe == "profile" and p.profile == "paper" else p.recipe
    if name == "profile":
        steps = scale.main_steps
        recipe = replace(
            scale.arm, steps=steps, milestones=(steps * 4 // 5,), watch_every=max(1, steps // 20)
        )
    else:
        recipe = RECIPES.get(f"{name}-{p.variant}", RECIPES[name])
    return replace(recipe, steps=p.steps or recipe.steps, seed=p.seed)


def depth(p: Parameters) -> int:
    """Depth of the network of the training section.

    Args:
        p: The paper's networks have 17 layers for one noise level and 20 otherwise.

    Returns:
        D.
    """
    scale = SCALES[p.profile]
    return scale.main_D if scale.main_D < 17 or p.variant == "S" else 20


hours = Hours({"smoke": 0.01, "small": 0.4, "large": 0.3, "paper": 30.0}, times=2.0)
