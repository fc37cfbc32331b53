"""A DILIE run of seconds: profile smoke, on bundled photos, in a folder of the test's own."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

from enhancelib import results
from enhancelib.papers.dilie.settings import Parameters
from enhancelib.papers.dilie.study import Study


def parameters(folder: Path, **given: Any) -> Parameters:
    """Profile smoke on the CPU with one seed and two steps, unless said otherwise."""
    standard: dict[str, Any] = {
        "profile": "smoke",
        "device": "cpu",
        "out": str(folder),
        "seeds": 1,
        "steps": 2,
    }
    return Parameters(**standard | given)


def opened(folder: Path, **given: Any) -> Study:
    """A study in its own run folder; nothing is optimised yet."""
    p = parameters(folder, **given)
    return Study(results.open_run("dilie", p), p)


def lent(s: Study, folder: Path, **given: Any) -> Study:
    """The same study, with all that it has found, and a run folder of its own."""
    own = copy.copy(s)
    own.p = replace(s.p, out=str(folder), **given)
    own.run = results.open_run("dilie", own.p)
    own._found, own._shown = dict(s._found), {}
    return own
