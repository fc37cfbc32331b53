r"""Style feature enhancement that keeps a photo a photo: Eq. 7 with rho = PE.

`E* = argmin_E L_PE`, `L_PE = alpha L_C(E, C^) + beta L_S(E, S) + gamma L_aff(E; C^)`, in two stages
as in Deep Photo Style Transfer: first without the affine loss, then with it from where the first
ended; at last the smooth local affine maps of `affine`.

| symbol | here | meaning |
|---|---|---|
| C^ | content | the result of CFE, or I itself for the paper's Fig. 6 |
| S | style | style picture, any size |
| E | Restyled.E | enhanced picture |
| alpha, beta, gamma | Loss | weights of L_C, L_S, L_aff |

The supplement that defines L_C, L_S and the weights was not found. Guessed here: both losses are
contextual, as in the style transfer of that loss' authors, whose code has alpha = beta = 1, on the
layers of the paper's footnote; gamma = 1e4 is that of Deep Photo Style Transfer. The Gram loss is
the other form of L_S, for an ablation.

Source: Mastan and Raman, arXiv 2012.06469, Eq. 7; Luan et al., CVPR 2017; Mechrez et al., ECCV
2018.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from enhancelib import internal
from enhancelib.checkpoints import Keeper
from enhancelib.papers.dilie.affine import smooth_local_affine
from enhancelib.papers.dilie.restyling import (
    Loss,
    Problem,
    Restyled,
    Show,
    both,
    minimise,
    problem,
)
from enhancelib.papers.dilie.segments import Masks
from enhancelib.papers.dilie.settings import Parameters, scale
from enhancelib.recipes import Recipe

PE = Loss()
"""L_PE as guessed: contextual content and style."""
PE_GRAM = Loss(alpha=5.0, beta=100.0, content_form="squared", style_form="gram")
"""L_PE with the losses and weights of Deep Photo Style Transfer on the paper's layers."""
RECIPE = Recipe(steps=1000, batch=1, patch=1, optimiser="lbfgs", learning_rate=1.0)
"""Of either stage, as Deep Photo Style Transfer."""


def weighted(p: Parameters) -> Loss:
    """L_PE under the weights of a run, at the positions of its profile.

    Args:
        p: Gives alpha, beta, the affine weight and the profile.

    Returns:
        The loss.

    Example:
        >>> weighted(Parameters(profile="small", beta=2.0)).positions
        1024
    """
    return replace(PE, alpha=p.alpha, beta=p.beta, gamma=p.affine, positions=scale(p).positions)


def photorealistic(
    content: Tensor,
    style: Tensor,
    run: Keeper,
    *,
    loss: Loss = PE,
    recipe: Recipe = RECIPE,
    masks: Masks | None = None,
    start: Tensor | None = None,
    smooth: bool = True,
    stage: str = "photo",
    show: Show | None = None,
) -> Restyled:
    """Restyle a photo under L_PE, in two stages.

    Args:
        content: C^, (3, H, W) or (1, 3, H, W) in [0, 1].
        style: S, any size.
        run: Its folder keeps both stages, so that a killed run goes on where it was; one that
            diverged ends in a TrainingError, the last good state kept.
        loss: Which loss.
        recipe: Steps and optimiser of either stage; its seed draws what is random.
        masks: Classes of both pictures; see `segments.colour_masks`.
        start: First value of E, in the shape of content; None means C^.
        smooth: Replace the result by smooth local affine maps of C^.
        stage: Name of this restyling within the run; `stage`-free and `stage`-affine are kept.
        show: Called with (step, sample) every `recipe.watch_every` steps.

    Returns:
        E and the two stages.

    Raises:
        ValueError: If a picture, masks or start do not fit.

    Example:
        >>> import torch
        >>> photorealistic(torch.ones(1, 8, 8), torch.ones(3, 8, 8), None)
        Traceback (most recent call last):
        ValueError: content has shape (1, 8, 8); expected one RGB picture in [0, 1], ...
    """
    C, S = both(content, style, run)
    pose = problem(C, S, loss=loss, masks=masks, seed=recipe.seed)
    free = minimise(pose, run, recipe=recipe, start=start, stage=f"{stage}-free", show=show)
    return _held(
        pose, free, run, recipe, content, smooth=smooth, stage=f"{stage}-affine", show=show
    )


def _held(
    pose: Problem,
    free: internal.Found,
    run: Keeper,
    recipe: Recipe,
    content: Tensor,
    *,
    smooth: bool,
    stage: str,
    show: Show | None,
) -> Restyled:
    """The second stage, from the end of the first."""
    E = free.outputs["output"]
    found = minimise(pose, run, recipe=recipe, start=E, affine=True, stage=stage, show=show)
    E = found.outputs["output"]
    if smooth:
        E = smooth_local_affine(E, pose.given["content"])
    return Restyled.of(E, content, free, found)


def affine_series(
    content: Tensor,
    style: Tensor,
    run: Keeper,
    *,
    gammas: Sequence[float] = (0.0, 1e2, 1e4),
    loss: Loss = PE_GRAM,
    recipe: Recipe = RECIPE,
    smooth: bool = False,
    stage: str = "affine series",
    show: Show | None = None,
) -> dict[float, Restyled]:
    """What the affine loss does: second stages of several weights, all from one first stage.

    Args:
        content: C^, as for `photorealistic`.
        style: S.
        run: Keeps the stages.
        gammas: Weights of the affine loss; with 0 the second stage goes on without it.
        loss: The rest of the loss. By default the Gram losses that the weights of Deep Photo Style
            Transfer are made for: contextual ones are of a size of 10, which gamma = 1e2 outweighs
            as 1e4 does.
        recipe: Of either stage.
        smooth: Smooth local affine maps at the end; they would hide what the loss alone does.
        stage: Name of the series within the run.
        show: Called during every stage.

    Returns:
        gamma -> result; its value("affine") is L_aff.

    Raises:
        ValueError: If a picture does not fit or a weight is negative.

    Example:
        >>> import torch
        >>> affine_series(torch.ones(1, 8, 8), torch.ones(3, 8, 8), None)
        Traceback (most recent call last):
        ValueError: content has shape (1, 8, 8); expected one RGB picture in [0, 1], ...
    """
    C, S = both(content, style, run)
    pose = problem(C, S, loss=loss, seed=recipe.seed)
    free = minimise(pose, run, recipe=recipe, stage=f"{stage}-free", show=show)
    found = {}
    for gamma in gammas:
        posed = replace(pose, loss=replace(loss, gamma=gamma))
        found[gamma] = _held(
            posed, free, run, recipe, content,
            smooth=smooth, stage=f"{stage}-gamma {gamma:g}", show=show,
        )  # fmt: skip
    return found


def beta_sweep(
    content: Tensor,
    style: Tensor,
    run: Keeper,
    *,
    betas: Sequence[float] = (0.1, 0.3, 1.0, 3.0, 10.0),
    loss: Loss = PE,
    recipe: Recipe = RECIPE,
    smooth: bool = True,
    stage: str = "beta sweep",
    show: Show | None = None,
) -> dict[float, Restyled]:
    """The balance of content and style: one restyling for each weight of the style loss.

    Args:
        content: C^, as for `photorealistic`.
        style: S.
        run: Keeps the stages.
        betas: Weights of the style loss.
        loss: The rest of the loss.
        recipe: Of either stage; all weights share its seed.
        smooth: Smooth local affine maps at the end.
        stage: Name of the sweep within the run.
        show: Called during every stage.

    Returns:
        beta -> result; its value("content") and value("style") are the two ends of the balance.

    Raises:
        ValueError: If a picture does not fit or a weight is negative.

    Example:
        >>> import torch
        >>> beta_sweep(torch.ones(1, 8, 8), torch.ones(3, 8, 8), None)
        Traceback (most recent call last):
        ValueError: content has shape (1, 8, 8); expected one RGB picture in [0, 1], ...
    """
    return {
        beta: photorealistic(
            content, style, run, loss=replace(loss, beta=beta), recipe=recipe, smooth=smooth,
            stage=f"{stage}-beta {beta:g}", show=show,
        )
        for beta in betas
    }  # fmt: skip
