"""The command line: exit codes, sentences on stderr, and the photo of a user."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import skimage.data
import torch

from enhancelib import __version__, capacity, cli, images, papers, results, runtime
from tests import tiny
from tests.archives import local_pip

PROGRAM = Path(sys.executable).parent / "enhancelib"
HELD_OUT = skimage.data.chelsea()


def refused(capsys: pytest.CaptureFixture[str], *words: str | Path, code: int = 2) -> str:
    """What the command line says as it gives up; one sentence, nothing on stdout."""
    assert cli.main([str(word) for word in words]) == code
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("enhancelib: ")
    assert said.err.count("\n") == 1
    return said.err.removeprefix("enhancelib: ").strip()


def program(*words: str | Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    """The installed command, in a process of its own."""
    done = subprocess.run(
        [PROGRAM, *map(str, words)], capture_output=True, text=True, timeout=300, cwd="/"
    )
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done


# The program itself.


def test_the_installed_command_tells_its_version() -> None:
    assert program("--version").stdout == f"enhancelib {__version__}\n"


def test_the_installed_command_refuses_before_a_kernel_starts() -> None:
    done = program("run", "dncnn", "-p", "sigma=900", code=2)
    assert done.stdout == ""
    assert done.stderr == ("enhancelib: dncnn: sigma is 900.0; expected a number from 1 to 75\n")


@pytest.mark.parametrize(
    "words",
    [
        "",
        "denoise",
        "run",
        "run dncnn --prfile small",
        "table",
        "table runs --format html",
        "enhance dncnn photo.png",
        "publish",
        "fetch photos",
    ],
)
def test_what_argparse_refuses_ends_with_2(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(words.split())
    assert stopped.value.code == 2
    assert "usage: enhancelib" in capsys.readouterr().err


def test_list_names_papers_and_their_parameters(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("dncnn  Beyond a Gaussian Denoiser")
    assert "    sigma=25.0: noise level in 8-bit units" in lines


# run


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("dcnn", "no paper 'dcnn'; the catalogue has dncnn"),
        ("dncnn --profile huge", "dncnn: profile is 'huge'; expected one of smoke, small, large"),
        ("dncnn -p proflie=paper", "no parameter 'proflie' (did you mean 'profile'?); it takes"),
        ("dncnn -p sigma", "-p takes NAME=VALUE, got 'sigma'"),
        ("dncnn -p =3", "-p takes NAME=VALUE, got '=3'"),
        ("dncnn -p seed=1 -p seed=2", "parameter 'seed' is given twice"),
        ("dncnn --profile small -p profile=smoke", "parameter 'profile' is given twice"),
        ("dncnn -p seeds=2.5", "seeds is '2.5' (text); expected a whole number from 1 to 100"),
        ("dncnn -p steps=1e3", "steps is '1e3' (text); expected a whole number"),
        ("dncnn -p sigma=nan", "sigma is nan; expected a number from 1 to 75"),
        ("dncnn -p device=cuda:99", "device is 'cuda:99', but this machine has"),
        ("dncnn -p weights=/nowhere", "'/nowhere' does not exist"),
        ("dncnn -p data_root=/nowhere", "/nowhere"),
    ],
)
def test_run_refuses(words: str, reason: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert reason in refused(capsys, "run", *words.split())


def test_run_into_a_folder_that_cannot_be_written(capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(capsys, "run", "dncnn", "--out", "/proc/nowhere", code=1)
    assert said.startswith("the run folder /proc/nowhere cannot be written (")


# fetch


@pytest.fixture
def no_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and a pip that finds nothing."""
    monkeypatch.setenv("ENHANCELIB_CACHE", str(tmp_path / "cache"))
    (tmp_path / "links").mkdir()
    local_pip(monkeypatch, tmp_path / "links")
    return tmp_path / "cache"


def test_fetch_list_says_what_there_is(
    no_packages: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["fetch", "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 5
    assert all(line.startswith("absent") and " MB: " in line for line in lines)
    assert not no_packages.exists()


def test_fetch_refuses_an_unknown_name(
    no_packages: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refused(capsys, "fetch", "--only", "photos,pictures")
    assert said.startswith("only is 'pictures'; expected some of photos, features, vgg16")


def test_fetch_that_fails_ends_with_1_and_says_what_still_works(
    no_packages: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["fetch", "--only", "alexnet"]) == 1
    said = capsys.readouterr().err
    assert "without it, " in said
    assert "Traceback" not in said


# table


def finished(folder: Path, sigma: float, *, ends: bool = True) -> Path:
    """A run as a notebook leaves it: three seeds, one of them n/a; a baseline; a repeated row."""
    parameters = {"sigma": sigma, "seed": 0}
    run = results.Run("dncnn", "smoke", parameters, folder, runtime.setup("cpu"))
    setting = f"sigma={sigma:g}"
    for seed, value in enumerate((30.0, 31.0, float("nan"))):
        for table in ("ablation", "gain"):
            run.record(
                dataset="photos", method="residual", metric="psnr_8bit", seed=seed, table=table,
                value=value - sigma / 10, setting=setting,
            )  # fmt: skip
        run.record(dataset="photos", method="residual", metric="psnr_8bit", seed=seed, value=99.0,
                   image="coffee", setting=setting)  # fmt: skip
    run.record(dataset="photos", method="BM3D", metric="psnr_8bit", value=29.0, setting=setting)
    run.record(dataset="photos", method="BM3D", metric="ssim", value=0.9, setting=setting)
    run.record(dataset="photos", method="copy", metric="psnr_8bit", value=float("inf"),
               setting=setting)  # fmt: skip
    run.record(dataset="photos", method="residual", metric="r2", value=0.5, image="layer 1")
    if ends:
        run.finish()
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    base = tmp_path_factory.mktemp("runs")
    return finished(base / "a", 15.0), finished(base / "b", 25.0)


def table(capsys: pytest.CaptureFixture[str], *words: str | Path) -> list[str]:
    assert cli.main(["table", *map(str, words)]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    return said.out.splitlines()


def test_table_gives_mean_spread_and_number(
    runs: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    lines = table(capsys, *runs, "--by", "sigma,method", "--format", "csv")
    assert lines == [
        "sigma,method,mean,std,n",
        "15.0,residual,29.0,0.7071,2",  # 28.5 and 29.5, each in two tables; the third is n/a
        "15.0,BM3D,29.0,,1",
        "15.0,copy,,,0",  # infinite
        "25.0,residual,28.0,0.7071,2",
        "25.0,BM3D,29.0,,1",
        "25.0,copy,,,0",
    ]


def test_table_over_runs_joins_what_is_equal(
    runs: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    lines = table(capsys, *runs, "--by", "method", "--format", "csv")
    assert lines[1:3] == ["residual,28.5,0.8165,4", "BM3D,29.0,0.0,2"]


def test_table_by_table_and_by_image_keeps_them_apart(
    runs: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    lines = table(capsys, runs[0], "--by", "table,method", "--format", "csv")
    assert lines[1:3] == ["ablation,residual,29.0,0.7071,2", "gain,residual,29.0,0.7071,2"]
    lines = table(capsys, runs[0], "--by", "image", "--metric", "r2", "--format", "csv")
    assert lines[1:] == ["layer 1,0.5,,1"]


def test_table_in_markdown_and_latex_names_its_protocol(
    runs: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    lines = table(capsys, *runs)
    assert lines[0] == "| dataset | setting | method | mean | std | n |"
    assert lines[2] == "| photos | sigma=15 | residual | 29 | 0.7071 | 2 |"
    assert "PSNR" in lines[-1]
    lines = table(capsys, *runs, "--format", "tex")
    assert lines[0] == r"\begin{tabular}{llllll}"
    assert lines[-1].startswith("% PSNR")


def test_table_takes_results_json_too(
    runs: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    by_folder = table(capsys, runs[0], "--format", "csv")
    assert table(capsys, runs[0] / "results.json", "--format", "csv") == by_folder


def test_table_counts_a_run_that_is_named_twice_once(
    runs: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    once = table(capsys, runs[0], "--format", "csv")
    assert table(capsys, runs[0], runs[0], "--format", "csv") == once


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--by", "sgima"), "no column 'sgima'; there are table, dataset, setting, method"),
        (("--metric", "psnr"), "no run has values of metric 'psnr'; there are psnr_8bit, ssim, r2"),
        (("--metric", "r2"), "'r2' has no mean over images; add image to --by"),
    ],
)
def test_table_refuses(
    runs: tuple[Path, Path],
    words: tuple[str, ...],
    reason: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert refused(capsys, "table", *runs, *words).startswith(reason)


def test_table_of_a_run_that_has_not_ended(
    runs: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unfinished = finished(tmp_path / "c", 50.0, ends=False)
    assert refused(capsys, "table", unfinished).startswith(f"{unfinished} holds no results.json")
    # of a sweep, the others are shown, and the missing one is named
    assert cli.main(["table", str(runs[0]), str(unfinished), "--format", "csv"]) == 0
    said = capsys.readouterr()
    assert said.err.startswith(f"enhancelib: left out: {unfinished} holds no results.json")
    assert len(said.out.splitlines()) == 4
    assert cli.main(["table", str(unfinished), str(tmp_path)]) == 2
    assert "none of these runs has ended" in capsys.readouterr().err


def test_table_of_a_broken_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = finished(tmp_path / "d", 50.0)
    (folder / "values.csv").unlink()
    assert "values.csv" in refused(capsys, "table", folder, code=1)
    (folder / "results.json").write_text("{")
    assert "results.json is not valid JSON" in refused(capsys, "table", folder)
    (folder / "results.json").write_text("[]")
    assert "results.json has schema None; this version reads 1" in refused(capsys, "table", folder)


# publish and status; their work is tested in test_publishing.py


def test_publish_refuses_what_is_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert refused(capsys, "publish", tmp_path).startswith(f"{tmp_path} holds no results.json")


def test_status_prints_and_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(runtime, "root", lambda: tmp_path)
    assert cli.main(["status"]) == 0
    assert capsys.readouterr().out.startswith("| paper | profile | judged by | held | not held")
    readme = tmp_path / "README.md"
    readme.write_text("a\n<!-- status:begin -->\nold\n<!-- status:end -->\nz\n")
    assert cli.main(["status", "--write"]) == 0
    assert "No results published yet." in readme.read_text()
    readme.write_text("no markers")
    assert cli.main(["status", "--write"]) == 2
    assert "README.md has no <!-- status:begin -->" in capsys.readouterr().err


def test_status_of_this_repository_runs() -> None:
    frame = pd.DataFrame([line.split("|") for line in program("status").stdout.splitlines()])
    assert len(frame) >= 2


# enhance: what the network does is tested in papers/dncnn/test_enhance.py


def test_enhance_refuses_a_paper_without_a_network_for_photos(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny.lend(tmp_path, monkeypatch)
    said = refused(capsys, "enhance", "tiny", "in.png", "-o", "out.png")
    assert said == "tiny has no network for a photo of your own"
    said = refused(capsys, "enhance", "dcnn", "in.png", "-o", "out.png")
    assert said.startswith("no paper 'dcnn'")


@pytest.mark.parametrize("option", ["task", "reference", "steps"])
def test_enhance_refuses_options_that_a_paper_lacks(
    tmp_path: Path, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("in.png", "-o", tmp_path / "out.png", f"--{option}", "1")
    for slug in papers.PAPERS:
        if papers.load(slug).options:
            continue
        assert refused(capsys, "enhance", slug, *words) == f"{slug} takes no --{option}"


def test_enhance_gives_a_paper_the_options_that_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[dict[str, object]] = []

    def enhance(image: torch.Tensor, file: Path | None, **given: object) -> torch.Tensor:
        asked.append(given)
        return image

    paper = replace(papers.load("dncnn"), enhance=enhance, options=("task", "reference"))
    monkeypatch.setattr(papers, "load", lambda slug: paper)
    photo, result = tmp_path / "in.png", tmp_path / "out.png"
    images.write(photo, torch.zeros(3, 4, 5))
    words = ["enhance", "dncnn", str(photo), "-o", str(result)]
    assert cli.main(words) == 0
    assert cli.main([*words, "--task", "x", "--reference", "s.png"]) == 0
    assert asked == [{}, {"task": "x", "reference": Path("s.png")}]
    assert cli.main([*words, "--steps", "2"]) == 2
    assert "dncnn takes no --steps" in capsys.readouterr().err


def test_enhance_tells_of_too_little_memory_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def enhance(image: torch.Tensor, file: Path | None) -> torch.Tensor:
        capacity.insist_memory(10**15, torch.device("cpu"), "a photo of 5 x 4 pixels")
        return image

    paper = replace(papers.load("dncnn"), enhance=enhance)
    monkeypatch.setattr(papers, "load", lambda slug: paper)
    images.write(tmp_path / "in.png", torch.zeros(3, 4, 5))
    words = ("enhance", "dncnn", tmp_path / "in.png", "-o", tmp_path / "out.png")
    said = refused(capsys, *words)
    assert said.startswith("a photo of 5 x 4 pixels needs about 1000000.0 GB of memory on cpu")
