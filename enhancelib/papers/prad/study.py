"""The trainings of one PRaD run: adversarial arms, the texture pair, the critic on its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar, cast

import torch
from torch import Tensor, nn

from enhancelib import adversarial, features, images, losses, metrics, models, runtime, training
from enhancelib.losses import Objective
from enhancelib.losses.adversarial import FORMS, gradient_penalty
from enhancelib.models.pairwise import Judges
from enhancelib.models.prad import SIZES, Critic
from enhancelib.papers.prad import data, settings
from enhancelib.papers.prad.settings import FULL, SCALES, Arm, Parameters
from enhancelib.recipes import Recipe
from enhancelib.results import Run
from enhancelib.training import History, Parts, Sample

FLAT = partial(gradient_penalty, target=0.0)
"""Zero-centred: holds the critic flat between real and generated pictures."""
SAMPLES = "samples"  # all arms of a seed see the same ones
M = TypeVar("M", bound=nn.Module)
RELATIVISTIC = FORMS["relativistic"]


@dataclass(frozen=True)
class Trained:
    """A trained generator, its critic and the curves.

    Args:
        generator: In eval mode.
        critic: In eval mode; None where there was no adversarial term.
        history: Curves of the training.
    """

    generator: nn.Module
    critic: Critic | None
    history: History


class Study:
    """All trainings of one run, on one set of pairs.

    Args:
        run: Where checkpoints and numbers go.
        p: The parameters.
    """

    def __init__(self, run: Run, p: Parameters) -> None:
        self.run, self.p, self.scale = run, p, SCALES[p.profile]
        self.device = run.runtime.device
        self.train = data.train(p, device=self.device)
        # convolutions of adversarial trainings may run in bfloat16; all else as the run does
        self.machine = replace(run.runtime, precision=self.scale.precision)
        self.validation = data.validation(p)
        self._perceptual: dict[str, losses.perceptual.Network] = {}
        self.vgg19 = self.perceptual(self.scale.precision)
        self._began = time.monotonic()
        self._trained: dict[str, Trained] = {}

    def time_is_up(self) -> bool:
        """Whether no further training may start.

        Returns:
            True when `hours` are over.
        """
        return bool(self.p.hours) and time.monotonic() - self._began > 3600 * self.p.hours

    def repeated(self) -> list[int]:
        """Seeds of the studies that each profile repeats: frozen-generator critics and shifts.

        Returns:
            All seeds, or the first few.
        """
        return self.p.all_seeds()[: self.scale.repeats]

    def main(self, seed: int) -> Trained:
        """Train the network of the training section with its critic: Algorithm 1.

        Args:
            seed: Of initialisation and samples.

        Returns:
            Generator, critic and curves.
        """
        recipe = replace(settings.main_recipe(self.p), seed=seed)
        if recipe == replace(self.scale.recipe, seed=seed) and self.p.norm == "none":
            return self.arm(FULL, seed)
        own = replace(FULL, options=(("norm", self.p.norm),))
        return self._adversarial(own, recipe, f"main-seed{seed}")

    def arm(self, arm: Arm, seed: int) -> Trained:
        """Train one arm of an ablation, or load it where it is finished.

        Args:
            arm: Which one.
            seed: Of initialisation and samples; the same samples for every arm.

        Returns:
            Generator, critic and curves.
        """
        recipe = replace(self.scale.recipe, seed=seed)
        return self._adversarial(arm, recipe, f"{arm.stage}-seed{seed}")

    def finished(self, arm: Arm, seed: int) -> bool:
        """Whether an arm was trained to its end before, so that it only has to be loaded.

        Args:
            arm: Which one.
            seed: Of its training.

        Returns:
            True where its checkpoint holds the last step.
        """
        file = self.run.folder / "checkpoints" / f"{arm.stage}-seed{seed}.pt"
        if not file.is_file():
            return False
        kept = torch.load(file, mmap=True, map_location="cpu", weights_only=True)
        return bool(kept["index"] >= self.scale.recipe.steps)

    def terms(self, arm: Arm) -> list[str]:
        """The losses that are left to an arm under the run's weights.

        Args:
            arm: Which one.

        Returns:
            Names of terms; none where it would minimise nothing.
        """
        gone = {*arm.without, *(() if arm.judges else ("gan",))}
        gone |= set(settings.VGG_TERMS) if self.vgg19 is None else set()
        return [n for n, w in self.p.weights_of_terms().items() if w and n not in gone]

    def texture(self, texture_loss: bool, cfa: bool, seed: int) -> Trained:
        """Train one arm of the texture pair, or of plain against CFA + R.

        Args:
            texture_loss: MSE with gradient and local contrast, or MSE alone.
            cfa: The whole generator, or the plain U-Net.
            seed: Of initialisation and samples.

        Returns:
            Generator and curves.
        """
        stage = f"texture{texture_loss:d}-cfa{cfa:d}-seed{seed}"
        arm = FULL if cfa else settings.PLAIN
        recipe = replace(self.scale.texture, seed=seed)
        return self._supervised(arm, settings.texture_objective(texture_loss), recipe, stage)

    def shifted(self, full: bool, shift: int, seed: int) -> Trained:
        """Train the plain generator on pairs that are shifted at random against one another.

        Args:
            full: All of Eq. 19 but the critic, or MSE alone.
            shift: Largest shift in pixels.
            seed: Of initialisation, samples and shifts.

        Returns:
            Generator and curves.
        """
        steps = self.scale.shift_steps
        recipe = replace(self.scale.texture, steps=steps, seed=seed, batch=4)
        objective = settings.texture_objective(False)
        if full:
            objective = self.objective(settings.NO_GAN, recipe.patch)
        stage = f"shift{shift}-full{full:d}-seed{seed}"
        batches = data.shifted(self.p, recipe, shift, device=self.device)
        return self._supervised(settings.PLAIN, objective, recipe, stage, batches)

    def alone(self, trained: Trained, judges: Judges, seed: int) -> tuple[Critic, History]:
        """Train a fresh critic against a frozen generator on the validation pairs alone.

        Args:
            trained: Whose generator.
            judges: What the critic sees; see `Arm`.
            seed: Of the critic.

        Returns:
            The critic and its curve.
        """
        recipe = replace(
            self.scale.recipe, steps=self.scale.critic_steps, seed=seed, schedule="constant",
            batch=min(16, len(self.validation.clean)), log_every=1, watch_every=0,
        )  # fmt: skip
        critic = self.critic(judges, seed)
        parts: Parts = {
            "generator": trained.generator,
            "critic": critic,
            "critic_optimiser": training.optimiser(critic.parameters(), recipe),
        }
        step = adversarial.critic_step(RELATIVISTIC, judge, self.machine, clip=recipe.clip)
        history = training.fit(
            step, parts, self._whole_pairs(recipe), recipe, self.run,
            stage=f"critic-alone-{judges}-seed{seed}", samples=SAMPLES,
        )  # fmt: skip
        trained.generator.eval()  # the critic's step makes its fakes in training mode
        return critic.eval(), history

    def objective(self, arm: Arm, side: int) -> Objective:
        """The loss of an arm.

        Args:
            arm: Its `without` are left out of the parameters' weights.
            side: Of the patches, in pixels.

        Returns:
            The objective.
        """
        weights = self.p.weights_of_terms()
        kept = {n: w for n, w in weights.items() if n not in arm.without}
        if not arm.judges:
            kept["gan"] = 0.0
        return settings.objective(kept, self.vgg19, side=side)

    def generator(self, arm: Arm, seed: int) -> nn.Module:
        """A fresh generator.

        Args:
            arm: Its network and options.
            seed: Of its values.

        Returns:
            The network on the run's device.
        """
        options = dict(arm.options)
        if arm.network == "prad":
            options = {"widths": SIZES[self.p.size], **options}
        network = _seeded(lambda: models.build(arm.network, **options), seed, "generator")
        return network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]

    def _adversarial(self, arm: Arm, recipe: Recipe, stage: str) -> Trained:
        if stage in self._trained:
            return self._trained[stage]
        objective = self.objective(arm, recipe.patch)
        if "gan" not in objective.terms:
            return self._supervised(arm, objective, recipe, stage)
        generator, critic = (
            self.generator(arm, recipe.seed),
            self.critic(cast(Judges, arm.judges), recipe.seed),
        )
        parts: Parts = {
            "generator": generator,
            "critic": critic,
            "generator_optimiser": training.optimiser(generator.parameters(), recipe),
            "critic_optimiser": self._critic_optimiser(critic, recipe),
        }
        own = not recipe.certainty and self.scale.penalty > 0
        step = training.adversarial(
            adversarial.generator_step(objective, self.machine, judge=judge, clip=recipe.clip),
            adversarial.critic_step(
                RELATIVISTIC, judge, self.machine, clip=recipe.clip,
                penalty=FLAT if own else None, penalty_weight=self.scale.penalty,
            ),
        )  # fmt: skip
        history = training.fit(
            step, parts, self._batches(recipe), recipe, self.run, stage=stage,
            samples=SAMPLES, watch=self._watch(generator),
        )  # fmt: skip
        trained = Trained(generator.eval(), critic.eval(), history)
        return self._trained.setdefault(stage, trained)

    def unpenalised(self, history: History) -> list[float]:
        """The critic's loss of Eq. 7 without what the gradient penalty adds to it.

        Args:
            history: Of an adversarial training.

        Returns:
            One value per logged step; empty where there was no critic.
        """
        critic = history.values.get("critic", [])
        penalty = history.values.get("penalty", [0.0] * len(critic))
        return [c - self.scale.penalty * p for c, p in zip(critic, penalty, strict=True)]

    def _critic_optimiser(self, critic: Critic, recipe: Recipe) -> torch.optim.Optimizer:
        made = training.optimiser(critic.parameters(), recipe)
        for group in made.param_groups:
            group["rate_scale"] = 1.0 if recipe.certainty else self.scale.critic_rate
        return made

    def _supervised(
        self,
        arm: Arm,
        objective: Objective,
        recipe: Recipe,
        stage: str,
        batches: training.Batches | None = None,
    ) -> Trained:
        if stage in self._trained:
            return self._trained[stage]
        generator = self.generator(arm, recipe.seed)
        history = training.fit(
            training.supervised(objective, self.machine, clip=recipe.clip),
            {
                "network": generator,
                "optimiser": training.optimiser(generator.parameters(), recipe),
            },
            batches or self._batches(recipe),
            recipe,
            self.run,
            stage=stage,
            samples=SAMPLES,
            watch=self._watch(generator),
        )
        return self._trained.setdefault(stage, Trained(generator.eval(), None, history))

    def _batches(self, recipe: Recipe) -> training.Batches:
        return self.train.batches(recipe.batch, recipe.patch)

    def _whole_pairs(self, recipe: Recipe) -> training.Batches:
        """Validation pairs, whole, in a new order every time all have been seen."""
        pairs, device = self.validation, self.device

        def batches(index: int, generator: torch.Generator) -> Sample:
            chosen = torch.randperm(len(pairs.clean), generator=generator)[: recipe.batch]
            return {
                "degraded": pairs.degraded[chosen].to(device),
                "clean": pairs.clean[chosen].to(device),
            }

        return batches

    def critic(self, judges: Judges, seed: int) -> Critic:
        """A fresh critic.

        Args:
            judges: What it sees; without VGG19 a "pair" is judged without phi.
            seed: Of its values.

        Returns:
            The critic on the run's device.
        """
        if self.vgg19 is None and judges == "pair":
            judges = "pair_without_phi"
        phi = self.phi if self.vgg19 is not None else None
        made = _seeded(lambda: Critic(phi, judges=judges), seed, "critic", judges)
        return made.to(self.device)

    def phi(self, picture: Tensor) -> Tensor:
        """The features that the critic sees beside the picture, in Eq. 5.

        Args:
            picture: (B, 3, H, W) in [0, 1].

        Returns:
            (B, 64, H, W): VGG19's relu1_2.

        Raises:
            FeaturesMissing: If `enhancelib fetch` has not brought VGG19.

        Example:
            >>> Study.phi(type("NoFeatures", (), {"vgg19": None})(), torch.zeros(1, 3, 8, 8))
            Traceback (most recent call last):
            enhancelib.features.FeaturesMissing: VGG19 is not at hand; run `enhancelib fetch ...
        """
        if self.vgg19 is None:
            raise features.FeaturesMissing(
                "VGG19 is not at hand; run `enhancelib fetch --only vgg19`"
            )
        with torch.autocast(picture.device.type, enabled=False):
            return self.vgg19(picture.float(), (settings.PHI,))[settings.PHI].float()

    def perceptual(self, precision: str) -> losses.perceptual.Network | None:
        """VGG19 as the paper's family of codes uses it.

        Args:
            precision: "fp32" or "bf16".

        Returns:
            The frozen network, pooling with ceiling; None, and a printed line, without the values.
        """
        if not features.present("vgg19"):
            print("VGG19 is not fetched: its losses are left out (enhancelib fetch --only vgg19)")
            return None
        if precision not in self._perceptual:
            network = features.load("vgg19", ceil=True, precision=precision)
            network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
            self._perceptual[precision] = network
        return self._perceptual[precision]

    def _watch(self, generator: nn.Module) -> Callable[[int], dict[str, float]]:
        pairs = self.validation

        def watch(_: int) -> dict[str, float]:
            restored = apply(generator, pairs.degraded)
            clipped = images.clip(restored)
            found = {
                "psnr": ("psnr", clipped),
                "psnr_pooled": ("psnr_pooled", restored),
                "ms_ssim": ("ms_ssim_dped", restored),
            }
            return {
                name: metrics.METRICS[key].summary(metrics.METRICS[key](x, pairs.clean))
                for name, (key, x) in found.items()
                if key != "ms_ssim_dped" or min(x.shape[-2:]) >= MS_SSIM_SIDE
            }

        return watch


MS_SSIM_SIDE = 32


def judge(parts: Parts, sample: Mapping[str, Tensor], key: str) -> Tensor:
    """The critic's raw score of a picture, seen beside the phone's (Eq. 5).

    Args:
        parts: Hold the critic.
        sample: Holds `degraded` and the picture.
        key: "clean" (real) or "output" (fake).

    Returns:
        (B,).
    """
    critic = parts["critic"]
    scores: Tensor = critic(sample["degraded"], sample[key], update=key == "clean")  # type: ignore[operator]
    return scores


def apply(network: nn.Module, degraded: Tensor, *, batch: int = 16) -> Tensor:
    """Restore many small pictures.

    Args:
        network: In any mode; it is in eval mode afterwards.
        degraded: (N, 3, H, W).
        batch: Pictures at a time.

    Returns:
        (N, 3, H, W) on the CPU, not clipped.
    """
    device = next(network.parameters()).device
    network.eval()
    with torch.inference_mode():
        pieces = [network(piece.to(device)).float().cpu() for piece in torch.split(degraded, batch)]
    return torch.cat(pieces)


def _seeded(make: Callable[[], M], seed: int, *keys: str) -> M:
    """Networks draw their first values from torch's global stream: fix it, and put it back."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(runtime.derive(seed, *keys))
        return make()
