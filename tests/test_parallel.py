"""Two processes train the network that one would have trained."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from enhancelib import datasets, degradations, losses, models, parallel, runtime, training
from enhancelib.losses import pixel
from enhancelib.recipes import Recipe
from enhancelib.results import Run
from tests.arms import photo

RECIPE = Recipe(steps=12, batch=8, patch=16, clip=1e-3, log_every=3)
MSE = losses.Objective({"mse": losses.Term(1.0, pixel.mse)})


def shared(out: str) -> None:
    """What torchrun calls: clipping, pieces, channels_last, and other weights in every process."""
    machine = runtime.Runtime(torch.device("cpu"), torch.get_num_threads())
    run = Run("arms", "smoke", {}, Path(out), machine)
    network = models.build(
        "dncnn", D=4, width=6, norm="none", generator=runtime.generator(runtime.rank(), "network")
    ).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    pool = datasets.PatchPool([photo("camera")], 16)
    items = []

    def objective(sample: training.Sample) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        items.append(len(sample["output"]))
        return MSE(sample)

    history = training.fit(
        training.supervised(objective, machine, sub_batches=2, clip=RECIPE.clip),
        {"network": network, "optimiser": training.optimiser(network.parameters(), RECIPE)},
        datasets.synthetic(pool, degradations.GaussianNoise(25.0), RECIPE.batch),
        RECIPE,
        run,
    )
    loss = run.once("loss", lambda: history.values["loss"][-1])
    run.record(dataset="curve", method="dncnn", metric="loss", value=loss)
    run.finish()
    kept = (network.state_dict(), history.values, items)
    torch.save(kept, Path(out) / f"rank{runtime.rank()}.pt")


def torchrun(
    out: Path, processes: int, target: str, *words: str
) -> subprocess.CompletedProcess[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={processes}"]
    address = ["--master-addr=127.0.0.1", f"--master-port={port}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    return subprocess.run(
        [*command, *address, "-m", "enhancelib.training", target, f"out={out}", *words],
        capture_output=True,
        text=True,
        timeout=240,
        env=environment,
        cwd=Path(__file__).parent.parent,
    )


def test_two_processes_under_torchrun_train_the_network_of_one(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    shared(str(one))
    done = torchrun(two, 2, "tests.test_parallel:shared")
    assert done.returncode == 0, done.stderr[-3000:]
    (alone, curves, items), first, second = (
        torch.load(path, weights_only=True)
        for path in (one / "rank0.pt", two / "rank0.pt", two / "rank1.pt")
    )
    for name, value in alone.items():
        assert first[0][name].equal(second[0][name]), "the two processes have one network"
        torch.testing.assert_close(first[0][name], value, rtol=0, atol=1e-6)
    assert first[1] == second[1]
    assert set(items) == {4}
    assert first[2] == second[2] == [2] * len(items), "each process works on half of every piece"
    for name, values in curves.items():
        assert first[1][name] == pytest.approx(values, rel=1e-5)
    # one of the two owns the run folder; the other neither waits for it nor writes
    assert (two / "results.json").exists()
    assert not list(two.rglob("*.part"))


def test_a_batch_that_does_not_divide_is_refused_in_one_sentence() -> None:
    with pytest.raises(ValueError, match="'degraded' has 5 items, which do not divide into 2"):
        parallel.insist_divides({"degraded": torch.zeros(5, 1, 8, 8)}, 2, "processes")


def test_outside_torchrun_nothing_is_shared() -> None:
    sample = {"clean": torch.rand(3, 1, 8, 8)}
    assert parallel.share(sample) is sample
    assert parallel.mean({"loss": 0.1}, torch.device("cpu")) == {"loss": 0.1}
