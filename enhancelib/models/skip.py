r"""The encoder-decoder whose own shape is the image prior (DIP, Double-DIP, DILIE): one builder.

Scale i = 0 is the finest; every scale halves the map and brings it back:

| step | variable | layers |
|---|---|---|
| skip branch, if it has channels | `skip` | conv 1x1, BN, LeakyReLU |
| deeper branch, down | `down` | conv 3x3 stride 2, BN, LeakyReLU, conv 3x3, BN, LeakyReLU |
| the next scale | `inner` | none at the coarsest |
| deeper branch, back | | up-sampling by 2, cropped around its centre to the size of the skip |
| both together | `norm`, `up` | BN, then conv 3x3, BN, LeakyReLU, conv 1x1, BN, LeakyReLU |

A 1x1 convolution and a sigmoid end it. Padding reflects; LeakyReLU has slope 0.2. Batch
normalisation uses the statistics of the picture at hand, in `eval` too: the official code never
leaves training mode.

Source: Ulyanov, Vedaldi, Lempitsky, "Deep Image Prior", CVPR 2018 (arXiv 1711.10925; code
DmitryUlyanov/deep-image-prior, 042e0d4); Gandelsman, Shocher, Irani, "Double-DIP", CVPR 2019 (code
yossigandelsman/DoubleDIP, 4f12629).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from enhancelib.models._layers import Layers, check_choice

SLOPE = 0.2
_Norm = functools.partial(nn.BatchNorm2d, track_running_stats=False)


class Skip(nn.Module):
    r"""The generator `f_theta` of an untrained prior: a fixed input z -> a picture in (0, 1).

    Args:
        inputs: Channels of z; 32 in DIP's denoising, 8 in Double-DIP.
        outputs: Channels of the picture; 3, or 1 for a mask.
        down: Widths of the way down, finest scale first; their number is the number of scales.
        up: Widths of the way up, as many.
        skip: Widths of the skip branches, as many; 0 leaves a branch out.
        down_kernel: Odd side of the kernels on the way down.
        up_kernel: Odd side of the kernels on the way up.
        skip_kernel: Odd side of the kernels of the skip branches.
        upsampling: "bilinear" or "nearest".
        align_corners: Of the bilinear up-sampling; False in DIP, True in Double-DIP.
        downsampling: "stride" (the first convolution of a scale steps by 2), or "avg" or "max" (it
            does not, and pooling follows it).
        need1x1: Whether a 1x1 convolution ends each scale.
        generator: Where the initial weights are drawn; None is torch's global generator.

    Raises:
        ValueError: If an option is outside the range given above.

    Departs: at sizes that do not halve evenly, pooling keeps the last row and column, and networks
    without skip branches are cropped too, so that every output has the size of its input. The
    notebooks crop their pictures to multiples of 32, where all is the same.

    Example:
        >>> sum(p.numel() for p in Skip().parameters())
        2217831
        >>> Skip(down=(8, 16), up=(8, 16), skip=(0, 4)).eval()(torch.rand(1, 32, 19, 30)).shape
        torch.Size([1, 3, 19, 30])
        >>> Skip(skip=(4, 4))
        Traceback (most recent call last):
        ValueError: down, up and skip have 5, 5 and 2 widths; expected as many of each, 1 or more
    """

    def __init__(
        self,
        inputs: int = 32,
        outputs: int = 3,
        down: Sequence[int] = (128,) * 5,
        up: Sequence[int] = (128,) * 5,
        skip: Sequence[int] = (4,) * 5,
        *,
        down_kernel: int = 3,
        up_kernel: int = 3,
        skip_kernel: int = 1,
        upsampling: Literal["bilinear", "nearest"] = "bilinear",
        align_corners: bool = False,
        downsampling: Literal["stride", "avg", "max"] = "stride",
        need1x1: bool = True,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        _check_widths(inputs, outputs, (down, up, skip))
        _check_kernels(down=down_kernel, up=up_kernel, skip=skip_kernel)
        check_choice("upsampling", upsampling, ("bilinear", "nearest"))
        check_choice("downsampling", downsampling, ("stride", "avg", "max"))
        self.options: dict[str, Any] = {
            **{"inputs": inputs, "outputs": outputs, "need1x1": need1x1},
            **{"down": tuple(down), "up": tuple(up), "skip": tuple(skip)},
            **{"down_kernel": down_kernel, "up_kernel": up_kernel, "skip_kernel": skip_kernel},
            **{"upsampling": upsampling, "align_corners": align_corners},
            "downsampling": downsampling,
        }
        self.scales = _Scale(self.options, 0, inputs, Layers(generator=generator))
        self.head = Layers(generator=generator).conv(up[0], outputs, 1)

    @property
    def least(self) -> int:
        """The smallest side of a picture: below it the coarsest map has too little to reflect.

        Returns:
            Pixels; 33 for five scales and 3x3 kernels.
        """
        down, up, skip = (self.options[f"{name}_kernel"] // 2 for name in ("down", "up", "skip"))
        return int(2 ** (len(self.options["down"]) - 1) * max(2 * down, up, skip, 2) + 1)

    def forward(self, z: Tensor) -> Tensor:
        """Generate the picture.

        Args:
            z: (B, inputs, H, W), the network's fixed input, with or without noise of the step.

        Returns:
            (B, outputs, H, W) in (0, 1).

        Raises:
            ValueError: If the shape is another one, or a side is below `least`.

        Example:
            >>> network = Skip(2, down=(4,), up=(4,), skip=(0,))
            >>> network(meshgrid_input(5, 6)).shape
            torch.Size([1, 3, 5, 6])
            >>> network(torch.zeros(1, 2, 2, 6))
            Traceback (most recent call last):
            ValueError: z has shape (1, 2, 2, 6); expected (B, 2, H, W) with sides of at least 3
        """
        inputs = self.options["inputs"]
        if z.ndim != 4 or z.shape[1] != inputs or not len(z) or min(z.shape[2:]) < self.least:
            raise ValueError(
                f"z has shape {tuple(z.shape)}; expected (B, {inputs}, H, W) with sides of at "
                f"least {self.least}"
            )
        return torch.sigmoid_(self.head(self.scales(z)))


class _Scale(nn.Module):
    """One scale with all that lie below it; submodules stand in the official code's order."""

    def __init__(self, options: Mapping[str, Any], depth: int, inputs: int, layers: Layers) -> None:
        super().__init__()
        down, up, skip = (options[name][depth] for name in ("down", "up", "skip"))
        last = depth == len(options["down"]) - 1
        self.skip = _block(layers, inputs, skip, options["skip_kernel"]) if skip else None
        pool, size = options["downsampling"], options["down_kernel"]
        self.down = nn.Sequential(
            *_block(layers, inputs, down, size, stride=2 if pool == "stride" else 1, pool=pool),
            *_block(layers, down, down, size),
        )
        self.inner = None if last else _Scale(options, depth + 1, down, layers)
        joined = skip + (down if last else options["up"][depth + 1])
        self.norm = _Norm(joined)
        self.up = nn.Sequential(
            *_block(layers, joined, up, options["up_kernel"]),
            *(_block(layers, up, up, 1) if options["need1x1"] else ()),
        )
        corners = options["align_corners"] if options["upsampling"] == "bilinear" else None
        self.enlarge = {"mode": options["upsampling"], "align_corners": corners}

    def forward(self, x: Tensor) -> Tensor:
        deeper = self.down(x)
        if self.inner is not None:
            deeper = self.inner(deeper)
        deeper = _centre(functional.interpolate(deeper, scale_factor=2, **self.enlarge), x)
        if self.skip is not None:
            if deeper.requires_grad:
                deeper.register_hook(_dense(deeper))  # type: ignore[no-untyped-call]
            deeper = torch.cat([self.skip(x), deeper], 1)
        y: Tensor = self.up(self.norm(deeper))
        return y


def _block(
    layers: Layers, inputs: int, outputs: int, size: int, *, stride: int = 1, pool: str = "stride"
) -> nn.Sequential:
    conv = layers.drawn(nn.Conv2d, inputs, outputs, size, stride=stride)
    pad = [nn.ReflectionPad2d(size // 2)] if size > 1 else []
    return nn.Sequential(
        *(*pad, conv, *_POOLS[pool](), _Norm(outputs)), nn.LeakyReLU(SLOPE, inplace=True)
    )


_POOLS: Mapping[str, Callable[[], Sequence[nn.Module]]] = {
    "stride": lambda: (),
    "avg": lambda: (nn.AvgPool2d(2, ceil_mode=True),),
    "max": lambda: (nn.MaxPool2d(2, ceil_mode=True),),
}


def _centre(x: Tensor, like: Tensor) -> Tensor:
    """The middle of x in the size of `like`; of an odd row too many, the last one goes."""
    size = like.shape[2:]
    if x.shape[2:] == size:  # a slice of everything would cost two copies on the way back
        return x
    top, left = ((large - small) // 2 for large, small in zip(x.shape[2:], size, strict=True))
    return x[..., top : top + size[0], left : left + size[1]]


def _dense(x: Tensor) -> Callable[[Tensor], Tensor]:
    """Closes the gaps in the gradient of one part of a concatenation: up-sampling is slow in it."""
    last = x.is_contiguous(memory_format=torch.channels_last)
    layout = torch.channels_last if last else torch.contiguous_format
    return lambda gradient: gradient.contiguous(memory_format=layout)


def _check_widths(inputs: int, outputs: int, widths: Sequence[Sequence[int]]) -> None:
    down, up, skip = widths
    if not 0 < len(down) == len(up) == len(skip):
        raise ValueError(
            f"down, up and skip have {len(down)}, {len(up)} and {len(skip)} widths; "
            "expected as many of each, 1 or more"
        )
    if min(inputs, outputs, *down, *up, *(width + 1 for width in skip)) < 1:
        raise ValueError(
            f"inputs is {inputs}, outputs {outputs}, down {tuple(down)}, up {tuple(up)}, skip "
            f"{tuple(skip)}; expected 1 or more, and 0 or more for skip"
        )


def _check_kernels(**sizes: int) -> None:
    if wrong := [name for name, size in sizes.items() if size < 1 or size % 2 == 0]:
        raise ValueError(f"{wrong[0]}_kernel is {sizes[wrong[0]]}; expected an odd number")


def noise_input(
    channels: int,
    height: int,
    width: int,
    generator: torch.Generator,
    *,
    distribution: Literal["uniform", "gaussian"] = "uniform",
    scale: float = 0.1,
    centred: bool = False,
) -> Tensor:
    """The random input z: uniform in [0, 1) or standard normal, times `scale`.

    Args:
        channels: Of z.
        height: Of the picture.
        width: Of the picture.
        generator: One on the CPU.
        distribution: "uniform" (all official settings) or "gaussian".
        scale: Factor; 0.1 in the official settings.
        centred: Uniform in [-1/2, 1/2) instead, as Double-DIP; changes nothing for "gaussian".

    Returns:
        (1, channels, height, width).

    Raises:
        ValueError: If the distribution is another word.

    Example:
        >>> z = noise_input(8, 4, 5, torch.Generator().manual_seed(0), centred=True)
        >>> z.shape, bool(z.abs().max() <= 0.05)
        (torch.Size([1, 8, 4, 5]), True)
        >>> noise_input(8, 4, 5, torch.Generator(), distribution="u")
        Traceback (most recent call last):
        ValueError: distribution is 'u'; expected one of 'uniform', 'gaussian'
    """
    check_choice("distribution", distribution, ("uniform", "gaussian"))
    shape = (1, channels, height, width)
    if distribution == "gaussian":
        return torch.randn(shape, generator=generator) * scale
    return (torch.rand(shape, generator=generator) - (0.5 if centred else 0.0)) * scale


def meshgrid_input(height: int, width: int, repeat: int = 1) -> Tensor:
    """The smooth input z: ramps from 0 to 1, along x in even channels and along y in odd ones.

    Args:
        height: Of the picture, at least 2.
        width: Of the picture, at least 2.
        repeat: Times that both ramps occur; 1 in DIP's inpainting, 4 for Double-DIP's airlight.

    Returns:
        (1, 2 repeat, height, width).

    Raises:
        ValueError: If a side is below 2, or repeat below 1.

    Example:
        >>> meshgrid_input(2, 3).tolist()
        [[[[0.0, 0.5, 1.0], [0.0, 0.5, 1.0]], [[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]]]]
        >>> meshgrid_input(1, 3)
        Traceback (most recent call last):
        ValueError: height is 1, width 3, repeat 1; expected sides of 2 or more, repeat 1 or more
    """
    if min(height, width) < 2 or repeat < 1:
        raise ValueError(
            f"height is {height}, width {width}, repeat {repeat}; "
            "expected sides of 2 or more, repeat 1 or more"
        )
    x = torch.linspace(0, 1, width).expand(height, width)
    y = torch.linspace(0, 1, height)[:, None].expand(height, width)
    return torch.stack([x, y])[None].repeat(1, repeat, 1, 1)


@dataclass(frozen=True)
class Setting:
    """One way in which the official code uses the network.

    Args:
        network: Options of `Skip`.
        parameters: Their number.
        input: "noise" or "meshgrid".
        learning_rate: Of Adam.
        steps: Of Adam.
        jitter: Standard deviation of the Gaussian noise added to z at every step.
        transform: What turns the picture into what is measured: "identity", "mask" (missing
            pixels), "lanczos2" (down-sampling), or "decomposition" (a layer of t J + (1 - t) A).
        scale: Factor of "lanczos2".
        average: Decay of the exponential average of the outputs; 0.0 where there is none.
        centred: Of `noise_input`.

    """

    network: Mapping[str, Any]
    parameters: int
    input: Literal["noise", "meshgrid"] = "noise"
    learning_rate: float = 0.01
    steps: int = 3000
    jitter: float = 0.0
    transform: Literal["identity", "mask", "lanczos2", "decomposition"] = "identity"
    scale: int = 1
    average: float = 0.0
    centred: bool = False

    def build(self, generator: torch.Generator | None = None) -> Skip:
        """Make a fresh network.

        Args:
            generator: Where its weights are drawn.

        Returns:
            The network.
        """
        return Skip(**self.network, generator=generator)

    def z(self, height: int, width: int, generator: torch.Generator) -> Tensor:
        """Make the network's input.

        Args:
            height: Of the picture.
            width: Of the picture.
            generator: Draws noise.

        Returns:
            (1, inputs, height, width).
        """
        channels = self.network.get("inputs", 32)
        if self.input == "meshgrid":
            return meshgrid_input(height, width, channels // 2)
        return noise_input(channels, height, width, generator, centred=self.centred)


_STEEP, _WIDE = (8, 16, 32, 64, 128), (16, 32, 64, 128, 128)
_SNAIL = {"inputs": 3, "down": _STEEP, "up": _STEEP, "skip": (0, 0, 0, 4, 4)}
_KATE = {"down": _WIDE, "up": _WIDE, "skip": (0,) * 5, "downsampling": "avg"}
_VASE = {"inputs": 2, "skip": (0,) * 5, "upsampling": "nearest"}
_TEXT = {"skip": (128,) * 5, "upsampling": "nearest"}
_LIBRARY = {
    **{"inputs": 1, "down": (*_WIDE, 128), "up": (*_WIDE, 128), "skip": (0,) * 6},
    **{"down_kernel": 5, "upsampling": "nearest", "need1x1": False},
}
_DOUBLE = {**_SNAIL, "inputs": 8, "align_corners": True}
_LAYER: dict[str, Any] = {"learning_rate": 1e-3, "steps": 4000, "transform": "decomposition"}
_NARROW = {"down": (32,) * 5, "up": (32,) * 5}
_AVERAGED: dict[str, Any] = {"jitter": 1 / 30, "average": 0.99}

SETTINGS: Mapping[str, Setting] = MappingProxyType(
    {
        "denoise": Setting({}, 2_217_831, **_AVERAGED),
        "jpeg": Setting(_SNAIL, 572_827, steps=2400, **_AVERAGED),
        "restore_kate": Setting(_KATE, 1_027_379, "noise", 0.01, 1000, 0.0, "mask"),
        "restore_barbara": Setting({}, 2_217_831, "noise", 0.001, 11000, 0.03, "mask"),
        "super4": Setting({}, 2_217_831, "noise", 0.01, 2000, 0.03, "lanczos2", 4),
        "super8": Setting({}, 2_217_831, "noise", 0.01, 4000, 0.05, "lanczos2", 8),
        "inpaint_vase": Setting(_VASE, 2_157_955, "meshgrid", 0.01, 5001, 0.03, "mask"),
        "inpaint_kate": Setting(_TEXT, 3_002_627, "noise", 0.01, 6001, 0.03, "mask"),
        "inpaint_library": Setting(_LIBRARY, 2_996_467, "noise", 0.01, 3001, 0.0, "mask"),
        "double_dip_image": Setting(_DOUBLE, 573_187, jitter=1 / 30, centred=True, **_LAYER),
        "double_dip_mask": Setting({**_DOUBLE, "outputs": 1}, 573_169, centred=True, **_LAYER),
        "double_dip_airlight": Setting(_DOUBLE, 573_187, "meshgrid", jitter=1 / 30, **_LAYER),
        "no_skip": Setting({"skip": (0,) * 5}, 2_192_515, **_AVERAGED),
        "small": Setting(_NARROW, 152_199, **_AVERAGED),
        "small_no_skip": Setting({**_NARROW, "skip": (0,) * 5}, 145_699, **_AVERAGED),
    }
)
"""The official notebooks' settings (at sigma 50 the jitter is 1/20), Double-DIP's three networks,
DIP's without skips, and those of DILIE's small runs."""
