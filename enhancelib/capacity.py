"""Whether an optimisation fits into the memory at hand, told before it starts.

What counts is what the forward pass keeps for the backward pass; it is found by running the network
on shapes alone, which needs no memory.
"""

from __future__ import annotations

import copy
import os
from pathlib import Path

import torch
from torch import Tensor, nn

_WORK = 1.5  # gradients on their way and a convolution's own memory, beside what is kept
_PER_PARAMETER = 4  # the weight, its gradient, and two moments of Adam
_GROUP = Path("/sys/fs/cgroup")


class MemoryTooSmall(ValueError):
    """The picture needs more memory than is free."""


def available(device: torch.device) -> int:
    """The memory that is free now.

    Args:
        device: The GPU, or the CPU, where the limit of the container counts too (Linux).

    Returns:
        Bytes.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return min(_host(), _left_to_the_group())


def _host() -> int:
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:  # no Linux
        pass
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _left_to_the_group() -> int:
    try:
        limit, used = (
            (_GROUP / name).read_text(encoding="ascii") for name in ("memory.max", "memory.current")
        )
        return int(limit) - int(used)
    except (OSError, ValueError):  # no control group, or "max": no limit
        return 2**62


def needed(network: nn.Module, shape: tuple[int, ...]) -> int:
    """The memory that fitting a network to one picture takes, roughly.

    Args:
        network: It is not changed.
        shape: Of its input, (B, C, H, W).

    Returns:
        Bytes: all that the backward pass needs, weights, gradients and Adam's moments.

    Example:
        >>> network = nn.Conv2d(3, 64, 3, padding=1)
        >>> small, large = (needed(network, (1, 3, side, side)) for side in (100, 200))
        >>> small < large < 4 * small
        True
    """
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage._cdata] = storage
        return tensor

    ghost = copy.deepcopy(network).to("meta")
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        keep(ghost(torch.empty(shape, device="meta")))
    weights = {p.untyped_storage()._cdata for p in ghost.parameters()}
    maps = sum(s.nbytes() for address, s in kept.items() if address not in weights)
    sizes = sum(p.numel() * p.element_size() for p in ghost.parameters())
    return int(_WORK * maps) + _PER_PARAMETER * sizes


def insist_memory(bytes_needed: int, device: torch.device, what: str = "this picture") -> None:
    """Refuse what does not fit, before anything has been computed.

    Args:
        bytes_needed: As `needed` says.
        device: Where it would run.
        what: Subject of the sentence.

    Raises:
        MemoryTooSmall: If less is free.

    Example:
        >>> insist_memory(10**15, torch.device("cpu"), "a photo of 9000 x 6000")
        Traceback (most recent call last):
        enhancelib.capacity.MemoryTooSmall: a photo of 9000 x 6000 needs about 1000000.0 GB of ...
    """
    free = available(device)
    if bytes_needed > free:
        raise MemoryTooSmall(
            f"{what} needs about {bytes_needed / 1e9:.1f} GB of memory on {device}, and "
            f"{free / 1e9:.1f} GB are free; make it smaller"
        )
