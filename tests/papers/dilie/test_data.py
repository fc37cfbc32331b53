"""Folders of hazy and clean photos: what is found, what is missing, and how that is told."""

from __future__ import annotations

from pathlib import Path

import pytest
import skimage.data
import torch

from enhancelib import images
from enhancelib.datasets import DataError
from enhancelib.papers.dilie import data

PHOTO = images.from_array(skimage.data.astronaut()[:60, :80])


def write(*files: Path, border: int = 0) -> None:
    photo = torch.nn.functional.pad(PHOTO[None], (border,) * 4, mode="replicate")[0]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        images.write(file, photo)


def test_the_official_layouts(tmp_path: Path) -> None:
    flat, apart = tmp_path / "O-HAZE", tmp_path / "ihaze"
    write(flat / "01_outdoor_hazy.jpg", flat / "01_outdoor_GT.JPG")
    write(apart / "hazy/02_indoor_hazy.jpg", apart / "GT/02_indoor_GT.jpg")
    write(apart / "hazy/10_indoor_hazy.png", apart / "GT/10_indoor_GT.png")
    sots = tmp_path / "sots_indoor"
    write(sots / "hazy/1400_1.png", sots / "hazy/1400_2.png")
    write(sots / "gt/1400.png", border=10)
    out = tmp_path / "SOTS_outdoor"
    write(out / "hazy/0001_0.8_0.2.jpg", out / "clear/0001.png", flat / "._01_outdoor_hazy.jpg")
    found = data.pairs(str(tmp_path))
    assert [(one.dataset, one.name, one.clean.name) for one in found] == [
        ("O-HAZE", "01_outdoor", "01_outdoor_GT.JPG"),
        ("I-HAZE", "02_indoor", "02_indoor_GT.jpg"),
        ("I-HAZE", "10_indoor", "10_indoor_GT.png"),
        ("SOTS indoor", "1400_1", "1400.png"),
        ("SOTS indoor", "1400_2", "1400.png"),
        ("SOTS outdoor", "0001_0.8_0.2", "0001.png"),
    ]
    data.check(str(tmp_path))
    hazy, clean = found[3].read()
    assert torch.equal(hazy, clean)  # the border is gone
    digests = data.inputs(str(tmp_path))
    assert list(digests["inputs"]) == ["O-HAZE", "I-HAZE", "SOTS indoor", "SOTS outdoor"]  # type: ignore[call-overload]
    assert digests["data_label"] == "real"


def test_nothing_given_needs_nothing() -> None:
    data.check("")
    assert data.inputs("") == {"inputs": {}, "data_label": ""}


def test_a_photo_without_partner_is_named(tmp_path: Path) -> None:
    write(tmp_path / "ohaze/01_outdoor_hazy.jpg", tmp_path / "ohaze/01_outdoor_GT.jpg")
    write(tmp_path / "ohaze/02_outdoor_hazy.jpg")
    with pytest.raises(
        DataError, match=r"O-HAZE: .*02_outdoor_hazy\.jpg has no clean partner"
    ) as e:
        data.pairs(str(tmp_path))
    assert "NTIRE 2018" in str(e.value)
    (tmp_path / "ohaze/02_outdoor_hazy.jpg").rename(tmp_path / "ohaze/02_outdoor_GT.jpg")
    with pytest.raises(DataError, match=r"O-HAZE: .*02_outdoor_GT\.jpg has no hazy partner"):
        data.check(str(tmp_path))


def test_an_empty_set_and_an_unknown_folder_are_told(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    with pytest.raises(DataError, match="holds no set that is known"):
        data.check(str(tmp_path))
    (tmp_path / "ihaze").mkdir()
    with pytest.raises(DataError, match=r"I-HAZE: .*ihaze holds no hazy photo"):
        data.check(str(tmp_path))


def test_pictures_of_deep_image_prior_are_enough(tmp_path: Path) -> None:
    write(tmp_path / "dip/F16_GT.png")
    data.check(str(tmp_path))
    assert list(data.inputs(str(tmp_path))["inputs"]) == ["Deep Image Prior"]  # type: ignore[call-overload]


DEMO = ("content_{}.jpeg", "style_{}.jpeg", "official_result_vgg_{}.jpg")


def test_pictures_of_pcakd_are_enough_and_all_six_are_wanted(tmp_path: Path) -> None:
    files = [tmp_path / "pcakd" / name.format(k) for k in (0, 1) for name in DEMO]
    write(*files)
    data.check(str(tmp_path))
    assert data.restyled(str(tmp_path)) == [tuple(files[:3]), tuple(files[3:])]
    assert set(data.inputs(str(tmp_path))["inputs"]) == {"PCA-KD"}  # type: ignore[call-overload]
    files[4].unlink()
    with pytest.raises(DataError, match=r"PCA-KD: .*style_1.jpeg is missing; expected content_K"):
        data.check(str(tmp_path))


@pytest.mark.parametrize("name", ["dip/kate.png", "pcakd/style_0.jpeg"])
def test_a_broken_single_picture_is_named(tmp_path: Path, name: str) -> None:
    write(tmp_path / "dip" / "vase.png")
    write(*(tmp_path / "pcakd" / one.format(k) for k in (0, 1) for one in DEMO))
    (tmp_path / name).write_bytes(b"no picture")
    with pytest.raises(DataError, match=name.partition("/")[2]):
        data.check(str(tmp_path))


def test_sizes_that_differ_are_told(tmp_path: Path) -> None:
    write(tmp_path / "ohaze/01_outdoor_hazy.png")
    write(tmp_path / "ohaze/01_outdoor_GT.png", border=3)
    with pytest.raises(DataError, match="have 80 x 60 and 86 x 66 pixels; expected one size"):
        data.check(str(tmp_path))


def test_only_the_border_of_sots_is_cut_off(tmp_path: Path) -> None:
    """10 pixels at every side, no more and no less, and the middle is what stays."""
    write(tmp_path / "sots_indoor/hazy/1400_1.png")
    clean = tmp_path / "sots_indoor/GT/1400.png"
    inner = images.read(tmp_path / "sots_indoor/hazy/1400_1.png")
    framed = torch.zeros(3, 80, 100)
    framed[:, 10:70, 10:90] = 0.5 * inner
    clean.parent.mkdir()
    images.write(clean, framed)
    (pair,) = data.pairs(str(tmp_path))
    torch.testing.assert_close(pair.read()[1], 0.5 * inner, atol=1 / 255, rtol=0)
    for border in (9, 11):
        write(clean, border=border)
        with pytest.raises(DataError, match=r"SOTS indoor: 1400_1\.png and 1400\.png have 80 x 60"):
            pair.read()


def test_a_broken_photo_is_named(tmp_path: Path) -> None:
    write(tmp_path / "ohaze/01_outdoor_hazy.png", tmp_path / "ohaze/01_outdoor_GT.png")
    file = tmp_path / "ohaze/01_outdoor_GT.png"
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(DataError, match=r"O-HAZE: .*01_outdoor_GT\.png") as error:
        data.check(str(tmp_path))
    assert "\n" not in str(error.value)


def test_the_real_sets_at_hand(assets: Path) -> None:
    found = data.pairs(str(assets / "data"))
    sets = [one.dataset for one in found]
    assert (sets.count("O-HAZE"), sets.count("SOTS indoor")) == (2, 12)
    hazy, clean = next(one for one in found if one.name == "35_outdoor").read()
    assert hazy.shape == clean.shape == (3, 947, 1286)
    assert float((hazy - clean).abs().mean()) > 0.05
    for pair in (one for one in found if one.dataset == "SOTS indoor"):
        hazy, clean = pair.read()
        assert hazy.shape == clean.shape == (3, 460, 620), pair.name
        # haze adds light and takes contrast; a shift of 10 pixels would leave no correlation
        both = torch.stack((hazy[:, 200:].flatten(), clean[:, 200:].flatten()))
        assert float(torch.corrcoef(both)[0, 1]) > 0.6, pair.name
