"""The linear probe against what least squares gives by other means."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from enhancelib import models, results, runtime
from enhancelib.papers.dncnn import probing
from enhancelib.papers.dncnn.sections import Networks
from enhancelib.papers.dncnn.settings import Parameters
from enhancelib.papers.dncnn.study import Study, Trained
from enhancelib.training import History


def drawn(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


TARGET = drawn(4, 1, 40, 40, seed=0)
OTHERS = drawn(4, 6, 40, 40, seed=1)


def test_features_that_hold_the_target_give_1() -> None:
    features = torch.cat([OTHERS, 3 * TARGET - 0.5 + OTHERS[:, :1]], 1)
    assert probing._r2(features, TARGET, 2) == pytest.approx(1, abs=1e-4)


def test_noise_gives_0() -> None:
    # the expected R2 outside the fitted half is about -7 / 3200
    assert abs(probing._r2(OTHERS, TARGET, 2)) < 0.02


def test_half_of_the_variance_gives_a_half() -> None:
    features = TARGET + drawn(4, 1, 40, 40, seed=2)
    assert probing._r2(features, TARGET, 2) == pytest.approx(0.5, abs=0.03)


def test_it_is_least_squares_fitted_on_one_half_and_judged_on_the_other() -> None:
    features = torch.cat([OTHERS, TARGET + 0.7 * OTHERS[:, 2:3] ** 2], 1)
    target = TARGET + 2.0  # an intercept is part of the map
    rows = features.permute(0, 2, 3, 1).double().numpy().reshape(4, -1, 7)
    x = np.concatenate([rows, np.ones((4, 1600, 1))], 2)
    y = target.double().numpy().reshape(4, -1)
    fitted, *_ = np.linalg.lstsq(x[:1].reshape(-1, 8), y[:1].ravel(), rcond=None)
    left = y[1:].ravel() - x[1:].reshape(-1, 8) @ fitted
    wanted = 1 - (left**2).sum() / ((y[1:] - y[1:].mean()) ** 2).sum()
    assert probing._r2(features, target, 1) == pytest.approx(wanted, abs=1e-5)
    assert probing._r2(features, target, 3) != pytest.approx(wanted, abs=1e-5)


def test_a_dead_channel_changes_nothing() -> None:
    features = torch.cat([TARGET + OTHERS[:, :1], torch.zeros_like(TARGET)], 1)
    plain = probing._r2(features[:, :1], TARGET, 2)
    assert probing._r2(features, TARGET, 2) == pytest.approx(plain, abs=1e-5)


def test_every_hidden_layer_is_probed_for_picture_and_noise(tmp_path: Path) -> None:
    p = Parameters(profile="smoke", out=str(tmp_path), sigma=25.0)
    run = results.open_run("dncnn", p)
    network = models.build(
        "dncnn", D=4, width=6, norm="none", generator=runtime.generator(0, "probe")
    )
    conv = network.layers[0]  # type: ignore[index, union-attr]
    torch.nn.init.zeros_(conv.weight)
    conv.weight.data[0, 0, 1, 1] = 1.0  # the first layer hands y on: y = x + v, bar the ReLU
    study = Study(run, p)
    probing.measure(study, Networks({5: Trained(network.eval(), History())}, {}))
    values = run.values(table="probe", metric="r2")
    assert sorted(set(values["image"])) == ["layer 1", "layer 2", "layer 3"]
    assert set(values["setting"]) == {"x", "v"}
    assert list(values["seed"]) == [5] * 6
    first = values[values["image"] == "layer 1"].set_index("setting")["value"]
    # x carries most of the variance of y, and v little of it
    assert first["x"] > 0.5 > first["v"]
