"""Arrays out of a pickle that somebody else wrote, without running anything that it names.

A pickle is a program. This reader lets through the few instructions that a nested dict of NumPy
arrays needs, and three names: `_reconstruct`, `ndarray` and `dtype`. Stand-ins of ours answer them,
so that not even NumPy's own code sees the file: they take little-endian float32 data of exactly the
length that its shape needs, hence memory stays below the file's size. Everything else is refused.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

_INSTRUCTIONS = (
    "PROTO FRAME STOP MARK EMPTY_DICT SETITEM SETITEMS EMPTY_LIST APPEND APPENDS "
    "EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 "
    "BINUNICODE SHORT_BINUNICODE BINBYTES SHORT_BINBYTES BININT BININT1 BININT2 "
    "NONE NEWTRUE NEWFALSE BINPUT LONG_BINPUT BINGET LONG_BINGET MEMOIZE "
    "GLOBAL STACK_GLOBAL REDUCE BUILD"
)
_ALLOWED = frozenset(_INSTRUCTIONS.split())
_MOST = 100_000
_DIMENSIONS = 32


class PickleError(ValueError):
    """A pickle holds more than a nested dict of float32 arrays, or other ones than expected."""


class _Dtype:
    """Stands in for numpy.dtype: float32 and nothing else, above all no objects."""

    def __init__(self, code: object, *_: object) -> None:
        if code != "f4":
            raise PickleError(f"the pickle holds data of type {code!r}; expected 'f4' (float32)")
        self.little = False

    def __setstate__(self, state: object) -> None:
        self.little = isinstance(state, tuple) and len(state) > 1 and state[1] == "<"


class _Array:
    """Stands in for numpy.ndarray: shape and bytes, which must fit each other."""

    def __init__(self) -> None:
        self.values: NDArray[np.float32] = np.empty(0, np.float32)

    def __setstate__(self, state: object) -> None:
        match state:
            case (int(), tuple() as shape, _Dtype(little=True), bool() as fortran, bytes() as raw):
                self.values = _values(shape, raw, "F" if fortran else "C")
            case _:
                raise PickleError("an array's state is not (version, shape, '<f4', order, bytes)")


def _values(shape: tuple[object, ...], raw: bytes, order: str) -> NDArray[np.float32]:
    sizes = [size for size in shape if isinstance(size, int) and size >= 0]
    if len(sizes) != len(shape) or len(sizes) > _DIMENSIONS or 4 * math.prod(sizes) != len(raw):
        raise PickleError(f"an array claims the shape {shape} for {len(raw)} bytes of float32")
    return np.frombuffer(raw, "<f4").reshape(sizes, order="F" if order == "F" else "C")


def _reconstruct(kind: object, shape: object, code: object) -> _Array:
    if kind is not _Array or shape != (0,) or code not in (b"b", "b"):
        raise PickleError(f"an array starts as {shape} of {code!r}; expected (0,) of b'b'")
    return _Array()


_NAMES: dict[tuple[str, str], object] = {
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
}
# What the C reader raises on nonsense, such as a missing mark or a number used as a dict.
_READER_ERRORS = (
    pickle.UnpicklingError,
    EOFError,
    TypeError,
    ValueError,
    LookupError,
    AttributeError,
)


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> object:
        if (module, name) not in _NAMES:
            raise PickleError(
                f"the pickle asks for {module}.{name}; allowed are numpy's _reconstruct, "
                "ndarray and dtype"
            )
        return _NAMES[module, name]


def arrays(content: bytes, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, NDArray[np.float32]]:
    """Read named float32 arrays from a pickled nested dict.

    Args:
        content: The pickle.
        shapes: "outer/inner/name" -> the shape that the array must have.

    Returns:
        One read-only array per name in `shapes`; what else the pickle holds is left out.

    Raises:
        PickleError: If the pickle is cut short, asks for any other name or instruction, holds
            other data than float32 (objects above all), or lacks an array of the given shape.

    Example:
        >>> stored = pickle.dumps({"net": {"a": np.ones((2, 3), np.float32)}}, protocol=3)
        >>> arrays(stored, {"net/a": (2, 3)})["net/a"].sum()
        np.float32(6.0)
        >>> arrays(pickle.dumps({"a": print}, protocol=3), {"a": (1,)})
        Traceback (most recent call last):
        enhancelib.pickles.PickleError: the pickle asks for builtins.print; allowed are ...
    """
    _inspect(content)
    try:
        tree = _Reader(io.BytesIO(content)).load()
    except PickleError:
        raise
    except _READER_ERRORS as error:
        raise PickleError(f"the pickle cannot be read: {error}") from error
    return {name: _pick(tree, name, shape) for name, shape in shapes.items()}


def _inspect(content: bytes) -> None:
    """Refuse instructions that run code or reserve memory, before the reader sees any."""
    try:
        for count, (instruction, argument, _) in enumerate(pickletools.genops(content)):
            if instruction.name not in _ALLOWED:
                raise PickleError(f"the pickle has the instruction {instruction.name}: refused")
            slot = argument if "PUT" in instruction.name else 0
            if count > _MOST or not 0 <= int(slot or 0) <= _MOST:
                raise PickleError(f"the pickle has over {_MOST} instructions: refused")
    except PickleError:
        raise
    except (ValueError, OverflowError, UnicodeError) as error:  # what genops raises
        raise PickleError(f"the pickle is cut short or damaged: {error}") from error


def _pick(tree: object, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    node = tree
    for key in name.split("/"):
        node = node.get(key) if isinstance(node, dict) else None
    if not isinstance(node, _Array):
        raise PickleError(f"the pickle holds no array {name}")
    if node.values.shape != shape:
        raise PickleError(f"{name} has the shape {node.values.shape}; expected {shape}")
    return node.values
