"""Trainings that resume, differ by seed and never see a test photo; scores recomputed by hand."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
import torch
from torch import Tensor, nn

from enhancelib import (
    datasets,
    degradations,
    images,
    losses,
    metrics,
    models,
    photos,
    results,
    runtime,
)
from enhancelib.papers.dncnn import data, settings, study
from enhancelib.papers.dncnn.settings import Parameters
from enhancelib.papers.dncnn.study import Arm, Study, Trained
from enhancelib.results import Run, select
from tests import soak

ARM = Arm(residual=True, norm=True, optimiser="adam", sigma=25.0, seed=0)
CAT = images.from_uint8(torch.from_numpy(skimage.data.chelsea()[:64, :80, 1].copy()))[None]
COINS = images.from_uint8(torch.from_numpy(skimage.data.coins()[:50, :60].copy()))[None]


class Interrupted(Exception):
    """Stands for a kill inside this process."""


class Counting(datasets.PatchPool):
    """A pool that counts its samples, and may end the run in front of one."""

    taken, end = 0, math.inf

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        if self.taken == self.end:
            raise Interrupted
        self.taken += 1
        return super().sample(count, generator)


def opened(folder: Path, **given: Any) -> tuple[Run, Parameters]:
    p = Parameters(profile="smoke", device="cpu", out=str(folder), **given)
    return results.open_run("dncnn", p), p


def short(folder: Path, pool: datasets.PatchPool | None = None, **given: Any) -> Study:
    """A study at profile smoke, on two small photos, that writes a checkpoint whenever it may."""
    s = Study(*opened(folder, **given))
    s.scale = replace(s.scale, arm=replace(s.scale.arm, checkpoint_seconds=0.0))
    for variant in "SB3":
        for size in (24, 40, 50):
            s._pools[(variant, size)] = (
                datasets.PatchPool([CAT, COINS], size) if pool is None else pool
            )
    return s


def state(trained: Trained) -> dict[str, Tensor]:
    return soak.tensors(dict(trained.network.state_dict()))


def equal(a: Trained, b: Trained) -> bool:
    one, two = state(a), state(b)
    return one.keys() == two.keys() and all(soak.same(one[k], two[k]) for k in one)


def kept(s: Study, stage: str) -> dict[str, Any]:
    return soak.read(s.run.folder / "checkpoints" / f"{stage}.pt")


# Arms


def test_arms_are_named_by_what_they_are() -> None:
    assert (ARM.method, ARM.stage) == ("residual + BN, Adam", "arm-rl1-bn1-adam-s25-seed0")
    blind = Arm(False, False, "sgd", (0.0, 55.0), 2)
    assert (blind.method, blind.stage) == ("direct, SGD", "arm-rl0-bn0-sgd-sblind-seed2")
    flags = (True, False)
    stages = {
        Arm(r, n, o, s, k).stage
        for r in flags
        for n in flags
        for o in ("adam", "sgd")
        for s in (5.0, 12.5, (0.0, 55.0))
        for k in (0, 1)
    }
    assert len(stages) == 48


def test_an_arm_is_trained_once_and_kept(tmp_path: Path) -> None:
    s = short(tmp_path)
    trained = s.arm(ARM)
    assert s.arm(ARM) is trained
    assert not trained.network.training
    assert trained.history.steps == {"loss": [5, 10], "half_sse": [5, 10], "psnr": [5, 10]}
    file = s.run.folder / "checkpoints" / f"{ARM.stage}.pt"
    before = file.stat().st_mtime_ns
    pool = Counting([CAT, COINS], 24)
    again = short(tmp_path, pool).arm(ARM)  # as after a restart
    assert again is not trained
    assert equal(again, trained)
    assert again.history.values == trained.history.values
    assert (pool.taken, file.stat().st_mtime_ns) == (0, before)


def test_an_arm_cut_short_goes_on_and_ends_with_the_same_bits(tmp_path: Path) -> None:
    whole = short(tmp_path / "whole").arm(ARM)
    pool = Counting([CAT, COINS], 24)
    pool.end = 8
    with pytest.raises(Interrupted):
        short(tmp_path / "cut", pool).arm(ARM)
    pool = Counting([CAT, COINS], 24)
    resumed = short(tmp_path / "cut", pool).arm(ARM)
    assert pool.taken == 5  # of 10 steps, the first five were in the checkpoint
    assert equal(resumed, whole)
    assert resumed.history.values == whole.history.values


def test_seeds_give_other_networks_on_other_samples(tmp_path: Path) -> None:
    s = short(tmp_path)
    zero, one = s.arm(ARM), s.arm(replace(ARM, seed=1))
    assert not any(
        torch.equal(a, b)
        for (name, a), b in zip(state(zero).items(), state(one).values(), strict=True)
        if name.endswith("weight") and a.ndim == 4
    )
    # arms of one seed start from the same convolutions and see the same samples
    starts = [s._network(True, True, k).state_dict() for k in (0, 0, 1)]
    assert torch.equal(starts[0]["layers.0.weight"], starts[1]["layers.0.weight"])
    assert not torch.equal(starts[0]["layers.0.weight"], starts[2]["layers.0.weight"])


@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("norm", [True, False])
def test_the_network_is_what_the_arm_says(tmp_path: Path, residual: bool, norm: bool) -> None:
    network: Any = short(tmp_path)._network(residual, norm, 0)
    assert network.residual is residual
    assert network.norm == ("batch" if norm else "none")
    assert (network.D, network.width, network.c) == (5, 8, 1)


def test_sgd_has_its_own_rate_and_clips(tmp_path: Path) -> None:
    s = short(tmp_path)
    s.scale = replace(s.scale, arm=replace(s.scale.arm, steps=1))
    arm = Arm(True, False, "sgd", 25.0, 0)
    start = dict(s._network(True, False, 0).named_parameters())
    trained = s.arm(arm)
    recipe = kept(s, arm.stage)["recipe"]
    assert (recipe["optimiser"], recipe["clip"]) == ("sgd", 1.0)
    assert recipe["learning_rate"] == s.scale.sgd_rate == 1e-2
    # the loss sums over a patch, so the gradient is longer than 1 and the step has length rate x 1
    ends = dict(trained.network.named_parameters())
    moved = torch.cat([(ends[k] - start[k]).detach().flatten() for k in start]).norm()
    assert float(moved) == pytest.approx(s.scale.sgd_rate, rel=1e-3)
    adam = s.arm(replace(arm, optimiser="adam"))
    recipe = kept(s, replace(arm, optimiser="adam").stage)["recipe"]
    assert (recipe["clip"], recipe["learning_rate"]) == (0.0, 1e-3)
    assert not equal(adam, trained)


# The training section


def test_the_loss_of_the_papers_recipe_is_averaged_over_pixels(tmp_path: Path) -> None:
    s = short(tmp_path, recipe="paper", steps=1)
    logged = s.main(3).history.values
    generator = runtime.generator(3, "main", 0)  # arms of a seed share their samples
    clean = s._pools[("S", 40)].sample(128, generator)
    sample = degradations.GaussianNoise(25.0)({"clean": clean}, generator)
    network = models.build(
        "dncnn", D=5, width=8, initialisation="official", generator=runtime.generator(3, "main")
    ).train()
    with torch.no_grad():
        wanted = float(losses.pixel.half_sse(network(sample["degraded"]), clean)) / 40**2
    assert logged["loss"] == pytest.approx([wanted], rel=1e-4)
    assert logged["half_sse"] == pytest.approx([wanted * 40**2], rel=1e-4)


def test_the_official_recipe_has_the_releases_normalisation(tmp_path: Path) -> None:
    s = short(tmp_path, recipe="official", steps=1)
    trained = s.main(0)
    norms = [m for m in trained.network.modules() if isinstance(m, nn.BatchNorm2d)]
    assert {norm.momentum for norm in norms} == {1.0}
    assert kept(s, "main-seed0")["recipe"]["sub_batches"] == 2
    assert trained.history.values["loss"] == trained.history.values["half_sse"]  # summed, Eq. 5


def test_variant_c_is_a_colour_network_of_its_own_pool(tmp_path: Path) -> None:
    s = short(tmp_path, variant="C", steps=2)
    colour = images.from_uint8(torch.from_numpy(skimage.data.chelsea().copy()).permute(2, 0, 1))
    s._pools[("C", 24)] = datasets.PatchPool([colour[:, :60, :60]], 24)
    trained = s.main(0)
    assert trained.network.c == 3
    assert set(trained.history.values) == {"loss", "half_sse"}  # grey crops are not for it
    assert s.three(0).network.c == 1
    assert kept(s, "three-seed0")["recipe"]["steps"] == s.scale.three_steps


def test_what_the_variants_learn_to_undo() -> None:
    assert study.task("S", 15.0) == degradations.GaussianNoise(15.0)
    assert study.task("B", 15.0) == study.task("C", 25.0) == degradations.GaussianNoise((0.0, 55.0))
    assert study.task("3", 15.0) == degradations.OneOf(
        (
            degradations.GaussianNoise((0.0, 55.0)),
            degradations.Bicubic((2, 3, 4)),
            degradations.Jpeg((5, 99)),
        )
    )


def test_the_sections_of_many_trainings_are_left_out_at_profile_paper(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    s = short(tmp_path)
    assert not s.leaves_out("ablation")
    assert capsys.readouterr().out == ""
    s.p = replace(s.p, profile="paper")
    assert s.leaves_out("ablation")
    assert "ablation: not run at this profile; with tables='all'" in capsys.readouterr().out
    s.p = replace(s.p, tables="all")
    assert not s.leaves_out("ablation")


# What it sees


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Names of the photos that are read; at hand are all of the catalogue, as one real crop."""
    seen: list[str] = []
    real = photos.load("camera")

    def load(name: str) -> Tensor:
        seen.append(name)
        return real[:, :128, :128].expand(3 if photos.find(name).colour else 1, -1, -1)

    monkeypatch.setattr(photos, "load", load)
    return seen


def splits(read: list[str]) -> set[str]:
    return {photos.find(name).split for name in read}


@pytest.mark.parametrize("profile", ["smoke", "small", "large"])
def test_training_reads_training_photos_and_curves_validation_photos(
    read: list[str], profile: str
) -> None:
    p = Parameters(profile=profile)
    crops = data.validation(p)
    assert splits(read) == {"validation"}
    assert len(crops) == len(set(read)) == len(read)
    for variant in "SBC3":
        read.clear()
        pictures = list(data._training_pictures(p, variant))
        assert splits(read) == {"train"}
        assert {picture.shape[0] for picture in pictures} == {3 if variant == "C" else 1}
    read.clear()
    data.test_sets(p)
    assert splits(read) == {"test"}


def test_a_whole_training_reads_no_test_photo(tmp_path: Path, read: list[str]) -> None:
    s = Study(*opened(tmp_path, steps=2))
    assert splits(read) == {"validation"}
    for trained in (s.arm(ARM), s.main(0), s.three(0)):
        assert set(trained.history.values) == {"loss", "half_sse", "psnr"}
    assert splits(read) == {"train", "validation"}


def test_curves_are_psnr_of_the_validation_crops(tmp_path: Path) -> None:
    s = short(tmp_path)
    assert torch.equal(s.watched, data.validation(s.p))
    trained = s.arm(ARM)
    noise = torch.randn(s.watched.shape, generator=runtime.generator(0, "watch"))
    with torch.inference_mode():
        restored = trained.network(s.watched + noise * 25 / 255).clamp(0, 1)
    errors = (restored - s.watched).double().square().mean((1, 2, 3))
    wanted = float((-10 * errors.log10()).mean())
    assert trained.history.values["psnr"][-1] == pytest.approx(wanted, abs=1e-3)


# Scores


def blurred(y: Tensor) -> Tensor:
    return nn.functional.avg_pool2d(y, 3, 1, 1, count_include_pad=False)


def test_noise_of_a_test_picture_is_that_of_the_protocol() -> None:
    for shape in ((1, 5, 7), (3, 4, 4)):
        x = torch.full(shape, 0.9)
        v = np.random.RandomState(0).randn(*shape)
        np.testing.assert_allclose(data.noisy(x, 50.0), 0.9 + v * 50 / 255, atol=1e-6)
    assert float(data.noisy(torch.ones(1, 32, 32), 50.0).max()) > 1.3  # not clipped


def test_scores_are_the_metrics_of_the_rounded_pictures(tmp_path: Path) -> None:
    run, _ = opened(tmp_path)
    pictures = {"cat": CAT, "coins": COINS}
    words: Any = {"method": "mean", "dataset": "two", "sigma": 25.0, "table": "t", "seed": 4}
    mean = study.measure(run, blurred, pictures, **words)
    psnrs, ssims = [], []
    for clean in pictures.values():
        v = np.random.RandomState(0).randn(*clean.shape)
        y = clean + torch.from_numpy(v).float() * 25 / 255
        levels = (blurred(y[None]).clamp(0, 1) * 255).round()
        error = (levels - clean * 255).double().square().mean()
        psnrs.append(10 * math.log10(255**2 / error))
        ssims.append(float(metrics.METRICS["ssim_8bit"](levels / 255, clean[None])))
    values = run.values()
    assert values.drop(columns=["metric", "image", "value"]).drop_duplicates().values.tolist() == [
        ["t", "two", "sigma=25", "mean", 4, False]
    ]
    for metric, wanted in (("psnr_8bit", psnrs), ("ssim_8bit", ssims)):
        found = select(values, metric=metric).set_index("image")["value"]
        assert list(found.index) == ["cat", "coins", "mean"]
        assert list(found) == pytest.approx([*wanted, np.mean(wanted)], abs=1e-4)
    assert mean == select(values, metric="psnr_8bit", image="mean")["value"].item()


def test_less_than_half_a_level_is_no_error(tmp_path: Path) -> None:
    run, _ = opened(tmp_path)
    pairs = {"cat": (CAT, CAT)}
    words: Any = {"method": "m", "dataset": "d", "setting": "s", "table": "t"}
    assert study.score(run, lambda y: y + 0.4 / 255, pairs, **words) == math.inf
    assert select(run.values(), metric="ssim_8bit", image="mean")["value"].item() == pytest.approx(
        1
    )
    assert study.score(run, lambda y: y + 0.6 / 255, pairs, **words) == pytest.approx(
        48.13, abs=0.1
    )


def test_a_baseline_is_told_the_noise_level() -> None:
    told: list[tuple[torch.Size, float]] = []

    def half(noisy: Tensor, sigma: float) -> Tensor:
        told.append((noisy.shape, sigma))
        return noisy / 2

    restored = study.each(half, 15.0)(CAT[None])
    assert torch.equal(restored, CAT[None] / 2)
    assert told == [(CAT.shape, 15.0)]


def test_the_first_call_is_not_timed() -> None:
    class Slow(nn.Conv2d):
        calls = 0

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            assert x.shape == (1, 1, 8, 8)
            if self.calls == 1:
                torch.randn(3000, 3000)  # ~ 50 ms, against microseconds
            return super().forward(x)

    network = Slow(1, 1, 3)
    assert 0 < study.seconds(network, 8, repeats=5) < 0.02
    assert network.calls == 6


def test_depth_and_profiles_fit() -> None:
    assert settings.depth(Parameters(profile="paper", variant="S")) == 17
    assert {settings.depth(Parameters(profile="paper", variant=v)) for v in "BC3"} == {20}
    assert {settings.depth(Parameters(profile="smoke", variant=v)) for v in "SBC3"} == {5}


def test_the_papers_rate_diverges_on_the_summed_loss_and_not_on_the_average() -> None:
    """Why recipe "paper" lets SGD's rate belong to the mean over pixels: see `Study.main`."""
    rate = settings.RECIPES["paper"].learning_rate
    curves = {share: _sgd(rate, share) for share in (1.0, 1 / 40**2)}
    summed = curves[1.0]
    assert not math.isfinite(summed[-1]) or summed[-1] > 1e6 * summed[0]
    averaged = curves[1 / 40**2]
    assert all(math.isfinite(loss) for loss in averaged)
    assert max(averaged) < 2 * averaged[0]


def _sgd(rate: float, share: float) -> list[float]:
    """Eq. 5 over six steps of SGD on `share` times it, from the released initialisation."""
    generator = torch.Generator().manual_seed(0)
    network = models.build("dncnn", D=17, initialisation="official", generator=generator)
    update = torch.optim.SGD(network.parameters(), lr=rate, momentum=0.9)
    clean = torch.stack([CAT[:, :40, k : k + 40] for k in (0, 13, 26, 40)])
    found = []
    for _ in range(6):
        noisy = clean + torch.randn(clean.shape, generator=generator) * (25 / 255)
        loss = losses.pixel.half_sse(network(noisy), clean)
        update.zero_grad()
        (share * loss).backward()
        update.step()
        found.append(float(loss.detach()))
    return found
