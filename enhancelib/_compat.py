"""Let torchvision import beside a CPU-only torch.

The only torchvision wheel on the package index is built for CUDA. Beside a CPU torch its native
libraries do not load, and `import torchvision` then dies because two operators that it decorates
were never defined. We try the native library first, so a CUDA torch or a true CPU build is left
alone, and declare the two schemas only when it does not load.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_library: torch.library.Library | None = None  # must outlive the definitions it made


def install() -> bool:
    """Define torchvision's missing operator schemas where its native library cannot load.

    Returns:
        True when the schemas were defined here, False when nothing had to be done.

    Example:
        >>> install()  # the package already did it on import
        False
    """
    global _library
    spec = importlib.util.find_spec("torchvision")
    if _library is not None or spec is None or spec.origin is None:
        return False
    natives = sorted(Path(spec.origin).parent.glob("_C*.so"))
    if not natives or _loads(natives[0]):
        return False
    _library = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    for schema in _SCHEMAS:
        _library.define(schema)  # type: ignore[no-untyped-call]
    return True


def _loads(native: Path) -> bool:
    try:
        torch.ops.load_library(str(native))  # type: ignore[no-untyped-call]
    except OSError:
        return False
    return True
