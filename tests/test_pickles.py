"""Foreign pickles give float32 arrays or are refused, without running or reserving anything."""

from __future__ import annotations

import os
import pickle
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from enhancelib.pickles import PickleError, arrays

KERNEL = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
HEAD = b"\x80\x03cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n"


@pytest.mark.parametrize("protocol", [3, 4])
@pytest.mark.parametrize("order", ["C", "F"])
def test_a_nested_dict_comes_back(protocol: int, order: str) -> None:
    stored = np.asarray(KERNEL, order="F" if order == "F" else "C")
    tree = {"net": {"Conv_0": {"kernel": stored, "bias": np.ones(2, np.float32)}}}
    found = arrays(pickle.dumps(tree, protocol), {"net/Conv_0/kernel": (2, 3, 4)})
    assert list(found) == ["net/Conv_0/kernel"]
    np.testing.assert_array_equal(found["net/Conv_0/kernel"], KERNEL)


def test_numpy_1_and_numpy_2_names_are_both_read() -> None:
    new = pickle.dumps({"a": KERNEL}, protocol=3)
    old = new.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    assert old != new
    np.testing.assert_array_equal(arrays(old, {"a": (2, 3, 4)})["a"], KERNEL)


class _Runs:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_code_is_refused_and_does_not_run(tmp_path: Path, protocol: int) -> None:
    marker = tmp_path / "ran"
    with pytest.raises(PickleError, match=r"asks for .*mkdir|instruction"):
        arrays(pickle.dumps({"a": _Runs(marker)}, protocol), {"a": (1,)})
    assert not marker.exists()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.array([print], dtype=object), "type 'O8'"),
        (np.ones(2), "type 'f8'"),
        (np.ones(2, ">f4"), "state is not"),
        (np.ones(2, np.complex64), "type 'c8'"),
        (np.array(["a"]), "type 'U1'"),
        (np.float32(1), "numpy._core.multiarray.scalar"),
        ([1.0], "BINFLOAT"),
        (bytearray(4), "builtins.bytearray|GLOBAL"),
    ],
)
def test_other_data_is_refused(value: object, message: str) -> None:
    with pytest.raises(PickleError, match=message):
        arrays(pickle.dumps({"a": value}, protocol=3), {"a": (2,)})


@pytest.mark.parametrize(
    "bomb",
    [
        HEAD + b"J\x00\x00\x00\x7f\x85C\x01b\x87R.",  # an array that starts with 2 G items
        b"\x80\x04\x8e" + (1 << 31).to_bytes(8, "little") + b".",  # 2 GB of bytes, absent
        b"\x80\x03B" + (1 << 31).to_bytes(4, "little") + b".",
        b"\x80\x05\x96" + (1 << 31).to_bytes(8, "little") + b".",  # a bytearray of 2 GB
        b"\x80\x03Nr\xff\xff\xff\x7f.",  # slot 2 G of the memo
        b"\x80\x04\x95" + (1 << 31).to_bytes(8, "little") + b"N.",  # a frame of 2 GB
    ],
)
def test_a_few_bytes_reserve_no_memory(bomb: bytes) -> None:
    tracemalloc.start()
    with pytest.raises(PickleError):
        arrays(bomb, {"a": (1,)})
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000


def test_a_shape_must_fit_its_bytes() -> None:
    stored = pickle.dumps({"a": np.ones((2, 3), np.float32)}, protocol=3)
    lying = stored.replace(b"K\x02K\x03", b"K\xffK\xff")
    assert lying != stored
    with pytest.raises(PickleError, match=r"claims the shape \(255, 255\) for 24 bytes"):
        arrays(lying, {"a": (2, 3)})


def test_the_table_decides_name_and_shape() -> None:
    stored = pickle.dumps({"a": {"b": KERNEL}}, protocol=3)
    with pytest.raises(PickleError, match=r"shape \(2, 3, 4\); expected \(2, 3\)"):
        arrays(stored, {"a/b": (2, 3)})
    for name in ("a", "b", "a/c", "a/b/c"):
        with pytest.raises(PickleError, match="holds no array"):
            arrays(stored, {name: (2, 3, 4)})


def test_every_truncation_is_refused() -> None:
    stored = pickle.dumps({"a": np.ones(2, np.float32)}, protocol=3)
    for length in range(len(stored)):
        with pytest.raises(PickleError):
            arrays(stored[:length], {"a": (2,)})


def test_nonsense_is_refused() -> None:
    generator = np.random.default_rng(0)
    for noise in (b"\x80\x03}(K\x01u.", b"\x80\x03K\x01K\x02K\x03s.", b"\x80\x03u.", b"\x80\x03t."):
        with pytest.raises(PickleError):
            arrays(noise, {"a": (1,)})
    for _ in range(300):
        with pytest.raises(PickleError):
            arrays(generator.bytes(40) + b".", {"a": (1,)})
