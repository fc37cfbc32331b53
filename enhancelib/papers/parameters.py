"""Notebook parameters: what every paper takes, and how values are checked before work starts."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

PROFILES = ("smoke", "small", "large", "paper")
TABLES = ("main", "all")
_KINDS = {"str": "text", "int": "a whole number", "float": "a number", "bool": "true or false"}


class ParameterError(ValueError):
    """A parameter that a paper does not take, or a value outside what it accepts."""


def parameter(
    default: Any,  # noqa: ANN401
    help: str,
    *,
    choices: Sequence[str] = (),
    low: float = -math.inf,
    high: float = math.inf,
) -> Any:  # noqa: ANN401
    """A field of a Parameters dataclass.

    Args:
        default: What the notebook's parameters cell says.
        help: One sentence.
        choices: Accepted texts; none means any.
        low: Smallest accepted number.
        high: Largest accepted number.

    Returns:
        The dataclass field.
    """
    metadata = {"help": help, "choices": tuple(choices), "low": low, "high": high}
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Common:
    """The parameters that begin every notebook.

    Args:
        profile: How large the run is.
        seed: First seed.
        seeds: Number of seeds of every ablation.
        device: Where it runs.
        data_root: Folder of real data sets; "" means bundled photos.
        weights: File or folder of official weights; "" means none.
        out: Run folder; "" means one under runs/.
        tables: "main", or "all" for the tables that take hours.
    """

    profile: str = parameter("smoke", "how large the run is", choices=PROFILES)
    seed: int = parameter(0, "first seed", low=0, high=2**31 - 1)
    seeds: int = parameter(3, "number of seeds of every ablation", low=1, high=100)
    device: str = parameter("auto", "auto, cpu, cuda or cuda:N")
    data_root: str = parameter("", "folder of real data sets; empty means bundled photos")
    weights: str = parameter("", "file or folder of official weights; empty means none")
    out: str = parameter("", "run folder; empty means one under runs/")
    tables: str = parameter("main", "main, or all for the tables that take hours", choices=TABLES)

    def all_seeds(self) -> list[int]:
        """The seeds of every ablation.

        Returns:
            seed, seed + 1, ...
        """
        return [self.seed + k for k in range(self.seeds)]


P = TypeVar("P", bound=Common)


def checked(kind: type[P], given: Mapping[str, object], *, slug: str) -> P:
    """Parameters from plain values, each of the right type and in range.

    Args:
        kind: The paper's dataclass.
        given: name -> value; what is absent keeps its default.
        slug: The paper, for the messages.

    Returns:
        An instance; whole numbers become floats where a float is wanted.

    Raises:
        ParameterError: If a name is unknown, or a value has the wrong type or is out of range.

    Example:
        >>> checked(Common, {"seeds": 5}, slug="dncnn").seeds
        5
        >>> checked(Common, {"proflie": "paper"}, slug="dncnn")
        Traceback (most recent call last):
        enhancelib.papers.parameters.ParameterError: dncnn has no parameter 'proflie' (did you ...
    """
    fields = {field.name: field for field in dataclasses.fields(kind)}
    for name in given:
        if name not in fields:
            close = difflib.get_close_matches(name, fields, n=1)
            hint = f" (did you mean {close[0]!r}?)" if close else ""
            accepted = ", ".join(fields)
            raise ParameterError(f"{slug} has no parameter {name!r}{hint}; it takes {accepted}")
    values: dict[str, Any] = {n: _value(slug, fields[n], value) for n, value in given.items()}
    return kind(**values)


def command(slug: str, p: Common, given: Mapping[str, float]) -> str:
    """The command line that reruns a notebook with some of its parameters changed.

    Args:
        slug: The paper.
        p: The other parameters; those at their defaults, and the run folder, are left out.
        given: Parameter -> value, named in any case.

    Returns:
        One line for a shell.

    Example:
        >>> command("dncnn", Common(seed=3), {"sigma": 15.0})
        'enhancelib run dncnn --profile smoke -p seed=3 -p sigma=15.0'
    """
    plain = {field.name: field.default for field in dataclasses.fields(p)}
    kept = {**dataclasses.asdict(p), **given}
    words = [
        shlex.quote(f"{name}={value}")
        for name, value in kept.items()
        if name not in ("profile", "out") and (name in given or value != plain[name])
    ]
    return " ".join([f"enhancelib run {slug} --profile {p.profile}", *(f"-p {w}" for w in words)])


@dataclass(frozen=True)
class Hours:
    """Estimated time of a run, called with (profile, tables).

    Args:
        main: Profile -> hours for tables="main", on two idle CPU cores ("smoke", "small") or one
            GPU ("large", "paper").
        times: How many times that tables="all" takes.

    Example:
        >>> Hours({"small": 0.5}, times=6.0)("small", "all")
        3.0
    """

    main: Mapping[str, float]
    times: float

    def __call__(self, profile: str, tables: str) -> float:  # noqa: D102
        return self.main[profile] * (self.times if tables == "all" else 1.0)


def _value(slug: str, field: dataclasses.Field[Any], value: object) -> object:
    wanted = str(field.type)
    if wanted == "float" and isinstance(value, int) and not isinstance(value, bool):
        with contextlib.suppress(OverflowError):  # then it stays a whole number, and is refused
            value = float(value)
    if type(value).__name__ != wanted:
        seen = f"{value!r} ({_KINDS.get(type(value).__name__, type(value).__name__)})"
        raise ParameterError(f"{slug}: {field.name} is {seen}; expected {_expected(field)}")
    if not _accepted(field, value):
        raise ParameterError(f"{slug}: {field.name} is {value!r}; expected {_expected(field)}")
    return value


def _accepted(field: dataclasses.Field[Any], value: object) -> bool:
    if choices := field.metadata["choices"]:
        return value in choices
    if isinstance(value, (int, float)):
        low, high = field.metadata["low"], field.metadata["high"]
        return cast(bool, low <= value <= high and abs(value) < math.inf)
    return True


def _expected(field: dataclasses.Field[Any]) -> str:
    kind = _KINDS[str(field.type)]
    if choices := field.metadata["choices"]:
        return "one of " + ", ".join(choices)
    low, high = field.metadata["low"], field.metadata["high"]
    if math.isfinite(low) and math.isfinite(high):
        return f"{kind} from {low:g} to {high:g}"
    return f"{kind}, {low:g} or more" if math.isfinite(low) else f"{kind}: {field.metadata['help']}"
