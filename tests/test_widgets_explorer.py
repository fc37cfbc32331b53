"""The loss explorer without a browser: controls are set as a page would set them, traits are read.

What is shown is decoded from PNG bytes and compared with torch.autograd on an objective of its own.
"""

from __future__ import annotations

import gc
import io
import json
import math
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import ipywidgets
import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image
from torch import Tensor

from enhancelib import features as networks
from enhancelib import images
from enhancelib.losses import Objective, Term, pixel
from enhancelib.losses.perceptual import Taps
from enhancelib.runtime import setup
from enhancelib.widgets import Curve, LossExplorer
from enhancelib.widgets.anatomy import colours, direct, dissect, scale
from enhancelib.widgets.desk import CUSTOM, GIVEN, START, STEP, TARGET, TOTAL, gradient_of
from enhancelib.widgets.optimise import FRAMES, RUNS, Diverged, Film, Moment, Seen, descend, ends
from enhancelib.widgets.terms import TermTable, stops

LIVING = ipywidgets.widgets.widget._instances  # ipywidgets' own table of open widgets
PAPER = {"colour": 0.1, "tv": 400.0, "l1": 0.0}
CODE = {"colour": 0.5, "tv": 2000.0}


def tv(x: Tensor) -> Tensor:
    """Total variation as the released code of DPED has it, written out here."""
    down, across = x[:, :, 1:] - x[:, :, :-1], x[..., 1:] - x[..., :-1]
    return down.square().mean() + across.square().mean()


def objective(**weights: float) -> Objective:
    terms = {
        "colour": Term(1.0, pixel.half_sse),
        "tv": Term(10.0, tv, of=("output",)),
        "l1": Term(0.0, pixel.l1),
    }
    return Objective(terms).weighted(weights)


def photo(name: str = "chelsea", side: int = 48) -> Tensor:
    return images.from_array(getattr(skimage.data, name)())[:, 50 : 50 + side, 100 : 100 + side]


def dim(target: Tensor) -> Tensor:
    return 0.6 * target + 0.1


def pair(name: str = "chelsea") -> tuple[Tensor, Tensor]:
    return dim(photo(name)), photo(name)


def pixels(file: bytes) -> Tensor:
    return torch.from_numpy(np.array(Image.open(io.BytesIO(file)).convert("RGB"))).permute(2, 0, 1)


def autograd(
    terms: Objective, weights: Mapping[str, float], x: Tensor, start: Tensor, target: Tensor
) -> Tensor:
    """The gradient of the weighted total from scratch, in one backward pass."""
    x = x[None].clone().requires_grad_()
    total, _ = terms.weighted(weights)(direct(x, start[None], target[None]))
    (gradient,) = torch.autograd.grad(total, x)
    return gradient[0]


def command(weights: Mapping[str, float]) -> str:
    return "papermill prad.ipynb " + " ".join(f"-p w_{n} {v!r}" for n, v in weights.items())


Make = Callable[..., LossExplorer]


@pytest.fixture
def make() -> Iterator[Make]:
    made: list[LossExplorer] = []

    def build(terms: Objective | None = None, **options: Any) -> LossExplorer:
        settings: dict[str, Any] = {
            "pairs": {name: lambda name=name: pair(name) for name in ("chelsea", "astronaut")},
            "degrade": dim,
            "presets": {"paper": PAPER, "code": CODE},
            "command": command,
            "limit": 64,
        }
        made.append(LossExplorer(terms or objective(), **(settings | options)))
        return made[-1]

    yield build
    for explorer in made:
        explorer.close()


@pytest.fixture
def explorer(make: Make) -> LossExplorer:
    return make()


def rows(explorer: LossExplorer) -> dict[str, dict[str, float]]:
    return dict(zip(explorer.desk.names, explorer.desk.table.rows, strict=True))


def run(explorer: LossExplorer, steps: int, rate: float = 4.0) -> None:
    explorer.desk.most.value, explorer.desk.rate.value = steps, rate
    explorer.desk.run.click()
    explorer.wait()


def shows_gradient(explorer: LossExplorer, wanted: Tensor) -> None:
    """The pixels beside the picture are 0.5 + 0.5 g / scale, within one level of 255."""
    edge = explorer.view.facts["scale"]
    expected = (0.5 + 0.5 * wanted / edge).clamp(0, 1)
    assert float(wanted.abs().max()) > 0
    difference = (pixels(explorer.view.after) / 255 - expected).abs().max()
    assert float(difference) <= 1 / 255
    assert float((wanted.abs() > edge).float().mean()) <= 0.006
    assert f"±{edge:.3g}" in explorer.view.caption


# One picture under an objective


def test_the_weighted_sum_is_the_gradient_of_the_total() -> None:
    start, target = pair()
    found = dissect(objective(), start[None], start[None], target[None], sample=direct)
    generator = torch.Generator().manual_seed(3)
    for _ in range(5):
        drawn = torch.randn(3, generator=generator).exp()
        weights = dict(zip(found.values, drawn.tolist(), strict=True))
        wanted = autograd(objective(), weights, start, start, target)
        torch.testing.assert_close(found.total(weights), wanted, rtol=1e-5, atol=1e-7)
    for name, norm in found.norms.items():
        only = {n: float(n == name) for n in found.values}
        assert norm == pytest.approx(
            float(autograd(objective(), only, start, start, target).norm()), rel=1e-5
        )


def test_dissecting_runs_the_terms_once() -> None:
    calls: list[str] = []

    def counted(x: Tensor, y: Tensor) -> Tensor:
        calls.append("value")
        return pixel.mse(x, y)

    def prepared(sample: Mapping[str, Tensor]) -> dict[str, Tensor]:
        calls.append("prepare")
        return {**sample, "twice": sample["output"] * 2}

    terms = Objective({"a": Term(3.0, counted, of=("twice", "clean"))}, prepare=prepared)
    start, target = pair()
    found = dissect(terms, start[None], start[None], target[None], sample=direct)
    assert calls == ["prepare", "value"]
    assert found.values["a"] == pytest.approx(float((2 * start - target).square().mean()))
    torch.testing.assert_close(found.of("a"), 4 * (2 * start - target) / target.numel())


def test_a_term_that_is_off_cannot_spoil_the_total() -> None:
    terms = Objective(
        {"good": Term(1.0, pixel.mse), "bad": Term(0.0, lambda x, y: (x - y).sum().sqrt())}
    )
    black = torch.zeros(1, 3, 4, 4)
    found = dissect(terms, black, black, black + 0, sample=direct)
    assert not found.of("bad").isfinite().all()
    assert found.total({"good": 1.0, "bad": 0.0}).isfinite().all()


def test_colour_scale_is_printed_as_it_is_used() -> None:
    generator = torch.Generator().manual_seed(0)
    for factor in (1e-9, 0.37, 1.0, 12345.6):
        gradient = torch.randn(3, 64, 64, generator=generator) * factor
        edge = scale(gradient)
        assert float(f"{edge:.3g}") == edge
        beyond = float((gradient.abs() > edge).float().mean())
        assert 0.003 < beyond <= 0.005
    sparse = torch.zeros(3, 64, 64)
    sparse[0, 0, 0] = -2.0
    assert scale(sparse) == 2.0
    assert colours(sparse, 2.0)[0, 0, :2].tolist() == [0.0, 0.5]
    assert colours(torch.zeros(3, 2, 2), 0.0).unique().tolist() == [0.5]


# Sliders


def test_slider_stops_hold_zero_and_every_given_weight() -> None:
    found = stops([0.1, 400.0, 2000.0, 0.4321])
    assert {0.0, 0.1, 400.0, 2000.0, 0.4321} <= set(found)
    assert found == sorted(set(found))
    assert found[0] == 0.0
    assert found[1] <= 0.1 / 100
    assert found[-1] >= 2000.0 * 10
    steps = [b / a for a, b in pairwise(found[1:])]
    assert max(steps) < 1.3
    assert stops([0.0])[-1] > 1
    assert -1.0 in stops([-1.0])
    assert min(stops([1.0])) == 0


def test_table_refuses_what_is_no_weight() -> None:
    table = TermTable(
        names=["a", "b"], weights={"a": 1.0, "b": 0.0}, stops={"a": [0.0], "b": [0.0]}
    )
    for wrong, words in (
        ({"a": 1.0}, "'b' has no weight"),
        ({"a": 1.0, "b": 2.0, "c": 0.0}, "'c' is no term"),
        ({"a": math.inf, "b": 0.0}, "weight of a is inf"),
        ({"a": True, "b": 0.0}, "weight of a is True"),
    ):
        with pytest.raises(Exception, match=words):
            table.weights = wrong
    assert table.weights == {"a": 1.0, "b": 0.0}
    table.close()


def test_moving_a_weight_changes_shares_and_gradient(explorer: LossExplorer) -> None:
    start, target = images.to_uint8(dim(photo())) / 255, photo()
    assert torch.equal(pixels(explorer.view.before), images.to_uint8(dim(photo())))
    for weights in ({"colour": 0.3, "tv": 77.0, "l1": 5.0}, {"colour": 0.0, "tv": 1.0, "l1": 0.0}):
        explorer.desk.table.weights = weights
        shows_gradient(explorer, autograd(objective(), weights, start, start, target))
        assert explorer.desk.preset.value == CUSTOM
    total, values = objective(**weights)(direct(start[None], start[None], target[None]))
    found = rows(explorer)
    assert found["colour"]["value"] == pytest.approx(float(values["colour"]))
    assert found["tv"]["weighted"] == pytest.approx(float(values["tv"]))
    assert explorer.desk.table.total["value"] == pytest.approx(float(total))
    assert [found[name]["of_value"] for name in found] == [0, 1, 0]
    assert [found[name]["of_gradient"] for name in found] == [0, 1, 0]


def test_shares_are_of_weighted_values_and_of_gradient_norms(explorer: LossExplorer) -> None:
    explorer.weights = {"colour": 2.0, "tv": 30.0, "l1": 4.0}
    start, target = explorer.picture, photo()
    parts, norms = {}, {}
    for name, weight in explorer.weights.items():
        only = {n: weight * (n == name) for n in explorer.weights}
        parts[name] = float(objective(**only)(direct(start[None], start[None], target[None]))[0])
        norms[name] = float(autograd(objective(), only, start, start, target).norm())
    for name, row in rows(explorer).items():
        assert row["of_value"] == pytest.approx(parts[name] / sum(parts.values()), rel=1e-4)
        assert row["of_gradient"] == pytest.approx(norms[name] / sum(norms.values()), rel=1e-4)


def test_no_backward_pass_when_a_weight_moves(make: Make) -> None:
    calls: list[int] = []

    def counted(x: Tensor, y: Tensor) -> Tensor:
        calls.append(1)
        return pixel.mse(x, y)

    explorer = make(Objective({"a": Term(1.0, counted), "b": Term(1.0, pixel.l1)}), presets={})
    assert len(calls) == 1
    before = explorer.view.after
    for k in range(1, 6):
        explorer.weights = {"a": 10.0**k, "b": 1.0}
    assert len(calls) == 1
    assert explorer.view.after != before


def test_one_step_preview_is_x_minus_eta_g(explorer: LossExplorer) -> None:
    desk = explorer.desk
    desk.show.value = STEP
    explorer.weights = {"colour": 0.7, "tv": 20.0, "l1": 0.0}
    desk.eta.value = 0.31
    start, target = explorer.picture, photo()
    g = autograd(objective(), explorer.weights, start, start, target)
    moved = images.to_uint8((start - 0.31 * g).clamp(0, 1))
    assert int((pixels(explorer.view.after).int() - moved.int()).abs().max()) <= 1
    assert not torch.equal(moved, images.to_uint8(start))
    assert f"{255 * 0.31 * float(g.abs().max()):.3g}/255" in explorer.status
    desk.fit.click()
    assert desk.eta.value * float(g.abs().max()) * 255 == pytest.approx(32, rel=0.01)
    assert desk.eta.max - desk.eta.min == 6
    assert "32/255" in explorer.status or "31.9/255" in explorer.status


def test_what_stands_beside_the_picture(explorer: LossExplorer) -> None:
    desk, view = explorer.desk, explorer.view
    assert view.arrangement == "beside"
    assert desk.show.value == view.labels[1] == TOTAL
    desk.show.value = TARGET
    assert torch.equal(pixels(view.after), images.to_uint8(photo()))
    desk.show.value = START
    assert torch.equal(pixels(view.after), images.to_uint8(dim(photo())))
    desk.table.chosen = "tv"  # a click on the term's name
    assert desk.show.value == gradient_of("tv")
    only = {"colour": 0.0, "tv": 1.0, "l1": 0.0}
    shows_gradient(
        explorer, autograd(objective(), only, explorer.picture, explorer.picture, photo())
    )
    desk.show.value = STEP
    assert desk.table.chosen == ""
    desk.table.chosen = "l1"
    desk.table.chosen = ""
    assert desk.show.value == TOTAL


def test_all_weights_at_zero_is_grey_and_no_error(explorer: LossExplorer) -> None:
    explorer.weights = dict.fromkeys(explorer.weights, 0.0)
    assert pixels(explorer.view.after).unique().tolist() == [128]
    assert "0 everywhere" in explorer.status
    assert {row["of_value"] for row in rows(explorer).values()} == {0}
    eta = explorer.desk.eta.value
    explorer.desk.fit.click()
    assert explorer.desk.eta.value == eta
    run(explorer, 3)
    assert explorer.failure is None
    assert torch.equal(explorer.moments[-1].levels, explorer.moments[0].levels)


# Presets and the command


def test_presets_set_every_weight_and_are_recognised(explorer: LossExplorer) -> None:
    desk = explorer.desk
    assert desk.preset.options == (GIVEN, "paper", "code", CUSTOM)
    assert desk.preset.value == GIVEN
    desk.preset.value = "code"
    assert explorer.weights == {**CODE, "l1": 0.0}  # a term that the code has not
    for name, weight in explorer.weights.items():
        assert weight in desk.table.stops[name]
    explorer.weights = PAPER
    assert desk.preset.value == "paper"
    desk.preset.value = CUSTOM
    assert explorer.weights == PAPER


def test_a_paper_with_the_weights_as_given_lends_its_name(make: Make) -> None:
    explorer = make(objective(**PAPER))
    assert explorer.desk.preset.value == GIVEN
    explorer.weights = {**PAPER, "tv": 1.0}
    explorer.weights = PAPER
    assert explorer.desk.preset.value == "paper"


def test_command_carries_the_exact_weights(explorer: LossExplorer) -> None:
    explorer.weights = {"colour": 0.1 + 0.2, "tv": 1e-7, "l1": 3.0}
    assert explorer.desk.command.text == (
        "papermill prad.ipynb -p w_colour 0.30000000000000004 -p w_tv 1e-07 -p w_l1 3.0"
    )
    assert explorer.desk.command.label == "copy as papermill parameters"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"presets": {"odd": {"hue": 1.0}}}, r"preset 'odd': 'hue' is no term"),
        ({"presets": {"odd": {"tv": math.nan}}}, r"preset 'odd': weight of tv is nan"),
        ({"presets": {GIVEN: {}}}, "the name is taken"),
        ({"pairs": {}}, "pictures is empty"),
        ({"limit": 0}, "limit is 0"),
        ({"curve": Curve(({"tv": 1.0},))}, "a point of the curve has no 'colour'"),
        ({"pairs": {"odd": lambda: (photo()[:, 1:], photo())}}, r"start is \(3, 47, 48\)"),
        ({"pairs": {"grey": lambda: (photo()[:1], photo()[:1])}}, r"expected equal shapes"),
    ],
)
def test_what_cannot_be_shown_raises_where_it_is_made(
    make: Make, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        make(**options)


# Photos


def encoded(array: Any, kind: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(array).save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_own_photo_becomes_the_target(explorer: LossExplorer, kind: str) -> None:
    noise = np.random.default_rng(5).integers(0, 256, (40, 52, 3), dtype=np.uint8)
    file = encoded(noise, kind)
    explorer.weights = {"colour": 1.5, "tv": 3.0, "l1": 7.0}
    explorer.upload.file = (f"mine.{kind.lower()}", file)
    explorer.wait()
    target = pixels(file) / 255
    start = images.to_uint8(dim(target)) / 255
    assert torch.equal(explorer.picture, start)
    shows_gradient(explorer, autograd(objective(), explorer.weights, start, start, target))
    assert explorer.photo.value == f"yours: mine.{kind.lower()}"
    explorer.desk.show.value = TARGET
    assert torch.equal(pixels(explorer.view.after), pixels(file))


def test_a_large_photo_is_reduced_and_differentiated_as_shown(explorer: LossExplorer) -> None:
    explorer.upload.file = ("large.png", encoded(skimage.data.coffee()[:300, :200], "PNG"))
    explorer.wait()
    explorer.desk.show.value = TARGET
    target = pixels(explorer.view.after) / 255
    assert target.shape == (3, 64, 43)
    explorer.desk.show.value = TOTAL
    start = pixels(explorer.view.before) / 255
    shows_gradient(explorer, autograd(objective(), explorer.weights, start, start, target))


def test_a_bad_file_is_a_sentence_and_changes_nothing(explorer: LossExplorer) -> None:
    before = explorer.view.after
    explorer.upload.file = ("notes.txt", b"no picture")
    assert explorer.wait().startswith("Not loaded: notes.txt: ")
    assert explorer.view.after == before
    explorer.weights = PAPER
    assert not explorer.view.problem


def test_a_photo_that_cannot_be_shown_leaves_the_one_that_is(explorer: LossExplorer) -> None:
    def missing() -> tuple[Tensor, Tensor]:
        raise FileNotFoundError("no such pair; run `enhancelib fetch`")

    before, table = explorer.view.after, explorer.desk.table.rows
    explorer._chooser.loaders["astronaut"] = missing
    explorer.photo.value = "astronaut"
    assert explorer.wait() == "Not computed: no such pair; run `enhancelib fetch`"
    assert isinstance(explorer.failure, FileNotFoundError)
    assert explorer.photo.value == "chelsea"
    assert explorer.view.after == before
    assert explorer.desk.table.rows == table


def test_a_term_that_raises_on_a_photo_leaves_the_one_that_is(make: Make) -> None:
    def large(x: Tensor, y: Tensor) -> Tensor:
        if x.shape[-1] < 16:
            raise ValueError(f"image is {x.shape[-1]} wide; expected 16 or more")
        return pixel.mse(x, y)

    explorer = make(Objective({"a": Term(1.0, large)}), presets={})
    before = explorer.picture
    explorer.upload.file = ("dot.png", encoded(np.zeros((9, 9, 3), np.uint8), "PNG"))
    assert explorer.wait() == "Not computed: image is 9 wide; expected 16 or more"
    assert torch.equal(explorer.picture, before)
    assert explorer.photo.value == "chelsea"
    assert explorer.gradient is not None
    assert not explorer.view.busy


def test_nothing_stale_is_shown_while_a_photo_is_computed(make: Make) -> None:
    gate, begun = threading.Event(), threading.Event()
    gate.set()

    def slow(x: Tensor, y: Tensor) -> Tensor:
        begun.set()
        assert gate.wait(20)
        return pixel.mse(x, y)

    explorer = make(Objective({"a": Term(1.0, slow)}), presets={})
    gate.clear()
    begun.clear()
    explorer.photo.value = "astronaut"
    assert explorer.view.busy
    assert begun.wait(20)
    assert torch.equal(pixels(explorer.view.before), images.to_uint8(dim(photo("astronaut"))))
    assert pixels(explorer.view.after).unique().tolist() == [128]
    assert explorer.view.facts["pending"]
    assert explorer.desk.table.pending
    assert explorer.desk.table.rows == [{}]
    assert explorer.desk.chart.current == []
    assert explorer.gradient is None
    gate.set()
    explorer.wait()
    assert not explorer.desk.table.pending
    assert not explorer.view.busy
    start = explorer.picture
    terms = Objective({"a": Term(1.0, pixel.mse)})
    shows_gradient(explorer, autograd(terms, {"a": 1.0}, start, start, photo("astronaut")))


# Runs and history


def test_run_goes_downhill_and_ends_with_the_gradients_of_what_is_shown(
    explorer: LossExplorer,
) -> None:
    explorer.weights = {"colour": 1.0, "tv": 50.0, "l1": 0.0}
    before = explorer.desk.table.total["value"]
    start = explorer.picture
    run(explorer, 30)
    assert explorer.failure is None
    assert [moment.step for moment in explorer.moments] == [0, *range(31)]
    assert explorer.desk.table.total["value"] < 0.5 * before
    assert torch.equal(pixels(explorer.view.before), explorer.moments[-1].levels)
    x = pixels(explorer.view.before) / 255  # as a reader of the page has it
    shows_gradient(explorer, autograd(objective(), explorer.weights, x, start, photo()))
    assert explorer.view.labels[0] == "picture, run 1, step 30"
    assert not explorer.desk.run.disabled
    assert explorer.desk.stop.disabled
    total, values = objective(**explorer.weights)(direct(x[None], start[None], photo()[None]))
    assert explorer.desk.table.total["value"] == pytest.approx(float(total), rel=1e-5)
    assert explorer.moments[-1].values["colour"] == pytest.approx(float(values["colour"]), rel=0.02)


def test_run_is_the_same_as_adam_written_out(explorer: LossExplorer) -> None:
    explorer.weights = {"colour": 0.5, "tv": 10.0, "l1": 2.0}
    start, target = explorer.picture[None], photo()[None]
    run(explorer, 12, rate=2.5)
    x = start.clone().requires_grad_()
    adam = torch.optim.Adam([x], lr=2.5 / 255)
    for _ in range(12):
        adam.zero_grad()
        objective(**explorer.weights)(direct(x, start, target))[0].backward()
        adam.step()
    assert torch.equal(explorer.moments[-1].levels, images.to_uint8(x[0].detach()))


def until(true: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_stop_ends_a_run_and_run_goes_on_from_what_is_shown(explorer: LossExplorer) -> None:
    explorer.desk.most.value = 100_000
    explorer.desk.run.click()
    assert explorer.desk.run.disabled
    until(lambda: len(explorer.moments) > 4)
    assert explorer.desk.history.disabled
    explorer.desk.stop.click()
    explorer.wait()
    last = explorer.moments[-1]
    assert 2 <= last.step < 100_000
    assert torch.equal(explorer.picture, last.picture)
    assert explorer.gradient is not None
    run(explorer, 2)
    second = [moment for moment in explorer.moments if moment.run == 2]
    assert [moment.step for moment in second] == [0, 1, 2]
    assert torch.equal(second[0].levels, last.levels)


def test_while_a_run_goes_on_its_own_gradient_is_shown_and_no_old_share(make: Make) -> None:
    gate, calls = threading.Semaphore(2), []

    def gated(x: Tensor, y: Tensor) -> Tensor:
        assert gate.acquire(timeout=20)
        calls.append(1)
        return pixel.half_sse(x, y)

    explorer = make(Objective({"a": Term(1.0, gated), "b": Term(0.5, pixel.l1)}), presets={})
    explorer.desk.run.click()
    until(lambda: len(explorer.moments) == 2 and explorer._stage.state.live is not None)
    until(lambda: explorer.view.labels[0] == "picture, run 1, step 0")
    assert rows(explorer)["a"]["of_gradient"] is None
    assert rows(explorer)["a"]["of_value"] > 0
    explorer.desk.show.value = gradient_of("b")
    assert "after Stop" in explorer.status
    assert pixels(explorer.view.after).unique().tolist() == [128]
    explorer.desk.stop.click()
    for _ in range(4):
        gate.release()
    explorer.wait()
    assert rows(explorer)["a"]["of_gradient"] > 0


def test_weights_moved_during_a_run_steer_it(explorer: LossExplorer) -> None:
    explorer.weights = {"colour": 1.0, "tv": 0.0, "l1": 0.0}
    explorer.desk.most.value, explorer.desk.rate.value = 100_000, 2.0
    explorer.desk.run.click()
    until(lambda: len(explorer.moments) > 20)
    explorer.weights = {"colour": 0.0, "tv": 1.0, "l1": 0.0}
    high = explorer._stage.state.moment.values["tv"]
    until(lambda: explorer._stage.state.moment.values["tv"] < 0.2 * high)
    explorer.desk.stop.click()
    explorer.wait()
    assert rows(explorer)["tv"]["value"] < 0.3 * high


def test_scrubbing_shows_picture_and_values_of_the_moment(explorer: LossExplorer) -> None:
    start = explorer.picture
    run(explorer, 20)
    desk, moments = explorer.desk, explorer.moments
    assert not desk.history.disabled
    assert desk.history.max == len(moments) - 1
    assert desk.history.value == desk.history.max
    for index in (7, 2, 15, 7):
        desk.history.value = index
        explorer.wait()
        x = moments[index].picture
        assert torch.equal(pixels(explorer.view.before), moments[index].levels)
        shows_gradient(explorer, autograd(objective(), explorer.weights, x, start, photo()))
        for name, row in rows(explorer).items():  # the run's own values, but for rounding
            assert row["value"] == pytest.approx(moments[index].values[name], rel=0.03)
        assert f"step {moments[index].step}" in desk.when.value
    desk.history.value = 0
    explorer.wait()
    assert torch.equal(explorer.picture, start)
    assert explorer.view.labels[0] == "picture, start"


def test_scrubbing_back_computes_nothing_anew(make: Make) -> None:
    calls: list[int] = []

    def counted(x: Tensor, y: Tensor) -> Tensor:
        calls.append(1)
        return pixel.mse(x, y)

    explorer = make(Objective({"a": Term(1.0, counted)}), presets={})
    run(explorer, 4)
    spent = len(calls)
    for index, more in ((2, 1), (5, 1), (2, 1), (0, 1)):
        explorer.desk.history.value = index
        explorer.wait()
        assert len(calls) == spent + more


def test_film_is_bounded_and_even() -> None:
    grey = torch.zeros(3, 2, 2, dtype=torch.uint8)
    film = Film(Moment(0, 0, grey, {}))
    for _ in range(RUNS + 3):
        number = film.begin()
        for step in range(1000):
            film.add(Moment(number, step, grey, {}))
        film.end()
    assert len(film.runs) == RUNS + 1
    assert [run[0].run for run in film.runs] == [0, *range(4, RUNS + 4)]
    for kept in film.runs[1:]:
        steps = [moment.step for moment in kept]
        assert FRAMES // 2 <= len(steps) <= FRAMES
        assert steps[0] == 0
        assert steps[-1] == 999
        assert len({b - a for a, b in pairwise(steps[:-1])}) == 1
    film.begin()
    film.end()
    assert len(film.runs) == RUNS


def test_a_loss_that_becomes_nan_is_a_sentence_and_keeps_the_last_good_picture(make: Make) -> None:
    def breaking(x: Tensor, y: Tensor) -> Tensor:
        value = pixel.half_sse(x, y)
        return value * math.nan if float(value.detach()) < 5 else value

    explorer = make(Objective({"a": Term(1.0, breaking)}), presets={})
    assert rows(explorer)["a"]["value"] > 10
    run(explorer, 500)
    assert explorer.status.startswith("Not finished: stopped at step ")
    assert "loss is nan; the last good picture is kept" in explorer.status
    assert isinstance(explorer.failure, Diverged)
    last = explorer.moments[-1]
    assert last.step > 0
    assert last.values["a"] >= 5
    assert torch.equal(explorer.picture, last.picture)
    assert explorer.desk.stop.disabled


def test_a_gradient_that_is_not_finite_is_a_sentence(make: Make) -> None:
    def rooted(x: Tensor, y: Tensor) -> Tensor:
        return (x - y).clamp(min=0).sqrt().mean()

    explorer = make(Objective({"a": Term(1.0, rooted)}), presets={})
    assert explorer.status == "The gradient is not finite here."
    run(explorer, 5)
    assert "the gradient is not finite" in explorer.status
    assert len(explorer.moments) == 1
    assert not explorer.desk.run.disabled


def test_choosing_a_photo_ends_a_run(explorer: LossExplorer) -> None:
    explorer.desk.most.value = 100_000
    explorer.desk.run.click()
    until(lambda: len(explorer.moments) > 3)
    explorer.photo.value = "astronaut"
    explorer.wait()
    assert len(explorer.moments) == 1
    assert torch.equal(explorer.picture, images.to_uint8(dim(photo("astronaut"))) / 255)
    assert explorer.desk.stop.disabled
    assert not explorer.desk.chart.lines


def test_reset_brings_back_weights_and_start(explorer: LossExplorer) -> None:
    start, after, given = explorer.picture, explorer.view.after, explorer.weights
    explorer.weights = PAPER
    run(explorer, 5)
    explorer.desk.reset.click()
    explorer.wait()
    assert explorer.weights == given
    assert explorer.desk.preset.value == GIVEN
    assert torch.equal(explorer.picture, start)
    assert explorer.view.after == after
    assert len(explorer.moments) == 1


def test_reset_during_a_run_is_not_overtaken_by_its_last_step(explorer: LossExplorer) -> None:
    start = explorer.picture
    explorer.desk.most.value = 100_000
    explorer.desk.run.click()
    until(lambda: len(explorer.moments) > 3)
    explorer.desk.reset.click()
    explorer.wait()
    assert torch.equal(explorer.picture, start)
    assert len(explorer.moments) == 1
    assert explorer.gradient is not None


def test_ends_gives_the_points_of_a_curve() -> None:
    start, target = (picture[None] for picture in pair())
    points = ends(
        objective(), (start, target), [{"tv": 0.0}, {"tv": 1e4}],
        sample=direct, rate=4 / 255, steps=25, runtime=setup("cpu"),
    )  # fmt: skip
    assert points[0]["colour"] < points[1]["colour"]
    assert points[0]["tv"] > points[1]["tv"]
    assert list(points[0]) == ["colour", "tv", "l1"]


def test_descending_prints_nothing_and_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    start, target = (picture[None] for picture in pair())
    seen: list[Seen] = []

    def look(one: Seen) -> bool:
        seen.append(one)
        return one.step < 5

    descend(
        objective, (start, start, target),
        sample=direct, rate=0.01, runtime=setup("cpu"), look=look,
    )  # fmt: skip
    assert [one.step for one in seen] == list(range(6))
    assert capsys.readouterr().out == ""
    assert not list(tmp_path.iterdir())


# The trade-off chart


def test_chart_shows_runs_beside_the_known_curve(make: Make) -> None:
    points = ({"colour": 1.0, "tv": 0.5, "l1": 0.1}, {"colour": 2.0, "tv": 0.25, "l1": 0.2})
    explorer = make(
        curve=Curve(points, label="200 steps each", picture="chelsea"), units={"tv": "per pixel"}
    )
    chart, desk = explorer.desk.chart, explorer.desk
    assert (chart.x, chart.y) == ("colour (before its weight)", "tv (per pixel)")
    assert [line["kind"] for line in chart.lines] == ["known"]
    assert chart.lines[0]["points"] == [[1.0, 0.5], [2.0, 0.25]]
    found = rows(explorer)
    assert chart.current == [found["colour"]["value"], found["tv"]["value"]]
    run(explorer, 6)
    run(explorer, 3)
    assert [line["label"] for line in chart.lines] == ["200 steps each", "run 1", "run 2"]
    last = explorer.moments[-1].values
    assert chart.lines[2]["points"][-1] == [last["colour"], last["tv"]]
    assert len(chart.lines[1]["points"]) == 7
    desk.up.value = "l1"
    assert chart.lines[2]["points"][-1] == [last["colour"], last["l1"]]
    chart.taken = [1, 4, 1]
    explorer.wait()
    assert explorer.view.labels[0] == "picture, run 1, step 4"
    chart.taken = [0, 1, 2]  # a point that was computed before has no picture
    assert explorer.view.labels[0] == "picture, run 1, step 4"
    explorer.photo.value = "astronaut"
    explorer.wait()
    assert chart.lines == []
    assert chart.note == "The curve '200 steps each' belongs to 'chelsea'."


# What is kept


def test_weights_and_photo_return(make: Make, tmp_path: Path) -> None:
    first = make(folder=tmp_path)
    first.weights = {"colour": 0.25, "tv": 12.0, "l1": 1e-3}
    first.upload.file = ("mine.png", encoded(skimage.data.coffee()[:90, :70], "PNG"))
    first.wait()
    shown, picture = first.view.after, first.picture
    first.close()
    state = json.loads((tmp_path / "explorer" / "state.json").read_text())
    assert state["weights"] == {"colour": 0.25, "tv": 12.0, "l1": 1e-3}
    second = make(folder=tmp_path)
    assert second.weights == {"colour": 0.25, "tv": 12.0, "l1": 1e-3}
    assert second.photo.value == "yours: mine.png"
    assert torch.equal(second.picture, picture)
    assert second.view.after == shown
    assert not second.view.problem
    second.upload.file = ("other.png", encoded(skimage.data.coffee()[:30, :40], "PNG"))
    second.photo.value = "astronaut"
    second.wait()
    second.close()
    kept = sorted(path.name for path in (tmp_path / "explorer").iterdir())
    assert len(kept) == 2  # the older photo is gone
    third = make(folder=tmp_path)
    assert third.photo.value == "astronaut"
    assert "yours: other.png" in third.photo.options


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "cannot be used"),
        ("[]", "cannot be used"),
        ('{"schema": 7}', "schema is 7"),
        ('{"schema": 1, "photo": "chelsea"}', "no 'weights'"),
        ('{"schema": 1, "weights": {"hue": 1}, "photo": "chelsea"}', "'colour' has no weight"),
        (
            '{"schema": 1, "weights": {"colour": NaN, "tv": 1, "l1": 1}, "photo": "chelsea"}',
            "weight of colour is nan",
        ),
        (
            '{"schema": 1, "weights": {"colour": 1, "tv": 1, "l1": 1}, "photo": "yours: x.png",'
            ' "own": {"name": "x.png", "file": "../../x.png"}}',
            "x.png",
        ),
    ],
)
def test_a_damaged_state_is_a_sentence(
    make: Make, tmp_path: Path, content: str, words: str
) -> None:
    (tmp_path / "explorer").mkdir()
    (tmp_path / "explorer" / "state.json").write_text(content)
    explorer = make(folder=tmp_path)
    assert explorer.status.startswith("Not restored: ")
    assert words in explorer.status
    assert explorer.weights == {"colour": 1.0, "tv": 10.0, "l1": 0.0}
    assert explorer.photo.value == "chelsea"
    explorer.weights = PAPER
    explorer.wait()
    explorer.close()
    assert make(folder=tmp_path).weights == PAPER


def test_a_kept_photo_that_is_not_given_any_more(make: Make, tmp_path: Path) -> None:
    first = make(folder=tmp_path)
    first.photo.value = "astronaut"
    first.weights = PAPER
    first.wait()
    first.close()
    second = make(folder=tmp_path, pairs={"chelsea": pair})
    assert second.status == "Not restored: photo 'astronaut' is not among those given"
    assert second.photo.value == "chelsea"
    assert second.weights == PAPER


def test_a_kept_photo_that_a_term_refuses(make: Make, tmp_path: Path) -> None:
    first = make(folder=tmp_path)
    first.upload.file = ("dot.png", encoded(np.zeros((9, 9, 3), np.uint8), "PNG"))
    first.wait()
    first.close()

    def large(x: Tensor, y: Tensor) -> Tensor:
        if x.shape[-1] < 16:
            raise ValueError("too small")
        return pixel.l1(x, y)

    terms = Objective({**objective().terms, "l1": Term(0.0, large)})
    second = make(terms, folder=tmp_path)
    assert second.status == "Not restored: too small"
    assert second.photo.value == "chelsea"


def test_a_folder_that_cannot_be_written_is_a_sentence(make: Make) -> None:
    explorer = make(folder=Path("/proc/nowhere"))
    explorer.weights = PAPER
    assert explorer.wait().startswith("Not kept: /proc/nowhere/explorer/state.json")
    explorer.upload.file = ("mine.png", encoded(skimage.data.coffee()[:90, :70], "PNG"))
    assert explorer.wait().startswith("Not kept: ")
    assert explorer.photo.value == "yours: mine.png"


# Leaving


def test_close_leaves_nothing() -> None:
    before, threads = set(LIVING), threading.active_count()
    watch = closed_in_a_run()
    assert set(LIVING) == before
    assert threading.active_count() <= threads
    gc.collect()
    assert watch() is None


def closed_in_a_run() -> weakref.ref[LossExplorer]:
    explorer = LossExplorer(objective(), pairs={"chelsea": pair}, degrade=dim, command=command)
    explorer.desk.most.value = 100_000
    explorer.desk.run.click()
    until(lambda: len(explorer.moments) > 3)
    explorer.close()
    return weakref.ref(explorer)


def test_still_is_a_self_contained_figure(
    explorer: LossExplorer, capsys: pytest.CaptureFixture[str]
) -> None:
    text = explorer._still()
    assert f'data-enh-still="{explorer.view.model_id}"' in text
    assert "data:image/png;base64," in text
    assert "http" not in text
    for words in ("share of |weighted value|", "share of gradient norm", "colour", TOTAL):
        assert words in text
    assert f"{100 * rows(explorer)['tv']['of_value']:.1f}%" in text
    assert "<svg" in text
    assert "tv (before its weight)" in text
    explorer._ipython_display_()
    assert explorer.status in capsys.readouterr().out


def test_terms_cannot_become_markup(make: Make) -> None:
    explorer = make(Objective({"<b>": Term(1.0, pixel.mse)}), presets={}, title="<i>")
    assert "&lt;b&gt;" in explorer.desk.table.still()
    assert "&lt;i&gt;" in explorer.widget.children[0].value


# The perceptual terms


@pytest.mark.usefixtures("features")
def test_perceptual_terms_before_and_after_a_run(make: Make) -> None:
    layer = "relu5_4"
    taps = Taps(networks.load("vgg19"), {"output": (layer,), "clean": (layer,)})
    content = Term(1.0, pixel.mse, of=(f"output/{layer}", f"clean/{layer}"))
    terms = Objective({**objective().terms, "content": content}, prepare=taps)
    explorer = make(terms, presets={})
    explorer.upload.file = ("coffee.png", encoded(skimage.data.coffee()[100:164, 200:264], "PNG"))
    explorer.wait()
    explorer.weights = {"colour": 0.013, "tv": 310.0, "l1": 40.0, "content": 0.02}
    explorer.desk.show.value = TARGET
    target = pixels(explorer.view.after) / 255
    explorer.desk.show.value = TOTAL
    start = pixels(explorer.view.before) / 255
    shows_gradient(explorer, autograd(terms, explorer.weights, start, start, target))
    assert 0.05 < rows(explorer)["content"]["of_gradient"] < 0.95
    run(explorer, 3)
    x = pixels(explorer.view.before) / 255
    assert not torch.equal(x, start)
    shows_gradient(explorer, autograd(terms, explorer.weights, x, start, target))
