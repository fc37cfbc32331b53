"""The one dict of networks, and what every network can be turned into for inference.

`forward(degraded) -> restored` is unclamped and keeps the size; residuals, maps and stage outputs
come from a network's `outputs(...)`. Options carry the paper's symbols.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from enhancelib.models.dncnn import DnCNN

MODELS: dict[str, Callable[..., nn.Module]] = {
    "dncnn": DnCNN,
}
"""Name -> builder; "paper" is the network a user applies to a photo, "paper.part" another one."""


def build(name: str, **options: Any) -> nn.Module:  # noqa: ANN401 - each network checks its own
    """Make a freshly initialised network by name.

    Args:
        name: A key of `MODELS`.
        **options: The network's own options, in the paper's symbols.

    Returns:
        The network, in training mode.

    Raises:
        ValueError: If the name is unknown, or the network does not know or refuses an option.

    Example:
        >>> build("dncnn", D=20).receptive_field
        41
        >>> build("dcnn")
        Traceback (most recent call last):
        ValueError: model is 'dcnn'; expected one of dncnn
    """
    if name not in MODELS:
        raise ValueError(f"model is {name!r}; expected one of {', '.join(sorted(MODELS))}")
    try:
        return MODELS[name](**options)
    except TypeError as error:  # Python's own words name the option that is not there
        raise ValueError(f"model {name!r} refuses its options: {error}") from error


def fold(model: nn.Module) -> nn.Module:
    r"""Merge every batch normalisation into the convolution before it.

    With running moments mu and s^2, `BN(w * x + b) = w' * x + b'` where
    `w' = gamma w / sqrt(s^2 + eps)` and `b' = beta + gamma (b - mu) / sqrt(s^2 + eps)`.

    Args:
        model: Any network; pairs Conv2d, BatchNorm2d next to each other in an `nn.Sequential` are
            merged, everything else is kept. It is not changed.

    Returns:
        A copy in eval mode that gives the values of `model.eval()`, to float rounding.

    Example:
        >>> network = build("dncnn")
        >>> [sum(p.numel() for p in n.parameters()) for n in (network, fold(network))]
        [556097, 555137]
    """
    folded = copy.deepcopy(model).eval()
    for module in list(folded.modules()):
        if isinstance(module, nn.Sequential):
            _fold_sequence(module)
    return folded


def fast(model: nn.Module) -> nn.Module:
    """The same network, arranged for inference: eval mode, folded, channels last.

    Args:
        model: Any network of `MODELS`. It is not changed.

    Returns:
        A copy whose inputs are brought to channels_last inside; values equal those of
        `model.eval()` to float rounding. It is not meant to be trained.

    Example:
        >>> network = build("dncnn", D=3, width=4).eval()
        >>> y = torch.rand(1, 1, 9, 9)
        >>> with torch.inference_mode():
        ...     torch.allclose(fast(network)(y), network(y), atol=1e-5)
        True
    """
    arranged = fold(model)
    arranged.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks it
    for module in arranged.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = True
    arranged.register_forward_pre_hook(_channels_last)
    return arranged.requires_grad_(False)


def _channels_last(_: nn.Module, inputs: tuple[object, ...]) -> tuple[object, ...]:
    return tuple(
        x.contiguous(memory_format=torch.channels_last)
        if isinstance(x, Tensor) and x.ndim == 4
        else x
        for x in inputs
    )


def _fold_sequence(sequence: nn.Sequential) -> None:
    for index in reversed(range(len(sequence) - 1)):
        conv, norm = sequence[index], sequence[index + 1]
        if not isinstance(conv, nn.Conv2d) or not isinstance(norm, nn.BatchNorm2d):
            continue
        if norm.running_mean is not None:
            _merge(conv, norm)
            del sequence[index + 1]


@torch.no_grad()
def _merge(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    """In float64: the rounding of the merged weights should be the only one."""
    assert norm.running_mean is not None  # checked by the caller
    assert norm.running_var is not None
    scale = (norm.running_var.double() + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight.double()
    shift = -norm.running_mean.double() * scale
    if conv.bias is not None:
        shift = shift + conv.bias.double() * scale
    if norm.bias is not None:
        shift = shift + norm.bias.double()
    dtype = conv.weight.dtype
    conv.weight.copy_(conv.weight.double() * scale[:, None, None, None])
    conv.bias = nn.Parameter(shift.to(dtype))
