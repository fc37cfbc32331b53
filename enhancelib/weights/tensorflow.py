"""TensorFlow's V2 checkpoints, read without TensorFlow.

A checkpoint PREFIX is several files. PREFIX.index is a sorted table (LevelDB's format): a footer of
48 bytes points to an index block, that to data blocks, and these hold keys that share prefixes with
the key before. The value of each key is a protobuf message: type, shape, shard, offset, size and
checksum of one variable, whose plain little-endian values lie in PREFIX.data-0000i-of-0000n.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["BundleError", "index", "read"]

Array = npt.NDArray[Any]
Message = dict[int, list[int | bytes]]

_FOOTER, _TRAILER = 48, 5  # bytes; a trailer is a compression byte and a checksum
_MAGIC = 0xDB4775248B80FB57
_DATA = re.compile(r"(?P<prefix>.+)\.data-\d{5}-of-\d{5}")
_MASK = 0xFFFFFFFF
_TYPES = {
    1: "<f4", 2: "<f8", 3: "<i4", 4: "u1", 5: "<i2", 6: "i1", 9: "<i8", 10: "?", 19: "<f2",
}  # fmt: skip
_STRING = 7  # such as the object graph that newer versions keep beside the parameters


class BundleError(ValueError):
    """Files that are no whole TensorFlow checkpoint; the message says what does not fit."""


@dataclass(frozen=True)
class _Entry:
    """Where one variable lies."""

    kind: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    checksum: int | None


def index(path: Path) -> Path | None:
    """The .index file of the checkpoint that a path stands for.

    Args:
        path: The .index file itself, a .data-0000i-of-0000n file, or the common prefix, which is
            the name of no file.

    Returns:
        The .index file, or None where the path is of no checkpoint.

    Raises:
        BundleError: If the path is a .data file whose .index file is not beside it.

    Example:
        >>> index(Path("photo.png")) is None
        True
        >>> index(Path("iphone.data-00000-of-00001"))
        Traceback (most recent call last):
        enhancelib.weights.tensorflow.BundleError: iphone.index is not beside it; a TensorFlow ...
    """
    if path.name.endswith(".index"):
        return path
    if match := _DATA.fullmatch(path.name):
        beside = path.with_name(f"{match['prefix']}.index")
        if not beside.is_file():
            raise BundleError(
                f"{beside.name} is not beside it; a TensorFlow checkpoint is both files"
            )
        return beside
    beside = path.with_name(f"{path.name}.index") if path.name else path
    return beside if not path.exists() and beside.is_file() else None


def read(path: Path) -> dict[str, Array]:
    """Every variable of a checkpoint, under the name and in the layout that TensorFlow gave it.

    Checksums are verified. Text, which is no parameter, is left out.

    Args:
        path: The .index file; the .data files lie beside it.

    Returns:
        Name -> array.

    Raises:
        BundleError: If a file is absent, truncated or altered, the table is compressed, or a
            variable is partitioned or of an unknown type.

    Example:
        >>> _ = Path("a.index").write_bytes(b"not a table")
        >>> read(Path("a.index"))
        Traceback (most recent call last):
        enhancelib.weights.tensorflow.BundleError: truncated or no TensorFlow index: 11 bytes
    """
    table = dict(_table(path.read_bytes()))
    shards = _header(table.pop(b"", None))
    entries = {_text(key): _entry(key, value) for key, value in table.items()}
    prefix = path.name.removesuffix(".index")
    found: dict[str, Array] = {}
    for name, entry in entries.items():
        if entry.kind != _STRING:
            data = path.with_name(f"{prefix}.data-{entry.shard:05d}-of-{shards:05d}")
            found[name] = _values(name, entry, data)
    return found


def _header(value: bytes | None) -> int:
    """The number of shards."""
    if value is None:
        raise BundleError("no TensorFlow index: its table has no header entry")
    message = _message(value)
    if _number(message, 2):
        raise BundleError("written on a big-endian machine, which is not supported")
    return _number(message, 1)


def _entry(key: bytes, value: bytes) -> _Entry:
    message = _message(value)
    if 7 in message:
        raise BundleError(f"{_text(key)!r} is partitioned into slices; save it whole")
    shape = [
        _number(_message(dimension), 1)
        for part in message.get(2, [])
        if isinstance(part, bytes)
        for dimension in _message(part).get(2, [])
        if isinstance(dimension, bytes)
    ]
    return _Entry(
        kind=_number(message, 1),
        shape=tuple(shape),
        shard=_number(message, 3),
        offset=_number(message, 4),
        size=_number(message, 5),
        checksum=_number(message, 6) if 6 in message else None,
    )


def _text(key: bytes) -> str:
    return key.decode("utf-8", errors="replace")


def _values(name: str, entry: _Entry, data: Path) -> Array:
    if entry.kind not in _TYPES:
        raise BundleError(f"{name!r} has TensorFlow's type {entry.kind}; expected numbers")
    dtype = np.dtype(_TYPES[entry.kind])
    if math.prod(entry.shape) * dtype.itemsize != entry.size:
        raise BundleError(
            f"{name!r} has {entry.size} bytes; {entry.shape} of {dtype} takes another number"
        )
    if not data.is_file():
        raise BundleError(f"{data.name} is not beside it; a TensorFlow checkpoint is both files")
    end, length = entry.offset + entry.size, data.stat().st_size
    if end > length:
        raise BundleError(f"{data.name} is truncated: {length} bytes, {name!r} ends at {end}")
    with data.open("rb") as file:
        file.seek(entry.offset)
        content = file.read(entry.size)
    if entry.checksum is not None and _masked(_crc32c(content)) != entry.checksum:
        raise BundleError(f"{data.name} is damaged: {name!r} does not have its checksum")
    return np.frombuffer(content, dtype).reshape(entry.shape)


def _table(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The entries of a sorted table, in order."""
    if len(content) < _FOOTER:
        raise BundleError(f"truncated or no TensorFlow index: {len(content)} bytes")
    footer = content[-_FOOTER:]
    if struct.unpack("<Q", footer[-8:])[0] != _MAGIC:
        raise BundleError("truncated or no TensorFlow index: it does not end as a sorted table")
    offset, size, position = _handle(footer, 0)
    _block(content, offset, size)  # the metaindex is empty, and as whole as the rest
    offset, size, _ = _handle(footer, position)
    for _, handle in _pairs(_block(content, offset, size)):
        offset, size, _ = _handle(handle, 0)
        yield from _pairs(_block(content, offset, size))


def _block(content: bytes, offset: int, size: int) -> bytes:
    end = offset + size
    if end + _TRAILER > len(content) - _FOOTER:
        raise BundleError(f"truncated or damaged index: a block should end at byte {end}")
    compression, checksum = struct.unpack_from("<BI", content, end)
    if _masked(_crc32c(content[offset : end + 1])) != checksum:
        raise BundleError(f"the index is damaged: the block at byte {offset} fails its checksum")
    if compression:
        raise BundleError(
            f"the index is compressed (kind {compression}; 1 is Snappy), which TensorFlow's own "
            "writer never does; save the checkpoint again with TensorFlow"
        )
    return content[offset:end]


def _pairs(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of a block; its tail, which only a search needs, lists whole keys."""
    restarts = struct.unpack("<I", block[-4:])[0] if len(block) >= 4 else 0
    end, position, key = len(block) - 4 * (restarts + 1), 0, b""
    if end < 0:
        raise BundleError("the index is damaged: a block is shorter than its own table")
    while position < end:
        shared, position = _varint(block, position)
        fresh, position = _varint(block, position)
        length, position = _varint(block, position)
        if shared > len(key) or position + fresh + length > end:
            raise BundleError("the index is damaged: an entry leaves its block")
        key = key[:shared] + block[position : position + fresh]
        position += fresh
        yield key, block[position : position + length]
        position += length


def _handle(content: bytes, position: int) -> tuple[int, int, int]:
    """(offset, size, where the handle ends)."""
    offset, position = _varint(content, position)
    size, position = _varint(content, position)
    return offset, size, position


def _varint(content: bytes, position: int) -> tuple[int, int]:
    """(number, where it ends): seven bits a byte, lowest first; the eighth says "more"."""
    number = 0
    for count, byte in enumerate(content[position : position + 10]):
        number |= (byte & 0x7F) << (7 * count)
        if byte < 0x80:
            return number, position + count + 1
    raise BundleError("the index is damaged: a number does not end")


def _message(content: bytes) -> Message:
    """Field number -> its values, of a protobuf message whose meaning the caller knows."""
    fields: Message = {}
    position = 0
    while position < len(content):
        tag, position = _varint(content, position)
        value: int | bytes
        if tag & 7 == 0:
            value, position = _varint(content, position)
        elif tag & 7 in (1, 2, 5):
            size = {1: 8, 5: 4}.get(tag & 7, 0)
            if not size:
                size, position = _varint(content, position)
            value, position = content[position : position + size], position + size
            if position > len(content):
                raise BundleError("the index is damaged: a field leaves its message")
        else:
            raise BundleError(f"the index is damaged: a field has the wire type {tag & 7}")
        fields.setdefault(tag >> 3, []).append(value)
    return fields


def _number(message: Message, field: int) -> int:
    """A field that is an integer, of fixed or variable length; 0 where it is absent."""
    value = message.get(field, [0])[-1]
    return int.from_bytes(value, "little") if isinstance(value, bytes) else value


def _masked(checksum: int) -> int:
    """As LevelDB stores it, so that a checksum of checksums is not degenerate."""
    return ((checksum >> 15 | checksum << 17) + 0xA282EAD8) & _MASK


def _crc32c(content: bytes) -> int:
    """The Castagnoli checksum, over about sqrt(n) equal lanes at once.

    The register after two pieces is the first piece's, moved over as many zero bytes as the second
    is long, xor the second's own from 0. Moving is linear: 32 more lanes of zeros, each started
    from one bit, tell what it does.
    """
    lanes = max(1, math.isqrt(len(content)))
    length = len(content) // lanes
    head = len(content) - lanes * length
    register = _MASK
    for byte in content[:head]:
        register = (register >> 8) ^ int(_TABLE[(register ^ byte) & 0xFF])
    rows = np.frombuffer(content, np.uint8, offset=head).reshape(lanes, length)
    state = np.concatenate((np.zeros(lanes, np.uint32), np.uint32(1) << np.arange(32, dtype="u4")))
    for column in np.pad(rows, ((0, 32), (0, 0))).T:
        state = (state >> 8) ^ _TABLE[(state ^ column) & 0xFF]
    moved = [int(bit) for bit in state[lanes:]]
    for lane in state[:lanes]:
        total = int(lane)
        for bit in range(32):
            if register >> bit & 1:
                total ^= moved[bit]
        register = total
    return register ^ _MASK


def _castagnoli() -> npt.NDArray[np.uint32]:
    table: npt.NDArray[np.uint32] = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = (table >> np.uint32(1)) ^ (table & np.uint32(1)) * np.uint32(0x82F63B78)
    return table


_TABLE = _castagnoli()
