"""Files, colour and MATLAB's bicubic resize, against independent implementations."""

from __future__ import annotations

import math
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.color
import skimage.data
import torch
from PIL import Image
from PIL.JpegImagePlugin import get_sampling

from enhancelib import images

CAT = skimage.data.cat()[:120, :161]


@pytest.fixture(scope="module")
def cat() -> torch.Tensor:
    return images.from_array(CAT)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".TIFF"])
def test_lossless_round_trip(tmp_path: Path, cat: torch.Tensor, suffix: str) -> None:
    file = tmp_path / f"cat{suffix}"
    images.write(file, cat)
    again = images.read(file)
    assert torch.equal(again, cat)
    assert again.dtype == torch.float32
    assert again.is_contiguous()
    assert np.array_equal(np.array(Image.open(file)), CAT)


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".webp"])
def test_lossy_files_stay_close(tmp_path: Path, cat: torch.Tensor, suffix: str) -> None:
    images.write(tmp_path / f"cat{suffix}", cat)
    error = (images.read(tmp_path / f"cat{suffix}") - cat).pow(2).mean()
    assert -10 * math.log10(float(error)) > 35


def test_jpeg_keeps_the_resolution_of_colour(tmp_path: Path, cat: torch.Tensor) -> None:
    images.write(tmp_path / "cat.jpg", cat)
    with Image.open(tmp_path / "cat.jpg") as file:
        assert get_sampling(file) == 0  # 4:4:4


def test_grey_files(tmp_path: Path) -> None:
    camera = images.from_array(skimage.data.camera()[:50, :70])
    images.write(tmp_path / "grey.png", camera)
    assert torch.equal(images.read(tmp_path / "grey.png", grey=True), camera)
    colour = images.read(tmp_path / "grey.png")
    assert colour.shape == (3, 50, 70)
    assert torch.equal(colour, camera.expand(3, -1, -1))


def test_a_colour_file_read_as_grey_is_its_luma(tmp_path: Path, cat: torch.Tensor) -> None:
    images.write(tmp_path / "cat.png", cat)
    assert torch.equal(images.read(tmp_path / "cat.png", grey=True), images.luma(cat))


def test_one_pixel(tmp_path: Path) -> None:
    pixel = torch.tensor([[[0.2]], [[0.4]], [[0.6]]])
    images.write(tmp_path / "one.png", pixel)
    assert torch.allclose(images.read(tmp_path / "one.png"), pixel, atol=1e-7)


WRONG: dict[str, tuple[str, Any, str]] = {
    "suffix": ("a.psd", torch.zeros(3, 4, 4), "suffix is '.psd'; expected one of .png"),
    "no suffix": ("a", torch.zeros(3, 4, 4), "suffix is ''; expected one of .png"),
    "batch": ("a.png", torch.zeros(1, 3, 4, 4), r"shape is \(1, 3, 4, 4\); expected \(3, H, W\)"),
    "channels": ("a.png", torch.zeros(2, 4, 4), r"shape is \(2, 4, 4\); expected \(3, H, W\)"),
    "nothing": ("a.png", torch.zeros(3, 0, 4), r"shape is \(3, 0, 4\)"),
    "NaN": ("a.png", torch.tensor([[[0.5, math.nan]]]), "holds NaN"),
    "above": ("a.png", torch.full((1, 2, 2), 1.001), r"values lie in \[1.001, 1.001\]"),
    "below": ("a.png", torch.full((1, 2, 2), -0.25), r"expected \[0, 1\]: use images.clip"),
    "infinite": ("a.png", torch.tensor([[[0.5, math.inf]]]), r"values lie in \[0.5, inf\]"),
    "bytes": ("a.png", torch.zeros(3, 4, 4, dtype=torch.uint8), "picture is torch.uint8"),
    "array": ("a.png", np.zeros((3, 4, 4)), "picture is float64"),
}


@pytest.mark.parametrize("case", WRONG)
def test_write_refuses(tmp_path: Path, case: str) -> None:
    name, image, reason = WRONG[case]
    with pytest.raises(images.ImageError, match=reason):
        images.write(tmp_path / name, image)
    assert not list(tmp_path.iterdir())


def test_write_into_a_missing_folder_or_onto_a_folder(tmp_path: Path) -> None:
    with pytest.raises(images.ImageError, match=r"none/a.png: cannot be written \(.*No such file"):
        images.write(tmp_path / "none" / "a.png", torch.zeros(1, 2, 2))
    (tmp_path / "b.png").mkdir()
    with pytest.raises(images.ImageError, match=r"b.png: cannot be written"):
        images.write(tmp_path / "b.png", torch.zeros(1, 2, 2))
    assert [file.name for file in tmp_path.iterdir()] == ["b.png"]


def test_whoever_reads_the_old_file_reads_on(tmp_path: Path, cat: torch.Tensor) -> None:
    file = tmp_path / "cat.png"
    images.write(file, cat)
    before = file.read_bytes()
    with file.open("rb") as reader:
        images.write(file, 1 - cat)
        assert reader.read() == before
    assert file.read_bytes() != before


def test_write_under_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(images.ImageError, match=r"cannot be written \(.*Not a directory"):
        images.write(tmp_path / "file" / "a.png", torch.zeros(1, 2, 2))


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, cat: torch.Tensor) -> None:
    file = tmp_path / "cat.png"
    images.write(file, cat)
    before = file.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))  # as a full disk would
    try:
        with pytest.raises(images.ImageError, match=r"cat.png: cannot be written"):
            images.write(file, 1 - cat)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert file.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["cat.png"]


def test_eight_bits() -> None:
    levels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(images.to_uint8(images.from_uint8(levels)), levels)
    given = torch.tensor([-3.0, -0.001, 0.499 / 255, 0.501 / 255, 1.2, math.inf])
    assert images.to_uint8(given).tolist() == [0, 0, 0, 1, 255, 255]
    with pytest.raises(images.ImageError, match=r"picture is torch.int64"):
        images.to_uint8(torch.ones(3, dtype=torch.int64))


def test_from_array_sixteen_bits() -> None:
    image = images.from_array(np.array([[0, 65535], [13107, 257]], np.uint16))
    assert torch.allclose(image, torch.tensor([[[0.0, 1.0], [0.2, 1 / 255]]]))


def test_clip_says_what_it_does() -> None:
    assert images.clip(torch.tensor([-1.0, 0.3, 7.0])).tolist() == [0.0, pytest.approx(0.3), 1.0]


def test_studio_range_is_that_of_scikit_image(cat: torch.Tensor) -> None:
    oracle = images.rgb_to_ycbcr(cat, "studio").permute(1, 2, 0).double().numpy() * 255
    assert np.abs(oracle - skimage.color.rgb2ycbcr(CAT)).max() < 1e-3
    luma = images.luma(cat, "studio")[0].double().numpy() * 255
    assert np.abs(luma - skimage.color.rgb2ycbcr(CAT)[..., 0]).max() < 1e-3


def test_full_range_is_that_of_jpeg(cat: torch.Tensor) -> None:
    oracle = np.array(Image.fromarray(CAT).convert("YCbCr")).astype(float)
    ours = images.rgb_to_ycbcr(cat).permute(1, 2, 0).double().numpy() * 255
    # Pillow cuts to whole levels, from rounded tables: ours lies between its level and the next.
    assert (ours - oracle).min() > -0.06
    assert (ours - oracle).max() < 1.06
    assert np.abs((ours - oracle).mean((0, 1)) - 0.5).max() < 0.05
    assert torch.equal(images.luma(cat), images.rgb_to_ycbcr(cat)[:1])


@pytest.mark.parametrize("span", ["full", "studio"])
def test_colour_round_trip(cat: torch.Tensor, span: images.Range) -> None:
    batch = torch.stack([cat, cat.flip(0)]).double()
    there = images.rgb_to_ycbcr(batch, span)
    assert torch.allclose(images.ycbcr_to_rgb(there, span), batch, atol=1e-12)


def test_grey_has_no_chroma() -> None:
    grey = torch.linspace(0, 1, 11).expand(3, 1, 11)
    for span in ("full", "studio"):
        chroma = images.rgb_to_ycbcr(grey, span)[1:]
        assert torch.allclose(chroma, torch.full_like(chroma, 128 / 255), atol=1e-6)
    assert torch.allclose(images.luma(grey), grey[:1], atol=1e-6)


@pytest.mark.parametrize("fn", [images.luma, images.rgb_to_ycbcr, images.ycbcr_to_rgb])
def test_colour_refuses(fn: Callable[..., torch.Tensor]) -> None:
    with pytest.raises(images.ImageError, match="range is 'jpeg'; expected 'full' or 'studio'"):
        fn(torch.zeros(3, 4, 4), "jpeg")
    with pytest.raises(images.ImageError, match=r"\(4, 4, 3\); expected \(3, H, W\)"):
        fn(torch.zeros(4, 4, 3))


def keys(x: float) -> float:
    x = abs(x)
    if x <= 1:
        return 1.5 * x**3 - 2.5 * x**2 + 1
    return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x <= 2 else 0.0


def imresize_line(line: Any, new: int, scale: float) -> Any:
    """MATLAB's imresize on one line, as its documentation tells it, one output at a time."""
    n, width = len(line), 4.0 / min(scale, 1.0)
    result = np.zeros(new)
    for x in range(1, new + 1):
        u = x / scale + 0.5 * (1 - 1 / scale)
        left = math.floor(u - width / 2)
        total = value = 0.0
        for j in range(left, left + math.ceil(width) + 2):
            weight = scale * keys(scale * (u - j)) if scale < 1 else keys(u - j)
            inside = (j - 1) % (2 * n)
            value += weight * line[inside if inside < n else 2 * n - 1 - inside]
            total += weight
        result[x - 1] = value / total
    return result


def imresize(plane: Any, new: tuple[int, int], scales: tuple[float, float]) -> Any:
    tall = np.stack([imresize_line(c, new[0], scales[0]) for c in plane.T], 1)
    return np.stack([imresize_line(r, new[1], scales[1]) for r in tall])


@pytest.mark.parametrize("scale", [1 / 2, 1 / 3, 1 / 4, 0.7, 1.0, 1.5, 2.0, 3.0])
@pytest.mark.parametrize("shape", [(12, 17), (3, 2), (1, 5)])
def test_resize_by_scale_is_matlabs(shape: tuple[int, int], scale: float) -> None:
    plane = CAT[40 : 40 + shape[0], 60 : 60 + shape[1], 1] / 255.0
    new = (math.ceil(scale * shape[0]), math.ceil(scale * shape[1]))
    ours = images.resize(torch.from_numpy(plane)[None], scale=scale)[0]
    assert tuple(ours.shape) == new
    assert np.abs(ours.numpy() - imresize(plane, new, (scale, scale))).max() < 1e-12


@pytest.mark.parametrize("size", [(5, 30), (20, 4), (11, 16), (1, 1)])
def test_resize_to_size_is_matlabs(size: tuple[int, int]) -> None:
    plane = CAT[40:51, 60:76, 1] / 255.0
    ours = images.resize(torch.from_numpy(plane)[None], size=size)[0].numpy()
    oracle = imresize(plane, size, (size[0] / 11, size[1] / 16))
    assert np.abs(ours - oracle).max() < 1e-12


@pytest.mark.parametrize("size", [(60, 80), (33, 52), (240, 322)])
def test_resize_inside_is_pillows(size: tuple[int, int]) -> None:
    # Pillow has the same kernel and widening; it cuts the kernel at borders instead of mirroring.
    plane = (CAT[..., 1] / np.float32(255)).astype(np.float32)
    oracle = np.array(Image.fromarray(plane).resize((size[1], size[0]), Image.Resampling.BICUBIC))
    ours = images.resize(torch.from_numpy(plane)[None], size=size)[0].numpy()
    inside = slice(6, -6)
    assert np.abs(ours - oracle)[inside, inside].max() < 1e-5


@pytest.mark.parametrize("scale", [0.25, 1 / 3, 0.5, 2.0, 3.0])
def test_resize_keeps_constants_and_ramps(scale: float) -> None:
    constant = torch.full((2, 3, 20, 24), 0.3, dtype=torch.float64)
    assert torch.allclose(images.resize(constant, scale=scale), torch.tensor(0.3).double())
    ramp = torch.arange(48, dtype=torch.float64).expand(1, 48, 48)
    inside = images.resize(ramp, scale=scale)[0, 10, :]
    place = (torch.arange(len(inside), dtype=torch.float64) + 0.5) / scale - 0.5
    keep = (place > 9) & (place < 38)
    # Keys' kernel reproduces lines; widened for shrinking by a whole factor it still does.
    assert torch.allclose(inside[keep], place[keep], atol=1e-12)


def test_resize_of_size_one_and_of_the_same_size(cat: torch.Tensor) -> None:
    assert torch.allclose(images.resize(torch.full((1, 1, 1), 0.4), size=(3, 5)), torch.tensor(0.4))
    assert torch.allclose(images.resize(cat, scale=1.0), cat, atol=1e-7)


def test_resize_has_gradients() -> None:
    x = torch.rand(1, 5, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda t: images.resize(t, scale=0.5), (x,))


@pytest.mark.parametrize(
    "how",
    [{}, {"scale": 2.0, "size": (4, 4)}, {"scale": -1.0}, {"scale": math.inf}, {"size": (0, 4)}],
)
def test_resize_refuses(how: dict[str, Any]) -> None:
    with pytest.raises(images.ImageError, match="expected one of them, above 0"):
        images.resize(torch.zeros(1, 4, 4), **how)


def test_resize_refuses_bytes() -> None:
    with pytest.raises(images.ImageError, match=r"picture is torch.uint8; expected a float"):
        images.resize(torch.zeros(1, 4, 4, dtype=torch.uint8), scale=2.0)


# VDSR's protocol: Y in studio range, rounded to 8 bits, modcrop, imresize down and up, rounded, a
# border of `scale` pixels left out. The values of the column "Bicubic" on Set5 in SRCNN, VDSR and
# most papers since, all computed by MATLAB.
@pytest.mark.parametrize(("scale", "published"), [(2, 33.66), (3, 30.39), (4, 28.42)])
def test_bicubic_on_set5_is_the_published_one(assets: Path, scale: int, published: float) -> None:
    values = []
    for file in sorted((assets / "data" / "Set5").glob("*.bmp")):
        y = images.from_uint8(images.to_uint8(images.luma(images.read(file), "studio")))
        y = y[:, : y.shape[1] // scale * scale, : y.shape[2] // scale * scale]
        back = images.resize(images.resize(y, scale=1 / scale), scale=scale)
        error = images.from_uint8(images.to_uint8(back)) - y
        inside = error[:, scale:-scale, scale:-scale].double()
        values.append(-10 * math.log10(float(inside.pow(2).mean())))
    assert len(values) == 5
    assert np.mean(values) == pytest.approx(published, abs=0.006)


def test_dihedral_gives_eight_different_pictures(cat: torch.Tensor) -> None:
    square = cat[:, :64, :64]
    views = [images.dihedral(square, k) for k in range(8)]
    assert torch.equal(views[0], square)
    assert all(not torch.equal(views[i], views[j]) for i in range(8) for j in range(i))
    assert torch.equal(views[1][0], torch.from_numpy(np.rot90(square[0].numpy()).copy()))
    assert torch.equal(views[6][0], torch.from_numpy(np.rot90(np.fliplr(square[0]), 2).copy()))


def test_dihedral_of_a_batch(cat: torch.Tensor) -> None:
    batch = torch.stack([cat, 1 - cat])
    for k in range(8):
        turned = images.dihedral(batch, k)
        assert turned.shape[-2:] == ((161, 120) if k % 2 else (120, 161))
        assert torch.equal(turned[1], images.dihedral(1 - cat, k))
