"""The dark channel prior against loops, its equations, and the published protocol's figures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from skimage import data
from torch import Tensor

from enhancelib import filters, images, metrics
from enhancelib.losses.photorealism import MattingLaplacian

# PSNR, 8 bit, of data/sots_indoor/README.md: column DCP, its mean and its mean SSIM
SOTS = {
    "1401_1": 20.42, "1402_6": 23.39, "1404_3": 22.17, "1405_9": 20.06, "1410_5": 16.56,
    "1411_10": 21.21, "1412_2": 15.59, "1413_8": 19.55, "1414_4": 16.55, "1415_7": 16.91,
    "1416_1": 11.11, "1422_10": 19.43,
}  # fmt: skip
SOTS_MEAN, SOTS_SSIM = 18.58, 0.8381
AIR = torch.tensor([0.80, 0.82, 0.85]).view(1, 3, 1, 1)


def photo(size: int = 96) -> Tensor:
    picture = np.ascontiguousarray(data.astronaut()[: 2 * size : 2, 120 : 120 + 2 * size : 2])
    return torch.from_numpy(picture).permute(2, 0, 1)[None] / 255


def hazy(size: int = 96) -> tuple[Tensor, Tensor, Tensor]:
    t = torch.linspace(0.3, 0.9, size).view(1, 1, size, 1).expand(1, 1, size, size)
    clean = photo(size)
    return clean, clean * t + AIR * (1 - t), t


@pytest.mark.parametrize("window", [1, 3, 15])
def test_dark_channel_is_the_minimum_of_window_and_channels(window: int) -> None:
    picture, half = photo(24), window // 2
    found = filters.dark_channel(picture, window)[0, 0]
    for y in range(24):
        for x in range(24):
            rows = slice(max(y - half, 0), y + half + 1)
            columns = slice(max(x - half, 0), x + half + 1)
            assert found[y, x] == picture[0, :, rows, columns].min()


@pytest.mark.parametrize(
    ("how", "share"),
    [("brightest", 0.01), ("mean", 0.02), ("channel_max", 0.005), ("brightest", 1e-9)],
)
def test_airlight_looks_where_the_dark_channel_is_largest(how: str, share: float) -> None:
    picture = torch.cat([hazy()[1], photo()])
    found = filters.airlight(picture, how, share=share)  # type: ignore[arg-type]
    assert found.shape == (2, 3, 1, 1)
    for one, A in zip(picture, found.flatten(1), strict=True):
        dark = filters.dark_channel(one[None]).flatten().numpy()
        chosen = np.argsort(-dark, kind="stable")[: max(int(share * dark.size), 1)]
        pixels = one.flatten(1).T.numpy()[chosen]
        by_hand = {
            "brightest": pixels[pixels.sum(1).argmax()],
            "mean": pixels.mean(0),
            "channel_max": pixels.max(0),
        }
        np.testing.assert_allclose(A.numpy(), by_hand[how], atol=1e-5)


def test_inversion_undoes_the_haze() -> None:
    clean, foggy, t = hazy()
    torch.testing.assert_close(filters.invert_haze(foggy, t, AIR), clean, atol=1e-5, rtol=0)
    dense = clean * 0.05 + AIR * 0.95
    expected = (dense - AIR) / 0.2 + AIR
    found = filters.invert_haze(dense, torch.full_like(t, 0.05), AIR.expand_as(clean), floor=0.2)
    torch.testing.assert_close(found, expected)
    assert not torch.allclose(found, clean, atol=0.1)


@pytest.mark.parametrize(("weight", "eps"), [(1e-4, 1e-4), (1e-2, 1e-6)])
def test_matting_solves_its_equations(weight: float, eps: float) -> None:
    guide, raw = photo(), 1 - 0.95 * filters.dark_channel(photo())
    t = filters.soft_matting(guide, raw.double(), weight=weight, eps=eps)
    left = MattingLaplacian(guide, eps=eps).product(t) + weight * t
    residual = (left - weight * raw).norm() / (weight * raw).norm()
    assert float(residual) < 2e-6
    assert float((t - raw).abs().max()) > 0.05  # it did something: t~ is blocky


def test_matting_brings_the_transmission_nearer() -> None:
    _, foggy, t = hazy()
    raw = 1 - 0.95 * filters.dark_channel(foggy / AIR)
    refined = filters.soft_matting(foggy.expand(2, -1, -1, -1), raw.expand(2, -1, -1, -1))
    assert torch.equal(refined[0], refined[1])
    assert float((refined[:1] - t).square().mean()) < 0.8 * float((raw - t).square().mean())


def test_the_steps_are_those_of_the_paper() -> None:
    _, foggy, _ = hazy()
    found = filters.dark_channel_dehaze(foggy, airlight=AIR, refine="none", omega=0.8, floor=0.3)
    t = 1 - 0.8 * filters.dark_channel(foggy / AIR, 15)
    torch.testing.assert_close(found["transmission"], t)
    torch.testing.assert_close(found["output"], (foggy - AIR) / t.clamp_min(0.3) + AIR)
    guided = filters.dark_channel_dehaze(foggy, window=7)
    A = filters.airlight(foggy, window=7)
    raw = 1 - 0.95 * filters.dark_channel(foggy / A, 7)
    smooth = filters.guided_filter(images.luma(foggy), raw, 60, 1e-4)
    torch.testing.assert_close(guided["airlight"], A)
    torch.testing.assert_close(guided["transmission"], smooth)


def test_every_refinement_beats_the_haze() -> None:
    clean, foggy, _ = hazy()
    psnr = metrics.METRICS["psnr"]
    before = float(psnr(foggy, clean))
    for refine in ("none", "guided", "matting"):
        found = filters.dark_channel_dehaze(foggy, airlight=AIR, refine=refine)["output"]
        assert float(psnr(found.clamp(0, 1), clean)) > before + 3, refine


def test_the_published_protocol(assets: Path) -> None:
    folder, values, similarity = assets / "data" / "sots_indoor", [], []
    for name, expected in SOTS.items():
        foggy, clear = (images.read(folder / kind / f"{name}.png")[None] for kind in ("hazy", "GT"))
        output = filters.dark_channel_dehaze(foggy)["output"].clamp(0, 1)
        value = float(metrics.METRICS["psnr_8bit"](output, clear))
        assert value == pytest.approx(expected, abs=0.006), name
        values.append(value)
        similarity.append(float(metrics.METRICS["ssim_8bit"](output, clear)))
    assert np.mean(values) == pytest.approx(SOTS_MEAN, abs=0.006)
    assert np.mean(similarity) == pytest.approx(SOTS_SSIM, abs=1e-4)


def test_wrong_input_is_refused() -> None:
    clean, foggy, t = hazy(16)
    with pytest.raises(ValueError, match="how is 'first'"):
        filters.airlight(foggy, "first")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"transmission has shape \(1, 3, 16, 16\)"):
        filters.invert_haze(foggy, clean, AIR)
    with pytest.raises(ValueError, match=r"airlight has shape \(1, 1, 1, 1\)"):
        filters.invert_haze(foggy, t, AIR[:, :1])
    with pytest.raises(ValueError, match=r"airlight is torch.float32 of shape \(3,\)"):
        filters.dark_channel_dehaze(foggy, airlight=AIR.flatten())
    with pytest.raises(ValueError, match=r"airlight is \[0.0, "):
        filters.dark_channel_dehaze(foggy, airlight=AIR * torch.tensor([0, 1, 1]).view(3, 1, 1))
    with pytest.raises(ValueError, match=r"omega is 1\.5"):
        filters.dark_channel_dehaze(foggy, omega=1.5)
    with pytest.raises(ValueError, match="expected one B, H and W"):
        filters.soft_matting(foggy, t[..., :8])
    with pytest.raises(ValueError, match=r"image is torch\.uint8"):
        filters.dark_channel_dehaze((255 * foggy).byte())
