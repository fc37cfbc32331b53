"""The style transfers that the paper compares with, each from its own published settings.

| name | method | how |
|---|---|---|
| Reinhard | Reinhard et al., CG&A 2001 | mean and deviation of colours, no network |
| Neural style | Gatys, Ecker, Bethge, CVPR 2016 | pixels, Gram matrices |
| DPST | Luan et al., CVPR 2017 | pixels, masked Gram matrices and affine loss, two stages |
| Contextual | Mechrez et al., ECCV 2018 | pixels, contextual loss of content and of style |
| STROTSS | Kolkin et al., CVPR 2019 | Laplacian pyramid, relaxed earth mover's distance |
| PCA-KD | Chiu and Gurari, CVPR 2022 | a network of 283,236 parameters, one pass |
| WCT2 | Yoo et al., ICCV 2019 | a wavelet network, one pass; only where its file is given |

PCA-KD stands where WCT2's weights are not at hand, under its own name.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from enhancelib import filters, images, runtime, weights
from enhancelib.checkpoints import Keeper
from enhancelib.papers.dilie import artistic, sfe
from enhancelib.papers.dilie.restyling import (
    Loss,
    Restyled,
    Show,
    both,
    minimise,
    one,
    problem,
)
from enhancelib.papers.dilie.segments import Masks
from enhancelib.recipes import Recipe

FIRSTS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
GATYS = Loss(
    alpha=5.0,
    beta=1e4 / 25,  # each of 5 layers has weight 1/5, and their sum is divided by 5 again
    gamma=0.0,
    tv=1e-3,
    content_form="gatys",
    style_form="gatys",
    content_layer="conv4_2",
    style_layers=FIRSTS,
    pooling="average",
)
"""Of cysmith/neural-style-tf (a2c374f)."""
DPST = Loss(
    alpha=5.0,
    beta=100.0,
    gamma=1e4,
    tv=1e-3,
    content_form="squared",
    style_form="gram",
    tv_form="sum",
    content_layer="relu4_2",
    style_layers=FIRSTS,
)
"""Of both codes of Deep Photo Style Transfer."""
CONTEXTUAL = Loss(gamma=0.0, style_layers=("relu3_2", "relu4_2"), pooling="average")
"""Of roimehrez/contextualLoss (863af53), one picture to another; content at relu4_2."""
RECIPES: Mapping[str, Recipe] = {
    "Neural style": sfe.RECIPE,
    "DPST": sfe.RECIPE,
    "Contextual": Recipe(1000, 1, 1, optimiser="adam", learning_rate=0.01),
    "STROTSS": artistic.RECIPE,
}
"""Iterations and optimisers as published; but the contextual loss' code trains a network."""
_MEAN = (123.68 / 255, 116.779 / 255, 103.939 / 255)


_LMS = ((0.3811, 0.5783, 0.0402), (0.1967, 0.7244, 0.0782), (0.0241, 0.1288, 0.8444))
_OPPONENT = ((1.0, 1.0, 1.0), (1.0, 1.0, -2.0), (1.0, -1.0, 0.0))  # each row made a unit vector
_FLAT = 1e-3  # deviation of logarithms: a third of a level at middle grey
_DARKEST = 1 / 255


def reinhard(content: Tensor, style: Tensor) -> Restyled:
    r"""Give the colours of the content the style's mean and deviation, in l alpha beta.

    `E = (C - mean C) std S / std C + mean S`, channel by channel, where l alpha beta is an
    orthogonal transform of the logarithms of the cones' answers L, M, S. A channel that is flat in
    the content only takes the style's mean.

    Args:
        content: (3, H, W) or (1, 3, H, W) in [0, 1].
        style: Likewise, any size.

    Returns:
        The restyled picture; there are no stages.

    Raises:
        ValueError: If a picture does not fit.

    Source: Reinhard, Ashikhmin, Gooch, Shirley, "Color Transfer between Images", IEEE Computer
        Graphics and Applications 2001; matrix for pixel values as printed, its inverse exact.
    Departs: answers of the cones are cut to [1/255, 255]; the logarithm of 0 has no end.

    Example:
        >>> grey, darker = torch.full((3, 8, 8), 0.6), torch.full((3, 4, 4), 0.3)
        >>> reinhard(grey, darker).E[0, 0, :2].round(decimals=4)
        tensor([0.3000, 0.3000])
        >>> reinhard(torch.ones(1, 8, 8), torch.ones(3, 8, 8))
        Traceback (most recent call last):
        ValueError: content has shape (1, 8, 8); expected one RGB picture in [0, 1], ...
    """
    C, S = one(content, "content"), one(style, "style").to(content.device)
    to_cones = torch.tensor(_LMS, dtype=torch.float64, device=C.device)
    opponent = functional.normalize(torch.tensor(_OPPONENT, dtype=torch.float64)).to(C.device)
    c, s = (
        opponent @ (to_cones @ picture[0].flatten(1).double()).clamp_min(_DARKEST).log()
        for picture in (C, S)
    )
    mean_c, mean_s = c.mean(1, keepdim=True), s.mean(1, keepdim=True)
    spread_c, spread_s = (x.std(1, correction=0, keepdim=True) for x in (c, s))
    factor = torch.where(spread_c > _FLAT, spread_s / spread_c.clamp_min(_FLAT), 0.0)
    moved = opponent.T @ ((c - mean_c) * factor + mean_s)
    E = torch.linalg.inv(to_cones) @ moved.exp().clamp(_DARKEST, 1 / _DARKEST)
    return Restyled.of(E.view(C.shape).to(C), content)


def gatys(
    content: Tensor,
    style: Tensor,
    run: Keeper,
    *,
    recipe: Recipe = RECIPES["Neural style"],
    stage: str = "neural style",
    show: Show | None = None,
) -> Restyled:
    """Neural style of Gatys et al.: from the content, one optimisation of the pixels.

    Args:
        content: (3, H, W) or (1, 3, H, W) in [0, 1].
        style: Any size; resized to the content's, as the code does.
        run: Keeps the stage.
        recipe: Steps, optimiser, seed.
        stage: Its name within the run.
        show: Called with (step, sample) every `recipe.watch_every` steps.

    Returns:
        The restyled picture and its optimisation.

    Raises:
        ValueError: If a picture does not fit.

    Source: Gatys, Ecker, Bethge, CVPR 2016; cysmith/neural-style-tf (a2c374f).
    Departs: pixels are variables in [0, 1], there in [0, 255].

    Example:
        >>> gatys(torch.ones(1, 8, 8), torch.ones(3, 8, 8), None)
        Traceback (most recent call last):
        ValueError: content has shape (1, 8, 8); expected one RGB picture in [0, 1], ...
    """
    return _once(GATYS, content, style, run, recipe, stage, show)


def contextual(
    content: Tensor,
    style: Tensor,
    run: Keeper,
    *,
    recipe: Recipe = RECIPES["Contextual"],
    stage: str = "contextual",
    show: Show | None = None,
) -> Restyled:
    """Style transfer by the contextual loss, for the style and for the content.

    Args:
        content: (3, H, W) or (1, 3, H, W) in [0, 1].
        style: Any size.
        run: Keeps the stage.
        recipe: Steps, optimiser, seed.
        stage: Its name within the run.
        show: Called with (step, sample) every `recipe.watch_every` steps.

    Returns:
        The restyled picture and its optimisation.

    Raises:
        ValueError: If a picture does not fit.

    Source: Mechrez, Talmi, Zelnik-Manor, ECCV 2018; roimehrez/contextualLoss (863af53).
    Departs: pixels are optimised from the content; the code trains a generator on one pair.

    Example:
        >>> contextual(torch.ones(3, 8, 8), torch.ones(1, 8, 8), None)
        Traceback (most recent call last):
        ValueError: style has shape (1, 8, 8); expected one RGB picture in [0, 1], ...
    """
    return _once(CONTEXTUAL, content, style, run, recipe, stage, show)


def _once(
    loss: Loss, content: Tensor, style: Tensor, run: Keeper, recipe: Recipe, stage: str,
    show: Show | None,
) -> Restyled:  # fmt: skip
    C, S = both(content, style, run)
    pose = problem(C, S, loss=loss, seed=recipe.seed)
    found = minimise(pose, run, recipe=recipe, stage=stage, show=show)
    return Restyled.of(found.outputs["output"], content, found)


def dpst(
    content: Tensor,
    style: Tensor,
    run: Keeper,
    *,
    recipe: Recipe = RECIPES["DPST"],
    masks: Masks | None = None,
    smooth: bool = True,
    stage: str = "dpst",
    show: Show | None = None,
) -> Restyled:
    """Deep Photo Style Transfer: from noise without the affine loss, then with it, then smoothed.

    Args:
        content: (3, H, W) or (1, 3, H, W) in [0, 1].
        style: Any size.
        run: Keeps both stages.
        recipe: Of either stage; its seed draws the noise.
        masks: Classes of both pictures, see `segments.colour_masks`.
        smooth: Smooth local affine maps at the end.
        stage: Name within the run.
        show: Called with (step, sample) every `recipe.watch_every` steps.

    Returns:
        The restyled picture and its two stages.

    Raises:
        ValueError: If a picture or masks do not fit.

    Source: luanfujun/deep-photo-styletransfer (16744e3); its seed is 612.

    Example:
        >>> dpst(torch.ones(1, 8, 8), torch.ones(3, 8, 8), None)
        Traceback (most recent call last):
        ValueError: content has shape (1, 8, 8); expected one RGB picture in [0, 1], ...
    """
    C = one(content, "content")
    noise = torch.randn(C.shape, generator=runtime.generator(recipe.seed, "dpst start"))
    start = torch.tensor(_MEAN)[:, None, None] + 1e-4 / 255 * noise
    return sfe.photorealistic(
        content, style, run, loss=DPST, recipe=recipe, masks=masks, start=start.to(C),
        smooth=smooth, stage=stage, show=show,
    )  # fmt: skip


def strotss(
    content: Tensor,
    style: Tensor,
    run: Keeper,
    *,
    recipe: Recipe = RECIPES["STROTSS"],
    normalised: bool = True,
    stage: str = "strotss",
    show: Show | None = None,
) -> Restyled:
    """STROTSS as published, with VGG16.

    Args:
        content: (3, H, W) or (1, 3, H, W) in [0, 1].
        style: Any size.
        run: Keeps every scale.
        recipe: Of every scale.
        normalised: False for the bug that it had when DILIE's comparison was made.
        stage: Name within the run.
        show: Called with (step, sample) every `recipe.watch_every` steps.

    Returns:
        The restyled picture and its scales.

    Raises:
        ValueError: If a picture does not fit.

    Example:
        >>> strotss(torch.ones(1, 8, 8), torch.ones(3, 8, 8), None)
        Traceback (most recent call last):
        ValueError: content has shape (1, 8, 8); expected one RGB picture in [0, 1], ...
    """
    return artistic.artistic(
        content, style, run, network="vgg16", normalised=normalised, recipe=recipe, stage=stage,
        show=show,
    )  # fmt: skip


def pcakd(content: Tensor, style: Tensor, path: str | Path, *, smooth: bool = True) -> Restyled:
    """PCA-KD by its authors' weights, in one pass.

    Args:
        content: (3, H, W) or (1, 3, H, W) in [0, 1], sides of 16 or more.
        style: Likewise, any size.
        path: pcakd_vgg_OIHW.npz.
        smooth: A colour guided filter under the content at the end, as in the authors' demo.

    Returns:
        The restyled picture; there are no stages.

    Raises:
        ValueError: If a picture does not fit.
        WeightsError: If the file is not PCA-KD's.

    Source: Chiu and Gurari, CVPR 2022; chiutaiyin/PCA-Knowledge-Distillation (658d4a2).
    Departs: the demo first resizes both pictures, bilinearly, to sides that are multiples of 8; do
        so before to have its results.

    Example:
        >>> pcakd(torch.ones(1, 16, 16), torch.ones(3, 16, 16), "nowhere.npz")
        Traceback (most recent call last):
        ValueError: content has shape (1, 16, 16); expected one RGB picture in [0, 1], ...
        >>> pcakd(torch.ones(3, 16, 16), torch.ones(3, 16, 16), "nowhere.npz")
        Traceback (most recent call last):
        enhancelib.weights.formats.WeightsError: nowhere.npz: no such file
    """
    C, S = one(content, "content"), one(style, "style")
    with torch.no_grad():
        E = images.clip(_network("pcakd", (("", str(path)),), C.device)(C, S))
    if smooth:
        levels = (255 * E).floor() / 255  # the demo filters the picture in 8 bits, cut off
        E = filters.guided_filter(C, levels, 30, 0.02**2)
    return Restyled.of(E, content)


def wct2(content: Tensor, style: Tensor, path: Mapping[str, str | Path]) -> Restyled:
    """WCT2 by its authors' weights, in one pass, where their files are given.

    Args:
        content: (3, H, W) or (1, 3, H, W) in [0, 1].
        style: Likewise, any size.
        path: "encoder" and "decoder" -> wave_encoder_cat5_l4.pth, wave_decoder_cat5_l4.pth.

    Returns:
        The restyled picture; there are no stages.

    Raises:
        ValueError: If a picture does not fit.
        WeightsError: If a file is not WCT2's.

    Source: Yoo et al., ICCV 2019; clovaai/WCT2 (05d17c0).

    Example:
        >>> wct2(torch.ones(1, 16, 16), torch.ones(3, 16, 16), {})
        Traceback (most recent call last):
        ValueError: content has shape (1, 16, 16); expected one RGB picture in [0, 1], ...
        >>> wct2(torch.ones(3, 16, 16), torch.ones(3, 16, 16), {"encoder": "nowhere.pth"})
        Traceback (most recent call last):
        enhancelib.weights.formats.WeightsError: nowhere.pth: no such file
    """
    C, S = one(content, "content"), one(style, "style")
    parts = tuple((part, str(file)) for part, file in path.items())
    with torch.no_grad():
        return Restyled.of(_network("wct2", parts, C.device)(C, S), content)


@lru_cache(maxsize=2)
def _network(name: str, parts: tuple[tuple[str, str], ...], device: torch.device) -> nn.Module:
    return weights.load(name, dict(parts)).to(device)
