r"""What every restyling by optimisation shares: its loss, its features, its masks, its result.

`L = alpha L_C(E, C^) + beta L_S(E, S) + gamma L_aff(E; C^) + L_tv`, minimised over the pixels of
E. Photo-realistic enhancement (`sfe`), Deep Photo Style Transfer, Gatys' and the contextual loss'
style transfer (`baselines`) are settings of one `Loss`.

| symbol | here | meaning |
|---|---|---|
| C^, S, E | content, style, output | what is restyled (of CFE, or I itself), style, result |
| phi^h | Loss.content_layer | conv4_2 of VGG19 in the paper |
| phi^l | Loss.style_layers | conv1_2, conv2_2, conv3_2 of VGG19 in the paper |
| L_C, L_S | Loss.content_form, Loss.style_form | see CONTENT_FORMS and STYLE_FORMS |
| L_aff | photorealism.MattingLaplacian | sum_c V_c^T M V_c, M of C^ |
| alpha, beta, gamma | Loss | weights |
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial

import torch
from torch import Tensor, nn

from enhancelib import features, images, internal, runtime
from enhancelib.checkpoints import Keeper
from enhancelib.losses import Objective, Term, photorealism, pixel
from enhancelib.losses import style as style_losses
from enhancelib.losses.contextual import contextual
from enhancelib.losses.perceptual import Taps
from enhancelib.losses.photorealism import MattingLaplacian
from enhancelib.papers.dilie.segments import (
    Masks,
    contextual_style,
    insist_fit,
    mask_maps,
    places,
    some,
)
from enhancelib.papers.dilie.settings import CONTENT, STYLE
from enhancelib.recipes import Recipe
from enhancelib.training import Sample
from enhancelib.variables import Pixels

Show = Callable[[int, Sample], None]


CONTENT_FORMS: Mapping[str, Callable[..., Tensor]] = {
    "contextual": contextual,
    "squared": pixel.mse,
    "gatys": style_losses.gatys_content,
}
STYLE_FORMS = ("contextual", "gram", "gatys")
TV_FORMS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda E: pixel.total_variation(255 * E),
    "sum": lambda E: photorealism.variation(255 * E),
}


@dataclass(frozen=True)
class Loss:
    """L_PE, and with other settings the losses of the methods that the paper compares with.

    Args:
        alpha: Weight of L_C.
        beta: Weight of L_S, which is summed over layers.
        gamma: Weight of L_aff; V in [0, 1].
        tv: Weight of total variation, of levels in [0, 255].
        content_form: "contextual" (-log CX), "squared" (mean) or "gatys".
        style_form: "contextual", "gram" (masked, Deep Photo Style Transfer) or "gatys".
        tv_form: "mean" (of squares, per direction) or "sum" (half of it).
        content_layer: Layer of VGG19 for L_C.
        style_layers: Its layers for L_S.
        pooling: Of VGG19: "max", or "average" as Gatys et al. and the contextual loss' code.
        positions: At most so many enter a contextual loss, 65^2 in its authors' code; the cost of a
            step grows with the square.

    Raises:
        ValueError: If a weight is negative, a form or pooling unknown, positions below 1, or there
            is no style layer.

    Example:
        >>> Loss().style_layers
        ('relu1_2', 'relu2_2', 'relu3_2')
        >>> Loss(style_form="grams")
        Traceback (most recent call last):
        ValueError: style_form is 'grams'; expected one of contextual, gram, gatys
    """

    alpha: float = 1.0
    beta: float = 1.0
    gamma: float = 1e4
    tv: float = 0.0
    content_form: str = "contextual"
    style_form: str = "contextual"
    tv_form: str = "mean"
    content_layer: str = CONTENT
    style_layers: tuple[str, ...] = STYLE
    pooling: str = "max"
    positions: int = 65**2

    def __post_init__(self) -> None:
        """Refuse what cannot be computed."""
        weights = (self.alpha, self.beta, self.gamma, self.tv)
        charged = all(0 <= weight < float("inf") for weight in weights)
        if not charged or not self.style_layers or self.positions < 1:
            raise ValueError(
                f"alpha, beta, gamma, tv are {weights}, style_layers {self.style_layers}, "
                f"positions {self.positions}; expected weights of 0 or more, layers, and 1 or more"
            )
        known = {
            "content_form": CONTENT_FORMS, "style_form": STYLE_FORMS, "tv_form": TV_FORMS,
            "pooling": ("max", "average"),
        }  # fmt: skip
        for name, choices in known.items():
            if getattr(self, name) not in choices:
                seen = getattr(self, name)
                raise ValueError(f"{name} is {seen!r}; expected one of {', '.join(choices)}")


@dataclass(frozen=True)
class Restyled:
    """A restyled picture and how it was found.

    Args:
        E: In the shape of the content and on its device, in [0, 1].
        stages: What each optimisation left, in order: outputs, curves, why it stopped.
    """

    E: Tensor
    stages: tuple[internal.Found, ...] = ()

    @classmethod
    def of(cls, E: Tensor, content: Tensor, *stages: internal.Found) -> Restyled:
        """A result, clipped and in the shape of its content.

        Args:
            E: (1, 3, H, W), any range.
            content: As the caller gave it.
            *stages: What the optimisations left.

        Returns:
            The result.
        """
        return cls(images.clip(E.detach()).reshape(content.shape).to(content.device), stages)

    def value(self, term: str) -> float:
        """The last logged value of a term, before its weight.

        Args:
            term: "content", "style", "affine" ...

        Returns:
            The value, or nan where the last stage had no such term.
        """
        values = self.stages[-1].history.values.get(term, []) if self.stages else []
        return values[-1] if values else float("nan")


@dataclass(frozen=True)
class Problem:
    """One content and one style picture under one loss: what `internal.optimise` is given.

    Args:
        loss: Which loss.
        network: VGG19 with the loss' pooling.
        given: "content" and the fixed features "content/<layer>", "style/<layer>".
        masks: Layer -> classes of content and style in the size of its maps.
        seed: Of the positions that contextual style losses look at.
        redraw: They are drawn anew every so many steps.
    """

    loss: Loss
    network: nn.Module
    given: Sample
    masks: Mapping[str, Masks]
    seed: int = 0
    redraw: int = 10

    @cached_property
    def laplacian(self) -> MattingLaplacian:
        """The matting Laplacian of the content, made when it is first asked for.

        Returns:
            M.
        """
        return MattingLaplacian(self.given["content"])

    def objective(self, index: int = 0, *, affine: bool = True) -> Objective:
        """The loss at one step.

        Args:
            index: Number of the step; tells which positions are looked at.
            affine: With the affine loss (the second stage).

        Returns:
            Terms "content", "style", "affine", "tv", as far as they are in use.
        """
        loss, layers = self.loss, self.loss.style_layers
        both = [f"{who}/{layer}" for layer in layers for who in ("output", "style")]
        of = (f"output/{loss.content_layer}", f"content/{loss.content_layer}")
        terms = {
            "content": Term(loss.alpha, self._content(index), of),
            "style": Term(loss.beta, self._style(index), tuple(both)),
        }
        if affine:
            terms["affine"] = Term(loss.gamma, self.laplacian.loss, ("output",))
        if loss.tv:
            terms["tv"] = Term(loss.tv, TV_FORMS[loss.tv_form], ("output",))
        tapped = tuple(dict.fromkeys((*layers, loss.content_layer)))
        return Objective(terms, Taps(self.network, {"output": tapped}))

    def _content(self, index: int) -> Callable[..., Tensor]:
        """L_C, a function of the maps of output and content."""
        if self.loss.content_form != "contextual":
            return CONTENT_FORMS[self.loss.content_form]
        maps = self.given[f"content/{self.loss.content_layer}"]
        generator = runtime.generator(self.seed, "content positions", index // self.redraw)
        at = some(torch.arange(maps[0, 0].numel()), self.loss.positions, generator)
        at = at.to(maps.device)
        return partial(contextual_style, drawn=[(1.0, at, at)])  # the same positions in both

    def _style(self, index: int) -> Callable[..., Tensor]:
        """L_S, a function of the maps of output and style, layer by layer."""
        form, layers = self.loss.style_form, self.loss.style_layers
        if form == "gatys":
            each = [style_losses.gatys_style] * len(layers)
        elif form == "gram":
            each = [partial(_masked_gram, masks=self.masks[layer]) for layer in layers]
        else:
            draw, most = index // self.redraw, self.loss.positions
            drawn = [runtime.generator(self.seed, "style positions", n, draw) for n in layers]
            each = [
                partial(contextual_style, drawn=places(self.masks[layer], generator, most))
                for layer, generator in zip(layers, drawn, strict=True)
            ]

        def style(*maps: Tensor) -> Tensor:
            pairs = zip(each, maps[::2], maps[1::2], strict=True)
            return torch.stack([value(X, Y) for value, X, Y in pairs]).sum()

        return style


def problem(
    content: Tensor,
    style: Tensor,
    *,
    loss: Loss = Loss(),
    masks: Masks | None = None,
    seed: int = 0,
) -> Problem:
    """Features and masks of two pictures, computed once.

    Args:
        content: C^, (3, H, W) or (1, 3, H, W) in [0, 1].
        style: S, of any size.
        loss: Which loss.
        masks: Classes of both, see `segments`; None means one class that is everywhere.
        seed: Of the positions drawn.

    Returns:
        The problem, on the device of the content.

    Raises:
        ValueError: If a picture is not one RGB picture in [0, 1], or masks do not fit them.

    Example:
        >>> problem(torch.ones(3, 48, 48), torch.full((3, 40, 40), 255.0))
        Traceback (most recent call last):
        ValueError: style spans [255, 255]; expected one RGB picture in [0, 1], (3, H, W) or ...
    """
    C, S = one(content, "content"), one(style, "style")
    if loss.style_form == "gatys":  # its Gram matrices are sums over positions: sizes must agree
        S = images.resize(S, size=(C.shape[-2], C.shape[-1])).clamp(0, 1)
    insist_fit(masks, C, S)
    network = vgg19(C.device, pooling=loss.pooling)
    with torch.no_grad():
        features_c = network(C, (loss.content_layer,))
        features_s = network(S, loss.style_layers)
    given = {"content": C} | {f"content/{layer}": v for layer, v in features_c.items()}
    given |= {f"style/{layer}": v for layer, v in features_s.items()}
    maps = mask_maps(network, masks, C, S, loss.style_layers)
    return Problem(loss, network, given, maps, seed)


def minimise(
    pose: Problem,
    run: Keeper,
    *,
    recipe: Recipe,
    stage: str,
    start: Tensor | None = None,
    affine: bool = False,
    show: Show | None = None,
) -> internal.Found:
    """Minimise the loss of a problem over the pixels of E.

    Args:
        pose: The problem.
        run: Keeps the stage; a diverged one ends in a TrainingError.
        recipe: Steps, optimiser, seed.
        stage: Name of the stage within the run.
        start: First value of E, (3, H, W) or (1, 3, H, W), any range; None means C^.
        affine: With the affine loss.
        show: Called with (step, sample) every `recipe.watch_every` steps.

    Returns:
        What was found; `outputs["output"]` is E, (1, 3, H, W), not clipped.

    Raises:
        ValueError: If start has another size than the content.

    Example:
        >>> pose = Problem(Loss(), nn.Identity(), {"content": torch.ones(1, 3, 4, 4)}, {})
        >>> minimise(pose, None, recipe=None, stage="x", start=torch.ones(3, 4, 5))
        Traceback (most recent call last):
        ValueError: start has shape (3, 4, 5), the content (1, 3, 4, 4); expected one size
    """
    C = pose.given["content"]
    if start is not None and start.shape[-3:] != C.shape[1:]:
        shapes = f"start has shape {tuple(start.shape)}, the content {tuple(C.shape)}"
        raise ValueError(f"{shapes}; expected one size")
    E = C if start is None else start.reshape(C.shape).to(C)

    @lru_cache(maxsize=1)  # one object per draw: where it is the same, so is the graph of a step
    def drawn(draw: int) -> Objective:
        return pose.objective(draw * pose.redraw, affine=affine)

    def objective(index: int) -> Objective:
        return drawn(index // pose.redraw if pose.loss.style_form == "contextual" else 0)

    return internal.optimise(
        Pixels(E.clone()), pose.given, objective, recipe, run, stage=stage, show=show
    )


@lru_cache(maxsize=4)
def vgg19(device: torch.device, *, pooling: str = "max") -> features.Features:
    """The original VGG19, pooled with ceiling as in the codes of all these methods.

    Args:
        device: Where it lives.
        pooling: "max" or "average".

    Returns:
        The frozen network; the same one for the same arguments.
    """
    network = features.load("vgg19", ceil=True)
    if pooling == "average":
        for name in [name for name in network.stages if name.startswith("pool")]:
            network.stages[name] = nn.AvgPool2d(2, ceil_mode=True)
    return network.to(device)


def both(content: Tensor, style: Tensor, run: Keeper) -> tuple[Tensor, Tensor]:
    """Two pictures, checked and on the device of a run.

    Args:
        content: (3, H, W) or (1, 3, H, W) in [0, 1].
        style: Likewise, any size.
        run: Tells the device.

    Returns:
        (1, 3, H, W) and (1, 3, h, w).

    Raises:
        ValueError: If one is something else.

    Example:
        >>> both(torch.ones(3, 2, 2), torch.ones(1, 2, 2), None)
        Traceback (most recent call last):
        ValueError: style has shape (1, 2, 2); expected one RGB picture in [0, 1], ...
    """
    C, S = one(content, "content"), one(style, "style")
    return C.to(run.runtime.device), S.to(run.runtime.device)


def one(picture: Tensor, what: str) -> Tensor:
    """One RGB picture as a batch of one.

    Args:
        picture: (3, H, W) or (1, 3, H, W) in [0, 1].
        what: Its name in the message.

    Returns:
        (1, 3, H, W), float32.

    Raises:
        ValueError: If it is something else.

    Example:
        >>> one(torch.ones(3, 2, 2), "style").shape
        torch.Size([1, 3, 2, 2])
        >>> one(torch.ones(2, 3, 2, 2), "style")
        Traceback (most recent call last):
        ValueError: style has shape (2, 3, 2, 2); expected one RGB picture in [0, 1], ...
    """
    wanted = "expected one RGB picture in [0, 1], (3, H, W) or (1, 3, H, W)"
    found = picture[None] if picture.ndim == 3 else picture
    if found.ndim != 4 or found.shape[:2] != (1, 3) or not found.is_floating_point():
        raise ValueError(f"{what} has shape {tuple(picture.shape)}; {wanted}")
    low, high = (float(bound) for bound in torch.aminmax(found.detach()))
    if not (low >= 0 and high <= 1):
        raise ValueError(f"{what} spans [{low:g}, {high:g}]; {wanted}")
    return found.detach().float()


def _masked_gram(X: Tensor, Y: Tensor, *, masks: Masks) -> Tensor:
    return style_losses.masked_gram_style(X, Y, *masks)
