"""Contextual similarity: by loops, at its bounds, blind to places, stable where exp is not."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from skimage import data
from torch import Tensor
from torch.nn import functional as F

from enhancelib import features as networks
from enhancelib.losses import contextual as module
from enhancelib.losses.contextual import contextual, similarity

# colours of 4 x 4 cells of astronaut against those two cells to the right
PINNED = 0.106663736


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_loops(X: Tensor, Y: Tensor, h: float) -> list[float]:
    """The definition with exp and sums, point by point."""
    mean = Y.numpy().mean(axis=(0, 2, 3))
    found = []
    for x, y in zip(X.numpy(), Y.numpy(), strict=True):
        xs = [v - mean for v in x.reshape(len(mean), -1).T]
        ys = [v - mean for v in y.reshape(len(mean), -1).T]
        table = np.zeros((len(xs), len(ys)))
        for i, a in enumerate(xs):
            d = [(1 - a @ b / math.sqrt((a @ a) * (b @ b))) / 2 for b in ys]
            w = [math.exp((1 - one / (min(d) + 1e-5)) / h) for one in d]
            table[i] = [one / sum(w) for one in w]
        found.append(float(table.max(axis=0).mean()))
    return found


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (1, 8, 1, 7), (3, 2, 3, 1)])
@pytest.mark.parametrize("h", [0.1, 0.5, 2.0])
def test_by_loops(shape: tuple[int, ...], h: float) -> None:
    X, Y = draw(*shape), draw(*shape, seed=1)
    wanted = by_loops(X, Y, h)
    np.testing.assert_allclose(similarity(X, Y, h=h), wanted, rtol=1e-9)
    loss = sum(-math.log(one) for one in wanted) / len(wanted)
    assert float(contextual(X, Y, h=h)) == pytest.approx(loss, rel=1e-9)


def test_default_bandwidth_is_a_half() -> None:
    X, Y = draw(2, 3, 4, 5), draw(2, 3, 4, 5, seed=1)
    assert torch.equal(similarity(X, Y), similarity(X, Y, h=0.5))
    assert torch.equal(contextual(X, Y), contextual(X, Y, h=0.5))


def test_equal_features_are_alike_and_others_less() -> None:
    X, Y = draw(2, 8, 6, 6), draw(2, 8, 6, 6, seed=1)
    torch.testing.assert_close(similarity(X, X), torch.ones(2, dtype=torch.float64))
    assert abs(float(contextual(X, X))) < 1e-9
    found = similarity(X, Y)
    assert bool((found < 0.9).all())
    assert bool((found >= 1 / 36).all())
    assert 0 < float(contextual(X, Y)) < math.log(36)


def test_without_any_structure_it_is_log_n() -> None:
    flat = torch.full((2, 4, 3, 5), 0.5, dtype=torch.float64)
    torch.testing.assert_close(similarity(flat, flat), torch.full((2,), 1 / 15).double())
    assert float(contextual(flat, flat)) == pytest.approx(math.log(15), rel=1e-12)


def test_a_single_position_has_nothing_to_choose() -> None:
    X, Y = draw(2, 4, 1, 1), draw(2, 4, 1, 1, seed=1)
    assert float(contextual(X, Y)) == 0
    assert float(contextual(X[:1], Y[:1])) == 0


def test_it_is_not_symmetric() -> None:
    """Shares add up over Y and the best is sought over X."""
    X, Y = draw(1, 8, 4, 4), draw(1, 8, 4, 4, seed=1)
    X[:, :, 1:] = X[:, :, :1] + 0.1 * X[:, :, 1:]  # of few kinds, Y of many
    assert float(contextual(X, Y)) < 0.95 * float(contextual(Y, X))


def test_it_is_blind_to_places_and_to_a_common_factor() -> None:
    X, Y = draw(2, 5, 4, 6), draw(2, 5, 4, 6, seed=1)
    order = torch.randperm(24, generator=torch.Generator().manual_seed(2))
    moved = X.flatten(2)[..., order].view_as(X)
    torch.testing.assert_close(similarity(moved, Y), similarity(X, Y))
    torch.testing.assert_close(similarity(X, Y.flip(2)), similarity(X, Y))
    torch.testing.assert_close(similarity(300 * X, 300 * Y), similarity(X, Y))


def test_the_centre_is_the_mean_of_y_over_the_batch() -> None:
    X, Y = draw(2, 5, 4, 6), draw(2, 5, 4, 6, seed=1)
    shift = draw(1, 5, 1, 1, seed=3)
    torch.testing.assert_close(similarity(X + shift, Y + shift), similarity(X, Y))
    alone = similarity(X[:1], Y[:1])
    assert float(alone) != pytest.approx(float(similarity(X, Y)[0]), rel=1e-3)
    assert not torch.allclose(similarity(X + shift, Y), similarity(X, Y), rtol=1e-3)


def test_the_loss_is_the_mean_of_the_logarithms() -> None:
    """Not the logarithm of the mean."""
    X = draw(2, 6, 4, 4)
    Y = torch.stack([X[0], draw(6, 4, 4, seed=1)])
    found = similarity(X, Y)
    assert float(contextual(X, Y)) == pytest.approx(float(-found.log().mean()), rel=1e-12)
    assert float(contextual(X, Y)) != pytest.approx(-math.log(float(found.mean())), rel=0.05)


def test_gradient() -> None:
    X, Y = draw(2, 3, 2, 3).requires_grad_(), draw(2, 3, 2, 3, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(contextual, (X, Y))
    assert torch.autograd.gradcheck(lambda a, b: contextual(a, b, h=1.5), (X, Y))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("h", [0.001, 0.5])
def test_it_stays_finite_where_exp_would_not(dtype: torch.dtype, h: float) -> None:
    """Equal features: the least d is 0, so that exp((1 - dtilde) / h) is exp(1 / h)."""
    Y = draw(1, 4, 5, 5).to(dtype)
    X = Y.clone().requires_grad_()
    loss = contextual(X, Y, h=h)
    (gradient,) = torch.autograd.grad(loss, X)
    assert math.isfinite(float(loss.detach()))
    assert bool(gradient.isfinite().all())


def test_more_positions_than_the_cap() -> None:
    X, Y = draw(2, 3, 8, 9), draw(2, 3, 8, 9, seed=1)
    fixed = similarity(X, Y, positions=20)
    assert torch.equal(fixed, similarity(X, Y, positions=20))
    drawn = [
        similarity(X, Y, positions=20, generator=torch.Generator().manual_seed(seed))
        for seed in (5, 5, 6)
    ]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    state = torch.random.get_rng_state()
    similarity(X, Y, positions=20)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_the_same_positions_are_kept_in_both() -> None:
    X = draw(2, 3, 8, 9)
    capped = similarity(X, X, positions=20)
    torch.testing.assert_close(capped, torch.ones_like(capped))
    kept = torch.randperm(72, generator=torch.Generator().manual_seed(4))[:20]
    Y = draw(2, 3, 8, 9, seed=1)
    found = similarity(X, Y, positions=20, generator=torch.Generator().manual_seed(4))
    x, y = (one.flatten(2)[..., kept][..., None] for one in (X, Y))
    torch.testing.assert_close(found, similarity(x, y))


def test_below_the_cap_nothing_is_drawn() -> None:
    X, Y = draw(1, 3, 5, 4), draw(1, 3, 5, 4, seed=1)
    generator = torch.Generator().manual_seed(0)
    before = generator.get_state()
    assert torch.equal(
        similarity(X, Y, positions=20, generator=generator), similarity(X, Y, positions=10**6)
    )
    assert torch.equal(generator.get_state(), before)
    assert similarity(X, Y, positions=1).tolist() == pytest.approx([1.0])


def test_cap_of_ppcn() -> None:
    X, Y = draw(1, 2, 66, 65).float(), draw(1, 2, 66, 65, seed=1).float()
    assert torch.equal(similarity(X, Y), similarity(X, Y, positions=65 * 65))
    assert not torch.equal(similarity(X, Y), similarity(X, Y, positions=66 * 65))


def test_a_batch_in_pieces_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    X, Y = draw(5, 3, 4, 4), draw(5, 3, 4, 4, seed=1)
    whole = similarity(X, Y)
    for entries in (1, 2 * 16**2):
        monkeypatch.setattr(module, "_AT_ONCE", entries)
        torch.testing.assert_close(similarity(X, Y), whole)


def with_gradient(X: Tensor, Y: Tensor, **options: int | float | None) -> tuple[Tensor, ...]:
    """The loss and both gradients."""
    x, y = (one.clone().requires_grad_() for one in (X, Y))
    loss = contextual(x, y, **options)  # type: ignore[arg-type]
    return (loss.detach(), *torch.autograd.grad(loss, (x, y)))


@pytest.mark.parametrize("chunk", [1, 5, 19, 20, 1000])
@pytest.mark.parametrize("h", [0.1, 0.5])
def test_in_chunks_by_loops(chunk: int, h: float) -> None:
    X, Y = draw(2, 3, 4, 5), draw(2, 3, 4, 5, seed=1)
    np.testing.assert_allclose(similarity(X, Y, h=h, chunk=chunk), by_loops(X, Y, h), rtol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("chunk", [1, 50, 75, 143])
def test_chunks_equal_the_whole_table_in_value_and_gradient(dtype: torch.dtype, chunk: int) -> None:
    X, Y = (draw(2, 16, 12, 12, seed=seed).to(dtype) for seed in (0, 1))
    whole = with_gradient(X, Y, chunk=144)
    for found, wanted in zip(with_gradient(X, Y, chunk=chunk), whole, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5 * float(wanted.abs().max()))


def test_chunks_on_features_of_a_photo() -> None:
    """1024 positions of 48 values, many of them equal in both."""
    X, Y = photo_features(0), photo_features(8)
    whole, chunked = (with_gradient(X, Y, chunk=chunk) for chunk in (1024, 200))
    for found, wanted in zip(chunked, whole, strict=True):
        torch.testing.assert_close(found, wanted)
    short, chunked = (with_gradient(X.float(), Y.float(), chunk=chunk) for chunk in (1024, 200))
    assert float(chunked[0]) == pytest.approx(float(short[0]), rel=1e-5)
    # 1 - cos of equal features is rounding error, of which the denominator's 1e-5 is 100 times
    assert float(chunked[0]) == pytest.approx(float(whole[0]), rel=1e-3)


def test_float32_is_enough_for_another_photo() -> None:
    other = torch.from_numpy(data.chelsea()).permute(2, 0, 1)[None].double() / 255
    X, Y = F.pixel_unshuffle(other[..., 100:228, 100:228], 4), photo_features(0)
    wanted, found = contextual(X, Y), contextual(X.float(), Y.float(), chunk=200)
    assert float(found) == pytest.approx(float(wanted), rel=1e-5)


def test_gradient_in_chunks() -> None:
    X, Y = draw(2, 3, 2, 4).requires_grad_(), draw(2, 3, 2, 4, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: contextual(a, b, chunk=3), (X, Y))


def test_large_tables_are_made_in_chunks_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    X, Y = draw(3, 4, 6, 6), draw(3, 4, 6, 6, seed=1)
    whole = with_gradient(X, Y)
    seen: list[int] = []
    made = module._best_rows
    monkeypatch.setattr(
        module, "_best_rows", lambda x, *rest: (seen.append(x.shape[2]), made(x, *rest))[1]
    )
    monkeypatch.setattr(module, "_AT_ONCE", 10 * 36)
    for found, wanted in zip(with_gradient(X, Y), whole, strict=True):
        torch.testing.assert_close(found, wanted)
    assert set(seen) == {10, 6}
    assert len(seen) == 2 * 3 * 4  # three pictures, four chunks, there and on the way back


def test_a_table_at_the_cap_is_whole() -> None:
    assert module._AT_ONCE // 65**2 == 65**2


def test_without_a_cap() -> None:
    X, Y = draw(1, 2, 66, 65).float(), draw(1, 2, 66, 65, seed=1).float()
    found = similarity(X, Y, positions=None)
    torch.testing.assert_close(found, similarity(X, Y, positions=66 * 65))
    assert not torch.allclose(found, similarity(X, Y), rtol=1e-5)


# peak memory above what was there before, of value and gradient at 48 x 48 positions
GROWTH = """
import sys, torch
from enhancelib.losses.contextual import contextual
X, Y = (torch.randn(1, 16, 48, 48, generator=torch.Generator().manual_seed(k)) for k in (0, 1))
X.requires_grad_()
def peak():  # KiB; not getrusage, where a child begins with its parent's
    return int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0])
contextual(X[..., :8, :8], Y[..., :8, :8], chunk=16).backward()
before = peak()
contextual(X, Y, positions=None, chunk=int(sys.argv[1])).backward()
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory of a process, as Linux tells it")
def test_chunks_need_a_third_of_the_memory() -> None:
    """benchmarks/contextual.py measures it at 16,384 positions."""
    # glibc gives every block of this size and more back at once, so that the peak is what is used
    settings = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "OMP_NUM_THREADS": "1"}
    peaks = [
        int(subprocess.check_output([sys.executable, "-c", GROWTH, str(chunk)], env=settings))
        for chunk in (2304, 288)
    ]
    table = 4 * 2304**2 / 1024  # KiB
    assert peaks[0] > 3 * table
    assert peaks[1] < peaks[0] / 3
    assert peaks[1] < 1.5 * table


@pytest.mark.parametrize("excess", [0.0, 1e-5, 1e-3])
def test_a_cosine_above_one_is_a_perfect_match(excess: float) -> None:
    """As after a product in TF32, whose error is larger than the epsilon of the denominator."""
    y = F.normalize(draw(1, 6, 9) - 0.5, dim=1)
    found = module._best_matches((1 + excess) * y, y, 0.5)
    torch.testing.assert_close(found, torch.ones(1, dtype=torch.float64))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_short_floats_are_widened(dtype: torch.dtype) -> None:
    X, Y = draw(2, 8, 4, 4).to(dtype), draw(2, 8, 4, 4, seed=1).to(dtype)
    found = similarity(X, Y)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, similarity(X.float(), Y.float()))


def test_autocast_does_not_shorten_it() -> None:
    X, Y = draw(2, 8, 4, 4).float(), draw(2, 8, 4, 4, seed=1).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = contextual(X, Y)
    assert torch.equal(found, contextual(X, Y))


def photo_features(shift: int) -> Tensor:
    """Colours of 4 x 4 cells of a photo: features that need no network."""
    photo = torch.from_numpy(data.astronaut()).permute(2, 0, 1)[None].double() / 255
    moved = photo[..., 100:228, 100 + shift : 228 + shift]
    return F.pixel_unshuffle(moved, 4)


def test_value_on_a_photo() -> None:
    found = float(contextual(photo_features(0), photo_features(8)))
    assert found == pytest.approx(PINNED, rel=1e-6)


def test_a_shift_by_whole_cells_costs_only_what_left_the_picture() -> None:
    other = torch.from_numpy(data.chelsea()).permute(2, 0, 1)[None].double() / 255
    elsewhere = F.pixel_unshuffle(other[..., 100:228, 100:228], 4)
    still = photo_features(0)
    moved, foreign = (float(contextual(one, still)) for one in (photo_features(8), elsewhere))
    assert moved < 0.25 * foreign


def test_on_vgg19(features: Path) -> None:
    """relu4_2 of a photo: alike to itself, less to its shifted self, least to another."""
    vgg19 = networks.load("vgg19")
    pictures = [
        torch.from_numpy(one[100:196, 100:196].copy()).permute(2, 0, 1)[None] / 255
        for one in (data.astronaut(), data.astronaut()[4:, 4:], data.chelsea())
    ]
    maps = [vgg19(one, ("relu4_2",))["relu4_2"] for one in pictures]
    itself, moved, foreign = (float(contextual(one, maps[0])) for one in maps)
    assert itself < 0.01 < moved < foreign


def test_wrong_input_is_refused() -> None:
    X = draw(2, 3, 4, 4)
    with pytest.raises(ValueError, match=r"X has shape \(2, 3, 4, 4\), Y \(2, 3, 4, 5\)"):
        contextual(X, draw(2, 3, 4, 5))
    with pytest.raises(ValueError, match=r"Y is torch\.uint8; expected floating point"):
        contextual(X, X.byte())
    with pytest.raises(ValueError, match=r"X has shape \(2, 3, 16\); expected \(N, C, H, W\)"):
        contextual(X.flatten(2), X.flatten(2))
    with pytest.raises(ValueError, match="at least one value"):
        contextual(X[:0], X[:0])
    for h in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="expected a positive number"):
            contextual(X, X, h=h)
    with pytest.raises(ValueError, match="positions is 0; expected 1 or more"):
        contextual(X, X, positions=0)
    with pytest.raises(ValueError, match="chunk is 0; expected 1 or more"):
        contextual(X, X, chunk=0)
