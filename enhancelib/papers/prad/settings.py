"""Parameters, recipes, arms and sizes of the PRaD notebook.

The article's recipe is lost in the source text; recipe "paper" is the best supported one: Adam
with rate 5e-4, 50 patches of 100 x 100 and 20,000 steps are DPED's, whose training set it uses.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from enhancelib import losses
from enhancelib.losses import Objective, Term, adversarial, contextual, pixel, texture
from enhancelib.losses.perceptual import Taps
from enhancelib.papers.parameters import Common, Hours, parameter
from enhancelib.recipes import Recipe

PHONES = ("iphone", "blackberry", "sony")
NORMS = ("none", "batch", "instance", "weight")
PATCH = 100  # side in pixels at which the weight of the colour loss means what the paper says
CONTENT, CONTEXTUAL, CONTRAST, PHI = "relu5_4", "relu4_2", "relu5_4", "relu1_2"
VGG_TERMS = ("content", "lcn", "contextual")

_WEIGHT = "weight of the loss in Eq. 19; 0 leaves it out"


@dataclass(frozen=True)
class Parameters(Common):
    """What the notebook takes.

    Args:
        phone: Whose pairs are read from data_root.
        size: Widths of the generator: "S" (16, 32, 64), "M" or "L" (32, 64, 128).
        norm: Normalisation inside the generator of the training section; the paper has none.
        recipe: Recipe of the training section: "profile" or "paper".
        steps: Generator steps of the training section; 0 means the recipe's.
        hours: No arm of tables="all" starts after this many hours; 0 means no limit. What is
            missing is printed as not run, and the next run of the same folder goes on with it.
        w_content: Weight of the content loss (Eq. 16).
        w_gan: Weight of the adversarial loss (Eq. 8).
        w_texture: Weight of the texture loss (Eq. 15), for both of its parts.
        w_color: Weight of the colour loss (Eq. 9) on a patch of 100 x 100 pixels.
        w_cx: Weight of the contextual loss (Eq. 17).
        w_tv: Weight of the total variation loss (Eq. 18).
    """

    phone: str = parameter("iphone", "whose pairs are read from data_root", choices=PHONES)
    size: str = parameter("S", "widths of the generator", choices=("S", "M", "L"))
    norm: str = parameter("none", "normalisation of the generator", choices=NORMS)
    recipe: str = parameter(
        "profile", "recipe of the training section", choices=("profile", "paper")
    )
    steps: int = parameter(0, "generator steps; 0 means the recipe's", low=0, high=10**7)
    hours: float = parameter(
        0.0, 'no arm of tables="all" starts after this many hours', low=0, high=1e4
    )
    w_content: float = parameter(1.0, _WEIGHT, low=0, high=1e6)
    w_gan: float = parameter(0.4, _WEIGHT, low=0, high=1e6)
    w_texture: float = parameter(0.4, _WEIGHT, low=0, high=1e6)
    w_color: float = parameter(0.1, _WEIGHT, low=0, high=1e6)
    w_cx: float = parameter(0.4, _WEIGHT, low=0, high=1e6)
    w_tv: float = parameter(400.0, _WEIGHT, low=0, high=1e6)

    def weights_of_terms(self) -> dict[str, float]:
        """The weights by the names of the objective's terms.

        Returns:
            Term -> weight, on a patch of 100 x 100 pixels.
        """
        return {
            "content": self.w_content,
            "gan": self.w_gan,
            "lcn": self.w_texture,
            "gradient": self.w_texture,
            "color": self.w_color,
            "contextual": self.w_cx,
            "tv": self.w_tv,
        }


TERMS = ("content", "gan", "lcn", "gradient", "color", "contextual", "tv")
"""The seven losses of the paper, in the order of Eq. 19; lcn and gradient make up its texture."""

OF = {
    "content": (f"output/{CONTENT}", f"clean/{CONTENT}"),
    "gan": ("real_scores", "fake_scores"),
    "lcn": (f"output~/{CONTRAST}", f"clean~/{CONTRAST}"),
    "gradient": ("output", "clean"),
    "color": ("output", "clean"),
    "contextual": (f"output/{CONTEXTUAL}", f"clean/{CONTEXTUAL}"),
    "tv": ("output",),
}
FUNCTIONS: Mapping[str, Callable[..., Tensor]] = {
    "content": pixel.mse,
    "gan": adversarial.FORMS["relativistic"].generator,
    "lcn": pixel.mse,
    "gradient": texture.gradient,
    "color": pixel.half_sse,
    "contextual": contextual.contextual,
    "tv": pixel.total_variation,
}


def objective(
    weights: Mapping[str, float],
    vgg19: losses.perceptual.Network | None,
    *,
    side: int = PATCH,
) -> Objective:
    """The total loss of Eq. 19, with every term whose weight is not 0.

    Its sample holds `output`, `clean` and, for the adversarial term, `real_scores` and
    `fake_scores`. The colour loss sums over a patch (Eq. 9 has no 1/CHW), so its weight is scaled
    by (100 / side)^2: without that, half the side would mean a quarter of the weight.

    Args:
        weights: Term -> weight at 100 x 100 pixels; terms that are absent or 0 are left out.
        vgg19: The frozen network; None leaves out the terms that need it.
        side: Of the square patches, in pixels.

    Returns:
        The objective.

    Raises:
        ValueError: If a term is unknown, or none is left.

    Example:
        >>> sorted(objective({"color": 0.1, "tv": 400.0, "content": 1.0}, None).terms)
        ['color', 'tv']
        >>> objective({"style": 1.0}, None)
        Traceback (most recent call last):
        ValueError: no loss 'style'; PRaD has content, gan, lcn, gradient, color, contextual, tv
    """
    if unknown := [name for name in weights if name not in TERMS]:
        raise ValueError(f"no loss {unknown[0]!r}; PRaD has {', '.join(TERMS)}")
    area = (PATCH / side) ** 2
    kept = [n for n in TERMS if weights.get(n) and (vgg19 is not None or n not in VGG_TERMS)]
    terms = {
        name: Term(weights[name] * (area if name == "color" else 1.0), FUNCTIONS[name], OF[name])
        for name in kept
    }
    layers: dict[str, tuple[str, ...]] = {}
    for name in kept:
        for place in OF[name]:
            key, _, layer = place.partition("/")
            if layer:
                layers[key] = (*layers.get(key, ()), layer)
    if vgg19 is None or not layers:
        return Objective(terms)
    return Objective(terms, Taps(vgg19, layers))


TEXTURE_WEIGHTS = {"mse": 1.0, "gradient": 0.3, "lcn": 0.02}
"""Of the texture pair: pixel-domain losses only, as measured in the specification."""


def texture_objective(texture_loss: bool) -> Objective:
    """The loss of the texture pair: MSE, alone or with the two parts of the texture loss.

    Args:
        texture_loss: Whether gradient and local contrast (in the pixel domain) are added.

    Returns:
        The objective.
    """
    functions = {"mse": pixel.mse, "gradient": texture.gradient, "lcn": texture.lcn}
    names = functions if texture_loss else ("mse",)
    return Objective({name: Term(TEXTURE_WEIGHTS[name], functions[name]) for name in names})


_DPED = dict.fromkeys(
    ("steps", "batch", "patch", "optimiser", "learning_rate", "betas"), "official code"
)
RECIPES: Mapping[str, Recipe] = {
    "smoke": Recipe(steps=4, batch=2, patch=32, learning_rate=5e-4, log_every=1, watch_every=2),
    "small": Recipe(
        steps=1000,
        batch=4,
        patch=48,
        learning_rate=5e-4,
        schedule="milestones",
        milestones=(800,),
        watch_every=100,
        clip=500.0,
    ),
    "large": Recipe(
        steps=6000,
        batch=32,
        patch=96,
        learning_rate=5e-4,
        schedule="milestones",
        milestones=(4500,),
        watch_every=200,
        clip=500.0,
    ),
    "paper": Recipe(
        steps=20_000,
        batch=50,
        patch=PATCH,
        learning_rate=5e-4,
        schedule="milestones",
        milestones=(10_000,),
        watch_every=1000,
        clip=500.0,
        certainty={**_DPED, "schedule": "derived", "milestones": "derived"},
    ),
}
"""Of adversarial trainings. DPED's code (official code) for what the source text lost; the drop
at half is PPCN's (every 10,000 steps)."""

TEXTURE_RECIPES: Mapping[str, Recipe] = {
    "smoke": Recipe(
        steps=6, batch=2, patch=32, learning_rate=8e-4, schedule="one-cycle", log_every=2, clip=1.0
    ),
    "small": Recipe(
        steps=1000,
        batch=8,
        patch=64,
        learning_rate=8e-4,
        schedule="one-cycle",
        watch_every=100,
        clip=1.0,
    ),
    "large": Recipe(
        steps=8000,
        batch=32,
        patch=96,
        learning_rate=8e-4,
        schedule="one-cycle",
        watch_every=400,
        clip=1.0,
    ),
}
"""Of the texture pair and of plain against CFA + R; profile "paper" uses that of "large"."""


@dataclass(frozen=True)
class Scale:
    """How large the trainings and tests of a profile are.

    Args:
        recipe: Of adversarial trainings.
        texture: Of the texture pair.
        precision: Of convolutions in adversarial trainings, "fp32" or "bf16" (autocast; parameters
            and losses stay in float32).
        penalty: Weight of the critic's zero-centred gradient penalty; 0 leaves it out. With few
            steps and small batches an unpenalised critic wins within ten steps.
        critic_rate: The critic's learning rate over the generator's.
        seeds: Most seeds of the arms that only tables="all" trains.
        repeats: Most seeds of the critics on a frozen generator and of the shift study.
        critic_steps: Steps of those critics.
        lpips: Metrics of perceptual distance that the tables hold.
        projected: Steps of the paper's recipe that are timed.
        sizes: (height, width) of the timed pictures.
        shift_pairs: Patches of the shift study.
        shift_steps: Steps of its trainings.
    """

    recipe: Recipe
    texture: Recipe
    precision: str
    penalty: float
    critic_rate: float
    seeds: int
    repeats: int
    critic_steps: int
    lpips: tuple[str, ...]
    projected: int
    sizes: tuple[tuple[int, int], ...]
    shift_pairs: int
    shift_steps: int


LPIPS = ("lpips_alex", "lpips_vgg")
PICTURES = ((100, 100), (720, 1280), (1536, 2048))
"""(height, width) of the efficiency table."""

SCALES: Mapping[str, Scale] = {
    "smoke": Scale(
        RECIPES["smoke"], TEXTURE_RECIPES["smoke"], "fp32", 10.0, 0.2, 1, 1, 4, ("lpips_alex",), 0,
        PICTURES[:1], 4, 4,
    ),
    "small": Scale(
        RECIPES["small"], TEXTURE_RECIPES["small"], "bf16", 10.0, 0.2, 1, 3, 200, LPIPS,
        2, PICTURES, 100, 150,
    ),
    "large": Scale(
        RECIPES["large"], TEXTURE_RECIPES["large"], "bf16", 10.0, 0.2, 3, 3, 200, LPIPS,
        20, PICTURES, 100, 2000,
    ),
    "paper": Scale(
        RECIPES["paper"], TEXTURE_RECIPES["large"], "fp32", 0.0, 1.0, 3, 3, 200, LPIPS,
        20, PICTURES, 100, 2000,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Arm:
    """One training of an ablation.

    Args:
        method: What tables call it.
        network: A key of `models.MODELS`.
        options: Of the network, over those of the run's size.
        judges: What the critic sees: "pair", "pair_without_phi", "image", or "" for no critic.
        without: Terms of Eq. 19 that are left out.
    """

    method: str
    network: str = "prad"
    options: tuple[tuple[str, Any], ...] = ()
    judges: str = "pair"
    without: tuple[str, ...] = field(default=())

    @property
    def stage(self) -> str:
        """Its name among the checkpoints, without the seed.

        Returns:
            Such as "arm-w-o-content".
        """
        kept = [c if c.isalnum() else "-" for c in self.method.lower()]
        return "arm-" + "-".join(filter(None, "".join(kept).split("-")))


FULL = Arm("PRaD (trained here)")


def _g(method: str, **options: Any) -> Arm:  # noqa: ANN401 - options of a network
    return Arm(method, options=tuple(sorted(options.items())))


def _without(method: str, *terms: str) -> Arm:
    return Arm(method, judges="" if "gan" in terms else "pair", without=terms)


def _backbone(method: str, network: str, **options: Any) -> Arm:  # noqa: ANN401
    return Arm(method, network=network, options=tuple(sorted(options.items())))


PLAIN = _g("plain U-Net", cfa=False, refinement="none")
NO_GAN = _without("+ TV (no adversarial loss)", "gan")
IMAGE = Arm("critic sees the image alone", judges="image")
COLOR = _without("MSE alone", *(t for t in TERMS if t != "color"))
GROUPS: Mapping[str, tuple[Arm, ...]] = {
    "cfa": (
        PLAIN,
        _g("+ R", cfa=False, refinement="residual"),
        _g("+ CFA", cfa=True, refinement="none"),
        FULL,
    ),
    "depth": (_g("first convolution's features", aggregated="shallow"), FULL),
    "discriminator": (
        NO_GAN, IMAGE, Arm("critic sees the pair without phi", judges="pair_without_phi"), FULL,
    ),
    "losses": (
        COLOR,
        _without("+ content", "gan", "lcn", "gradient", "contextual", "tv"),
        _without("+ texture", "gan", "contextual", "tv"),
        _without("+ contextual", "gan", "tv"),
        NO_GAN,
        FULL,
        _without("without content", "content"),
        _without("without texture", "lcn", "gradient"),
        _without("without contextual", "contextual"),
        _without("without TV", "tv"),
        _without("without colour", "color"),
    ),
    "norm": (
        FULL,
        _g("batch normalisation", norm="batch"),
        _g("instance normalisation", norm="instance"),
        _g("weight normalisation", norm="weight"),
    ),
    "backbones": (
        _backbone("SRCNN", "srcnn"),
        _backbone("Johnson", "johnson"),
        _backbone("RSGUNet", "rsgunet"),
        _backbone("DPED (ResNet-12)", "dped"),
        _backbone("ResNet-20", "dped", blocks=8),
        _backbone("ResNet-32", "dped", blocks=14),
        _backbone("GridNet", "gridnet"),
        PLAIN,
        FULL,
    ),
}  # fmt: skip
"""What tables="all" trains, in this order; an arm of several groups is trained once."""


def main_recipe(p: Parameters) -> Recipe:
    """The recipe of the training section.

    Args:
        p: Profile "paper" follows the paper's recipe.

    Returns:
        The recipe, with `steps` of the parameters.
    """
    recipe = RECIPES["paper"] if p.recipe == "paper" else SCALES[p.profile].recipe
    if not p.steps:
        return recipe
    share = p.steps / recipe.steps
    milestones = tuple(max(1, round(m * share)) for m in recipe.milestones)
    every = min(recipe.watch_every, p.steps)
    return replace(recipe, steps=p.steps, milestones=milestones, watch_every=every)


hours = Hours({"smoke": 0.01, "small": 0.5, "large": 0.3, "paper": 8.0}, times=6.0)
