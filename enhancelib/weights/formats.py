"""Reading files of parameters: each format becomes named tensors, and no file can run code.

What a file holds is kept under the names it has there; only MatConvNet's layer lists, which have
no names, are flattened to `conv{i}.weight`, `conv{i}.bias`, `bn{i}.weight`, `.bias`, `.mean`,
`.std` with i counting convolutions from 0, and `comb.weight`, `comb.bias` for the sum of
channels that ends an MSCNN; its layers without parameters leave their type and number, empty.
"""

from __future__ import annotations

import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from enhancelib.weights import caffe, tensorflow

Array = npt.NDArray[Any]
_WRAPPERS = ("state_dict", "params_ema", "params")  # of training checkpoints around a network
_SILENT_LAYERS = ("relu", "concat", "loss")  # MatConvNet layers without parameters
_TOLD_LAYERS = ("pool", "upsmpl", "normalize")  # of MSCNN, whose converter must know of them
_BROKEN = (
    OSError,
    EOFError,
    ValueError,
    TypeError,
    LookupError,
    RuntimeError,
    AttributeError,
    NotImplementedError,
    MemoryError,
    struct.error,
    zlib.error,
    zipfile.BadZipFile,
)


class WeightsError(ValueError):
    """A file of parameters that cannot be read, written, or does not fit the network."""


@dataclass(frozen=True)
class Stored:
    """What one file holds.

    Args:
        tensors: Name -> parameter, on the CPU; floating point is float32.
        metadata: Name -> text; only safetensors has any.
    """

    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, str] = field(default_factory=dict)


def read(path: Path) -> Stored:
    """Read the tensors of one file, whatever its format.

    Args:
        path: A file whose suffix is one of `READERS`; of a TensorFlow checkpoint also a .data file
            or the prefix that its files share.

    Returns:
        Its tensors and metadata.

    Raises:
        WeightsError: If the file is absent, of an unknown format, empty, truncated, or holds
            Python objects instead of plain tensors.

    Example:
        >>> read(Path("sigma=25.caffe"))
        Traceback (most recent call last):
        enhancelib.weights.formats.WeightsError: sigma=25.caffe: no such file
    """
    try:
        path = tensorflow.index(path) or path
    except tensorflow.BundleError as error:
        raise WeightsError(f"{path}: {error}") from None
    if not path.is_file():
        raise WeightsError(f"{path}: no such file")
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise WeightsError(f"{path}: its suffix is none of {', '.join(READERS)}")
    if path.stat().st_size == 0:
        raise WeightsError(f"{path}: the file is empty (0 bytes)")
    try:
        return reader(path)
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from None
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path}: no file of plain tensors. One that pickles whole Python objects is refused, "
            "because loading it could run code; save its state_dict() instead"
        ) from error
    except _BROKEN as error:
        raise WeightsError(
            f"{path}: truncated or no {path.suffix} file ({_first_line(error)})"
        ) from error


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:160] if lines else type(error).__name__


def _tensor(array: Array) -> Tensor:
    if array.dtype.kind not in "fiub":
        raise WeightsError(f"holds an array of {array.dtype} where numbers were expected")
    if array.dtype.kind == "f":
        array = array.astype(np.float32)
    return torch.from_numpy(np.array(array, order="C"))  # a copy: the file may be read-only memory


def _safetensors(path: Path) -> Stored:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: _float32(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118
            return Stored(tensors, file.metadata() or {})
    except SafetensorError as error:
        raise WeightsError(f"truncated or no .safetensors file ({_first_line(error)})") from error


def _float32(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor


def _npz(path: Path) -> Stored:
    content = np.load(path, allow_pickle=False)
    if not isinstance(content, np.lib.npyio.NpzFile):
        raise WeightsError("a single array; expected an archive of named arrays")
    with content:
        return Stored({name: _tensor(content[name]) for name in content.files})


def _torch(path: Path) -> Stored:
    content = torch.load(path, map_location="cpu", weights_only=True)
    for name in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
            content = content[name]
    if not isinstance(content, Mapping):
        raise WeightsError(f"holds a {type(content).__name__}; expected a state dict of tensors")
    for name, value in content.items():
        if not isinstance(value, Tensor):
            raise WeightsError(f"{name!r} is a {type(value).__name__}; expected a tensor")
    return Stored({str(name): _float32(value) for name, value in content.items()})


def _mat(path: Path) -> Stored:
    import h5py

    if h5py.is_hdf5(path):
        with h5py.File(path, "r") as file:
            return Stored(_hdf5_mat(file))
    return Stored(_old_mat(path))


def _hdf5_mat(file: Any) -> dict[str, Tensor]:  # noqa: ANN401 - h5py has no types
    """MATLAB 7.3. HDF5 lists axes in reverse, so every array is transposed to MATLAB's order."""
    import h5py

    if "net" not in file:
        arrays = {name: node for name, node in file.items() if isinstance(node, h5py.Dataset)}
        return {name: _tensor(np.asarray(node).T) for name, node in arrays.items()}
    layers = []
    for reference in np.asarray(file["net"]["layers"]).T.ravel():
        group = file[reference]
        layer: dict[str, Any] = {
            name: np.asarray(node).T for name, node in group.items() if _plain(node)
        }
        if "weights" in group:  # MATLAB writes an empty array as its size, marked by an attribute
            cells = np.asarray(group["weights"]).T.ravel()
            layer["weights"] = [
                np.zeros(0) if file[cell].attrs.get("MATLAB_empty") else np.asarray(file[cell]).T
                for cell in cells
            ]
        layer["type"] = "".join(map(chr, layer["type"].ravel()))
        layers.append(layer)
    return dict(_flatten(layers))


def _plain(node: Any) -> bool:  # noqa: ANN401 - h5py has no types
    return hasattr(node, "dtype") and node.dtype.kind in "fiu"


def _old_mat(path: Path) -> dict[str, Tensor]:
    """MATLAB 5 to 7: structs are records of shape (1, 1), cells are arrays of objects."""
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        content = {k: v for k, v in loadmat(path).items() if not k.startswith("__")}
    except MatReadError as error:  # an Exception of its own kind
        raise WeightsError(f"truncated or no .mat file ({_first_line(error)})") from error
    if "net" not in content:
        return {name: _tensor(value) for name, value in content.items()}
    layers = []
    for cell in content["net"][0, 0]["layers"].ravel():
        record = cell[0, 0]
        layer = {name: record[name] for name in record.dtype.names}
        if "weights" in layer:
            layer["weights"] = list(layer["weights"].ravel())
        elif "filters" in layer:  # as MatConvNet had it before 2015
            layer["weights"] = [layer["filters"], layer["biases"]]
        layer["type"] = str(layer["type"].ravel()[0])
        layers.append(layer)
    return dict(_flatten(layers))


def _flatten(layers: list[dict[str, Any]]) -> Iterator[tuple[str, Tensor]]:
    convolution = -1
    scaled = bool(layers) and layers[-1]["type"] == "chnLinComb"  # one scale of an MSCNN
    for number, layer in enumerate(layers):
        kind, weights = layer["type"], layer.get("weights")
        if kind in _SILENT_LAYERS:
            if kind == "relu" and np.any(layer.get("leak", 0)):
                yield f"relu{number}.leak", _tensor(np.asarray(layer["leak"]))
            continue
        if scaled and kind in _TOLD_LAYERS:
            yield f"{kind}{number}", torch.zeros(0)
            continue
        if kind not in ("conv", "bnorm", "chnLinComb") or not weights:
            raise WeightsError(
                f"layer {number} of the MatConvNet network is {kind!r} "
                f"with {len(weights or [])} arrays; expected conv, bnorm or relu"
            )
        if kind == "conv":
            convolution += 1
            yield from _convolution(f"conv{convolution}", layer)
        elif kind == "chnLinComb":  # (1, 1, in): a 1x1 convolution to one map
            yield from _convolution(
                "comb", {**layer, "weights": [weights[0][..., None], weights[1]]}
            )
        else:
            yield from _normalisation(f"bn{convolution}", weights)


def _convolution(name: str, layer: dict[str, Any]) -> Iterator[tuple[str, Tensor]]:
    """Filters [kh, kw, in, out] in MATLAB's order; no flip, since vl_nnconv correlates."""
    filters = layer["weights"][0]
    # MATLAB drops trailing axes of length 1, such as the one output map of a grey network
    filters = filters.reshape(*filters.shape, *(1,) * (4 - filters.ndim))
    yield f"{name}.weight", _tensor(filters.transpose(3, 2, 0, 1))
    if len(layer["weights"]) > 1 and layer["weights"][1].size:
        yield f"{name}.bias", _tensor(layer["weights"][1].ravel())
    # what a plain 3x3 layer has is silent; anything else becomes a key that a converter must know
    usual = {"stride": 1, "dilate": 1, "pad": (filters.shape[0] - 1) / 2}
    for key, value in usual.items():
        if np.any(np.asarray(layer.get(key, value)) != value):
            yield f"{name}.{key}", _tensor(np.asarray(layer[key]))


def _normalisation(name: str, weights: list[Array]) -> Iterator[tuple[str, Tensor]]:
    """gamma, beta and [mean, standard deviation], the latter with epsilon inside and rooted."""
    if len(weights) != 3:
        raise WeightsError(
            f"{name} has {len(weights)} arrays; expected gamma, beta and running moments"
        )
    gamma, beta, moments = weights
    yield f"{name}.weight", _tensor(gamma.ravel())
    yield f"{name}.bias", _tensor(beta.ravel())
    yield f"{name}.mean", _tensor(moments[:, 0])
    yield f"{name}.std", _tensor(moments[:, 1])


def _caffemodel(path: Path) -> Stored:
    return Stored({name: _tensor(value) for name, value in caffe.read(path).items()})


def _bundle(path: Path) -> Stored:
    try:
        return Stored({name: _tensor(value) for name, value in tensorflow.read(path).items()})
    except tensorflow.BundleError as error:
        raise WeightsError(str(error)) from error


READERS: dict[str, Callable[[Path], Stored]] = {
    ".safetensors": _safetensors,
    ".npz": _npz,
    ".mat": _mat,
    ".pth": _torch,
    ".pt": _torch,
    ".caffemodel": _caffemodel,
    ".index": _bundle,
}
"""Suffix -> reader."""
