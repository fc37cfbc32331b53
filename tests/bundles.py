"""Writes TensorFlow V2 checkpoints as TensorFlow does, and in ways that it never does."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
KINDS = {"f4": 1, "f8": 2, "i4": 3, "u1": 4, "i8": 9, "b1": 10, "f2": 19}


def crc32c(content: bytes) -> int:
    """Bit by bit, after the definition."""
    register = 0xFFFFFFFF
    for byte in content:
        register ^= byte
        for _ in range(8):
            register = (register >> 1) ^ (0x82F63B78 if register & 1 else 0)
    return register ^ 0xFFFFFFFF


def masked(content: bytes) -> int:
    value = crc32c(content)
    return ((value >> 15 | value << 17) + 0xA282EAD8) & 0xFFFFFFFF


def varint(number: int) -> bytes:
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


def field(number: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def entry(kind: int, shape: Sequence[int], shard: int, offset: int, content: bytes) -> bytes:
    """A BundleEntryProto; zeros are left out, as protobuf does."""
    dimensions = b"".join(field(2, field(1, size) if size else b"") for size in shape)
    numbers = ((3, shard), (4, offset), (5, len(content)))
    return (
        field(1, kind)
        + field(2, dimensions)
        + b"".join(field(number, value) for number, value in numbers if value)
        + varint(6 << 3 | 5)
        + struct.pack("<I", masked(content))
    )


def block(pairs: Sequence[tuple[bytes, bytes]], every: int = 16) -> bytes:
    """Entries that share prefixes with the key before, except at the restarts."""
    out, restarts, before = b"", [], b""
    for index, (key, value) in enumerate(pairs):
        shared = 0
        if index % every == 0:
            restarts.append(len(out))
        else:
            while shared < min(len(before), len(key)) and before[shared] == key[shared]:
                shared += 1
        out += varint(shared) + varint(len(key) - shared) + varint(len(value))
        out += key[shared:] + value
        before = key
    restarts = restarts or [0]
    return out + struct.pack(f"<{len(restarts) + 1}I", *restarts, len(restarts))


def table(
    pairs: Sequence[tuple[bytes, bytes]], *, per_block: int = 1000, compression: int = 0
) -> bytes:
    """A sorted table of data blocks, an empty metaindex block, the index block and the footer."""
    out = b""

    def handle(content: bytes) -> bytes:
        nonlocal out
        offset, kind = len(out), bytes([compression])
        out += content + kind + struct.pack("<I", masked(content + kind))
        return varint(offset) + varint(len(content))

    groups = [pairs[i : i + per_block] for i in range(0, len(pairs), per_block)]
    index = [(group[-1][0], handle(block(group))) for group in groups]
    footer = handle(block([])) + handle(block(index, every=1))
    return out + footer.ljust(40, b"\0") + struct.pack("<Q", 0xDB4775248B80FB57)


def header(shards: int, *, big_endian: bool = False) -> bytes:
    return field(1, shards) + (field(2, 1) if big_endian else b"") + field(3, field(1, 1))


def write(
    prefix: Path, arrays: Mapping[str, Array], *, shards: int = 1, per_block: int = 1000
) -> Path:
    """A checkpoint with its variables dealt out over the shards; returns the prefix."""
    contents = [b""] * shards
    pairs = [(b"", header(shards))]
    for index, name in enumerate(sorted(arrays, key=str.encode)):
        content, shard = arrays[name].tobytes(), index % shards
        kind = KINDS[arrays[name].dtype.str.lstrip("<|")]
        value = entry(kind, arrays[name].shape, shard, len(contents[shard]), content)
        pairs.append((name.encode(), value))
        contents[shard] += content
    for shard, content in enumerate(contents):
        Path(f"{prefix}.data-{shard:05d}-of-{shards:05d}").write_bytes(content)
    Path(f"{prefix}.index").write_bytes(table(pairs, per_block=per_block))
    return prefix


def dped(blocks: int, width: int, scope: str = "generator/") -> dict[str, Array]:
    """A DPED generator's variables under their official names, with random values."""
    count, random = 2 * blocks + 4, np.random.default_rng(0)
    found: dict[str, Array] = {}
    for k in range(1, count + 1):
        size = 9 if k in (1, count) else 3
        shape = (size, size, 3 if k == 1 else width, 3 if k == count else width)
        found[f"{scope}W{k}"] = random.normal(0, 0.1, shape).astype(np.float32)
        found[f"{scope}b{k}"] = random.normal(0, 0.1, shape[-1:]).astype(np.float32)
    return found | unnamed([width] * (2 * blocks), scope)


def unnamed(widths: Sequence[int], scope: str) -> dict[str, Array]:
    """Shift and scale of instance normalisations, as TensorFlow numbers unnamed variables."""
    random, found = np.random.default_rng(1), {}
    for index, width in enumerate(width for width in widths for _ in range(2)):
        name = f"{scope}Variable_{index}" if index else f"{scope}Variable"
        found[name] = random.normal(index % 2, 0.1, width).astype(np.float32)
    return found


PPCN = {
    "student": ((1, 7, 3, 8), (7, 1, 8, 8), (1, 7, 8, 16), (7, 1, 16, 8), (3, 3, 8, 3)),
    "teacher": (
        (1, 7, 3, 16), (7, 1, 16, 16), (3, 3, 16, 32), (3, 3, 32, 16),
        (3, 3, 16, 32), (3, 3, 32, 16), (1, 1, 32, 16), (3, 3, 16, 3),
    ),
}  # fmt: skip
NORMALISED = {"student": (16, 8), "teacher": (32, 16, 32, 16)}


def ppcn(kind: str, scope: str) -> dict[str, Array]:
    """A PPCN's variables under their official names, with random values."""
    random, found = np.random.default_rng(2), {}
    for k, shape in enumerate(PPCN[kind]):
        found[f"{scope}W{k}"] = random.normal(0, 0.2, shape).astype(np.float32)
        found[f"{scope}b{k}"] = random.normal(0, 0.1, shape[-1:]).astype(np.float32)
    return found | unnamed(NORMALISED[kind], scope)
