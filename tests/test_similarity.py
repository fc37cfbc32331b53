"""The similarity functions against independent libraries, transcriptions and official numbers."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import piq
import pytest
import pytorch_msssim
import skimage.data
import torch
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from PIL import Image
from skimage.filters import gaussian
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor
from torchmetrics.functional.image import peak_signal_noise_ratio as torchmetrics_psnr

from enhancelib import features as networks
from enhancelib import similarity
from enhancelib.similarity import lpips, ms_ssim, ms_ssim_dped, psnr, ssim

Array = NDArray[np.float64]
FACE = np.ascontiguousarray(skimage.data.astronaut()[:256, 128:384])
FUNCTIONS = (psnr, ssim, ms_ssim, ms_ssim_dped)


def _tensor(picture: Array) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1)[None]


@pytest.fixture(scope="module")
def photo() -> Array:
    return FACE / 255.0


@pytest.fixture(scope="module", params=["noise", "jpeg", "blur"])
def worse(request: pytest.FixtureRequest, photo: Array) -> Array:
    if request.param == "noise":
        noise = np.random.default_rng(0).normal(0, 25 / 255, photo.shape)
        return np.clip(photo + noise, 0, 1)
    if request.param == "blur":
        return np.clip(gaussian(photo, 2, channel_axis=-1), 0, 1)
    stream = io.BytesIO()
    Image.fromarray(FACE).save(stream, "JPEG", quality=10)
    return np.asarray(Image.open(stream)) / 255.0


def _coarse(photo: Array) -> Array:
    """Sixteen levels a channel: the same on every machine, unlike what a codec gives."""
    return np.floor(photo * 15.99) / 15


# Agreement with other people's code


def test_psnr_equals_scikit_image(photo: Array, worse: Array) -> None:
    expected = peak_signal_noise_ratio(photo, worse, data_range=1)
    assert float(psnr(_tensor(worse), _tensor(photo))) == pytest.approx(expected, abs=1e-10)


def test_ssim_equals_scikit_image_with_the_original_window(photo: Array, worse: Array) -> None:
    expected = structural_similarity(
        photo,
        worse,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=1,
        channel_axis=-1,
    )
    assert float(ssim(_tensor(worse), _tensor(photo))) == pytest.approx(expected, abs=1e-10)


def _exact_window() -> Tensor:
    """pytorch-msssim's own window is single precision and sums to 1 - 3e-8, which costs 3e-6."""
    window = torch.exp(-((torch.arange(11, dtype=torch.float64) - 5) ** 2) / (2 * 1.5**2))
    return (window / window.sum()).expand(3, 1, 1, 11)


def test_ssim_equals_pytorch_msssim_and_piq(photo: Array, worse: Array) -> None:
    x, y = _tensor(worse), _tensor(photo)
    theirs = pytorch_msssim.ssim(x, y, data_range=1, win=_exact_window())
    assert float(ssim(x, y)) == pytest.approx(float(theirs), abs=1e-10)
    assert float(ssim(x, y)) == pytest.approx(float(piq.ssim(x, y, downsample=False)), abs=1e-10)


def test_ms_ssim_equals_pytorch_msssim_and_piq(photo: Array, worse: Array) -> None:
    # At 256 every halving is exact. At odd sizes these two disagree with Wang and each other.
    x, y = _tensor(worse), _tensor(photo)
    theirs = pytorch_msssim.ms_ssim(x, y, data_range=1, win=_exact_window())
    assert float(ms_ssim(x, y)) == pytest.approx(float(theirs), abs=1e-10)
    assert float(ms_ssim(x, y)) == pytest.approx(float(piq.multi_scale_ssim(x, y)), abs=1e-10)


def test_float32_is_as_good_as_float64(photo: Array, worse: Array) -> None:
    x, y = _tensor(worse), _tensor(photo)
    for function in FUNCTIONS:
        single = function(x.float(), y.float())
        assert single.dtype == torch.float32
        assert float(single) == pytest.approx(float(function(x, y)), abs=2e-6)


# A literal transcription of Wang's scales, of which DPED's scorer is one form


def _window(size: int, sigma: float) -> Array:
    offset = np.arange(size) - (size - 1) / 2
    plane = np.exp(-(offset[:, None] ** 2 + offset[None, :] ** 2) / (2 * sigma**2))
    return plane / plane.sum()


def _filter(channel: Array, window: Array) -> Array:
    return np.einsum("hwij,ij->hw", sliding_window_view(channel, window.shape), window)


def _halve(channel: Array) -> Array:
    mirrored = np.pad(channel, ((0, 1), (0, 1)), mode="symmetric")
    mean = mirrored[:-1, :-1] + mirrored[1:, :-1] + mirrored[:-1, 1:] + mirrored[1:, 1:]
    return mean[::2, ::2] / 4


def _maps(a: Array, b: Array, window: Array) -> tuple[Array, Array]:
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    mean_a, mean_b = _filter(a, window), _filter(b, window)
    var_a = _filter(a * a, window) - mean_a**2
    var_b = _filter(b * b, window) - mean_b**2
    covariance = _filter(a * b, window) - mean_a * mean_b
    contrast = (2 * covariance + c2) / (var_a + var_b + c2)
    return (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1) * contrast, contrast


def _transcribed(a: Array, b: Array, *, shrinking: bool) -> tuple[Array, Array]:
    """Mean SSIM and mean contrast, (scale, channel), of (H, W, 3) pictures on 0..255."""
    similar, contrast = np.zeros((5, 3)), np.zeros((5, 3))
    for channel in range(3):
        p, q = a[..., channel], b[..., channel]
        for scale in range(5):
            size = min(11, *p.shape) if shrinking else 11
            maps = _maps(p, q, _window(size, 1.5 * size / 11))
            similar[scale, channel], contrast[scale, channel] = maps[0].mean(), maps[1].mean()
            p, q = _halve(p), _halve(q)
    return similar, contrast


WEIGHTS = np.array([0.0448, 0.2856, 0.3001, 0.2363, 0.1333])


@pytest.mark.parametrize("size", [(100, 100), (37, 50), (18, 61)])
def test_ms_ssim_dped_equals_its_transcription(
    photo: Array, worse: Array, size: tuple[int, int]
) -> None:
    a, b = (picture[60 : 60 + size[0], 40 : 40 + size[1]] for picture in (worse, photo))
    a = 1.1 * a - 0.05  # the scorer takes what the network gave, beyond [0, 1] too
    similar, contrast = _transcribed(255 * a, 255 * b, shrinking=True)
    factors = np.append(contrast[:4].mean(1), similar[4].mean())
    expected = np.prod(factors**WEIGHTS)
    assert float(ms_ssim_dped(_tensor(a), _tensor(b))) == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("size", [(176, 192), (161, 187)])
def test_ms_ssim_equals_its_transcription(
    photo: Array, worse: Array, size: tuple[int, int]
) -> None:
    a, b = (picture[60 : 60 + size[0], 40 : 40 + size[1]] for picture in (worse, photo))
    similar, contrast = _transcribed(255 * a, 255 * b, shrinking=False)
    factors = np.concatenate([contrast[:4], similar[4:]])
    expected = np.prod(factors ** WEIGHTS[:, None], axis=0).mean()
    assert float(ms_ssim(_tensor(a), _tensor(b))) == pytest.approx(expected, abs=1e-10)


def test_ms_ssim_dped_equals_the_official_scorer(assets: Path) -> None:
    golden = np.load(assets / "weights/dped/golden_official_tf.npz")
    x = torch.from_numpy(golden["iphone_orig"]).permute(0, 3, 1, 2)
    y = torch.from_numpy(golden["target_u8"]).permute(0, 3, 1, 2) / 255
    assert x.max() > 1  # unclipped
    np.testing.assert_allclose(ms_ssim_dped(x, y), golden["msssim_official"], atol=5e-7)


# Properties


@pytest.mark.parametrize("function", FUNCTIONS)
def test_identity_is_the_best_value(photo: Array, function: Callable[..., Tensor]) -> None:
    y = _tensor(photo)
    best = math.inf if function is psnr else 1.0
    assert float(function(y, y)) == best
    assert float(function(y, (y + 0.01).clamp(0, 1))) < best


@pytest.mark.parametrize("function", FUNCTIONS)
def test_symmetry_and_independence_in_a_batch(
    photo: Array, worse: Array, function: Callable[..., Tensor]
) -> None:
    x, y = _tensor(worse), _tensor(photo)
    batch = function(torch.cat([x, y.flip(-1)]), torch.cat([y, x]))
    torch.testing.assert_close(batch[:1], function(x, y))
    torch.testing.assert_close(batch[1:], function(x, y.flip(-1)))
    torch.testing.assert_close(function(x[0], y[0]), function(x, y))


@pytest.mark.parametrize("function", [psnr, ssim, ms_ssim_dped])
def test_gradients(function: Callable[..., Tensor]) -> None:
    photo = torch.from_numpy(skimage.data.astronaut()[100:113, 200:214]).permute(2, 0, 1) / 255.0
    y = photo.double()
    x = (0.9 * y + 0.03 * torch.sin(torch.arange(y.numel()).reshape(y.shape))).requires_grad_()
    assert torch.autograd.gradcheck(function, (x, y.requires_grad_()))


def test_gradient_of_ms_ssim(photo: Array) -> None:
    y = _tensor(photo[:161, 72:234, :1])
    x = (0.8 * y + 0.05 * torch.sin(torch.arange(y.numel()).reshape(y.shape))).requires_grad_()
    assert torch.autograd.gradcheck(ms_ssim, (x, y.requires_grad_()), fast_mode=True)


def test_negative_contrast_counts_as_zero_and_keeps_gradients_finite(photo: Array) -> None:
    y = _tensor(photo)
    x = (1 - y).requires_grad_()
    for function in (ms_ssim, ms_ssim_dped):
        value = function(x, y)
        assert value.tolist() == [0]
        (gradient,) = torch.autograd.grad(value.sum(), x)
        assert gradient.isfinite().all()


def test_pictures_of_one_pixel() -> None:
    assert float(ms_ssim_dped(torch.ones(3, 1, 1), torch.ones(3, 1, 1))) == 1
    assert float(psnr(torch.ones(3, 1, 1), torch.zeros(3, 1, 1))) == 0


@pytest.mark.parametrize(
    ("function", "value"),
    # Astronaut on sixteen levels a channel, float64, as first computed and then confirmed by
    # scikit-image (psnr, ssim), piq (ms_ssim) and the transcription (ms_ssim_dped).
    [
        (psnr, 32.4655366919),
        (ssim, 0.8841241721),
        (ms_ssim, 0.9819855090),
        (ms_ssim_dped, 0.9819862979),
    ],
)
def test_pinned_on_a_photograph(function: Callable[..., Tensor], value: float) -> None:
    photo = skimage.data.astronaut() / 255.0
    x, y = _tensor(_coarse(photo)), _tensor(photo)
    assert float(function(x, y)) == pytest.approx(value, abs=1e-9)


def test_torchmetrics_pools_the_error_over_a_batch(photo: Array) -> None:
    """Why a protocol is named: the mean of two pictures is not what torchmetrics gives."""
    y = _tensor(photo)
    x = torch.cat([y + 0.01, y + 0.1])
    both = torch.cat([y, y])
    assert float(psnr(x, both).mean()) == pytest.approx(30, abs=1e-6)
    assert float(torchmetrics_psnr(x, both, data_range=1.0)) == pytest.approx(22.967, abs=1e-3)


# LPIPS


def _example(assets: Path, name: str) -> Tensor:
    picture = np.asarray(Image.open(assets / "data/lpips_ex" / f"{name}.png").convert("RGB"))
    return torch.from_numpy(picture.copy()).permute(2, 0, 1)[None] / 255.0


@pytest.mark.parametrize(
    ("net", "far", "near"), [("alex", 0.72188, 0.13757), ("vgg", 0.56861, 0.42166)]
)
def test_lpips_gives_the_official_numbers(
    assets: Path, features: Path, net: str, far: float, near: float
) -> None:
    reference, p0, p1 = (_example(assets, name) for name in ("ex_ref", "ex_p0", "ex_p1"))
    values = lpips(torch.cat([p0, p1]), torch.cat([reference, reference]), net=net)
    assert values.tolist() == pytest.approx([far, near], abs=1e-4)
    assert lpips(reference, p1, net=net).tolist() == pytest.approx([near], abs=1e-4)
    assert float(lpips(p0, p0, net=net)) == 0


def test_lpips_is_differentiable_and_takes_float64(features: Path, photo: Array) -> None:
    y = _tensor(photo)[..., 100:140, 80:120]
    x = _tensor(_coarse(photo))[..., 100:140, 80:120].requires_grad_()
    value = lpips(x, y)
    (gradient,) = torch.autograd.grad(value.sum(), x)
    step = 1e-4 * gradient / gradient.norm()
    with torch.no_grad():
        slope = (lpips(x + step, y) - lpips(x - step, y)) / 2e-4
    assert value.dtype == torch.float64
    assert slope.tolist() == pytest.approx([float(gradient.norm())], rel=1e-4)


def test_lpips_leaves_the_random_stream_alone(features: Path) -> None:
    similarity._lpips_network.cache_clear()
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    lpips(torch.zeros(3, 32, 32), torch.ones(3, 32, 32))
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(("net", "least"), [("alex", 31), ("vgg", 16)])
def test_lpips_at_its_smallest_size(features: Path, net: str, least: int) -> None:
    assert float(lpips(torch.zeros(3, least, least), torch.ones(3, least, least), net=net)) > 0
    small = torch.zeros(3, least - 1, 64)
    with pytest.raises(ValueError, match=f"at least {least} x {least} .* {least - 1} x 64"):
        lpips(small, small, net=net)


def test_lpips_without_fetched_features_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ENHANCELIB_CACHE", str(tmp_path))
    similarity._lpips_network.cache_clear()
    with pytest.raises(networks.FeaturesMissing, match="enhancelib fetch"):
        lpips(torch.zeros(3, 64, 64), torch.zeros(3, 64, 64))


# Refusals


@pytest.mark.parametrize("function", [*FUNCTIONS, lpips])
def test_what_cannot_be_compared_is_refused(function: Callable[..., Tensor]) -> None:
    good = torch.zeros(1, 3, 192, 192)
    for bad, message in (
        (torch.zeros(1, 3, 192, 191), r"expected one shape"),
        (torch.zeros(3, 192, 192), r"expected one shape"),
        (good.double(), r"torch.float64 .* expected the same"),
        (good.half(), r"picture is torch.float16; expected a float32"),
        (good.to(torch.uint8), r"picture is torch.uint8"),
        (good.numpy(), r"picture is float32; expected a float32 or float64 tensor"),
        (None, r"picture is NoneType"),
    ):
        with pytest.raises(ValueError, match=message):
            function(good, bad)
    for shape in ((192, 192), (2, 192, 192), (1, 4, 192, 192), (1, 1, 3, 192, 192), (0, 3, 9, 9)):
        with pytest.raises(ValueError, match=r"expected \(B, C, H, W\)"):
            function(torch.zeros(shape), torch.zeros(shape))


def test_other_devices_are_refused() -> None:
    with pytest.raises(ValueError, match=r"on cpu and y torch\.float32 on meta"):
        psnr(torch.zeros(3, 8, 8), torch.zeros(3, 8, 8, device="meta"))


@pytest.mark.parametrize(("function", "least"), [(ssim, 11), (ms_ssim, 161)])
def test_too_small_pictures_are_refused(function: Callable[..., Tensor], least: int) -> None:
    enough = torch.zeros(1, least, least)
    assert float(function(enough, enough)) == 1
    with pytest.raises(ValueError, match=f"at least {least} x {least} .* {least} x {least - 1}"):
        function(enough[..., 1:], enough[..., 1:])


def test_lpips_refuses_grey_pictures_and_unknown_networks() -> None:
    with pytest.raises(ValueError, match="LPIPS is defined on RGB"):
        lpips(torch.zeros(1, 64, 64), torch.zeros(1, 64, 64))
    with pytest.raises(ValueError, match="net is 'squeeze'"):
        lpips(torch.zeros(3, 64, 64), torch.zeros(3, 64, 64), net="squeeze")
