"""What is on disk while a network trains: whole files, read back into the same run only."""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from enhancelib import runtime
from enhancelib.checkpoints import Checkpoint, History, TrainingError, save_atomically
from enhancelib.folders import RunError
from enhancelib.recipes import Recipe
from tests.disks import full

RECIPE = Recipe(steps=20, batch=2, patch=8)
Keep = Callable[..., Checkpoint]


@pytest.fixture
def keep(tmp_path: Path) -> Keep:
    """A checkpoint of a small network and its Adam, after one step."""

    def make(
        recipe: Recipe = RECIPE, *, threads: int = 1, width: int = 4, **more: Any
    ) -> Checkpoint:
        torch.manual_seed(0)
        network = nn.Sequential(nn.Conv2d(1, width, 3), nn.BatchNorm2d(width))
        update = torch.optim.Adam(network.parameters())
        network(torch.rand(2, 1, 8, 8)).square().mean().backward()
        update.step()
        run = SimpleNamespace(
            folder=tmp_path, runtime=runtime.Runtime(torch.device("cpu"), threads)
        )
        return Checkpoint(run, recipe, "main", {"network": network, "optimiser": update, **more})

    return make


def tensors(value: Any) -> list[torch.Tensor]:
    """All tensors of a nested state, in order."""
    if isinstance(value, torch.Tensor):
        return [value]
    inner = list(value.values()) if isinstance(value, dict) else value
    return [t for v in inner for t in tensors(v)] if isinstance(inner, list | tuple) else []


def state(checkpoint: Checkpoint) -> list[torch.Tensor]:
    return [t.clone() for part in checkpoint.parts.values() for t in tensors(part.state_dict())]


def spoil(checkpoint: Checkpoint) -> None:
    with torch.no_grad():
        for tensor in (t for p in checkpoint.parts.values() for t in tensors(p.state_dict())):
            tensor.zero_()


# There and back


def test_nothing_on_disk_is_step_zero(keep: Keep) -> None:
    assert keep().resume() == (0, History())


def test_parts_and_curves_come_back_to_the_last_bit(keep: Keep) -> None:
    checkpoint, history = keep(), History()
    history.add(20, {"loss": 0.1 + 0.2})
    before = state(checkpoint)
    assert len(before) > 12, "weights, buffers and Adam's moments"
    checkpoint.write(7, history, 1.5)
    again = keep()
    spoil(again)
    index, curves = again.resume()
    assert index == 7
    assert curves.values == {"loss": [0.30000000000000004]}
    assert curves.seconds == 1.5
    after = state(again)
    assert all(a.equal(b) and a.dtype == b.dtype for a, b in zip(before, after, strict=True))


def test_seconds_add_up_over_restarts(keep: Keep) -> None:
    keep().write(1, History(), 10.0)
    second = keep()
    _, history = second.resume()
    second.write(2, history, 2.5)
    assert keep().resume()[1].seconds == 12.5


def test_it_is_due_when_its_interval_has_passed(keep: Keep) -> None:
    assert keep(replace(RECIPE, checkpoint_seconds=0.0)).due()
    slow = keep(replace(RECIPE, checkpoint_seconds=3600.0))
    assert not slow.due()
    slow.last -= 3600
    assert slow.due()
    slow.write(1, History(), 0.0)
    assert not slow.due()


def test_marks_and_the_interval_may_change_between_run_and_continuation(keep: Keep) -> None:
    keep().write(3, History(), 0.0)
    free = replace(RECIPE, checkpoint_seconds=1.0, certainty={"steps": "paper"})
    assert keep(free).resume()[0] == 3


# Refused


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"threads": 2}, r"threads=1, this run has threads=2.*OMP_NUM_THREADS"),
        ({"recipe": replace(RECIPE, steps=30)}, r"steps=20, this run has steps=30"),
        ({"recipe": replace(RECIPE, betas=(0.5, 0.9))}, r"betas=\(0.9, 0.999\)"),
        ({"width": 5}, r"does not fit 'network'.*size mismatch"),
        ({"critic": nn.Linear(1, 1)}, r"parts=\['network', 'optimiser'\]"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused_in_one_sentence(
    keep: Keep, other: dict[str, Any], message: str
) -> None:
    keep().write(3, History(), 0.0)
    with pytest.raises(TrainingError, match=f"(?s){message}.*delete that file"):
        keep(**other).resume()


def flipped(content: bytes) -> bytes:
    """One bit of one stored weight changed, as a failing disk does."""
    place = len(content) // 2
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


def foreign(_: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("photo.png", b"not a checkpoint")
    return file.getvalue()


def other_version(content: bytes) -> bytes:
    found = {**torch.load(io.BytesIO(content), weights_only=True), "schema": 99}
    file = io.BytesIO()
    torch.save(found, file)
    return file.getvalue()


def weights_only(_: bytes) -> bytes:
    file = io.BytesIO()
    torch.save(nn.Linear(1, 1).state_dict(), file)
    return file.getvalue()


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[: len(content) // 2],
        lambda content: content[:-1],
        flipped,
        foreign,
        other_version,
        weights_only,
    ],
    ids=["empty", "half", "one byte short", "one bit", "foreign zip", "version", "weights"],
)
def test_a_torn_or_foreign_file_is_refused_and_named(
    keep: Keep, damage: Callable[[bytes], bytes]
) -> None:
    checkpoint = keep()
    checkpoint.write(3, History(), 0.0)
    content = checkpoint.path.read_bytes()
    checkpoint.path.write_bytes(damage(content))
    before = state(checkpoint)
    with pytest.raises(TrainingError, match=r"main\.pt cannot be read as a checkpoint.*delete"):
        checkpoint.resume()
    assert all(a.equal(b) for a, b in zip(before, state(checkpoint), strict=True))


# Divergence


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_stops_before_the_file_is_touched(
    keep: Keep, value: float
) -> None:
    checkpoint = keep()
    checkpoint.write(3, History(), 0.0)
    content = checkpoint.path.read_bytes()
    with pytest.raises(TrainingError, match=rf"'main': loss is {value} at step 4"):
        checkpoint.insist_finite({"psnr": 20.0, "loss": value}, 4)
    assert checkpoint.path.read_bytes() == content


def test_broken_weights_never_replace_good_ones_even_under_a_finite_loss(keep: Keep) -> None:
    checkpoint = keep()
    checkpoint.write(3, History(), 0.0)
    content = checkpoint.path.read_bytes()
    network = checkpoint.parts["network"]
    assert isinstance(network, nn.Module)
    with torch.no_grad():
        next(network.parameters())[0, 0, 0, 0] = math.inf
    with pytest.raises(TrainingError, match=r"network\.0\.weight is not finite at step 4"):
        checkpoint.write(4, History(), 0.0)
    assert checkpoint.path.read_bytes() == content


# The file itself


def test_a_write_leaves_one_file_and_no_part(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "main.pt"
    save_atomically({"a": torch.ones(3)}, path)
    assert [file.name for file in path.parent.iterdir()] == ["main.pt"]
    assert torch.load(path, weights_only=True)["a"].equal(torch.ones(3))


def test_a_full_disk_keeps_the_old_file_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "main.pt"
    save_atomically({"a": torch.ones(3)}, path)
    content = path.read_bytes()
    with full(10_000), pytest.raises(RunError, match=r"main\.pt cannot be written.*free some"):
        save_atomically({"a": torch.ones(100_000)}, path)
    assert path.read_bytes() == content
    assert [file.name for file in tmp_path.iterdir()] == ["main.pt"]


# Curves


def test_a_curve_keeps_its_own_steps() -> None:
    history = History()
    history.add(10, {"loss": 1.0})
    history.add(20, {"loss": 0.5, "psnr": 26.9})
    assert history.steps == {"loss": [10, 20], "psnr": [20]}
    assert history.values == {"loss": [1.0, 0.5], "psnr": [26.9]}


def test_a_threshold_is_reached_when_it_is_met_and_perhaps_never() -> None:
    history = History()
    for step, psnr in ((10, 26.0), (20, 27.0), (30, 26.5), (40, 28.0)):
        history.add(step, {"psnr": psnr})
    assert history.reached("psnr", 27.0) == 20
    assert history.reached("psnr", 30.0) is None
