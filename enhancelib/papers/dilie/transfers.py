"""The style transfers that a run compares, by name: ST(content, S) of H and of Table 2."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from enhancelib import features, weights
from enhancelib.papers.dilie import artistic, baselines, official, sfe, verdict
from enhancelib.papers.dilie.haziness import ERRORS, Error
from enhancelib.papers.dilie.restyling import Restyled
from enhancelib.papers.dilie.study import Study
from enhancelib.recipes import Recipe

DILIE = verdict.DILIE
ONE_PASS = ("Reinhard", verdict.PCAKD, "WCT2")
"""No optimisation, so no seed; the last two need their authors' weights."""
OPTIMISED = ("Neural style", "DPST", "Contextual", "STROTSS")
"""Of tables="all"; what they take is settled by `scale.photo` and `scale.art`."""
_NEEDS = {"Neural style": "vgg19", "DPST": "vgg19", "Contextual": "vgg19", "STROTSS": "vgg16"}
_BACKBONES = {"VGG19-unit": "vgg19", "LPIPS (Alex)": "alexnet", "LPIPS (VGG)": "vgg16"}
_LEAST_PIEAPP = 64  # pixels


def listed(s: Study) -> list[str]:
    """The style transfers that run, in the order of the tables.

    Args:
        s: The run: its weights, tables and feature networks.

    Returns:
        Names.
    """
    files = official.files(s.p.weights)
    has = {"Reinhard": True, verdict.PCAKD: "pcakd" in files}
    has["WCT2"] = {"wct2.encoder", "wct2.decoder"} <= files.keys()
    found = [name for name in ONE_PASS if has[name]]
    if s.p.tables == "all":
        found += [name for name in OPTIMISED if features.present(_NEEDS[name])]
    return found + ([DILIE] if s.vgg19 is not None else [])


def missing(s: Study) -> list[str]:
    """The style transfers that do not run, and why.

    Args:
        s: The run.

    Returns:
        Sentences.
    """
    ran, sentences = listed(s), []
    if lost := [name for name in ONE_PASS if name not in ran]:
        sentences.append(f"{', '.join(lost)}: not run, the authors' files are wanted (weights=)")
    lost = [name for name in (*OPTIMISED, DILIE) if name not in ran]
    if lost and s.p.tables == "main":
        sentences.append(f'{", ".join(lost)}: not run at tables="main"; tables="all" runs them')
    elif lost:
        sentences.append(f"{', '.join(lost)}: not run, VGG is wanted (enhancelib fetch)")
    return sentences


def transfer(
    s: Study, method: str, content: Tensor, name: str, *, seed: int, style: Tensor | None = None
) -> Tensor:
    """ST(content, S): one content, restyled by one method.

    Args:
        s: The run.
        method: One of `listed`.
        content: (3, H, W) in [0, 1].
        name: Of the content, and of the style where it is another; once in a run: stages are named
            after it.
        seed: Of what is drawn at random.
        style: S; None means the run's style photo.

    Returns:
        (3, H, W) in [0, 1], on the CPU.

    Raises:
        ValueError: If there is no such method.

    Example:
        >>> transfer(None, "Lens", torch.ones(3, 8, 8), "white", seed=0)
        Traceback (most recent call last):
        ValueError: method is 'Lens'; expected one of Reinhard, PCA-KD, WCT2, Neural style, ...
    """
    known = (*ONE_PASS, *OPTIMISED, DILIE)
    if method not in known:
        raise ValueError(f"method is {method!r}; expected one of {', '.join(known)}")
    if method == DILIE and style is None:
        return s.restyled(s.p.style, content, name, seed).E.cpu()
    S = s.style_picture() if style is None else style
    if method in ONE_PASS:
        return _at_once(s, method, content, S).E.cpu()
    return _optimised(s, method, content, S, f"{method.lower()}-{name}", seed).E.cpu()


def _at_once(s: Study, method: str, content: Tensor, style: Tensor) -> Restyled:
    files = official.files(s.p.weights)
    if method == "Reinhard":
        return baselines.reinhard(content, style)
    if method == verdict.PCAKD:
        return baselines.pcakd(content, style, files["pcakd"])
    parts = {part: files[f"wct2.{part}"] for part in ("encoder", "decoder")}
    return baselines.wct2(content, style, parts)


def _optimised(
    s: Study, method: str, content: Tensor, style: Tensor, stage: str, seed: int
) -> Restyled:
    photo, art = (replace(recipe, seed=seed) for recipe in (s.scale.photo, s.scale.art))
    stage, p = f"{stage}-seed{seed}", s.p
    if method == "Neural style":
        return baselines.gatys(content, style, s.run, recipe=photo, stage=stage)
    if method == "DPST":
        return baselines.dpst(content, style, s.run, recipe=photo, stage=stage)
    if method == "Contextual":
        adam = _contextual(photo)
        return baselines.contextual(content, style, s.run, recipe=adam, stage=stage)
    if method == "STROTSS":
        return baselines.strotss(content, style, s.run, recipe=art, stage=stage)
    if p.style == "art":
        weight = p.alpha / p.beta if p.beta else 1.0
        return artistic.artistic(
            content, style, s.run, content_weight=weight, recipe=art, stage=stage
        )
    return sfe.photorealistic(
        content, style, s.run, loss=sfe.weighted(p), recipe=photo, stage=stage
    )


def _contextual(photo: Recipe) -> Recipe:
    """Its own optimiser, as many steps as the others."""
    own = baselines.RECIPES["Contextual"]
    return replace(own, steps=photo.steps, seed=photo.seed, log_every=photo.log_every)


def errors(s: Study, size: tuple[int, int]) -> dict[str, Error]:
    """The errors E that can be measured here; PieAPP only by its authors' weights.

    Args:
        s: The run.
        size: (height, width) of the pictures; PieAPP looks at patches of 64 pixels.

    Returns:
        Name -> E(reference, distorted).
    """
    found = {name: E for name, E in ERRORS.items() if features.present(_BACKBONES[name])}
    file = official.files(s.p.weights).get("pieapp")
    if file is None or min(size) < _LEAST_PIEAPP:
        return found
    network = weights.load("pieapp", file).to(s.device)

    def pieapp(reference: Tensor, distorted: Tensor) -> Tensor:
        with torch.inference_mode():
            score: Tensor = network(reference, distorted)
        return score

    return {**found, "PieAPP": pieapp}
