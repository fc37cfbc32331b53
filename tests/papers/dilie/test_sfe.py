"""L_PE by hand on real VGG19 features, the two stages, masks, seeds and exact resume."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import skimage.data
import torch
from numpy.typing import NDArray
from torch import Tensor

from enhancelib import features as networks
from enhancelib import images, runtime
from enhancelib.images import from_array, resize
from enhancelib.losses import photorealism
from enhancelib.papers.dilie import affine, restyling, segments, sfe
from enhancelib.papers.dilie.restyling import Loss, problem
from enhancelib.recipes import Recipe
from tests.equations import transcriptions_dilie as printed

C = resize(from_array(skimage.data.coffee()), size=(48, 64)).clamp(0, 1)
S = resize(from_array(skimage.data.astronaut()), size=(40, 56)).clamp(0, 1)
FEW = replace(sfe.PE, positions=256)
SHORT = Recipe(6, 1, 1, learning_rate=0.01, log_every=2)


def run_in(folder: Path) -> Any:
    return SimpleNamespace(folder=folder, runtime=runtime.setup("cpu"))


def rows(maps: Tensor) -> NDArray[np.float64]:
    """(1, C, h, w) as one row per position."""
    return maps[0].flatten(1).T.double().numpy()


def maps_of(picture: Tensor, *layers: str) -> dict[str, Tensor]:
    return networks.load("vgg19", ceil=True)(picture, layers)


@pytest.fixture(scope="module")
def tiny() -> tuple[Tensor, Tensor, Tensor]:
    """Content, style and a third picture in the place of E, of 16 x 20 pixels."""
    found = [resize(one, size=(16, 20)).clamp(0, 1) for one in (C, S, S.flip(2) ** 0.6)]
    return found[0], found[1], found[2]


def test_l_pe_is_its_equation(features: Path, tiny: tuple[Tensor, Tensor, Tensor]) -> None:
    content, style, E = tiny
    pose = problem(content, style, loss=Loss(alpha=0.7, beta=1.3, gamma=2e3))
    total, values = pose.objective()({**pose.given, "output": E[None]})

    deep = [rows(maps_of(one[None], "relu4_2")["relu4_2"]) for one in (E, content)]
    L_C = printed.eq_5(*deep, 0.5)
    L_S = 0.0
    for layer in ("relu1_2", "relu2_2", "relu3_2"):
        x, y = (rows(maps_of(one[None], layer)[layer]) for one in (E, style))
        L_S += printed.eq_5(x, y, 0.5)
    L_aff = printed.eq_aff(E.double().numpy(), content.double().numpy(), 1e-7)
    assert float(values["content"]) == pytest.approx(L_C, rel=1e-4)
    assert float(values["style"]) == pytest.approx(L_S, rel=1e-4)
    assert float(values["affine"]) == pytest.approx(L_aff, rel=1e-5)
    expected = printed.eq_pe(0.7, L_C, 1.3, L_S, 2e3, L_aff)
    assert float(total) == pytest.approx(expected, rel=1e-4)


def test_the_gram_form_is_deep_photo_style_transfers(
    features: Path, tiny: tuple[Tensor, Tensor, Tensor]
) -> None:
    content, style, E = tiny
    style = style[:, :, 3:]  # Gram matrices are divided by the size of their own maps
    pose = problem(content, style, loss=replace(sfe.PE_GRAM, tv=1e-3, tv_form="sum"))
    total, values = pose.objective()({**pose.given, "output": E[None]})
    deep = [rows(maps_of(one[None], "relu4_2")["relu4_2"]) for one in (E, content)]
    L_C, L_S = float(((deep[0] - deep[1]) ** 2).mean()), 0.0
    for layer in ("relu1_2", "relu2_2", "relu3_2"):
        x, y = (rows(maps_of(one[None], layer)[layer]) for one in (E, style))
        L_S += float(((x.T @ x / x.size - y.T @ y / y.size) ** 2).mean())
    levels = 255 * E.double().numpy()
    L_TV = (np.diff(levels, axis=1) ** 2).sum() / 2 + (np.diff(levels, axis=2) ** 2).sum() / 2
    assert float(values["content"]) == pytest.approx(L_C, rel=1e-4)
    assert float(values["style"]) == pytest.approx(L_S, rel=1e-4)
    assert float(values["tv"]) == pytest.approx(L_TV, rel=1e-5)
    weighted = 5 * L_C + 100 * L_S + 1e4 * float(values["affine"]) + 1e-3 * L_TV
    assert float(total) == pytest.approx(weighted, rel=1e-4)


def test_the_stated_guesses_stand() -> None:
    """The paper's footnote for the layers; weights of the codes that they were taken from."""
    assert (sfe.PE.alpha, sfe.PE.beta, sfe.PE.gamma, sfe.PE.tv) == (1, 1, 1e4, 0)
    assert (sfe.PE_GRAM.alpha, sfe.PE_GRAM.beta, sfe.PE_GRAM.gamma) == (5, 100, 1e4)
    assert (sfe.RECIPE.steps, sfe.RECIPE.optimiser) == (1000, "lbfgs")
    for loss in (sfe.PE, sfe.PE_GRAM):
        assert loss.content_layer == "relu4_2"
        assert loss.style_layers == ("relu1_2", "relu2_2", "relu3_2")


def test_where_maps_are_large_positions_are_drawn_anew_every_ten_steps(features: Path) -> None:
    pose = problem(C, S, loss=FEW, seed=3)
    sample = {**pose.given, "output": S.new_tensor(C.flip(2).numpy())[None]}
    values = [float(pose.objective(k)(sample)[1]["style"]) for k in (0, 9, 10, 20)]
    assert values[0] == values[1]
    assert len(set(values)) == 3
    other = problem(C, S, loss=FEW, seed=4)
    assert float(other.objective()(sample)[1]["style"]) != values[0]
    content = [float(pose.objective(k)(sample)[1]["content"]) for k in (0, 10)]
    assert content[0] == content[1]  # 48 positions: all are looked at
    few = problem(C, S, loss=replace(FEW, positions=20), seed=3)
    content = [float(few.objective(k)(sample)[1]["content"]) for k in (0, 9, 10)]
    assert content[0] == content[1] != content[2]
    same = {**pose.given, "output": C[None]}
    assert float(few.objective()(same)[1]["content"]) < 0.01  # the same positions in both


def test_two_stages_and_the_smoothed_end(features: Path, tmp_path: Path) -> None:
    found = sfe.photorealistic(C, S, run_in(tmp_path), loss=FEW, recipe=SHORT)
    free, held = found.stages
    assert "affine" not in free.history.values
    assert "affine" in held.history.values
    assert free.history.values["loss"][-1] < free.history.values["loss"][0]
    E = affine.smooth_local_affine(held.outputs["output"], C[None])
    assert torch.equal(found.E, images.clip(E)[0])
    assert found.value("affine") == held.history.values["affine"][-1]
    raw = sfe.photorealistic(
        C[None], S[None], run_in(tmp_path), loss=FEW, recipe=SHORT, smooth=False
    )
    assert torch.equal(raw.E, images.clip(held.outputs["output"]))


def test_the_second_stage_begins_where_the_first_ended(features: Path, tmp_path: Path) -> None:
    run, still = run_in(tmp_path), replace(SHORT, steps=0)
    pose = problem(C, S, loss=FEW)
    free = restyling.minimise(pose, run, recipe=SHORT, stage="a-free")
    found = sfe._held(pose, free, run, still, C, smooth=False, stage="a-affine", show=None)
    assert torch.equal(found.E, images.clip(free.outputs["output"])[0])


def test_seeds_decide_and_a_run_cut_short_ends_with_the_same_bits(
    features: Path, tmp_path: Path
) -> None:
    recipe = replace(SHORT, steps=12, watch_every=1, log_every=1, checkpoint_seconds=0.0)

    def restyle(folder: str, recipe: Recipe, stop: int = 99) -> Tensor:
        def show(step: int, sample: dict[str, Tensor]) -> None:
            if step == stop:
                raise KeyboardInterrupt

        return sfe.photorealistic(
            C, S, run_in(tmp_path / folder), loss=FEW, recipe=recipe, show=show
        ).E

    whole = restyle("whole", recipe)
    with pytest.raises(KeyboardInterrupt):
        restyle("cut", recipe, stop=11)
    assert torch.equal(restyle("cut", recipe), whole)
    assert not torch.equal(restyle("other", replace(recipe, seed=1)), whole)


def test_the_affine_weight_holds_edges_monotonically(features: Path, tmp_path: Path) -> None:
    """Claim 4 of the specification, small: one first stage, three second ones."""
    recipe = replace(sfe.RECIPE, steps=10)
    series = sfe.affine_series(C, S, run_in(tmp_path), recipe=recipe)
    assert list(series) == [0.0, 1e2, 1e4]
    firsts = [found.stages[0].outputs["output"] for found in series.values()]
    assert torch.equal(firsts[0], firsts[1])
    assert torch.equal(firsts[0], firsts[2])
    M = photorealism.MattingLaplacian(C[None])
    charged = [float(M.loss(found.E[None])) for found in series.values()]
    edges = [float(affine.edge_similarity(found.E[None], C[None])) for found in series.values()]
    assert charged[0] > charged[1] > charged[2]
    assert edges[0] < edges[1] < edges[2]


def test_more_beta_is_more_style_and_less_content(features: Path, tmp_path: Path) -> None:
    recipe = replace(SHORT, steps=20)
    loss = replace(FEW, gamma=0.0)
    swept = sfe.beta_sweep(C, S, run_in(tmp_path), betas=(0.01, 10.0), loss=loss, recipe=recipe)
    assert swept[10.0].value("style") < swept[0.01].value("style")
    assert swept[10.0].value("content") > swept[0.01].value("content")


def test_masks_keep_each_class_to_itself(features: Path, tmp_path: Path) -> None:
    """A style half red and half blue: the class on the left of the content takes the red one."""
    style = torch.zeros(3, 48, 48)
    style[0, :, :24], style[2, :, 24:] = 0.9, 0.9
    style += 0.1 * torch.rand(style.shape, generator=torch.Generator().manual_seed(0))
    left, right = torch.zeros(48, 64), torch.zeros(48, 48)
    left[:, :32], right[:, :24] = 1, 1
    masks = torch.stack([left, 1 - left]), torch.stack([right, 1 - right])
    grey = C.mean(0, keepdim=True).expand(3, -1, -1).contiguous()
    loss = replace(sfe.PE_GRAM, alpha=0.0, gamma=0.0)
    recipe = replace(sfe.RECIPE, steps=8)
    found = sfe.photorealistic(
        grey,
        style.clamp(0, 1),
        run_in(tmp_path),
        loss=loss,
        recipe=recipe,
        masks=masks,
        smooth=False,
    )
    redder = found.E[0] - found.E[2]
    assert float(redder[:, :28].mean()) > 0.05
    assert float(redder[:, 36:].mean()) < -0.05


def test_masks_follow_the_network(features: Path) -> None:
    net = networks.load("vgg19", ceil=True)
    content, style = torch.rand(1, 3, 37, 50), torch.rand(1, 3, 21, 33)
    layers = ("relu1_1", "relu2_1", "relu3_2", "relu5_1")
    masks = torch.ones(2, 37, 50), torch.ones(2, 21, 33)
    masks[0][1], masks[1][1] = 0.0, 0.5
    shrunk = segments.mask_maps(net, masks, content, style, layers)
    for layer, (a, b) in shrunk.items():
        assert a.shape[1:] == net(content, (layer,))[layer].shape[2:]
        assert b.shape[1:] == net(style, (layer,))[layer].shape[2:]
        assert float(a[1].abs().max()) == 0
        assert torch.allclose(b[0], 2 * b[1])
    first = shrunk["relu1_1"][0][0]  # one 3 x 3 mean with zeros around
    assert first[0, 0] == pytest.approx(4 / 9)
    assert first[0, 7] == pytest.approx(6 / 9)
    assert first[5, 7] == 1
    whole = segments.mask_maps(net, None, content, style, layers)
    assert all(torch.allclose(m, torch.ones_like(m)) for pair in whole.values() for m in pair)


def test_a_class_in_one_picture_only_costs_nothing(features: Path) -> None:
    X, Y = torch.rand(1, 4, 6, 6), torch.rand(1, 4, 5, 5)
    mine, theirs = torch.zeros(2, 6, 6), torch.zeros(2, 5, 5)
    mine[0, :3], mine[1, 3:], theirs[0] = 1, 1, 1
    generator = torch.Generator().manual_seed(0)
    drawn = segments.places((mine, theirs), generator, 10**6)
    assert [(share, len(a), len(b)) for share, a, b in drawn] == [(0.5, 18, 18)]
    loss = float(segments.contextual_style(X, Y, drawn))
    x, y = (rows(one)[at.numpy()] for one, at in zip((X, Y), drawn[0][1:], strict=True))
    assert loss == pytest.approx(0.5 * printed.eq_5(x, y, 0.5), rel=1e-4)


def test_the_classes_of_the_official_masks_cover_them(assets: Path) -> None:
    """Flat colours but for the smoothed borders between them."""
    for name in ("in3_seg", "tar3_seg", "in6_seg"):
        masks = segments.colour_masks(images.read(assets / "data" / "deep_photo" / f"{name}.png"))
        assert float(masks.sum(0).max()) == 1
        assert float(masks.sum(0).mean()) > 0.97
        assert (masks.flatten(1).sum(1) > 0).sum() >= 2


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        ((torch.ones(1, 48, 63), torch.ones(1, 40, 56)), r"mask of the content is \(1, 48, 63\)"),
        ((torch.ones(1, 48, 64), torch.ones(1, 56, 40)), r"mask of the style is \(1, 56, 40\)"),
        ((torch.ones(2, 48, 64), torch.ones(1, 40, 56)), "2 classes in the content's mask, 1 in"),
        ((torch.ones(1, 48, 64), torch.zeros(1, 40, 56)), "no class of the masks is in both"),
    ],
)
def test_masks_that_do_not_fit_are_refused_in_a_sentence(
    masks: segments.Masks, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        sfe.photorealistic(C, S, run_in(tmp_path), masks=masks)


@pytest.mark.parametrize(
    ("content", "style", "message"),
    [
        (C[:1], S, r"content has shape \(1, 48, 64\)"),
        (C, S[None].expand(2, -1, -1, -1), r"style has shape \(2, 3, 40, 56\)"),
        (C, 255 * S, "style spans"),
        (C * float("nan"), S, r"content spans \[nan, nan\]"),
        ((255 * C).byte(), S, "content has shape"),
    ],
)
def test_pictures_that_are_none_are_refused_in_a_sentence(
    content: Tensor, style: Tensor, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        sfe.photorealistic(content, style, run_in(tmp_path))


@pytest.mark.parametrize(
    "wrong",
    [{"alpha": -1.0}, {"gamma": float("nan")}, {"style_layers": ()}, {"positions": 0},
     {"pooling": "mean"}, {"content_form": "gram"}, {"tv_form": "l1"}],
)  # fmt: skip
def test_losses_that_are_none_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected"):
        Loss(**wrong)


def test_start_of_another_size_is_refused(features: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected one size"):
        sfe.photorealistic(C, S, run_in(tmp_path), start=S)
