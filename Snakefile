# prepare → train → the notebooks that make tables and figures, for one experiment of notebooks/params/:
#
#   snakemake --cores all                                        the demo
#   snakemake --cores all --config experiment=shanghaitech       … --dry-run: what it would do and cost
#   snakemake --workflow-profile profiles/slurm --config experiment=paper
#
# What is done is not done again; what was stopped goes on from its last epoch; a changed parameter of a
# run is another run. Jobs are told apart by the marks they leave below results/notebooks/<experiment>/.

import re
import shlex
import sys

import yaml
from snakemake.utils import min_version

from ebclib import studies
from ebclib.config import FIELDS, make_config, project_root, results_root
from ebclib.runs import code_digest

min_version("9.0")

experiment = studies.load(str(config.get("experiment", "demo")))
done = results_root() / "notebooks" / experiment.name


def mark(name):
    """A file that says what is done. Every machine sees it where it lies: no executor carries it."""
    return local(str(done / name))


follows = code_digest() if experiment.follow_code else None
own_python = shlex.quote(sys.executable)

if workflow.is_main_process and any(re.fullmatch("-[a-z]*n[a-z]*|--dry-?run", w) for w in sys.argv):
    table = studies.costs(experiment, config.get("teraflops"))
    print(f"{experiment.title}\n{studies.format_costs(table)}\n", file=sys.stderr)


def configs(wildcards):
    """Every parameter of a job's runs; a change of them redoes the job."""
    return [experiment.cells[name].config.to_dict() for name in experiment.jobs[wildcards.job]]


def needs(wildcards):
    """What a notebook reads: data sets, runs, another notebook's run."""
    name, given = wildcards.notebook, experiment.notebooks[wildcards.notebook]
    marks = [mark(f"prepare-{given['dataset']}.done")] if given.get("dataset") else []
    if "experiment" in given:
        marks += [mark(f"train-{job}.done") for job in experiment.jobs]
    if name == "04_train":  # a run of the tables, too? One of the two trains it
        fields = {k: v for k, v in given.items() if k in FIELDS} | given.get("overrides", {})
        own = make_config(**fields).name
        marks += [mark(f"train-{job}.done") for job, runs in experiment.jobs.items() if own in runs]
    if name in SHOWS_A_MODEL:
        marks.append(mark("04_train.ipynb"))
    return marks


# These show what a model does: that of the run which notebook 04 leaves.
SHOWS_A_MODEL = {"07_visualization", "08_count_your_own"}

# What a training takes; the demo's take seconds on one core.
TRAINING = {
    "threads": 1 if experiment.follow_code else workflow.cores,
    "gpu": 0 if experiment.follow_code else 1,
    "runtime": 60 * 24 * 2,
}


def as_training(what, otherwise):
    """The same for notebook 04, which trains a run of its own, and ``otherwise`` for the others."""
    return lambda wildcards: TRAINING[what] if wildcards.notebook == "04_train" else otherwise


wildcard_constraints:
    job=r"[^/]+",
    notebook=r"\d\d_\w+",
    dataset=r"[^/]+",


rule all:
    input:
        [mark(f"{notebook}.ipynb") for notebook in experiment.notebooks],


rule prepare:
    output:
        touch(mark("prepare-{dataset}.done")),
    params:
        code=follows,
    priority: 30
    shell:
        "{own_python} -m ebclib prepare -- {wildcards.dataset:q}"


rule train:
    input:
        lambda wildcards: [
            mark(f"prepare-{dataset}.done")
            for dataset in sorted({given["dataset"] for given in configs(wildcards)})
        ],
    output:
        touch(mark("train-{job}.done")),
    params:
        configs=configs,
        code=follows,
        runs=lambda wildcards: shlex.join(experiment.jobs[wildcards.job]),
    threads: TRAINING["threads"]
    resources:
        gpu=TRAINING["gpu"],
        mem_mb=12000,
        runtime=TRAINING["runtime"],
    priority: 10
    shell:
        "OMP_NUM_THREADS={threads} {own_python} -m ebclib run {experiment.name:q} --runs {params.runs}"


rule notebook:
    input:
        needs,
        notebook=local(str(project_root() / "notebooks" / "{notebook}.ipynb")),
    output:
        mark("{notebook}.ipynb"),  # one that fails is left as .part.ipynb, to be read
    params:
        given=lambda wildcards: shlex.quote(
            yaml.safe_dump(dict(experiment.notebooks[wildcards.notebook]), default_flow_style=True)
        ),
        part=lambda wildcards, output: output[0].removesuffix("ipynb") + "part.ipynb",
        code=follows,
    threads: as_training("threads", 1)
    resources:
        gpu=as_training("gpu", 0),
        mem_mb=12000,
        runtime=as_training("runtime", 60 * 4),
    priority: lambda wildcards: 20 if wildcards.notebook == "04_train" else 0
    shell:
        "OMP_NUM_THREADS={threads} {own_python} -m papermill --kernel python3 --no-progress-bar "
        "-y {params.given} {input.notebook:q} {params.part:q} 2> >(grep -v IPKernelApp >&2) "
        "&& mv {params.part:q} {output:q}"
