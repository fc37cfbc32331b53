"""A critic that was trained for a moment looks at the pair, at phi, and at what it should."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from enhancelib.pairs import Pairs
from enhancelib.papers.prad import critics, data, verdict
from enhancelib.papers.prad.critics import NAMES
from enhancelib.papers.prad.study import Study, Trained, apply
from enhancelib.results import select
from enhancelib.training import History
from tests.papers.prad import small

SHIFTED = f"target shifted by {critics.SHIFT} px"
OTHER = "phone picture of another scene"
STEPS = 12


def phone_itself() -> Trained:
    """A generator that changes nothing: what the critic has to tell apart is phone and camera."""
    same = nn.Conv2d(3, 3, 1, bias=False)
    with torch.no_grad():
        same.weight.copy_(torch.eye(3)[:, :, None, None])
    return Trained(same.eval(), None, History())


@pytest.fixture(scope="module")
def trained(features: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Both critics after a dozen steps on eight pairs of 48 pixels: (study, critics)."""
    s = small.opened(tmp_path_factory.mktemp("critics"))
    pairs = data.validation(s.p)
    s.validation = Pairs(pairs.names, pairs.levels[..., :48, :48].contiguous())
    s.scale = replace(s.scale, critic_steps=STEPS)
    return s, critics.alone(s, phone_itself())


def scores(trained: Any, judges: str) -> dict[str, Tensor]:
    s, found = trained
    pairs = s.validation
    critic = found[judges][0]
    device = torch.device("cpu")
    return dict(critics.reactions(critic, pairs.degraded, pairs.clean, phone_itself(), device))


def test_both_critics_learn(trained: Any) -> None:
    _, found = trained
    assert list(found) == ["pair", "image"]
    for judges, (critic, history) in found.items():
        losses = history.values["critic"]
        assert len(losses) == STEPS
        assert losses[0] > 1.0, "2 ln 2 = 1.39 is a critic that knows nothing"
        assert min(losses) < 0.5, judges
        assert not critic.training
        assert critic.judges == judges


def test_the_loss_that_is_recorded_is_the_mean_of_the_last_steps(trained: Any) -> None:
    s, found = trained
    rows = s.run.values(table="critic")
    assert set(rows["setting"]) == {f"step={STEPS}"}
    for judges, (_, history) in found.items():
        (value,) = select(rows, method=NAMES[judges], metric="critic_loss")["value"]
        assert value == pytest.approx(sum(history.values["critic"][-10:]) / 10)


def test_a_score_belongs_to_the_pair(trained: Any) -> None:
    """With another phone picture the pair-wise critic changes its mind; the other cannot."""
    seen = scores(trained, "pair")
    change = (seen["target"] - seen[OTHER]).abs()
    # 0.014 to 0.05 over three seeds and 12 to 40 steps; a critic that ignores it has exactly 0
    assert float(change.mean()) > 0.01 * float(seen["target"].std())
    assert float(change.max()) > 1e-3
    blind = scores(trained, "image")
    assert torch.equal(blind["target"], blind[OTHER])


def test_a_score_hangs_on_phi(trained: Any) -> None:
    seen = scores(trained, "pair")
    change = (seen["target"] - seen["phi blanked"]).abs()
    assert float(change.mean()) > 0.1 * float(seen["target"].std())
    assert "phi blanked" not in scores(trained, "image")


def test_what_is_asked_is_what_the_name_says(trained: Any) -> None:
    s, found = trained
    pairs, (critic, _) = s.validation, found["pair"]
    x, y = pairs.degraded, pairs.clean
    seen = scores(trained, "pair")

    def score(source: Tensor, image: Tensor) -> Tensor:
        with torch.inference_mode():
            return critic(source, image).float()

    for name, image in (
        ("target", y),
        ("output", x),  # this generator changes nothing
        ("target of another scene", y.roll(1, 0)),
        ("output of another scene", x.roll(1, 0)),
        (SHIFTED, y.roll(4, 3)),
    ):
        torch.testing.assert_close(seen[name], score(x, image), rtol=1e-3, atol=1e-3, msg=name)
    torch.testing.assert_close(seen[OTHER], score(x.roll(1, 0), y), rtol=1e-3, atol=1e-3)
    with torch.inference_mode():
        blanked = critic.inputs(x, y)
        blanked[:, 6:] = 0
        wanted = critic.discriminator(blanked)
    torch.testing.assert_close(seen["phi blanked"], wanted, rtol=1e-3, atol=1e-3)


def test_asking_changes_nothing(trained: Any) -> None:
    _, found = trained
    critic = found["pair"][0]
    before = copy.deepcopy(critic.state_dict())
    one, two = (scores(trained, "pair")["target"] for _ in range(2))
    assert torch.equal(one, two)
    assert all(value.equal(before[name]) for name, value in critic.state_dict().items())


def test_drops_are_counted_in_deviations_of_real_scores(trained: Any) -> None:
    s, _ = trained
    rows = s.run.values(table="reactions", metric="drop")
    for judges in ("pair", "image"):
        seen = scores(trained, judges)
        real = seen["target"]
        found = select(rows, method=NAMES[judges]).set_index("setting")["value"].to_dict()
        wanted = {name: float((real - value).mean() / real.std()) for name, value in seen.items()}
        assert found == pytest.approx(wanted, rel=1e-3, abs=1e-3)
        assert found["target"] == 0
        assert found["output"] > 0.5, "a real picture scores higher than the phone's"


def test_the_table_has_a_row_per_change(trained: Any) -> None:
    s, _ = trained
    frame = critics.table(s)
    assert list(frame.columns) == ["setting", NAMES["pair"], NAMES["image"]]
    cells = frame.set_index("setting")
    assert list(cells.index) == list(scores(trained, "pair"))
    assert cells.loc["phi blanked", NAMES["image"]] == "not applicable"
    assert cells.loc[OTHER, NAMES["image"]] == 0


def test_pieces_give_the_scores_of_the_whole(trained: Any) -> None:
    s, found = trained
    critic, pairs = found["image"][0], s.validation
    many = pairs.clean.repeat(3, 1, 1, 1)
    seen = critics._scores(critic, many, many, torch.device("cpu"))
    torch.testing.assert_close(seen, seen[: len(pairs)].repeat(3), rtol=1e-4, atol=1e-4)


def test_without_phi_nothing_is_blanked(s: Study) -> None:
    s.vgg19 = None
    pairs = s.validation
    critic = s.critic("pair", 0).eval()
    assert critic.judges == "pair_without_phi"
    seen = critics.reactions(critic, pairs.degraded, pairs.clean, phone_itself(), s.device)
    assert list(seen) == [
        "target", "output", "target of another scene", "output of another scene", SHIFTED, OTHER,
    ]  # fmt: skip


def test_the_claims_name_what_is_recorded(trained: Any) -> None:
    s, _ = trained
    values = s.run.values()
    measured = {claim.name for claim in verdict.CLAIMS if claim.statistic(values) is not None}
    assert measured == {
        "critic_can_win", "critic_sees_the_pair", "critic_sees_the_shift", "critic_uses_phi",
    }  # fmt: skip


def test_outputs_are_the_generators(trained: Any, s: Study) -> None:
    own = s.main(0)
    pairs = trained[0].validation
    critic = trained[1]["image"][0]
    seen = critics.reactions(critic, pairs.degraded, pairs.clean, own, s.device)
    with torch.inference_mode():
        wanted = critic(pairs.degraded, apply(own.generator, pairs.degraded))
    torch.testing.assert_close(seen["output"], wanted, rtol=1e-3, atol=1e-3)
