"""The stages of every experiment as a graph; each rule is the command that a person would type
(`python -m parity.experiment --dry-run`).

    snakemake figures_parity_quick --cores 2
"""

import sys
from pathlib import Path

sys.path.insert(0, workflow.basedir)
from common.experiment import stages as commands  # its `shell` would replace Snakemake's
from common.experiment.plan import plan_preset
from figures import loaders, registry
from parity import law

PYTHON = sys.executable
ROOT = Path("runs")


def add_stage(name, stage):
    """A rule for one stage."""

    rule:
        name:
            name
        input:
            [str(path) for path in stage.needs],
        output:
            touch(str(stage.output)) if stage.output.name == "DONE" else str(stage.output),
        threads: 2
        resources:
            mem_mb=8000,
            runtime=240,
        params:
            command=commands.shell(stage).removeprefix("python"),
            python=PYTHON,
        shell:
            "{params.python} {params.command}"


def add_figures(name, experiment, preset, judgements):
    """A rule that draws the figures of a preset once its claims are judged."""

    rule:
        name:
            name
        input:
            judgements,
        params:
            experiment=experiment,
            preset=preset,
            python=PYTHON,
        shell:
            "{params.python} -m figures.make --experiment {params.experiment} --preset {params.preset}"


for experiment in registry.names():
    spec = registry.spec_of(experiment)
    study = registry.page_of(experiment).study
    for preset in spec.presets.values():
        full_name, home = f"{experiment}_{preset.name}", ROOT / experiment / preset.name
        goes_beyond = spec.goes_beyond(preset.config)
        for stage in plan_preset(spec, preset.name, ROOT, beyond=goes_beyond):
            add_stage(f"{full_name}/{stage.name}", stage)
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
            resources:
                mem_mb=8000,
                runtime=240,
            params:
                preset=preset.name,
                k=k,
                python=PYTHON,
            shell:
                "{params.python} -m parity.law --preset {params.preset} --k {params.k}"

    rule:
        name:
            f"law_{preset.name}"
        input:
            sum(runs.values(), []),
        output:
            str(home / law.FITS),
        params:
            preset=preset.name,
            python=PYTHON,
        shell:
            "{params.python} -m parity.law --preset {params.preset}"
