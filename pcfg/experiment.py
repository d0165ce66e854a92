"""`python -m pcfg.experiment`: every stage of a preset, in order, each the command that a person
would type.

runs/pcfg/<preset>/tune/...         sweeps over the students' learning rates, on seeds of their own
runs/pcfg/<preset>/teacher          the teacher's trajectory, its probes, the exact reference
runs/pcfg/<preset>/student/...      one run for each strategy, and the probe of its non-terminals
runs/pcfg/<preset>/budget/...       the same for runs of other lengths
runs/pcfg/<preset>/heads/...        the same, of all lengths, for students of other sizes
runs/pcfg/<preset>/first/...        two-shot students of other first checkpoints
runs/pcfg/<preset>/claims.json      the claims, judged
"""

from dataclasses import dataclass
from pathlib import Path

from common.base.config import IS_EXPERIMENT, Runtime, chosen_preset, describe_presets, parse
from common.base.errors import run_command
from common.experiment.plan import Planner, StageCommand, print_plan, run_stages
from common.runs.tuning import SweepConfig
from common.train.schedule import ScheduleName
from pcfg import ceiling, nonterminal, probe
from pcfg.presets import PRESETS, STRATEGIES, BudgetConfig, Experiment, PCFGPresetName, WindowConfig

TEACHER = "teacher"
CLAIMS = "claims.json"


@dataclass(frozen=True)
class ExperimentCommand:
    """Arguments of `python -m pcfg.experiment`."""

    preset: PCFGPresetName = "quick"
    """Which experiment."""
    root: Path = Path("runs")
    """Where runs are kept."""
    dry_run: bool = False
    """Print every command and whether it has been done or is stale, and why, and stop."""
    runtime: Runtime = Runtime()


def main(args: list[str]) -> None:
    """Run what has not been run yet."""
    preset = chosen_preset(args, PRESETS)
    text = describe_presets(
        "Run a whole PCFG experiment: teacher, probes, students, claims. Start it again to go on.",
        IS_EXPERIMENT,
        PRESETS,
    )
    command = parse(ExperimentCommand, args, prog="pcfg.experiment", description=text)
    stages = plan(preset.name, preset.config, command.root)
    if command.dry_run:
        print_plan(stages)
        return
    run_stages(stages, command.runtime)


def plan(name: str, experiment: Experiment, root: Path) -> list[StageCommand]:
    """Every stage of an experiment, each after those it needs."""
    planner = _Planner("pcfg", name, root / "pcfg" / name, experiment=experiment)
    if experiment.tuning is not None:
        planner.tune(experiment.tuning)
    planner.teach()
    planner.study()
    return planner.stages


@dataclass(kw_only=True)
class _Planner(Planner):
    experiment: Experiment

    def tune(self, tuning: SweepConfig) -> None:
        """One teacher for all students, who see the same sentences: it answers once for the whole
        sweep."""
        self.train("tune/teacher", "--training.seed", str(tuning.seed), "--training.num-seeds", "1")
        grid = ("--optim.learning-rate", *(f"{rate:g}" for rate in tuning.learning_rate))
        seeds = (
            "--training.seed",
            str(tuning.seed),
            "--training.num-seeds",
            str(tuning.num_seeds),
            "--shared-stream",
        )
        for strategy in STRATEGIES:
            of_teacher = () if strategy == "ce" else ("--teacher-seed", str(tuning.seed))
            self._student(
                f"tune/{strategy}", strategy, *grid, *seeds, *of_teacher, teacher="tune/teacher"
            )

    def teach(self) -> None:
        """The teachers and their probes."""
        experiment = self.experiment
        self.train(TEACHER)
        every = ("--every", str(experiment.probe_every))
        self.probe(
            "ngrams", "probe", TEACHER, f"{probe.NAME}.json", *_windows(experiment.probe), *every
        )
        self.probe(
            "ceiling", "ceiling", TEACHER, f"{ceiling.NAME}.json", *_windows(experiment.exact)
        )
        self._nonterminals("nonterminals", TEACHER, experiment.nonterminal.every)

    def study(self) -> None:
        """The students, their probes, and the verdicts."""
        for strategy in STRATEGIES:
            self._student(student(strategy), strategy, *self._tuned(strategy))
            self._nonterminals(f"nonterminals-{strategy}", student(strategy), 0)
        for offset in self.experiment.first.offsets:
            # One word, because an argument that starts with a minus sign is taken for a flag.
            self._student(
                first_run(offset),
                "two-shot",
                f"--supervision.offset={offset}",
                *self._tuned("two-shot"),
            )
        for name, strategy, heads, budget in further_students(self.experiment):
            size = () if heads is None else ("--model.heads", str(heads))
            length = () if budget is None else _length(budget, strategy)
            self._student(name, strategy, *size, *length, *self._tuned(strategy))
        self.claims(CLAIMS)

    def _student(self, name: str, strategy: str, *args: str, teacher: str = TEACHER) -> None:
        self.distill(
            name, "--schedule", strategy, *args, teacher=None if strategy == "ce" else teacher
        )

    def _nonterminals(self, name: str, run: str, every: int) -> None:
        ancestors = self.experiment.nonterminal
        sizes = ("--num-train", str(ancestors.num_train), "--num-eval", str(ancestors.num_eval))
        self.probe(
            name, "nonterminal", run, f"{nonterminal.NAME}.json", "--every", str(every), *sizes
        )

    def _tuned(self, strategy: str) -> tuple[str, ...]:
        return (
            ("--tuned-by", str(self.home / "tune" / strategy))
            if self.experiment.tuning is not None
            else ()
        )


def student(strategy: str, budget: BudgetConfig | None = None, heads: int | None = None) -> str:
    """The run of a strategy, of the student's own length and size or of others."""
    length = "student" if budget is None else f"budget/{budget.steps}"
    return f"{length}/{strategy}" if heads is None else f"heads/{heads}/{length}/{strategy}"


def further_students(
    experiment: Experiment,
) -> list[tuple[str, ScheduleName, int | None, BudgetConfig | None]]:
    """Name, strategy, heads and budget of every student of another length or size (None: the
    student's own)."""
    kinds = [
        (heads, budget)
        for heads in (None, *experiment.heads)
        for budget in (None, *experiment.budgets)
    ]
    return [
        (student(strategy, budget, heads), strategy, heads, budget)
        for heads, budget in kinds[1:]
        for strategy in STRATEGIES
    ]


def first_run(offset: int) -> str:
    """The run of the two-shot students of one first checkpoint."""
    return student("two-shot") if offset == 0 else f"first/at{offset:+d}"


def _length(budget: BudgetConfig, strategy: str) -> tuple[str, ...]:
    if strategy == "ce":
        return "--training.steps", str(budget.steps)
    flags = {"interval": budget.interval, "speed": budget.speed, "first-steps": budget.first_steps}
    return (
        "--training.steps",
        str(budget.steps),
        *(word for flag, value in flags.items() for word in (f"--supervision.{flag}", str(value))),
    )


def _windows(windows: WindowConfig) -> tuple[str, ...]:
    return (
        "--spacing",
        str(windows.spacing),
        "--num-sentences",
        str(windows.num_sentences),
        "--sizes",
        *map(str, windows.sizes),
    )


if __name__ == "__main__":
    run_command(main)
