"""What a cheap phone makes of the view that a good camera photographs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from enhancelib.degradations.compression import Jpeg
from enhancelib.degradations.sample import Sample, factor, interval, source
from enhancelib.images import luma

Range = tuple[float, float]
# Field -> smallest value that has a meaning.
_LOWEST = {"balance": 0.0, "gamma": 1e-3, "saturation": 0.0, "blur": 0.0, "noise": 0.0}


@dataclass(frozen=True)
class Phone:
    """The picture that a phone takes while the camera beside it takes `clean`.

    y = JPEG(clip(s + n)), s = Y + c (v - Y), v = clip(g * (G_w * x(. - d)))^gamma: moved by d, as
    the two never stand in one place, blurred, exposed, toned, desaturated towards its luma Y,
    noisy, and compressed. Every item draws its own values, each uniform in its range.

    The ranges are set so that pairs of bundled photos look, in numbers, like the 396 real pairs of
    an iPhone 3GS and a Canon 70D in the PIRM 2018 subset (in brackets): 17.0 dB between the two
    (17.3), 0.75 of the luma (0.74), 0.63 of the gradient (0.61), 19.4 dB after the best affine
    colour map (20.4). They are no model of one sensor.

    Args:
        shift: Largest displacement along each axis, in pixels, not whole ones; what comes in at a
            border repeats the border, so cut a margin where that would show.
        blur: Standard deviation w of the Gaussian, in pixels.
        exposure: In stops: the light is multiplied by 2^exposure.
        balance: Further gain of every channel on its own, around 1.
        gamma: Exponent of the tone curve; above 1 darkens.
        saturation: Share c of the colour that is left; 1 keeps it.
        noise: Standard deviation at mid-grey, on 8-bit levels.
        shot: Share of the noise's variance that grows with the light (Poisson); the rest is
            Gaussian and the same everywhere.
        quality: Of the JPEG, whole numbers in 1..100.

    Raises:
        ValueError: If a range is not (low, high) with low <= high, or leaves what its unit allows.

    Example:
        >>> sample = {"clean": torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))}
        >>> taken = Phone()(sample, torch.Generator().manual_seed(0))
        >>> sorted(taken)
        ['blur', 'clean', 'degraded', 'gain', 'gamma', 'noise_level', 'quality', 'saturation', \
'shift']
        >>> taken["degraded"].shape, taken["gain"].shape, taken["shift"].shape
        (torch.Size([2, 3, 32, 32]), torch.Size([2, 3, 1, 1]), torch.Size([2, 2, 1, 1]))
        >>> Phone(blur=(1.2, 0.5))
        Traceback (most recent call last):
        ValueError: blur is (1.2, 0.5); expected a finite number or a pair (low, high), low <= high

    Source: no paper's; a stand-in for DPED (Ignatov et al., ICCV 2017), whose 100 x 100 patches
    differ by 0 px in 38 % of the pairs, 1 px in 49 %, and more in the rest.
    """

    shift: float = 2.0
    blur: float | Range = (0.5, 1.2)
    exposure: float | Range = (-0.3, 0.2)
    balance: float | Range = (0.93, 1.07)
    gamma: float | Range = (1.2, 1.7)
    saturation: float | Range = (0.6, 1.1)
    noise: float | Range = (2.0, 6.0)
    shot: float = 0.5
    quality: int | tuple[int, int] = (70, 90)

    def __post_init__(self) -> None:
        interval("exposure", self.exposure)
        for name, lowest in _LOWEST.items():
            low, _ = interval(name, getattr(self, name))
            if low < lowest:
                raise ValueError(f"{name} is {getattr(self, name)!r}; expected {lowest} or more")
        if not (0 <= self.shift < math.inf):
            raise ValueError(f"shift is {self.shift!r}; expected 0 or more, in pixels")
        if not 0 <= self.shot <= 1:
            raise ValueError(f"shot is {self.shot!r}; expected a share from 0 to 1")
        Jpeg(self.quality)

    @property
    def neutral(self) -> Mapping[str, float]:
        """The factors of a camera that changes nothing.

        Returns:
            shift 0 (rows down, columns right, in pixels), blur 0, gain 1 per channel, gamma 1,
            saturation 1, noise_level 0 (at mid-grey, in the unit of the picture), quality 100.
        """
        return {
            "shift": 0.0,
            "blur": 0.0,
            "gain": 1.0,
            "gamma": 1.0,
            "saturation": 1.0,
            "noise_level": 0.0,
            "quality": 100.0,
        }

    @property
    def reach(self) -> int:
        """How far a pixel of the result looks, in pixels: the margin to cut off where it counts."""
        return math.ceil(self.shift) + 2 + _radius(interval("blur", self.blur)[1])

    def __call__(self, sample: Sample, generator: torch.Generator) -> Sample:
        """Photograph every item.

        Args:
            sample: Holds `clean` or `degraded`, (B, 1, H, W) or (B, 3, H, W), in [0, 1].
            generator: Draws on its own device.

        Returns:
            A new sample with `degraded` in [0, 1] on the 256 levels of 8 bits, and the factors of
            `neutral`, (B, 1, 1, 1) each; shift is (B, 2, 1, 1) and gain (B, C, 1, 1).

        Raises:
            ValueError: If the picture has neither one nor three channels.

        Example:
            >>> Phone()({"clean": torch.zeros(1, 2, 8, 8)}, torch.Generator())
            Traceback (most recent call last):
            ValueError: the picture has 2 channels; a phone takes 1 or 3
        """
        picture = source(sample)
        if picture.shape[1] not in (1, 3):
            raise ValueError(f"the picture has {picture.shape[1]} channels; a phone takes 1 or 3")
        f = self._factors(picture, generator)
        optical = _blurred(_moved(picture, f["shift"]), f["blur"])
        toned = (optical * f["gain"]).clamp(0, 1) ** f["gamma"]
        grey = luma(toned) if picture.shape[1] == 3 else toned
        seen = grey + f["saturation"] * (toned - grey)
        noise = torch.randn(picture.shape, generator=generator, device=generator.device)
        spread = f["noise_level"] * (1 - self.shot + 2 * self.shot * seen.clamp_min(0)).sqrt()
        noisy = (seen + spread * noise.to(picture)).clamp(0, 1)
        return Jpeg(self.quality)({**sample, **f, "degraded": noisy}, generator)

    def _factors(self, picture: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        count, channels = picture.shape[:2]

        def draw(bounds: float | Range, columns: int = 1) -> Tensor:
            low, high = interval("range", bounds)
            share = torch.rand(count, columns, generator=generator, device=generator.device)
            return (low + (high - low) * share).to(picture)[..., None, None]

        exposure = 2 ** draw(self.exposure)
        return {
            "shift": draw((-self.shift, self.shift), 2),
            "blur": draw(self.blur),
            "gain": exposure * draw(self.balance, channels),
            "gamma": draw(self.gamma),
            "saturation": draw(self.saturation),
            "noise_level": factor(draw(self.noise).flatten() / 255, picture),
        }


def _moved(picture: Tensor, shift: Tensor) -> Tensor:
    """x(. - d) by Keys' cubic, the border repeated."""
    reach = math.ceil(float(shift.abs().max())) + 2
    taps = torch.arange(-reach, reach + 1, device=picture.device, dtype=picture.dtype)
    distance = (taps - shift[..., 0]).abs()  # (B, 2, taps)
    near = 1.5 * distance**3 - 2.5 * distance**2 + 1
    far = -0.5 * distance**3 + 2.5 * distance**2 - 4 * distance + 2
    weights = torch.where(distance <= 1, near, torch.where(distance < 2, far, 0.0))
    return _filtered(picture, weights[:, 0], weights[:, 1])


def _blurred(picture: Tensor, width: Tensor) -> Tensor:
    reach = _radius(float(width.max()))
    taps = torch.arange(-reach, reach + 1, device=picture.device, dtype=picture.dtype)
    # Below a tenth of a pixel the neighbours' weights are 0 in float32: no blur.
    weights = torch.exp(-0.5 * (taps / width[:, :, 0, 0].clamp_min(0.05)) ** 2)
    weights = weights / weights.sum(1, keepdim=True)
    return _filtered(picture, weights, weights)


def _radius(width: float) -> int:
    return math.ceil(4 * width)


def _filtered(picture: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Each item by its own two kernels, (B, taps) each; a positive tap reaches up and left."""
    count, channels, height, width = picture.shape
    reach = rows.shape[1] // 2
    padded = F.pad(picture, (reach,) * 4, mode="replicate")
    flat = padded.reshape(1, count * channels, height + 2 * reach, width + 2 * reach)
    # conv2d correlates: kernels are turned so that weight k moves the picture by k pixels.
    down = rows.flip(1).repeat_interleave(channels, 0)[:, None, :, None]
    across = columns.flip(1).repeat_interleave(channels, 0)[:, None, None, :]
    done = F.conv2d(F.conv2d(flat, down, groups=len(down)), across, groups=len(down))
    return done.reshape(picture.shape)
