"""An adversarial run of seconds with all that such a run may remember: what kills are tried on.

    python -m tests.games FOLDER

A pair-wise critic with batch normalisation and running moments, an image pool and an adaptive
penalty; two critic updates, each on items of its own. Two stages, a checkpoint every other step.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from enhancelib import adversarial, datasets, degradations, losses, models, runtime, training
from enhancelib.checkpoints import Keeper
from enhancelib.losses import pixel
from enhancelib.losses.adversarial import FORMS, gradient_penalty
from enhancelib.recipes import Recipe
from enhancelib.results import Run
from tests.arms import photo

RECIPE = Recipe(steps=24, batch=12, patch=16, betas=(0.5, 0.9), log_every=2, checkpoint_seconds=0.0)
BATCHES = datasets.synthetic(
    datasets.PatchPool([photo("camera"), photo("coins")], RECIPE.patch),
    degradations.GaussianNoise(25.0),
    RECIPE.batch,
)


class Pairwise(nn.Module):
    """A critic of (degraded, restored), with a head that no loss looks at."""

    def __init__(self, norm: bool = True) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(2, 6, 4, stride=2),
            nn.BatchNorm2d(6) if norm else nn.Identity(),
            nn.LeakyReLU(0.2),
        )
        self.score, self.spare = nn.Conv2d(6, 1, 7), nn.Linear(6, 2)

    def forward(self, degraded: Tensor, picture: Tensor) -> Tensor:
        score: Tensor = self.score(self.body(torch.cat([degraded, picture], 1)))
        return score.flatten()


def parts(seed: int = 0, norm: bool = True) -> dict[str, Any]:
    """Two players, their optimisers and their memories, before the first step."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        critic = Pairwise(norm)
    restorer = models.build(
        "dncnn", D=4, width=6, norm="batch", generator=runtime.generator(seed, "restorer")
    )
    return {
        "generator": restorer,
        "critic": critic,
        "generator_optimiser": training.optimiser(restorer.parameters(), RECIPE),
        "critic_optimiser": training.optimiser(critic.parameters(), RECIPE),
        "pool": adversarial.ImagePool(6, keys=("degraded", "output")),
        "balance": adversarial.AdaptiveWeight(1.0, window=3),
    }


def step(machine: runtime.Runtime) -> training.Step:
    """Wasserstein, penalty on the text's mean gradient norm."""
    judge, form = adversarial.judging("degraded"), FORMS["wasserstein"]
    objective = losses.Objective(
        {
            "half_sse": losses.Term(1e-2, pixel.half_sse),
            "adversarial": losses.Term(1e-2, form.generator, of=("real_scores", "fake_scores")),
        }
    )
    critic = adversarial.critic_step(
        form,
        judge,
        machine,
        penalty=partial(gradient_penalty, one_sided=True, power=1),
        penalty_weight="balance",
        measure=partial(gradient_penalty, target=0.0, power=1),
        pool="pool",
        clip=5.0,
    )
    generator = adversarial.generator_step(objective, machine, judge=judge, clip=5.0)
    return training.adversarial(generator, critic, critic_updates=2, fresh=True)


def train(run: Keeper, stage: str, found: dict[str, Any], recipe: Recipe = RECIPE) -> Any:
    """One game, from its checkpoint where there is one."""
    return training.fit(step(run.runtime), found, BATCHES, recipe, run, stage=stage)


def main(folder: str) -> None:
    """Play both stages into a run folder, or go on with them."""
    run = Run("arms", "smoke", {"seed": 0}, Path(folder), runtime.setup("cpu"))
    for seed in (0, 1):
        recipe = replace(RECIPE, steps=40, log_every=4, seed=seed)
        history = train(run, f"game-seed{seed}", parts(seed), recipe)
        for name, values in history.values.items():
            for at, value in zip(history.steps[name], values, strict=True):
                run.record(
                    dataset="curve", method=f"game{seed}", metric=name, value=value, setting=f"{at}"
                )
    run.finish()


if __name__ == "__main__":
    main(sys.argv[1])
