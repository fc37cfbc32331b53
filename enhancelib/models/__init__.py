"""The one dict of networks.

`forward(degraded) -> restored` is unclamped and keeps the size; residuals, maps and stage outputs
come from a network's `outputs(...)`. Options carry the paper's symbols.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from enhancelib.models.aodnet import AODNet
from enhancelib.models.backbones import GridNet, Johnson, RSGUNet, unet
from enhancelib.models.dncnn import DnCNN
from enhancelib.models.dped import DPED, SRCNN, DPEDDiscriminator
from enhancelib.models.inference import fast, fold
from enhancelib.models.mscnn import MSCNN
from enhancelib.models.pcakd import PCAKD
from enhancelib.models.pieapp import PieAPP
from enhancelib.models.ppcn import PPCN
from enhancelib.models.prad import Discriminator, Generator
from enhancelib.models.skip import Skip
from enhancelib.models.wct2 import WCT2

__all__ = ["MODELS", "build", "fast", "fold"]

MODELS: dict[str, Callable[..., nn.Module]] = {
    "aodnet": AODNet,
    "dilie": Skip,
    "dncnn": DnCNN,
    "dped": DPED,
    "dped.discriminator": DPEDDiscriminator,
    "gridnet": GridNet,
    "johnson": Johnson,
    "mscnn": MSCNN,
    "pcakd": PCAKD,
    "pieapp": PieAPP,
    "ppcn": PPCN,
    "prad": Generator,
    "prad.discriminator": Discriminator,
    "rsgunet": RSGUNet,
    "srcnn": SRCNN,
    "unet": unet,
    "wct2": WCT2,
}
"""Name -> builder; "paper" is the network a user applies to a photo, "paper.part" another one."""


def build(name: str, **options: Any) -> nn.Module:  # noqa: ANN401 - each network checks its own
    """Make a freshly initialised network by name.

    Args:
        name: A key of `MODELS`.
        **options: The network's own options, in the paper's symbols.

    Returns:
        The network, in training mode.

    Raises:
        ValueError: If the name is unknown, or the network does not know or refuses an option.

    Example:
        >>> build("dncnn", D=20).receptive_field
        41
        >>> build("dcnn")
        Traceback (most recent call last):
        ValueError: model is 'dcnn'; expected one of ...
    """
    if name not in MODELS:
        raise ValueError(f"model is {name!r}; expected one of {', '.join(sorted(MODELS))}")
    try:
        return MODELS[name](**options)
    except TypeError as error:  # Python's own words name the option that is not there
        raise ValueError(f"model {name!r} refuses its options: {error}") from error
