"""The default network's training, in seconds: what it leaves, and what its card says.

Nothing here may touch data/weights or runs/ of the checkout: `colour.train` gets another root.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from enhancelib import images, metrics, models, photos, runtime, weights
from enhancelib.papers.dncnn import baselines, colour, enhance
from tests import soak

OPTIONS = {"D": 3, "c": 3, "width": 4, "norm": "none", "residual": True}
READ: list[str] = []


def bank(split: str) -> dict[str, Tensor]:
    """One bundled photo of the split, small: BM3D takes seconds for a whole one."""
    name = photos.names(split, bundled=True)[0]
    return {name: photos.load(name)[:, 100:132, 100:140]}


def names(split: str) -> tuple[str, ...]:
    return photos.names(split, bundled=True)


def load(name: str) -> Tensor:
    READ.append(name)
    return photos.load(name)[:, :128, :128]


def weights_of_the_checkout() -> list[tuple[str, int]]:
    folder = runtime.root() / "data" / "weights"
    return [(file.name, file.stat().st_mtime_ns) for file in sorted(folder.glob("*"))]


def train(root: Path) -> Path:
    """The real thing on bundled photos, under another root; its file of weights."""
    recipe = replace(colour.RECIPE, batch=2, patch=24, watch_every=2, log_every=1)
    before = weights_of_the_checkout()
    READ.clear()
    with pytest.MonkeyPatch.context() as patch:
        elsewhere = SimpleNamespace(**{**vars(runtime), "root": lambda: root})
        patch.setattr(colour, "runtime", elsewhere)
        patch.setattr(colour, "photos", SimpleNamespace(names=names, load=load, bank=bank))
        patch.setattr(colour, "OPTIONS", OPTIONS)
        patch.setattr(colour, "RECIPE", recipe)
        patch.setattr(colour, "SIGMAS", (25,))
        colour.train(steps="3", threads=str(torch.get_num_threads()), precision="fp32")
    assert weights_of_the_checkout() == before
    return root / "data" / "weights" / colour.FILE


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a training of three steps has ended; at one noise level, as BM3D takes seconds."""
    if not baselines.has_bm3d():
        pytest.skip("the optional package bm3d is not installed")
    made = tmp_path_factory.mktemp("colour")
    train(made)
    return made


@pytest.fixture(scope="module")
def file(root: Path) -> Path:
    return root / "data" / "weights" / colour.FILE


def test_training_leaves_a_network_and_its_card(file: Path) -> None:
    card = json.loads(file.with_suffix(".json").read_text())
    assert card["options"] == OPTIONS
    assert (card["recipe"]["steps"], card["recipe"]["batch"]) == (3, 2)
    assert card["loss"] == "l1 on the restored image"
    assert card["noise"] == "Gaussian, sigma uniform in (0.0, 55.0) (8-bit units), unclipped"
    assert card["licence"] == "Apache-2.0"
    assert card["protocol"] == metrics.METRICS["psnr_8bit"].protocol
    assert {"commit", "versions", "device", "threads"} <= set(card["environment"])
    network: Any = weights.load("dncnn", file)
    assert card["parameters"] == sum(p.numel() for p in network.parameters())
    assert network.options == {**OPTIONS, "noise_map": False}


def test_it_is_trained_on_one_split_and_judged_on_another(file: Path) -> None:
    card = json.loads(file.with_suffix(".json").read_text())
    assert {photos.find(name).split for name in card["photos"]} == {"train"}
    assert card["photos"] == READ
    assert {photos.find(name).split for name in card["test"]["photos"]} == {"test"}


def test_the_cards_figures_are_those_of_the_saved_network(file: Path) -> None:
    network = weights.load("dncnn", file)
    rows = json.loads(file.with_suffix(".json").read_text())["psnr"]
    assert list(rows) == ["sigma=0", "sigma=25"]
    ((name, clean),) = bank("test").items()
    psnr = metrics.METRICS["psnr_8bit"]
    for sigma in (0, 25):
        row = rows[f"sigma={sigma}"]
        generator = runtime.generator(0, name, sigma)
        torch.rand(1, generator=generator)  # the noise level is drawn first
        y = clean + torch.randn(1, *clean.shape, generator=generator) * sigma / 255
        with torch.inference_mode():
            ours = float(psnr(images.clip(network(y)), clean[None]))
        assert row["network"] == pytest.approx(ours, abs=0.01)
        if sigma:
            assert row["noisy"] == pytest.approx(float(psnr(images.clip(y), clean[None])), abs=0.01)
            assert row["gap"] == pytest.approx(row["network"] - row["cbm3d"], abs=2e-3)
            assert row["cbm3d"] > row["noisy"] + 2
    assert set(rows["sigma=0"]) == {"network", "noisy"}
    assert rows["sigma=0"]["noisy"] is None  # infinite, for which JSON has no word


def test_training_that_has_ended_is_not_done_again(
    root: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = soak.read(root / "runs" / "dncnn" / "colour" / "checkpoints" / "main.pt")
    assert kept["index"] == 3
    assert kept["history"]["steps"]["psnr25"] == [2, 3]
    assert set(kept["history"]["values"]) == {"loss", "psnr0", "psnr25"}
    first = weights.load("dncnn", file).state_dict()
    file.unlink()

    def again(sample: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        raise AssertionError("it trained again")

    monkeypatch.setattr(colour, "_l1", again)
    monkeypatch.setattr(colour, "_card", lambda *_: {"psnr": {}})  # BM3D takes seconds
    second = weights.load("dncnn", train(root)).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_loss_is_l1_of_the_restored_picture() -> None:
    clean = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    total, terms = colour._l1({"output": clean + 0.25, "clean": clean})
    assert float(total) == pytest.approx(0.25)
    assert terms == {}


def test_the_recipe_is_blind_and_colour() -> None:
    assert (colour.NOISE.sigma, colour.OPTIONS["c"]) == ((0.0, 55.0), 3)
    assert (colour.OPTIONS["norm"], colour.OPTIONS["residual"]) == ("none", True)
    assert colour.SIGMAS == (15, 25, 50)
    recipe = colour.RECIPE
    assert recipe.schedule == "cosine"
    assert recipe.rate(0) == recipe.learning_rate
    assert recipe.rate(recipe.steps - 1) == pytest.approx(recipe.final_learning_rate)
    network: Any = colour._network(recipe.seed, torch.device("cpu"))
    assert network.options == {**colour.OPTIONS, "width": 64, "noise_map": False}
    assert enhance.DEFAULT == colour.FILE


def test_the_start_is_nearly_the_identity() -> None:
    # output_scale 0.1: the first picture is about the input, so training starts at the noisy PSNR
    network = models.build(
        "dncnn", **OPTIONS, initialisation="he", output_scale=0.1,
        generator=runtime.generator(0, "initialisation"),
    )  # fmt: skip
    for sigma in colour.SIGMAS:
        ours, noisy = colour._psnr(network.eval(), bank("validation"), sigma)
        assert ours == pytest.approx(noisy, abs=1.0)
        assert noisy == pytest.approx(20 * torch.tensor(255 / sigma).log10().item(), abs=1.0)


def test_the_centre_is_cut_around_the_middle() -> None:
    image = torch.arange(30.0).reshape(1, 5, 6)
    assert torch.equal(colour._centre(image, 3), image[:, 1:4, 1:4])
    assert torch.equal(colour._centre(image, 9), image)
