"""Noise that cameras and test protocols add."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from enhancelib.degradations.sample import Sample, factor, interval, source


@dataclass(frozen=True)
class GaussianNoise:
    """White Gaussian noise of one or of random strength, not clipped.

    y = x + v, v ~ N(0, (sigma / 255)^2 I), drawn per pixel and channel. With a pair, every item of
    the batch has its own sigma ~ U[low, high] (blind training: (0, 55)).

    Args:
        sigma: Standard deviation on 8-bit levels (25 means 25/255), or (low, high).

    Raises:
        ValueError: If sigma is not a number >= 0 or a pair of them with low <= high.

    Example:
        >>> clean = torch.full((2, 1, 64, 64), 0.5)
        >>> noisy = GaussianNoise(25.0)({"clean": clean}, torch.Generator().manual_seed(0))
        >>> round(float((noisy["degraded"] - clean).std()) * 255), noisy["noise_level"].shape
        (25, torch.Size([2, 1, 1, 1]))
        >>> GaussianNoise(-1.0)
        Traceback (most recent call last):
        ValueError: sigma is -1.0; expected 0 or more, on 8-bit levels (25 means 25/255)

    Source: Zhang et al., "Beyond a Gaussian Denoiser" (DnCNN), IEEE TIP 2017, section I; unclipped
    in the official training and test code.
    """

    sigma: float | tuple[float, float] = 25.0

    def __post_init__(self) -> None:
        low, _ = interval("sigma", self.sigma)
        if low < 0:
            raise ValueError(
                f"sigma is {self.sigma!r}; expected 0 or more, on 8-bit levels (25 means 25/255)"
            )

    @property
    def neutral(self) -> Mapping[str, float]:
        """The factor `noise_level`, in the unit of the picture: sigma / 255.

        Returns:
            noise_level 0 where there is no noise.
        """
        return {"noise_level": 0.0}

    def __call__(self, sample: Sample, generator: torch.Generator) -> Sample:
        """Add noise to every item.

        Args:
            sample: Holds `clean` or `degraded`, (B, C, H, W).
            generator: Draws on its own device: one on the CPU gives the same noise everywhere.

        Returns:
            A new sample with `degraded` and `noise_level` (B, 1, 1, 1), that of this noise alone.
        """
        picture = source(sample)
        low, high = interval("sigma", self.sigma)
        spread = torch.rand(len(picture), generator=generator, device=generator.device)
        level = factor((low + (high - low) * spread) / 255.0, picture)
        noise = torch.randn(picture.shape, generator=generator, device=generator.device)
        degraded = picture + level * noise.to(picture)
        return {**sample, "degraded": degraded, "noise_level": level}
