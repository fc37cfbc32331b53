"""PCA-KD from its released VGG variant, as converted to one .npz.

Known layouts: `encB_j.weight`, `decB_j.bias`, ... with block B and convolution j in order of use,
kernels (out, in, height, width), and our own state dicts. The `eigenB` beside them, the PCA bases
by which the encoder was distilled, are no part of the network.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from enhancelib.weights import scopes

_PLACES = {
    "enc": ("encoder", ((0, 1), (0, 3), (0, 3), (0, 2, 4, 7))),
    "dec": ("decoder", ((0,), (0, 3), (0, 3), (0, 3, 5, 7))),
}


def convert(tensors: Mapping[str, Tensor]) -> tuple[dict[str, object], dict[str, Tensor]]:
    """Give every convolution its place in the network.

    Args:
        tensors: The tensors of one file, under the file's names.

    Returns:
        (no options, the state dict for `build("pcakd")`); a name that is not known stays as it is,
        so that `weights.load` refuses it by name.

    Example:
        >>> import torch
        >>> list(convert({"enc3_1.bias": torch.zeros(58), "eigen3": torch.zeros(512, 64)})[1])
        ['encoder.3.2.bias']
    """
    if (own := scopes.own(tensors, "encoder.0.0.weight")) is not None:
        return {}, own
    names = {
        f"{short}{block}_{number}.{field}": f"{part}.{block}.{place}.{field}"
        for short, (part, blocks) in _PLACES.items()
        for block, places in enumerate(blocks)
        for number, place in enumerate(places)
        for field in ("weight", "bias")
    }
    kept = {key: value for key, value in tensors.items() if not key.startswith("eigen")}
    return {}, {names.get(key, key): value for key, value in kept.items()}
