"""What the explorer shows of a picture: pure functions of its state, the weights and the step."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from enhancelib.widgets.anatomy import Anatomy, Share, Weights, colours, scale, shares
from enhancelib.widgets.desk import START, STEP, TARGET, TOTAL, term_of
from enhancelib.widgets.optimise import Moment

_FITTED = 32 / 255  # the largest change of a pixel that `fitted` aims at


@dataclass(frozen=True)
class State:
    """One picture under the objective, and how much is known of it.

    Args:
        moment: The picture and its place in the history.
        start: (3, H, W) in [0, 1], where the photo's history began.
        target: (3, H, W), what it should become.
        anatomy: Values and gradients of all terms; None while they are being computed.
        live: While a run goes on, the total gradient that its newest step saw, (3, H, W).
    """

    moment: Moment
    start: Tensor
    target: Tensor
    anatomy: Anatomy | None = None
    live: Tensor | None = None

    @property
    def values(self) -> dict[str, float]:
        """Name -> value of the term before its weight; empty while unknown.

        Returns:
            Those of the picture as shown, or else those that the run saw.
        """
        return self.anatomy.values if self.anatomy else self.moment.values

    def gradient(self, weights: Weights) -> Tensor | None:
        """The gradient of the weighted total.

        Args:
            weights: Name -> weight; a run's own ones while it goes on.

        Returns:
            (3, H, W), or None while unknown.
        """
        return self.anatomy.total(weights) if self.anatomy else self.live

    def shares(self, weights: Weights) -> dict[str, Share]:
        """What every term contributes.

        Args:
            weights: Name -> weight.

        Returns:
            Name -> share; empty while the values are unknown.
        """
        return shares(self.values, weights, self.anatomy.norms if self.anatomy else None)


@dataclass(frozen=True)
class Shown:
    """The picture beside the picture.

    Args:
        picture: (3, H, W) in [0, 1].
        label: What it is.
        caption: The line under it.
        facts: Numbers that belong to its pixels.
    """

    picture: Tensor
    label: str
    caption: str
    facts: dict[str, float | str | bool] = field(default_factory=dict)


def shown(option: str, state: State, weights: Weights, eta: float) -> Shown:
    """What stands beside the picture.

    Args:
        option: One of the options of the desk's `show`.
        state: The picture.
        weights: Name -> weight.
        eta: Factor of the gradient in the step, above 0.

    Returns:
        Picture and words; plain grey where a gradient is not known yet.
    """
    if option in (TARGET, START):
        picture = state.target if option == TARGET else state.start
        return Shown(picture, option, f"Left: {state.moment.name}. Right: {option}.")
    name = term_of(option)
    gradient = _gradient(state, name, weights)
    if gradient is None:
        words = "of one term: after Stop" if state.live is not None else "being computed …"
        grey = torch.full_like(state.start, 0.5)
        return Shown(grey, option, f"Gradient {words}", {"pending": True})
    if not bool(gradient.isfinite().all()):
        grey = torch.full_like(state.start, 0.5)
        return Shown(grey, option, "The gradient is not finite here.", {"pending": False})
    return _step(state, gradient, eta) if option == STEP else _colours(option, gradient)


def _gradient(state: State, name: str, weights: Weights) -> Tensor | None:
    if not name:
        return state.gradient(weights)
    return state.anatomy.of(name) if state.anatomy else None


def _step(state: State, gradient: Tensor, eta: float) -> Shown:
    moved = state.moment.picture - eta * gradient
    most = 255 * eta * float(gradient.abs().amax())
    caption = f"η = {eta:.3g}: no pixel moves by more than {most:.3g}/255."
    return Shown(moved.clamp(0.0, 1.0), STEP, caption, {"eta": eta, "pending": False})


def _colours(option: str, gradient: Tensor) -> Shown:
    edge = scale(gradient)
    whole = option == TOTAL
    norm = float(torch.linalg.vector_norm(gradient))
    beyond = float((gradient.abs() > edge).float().mean())
    weight = "" if whole else ", before its weight"
    caption = (
        f"Grey is 0, full colour ±{edge:.3g} per unit of pixel value{weight} ({beyond:.1%} lie "
        f"beyond), ‖g‖ = {norm:.3g}. Lighter: the loss wants the channel darker; darker: lighter."
    )
    if not edge:
        caption = f"The gradient{weight} is 0 everywhere."
    return Shown(colours(gradient, edge), option, caption, {"scale": edge, "pending": False})


def fitted(gradient: Tensor) -> float | None:
    """The eta with which no pixel moves by more than 32/255.

    Args:
        gradient: (3, H, W).

    Returns:
        Three digits; None for a gradient of zeros or one that is not finite.

    Example:
        >>> fitted(torch.full((3, 1, 1), -2.0)), fitted(torch.zeros(3, 1, 1))
        (0.0627, None)
    """
    largest = float(gradient.abs().amax())
    if not 0 < largest < float("inf"):
        return None
    return float(f"{_FITTED / largest:.3g}")
