r"""PCA-KD: a photo-realistic style transfer network of 283,236 parameters, distilled from VGG19.

| paper | variable | what it is |
|---|---|---|
| \(E_b\), b = 0..3 | `encoder[b]` | VGG19's convolutions up to relu1_1, 2_1, 3_1, 4_1, with \
10, 20, 58 and 64 channels instead of 64, 128, 256 and 512 |
| \(D_b\) | `decoder[b]` | the mirror of `encoder[b]` |
| residual | `skips[b]` | what the 3x3 mean takes away from the input of `encoder[b]` |

Source: Chiu and Gurari, "PCA-based knowledge distillation towards lightweight and content-style
balanced photorealistic style transfer models", CVPR 2022; released code and weights
chiutaiyin/PCA-Knowledge-Distillation (658d4a2, MIT), its VGG backbone.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from enhancelib.models._layers import Layers
from enhancelib.models._whitening import check_pair, coloured, padded

_ENCODER = ((3, 10), (10, 10, 20), (20, 20, 58), (58, 58, 58, 58, 64))  # channels between 3x3s
_DECODER = ((13, 3), (20, 10, 10), (58, 20, 20), (64, 58, 58, 58, 58))  # 13: 10 features, 3 skip
_LEAST = 16  # pixels: two rows at level 3, or there is nothing to reflect
_MULTIPLE = 8


class PCAKD(nn.Module):
    """Give a photo the colours and light of another one, its edges kept by high-pass skips.

    Content and style are encoded to four levels. From the deepest to the finest, the running
    feature takes mean and covariance of the style's feature of that level (`coloured`, covariances
    divided by n) and is decoded once, the content's high-pass added.

    Args:
        generator: Where the initial weights are drawn; None is torch's global generator.

    Source: VGG backbone/demo.ipynb and utils/lightweight_model.py of the released code; the
    weights are loaded by `weights.load("pcakd", "pcakd_vgg_OIHW.npz")`. Its demo then passes the
    result through a colour guided filter, `filters.guided_filter(content, result, 30, 0.02**2)`.

    Departs: sides of the content that are no multiples of 8 are continued by their last row or
    column and cut again; the demo resizes instead, and returns the smaller picture.

    Example:
        >>> sum(p.numel() for p in PCAKD().parameters())
        283236
    """

    def __init__(self, *, generator: torch.Generator | None = None) -> None:
        super().__init__()
        layers = Layers(generator=generator)
        self.encoder = nn.ModuleList(_encoder(layers, widths) for widths in _ENCODER)
        self.decoder = nn.ModuleList(_decoder(layers, widths) for widths in _DECODER)

    @property
    def options(self) -> dict[str, int | str]:
        """What `models.build("pcakd", **options)` needs: nothing, there is only one.

        Returns:
            An empty dict.
        """
        return {}

    def encode(self, picture: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Features of all four levels, and what the decoder adds to them.

        Args:
            picture: (B, 3, H, W), RGB in [0, 1], sides of 16 or more.

        Returns:
            (features, skips), both from fine to deep: features of 10, 20, 58 and 64 channels at
            scales 1, 1/2, 1/4 and 1/8 (rounded down), skips of 3, 10, 20 and 58 channels.

        Raises:
            ValueError: If the shape is another one.

        Example:
            >>> features, skips = PCAKD().encode(torch.zeros(1, 3, 16, 26))
            >>> [tuple(feature.shape[1:]) for feature in features]
            [(10, 16, 26), (20, 8, 13), (58, 4, 6), (64, 2, 3)]
            >>> PCAKD().encode(torch.zeros(1, 3, 15, 26))
            Traceback (most recent call last):
            ValueError: content has shape (1, 3, 15, 26); expected (B, 3, H, W) with sides of ...
        """
        check_pair(picture, picture, least=_LEAST)
        features, skips, x = [], [], picture
        for block in self.encoder:
            skips.append(_high_pass(x))
            x = block(x)
            features.append(x)
        return features, skips

    @torch.no_grad()
    def forward(self, content: Tensor, style: Tensor) -> Tensor:
        """Restyle, without clipping and without gradients.

        Where a covariance has an eigenvalue twice, its eigenvectors have no derivative.

        Args:
            content: (B, 3, H, W), RGB in [0, 1], sides of 16 or more.
            style: (B, 3, h, w) or (1, 3, h, w), likewise.

        Returns:
            (B, 3, H, W), mostly in [0, 1].

        Raises:
            ValueError: If a shape is another one.

        Example:
            >>> PCAKD()(torch.rand(2, 3, 17, 30), torch.rand(1, 3, 40, 16)).shape
            torch.Size([2, 3, 17, 30])
            >>> PCAKD()(torch.rand(2, 3, 17, 30), torch.rand(3, 3, 40, 16))
            Traceback (most recent call last):
            ValueError: style holds 3 pictures; expected 1, or 2 as content
        """
        check_pair(content, style, least=_LEAST)
        wanted, _ = self.encode(style)
        features, skips = self.encode(padded(content, _MULTIPLE))
        x = features[-1]
        for level in reversed(range(len(skips))):
            x = self._decoded(level, coloured(x, wanted[level], divisor="n"), skips[level])
        return x[..., : content.shape[-2], : content.shape[-1]]

    def stylise(self, content: Tensor, style: Tensor) -> Tensor:
        """Restyle for looking at: clipped as in the released demo.

        Args:
            content: (B, 3, H, W), RGB in [0, 1], sides of 16 or more.
            style: (B, 3, h, w) or (1, 3, h, w), likewise.

        Returns:
            (B, 3, H, W) in [0, 1].

        Raises:
            ValueError: If a shape is another one.

        Example:
            >>> PCAKD().stylise(torch.rand(1, 3, 16, 24), torch.rand(1, 3, 40, 16)).shape
            torch.Size([1, 3, 16, 24])
            >>> PCAKD().stylise(torch.rand(3, 16, 24), torch.rand(1, 3, 40, 16))
            Traceback (most recent call last):
            ValueError: content has shape (3, 16, 24); expected (B, 3, H, W) with sides of ...
        """
        restyled: Tensor = self(content, style)
        return restyled.clamp(0, 1)

    def _decoded(self, level: int, x: Tensor, skip: Tensor) -> Tensor:
        block = self.decoder[level]
        assert isinstance(block, nn.Sequential)  # by construction
        if level == 0:
            finest: Tensor = block(torch.cat((x, skip), 1))
            return finest
        decoded: Tensor = block[-2:](block[:-2](x) + skip)
        return decoded


def _encoder(layers: Layers, widths: tuple[int, ...]) -> nn.Sequential:
    convs = _convolutions(layers, widths)
    if widths[0] == 3:  # a layer of its own for the range of RGB, as in VGG19
        return nn.Sequential(layers.drawn(nn.Conv2d, 3, 3, 1), *convs)
    return nn.Sequential(*convs[:-2], nn.MaxPool2d(2), *convs[-2:])


def _decoder(layers: Layers, widths: tuple[int, ...]) -> nn.Sequential:
    convs = _convolutions(layers, widths)
    if widths[-1] == 3:  # RGB: no activation
        return nn.Sequential(convs[0])
    up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
    return nn.Sequential(*convs[:2], up, *convs[2:])


def _convolutions(layers: Layers, widths: tuple[int, ...]) -> list[nn.Module]:
    """3x3 convolutions that continue the picture by reflection, each with its ReLU."""
    found: list[nn.Module] = []
    for incoming, outgoing in pairwise(widths):
        conv = layers.drawn(nn.Conv2d, incoming, outgoing, 3, padding=1, padding_mode="reflect")
        found += [conv, nn.ReLU()]
    return found


def _high_pass(x: Tensor) -> Tensor:
    mean = functional.avg_pool2d(functional.pad(x, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    return x - mean
