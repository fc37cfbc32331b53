"""What the explorer of PRaD is given: pairs, seven losses, presets, and the command to rerun."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

from enhancelib import cli, images, running, widgets
from enhancelib.losses import pixel, texture
from enhancelib.papers.parameters import checked
from enhancelib.papers.prad import explore, settings
from enhancelib.papers.prad.settings import TERMS, Parameters
from enhancelib.papers.prad.study import Study
from enhancelib.widgets import optimise
from tests.papers.prad import small

EQ_19 = {
    "content": 1.0, "gan": 0.4, "lcn": 0.4, "gradient": 0.4, "color": 0.1, "contextual": 0.4,
    "tv": 400.0,
}  # fmt: skip


# The command


def rerun(line: str) -> Parameters:
    """What the command line makes of a line, as a shell would hand it over."""
    program, *words = shlex.split(line)
    assert program == "enhancelib"
    given = cli._parser().parse_args(words)
    assert (given.command, given.slug) == ("run", "prad")
    pairs = [f"profile={given.profile}", *given.parameter]
    parsed = running.parse("prad", dict(pair.split("=", 1) for pair in pairs))
    return checked(Parameters, parsed, slug="prad")


WEIGHTS = {
    "round": {**EQ_19, "tv": 1000.0, "color": 0.5},
    "many digits": {**EQ_19, "content": 1 / 3, "tv": 123456.789, "color": 1.23456789e-5},
    "zeros": dict.fromkeys(TERMS, 0.0) | {"color": 0.1},
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_the_command_leads_to_exactly_these_weights(name: str) -> None:
    p = Parameters()
    found = rerun(explore.command(p, WEIGHTS[name]))
    assert found.weights_of_terms() == WEIGHTS[name]
    assert all(getattr(found, k) == v for k, v in asdict(p).items() if not k.startswith("w_"))


def test_the_larger_part_of_the_texture_loss_counts() -> None:
    weights = {**EQ_19, "lcn": 2.5, "gradient": 0.1}
    found = rerun(explore.command(Parameters(), weights))
    assert found.w_texture == 2.5


def test_what_has_no_slider_keeps_its_weight() -> None:
    """Without critic or VGG19 the explorer lacks terms; they are not to come back."""
    p = Parameters(w_gan=0.0, w_content=3.0)
    found = rerun(explore.command(p, {"gradient": 0.4, "lcn": 0.4, "color": 0.2, "tv": 1.0}))
    assert (found.w_gan, found.w_content, found.w_cx) == (0.0, 3.0, 0.4)
    assert (found.w_color, found.w_tv) == (0.2, 1.0)


@pytest.mark.parametrize(
    "given",
    [
        {"profile": "small", "seed": 3, "seeds": 2, "tables": "all"},
        {"data_root": "/data/my photos & pairs", "phone": "sony", "weights": "/w/o'neill"},
        {"size": "L", "norm": "instance", "recipe": "paper", "steps": 20, "hours": 1.5},
        {"device": "cpu"},
    ],
)
def test_the_command_keeps_all_other_parameters(given: Mapping[str, Any]) -> None:
    """Else it reruns another notebook: other pairs, another network."""
    p = Parameters(**given)
    found = asdict(rerun(explore.command(p, EQ_19)))
    assert found == {**asdict(p), "out": ""}


def test_the_command_starts_a_run_of_its_own() -> None:
    assert "out=" not in explore.command(Parameters(out="/runs/mine"), EQ_19)
    line = explore.command(Parameters(), EQ_19)
    assert "\n" not in line


# Pairs


def test_pairs_are_photos_and_what_a_phone_makes_of_them() -> None:
    p = Parameters()
    found = explore.pictures(p)
    assert set(found) >= {"astronaut", "coffee", "chelsea"}
    start, target = found["astronaut"]()
    assert start.shape == target.shape == (3, 96, 96)
    for picture in (start, target):
        assert 0 <= float(picture.min()) < float(picture.max()) <= 1
    assert 0.01 < float((start - target).square().mean().sqrt()) < 0.4
    again, _ = found["astronaut"]()
    assert torch.equal(start, again), "the same pair at every call"
    assert found["coffee"]()[0].shape == (3, 96, 96), "oblong photos are cut square"
    big, _ = explore.pictures(Parameters(profile="small"))["coffee"]()
    assert big.shape == (3, 256, 256)


def test_real_pairs_come_after_the_photos(assets: Path) -> None:
    p = Parameters(data_root=str(assets / "data"))
    found = explore.pictures(p)
    real = [name for name in found if name.startswith("PIRM 2018 subset, 300-399 ")]
    assert [name.rsplit(" ", 1)[1] for name in real] == ["300", "301", "302", "303"]
    assert list(found)[-4:] == real
    start, target = found[real[1]]()
    folder = assets / "data" / "dped" / "patches"
    assert torch.equal(start, images.read(folder / "iphone" / "301.jpg"))
    assert torch.equal(target, images.read(folder / "canon" / "301.jpg"))


def test_a_readers_photo_is_degraded_the_same_way_every_time() -> None:
    photo = torch.rand(3, 40, 56, generator=torch.Generator().manual_seed(0))
    one, two = explore.phone(photo), explore.phone(photo)
    assert torch.equal(one, two)
    assert one.shape == photo.shape
    assert not torch.equal(one, photo)


# Losses


def sampled(s: Study, side: int = 40) -> dict[str, torch.Tensor]:
    start, target = (x[None, :, :side, :side] for x in explore.pictures(s.p)["astronaut"]())
    return explore.sample(s.main(0))(start.clone().requires_grad_(), start, target)


def test_every_loss_is_there_under_the_runs_weights(features: Path, s: Study) -> None:
    found = explore.objective(s, s.main(0))
    assert {name: term.weight for name, term in found.terms.items()} == EQ_19
    s.p = small.parameters(Path("unused"), w_tv=0.0, w_gan=2.0)
    found = explore.objective(s, s.main(0))
    assert {name: term.weight for name, term in found.terms.items()} == {
        **EQ_19, "tv": 0.0, "gan": 2.0,
    }  # fmt: skip
    total, values = found(sampled(s))
    wanted = sum(found.terms[name].weight * float(value) for name, value in values.items())
    assert float(total.detach()) == pytest.approx(wanted, rel=1e-4)
    assert float(values["tv"]) > 0, "a slider can raise it"


def test_the_total_is_that_of_the_training(features: Path, s: Study) -> None:
    """On a patch: what the sliders show is what an arm minimises."""
    given = sampled(s, 48)
    shown, _ = explore.objective(s, s.main(0))(given)
    trained, _ = s.objective(settings.FULL, 48)(given)
    torch.testing.assert_close(shown, trained, rtol=1e-4, atol=0)


def test_colour_is_counted_per_patch_whatever_the_picture(s: Study) -> None:
    """One objective for all pictures of the menu: 256 x 256, 100 x 100, and the reader's own."""
    made = explore.objective(s, s.main(0)).terms["color"]
    for shape in ((1, 3, 256, 256), (1, 3, 100, 100), (1, 3, 96, 256)):
        x = torch.zeros(shape)
        assert float(made.fn(x + 0.1, x)) == pytest.approx(0.5 * 3 * 100**2 * 0.01, rel=1e-4), shape


def test_gradients_of_the_terms_add_up_to_that_of_the_total(features: Path, s: Study) -> None:
    given = sampled(s)
    found = explore.objective(s, s.main(0))
    apart = found.gradients(given, given["output"])
    total, _ = found(given)
    (whole,) = torch.autograd.grad(total, given["output"])
    summed = sum(found.terms[name].weight * apart[name] for name in apart)
    scale = float(whole.abs().max())
    torch.testing.assert_close(whole / scale, summed / scale, rtol=1e-3, atol=1e-4)
    assert all(float(gradient.abs().max()) > 0 for gradient in apart.values())


def test_scores_come_from_the_critic_that_sees_the_start(s: Study) -> None:
    trained = s.main(0)
    assert trained.critic is not None
    given = sampled(s)
    with torch.no_grad():
        wanted = trained.critic(given["degraded"], given["clean"])
        fake = trained.critic(given["degraded"], given["output"])
    torch.testing.assert_close(given["real_scores"], wanted)
    torch.testing.assert_close(given["fake_scores"].detach(), fake)
    assert given["fake_scores"].requires_grad
    assert not given["real_scores"].requires_grad


def test_without_a_critic_its_term_is_missing(s: Study) -> None:
    trained = type(s.main(0))(s.main(0).generator, None, s.main(0).history)
    found = explore.objective(s, trained)
    assert "gan" not in found.terms
    made = explore.sample(trained)(*(torch.zeros(1, 3, 16, 16),) * 3)
    assert set(made) == {"output", "degraded", "clean"}


def test_presets_are_the_papers_weights() -> None:
    assert explore.PRESETS["PRaD (Eq. 19)"] == EQ_19
    dped = explore.PRESETS["DPED, released code"]
    assert dped == {"content": 10.0, "gan": 1.0, "color": 0.5, "tv": 2000.0}
    assert explore.PRESETS["DPED, paper"] == {"content": 1.0, "gan": 0.4, "color": 0.1, "tv": 400.0}
    assert all(set(weights) <= set(TERMS) for weights in explore.PRESETS.values())


# The widget


def test_the_explorer_takes_what_it_is_given(s: Study) -> None:
    s.vgg19 = None
    s._perceptual = {}
    given = explore.given(s, s.main(0))
    explorer = widgets.LossExplorer(**given)
    try:
        assert set(explorer.weights) == set(given["objective"].terms)
        line = given["command"](explorer.weights)
        assert rerun(line).w_tv == explorer.weights["tv"]
        assert explorer.picture.shape[-3:] == (3, 96, 96)
        assert given["folder"] == s.run.folder
    finally:
        explorer.close()
    own = given["degrade"](torch.rand(1, 3, 33, 47))
    assert own.shape == (1, 3, 33, 47)


def test_the_trade_off_falls_as_its_weight_rises(features: Path, s: Study) -> None:
    points = explore.trade_off(s, s.main(0), optimise.ends)
    assert [set(point) for point in points] == [set(TERMS)] * 2
    assert all(math.isfinite(value) for point in points for value in point.values())
    assert points[1]["tv"] < points[0]["tv"]
    assert explore.trade_off(s, s.main(0), None) == points, "computed once"  # type: ignore[arg-type]


def test_the_evaluated_losses_are_those_of_the_pair() -> None:
    frame = explore.evaluated().set_index("loss")
    assert list(frame.index) == ["gradient", "color", "tv"]
    start, target = (x[None] for x in explore._pair("astronaut", 256))
    values = {
        "gradient": texture.gradient(start, target),
        "color": (start - target).square().sum() / 2,
        "tv": pixel.total_variation(start),
    }
    weights = {"gradient": 0.4, "color": 0.1 * (100 / 256) ** 2, "tv": 400.0}
    for name, value in values.items():
        assert float(frame.loc[name, "value"]) == pytest.approx(float(value), rel=1e-3)
        assert float(frame.loc[name, "weight"]) == pytest.approx(weights[name], rel=1e-3)
        weighted = weights[name] * float(value)
        assert float(frame.loc[name, "weighted"]) == pytest.approx(weighted, rel=1e-3)
