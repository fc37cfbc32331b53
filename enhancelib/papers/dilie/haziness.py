"""How far a restyled picture is from its content, and how much of that is haze: E and H.

| symbol | here | meaning |
|---|---|---|
| E(R, D) | ERRORS, an Error | error of D, the picture judged, against the reference R |
| C | clean | the haze-free picture |
| ST(I, S), ST(C, S) | restyled_hazy, restyled_clean | what a style transfer made of I and of C |
| H | relative_haze | how much worse the hazy picture fared |

The paper's E is PieAPP, whose weights are a file of their authors; without it E is another error
under its own name. No value of one may stand in a column of another.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from enhancelib import features, similarity, weights

Error = Callable[[Tensor, Tensor], Tensor]
LAYERS = ("relu1_2", "relu2_2", "relu3_2", "relu3_4")


def vgg19_unit(reference: Tensor, distorted: Tensor) -> Tensor:
    r"""Distance of VGG19 features with unit length at every position; not PieAPP, and not LPIPS.

    `E = 1/4 sum_l mean_p |f_l(R)_p / |f_l(R)_p| - f_l(D)_p / |f_l(D)_p||^2` over relu1_2, relu2_2,
    relu3_2 and relu3_4: the form of LPIPS with all weights 1.

    Args:
        reference: R, (B, 3, H, W) in [0, 1].
        distorted: D, same shape.

    Returns:
        (B,), in [0, 2]; 0 for equal pictures. Symmetric.

    Raises:
        ValueError: If the shapes differ or are not those of RGB pictures.

    Example:
        >>> vgg19_unit(torch.ones(1, 3, 32, 32), torch.ones(1, 3, 32, 31))
        Traceback (most recent call last):
        ValueError: reference is (1, 3, 32, 32), distorted (1, 3, 32, 31); expected ...
    """
    _check(reference, distorted)
    network = _vgg19(reference.device)
    with torch.no_grad():
        R, D = (network(one, LAYERS) for one in (reference, distorted))
        distances = [_unit_distance(R[layer], D[layer]) for layer in LAYERS]
    return torch.stack(distances).mean(0)


@lru_cache(maxsize=2)
def _vgg19(device: torch.device) -> features.Features:
    return features.load("vgg19").to(device)


def _unit_distance(x: Tensor, y: Tensor) -> Tensor:
    gap = F.normalize(x, dim=1, eps=1e-10) - F.normalize(y, dim=1, eps=1e-10)
    return gap.square().sum(1).mean((1, 2))


def _lpips(reference: Tensor, distorted: Tensor, net: str) -> Tensor:
    _check(reference, distorted)
    with torch.no_grad():
        return similarity.lpips(distorted, reference, net=net)


ERRORS: Mapping[str, Error] = {
    "VGG19-unit": vgg19_unit,
    "LPIPS (Alex)": partial(_lpips, net="alex"),
    "LPIPS (VGG)": partial(_lpips, net="vgg"),
}
"""Name -> E(reference, distorted): what needs no file but the features of `enhancelib fetch`."""


def errors(
    content: Tensor, output: Tensor, *, given: Mapping[str, Error] = ERRORS
) -> Mapping[str, Tensor]:
    """Every error between content and output, the comparison of the paper's Table 2.

    Args:
        content: The reference, (B, 3, H, W) in [0, 1].
        output: What a style transfer made of it, same shape.
        given: Name -> error; `{**ERRORS, "PieAPP": pieapp(path)}` where
            its weights are at hand.

    Returns:
        Name -> (B,).

    Raises:
        ValueError: If the shapes differ or are not those of RGB pictures.

    Example:
        >>> black, white = torch.zeros(1, 3, 32, 32), torch.ones(1, 3, 32, 32)
        >>> errors(black, white, given={"MSE": lambda r, d: (r - d).square().mean((1, 2, 3))})
        {'MSE': tensor([1.])}
        >>> errors(black, white[:, :1])
        Traceback (most recent call last):
        ValueError: reference is (1, 3, 32, 32), distorted (1, 1, 32, 32); expected ...
    """
    _check(content, output)
    return {name: error(content, output) for name, error in given.items()}


def pieapp(path: str | Path, *, stride: int = 27) -> Error:
    """The paper's E, with the weights that the user brings.

    Args:
        path: PieAPPv0.1.pth of its authors, non-commercial.
        stride: Between patches; 27 as in the published test values, 6 is denser.

    Returns:
        E(reference, distorted), to join ERRORS under the name "PieAPP"; sides of 64 or more.

    Raises:
        WeightsError: If the file is absent or another network's.

    Example:
        >>> pieapp("/nowhere/PieAPPv0.1.pth")
        Traceback (most recent call last):
        enhancelib.weights.formats.WeightsError: /nowhere/PieAPPv0.1.pth: no such file
    """
    network = weights.load("pieapp", path, stride=stride)

    def error(reference: Tensor, distorted: Tensor) -> Tensor:
        _check(reference, distorted)
        with torch.no_grad():
            found: Tensor = network.to(reference.device)(reference, distorted)
        return found

    return error


def relative_haze(E: Error, clean: Tensor, restyled_hazy: Tensor, restyled_clean: Tensor) -> Tensor:
    """H, the relative haze corruption of a style transfer (section 5 of the paper).

    `H = E(C, ST(I, S)) - E(C, ST(C, S))`: positive where the haze of I made the result worse, 0
    where it made no difference, negative where the hazy input led closer to C.

    Args:
        E: Error of its second argument against its first, (B, 3, H, W) twice -> (B,).
        clean: C, (B, 3, H, W) in [0, 1].
        restyled_hazy: ST(I, S), same shape; for DILIE, SFE(CFE(I), S).
        restyled_clean: ST(C, S), same shape.

    Returns:
        (B,); smaller is better.

    Raises:
        ValueError: If a shape differs or is not that of RGB pictures.

    Source: the formula's sign was lost in the copies of the paper that were read; as all four
        printed values are below 1 and the smallest is called best, it is read as a difference.

    Example:
        >>> C, hazy = torch.zeros(1, 3, 4, 4), torch.full((1, 3, 4, 4), 0.5)
        >>> mse = lambda r, d: (r - d).square().mean((1, 2, 3))
        >>> relative_haze(mse, C, hazy, C)
        tensor([0.2500])
        >>> relative_haze(mse, C, C, C[..., :3])
        Traceback (most recent call last):
        ValueError: reference is (1, 3, 4, 4), distorted (1, 3, 4, 3); expected RGB pictures ...
    """
    _check(clean, restyled_hazy)
    _check(clean, restyled_clean)
    return E(clean, restyled_hazy) - E(clean, restyled_clean)


def _check(reference: Tensor, distorted: Tensor) -> None:
    shapes = tuple(reference.shape), tuple(distorted.shape)
    if shapes[0] != shapes[1] or reference.ndim != 4 or reference.shape[1] != 3:
        raise ValueError(
            f"reference is {shapes[0]}, distorted {shapes[1]}; expected RGB pictures of one shape, "
            "(B, 3, H, W)"
        )
