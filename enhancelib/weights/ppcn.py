"""Which PPCN a file holds, student or teacher, told from the names and shapes in it.

Known layouts: the authors' TensorFlow variables (`scopes`) under whatever scope, and our own state
dicts.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from enhancelib.models.ppcn import LAYERS
from enhancelib.weights import scopes
from enhancelib.weights.formats import WeightsError

_KINDS = {len(layers): kind for kind, layers in LAYERS.items()}


def convert(tensors: Mapping[str, Tensor]) -> tuple[dict[str, object], dict[str, Tensor]]:
    """Recognise student or teacher by the number of convolutions.

    Args:
        tensors: The tensors of one file, under the file's names.

    Returns:
        (options for `build("ppcn", ...)`, its state dict).

    Raises:
        WeightsError: If a key or shape does not belong to a PPCN; the message names the first.

    Example:
        >>> from enhancelib import models
        >>> convert(models.build("ppcn", kind="teacher").state_dict())[0]
        {'kind': 'teacher'}
        >>> import torch
        >>> convert({"W0": torch.zeros(1, 7, 3, 8), "b0": torch.zeros(8)})
        Traceback (most recent call last):
        enhancelib.weights.formats.WeightsError: holds 1 numbered convolutions; a PPCN has 5 ...
    """
    if (own := scopes.own(tensors, "convs.0.weight")) is not None:
        count = sum(".weight" in key and key.startswith("convs.") for key in own)
        return {"kind": _kind(count)}, own
    graph = scopes.graph(tensors, "a PPCN")
    kind = _kind(len(graph.layers))
    for layer, (incoming, outgoing, kernel, _, _) in zip(graph.layers, LAYERS[kind], strict=True):
        scopes.check(layer, (*kernel, incoming, outgoing))
    normalised = [layer for layer, row in zip(graph.layers, LAYERS[kind], strict=True) if row[-1]]
    state: dict[str, Tensor] = {}
    for number, layer in enumerate(graph.layers):
        state |= {f"convs.{number}.weight": layer.weight, f"convs.{number}.bias": layer.bias}
    for number, (scale, shift) in enumerate(scopes.normalisations(graph.unnamed, normalised)):
        state |= {f"norms.{number}.weight": scale, f"norms.{number}.bias": shift}
    return {"kind": kind}, state


def _kind(convolutions: int) -> str:
    if convolutions not in _KINDS:
        raise WeightsError(
            f"holds {convolutions} numbered convolutions; a PPCN has 5 (student) or 8 (teacher)"
        )
    return _KINDS[convolutions]
