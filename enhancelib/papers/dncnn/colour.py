"""The network that `enhancelib enhance dncnn` applies by default: blind, colour, trained here.

It is the paper's CDnCNN-B with 15 layers instead of 20 and without batch normalisation (as the
authors' later FDnCNN), so that a photo takes seconds on a CPU, trained on the bundled photo bank.
One command trains it, and goes on where it stopped:

    python -m enhancelib.training enhancelib.papers.dncnn.colour:train

Departs: L1 on the restored image instead of the paper's halved squared error, so that patches with
little noise count too (the authors' own later choice); Adam with a cosine schedule; patches of 48
pixels in batches of 16; bfloat16 autocast in training where asked for, float32 in every
measurement.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from enhancelib import (
    datasets,
    degradations,
    images,
    metrics,
    models,
    photos,
    results,
    runtime,
    training,
)
from enhancelib.losses import pixel
from enhancelib.recipes import Recipe

OPTIONS: Mapping[str, Any] = {"D": 15, "c": 3, "norm": "none", "residual": True}
NOISE = degradations.GaussianNoise((0.0, 55.0))
SCALES = (1.0, 0.5, 0.25)
SIGMAS = (15, 25, 50)
RECIPE = Recipe(
    steps=14_000,
    batch=16,
    patch=48,
    learning_rate=5e-4,
    final_learning_rate=1e-6,
    schedule="cosine",
    clip=1.0,
    watch_every=1000,
    log_every=50,
    checkpoint_seconds=60.0,
)
FILE = "dncnn_colour_blind.safetensors"


def train(
    out: str = "", steps: str = str(RECIPE.steps), threads: str = "2", precision: str = "bf16"
) -> None:
    """Train the network, or go on with it, and put it with its card into data/weights.

    Args:
        out: Run folder; "" means runs/dncnn/colour.
        steps: Optimiser steps.
        threads: CPU threads.
        precision: "fp32" or "bf16".
    """
    from dataclasses import replace

    recipe = replace(RECIPE, steps=int(steps))
    machine = runtime.setup(threads=int(threads), precision=precision)
    folder = Path(out) if out else runtime.root() / "runs" / "dncnn" / "colour"
    run = results.Run("dncnn", "colour", asdict(recipe), folder, machine, across_versions=True)
    start = run.once("start", lambda: dict(runtime.environment(machine)))
    network = _network(recipe.seed, machine.device)
    pool = datasets.PatchPool(
        datasets.pyramid((photos.load(name) for name in photos.names("train")), SCALES),
        recipe.patch,
        device=machine.device,
    )
    history = training.fit(
        training.supervised(_l1, machine, clip=recipe.clip),
        {"network": network, "optimiser": training.optimiser(network.parameters(), recipe)},
        datasets.synthetic(pool, NOISE, recipe.batch),
        recipe,
        run,
        watch=lambda _: _watch(network),
    )
    card = _card(run, network, recipe, start, history.seconds)
    from enhancelib import weights

    path = runtime.root() / "data" / "weights" / FILE
    weights.save(network, path, name="dncnn", options=dict(OPTIONS), card=card)
    results.write_text(path.with_suffix(".json"), json.dumps(card, indent=1) + "\n")
    print(f"{path}: {json.dumps(card['psnr'])}")


def _l1(sample: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    return pixel.l1(sample["output"], sample["clean"]), {}


def _network(seed: int, device: torch.device) -> nn.Module:
    network = models.build(
        "dncnn",
        **OPTIONS,
        initialisation="he",
        output_scale=0.1,
        generator=runtime.generator(seed, "initialisation"),
    )
    return network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def _watch(network: nn.Module) -> dict[str, float]:
    pictures = {k: _centre(v, 192) for k, v in photos.bank("validation").items()}
    quick = models.fast(network)
    return {f"psnr{sigma}": _psnr(quick, pictures, sigma)[0] for sigma in (0, *SIGMAS)}


def _psnr(network: nn.Module, pictures: Mapping[str, Tensor], sigma: int) -> tuple[float, float]:
    """Mean PSNR over pictures of the network and of the noisy input."""
    metric, ours, noisy = metrics.METRICS["psnr_8bit"], [], []
    for name, clean in pictures.items():
        generator = runtime.generator(0, name, sigma)
        y = degradations.GaussianNoise(float(sigma))({"clean": clean[None]}, generator)["degraded"]
        with torch.inference_mode():
            restored = images.clip(network(y))
        ours.append(metric(restored, clean[None]))
        noisy.append(metric(images.clip(y), clean[None]))
    return metric.summary(torch.cat(ours)), metric.summary(torch.cat(noisy))


def _centre(image: Tensor, side: int) -> Tensor:
    top, left = ((n - min(n, side)) // 2 for n in image.shape[-2:])
    return image[:, top : top + side, left : left + side]


def _card(
    run: results.Run,
    network: nn.Module,
    recipe: Recipe,
    start: Mapping[str, Any],
    seconds: float,
) -> dict[str, Any]:
    """What a user must know of the network: recipe, data, figures beside colour BM3D, commit."""
    quick = models.fast(network)
    pictures = {k: _centre(v, 256) for k, v in photos.bank("test").items()}
    psnr: dict[str, Any] = {}
    for sigma in (0, *SIGMAS):
        ours, noisy = _psnr(quick, pictures, sigma)
        row = {"network": _decibels(ours), "noisy": _decibels(noisy)}
        if sigma:
            cbm3d = run.once(f"cbm3d {sigma}", partial(_cbm3d, pictures, sigma))
            row |= {"cbm3d": _decibels(cbm3d), "gap": _decibels(ours - cbm3d)}
        psnr[f"sigma={sigma}"] = row
    return {
        "network": "DnCNN, blind, colour, residual, no batch normalisation",
        "options": dict(OPTIONS),
        "parameters": sum(p.numel() for p in network.parameters()),
        "recipe": asdict(recipe),
        "loss": "l1 on the restored image",
        "noise": f"Gaussian, sigma uniform in {NOISE.sigma} (8-bit units), unclipped",
        "data": "photo bank, split train, at scales " + ", ".join(map(str, SCALES)),
        "photos": list(photos.names("train")),
        "test": {"photos": sorted(pictures), "crop": "centre 256 x 256", "seed": 0},
        "protocol": metrics.METRICS["psnr_8bit"].protocol,
        "psnr": psnr,
        "environment": dict(start),
        "finished_at": runtime.commit()[0],
        "seconds": round(seconds),
        "licence": "Apache-2.0",
    }


def _decibels(value: float) -> float | None:
    """JSON has no infinity: a picture without noise has no PSNR."""
    return round(value, 3) if math.isfinite(value) else None


def _cbm3d(pictures: Mapping[str, Tensor], sigma: int) -> float:
    return _psnr(cast(nn.Module, _Bm3d(sigma)), pictures, sigma)[0]


class _Bm3d:
    """Colour BM3D at a known noise level, called like a network."""

    def __init__(self, sigma: float) -> None:
        self.sigma = sigma

    def __call__(self, y: Tensor) -> Tensor:
        from enhancelib.papers.dncnn import baselines

        return baselines.bm3d(y[0], self.sigma)[None]
