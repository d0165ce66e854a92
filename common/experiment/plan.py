"""An experiment as a list of stages, and carrying it out.

A stage is done if what is there was made from what it would be made from now
(`common.runs.lineage`). Otherwise it is stale: nothing goes on from it, the stale stages are named,
and the user moves them away. Judgements alone are made again without asking.
"""

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from common.base import processes
from common.base.config import Overrides, Runtime, TrainingConfig
from common.base.errors import UserError
from common.base.interruption import telling
from common.base.mesh import set_up_devices
from common.base.progress import Whole, above_bars, shown_whole
from common.experiment.costs import Cost, describe_total, known_costs, projected_costs
from common.experiment.spec import ExperimentSpec, Part, Probe
from common.experiment.stages import DataStage, JudgementStage, ProbeStage, RunStage, Stage, shell
from common.runs.files import bytes_text
from common.train import schedule

WIDTH_OF_FILES = 100
"""Letters in a line of a table where there is no terminal whose width would count."""


@dataclass(frozen=True)
class State:
    """Whether a stage has to be carried out."""

    word: Literal["done", "to do", "stale"]
    reason: str = ""
    """Of a stale one, to be read after its name; of one to do, how far it is."""


@dataclass
class Planner:
    """Collects the stages of an experiment, each after those it needs."""

    spec: ExperimentSpec
    experiment: Any
    """Its configuration, with a `teacher` and a `student`."""
    home: Path
    """Where its runs are: ROOT/NAME/PRESET."""
    preset: str | None = None
    """The configuration's name; without one its stages have no commands."""
    stages: list[Stage] = field(default_factory=list)

    def prepare(
        self,
        name: str,
        command: tuple[str, ...],
        main: Callable[[list[str]], None],
        output: Path,
        *,
        trains: bool = False,
    ) -> None:
        """Data for all runs that are planned after it.

        Args:
            name: of the stage.
            command: the module and the words that a person would type.
            main: that of the module.
            output: the file that it writes last, in a folder of the data's own.
            trains: whether it is a command that trains.
        """
        self.stages.append(DataStage(name, command, main, output, trains))

    def train(self, name: str, overrides: Overrides, tuned_by: str | None = None) -> None:
        """A run on labels, kept in the folder `name`.

        Args:
            name: below `home`. What begins with `tune/` is a sweep over learning rates: its
                results come into tuning.csv beside the verdicts.
            overrides: what differs from the experiment's teacher.
            tuned_by: the sweep that chooses its rate.

        Raises:
            UserError: the plan has a run of that name, or none of the one that it needs.
        """
        self._run(name, "train", self.experiment.teacher, overrides, None, tuned_by)

    def distill(
        self,
        name: str,
        overrides: Overrides,
        teacher: str | None = None,
        tuned_by: str | None = None,
    ) -> None:
        """A run of students, under the teacher of that name where there is one; see `train`."""
        self._run(name, "distill", self.experiment.student, overrides, teacher, tuned_by)

    def probe(self, name: str, probe: Probe, run: str, overrides: Overrides) -> None:
        """A probe of a run, of which `overrides` says what differs from the probe's defaults.

        Raises:
            UserError: the plan has no such run.
        """
        self._check_planned(name, "run", run)
        self.stages.append(ProbeStage(name, probe, overrides, self.home / run))

    def judge(self, part: Part) -> None:
        """The verdicts of a part, after all that was planned before them."""
        made = [stage for stage in self.stages if not isinstance(stage, DataStage)]
        outputs = tuple(stage.output for stage in made)
        name, home = Path(part.output).stem, self.home
        stage = JudgementStage(name, self.spec, self.preset, self.experiment, part, home, outputs)
        self.stages.append(stage)

    def _run(
        self,
        name: str,
        stage: str,
        base: Any,
        overrides: Overrides,
        teacher: str | None,
        tuned_by: str | None,
    ) -> None:
        if name in self._runs():
            raise UserError(f"{self.spec.name}: its plan has two runs of the name {name}")
        self._check_planned(name, "teacher", teacher)
        self._check_planned(name, "sweep", tuned_by)
        run = RunStage(
            name=name,
            spec=self.spec,
            preset=self.preset,
            base=base,
            stage=stage,
            overrides=overrides,
            run_dir=self.home / name,
            teacher=None if teacher is None else self.home / teacher,
            tuned_by=None if tuned_by is None else self.home / tuned_by,
            data=tuple(s.output for s in self.stages if isinstance(s, DataStage)),
        )
        if teacher is not None:
            self._check_checkpoints(run, teacher)
        self.stages.append(run)

    def _check_checkpoints(self, run: RunStage, teacher: str) -> None:
        """Raise a UserError if students ask for checkpoints that their teacher is not planned to
        keep, which else they would find out when it is trained. (Where a first one that is read
        off its transition lies is not known before; zero stands for it.)"""
        student = run.config
        training: TrainingConfig = self._planned_run(teacher).config.training
        asked = schedule.build(
            student.schedule, student.supervision, student.training.steps, training.steps, 0
        )
        kept = training.checkpoint_steps()
        missing = sorted(set(asked.possible_teacher_steps()) - set(kept))
        if missing:
            raise UserError(
                f"{self.spec.name}: {run.name} learns under {student.schedule} from its teacher's"
                f" step {missing[0]}, of which {teacher} keeps no checkpoint (one every"
                f" {training.checkpoint_every} steps); see supervision.interval and"
                " supervision.speed, and training.checkpoint_every of the teacher"
            )

    def _planned_run(self, name: str) -> RunStage:
        return next(
            stage for stage in self.stages if isinstance(stage, RunStage) and stage.name == name
        )

    def _runs(self) -> list[str]:
        return [stage.name for stage in self.stages if isinstance(stage, RunStage)]

    def _check_planned(self, name: str, role: str, run: str | None) -> None:
        if run is not None and run not in self._runs():
            raise UserError(
                f"{self.spec.name}: its plan gives {name} the {role} {run}, which is no run planned"
                f" before it; these are {', '.join(self._runs()) or 'none'}"
            )


def plan(
    spec: ExperimentSpec,
    experiment: Any,
    home: Path,
    *,
    preset: str | None = None,
    beyond: bool = False,
) -> list[Stage]:
    """Every stage of an experiment, each after those it needs.

    Args:
        spec: what it is.
        experiment: its configuration.
        home: the folder of its runs.
        preset: the configuration's name, if it has one.
        beyond: add the stages that the paper does not have, where there are any.
    """
    planner = Planner(spec, experiment, home, preset)
    parts = spec.parts if beyond else (spec.paper,)
    for part in parts:
        if part.applies(experiment):
            part.plan(planner, experiment)
            planner.judge(part)
    return planner.stages


def plan_preset(
    spec: ExperimentSpec, preset: str, root: Path, *, beyond: bool = False
) -> list[Stage]:
    """Every stage of a preset, with its runs below ROOT/NAME/PRESET."""
    experiment, home = spec.presets[preset].config, root / spec.name / preset
    return plan(spec, experiment, home, preset=preset, beyond=beyond)


def run_stages(stages: Sequence[Stage], runtime: Runtime) -> None:
    """Carry out those stages that are not done, in order, in this process; where there are several,
    all train, and the first one does all else.

    Raises:
        UserError: some are stale; nothing is run then, and nothing after a run that has come out
            other than it was.
    """
    set_up_devices()
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    to_do = not_done(stages, refuse_stale(stages))
    num_done = len(stages) - len(to_do)
    console.print(f"{num_done} of {len(stages)} stages are done")
    if note := made_by_other_code(stages):
        console.print(f"[yellow]note:[/] {escape(note)}")
    if not to_do:
        return

    def what_is_saved() -> str:
        num_done = sum(stage.output.exists() for stage in stages)
        return (
            f"{num_done} of {len(stages)} stages are done; the same command goes on with the rest"
        )

    with telling(what_is_saved), counted(to_do, stages) as whole:
        for i, (stage, state) in enumerate(zip(stages, states(stages), strict=True)):
            if _blocks(stage, state):
                refuse_stale(stages)
            if processes.of_first(state.word != "done"):
                number = f"[bold]\\[{i + 1}/{len(stages)}] {stage.name}[/]"
                console.print(f"{number}  {escape(shell(stage))}")
                with whole.carrying_out(stage.output):
                    if _trains(stage):
                        stage.run(runtime)
                    else:
                        processes.by_first(functools.partial(stage.run, runtime))


def _trains(stage: Stage) -> bool:
    """Whether all processes carry out a stage together."""
    return isinstance(stage, RunStage) or (isinstance(stage, DataStage) and stage.trains)


def states(stages: Sequence[Stage]) -> Iterator[State]:
    """The state of every stage, in order; each is looked up when it is asked for, after those
    before it may have been carried out."""
    stale: dict[Path, str] = {}
    for stage in stages:
        state = _state(stage, stale)
        if state.word == "stale":
            stale[stage.output] = stage.name
        yield state


def not_done(stages: Sequence[Stage], found: Iterable[State]) -> list[Stage]:
    """The stages that are to be carried out, given the state of each."""
    return [stage for stage, state in zip(stages, found, strict=True) if state.word != "done"]


@contextmanager
def counted(to_do: Sequence[Stage], planned: Sequence[Stage]) -> Iterator[Whole]:
    """Inside this block the bars of stages have another above them, of all that are planned. A
    block inside another is part of that.

    Args:
        to_do: stages that are not done.
        planned: all stages.
    """
    outer = shown_whole()
    if outer is not None:
        yield outer
        return
    costs = known_costs(to_do, planned)
    outputs = [stage.output for stage in to_do]
    expected = {path: costs[path].seconds if path in costs else None for path in outputs}
    whole = Whole(len(planned) - len(to_do), expected)
    with above_bars(whole):
        yield whole


def refuse_stale(stages: Sequence[Stage]) -> list[State]:
    """The state of every stage, of which only judgements may be stale.

    Raises:
        UserError: others are; with the reason of each, and what to do.
    """
    found = list(states(stages))
    blocking = [
        (stage, state.reason)
        for stage, state in zip(stages, found, strict=True)
        if _blocks(stage, state)
    ]
    if not blocking:
        return found
    reasons = "\n".join(f"  {stage.name} {reason}" for stage, reason in blocking)
    kept = [stage.kept for stage, _ in blocking]
    outermost = [path for path in kept if not any(other in path.parents for other in kept)]
    apart = "\n".join(f"  {path}" for path in outermost)
    raise UserError(
        f"{len(blocking)} of {len(stages)} stages are stale; nothing more is run, and nothing"
        f" deleted:\n{reasons}\nPut back what they were made from, or move these away (or delete"
        f" them) and start the experiment again, which makes them anew:\n{apart}"
    )


def made_by_other_code(stages: Sequence[Stage]) -> str:
    """Which finished runs were made before their experiment's code was changed; empty if none were.
    It is for the user to know whether they would come out otherwise."""
    runs = [stage for stage in stages if isinstance(stage, RunStage) and stage.is_done()]
    changed = [stage for stage in runs if stage.is_of_other_code()]
    if not changed:
        return ""
    name = changed[0].spec.name
    return (
        f"{len(changed)} of these runs were made before the code of {name} was changed,"
        f" {changed[0].name} first; if it makes other runs now, raise the version in its SPEC"
    )


def print_plan(stages: Sequence[Stage]) -> dict[Path, Cost]:
    """Print the commands of the stages, and a table of the stages with what those that are to be
    done will cost on this machine; returns that, by the stage's output."""
    set_up_devices()
    found = list(states(stages))
    to_do = [stage for stage, state in zip(stages, found, strict=True) if state.word == "to do"]
    costs = projected_costs(to_do, stages)
    console = Console(soft_wrap=True, highlight=False)
    if not console.is_terminal:
        console.width = WIDTH_OF_FILES
    for stage in stages:
        console.print(escape(shell(stage)))
    table = Table(
        Column("stage", no_wrap=True),
        Column("state", overflow="fold"),
        Column("time", no_wrap=True),
        *(Column(name, no_wrap=True, justify="right") for name in ("memory", "disk")),
    )
    for stage, state in zip(stages, found, strict=True):
        word = f"{state.word}: {state.reason}" if state.reason else state.word
        numbers = _numbers(costs.get(stage.output)) if state.word == "to do" else ("", "", "")
        table.add_row(stage.name, escape(word), *numbers)
    console.print(table)
    if costs:
        console.print(describe_total(costs.values()))
    if note := made_by_other_code(stages):
        console.print(f"[yellow]note:[/] {escape(note)}")
    return costs


def _numbers(cost: Cost | None) -> tuple[str, str, str]:
    """Time, memory and disk in a row of the plan."""
    if cost is None:
        return "-", "-", "-"
    return cost.time_text, cost.memory_text, bytes_text(cost.disk)


def _blocks(stage: Stage, state: State) -> bool:
    """Whether nothing can go on because of a stage: judgements are simply made again."""
    return state.word == "stale" and not isinstance(stage, JudgementStage)


def _state(stage: Stage, stale: dict[Path, str]) -> State:
    if not stage.is_begun():
        return State("to do")
    from_stale = [
        f"was made from {stale[path]}, which is stale" for path in stage.needs if path in stale
    ]
    reason = stage.why_stale() or next(iter(from_stale), "")
    if reason:
        return State("stale", reason)
    return State("done") if stage.is_done() else State("to do", stage.how_far())
