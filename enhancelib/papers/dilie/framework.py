r"""DILIE as one call (Eq. 1): `E = SFE(CFE(I; f, phi, gamma), S; phi, rho)`.

The notebook's last section, the panel and `enhancelib enhance dilie` all come through here.

| symbol | here | meaning |
|---|---|---|
| I | Made.I | hazy or noisy photo |
| gamma | corruption | "haze": decomposition (ID, Eq. 9); "noise": reconstruction (IR, Eq. 10) |
| C^ | Made.content | what CFE made of I |
| S | Made.S | style photo |
| rho | style | "photo": L_PE; "art": L_AE |
| E | Made.E | what SFE made of C^ |
"""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from statistics import fmean

from torch import Tensor

from enhancelib import capacity, features, images
from enhancelib import runtime as rt
from enhancelib.checkpoints import Keeper
from enhancelib.papers.dilie import artistic, cfe, demands, sfe
from enhancelib.papers.dilie.options import Options, options
from enhancelib.papers.dilie.plans import insist_picture
from enhancelib.papers.dilie.restyling import Restyled, Show, one
from enhancelib.papers.dilie.settings import CONTENT, CORRUPTIONS, STYLES
from enhancelib.recipes import Recipe

__all__ = ["Made", "Options", "dilie", "estimate", "options"]

Sample = dict[str, Tensor]
_FULL = Options()


@dataclass(frozen=True)
class Made:
    """What the framework made of one photo, with all that lies between; on the CPU.

    Args:
        I: The photo, (3, H, W) in [0, 1].
        S: The style photo; None where there was none, and E is C^.
        corruption: "haze" or "noise".
        style: "photo" or "art".
        content: C^, (3, H, W) in [0, 1].
        E: The enhanced photo, likewise.
        layers: Of CFE, each (C, H, W): "J", "t", "A", "recomposition" for haze; "output" and
            "average" for noise.
        cfe: The optimisations of CFE.
        sfe: Those of SFE; None without style.
        seconds: That this call took; little where it only went on.
    """

    I: Tensor  # noqa: E741 - the paper's symbol
    S: Tensor | None
    corruption: str
    style: str
    content: Tensor
    E: Tensor
    layers: Mapping[str, Tensor]
    cfe: cfe.Dehazed | cfe.Restored
    sfe: Restyled | None
    seconds: float

    def steps(self) -> dict[str, Tensor]:
        """What lies between I and E, to be shown.

        Returns:
            Title -> (1, H, W) or (3, H, W), in the order of the method.
        """
        if self.corruption == "noise":
            return {"denoised $\\hat C$": self.content}
        named = {"transmission $t$": self.layers["t"], "airlight $A$": self.layers["A"]}
        return {**named, "dehazed $\\hat C$": self.content}


def dilie(
    I: Tensor,  # noqa: E741
    S: Tensor | None = None,
    *,
    run: Keeper,
    corruption: str = "haze",
    style: str = "photo",
    options: Options = _FULL,
) -> Made:
    """Undo the corruption of a photo, then give it the style of another: Eq. 1.

    Args:
        I: The photo, (3, H, W) in [0, 1]; grey (1, H, W) too, for noise without style.
        S: The style photo, (3, h, w) in [0, 1], any size; None leaves SFE out.
        run: Its folder keeps every stage, called after what it works on, so that the same call goes
            on where it was cut short, and another photo begins anew.
        corruption: gamma, "haze" or "noise".
        style: rho, "photo" or "art".
        options: Weights, lengths, seed, and who is shown what.

    Returns:
        E and everything on the way to it.

    Raises:
        ValueError: If a picture is of another shape, too small or not in [0, 1], or a word is
            unknown.
        MemoryTooSmall: If the photo is too large for the memory at hand; nothing has been computed.
        FeaturesMissing: If VGG19 is needed and was not fetched.
        TrainingError: If an optimisation diverged; the last good state is kept in the run's folder.

    Example:
        >>> import torch, types
        >>> from enhancelib.models.skip import SETTINGS
        >>> from enhancelib.papers.dilie.plans import Plan
        >>> run = types.SimpleNamespace(folder=Path("r"), runtime=rt.setup("cpu"))
        >>> noisy = torch.rand(3, 33, 40, generator=torch.Generator().manual_seed(0))
        >>> short = Options(setting=SETTINGS["small"], plan=Plan(steps=1))
        >>> made = dilie(noisy, run=run, corruption="noise", options=short)
        >>> made.E.shape, sorted(made.layers), made.sfe is None
        (torch.Size([3, 33, 40]), ['average', 'output'], True)
        >>> dilie(noisy, run=run, corruption="rain")
        Traceback (most recent call last):
        ValueError: corruption is 'rain', style 'photo'; expected haze or noise, and photo or art
        >>> large = torch.zeros(1, 1, 1).expand(3, 10**5, 10**6)
        >>> dilie(large, run=run)
        Traceback (most recent call last):
        enhancelib.capacity.MemoryTooSmall: a photo of 1000000 x 100000 pixels needs about ...
        >>> import os
        >>> from unittest.mock import patch
        >>> with patch.dict(os.environ, ENHANCELIB_CACHE="/nowhere"):
        ...     dilie(noisy, run=run)
        Traceback (most recent call last):
        enhancelib.features.FeaturesMissing: vgg19_normalised is not in ...
        >>> fast = Options(lam=0.0, passes=1, plan=Plan(steps=2, learning_rate=1e38))
        >>> dilie(noisy, run=run, options=fast)
        Traceback (most recent call last):
        enhancelib.checkpoints.TrainingError: stage 'dehaze-1-...': ... is nan at step 2; ...
    """
    began = time.monotonic()
    _insist(I, S, run, corruption, style, options)
    I = I.detach().float().cpu()  # noqa: E741
    clean = _content(I, run, corruption, options)
    restyled = None if S is None else _styled(clean.picture, S, run, style, options)
    E = clean.picture if restyled is None else restyled.E
    return Made(
        I, S, corruption, style, clean.picture, E, clean.layers, clean, restyled,
        time.monotonic() - began,
    )  # fmt: skip


def _content(
    I: Tensor,  # noqa: E741
    run: Keeper,
    corruption: str,
    options: Options,
) -> cfe.Dehazed | cfe.Restored:
    """C^ = CFE(I; f, phi, gamma)."""
    plan = options.plan
    if corruption == "noise":
        return cfe.denoise(I, run=run, setting=options.setting, plan=plan)
    content = cfe.Content(options.lam, features.load("vgg19"), CONTENT) if options.lam else None
    radius = min(50, max(4, min(I.shape[1:]) // 8))
    return cfe.dehaze(
        I, run=run, airlight=options.airlight, content=content, passes=options.passes,
        radius=radius, limit=demands.LIMIT, plan=plan,
    )  # fmt: skip


def _styled(C: Tensor, S: Tensor, run: Keeper, style: str, options: Options) -> Restyled:
    """E = SFE(C^, S; phi, rho)."""
    plan, about = options.plan, (style, options.loss, options.content_weight)
    recipe = replace(
        _recipe(style, options), seed=plan.prior.seed, watch_every=plan.watch_every,
        checkpoint_seconds=plan.checkpoint_seconds,
    )  # fmt: skip
    stage = "-".join(filter(None, (plan.stage, style, _digest(C, S, about))))
    found = _restyle(C, S, run, style, options, recipe=recipe, stage=stage, show=plan.show)
    return replace(found, E=found.E.cpu())


def _recipe(style: str, options: Options) -> Recipe:
    return options.recipe or {"photo": sfe.RECIPE, "art": artistic.RECIPE}[style]


def _restyle(
    C: Tensor, S: Tensor, run: Keeper, style: str, options: Options, *, recipe: Recipe, stage: str,
    show: Show | None, scales: int = 4,
) -> Restyled:  # fmt: skip
    if style == "art":
        return artistic.artistic(
            C, S, run, content_weight=options.content_weight, scales=scales, recipe=recipe,
            stage=stage, show=show,
        )  # fmt: skip
    return sfe.photorealistic(C, S, run, loss=options.loss, recipe=recipe, stage=stage, show=show)


def _digest(C: Tensor, S: Tensor, about: object) -> str:
    total = hashlib.sha256(repr(about).encode())
    for picture in (C, S):
        total.update(picture.detach().cpu().contiguous().numpy().tobytes())
    return total.hexdigest()[:12]


def _insist(
    I: Tensor,  # noqa: E741
    S: Tensor | None,
    run: Keeper,
    corruption: str,
    style: str,
    options: Options,
) -> None:
    """Refuse what cannot be done before anything has been computed."""
    if corruption not in CORRUPTIONS or style not in STYLES:
        raise ValueError(
            f"corruption is {corruption!r}, style {style!r}; expected {' or '.join(CORRUPTIONS)}, "
            f"and {' or '.join(STYLES)}"
        )
    grey = corruption == "noise" and S is None
    if I.ndim == 3:
        _insist_it_fits((I.shape[1], I.shape[2]), S is not None, run, corruption, options)
    insist_picture(I, "I", channels=(1, 3) if grey else (3,))
    if S is not None:
        one(S, "S")


def _insist_it_fits(
    size: tuple[int, int], styled: bool, run: Keeper, corruption: str, options: Options
) -> None:
    what, small = f"a photo of {size[1]} x {size[0]} pixels", demands.worked(size, corruption)
    if min(small) < demands.LEAST:
        seen = "" if small == size else f", which is worked on at {small[1]} x {small[0]},"
        raise images.ImageError(
            f"{what}{seen} is too small; the networks take sides of {demands.LEAST} or more"
        )
    needed = demands.content(size, corruption, options.setting, context=options.lam > 0)
    needed = max(needed, demands.style(size) if styled else 0)
    capacity.insist_memory(needed, run.runtime.device, what)


class _Asked(Exception):
    """No error: the answer to how long it takes, and the end of the trial."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds


def estimate(
    I: Tensor,  # noqa: E741
    S: Tensor | None = None,
    *,
    run: Keeper,
    corruption: str = "haze",
    style: str = "photo",
    options: Options = _FULL,
) -> float:
    """How long `dilie` will take from its beginning, measured on a few steps of it.

    What `dilie` refuses is refused here too.

    Args:
        I: As for `dilie`.
        S: The same.
        run: Tells the device; its folder is left alone.
        corruption: As for `dilie`.
        style: The same.
        options: The same.

    Returns:
        Seconds of all optimisations; filters before and after them come on top.

    Example:
        >>> import torch, types
        >>> from enhancelib.models.skip import SETTINGS
        >>> run = types.SimpleNamespace(folder=Path("r"), runtime=rt.setup("cpu"))
        >>> noisy, small = torch.rand(3, 33, 40), Options(setting=SETTINGS["small"])
        >>> 1 < estimate(noisy, run=run, corruption="noise", options=small) < 3000
        True
    """
    _insist(I, S, run, corruption, style, options)
    I = I.detach().float().cpu()  # noqa: E741
    with tempfile.TemporaryDirectory() as folder:
        rehearsal = _Elsewhere(Path(folder), run.runtime)
        seconds = _content_seconds(I, rehearsal, corruption, options)
        if S is not None:
            seconds += _style_seconds(I, S, rehearsal, style, options)
    return seconds


@dataclass
class _Elsewhere:
    folder: Path
    runtime: rt.Runtime


def _content_seconds(I: Tensor, run: Keeper, corruption: str, options: Options) -> float:  # noqa: E741
    def told(seconds: float) -> None:
        raise _Asked(seconds)

    try:
        _content(I, run, corruption, replace(options, plan=replace(options.plan, told=told)))
    except _Asked as answer:
        return answer.seconds
    raise AssertionError("CFE began without telling how long it takes")


_TIMED = 4  # steps; the first one warms up


def _style_seconds(I: Tensor, S: Tensor, run: Keeper, style: str, options: Options) -> float:  # noqa: E741
    """From the first steps at full size; I stands for C^, which is not there yet."""
    times: list[float] = []

    def show(step: int, sample: Sample) -> None:
        float(sample["output"].sum())  # a GPU works ahead of the clock: wait for it
        times.append(time.perf_counter())
        if len(times) == _TIMED:
            raise _Asked(fmean(b - a for a, b in pairwise(times)))

    recipe = _recipe(style, options)
    # longer than it will get, so that it prints nothing
    short = replace(recipe, steps=100, watch_every=1, log_every=1)
    try:
        C = images.clip(I)
        _restyle(C, S, run, style, options, recipe=short, stage="trial", show=show, scales=1)
    except _Asked as answer:
        return recipe.steps * answer.seconds * _stages(style, max(I.shape[1:]))
    raise AssertionError("SFE ended before it was timed")


def _stages(style: str, long: int) -> float:
    """How many of the timed stage take as long as all of SFE."""
    if style == "photo":  # measured: L_aff's line searches make the second one 1.6 times as long
        return 2.6
    return sum((side / long) ** 2 for side in artistic.long_sides(long))
