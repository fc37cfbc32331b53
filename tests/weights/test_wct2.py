"""WCT2 from files laid out as the released pair, which is at nobody's hand here.

Names and shapes are those of model.py in clovaai/WCT2.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from enhancelib import models, weights
from enhancelib.weights import WeightsError
from tests.weights.test_dped import same

WIDTHS = (64, 128, 256)
ENCODER = {
    "conv0": (3, 3, 1, 1),
    "conv1_1": (64, 3, 3, 3),
    "conv1_2": (64, 64, 3, 3),
    "conv2_1": (128, 64, 3, 3),
    "conv2_2": (128, 128, 3, 3),
    "conv3_1": (256, 128, 3, 3),
    "conv3_2": (256, 256, 3, 3),
    "conv3_3": (256, 256, 3, 3),
    "conv3_4": (256, 256, 3, 3),
    "conv4_1": (512, 256, 3, 3),
}
DECODER = {
    "cat5": {
        "conv4_1": (256, 512, 3, 3),
        "conv3_4_2": (256, 1280, 3, 3),
        "conv3_3": (256, 256, 3, 3),
        "conv3_2": (256, 256, 3, 3),
        "conv3_1": (128, 256, 3, 3),
        "conv2_2_2": (128, 640, 3, 3),
        "conv2_1": (64, 128, 3, 3),
        "conv1_2_2": (64, 320, 3, 3),
        "conv1_1": (3, 64, 3, 3),
    }
}
DECODER["sum"] = {
    name.removesuffix("_2") if name.count("_") == 2 else name: (
        (shape[0], shape[1] // 5, 3, 3) if name.count("_") == 2 else shape
    )
    for name, shape in DECODER["cat5"].items()
}
SIGNS = {"LL": (1, 1, 1, 1), "LH": (-1, 1, -1, 1), "HL": (-1, -1, 1, 1), "HH": (1, -1, -1, 1)}


def drawn(layers: dict[str, tuple[int, ...]], pooling: str, seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in layers.items():
        state[f"{name}.weight"] = torch.randn(shape, generator=generator) * 0.05
        state[f"{name}.bias"] = torch.randn(shape[0], generator=generator) * 0.05
    for number, width in enumerate(WIDTHS, 1):
        for band, signs in SIGNS.items():
            kernel = torch.tensor(signs, dtype=torch.float32).view(1, 1, 2, 2) / 2
            state[f"{pooling}{number}.{band}.weight"] = kernel.expand(width, 1, 2, 2).clone()
    return state


def released(option: str) -> dict[str, dict[str, Tensor]]:
    return {
        "encoder": drawn(ENCODER, "pool", 0),
        "decoder": drawn(DECODER[option], "recon_block", 1),
    }


def load(folder: Path, states: dict[str, dict[str, Tensor]]) -> nn.Module:
    paths = {part: folder / f"wave_{part}_l4.pth" for part in states}
    for part, path in paths.items():
        torch.save(states[part], path)
    return weights.load("wct2", paths)


@pytest.mark.parametrize("option", ["cat5", "sum"])
def test_released_names_find_their_places(option: str, tmp_path: Path) -> None:
    states = released(option)
    learned = sum(v.numel() for s in states.values() for k, v in s.items() if k.startswith("conv"))
    assert learned == {"cat5": 10_107_535, "sum": 7_010_959}[option]
    fixed = sum(v.numel() for s in states.values() for v in s.values()) - learned
    assert fixed == 14_336
    network = load(tmp_path, states)
    assert network.options == {"option": option}
    for part, layers in (("encoder", ENCODER), ("decoder", DECODER[option])):
        for name in layers:
            place = name.removesuffix("_2") if name.count("_") == 2 else name
            for field in ("weight", "bias"):
                stored = states[part][f"{name}.{field}"]
                assert torch.equal(network.get_parameter(f"{part}.{place}.{field}"), stored)


def test_our_own_state_dict(tmp_path: Path) -> None:
    network = models.build("wct2", option="sum")
    torch.save({f"net.{k}": v for k, v in network.state_dict().items()}, tmp_path / "net.pth")
    assert same(weights.load("wct2", tmp_path / "net.pth"), network)


def without(part: str, key: str) -> Callable[[Any], Any]:
    return lambda states: states[part].pop(key)


def swapped(states: Any) -> None:
    pool = states["encoder"]
    pool["pool2.LH.weight"], pool["pool2.HL.weight"] = (
        pool["pool2.HL.weight"],
        pool["pool2.LH.weight"],
    )


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (without("encoder", "conv3_2.bias"), r"key 'encoder\.conv3_2\.bias' is missing"),
        (without("decoder", "conv3_4_2.weight"), "holds no decoder of WCT2; give both files"),
        (lambda states: states.pop("decoder"), "holds no decoder of WCT2; give both files"),
        (lambda states: states["decoder"].update({"conv5_1.bias": torch.zeros(1)}),
         r"unexpected key 'decoder\.conv5_1\.bias'"),
        (lambda states: states["decoder"].update({"conv1_1.bias": torch.zeros(1)}),
         r"'decoder\.conv1_1\.bias' has shape \(1,\); expected \(3,\)"),
        (swapped, r"'encoder\.pool2\.(LH|HL)\.weight' is another filter than the Haar"),
    ],
)  # fmt: skip
def test_the_first_misfit_is_named(
    change: Callable[[Any], Any], sentence: str, tmp_path: Path
) -> None:
    states = released("cat5")
    change(states)
    with pytest.raises(WeightsError, match=rf"wave_encoder_l4\.pth.*: .*{sentence}"):
        load(tmp_path, states)
