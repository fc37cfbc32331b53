"""The wire format of a .caffemodel, written here by hand and read back."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from enhancelib import weights
from enhancelib.weights import WeightsError, caffe


def varint(value: int) -> bytes:
    out = b""
    while value >= 0x80:
        out, value = out + bytes([value & 0x7F | 0x80]), value >> 7
    return out + bytes([value])


def field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def blob(values: list[float], shape: list[int], *, packed: bool = True, old: bool = False) -> bytes:
    if packed:
        data = field(5, struct.pack(f"<{len(values)}f", *values))
    else:
        data = b"".join(varint(5 << 3 | 5) + struct.pack("<f", v) for v in values)
    if old:
        sizes = b"".join(varint(k << 3) + varint(size) for k, size in enumerate(shape, start=1))
        return sizes + data
    if packed:
        return data + field(7, field(1, b"".join(map(varint, shape))))
    return data + field(7, b"".join(varint(1 << 3) + varint(size) for size in shape))


def layer(name: str, *blobs: bytes) -> bytes:
    unknown = varint(10 << 3) + varint(300) + varint(11 << 3 | 1) + b"\0" * 8  # phase, a double
    content = field(1, name.encode()) + field(2, b"Convolution") + unknown
    return field(100, content + b"".join(field(7, one) for one in blobs))


@pytest.mark.parametrize(("packed", "old"), [(True, False), (False, False), (True, True)])
def test_what_is_written_is_read(packed: bool, old: bool, tmp_path: Path) -> None:
    kernel, bias = [float(k) / 7 for k in range(2 * 3 * 1 * 200)], [0.5, -1.5]
    blobs = blob(kernel, [2, 3, 1, 200], packed=packed, old=old), blob(bias, [2], packed=packed)
    data = field(1, b"net") + layer("data") + layer("conv1", *blobs)
    path = tmp_path / "net.caffemodel"
    path.write_bytes(data)
    found = caffe.read(path)
    assert list(found) == ["conv1.weight", "conv1.bias"]
    np.testing.assert_array_equal(found["conv1.weight"], np.float32(kernel).reshape(2, 3, 1, 200))
    np.testing.assert_array_equal(found["conv1.bias"].ravel(), np.float32(bias))


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (layer("c", blob([1, 2], [2]))[:-3], "a field of .* bytes in a message that ends after"),
        (layer("c", blob([1, 2], [3])), r"a blob holds 2 numbers; its shape is \[3\]"),
        (layer("c", *[blob([1], [1])] * 3), "layer 'c' has 3 blobs"),
        (b"\x0b", "wire type 3"),
        (b"\xff" * 12, "more than 10 bytes"),
        (b"\x80", "the end of its message cuts off"),
    ],
)
def test_damage_is_told_in_one_sentence(data: bytes, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "net.caffemodel"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=sentence):
        caffe.read(path)
    with pytest.raises(WeightsError, match=r"net\.caffemodel: truncated or no \.caffemodel file"):
        weights.load("aodnet", path)
