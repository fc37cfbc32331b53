"""What the explore panel shows: a photo made noisy and restored, computed at every change."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor, nn

from enhancelib import images, metrics, models, photos, runtime, weights
from enhancelib.papers.dncnn import data, figures
from enhancelib.papers.dncnn.enhance import DEFAULT
from enhancelib.papers.dncnn.sections import Networks
from enhancelib.papers.dncnn.settings import Parameters
from enhancelib.papers.dncnn.study import Arm, Trained

Render = Callable[..., tuple[Tensor, Tensor, str]]


def variants(p: Parameters, arms: Mapping[Arm, Trained], found: Networks) -> dict[str, nn.Module]:
    """The networks that the panel offers.

    Args:
        p: The parameters.
        arms: Trained arms of the ablation; those of the first seed under Adam are offered.
        found: Networks of the training section, and official ones where given.

    Returns:
        Name -> network, arranged for inference.
    """
    offered: dict[str, nn.Module] = {}
    if (shipped := runtime.data("weights") / DEFAULT).is_file():
        offered["colour, blind (data/weights)"] = models.fast(weights.load("dncnn", shipped))
    offered["training section"] = models.fast(found.main[p.seed].network)
    for arm, one in arms.items():
        if arm.seed == p.seed and arm.optimiser == "adam":
            offered[f"ablation: {arm.method.split(',')[0]}"] = models.fast(one.network)
    offered |= {f"official {role}": network for role, network in found.official.items()}
    return offered


def pictures(p: Parameters) -> dict[str, Callable[[], Tensor]]:
    """The bundled photos that the panel offers.

    Args:
        p: The profile sets their size.

    Returns:
        Name -> loader of the photo's middle square, reduced to (3, side, side).
    """
    side = figures.side(p)
    listed = (*photos.names("test", bundled=True), *photos.names("validation", bundled=True))
    return {name: partial(_square, name, side) for name in listed}


def _square(name: str, side: int) -> Tensor:
    photo = photos.load(name)
    square = data.crop(photo, min(photo.shape[1:]))
    return images.clip(images.resize(square, size=(side, side)))


def renderer(networks: Mapping[str, nn.Module]) -> Render:
    """The panel's render function.

    Args:
        networks: Name -> network; one for grey pictures restores the channels one by one, one for
            colour takes a grey picture as three equal channels.

    Returns:
        (picture (C, H, W), sigma=, network=) -> (noisy, restored, caption).
    """
    psnr = metrics.METRICS["psnr"]

    def render(picture: Tensor, *, sigma: float, network: str) -> tuple[Tensor, Tensor, str]:
        if picture.shape[0] == 1:
            picture = picture.expand(int(networks[network].c), -1, -1)  # type: ignore[arg-type]
        noise = torch.randn(picture.shape, generator=runtime.generator(0, "explore"))
        y = picture + noise * (sigma / 255)
        restored = _restore(networks[network], y)
        before, after = (float(psnr(images.clip(z), picture)) for z in (y, restored))
        return images.clip(y), restored, f"PSNR {before:.2f} → {after:.2f} dB"

    return render


def _restore(network: nn.Module, y: Tensor) -> Tensor:
    device = next(network.parameters()).device
    batch = y[None] if int(network.c) == y.shape[0] else y[:, None]  # type: ignore[arg-type]
    with torch.inference_mode():
        restored = network(batch.to(device)).cpu()
    return images.clip(restored.reshape(y.shape))
