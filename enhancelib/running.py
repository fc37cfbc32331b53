"""One headless run of one notebook, with parameters that were checked before a kernel starts.

papermill itself only warns of an unknown parameter and goes on with the default; here it is an
error, on the command line and, through `check` in the cell under the parameters, everywhere else.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from enhancelib import papers, results, runtime
from enhancelib.papers.parameters import Common, ParameterError, checked

_PLAIN = (str, int, float, bool, list, dict)
_NOISE = re.compile(r"Kernel is running over TCP without encryption")
_HIDDEN = {"In", "Out"}  # IPython's own lists of cells


class NotebookError(RuntimeError):
    """A notebook stopped in one of its cells; the partial notebook is kept."""


def check(slug: str, scope: Mapping[str, object]) -> Any:  # noqa: ANN401 - the paper's own class
    """The parameters of a notebook, from its variables; called right under the parameters cell.

    Args:
        slug: The paper.
        scope: The notebook's `globals()`.

    Returns:
        The paper's frozen Parameters.

    Raises:
        ParameterError: If a name is unknown (`papermill -p proflie paper` leaves a stray variable),
            or a value ill-typed or out of range, or what it points to is not there.

    Example:
        >>> check("dncnn", {"profile": "smoke", "sigma": 15}).sigma
        15.0
        >>> check("dncnn", {"sigma": "much"})
        Traceback (most recent call last):
        enhancelib.papers.parameters.ParameterError: dncnn: sigma is 'much' (text); expected ...
    """
    given = {
        name: value
        for name, value in scope.items()
        if not name.startswith("_") and name not in _HIDDEN and isinstance(value, _PLAIN)
    }
    return _checked(slug, given)


def _checked(slug: str, given: Mapping[str, object]) -> Common:
    paper = papers.load(slug)
    parameters = checked(paper.parameters, given, slug=slug)
    try:
        runtime.setup(parameters.device)
        paper.check(parameters)
    except ParameterError:
        raise
    except ValueError as error:
        raise ParameterError(f"{slug}: {error}") from error
    return parameters


def parse(slug: str, words: Mapping[str, str]) -> dict[str, object]:
    """Values of command-line words, by the types of the paper's parameters.

    Args:
        slug: The paper.
        words: name -> text.

    Returns:
        name -> value. A text that is no number where one is wanted stays text, for `check` to
        refuse; an unknown name stays too.

    Raises:
        ParameterError: If the slug is unknown.

    Example:
        >>> parse("dncnn", {"sigma": "25", "seeds": "3"})
        {'sigma': 25.0, 'seeds': 3}
        >>> parse("dcnn", {})
        Traceback (most recent call last):
        enhancelib.papers.parameters.ParameterError: no paper 'dcnn'; the catalogue has dncnn
    """
    kinds = {name: str(f.type) for name, f in _fields(slug).items()}
    return {name: _typed(text, kinds.get(name, "str")) for name, text in words.items()}


def _fields(slug: str) -> Mapping[str, Any]:
    return papers.load(slug).parameters.__dataclass_fields__


def _typed(text: str, kind: str) -> object:
    if kind == "bool":
        return {"true": True, "false": False}.get(text.lower(), text)
    try:
        return {"int": int, "float": float}.get(kind, str)(text)
    except ValueError:
        return text


def folder(slug: str, given: Mapping[str, object]) -> Path:
    """The run folder of some parameters.

    Args:
        slug: The paper.
        given: Parameters that differ from the notebook's defaults.

    Returns:
        `out` where given, else runs/<slug>/<profile>-<hash>/; absolute.

    Raises:
        ParameterError: If a parameter is refused.

    Example:
        >>> folder("dncnn", {"profile": "smoke"}).parts[-3:-1]
        ('runs', 'dncnn')
        >>> folder("dncnn", {"profile": "huge"})
        Traceback (most recent call last):
        enhancelib.papers.parameters.ParameterError: dncnn: profile is 'huge'; expected one of ...
    """
    parameters = checked(papers.load(slug).parameters, given, slug=slug)
    plain = {name: getattr(parameters, name) for name in _fields(slug)}
    if parameters.out:
        return Path(parameters.out).expanduser().resolve()
    return results.folder_of(slug, parameters.profile, plain)


def notebook(slug: str) -> Path:
    """The stored notebook of a paper.

    Args:
        slug: The paper.

    Returns:
        The .ipynb in the checkout or the installed wheel.
    """
    return runtime.data("notebooks") / f"{slug}.ipynb"


def execute(slug: str, given: Mapping[str, object]) -> Path:
    """Run a paper's notebook in a kernel of its own, without a browser.

    Args:
        slug: The paper.
        given: Parameters that differ from the notebook's defaults.

    Returns:
        The run folder; it holds results.json, and the executed notebook as notebook.ipynb.

    Raises:
        ParameterError: If a parameter is refused; no kernel was started.
        NotebookError: If a cell failed; the message names it, and the partial notebook is kept.
        RunError: If the run folder cannot be written.

    Example:
        >>> execute("dncnn", {"sigma": -1})
        Traceback (most recent call last):
        enhancelib.papers.parameters.ParameterError: dncnn: sigma is -1.0; expected a number ...
        >>> execute("dncnn", {"out": "/proc/nowhere"})
        Traceback (most recent call last):
        enhancelib.results.RunError: the run folder /proc/nowhere cannot be written ...
        >>> import tempfile
        >>> _ = execute("dncnn", {"out": tempfile.mkdtemp(), "device": "cuda:99"})
        Traceback (most recent call last):
        enhancelib.papers.parameters.ParameterError: dncnn: device is 'cuda:99', but this ...
    """
    where = folder(slug, given)
    _checked(slug, given)
    results.insist_writable(where)
    _quiet()
    done = where / "notebook.ipynb"
    try:
        _papermill(
            notebook(slug), done, {**given, "out": str(where)} if given.get("out") else given
        )
    except _execution_error() as error:
        cell = getattr(error, "exec_count", None)
        raise NotebookError(
            f"{slug}: cell [{cell}] stopped with {error.ename}: {error.evalue}; "
            f"the notebook up to there is {done}"
        ) from error
    return where


def _papermill(source: Path, done: Path, given: Mapping[str, object]) -> None:
    import papermill

    part = done.with_name("notebook.part.ipynb")
    try:
        papermill.execute_notebook(
            str(source),
            str(part),
            parameters=dict(given),
            kernel_name="python3",
            cwd=str(runtime.root()),
            progress_bar=sys.stderr.isatty(),
            log_output=True,
            stdout_file=sys.stdout,
            stderr_file=sys.stderr,
            autosave_cell_every=30,
        )
    finally:
        if part.exists():
            part.replace(done)


def _execution_error() -> type[Any]:
    from papermill.exceptions import PapermillExecutionError

    return cast(type[Any], PapermillExecutionError)


def _quiet() -> None:
    """Leave one line out of the log: the kernel's warning about loopback without encryption."""
    os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    for name in ("papermill", "traitlets"):
        logging.getLogger(name).addFilter(lambda record: not _NOISE.search(record.getMessage()))
