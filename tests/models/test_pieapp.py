"""PieAPP: count, E(x, x) = 0, the forward pass against PIQ's with the same weights.

With the released weights: tests/weights/test_pieapp.py.
"""

from __future__ import annotations

import numpy as np
import piq
import piq.pieapp
import pytest
import torch
from piq.functional import crop_patches
from skimage import data
from torch import Tensor

from enhancelib.models.pieapp import PieAPP


def pair(height: int, width: int) -> tuple[Tensor, Tensor]:
    """Two real photos, and both noisier, and darker from left to right."""
    cuts = [p[50 : 50 + height, 80 : 80 + width] for p in (data.coffee(), data.astronaut())]
    clean = torch.stack([torch.from_numpy(np.ascontiguousarray(c)).movedim(-1, 0) for c in cuts])
    clean = clean.float() / 255
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    return clean, (torch.linspace(1, 0.3, width) * clean + 0.05 * noise).clamp(0, 1)


@pytest.fixture(scope="module")
def network() -> PieAPP:
    """Convolutions scaled up, so that the deep features, and with them the weights, count."""
    made = PieAPP(generator=torch.Generator().manual_seed(0)).eval().requires_grad_(False)
    for number in range(1, 12):
        made.get_parameter(f"conv{number}.weight").mul_(6**0.5)
    made.get_parameter("fc2_weight.weight").mul_(10)
    return made


def test_published_parameter_count(network: PieAPP) -> None:
    assert sum(p.numel() for p in network.parameters()) == 68_376_580
    assert (network.options, network.stride) == ({"stride": 27}, 27)


@torch.no_grad()
def test_nothing_differs_from_itself(network: PieAPP) -> None:
    reference, distorted = pair(64, 91)
    assert float(network(reference, reference).abs().max()) < 1e-6
    assert float(network(reference, distorted).abs().min()) > 1e-5


@torch.no_grad()
@pytest.mark.parametrize("stride", [27, 40])
def test_equals_piq_with_the_same_weights(
    network: PieAPP, stride: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference, distorted = pair(100, 127)  # a rest below and at the right, which neither sees
    theirs = piq.pieapp.PieAPPModel().eval()
    theirs.load_state_dict(network.state_dict(), strict=True)
    (f_reference, w_reference), (f_distorted, w_distorted) = (
        theirs(crop_patches(picture * 255, size=64, stride=stride))
        for picture in (reference, distorted)
    )
    score, weight = theirs.compute_difference(f_reference - f_distorted, w_reference - w_distorted)
    score, weight = score.view(2, -1), weight.view(2, -1)
    expected = (score * weight).sum(1) / weight.sum(1)
    monkeypatch.setattr(network, "stride", stride)
    ours = network(reference, distorted)
    assert score.shape[1] == {27: 6, 40: 2}[stride]
    plain = score.mean(1)  # what it would be if the weights did not count
    assert float((expected - plain).abs().min()) > 0.01 * float(expected.abs().max())
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=0)
    assert float((network(distorted, reference) - ours).abs().max()) > 1e-5  # not symmetric
    features = network.features(crop_patches(reference * 255, size=64, stride=stride))
    torch.testing.assert_close(features, f_reference, rtol=1e-4, atol=1e-3)


@torch.no_grad()
def test_patches_in_parts_give_the_same(network: PieAPP, monkeypatch: pytest.MonkeyPatch) -> None:
    reference, distorted = pair(91, 91)
    whole = network(reference, distorted)
    monkeypatch.setattr("enhancelib.models.pieapp._CHUNK", 3)  # 8 pairs, parts across pictures
    torch.testing.assert_close(network(reference, distorted), whole, rtol=1e-4, atol=1e-7)
    one = network(reference[1:], distorted[1:])
    torch.testing.assert_close(one, whole[1:], rtol=1e-4, atol=1e-7)


def test_gradients_reach_both_pictures(network: PieAPP) -> None:
    pictures = [picture[:1].requires_grad_() for picture in pair(64, 64)]
    for grad in torch.autograd.grad(network(*pictures).sum(), pictures):
        assert float(grad.abs().max()) > 0


@pytest.mark.parametrize(
    ("reference", "distorted", "sentence"),
    [
        ((1, 3, 63, 64), (1, 3, 63, 64), "reference .* sides of at least 64"),
        ((1, 1, 64, 64), (1, 1, 64, 64), r"reference has shape \(1, 1, 64, 64\)"),
        ((0, 3, 64, 64), (0, 3, 64, 64), r"reference has shape \(0, 3, 64, 64\)"),
        ((2, 3, 64, 64), (1, 3, 64, 64), r"distorted has shape \(1, 3, 64, 64\); expected \(2, "),
    ],
)
def test_what_does_not_fit_is_named(
    network: PieAPP, reference: tuple[int, ...], distorted: tuple[int, ...], sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        network(torch.zeros(reference), torch.zeros(distorted))


@pytest.mark.parametrize("stride", [0, -3, 2.0, True])
def test_a_stride_is_a_positive_integer(stride: int) -> None:
    with pytest.raises(ValueError, match="expected a positive integer, such as 27"):
        PieAPP(stride)
