"""The equations of the DnCNN notebook, written out in float64 from the printed formulas."""

from __future__ import annotations

import math

import numpy as np

Array = np.ndarray


def noisy(x: Array, v: Array, sigma: float) -> Array:
    """Eq. 3: y = x + v with v of standard deviation sigma / 255; `v` comes as unit noise."""
    y = np.empty_like(x)
    for index in np.ndindex(*x.shape):
        y[index] = x[index] + v[index] * sigma / 255.0
    return y


def restored(y: Array, weights: list[Array], biases: list[Array]) -> Array:
    """Eq. 4: x_hat = y - R(y), R = convolutions with zero padding and ReLU between them."""
    features = y
    for depth, (w, b) in enumerate(zip(weights, biases, strict=True)):
        features = convolved(features, w, b)
        if depth < len(weights) - 1:
            features = np.where(features > 0, features, 0.0)
    return y - features


def convolved(x: Array, w: Array, b: Array) -> Array:
    """3 x 3 correlation, zero outside: out[o] = b[o] + sum_i sum_k w[o, i, k] x[i, . + k]."""
    count, height, width = len(w), x.shape[1], x.shape[2]
    out = np.zeros((count, height, width))
    for o in range(count):
        for r in range(height):
            for c in range(width):
                total = float(b[o])
                for i in range(x.shape[0]):
                    for dr in (-1, 0, 1):
                        for dc in (-1, 0, 1):
                            if 0 <= r + dr < height and 0 <= c + dc < width:
                                total += w[o, i, dr + 1, dc + 1] * x[i, r + dr, c + dc]
                out[o, r, c] = total
    return out


def half_sse(residual: Array, y: Array, x: Array) -> float:
    """Eq. 5: 1 / (2N) sum_i || R(y_i) - (y_i - x_i) ||_F^2."""
    total = 0.0
    for i in range(len(y)):
        for index in np.ndindex(*y[i].shape):
            total += (residual[i][index] - (y[i][index] - x[i][index])) ** 2
    return total / (2 * len(y))


def merged(
    w: Array, b: Array, gamma: Array, beta: Array, mean: Array, var: Array, eps: float
) -> tuple[Array, Array]:
    """Eq. 6: w' = gamma w / sqrt(s^2 + eps), b' = beta + gamma (b - mu) / sqrt(s^2 + eps)."""
    new_w, new_b = np.empty_like(w), np.empty_like(b)
    for o in range(len(w)):
        factor = gamma[o] / math.sqrt(var[o] + eps)
        new_w[o] = factor * w[o]
        new_b[o] = beta[o] + factor * (b[o] - mean[o])
    return new_w, new_b
