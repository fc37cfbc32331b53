"""The memory that the framework takes for one photo, told before anything is computed."""

from __future__ import annotations

from enhancelib import capacity
from enhancelib.models.skip import SETTINGS, Setting

LIMIT = 800
"""Photos with a side this long or longer are decomposed at a part of their size; Double-DIP's."""
LEAST = 33
"""Smallest side that networks of five scales take."""
VGG = 3400
"""Bytes per pixel that VGG19, up to the layers of L_PE or L_AE, keeps for the backward pass."""
_PAIRS = 240  # bytes per pixel of L-BFGS' 10 pairs of steps and gradients
_FILTER = 900  # bytes per pixel of the guided filter, and of smooth local affine maps
_TABLE = 16 * 65**4  # bytes of the tables of a contextual loss, which is made in pieces of this


def worked(size: tuple[int, int], corruption: str) -> tuple[int, int]:
    """The size in which the networks of CFE see a photo.

    Args:
        size: (height, width).
        corruption: "haze" or "noise".

    Returns:
        (height, width); a half, a third, ... of a large hazy photo.

    Example:
        >>> worked((900, 1200), "haze"), worked((900, 1200), "noise")
        ((450, 600), (900, 1200))
    """
    part = max(size) // LIMIT + 1 if corruption == "haze" else 1
    return size[0] // part, size[1] // part


def content(size: tuple[int, int], corruption: str, setting: Setting, *, context: bool) -> int:
    """The memory of CFE.

    Args:
        size: (height, width) of the photo.
        corruption: "haze" or "noise".
        setting: Network of the reconstruction.
        context: Whether the contextual content loss is used, for haze.

    Returns:
        Bytes, roughly.

    Example:
        >>> small, large = (
        ...     content((side, side), "noise", SETTINGS["small"], context=False)
        ...     for side in (200, 400)
        ... )
        >>> 3 * small < large < 5 * small
        True
    """
    if corruption == "noise":
        return _network(setting, size)
    small = worked(size, corruption)
    kinds = ("image", "mask", "airlight")
    networks = sum(_network(SETTINGS[f"double_dip_{kind}"], small) for kind in kinds)
    loss = VGG * small[0] * small[1] + _TABLE if context else 0
    return max(networks + loss, _FILTER * size[0] * size[1])


def style(size: tuple[int, int]) -> int:
    """The memory of SFE.

    Args:
        size: (height, width) of the photo.

    Returns:
        Bytes, roughly.

    Example:
        >>> round(style((480, 640)) / 1e9, 1)
        1.4
    """
    return (VGG + _PAIRS) * size[0] * size[1] + _TABLE


def _network(setting: Setting, size: tuple[int, int]) -> int:
    height, width = (max(LEAST, side) for side in size)
    channels = setting.network.get("inputs", 32)
    return capacity.needed(setting.build(), (1, int(channels), height, width))
