"""Kill a run at random moments, start it again each time, and compare it with an undisturbed one.

    python -m tests.soak [--paper dncnn] [--kills 10] [--profile small] [--seed 0] [--out DIR]
                         [--reference RUN] [-- more words of `enhancelib run`]

SIGKILL goes to the command and to every process below it, kernels included. Kills are spread over
the stages of the run, so that every kind of arm is hit, and some of them wait for a checkpoint that
is half written. At the end every number of values.csv but measured times, and every tensor of every
checkpoint, must have the bits of the undisturbed run. Exit code 0 only then.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import re
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import torch

from enhancelib import results, runtime
from tests.starts import SoakError, Start, finish

RUN = f"{shlex.quote(sys.executable)} -m enhancelib.cli run"
LEVEL_AND_SEED = re.compile(r"(-s[^-]+)?-seed\d+$")
WINDOW = (0.1, 0.9)  # of a stage's training time, in which a kill is set
HALF_WRITTEN = 3  # every third kill waits for a checkpoint that is being written


@dataclass(frozen=True)
class Stage:
    """One training of the undisturbed run.

    Args:
        name: Of its checkpoint.
        steps: In all.
        lead: Seconds between the end of the stage before and its own first step.
        seconds: Its training took.
    """

    name: str
    steps: int
    lead: float
    seconds: float

    @property
    def kind(self) -> str:
        """The arm without noise level and seed."""
        return LEVEL_AND_SEED.sub("", self.name)


@dataclass(frozen=True)
class Death:
    """What lay on disk after one kill.

    Args:
        after: Seconds since the process started.
        stage: First stage that was not finished.
        newest: The checkpoint written last.
        step: Its step.
        steps: Of its stage.
        parts: Half-written files.
    """

    after: float
    stage: Stage
    newest: str
    step: int
    steps: int
    parts: tuple[str, ...]


# The undisturbed run


def read(path: Path) -> dict[str, Any]:
    """A checkpoint as it lies on disk."""
    found: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return found


def stages(folder: Path) -> list[Stage]:
    """The trainings of a finished run, in the order in which they ended."""
    files = sorted((folder / "checkpoints").glob("*.pt"), key=lambda file: file.stat().st_mtime_ns)
    found, before = [], (folder / ".lock").stat().st_mtime
    for file in files:
        state, ended = read(file), file.stat().st_mtime
        seconds = float(state["history"]["seconds"])
        lead = max(0.0, ended - before - seconds)
        found.append(Stage(file.stem, int(state["index"]), lead, seconds))
        before = ended
    return found


def threads(reference: Path) -> int:
    """The thread count of the undisturbed run, which the disturbed one must have too."""
    found = json.loads((reference / "results.json").read_text(encoding="utf-8"))
    return int(found["environment"]["threads"])


# Where a run stands


def stamp(path: Path) -> int:
    """When a file was written; 0 where there is none."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


class Finished:
    """Which stages of a run are finished; a checkpoint is read only when it has changed."""

    def __init__(self, folder: Path, order: Sequence[Stage]) -> None:
        self.folder, self.order = folder / "checkpoints", order
        self._seen: dict[str, tuple[int, int]] = {}

    def step(self, name: str) -> int:
        """Steps done in a stage's checkpoint."""
        path = self.folder / f"{name}.pt"
        written = stamp(path)
        if written and self._seen.get(name, (0, 0))[0] != written:
            self._seen[name] = (written, int(read(path)["index"]))
        return self._seen[name][1] if written else 0

    def remaining(self) -> list[Stage]:
        """The stages not yet finished, in their order."""
        return [stage for stage in self.order if self.step(stage.name) < stage.steps]

    def newest(self) -> str:
        """Name of the checkpoint that was written last, or nothing."""
        files = list(self.folder.glob("*.pt"))
        return max(files, key=stamp).stem if files else ""

    def parts(self, since: int) -> tuple[str, ...]:
        """Half-written checkpoints that were begun since a time, in ns; a kill may leave one."""
        with contextlib.suppress(OSError):
            names = [entry.name for entry in os.scandir(self.folder) if entry.name[-5:] == ".part"]
            return tuple(sorted(n for n in names if stamp(self.folder / n) > since))
        return ()


# When to kill


def choose(remaining: Sequence[Stage], unhit: set[str], kills: int, rng: random.Random) -> Stage:
    """The next stage to hit, so that the kills left reach every kind and spread over the rest."""
    chosen = []
    for kind in sorted(unhit & {stage.kind for stage in remaining}):
        chances = [stage for stage in remaining if stage.kind == kind]
        chosen.append(rng.choice(chances[:-1] or chances))  # a kill that comes late has one more
    chosen += rng.choices(remaining, k=max(0, kills - len(chosen)))
    return min(chosen or remaining, key=remaining.index)


def await_stage(start: Start, finished: Finished, target: Stage) -> float | None:
    """Wait until a stage is about to train; seconds to its first step, None where the run ended."""
    position = finished.order.index(target)
    before = [finished.order[position - 1]] if position else []
    # Where the stage before is finished already, opening the folder is the only sign to go by.
    unfinished = [stage for stage in before if stage in finished.remaining()]
    while start.alive():
        if unfinished and finished.step(unfinished[0].name) >= unfinished[0].steps:
            return target.lead
        if not unfinished and start.opened():
            return finished.order[0].lead
        start.watch()
        time.sleep(0.002)
    return None


def await_moment(
    start: Start, finished: Finished, target: Stage, lead: float, share: float
) -> bool:
    """Wait for a random share of a stage's training; False where the run ended before.

    By its time in the undisturbed run, or by its steps where its checkpoints show them earlier.
    """
    deadline = time.monotonic() + lead + share * target.seconds
    done = finished.step(target.name)
    wanted = done + share * (target.steps - done)
    while start.alive():
        if time.monotonic() > deadline or finished.step(target.name) >= wanted:
            return True
        start.watch()
        time.sleep(0.002)
    return False


def await_write(start: Start, finished: Finished) -> bool:
    """Freeze the run while a checkpoint is half written; False where it ended before."""
    while start.alive():
        start.watch()
        for _ in range(100):
            if finished.parts(start.time):
                start.freeze()
                if finished.parts(start.time):
                    return True
                start.thaw()
            time.sleep(0.0002)
    return False


# The disturbed run


class Soak:
    """A run that is killed again and again.

    Args:
        command: Words; they write into folder.
        folder: The run folder.
        order: The stages of the undisturbed run.
        environment: Of the run.
        rng: Chooses the moments.
    """

    def __init__(
        self,
        command: Sequence[str],
        folder: Path,
        order: Sequence[Stage],
        environment: Mapping[str, str],
        rng: random.Random,
    ) -> None:
        self.command, self.folder, self.environment, self.rng = command, folder, environment, rng
        self.finished = Finished(folder, order)
        self.kinds = {stage.kind for stage in order}
        self.deaths: list[Death] = []
        self.code = runtime.code()

    def unhit(self) -> set[str]:
        """Kinds of arms that no kill has met."""
        return self.kinds - {death.stage.kind for death in self.deaths}

    def hit_writes(self) -> int:
        """Kills that left a half-written checkpoint behind."""
        return sum(bool(death.parts) for death in self.deaths)

    def disturb(self, kills: int) -> None:
        """Kill so many times at least, and until every kind and a checkpoint write were hit."""
        while remaining := self.finished.remaining():
            reachable = self.unhit() & {stage.kind for stage in remaining}
            left = kills - len(self.deaths)
            if left <= 0 and not reachable and self.hit_writes():
                return
            target = choose(remaining, reachable, left, self.rng)
            half_written = len(self.deaths) % HALF_WRITTEN == 1 or left <= 0
            if not self.attempt(target, half_written=half_written):
                return

    def attempt(self, target: Stage, *, half_written: bool) -> bool:
        """Start the command and kill it in one stage; False where it ended before that."""
        if runtime.code() != self.code:
            raise SoakError("enhancelib was edited during the soak, so its runs start all over")
        start = Start(self.command, self.folder, self.environment)
        try:
            reached = self.reach(start, target, half_written=half_written)
        finally:
            lived = start.kill()
        if reached:
            self.deaths.append(self.note(lived, start.time))
            print(line(len(self.deaths), self.deaths[-1]), flush=True)
        return reached

    def reach(self, start: Start, target: Stage, *, half_written: bool) -> bool:
        """Wait for a random moment of a stage, or for the first write after it."""
        lead, share = await_stage(start, self.finished, target), self.rng.uniform(*WINDOW)
        if lead is None or not await_moment(start, self.finished, target, lead, share):
            return False
        return not half_written or await_write(start, self.finished)

    def note(self, after: float, since: int) -> Death:
        """What lies on disk now."""
        remaining, newest = self.finished.remaining(), self.finished.newest()
        steps = {stage.name: stage.steps for stage in self.finished.order}
        return Death(
            after,
            remaining[0] if remaining else self.finished.order[-1],
            newest,
            self.finished.step(newest) if newest else 0,
            steps.get(newest, 0),
            self.finished.parts(since),
        )

    def complete(self) -> None:
        """Let it run to its end."""
        finish(self.command, self.folder, self.environment)


def line(number: int, death: Death) -> str:
    """One row of the table of deaths."""
    part = ", ".join(death.parts) or "-"
    newest = f"{death.newest} {death.step}/{death.steps}" if death.newest else "-"
    return f"| {number:2} | {death.after:7.1f} s | {death.stage.name:30} | {newest:40} | {part} |"


HEAD = (
    f"| no | {'lived':>9} | {'stage not yet finished':30} | {'newest checkpoint, step':40} "
    "| half written |"
)


# The comparison


def tensors(state: object, path: str = "") -> dict[str, torch.Tensor]:
    """All tensors of a nested state, by their place in it."""
    if isinstance(state, torch.Tensor):
        return {path: state}
    if isinstance(state, Mapping):
        pairs = [(str(key), value) for key, value in state.items()]
    elif isinstance(state, list | tuple):
        pairs = [(str(key), value) for key, value in enumerate(state)]
    else:
        return {}
    return {k: t for key, value in pairs for k, t in tensors(value, f"{path}/{key}").items()}


def differences(first: Path, second: Path) -> list[str]:
    """Where two finished runs differ: numbers that are no times, and tensors of checkpoints."""
    found = []
    values = [results.read_values(run / "values.csv") for run in (first, second)]
    if not results.same(*values):
        found.append("values.csv")
    names = [{p.name for p in (run / "checkpoints").glob("*.pt")} for run in (first, second)]
    found += [f"{name}: in one run only" for name in sorted(names[0] ^ names[1])]
    for name in sorted(names[0] & names[1]):
        a, b = (tensors(read(run / "checkpoints" / name)["parts"]) for run in (first, second))
        for key in sorted(a.keys() | b.keys()):
            if key not in a or key not in b or not same(a[key], b[key]):
                found.append(f"{name}: {key}")
    return found


def same(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Whether two tensors have the same bits."""
    return a.dtype == b.dtype and a.equal(b)


def verdict(soak: Soak, kills: int, found: Sequence[str]) -> tuple[bool, str]:
    """Whether the soak was hard enough and the run came through, and the sentence that says so."""
    faults = [f"{len(found)} differences: " + "; ".join(found[:5])] if found else []
    if len(soak.deaths) < kills:
        faults.append(f"{len(soak.deaths)} kills of {kills}: the run ended before")
    if missed := sorted(soak.unhit()):
        faults.append("never hit: " + ", ".join(missed))
    if not soak.hit_writes():
        faults.append("no checkpoint write was hit")
    told = (
        f"{len(soak.deaths)} kills, {len(soak.kinds) - len(missed)} of {len(soak.kinds)} kinds of "
        f"arms hit, {soak.hit_writes()} checkpoint writes hit"
    )
    if faults:
        return False, f"soak FAILED ({told}): " + "; ".join(faults)
    return True, f"soak passed ({told}): values and checkpoints equal bit for bit"


# The command


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The words of the command."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--paper", default="dncnn")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--profile", default="small")
    parser.add_argument("--seed", type=int, default=0, help="of the moments of the kills")
    parser.add_argument("--reference", type=Path, help="an undisturbed run; else one is run first")
    parser.add_argument("--out", type=Path, help="default: a new folder under runs/soak/")
    parser.add_argument("--command", default="", help=argparse.SUPPRESS)  # {out}: a stand-in
    parser.add_argument("words", nargs="*", metavar="-- WORDS")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Soak, and say how it went."""
    given = parsed(arguments)
    now = datetime.now().strftime("%Y%m%d-%H%M%S")
    base = (given.out or runtime.root() / "runs" / "soak" / now).resolve()
    disturbed, reference = base / "disturbed", (given.reference or base / "undisturbed").resolve()
    if disturbed.exists():
        print(f"soak: {disturbed} exists already; choose another folder with --out")
        return 2
    template = given.command or f"{RUN} {given.paper} --profile {given.profile} --out {{out}}"
    words = [*shlex.split(template), *given.words]

    def command(out: Path) -> list[str]:
        return [str(out) if word == "{out}" else word for word in words]

    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    if not (reference / "results.json").exists():
        print(f"undisturbed run: {reference}", flush=True)
        finish(command(reference), reference, environment)
    if (reference / "code.txt").read_text(encoding="utf-8").split()[:1] != [runtime.code()]:
        print(f"soak: {reference} was made by another version of enhancelib; leave out --reference")
        return 2
    environment["OMP_NUM_THREADS"] = str(threads(reference))
    order = stages(reference)
    print(f"{len(order)} stages, OMP_NUM_THREADS={threads(reference)}\n{HEAD}", flush=True)
    soak = Soak(command(disturbed), disturbed, order, environment, random.Random(given.seed))
    soak.disturb(given.kills)
    soak.complete()
    table = [HEAD, *(line(number, death) for number, death in enumerate(soak.deaths, start=1))]
    passed, sentence = verdict(soak, given.kills, differences(reference, disturbed))
    (base / "deaths.md").write_text("\n".join([*table, "", sentence, ""]), encoding="utf-8")
    print("\n".join(["", *table, "", sentence]), flush=True)
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
