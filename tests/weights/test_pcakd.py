"""PCA-KD from its released weights: the authors' own result pictures come back.

The figures are those of dilie.md H; the small differences from 37.42 dB and 39.03 dB there are the
guided filter's, which cuts its windows at the border where OpenCV's reflects the picture.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from skimage import data
from torch import Tensor
from torch.nn import functional

from enhancelib import features as networks
from enhancelib import filters, images, models, weights
from enhancelib.metrics import METRICS
from enhancelib.weights import WeightsError
from tests.weights.test_dped import as_npz, same

FILE = Path("weights/dilie/pcakd_photorealistic_wct/pcakd_vgg_OIHW.npz")


def read(assets: Path, name: str) -> Tensor:
    return images.read(assets / "data" / "pcakd" / name)[None]


def cut(picture: Tensor) -> Tensor:
    """As the demo: bilinear to sides that are multiples of 8."""
    size = [side // 8 * 8 for side in picture.shape[2:]]
    return functional.interpolate(picture, size, mode="bilinear", align_corners=False)


@pytest.mark.parametrize(
    ("number", "plain", "filtered"), [(0, 26.652, 37.397), (1, 32.528, 39.037)]
)
def test_official_results_come_back(
    assets: Path, number: int, plain: float, filtered: float
) -> None:
    network = weights.load("pcakd", assets / FILE)
    content, style = (cut(read(assets, f"{n}_{number}.jpeg")) for n in ("content", "style"))
    official = read(assets, f"official_result_vgg_{number}.jpg")
    psnr = METRICS["psnr"]
    result = network.stylise(content, style)  # type: ignore[operator]
    assert float(psnr(result, official)) == pytest.approx(plain, abs=0.02)
    levels = (result * 255).floor() / 255  # the demo's conversion to 8 bits
    smooth = filters.guided_filter(content, levels, 30, 0.02**2).clamp(0, 1)
    assert float(psnr(smooth, official)) > 35
    assert float(psnr(smooth, official)) == pytest.approx(filtered, abs=0.02)
    assert float(psnr(content, official)) < 17


def test_the_encoder_knows_what_vgg19_knows(assets: Path, features: Path) -> None:
    """A linear map makes its features out of VGG19's (dilie.md H: R^2 0.997, 0.979, 0.955)."""
    network = weights.load("pcakd", assets / FILE)
    photo = torch.from_numpy(data.coffee()[:256, :320].copy()).movedim(-1, 0)[None].float() / 255
    with torch.no_grad():
        ours, _ = network.encode(photo)  # type: ignore[operator]
        vgg = networks.load("vgg19_normalised")(photo, ("relu1_1", "relu2_1", "relu3_1"))
    for small, large, least in zip(ours, vgg.values(), (0.99, 0.96, 0.94), strict=False):
        x = torch.cat((large, torch.ones_like(large[:, :1])), 1).flatten(2)[0].T.double()
        y = small.flatten(2)[0].T.double()
        left = y - x @ torch.linalg.lstsq(x, y, driver="gelsd").solution
        share = left.square().sum() / (y - y.mean(0)).square().sum()
        assert float(1 - share) > least


def test_our_own_state_dict(tmp_path: Path) -> None:
    network = models.build("pcakd")
    torch.save({f"net.{k}": v for k, v in network.state_dict().items()}, tmp_path / "net.pth")
    assert same(weights.load("pcakd", tmp_path / "net.pth"), network)
    weights.save(network, tmp_path / "net.safetensors", name="pcakd", options={}, card={})
    assert same(weights.load("pcakd", tmp_path / "net.safetensors"), network)


def test_the_first_misfit_is_named(assets: Path, tmp_path: Path) -> None:
    with np.load(assets / FILE) as stored:
        arrays = dict(stored)
    for change, sentence in (
        ({"enc2_1.weight": None}, r"key 'encoder\.2\.3\.weight' is missing"),
        ({"dec3_3.bias": np.zeros(57, np.float32)}, r"'decoder\.3\.7\.bias' has shape \(57,\)"),
        ({"dec0_1.bias": np.zeros(3, np.float32)}, r"unexpected key 'dec0_1\.bias'"),
    ):
        wrong = {k: v for k, v in (arrays | change).items() if v is not None}
        with pytest.raises(WeightsError, match=rf"wrong\.npz: .*{sentence}"):
            weights.load("pcakd", as_npz(tmp_path / "wrong.npz", wrong))
