"""MSCNN from its released weights: two .mat files, coarse and fine, or the .npz made of them.

`weights.load("mscnn", {"coarse": "MSCNNDehazing_CL.mat", "fine": "MSCNNDehazing_FL.mat"})`. In the
.npz the convolutions of each part are conv1, conv2, conv3 and comb, as in our own state dicts; in
the .mat files they count from 0, and pooling and the like stand between them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from enhancelib.weights import scopes

_COUNTED = re.compile(r"(coarse|fine)\.conv([012])\.")
_BETWEEN = re.compile(r"(coarse|fine)\.(pool|upsmpl|normalize)\d+")


def convert(tensors: Mapping[str, Tensor]) -> tuple[dict[str, object], dict[str, Tensor]]:
    """Give every convolution its place in the network.

    Args:
        tensors: The tensors of one file or of the two parts, under the files' names.

    Returns:
        (no options: the released weights want `joined=False`, the default; the state dict for
        `build("mscnn")`); a name that is not known stays as it is, so that `weights.load` refuses
        it by name.

    Example:
        >>> import torch
        >>> convert({"fine.conv0.bias": torch.zeros(6), "fine.pool2": torch.zeros(0)})[1].keys()
        dict_keys(['fine.conv1.bias'])
    """
    if not any(".conv0." in key for key in tensors):
        own = scopes.own(tensors, "coarse.conv1.weight")
        return {}, dict(tensors) if own is None else own
    layers = {key: value for key, value in tensors.items() if not _BETWEEN.fullmatch(key)}
    return {}, {_renamed(key): value for key, value in layers.items()}


def _renamed(key: str) -> str:
    return _COUNTED.sub(lambda found: f"{found[1]}.conv{int(found[2]) + 1}.", key)
