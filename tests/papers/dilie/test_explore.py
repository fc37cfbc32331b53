"""What the panels of DILIE are given: losses under sliders, a film, the reader's photo."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from enhancelib import cli, filters, images, photos, running, runtime, widgets
from enhancelib.checkpoints import History
from enhancelib.internal import Found
from enhancelib.losses import contextual, photorealism, pixel
from enhancelib.papers.dilie import cfe, checks, explore, framework, settings
from enhancelib.papers.dilie.pictures import Hazy
from enhancelib.papers.dilie.settings import Parameters
from enhancelib.papers.dilie.study import Study
from enhancelib.papers.parameters import checked
from tests.papers.dilie import small

# The command


def rerun(line: str) -> Parameters:
    """What the command line makes of a line, as a shell would hand it over."""
    program, *words = shlex.split(line)
    assert program == "enhancelib"
    given = cli._parser().parse_args(words)
    assert (given.command, given.slug) == ("run", "dilie")
    pairs = [f"profile={given.profile}", *given.parameter]
    parsed = running.parse("dilie", dict(pair.split("=", 1) for pair in pairs))
    return checked(Parameters, parsed, slug="dilie")


@pytest.mark.parametrize(
    "weights",
    [
        {"content": 1.0, "style": 1.0, "affine": 1e4, "tv": 0.0},
        {"content": 1 / 3, "style": 123456.789, "affine": 1.23456789e-5, "tv": 7.0},
        {"content": 0.0, "style": 2.0, "affine": 0.0, "tv": 0.0},
    ],
)
def test_the_command_leads_to_exactly_these_weights(weights: Mapping[str, float]) -> None:
    p = Parameters()
    line = explore.command(p, weights)
    found = rerun(line)
    assert (found.alpha, found.beta, found.affine) == (
        weights["content"], weights["style"], weights["affine"],
    )  # fmt: skip
    terms = ("alpha", "beta", "affine")
    assert all(getattr(found, k) == v for k, v in asdict(p).items() if k not in terms)
    assert "\n" not in line
    checks.check(found)


def test_what_has_no_slider_keeps_its_weight() -> None:
    found = rerun(explore.command(Parameters(alpha=3.0, affine=5.0), {"style": 2.0}))
    assert (found.alpha, found.beta, found.affine) == (3.0, 2.0, 5.0)


@pytest.mark.parametrize(
    "given",
    [
        {"profile": "small", "seed": 3, "seeds": 2, "tables": "all"},
        {"data_root": "/data/my photos & pairs", "weights": "/w/o'neill", "photo": "/a b.png"},
        {"corruption": "noise", "style": "art", "sigma": 50.0, "lam": 0.01, "steps": 20},
        {"device": "cpu", "hours": 1.5, "reference": "/r=1.png"},
    ],
)
def test_the_command_keeps_all_other_parameters(given: Mapping[str, Any]) -> None:
    p = Parameters(**given)
    found = asdict(rerun(explore.command(p, {"content": 1.0, "style": 1.0, "affine": 1e4})))
    assert found == {**asdict(p), "out": ""}


def test_the_command_starts_a_run_of_its_own() -> None:
    assert "out=" not in explore.command(Parameters(out="/runs/mine"), {"content": 1.0})


# Pictures


def test_pictures_are_bundled_photos_cut_square() -> None:
    found = explore.pictures(Parameters())
    assert set(found) >= {"astronaut", "coffee", "chelsea"}
    for name in ("astronaut", "coffee"):
        start, content = found[name]()
        assert torch.equal(start, content)
        assert start.shape == (3, 64, 64)
        assert 0 <= float(start.min()) < float(start.max()) <= 1
    coffee = photos.load("coffee")  # 400 x 600
    square = images.resize(coffee[:, :, 100:500], size=(64, 64)).clamp(0, 1)
    assert torch.equal(found["coffee"]()[0], square)
    assert explore.pictures(Parameters(profile="small"))["coffee"]()[0].shape == (3, 256, 256)
    first = next(iter(found))  # what is on the screen when the notebook is published
    assert photos.find(first).publishable


# Losses


@pytest.fixture
def style(features: Path) -> Tensor:
    return images.clip(images.resize(photos.load("rocket"), size=(48, 72)))[None]


@pytest.fixture
def sample(style: Tensor) -> dict[str, Tensor]:
    content = explore.pictures(Parameters())["astronaut"]()[0][None]
    wobble = torch.randn(content.shape, generator=torch.Generator().manual_seed(0))
    x = (content + 0.2 * wobble).clamp(0, 1).requires_grad_()
    return explore._Sample(style, torch.device("cpu"))(x, content, content)


CPU = torch.device("cpu")


def test_every_loss_is_there_under_the_runs_weights(sample: dict[str, Tensor]) -> None:
    found = explore.objective(Parameters(alpha=2.0, beta=3.0, affine=50.0), CPU)
    weights = {name: term.weight for name, term in found.terms.items()}
    assert weights == {"content": 2.0, "style": 3.0, "affine": 50.0, "tv": 0.0}
    total, values = found(sample)
    wanted = 2 * values["content"] + 3 * values["style"] + 50 * values["affine"]
    assert float(total.detach()) == pytest.approx(float(wanted), rel=1e-5)
    assert all(float(value) > 0 for value in values.values())


def test_the_losses_are_those_of_the_method(sample: dict[str, Tensor], style: Tensor) -> None:
    """Each on its own: contextual on VGG19's maps, L_aff of the content, total variation."""
    from enhancelib import features as networks

    _, values = explore.objective(Parameters(), CPU)(sample)
    network = networks.load("vgg19")
    layers = (*settings.STYLE, settings.CONTENT)
    with torch.no_grad():
        x, content = sample["output"].detach(), sample["content"]
        mine, theirs, target = network(x, layers), network(style, layers), network(content, layers)
        of_content = contextual.contextual(mine[settings.CONTENT], target[settings.CONTENT])
        small_maps = [n for n in settings.STYLE if mine[n].shape[2:] == theirs[n].shape[2:]]
        assert not small_maps, "the style is of another shape"
        affine = photorealism.matting(x, content)
        variation = pixel.total_variation(x)
    for name, value in (("content", of_content), ("affine", affine), ("tv", variation)):
        assert float(values[name]) == pytest.approx(float(value), rel=1e-4), name
    # relu3_2 of both pictures has 256 and 216 positions: all of the style's are compared
    last = settings.STYLE[-1]
    X, Y = mine[last], theirs[last]
    places = explore._drawn(X, Y, 2)
    (share, a, b) = places[0]
    assert (share, len(a), len(b)) == (1.0, 216, 216)
    assert torch.equal(b.sort().values, torch.arange(216))
    again = explore._drawn(X, Y, 2)[0]
    assert torch.equal(a, again[1]), "a slider is no lottery"


def test_gradients_of_the_terms_add_up_to_that_of_the_total(sample: dict[str, Tensor]) -> None:
    weights = {"content": 0.7, "style": 1.3, "affine": 20.0, "tv": 0.5}
    found = explore.objective(Parameters(), CPU).weighted(weights)
    apart = found.gradients(sample, sample["output"])
    total, _ = found(sample)
    (whole,) = torch.autograd.grad(total, sample["output"])
    summed = sum(weights[name] * gradient for name, gradient in apart.items())
    scale = float(whole.abs().max())
    torch.testing.assert_close(whole / scale, summed / scale, rtol=1e-3, atol=1e-4)
    assert all(float(gradient.abs().max()) > 0 for gradient in apart.values())


def test_at_the_photo_itself_only_the_style_pulls(sample: dict[str, Tensor]) -> None:
    """What the note under the widget says."""
    _, values = explore.objective(Parameters(), CPU)({**sample, "output": sample["content"]})
    _, moved = explore.objective(Parameters(), CPU)(sample)
    assert float(values["content"]) < 0.02 * float(moved["content"])
    assert float(values["affine"]) < 0.02 * float(moved["affine"])
    assert float(values["style"]) > 0.1


def test_the_styles_features_are_computed_once(style: Tensor, sample: dict[str, Tensor]) -> None:
    made = explore._Sample(style, CPU)
    x = torch.zeros(1, 3, 40, 40, requires_grad=True)
    one, two = made(x, x, x.detach()), made(x, x, x.detach())
    assert one["output"] is x
    for layer in settings.STYLE:
        assert one[f"style/{layer}"] is two[f"style/{layer}"]
        assert not one[f"style/{layer}"].requires_grad


def test_presets_name_terms_and_begin_with_the_papers() -> None:
    terms = {"content", "style", "affine", "tv"}
    assert all(set(weights) <= terms for weights in explore.PRESETS.values())
    p = Parameters()
    first = next(iter(explore.PRESETS.values()))
    assert first == {"content": p.alpha, "style": p.beta, "affine": p.affine}


def test_the_explorer_takes_what_it_is_given(s: Study) -> None:
    given = explore.losses(s)
    explorer = widgets.LossExplorer(**given)
    try:
        assert set(explorer.weights) == set(given["objective"].terms)
        assert explorer.picture.shape[-3:] == (3, 64, 64)
        assert rerun(given["command"](explorer.weights)).affine == explorer.weights["affine"]
        assert given["folder"] == s.run.folder
        assert "rocket" in given["title"]
    finally:
        explorer.close()
    own = torch.rand(1, 3, 33, 47)
    assert given["degrade"](own) is own


# The whole framework


def photo(folder: Path, height: int, width: int) -> str:
    file = folder / "mine.png"
    images.write(file, photos.load("coffee")[:, :height, :width])
    return str(file)


@pytest.mark.parametrize(
    ("size", "wanted"),
    [
        ((40, 50), (40, 50)),  # small enough
        ((200, 250), (44, 54)),  # smoke: 54 pixels
        ((225, 400), (33, 59)),  # 16:9 would be 54 x 31, which the networks refuse
        ((400, 225), (59, 33)),
        ((33, 300), (33, 300)),
    ],
)
def test_a_readers_photo_is_reduced_to_what_the_networks_take(
    tmp_path: Path, size: tuple[int, int], wanted: tuple[int, int]
) -> None:
    s = small.opened(tmp_path / "run", photo=photo(tmp_path, *size), corruption="noise")
    I, S = explore.given_photo(s)  # noqa: E741
    if s.vgg19 is None:
        pytest.skip("VGG19 is not fetched: no style")
    assert S is not None
    assert I.shape == (3, *wanted)
    assert torch.equal(S, s.style_picture())
    assert 0 <= float(I.min()) < float(I.max()) <= 1
    checks.check(s.p)
    # nothing is refused
    framework._insist(I, S, s.run, "noise", "photo", framework.options(s.p))


def test_without_a_photo_a_bundled_one_is_corrupted(tmp_path: Path) -> None:
    s = small.opened(tmp_path)
    assert torch.equal(explore.given_photo(s)[0], s.hazy_pictures()[0].hazy)
    s.p = replace(s.p, corruption="noise")
    assert torch.equal(explore.given_photo(s)[0], s.noisy_picture()[2])
    given = explore.given_options(s)
    assert (given["run"], given["corruption"], given["style"]) == (s.run, "noise", "photo")
    assert given["options"].plan.steps == s.p.steps
    assert given["options"].recipe == s.scale.photo


def test_without_vgg19_what_needs_it_is_left_out(tmp_path: Path) -> None:
    s = small.opened(tmp_path)
    s.vgg19 = None
    assert explore.given_photo(s)[1] is None
    assert explore.given_options(s)["options"].lam == 0
    given = explore.losses(s)
    assert set(given["objective"].terms) == {"affine", "tv"}
    x = torch.rand(1, 3, 40, 40)
    total, _ = given["objective"](given["sample"](x, x, x))
    assert float(total) == pytest.approx(float(photorealism.matting(x, x)) * s.p.affine, rel=1e-3)


# The film


def moment(step: int, level: int, height: int = 6, width: int = 8) -> tuple[int, dict[str, Tensor]]:
    """Layers of one level each, in 8 bits."""
    flat = {"output": 3, "J": 3, "t": 1, "A": 3}
    return step, {
        name: torch.full((channels, height, width), level + 10 * k, dtype=torch.uint8)
        for k, (name, channels) in enumerate(flat.items())
    }


def filmed(hazy: Tensor, *moments: tuple[int, dict[str, Tensor]]) -> cfe.Dehazed:
    found = Found({}, None, None, History(), 4, "", list(moments))
    one = cfe.Pass(hazy, hazy, {}, hazy[:1], hazy, hazy[:, 0, 0], found)
    return cfe.Dehazed(hazy, {}, (one,))


class Shown:
    """As much of a study as a film looks at."""

    def __init__(self, **given: Tensor) -> None:
        self.given = given

    def hazy_pictures(self) -> list[Hazy]:
        return [Hazy(name, "a set", hazy, hazy) for name, hazy in self.given.items()]


def rain(seed: int) -> Tensor:
    return torch.rand(3, 6, 8, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def film() -> explore.Film:
    a, b = rain(0), rain(1)
    found = {
        ("a", 0.0, 0): filmed(a, moment(1, 0)),
        ("a", 0.001, 0): filmed(a, *(moment(10 * k, 40 * k) for k in (1, 2, 3, 4, 5))),
        ("b", 0.001, 0): filmed(b, moment(7, 100)),
        ("b", 0.001, 1): filmed(b),  # other seeds keep none
    }
    return explore.Film(Shown(a=a, b=b), found)  # type: ignore[arg-type]


@pytest.mark.parametrize(("percent", "k"), [(0, 1), (25, 2), (30, 2), (50, 3), (90, 5), (100, 5)])
def test_the_film_shows_the_moment_that_was_asked_for(
    film: explore.Film, percent: float, k: int
) -> None:
    """Of the run's own lambda, which stands behind Double-DIP."""
    before, after, caption = film(rain(0), moment=percent, layer="J")
    assert torch.equal(before, rain(0))
    assert after.shape == (3, 6, 8)
    torch.testing.assert_close(after, torch.full((3, 6, 8), (40 * k + 10) / 255))
    assert caption == f"a, J after {10 * k} steps"


@pytest.mark.parametrize(("layer", "level"), [("recomposition", 100), ("t", 120), ("A", 130)])
def test_the_film_shows_the_layer_that_was_asked_for(
    film: explore.Film, layer: str, level: int
) -> None:
    _, after, caption = film(rain(1), moment=100, layer=layer)
    torch.testing.assert_close(after, torch.full((3, 6, 8), level / 255))
    assert caption == f"b, {layer} after 7 steps"


def test_the_film_inverts_the_haze_model(film: explore.Film) -> None:
    _, after, _ = film(rain(1), moment=0, layer="dehazed")
    t, A = 120 / 255, 130 / 255
    torch.testing.assert_close(after, ((rain(1) - A) / t + A).clamp(0, 1), atol=1e-5, rtol=0)


def test_every_layer_of_the_menu_can_be_shown(film: explore.Film) -> None:
    for layer in explore.LAYERS:
        widgets.View(*film(rain(0), moment=50, layer=layer))
    assert {name: load().shape for name, load in film.pictures.items()} == {
        "a": (3, 6, 8), "b": (3, 6, 8),
    }  # fmt: skip


def test_a_photo_without_film_is_refused(film: explore.Film) -> None:
    for other in (rain(2), rain(0)[:, :5]):
        with pytest.raises(ValueError, match="there is no film of this photo"):
            film(other, moment=0, layer="t")
    with pytest.raises(ValueError, match="no dehazing kept a film"):
        explore.Film(Shown(a=rain(0)), {("a", 0.0, 0): filmed(rain(0))})  # type: ignore[arg-type]


def test_layers_of_a_large_photo_are_enlarged_and_belong_to_the_last_pass() -> None:
    """Above 800 pixels the decomposition is half as large; a second pass sees the first's work."""
    hazy, half_way = torch.rand(3, 12, 16), torch.rand(3, 12, 16)
    made = filmed(half_way, moment(3, 100))
    first = filmed(hazy, moment(2, 0))
    both = replace(made, passes=(*first.passes, *made.passes))
    film = explore.Film(Shown(a=hazy), {("a", 0.0, 0): both})  # type: ignore[arg-type]
    before, after, _ = film(hazy, moment=100, layer="dehazed")
    assert torch.equal(before, hazy)
    t, A = 120 / 255, 130 / 255
    torch.testing.assert_close(after, ((half_way - A) / t + A).clamp(0, 1), atol=1e-4, rtol=0)
    assert film(hazy, moment=100, layer="t")[1].shape == hazy.shape


def test_the_film_of_a_real_dehazing(tmp_path: Path) -> None:
    s = small.opened(tmp_path)
    s.vgg19 = None
    (hazy,) = s.hazy_pictures()
    found = {(hazy.name, 0.0, 0): s.dehazed(hazy, 0.0, 0)}
    film = explore.Film(s, found)
    (last,) = found[hazy.name, 0.0, 0].passes
    assert film.pictures[hazy.name]() is hazy.hazy
    _, after, caption = film(hazy.hazy, moment=100, layer="J")
    assert caption == f"astronaut, J after {s.p.steps} steps"
    torch.testing.assert_close(after, last.found.moments[-1][1]["J"] / 255)


# The reader's own photo


@pytest.fixture
def own(tmp_path: Path) -> Study:
    s = small.opened(tmp_path, lam=0.0)
    s.vgg19 = None
    return s


def files(s: Study) -> set[Path]:
    return {file for file in s.run.folder.rglob("*") if file.is_file()}


def test_the_dark_channel_needs_no_optimisation(own: Study) -> None:
    grey = images.luma(photos.load("coffee")[:, :60, :80])
    before, after, caption = explore.own_photo(own)(grey, method="dark channel", steps=9)
    assert torch.equal(before, grey.expand(3, -1, -1))
    wanted = filters.dark_channel_dehaze(before[None])["output"][0].clamp(0, 1)
    assert torch.equal(after, wanted)
    assert "no optimisation" in caption


@pytest.mark.parametrize("method", ["denoise", "dehaze"])
def test_a_readers_photo_goes_through_the_framework(own: Study, method: str) -> None:
    picture = photos.load("coffee")[:, 100:140, 100:148]
    kept = files(own)
    before, after, caption = explore.own_photo(own)(picture, method=method, steps=2)
    assert torch.equal(before, picture)
    assert caption == f"{method}, 2 steps of every optimisation"
    assert files(own) == kept, "a look leaves nothing in the run"
    short = replace(framework.options(replace(own.p, steps=2)), passes=1)
    corruption = {"denoise": "noise", "dehaze": "haze"}[method]
    run = replace_folder(own)
    made = framework.dilie(picture, None, run=run, corruption=corruption, options=short)
    torch.testing.assert_close(after, made.E)


def replace_folder(s: Study) -> Any:
    return type("Elsewhere", (), {"folder": s.run.folder / "again", "runtime": s.run.runtime})()


def test_a_readers_photo_is_restyled(features: Path, own: Study) -> None:
    picture = photos.load("coffee")[:, 100:140, 100:148]
    _, after, _ = explore.own_photo(own)(picture, method="restyle", steps=2)
    assert after.shape == picture.shape
    assert 0 <= float(after.min()) < float(after.max()) <= 1
    style = own.style_picture()
    gaps = [float((x.mean((1, 2)) - style.mean((1, 2))).abs().mean()) for x in (picture, after)]
    assert float(F.l1_loss(after, picture)) > 0.005
    assert gaps[1] < gaps[0], "the colours move towards the style's"


def test_every_method_of_the_menu_is_known() -> None:
    notebook = (runtime.root() / "notebooks" / "dilie.py").read_text(encoding="utf-8")
    assert 'widgets.Choice("dark channel", explore.METHODS)' in notebook
    assert explore.METHODS[0] == "dark channel"
