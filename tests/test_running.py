"""One headless run: real papermill and real kernels, on the tiny paper of tests/tiny.py."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import papermill
import psutil
import pytest

from enhancelib import folders, running, runtime
from enhancelib.papers.parameters import ParameterError
from tests import tiny

NOISE = ("TCP without encryption", "<b>", "of html", "json", "IPKernelApp", "frozen modules",
         "Traceback", "Executing Cell")  # fmt: skip


@pytest.fixture
def paper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tiny paper in the catalogue, its notebook in this folder."""
    return tiny.lend(tmp_path, monkeypatch)


def cells(notebook: Path) -> list[nbformat.NotebookNode]:
    found = nbformat.read(notebook, as_version=4)
    return [cell for cell in found.cells if cell.cell_type == "code"]


def output(cell: nbformat.NotebookNode) -> str:
    return "".join(part.get("text", part.get("evalue", "")) for part in cell.outputs)


# What is refused before a kernel starts.

REFUSED = {
    "unknown slug": ("tinny", {}, "no paper 'tinny'; the catalogue has dncnn, prad, dilie, tiny"),
    "unknown profile": ("tiny", {"profile": "huge"}, "profile is 'huge'; expected one of smoke"),
    "misspelled": ("tiny", {"proflie": "paper"}, "tiny has no parameter 'proflie' (did you mean"),
    "ill-typed": ("tiny", {"sigma": "much"}, "sigma is 'much' (text); expected a number from 1 to"),
    "out of range": ("tiny", {"sigma": 76.0}, "sigma is 76.0; expected a number from 1 to 75"),
    "unknown choice": ("tiny", {"mode": "ugly"}, "mode is 'ugly'; expected one of good, bad"),
    "nothing": ("tiny", {"seed": None}, "seed is None (NoneType); expected a whole number"),
    "absent device": ("tiny", {"device": "cuda:99"}, "device is 'cuda:99', but this machine has"),
    "unknown device": ("tiny", {"device": "tpu"}, "device is 'tpu'; expected 'auto', 'cpu'"),
    "absent data": ("tiny", {"data_root": "/nowhere"}, "data_root '/nowhere' does not exist"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_before_a_kernel_starts(paper: Path, case: str) -> None:
    slug, given, reason = REFUSED[case]
    before = psutil.Process().children(recursive=True)
    with pytest.raises(ParameterError) as caught:
        running.execute(slug, {**given, "out": str(paper / "run")})
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)
    assert psutil.Process().children(recursive=True) == before
    assert not (paper / "run").exists()


def test_a_missing_notebook_is_named(paper: Path) -> None:
    (paper / "tiny.ipynb").unlink()
    with pytest.raises(running.NotebookError, match=r"^tiny: there is no notebook .*tiny.ipynb$"):
        running.execute("tiny", {"out": str(paper / "run")})
    assert not (paper / "run").exists()


def test_a_folder_that_cannot_be_written_is_refused(paper: Path) -> None:
    (paper / "file").touch()
    for place in (paper / "file", paper / "file" / "run", Path("/proc/nowhere")):
        with pytest.raises(folders.RunError, match=r"the run folder .* cannot be written \("):
            running.execute("tiny", {"out": str(place)})
    if os.geteuid():  # root may write anywhere
        (paper / "closed").mkdir(mode=0o555)
        with pytest.raises(folders.RunError, match="Permission denied"):
            running.execute("tiny", {"out": str(paper / "closed")})


def test_a_folder_that_another_process_holds_is_refused_and_the_holder_named(
    paper: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folders, "LOCK_SECONDS", 0.3)
    (paper / "run").mkdir()
    lock = paper / "run" / ".lock"
    lock.write_text("process 4711 on elsewhere")
    code = (
        "import fcntl, sys\nfile = open(sys.argv[1])\n"
        "fcntl.flock(file, fcntl.LOCK_EX)\nprint(flush=True)\ninput()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, lock], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(folders.RunError, match="is held by process 4711 on elsewhere; wait"):
            running.execute("tiny", {"out": str(paper / "run")})
        holder.communicate(b"\n")
    assert not (paper / "run" / "notebook.ipynb").exists()


# Words of the command line.


def test_words_become_values_by_the_types_of_the_parameters(paper: Path) -> None:
    words = {"sigma": "15", "seeds": "2", "mode": "bad", "out": "7"}
    assert running.parse("tiny", words) == {"sigma": 15.0, "seeds": 2, "mode": "bad", "out": "7"}


def test_words_that_are_no_numbers_stay_words(paper: Path) -> None:
    words = {"sigma": "much", "seeds": "2.5", "seed": "", "sgima": "3"}
    assert running.parse("tiny", words) == words


# Folders.


def test_the_folder_is_the_same_tomorrow(paper: Path) -> None:
    # a folder of another name would leave finished runs behind; the hash is that of the defaults
    small = running.folder("tiny", {"profile": "small"})
    assert small == runtime.root() / "runs" / "tiny" / "small-fad58eea"


def test_what_changes_the_folder_and_what_does_not(
    paper: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = running.folder("tiny", {})
    assert plain == running.folder("tiny", {"sigma": 25, "mode": "good", "profile": "smoke"})
    assert plain == running.folder("tiny", {"mode": "good", "sigma": 25.0})
    monkeypatch.chdir(paper)
    assert plain == running.folder("tiny", {})
    others = [{"sigma": 15}, {"seed": 1}, {"tables": "all"}, {"data_root": str(paper)}]
    assert len({running.folder("tiny", given) for given in ({}, *others)}) == 5


def test_relative_paths_are_those_of_the_current_folder(
    paper: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (paper / "sets").mkdir()
    whole = running.folder("tiny", {"data_root": str(paper / "sets")})
    elsewhere = running.folder("tiny", {"data_root": "sets"})
    monkeypatch.chdir(paper)
    assert running.folder("tiny", {"data_root": "sets"}) == whole != elsewhere
    assert running.folder("tiny", {"out": "here"}) == paper / "here"
    monkeypatch.setenv("HOME", str(paper))
    assert running.folder("tiny", {"out": "~/there"}) == paper / "there"
    assert running.check("tiny", {"data_root": "sets"}).data_root == str(paper / "sets")


# The cell under the parameters.


def test_check_takes_known_names_of_any_type_and_refuses_what_is_wrong(paper: Path) -> None:
    assert running.check("tiny", {"sigma": 15, "np": os, "check": len, "_i": "x"}).sigma == 15.0
    for value in (None, (15, 25), os):
        with pytest.raises(ParameterError, match=r"^tiny: sigma is .*; expected a number from 1"):
            running.check("tiny", {"sigma": value})


@pytest.mark.parametrize("value", ["paper", 3, 2.5, True, None, [1], (1,), {}])
def test_check_refuses_a_stray_variable_of_any_plain_type(paper: Path, value: object) -> None:
    with pytest.raises(ParameterError, match=r"^tiny has no parameter 'proflie'"):
        running.check("tiny", {"profile": "smoke", "proflie": value})


IPYTHON = """\
import sys
from IPython.core.interactiveshell import InteractiveShell
from tests import tiny

tiny.install(sys.argv[1])
shell = InteractiveShell.instance()
cells = {
    "parameters": tiny.PARAMETERS,
    "injected": "seed = 1\\ndata_root = ''\\nlimit = float('nan')\\nproflie = 'paper'",
    "check": "from enhancelib import running\\np = running.check('tiny', globals())",
    "later": "levels = [5, 15]\\nname = 'photos'\\nprint(levels)",
}
for order in sys.argv[2:]:
    shell.reset()
    ran = [shell.run_cell(cells[name], store_history=True) for name in order.split()]
    print("ORDER", [done.error_in_exec is None for done in ran])
"""


def test_a_notebook_may_run_again_in_the_same_kernel(paper: Path) -> None:
    fine = (
        "parameters check later",
        # Run All once more in the same kernel: variables of later cells are still there
        "parameters check later parameters check",
        "parameters check later check",
    )
    stray = ("parameters injected check", "parameters check later parameters injected check")
    done = subprocess.run(
        [sys.executable, "-c", IPYTHON, str(paper), *fine, *stray],
        env={**os.environ, "IPYTHONDIR": str(paper / "ipython")},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    found = [line for line in done.stdout.splitlines() if line.startswith("ORDER")]
    wanted = [[True] * 3, [True] * 5, [True] * 4, [True, True, False], [True] * 5 + [False]]
    assert found == [f"ORDER {each}" for each in wanted], done.stdout
    assert done.stdout.count("tiny has no parameter '") == 2


def test_plain_papermill_with_a_misspelled_parameter_stops_at_the_check(paper: Path) -> None:
    with pytest.raises(papermill.PapermillExecutionError) as caught:
        papermill.execute_notebook(
            paper / "tiny.ipynb", paper / "done.ipynb", {"proflie": "paper"}, progress_bar=False
        )
    assert caught.value.ename.endswith("ParameterError")
    assert "tiny has no parameter 'proflie' (did you mean 'profile'?)" in caught.value.evalue
    assert caught.value.exec_count == 3  # the parameters, papermill's own cell, the check


# Whole runs.


def test_a_run_from_elsewhere_leaves_its_results_and_a_clean_log(paper: Path) -> None:
    (paper / "elsewhere").mkdir()
    words = ("run", "tiny", "-p", "sigma=15", "--out", "../mine")
    done = subprocess.run(
        tiny.command(paper, *words),
        cwd=paper / "elsewhere",
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"sigma is 15.0\ntiny: done, in {paper / 'mine'}\n"
    assert done.stderr == ""
    found = json.loads((paper / "mine" / "results.json").read_text(encoding="utf-8"))
    assert found["parameters"]["sigma"] == 15.0
    assert found["parameters"]["out"] == str(paper / "mine")
    assert len(cells(paper / "mine" / "notebook.ipynb")) == 6
    assert not list((paper / "elsewhere").iterdir())


def test_a_failing_cell_is_named_and_the_notebook_up_to_there_is_kept(paper: Path) -> None:
    tiny.write(paper, (tiny.RECORD, tiny.SHOW, "print('so far')\nlevels[7]", tiny.FINISH))
    folder = paper / "run"
    folder.mkdir()
    (folder / "notebook.ipynb").write_text("an older run's")
    done = subprocess.run(
        tiny.command(paper, "run", "tiny", "--out", str(folder)),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 1
    assert done.stderr == (
        "enhancelib: tiny: cell [6] stopped with IndexError: list index out of range; "
        f"the notebook up to there is {folder / 'notebook.ipynb'}\n"
    )
    assert not any(word in done.stdout for word in NOISE)
    ran = {cell.execution_count: cell for cell in cells(folder / "notebook.ipynb")}
    assert output(ran[6]) == "so far\nlist index out of range"
    assert 7 not in ran
    assert not (folder / "results.json").exists()
    assert [file.name for file in (folder / ".notebook").iterdir()] == [".lock"]


def test_a_kernel_that_dies_is_told_apart_and_its_notebook_kept(paper: Path) -> None:
    tiny.write(paper, (tiny.RECORD, "import os\nos.kill(os.getpid(), 9)", tiny.FINISH))
    with pytest.raises(running.NotebookError, match=r"the kernel stopped in cell \[5\].*memory"):
        running.execute("tiny", {"seed": 1, "out": str(paper / "run")})
    # the parameters, papermill's own cell, the check, RECORD, and the deadly one
    assert output(cells(paper / "run" / "notebook.ipynb")[2]) == "sigma is 25.0\n"
    assert not (paper / "run" / "results.json").exists()


WAIT = "import time\n(run.folder / 'here').touch()\nprint('waiting', flush=True)\ntime.sleep(300)"


def test_ctrl_c_keeps_the_notebook_and_leaves_no_kernel(paper: Path) -> None:
    tiny.write(paper, (tiny.RECORD, WAIT, tiny.FINISH))
    folder = paper / "run"
    process = subprocess.Popen(
        tiny.command(paper, "run", "tiny", "--out", str(folder)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # a group of its own, as a terminal gives it
        # a job in the background of a shell is born deaf to Ctrl-C, and so are its children
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    until = time.monotonic() + 120
    while not (folder / "here").exists() and time.monotonic() < until:
        time.sleep(0.1)
    kernels = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, signal.SIGINT)
    said, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert told == (
        f"enhancelib: interrupted; the notebook up to there is {folder / 'notebook.ipynb'}, and "
        "the same command goes on from there\n"
    )
    assert said == "sigma is 25.0\nwaiting\n"
    assert output(cells(folder / "notebook.ipynb")[4]).startswith("waiting\n")
    assert not (folder / "results.json").exists()
    assert kernels
    assert not psutil.wait_procs(kernels, timeout=10)[1]


def test_a_full_disk_keeps_the_older_notebook_and_leaves_no_half(paper: Path) -> None:
    # the kernel lowers the largest file that the command line may write, as a full disk would
    full = (
        f"import os, resource\nresource.prlimit(os.getppid(), {resource.RLIMIT_FSIZE}, (4096, -1))"
    )
    tiny.write(paper, (tiny.RECORD, full, "print('x' * 10_000)", tiny.FINISH))
    folder = paper / "run"
    folder.mkdir()
    (folder / "notebook.ipynb").write_text("an older run's")
    done = subprocess.run(
        tiny.command(paper, "run", "tiny", "--out", str(folder)),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        timeout=300,
    )
    assert done.returncode == 1
    assert "failed (File too large); free some space, and the same command goes on" in done.stderr
    assert "Traceback" not in done.stderr
    assert (folder / "notebook.ipynb").read_text() == "an older run's"
    assert [file.name for file in (folder / ".notebook").iterdir()] == [".lock"]


def test_a_kernel_that_does_not_start_is_started_once_more(
    paper: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # two kernels that start at once may choose the same port; here the first one ends at once
    once = f"test -e {paper}/tried || {{ touch {paper}/tried; exit 1; }}"
    start = f'{once}; exec {sys.executable} -m ipykernel_launcher "$@"'
    spec = paper / "jupyter" / "kernels" / "python3"
    spec.mkdir(parents=True)
    argv = ["sh", "-c", start, "kernel", "-f", "{connection_file}"]
    (spec / "kernel.json").write_text(
        json.dumps({"argv": argv, "display_name": "P", "language": "python"})
    )
    monkeypatch.setenv("JUPYTER_PATH", str(paper / "jupyter"))
    assert running.execute("tiny", {"out": str(paper / "run")}) == paper / "run"
    assert (paper / "tried").exists()
    assert (paper / "run" / "results.json").exists()
    assert "sigma is 25.0" in capsys.readouterr().out
