r"""Filters over windows: box mean and guided filter; and the stretch of every channel.

| symbol | variable | meaning |
|---|---|---|
| I, p, q | I, p, returned | guide, source, output |
| r, eps | radius, eps | half width of a window, price of a slope |
| Sigma_k, mean_k | _spread, _means | covariance and mean of the guide in window k |

Source: He, Sun, Tang, "Guided Image Filtering", TPAMI 2013.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def box(x: Tensor, radius: int) -> Tensor:
    """Mean over the window around every pixel; at the border over the part inside the picture.

    By running sums in float64, so that the time does not depend on the radius.

    Args:
        x: (B, C, H, W).
        radius: r, 0 or more; the window has (2 r + 1)^2 pixels.

    Returns:
        The same shape and type.

    Raises:
        ValueError: If x is no float batch of pictures or radius is negative.

    Example:
        >>> box(torch.eye(3)[None, None], 1)[0, 0]
        tensor([[0.5000, 0.3333, 0.2500],
                [0.3333, 0.3333, 0.3333],
                [0.2500, 0.3333, 0.5000]])
        >>> box(torch.eye(3), 1)
        Traceback (most recent call last):
        ValueError: x is torch.float32 of shape (3, 3); expected a float batch (B, C, H, W)
    """
    _batch(x=x)
    _at_least(0, radius=radius)
    return _means(x.double(), radius).to(x.dtype)


def guided_filter(guide: Tensor, source: Tensor, radius: int, eps: float) -> Tensor:
    r"""Smooth a picture so that its edges are those of a guide.

    In every window k the output is an affine function of the guide, `q_i = a_k . I_i + b_k`, with
    `a_k = (Sigma_k + eps Id)^-1 cov_k(I, p)` and `b_k = mean_k(p) - a_k . mean_k(I)`; a pixel takes
    the mean over its windows, `q_i = mean(a) . I_i + mean(b)` (eqs. 5-8, 14-16 and 19). Windows
    are cut at the border. Computed in float64: the variances would drown in float32.

    Args:
        guide: I, (B, D, H, W) or (1, D, H, W): D = 1 grey, 3 colour, any other number too.
        source: p, (B, C, H, W), every channel for itself.
        radius: r, 1 or more pixels.
        eps: Positive, on the scale of the guide squared: 1e-4 for pictures in [0, 1].

    Returns:
        q, the shape and type of the source, differentiable in both.

    Raises:
        ValueError: If a tensor is no float batch, their sizes differ, radius is below 1 or eps is
            not positive.

    Source: He, Sun, Tang, "Guided Image Filtering", TPAMI 2013.

    Example:
        >>> guide = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
        >>> torch.allclose(guided_filter(guide, guide[:, :1], 4, 1e-9), guide[:, :1], atol=1e-5)
        True
        >>> guided_filter(guide, guide[..., :8], 4, 1e-9)
        Traceback (most recent call last):
        ValueError: source has shape (1, 3, 16, 8) and guide (1, 3, 16, 16); expected one size
    """
    _fitting(guide, source=source)
    _at_least(1, radius=radius)
    if not 0 < eps < float("inf"):
        raise ValueError(f"eps is {eps}; expected a positive number")
    I, p = guide.double().expand(len(source), -1, -1, -1), source.double()  # noqa: E741
    mean_I, mean_p = _means(I, radius), _means(p, radius)
    a = torch.linalg.solve(_spread(I, mean_I, radius, eps), _moments(I, p, mean_I, mean_p, radius))
    a = a.permute(0, 4, 3, 1, 2)  # (B, C, D, H, W)
    b = mean_p - (a * mean_I[:, None]).sum(2)
    slopes = _means(a.flatten(1, 2), radius).reshape(a.shape)
    q = (slopes * I[:, None]).sum(2) + _means(b, radius)
    return q.to(source.dtype)


def percent_stretch(image: Tensor, share: float = 0.01) -> Tensor:
    """Stretch every channel so that a share of its pixels is black, and as many are white.

    Args:
        image: (B, C, H, W).
        share: At each end, in [0, 0.5); 0.01 is MATLAB's `stretchlim`.

    Returns:
        (B, C, H, W) in [0, 1]: what lies outside the limits is cut off. A channel of one value
        stays what it is.

    Raises:
        ValueError: If image is no float batch or share is outside [0, 0.5).

    Example:
        >>> percent_stretch(torch.tensor([[[[0.2, 0.3, 0.4]]]]), 0.0)
        tensor([[[[0.0000, 0.5000, 1.0000]]]])
        >>> percent_stretch(torch.zeros(1, 3, 4, 4), 0.5)
        Traceback (most recent call last):
        ValueError: share is 0.5; expected a number in [0, 0.5)
    """
    _batch(image=image)
    if not 0 <= share < 0.5:
        raise ValueError(f"share is {share}; expected a number in [0, 0.5)")
    values = image.flatten(2)
    count = values.shape[2]
    skipped = int(share * count)
    low = values.kthvalue(skipped + 1, dim=2).values[..., None, None]
    high = values.kthvalue(count - skipped, dim=2).values[..., None, None]
    flat = high == low
    stretched = ((image - low) / torch.where(flat, 1.0, high - low)).clamp(0, 1)
    return torch.where(flat, image, stretched)


def _batch(**values: Tensor) -> None:
    for name, value in values.items():
        if value.ndim != 4 or not value.is_floating_point() or not value.numel():
            seen = f"{value.dtype} of shape {tuple(value.shape)}"
            raise ValueError(f"{name} is {seen}; expected a float batch (B, C, H, W)")


def _fitting(guide: Tensor, **other: Tensor) -> None:
    _batch(guide=guide, **other)
    for name, value in other.items():
        if guide.shape[2:] != value.shape[2:] or len(guide) not in (1, len(value)):
            raise ValueError(
                f"{name} has shape {tuple(value.shape)} and guide {tuple(guide.shape)}; "
                "expected one size"
            )


def _at_least(least: int, **values: int) -> None:
    for name, value in values.items():
        if value < least:
            raise ValueError(f"{name} is {value}; expected {least} or more pixels")


def _means(x: Tensor, radius: int) -> Tensor:
    """Box mean by running sums, x in float64."""
    for dim in (2, 3):
        size = x.shape[dim]
        at = torch.arange(size, device=x.device)
        first, behind = (at - radius).clamp_min(0), (at + radius + 1).clamp_max(size)
        edge = (0, 0, 1, 0) if dim == 2 else (1, 0)
        sums = functional.pad(x.cumsum(dim), edge)
        count = (behind - first).view((-1, 1) if dim == 2 else (-1,))
        x = (sums.index_select(dim, behind) - sums.index_select(dim, first)) / count
    return x


def _spread(I: Tensor, mean: Tensor, radius: int, eps: float) -> Tensor:  # noqa: E741
    """Sigma_k + eps Id of every window, (B, H, W, D, D)."""
    covariance = _moments(I, I, mean, mean, radius)
    return covariance + eps * torch.eye(I.shape[1], dtype=I.dtype, device=I.device)


def _moments(I: Tensor, p: Tensor, mean_I: Tensor, mean_p: Tensor, radius: int) -> Tensor:  # noqa: E741
    """cov_k(I, p) of every window, (B, H, W, D, C)."""
    products = (I[:, :, None] * p[:, None]).flatten(1, 2)
    means = (mean_I[:, :, None] * mean_p[:, None]).flatten(1, 2)
    covariance = (_means(products, radius) - means).permute(0, 2, 3, 1)
    return covariance.reshape(*covariance.shape[:3], I.shape[1], p.shape[1])
