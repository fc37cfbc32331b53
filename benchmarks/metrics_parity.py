"""Which metric of which library is which protocol of ours, and how long each takes.

Values first, on two real photographs with noise and with JPEG, at an even and at an odd size, each
beside the protocol of ours that comes nearest: a difference of 1e-4 or less means that they are the
same (piq adds 1e-8 to the error, pytorch-msssim's window is rounded), a larger one that it is
another protocol. Then time on one picture of 1 megapixel, the implementations taking turns.

    python benchmarks/metrics_parity.py [--threads 1] [--rounds 7]

Needs the extra `oracle`. LPIPS is not compared: ours is the lpips package with our weights.
"""

from __future__ import annotations

import enhancelib  # isort: skip  # first: it makes torchvision, which piq imports, load on a CPU

import argparse
import io
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import piq
import pytorch_msssim
import skimage.color
import skimage.data
import skimage.metrics
import torch
import torchmetrics.functional.image as torchmetrics
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from enhancelib import runtime
from enhancelib.metrics import METRICS

Compare = Callable[[Tensor, Tensor], Any]


def photographs(height: int, width: int) -> tuple[Tensor, Tensor]:
    """Judged pictures and references (2, 3, H, W), float64: one noisy, one compressed."""
    astronaut, retina = skimage.data.astronaut(), skimage.data.retina()[400:, 400:]
    clean = [astronaut[:height, :width], retina[:height, :width]]
    noise = np.random.default_rng(0).normal(0, 25, clean[0].shape)
    worse = [np.clip(clean[0] + noise, 0, 255), compressed(clean[1])]
    return batch(worse), batch(clean)


def compressed(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The picture after JPEG at quality 10."""
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "JPEG", quality=10)
    return np.asarray(Image.open(stream))


def batch(pictures: list[NDArray[np.generic]]) -> Tensor:
    """8-bit levels (H, W, 3) to (B, 3, H, W) in [0, 1]."""
    stack = np.stack(pictures).astype(np.float64) / 255
    return torch.from_numpy(stack).permute(0, 3, 1, 2).contiguous()


def scikit(function: Callable[..., float], **options: Any) -> Compare:
    """A scikit-image metric as a function of batches."""

    def compare(x: Tensor, y: Tensor) -> Tensor:
        pairs = zip(x.movedim(1, -1).numpy(), y.movedim(1, -1).numpy(), strict=True)
        return torch.tensor([function(b, a, **options) for a, b in pairs], dtype=torch.float64)

    return compare


def scikit_studio_psnr(y: NDArray[np.float64], x: NDArray[np.float64]) -> float:
    """PSNR on MATLAB's Y, by scikit-image."""
    first, second = (skimage.color.rgb2ycbcr(picture)[..., 0] for picture in (y, x))
    return float(skimage.metrics.peak_signal_noise_ratio(first, second, data_range=255))


GAUSSIAN = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
SKIMAGE_PSNR = scikit(skimage.metrics.peak_signal_noise_ratio, data_range=1)
SKIMAGE_SSIM = scikit(
    skimage.metrics.structural_similarity, data_range=1, channel_axis=-1, **GAUSSIAN
)
UNIFORM_SSIM = scikit(skimage.metrics.structural_similarity, data_range=1, channel_axis=-1)

LIBRARIES: dict[str, dict[str, Compare]] = {
    "psnr": {
        "scikit-image": SKIMAGE_PSNR,
        "scikit-image on rgb2ycbcr's Y": scikit(scikit_studio_psnr),
        "piq": lambda x, y: piq.psnr(x, y, reduction="none"),
        "piq, greyscale": lambda x, y: piq.psnr(x, y, reduction="none", convert_to_greyscale=True),
        "torchmetrics": lambda x, y: torchmetrics.peak_signal_noise_ratio(x, y, data_range=1.0),
    },
    "ssim": {
        "scikit-image, Gaussian 1.5": SKIMAGE_SSIM,
        "scikit-image, default": UNIFORM_SSIM,
        "piq, downsample=False": lambda x, y: piq.ssim(x, y, downsample=False, reduction="none"),
        "piq, default": lambda x, y: piq.ssim(x, y, reduction="none"),
        "pytorch-msssim": lambda x, y: pytorch_msssim.ssim(x, y, data_range=1, size_average=False),
        "torchmetrics": lambda x, y: torchmetrics.structural_similarity_index_measure(
            x, y, data_range=1.0
        ),
    },
    "ms_ssim": {
        "piq": lambda x, y: piq.multi_scale_ssim(x, y, reduction="none"),
        "pytorch-msssim": (
            lambda x, y: pytorch_msssim.ms_ssim(x, y, data_range=1, size_average=False)
        ),
        "torchmetrics": lambda x, y: torchmetrics.multiscale_structural_similarity_index_measure(
            x, y, data_range=1.0
        ),
    },
}


def values(height: int, width: int) -> Iterator[str]:
    """The rows of one value table: ours, then every library's with the protocol that it is."""
    x, y = photographs(height, width)
    for family, theirs in LIBRARIES.items():
        members = [metric for name, metric in METRICS.items() if name.startswith(family)]
        ours = {metric.name: metric.summary(metric(x, y)) for metric in members}
        yield from (f"| {family} | ours | {ours[name]:.6f} | {name} | |" for name in ours)
        for library, compare in theirs.items():
            value = float(compare(x, y).mean())
            name = min(ours, key=lambda own: abs(ours[own] - value))
            yield f"| {family} | {library} | {value:.6f} | {name} | {value - ours[name]:+.1e} |"


def seconds(rounds: int) -> Iterator[str]:
    """The rows of the time table: wall clock and CPU time, implementations taking turns."""
    clean = skimage.data.retina()[200:1200, 200:1200]
    x, y = batch([compressed(clean)]).float(), batch([clean]).float()
    for family, theirs in LIBRARIES.items():
        sides: dict[str, Compare] = {"ours": METRICS[family], **theirs}
        spent: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
        for _ in range(rounds + 1):  # the first is a warm-up
            for name, compare in sides.items():
                wall, work = time.perf_counter(), time.process_time()
                compare(x, y)
                spent[name].append((time.perf_counter() - wall, time.process_time() - work))
        for name, taken in spent.items():
            wall_times, work_times = zip(*taken[1:], strict=True)
            yield (
                f"| {family} | {name} | {min(wall_times):.4f} | {statistics.median(wall_times):.4f}"
                f" | {min(work_times):.4f} |"
            )


def main() -> None:
    """Print both tables as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    machine = runtime.setup("cpu", threads=options.threads)
    print(f"enhancelib {enhancelib.__version__}, torch {torch.__version__}")
    for height, width in ((512, 512), (509, 383)):
        print(f"\nMean over two photographs of {height} x {width}, float64\n")
        print("| family | implementation | value | nearest of ours | difference |")
        print("|---|---|---|---|---|")
        print(*values(height, width), sep="\n")
    print(f"\n1000 x 1000 RGB, float32, {machine.threads} thread(s), {options.rounds} rounds\n")
    print("| family | implementation | min s | median s | min CPU s |\n|---|---|---|---|---|")
    print(*seconds(options.rounds), sep="\n")


if __name__ == "__main__":
    main()
