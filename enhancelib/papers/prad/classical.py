"""What a sceptic would try first: nothing, one colour map for all pictures, BIMEF.

All take (N, 3, H, W) in [0, 1] and return the same shape in [0, 1].
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from enhancelib import images
from enhancelib.datasets import Sample
from enhancelib.papers.prad import data

if TYPE_CHECKING:
    from enhancelib.papers.prad.settings import Parameters

Restore = Callable[[Tensor], Tensor]
Plane = np.ndarray[Any, np.dtype[np.float64]]
IDENTITY, AFFINE, QUADRATIC = "identity", "affine colour map", "quadratic polynomial"
BIMEF = "BIMEF"
CHEAP = (IDENTITY, AFFINE, QUADRATIC)
"""The rows of every quality table; BIMEF is slower, and in the main table alone."""

_TERMS = {1: 4, 2: 10}
_A, _B = -0.3293, 1.1258  # camera response of BIMEF: one curve fitted to many cameras
_EXPOSURES = (1.0, 7.0)
_SMOOTH, _WINDOW, _SHARP = 0.5, 5, 1e-3  # lambda, sigma, sharpness of BIMEF's weights


def baselines(p: Parameters, *, cheap: bool = False) -> dict[str, Restore]:
    """The classical rows; colour maps are fitted to the training pairs, streaming.

    Args:
        p: Says which pairs.
        cheap: Leave BIMEF out.

    Returns:
        Method -> restoring function, in the order of the tables.
    """
    maps = _fitted(p)
    found: dict[str, Restore] = {IDENTITY: identity, AFFINE: maps[1], QUADRATIC: maps[2]}
    return found if cheap else {**found, BIMEF: bimef}


@lru_cache(maxsize=2)
def _fitted(p: Parameters) -> dict[int, ColourMap]:
    """Fitted once a run: several tables have these rows, and DPED has 160,000 pairs."""
    return fit_all(data.chunks(p), orders=(1, 2))


def identity(degraded: Tensor) -> Tensor:
    """The phone's picture as it is.

    Args:
        degraded: (N, 3, H, W).

    Returns:
        The same tensor.
    """
    return degraded


@dataclass(frozen=True)
class ColourMap:
    """The same polynomial of R, G, B at every pixel.

    y = M (1, R, G, B)^T, or with the six products of two channels as further terms; cut to [0, 1].

    Args:
        coefficients: (terms, 3) float64, 4 or 10 terms.

    Raises:
        ValueError: If there are neither 4 nor 10 terms for 3 channels.

    Example:
        >>> halved = ColourMap(torch.cat([torch.zeros(1, 3), torch.eye(3) / 2]))
        >>> halved(torch.ones(1, 3, 1, 1)).flatten().tolist()
        [0.5, 0.5, 0.5]
        >>> ColourMap(torch.eye(3))
        Traceback (most recent call last):
        ValueError: coefficients have shape (3, 3); expected (4, 3) or (10, 3)
    """

    coefficients: Tensor

    def __post_init__(self) -> None:
        shape = tuple(self.coefficients.shape)
        if shape not in [(terms, 3) for terms in _TERMS.values()]:
            raise ValueError(f"coefficients have shape {shape}; expected (4, 3) or (10, 3)")

    def __call__(self, degraded: Tensor) -> Tensor:
        """Map every colour.

        Args:
            degraded: (N, 3, H, W).

        Returns:
            (N, 3, H, W) in [0, 1], of the same type.
        """
        order = 1 if len(self.coefficients) == _TERMS[1] else 2
        pieces = []
        for k in range(0, len(degraded), 50):  # ten float64 planes per picture
            mapped = _terms(degraded[k : k + 50], order) @ self.coefficients.to(degraded).double()
            pieces.append(mapped.movedim(-1, 1))
        return images.clip(torch.cat(pieces)).to(degraded.dtype)


def fit(pairs: Iterable[Sample], *, order: int = 2) -> ColourMap:
    """The colour map with the smallest squared error over all pixels.

    Args:
        pairs: Samples of `degraded` and `clean`, (B, 3, H, W); each is seen once.
        order: 1 (affine, 4 terms) or 2 (quadratic, 10 terms).

    Returns:
        The map.

    Raises:
        ValueError: If the order is neither, or there are no pairs.

    Example:
        >>> x = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
        >>> found = fit([{"degraded": x, "clean": 0.5 * x + 0.25}], order=1)
        >>> (found.coefficients[:, 0].round(decimals=3) + 0.0).tolist()
        [0.25, 0.5, 0.0, 0.0]
        >>> fit([], order=3)
        Traceback (most recent call last):
        ValueError: order is 3, with 0 pairs; expected 1 or 2, and at least one pair
    """
    return fit_all(pairs, orders=(order,))[order]


def fit_all(pairs: Iterable[Sample], *, orders: Iterable[int] = (1, 2)) -> dict[int, ColourMap]:
    """The best colour maps of several orders, in one pass over the pairs.

    Args:
        pairs: As for `fit`.
        orders: Each 1 or 2.

    Returns:
        Order -> map.

    Raises:
        ValueError: If an order is neither, or there are no pairs.

    Example:
        >>> fit_all([])
        Traceback (most recent call last):
        ValueError: order is 1, with 0 pairs; expected 1 or 2, and at least one pair
    """
    terms = _TERMS[2]
    # The affine terms come first among the quadratic ones: one set of sums serves both.
    gram = torch.zeros(terms, terms, dtype=torch.float64)
    moment = torch.zeros(terms, 3, dtype=torch.float64)
    count = 0
    for sample in pairs:
        count += len(sample["clean"])
        x = _terms(sample["degraded"], 2).flatten(0, -2)
        y = sample["clean"].movedim(1, -1).double().flatten(0, -2)
        gram += (x.T @ x).cpu()
        moment += (x.T @ y).cpu()
    found = {}
    for order in orders:
        if order not in _TERMS or not count:
            raise ValueError(
                f"order is {order}, with {count} pairs; expected 1 or 2, and at least one pair"
            )
        n = _TERMS[order]
        # lstsq, not solve: pairs of one colour leave some terms without a say
        solution = torch.linalg.lstsq(gram[:n, :n], moment[:n], driver="gelsd").solution
        found[order] = ColourMap(solution)
    return found


def _terms(picture: Tensor, order: int) -> Tensor:
    """(N, H, W, 4 or 10) float64: 1, R, G, B, and RR, GG, BB, RG, RB, GB."""
    r, g, b = picture.double().unbind(1)
    terms = [torch.ones_like(r), r, g, b]
    if order == 2:
        terms += [r * r, g * g, b * b, r * g, r * b, g * b]
    return torch.stack(terms, dim=-1)


def bimef(degraded: Tensor) -> Tensor:
    """Fuse each picture with a brighter exposure of itself, where it is dark.

    result = t^0.5 I + (1 - t^0.5) (g(I, k) - 0.01), g(P, k) = exp((1 - k^a) b) P^(k^a): t is the
    brightness max(R, G, B), smoothed along edges only; the exposure ratio k in [1, 7] gives the
    dark pixels (t < 0.5) the largest entropy. Without dark pixels nothing changes.

    Args:
        degraded: (N, 3, H, W) in [0, 1].

    Returns:
        (N, 3, H, W) in [0, 1].

    Source: Ying et al., "A Bio-Inspired Multi-Exposure Fusion Framework for Low-light Image
    Enhancement", arXiv 1711.00591; parameters of the official code (baidut/BIMEF, 509f0411).
    Departs: the mask is shrunk to the thumbnail like a picture and cut at a half; the linear
    system is solved exactly, not by preconditioned gradients.
    """
    return torch.stack([_fused(picture) for picture in degraded])


def _fused(picture: Tensor) -> Tensor:
    bright = picture.amax(0, keepdim=True)
    half = images.resize(bright, scale=0.5)
    t = images.resize(_smoothed(half), size=(bright.shape[-2], bright.shape[-1])).clamp(0, 1)
    k = _exposure(picture, t < 0.5)
    exposed = picture if k is None else _brighter(picture, k) - 0.01
    share = t.sqrt()
    return images.clip(share * picture + (1 - share) * exposed)


def _brighter(values: Tensor, k: float) -> Tensor:
    gamma = k**_A
    return values.pow(gamma) * float(np.exp((1 - gamma) * _B))


def _exposure(picture: Tensor, dark: Tensor) -> float | None:
    """The k of largest entropy over the dark pixels of a thumbnail; None where none is dark."""
    from scipy.optimize import minimize_scalar

    small = images.resize(picture, size=(50, 50)).clamp_min(0)
    mask = images.resize(dark.to(picture), size=(50, 50))[0] >= 0.5
    values = small.prod(0).pow(1 / 3)[mask]
    if not len(values):
        return None
    found = minimize_scalar(
        lambda k: -_entropy(_brighter(values, float(k))), bounds=_EXPOSURES, method="bounded"
    )
    return float(found.x)


def _entropy(values: Tensor) -> float:
    """In bits, of the histogram of 8-bit levels."""
    share = torch.bincount(images.to_uint8(values).flatten().long(), minlength=256).double()
    share = share[share > 0] / share.sum()
    return -float((share * share.log2()).sum())


def _smoothed(t: Tensor) -> Tensor:
    """Minimise (s - t)^2 + lambda (w_x (d_x s)^2 + w_y (d_y s)^2), w small across edges.

    Differences wrap around at the border, as in the official code.
    """
    from scipy.sparse import coo_matrix, diags
    from scipy.sparse.linalg import spsolve

    plane = t[0].double().cpu().numpy()
    count = plane.size
    here = np.arange(count).reshape(plane.shape)
    system = diags([np.ones(count)], [0]).tocsr()
    for axis in (0, 1):
        weight = _SMOOTH * _weights(plane, axis).ravel()
        first, second = here.ravel(), np.roll(here, -1, axis).ravel()
        rows = np.concatenate([first, second, first, second])
        columns = np.concatenate([first, second, second, first])
        values = np.concatenate([weight, weight, -weight, -weight])
        system = system + coo_matrix((values, (rows, columns)), shape=(count, count)).tocsr()
    solved = spsolve(system.tocsc(), plane.ravel()).reshape(plane.shape)
    return torch.from_numpy(solved).to(t)[None]


def _weights(plane: Plane, axis: int) -> Plane:
    """1 / (|sum of differences over a window| |difference| + sharpness) towards the next pixel."""
    from scipy.ndimage import correlate1d

    difference = np.roll(plane, -1, axis) - plane
    window = correlate1d(difference, np.ones(_WINDOW), axis=axis, mode="constant")
    weights: Plane = 1 / (np.abs(window) * np.abs(difference) + _SHARP)
    return weights
