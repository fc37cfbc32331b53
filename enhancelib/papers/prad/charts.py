"""The charts of the PRaD notebook: everything that is drawn from a run's values and curves."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from enhancelib import plots, published
from enhancelib.checkpoints import History
from enhancelib.papers.prad import classical, critics, data, settings, verdict
from enhancelib.papers.prad.drawing import TITLES
from enhancelib.papers.prad.scoring import ALL, COLUMNS
from enhancelib.results import Run, select

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from enhancelib.models.prad import Critic
    from enhancelib.papers.prad.study import Study, Trained

GUESSING = 2 * math.log(2)  # both relativistic losses where the scores say nothing
WON = 0.5  # under this loss the critic has won against a frozen generator (see `verdict`)

_BLUE, _RED, _GREEN, _GREY = "#0072B2", "#D55E00", "#009E73", "#7F7F7F"
_LOGS = ("#9A9A9A", "#BDBDBD", "#6E6E6E")
_ABOVE: dict[str, Any] = {  # a legend above the axes
    "loc": "lower center", "bbox_to_anchor": (0.5, 1), "ncols": 2, "columnspacing": 1,
    "handlelength": 1.2,
}  # fmt: skip
_HEADS = {
    "cfa": "aggregation and refinement", "depth": "aggregated feature", "discriminator": "critic",
    "losses": "losses", "norm": "normalisation", "backbones": "backbones",
}  # fmt: skip


def curves(run: Run, found: Mapping[int, Trained], s: Study) -> Figure:
    """The joint training: both sides of the game, and how quality grows beside DPED's own logs.

    Args:
        run: Keeps the figure.
        found: Seed -> generator, critic and curves.
        s: The run's parameters say which pairs are watched and how large patches are.

    Returns:
        The figure. The logs are others' runs of DPED's code on other pairs: shapes, not levels,
        can be compared.
    """
    made, axes = plots.figure(2, 3, height=4.3)
    game, scores, psnr, ms_ssim, content, colour = axes.flat
    for history in (trained.history for trained in found.values()):
        _curve(game, _unpenalised(history, s), "critic", _BLUE, "critic, Eq. 7")
        _curve(game, history, "gan", _RED, "generator, Eq. 8")
        _curve(scores, history, "real_score", _GREEN, "real pairs")
        _curve(scores, history, "fake_score", _RED, "generated")
        area = (settings.PATCH / settings.main_recipe(s.p).patch) ** 2
        for ax, name, key, factor in (
            (psnr, "psnr_pooled", "psnr_dped", 1.0),
            (ms_ssim, "ms_ssim", "ms_ssim_dped", 1.0),
            (content, "content", "content", 1.0),
            (colour, "color", "color", area),
        ):
            _curve(ax, history, name, _BLUE, "trained here", factor)
            if history is next(iter(found.values())).history:
                _logs(ax, key)
    _level(game, GUESSING, "2 ln 2", "--")
    game.set(ylabel="loss", ylim=(0, None))
    scores.set(ylabel="critic's mean score")
    psnr.set(title="PSNR of all pairs pooled, dB")
    ms_ssim.set(title="MS-SSIM")
    content.set(title="content loss, Eq. 16")
    colour.set(title=f"colour loss of {settings.PATCH} × {settings.PATCH} px", yscale="log")
    for ax in axes.flat:
        ax.set_xlabel("step")
    for ax in (game, scores):
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.legend(*_once(ax), **_ABOVE)
    for ax in axes.flat[2:]:
        ax.set_xscale("log")
    made.legend(
        *_once(psnr), loc="outside lower center", ncols=3, title_fontsize=7,
        title=f"Validation pairs of {data.name(s.p)}, beside others' logs of DPED's code on all "
        "iPhone pairs (there the colour loss is blurred).\n"
        "The sets differ, so shapes can be compared and levels cannot.",
    )  # fmt: skip
    run.figure("curves", made)
    return made


def _unpenalised(history: History, s: Study) -> History:
    """The critic's curve as Eq. 7 alone: what it minimises may hold a gradient penalty too."""
    total, extra = history.values.get("critic", []), history.values.get("penalty", [])
    if not extra:
        return history
    weight = settings.SCALES[s.p.profile].penalty
    kept = [c - weight * p for c, p in zip(total, extra, strict=True)]
    return History({"critic": history.steps["critic"]}, {"critic": kept})


def _curve(
    ax: Axes, history: History, name: str, shade: str, label: str, factor: float = 1.0
) -> None:
    if name in history.values:
        steps, values = history.steps[name], [factor * v for v in history.values[name]]
        marker = "o" if len(steps) < 40 else ""
        ax.plot(steps, values, color=shade, label=label, lw=1.1, marker=marker, markersize=2.5)


def _logs(ax: Axes, metric: str) -> None:
    """DPED's own curves behind ours; the axis is logarithmic, so step 0 is a point at 1."""
    frame = published.load("prad")
    frame = frame[(frame["table"] == "curves") & (frame["metric"] == metric)]
    for k, (row, lines) in enumerate(frame.groupby("row", sort=False)):
        steps = lines["setting"].str.extract(r"step=(\d+)")[0].astype(int)
        points = sorted(zip(steps.tolist(), lines["value"].tolist(), strict=True))
        look: dict[str, Any] = {
            "color": _LOGS[k % len(_LOGS)],
            "lw": 1.0,
            "marker": "o",
            "markersize": 2,
        }
        for start, piece in ((True, points[:1]), (False, points)):
            kept = [(max(x, 1), y) for x, y in piece if (x == 0) == start]
            if kept:
                ax.plot(*zip(*kept, strict=True), zorder=1, label="" if start else row, **look)


def _level(ax: Axes, value: float, words: str, style: str) -> None:
    """A horizontal line, named at its right end."""
    shade = _GREY if style == "--" else "#000000"
    ax.axhline(value, color=shade, lw=0.8, ls=style)
    ax.annotate(
        words, (1, value), (0, 2), xycoords=("axes fraction", "data"), textcoords="offset points",
        ha="right", fontsize=7, color=shade,
    )  # fmt: skip


def _once(ax: Axes) -> tuple[list[Artist], list[str]]:
    """What a legend takes, with one entry for what several seeds share."""
    handles, labels = ax.get_legend_handles_labels()
    kept = dict(zip(labels, handles, strict=True))
    return list(kept.values()), list(kept)


def shift(run: Run) -> Figure:
    """What a sideways shift costs under each loss, as a share of its value between strangers.

    Args:
        run: After `shifts.study`.

    Returns:
        The figure; losses that are no term of Eq. 19 are dashed.
    """
    values = run.values(table="shift", metric="share").query("method != 'MSE'")  # Eq. 9's share
    made, axes = plots.figure(1, 1, height=3.0, width=5.6)
    ax = axes[0, 0]
    methods = list(dict.fromkeys(values["method"]))
    names = {m: title + " (= MSE)" * (m == "color") for m, (title, *_) in TITLES.items()}
    for method in methods:
        pixels, shares = _by_shift(select(values, method=method))
        ax.plot(
            pixels, shares, "-" if method in TITLES else "--", marker="o", markersize=2.5,
            color=plots.colour(method, methods), label=names.get(method, method),
        )  # fmt: skip
    ax.axhline(1, color=_GREY, lw=0.8, ls=":")
    ax.set(xlabel="shift in pixels", ylabel="loss, as a share of strangers'", ylim=(0, None))
    plots.name_ends(ax)
    run.figure("shift", made)
    return made


def _by_shift(values: pd.DataFrame) -> tuple[list[float], list[float]]:
    """Shifts in pixels, ascending, and the mean value at each."""
    pixels = values["setting"].str.extract(r"shift=([\d.]+)")[0].astype(float)
    means = values.groupby(pixels)["value"].mean()
    return [float(k) for k in means.index], [float(v) for v in means]


def misaligned(run: Run) -> Figure:
    """PSNR and sharpness of two trainings against the largest shift of their pairs.

    Args:
        run: After `shifts.trainings`.

    Returns:
        The figure; sharpness 1 is the target's.
    """
    values = run.values(table="misaligned")
    made, axes = plots.figure(1, 2, height=2.3)
    titles = {"psnr": "PSNR in dB", "sharpness": "sharpness (the target's is 1)"}
    for ax, (metric, title) in zip(axes[0], titles.items(), strict=True):
        series = {}
        for method in (verdict.SMOOTH, verdict.SHARP):
            own = select(values, metric=metric, method=method)
            runs = [_by_shift(one) for _, one in own.groupby("seed")]
            if runs:
                series[method] = (runs[0][0], [found for _, found in runs])
        plots.lines(ax, series, x="largest shift of training pairs, px", y=title)
        ax.set_xticks(sorted({k for where, _ in series.values() for k in where}))
    run.figure("misaligned", made)
    return made


def critic_alone(run: Run, found: Mapping[str, tuple[Critic, History]]) -> Figure:
    """Each kind of critic against a frozen generator: can it win?

    Args:
        run: Keeps the figure.
        found: "pair" and "image" -> critic and curve, as `critics.alone` gives them.

    Returns:
        The figure: every step pale, the mean over ten steps strong.
    """
    made, axes = plots.figure(1, 1, height=2.3, width=4.6)
    ax = axes[0, 0]
    for (judges, (_, history)), shade in zip(found.items(), (_BLUE, _RED), strict=False):
        steps, values = history.steps["critic"], history.values["critic"]
        ax.plot(steps, values, color=shade, lw=0.8, alpha=0.3)
        ax.plot(steps, _smooth(values, 10), color=shade, label=critics.NAMES[judges])
    _level(ax, GUESSING, "2 ln 2", "--")
    _level(ax, WON, "won", ":")
    ax.set(xlabel="step of the critic, generator frozen", ylabel="critic's loss, Eq. 7")
    ax.set_ylim(bottom=0)
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.legend(**_ABOVE)
    run.figure("critic_alone", made)
    return made


def _smooth(values: Sequence[float], width: int) -> list[float]:
    """Mean over the last steps; over fewer at the start."""
    total = torch.tensor([0.0, *values], dtype=torch.float64).cumsum(0)
    return [
        float(total[k] - total[max(0, k - width)]) / min(k, width)
        for k in range(1, len(values) + 1)
    ]


def reactions(run: Run) -> Figure:
    """What each change of a real pair costs each critic.

    Args:
        run: After `critics.alone`.

    Returns:
        The figure; bars are means over seeds, in standard deviations of the scores of real pairs.
    """
    values = run.values(table="reactions", metric="drop")
    changes = [name for name in dict.fromkeys(values["setting"]) if name != "target"]
    methods = [name for name in critics.NAMES.values() if name in set(values["method"])]
    made, axes = plots.figure(1, 1, height=0.34 * len(changes) + 0.7)
    means = values.groupby(["setting", "method"])["value"].mean()
    bars = {m: [float(means.get((one, m), math.nan)) for one in changes] for m in methods}
    _bars(axes[0, 0], changes, bars, digits=1)
    axes[0, 0].axvline(0, color="#000000", lw=0.8)
    axes[0, 0].set_xlabel("drop of the score, in standard deviations over real pairs")
    run.figure("reactions", made)
    return made


def _bars(
    ax: Axes, rows: Sequence[str], bars: Mapping[str, Sequence[float]], *, digits: int
) -> None:
    """Horizontal bars, a group per row and a colour per name, the number at each end."""
    high = 0.84 / len(bars)
    for k, (name, values) in enumerate(bars.items()):
        where = [row - 0.42 + high * (k + 0.5) for row in range(len(rows))]
        drawn = ax.barh(where, values, 0.9 * high, color=plots.colour(name, list(bars)), label=name)
        words = ["" if math.isnan(v) else f"{v:.{digits}f}".replace("-", "−") for v in values]
        ax.bar_label(drawn, words, padding=2, fontsize=7)
    ax.set_yticks(range(len(rows)), rows)
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.set_axisbelow(True)
    ax.grid(visible=False, axis="y")
    ax.margins(x=0.14)
    ax.legend(**{**_ABOVE, "ncols": len(bars)})


def conventions(run: Run) -> Figure:
    """The same outputs under three conventions of PSNR and two of SSIM.

    Args:
        run: After the main table.

    Returns:
        The figure; bars are means over seeds.
    """
    values = run.values(table="main", image="mean", setting=ALL)
    methods = list(dict.fromkeys(values["method"]))
    means = values.groupby(["metric", "method"])["value"].mean()
    made, axes = plots.figure(1, 2, height=0.4 * len(methods) + 0.8)
    for ax, title, metrics, digits in (
        (axes[0, 0], "PSNR in dB", ("psnr", "psnr_dped", "psnr_pooled"), 2),
        (axes[0, 1], "structural similarity", ("ssim", "ms_ssim_dped"), 3),
    ):
        bars = {
            COLUMNS[k][0].removeprefix("PSNR, "): [
                float(means.get((k, m), math.nan)) for m in methods
            ]
            for k in metrics
        }
        _bars(ax, [wrapped(m, 28) for m in methods], bars, digits=digits)
        ax.set_xlabel(title)
    axes[0, 1].set_yticklabels([])
    run.figure("conventions", made)
    return made


def wrapped(method: str, width: int) -> str:
    r"""A method's name on several lines, what stands in brackets on its own.

    Args:
        method: As in tables.
        width: Most letters of a line, where words allow it.

    Returns:
        The name with line breaks.

    Example:
        >>> wrapped("PPCN student (official weights)", 20)
        'PPCN student\n(official weights)'
    """
    parts = method.replace(" (", "\n(").split("\n")
    return "\n".join(textwrap.fill(part, width) for part in parts)


def ablations(run: Run, groups: Sequence[str] = tuple(settings.GROUPS)) -> Figure | None:
    """PSNR and LPIPS of every trained arm, group by group, with the classical rows as lines.

    Args:
        run: After the ablations.
        groups: Keys of `settings.GROUPS`, in the order shown.

    Returns:
        The figure: a dot per seed, a line at their mean; None where no arm was trained.
    """
    values = run.values(table="ablations", image="mean", setting=ALL)
    trained = set(values.dropna(subset=["seed"])["method"])
    rows: list[tuple[str, str]] = []  # (head or "", method or "")
    for group in groups:
        listed = [arm.method for arm in settings.GROUPS[group] if arm.method in trained]
        rows += [(_HEADS[group], ""), *(("", method) for method in listed)] if listed else []
    if not rows:
        return None
    made, axes = plots.figure(1, 2, height=0.16 * len(rows) + 0.8)
    for ax, metric in zip(axes[0], ("psnr", "lpips_alex"), strict=True):
        _dots(ax, rows, select(values, metric=metric))
        _yardsticks(ax, select(values, metric=metric), COLUMNS[metric][1])
        ax.set_xlabel(COLUMNS[metric][0] + (", dB" if metric == "psnr" else ""))
    axes[0, 1].set_yticklabels([])
    run.figure("ablations" if len(groups) > 1 else f"ablation_{groups[0]}", made)
    return made


def _dots(ax: Axes, rows: Sequence[tuple[str, str]], values: pd.DataFrame) -> None:
    for place, (_, method) in enumerate(rows):
        found = select(values, method=method)["value"].tolist()
        if method and found:
            shade = _RED if method == settings.FULL.method else _BLUE
            ax.plot(found, [place] * len(found), "o", color=shade, markersize=4, alpha=0.6, mew=0)
            mean = sum(found) / len(found)
            ax.plot([mean, mean], [place - 0.32, place + 0.32], color=shade, lw=1.6)
    ax.set_yticks(range(len(rows)), [head or method for head, method in rows])
    for label, (head, _) in zip(ax.get_yticklabels(), rows, strict=True):
        label.set_fontweight("bold" if head else "normal")
    ax.tick_params(axis="y", length=0)
    ax.set_ylim(len(rows) - 0.5, -0.5)


def _yardsticks(ax: Axes, values: pd.DataFrame, digits: int) -> None:
    """Lines of the classical rows; one far from every dot is named at the border it lies beyond."""
    from matplotlib.ticker import MaxNLocator

    low, high = ax.get_xlim()
    reach = (high - low) / 2
    for k, method in enumerate(classical.CHEAP):
        found = select(values, method=method)["value"]
        if found.empty:
            continue
        value = float(found.iloc[0])
        words, place, side = f"{method} {value:.{digits}f}", value, "center"
        near = low - reach <= value <= high + reach
        if near:
            ax.axvline(value, color=_GREY, lw=0.8, ls="--", zorder=0.5)
        elif value < low:
            words, place, side = f"← {words}", 0, "left"
        else:
            words, place, side = f"{words} →", 1, "right"
        ax.annotate(
            words, (place, 1), (0, 2 + 8 * k), textcoords="offset points", ha=side, va="bottom",
            xycoords=("data" if near else "axes fraction", "axes fraction"),
            fontsize=7, color=_GREY,
        )  # fmt: skip
    ax.xaxis.set_major_locator(MaxNLocator(5))
