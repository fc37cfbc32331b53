"""Whitening and colouring, and what else networks of photo-realistic style transfer share."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

Divisor = Literal["n", "n-1"]


def coloured(content: Tensor, style: Tensor, *, divisor: Divisor) -> Tensor:
    r"""Features of the content with mean and covariance of those of the style.

    \(\hat F_c = (\Sigma_s + I)^{1/2} (\Sigma_c + I)^{-1/2} (F_c - \mu_c) + \mu_s\), both roots the
    symmetric ones (ZCA). Under the identity that is added no eigenvalue falls below 1, so the
    official codes' cut at 1e-5 never bites and is left out.

    `content` is (B, C, ...), `style` (B, C, ...) or (1, C, ...), each of its own size;
    `divisor` is that of the covariances.
    """
    c, s = content.flatten(2), style.flatten(2)
    mean = s.mean(2, keepdim=True)
    centred = c - c.mean(2, keepdim=True)
    matrix = _power(s - mean, 0.5, divisor) @ _power(centred, -0.5, divisor)
    return (matrix.to(c.dtype) @ centred + mean).view_as(content)


def _power(centred: Tensor, exponent: float, divisor: Divisor) -> Tensor:
    """(covariance + I)^exponent in float64, in which the decomposition is worth its digits."""
    pixels = centred.shape[2]
    count = pixels if divisor == "n" else max(pixels - 1, 1)
    covariance = (centred @ centred.mT / count).double()
    values, vectors = torch.linalg.eigh(covariance + torch.eye(centred.shape[1]).to(covariance))
    root: Tensor = vectors * values.pow(exponent)[:, None] @ vectors.mT
    return root


def padded(picture: Tensor, multiple: int) -> Tensor:
    """The last row and column repeated until both sides are multiples; labels (H, W) too."""
    height, width = picture.shape[-2:]
    more = (0, -width % multiple, 0, -height % multiple)
    if not any(more):
        return picture
    four = picture.reshape(-1, 1, height, width).double()  # exact for labels, too
    large = functional.pad(four, more, mode="replicate").to(picture.dtype)
    return large.view(*picture.shape[:-2], *large.shape[-2:])


def check_pair(content: Tensor, style: Tensor, *, least: int) -> None:
    """Refuse pictures of another layout, too small ones, and as many styles as fit nothing."""
    for name, picture in (("content", content), ("style", style)):
        if picture.ndim != 4 or picture.shape[1] != 3 or min(picture.shape[-2:]) < least:
            raise ValueError(
                f"{name} has shape {tuple(picture.shape)}; expected (B, 3, H, W) with sides of at "
                f"least {least} pixels"
            )
    if style.shape[0] not in (1, content.shape[0]):
        raise ValueError(
            f"style holds {style.shape[0]} pictures; expected 1, or {content.shape[0]} as content"
        )
