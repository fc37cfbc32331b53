r"""Haze as layers: three untrained networks make J, A and t, and their mixture must be the photo.

| symbol | variable | equation |
|---|---|---|
| I | `I`, sample["degraded"] | 8 |
| J, A, t | `J`, `A`, `t` of the sample; c, d, m of Eqs. 3 and 4 | 3, 4, 8, 9 |
| t J + (1 - t) A | sample["output"] | 4, 8 |
| A_0 | sample["airlight"] | none: Double-DIP's code |
| S | `physics.smoothness` | none: Double-DIP's code |
| phi^h | `Content.layer` of `Content.network` | 5 |
| lambda | `Content.weight` | 9 |

Source: DILIE, arXiv 2012.06469; Gandelsman, Shocher, Irani, CVPR 2019, and
yossigandelsman/DoubleDIP (4f12629).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from enhancelib import filters, images
from enhancelib.internal import Generated
from enhancelib.losses import Objective, Term, contextual, physics, pixel
from enhancelib.losses.perceptual import Network, Taps
from enhancelib.models.skip import SETTINGS
from enhancelib.papers.dilie.plans import Prior

Sample = dict[str, Tensor]
Input = Literal["noise", "image"]

SMOOTH_T, SMOOTH_A = 0.005, 0.1
"""Weights of S(t) and S(A), Double-DIP's."""
ANCHORED = 1000
"""Steps for which a learned airlight is held near A_0, Double-DIP's."""
_OPAQUE = 1e-6  # a total transmission this close to 1 leaves no airlight to tell of


@dataclass(frozen=True)
class Content:
    """The contextual content loss of Eqs. 5 and 9: `lambda (-log CX(phi^h(J), phi^h(I)))`.

    Args:
        weight: lambda, 0 or more; not known from the paper. 0.001 helped slightly in trials, 0.1
            keeps the haze.
        network: phi, `features.load("vgg19")`; moved to the run's device.
        layer: phi^h; "relu4_2" is the paper's conv4_2, for VGG's layers are named after the
            convolution there.
        positions: Most positions compared, see `contextual.similarity`.

    Raises:
        ValueError: If the weight is negative or not finite.

    Example:
        >>> Content(-1.0, lambda image, layers: {})
        Traceback (most recent call last):
        ValueError: weight is -1.0; expected 0.0 (off) or more
    """

    weight: float
    network: Network
    layer: str = "relu4_2"
    positions: int | None = 65**2

    def __post_init__(self) -> None:
        """Refuse a weight that would drive J away from the photo."""
        if not 0 <= self.weight < math.inf:
            raise ValueError(f"weight is {self.weight}; expected 0.0 (off) or more")

    def target(self, I: Tensor) -> Sample:  # noqa: E741
        """The photo's features, which stay the same for all steps.

        Args:
            I: (B, 3, H, W) in [0, 1], on the run's device.

        Returns:
            What `objective` looks for in the sample; nothing at weight 0.
        """
        if not self.weight:
            return {}
        if isinstance(self.network, nn.Module):
            self.network.to(I.device)
        with torch.no_grad():
            return {f"degraded/{self.layer}": self.network(I, (self.layer,))[self.layer].float()}


def decomposition(
    J: Tensor,
    A: Tensor,
    t: Tensor,
    I: Tensor,  # noqa: E741
) -> Tensor:
    r"""The decomposition loss L_ID: how far the layers' mixture is from the photo (Eq. 4).

    `L_ID = || m c + (1 - m) d - I ||_2^2` with c = J, d = A, m = t, as a mean over all values.

    Args:
        J: Scene, (B, C, H, W).
        A: Airlight, (B, C, H, W), or (B, C, 1, 1) for one colour.
        t: Transmission, (B, 1, H, W).
        I: Photo, (B, C, H, W).

    Returns:
        A scalar, at least 0.

    Raises:
        ValueError: If the layers do not mix to the shape of the photo.

    Source: DILIE, Eq. 4; the mean instead of the sum is Double-DIP's code.

    Example:
        >>> J, A, t = (torch.full((1, c, 2, 2), v) for c, v in ((3, 0.2), (3, 0.8), (1, 0.5)))
        >>> decomposition(J, A, t, torch.full((1, 3, 2, 2), 0.6)).round(decimals=4)
        tensor(0.0100)
        >>> decomposition(J, A, t, torch.ones(1, 3, 4, 4))
        Traceback (most recent call last):
        ValueError: the layers mix to (1, 3, 2, 2), the photo has (1, 3, 4, 4); expected one shape
    """
    mixed = t * J + (1 - t) * A
    if mixed.shape != I.shape:
        raise ValueError(
            f"the layers mix to {tuple(mixed.shape)}, the photo has {tuple(I.shape)}; "
            "expected one shape"
        )
    return pixel.mse(mixed, I)


def objective(
    content: Content | None = None, *, learned: bool = True, anchored: int = ANCHORED
) -> Callable[[int], Objective]:
    r"""What dehazing minimises (Eq. 9), as a function of the step's index from 0.

    `L_ID(t J + (1 - t) A; I) + 0.005 S(t) + lambda L_CCL(J, I)`, and where a network makes A
    `+ 0.1 S(A)`, and `+ || A - A_0 ||^2` in the first `anchored` steps, the norms as means.

    Args:
        content: The contextual content loss; None leaves it out, as Double-DIP.
        learned: Whether a network makes A.
        anchored: Steps for which a learned A is held near A_0.

    Returns:
        Step -> objective. Its sample holds J, A, t and "degraded", the photo; with a content loss
        also `content.target(photo)`; where A is held, "airlight", A_0 in the shape of A.

    Source: DILIE, Eq. 9; the terms that the equation does not show are Double-DIP's code.

    Example:
        >>> sorted(objective()(0).terms), sorted(objective(learned=False)(0).terms)
        (['L_ID', 'S(A)', 'S(t)', 'near A_0'], ['L_ID', 'S(t)'])
        >>> objective(anchored=8)(8).terms.keys() == objective(anchored=0)(0).terms.keys()
        True
    """
    terms = {
        "L_ID": Term(1.0, decomposition, ("J", "A", "t", "degraded")),
        "S(t)": Term(SMOOTH_T, physics.smoothness, ("t",)),
    }
    prepare = None
    if learned:
        terms["S(A)"] = Term(SMOOTH_A, physics.smoothness, ("A",))
    if content is not None and content.weight:
        compare = partial(contextual.contextual, positions=content.positions)
        of = (f"J/{content.layer}", f"degraded/{content.layer}")
        terms["L_CCL"] = Term(content.weight, compare, of)
        prepare = Taps(content.network, {"J": (content.layer,)})
    rest = Objective(terms, prepare)
    first = Objective({**terms, "near A_0": Term(1.0, pixel.mse, ("A", "airlight"))}, prepare)
    return lambda step: first if learned and step < anchored else rest


class Decomposed(nn.Module):
    """The source of a decomposition: networks for J and t, and one for A or one colour.

    Args:
        J: Makes the scene.
        t: Makes the transmission.
        A: Makes the airlight, or is it: (1, 3, 1, 1).

    Example:
        >>> grey = Generated(nn.Sigmoid(), torch.zeros(1, 3, 2, 2))
        >>> open_air = Generated(nn.Sigmoid(), torch.zeros(1, 1, 2, 2))
        >>> made = Decomposed(grey, open_air, torch.ones(1, 3, 1, 1))(None)
        >>> {name: float(layer.mean()) for name, layer in made.items()}
        {'output': 0.75, 'J': 0.5, 't': 0.5, 'A': 1.0}
    """

    colour: Tensor

    def __init__(self, J: Generated, t: Generated, A: Generated | Tensor) -> None:
        super().__init__()
        self.J, self.t = J, t
        self.A = A if isinstance(A, Generated) else None
        self.register_buffer("colour", torch.zeros(0) if isinstance(A, Generated) else A)

    def forward(self, noise: torch.Generator | None) -> Sample:
        """Make the layers and mix them.

        Args:
            noise: Draws the inputs' noise; None for none.

        Returns:
            "output", the recomposition, J and A (1, 3, H, W), and t (1, 1, H, W).
        """
        J, t = self.J(noise)["output"], self.t(noise)["output"]
        A = self.colour.expand_as(J) if self.A is None else self.A(noise)["output"]
        return {"output": t * J + (1 - t) * A, "J": J, "t": t, "A": A}


def decomposed(
    I: Tensor,  # noqa: E741
    A_0: Tensor,
    prior: Prior,
    *,
    learned: bool,
    input: Input = "noise",
) -> Decomposed:
    """Double-DIP's networks for one photo.

    Args:
        I: (1, 3, H, W).
        A_0: (1, 3, 1, 1); the airlight itself where no network makes it.
        prior: Seed and options.
        learned: Whether a network makes A.
        input: "noise" (Double-DIP: noise for J and t, ramps for A), or "image": the photo itself is
            the input of all (ZID).

    Returns:
        The source of J, t, A and their mixture.

    Example:
        >>> hazy, white = torch.rand(1, 3, 33, 33), torch.ones(1, 3, 1, 1)
        >>> made = decomposed(hazy, white, Prior(), learned=True)
        >>> sum(p.numel() for p in made.parameters())
        1719543
    """
    size, given = (I.shape[2], I.shape[3]), I if input == "image" else None

    def made(name: str, kind: str) -> Generated:
        return prior.source(name, SETTINGS[f"double_dip_{kind}"], size, given)

    A = made("A", "airlight") if learned else A_0
    return Decomposed(made("J", "image"), made("t", "mask"), A)


def inverted(
    I: Tensor,  # noqa: E741
    t: Tensor,
    A: Tensor,
    *,
    radius: int = 50,
    eps: float = 1e-4,
    floor: float = 0.1,
) -> tuple[Tensor, Tensor]:
    r"""The haze model inverted with a refined t, which is Double-DIP's result.

    t and A are brought to the size of I, t is filtered with I as colour guide and cut to
    [floor, 1], and `J = clip((I - (1 - t) A) / t, 0, 1)`.

    Args:
        I: Hazy photo, (B, 3, H, W) in [0, 1].
        t: Transmission, (B, 1, h, w).
        A: Airlight, (B, 3, h, w) or (B, 3, 1, 1).
        radius: Of the guided filter, in pixels of I; 50 for photos of some 600 pixels, about 10
            for those of 128.
        eps: Of the guided filter.
        floor: Least t.

    Returns:
        (J, refined t) in the size of I.

    Raises:
        ValueError: If a tensor is of another shape, or an option outside its range.

    Source: yossigandelsman/DoubleDIP (4f12629).

    Example:
        >>> I = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
        >>> J, t = inverted(I, torch.ones(1, 1, 8, 8), torch.ones(1, 3, 1, 1), radius=4)
        >>> torch.allclose(J, I, atol=1e-6), float(t.min().round(decimals=4))
        (True, 1.0)
        >>> inverted(I, torch.ones(1, 1, 8, 8), torch.ones(1, 3, 1, 1), radius=0)
        Traceback (most recent call last):
        ValueError: radius is 0; expected 1 or more pixels
    """
    size = (I.shape[2], I.shape[3])
    t = t if t.shape[2:] == I.shape[2:] else images.resize(t, size=size)
    flat = A.shape[2:] in ((1, 1), I.shape[2:])
    A = A if flat else images.resize(A, size=size)
    refined = filters.guided_filter(I, t, radius, eps).clamp(floor, 1)
    return images.clip(filters.invert_haze(I, refined, A, floor=floor)), refined


def composed(layers: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    r"""One transmission and one airlight for several passes, each on the last one's result.

    From `I = t_1 J_1 + (1 - t_1) A_1` and `J_1 = t_2 J_2 + (1 - t_2) A_2` follow `t = t_1 t_2` and
    `A = (t_1 (1 - t_2) A_2 + (1 - t_1) A_1) / (1 - t)`, so that `I = t J_2 + (1 - t) A`.

    Args:
        layers: (t, A) of every pass in order; t (B, 1, H, W), A (B, 3, H, W).

    Returns:
        (t, A). Where t is 1 the airlight plays no part, and that of the last pass stands.

    Raises:
        ValueError: If there is no pass.

    Departs: Double-DIP's code prints mean_c (I - A) / (J - A), which has no bound where J is near
        A; it is the same t where it is defined and A is the same in both passes.

    Example:
        >>> half, grey = torch.full((1, 1, 1, 1), 0.5), torch.full((1, 3, 1, 1), 0.8)
        >>> t, A = composed([(half, grey), (half, grey)])
        >>> float(t), A.flatten().tolist() == grey.flatten().tolist()
        (0.25, True)
        >>> composed([])
        Traceback (most recent call last):
        ValueError: layers is empty; expected those of one pass or more
    """
    if not layers:
        raise ValueError("layers is empty; expected those of one pass or more")
    through, veil = torch.ones_like(layers[0][0]), torch.zeros_like(layers[0][1])
    for t, A in layers:
        veil = veil + through * (1 - t) * A
        through = through * t
    haze = 1 - through
    last = layers[-1][1]
    return through, torch.where(haze > _OPAQUE, veil / haze.clamp_min(_OPAQUE), last)
