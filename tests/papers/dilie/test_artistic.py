"""L_AE by hand, positions, scales, the old bug, seeds and exact resume."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import skimage.data
import torch
from torch import Tensor
from torch.nn import functional as F

from enhancelib import features as networks
from enhancelib import images, runtime
from enhancelib.images import from_array, resize
from enhancelib.losses import transport
from enhancelib.papers.dilie import artistic
from enhancelib.recipes import Recipe
from tests.equations import transcriptions_dilie as printed

# nothing is black: a colour of length 0 has no direction, and the printed cosine divides by it
C = 0.05 + 0.9 * resize(from_array(skimage.data.coffee()), size=(48, 64)).clamp(0, 1)[None]
S = 0.05 + 0.9 * resize(from_array(skimage.data.astronaut()), size=(40, 56)).clamp(0, 1)[None]
SHORT = replace(artistic.RECIPE, steps=4, log_every=2)
FEW = 64  # vectors; 1024 take seconds a step


def run_in(folder: Path) -> Any:
    return SimpleNamespace(folder=folder, runtime=runtime.setup("cpu"))


def scale_of(
    side: int,
    network: str = "vgg19",
    *,
    layers: Sequence[str] = artistic.OFFICIAL,
    normalised: bool = True,
    vectors: int = 1024,
) -> artistic.Scale:
    net = artistic._network(network, normalised, torch.device("cpu"))
    return artistic._scale(net, C, S, side, layers, normalised=normalised, vectors=vectors, seed=0)


def test_l_ae_is_its_equation_on_real_hypercolumns(features: Path) -> None:
    scale = scale_of(64, layers=artistic.OFFICIAL[:3], vectors=12)
    E = C.flip(1)
    sample = scale._columns(7, {**scale.given, "output": E})
    x, c, y = (sample[n].double() for n in ("columns", "content columns", "style columns"))
    assert x.shape == c.shape == (12, 3 + 64 + 64 + 128)
    assert y.shape == (60, 259)
    arrays = x.numpy(), y.numpy(), c.numpy()
    terms = {
        "content": printed.eq_self_similarity(arrays[0], arrays[2]),
        "remd": printed.eq_remd(arrays[0], arrays[1]),
        "moments": printed.eq_moments(arrays[0], arrays[1]),
        "palette": printed.eq_palette(arrays[0][:, :3], arrays[1][:, :3]),
    }
    for alpha in (16.0, 4.0, 0.25):
        total, values = scale.objective(7, alpha=alpha)({**scale.given, "output": E})
        for name, expected in terms.items():
            assert float(values[name]) == pytest.approx(expected, rel=1e-4)
        assert float(total) == pytest.approx(printed.eq_ae(alpha, *terms.values()), rel=1e-4)
        assert float(total) == pytest.approx(
            float(transport.strotss(x, y, c, alpha=alpha)), rel=1e-4
        )


def test_columns_are_rgb_and_the_official_layers(features: Path) -> None:
    for network in ("vgg19", "vgg16"):
        scale = scale_of(64, network)
        assert scale.given["style columns"].shape == (5000, 2179)
        drawn = scale.given["style columns"][:, :3]
        pixels = {tuple(colour) for colour in scale.given["style"][0].flatten(1).T.tolist()}
        assert {tuple(colour) for colour in drawn[:50].tolist()} <= pixels
        for k in range(5):  # each draw without repetition
            assert len(drawn[1000 * k : 1000 * (k + 1)].unique(dim=0)) > 950
    assert 3 + 2 * 64 + 2 * 128 + 4 * 256 == 1411  # of the fast variant
    net = networks.load("vgg19_normalised")
    maps = artistic._maps(net, C, artistic.FAST, 0.0)
    assert sum(one.shape[1] for one in maps) == 1411


def test_style_columns_read_the_nearest_activation(features: Path) -> None:
    net = networks.load("vgg19_normalised")
    maps = artistic._maps(net, S, ("relu1_1", "relu2_1", "relu3_1"), 0.0)
    found = artistic._style_columns(maps, torch.Generator().manual_seed(5))
    place = int(torch.randperm(40 * 56, generator=torch.Generator().manual_seed(5))[0])
    row, column = place // 56, place % 56
    places = [(row, column), (row, column), (row // 2, column // 2), (row // 4, column // 4)]
    expected = torch.cat([one[0, :, i, j] for one, (i, j) in zip(maps, places, strict=True)])
    assert torch.equal(found[0], expected)


def test_positions_are_redrawn_every_ten_steps_and_shuffled_every_one() -> None:
    grids = []
    for index in (0, 9, 10, 11):
        found = artistic.positions(512, 384, index, seed=1)
        assert found.shape == (1024, 2)
        assert int(found[:, 0].max()) < 512
        assert int(found[:, 1].max()) < 384
        grids.append(found)
    assert not torch.equal(grids[0], grids[1])
    strides = [tuple(int(found[:, k].unique().diff().min()) for k in (0, 1)) for found in grids]
    assert set(strides) == {(3, 4)}  # 512 x 384 = 12 x 128^2: sqrt(12), down and up
    offsets = [tuple(int(found[:, k].min()) % strides[0][k] for k in (0, 1)) for found in grids]
    assert offsets[0] == offsets[1]
    assert offsets[2] == offsets[3]
    drawn = {
        tuple(int(artistic.positions(512, 384, 10 * k)[:, n].min()) % (3, 4)[n] for n in (0, 1))
        for k in range(30)
    }
    assert len(drawn) > 6
    assert torch.equal(artistic.positions(512, 384, 9, seed=1), grids[1])
    assert not torch.equal(artistic.positions(512, 384, 9, seed=2), grids[1])


def test_rows_and_columns_are_shuffled_apart() -> None:
    """On 30 x 40 pixels a joint shuffle would show every pair once; apart, pairs repeat."""
    found = artistic.positions(25, 40, 0)
    assert len(found) == 1000
    assert found[:, 0].bincount().tolist() == [40] * 25
    assert found[:, 1].bincount().tolist() == [25] * 40
    assert len(found.unique(dim=0)) < 700  # 1000 (1 - 1/e) = 632


@pytest.mark.parametrize(
    ("long", "scales", "expected"),
    [(512, 4, (64, 128, 256, 512)), (1000, 4, (125, 250, 500, 1000)), (128, 4, (64, 128)),
     (127, 4, (127,)), (512, 2, (256, 512)), (512, 9, (64, 128, 256, 512)), (40, 3, (40,))],
)  # fmt: skip
def test_scales(long: int, scales: int, expected: tuple[int, ...]) -> None:
    assert artistic.long_sides(long, scales) == expected


def test_where_each_scale_begins(features: Path) -> None:
    scale = scale_of(64)
    half = F.interpolate(C, size=(24, 32), mode="bilinear")
    details = C - F.interpolate(half, size=(48, 64), mode="bilinear")
    first = artistic._start(scale, C, first=True, last=False)
    assert torch.allclose(first, scale.given["style"].mean((2, 3), keepdim=True) + details)
    before = torch.rand(1, 3, 24, 32)
    enlarged = F.interpolate(before, size=(48, 64), mode="bilinear")
    middle = artistic._start(scale, before, first=False, last=False)
    assert torch.allclose(middle, enlarged + details)
    assert torch.equal(artistic._start(scale, before, first=False, last=True), enlarged)


def test_coarse_to_fine_with_halved_alpha_and_rate(
    features: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = resize(C, size=(96, 128)).clamp(0, 1)
    seen: list[tuple[float, Recipe, tuple[int, ...]]] = []
    real = artistic.internal.optimise

    def optimise(
        source: Any, given: Any, objective: Any, recipe: Recipe, *rest: Any, **more: Any
    ) -> Any:
        terms = objective(0).terms
        alpha = terms["content"].weight / terms["remd"].weight
        seen.append((alpha, recipe, tuple(given["content"].shape[2:])))
        return real(source, given, objective, recipe, *rest, **more)

    monkeypatch.setattr(artistic.internal, "optimise", optimise)
    found = artistic.artistic(
        content[0], S, run_in(tmp_path), content_weight=0.5, recipe=SHORT, vectors=FEW
    )
    assert [alpha for alpha, _, _ in seen] == pytest.approx([8.0, 4.0])
    assert [recipe.learning_rate for _, recipe, _ in seen] == [2e-3, 1e-3]
    assert {recipe.optimiser for _, recipe, _ in seen} == {"rmsprop"}
    assert [size for _, _, size in seen] == [(48, 64), (96, 128)]
    assert found.E.shape == (3, 96, 128)
    assert torch.equal(found.E, images.clip(found.stages[1].outputs["output"])[0])


def test_it_lowers_its_loss_and_moves_towards_the_style(features: Path, tmp_path: Path) -> None:
    recipe = replace(SHORT, steps=40, log_every=10)
    found = artistic.artistic(
        C, S, run_in(tmp_path), recipe=recipe, content_weight=0.1, vectors=256
    )
    values = found.stages[0].history.values
    assert values["loss"][-1] < 0.9 * values["loss"][0]
    assert values["remd"][-1] < values["remd"][0]

    def gap(picture: Tensor) -> float:
        return float((picture.mean((2, 3)) - S.mean((2, 3))).abs().mean())

    assert gap(found.E) < gap(C) / 2


def test_the_bug_feeds_vgg16_with_pictures_minus_a_half(features: Path) -> None:
    broken, mended = scale_of(64, "vgg16", normalised=False), scale_of(64, "vgg16")
    stages = networks.load("vgg16").stages
    first = F.relu(stages["conv1_1"](C - 0.5))
    assert torch.allclose(broken.given["content/1"], first, atol=1e-5)
    assert torch.equal(broken.given["content/0"], C - 0.5)
    assert torch.equal(mended.given["content/0"], C)
    mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
    deviation = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    right = F.relu(stages["conv1_1"]((C - mean) / deviation))
    assert torch.allclose(mended.given["content/1"], right, atol=1e-5)
    assert float(networks.load("vgg16").mean[0, 0]) == pytest.approx(
        0.485
    )  # others are not touched


def test_a_run_cut_short_ends_with_the_same_bits(features: Path, tmp_path: Path) -> None:
    content = resize(C, size=(96, 128)).clamp(0, 1)
    recipe = replace(SHORT, steps=6, watch_every=1, log_every=1, checkpoint_seconds=0.0)
    calls = 0

    def restyle(folder: str, recipe: Recipe, stop: int = 99) -> Tensor:
        nonlocal calls
        calls = 0

        def show(step: int, sample: dict[str, Tensor]) -> None:
            nonlocal calls
            calls += 1
            if calls == stop:
                raise KeyboardInterrupt

        run = run_in(tmp_path / folder)
        return artistic.artistic(content, S, run, recipe=recipe, scales=2, show=show, vectors=FEW).E

    whole = restyle("whole", recipe)
    with pytest.raises(KeyboardInterrupt):
        restyle("cut", recipe, stop=9)  # in the second scale
    assert torch.equal(restyle("cut", recipe), whole)
    assert calls == 4  # steps 3 to 6 of the second scale; the first is done
    assert not torch.equal(restyle("other", replace(recipe, seed=1)), whole)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            {"network": "resnet"},
            "network is 'resnet', normalised True; expected",
        ),
        ({"normalised": False}, "normalised=False with 'vgg16' alone"),
        ({"scales": 0}, "scales is 0, vectors 1024, content_weight 1.0; expected 1 or more"),
        ({"vectors": 0}, "vectors 0"),
        ({"content_weight": -1.0}, "content_weight -1.0"),
        ({"content_weight": float("nan")}, "content_weight nan"),
        ({"layers": ("relu3_4",), "network": "vgg16"}, "layers asks for relu3_4"),
    ],
)
def test_what_cannot_be_done_is_refused(
    features: Path, tmp_path: Path, wrong: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        artistic.artistic(C, S, run_in(tmp_path), **wrong)


def test_a_style_of_any_size_and_shape(features: Path, tmp_path: Path) -> None:
    recipe = replace(SHORT, steps=1)
    for number, style in enumerate((S[..., :20], resize(S, size=(30, 90)).clamp(0, 1)[0])):
        found = artistic.artistic(
            C, style, run_in(tmp_path), recipe=recipe, stage=f"{number}", vectors=FEW
        )
        assert found.E.shape == C.shape
    assert np.isfinite(found.value("loss"))
