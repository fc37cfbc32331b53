r"""PRaD's texture losses: local contrast normalisation and gradients (eqs. 10 to 15).

| symbol | here | equation |
|---|---|---|
| I, F(I_s), I_t | image, output, target | |
| mu, sigma, Itilde | mean, deviation, result of `local_contrast` | 10, 11, 12 |
| P, Q, C | P, Q, C | 10, 11, 12 |
| phi_j | phi | 13 |
| L_lcn, L_grad, L_texture | `lcn`, `gradient`, `texture` | 13, 14, 15 |

What the paper leaves open, and is chosen here: the window (P = Q = 3), C (1/255) and the picture
beyond its border (mirrored, the border itself not repeated), after Kang et al., CVPR 2014, whose
equations these are; the norm of eq. 14 (absolute values, averaged).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from enhancelib.losses import _checks, pixel

# what a network trained on ImageNet subtracts from a picture in [0, 1], and divides it by
_MEAN = (0.485, 0.456, 0.406)
_DEVIATION = (0.229, 0.224, 0.225)
_C = 1 / 255

Network = Callable[[Tensor], Tensor]


def local_contrast(
    image: Tensor, *, P: int = 3, Q: int = 3, C: float = _C, sigma: str = "mean"
) -> Tensor:
    r"""Local contrast normalisation of every channel (PRaD, eqs. 10 to 12).

    `Itilde(i,j) = (I(i,j) - mu(i,j)) / (sigma(i,j) + C)`, where mu is the mean of the window
    `(2P+1) x (2Q+1)` round (i, j) and `sigma^2 = sum_pq (I(i+p, j+q) - mu(i,j))^2`, that sum
    divided by the window's size with sigma="mean".

    Args:
        image: (N, C, H, W), floating point, [0, 1] for the default C; H > P and W > Q, because
            the picture is mirrored beyond its border.
        P: Rows of the window above and below its centre, 0 or more.
        Q: Columns left and right of it.
        C: Keeps flat windows finite; positive, in the picture's unit. 1/255 is 1 grey level.
        sigma: "mean", which gives photographs a deviation of about 0.6, or "sum" as eq. 12 prints
            it, which makes the result about 7 times smaller (the root of 49).

    Returns:
        The same shape, around 0; exactly blind to a constant added to the picture.

    Raises:
        ValueError: If image has another shape or type or is smaller than the window, P or Q is
            negative, C is not positive, or sigma is unknown.

    Source: Kang et al., CVPR 2014, for window and constant.

    Example:
        >>> local_contrast(torch.ones(1, 3, 8, 8)).abs().max() < 1e-6
        tensor(True)
        >>> local_contrast(torch.ones(1, 3, 8, 3))
        Traceback (most recent call last):
        ValueError: image has shape (1, 3, 8, 3); expected at least 4 x 4 pixels
    """
    _check_window(P, Q, C, sigma)
    _checks.pictures(height=P + 1, width=Q + 1, image=image)
    x = _checks.wide(image)
    # moments in float64: float32 loses the variance of flat, bright windows to cancellation
    padded = F.pad(x.double(), (Q, Q, P, P), mode="reflect")
    mu = _window_mean(padded, P, Q)
    variance = _window_mean(padded.square(), P, Q) - mu.square()
    if sigma == "sum":
        variance = variance * ((2 * P + 1) * (2 * Q + 1))
    return ((x.double() - mu) / (_root(variance) + C)).to(x.dtype)


def vgg_picture(normalised: Tensor) -> Tensor:
    """Shift and scale a normalised picture so that a VGG's own preparation undoes it.

    Itilde has mean 0 and a deviation of order 1, which is what a network trained on ImageNet sees
    after subtracting its mean and dividing by its deviation: `mean + deviation * Itilde`.

    Args:
        normalised: What `local_contrast` returns, (N, 3, H, W).

    Returns:
        The same shape, to be handed to `features` like any picture; not confined to [0, 1].

    Raises:
        ValueError: If it is not (N, 3, H, W) or not floating point.

    Example:
        >>> vgg_picture(torch.zeros(1, 3, 1, 1)).flatten()
        tensor([0.4850, 0.4560, 0.4060])
        >>> vgg_picture(torch.zeros(1, 1, 8, 8))
        Traceback (most recent call last):
        ValueError: normalised has shape (1, 1, 8, 8); expected 3 channels
    """
    _checks.pictures(normalised=normalised)
    if normalised.shape[1] != 3:
        raise ValueError(f"normalised has shape {tuple(normalised.shape)}; expected 3 channels")
    mean, deviation = (normalised.new_tensor(v).view(3, 1, 1) for v in (_MEAN, _DEVIATION))
    return mean + deviation * normalised


def lcn(
    output: Tensor,
    target: Tensor,
    *,
    phi: Network | None = None,
    P: int = 3,
    Q: int = 3,
    C: float = _C,
    sigma: str = "mean",
) -> Tensor:
    r"""Mean squared difference of two locally normalised pictures (PRaD, eq. 13).

    `L_lcn = 1/(C H W) || phi_j(Ftilde) - phi_j(Itilde_t) ||^2`, mean over the batch.

    Args:
        output: Predictions, (N, C, H, W) in [0, 1].
        target: Truth of the same shape.
        phi: Picture in [0, 1] -> features of one layer of a frozen network; it is handed
            `vgg_picture(Itilde)`. None compares Itilde itself, pixel by pixel.
        P: As for `local_contrast`.
        Q: As for `local_contrast`.
        C: As for `local_contrast`.
        sigma: As for `local_contrast`.

    Returns:
        A scalar, at least 0.

    Raises:
        ValueError: If the shapes differ, or as `local_contrast` and `vgg_picture` do.

    Departs: eq. 13 prints a norm without a square; its sister in DPED's code, the content loss,
        is squared.

    Example:
        >>> x = torch.rand(1, 3, 8, 8)
        >>> lcn(x, x)
        tensor(0.)
        >>> lcn(x, x, sigma="max")
        Traceback (most recent call last):
        ValueError: sigma is 'max'; expected 'mean' or 'sum'
    """
    _checks.alike(output=output, target=target)
    x, y = (local_contrast(one, P=P, Q=Q, C=C, sigma=sigma) for one in (output, target))
    if phi is None:
        return pixel.mse(x, y)
    return pixel.mse(phi(vgg_picture(x)), phi(vgg_picture(y)))


def gradient(output: Tensor, target: Tensor) -> Tensor:
    r"""Absolute difference of the pictures' gradients, mean per direction, added (PRaD, eq. 14).

    `L_grad = mean |d_x F - d_x I_t| + mean |d_y F - d_y I_t|` with forward differences inside the
    picture; each mean is over its own count of differences, channels and batch.

    Args:
        output: Predictions, (N, C, H, W) with H and W of 2 or more, any range.
        target: Truth of the same shape.

    Returns:
        A scalar, at least 0; blind to a constant added to either picture.

    Raises:
        ValueError: If the shapes differ or are none of these, or a tensor is not floating point.

    Departs: the paper does not name the norm; absolute values are our choice.

    Example:
        >>> gradient(torch.tensor([[[[0.0, 1.0], [0.0, 1.0]]]]), torch.zeros(1, 1, 2, 2))
        tensor(1.)
        >>> gradient(torch.ones(1, 1, 1, 2), torch.ones(1, 1, 1, 2))
        Traceback (most recent call last):
        ValueError: output has shape (1, 1, 1, 2); expected at least 2 x 2 pixels
    """
    _checks.alike(output=output, target=target)
    _checks.pictures(height=2, width=2, output=output)
    difference = _checks.wide(output) - _checks.wide(target)
    return difference.diff(dim=-1).abs().mean() + difference.diff(dim=-2).abs().mean()


def texture(output: Tensor, target: Tensor, *, phi: Network | None = None) -> Tensor:
    """The texture loss, `L_texture = L_lcn + L_grad` (PRaD, eq. 15).

    Args:
        output: Predictions, (N, C, H, W) in [0, 1].
        target: Truth of the same shape.
        phi: As for `lcn`.

    Returns:
        A scalar, at least 0.

    Raises:
        ValueError: As `lcn` and `gradient` do.

    Example:
        >>> x = torch.rand(1, 3, 8, 8)
        >>> texture(x, x)
        tensor(0.)
        >>> texture(x, x[:, :1])
        Traceback (most recent call last):
        ValueError: output has shape (1, 3, 8, 8), target (1, 1, 8, 8); expected equal shapes
    """
    return lcn(output, target, phi=phi) + gradient(output, target)


def _check_window(P: int, Q: int, C: float, sigma: str) -> None:
    if P < 0 or Q < 0:
        raise ValueError(f"P, Q are {P}, {Q}; expected 0 or more")
    if not (C > 0 and math.isfinite(C)):
        raise ValueError(f"C is {C}; expected a positive number")
    if sigma not in ("mean", "sum"):
        raise ValueError(f"sigma is {sigma!r}; expected 'mean' or 'sum'")


def _window_mean(padded: Tensor, P: int, Q: int) -> Tensor:
    return F.avg_pool2d(padded, (2 * P + 1, 2 * Q + 1), stride=1)


def _root(variance: Tensor) -> Tensor:
    # The root has no slope at 0 and would give NaN there. A flat window has numerator 0 as well,
    # so that the true gradient through sigma is 0.
    flat = variance <= 0
    return torch.where(flat, 0.0, torch.where(flat, 1.0, variance).sqrt())
