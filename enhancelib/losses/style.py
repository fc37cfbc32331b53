r"""Style and content between features: Gram matrices, with and without masks.

Those compare feature maps (B, C, h, w). STROTSS' losses, which compare sets of vectors, are here
under their names too; `losses.transport` holds them.

| symbol | here | meaning |
|---|---|---|
| G, A | gram(X), gram(Y) | sums over positions of products of two channels |
| N, M | channels, positions | of a layer |
| m_k, n_k | masks_X, masks_Y | classes of output and style |

Source: Gatys, Ecker, Bethge, CVPR 2016; Luan et al., CVPR 2017.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from enhancelib.losses import _checks
from enhancelib.losses.transport import (
    hypercolumns,
    moments,
    palette,
    remd,
    self_similarity,
    strotss,
)

__all__ = [
    "gatys_content",
    "gatys_style",
    "gram",
    "hypercolumns",
    "masked_gram_style",
    "moments",
    "palette",
    "remd",
    "self_similarity",
    "strotss",
]


def gram(X: Tensor) -> Tensor:
    """The Gram matrix `G_ab = sum_p X_ap X_bp`, over the positions p of every picture.

    Args:
        X: Features, (B, C, h, w).

    Returns:
        (B, C, C), not divided by anything, at least float32.

    Raises:
        ValueError: If X has another shape, or is not floating point.

    Example:
        >>> gram(torch.tensor([[[[1.0, 2.0]], [[0.0, 3.0]]]]))
        tensor([[[5., 6.],
                 [6., 9.]]])
        >>> gram(torch.ones(2, 3))
        Traceback (most recent call last):
        ValueError: X has shape (2, 3); expected (N, C, H, W)
    """
    _checks.pictures(X=X)
    rows = _checks.wide(X).flatten(2)
    with torch.autocast(X.device.type, enabled=False):
        return rows @ rows.transpose(1, 2)


def gatys_style(X: Tensor, Y: Tensor) -> Tensor:
    """Squared difference of Gram matrices, `1/(4 N^2 M^2) sum (G - A)^2`, mean over the batch.

    Args:
        X: Features of the output, (B, C, h, w).
        Y: Features of the style, same B and C. Where it has another number of positions, every
            Gram matrix is divided by its own M.

    Returns:
        A scalar, at least 0, of one layer.

    Raises:
        ValueError: If a shape is none of these, or a tensor is not floating point.

    Source: Gatys et al., CVPR 2016, eq. 4; cysmith/neural-style-tf (a2c374f).

    Example:
        >>> gatys_style(torch.ones(1, 1, 1, 2), torch.zeros(1, 1, 1, 2))
        tensor(0.2500)
        >>> gatys_style(torch.ones(1, 2, 1, 2), torch.ones(1, 1, 1, 2))
        Traceback (most recent call last):
        ValueError: X has shape (1, 2, 1, 2), Y (1, 1, 1, 2); expected the same B and C
    """
    _layers(X, Y)
    G, A = (gram(one) / one[0, 0].numel() for one in (X, Y))
    return (G - A).square().sum() / (4 * X.shape[1] ** 2 * len(X))


def gatys_content(X: Tensor, Y: Tensor, *, form: int = 1) -> Tensor:
    """Squared difference of features, `K sum (X - Y)^2`, mean over the batch.

    Args:
        X: Features of the output, (B, C, h, w).
        Y: Features of the content, same shape.
        form: K is `1/(2 sqrt(N) sqrt(M))` with 1, `1/(N M)` with 2 (the mean, as Deep Photo Style
            Transfer has it) and `1/2` with 3, which is the paper's.

    Returns:
        A scalar, at least 0.

    Raises:
        ValueError: If the shapes differ or are none of these, a tensor is not floating point, or
            form is unknown.

    Source: Gatys et al., CVPR 2016, eq. 1; cysmith/neural-style-tf (a2c374f) for the forms.

    Example:
        >>> [float(gatys_content(torch.ones(1, 4, 2, 2), torch.zeros(1, 4, 2, 2), form=k))
        ...  for k in (1, 2, 3)]
        [2.0, 1.0, 8.0]
        >>> gatys_content(torch.ones(1, 4, 2, 2), torch.ones(1, 4, 2, 2), form=0)
        Traceback (most recent call last):
        ValueError: form is 0; expected 1, 2 or 3
    """
    _checks.alike(X=X, Y=Y)
    _checks.pictures(X=X)
    values = X[0].numel()
    factors = {1: 1 / (2 * math.sqrt(values)), 2: 1 / values, 3: 1 / 2}
    if form not in factors:
        raise ValueError(f"form is {form}; expected 1, 2 or 3")
    squares = (_checks.wide(X) - _checks.wide(Y)).square().sum()
    return squares * (factors[form] / len(X))


def masked_gram_style(X: Tensor, Y: Tensor, masks_X: Tensor, masks_Y: Tensor) -> Tensor:
    r"""Style of every class for itself, L_style+ of one layer, mean over the batch (DPST).

    `sum_k m_k mean_ab (G_ab(m_k X) / (size(X) m_k) - G_ab(n_k Y) / (size(Y) n_k))^2` with m_k and
    n_k the means of the masks by which the features are multiplied and size the number of values
    in one picture's features. An empty mask leaves its Gram matrix, 0, as it is.

    Args:
        X: Features of the output, (B, C, h, w).
        Y: Features of the style, same B and C.
        masks_X: Classes of the content in the layer's size, (K, h, w) in [0, 1].
        masks_Y: The same classes of the style, (K, h', w').

    Returns:
        A scalar, at least 0. A class that only the content has is drawn towards 0, as released; one
        that only the style has costs nothing.

    Raises:
        ValueError: If a mask's size is not its layer's, their numbers differ, or a tensor has
            another shape or is not floating point.

    Source: Luan et al., CVPR 2017; LouieYang/deep-photo-styletransfer-tf (ae8e773).

    Example:
        >>> X, mask = torch.ones(1, 2, 2, 2), torch.ones(1, 2, 2)
        >>> masked_gram_style(X, 2 * X, mask, mask)
        tensor(2.2500)
        >>> masked_gram_style(X, X, mask, mask[:, :1])
        Traceback (most recent call last):
        ValueError: masks_Y has shape (1, 1, 2); expected (1, 2, 2), classes and size of Y
    """
    _layers(X, Y)
    classes = len(masks_X)
    for name, masks, maps in (("X", masks_X, X), ("Y", masks_Y, Y)):
        _checks.floating(**{f"masks_{name}": masks})
        if masks.shape != (wanted := (classes, *maps.shape[2:])):
            raise ValueError(
                f"masks_{name} has shape {tuple(masks.shape)}; expected {wanted}, "
                f"classes and size of {name}"
            )
    total = _checks.wide(X).new_zeros(())
    for m, n in zip(masks_X, masks_Y, strict=True):
        total = total + m.mean() * (_share(X, m) - _share(Y, n)).square().mean()
    return total


def _layers(X: Tensor, Y: Tensor) -> None:
    _checks.pictures(X=X, Y=Y)
    if X.shape[:2] != Y.shape[:2]:
        raise ValueError(
            f"X has shape {tuple(X.shape)}, Y {tuple(Y.shape)}; expected the same B and C"
        )


def _share(X: Tensor, mask: Tensor) -> Tensor:
    """Gram matrices of masked features, by the number of values under the mask."""
    size = X[0].numel() * mask.mean()
    return gram(X * mask) / torch.where(size > 0, size, 1.0)
