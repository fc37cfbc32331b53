"""What any network can be turned into for inference: same values, less work.

Every rearrangement here is tested against the plain network.
"""

from __future__ import annotations

import copy
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

STRIP = 2**15  # pixels of a strip: of 2**13 to 2**16 the fastest, at 512 x 512 and 64 maps


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
        >>> from enhancelib import models
        >>> network = models.build("dncnn")
        >>> [sum(p.numel() for p in n.parameters()) for n in (network, fold(network))]
        [556097, 555137]
    """
    folded = copy.deepcopy(model).eval()
    for module in list(folded.modules()):
        if isinstance(module, nn.Sequential):
            _fold_sequence(module)
    return folded


def fast(model: nn.Module) -> nn.Module:
    """The same network, arranged for inference: eval mode, folded, channels last, in strips.

    On the CPU, stacks of convolutions and ReLUs run strip by strip (`_Strips`), so that a large
    picture needs the feature maps of a strip only.

    Args:
        model: Any network of `MODELS`. It is not changed.

    Returns:
        A copy whose inputs are brought to channels_last inside; values equal those of
        `model.eval()` to float rounding. Its parameters ask for no gradient.

    Example:
        >>> from enhancelib import models
        >>> network = models.build("dncnn", D=3, width=4).eval()
        >>> y = torch.rand(1, 1, 9, 9)
        >>> with torch.inference_mode():
        ...     torch.allclose(fast(network)(y), network(y), atol=1e-5)
        True
    """
    arranged = _stripped(fold(model))
    arranged.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # stub lacks it
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
        conv = sequence[index]
        while isinstance(conv, nn.Conv2d) and index + 1 < len(sequence):
            norm = sequence[index + 1]
            if not isinstance(norm, nn.BatchNorm2d) or norm.running_mean is None:
                break
            _merge(conv, norm)
            del sequence[index + 1]


@torch.no_grad()
def _merge(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    """In float64: the rounding of the merged weights should be the only one."""
    assert norm.running_mean is not None  # seen by the caller
    assert norm.running_var is not None  # the two come together
    scale = (norm.running_var.double() + norm.eps).rsqrt()
    if norm.affine:
        scale = scale * norm.weight.double()
    shift = -norm.running_mean.double() * scale
    if conv.bias is not None:
        shift = shift + conv.bias.double() * scale
    if norm.affine:
        shift = shift + norm.bias.double()
    conv.weight.copy_(conv.weight.double() * scale[:, None, None, None])
    conv.bias = nn.Parameter(shift.to(conv.weight.dtype))


class _Strips(nn.Sequential):
    """A stack of same-size convolutions and ReLUs that walks down the picture strip by strip.

    Each convolution keeps the last rows of its input, so nothing is computed twice and the values
    are those of the plain stack: a strip that enters with n rows leaves layer k with those rows
    that no unseen row can change, and the rest comes out with the next strip.
    """

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu" or x.shape[0] * x.shape[2] * x.shape[3] <= 2 * STRIP:
            return self._plain(x)
        return torch.cat([self._picture(one) for one in torch.split(x, 1)])

    def _plain(self, x: Tensor) -> Tensor:
        for layer in self:
            x = layer(x)
        return x

    def _picture(self, x: Tensor) -> Tensor:
        strips = torch.split(x, max(8, STRIP // x.shape[3]), dim=2)
        kept: dict[int, Tensor] = {}
        done = [self._strip(strip, kept, last=strip is strips[-1]) for strip in strips]
        return torch.cat([rows for rows in done if rows is not None], dim=2)

    def _strip(self, x: Tensor, kept: dict[int, Tensor], *, last: bool) -> Tensor | None:
        for index, layer in enumerate(self):
            if not isinstance(layer, nn.Conv2d):
                x = layer(x)
                continue
            size = layer.kernel_size[0]
            border = _border(x, size // 2)
            x = torch.cat([kept.get(index, border), x, *([border] if last else [])], dim=2)
            kept[index] = x[:, :, max(0, x.shape[2] - size + 1) :]
            if x.shape[2] < size:
                return None  # not one row can be computed before the next strip
            x = functional.conv2d(x, layer.weight, layer.bias, padding=(0, size // 2))
        return x


def _border(x: Tensor, rows: int) -> Tensor:
    """Zero rows in x's own memory format: `torch.cat` would otherwise fall back to another."""
    shape = (x.shape[0], x.shape[1], rows, x.shape[3])
    return torch.empty(
        shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last
    ).zero_()


def _stripped(module: nn.Module) -> nn.Module:
    if isinstance(module, nn.Sequential) and _can_strip(module):
        layers = list(module)
        for before, after in pairwise(layers):
            # only where the input is a convolution's own output and nobody else reads it
            if isinstance(before, nn.Conv2d) and isinstance(after, nn.ReLU):
                after.inplace = True
        return _Strips(*layers)
    for name, child in list(module.named_children()):
        setattr(module, name, _stripped(child))
    return module


def _can_strip(stack: nn.Sequential) -> bool:
    convolutions = [layer for layer in stack if isinstance(layer, nn.Conv2d)]
    others = [layer for layer in stack if not isinstance(layer, nn.Conv2d | nn.ReLU)]
    return bool(convolutions) and not others and all(map(_keeps_size, convolutions))


def _keeps_size(layer: nn.Conv2d) -> bool:
    size = layer.kernel_size[0]
    return (
        size % 2 == 1
        and layer.kernel_size == (size, size)
        and layer.padding == (size // 2, size // 2)
        and layer.padding_mode == "zeros"
        and (*layer.stride, *layer.dilation, layer.groups) == (1, 1, 1, 1, 1)
    )
