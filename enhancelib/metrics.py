"""How good a picture is: each metric is one named protocol, and `METRICS` holds them all.

The same name hides several numbers in the literature. One 512 x 512 pair scores between 0.84 and
0.98 "SSIM" depending on the library, and one network between 19.8 and 22.2 dB "PSNR" depending on
where the mean is taken. So a metric here says its variant in a sentence that tables print.

The first picture is the one being judged, the second the reference. The mathematics is in
`similarity`; here are the ranges, the colour spaces, the roundings and the means.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from enhancelib import cielab, images, similarity

DPED_BATCH = 50

_Fn = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Metric:
    """One metric with everything that makes its number comparable.

    Calling it, `metric(x, y)`, compares judged pictures x with references y, both (B, C, H, W) or
    (C, H, W) with 1 or 3 channels, float32 or float64 in [0, 1], and gives (B,) values. Pictures
    outside the range are refused, never clipped: clip first with `images.clip`. LPIPS needs the
    networks that `enhancelib fetch` brings, and raises `features.FeaturesMissing` without them.

    Args:
        name: Key in `METRICS` and in result tables.
        protocol: The sentence that a table prints under itself.
        unit: "dB" or "" for a pure number.
        lower_better: Whether a smaller value means a better picture.
        range: Smallest and largest value that can occur.
        fn: The computation, (B, C, H, W) twice -> (B,).
        pool: What happens to the (B,) values of a table row before they are averaged; DPED's
            PSNRs go back to the MSE here and pool that.
        clipped: Whether x must lie in [0, 1]; y always must.

    Raises:
        ValueError: If shapes, types or devices differ or do not fit, a value is not finite or
            outside [0, 1], or a picture is smaller than the protocol's window.

    Example:
        >>> grey = torch.full((1, 3, 8, 8), 0.5)
        >>> METRICS["psnr"](grey, torch.ones_like(grey))
        tensor([6.0206])
        >>> METRICS["psnr"](255 * grey, grey)
        Traceback (most recent call last):
        ValueError: psnr: x spans [127.5, 127.5], outside [0, 1]; clip it first (images.clip)
    """

    name: str
    protocol: str
    unit: str
    lower_better: bool
    range: tuple[float, float]
    fn: _Fn = field(repr=False)
    pool: Callable[[Tensor], Tensor] | None = field(default=None, repr=False)
    clipped: bool = True

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """The value of each picture of the batch, (B,)."""
        x, y = similarity.pair(x, y)
        for which, picture in (("x", x), ("y", y)):
            low, high = (float(bound) for bound in torch.aminmax(picture.detach()))
            if not (math.isfinite(low) and math.isfinite(high)):
                raise ValueError(f"{self.name}: {which} holds values that are not finite")
            if (low < 0 or high > 1) and (self.clipped or which == "y"):
                raise ValueError(
                    f"{self.name}: {which} spans [{low:.4g}, {high:.4g}], outside [0, 1]; "
                    "clip it first (images.clip)"
                )
        return self.fn(x, y)

    def summary(self, values: Tensor | Iterable[float]) -> float:
        """One number for a table row: the mean of the values, unless the protocol pools.

        Args:
            values: Values of single pictures (N,), in the order of the set (the batches of
                psnr_dped depend on it).

        Returns:
            The mean over the finite values; infinity where all are infinite. `infinite` counts
            what was left out.

        Raises:
            ValueError: If there are no values, or one of them is not a number.

        Example:
            >>> METRICS["psnr"].summary([20.0, 30.0, math.inf])
            25.0
            >>> METRICS["psnr"].summary([])
            Traceback (most recent call last):
            ValueError: psnr: no values to summarise
        """
        pooled = self._pooled(values)
        finite = pooled[pooled.isfinite()]
        return float(finite.mean()) if finite.numel() else math.inf

    def infinite(self, values: Tensor | Iterable[float]) -> int:
        """How many values `summary` leaves out because they are infinite (identical pictures).

        Args:
            values: Values of single pictures (N,).

        Returns:
            A count; that of infinite batches for the pooled protocols, whose MSE takes
            identical pictures in as zeros.

        Raises:
            ValueError: If there are no values, or one of them is not a number.

        Example:
            >>> METRICS["psnr"].infinite([20.0, 30.0, math.inf])
            1
            >>> METRICS["psnr"].infinite([math.nan])
            Traceback (most recent call last):
            ValueError: psnr: value 0 is not a number
        """
        return int(self._pooled(values).isinf().sum())

    def _pooled(self, values: Tensor | Iterable[float]) -> Tensor:
        numbers = values.tolist() if isinstance(values, Tensor) else map(float, values)
        flat = torch.tensor(list(numbers), dtype=torch.float64).flatten()
        if not flat.numel():
            raise ValueError(f"{self.name}: no values to summarise")
        if flat.isnan().any():
            raise ValueError(f"{self.name}: value {int(flat.isnan().nonzero()[0])} is not a number")
        return flat if self.pool is None else self.pool(flat)


def _rounded(fn: _Fn) -> _Fn:
    return lambda x, y: fn((255 * x).round() / 255, (255 * y).round() / 255)


def _on_luma(fn: _Fn, span: images.Range) -> _Fn:
    def compare(x: Tensor, y: Tensor) -> Tensor:
        if x.shape[1] != 3:
            raise ValueError("Y of YCbCr is defined on RGB; for grey pictures take psnr or ssim")
        return fn(images.luma(x, range=span), images.luma(y, range=span))

    return compare


def _pooled_psnr(values: Tensor, *, size: int | None = None) -> Tensor:
    errors = torch.pow(10, -values / 10)
    groups: Sequence[Tensor] = torch.split(errors, size or len(errors))
    return torch.stack([-10 * group.mean().log10() for group in groups])


def _psnr(name: str, fn: _Fn, protocol: str) -> Metric:
    return Metric(name, protocol, "dB", lower_better=False, range=(0.0, math.inf), fn=fn)


def _unclipped_psnr(name: str, size: int | None, protocol: str) -> Metric:
    return Metric(
        name,
        protocol,
        "dB",
        lower_better=False,
        range=(-math.inf, math.inf),
        fn=similarity.psnr,
        pool=functools.partial(_pooled_psnr, size=size),
        clipped=False,
    )


def _ssim(
    name: str, fn: _Fn, protocol: str, *, least: float = -1.0, clipped: bool = True
) -> Metric:
    return Metric(
        name, protocol, "", lower_better=False, range=(least, 1.0), fn=fn, clipped=clipped
    )


def _lpips(net: str, backbone: str) -> Metric:
    return Metric(
        f"lpips_{net}",
        f"LPIPS v0.1, {backbone} (ImageNet), RGB scaled to [-1, 1], mean over images",
        "",
        lower_better=True,
        range=(0.0, math.inf),
        fn=functools.partial(similarity.lpips, net=net),
    )


_WINDOW = "11 x 11 Gaussian of sigma 1.5, valid windows, K = 0.01 and 0.03"
_ON_Y = "Y of BT.601 over the full range 0..1"
_ON_STUDIO_Y = "Y of BT.601 in 16..235 as MATLAB's rgb2ycbcr, not rounded, peak 255"

METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        _psnr(
            "psnr",
            similarity.psnr,
            "PSNR, all channels, mean over images, clipped to [0, 1], peak 1, no border cut",
        ),
        _psnr(
            "psnr_8bit",
            _rounded(similarity.psnr),
            "PSNR, all channels, mean over images, clipped and rounded to 8 bits, no border cut",
        ),
        _psnr(
            "psnr_y",
            _on_luma(similarity.psnr, "full"),
            f"PSNR, {_ON_Y}, mean over images, clipped to [0, 1], no border cut",
        ),
        _psnr(
            "psnr_y_studio",
            _on_luma(similarity.psnr, "studio"),
            f"PSNR, {_ON_STUDIO_Y}, mean over images, clipped to [0, 1], no border cut",
        ),
        _unclipped_psnr(
            "psnr_dped",
            DPED_BATCH,
            "PSNR of the MSE pooled over batches of 50 images in the order of the set (the last "
            "may be smaller), mean over batches, RGB, not clipped, as DPED's training script",
        ),
        _unclipped_psnr(
            "psnr_pooled", None, "PSNR of the MSE pooled over all images, RGB, not clipped"
        ),
        _ssim(
            "ssim",
            similarity.ssim,
            f"SSIM, {_WINDOW}, mean over channels and images, clipped to [0, 1]",
        ),
        _ssim(
            "ssim_8bit",
            _rounded(similarity.ssim),
            f"SSIM, {_WINDOW}, mean over channels and images, clipped and rounded to 8 bits",
        ),
        _ssim(
            "ssim_y",
            _on_luma(similarity.ssim, "full"),
            f"SSIM, {_ON_Y}, {_WINDOW}, mean over images, clipped to [0, 1]",
        ),
        _ssim(
            "ssim_y_studio",
            _on_luma(similarity.ssim, "studio"),
            f"SSIM, {_ON_STUDIO_Y}, {_WINDOW}, mean over images, clipped to [0, 1]",
        ),
        _ssim(
            "ms_ssim",
            similarity.ms_ssim,
            f"MS-SSIM (Wang 2003), 5 scales, {_WINDOW}, per channel, mean over channels and "
            "images, clipped to [0, 1]; 0 where a scale's contrast term is negative",
            least=0.0,
        ),
        _ssim(
            "ms_ssim_dped",
            similarity.ms_ssim_dped,
            "MS-SSIM of the DPED scorer (its tables say SSIM), 5 scales, Gaussian window min(11, "
            "H, W) shrinking with the scale, factors pooled over RGB, per image, not clipped; 0 "
            "where a scale's contrast term is negative",
            least=0.0,
            clipped=False,
        ),
        _lpips("alex", "AlexNet"),
        _lpips("vgg", "VGG16"),
        Metric(
            "ciede2000",
            "CIEDE2000 (k_L = k_C = k_H = 1) of sRGB under D65, mean over pixels and images, "
            "clipped to [0, 1]",
            "",
            lower_better=True,
            range=(0.0, math.inf),
            fn=cielab.ciede2000,
        ),
    )
}
