"""Iterations per second of Deep Image Prior: the official network and loop, and ours.

The official side is its module graph with torch's Adam as published: contiguous maps, a reflection
layer before every convolution (of width 0 before 1x1 ones), running moments, fresh input noise at
every step, MSE. Ours is `models.skip.Skip` inside `internal.optimise`, the same mathematics in the
same precision; bfloat16 autocast stands in a row of its own. All take turns on one thread count.

    python benchmarks/internal_skip.py [--threads 1] [--rounds 5] [--steps 4] [--size 128]
                                       [--setting denoise]

The two start from the same weights, and the largest difference of their first outputs is printed.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from enhancelib import internal, runtime
from enhancelib.losses import Objective, Term, pixel
from enhancelib.models.skip import SETTINGS, Skip
from enhancelib.recipes import Recipe

Round = Callable[[], float]
OBJECTIVE = Objective({"mse": Term(1.0, pixel.mse, ("output", "degraded"))})
JITTER = 1 / 30


class Join(nn.Module):
    """The official concatenation: branches are cut around their centres to the smallest."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        found = [branch(x) for branch in self.branches]
        height, width = (min(y.shape[axis] for y in found) for axis in (2, 3))
        cut = []
        for y in found:
            top, left = (y.shape[2] - height) // 2, (y.shape[3] - width) // 2
            cut.append(y[:, :, top : top + height, left : left + width])
        return torch.cat(cut, dim=1)


def convolution(inputs: int, outputs: int, size: int, stride: int, pool: str) -> nn.Sequential:
    """The official convolution: reflection, the layer itself, and pooling in place of a stride."""
    pools = {"avg": nn.AvgPool2d, "max": nn.MaxPool2d}
    pooled = [pools[pool](stride, stride)] if stride > 1 and pool in pools else []
    kept = 1 if pooled else stride
    reflect = nn.ReflectionPad2d((size - 1) // 2)
    return nn.Sequential(reflect, nn.Conv2d(inputs, outputs, size, kept), *pooled)


def block(inputs: int, outputs: int, size: int, stride: int = 1, pool: str = "") -> list[nn.Module]:
    """Convolution, batch normalisation with running moments, LeakyReLU in place."""
    conv = convolution(inputs, outputs, size, stride, pool)
    return [conv, nn.BatchNorm2d(outputs), nn.LeakyReLU(0.2, inplace=True)]


def published(options: dict[str, Any]) -> nn.Sequential:
    """The official module graph for the options of a `Skip`."""
    mode: dict[str, Any] = {"mode": options["upsampling"]}
    if mode["mode"] == "bilinear":
        mode["align_corners"] = options["align_corners"]
    down, up, skip = options["down"], options["up"], options["skip"]

    def scale(i: int, inputs: int) -> list[nn.Module]:
        deeper = block(inputs, down[i], options["down_kernel"], 2, options["downsampling"])
        deeper += block(down[i], down[i], options["down_kernel"])
        inner = down[i] if i == len(down) - 1 else up[i + 1]
        if i < len(down) - 1:
            deeper.append(nn.Sequential(*scale(i + 1, down[i])))
        path = nn.Sequential(*deeper, nn.Upsample(scale_factor=2, **mode))
        if skip[i]:
            side = nn.Sequential(*block(inputs, skip[i], options["skip_kernel"]))
            first: nn.Module = Join(side, path)
        else:
            first = path
        layers = [first, nn.BatchNorm2d(skip[i] + inner)]
        layers += block(skip[i] + inner, up[i], options["up_kernel"])
        return layers + (block(up[i], up[i], 1) if options["need1x1"] else [])

    head = convolution(up[0], options["outputs"], 1, 1, "")
    return nn.Sequential(*scale(0, options["inputs"]), head, nn.Sigmoid())


def copy_weights(ours: Skip, theirs: nn.Module) -> None:
    """Their parameters stand in the same order."""
    with torch.no_grad():
        for source, target in zip(ours.parameters(), theirs.parameters(), strict=True):
            target.copy_(source)


def official(network: nn.Module, z: Tensor, degraded: Tensor, steps: int) -> Round:
    """The notebook's loop."""
    update = torch.optim.Adam(network.parameters(), lr=0.01)
    loss, saved, noise = nn.MSELoss(), z.detach().clone(), z.detach().clone()

    def run() -> float:
        start = time.perf_counter()
        for _ in range(steps):
            update.zero_grad()
            total = loss(network(saved + noise.normal_() * JITTER), degraded)
            total.backward()
            update.step()
        return time.perf_counter() - start

    return run


def ours(network: Skip, z: Tensor, degraded: Tensor, steps: int, machine: runtime.Runtime) -> Round:
    """`internal.optimise`; only its steps are timed, from the second on (the first warms up)."""
    recipe = Recipe(
        steps=steps + 1, batch=1, patch=z.shape[-1], learning_rate=0.01, watch_every=1,
        checkpoint_seconds=1e9,
    )  # fmt: skip
    source = internal.Generated(network, z, JITTER)

    def run() -> float:
        times: list[float] = []
        with tempfile.TemporaryDirectory() as folder:
            place: Any = SimpleNamespace(folder=Path(folder), runtime=machine)
            internal.optimise(
                source, {"degraded": degraded}, OBJECTIVE, recipe, place, stage="run",
                show=lambda *_: times.append(time.perf_counter()),
            )  # fmt: skip
        return times[-1] - times[0]

    return run


def report(times: dict[str, list[float]], steps: int) -> None:
    """One line per contender: iterations per second, median and best, and the ratios."""
    first = next(iter(times.values()))
    print(f"{'':18}{'it/s median':>12}{'best':>9}{'ratio of medians':>18}{'of bests':>10}")
    for name, seconds in times.items():
        middle, best = statistics.median(seconds), min(seconds)
        print(
            f"{name:18}{steps / middle:12.2f}{steps / best:9.2f}"
            f"{statistics.median(first) / middle:18.2f}{min(first) / best:10.2f}"
        )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--setting", default="denoise", choices=sorted(SETTINGS))
    given = parser.parse_args()
    machine = runtime.setup("cpu", threads=given.threads)
    setting = SETTINGS[given.setting]
    generator = torch.Generator().manual_seed(0)
    z = setting.z(given.size, given.size, generator)
    outputs = setting.network.get("outputs", 3)
    degraded = torch.rand((1, outputs, given.size, given.size), generator=generator)
    networks = [setting.build(torch.Generator().manual_seed(1)) for _ in range(2)]
    theirs = published(networks[0].options)
    copy_weights(networks[0], theirs)
    with torch.no_grad():
        difference = float((theirs(z) - networks[0](z)).abs().max())
    halved = replace(machine, precision="bf16")
    rounds = {
        "official": official(theirs, z, degraded, given.steps),
        "ours": ours(networks[0], z, degraded, given.steps, machine),
        "ours, bfloat16": ours(networks[1], z, degraded, given.steps, halved),
    }
    times: dict[str, list[float]] = {name: [] for name in rounds}
    for number in range(given.rounds + 1):
        for name, run in rounds.items():
            seconds = run()
            if number:  # the first round warms up
                times[name].append(seconds)
    print(
        f"{given.setting}, {given.size} x {given.size}, {machine.threads} threads, torch "
        f"{torch.__version__}; first outputs differ by {difference:.1e}"
    )
    report(times, given.steps)


if __name__ == "__main__":
    main()
