"""The stages of every experiment as a graph; each rule is the command that a person would type
(`python -m parity.experiment --dry-run`).

    snakemake figures_parity_quick --cores 2
    snakemake figures_parity_laptop --profile profiles/slurm

Elsewhere than on this machine, jobs ask for what their stages are projected to cost. The projection
is made here before the first job is submitted, or beforehand on a machine of the kind that carries
the jobs out, by

    python -m parity.experiment --preset laptop --dry-run --costs runs/parity/laptop.costs.json
"""

import functools
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, workflow.basedir)
# Commands may be typed in another folder (`--directory`).
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [workflow.basedir, os.environ.get("PYTHONPATH")]))
# Slurm sends signals to Snakemake inside of a job, too, which is to wait until its command has saved.
# (Not ignored: the command would inherit that.)
for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU):
    signal.signal(number, lambda *_: None)

logging.getLogger("snakemake.logging").propagate = False  # what the laboratory imports shows all a second time
from common.experiment import stages as commands  # its `shell` would replace Snakemake's
from common.experiment.batch import NOT_PROJECTED, read_asked
from common.experiment.plan import plan_preset
from figures import loaders, registry
from parity import law

PYTHON = sys.executable
ROOT = Path("runs")
CORES = int(config.get("cores_each", 2))
RUN = "JAX_NUM_CPU_DEVICES={threads} PJRT_NPROC={threads} exec {PYTHON} "
"""The cores that it is granted, and `exec`, so that signals reach the command itself. (The path of Python is filled in late:
another virtual environment makes no other rule.)"""


@functools.cache
def asked_of(experiment, preset):
    """What the jobs of a preset ask for, by the output of a stage."""
    path = ROOT / experiment / f"{preset}.costs.json"
    if not path.exists() and workflow.is_main_process and not workflow.local_exec:
        spec = registry.spec_of(experiment)
        flags = ["--preset", preset, "--root", str(ROOT), "--dry-run", "--costs", str(path)]
        flags += ["--beyond"] if spec.goes_beyond(spec.presets[preset].config) else []
        print(f"projecting what {experiment}/{preset} costs, by a step of each kind", file=sys.stderr)
        cores = {"JAX_NUM_CPU_DEVICES": str(CORES), "PJRT_NPROC": str(CORES)}
        command = [PYTHON, "-m", f"{experiment}.experiment", *flags]
        subprocess.run(command, env=os.environ | cores, check=True, stdout=subprocess.DEVNULL)
    return read_asked(path) if path.exists() else {"": NOT_PROJECTED}


def add_stage(name, stage, experiment, preset):
    """A rule for one stage."""

    def asked(field):
        def of_job(wildcards):
            of_stage = asked_of(experiment, preset)
            return getattr(of_stage.get(str(stage.output), of_stage[""]), field)

        return of_job

    rule:
        name:
            name
        input:
            [str(path) for path in stage.needs],
        output:
            touch(str(stage.output)) if stage.output.name == "DONE" else str(stage.output),
        threads: CORES
        resources:
            mem_mb=asked("mem_mb"),
            runtime=asked("minutes"),
            gpu=asked("gpus"),
        params:
            command=commands.shell(stage).removeprefix("python "),
        shell:
            RUN + "{params.command}"


def add_figures(name, experiment, preset, judgements):
    """A rule that draws the figures of a preset once its claims are judged."""

    rule:
        name:
            name
        input:
            judgements,
        resources:
            mem_mb=4000,
            runtime=30,
        params:
            experiment=experiment,
            preset=preset,
        shell:
            RUN + "-m figures.make --experiment {params.experiment} --preset {params.preset}"


for experiment in registry.names():
    spec = registry.spec_of(experiment)
    study = registry.page_of(experiment).study
    for preset in spec.presets.values():
        full_name, home = f"{experiment}_{preset.name}", ROOT / experiment / preset.name
        goes_beyond = spec.goes_beyond(preset.config)
        for stage in plan_preset(spec, preset.name, ROOT, beyond=goes_beyond):
            add_stage(f"{full_name}/{stage.name}", stage, experiment, preset.name)
        add_figures(f"figures_{full_name}", experiment, preset.name, [str(home / "claims.json")])
        beyond = [str(home / loaders.BEYOND)] if goes_beyond else []
        if study is not None and preset.name in study.presets:
            beyond.append(str(ROOT / study.name / preset.name / study.output))
        if beyond:
            add_figures(f"beyond_{full_name}", experiment, preset.name, beyond)


for preset in law.LAW_PRESETS.values():
    home = ROOT / "law" / preset.name
    # One job for each k, not for each run: most of these take less time than starting Python.
    runs = {k: [str(stage.output) for stage in law.plan(preset.config, home, k)] for k in law.ks_of(preset.config)}
    for k, outputs in runs.items():

        rule:
            name:
                f"law_{preset.name}/k{k}"
            output:
                touch(outputs),
            threads: CORES
            resources:
                mem_mb=8000,
                runtime=240,
            params:
                preset=preset.name,
                k=k,
            shell:
                RUN + "-m parity.law --preset {params.preset} --k {params.k}"

    rule:
        name:
            f"law_{preset.name}"
        input:
            sum(runs.values(), []),
        output:
            str(home / law.FITS),
        params:
            preset=preset.name,
        shell:
            RUN + "-m parity.law --preset {params.preset}"
