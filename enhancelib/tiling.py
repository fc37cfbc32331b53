"""A network on a picture of any size: tile by tile, equal to the whole, in bounded memory.

A tile reaches `overlap` pixels beyond the part that is kept, and ends where the picture ends, so
that the network's own padding acts at the picture's border and nowhere else. With an overlap of
half the receptive field, every kept pixel then sees exactly what it sees in the whole picture.

A network speaks for itself through attributes: `receptive_field` (pixels), `tiling = Tiling(...)`
where more is to be said, or `global_statistics = True` where no tile can replace the picture.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

_GLOBAL = (
    nn.GroupNorm,
    nn.LayerNorm,
    nn.MultiheadAttention,
    nn.AdaptiveAvgPool2d,
    nn.AdaptiveMaxPool2d,
)


@dataclass(frozen=True)
class Tiling:
    """How a network wants to be tiled; the network's attribute `tiling` holds it.

    On a network with global statistics it states that statistics of a tile will do.

    Args:
        overlap: Pixels that a tile needs beyond what is kept, on each side.
        multiple: Tiles start at multiples of this: the total stride of the network.

    Raises:
        ValueError: If overlap is negative or multiple is below 1.

    Example:
        >>> Tiling(overlap=20)
        Tiling(overlap=20, multiple=1)
        >>> Tiling(overlap=-1)
        Traceback (most recent call last):
        ValueError: overlap is -1, multiple is 1; expected overlap >= 0 and multiple >= 1
    """

    overlap: int
    multiple: int = 1

    def __post_init__(self) -> None:
        if self.overlap < 0 or self.multiple < 1:
            raise ValueError(
                f"overlap is {self.overlap}, multiple is {self.multiple}; "
                "expected overlap >= 0 and multiple >= 1"
            )


def tiled(
    model: Callable[[Tensor], Tensor],
    image: Tensor,
    *,
    tile: int = 512,
    overlap: int | None = None,
) -> Tensor:
    """Apply a network tile by tile, without gradients.

    A picture that fits in one tile goes through whole. Each tile is moved to the device of the
    network, so the picture may stay in main memory.

    Args:
        model: (B, C, h, w) -> (B, C', h, w), in eval mode. A function hides the network from the
            checks below; it then needs `overlap`.
        image: (C, H, W) or (B, C, H, W), any size.
        tile: Side of the part that one call restores, in pixels; it sees 2 * overlap more.
        overlap: Pixels seen beyond the part kept; by default what the network declares: that of
            its `tiling`, else half its `receptive_field`. Less is faster and no longer exact.

    Returns:
        (C', H, W) or (B, C', H, W) on the device of `image`: the network's output, unclamped.

    Raises:
        ValueError: If the picture needs tiles and the network has global statistics and no
            `tiling`, or the overlap is unknown, or sizes do not fit.

    Example:
        >>> blur = nn.Conv2d(1, 1, 3, padding=1)
        >>> tiled(blur, torch.rand(1, 50, 70), tile=32, overlap=1).shape
        torch.Size([1, 50, 70])
        >>> tiled(nn.InstanceNorm2d(1), torch.rand(1, 50, 70), tile=32, overlap=1)
        Traceback (most recent call last):
        ValueError: InstanceNorm2d computes over the whole picture, so tiles would differ from ...
    """
    if image.dim() not in (3, 4) or not image.numel():
        raise ValueError(f"shape is {tuple(image.shape)}; expected (C, H, W) or (B, C, H, W)")
    if tile < 1:
        raise ValueError(f"tile is {tile}; expected at least 1")
    batch = image if image.dim() == 4 else image[None]
    with torch.no_grad():
        if max(batch.shape[-2:]) <= tile:
            result = _apply(model, batch)
        else:
            result = _assemble(model, batch, tile, _plan(model, overlap, tile))
    return result if image.dim() == 4 else result[0]


def _plan(model: Callable[[Tensor], Tensor], overlap: int | None, tile: int) -> Tiling:
    declared: Tiling | None = getattr(model, "tiling", None)
    if declared is None and (culprit := _global_part(model)):
        raise ValueError(
            f"{culprit} computes over the whole picture, so tiles would differ from it; "
            f"give the picture in one tile (tile is {tile}), or declare `tiling` on the network"
        )
    multiple = declared.multiple if declared else 1
    if overlap is not None:
        return Tiling(overlap, multiple)
    if declared is not None:
        return declared
    field: int | None = getattr(model, "receptive_field", None)
    if field is None:
        name = type(model).__name__
        raise ValueError(f"{name} declares no receptive_field; pass overlap= (half of it, pixels)")
    return Tiling(field // 2)


def _global_part(model: object) -> str | None:
    """Name of the first part whose output at a pixel depends on the whole picture."""
    if getattr(model, "global_statistics", False):
        return type(model).__name__
    for part in model.modules() if isinstance(model, nn.Module) else ():
        if getattr(part, "global_statistics", False) or isinstance(part, _GLOBAL):
            return type(part).__name__
        if isinstance(part, nn.modules.batchnorm._NormBase) and _uses_batch(part):
            mode = " in training mode" if part.training and _stores(part) else ""
            return type(part).__name__ + mode
    return None


def _stores(norm: nn.modules.batchnorm._NormBase) -> bool:
    return norm.running_mean is not None


def _uses_batch(norm: nn.modules.batchnorm._NormBase) -> bool:
    return norm.training or not _stores(norm)


def _apply(model: Callable[[Tensor], Tensor], part: Tensor) -> Tensor:
    parameter = next(model.parameters(), None) if isinstance(model, nn.Module) else None
    result = model(part if parameter is None else part.to(parameter.device)).to(part.device)
    if result.dim() != 4 or result.shape[-2:] != part.shape[-2:]:
        raise ValueError(
            f"the network turned {tuple(part.shape)} into {tuple(result.shape)}; "
            "expected the same height and width"
        )
    return result


def _assemble(model: Callable[[Tensor], Tensor], batch: Tensor, tile: int, plan: Tiling) -> Tensor:
    result = batch.new_empty(0)
    for rows, tall in _spans(batch.shape[-2], tile, plan):
        for columns, wide in _spans(batch.shape[-1], tile, plan):
            part = _apply(model, batch[..., tall, wide])
            if not result.numel():
                result = part.new_empty(*part.shape[:2], *batch.shape[-2:])
            top, left = rows.start - tall.start, columns.start - wide.start
            height, width = rows.stop - rows.start, columns.stop - columns.start
            result[..., rows, columns] = part[..., top : top + height, left : left + width]
    return result


def _spans(length: int, tile: int, plan: Tiling) -> Iterator[tuple[slice, slice]]:
    """(kept, seen) ranges that cover one side, all starting at multiples of `plan.multiple`."""
    step = _round_up(-(-length // -(-length // tile)), plan.multiple)
    reach = _round_up(plan.overlap, plan.multiple)
    for start in range(0, length, step):
        stop = min(start + step, length)
        yield slice(start, stop), slice(max(start - reach, 0), min(stop + reach, length))


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple
