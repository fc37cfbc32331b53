"""Why it works: what each loss makes of pairs that do not lie exactly over one another."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from enhancelib import images, metrics
from enhancelib.losses import Objective, color, pixel
from enhancelib.papers.prad import data, settings
from enhancelib.papers.prad.study import Study, apply
from enhancelib.papers.prad.verdict import SHARP, SMOOTH
from enhancelib.results import Run
from enhancelib.tables import spread

if TYPE_CHECKING:
    import pandas as pd

CORE, LARGEST = 60, 10  # pixels
SHIFTS = (0, 1, 2, 3, 4, 6, 8, 10)
TRAINED = (0, 2, 4)
BLURRED = "blurred colour (DPED)"
Loss = Callable[[Tensor, Tensor], Tensor]


def losses_of(s: Study) -> dict[str, Loss]:
    """Every loss of Eq. 19 that compares two pictures, and MSE.

    Args:
        s: The run; without VGG19 its losses are missing.

    Returns:
        Name -> (picture, picture) -> scalar.
    """
    exact = s.perceptual("fp32")
    found: dict[str, Loss] = {}
    for name in settings.TERMS:
        if name in ("gan", "tv") or (s.vgg19 is None and name in settings.VGG_TERMS):
            continue
        one = settings.objective({name: 1.0}, exact, side=settings.PATCH)
        found[name] = partial(_total, one)
    return found | {"MSE": pixel.mse}


def _total(objective: Objective, x: Tensor, y: Tensor) -> Tensor:
    return objective({"output": x, "clean": y})[0]


def study(s: Study) -> None:
    """Record each loss between a picture and itself moved sideways, and between strangers.

    DPED's blurred colour loss is among them, as a mean per value instead of a sum.

    Args:
        s: The run.
    """
    clean = data.clean_patches(s.p, s.scale.shift_pairs).to(s.device)
    compared = {name: (clean, loss) for name, loss in losses_of(s).items()}
    compared[BLURRED] = (color.blur(clean), pixel.mse)  # blurred whole: no border in the core
    for name, (patches, loss) in compared.items():
        core = patches[..., 20 : 20 + CORE, 20 : 20 + CORE]
        strangers = float(_mean(loss, core, core.roll(1, 0)))
        for shift in SHIFTS:
            moved = patches[..., 20 : 20 + CORE, 20 + shift : 20 + shift + CORE]
            value = float(_mean(loss, moved, core))
            for metric, number in (("value", value), ("share", value / strangers)):
                s.run.record(
                    dataset=data.name(s.p), method=name, metric=metric, value=number,
                    setting=f"shift={shift}", table="shift",
                )  # fmt: skip


def _mean(loss: Loss, x: Tensor, y: Tensor) -> Tensor:
    """The mean over pieces of 20: a hundred pictures at once through VGG19 need gigabytes."""
    with torch.inference_mode():
        pieces = [loss(a, b) for a, b in zip(torch.split(x, 20), torch.split(y, 20), strict=True)]
    sizes = torch.tensor([len(a) for a in torch.split(x, 20)], dtype=torch.float32)
    return (torch.stack(pieces).cpu() * sizes).sum() / sizes.sum()


def table(run: Run, metric: str = "share") -> pd.DataFrame:
    """Losses by shift.

    Args:
        run: After `study`.
        metric: "share" (1 is the value between different scenes) or "value".

    Returns:
        One row per loss.
    """
    import pandas as pd

    values = run.values(table="shift", metric=metric)
    frame = values.pivot_table(index="method", columns="setting", values="value", sort=False)
    shown = frame.map(lambda v: f"{v:.3f}" if metric == "share" else f"{v:.4g}")
    return pd.DataFrame(shown.reset_index())


def trainings(s: Study) -> None:
    """Train with MSE and with the losses of Eq. 19 on pairs shifted by 0, up to 2, up to 4 px.

    Args:
        s: The run. Scores are against the target that lies exactly over the input.
    """
    pairs, psnr = data.aligned(s.p), metrics.METRICS["psnr"]
    kinds = (False, True) if s.terms(settings.NO_GAN) else (False,)
    for seed, shift, full in itertools.product(s.repeated(), TRAINED, kinds):
        trained = s.shifted(full, shift, seed)
        restored = images.clip(apply(trained.generator, pairs.degraded))
        energy = _energy(restored) / _energy(pairs.clean)
        found = {"psnr": psnr.summary(psnr(restored, pairs.clean)), "sharpness": float(energy)}
        for metric, value in found.items():
            s.run.record(
                dataset="bundled pairs", method=SHARP if full else SMOOTH, metric=metric,
                value=value, seed=seed, setting=f"shift={shift}", table="misaligned",
            )  # fmt: skip


def _energy(x: Tensor) -> Tensor:
    return x.diff(dim=-1).square().mean() + x.diff(dim=-2).square().mean()


def trained_table(run: Run) -> pd.DataFrame:
    """PSNR and sharpness by largest shift of the training pairs.

    Args:
        run: After `trainings`.

    Returns:
        One row per loss and metric; sharpness is gradient energy over that of the target.
    """
    import pandas as pd

    values = run.values(table="misaligned")
    rows = []
    for (metric, method), group in values.groupby(["metric", "method"], sort=False):
        cells = {
            f"up to {str(setting).partition('=')[2]} px": spread(list(one["value"]))
            for setting, one in group.groupby("setting", sort=False)
        }
        rows.append({"metric": metric, "loss": method, **cells})
    return pd.DataFrame(rows)
