r"""Artistic style feature enhancement: Eq. 7 with rho = AE, which is STROTSS started from C^.

`L_AE = (alpha l_C + l_r + l_m + l_p / max(alpha, 1)) / (alpha + 2)` on hypercolumns (RGB and VGG
layers) at 1024 positions, from coarse to fine; alpha is halved from scale to scale.

| symbol | here | meaning |
|---|---|---|
| C^, S | content, style | picture to restyle and style picture |
| alpha | content_weight | 16 content_weight at the coarsest scale |
| X, C, Y | "columns", "content columns", "style columns" | hypercolumns, one row per position |
| l_C | self_similarity | the content's own distances between positions |
| l_r, l_m, l_p | remd, moments, palette | what makes the style |

The paper has VGG19 where STROTSS has VGG16. Its layers of the same names are taken, in the values
whose mean activation is about 1: l_m is not blind to a factor, and these are as large as VGG16's
(0.7 to 1.3 against 0.2 to 1.6 on a photo), where the original VGG19's are up to 340.

Source: Kolkin, Salavon, Shakhnarovich, CVPR 2019; nkolkin13/STROTSS (9a1543a).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial

import torch
from torch import Tensor
from torch.nn import functional as F

from enhancelib import features, internal, runtime
from enhancelib.checkpoints import Keeper
from enhancelib.losses import Objective, Sample, Term
from enhancelib.losses import style as losses
from enhancelib.papers.dilie.restyling import Restyled, Show, both
from enhancelib.recipes import Recipe
from enhancelib.variables import Pyramid

OFFICIAL = (
    *("relu1_1", "relu1_2", "relu2_1", "relu2_2", "relu3_1", "relu3_2", "relu3_3"),
    *("relu4_3", "relu5_3"),
)
"""Layers of the official code: 2179 channels with RGB."""
FAST = (*OFFICIAL[:7], "relu3_4")
"""1411 channels with RGB, of VGG19 alone: the fast variant."""
NETWORKS = {"vgg19": "vgg19_normalised", "vgg16": "vgg16"}
RECIPE = Recipe(steps=250, batch=1, patch=1, optimiser="rmsprop", learning_rate=2e-3)
"""Of every scale; the last one has half the rate."""
POSITIONS, DRAWS, CANDIDATES = 1024, (5, 1000), 128**2
REDRAW, COARSEST = 10, 64


def artistic(
    content: Tensor,
    style: Tensor,
    run: Keeper,
    *,
    content_weight: float = 1.0,
    network: str = "vgg19",
    layers: Sequence[str] = OFFICIAL,
    normalised: bool = True,
    scales: int = 4,
    vectors: int = POSITIONS,
    recipe: Recipe = RECIPE,
    stage: str = "art",
    show: Show | None = None,
) -> Restyled:
    """Restyle under L_AE, coarse to fine.

    The long side is halved from the content's own downwards, at most `scales` sizes and none below
    64: 64, 128, 256, 512 for a picture of 512 pixels, as the official program. The coarsest starts
    from the details of the content on the mean colour of the style, the others from the result
    before them, enlarged, with the content's details added, but at the last.

    Args:
        content: C^, (3, H, W) or (1, 3, H, W) in [0, 1].
        style: S, any size.
        run: Its folder keeps every scale, so that a killed run goes on where it was; one that
            diverged ends in a TrainingError, the last good state kept.
        content_weight: alpha / 16 at the coarsest scale, alpha / beta of L_AE; 1 as official.
        network: "vgg19" as the paper, or "vgg16" as STROTSS.
        layers: Whose activations join RGB.
        normalised: False brings back the bug before 2020-05-08: pictures minus 0.5 enter VGG16
            instead of ImageNet's mean and deviation. What was published until then, DILIE's
            comparison too, has it.
        scales: At most so many.
        vectors: Positions compared per step, 1024 as official, with five draws of as many of the
            style, at most 1000 each; on a CPU a step's time is nearly proportional to it.
        recipe: Of every scale, halved rate at the last; its seed draws the positions.
        stage: Name of this restyling within the run; `stage`-64 and so on are kept.
        show: Called with (step, sample) every `recipe.watch_every` steps.

    Returns:
        E, as large as the content, and one stage per scale.

    Raises:
        ValueError: If a picture does not fit, the network is unknown or has no such bug, scales
            or vectors is below 1, or content_weight is negative.

    Source: nkolkin13/STROTSS (9a1543a). Its region and point guidance is left out.
    Departs: the largest scale is the content's own size, not always 512.

    Example:
        >>> artistic(torch.ones(3, 64, 64), torch.ones(3, 64, 64), None, normalised=False)
        Traceback (most recent call last):
        ValueError: network is 'vgg19', normalised False; expected 'vgg19' or 'vgg16', and ...
    """
    _check(network, normalised, scales, vectors, content_weight)
    C, S = both(content, style, run)
    net = _network(network, normalised, C.device)
    sides = long_sides(max(C.shape[2:]), scales)
    E, found = C, []
    for place, side in enumerate(sides):
        last = side == sides[-1]
        scale = _scale(
            net, C, S, side, layers, normalised=normalised, vectors=vectors, seed=recipe.seed
        )
        E = _start(scale, E, first=place == 0, last=last)
        rate = recipe.learning_rate * (0.5 if last else 1.0)
        objective = partial(scale.objective, alpha=16 * content_weight / 2**place)
        ended = internal.optimise(
            Pyramid(E), scale.given, objective, replace(recipe, learning_rate=rate), run,
            stage=f"{stage}-{side}", show=show,
        )  # fmt: skip
        found.append(ended)
        E = ended.outputs["output"]
    return Restyled.of(E, content, *found)


def _check(
    network: str, normalised: bool, scales: int, vectors: int, content_weight: float
) -> None:
    if network not in NETWORKS or (not normalised and network != "vgg16"):
        raise ValueError(
            f"network is {network!r}, normalised {normalised}; expected 'vgg19' or 'vgg16', and "
            "normalised=False with 'vgg16' alone, whose published code had that bug"
        )
    if min(scales, vectors) < 1 or not 0 <= content_weight < math.inf:
        raise ValueError(
            f"scales is {scales}, vectors {vectors}, content_weight {content_weight}; expected "
            "1 or more, 1 or more, 0 or more"
        )


def long_sides(long: int, scales: int = 4) -> tuple[int, ...]:
    """The long sides of the scales, coarse to fine.

    Args:
        long: Of the content.
        scales: At most so many.

    Returns:
        long and its halves, none below 64 but long itself.

    Example:
        >>> long_sides(512), long_sides(150), long_sides(48)
        ((64, 128, 256, 512), (75, 150), (48,))
    """
    sides = [long // 2**k for k in range(scales)]
    return tuple(side for side in reversed(sides) if side >= min(COARSEST, long))


@lru_cache(maxsize=2)
def _network(name: str, normalised: bool, device: torch.device) -> features.Features:
    net = features.load(NETWORKS[name])
    if not normalised:
        net.mean, net.deviation = torch.full_like(net.mean, 0.5), torch.ones_like(net.deviation)
    return net.to(device)


@dataclass(frozen=True)
class Scale:
    """One size of the two pictures: what `internal.optimise` is given at it.

    Args:
        network: VGG.
        layers: Whose activations join RGB.
        given: "content", the content's maps and the style's hypercolumns.
        shift: Taken from RGB before it joins.
        vectors: Positions per step.
        seed: Of the positions.
    """

    network: features.Features
    layers: tuple[str, ...]
    given: Sample
    shift: float
    vectors: int
    seed: int

    def objective(self, index: int = 0, *, alpha: float = 16.0) -> Objective:
        """L_AE at one step, at the positions of that step.

        Args:
            index: Number of the step.
            alpha: Weight of the content.

        Returns:
            Terms "content", "remd", "moments" and "palette".
        """
        share = 1 / (alpha + 2)
        made, meant = "columns", "style columns"
        terms = {
            "content": Term(alpha * share, losses.self_similarity, (made, "content columns")),
            "remd": Term(share, losses.remd, (made, meant)),
            "moments": Term(share, _moments, (made, "style mean", "style covariance")),
            "palette": Term(share / max(alpha, 1.0), _palette, (made, meant)),
        }
        return Objective(terms, partial(self._columns, index))

    def _columns(self, index: int, sample: Sample) -> Sample:
        height, width = sample["content"].shape[2:]
        places = positions(height, width, index, count=self.vectors, seed=self.seed)
        places = places.to(sample["content"].device)
        maps = _maps(self.network, sample["output"], self.layers, self.shift)
        kept = [sample[f"content/{place}"] for place in range(len(maps))]
        made, content = (losses.hypercolumns(one, places) for one in (maps, kept))
        return {**sample, "columns": made, "content columns": content}


def _moments(x: Tensor, mean: Tensor, covariance: Tensor) -> Tensor:
    """l_m, with the style's part made once: it would take a third of every step."""
    mu = x.mean(0)
    found = (x - mu).T @ (x - mu) / len(x)
    return (mu - mean).abs().mean() + (found - covariance).abs().mean()


def _palette(x: Tensor, y: Tensor) -> Tensor:
    return losses.palette(x[:, :3], y[:, :3])


def _scale(
    net: features.Features,
    content: Tensor,
    style: Tensor,
    side: int,
    layers: Sequence[str],
    *,
    normalised: bool,
    vectors: int,
    seed: int,
) -> Scale:
    C, S = (_resized(picture, side) for picture in (content, style))
    shift = 0.0 if normalised else 0.5
    generator = runtime.generator(seed, "style", side)
    with torch.no_grad():
        kept = _maps(net, C, layers, shift)
        drawn = _style_columns(_maps(net, S, layers, shift), generator, vectors)
    mean = drawn.mean(0)
    given = {
        "content": C, "style": S, "style columns": drawn, "style mean": mean,
        "style covariance": (drawn - mean).T @ (drawn - mean) / len(drawn),
    }  # fmt: skip
    given |= {f"content/{place}": maps for place, maps in enumerate(kept)}
    return Scale(net, tuple(layers), given, shift, vectors, seed)


def _maps(
    net: features.Features, picture: Tensor, layers: Sequence[str], shift: float
) -> list[Tensor]:
    """RGB and the layers, fine to coarse, (1, C, h, w) each."""
    return [picture - shift, *net(picture, layers).values()]


def _style_columns(
    maps: Sequence[Tensor], generator: torch.Generator, vectors: int = POSITIONS
) -> Tensor:
    """(N, C): five draws of 1000 positions, each without repetition, nearest activation."""
    height, width = maps[0].shape[2:]
    draws, count = DRAWS[0], min(DRAWS[1], vectors)
    drawn = [torch.randperm(height * width, generator=generator)[:count] for _ in range(draws)]
    place = torch.cat(drawn).to(maps[0].device)
    rows, columns = place // width, place % width
    found, before = [], height
    for one in maps:
        if one.shape[2] < before:
            rows, columns, before = rows // 2, columns // 2, one.shape[2]
        found.append(
            one[0, :, rows.clamp_max(one.shape[2] - 1), columns.clamp_max(one.shape[3] - 1)].T
        )
    return torch.cat(found, dim=1)


def positions(
    height: int, width: int, index: int, *, count: int = POSITIONS, seed: int = 0
) -> Tensor:
    """The positions that one step looks at.

    Every 10 steps a strided grid of at most about 128^2 candidates gets a new offset; every step
    its rows and columns are shuffled, each list for itself, and the first of both are paired.

    Args:
        height: Of the picture, in pixels.
        width: Of the picture.
        index: Number of the step.
        count: At most so many pairs.
        seed: Of the draws.

    Returns:
        (N, 2) int64, row and column, N at most count.

    Source: nkolkin13/STROTSS; shuffling the lists apart loses the grid, there as here.

    Example:
        >>> positions(20, 30, 0).shape, positions(64, 64, 0).shape
        (torch.Size([600, 2]), torch.Size([1024, 2]))
    """
    offsets = runtime.generator(seed, "grid", height, width, index // REDRAW)
    stride = math.sqrt(height * width // CANDIDATES)
    steps = max(math.floor(stride), 1), max(math.ceil(stride), 1)
    row, column = (int(torch.randint(step, (), generator=offsets)) for step in steps)
    grid = torch.cartesian_prod(
        torch.arange(row, height, steps[0]), torch.arange(column, width, steps[1])
    )
    shuffles = runtime.generator(seed, "shuffle", height, width, index)
    lists = [one[torch.randperm(len(one), generator=shuffles)] for one in grid.T]
    return torch.stack(lists, dim=1)[:count]


def _start(scale: Scale, before: Tensor, *, first: bool, last: bool) -> Tensor:
    """What the optimisation of a scale begins with."""
    C, S = scale.given["content"], scale.given["style"]
    height, width = C.shape[2:]
    details = C - _sized(_sized(C, height // 2, width // 2), height, width)
    if first:
        return S.mean((2, 3), keepdim=True) + details
    enlarged = _sized(before, height, width)
    return enlarged if last else enlarged + details


def _resized(picture: Tensor, side: int) -> Tensor:
    """The picture with this long side."""
    height, width = picture.shape[2:]
    size = [max(1, length * side // max(height, width)) for length in (height, width)]
    return _sized(picture, *size)


def _sized(picture: Tensor, height: int, width: int) -> Tensor:
    """Bilinear without antialiasing, as the official program resizes."""
    return F.interpolate(picture, size=(height, width), mode="bilinear", align_corners=False)
