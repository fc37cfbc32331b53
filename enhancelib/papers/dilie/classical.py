"""What needs no network: filters against noise, nearest pixels, the dark channel prior."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.util import find_spec

import torch
from torch import Tensor

from enhancelib import filters, images
from enhancelib.papers.dilie.pictures import Hazy

WIDTH = 0.8
"""Standard deviation of the Gaussian, in pixels."""
OMEGA = 0.95  # share of the haze that the dark channel prior takes off


def gaussian(noisy: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of 0.8 pixels, which is near the best at sigma 25.

    Args:
        noisy: (C, H, W) in [0, 1].
        sigma: Noise level of 255; not looked at.

    Returns:
        (C, H, W) in [0, 1].
    """
    from scipy.ndimage import gaussian_filter

    blurred = gaussian_filter(noisy.double().numpy(), (0, WIDTH, WIDTH), mode="mirror")
    return images.clip(torch.from_numpy(blurred).to(noisy.dtype))


def nlm(noisy: Tensor, sigma: float) -> Tensor:
    """Non-local means of scikit-image, told the noise level (h = 0.8 sigma, its documentation).

    Args:
        noisy: (C, H, W) in [0, 1].
        sigma: Noise level of 255.

    Returns:
        (C, H, W) in [0, 1].
    """
    from skimage.restoration import denoise_nl_means

    level, array = sigma / 255, noisy.permute(1, 2, 0).double().numpy()
    restored = denoise_nl_means(
        array, 5, 6, h=0.8 * level, sigma=level, fast_mode=True, channel_axis=-1
    )
    return images.clip(torch.from_numpy(restored).permute(2, 0, 1).to(noisy.dtype))


def bm3d(noisy: Tensor, sigma: float) -> Tensor:
    """CBM3D by its authors' package, which is optional (non-commercial licence).

    Args:
        noisy: (3, H, W) in [0, 1].
        sigma: Noise level of 255.

    Returns:
        (3, H, W) in [0, 1].
    """
    import bm3d as package

    array = noisy.permute(1, 2, 0).double().numpy()
    restored = torch.from_numpy(package.bm3d_rgb(array, sigma / 255))
    return images.clip(restored.permute(2, 0, 1).to(noisy.dtype))


def denoisers() -> Mapping[str, Callable[[Tensor, float], Tensor]]:
    """The filters that can run here.

    Returns:
        Name -> (noisy, sigma) -> picture.
    """
    found = {"Gaussian 0.8 px": gaussian, "NLM": nlm}
    return found | ({"BM3D": bm3d} if find_spec("bm3d") else {})


def filled(picture: Tensor, known: Tensor) -> Tensor:
    """Fill in what is missing with the nearest known pixel, every channel for itself.

    Args:
        picture: (C, H, W).
        known: 1 known, 0 missing; one or more known in every channel.

    Returns:
        (C, H, W).
    """
    from scipy.ndimage import distance_transform_edt

    made = []
    for channel, mask in zip(picture, known, strict=True):
        rows, columns = distance_transform_edt(
            (mask == 0).numpy(), return_distances=False, return_indices=True
        )
        made.append(channel[torch.from_numpy(rows).long(), torch.from_numpy(columns).long()])
    return torch.stack(made)


def dark_channel(hazy: Hazy, *, matting: bool) -> Tensor:
    """The dark channel prior; the guided filter's radius is that of the decomposition.

    Its window stays 15 pixels in small pictures too: narrower ones did worse. The airlight is given
    where the decomposition is given it.

    Args:
        hazy: The photo.
        matting: Refine by soft matting, as the paper; else by the guided filter.

    Returns:
        (3, H, W), not clipped.
    """
    I = hazy.hazy[None]  # noqa: E741
    A = None if hazy.A is None else hazy.A.view(1, 3, 1, 1)
    if matting:
        return filters.dark_channel_dehaze(I, refine="matting", airlight=A)["output"][0]
    A = filters.airlight(I) if A is None else A
    raw = 1 - OMEGA * filters.dark_channel(I / A)
    t = filters.guided_filter(images.luma(I), raw, hazy.radius, 1e-4)
    return filters.invert_haze(I, t, A)[0]
