r"""Content feature enhancement (CFE): a photo is cleaned by networks that have seen no other photo.

`C^ = CFE(I; f, phi, gamma)` (Eq. 2), gamma either of two: reconstruction (IR, Eqs. 6 and 10; see
`reconstructing`) for noise, few pixels or missing ones, and decomposition (ID, Eqs. 3, 4, 8 and 9;
its losses and networks in `layers`) for haze. All that a caller needs has its name here too.

| symbol | variable | equation |
|---|---|---|
| I | hazy; sample["degraded"] | 2, 8 |
| C^ | `Dehazed.picture` | 2 |
| J, A, t | sample["J"], sample["A"], sample["t"] | 8, 9 |
| A_0 | airlight, `Pass.start` | none: Double-DIP's code |

Source: DILIE, arXiv 2012.06469; Gandelsman, Shocher, Irani, CVPR 2019, and
yossigandelsman/DoubleDIP (4f12629).
Departs: the official code crops photos to multiples of 32; these networks take any size.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from enhancelib import filters, images
from enhancelib.checkpoints import Keeper
from enhancelib.internal import Found, Keep
from enhancelib.models.skip import SETTINGS
from enhancelib.papers.dilie.layers import (
    Content,
    Input,
    composed,
    decomposed,
    decomposition,
    inverted,
    objective,
)
from enhancelib.papers.dilie.plans import Plan, Prior, insist_picture
from enhancelib.papers.dilie.reconstructing import (
    Restored,
    denoise,
    inpaint,
    reconstruction,
    super_resolve,
)

__all__ = [
    "Content",
    "Dehazed",
    "Pass",
    "Plan",
    "Prior",
    "Restored",
    "decomposition",
    "dehaze",
    "denoise",
    "inpaint",
    "inverted",
    "objective",
    "reconstruction",
    "super_resolve",
]

Sample = dict[str, Tensor]
_PLAN = Plan()


@dataclass(frozen=True)
class Pass:
    """One decomposition; all on the CPU.

    Args:
        hazy: What was decomposed, (3, H, W): the photo, or the last pass's picture.
        picture: The inverted haze model, (3, H, W) in [0, 1].
        layers: Of the best step, in the size that was optimised: "J", "A", "t", and "output", their
            mixture; J is the network's, a by-product.
        refined: t by which the model was inverted, (1, H, W).
        airlight: A in the size of the photo, (3, H, W).
        start: A_0, (3,).
        found: All about the optimisation.
    """

    hazy: Tensor
    picture: Tensor
    layers: Mapping[str, Tensor]
    refined: Tensor
    airlight: Tensor
    start: Tensor
    found: Found


@dataclass(frozen=True)
class Dehazed:
    """What decomposition found.

    Args:
        picture: C^, (3, H, W) in [0, 1], on the CPU.
        layers: Of all passes together, in the photo's size: "J", the picture; "t" and "A"; and
            "recomposition", t J + (1 - t) A, which is the photo wherever no pass clipped.
        passes: Each of them.
    """

    picture: Tensor
    layers: Mapping[str, Tensor]
    passes: tuple[Pass, ...]

    @property
    def reason(self) -> str:
        """Why each pass ended.

        Returns:
            Words, passes parted by semicolons.
        """
        return "; ".join(one.found.reason for one in self.passes)


def dehaze(
    hazy: Tensor,
    *,
    run: Keeper,
    airlight: Tensor | None = None,
    content: Content | None = None,
    passes: int = 2,
    learned: bool | None = None,
    input: Input = "noise",
    radius: int = 50,
    limit: int = 800,
    plan: Plan = _PLAN,
) -> Dehazed:
    r"""Take the haze off by decomposition into scene, airlight and transmission (Eqs. 8 and 9).

    Every pass minimises `objective`, takes of every 8th step the one whose recomposition has the
    best PSNR against its input, and inverts the haze model (`inverted`); the next one runs on what
    that gave.

    Args:
        hazy: I, (3, H, W) in [0, 1].
        run: Its folder receives a checkpoint per pass; the same call goes on where it
            was cut short.
        airlight: A_0, (3,) in [0, 1]; None estimates it: window 15, maximum of each channel over
            the 0.01 % of pixels with the largest dark channel.
        content: lambda L_CCL; None is Double-DIP. Lambda 0.001 helped slightly in trials.
        passes: 1 or more; 2 in the official code.
        learned: Whether a network makes A. None follows the official code: in every pass where A_0
            is given, from the second on where it is estimated; elsewhere A is A_0.
        input: Of the networks: "noise" (Double-DIP), or "image", the hazy photo (ZID).
        radius: Of the final guided filter, in pixels of the photo; see `inverted`.
        limit: A photo with a side this long or longer is decomposed at a half, a third, ... of its
            size, and t and A are enlarged.
        plan: Seed, length and what to watch; 4000 steps at 1e-3 per pass unless it says otherwise.

    Returns:
        The picture with its layers, and all passes.

    Raises:
        ValueError: If the photo is of another shape, too small, not finite or not in [0, 1], or an
            option is outside its range.

    Source: DILIE, Eq. 9; yossigandelsman/DoubleDIP (4f12629); liboyun/ZID (998ef63) for "image".
    Departs: ZID makes A with a variational network and penalises the dark channel; with "image"
        here the loss and the network of A stay those of Double-DIP. The best step may be the last.

    Example:
        >>> import pathlib, torch, types
        >>> from enhancelib import runtime
        >>> run = types.SimpleNamespace(folder=pathlib.Path("r"), runtime=runtime.setup("cpu"))
        >>> hazy = torch.rand(3, 33, 40, generator=torch.Generator().manual_seed(0)) * 0.3 + 0.5
        >>> found = dehaze(hazy, run=run, passes=1, radius=5, plan=Plan(steps=2))
        >>> sorted(found.layers), found.reason
        (['A', 'J', 'recomposition', 't'], 'all 2 steps are done')
        >>> dehaze(hazy, run=run, passes=0)
        Traceback (most recent call last):
        ValueError: passes is 0, radius 50, limit 800; expected 1 or more, 1 or more, and 64 ...
    """
    insist_picture(hazy, "hazy", channels=(3,))
    if min(passes, radius) < 1 or limit < 64:
        raise ValueError(
            f"passes is {passes}, radius {radius}, limit {limit}; expected 1 or more, 1 or more, "
            "and 64 pixels or more"
        )
    if input not in ("noise", "image"):
        raise ValueError(f"input is {input!r}; expected 'noise' or 'image'")
    A_0, done = _start(hazy, airlight), list[Pass]()
    for number in range(1, passes + 1):
        makes = (airlight is not None or number > 1) if learned is None else learned
        I = done[-1].picture if done else hazy  # noqa: E741
        small = _shrunk(I[None], limit).to(run.runtime.device)
        source = decomposed(small, A_0.to(small), plan.prior, learned=makes, input=input)
        found = plan.optimise(
            source,
            _given(small, A_0, content),
            objective(content, learned=makes),
            SETTINGS["double_dip_image"],
            run,
            stage=f"dehaze-{number}",
            about=(makes, input, content and (content.weight, content.layer, content.positions)),
            keep=Keep(8, _likeness),
            repeats=passes + 1 - number,
        )
        done.append(_pass(I, A_0, found, radius))
    return _dehazed(done)


def _start(hazy: Tensor, given: Tensor | None) -> Tensor:
    """A_0 as (1, 3, 1, 1)."""
    if given is None:
        return filters.airlight(hazy[None].cpu(), "channel_max", share=1e-4, window=15)
    if tuple(given.shape) != (3,) or not bool(((given >= 0) & (given <= 1)).all()):
        raise ValueError(f"airlight is {given.tolist()}; expected three numbers in [0, 1]")
    return given.detach().float().cpu().view(1, 3, 1, 1)


def _shrunk(I: Tensor, limit: int) -> Tensor:  # noqa: E741
    """At a half, a third, ... of its size, so that both sides are below the limit."""
    height, width = I.shape[2:]
    part = max(height, width) // limit + 1
    return I if part == 1 else images.resize(I, size=(height // part, width // part))


def _given(I: Tensor, A_0: Tensor, content: Content | None) -> Sample:  # noqa: E741
    target = {} if content is None else content.target(I)
    return {"degraded": I, "airlight": A_0.to(I).expand_as(I).contiguous(), **target}


def _likeness(sample: Sample) -> float:
    """PSNR of the recomposition against what was decomposed, in dB."""
    gap = float((sample["output"] - sample["degraded"]).double().square().mean())
    return -10 * math.log10(max(gap, 1e-20))


def _pass(I: Tensor, A_0: Tensor, found: Found, radius: int) -> Pass:  # noqa: E741
    made = found.outputs if found.kept is None else found.kept.outputs
    layers, I = {name: layer.cpu() for name, layer in made.items()}, I.cpu()  # noqa: E741
    picture, refined = inverted(I[None], layers["t"], layers["A"], radius=radius)
    A = layers["A"]
    A = A if A.shape[2:] == I.shape[1:] else images.resize(A, size=(I.shape[1], I.shape[2]))
    flat = {name: layer[0] for name, layer in layers.items()}
    return Pass(I, picture[0], flat, refined[0], A[0], A_0.flatten(), found)


def _dehazed(passes: list[Pass]) -> Dehazed:
    t, A = composed([(one.refined[None], one.airlight[None]) for one in passes])
    J = passes[-1].picture
    mixture = t[0] * J + (1 - t[0]) * A[0]
    return Dehazed(J, {"J": J, "t": t[0], "A": A[0], "recomposition": mixture}, tuple(passes))
