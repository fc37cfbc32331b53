"""Run many notebooks: one machine, or a cluster with --executor slurm | kubernetes.

    --config papers="dncnn ..."     default: every notebook of the catalogue
             profile=smoke          smoke, small, large or paper
             parameters="sigma=15;sigma=25 seed=1"     one run per set; a configfile may give a list

Each run writes into its own folder, whose name carries a hash of its parameters. results.json is
the only declared output, because Snakemake deletes the outputs of a failed job: the partial
notebook, the log and the checkpoints stay, and the next call resumes from them.
"""

import shlex
import sys
from pathlib import Path

from enhancelib import papers, running, runtime

workdir: runtime.root()

PROFILE = config.get("profile") or "smoke"
MEMORY = {"smoke": 4000, "small": 6000, "large": 16000, "paper": 32000}  # MB


def several(value):
    """A list from a configfile, or text from the command line."""
    return value if isinstance(value, list) else str(value or "").replace(",", " ").split()


def parameter_sets(value):
    """[{"sigma": "25"}, ...] from "sigma=25 seed=1;sigma=50" or from a configfile's list."""
    sets = value if isinstance(value, list) else str(value or "").split(";")
    for part in " ".join(sets).split():
        if "=" not in part:
            raise ValueError(f"parameters holds {part!r}; expected name=value, such as sigma=25")
        if part.startswith(("out=", "profile=")):
            raise ValueError(f"parameters holds {part!r}; runs lie in runs/, profile is a config of its own")
    return [dict(part.split("=", 1) for part in text.split()) for text in sets]


def planned():
    """(slug, folder name) -> its parameters, for every run asked for."""
    runs = {}
    for slug in several(config.get("papers")) or list(papers.PAPERS):
        for parameters in parameter_sets(config.get("parameters")):
            given = running.parse(slug, {"profile": PROFILE, **parameters})
            folder = running.folder(slug, given)
            runs[slug, folder.name] = parameters
    return runs


def options(wildcards):
    given = RUNS[wildcards.slug, wildcards.name]
    return " ".join(f"-p {shlex.quote(f'{key}={value}')}" for key, value in given.items())


def report():
    """Say for every run where its tables, figures and executed notebook lie."""
    for slug, name in RUNS:
        folder = runtime.root() / "runs" / slug / name
        done = (folder / "results.json").is_file()
        print(f"\n{slug} ({PROFILE}): {'finished' if done else 'FAILED'}", file=sys.stderr)
        for what, pattern in (("tables", "tables"), ("figures", "figures"), ("notebook", "*.ipynb")):
            for path in sorted(folder.glob(pattern)):
                print(f"  {what:9}{path}", file=sys.stderr)
        if not done:
            print(f"  {'log':9}{folder / 'snakemake.log'}", file=sys.stderr)


RUNS = planned()


wildcard_constraints:
    slug="[^/]+",
    name="[^/]+",


localrules:
    all,


rule all:
    input:
        [f"runs/{slug}/{name}/results.json" for slug, name in RUNS],
    # a command, so that --forcerun all (make reproduce) reports also when all is there already
    shell:
        ":"


rule run:
    input:
        "notebooks/{slug}.ipynb",
    output:
        "runs/{slug}/{name}/results.json",
    log:
        "runs/{slug}/{name}/snakemake.log",
    params:
        options=options,
        profile=PROFILE,
    # one thread each where notebooks run side by side; a run keeps its thread count for life
    threads: 1 if len(RUNS) > 1 else (workflow.cores or 1)
    resources:
        mem_mb=MEMORY.get(PROFILE, 16000),
        gpu=1 if PROFILE in ("large", "paper") else 0,
    shell:
        "{sys.executable} -m enhancelib.cli run {wildcards.slug} --profile {params.profile}"
        " {params.options} 2>&1 | tee {log:q}"


onsuccess:
    report()


onerror:
    report()
