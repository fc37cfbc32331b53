r"""STROTSS' losses: style as optimal transport between sets of features, content as similarity.

The losses compare sets of vectors (n, D), one row for each position that was drawn: `hypercolumns`
reads them out of a picture and its feature maps.

| symbol | here | meaning |
|---|---|---|
| x, y, c | x, y, c | vectors of output, style and content |
| D_ij | distances | 1 - cos(x_i, y_j) |
| l_C, l_r, l_m, l_p | `self_similarity`, `remd`, `moments`, `palette` | the terms |
| alpha | alpha | weight of l_C |

Source: Kolkin, Salavon, Shakhnarovich, CVPR 2019, and nkolkin13/STROTSS (9a1543a), whose
normalisations these are; futscdav/strotss (796900c) leaves those of l_C out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from enhancelib.losses import _checks

_FLAT = 1e-6  # a vector this short has no direction
# brightness and two colour differences, as the released code rounds them; orthogonal
_ROTATION = (
    (0.577350, 0.577350, 0.577350),
    (-0.577350, 0.788675, -0.211325),
    (-0.577350, -0.211325, 0.788675),
)


def hypercolumns(features: Sequence[Tensor], positions: Tensor) -> Tensor:
    """The picture and its feature maps at some positions, side by side.

    A position counts pixels of the first map; it is halved wherever a map has half the size of the
    one before, and read bilinearly between the four values around, the last row and column
    repeated beyond the border.

    Args:
        features: Maps of one picture, (1, C_l, h_l, w_l), fine to coarse; RGB first for `palette`.
        positions: (n, 2), row and column, inside the first map.

    Returns:
        (n, sum of C_l), at least float32.

    Raises:
        ValueError: If a map has another shape or type, there is none, or a position is outside.

    Source: nkolkin13/STROTSS (9a1543a); no half pixel is added in halving, as there.

    Example:
        >>> fine, coarse = torch.arange(4.0).view(1, 1, 1, 4), torch.tensor([[[[5.0, 7.0]]]])
        >>> hypercolumns([fine, coarse], torch.tensor([[0, 1], [0, 3]]))
        tensor([[1., 6.],
                [3., 7.]])
        >>> hypercolumns([fine], torch.tensor([[0, 4]]))
        Traceback (most recent call last):
        ValueError: positions reach (0, 4); expected (n, 2) from 0 below (1, 4)
    """
    _check_columns(features, positions)
    at, columns = positions.to(features[0].device, torch.float64), []
    for number, maps in enumerate(features):
        before = features[max(number - 1, 0)]
        at = at / 2 ** round(math.log2(max(before.shape[2:]) / max(maps.shape[2:])))
        columns.append(_read(_checks.wide(maps)[0], at))
    return torch.cat(columns).T


def remd(x: Tensor, y: Tensor) -> Tensor:
    """Relaxed earth mover's distance, `max(mean_i min_j D_ij, mean_j min_i D_ij)` (l_r).

    Args:
        x: Features of the output, (n, D).
        y: Features of the style, (m, D).

    Returns:
        A scalar in [0, 2], symmetric in x and y, blind to the order and length of the vectors.

    Raises:
        ValueError: If a shape is none of these, or a tensor is not floating point.

    Source: Kolkin et al., CVPR 2019; nkolkin13/STROTSS (9a1543a).
    Departs: a vector of length 0 lies at a distance of 1 from all; released it gives NaN.

    Example:
        >>> remd(torch.tensor([[2.0, 0.0]]), torch.tensor([[3.0, 0.0], [0.0, 1.0]]))
        tensor(0.5000)
        >>> remd(torch.ones(2, 3), torch.ones(2, 4))
        Traceback (most recent call last):
        ValueError: x has shape (2, 3), y (2, 4); expected (n, D) and (m, D)
    """
    _sets(x=x, y=y)
    return _relaxed(_cosine(x, y))


def moments(x: Tensor, y: Tensor) -> Tensor:
    """Absolute difference of means and of covariances, mean over their entries, added (l_m).

    `mean_a |mu_x - mu_y| + mean_ab |Sigma_x - Sigma_y|`, covariances divided by n, not n - 1.

    Args:
        x: Features of the output, (n, D).
        y: Features of the style, (m, D).

    Returns:
        A scalar, at least 0, symmetric.

    Raises:
        ValueError: If a shape is none of these, or a tensor is not floating point.

    Source: Kolkin et al., CVPR 2019; nkolkin13/STROTSS (9a1543a).

    Example:
        >>> moments(torch.tensor([[0.0], [2.0]]), torch.tensor([[4.0]]))
        tensor(4.)
        >>> moments(torch.ones(3), torch.ones(3))
        Traceback (most recent call last):
        ValueError: x has shape (3,), y (3,); expected (n, D) and (m, D)
    """
    _sets(x=x, y=y)
    (mu_x, sigma_x), (mu_y, sigma_y) = (_first_two(_checks.wide(one)) for one in (x, y))
    return (mu_x - mu_y).abs().mean() + (sigma_x - sigma_y).abs().mean()


def palette(x: Tensor, y: Tensor) -> Tensor:
    """Relaxed earth mover's distance of colours, after a fixed rotation of RGB (l_p).

    Distances are `1 - cos(x_i, y_j) + sqrt(|x_i - y_j|^2 / 3)`.

    Args:
        x: Colours of the output, (n, 3). The released code subtracts 0.5 from RGB in [0, 1], from
            which the cosine is taken.
        y: Colours of the style, (m, 3).

    Returns:
        A scalar, at least 0, symmetric.

    Raises:
        ValueError: If a shape is none of these, or a tensor is not floating point.

    Source: nkolkin13/STROTSS (9a1543a).
    Departs: there a squared distance below 1e-5 counts as 1e-5, so that equal colours cost
        0.0018; here they cost 0, with gradient 0.

    Example:
        >>> palette(torch.ones(1, 3), 2 * torch.ones(1, 3)).round(decimals=4)
        tensor(1.)
        >>> palette(torch.ones(1, 4), torch.ones(1, 4))
        Traceback (most recent call last):
        ValueError: x has shape (1, 4), y (1, 4); expected 3 columns
    """
    _sets(x=x, y=y)
    if x.shape[1] != 3:
        raise ValueError(f"x has shape {tuple(x.shape)}, y {tuple(y.shape)}; expected 3 columns")
    a, b = (_turned(_checks.wide(one)) for one in (x, y))
    # not by |a|^2 + |b|^2 - 2 a b, which loses small distances to cancellation
    apart = torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")
    return _relaxed(_cosine(a, b) + apart / 3**0.5)


def self_similarity(x: Tensor, c: Tensor) -> Tensor:
    r"""Difference of the distances inside two sets of features, the content term (l_C).

    `n mean_ij |D^x_ij / sum_i D^x_ij - D^c_ij / sum_i D^c_ij|` with D the distances between the
    features of one picture: what resembles what may stay, whatever it has become.

    Args:
        x: Features of the output, (n, D).
        c: Features of the content at the same positions, (n, D').

    Returns:
        A scalar in [0, 2], symmetric; 0 for sets that are rotated or scaled copies.

    Raises:
        ValueError: If a tensor is not (n, D), their n differ, or one is not floating point.

    Source: Kolkin et al., CVPR 2019; nkolkin13/STROTSS (9a1543a), whose factor n this is.
    Departs: a column whose sum is rounding error, because all features are one, is divided by
        that error's bound, 4 n times the type's epsilon, where released it gives noise or NaN.

    Example:
        >>> x = torch.rand(5, 8)
        >>> bool(self_similarity(x, 3 * x.flip(1)) < 1e-5)
        True
        >>> self_similarity(x, x[:4])
        Traceback (most recent call last):
        ValueError: x has shape (5, 8), c (4, 8); expected the same number of rows
    """
    _sets(x=x, c=c, same=False)
    if len(x) != len(c):
        raise ValueError(
            f"x has shape {tuple(x.shape)}, c {tuple(c.shape)}; expected the same number of rows"
        )
    return (_shares(x) - _shares(c)).abs().sum() / len(x)


def strotss(x: Tensor, y: Tensor, c: Tensor, *, alpha: float = 16.0) -> Tensor:
    """STROTSS' objective, `(alpha l_C + l_r + l_m + l_p / max(alpha, 1)) / (alpha + 2)`.

    Args:
        x: Hypercolumns of the output, (n, D), RGB in the first three columns.
        y: Of the style, (m, D).
        c: Of the content at the positions of x, (n, D).
        alpha: Weight of the content, 0 or more: 16 at the coarsest scale, halved at every next.

    Returns:
        A scalar, at least 0.

    Raises:
        ValueError: If alpha is negative, or as the four terms do.

    Source: nkolkin13/STROTSS (9a1543a); the paper prints 2 + alpha + 1/alpha below.

    Example:
        >>> x = torch.rand(5, 8)
        >>> bool(strotss(x, x, x) < 1e-5)
        True
        >>> strotss(x, x, x, alpha=-1.0)
        Traceback (most recent call last):
        ValueError: alpha is -1.0; expected 0 or more
    """
    if not 0 <= alpha < float("inf"):
        raise ValueError(f"alpha is {alpha}; expected 0 or more")
    style = remd(x, y) + moments(x, y) + palette(x[:, :3], y[:, :3]) / max(alpha, 1.0)
    return (alpha * self_similarity(x, c) + style) / (alpha + 2)


def _sets(*, same: bool = True, **values: Tensor) -> None:
    """ValueError unless the two named tensors are lists of vectors, of one length if `same`."""
    _checks.floating(**values)
    (first, x), (second, y) = values.items()
    if x.ndim != 2 or y.ndim != 2 or (same and x.shape[1] != y.shape[1]):
        raise ValueError(
            f"{first} has shape {tuple(x.shape)}, {second} {tuple(y.shape)}; "
            "expected (n, D) and (m, D)"
        )


def _check_columns(features: Sequence[Tensor], positions: Tensor) -> None:
    if not len(features):
        raise ValueError("features is empty; expected one map or more")
    for number, maps in enumerate(features):
        _checks.floating(**{f"features[{number}]": maps})
        if maps.ndim != 4 or len(maps) != 1:
            raise ValueError(
                f"features[{number}] has shape {tuple(maps.shape)}; expected (1, C, h, w)"
            )
    (height, width), shape = features[0].shape[2:], tuple(positions.shape)
    if len(shape) != 2 or shape[1] != 2 or not shape[0]:
        raise ValueError(f"positions has shape {shape}; expected (n, 2)")
    most = tuple(positions.amax(0).tolist())
    if positions.amin() < 0 or most[0] > height - 1 or most[1] > width - 1:
        raise ValueError(
            f"positions reach {most}; expected (n, 2) from 0 below ({height}, {width})"
        )


def _read(maps: Tensor, at: Tensor) -> Tensor:
    """(C, n) values of (C, h, w) between the pixels."""
    last = torch.tensor(maps.shape[1:], device=at.device) - 1
    whole = at.floor()
    low = torch.minimum(whole.long(), last)
    high = torch.minimum(low + 1, last)
    down, across = (at - whole).to(maps.dtype).T
    flat, width = maps.flatten(1), maps.shape[2]

    def taken(row: Tensor, column: Tensor) -> Tensor:
        # not by two lists of indices: on a CPU with two threads their gradient adds in any order
        return flat.index_select(1, row * width + column)

    upper, lower = (
        (1 - across) * taken(row, low[:, 1]) + across * taken(row, high[:, 1])
        for row in (low[:, 0], high[:, 0])
    )
    values: Tensor = (1 - down) * upper + down * lower
    return values


def _cosine(x: Tensor, y: Tensor) -> Tensor:
    """(n, m) of 1 - cos."""
    a, b = (F.normalize(_checks.wide(one), dim=1, eps=_FLAT) for one in (x, y))
    with torch.autocast(x.device.type, enabled=False):
        return 1 - a @ b.T


def _relaxed(distances: Tensor) -> Tensor:
    return torch.maximum(distances.amin(dim=1).mean(), distances.amin(dim=0).mean())


def _first_two(x: Tensor) -> tuple[Tensor, Tensor]:
    mu = x.mean(dim=0)
    with torch.autocast(x.device.type, enabled=False):
        return mu, (x - mu).T @ (x - mu) / len(x)


def _turned(colours: Tensor) -> Tensor:
    with torch.autocast(colours.device.type, enabled=False):
        return colours @ colours.new_tensor(_ROTATION).T


def _shares(x: Tensor) -> Tensor:
    distances = _cosine(x, x)
    noise = 4 * len(x) * torch.finfo(distances.dtype).eps
    return distances / distances.sum(dim=0).clamp_min(noise)
