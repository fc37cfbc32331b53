"""Haze by the atmospheric scattering model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from enhancelib.degradations.sample import Sample, factor, interval, source

FAR, NEAR = 1.0, 0.15
"""Depth of the stand-in scene at its top and at its bottom row."""


def scattered(J: Tensor, t: Tensor, A: Tensor) -> Tensor:
    """A scene seen through haze (DILIE, eq. 8).

    `I(x) = J(x) t(x) + A(x) (1 - t(x))`

    Args:
        J: Clean pictures, (B, C, H, W).
        t: Transmission in [0, 1], (B, 1, H, W).
        A: Airlight, (B, C, 1, 1), or (B, C, H, W) where it varies.

    Returns:
        Hazy pictures I, (B, C, H, W).

    Raises:
        ValueError: If the shapes do not mix to that of J.

    Source: Narasimhan and Nayar, IJCV 2002.

    Example:
        >>> J, t = torch.zeros(1, 3, 2, 2), torch.full((1, 1, 2, 2), 0.25)
        >>> A = torch.ones(1, 3, 1, 1)
        >>> float(scattered(J, t, A).mean())
        0.75
        >>> scattered(J, t[..., :1, :1].expand(1, 1, 3, 3), A)
        Traceback (most recent call last):
        ValueError: J is (1, 3, 2, 2), t (1, 1, 3, 3), A (1, 3, 1, 1); expected (B, C, H, W), ...
    """
    B, C, H, W = J.shape
    if t.shape != (B, 1, H, W) or A.shape not in ((B, C, 1, 1), (1, C, 1, 1), J.shape):
        raise ValueError(
            f"J is {tuple(J.shape)}, t {tuple(t.shape)}, A {tuple(A.shape)}; expected "
            "(B, C, H, W), (B, 1, H, W), and (B, C, 1, 1) or (B, C, H, W)"
        )
    return J * t + A * (1 - t)


@dataclass(frozen=True)
class Haze:
    """Homogeneous haze: the farther, the thicker.

    `I = J t + A (1 - t)`, `t = exp(-beta d)`. The depth d is the sample's `depth` where it has one;
    elsewhere a plane that recedes, from 1 at the top row to 0.15 at the bottom one. With pairs
    every item of the batch draws its own beta and its own airlight.

    Args:
        beta: Scattering per unit of depth, 0 or more, or (low, high).
        airlight: Its brightness in [0, 1] for all channels, a pair (low, high), or three numbers:
            a colour.

    Raises:
        ValueError: If beta is negative or airlight outside [0, 1].

    Source: the depth of DILIE's specification; RESIDE draws beta from [0.6, 1.8] and airlight from
        [0.7, 1].

    Example:
        >>> clean = torch.zeros(1, 3, 8, 8)
        >>> made = Haze(1.4, (0.8, 0.82, 0.85))({"clean": clean}, torch.Generator())
        >>> sorted(made), made["airlight"].flatten().tolist()
        (['airlight', 'clean', 'degraded', 'transmission'], [0.8..., 0.8..., 0.8...])
        >>> bool((made["degraded"][:, :, 0] > made["degraded"][:, :, -1]).all())
        True
        >>> Haze(-1.0)
        Traceback (most recent call last):
        ValueError: beta is -1.0, airlight (0.7, 1.0); expected 0 or more, and [0, 1]
    """

    beta: float | tuple[float, float] = (0.6, 1.8)
    airlight: float | tuple[float, float] | tuple[float, float, float] = (0.7, 1.0)
    neutral: ClassVar[Mapping[str, float]] = {"transmission": 1.0, "airlight": 1.0}

    def __post_init__(self) -> None:
        """Refuse haze that no air gives."""
        ends = self._colour() or interval("airlight", self.airlight)  # type: ignore[arg-type]
        if interval("beta", self.beta)[0] < 0 or not 0 <= min(ends) <= max(ends) <= 1:
            raise ValueError(
                f"beta is {self.beta!r}, airlight {self.airlight!r}; expected 0 or more, and [0, 1]"
            )

    def _colour(self) -> tuple[float, ...]:
        fixed = isinstance(self.airlight, tuple) and len(self.airlight) == 3
        return self.airlight if fixed else ()  # type: ignore[return-value]

    def __call__(self, sample: Sample, generator: torch.Generator) -> Sample:
        """Put haze between every scene and its camera.

        Args:
            sample: Holds `clean` or `degraded`, (B, 3, H, W), and `depth` (B, 1, H, W) or nothing.
            generator: Draws beta and airlight.

        Returns:
            A new sample with `degraded`, `transmission` (B, 1, H, W) and `airlight` (B, 3, 1, 1).

        Raises:
            ValueError: If airlight is a colour and the pictures are not, or depth does not fit them
                or is negative somewhere.

        Example:
            >>> grey = {"clean": torch.zeros(1, 1, 8, 8)}
            >>> Haze(airlight=(0.8, 0.8, 0.9))(grey, torch.Generator())
            Traceback (most recent call last):
            ValueError: airlight is a colour, (0.8, 0.8, 0.9), and the pictures have 1 channels
        """
        picture = source(sample)
        B, C, H, W = picture.shape
        low, high = interval("beta", self.beta)
        beta = low + (high - low) * torch.rand(B, generator=generator, device=generator.device)
        if colour := self._colour():
            if len(colour) != C:
                raise ValueError(
                    f"airlight is a colour, {colour}, and the pictures have {C} channels"
                )
            A = torch.tensor(colour).to(picture).view(1, C, 1, 1).expand(B, -1, -1, -1)
        else:
            low, high = interval("airlight", self.airlight)  # type: ignore[arg-type]
            grey = torch.rand(B, generator=generator, device=generator.device)
            A = factor(low + (high - low) * grey, picture).to(picture).expand(-1, C, -1, -1)
        plane = torch.linspace(FAR, NEAR, H).to(picture).view(1, 1, H, 1)
        depth = sample.get("depth", plane.expand(B, 1, H, W))
        if depth.shape != (B, 1, H, W) or not bool((depth >= 0).all()):
            raise ValueError(
                f"depth is {tuple(depth.shape)}, least value {float(depth.min())}; expected "
                f"{(B, 1, H, W)}, 0 or more"
            )
        t = torch.exp(-factor(beta, picture).to(picture) * depth)
        made = scattered(picture, t, A)
        return {**sample, "degraded": made, "transmission": t, "airlight": A.contiguous()}
