"""Losses that compare two pictures pixel by pixel.

All take (output, target) of one shape and return a scalar; sums and means are stated per function,
because a plain SGD step scales with them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from enhancelib.losses import _checks


def half_sse(output: Tensor, target: Tensor) -> Tensor:
    r"""Half the squared error, summed over pixels and averaged over the batch (DnCNN, eq. 1).

    `l = 1/(2N) sum_i || output_i - target_i ||_F^2` with N pictures or patches. In the paper output
    is R(y) and target y - x; the loss of (x_hat, x) is the same number, for x_hat = y - R(y).

    Args:
        output: Predictions, (N, C, H, W), any range.
        target: Truth of the same shape.

    Returns:
        A scalar, at least 0. It is not a mean over pixels: it grows with C H W.

    Raises:
        ValueError: If the shapes differ, are not (N, C, H, W), or a tensor is not floating point.

    Source: Zhang et al., IEEE TIP 26(7), 2017, eq. 1; cszn/DnCNN (e93b278), its loss layer.

    Example:
        >>> half_sse(torch.ones(2, 1, 3, 3), torch.zeros(2, 1, 3, 3))
        tensor(4.5000)
        >>> half_sse(torch.ones(3, 3), torch.zeros(3, 3))
        Traceback (most recent call last):
        ValueError: output has shape (3, 3); expected (N, C, H, W)
    """
    _checks.alike(output=output, target=target)
    if output.ndim != 4:
        raise ValueError(f"output has shape {tuple(output.shape)}; expected (N, C, H, W)")
    return (output - target).square().sum() / (2 * output.shape[0])


def mse(output: Tensor, target: Tensor) -> Tensor:
    r"""Mean squared error, `1/M sum (output - target)^2` over all M values.

    Args:
        output: Predictions, any shape and range.
        target: Truth of the same shape.

    Returns:
        A scalar, at least 0.

    Raises:
        ValueError: If the shapes differ or a tensor is not floating point.

    Example:
        >>> mse(torch.full((1, 1, 2, 2), 3.0), torch.ones(1, 1, 2, 2))
        tensor(4.)
        >>> mse(torch.ones(1, 3, 2, 2), torch.ones(1, 1, 2, 2))
        Traceback (most recent call last):
        ValueError: output has shape (1, 3, 2, 2), target (1, 1, 2, 2); expected equal shapes
    """
    _checks.alike(output=output, target=target)
    return (output - target).square().mean()


def l1(output: Tensor, target: Tensor) -> Tensor:
    r"""Mean absolute error, `1/M sum |output - target|` over all M values.

    Args:
        output: Predictions, any shape and range.
        target: Truth of the same shape.

    Returns:
        A scalar, at least 0; its gradient where the two are equal is 0.

    Raises:
        ValueError: If the shapes differ or a tensor is not floating point.

    Example:
        >>> l1(torch.full((1, 1, 2, 2), 3.0), torch.ones(1, 1, 2, 2))
        tensor(2.)
        >>> l1(torch.ones(2, 2, dtype=torch.uint8), torch.ones(2, 2, dtype=torch.uint8))
        Traceback (most recent call last):
        ValueError: output is torch.uint8; expected floating point
    """
    _checks.alike(output=output, target=target)
    return (output - target).abs().mean()


def charbonnier(output: Tensor, target: Tensor, *, eps: float = 1e-3) -> Tensor:
    r"""Smooth absolute error, `1/M sum sqrt((output - target)^2 + eps^2)` over all M values.

    Args:
        output: Predictions, any shape and range.
        target: Truth of the same shape.
        eps: Where it turns from quadratic to linear, in the pictures' unit; 1e-3 as LapSRN has it
            for pictures in [0, 1].

    Returns:
        A scalar, at least eps: equal pictures cost eps, not 0.

    Raises:
        ValueError: If the shapes differ, a tensor is not floating point, or eps is not positive.

    Source: Charbonnier et al., ICIP 1994; Lai et al., CVPR 2017 (LapSRN).

    Example:
        >>> charbonnier(torch.full((1, 1, 2, 2), 3.0), torch.zeros(1, 1, 2, 2), eps=4.0)
        tensor(5.)
        >>> charbonnier(torch.ones(1), torch.ones(1), eps=0.0)
        Traceback (most recent call last):
        ValueError: eps is 0.0; expected a positive number
    """
    _checks.alike(output=output, target=target)
    if not 0 < eps < float("inf"):
        raise ValueError(f"eps is {eps}; expected a positive number")
    return torch.sqrt((output - target).square() + eps**2).mean()


def total_variation(output: Tensor) -> Tensor:
    r"""Squared differences of neighbours, averaged per direction and added (PRaD, eq. 18).

    `L_tv = mean (d_x F)^2 + mean (d_y F)^2` with forward differences inside the picture; each mean
    is over its own count of differences, channels and batch.

    Args:
        output: Pictures, (N, C, H, W) with H and W of 2 or more, any range.

    Returns:
        A scalar, at least 0; 0 for flat pictures.

    Raises:
        ValueError: If output has another shape, or is not floating point.

    Source: the released code of DPED, aiff22/DPED (ebb0131), whose weights are tuned to it.
    Departs: eq. 18 prints both differences inside one norm, where a rising and a falling edge
        would cancel; DPED's paper prints the same and its code does not do it.

    Example:
        >>> total_variation(torch.tensor([[[[0.0, 1.0], [0.0, 1.0]]]]))
        tensor(1.)
        >>> total_variation(torch.ones(1, 3, 8, 1))
        Traceback (most recent call last):
        ValueError: output has shape (1, 3, 8, 1); expected at least 2 x 2 pixels
    """
    _checks.pictures(height=2, width=2, output=output)
    output = _checks.wide(output)
    return output.diff(dim=-1).square().mean() + output.diff(dim=-2).square().mean()
