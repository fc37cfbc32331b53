"""`enhancelib enhance dilie`: photos of every kind, refusals, resume, and nothing left behind."""

from __future__ import annotations

import _thread
import re
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import skimage.data
import torch
from PIL import Image
from torch import Tensor

from enhancelib import cli, images, runtime
from enhancelib.papers.dilie import enhance as module
from enhancelib.papers.dilie import framework
from enhancelib.papers.dilie.enhance import enhance
from enhancelib.papers.dilie.framework import Made
from enhancelib.papers.dilie.settings import Parameters
from enhancelib.papers.parameters import ParameterError

DATA: Any = skimage.data  # untyped
CAT = images.resize(images.from_array(DATA.chelsea()), size=(36, 48)).clamp(0, 1)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own, without feature networks."""
    monkeypatch.setenv("ENHANCELIB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def kept(cache: Path) -> list[Path]:
    return list(cache.glob("enhance/dilie/*"))


def plainly(folder: Path, photo: Tensor, **given: Any) -> Tensor:
    """The framework itself, at the profile that the command takes on this machine."""
    machine = runtime.setup()
    profile = "large" if machine.device.type == "cuda" else "small"
    options = framework.options(Parameters(profile=profile, **given))
    work: Any = module._Work(folder, machine)
    made = framework.dilie(photo, run=work, corruption=given["corruption"], options=options)
    return made.E


def test_it_is_the_framework(cache: Path, tmp_path: Path) -> None:
    found = enhance(CAT, task="denoise", steps=3)
    assert found.shape == CAT.shape
    assert 0 <= float(found.min()) <= float(found.max()) <= 1
    assert torch.equal(found, plainly(tmp_path / "a", CAT, corruption="noise", steps=3))
    assert not kept(cache)


def test_a_grey_photo_stays_grey(cache: Path, tmp_path: Path) -> None:
    found = enhance(CAT[:1], task="denoise", steps=1)
    assert found.shape == (1, 36, 48)
    assert torch.equal(found, plainly(tmp_path / "a", CAT[:1], corruption="noise", steps=1))


def test_a_grey_photo_is_dehazed_as_three_channels(features: Path, tmp_path: Path) -> None:
    found = enhance(CAT[:1], steps=1)
    three = plainly(tmp_path, CAT[:1].repeat(3, 1, 1), corruption="haze", steps=1)
    torch.testing.assert_close(found, three.mean(0, keepdim=True))


def test_a_reference_gives_its_style(features: Path, tmp_path: Path) -> None:
    Image.fromarray(DATA.rocket()[:80, :90]).save(tmp_path / "rocket.png")
    styled = enhance(CAT, task="denoise", steps=1, reference=tmp_path / "rocket.png")
    grey = enhance(CAT[:1], task="denoise", steps=1, reference=tmp_path / "rocket.png")
    assert styled.shape == grey.shape == CAT.shape
    assert not torch.equal(styled, plainly(tmp_path, CAT, corruption="noise", steps=1))


# What it says


def test_it_tells_the_time_before_it_starts(
    cache: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    real = framework.dilie

    def late(*given: Any, **named: Any) -> Made:
        said.append(capsys.readouterr().out)
        return real(*given, **named)

    monkeypatch.setattr(framework, "dilie", late)
    enhance(CAT, task="denoise", steps=2)
    assert re.fullmatch(
        r"about \d+ s on \w+; stop it when you like, the same command goes on\n", said[0]
    )


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.2, "1 s"), (89, "89 s"), (90, "2 min"), (3600, "60 min"), (5400, "1.5 h"), (1e5, "27.8 h")],
)
def test_durations(seconds: float, words: str) -> None:
    assert module._duration(seconds) == words


# Resume


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Ctrl-C as at a terminal: a shell starts what it puts into the background without it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def cut_short(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    """Let somebody press Ctrl-C once there is a checkpoint."""
    real = framework.dilie

    def press() -> None:
        while not list(cache.glob("enhance/dilie/*/checkpoints/*.pt")):
            time.sleep(0.01)
        _thread.interrupt_main()

    def interrupted(*given: Any, options: Any, **named: Any) -> Made:
        plan = replace(options.plan, checkpoint_seconds=0.0)
        threading.Thread(target=press, daemon=True).start()
        return real(*given, options=replace(options, plan=plan), **named)

    monkeypatch.setattr(framework, "dilie", interrupted)


@pytest.mark.usefixtures("ctrl_c")
def test_the_same_call_goes_on(
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    cut_short(monkeypatch, cache)
    with pytest.raises(KeyboardInterrupt, match="the same command goes on from there"):
        enhance(CAT, task="denoise", steps=200)
    (folder,) = kept(cache)
    (checkpoint,) = folder.glob("checkpoints/denoise-*.pt")
    assert torch.load(checkpoint, weights_only=True)["index"] >= 20
    monkeypatch.undo()
    monkeypatch.setenv("ENHANCELIB_CACHE", str(cache))
    capsys.readouterr()
    found = enhance(CAT, task="denoise", steps=200)
    said = capsys.readouterr().out
    assert said.startswith("going on with what was begun; from its beginning it takes about ")
    assert re.search(r"denoise-\w+: resumed at step \d+ of 200", said)
    assert torch.equal(found, plainly(tmp_path / "a", CAT, corruption="noise", steps=200))
    assert not kept(cache)


def test_other_photos_and_options_have_folders_of_their_own(cache: Path) -> None:
    asked = (
        (CAT, None, ("denoise", 4)), (CAT.flip(2), None, ("denoise", 4)),
        (CAT, None, ("dehaze", 4)), (CAT, None, ("denoise", 6)), (CAT, CAT, ("denoise", 4)),
        (CAT.reshape(3, 48, 36), None, ("denoise", 4)),
    )  # fmt: skip
    folders = [module._folder(*one) for one in asked]
    assert len(set(folders)) == len(folders)
    assert module._folder(*asked[0]) == folders[0]
    assert all(folder.is_relative_to(cache) for folder in folders)


# Refusals


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"file": Path("model.pth")}, "dilie has no network to load; leave out --weights model"),
        ({"task": "derain"}, "task is 'derain'; expected dehaze or denoise"),
        ({"steps": -1}, "steps is -1; expected 0"),
    ],
)
def test_refused_options(cache: Path, given: dict[str, Any], reason: str) -> None:
    with pytest.raises(ParameterError, match=re.escape(reason)):
        enhance(CAT, **given)
    assert not cache.exists()


@pytest.mark.parametrize(
    ("photo", "reason"),
    [
        (CAT[0], "picture has shape (36, 48); expected (3, H, W) or (1, H, W)"),
        (CAT[:2], "picture has shape (2, 36, 48)"),
        (CAT[:, :20], "a photo of 48 x 20 pixels is too small; the networks take sides of 33"),
    ],
)
def test_refused_photos(cache: Path, photo: Tensor, reason: str) -> None:
    with pytest.raises(images.ImageError, match=re.escape(reason)):
        enhance(photo, task="denoise")
    assert not kept(cache)


def test_a_reference_that_is_no_picture(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "style.jpg").write_text("no picture")
    began = time.monotonic()
    for name in ("style.jpg", "nowhere.jpg"):
        with pytest.raises(images.ImageError, match=name):
            enhance(CAT, reference=tmp_path / name)
    assert time.monotonic() - began < 5
    assert not cache.exists()


# The command


def ran(*words: str | Path) -> int:
    return cli.main(["enhance", "dilie", *map(str, words)])


def test_the_command(cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photo, result = tmp_path / "in.png", tmp_path / "out.png"
    images.write(photo, CAT)
    assert ran(photo, "-o", result, "--task", "denoise", "--steps", "2") == 0
    said = capsys.readouterr()
    assert said.out.splitlines()[0].startswith("about ")
    assert said.out.splitlines()[-1] == f"{result}: 48 x 36 pixels"
    expected = enhance(images.read(photo), task="denoise", steps=2)
    assert torch.equal(images.read(result), images.from_uint8(images.to_uint8(expected)))


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--task", "derain"), "task is 'derain'; expected dehaze or denoise"),
        (("--reference", "nowhere.png"), "nowhere.png"),
        (("--weights", "x.pth"), "dilie has no network to load"),
        (("--steps", "-3"), "steps is -3"),
    ],
)
def test_the_command_refuses_in_one_sentence(
    cache: Path,
    tmp_path: Path,
    words: tuple[str, ...],
    reason: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    images.write(tmp_path / "in.png", CAT)
    assert ran(tmp_path / "in.png", "-o", tmp_path / "out.png", *words) == 2
    said = capsys.readouterr().err
    assert said.startswith("enhancelib: ")
    assert reason in said
    assert said.count("\n") == 1
    assert not (tmp_path / "out.png").exists()


def test_the_command_without_features(
    cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images.write(tmp_path / "in.png", CAT)
    assert ran(tmp_path / "in.png", "-o", tmp_path / "out.png", "--steps", "1") == 1
    assert "enhancelib fetch --only" in capsys.readouterr().err
