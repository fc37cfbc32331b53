"""The pictures of the DILIE notebook.

Figures show bundled photos, whose licence allows it. Where real pairs are at hand (data_root), a
second one shows those; its name ends in "_real", and `publish` leaves it out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from enhancelib import metrics, plots

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from enhancelib.papers.dilie.cfe import Dehazed
    from enhancelib.papers.dilie.framework import Made
    from enhancelib.papers.dilie.study import Hazy, Study

RESTRICTED = "restricted: dehazing sets"
_INCH = 1.35  # width of a picture in a row


def samples(s: Study) -> Figure:
    """What is optimised: hazy pictures with the truth below, the noisy one, and the style photo.

    Args:
        s: The run.

    Returns:
        The figure.
    """
    name, clean, noisy = s.noisy_picture()
    made_up = [one for one in s.hazy_pictures() if one.t is not None]
    columns = {f"{one.name}, hazy": (one.hazy, one.clean) for one in made_up}
    if s.bundled_noise():
        columns[f"{name}, noisy"] = (noisy, clean)
    columns["style"] = (s.style_picture(), None)  # type: ignore[assignment]
    made = _pairs(columns)
    shown = [one.name for one in made_up] + [name] * s.bundled_noise() + [s.style_name()]
    s.run.figure("samples", made, photos=shown)
    real = [one for one in s.hazy_pictures() if one.t is None]
    if real:
        pairs = {f"{one.name}, hazy": (one.hazy, one.clean) for one in real}
        made = _pairs(pairs)
        s.run.figure("samples_real", made, photos=[RESTRICTED])
    return made


def _pairs(columns: Mapping[str, tuple[Tensor, Tensor | None]]) -> Figure:
    made, axes = plots.figure(2, len(columns), height=2.9)
    for (title, (top, below)), column in zip(columns.items(), axes.T, strict=True):
        plots.picture(column[0], top, title)
        if below is None:
            column[1].set_axis_off()
        else:
            plots.picture(column[1], below, "")
    return made


def strip(pictures: Mapping[str, Tensor], *, truth: Tensor | None = None, rows: int = 1) -> Figure:
    """Pictures side by side, each with its PSNR where the truth is known.

    Args:
        pictures: Title -> (3, H, W) or (1, H, W).
        truth: (3, H, W); None leaves the scores out.
        rows: Over which they are spread.

    Returns:
        The figure.
    """
    count = -(-len(pictures) // rows)
    first = next(iter(pictures.values()))
    width = min(_INCH, plots.WIDTH / count)
    height = rows * (width * first.shape[1] / first.shape[2] + 0.32)
    made, axes = plots.figure(rows, count, height=height, width=width * count)
    for ax in axes.flat:
        ax.set_axis_off()
    for ax, (title, image) in zip(axes.flat, pictures.items(), strict=False):
        plots.picture(ax, image, title)
        if truth is not None and image.shape == truth.shape and not torch.equal(image, truth):
            score = metrics.METRICS["psnr"](image.clamp(0, 1)[None], truth[None])
            _tag(ax, f"{float(score[0]):.1f} dB")
    return made


def denoised(s: Study) -> Figure:
    """The noisy picture, what filters and the two networks made of it, and the truth.

    Args:
        s: The run, after `denoising.measure`.

    Returns:
        The figure.
    """
    name, clean, noisy = s.noisy_picture()
    pictures = {"noisy": noisy, **s.denoised_pictures(), "clean": clean}
    made = strip(pictures, truth=clean, rows=2)
    s.run.figure("denoised", made, photos=[name if s.bundled_noise() else RESTRICTED])
    return made


def layers(s: Study, found: Mapping[tuple[str, float, int], Dehazed]) -> Figure:
    """The layers I, J, t, A of a photo, their recomposition, and the truth.

    Args:
        s: The run.
        found: (picture, lambda, seed) -> decomposition, as `dehazing.measure` gives it.

    Returns:
        The figure: one row per picture, of real pictures where there are some.
    """
    made: Figure | None = None
    for name, keep in (("layers", True), ("layers_real", False)):
        chosen = [one for one in s.hazy_pictures() if (one.t is not None) == keep][:3]
        if not chosen:
            continue
        made = _layers(s, chosen, found)
        s.run.figure(name, made, photos=[one.name for one in chosen] if keep else [RESTRICTED])
    assert made is not None  # there is always a bundled photo
    return made


def _layers(
    s: Study, chosen: Sequence[Hazy], found: Mapping[tuple[str, float, int], Dehazed]
) -> Figure:
    titles = ("hazy $I$", "dehazed $\\hat C$", "network's $J$", "$t$", "$A$", "again $I$", "truth")
    height, width = chosen[0].hazy.shape[1:]
    tall = plots.WIDTH / len(titles) * height / width
    made, axes = plots.figure(len(chosen), len(titles), height=tall * len(chosen) + 0.3)
    for row, one in zip(axes, chosen, strict=True):
        # without VGG19 there is no contextual content loss, and lambda is 0
        result = found.get((one.name, s.p.lam, s.p.seed)) or found[one.name, 0.0, s.p.seed]
        last = result.passes[-1]
        images = (
            one.hazy, result.picture, last.layers["J"], result.layers["t"], result.layers["A"],
            result.layers["recomposition"], one.clean,
        )  # fmt: skip
        for ax, image in zip(row, images, strict=True):
            plots.picture(ax, image, "")
    for ax, title in zip(axes[0], titles, strict=True):
        ax.set_title(title)
    return made


def restyled(s: Study) -> Figure | None:
    """The paper's teaser: from a hazy and a noisy photo, what every style transfer makes of it.

    Args:
        s: The run, after `styling.haziness`.

    Returns:
        The figure: one row per photo, the style at the left; empty where hours ended a method
        before it came to the photo. None without VGG19.
    """
    if not (rows := s.restyled_pictures()):
        return None
    titles = _titles(rows)
    first = next(iter(next(iter(rows.values())).values()))
    columns = len(titles) + 1
    tall = plots.WIDTH / columns * first.shape[1] / first.shape[2]
    made, axes = plots.figure(len(rows), columns, height=tall * len(rows) + 0.45)
    for row, (name, pictures) in zip(axes, rows.items(), strict=True):
        plots.picture(row[0], _like(s.style_picture(), first), "")
        _name(row[0], name)
        for ax, title in zip(row[1:], titles, strict=True):
            _picture_or_nothing(ax, pictures.get(title))
    for ax, title in zip(axes[0], ("style $S$", *titles), strict=True):
        ax.set_title(_wrapped(title, 110 // columns))
    s.run.figure("restyled", made, photos=[*s.content_names(), s.style_name()])
    return made


def noisy(s: Study) -> Figure | None:
    """Restyled noisy photos with zoomed crops (Fig. 5), from I, from C^, and with denoised style.

    Args:
        s: The run, after `styling.noisy`.

    Returns:
        The figure: one row per strength of the noise, whole pictures left, crops right; None
        without VGG19.
    """
    if not (rows := s.noisy_pictures()):
        return None
    titles = _titles(rows)
    made, axes = plots.figure(len(rows), 2 * len(titles), height=1.05 * len(rows) + 0.5)
    for row, (sigma, pictures) in zip(axes, rows.items(), strict=True):
        for k, title in enumerate(titles):
            image = pictures.get(title)
            _picture_or_nothing(row[k], image)
            _picture_or_nothing(row[len(titles) + k], None if image is None else _crop(image))
        _name(row[0], f"σ = {sigma:g}")
    for k, title in enumerate(titles):
        axes[0, k].set_title(_wrapped(title, 16), fontsize=7)
        axes[0, len(titles) + k].set_title("crop", fontsize=7)
    s.run.figure("noisy", made, photos=[*s.content_names(), s.style_name()])
    return made


def _name(ax: Axes, name: str) -> None:
    """A word at the left of a row; an axis that is switched off has no label."""
    ax.text(
        -0.06, 0.5, name, transform=ax.transAxes, rotation=90, ha="right", va="center", fontsize=7
    )


def _titles(rows: Mapping[Any, Mapping[str, Tensor]]) -> list[str]:
    """What any row shows, once each."""
    return list(dict.fromkeys(title for pictures in rows.values() for title in pictures))


def _picture_or_nothing(ax: Axes, image: Tensor | None) -> None:
    if image is None:
        ax.set_axis_off()
    else:
        plots.picture(ax, image, "")


def framework(s: Study, made: Made) -> Figure:
    """The whole framework on one photo, every step of it (Fig. 2).

    Args:
        s: The run.
        made: What `framework.dilie` gave.

    Returns:
        The figure; published where the photo and the style are bundled ones.
    """
    style = {} if made.S is None else {"style $S$": made.S}
    pictures = {"input $I$": made.I, **made.steps(), **style, "enhanced $E$": made.E}
    shown = {title: _like(image, made.I) for title, image in pictures.items()}
    drawn = strip(shown, rows=-(-len(shown) // 5))
    s.run.figure("framework", drawn, photos=_framework_photos(s))
    return drawn


def _framework_photos(s: Study) -> Sequence[str]:
    own = bool(s.p.photo or s.p.reference)
    if own or (s.p.corruption == "noise" and not s.bundled_noise()):
        return [RESTRICTED]
    if s.p.corruption == "noise":
        return [s.noisy_picture()[0], s.style_name()]
    return s.framework_photos()


def _like(image: Tensor, other: Tensor) -> Tensor:
    """The middle of a picture in the shape of another, for a row of equal frames."""
    height, width = other.shape[1:]
    if image.shape[1:] == other.shape[1:]:
        return image
    part = min(image.shape[1] / height, image.shape[2] / width)
    tall, wide = max(1, int(height * part)), max(1, int(width * part))
    top, left = (image.shape[1] - tall) // 2, (image.shape[2] - wide) // 2
    cut = image[None, :, top : top + tall, left : left + wide]
    small: Tensor = torch.nn.functional.interpolate(cut, size=(height, width), mode="area")[0]
    return small


def _crop(image: Tensor) -> Tensor:
    """The middle third, pixel by pixel."""
    height, width = image.shape[1:]
    tall, wide = height // 3, width // 3
    return image[:, tall : 2 * tall, wide : 2 * wide]


def _wrapped(text: str, width: int) -> str:
    import textwrap

    return "\n".join(textwrap.wrap(text, max(6, width)))


def _tag(ax: Axes, text: str) -> None:
    box: dict[str, Any] = {"facecolor": "white", "alpha": 0.75, "pad": 1, "edgecolor": "none"}
    ax.text(0.04, 0.05, text, transform=ax.transAxes, fontsize=7, bbox=box)
