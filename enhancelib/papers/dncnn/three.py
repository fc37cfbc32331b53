"""DnCNN-3: one network for Gaussian noise, bicubic down-sampling and JPEG."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from enhancelib import degradations, images, models
from enhancelib.papers.dncnn import data, study, verdict
from enhancelib.papers.dncnn.sections import Networks
from enhancelib.papers.dncnn.settings import SIGMAS
from enhancelib.papers.dncnn.study import Study

if TYPE_CHECKING:
    import pandas as pd

    from enhancelib.results import Run

QUALITIES = (10, 20, 30, 40)
SCALES = (2, 3, 4)


def measure(s: Study, found: Networks) -> None:
    """DnCNN-3: one network for noise, super-resolution and JPEG.

    Args:
        s: The run's trainings.
        found: Its networks; the authors' DnCNN-3 is scored where it is at hand.
    """
    if s.leaves_out("three tasks"):
        return
    restorers: list[tuple[str, nn.Module, int | None]] = [
        (verdict.THREE, models.fast(s.three(seed).network), seed) for seed in s.p.all_seeds()
    ]
    if "3" in found.official:
        restorers.append(("DnCNN-3 (official weights)", found.official["3"], None))
    for dataset, setting, pairs in _pairs(s):
        study.score(
            s.run, lambda y: y, pairs, method="degraded", dataset=dataset, setting=setting,
            table="three",
        )  # fmt: skip
        for method, network, seed in restorers:
            study.score(
                s.run, network, pairs, method=method, dataset=dataset, setting=setting,
                table="three", seed=seed,
            )  # fmt: skip


def _pairs(s: Study) -> list[tuple[str, str, dict[str, tuple[Tensor, Tensor]]]]:
    """Test pairs (degraded, clean) by set and setting."""
    own = data.test_photos(s.p, colour=False)
    sets = {"SR": {data.PHOTOS: own}, "JPEG": {data.PHOTOS: own}}
    for task, names in (("SR", ("Set5", "Set14")), ("JPEG", ("classic5", "LIVE1"))):
        for name in names:
            layout = data.LAYOUTS[name]
            if s.p.data_root and layout.find(s.p.data_root):
                read = layout.read(s.p.data_root)
                sets[task][name] = {
                    k: images.luma(v, "studio") if v.shape[0] == 3 else v for k, v in read.items()
                }
    found = [(data.PHOTOS, f"noise {sigma}", _noise_pairs(own, sigma)) for sigma in SIGMAS]
    for name, pictures in sets["SR"].items():
        for scale in (2, 3, 4):
            pairs = {k: data.pictures_at_scale(v, scale)[::-1] for k, v in pictures.items()}
            found.append((name, f"SR x{scale}", pairs))
    for name, pictures in sets["JPEG"].items():
        for quality in QUALITIES:
            pairs = {k: (jpeg(v, quality), v) for k, v in pictures.items()}
            found.append((name, f"JPEG {quality}", pairs))
    return found


def _noise_pairs(pictures: Mapping[str, Tensor], sigma: int) -> dict[str, tuple[Tensor, Tensor]]:
    return {name: (data.noisy(clean, sigma), clean) for name, clean in pictures.items()}


def jpeg(clean: Tensor, quality: int) -> Tensor:
    """A picture after JPEG.

    Args:
        clean: (1, H, W).
        quality: 1 to 100.

    Returns:
        (1, H, W).
    """
    sample = degradations.Jpeg(quality)({"clean": clean[None]}, torch.Generator())
    return sample["degraded"][0]


def network(s: Study) -> nn.Module | None:
    """The network of the first seed.

    Args:
        s: The run's trainings.

    Returns:
        In eval mode; None where the profile leaves the section out.
    """
    if s.leaves_out("six tiles"):
        return None
    return s.three(s.p.seed).network


def published(run: Run) -> pd.DataFrame | None:
    """The published PSNR on the sets that this run measured too.

    Args:
        run: After `measure`.

    Returns:
        One row per method, set and setting; None where no set is shared.
    """
    from enhancelib import published as numbers

    shared = set(run.values(table="three")["dataset"]) - {data.PHOTOS}
    frame = numbers.rows("dncnn", table="dncnn3", metric="psnr")
    frame = frame[frame["dataset"].str.lower().isin({name.lower() for name in shared})]
    if frame.empty:
        return None
    return frame[["dataset", "setting", "row", "value", "certainty"]].reset_index(drop=True)
