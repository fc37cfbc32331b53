"""Classical filters on batches of pictures (B, C, H, W), float32 or float64."""

from enhancelib.filters.guided import box, guided_filter, percent_stretch
from enhancelib.filters.haze import (
    airlight,
    dark_channel,
    dark_channel_dehaze,
    invert_haze,
    soft_matting,
)

__all__ = [
    "airlight",
    "box",
    "dark_channel",
    "dark_channel_dehaze",
    "guided_filter",
    "invert_haze",
    "percent_stretch",
    "soft_matting",
]
