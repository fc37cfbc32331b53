"""PPCN from the authors' files, and from files laid out by the rules of theirs.

The figures are those of prad.md 7.2. The teacher's file is at nobody's hand here: its layout is
that of train/models.py in Zheng222/PPCN.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from enhancelib import models, weights
from enhancelib.metrics import METRICS
from enhancelib.weights import WeightsError
from tests import bundles
from tests.weights.test_dped import as_npz, enhanced, pairs, same

Array = np.ndarray[Any, Any]


# all but the first row's list are this port's own, once its means gave the published ones
@pytest.mark.parametrize(
    ("file", "first", "rgb", "psnr", "ms_ssim"),
    [
        (
            "ppcn_student.npz",
            [22.626, 30.476, 26.838, 14.114, 18.089, 25.074, 26.980, 19.146],
            [0.3566, 0.3682, 0.3371],
            22.562,
            0.9254,
        ),
        (
            "ppcn_student_wo_kd.npz",
            [21.876, 30.273, 25.689, 14.322, 19.982, 20.394, 27.625, 19.315],
            [0.3734, 0.3807, 0.3557],
            22.359,
            0.9241,
        ),
    ],
)
def test_student_scores_on_all_400_real_pairs(
    assets: Path, file: str, first: list[float], rgb: list[float], psnr: float, ms_ssim: float
) -> None:
    network = weights.load("ppcn", assets / "weights" / "ppcn" / file)
    assert network.options == {"kind": "student"}
    phone, canon = pairs(assets / "data" / "dped" / "patches", 400)
    output = enhanced(network, phone)
    values = METRICS["psnr"](output.clamp(0, 1), canon)
    np.testing.assert_allclose(values[:8], first, atol=2e-3)
    np.testing.assert_allclose(output[:8].mean((0, 2, 3)), rgb, atol=1e-4)
    assert METRICS["psnr"].summary(values) == pytest.approx(psnr, abs=2e-3)
    scorer = METRICS["ms_ssim_dped"]
    assert scorer.summary(scorer(output, canon)) == pytest.approx(ms_ssim, abs=2e-4)


@pytest.mark.parametrize("scope", ["generator_little.", "generator_s/", "generator_t/", ""])
@pytest.mark.parametrize("kind", ["student", "teacher"])
def test_the_kind_is_recognised_under_any_scope(kind: str, scope: str, tmp_path: Path) -> None:
    arrays = bundles.ppcn(kind, scope)
    network = weights.load("ppcn", as_npz(tmp_path / "net.npz", arrays))
    assert network.options == {"kind": kind}
    assert same(weights.load("ppcn", bundles.write(tmp_path / f"{kind}.ckpt", arrays)), network)
    slots = {f"{key}/Adam:0": value for key, value in arrays.items()}
    more = arrays | slots | {"learning_rate/Variable": np.float32(1), "beta1_power": np.float32(1)}
    assert same(weights.load("ppcn", as_npz(tmp_path / "more.npz", more)), network)


def official(w: dict[str, Tensor], kind: str, photo: Tensor) -> Tensor:
    """Operation by operation after the released graph, on its own variables."""

    def conv(x: Tensor, k: int, rate: int = 1) -> Tensor:
        kernel = w[f"W{k}"].permute(3, 2, 0, 1)
        sides = [rate * (size // 2) for size in (*kernel.shape[:1:-1],)]
        x = nn.functional.pad(x, (sides[0], sides[0], sides[1], sides[1]))
        return nn.functional.conv2d(x, kernel, w[f"b{k}"], dilation=rate)

    def norm(x: Tensor, number: int) -> Tensor:
        shift = w[f"Variable_{2 * number}" if number else "Variable"][:, None, None]
        scale = w[f"Variable_{2 * number + 1}"][:, None, None]
        mean = x.mean((2, 3), keepdim=True)
        spread = (x - mean).square().mean((2, 3), keepdim=True)
        return scale * (x - mean) / (spread + 1e-3).sqrt() + shift

    def act(x: Tensor) -> Tensor:
        return torch.maximum(0.05 * x, x)

    mean = photo.mean((2, 3), keepdim=True)
    c1 = act(conv(act(conv((photo - mean) * 1.2 + mean, 0)), 1))
    if kind == "student":
        c2 = act(norm(conv(c1, 2, rate=2), 0))
        c3 = act(norm(conv(c2, 3, rate=2), 1)) + c1
        return conv(c3, 4).tanh() * 0.58 + 0.5
    c3 = norm(conv(act(norm(conv(c1, 2), 0)), 3), 1) + c1
    c5 = norm(conv(act(norm(conv(c3, 4, rate=2), 2)), 5, rate=2), 3) + c3
    c6 = act(conv(torch.cat((c3, c5), 1), 6))
    return conv(c6, 7).tanh() * 0.58 + 0.5


@torch.no_grad()
@pytest.mark.parametrize("kind", ["student", "teacher"])
def test_tensors_go_where_the_official_code_has_them(kind: str, tmp_path: Path) -> None:
    arrays = bundles.ppcn(kind, "")
    network = weights.load("ppcn", as_npz(tmp_path / "net.npz", arrays))
    photo = torch.rand(2, 3, 23, 31, generator=torch.Generator().manual_seed(0))
    expected = official({k: torch.from_numpy(v) for k, v in arrays.items()}, kind, photo)
    assert float(expected.std()) > 0.1
    torch.testing.assert_close(network(photo), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", ["student", "teacher"])
def test_our_own_state_dicts(kind: str, tmp_path: Path) -> None:
    network = models.build("ppcn", kind=kind)
    for prefix in ("", "generator."):
        state = {f"{prefix}{key}": value for key, value in network.state_dict().items()}
        torch.save(state, tmp_path / "net.pth")
        assert same(weights.load("ppcn", tmp_path / "net.pth"), network)


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        (bundles.dped(4, 64), r"holds 12 numbered convolutions; a PPCN has 5 \(student\) or 8"),
        (bundles.dped(2, 8), r"'generator/W1' has shape \(9, 9, 3, 8\); expected \(1, 7, 3, 16\)"),
        (bundles.ppcn("student", "s/") | bundles.ppcn("teacher", "t/"), "networks under 's' and"),
        (bundles.ppcn("teacher", "t/") | {"t/Variable_8": np.ones(16)}, "unexpected key 't/Var"),
        ({k: v for k, v in bundles.ppcn("teacher", "t/").items() if k != "t/Variable_6"},
         "key 'Variable_6' is missing; 7 unnamed variables, expected 8"),
        (bundles.ppcn("student", "s/") | {"s/Variable_2": np.ones(16)},
         r"'s/Variable_2' has shape \(16,\); expected \(8,\), as many as 's/W3' has outputs"),
    ],
)  # fmt: skip
def test_the_first_misfit_is_named(arrays: dict[str, Array], sentence: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=rf"wrong\.npz: .*{sentence}"):
        weights.load("ppcn", as_npz(tmp_path / "wrong.npz", arrays))
