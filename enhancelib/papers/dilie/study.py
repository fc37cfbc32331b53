"""The optimisations of one DILIE run: what is denoised, dehazed and restyled, each only once."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor

from enhancelib import features, photos
from enhancelib.internal import Fixed, Stopping
from enhancelib.losses.perceptual import Network
from enhancelib.models.skip import SETTINGS
from enhancelib.papers.dilie import artistic, cfe, pictures, settings, sfe
from enhancelib.papers.dilie.classical import denoisers
from enhancelib.papers.dilie.pictures import Hazy, score
from enhancelib.papers.dilie.plans import Plan, Prior, Sample
from enhancelib.papers.dilie.reconstructing import Restored
from enhancelib.papers.dilie.restyling import Restyled
from enhancelib.papers.dilie.settings import CONTENT, Parameters
from enhancelib.recipes import Recipe
from enhancelib.results import Run

__all__ = ["Hazy", "Study", "outputs"]

_FIXED, _PRIOR = Fixed(), Prior()
T = TypeVar("T")


class Study:
    """All optimisations of one run, on one set of pictures.

    Args:
        run: Where checkpoints and numbers go.
        p: The parameters.
    """

    def __init__(self, run: Run, p: Parameters) -> None:
        self.run, self.p, self.scale = run, p, settings.scale(p)
        self.device, self.seeds = run.runtime.device, p.all_seeds()
        self._began = time.monotonic()
        self._found: dict[Hashable, object] = {}
        self._shown: dict[str, dict[Any, dict[str, Tensor]]] = {}

    def time_is_up(self) -> bool:
        """Whether no further optimisation may start.

        Returns:
            True when `hours` are over.
        """
        return bool(self.p.hours) and time.monotonic() - self._began > 3600 * self.p.hours

    def arm(self, what: str, work: Callable[[], object], *, main: bool = False) -> None:
        """Do a piece of work, unless the hours are over; then say so.

        What tables="main" holds is always done, and so is what an earlier start of the run ended,
        for its optimisations only have to be loaded.

        Args:
            what: Names the piece, once in the run.
            work: Optimises and records.
            main: Whether it belongs to tables="main".
        """
        key = f"arm: {what}"
        if self.time_is_up() and not main and not self.run.knows(key):
            print(f"hours are over: {what}, not run")
            return
        work()
        self.run.once(key, lambda: True)

    @cached_property
    def vgg19(self) -> Network | None:
        """The features phi of the contextual content loss.

        Returns:
            The frozen network; None, and a printed line, without its values.
        """
        if not features.present("vgg19"):
            print("VGG19 is not fetched: no L_CCL, no style (enhancelib fetch --only vgg19)")
            return None
        return features.load("vgg19").to(self.device)

    def noisy_picture(self) -> tuple[str, Tensor, Tensor]:
        """The picture to denoise, see `pictures.noisy`.

        Returns:
            (name, clean, noisy), both (3, s, s) in [0, 1].
        """
        return self._once("noisy", lambda: pictures.noisy(self.p))

    def bundled_noise(self) -> bool:
        """Whether the noisy picture is a bundled photo, which may be published.

        Returns:
            False for F16.
        """
        return self.noisy_picture()[0] in photos.names("test", bundled=True)

    def hazy_pictures(self) -> list[Hazy]:
        """The photos to dehaze, see `pictures.hazy`.

        Returns:
            Photos of one size, those whose truth is known first.
        """
        return self._once("hazy", lambda: pictures.hazy(self.p))

    def plan(
        self,
        recipe: Recipe,
        seed: int,
        *,
        prior: Prior = _PRIOR,
        stopping: Stopping = _FIXED,
        moments: int = 0,
        watch: Callable[[int, Sample], Mapping[str, float]] | None = None,
    ) -> Plan:
        """How the networks of one picture are fitted.

        Args:
            recipe: `scale.dip` or `scale.haze`: steps, rate and interval of the curves.
            seed: Of weights, inputs and noise.
            prior: How networks and inputs are made; its own seed is not looked at.
            stopping: When to end before the last step.
            moments: Most pictures of the film.
            watch: (step, sample) -> values that become curves.

        Returns:
            The plan.
        """
        return Plan(
            steps=recipe.steps,
            learning_rate=recipe.learning_rate,
            prior=replace(prior, seed=seed),
            stopping=stopping,
            moments=moments,
            watch_every=recipe.watch_every,
            watch=watch,
            checkpoint_seconds=recipe.checkpoint_seconds,
        )

    def setting(self, *, skips: bool = True) -> str:
        """The network that denoises at this profile.

        Args:
            skips: With skip connections, as the code of Deep Image Prior, or without.

        Returns:
            A name of `models.skip.SETTINGS`.
        """
        if self.scale.wide:
            return "denoise" if skips else "no_skip"
        return "small" if skips else "small_no_skip"

    def denoised(
        self,
        setting: str,
        seed: int,
        *,
        prior: Prior = _PRIOR,
        stopping: Stopping = _FIXED,
    ) -> Restored:
        """The noisy picture, denoised by one network; curves "psnr" and "psnr_average".

        Args:
            setting: A name of `models.skip.SETTINGS`.
            seed: Of weights, input and noise; arms of one seed share what they can.
            prior: How network and input are made; its own seed is not looked at.
            stopping: When to end before the last step; no rule sees the clean picture.

        Returns:
            The picture, its layers and its curves.
        """
        _, clean, noisy = self.noisy_picture()
        watch = _watching(clean)
        plan = self.plan(self.scale.dip, seed, prior=prior, stopping=stopping, watch=watch)
        key = ("denoised", setting, seed, prior, stopping)
        return self._once(
            key, lambda: cfe.denoise(noisy, run=self.run, setting=SETTINGS[setting], plan=plan)
        )

    def dehazed(self, hazy: Hazy, lam: float, seed: int) -> cfe.Dehazed:
        """A photo, dehazed by decomposition; curves "psnr" and "ssim" of the inverted model.

        The true airlight of synthetic haze is given, as Double-DIP's demonstration gives it; that
        of real haze is estimated.

        Args:
            hazy: The photo.
            lam: Weight of the contextual content loss; 0.0 is Double-DIP.
            seed: Of weights, inputs and noise; the same for every lambda.

        Returns:
            The picture with its layers; a film only for the first seed, without the loss and with
            the run's own lambda.

        Raises:
            FeaturesMissing: If lambda is not 0 and VGG19 is not fetched.

        Example:
            >>> import torch
            >>> nobody = type("NoFeatures", (), {"vgg19": None})()
            >>> Study.dehazed(nobody, Hazy("a", "b", torch.zeros(1), torch.zeros(1)), 0.1, 0)
            Traceback (most recent call last):
            enhancelib.features.FeaturesMissing: VGG19 is not at hand; run `enhancelib fetch ...
        """
        content = None
        if lam:
            if self.vgg19 is None:
                raise features.FeaturesMissing(
                    "VGG19 is not at hand; run `enhancelib fetch --only vgg19`"
                )
            content = cfe.Content(lam, self.vgg19, CONTENT)
        kept = lam in (0.0, self.p.lam)  # of the others only the scores are wanted
        moments = self.scale.moments if kept and seed == self.p.seed else 0
        plan = self.plan(self.scale.haze, seed, moments=moments, watch=_scoring(hazy))

        def made() -> cfe.Dehazed:
            return cfe.dehaze(
                hazy.hazy, run=self.run, airlight=hazy.A, content=content,
                passes=self.scale.passes, radius=hazy.radius, plan=plan,
            )  # fmt: skip

        return self._once(("dehazed", hazy.name, lam, seed), made) if kept else made()

    def filtered_pictures(self) -> dict[str, Tensor]:
        """What filters make of the noisy picture, told the strength of its noise.

        Returns:
            Method, as in the tables -> picture.
        """
        noisy, sigma = self.noisy_picture()[2], self.p.sigma
        return self._once(
            "filtered", lambda: {name: one(noisy, sigma) for name, one in denoisers().items()}
        )

    def denoised_pictures(self) -> dict[str, Tensor]:
        """What filters and the two networks of the first seed made of the noisy picture.

        Returns:
            Method, as in the tables -> picture.
        """
        made = dict(self.filtered_pictures())
        for skips in (True, False):
            layers = self.denoised(self.setting(skips=skips), self.p.seed).layers
            made |= {method: layers[key] for key, method in outputs(skips).items()}
        return made

    def style_picture(self) -> Tensor:
        """The style photo S: the reader's `reference`, or a bundled one.

        Returns:
            (3, h, w) in [0, 1], its long side that of the pictures to restyle.
        """
        return self._once("style", lambda: pictures.style(self.p))

    def style_name(self) -> str:
        """What the style photo is called.

        Returns:
            Name of the bundled photo, or of the reader's file.
        """
        return Path(self.p.reference).stem if self.p.reference else pictures.STYLE

    def content_names(self) -> list[str]:
        """The bundled photos that are restyled.

        Returns:
            Names of the first hazy photos whose truth is known, at most `scale.restyled`.
        """
        known = [one.name for one in self.hazy_pictures() if one.t is not None]
        return known[: self.scale.restyled]

    def framework_photos(self) -> list[str]:
        """The bundled photos of the section that runs the whole framework.

        Returns:
            Names of content and style.
        """
        return [self.content_names()[0], self.style_name()]

    def keep(self, figure: str, row: Hashable, title: str, picture: Tensor) -> None:
        """Keep a picture that a figure will show.

        Args:
            figure: "restyled" or "noisy".
            row: Of the figure: name of the photo, strength of the noise.
            title: Of its column.
            picture: (3, H, W).
        """
        self._shown.setdefault(figure, {}).setdefault(row, {})[title] = picture.detach().cpu()

    def restyled_pictures(self) -> dict[str, dict[str, Tensor]]:
        """What every style transfer made of a hazy and of a noisy photo.

        Returns:
            Row -> method -> picture, as `keep` was given them; none without VGG19.

        Raises:
            ValueError: If `styling.haziness` has not run.

        Example:
            >>> Study.restyled_pictures(type("Fresh", (), {"_shown": {}, "vgg19": 1})())
            Traceback (most recent call last):
            ValueError: no photo is restyled yet; run styling.haziness first
        """
        if "restyled" not in self._shown and self.vgg19 is not None:
            raise ValueError("no photo is restyled yet; run styling.haziness first")
        return self._shown.get("restyled", {})

    def noisy_pictures(self) -> dict[float, dict[str, Tensor]]:
        """Restyled noisy photos.

        Returns:
            Strength of the noise -> what was restyled -> picture, as `keep` was given them; none
            without VGG19.

        Raises:
            ValueError: If `styling.noisy` has not run.

        Example:
            >>> Study.noisy_pictures(type("Fresh", (), {"_shown": {}, "vgg19": 1})())
            Traceback (most recent call last):
            ValueError: no noisy photo is restyled yet; run styling.noisy first
        """
        if "noisy" not in self._shown and self.vgg19 is not None:
            raise ValueError("no noisy photo is restyled yet; run styling.noisy first")
        return self._shown.get("noisy", {})

    def restyled(self, kind: str, content: Tensor, name: str, seed: int) -> Restyled:
        """A photo, restyled after the style photo under the run's weights (Eq. 7).

        Args:
            kind: "photo" (L_PE) or "art" (L_AE).
            content: What is restyled, (3, H, W) in [0, 1].
            name: Of the content, once in a run: the stage is named after it.
            seed: Of what is drawn at random.

        Returns:
            The restyled photo and its stages.

        Raises:
            ValueError: If the kind is another word, or `beta` is 0 with kind "art", whose loss has
                no weight of style alone.

        Example:
            >>> import torch
            >>> Study.restyled(None, "sketch", torch.zeros(3, 8, 8), "china", 0)
            Traceback (most recent call last):
            ValueError: kind is 'sketch'; expected one of photo, art
        """
        if kind not in settings.STYLES:
            raise ValueError(f"kind is {kind!r}; expected one of {', '.join(settings.STYLES)}")
        if kind == "art" and not self.p.beta:
            raise ValueError("beta is 0.0; L_AE needs a weight of the style above 0")
        return self._once(
            ("restyled", kind, name, seed), lambda: self._restyle(kind, content, name, seed)
        )

    def _restyle(self, kind: str, content: Tensor, name: str, seed: int) -> Restyled:
        style, stage, p = self.style_picture(), f"{kind}-{name}-seed{seed}", self.p
        if kind == "art":
            return artistic.artistic(
                content, style, self.run, content_weight=p.alpha / p.beta,
                recipe=replace(self.scale.art, seed=seed), stage=stage,
            )  # fmt: skip
        return sfe.photorealistic(
            content, style, self.run, loss=sfe.weighted(p),
            recipe=replace(self.scale.photo, seed=seed), stage=stage,
        )  # fmt: skip

    def _once(self, key: Hashable, make: Callable[[], T]) -> T:
        if key not in self._found:
            self._found[key] = make()
        return self._found[key]  # type: ignore[return-value]


def outputs(skips: bool) -> dict[str, str]:
    """What tables call the pictures that a denoising network gives.

    Args:
        skips: With skip connections or without.

    Returns:
        "output" and "average" -> method.
    """
    kind = "skips" if skips else "no skips"
    return {"output": f"{kind}, last output", "average": f"{kind}, average"}


def _watching(clean: Tensor) -> Callable[[int, Sample], Mapping[str, float]]:
    """PSNR against the clean picture, of the last output and of the average so far."""
    curves = {"output": "psnr", "average": "psnr_average"}

    def watch(step: int, sample: Sample) -> Mapping[str, float]:
        seen = {curve: sample[name] for name, curve in curves.items() if name in sample}
        return {curve: score("psnr", picture[0], clean) for curve, picture in seen.items()}

    return watch


def _scoring(hazy: Hazy) -> Callable[[int, Sample], Mapping[str, float]]:
    """PSNR and SSIM of the haze model inverted with the layers of a step."""

    def watch(step: int, sample: Sample) -> Mapping[str, float]:
        I, t, A = (sample[name].cpu() for name in ("degraded", "t", "A"))  # noqa: E741
        J = cfe.inverted(I, t, A, radius=hazy.radius)[0]
        clean = hazy.clean
        if clean.shape[1:] != J.shape[2:]:  # large photos are decomposed at a part of their size
            clean = pictures.fitted(clean, (J.shape[2], J.shape[3]))
        return {name: score(name, J[0], clean) for name in ("psnr", "ssim")}

    return watch
