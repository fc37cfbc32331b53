r"""Reconstruction (CFE-IR): one untrained network makes the photo, or what T turns into it.

| symbol | variable | equation |
|---|---|---|
| I | noisy, low, picture; sample["degraded"] | 6, 10 |
| f_theta, z | `Setting`, of `models.skip.SETTINGS` | 6, 10 |
| f_theta(z) | sample["output"] | 6, 10 |
| T | transform | 6 |
| C^ | `Restored.picture` | 6, 10 |

Source: DILIE, arXiv 2012.06469; Ulyanov, Vedaldi, Lempitsky, CVPR 2018, and
DmitryUlyanov/deep-image-prior (042e0d4).
Departs: the official code crops photos to multiples of 32; these networks take any size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from enhancelib.checkpoints import Keeper
from enhancelib.internal import Found
from enhancelib.losses import Objective, Term, pixel
from enhancelib.models.skip import SETTINGS, Setting
from enhancelib.papers.dilie.plans import Plan, insist_picture
from enhancelib.papers.dilie.transforms import lanczos2

Sample = dict[str, Tensor]
Transform = Callable[[Tensor], Tensor]
_PLAN = Plan()


@dataclass(frozen=True)
class Restored:
    """What reconstruction found.

    Args:
        picture: C^, (C, H, W) in [0, 1], on the CPU.
        layers: "output", f_theta(z) in the end; "average", that of the outputs, where one was made.
        found: All about the optimisation.
    """

    picture: Tensor
    layers: Mapping[str, Tensor]
    found: Found

    @property
    def reason(self) -> str:
        """Why the optimisation ended.

        Returns:
            Words.
        """
        return self.found.reason


def reconstruction(
    output: Tensor,
    I: Tensor,  # noqa: E741
    *,
    transform: Transform | None = None,
) -> Tensor:
    r"""The reconstruction loss `L_IR = || T(f_theta(z)) - I ||^2` (Eqs. 6 and 10).

    Args:
        output: f_theta(z), (B, C, H, W).
        I: What was given, in the shape of T(f_theta(z)).
        transform: T; None is the identity.

    Returns:
        A scalar, the mean over all values of I.

    Raises:
        ValueError: If T(f_theta(z)) and I differ in shape.

    Source: DILIE, Eq. 6; the mean instead of the sum is Deep Image Prior's code.

    Example:
        >>> reconstruction(torch.ones(1, 3, 4, 4), torch.zeros(1, 3, 4, 4))
        tensor(1.)
        >>> reconstruction(torch.ones(1, 3, 4, 4), torch.zeros(1, 3, 2, 2))
        Traceback (most recent call last):
        ValueError: output has shape (1, 3, 4, 4), target (1, 3, 2, 2); expected equal shapes
    """
    return pixel.mse(output if transform is None else transform(output), I)


def denoise(
    noisy: Tensor, *, run: Keeper, setting: Setting = SETTINGS["denoise"], plan: Plan = _PLAN
) -> Restored:
    r"""Remove noise, or JPEG's traces: fit the photo, and stop before its noise is fitted (Eq. 10).

    `theta* = argmin || f_theta(z) - I ||^2`, `C^ = f_theta*(z)`, or the average of the outputs on
    the way, which is better.

    Args:
        noisy: I, (C, H, W), C 1 or 3, about [0, 1]; the official code adds the noise and clips.
        run: Its folder receives the checkpoint; the same call goes on where it was cut short.
        setting: Network, input, rate, steps, input noise: "denoise", "jpeg", "no_skip" and "small"
            of `SETTINGS`.
        plan: Seed, length, stopping rule and what to watch.

    Returns:
        The picture: the average where the setting or the plan asks for one, else the last output.

    Raises:
        ValueError: If the picture is of another shape, too small, not finite or not about [0, 1].

    Source: Ulyanov et al., CVPR 2018. Departs: the text of DILIE says networks without skip
        connections, as in "no_skip"; the cited code has them, and is far better with them.

    Example:
        >>> import pathlib, types
        >>> from enhancelib import runtime
        >>> run = types.SimpleNamespace(folder=pathlib.Path("r"), runtime=runtime.setup("cpu"))
        >>> noisy = torch.rand(3, 33, 33)
        >>> denoise(noisy, run=run, setting=SETTINGS["jpeg"], plan=Plan(steps=1)).picture.shape
        torch.Size([3, 33, 33])
        >>> denoise(noisy * 255, run=run)
        Traceback (most recent call last):
        ValueError: noisy reaches from ... to 25...; expected a picture in [0, 1], beyond ...
    """
    insist_picture(noisy, "noisy")
    size = (noisy.shape[1], noisy.shape[2])
    term = Term(1.0, reconstruction, ("output", "degraded"))
    return _reconstruct({"degraded": noisy[None]}, size, term, run, setting, plan, "denoise")


def super_resolve(
    low: Tensor, factor: int, *, run: Keeper, setting: Setting | None = None, plan: Plan = _PLAN
) -> Restored:
    r"""Enlarge: the picture whose Lanczos reduction is the small one (Eq. 6).

    `theta* = argmin || T(f_theta(z)) - I ||^2`, `C^ = f_theta*(z)`, T = `transforms.lanczos2`.

    Args:
        low: I, (C, h, w), C 1 or 3, about [0, 1].
        factor: 2 or more.
        run: Its folder receives the checkpoint.
        setting: None means "super8" of `SETTINGS` from factor 8 on, else "super4".
        plan: Seed, length, stopping rule and what to watch.

    Returns:
        The picture, (C, factor h, factor w).

    Raises:
        ValueError: If the factor is below 2, or as `denoise`.

    Source: Ulyanov et al., CVPR 2018.

    Example:
        >>> import pathlib, types
        >>> from enhancelib import runtime
        >>> run = types.SimpleNamespace(folder=pathlib.Path("r"), runtime=runtime.setup("cpu"))
        >>> small, low = SETTINGS["small"], torch.rand(3, 9, 10)
        >>> super_resolve(low, 4, run=run, setting=small, plan=Plan(steps=1)).picture.shape
        torch.Size([3, 36, 40])
        >>> super_resolve(low, 1, run=run)
        Traceback (most recent call last):
        ValueError: factor is 1; expected a whole number of 2 or more
    """
    insist_picture(low, "low")
    if factor < 2:
        raise ValueError(f"factor is {factor}; expected a whole number of 2 or more")
    setting = setting or SETTINGS["super8" if factor >= 8 else "super4"]
    size = (factor * low.shape[1], factor * low.shape[2])
    loss = partial(reconstruction, transform=partial(lanczos2, factor=factor))
    term = Term(1.0, loss, ("output", "degraded"))
    return _reconstruct({"degraded": low[None]}, size, term, run, setting, plan, "super")


def inpaint(
    picture: Tensor,
    mask: Tensor,
    *,
    run: Keeper,
    setting: Setting = SETTINGS["restore_barbara"],
    plan: Plan = _PLAN,
) -> Restored:
    r"""Fill in what is missing: holes, text, or most of all pixels (Eq. 6 with T(x) = m x).

    `theta* = argmin || m (f_theta(z) - I) ||^2`, `C^ = m I + (1 - m) f_theta*(z)`.

    Args:
        picture: I, (C, H, W), C 1 or 3, about [0, 1]; what the mask hides is not looked at.
        mask: m, (1, H, W) or (C, H, W): 1 known, 0 missing.
        run: Its folder receives the checkpoint.
        setting: "restore_barbara" (half of the pixels), "restore_kate" (98 %), "inpaint_vase" (a
            large hole), "inpaint_kate" (text) or "inpaint_library" of `SETTINGS`.
        plan: Seed, length, stopping rule and what to watch.

    Returns:
        The picture, known pixels as they were.

    Raises:
        ValueError: If the mask has another size, other values or no 1, or as `denoise`.

    Source: Ulyanov et al., CVPR 2018. Departs: the notebooks show the network's picture, which is
        layers["output"], without putting the known pixels back.

    Example:
        >>> import pathlib, types
        >>> from enhancelib import runtime
        >>> run = types.SimpleNamespace(folder=pathlib.Path("r"), runtime=runtime.setup("cpu"))
        >>> picture, mask = torch.full((3, 33, 40), 0.5), torch.ones(1, 33, 40)
        >>> mask[:, 8:16] = 0
        >>> small = SETTINGS["small"]
        >>> made = inpaint(picture, mask, run=run, setting=small, plan=Plan(steps=1)).picture
        >>> bool((made[:, :8] == 0.5).all()), bool((made[:, 8:16] == 0.5).all())
        (True, False)
        >>> inpaint(picture, mask[:, :30], run=run)
        Traceback (most recent call last):
        ValueError: mask has shape (1, 30, 40), the picture (3, 33, 40); expected (1, 33, 40) or ...
    """
    _insist_mask(picture, mask)
    known = torch.where(mask > 0, picture, 0.0)  # whatever stands in the holes, NaN included
    insist_picture(known, "picture")
    given = {"degraded": known[None], "mask": mask[None].to(known)}
    term = Term(1.0, _where_known, ("output", "degraded", "mask"))
    size = (picture.shape[1], picture.shape[2])
    made = _reconstruct(given, size, term, run, setting, plan, "inpaint")
    return replace(made, picture=torch.where(mask > 0, picture, made.picture))


def _where_known(output: Tensor, I: Tensor, mask: Tensor) -> Tensor:  # noqa: E741
    return reconstruction(output, I, transform=lambda picture: mask * picture)


def _reconstruct(
    given: Sample,
    size: tuple[int, int],
    term: Term,
    run: Keeper,
    setting: Setting,
    plan: Plan,
    name: str,
) -> Restored:
    channels = given["degraded"].shape[1]
    setting = replace(setting, network={**setting.network, "outputs": channels})
    source, objective = plan.prior.source("picture", setting, size), Objective({"L_IR": term})
    found = plan.optimise(source, given, lambda _: objective, setting, run, stage=name, about=size)
    layers = {"output": found.outputs["output"][0].cpu()}
    if found.average is not None:
        layers["average"] = found.average["output"][0].cpu()
    return Restored(layers.get("average", layers["output"]), layers, found)


def _insist_mask(picture: Tensor, mask: Tensor) -> None:
    if picture.ndim != 3:
        insist_picture(picture, "picture")
    shape, seen = tuple(picture.shape), tuple(mask.shape)
    if seen not in (shape, (1, *shape[1:])):
        raise ValueError(
            f"mask has shape {seen}, the picture {shape}; expected {(1, *shape[1:])} or {shape}"
        )
    if not ((mask == 0) | (mask == 1)).all() or not mask.any():
        raise ValueError("mask holds other values than 0 and 1, or no 1; expected 1 where known")
