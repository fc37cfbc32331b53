"""Profile paper on a folder laid out like the real sets: the unmodified recipe, two steps."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from enhancelib import images
from enhancelib.datasets import DataError
from enhancelib.papers.dncnn import data, settings
from enhancelib.papers.dncnn.settings import Parameters
from enhancelib.papers.parameters import ParameterError


@pytest.fixture
def sets(assets: Path, tmp_path: Path) -> Path:
    """Train400 with 8 of its pictures, Set12 with crops of two of its own."""
    root = tmp_path / "sets"
    for name, count, side in (("train400", 8, 180), ("Set12", 2, 64)):
        (root / name).mkdir(parents=True)
        files = sorted((assets / "data" / name).glob("*.png"))[:count]
        for file in files:
            picture = images.read(file, grey=True)
            images.write(root / name / file.name, data.crop(picture, side))
    return root


def test_the_paper_recipe_takes_two_steps_on_real_pictures(sets: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = ["-p", f"data_root={sets}", "-p", "steps=2", "-p", "seeds=1", "--out", str(out)]
    ended = subprocess.run(
        [sys.executable, "-m", "enhancelib.cli", "run", "dncnn", "--profile", "paper", *words],
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-3000:]
    found = json.loads((out / "results.json").read_text())
    assert found["profile"] == "paper"
    assert set(found["notes"]["inputs"]) == {"Train400", "Set12"}
    assert "ablation: not run at this profile" in ended.stdout
    table = (out / "tables" / "set12.csv").read_text()
    assert "DnCNN (trained here),this run" in table
    assert "DnCNN-S,published" in table


def test_the_recipe_of_profile_paper_is_the_papers() -> None:
    for variant, patch, epoch in (
        ("S", 40, 1600),
        ("B", 50, 3000),
        ("C", 50, 3000),
        ("3", 50, 8000),
    ):
        recipe = settings.main_recipe(Parameters(profile="paper", variant=variant))
        assert (recipe.batch, recipe.patch, recipe.epoch) == (128, patch, epoch)
        assert recipe.steps == 50 * epoch
        assert (recipe.optimiser, recipe.momentum, recipe.weight_decay) == ("sgd", 0.9, 1e-4)
        assert recipe.rate(0) == pytest.approx(1e-1)
        assert recipe.rate(recipe.steps - 1) == pytest.approx(1e-4)
        assert recipe.rate(epoch - 1) == recipe.rate(0) > recipe.rate(epoch)


def test_the_official_recipe_is_the_released_codes() -> None:
    recipe = settings.RECIPES["official"]
    assert (recipe.optimiser, recipe.betas, recipe.eps) == ("adam", (0.9, 0.999), 1e-8)
    assert (recipe.batch, recipe.sub_batches) == (128, 2)
    epoch = recipe.epoch
    assert [recipe.rate(k) for k in (0, 30 * epoch - 1, 30 * epoch)] == pytest.approx(
        [1e-3, 1e-3, 1e-4]
    )
    assert recipe.steps == 50 * epoch
    assert set(recipe.certainty.values()) <= {"official code", "derived"}


def test_the_official_cut_has_the_patches_of_the_release(assets: Path) -> None:
    """400 pictures of 180 x 180 at four cumulative scales, stride 10: 530 patches each."""
    p = Parameters(data_root=str(assets / "data"), recipe="official")
    pool = data.pool(p, settings.RECIPES["official"])
    assert len(pool) == 400 * (225 + 169 + 100 + 36) == 212_000


def test_missing_sets_are_told_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="give data_root"):
        data.check(Parameters(profile="paper"))
    with pytest.raises(DataError, match=r"Train400 is not under .*Expected: .*Train400/\*\.png"):
        data.check(Parameters(data_root=str(tmp_path)))
    (tmp_path / "Train400").mkdir()
    with pytest.raises(DataError, match="holds no pictures"):
        data.check(Parameters(data_root=str(tmp_path)))
    with pytest.raises(ParameterError, match="does not exist"):
        data.check(Parameters(weights="/nowhere"))


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("sigma=25", "S25"),
        ("sigma15", "S15"),
        ("dncnn_50", "S50"),
        ("GD_Gray_Blind", "B"),
        ("dncnn_gray_blind", "B"),
        ("GD_Color_Blind", "CB"),
        ("color_sigma25", "C25"),
        ("DnCNN3", "3"),
        ("FDnCNN_gray", None),
        ("sigma=25_Bnorm", None),
    ],
)
def test_released_files_are_known_by_their_names(
    tmp_path: Path, name: str, role: str | None
) -> None:
    (tmp_path / f"{name}.npz").touch()
    if role is None:
        with pytest.raises(ParameterError, match="no file named like a released DnCNN"):
            data.official(tmp_path)
    else:
        assert data.official(tmp_path) == {role: tmp_path / f"{name}.npz"}
