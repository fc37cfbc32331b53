"""Reading a .caffemodel: the blobs of every layer, without Caffe and without protobuf.

A .caffemodel is one NetParameter message of Google's wire format. Of its fields only those that
lead to parameters are followed: layers (100), their name (1) and blobs (7), a blob's shape (7, or
1 to 4 in old files) and data (5). The first blob of a layer is its weight, the second its bias.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
_LAYER, _NAME, _BLOBS = 100, 1, 7
_SHAPE, _DATA, _DIM = 7, 5, 1
_OLD_SHAPE = (1, 2, 3, 4)  # num, channels, height, width
_VARINT, _EIGHT, _BYTES, _FOUR = 0, 1, 2, 5  # wire types
_FIELDS = ("weight", "bias")


def read(path: Path) -> dict[str, Array]:
    r"""The parameters of a Caffe network.

    Args:
        path: A .caffemodel of Caffe 1, whose layers are V2 (2014 and later).

    Returns:
        `layer.weight`, (out, in, height, width) for a convolution, and `layer.bias`.

    Raises:
        ValueError: If the file ends inside a message, or a layer has parameters that are no weight
            and bias, or fewer numbers than its shape says.
        FileNotFoundError: If there is no such file.

    Example:
        >>> _ = Path("a.caffemodel").write_bytes(b"\xa2\x06\x7f")
        >>> read(Path("a.caffemodel"))
        Traceback (most recent call last):
        ValueError: a field of 127 bytes in a message that ends after 0
        >>> read(Path("b.caffemodel"))
        Traceback (most recent call last):
        FileNotFoundError: [Errno 2] No such file or directory: 'b.caffemodel'
    """
    found: dict[str, Array] = {}
    for number, layer in _fields(memoryview(path.read_bytes())):
        if number == _LAYER and isinstance(layer, memoryview):
            found |= _layer(layer)
    return found


def _layer(message: memoryview) -> dict[str, Array]:
    fields = [(n, value) for n, value in _fields(message) if isinstance(value, memoryview)]
    name = next((bytes(value).decode() for n, value in fields if n == _NAME), "")
    blobs = [_blob(value) for n, value in fields if n == _BLOBS]
    if len(blobs) > len(_FIELDS):
        raise ValueError(f"layer {name!r} has {len(blobs)} blobs; expected a weight and a bias")
    return {f"{name}.{field}": blob for field, blob in zip(_FIELDS, blobs, strict=False)}


def _blob(message: memoryview) -> Array:
    old, shape, data = {}, None, b""
    for number, value in _fields(message):
        if number in _OLD_SHAPE and isinstance(value, int):
            old[number] = value
        elif number == _SHAPE and isinstance(value, memoryview):
            shape = [size for n, part in _fields(value) if n == _DIM for size in _varints(part)]
        elif number == _DATA and isinstance(value, memoryview):
            data += bytes(value)  # packed, or one by one: the bytes are the same
    sizes = [old.get(n, 1) for n in _OLD_SHAPE] if shape is None else shape
    numbers = np.frombuffer(data, "<f4")
    if numbers.size != np.prod(sizes, dtype=np.int64):
        raise ValueError(f"a blob holds {numbers.size} numbers; its shape is {sizes}")
    return numbers.reshape(sizes)


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """(field number, varint or bytes) in the order of the file."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        number, wire = key >> 3, key & 7
        if wire == _VARINT:
            value, at = _varint(message, at)
            yield number, value
            continue
        if wire not in (_EIGHT, _BYTES, _FOUR):
            raise ValueError(f"wire type {wire}; expected 0, 1, 2 or 5")
        size, at = _varint(message, at) if wire == _BYTES else (8 if wire == _EIGHT else 4, at)
        if at + size > len(message):
            left = len(message) - at
            raise ValueError(f"a field of {size} bytes in a message that ends after {left}")
        yield number, message[at : at + size]
        at += size


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            raise ValueError("a number that the end of its message cuts off")
        byte = message[at]
        value, at = value | (byte & 0x7F) << shift, at + 1
        if byte < 0x80:
            return value, at
    raise ValueError("a number of more than 10 bytes")


def _varints(part: int | memoryview) -> Iterator[int]:
    """Sizes packed into bytes, or the one size that stands there."""
    if isinstance(part, int):
        yield part
        return
    at = 0
    while at < len(part):
        size, at = _varint(part, at)
        yield size
