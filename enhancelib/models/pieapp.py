r"""PieAPP: how much worse than its reference people would find a picture.

| paper | variable | what it is |
|---|---|---|
| \(f\) | `conv1` ... `conv11` | 3x3 convolutions + ReLU, a 2x2 max-pool before the 3rd, 5th, ... |
| \(x^m\) | `features` | all of conv3, 5, 7, 9, 11 after ReLU, flattened: 120,832 values a patch |
| \(x^1\) | `features[..., -2048:]` | those of conv11 alone |
| score | `fc1_score`, `fc2_score`, `ref_score_subtract` | error of one patch |
| weight | `fc1_weight`, `fc2_weight` | how much that patch counts |

The network's layers bear the names of the released file.

Source: Prashnani, Cai, Mostofi, Sen, "PieAPP: Perceptual Image-Error Assessment through Pairwise
Preference", CVPR 2018 (arXiv 1806.02067); released code prashnani/PerceptualImageError (0513613,
non-commercial), whose weights the user brings; PIQ 0.8.0's port.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise, product

import torch
from torch import Tensor, nn
from torch.nn import functional

from enhancelib.models._layers import Layers

SPARSE, DENSE = 27, 6  # strides; the paper's authors recommend the dense one

_WIDTHS = (3, 64, 64, 64, 128, 128, 128, 256, 256, 256, 512, 512)
_SIDE = 64  # of a patch
_FEATURES, _LAST = 120_832, 2048
_SIGMOID = 0.01  # the paper's slope of the preference in the difference of scores
_LEAST_WEIGHT = 1e-6
_CHUNK = 32  # patches at a time: 30 MB of features, 0.2 GB of activations


class PieAPP(nn.Module):
    r"""Error of a distorted picture, 0 for the reference itself, about 1 where people notice.

    On 64x64 patches of both pictures, E = sum(weight * score) / sum(weight) with
    score = a (0.01 FC(ReLU(FC(x^m_R - x^m_A)))) + b and
    weight = FC(ReLU(FC(x^1_R - x^1_A))) + 1e-6. Not symmetric.

    Args:
        stride: Step between patches in both directions, in pixels: 27 ("sparse", that of the
            published test values) or 6 ("dense"). What is left at the bottom and right is not seen.
        generator: Where the initial weights are drawn; None is torch's global generator.

    Raises:
        ValueError: If the stride is no positive integer.

    Source: model/PieAPPv0pt1_PT.py. Channels are R, G, B as in PIQ's port, whose test reproduces
    the published value with them; the authors' own scripts read B, G, R.

    Departs: a fresh network starts with b such that E(x, x) = 0, as the trained one's b is.

    Example:
        >>> network = PieAPP()
        >>> sum(p.numel() for p in network.parameters())
        68376580
        >>> PieAPP(stride=0)
        Traceback (most recent call last):
        ValueError: stride is 0; expected a positive integer, such as 27 (sparse) or 6 (dense)
    """

    def __init__(self, stride: int = SPARSE, *, generator: torch.Generator | None = None) -> None:
        super().__init__()
        if isinstance(stride, bool) or not isinstance(stride, int) or stride < 1:
            raise ValueError(
                f"stride is {stride!r}; expected a positive integer, such as {SPARSE} (sparse) or "
                f"{DENSE} (dense)"
            )
        self.stride = stride
        layers = Layers(generator=generator)
        for number, (incoming, outgoing) in enumerate(pairwise(_WIDTHS), 1):
            setattr(self, f"conv{number}", layers.conv(incoming, outgoing))
        self.fc1_score = layers.drawn(nn.Linear, _FEATURES, 512)
        self.fc2_score = layers.drawn(nn.Linear, 512, 1)
        self.fc1_weight = layers.drawn(nn.Linear, _LAST, 512)
        self.fc2_weight = layers.drawn(nn.Linear, 512, 1)
        self.ref_score_subtract = layers.drawn(nn.Linear, 1, 1)
        with torch.no_grad():
            of_nothing = self._score(torch.zeros(1, _FEATURES))
            self.get_parameter("ref_score_subtract.bias").sub_(of_nothing[0])

    @property
    def options(self) -> dict[str, int | str]:
        """What `models.build("pieapp", **options)` needs to make it again.

        Returns:
            stride, a plain JSON value.
        """
        return {"stride": self.stride}

    def forward(self, reference: Tensor, distorted: Tensor) -> Tensor:
        """E(reference, distorted) of each pair.

        Args:
            reference: (B, 3, H, W), RGB in [0, 1], sides of 64 or more.
            distorted: Of the same shape. Gradients flow into both.

        Returns:
            (B,), smaller is better; trained weights give about 0 to 5.

        Raises:
            ValueError: If a shape is another one.

        Example:
            >>> x = torch.rand(2, 3, 64, 91)
            >>> network = PieAPP()
            >>> network(x, x).abs().max().item() < 1e-6
            True
            >>> network(x, x[..., 1:])
            Traceback (most recent call last):
            ValueError: distorted has shape (2, 3, 64, 90); expected (2, 3, 64, 91) as reference
        """
        _check(reference, distorted)
        corners = _corners(reference, self.stride)
        sums = []
        for first in range(0, len(corners), _CHUNK):
            part = corners[first : first + _CHUNK]
            sums.append(self._weighed(_patches(reference, part), _patches(distorted, part)))
        weighted, weights = (
            torch.cat(one).view(len(reference), -1) for one in zip(*sums, strict=True)
        )
        return weighted.sum(1) / weights.sum(1)

    def features(self, patches: Tensor) -> Tensor:
        """What two patches are compared by.

        Args:
            patches: (N, 3, 64, 64), RGB in [0, 255].

        Returns:
            (N, 120832), all values 0 or more; the last 2048 are those of the last convolution.

        Raises:
            ValueError: If the shape is another one.

        Example:
            >>> network = PieAPP()
            >>> network.features(torch.zeros(2, 3, 64, 64)).shape
            torch.Size([2, 120832])
            >>> network.features(torch.zeros(2, 3, 32, 32))
            Traceback (most recent call last):
            ValueError: patches has shape (2, 3, 32, 32); expected (N, 3, 64, 64)
        """
        if patches.shape[1:] != (3, _SIDE, _SIDE):
            raise ValueError(
                f"patches has shape {tuple(patches.shape)}; expected (N, 3, {_SIDE}, {_SIDE})"
            )
        x, collected = patches, []
        for number in range(1, len(_WIDTHS)):
            if number % 2 and number > 1:
                x = functional.max_pool2d(x, 2)
            x = functional.relu(self.get_submodule(f"conv{number}")(x))
            if number % 2 and number > 1:
                collected.append(x.flatten(1))
        return torch.cat(collected, 1)

    def _weighed(self, reference: Tensor, distorted: Tensor) -> tuple[Tensor, Tensor]:
        """(weight * score, weight) of pairs of patches, (n,) each."""
        both = self.features(torch.cat((reference, distorted)))
        of_reference, of_distorted = both.chunk(2)
        difference = of_reference - of_distorted
        hidden = functional.relu(self.fc1_weight(difference[:, -_LAST:]))
        weight: Tensor = self.fc2_weight(hidden)[:, 0] + _LEAST_WEIGHT
        return weight * self._score(difference)[:, 0], weight

    def _score(self, difference: Tensor) -> Tensor:
        hidden = functional.relu(self.fc1_score(difference))
        score: Tensor = self.ref_score_subtract(_SIGMOID * self.fc2_score(hidden))
        return score


def _corners(picture: Tensor, stride: int) -> list[tuple[int, int, int]]:
    """(item, row, column) of the top left pixel of every patch."""
    B, _, H, W = picture.shape
    rows, columns = range(0, H - _SIDE + 1, stride), range(0, W - _SIDE + 1, stride)
    return list(product(range(B), rows, columns))


def _patches(picture: Tensor, corners: Sequence[tuple[int, int, int]]) -> Tensor:
    """(n, 3, 64, 64) in [0, 255]."""
    cut = [picture[item, :, y : y + _SIDE, x : x + _SIDE] for item, y, x in corners]
    return torch.stack(cut) * 255


def _check(reference: Tensor, distorted: Tensor) -> None:
    shape = tuple(reference.shape)
    if reference.ndim != 4 or shape[1] != 3 or min(shape[2:]) < _SIDE or not shape[0]:
        raise ValueError(
            f"reference has shape {shape}; expected (B, 3, H, W) with sides of at least {_SIDE}"
        )
    if distorted.shape != reference.shape:
        raise ValueError(
            f"distorted has shape {tuple(distorted.shape)}; expected {shape} as reference"
        )
