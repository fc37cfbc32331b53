"""PPCN: published counts, any size, contrast, what each size adds where.

That its values are those of the released graph is tested in tests/weights/test_ppcn.py.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from skimage import data
from torch import Tensor, nn

from enhancelib import models
from enhancelib.models.ppcn import LAYERS, PPCN, contrast

KINDS = ("student", "teacher")


def draw(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def photo() -> Tensor:
    picture = torch.from_numpy(data.coffee()[100:161, 200:247].copy())
    return picture.movedim(-1, 0)[None].float() / 255


@pytest.mark.parametrize(("kind", "expected"), [("student", 2_715), ("teacher", 21_843)])
def test_published_parameter_counts(kind: str, expected: int) -> None:
    network = models.build("ppcn", kind=kind)
    assert sum(parameter.numel() for parameter in network.parameters()) == expected
    assert models.build("ppcn", **network.options).options == {"kind": kind}


@torch.no_grad()
@pytest.mark.parametrize("size", [(1, 2), (5, 7), (33, 20)])
@pytest.mark.parametrize("kind", KINDS)
def test_any_size_comes_back(kind: Any, size: tuple[int, int]) -> None:
    degraded = torch.rand(2, 3, *size, generator=draw())
    assert PPCN(kind)(degraded).shape == degraded.shape


@pytest.mark.parametrize("kind", KINDS)
def test_the_layers_are_those_of_the_table(kind: Any) -> None:
    network = PPCN(kind)
    for conv, (incoming, outgoing, kernel, dilation, _) in zip(
        network.convs, LAYERS[kind], strict=True
    ):
        assert isinstance(conv, nn.Conv2d)
        assert (conv.in_channels, conv.out_channels) == (incoming, outgoing)
        assert (conv.kernel_size, conv.dilation) == (kernel, (dilation, dilation))
    assert [norm.num_features for norm in network.norms] == [
        outgoing for _, outgoing, _, _, normalised in LAYERS[kind] if normalised
    ]
    assert {norm.eps for norm in network.norms} == {1e-3}


def test_contrast_is_raised_about_the_mean_of_each_channel_of_each_picture() -> None:
    pictures = torch.cat((photo(), photo().flip(1) * 0.3))
    raised = contrast(pictures)
    torch.testing.assert_close(raised.mean((2, 3)), pictures.mean((2, 3)))
    torch.testing.assert_close(raised.std((2, 3)), 1.2 * pictures.std((2, 3)))
    assert float(raised.min()) < 0  # not clipped
    torch.testing.assert_close(contrast(pictures, 1.0), pictures)
    torch.testing.assert_close(contrast(pictures)[1:], contrast(pictures[1:]))


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_the_arrangement_for_inference_gives_the_same(kind: Any) -> None:
    network = PPCN(kind, generator=draw()).eval()
    for parameter in network.parameters():
        parameter.add_(torch.empty_like(parameter).normal_(std=0.1, generator=draw(1)))
    plain = network(photo())
    assert float(plain.std()) > 0.05
    torch.testing.assert_close(models.fast(network)(photo()), plain, atol=1e-5, rtol=0)


def test_initial_weights_are_cut_at_two_standard_deviations() -> None:
    weights = torch.cat([conv.weight.flatten() for conv in PPCN("teacher").convs]).detach()
    assert float(weights.abs().max()) <= 0.02
    assert float(weights.std()) == pytest.approx(0.01 * 0.8796, rel=0.03)


def test_another_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="kind is 'pupil'; expected 'student' or 'teacher'"):
        models.build("ppcn", kind="pupil")
