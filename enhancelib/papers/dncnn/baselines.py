"""What a sceptic would try first: Gaussian blur, non-local means, BM3D.

All take a noisy picture (C, H, W), unclipped, and the true noise level in 8-bit units.
"""

from __future__ import annotations

import math
from functools import lru_cache
from importlib.util import find_spec

import torch
from torch import Tensor
from torch.nn import functional as F

from enhancelib import images, photos, runtime

WIDTHS = (0.4, 0.5, 0.6, 0.7, 0.85, 1.0, 1.2, 1.5)  # pixels


def gaussian(noisy: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of the width that is best, at this noise level, on the validation photos.

    Args:
        noisy: (C, H, W).
        sigma: Noise level in 8-bit units.

    Returns:
        (C, H, W) in [0, 1].
    """
    return images.clip(_blur(noisy, best_width(sigma)))


@lru_cache(maxsize=64)
def best_width(sigma: float) -> float:
    """The blur that loses least at a noise level; it reads validation photos only.

    Args:
        sigma: Noise level in 8-bit units.

    Returns:
        Standard deviation in pixels, one of WIDTHS.
    """
    clean = [
        images.luma(p)[:, :256, :256] for p in photos.bank("validation", bundled=True).values()
    ]
    clean += [p[:, :256, :256] for p in photos.bank("validation", False, bundled=True).values()]
    errors = dict.fromkeys(WIDTHS, 0.0)
    for k, x in enumerate(clean):
        noise = torch.randn(x.shape, generator=runtime.generator(0, "blur", k))
        for width in WIDTHS:
            restored = images.clip(_blur(x + noise * sigma / 255, width))
            errors[width] += float((restored - x).square().mean())
    return min(errors, key=lambda width: errors[width])


def _blur(image: Tensor, width: float) -> Tensor:
    reach = math.ceil(4 * width)
    steps = torch.arange(-reach, reach + 1, dtype=image.dtype)
    kernel = torch.exp(-(steps**2) / (2 * width**2))
    kernel = (kernel / kernel.sum()).expand(image.shape[0], 1, 1, -1)
    padded = F.pad(image[None], (reach,) * 4, mode="reflect")
    rows = F.conv2d(padded, kernel, groups=image.shape[0])
    return F.conv2d(rows, kernel.transpose(2, 3), groups=image.shape[0])[0]


def nlm(noisy: Tensor, sigma: float) -> Tensor:
    """Non-local means of scikit-image, told the noise level (h = 0.8 sigma, its documentation).

    Args:
        noisy: (C, H, W).
        sigma: Noise level in 8-bit units.

    Returns:
        (C, H, W) in [0, 1].
    """
    from skimage.restoration import denoise_nl_means

    level = sigma / 255
    array = noisy.permute(1, 2, 0).double().numpy()
    restored = denoise_nl_means(
        array, 5, 6, h=0.8 * level, sigma=level, fast_mode=True, channel_axis=-1
    )
    restored = restored.reshape(array.shape)  # it drops a single channel
    return images.clip(torch.from_numpy(restored).permute(2, 0, 1).to(noisy.dtype))


def has_bm3d() -> bool:
    """Whether the optional package bm3d (non-commercial licence) is installed.

    Returns:
        True when `bm3d` can run.
    """
    return find_spec("bm3d") is not None


def bm3d(noisy: Tensor, sigma: float) -> Tensor:
    """BM3D, or its colour form for three channels, by the authors' package.

    Args:
        noisy: (1 or 3, H, W).
        sigma: Noise level in 8-bit units.

    Returns:
        (C, H, W) in [0, 1].

        The package is optional (non-commercial licence); ask `has_bm3d` first.
    """
    import bm3d as package

    array = noisy.permute(1, 2, 0).double().numpy()
    method = package.bm3d_rgb if noisy.shape[0] == 3 else package.bm3d
    restored = torch.from_numpy(method(array.squeeze(), sigma / 255)).to(noisy.dtype)
    return images.clip(restored.permute(2, 0, 1) if restored.ndim == 3 else restored[None])


BASELINES = {"Gaussian filter": gaussian, "NLM": nlm, "BM3D (package)": bm3d}
