"""Every paper of the catalogue: its notebook, its parameters, and claims that numbers can turn."""

from __future__ import annotations

import ast
import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pandas as pd
import pytest

from enhancelib import claims, papers, results, runtime
from enhancelib.claims import Claim
from enhancelib.papers.dncnn import verdict
from enhancelib.papers.parameters import PROFILES, TABLES, Common, ParameterError, checked

SEEDS = (0, 1, 2)
every = pytest.mark.parametrize("slug", papers.PAPERS)


def cell_of_parameters(slug: str) -> dict[str, object]:
    """name -> literal value, in the order of the notebook's parameters cell."""
    notebook = nbformat.read(runtime.data("notebooks") / f"{slug}.ipynb", as_version=4)
    (cell,) = (c for c in notebook.cells if "parameters" in c.metadata.get("tags", []))
    found = {}
    for node in ast.parse(cell.source).body:
        assert isinstance(node, ast.Assign)
        assert isinstance(node.targets[0], ast.Name)
        found[node.targets[0].id] = ast.literal_eval(node.value)
    return found


@every
def test_it_loads(slug: str) -> None:
    paper = papers.load(slug)
    assert paper.slug == slug
    assert len(paper.title) > 10
    assert len(paper.citation) > 20
    assert paper.claim.endswith(".")


@pytest.mark.parametrize("slug", ["dcnn", "", "DnCNN", "parameters", "../dncnn"])
def test_an_unknown_slug_is_refused_with_those_there_are(slug: str) -> None:
    with pytest.raises(ParameterError, match=r"^no paper '.*'; the catalogue has dncnn, prad"):
        papers.load(slug)


@every
def test_the_notebook_says_what_the_dataclass_says(slug: str) -> None:
    cell = cell_of_parameters(slug)
    fields = dataclasses.fields(papers.load(slug).parameters)
    assert list(cell) == [field.name for field in fields]
    for field in fields:
        assert cell[field.name] == field.default, field.name
        assert type(cell[field.name]).__name__ == field.type, field.name


@every
def test_parameters_begin_with_the_common_ones_and_accept_their_defaults(slug: str) -> None:
    kind = papers.load(slug).parameters
    fields = dataclasses.fields(kind)
    common = [field.name for field in dataclasses.fields(Common)]
    assert [field.name for field in fields][: len(common)] == common
    assert all(field.metadata["help"] for field in fields)
    plain = {field.name: field.default for field in fields}
    assert checked(kind, plain, slug=slug) == kind()


@every
def test_the_default_run_needs_nothing(slug: str) -> None:
    paper = papers.load(slug)
    paper.check(paper.parameters())


@every
def test_hours_grow(slug: str) -> None:
    hours = papers.load(slug).hours
    for tables in TABLES:
        estimates = [hours(profile, tables) for profile in PROFILES]
        assert all(estimate > 0 for estimate in estimates)
        # all tables of an adversarial paper: some twenty arms of a few seconds
        assert estimates[0] <= (0.02 if tables == "main" else 0.1), "smoke: half a minute"
        assert estimates[1] < 0.6 or tables == "all", "small takes half an hour"
    assert all(hours(profile, "all") >= hours(profile, "main") for profile in PROFILES)


def claims_of(slug: str) -> Iterator[Claim]:
    yield from papers.load(slug).claims


def own() -> list[tuple[str, Claim]]:
    found = [(slug, claim) for slug in papers.PAPERS for claim in claims_of(slug)]
    return [(slug, claim) for slug, claim in found if claim.by == "own training"]


@every
def test_claims_are_stated_with_margin_reason_and_test_set(slug: str) -> None:
    found = list(claims_of(slug))
    assert len({claim.name for claim in found}) == len(found)
    for claim in found:
        assert claim.statement.endswith("."), claim.name
        assert math.isfinite(claim.margin), claim.name
        assert claim.reason, claim.name
        assert claim.test_set, claim.name


@every
def test_every_paper_has_a_test_of_its_verdict(slug: str) -> None:
    """Its synthetic frames turn each of its claims; DnCNN's stand in this file."""
    folder = Path(__file__).parent / slug
    assert slug == "dncnn" or (folder / "test_verdict.py").is_file()


@every
def test_a_claim_about_training_names_its_arms(slug: str) -> None:
    without = {c.name for c in claims_of(slug) if c.by == "own training" and c.arms is None}
    # one arm: the first and the last layer of the same network are compared, see below
    assert without <= {"gradual_separation"}


@every
def test_nothing_is_judged_from_nothing(slug: str) -> None:
    empty = pd.DataFrame(columns=list(results.COLUMNS))
    for claim in claims_of(slug):
        judged = claims.judge(claim.statistic(empty), margin=claim.margin)
        assert judged.holds is None, claim.name
        assert judged.evidence == "not measured", claim.name


# DnCNN's own claims; those of other papers are tried in tests/papers/<slug>/test_verdict.py
LEVELS = (5, 15, 25, 50)
SETTINGS = {
    "ablation": ("sigma=25",),
    "gain": tuple(f"sigma={level}" for level in LEVELS),
    "blind": ("sigma=15", "sigma=25", "sigma=50"),
    "mismatch": tuple(f"sigma={level}" for level in LEVELS),
    "three": ("noise 15", "noise 50", "SR x2", "SR x4", "JPEG 10", "JPEG 40"),
    "denoising": ("sigma=25",),
}
UNTRAINED = ("degraded", verdict.BM3D)  # their rows carry no seed


def values(better: str, worse: str, lead: float = 1.0) -> pd.DataFrame:
    """Rows of a run in which one method beats the other everywhere, the more the less noise."""
    rows = []
    for table, settings in SETTINGS.items():
        for place, setting in enumerate(settings):
            for method in (better, worse):
                for seed in SEEDS if method not in UNTRAINED else (None,):
                    gain = lead * (4 - place / 2) if method == better else 0.0
                    value = 30 - place + gain + 0.01 * (seed or 0) * (method == better)
                    rows += record(table, setting, method, seed, value)
    return pd.DataFrame(rows, columns=list(results.COLUMNS))


def record(
    table: str, setting: str, method: str, seed: int | None, value: float
) -> list[tuple[object, ...]]:
    """The mean, and what a statistic has to leave aside: one picture, and another metric."""
    return [
        (table, "photos", setting, method, metric, image, seed, number, False)
        for metric, image, number in (
            ("psnr_8bit", "mean", value),
            ("psnr_8bit", "astronaut", 60 - value),
            ("ssim_8bit", "mean", 1 - value / 100),
        )
    ]


def probes(slope: float) -> pd.DataFrame:
    """R2 of the noise in each of twelve layers; "layer 10" comes after "layer 9"."""
    rows = [
        ("probe", "validation", target, "linear probe", "r2", f"layer {layer}", seed, r2, False)
        for seed in SEEDS
        for layer in range(12, 0, -1)
        for target, r2 in (
            ("v", 0.5 + slope * layer + 0.001 * seed * layer),
            ("x", 0.5 - slope * layer),
        )
    ]
    return pd.DataFrame(rows, columns=list(results.COLUMNS))


def judge(claim: Claim, frame: pd.DataFrame) -> bool | None:
    return claims.judge(claim.statistic(frame), margin=claim.margin).holds


ARMED = [claim for slug, claim in own() if claim.arms and slug == "dncnn"]
armed = pytest.mark.parametrize("claim", ARMED, ids=lambda claim: claim.name)


@armed
def test_swapping_the_arms_turns_the_verdict(claim: Claim) -> None:
    assert claim.arms is not None
    first, second = claim.arms
    assert judge(claim, values(first, second)) is True
    assert judge(claim, values(second, first)) is False


@armed
def test_an_interval_around_the_margin_is_not_judged(claim: Claim) -> None:
    assert claim.arms is not None
    frame = values(*claim.arms)
    low = frame["seed"] == 0  # one seed of three went wrong by far
    frame.loc[low & (frame["method"] == claim.arms[0]), "value"] -= 9 * (
        1 - 0.1 * frame["setting"].isin(["sigma=50"])
    )
    assert judge(claim, frame) is None


@armed
def test_a_missing_arm_is_not_judged(claim: Claim) -> None:
    assert claim.arms is not None
    frame = values(*claim.arms)
    for arm in claim.arms:
        assert judge(claim, frame[frame["method"] != arm]) is None, arm


def test_a_probe_that_reads_the_noise_better_with_depth_turns_with_its_slope() -> None:
    (claim,) = (c for c in verdict.CLAIMS if c.name == "gradual_separation")
    assert judge(claim, probes(0.03)) is True
    assert judge(claim, probes(-0.03)) is False


def test_the_smallest_gain_of_three_tasks_decides() -> None:
    (claim,) = (c for c in verdict.CLAIMS if c.name == "three_tasks")
    assert claim.arms is not None
    frame = values(*claim.arms)
    worst = (frame["setting"] == "JPEG 40") & (frame["method"] == claim.arms[0])
    frame.loc[worst, "value"] -= 5
    assert judge(claim, frame) is False


def test_the_best_baseline_counts_and_official_networks_are_none() -> None:
    (claim,) = (c for c in verdict.CLAIMS if c.name == "beats_baselines")
    frame = values(verdict.MAIN, verdict.BM3D)
    for method, holds in (("noisy", True), (verdict.OFFICIAL_S, True), ("NLM", False)):
        other = pd.DataFrame(
            record("denoising", "sigma=25", method, None, 45.0), columns=list(results.COLUMNS)
        )
        assert judge(claim, pd.concat([frame, other])) is holds, method


def test_official_claims_compare_on_set12_alone() -> None:
    (claim,) = (c for c in verdict.CLAIMS if c.name == "official_beats_bm3d")
    frame = values(verdict.OFFICIAL_S, verdict.BM3D).assign(seed=None)
    assert judge(claim, frame) is None
    frame = frame.drop_duplicates().assign(dataset="Set12")
    assert judge(claim, frame.drop_duplicates(["table", "setting", "method", "metric", "image"]))
