"""The measuring sections of the notebook: each records numbers, and gives the table to show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from enhancelib import images, models, weights
from enhancelib.models import accounting
from enhancelib.papers.dncnn import baselines, data, settings, study, verdict
from enhancelib.papers.dncnn.settings import SIGMAS
from enhancelib.papers.dncnn.study import Arm, Study, Trained
from enhancelib.recipes import compared
from enhancelib.results import select
from enhancelib.tables import spread

if TYPE_CHECKING:
    import pandas as pd

    from enhancelib.results import Run

# Table A3 of the spec: (name, options, parameters, receptive field or None)
COUNTS: Sequence[tuple[str, Mapping[str, object], int, int]] = (
    ("DnCNN-S", {"D": 17, "c": 1}, 556_097, 35),
    ("DnCNN-S, BN merged", {"D": 17, "c": 1, "norm": "none"}, 555_137, 35),
    ("DnCNN-B and -3, BN merged", {"D": 20, "c": 1, "norm": "none"}, 665_921, 41),
    ("CDnCNN, BN merged", {"D": 20, "c": 3, "norm": "none"}, 668_227, 41),
    (
        "FDnCNN",
        {"D": 20, "c": 1, "norm": "none", "residual": False, "noise_map": True},
        666_497,
        41,
    ),
)
SHOWN_FIELDS = (
    "steps", "batch", "sub_batches", "patch", "optimiser", "learning_rate", "final_learning_rate",
    "schedule", "milestones", "weight_decay", "epoch",
)  # fmt: skip
LEVELS = (5, 15, 25, 35, 50)


def architecture(run: Run) -> pd.DataFrame:
    """Parameters and receptive fields of the built networks beside the published ones.

    Args:
        run: Receives the numbers.

    Returns:
        One row per network.
    """
    import pandas as pd

    rows = []
    for name, options, published, field in COUNTS:
        network = models.build("dncnn", **options)
        count = sum(parameter.numel() for parameter in network.parameters())
        seen = receptive_field(network)
        for metric, equal in (
            ("parameters_exact", count == published),
            ("receptive_field_exact", seen == field),
        ):
            run.record(
                dataset="built", method=name, metric=metric, value=equal, table="architecture"
            )
        rows.append((name, count, published, seen, field))
    head = ("network", "parameters", "published", "receptive field (gradient)", "2D + 1")
    return pd.DataFrame(rows, columns=list(head))


def receptive_field(network: nn.Module) -> int | None:
    """Side of the square of input pixels on which one output pixel depends, found by gradient.

    Args:
        network: With attributes c and D; its weights are replaced by ones in a copy.

    Returns:
        In pixels; None if it is twice what the depth allows, or more.
    """
    level = torch.ones(1, 1, 1, 1, dtype=torch.float64) if network.noise_map else None
    last = "residual" if network.residual else "restored"  # y in the sum would be seen for itself

    def call(probe: nn.Module, x: Tensor) -> Tensor:
        found: Tensor = probe.outputs(x, level)[last]  # type: ignore[operator]
        return found

    side, channels = 4 * int(network.D) + 3, int(network.c)  # type: ignore[arg-type]
    return accounting.receptive_field(
        models.fold(network), side, channels=channels, pixels=1, call=call
    )


def recipes(s: Study) -> pd.DataFrame:
    """The recipe of this run's training section beside the published ones.

    Args:
        s: The run's trainings.

    Returns:
        One row per field that differs from a plain default, one column per recipe.
    """
    columns = {"this run": settings.main_recipe(s.p), "paper": settings.RECIPES["paper"]}
    columns["official code"] = settings.RECIPES["official"]
    return compared(columns, SHOWN_FIELDS)


@dataclass(frozen=True)
class Networks:
    """The networks of one run.

    Args:
        main: Of the training section, one per seed.
        official: The authors', by role ("S25", "B", ...).
    """

    main: Mapping[int, Trained]
    official: Mapping[str, nn.Module]


def networks(s: Study) -> Networks:
    """Train the networks of the training section, and read the official ones where given.

    Args:
        s: The run's trainings.

    Returns:
        The networks.
    """
    main = {seed: s.main(seed) for seed in s.p.all_seeds()}
    files = data.official(s.p.weights) if s.p.weights else {}
    loaded = {role: models.fast(weights.load("dncnn", file)) for role, file in files.items()}
    return Networks(main, {role: net.to(s.device) for role, net in loaded.items()})


def denoising(s: Study, found: Networks) -> None:
    """Score every method on every grey test set; BM3D on as many pictures as the profile allows.

    Args:
        s: The run's trainings.
        found: Its networks.
    """
    if s.p.variant == "C":
        return
    levels = sorted({float(s.p.sigma), *(map(float, SIGMAS) if s.p.tables == "all" else ())})
    for name, pictures in data.test_sets(s.p).items():
        for sigma in levels:
            _baselines(s, name, pictures, sigma)
            for seed, trained in found.main.items():
                _measure(s, models.fast(trained.network), pictures, verdict.MAIN, name, sigma, seed)
            for role, method in ((f"S{sigma:g}", verdict.OFFICIAL_S), ("B", verdict.OFFICIAL_B)):
                if role in found.official:
                    _measure(s, found.official[role], pictures, method, name, sigma)


def _measure(
    s: Study,
    network: nn.Module,
    pictures: Mapping[str, Tensor],
    method: str,
    dataset: str,
    sigma: float,
    seed: int | None = None,
) -> None:
    study.measure(
        s.run, network, pictures, method=method, dataset=dataset, sigma=sigma, table="denoising",
        seed=seed,
    )  # fmt: skip


def _baselines(s: Study, dataset: str, pictures: Mapping[str, Tensor], sigma: float) -> None:
    methods = {"noisy": lambda noisy, _: images.clip(noisy), **baselines.BASELINES}
    for method, function in methods.items():
        slow = method == verdict.BM3D
        if slow and (not baselines.has_bm3d() or s.scale.bm3d < len(pictures)):
            continue
        if not slow:
            study.measure(
                s.run, study.each(function, sigma), pictures, method=method, dataset=dataset,
                sigma=sigma, table="denoising",
            )  # fmt: skip
            continue
        restored = {name: _once(s, dataset, name, clean, sigma) for name, clean in pictures.items()}
        pairs = {name: (restored[name], clean) for name, clean in pictures.items()}
        study.score(
            s.run, lambda y: y, pairs, method=method, dataset=dataset, setting=f"sigma={sigma:g}",
            table="denoising",
        )  # fmt: skip


def _once(s: Study, dataset: str, name: str, clean: Tensor, sigma: float) -> Tensor:
    """BM3D takes seconds a picture: a run that was cut short reads what it had."""

    def restore() -> list[int]:
        levels = images.to_uint8(baselines.bm3d(data.noisy(clean, sigma), sigma))
        return [int(v) for v in levels.flatten()]

    levels = torch.tensor(s.run.once(f"bm3d {dataset} {name} {sigma:g}", restore))
    return (levels.to(torch.float32) / 255).reshape(clean.shape)


def denoising_table(run: Run, dataset: str, published: pd.DataFrame | None = None) -> pd.DataFrame:
    """PSNR of every method on one set, published rows first where the set is the same.

    Args:
        run: After `denoising`.
        dataset: Name of the set.
        published: Rows of data/published on the same set, mean values only.

    Returns:
        One row per method, one column per noise level.
    """
    import pandas as pd

    own = select(run.values(), table="denoising", metric="psnr_8bit", image="mean", dataset=dataset)
    rows = _published_rows(published) if published is not None else []
    for method, group in own.groupby("method", sort=False):
        cells = {
            _level(str(setting)): spread(list(values["value"]))
            for setting, values in group.groupby("setting", sort=False)
        }
        rows.append({"method": str(method), "source": "this run", **cells})
    if not rows:
        return pd.DataFrame(columns=["method", "source"])
    frame = pd.DataFrame(rows).fillna("n/a")
    levels = [column for column in frame.columns if column.startswith("σ")]
    return frame[["method", "source", *sorted(levels, key=lambda c: float(c.split()[-1]))]]


def _published_rows(frame: pd.DataFrame) -> list[dict[str, str]]:
    rows = []
    for method, group in frame.groupby("row", sort=False):
        marks = ", ".join(sorted(set(group["certainty"])))
        cells = {
            _level(setting): f"{value:.2f}"
            for setting, value in zip(group["setting"], group["value"], strict=True)
        }
        rows.append({"method": str(method), "source": f"published [{marks}]", **cells})
    return rows


def _level(setting: str) -> str:
    return f"σ = {setting.removeprefix('sigma=')}"


def published_means(table: str) -> pd.DataFrame:
    """The published averages of one table, without networks that came after the paper.

    Args:
        table: "set12" or "bsd68".

    Returns:
        Rows of data/published.
    """
    from enhancelib import published

    frame = published.rows("dncnn", table=table, image="mean")
    return frame[~frame["row"].isin(["DRUNet", "FDnCNN"])].reset_index(drop=True)


def published_table(table: str) -> pd.DataFrame:
    """The published averages of one table, one column per noise level.

    Args:
        table: "set12" or "bsd68".

    Returns:
        One row per method.
    """
    import pandas as pd

    return pd.DataFrame(_published_rows(published_means(table))).fillna("n/a")


def parity(run: Run, published: pd.DataFrame) -> None:
    """Compare official networks on Set12 with the published averages.

    Args:
        run: After `denoising`, with data_root and weights.
        published: Averages of the Set12 table: columns row, setting, value.
    """
    own = select(run.values(), table="denoising", metric="psnr_8bit", image="mean", dataset="Set12")
    for method, row in ((verdict.OFFICIAL_S, "DnCNN-S"), (verdict.OFFICIAL_B, "DnCNN-B")):
        for _, mine in select(own, method=method).iterrows():
            theirs = published[
                (published["row"] == row) & (published["setting"] == mine["setting"])
            ]
            if len(theirs):
                run.agree(
                    f"{row}, Set12, {mine['setting']}, PSNR in dB",
                    ours=float(mine["value"]),
                    published=float(theirs["value"].iloc[0]),
                    within=0.02,
                    by="official weights",
                )


def ablation(s: Study) -> dict[Arm, Trained]:
    """Residual or direct, with or without BN, by Adam and by SGD, every seed.

    Args:
        s: The run's trainings; test PSNR and the steps to 27 dB are recorded.

    Returns:
        Every arm's network and curves; none where the profile leaves the section out.
    """
    if s.leaves_out("ablation"):
        return {}
    arms = [
        Arm(residual, norm, optimiser, s.p.sigma, seed)
        for optimiser in ("adam", "sgd")
        for norm in (True, False)
        for residual in (True, False)
        for seed in s.p.all_seeds()
    ]
    trained = {arm: s.arm(arm) for arm in arms}
    for arm, one in trained.items():
        _score_photos(s, one.network, arm, table="ablation", sigma=s.p.sigma)
        reached = one.history.reached("psnr", 27.0)
        s.run.record(
            dataset="validation", method=arm.method, metric="steps_to_27dB", seed=arm.seed,
            value=float("nan") if reached is None else reached, table="ablation",
        )  # fmt: skip
    return trained


def _score_photos(
    s: Study, network: nn.Module, arm: Arm, *, table: str, sigma: float, method: str = ""
) -> None:
    study.measure(
        s.run, models.fast(network), data.test_photos(s.p, colour=False), dataset=data.PHOTOS,
        method=method or arm.method, sigma=sigma, table=table, seed=arm.seed,
    )  # fmt: skip


def ablation_table(run: Run) -> pd.DataFrame:
    """PSNR on the test photos and steps to 27 dB of every arm, mean and spread over seeds.

    Args:
        run: After `ablation`.

    Returns:
        One row per arm.
    """
    import pandas as pd

    values, rows = run.values(table="ablation"), []
    for method in dict.fromkeys(values["method"]):
        psnr = select(values, method=method, metric="psnr_8bit", image="mean")["value"]
        steps = select(values, method=method, metric="steps_to_27dB")["value"]
        got = steps.dropna()
        reached = f"{spread(list(got), digits=0)} ({len(got)} of {len(steps)} seeds)"
        rows.append((method, spread(list(psnr)), reached if len(got) else "not reached"))
    return pd.DataFrame(
        rows, columns=["arm", "PSNR in dB, test photos", "steps to 27 dB, validation"]
    )


def gain(s: Study) -> None:
    """Residual against direct prediction at several noise levels, without BN, by Adam.

    Args:
        s: The run's trainings; test PSNR is recorded per level and seed.
    """
    if s.leaves_out("gain"):
        return
    for sigma in (5.0, 15.0, 25.0, 50.0):
        for residual in (True, False):
            for seed in s.p.all_seeds():
                arm = Arm(residual, False, "adam", sigma, seed)
                _score_photos(s, s.arm(arm).network, arm, table="gain", sigma=sigma)


def blind(s: Study) -> None:
    """One blind network against specific ones, and a specific one at levels it never saw.

    Args:
        s: The run's trainings; the specific networks are those of `gain`.
    """
    if s.leaves_out("blind and mismatch"):
        return
    for seed in s.p.all_seeds():
        one = Arm(True, False, "adam", (0.0, 55.0), seed)
        network = s.arm(one).network
        for sigma in map(float, SIGMAS):
            specific = Arm(True, False, "adam", sigma, seed)
            _score_photos(s, s.arm(specific).network, specific, table="blind", sigma=sigma)
            _score_photos(s, network, one, table="blind", sigma=sigma, method=verdict.BLIND)
        for sigma in map(float, LEVELS):
            _score_photos(s, network, one, table="mismatch", sigma=sigma, method=verdict.BLIND)
            for level in SIGMAS:
                arm = Arm(True, False, "adam", float(level), seed)
                name = f"specific {level}"
                _score_photos(
                    s, s.arm(arm).network, arm, table="mismatch", sigma=sigma, method=name
                )


def pivot(run: Run, table: str, *, metric: str = "psnr_8bit") -> pd.DataFrame:
    """Methods by settings, mean and spread over seeds.

    Args:
        run: After the section that records the table.
        table: Name of the table.
        metric: What is shown.

    Returns:
        One row per method, and per data set where there are several.
    """
    import pandas as pd

    values = run.values(table=table, metric=metric, image="mean")
    if values.empty:
        return pd.DataFrame({"method": []})
    one = values["dataset"].nunique() == 1
    index = ["method"] if one else ["dataset", "method"]
    groups = values.groupby([*index, "setting"], sort=False)["value"]
    frame = groups.apply(lambda group: spread(list(group))).unstack("setting")
    frame = frame.reindex(columns=list(dict.fromkeys(values["setting"])))
    return pd.DataFrame(frame.fillna("not measured").reset_index())


def timing(s: Study) -> pd.DataFrame:
    """Seconds per picture of the paper's network on this machine, beside the published ones.

    Args:
        s: The run.

    Returns:
        One row per method, one column per side.
    """
    import pandas as pd

    network = models.build("dncnn", **models.dncnn.VARIANTS["S"]).to(s.device).eval()
    rows: list[dict[str, str]] = []
    for method, candidate in (("plain", network), ("folded, channels last", models.fast(network))):
        row = {"method": f"DnCNN-S, {method}", "source": f"this run, {s.device.type}"}
        for side in s.scale.timed:
            spent = study.seconds(candidate, side)
            row[f"{side}²"] = f"{spent:.3g}"
            s.run.record(
                dataset="random", method=f"DnCNN-S, {method}", metric="seconds", value=spent,
                setting=f"side={side}", table="seconds", timed=True,
            )  # fmt: skip
        rows.append(row)
    for device in ("cpu", "gpu"):
        rows += _published_seconds(s.scale.timed, device)
    return pd.DataFrame(rows).fillna("n/a")


def _published_seconds(sides: Sequence[int], device: str) -> list[dict[str, str]]:
    from enhancelib import published

    frame = published.rows("dncnn", table="seconds", device=device)
    rows = []
    for method, group in frame.groupby("row", sort=False):
        row = {"method": str(method), "source": f"published, {device}"}
        row["source"] += f" [{', '.join(sorted(set(group['certainty'])))}]"
        for setting, value in zip(group["setting"], group["value"], strict=True):
            side = int(published.settings(setting)["size"])
            if side in sides:
                row[f"{side}²"] = f"{value:g}"
        rows.append(row)
    return rows
