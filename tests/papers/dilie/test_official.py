"""Official networks by the names that their authors gave them, and PCA-KD's own pictures."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from enhancelib import claims, filters, images, weights
from enhancelib.papers.dilie import official, verdict
from enhancelib.papers.dilie.study import Study
from enhancelib.papers.parameters import ParameterError
from tests.papers.dilie import small


def touch(*files: Path) -> None:
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"weights")


def test_the_folders_of_the_assets(assets: Path) -> None:
    found = official.files(str(assets / "weights"))
    assert {name: file.name for name, file in found.items()} == {
        "aodnet": "AOD_Net.caffemodel",
        "mscnn": "mscnn_official.npz",  # Matlab's files are read by nobody here
        "pcakd": "pcakd_vgg_OIHW.npz",  # not the smaller network for phones
    }
    for name, file in found.items():
        network = weights.load(name, file)
        assert not network.training, name


def test_names_of_the_authors(tmp_path: Path) -> None:
    """PCA-KD, WCT2 and PieAPP as their repositories hand them out, in folders of any depth."""
    names = {
        "wct2.encoder": "wct2/model_checkpoints/wave_encoder_cat5_l4.pth",
        "wct2.decoder": "wct2/model_checkpoints/wave_decoder_cat5_l4.pth",
        "pieapp": "PieAPPv0.1.pth",
        "pcakd": "pcakd_vgg_OIHW.npz",
        "aodnet": "aodnet_official.npz",
    }
    touch(*(tmp_path / name for name in names.values()), tmp_path / "notes.txt")
    assert official.files(str(tmp_path)) == {k: tmp_path / name for k, name in names.items()}
    one = tmp_path / names["pieapp"]
    assert official.files(str(one)) == {"pieapp": one}


def test_the_first_of_two_files_counts(tmp_path: Path) -> None:
    touch(tmp_path / "b" / "aodnet.npz", tmp_path / "a" / "AOD_Net.caffemodel")
    assert official.files(str(tmp_path)) == {"aodnet": tmp_path / "a" / "AOD_Net.caffemodel"}


def test_a_folder_without_networks_is_told(tmp_path: Path) -> None:
    touch(tmp_path / "dncnn.pth", tmp_path / "MSCNNDehazing_CL.mat")
    with pytest.raises(ParameterError, match=r"holds none of pcakd, wct2\.encoder.*, pieapp$"):
        official.files(str(tmp_path))
    with pytest.raises(ParameterError, match="does not exist; give a file, a folder, or nothing"):
        official.files(str(tmp_path / "nowhere"))
    assert official.files("") == {}


def test_digests_tell_weights_apart(tmp_path: Path) -> None:
    touch(tmp_path / "w" / "PieAPPv0.1.pth")
    p = small.parameters(tmp_path, weights=str(tmp_path / "w"))
    sha256 = hashlib.sha256(b"weights").hexdigest()
    assert official.inputs(p) == {
        "weights": {"pieapp": {"file": "PieAPPv0.1.pth", "sha256": sha256}}
    }
    assert official.inputs(small.parameters(tmp_path)) == {}


# Parity


def test_pcakd_gives_back_its_authors_picture(assets: Path) -> None:
    """dilie.md, H: 39.03 dB; JPEG and an 8-bit filter lie between."""
    file, folder = official.files(str(assets / "weights"))["pcakd"], assets / "data" / "pcakd"
    content, style = (images.read(folder / f"{one}_1.jpeg") for one in ("content", "style"))
    theirs = images.read(folder / "official_result_vgg_1.jpg")
    found = official._compared(content, style, file, theirs)
    assert found == pytest.approx(39.04, abs=0.02)


@pytest.fixture
def demo(assets: Path, tmp_path: Path) -> Path:
    """A folder like the authors', of pieces of their photos, with results made step by step."""
    network = weights.load("pcakd", official.files(str(assets / "weights"))["pcakd"])
    for k in (0, 1):
        pair = []
        for name in ("content", "style"):
            photo = images.read(assets / "data" / "pcakd" / f"{name}_{k}.jpeg")
            piece = photo[:, 300:420, 400 : 557 + k]
            target = tmp_path / "root" / "pcakd" / f"{name}_{k}.jpeg"
            target.parent.mkdir(parents=True, exist_ok=True)
            images.write(target, piece)
            pair.append(
                F.interpolate(images.read(target)[None], (120, 152), mode="bilinear")
            )  # sides that are multiples of 8
        content, style = pair
        with torch.no_grad():
            restyled = network.stylise(content, style).clamp(0, 1)  # type: ignore[operator]
        levels = (255 * restyled).floor() / 255
        result = filters.guided_filter(content, levels, 30, 0.02**2)[0].clamp(0, 1)
        images.write(tmp_path / "root" / "pcakd" / f"official_result_vgg_{k}.jpg", result)
    return tmp_path / "root"


def parity(folder: Path, demo: Path, assets: Path) -> Study:
    s = small.opened(folder, data_root=str(demo), weights=str(assets / "weights" / "dilie"))
    official.parity(s.run, s.p)
    return s


def judged(s: Study) -> bool | None:
    (claim,) = (one for one in verdict.CLAIMS if one.name == "pcakd_parity")
    return claims.judge(claim.statistic(s.run.values()), margin=claim.margin).holds


def test_both_pictures_are_compared_and_judged(assets: Path, demo: Path, tmp_path: Path) -> None:
    s = parity(tmp_path / "run", demo, assets)
    rows = s.run.values(table="parity", method="PCA-KD", metric="psnr").set_index("image")
    assert list(rows.index) == ["0", "1"]
    assert rows["value"].min() > 40, "a JPEG of quality 95 lies between"
    assert judged(s) is True


def test_one_picture_that_differs_is_no_parity(assets: Path, demo: Path, tmp_path: Path) -> None:
    file = demo / "pcakd" / "official_result_vgg_1.jpg"
    images.write(file, 0.9 * images.read(file))
    assert judged(parity(tmp_path / "run", demo, assets)) is False


def test_a_run_that_was_cut_short_does_not_compare_again(
    assets: Path, demo: Path, tmp_path: Path
) -> None:
    first = parity(tmp_path / "run", demo, assets)
    for file in demo.rglob("official_result*"):
        images.write(file, 0.5 * images.read(file))
    second = small.lent(first, tmp_path / "again")
    shutil.copytree(first.run.folder / "once", second.run.folder / "once")
    official.parity(second.run, second.p)
    values = [list(s.run.values(table="parity")["value"]) for s in (first, second)]
    assert values[0] == values[1]


@pytest.mark.parametrize("lack", ["weights", "data_root", "folder"])
def test_parity_needs_weights_and_pictures(
    assets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], lack: str
) -> None:
    given = {"data_root": str(assets / "data"), "weights": str(assets / "weights" / "dilie")}
    if lack == "folder":
        given["data_root"] = str(assets / "data" / "ohaze")
    else:
        del given[lack]
    s = small.opened(tmp_path, **given)
    official.parity(s.run, s.p)
    assert "PCA-KD's parity needs its weights" in capsys.readouterr().out
    assert s.run.values(table="parity").empty
