"""Charts follow their numbers: what is drawn where, in which colour, and what is named."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_hex

from enhancelib import published, results
from enhancelib.checkpoints import History
from enhancelib.models.prad import Critic, Generator
from enhancelib.papers.prad import charts, classical, critics, settings, shifts, verdict
from enhancelib.papers.prad.scoring import ALL, NO_WHITE
from enhancelib.papers.prad.settings import FULL, Parameters
from enhancelib.papers.prad.study import Study, Trained
from enhancelib.results import Run


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return results.open_run("prad", Parameters(profile="smoke", device="cpu", out=str(tmp_path)))


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    p = Parameters(profile="smoke", device="cpu", out=str(tmp_path_factory.mktemp("study")))
    return Study(results.open_run("prad", p), p)


def record(run: Run, table: str, rows: Mapping[tuple[str, str], float], **more: Any) -> None:
    """(method, metric) -> value."""
    for (method, metric), value in rows.items():
        run.record(dataset="d", method=method, metric=metric, value=value, table=table, **more)


def xy(line: Any) -> tuple[list[float], list[float]]:
    x, y = (np.asarray(values, dtype=float).tolist() for values in line.get_data())
    return x, y


def named(ax: Any) -> dict[str, Any]:
    return {line.get_label(): line for line in ax.lines if not line.get_label().startswith("_")}


def insist_kept(run: Run, name: str) -> None:
    """The PNG is there (so every text was legible), small, and shows no photo."""
    assert run.figures[name]["photos"] == []
    size = (run.folder / run.figures[name]["file"]).stat().st_size
    assert 5_000 < size < results.LARGEST_FIGURE


# Training curves


def history(offset: float) -> History:
    made = History()
    for step in (1, 2, 4):
        made.add(step, {"critic": 1.0 + offset, "gan": 2.0, "real_score": 0.5, "fake_score": -0.5})
        made.add(step, {"content": 9.0 / step, "color": 50.0 / step})
        made.add(step, {"psnr_pooled": 15.0 + step, "ms_ssim": 0.5})
    return made


def test_curves_show_both_players_and_dpeds_logs_behind_ours(study: Study, run: Run) -> None:
    found = {seed: Trained(Generator((2, 4)), None, history(0.1 * seed)) for seed in (0, 1)}
    made = charts.curves(run, found, study)
    game, scores, psnr, ms_ssim, content, colour = made.axes
    assert [xy(line)[1][0] for line in game.lines if len(xy(line)[0]) == 3] == [1.0, 2.0, 1.1, 2.0]
    guess = next(line for line in game.lines if line.get_linestyle() == "--")
    assert set(guess.get_ydata()) == {2 * math.log(2)}
    assert [t.get_text() for t in game.texts] == ["2 ln 2"]
    legend = [t.get_text() for t in game.get_legend().get_texts()]
    assert legend == ["critic, Eq. 7", "generator, Eq. 8"]  # once, not once per seed
    assert set(named(scores)) == {"real pairs", "generated"}
    ours = [line for line in psnr.lines if line.get_label() == "trained here"]
    assert [xy(line) for line in ours] == [([1, 2, 4], [16, 17, 19])] * 2
    # colour losses are sums over a patch: 32 pixels at smoke, 100 in the logs
    (mine, _) = (line for line in colour.lines if line.get_label() == "trained here")
    area = (100 / settings.main_recipe(study.p).patch) ** 2
    assert xy(mine)[1] == pytest.approx([50 * area, 25 * area, 12.5 * area])
    for ax, metric in (
        (psnr, "psnr_dped"), (ms_ssim, "ms_ssim_dped"), (content, "content"), (colour, "color"),
    ):  # fmt: skip
        frame = published.rows("prad", table="curves", metric=metric)
        logs = [line for line in ax.lines if line.get_label() != "trained here"]
        assert sum(len(line.get_xdata()) for line in logs) == len(frame)
        assert max(max(xy(line)[0]) for line in logs) == 19000
        assert all(line.get_zorder() < mine.get_zorder() for line in logs)
        (start,) = (line for line in logs if xy(line)[0] == [1])  # step 0 of a logarithmic axis
        assert (
            xy(start)[1]
            == published.rows("prad", table="curves", metric=metric, step=0)["value"].tolist()
        )
        assert ax.get_xscale() == "log"
    assert "sets differ" in made.legends[0].get_title().get_text()
    assert len(made.legends[0].get_texts()) == 3
    insist_kept(run, "curves")


def test_the_critics_curve_is_eq_7_without_the_penalty(study: Study, run: Run) -> None:
    weight = settings.SCALES["smoke"].penalty
    made = History()
    for step, penalty in ((1, 0.5), (2, 0.25)):
        made.add(step, {"critic": 1.2 + weight * penalty, "penalty": penalty})
    game = charts.curves(run, {0: Trained(Generator((2, 4)), None, made)}, study).axes[0]
    assert xy(named(game)["critic, Eq. 7"])[1] == pytest.approx([1.2, 1.2])


def test_curves_do_without_the_terms_that_vgg_is_needed_for(study: Study, run: Run) -> None:
    bare = History(steps={"critic": [1]}, values={"critic": [1.0]})
    made = charts.curves(run, {0: Trained(Generator((2, 4)), None, bare)}, study)
    assert all("trained here" not in named(ax) for ax in made.axes)


# Shifts


def test_shares_are_drawn_in_the_order_of_the_shifts_and_named_at_their_ends(run: Run) -> None:
    for shift in (10, 0, 2):  # "shift=10" comes before "shift=2" as text
        blurred = {shifts.BLURRED: 0.01 * shift, "MSE": 0.04 * shift}
        shares = {"content": 0.1 * shift, "color": 0.04 * shift, **blurred}
        record(run, "shift", {(m, "share"): v for m, v in shares.items()}, setting=f"shift={shift}")
        record(run, "shift", {("content", "value"): 99.0}, setting=f"shift={shift}")
    made = charts.shift(run)
    lines = named(made.axes[0])
    assert list(lines) == ["content", "colour (= MSE)", shifts.BLURRED]  # one line for both
    assert xy(lines["content"]) == ([0, 2, 10], pytest.approx([0, 0.2, 1.0]))
    assert [lines[name].get_linestyle() for name in lines] == ["-", "-", "--"]
    assert len({to_hex(line.get_color()) for line in lines.values()}) == 3
    labels = {t.get_text(): t for t in made.axes[0].texts}
    assert set(labels) == set(lines)
    for name, line in lines.items():
        assert to_hex(labels[name].get_color()) == to_hex(line.get_color())
        assert labels[name].xy == (10, pytest.approx(xy(line)[1][-1]))
    insist_kept(run, "shift")


def test_misaligned_trainings_are_drawn_by_loss_with_their_seeds(run: Run) -> None:
    for seed in (0, 1):
        for shift in (4, 0, 2):
            for method, cost in ((verdict.SMOOTH, 1.0), (verdict.SHARP, 0.5)):
                rows = {(method, "psnr"): 23 - cost * shift + seed, (method, "sharpness"): cost}
                record(run, "misaligned", rows, setting=f"shift={shift}", seed=seed)
    psnr, sharpness = charts.misaligned(run).axes
    assert set(named(psnr)) == {verdict.SMOOTH, verdict.SHARP}
    assert xy(named(psnr)[verdict.SMOOTH]) == ([0, 2, 4], pytest.approx([23.5, 21.5, 19.5]))
    assert xy(named(sharpness)[verdict.SHARP])[1] == [0.5] * 3
    assert len(psnr.collections) == 2  # bands over seeds
    assert list(psnr.get_xticks()) == [0, 2, 4]
    insist_kept(run, "misaligned")


# Critics


def test_the_critic_alone_is_shown_raw_and_smoothed_beside_its_thresholds(run: Run) -> None:
    curve = History()
    for step in range(1, 31):
        curve.add(step, {"critic": 1.5 if step % 2 else 0.5})
    critic = Critic(None, judges="image")
    made = charts.critic_alone(run, {"pair": (critic, curve), "image": (critic, curve)})
    ax = made.axes[0]
    assert list(named(ax)) == list(critics.NAMES.values())
    raw, smooth = ax.lines[:2]
    assert xy(raw)[1] == curve.values["critic"]
    assert xy(smooth)[1][:3] == pytest.approx([1.5, 1.0, 3.5 / 3])
    assert xy(smooth)[1][-5:] == pytest.approx([1.0] * 5)
    levels = [set(line.get_ydata()) for line in ax.lines if len(line.get_xdata()) == 2]
    assert levels == [{2 * math.log(2)}, {0.5}]
    assert ax.get_ylim()[0] == 0
    insist_kept(run, "critic_alone")


def test_reactions_are_bars_of_both_critics_without_the_target_itself(run: Run) -> None:
    pair, image = critics.NAMES.values()
    for seed in (0, 1):
        for change, of_pair, of_image in (
            ("target", 0.0, 0.0), ("output", 2.0, 3.0), ("phi blanked", -1.0, None),
        ):  # fmt: skip
            rows = {(pair, "drop"): of_pair + seed}
            rows |= {} if of_image is None else {(image, "drop"): of_image}
            record(run, "reactions", rows, setting=change, seed=seed)
    ax = charts.reactions(run).axes[0]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["output", "phi blanked"]
    first, second = ax.containers
    assert [bar.get_width() for bar in first] == [2.5, -0.5]
    assert second[0].get_width() == 3.0
    assert math.isnan(second[1].get_width())
    assert [t.get_text() for t in ax.texts] == ["2.5", "−0.5", "3.0", ""]
    assert ax.yaxis_inverted()  # the first change stands on top
    insist_kept(run, "reactions")


# Tables as charts


def test_conventions_compare_the_same_outputs(run: Run) -> None:
    metrics = ("psnr", "psnr_dped", "psnr_pooled", "ssim", "ms_ssim_dped")
    for method, first in (("identity", 17.0), ("DPED (official weights)", 22.0)):
        rows = {(method, metric): first - k for k, metric in enumerate(metrics)}
        record(run, "main", rows, setting=ALL)
        record(run, "main", rows, setting=NO_WHITE)  # not shown
        run.record(
            dataset="d", method=method, metric="psnr", value=99.0, table="main", setting=ALL,
            image="300",
        )  # fmt: skip
    psnr, ssim = charts.conventions(run).axes
    assert [[bar.get_width() for bar in one] for one in psnr.containers] == [
        [17, 22], [16, 21], [15, 20],
    ]  # fmt: skip
    assert [[bar.get_width() for bar in one] for one in ssim.containers] == [[14, 19], [13, 18]]
    legend = [t.get_text() for t in psnr.get_legend().get_texts()]
    assert legend == ["per image", "batches of 50", "all pooled"]
    labels = [t.get_text() for t in psnr.get_yticklabels()]
    assert labels == ["identity", "DPED\n(official weights)"]
    assert psnr.get_xlim()[0] == 0  # bars that do not start at 0 lie
    insist_kept(run, "conventions")


def test_a_name_is_broken_before_its_brackets() -> None:
    assert charts.wrapped("PRaD (trained here)", 30) == "PRaD\n(trained here)"
    assert charts.wrapped("quadratic polynomial", 12) == "quadratic\npolynomial"


def arms(run: Run, group: str, methods: dict[str, tuple[float, ...]]) -> None:
    assert set(methods) <= {arm.method for arm in settings.GROUPS[group]}
    for method, values in methods.items():
        for seed, value in enumerate(values):
            rows = {(method, "psnr"): value, (method, "lpips_alex"): value / 100}
            record(run, "ablations", rows, setting=ALL, seed=seed)


def test_no_arm_no_chart(run: Run) -> None:
    record(run, "ablations", {("identity", "psnr"): 17.0}, setting=ALL)
    assert charts.ablations(run) is None
    assert run.figures == {}


def test_ablations_are_dots_of_seeds_with_the_classical_rows_as_lines(run: Run) -> None:
    arms(run, "cfa", {"plain U-Net": (21.0, 21.4), "+ R": (21.2,), FULL.method: (21.5, 21.1)})
    for method, value in zip(classical.CHEAP, (17.0, 20.9, 21.05), strict=True):
        record(run, "ablations", {(method, "psnr"): value}, setting=ALL)
    made = charts.ablations(run)
    assert made is not None
    psnr, lpips = made.axes
    # plain U-Net and the whole system are arms of other groups too, and stand there again
    labels = [t.get_text() for t in psnr.get_yticklabels()]
    assert labels[:4] == ["aggregation and refinement", "plain U-Net", "+ R", FULL.method]
    assert "+ CFA" not in labels
    dots = [line for line in psnr.lines if line.get_marker() == "o"]
    assert xy(dots[0]) == ([21.0, 21.4], [1, 1])
    assert xy(dots[2]) == ([21.5, 21.1], [3, 3])
    assert to_hex(dots[2].get_color()) != to_hex(dots[0].get_color())
    means = [line for line in psnr.lines if line.get_linestyle() == "-"]
    assert xy(means[0])[0] == pytest.approx([21.2, 21.2])
    dashed = [xy(line)[0][0] for line in psnr.lines if line.get_linestyle() == "--"]
    assert dashed == [20.9, 21.05]
    assert psnr.get_xlim()[0] > 17.5  # the identity is far away, and named at the border
    words = [t.get_text() for t in psnr.texts]
    assert words[0] == f"← {classical.CHEAP[0]} 17.00"
    assert words[2] == f"{classical.CHEAP[2]} 21.05"
    assert not lpips.texts  # the classical rows have no such value here
    assert xy(next(line for line in lpips.lines if line.get_marker() == "o"))[0] == [0.21, 0.214]
    insist_kept(run, "ablations")


def test_one_group_is_a_chart_of_its_own(run: Run) -> None:
    arms(run, "norm", {"instance normalisation": (21.0,), FULL.method: (21.2,)})
    made = charts.ablations(run, ["norm"])
    assert made is not None
    labels = [t.get_text() for t in made.axes[0].get_yticklabels()]
    assert labels == ["normalisation", FULL.method, "instance normalisation"]
    assert list(run.figures) == ["ablation_norm"]
