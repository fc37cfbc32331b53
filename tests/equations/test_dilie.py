"""The lettered and numbered equations of the DILIE notebook, held by value.

Eqs. 1, 2, 3, 7 and 10 are definitions. Every other one is compared with its transcription on
random input, flat input, single values and oblong shapes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from enhancelib.degradations.haze import scattered
from enhancelib.losses.contextual import contextual, similarity
from enhancelib.losses.photorealism import MattingLaplacian, matting
from enhancelib.losses.transport import moments, palette, remd, self_similarity, strotss
from enhancelib.papers.dilie import restyling
from enhancelib.papers.dilie.cfe import Content, decomposition, objective, reconstruction
from enhancelib.papers.dilie.haziness import relative_haze
from enhancelib.papers.dilie.restyling import Loss, Problem
from tests.equations import transcriptions_dilie as printed

SHAPES = [(6, 6), (5, 9), (8, 5)]
COUNTS = [(4, 4, 3), (6, 5, 7), (3, 9, 2), (1, 1, 4)]
"""Positions of one set, of the other, channels."""


def drawn(*shape: int, seed: int, low: float = 0.0, high: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return low + (high - low) * torch.rand(*shape, generator=generator, dtype=torch.float64)


def layers(height: int, width: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """J, A, t and I."""
    J, A, image = (drawn(1, 3, height, width, seed=seed + k) for k in range(3))
    return J, A, drawn(1, 1, height, width, seed=seed + 3), image


def arrays(*tensors: Tensor) -> list[printed.Array]:
    return [tensor[0].numpy() for tensor in tensors]


def rows(maps: Tensor) -> printed.Array:
    """(1, C, h, w) -> (h w, C)."""
    found: printed.Array = maps[0].flatten(1).T.numpy()
    return found


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", ["random", "t=0", "t=1"])
def test_eq_4(shape: tuple[int, int], kind: str) -> None:
    J, A, t, image = layers(*shape)
    t = {"random": t, "t=0": torch.zeros_like(t), "t=1": torch.ones_like(t)}[kind]
    expected = printed.eq_4(*arrays(J, A, t, image))
    assert float(decomposition(J, A, t, image)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("counts", COUNTS)
@pytest.mark.parametrize("h", [0.1, 0.5, 1.0])
def test_eq_5(counts: tuple[int, int, int], h: float) -> None:
    n, _, channels = counts
    X, Y = (drawn(1, channels, n, 2, seed=k, low=-1.0) for k in (1, 2))
    expected = printed.eq_5(rows(X), rows(Y), h)
    assert float(contextual(X, Y, h=h)) == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert float(contextual(X, Y, h=h, chunk=3)) == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("counts", COUNTS)
def test_eq_cx(counts: tuple[int, int, int]) -> None:
    n, m, channels = counts
    X, Y = (drawn(1, channels, n, m, seed=k, low=-1.0) for k in (3, 4))
    expected = printed.cx(rows(X), rows(Y), 0.5)
    assert similarity(X, Y).item() == pytest.approx(expected, rel=1e-9)
    assert similarity(X, X).item() == pytest.approx(printed.cx(rows(X), rows(X), 0.5), rel=1e-9)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("transform", [None, "half", "masked"])
def test_eq_6(shape: tuple[int, int], transform: str | None) -> None:
    height, width = shape
    output = drawn(1, 3, 2 * height, 2 * width, seed=5)
    mask = (drawn(1, 1, 2 * height, 2 * width, seed=6) > 0.5).double()
    pairs: Mapping[str, tuple[Callable[[Tensor], Tensor], Callable[[printed.Array], printed.Array]]]
    pairs = {
        "half": (
            lambda x: x[..., ::2, ::2] / 2,
            lambda x: np.stack([plane[::2, ::2] / 2 for plane in x]),
        ),
        "masked": (lambda x: mask * x, lambda x: x * mask[0].numpy()),
    }
    ours, theirs = pairs[transform] if transform else (None, lambda x: x)
    image = drawn(*(ours(output) if ours else output).shape, seed=7)
    expected = printed.eq_6(output[0].numpy(), image[0].numpy(), theirs)
    found = reconstruction(output, image, transform=ours)
    assert float(found) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_eq_8(shape: tuple[int, int]) -> None:
    J, A, t, _ = layers(*shape)
    expected = printed.eq_8(*arrays(J, t, A))
    np.testing.assert_allclose(scattered(J, t, A)[0].numpy(), expected, rtol=1e-12)
    one = A[..., :1, :1]
    expected = printed.eq_8(*arrays(J, t, one.expand_as(J)))
    np.testing.assert_allclose(scattered(J, t, one)[0].numpy(), expected, rtol=1e-12)


class _Colours(nn.Module):
    """Stands where VGG19 stands: every layer is the picture, halved."""

    layers = ("pool0", "relu1_2", "relu2_2", "relu3_2", "relu4_2")

    def forward(self, image: Tensor, wanted: Sequence[str]) -> dict[str, Tensor]:
        return dict.fromkeys(wanted, image[..., ::2, ::2])


@pytest.mark.parametrize("shape", [(8, 8), (7, 10)])
@pytest.mark.parametrize("lam", [0.0, 0.001, 0.5])
@pytest.mark.parametrize("learned", [False, True])
def test_eq_9(shape: tuple[int, int], lam: float, learned: bool) -> None:
    J, A, t, image = layers(*shape, seed=20)
    start = drawn(1, 3, *shape, seed=30)
    content = Content(lam, network=_Colours()) if lam else None
    sample = {"J": J, "A": A, "t": t, "degraded": image, "airlight": start}
    if content:
        sample |= {n: v.double() for n, v in content.target(image).items()}
    small = [one[..., ::2, ::2] for one in (J, image)]
    ccl = printed.eq_5(rows(small[0]), rows(small[1]), 0.5) if lam else 0.0
    made = arrays(J, A, t)
    together = (made[0], made[1], made[2])
    whole = image[0].numpy()
    if learned:
        expected = printed.eq_9_learned(together, whole, lam, ccl, start[0].numpy())
    else:
        expected = printed.eq_9(together, whole, lam, ccl)
    total, _ = objective(content, learned=learned)(0)(sample)
    assert float(total) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("weights", [(1.0, 1.0, 1e4), (5.0, 100.0, 0.0), (0.0, 2.0, 3.0)])
def test_eq_pe(weights: tuple[float, float, float], monkeypatch: pytest.MonkeyPatch) -> None:
    alpha, beta, gamma = weights
    monkeypatch.setattr(restyling, "vgg19", lambda *_, **__: _Colours())
    C, S, E = (drawn(3, 6, 8, seed=k).float() for k in (40, 41, 42))
    loss = Loss(alpha=alpha, beta=beta, gamma=gamma)
    pose: Problem = restyling.problem(C, S, loss=loss)
    total, _ = pose.objective()({**pose.given, "output": E[None]})
    small = {k: rows(v[None, :, ::2, ::2].double()) for k, v in (("C", C), ("S", S), ("E", E))}
    content = printed.eq_5(small["E"], small["C"], 0.5)
    style = 3 * printed.eq_5(small["E"], small["S"], 0.5)  # three layers, all the same here
    aff = printed.eq_aff(E.double().numpy(), C.double().numpy(), 1e-7)
    expected = printed.eq_pe(alpha, content, beta, style, gamma, aff)
    assert float(total) == pytest.approx(expected, rel=2e-3)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("eps", [1e-7, 1e-3])
def test_eq_aff(shape: tuple[int, int], eps: float) -> None:
    image, guide = drawn(1, 3, *shape, seed=50), drawn(1, 3, *shape, seed=51)
    expected = printed.eq_aff(*arrays(image, guide), eps)
    assert float(matting(image, guide, eps=eps)) == pytest.approx(expected, rel=1e-6)
    assert float(MattingLaplacian(guide, eps=eps).loss(image)) == pytest.approx(expected, rel=1e-6)
    changed = torch.einsum("ab,nbhw->nahw", drawn(3, 3, seed=52), guide) + 0.3
    assert abs(float(matting(changed, guide, eps=1e-7))) < 1e-5


def sets(counts: tuple[int, int, int], seed: int) -> tuple[Tensor, Tensor]:
    n, m, channels = counts
    return drawn(n, channels, seed=seed, low=-1), drawn(m, channels, seed=seed + 1, low=-1)


@pytest.mark.parametrize("counts", COUNTS)
def test_eq_remd(counts: tuple[int, int, int]) -> None:
    x, y = sets(counts, 60)
    assert float(remd(x, y)) == pytest.approx(printed.eq_remd(x.numpy(), y.numpy()), rel=1e-9)


@pytest.mark.parametrize("counts", COUNTS)
def test_eq_moments(counts: tuple[int, int, int]) -> None:
    x, y = sets(counts, 70)
    assert float(moments(x, y)) == pytest.approx(printed.eq_moments(x.numpy(), y.numpy()), rel=1e-9)


@pytest.mark.parametrize("counts", [(4, 4, 3), (6, 5, 7), (2, 2, 4)])
def test_eq_self(counts: tuple[int, int, int]) -> None:
    n, _, channels = counts
    x, c = drawn(n, channels, seed=80, low=-1), drawn(n, channels + 1, seed=81, low=-1)
    expected = printed.eq_self_similarity(x.numpy(), c.numpy())
    assert float(self_similarity(x, c)) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("alpha", [16.0, 1.0, 0.25, 0.0])
def test_eq_ae(alpha: float) -> None:
    x, y = sets((5, 6, 7), 90)
    c = drawn(5, 7, seed=95, low=-1)
    a, b = x.numpy(), y.numpy()
    expected = printed.eq_ae(
        alpha,
        printed.eq_self_similarity(a, c.numpy()),
        printed.eq_remd(a, b),
        printed.eq_moments(a, b),
        printed.eq_palette(a[:, :3], b[:, :3]),
    )
    assert float(strotss(x, y, c, alpha=alpha)) == pytest.approx(expected, rel=1e-9)
    assert float(palette(x[:, :3], y[:, :3])) == pytest.approx(
        printed.eq_palette(a[:, :3], b[:, :3]), rel=1e-9
    )


def test_eq_h() -> None:
    clean, hazy, other = (drawn(2, 3, 5, 6, seed=k) for k in (100, 101, 102))

    def error(reference: Tensor, distorted: Tensor) -> Tensor:
        return (reference - 2 * distorted).abs().mean((1, 2, 3))

    def literal(reference: printed.Array, distorted: printed.Array) -> float:
        return float(np.abs(reference - 2 * distorted).mean())

    found = relative_haze(error, clean, hazy, other)
    for k in range(2):
        expected = printed.eq_h(literal, clean[k].numpy(), hazy[k].numpy(), other[k].numpy())
        assert float(found[k]) == pytest.approx(expected, rel=1e-12)


EQUATIONS: Mapping[str, Callable[..., None]] = {
    "4": test_eq_4,
    "5": test_eq_5,
    "CX": test_eq_cx,
    "6": test_eq_6,
    "8": test_eq_8,
    "9": test_eq_9,
    "PE": test_eq_pe,
    "aff": test_eq_aff,
    "AE": test_eq_ae,
    "REMD": test_eq_remd,
    "moments": test_eq_moments,
    "self": test_eq_self,
    "H": test_eq_h,
}
