"""Whether what the parameters point to is there, before any work starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from enhancelib import images
from enhancelib.papers.dilie import data, demands, official
from enhancelib.papers.dilie.settings import Parameters
from enhancelib.papers.parameters import ParameterError


def check(p: Parameters) -> None:
    """See that photos, pairs and official networks are there and can be read.

    Args:
        p: Checked parameters.

    Raises:
        ParameterError: If a photo cannot be read or is too small, `weights` holds no known
            network, or L_PE has no term left.
        DataError: If a pair of data_root lacks a partner, cannot be decoded, or differs in size.

    Example:
        >>> check(Parameters(photo="/nowhere.png"))
        Traceback (most recent call last):
        enhancelib.papers.parameters.ParameterError: photo: /nowhere.png: no such file; ...
        >>> check(Parameters(data_root="/nowhere"))
        Traceback (most recent call last):
        enhancelib.datasets.DataError: data_root '/nowhere' is no folder. Expected: ...
    """
    if not any((p.alpha, p.beta, p.affine)):
        raise ParameterError("alpha, beta and affine are 0; give L_PE at least one term")
    for name in ("photo", "reference"):
        if path := getattr(p, name):
            _insist_photo(name, path)
    official.files(p.weights)
    data.check(p.data_root)


def _insist_photo(name: str, path: str) -> None:
    try:
        photo = images.read(Path(path))
    except images.ImageError as error:
        raise ParameterError(f"{name}: {error}") from error
    if min(photo.shape[1:]) < demands.LEAST:
        raise ParameterError(
            f"{name}: {path} has {photo.shape[2]} x {photo.shape[1]} pixels; expected sides of "
            f"{demands.LEAST} or more"
        )


def notes(p: Parameters) -> dict[str, Any]:
    """What a run reads of the user's disk, with digests.

    Args:
        p: The parameters.

    Returns:
        For `Run.notes`.
    """
    found: dict[str, Any] = data.inputs(p.data_root)
    return {**found, **official.inputs(p)}
