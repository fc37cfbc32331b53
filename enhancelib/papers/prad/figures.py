"""The pictures of the PRaD notebook, and by these names also its framework and its charts.

Figures show bundled photos, whose licence allows it. Where real pairs are at hand (data_root), a
second one shows those; its name ends in "_real", and it is the one that is returned. No bundled
photo has a name like `RESTRICTED`, so `publish` leaves that second one out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from enhancelib import images, metrics, photos, plots, runtime
from enhancelib.models.prad import Critic, Generator
from enhancelib.papers.prad import bundled, data, drawing, settings
from enhancelib.papers.prad.charts import (
    ablations,
    conventions,
    critic_alone,
    curves,
    misaligned,
    reactions,
    shift,
    wrapped,
)
from enhancelib.papers.prad.study import apply
from enhancelib.results import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from enhancelib.pairs import Pairs
    from enhancelib.papers.prad.scoring import Restore
    from enhancelib.papers.prad.study import Study

__all__ = [
    "ablations",
    "conventions",
    "critic_alone",
    "curves",
    "feature_maps",
    "framework",
    "full_size",
    "misaligned",
    "other_cameras",
    "patches",
    "reactions",
    "samples",
    "shift",
]

RESTRICTED = "restricted: DPED"
SHOWN = ("astronaut", "coffee", "chelsea")
"""Bundled photos that pairs are made of: test split, so nothing was trained on them."""

_REACH = 6  # pixels in which the displacement of a pair is looked for
_ALIKE = 0.3  # least correlation of edges that a displacement is read from
_BLANK = 0.05  # standard deviation under which an output shows nothing
_SMOKE = 320  # longer side of whole photos at profile smoke, in pixels


def samples(s: Study) -> Figure:
    """Pairs: input above, target below, and both in one picture that shows how they lie.

    Drawn from the more textured half: walls and sky show no displacement. The input's luma is red,
    the target's cyan, after the input was given the target's mean and contrast: what lies over one
    another is grey, an edge with coloured seams does not.

    Args:
        s: The run.

    Returns:
        The figure, of real pairs where there are some.
    """
    real = data.validation(s.p) if s.p.data_root else None
    return _twice(
        s.run, "samples", _made(24), real, lambda pairs: _samples(_few(_textured(pairs), 8))
    )


def _samples(pairs: Pairs) -> Figure:
    made, axes = plots.figure(3, len(pairs), height=3.1)
    for k, (x, y) in enumerate(zip(pairs.degraded, pairs.clean, strict=True)):
        plots.picture(axes[0, k], x, "")
        plots.picture(axes[1, k], y, "")
        plots.picture(axes[2, k], _overlay(x, y), "")
        axes[2, k].text(
            0.5, -0.06, _displaced(x, y), transform=axes[2, k].transAxes, ha="center", va="top"
        )
    made.supxlabel("where the target lies: pixels to the right, pixels down", fontsize=7)
    for row, name in enumerate(("phone $I_s$", "target $I_t$", "both")):
        _beside(axes[row, 0], name)
    return made


def _overlay(x: Tensor, y: Tensor) -> Tensor:
    """(3, H, W): luma of x in red, of y in cyan, x with the mean and contrast of y."""
    red, cyan = images.luma(x), images.luma(y)
    matched = (red - red.mean()) * (cyan.std() / red.std().clamp_min(1e-3)) + cyan.mean()
    return torch.cat((matched, cyan, cyan)).clamp(0, 1)


def _displaced(x: Tensor, y: Tensor) -> str:
    """The whole pixels by which y's edges lie away from x's, where the two have edges in common."""
    a, b = (_edges(images.luma(picture)) for picture in (x, y))
    inner = slice(_REACH, -_REACH)
    kept = _standard(a[:, inner, inner])
    height, width = kept.shape[-2:]
    places = [(down, right) for down in range(2 * _REACH + 1) for right in range(2 * _REACH + 1)]
    likeness = [
        float((kept * _standard(b[:, down : down + height, right : right + width])).mean())
        for down, right in places
    ]
    best = max(range(len(places)), key=lambda k: likeness[k])
    down, right = (n - _REACH for n in places[best])
    clear = likeness[best] > _ALIKE and max(abs(down), abs(right)) < _REACH
    return f"{right}, {down} px".replace("-", "−") if clear else "not clear"


def _edges(luma: Tensor) -> Tensor:
    return luma.diff(dim=-1)[:, 1:].abs() + luma.diff(dim=-2)[..., 1:].abs()


def _standard(x: Tensor) -> Tensor:
    return (x - x.mean()) / x.std().clamp_min(1e-6)


def framework(run: Run, generator: nn.Module, critic: Critic) -> Figure:
    """The whole framework as it is built, on a bundled pair; see `drawing.framework`.

    Args:
        run: Keeps the figure; its parameters give the losses' weights.
        generator: A `Generator`.
        critic: The critic.

    Returns:
        The figure.

    Raises:
        TypeError: If the generator is of another family.

    Example:
        >>> framework(None, nn.Identity(), None)
        Traceback (most recent call last):
        TypeError: the framework is that of PRaD's generator; this is a Identity
    """
    if not isinstance(generator, Generator):
        kind = type(generator).__name__
        raise TypeError(f"the framework is that of PRaD's generator; this is a {kind}")
    x, y = _face()
    known = settings.Parameters.__dataclass_fields__
    p = settings.Parameters(**{n: v for n, v in run.parameters.items() if n in known})
    enhanced = apply(generator, x[None])[0]
    shown = enhanced if enhanced.std() > _BLANK else None
    made = drawing.framework(generator, critic, (x, y, shown), weights=p.weights_of_terms())
    run.figure("framework", made, photos=[SHOWN[0]])
    return made


def feature_maps(run: Run, generator: nn.Module) -> Figure:
    """Mean over channels before and after R and CFA, at every scale of the decoder.

    Args:
        run: Keeps the figure.
        generator: A network with PRaD's `outputs`.

    Returns:
        The figure: one row per scale, coarsest first, each map at its own size and brightness.
    """
    x, _ = _face()
    device = next(generator.parameters()).device
    with torch.inference_mode():
        found = generator.eval().outputs(x[None].to(device))  # type: ignore[operator]
    scales = sorted((int(n[3:]) for n in found if n.startswith("up_")), reverse=True)
    made, axes = plots.figure(len(scales), 6, height=1.25 * len(scales) + 0.35)
    titles = ("before R", "after R", "change, less mean", "$F_n$", "after CFA", "$y_{dec}^n$")
    for row, n in zip(axes, scales, strict=True):
        up, refined, *rest = (
            found[f"{name}_{n}"][0].float().mean(0).cpu()
            for name in ("up", "refined", "gathered", "aggregated", "decoded")
        )
        for ax, field in zip(row, (up, refined, refined - up, *rest), strict=True):
            _map(ax, field, signed=ax is row[2])
        _beside(row[0], f"scale {n}, {up.shape[1]} × {up.shape[0]}")
    for ax, title in zip(axes[0], titles, strict=True):
        ax.set_title(title)
    run.figure("feature_maps", made, photos=[SHOWN[0]])
    return made


def _map(ax: Axes, field: Tensor, *, signed: bool) -> None:
    """One map in the range of its inner part: zeros around a picture leave a bright rim."""
    rim = min(field.shape) // 12
    inner = field[rim : -rim or None, rim : -rim or None]
    if signed:  # white is the mean
        field, inner = field - inner.mean(), inner - inner.mean()
        top = max(float(inner.abs().quantile(0.995)), 1e-9)
        low, high, words = -top, top, f"±{top:.2g}"
    else:
        low, high = (float(inner.quantile(q)) for q in (0.005, 0.995))
        words = f"{low:.3g} … {high:.3g}".replace("-", "−")
    colours = "RdBu_r" if signed else "gray"
    ax.imshow(field.numpy(), cmap=colours, vmin=low, vmax=high, interpolation="nearest")
    ax.text(0.5, -0.03, words, transform=ax.transAxes, ha="center", va="top", fontsize=7)
    ax.set_axis_off()


def patches(s: Study, networks: Mapping[str, Restore]) -> Figure:
    """Test patches: the phone's, what each method makes of them, and the target.

    Args:
        s: The run.
        networks: Method -> restoring function.

    Returns:
        The figure, of real pairs where there are some; PSNR against the target in every picture.
    """
    real = data.test(s.p) if s.p.data_root else None
    return _twice(
        s.run, "patches", _made(24), real, lambda pairs: _patches(_few(pairs, 4), networks)
    )


def _patches(pairs: Pairs, networks: Mapping[str, Restore]) -> Figure:
    columns = {"phone": pairs.degraded}
    columns |= {name: images.clip(restore(pairs.degraded)) for name, restore in networks.items()}
    columns["target"] = pairs.clean
    side = min(1.3, plots.WIDTH / len(columns))  # inches
    made, axes = plots.figure(
        len(pairs), len(columns), height=side * len(pairs) + 0.45, width=side * len(columns)
    )
    for (name, shown), column in zip(columns.items(), axes.T, strict=True):
        scores = metrics.METRICS["psnr"](shown, pairs.clean)
        for ax, image, score in zip(column, shown, scores.tolist(), strict=True):
            plots.picture(ax, image, "")
            if name != "target":
                _tag(ax, f"{score:.1f} dB")
        column[0].set_title(wrapped(name, 110 // len(columns)))
    return made


def full_size(s: Study, networks: Mapping[str, Restore]) -> Figure:
    """A whole photo before and after the last network, and a crop of what each method makes of it.

    Args:
        s: The run.
        networks: Method -> restoring function.

    Returns:
        The figure, of the user's photo where there is one. Photos have no partner, so no score.
    """
    name = max(data.other_cameras(s.p), key=_landscape)
    generator = runtime.generator(0, "prad", "full size")
    photo = bundled.taken(_reduced(bundled.whole(name), s), generator)
    made = _full_size(photo, networks)
    s.run.figure("full_size", made, photos=[name])
    if s.p.data_root and (own := data.full_size(s.p, 1)):
        made = _full_size(_reduced(next(iter(own.values())), s), networks)
        s.run.figure("full_size_real", made, photos=[RESTRICTED])
    return made


def _landscape(name: str) -> tuple[bool, int]:
    photo = photos.find(name)
    return photo.width > photo.height, photo.width


def _reduced(photo: Tensor, s: Study) -> Tensor:
    longest = max(photo.shape[-2:])
    if s.p.profile != "smoke" or longest <= _SMOKE:
        return photo
    return images.clip(images.resize(photo, scale=_SMOKE / longest))


def _full_size(photo: Tensor, networks: Mapping[str, Restore]) -> Figure:
    from matplotlib.patches import Rectangle

    columns = {"phone": photo}
    columns |= {name: images.clip(restore(photo[None]))[0] for name, restore in networks.items()}
    count, (height, width) = len(columns), photo.shape[-2:]
    whole = min(3.1, 2.4 * width / height)  # inches
    made, axes = plots.figure(1, 1, height=whole * height / width + plots.WIDTH / count + 0.5)
    axes[0, 0].remove()
    crops: list[Any] = [cell for k in range(count) for cell in (f"crop {k}",) * 2]
    above: list[Any] = ["before"] * count + ["after"] * count
    ratios = [whole * height / width, plots.WIDTH / count]
    placed = made.subplot_mosaic([above, crops], height_ratios=ratios)
    side = min(128, height // 2, width // 2)
    top, left = _detail(photo, side)
    scale = min(1.0, 150 * whole / width)
    for cell, method in (("before", "phone"), ("after", list(columns)[-1])):
        image, title = columns[method], f"{method}, {width} × {height}"
        if scale < 1:
            image, title = images.resize(image, scale=scale), f"{title}, reduced"
        plots.picture(placed[cell], image, title)
        corner, edge = (left * scale, top * scale), side * scale
        frame = Rectangle(corner, edge, edge, fill=False, edgecolor="#D55E00", lw=1)
        placed[cell].add_patch(frame)
    for k, (name, image) in enumerate(columns.items()):
        crop = image[:, top : top + side, left : left + side]
        plots.picture(placed[f"crop {k}"], crop, wrapped(name, 90 // count))
    return made


def _detail(photo: Tensor, side: int) -> tuple[int, int]:
    """The corner of the square with the strongest coarse edges in the middle of a photo."""
    coarse = max(1, side // 32)
    small = torch.nn.functional.avg_pool2d(images.luma(photo), coarse)
    energy = torch.nn.functional.avg_pool2d(_edges(small), side // coarse - 1, 1)[0]
    top, left = (n // 5 for n in energy.shape)
    middle = energy[top : -top or None, left : -left or None]
    row, column = divmod(int(middle.argmax()), middle.shape[1])
    return coarse * (top + row), coarse * (left + column)


def other_cameras(run: Run, method: str, generator: nn.Module) -> Figure:
    """Photos of other cameras, which no phone took: before and after.

    Args:
        run: Keeps the figure.
        method: What the network is called.
        generator: Maps (B, 3, H, W) to the same.

    Returns:
        The figure; at profile smoke of the photos inside scikit-image alone.
    """
    names = bundled.other_cameras(bundled=run.profile == "smoke")[:5]
    side = int(150 * plots.WIDTH / len(names)) - 12  # pixel for pixel at 150 dots per inch
    made, axes = plots.figure(2, len(names), height=2 * plots.WIDTH / len(names) + 0.2)
    for column, name in zip(axes.T, names, strict=True):
        square = _square(photos.load(name), min(side, 256))
        plots.picture(column[0], square, name.replace("pexels_", "Pexels "))
        plots.picture(column[1], images.clip(apply(generator, square[None]))[0], "")
    _beside(axes[0, 0], "before")
    _beside(axes[1, 0], method)
    run.figure("other_cameras", made, photos=names)
    return made


def _square(photo: Tensor, side: int) -> Tensor:
    edge = min(photo.shape[-2:])
    top, left = ((n - edge) // 2 for n in photo.shape[-2:])
    square = photo[:, top : top + edge, left : left + edge]
    return images.clip(images.resize(square, size=(side, side)))


def _twice(
    run: Run, name: str, made_up: Pairs, real: Pairs | None, draw: Callable[[Pairs], Figure]
) -> Figure:
    """Draw bundled pairs, and real ones where there are some; the last drawn."""
    drawn = draw(made_up)
    shown = list(dict.fromkeys(one.split(" ")[0] for one in made_up.names))
    run.figure(name, drawn, photos=shown)
    if real is not None:
        drawn = draw(real)
        run.figure(f"{name}_real", drawn, photos=[RESTRICTED])
    return drawn


def _made(count: int) -> Pairs:
    """Pairs made of the photos inside scikit-image, the same on every machine."""
    return bundled.bank("test", count, bundled=True)


def _face() -> tuple[Tensor, Tensor]:
    """A square of the first bundled photo, as the phone takes it and as it is."""
    y = photos.load(SHOWN[0])[:, 24:184, 144:304]
    return bundled.taken(y, runtime.generator(0, "prad", "figures")), y


def _few(pairs: Pairs, count: int) -> Pairs:
    """Pairs spread evenly over those that are not pure white."""
    kept = pairs.without_white()
    count = min(count, len(kept))
    return kept.choose([k * len(kept) // count for k in range(count)])


def _textured(pairs: Pairs) -> Pairs:
    """The half with the stronger contrast in the target."""
    contrast = images.luma(pairs.clean).flatten(1).std(1)
    kept = contrast.argsort(descending=True)[: (len(pairs) + 1) // 2]
    return pairs.choose(sorted(kept.tolist()))


def _beside(ax: Axes, text: str) -> None:
    """A row's name, left of its first picture."""
    look: dict[str, Any] = {"rotation": 90, "ha": "right", "va": "center", "fontsize": 8}
    ax.text(-0.05, 0.5, text, transform=ax.transAxes, **look)


def _tag(ax: Axes, text: str) -> None:
    box = {"facecolor": "white", "alpha": 0.75, "pad": 1, "edgecolor": "none"}
    ax.text(0.04, 0.05, text, transform=ax.transAxes, fontsize=7, bbox=box)
