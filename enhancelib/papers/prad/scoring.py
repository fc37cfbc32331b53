"""How a method is scored on the test pairs, and the tables made of the scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from enhancelib import features, images, metrics
from enhancelib.losses import texture
from enhancelib.papers.prad import data
from enhancelib.papers.prad.study import MS_SSIM_SIDE, Study, apply
from enhancelib.results import Run, select
from enhancelib.tables import spread

if TYPE_CHECKING:
    import pandas as pd

Restore = Callable[[Tensor], Tensor]
ALL, NO_WHITE = "all pairs", "without white pairs"
UNCLIPPED = ("psnr_dped", "psnr_pooled", "ms_ssim_dped")
COLUMNS = {
    "psnr": ("PSNR, per image", 2),
    "psnr_dped": ("PSNR, batches of 50", 2),
    "psnr_pooled": ("PSNR, all pooled", 2),
    "ms_ssim_dped": ("MS-SSIM", 4),
    "ssim": ("SSIM", 4),
    "lpips_alex": ("LPIPS, Alex ↓", 4),
    "lpips_vgg": ("LPIPS, VGG ↓", 4),
    "gradient_error": ("gradient error ↓", 4),
    "lcn_error": ("LCN error ↓", 3),
    "cast": ("colour cast ↓, /255", 1),
    "brighter": ("brighter than target, /255", 1),
}
"""Metric -> column title and decimals."""
QUALITY = ("psnr", "psnr_dped", "ms_ssim_dped", "ssim", "lpips_alex", "lpips_vgg")


def score(
    s: Study,
    restore: Restore,
    *,
    method: str,
    table: str,
    seed: int | None = None,
    lpips: Sequence[str] = (),
) -> float:
    """Restore every test picture and record all scores, with and without pure white pairs.

    Args:
        s: The run.
        restore: (N, 3, H, W) -> the same, not clipped.
        method: Whose output it is.
        table: Which table the numbers belong to.
        seed: Of the training, where there was one.
        lpips: Which of the two LPIPS are among them; they take most of the time.

    Returns:
        Mean PSNR per image in dB, over all pairs.
    """
    pairs, dataset = data.test(s.p), data.name(s.p)
    restored = restore(pairs.degraded)
    found = _values(restored, pairs.clean, lpips)
    for image, value in zip(pairs.names, found["psnr"].tolist(), strict=True):
        s.run.record(
            dataset=dataset, method=method, metric="psnr", value=value, seed=seed, image=image,
            setting=ALL, table=table,
        )  # fmt: skip
    kept = {ALL: torch.ones(len(pairs.names), dtype=torch.bool), NO_WHITE: ~pairs.white}
    for setting, chosen in kept.items():
        for metric, values in found.items():
            s.run.record(
                dataset=dataset, method=method, metric=metric, seed=seed, setting=setting,
                table=table, value=_summary(metric, values[chosen]),
            )  # fmt: skip
    return _summary("psnr", found["psnr"])


def _values(restored: Tensor, clean: Tensor, lpips: Sequence[str]) -> dict[str, Tensor]:
    clipped, found = images.clip(restored), {}
    wanted = ["psnr", "psnr_dped", "psnr_pooled", "ssim"]
    if min(clean.shape[-2:]) >= MS_SSIM_SIDE:
        wanted.append("ms_ssim_dped")
    wanted += [m for m in lpips if features.present(_NETWORK[m])]
    for name in wanted:
        judged = restored if name in UNCLIPPED else clipped
        pieces = zip(torch.split(judged, 50), torch.split(clean, 50), strict=True)
        with torch.inference_mode():
            found[name] = torch.cat([metrics.METRICS[name](x, y) for x, y in pieces])
    return found | _details(clipped, clean)


_NETWORK = {"lpips_alex": "alexnet", "lpips_vgg": "vgg16"}


def _details(x: Tensor, y: Tensor) -> dict[str, Tensor]:
    """Per picture: what the texture loss looks at, and what the mean colour does."""
    pairs = list(zip(torch.split(x, 1), torch.split(y, 1), strict=True))
    shift = (x - y).mean((2, 3))  # (N, 3)
    brighter = shift.mean(1)
    return {
        "gradient_error": torch.stack([texture.gradient(a, b) for a, b in pairs]),
        "lcn_error": torch.stack([texture.lcn(a, b) for a, b in pairs]),
        "cast": 255 * (shift - brighter[:, None]).norm(dim=1),
        "brighter": 255 * brighter,
    }


def _summary(metric: str, values: Tensor) -> float:
    if metric in metrics.METRICS:
        return metrics.METRICS[metric].summary(values)
    return float(values.mean())


def network(trained: torch.nn.Module) -> Restore:
    """A network as a restoring function.

    Args:
        trained: (B, 3, H, W) -> the same.

    Returns:
        (N, 3, H, W) -> (N, 3, H, W) on the CPU, in pieces.
    """
    return lambda degraded: apply(trained, degraded)


def table(
    run: Run,
    name: str,
    *,
    columns: Sequence[str] = QUALITY,
    methods: Sequence[str] = (),
    setting: str = ALL,
) -> pd.DataFrame:
    """Methods by metrics, mean and spread over seeds, with PSNR also without white pairs.

    Args:
        run: After `score`.
        name: The table that the scores belong to.
        columns: Metrics in the order shown.
        methods: In the order shown; empty means as recorded. One without rows says "not run".
        setting: `ALL` or `NO_WHITE`.

    Returns:
        One row per method.
    """
    import pandas as pd

    values = run.values(table=name, image="mean")
    listed = methods or list(dict.fromkeys(values["method"]))
    rows = []
    for method in listed:
        own = select(values, method=method)
        row: dict[str, str] = {"method": method}
        for metric in columns:
            title, digits = COLUMNS[metric]
            row[title] = _cell(select(own, metric=metric, setting=setting), digits)
            if metric == "psnr" and setting == ALL:
                row["without white"] = _cell(select(own, metric=metric, setting=NO_WHITE), digits)
        rows.append(row)
    frame = pd.DataFrame(rows)
    return frame.loc[:, [c for c in frame if c == "method" or (frame[c] != NOT_RUN).any()]]


NOT_RUN = "not run"


def _cell(values: pd.DataFrame, digits: int) -> str:
    return spread(list(values["value"]), digits=digits) if len(values) else NOT_RUN


def protocols(columns: Sequence[str]) -> str:
    """The sentences that stand under a table.

    Args:
        columns: Its metrics.

    Returns:
        One line per metric.
    """
    own = {
        "gradient_error": "mean absolute difference of forward differences, x and y added",
        "lcn_error": "mean square difference after local contrast normalisation, 7 x 7 pixels",
        "cast": "length of the difference of mean colours after its grey part is taken away",
        "brighter": "mean of output minus target",
    }
    lines = [
        f"{COLUMNS[m][0]}: {metrics.METRICS[m].protocol if m in metrics.METRICS else own[m]}"
        for m in columns
    ]
    return "\n".join(lines)
