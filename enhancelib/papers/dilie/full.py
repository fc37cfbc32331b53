"""What tables="all" adds at full size, whatever the profile: one of everything, once.

A full-width reconstruction of 256 x 256 pixels, a decomposition in two passes as Double-DIP does
it, and a restyling of 512 pixels. Each is one seed: they show sizes, not spreads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from enhancelib import images, photos, runtime
from enhancelib.models.skip import SETTINGS
from enhancelib.papers.dilie import affine, cfe, pictures, sfe
from enhancelib.papers.dilie.haziness import vgg19_unit
from enhancelib.papers.dilie.pictures import score
from enhancelib.papers.dilie.settings import CONTENT
from enhancelib.papers.dilie.study import Study
from enhancelib.results import Run
from enhancelib.tables import select

if TYPE_CHECKING:
    import pandas as pd

SIDE, LONG = 256, 512
"""Pixels of the reconstruction; long side of the restyling."""
RECONSTRUCTION, DECOMPOSITION, RESTYLING = (
    "reconstruction, 128 channels, 256 px",
    "decomposition, two passes",
    "restyling (L_PE), 512 px",
)
Row = tuple[str, Mapping[str, float]]


def measure(s: Study) -> None:
    """Run all three where tables is "all"; print what does not run.

    Args:
        s: The run; receives scores before and after.
    """
    if s.p.tables != "all":
        print("full width and full size: not run at this profile; tables='all' runs them")
        return
    tasks: tuple[Callable[[Study], Row], ...] = (_reconstructed, _decomposed, _restyled)
    names = (RECONSTRUCTION, DECOMPOSITION, RESTYLING)
    for method, task in zip(names, tasks, strict=True):
        if s.vgg19 is None and task is not _reconstructed:
            continue
        s.arm(method, partial(_record, s, method, task))


def _record(s: Study, method: str, task: Callable[[Study], Row]) -> None:
    image, found = task(s)
    for metric, value in found.items():
        s.run.record(
            dataset="full size", method=method, metric=metric, value=value, image=image,
            seed=s.p.seed, table="full_size",
        )  # fmt: skip


def _reconstructed(s: Study) -> Row:
    name, photo = pictures.official(s.p, "F16_GT", "astronaut")
    clean = pictures.cropped(photo, SIDE, SIDE)
    noise = torch.randn(clean.shape, generator=runtime.generator(s.p.seed, "noise", "full size"))
    noisy = images.clip(clean + s.p.sigma / 255 * noise)
    plan = s.plan(s.scale.dip, s.p.seed)
    made = cfe.denoise(noisy, run=s.run, setting=SETTINGS["denoise"], plan=plan)
    return name, _both(noisy, made.picture, clean)


def _decomposed(s: Study) -> Row:
    one = s.hazy_pictures()[0]
    assert s.vgg19 is not None
    made = cfe.dehaze(
        one.hazy, run=s.run, airlight=one.A, content=cfe.Content(s.p.lam, s.vgg19, CONTENT),
        passes=2, radius=one.radius, plan=s.plan(s.scale.haze, s.p.seed),
    )  # fmt: skip
    first = {"psnr, one pass": score("psnr", made.passes[0].picture, one.clean)}
    return one.name, {**_both(one.hazy, made.picture, one.clean), **first}


def _restyled(s: Study) -> Row:
    name = s.content_names()[0]
    content = pictures.shrunk(photos.load(name), LONG)
    given = images.read(s.p.reference) if s.p.reference else photos.load(pictures.STYLE)
    style = pictures.shrunk(given, LONG)
    made = sfe.photorealistic(
        content, style, s.run, loss=sfe.weighted(s.p),
        recipe=replace(s.scale.photo, seed=s.p.seed), stage=f"full-{name}",
    ).E  # fmt: skip
    return name, {
        "VGG19-unit": float(vgg19_unit(content[None], made[None])[0]),
        "edge_ssim": float(affine.edge_similarity(made[None], content[None])),
    }


def _both(before: Tensor, after: Tensor, clean: Tensor) -> dict[str, float]:
    found = {metric: score(metric, after, clean) for metric in ("psnr", "ssim")}
    return {**found, "psnr of the input": score("psnr", before, clean)}


def table(run: Run) -> pd.DataFrame:
    """What full size gave.

    Args:
        run: After `measure`.

    Returns:
        One row per task and metric; one row that says so where nothing ran.
    """
    import pandas as pd

    values = run.values(table="full_size")
    if values.empty:
        return pd.DataFrame([{"task": "not run at this profile", "picture": "", "metric": ""}])
    rows = []
    for method in dict.fromkeys(values["method"]):
        for row in select(values, method=method).to_dict("records"):
            cells = {"picture": row["image"], "metric": row["metric"]}
            rows += [{"task": method, **cells, "value": f"{row['value']:.3f}"}]
    return pd.DataFrame(rows)
