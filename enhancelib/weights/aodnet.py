"""AOD-Net from its released weights: the caffemodel, and the .npz made of it.

Known layouts: `conv1.weight`, ... in both, and our own state dicts, which have the same names.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from enhancelib.weights import scopes


def convert(tensors: Mapping[str, Tensor]) -> tuple[dict[str, object], dict[str, Tensor]]:
    """Take the five convolutions.

    Args:
        tensors: The tensors of one file, under the file's names.

    Returns:
        (no options, the state dict for `build("aodnet")`); a name that is not known stays as it is,
        so that `weights.load` refuses it by name.

    Example:
        >>> import torch
        >>> convert({"conv1.bias": torch.zeros(3)})[1]
        {'conv1.bias': tensor([0., 0., 0.])}
    """
    own = scopes.own(tensors, "conv1.weight")
    return {}, dict(tensors) if own is None else own
