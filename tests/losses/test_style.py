"""Gram matrices by loops, their normalisations, masks class by class."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from skimage import data
from torch import Tensor
from torch.nn import functional as F

from enhancelib import features as networks
from enhancelib.losses import style, transport

Array = NDArray[np.float64]
# colours of 4 x 4 cells of astronaut against chelsea's; no other implementation at hand
PINNED = {"style": 0.00849736621, "content": 17.3184713, "masked": 1.79040443e-05}


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def gram_by_loops(X: Tensor) -> Array:
    """(C, C) of one picture, (C, h, w)."""
    C, h, w = X.shape
    found = np.zeros((C, C))
    for a, b, i, j in itertools.product(range(C), range(C), range(h), range(w)):
        found[a, b] += float(X[a, i, j]) * float(X[b, i, j])
    return found


def cells(name: str) -> Tensor:
    photo = torch.from_numpy(getattr(data, name)()).permute(2, 0, 1)[None].double() / 255
    return F.pixel_unshuffle(photo[..., 100:228, 100:228], 4)


def test_gram_by_loops() -> None:
    X = draw(2, 3, 4, 5) - 0.3
    found = style.gram(X)
    for picture, wanted in zip(found, X, strict=True):
        np.testing.assert_allclose(picture, gram_by_loops(wanted), rtol=1e-12)


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (1, 4, 1, 3), (3, 1, 2, 2)])
def test_gatys_style_by_loops(shape: tuple[int, ...]) -> None:
    X, Y = draw(*shape), draw(*shape, seed=1)
    N, M = shape[1], shape[2] * shape[3]
    wanted = [
        ((gram_by_loops(x) - gram_by_loops(y)) ** 2).sum() / (4 * N**2 * M**2)
        for x, y in zip(X, Y, strict=True)
    ]
    assert float(style.gatys_style(X, Y)) == pytest.approx(np.mean(wanted), rel=1e-12)


def test_a_style_of_another_size_is_compared_by_position() -> None:
    X, Y = draw(2, 3, 4, 5), draw(2, 3, 6, 7, seed=1)
    wanted = [
        ((gram_by_loops(x) / 20 - gram_by_loops(y) / 42) ** 2).sum() / (4 * 9)
        for x, y in zip(X, Y, strict=True)
    ]
    assert float(style.gatys_style(X, Y)) == pytest.approx(np.mean(wanted), rel=1e-12)
    assert float(style.gatys_style(X, X.repeat(1, 1, 2, 3))) == pytest.approx(0, abs=1e-20)


def test_style_is_blind_to_places_and_content_is_not() -> None:
    X = draw(1, 3, 4, 6)
    moved = X.flip(3)
    assert float(style.gatys_style(moved, X)) == pytest.approx(0, abs=1e-20)
    assert float(style.gatys_content(moved, X)) > 0.1


@pytest.mark.parametrize(
    ("form", "K"), [(1, 1 / (2 * math.sqrt(3) * math.sqrt(20))), (2, 1 / 60), (3, 0.5)]
)
def test_gatys_content(form: int, K: float) -> None:
    X, Y = draw(2, 3, 4, 5), draw(2, 3, 4, 5, seed=1)
    squares = [float(((x - y) ** 2).sum()) for x, y in zip(X.numpy(), Y.numpy(), strict=True)]
    assert float(style.gatys_content(X, Y, form=form)) == pytest.approx(
        K * np.mean(squares), rel=1e-12
    )


def test_content_is_of_form_one_unless_told() -> None:
    X, Y = draw(2, 3, 4, 5), draw(2, 3, 4, 5, seed=1)
    assert torch.equal(style.gatys_content(X, Y), style.gatys_content(X, Y, form=1))


def masked_by_loops(x: Tensor, y: Tensor, masks: Tensor, others: Tensor) -> float:
    """One picture; the mean of every mask divides the Gram matrix under it, where it is not 0."""
    total = 0.0
    for m, n in zip(masks, others, strict=True):
        grams = []
        for maps, mask in ((x, m), (y, n)):
            mean = float(mask.mean())
            under = gram_by_loops(maps * mask)
            grams.append(under / (maps.numel() * mean) if mean > 0 else under)
        total += float(m.mean()) * float(((grams[0] - grams[1]) ** 2).mean())
    return total


@pytest.mark.parametrize("other", [(4, 5), (3, 7)])
def test_masked_by_loops(other: tuple[int, int]) -> None:
    X, Y = draw(2, 3, 4, 5), draw(2, 3, *other, seed=1)
    masks, others = draw(4, 4, 5, seed=2), draw(4, *other, seed=3)
    masks[1], others[2] = 0, 0  # a class that the content lacks, and one that the style lacks
    wanted = [masked_by_loops(x, y, masks, others) for x, y in zip(X, Y, strict=True)]
    found = style.masked_gram_style(X, Y, masks, others)
    assert float(found) == pytest.approx(np.mean(wanted), rel=1e-12)
    first = style.masked_gram_style(X[:1], Y[:1], masks, others)
    assert float(first) == pytest.approx(wanted[0], rel=1e-12)


def test_one_mask_everywhere_is_the_mean_over_entries() -> None:
    X, Y, mask = draw(1, 3, 4, 5), draw(1, 3, 4, 5, seed=1), torch.ones(1, 4, 5).double()
    whole = ((style.gram(X) - style.gram(Y)) / 60).square().mean()
    torch.testing.assert_close(style.masked_gram_style(X, Y, mask, mask), whole)
    # 1/(C M)^2 there and 1/(4 C^2 M^2) here, mean against sum over C^2 entries
    torch.testing.assert_close(whole * 9 / 4, style.gatys_style(X, Y))


def test_classes_do_not_mix() -> None:
    """Left half and right half, each with its own style: only the right partner costs nothing."""
    left = torch.zeros(4, 6).double()
    left[:, :3] = 1
    masks = torch.stack([left, 1 - left])
    X = draw(1, 3, 4, 6)
    swapped = X.roll(3, dims=3)
    assert float(style.masked_gram_style(X, swapped, masks, masks.flip(0))) == pytest.approx(0)
    assert float(style.masked_gram_style(X, swapped, masks, masks)) > 1e-4


def test_values_on_photos() -> None:
    X, Y = cells("astronaut"), cells("chelsea")
    masks = torch.stack([X[0, 0], 1 - X[0, 0]])
    found = {
        "style": style.gatys_style(X, Y),
        "content": style.gatys_content(X, Y),
        "masked": style.masked_gram_style(X, Y, masks, masks.flip(1)),
    }
    for name, value in found.items():
        assert float(value) == pytest.approx(PINNED[name], rel=1e-6), name


def test_identity_and_symmetry() -> None:
    X, Y, mask = draw(2, 3, 4, 5), draw(2, 3, 4, 5, seed=1), draw(2, 4, 5, seed=2)
    for loss in (style.gatys_style, style.gatys_content):
        assert float(loss(X, X)) == 0
        assert float(loss(X, Y)) == pytest.approx(float(loss(Y, X)), rel=1e-12)
    assert float(style.masked_gram_style(X, X, mask, mask)) == 0


def test_gradients() -> None:
    X, Y = draw(2, 2, 3, 2).requires_grad_(), draw(2, 2, 3, 2, seed=1).requires_grad_()
    masks = draw(2, 3, 2, seed=2)
    masks[1] = 0  # no NaN out of the empty one
    losses: list[Callable[..., Tensor]] = [style.gatys_style, style.gatys_content]
    losses.append(lambda a, b: style.masked_gram_style(a, b, masks, masks))
    for loss in losses:
        assert torch.autograd.gradcheck(loss, (X, Y))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_short_floats_are_widened(dtype: torch.dtype) -> None:
    X, Y = draw(1, 3, 4, 4).to(dtype), draw(1, 3, 4, 4, seed=1).to(dtype)
    masks = torch.ones(1, 4, 4)
    pairs = [
        (style.gatys_style(X, Y), style.gatys_style(X.float(), Y.float())),
        (style.gatys_content(X, Y), style.gatys_content(X.float(), Y.float())),
        (
            style.masked_gram_style(X, Y, masks, masks),
            style.masked_gram_style(X.float(), Y.float(), masks, masks),
        ),
    ]
    for found, wanted in pairs:
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, wanted)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(style.gram(X.float()), style.gram(X.float().clone()))
        assert style.gram(X.float()).dtype == torch.float32


def test_on_vgg19(features: Path) -> None:
    """Features of a photo: style alike to itself mirrored, not to another photo."""
    vgg19 = networks.load("vgg19")
    photos = [
        torch.from_numpy(one[100:196, 100:196].copy()).permute(2, 0, 1)[None] / 255
        for one in (data.astronaut(), data.chelsea())
    ]
    photos.insert(1, photos[0].flip(3))
    maps = [vgg19(one, ("relu3_1",))["relu3_1"] for one in photos]
    mirrored, foreign = (float(style.gatys_style(one, maps[0])) for one in maps[1:])
    assert mirrored < 0.6 * foreign


def test_strotss_is_found_here_too() -> None:
    for name in ("hypercolumns", "moments", "palette", "remd", "self_similarity", "strotss"):
        assert getattr(style, name) is getattr(transport, name)


def test_wrong_input_is_refused() -> None:
    X, mask = draw(2, 3, 4, 4), torch.ones(1, 4, 4)
    with pytest.raises(ValueError, match=r"X has shape \(3, 4, 4\); expected \(N, C, H, W\)"):
        style.gram(X[0])
    with pytest.raises(ValueError, match=r"X is torch\.int64; expected floating point"):
        style.gram(X.long())
    with pytest.raises(ValueError, match=r"Y \(2, 2, 4, 4\); expected the same B and C"):
        style.gatys_style(X, X[:, :2])
    with pytest.raises(ValueError, match=r"Y \(1, 3, 4, 4\); expected the same B and C"):
        style.masked_gram_style(X, X[:1], mask, mask)
    with pytest.raises(ValueError, match=r"Y \(2, 3, 4, 3\); expected equal shapes"):
        style.gatys_content(X, X[..., :3])
    for form in (0, 4):
        with pytest.raises(ValueError, match=f"form is {form}; expected 1, 2 or 3"):
            style.gatys_content(X, X, form=form)
    with pytest.raises(ValueError, match=r"masks_Y has shape \(2, 4, 4\); expected \(1, 4, 4\)"):
        style.masked_gram_style(X, X, mask, mask.repeat(2, 1, 1))
    with pytest.raises(ValueError, match=r"masks_X has shape \(1, 4, 3\); expected \(1, 4, 4\)"):
        style.masked_gram_style(X, X, mask[..., :3], mask)
    with pytest.raises(ValueError, match=r"masks_X is torch\.bool"):
        style.masked_gram_style(X, X, mask.bool(), mask)
