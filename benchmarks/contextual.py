"""Peak memory and seconds of the contextual loss, whole table against rows at a time.

Value and gradient in a process of its own for every row of the table, on one thread; the whole
table of 16,384 positions needs about 8 GiB. Linux only.

    python benchmarks/contextual.py [--side 128] [--channels 64] [--chunks 16384 1024]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

import torch

from enhancelib import runtime
from enhancelib.losses.contextual import contextual


def peak() -> float:
    """Most memory that this process has held so far, MiB."""
    status = Path("/proc/self/status").read_text()  # getrusage begins with the parent's
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def measure(side: int, channels: int, chunk: int) -> None:
    """One row of the table."""
    torch.set_num_threads(1)
    shape = (1, channels, side, side)
    X, Y = (torch.randn(shape, generator=runtime.generator(0, name)) for name in "XY")
    X.requires_grad_()
    contextual(X[..., :8, :8], Y[..., :8, :8], chunk=16).backward()
    X.grad, before, start = None, peak(), time.perf_counter()
    loss = contextual(X, Y, positions=None, chunk=chunk)
    loss.backward()
    taken, gradient = time.perf_counter() - start, X.grad
    size = float(gradient.norm()) if gradient is not None else 0.0
    print(
        f"| {side * side} | {chunk} | {float(loss.detach()):.7f} | {size:.7f} | "
        f"{peak() - before:.0f} | {taken:.1f} |",
        flush=True,
    )


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--channels", type=int, default=64)
    parser.add_argument("--chunks", type=int, nargs="+", default=[16384, 1024])
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.alone:
        measure(given.side, given.channels, given.chunks[0])
        return
    print("| positions | chunk | loss | norm of the gradient | MiB above the start | s |")
    print("|---|---|---|---|---|---|", flush=True)
    for chunk in given.chunks:
        words = f"--alone --side {given.side} --channels {given.channels} --chunks {chunk}"
        subprocess.run([sys.executable, __file__, *words.split()], check=True)


if __name__ == "__main__":
    main()
