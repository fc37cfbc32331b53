"""The Snakefile plans one job per parameter set, in the folders that `running` names."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).parent.parent
RESULT = re.compile(r"runs/dncnn/(smoke-\w+)/results\.json")


def plan(tmp_path: Path, **config: object) -> tuple[int, str]:
    """Exit code and words of a dry run with this configuration, from another folder."""
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(config))
    words = ["--snakefile", str(ROOT / "Snakefile"), "--configfile", str(file), "--cores", "2"]
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "--dry-run", "--forceall", *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    return done.returncode, done.stdout + done.stderr


def test_one_job_per_parameter_set_each_in_its_own_folder(tmp_path: Path) -> None:
    sets = "seed=90001;seed=90002 sigma=15"
    code, said = plan(tmp_path, papers="dncnn", profile="smoke", parameters=sets)
    assert code == 0, said
    assert len(set(RESULT.findall(said))) == 2, said
    assert "threads: 2" not in said, "two notebooks side by side have one thread each"


def test_a_list_in_a_configfile_says_the_same_as_text(tmp_path: Path) -> None:
    sets = ["seed=90001", "seed=90002 sigma=15"]
    _, text = plan(tmp_path, papers="dncnn", profile="smoke", parameters=";".join(sets))
    code, said = plan(tmp_path, papers=["dncnn"], profile="smoke", parameters=sets)
    assert code == 0, said
    assert set(RESULT.findall(said)) == set(RESULT.findall(text)) != set()


def test_the_default_is_the_whole_catalogue_at_smoke(tmp_path: Path) -> None:
    from enhancelib.papers import PAPERS

    code, said = plan(tmp_path)
    assert code == 0, said
    assert {slug for slug, _ in re.findall(r"runs/(\w+)/(smoke-\w+)/results", said)} == set(PAPERS)


def test_bad_configuration_is_refused_with_a_sentence(tmp_path: Path) -> None:
    code, said = plan(tmp_path, papers="dncnn", parameters="sigma")
    assert code != 0
    assert "parameters holds 'sigma'; expected name=value" in said
    code, said = plan(tmp_path, papers="dncnn", parameters="out=/tmp/x")
    assert code != 0
    assert "runs lie in runs/" in said
    code, said = plan(tmp_path, papers="dcnn")
    assert code != 0
    assert "no paper 'dcnn'" in said
