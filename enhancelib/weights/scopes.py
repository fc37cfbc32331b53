"""The variables of a TensorFlow graph as the layers of one network.

DPED and the code that grew from it name kernels `W3` and biases `b3` under a scope such as
`generator/`, and give no names to instance normalisations: they are `Variable`, `Variable_1`, ...
in the order of creation, shift before scale. Kernels are (height, width, in, out).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from enhancelib.weights.formats import WeightsError

_LAYER = re.compile(r"(?P<field>[Wwb])(?P<number>\d+)")
_UNNAMED = re.compile(r"Variable(?:_(?P<number>\d+))?")
_SUFFIX = re.compile(r"(:0)?(\.\.ATTRIBUTES\.VARIABLE_VALUE)?$")
# what a training checkpoint holds beside the network: optimisers' slots and counters, the judge
_LEAVES = re.compile(
    r"(Adam|RMSProp|Momentum|Adagrad|Adadelta|Ftrl|ExponentialMovingAverage|beta[12]_power"
    r"|global_step|save_counter|learning_rate|iter)(_\d+)?"
)
_OTHERS = re.compile(r"(discriminator|learning_rate|optimizer|vgg)(_\d+)?")


@dataclass(frozen=True)
class Layer:
    """A convolution under the names of the file.

    Args:
        name: The kernel's key.
        kernel: (height, width, in, out).
        bias: (out,), or (1,) or () where one number serves all.
    """

    name: str
    kernel: Tensor
    bias: Tensor

    @property
    def weight(self) -> Tensor:
        """The kernel in torch's layout.

        Returns:
            (out, in, height, width).
        """
        return self.kernel.permute(3, 2, 0, 1).contiguous()


@dataclass(frozen=True)
class Graph:
    """One network of a file.

    Args:
        layers: Its convolutions, in the order of their numbers.
        unnamed: (key, variable) of what has no name, in the order of creation.
    """

    layers: Sequence[Layer]
    unnamed: Sequence[tuple[str, Tensor]]


def graph(tensors: Mapping[str, Tensor], what: str) -> Graph:
    """Sort the variables of one file into convolutions and unnamed variables.

    Scopes may end in "/" or ".", names in ":0". Optimiser slots, counters and a discriminator are
    left out.

    Args:
        tensors: The tensors of the file, under its names.
        what: The network for error messages, such as "a DPED generator".

    Returns:
        The only network that the file holds.

    Raises:
        WeightsError: If the file holds none or several, a variable that belongs to none, or a
            convolution without kernel or bias; the message names the first key.

    Example:
        >>> import torch
        >>> one = {"g/W1:0": torch.zeros(3, 3, 1, 8), "g/b1:0": torch.zeros(8)}
        >>> graph(one, "a network").layers[0].weight.shape
        torch.Size([8, 1, 3, 3])
        >>> graph({"fc/kernel": torch.zeros(2, 2)}, "a network")
        Traceback (most recent call last):
        enhancelib.weights.formats.WeightsError: unexpected key 'fc/kernel'; a network has only ...
    """
    found: dict[str, dict[str, str]] = {}
    for key in tensors:
        scope, _, leaf = _plain(key).rpartition(".")
        if not _LEAVES.fullmatch(leaf) and not _OTHERS.fullmatch(scope.partition(".")[0]):
            if not _LAYER.fullmatch(leaf) and not _UNNAMED.fullmatch(leaf):
                raise WeightsError(
                    f"unexpected key {key!r}; {what} has only numbered kernels and biases "
                    "(W1, b1, ...) and Variable, Variable_1, ..."
                )
            if leaf in found.setdefault(scope, {}):
                raise WeightsError(f"{found[scope][leaf]!r} and {key!r} are the same variable")
            found[scope][leaf] = key
    if len(found) != 1:
        scopes = " and ".join(repr(scope) for scope in sorted(found)) or "no scope"
        raise WeightsError(f"holds networks under {scopes}; expected one, {what}")
    (keys,) = found.values()
    return Graph(list(_layers(tensors, keys)), _unnamed(tensors, keys))


def own(tensors: Mapping[str, Tensor], first: str) -> dict[str, Tensor] | None:
    """Our own state dict, without the prefix that a training checkpoint may have put before it.

    Args:
        tensors: The tensors of the file, under its names.
        first: The key by which the state dict is known.

    Returns:
        The state dict, or None where no key ends like that.

    Example:
        >>> import torch
        >>> list(own({"module.head.0.weight": torch.zeros(1)}, "head.0.weight") or {})
        ['head.0.weight']
    """
    prefixes = [key.removesuffix(first) for key in tensors if key.endswith(first)]
    if not prefixes:
        return None
    return {key.removeprefix(prefixes[0]): value for key, value in tensors.items()}


def normalisations(
    unnamed: Sequence[tuple[str, Tensor]], layers: Sequence[Layer]
) -> list[tuple[Tensor, Tensor]]:
    """Scale and shift of the instance normalisation after each of some convolutions.

    Args:
        unnamed: `Graph.unnamed`.
        layers: The convolutions that are normalised, in order of use.

    Returns:
        (scale, shift) for each of them.

    Raises:
        WeightsError: If there are more or fewer variables, or one has another length than its
            convolution has outputs.

    Example:
        >>> normalisations([], [])
        []
        >>> import torch
        >>> normalisations([("g/Variable", torch.zeros(8))], [])
        Traceback (most recent call last):
        enhancelib.weights.formats.WeightsError: unexpected key 'g/Variable'; 1 unnamed ...
    """
    wanted = 2 * len(layers)
    if len(unnamed) != wanted:
        raise WeightsError(
            f"{_misfit([key for key, _ in unnamed], wanted)}; {len(unnamed)} unnamed variables, "
            f"expected {wanted}: shift and scale of {len(layers)} normalisations"
        )
    for number, (key, value) in enumerate(unnamed):
        outputs = layers[number // 2].kernel.shape[-1]
        if tuple(value.shape) != (outputs,):
            raise WeightsError(
                f"{key!r} has shape {tuple(value.shape)}; expected ({outputs},), "
                f"as many as {layers[number // 2].name!r} has outputs"
            )
    return [(unnamed[2 * i + 1][1], unnamed[2 * i][1]) for i in range(len(layers))]


def check(layer: Layer, kernel: tuple[int, ...]) -> None:
    """Refuse a convolution of another shape.

    Args:
        layer: The convolution.
        kernel: What is expected: (height, width, in, out).

    Raises:
        WeightsError: If kernel or bias differ.

    Example:
        >>> import torch
        >>> check(Layer("W1", torch.zeros(3, 3, 1, 8), torch.zeros(8)), (9, 9, 1, 8))
        Traceback (most recent call last):
        enhancelib.weights.formats.WeightsError: 'W1' has shape (3, 3, 1, 8); expected (9, 9, 1, 8)
    """
    if tuple(layer.kernel.shape) != kernel:
        raise WeightsError(
            f"{layer.name!r} has shape {tuple(layer.kernel.shape)}; expected {kernel}"
        )
    if tuple(layer.bias.shape) != kernel[-1:]:
        raise WeightsError(
            f"the bias of {layer.name!r} has shape {tuple(layer.bias.shape)}; "
            f"expected {kernel[-1:]}"
        )


def _misfit(keys: Sequence[str], wanted: int) -> str:
    if len(keys) > wanted:
        return f"unexpected key {keys[wanted]!r}"
    leaves = {_plain(key).rpartition(".")[2] for key in keys}
    names = ("Variable", *(f"Variable_{number}" for number in range(1, wanted)))
    return f"key {next(name for name in names if name not in leaves)!r} is missing"


def _plain(key: str) -> str:
    return _SUFFIX.sub("", key.replace("/", "."))


def _layers(tensors: Mapping[str, Tensor], keys: Mapping[str, str]) -> Iterator[Layer]:
    """Every number from the lowest to the highest, each with kernel and bias."""
    parts: dict[int, dict[str, str]] = {}
    for leaf, key in keys.items():
        if match := _LAYER.fullmatch(leaf):
            parts.setdefault(int(match["number"]), {})[match["field"].upper()] = key
    for number in range(min(parts, default=0), max(parts, default=-1) + 1):
        pair = parts.get(number, {})
        for field in "WB":
            if field not in pair:
                name = "W" if field == "W" else "b"
                raise WeightsError(f"key '{name}{number}' is missing")
        kernel = tensors[pair["W"]]
        if kernel.ndim != 4:
            raise WeightsError(
                f"{pair['W']!r} has shape {tuple(kernel.shape)}; expected (height, width, in, out)"
            )
        yield Layer(pair["W"], kernel, tensors[pair["B"]])


def _unnamed(tensors: Mapping[str, Tensor], keys: Mapping[str, str]) -> list[tuple[str, Tensor]]:
    numbered = []
    for leaf, key in keys.items():
        if match := _UNNAMED.fullmatch(leaf):
            numbered.append((int(match["number"] or 0), key))
    return [(key, tensors[key]) for _, key in sorted(numbered)]
