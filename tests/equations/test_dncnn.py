"""The numbered equations of the DnCNN notebook, held by value."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from enhancelib import models
from enhancelib.degradations import GaussianNoise
from enhancelib.losses import pixel
from enhancelib.models.dncnn import DnCNN
from tests.equations import transcriptions_dncnn as printed


def drawn(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("sigma", [0.0, 5.0, 25.0, 75.0])
@pytest.mark.parametrize("shape", [(2, 1, 5, 7), (1, 3, 1, 1)])
def test_noise_model(sigma: float, shape: tuple[int, ...]) -> None:
    x = torch.rand(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    y = GaussianNoise(sigma)({"clean": x}, torch.Generator().manual_seed(2))["degraded"]
    unit = GaussianNoise(255.0)({"clean": torch.zeros_like(x)}, torch.Generator().manual_seed(2))
    v = unit["degraded"]  # the same noise at standard deviation 1
    # the level is kept in float32, so it agrees to 7 digits
    np.testing.assert_allclose(y, printed.noisy(x.numpy(), v.numpy(), sigma), rtol=0, atol=1e-7)


def test_noise_is_gaussian_white_and_not_clipped() -> None:
    """What Eq. 3 says of v beyond its formula: moments, independence, and values outside [0, 1]."""
    x = torch.ones(4, 1, 128, 128, dtype=torch.float64)
    y = GaussianNoise(50.0)({"clean": x}, torch.Generator().manual_seed(3))["degraded"]
    v = (y - x) * 255 / 50
    n = v.numel()
    assert abs(float(v.mean())) < 4 / n**0.5
    assert abs(float(v.var()) - 1) < 4 * (2 / n) ** 0.5
    assert abs(float((v**4).mean()) - 3) < 4 * (96 / n) ** 0.5
    neighbours = float((v[..., 1:] * v[..., :-1]).mean())
    assert abs(neighbours) < 4 / n**0.5
    assert float(y.max()) > 1.3


@pytest.mark.parametrize("size", [(1, 1), (4, 5), (6, 3)])
@pytest.mark.parametrize("c", [1, 3])
def test_restoration(c: int, size: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(4)
    network = DnCNN(D=3, c=c, width=3, norm="none", generator=generator).double()
    convolutions = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    for k, layer in enumerate(convolutions):
        assert layer.bias is not None
        layer.bias.data = 0.1 * drawn(len(layer.bias), seed=10 + k)
    y = drawn(1, c, *size, seed=5)
    wanted = printed.restored(
        y[0].numpy(),
        [layer.weight.detach().numpy() for layer in convolutions],
        [layer.bias.detach().numpy() for layer in convolutions if layer.bias is not None],
    )
    with torch.no_grad():
        found, parts = network(y), network.outputs(y)
    np.testing.assert_allclose(found[0], wanted, rtol=0, atol=1e-12)
    np.testing.assert_allclose(parts["residual"][0], y[0].numpy() - wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (3, 1, 4, 5), (2, 3, 3, 2)])
def test_loss(shape: tuple[int, ...]) -> None:
    y, x, residual = drawn(*shape, seed=6), drawn(*shape, seed=7), drawn(*shape, seed=8)
    wanted = printed.half_sse(residual.numpy(), y.numpy(), x.numpy())
    assert float(pixel.half_sse(residual, y - x)) == pytest.approx(wanted, rel=1e-12)
    # the library minimises it on the restored picture: the same value, since x_hat = y - R(y)
    assert float(pixel.half_sse(y - residual, x)) == pytest.approx(wanted, rel=1e-12)


def test_loss_gradient() -> None:
    x = drawn(2, 1, 3, 3, seed=9)
    assert torch.autograd.gradcheck(
        pixel.half_sse, (drawn(2, 1, 3, 3, seed=10).requires_grad_(), x)
    )


@pytest.mark.parametrize("variance", [0.0, 1e-4, 2.5])
@pytest.mark.parametrize("bias", [True, False])
def test_folding(variance: float, bias: bool) -> None:
    conv = nn.Conv2d(2, 3, 3, padding=1, bias=bias).double()
    norm = nn.BatchNorm2d(3, eps=1e-4).double()
    gamma, beta, mean = (drawn(3, seed=20 + k) for k in range(3))
    norm.weight.data, norm.bias.data = gamma, beta
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.running_mean.copy_(mean)
    norm.running_var.fill_(variance)
    folded = models.fold(nn.Sequential(conv, norm))
    merged = next(layer for layer in folded.modules() if isinstance(layer, nn.Conv2d))
    b = conv.bias.detach().numpy() if conv.bias is not None else np.zeros(3)
    wanted = printed.merged(
        conv.weight.detach().numpy(), b, gamma.numpy(), beta.numpy(), mean.numpy(),
        np.full(3, variance), 1e-4,
    )  # fmt: skip
    assert merged.bias is not None
    np.testing.assert_allclose(merged.weight.detach(), wanted[0], rtol=1e-12)
    np.testing.assert_allclose(merged.bias.detach(), wanted[1], rtol=1e-12, atol=1e-12)
    picture = drawn(2, 2, 5, 4, seed=30)
    with torch.no_grad():
        plain = nn.Sequential(conv, norm).eval()(picture)
        np.testing.assert_allclose(folded(picture), plain, rtol=1e-9, atol=1e-9)


EQUATIONS: dict[str, Callable[..., None]] = {
    "3": test_noise_model,
    "4": test_restoration,
    "5": test_loss,
    "6": test_folding,
}
