"""How alike two pictures are: PSNR, SSIM, MS-SSIM and LPIPS as differentiable functions.

The first picture is the one being judged, the second the reference. Nothing here clips or asks for
a range, so that the functions serve as losses on unclipped outputs too; `metrics` adds the
protocols that tables name.

| symbol | variable | meaning |
| --- | --- | --- |
| x, y | x, y | judged picture, reference |
| mu, sigma^2 | mean_*, variance_* | local mean and variance under a Gaussian window |
| C1, C2 | C1, C2 | (0.01 L)^2 and (0.03 L)^2, with L = 1 the range of a picture |
| beta_j, M | SCALE_WEIGHTS | exponents of the M = 5 scales of MS-SSIM |
"""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from enhancelib import features

C1, C2 = 0.01**2, 0.03**2
WINDOW, SIGMA = 11, 1.5
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)

_BACKBONES = {"alex": "alexnet", "vgg": "vgg16"}
# Below these the last pooling of the backbone has nothing left to pool.
_LPIPS_LEAST = {"alex": 31, "vgg": 16}


def pair(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Two pictures or two batches as two batches that can be compared.

    Args:
        x: Judged pictures (B, C, H, W) or (C, H, W), C = 1 or 3, float32 or float64.
        y: References of the same shape, type and device.

    Returns:
        Both as (B, C, H, W).

    Raises:
        ValueError: If one is not such a tensor, or they differ in shape, type or device.

    Example:
        >>> pair(torch.zeros(3, 4, 4), torch.zeros(3, 4, 4))[0].shape
        torch.Size([1, 3, 4, 4])
        >>> pair(torch.zeros(3, 4, 4), torch.zeros(3, 4, 4, dtype=torch.uint8))
        Traceback (most recent call last):
        ValueError: picture is torch.uint8; expected a float32 or float64 tensor in [0, 1]
    """
    for picture in (x, y):
        if not isinstance(picture, Tensor) or picture.dtype not in (torch.float32, torch.float64):
            kind = getattr(picture, "dtype", type(picture).__name__)
            raise ValueError(f"picture is {kind}; expected a float32 or float64 tensor in [0, 1]")
    if x.shape != y.shape:
        raise ValueError(f"x is {tuple(x.shape)} and y {tuple(y.shape)}; expected one shape")
    if x.dtype != y.dtype or x.device != y.device:
        raise ValueError(
            f"x is {x.dtype} on {x.device} and y {y.dtype} on {y.device}; expected the same"
        )
    if x.ndim not in (3, 4) or x.shape[-3] not in (1, 3) or not x.numel():
        raise ValueError(
            f"pictures are {tuple(x.shape)}; expected (B, C, H, W) or (C, H, W) with C = 1 or 3"
        )
    return (x, y) if x.ndim == 4 else (x[None], y[None])


def psnr(x: Tensor, y: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each picture, over all its channels and pixels.

    PSNR = 10 log10(1 / MSE), with MSE the mean of (x - y)^2.

    Args:
        x: Judged pictures (B, C, H, W) or (C, H, W); not clipped here.
        y: References of the same shape, with peak 1.

    Returns:
        (B,) in dB; infinity where the pictures are identical (no gradient exists there).

    Raises:
        ValueError: If the two are not float pictures of one shape, type and device.

    Example:
        >>> psnr(torch.zeros(3, 4, 4), torch.full((3, 4, 4), 0.5))
        tensor([6.0206])
        >>> psnr(torch.zeros(3, 4, 4), torch.zeros(3, 4, 5))
        Traceback (most recent call last):
        ValueError: x is (3, 4, 4) and y (3, 4, 5); expected one shape
    """
    x, y = pair(x, y)
    return -10 * torch.log10((x - y).square().flatten(1).mean(1))


def ssim(x: Tensor, y: Tensor) -> Tensor:
    """Structural similarity of each picture: mean of the index over valid windows and channels.

    SSIM = (2 mu_x mu_y + C1) (2 sigma_xy + C2)
    / ((mu_x^2 + mu_y^2 + C1) (sigma_x^2 + sigma_y^2 + C2)) (eq. 13), moments under
    an 11 x 11 Gaussian of sigma 1.5, C1 = 0.01^2, C2 = 0.03^2.

    Source: Wang et al. 2004, Image Quality Assessment: From Error Visibility to Structural
    Similarity, and its MATLAB index without the later automatic down-sampling.

    Args:
        x: Judged pictures (B, C, H, W) or (C, H, W), at least 11 x 11; not clipped here.
        y: References of the same shape, with range 1.

    Returns:
        (B,) in [-1, 1]; 1 for identical pictures.

    Raises:
        ValueError: If the two are not float pictures of one shape, type and device, or are
            smaller than the window.

    Example:
        >>> ssim(torch.zeros(1, 16, 16), torch.zeros(1, 16, 16))
        tensor([1.])
        >>> ssim(torch.zeros(1, 16, 8), torch.zeros(1, 16, 8))
        Traceback (most recent call last):
        ValueError: SSIM needs pictures of at least 11 x 11 pixels; these are 16 x 8
    """
    x, y = pair(x, y)
    _at_least(WINDOW, x, "SSIM")
    return _index(x, y, _gaussian(WINDOW, SIGMA))[0].flatten(1).mean(1)


def ms_ssim(x: Tensor, y: Tensor) -> Tensor:
    """Multi-scale structural similarity, the standard one: five scales, a fixed 11 x 11 window.

    MS-SSIM = prod_(j<M) cs_j^(beta_j) * SSIM_M^(beta_M) (eq. 7 with alpha_M = beta_M = gamma_M),
    each factor a mean over valid windows, for each channel, then the mean of the channels.
    Between scales: 2 x 2 mean with mirrored border, then every second sample.

    Source: Wang et al. 2003, Multiscale Structural Similarity for Image Quality Assessment.
    Departs: a negative mean contrast, which has no real power, counts as 0 (the paper leaves it
    open), so a value of exactly 0 marks it.

    Args:
        x: Judged pictures (B, C, H, W) or (C, H, W), at least 161 x 161; not clipped here.
        y: References of the same shape, with range 1.

    Returns:
        (B,) in [0, 1]; 1 for identical pictures.

    Raises:
        ValueError: If the two are not float pictures of one shape, type and device, or are too
            small for the window at the fifth scale.

    Example:
        >>> ms_ssim(torch.zeros(1, 161, 161), torch.zeros(1, 161, 161))
        tensor([1.])
        >>> ms_ssim(torch.zeros(1, 160, 161), torch.zeros(1, 160, 161))
        Traceback (most recent call last):
        ValueError: MS-SSIM needs pictures of at least 161 x 161 pixels; these are 160 x 161
    """
    x, y = pair(x, y)
    _at_least(2 ** (len(SCALE_WEIGHTS) - 1) * (WINDOW - 1) + 1, x, "MS-SSIM")
    return _multiscale(x, y, shrinking=False, dims=(2, 3)).mean(1)


def ms_ssim_dped(x: Tensor, y: Tensor) -> Tensor:
    """Multi-scale structural similarity as the scorer of DPED, PIRM and PPCN computes it.

    The formula of `ms_ssim`, except that the window shrinks with the picture, to min(11, H, W)
    with sigma in proportion, and each factor is one mean over all channels. So it is defined on
    DPED's 100 x 100 patches (7 x 7 at the fifth scale), where the standard is not. DPED-family
    tables call it "SSIM".

    Source: the DPED challenge kit, after TensorFlow's model zoo.
    Departs: a negative mean contrast counts as 0 where the scorer gives NaN; and each picture has
    its own value, where DPED's training script takes one for a batch.

    Args:
        x: Judged pictures (B, C, H, W) or (C, H, W), unclipped as the scorer takes them.
        y: References of the same shape, with range 1.

    Returns:
        (B,) in [0, 1]; 1 for identical pictures.

    Raises:
        ValueError: If the two are not float pictures of one shape, type and device.

    Example:
        >>> ms_ssim_dped(torch.zeros(3, 100, 100), torch.zeros(3, 100, 100))
        tensor([1.])
        >>> ms_ssim_dped(torch.zeros(100, 100), torch.zeros(100, 100))
        Traceback (most recent call last):
        ValueError: pictures are (100, 100); expected (B, C, H, W) or (C, H, W) with C = 1 or 3
    """
    x, y = pair(x, y)
    return _multiscale(x, y, shrinking=True, dims=(1, 2, 3))


def lpips(x: Tensor, y: Tensor, *, net: str = "alex") -> Tensor:
    """Learned perceptual distance (LPIPS v0.1) with real ImageNet features and the authors' heads.

    d = sum_l mean_hw || w_l * (f_l(x) - f_l(y)) ||^2, f_l unit-normalised over channels (eq. 1).

    Source: Zhang et al. 2018, The Unreasonable Effectiveness of Deep Features as a Perceptual
    Metric; heads and structure of the lpips package, convolutions of `features.load`, whose
    `FeaturesMissing` says what to fetch. The network is built at the first call and kept.

    Args:
        x: Judged pictures (B, 3, H, W) or (3, H, W) in [0, 1].
        y: References of the same shape.
        net: "alex" (the package's default; at least 31 x 31 pixels) or "vgg" (16 x 16).

    Returns:
        (B,), 0 for identical pictures; lower is better.

    Raises:
        ValueError: If the two are not float RGB pictures of one shape, type and device, are too
            small for the network, or the network is unknown.

    Example:
        >>> lpips(torch.zeros(3, 64, 64), torch.zeros(3, 64, 64), net="squeeze")
        Traceback (most recent call last):
        ValueError: net is 'squeeze'; expected 'alex' or 'vgg'
    """
    if net not in _BACKBONES:
        raise ValueError(f"net is {net!r}; expected 'alex' or 'vgg'")
    x, y = pair(x, y)
    _colour(x, "LPIPS")
    _at_least(_LPIPS_LEAST[net], x, f"LPIPS ({net})")
    distance: Tensor = _lpips_network(net, x.device, x.dtype)(x, y, normalize=True)
    return distance.flatten()


@functools.cache
def _lpips_network(net: str, device: torch.device, dtype: torch.dtype) -> nn.Module:
    import lpips as package

    # Layers are built with random values, overwritten below, and the package spells torchvision
    # the old way; the caller's random stream and console must not notice.
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        backbone = features.load(_BACKBONES[net])
        network = package.LPIPS(net=net, pnet_rand=True, verbose=False)
    ours = [layer for layer in backbone.modules() if isinstance(layer, nn.Conv2d)]
    theirs = [layer for layer in network.net.modules() if isinstance(layer, nn.Conv2d)]
    for source, target in zip(ours, theirs, strict=True):
        target.load_state_dict(source.state_dict())
    frozen: nn.Module = network.eval().requires_grad_(False)
    return frozen.to(device, dtype)


def _at_least(side: int, x: Tensor, who: str) -> None:
    height, width = x.shape[-2:]
    if min(height, width) < side:
        raise ValueError(
            f"{who} needs pictures of at least {side} x {side} pixels; these are {height} x {width}"
        )


def _colour(x: Tensor, who: str) -> None:
    if x.shape[1] != 3:
        raise ValueError(f"{who} is defined on RGB; these pictures have {x.shape[1]} channel")


def _gaussian(size: int, sigma: float) -> tuple[float, ...]:
    centre = (size - 1) / 2
    weights = [math.exp(-((i - centre) ** 2) / (2 * sigma**2)) for i in range(size)]
    return tuple(weight / sum(weights) for weight in weights)


def _windowed(maps: Tensor, window: Sequence[float]) -> Tensor:
    # Shifted sums: on CPU several times faster than conv2d with one input channel.
    for axis in (-2, -1):
        size = maps.shape[axis] - len(window) + 1
        total = maps.narrow(axis, 0, size) * window[0]
        for shift, weight in enumerate(window[1:], start=1):
            total.add_(maps.narrow(axis, shift, size), alpha=weight)
        maps = total
    return maps


def _index(x: Tensor, y: Tensor, window: Sequence[float]) -> tuple[Tensor, Tensor]:
    """Maps of SSIM and of its contrast-structure factor, (B, C, H', W') each.

    With u = x + y and v = x - y, 4 sigma_xy = var u - var v and 2 (sigma_x^2 + sigma_y^2) =
    var u + var v: four filtered maps instead of five, and no cancellation where x is near y.
    """
    u, v = x + y - 1, x - y  # a variance ignores the shift, which keeps squares small
    mean_u, mean_v, square_u, square_v = _windowed(torch.stack((u, v, u * u, v * v)), window)
    variance_u, variance_v = square_u - mean_u.square(), square_v - mean_v.square()
    contrast = (variance_u - variance_v + 2 * C2) / (variance_u + variance_v + 2 * C2)
    power_u, power_v = (mean_u + 1).square(), mean_v.square()
    return contrast * (power_u - power_v + 2 * C1) / (power_u + power_v + 2 * C1), contrast


def _multiscale(x: Tensor, y: Tensor, *, shrinking: bool, dims: tuple[int, ...]) -> Tensor:
    product = torch.ones((), dtype=x.dtype, device=x.device)
    for level, weight in enumerate(SCALE_WEIGHTS):
        if level:
            # With ceil_mode an odd border is averaged over what is there: the mirrored mean.
            x, y = (F.avg_pool2d(picture, 2, ceil_mode=True) for picture in (x, y))
        size = min(WINDOW, *x.shape[-2:]) if shrinking else WINDOW
        index, contrast = _index(x, y, _gaussian(size, SIGMA * size / WINDOW))
        last = level == len(SCALE_WEIGHTS) - 1
        product = product * _power((index if last else contrast).mean(dims), weight)
    return product


def _power(base: Tensor, exponent: float) -> Tensor:
    # The inner where keeps the infinite slope at 0 out of the gradient.
    positive = base > 0
    return torch.where(positive, torch.where(positive, base, 1.0) ** exponent, 0.0)
