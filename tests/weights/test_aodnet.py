"""AOD-Net with its authors' weights, on twelve pairs of RESIDE's SOTS indoor."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from enhancelib import images, metrics, models, weights
from enhancelib.weights import WeightsError
from tests.weights.test_dped import as_npz, same

# PSNR, 8 bit, of data/sots_indoor/README.md: column AOD-Net, its mean and mean SSIM
SOTS = {
    "1401_1": 22.27, "1402_6": 20.27, "1404_3": 25.03, "1405_9": 16.41, "1410_5": 20.58,
    "1411_10": 12.52, "1412_2": 20.46, "1413_8": 11.66, "1414_4": 19.23, "1415_7": 19.14,
    "1416_1": 17.97, "1422_10": 14.18,
}  # fmt: skip
FILES = ("aodnet_official.npz", "AOD_Net.caffemodel")


@torch.no_grad()
def test_the_published_figures_come_back(assets: Path) -> None:
    network = weights.load("aodnet", assets / "weights" / "aodnet" / FILES[0])
    folder, values, similarity = assets / "data" / "sots_indoor", [], []
    for name, expected in SOTS.items():
        hazy, clear = (images.read(folder / kind / f"{name}.png")[None] for kind in ("hazy", "GT"))
        output = network(hazy).clamp(0, 1)
        value = float(metrics.METRICS["psnr_8bit"](output, clear))
        assert value == pytest.approx(expected, abs=0.01), name
        values.append(value)
        similarity.append(float(metrics.METRICS["ssim_8bit"](output, clear)))
    assert np.mean(values) == pytest.approx(18.31, abs=0.006)
    assert np.mean(similarity) == pytest.approx(0.8347, abs=1e-4)


def test_caffe_and_npz_hold_the_same(assets: Path) -> None:
    one, two = (weights.load("aodnet", assets / "weights" / "aodnet" / name) for name in FILES)
    assert same(one, two)


def test_our_own_state_dict(tmp_path: Path) -> None:
    network = models.build("aodnet")
    torch.save({f"net.{k}": v for k, v in network.state_dict().items()}, tmp_path / "net.pth")
    assert same(weights.load("aodnet", tmp_path / "net.pth"), network)


def test_the_first_misfit_is_named(tmp_path: Path) -> None:
    state = {k: v.numpy() for k, v in models.build("aodnet").state_dict().items()}
    wide = as_npz(tmp_path / "wide.npz", state | {"conv3.weight": np.zeros((3, 3, 5, 5))})
    with pytest.raises(
        WeightsError, match=r"wide\.npz: .*'conv3\.weight' has shape \(3, 3, 5, 5\)"
    ):
        weights.load("aodnet", wide)
    more = as_npz(tmp_path / "more.npz", state | {"conv6.weight": np.zeros(3)})
    with pytest.raises(WeightsError, match=r"unexpected key 'conv6\.weight'"):
        weights.load("aodnet", more)
