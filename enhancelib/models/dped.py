r"""DPED: twelve convolutions that make a phone photo look like a camera's, and their judge.

| official code | variable | what it is |
|---|---|---|
| `W1` | `head` | 9x9 convolution + ReLU |
| `W2` ... | `blocks` | (3x3, norm, ReLU, 3x3, norm, ReLU) and the sum with the block's input |
| the two before the last `W` | `tail` | 3x3 convolutions + ReLU, without norm |
| the last `W` | `last` | 9x9 convolution, then `tanh(x) * 0.58 + 0.5` |

The challenge that followed counts all convolutions: `resnet_12_64` is 4 blocks of 64 maps,
`resnet_8_32` 2 of 32, `resnet_6_16` 1 of 16; ResNet-20 and ResNet-32 are 8 and 14 blocks. SRCNN is
the same challenge's small baseline.

Source: Ignatov, Kobyshev, Timofte, Vanhoey, Van Gool, "DSLR-Quality Photos on Mobile Devices with
Deep Convolutional Networks", ICCV 2017 (arXiv 1704.02470); released code aiff22/DPED (ebb0131) and
aiff22/ai-challenge (6dc52ac).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from enhancelib.models._layers import Range, check_picture
from enhancelib.models._official import EPSILON, convolution, initialise, linear, strided

Norm = Literal["instance", "batch", "none"]

SLOPE = 0.2  # of the discriminator's LeakyReLU
_SRCNN_SPREAD = 1e-3  # its own code draws uncut normals, and biases start at 0
_LUMA = (0.2989, 0.5870, 0.1140)  # TensorFlow's rgb_to_grayscale, whose sum is 0.9999
_JUDGE = ((48, 11, 4), (128, 5, 2), (192, 3, 1), (192, 3, 1), (128, 3, 2))  # maps, kernel, stride
_SMALLEST = 17  # below it the last convolution leaves one value, which no norm can centre


class DPED(nn.Module):
    r"""The generator F: phone photo -> camera photo, at any resolution.

    A block is `x + ReLU(IN(W'' * ReLU(IN(W' * x))))`: the sum comes after the second ReLU. The
    output is `0.58 tanh(x) + 0.5`, so it can leave [0, 1] by 0.08.

    Args:
        blocks: Residual blocks, 1 or more; 4 in the paper. The network has 2 blocks + 4
            convolutions.
        width: Feature maps of every hidden layer, 1 or more; 64 in the paper.
        norm: "instance" (released code: affine, epsilon 1e-3, statistics of the picture at hand),
            "batch" (what the paper's text says), or "none".
        generator: Where the initial weights are drawn; None is torch's global generator.

    Raises:
        ValueError: If an option is outside the range given above.

    Source: aiff22/DPED, models.py. Initial weights are its own: normal of standard deviation 0.01
    cut at twice that, biases 0.01; no other recipe is known to train this network as published.

    Departs: the paper writes batch normalisation; its code normalises each picture, and so do we.

    Example:
        >>> sum(p.numel() for p in DPED().parameters())
        401475
        >>> DPED(norm="group")
        Traceback (most recent call last):
        ValueError: norm is 'group'; expected 'instance', 'batch' or 'none'
    """

    def __init__(
        self,
        blocks: int = 4,
        width: int = 64,
        *,
        norm: Norm = "instance",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        _check_at_least("blocks", blocks, 1)
        _check_at_least("width", width, 1)
        if norm not in ("instance", "batch", "none"):
            raise ValueError(f"norm is {norm!r}; expected 'instance', 'batch' or 'none'")
        self.width = width
        self.head = nn.Sequential(convolution(3, width, 9), nn.ReLU())
        self.blocks = nn.ModuleList(
            nn.Sequential(*_normalised(width, norm), *_normalised(width, norm))
            for _ in range(blocks)
        )
        self.tail = nn.Sequential(
            convolution(width, width, 3), nn.ReLU(), convolution(width, width, 3), nn.ReLU()
        )
        self.last = convolution(width, 3, 9)
        self.range = Range()
        initialise(self, generator)

    @property
    def norm(self) -> Norm:
        """What follows the convolutions of the blocks now; `models.fold` makes "batch" "none".

        Returns:
            "instance", "batch" or "none".
        """
        if any(isinstance(layer, nn.InstanceNorm2d) for layer in self.modules()):
            return "instance"
        batch = any(isinstance(layer, nn.BatchNorm2d) for layer in self.modules())
        return "batch" if batch else "none"

    @property
    def options(self) -> dict[str, int | str]:
        """What `models.build("dped", **options)` needs to make a network of these shapes.

        Returns:
            blocks, width and norm, plain JSON values.
        """
        return {"blocks": len(self.blocks), "width": self.width, "norm": self.norm}

    def forward(self, degraded: Tensor) -> Tensor:
        """Enhance phone photos.

        Args:
            degraded: (B, 3, H, W), RGB in [0, 1], any size but 1 x 1, which an instance norm would
                leave nothing of.

        Returns:
            (B, 3, H, W) in [-0.08, 1.08]; clip it for files and for metrics that ask for it.

        Raises:
            ValueError: If the shape is another one.

        Example:
            >>> DPED(blocks=1, width=4)(torch.zeros(2, 3, 5, 7)).shape
            torch.Size([2, 3, 5, 7])
            >>> DPED(blocks=1, width=4)(torch.zeros(2, 1, 5, 7))
            Traceback (most recent call last):
            ValueError: degraded has shape (2, 1, 5, 7); expected (B, 3, H, W)
        """
        check_picture("degraded", degraded, above=1 if self.norm == "instance" else 0)
        x = self.head(degraded)
        for block in self.blocks:
            x = block(x) + x
        restored: Tensor = self.range(self.last(self.tail(x)))
        return restored


class DPEDDiscriminator(nn.Module):
    """The judge of texture: does the luma of this patch come from the camera or from F?

    Five convolutions, each followed by LeakyReLU(0.2) and, but for the first, by an instance
    normalisation; then 1024 hidden values and two logits. Padding is TensorFlow's SAME, which at
    stride 4 and a kernel of 11 puts 3 rows before and 4 after.

    Args:
        size: Side of the square patches, at least 17; 100 in the paper. The first linear layer
            depends on it.
        generator: Where the initial weights are drawn; None is torch's global generator.

    Raises:
        ValueError: If the size is too small.

    Source: aiff22/DPED, models.py. Departs: its softmax is left to the loss, and its flattening
    runs over (H, W, C), ours over (C, H, W).

    Example:
        >>> sum(p.numel() for p in DPEDDiscriminator().parameters())
        7361122
        >>> DPEDDiscriminator(16)
        Traceback (most recent call last):
        ValueError: size is 16; expected an integer of at least 17
    """

    def __init__(self, size: int = 100, *, generator: torch.Generator | None = None) -> None:
        super().__init__()
        _check_at_least("size", size, _SMALLEST)
        self.size = size
        self.convs, self.norms = nn.ModuleList(), nn.ModuleList()
        side, incoming = size, 1
        for maps, kernel, stride in _JUDGE:
            self.convs.append(strided(incoming, maps, kernel, stride))
            side, incoming = -(-side // stride), maps
        for maps, _, _ in _JUDGE[1:]:
            self.norms.append(nn.InstanceNorm2d(maps, eps=EPSILON, affine=True))
        self.hidden = linear(incoming * side * side, 1024)
        self.logits = linear(1024, 2)
        initialise(self, generator)

    @property
    def options(self) -> dict[str, int]:
        """What `models.build("dped.discriminator", **options)` needs to make it again.

        Returns:
            size, a plain JSON value.
        """
        return {"size": self.size}

    def forward(self, image: Tensor) -> Tensor:
        """Judge patches.

        Args:
            image: (B, 3, size, size), RGB in [0, 1]; a generator's output may leave it.

        Returns:
            Logits, (B, 2): column 0 speaks for the camera, column 1 for the generator.

        Raises:
            ValueError: If the shape is another one.

        Example:
            >>> DPEDDiscriminator(32)(torch.rand(2, 3, 32, 32)).shape
            torch.Size([2, 2])
            >>> DPEDDiscriminator(32)(torch.rand(2, 3, 40, 40))
            Traceback (most recent call last):
            ValueError: image has shape (2, 3, 40, 40); expected (B, 3, 32, 32)
        """
        if image.ndim != 4 or tuple(image.shape[1:]) != (3, self.size, self.size):
            raise ValueError(
                f"image has shape {tuple(image.shape)}; expected (B, 3, {self.size}, {self.size})"
            )
        x = luma(image)
        for depth, conv in enumerate(self.convs):
            x = functional.leaky_relu(conv(_same(x, conv)), SLOPE)
            x = self.norms[depth - 1](x) if depth else x
        x = functional.leaky_relu(self.hidden(x.flatten(1)), SLOPE)
        logits: Tensor = self.logits(x)
        return logits


class SRCNN(nn.Module):
    """The small baseline of the smartphone challenge: 9x9, 5x5, 5x5, and the same output range.

    64 and 32 feature maps with ReLU; the three output channels share one scalar bias, as in the
    released network.

    Args:
        generator: Where the initial weights are drawn; None is torch's global generator.

    Source: aiff22/ai-challenge, models_pretrained/dped_srcnn; Dong, Loy, He, Tang, "Image
    Super-Resolution Using Deep Convolutional Networks", for the layers.

    Example:
        >>> sum(p.numel() for p in SRCNN().parameters())
        69249
    """

    def __init__(self, *, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            convolution(3, 64, 9),
            nn.ReLU(),
            convolution(64, 32, 5),
            nn.ReLU(),
            convolution(32, 3, 5, bias=False),
        )
        self.range = Range()
        self.bias = nn.Parameter(torch.zeros(1))
        for layer in self.layers:
            if isinstance(layer, nn.Conv2d):
                nn.init.normal_(layer.weight, std=_SRCNN_SPREAD, generator=generator)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    @property
    def options(self) -> dict[str, int | str]:
        """What `models.build("srcnn", **options)` needs: nothing, there is only one.

        Returns:
            An empty dict.
        """
        return {}

    def forward(self, degraded: Tensor) -> Tensor:
        """Enhance phone photos.

        Args:
            degraded: (B, 3, H, W), RGB in [0, 1], any size.

        Returns:
            (B, 3, H, W) in [-0.08, 1.08].

        Raises:
            ValueError: If the shape is another one.

        Example:
            >>> SRCNN()(torch.zeros(1, 3, 6, 9)).shape
            torch.Size([1, 3, 6, 9])
            >>> SRCNN()(torch.zeros(3, 6, 9))
            Traceback (most recent call last):
            ValueError: degraded has shape (3, 6, 9); expected (B, 3, H, W)
        """
        check_picture("degraded", degraded)
        restored: Tensor = self.range(self.layers(degraded) + self.bias)
        return restored


def luma(image: Tensor) -> Tensor:
    """The brightness that the discriminator sees, `0.2989 R + 0.5870 G + 0.1140 B`.

    Args:
        image: (B, 3, H, W), RGB.

    Returns:
        (B, 1, H, W).

    Example:
        >>> luma(torch.ones(1, 3, 1, 1)).item()
        0.9999000430107117
    """
    red, green, blue = image.unbind(1)
    return (_LUMA[0] * red + _LUMA[1] * green + _LUMA[2] * blue)[:, None]


def _normalised(width: int, norm: Norm) -> list[nn.Module]:
    """Next to each other in one nn.Sequential, so that `models.fold` finds batch norms."""
    layers: list[nn.Module] = [convolution(width, width, 3)]
    if norm == "instance":
        layers.append(nn.InstanceNorm2d(width, eps=EPSILON, affine=True))
    elif norm == "batch":
        layers.append(nn.BatchNorm2d(width, eps=EPSILON))
    return [*layers, nn.ReLU()]


def _same(x: Tensor, conv: nn.Module) -> Tensor:
    """TensorFlow's SAME: as many outputs as size / stride, rounded up; the odd row goes after."""
    assert isinstance(conv, nn.Conv2d)  # by construction
    sides: list[int] = []
    for size, kernel, stride in zip(x.shape[2:], conv.kernel_size, conv.stride, strict=True):
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        sides = [total // 2, total - total // 2, *sides]
    return functional.pad(x, sides)


def _check_at_least(name: str, value: int, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name} is {value!r}; expected an integer of at least {least}")
