"""The one figure style, and the figures that many papers share.

One colour per method across all figures, units on the axes, pictures at 1:1 with zoomed crops.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 7.0  # inches: the printed width
_PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#7F7F7F")
_FIXED = {"noisy": "#7F7F7F", "degraded": "#7F7F7F", "clean": "#000000"}
_KINDS = {
    nn.Conv2d: ("Conv", "#9ecae1"),
    nn.BatchNorm2d: ("BN", "#fdd0a2"),
    nn.ReLU: ("ReLU", "#c7e9c0"),
}


def style() -> Mapping[str, Any]:
    """Settings of every figure; `figure` applies them.

    Returns:
        matplotlib parameters; no text is under 7 pt.
    """
    return {
        "font.size": 8,
        "axes.titlesize": 8,
        "axes.labelsize": 8,
        "xtick.labelsize": 7,
        "ytick.labelsize": 7,
        "legend.fontsize": 7,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.alpha": 0.25,
        "lines.linewidth": 1.4,
        "legend.frameon": False,
        "figure.dpi": 110,
    }


def figure(rows: int, columns: int, *, height: float, width: float = WIDTH) -> tuple[Figure, Any]:
    """An empty figure, outside pyplot's global list; the house style holds from then on.

    Args:
        rows: Of axes.
        columns: Of axes.
        height: In inches.
        width: In inches.

    Returns:
        (figure, array of axes with shape (rows, columns)).
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    settings: dict[Any, Any] = dict(style())
    mpl.rcParams.update(settings)  # texts added later read it too
    made = Figure(figsize=(width, height), layout="constrained")
    return made, made.subplots(rows, columns, squeeze=False)


def colour(method: str, methods: Sequence[str]) -> str:
    """The colour of a method, the same in every figure that lists the same methods.

    Args:
        method: One of them.
        methods: All of them, in the paper's order.

    Returns:
        A hexadecimal colour.
    """
    return _FIXED.get(method) or _PALETTE[list(methods).index(method) % len(_PALETTE)]


def lines(
    axes: Axes,
    series: Mapping[str, tuple[Sequence[float], Sequence[Sequence[float]]]],
    *,
    x: str,
    y: str,
    title: str = "",
) -> None:
    """Curves with their spread over seeds as a band.

    Args:
        axes: Where to draw.
        series: Method -> (x values, one list of y values per seed).
        x: Label with unit.
        y: Label with unit.
        title: Above the axes.
    """
    for method, (where, runs) in series.items():
        values = torch.tensor([list(run) for run in runs], dtype=torch.float64)
        shade = colour(method, list(series))
        middle = values.mean(0)
        dashed = "--" if method in _FIXED else "-"
        axes.plot(where, middle, dashed, color=shade, label=method, marker="o", markersize=2.5)
        if len(runs) > 1:
            band = values.std(0)
            axes.fill_between(where, middle - band, middle + band, color=shade, alpha=0.18, lw=0)
    axes.set(xlabel=x, ylabel=y, title=title)
    axes.legend()


def name_ends(axes: Axes) -> None:
    """Write every curve's label beside its right end, in its colour, instead of a legend.

    Labels that would lie on one another move apart; a thin line then leads to the curve. Curves
    without a label stay without one.

    Args:
        axes: Holds the curves, and its limits do not change any more.
    """
    from matplotlib.figure import Figure

    named = [line for line in axes.lines if not str(line.get_label()).startswith("_")]
    made = axes.get_figure()
    assert isinstance(made, Figure)
    made.draw_without_rendering()  # the layout says how many points lie between two ends
    ends = [(_last(line.get_xdata()), _last(line.get_ydata())) for line in named]
    points = 72 / made.dpi
    heights = [float(axes.transData.transform(end)[1]) * points for end in ends]
    size = float(style()["legend.fontsize"])
    for line, end, height, place in zip(
        named, ends, heights, _apart(heights, 1.15 * size), strict=True
    ):
        moved = place - height
        leader = {"arrowstyle": "-", "lw": 0.5, "color": line.get_color(), "shrinkB": 1.5}
        axes.annotate(
            str(line.get_label()), end, (10, moved), textcoords="offset points", va="center",
            fontsize=size, color=line.get_color(), annotation_clip=False,
            arrowprops=leader if abs(moved) > 1 else None,
        )  # fmt: skip


def _apart(wanted: Sequence[float], gap: float) -> list[float]:
    """The places nearest to those wanted, in their order, no two closer than the gap."""
    order = sorted(range(len(wanted)), key=lambda k: wanted[k])
    groups: list[list[float]] = []  # what the lowest of each group of touching labels would like
    for place, k in enumerate(order):
        groups.append([wanted[k] - gap * place])
        while len(groups) > 1 and _mean(groups[-2]) > _mean(groups[-1]):
            groups[-2:] = [groups[-2] + groups[-1]]
    lowest = [_mean(group) for group in groups for _ in group]
    found = [0.0] * len(wanted)
    for place, k in enumerate(order):
        found[k] = lowest[place] + gap * place
    return found


def _last(values: object) -> float:
    return float(torch.as_tensor(values).flatten()[-1])


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def picture(axes: Axes, image: Tensor, title: str) -> None:
    """A picture, pixel for pixel, in its own frame.

    Args:
        axes: Where to draw.
        image: (3, H, W) or (1, H, W); shown clipped to [0, 1].
        title: Above it.
    """
    shown = image.detach().cpu().clamp(0, 1).numpy()
    if shown.shape[0] == 1:
        axes.imshow(shown[0], cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    else:
        axes.imshow(shown.transpose(1, 2, 0), interpolation="nearest")
    axes.set_title(title)
    axes.set_axis_off()


def crops(
    columns: Sequence[tuple[str, Tensor]], *, corner: tuple[int, int], side: int = 48
) -> Figure:
    """Pictures in a row, and under each an enlarged crop of the same place.

    Args:
        columns: (title, (C, H, W)) in the order shown.
        corner: Row and column of the crop.
        side: Of the crop, in pixels.

    Returns:
        The figure.
    """
    from matplotlib.patches import Rectangle

    row, column = corner
    made, axes = figure(2, len(columns), height=2 * WIDTH / len(columns) + 0.5)
    for k, (title, image) in enumerate(columns):
        picture(axes[0, k], image, title)
        frame = Rectangle((column, row), side, side, fill=False, edgecolor="#D55E00", lw=1)
        axes[0, k].add_patch(frame)
        picture(axes[1, k], image[:, row : row + side, column : column + side], "")
    axes[1, 0].set_title("crop", loc="left")
    return made


def architecture(network: nn.Sequential, *, start: str, end: str) -> Figure:
    """The layers of a network as blocks, read off the built module.

    Equal neighbours are drawn once, with the number of times they stand in a row.

    Args:
        network: Its layers in order.
        start: What goes in.
        end: What comes out.

    Returns:
        The figure.
    """
    from matplotlib.patches import FancyBboxPatch

    blocks = _blocks(network)
    made, axes = figure(1, 1, height=1.5)
    ax = axes[0, 0]
    ax.set(xlim=(-0.8, len(blocks) + 0.4), ylim=(-0.25, 1.35))
    ax.set_axis_off()
    arrow = {"arrowstyle": "->", "lw": 1}
    for k, (layers, count) in enumerate(blocks):
        ax.annotate("", (k + 0.13, 0.5), (k - 0.13, 0.5), arrowprops=arrow)
        height = 0.9 / len(layers)
        for j, (text, shade) in enumerate(layers):
            bottom = 0.95 - (j + 1) * height
            shape: dict[str, Any] = {"boxstyle": "round,pad=0.02", "fc": shade, "ec": "none"}
            ax.add_patch(FancyBboxPatch((k + 0.18, bottom), 0.64, height * 0.88, **shape))
            ax.text(k + 0.5, bottom + height * 0.44, text, ha="center", va="center", fontsize=7)
        if count > 1:
            ax.text(k + 0.5, 1.12, f"× {count}", ha="center", fontsize=8)
    ax.annotate("", (len(blocks) + 0.13, 0.5), (len(blocks) - 0.13, 0.5), arrowprops=arrow)
    ax.text(-0.2, 0.5, start, ha="right", va="center", fontsize=8)
    ax.text(len(blocks) + 0.16, 0.5, end, ha="left", va="center", fontsize=8)
    return made


def _blocks(network: nn.Sequential) -> list[tuple[list[tuple[str, str]], int]]:
    """[(what one block shows, how often it stands in a row)]; a block begins with a convolution."""
    found: list[list[tuple[str, str]]] = []
    for layer in network:
        text, shade = _KINDS.get(type(layer), (type(layer).__name__, "#dddddd"))
        if isinstance(layer, nn.Conv2d):
            text = f"{text} {layer.kernel_size[0]}×{layer.kernel_size[1]}\n"
            text += f"{layer.in_channels} → {layer.out_channels}"
        if isinstance(layer, nn.Conv2d) or not found:
            found.append([])
        found[-1].append((text, shade))
    return [(block, len(list(same))) for block, same in groupby(found)]
