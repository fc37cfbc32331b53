"""What a network costs and how far it sees: parameters, multiply-adds, receptive field."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

Count = Literal["conv", "all"]

_TINY = 1e-100  # whatever the gain of the layers, tanh and sigmoid stay straight lines


def parameters(model: nn.Module) -> int:
    """Count what training changes.

    Args:
        model: Any network. Buffers, such as running moments, are not parameters.

    Returns:
        The number of scalars; shared ones count once, frozen ones too.

    Example:
        >>> parameters(nn.Conv2d(3, 8, 3))
        224
    """
    return sum(parameter.numel() for parameter in model.parameters())


@torch.no_grad()
def multiply_adds(
    model: nn.Module, height: int, width: int, *, count: Count = "conv", channels: int = 3
) -> int:
    """Count the multiplications that are followed by an addition, for one picture.

    A convolution with kernel k x k costs `k^2 c_in c_out / groups` at every pixel of its output, a
    transposed one at every pixel of its input. Biases, norms, activations, sums and resampling are
    not counted. The network runs on shapes alone, so that large pictures cost nothing.

    Args:
        model: A network of one input (B, channels, height, width); it is not changed.
        height: Of the picture, in pixels.
        width: Of the picture, in pixels.
        count: "conv" for convolutions alone, which is the rule behind all published tables here;
            "all" for matrix products too.
        channels: Of the input.

    Returns:
        The number; 1e9 of them are the tables' GMAC.

    Raises:
        ValueError: If count is another word, or the network refuses such a picture.

    Example:
        >>> multiply_adds(nn.Conv2d(3, 8, 3, padding=1), 10, 20)
        43200
        >>> multiply_adds(nn.Conv2d(3, 8, 3), 10, 20, count="flops")
        Traceback (most recent call last):
        ValueError: count is 'flops'; expected 'conv' or 'all'
    """
    if count not in ("conv", "all"):
        raise ValueError(f"count is {count!r}; expected 'conv' or 'all'")
    picture = torch.empty(1, channels, height, width, device="meta")
    with FlopCounterMode(display=False) as counter:
        _shapes_only(model)(picture)
    found = counter.get_flop_counts().get("Global", {})
    kept = (n for op, n in found.items() if count == "all" or op is torch.ops.aten.convolution)
    return sum(map(int, kept)) // 2  # the counter takes a multiply-add for two


def receptive_field(
    model: nn.Module,
    side: int = 129,
    *,
    channels: int = 3,
    pixels: int = 4,
    call: Callable[[nn.Module, Tensor], Tensor] | None = None,
) -> int | None:
    """Measure on how large a square of the input one output pixel depends, by its gradient.

    A copy in float64 gets positive weights and no biases, and sees a small positive picture: no
    path through it is hidden by a ReLU or a saturated output, and none cancels another. Max pooling
    becomes averaging, since its gradient shows one pixel of each window only.

    Args:
        model: A network in which every output pixel has its input pixel; it is not changed.
        side: Of the square picture that is tried.
        channels: Of the input.
        pixels: Neighbouring output pixels that are asked, from the middle along the diagonal. Where
            a network halves the picture, they differ: ask as many as its smallest map is smaller.
        call: What to differentiate, for networks that need more than a picture; by default
            `model(picture)`.

    Returns:
        The largest extent of a non-zero gradient in rows or columns, in pixels; None if it reaches
        the picture's border: the network sees the whole picture, or `side` or more of it.

    Raises:
        ValueError: If the picture has no room for the pixels asked.

    Example:
        >>> receptive_field(nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 3, 5, padding=3)), 21)
        7
        >>> receptive_field(nn.Conv2d(3, 3, 3, padding=1), 4)
        Traceback (most recent call last):
        ValueError: side is 4, pixels is 4; expected pixels of at least 1 and half of side at most
    """
    if not 1 <= pixels <= side // 2:
        raise ValueError(
            f"side is {side}, pixels is {pixels}; "
            "expected pixels of at least 1 and half of side at most"
        )
    probe = _transparent(model)
    picture = torch.rand(
        (1, channels, side, side), dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    picture = (_TINY * (1 + picture)).requires_grad_()
    output = probe(picture) if call is None else call(probe, picture)
    extents = [
        _extent(output[0, :, side // 2 + k, side // 2 + k].sum(), picture) for k in range(pixels)
    ]
    known = [extent for extent in extents if extent is not None]
    return max(known) if len(known) == len(extents) else None


def _shapes_only(model: nn.Module) -> nn.Module:
    """A copy in eval mode whose tensors have shapes and no values; no memory is needed."""
    tensors = [*model.parameters(), *model.buffers()]
    empty = {id(t): torch.empty_like(t, device="meta") for t in tensors}
    for parameter in model.parameters():
        empty[id(parameter)] = nn.Parameter(empty[id(parameter)], parameter.requires_grad)
    return copy.deepcopy(model, dict(empty)).eval()


def _transparent(model: nn.Module) -> nn.Module:
    probe = _averaging(copy.deepcopy(model).cpu().eval().requires_grad_(False).double())
    for module in probe.modules():
        if isinstance(module, nn.modules.batchnorm._NormBase):
            module.reset_running_stats()
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.ndim > 1:
                parameter.fill_(1 / max(1, parameter[0].numel()))
            else:
                parameter.fill_(0.0 if name == "bias" else 1.0)
    return probe


def _averaging(module: nn.Module) -> nn.Module:
    if isinstance(module, nn.MaxPool2d):
        return nn.AvgPool2d(
            module.kernel_size, module.stride, module.padding, ceil_mode=module.ceil_mode
        )
    for name, child in list(module.named_children()):
        setattr(module, name, _averaging(child))
    return module


def _extent(value: Tensor, picture: Tensor) -> int | None:
    (gradient,) = torch.autograd.grad(value, picture, retain_graph=True)
    seen = gradient[0].ne(0).any(0)
    largest = 0
    for axis in (0, 1):
        places = seen.any(axis).nonzero().ravel().tolist()
        if not places:  # a norm over the picture has put the pixel on a ReLU's flat side
            return None
        if places[0] == 0 or places[-1] == len(seen) - 1:
            return None
        largest = max(largest, places[-1] - places[0] + 1)
    return largest
