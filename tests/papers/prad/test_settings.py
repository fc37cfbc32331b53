"""The weights of Eq. 19 reach the objective, term by term; recipes and arms are what they say."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import skimage.data
import torch
from torch import Tensor
from torch.nn import functional as F

from enhancelib import features as networks
from enhancelib import images, models
from enhancelib.losses.perceptual import Taps
from enhancelib.papers.parameters import PROFILES, ParameterError, checked
from enhancelib.papers.prad import settings
from enhancelib.papers.prad.settings import FULL, GROUPS, RECIPES, SCALES, TERMS, Arm, Parameters

PAPER = {
    "content": 1.0,
    "gan": 0.4,
    "lcn": 0.4,
    "gradient": 0.4,
    "color": 0.1,
    "contextual": 0.4,
    "tv": 400.0,
}
COFFEE = images.from_array(skimage.data.coffee())[None, :, 100:200, 200:300]
TERMS_OF = {
    "w_content": {"content"},
    "w_gan": {"gan"},
    "w_texture": {"lcn", "gradient"},
    "w_color": {"color"},
    "w_cx": {"contextual"},
    "w_tv": {"tv"},
}


@dataclass
class Pooling:
    """In place of VGG19 where its values do not matter; remembers what it was asked for."""

    asked: list[tuple[str, ...]] = field(default_factory=list)

    def __call__(self, image: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        self.asked.append(tuple(layers))
        sizes = {"relu1_2": 1, "relu4_2": 4, "relu5_4": 8}
        return {name: F.avg_pool2d(image, sizes[name]) for name in layers}


def sample(side: int = 100) -> dict[str, Tensor]:
    """A photo, a greener and coarser one as output, and scores of five pictures."""
    clean = COFFEE[..., :side, :side]
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    output = clean * torch.tensor([0.8, 0.95, 0.8]).view(3, 1, 1) + 0.03 * noise
    scores = torch.linspace(-1.0, 2.0, 5)
    return {
        "output": output,
        "clean": clean,
        "real_scores": scores,
        "fake_scores": 0.5 - scores.flip(0) ** 2,
    }


# Weights


def test_the_defaults_are_those_of_equation_19() -> None:
    assert Parameters().weights_of_terms() == PAPER
    assert tuple(PAPER) == TERMS == tuple(settings.OF) == tuple(settings.FUNCTIONS)


@pytest.mark.parametrize("name", TERMS_OF)
def test_a_weight_changes_its_term_and_no_other(name: str) -> None:
    parts = sample()
    before, values = settings.objective(Parameters().weights_of_terms(), Pooling())(parts)
    changed = Parameters(**{name: 7.25}).weights_of_terms()
    objective = settings.objective(changed, Pooling())
    assert {t for t in TERMS if objective.terms[t].weight != PAPER[t]} == TERMS_OF[name]
    total, _ = objective(parts)
    own = sum((7.25 - PAPER[t]) * float(values[t]) for t in TERMS_OF[name])
    assert own != 0
    assert float(total - before) == pytest.approx(own, rel=1e-3)


@pytest.mark.parametrize("name", TERMS_OF)
@pytest.mark.parametrize("value", [-0.1, 2e6, float("nan"), float("inf"), "much"])
def test_a_weight_is_a_number_from_zero_up(name: str, value: object) -> None:
    with pytest.raises(ParameterError, match=f"prad: {name} is .*; expected a number from 0 to"):
        checked(Parameters, {name: value}, slug="prad")
    assert checked(Parameters, {name: 0}, slug="prad").weights_of_terms().keys() == PAPER.keys()


@pytest.mark.parametrize("side", [32, 48, 64, 96, 100])
def test_the_colour_weight_is_scaled_with_the_area(side: int) -> None:
    objective = settings.objective(PAPER, Pooling(), side=side)
    found = {name: term.weight for name, term in objective.terms.items()}
    assert found == {**PAPER, "color": pytest.approx(0.1 * (100 / side) ** 2)}


def test_one_error_per_pixel_weighs_the_same_on_every_patch() -> None:
    def colour(side: int) -> float:
        clean = torch.zeros(2, 3, side, side)
        objective = settings.objective({"color": 0.1}, None, side=side)
        return float(objective({"output": clean + 0.1, "clean": clean})[0])

    assert colour(100) == pytest.approx(0.1 * 0.5 * 3 * 100**2 * 0.1**2)
    assert colour(32) == pytest.approx(colour(100), rel=1e-5)


# What is left out


def test_a_weight_of_zero_leaves_the_term_out() -> None:
    for name in TERMS:
        objective = settings.objective({**PAPER, name: 0.0}, Pooling())
        assert list(objective.terms) == [term for term in TERMS if term != name]


@pytest.mark.parametrize(
    ("zero", "asked"),
    [
        ((), {("relu5_4", "relu4_2"), ("relu5_4",)}),
        (("content",), {("relu4_2",), ("relu5_4",)}),
        (("contextual",), {("relu5_4",)}),
        (("lcn",), {("relu5_4", "relu4_2")}),
        (("content", "contextual"), {("relu5_4",)}),
        (("content", "lcn"), {("relu4_2",)}),
        (("content", "lcn", "contextual"), set()),
    ],
)
def test_features_of_what_is_left_out_are_not_computed(
    zero: tuple[str, ...], asked: set[tuple[str, ...]]
) -> None:
    network = Pooling()
    objective = settings.objective({**PAPER, **dict.fromkeys(zero, 0.0)}, network)
    objective(sample())
    assert set(network.asked) == asked
    pictures = {"output", "clean"} if zero != ("content", "contextual") else set()
    pictures |= {"output~", "clean~"} if "lcn" not in zero else set()
    tapped = objective.prepare.layers if isinstance(objective.prepare, Taps) else {}
    assert set(tapped) == (pictures if asked else set())
    assert len(network.asked) == len(tapped)


def test_without_the_network_its_terms_are_left_out() -> None:
    objective = settings.objective(PAPER, None)
    assert list(objective.terms) == ["gan", "gradient", "color", "tv"]
    assert objective.prepare is None
    objective(sample())


def test_an_objective_of_nothing_is_refused() -> None:
    for weights, network in (({}, Pooling()), ({"tv": 0.0}, Pooling()), ({"content": 1.0}, None)):
        with pytest.raises(ValueError, match="at least one Term"):
            settings.objective(weights, network)
    with pytest.raises(ValueError, match="no loss 'texture'; PRaD has content, gan, lcn"):
        settings.objective({"texture": 0.4}, None)


# The total, summed by hand


def contrast(image: Tensor) -> Tensor:
    """Eqs. 10 to 12 from windows of 49 pixels, sigma as a root mean, C = 1/255."""
    windows = F.unfold(F.pad(image.double(), (3, 3, 3, 3), mode="reflect"), 7)
    windows = windows.view(*image.shape[:2], 49, *image.shape[2:])
    mu = windows.mean(2)
    sigma = (windows - mu[:, :, None]).square().mean(2).sqrt()
    return ((image.double() - mu) / (sigma + 1 / 255)).float()


def contextual(X: Tensor, Y: Tensor) -> Tensor:
    """Eq. 17 with bandwidth 0.5, as the specification writes it in 4.1; one picture."""
    x, y = X[0].flatten(1).T.double(), Y[0].flatten(1).T.double()
    center = y.mean(0)
    d = (1 - F.normalize(x - center) @ F.normalize(y - center).T) / 2
    w = torch.exp((1 - d / (d.min(1, keepdim=True).values + 1e-5)) / 0.5)
    cx = w / w.sum(1, keepdim=True)
    return -cx.max(0).values.mean().log()


def by_hand(parts: Mapping[str, Tensor], vgg19: networks.Features) -> dict[str, float]:
    """Every term of Eq. 19 for one pair, written out."""
    x, y = parts["output"], parts["clean"]
    deep = [vgg19(z, ("relu4_2", "relu5_4")) for z in (x, y)]
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    deviation = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    normal = [vgg19(mean + deviation * contrast(z), ("relu5_4",))["relu5_4"] for z in (x, y)]
    right, down = (x - y).diff(dim=-1), (x - y).diff(dim=-2)
    real, fake = parts["real_scores"], parts["fake_scores"]
    as_real = torch.sigmoid(real - fake.mean())
    as_fake = torch.sigmoid(fake - real.mean())
    found = {
        "content": ((deep[0]["relu5_4"] - deep[1]["relu5_4"]) ** 2).mean(),
        "gan": -(1 - as_real).log().mean() - as_fake.log().mean(),
        "lcn": ((normal[0] - normal[1]) ** 2).mean(),
        "gradient": right.abs().mean() + down.abs().mean(),
        "color": ((x - y) ** 2).sum() / 2,
        "contextual": contextual(deep[0]["relu4_2"], deep[1]["relu4_2"]),
        "tv": (x.diff(dim=-1) ** 2).mean() + (x.diff(dim=-2) ** 2).mean(),
    }
    return {name: float(value) for name, value in found.items()}


def test_the_total_at_the_papers_weights_is_the_sum_by_hand(features: Path) -> None:
    parts, vgg19 = sample(), networks.load("vgg19", ceil=True)
    total, values = settings.objective(PAPER, vgg19)(parts)
    wanted = by_hand(parts, vgg19)
    assert {k: float(v) for k, v in values.items()} == pytest.approx(wanted, rel=2e-4)
    assert float(total) == pytest.approx(sum(PAPER[k] * v for k, v in wanted.items()), rel=2e-4)
    assert all(PAPER[k] * v > 0.01 for k, v in wanted.items()), "every term has a say"


def test_the_total_of_a_real_pair(assets: Path, features: Path) -> None:
    """The phone's picture as output, pair 0: colour and gradient as prad.md has their order."""
    folder = assets / "data" / "dped" / "patches"
    x, y = (images.read(folder / side / "0.jpg")[None] for side in ("iphone", "canon"))
    parts = {**sample(), "output": x, "clean": y}
    vgg19 = networks.load("vgg19", ceil=True)
    total, values = settings.objective(PAPER, vgg19)(parts)
    wanted = by_hand(parts, vgg19)
    assert float(total) == pytest.approx(sum(PAPER[k] * v for k, v in wanted.items()), rel=2e-4)
    # PSNR of this pair is 20.221 dB (prad.md, 7.2): half of 30,000 squared errors
    assert float(values["color"]) == pytest.approx(15_000 * 10**-2.0221, rel=1e-3)


def test_the_texture_pair_differs_by_the_texture_loss() -> None:
    parts = sample()
    plain, with_texture = (settings.texture_objective(on) for on in (False, True))
    assert {k: t.weight for k, t in plain.terms.items()} == {"mse": 1.0}
    weights = {k: t.weight for k, t in with_texture.terms.items()}
    assert weights == {"mse": 1.0, "gradient": 0.3, "lcn": 0.02}
    x, y = parts["output"], parts["clean"]
    gradient = (x - y).diff(dim=-1).abs().mean() + (x - y).diff(dim=-2).abs().mean()
    normal = (contrast(x) - contrast(y)).square().mean()
    mse = (x - y).square().mean()
    assert float(plain(parts)[0]) == pytest.approx(float(mse), rel=1e-5)
    wanted = float(mse + 0.3 * gradient + 0.02 * normal)
    assert float(with_texture(parts)[0]) == pytest.approx(wanted, rel=1e-4)


# Recipes


def test_the_papers_recipe_is_that_of_the_specification() -> None:
    recipe = RECIPES["paper"]
    assert (recipe.steps, recipe.batch, recipe.patch) == (20_000, 50, 100)
    assert (recipe.optimiser, recipe.learning_rate, recipe.betas) == ("adam", 5e-4, (0.9, 0.999))
    assert [recipe.rate(k) for k in (0, 9_999, 10_000, 19_999)] == pytest.approx(
        [5e-4, 5e-4, 5e-5, 5e-5]
    )
    assert recipe.clip > 0
    assert set(recipe.certainty.values()) == {"official code", "derived"}
    assert SCALES["paper"].recipe == recipe
    assert SCALES["paper"].precision == "fp32"


def test_the_papers_scale_adds_nothing_to_the_critic() -> None:
    assert (SCALES["paper"].penalty, SCALES["paper"].critic_rate) == (0.0, 1.0)


def test_every_profile_has_a_scale_and_none_trains_on_more_than_a_patch() -> None:
    assert tuple(SCALES) == PROFILES
    for scale in SCALES.values():
        assert scale.recipe.patch <= settings.PATCH
        assert scale.texture.patch <= settings.PATCH
        assert scale.texture.clip > 0, "a divergence check and clipping, says the specification"
        assert scale.texture.learning_rate == 8e-4
        assert scale.critic_steps == (4 if scale is SCALES["smoke"] else 200)
        assert scale.seeds >= 1


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("recipe", ["profile", "paper"])
def test_steps_shorten_the_recipe_and_nothing_else(profile: str, recipe: str) -> None:
    whole = settings.main_recipe(Parameters(profile=profile, recipe=recipe))
    assert whole is (RECIPES["paper"] if recipe == "paper" else SCALES[profile].recipe)
    for steps in (1, 2, 150):
        short = settings.main_recipe(Parameters(profile=profile, recipe=recipe, steps=steps))
        assert short.steps == steps
        assert short.watch_every <= steps
        kept = {f.name for f in dataclasses.fields(short)} - {"steps", "milestones", "watch_every"}
        assert all(getattr(short, name) == getattr(whole, name) for name in kept)
        share = [m / whole.steps for m in whole.milestones]
        assert [m / steps for m in short.milestones] == pytest.approx(share, abs=0.5 / steps + 1e-9)


# Arms


def arms() -> list[Arm]:
    return list(dict.fromkeys(arm for group in GROUPS.values() for arm in group))


def test_arms_have_names_of_their_own() -> None:
    everyone = arms()
    assert len({arm.method for arm in everyone}) == len(everyone)
    assert len({arm.stage for arm in everyone}) == len(everyone)
    assert all(re.fullmatch(r"arm(-[a-z0-9]+)+", arm.stage) for arm in everyone)
    assert FULL.stage == "arm-prad-trained-here"


def test_the_whole_system_is_in_every_group() -> None:
    """But for GridNet and its like, an arm is the whole system with one thing changed."""
    for group, members in GROUPS.items():
        assert FULL in members, group
        for arm in members:
            changed = {
                "network": arm.network != "prad",
                "options": bool(arm.options) and arm.network == "prad",
                "judges": arm.judges != "pair" and "gan" not in arm.without,
                "without": bool(arm.without),
            }
            assert sum(changed.values()) == (arm != FULL), arm.method


def test_losses_are_added_one_by_one_and_then_left_out_one_by_one() -> None:
    kept = [set(TERMS) - set(arm.without) for arm in GROUPS["losses"]]
    texture = {"lcn", "gradient"}
    added = [{"color"}, {"content"}, texture, {"contextual"}, {"tv"}, {"gan"}]
    running: set[str] = set()
    for step, found in zip(added, kept, strict=False):
        running |= step
        assert found == running
    left_out = [set(TERMS) - found for found in kept[len(added) :]]
    assert left_out == [{"content"}, texture, {"contextual"}, {"tv"}, {"color"}]
    for arm in GROUPS["losses"]:
        assert bool(arm.judges) is ("gan" not in arm.without)


@pytest.mark.parametrize("arm", arms(), ids=lambda arm: arm.stage)
def test_every_arm_builds(arm: Arm) -> None:
    network = models.build(arm.network, **dict(arm.options)).eval()
    with torch.inference_mode():
        assert network(torch.zeros(1, 3, 32, 36)).shape == (1, 3, 32, 36)


def test_ablations_change_the_generator_as_the_specification_counts() -> None:
    def count(arm: Arm) -> int:
        built = models.build(arm.network, **dict(arm.options))
        return sum(p.numel() for p in built.parameters())

    assert [count(arm) for arm in GROUPS["cfa"]] == [155_955, 179_091, 183_187, 206_323]
    backbones = {arm.method: count(arm) for arm in GROUPS["backbones"]}
    assert backbones["GridNet"] == 2_242_403
    assert backbones["ResNet-20"] == 697_923
    assert backbones["ResNet-32"] == 1_142_595


def test_hours_of_all_tables_are_more() -> None:
    for profile in PROFILES:
        assert 0 < settings.hours(profile, "main") < settings.hours(profile, "all") < math.inf


def test_unknown_choices_are_refused() -> None:
    choices: dict[str, Any] = {"phone": "nokia", "size": "XL", "norm": "group", "recipe": "best"}
    for name, value in choices.items():
        with pytest.raises(ParameterError, match=f"prad: {name} is '{value}'; expected one of"):
            checked(Parameters, {name: value}, slug="prad")
