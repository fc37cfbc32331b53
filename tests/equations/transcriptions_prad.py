"""The equations of the PRaD notebook, written out in float64 from the printed formulas.

Where the print is silent (reductions, borders, norms) the reading is named in the docstring.
"""

from __future__ import annotations

import math

import numpy as np

Array = np.ndarray


def pair(source: Array, image: Array, phi: Array, deviation: float) -> Array:
    """Eq. 5: Concat[I_s, I, phi(I)] along channels; phi is divided by one running deviation."""
    count = source.shape[0] + image.shape[0] + phi.shape[0]
    out = np.empty((count, *source.shape[1:]))
    for c in range(count):
        if c < len(source):
            out[c] = source[c]
        elif c < len(source) + len(image):
            out[c] = image[c - len(source)]
        else:
            out[c] = phi[c - len(source) - len(image)] / deviation
    return out


def sigmoid(t: float) -> float:
    """The logistic function, from the side where exp cannot overflow."""
    return 1 / (1 + math.exp(-t)) if t >= 0 else math.exp(t) / (1 + math.exp(t))


def probability(scores: Array, against: Array) -> Array:
    """Eq. 6: D(I_r, I_f) = s(C(I_r) - E_{I_f}[C(I_f)]), the closing bracket put where E ends."""
    expectation = 0.0
    for c in against:
        expectation += float(c) / len(against)
    return np.array([sigmoid(float(c) - expectation) for c in scores])


def critic(real: Array, fake: Array) -> float:
    """Eq. 7: -E_r log D(I_r, I_f) - E_f log(1 - D(I_f, I_r))."""
    total = 0.0
    for p in probability(real, fake):
        total -= math.log(p) / len(real)
    for q in probability(fake, real):
        total -= math.log(1 - q) / len(fake)
    return total


def generator(real: Array, fake: Array) -> float:
    """Eq. 8: -E_r log(1 - D(I_r, I_f)) - E_f log D(I_f, I_r)."""
    total = 0.0
    for p in probability(real, fake):
        total -= math.log(1 - p) / len(real)
    for q in probability(fake, real):
        total -= math.log(q) / len(fake)
    return total


def color(output: Array, target: Array) -> float:
    """Eq. 9: || F - I_t ||_2^2; half the sum over a picture, mean over the batch."""
    total = 0.0
    for index in np.ndindex(*output.shape):
        total += (output[index] - target[index]) ** 2
    return total / 2 / len(output)


def mirrored(k: int, size: int) -> int:
    """A coordinate beyond the border, mirrored about the border pixel: -1 -> 1, size -> size - 2.

    A window reaches less than one picture beyond the border, so one mirroring is enough.
    """
    if k < 0:
        return -k
    return 2 * (size - 1) - k if k >= size else k


def window(channel: Array, i: int, j: int, P: int, Q: int) -> list[float]:
    """I(i + p, j + q) for p in -P ... P and q in -Q ... Q."""
    height, width = channel.shape
    return [
        float(channel[mirrored(i + p, height), mirrored(j + q, width)])
        for p in range(-P, P + 1)
        for q in range(-Q, Q + 1)
    ]


def local_mean(channel: Array, i: int, j: int, P: int, Q: int) -> float:
    """Eq. 11: the window's sum over (2P + 1)(2Q + 1)."""
    return sum(window(channel, i, j, P, Q)) / ((2 * P + 1) * (2 * Q + 1))


def local_deviation(channel: Array, i: int, j: int, P: int, Q: int, form: str) -> float:
    """Eq. 12: the root of the sum of squared deviations; "mean" divides it by the window's size."""
    mu = local_mean(channel, i, j, P, Q)
    total = sum((value - mu) ** 2 for value in window(channel, i, j, P, Q))
    return math.sqrt(total / ((2 * P + 1) * (2 * Q + 1)) if form == "mean" else total)


def normalised(image: Array, P: int, Q: int, C: float, form: str) -> Array:
    """Eq. 10: (I - mu) / (sigma + C), channel by channel."""
    out = np.empty_like(image)
    for b, c, i, j in np.ndindex(*image.shape):
        mu = local_mean(image[b, c], i, j, P, Q)
        sigma = local_deviation(image[b, c], i, j, P, Q, form)
        out[b, c, i, j] = (image[b, c, i, j] - mu) / (sigma + C)
    return out


def features(image: Array, weights: Array) -> Array:
    """A network phi of one convolution: zeros outside, then max(0, .)."""
    count, _, height, width = image.shape
    out = np.zeros((count, len(weights), height, width))
    for b, o, i, j in np.ndindex(*out.shape):
        total = 0.0
        for c in range(image.shape[1]):
            for p in (-1, 0, 1):
                for q in (-1, 0, 1):
                    if 0 <= i + p < height and 0 <= j + q < width:
                        total += weights[o, c, p + 1, q + 1] * image[b, c, i + p, j + q]
        out[b, o, i, j] = max(0.0, total)
    return out


def content(output: Array, target: Array) -> float:
    """Eqs. 13 and 16 after phi: 1/(CHW) || . ||, squared; mean over the batch."""
    total = 0.0
    for index in np.ndindex(*output.shape):
        total += (output[index] - target[index]) ** 2
    _, channels, height, width = output.shape
    return total / (channels * height * width) / len(output)


def lcn(output: Array, target: Array, weights: Array | None, form: str) -> float:
    """Eq. 13 on the windows of Kang et al. (P = Q = 3, C = 1/255); weights None: phi(x) = x."""
    maps = [normalised(one, 3, 3, 1 / 255, form) for one in (output, target)]
    if weights is not None:
        maps = [features(one, weights) for one in maps]
    return content(maps[0], maps[1])


def gradient(output: Array, target: Array) -> float:
    """Eq. 14: forward differences in the picture; absolute values, mean over each direction."""
    across, down = [], []
    for b, c, i, j in np.ndindex(*output.shape):
        if j + 1 < output.shape[3]:
            ours = output[b, c, i, j + 1] - output[b, c, i, j]
            across.append(abs(ours - (target[b, c, i, j + 1] - target[b, c, i, j])))
        if i + 1 < output.shape[2]:
            ours = output[b, c, i + 1, j] - output[b, c, i, j]
            down.append(abs(ours - (target[b, c, i + 1, j] - target[b, c, i, j])))
    return float(sum(across) / len(across) + sum(down) / len(down))


def texture(output: Array, target: Array, weights: Array | None) -> float:
    """Eq. 15: L_lcn + L_grad."""
    return lcn(output, target, weights, "mean") + gradient(output, target)


def directions(points: Array, center: Array) -> list[Array]:
    """The points (C, N) as unit vectors seen from the centre."""
    found = []
    for k in range(points.shape[1]):
        v = points[:, k] - center
        found.append(v / math.sqrt(sum(float(t) ** 2 for t in v)))
    return found


def similarity(X: Array, Y: Array, center: Array, h: float) -> float:
    """CX of Eq. 17 for one picture's features (C, N), as its authors define it."""
    xs, ys = directions(X, center), directions(Y, center)
    best = [0.0] * len(ys)
    for x in xs:
        d = [(1 - float(np.dot(x, y))) / 2 for y in ys]
        w = [math.exp((1 - one / (min(d) + 1e-5)) / h) for one in d]
        for j in range(len(ys)):
            best[j] = max(best[j], w[j] / sum(w))
    return sum(best) / len(ys)


def contextual(X: Array, Y: Array, h: float) -> float:
    """Eq. 17: -log CX, mean over the batch; centred by the mean of Y over batch and positions."""
    center = np.zeros(Y.shape[1])
    for b, _, i, j in np.ndindex(Y.shape[0], 1, *Y.shape[2:]):
        center += Y[b, :, i, j] / (len(Y) * Y.shape[2] * Y.shape[3])
    total = 0.0
    for x, y in zip(X, Y, strict=True):
        flat = (one.reshape(len(one), -1) for one in (x, y))
        total -= math.log(similarity(*flat, center, h)) / len(X)
    return total


def total_variation(output: Array) -> float:
    """Eq. 18 as DPED's code has it: squares, each direction by its own count, both added."""
    across, down = [], []
    for b, c, i, j in np.ndindex(*output.shape):
        if j + 1 < output.shape[3]:
            across.append((output[b, c, i, j + 1] - output[b, c, i, j]) ** 2)
        if i + 1 < output.shape[2]:
            down.append((output[b, c, i + 1, j] - output[b, c, i, j]) ** 2)
    return float(sum(across) / len(across) + sum(down) / len(down))


def total(losses: dict[str, float]) -> float:
    """Eq. 19 of the values of the six losses."""
    return (
        losses["content"]
        + 0.4 * losses["gan"]
        + 0.4 * losses["texture"]
        + 0.1 * losses["color"]
        + 0.4 * losses["contextual"]
        + 400 * losses["tv"]
    )
