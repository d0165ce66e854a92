"""`python -m parity.experiment`: every stage of a preset, in order, each the command that a person
would type.

    runs/parity/<preset>/tune/...       sweeps over learning rates, on seeds of their own
    runs/parity/<preset>/teacher        the teacher's trajectory, and its probes
    runs/parity/<preset>/student/...    one run for each supervision strategy, and on labels for
                                        each size of the model
    runs/parity/<preset>/claims.json    the claims, judged

With --beyond also what the paper does not have, as far as the preset does:

    runs/parity/<preset>/tree           the teacher's model on hierarchical parity
    runs/parity/<preset>/first/...      two-shot students, one run for each first checkpoint
    runs/parity/<preset>/teacher-<seed> further teachers, and their probes
    runs/parity/<preset>/beyond.json    the claims on these, judged

Each stage names the files it reads (`needs`), so that the Snakefile builds its graph from the same
list.
"""

from dataclasses import dataclass
from pathlib import Path

from common.base.config import (
    IS_EXPERIMENT,
    PresetName,
    Runtime,
    chosen_preset,
    describe_presets,
    parse,
)
from common.base.errors import run_command
from common.base.size import Size
from common.experiment.plan import Planner, StageCommand, print_plan, run_stages
from common.runs.tuning import SWEEP_STOP_AFTER
from parity import probe
from parity.first_checkpoints import first_run, replica_name
from parity.presets import PRESETS, Experiment, FirstCheckpointConfig

# One teacher that has not learnt must not end an experiment of many: its final checkpoint then
# teaches alone, and its student is counted.
TWO_SHOT = ("--schedule", "two-shot", "--supervision.without-transition", "final")
STRATEGIES: dict[str, tuple[str, ...]] = {
    "one-shot": ("--schedule", "one-shot"),
    "one-shot-soft": ("--schedule", "one-shot", "--loss.labels", "soft"),
    "progressive": ("--schedule", "progressive"),
    "two-shot": (*TWO_SHOT, "--supervision.candidate", "during"),
    "two-shot-before": (*TWO_SHOT, "--supervision.candidate", "before"),
    "two-shot-after": (*TWO_SHOT, "--supervision.candidate", "after"),
    "projections": ("--schedule", "projections"),
}
TREE = "tree"
TEACHER = "teacher"
CLAIMS, BEYOND = "claims.json", "beyond.json"


@dataclass(frozen=True)
class ExperimentCommand:
    """Arguments of `python -m parity.experiment`."""

    preset: PresetName = "quick"
    """Which experiment."""
    root: Path = Path("runs")
    """Where runs are kept."""
    beyond: bool = False
    """Run what the paper does not have as well."""
    dry_run: bool = False
    """Print every command and whether it has been done or is stale, and why, and stop."""
    runtime: Runtime = Runtime()


def main(args: list[str]) -> None:
    """Run what has not been run yet."""
    preset = chosen_preset(args, PRESETS)
    text = (
        "Run a whole parity experiment: tuning, teacher, students, probe, claims. Start it again to"
        " go on."
    )
    text = describe_presets(text, IS_EXPERIMENT, PRESETS)
    command = parse(ExperimentCommand, args, prog="parity.experiment", description=text)
    stages = plan(preset.name, preset.config, command.root, beyond=command.beyond)
    if command.dry_run:
        print_plan(stages)
        return
    run_stages(stages, command.runtime)


def plan(
    name: str, experiment: Experiment, root: Path, *, beyond: bool = False
) -> list[StageCommand]:
    """Every stage of an experiment, each after those it needs; those beyond the paper, where asked
    for, last."""
    planner = _Planner("parity", name, root / "parity" / name, experiment=experiment)
    if experiment.tuning is not None:
        planner.tune()
    planner.report()
    if beyond:
        planner.go_beyond()
    return planner.stages


@dataclass(kw_only=True)
class _Planner(Planner):
    experiment: Experiment

    @property
    def strategies(self) -> dict[str, tuple[str, ...]]:
        """Where soft labels are the experiment's own, one-shot has them already."""
        soft = self.experiment.student.loss.labels == "soft"
        return {
            strategy: flags
            for strategy, flags in STRATEGIES.items()
            if not (soft and strategy == "one-shot-soft")
        }

    def tune(self) -> None:
        tuning = self.experiment.tuning
        assert tuning is not None
        seeds = ("--training.seed", str(tuning.seed), "--training.num-seeds", str(tuning.num_seeds))
        sweep = (
            "--optim.learning-rate",
            *(f"{rate:g}" for rate in tuning.learning_rate),
            *seeds,
            "--training.stop-after",
            f"{SWEEP_STOP_AFTER:g}",
        )
        for size in self.experiment.label_budgets:
            self.distill(f"tune/ce-{size.tag}", *self._labels(size), *sweep)
        if (
            tuning.teacher
            and self.experiment.teacher.model.size not in self.experiment.label_budgets
        ):
            self.train("tune/teacher-rate", "--training.checkpoint-every", "0", *sweep)
        self.train("tune/teacher", *self._tuned_teacher(), *seeds)
        for strategy, flags in self.strategies.items():
            self.distill(
                f"tune/{strategy}", *flags, *self._budget(strategy), *sweep, teacher="tune/teacher"
            )

    def report(self) -> None:
        self.train(TEACHER, *self._tuned_teacher())
        self._probe(TEACHER)
        for size in self.experiment.label_budgets:
            if size != self.experiment.teacher.model.size:
                self.distill(
                    f"student/ce-{size.tag}",
                    *self._labels(size),
                    *self._tuned(f"tune/ce-{size.tag}"),
                )
        for strategy, flags in self.strategies.items():
            self.distill(
                f"student/{strategy}",
                *flags,
                *self._budget(strategy),
                *self._tuned(f"tune/{strategy}"),
                teacher=TEACHER,
            )
        self.claims(CLAIMS)

    def go_beyond(self) -> None:
        """Hierarchical parity, first checkpoints, further teachers, and the claims on them."""
        if (tree := self.experiment.tree) is not None:
            problem = ("--data.k", str(tree.k), "--data.depth", str(tree.depth))
            training = (
                "--training.steps",
                str(tree.steps),
                "--training.eval-every",
                str(tree.eval_every),
                "--training.checkpoint-every",
                "0",
            )
            self.train(TREE, *problem, *training)
        if self.experiment.first is not None:
            self._first_checkpoints(TEACHER, self.experiment.first)
            for replica in self.experiment.replicas:
                name = replica_name(replica)
                budget = (
                    "--training.steps",
                    str(replica.steps),
                    "--training.stop-after",
                    f"{replica.stop_after:g}",
                )
                self.train(name, "--training.seed", str(replica.seed), *budget)
                self._probe(name)
                self._first_checkpoints(
                    name, self.experiment.first, "--teacher-seed", str(replica.seed)
                )
        if self.experiment.goes_beyond:
            self.claims(BEYOND, "--beyond")

    def _first_checkpoints(self, teacher: str, first: FirstCheckpointConfig, *args: str) -> None:
        budget = (
            "--training.steps",
            str(first.steps),
            "--training.eval-every",
            str(first.eval_every),
            "--training.num-seeds",
            str(first.num_seeds),
        )
        budget += ("--supervision.first-steps", str(first.first_steps))
        for offset in first.offsets:
            # One word, because an argument that starts with a minus sign is taken for a flag.
            flags = (*TWO_SHOT, f"--supervision.offset={offset}", *budget, *args)
            self.distill(
                first_run(teacher, offset), *flags, *self._tuned("tune/two-shot"), teacher=teacher
            )

    def _probe(self, teacher: str) -> None:
        name = "probe" if teacher == TEACHER else f"probe-{teacher}"
        self.probe(
            name,
            "probe",
            teacher,
            probe.SUMMARY,
            "--num-examples",
            str(self.experiment.probe_examples),
        )

    def _labels(self, size: Size) -> tuple[str, ...]:
        return (
            "--schedule",
            "ce",
            size.flag,
            str(size.value),
            "--training.steps",
            str(self.experiment.label_budgets[size]),
        )

    def _budget(self, strategy: str) -> tuple[str, ...]:
        experiment = self.experiment
        steps = (
            experiment.label_steps
            if strategy.startswith("one-shot")
            else None
            if strategy == "progressive"
            else experiment.short_steps
        )
        return () if steps is None else ("--training.steps", str(steps))

    def _tuned(self, sweep: str) -> tuple[str, ...]:
        return ("--tuned-by", str(self.home / sweep)) if self.experiment.tuning is not None else ()

    def _tuned_teacher(self) -> tuple[str, ...]:
        if self.experiment.tuning is None or not self.experiment.tuning.teacher:
            return ()
        size = self.experiment.teacher.model.size
        return self._tuned(
            f"tune/ce-{size.tag}" if size in self.experiment.label_budgets else "tune/teacher-rate"
        )


if __name__ == "__main__":
    run_command(main)
