r"""The contextual loss: every feature of the target should find one like it in the output.

Features are taken as sets of points, one per position; where they lie plays no part. So the loss
tolerates misalignment, and alone it cannot place anything.

The table of distances has the square of the number of positions: 1 GiB for 16,384 of them, in
every step of the formula. `chunk` makes it some rows at a time and makes them again on the way
back, so that only those rows are ever in memory: 0.5 GiB instead of 7 for value and gradient at
16,384 positions with 1024 rows (benchmarks/contextual.py).

In float32 every d carries an error of about 1e-7, a hundredth of the 1e-5 in the denominator.
Between strangers that is nothing (1e-7 of the loss); where most features of X and Y are equal,
the loss is good to 1e-3 and its gradient to a tenth. Hand in float64 where that matters.

| symbol | here | meaning |
|---|---|---|
| X = {x_i}, Y = {y_j} | X, Y | features of the output and of the target |
| d_ij | distances | half of 1 - cosine, after subtracting the mean of Y |
| dtilde_ij | relative | d_ij / (min_k d_ik + 1e-5) |
| h | h | bandwidth |
| CX_ij | affinity | exp((1 - dtilde_ij) / h), normalised over j |

Source: Mechrez, Talmi, Zelnik-Manor, ECCV 2018; roimehrez/contextualLoss (863af53).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from enhancelib import runtime
from enhancelib.losses import _checks

_EPSILON = 1e-5
_FLAT = 1e-6  # features this close to their mean have no direction
_AT_ONCE = 65**4  # entries of the position tables in memory at once: PPCN's cap, squared


def similarity(
    X: Tensor,
    Y: Tensor,
    *,
    h: float = 0.5,
    positions: int | None = 65**2,
    chunk: int | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Contextual similarity of two feature maps, per picture.

    Both are centred by the mean of Y over batch and positions; `d_ij = (1 - cos(x_i, y_j)) / 2`,
    `dtilde_ij = d_ij / (min_k d_ik + 1e-5)`, `CX_ij = softmax_j((1 - dtilde_ij) / h)` and
    `CX(X, Y) = 1/N sum_j max_i CX_ij`.

    Args:
        X: Features of the output, (B, C, h, w); h w = N positions.
        Y: Features of the target, same shape.
        h: Bandwidth, positive. 0.5 as released with the method and in PPCN; 0.1 comes close to
            hard nearest neighbours, with gradients to match.
        positions: At most this many positions are kept, at random, the same in X and Y; the table
            of distances has their number squared. 65^2 as in PPCN and Mechrez et al.; None keeps
            all.
        chunk: Rows of that table made at a time; fewer need less memory, for a third more
            arithmetic where a gradient is wanted. None makes as many as a table of 65^2 positions
            has entries, so that tables up to that one are whole.
        generator: Draws the positions kept; None draws the same ones every time.

    Returns:
        (B,), in [1/N, 1], at least float32. Not symmetric in X and Y; blind to the order of
        positions, and to a common factor in both.

    Raises:
        ValueError: If the shapes differ or are not (B, C, h, w), a tensor is not floating point,
            h is not positive, or positions or chunk is below 1.

    Source: Mechrez et al., ECCV 2018; roimehrez/contextualLoss (863af53); Zheng222/PPCN (344bd67)
        for the cap on positions.

    Example:
        >>> X = torch.rand(2, 8, 5, 5)
        >>> similarity(X, X).round(decimals=4)
        tensor([1., 1.])
        >>> similarity(X, X, h=0.0)
        Traceback (most recent call last):
        ValueError: h is 0.0; expected a positive number
    """
    _check(X, Y, h, positions, chunk)
    x, y = (_checks.wide(one).flatten(2) for one in (X, Y))
    if positions is not None and (count := x.shape[2]) > positions:
        generator = generator or runtime.generator(0, "contextual positions", count)
        kept = torch.randperm(count, generator=generator, device=generator.device)[:positions]
        x, y = (one.index_select(2, kept.to(one.device)) for one in (x, y))
    center = y.mean(dim=(0, 2), keepdim=True)
    x, y = (F.normalize(one - center, dim=1, eps=_FLAT) for one in (x, y))
    count = x.shape[2]
    rows = min(count, chunk or max(1, _AT_ONCE // count))
    size = max(1, _AT_ONCE // (rows * count))
    parts = zip(torch.split(x, size), torch.split(y, size), strict=True)
    return torch.cat([_best_matches(one, other, h, rows) for one, other in parts])


def contextual(
    X: Tensor,
    Y: Tensor,
    *,
    h: float = 0.5,
    positions: int | None = 65**2,
    chunk: int | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Minus the logarithm of the contextual similarity, mean over the batch (PRaD, eq. 17).

    `L_cx = -log CX(phi_j(F(I_s)), phi_j(I_t))`.

    Args:
        X: Features of the output, (B, C, h, w).
        Y: Features of the target, same shape.
        h: Bandwidth, see `similarity`.
        positions: Cap on the number of positions, see `similarity`.
        chunk: Rows of the table made at a time, see `similarity`.
        generator: Draws the positions, see `similarity`.

    Returns:
        A scalar in [0, log N].

    Raises:
        ValueError: As `similarity` does.

    Source: Mechrez et al., ECCV 2018; PPCN's code for h and the layer, conv4_2.
    Departs: a PyTorch port in wide use takes -log(CX + 1e-5) and leaves out the half in d; CX is
        at least 1/N, so the logarithm needs no guard.

    Example:
        >>> X = torch.rand(2, 8, 5, 5)
        >>> contextual(X, X).abs() < 1e-4
        tensor(True)
        >>> contextual(X, X[:, :4])
        Traceback (most recent call last):
        ValueError: X has shape (2, 8, 5, 5), Y (2, 4, 5, 5); expected equal shapes
    """
    found = similarity(X, Y, h=h, positions=positions, chunk=chunk, generator=generator)
    return -found.log().mean()


def _check(X: Tensor, Y: Tensor, h: float, positions: int | None, chunk: int | None) -> None:
    _checks.alike(X=X, Y=Y)
    _checks.pictures(X=X)
    if not (h > 0 and math.isfinite(h)):
        raise ValueError(f"h is {h}; expected a positive number")
    for name, value in (("positions", positions), ("chunk", chunk)):
        if value is not None and value < 1:
            raise ValueError(f"{name} is {value}; expected 1 or more")


def _best_matches(x: Tensor, y: Tensor, h: float, rows: int | None = None) -> Tensor:
    """(B,) CX of unit vectors x and y, (B, C, N) each."""
    parts = torch.split(x, rows or x.shape[2], dim=2)
    if len(parts) == 1:
        return _best_rows(x, y, h).mean(dim=1)
    best = [
        checkpoint(_best_rows, part, y, h, use_reentrant=False, preserve_rng_state=False)
        for part in parts
    ]
    return torch.stack(best).amax(dim=0).mean(dim=1)


def _best_rows(x: Tensor, y: Tensor, h: float) -> Tensor:
    """(B, N) the largest CX_ij of every j over the i of x, of which there may be less than N."""
    with torch.autocast(x.device.type, enabled=False):
        cosines = x.transpose(1, 2) @ y
    # where a product is rounded to TF32 a cosine may pass 1 by more than epsilon, and the sign of
    # the denominator would turn the best match into the worst
    distances = (1 - cosines.clamp_max(1)) / 2
    relative = distances / (distances.amin(dim=2, keepdim=True) + _EPSILON)
    # softmax is the ratio of exp to its sum, without the overflow of exp(1 / h) at a small h
    return torch.softmax((1 - relative) / h, dim=2).amax(dim=1)
