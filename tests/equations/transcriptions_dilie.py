"""The printed equations of DILIE and of what it is built from, as loops over float64 arrays.

Pictures are (C, H, W), feature sets (N, C): one row per position.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def mean_square(a: Array, b: Array) -> float:
    """The mean over all entries of (a - b)^2."""
    total = 0.0
    for x, y in zip(a.flat, b.flat, strict=True):
        total += (x - y) ** 2
    return total / a.size


def eq_4(c: Array, d: Array, m: Array, image: Array) -> float:
    """L_ID = || m c + (1 - m) d - I ||^2, as the mean that the code takes."""
    made = np.empty_like(image)
    channels, height, width = image.shape
    for k in range(channels):
        for i in range(height):
            for j in range(width):
                share = m[0, i, j]
                made[k, i, j] = share * c[k, i, j] + (1 - share) * d[k, i, j]
    return mean_square(made, image)


def cx(x: Array, y: Array, h: float) -> float:
    """CX(X, Y) = 1/N sum_j max_i CX_ij, features as rows."""
    mu = y.mean(axis=0)
    n = len(x)

    def unit(v: Array) -> Array:
        v = v - mu
        return v / max(math.sqrt(float((v * v).sum())), 1e-6)

    xs, ys = [unit(v) for v in x], [unit(v) for v in y]
    d = [[(1 - float(a @ b)) / 2 for b in ys] for a in xs]
    affinity = []
    for row in d:
        near = min(row)
        w = [math.exp((1 - value / (near + 1e-5)) / h) for value in row]
        total = sum(w)
        affinity.append([one / total for one in w])
    return sum(max(affinity[i][j] for i in range(n)) for j in range(n)) / n


def eq_5(x: Array, y: Array, h: float) -> float:
    """L_CCL = - log CX(phi(C^), phi(I))."""
    return -math.log(cx(x, y, h))


def eq_6(output: Array, image: Array, transform: Callable[[Array], Array]) -> float:
    """L_IR = || T(f(z)) - I ||^2, as a mean."""
    return mean_square(transform(output), image)


def eq_8(clear: Array, t: Array, airlight: Array) -> Array:
    """I(x) = J(x) t(x) + A(x) (1 - t(x))."""
    hazy = np.empty_like(clear)
    for k in range(clear.shape[0]):
        for i in range(clear.shape[1]):
            for j in range(clear.shape[2]):
                hazy[k, i, j] = clear[k, i, j] * t[0, i, j] + airlight[k, i, j] * (1 - t[0, i, j])
    return hazy


def blurred_difference(x: Array) -> float:
    """S(x): mean square of grey minus its 5 x 5 box mean, over whole windows."""
    grey = x.mean(axis=0)
    height, width = grey.shape
    found = []
    for i in range(2, height - 2):
        for j in range(2, width - 2):
            window = [grey[i + a, j + b] for a in range(-2, 3) for b in range(-2, 3)]
            found.append((grey[i, j] - sum(window) / 25) ** 2)
    return sum(found) / len(found)


def eq_pe(
    alpha: float, content: float, beta: float, style: float, gamma: float, aff: float
) -> float:
    """L_PE = alpha L_C + beta L_S + gamma L_aff."""
    return alpha * content + beta * style + gamma * aff


def eq_aff(image: Array, guide: Array, eps: float) -> float:
    """sum_c V_c^T M V_c with the matting Laplacian of the guide, window by window."""
    _, height, width = guide.shape
    n = height * width
    m = np.zeros((n, n))
    for i in range(1, height - 1):
        for j in range(1, width - 1):
            places = [(i + a) * width + (j + b) for a in (-1, 0, 1) for b in (-1, 0, 1)]
            colours = np.array([guide[:, p // width, p % width] for p in places])
            mean = colours.mean(axis=0)
            spread = sum(np.outer(v - mean, v - mean) for v in colours) / 9
            inverse = np.linalg.inv(spread + eps / 9 * np.eye(3))
            for a, p in enumerate(places):
                for b, q in enumerate(places):
                    link = 1 + (colours[a] - mean) @ inverse @ (colours[b] - mean)
                    m[p, q] += (1.0 if p == q else 0.0) - link / 9
    return float(sum(v.reshape(-1) @ m @ v.reshape(-1) for v in image))


def cosine_distance(a: Array, b: Array) -> float:
    """1 minus the cosine of the angle between two vectors."""
    return 1 - float(a @ b) / (math.sqrt(float(a @ a)) * math.sqrt(float(b @ b)))


def eq_remd(x: Array, y: Array) -> float:
    """l_r = max( mean_i min_j D_ij, mean_j min_i D_ij )."""
    d = [[cosine_distance(a, b) for b in y] for a in x]
    there = sum(min(row) for row in d) / len(x)
    back = sum(min(d[i][j] for i in range(len(x))) for j in range(len(y))) / len(y)
    return max(there, back)


def eq_moments(x: Array, y: Array) -> float:
    """l_m = mean |mu_X - mu_Y| + mean |Sigma_X - Sigma_Y|, covariances over n."""
    c = x.shape[1]

    def covariance(v: Array) -> Array:
        centred = v - v.mean(axis=0)
        total = np.zeros((c, c))
        for row in centred:
            total += np.outer(row, row)
        return total / len(v)

    means = sum(abs(a - b) for a, b in zip(x.mean(axis=0), y.mean(axis=0), strict=True)) / c
    gap = covariance(x) - covariance(y)
    return float(means + sum(abs(v) for v in gap.flat) / c**2)


def eq_palette(x: Array, y: Array) -> float:
    """l_p: REMD of rotated colours under cosine distance plus root of the mean square distance."""
    turn = np.array(
        [
            [0.577350, 0.577350, 0.577350],
            [-0.577350, 0.788675, -0.211325],
            [-0.577350, -0.211325, 0.788675],
        ]
    )
    a, b = x @ turn.T, y @ turn.T
    d = [[cosine_distance(p, q) + math.sqrt(float(((p - q) ** 2).sum()) / 3) for q in b] for p in a]
    there = sum(min(row) for row in d) / len(a)
    back = sum(min(d[i][j] for i in range(len(a))) for j in range(len(b))) / len(b)
    return max(there, back)


def eq_self_similarity(x: Array, c: Array) -> float:
    """l_C = n mean_ij | D^X_ij / sum_i D^X_ij - D^C_ij / sum_i D^C_ij |."""
    n = len(x)

    def normalised(v: Array) -> list[list[float]]:
        d = [[cosine_distance(a, b) for b in v] for a in v]
        columns = [sum(d[i][j] for i in range(n)) for j in range(n)]
        return [[d[i][j] / columns[j] for j in range(n)] for i in range(n)]

    one, other = normalised(x), normalised(c)
    gaps = [abs(one[i][j] - other[i][j]) for i in range(n) for j in range(n)]
    return n * sum(gaps) / n**2


def eq_ae(alpha: float, content: float, remd: float, moments: float, palette: float) -> float:
    """L_AE = (alpha l_C + l_r + l_m + l_p / max(alpha, 1)) / (alpha + 2)."""
    return (alpha * content + remd + moments + palette / max(alpha, 1.0)) / (alpha + 2)


def eq_h(
    error: Callable[[Array, Array], float], clean: Array, from_hazy: Array, from_clean: Array
) -> float:
    """H = E(C, ST(I, S)) - E(C, ST(C, S))."""
    return error(clean, from_hazy) - error(clean, from_clean)


def eq_9(layers: tuple[Array, Array, Array], image: Array, lam: float, ccl: float) -> float:
    """L_ID(t J + (1 - t) A; I) + lambda L_CCL(J, I), with the smoothness of Double-DIP's code."""
    clear, airlight, t = layers
    made = eq_4(clear, airlight, t, image)
    return made + 0.005 * blurred_difference(t) + lam * ccl


def eq_9_learned(
    layers: tuple[Array, Array, Array], image: Array, lam: float, ccl: float, start: Array
) -> float:
    """The same where a network makes A, in the first steps."""
    near = mean_square(layers[1], start)
    return eq_9(layers, image, lam, ccl) + 0.1 * blurred_difference(layers[1]) + near
