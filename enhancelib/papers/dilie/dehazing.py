"""What the haze section measures: lambda of the contextual content loss, layers, Table 1."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from enhancelib import filters, metrics, weights
from enhancelib.papers.dilie import classical, official, settings, verdict
from enhancelib.papers.dilie.cfe import Dehazed
from enhancelib.papers.dilie.pictures import Hazy, score
from enhancelib.papers.dilie.study import Study
from enhancelib.results import Run, select
from enhancelib.tables import spread

if TYPE_CHECKING:
    import pandas as pd

Found = Mapping[tuple[str, float, int], Dehazed]
QUALITY = ("psnr", "ssim", "ciede2000")
TITLES = {"psnr": ("PSNR, dB", 2), "ssim": ("SSIM", 3), "ciede2000": ("CIEDE2000", 2)}
RELEASED = {"AOD-Net": "aodnet", "MSCNN": "mscnn"}
"""Method -> network of `models`, by its authors' weights."""
NOTE = (
    f"psnr: {metrics.METRICS['psnr'].protocol}. ssim: {metrics.METRICS['ssim'].protocol}. "
    f"ciede2000: {metrics.METRICS['ciede2000'].protocol}. Every picture is cut and reduced to the "
    "size of the profile, which is not that of published tables; so are the radii of the guided "
    "filters. For synthetic haze the decomposition and the dark channel are given the true "
    "airlight; for real haze they estimate it. Double-DIP and DILIE take, as the official code, "
    "the step whose recomposition is most like the input; no choice looks at the clean picture. "
    "Mean over pictures ± standard deviation over seeds."
)
"""Printed under the tables."""


def lambdas(s: Study) -> tuple[float, ...]:
    """The weights of the contextual content loss that are compared.

    Args:
        s: The run; tables="main" compares the run's own weight with none.

    Returns:
        Ascending; without VGG19 only 0.
    """
    wanted = {0.0, s.p.lam, *(settings.LAMBDAS if s.p.tables == "all" else ())}
    return tuple(sorted(wanted)) if s.vgg19 is not None else (0.0,)


def measure(s: Study) -> dict[tuple[str, float, int], Dehazed]:
    """Dehaze every photo without the contextual content loss and with it, over all seeds.

    Args:
        s: The run; receives scores, whole curves, and errors of the layers where the truth is
            known.

    Returns:
        (picture, lambda, seed) -> decomposition, for lambda 0 and the run's own.
    """
    own = [lam for lam in lambdas(s) if lam in (0.0, s.p.lam)]
    return {
        (hazy.name, lam, seed): _measured(s, hazy, lam, seed) for lam, seed, hazy in _arms(s, own)
    }


def sweep(s: Study) -> None:
    """Dehaze every photo with the other weights of the contextual content loss, over all seeds.

    Args:
        s: The run; receives what `measure` records. Where its hours are over, an arm is printed
            as not run.
    """
    if s.p.tables != "all":
        print("other lambdas: not run at this profile; tables='all' compares six")
    others = [lam for lam in lambdas(s) if lam not in (0.0, s.p.lam)]
    for lam, seed, hazy in _arms(s, others):
        what = f"{verdict.lam(lam)}, seed {seed}, {hazy.name}"
        s.arm(what, partial(_measured, s, hazy, lam, seed))


def _arms(s: Study, lams: Sequence[float]) -> Iterator[tuple[float, int, Hazy]]:
    """Arms of one seed stand together: they see the same noise."""
    for seed in s.seeds:
        for hazy in s.hazy_pictures():
            yield from ((lam, seed, hazy) for lam in lams)


def _measured(s: Study, hazy: Hazy, lam: float, seed: int) -> Dehazed:
    made = s.dehazed(hazy, lam, seed)
    row: Any = {
        "dataset": hazy.dataset, "method": verdict.lam(lam), "image": hazy.name, "seed": seed,
    }  # fmt: skip
    for metric in ("psnr", "ssim"):
        value = score(metric, made.picture, hazy.clean)
        s.run.record(**row, metric=metric, value=value, table="lambda")
        before = 0
        for one in made.passes:
            history = one.found.history
            for step, at in zip(history.steps[metric], history.values[metric], strict=True):
                s.run.record(
                    **row, metric=metric, value=at, setting=f"step={before + step}",
                    table="lambda_curve",
                )  # fmt: skip
            before += one.found.steps
    if hazy.t is not None and hazy.A is not None:
        for metric, value in errors(made.layers, hazy.t, hazy.A).items():
            s.run.record(**row, metric=metric, value=value, table="layers")
    return made


def errors(layers: Mapping[str, Tensor], t: Tensor, A: Tensor) -> dict[str, float]:
    """How far the layers of a decomposition are from the truth.

    Args:
        layers: "t" (1, H, W) and "A" (3, H, W).
        t: True transmission, (1, H, W).
        A: True airlight, (3,).

    Returns:
        "t_error", the mean absolute error; "t_correlation", Pearson's (0.0 for a constant map);
        "airlight_error", the mean absolute error over pixels and channels.
    """
    one, two = layers["t"].double().flatten(), t.double().flatten()
    a, b = one - one.mean(), two - two.mean()
    norm = float(a.norm() * b.norm())
    return {
        "t_error": float((one - two).abs().mean()),
        "t_correlation": float(a @ b) / norm if norm > 0 else 0.0,
        "airlight_error": float((layers["A"].double() - A.double()[:, None, None]).abs().mean()),
    }


def compare(s: Study, found: Found) -> None:
    """Score every dehazing method on every photo: Table 1's rows.

    Args:
        s: The run; its `weights` bring AOD-Net and MSCNN.
        found: What `measure` gave.
    """
    for method, dehaze in methods(s).items():
        for hazy in s.hazy_pictures():
            _compared(s, hazy, method, dehaze(hazy))
    for method, lam in ((verdict.DOUBLE, 0.0), (verdict.DILIE, s.p.lam)):
        for hazy in s.hazy_pictures():
            for seed in s.seeds:
                if made := found.get((hazy.name, lam, seed)):
                    _compared(s, hazy, method, made.picture, seed)


def _compared(s: Study, hazy: Hazy, method: str, picture: Tensor, seed: int | None = None) -> None:
    for metric in QUALITY:
        s.run.record(
            dataset=hazy.dataset, method=method, metric=metric, image=hazy.name, seed=seed,
            value=score(metric, picture, hazy.clean), table="dehazing",
        )  # fmt: skip


def methods(s: Study) -> dict[str, Callable[[Hazy], Tensor]]:
    """What DILIE is compared with, as far as it can run.

    Args:
        s: The run; a line is printed for every network whose weights it does not hold.

    Returns:
        Method -> (photo) -> (3, H, W), which may leave [0, 1].
    """
    made: dict[str, Callable[[Hazy], Tensor]] = {
        verdict.HAZY: lambda hazy: hazy.hazy,
        verdict.STRETCH: lambda hazy: filters.percent_stretch(hazy.hazy[None])[0],
        verdict.DARK: partial(classical.dark_channel, matting=False),
        "dark channel (soft matting)": partial(classical.dark_channel, matting=True),
    }
    files = official.files(s.p.weights)
    for method, name in RELEASED.items():
        if name in files:
            made[method] = partial(_released, name, files[name])
        else:
            print(f"{method}: not run; its authors' file is not in weights")
    return made


def _released(name: str, file: Path, hazy: Hazy) -> Tensor:
    with torch.no_grad():
        restored: Tensor = _network(name, file)(hazy.hazy[None])[0]
    return restored


@lru_cache(maxsize=2)
def _network(name: str, file: Path) -> torch.nn.Module:
    return weights.load(name, file)


def lambda_table(run: Run) -> pd.DataFrame:
    """PSNR and SSIM by lambda.

    Args:
        run: After `measure`.

    Returns:
        One row per lambda and data set; mean over pictures, spread over seeds.
    """
    return _table(run, "lambda", {k: TITLES[k] for k in ("psnr", "ssim")}, first="lambda")


def layers_table(run: Run) -> pd.DataFrame:
    """Errors of the layers by lambda, on synthetic haze.

    Args:
        run: After `measure`.

    Returns:
        One row per lambda; empty where no truth was known.
    """
    columns = {
        "t_error": ("mean |t - true t|", 3),
        "t_correlation": ("correlation of t", 3),
        "airlight_error": ("mean |A - true A|", 3),
    }
    return _table(run, "layers", columns, first="lambda")


def table(run: Run) -> pd.DataFrame:
    """Table 1 with our pictures: every method on every data set at hand.

    Args:
        run: After `compare`.

    Returns:
        One row per data set and method, those of a set together.
    """
    return _table(run, "dehazing", TITLES, first="method")


def _table(
    run: Run, name: str, columns: Mapping[str, tuple[str, int]], *, first: str
) -> pd.DataFrame:
    import pandas as pd

    rows: list[dict[str, Any]] = []
    values = run.values(table=name)
    for (dataset, method), own in values.groupby(["dataset", "method"], sort=False):
        seeded = own.assign(seed=own["seed"].fillna(-1))
        cells = {}
        for metric, (title, digits) in columns.items():
            per_seed = select(seeded, metric=metric).groupby("seed")["value"].mean()
            cells[title] = spread(list(per_seed), digits=digits)
        pictures = own["image"].nunique()
        shown = {"data": dataset, first: str(method).removeprefix("lambda="), "pictures": pictures}
        rows.append({**shown, **cells})
    order = list(dict.fromkeys(values["dataset"]))
    rows.sort(key=lambda row: order.index(row["data"]))
    return pd.DataFrame(rows)
