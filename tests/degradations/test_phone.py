"""The stand-in phone: what it draws, what each part does, and how close it is to a real one."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import skimage.data
import torch
from torch import Tensor

from enhancelib import images
from enhancelib.degradations import Jpeg, OneOf, Phone
from enhancelib.images import from_array, luma, to_uint8

COFFEE = from_array(skimage.data.coffee())[None, :, 40:168, 200:360]
PERFECT = Phone(
    shift=0.0,
    blur=0.0,
    exposure=0.0,
    balance=1.0,
    gamma=1.0,
    saturation=1.0,
    noise=0.0,
    quality=100,
)
FACTORS = ("shift", "blur", "gain", "gamma", "saturation", "noise_level", "quality")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def taken(phone: Phone, clean: Tensor = COFFEE, seed: int = 0) -> dict[str, Tensor]:
    return phone({"clean": clean}, generator(seed))


def psnr(x: Tensor, y: Tensor) -> float:
    return -10 * math.log10(float((x.double() - y.double()).square().mean()))


def test_a_perfect_phone_leaves_the_codec_alone() -> None:
    alone = Jpeg(100)({"clean": COFFEE}, generator())["degraded"]
    assert torch.equal(taken(PERFECT)["degraded"], alone)


@pytest.mark.parametrize("shift", [2.0, 3.7])
def test_the_picture_moves_by_the_stated_shift(shift: float) -> None:
    """Undone by the phase of the Fourier transform, an interpolation that shares nothing."""
    phone = replace(PERFECT, shift=shift, blur=1.0)  # blurred: no frequencies near the limit
    sample = taken(phone, COFFEE.expand(6, -1, -1, -1))
    still = taken(replace(phone, shift=0.0))["degraded"]
    assert float(sample["shift"].abs().max()) <= shift
    rows, columns = (torch.fft.fftfreq(n)[:, None] for n in COFFEE.shape[-2:])
    inner = (..., slice(16, -16), slice(16, -16))
    gains = []
    for item, (down, right) in zip(
        sample["degraded"], sample["shift"].flatten(1).tolist(), strict=True
    ):
        phase = torch.exp(2j * math.pi * (rows * down + columns.T * right))
        back = torch.fft.ifft2(torch.fft.fft2(item) * phase).real[None]
        assert psnr(back[inner], still[inner]) > 42
        gains.append(psnr(back[inner], still[inner]) - psnr(item[None][inner], still[inner]))
    assert sum(gains) / len(gains) > 8


def test_the_border_is_never_black() -> None:
    white = torch.ones(8, 3, 40, 40)
    degraded = taken(replace(PERFECT, shift=4.0, blur=1.2), white)["degraded"]
    assert float(degraded.min()) == 1.0


def test_nothing_outside_the_reach_is_seen() -> None:
    phone = Phone(noise=0.0, quality=100)
    m = phone.reach
    base = COFFEE.expand(4, -1, -1, -1)
    other = base.clone()
    other[..., :m, :] = other[..., -m:, :] = 1.0
    other[..., :m] = other[..., -m:] = 0.0
    before = phone({"clean": base}, generator())
    after = phone({"clean": other}, generator())
    inner = (..., slice(2 * m, -2 * m), slice(2 * m, -2 * m))
    # JPEG blocks reach further than light does: 16 pixels with chroma at half resolution.
    assert m == 2 + 2 + 5
    gap = (before["degraded"][inner] - after["degraded"][inner]).abs()
    assert float(gap[..., 16:-16, 16:-16].max()) == 0.0


@pytest.mark.parametrize(
    ("field", "value"), [("exposure", -1.0), ("gamma", 1.6), ("balance", (0.7, 0.9))]
)
def test_light_and_tone_darken_by_the_formula(field: str, value: Any) -> None:
    sample = taken(replace(PERFECT, **{field: value}))
    expected = (COFFEE * sample["gain"]).clamp(0, 1) ** sample["gamma"]
    assert psnr(sample["degraded"], expected) > 38  # JPEG at quality 100, chroma halved
    assert float(luma(sample["degraded"]).mean()) < float(luma(COFFEE).mean()) - 0.02
    assert sample["gain"].shape == (1, 3, 1, 1)


def test_desaturation_keeps_the_luma() -> None:
    grey = taken(replace(PERFECT, saturation=0.0))["degraded"]
    assert float((grey.amax(1) - grey.amin(1)).max()) <= 2 / 255
    assert float((luma(grey) - luma(COFFEE)).abs().mean()) < 1.5 / 255


def test_noise_has_the_stated_deviation_at_mid_grey_and_grows_with_light() -> None:
    phone = replace(PERFECT, noise=8.0)
    seen = {
        (shot, light): float(taken(replace(phone, shot=shot), gray(light))["degraded"].std()) * 255
        for shot in (0.0, 1.0)
        for light in (0.25, 0.5, 0.75)
    }
    # 100 is the best quality, but its chroma has half the resolution: noise is grey there
    grey = replace(phone, shot=0.0)
    plane = torch.full((1, 1, 256, 256), 0.5)
    assert float(taken(grey, plane)["degraded"].std()) * 255 == pytest.approx(8.0, rel=0.03)
    assert float(taken(grey, plane)["noise_level"]) == pytest.approx(8 / 255)
    assert seen[0.0, 0.25] == pytest.approx(seen[0.0, 0.75], rel=0.03)
    assert seen[1.0, 0.5] == pytest.approx(seen[0.0, 0.5], rel=0.03)
    assert seen[1.0, 0.75] / seen[1.0, 0.25] == pytest.approx(math.sqrt(3), rel=0.04)


def gray(light: float) -> Tensor:
    return torch.full((1, 3, 256, 256), light)


def test_every_item_draws_its_own_and_tells_it() -> None:
    phone = Phone()
    sample = taken(phone, COFFEE[..., :32, :32].expand(200, -1, -1, -1))
    for name in FACTORS:
        assert len(sample[name].flatten(1).unique(dim=0)) > (15 if name == "quality" else 150)
    spans = {"blur": phone.blur, "gamma": phone.gamma, "saturation": phone.saturation}
    for name, span in spans.items():
        assert isinstance(span, tuple)
        values = sample[name]
        assert span[0] <= float(values.min()) < float(values.max()) <= span[1]
        assert float(values.mean()) == pytest.approx(sum(span) / 2, abs=(span[1] - span[0]) / 10)
    stops = sample["gain"].log2().mean(1)
    assert float(stops.min()) > -0.3 + math.log2(0.93)
    assert float(stops.max()) < 0.2 + math.log2(1.07)


def test_the_result_is_what_a_file_holds() -> None:
    sample = taken(Phone())
    degraded = sample["degraded"]
    assert torch.equal(images.from_uint8(to_uint8(degraded)), degraded)
    assert 0 <= float(degraded.min()) < float(degraded.max()) <= 1
    assert torch.equal(sample["clean"], COFFEE)


def test_the_generator_alone_decides() -> None:
    before = torch.get_rng_state()
    a = taken(Phone())["degraded"]
    torch.rand(5)
    torch.set_rng_state(before)
    assert torch.equal(a, taken(Phone())["degraded"])
    assert not torch.equal(a, taken(Phone(), seed=1)["degraded"])


def test_it_chains_and_mixes() -> None:
    grey = images.luma(COFFEE)
    assert taken(Phone(), grey)["gain"].shape == (1, 1, 1, 1)
    mixed = OneOf((Phone(), Jpeg(10)))({"clean": COFFEE.expand(6, -1, -1, -1)}, generator())
    spared = mixed["kind"].flatten() == 1
    assert 0 < int(spared.sum()) < 6
    assert float(mixed["shift"][spared].abs().max()) == 0.0
    assert mixed["gain"][spared].unique().tolist() == [1.0]
    assert set(Phone().neutral) == set(FACTORS)


def test_pairs_of_bundled_photos_look_like_real_pairs_in_numbers() -> None:
    """PIRM 2018: 17.3 dB between iPhone and Canon, 0.74 of the luma, 0.61 of the gradient."""
    from enhancelib import photos

    crops = []
    for name in photos.names("test", bundled=True):
        picture = photos.load(name)
        crops += [
            picture[:, top : top + 100, left : left + 100]
            for top in range(0, picture.shape[1] - 99, 100)
            for left in range(0, picture.shape[2] - 99, 100)
        ]
    clean = torch.stack(crops)
    degraded = taken(Phone(), clean)["degraded"]
    each = -10 * torch.log10((degraded - clean).square().mean((1, 2, 3)))
    assert 15.5 < float(each.mean()) < 19.0
    assert 0.68 < float(luma(degraded).mean() / luma(clean).mean()) < 0.85


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"shift": -1.0}, r"shift is -1.0; expected 0 or more"),
        ({"shot": 1.5}, r"shot is 1.5; expected a share from 0 to 1"),
        ({"gamma": 0.0}, r"gamma is 0.0; expected 0.001 or more"),
        ({"noise": (-1.0, 2.0)}, r"noise is \(-1.0, 2.0\); expected 0.0 or more"),
        ({"exposure": (1.0, 0.0)}, r"exposure is \(1.0, 0.0\); expected a finite number"),
        ({"quality": (0, 90)}, r"quality is \(0, 90\); expected whole numbers"),
    ],
)
def test_a_field_outside_its_unit_is_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Phone(**wrong)
