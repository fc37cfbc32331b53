"""The networks that the authors of DPED and PPCN released, and the numbers they print for them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from enhancelib import images, metrics, published, runtime, weights
from enhancelib.papers.parameters import ParameterError
from enhancelib.papers.prad import data
from enhancelib.papers.prad.settings import Parameters
from enhancelib.papers.prad.study import apply
from enhancelib.results import Run

_STEMS: Mapping[str, tuple[str, str]] = {
    "srcnn": ("SRCNN (official weights)", "srcnn"),
    "resnet_8_32": ("ResNet_8_32 (official weights)", "dped"),
    "iphone_orig": ("DPED (official weights)", "dped"),
    "resnet_12_64": ("DPED (official weights)", "dped"),
    "blackberry_orig": ("DPED BlackBerry (official weights)", "dped"),
    "sony_orig": ("DPED Sony (official weights)", "dped"),
    "student_wo_kd": ("PPCN student w/o KD (official weights)", "ppcn"),
    "tracka": ("PPCN student, track A (official weights)", "ppcn"),
    "trackbc": ("PPCN student, track B and C (official weights)", "ppcn"),
    "student": ("PPCN student (official weights)", "ppcn"),
    "teacher": ("PPCN teacher (official weights)", "ppcn"),
}
"""What the released files are called -> (method, model); the first that fits counts. In PPCN's
repository they are student.ckpt.index, teacher.ckpt.index, iphone_trackA.ckpt.index, ..."""

DPED, PPCN = _STEMS["iphone_orig"][0], _STEMS["student"][0]
_ROWS = {
    "SRCNN (official weights)": "SRCNN",
    "ResNet_8_32 (official weights)": "ResNet_8_32",
    DPED: "DPED",
    "PPCN teacher (official weights)": "PPCN teacher",
    PPCN: "PPCN student",
    "PPCN student w/o KD (official weights)": "PPCN student w/o distillation",
}
"""Method -> row of data/published/prad_ppcn.csv."""
WITHIN = {"psnr": 0.05, "ms_ssim_dped": 0.002}
"""The port is uniformly 0.02 dB and 0.001 above the authors' README: decoders differ."""


def files(path: str) -> dict[str, tuple[str, Path]]:
    """The official networks in a file or folder, by what their names say.

    Args:
        path: A file, or a folder (and the folders in it); npz files and TensorFlow bundles.

    Returns:
        Method -> (model, file).

    Raises:
        ParameterError: If the path does not exist or holds none of them.

    Example:
        >>> files("/nowhere")
        Traceback (most recent call last):
        enhancelib.papers.parameters.ParameterError: weights '/nowhere' does not exist; give a ...
    """
    base = Path(path).expanduser()
    if not base.exists():
        raise ParameterError(
            f"weights {path!r} does not exist; give a file or folder of the networks released in "
            "aiff22/DPED, aiff22/ai-challenge or Zheng222/PPCN (data/README.md)"
        )
    listed = [base] if base.is_file() else sorted(f for f in base.rglob("*") if f.is_file())
    found: dict[str, tuple[str, Path]] = {}
    for file in sorted(listed, key=lambda f: f.suffix != ".npz"):
        if file.suffix not in (".npz", ".index", ".safetensors"):
            continue
        for stem, (method, model) in _STEMS.items():
            if stem in file.stem.lower():
                found.setdefault(method, (model, file))
                break
    if not found:
        raise ParameterError(
            f"weights {path!r} holds no file named like a released network "
            f"({', '.join(_STEMS)}; .npz or TensorFlow .index)"
        )
    return {method: found[method] for method, _ in _STEMS.values() if method in found}


def check(p: Parameters) -> None:
    """See that pairs and official networks are there, before any work starts.

    Args:
        p: Checked parameters.

    Raises:
        ParameterError: As `data.check`, or if `weights` leads to no official network, or all
            weights of losses are 0.
        DataError: As `data.check`.

    Example:
        >>> check(Parameters(weights="/nowhere"))
        Traceback (most recent call last):
        enhancelib.papers.parameters.ParameterError: weights '/nowhere' does not exist; give a ...
        >>> check(Parameters(data_root="/nowhere"))
        Traceback (most recent call last):
        enhancelib.datasets.DataError: data_root '/nowhere' is no folder. Expected: ...
    """
    if not any(p.weights_of_terms().values()):
        raise ParameterError("all weights of losses are 0; give at least one of w_content, ...")
    if p.weights:
        files(p.weights)
    data.check(p)


def inputs(p: Parameters) -> dict[str, object]:
    """What of the user's disk a run reads, official networks included.

    Args:
        p: The parameters.

    Returns:
        For `Run.notes`; see `data.inputs`.
    """
    found = data.inputs(p)
    read = dict(found["inputs"])  # type: ignore[call-overload]
    for method, (_, file) in (files(p.weights) if p.weights else {}).items():
        read[method] = runtime.digest(file)
    return {**found, "inputs": read}


def networks(p: Parameters) -> dict[str, nn.Module]:
    """The official networks at hand.

    Args:
        p: `weights` says where they are.

    Returns:
        Method -> network; none where `weights` is empty.
    """
    if not p.weights:
        return {}
    found = files(p.weights)
    return {method: weights.load(model, file) for method, (model, file) in found.items()}


def parity(p: Parameters, run: Run) -> list[dict[str, Any]]:
    """Scores of the official networks on the 400 PIRM pairs beside what PPCN's authors print.

    Args:
        p: With data_root (the PIRM subset) and weights.
        run: Keeps scores already computed: DPED takes most of a minute.

    Returns:
        Arguments of `Run.agree`; none where data or weights are not at hand, or at profile smoke.
    """
    pairs = data.pirm(p)
    if not p.weights or pairs is None or p.profile == "smoke":
        return []
    frame = published.rows("prad", table="ppcn")
    rows = []
    for method, network in networks(p).items():
        theirs = frame[frame["row"] == _ROWS.get(method, "")]
        if theirs.empty:
            continue
        ours = run.once(f"parity {method}", partial(_scores, network, pairs))
        for metric, within in WITHIN.items():
            name = "ms_ssim" if metric == "ms_ssim_dped" else metric
            value = theirs[theirs["metric"].isin([metric, name])]["value"]
            if len(value):
                rows.append(
                    {
                        "name": f"{method}, 400 PIRM pairs, {metrics.METRICS[metric].protocol}",
                        "ours": ours[metric],
                        "published": float(value.iloc[0]),
                        "within": within,
                        "by": "official weights",
                    }
                )
    return rows


def _scores(network: nn.Module, pairs: data.Pairs) -> dict[str, float]:
    restored = apply(network, pairs.degraded)
    found = {}
    for name, x in (("psnr", images.clip(restored)), ("ms_ssim_dped", restored)):
        metric = metrics.METRICS[name]
        pieces = zip(torch.split(x, 50), torch.split(pairs.clean, 50), strict=True)
        with torch.inference_mode():
            found[name] = metric.summary(torch.cat([metric(a, b) for a, b in pieces]))
    return found
