r"""Deep photo style transfer's terms on the picture itself: the matting Laplacian and variation.

A photograph stays one if its colours are, in every window, an affine function of the colours of
the content there. The matting Laplacian M charges for the distance to that.

| symbol | here | meaning |
|---|---|---|
| I | guide | the picture that M is built on |
| V_c | image[:, c] | channel c of the picture charged, as a vector |
| mu_k, Sigma_k | self._means, self._inverse | mean and covariance of I in window k |
| eps | eps | price of the slopes of the affine function |
| M | product, sparse | the matting Laplacian |

Charging V costs, in every window of `n = (2 radius + 1)^2` pixels, what is left of the cheapest
affine fit: `min_ab sum_i (V_i - a . I_i - b)^2 + eps |a|^2`. All windows together are `V^T M V`.

Source: Levin, Lischinski, Weiss, CVPR 2006 and TPAMI 2008 for M; Luan et al., CVPR 2017 for the
loss; He, Sun, Tang, TPAMI 2013 for M's product by box filters, which is one of theirs.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from enhancelib.losses import _checks

_FORMS = ("sparse", "free")


class MattingLaplacian:
    r"""The matting Laplacian of a guide, as a loss, as a product and as a sparse matrix.

    `M_ij = sum_k delta_ij - (1/n) (1 + (I_i - mu_k)^T (Sigma_k + (eps/n) Id)^-1 (I_j - mu_k))`
    over the windows k that hold both i and j and lie inside the picture. Rows sum to 0, M is
    symmetric and positive semi-definite, and the guide's own channels cost next to nothing.

    What depends on the guide alone is made once. All is computed in float64 and comes back in the
    picture's type: in float32 the covariances of flat windows would be rounding error, which their
    inverse enlarges by up to n/eps, 1e8.

    Args:
        guide: I, (B, D, H, W) in [0, 1], at least one window in size; no gradient flows to it.
        radius: Of the windows, 1 or more.
        eps: Price of the slopes, positive. 1e-7 as in the authors' Matlab and pymatting; a port
            to TensorFlow has 1e-5.
        form: "sparse" multiplies by the matrix, `nnz = (4 radius + 1)^2` numbers a pixel; "free"
            needs no matrix, only box filters. None chooses: sparse for radius 1 on a CPU, where at
            512 px and on one core a value with its gradient took 30 ms against 125 ms, which
            pays for the 2.5 s of making the matrix within 30 steps; free for larger radii (100
            against 120 ms, but 11 s to make) and on a GPU, where nothing was measured and free
            keeps a quarter of the memory. benchmarks/matting.py measures it on yours.

    Raises:
        ValueError: If the guide has another shape or type or is smaller than a window, radius is
            below 1, eps is not positive or form is unknown.

    Source: Levin et al., CVPR 2006; agrees with pymatting's `cf_laplacian` (1.1.16) in value and
        gradient. Pixels are counted row by row, as there; the authors' Matlab counts columns.

    Example:
        >>> guide = torch.rand(1, 3, 8, 9)
        >>> M = MattingLaplacian(guide)
        >>> float(M.loss(guide)) < 1e-4 < float(M.loss(torch.rand(1, 3, 8, 9)))
        True
        >>> MattingLaplacian(guide[..., :2])
        Traceback (most recent call last):
        ValueError: guide has shape (1, 3, 8, 2); expected at least 3 x 3 pixels
    """

    def __init__(
        self, guide: Tensor, *, radius: int = 1, eps: float = 1e-7, form: str | None = None
    ) -> None:
        _check(radius, eps, form)
        _checks.pictures(height=2 * radius + 1, width=2 * radius + 1, guide=guide)
        if form is None:
            form = "sparse" if radius == 1 and guide.device.type == "cpu" else "free"
        self.radius, self.eps, self.form = radius, eps, form
        self._guide = guide.detach().double()
        self._size = (2 * radius + 1) ** 2
        self._means = _sums(self._guide, radius) / self._size
        self._inverse = self._invert()
        self._count = _spread(torch.ones_like(self._means[:1, :1]), radius)
        self._matrix = self.sparse() if form == "sparse" else None

    def loss(self, image: Tensor) -> Tensor:
        r"""The affine loss `L_aff = sum_c V_c^T M V_c`, mean over the batch (DPST).

        A sum over pixels, as printed: it grows with the picture.

        Args:
            image: (B, C, H, W) in [0, 1], of the guide's B, H and W; any number of channels.

        Returns:
            A scalar, at least 0; its gradient is 2 M V / B, and no second derivative is kept.

        Raises:
            ValueError: If the image has another shape than the guide, or is not floating point.

        Example:
            >>> M = MattingLaplacian(torch.zeros(1, 3, 3, 3))
            >>> M.loss(torch.eye(3)[None, None])
            tensor(2.)
            >>> M.loss(torch.zeros(1, 3, 4, 3))
            Traceback (most recent call last):
            ValueError: image has shape (1, 3, 4, 3); expected (1, C, 3, 3) as the guide's
        """
        self._fits(image)
        V = image.double()
        V = V - V.detach().mean(dim=(2, 3), keepdim=True)  # M is blind to it, rounding is not
        seen = V.detach()
        # V^T M V in value and 2 M V in gradient, from one product
        total = ((2 * V - seen) * self._product(seen)).sum() / len(V)
        return total.to(torch.promote_types(image.dtype, torch.float32))

    def product(self, v: Tensor) -> Tensor:
        """M v, every channel for itself.

        Args:
            v: (B, C, H, W) of the guide's B, H and W.

        Returns:
            The same shape, at least float32; differentiable in v.

        Raises:
            ValueError: As `loss` does.

        Example:
            >>> M = MattingLaplacian(torch.zeros(1, 3, 3, 3))
            >>> M.product(torch.eye(3)[None, None])[0, 0].round(decimals=4)
            tensor([[ 0.6667, -0.3333, -0.3333],
                    [-0.3333,  0.6667, -0.3333],
                    [-0.3333, -0.3333,  0.6667]])
            >>> M.product(torch.zeros(1, 1, 3, 3).int())
            Traceback (most recent call last):
            ValueError: v is torch.int32; expected floating point
        """
        self._fits(v, "v")
        return self._product(v.double()).to(torch.promote_types(v.dtype, torch.float32))

    def sparse(self) -> Tensor:
        """M itself.

        Returns:
            (B H W, B H W) sparse CSR, float64: one block per picture, pixels row by row,
            (4 radius + 1)^2 entries a row, fewer at the border.

        Example:
            >>> MattingLaplacian(torch.zeros(1, 3, 3, 3)).sparse().to_dense()[4, :5]
            tensor([-0.1111, -0.1111, -0.1111, -0.1111,  0.8889], dtype=torch.float64)
        """
        (B, _, H, W), side = self._guide.shape, 4 * self.radius + 1
        places = torch.arange(H * W, device=self._guide.device).view(H, W)
        padded = F.pad(places, (side // 2,) * 4, value=-1)
        near = padded.unfold(0, side, 1).unfold(1, side, 1)  # (H, W, side, side)
        kept = near >= 0
        counts = kept.sum(dim=(2, 3)).flatten().repeat(B)
        blocks = H * W * torch.arange(B, device=places.device)[:, None]
        values = self._diagonals().permute(0, 3, 4, 1, 2)[:, kept]
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
            return torch.sparse_csr_tensor(
                F.pad(counts.cumsum(0), (1, 0)),
                (near[kept] + blocks).flatten(),
                values.flatten(),
                (B * H * W, B * H * W),
                check_invariants=False,
            )

    def _invert(self) -> Tensor:
        """(B, D, D, h, w) inverse of Sigma_k + eps/n, by window."""
        ridge = self.eps * torch.eye(self._guide.shape[1]).to(self._guide)
        squares = ridge[None, :, :, None, None]
        for _, _, window in self._windows():
            moved = window - self._means
            squares = squares + moved[:, :, None] * moved[:, None]
        inverse: Tensor = torch.linalg.inv(squares.permute(0, 3, 4, 1, 2) / self._size)
        return inverse.permute(0, 3, 4, 1, 2).contiguous()

    def _windows(self) -> Iterator[tuple[int, int, Tensor]]:
        """(row, column) of a pixel in its window, and the guide there by window (B, D, h, w)."""
        h, w = self._means.shape[2:]
        for row, column in itertools.product(range(2 * self.radius + 1), repeat=2):
            yield row, column, self._guide[..., row : row + h, column : column + w]

    def _product(self, v: Tensor) -> Tensor:
        if self._matrix is None:
            return self._filtered(v)
        B, C, H, W = v.shape
        columns = v.permute(0, 2, 3, 1).reshape(B * H * W, C)
        return (self._matrix @ columns).view(B, H, W, C).permute(0, 3, 1, 2)

    def _filtered(self, v: Tensor) -> Tensor:
        """`count V - sum_k (mean_k(V) + a_k . (I - mu_k))` with a_k the slopes of window k."""
        r, n = self.radius, self._size
        guide, means = self._guide[:, None], self._means[:, None]
        mean = _sums(v, r) / n
        moments = _by_plane(_sums, guide * v[:, :, None], r) / n - means * mean[:, :, None]
        slopes = torch.einsum("bdehw,bcehw->bcdhw", self._inverse, moments)
        level = _spread(mean - (slopes * means).sum(2), r)
        spread = _by_plane(_spread, slopes, r)
        return self._count * v - level - (spread * guide).sum(dim=2)

    def _diagonals(self) -> Tensor:
        """(B, 4r+1, 4r+1, H, W) entries of row (y, x) at the pixels up to 2r away."""
        (B, _, H, W), (h, w), reach = self._guide.shape, self._means.shape[2:], 2 * self.radius
        found = self._guide.new_zeros(B, 2 * reach + 1, 2 * reach + 1, H, W)
        centered = [(y, x, window - self._means) for y, x, window in self._windows()]
        for y, x, one in centered:
            sloped = torch.einsum("bdehw,behw->bdhw", self._inverse, one)
            here = found[..., y : y + h, x : x + w]
            for other_y, other_x, other in centered:
                step = here[:, other_y - y + reach, other_x - x + reach]
                step -= (1 + (sloped * other).sum(1)) / self._size
            here[:, reach, reach] += 1
        return found

    def _fits(self, image: Tensor, name: str = "image") -> None:
        _checks.pictures(height=1, width=1, **{name: image})
        (B, _, H, W), shape = self._guide.shape, tuple(image.shape)
        if (shape[0], *shape[2:]) != (B, H, W):
            raise ValueError(
                f"{name} has shape {shape}; expected ({B}, C, {H}, {W}) as the guide's"
            )


def matting(image: Tensor, guide: Tensor, *, radius: int = 1, eps: float = 1e-7) -> Tensor:
    r"""The affine loss of Luan et al., `L_aff = sum_c V_c^T M_I V_c`, mean over the batch.

    For one look; to optimise against one guide keep its `MattingLaplacian`, as this one is made
    anew every time.

    Args:
        image: Picture charged, (B, C, H, W) in [0, 1].
        guide: I, (B, D, H, W) in [0, 1]; no gradient flows to it.
        radius: Of the windows, see `MattingLaplacian`.
        eps: Price of the slopes, see `MattingLaplacian`.

    Returns:
        A scalar, at least 0; a sum over pixels.

    Raises:
        ValueError: As `MattingLaplacian` and its `loss` do.

    Source: Luan, Paris, Shechtman, Bala, CVPR 2017 (weight 1e4).

    Example:
        >>> guide = torch.rand(1, 3, 8, 9)
        >>> float(matting(0.3 * guide + 0.5, guide)) < 1e-5
        True
        >>> matting(guide, guide, eps=0.0)
        Traceback (most recent call last):
        ValueError: radius is 1, eps 0.0; expected 1 or more, and a positive number
    """
    return MattingLaplacian(guide, radius=radius, eps=eps, form="free").loss(image)


def variation(image: Tensor) -> Tensor:
    r"""Half the sum of squared differences of neighbours, mean over the batch (DPST's L_TV).

    `L_TV = 1/2 (sum (d_x V)^2 + sum (d_y V)^2)` with forward differences inside the picture. A sum,
    where `pixel.total_variation` has means; its weight of 1e-3 is for pictures in 0..255.

    Args:
        image: (B, C, H, W), any range.

    Returns:
        A scalar, at least 0.

    Raises:
        ValueError: If image has another shape, or is not floating point.

    Source: LouieYang/deep-photo-styletransfer-tf (ae8e773).
    Departs: there the last row and the last column have one difference instead of two; here every
        difference inside the picture counts.

    Example:
        >>> variation(torch.tensor([[[[0.0, 1.0], [0.0, 1.0]]]]))
        tensor(1.)
        >>> variation(torch.ones(3, 8, 8))
        Traceback (most recent call last):
        ValueError: image has shape (3, 8, 8); expected (N, C, H, W)
    """
    _checks.pictures(image=image)
    V = _checks.wide(image)
    squares = V.diff(dim=-1).square().sum() + V.diff(dim=-2).square().sum()
    return squares / (2 * len(V))


def _check(radius: int, eps: float, form: str | None) -> None:
    if radius < 1 or not 0 < eps < float("inf"):
        raise ValueError(
            f"radius is {radius}, eps {eps}; expected 1 or more, and a positive number"
        )
    if form not in (None, *_FORMS):
        raise ValueError(f"form is {form!r}; expected 'sparse', 'free' or None")


def _sums(x: Tensor, radius: int) -> Tensor:
    """Sum of every window inside the picture: (B, C, H, W) -> (B, C, H - 2r, W - 2r)."""
    for dim in (2, 3):
        inside = x.shape[dim] - 2 * radius
        total = x.narrow(dim, 0, inside) + x.narrow(dim, 1, inside)
        for start in range(2, 2 * radius + 1):
            total += x.narrow(dim, start, inside)
        x = total
    return x


def _spread(x: Tensor, radius: int) -> Tensor:
    """The transpose of `_sums`: every pixel gets the sum of the windows that hold it."""
    return _sums(F.pad(x, (2 * radius,) * 4), radius)


def _by_plane(box: Callable[[Tensor, int], Tensor], x: Tensor, radius: int) -> Tensor:
    """The same of (B, C, D, H, W)."""
    planes = box(x.flatten(1, 2), radius)
    return planes.view(*x.shape[:3], *planes.shape[2:])
