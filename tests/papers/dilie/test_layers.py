"""The haze model's losses by value, its networks, and the inversion."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from enhancelib import features as networks
from enhancelib.filters import guided_filter
from enhancelib.images import from_array, resize
from enhancelib.internal import Generated
from enhancelib.papers.dilie import layers
from enhancelib.papers.dilie.layers import Content, composed, decomposed, inverted, objective
from enhancelib.papers.dilie.plans import Plan, Prior

Array = NDArray[np.float64]
CAT = from_array(skimage.data.chelsea())[None, :, 60:124, 100:164].clone()


def drawn(*shape: int, seed: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def sample(height: int = 16, width: int = 20) -> dict[str, Tensor]:
    """Random layers and photo, in float64."""
    shapes = {"J": 3, "A": 3, "t": 1, "degraded": 3, "airlight": 3}
    return {n: drawn(1, c, height, width, seed=i) for i, (n, c) in enumerate(shapes.items())}


def blocks(image: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
    """A small feature network without weights: means and roughness of 4 x 4 blocks."""
    mean = F.avg_pool2d(image, 4)
    rough = F.avg_pool2d(image.square(), 4) - mean.square()
    return {name: torch.cat([mean, 10 * rough], 1) for name in names}


def mean_square(a: Array, b: Array) -> float:
    total = 0.0
    for x, y in zip(a.flat, b.flat, strict=True):
        total += (x - y) ** 2
    return total / a.size


def mixture(s: dict[str, Array]) -> float:
    made = np.empty_like(s["degraded"])
    for c in range(3):
        for i in range(made.shape[1]):
            for j in range(made.shape[2]):
                t = s["t"][0, i, j]
                made[c, i, j] = t * s["J"][c, i, j] + (1 - t) * s["A"][c, i, j]
    return mean_square(made, s["degraded"])


def roughness(x: Array) -> float:
    grey, found = x.mean(axis=0), []
    for i in range(2, grey.shape[0] - 2):
        for j in range(2, grey.shape[1] - 2):
            window = sum(grey[i + a, j + b] for a in range(-2, 3) for b in range(-2, 3))
            found.append((grey[i, j] - window / 25) ** 2)
    return sum(found) / len(found)


def distance(x: Array, y: Array, h: float = 0.5) -> float:
    """- log CX of features as rows."""
    mu = y.mean(axis=0)
    xs = [(v - mu) / np.linalg.norm(v - mu) for v in x]
    ys = [(v - mu) / np.linalg.norm(v - mu) for v in y]
    best = [0.0] * len(ys)
    for one in xs:
        d = [(1 - float(one @ other)) / 2 for other in ys]
        w = [math.exp((1 - value / (min(d) + 1e-5)) / h) for value in d]
        for j, value in enumerate(w):
            best[j] = max(best[j], value / sum(w))
    return -math.log(sum(best) / len(best))


def plain(s: dict[str, Tensor]) -> dict[str, Array]:
    return {name: value[0].numpy() for name, value in s.items()}


@pytest.mark.parametrize("learned", [True, False])
@pytest.mark.parametrize("step", [0, 999, 1000, 3999])
def test_equation_9_by_value(learned: bool, step: int) -> None:
    s, lam = sample(), 0.013
    content = Content(lam, blocks, layer="deep", positions=None)
    s |= content.target(s["degraded"])
    p = plain(s)
    rows = [blocks(s[name], ("x",))["x"][0].flatten(1).T.numpy() for name in ("J", "degraded")]
    terms = {"L_ID": mixture(p), "S(t)": roughness(p["t"]), "L_CCL": distance(*rows)}
    expected = terms["L_ID"] + 0.005 * terms["S(t)"] + lam * terms["L_CCL"]
    if learned:
        terms["S(A)"] = roughness(p["A"])
        expected += 0.1 * terms["S(A)"]
    if learned and step < 1000:
        terms["near A_0"] = mean_square(p["A"], p["airlight"])
        expected += terms["near A_0"]
    total, values = objective(content, learned=learned)(step)(s)
    assert float(total) == pytest.approx(expected, rel=1e-6)
    assert {name: pytest.approx(value, rel=1e-6) for name, value in terms.items()} == {
        name: float(value) for name, value in values.items()
    }


def test_without_content_the_vgg_is_not_asked() -> None:
    def never(image: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
        raise AssertionError("asked")

    for content in (None, Content(0.0, never)):
        assert "L_CCL" not in objective(content)(0).terms
    assert Content(0.0, never).target(CAT) == {}


def test_the_objective_is_one_object_while_nothing_changes() -> None:
    """A CUDA graph is captured once per object."""
    at = objective(anchored=3)
    assert at(0) is at(2)
    assert at(3) is at(4000)
    assert at(2) is not at(3)


def test_content_gradients_reach_the_scene_alone() -> None:
    s = {name: value.requires_grad_(name in "JAt") for name, value in sample().items()}
    content = Content(1.0, blocks, layer="deep")
    s |= content.target(s["degraded"].detach())
    term = objective(content)(0)
    gradients = {name: term.gradients(s, s[name])["L_CCL"] for name in "JAt"}
    assert float(gradients["J"].abs().sum()) > 0
    assert not gradients["A"].any()
    assert not gradients["t"].any()


def test_content_asks_for_conv4_2_of_the_real_network(features: Path) -> None:
    """The same photo as scene costs least; -log CX of a photo with itself is near 0."""
    content = Content(1.0, networks.load("vgg19"))
    s = {"J": CAT, "t": CAT[:, :1], "A": CAT, "degraded": CAT} | content.target(CAT)
    assert s["degraded/relu4_2"].shape == (1, 512, 8, 8)
    same = objective(content, learned=False)(0)(s)[1]["L_CCL"]
    other = objective(content, learned=False)(0)({**s, "J": 0.3 * CAT + 0.5})[1]["L_CCL"]
    assert float(same) < 0.01 < float(other)


def test_decomposition_is_the_mean_of_squares() -> None:
    s = sample()
    found = layers.decomposition(s["J"], s["A"], s["t"], s["degraded"])
    assert float(found) == pytest.approx(mixture(plain(s)), rel=1e-12)
    colour = s["A"][..., :1, :1]
    wide = layers.decomposition(s["J"], colour.expand_as(s["J"]), s["t"], s["degraded"])
    assert float(layers.decomposition(s["J"], colour, s["t"], s["degraded"])) == float(wide)


def test_networks_are_the_published_ones() -> None:
    A_0 = torch.full((1, 3, 1, 1), 0.8)
    constant, learned = (
        decomposed(CAT, A_0, Prior(), learned=learned) for learned in (False, True)
    )
    counts = {n: sum(p.numel() for p in getattr(learned, n).parameters()) for n in "JtA"}
    assert counts == {"J": 573_187, "t": 573_169, "A": 573_187}
    assert sum(p.numel() for p in constant.parameters()) == 573_187 + 573_169
    assert bool((constant(None)["A"] == 0.8).all())
    assert (learned.J.jitter, learned.t.jitter, learned.A.jitter) == (1 / 30, 0.0, 1 / 30)


def test_inputs_are_the_published_ones() -> None:
    made = decomposed(CAT, torch.ones(1, 3, 1, 1), Prior(), learned=True)
    for part in (made.J, made.t):
        assert part.z.shape == (1, 8, 64, 64)
        assert -0.05 <= float(part.z.min()) < -0.049
        assert 0.049 < float(part.z.max()) <= 0.05
    assert not torch.equal(made.J.z, made.t.z)
    ramps = torch.linspace(0, 1, 64)
    assert isinstance(made.A, Generated)
    torch.testing.assert_close(made.A.z[0, 0, 5], ramps)
    torch.testing.assert_close(made.A.z[0, 7, :, 5], ramps)


def test_zid_networks_take_the_photo() -> None:
    made = decomposed(CAT, torch.ones(1, 3, 1, 1), Prior(), learned=True, input="image")
    for part in (made.J, made.t, made.A):
        assert isinstance(part, Generated)
        assert torch.equal(part.z, CAT)
        assert part.jitter == 0
    generator = torch.Generator().manual_seed(0)
    assert torch.equal(made(generator)["output"], made(None)["output"])


def test_noise_of_the_step_reaches_scene_and_airlight_not_the_mask() -> None:
    made = decomposed(CAT, torch.ones(1, 3, 1, 1), Prior(), learned=True)
    quiet, noisy = made(None), made(torch.Generator().manual_seed(0))
    assert torch.equal(quiet["t"], noisy["t"])
    assert not torch.equal(quiet["J"], noisy["J"])
    assert not torch.equal(quiet["A"], noisy["A"])


def test_the_recomposition_is_the_mixture() -> None:
    made = decomposed(CAT, torch.ones(1, 3, 1, 1), Prior(seed=4), learned=True)(None)
    torch.testing.assert_close(made["output"], made["t"] * made["J"] + (1 - made["t"]) * made["A"])
    assert made["t"].shape == (1, 1, 64, 64)


def test_inversion_takes_known_haze_off() -> None:
    """With the true layers the clean photo comes back; the filter keeps an even t."""
    t, A = torch.full((1, 1, 64, 64), 0.4), torch.tensor([0.8, 0.82, 0.85]).view(1, 3, 1, 1)
    J, refined = inverted(t * CAT + (1 - t) * A, t, A, radius=10)
    torch.testing.assert_close(refined, t, rtol=0, atol=1e-5)
    torch.testing.assert_close(J, CAT, rtol=0, atol=2e-5)


def test_inversion_by_value() -> None:
    t, A = drawn(1, 1, 64, 64, seed=5).float(), drawn(1, 3, 64, 64, seed=6).float()
    J, refined = inverted(CAT, t, A, radius=3, eps=1e-3, floor=0.3)
    expected = guided_filter(CAT, t, 3, 1e-3).clamp(0.3, 1)
    torch.testing.assert_close(refined, expected)
    model = ((CAT - (1 - expected) * A) / expected).clamp(0, 1)
    torch.testing.assert_close(J, model, rtol=0, atol=1e-5)
    assert float(expected.min()) == pytest.approx(0.3)


def test_inversion_enlarges_layers() -> None:
    t, A = drawn(1, 1, 32, 32, seed=5).float(), drawn(1, 3, 32, 32, seed=6).float()
    small = inverted(CAT, t, A, radius=3)
    large = inverted(CAT, resize(t, size=(64, 64)), resize(A, size=(64, 64)), radius=3)
    assert all(torch.equal(one, other) for one, other in zip(small, large, strict=True))


def test_passes_compose_exactly() -> None:
    J, t1, t2 = (drawn(1, c, 8, 8, seed=s) * 0.8 + 0.1 for s, c in enumerate((3, 1, 1)))
    A1, A2 = (drawn(1, 3, 8, 8, seed=s) for s in (7, 8))
    hazy = t1 * (t2 * J + (1 - t2) * A2) + (1 - t1) * A1
    t, A = composed([(t1, A1), (t2, A2)])
    torch.testing.assert_close(t, t1 * t2)
    torch.testing.assert_close(t * J + (1 - t) * A, hazy)
    assert all(map(torch.equal, composed([(torch.ones_like(t1), A1)]), (torch.ones_like(t1), A1)))


def test_arms_of_one_seed_begin_alike() -> None:
    A_0 = torch.ones(1, 3, 1, 1)
    one, same, other = (decomposed(CAT, A_0, Prior(s), learned=True) for s in (3, 3, 4))
    assert all(map(torch.equal, one.state_dict().values(), same.state_dict().values()))
    assert not torch.equal(one.J.z, other.J.z)
    assert not torch.equal(one.J.network.head.weight, other.J.network.head.weight)


def test_a_distribution_has_its_spread() -> None:
    made = decomposed(CAT, torch.ones(1, 3, 1, 1), Prior(distribution="gaussian"), learned=False)
    assert float(made.J.z.std()) == pytest.approx(0.1, rel=0.05)
    nearest = decomposed(CAT, torch.ones(1, 3, 1, 1), Prior(upsampling="nearest"), learned=False)
    assert nearest.t.network.options["upsampling"] == "nearest"


@pytest.mark.parametrize("weight", [-1e-3, math.nan, math.inf])
def test_an_impossible_lambda_is_refused(weight: float) -> None:
    with pytest.raises(ValueError, match=r"weight is .*; expected 0.0 .off. or more"):
        Content(weight, blocks)


def test_a_plan_overrides_its_setting_in_what_it_names() -> None:
    from enhancelib.models.skip import SETTINGS

    recipe = Plan(steps=7, prior=Prior(seed=3)).recipe(SETTINGS["restore_barbara"])
    assert (recipe.steps, recipe.learning_rate, recipe.seed) == (7, 0.001, 3)
    assert Plan(learning_rate=0.5).recipe(SETTINGS["denoise"]).steps == 3000
    assert Plan().recipe(SETTINGS["double_dip_image"]).steps == 4000
