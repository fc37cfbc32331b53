"""What a shift costs every loss, on real camera patches; and networks trained on shifted pairs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from enhancelib import claims, images
from enhancelib.losses import texture
from enhancelib.papers.prad import data, shifts, verdict
from enhancelib.papers.prad.study import Study, apply
from enhancelib.results import Run, select
from tests.papers.prad import small

# mpse-mdie.md, A.12 (a): mean squared error per value of 100 Canon patches, core of 60 x 60
MSE = {2: 0.00676, 4: 0.01432, 6: 0.02014, 8: 0.02506, 10: 0.02963}
BLURRED = {2: 0.00047, 4: 0.00184, 6: 0.00396, 8: 0.00663, 10: 0.00963}
BLUR, HALF = shifts.BLURRED, 3 * 60 * 60 / 2  # Eq. 9 is half a sum, the others are means


def values(run: Run, method: str, metric: str = "value") -> dict[int, float]:
    """Shift -> value."""
    found = run.values(table="shift", method=method, metric=metric)
    return {
        int(setting.removeprefix("shift=")): value
        for setting, value in zip(found["setting"], found["value"], strict=True)
    }


@pytest.fixture(scope="module")
def real(assets: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The study on the first hundred camera patches, without the losses that need VGG19."""
    s = small.opened(tmp_path_factory.mktemp("shift"), data_root=str(assets / "data"))
    s.vgg19 = None
    s.scale = replace(s.scale, shift_pairs=100)
    shifts.study(s)
    return s.run


def test_a_shift_costs_mse_what_the_specification_measured(real: Run) -> None:
    found = values(real, "MSE")
    assert list(found) == list(shifts.SHIFTS)
    assert {px: found[px] for px in MSE} == pytest.approx(MSE, rel=0.05)


def test_the_blurred_colour_loss_costs_what_the_specification_measured(real: Run) -> None:
    """No border of zeros inside the core: that alone would take away 10 to 15 %."""
    found = values(real, BLUR)
    assert {px: found[px] for px in BLURRED} == pytest.approx(BLURRED, rel=0.05)


def test_the_blur_is_forgiving_and_equation_9_is_not(real: Run) -> None:
    mse, blurred = values(real, "MSE"), values(real, BLUR)
    assert mse[2] / blurred[2] == pytest.approx(14, rel=0.1)
    assert mse[10] / blurred[10] > 2.5
    # Eq. 9 is MSE in another unit
    plain = values(real, "color")
    assert {px: value / HALF for px, value in plain.items()} == pytest.approx(mse, rel=1e-4)
    claim = next(one for one in verdict.CLAIMS if one.name == "blur_forgives_shifts")
    assert claim.statistic(real.values()) == pytest.approx(mse[2] / blurred[2])
    assert claims.judge(claim.statistic(real.values()), margin=claim.margin).holds is True


def test_a_share_is_the_value_over_that_of_strangers(real: Run) -> None:
    for method in ("gradient", "color", "MSE", BLUR):
        found, shares = values(real, method), values(real, method, "share")
        assert found[0] == shares[0] == 0
        ratios = {shares[px] / found[px] for px in shifts.SHIFTS if px}
        assert max(ratios) == pytest.approx(min(ratios))
        assert all(0 < shares[px] < 1 for px in shifts.SHIFTS if px), method
        grown = [shares[px] for px in shifts.SHIFTS]
        assert grown == sorted(grown), method
    assert values(real, "color", "share") == pytest.approx(values(real, "MSE", "share"), rel=1e-4)
    # gradients know a shift of a pixel at once
    assert values(real, "gradient", "share")[1] > 0.4


def test_the_table_has_a_row_per_loss_and_a_column_per_shift(real: Run) -> None:
    frame = shifts.table(real)
    assert list(frame.columns) == ["method", *(f"shift={px}" for px in shifts.SHIFTS)]
    assert list(frame["method"]) == ["gradient", "color", "MSE", BLUR]
    share = values(real, BLUR, "share")[4]
    assert frame.set_index("method").loc[BLUR, "shift=4"] == f"{share:.3f}"
    assert set(frame["shift=0"]) == {"0.000"}
    assert shifts.table(real, "value").shape == frame.shape


def test_every_loss_that_compares_pictures_is_there(features: Path, s: Study) -> None:
    losses = shifts.losses_of(s)
    assert list(losses) == ["content", "lcn", "gradient", "color", "contextual", "MSE"]
    x = data.test(s.p).clean[:2, :, :64, :64]
    for name, loss in losses.items():
        with torch.inference_mode():
            same, other = float(loss(x, x)), float(loss(x, x.flip(0)))
        assert same == pytest.approx(0, abs=1e-3), name
        assert other > 10 * abs(same) + 1e-4, name
    phi = losses["lcn"]
    brighter = (0.5 * x + 0.4).clamp(0, 1)
    with torch.inference_mode():
        assert float(phi(0.5 * x, brighter)) < 0.05 * float(phi(x, x.flip(0)))


def test_a_mean_over_pieces_is_the_mean_over_all() -> None:
    x, y = (torch.rand(47, 3, 16, 16, generator=torch.Generator().manual_seed(k)) for k in (0, 1))

    def both(a: Tensor, b: Tensor) -> Tensor:
        return texture.gradient(a, b)

    assert float(shifts._mean(both, x, y)) == pytest.approx(float(both(x, y)), rel=1e-5)


# Networks


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Study:
    s = small.opened(tmp_path_factory.mktemp("misaligned"))
    s.vgg19 = None  # seconds: gradient, colour and TV are left of Eq. 19
    shifts.trainings(s)
    return s


def test_trainings_are_scored_against_what_lies_over_the_input(trained: Study) -> None:
    rows = trained.run.values(table="misaligned")
    assert len(rows) == 2 * 2 * 3
    pairs = data.aligned(trained.p)
    found = trained.shifted(True, 4, 0)
    restored = images.clip(apply(found.generator, pairs.degraded))
    errors = (restored - pairs.clean).double().square().mean((1, 2, 3))
    psnr = select(rows, metric="psnr", method=verdict.SHARP, setting="shift=4")["value"].item()
    assert psnr == pytest.approx(float(-10 * errors.log10().mean()), abs=1e-3)

    def energy(x: Tensor) -> Tensor:
        right, down = x[..., 1:] - x[..., :-1], x[..., 1:, :] - x[..., :-1, :]
        return (right**2).mean() + (down**2).mean()

    sharp = select(rows, metric="sharpness", method=verdict.SHARP, setting="shift=4")[
        "value"
    ].item()
    assert sharp == pytest.approx(float(energy(restored) / energy(pairs.clean)), rel=1e-3)


def test_the_shift_study_has_the_seeds_of_its_scale(s: Study) -> None:
    s.vgg19 = None
    s.p, s.scale = replace(s.p, seeds=2), replace(s.scale, repeats=2, shift_steps=1)
    s._trained = {}
    shifts.trainings(s)
    rows = s.run.values(table="misaligned")
    assert set(rows["seed"]) == {0, 1}
    sharp = select(rows, metric="sharpness", setting="shift=4", method=verdict.SMOOTH)
    assert sharp["value"].nunique() == 2
    claim = next(c for c in verdict.CLAIMS if c.name == "sharper_when_shifted")
    gaps = claim.statistic(rows)
    other = select(rows, metric="sharpness", setting="shift=4", method=verdict.SHARP)
    assert gaps == pytest.approx(list(other["value"].to_numpy() - sharp["value"].to_numpy()))


def test_networks_differ_by_loss_and_by_shift(trained: Study) -> None:
    networks = {
        (full, px): trained.shifted(full, px, 0).generator.state_dict()
        for full in (False, True)
        for px in shifts.TRAINED
    }
    weights = [state["last.0.weight"] for state in networks.values()]
    assert not any(torch.equal(a, b) for k, a in enumerate(weights) for b in weights[:k])
    assert set(trained.shifted(True, 2, 0).history.values) >= {"gradient", "color", "tv"}
    assert "mse" in trained.shifted(False, 2, 0).history.values
    assert trained.shifted(True, 2, 0).critic is None


def test_without_a_loss_of_its_own_only_mse_is_trained(s: Study) -> None:
    """Weights may leave nothing of Eq. 19 but the critic."""
    s.vgg19 = None
    s.p = replace(s.p, w_texture=0.0, w_color=0.0, w_tv=0.0)
    s.scale = replace(s.scale, shift_steps=1)
    s._trained = {}
    shifts.trainings(s)
    assert set(s.run.values(table="misaligned")["method"]) == {verdict.SMOOTH}


def test_the_table_of_trainings(trained: Study) -> None:
    frame = shifts.trained_table(trained.run)
    assert list(frame.columns) == ["metric", "loss", "up to 0 px", "up to 2 px", "up to 4 px"]
    assert frame[["metric", "loss"]].values.tolist() == [
        ["psnr", verdict.SMOOTH], ["sharpness", verdict.SMOOTH],
        ["psnr", verdict.SHARP], ["sharpness", verdict.SHARP],
    ]  # fmt: skip
