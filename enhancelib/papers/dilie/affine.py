"""Smooth local affine post-processing of Deep Photo Style Transfer, and what became of the edges.

| symbol | here | meaning |
|---|---|---|
| C^ | guide | the picture before restyling |
| E | output | the restyled picture |
| A_p | model | 3 x 4: the affine colour map of the window around pixel p |

Source: Luan, Paris, Shechtman, Bala, "Deep Photo Style Transfer", CVPR 2017; the CUDA kernels of
luanfujun/deep-photo-styletransfer (16744e3), the same in LouieYang/deep-photo-styletransfer-tf.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from enhancelib import images, similarity

RADIUS, EDGE = 15, 0.01
"""Of the official batch script; its program alone has 7 and 0.05, the port 15 and 0.1."""


def smooth_local_affine(
    output: Tensor,
    guide: Tensor,
    *,
    window: int = 3,
    ridge: float = 1e-3,
    radius: int = RADIUS,
    edge: float = EDGE,
) -> Tensor:
    r"""Apply to the guide, per pixel, a smooth mean of the affine maps that lead to the output.

    `A_p = argmin_A sum_q in window(p) |E_q - A (C_q, 1)|^2 + ridge |A without its last column|^2`;
    `A~_p = sum_q w_pq A_q / sum_q w_pq` over the square of the radius, with
    `w_pq = exp(-|p - q|^2 / (2 (radius / 3)^2)) exp(-|C_p - C_q|^2 / (6 edge^2))`; the result is
    `A~_p (C_p, 1)`. Windows are cut at the border.

    Args:
        output: E, (3, H, W) or (B, 3, H, W), any range.
        guide: C^, same shape, in [0, 1].
        window: Side of the least-squares window, odd.
        ridge: Weight of the penalty, above 0.
        radius: Of the bilateral filter, in pixels, 1 or more.
        edge: Its deviation in colour, above 0, for colours in [0, 1].

    Returns:
        The guide under smooth colour maps, in the shape of output; may leave [0, 1].

    Raises:
        ValueError: If the shapes differ or are not those of RGB pictures, the window is even or
            below 1, or ridge, radius or edge is not positive.

    Example:
        >>> guide = torch.rand(3, 12, 9)
        >>> found = smooth_local_affine(0.5 * guide + 0.2, guide, ridge=1e-9)
        >>> torch.allclose(found, 0.5 * guide + 0.2, atol=1e-4)
        True
        >>> smooth_local_affine(guide, guide[:, :, 1:])
        Traceback (most recent call last):
        ValueError: output is (3, 12, 9), guide (3, 12, 8); expected RGB pictures of one shape
    """
    if output.shape != guide.shape or guide.ndim not in (3, 4) or guide.shape[-3] != 3:
        raise ValueError(
            f"output is {tuple(output.shape)}, guide {tuple(guide.shape)}; expected RGB pictures "
            "of one shape"
        )
    if window % 2 != 1 or window < 1 or radius < 1 or min(ridge, edge) <= 0:
        raise ValueError(
            f"window={window}, ridge={ridge}, radius={radius}, edge={edge}; expected an odd window "
            "of 1 or more, and positive values"
        )
    E, C = (one.double().reshape(-1, *guide.shape[-3:]) for one in (output, guide))
    models = _smoothed(_models(E, C, window, ridge), C, radius, edge)
    found = (models * _homogeneous(C)[:, None]).sum(2)
    return found.reshape(output.shape).to(output.dtype)


def _homogeneous(C: Tensor) -> Tensor:
    """(B, 4, H, W): the colours and a 1."""
    return torch.cat([C, torch.ones_like(C[:, :1])], dim=1)


def _models(E: Tensor, C: Tensor, window: int, ridge: float) -> Tensor:
    """(B, 3, 4, H, W): the affine map of every window."""
    X = _homogeneous(C)
    XX = _sums(torch.einsum("bihw,bjhw->bijhw", X, X), window)
    XE = _sums(torch.einsum("bihw,bkhw->bikhw", X, E), window)
    penalty = torch.diag(torch.tensor([ridge, ridge, ridge, 0.0], dtype=X.dtype, device=X.device))
    solved: Tensor = torch.linalg.solve(
        XX.movedim((1, 2), (-2, -1)) + penalty, XE.movedim((1, 2), (-2, -1))
    )
    return solved.movedim((-2, -1), (2, 1))


def _sums(planes: Tensor, window: int) -> Tensor:
    """The sum over every window, cut at the border, of (B, n, m, H, W)."""
    flat = planes.flatten(1, 2)
    summed = F.avg_pool2d(flat, window, 1, window // 2, count_include_pad=True) * window**2
    return summed.view(planes.shape)


def _smoothed(models: Tensor, C: Tensor, radius: int, edge: float) -> Tensor:
    """The joint bilateral filter of the maps; one shift of the whole picture at a time."""
    height, width = C.shape[-2:]
    total, weights = torch.zeros_like(models), torch.zeros_like(C[:, :1])
    for down in range(max(-radius, 1 - height), min(radius, height - 1) + 1):
        for across in range(max(-radius, 1 - width), min(radius, width - 1) + 1):
            here, there = _overlap(height, down), _overlap(height, -down)
            left, right = _overlap(width, across), _overlap(width, -across)
            gap = (C[..., here, left] - C[..., there, right]).square().mean(1, keepdim=True)
            near = math.exp(-(down**2 + across**2) / (2 * (radius / 3) ** 2))
            weight = near * torch.exp(-gap / (2 * edge**2))
            total[..., here, left] += weight[:, None] * models[..., there, right]
            weights[..., here, left] += weight
    return total / weights[:, None]


def _overlap(length: int, shift: int) -> slice:
    """The places p of a line for which p + shift is on it too."""
    return slice(max(0, -shift), length - max(0, shift))


def edge_similarity(x: Tensor, y: Tensor) -> Tensor:
    """SSIM of the strength of Sobel edges of luma: do the edges of y stand in x?

    The strength is `sqrt(g_x^2 + g_y^2)` with Sobel's weights 1 2 1. It may reach `sqrt(20)`, but
    is taken as it is: scaled to [0, 1] a photo's edges would drown in SSIM's constants.

    Args:
        x: Restyled pictures, (B, 3, H, W) in [0, 1], at least 13 pixels a side.
        y: Pictures whose edges are wanted, same shape.

    Returns:
        (B,), at most 1, which equal edges have.

    Raises:
        ValueError: If the shapes differ or are not (B, 3, H, W).

    Example:
        >>> x = torch.rand(1, 3, 24, 24)
        >>> edge_similarity(x, x)
        tensor([1.])
        >>> edge_similarity(x, x[:, :, 1:])
        Traceback (most recent call last):
        ValueError: x is (1, 3, 24, 24), y (1, 3, 23, 24); expected (B, 3, H, W) twice
    """
    if x.shape != y.shape or x.ndim != 4 or x.shape[1] != 3:
        raise ValueError(f"x is {tuple(x.shape)}, y {tuple(y.shape)}; expected (B, 3, H, W) twice")
    return similarity.ssim(_edges(x), _edges(y))


def _edges(picture: Tensor) -> Tensor:
    """(B, 1, H-2, W-2): strength of Sobel edges of luma."""
    kernel = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])
    kernels = torch.stack([kernel, kernel.T])[:, None].to(picture)
    found = F.conv2d(images.luma(picture), kernels)
    return found.square().sum(1, keepdim=True).sqrt()
