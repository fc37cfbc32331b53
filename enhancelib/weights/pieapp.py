"""PieAPP from the released PieAPPv0.1.pth, which the user brings: 273 MB, non-commercial licence.

Known layouts: the released state dict, whose `ref_score_subtract.weight` is one value instead of a
1 x 1 matrix, and our own. The environment variable ENHANCELIB_PIEAPP names the file for tests and
for whoever asks `file`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from enhancelib.weights import scopes

VARIABLE = "ENHANCELIB_PIEAPP"
_ODD = "ref_score_subtract.weight"


def convert(tensors: Mapping[str, Tensor]) -> tuple[dict[str, object], dict[str, Tensor]]:
    """Give the one value that is stored as a vector its matrix.

    Args:
        tensors: The tensors of one file, under the file's names.

    Returns:
        (no options, the state dict for `build("pieapp")`); what belongs to another network stays
        as it is, so that `weights.load` refuses it by name.

    Example:
        >>> import torch
        >>> convert({"ref_score_subtract.weight": torch.ones(1)})[1]
        {'ref_score_subtract.weight': tensor([[1.]])}
    """
    state = scopes.own(tensors, _ODD) or dict(tensors)
    if _ODD in state and state[_ODD].shape == (1,):
        state[_ODD] = state[_ODD][:, None]
    return {}, state


def file() -> Path | None:
    """The file that ENHANCELIB_PIEAPP names.

    Returns:
        A path, whether or not a file is there; None where the variable is not set or empty.

    Example:
        >>> from unittest.mock import patch
        >>> with patch.dict(os.environ, ENHANCELIB_PIEAPP="/nowhere/PieAPPv0.1.pth"):
        ...     file()
        PosixPath('/nowhere/PieAPPv0.1.pth')
    """
    given = os.environ.get(VARIABLE)
    return Path(given) if given else None
