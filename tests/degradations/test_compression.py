"""JPEG by the real codec: published values, chroma, qualities."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image
from torch import Tensor

from enhancelib.degradations import Jpeg
from enhancelib.images import from_array, luma, read, rgb_to_ycbcr

CHELSEA = skimage.data.cat()[:96, :130]
COLOUR = from_array(CHELSEA)[None]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def psnr(x: Tensor, y: Tensor) -> float:
    return -10 * math.log10(float((x.double() - y.double()).pow(2).mean()))


def degraded(jpeg: Jpeg, clean: Tensor) -> Tensor:
    return jpeg({"clean": clean}, generator())["degraded"]


# The column "JPEG" of the Classic5 table in AR-CNN (Dong et al., ICCV 2015), made by MATLAB.
@pytest.mark.parametrize(
    ("quality", "published"), [(10, 27.82), (20, 30.12), (30, 31.48), (40, 32.43)]
)
def test_classic5_is_the_published_one(assets: Path, quality: int, published: float) -> None:
    values = []
    for file in sorted((assets / "data" / "classic5").glob("*.bmp")):
        clean = read(file, grey=True)[None]
        values.append(psnr(degraded(Jpeg(quality), clean), clean))
    assert len(values) == 5
    assert np.mean(values) == pytest.approx(published, abs=0.006)


@pytest.mark.parametrize("quality", [5, 40, 95])
def test_colour_is_what_a_file_would_hold(quality: int) -> None:
    file = io.BytesIO()
    Image.fromarray(CHELSEA).save(file, "JPEG", quality=quality)  # 4:2:0 is libjpeg's own default
    again = from_array(np.array(Image.open(file)))[None]
    assert torch.equal(degraded(Jpeg(quality), COLOUR), again)


def test_better_quality_is_closer() -> None:
    values = [psnr(degraded(Jpeg(q), COLOUR), COLOUR) for q in (5, 10, 20, 40, 80, 100)]
    assert values == sorted(values)
    assert values[-1] - values[0] > 10


def test_subsampling_blurs_chroma_and_spares_brightness() -> None:
    full = degraded(Jpeg(90, subsampling="4:4:4"), COLOUR)
    half = degraded(Jpeg(90, subsampling="4:2:0"), COLOUR)
    chroma = [psnr(rgb_to_ycbcr(x)[:, 1:], rgb_to_ycbcr(COLOUR)[:, 1:]) for x in (full, half)]
    brightness = [psnr(luma(x), luma(COLOUR)) for x in (full, half)]
    assert chroma[0] > chroma[1] + 1
    assert abs(brightness[0] - brightness[1]) < 1


def test_every_item_has_its_own_quality_and_tells_it() -> None:
    clean = luma(COLOUR)[..., :40, :40].expand(400, 1, 40, 40)
    sample = Jpeg((5, 8))({"clean": clean}, generator())
    quality = sample["quality"].flatten()
    assert sample["quality"].shape == (400, 1, 1, 1)
    counts = [int((quality == q).sum()) for q in (5, 6, 7, 8)]
    assert sum(counts) == 400
    assert min(counts) > 100 - 4 * math.sqrt(75)  # four standard deviations of a fair draw
    for row in range(5):
        alone = degraded(Jpeg(int(quality[row])), clean[row : row + 1])
        assert torch.equal(sample["degraded"][row], alone[0])


def test_the_codec_takes_eight_bits() -> None:
    out = degraded(Jpeg(100), torch.tensor([-0.5, 1.5]).view(2, 1, 1, 1).expand(2, 1, 8, 8))
    assert out[0].unique().tolist() == [0.0]
    assert out[1].unique().tolist() == [1.0]


def test_one_pixel_and_type() -> None:
    out = degraded(Jpeg(10), torch.full((1, 3, 1, 1), 0.5, dtype=torch.float64))
    assert out.shape == (1, 3, 1, 1)
    assert out.dtype == torch.float64


def test_the_generator_alone_decides() -> None:
    clean = COLOUR.expand(4, -1, -1, -1)
    a = Jpeg((5, 99))({"clean": clean}, generator())
    b = Jpeg((5, 99))({"clean": clean}, generator())
    c = Jpeg((5, 99))({"clean": clean}, generator(1))
    assert torch.equal(a["degraded"], b["degraded"])
    assert not torch.equal(a["quality"], c["quality"])


@pytest.mark.parametrize("quality", [0, 101, -5, 10.0, (5, 101), (50, 5), (1.0, 9), "10", True])
def test_refuses_a_quality(quality: Any) -> None:
    with pytest.raises(ValueError, match=r"^quality is .*; expected"):
        Jpeg(quality)


def test_refuses_a_subsampling_and_channels() -> None:
    with pytest.raises(ValueError, match="subsampling is '4:1:1'; expected one of 4:4:4, 4:2:2"):
        Jpeg(10, subsampling="4:1:1")
    with pytest.raises(ValueError, match="the picture has 4 channels; JPEG takes 1 or 3"):
        degraded(Jpeg(10), torch.zeros(1, 4, 8, 8))
