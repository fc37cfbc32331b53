"""What the explorer shows: one pair, seven losses, and the paper's weights as a start."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from enhancelib import degradations, images, photos, runtime
from enhancelib.losses import Objective, Term, pixel
from enhancelib.papers import parameters
from enhancelib.papers.prad import data, settings
from enhancelib.papers.prad.study import Study, Trained

if TYPE_CHECKING:
    import pandas as pd

PRESETS: Mapping[str, Mapping[str, float]] = {
    "PRaD (Eq. 19)": settings.Parameters().weights_of_terms(),
    "DPED, paper": {"content": 1.0, "gan": 0.4, "color": 0.1, "tv": 400.0},
    "DPED, released code": {"content": 10.0, "gan": 1.0, "color": 0.5, "tv": 2000.0},
    "colour alone": {"color": 0.1},
    "texture alone": {"lcn": 0.4, "gradient": 0.4},
}
"""The papers' weights; terms that are absent weigh nothing. DPED's colour loss is blurred, and its
adversarial loss another form: its presets carry over the weights alone."""

SIDE = 256  # pixels of the explored picture
_NAMES = {
    "content": "w_content", "gan": "w_gan", "lcn": "w_texture", "gradient": "w_texture",
    "color": "w_color", "contextual": "w_cx", "tv": "w_tv",
}  # fmt: skip


def phone(picture: Tensor) -> Tensor:
    """A photo as a simulated phone would have taken it, the same one at every call.

    Args:
        picture: (3, H, W) in [0, 1].

    Returns:
        (3, H, W) in [0, 1].
    """
    sample = degradations.Phone()({"clean": picture[None]}, runtime.generator(0, "explore"))
    return sample["degraded"][0]


def pictures(p: settings.Parameters) -> dict[str, Callable[[], tuple[Tensor, Tensor]]]:
    """The pairs that the explorer offers.

    Args:
        p: With data_root a few real pairs come after the bundled photos.

    Returns:
        Name -> loader of (start, target), each (3, H, W).
    """
    side = 96 if p.profile == "smoke" else SIDE
    listed = (*photos.names("test", bundled=True), *photos.names("validation", bundled=True))
    found: dict[str, Callable[[], tuple[Tensor, Tensor]]] = {
        name: partial(_pair, name, side) for name in listed
    }
    if p.data_root:
        pairs = data.test(p)
        for k in range(min(4, len(pairs.names))):
            found[f"{data.name(p)} {pairs.names[k]}"] = partial(
                lambda k: (pairs.degraded[k], pairs.clean[k]), k
            )
    return found


def _pair(name: str, side: int) -> tuple[Tensor, Tensor]:
    photo = photos.load(name)
    edge = min(photo.shape[1:])
    top, left = ((n - edge) // 2 for n in photo.shape[1:])
    square = photo[:, top : top + edge, left : left + edge]
    target = images.clip(images.resize(square, size=(side, side)))
    return phone(target), target


def objective(s: Study, trained: Trained) -> Objective:
    """Every loss of Eq. 19 under the run's weights, for pictures of any size.

    Args:
        s: The run.
        trained: Its critic makes the adversarial term, where there is one.

    Returns:
        The objective; terms whose weight is 0 stay in, so that a slider can raise them.
    """
    listed = [t for t in settings.TERMS if t != "gan" or trained.critic is not None]
    built = settings.objective(dict.fromkeys(listed, 1.0), s.perceptual("fp32"))
    terms = {**built.terms, "color": Term(1.0, _per_patch, settings.OF["color"])}
    weights = s.p.weights_of_terms()
    return Objective(terms, built.prepare).weighted({name: weights[name] for name in terms})


def _per_patch(x: Tensor, y: Tensor) -> Tensor:
    """Eq. 9 per 100 x 100 pixels: one objective serves pictures of all sizes."""
    return settings.PATCH**2 / (x.shape[-1] * x.shape[-2]) * pixel.half_sse(x, y)


def given(s: Study, trained: Trained) -> dict[str, Any]:
    """What `widgets.LossExplorer` takes to explore PRaD's losses.

    Args:
        s: The run; weights and photo are kept in its folder.
        trained: Gives the critic.

    Returns:
        Its arguments but the curve.
    """
    pairs = pictures(s.p)
    made = objective(s, trained)
    return {
        "objective": made,
        "pairs": pairs,
        "degrade": lambda photo: phone(photo[0])[None],
        "sample": sample(trained),
        "presets": {
            name: {term: weight for term, weight in weights.items() if term in made.terms}
            for name, weights in PRESETS.items()
        },
        "command": partial(command, s.p),
        "folder": s.run.folder,
        "title": "Seven losses and one photo",
        "runtime": s.run.runtime,
    }


TRADED = {"smoke": (32, 4, (0.0, 400.0)), "small": (96, 40, (0.0, 40.0, 400.0, 4e3, 4e4))}
"""Profile -> side in pixels, steps, weights of total variation; other profiles like small."""


def trade_off(s: Study, trained: Trained, ends: Callable[..., list[dict[str, float]]]) -> Any:  # noqa: ANN401
    """Where a photo's pixels end under several weights of total variation, computed once.

    Args:
        s: The run keeps the points.
        trained: Gives the critic.
        ends: `widgets.optimise.ends`, handed in because the library stands below the widgets.

    Returns:
        One {term: value} per weight.
    """
    side, steps, weights = TRADED.get(s.p.profile, TRADED["small"])
    pair = tuple(x[None] for x in _pair("astronaut", side))
    made = objective(s, trained)

    def compute() -> list[dict[str, float]]:
        weightings = [{"tv": weight} for weight in weights]
        return ends(
            made, pair, weightings, sample=sample(trained), rate=0.01, steps=steps,
            runtime=s.run.runtime,
        )  # fmt: skip

    return s.run.once(f"trade-off {side} {steps}", compute)


def sample(trained: Trained) -> Callable[[Tensor, Tensor, Tensor], dict[str, Tensor]]:
    """How a picture becomes what the losses look at.

    Args:
        trained: Its critic scores the picture and the target, each beside the start.

    Returns:
        (picture, start, target), each (1, 3, H, W) -> the sample.
    """

    def make(x: Tensor, start: Tensor, target: Tensor) -> dict[str, Tensor]:
        found = {"output": x, "degraded": start, "clean": target}
        if trained.critic is not None:
            with torch.no_grad():
                found["real_scores"] = trained.critic(start, target)
            found["fake_scores"] = trained.critic(start, x)
        return found

    return make


def command(p: settings.Parameters, weights: Mapping[str, float]) -> str:
    """The command that reruns the notebook with the weights of the sliders.

    Args:
        p: The other parameters.
        weights: Term -> weight on a patch of 100 x 100 pixels.

    Returns:
        One line for a shell. The two parts of the texture loss share a weight: the larger counts.
    """
    given: dict[str, float] = {}
    for term, weight in weights.items():
        given[_NAMES[term]] = max(float(weight), given.get(_NAMES[term], 0.0))
    return parameters.command("prad", p, given)


def evaluated() -> pd.DataFrame:
    """Losses of a bundled photo against its phone version: those that need no fetched network.

    Returns:
        One row per loss with its value and its weighted value at 256 x 256 pixels.
    """
    import pandas as pd

    start, target = _pair("astronaut", SIDE)
    weights = settings.Parameters().weights_of_terms()
    built = settings.objective(weights, None, side=SIDE)
    kept = {n: t for n, t in built.terms.items() if n != "gan"}
    _, values = Objective(kept)({"output": start[None], "clean": target[None]})
    rows: list[dict[str, Any]] = [
        {
            "loss": name,
            "value": f"{float(value):.4g}",
            "weight": f"{kept[name].weight:.4g}",
            "weighted": f"{float(value) * kept[name].weight:.4g}",
        }
        for name, value in values.items()
    ]
    return pd.DataFrame(rows)
