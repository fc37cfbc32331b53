"""One headless run of one notebook, with parameters that were checked before a kernel starts.

papermill itself only warns of an unknown parameter and goes on with the default; here it is an
error, on the command line and, through `check` in the cell under the parameters, everywhere else.
"""

from __future__ import annotations

import ast
import inspect
import json
import logging
import os
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from enhancelib import folders, papers, results, runtime
from enhancelib.papers.parameters import Common, ParameterError, checked

_PLAIN = (str, int, float, bool, list, tuple, dict, type(None))
_HIDDEN = {"In", "Out"}  # IPython's own lists of cells
_PATHS = ("data_root", "weights", "out")
_START_SECONDS = 180  # of a kernel, on a machine that starts many
_TELLERS = ("papermill", "traitlets", "asyncio")  # loggers that also tell a kernel's end


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
    import pandas as pd

    pd.set_option("display.max_colwidth", None)  # tables of a notebook hold whole sentences
    known = _fields(slug)
    given = {name: scope[name] for name in scope if name in known}
    return _checked(slug, _absolute({**given, **_strays(scope, known)}))


def _strays(scope: Mapping[str, object], known: Mapping[str, object]) -> dict[str, object]:
    """Plain variables that are no parameters; in a kernel, only those of the cells right above.

    A notebook that is run once more in the same kernel still has all variables of its later cells.
    """
    cells = scope.get("In")
    above = _assigned_above(cells) if isinstance(cells, list) and cells else None
    return {
        name: value
        for name, value in scope.items()
        if name not in known
        and not name.startswith("_")
        and name not in _HIDDEN
        and isinstance(value, _PLAIN)
        and (above is None or name in above)
    }


def _assigned_above(cells: Sequence[str]) -> set[str]:
    """Names set in the parameter cells before the current one: cells that set constants only."""
    names: set[str] = set()
    for cell in reversed(cells[:-1]):
        try:
            found = [_constant(node) for node in ast.parse(cell).body]
        except SyntaxError:
            break
        if "" in found:
            break
        names.update(found)
    return names


def _constant(node: ast.stmt) -> str:
    """The name that a statement sets to a constant, or nothing; float("nan") is one too."""
    target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
    value = getattr(node, "value", None)
    if not isinstance(target, ast.Name) or not isinstance(value, ast.expr):
        return ""
    used = {part.id for part in ast.walk(value) if isinstance(part, ast.Name)}
    return target.id if used <= {"float"} else ""


def _absolute(given: Mapping[str, object]) -> dict[str, object]:
    """Paths as seen from the current folder: the kernel runs in another one."""
    return {
        name: str(Path(value).expanduser().resolve())
        if name in _PATHS and isinstance(value, str) and value
        else value
        for name, value in given.items()
    }


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


def listing(function: Callable[..., object]) -> str:
    """The source of a function as a notebook shows it: without docstring, whose place is the API.

    Args:
        function: Of the library.

    Returns:
        Python.

    Example:
        >>> print(listing(notebook))
        def notebook(slug: str) -> Path:
            return runtime.data("notebooks") / f"{slug}.ipynb"
    """
    text = textwrap.dedent(inspect.getsource(function))
    (node,) = ast.parse(text).body
    words = node.body[0] if isinstance(node, ast.FunctionDef) else node
    if not (isinstance(words, ast.Expr) and isinstance(words.value, ast.Constant)):
        return text.rstrip()
    lines = text.splitlines()
    del lines[words.lineno - 1 : words.end_lineno]
    return "\n".join(lines)


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
        enhancelib.papers.parameters.ParameterError: no paper 'dcnn'; the catalogue has dncnn, ...
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
    parameters = checked(papers.load(slug).parameters, _absolute(given), slug=slug)
    if parameters.out:
        return Path(parameters.out)
    plain = {name: getattr(parameters, name) for name in _fields(slug)}
    return results.folder_of(slug, parameters.profile, plain)


def notebook(slug: str) -> Path:
    """The stored notebook of a paper.

    Args:
        slug: The paper.

    Returns:
        The .ipynb in the checkout or the installed wheel.
    """
    return runtime.data("notebooks") / f"{slug}.ipynb"


def execute(slug: str, given: Mapping[str, object], *, source: Path | None = None) -> Path:
    """Run a paper's notebook in a kernel of its own, without a browser.

    Args:
        slug: The paper.
        given: Parameters that differ from the notebook's defaults.
        source: An edited copy of the notebook; None means the stored one.

    Returns:
        The run folder; it holds results.json, and the executed notebook as notebook.ipynb.

    Raises:
        ParameterError: If a parameter is refused; no kernel was started.
        NotebookError: If there is no notebook, or a cell failed or the kernel died; the message
            names the cell, and the partial notebook is kept.
        RunError: If the run folder cannot be written, or another run holds it.

    Example:
        >>> execute("dncnn", {"sigma": -1})
        Traceback (most recent call last):
        enhancelib.papers.parameters.ParameterError: dncnn: sigma is -1.0; expected a number ...
        >>> execute("dncnn", {"out": "/proc/nowhere"})
        Traceback (most recent call last):
        enhancelib.folders.RunError: the run folder /proc/nowhere cannot be written ...
        >>> execute("dncnn", {}, source=Path("copy.ipynb"))
        Traceback (most recent call last):
        enhancelib.running.NotebookError: dncnn: there is no notebook copy.ipynb
    """
    given, source = _absolute(given), source or notebook(slug)
    where = folder(slug, given)
    _checked(slug, given)
    if not source.is_file():
        raise NotebookError(f"{slug}: there is no notebook {source}")
    folders.insist_writable(where)
    folders.hold(where)  # and let go: the kernel is to take it
    _run(slug, source, where, given)
    return where


def _run(slug: str, source: Path, where: Path, given: Mapping[str, object]) -> None:
    from papermill.exceptions import PapermillExecutionError

    done, part = where / "notebook.ipynb", where / ".notebook" / "notebook.ipynb"
    kept = f"the notebook up to there is {done}"
    lock = folders.hold(part.parent)
    try:
        _papermill(source, part, given)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"{kept}, and the same command goes on from there") from None
    except PapermillExecutionError as error:
        raise NotebookError(
            f"{slug}: cell [{error.exec_count}] stopped with {error.ename}: {error.evalue}; {kept}"
        ) from error
    except RuntimeError as error:
        raise NotebookError(
            f"{slug}: the kernel stopped {_place(part)} ({error}); the machine may be short of "
            f"memory; {kept}"
        ) from error
    except OSError as error:
        raise folders.RunError(
            f"{error.filename or part} failed ({error.strerror}); free some space, and the same "
            "command goes on from there"
        ) from error
    finally:
        _keep(part, done)
        lock.close()


def _papermill(
    source: Path, part: Path, given: Mapping[str, object], *, again: bool = True
) -> None:
    import papermill

    os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")  # a warning of the debugger's
    for name in _TELLERS:
        logging.getLogger(name).addFilter(_told_here)  # twice is once
    try:
        papermill.execute_notebook(
            str(source),
            str(part),
            parameters=dict(given),
            kernel_name="python3",
            cwd=str(runtime.root()),
            progress_bar=sys.stderr.isatty(),
            stdout_file=sys.stdout,
            stderr_file=sys.stderr,
            autosave_cell_every=30,
            start_timeout=_START_SECONDS,
            # the kernel's own log: a warning about loopback at its start, a trace at Ctrl-C
            extra_arguments=["--IPKernelApp.log_level=CRITICAL"],
        )
    except RuntimeError as error:
        # two kernels that start at once may choose the same port: papermill issue 511
        if not again or "before replying" not in str(error):
            raise
        _papermill(source, part, given, again=False)


def _told_here(record: logging.LogRecord) -> bool:
    """Keep back what `_run` says in one sentence, and nothing else."""
    said = record.getMessage()
    return "Kernel died" not in said and "DeadKernelError" not in said


def _place(part: Path) -> str:
    """Where a kernel stopped that could not say so: in the last cell that papermill started."""
    cells = json.loads(part.read_text(encoding="utf-8"))["cells"]
    code = [cell["metadata"]["papermill"] for cell in cells if cell["cell_type"] == "code"]
    started = sum(bool(cell["start_time"]) for cell in code)
    return f"in cell [{started}]" if started else "before the first cell"


def _keep(part: Path, done: Path) -> None:
    """Put the executed notebook in its place, unless a full disk left half of it."""
    try:
        json.loads(part.read_text(encoding="utf-8"))
        part.replace(done)
    except (OSError, ValueError):
        part.unlink(missing_ok=True)
