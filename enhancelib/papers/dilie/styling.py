"""What the style sections measure: the affine loss, the balance, haze and noise carried along."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from statistics import fmean
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from enhancelib import images, runtime
from enhancelib.losses import photorealism
from enhancelib.models.skip import SETTINGS
from enhancelib.papers.dilie import affine as edges
from enhancelib.papers.dilie import cfe, demands, pictures, sfe, transfers
from enhancelib.papers.dilie.haziness import Error, errors, relative_haze
from enhancelib.papers.dilie.pictures import Hazy
from enhancelib.papers.dilie.settings import AFFINES, BETAS, SIGMAS
from enhancelib.papers.dilie.study import Study
from enhancelib.papers.dilie.transfers import DILIE, ONE_PASS, OPTIMISED, transfer
from enhancelib.papers.dilie.verdict import FROM_CFE, FROM_HAZY
from enhancelib.results import Run, select
from enhancelib.tables import spread

if TYPE_CHECKING:
    import pandas as pd

Arms = Mapping[str, tuple[Tensor, Tensor]]
DATASET = pictures.SYNTHETIC
AGAINST_I = "against I"
FROM_I, CLEANED = "from I", "from CFE(I), style denoised"
NOTE = (
    "E(reference, picture) judges a restyled picture against the clean content C, and in the rows "
    "called against I against the corrupted one: the paper does not say which. A method that "
    "changes nothing has no error, so a small one is praise only beside a picture that took the "
    "style. VGG19-unit is "
    "the form of LPIPS on VGG19 with all weights 1, the others bear their own names. "
    "H = E(C, ST(I, S)) - E(C, ST(C, S)), where DILIE's ST(I, S) is SFE(CFE(I), S); smaller is "
    "better, 0 means that haze adds no error. PieAPP, the paper's E, needs its authors' weights; "
    "the paper's Table 2 is not known. Methods without optimisation are measured over all seeds of "
    "CFE, the others on the first: mean ± standard deviation over photos and seeds."
)
"""Printed under the tables."""


def _ready(s: Study) -> bool:
    if s.vgg19 is None:
        print("not run: VGG19 is needed (enhancelib fetch --only vgg19)")
    return s.vgg19 is not None


def _brief(s: Study) -> bool:
    """Whether only that it runs is of interest."""
    return s.p.profile == "smoke"


def _contents(s: Study) -> list[Hazy]:
    """The hazy photos whose truth is known, in the size in which is restyled."""
    side = s.scale.side
    return [
        replace(
            one, hazy=pictures.shrunk(one.hazy, side), clean=pictures.shrunk(one.clean, side)
        )
        for one in s.hazy_pictures()
        if one.name in s.content_names()
    ]  # fmt: skip


def _record(run: Run, measured: Mapping[str, Tensor | float], **row: Any) -> None:  # noqa: ANN401
    for metric, value in measured.items():
        run.record(metric=metric, value=float(value), **row)


def affine(s: Study) -> None:
    """Restyle clean photos under several weights of the affine loss.

    All weights of a photo go on from one first stage, and nothing is smoothed afterwards. The rest
    of the loss is that of Deep Photo Style Transfer, in which nothing is drawn at random.

    Args:
        s: The run; receives L_aff of the result and the SSIM of its edges with the content's.
    """
    if not _ready(s):
        return
    style, seed = s.style_picture(), s.p.seed
    for one in _contents(s)[:3]:
        C = one.clean[None]
        series = sfe.affine_series(
            one.clean, style, s.run, gammas=AFFINES,
            recipe=replace(s.scale.photo, seed=seed), stage=f"affine-{one.name}",
        )  # fmt: skip
        for weight, found in series.items():
            E = found.E.cpu()[None]
            measured = {
                "affine_loss": photorealism.matting(E, C), "edge_ssim": edges.edge_similarity(E, C)
            }  # fmt: skip
            _record(
                s.run, measured, dataset="bundled photos", method=f"affine={weight:g}",
                image=one.name, seed=seed, table="affine",
            )  # fmt: skip


def affine_table(run: Run) -> pd.DataFrame:
    """What the weight of the affine loss does.

    Args:
        run: After `affine`.

    Returns:
        One row per weight, mean and spread over seeds.
    """
    import pandas as pd

    values, rows = run.values(table="affine"), []
    for method in dict.fromkeys(values["method"]):
        one = select(values, method=method)
        cells = {
            title: spread(list(select(one, metric=metric)["value"]), digits=digits)
            for metric, title, digits in (
                ("affine_loss", "L_aff of the result", 3), ("edge_ssim", "SSIM of edges", 3)
            )
        }  # fmt: skip
        rows.append({"weight": str(method).partition("=")[2], **cells})
    return pd.DataFrame(rows)


def balance(s: Study) -> None:
    """Restyle the first clean photo under several weights of the style loss.

    Args:
        s: The run; receives both losses at the end of each optimisation, before their weights.
    """
    if not _ready(s):
        return
    one = _contents(s)[0]
    found = sfe.beta_sweep(
        one.clean, s.style_picture(), s.run, betas=BETAS[::4] if _brief(s) else BETAS,
        loss=sfe.weighted(s.p), recipe=replace(s.scale.photo, seed=s.p.seed),
        smooth=False, stage="balance",
    )  # fmt: skip
    for beta, made in found.items():
        measured = {name: made.value(name) for name in ("content", "style")}
        _record(
            s.run, measured, dataset="bundled photos", method=f"beta={beta:g}",
            image=one.name, seed=s.p.seed, table="balance",
        )  # fmt: skip


def haziness(s: Study) -> None:
    """Restyle hazy, dehazed and clean photos, and record H and the errors of Table 2 for haze.

    Args:
        s: The run; receives a row per photo, and means over photos. Keeps pictures for the figure.
    """
    if not _ready(s):
        return
    contents, methods = _contents(s), transfers.listed(s)
    print("\n".join(transfers.missing(s)))
    E = transfers.errors(s, (contents[0].clean.shape[1], contents[0].clean.shape[2]))
    for one in contents:
        s.keep("restyled", one.name, "input $I$", one.hazy)
        for method in methods:
            work = partial(_hazy, s, method, one, E)
            s.arm(f"{method} on {one.name}", work, main=method not in OPTIMISED)
    _means(s.run, "haziness")
    for reference in ("haze", f"haze, {AGAINST_I}"):
        _means(s.run, "table2", setting=reference)


def _hazy(s: Study, method: str, one: Hazy, E: Mapping[str, Error]) -> None:
    """One style transfer of one photo."""
    C = one.clean[None].to(s.device)
    of_clean = transfer(s, method, one.clean, f"{one.name} clean", seed=s.p.seed)[None].to(C)
    for setting, seed, content in _inputs(s, method, one):
        what = f"{one.name} {'hazy' if setting == FROM_HAZY else 'dehazed'}"
        restyled = transfer(s, method, content, what, seed=s.p.seed if seed is None else seed)
        D = restyled[None].to(C)
        row = {"dataset": DATASET, "method": method, "image": one.name, "seed": seed}
        H = {name: relative_haze(error, C, D, of_clean) for name, error in E.items()}
        _record(s.run, H, **row, setting=setting, table="haziness")
        own = setting == (FROM_CFE if method == DILIE else FROM_HAZY)
        if own:
            _record(s.run, errors(C, D, given=E), **row, setting="haze", table="table2")
            given = errors(one.hazy[None].to(C), D, given=E)
            _record(s.run, given, **row, setting=f"haze, {AGAINST_I}", table="table2")
        if (own or method == DILIE) and seed in (None, s.p.seed):
            s.keep("restyled", one.name, method if own else f"{method} without CFE", restyled)


def _inputs(s: Study, method: str, one: Hazy) -> Iterator[tuple[str, int | None, Tensor]]:
    """(setting, seed, content): I once, and C^ of every seed that is affordable."""
    optimised = method not in ONE_PASS
    yield FROM_HAZY, s.p.seed if optimised else None, one.hazy
    full = next(hazy for hazy in s.hazy_pictures() if hazy.name == one.name)
    for seed in s.seeds[:1] if optimised or _brief(s) else s.seeds:
        clean = s.dehazed(full, s.p.lam, seed).picture
        yield FROM_CFE, seed, pictures.shrunk(clean, s.scale.side)


def _means(run: Run, table: str, **where: str) -> None:
    """Record means over photos, per method, setting, error and seed."""
    import pandas as pd

    keys = ["dataset", "method", "metric", "setting", "seed"]
    values = run.values(table=table, **where)
    for key, one in values.groupby(keys, sort=False, dropna=False):
        row: dict[str, Any] = dict(zip(keys, key, strict=True))
        row["seed"] = None if pd.isna(row["seed"]) else int(row["seed"])
        run.record(**row, value=fmean(one["value"]), table=table)


def haziness_table(run: Run) -> pd.DataFrame:
    """H of every style transfer, from the hazy photo and from what CFE made of it.

    Args:
        run: After `haziness`.

    Returns:
        One row per method and input, one column per error.
    """
    return _by_error(run, "haziness", ("method", "setting"), {"setting": "restyled"})


def noisy(s: Study) -> None:
    """Restyle a noisy photo after a noisy style, as they are and denoised (section 4.2).

    At tables="main" only methods without optimisation are measured at every strength of the noise;
    the run's own strength, which is Table 2's, all methods see.

    Args:
        s: The run; receives errors against the clean photo. Keeps pictures for the figures.
    """
    if not _ready(s):
        return
    one, methods = _contents(s)[0], transfers.listed(s)
    quick = methods if s.p.tables == "all" else [m for m in methods if m in ONE_PASS]
    E = transfers.errors(s, (one.clean.shape[1], one.clean.shape[2]))
    for sigma in _strengths(s):
        I = _noised(s, one.clean, sigma, "I")  # noqa: E741
        S = _noised(s, s.style_picture(), sigma, "S")
        s.keep("noisy", sigma, "noisy $I$", I)
        if sigma == s.p.sigma:
            s.keep("restyled", f"{one.name}, noisy", "input $I$", I)
        arms = _arms(s, I, S)
        for method in methods if sigma == s.p.sigma else quick:
            work = partial(_noisy, s, method, sigma, one, arms, E, shown=method == quick[-1])
            main = method in ONE_PASS or (sigma == s.p.sigma and method not in OPTIMISED)
            s.arm(f"{method} at sigma {sigma:g}", work, main=main)
    _means(s.run, "noisy")
    for reference in ("noise", f"noise, {AGAINST_I}"):
        _means(s.run, "table2", setting=reference)


def _strengths(s: Study) -> Sequence[float]:
    return (s.p.sigma,) if _brief(s) else sorted({*SIGMAS, s.p.sigma})


def _noised(s: Study, picture: Tensor, sigma: float, name: str) -> Tensor:
    generator = runtime.generator(s.p.seed, "noisy enhancement", name)
    return images.clip(picture + sigma / 255 * torch.randn(picture.shape, generator=generator))


def _arms(s: Study, I: Tensor, S: Tensor) -> Arms:  # noqa: E741
    """Setting -> (content, style)."""
    cleaned = _denoised(s, I)
    arms = {FROM_I: (I, S), FROM_CFE: (cleaned, S)}
    if min(S.shape[1:]) < demands.LEAST:
        print(f"{CLEANED}: not run, the style has sides under {demands.LEAST} pixels")
        return arms
    return {**arms, CLEANED: (cleaned, _denoised(s, S))}


def _denoised(s: Study, noisy: Tensor) -> Tensor:
    plan = s.plan(s.scale.dip, s.p.seed)
    return cfe.denoise(noisy, run=s.run, setting=SETTINGS[s.setting()], plan=plan).picture


def _noisy(
    s: Study, method: str, sigma: float, one: Hazy, arms: Arms, E: Mapping[str, Error], *,
    shown: bool,
) -> None:  # fmt: skip
    """One style transfer at one strength of the noise."""
    C = one.clean[None].to(s.device)
    for setting, (content, style) in arms.items():
        name = f"{one.name} sigma={sigma:g} {setting}"
        restyled = transfer(s, method, content, name, seed=s.p.seed, style=style)
        drawn = method not in ONE_PASS or setting != FROM_I  # CFE depends on a seed too
        row = {
            "dataset": "noisy photos", "method": method, "image": one.name,
            "seed": s.p.seed if drawn else None,
        }  # fmt: skip
        measured = errors(C, restyled[None].to(C), given=E)
        _record(s.run, measured, **row, setting=f"sigma={sigma:g}; {setting}", table="noisy")
        if shown:
            s.keep("noisy", sigma, setting, restyled)
        own = setting == (FROM_CFE if method == DILIE else FROM_I)
        if sigma == s.p.sigma and own:
            _record(s.run, measured, **row, setting="noise", table="table2")
            given = errors(arms[FROM_I][0][None].to(C), restyled[None].to(C), given=E)
            _record(s.run, given, **row, setting=f"noise, {AGAINST_I}", table="table2")
        if sigma == s.p.sigma and (own or (method == DILIE and setting == FROM_I)):
            title = method if own else f"{method} without CFE"
            s.keep("restyled", f"{one.name}, noisy", title, restyled)


def table_2(run: Run) -> pd.DataFrame:
    """Error between the clean content and what every style transfer made of hazy and noisy photos.

    Args:
        run: After `haziness` and `noisy`.

    Returns:
        One row per method and kind of input, one column per error; the paper's numbers are n/a.
    """
    frame = _by_error(run, "table2", ("setting", "method"), {"setting": "input"})
    if frame.empty:
        return frame
    ordered = frame.sort_values("input", kind="stable", ignore_index=True)
    return ordered.assign(**{"PieAPP (paper)": "n/a"})


def noisy_table(run: Run) -> pd.DataFrame:
    """Errors of restyled noisy photos, with and without denoising content and style.

    Args:
        run: After `noisy`.

    Returns:
        One row per strength and what was restyled, and method; one column per error.
    """
    return _by_error(run, "noisy", ("setting", "method"), {"setting": "noise; restyled"})


def _by_error(
    run: Run, table: str, keys: tuple[str, str], names: Mapping[str, str]
) -> pd.DataFrame:
    """Mean and spread over photos and seeds: a row per pair of keys, a column per error."""
    import pandas as pd

    values, rows = run.values(table=table), []
    values = values[values["image"] != "mean"]
    for key, one in values.groupby(list(keys), sort=False):
        cells = {
            metric: spread(list(select(one, metric=metric)["value"]), digits=3)
            for metric in dict.fromkeys(values["metric"])
        }
        rows.append({**{names.get(n, n): k for n, k in zip(keys, key, strict=True)}, **cells})
    return pd.DataFrame(rows)
