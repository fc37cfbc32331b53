"""What `import enhancelib` costs beyond `import torch`: fresh processes, interleaved.

python benchmarks/import_time.py [--repeats 7]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys

LIMIT = 1.5  # seconds beyond torch
PROBE = """
import time
start = time.perf_counter()
import torch
middle = time.perf_counter()
import {module}
print(middle - start, time.perf_counter() - middle)
"""


def once(module: str) -> tuple[float, float]:
    """Seconds of `import torch`, and of importing the module after it, in a fresh process."""
    words = [sys.executable, "-c", PROBE.format(module=module)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    torch, beyond = map(float, done.stdout.split())
    return torch, beyond


def main() -> None:
    """Measure and print; exit code 1 above the limit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    repeats = parser.parse_args().repeats
    once("enhancelib")  # the first import reads the disk and compiles
    pairs = [(once("sys")[0], once("enhancelib")[1]) for _ in range(repeats)]
    torch, beyond = ([pair[k] for pair in pairs] for k in (0, 1))
    print(f"import torch       min {min(torch):.2f} s, median {statistics.median(torch):.2f} s")
    print(f"import enhancelib  min {min(beyond):.2f} s, median {statistics.median(beyond):.2f} s")
    sys.exit(statistics.median(beyond) > LIMIT)


if __name__ == "__main__":
    main()
