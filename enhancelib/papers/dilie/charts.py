"""The charts of the DILIE notebook: everything that is drawn from a run's values."""

from __future__ import annotations

from typing import TYPE_CHECKING

from enhancelib import plots
from enhancelib.papers.dilie import verdict
from enhancelib.results import Run, select

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TARGETS = {"clean": "photo", "noisy": "photo and noise", "noise": "noise", "shuffled": "shuffled"}
_BLUE, _RED, _GREY = "#0072B2", "#D55E00", "#7F7F7F"


def impedance(run: Run) -> Figure:
    """How fast one network fits a photo, a noisy photo, noise, and a photo with shuffled pixels.

    Args:
        run: After `denoising.impedance`.

    Returns:
        The figure.
    """
    values = run.values(table="impedance", metric="mse")
    made, axes = plots.figure(1, 1, height=2.6, width=5.0)
    ax = axes[0, 0]
    for method, name in TARGETS.items():
        one = select(values, method=method)
        if not one.empty:
            steps, curves = _curves(one)
            shade = plots.colour(method, list(TARGETS))
            for k, curve in enumerate(curves):
                ax.plot(steps, curve, color=shade, lw=1, label=name if not k else None)
    ax.set(yscale="log", xlabel="step", ylabel="mean square error to the target")
    plots.name_ends(ax)
    run.figure("impedance", made)
    return made


def denoising(run: Run) -> Figure:
    """PSNR against the clean picture by step; nothing stops by it, it needs the truth.

    Args:
        run: After `denoising.measure`.

    Returns:
        The figure; horizontal lines are filters.
    """
    curves = run.values(table="denoising_curve", metric="psnr")
    levels = run.values(table="denoising", metric="psnr")
    made, axes = plots.figure(1, 1, height=3.0, width=5.6)
    _by_method(axes[0, 0], curves, x="step", y="PSNR to the clean photo, dB")
    for place, method in enumerate(("noisy", *verdict.FILTERS)):
        one = select(levels, method=method)["value"]
        if len(one):
            _level(axes[0, 0], float(one.mean()), method, 0.01 + 0.22 * place)
    run.figure("denoising", made)
    return made


def dehazing(run: Run) -> Figure:
    """SSIM and PSNR of the inverted haze model by step, one line per lambda, mean over pictures.

    Args:
        run: After `dehazing.measure`.

    Returns:
        The figure; bands are the standard deviation over seeds.
    """
    values = run.values(table="lambda_curve")
    made, axes = plots.figure(1, 2, height=2.6)
    for ax, metric, name in zip(axes[0], ("ssim", "psnr"), ("SSIM", "PSNR, dB"), strict=True):
        _by_method(ax, select(values, metric=metric), x="step", y=name)
    run.figure("dehazing", made)
    return made


def balance(run: Run) -> Figure:
    """Content against style error for several weights of the style loss.

    Args:
        run: After `styling.balance`.

    Returns:
        The figure: one point per weight, joined in their order.
    """
    values = run.values(table="balance")
    made, axes = plots.figure(1, 1, height=2.6, width=3.6)
    ax = axes[0, 0]
    methods = sorted(dict.fromkeys(values["method"]), key=lambda m: float(m.partition("=")[2]))
    places = [
        tuple(
            float(select(values, method=m, metric=metric)["value"].mean())
            for metric in ("style", "content")
        )
        for m in methods
    ]
    ax.plot(*zip(*places, strict=True), marker="o", markersize=3, color=_BLUE, lw=1)
    for method, place in zip(methods, places, strict=True):
        ax.annotate(
            method.replace("beta", "β"), place, xytext=(4, 3), textcoords="offset points",
            fontsize=7,
        )  # fmt: skip
    ax.set(xlabel="style loss $L_S$", ylabel="content loss $L_C$")
    ax.margins(0.15)
    run.figure("balance", made)
    return made


def haziness(run: Run) -> Figure:
    """H of every style transfer, from the hazy photo and from the dehazed one (Fig. 6).

    Args:
        run: After `styling.haziness`.

    Returns:
        The figure: bars are means over photos, dots the photos; shorter is better.
    """
    values = run.values(table="haziness", metric=verdict.ERROR)
    values = values[values["image"] != "mean"]
    methods = list(dict.fromkeys(values["method"]))
    made, axes = plots.figure(1, 1, height=0.9 + 0.42 * max(1, len(methods)), width=5.4)
    ax = axes[0, 0]
    pair = ((verdict.FROM_HAZY, _RED, 0.2), (verdict.FROM_CFE, _BLUE, -0.2))
    for setting, shade, offset in pair:
        label: str | None = setting
        for row, method in enumerate(methods):
            one = select(values, method=method, setting=setting)["value"]
            if one.empty:
                continue
            ax.barh(-row + offset, one.mean(), height=0.36, color=shade, alpha=0.55, label=label)
            label = None
            ax.plot(one, [-row + offset] * len(one), ".", color=shade, markersize=4)
    ax.axvline(0, color=_GREY, lw=0.8)
    ax.set_yticks([-k for k in range(len(methods))], methods)
    ax.set_xlabel(f"H under {verdict.ERROR}: 0 means that haze adds no error")
    if methods:
        ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)
    run.figure("haziness", made)
    return made


def _by_method(ax: Axes, values: pd.DataFrame, *, x: str, y: str) -> None:
    """One line per method, a band for the spread over seeds; pictures are averaged."""
    series = {}
    for method in dict.fromkeys(values["method"]):
        series[str(method)] = _curves(select(values, method=method))
    plots.lines(ax, series, x=x, y=y)


def _curves(values: pd.DataFrame) -> tuple[list[float], list[list[float]]]:
    """Steps, ascending, and one list of values per seed, the mean over pictures."""
    steps = values["setting"].str.extract(r"step=(\d+)")[0].astype(float)
    table = values.assign(step=steps).pivot_table(index="step", columns="seed", values="value")
    return [float(k) for k in table.index], [[float(v) for v in table[k]] for k in table.columns]


def _level(ax: Axes, height: float, name: str, left: float) -> None:
    ax.axhline(height, color=_GREY, lw=0.8, ls=":")
    ax.text(left, height, name, fontsize=7, va="bottom", transform=ax.get_yaxis_transform())
