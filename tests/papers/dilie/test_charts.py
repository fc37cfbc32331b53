"""Charts follow their numbers: what is drawn where, in which colour, and what is named."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_hex

from enhancelib import results
from enhancelib.papers.dilie import charts, study, verdict
from enhancelib.papers.dilie.verdict import ERROR, FROM_CFE, FROM_HAZY
from enhancelib.results import Run
from tests.papers.dilie import small


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return results.open_run("dilie", small.parameters(tmp_path))


def xy(line: Any) -> tuple[list[float], list[float]]:
    x, y = (np.asarray(values, dtype=float).tolist() for values in line.get_data())
    return x, y


def named(ax: Any) -> dict[str, Any]:
    return {line.get_label(): line for line in ax.lines if not line.get_label().startswith("_")}


def record(run: Run, table: str, method: str, value: float, **more: Any) -> None:
    given = {"dataset": "d", "metric": "psnr", **more}
    run.record(table=table, method=method, value=value, **given)


def curve(run: Run, table: str, method: str, values: dict[int, float], **more: Any) -> None:
    for step, value in values.items():
        record(run, table, method, value, setting=f"step={step}", **more)


def insist_kept(run: Run, name: str) -> None:
    """The PNG is there (so every text was legible), small, and shows no photo."""
    assert run.figures[name]["photos"] == []
    size = (run.folder / run.figures[name]["file"]).stat().st_size
    assert 5_000 < size < results.LARGEST_FIGURE


def test_impedance_shows_every_seed_of_every_target(run: Run) -> None:
    for seed in (0, 1):
        for k, method in enumerate(("noise", "clean", "shuffled", "noisy")):
            values = {100: 0.01 * (k + 1), 2: 0.2, 20: 0.1 + 0.05 * seed}  # 100 is less as text
            curve(run, "impedance", method, values, metric="mse", seed=seed)
    ax = charts.impedance(run).axes[0]
    lines = named(ax)
    assert list(lines) == ["photo", "photo and noise", "noise", "shuffled"]
    assert xy(lines["photo"]) == ([2, 20, 100], pytest.approx([0.2, 0.1, 0.02]))
    assert xy(lines["noise"])[1][-1] == 0.01
    assert len(ax.lines) == 8
    assert xy(ax.lines[1])[1] == pytest.approx([0.2, 0.15, 0.02])
    assert to_hex(ax.lines[0].get_color()) == to_hex(ax.lines[1].get_color())
    assert len({to_hex(line.get_color()) for line in lines.values()}) == 4
    labels = {text.get_text(): to_hex(text.get_color()) for text in ax.texts}
    assert labels == {name: to_hex(line.get_color()) for name, line in lines.items()}
    assert ax.get_yscale() == "log"
    insist_kept(run, "impedance")


def test_denoising_curves_stand_beside_the_filters(run: Run) -> None:
    for seed, off in ((0, 0.0), (1, 2.0)):
        for k, method in enumerate((verdict.SKIPS, verdict.LAST)):
            values = {100: 28.0 + off - k, 20: 24.0 + off - k}
            curve(run, "denoising_curve", method, values, seed=seed)
    for method, value in {"noisy": 20.5, "Gaussian 0.8 px": 26.0, "BM3D": 30.0}.items():
        record(run, "denoising", method, value)
        record(run, "denoising", method, 0.5, metric="ssim")
    record(run, "denoising", verdict.SKIPS, 29.0, seed=0)
    ax = charts.denoising(run).axes[0]
    lines = named(ax)
    assert set(lines) == {verdict.SKIPS, verdict.LAST}
    assert xy(lines[verdict.SKIPS]) == ([20, 100], pytest.approx([25.0, 29.0]))
    assert xy(lines[verdict.LAST])[1] == pytest.approx([24.0, 28.0])
    assert len(ax.collections) == 2  # bands over seeds
    levels = [xy(line)[1][0] for line in ax.lines if line.get_linestyle() == ":"]
    assert levels == [20.5, 26.0, 30.0], "NLM was not recorded"
    assert [t.get_text() for t in ax.texts] == ["noisy", "Gaussian 0.8 px", "BM3D"]
    assert [t.get_position()[1] for t in ax.texts] == levels
    insist_kept(run, "denoising")


def test_dehazing_is_a_mean_over_pictures_with_the_range_over_seeds(run: Run) -> None:
    for seed in (0, 1):
        for lam, gain in ((0.0, 0.0), (0.001, 0.1)):
            for image, off in (("china", -0.05), ("coffee", 0.05)):
                at = {"seed": seed, "image": image}
                values = {2: 0.5 + gain + off, 40: 0.6 + gain + off + 0.02 * seed}
                curve(run, "lambda_curve", verdict.lam(lam), values, metric="ssim", **at)
                values = {k: 30 * v for k, v in values.items()}
                curve(run, "lambda_curve", verdict.lam(lam), values, metric="psnr", **at)
    ssim, psnr = charts.dehazing(run).axes
    assert set(named(ssim)) == set(named(psnr)) == {"lambda=0", "lambda=0.001"}
    assert xy(named(ssim)["lambda=0.001"]) == ([2, 40], pytest.approx([0.6, 0.71]))
    assert xy(named(psnr)["lambda=0"])[1] == pytest.approx([15.0, 18.3])
    assert (ssim.get_ylabel(), psnr.get_ylabel()) == ("SSIM", "PSNR, dB")
    assert len(ssim.collections) == 2
    insist_kept(run, "dehazing")


def test_the_balance_is_joined_in_the_order_of_the_weights(run: Run) -> None:
    places = {10.0: (1.0, 5.0), 0.1: (4.0, 1.0), 3.0: (2.0, 3.0)}  # "10" is less as text
    for beta, both in places.items():
        for metric, value in zip(("style", "content"), both, strict=True):
            record(run, "balance", f"beta={beta:g}", value, metric=metric, seed=0)
    ax = charts.balance(run).axes[0]
    assert xy(ax.lines[0]) == ([4.0, 2.0, 1.0], [1.0, 3.0, 5.0])
    assert [(t.get_text(), t.xy) for t in ax.texts] == [
        ("β=0.1", (4.0, 1.0)), ("β=3", (2.0, 3.0)), ("β=10", (1.0, 5.0)),
    ]  # fmt: skip
    assert ax.get_xlabel().startswith("style")
    insist_kept(run, "balance")


def hazy(run: Run, method: str, setting: str, values: dict[str, float], **more: Any) -> None:
    for image, value in values.items():
        given = {"metric": ERROR, "image": image, "setting": setting, **more}
        record(run, "haziness", method, value, **given)


def test_haziness_is_a_pair_of_bars_per_method_with_the_photos_as_dots(run: Run) -> None:
    hazy(run, "Reinhard", FROM_HAZY, {"china": 0.3, "coffee": 0.5, "mean": 0.4})
    hazy(run, "PCA-KD", FROM_HAZY, {"china": 0.2, "coffee": 0.4})
    hazy(run, "PCA-KD", FROM_HAZY, {"china": 9.0}, metric="LPIPS (Alex)")
    hazy(run, "PCA-KD", FROM_CFE, {"china": 0.1, "coffee": -0.1}, seed=0)
    made = charts.haziness(run)
    ax = made.axes[0]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["Reinhard", "PCA-KD"]
    bars = [(bar.get_width(), bar.get_y() + bar.get_height() / 2) for bar in ax.patches]
    assert bars == [
        pytest.approx((0.4, 0.2)), pytest.approx((0.3, -0.8)), pytest.approx((0.0, -1.2)),
    ]  # fmt: skip
    dots = [xy(line)[0] for line in ax.lines if line.get_marker() == "."]
    assert dots == [[0.3, 0.5], [0.2, 0.4], [0.1, -0.1]]
    # the first method has no second bar, and that one is named all the same
    assert [t.get_text() for t in ax.get_legend().get_texts()] == [FROM_HAZY, FROM_CFE]
    shades = [to_hex(bar.get_facecolor()) for bar in ax.patches]
    assert shades[0] == shades[1] != shades[2]
    assert ERROR in ax.get_xlabel()
    insist_kept(run, "haziness")


def test_without_vgg19_there_is_nothing_to_draw_and_nothing_breaks(run: Run) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not charts.haziness(run).axes[0].patches
        assert not charts.impedance(run).axes[0].lines
        charts.balance(run)


def test_the_names_are_those_that_the_sections_record() -> None:
    assert {verdict.SKIPS, verdict.LAST} == set(study.outputs(True).values())
    assert verdict.NO_SKIPS in study.outputs(False).values()
