"""The trainings of PRaD: what arms minimise, exact resume of both networks, the paper's recipe."""

from __future__ import annotations

import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import skimage.data
import torch
from PIL import Image
from torch import Tensor, nn

from enhancelib import features as networks
from enhancelib import images, metrics, models, results, runtime, training
from enhancelib.losses import Objective
from enhancelib.papers.prad import data, official, settings, study
from enhancelib.papers.prad.settings import FULL, GROUPS, TERMS, Arm
from enhancelib.papers.prad.study import Study, Trained
from tests import dped, soak
from tests.papers.prad import small

SUPERVISED = Arm("no VGG, no critic", judges="", without=("content", "gan", "lcn", "contextual"))
PLAIN = replace(SUPERVISED, method="the same, plain", options=settings.PLAIN.options)


class Interrupted(Exception):
    """Stands for a kill inside this process."""


class Cut(Study):
    """A study that may be killed in front of a step, or between its two updates."""

    steps, updates = -1, -1
    drawn: list[Tensor]

    def objective(self, arm: Arm, side: int) -> Objective:
        made = super().objective(arm, side)

        def prepare(sample: Any) -> Any:
            self._count("updates")  # the critic has been updated, the generator not yet
            return made.prepare(sample) if made.prepare else sample

        return Objective(made.terms, prepare)

    def _batches(self, recipe: Any) -> training.Batches:
        draw = super()._batches(recipe)

        def batches(index: int, generator: torch.Generator) -> Any:
            self._count("steps")
            sample = draw(index, generator)
            self.drawn.append(sample["clean"])
            return sample

        return batches

    def _count(self, what: str) -> None:
        left = getattr(self, what)
        if left == 0:
            raise Interrupted
        setattr(self, what, left - 1)


def short(folder: Path, *, steps: int = 3, kind: type[Study] = Cut, **given: Any) -> Any:
    """A study whose trainings take a few steps and write a checkpoint after each."""
    p = small.parameters(folder, **given)
    s = kind(results.open_run("prad", p), p)
    s.drawn = []  # type: ignore[attr-defined]
    recipe = replace(s.scale.recipe, steps=steps, checkpoint_seconds=0.0)
    texture = replace(s.scale.texture, steps=steps, checkpoint_seconds=0.0, log_every=1)
    s.scale = replace(s.scale, recipe=recipe, texture=texture)
    return s


def kept(s: Study, stage: str) -> dict[str, Any]:
    return soak.read(s.run.folder / "checkpoints" / f"{stage}.pt")


def bits(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


def moved(before: dict[str, Tensor], network: nn.Module) -> list[str]:
    return [name for name, value in network.state_dict().items() if not before[name].equal(value)]


LEVEL = {"discriminator.score.2.bias"}  # a relativistic loss knows differences of scores alone


def unmoved(before: dict[str, Tensor], network: nn.Module) -> set[str]:
    return {name for name, _ in network.named_parameters()} - set(moved(before, network))


# The paper's recipe


def lay_out(assets: Path, root: Path) -> Path:
    """DPED's tree of real iPhone pairs, with a whole photo of the phone."""
    dped.tree(assets, root)
    whole = root / "dped" / "iphone" / "test_data" / "full_size_test_images"
    whole.mkdir()
    photo = Image.open(assets / "data" / "dped" / "HD_res" / "0.png").convert("RGB")
    photo.save(whole / "0.jpg", quality=95)
    return root


def test_the_papers_recipe_takes_two_steps_on_a_dped_tree(
    assets: Path, features: Path, tmp_path: Path
) -> None:
    """Batch 50, 100 x 100 pixels, S, all seven losses, phi: a minute of one core, 4 GB."""
    root = lay_out(assets, tmp_path / "root")
    p = small.parameters(
        tmp_path / "run", profile="paper", recipe="paper", data_root=str(root), steps=2
    )
    official.check(p)
    assert data.full_size(p)["0"].shape == (3, 720, 1280)
    s = Study(results.open_run("prad", p), p)
    starts = bits(s.generator(FULL, 0)), bits(s.critic("pair", 0))
    trained = s.main(0)
    used = kept(s, "main-seed0")["recipe"]
    wanted = {**asdict(settings.RECIPES["paper"]), "seed": 0}
    free = ("steps", "milestones", "watch_every", "certainty", "checkpoint_seconds")
    assert {k: v for k, v in used.items() if k not in free} == {
        k: v for k, v in wanted.items() if k not in free
    }
    assert (used["batch"], used["patch"]) == (50, 100)
    assert set(trained.history.values) >= {*TERMS, "loss", "critic", "real_score", "fake_score"}
    assert "penalty" not in trained.history.values
    assert trained.critic is not None
    assert trained.critic.discriminator.channels == 70
    assert sum(p.numel() for p in trained.generator.parameters()) == 206_323
    for start, network in zip(starts, (trained.generator, trained.critic), strict=True):
        assert unmoved(start, network) <= LEVEL
    assert int(trained.critic.updates) == 2
    # one pixel's error weighs as much as on any patch: the sum is not divided by the area
    first = trained.history.values
    weights = settings.Parameters().weights_of_terms()
    total = sum(weights[name] * first[name][-1] for name in TERMS)
    assert first["loss"][-1] == pytest.approx(total, rel=1e-4)


# Resume


@pytest.fixture(scope="module")
def undisturbed(features: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    s = short(tmp_path_factory.mktemp("whole"))
    s.arm(FULL, 0)
    return s


@pytest.mark.parametrize(("what", "left"), [("steps", 2), ("updates", 1), ("updates", 2)])
def test_a_killed_training_goes_on_and_ends_with_the_same_bits(
    undisturbed: Any, tmp_path: Path, what: str, left: int
) -> None:
    """Killed in front of the third step; after the critic's second update; after its third."""
    first = short(tmp_path)
    setattr(first, what, left)
    with pytest.raises(Interrupted):
        first.arm(FULL, 0)
    stage = f"{FULL.stage}-seed0"
    assert kept(first, stage)["index"] == left
    second = short(tmp_path)
    trained = second.arm(FULL, 0)
    assert len(second.drawn) == 3 - left
    one, two = (kept(s, stage) for s in (undisturbed, second))
    assert set(one["parts"]) == {
        "generator", "critic", "generator_optimiser", "critic_optimiser",
    }  # fmt: skip
    a, b = soak.tensors(one["parts"]), soak.tensors(two["parts"])
    assert len(a) > 100, "weights, running moments, the deviation of phi, Adam's moments"
    assert a.keys() == b.keys()
    assert [name for name in a if not soak.same(a[name], b[name])] == []
    assert trained.history.values == undisturbed.arm(FULL, 0).history.values


def test_a_finished_training_is_not_repeated(undisturbed: Any) -> None:
    trained = undisturbed.arm(FULL, 0)
    assert undisturbed.arm(FULL, 0) is trained
    again = short(undisturbed.run.folder)
    file = again.run.folder / "checkpoints" / f"{FULL.stage}-seed0.pt"
    before = file.stat().st_mtime_ns
    loaded = again.arm(FULL, 0)
    assert loaded is not trained
    assert moved(bits(trained.generator), loaded.generator) == []
    assert (again.drawn, file.stat().st_mtime_ns) == ([], before)
    assert loaded.critic is not None
    assert moved(bits(loaded.critic), trained.critic) == []
    assert not loaded.generator.training
    assert not loaded.critic.training


def test_both_networks_learn(undisturbed: Any) -> None:
    trained: Trained = undisturbed.arm(FULL, 0)
    assert trained.critic is not None
    for fresh, network in (
        (undisturbed.generator(FULL, 0), trained.generator),
        (undisturbed.critic("pair", 0), trained.critic),
    ):
        assert unmoved(bits(fresh), network) <= LEVEL
    assert int(trained.critic.updates) == 3
    assert float(trained.critic.deviation) > 10, "activations of the Caffe network are large"
    assert not any("vgg" in name or "phi" in name for name in trained.critic.state_dict())


def test_curves_are_scores_of_the_validation_pairs(undisturbed: Any) -> None:
    trained: Trained = undisturbed.arm(FULL, 0)
    pairs = data.validation(undisturbed.p)
    restored = study.apply(trained.generator, pairs.degraded)
    errors = (restored.clamp(0, 1) - pairs.clean).double().square().mean((1, 2, 3))
    curves = trained.history.values
    assert curves["psnr"][-1] == pytest.approx(float(-10 * errors.log10().mean()), abs=1e-3)
    pooled = (restored - pairs.clean).double().square().mean()
    assert curves["psnr_pooled"][-1] == pytest.approx(float(-10 * pooled.log10()), abs=1e-3)
    metric = metrics.METRICS["ms_ssim_dped"]
    wanted = metric.summary(metric(restored, pairs.clean))
    assert curves["ms_ssim"][-1] == pytest.approx(wanted, abs=1e-5)
    assert trained.history.steps["loss"] == [1, 2, 3]
    assert trained.history.steps["psnr"] == [2, 3]


def test_the_training_section_is_the_whole_system_where_nothing_differs(
    undisturbed: Any, tmp_path: Path
) -> None:
    own = small.lent(undisturbed, tmp_path)
    own.scale = settings.SCALES["smoke"]
    assert own.main(0) is undisturbed.arm(FULL, 0)


# What arms minimise


@pytest.mark.parametrize("group", GROUPS)
def test_arms_minimise_what_they_say(s: Study, group: str) -> None:
    for arm in GROUPS[group]:
        terms = set(s.objective(arm, 64).terms)
        assert terms == set(TERMS) - set(arm.without), arm.method
        colour = s.objective(replace(arm, without=()), 64).terms["color"].weight
        assert colour == pytest.approx(0.1 * (100 / 64) ** 2)


def test_weights_of_the_run_reach_the_arms(s: Study) -> None:
    s.p = replace(s.p, w_texture=0.0, w_tv=3.0)
    found = s.objective(FULL, 100).terms
    assert set(found) == set(TERMS) - {"lcn", "gradient"}
    assert found["tv"].weight == 3.0
    assert "tv" not in s.objective(next(a for a in GROUPS["losses"] if "tv" in a.without), 64).terms


def test_without_its_weight_there_is_no_critic(tmp_path: Path) -> None:
    s = short(tmp_path, steps=1, w_gan=0.0)
    s.vgg19 = None
    trained = s.arm(FULL, 0)
    assert trained.critic is None
    assert set(trained.history.values) == {
        "loss", "gradient", "color", "tv", "psnr", "psnr_pooled", "ms_ssim",
    }  # fmt: skip
    assert set(kept(s, f"{FULL.stage}-seed0")["parts"]) == {"network", "optimiser"}


def test_the_texture_pair_differs_in_its_loss_and_network(tmp_path: Path) -> None:
    s = short(tmp_path, steps=1)
    plain, with_loss, whole = (s.texture(*arm, 0) for arm in ((0, 0), (1, 0), (1, 1)))
    assert set(plain.history.values) >= {"loss", "mse"}
    assert "gradient" not in plain.history.values
    assert set(with_loss.history.values) >= {"mse", "gradient", "lcn"}
    counts = [sum(p.numel() for p in t.generator.parameters()) for t in (plain, with_loss, whole)]
    assert counts == [155_955, 155_955, 206_323]
    assert all(t.critic is None for t in (plain, with_loss, whole))


def test_the_training_section_has_a_stage_of_its_own_where_it_differs(tmp_path: Path) -> None:
    """Another norm, or another number of steps: the arms of the tables stay what they are."""
    s = small.opened(tmp_path, norm="batch", w_gan=0.0, steps=1)
    s.vgg19 = None
    trained: Any = s.main(0)
    assert trained.generator.norm == "batch"
    assert kept(s, "main-seed0")["index"] == 1
    arm: Any = s.arm(SUPERVISED, 0)
    assert arm.generator.norm == "none"
    assert kept(s, f"{SUPERVISED.stage}-seed0")["index"] == 4


# Seeds


def test_seeds_decide_the_start_and_leave_the_global_stream_alone(s: Study) -> None:
    before = torch.get_rng_state()
    zero, again, one = (bits(s.generator(FULL, seed)) for seed in (0, 0, 1))
    critics = [bits(s.critic("image", seed)) for seed in (0, 0, 1)]
    assert torch.equal(torch.get_rng_state(), before)
    assert all(zero[name].equal(again[name]) and not zero[name].equal(one[name]) for name in zero)
    assert all(critics[0][name].equal(value) for name, value in critics[1].items())
    name = "discriminator.features.0.weight"
    assert not critics[0][name].equal(critics[2][name])


def test_arms_of_one_seed_see_the_same_samples(tmp_path: Path) -> None:
    """So that differences per seed are differences of arms."""
    drawn = []
    for arm in (SUPERVISED, PLAIN):
        s = short(tmp_path / arm.stage, steps=2)
        s.vgg19 = None
        s.arm(arm, 0)
        drawn.append(torch.stack(s.drawn))
    assert torch.equal(*drawn)
    other = short(tmp_path / "seed", steps=2)
    other.vgg19 = None
    other.arm(SUPERVISED, 1)
    assert not torch.equal(torch.stack(other.drawn), drawn[0])


def test_both_losses_see_the_same_shifts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []
    make = data.shifted

    def recording(*given: Any, **more: Any) -> training.Batches:
        draw = make(*given, **more)

        def batches(index: int, generator: torch.Generator) -> Any:
            sample = draw(index, generator)
            seen.append(torch.stack([sample["degraded"], sample["clean"]]))
            return sample

        return batches

    monkeypatch.setattr(data, "shifted", recording)
    s = small.opened(tmp_path)
    s.vgg19 = None
    s.scale = replace(s.scale, shift_steps=1)
    for full in (False, True):
        s.shifted(full, 2, 0)
    assert torch.equal(*seen)


# Without VGG19


def test_without_vgg19_the_rest_is_trained_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ENHANCELIB_CACHE", str(tmp_path / "empty"))
    s = small.opened(tmp_path / "run", steps=1)
    said = capsys.readouterr().out
    assert said == "VGG19 is not fetched: its losses are left out (enhancelib fetch --only vgg19)\n"
    assert list(s.objective(FULL, 100).terms) == ["gan", "gradient", "color", "tv"]
    trained = s.main(0)
    assert trained.critic is not None
    assert (trained.critic.judges, trained.critic.discriminator.channels) == (
        "pair_without_phi", 6,
    )  # fmt: skip
    with pytest.raises(networks.FeaturesMissing, match="enhancelib fetch --only vgg19"):
        s.phi(torch.zeros(1, 3, 32, 32))


# The critic


def test_what_a_critic_sees(features: Path, s: Study) -> None:
    pairs = data.validation(s.p)
    x, y = pairs.degraded[:2, :, :48, :48], pairs.clean[:2, :, :48, :48]
    wanted = networks.load("vgg19", ceil=True)(y, ("relu1_2",))["relu1_2"]
    torch.testing.assert_close(s.phi(y), wanted, rtol=1e-3, atol=0.1)
    critic = s.critic("pair", 0).eval()
    seen = critic.inputs(x, y)
    assert seen.shape == (2, 70, 48, 48)
    assert torch.equal(seen[:, :6], torch.cat([x, y], 1))
    torch.testing.assert_close(seen[:, 6:].std(), torch.tensor(1.0), rtol=0.05, atol=0)
    assert s.critic("pair_without_phi", 0).eval().inputs(x, y).shape[1] == 6
    assert torch.equal(s.critic("image", 0).eval().inputs(x, y), y)


def test_only_real_pictures_move_the_deviation_of_phi(features: Path, s: Study) -> None:
    pairs = data.validation(s.p)
    sample = {"degraded": pairs.degraded[:2], "clean": pairs.clean[:2], "output": pairs.clean[2:4]}
    critic = s.critic("pair", 0).train()
    parts: Any = {"critic": critic}
    assert study.judge(parts, sample, "output").shape == (2,)
    assert int(critic.updates) == 0
    scores = study.judge(parts, sample, "clean")
    assert int(critic.updates) == 1
    assert scores.shape == (2,)
    assert scores.requires_grad


def test_a_critic_alone_learns_and_the_generator_stays(features: Path, s: Study) -> None:
    trained = s.main(0)
    before = bits(trained.generator)
    critic, history = s.alone(trained, "image", 5)
    assert moved(before, trained.generator) == []
    assert moved(bits(s.critic("image", 5)), critic)
    assert not critic.training
    assert history.steps["critic"] == [1, 2, 3, 4]
    assert all(value >= 0 for value in history.values["critic"])


# Small things


def test_pictures_are_restored_in_pieces_and_not_clipped() -> None:
    network = models.build("prad", widths=(4, 8)).train()
    coffee = images.from_array(skimage.data.coffee())
    x = torch.stack([coffee[:, 8 * k : 8 * k + 20, :24] for k in range(7)])
    found = study.apply(network, x, batch=3)
    assert not network.training
    with torch.no_grad():
        torch.testing.assert_close(found, network(x))
    assert not found.requires_grad
    wide = nn.Conv2d(3, 3, 1)
    nn.init.constant_(wide.weight, 5.0)
    assert float(study.apply(wide, x.sqrt()).max()) > 1.2


def test_hours_are_counted_from_the_start(s: Study) -> None:
    s._began = time.monotonic()
    assert not s.time_is_up()
    s.p = replace(s.p, hours=1.0)
    assert not s.time_is_up()
    s._began -= 3599
    assert not s.time_is_up()
    s._began -= 2
    assert s.time_is_up()
    s.p = replace(s.p, hours=0.0)
    assert not s.time_is_up()


def test_the_run_is_on_its_device(s: Study) -> None:
    assert s.device == runtime.setup("cpu").device
    assert s.train.device == s.device
