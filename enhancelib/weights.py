"""Where parameters come from: our own files, and the formats that authors released.

`load` reads safetensors with the options in their metadata, and foreign files through a reader for
the format and a converter for the model, which recognises the variant from the tensors themselves.
Nothing here runs code from a file: no pickle but torch's `weights_only`, no object arrays.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from enhancelib import models

Arrays = dict[str, Tensor]
BN_EPSILON = 1e-4  # MatConvNet's default: its files hold sqrt(var + epsilon)


class WeightsError(ValueError):
    """A file of parameters cannot be read, or does not fit the network."""


def load(name: str, path: str | Path | Mapping[str, str | Path], **options: Any) -> nn.Module:  # noqa: ANN401
    """A network with the parameters of a file, in eval mode.

    Args:
        name: A key of `models.MODELS`.
        path: .safetensors of ours, or an official file: .npz, .mat (MATLAB 5 or 7.3), .pth, .pt.
            For a network of several parts, a dict part -> file.
        **options: Override what was recognised from the file, such as residual=False.

    Returns:
        The network.

    Raises:
        WeightsError: If the file is missing, torn, of another format or another network; the
            message names the file and the first key or shape that does not fit.
        ValueError: If the name is unknown.

    Example:
        >>> load("dncnn", "/nowhere.npz")
        Traceback (most recent call last):
        enhancelib.weights.WeightsError: /nowhere.npz does not exist
        >>> load("dcnn", "/nowhere.npz")
        Traceback (most recent call last):
        ValueError: model is 'dcnn'; expected one of dncnn
    """
    if name not in models.MODELS:
        raise ValueError(f"model is {name!r}; expected one of {', '.join(sorted(models.MODELS))}")
    if isinstance(path, Mapping):
        return nn.ModuleDict({k: load(f"{name}.{k}", v, **options) for k, v in path.items()}).eval()
    file = Path(path).expanduser()
    if file.suffix == ".safetensors":
        return _own(name, file, options).eval()
    return CONVERTERS[name](read(file), file, options).eval()


def save(
    model: nn.Module,
    path: str | Path,
    *,
    name: str,
    options: Mapping[str, Any],
    card: Mapping[str, Any] | None = None,
) -> None:
    """Write a network as safetensors with what `load` needs, whole or not at all.

    Args:
        model: The network.
        path: Ends in .safetensors; its folder is made where absent.
        name: A key of `models.MODELS`.
        options: That build the network again.
        card: Recipe, data, figures, commit: kept as JSON in the metadata.

    Raises:
        WeightsError: If the suffix is another one, or the file cannot be written.

    Example:
        >>> save(nn.Linear(1, 1), "net.pth", name="dncnn", options={})
        Traceback (most recent call last):
        enhancelib.weights.WeightsError: net.pth: networks are written as .safetensors
    """
    from safetensors.torch import save as encode

    path = Path(path)
    if path.suffix != ".safetensors":
        raise WeightsError(f"{path}: networks are written as .safetensors")
    tensors = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    metadata = {"name": name, "options": json.dumps(dict(options)), "card": json.dumps(card or {})}
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("xb") as file:
            file.write(encode(tensors, metadata))
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        raise WeightsError(f"{path} cannot be written ({error.strerror})") from error
    finally:
        partial.unlink(missing_ok=True)


def read(path: str | Path) -> Arrays:
    """The arrays of a foreign file, by name and in the file's order.

    Args:
        path: .npz, .mat, .pth or .pt.

    Returns:
        Name -> tensor; convolutions as (out, in, height, width).

    Raises:
        WeightsError: If the file is missing, of an unknown format, torn, or holds code.

    Example:
        >>> read("net.onnx")
        Traceback (most recent call last):
        enhancelib.weights.WeightsError: net.onnx has format '.onnx'; expected one of .npz, ...
    """
    path = Path(path).expanduser()
    if path.suffix not in READERS:
        formats = ", ".join((*READERS, ".safetensors"))
        raise WeightsError(f"{path} has format {path.suffix!r}; expected one of {formats}")
    if not path.is_file():
        raise WeightsError(f"{path} does not exist")
    try:
        found = READERS[path.suffix](path)
    except WeightsError:
        raise
    except (
        OSError,
        ValueError,
        KeyError,
        IndexError,
        TypeError,
        AttributeError,
        EOFError,
        RuntimeError,
        NotImplementedError,
        UnpicklingError,
        zipfile.BadZipFile,
    ) as error:
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsError(
            f"{path} cannot be read as {path.suffix} parameters ({said}); it is torn, or holds "
            "something else"
        ) from error
    if not found:
        raise WeightsError(f"{path} holds no parameters")
    return found


def _npz(path: Path) -> Arrays:
    with np.load(path, allow_pickle=False) as file:
        return {key: torch.from_numpy(np.array(file[key])) for key in file.files}


def _pth(path: Path) -> Arrays:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        raise WeightsError(
            f"{path} is a pickle with code (a whole module, perhaps), which is not run; "
            "save its state_dict() where you trust it, and load that"
        ) from error
    for key in ("state_dict", "params_ema", "params", "model"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise WeightsError(f"{path} holds a {type(state).__name__}; expected a state dict")
    return state


def _mat(path: Path) -> Arrays:
    """MatConvNet's simplenn: layers with `type` and `weights`, in MATLAB's axis order."""
    import h5py

    layers = _mat73(path) if h5py.is_hdf5(path) else _mat5(path)
    found: Arrays = {}
    conv = 0
    for kind, arrays in layers:
        if kind == "conv":
            conv += 1
            kernel = arrays[0].reshape(arrays[0].shape + (1,) * (4 - arrays[0].ndim))
            found[f"conv{conv}.weight"] = _tensor(kernel.transpose(3, 2, 0, 1))
            if len(arrays) > 1 and arrays[1].size:
                found[f"conv{conv}.bias"] = _tensor(arrays[1].reshape(-1))
        elif kind == "bnorm":
            names = ("weight", "bias", "moments")
            for name, array in zip(names, arrays, strict=False):
                found[f"bn{conv}.{name}"] = _tensor(array)
    return found


def _tensor(array: np.ndarray[Any, Any]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))


def _mat73(path: Path) -> list[tuple[str, list[np.ndarray[Any, Any]]]]:
    import h5py

    layers = []
    with h5py.File(path, "r") as file:
        for reference in np.array(file["net/layers"]).reshape(-1):
            layer = file[reference]
            kind = "".join(map(chr, np.array(layer["type"]).reshape(-1)))
            weights: Any = np.array(layer["weights"]).reshape(-1) if "weights" in layer else []
            # h5py shows MATLAB's axes reversed
            arrays = [np.array(file[w]).T for w in weights if isinstance(w, h5py.Reference)]
            layers.append((kind, arrays))
    return layers


def _mat5(path: Path) -> list[tuple[str, list[np.ndarray[Any, Any]]]]:
    from scipy.io import loadmat

    net = loadmat(path, squeeze_me=False, struct_as_record=True)["net"]
    layers = []
    for cell in net["layers"][0, 0].reshape(-1):
        kind = str(cell["type"][0, 0].reshape(-1)[0])
        weights = cell["weights"][0, 0] if "weights" in cell.dtype.names else np.empty(0)
        arrays = [np.asarray(w) for w in weights.reshape(-1)] if weights.dtype == object else []
        layers.append((kind, arrays))
    return layers


READERS: Mapping[str, Callable[[Path], Arrays]] = {
    ".npz": _npz,
    ".mat": _mat,
    ".pth": _pth,
    ".pt": _pth,
}
"""Suffix -> reader of a foreign format."""


def _own(name: str, path: Path, options: Mapping[str, Any]) -> nn.Module:
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise WeightsError(f"{path} does not exist")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - no mapping
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} is torn, or no safetensors file ({error})") from error
    if metadata.get("name") != name:
        raise WeightsError(
            f"{path} holds {metadata.get('name', 'an unnamed network')!r}, not {name!r}"
        )
    network = models.build(name, **{**json.loads(metadata["options"]), **options})
    return _filled(network, state, path)


def _filled(network: nn.Module, state: Mapping[str, Tensor], path: Path) -> nn.Module:
    wanted = network.state_dict()
    for key in [*state, *wanted]:
        if key not in wanted or key not in state:
            missing = "is not in the file" if key in wanted else "does not belong to the network"
            raise WeightsError(f"{path}: {key} {missing}")
        if state[key].shape != wanted[key].shape:
            raise WeightsError(
                f"{path}: {key} has shape {tuple(state[key].shape)}; "
                f"expected {tuple(wanted[key].shape)}"
            )
    network.load_state_dict(dict(state))
    return network


@dataclass
class _Layer:
    """One convolution as found in a file, with the batch normalisation behind it, if any."""

    key: str
    weight: Tensor
    bias: Tensor | None = None
    norm: tuple[Tensor, Tensor, Tensor, Tensor] | None = None  # gamma, beta, mean, variance


def _dncnn(arrays: Arrays, path: Path, options: Mapping[str, Any]) -> nn.Module:
    """Depth, channels, width, norm and noise map of a DnCNN are what its tensors say."""
    layers = _chain(arrays, path)
    if len(layers) < 3:
        raise WeightsError(f"{path} holds {len(layers)} convolutions; a DnCNN has at least 3")
    c, width = len(layers[-1].weight), len(layers[0].weight)
    incoming = layers[0].weight.shape[1]
    if incoming not in (c, c + 1):
        raise WeightsError(
            f"{path}: {layers[0].key} reads {incoming} channels and {layers[-1].key} gives {c}; "
            f"a DnCNN reads {c}, or {c + 1} with a noise map"
        )
    recognised = {
        "D": len(layers),
        "c": c,
        "width": width,
        "norm": "batch" if any(layer.norm for layer in layers) else "none",
        "noise_map": incoming == c + 1,
        "residual": incoming == c,
    }
    network = models.build("dncnn", **{**recognised, **options})
    _fill_chain(network, layers, path)
    return network


def _chain(arrays: Arrays, path: Path) -> list[_Layer]:
    groups: dict[str, Arrays] = {}
    for key, value in arrays.items():
        prefix, _, leaf = key.rpartition(".")
        groups.setdefault(prefix, {})[leaf] = value
    layers: list[_Layer] = []
    for prefix in sorted(groups, key=_order):
        group = groups[prefix]
        if "weight" in group and group["weight"].ndim == 4:
            layers.append(_Layer(f"{prefix}.weight", group["weight"], group.get("bias")))
        elif layers and (norm := _moments(group)):
            layers[-1].norm = norm
        else:
            raise WeightsError(f"{path}: {prefix or next(iter(group))} belongs to no DnCNN")
    return layers


def _order(prefix: str) -> tuple[tuple[int, ...], str]:
    numbers = tuple(int(n) for n in re.findall(r"\d+", prefix))
    # "conv2" before "bn2": the same number, and a normalisation follows its convolution
    return (*numbers, int("bn" in prefix)), prefix


def _moments(group: Arrays) -> tuple[Tensor, Tensor, Tensor, Tensor] | None:
    if "running_var" in group:
        return group["weight"], group["bias"], group["running_mean"], group["running_var"]
    if "moments" in group:
        mean, std = group["moments"].reshape(-1, 2).unbind(1)
    elif {"mean", "std"} <= set(group):
        mean, std = group["mean"], group["std"]
    else:
        return None
    return group["weight"].reshape(-1), group["bias"].reshape(-1), mean, std**2 - BN_EPSILON


def _fill_chain(network: nn.Module, layers: list[_Layer], path: Path) -> None:
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    norms = iter([m for m in network.modules() if isinstance(m, nn.BatchNorm2d)])
    for k, (module, layer) in enumerate(zip(convolutions, layers, strict=True)):
        if module.weight.shape != layer.weight.shape:
            raise WeightsError(
                f"{path}: {layer.key} has shape {tuple(layer.weight.shape)}; "
                f"expected {tuple(module.weight.shape)}"
            )
        inner = 0 < k < len(layers) - 1
        norm = next(norms, None) if inner else None
        if (norm is None) != (layer.norm is None):
            where = "lacks" if layer.norm is None else "has"
            raise WeightsError(f"{path}: {layer.key} {where} a batch normalisation after it")
        _fill(module, norm, layer)


def _fill(module: nn.Conv2d, norm: nn.BatchNorm2d | None, layer: _Layer) -> None:
    bias = layer.bias if layer.bias is not None else torch.zeros(len(layer.weight))
    with torch.no_grad():
        module.weight.copy_(layer.weight)
        if module.bias is not None:
            module.bias.copy_(bias)
            bias = torch.zeros_like(bias)
        if norm is not None and layer.norm is not None:
            gamma, beta, mean, variance = layer.norm
            assert norm.running_mean is not None  # as built
            assert norm.running_var is not None
            for target, value in (
                (norm.weight, gamma),
                (norm.bias, beta),
                (norm.running_mean, mean - bias),  # a bias before BN only shifts its mean
                (norm.running_var, variance),
            ):
                target.copy_(value)


CONVERTERS: Mapping[str, Callable[[Arrays, Path, Mapping[str, Any]], nn.Module]] = {
    "dncnn": _dncnn,
}
"""Model -> converter of arrays that a reader found."""
