"""The measuring sections of the PRaD notebook: what they train, record and print."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from torch import nn

from enhancelib import models
from enhancelib.models import accounting
from enhancelib.models.prad import SIZES
from enhancelib.papers.prad import classical, data, official, scoring, settings, verdict
from enhancelib.papers.prad.enhance import shipped
from enhancelib.papers.prad.settings import FULL, GROUPS, Arm
from enhancelib.papers.prad.study import Study, Trained
from enhancelib.recipes import compared
from enhancelib.results import Run
from enhancelib.tables import spread

if TYPE_CHECKING:
    import pandas as pd

LOST = {
    "RRM": "not reproducible: the released code's core is an obfuscated file",
    "PMN": "not reproducible: the reference could not be identified",
}
MOS = "not reproducible: it needs human voters"
SHOWN_FIELDS = (
    "steps", "batch", "patch", "optimiser", "learning_rate", "schedule", "milestones", "clip",
)  # fmt: skip
ACCOUNTED: Mapping[str, tuple[str, Mapping[str, object]]] = {
    "PRaD-G S": ("prad", {"widths": SIZES["S"]}),
    "S, plain U-Net": ("prad", {"widths": SIZES["S"], "cfa": False, "refinement": "none"}),
    "S, + R only": ("prad", {"widths": SIZES["S"], "cfa": False}),
    "S, + CFA only": ("prad", {"widths": SIZES["S"], "refinement": "none"}),
    "PRaD-G M": ("prad", {"widths": SIZES["M"]}),
    "PRaD-G L": ("prad", {"widths": SIZES["L"]}),
    "DPED (ResNet-12)": ("dped", {}),
    "ResNet-20": ("dped", {"blocks": 8}),
    "ResNet-32": ("dped", {"blocks": 14}),
    "DPED 8_32": ("dped", {"blocks": 2, "width": 32}),
    "GridNet": ("gridnet", {}),
    "RSGUNet": ("rsgunet", {}),
    "Johnson": ("johnson", {}),
    "SRCNN": ("srcnn", {}),
    "PPCN student": ("ppcn", {"kind": "student"}),
    "PPCN teacher": ("ppcn", {"kind": "teacher"}),
}
"""What the accounting table lists."""
SHIPPED = "PRaD (data/weights)"
FIELD = 81  # pixels: a little more than any of them sees without a norm over the picture


def build(method: str) -> nn.Module:
    """A network of the accounting table.

    Args:
        method: A key of `ACCOUNTED`.

    Returns:
        The network, freshly initialised.
    """
    name, options = ACCOUNTED[method]
    return models.build(name, **options)


def accounts(run: Run) -> pd.DataFrame:
    """Parameters, multiply-adds and receptive field of every network, read off the built modules.

    Args:
        run: Receives the numbers.

    Returns:
        One row per network.
    """
    import pandas as pd

    rows = []
    for method in ACCOUNTED:
        network = build(method)
        found = {"parameters": float(accounting.parameters(network))}
        for height, width in settings.PICTURES:
            found[f"GMAC, {width} × {height}"] = (
                accounting.multiply_adds(network, height, width) / 1e9
            )
        for metric, value in found.items():
            run.record(
                dataset="networks", method=method, metric=metric, value=value, table="accounts"
            )
        cells = {m: f"{v:,.0f}" if m == "parameters" else f"{v:.3f}" for m, v in found.items()}
        whole = any(isinstance(layer, nn.InstanceNorm2d) for layer in network.modules())
        field = None if whole else accounting.receptive_field(network, FIELD)
        run.record(
            dataset="networks", method=method, metric="receptive_field", table="accounts",
            value=float("nan") if field is None else field,
        )  # fmt: skip
        cells["receptive field"] = "whole picture" if field is None else f"{field}"
        rows.append({"network": method, **cells})
    return pd.DataFrame(rows)


def recipes(s: Study) -> pd.DataFrame:
    """The recipe of this run's training section beside the one taken for the paper's.

    Args:
        s: The run.

    Returns:
        One row per field, with how sure each published value is.
    """
    columns = {"this run": settings.main_recipe(s.p), "paper": settings.RECIPES["paper"]}
    return compared(columns, SHOWN_FIELDS)


def main(s: Study) -> dict[int, Trained]:
    """Train the whole system: one seed at profile small, all seeds elsewhere.

    Args:
        s: The run.

    Returns:
        Seed -> generator, critic, curves.
    """
    seeds = s.p.all_seeds()[: s.scale.seeds]
    return {seed: s.main(seed) for seed in seeds}


def joint(s: Study, found: Mapping[int, Trained]) -> None:
    """Record the last quarter of the joint training's losses: does either side win?

    Args:
        s: The run.
        found: The networks of the training section.
    """
    for seed, trained in found.items():
        curves = {**trained.history.values, "critic": s.unpenalised(trained.history)}
        for name in ("critic", "gan", "real_score", "fake_score"):
            curve = curves.get(name, [])
            if last := curve[-max(1, len(curve) // 4) :]:
                s.run.record(
                    dataset="training pairs", method=FULL.method, metric=name, seed=seed,
                    value=sum(last) / len(last), table="joint",
                )  # fmt: skip


def restorers(
    s: Study, found: Mapping[int, Trained], loaded: Mapping[str, nn.Module]
) -> dict[str, scoring.Restore]:
    """What the figures show side by side.

    Args:
        s: The run.
        found: The networks of the training section.
        loaded: The official networks.

    Returns:
        Method -> restoring function: the polynomial, DPED and PPCN where given, the network in
        data/weights at profile smoke, whose own has done four steps, and ours.
    """
    chosen = {verdict.QUADRATIC: classical.baselines(s.p, cheap=True)[verdict.QUADRATIC]}
    for method in (official.DPED, official.PPCN):
        if method in loaded:
            chosen[method] = scoring.network(loaded[method])
    if s.p.profile == "smoke":
        chosen[SHIPPED] = scoring.network(shipped())
    return {**chosen, FULL.method: scoring.network(found[s.p.seed].generator)}


def pictured(s: Study, found: Mapping[int, Trained]) -> tuple[str, nn.Module]:
    """The network whose pictures are worth a look: this run's, or at profile smoke the shipped one.

    Args:
        s: The run.
        found: The networks of the training section.

    Returns:
        What it is called, and the generator.
    """
    if s.p.profile == "smoke":
        return SHIPPED, shipped()
    return FULL.method, found[s.p.seed].generator


def quality(s: Study, found: Mapping[int, Trained]) -> dict[str, nn.Module]:
    """Score every method of the main table.

    Args:
        s: The run.
        found: The networks of the training section.

    Returns:
        The official networks, by method.
    """
    for method, restore in classical.baselines(s.p).items():
        scoring.score(s, restore, method=method, table="main", lpips=s.scale.lpips)
    loaded = official.networks(s.p)
    for method, net in loaded.items():
        restore = scoring.network(net.to(s.device))
        scoring.score(s, restore, method=method, table="main", lpips=s.scale.lpips)
    for seed, trained in found.items():
        restore = scoring.network(trained.generator)
        scoring.score(s, restore, method=FULL.method, table="main", seed=seed, lpips=s.scale.lpips)
    return loaded


def quality_table(run: Run) -> pd.DataFrame:
    """The main table, with the methods that nobody can run again and why.

    Args:
        run: After `quality`.

    Returns:
        One row per method; MOS is "not reproducible" throughout.
    """
    import pandas as pd

    frame = scoring.table(run, "main")
    frame["MOS"] = MOS
    lost = pd.DataFrame(
        [{"method": m, **dict.fromkeys(frame.columns[1:], why)} for m, why in LOST.items()]
    )
    return pd.concat([frame, lost], ignore_index=True)


def protocol_table(run: Run) -> pd.DataFrame:
    """The same outputs under every convention that the literature calls PSNR or SSIM.

    Args:
        run: After `quality`.

    Returns:
        One row per method.
    """
    columns = ("psnr", "psnr_dped", "psnr_pooled", "ms_ssim_dped", "ssim")
    return scoring.table(run, "main", columns=columns)


def parity(run: Run, p: settings.Parameters) -> None:
    """Compare official networks on all 400 pairs with the numbers that their authors print.

    Args:
        run: Keeps the agreement.
        p: With data_root (the PIRM subset) and weights.
    """
    for row in official.parity(p, run):
        run.agree(**row)


def texture(s: Study) -> dict[str, dict[int, Trained]]:
    """The texture pair, and plain against CFA + R, all seeds: supervised, without VGG and critic.

    Args:
        s: The run.

    Returns:
        Method -> seed -> generator and curves.
    """
    arms = {
        verdict.PLAIN_MSE: (False, False),
        verdict.PLAIN_TEXTURE: (True, False),
        verdict.CFA_TEXTURE: (True, True),
    }
    found: dict[str, dict[int, Trained]] = {method: {} for method in arms}
    for seed in s.p.all_seeds():
        for method, (texture_loss, cfa) in arms.items():
            trained = s.texture(texture_loss, cfa, seed)
            found[method][seed] = trained
            scoring.score(
                s, scoring.network(trained.generator), method=method, table="texture", seed=seed,
            )  # fmt: skip
    for method, restore in classical.baselines(s.p, cheap=True).items():
        scoring.score(s, restore, method=method, table="texture")
    return found


def wanted(s: Study) -> list[Arm]:
    """Every arm of tables="all", once, in the order of the groups.

    Args:
        s: The run.

    Returns:
        No arm unless tables is "all".
    """
    if s.p.tables != "all":
        return []
    return list(dict.fromkeys(arm for group in GROUPS.values() for arm in group))


def ablations(s: Study) -> None:
    """Train and score the arms of tables="all": all of the first seed, then of the next.

    Args:
        s: The run; where its hours are over, what is left is printed as not run.
    """
    arms = wanted(s)
    if not arms:
        spent = settings.hours(s.p.profile, "all") - settings.hours(s.p.profile, "main")
        print(f"not run at this profile; tables='all' takes about {spent:g} hours more")
        return
    for method, restore in classical.baselines(s.p, cheap=True).items():
        scoring.score(s, restore, method=method, table="ablations", lpips=("lpips_alex",))
    for seed in s.p.all_seeds()[: s.scale.seeds]:
        for arm in arms:
            if not s.terms(arm):
                print(f"{arm.method}: no loss is left at these weights, not run")
                continue
            if s.time_is_up() and not s.finished(arm, seed):
                print(f"hours are over: {arm.method}, seed {seed}, not run")
                continue
            trained = s.arm(arm, seed)
            restore = scoring.network(trained.generator)
            scoring.score(
                s, restore, method=arm.method, table="ablations", seed=seed, lpips=("lpips_alex",)
            )


def trained_groups(run: Run) -> list[str]:
    """The ablations of which at least one arm has been trained.

    Args:
        run: After `ablations`.

    Returns:
        Keys of `settings.GROUPS`.
    """
    done = set(run.values(table="ablations")["method"])
    return [group for group, arms in GROUPS.items() if done & {arm.method for arm in arms}]


def group_table(run: Run, group: str, columns: Sequence[str] = scoring.QUALITY) -> pd.DataFrame:
    """One ablation, its classical yardsticks first.

    Args:
        run: After `ablations`.
        group: A key of `settings.GROUPS`.
        columns: Metrics.

    Returns:
        One row per arm.
    """
    methods = [*classical.CHEAP, *(arm.method for arm in GROUPS[group])]
    return scoring.table(run, "ablations", columns=columns, methods=methods)


def spreads(run: Run) -> pd.DataFrame:
    """PSNR over seeds of the supervised pair: how large a gap has to be to mean anything.

    Args:
        run: After `texture`.

    Returns:
        One row per method with every seed's PSNR.
    """
    import pandas as pd

    values = run.values(table="texture", metric="psnr", image="mean", setting=scoring.ALL)
    rows = []
    for method, group in values.dropna(subset=["seed"]).groupby("method", sort=False):
        each = {
            f"seed {int(k)}": f"{v:.2f}" for k, v in zip(group["seed"], group["value"], strict=True)
        }
        rows.append({"method": str(method), **each, "mean": spread(list(group["value"]))})
    return pd.DataFrame(rows)


def names(p: settings.Parameters) -> str:
    """What the test pairs are, for the text under tables.

    Args:
        p: The parameters.

    Returns:
        One sentence.
    """
    pairs = data.test(p)
    white = int(pairs.white.sum())
    count = f"{len(pairs.names)} test pairs, {white} of them pure white in both pictures"
    return f"{data.name(p)}: {count}."
