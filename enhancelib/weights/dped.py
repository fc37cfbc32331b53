"""Which DPED generator, or PIRM's SRCNN, a file holds, told from the names and shapes in it.

Known layouts: the authors' TensorFlow variables (`scopes`), and our own state dicts.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from enhancelib.weights import scopes
from enhancelib.weights.formats import WeightsError

_KERNELS = ((9, 9, 3, 64), (5, 5, 64, 32), (5, 5, 32, 3))  # of SRCNN


def convert(tensors: Mapping[str, Tensor]) -> tuple[dict[str, object], dict[str, Tensor]]:
    """Recognise blocks and width of a DPED generator.

    n convolutions are (n - 4) / 2 blocks; every convolution of a block has an instance
    normalisation, shift before scale.

    Args:
        tensors: The tensors of one file, under the file's names.

    Returns:
        (options for `build("dped", ...)`, its state dict).

    Raises:
        WeightsError: If a key or shape does not belong to a DPED generator; the message names the
            first.

    Example:
        >>> from enhancelib import models
        >>> convert(models.build("dped", blocks=2, width=8).state_dict())[0]
        {'blocks': 2, 'width': 8, 'norm': 'instance'}
        >>> import torch
        >>> convert({"W1": torch.zeros(9, 9, 3, 64), "b1": torch.zeros(64)})
        Traceback (most recent call last):
        enhancelib.weights.formats.WeightsError: holds 1 numbered convolutions; a DPED generator ...
    """
    if (own := scopes.own(tensors, "head.0.weight")) is not None:
        return _own_options(own), own
    graph = scopes.graph(tensors, "a DPED generator")
    layers, count = graph.layers, len(graph.layers)
    if count < 6 or count % 2:
        raise WeightsError(
            f"holds {count} numbered convolutions; a DPED generator has 2 for each block and 4 more"
        )
    width = layers[0].kernel.shape[-1]
    for number, layer in enumerate(layers):
        size = 9 if number in (0, count - 1) else 3
        channels = (3 if number == 0 else width, 3 if number == count - 1 else width)
        scopes.check(layer, (size, size, *channels))
    norms = scopes.normalisations(graph.unnamed, layers[1:-3])
    state: dict[str, Tensor] = {}
    for place, layer in zip(_places(count), layers, strict=True):
        state |= {f"{place}.weight": layer.weight, f"{place}.bias": layer.bias}
    for number, (scale, shift) in enumerate(norms):
        place = f"blocks.{number // 2}.{1 + 3 * (number % 2)}"
        state |= {f"{place}.weight": scale, f"{place}.bias": shift}
    return {"blocks": count // 2 - 2, "width": width, "norm": "instance"}, state


def convert_srcnn(tensors: Mapping[str, Tensor]) -> tuple[dict[str, object], dict[str, Tensor]]:
    """Recognise the challenge's SRCNN, whose last bias is one number.

    Args:
        tensors: The tensors of one file, under the file's names.

    Returns:
        (no options, the state dict for `build("srcnn")`).

    Raises:
        WeightsError: If a key or shape does not belong to it; the message names the first.

    Example:
        >>> from enhancelib import models
        >>> len(convert_srcnn(models.build("srcnn").state_dict())[1])
        6
        >>> import torch
        >>> convert_srcnn({"w1": torch.zeros(9, 9, 3, 64), "b1": torch.zeros(64)})
        Traceback (most recent call last):
        enhancelib.weights.formats.WeightsError: holds 1 numbered convolutions; SRCNN has 3
    """
    if (own := scopes.own(tensors, "layers.0.weight")) is not None:
        return {}, own
    graph = scopes.graph(tensors, "SRCNN")
    if len(graph.layers) != len(_KERNELS):
        raise WeightsError(f"holds {len(graph.layers)} numbered convolutions; SRCNN has 3")
    scopes.normalisations(graph.unnamed, [])
    state: dict[str, Tensor] = {}
    for number, (layer, kernel) in enumerate(zip(graph.layers, _KERNELS, strict=True)):
        last = number == len(_KERNELS) - 1
        bias = layer.bias.reshape(-1) if last else layer.bias
        if last and len(bias) != 1:
            raise WeightsError(f"the last bias has {len(bias)} values; that of SRCNN is one")
        scopes.check(scopes.Layer(layer.name, layer.kernel, bias.expand(kernel[-1])), kernel)
        state[f"layers.{2 * number}.weight"] = layer.weight
        state["bias" if last else f"layers.{2 * number}.bias"] = bias
    return {}, state


def _places(count: int) -> list[str]:
    """Where each convolution stands in the network, in order of use."""
    blocks = [f"blocks.{block}.{place}" for block in range(count // 2 - 2) for place in (0, 3)]
    return ["head.0", *blocks, "tail.0", "tail.2", "last"]


def _own_options(state: Mapping[str, Tensor]) -> dict[str, object]:
    blocks = {key.split(".")[1] for key in state if key.startswith("blocks.")}
    norm = "none"
    if "blocks.0.1.weight" in state:
        norm = "batch" if "blocks.0.1.running_mean" in state else "instance"
    return {"blocks": len(blocks), "width": state["head.0.weight"].shape[0], "norm": norm}
