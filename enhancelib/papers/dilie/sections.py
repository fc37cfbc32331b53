"""The short measuring sections of the DILIE notebook: counts, one equation by hand, parity."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch

from enhancelib import images, models, photos
from enhancelib.degradations.haze import scattered
from enhancelib.losses import contextual, physics
from enhancelib.models import accounting
from enhancelib.models.skip import SETTINGS
from enhancelib.papers.dilie import settings, verdict
from enhancelib.papers.dilie.study import Study
from enhancelib.recipes import compared
from enhancelib.results import Run

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn

OTHERS: Mapping[str, tuple[str, Mapping[str, object]]] = {
    "PCA-KD": ("pcakd", {}),
    "WCT2 (cat5)": ("wct2", {}),
    "PieAPP": ("pieapp", {}),
    "AOD-Net": ("aodnet", {}),
    "MSCNN": ("mscnn", {}),
}
"""What the table of counts lists beside the networks of `models.skip.SETTINGS`."""


def counts(run: Run) -> pd.DataFrame:
    """Parameters of every network, read off the built modules.

    Args:
        run: Receives the numbers.

    Returns:
        One row per network, with the number that the specification knows.
    """
    import pandas as pd

    networks: dict[str, nn.Module] = {name: one.build() for name, one in SETTINGS.items()}
    networks |= {name: models.build(kind, **how) for name, (kind, how) in OTHERS.items()}
    rows = []
    for method, network in networks.items():
        number = accounting.parameters(network)
        run.record(
            dataset="networks", method=method, metric="parameters", value=number, table="counts"
        )
        known = verdict.COUNTS.get(method)
        rows.append(
            {"network": method, "parameters": f"{number:,}", "known": f"{known:,}" if known else ""}
        )
    return pd.DataFrame(rows)


def recipes(s: Study) -> pd.DataFrame:
    """How long every optimisation of this run is, beside what the component papers do.

    Args:
        s: The run.

    Returns:
        One row per field of a recipe.
    """
    own, paper = s.scale, settings.SCALES["paper"]
    columns = {
        "reconstruction": own.dip, "as DIP": paper.dip, "decomposition": own.haze,
        "as Double-DIP": paper.haze, "L_PE, each stage": own.photo, "as DPST": paper.photo,
        "L_AE, each scale": own.art, "as STROTSS": paper.art,
    }  # fmt: skip
    return compared(columns, ("steps", "optimiser", "learning_rate"))


def evaluated() -> pd.DataFrame:
    """Eqs. 8 and CX on a bundled photo: what haze does to pixels and to CX of the colours.

    Returns:
        One row per thickness of the haze: error of the pixels, contextual loss of the colours,
        smoothness of the transmission.
    """
    import pandas as pd

    photo = photos.load("astronaut")[None]
    clear = images.clip(images.resize(photo, size=(32, 32)))
    depth = torch.linspace(1, 0.15, 32).view(1, 1, 32, 1).expand(1, 1, 32, 32)
    rows = []
    for beta in (0.0, 0.7, 1.4):
        t = torch.exp(-beta * depth)
        hazy = scattered(clear, t, torch.full((1, 3, 1, 1), 0.8))
        error = float((hazy - clear).square().mean())
        loss = float(contextual.contextual(clear, hazy))
        rows.append(
            {
                "beta": f"{beta:g}",
                "MSE to the photo": f"{error:.4f}",
                "-log CX of colours": f"{loss:.3f}",
                "S(t)": f"{float(physics.smoothness(t)):.2e}",
            }
        )
    return pd.DataFrame(rows)


def names(s: Study) -> str:
    """What is optimised, for the text above the pictures.

    Args:
        s: The run.

    Returns:
        Sentences.
    """
    noisy, _, _ = s.noisy_picture()
    hazy = ", ".join(f"{one.name} ({one.dataset})" for one in s.hazy_pictures())
    height, width = s.scale.haze_size
    return f"Noise: {noisy}, sigma {s.p.sigma:g}. Haze, {width} x {height} pixels: {hazy}."
