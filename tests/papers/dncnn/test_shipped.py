"""The network in data/weights is what its card says."""

from __future__ import annotations

import json

import pytest
import torch

from enhancelib import images, metrics, models, photos, runtime, weights
from enhancelib.papers.dncnn import colour, enhance
from tests.conftest import absent

FILE = runtime.data("weights") / colour.FILE


@pytest.fixture(scope="module")
def card() -> dict[str, object]:
    found: dict[str, object] = json.loads(FILE.with_suffix(".json").read_text(encoding="utf-8"))
    return found


def test_the_card_in_the_file_is_the_one_beside_it(card: dict[str, object]) -> None:
    assert weights.card(FILE) == card


def test_the_network_is_the_one_described(card: dict[str, object]) -> None:
    network = weights.load("dncnn", FILE)
    assert sum(p.numel() for p in network.parameters()) == card["parameters"]
    assert network.c == 3
    assert not network.noise_map


def test_no_test_photo_was_trained_on(card: dict[str, object]) -> None:
    assert not set(card["photos"]) & set(card["test"]["photos"])  # type: ignore[call-overload,index]


def test_a_clean_photo_comes_back() -> None:
    psnr = metrics.METRICS["psnr_8bit"]
    for name in photos.names("test", bundled=True):
        clean = colour._centre(photos.load(name), 160)
        restored = images.clip(enhance.enhance(clean, None))
        assert float(psnr(restored, clean)) > 38, name


@pytest.mark.parametrize("sigma", [15, 25, 50])
def test_the_card_tells_the_truth(card: dict[str, object], sigma: int) -> None:
    """The card's mean over all test photos, measured again on this machine."""
    names = card["test"]["photos"]  # type: ignore[index]
    if not set(names) <= set(photos.names("test")):
        absent("the photo bank is not fetched: run `enhancelib fetch --only photos`")
    some = {name: colour._centre(photos.load(name), 256) for name in names}
    network = models.fast(weights.load("dncnn", FILE))
    with torch.inference_mode():
        ours, noisy = colour._psnr(network, some, sigma)
    row = card["psnr"][f"sigma={sigma}"]  # type: ignore[index]
    assert ours == pytest.approx(row["network"], abs=0.01)
    assert noisy == pytest.approx(row["noisy"], abs=0.001)
    assert row["gap"] == pytest.approx(row["network"] - row["cbm3d"], abs=0.002)
