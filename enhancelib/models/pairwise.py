"""The discriminator of DPED with PRaD's head, and the critic that shows it pairs.

Eq. 5 of the PRaD paper is `Critic.inputs`; C of Eq. 6 is `Discriminator`. The relativistic average
itself, Eqs. 6 to 8, is a loss and no layer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from enhancelib.models._layers import Layers, check_choice, check_picture

Judges = Literal["pair", "pair_without_phi", "image"]
Norm = Literal["batch", "instance", "none"]

# (kernels, size, stride) of the five convolutions: 100 -> 25 -> 13 -> 13 -> 13 -> 7 pixels
_CONVOLUTIONS = ((48, 11, 4), (128, 5, 2), (192, 3, 1), (192, 3, 1), (128, 3, 2))
_SIDE = 7
_HIDDEN = 1024
_SLOPE = 0.2
_INSTANCE_EPSILON = 1e-3  # DPED's code
_MOMENTUM = 0.1
_EPSILON = 1e-8


class Discriminator(nn.Module):
    """C of Eq. 6: five convolutions and two matrices, one raw score per picture.

    Convolutions of 48 @ 11x11 / 4, 128 @ 5x5 / 2, 192 @ 3x3, 192 @ 3x3 and 128 @ 3x3 / 2, each with
    LeakyReLU 0.2 and then the norm, which the first one does not have; 128 x 7 x 7 values at
    100 x 100 pixels; a matrix to 1024, LeakyReLU, a matrix to 1.

    Args:
        channels: Of the input: 3 for a picture, 6 for a pair, 70 for a pair and 64 VGG maps.
        norm: "batch" as the paper says, "instance" as DPED's code does (affine, epsilon 1e-3), or
            "none".
        generator: Where the initial weights (torch's own) are drawn; None is torch's global one.

    Raises:
        ValueError: If channels is no positive integer or norm is another word.

    Source: aiff22/DPED (ebb01315); the paper's sentence on its discriminator is DPED's own.

    Departs: one score instead of DPED's two classes (Eq. 6); the zeros around a picture are the
    same on all sides where TensorFlow puts more at the bottom and right; from pictures of other
    sizes than 100 x 100 the last maps are averaged (or repeated) to 7 x 7.

    Example:
        >>> sum(p.numel() for p in Discriminator(3).parameters())
        7371713
        >>> Discriminator(0)
        Traceback (most recent call last):
        ValueError: channels is 0; expected an integer of at least 1
    """

    def __init__(
        self,
        channels: int = 70,
        *,
        norm: Norm = "batch",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if isinstance(channels, bool) or not isinstance(channels, int) or channels < 1:
            raise ValueError(f"channels is {channels!r}; expected an integer of at least 1")
        check_choice("norm", norm, ("batch", "instance", "none"))
        self.channels, self.norm = channels, norm
        epsilon = _INSTANCE_EPSILON if norm == "instance" else 1e-5
        layers = Layers(norm, generator=generator, epsilon=epsilon)
        self.features = nn.Sequential()
        for kernels, size, stride in _CONVOLUTIONS:
            conv = layers.conv(channels, kernels, size, stride=stride)
            behind = layers.norms(kernels) if len(self.features) else []  # none on the first
            self.features.extend([conv, nn.LeakyReLU(_SLOPE), *behind])
            channels = kernels
        self.score = nn.Sequential(
            layers.drawn(nn.Linear, channels * _SIDE**2, _HIDDEN),
            nn.LeakyReLU(_SLOPE),
            layers.drawn(nn.Linear, _HIDDEN, 1),
        )

    @property
    def options(self) -> dict[str, object]:
        """What `models.build("prad.discriminator", **options)` needs to make it again.

        Returns:
            channels and norm, plain JSON values.
        """
        return {"channels": self.channels, "norm": self.norm}

    def forward(self, inputs: Tensor) -> Tensor:
        """Score without a sigmoid: higher is more real.

        Args:
            inputs: (B, channels, H, W), any size.

        Returns:
            (B,), any real number.

        Raises:
            ValueError: If the shape is another one, or the pictures are too small for an instance
                norm.

        Example:
            >>> Discriminator(3).eval()(torch.zeros(2, 3, 100, 100)).shape
            torch.Size([2])
            >>> Discriminator(3)(torch.zeros(2, 6, 100, 100))
            Traceback (most recent call last):
            ValueError: inputs has shape (2, 6, 100, 100); expected (B, 3, H, W)
        """
        above = 16 if self.norm == "instance" else 0
        check_picture("inputs", inputs, self.channels, above=above)
        maps = self.features(inputs)
        if maps.shape[-2:] != (_SIDE, _SIDE):
            maps = functional.adaptive_avg_pool2d(maps, _SIDE)
        scores: Tensor = self.score(maps.flatten(1))
        return scores.squeeze(1)


class Critic(nn.Module):
    """The pair-wise discriminator: C of Eq. 6 on the concatenations of Eq. 5.

    `I_r = concat[I_s, I_t, phi(I_t)]` for a real target, `I_f = concat[I_s, F(I_s), phi(F(I_s))]`
    for an enhanced picture. phi is divided by its running standard deviation (one number, over all
    channels), so that its many maps, hundreds of units high, do not drown six channels in [0, 1].

    phi stays frozen and outside `parameters()` and the state dict, but gradients pass through it
    to the picture. The running deviation is in the state dict.

    Args:
        phi: (B, 3, H, W) in [0, 1] -> (B, phi_channels, h, w), for instance relu1_2 of the VGG19;
            it must be on the pictures' device already. Only judges="pair" calls it.
        judges: "pair"; "pair_without_phi" for concat[I_s, I] alone; "image" for the picture alone,
            the paper's "w/o VGG content".
        norm: Of the discriminator.
        phi_channels: Of phi's maps; 64 for relu1_2.
        generator: Where the initial weights are drawn; None is torch's global generator.

    Raises:
        ValueError: If judges or norm is another word, or phi is missing where it is needed.

    Departs: the paper tells neither the layer of phi nor its scale. Maps of another size than the
    picture's are brought to it by bilinear interpolation.

    Example:
        >>> Critic(None, judges="pair_without_phi").discriminator.channels
        6
        >>> Critic(None)
        Traceback (most recent call last):
        ValueError: phi is missing; judges='pair' needs a function from pictures to feature maps
    """

    deviation: Tensor
    updates: Tensor

    def __init__(
        self,
        phi: Callable[[Tensor], Tensor] | None,
        *,
        judges: Judges = "pair",
        norm: Norm = "batch",
        phi_channels: int = 64,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        check_choice("judges", judges, ("pair", "pair_without_phi", "image"))
        if judges == "pair" and phi is None:
            raise ValueError(
                "phi is missing; judges='pair' needs a function from pictures to feature maps"
            )
        self.judges, self.phi_channels = judges, phi_channels
        self._phi = (phi,)  # in a tuple, or torch would make it a part of this module
        channels = {"pair": 6 + phi_channels, "pair_without_phi": 6, "image": 3}[judges]
        self.discriminator = Discriminator(channels, norm=norm, generator=generator)
        self.register_buffer("deviation", torch.ones(()))
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))

    def forward(self, source: Tensor, image: Tensor, *, update: bool = False) -> Tensor:
        """Score pictures, each beside the picture that it was made from.

        Args:
            source: I_s, (B, 3, H, W).
            image: I_t or F(I_s), (B, 3, H, W).
            update: True where `image` is real: in training mode the running deviation of phi then
                moves a tenth of the way to this batch's (the first batch sets it).

        Returns:
            (B,), raw scores.

        Raises:
            ValueError: As `inputs`.

        Example:
            >>> critic = Critic(None, judges="image").eval()
            >>> critic(torch.zeros(2, 3, 64, 64), torch.ones(2, 3, 64, 64)).shape
            torch.Size([2])
            >>> critic(torch.zeros(2, 3, 64, 64), torch.ones(2, 3, 32, 32))
            Traceback (most recent call last):
            ValueError: source is (2, 3, 64, 64), image is (2, 3, 32, 32); expected one shape
        """
        _check_pair(source, image)
        features = self._features(image)
        if update and self.training and features is not None:
            self._follow(features)
        scores: Tensor = self.discriminator(self._concatenated(source, image, features))
        return scores

    def inputs(self, source: Tensor, image: Tensor) -> Tensor:
        """Eq. 5: `concat[I_s, I, phi(I) / s]`, s the running deviation; changes nothing.

        Before the first update, s is the deviation of this very batch.

        Args:
            source: I_s, (B, 3, H, W).
            image: I, (B, 3, H, W).

        Returns:
            (B, 6 + phi_channels, H, W) for judges="pair", else what `judges` keeps of it.

        Raises:
            ValueError: If the two pictures are not of one shape (B, 3, H, W), or phi returns
                another number of channels.

        Example:
            >>> critic = Critic(lambda image: image.repeat(1, 2, 1, 1), phi_channels=6)
            >>> critic.inputs(torch.zeros(1, 3, 8, 8), torch.rand(1, 3, 8, 8)).shape
            torch.Size([1, 12, 8, 8])
            >>> critic.inputs(torch.zeros(1, 3, 8, 8), torch.zeros(3, 8, 8))
            Traceback (most recent call last):
            ValueError: source is (1, 3, 8, 8), image is (3, 8, 8); expected one shape
        """
        _check_pair(source, image)
        return self._concatenated(source, image, self._features(image))

    def _concatenated(self, source: Tensor, image: Tensor, features: Tensor | None) -> Tensor:
        if self.judges == "image":
            return image
        if features is None:
            return torch.cat((source, image), dim=1)
        own = _spread(features)
        # a copy: the next update must not change what this pass keeps for its gradient
        scale = torch.where(self.updates > 0, self.deviation, own).clone() + _EPSILON
        features = features / scale.to(features.dtype)
        if features.shape[-2:] != image.shape[-2:]:
            features = functional.interpolate(
                features, size=image.shape[-2:], mode="bilinear", align_corners=False
            )
        return torch.cat((source, image, features.to(image.dtype)), dim=1)

    def _features(self, image: Tensor) -> Tensor | None:
        (phi,) = self._phi
        if self.judges != "pair" or phi is None:
            return None
        features = phi(image)
        if features.ndim != 4 or features.shape[1] != self.phi_channels:
            raise ValueError(
                f"phi returns shape {tuple(features.shape)}; expected {self.phi_channels} channels"
            )
        return features

    @torch.no_grad()
    def _follow(self, features: Tensor) -> None:
        own = _spread(features)
        weight = torch.where(self.updates > 0, _MOMENTUM, 1.0)
        self.deviation.lerp_(own.to(self.deviation), weight.to(self.deviation))
        self.updates.add_(1)


def _spread(features: Tensor) -> Tensor:
    """Standard deviation over everything, which no gradient passes."""
    return features.detach().float().std(correction=0)


def _check_pair(source: Tensor, image: Tensor) -> None:
    if source.shape != image.shape:
        raise ValueError(
            f"source is {tuple(source.shape)}, image is {tuple(image.shape)}; expected one shape"
        )
    check_picture("image", image)
