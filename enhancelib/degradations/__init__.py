"""How pictures get worse: each degradation adds `degraded` and the factors that made it.

A degradation is a frozen dataclass, called as `GaussianNoise(25.0)(sample, generator)` on a batch;
`Chain` and `OneOf` combine them.
"""

from enhancelib.degradations.composition import Chain, OneOf
from enhancelib.degradations.compression import Jpeg
from enhancelib.degradations.haze import Haze
from enhancelib.degradations.noise import GaussianNoise
from enhancelib.degradations.phone import Phone
from enhancelib.degradations.resolution import Bicubic, modcrop
from enhancelib.degradations.sample import Degradation, Sample

__all__ = [
    "Bicubic",
    "Chain",
    "Degradation",
    "GaussianNoise",
    "Haze",
    "Jpeg",
    "OneOf",
    "Phone",
    "Sample",
    "modcrop",
]
