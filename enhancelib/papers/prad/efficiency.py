"""Seconds and memory: of pictures through the networks, and of the paper's recipe."""

from __future__ import annotations

import contextlib
import copy
import ctypes
import gc
import os
import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from enhancelib import adversarial, runtime, training
from enhancelib.models import accounting
from enhancelib.papers.prad import sections, settings
from enhancelib.papers.prad.study import RELATIVISTIC, Study, judge
from enhancelib.training import Parts

if TYPE_CHECKING:
    import pandas as pd

TIMED = ("PRaD-G S", "S, plain U-Net", "PRaD-G L", "DPED (ResNet-12)", "PPCN student")
LARGEST_WORK = 2e12  # multiply-adds: what takes a minute on a slow core is left out


def measure(s: Study) -> pd.DataFrame:
    """Seconds and peak memory of one picture, by network and size, on this machine.

    Args:
        s: The run.

    Returns:
        One row per network; "left out" where a picture would take minutes on this machine.
    """
    import pandas as pd

    rows = []
    for method in TIMED:
        network = sections.build(method).to(s.device).eval()
        row = {"network": method}
        for height, width in s.scale.sizes:
            title = f"{width} × {height}"
            work = accounting.multiply_adds(network, height, width)
            if s.device.type == "cpu" and work > LARGEST_WORK / (2 if height > 720 else 1):
                row[title] = "left out: over a minute"
                continue
            seconds, peak = _picture(network, height, width)
            row[title] = f"{seconds:.3g} s, {peak / 2**20:.0f} MiB"
            for metric, value in (("seconds", seconds), ("peak_bytes", peak)):
                s.run.record(
                    dataset="random", method=method, metric=metric, value=value,
                    setting=f"size={width}x{height}", table="efficiency", timed=True,
                )  # fmt: skip
        rows.append(row)
    return pd.DataFrame(rows)


def _picture(network: nn.Module, height: int, width: int) -> tuple[float, float]:
    """(seconds, the median of three after one unmeasured; bytes above what was there before)."""
    device = next(network.parameters()).device
    picture = torch.rand(1, 3, height, width, device=device)
    spent: list[float] = []

    def once() -> None:
        began = time.perf_counter()
        with torch.inference_mode():
            network(picture)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        spent.append(time.perf_counter() - began)

    peak = peak_memory(once, device)
    repeats = 3 if spent[0] < 5 else 1
    for _ in range(repeats):
        once()
    return statistics.median(spent[1:]), peak


def peak_memory(function: Callable[[], object], device: torch.device) -> float:
    """How much memory a call needs on top of what is in use.

    Args:
        function: What is measured, once.
        device: On CUDA the allocator's own peak; on the CPU the largest resident size seen by a
            thread that looks every millisecond.

    Returns:
        Bytes.
    """
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        function()
        return float(torch.cuda.max_memory_allocated(device) - before)
    _return_freed()
    seen, done = [_resident()], threading.Event()

    def look() -> None:
        while not done.wait(0.001):
            seen.append(_resident())

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        function()
        seen.append(_resident())
    finally:
        done.set()
        watcher.join()
    return float(max(seen) - seen[0])


def _return_freed() -> None:
    """Memory that the C library keeps after it was freed would hide what the next call needs."""
    with contextlib.suppress(AttributeError, OSError):  # not glibc
        ctypes.CDLL(None).malloc_trim(0)


def _resident() -> int:
    statm = Path("/proc/self/statm")
    if not statm.is_file():  # not Linux: nothing to read
        return 0
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def projection(s: Study) -> pd.DataFrame:
    """What the unmodified recipe (batch 50, 100 px, every loss) would take on this machine.

    Args:
        s: The run; `projected` steps are trained and thrown away.

    Returns:
        Seconds per step, peak memory, days for 20,000 steps; empty where the profile leaves it out.
    """
    import pandas as pd

    if not s.scale.projected:
        print("the paper's recipe is not timed at this profile")
        return pd.DataFrame()
    recipe = replace(settings.RECIPES["paper"], seed=s.p.seed)
    parts, step = _paper_step(s)
    batches = s.train.batches(recipe.batch, recipe.patch)
    spent: list[float] = []

    def once() -> None:
        for index in range(s.scale.projected):
            sample = batches(index, runtime.generator(recipe.seed, "projection", index))
            began = time.perf_counter()
            step(parts, sample, runtime.generator(recipe.seed, "projection", index))
            spent.append(time.perf_counter() - began)

    peak = peak_memory(once, s.device)
    seconds = min(spent)
    found = {
        "seconds_per_step": seconds,
        "peak_bytes": peak,
        "days": seconds * recipe.steps / 86400,
    }
    for metric, value in found.items():
        s.run.record(
            dataset="pairs", method="paper's recipe", metric=metric, value=value,
            table="projection", timed=True,
        )  # fmt: skip
    cells = (
        ("seconds per step", f"{seconds:.2f}"),
        ("peak memory", f"{peak / 2**30:.1f} GiB"),
        (f"days for {recipe.steps:,} steps", f"{found['days']:.1f}"),
    )
    return pd.DataFrame(cells, columns=["the paper's recipe on this machine", ""])


def _paper_step(s: Study) -> tuple[Parts, training.Step]:
    """A fresh generator and critic, and Algorithm 1 with the paper's weights, in float32."""
    recipe = settings.RECIPES["paper"]
    weights = settings.Parameters().weights_of_terms()
    exact = copy.copy(s)
    exact.vgg19 = s.perceptual("fp32")  # phi of the critic too
    objective = settings.objective(weights, exact.vgg19, side=recipe.patch)
    generator, critic = s.generator(settings.FULL, s.p.seed), exact.critic("pair", s.p.seed)
    parts: Parts = {
        "generator": generator,
        "critic": critic,
        "generator_optimiser": training.optimiser(generator.parameters(), recipe),
        "critic_optimiser": training.optimiser(critic.parameters(), recipe),
    }
    machine = s.run.runtime
    step = training.adversarial(
        adversarial.generator_step(objective, machine, judge=judge, clip=recipe.clip),
        adversarial.critic_step(RELATIVISTIC, judge, machine, clip=recipe.clip),
    )
    return parts, step
