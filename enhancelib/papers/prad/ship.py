"""The network that `enhancelib enhance prad` applies by default: S, trained here on bundled photos.

One command trains it with all seven losses and the critic, and goes on where it stopped:

    python -m enhancelib.training enhancelib.papers.prad.ship:train

Departs: the paper trains on DPED, whose terms do not let a project pass on what was trained on it;
this network learns to undo the simulated phone of `degradations.Phone`.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from enhancelib import images, metrics, results, runtime, weights
from enhancelib.papers.prad import classical, data, settings
from enhancelib.papers.prad.enhance import DEFAULT
from enhancelib.papers.prad.scoring import UNCLIPPED, Restore, network
from enhancelib.papers.prad.study import Study, Trained

STEPS = 6000
METRICS = ("psnr", "ssim", "ms_ssim_dped")


def train(out: str = "", steps: str = str(STEPS), threads: str = "1", file: str = "") -> None:
    """Train the network, or go on with it, and put it with its card into data/weights.

    Args:
        out: Run folder; "" means runs/prad/ship.
        steps: Generator steps.
        threads: CPU threads.
        file: Where the network goes; "" means data/weights.
    """
    folder = Path(out) if out else runtime.root() / "runs" / "prad" / "ship"
    p = settings.Parameters(profile="small", steps=int(steps), out=str(folder))
    machine = runtime.setup(threads=int(threads))
    run = results.Run("prad", "ship", asdict(p), folder, machine, across_versions=True)
    start = run.once("start", lambda: dict(runtime.environment(machine)))
    s = Study(run, p)
    trained = s.main(p.seed)
    card = _card(s, trained, start)
    path = Path(file) if file else runtime.data("weights") / DEFAULT
    options = dict(trained.generator.options)  # type: ignore[arg-type]
    weights.save(trained.generator, path, name="prad", options=options, card=card)
    results.write_text(path.with_suffix(".json"), json.dumps(card, indent=1) + "\n")
    print(f"{path}: {json.dumps(card['scores'])}")


def _card(s: Study, trained: Trained, start: dict[str, Any]) -> dict[str, Any]:
    """What a user must know of the network: recipe, data, scores beside the yardsticks, commit."""
    methods = {**classical.baselines(s.p, cheap=True), "network": network(trained.generator)}
    return {
        "network": f"PRaD generator {s.p.size}",
        "parameters": sum(p.numel() for p in trained.generator.parameters()),
        "recipe": asdict(settings.main_recipe(s.p)),
        "weights of Eq. 19": s.p.weights_of_terms(),
        "data": "bundled photos, split train, degraded by degradations.Phone",
        "test": data.name(s.p),
        "protocols": {name: metrics.METRICS[name].protocol for name in METRICS},
        "scores": {method: _scores(s, restore) for method, restore in methods.items()},
        "environment": start,
        "finished_at": runtime.commit()[0],
        "seconds": round(trained.history.seconds),
        "licence": "Apache-2.0",
    }


def _scores(s: Study, restore: Restore) -> dict[str, float]:
    pairs = data.test(s.p)
    restored = restore(pairs.degraded)
    clipped = images.clip(restored)
    with torch.inference_mode():
        values = {
            name: metrics.METRICS[name](restored if name in UNCLIPPED else clipped, pairs.clean)
            for name in METRICS
        }
    return {name: round(metrics.METRICS[name].summary(v), 4) for name, v in values.items()}
