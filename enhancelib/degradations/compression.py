"""What codecs do to pictures."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from enhancelib.degradations.sample import Sample, factor, interval, source
from enhancelib.images import from_array, to_uint8

SUBSAMPLINGS = ("4:4:4", "4:2:2", "4:2:0")


@dataclass(frozen=True)
class Jpeg:
    """Encode as JPEG and decode again, by the real codec (libjpeg through Pillow).

    Args:
        quality: libjpeg's quality, 1 (worst) to 100, as MATLAB's imwrite counts it; with a pair,
            every item has its own whole number, uniform in low..high, both ends included.
        subsampling: Resolution of chroma in colour pictures; "4:2:0" is the habit of libjpeg,
            MATLAB and cameras. Grey pictures have none.

    Raises:
        ValueError: If a quality is not a whole number in 1..100, or the subsampling is unknown.

    Example:
        >>> grey = {"clean": torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))}
        >>> Jpeg((5, 99))(grey, torch.Generator().manual_seed(0))["quality"].flatten().tolist()
        [39.0, 9.0]
        >>> Jpeg(0)
        Traceback (most recent call last):
        ValueError: quality is 0; expected whole numbers in 1..100

    Source: DnCNN-3 (IEEE TIP 2017) trains on quality 5 to 99 and tests on 10, 20, 30 and 40.
    """

    quality: int | tuple[int, int] = 10
    subsampling: str = "4:2:0"

    def __post_init__(self) -> None:
        low, high = interval("quality", self.quality)
        if not (isinstance(low, int) and isinstance(high, int) and 1 <= low <= high <= 100):
            raise ValueError(f"quality is {self.quality!r}; expected whole numbers in 1..100")
        if self.subsampling not in SUBSAMPLINGS:
            known = ", ".join(SUBSAMPLINGS)
            raise ValueError(f"subsampling is {self.subsampling!r}; expected one of {known}")

    @property
    def neutral(self) -> Mapping[str, float]:
        """The factor `quality`.

        Returns:
            quality 100 where nothing was compressed.
        """
        return {"quality": 100.0}

    def __call__(self, sample: Sample, generator: torch.Generator) -> Sample:
        """Compress every item; a codec takes 8 bits, so values outside [0, 1] are cut off first.

        Args:
            sample: Holds `clean` or `degraded`, (B, 1, H, W) or (B, 3, H, W).
            generator: Draws the qualities, on its own device.

        Returns:
            A new sample with `degraded`, on the 256 levels of 8 bits, and `quality` (B, 1, 1, 1).

        Raises:
            ValueError: If the picture has neither one nor three channels.

        Example:
            >>> Jpeg(10)({"clean": torch.zeros(1, 2, 8, 8)}, torch.Generator())
            Traceback (most recent call last):
            ValueError: the picture has 2 channels; JPEG takes 1 or 3
        """
        picture = source(sample)
        if picture.shape[1] not in (1, 3):
            raise ValueError(f"the picture has {picture.shape[1]} channels; JPEG takes 1 or 3")
        low, high = interval("quality", self.quality)
        drawn = torch.randint(
            int(low), int(high) + 1, (len(picture),), generator=generator, device=generator.device
        )
        decoded = [self._code(x, int(q)) for x, q in zip(picture, drawn.tolist(), strict=True)]
        degraded = torch.stack(decoded).to(picture)
        return {**sample, "degraded": degraded, "quality": factor(drawn.float(), picture)}

    def _code(self, image: Tensor, quality: int) -> Tensor:
        levels = to_uint8(image).permute(1, 2, 0).cpu().numpy()
        file = io.BytesIO()
        picture = Image.fromarray(levels[..., 0] if levels.shape[2] == 1 else levels)
        picture.save(file, format="JPEG", quality=quality, subsampling=self.subsampling)
        with Image.open(file) as coded:
            return from_array(np.array(coded))
