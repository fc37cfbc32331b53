"""A PRaD run of seconds: profile smoke, on bundled photos, in a folder of the test's own."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

from enhancelib import results
from enhancelib.papers.prad.settings import Parameters
from enhancelib.papers.prad.study import Study


def parameters(folder: Path, **given: Any) -> Parameters:
    """Profile smoke on the CPU with one seed, unless said otherwise."""
    return Parameters(
        **{"profile": "smoke", "device": "cpu", "out": str(folder), "seeds": 1} | given
    )


def opened(folder: Path, **given: Any) -> Study:
    """A study in its own run folder; nothing is trained yet."""
    p = parameters(folder, **given)
    return Study(results.open_run("prad", p), p)


def lent(s: Study, folder: Path, **given: Any) -> Study:
    """The same study, with all that it has trained, and a run folder of its own."""
    own = copy.copy(s)
    own.p = replace(s.p, out=str(folder), **given)
    own.run = results.open_run("prad", own.p)
    own._trained = dict(s._trained)
    return own
