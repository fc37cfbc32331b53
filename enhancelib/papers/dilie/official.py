"""The released networks that DILIE's tables compare with, found by what their files are called."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.nn import functional

from enhancelib import images, metrics, weights
from enhancelib.papers.dilie import baselines, data, verdict
from enhancelib.papers.dilie.settings import Parameters
from enhancelib.papers.parameters import ParameterError
from enhancelib.results import Run

STEMS: Mapping[str, str] = {
    "pcakd_vgg": "pcakd",
    "wave_encoder": "wct2.encoder",
    "wave_decoder": "wct2.decoder",
    "aodnet": "aodnet",
    "aod_net": "aodnet",
    "mscnn": "mscnn",
    "pieapp": "pieapp",
}
"""How a file's name begins, in small letters -> what it holds."""


def files(path: str) -> dict[str, Path]:
    """The released networks in a file or folder.

    Args:
        path: A file, or a folder (and the folders in it); "" gives none.

    Returns:
        What it holds ("pcakd", "aodnet", "mscnn", "wct2.encoder", ...) -> file; the first counts.

    Raises:
        ParameterError: If the path does not exist or holds none of them.

    Example:
        >>> files("")
        {}
        >>> files("/nowhere")
        Traceback (most recent call last):
        enhancelib.papers.parameters.ParameterError: weights: /nowhere does not exist; ...
    """
    if not path:
        return {}
    base = Path(path).expanduser()
    if not base.exists():
        raise ParameterError(f"weights: {path} does not exist; give a file, a folder, or nothing")
    found: dict[str, Path] = {}
    for file in [base] if base.is_file() else sorted(f for f in base.rglob("*") if f.is_file()):
        for stem, name in STEMS.items():
            if file.name.lower().startswith(stem) and file.suffix != ".mat":
                found.setdefault(name, file)
    if not found:
        known = ", ".join(dict.fromkeys(STEMS.values()))
        raise ParameterError(f"weights: {path} holds none of {known}")
    return found


def inputs(p: Parameters) -> dict[str, Any]:
    """The files of official weights with their digests, for the notes of a run.

    Args:
        p: The parameters.

    Returns:
        {"weights": {name: {"file": ..., "sha256": ...}}}; nothing without weights.
    """
    found = files(p.weights)
    listed = {name: {"file": f.name, "sha256": weights.sha256(f)} for name, f in found.items()}
    return {"weights": listed} if listed else {}


def parity(run: Run, p: Parameters) -> None:
    """Compare PCA-KD, under its official weights, with the authors' own result pictures.

    Args:
        run: Keeps the PSNRs; a claim judges them.
        p: With weights, and data_root holding pcakd/; else a sentence is printed.
    """
    file, listed = files(p.weights).get("pcakd"), data.restyled(p.data_root)
    if file is None or not listed:
        print("PCA-KD's parity needs its weights, and the authors' pictures in data_root/pcakd")
        return
    for k, pictures in enumerate(listed):
        content, style, theirs = map(images.read, pictures)
        found = run.once(f"pcakd parity {k}", partial(_compared, content, style, file, theirs))
        run.record(
            dataset="the authors' pictures", method=verdict.PCAKD, metric="psnr", value=found,
            image=str(k), table="parity",
        )  # fmt: skip


def _compared(content: Tensor, style: Tensor, file: Path, theirs: Tensor) -> float:
    made = baselines.pcakd(_eighths(content), _eighths(style), file).E
    return float(metrics.METRICS["psnr"](made[None], theirs[None])[0])


def _eighths(picture: Tensor) -> Tensor:
    """As the authors' demo: bilinear to sides that are multiples of 8."""
    size = [side // 8 * 8 for side in picture.shape[1:]]
    return functional.interpolate(picture[None], size, mode="bilinear", align_corners=False)[0]
