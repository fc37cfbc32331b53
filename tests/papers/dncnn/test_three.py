"""DnCNN-3: which pairs it is judged on, and what stands beside its numbers."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image
from torch import Tensor

from enhancelib import datasets, images, metrics, models, results, runtime
from enhancelib.papers.dncnn import data, three, verdict
from enhancelib.papers.dncnn.sections import Networks
from enhancelib.papers.dncnn.settings import Parameters
from enhancelib.papers.dncnn.study import Study

COLOUR = skimage.data.chelsea()[100:150, 100:153]
GREY = skimage.data.camera()[100:149, 200:255]
CAT = images.from_uint8(torch.from_numpy(COLOUR[..., 1].copy()))[None]
SETTINGS = [
    *(f"noise {k}" for k in (15, 25, 50)),
    *(f"SR x{k}" for k in (2, 3, 4)),
    *(f"JPEG {k}" for k in (10, 20, 30, 40)),
]


@pytest.fixture
def s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    """A study on one small test photo."""
    monkeypatch.setattr(data, "test_photos", lambda p, *, colour: {"cat": CAT})
    p = Parameters(profile="smoke", device="cpu", out=str(tmp_path / "run"), seeds=2)
    made = Study(results.open_run("dncnn", p), p)
    made._pools[("S", 24)] = datasets.PatchPool([CAT], 24)
    return made


@pytest.fixture
def sets(tmp_path: Path) -> Path:
    """A data_root with one colour picture in Set5 and a grey one in classic5."""
    for name, picture in (("Set5", COLOUR), ("classic5", GREY)):
        (tmp_path / "sets" / name).mkdir(parents=True)
        Image.fromarray(picture).save(tmp_path / "sets" / name / "one.png")
    return tmp_path / "sets"


def psnr(pair: tuple[Tensor, Tensor]) -> float:
    return float(metrics.METRICS["psnr"](pair[0].clamp(0, 1)[None], pair[1][None]))


def test_the_photos_are_degraded_in_three_ways(s: Study) -> None:
    found = three._pairs(s)
    assert [(dataset, setting) for dataset, setting, _ in found] == [
        (data.PHOTOS, setting) for setting in SETTINGS
    ]
    by = {setting: pairs["cat"] for _, setting, pairs in found}
    for setting, (degraded, clean) in by.items():
        assert degraded.shape == clean.shape, setting
        height, width = clean.shape[1:]
        assert torch.equal(clean, CAT[:, :height, :width]), setting
    values = {setting: psnr(pair) for setting, pair in by.items()}
    order = [[values[k] for k in SETTINGS[i:j]] for i, j in ((0, 3), (3, 6), (6, 10))]
    assert order[0] == sorted(order[0], reverse=True)
    assert order[1] == sorted(order[1], reverse=True)
    assert order[2] == sorted(order[2])
    assert torch.equal(by["noise 25"][0], data.noisy(CAT, 25))


def test_enlarged_pictures_are_cut_to_a_multiple_of_the_scale(s: Study) -> None:
    by = {setting: pairs["cat"] for _, setting, pairs in three._pairs(s)}
    sizes = {k: tuple(by[f"SR x{k}"][1].shape) for k in three.SCALES}
    assert sizes == {2: (1, 50, 52), 3: (1, 48, 51), 4: (1, 48, 52)}  # of 50 x 53
    assert by["JPEG 10"][1].shape == CAT.shape
    degraded, clean = by["SR x2"]
    wanted = images.resize(images.resize(clean, scale=0.5), scale=2.0).clamp(0, 1)
    assert torch.allclose(degraded, wanted, atol=1e-6)


@pytest.mark.parametrize("quality", three.QUALITIES)
def test_jpeg_is_the_codecs(quality: int) -> None:
    file = io.BytesIO()
    Image.fromarray(COLOUR[..., 1].copy()).save(file, format="JPEG", quality=quality)
    with Image.open(file) as coded:
        wanted = np.array(coded)
    assert np.array_equal(images.to_uint8(three.jpeg(CAT, quality))[0], wanted)


def test_real_sets_stand_beside_the_photos(s: Study, sets: Path) -> None:
    s.p = replace(s.p, data_root=str(sets))
    found = three._pairs(s)
    own = [(d, k) for d, k, _ in found if d != data.PHOTOS]
    assert own == [("Set5", f"SR x{k}") for k in (2, 3, 4)] + [
        ("classic5", f"JPEG {k}") for k in (10, 20, 30, 40)
    ]
    by = {(d, k): pairs["one"] for d, k, pairs in found if d == "Set5"}
    # tables of super-resolution are of MATLAB's luma, 16 to 235
    r, g, b = (COLOUR[..., k].astype(float) / 255 for k in range(3))
    luma = (16 + 65.481 * r + 128.553 * g + 24.966 * b) / 255
    np.testing.assert_allclose(by["Set5", "SR x2"][1][0], luma[:50, :52], atol=1e-6)


def test_input_and_networks_are_scored_on_the_same_pairs(s: Study) -> None:
    official: Any = models.build("dncnn", D=3, width=4, generator=runtime.generator(0, "three"))
    torch.nn.init.zeros_(official.layers[-1].weight)
    torch.nn.init.zeros_(official.layers[-1].bias)
    three.measure(s, Networks({}, {"3": official.eval()}))
    values = s.run.values(table="three", metric="psnr_8bit", image="mean")
    assert list(dict.fromkeys(values["setting"])) == SETTINGS
    rows = values.groupby("setting")
    seeds = {k: sorted(g[g["method"] == verdict.THREE]["seed"]) for k, g in rows}
    assert seeds == {setting: [0, 1] for setting in SETTINGS}
    by = values.pivot_table(index="setting", columns="method", values="value")
    # a network whose residual is 0 gives its input back
    same = by["DnCNN-3 (official weights)"] - by["degraded"]
    assert float(same.abs().max()) < 1e-6
    wanted = {setting: psnr(pairs["cat"]) for _, setting, pairs in three._pairs(s)}
    for setting in SETTINGS:  # rounding to 8 bits changes little at these errors
        assert by["degraded"][setting] == pytest.approx(wanted[setting], abs=0.05)


def test_published_numbers_are_of_the_sets_that_were_measured(s: Study) -> None:
    assert three.published(s.run) is None
    words: Any = {"method": "m", "metric": "psnr_8bit", "value": 1.0, "table": "three"}
    s.run.record(dataset=data.PHOTOS, **words)
    assert three.published(s.run) is None
    s.run.record(dataset="Set5", **words)
    s.run.record(dataset="classic5", **words)
    frame = three.published(s.run)
    assert frame is not None
    assert set(frame["dataset"].str.lower()) == {"set5", "classic5"}
    ours = frame[(frame["row"] == "DnCNN-3") & (frame["dataset"] == "Set5")]
    assert dict(zip(ours["setting"], ours["value"], strict=True)) == {
        "scale=2": 37.58, "scale=3": 33.75, "scale=4": 31.40,
    }  # fmt: skip
    assert 29.40 in set(frame[frame["row"] == "DnCNN-3"]["value"])  # classic5 at quality 10


def test_the_network_of_the_six_tiles_is_the_first_seeds(s: Study) -> None:
    assert three.network(s) is s.three(0).network
    s.p = replace(s.p, profile="paper")
    assert three.network(s) is None
    three.measure(s, Networks({}, {}))
    assert s.run.values().empty
