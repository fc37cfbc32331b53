"""Your own photo through a PRaD generator, or through one of the official networks."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from enhancelib import images, runtime, weights
from enhancelib.papers.parameters import ParameterError
from enhancelib.papers.prad import official

DEFAULT = "prad_s.safetensors"
"""The network in data/weights that is used where no other is named."""
TILE = 512  # pixels


def enhance(image: Tensor, file: Path | None = None) -> Tensor:
    """Enhance a photo, tile by tile where the network allows it.

    Args:
        image: (3, H, W) or (1, H, W) in [0, 1], of any size; a grey photo goes in as three equal
            channels and comes out in colour.
        file: A generator that this project saved, or an official network of DPED or PPCN; None
            means `DEFAULT` in data/weights.

    Returns:
        (3, H, W) in [0, 1], on the CPU.

    Raises:
        WeightsError: If the file is absent or holds no such network.
        ImageError: If the picture has another shape.

    Example:
        >>> enhance(torch.zeros(3, 8, 8), Path("/nowhere/model.safetensors"))
        Traceback (most recent call last):
        enhancelib.weights.formats.WeightsError: /nowhere/model.safetensors: no such file
        >>> enhance(torch.zeros(8, 8))
        Traceback (most recent call last):
        enhancelib.images.ImageError: picture has shape (8, 8); expected (3, H, W) or (1, H, W)

    Departs: networks with instance normalisation (DPED, PPCN) look at the whole photo at once and
    cannot be tiled; they need memory for all of it.
    """
    if image.dim() != 3 or image.shape[0] not in (1, 3) or not image.numel():
        shape = tuple(image.shape)
        raise images.ImageError(f"picture has shape {shape}; expected (3, H, W) or (1, H, W)")
    network, picture = _load(file), image.expand(3, -1, -1)
    device = runtime.setup().device
    network.to(device)
    if getattr(network, "tiling", None) or getattr(network, "receptive_field", None):
        return images.clip(images.tiled(network, picture, tile=TILE))
    with torch.inference_mode():
        restored = network(picture[None].to(device))[0].float().cpu()
    return images.clip(restored)


def shipped(folder: Path | None = None) -> nn.Module:
    """The network that this project ships.

    Args:
        folder: Where it lies; None means data/weights.

    Returns:
        The generator, in eval mode.

    Raises:
        WeightsError: If it is not there.

    Example:
        >>> len(shipped().widths)
        3
        >>> shipped(Path("/nowhere"))
        Traceback (most recent call last):
        enhancelib.weights.formats.WeightsError: /nowhere/prad_s.safetensors is not there; ...
    """
    path = (folder or runtime.data("weights")) / DEFAULT
    if not path.is_file():
        raise weights.WeightsError(
            f"{path} is not there; name another network with --weights FILE, or train this one "
            "with `python -m enhancelib.training enhancelib.papers.prad.ship:train`"
        )
    return weights.load("prad", path)


def _load(path: Path | None) -> nn.Module:
    if path is None:
        return shipped()
    if path.suffix == ".safetensors" or not path.exists():
        return weights.load("prad", path)
    try:
        listed = official.files(str(path))
    except ParameterError as error:
        raise weights.WeightsError(str(error)) from error
    if len(listed) > 1:
        names = ", ".join(file.name for _, file in listed.values())
        raise weights.WeightsError(f"{path} holds several networks; name one file of {names}")
    ((model, found),) = listed.values()
    return weights.load(model, found)
