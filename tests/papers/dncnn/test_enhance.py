"""A photo of the user's through `enhancelib enhance dncnn`, in every shape that photos come in.

Handling is tested with a network that changes nothing, values with the authors' networks.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import termios
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image
from torch import Tensor

from enhancelib import cli, images, metrics, models, runtime, weights
from enhancelib.papers.dncnn.enhance import DEFAULT, TILE, enhance

CAT = skimage.data.chelsea()[40:140, 100:261]
GREY = skimage.data.camera()[:100, :161]
ENHANCELIB = Path(sys.executable).parent / "enhancelib"
Enhanced = Callable[..., Path]


def network(path: Path, *, nothing: bool = True, **options: Any) -> Path:
    """A small network on disk; by default its residual is 0, so that what goes in comes out."""
    model = models.build("dncnn", generator=torch.Generator().manual_seed(0), **options)
    if nothing:
        torch.nn.init.zeros_(model.layers[-1].weight)  # type: ignore[union-attr, index]
    weights.save(model, path, name="dncnn", options=options, card={})
    return path


SMALL = {"D": 3, "width": 4, "norm": "none"}


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return network(tmp_path_factory.mktemp("copy") / "colour.safetensors", c=3, **SMALL)


@pytest.fixture(scope="module")
def grey_copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return network(tmp_path_factory.mktemp("copy") / "grey.safetensors", c=1, **SMALL)


def command(source: Path, output: Path, *more: str | Path) -> list[str]:
    return ["enhance", "dncnn", str(source), "-o", str(output), *map(str, more)]


@pytest.fixture
def enhanced(tmp_path: Path, copy: Path, capsys: pytest.CaptureFixture[str]) -> Enhanced:
    """`enhanced(source)` is the output of a network that changes nothing."""

    def run(source: Path, suffix: str = ".png", file: Path = copy) -> Path:
        output = tmp_path / f"out{suffix}"
        assert cli.main(command(source, output, "--weights", file)) == 0
        said = capsys.readouterr()
        assert said.err == ""
        with Image.open(output) as picture:
            assert said.out == f"{output}: {picture.width} x {picture.height} pixels\n"
        return output

    return run


# Pictures in.


def test_a_colour_photo_comes_back_as_it_was(tmp_path: Path, enhanced: Enhanced) -> None:
    Image.fromarray(CAT).save(tmp_path / "in.png")
    assert np.array_equal(np.array(Image.open(enhanced(tmp_path / "in.png"))), CAT)


def test_a_grey_photo_comes_back_grey(tmp_path: Path, enhanced: Enhanced, grey_copy: Path) -> None:
    Image.fromarray(GREY).save(tmp_path / "grey.png")
    Image.fromarray(np.stack([GREY] * 3, -1)).save(tmp_path / "as-colour.png")
    for name in ("grey.png", "as-colour.png"):
        with Image.open(enhanced(tmp_path / name, file=grey_copy)) as picture:
            assert picture.mode == "L"
            assert np.array_equal(np.array(picture), GREY)
        # a colour network sees three noisy versions of it, whose mean it is; then clipped, so that
        # only pixels near black and white may differ
        with Image.open(enhanced(tmp_path / name)) as picture:
            assert picture.mode == "L"
            assert np.abs(np.array(picture).astype(int) - GREY).max() == 0


def test_a_grey_network_takes_the_channels_one_by_one(
    tmp_path: Path, enhanced: Enhanced, grey_copy: Path
) -> None:
    Image.fromarray(CAT).save(tmp_path / "in.png")
    made = enhanced(tmp_path / "in.png", file=grey_copy)
    assert np.array_equal(np.array(Image.open(made)), CAT)


def test_one_pixel(tmp_path: Path, enhanced: Enhanced) -> None:
    for pixel in (CAT[:1, :1], GREY[:1, :1]):
        Image.fromarray(pixel).save(tmp_path / "one.png")
        assert np.array_equal(np.array(Image.open(enhanced(tmp_path / "one.png"))), pixel)


def test_sixteen_bits_become_eight(tmp_path: Path, enhanced: Enhanced) -> None:
    Image.fromarray(GREY.astype(np.uint16) * 257).save(tmp_path / "deep.png")
    assert np.array_equal(np.array(Image.open(enhanced(tmp_path / "deep.png"))), GREY)


def test_a_photo_taken_sideways_comes_back_upright(tmp_path: Path, enhanced: Enhanced) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned a quarter
    Image.fromarray(CAT).save(tmp_path / "in.png", exif=exif)
    made = Image.open(enhanced(tmp_path / "in.png"))
    assert np.array_equal(np.array(made), np.rot90(CAT, -1))
    assert 0x0112 not in made.getexif()


def test_an_alpha_channel_without_transparency_is_dropped(
    tmp_path: Path, enhanced: Enhanced
) -> None:
    Image.fromarray(CAT).convert("RGBA").save(tmp_path / "in.png")
    assert np.array_equal(np.array(Image.open(enhanced(tmp_path / "in.png"))), CAT)


@pytest.mark.parametrize("suffix", [".jpg", ".JPEG", ".webp", ".tif"])
def test_other_kinds_of_file(tmp_path: Path, enhanced: Enhanced, suffix: str) -> None:
    Image.fromarray(CAT).save(tmp_path / "in.png")
    made = np.array(Image.open(enhanced(tmp_path / "in.png", suffix)))
    assert np.abs(made.astype(int) - CAT).mean() < 3


def odd(folder: Path) -> dict[str, tuple[Path, str]]:
    """Pictures that are refused: name -> (file, what is said of it)."""
    cat = Image.fromarray(CAT)
    cat.save(folder / "whole.png")
    whole = (folder / "whole.png").read_bytes()
    (folder / "half.png").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.png").touch()
    (folder / "text.png").write_text("not a picture")
    cat.convert("CMYK").save(folder / "print.jpg")
    clear = cat.convert("RGBA")
    clear.putpixel((3, 3), (0, 0, 0, 100))
    clear.save(folder / "clear.png")
    cat.save(folder / "moves.gif", save_all=True, append_images=[cat.transpose(0)])
    said = {
        "half.png": "damaged or truncated",
        "empty.png": "is empty (0 bytes); get the file again",
        "text.png": "not a picture that Pillow reads",
        "print.jpg": "colour mode is CMYK; its colours depend on a print profile",
        "clear.png": "has transparent pixels; flatten it onto a background first",
        "moves.gif": "holds 2 frames or pages; save one of them by itself",
        "none.png": "no such file; check the path",
        ".": "is a folder; name one picture file",
    }
    return {name: (folder / name, reason) for name, reason in said.items()}


@pytest.mark.parametrize(
    "name",
    ["half.png", "empty.png", "text.png", "print.jpg", "clear.png", "moves.gif", "none.png", "."],
)
def test_a_picture_that_is_refused_is_named(
    tmp_path: Path, copy: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    source, reason = odd(tmp_path)[name]
    before = set(tmp_path.iterdir())
    assert cli.main(command(source, tmp_path / "out.png", "--weights", copy)) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"enhancelib: {source}: {reason}")
    assert said.err.count("\n") == 1
    assert set(tmp_path.iterdir()) == before


# Where it goes.


def test_an_output_that_cannot_be_is_refused_before_the_photo_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder.png").mkdir()
    cases = {
        "out.psd": "has suffix '.psd'; expected one of .png, .jpg, .jpeg, .webp, .tif, .tiff",
        "out": "has suffix ''; expected one of .png",
        "folder.png": "folder.png is a folder; name the file to write",
        "none/out.png": "none cannot be written (No such file or directory); name another folder",
        "file/out.png": "file cannot be written (Not a directory)",
        "/proc/out.png": "/proc cannot be written (",
    }
    for name, reason in cases.items():
        # the photo is not there either, but that is not what is complained of
        assert cli.main(command(tmp_path / "none.png", tmp_path / name)) == 2
        assert reason in capsys.readouterr().err


def test_the_photo_itself_is_not_overwritten(
    tmp_path: Path, copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "in.png"
    Image.fromarray(CAT).save(source)
    (tmp_path / "link.png").symlink_to(source)
    before = source.read_bytes()
    for output in (source, tmp_path / "link.png", tmp_path / ".." / tmp_path.name / "in.png"):
        assert cli.main(command(source, output, "--weights", copy)) == 2
        assert "is the photo itself, which would be lost" in capsys.readouterr().err
    assert source.read_bytes() == before


def test_an_older_output_is_replaced(tmp_path: Path, enhanced: Enhanced) -> None:
    Image.fromarray(CAT).save(tmp_path / "in.png")
    (tmp_path / "out.png").write_text("older")
    assert np.array_equal(np.array(Image.open(enhanced(tmp_path / "in.png"))), CAT)


# By which network.


def test_weights_that_cannot_be_used_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], copy: Path
) -> None:
    source = tmp_path / "in.png"
    Image.fromarray(CAT).save(source)
    shutil.copy(source, tmp_path / "picture.npz")
    (tmp_path / "half.safetensors").write_bytes(copy.read_bytes()[:100])
    network(tmp_path / "map.safetensors", **SMALL, c=3, noise_map=True, residual=False)
    network(tmp_path / "two.safetensors", **SMALL, c=2)
    cases = {
        "none.pth": "no such file",
        "in.png": "its suffix is none of",
        "picture.npz": "truncated or no .npz file",
        "half.safetensors": "truncated or no .safetensors file",
        "map.safetensors": "this network wants to be told the noise level",
        "two.safetensors": "this network restores pictures of 2 channels; a photo has 1 or 3",
    }
    for name, reason in cases.items():
        words = command(source, tmp_path / "out.png", "--weights", tmp_path / name)
        assert cli.main(words) == 2
        said = capsys.readouterr().err
        assert said.startswith(f"enhancelib: {tmp_path / name}: {reason}"), said
        assert said.count("\n") == 1
    assert not (tmp_path / "out.png").exists()


def test_without_the_network_of_this_repository_another_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(CAT).save(tmp_path / "in.png")
    monkeypatch.setattr(runtime, "data", lambda name="": tmp_path / name)
    assert cli.main(command(tmp_path / "in.png", tmp_path / "out.png")) == 2
    said = capsys.readouterr().err
    assert f"{tmp_path / 'weights' / DEFAULT} is not there; name another network with --wei" in said


def test_the_default_is_the_network_of_this_repository(
    tmp_path: Path, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "weights").mkdir()
    shutil.copy(copy, tmp_path / "weights" / DEFAULT)
    monkeypatch.setattr(runtime, "data", lambda name="": tmp_path / name)
    cat = images.from_array(CAT)
    assert torch.allclose(enhance(cat), cat)


# What comes out.


def noisy(clean: Tensor, sigma: float) -> Tensor:
    """As a file holds it: clipped and rounded."""
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    return images.from_uint8(images.to_uint8(clean + noise * (sigma / 255)))


def psnr(x: Tensor, y: Tensor) -> float:
    metric = metrics.METRICS["psnr"]
    return metric.summary(metric(x[None], y[None]))


def test_it_is_the_networks_output_tile_by_tile(tmp_path: Path) -> None:
    options = {"D": 5, "width": 8, "norm": "batch"}
    photo = noisy(images.from_array(skimage.data.astronaut()), 25)
    for c in (3, 1):
        file = network(tmp_path / f"{c}.safetensors", nothing=False, c=c, **options)
        wide = torch.cat([photo, photo.flip(2)], dim=2)[:, : TILE - 100, : TILE + 300]
        with torch.inference_mode():
            given = wide[None] if c == 3 else wide[:, None]
            whole = weights.load("dncnn", file)(given).reshape(wide.shape)
        restored = enhance(wide, file)
        assert whole.min() < 0, "so that clipping is seen"
        assert torch.allclose(restored, images.clip(whole), atol=2e-5)


def test_the_same_photo_gives_the_same_picture(copy: Path) -> None:
    grey = images.from_array(GREY)
    assert torch.equal(enhance(grey, copy), enhance(grey, copy))


OFFICIAL = {  # dB, as measured; a network of another kind or noise level is 1 dB off and more
    "mat/GD_Color_Blind.mat": 31.45,
    "npz/color_sigma25.npz": 31.63,
    "npz/sigma25.npz": 29.65,
    "mat/sigma=25.mat": 29.65,
    "kair/dncnn_25.pth": 29.65,
}


@pytest.mark.parametrize("name", OFFICIAL)
def test_official_networks_restore_a_noisy_photo(
    assets: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    clean = images.from_array(skimage.data.chelsea())[:, :160, :256].contiguous()
    images.write(tmp_path / "in.png", noisy(clean, 25))
    file = assets / "weights" / "dncnn" / name
    assert cli.main(command(tmp_path / "in.png", tmp_path / "out.png", "--weights", file)) == 0
    restored = psnr(images.read(tmp_path / "out.png"), clean)
    assert psnr(images.read(tmp_path / "in.png"), clean) < 20.5
    assert restored == pytest.approx(OFFICIAL[name], abs=0.05)


@pytest.mark.parametrize("sigma", [15, 25])
def test_a_colour_network_restores_a_grey_photo_nearly_as_well_as_a_grey_one(
    assets: Path, sigma: int
) -> None:
    # given the noisy photo three times, it takes the noise for texture and gains 0.2 dB
    clean = images.from_array(skimage.data.camera()[100:300, 100:300])
    y, folder = noisy(clean, sigma), assets / "weights" / "dncnn"
    by_grey = psnr(enhance(y, folder / "npz" / "GD_Gray_Blind.npz"), clean)
    by_colour = psnr(enhance(y, folder / "mat" / "GD_Color_Blind.mat"), clean)
    assert by_grey > psnr(y, clean) + 5
    assert by_colour > by_grey - 0.5


# How much memory it takes.

PEAK = """\
import sys
from enhancelib import cli

code = cli.main(sys.argv[1:])
# not getrusage: its figure begins at that of the process that started this one
print(*(line for line in open("/proc/self/status") if line.startswith("VmHWM")))
sys.exit(code)
"""


def peak(words: list[str], stderr: int) -> int:
    """Most memory that a process with these words held, in bytes."""
    done = subprocess.run(
        [sys.executable, "-c", PEAK, *words], stdout=subprocess.PIPE, stderr=stderr, timeout=300
    )
    assert done.returncode == 0
    return int(re.findall(rb"VmHWM:\s*(\d+) kB", done.stdout)[0]) * 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc on this machine")
def test_a_large_photo_takes_the_memory_of_its_pixels_and_not_of_feature_maps(
    tmp_path: Path,
) -> None:
    file = network(tmp_path / "net.safetensors", nothing=False, D=3, width=32, c=3, norm="none")
    tile = np.tile(skimage.data.astronaut(), (4, 6, 1))
    peaks, terminal, other = [], *os.openpty()
    termios.tcsetwinsize(other, (25, 80))
    for height, width in ((200, 300), (2000, 3000)):
        Image.fromarray(tile[:height, :width]).save(tmp_path / "in.png", compress_level=1)
        words = command(tmp_path / "in.png", tmp_path / "out.png", "--weights", file)
        peaks.append(peak(words, other))
    with Image.open(tmp_path / "out.png") as picture:
        assert picture.size == (3000, 2000)
    # 12 bytes a pixel for what is read and for what comes out, 3 each for what Pillow holds of the
    # two, and at most as much again for copies; one set of feature maps would take 128 more
    assert peaks[1] - peaks[0] < 60 * 2000 * 3000
    os.close(other)
    shown = os.read(terminal, 100_000).decode()
    assert "24/24" in shown, "on a terminal, many tiles are counted"
