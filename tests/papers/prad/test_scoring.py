"""Scores recomputed by hand, with and without pure white pairs, and the tables made of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from enhancelib import metrics
from enhancelib.pairs import Pairs
from enhancelib.papers.prad import classical, data, scoring
from enhancelib.papers.prad.scoring import ALL, NO_WHITE
from enhancelib.papers.prad.settings import LPIPS
from enhancelib.papers.prad.study import Study
from enhancelib.results import Run, select
from tests.papers.prad import small


def blurred(x: Tensor) -> Tensor:
    """A restoring function that leaves [0, 1] here and there."""
    return 1.15 * nn.functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False) - 0.04


def scored(
    s: Study, restore: scoring.Restore = blurred, **more: Any
) -> dict[tuple[str, str], float]:
    """(metric, setting) -> mean."""
    scoring.score(s, restore, **{"method": "m", "table": "t", **more})
    rows = s.run.values(table="t", method=more.get("method", "m"), image="mean")
    keys = zip(rows["metric"], rows["setting"], strict=True)
    return dict(zip(keys, rows["value"], strict=True))


@pytest.fixture
def with_white(s: Study, monkeypatch: pytest.MonkeyPatch) -> Study:
    """The test pairs and, in their middle, one that is pure white in both pictures."""
    pairs = data.test(s.p)
    white = torch.full_like(pairs.levels[:, :1], 255)
    levels = torch.cat([pairs.levels[:, :3], white, pairs.levels[:, 3:]], 1)
    names = (*pairs.names[:3], "308", *pairs.names[3:])
    monkeypatch.setattr(data, "test", lambda p: Pairs(names, levels))
    return s


# Scores


def test_every_number_is_what_its_name_says(s: Study) -> None:
    pairs = data.test(s.p)
    found = scored(s)
    x, y = blurred(pairs.degraded), pairs.clean
    errors = (x.clamp(0, 1) - y).double().square().mean((1, 2, 3))
    wild = (x - y).double().square().mean((1, 2, 3))
    assert float(x.max()) > 1
    assert not torch.equal(errors, wild)
    wanted = {
        "psnr": float(-10 * errors.log10().mean()),
        "psnr_dped": float(-10 * wild.mean().log10()),  # all in one batch
        "psnr_pooled": float(-10 * wild.mean().log10()),
        "ssim": float(metrics.METRICS["ssim"](x.clamp(0, 1), y).mean()),
        "ms_ssim_dped": float(metrics.METRICS["ms_ssim_dped"](x, y).mean()),
    }
    shift = 255 * (x.clamp(0, 1) - y).mean((2, 3))
    wanted["brighter"] = float(shift.mean())
    wanted["cast"] = float((shift - shift.mean(1, keepdim=True)).square().sum(1).sqrt().mean())
    difference = x.clamp(0, 1) - y
    wanted["gradient_error"] = float(
        difference.diff(dim=-1).abs().mean() + difference.diff(dim=-2).abs().mean()
    )
    assert {k for k, _ in found} == {*wanted, "lcn_error"}
    for metric, value in wanted.items():
        assert found[metric, ALL] == pytest.approx(value, rel=1e-4), metric
        assert found[metric, NO_WHITE] == found[metric, ALL], "no pair is white here"
    each = s.run.values(table="t", metric="psnr", setting=ALL)
    each = each[each["image"] != "mean"]
    assert tuple(each["image"]) == pairs.names
    assert each["value"].tolist() == pytest.approx((-10 * errors.log10()).tolist(), abs=1e-4)


def test_the_mean_is_returned_and_the_seed_kept(s: Study) -> None:
    mean = scoring.score(s, blurred, method="m", table="t", seed=7)
    rows = s.run.values(table="t")
    assert set(rows["seed"]) == {7}
    assert set(rows["dataset"]) == {"bundled photos, degraded"}
    assert mean == select(rows, metric="psnr", image="mean", setting=ALL)["value"].item()


def test_batches_of_fifty_in_the_order_of_the_set(
    s: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = data.test(s.p)
    turns = [k % len(pairs) for k in range(60)]
    many = pairs.choose(turns)
    many = Pairs(tuple(str(k) for k in range(60)), many.levels[..., :40, :40].clone())
    monkeypatch.setattr(data, "test", lambda p: many)
    found = scored(s)
    wild = (blurred(many.degraded) - many.clean).double().square().mean((1, 2, 3))
    batches = [float(-10 * part.mean().log10()) for part in (wild[:50], wild[50:])]
    assert found["psnr_dped", ALL] == pytest.approx(sum(batches) / 2, abs=1e-4)
    assert found["psnr_pooled", ALL] == pytest.approx(float(-10 * wild.mean().log10()), abs=1e-4)
    assert abs(found["psnr_dped", ALL] - found["psnr_pooled", ALL]) > 1e-4


@pytest.mark.parametrize("restore", [classical.identity, blurred, torch.ones_like])
def test_white_pairs_make_nothing_infinite(with_white: Study, restore: scoring.Restore) -> None:
    s = with_white
    assert data.test(s.p).white.tolist().count(True) == 1
    found = scored(s, restore)
    assert all(math.isfinite(value) for value in found.values())
    without = data.test(s.p).without_white()
    errors = (restore(without.degraded).clamp(0, 1) - without.clean).double().square()
    wanted = float((-10 * errors.mean((1, 2, 3)).log10()).mean())
    assert found["psnr", NO_WHITE] == pytest.approx(wanted, abs=1e-3)
    frame = scoring.table(s.run, "t", columns=("psnr", "psnr_dped", "ms_ssim_dped"))
    cells = frame.drop(columns="method").to_numpy().tolist()[0]
    assert all(math.isfinite(float(cell)) for cell in cells)


def test_a_white_pair_that_is_almost_hit_lifts_one_mean_and_not_the_other(
    with_white: Study,
) -> None:
    found = scored(with_white, lambda x: 0.99 * x)
    assert found["psnr", ALL] > found["psnr", NO_WHITE] + 1
    frame = scoring.table(with_white.run, "t", columns=("psnr",))
    assert frame.iloc[0].tolist() == [
        "m", f"{found['psnr', ALL]:.2f}", f"{found['psnr', NO_WHITE]:.2f}",
    ]  # fmt: skip


def test_real_white_pairs(assets: Path, tmp_path: Path) -> None:
    """Pair 308 lies in the test part: identity 17.22 dB without it (prad.md, 12)."""
    s = small.opened(tmp_path, data_root=str(assets / "data"))
    found = scored(s, classical.identity)
    assert all(math.isfinite(value) for value in found.values())
    assert found["psnr", NO_WHITE] == pytest.approx(17.22, abs=0.005)
    (white,) = s.run.values(table="t", image="308", metric="psnr")["value"]
    assert white == math.inf
    assert float(scoring.table(s.run, "t").iloc[0]["PSNR, per image"]) < 20
    maps = classical.baselines(s.p, cheap=True)
    quadratic = scored(s, maps[classical.QUADRATIC], method="q")
    assert all(math.isfinite(value) for value in quadratic.values())


def test_brightness_is_no_cast_and_a_cast_no_brightness(s: Study) -> None:
    pairs = data.test(s.p)
    y = 0.2 + 0.5 * pairs.clean
    details = scoring._details(y + 0.1, y)
    assert details["brighter"].tolist() == pytest.approx([25.5] * len(pairs), abs=1e-3)
    assert float(details["cast"].max()) < 1e-3
    assert float(details["gradient_error"].max()) < 1e-5
    green = y + torch.tensor([-0.05, 0.1, -0.05]).view(3, 1, 1)
    details = scoring._details(green, y)
    assert float(details["brighter"].abs().max()) < 1e-3
    assert details["cast"].tolist() == pytest.approx([255 * 0.15 * (2 / 3) ** 0.5] * 8, rel=1e-3)


def test_lpips_is_among_the_scores_where_it_is_asked_for(features: Path, s: Study) -> None:
    found = scored(s, lpips=("lpips_alex",))
    pairs = data.test(s.p)
    metric = metrics.METRICS["lpips_alex"]
    with torch.inference_mode():
        wanted = float(metric(blurred(pairs.degraded).clamp(0, 1), pairs.clean).mean())
    assert found["lpips_alex", ALL] == pytest.approx(wanted, rel=1e-3)
    assert ("lpips_vgg", ALL) not in found
    assert ("lpips_alex", ALL) not in scored(s, method="again")


def test_lpips_is_left_out_where_its_network_is_not_fetched(
    s: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENHANCELIB_CACHE", str(tmp_path))
    assert not {"lpips_alex", "lpips_vgg"} & {k for k, _ in scored(s, lpips=LPIPS)}


def test_small_patches_have_no_ms_ssim(s: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = data.test(s.p)
    monkeypatch.setattr(data, "test", lambda p: Pairs(pairs.names, pairs.levels[..., :30, :30]))
    assert ("ms_ssim_dped", ALL) not in scored(s)


def test_a_network_restores_in_pieces() -> None:
    network = nn.Conv2d(3, 3, 1)
    x = torch.rand(20, 3, 4, 4)
    with torch.no_grad():
        torch.testing.assert_close(scoring.network(network)(x), network(x))


# Tables


def filled(
    run: Run, rows: Sequence[tuple[str, str, int | None, float]], setting: str = ALL
) -> None:
    for method, metric, seed, value in rows:
        run.record(
            dataset="d", method=method, metric=metric, value=value, seed=seed, setting=setting,
            table="t",
        )  # fmt: skip


def test_tables_hold_mean_and_spread_in_the_order_recorded(s: Study) -> None:
    rows = [("b", "psnr", 0, 20.0), ("b", "psnr", 1, 22.0), ("a", "psnr", None, 19.0)]
    filled(s.run, [*rows, ("b", "ssim", 0, 0.5)])
    filled(s.run, [("b", "psnr", 0, 18.0)], NO_WHITE)
    frame = scoring.table(s.run, "t", columns=("psnr", "ssim", "lpips_alex"))
    assert list(frame.columns) == ["method", "PSNR, per image", "without white", "SSIM"]
    assert frame.to_numpy().tolist() == [
        ["b", "21.00 ± 1.41", "18.00", "0.5000"],
        ["a", "19.00", scoring.NOT_RUN, scoring.NOT_RUN],
    ]


def test_what_was_not_run_says_so(s: Study) -> None:
    filled(s.run, [("b", "psnr", None, 20.0)])
    frame = scoring.table(s.run, "t", columns=("psnr",), methods=("gone", "b"))
    assert frame["method"].tolist() == ["gone", "b"]
    assert frame.iloc[0].tolist() == ["gone", "not run"]
    assert scoring.table(s.run, "empty", methods=("gone",)).to_numpy().tolist() == [["gone"]]
    assert scoring.table(s.run, "empty").empty


def test_a_setting_can_be_chosen(s: Study) -> None:
    filled(s.run, [("b", "psnr", None, 20.0)])
    filled(s.run, [("b", "psnr", None, 18.0)], NO_WHITE)
    frame = scoring.table(s.run, "t", columns=("psnr",), setting=NO_WHITE)
    assert frame.to_numpy().tolist() == [["b", "18.00"]]


def test_every_column_has_a_sentence_under_the_table() -> None:
    note = scoring.protocols(tuple(scoring.COLUMNS))
    lines = note.splitlines()
    assert len(lines) == len(scoring.COLUMNS)
    for line, (title, _) in zip(lines, scoring.COLUMNS.values(), strict=True):
        assert line.startswith(f"{title}: ")
        assert len(line) > len(title) + 20
    assert len(set(lines)) == len(lines)
    assert set(scoring.QUALITY) <= set(scoring.COLUMNS)
