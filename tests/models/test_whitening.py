"""Whitening and colouring against a decomposition in NumPy; padding; what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from skimage import data
from torch import Tensor

from enhancelib.models import _whitening
from enhancelib.models._whitening import coloured, padded

Array = npt.NDArray[np.float64]


def feature(picture: Any, channels: int) -> Tensor:
    """A real photo's pixels, mixed to some channels; float64."""
    pixels = torch.from_numpy(np.ascontiguousarray(picture)).movedim(-1, 0)[None].double() / 64
    generator = torch.Generator().manual_seed(channels)
    mixing = torch.randn(channels, 3, generator=generator, dtype=torch.float64)
    return torch.einsum("oc,bchw->bohw", mixing, pixels).square()


CONTENT, STYLE = data.coffee()[100:120, 200:230], data.chelsea()[50:66, 60:84]


def root(covariance: Array, inverse: bool) -> Array:
    """By singular values, as the released codes do."""
    vectors, values, _ = np.linalg.svd(covariance + np.eye(len(covariance)))
    return (vectors * values ** (-0.5 if inverse else 0.5)) @ vectors.T


def literal(content: Tensor, style: Tensor, less: int) -> Array:
    c, s = (x[0].flatten(1).numpy() for x in (content, style))
    mean = s.mean(1, keepdims=True)
    c, s = c - c.mean(1, keepdims=True), s - mean
    whitening = root(c @ c.T / (c.shape[1] - less), inverse=True)
    out: Array = root(s @ s.T / (s.shape[1] - less), inverse=False) @ whitening @ c + mean
    return out.reshape(content.shape[1:])


@pytest.mark.parametrize(("divisor", "less"), [("n", 0), ("n-1", 1)])
def test_equals_the_formula_in_numpy(divisor: Any, less: int) -> None:
    content, style = feature(CONTENT, 7), feature(STYLE, 7)
    expected = literal(content, style, less)
    np.testing.assert_allclose(coloured(content, style, divisor=divisor)[0], expected, rtol=1e-9)
    single = coloured(content.float(), style.float(), divisor=divisor)
    assert single.dtype == torch.float32
    np.testing.assert_allclose(single[0], expected, atol=1e-4 * float(np.abs(expected).max()))
    other = literal(content, style, 1 - less)  # the divisors do not give the same
    assert np.abs(other - expected).max() > 1e-6 * np.abs(expected).max()


def test_content_with_itself_is_left_alone() -> None:
    content = feature(CONTENT, 12)  # 12 mixtures of 3 channels squared: rank 6, nothing blows up
    assert int(torch.linalg.matrix_rank(content.flatten(2)[0] - content.mean((2, 3)).mT)) < 12
    torch.testing.assert_close(coloured(content, content, divisor="n"), content)


def test_a_batch_is_a_picture_at_a_time_and_one_style_serves_all() -> None:
    content = torch.cat((feature(CONTENT, 5), feature(CONTENT, 5).flip(2) * 2 + 1))
    styles = torch.cat((feature(STYLE, 5), feature(STYLE, 5).sqrt()))
    both = coloured(content, styles, divisor="n")
    for item in range(2):
        one = slice(item, item + 1)
        torch.testing.assert_close(both[one], coloured(content[one], styles[one], divisor="n"))
    shared = coloured(content, styles[1:], divisor="n")
    torch.testing.assert_close(shared[1:], both[1:])
    torch.testing.assert_close(shared.mean((2, 3)), styles[1:].mean((2, 3)).expand(2, -1))


def test_large_spreads_are_matched() -> None:
    """The identity that is added is small beside variances of hundreds."""
    content, style = feature(CONTENT, 3) * 30, feature(STYLE, 3) * 30
    out = coloured(content, style, divisor="n").flatten(2)[0]
    wanted = torch.cov(style.flatten(2)[0], correction=0)
    torch.testing.assert_close(torch.cov(out, correction=0), wanted, rtol=0.01, atol=5)


def test_padding_repeats_the_last_row_and_column() -> None:
    picture = torch.arange(30.0).view(1, 2, 3, 5)
    large = padded(picture, 4)
    assert large.shape == (1, 2, 4, 8)
    np.testing.assert_array_equal(
        large, np.pad(picture, ((0, 0), (0, 0), (0, 1), (0, 3)), mode="edge")
    )
    assert padded(picture, 1) is picture
    labels = torch.tensor([[1, 2], [3, 4]])
    assert padded(labels, 3).tolist() == [[1, 2, 2], [3, 4, 4], [3, 4, 4]]


@pytest.mark.parametrize(
    ("content", "style", "sentence"),
    [
        ((3, 16, 16), (1, 3, 16, 16), r"content has shape \(3, 16, 16\); expected \(B, 3, H, W\)"),
        ((1, 3, 15, 16), (1, 3, 16, 16), "content has .* sides of at least 16 pixels"),
        ((1, 3, 16, 16), (1, 1, 16, 16), r"style has shape \(1, 1, 16, 16\)"),
        ((1, 3, 16, 16), (2, 3, 16, 16), "style holds 2 pictures; expected 1, or 1 as content"),
    ],
)
def test_what_does_not_fit_is_named(content: Any, style: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        _whitening.check_pair(torch.zeros(content), torch.zeros(style), least=16)
