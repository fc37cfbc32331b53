"""Your own photo through a DnCNN: any size, tile by tile, in bounded memory."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from enhancelib import images, models, runtime, weights
from enhancelib.models.dncnn import DnCNN
from enhancelib.papers.dncnn import colour

DEFAULT = colour.FILE
"""The network in data/weights that is used where no other is named."""
TILE = 512  # pixels: 64 feature maps of a tile take 80 MB, whatever the size of the picture


def enhance(image: Tensor, file: Path | None = None) -> Tensor:
    """Restore a photo with a blind network, or with one trained for the photo's noise level.

    A photo with three equal channels is grey. A network for grey pictures restores the channels of
    a colour photo one by one. A network for colour pictures knows noise that differs from channel
    to channel, and takes noise that all three share for texture; a grey photo y therefore goes in
    as y + e_k, where e_1 + e_2 + e_3 = 0 and cov(e_j, e_k) = -s^2 (s: the photo's noise level,
    estimated), so that the channels' noises are uncorrelated and their mean is still y.

    Args:
        image: (3, H, W) or (1, H, W) in [0, 1], of any size.
        file: Any file that `weights.load("dncnn", ...)` reads; None means `DEFAULT` in
            data/weights.

    Returns:
        (3, H, W), or (1, H, W) for a grey photo, in [0, 1], on the CPU.

    Raises:
        WeightsError: If the file is absent or holds no DnCNN, or one that a photo alone cannot be
            given to: it has other than 1 or 3 channels, or wants to be told the noise level.
        ImageError: If the picture has another shape.

    Example:
        >>> enhance(torch.zeros(3, 8, 8), Path("/nowhere/model.pth"))
        Traceback (most recent call last):
        enhancelib.weights.formats.WeightsError: /nowhere/model.pth: no such file
        >>> enhance(torch.zeros(8, 8))
        Traceback (most recent call last):
        enhancelib.images.ImageError: picture has shape (8, 8); expected (3, H, W) or (1, H, W)

    Departs: the paper has one network for grey and one for colour; what each does with the other
    kind of picture is ours. Noise of sigma 32 and more in a grey photo is, on three channels,
    beyond what a network blind up to 55 has learnt, and is left in part.
    """
    if image.dim() != 3 or image.shape[0] not in (1, 3) or not image.numel():
        shape = tuple(image.shape)
        raise images.ImageError(f"picture has shape {shape}; expected (3, H, W) or (1, H, W)")
    network, tiles = _load(file), _tiles(image)
    grey = image.shape[0] == 1 or all(torch.equal(image[0], channel) for channel in image[1:])
    given = _spread(image[:1]) if grey and network.c == 3 else image[:1] if grey else image
    with tqdm(total=tiles, unit="tile", disable=None if tiles > 1 else True) as bar:
        restorer = _Restorer(network, 1 if grey else 3, bar)
        return images.tiled(restorer, given, tile=TILE)


def _tiles(image: Tensor) -> int:
    height, width = image.shape[-2:]
    return math.ceil(height / TILE) * math.ceil(width / TILE)


def _load(file: Path | None) -> DnCNN:
    path = file or runtime.data("weights") / DEFAULT
    if file is None and not path.is_file():
        raise weights.WeightsError(
            f"{path} is not there; name another network with --weights FILE, or train this one "
            "(hours) with `python -m enhancelib.training enhancelib.papers.dncnn.colour:train`"
        )
    network = weights.load("dncnn", path)
    assert isinstance(network, DnCNN)  # what MODELS builds under this name
    if network.noise_map:
        raise weights.WeightsError(
            f"{path}: this network wants to be told the noise level, which a photo does not tell; "
            "use a blind one"
        )
    if network.c not in (1, 3):
        raise weights.WeightsError(
            f"{path}: this network restores pictures of {network.c} channels; a photo has 1 or 3"
        )
    return network


def _spread(grey: Tensor) -> Tensor:
    """Three channels with mean `grey` (1, H, W), whose noises are uncorrelated."""
    generator = runtime.generator(0, "enhance")
    noise = torch.randn(3, *grey.shape[1:], generator=generator)
    noise -= noise.mean(0, keepdim=True)  # variance 2/3, covariance -1/3
    return noise.mul_(math.sqrt(3) * _noise_level(grey[0])).add_(grey)


def _noise_level(channel: Tensor) -> float:
    """Median of the finest diagonal Haar details over 0.6745 (Donoho and Johnstone, 1994)."""
    height, width = (n // 2 * 2 for n in channel.shape)
    if not height or not width:
        return 0.0
    a, b = channel[:height:2, :width:2], channel[:height:2, 1:width:2]
    c, d = channel[1:height:2, :width:2], channel[1:height:2, 1:width:2]
    return float(((a - b - c + d) / 2).abs().median()) / 0.6745


class _Restorer(nn.Module):
    """A network that takes grey and colour alike, clips each tile and counts it."""

    def __init__(self, network: DnCNN, channels: int, bar: tqdm[Any]) -> None:
        super().__init__()
        self.c, self.receptive_field = network.c, network.receptive_field
        self.network = models.fast(network).to(runtime.setup().device)
        self.channels, self.bar = channels, bar

    def forward(self, part: Tensor) -> Tensor:
        if part.shape[1] != self.c:  # colour into a grey network: the channels as a batch
            restored = self.network(part.transpose(0, 1)).transpose(0, 1)
        else:
            restored = self.network(part)
        if self.channels < self.c:
            restored = restored.mean(1, keepdim=True)
        self.bar.update()
        return images.clip(restored)
