"""Where and how code runs: device, threads, seeds, precision, and the project's folders.

This is the one place that sets process-wide state. Everything random takes a `torch.Generator`
made here; a child seed is derived by hashing, so that adding a consumer never shifts another.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import subprocess
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import distributed as dist

PRECISIONS = ("fp32", "bf16")


@dataclass(frozen=True)
class Runtime:
    """The machine as one run sees it.

    Args:
        device: Where tensors live.
        threads: CPU threads of torch, fixed for the whole run.
        precision: "fp32", or "bf16" for autocast with float32 parameters.
    """

    device: torch.device
    threads: int
    precision: str = "fp32"

    def autocast(self) -> AbstractContextManager[object]:
        """Context in which forward passes run at this runtime's precision.

        Returns:
            A context manager; it changes nothing at "fp32".
        """
        return torch.autocast(
            self.device.type, dtype=torch.bfloat16, enabled=self.precision == "bf16"
        )


def setup(device: str = "auto", *, threads: int = 0, precision: str = "fp32") -> Runtime:
    """Choose the device and set thread count and matrix precision for this process.

    Args:
        device: "auto" (CUDA where there is one, else CPU), "cpu", "cuda" or "cuda:N".
        threads: CPU threads; 0 keeps torch's choice (OMP_NUM_THREADS where set).
        precision: "fp32" or "bf16"; on CUDA, TF32 is allowed and recorded by `environment`.

    Returns:
        The runtime that training and inference take.

    Raises:
        ValueError: If the device is unknown or absent, or the precision or threads are.

    Example:
        >>> setup("cpu", threads=1).device
        device(type='cpu')
        >>> setup("tpu")
        Traceback (most recent call last):
        ValueError: device is 'tpu'; expected 'auto', 'cpu', 'cuda' or 'cuda:N'
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision is {precision!r}; expected one of {', '.join(PRECISIONS)}")
    if threads < 0:
        raise ValueError(f"threads is {threads}; expected 0 (torch's choice) or more")
    chosen = _device(device)
    if threads:
        torch.set_num_threads(threads)
    if chosen.type == "cuda":
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.allow_tf32 = True
    return Runtime(chosen, torch.get_num_threads(), precision)


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if not re.fullmatch(r"cpu|cuda(:[0-9]+)?", name):
        raise ValueError(f"device is {name!r}; expected 'auto', 'cpu', 'cuda' or 'cuda:N'")
    kind, _, index = name.partition(":")
    if kind == "cuda" and int(index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"device is {name!r}, but this machine has {torch.cuda.device_count()} CUDA devices; "
            "use device='cpu' or 'auto'"
        )
    return torch.device(name)


def derive(seed: int, *keys: str | int) -> int:
    """A child seed that depends on the parent seed and on names, and on nothing else.

    Args:
        seed: The parent seed.
        *keys: What the child is for, such as a stage name and a step number.

    Returns:
        An integer in [0, 2**63).

    Example:
        >>> derive(0, "main", 1) == derive(0, "main", 1)
        True
        >>> derive(0, "main", 1) == derive(0, "main", 2)
        False
    """
    text = "/".join([str(seed), *(str(key) for key in keys)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *keys: str | int, device: torch.device | str = "cpu") -> torch.Generator:
    """A fresh random generator for one purpose.

    Args:
        seed: The parent seed.
        *keys: What it is for; the state is that of `derive(seed, *keys)`.
        device: Where its numbers are drawn. CPU numbers are the same on every machine.

    Returns:
        A seeded `torch.Generator`.
    """
    return torch.Generator(device=device).manual_seed(derive(seed, *keys))


def digest(*files: Path) -> str:
    """The sha256 of some files, of their contents in the order given.

    Args:
        *files: Files to read.

    Returns:
        64 hexadecimal digits.
    """
    total = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                total.update(block)
    return total.hexdigest()


def code() -> str:
    """A digest of the library's source, to tell whether two runs were made by the same code.

    Returns:
        16 hexadecimal digits; command line, widgets and publishing do not enter.
    """
    here = Path(__file__).resolve().parent
    leaves = ("cli.py", "publishing.py", "fetching.py")
    files = sorted(
        f for f in here.rglob("*.py") if f.name not in leaves and "widgets" not in f.parts
    )
    return digest(*files)[:16]


def rank() -> int:
    """This process's number under torchrun.

    Returns:
        0 outside torchrun.
    """
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def world() -> int:
    """The number of processes that train together under torchrun.

    Returns:
        1 outside torchrun.
    """
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def root() -> Path:
    """The project's folder: the checkout that holds this package, else the current folder.

    Returns:
        An absolute path; `runs/` and `figures/` lie under it.
    """
    here = Path(__file__).resolve().parent.parent
    return here if (here / "pyproject.toml").is_file() else Path.cwd().resolve()


def data(name: str = "") -> Path:
    """A folder or file of the project's data, in a checkout or inside an installed wheel.

    Args:
        name: Path under data/, or "notebooks" for the notebooks themselves.

    Returns:
        An absolute path; it need not exist.
    """
    packed = Path(__file__).resolve().parent / "_data"
    if packed.is_dir():
        return packed / name
    return root() / name if name.split("/")[0] == "notebooks" else root() / "data" / name


def cache() -> Path:
    """The user's cache: ENHANCELIB_CACHE, else XDG_CACHE_HOME or ~/.cache, /enhancelib.

    Returns:
        An absolute path; it need not exist.
    """
    if given := os.environ.get("ENHANCELIB_CACHE"):
        return Path(given).expanduser().resolve()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser().resolve() / "enhancelib"


def assets() -> Path | None:
    """Test sets and official weights for parity tests: ENHANCELIB_ASSETS, else ../shared/assets.

    Returns:
        The folder, or None where it is absent.
    """
    given = os.environ.get("ENHANCELIB_ASSETS")
    folder = Path(given) if given else root().parent / "shared" / "assets"
    return folder.resolve() if folder.is_dir() else None


def commit() -> tuple[str, bool]:
    """The git commit of the project and whether the working tree differs from it.

    Untracked files count where they are code or notebooks.

    Returns:
        (commit, dirty); ("unknown", True) outside a git checkout.
    """
    head = _git("rev-parse", "HEAD")
    if head is None:
        return "unknown", True
    changes = (_git("status", "--porcelain") or "").splitlines()
    code = ("enhancelib/", "notebooks/")
    return head, any(not c.startswith("??") or c[3:].startswith(code) for c in changes)


def commits_since(commit: str, slug: str) -> int | str:
    """How many commits touched the library or a paper's notebook after a commit.

    Args:
        commit: Of a published result.
        slug: The paper.

    Returns:
        The number, or "n/a" where the history does not hold the commit.
    """
    paths = ("enhancelib", f"notebooks/{slug}.ipynb", f"notebooks/{slug}.py")
    count = _git("rev-list", "--count", f"{commit}..HEAD", "--", *paths)
    return "n/a" if count is None else int(count)


def _git(*words: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *words], cwd=root(), capture_output=True, text=True, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def environment(runtime: Runtime) -> Mapping[str, object]:
    """What a result must tell about the place where it was measured.

    Args:
        runtime: The runtime of the run.

    Returns:
        commit, dirty, versions, device, threads, precision, tf32, processor and python.
    """
    from importlib.metadata import version

    head, dirty = commit()
    cuda = runtime.device.type == "cuda"
    return {
        "commit": head,
        "dirty": dirty,
        "versions": {name: version(name) for name in ("torch", "torchvision", "numpy", "pillow")},
        "device": torch.cuda.get_device_name(runtime.device) if cuda else "cpu",
        "threads": runtime.threads,
        "precision": runtime.precision,
        "tf32": cuda and torch.backends.cudnn.allow_tf32,
        "processor": platform.processor() or platform.machine(),
        "python": platform.python_version(),
    }
