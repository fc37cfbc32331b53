"""Training and measuring: the arms of the ablations, the networks of the sections, their scores.

Every training goes through `training.fit` under a stage name of its own, so that a run which was
cut short goes on with the arm it was in.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from enhancelib import datasets, degradations, images, losses, metrics, models, runtime, training
from enhancelib.papers.dncnn import data
from enhancelib.papers.dncnn.settings import (
    BLIND,
    SCALES,
    Parameters,
    depth,
    hours,
    main_recipe,
)
from enhancelib.recipes import Recipe
from enhancelib.results import Run
from enhancelib.training import History

Restore = Callable[[Tensor], Tensor]
OBJECTIVE = losses.Objective({"half_sse": losses.Term(1.0, losses.pixel.half_sse)})
METRICS = ("psnr_8bit", "ssim_8bit")
BLIND_ARM = "blind"


@dataclass(frozen=True)
class Arm:
    """One way to train the small network of the ablations.

    Args:
        residual: Predict the noise (R) or the picture (F).
        norm: With batch normalisation or without.
        optimiser: "adam" or "sgd".
        sigma: Noise level, or a range for a blind network.
        seed: Of initialisation and samples.
    """

    residual: bool
    norm: bool
    optimiser: str
    sigma: float | tuple[float, float]
    seed: int

    @property
    def method(self) -> str:
        """How tables and figures call it.

        Returns:
            Such as "residual + BN, Adam".
        """
        name = ("residual" if self.residual else "direct") + (" + BN" if self.norm else "")
        return f"{name}, {'Adam' if self.optimiser == 'adam' else 'SGD'}"

    @property
    def stage(self) -> str:
        """Its name among the checkpoints.

        Returns:
            Such as "arm-rl1-bn0-adam-s25-seed0".
        """
        level = f"{self.sigma:g}" if isinstance(self.sigma, float) else BLIND_ARM
        return f"arm-rl{self.residual:d}-bn{self.norm:d}-{self.optimiser}-s{level}-seed{self.seed}"


@dataclass(frozen=True)
class Trained:
    """A trained network and its curves.

    Args:
        network: In eval mode.
        history: Curves of the training.
    """

    network: nn.Module
    history: History


class Study:
    """All trainings of one run, on one pool of patches.

    Args:
        run: Where checkpoints and numbers go.
        p: The parameters.
    """

    def __init__(self, run: Run, p: Parameters) -> None:
        self.run, self.p, self.scale = run, p, SCALES[p.profile]
        self.device = run.runtime.device
        self._trained: dict[str, Trained] = {}
        self._pools: dict[tuple[str, int], datasets.PatchPool] = {}
        self.watched = data.validation(p).to(self.device)

    def leaves_out(self, section: str) -> bool:
        """Whether a section that trains many networks is left out at this profile; says so.

        Args:
            section: Its name.

        Returns:
            True at profile "paper" with tables "main": there each arm is a training of hours.
        """
        out = self.p.profile == "paper" and self.p.tables != "all"
        if out:
            spent = hours("paper", "all") - hours("paper", "main")
            print(
                f"{section}: not run at this profile; with tables='all' all such sections take "
                f"about {spent:g} hours on one GPU"
            )
        return out

    def arm(self, arm: Arm) -> Trained:
        """Train one arm, or load it where it is finished.

        Args:
            arm: Which one.

        Returns:
            The network and its curves; "psnr" is measured on validation crops.
        """
        recipe = replace(self.scale.arm, optimiser=arm.optimiser, seed=arm.seed)
        if arm.optimiser == "sgd":
            recipe = replace(recipe, learning_rate=self.scale.sgd_rate, clip=1.0)
        network = self._network(arm.residual, arm.norm, arm.seed)
        noise = degradations.GaussianNoise(arm.sigma)
        shown = arm.sigma if isinstance(arm.sigma, float) else 25.0
        return self._fit(network, noise, recipe, arm.stage, self._watch(network, shown))

    def main(self, seed: int) -> Trained:
        """Train the network of the training section.

        Departs: the paper's SGD with rate 0.1 diverges at the second step when the loss is summed
        over a patch (Eq. 5), and from He's initialisation also when it is averaged over pixels; so
        under recipe "paper" the rate belongs to the average over pixels, and networks start as in
        the released code.

        Args:
            seed: Of initialisation and samples.

        Returns:
            The network and its curves.
        """
        p, recipe = self.p, replace(main_recipe(self.p), seed=seed)
        own = not recipe.certainty
        network = models.build(
            "dncnn",
            D=depth(p),
            c=3 if p.variant == "C" else 1,
            width=self.scale.main_width,
            initialisation="he" if own else "official",
            momentum=1.0 if p.recipe == "official" else 0.1,
            output_scale=0.1 if own else 1.0,
            generator=runtime.generator(seed, "main"),
        )
        watch = self._watch(network, p.sigma) if p.variant != "C" else None
        return self._fit(network, task(p.variant, p.sigma), recipe, f"main-seed{seed}", watch)

    def three(self, seed: int) -> Trained:
        """Train one small network for noise, super-resolution and JPEG: DnCNN-3.

        Args:
            seed: Of initialisation and samples.

        Returns:
            The network and its curves.
        """
        steps = self.scale.three_steps
        recipe = replace(self.scale.arm, steps=steps, milestones=(steps * 4 // 5,), seed=seed)
        network = self._network(True, False, seed)
        watch = self._watch(network, 25.0)
        return self._fit(network, task("3", 25.0), recipe, f"three-seed{seed}", watch)

    def _network(self, residual: bool, norm: bool, seed: int) -> nn.Module:
        return models.build(
            "dncnn",
            D=self.scale.D,
            width=self.scale.width,
            norm="batch" if norm else "none",
            residual=residual,
            output_scale=0.1 if residual else 1.0,
            generator=runtime.generator(seed, "arm"),
        )

    def _fit(
        self,
        network: nn.Module,
        degradation: degradations.Degradation,
        recipe: Recipe,
        stage: str,
        watch: Callable[[int], Mapping[str, float]] | None,
    ) -> Trained:
        if stage in self._trained:
            return self._trained[stage]
        network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        objective = OBJECTIVE
        if recipe.certainty and recipe.optimiser == "sgd":
            objective = objective.weighted({"half_sse": 1 / recipe.patch**2})
        history = training.fit(
            training.supervised(
                objective, self.run.runtime, sub_batches=recipe.sub_batches, clip=recipe.clip
            ),
            {"network": network, "optimiser": training.optimiser(network.parameters(), recipe)},
            datasets.synthetic(self._pool(recipe, stage), degradation, recipe.batch),
            recipe,
            self.run,
            stage=stage,
            samples=stage.split("-")[0],  # arms of one seed see the same patches and draws
            watch=watch,
        )
        return self._trained.setdefault(stage, Trained(network.eval(), history))

    def _pool(self, recipe: Recipe, stage: str) -> datasets.PatchPool:
        variant = self.p.variant if stage.startswith("main") else "S"
        key = (variant, recipe.patch)
        if key not in self._pools:
            self._pools[key] = data.pool(self.p, recipe, variant=variant, device=self.device)
        return self._pools[key]

    def _watch(self, network: nn.Module, sigma: float) -> Callable[[int], dict[str, float]]:
        clean = self.watched
        noise = torch.randn(clean.shape, generator=runtime.generator(0, "watch")).to(self.device)
        psnr = metrics.METRICS["psnr"]

        def watch(_: int) -> dict[str, float]:
            network.eval()
            with torch.inference_mode():
                restored = images.clip(network(clean + noise * (sigma / 255)))
            return {"psnr": psnr.summary(psnr(restored, clean))}

        return watch


def task(variant: str, sigma: float) -> degradations.Degradation:
    """What a variant learns to undo.

    Args:
        variant: "S", "B", "C" or "3".
        sigma: Noise level of "S", in 8-bit units.

    Returns:
        The degradation of its training samples.
    """
    if variant == "3":
        return degradations.OneOf(data.THREE)
    return degradations.GaussianNoise(sigma if variant == "S" else BLIND)


def measure(
    run: Run,
    restore: Restore,
    pictures: Mapping[str, Tensor],
    *,
    method: str,
    dataset: str,
    sigma: float,
    table: str,
    seed: int | None = None,
) -> float:
    """Denoise every picture of a set and record PSNR and SSIM per picture and in the mean.

    Args:
        run: Receives the numbers.
        restore: (1, C, H, W) -> (1, C, H, W).
        pictures: name -> (C, H, W).
        method: Whose output it is.
        dataset: Name of the set.
        sigma: Noise level in 8-bit units.
        table: Which table the numbers belong to.
        seed: Of the training, where there was one.

    Returns:
        Mean PSNR in dB.
    """
    pairs = {name: (data.noisy(clean, sigma), clean) for name, clean in pictures.items()}
    return score(
        run, restore, pairs, method=method, dataset=dataset, setting=f"sigma={sigma:g}",
        table=table, seed=seed,
    )  # fmt: skip


def score(
    run: Run,
    restore: Restore,
    pairs: Mapping[str, tuple[Tensor, Tensor]],
    *,
    method: str,
    dataset: str,
    setting: str,
    table: str,
    seed: int | None = None,
) -> float:
    """Restore every degraded picture and record PSNR and SSIM per picture and in the mean.

    Args:
        run: Receives the numbers.
        restore: (1, C, H, W) -> (1, C, H, W).
        pairs: name -> (degraded, clean), each (C, H, W).
        method: Whose output it is.
        dataset: Name of the set.
        setting: What was done to the pictures.
        table: Which table the numbers belong to.
        seed: Of the training, where there was one.

    Returns:
        Mean PSNR in dB.
    """
    values: dict[str, list[Tensor]] = {name: [] for name in METRICS}
    device = run.runtime.device
    for name, (degraded, clean) in pairs.items():
        with torch.inference_mode():
            restored = images.clip(restore(degraded[None].to(device)).cpu())
        rounded = images.from_uint8(images.to_uint8(restored))
        for key in METRICS:
            value = metrics.METRICS[key](rounded, clean[None])
            values[key].append(value)
            run.record(
                dataset=dataset, method=method, metric=key, value=float(value), seed=seed,
                image=name, setting=setting, table=table,
            )  # fmt: skip
    means = {key: metrics.METRICS[key].summary(torch.cat(found)) for key, found in values.items()}
    for key, mean in means.items():
        run.record(
            dataset=dataset, method=method, metric=key, value=mean, seed=seed, setting=setting,
            table=table,
        )  # fmt: skip
    return means["psnr_8bit"]


def each(function: Callable[[Tensor, float], Tensor], sigma: float) -> Restore:
    """A baseline for one picture as a function of a batch of one.

    Args:
        function: (C, H, W), noise level -> (C, H, W).
        sigma: The noise level it is told.

    Returns:
        (1, C, H, W) -> (1, C, H, W).
    """
    return lambda noisy: function(noisy[0].cpu(), sigma)[None]


def seconds(network: nn.Module, side: int, *, repeats: int = 3) -> float:
    """Wall-clock time of one picture, median of some.

    Args:
        network: Takes (1, 1, side, side).
        side: In pixels.
        repeats: After one unmeasured call.

    Returns:
        Seconds.
    """
    device = next(network.parameters()).device
    picture = torch.rand(1, 1, side, side, device=device)
    spent = []
    with torch.inference_mode():
        for _ in range(repeats + 1):
            began = time.perf_counter()
            network(picture)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            spent.append(time.perf_counter() - began)
    return statistics.median(spent[1:])
