"""Does the network separate noise and structure gradually? A linear probe of every layer."""

from __future__ import annotations

import torch
from torch import Tensor

from enhancelib.papers.dncnn.sections import Networks
from enhancelib.papers.dncnn.study import Study


def measure(s: Study, found: Networks) -> None:
    """How well a linear map of each layer's features gives the picture x and the noise v.

    Ridge regression on half of the validation crops, R2 on the other half.

    Args:
        s: The run's trainings.
        found: Its networks; those of the training section are probed.
    """
    clean = s.watched.cpu()
    generator = torch.Generator().manual_seed(s.p.seed)
    v = torch.randn(clean.shape, generator=generator) * (s.p.sigma / 255)
    half = len(clean) // 2
    for seed, trained in found.main.items():
        network = trained.network.cpu()
        with torch.inference_mode():
            layers = network.activations(clean + v)  # type: ignore[operator]
        for k, features in enumerate(layers[:-1]):
            for name, target in (("x", clean), ("v", v)):
                s.run.record(
                    dataset="validation", method="linear probe", metric="r2", setting=name,
                    value=_r2(features, target, half), seed=seed, image=f"layer {k + 1}",
                    table="probe",
                )  # fmt: skip
        trained.network.to(s.device)


def _r2(features: Tensor, target: Tensor, half: int) -> float:
    rows = features.permute(0, 2, 3, 1).double()
    columns = [part.reshape(-1, rows.shape[3]) for part in (rows[:half], rows[half:])]
    ones = [torch.cat([c, torch.ones(len(c), 1, dtype=c.dtype)], 1) for c in columns]
    wanted = [part.double().reshape(-1, 1) for part in (target[:half], target[half:])]
    gram = ones[0].T @ ones[0]
    ridge = 1e-6 * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
    solution = torch.linalg.solve(gram + ridge, ones[0].T @ wanted[0])
    residual = (ones[1] @ solution - wanted[1]).square().sum()
    return float(1 - residual / (wanted[1] - wanted[1].mean()).square().sum())
