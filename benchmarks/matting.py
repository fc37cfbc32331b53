"""Seconds for the matting term: by box filters, and by the matrix, which has to be made first.

Value and gradient of one picture of three channels, both forms in turns, on one thread count and
in float64, as `losses.photorealism.MattingLaplacian` computes them. The largest difference of the
gradients stands beside.

    python benchmarks/matting.py [--threads 1] [--rounds 7] [--size 512] [--radii 1 2]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import skimage.data
import torch
from torch import Tensor

from enhancelib.losses.photorealism import MattingLaplacian

FORMS = ("free", "sparse")


def picture(name: str, size: int, device: str) -> Tensor:
    """A photograph, cut or repeated to size x size."""
    photo = torch.from_numpy(getattr(skimage.data, name)()).permute(2, 0, 1)[None] / 255
    times = [-(-size // side) for side in photo.shape[2:]]
    return photo.repeat(1, 1, *times)[..., :size, :size].contiguous().to(device)


def seconds(job: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    job()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def gradient(matrix: MattingLaplacian, image: Tensor) -> Tensor:
    """What one step of an optimisation asks for."""
    seen = image.clone().requires_grad_()
    (found,) = torch.autograd.grad(matrix.loss(seen), seen)
    return found


def compare(radius: int, size: int, rounds: int, device: str) -> None:
    """One row per form."""
    guide, image = (picture(name, size, device) for name in ("astronaut", "chelsea"))
    made: dict[str, MattingLaplacian] = {}
    build, step = {}, {form: [] for form in FORMS}
    for form in FORMS:
        build[form] = seconds(
            lambda form=form: made.update({form: MattingLaplacian(guide, radius=radius, form=form)})
        )
    for number in range(rounds + 1):  # the first is a warm-up
        for form, matrix in made.items():
            taken = seconds(lambda matrix=matrix: gradient(matrix, image))
            if number:
                step[form].append(taken)
    free, sparse = (gradient(made[form], image) for form in FORMS)
    apart = float((free - sparse).abs().max() / free.abs().max())
    for form in FORMS:
        print(
            f"| {radius} | {form} | {1000 * min(step[form]):.1f} | "
            f"{1000 * statistics.median(step[form]):.1f} | {build[form]:.2f} | {apart:.0e} |"
        )


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--radii", type=int, nargs="+", default=[1, 2])
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    print(f"torch {torch.__version__}, {device}, {given.threads} threads, {given.size} px, float64")
    print("| radius | form | ms, best | ms, median | s to make | gradients apart |")
    print("|---|---|---|---|---|---|")
    for radius in given.radii:
        compare(radius, given.size, given.rounds, device)


if __name__ == "__main__":
    main()
