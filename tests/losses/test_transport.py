"""STROTSS' terms against loops in float64, their normalisations and invariants."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from skimage import data
from torch import Tensor

from enhancelib import features as networks
from enhancelib.losses import transport

Array = NDArray[np.float64]
Loss = Callable[..., Tensor]
LOSSES: dict[str, Loss] = {
    "remd": transport.remd,
    "moments": transport.moments,
    "palette": transport.palette,
    "self_similarity": transport.self_similarity,
}
# RGB - 0.5 of 300 pixels of astronaut against chelsea's; the loops below say the same on fewer
PINNED = {
    "remd": 0.0194349750,
    "moments": 0.0776121392,
    "palette": 0.128751312,
    "self_similarity": 0.900383911,
    "strotss": 0.626957239,
}


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def cosine(a: Array, b: Array) -> float:
    return 1 - sum(p * q for p, q in zip(a, b, strict=True)) / (
        math.sqrt(sum(p * p for p in a)) * math.sqrt(sum(q * q for q in b))
    )


def relaxed(distances: list[list[float]]) -> float:
    """Of rows of distances."""
    there = sum(min(row) for row in distances) / len(distances)
    columns = list(zip(*distances, strict=True))
    back = sum(min(column) for column in columns) / len(columns)
    return max(there, back)


def remd_by_loops(x: Array, y: Array) -> float:
    return relaxed([[cosine(a, b) for b in y] for a in x])


def moments_by_loops(x: Array, y: Array) -> float:
    means, covariances = [], []
    for one in (x, y):
        n, D = one.shape
        mu = [sum(one[i, a] for i in range(n)) / n for a in range(D)]
        means.append(np.array(mu))
        covariances.append(
            np.array(
                [
                    [
                        sum((one[i, a] - mu[a]) * (one[i, b] - mu[b]) for i in range(n)) / n
                        for b in range(D)
                    ]
                    for a in range(D)
                ]
            )
        )
    return float(abs(means[0] - means[1]).mean() + abs(covariances[0] - covariances[1]).mean())


def palette_by_loops(x: Array, y: Array) -> float:
    turn = np.array([[0.57735, 0.57735, 0.57735], [-0.57735, 0.788675, -0.211325],
                     [-0.57735, -0.211325, 0.788675]])  # fmt: skip
    a, b = ([turn @ colour for colour in one] for one in (x, y))
    return relaxed([[cosine(p, q) + math.sqrt(((p - q) ** 2).sum() / 3) for q in b] for p in a])


def similarity_by_loops(x: Array, c: Array) -> float:
    n, total = len(x), 0.0
    tables = [[[cosine(a, b) for b in one] for a in one] for one in (x, c)]
    sums = [[sum(table[i][j] for i in range(n)) for j in range(n)] for table in tables]
    for i in range(n):
        for j in range(n):
            total += abs(tables[0][i][j] / sums[0][j] - tables[1][i][j] / sums[1][j])
    return n * total / n**2


@pytest.mark.parametrize(("n", "m", "D"), [(7, 7, 4), (5, 9, 3), (9, 4, 6), (1, 3, 2)])
@pytest.mark.parametrize("shift", [0.0, 1.5])
def test_remd_and_moments_by_loops(n: int, m: int, D: int, shift: float) -> None:
    """Where x is in the majority its own mean decides, elsewhere the one of y."""
    x, y = draw(n, D) + shift, draw(m, D, seed=1)
    for name, by_loops in (("remd", remd_by_loops), ("moments", moments_by_loops)):
        found, wanted = float(LOSSES[name](x, y)), by_loops(x.numpy(), y.numpy())
        assert found == pytest.approx(wanted, rel=1e-10), name


def test_remd_is_the_larger_of_both_directions() -> None:
    x = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    y = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    assert float(transport.remd(x, y)) == 0.5  # all of x is found in y, half of y in x
    assert float(transport.remd(y, x)) == 0.5


@pytest.mark.parametrize(("n", "m"), [(6, 9), (9, 6), (1, 1)])
def test_palette_by_loops(n: int, m: int) -> None:
    x, y = (torch.rand(k, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(k + 9))
            - 0.5 for k in (n, m))  # fmt: skip
    found = float(transport.palette(x, y))
    assert found == pytest.approx(palette_by_loops(x.numpy(), y.numpy()), rel=1e-10)


def test_the_colours_are_rotated() -> None:
    """Lengths stay, so that a rotation shows only in its rounded figures and by the first axis."""
    turned = transport._turned(torch.eye(3, dtype=torch.float64))
    torch.testing.assert_close(turned @ turned.T, torch.eye(3).double(), rtol=0, atol=2e-6)
    grey = transport._turned(torch.ones(1, 3).double())
    torch.testing.assert_close(grey, torch.tensor([[3**0.5, 0, 0]]).double(), rtol=0, atol=2e-6)


@pytest.mark.parametrize(("n", "D", "other"), [(6, 4, 4), (9, 3, 5), (2, 3, 3)])
def test_self_similarity_by_loops(n: int, D: int, other: int) -> None:
    x, c = draw(n, D), draw(n, other, seed=1)
    found = float(transport.self_similarity(x, c))
    assert found == pytest.approx(similarity_by_loops(x.numpy(), c.numpy()), rel=1e-10, abs=1e-14)


def test_two_features_have_one_shape_only() -> None:
    assert float(transport.self_similarity(draw(2, 3), draw(2, 3, seed=1))) < 1e-12


@pytest.mark.parametrize("alpha", [0.0, 0.25, 1.0, 4.0, 16.0])
def test_total(alpha: float) -> None:
    x, y, c = draw(8, 6), draw(11, 6, seed=1), draw(8, 6, seed=2)
    a, b, d = (one.numpy() for one in (x, y, c))
    wanted = alpha * similarity_by_loops(a, d) + remd_by_loops(a, b) + moments_by_loops(a, b)
    wanted += palette_by_loops(a[:, :3], b[:, :3]) / max(alpha, 1)
    found = float(transport.strotss(x, y, c, alpha=alpha))
    assert found == pytest.approx(wanted / (alpha + 2), rel=1e-10)


def test_alpha_of_the_coarsest_scale_is_the_default() -> None:
    x, y = draw(8, 6), draw(11, 6, seed=1)
    torch.testing.assert_close(
        transport.strotss(x, y, 2 + x), transport.strotss(x, y, 2 + x, alpha=16.0)
    )


def colours(name: str) -> Tensor:
    photo = torch.from_numpy(getattr(data, name)()).double().flatten(0, 1) / 255 - 0.5
    return photo[:: len(photo) // 300][:300]


def test_values_on_photos() -> None:
    x, y = colours("astronaut"), colours("chelsea")
    for name, loss in LOSSES.items():
        assert float(loss(x, y)) == pytest.approx(PINNED[name], rel=1e-6), name
    total = transport.strotss(x, y, x.flip(0), alpha=4.0)
    assert float(total) == pytest.approx(PINNED["strotss"], rel=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_identity_symmetry_and_order(name: str) -> None:
    x, y = draw(9, 3), draw(9, 3, seed=1)
    loss = LOSSES[name]
    assert float(loss(x, x)) == pytest.approx(0, abs=1e-12)
    assert float(loss(x, y)) > 0.01
    assert float(loss(x, y)) == pytest.approx(float(loss(y, x)), rel=1e-12)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(2))
    both = y[order] if name == "self_similarity" else y
    assert float(loss(x[order], both)) == pytest.approx(float(loss(x, y)), rel=1e-12)


def test_what_each_term_is_blind_to() -> None:
    x, y = draw(9, 4), draw(9, 4, seed=1)
    lengths = 0.1 + torch.rand(9, 1, generator=torch.Generator().manual_seed(2)).double()
    torch.testing.assert_close(transport.remd(lengths * x, y), transport.remd(x, y))
    turn = torch.linalg.qr(draw(4, 4, seed=3)).Q
    torch.testing.assert_close(
        transport.self_similarity(5 * x @ turn, y), transport.self_similarity(x, y)
    )
    assert float(transport.self_similarity(5 * x @ turn, x)) < 1e-12
    # the term that holds the magnitudes is the one of the moments
    assert float(transport.moments(3 * x, y)) > 1.5 * float(transport.moments(x, y))
    assert 0 <= float(transport.remd(x, -x)) <= 2
    assert 0 <= float(transport.self_similarity(x, y)) <= 2


def test_equal_sets_have_finite_gradients() -> None:
    """The root of a distance of 0, and columns whose sum is 0, have no slope of their own."""
    for colour in ((0.25, 0.25, 0.25), (1.0, 0.0, 0.0), (0.1, 0.7, 0.3)):
        y = torch.tensor([colour] * 6)
        x = y.clone().requires_grad_()
        for name, loss in LOSSES.items():
            value = loss(x, y)
            (gradient,) = torch.autograd.grad(value, x)
            assert float(value.detach()) < 0.3, name
            assert bool(gradient.isfinite().all()), name
    zero = torch.zeros(6, 3, requires_grad=True)
    value = transport.remd(zero, y)
    (gradient,) = torch.autograd.grad(value, zero)
    assert float(value.detach()) == 1
    assert bool(gradient.isfinite().all())


@pytest.mark.parametrize("name", LOSSES)
def test_gradient(name: str) -> None:
    x, y = draw(5, 3).requires_grad_(), draw(5, 3, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(LOSSES[name], (x, y))


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_short_floats_are_widened(name: str, dtype: torch.dtype) -> None:
    x, y = draw(9, 3).to(dtype), draw(9, 3, seed=1).to(dtype)
    wanted = LOSSES[name](x.float(), y.float())
    found = LOSSES[name](x, y)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, wanted)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(LOSSES[name](x.float(), y.float()), wanted)


def test_float32_is_near_float64() -> None:
    x, y = colours("astronaut"), colours("chelsea")
    for name, loss in LOSSES.items():
        found = float(loss(x.float(), y.float()))
        assert found == pytest.approx(float(loss(x, y)), rel=1e-5), name


def column_by_loops(features: list[Array], row: float, column: float) -> list[float]:
    """Position halved wherever a map has half the size, as the released code does it."""
    found: list[float] = []
    for number, maps in enumerate(features):
        if number and features[number - 1].shape[2] > maps.shape[2]:
            row, column = row / 2, column / 2
        h, w = maps.shape[2:]
        i, j = math.floor(row), math.floor(column)
        p, q = row - i, column - j
        i, j = min(i, h - 1), min(j, w - 1)
        for plane in maps[0]:
            corners = [
                (1 - p) * (1 - q) * plane[i, j],
                (1 - p) * q * plane[i, min(j + 1, w - 1)],
                p * (1 - q) * plane[min(i + 1, h - 1), j],
                p * q * plane[min(i + 1, h - 1), min(j + 1, w - 1)],
            ]
            found.append(float(sum(corners)))
    return found


@pytest.mark.parametrize("rounding", [math.floor, math.ceil])
@pytest.mark.parametrize("size", [(16, 24), (13, 19)])
def test_hypercolumns_by_loops(size: tuple[int, int], rounding: Callable[[float], int]) -> None:
    maps, (h, w) = [draw(1, 3, *size)], size
    for channels, halved in ((4, False), (2, True), (5, False), (3, True), (2, True)):
        if halved:
            h, w = rounding(h / 2), rounding(w / 2)
        maps.append(draw(1, channels, h, w, seed=channels))
    places = [(0, 0), (size[0] - 1, size[1] - 1), (5, 7), (11, 2), (0, size[1] - 1), (3, 18)]
    found = transport.hypercolumns(maps, torch.tensor(places))
    assert found.shape == (6, 19)
    arrays = [one.numpy() for one in maps]
    for row, place in zip(found, places, strict=True):
        np.testing.assert_allclose(row, column_by_loops(arrays, *place), rtol=1e-12, atol=1e-15)


def test_hypercolumns_between_pixels_and_over_two_poolings() -> None:
    fine, coarse = draw(1, 1, 8, 8), draw(1, 2, 2, 2, seed=1)
    found = transport.hypercolumns([fine, coarse], torch.tensor([[1.5, 3.25], [2.0, 1.0]]))
    bilinear = column_by_loops([fine.numpy()], 1.5, 3.25)
    assert found[0, :1].tolist() == pytest.approx(bilinear)
    assert found[1, 1:].tolist() == pytest.approx(column_by_loops([coarse.numpy()], 0.5, 0.25))


def test_gradient_of_hypercolumns() -> None:
    maps = [draw(1, 2, 6, 5).requires_grad_(), draw(1, 3, 3, 2, seed=1).requires_grad_()]
    places = torch.tensor([[0, 0], [5, 4], [3, 1]])
    assert torch.autograd.gradcheck(lambda a, b: transport.hypercolumns([a, b], places), maps)


def test_on_vgg16(features: Path) -> None:
    """2179 channels of the official layers; a photo is nearer to its mirrored self in style."""
    layers = (
        "relu1_1", "relu1_2", "relu2_1", "relu2_2", "relu3_1", "relu3_2", "relu3_3", "relu4_3",
        "relu5_3",
    )  # fmt: skip
    vgg16 = networks.load("vgg16")
    generator = torch.Generator().manual_seed(0)
    places = torch.stack([torch.randint(96, (200,), generator=generator) for _ in "yx"], dim=1)
    sets = []
    astronaut, chelsea = (one[100:196, 100:196] for one in (data.astronaut(), data.chelsea()))
    for photo in (astronaut, astronaut[:, ::-1], chelsea):
        image = torch.from_numpy(photo.copy()).permute(2, 0, 1)[None] / 255
        maps = vgg16(image, layers)
        sets.append(transport.hypercolumns([image - 0.5, *(maps[k] for k in layers)], places))
    assert sets[0].shape == (200, 2179)
    for loss in (transport.remd, transport.moments):
        assert float(loss(sets[1], sets[0])) < float(loss(sets[2], sets[0]))
    assert float(transport.strotss(sets[0], sets[0], sets[0])) < 1e-4


def test_wrong_input_is_refused() -> None:
    x = draw(5, 4)
    for name in ("remd", "moments", "palette"):
        with pytest.raises(ValueError, match=r"y \(5, 3\); expected \(n, D\) and \(m, D\)"):
            LOSSES[name](x, x[:, :3])
    for name, loss in LOSSES.items():
        with pytest.raises(ValueError, match=r"expected \(n, D\) and \(m, D\)"):
            loss(x[None], x[None])
        with pytest.raises(ValueError, match=r"is torch\.int64; expected floating point"):
            loss(x, x.long())
        with pytest.raises(ValueError, match="at least one value"):
            loss(x[:0], x[:0])
        assert name
    with pytest.raises(ValueError, match="expected 3 columns"):
        transport.palette(x, x)
    with pytest.raises(ValueError, match=r"c \(4, 4\); expected the same number of rows"):
        transport.self_similarity(x, x[:4])
    for alpha in (-1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="expected 0 or more"):
            transport.strotss(x, x, x, alpha=alpha)


def test_wrong_positions_are_refused() -> None:
    maps = [draw(1, 2, 6, 5)]
    with pytest.raises(ValueError, match="features is empty"):
        transport.hypercolumns([], torch.tensor([[0, 0]]))
    with pytest.raises(ValueError, match=r"features\[1\] has shape \(2, 2, 6, 5\)"):
        transport.hypercolumns([*maps, draw(2, 2, 6, 5)], torch.tensor([[0, 0]]))
    with pytest.raises(ValueError, match=r"positions has shape \(2,\); expected \(n, 2\)"):
        transport.hypercolumns(maps, torch.tensor([0, 0]))
    for place in ([6, 0], [0, 5], [-1, 0]):
        with pytest.raises(ValueError, match=r"from 0 below \(6, 5\)"):
            transport.hypercolumns(maps, torch.tensor([place, [0, 0]]))
