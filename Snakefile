"""The stages of an experiment as a graph; each rule is the command that a person would type (`python -m parity.experiment --dry-run`).

    snakemake figures_parity_quick --cores 2
"""

import sys
from pathlib import Path

sys.path.insert(0, workflow.basedir)
import parity.experiment
import pcfg.experiment
from parity import law

PYTHON = sys.executable

for experiment, of_presets, planned in (("parity", parity.presets.PRESETS, parity.experiment.plan), ("pcfg", pcfg.presets.PRESETS, pcfg.experiment.plan)):
    for preset in of_presets.values():
        goes_beyond = experiment == "parity" and preset.config.goes_beyond
        flags = {"beyond": True} if goes_beyond else {}
        for stage in planned(preset.name, preset.config, Path("runs"), **flags):

            rule:
                name:
                    f"{experiment}/{preset.name}/{stage.name}"
                input:
                    [str(path) for path in stage.needs],
                output:
                    touch(str(stage.output)) if stage.output.name == "DONE" else str(stage.output),
                threads: 2
                resources:
                    mem_mb=8000,
                    runtime=240,
                params:
                    command=stage.shell.removeprefix("python"),
                    python=PYTHON,
                shell:
                    "{params.python} {params.command}"

        rule:
            name:
                f"figures_{experiment}_{preset.name}"
            input:
                f"runs/{experiment}/{preset.name}/claims.json",
            params:
                experiment=experiment,
                preset=preset.name,
                python=PYTHON,
            shell:
                "{params.python} -m figures.make --experiment {params.experiment} --preset {params.preset}"

        if goes_beyond:

            rule:
                name:
                    f"beyond_{experiment}_{preset.name}"
                input:
                    f"runs/{experiment}/{preset.name}/beyond.json",
                    f"runs/law/{preset.name}/{law.FITS}" if preset.name in law.LAW_PRESETS else [],
                params:
                    experiment=experiment,
                    preset=preset.name,
                    python=PYTHON,
                shell:
                    "{params.python} -m figures.make --experiment {params.experiment} --preset {params.preset}"


for preset in law.LAW_PRESETS.values():
    home = Path("runs") / "law" / preset.name
    # One job for each k, not for each run: most of these take less time than starting Python.
    runs = {k: [str(stage.output) for stage in law.plan(preset.config, home, k)] for k in sorted({point.k for point in preset.config.points})}
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
