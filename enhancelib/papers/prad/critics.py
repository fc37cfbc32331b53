"""What the pair-wise critic learns: alone against a frozen generator, and what it reacts to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from enhancelib.models.pairwise import Judges
from enhancelib.models.prad import Critic
from enhancelib.papers.prad.study import Study, Trained, apply
from enhancelib.training import History

if TYPE_CHECKING:
    import pandas as pd

JUDGES: tuple[Judges, ...] = ("pair", "image")
NAMES = {"pair": "pair-wise critic", "image": "critic of the image alone"}
SHIFT = 4  # pixels


def alone(s: Study, trained: Trained) -> dict[str, tuple[Critic, History]]:
    """Train both kinds of critic against a frozen generator, and record the loss they reach.

    Args:
        s: The run; every seed gives one critic of each kind.
        trained: Whose generator is frozen.

    Returns:
        "pair" and "image" -> critic and curve, of the first seed.
    """
    found = [_both(s, trained, seed) for seed in s.repeated()]
    return found[0]


def _both(s: Study, trained: Trained, seed: int) -> dict[str, tuple[Critic, History]]:
    found: dict[str, tuple[Critic, History]] = {}
    for kind in JUDGES:
        found[kind] = s.alone(trained, kind, seed)
    for judges, (critic, history) in found.items():
        last = history.values["critic"][-10:]
        s.run.record(
            dataset="validation", method=NAMES[judges], metric="critic_loss", seed=seed,
            value=sum(last) / len(last), setting=f"step={s.scale.critic_steps}", table="critic",
        )  # fmt: skip
        _reactions(s, critic, trained, NAMES[judges], seed)
    return found


def _reactions(s: Study, critic: Critic, trained: Trained, method: str, seed: int) -> None:
    """How many standard deviations of the real scores a change costs, in the mean."""
    scores = reactions(critic, s.validation.degraded, s.validation.clean, trained, s.device)
    real = scores["target"]
    for name, values in scores.items():
        change = float((real - values).mean() / real.std().clamp_min(1e-6))
        s.run.record(
            dataset="validation", method=method, metric="drop", value=change, seed=seed,
            setting=name, table="reactions",
        )  # fmt: skip


def reactions(
    critic: Critic, degraded: Tensor, clean: Tensor, trained: Trained, device: torch.device
) -> Mapping[str, Tensor]:
    """Scores of pictures that a good critic should tell apart.

    Args:
        critic: In eval mode.
        degraded: (N, 3, H, W), the phone's.
        clean: The targets.
        trained: Gives the generator's output.
        device: Where the critic lives.

    Returns:
        Name -> (N,) raw scores: "target", "output", "target of another scene", "output of another
        scene", "target shifted by 4 px", "phone picture of another scene", "phi blanked".
    """
    output = apply(trained.generator, degraded)
    shifted = torch.roll(clean, SHIFT, -1)
    other = degraded.roll(1, 0)
    asked = {
        "target": (degraded, clean),
        "output": (degraded, output),
        "target of another scene": (degraded, clean.roll(1, 0)),
        "output of another scene": (degraded, output.roll(1, 0)),
        f"target shifted by {SHIFT} px": (degraded, shifted),
        "phone picture of another scene": (other, clean),
    }
    found = {name: _scores(critic, *pair, device) for name, pair in asked.items()}
    if critic.judges == "pair":
        found["phi blanked"] = _scores(critic, degraded, clean, device, blank=True)
    return found


def _scores(
    critic: Critic, source: Tensor, image: Tensor, device: torch.device, *, blank: bool = False
) -> Tensor:
    pieces = []
    with torch.inference_mode():
        for a, b in zip(torch.split(source, 16), torch.split(image, 16), strict=True):
            seen = critic.inputs(a.to(device), b.to(device))
            if blank:
                seen[:, 6:] = 0.0
            pieces.append(critic.discriminator(seen).float().cpu())
    return torch.cat(pieces)


def table(s: Study) -> pd.DataFrame:
    """What each change costs each critic, in standard deviations of its scores of real pairs.

    Args:
        s: The run, after `alone`.

    Returns:
        One row per change, one column per critic.
    """
    import pandas as pd

    values = s.run.values(table="reactions", metric="drop")
    frame = values.pivot_table(index="setting", columns="method", values="value", sort=False)
    return pd.DataFrame(frame.round(2).astype(object).fillna("not applicable").reset_index())
