"""DPED's total loss in both weightings, against the official TensorFlow values and by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from enhancelib import adversarial, models, runtime, training
from enhancelib.losses import dped
from enhancelib.losses.adversarial import dped_critic
from enhancelib.recipes import Recipe


def golden(assets: Path) -> tuple[Tensor, Tensor]:
    """(the official network's output, the target) of the first four pairs."""
    stored = np.load(assets / "weights/dped/golden_official_tf.npz")
    output = torch.from_numpy(stored["iphone_orig"]).permute(0, 3, 1, 2)
    return output, torch.from_numpy(stored["target_u8"]).permute(0, 3, 1, 2) / 255


@pytest.mark.parametrize("weights", ["paper", "code"])
def test_terms_have_the_official_values_and_the_total_their_weighted_sum(
    assets: Path, features: Path, weights: str
) -> None:
    del features
    from enhancelib import features as networks

    output, clean = golden(assets)
    logits = torch.tensor([[0.3, -0.2], [1.0, 2.0], [-1.0, 0.5], [0.0, 0.0]])
    vgg19 = networks.load("vgg19", ceil=True)
    total, values = dped.objective(vgg19, weights=weights)(
        {"output": output, "clean": clean, "fake_scores": logits}
    )
    assert float(values["color"]) == pytest.approx(127.97368, rel=1e-5)
    assert float(values["tv"]) == pytest.approx(0.0014460315, rel=1e-5)
    assert float(values["texture"]) == pytest.approx(float(logits.softmax(1)[:, 1].log().sum()))
    a, b = (vgg19(x, ("relu5_4",))["relu5_4"] for x in (output, clean))
    assert a.shape[-2:] == (7, 7)  # SAME pooling: 100, 50, 25, 13, 7
    assert float(values["content"]) == pytest.approx(float((a - b).square().mean()))
    shares = {"paper": (1, 0.4, 0.1, 400), "code": (10, 1, 0.5, 2000)}[weights]
    expected = sum(w * float(values[n]) for w, n in zip(shares, values, strict=True))
    assert list(values) == ["content", "texture", "color", "tv"]
    assert float(total) == pytest.approx(expected, rel=1e-5)


def test_dped_trains_with_its_mixed_critic(features: Path, assets: Path, tmp_path: Path) -> None:
    """Both players of DPED on real pairs: the critic sees real or fake with even chances."""
    from types import SimpleNamespace

    from enhancelib import features as networks
    from enhancelib.losses import Objective, Term

    _, clean = golden(assets)
    stored = np.load(assets / "weights/dped/golden_official_tf.npz")["input_u8"]
    degraded = torch.from_numpy(stored).permute(0, 3, 1, 2).float() / 255
    draw = torch.Generator().manual_seed(0)
    generator = models.build("dped", blocks=1, width=16, generator=draw)
    critic = models.build("dped.discriminator", generator=draw)
    recipe = Recipe(steps=3, batch=4, patch=100, learning_rate=5e-4, log_every=1)
    parts = {
        "generator": generator,
        "critic": critic,
        "generator_optimiser": training.optimiser(generator.parameters(), recipe),
        "critic_optimiser": training.optimiser(critic.parameters(), recipe),
    }
    before = {k: [p.clone() for p in parts[k].parameters()] for k in ("generator", "critic")}
    machine, judge = runtime.setup("cpu"), adversarial.judging()
    mixed = Objective({"texture": Term(1.0, dped_critic, ("mixed_scores", "is_real"))})
    step = training.adversarial(
        adversarial.generator_step(
            dped.objective(networks.load("vgg19", ceil=True), weights="code"), machine,
            judge=judge, judged=("output",),
        ),
        adversarial.critic_step(
            mixed, judge, machine, forward=adversarial.either(), judged=("mixed",)
        ),
    )  # fmt: skip
    run = SimpleNamespace(folder=tmp_path, runtime=machine)
    sample = {"degraded": degraded, "clean": clean}
    history = training.fit(step, parts, lambda index, g: sample, recipe, run)
    for name, old in before.items():
        assert any(
            not torch.equal(a, b) for a, b in zip(old, parts[name].parameters(), strict=True)
        )
    color = history.values["color"]
    assert color[-1] < color[0]


def test_an_unknown_weighting_is_named() -> None:
    with pytest.raises(ValueError, match="weights is 'mine'; expected 'paper' or 'code'"):
        dped.objective(lambda picture, layers: {}, weights="mine")
