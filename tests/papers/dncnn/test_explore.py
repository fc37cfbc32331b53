"""What the explore panel computes: live, from the sliders, by the network that was chosen."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import skimage.data
import torch
from torch import Tensor, nn

from enhancelib import images, metrics, models, photos, runtime, weights
from enhancelib.papers.dncnn import explore, figures
from enhancelib.papers.dncnn.enhance import DEFAULT
from enhancelib.papers.dncnn.sections import Networks
from enhancelib.papers.dncnn.settings import Parameters
from enhancelib.papers.dncnn.study import Arm, Trained
from enhancelib.training import History

CAT = images.from_uint8(torch.from_numpy(skimage.data.chelsea()[:48, :64].copy()).permute(2, 0, 1))


def network(c: int = 1, seed: int = 0, **options: Any) -> nn.Module:
    plain = {"D": 3, "width": 4, "norm": "none", "output_scale": 0.1, **options}
    return models.build("dncnn", c=c, **plain, generator=runtime.generator(seed, "net")).eval()


def identity(c: int = 1) -> nn.Module:
    model: Any = network(c)
    nn.init.zeros_(model.layers[-1].weight)
    nn.init.zeros_(model.layers[-1].bias)
    return model  # type: ignore[no-any-return]


NETWORKS = {"grey": network(), "colour": network(3), "nothing": identity()}
RENDER = explore.renderer(NETWORKS)


def test_rendering_is_a_function_of_its_arguments() -> None:
    kept = CAT.clone()
    first, again = (RENDER(CAT, sigma=25, network="grey") for _ in range(2))
    assert torch.equal(CAT, kept)
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert first[2] == again[2]


def test_another_noise_level_gives_another_picture() -> None:
    spreads = []
    for sigma in (5, 25, 50):
        before, _, _ = RENDER(0.5 * torch.ones(3, 64, 64), sigma=sigma, network="nothing")
        spreads.append(255 * float((before - 0.5).std()))
    assert spreads == pytest.approx([5, 25, 50], rel=0.03)
    before, after, caption = RENDER(CAT, sigma=0, network="nothing")
    assert torch.equal(before, CAT)
    assert torch.equal(after, CAT)
    assert caption == "PSNR inf → inf dB"


def test_another_network_gives_another_picture_of_the_same_noise() -> None:
    grey, colour = (RENDER(CAT, sigma=25, network=name) for name in ("grey", "colour"))
    assert torch.equal(grey[0], colour[0])
    assert not torch.equal(grey[1], colour[1])


def noisy(picture: Tensor, sigma: float) -> Tensor:
    noise = torch.randn(picture.shape, generator=runtime.generator(0, "explore"))
    return picture + noise * (sigma / 255)


def test_a_grey_network_restores_the_channels_one_by_one() -> None:
    _, after, _ = RENDER(CAT, sigma=25, network="grey")
    with torch.inference_mode():
        parts = [NETWORKS["grey"](channel[None, None]) for channel in noisy(CAT, 25)]
    assert torch.allclose(after, torch.cat(parts, 1)[0].clamp(0, 1), atol=1e-6)


def test_a_colour_network_sees_the_channels_together() -> None:
    _, after, _ = RENDER(CAT, sigma=25, network="colour")
    with torch.inference_mode():
        whole = NETWORKS["colour"](noisy(CAT, 25)[None])[0]
    assert torch.allclose(after, whole.clamp(0, 1), atol=1e-6)


@pytest.mark.parametrize("name", list(NETWORKS))
def test_a_grey_photo_of_the_users_goes_through_every_network(name: str) -> None:
    before, after, caption = RENDER(CAT[:1], sigma=25, network=name)
    assert before.shape == after.shape
    assert before.shape[0] == (3 if name == "colour" else 1)
    assert re.fullmatch(r"PSNR \d+\.\d\d → \d+\.\d\d dB", caption)


def test_the_caption_is_psnr_before_and_after() -> None:
    before, after, caption = RENDER(CAT, sigma=50, network="colour")
    psnr = metrics.METRICS["psnr"]
    wanted = [float(psnr(x[None], CAT[None])) for x in (before, after)]
    assert caption == f"PSNR {wanted[0]:.2f} → {wanted[1]:.2f} dB"
    assert before.min() >= 0
    assert after.max() <= 1


def test_pictures_are_bundled_photos_that_no_network_was_trained_on() -> None:
    p = Parameters()
    offered = explore.pictures(p)
    assert {photos.find(name).package for name in offered} == {photos.BUNDLED}
    assert {photos.find(name).split for name in offered} == {"test", "validation"}
    side = figures.side(p)
    shapes = {name: tuple(load().shape) for name, load in offered.items()}
    assert set(shapes.values()) == {(3, side, side)}
    whole = photos.load("astronaut")  # 512 x 512: a square already
    wanted = images.clip(images.resize(whole, size=(side, side)))
    assert torch.equal(offered["astronaut"](), wanted)


def trained(seed: int) -> Trained:
    return Trained(network(seed=seed), History())


def test_the_networks_on_offer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "data", lambda name="": tmp_path / name)
    arms = {
        Arm(residual, False, optimiser, 25.0, seed): trained(10 + seed)
        for residual in (True, False)
        for optimiser in ("adam", "sgd")
        for seed in (0, 1)
    }
    found = Networks({0: trained(0), 1: trained(1)}, {"S25": network(seed=5)})
    offered = explore.variants(Parameters(seed=1), arms, found)
    assert list(offered) == [
        "training section", "ablation: residual", "ablation: direct", "official S25",
    ]  # fmt: skip
    y = CAT[None, :1]
    with torch.inference_mode():
        assert torch.allclose(offered["training section"](y), network(seed=1)(y), atol=1e-6)
        assert torch.allclose(offered["ablation: direct"](y), network(seed=11)(y), atol=1e-6)
    # and, where it is, the network of data/weights comes first
    options = {"D": 3, "c": 3, "width": 4, "norm": "none"}
    (tmp_path / "weights").mkdir()
    weights.save(network(3), tmp_path / "weights" / DEFAULT, name="dncnn", options=options, card={})
    offered = explore.variants(Parameters(seed=1), {}, found)
    assert list(offered) == ["colour, blind (data/weights)", "training section", "official S25"]
    _, after, _ = explore.renderer(offered)(CAT, sigma=25, network=next(iter(offered)))
    assert torch.allclose(after, RENDER(CAT, sigma=25, network="colour")[1], atol=1e-5)
