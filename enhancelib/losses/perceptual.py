"""Losses in the feature space of a frozen network: one pass, many terms.

A perceptual loss compares activations instead of pixels. Several terms of one objective tap the
same network (content, contextual, local contrast), so the network runs once per picture, as the
objective's `prepare`, and every term is an ordinary function of the activations:

    Objective(
        {"content": Term(1.0, pixel.mse, of=("output/relu5_4", "clean/relu5_4"))},
        prepare=Taps(vgg19, {"output": ("relu5_4",), "clean": ("relu5_4",)}),
    )

Source: Johnson, Alahi, Fei-Fei, ECCV 2016, for the idea; PRaD Eq. 16 and DPED for this form.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from enhancelib.losses import texture

Sample = Mapping[str, Tensor]
Network = Callable[[Tensor, Sequence[str]], dict[str, Tensor]]


@dataclass(frozen=True)
class Taps:
    """Activations of pictures of a sample, added under the names "<key>/<layer>".

    A key that ends in "~" means the picture of that name after local contrast normalisation, put
    into the range that the network expects (`texture.vgg_picture`).

    Args:
        network: `features.load(...)`, or what is called like it: (image, layers) -> {layer: map}.
        layers: Key of the sample -> layers tapped.
        constant: Keys through which no gradient flows (the target).

    Raises:
        ValueError: On the call, if the sample lacks a key.

    Example:
        >>> import torch
        >>> taps = Taps(lambda x, layers: {"relu1_1": x.relu()}, {"output": ("relu1_1",)})
        >>> sorted(taps({"output": torch.ones(1, 3, 4, 4)}))
        ['output', 'output/relu1_1']
        >>> taps({"clean": torch.ones(1, 3, 4, 4)})
        Traceback (most recent call last):
        ValueError: features of 'output' are wanted; the sample has clean
    """

    network: Network
    layers: Mapping[str, tuple[str, ...]]
    constant: tuple[str, ...] = ("clean", "clean~")

    def __call__(self, sample: Sample) -> dict[str, Tensor]:  # noqa: D102
        found = dict(sample)
        for key, layers in self.layers.items():
            picture = _picture(sample, key)
            with torch.set_grad_enabled(torch.is_grad_enabled() and key not in self.constant):
                maps = self.network(picture.contiguous(memory_format=torch.channels_last), layers)
            found |= {f"{key}/{layer}": value.float() for layer, value in maps.items()}
        return found


def _picture(sample: Sample, key: str) -> Tensor:
    name = key.removesuffix("~")
    if name not in sample:
        raise ValueError(
            f"features of {name!r} are wanted; the sample has {', '.join(sorted(sample))}"
        )
    if not key.endswith("~"):
        return sample[name]
    return texture.vgg_picture(texture.local_contrast(sample[name]))
