"""Which DnCNN a file holds, told from the names and shapes of its tensors.

Known layouts: `conv{i}.*` with `bn{i}.*` (ours of the MatConvNet releases) and `<prefix>{k}.*` with
k the position in one `nn.Sequential` (KAIR, SaoYan, cszn's port, our own state dicts).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from enhancelib.models.dncnn import EPSILON
from enhancelib.weights.formats import WeightsError

_KEY = re.compile(r"(?P<prefix>.*?)(?P<kind>conv|bn|)(?P<index>\d+)\.(?P<field>[a-z_]+)")
_CONV = ("weight", "bias")
_NORM = ("weight", "bias", "mean", "std", "running_mean", "running_var", "num_batches_tracked")


@dataclass
class _Layer:
    """One convolution and the batch normalisation after it, under the names of the file."""

    stem: str
    conv: dict[str, Tensor]
    norm_stem: str = ""
    norm: dict[str, Tensor] = field(default_factory=dict)


def convert(tensors: Mapping[str, Tensor]) -> tuple[dict[str, object], dict[str, Tensor]]:
    """Recognise depth, channels, width, batch normalisation and noise-map input.

    A network that reads one channel more than it writes has a noise map and is direct (FDnCNN);
    every other one is taken to predict the residual.

    Args:
        tensors: The tensors of one file, under the file's names.

    Returns:
        (options for `build("dncnn", ...)`, its state dict). A bias that the file lacks is 0, one in
        front of a batch normalisation moves into the running mean.

    Raises:
        WeightsError: If a key or shape does not belong to a DnCNN; the message names the first.

    Example:
        >>> options, state = convert({f"conv{i}.weight": torch.ones(1, 1, 3, 3) for i in range(3)})
        >>> options["D"], options["residual"], len(state)
        (3, True, 6)
        >>> convert({"fc.weight": torch.zeros(10, 10)})
        Traceback (most recent call last):
        enhancelib.weights.formats.WeightsError: unexpected key 'fc.weight'; a DnCNN has ...
    """
    layers = _layers(tensors)
    options = _options(layers)
    state: dict[str, Tensor] = {}
    position = 0
    for layer in layers:
        state |= {f"layers.{position}.{k}": v for k, v in _conv_state(layer).items()}
        if layer.norm:
            state |= {f"layers.{position + 1}.{k}": v for k, v in _norm_state(layer).items()}
        position += 3 if layer.norm else 2
    return options, state


def _layers(tensors: Mapping[str, Tensor]) -> list[_Layer]:
    groups: dict[tuple[int, bool], tuple[str, dict[str, Tensor]]] = {}
    prefix = None
    for key, tensor in tensors.items():
        match = _KEY.fullmatch(key)
        if match is None or prefix not in (None, match["prefix"]):
            raise WeightsError(
                f"unexpected key {key!r}; a DnCNN has numbered convolutions and normalisations only"
            )
        prefix, stem = match["prefix"], key.rpartition(".")[0]
        weight = tensors.get(f"{stem}.weight")
        normalises = match["kind"] == "bn" or (
            not match["kind"] and weight is not None and weight.ndim == 1
        )
        if match["field"] not in (_NORM if normalises else _CONV):
            raise WeightsError(f"unexpected key {key!r}; a DnCNN has no such property")
        index = (int(match["index"]), normalises)
        groups.setdefault(index, (stem, {}))[1][match["field"]] = tensor
    return _paired(groups)


def _paired(groups: Mapping[tuple[int, bool], tuple[str, dict[str, Tensor]]]) -> list[_Layer]:
    layers: list[_Layer] = []
    for (_, normalises), (stem, fields) in sorted(groups.items(), key=lambda group: group[0]):
        if not normalises:
            layers.append(_Layer(stem, fields))
        elif not layers or layers[-1].norm:
            raise WeightsError(f"unexpected key '{stem}.weight'; no convolution stands before it")
        else:
            layers[-1].norm_stem, layers[-1].norm = stem, fields
    if len(layers) < 3:
        raise WeightsError(f"holds {len(layers)} convolutions; a DnCNN has at least 3")
    return layers


def _options(layers: list[_Layer]) -> dict[str, object]:
    first, *middle, last = (_weight(layer) for layer in layers)
    (width, incoming), c = first.shape[:2], last.shape[0]
    _expect(layers[0], first, (width, incoming, 3, 3))
    for layer, weight in zip(layers[1:-1], middle, strict=True):
        _expect(layer, weight, (width, width, 3, 3))
    _expect(layers[-1], last, (c, width, 3, 3))
    if incoming not in (c, c + 1):
        raise WeightsError(
            f"{layers[0].stem}.weight reads {incoming} channels where {layers[-1].stem}.weight "
            f"writes {c}; expected {c}, or {c + 1} with a noise map"
        )
    batch = bool(layers[1].norm)
    for number, layer in enumerate(layers):
        if bool(layer.norm) != (batch and 0 < number < len(layers) - 1):
            found = "a" if layer.norm else "no"
            raise WeightsError(
                f"{layer.stem} has {found} batch normalisation; a DnCNN has one after every "
                "convolution but the first and the last, or none at all"
            )
    return {
        "D": len(layers),
        "c": c,
        "width": width,
        "norm": "batch" if batch else "none",
        "noise_map": incoming == c + 1,
        "residual": incoming == c,
    }


def _weight(layer: _Layer) -> Tensor:
    weight = layer.conv.get("weight")
    if weight is None:
        raise WeightsError(f"key '{layer.stem}.weight' is missing")
    if weight.ndim != 4:
        raise WeightsError(
            f"{layer.stem}.weight has shape {tuple(weight.shape)}; expected (out, in, 3, 3)"
        )
    return weight


def _expect(layer: _Layer, weight: Tensor, shape: tuple[int, ...]) -> None:
    if tuple(weight.shape) != shape:
        raise WeightsError(f"{layer.stem}.weight has shape {tuple(weight.shape)}; expected {shape}")
    bias = layer.conv.get("bias")
    if bias is not None and tuple(bias.shape) != shape[:1]:
        raise WeightsError(f"{layer.stem}.bias has shape {tuple(bias.shape)}; expected {shape[:1]}")


def _conv_state(layer: _Layer) -> dict[str, Tensor]:
    weight = layer.conv["weight"]
    if layer.norm:
        return {"weight": weight}
    return {"weight": weight, "bias": layer.conv.get("bias", weight.new_zeros(len(weight)))}


def _norm_state(layer: _Layer) -> dict[str, Tensor]:
    """BN(w * x + b) is BN(w * x) with b taken off the running mean."""
    found, length = layer.norm, len(layer.conv["weight"])
    rooted = "std" in found  # MatConvNet stores sqrt(variance + epsilon)
    names = ("weight", "bias", "mean", "std") if rooted else _NORM[:2] + _NORM[4:6]
    for name in names:
        if name not in found:
            raise WeightsError(f"key '{layer.norm_stem}.{name}' is missing")
        if tuple(found[name].shape) != (length,):
            raise WeightsError(
                f"{layer.norm_stem}.{name} has shape {tuple(found[name].shape)}; "
                f"expected ({length},)"
            )
    weight, bias, mean, spread = (found[name] for name in names)
    if "bias" in layer.conv:
        mean = mean - layer.conv["bias"]
    variance = (spread.double().square() - EPSILON).to(torch.float32) if rooted else spread
    return {"weight": weight, "bias": bias, "running_mean": mean, "running_var": variance}
