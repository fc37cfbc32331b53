"""Seconds for one picture: the plain eager network, ours arranged for inference, and deepinv's.

All compute the same network (DnCNN-S, sigma 25, with its batch normalisation as trained for
"plain", merged for the others), in turns, on one thread count. The largest difference to the plain
network stands beside each time, then bfloat16 with what it costs in PSNR.

    python benchmarks/dncnn_inference.py [--threads 2] [--rounds 5] [--sizes 256 512 1024]

deepinv comes with the extra `oracle`. The official weights are read from the test assets; without
them the networks are random, and the PSNR is left out.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import skimage.data
import torch
from torch import Tensor, nn

from enhancelib import models, runtime, weights
from enhancelib.models.dncnn import DnCNN

Forward = Callable[[Tensor], Tensor]
SIGMA = 25


def official() -> nn.Module | None:
    """The released network with its batch normalisation, where the assets are at hand."""
    folder = runtime.assets()
    file = folder / "weights/dncnn/npz/sigma25_Bnorm.npz" if folder else None
    return weights.load("dncnn", file) if file and file.is_file() else None


def theirs(merged: DnCNN) -> nn.Module | None:
    """Deepinv's DnCNN holding our merged weights; it adds its output where ours subtracts."""
    try:
        from deepinv.models.dncnn import DnCNN as Theirs
    except ImportError as error:
        print(f"deepinv is left out: {error}; install it with `pip install deepinv`")
        return None
    network: Any = Theirs(1, 1, depth=merged.D, nf=merged.width, pretrained=None)
    ours = [layer for layer in merged.layers if isinstance(layer, nn.Conv2d)]
    copies = [network.in_conv, *network.conv_list, network.out_conv]
    with torch.no_grad():
        for source, target in zip(ours, copies, strict=True):
            sign = -1 if target is network.out_conv else 1
            for name, value in source.state_dict().items():
                target.get_parameter(name).copy_(sign * value)
    made: nn.Module = network.eval()
    return made


def halved(fast: nn.Module) -> Forward:
    """The same arrangement in bfloat16."""
    network = fast.bfloat16()
    return lambda y: network(y.bfloat16()).float()


def contenders(plain: nn.Module) -> dict[str, Forward]:
    """Name -> network; the first one is what the others are compared with."""
    found: dict[str, Forward] = {"plain": plain, "folded": models.fold(plain)}
    merged = models.fold(plain)
    if isinstance(merged, DnCNN) and (other := theirs(merged)):
        found["deepinv"] = other
    return {**found, "fast": models.fast(plain), "fast bf16": halved(models.fast(plain))}


def noisy(size: int) -> tuple[Tensor, Tensor]:
    """A photograph (mirrored where it is too small) and the same with noise of sigma 25."""
    photo = np.asarray(skimage.data.camera()).astype(np.float32) / 255
    photo = np.pad(photo, (0, max(0, size - 512)), mode="symmetric")[:size, :size]
    clean = torch.from_numpy(photo.copy())[None, None]
    noise = torch.randn(clean.shape, generator=runtime.generator(0, "noise"))
    return clean, clean + SIGMA / 255 * noise


def seconds(networks: dict[str, Forward], y: Tensor, rounds: int) -> dict[str, list[float]]:
    """Times of every network, which take turns; a first round warms up and is not counted."""
    times: dict[str, list[float]] = {name: [] for name in networks}
    for number in range(rounds + 1):
        for name, network in networks.items():
            start = time.perf_counter()
            network(y)
            if number:
                times[name].append(time.perf_counter() - start)
    return times


def psnr(restored: Tensor, clean: Tensor) -> float:
    """After rounding to 8 bits."""
    levels = (restored.clamp(0, 1) * 255).round()
    return float(10 * torch.log10(255**2 / (levels - clean * 255).square().mean()))


def report(networks: dict[str, Forward], size: int, rounds: int, trained: bool) -> None:
    """One table: minimum, median, ratio to plain, largest difference, PSNR."""
    clean, y = noisy(size)
    reference = networks["plain"](y)
    times = seconds(networks, y, rounds)
    print(f"\n{size} x {size}, {rounds} rounds, load {os.getloadavg()[0]:.1f}")
    print("| network | min s | median s | plain / it (min) | (median) | max difference | PSNR |")
    print("|---|---|---|---|---|---|---|")
    base = times["plain"]
    for name, network in networks.items():
        least, middle = min(times[name]), statistics.median(times[name])
        restored = network(y)
        difference = float((restored - reference).abs().max())
        quality = f"{psnr(restored, clean):.3f}" if trained else "n/a"
        print(
            f"| {name} | {least:.3f} | {middle:.3f} | {min(base) / least:.2f} | "
            f"{statistics.median(base) / middle:.2f} | {difference:.1e} | {quality} |"
        )
    if "deepinv" in times:
        print(f"deepinv / fast: {min(times['deepinv']) / min(times['fast']):.2f} (min)")


def main() -> None:
    """Print one table per size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 512, 1024])
    asked = parser.parse_args()
    machine = runtime.setup("cpu", threads=asked.threads)
    released = official()
    plain = released or models.build("dncnn", D=17).eval()
    kind = "official weights" if released else "random weights, for the test assets are absent"
    print(f"torch {torch.__version__}, {machine.threads} threads, {kind}")
    with torch.inference_mode():
        networks = contenders(plain)
        for size in asked.sizes:
            report(networks, size, asked.rounds, released is not None)


if __name__ == "__main__":
    main()
