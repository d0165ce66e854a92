"""`python -m pcfg.experiment`: every stage of a preset, in order, each the command that a person would type.

runs/pcfg/<preset>/teacher          the teacher's trajectory, its probes, and the exact reference of its data
runs/pcfg/<preset>/student/...      one run for each supervision strategy
runs/pcfg/<preset>/claims.json      the claims, judged
"""

from dataclasses import dataclass
from pathlib import Path

from common.config import Runtime, chosen_preset, describe_presets, parse
from common.errors import run_command
from common.mesh import keep_compiled
from common.plan import StageCommand, print_plan, run_stages
from common.runs import DONE
from pcfg.presets import PRESETS, Experiment, PCFGPresetName, WindowConfig

STRATEGIES: dict[str, tuple[str, ...]] = {
    "ce": ("--schedule", "ce"),
    "one-shot": ("--schedule", "one-shot"),
    "progressive": ("--schedule", "progressive"),
    "two-shot": ("--schedule", "two-shot"),
}
CLAIMS = "claims.json"


@dataclass(frozen=True)
class ExperimentCommand:
    """Arguments of `python -m pcfg.experiment`."""

    preset: PCFGPresetName = "quick"
    """Which experiment."""
    root: Path = Path("runs")
    """Where runs are kept."""
    dry_run: bool = False
    """Print every command and whether it has been done, and stop."""
    runtime: Runtime = Runtime()


def main(args: list[str]) -> None:
    """Run what has not been run yet."""
    preset = chosen_preset(args, PRESETS)
    text = describe_presets("Run a whole PCFG experiment: teacher, probes, students, claims. Start it again to go on.", PRESETS)
    command = parse(ExperimentCommand, args, prog="pcfg.experiment", description=text)
    stages = plan(preset.name, preset.config, command.root)
    if command.dry_run:
        print_plan(stages)
        return
    keep_compiled(command.root / "pcfg" / preset.name / "compiled")
    run_stages(stages, command.runtime)


def plan(name: str, experiment: Experiment, root: Path) -> list[StageCommand]:
    """Every stage of an experiment, each after those it needs."""
    home = root / "pcfg" / name
    teacher, probes = home / "teacher", home / "teacher" / "probes"
    trained = teacher / DONE
    stages = [StageCommand("teacher", "pcfg.train", ("--preset", name, "--run-dir", str(teacher)), trained, ())]
    stages.append(
        StageCommand(
            "ngrams",
            "pcfg.probe",
            (str(teacher), *_windows(experiment.probe), "--every", str(experiment.probe_every)),
            probes / "ngram.json",
            (trained,),
        )
    )
    stages.append(StageCommand("ceiling", "pcfg.ceiling", (str(teacher), *_windows(experiment.exact)), probes / "ceiling.json", (trained,)))
    ancestors = ("--every", str(experiment.nonterminal.every), "--num-train", str(experiment.nonterminal.num_train))
    ancestors += ("--num-eval", str(experiment.nonterminal.num_eval))
    stages.append(StageCommand("nonterminals", "pcfg.nonterminal", (str(teacher), *ancestors), probes / "nonterminals.json", (trained,)))
    for strategy, flags in STRATEGIES.items():
        student = home / "student" / strategy
        from_teacher = () if strategy == "ce" else ("--teacher", str(teacher))
        args = ("--preset", name, "--run-dir", str(student), *flags, *from_teacher)
        stages.append(StageCommand(f"student/{strategy}", "pcfg.distill", args, student / DONE, (trained,) if from_teacher else ()))
    needs = tuple(stage.output for stage in stages)
    return [*stages, StageCommand("claims", "pcfg.claims", ("--preset", name, "--root", str(root)), home / CLAIMS, needs)]


def _windows(windows: WindowConfig) -> tuple[str, ...]:
    return ("--spacing", str(windows.spacing), "--num-sentences", str(windows.num_sentences), "--sizes", *map(str, windows.sizes))


if __name__ == "__main__":
    run_command(main)
