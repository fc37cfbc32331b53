"""Parameters, recipes and sizes of the DILIE notebook.

The paper gives no recipe: its supplement, with weights, iterations and layers of the losses, could
not be found. What stands here is Double-DIP's, Deep Image Prior's, Deep Photo Style Transfer's and
STROTSS' own, as the specification reads them in their code, made smaller where a profile says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from enhancelib.papers.parameters import Common, Hours, parameter
from enhancelib.recipes import Recipe

CORRUPTIONS, STYLES = ("haze", "noise"), ("photo", "art")
CONTENT = "relu4_2"
"""phi^h of the paper's footnote: VGG19's conv4_2."""
STYLE = ("relu1_2", "relu2_2", "relu3_2")
"""phi^l of the paper's footnote."""


@dataclass(frozen=True)
class Parameters(Common):
    """What the notebook takes.

    Args:
        photo: Your own photo for the section that runs the whole framework; "" means a bundled one
            under synthetic haze or noise.
        reference: The style photo S; "" means a bundled one.
        corruption: What is wrong with the photo: "haze" or "noise".
        style: "photo" keeps edges (L_PE), "art" does not (L_AE).
        sigma: Strength of the noise, of 255.
        lam: Weight of the contextual content loss in Eq. 9.
        alpha: Weight of the content loss of L_PE.
        beta: Weight of the style loss of L_PE.
        affine: Weight of the affine loss of L_PE.
        steps: Iterations of every optimisation; 0 means the profile's.
        hours: No arm of tables="all" starts after this many hours; 0 means no limit. What is
            missing is printed as not run, and the next run of the same folder goes on with it.
    """

    photo: str = parameter("", "your own photo; empty means a bundled one, made hazy or noisy")
    reference: str = parameter("", "style photo; empty means a bundled one")
    corruption: str = parameter("haze", "what is wrong with the photo", choices=CORRUPTIONS)
    style: str = parameter("photo", "kind of style enhancement", choices=STYLES)
    sigma: float = parameter(25.0, "strength of the noise, of 255", low=0, high=100)
    lam: float = parameter(0.001, "weight of the contextual content loss, Eq. 9", low=0, high=100)
    alpha: float = parameter(1.0, "weight of the content loss of L_PE", low=0, high=1e6)
    beta: float = parameter(1.0, "weight of the style loss of L_PE", low=0, high=1e6)
    affine: float = parameter(1e4, "weight of the affine loss of L_PE", low=0, high=1e8)
    steps: int = parameter(0, "iterations; 0 means the profile's", low=0, high=10**6)
    hours: float = parameter(
        0.0, 'no arm of tables="all" starts after this many hours', low=0, high=1e4
    )


LAMBDAS = (0.0, 3e-4, 1e-3, 3e-3, 1e-2, 1e-1)
"""Weights of the contextual content loss that tables="all" compares."""
AFFINES = (0.0, 1e2, 1e4)
BETAS = (0.1, 0.3, 1.0, 3.0, 10.0)
SIGMAS = (15.0, 25.0, 50.0)
"""Strengths of the noise of noisy enhancement, of 255."""


@dataclass(frozen=True)
class Scale:
    """How large the optimisations of a profile are.

    Args:
        crop: Side of the denoised picture, the centre of a square of twice that side.
        wide: Whether the denoising network has Deep Image Prior's 128 channels or 32.
        dip: Of denoising and of the other settings of Deep Image Prior.
        haze_size: (height, width) of the pictures to dehaze.
        haze: Of one pass of the decomposition.
        passes: 1 or 2, as Double-DIP.
        pairs: Most pairs that are dehazed for the table.
        side: Long side of the pictures to restyle.
        photo: Of either stage of L_PE and of the compared style transfers.
        art: Of every scale of L_AE.
        restyled: Most photos that are restyled.
        moments: Pictures of a film.
        positions: Most positions of a map that L_PE compares; at 65^2, the authors' number, that
            is six sevenths of the time that L_PE takes on a CPU.
    """

    crop: int
    wide: bool
    dip: Recipe
    haze_size: tuple[int, int]
    haze: Recipe
    passes: int
    pairs: int
    side: int
    photo: Recipe
    art: Recipe
    restyled: int
    moments: int
    positions: int = 65**2


def _adam(steps: int, rate: float, watch: int) -> Recipe:
    return Recipe(steps, 1, 1, learning_rate=rate, watch_every=watch, log_every=max(1, steps // 80))


def _lbfgs(steps: int) -> Recipe:
    return Recipe(steps, 1, 1, optimiser="lbfgs", learning_rate=1.0, log_every=max(1, steps // 20))


def _rmsprop(steps: int) -> Recipe:
    return Recipe(
        steps, 1, 1, optimiser="rmsprop", learning_rate=2e-3, log_every=max(1, steps // 20)
    )


SCALES: Mapping[str, Scale] = {
    "smoke": Scale(
        40, False, _adam(4, 0.01, 2), (36, 48), _adam(4, 1e-3, 2), 1, 1, 54, _lbfgs(2), _rmsprop(2),
        1, 3, 1024,
    ),
    "small": Scale(
        128, False, _adam(1000, 0.01, 50), (96, 128), _adam(150, 1e-3, 10), 1, 4, 128, _lbfgs(40),
        _rmsprop(60), 4, 24, 1024,
    ),
    "large": Scale(
        256, True, _adam(3000, 0.01, 50), (384, 512), _adam(2000, 1e-3, 40), 2, 12, 512,
        _lbfgs(500), _rmsprop(250), 4, 40,
    ),
    "paper": Scale(
        512, True, _adam(3000, 0.01, 50), (768, 1024), _adam(4000, 1e-3, 80), 2, 45, 700,
        _lbfgs(1000), _rmsprop(250), 4, 40,
    ),
}  # fmt: skip
"""The rates are the component papers'; "paper" has their iterations too."""


def scale(p: Parameters) -> Scale:
    """The scale of a run.

    Args:
        p: Its `steps`, where not 0, replace the iterations of every optimisation.

    Returns:
        The scale.
    """
    found = SCALES[p.profile]
    if not p.steps:
        return found

    def cut(recipe: Recipe) -> Recipe:
        every = min(recipe.watch_every, p.steps)
        return replace(
            recipe, steps=p.steps, watch_every=every, log_every=min(recipe.log_every, p.steps)
        )

    return replace(
        found, dip=cut(found.dip), haze=cut(found.haze), photo=cut(found.photo), art=cut(found.art)
    )


hours = Hours({"smoke": 0.01, "small": 0.5, "large": 0.13, "paper": 4.0}, times=5.0)
