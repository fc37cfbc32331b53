"""How the networks of one photo are made, how long they are fitted, and who is told."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from torch import Tensor, nn

from enhancelib import internal
from enhancelib import runtime as rt
from enhancelib.checkpoints import Keeper
from enhancelib.internal import Found, Generated, Keep, Stopping
from enhancelib.losses import Objective
from enhancelib.models.skip import Setting, noise_input
from enhancelib.recipes import Recipe

Sample = dict[str, Tensor]
Distribution = Literal["uniform", "gaussian"]
Upsampling = Literal["bilinear", "nearest"]


@dataclass(frozen=True)
class Prior:
    """How the untrained networks are made: seed, and what an ablation varies.

    Args:
        seed: Of weights and inputs. They depend on it and on the network's name alone, so arms of
            an ablation begin at the same place.
        distribution: Of the noise that is the networks' input.
        upsampling: "bilinear" or "nearest"; None leaves the setting's own.
    """

    seed: int = 0
    distribution: Literal["uniform", "gaussian"] = "uniform"
    upsampling: Literal["bilinear", "nearest"] | None = None

    def source(
        self, name: str, setting: Setting, size: tuple[int, int], given: Tensor | None = None
    ) -> Generated:
        """One network and its input.

        Args:
            name: What it makes, such as "J".
            setting: Its options, input and jitter.
            size: (height, width) of the picture.
            given: A picture (1, C, H, W) that takes the place of the noise input, without jitter.

        Returns:
            The source.

        Raises:
            ValueError: If a side of the picture is smaller than the network bears.

        Example:
            >>> from enhancelib.models.skip import SETTINGS
            >>> Prior().source("J", SETTINGS["double_dip_image"], (33, 40))(None)["output"].shape
            torch.Size([1, 3, 33, 40])
            >>> Prior().source("J", SETTINGS["double_dip_image"], (32, 40))
            Traceback (most recent call last):
            ValueError: a picture of 32 x 40 is too small for this network; expected sides of 33 ...
        """
        options = dict(setting.network)
        if self.upsampling is not None:
            options["upsampling"] = self.upsampling
        if given is not None:
            options["inputs"] = given.shape[1]
        setting = replace(setting, network=options)
        network = setting.build(rt.generator(self.seed, "cfe", name, "weights"))
        if min(size) < network.least:
            raise ValueError(
                f"a picture of {size[0]} x {size[1]} is too small for this network; expected sides "
                f"of {network.least} pixels or more"
            )
        if given is not None:
            return Generated(network, given)
        return Generated(network, self._z(name, setting, size), setting.jitter)

    def _z(self, name: str, setting: Setting, size: tuple[int, int]) -> Tensor:
        generator = rt.generator(self.seed, "cfe", name, "input")
        if setting.input == "meshgrid":
            return setting.z(*size, generator)
        channels = setting.network.get("inputs", 32)
        return noise_input(
            *(channels, *size, generator),
            distribution=self.distribution,
            centred=setting.centred,
        )


@dataclass(frozen=True)
class Plan:
    """How an optimisation is run, watched and ended; None means as the setting says.

    Args:
        steps: Of Adam, per pass.
        learning_rate: Of Adam.
        average: Decay of the exponential average of the outputs; 0.0 is none.
        prior: Seed and make of the networks.
        stopping: When to end before that.
        stage: Goes before the name of the checkpoint, see `optimise`.
        moments: Most pictures of the film.
        watch_every: Steps between two calls of `show` and `watch`; 0 means after the last.
        show: (step, sample) -> None, the live picture.
        watch: (step, sample) -> values that become curves.
        told: Called with the seconds that it will take, measured before it begins.
        checkpoint_seconds: Time between two checkpoints.

    Example:
        >>> from enhancelib.models.skip import SETTINGS
        >>> Plan(steps=200).recipe(SETTINGS["denoise"]).learning_rate
        0.01
    """

    steps: int | None = None
    learning_rate: float | None = None
    average: float | None = None
    prior: Prior = field(default_factory=Prior)
    stopping: Stopping = field(default_factory=internal.Fixed)
    stage: str = ""
    moments: int = 0
    watch_every: int = 0
    show: Callable[[int, Sample], None] | None = None
    watch: Callable[[int, Sample], Mapping[str, float]] | None = None
    told: Callable[[float], None] | None = None
    checkpoint_seconds: float = 20.0

    def recipe(self, setting: Setting) -> Recipe:
        """What is optimised how long.

        Args:
            setting: Says what this plan leaves open.

        Returns:
            The recipe.
        """
        return Recipe(
            steps=setting.steps if self.steps is None else self.steps,
            batch=1,
            patch=1,
            learning_rate=self.learning_rate or setting.learning_rate,
            seed=self.prior.seed,
            watch_every=self.watch_every,
            checkpoint_seconds=self.checkpoint_seconds,
        )

    def optimise(
        self,
        source: nn.Module,
        given: Mapping[str, Tensor],
        objective: Callable[[int], Objective],
        setting: Setting,
        run: Keeper,
        *,
        stage: str,
        about: object = None,
        keep: Keep | None = None,
        repeats: int = 1,
    ) -> Found:
        """Optimise one source as planned.

        The checkpoint is called after `stage` and a digest of what is given, of the setting, of
        this plan and of `about`: another photo, or another plan, in the same folder begins anew.

        Args:
            source: See `internal.optimise`.
            given: The same.
            objective: Step -> objective.
            setting: Says what this plan leaves open.
            run: Its folder receives the checkpoint.
            stage: What is done. Names the noise too, so that arms of an ablation, which differ in
                all the rest, see the same; the plan's own name goes before it.
            about: What else tells this problem from others; anything with a repr.
            keep: How to choose the best step.
            repeats: Optimisations of this length that are still to come, this one included.

        Returns:
            What was found.
        """
        recipe = self.recipe(setting)
        if self.told:
            one = internal.estimate(source, given, objective(0), recipe, run.runtime)
            self.told(repeats * one)
        length = (recipe.steps, recipe.learning_rate, self.average)
        mark = _digest(given, (setting, self.prior, self.stopping, length, about))
        return internal.optimise(
            *(source, given, objective, recipe, run),
            stage="-".join(filter(None, (self.stage, stage, mark))),
            samples=stage,
            average=setting.average if self.average is None else self.average,
            keep=keep,
            stopping=self.stopping,
            moments=self.moments,
            show=self.show,
            watch=self.watch,
        )


def insist_picture(picture: Tensor, name: str, *, channels: tuple[int, ...] = (1, 3)) -> None:
    """Refuse what is no picture, before hours are spent on it.

    Args:
        picture: (C, H, W).
        name: What the sentence calls it.
        channels: Numbers of channels that are taken.

    Raises:
        ValueError: If the shape or type is another one, a value is not finite, or the values are
            far outside [0, 1]: beyond [-1, 2], where no noise of these papers reaches.

    Example:
        >>> import torch
        >>> insist_picture(torch.full((3, 4, 4), float("nan")), "noisy")
        Traceback (most recent call last):
        ValueError: noisy holds values that are not finite; expected a picture in [0, 1]
    """
    shape = tuple(picture.shape)
    if picture.ndim != 3 or shape[0] not in channels or not picture.is_floating_point():
        counts = " or ".join(map(str, channels))
        raise ValueError(
            f"{name} is {picture.dtype} of shape {shape}; expected float of ({counts}, H, W)"
        )
    if not picture.isfinite().all():
        raise ValueError(f"{name} holds values that are not finite; expected a picture in [0, 1]")
    low, high = float(picture.min()), float(picture.max())
    if low < -1 or high > 2:
        raise ValueError(
            f"{name} reaches from {low:.4g} to {high:.4g}; expected a picture in [0, 1], beyond "
            "which noise may reach a little"
        )


def _digest(given: Mapping[str, Tensor], about: object) -> str:
    total = hashlib.sha256(repr(about).encode())
    for name, tensor in sorted(given.items()):
        total.update(name.encode())
        total.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return total.hexdigest()[:12]
