"""Where parameters come from: our own files, and the files in which authors released theirs.

Our own are safetensors whose metadata tell the network, its options and its card. Every other
format goes through the model's converter, which recognises the variant from the file.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from enhancelib import models
from enhancelib.weights import aodnet, dncnn, dped, mscnn, pcakd, pieapp, ppcn, tensorflow, wct2
from enhancelib.weights.formats import READERS, Stored, WeightsError, read

__all__ = ["CONVERTERS", "READERS", "WeightsError", "card", "files", "load", "save", "sha256"]

Converter = Callable[[Mapping[str, Tensor]], tuple[dict[str, object], dict[str, Tensor]]]
PathLike = str | os.PathLike[str]

CONVERTERS: dict[str, Converter] = {
    "aodnet": aodnet.convert,
    "dncnn": dncnn.convert,
    "dped": dped.convert,
    "mscnn": mscnn.convert,
    "pcakd": pcakd.convert,
    "pieapp": pieapp.convert,
    "ppcn": ppcn.convert,
    "srcnn": dped.convert_srcnn,
    "wct2": wct2.convert,
}
"""Name of a model -> (tensors of a foreign file) -> (options, state dict)."""


def load(
    name: str,
    path: PathLike | Mapping[str, PathLike],
    **options: Any,  # noqa: ANN401 - each network checks its own
) -> nn.Module:
    """Make the network that a file holds.

    Args:
        name: A key of `models.MODELS`.
        path: A .safetensors, .npz, .mat (MATLAB 5 or 7.3), .pth, .pt or .caffemodel file, or a
            TensorFlow checkpoint: its .index file, its .data file, or the prefix of both; for a
            network of several parts a dict part -> file, whose tensors become `part.key`.
        **options: Override what the file tells, for instance residual=False.

    Returns:
        The network in eval mode, on the CPU, float32.

    Raises:
        ValueError: If the model is unknown or refuses an option.
        WeightsError: If a file is absent, broken, unsafe or of another network; the message names
            the file and the first key or shape that does not fit.

    Example:
        >>> load("dcnn", "model.pth")
        Traceback (most recent call last):
        ValueError: model is 'dcnn'; expected one of ...
        >>> load("dncnn", "/nowhere/model.pth")
        Traceback (most recent call last):
        enhancelib.weights.formats.WeightsError: /nowhere/model.pth: no such file
    """
    if name not in models.MODELS:
        models.build(name)  # raises its sentence
    files = path if isinstance(path, Mapping) else {"": path}
    if not files:
        raise WeightsError("path is an empty dict; expected part -> file")
    stored = _joined({part: read(Path(file)) for part, file in files.items()})
    with _named(files):
        found, state = _interpret(name, stored)
        with torch.random.fork_rng(devices=[]):  # values drawn here are overwritten
            network = models.build(name, **{**found, **options})
        _fill(network, state)
    return network.eval()


def save(
    model: nn.Module,
    path: PathLike,
    *,
    name: str,
    options: Mapping[str, Any],
    card: Mapping[str, Any],
) -> None:
    """Write a network as safetensors with metadata, atomically.

    Args:
        model: The network; its whole state dict is written.
        path: A .safetensors file; its folder is made where absent.
        name: Its key in `models.MODELS`.
        options: What `models.build(name, **options)` needs to make it again.
        card: What a user should know: recipe, data, metric, commit. Plain JSON values.

    Raises:
        ValueError: If the name or an option is unknown.
        WeightsError: If the suffix is another one, options or card are not plain JSON values, the
            model is not the one that options describe, or the file cannot be written.

    Example:
        >>> network = models.build("dncnn", D=3, width=4)
        >>> save(network, "a.safetensors", name="dcnn", options={}, card={})
        Traceback (most recent call last):
        ValueError: model is 'dcnn'; expected one of ...
        >>> save(network, "a.safetensors", name="dncnn", options={"D": 4, "width": 4}, card={})
        Traceback (most recent call last):
        enhancelib.weights.formats.WeightsError: a.safetensors: key 'layers.5.weight' has shape ...
    """
    target = Path(path)
    if target.suffix != ".safetensors":
        raise WeightsError(f"{target}: its suffix is {target.suffix!r}; expected '.safetensors'")
    # a copy each: safetensors refuses tensors that share memory
    state = {
        k: v.detach().cpu().clone(memory_format=torch.contiguous_format)
        for k, v in model.state_dict().items()
    }
    with _named({"": target}):
        metadata = {"format": "pt", "name": name, "options": _json(options), "card": _json(card)}
        with torch.random.fork_rng(devices=[]):
            _fill(models.build(name, **options), state)
    _write(state, metadata, target)


def card(path: PathLike) -> dict[str, Any]:
    """The card that `save` put into a file.

    Args:
        path: A .safetensors file.

    Returns:
        The card; empty for a file that has none.

    Raises:
        WeightsError: If the file cannot be read.

    Example:
        >>> card("/nowhere/model.safetensors")
        Traceback (most recent call last):
        enhancelib.weights.formats.WeightsError: /nowhere/model.safetensors: no such file
    """
    stored = read(Path(path))
    with _named({"": path}):
        return _object(stored, "card")


def files(path: PathLike) -> tuple[Path, ...]:
    """The files that `load` reads for one path: itself, or all of a TensorFlow checkpoint.

    Args:
        path: As for `load`.

    Returns:
        One file, or the .index file and the .data files beside it; nothing is said about whether
        they can be read.

    Raises:
        WeightsError: If the path is a .data file without its .index file.

    Example:
        >>> _ = [Path(f"a.{end}").touch() for end in ("index", "data-00000-of-00001")]
        >>> [file.name for file in files("a")]
        ['a.index', 'a.data-00000-of-00001']
        >>> files("b.data-00000-of-00001")
        Traceback (most recent call last):
        enhancelib.weights.formats.WeightsError: b.data-00000-of-00001: b.index is not beside ...
    """
    try:
        index = tensorflow.index(Path(path))
    except tensorflow.BundleError as error:
        raise WeightsError(f"{os.fspath(path)}: {error}") from None
    if index is None:
        return (Path(path),)
    return index, *sorted(index.parent.glob(f"{glob.escape(index.stem)}.data-*-of-*"))


def sha256(path: PathLike) -> str:
    """The SHA-256 of a file, for the record of what a run read.

    Args:
        path: Any file.

    Returns:
        64 hexadecimal digits.

    Raises:
        WeightsError: If the file cannot be read.

    Example:
        >>> sha256("/nowhere/model.pth")
        Traceback (most recent call last):
        enhancelib.weights.formats.WeightsError: /nowhere/model.pth: No such file or directory
    """
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise WeightsError(f"{os.fspath(path)}: {error.strerror}") from error


@contextlib.contextmanager
def _named(files: Mapping[str, PathLike]) -> Iterator[None]:
    try:
        yield
    except WeightsError as error:
        where = ", ".join(os.fspath(file) for file in files.values())
        raise WeightsError(f"{where}: {error}") from None


def _joined(parts: Mapping[str, Stored]) -> Stored:
    if list(parts) == [""]:
        return parts[""]
    return Stored(
        {f"{part}.{key}": v for part, one in parts.items() for key, v in one.tensors.items()}
    )


def _interpret(name: str, stored: Stored) -> tuple[dict[str, Any], Mapping[str, Tensor]]:
    if "name" in stored.metadata:
        if stored.metadata["name"] != name:
            raise WeightsError(f"holds a {stored.metadata['name']!r}, not a {name!r}")
        return _object(stored, "options"), stored.tensors
    if name in CONVERTERS:
        return CONVERTERS[name](stored.tensors)
    return {}, stored.tensors


def _object(stored: Stored, key: str) -> dict[str, Any]:
    try:
        value = json.loads(stored.metadata.get(key, "{}"))
    except json.JSONDecodeError as error:
        raise WeightsError(f"its metadata {key!r} is not JSON ({error})") from error
    if not isinstance(value, dict):
        raise WeightsError(f"its metadata {key!r} is {value!r}; expected a JSON object")
    return value


def _json(value: Mapping[str, Any]) -> str:
    try:
        return json.dumps(dict(value), sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise WeightsError(f"options and card must be plain JSON values ({error})") from error


def _fill(network: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Copy the state in, or name the first key or shape that does not fit."""
    expected = network.state_dict()
    counters = {key for key in expected if key.endswith("num_batches_tracked")}
    for key, value in expected.items():
        if key not in state:
            if key in counters:
                continue
            raise WeightsError(f"key {key!r} is missing")
        if state[key].shape != value.shape:
            raise WeightsError(
                f"key {key!r} has shape {tuple(state[key].shape)}; expected {tuple(value.shape)}"
            )
        if not torch.isfinite(state[key]).all():
            raise WeightsError(f"key {key!r} holds NaN or infinite values")
    if surplus := [key for key in state if key not in expected]:
        raise WeightsError(f"unexpected key {surplus[0]!r}")
    network.load_state_dict(dict(state), strict=False)


def _write(state: dict[str, Tensor], metadata: dict[str, str], target: Path) -> None:
    from safetensors.torch import save

    part = target.with_name(target.name + ".part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            file.write(save(state, metadata))
            file.flush()
            os.fsync(file.fileno())
        part.replace(target)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink()
        raise WeightsError(f"{target}: cannot be written ({error.strerror})") from error
