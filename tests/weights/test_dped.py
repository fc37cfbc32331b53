"""DPED and SRCNN from the authors' files: recognised, and equal to the official code's output.

The figures are those of mpse-mdie.md A.9 and prad.md 7.2. All 400 pairs take DPED 40 s; the first
50 are the first batch of its PSNR.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from enhancelib import images, models, weights
from enhancelib.metrics import METRICS
from enhancelib.weights import WeightsError
from tests import bundles

Array = np.ndarray[Any, Any]
ADAM = ("Adam", "Adam_1")


@cache
def pairs(folder: Path, count: int) -> tuple[Tensor, Tensor]:
    phone, canon = (
        torch.stack([images.read(folder / side / f"{i}.jpg") for i in range(count)])
        for side in ("iphone", "canon")
    )
    return phone, canon


@torch.inference_mode()
def enhanced(network: nn.Module, phone: Tensor) -> Tensor:
    return torch.cat([network(one) for one in phone.split(10)])


def same(first: nn.Module, second: nn.Module) -> bool:
    a, b = first.state_dict(), second.state_dict()
    return list(a) == list(b) and all(torch.equal(a[key], b[key]) for key in a)


def as_npz(path: Path, arrays: dict[str, Array]) -> Path:
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return path


@torch.inference_mode()
def test_the_official_output_comes_back(assets: Path) -> None:
    folder = assets / "weights" / "dped"
    network = weights.load("dped", folder / "iphone_orig.npz")
    assert network.options == {"blocks": 4, "width": 64, "norm": "instance"}
    with np.load(folder / "golden_official_tf.npz") as golden:
        phone = torch.from_numpy(golden["input_u8"]).permute(0, 3, 1, 2).float() / 255
        official = torch.from_numpy(golden["iphone_orig"]).permute(0, 3, 1, 2)
    torch.testing.assert_close(network(phone), official, atol=1e-5, rtol=0)
    torch.testing.assert_close(models.fast(network)(phone), official, atol=1e-5, rtol=0)


def test_one_network_from_npz_and_checkpoint(assets: Path) -> None:
    folder = assets / "weights" / "dped"
    npz = weights.load("dped", folder / "iphone_orig.npz")
    for name in ("iphone_orig", "iphone_orig.index", "iphone_orig.data-00000-of-00001"):
        assert same(weights.load("dped", folder / name), npz)
    assert [file.name for file in weights.files(folder / "iphone_orig")] == [
        "iphone_orig.index",
        "iphone_orig.data-00000-of-00001",
    ]
    assert weights.files(folder / "iphone_orig.npz") == (folder / "iphone_orig.npz",)


def test_dped_scores_on_50_real_pairs(assets: Path) -> None:
    phone, canon = pairs(assets / "data" / "dped" / "patches", 50)
    output = enhanced(weights.load("dped", assets / "weights/dped/iphone_orig"), phone)
    psnr = METRICS["psnr"](output.clamp(0, 1), canon)
    expected = [21.773, 29.470, 27.049, 14.685, 18.456, 19.122, 25.341, 24.730]
    np.testing.assert_allclose(psnr[:8], expected, atol=2e-3)
    np.testing.assert_allclose(output[:8].mean((0, 2, 3)), [0.3839, 0.3949, 0.3703], atol=1e-4)
    # over all 400, which take too long here, the same lines gave 19.932 and 0.92139: published are
    # 19.93 and 0.9214
    batch = METRICS["psnr_dped"]
    assert batch.summary(batch(output, canon)) == pytest.approx(20.185, abs=2e-3)
    ms_ssim = METRICS["ms_ssim_dped"]
    assert ms_ssim.summary(ms_ssim(output, canon)) == pytest.approx(0.92312, abs=2e-4)


def test_srcnn_scores_on_all_400_real_pairs(assets: Path) -> None:
    phone, canon = pairs(assets / "data" / "dped" / "patches", 400)
    output = enhanced(weights.load("srcnn", assets / "weights/dped/dped_srcnn.npz"), phone)
    psnr = METRICS["psnr"](output.clamp(0, 1), canon)
    expected = [22.327, 27.147, 22.481, 11.940, 27.401, 18.126, 27.360, 14.287]
    np.testing.assert_allclose(psnr[:8], expected, atol=2e-3)
    np.testing.assert_allclose(output[:8].mean((0, 2, 3)), [0.3416, 0.3399, 0.3147], atol=1e-4)
    assert METRICS["psnr"].summary(psnr) == pytest.approx(21.334, abs=2e-3)
    batch = METRICS["psnr_dped"]
    assert batch.summary(batch(output, canon)) == pytest.approx(18.68, abs=0.01)
    ms_ssim = METRICS["ms_ssim_dped"]
    # 0.90401 over all 400 as published; a quarter of the time over the first 100
    first = ms_ssim(output[:100], canon[:100])
    assert ms_ssim.summary(first) == pytest.approx(0.89249, abs=2e-4)


@pytest.mark.parametrize(("blocks", "width"), [(1, 16), (2, 6), (4, 6), (8, 4)])
@pytest.mark.parametrize("scope", ["generator/", "generator.", "", "model/generator/"])
def test_blocks_and_width_are_recognised(
    blocks: int, width: int, scope: str, tmp_path: Path
) -> None:
    arrays = bundles.dped(blocks, width, scope)
    network = weights.load("dped", as_npz(tmp_path / "net.npz", arrays))
    assert network.options == {"blocks": blocks, "width": width, "norm": "instance"}
    checkpoint = bundles.write(tmp_path / "net.ckpt", arrays)
    assert same(weights.load("dped", checkpoint), network)


# mpse-mdie.md A.3.1; the last two are the ResNet-20 and ResNet-32 of prad.md 3.1
@pytest.mark.parametrize(
    ("blocks", "width", "count"),
    [(2, 32, 71_331), (4, 64, 401_475), (8, 64, 697_923), (14, 64, 1_142_595)],
)
def test_published_sizes(blocks: int, width: int, count: int, tmp_path: Path) -> None:
    network = weights.load("dped", as_npz(tmp_path / "net.npz", bundles.dped(blocks, width)))
    assert sum(parameter.numel() for parameter in network.parameters()) == count


@torch.no_grad()
def test_tensors_go_where_the_official_code_has_them(tmp_path: Path) -> None:
    arrays = bundles.dped(2, 5, "")
    network = weights.load("dped", as_npz(tmp_path / "net.npz", arrays))
    w = {key: torch.from_numpy(value) for key, value in arrays.items()}

    def conv(x: Tensor, k: int) -> Tensor:
        kernel = w[f"W{k}"].permute(3, 2, 0, 1)
        return nn.functional.conv2d(x, kernel, w[f"b{k}"], padding=kernel.shape[-1] // 2)

    def normalised(x: Tensor, number: int) -> Tensor:
        shift = w[f"Variable_{2 * number}" if number else "Variable"][:, None, None]
        scale = w[f"Variable_{2 * number + 1}"][:, None, None]
        mean = x.mean((2, 3), keepdim=True)
        spread = (x - mean).square().mean((2, 3), keepdim=True)
        return scale * (x - mean) / (spread + 1e-3).sqrt() + shift

    photo = torch.rand(2, 3, 23, 31, generator=torch.Generator().manual_seed(0))
    c1 = conv(photo, 1).relu()
    c3 = normalised(conv(normalised(conv(c1, 2), 0).relu(), 3), 1).relu() + c1
    c5 = normalised(conv(normalised(conv(c3, 4), 2).relu(), 5), 3).relu() + c3
    last = conv(conv(conv(c5, 6).relu(), 7).relu(), 8)
    torch.testing.assert_close(network(photo), last.tanh() * 0.58 + 0.5, atol=1e-5, rtol=0)


def test_what_training_leaves_beside_the_network_is_ignored(tmp_path: Path) -> None:
    arrays = bundles.dped(1, 4)
    plain = weights.load("dped", as_npz(tmp_path / "plain.npz", arrays))
    more = dict(arrays)
    for key, value in arrays.items():
        more |= {f"{key}/{slot}": value + 1 for slot in ADAM}
    more |= {name: np.array(0.5, np.float32) for name in ("generator/beta1_power", "beta2_power_1")}
    more |= {"global_step": np.array(7, np.int64), "learning_rate/Variable": np.zeros(())}
    more |= {"discriminator/Variable": np.zeros((11, 11, 1, 48), np.float32)}
    named = {f"{key}:0": value for key, value in more.items()}
    assert same(weights.load("dped", as_npz(tmp_path / "more.npz", named)), plain)
    objects = {f"{key}/.ATTRIBUTES/VARIABLE_VALUE": value for key, value in more.items()}
    assert same(weights.load("dped", bundles.write(tmp_path / "objects", objects)), plain)


@pytest.mark.parametrize("prefix", ["", "generator.", "module."])
@pytest.mark.parametrize("norm", ["instance", "batch", "none"])
def test_our_own_state_dicts(norm: str, prefix: str, tmp_path: Path) -> None:
    network = models.build("dped", blocks=3, width=6, norm=norm)
    state = {f"{prefix}{key}": value for key, value in network.state_dict().items()}
    torch.save({"state_dict": state}, tmp_path / "net.pth")
    loaded = weights.load("dped", tmp_path / "net.pth")
    assert loaded.options == network.options
    assert same(loaded, network)
    srcnn = models.build("srcnn")
    torch.save({f"{prefix}{k}": v for k, v in srcnn.state_dict().items()}, tmp_path / "srcnn.pth")
    assert same(weights.load("srcnn", tmp_path / "srcnn.pth"), srcnn)


def test_saved_networks_come_back(tmp_path: Path) -> None:
    network = models.build("dped", blocks=1, width=6)
    path = tmp_path / "net.safetensors"
    weights.save(network, path, name="dped", options=network.options, card={"psnr": 20.0})
    assert same(weights.load("dped", path), network)


def without(name: str, **more: Array) -> dict[str, Array]:
    arrays = {key: value for key, value in bundles.dped(2, 4).items() if key != name}
    return arrays | {key.replace("__", "/"): value for key, value in more.items()}


ONES = np.ones(4, np.float32)


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        (without("generator/W5"), "key 'W5' is missing"),
        (without("generator/b1"), "key 'b1' is missing"),
        (without("generator/W8"), "key 'W8' is missing"),
        (without("generator/Variable_3"), "key 'Variable_3' is missing; 7 unnamed variables, expe"),
        (without("generator/Variable"), "key 'Variable' is missing"),
        (without("", generator__Variable_8=ONES), "unexpected key 'generator/Variable_8'; 9 unna"),
        (without("", generator__fc=ONES), "unexpected key 'generator/fc'; a DPED generator has"),
        (without("", generator__b9=ONES), "key 'W9' is missing"),
        (without("", other__W1=ONES), "holds networks under 'generator' and 'other'"),
        (without("", generator__Variable_5=np.ones(5)),
         r"'generator/Variable_5' has shape \(5,\); expected \(4,\), as many as 'generator/W4'"),
        (without("", generator__W1=np.ones((9, 9, 3, 5))), r"bias of 'generator/W1' has shape"),
        (without("", generator__W3=np.ones((3, 3, 4, 5))),
         r"'generator/W3' has shape \(3, 3, 4, 5\); expected \(3, 3, 4, 4\)"),
        (without("", generator__W3=np.ones((3, 3))), r"has shape \(3, 3\); expected \(height"),
        (without("", generator__W8=np.full((9, 9, 4, 3), np.nan)), "'last.weight' holds NaN"),
        (bundles.ppcn("student", "generator_little/"), "holds 5 numbered convolutions; a DPED"),
        (bundles.ppcn("teacher", "generator_t/"),
         r"'generator_t/W0' has shape \(1, 7, 3, 16\); expected \(9, 9, 3, 16\)"),
        ({"global_step": np.ones(())}, "holds networks under no scope; expected one, a DPED"),
    ],
)  # fmt: skip
def test_the_first_misfit_is_named(arrays: dict[str, Array], sentence: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=rf"wrong\.npz: .*{sentence}"):
        weights.load("dped", as_npz(tmp_path / "wrong.npz", arrays))


def test_one_variable_under_two_names(tmp_path: Path) -> None:
    arrays = without("", **{"generator__W1:0": np.ones(4)})
    with pytest.raises(WeightsError, match="'generator/W1' and 'generator/W1:0' are the same"):
        weights.load("dped", as_npz(tmp_path / "twice.npz", arrays))


def srcnn(**changes: Array) -> dict[str, Array]:
    found = {
        f"generator/{field}{k}": np.full(shape, 0.01 * k, np.float32)
        for k, kernel in enumerate(((9, 9, 3, 64), (5, 5, 64, 32), (5, 5, 32, 3)), start=1)
        for field, shape in (("w", kernel), ("b", (1,) if k == 3 else kernel[-1:]))
    }
    return found | {f"generator/{key}": value for key, value in changes.items()}


def test_srcnn_under_a_scope_and_with_a_plain_number_as_bias(tmp_path: Path) -> None:
    network = weights.load("srcnn", bundles.write(tmp_path / "dped_srcnn", srcnn()))
    assert network.bias.item() == pytest.approx(0.03)
    scalar = as_npz(tmp_path / "net.npz", srcnn(b3=np.float32(0.03)))
    assert same(weights.load("srcnn", scalar), network)


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        (srcnn(b3=np.ones(3)), "the last bias has 3 values; that of SRCNN is one"),
        (srcnn(w2=np.ones((5, 5, 64, 64))), r"'generator/w2' has shape \(5, 5, 64, 64\)"),
        (srcnn(Variable=np.ones(3)), "unexpected key 'generator/Variable'"),
        (bundles.dped(4, 64), "holds 12 numbered convolutions; SRCNN has 3"),
    ],
)
def test_another_srcnn_is_refused(arrays: dict[str, Array], sentence: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=rf"wrong\.npz: {sentence}"):
        weights.load("srcnn", as_npz(tmp_path / "wrong.npz", arrays))
