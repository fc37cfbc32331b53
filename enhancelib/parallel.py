"""Training on several processes under torchrun: plain data parallelism, nothing hidden.

Every process draws the whole sample and keeps every world-th item of it, so the sum of what all
see is the sample of a single process. Gradients are averaged before every optimiser step. Batch
normalisation sees one process's items; the running moments kept are those of process 0.

Outside torchrun everything here does nothing.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch import distributed as dist

from enhancelib import runtime as rt


@contextlib.contextmanager
def joined() -> Iterator[None]:
    """Join the processes that torchrun started, and leave them at the end of the block.

    Yields:
        Nothing.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if cuda else "gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


def insist_divides(sample: Mapping[str, Tensor], count: int, what: str) -> None:
    """Refuse a batch of which some items would be left over.

    Args:
        sample: Name -> tensor with one row per item.
        count: How many equal parts it should have.
        what: Name of the parts, for the message.

    Raises:
        ValueError: If a tensor's rows do not divide into count parts.

    Example:
        >>> insist_divides({"clean": torch.zeros(3, 1, 8, 8)}, 2, "pieces")
        Traceback (most recent call last):
        ValueError: 'clean' has 3 items, which do not divide into 2 pieces; choose another batch
    """
    for name, value in sample.items():
        if len(value) % count:
            raise ValueError(
                f"{name!r} has {len(value)} items, which do not divide into {count} {what}; "
                "choose another batch"
            )


def share(sample: dict[str, Tensor]) -> dict[str, Tensor]:
    """This process's part of a sample.

    Args:
        sample: Name -> tensor with one row per item, the same on every process. The number of
            items is a multiple of the number of processes; `insist_divides` sees to it.

    Returns:
        Items rank, rank + world, rank + 2 world, ... of every tensor.
    """
    world, rank = rt.world(), rt.rank()
    if world == 1:
        return sample
    insist_divides(sample, world, "processes (--nproc-per-node)")
    return {name: value[rank::world] for name, value in sample.items()}


def whole(sample: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The sample of which every process holds its `share`.

    Args:
        sample: Name -> this process's items; equally many everywhere.

    Returns:
        Name -> the items of all processes in the order before they were shared, detached.
    """
    world = rt.world()
    if world == 1:
        return {name: value.detach() for name, value in sample.items()}
    found = {}
    for name, value in sample.items():
        mine = value.detach().contiguous()
        pieces = [torch.empty_like(mine) for _ in range(world)]
        dist.all_gather(pieces, mine)
        found[name] = torch.stack(pieces, 1).flatten(0, 1)
    return found


def mean(values: Mapping[str, float], device: torch.device) -> dict[str, float]:
    """The mean of every value over the processes.

    Args:
        values: Name -> this process's value; the same names everywhere.
        device: Where the processes exchange numbers.

    Returns:
        Name -> mean, the same on every process.
    """
    if rt.world() == 1:
        return dict(values)
    total = torch.tensor(list(values.values()), dtype=torch.float64, device=device)
    dist.all_reduce(total)
    return dict(zip(values, (total / rt.world()).tolist(), strict=True))


@contextlib.contextmanager
def averaging(
    networks: Sequence[nn.Module], optimisers: Sequence[torch.optim.Optimizer]
) -> Iterator[None]:
    """Train one set of networks on all processes for the length of the block.

    Networks begin as those of process 0; from then on every optimiser steps with the gradients
    averaged over the processes.

    Args:
        networks: Changed in place.
        optimisers: Whose parameters are averaged.

    Yields:
        Nothing.
    """
    if rt.world() == 1:
        yield
        return
    for network in networks:
        _broadcast(network)
    handles = [update.register_step_pre_hook(_average) for update in optimisers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _broadcast(network: nn.Module) -> None:
    for value in network.state_dict().values():
        copy = value.contiguous()
        dist.broadcast(copy, 0)
        value.copy_(copy)


def _average(update: torch.optim.Optimizer, *_: object) -> None:
    parameters: list[Tensor] = [p for group in update.param_groups for p in group["params"]]
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    means = torch.split(flat / rt.world(), [gradient.numel() for gradient in gradients])
    for gradient, value in zip(gradients, means, strict=True):
        gradient.copy_(value.view_as(gradient))
