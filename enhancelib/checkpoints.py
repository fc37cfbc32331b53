"""What training leaves on disk: one file per stage, written atomically, resumed exactly."""

from __future__ import annotations

import io
import math
import pickle
import time
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from torch import nn

from enhancelib import runtime as rt
from enhancelib.folders import replacing
from enhancelib.recipes import Recipe

SCHEMA = 1
_UNREADABLE = (
    *(RuntimeError, EOFError, OSError, ValueError, KeyError, AttributeError),
    *(pickle.UnpicklingError, zipfile.BadZipFile),
)
FREE = ("certainty", "checkpoint_seconds")  # may change between a run and its continuation


class Stateful(Protocol):
    """Anything that a checkpoint can keep: networks, optimisers, pools, averages."""

    def state_dict(self) -> dict[str, Any]:
        """The state as tensors and plain Python values.

        Returns:
            What `load_state_dict` takes.
        """
        ...

    def load_state_dict(self, state_dict: Any, /) -> object:  # noqa: ANN401
        """Take a state that `state_dict` gave.

        Args:
            state_dict: The state.

        Returns:
            Ignored.
        """
        ...


Parts = Mapping[str, Stateful]


class Keeper(Protocol):
    """What `fit` needs of a run: a folder to write to and the machine's settings."""

    folder: Path
    runtime: rt.Runtime


class TrainingError(RuntimeError):
    """Training cannot go on: it diverged, or a checkpoint does not belong to this run."""


@dataclass
class History:
    """What a training left to look at: per name, steps and values.

    Args:
        steps: name -> step numbers, counted from 1.
        values: name -> values at these steps.
        seconds: Wall-clock seconds of training, summed over restarts.
    """

    steps: dict[str, list[int]] = field(default_factory=dict)
    values: dict[str, list[float]] = field(default_factory=dict)
    seconds: float = 0.0

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Append one point to the curve of every name.

        Args:
            step: Step number, counted from 1.
            values: name -> value.
        """
        for name, value in values.items():
            self.steps.setdefault(name, []).append(step)
            self.values.setdefault(name, []).append(float(value))

    def reached(self, name: str, threshold: float) -> int | None:
        """The first step at which a curve is at or above a threshold.

        Args:
            name: Name of the curve.
            threshold: In the curve's unit.

        Returns:
            The step, or None when the curve never gets there.

        Raises:
            KeyError: If no curve has this name.

        Example:
            >>> history = History()
            >>> history.add(10, {"psnr": 26.0})
            >>> history.add(20, {"psnr": 27.5})
            >>> history.reached("psnr", 27.0)
            20
            >>> history.reached("ssim", 0.9)
            Traceback (most recent call last):
            KeyError: 'ssim'
        """
        points = zip(self.steps[name], self.values[name], strict=True)
        return next((step for step, value in points if value >= threshold), None)


class Checkpoint:
    """One stage's file: written atomically, read back only into the run that made it.

    Args:
        run: Its folder holds `checkpoints/<stage>.pt`.
        recipe: Must be the same when the stage goes on (interval and certainty marks aside).
        stage: Name of the stage.
        parts: What is kept.
    """

    def __init__(self, run: Keeper, recipe: Recipe, stage: str, parts: Parts) -> None:
        self.stage = stage
        self.parts = parts
        self.path = run.folder / "checkpoints" / f"{stage}.pt"
        self.runtime = run.runtime
        self.recipe = {k: v for k, v in asdict(recipe).items() if k not in FREE}
        self.interval = recipe.checkpoint_seconds
        self.last = time.monotonic()
        self.spent = 0.0

    def due(self) -> bool:
        """Whether the recipe's interval has passed since the last write.

        Returns:
            True when it is time to write again.
        """
        return time.monotonic() - self.last >= self.interval

    def resume(self) -> tuple[int, History]:
        """Bring the parts to where the last run of this stage got to.

        Returns:
            (steps done, curves so far); (0, empty curves) where there is no checkpoint.

        Raises:
            TrainingError: If the file cannot be read, or belongs to another recipe, other parts or
                another number of threads.

        Example:
            >>> import tempfile, types
            >>> folder = Path(tempfile.mkdtemp())
            >>> run = types.SimpleNamespace(folder=folder, runtime=rt.setup("cpu"))
            >>> checkpoint = Checkpoint(run, Recipe(steps=1, batch=1, patch=1), "main", {})
            >>> checkpoint.resume()[0]
            0
            >>> checkpoint.path.parent.mkdir(); _ = checkpoint.path.write_bytes(b"torn")
            >>> checkpoint.resume()
            Traceback (most recent call last):
            enhancelib.checkpoints.TrainingError: ...main.pt cannot be read as a checkpoint ...
        """
        if not self.path.exists():
            return 0, History()
        state = self._read()
        self._insist("threads", state["threads"], self.runtime.threads, " (OMP_NUM_THREADS)")
        for name, value in self.recipe.items():
            self._insist(name, state["recipe"].get(name), value)
        self._insist("parts", sorted(state["parts"]), sorted(self.parts))
        for name, part in self.parts.items():
            try:
                part.load_state_dict(state["parts"][name])
            except (RuntimeError, ValueError, KeyError) as error:
                raise TrainingError(
                    f"{self.path} does not fit {name!r} of this run ({error}); "
                    "delete that file to start the stage again"
                ) from error
        self.spent = state["history"]["seconds"]
        return state["index"], History(**state["history"])

    def _read(self) -> dict[str, Any]:
        try:
            with zipfile.ZipFile(self.path) as archive:  # what torch.save writes is one
                if archive.testzip() is not None:  # torch itself does not look at the checksums
                    raise ValueError("its checksums are wrong")
            # The parts move their tensors themselves; Adam's step counts must stay on the CPU.
            state = torch.load(self.path, map_location="cpu", weights_only=True)
            if not isinstance(state, dict) or state.get("schema") != SCHEMA:
                raise ValueError(f"it is no checkpoint of version {SCHEMA}")
        except _UNREADABLE as error:
            raise TrainingError(
                f"{self.path} cannot be read as a checkpoint ({error}); "
                "delete that file to start the stage again"
            ) from error
        return cast(dict[str, Any], state)

    def _insist(self, what: str, seen: object, wanted: object, how: str = "") -> None:
        if seen != wanted:
            raise TrainingError(
                f"{self.path} was made with {what}={seen}, this run has {what}={wanted}; "
                f"use the same {what}{how}, or delete that file to start the stage again"
            )

    def insist_finite(self, values: Mapping[str, float], done: int) -> None:
        """Stop before a diverged state could replace the last good checkpoint.

        Args:
            values: name -> logged value.
            done: Steps done.

        Raises:
            TrainingError: If a value is not finite, or a parameter of a network is not.

        Example:
            >>> import types
            >>> run = types.SimpleNamespace(folder=Path("runs"), runtime=rt.setup("cpu"))
            >>> checkpoint = Checkpoint(run, Recipe(steps=1, batch=1, patch=1), "main", {})
            >>> checkpoint.insist_finite({"loss": math.inf}, 7)
            Traceback (most recent call last):
            enhancelib.checkpoints.TrainingError: stage 'main': loss is inf at step 7; ...
        """
        for name, value in values.items():
            if not math.isfinite(value):
                raise self._diverged(f"{name} is {value}", done)

    def _diverged(self, what: str, done: int) -> TrainingError:
        return TrainingError(
            f"stage {self.stage!r}: {what} at step {done}; the last checkpoint before it is kept "
            f"in {self.path.parent}. Try a smaller learning rate or gradient clipping"
        )

    def write(self, index: int, history: History, seconds: float) -> None:
        """Replace the stage's file by the present state.

        Args:
            index: Steps done.
            history: Curves so far; its seconds are set here.
            seconds: Wall-clock seconds since this process began or resumed the stage.

        Raises:
            TrainingError: If a parameter of a network is not finite: the step after the last finite
                loss can break it.
            RunError: If the folder cannot be written or the disk is full.

        Example:
            >>> import types
            >>> run = types.SimpleNamespace(folder=Path("/proc/x"), runtime=rt.setup("cpu"))
            >>> net, recipe = nn.Linear(1, 1), Recipe(steps=1, batch=1, patch=1)
            >>> checkpoint = Checkpoint(run, recipe, "main", {"net": net})
            >>> checkpoint.write(1, History(), 0.0)
            Traceback (most recent call last):
            enhancelib.folders.RunError: /proc/x/checkpoints/main.pt cannot be written ...
            >>> _ = nn.init.constant_(net.bias, math.nan)
            >>> checkpoint.write(1, History(), 0.0)
            Traceback (most recent call last):
            enhancelib.checkpoints.TrainingError: stage 'main': net.bias is not finite at ...
        """
        self._insist_finite_networks(index)
        history.seconds = self.spent + seconds
        if rt.rank() == 0:
            state = {
                "schema": SCHEMA,
                "index": index,
                "threads": self.runtime.threads,
                "recipe": self.recipe,
                "parts": {name: part.state_dict() for name, part in self.parts.items()},
                "history": asdict(history),
            }
            save_atomically(state, self.path)
        self.last = time.monotonic()

    def _insist_finite_networks(self, done: int) -> None:
        for name, part in self.parts.items():
            if isinstance(part, nn.Module):
                for key, parameter in part.named_parameters():
                    if not parameter.isfinite().all():
                        raise self._diverged(f"{name}.{key} is not finite", done)


def save_atomically(state: Mapping[str, Any], path: Path) -> None:
    """Write a checkpoint so that a kill at any instant leaves the old file or the new one.

    Args:
        state: Tensors and plain values.
        path: Its folder is made where absent.

    Raises:
        RunError: If the folder cannot be written or the disk is full; the old file stays.

    Example:
        >>> save_atomically({}, Path("/proc/nowhere/main.pt"))
        Traceback (most recent call last):
        enhancelib.folders.RunError: /proc/nowhere/main.pt cannot be written ...
    """
    buffer = io.BytesIO()  # on a full disk torch.save would fail with words of its own
    torch.save(dict(state), buffer)
    with replacing(path) as part:
        part.write_bytes(buffer.getbuffer())
