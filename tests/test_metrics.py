"""The named protocols: what each one does to range, colour, rounding and mean."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import skimage.data
import torch
from numpy.typing import NDArray
from PIL import Image
from skimage.color import rgb2ycbcr
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor

from enhancelib.metrics import METRICS, Metric

LEARNED = ("lpips_alex", "lpips_vgg")
FIXED = [name for name in METRICS if name not in LEARNED]
UNCLIPPED = ("psnr_dped", "psnr_pooled", "ms_ssim_dped")


def _photo() -> NDArray[np.float64]:
    return skimage.data.astronaut()[:256, 128:384] / 255.0


def _coarse(photo: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.floor(photo * 15.99) / 15


def _tensor(picture: NDArray[np.float64]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1)[None]


@pytest.fixture(scope="module")
def y() -> Tensor:
    return _tensor(_photo())


@pytest.fixture(scope="module")
def x() -> Tensor:
    return _tensor(_coarse(_photo()))


# The catalogue


def test_the_catalogue_names_every_protocol_of_the_issue() -> None:
    assert set(METRICS) == {
        *("psnr", "psnr_8bit", "psnr_y", "psnr_y_studio", "psnr_dped", "psnr_pooled"),
        *("ssim", "ssim_8bit", "ssim_y", "ssim_y_studio", "ms_ssim", "ms_ssim_dped"),
        *("ciede2000", *LEARNED),
    }
    protocols = [metric.protocol for metric in METRICS.values()]
    assert len(set(protocols)) == len(protocols)


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_describes_itself(name: str) -> None:
    metric = METRICS[name]
    assert metric.name == name
    assert metric.unit == ("dB" if name.startswith("psnr") else "")
    assert metric.lower_better == name.startswith(("lpips", "ciede2000"))
    assert metric.range[0] < metric.range[1]
    assert metric.protocol.split()[0].rstrip(",") == name.split("_")[0].upper().replace(
        "MS", "MS-SSIM"
    )


# Properties of each


@pytest.mark.parametrize("name", FIXED)
def test_identity_is_best_and_values_stay_in_range(name: str, x: Tensor, y: Tensor) -> None:
    metric = METRICS[name]
    best, worst = metric.range[::-1] if not metric.lower_better else metric.range
    assert metric(y, y).tolist() == [best]
    for other in (x, 1 - y, y.flip(-1), torch.zeros_like(y)):
        value = float(metric(other, y))
        assert min(best, worst) <= value <= max(best, worst)
        assert value != best


@pytest.mark.parametrize("name", FIXED)
def test_symmetry_batch_and_single_picture(name: str, x: Tensor, y: Tensor) -> None:
    metric = METRICS[name]
    values = metric(torch.cat([x, y.flip(-1)]), torch.cat([y, x]))
    assert values.shape == (2,)
    torch.testing.assert_close(values[:1], metric(y, x))
    torch.testing.assert_close(values[1:], metric(y.flip(-1)[0], x[0]))


@pytest.mark.parametrize("name", LEARNED)
def test_learned_metrics(features: Path, name: str, x: Tensor, y: Tensor) -> None:
    metric = METRICS[name]
    assert metric(y.float(), y.float()).tolist() == [0]
    values = metric(torch.cat([x, y]).float(), torch.cat([y, x]).float())
    torch.testing.assert_close(values[0], values[1])
    assert 0 < float(values[0]) < 1


@pytest.mark.parametrize("name", FIXED)
def test_float32_agrees_with_float64(name: str, x: Tensor, y: Tensor) -> None:
    metric = METRICS[name]
    single = metric(x.float(), y.float())
    assert single.dtype == torch.float32
    assert single.tolist() == pytest.approx(metric(x, y).tolist(), abs=2e-5)


# CIEDE2000 has no slope at grey, which sixteen levels make of many pixels: see test_cielab.py
@pytest.mark.parametrize("name", [n for n in FIXED if "8bit" not in n and n != "ciede2000"])
def test_gradients_flow(name: str, x: Tensor, y: Tensor) -> None:
    moved = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(METRICS[name](moved, y).sum(), moved)
    direction = torch.sin(torch.arange(x.numel(), dtype=x.dtype)).reshape(x.shape)
    inside = (x > 0.01) & (x < 0.99)
    step = 1e-6 * direction * inside
    slope = (METRICS[name](x + step, y) - METRICS[name](x - step, y)) / 2
    assert float(slope) == pytest.approx(float((gradient * step).sum()), rel=1e-4)


@pytest.mark.parametrize(
    ("name", "value"),
    # A face (float64) on sixteen levels a channel, as first computed; the tests below confirm the
    # colour and rounding of each, tests/test_similarity.py the mathematics.
    [
        ("psnr", 32.1906804287),
        ("psnr_8bit", 32.0715393577),
        ("psnr_y", 33.9478311648),
        ("psnr_y_studio", 35.2697524767),
        ("psnr_dped", 32.1906804287),
        ("psnr_pooled", 32.1906804287),
        ("ciede2000", 4.3286853637),
        ("ssim", 0.8658661313),
        ("ssim_8bit", 0.8657572224),
        ("ssim_y", 0.9157418425),
        ("ssim_y_studio", 0.9571508218),
        ("ms_ssim", 0.9736975203),
        ("ms_ssim_dped", 0.9737005956),
    ],
)
def test_pinned_on_a_photograph(name: str, value: float, x: Tensor, y: Tensor) -> None:
    slightly_dark = 0.999 * x  # so that rounding to 8 bits shows
    assert METRICS[name](slightly_dark, y).tolist() == pytest.approx([value], abs=1e-9)


# Colour and rounding, against scikit-image


def test_studio_luma_is_matlabs() -> None:
    x, y = (rgb2ycbcr(picture)[..., 0] for picture in (_coarse(_photo()), _photo()))
    assert y.min() >= 16
    assert y.max() <= 235
    pictures = _tensor(_coarse(_photo())), _tensor(_photo())
    psnr = peak_signal_noise_ratio(y, x, data_range=255)
    assert METRICS["psnr_y_studio"](*pictures).tolist() == pytest.approx([psnr], abs=1e-9)
    ssim = structural_similarity(
        y, x, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255
    )
    assert METRICS["ssim_y_studio"](*pictures).tolist() == pytest.approx([ssim], abs=1e-9)


def test_full_luma_is_bt601() -> None:
    weights = np.array([0.299, 0.587, 0.114])
    x, y = (picture @ weights for picture in (_coarse(_photo()), _photo()))
    pictures = _tensor(_coarse(_photo())), _tensor(_photo())
    psnr = peak_signal_noise_ratio(y, x, data_range=1)
    assert METRICS["psnr_y"](*pictures).tolist() == pytest.approx([psnr], abs=1e-9)
    ssim = structural_similarity(
        y, x, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1
    )
    assert METRICS["ssim_y"](*pictures).tolist() == pytest.approx([ssim], abs=1e-9)


def test_studio_luma_flatters_by_the_square_of_its_range(x: Tensor, y: Tensor) -> None:
    gain = 20 * math.log10(255 / 219)
    difference = METRICS["psnr_y_studio"](x, y) - METRICS["psnr_y"](x, y)
    assert difference.tolist() == pytest.approx([gain], abs=1e-4)


@pytest.mark.parametrize("name", ["psnr_8bit", "ssim_8bit"])
def test_8bit_protocols_see_what_a_file_would_hold(name: str, x: Tensor, y: Tensor) -> None:
    fine = 0.999 * x
    stored = torch.from_numpy(np.uint8(np.rint(255 * fine.numpy()))).double() / 255
    metric, plain = METRICS[name], METRICS[name.removesuffix("_8bit")]
    torch.testing.assert_close(metric(fine, y), plain(stored, y))
    assert metric(fine, y) != plain(fine, y)
    assert metric(y + 0.4 / 255 * (y < 0.9), y).tolist() == [metric.range[1]]


# Means


def test_summary_is_the_mean_and_leaves_infinite_values_out() -> None:
    metric = METRICS["psnr"]
    values = torch.tensor([20.0, math.inf, 30.0, math.inf])
    assert metric.summary(values) == 25
    assert metric.infinite(values) == 2
    assert metric.summary(values[[1, 3]]) == math.inf
    assert metric.summary((0.5,)) == 0.5
    assert metric.summary(pd.Series([20.0, math.inf], index=["01", "02"])) == 20
    assert METRICS["lpips_alex"].summary(np.array([0.1, 0.3])) == pytest.approx(0.2)


@pytest.mark.parametrize("name", METRICS)
def test_summary_refuses_what_has_no_mean(name: str) -> None:
    metric = METRICS[name]
    with pytest.raises(ValueError, match=f"{name}: no values"):
        metric.summary([])
    with pytest.raises(ValueError, match=f"{name}: value 1 is not a number"):
        metric.summary([1.0, math.nan])
    with pytest.raises(ValueError, match=f"{name}: value 0 is not a number"):
        metric.infinite([math.nan, 1.0])


def test_pooled_psnr_keeps_the_error() -> None:
    errors = torch.rand(120, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    errors[7] = 0  # an identical pair counts, as no error
    y = torch.full((120, 1, 4, 4), 0.5, dtype=torch.float64)
    x = y + errors.sqrt()[:, None, None, None]
    values = METRICS["psnr_pooled"](x, y)
    assert values[7] == math.inf
    assert METRICS["psnr_pooled"].infinite(values) == 0
    together = -10 * math.log10(errors.mean())
    assert METRICS["psnr_pooled"].summary(values) == pytest.approx(together, abs=1e-10)
    batches = [
        -10 * math.log10(part.mean()) for part in (errors[:50], errors[50:100], errors[100:])
    ]
    assert METRICS["psnr_dped"].summary(values) == pytest.approx(sum(batches) / 3, abs=1e-10)
    assert METRICS["psnr"].summary(values) > together + 1


def test_dped_protocols_on_the_400_phone_pairs(assets: Path) -> None:
    """The input row of the specification's table A6, measured with the official scripts."""
    phone, camera = (_patches(assets, side) for side in ("iphone", "canon"))
    errors = METRICS["psnr_dped"](phone, camera)
    assert METRICS["psnr"].infinite(errors) == 4
    assert METRICS["psnr"].summary(errors) == pytest.approx(17.29, abs=0.005)
    assert METRICS["psnr_dped"].summary(errors) == pytest.approx(15.236, abs=0.0005)
    assert METRICS["psnr_pooled"].summary(errors) == pytest.approx(15.103, abs=0.0005)
    similarity = METRICS["ms_ssim_dped"](phone, camera)
    assert METRICS["ms_ssim_dped"].summary(similarity) == pytest.approx(0.8455, abs=5e-5)
    assert METRICS["ssim"].summary(METRICS["ssim"](phone, camera)) == pytest.approx(
        0.6831, abs=5e-5
    )


def _patches(assets: Path, side: str) -> Tensor:
    folder = assets / "data/dped/patches" / side
    files = sorted(folder.iterdir(), key=lambda file: int(file.stem))
    stack = np.stack([np.asarray(Image.open(file).convert("RGB")) for file in files])
    return torch.from_numpy(stack).permute(0, 3, 1, 2) / 255


# Refusals


@pytest.mark.parametrize("name", METRICS)
def test_pictures_outside_the_range_are_refused(name: str, x: Tensor, y: Tensor) -> None:
    metric = METRICS[name]
    with pytest.raises(ValueError, match=rf"{name}: y spans .*, 255\], outside \[0, 1\]; clip"):
        metric(x, 255 * y)
    with pytest.raises(ValueError, match=f"{name}: x holds values that are not finite"):
        metric(x.where(x > 0.5, math.nan), y)
    with pytest.raises(ValueError, match=f"{name}: y holds values that are not finite"):
        metric(x, y.where(y > 0.5, math.inf))
    if name in UNCLIPPED:
        assert metric(1.1 * x - 0.05, y) < metric(x, y)
    else:
        with pytest.raises(ValueError, match=rf"{name}: x spans \[-0.05, 1.05\], outside"):
            metric(1.1 * x - 0.05, y)


@pytest.mark.parametrize("name", METRICS)
def test_shapes_and_types_are_refused(name: str) -> None:
    metric = METRICS[name]
    good = torch.zeros(1, 3, 192, 192)
    with pytest.raises(ValueError, match="expected one shape"):
        metric(good, good[..., 1:])
    with pytest.raises(ValueError, match=r"picture is torch\.uint8"):
        metric(good.to(torch.uint8), good.to(torch.uint8))
    with pytest.raises(ValueError, match="expected the same"):
        metric(good, good.double())
    with pytest.raises(ValueError, match=r"expected \(B, C, H, W\)"):
        metric(good[0, 0], good[0, 0])


@pytest.mark.parametrize("name", ["ssim", "ssim_8bit", "ssim_y", "ssim_y_studio", "ms_ssim"])
def test_small_pictures_are_refused_with_the_smallest_size(name: str) -> None:
    small = torch.zeros(3, 10, 200)
    with pytest.raises(
        ValueError, match=r"at least (11 x 11|161 x 161) pixels; these are 10 x 200"
    ):
        METRICS[name](small, small)


@pytest.mark.parametrize("name", ["psnr_y", "psnr_y_studio", "ssim_y", "ssim_y_studio"])
def test_luma_of_grey_pictures_is_refused(name: str) -> None:
    grey = torch.zeros(1, 32, 32)
    with pytest.raises(ValueError, match="for grey pictures take psnr or ssim"):
        METRICS[name](grey, grey)


def test_a_metric_is_immutable() -> None:
    with pytest.raises(AttributeError):
        METRICS["psnr"].protocol = "another"  # type: ignore[misc]
    assert isinstance(METRICS["psnr"], Metric)
