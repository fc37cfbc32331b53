"""Seconds and memory are measured, finite, and those of what is named."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import Any

import pytest
import torch

from enhancelib import models
from enhancelib.papers.prad import efficiency, settings
from enhancelib.papers.prad.study import Study
from enhancelib.recipes import Recipe
from enhancelib.results import select

CPU = torch.device("cpu")
MIB = 2**20


def rows(s: Study, table: str) -> Any:
    return s.run.values(table=table)


# One picture


def test_a_larger_picture_takes_longer() -> None:
    network = models.build("prad").eval()
    large, peak = efficiency._picture(network, 256, 384)
    small, _ = efficiency._picture(network, 64, 64)
    assert 0.005 < large < 60
    assert small < large / 4
    assert peak >= 0


def test_a_large_picture_needs_memory() -> None:
    """16 maps of 720 x 1280 float32 take 56 MiB, and more than one lives at a time."""
    network = models.build("prad", widths=(16, 16), cfa=False, refinement="none").eval()
    picture = torch.rand(1, 3, 720, 1280)
    with torch.inference_mode():
        peak = efficiency.peak_memory(lambda: network(picture), CPU)
    assert 100 * MIB < peak < 2000 * MIB


def test_every_network_has_seconds_and_bytes(s: Study) -> None:
    frame = efficiency.measure(s)
    assert tuple(frame["network"]) == efficiency.TIMED
    assert list(frame.columns) == ["network", "100 × 100"]
    found = rows(s, "efficiency")
    assert len(found) == 2 * len(efficiency.TIMED)
    assert found["timed"].all()
    assert set(found["setting"]) == {"size=100x100"}
    assert all(math.isfinite(value) for value in found["value"])
    assert (select(found, metric="seconds")["value"] > 0).all()
    assert (select(found, metric="peak_bytes")["value"] >= 0).all()
    # DPED has 8 times the multiply-adds of S, and 150 times those of PPCN's student
    seconds = select(found, metric="seconds").set_index("method")["value"]
    assert seconds["DPED (ResNet-12)"] > 2 * seconds["PRaD-G S"]
    assert seconds["DPED (ResNet-12)"] > 5 * seconds["PPCN student"]


def test_what_would_take_minutes_is_left_out_and_said(
    s: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    s.scale = replace(s.scale, sizes=((100, 100), (1536, 2048)))
    monkeypatch.setattr(efficiency, "TIMED", ("PPCN student", "DPED (ResNet-12)"))
    monkeypatch.setattr(efficiency, "LARGEST_WORK", 4e9)
    frame = efficiency.measure(s).set_index("network")
    said = "left out: over a minute"
    assert frame["2048 × 1536"].tolist() == [said, said]
    assert frame.loc["DPED (ResNet-12)", "100 × 100"] != said
    assert set(rows(s, "efficiency")["setting"]) == {"size=100x100"}


def test_the_whole_table_leaves_out_only_what_the_counts_forbid() -> None:
    """prad.md 3.1: DPED takes 1257.5 GMAC at 2048 x 1536, L 599.0; only the first is a minute."""
    assert 599.0e9 < efficiency.LARGEST_WORK / 2 < 1257.5e9
    assert efficiency.LARGEST_WORK > 368.4e9


# Memory


def test_the_peak_is_seen_though_it_is_gone_at_the_end() -> None:
    def hold() -> None:
        large = torch.ones(128 * MIB, dtype=torch.uint8)
        time.sleep(0.02)
        del large

    assert efficiency.peak_memory(hold, CPU) == pytest.approx(128 * MIB, rel=0.15)
    assert efficiency.peak_memory(lambda: None, CPU) < 16 * MIB


def test_a_failure_is_not_swallowed() -> None:
    def fail() -> None:
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        efficiency.peak_memory(fail, CPU)


# The paper's recipe


def test_smoke_does_not_time_the_recipe(s: Study, capsys: pytest.CaptureFixture[str]) -> None:
    assert efficiency.projection(s).empty
    assert capsys.readouterr().out == "the paper's recipe is not timed at this profile\n"
    assert rows(s, "projection").empty


def test_the_projection_is_seconds_times_steps(s: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a recipe of small patches in place of the paper's."""
    recipe: Recipe = replace(settings.RECIPES["paper"], batch=2, patch=32)
    monkeypatch.setitem(settings.RECIPES, "paper", recipe)  # type: ignore[arg-type]
    s.scale = replace(s.scale, projected=2)
    before = {name: value.clone() for name, value in s.main(0).generator.state_dict().items()}
    frame = efficiency.projection(s)
    found = rows(s, "projection")
    assert found["timed"].all()
    values = found.set_index("metric")["value"]
    assert 0 < values["seconds_per_step"] < 60
    assert values["days"] == pytest.approx(values["seconds_per_step"] * 20_000 / 86_400)
    assert values["peak_bytes"] >= 0
    assert frame.to_numpy().tolist() == [
        ["seconds per step", f"{values['seconds_per_step']:.2f}"],
        ["peak memory", f"{values['peak_bytes'] / 2**30:.1f} GiB"],
        ["days for 20,000 steps", f"{values['days']:.1f}"],
    ]
    kept = s.main(0).generator.state_dict()
    assert all(value.equal(before[name]) for name, value in kept.items())


def test_the_step_is_that_of_the_papers_recipe(s: Study, features: object) -> None:
    """All seven losses at the paper's weights, whatever the run's; in float32 throughout."""
    s.p = replace(s.p, w_tv=0.0, w_gan=0.0)
    parts, step = efficiency._paper_step(s)
    pairs = s.validation
    sample = {"degraded": pairs.degraded[:2, :, :32, :32], "clean": pairs.clean[:2, :, :32, :32]}
    values = step(parts, sample, torch.Generator())
    assert set(values) == {
        "critic", "real_score", "fake_score", "loss", *settings.TERMS,
    }  # fmt: skip
    weights = settings.Parameters().weights_of_terms()
    total = sum(weights[name] * float(values[name]) for name in settings.TERMS)
    assert float(values["loss"]) == pytest.approx(total, rel=1e-3)
    critic: Any = parts["critic"]
    assert critic.discriminator.channels == 70


def test_the_recipe_is_timed_in_float32_where_the_run_is_not(features: object, s: Study) -> None:
    """At small and large, phi of the run's critics is computed in bfloat16."""
    s.vgg19 = s.perceptual("bf16")
    parts, _ = efficiency._paper_step(s)
    critic: Any = parts["critic"]
    picture = s.validation.clean[:1, :, :32, :32]
    seen = critic.inputs(picture, picture)
    exact = s.perceptual("fp32")
    assert exact is not None
    maps = exact(picture, (settings.PHI,))[settings.PHI]
    torch.testing.assert_close(seen[:, 6:], maps / maps.std(correction=0), rtol=1e-4, atol=1e-4)
