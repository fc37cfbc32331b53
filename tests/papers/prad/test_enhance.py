"""A photo of the user's through `enhancelib enhance prad`, in every shape that photos come in."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image
from torch import Tensor

from enhancelib import cli, images, models, weights
from enhancelib.papers.prad import enhance as module
from enhancelib.papers.prad.enhance import DEFAULT, enhance
from enhancelib.weights import WeightsError
from tests import bundles
from tests.conftest import absent

CAT = images.from_array(skimage.data.chelsea())
GREY = images.from_array(skimage.data.camera())


def network(path: Path, **options: Any) -> Path:
    """A small generator on disk, as this project saves one."""
    options = {"widths": [4, 8, 8], **options}
    model = models.build("prad", **options, generator=torch.Generator().manual_seed(0))
    weights.save(model, path, name="prad", options=dict(model.options), card={})
    return path


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return network(tmp_path_factory.mktemp("own") / "prad.safetensors")


def whole(file: Path, image: Tensor) -> Tensor:
    """The network on the whole picture at once."""
    model = weights.load("prad", file)
    with torch.inference_mode():
        return model(image.expand(3, -1, -1)[None])[0].clamp(0, 1)


# Shapes


@pytest.mark.parametrize("size", [(8, 8), (1, 1), (33, 50), (5, 301), (97, 3)])
def test_any_size_comes_back(own: Path, size: tuple[int, int]) -> None:
    image = CAT[:, : size[0], : size[1]]
    found = enhance(image, own)
    assert found.shape == (3, *size)
    assert found.device.type == "cpu"
    assert 0 <= float(found.min()) <= float(found.max()) <= 1
    torch.testing.assert_close(found, whole(own, image))


def test_a_grey_photo_goes_in_three_times(own: Path) -> None:
    image = GREY[:, :40, :56]
    found = enhance(image, own)
    assert found.shape == (3, 40, 56)
    torch.testing.assert_close(found, enhance(image.repeat(3, 1, 1), own))
    assert not found.requires_grad


@pytest.mark.parametrize("shape", [(40, 40), (1, 3, 8, 8), (2, 8, 8), (4, 8, 8), (3, 0, 8)])
def test_other_shapes_are_refused(own: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(images.ImageError, match=re.escape(f"picture has shape {shape}; expected")):
        enhance(torch.zeros(shape), own)


@pytest.mark.parametrize("size", [(150, 90), (64, 203), (129, 131)])
def test_tiles_equal_the_whole(
    own: Path, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
) -> None:
    image = CAT[:, : size[0], : size[1]]
    expected = whole(own, image)
    monkeypatch.setattr(module, "TILE", 64)
    torch.testing.assert_close(enhance(image, own), expected, rtol=1e-5, atol=2e-6)


def test_norms_over_the_picture_are_not_tiled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TILE", 32)
    for name, options in (
        ("instance", {"norm": "instance"}),
        ("attention", {"refinement": "channel_attention"}),
    ):
        file = network(tmp_path / f"{name}.safetensors", **options)
        image = CAT[:, :70, :90]
        torch.testing.assert_close(enhance(image, file), whole(file, image))


def test_other_generators_of_the_tables_are_tiled_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TILE", 48)
    image = CAT[:, :100, :121]
    for name, options in (
        ("plain", {"cfa": False, "refinement": "none"}),
        ("batch", {"norm": "batch"}),
        ("weight", {"norm": "weight"}),
        ("pool", {"down": "maxpool", "aggregated": "shallow"}),
    ):
        file = network(tmp_path / f"{name}.safetensors", **options)
        torch.testing.assert_close(
            enhance(image, file), whole(file, image), rtol=1e-5, atol=2e-6, msg=name
        )


# Files


@pytest.mark.parametrize(
    ("folder", "name", "model"),
    [
        ("dped", "iphone_orig.npz", "dped"),
        ("dped", "iphone_orig.index", "dped"),
        ("dped", "dped_srcnn.npz", "srcnn"),
        ("ppcn", "ppcn_student.npz", "ppcn"),
    ],
)
def test_official_networks(assets: Path, folder: str, name: str, model: str) -> None:
    file = assets / "weights" / folder / name
    image = CAT[:, 20:69, 10:83]
    found = enhance(image, file)
    assert found.shape == image.shape
    with torch.inference_mode():
        wanted = weights.load(model, file)(image[None])[0].clamp(0, 1)
    torch.testing.assert_close(found, wanted)
    assert float((found - image).abs().mean()) > 0.02


def test_an_official_teacher_that_we_do_not_have(tmp_path: Path) -> None:
    bundles.write(tmp_path / "teacher.ckpt", bundles.ppcn("teacher", ""))
    assert enhance(CAT[:, :20, :24], tmp_path / "teacher.ckpt.index").shape == (3, 20, 24)


def test_a_large_photo_through_the_official_student(assets: Path) -> None:
    """Larger than a tile, and of an instance norm: all of it at once."""
    file = assets / "weights" / "ppcn" / "ppcn_student.npz"
    image = images.from_array(skimage.data.astronaut()).repeat(1, 1, 2)[:, :200, :700]
    found = enhance(image, file)
    with torch.inference_mode():
        wanted = weights.load("ppcn", file)(image[None])[0].clamp(0, 1)
    torch.testing.assert_close(found, wanted)


def test_files_that_hold_no_network_are_a_sentence(assets: Path, tmp_path: Path) -> None:
    image = CAT[:, :8, :8]
    (tmp_path / "text.safetensors").write_text("no tensors")
    (tmp_path / "notes.txt").write_text("no network")
    shutil.copy(assets / "weights" / "ppcn" / "ppcn_student.npz", tmp_path / "mine.npz")
    (tmp_path / "ppcn_student.npz").write_bytes(b"PK torn")
    tiny: dict[str, Any] = {"D": 3, "width": 4, "norm": "none"}
    dncnn = models.build("dncnn", **tiny)
    weights.save(dncnn, tmp_path / "dncnn.safetensors", name="dncnn", options=tiny, card={})
    for name, said in (
        ("none.safetensors", "no such file"),
        ("none.npz", "no such file"),
        ("text.safetensors", "text.safetensors"),
        ("dncnn.safetensors", "dncnn"),
        ("notes.txt", "holds no file named like a released network"),
        ("mine.npz", "holds no file named like a released network"),
        ("ppcn_student.npz", "ppcn_student.npz"),
    ):
        with pytest.raises(WeightsError, match=re.escape(said)):
            enhance(image, tmp_path / name)


def test_a_folder_of_several_networks_is_a_sentence(assets: Path) -> None:
    with pytest.raises(WeightsError, match=r"holds several networks|name one file"):
        enhance(CAT[:, :8, :8], assets / "weights" / "dped")


def test_without_a_trained_network_the_way_to_one_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module.runtime, "data", lambda name="": tmp_path / name)
    with pytest.raises(WeightsError, match=rf"{DEFAULT} is not there; name another network with"):
        enhance(CAT[:, :8, :8])
    (tmp_path / "weights").mkdir()
    network(tmp_path / "weights" / DEFAULT)
    assert enhance(CAT[:, :8, :8]).shape == (3, 8, 8)


def test_the_shipped_network_and_its_card() -> None:
    """S with CFA and R, trained; it changes a photo without ruining it."""
    path = module.runtime.data("weights") / DEFAULT
    if not path.is_file():
        absent(f"{path} has not been trained yet")
    image = CAT[:, :96, :128]
    found = enhance(image)
    assert 0.01 < float((found - image).abs().mean()) < 0.3
    assert sum(p.numel() for p in weights.load("prad", path).parameters()) == 206_323


# The command


def test_the_command_writes_a_picture(
    own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, array in (("cat", skimage.data.chelsea()), ("grey", skimage.data.camera())):
        Image.fromarray(array[:61, :90]).save(tmp_path / f"{name}.png")
        output = tmp_path / f"{name}-out.png"
        words = ["enhance", "prad", str(tmp_path / f"{name}.png"), "-o", str(output)]
        assert cli.main([*words, "--weights", str(own)]) == 0
        assert capsys.readouterr().out == f"{output}: 90 x 61 pixels\n"
        with Image.open(output) as picture:
            assert picture.mode == "RGB"
            seen = np.asarray(picture)
        expected = enhance(images.read(tmp_path / f"{name}.png"), own)
        levels = (expected.movedim(0, -1).numpy() * 255).round()
        assert np.abs(seen - levels).max() <= 1


def test_the_command_refuses_in_one_line(
    assets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(skimage.data.chelsea()[:20, :20]).save(tmp_path / "cat.png")
    for file in ("/nowhere/model.npz", str(assets / "weights" / "dped"), str(tmp_path / "cat.png")):
        words = ["enhance", "prad", str(tmp_path / "cat.png"), "-o", str(tmp_path / "out.png")]
        assert cli.main([*words, "--weights", file]) == 2
        said = capsys.readouterr().err
        assert said.startswith("enhancelib: ")
        assert said.count("\n") == 1
        assert not (tmp_path / "out.png").exists()
