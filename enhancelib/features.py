"""Frozen perceptual networks and the layers that the papers tap.

| name | values | input of the first convolution | borders | pooling |
|---|---|---|---|---|
| vgg19 | the original ImageNet ones (Caffe) | BGR in [0, 255] minus the mean | zeros | 2x2, floor |
| vgg19_normalised | rescaled so that every channel's mean activation is about 1 (AdaIN family) \
| the same | reflection | 2x2, ceiling |
| vgg16, alexnet | torchvision's | RGB, ImageNet mean and deviation | zeros | floor |

All take RGB in [0, 1]; what the table says happens inside. The original VGG19 comes out of the
normalised one: with its kernels N, biases n and the channel scales a of layer l
(data/features/README.md), W_l[o, i] = N_l[o, i] a_(l-1)[i] / a_l[o] and b_l = n_l / a_l. Its
activations are hundreds of times those of torchvision's VGG19, whose inputs have unit scale:
a loss weight tuned for one does not carry over to the other.

Source: VGG, Simonyan and Zisserman, ICLR 2015; AlexNet in one tower, Krizhevsky 2014.
Departs: without the fully connected layers, and without the pooling that leads to them.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from enhancelib import runtime

_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_CAFFE_MEAN = (103.939, 116.779, 123.68)  # blue, green, red
_SCALES_SHA256 = "420eb6a2d22ea6f38a3c54db157f067a5ff65d4bf19e3b9f3c3a90773012c16c"


class FeaturesMissing(RuntimeError):
    """The values of a feature network are not on this machine, or are damaged there."""


@dataclass(frozen=True)
class Layout:
    """How one network is built, and which values are its own.

    Args:
        blocks: Convolutions per block for a VGG; empty for AlexNet.
        store: Name of the stored values.
        digest: `digest` of the stored values.
        caffe: BGR in [0, 255] minus the mean, instead of ImageNet's mean and deviation.
        reflect: Reflection instead of zeros at the borders, and pooling with ceiling.
        ceil: Pooling with ceiling (TensorFlow's "SAME") and zeros at the borders.
        only: What `enhancelib fetch --only` calls the values.
    """

    blocks: tuple[int, ...]
    store: str
    digest: str
    caffe: bool = False
    reflect: bool = False
    ceil: bool = False
    only: str = ""


# What `digest` says of the values behind the packages pinned in packages.py.
_D19 = "ae90e03877ee0f735a0e55f0ec2bd334333884e8646202b33f3bb1bf6c1ab516"
_D16 = "40acdda7c6b05249f81637b2571671ce938507c5f986db17af374cf62a2f42a6"
_DAL = "2b566cc3a4d6f0a7343701af22f461f1ac3dcd03a3ac28cce10968a1d3c85fdc"

_VGG19 = (2, 2, 4, 4, 4)
_N19 = "vgg19_normalised"
LAYOUTS: dict[str, Layout] = {
    "vgg19": Layout(_VGG19, _N19, _D19, caffe=True, only="vgg19"),
    _N19: Layout(_VGG19, _N19, _D19, caffe=True, reflect=True, only="vgg19"),
    "vgg16": Layout((2, 2, 3, 3, 3), "vgg16", _D16, only="vgg16"),
    "alexnet": Layout((), "alexnet", _DAL, only="alexnet"),
}


class Features(nn.Module):
    """A frozen convolutional network that hands out the activations of named layers.

    Layers are named convX_Y, reluX_Y and poolX (block X, Y within it) in a VGG, convX, reluX and
    poolX in AlexNet.

    Args:
        layout: Which network.

    Example:
        >>> net = Features(LAYOUTS["alexnet"])
        >>> net.layers[:4]
        ('conv1', 'relu1', 'pool1', 'conv2')
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        stages = _vgg(layout) if layout.blocks else _alexnet()
        self.stages = nn.ModuleDict(stages)
        self.layers = tuple(stages)
        self._flip = layout.caffe
        mean, deviation = _IMAGENET
        if layout.caffe:
            mean, deviation = _CAFFE_MEAN, (1.0, 1.0, 1.0)
        for name, values in (("mean", mean), ("deviation", deviation)):
            constant = torch.tensor(values, device="cpu").view(1, 3, 1, 1)
            self.register_buffer(name, constant, persistent=False)
        self.requires_grad_(False).eval()

    def forward(self, image: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        """Activations of the layers asked for; nothing deeper than the deepest is computed.

        Args:
            image: (B, 3, H, W), RGB in [0, 1], floating point. Gradients flow into it.
            layers: Names out of `self.layers`, in any order.

        Returns:
            name -> (B, C, h, w), in the network's order.

        Raises:
            ValueError: If no layer or an unknown one is asked for, the image has another shape
                or type, or it is too small for the deepest layer.

        Example:
            >>> net = Features(LAYOUTS["vgg16"])
            >>> net(torch.rand(1, 3, 32, 48), ("relu2_2",))["relu2_2"].shape
            torch.Size([1, 128, 16, 24])
            >>> net(torch.rand(1, 3, 32, 48), ("relu9_9",))
            Traceback (most recent call last):
            ValueError: layers asks for relu9_9; this network has conv1_1, relu1_1, ...
        """
        self._check(image, layers)
        x = self._prepared(image).to(next(self.stages.parameters()).dtype)
        found: dict[str, Tensor] = {}
        for name, stage in self.stages.items():
            _fits(name, stage, x)
            x = stage(x)
            if name in layers:
                found[name] = x
            if len(found) == len(set(layers)):
                break
        return found

    def _check(self, image: Tensor, layers: Sequence[str]) -> None:
        if isinstance(layers, str) or not layers:
            raise ValueError(f"layers is {layers!r}; expected a sequence such as ('relu1_1',)")
        unknown = [name for name in layers if name not in self.stages]
        if unknown:
            raise ValueError(
                f"layers asks for {', '.join(unknown)}; this network has {', '.join(self.layers)}"
            )
        if image.ndim != 4 or image.shape[1] != 3 or not image.is_floating_point():
            raise ValueError(
                f"image is {tuple(image.shape)} of {image.dtype}; expected (B, 3, H, W), "
                "floating point in [0, 1]"
            )

    def _prepared(self, image: Tensor) -> Tensor:
        x = image.flip(1) * 255 if self._flip else image
        return (x - self.mean) / self.deviation


def _vgg(layout: Layout) -> dict[str, nn.Module]:
    stages: dict[str, nn.Module] = {}
    padding: Literal["reflect", "zeros"] = "reflect" if layout.reflect else "zeros"
    channels = 3
    for block, count in enumerate(layout.blocks, start=1):
        width = min(64 * 2 ** (block - 1), 512)
        for place in range(1, count + 1):
            stages[f"conv{block}_{place}"] = nn.Conv2d(
                channels, width, 3, padding=1, padding_mode=padding
            )
            stages[f"relu{block}_{place}"] = nn.ReLU()
            channels = width
        if block < len(layout.blocks):
            stages[f"pool{block}"] = nn.MaxPool2d(2, ceil_mode=layout.reflect or layout.ceil)
    return stages


def _alexnet() -> dict[str, nn.Module]:
    stages: dict[str, nn.Module] = {}
    widths = pairwise((3, 64, 192, 384, 256, 256))
    shapes = ((11, 4, 2), (5, 1, 2), (3, 1, 1), (3, 1, 1), (3, 1, 1))
    for place, ((before, after), (kernel, stride, padding)) in enumerate(
        zip(widths, shapes, strict=True), start=1
    ):
        stages[f"conv{place}"] = nn.Conv2d(before, after, kernel, stride, padding)
        stages[f"relu{place}"] = nn.ReLU()
        if place <= 2:
            stages[f"pool{place}"] = nn.MaxPool2d(3, stride=2)
    return stages


def _fits(name: str, stage: nn.Module, x: Tensor) -> None:
    """Refuse an image too small for a layer in our words, before torch does in its own."""
    least = 1
    if isinstance(stage, nn.MaxPool2d) and not stage.ceil_mode:
        least = stage.kernel_size if isinstance(stage.kernel_size, int) else 1
    if isinstance(stage, nn.Conv2d):
        reflected = stage.padding_mode == "reflect"
        least = 2 if reflected else _unpadded(stage)
    if min(x.shape[-2:]) < least:
        raise ValueError(
            f"image is too small: {name} gets {x.shape[-2]}x{x.shape[-1]} pixels and needs "
            f"{least}x{least}; ask for shallower layers or pass a larger image"
        )


def _unpadded(convolution: nn.Conv2d) -> int:
    padding = convolution.padding[0]
    return convolution.kernel_size[0] - 2 * (padding if isinstance(padding, int) else 0)


def load(name: str, *, ceil: bool = False, precision: str = "fp32") -> Features:
    """A frozen network with its real values, never with random ones.

    Args:
        name: "vgg19", "vgg19_normalised", "vgg16" or "alexnet".
        ceil: Pool a VGG with ceiling, as TensorFlow's "SAME" does: 100 pixels become 50, 25, 13
            and 7 instead of 50, 25, 12 and 6. The codes of DPED and PPCN do.
        precision: "fp32", or "bf16" for convolutions and activations in bfloat16, two to five
            times faster where the processor has instructions for it.

    Returns:
        The network on the CPU, in eval mode, without gradients to its own values.

    Raises:
        ValueError: If name or precision is unknown.
        FeaturesMissing: If `enhancelib fetch` has not brought the values, or their store or the
            channel scales in data/features are damaged.

    Example:
        >>> load("vgg13")
        Traceback (most recent call last):
        ValueError: features are 'vgg13'; expected one of vgg19, vgg19_normalised, vgg16, alexnet
        >>> import os
        >>> from unittest.mock import patch
        >>> with patch.dict(os.environ, ENHANCELIB_CACHE="/nowhere"):
        ...     load("alexnet")
        Traceback (most recent call last):
        enhancelib.features.FeaturesMissing: alexnet is not in /nowhere/features; \
run `enhancelib fetch --only alexnet`
    """
    if name not in LAYOUTS:
        raise ValueError(f"features are {name!r}; expected one of {', '.join(LAYOUTS)}")
    if precision not in ("fp32", "bf16"):
        raise ValueError(f"precision is {precision!r}; expected 'fp32' or 'bf16'")
    state = _stored(LAYOUTS[name])
    values = _original(state) if name == "vgg19" else state
    layout = replace(LAYOUTS[name], ceil=ceil)
    with torch.device("meta"):  # no random initial values: the caller's random state stays
        network = Features(layout)
    network.stages.load_state_dict(values, assign=True)
    if precision == "bf16":
        network.stages.to(torch.bfloat16)
    return network.requires_grad_(False)


def present(name: str) -> bool:
    """Whether `load` will find the values of a network, without reading them.

    Args:
        name: As for `load`.

    Returns:
        True if the store holds a file for it.

    Raises:
        ValueError: If the name is unknown.

    Example:
        >>> present("resnet")
        Traceback (most recent call last):
        ValueError: features are 'resnet'; expected one of vgg19, vgg19_normalised, vgg16, alexnet
    """
    if name not in LAYOUTS:
        raise ValueError(f"features are {name!r}; expected one of {', '.join(LAYOUTS)}")
    return _store(LAYOUTS[name]).is_file()


def shapes(layout: Layout) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a network's values, as the store keeps them.

    Args:
        layout: Which network.

    Returns:
        "conv1_1.weight" -> (64, 3, 3, 3) and so on, in the network's order.

    Example:
        >>> shapes(LAYOUTS["alexnet"])["conv1.weight"]
        (64, 3, 11, 11)
    """
    with torch.device("meta"):
        stages = nn.ModuleDict(_vgg(layout) if layout.blocks else _alexnet())
    return {name: tuple(value.shape) for name, value in stages.state_dict().items()}


def digest(state: Mapping[str, Tensor], layout: Layout) -> str:
    """Fingerprint of a network's values, whatever file they came in.

    Args:
        state: The values by name, as `shapes` lists them.
        layout: Which network.

    Returns:
        sha256 over the float32 values in the network's order.

    Raises:
        ValueError: If a value is absent, or has another shape or type.

    Example:
        >>> digest({}, LAYOUTS["vgg16"])
        Traceback (most recent call last):
        ValueError: conv1_1.weight is absent; expected float32 of (64, 3, 3, 3)
    """
    summary = hashlib.sha256()
    for name, shape in shapes(layout).items():
        value = state.get(name)
        if value is None or tuple(value.shape) != shape or value.dtype != torch.float32:
            seen = "absent" if value is None else f"{value.dtype} of {tuple(value.shape)}"
            raise ValueError(f"{name} is {seen}; expected float32 of {shape}")
        summary.update(value.contiguous().numpy().astype("<f4", copy=False).tobytes())
    return summary.hexdigest()


def _store(layout: Layout) -> Path:
    return runtime.cache() / "features" / f"{layout.store}.safetensors"


def _stored(layout: Layout) -> dict[str, Tensor]:
    path = _store(layout)
    again = f"run `enhancelib fetch --only {layout.only}`"
    if not path.is_file():
        raise FeaturesMissing(f"{layout.store} is not in {path.parent}; {again}")
    try:
        state = load_file(path)
        seen = digest(state, layout)
    except (SafetensorError, OSError, ValueError) as error:
        raise FeaturesMissing(f"{path} is damaged ({error}); {again} again") from error
    if seen != layout.digest:
        raise FeaturesMissing(f"{path} holds other values than the pinned ones; {again} again")
    return state


def _original(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The original VGG19 out of the normalised one: W = N a_before / a, b = n / a."""
    before = torch.ones(3, dtype=torch.float64)
    values: dict[str, Tensor] = {}
    names = [name.removesuffix(".weight") for name in state if name.endswith(".weight")]
    for name, a in zip(sorted(names), _scales(), strict=True):
        N, n = state[f"{name}.weight"].double(), state[f"{name}.bias"].double()
        W = N * before.view(1, -1, 1, 1) / a.view(-1, 1, 1, 1)
        values |= {f"{name}.weight": W.float(), f"{name}.bias": (n / a).float()}
        before = a
    return values


def _scales() -> list[Tensor]:
    path = runtime.data("features/vgg19_channel_scales.npz")
    content = path.read_bytes() if path.is_file() else b""
    if hashlib.sha256(content).hexdigest() != _SCALES_SHA256:
        raise FeaturesMissing(
            f"{path} is absent or damaged; restore it from the repository, or use vgg19_normalised"
        )
    with np.load(io.BytesIO(content)) as stored:
        return [torch.from_numpy(stored[name]) for name in sorted(stored.files)]
