r"""Haze removal by the dark channel prior, and the haze model turned round.

Haze mixes the scene with the colour of the air: `I = J t + A (1 - t)` (eq. 1).

| symbol | variable | meaning |
|---|---|---|
| I, J | image, "output" | hazy picture, haze-free scene |
| t | transmission, t | share of the scene's light that arrives, (B, 1, H, W) |
| A | airlight, A | colour of the air, (B, 3, 1, 1) |
| omega, t0 | omega, floor | share of the haze that is removed, least t |
| L, lambda | L, weight | matting Laplacian of I, weight of the raw t~ |

Source: He, Sun, Tang, "Single Image Haze Removal Using Dark Channel Prior", TPAMI 2011.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from enhancelib import images
from enhancelib.filters import guided
from enhancelib.losses.photorealism import MattingLaplacian

Airlight = Literal["brightest", "mean", "channel_max"]
Refinement = Literal["guided", "matting", "none"]

_STEPS = 1000  # of conjugate gradients at most


def dark_channel(image: Tensor, window: int = 15) -> Tensor:
    """Smallest value of any channel in the window around every pixel (eq. 5).

    Near 0 in haze-free photos but for sky and white things; haze lifts it.

    Args:
        image: (B, C, H, W).
        window: Side of the square, odd; 15 in the paper. At the border the part inside counts.

    Returns:
        (B, 1, H, W).

    Raises:
        ValueError: If image is no float batch or window is not odd and positive.

    Source: He, Sun, Tang, TPAMI 2011.

    Example:
        >>> dark_channel(torch.tensor([[[[0.5, 0.2, 0.9, 0.8]]]]), 3)
        tensor([[[[0.2000, 0.2000, 0.2000, 0.8000]]]])
        >>> dark_channel(torch.zeros(1, 3, 4, 4), 4)
        Traceback (most recent call last):
        ValueError: window is 4; expected an odd number of pixels, 1 or more
    """
    _batch(image=image)
    if window < 1 or window % 2 == 0:
        raise ValueError(f"window is {window}; expected an odd number of pixels, 1 or more")
    highest, half = -image.amin(1, keepdim=True), window // 2
    highest = functional.max_pool2d(highest, (window, 1), 1, (half, 0))
    return -functional.max_pool2d(highest, (1, window), 1, (0, half))


def airlight(
    image: Tensor, how: Airlight = "brightest", *, share: float = 0.001, window: int = 15
) -> Tensor:
    """The colour of the air, from the pixels whose dark channel is largest.

    Args:
        image: Hazy pictures I, (B, C, H, W).
        how: "brightest" takes the one with the largest channel sum among them (He et al.), "mean"
            their mean (the port He-Zhang/image_dehaze), "channel_max" the maximum of each channel
            (Double-DIP, there with a share of 0.0001).
        share: Of the pixels, in (0, 1]; at least one pixel is taken.
        window: Of the dark channel.

    Returns:
        A, (B, C, 1, 1).

    Raises:
        ValueError: If image is no float batch, how is unknown, share is outside (0, 1] or window is
            not odd.

    Source: He, Sun, Tang, TPAMI 2011, section 4.4. Departs: the port leaves out the first of its
        pixels though it divides by their number; here all count.

    Example:
        >>> image = torch.zeros(1, 3, 20, 20)
        >>> image[..., :16, :16] = torch.tensor([0.7, 0.8, 0.9]).view(3, 1, 1)
        >>> airlight(image).flatten()
        tensor([0.7000, 0.8000, 0.9000])
        >>> airlight(image, share=0.0)
        Traceback (most recent call last):
        ValueError: share is 0.0; expected a number in (0, 1]
    """
    if how not in ("brightest", "mean", "channel_max"):
        raise ValueError(f"how is {how!r}; expected 'brightest', 'mean' or 'channel_max'")
    if not 0 < share <= 1:
        raise ValueError(f"share is {share}; expected a number in (0, 1]")
    dark = dark_channel(image, window).flatten(1)
    count = max(int(share * dark.shape[1]), 1)
    # stable, so that equal pixels come in the order of the picture on every machine
    index = dark.sort(dim=1, descending=True, stable=True).indices[:, :count]
    pixels = image.flatten(2).gather(2, index[:, None].expand(-1, image.shape[1], -1))
    if how == "brightest":
        best = pixels.sum(1, keepdim=True).argmax(2, keepdim=True)
        found = pixels.gather(2, best.expand(-1, image.shape[1], -1))
    else:
        found = pixels.mean(2, True) if how == "mean" else pixels.amax(2, True)
    return found[..., None]


def invert_haze(
    image: Tensor, transmission: Tensor, airlight: Tensor, *, floor: float = 0.1
) -> Tensor:
    """Take the haze off a picture whose transmission and airlight are known (eq. 22).

    `J = (I - A) / max(t, floor) + A`

    Args:
        image: Hazy pictures I, (B, C, H, W).
        transmission: t, (B, 1, H, W).
        airlight: A, (B, C, 1, 1), or (B, C, H, W) where it varies.
        floor: t0, positive: where less light arrives, noise would be blown up. 0.1 in the paper.

    Returns:
        J, (B, C, H, W), not clipped.

    Raises:
        ValueError: If a tensor is no float batch, one does not fit the picture, or floor is not in
            (0, 1].

    Source: He, Sun, Tang, TPAMI 2011.

    Example:
        >>> t, A = torch.full((1, 1, 1, 1), 0.5), torch.full((1, 3, 1, 1), 0.8)
        >>> invert_haze(0.5 * 0.2 + 0.5 * A, t, A).flatten()
        tensor([0.2000, 0.2000, 0.2000])
        >>> invert_haze(A, t, A, floor=0.0)
        Traceback (most recent call last):
        ValueError: floor is 0.0; expected a number in (0, 1]
    """
    _fits(image, "transmission", transmission, 1)
    _fits(image, "airlight", airlight, image.shape[1])
    if not 0 < floor <= 1:
        raise ValueError(f"floor is {floor}; expected a number in (0, 1]")
    return (image - airlight) / transmission.clamp_min(floor) + airlight


def soft_matting(
    guide: Tensor, transmission: Tensor, *, weight: float = 1e-4, eps: float = 1e-4
) -> Tensor:
    r"""Refine a raw transmission by the matting Laplacian.

    `(L + lambda Id) t = lambda t~` (eq. 15), solved by conjugate gradients to a relative residual
    of 1e-6 on the CPU: some 10 s and 600 MB for 620 x 460 pixels. No gradient flows.

    Args:
        guide: Hazy picture I, (B, 3, H, W) in [0, 1]; L is built on it.
        transmission: t~, (B, 1, H, W).
        weight: lambda, positive; 1e-4 in the paper.
        eps: Of L; the paper leaves it open. Smaller values keep finer edges and take longer.

    Returns:
        t, the shape and type of the transmission.

    Raises:
        ValueError: If a tensor is no float batch, sizes differ, weight or eps is not positive, or
            so small that the equations cannot be solved.

    Source: He, Sun, Tang, TPAMI 2011, section 4.2.

    Example:
        >>> guide = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
        >>> flat = torch.full((1, 1, 8, 8), 0.5)
        >>> torch.allclose(soft_matting(guide, flat), flat)
        True
        >>> soft_matting(guide, flat, weight=0.0)
        Traceback (most recent call last):
        ValueError: weight is 0.0; expected a positive number
    """
    _batch(guide=guide, transmission=transmission)
    if guide[:, :1].shape != transmission.shape:
        raise ValueError(
            f"transmission has shape {tuple(transmission.shape)} and guide {tuple(guide.shape)}; "
            "expected one B, H and W, and a transmission of one channel"
        )
    if not 0 < weight < float("inf"):
        raise ValueError(f"weight is {weight}; expected a positive number")
    pairs = zip(torch.split(guide, 1), torch.split(transmission, 1), strict=True)
    return torch.cat([_solved(one, raw, weight, eps) for one, raw in pairs])


def dark_channel_dehaze(
    image: Tensor,
    *,
    refine: Refinement = "guided",
    airlight: Tensor | None = None,
    omega: float = 0.95,
    window: int = 15,
    floor: float = 0.1,
) -> dict[str, Tensor]:
    r"""Dehaze by the dark channel prior.

    `t~ = 1 - omega dark(I / A)` (eq. 12), refined, then `J = (I - A) / max(t, t0) + A`.

    Args:
        image: Hazy pictures I, (B, 3, H, W) in [0, 1].
        refine: "guided" (grey guide, radius 60, eps 1e-4: seconds less, and what most compare
            with), "matting" (`soft_matting`, the paper's) or "none".
        airlight: A, (B, 3, 1, 1), positive; None estimates it, see `airlight`.
        omega: Share of the haze removed, in (0, 1].
        window: Of the dark channel.
        floor: t0, see `invert_haze`.

    Returns:
        output J (not clipped), transmission t (B, 1, H, W), airlight A (B, 3, 1, 1).

    Raises:
        ValueError: If image is no float batch of three channels, a channel of A is not positive, or
            an option is outside what is written above.

    Source: He, Sun, Tang, TPAMI 2011. Departs: the guided filter came later, in their TPAMI 2013.

    Example:
        >>> hazy = torch.rand(1, 3, 32, 32) * 0.4 + 0.5
        >>> sorted(dark_channel_dehaze(hazy))
        ['airlight', 'output', 'transmission']
        >>> dark_channel_dehaze(hazy, refine="bilateral")
        Traceback (most recent call last):
        ValueError: refine is 'bilateral'; expected 'guided', 'matting' or 'none'
    """
    if refine not in ("guided", "matting", "none"):
        raise ValueError(f"refine is {refine!r}; expected 'guided', 'matting' or 'none'")
    if not 0 < omega <= 1:
        raise ValueError(f"omega is {omega}; expected a number in (0, 1]")
    A = _estimate(image, window=window) if airlight is None else airlight
    _fits(image, "airlight", A, 3)
    if not bool((A > 0).all()):
        raise ValueError(f"airlight is {A.flatten().tolist()}; expected positive values")
    t = 1 - omega * dark_channel(image / A, window)
    if refine == "guided":
        t = guided.guided_filter(images.luma(image), t, 60, 1e-4)
    elif refine == "matting":
        t = soft_matting(image, t)
    return {"output": invert_haze(image, t, A, floor=floor), "transmission": t, "airlight": A}


_estimate = airlight  # under a name that no argument hides


def _batch(**values: Tensor) -> None:
    for name, value in values.items():
        if value.ndim != 4 or not value.is_floating_point() or not value.numel():
            seen = f"{value.dtype} of shape {tuple(value.shape)}"
            raise ValueError(f"{name} is {seen}; expected a float batch (B, C, H, W)")


def _fits(image: Tensor, name: str, value: Tensor, channels: int) -> None:
    """`value` is (B or 1, `channels`, H or 1, W or 1) of the picture's B, H and W."""
    _batch(image=image, **{name: value})
    B, _, H, W = image.shape
    expected = (B, channels, H, W)
    if value.shape[1] != channels or any(
        seen not in (1, size) for seen, size in zip(value.shape, expected, strict=True)
    ):
        seen = f"{tuple(value.shape)} and image {tuple(image.shape)}"
        raise ValueError(f"{name} has shape {seen}; expected {expected} or 1 in place of B, H, W")


def _solved(guide: Tensor, raw: Tensor, weight: float, eps: float) -> Tensor:
    """(L + lambda Id) t = lambda t~ for one picture, by conjugate gradients.

    Without preconditioner 2000 steps, with this incomplete factorisation 20.
    """
    from scipy.sparse import csc_matrix, identity
    from scipy.sparse.linalg import LinearOperator, cg, spilu

    L = MattingLaplacian(guide, eps=eps, form="free").sparse()
    parts = (L.values().cpu(), L.col_indices().cpu(), L.crow_indices().cpu())
    count = raw.numel()
    # row by row is column by column, the matrix being symmetric
    system = csc_matrix(tuple(part.numpy() for part in parts), shape=(count, count))
    system = system + weight * identity(count, format="csc")
    symmetric = {"permc_spec": "MMD_AT_PLUS_A", "diag_pivot_thresh": 0.0}
    factors = spilu(system, 1e-4, 10, options={"SymmetricMode": True}, **symmetric)
    inverse = LinearOperator((count, count), factors.solve)
    b = raw.detach().double().cpu().flatten().numpy()
    t, missed = cg(system, weight * b, b, rtol=1e-6, maxiter=_STEPS, M=inverse)
    if missed:
        raise ValueError(f"eps is {eps}, weight {weight}; the equations of so little do not solve")
    return torch.from_numpy(t).view(raw.shape).to(raw)
