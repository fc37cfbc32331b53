"""Box mean, guided filter and stretch against loops over windows that spell the equations out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from skimage import data
from torch import Tensor

from enhancelib import filters

Array = NDArray[np.float64]


def photo(name: str, *, rows: slice = slice(96, 118), columns: slice = slice(110, 137)) -> Tensor:
    picture = np.ascontiguousarray(getattr(data, name)()[rows, columns])
    return torch.from_numpy(picture).permute(2, 0, 1)[None] / 255


def window(y: int, x: int, radius: int, shape: tuple[int, ...]) -> tuple[slice, slice]:
    return (
        slice(max(y - radius, 0), min(y + radius + 1, shape[0])),
        slice(max(x - radius, 0), min(x + radius + 1, shape[1])),
    )


def loops(I: Array, p: Array, radius: int, eps: float) -> Array:  # noqa: E741
    """Eqs. 14-16 of the paper: I (H, W, D), p (H, W), one ridge regression per window."""
    H, W, D = I.shape
    a, b = np.zeros((H, W, D)), np.zeros((H, W))
    for y in range(H):
        for x in range(W):
            inside = window(y, x, radius, p.shape)
            colours, values = I[inside].reshape(-1, D), p[inside].ravel()
            centred = colours - colours.mean(0)
            Sigma = centred.T @ centred / len(values)
            slope = centred.T @ (values - values.mean()) / len(values)
            a[y, x] = np.linalg.inv(Sigma + eps * np.eye(D)) @ slope
            b[y, x] = values.mean() - a[y, x] @ colours.mean(0)
    q = np.zeros((H, W))
    for y in range(H):
        for x in range(W):
            inside = window(y, x, radius, p.shape)
            q[y, x] = a[inside].reshape(-1, D).mean(0) @ I[y, x] + b[inside].mean()
    return q


@pytest.mark.parametrize("radius", [0, 1, 4, 40])
def test_box_is_the_mean_of_what_lies_inside(radius: int) -> None:
    picture = photo("astronaut")
    found = filters.box(picture, radius)
    p = picture[0].double().numpy()
    for y in range(p.shape[1]):
        for x in range(p.shape[2]):
            expected = p[:, *window(y, x, radius, p.shape[1:])].mean((1, 2))
            np.testing.assert_allclose(found[0, :, y, x].numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("grey", [True, False])
@pytest.mark.parametrize(("radius", "eps"), [(1, 1e-6), (4, 1e-4), (30, 1e-2)])
def test_the_filter_is_a_ridge_regression_per_window(radius: int, eps: float, grey: bool) -> None:
    guide, source = photo("astronaut").double(), photo("chelsea").double()
    if grey:
        guide = guide.mean(1, keepdim=True)
    q = filters.guided_filter(guide, source, radius, eps)
    I = guide[0].permute(1, 2, 0).numpy()  # noqa: E741
    for channel in range(3):
        expected = loops(I, source[0, channel].numpy(), radius, eps)
        np.testing.assert_allclose(q[0, channel].numpy(), expected, rtol=0, atol=1e-8)


@pytest.mark.parametrize("channels", [1, 3])
def test_float32_loses_nothing_where_windows_are_flat(channels: int) -> None:
    guide = 0.9 + 1e-3 * photo("astronaut")[:, :channels]
    source = photo("chelsea")
    single = filters.guided_filter(guide, source, 3, 1e-9)
    double = filters.guided_filter(guide.double(), source.double(), 3, 1e-9)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), double, atol=2e-6, rtol=0)


def test_a_batch_is_its_pictures_and_one_guide_serves_all() -> None:
    guides = torch.cat([photo("astronaut"), photo("coffee")])
    sources = torch.cat([photo("chelsea"), photo("astronaut")])
    both = filters.guided_filter(guides, sources, 3, 1e-3)
    for one, guide, source in zip(both, guides, sources, strict=True):
        alone = filters.guided_filter(guide[None], source[None], 3, 1e-3)
        torch.testing.assert_close(one[None], alone)
    shared = filters.guided_filter(guides[:1], sources, 3, 1e-3)
    torch.testing.assert_close(shared[1:], filters.guided_filter(guides[:1], sources[1:], 3, 1e-3))


def test_an_affine_function_of_the_guide_stays() -> None:
    guide = photo("astronaut").double()
    weights = torch.tensor([0.3, -0.5, 0.9], dtype=torch.float64).view(3, 1, 1)
    source = (weights * guide).sum(1, keepdim=True) + 0.1
    torch.testing.assert_close(
        filters.guided_filter(guide, source, 4, 1e-12), source, atol=1e-6, rtol=0
    )


def test_gradients_reach_guide_and_source() -> None:
    draw = torch.Generator().manual_seed(0)
    guide = torch.rand(1, 3, 5, 6, generator=draw, dtype=torch.float64, requires_grad=True)
    source = torch.rand(1, 2, 5, 6, generator=draw, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda g, s: filters.guided_filter(g, s, 2, 1e-2), (guide, source)
    )


def test_a_large_eps_is_the_box_twice() -> None:
    guide, source = photo("astronaut").double(), photo("chelsea").double()
    twice = filters.box(filters.box(source, 3), 3)
    found = filters.guided_filter(guide, source, 3, 1e9)
    torch.testing.assert_close(found, twice, atol=1e-9, rtol=0)


def test_stretch_counts_pixels_of_every_channel() -> None:
    picture = photo("astronaut", rows=slice(0, 200), columns=slice(0, 200))
    found = filters.percent_stretch(picture, 0.01)
    for channel, values in zip(found[0], picture[0].flatten(1), strict=True):
        low, high = np.sort(values.numpy())[[400, -401]]
        expected = ((values - low) / (high - low)).clamp(0, 1)
        torch.testing.assert_close(channel.flatten(), expected)
    assert float((found == 0).float().mean()) >= 0.01 <= float((found == 1).float().mean())
    grey = torch.full((1, 3, 8, 8), 0.3)
    assert torch.equal(filters.percent_stretch(grey), grey)


@pytest.mark.parametrize(
    ("radius", "eps", "sentence"),
    [
        (0, 1e-4, "radius is 0; expected 1 or more"),
        (4, 0.0, "eps is 0.0; expected a positive"),
        (4, float("nan"), "eps is nan"),
    ],
)
def test_wrong_numbers_are_refused(radius: int, eps: float, sentence: str) -> None:
    picture = photo("astronaut")
    with pytest.raises(ValueError, match=sentence):
        filters.guided_filter(picture, picture, radius, eps)


def test_wrong_tensors_are_refused() -> None:
    picture = photo("astronaut")
    with pytest.raises(ValueError, match=r"source is torch.float32 of shape \(3, 22, 27\)"):
        filters.guided_filter(picture, picture[0], 4, 1e-4)
    with pytest.raises(ValueError, match=r"guide is torch\.uint8"):
        filters.guided_filter((255 * picture).byte(), picture, 4, 1e-4)
    with pytest.raises(ValueError, match="expected one size"):
        filters.guided_filter(picture.expand(2, -1, -1, -1), picture, 4, 1e-4)
    with pytest.raises(ValueError, match="radius is -1"):
        filters.box(picture, -1)
    with pytest.raises(ValueError, match=r"share is -0\.1"):
        filters.percent_stretch(picture, -0.1)
