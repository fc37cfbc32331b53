r"""The contextual loss: every feature of the target should find one like it in the output.

Features are taken as sets of points, one per position; where they lie plays no part. So the loss
tolerates misalignment, and alone it cannot place anything.

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

from enhancelib import runtime
from enhancelib.losses import _checks

_EPSILON = 1e-5
_FLAT = 1e-6  # features this close to their mean have no direction
_AT_ONCE = 2**24  # entries of the position tables in memory at once, unless one alone has more


def similarity(
    X: Tensor,
    Y: Tensor,
    *,
    h: float = 0.5,
    positions: int = 65**2,
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
            of distances has their number squared. 65^2 as in PPCN.
        generator: Draws the positions kept; None draws the same ones every time.

    Returns:
        (B,), in [1/N, 1], at least float32. Not symmetric in X and Y; blind to the order of
        positions, and to a common factor in both.

    Raises:
        ValueError: If the shapes differ or are not (B, C, h, w), a tensor is not floating point,
            h is not positive, or positions is below 1.

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
    _check(X, Y, h, positions)
    x, y = (_checks.wide(one).flatten(2) for one in (X, Y))
    if (count := x.shape[2]) > positions:
        generator = generator or runtime.generator(0, "contextual positions", count)
        kept = torch.randperm(count, generator=generator, device=generator.device)[:positions]
        x, y = (one.index_select(2, kept.to(one.device)) for one in (x, y))
    center = y.mean(dim=(0, 2), keepdim=True)
    x, y = (F.normalize(one - center, dim=1, eps=_FLAT) for one in (x, y))
    size = max(1, _AT_ONCE // x.shape[2] ** 2)
    parts = zip(torch.split(x, size), torch.split(y, size), strict=True)
    return torch.cat([_best_matches(one, other, h) for one, other in parts])


def contextual(
    X: Tensor,
    Y: Tensor,
    *,
    h: float = 0.5,
    positions: int = 65**2,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Minus the logarithm of the contextual similarity, mean over the batch (PRaD, eq. 17).

    `L_cx = -log CX(phi_j(F(I_s)), phi_j(I_t))`.

    Args:
        X: Features of the output, (B, C, h, w).
        Y: Features of the target, same shape.
        h: Bandwidth, see `similarity`.
        positions: Cap on the number of positions, see `similarity`.
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
    found = similarity(X, Y, h=h, positions=positions, generator=generator)
    return -found.log().mean()


def _check(X: Tensor, Y: Tensor, h: float, positions: int) -> None:
    _checks.alike(X=X, Y=Y)
    _checks.pictures(X=X)
    if not (h > 0 and math.isfinite(h)):
        raise ValueError(f"h is {h}; expected a positive number")
    if positions < 1:
        raise ValueError(f"positions is {positions}; expected 1 or more")


def _best_matches(x: Tensor, y: Tensor, h: float) -> Tensor:
    """(B,) CX of unit vectors x and y, (B, C, N) each."""
    with torch.autocast(x.device.type, enabled=False):
        cosines = x.transpose(1, 2) @ y
    # where a product is rounded to TF32 a cosine may pass 1 by more than epsilon, and the sign of
    # the denominator would turn the best match into the worst
    distances = (1 - cosines.clamp_max(1)) / 2
    relative = distances / (distances.amin(dim=2, keepdim=True) + _EPSILON)
    # softmax is the ratio of exp to its sum, without the overflow of exp(1 / h) at a small h
    affinity = torch.softmax((1 - relative) / h, dim=2)
    return affinity.amax(dim=1).mean(dim=1)
