"""A run of seconds that trains real networks on real photos: what the soak kills in CI.

    python -m tests.arms FOLDER

Six stages, each with a checkpoint every four steps, and a table of PSNR on a held-out photo.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import skimage.data
import torch
from torch import Tensor

from enhancelib import datasets, degradations, images, losses, metrics, models, runtime, training
from enhancelib.losses import pixel
from enhancelib.recipes import Recipe
from enhancelib.results import Run

ADAM = Recipe(
    steps=48,
    batch=8,
    patch=24,
    schedule="milestones",
    milestones=(32,),
    log_every=4,
    watch_every=12,
    checkpoint_seconds=0.0,
)
SGD = replace(ADAM, optimiser="sgd", learning_rate=1e-5, clip=1.0, sub_batches=2)
NOISE = degradations.GaussianNoise(25.0)
ARMS: Mapping[str, tuple[Recipe, bool, bool]] = {
    "arm-rl1-bn1-adam-s25-seed0": (ADAM, True, True),
    "arm-rl0-bn1-adam-s25-seed0": (ADAM, False, True),
    "arm-rl1-bn0-adam-s25-seed0": (ADAM, True, False),
    "arm-rl0-bn0-adam-s25-seed0": (ADAM, False, False),
    "arm-rl1-bn1-sgd-s25-seed0": (SGD, True, True),
    "main-seed0": (replace(ADAM, schedule="cosine", final_learning_rate=1e-5), True, True),
}
OBJECTIVE = losses.Objective({"half_sse": losses.Term(1.0, pixel.half_sse)})


def photo(name: str) -> Tensor:
    """A grey photo of scikit-image, (1, H, W) in [0, 1]."""
    return images.from_uint8(torch.from_numpy(getattr(skimage.data, name)().copy())[None])


def arm(run: Run, stage: str, pool: datasets.PatchPool, held_out: Tensor) -> None:
    """Train one network and record what it does to the held-out photo."""
    recipe, residual, norm = ARMS[stage]
    network = models.build(
        "dncnn",
        D=5,
        width=8,
        norm="batch" if norm else "none",
        residual=residual,
        output_scale=0.1 if residual else 1.0,
        generator=runtime.generator(recipe.seed, "arm"),
    )
    noisy = NOISE({"clean": held_out}, runtime.generator(0, "test"))["degraded"]
    psnr = metrics.METRICS["psnr"]

    def watch(_: int) -> dict[str, float]:
        network.eval()
        with torch.inference_mode():
            restored = images.clip(network(noisy))
        return {"psnr": psnr.summary(psnr(restored, held_out))}

    history = training.fit(
        training.supervised(
            OBJECTIVE, run.runtime, sub_batches=recipe.sub_batches, clip=recipe.clip
        ),
        {"network": network, "optimiser": training.optimiser(network.parameters(), recipe)},
        datasets.synthetic(pool, NOISE, recipe.batch),
        recipe,
        run,
        stage=stage,
        watch=watch,
    )
    for name, values in history.values.items():
        for step, value in zip(history.steps[name], values, strict=True):
            run.record(dataset="curve", method=stage, metric=name, value=value, setting=f"{step}")
    run.record(dataset="curve", method=stage, metric="seconds", value=history.seconds, timed=True)


def main(folder: str) -> None:
    """Train all arms into a run folder, or go on with them."""
    run = Run("arms", "smoke", {"seed": 0}, Path(folder), runtime.setup("cpu"))
    pool = datasets.PatchPool((photo(name) for name in ("camera", "brick", "grass")), ADAM.patch)
    held_out = photo("coins")[None, :, 64:160, 64:160]
    for stage in ARMS:
        arm(run, stage, pool, held_out)
    run.finish()


if __name__ == "__main__":
    main(sys.argv[1])
