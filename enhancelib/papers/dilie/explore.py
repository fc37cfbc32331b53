"""What the panels show: losses of a restyling, a film of a dehazing, and the reader's own photo."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from enhancelib import filters, images, photos, runtime
from enhancelib.losses import Objective, Term, photorealism, pixel
from enhancelib.losses.perceptual import Taps
from enhancelib.papers import parameters
from enhancelib.papers.dilie import demands, framework, restyling, segments, settings, sfe
from enhancelib.papers.dilie.segments import Places, contextual_style
from enhancelib.papers.dilie.settings import Parameters
from enhancelib.papers.dilie.study import Study

if TYPE_CHECKING:
    from enhancelib.papers.dilie.cfe import Dehazed

SIDE = 256  # pixels of the explored picture
LAYERS = ("dehazed", "J", "t", "A", "recomposition")
_NAMES = {"content": "alpha", "style": "beta", "affine": "affine"}
PRESETS: Mapping[str, Mapping[str, float]] = {
    "L_PE": {"content": 1.0, "style": 1.0, "affine": 1e4},
    "L_PE, stage one (no affine loss)": {"content": 1.0, "style": 1.0},
    "style alone": {"style": 1.0},
    "affine loss alone": {"affine": 1e4},
}
"""Terms that are absent weigh nothing."""


def given_photo(s: Study) -> tuple[Tensor, Tensor | None]:
    """The photo I and the style S of the section that runs the whole framework.

    Args:
        s: The run; its parameters may name both files.

    Returns:
        (I, S), (3, H, W) each; the longer side of I at most that of the profile, unless the
        networks could not take the shorter one then. S is None without VGG19: no style then.
    """
    if s.p.photo:
        photo = images.read(Path(s.p.photo))
        height, width = photo.shape[1:]
        scale = max(s.scale.side / max(height, width), demands.LEAST / min(height, width))
        I = images.clip(images.resize(photo, scale=scale)) if scale < 1 else photo  # noqa: E741
    elif s.p.corruption == "haze":
        I = s.hazy_pictures()[0].hazy  # noqa: E741
    else:
        I = s.noisy_picture()[2]  # noqa: E741
    return I, None if s.vgg19 is None else s.style_picture()


def given_options(s: Study) -> dict[str, Any]:
    """What `framework.dilie` takes beside the two pictures.

    Args:
        s: The run.

    Returns:
        Keyword arguments; without VGG19 no contextual content loss.
    """
    asked = s.p if s.vgg19 is not None else replace(s.p, lam=0.0)
    return {
        "run": s.run,
        "corruption": s.p.corruption,
        "style": s.p.style,
        "options": framework.options(asked),
    }


def pictures(p: Parameters) -> dict[str, Callable[[], tuple[Tensor, Tensor]]]:
    """The photos that the explorer offers, each as start and as content.

    Args:
        p: The profile sets their size.

    Returns:
        Name -> loader of (C^, C^), (3, side, side).
    """
    side = 64 if p.profile == "smoke" else SIDE
    listed = (*photos.names("test", bundled=True), *photos.names("validation", bundled=True))
    return {name: partial(_twice, name, side) for name in listed}


def _twice(name: str, side: int) -> tuple[Tensor, Tensor]:
    photo = photos.load(name)
    edge = min(photo.shape[1:])
    top, left = ((n - edge) // 2 for n in photo.shape[1:])
    square = photo[:, top : top + edge, left : left + edge]
    small = images.clip(images.resize(square, size=(side, side)))
    return small, small


def losses(s: Study) -> dict[str, Any]:
    """What `widgets.LossExplorer` takes to explore L_PE.

    Args:
        s: The run; the style photo is the run's, weights and photo are kept in its folder.

    Returns:
        Its arguments; without VGG19 only the affine loss and total variation.
    """
    perceptual = s.vgg19 is not None
    style = s.style_picture()
    if (scale := SIDE / max(style.shape[1:])) < 1:
        style = images.clip(images.resize(style, scale=scale))
    return {
        "objective": objective(s.p, s.device, perceptual=perceptual),
        "pairs": pictures(s.p),
        "degrade": lambda photo: photo,
        "sample": _Sample(style[None].to(s.device), s.device, perceptual),
        "presets": PRESETS if perceptual else {},
        "command": partial(command, s.p),
        "folder": s.run.folder,
        "title": f"Four losses, one photo, in the style of {s.style_name()}",
        "note": "Content is the photo itself, so a run starts where the content loss is 0.",
        "runtime": s.run.runtime,
    }


def objective(p: Parameters, device: torch.device, *, perceptual: bool = True) -> Objective:
    """L_PE and total variation, for pictures of any size.

    Args:
        p: Its alpha, beta and affine are the weights to begin with.
        device: Where VGG19 lives.
        perceptual: Whether VGG19 is at hand; else its two terms are left out.

    Returns:
        The objective. Its sample holds "output", "content" and the style's features.
    """
    layers = settings.STYLE
    style = tuple(f"{who}/{layer}" for layer in layers for who in ("output", "style"))
    terms = {
        "content": Term(
            p.alpha, restyling.CONTENT_FORMS["contextual"],
            (f"output/{settings.CONTENT}", f"content/{settings.CONTENT}"),
        ),
        "style": Term(p.beta, _style, style),
        "affine": Term(p.affine, photorealism.matting, ("output", "content")),
        "tv": Term(0.0, pixel.total_variation, ("output",)),
    }  # fmt: skip
    if not perceptual:
        return Objective({name: terms[name] for name in ("affine", "tv")})
    taps = {"output": (*layers, settings.CONTENT), "content": (settings.CONTENT,)}
    return Objective(terms, Taps(restyling.vgg19(device), taps))


def _style(*maps: Tensor) -> Tensor:
    """L_S: contextual, at the same positions at every call, so that a slider is no lottery."""
    pairs = enumerate(zip(maps[::2], maps[1::2], strict=True))
    return torch.stack([contextual_style(X, Y, _drawn(X, Y, k)) for k, (X, Y) in pairs]).sum()


def _drawn(X: Tensor, Y: Tensor, layer: int) -> Places:
    masks = tuple(torch.ones(1, *one.shape[2:], device=one.device) for one in (X, Y))
    generator = runtime.generator(0, "explore", "style", layer)
    return segments.places((masks[0], masks[1]), generator, 1024)


class _Sample:
    """(picture, start, content) -> the sample; the style's features are computed once."""

    def __init__(self, style: Tensor, device: torch.device, perceptual: bool = True) -> None:
        self.style: dict[str, Tensor] = {}
        if not perceptual:
            return
        with torch.no_grad():
            found = restyling.vgg19(device)(style, settings.STYLE)
        self.style = {f"style/{layer}": value for layer, value in found.items()}

    def __call__(self, x: Tensor, start: Tensor, target: Tensor) -> dict[str, Tensor]:
        return {"output": x, "content": target, **self.style}


def command(p: Parameters, weights: Mapping[str, float]) -> str:
    """The command that reruns the notebook with the weights of the sliders.

    Args:
        p: The other parameters.
        weights: Term -> weight.

    Returns:
        One line for a shell; total variation is no term of the notebook's losses and is left out.
    """
    given = {_NAMES[term]: float(w) for term, w in weights.items() if term in _NAMES}
    return parameters.command("dilie", p, given)


class Film:
    """The films of the dehazing: any layer at any moment.

    Args:
        s: The run.
        found: (picture, lambda, seed) -> decomposition; those that kept moments are shown.

    Raises:
        ValueError: If none kept any; from a call, if the photo has no film.

    Example:
        >>> Film(type("Empty", (), {"hazy_pictures": lambda self: []})(), {})
        Traceback (most recent call last):
        ValueError: no dehazing kept a film; run dehazing.measure first
    """

    def __init__(self, s: Study, found: Mapping[tuple[str, float, int], Dehazed]) -> None:
        listed = {one.name: one for one in s.hazy_pictures()}
        ends = {name: made.passes[-1] for (name, _, _), made in found.items()
                if made.passes[-1].found.moments}  # fmt: skip
        if not ends:
            raise ValueError("no dehazing kept a film; run dehazing.measure first")
        self.moments = {name: one.found.moments for name, one in ends.items()}
        self._decomposed = {name: one.hazy for name, one in ends.items()}  # by the last pass
        self.hazy = {name: listed[name].hazy for name in self.moments}

    @property
    def pictures(self) -> Mapping[str, Callable[[], Tensor]]:
        """The photos that have a film.

        Returns:
            Name -> loader of the hazy photo.
        """
        return {name: partial(_same, photo) for name, photo in self.hazy.items()}

    def __call__(self, picture: Tensor, *, moment: float, layer: str) -> tuple[Tensor, Tensor, str]:
        """The photo and one of its layers at one moment.

        Args:
            picture: One of `pictures`.
            moment: In percent of the film.
            layer: One of `LAYERS`.

        Returns:
            (hazy, layer, caption).
        """
        name = next((n for n, photo in self.hazy.items() if torch.equal(photo, picture)), None)
        if name is None:
            raise ValueError("there is no film of this photo; choose one of the list")
        film = self.moments[name]
        step, taken = film[round(moment / 100 * (len(film) - 1))]
        shown = {n: _enlarged(images.from_uint8(v), picture) for n, v in taken.items()}
        if layer == "dehazed":
            t, A = shown["t"][None], shown["A"][None]
            image = images.clip(filters.invert_haze(self._decomposed[name][None], t, A)[0])
        else:
            image = shown["output" if layer == "recomposition" else layer]
        return picture, image.expand(3, -1, -1), f"{name}, {layer} after {step} steps"


def _enlarged(layer: Tensor, photo: Tensor) -> Tensor:
    """A layer in the size of its photo; large photos are decomposed at a part of it."""
    size = (photo.shape[1], photo.shape[2])
    return layer if layer.shape[1:] == size else images.clip(images.resize(layer, size=size))


def _same(photo: Tensor) -> Tensor:
    return photo


METHODS = ("dark channel", "dehaze", "dehaze and restyle", "denoise", "restyle")
"""What the panel does to the reader's own photo."""


def own_photo(s: Study) -> Callable[..., tuple[Tensor, Tensor, str]]:
    """The render function of the panel for the reader's own photo.

    Args:
        s: The run.

    Returns:
        (picture, method=, steps=) -> (photo, enhanced, caption); minutes for many steps.
    """

    def render(picture: Tensor, *, method: str, steps: float) -> tuple[Tensor, Tensor, str]:
        photo = picture.expand(3, -1, -1)
        if method == "dark channel":
            image = images.clip(filters.dark_channel_dehaze(photo[None])["output"][0])
            return photo, image, "dark channel prior, guided filter: no optimisation"
        made = _quick(s, photo, method, int(steps))
        return photo, made, f"{method}, {int(steps)} steps of every optimisation"

    return render


def _quick(s: Study, photo: Tensor, method: str, steps: int) -> Tensor:
    """A short run of the framework, kept nowhere."""
    short = framework.options(replace(s.p, steps=steps))
    style = s.style_picture() if "restyle" in method else None
    with tempfile.TemporaryDirectory() as folder:
        run = SimpleNamespace(folder=Path(folder), runtime=s.run.runtime)
        if method == "restyle":
            assert style is not None
            recipe = short.recipe or s.scale.photo
            return sfe.photorealistic(photo, style, run, loss=short.loss, recipe=recipe).E.cpu()
        corruption = "noise" if method == "denoise" else "haze"
        options = replace(short, passes=1)
        return framework.dilie(photo, style, run=run, corruption=corruption, options=options).E
