"""Loss of resolution as the super-resolution papers simulate it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from enhancelib.degradations.sample import Sample, factor, source
from enhancelib.images import resize


def modcrop(image: Tensor, scale: int) -> Tensor:
    """Cut right and bottom so that both sides are multiples of the scale.

    Args:
        image: (..., H, W).
        scale: A whole number >= 1.

    Returns:
        (..., H - H % scale, W - W % scale), a view: what the super-resolution tables score on.

    Raises:
        ValueError: If the scale is below 1 or exceeds a side.

    Example:
        >>> modcrop(torch.zeros(1, 10, 12), 4).shape
        torch.Size([1, 8, 12])
        >>> modcrop(torch.zeros(1, 10, 12), 11)
        Traceback (most recent call last):
        ValueError: scale is 11 for a picture of 10 x 12; expected 1 to its smaller side
    """
    height, width = image.shape[-2:]
    if not 1 <= scale <= min(height, width):
        raise ValueError(
            f"scale is {scale} for a picture of {height} x {width}; expected 1 to its smaller side"
        )
    return image[..., : height - height % scale, : width - width % scale]


@dataclass(frozen=True)
class Bicubic:
    """Shrink by a whole factor and enlarge again to the same size, as VDSR and DnCNN-3 do.

    y = imresize(imresize(x, 1/s), s), MATLAB's bicubic with antialiasing. Where a side is no
    multiple of s, the shrunken side is rounded up as MATLAB does and the enlarged one is cut at
    right and bottom, which keeps the grids aligned; tables score pictures after `modcrop`, where
    nothing is cut.

    Args:
        scale: The factor s >= 1, or several: every item then draws one of them, each as likely.

    Raises:
        ValueError: If a scale is not a whole number >= 1, or there is none.

    Example:
        >>> sample = {"clean": torch.rand(4, 1, 50, 50)}
        >>> blurred = Bicubic((2, 3, 4))(sample, torch.Generator().manual_seed(0))
        >>> blurred["degraded"].shape, blurred["scale"].shape
        (torch.Size([4, 1, 50, 50]), torch.Size([4, 1, 1, 1]))
        >>> Bicubic(0.5)
        Traceback (most recent call last):
        ValueError: scale is 0.5; expected whole numbers >= 1

    Source: Kim et al., "Accurate Image Super-Resolution Using Very Deep Convolutional Networks"
    (VDSR), CVPR 2016; DnCNN-3 (IEEE TIP 2017) with s in {2, 3, 4}.
    """

    scale: int | tuple[int, ...] = 2

    def __post_init__(self) -> None:
        whole = all(isinstance(s, int) and not isinstance(s, bool) and s >= 1 for s in self._all)
        if not self._all or not whole:
            raise ValueError(f"scale is {self.scale!r}; expected whole numbers >= 1")

    @property
    def _all(self) -> tuple[int, ...]:
        return tuple(self.scale) if isinstance(self.scale, tuple | list) else (self.scale,)

    @property
    def neutral(self) -> Mapping[str, float]:
        """The factor `scale`.

        Returns:
            scale 1 where nothing was shrunk.
        """
        return {"scale": 1.0}

    def __call__(self, sample: Sample, generator: torch.Generator) -> Sample:
        """Blur every item by the detour over fewer pixels.

        Args:
            sample: Holds `clean` or `degraded`, (B, C, H, W).
            generator: Draws the scales, on its own device.

        Returns:
            A new sample with `degraded`, which may overshoot [0, 1], and `scale` (B, 1, 1, 1).
        """
        picture = source(sample)
        drawn = torch.randint(
            len(self._all), (len(picture),), generator=generator, device=generator.device
        )
        scales = torch.tensor(self._all)[drawn.cpu()]
        degraded = torch.empty_like(picture)
        for scale in set(self._all):
            chosen = (scales == scale).to(picture.device)
            degraded[chosen] = _detour(picture[chosen], scale)
        return {**sample, "degraded": degraded, "scale": factor(scales.float(), picture)}


def _detour(picture: Tensor, scale: int) -> Tensor:
    height, width = picture.shape[-2:]
    enlarged = resize(resize(picture, scale=1 / scale), scale=float(scale))
    return enlarged[..., :height, :width]
