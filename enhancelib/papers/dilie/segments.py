"""Classes of a content and a style picture, so that sky is restyled after sky.

A mask is (K, H, W) in [0, 1], one plane per class, of the size of its picture; class k of the
content goes with class k of the style.

Source: Luan et al., CVPR 2017; LouieYang/deep-photo-styletransfer-tf (ae8e773).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from enhancelib import features
from enhancelib.losses.contextual import contextual

Masks = tuple[Tensor, Tensor]
"""Classes of the content and of the style."""
Places = list[tuple[float, Tensor, Tensor]]


def insist_fit(masks: Masks | None, content: Tensor, style: Tensor) -> None:
    """Refuse masks that do not belong to two pictures.

    Args:
        masks: Classes of both, or None.
        content: (1, 3, H, W).
        style: (1, 3, h, w).

    Raises:
        ValueError: If sizes or numbers of classes differ, or no class is in both pictures.

    Example:
        >>> picture = torch.ones(1, 3, 4, 5)
        >>> insist_fit((torch.ones(2, 4, 5), torch.ones(2, 4, 4)), picture, picture)
        Traceback (most recent call last):
        ValueError: the mask of the style is (2, 4, 4); expected (K, 4, 5), the size of its picture
    """
    if masks is None:
        return
    for what, mask, picture in zip(("content", "style"), masks, (content, style), strict=True):
        if mask.ndim != 3 or mask.shape[1:] != picture.shape[2:]:
            height, width = picture.shape[2:]
            raise ValueError(
                f"the mask of the {what} is {tuple(mask.shape)}; expected (K, {height}, {width}), "
                "the size of its picture"
            )
    if len(masks[0]) != len(masks[1]):
        counts = f"{len(masks[0])} classes in the content's mask, {len(masks[1])} in the style's"
        raise ValueError(f"{counts}; expected as many")
    if not any(a.max() > 0.5 and b.max() > 0.5 for a, b in zip(*masks, strict=True)):
        raise ValueError("no class of the masks is in both pictures; use the same colours in both")


def mask_maps(
    network: features.Features,
    masks: Masks | None,
    content: Tensor,
    style: Tensor,
    layers: Iterable[str],
) -> dict[str, Masks]:
    """Masks in the size of the maps of each layer, as Deep Photo Style Transfer shrinks them.

    A mask follows the network: at every convolution a 3 x 3 mean with zeros around, at every
    pooling half the size, bilinear, rounded up.

    Args:
        network: Its stages are followed.
        masks: Classes of both pictures; None means one class that is everywhere.
        content: (1, 3, H, W).
        style: (1, 3, h, w).
        layers: Which.

    Returns:
        Layer -> (K, h_l, w_l) of the content and of the style.
    """
    if masks is None:
        masks = (torch.ones_like(content[0, :1]), torch.ones_like(style[0, :1]))
        shrunk = [_shrunk(network, mask, layers, blur=False) for mask in masks]
    else:
        shrunk = [_shrunk(network, mask.to(content), layers, blur=True) for mask in masks]
    return {layer: (shrunk[0][layer], shrunk[1][layer]) for layer in layers}


def _shrunk(
    network: features.Features, mask: Tensor, layers: Iterable[str], *, blur: bool
) -> dict[str, Tensor]:
    maps, wanted, now = {}, set(layers), mask[None]
    for name in network.layers:
        if name.startswith("pool"):
            size = [-(-side // 2) for side in now.shape[2:]]
            now = F.interpolate(now, size=size, mode="bilinear", align_corners=False)
        elif name.startswith("conv") and blur:
            now = F.avg_pool2d(now, 3, 1, 1)
        if name in wanted:
            maps[name] = now[0]
    return maps


COLOURS: Mapping[str, tuple[float, float, float]] = {
    "blue": (0, 0, 1), "green": (0, 1, 0), "black": (0, 0, 0), "white": (1, 1, 1),
    "red": (1, 0, 0), "yellow": (1, 1, 0), "grey": (0.5, 0.5, 0.5), "light blue": (0, 1, 1),
    "purple": (1, 0, 1),
}  # fmt: skip
"""Classes of the segmentations that come with Deep Photo Style Transfer."""


def colour_masks(segmentation: Tensor) -> Tensor:
    """The nine classes of a segmentation painted in flat colours.

    Args:
        segmentation: (3, H, W) in [0, 1], such as `images.read` gives.

    Returns:
        (9, H, W), 1 where all channels are within 0.1 of the class' colour in COLOURS.

    Raises:
        ValueError: If it is no RGB picture.

    Example:
        >>> colour_masks(torch.ones(3, 2, 2)).sum((1, 2)).tolist()
        [0.0, 0.0, 0.0, 4.0, 0.0, 0.0, 0.0, 0.0, 0.0]
        >>> colour_masks(torch.ones(1, 2, 2))
        Traceback (most recent call last):
        ValueError: segmentation has shape (1, 2, 2); expected (3, H, W)
    """
    if segmentation.ndim != 3 or len(segmentation) != 3:
        raise ValueError(f"segmentation has shape {tuple(segmentation.shape)}; expected (3, H, W)")
    palette = torch.tensor(list(COLOURS.values()), device=segmentation.device)[:, :, None, None]
    return ((segmentation - palette).abs() < 0.1).all(1).float()


def places(masks: Masks, generator: torch.Generator, most: int) -> Places:
    """As many positions of one layer's maps of content and style, class by class.

    Args:
        masks: (K, h, w) and (K, h', w') of the layer; above a half counts.
        generator: Draws the positions.
        most: At most so many of a class.

    Returns:
        Per class that both have: its share of the content, positions there, positions of the style.
    """
    found: Places = []
    for here, there in zip(*masks, strict=True):
        inside = [(mask.flatten() > 0.5).nonzero()[:, 0] for mask in (here, there)]
        count = min(len(inside[0]), len(inside[1]), most)
        if count:  # a class that one of the pictures lacks has nothing to be matched with
            a, b = (some(places, count, generator) for places in inside)
            found.append((len(inside[0]) / here.numel(), a, b))
    return found


def some(places: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """All places, or `count` of them at random where there are more.

    Args:
        places: (N,).
        count: At most so many.
        generator: Draws them, on the CPU.

    Returns:
        (N,) or (count,), without repetition.
    """
    if len(places) <= count:
        return places
    kept = torch.randperm(len(places), generator=generator)[:count]
    return places[kept.to(places.device)]


def contextual_style(X: Tensor, Y: Tensor, drawn: Places) -> Tensor:
    """The contextual loss of one layer: -log CX of every class, by the classes' share.

    Args:
        X: Maps of the output, (1, C, h, w).
        Y: Maps of the style, (1, C, h', w').
        drawn: From `places`; the same positions twice make the contextual content loss.

    Returns:
        A scalar, at least 0.
    """
    total = X.new_zeros(())
    for share, a, b in drawn:
        total = total + share * contextual(_read(X, a), _read(Y, b), positions=None)
    return total


def _read(maps: Tensor, at: Tensor) -> Tensor:
    """(1, C, n, 1): the maps at some positions.

    By rows of channels-last maps, so that the gradient is channels-last too: given one in another
    layout, the convolutions' backward pass takes six times as long on a CPU.
    """
    rows = maps.permute(0, 2, 3, 1).flatten(1, 2)
    return rows.index_select(1, at).transpose(1, 2)[..., None]
