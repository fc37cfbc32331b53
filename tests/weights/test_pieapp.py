"""PieAPP from the released PieAPPv0.1.pth (273 MB, non-commercial), which the user brings.

Without ENHANCELIB_PIEAPP only the layout is tested, on values drawn here.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from enhancelib import images, models, weights
from enhancelib.weights import WeightsError, pieapp
from tests.weights.test_dped import same


@pytest.fixture(scope="module")
def network() -> nn.Module:
    return models.build("pieapp", generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def trained() -> nn.Module:
    file = pieapp.file()
    if file is None:  # nowhere to be had but from its authors, so CI skips too
        pytest.skip(f"PieAPP's weights: {pieapp.VARIABLE} names no PieAPPv0.1.pth")
    return weights.load("pieapp", file)


@torch.no_grad()
def test_published_value(trained: nn.Module, assets: Path) -> None:
    folder = assets / "data" / "pieapp"
    reference, distorted = (images.read(folder / f)[None] for f in ("I01.BMP", "i01_01_5.bmp"))
    value = float(trained(reference, distorted))
    assert value == pytest.approx(2.2393305, abs=1e-5)  # PIQ's test, stride 27
    assert float(trained(reference, reference).abs()) < 1e-6


def test_the_odd_shape_of_the_released_file(network: nn.Module, tmp_path: Path) -> None:
    state = dict(network.state_dict())
    state["ref_score_subtract.weight"] = state["ref_score_subtract.weight"][:, 0]
    assert state["ref_score_subtract.weight"].shape == (1,)
    torch.save(state, tmp_path / "PieAPPv0.1.pth")
    loaded = weights.load("pieapp", tmp_path / "PieAPPv0.1.pth", stride=6)
    assert same(loaded, network)
    assert loaded.options == {"stride": 6}


def test_our_own_state_dict_and_misfits(network: nn.Module) -> None:
    state = {f"module.{key}": value for key, value in network.state_dict().items()}
    options, found = pieapp.convert(state)
    assert options == {}
    assert {k: v.shape for k, v in found.items()} == {
        k: v.shape for k, v in network.state_dict().items()
    }


@pytest.mark.parametrize("key", ["conv12.bias", "ref_score_subtract.weight"])
def test_another_network_is_refused(key: str, tmp_path: Path) -> None:
    torch.save({key: torch.zeros(1)}, tmp_path / "net.pth")
    with pytest.raises(WeightsError, match=r"net\.pth: key 'conv1\.weight' is missing"):
        weights.load("pieapp", tmp_path / "net.pth")


def test_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(pieapp.VARIABLE, "")
    assert pieapp.file() is None
    monkeypatch.setenv(pieapp.VARIABLE, "weights/PieAPPv0.1.pth")
    assert pieapp.file() == Path("weights/PieAPPv0.1.pth")
