"""An experiment as a list of stages, each the command that a person would type and the file that
marks its end.

A stage is done if what is there was made from what it would be made from now
(`common.runs.lineage`). Otherwise it is stale: nothing goes on from it, the stale stages are named,
and the user moves them away. Judgements alone are made again without asking.
"""

import importlib
import itertools
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from common.base.config import Runtime, last_value
from common.base.errors import UserError
from common.base.interruption import telling
from common.base.mesh import set_up_devices
from common.runs.directory import DONE, RunDirectory
from common.runs.lineage import (
    contents,
    why_judgement_is_stale,
    why_probe_is_stale,
    why_run_is_stale,
)
from common.runs.probing import FOLDER


@dataclass(frozen=True)
class StageCommand:
    """One command line, the file that marks its end, and the files it waits for."""

    name: str
    module: str
    args: tuple[str, ...]
    output: Path
    needs: tuple[Path, ...]

    @property
    def shell(self) -> str:
        """The command as typed."""
        return f"python -m {self.module} {shlex.join(self.args)}"

    @property
    def trains(self) -> bool:
        """Whether it is a run, which saves resume states."""
        return self.module.endswith((".train", ".distill"))

    @property
    def judges(self) -> bool:
        """Whether it reads all stages before it and costs next to nothing."""
        return self.module.endswith(".claims")

    @property
    def kept(self) -> Path:
        """What has to go for it to be made anew."""
        return self.output.parent if self.trains else self.output


@dataclass(frozen=True)
class State:
    """Whether a stage has to be carried out."""

    word: Literal["done", "to do", "stale"]
    reason: str = ""
    """Of a stale one, to be read after its name."""


@dataclass
class Planner:
    """Collects the stages of a preset, each after those it needs."""

    package: str
    """Of the stages' commands: parity, say."""
    preset: str
    home: Path
    """Where the preset's runs are: ROOT/PACKAGE/PRESET."""
    stages: list[StageCommand] = field(default_factory=list)

    def train(self, name: str, *args: str) -> None:
        """A run of PACKAGE.train, kept in the folder `name`."""
        self._run(name, "train", args)

    def distill(self, name: str, *args: str, teacher: str | None = None) -> None:
        """A run of PACKAGE.distill, under the teacher of that name where there is one."""
        self._run(
            name, "distill", (*args, *(("--teacher", str(self.home / teacher)) if teacher else ()))
        )

    def probe(self, name: str, module: str, run: str, output: str, *args: str) -> None:
        """A command of the package that reads a finished run and ends with the file `output` among
        its probes."""
        self._add(
            name,
            module,
            (str(self.home / run), *args),
            self.home / run / FOLDER / output,
            (self.done(run),),
        )

    def claims(self, output: str, *args: str) -> None:
        """The verdicts in the file `output`, after all that was planned before them."""
        needs = tuple(stage.output for stage in self.stages)
        where = ("--preset", self.preset, "--root", str(self.home.parent.parent))
        self._add(Path(output).stem, "claims", (*where, *args), self.home / output, needs)

    def done(self, name: str) -> Path:
        """The file that marks the end of a run."""
        return self.home / name / DONE

    def _run(self, name: str, module: str, args: tuple[str, ...]) -> None:
        # A run waits for the runs whose directories it is given.
        needs = tuple(
            Path(value) / DONE
            for flag, value in itertools.pairwise(args)
            if flag in ("--teacher", "--tuned-by")
        )
        self._add(
            name,
            module,
            ("--preset", self.preset, "--run-dir", str(self.home / name), *args),
            self.done(name),
            needs,
        )

    def _add(
        self, name: str, module: str, args: tuple[str, ...], output: Path, needs: tuple[Path, ...]
    ) -> None:
        self.stages.append(StageCommand(name, f"{self.package}.{module}", args, output, needs))


def run_stages(stages: Sequence[StageCommand], runtime: Runtime) -> None:
    """Carry out those stages that are not done, in order, in this process.

    Raises:
        UserError: some are stale; nothing is run then, and nothing after a run that has come out
            other than it was.
    """
    set_up_devices()
    console = Console(stderr=True, soft_wrap=True)
    num_done = sum(state.word == "done" for state in refuse_stale(stages))
    console.print(f"{num_done} of {len(stages)} stages are done", highlight=False)
    if num_done == len(stages):
        return

    def what_is_saved() -> str:
        num_done = sum(stage.output.exists() for stage in stages)
        return (
            f"{num_done} of {len(stages)} stages are done; the same command goes on with the rest"
        )

    with telling(what_is_saved):
        for i, (stage, state) in enumerate(zip(stages, states(stages), strict=True)):
            if state.word == "stale" and not stage.judges:
                refuse_stale(stages)
            if state.word != "done":
                console.print(
                    f"[bold]\\[{i + 1}/{len(stages)}] {stage.name}[/]  {escape(stage.shell)}",
                    highlight=False,
                )
                flags = (
                    ("--runtime.resume-seconds", str(runtime.resume_seconds))
                    if stage.trains
                    else ()
                )
                importlib.import_module(stage.module).main([*stage.args, *flags])


def states(stages: Sequence[StageCommand]) -> Iterator[State]:
    """The state of every stage, in order; each is looked up when it is asked for, after those
    before it may have been carried out."""
    stale: dict[Path, str] = {}
    for stage in stages:
        state = _state(stage, stale)
        if state.word == "stale":
            stale[stage.output] = stage.name
        yield state


def refuse_stale(stages: Sequence[StageCommand]) -> list[State]:
    """The state of every stage, of which only judgements may be stale.

    Raises:
        UserError: others are; with the reason of each, and what to do.
    """
    found = list(states(stages))
    stale = [
        (stage, state.reason)
        for stage, state in zip(stages, found, strict=True)
        if state.word == "stale" and not stage.judges
    ]
    if not stale:
        return found
    reasons = "\n".join(f"  {stage.name} {reason}" for stage, reason in stale)
    kept = [stage.kept for stage, _ in stale]
    apart = "\n".join(
        f"  {path}" for path in kept if not any(other in path.parents for other in kept)
    )
    raise UserError(
        f"{len(stale)} of {len(stages)} stages are stale; nothing more is run, and nothing"
        f" deleted:\n{reasons}\nPut back what they were made from, or move these away (or delete"
        f" them) and start the experiment again, which makes them anew:\n{apart}"
    )


def made_from(outputs: Sequence[Path], home: Path) -> dict[str, str | None]:
    """What a judgement of some stages says of them: hashes of runs and probes, by their names below
    `home`."""
    return contents(home, _names(outputs, home))


def sweeps(stages: Sequence[StageCommand]) -> list[Path]:
    """The runs of the folder `tune`; what else is in there is no part of the experiment."""
    return sorted(
        stage.kept for stage in stages if stage.trains and stage.kept.parent.name == "tune"
    )


def print_plan(stages: Sequence[StageCommand]) -> None:
    """The stages as a table."""
    table = Table("stage", Column("state", overflow="fold"), Column("command", overflow="fold"))
    for stage, state in zip(stages, states(stages), strict=True):
        table.add_row(
            stage.name,
            escape(f"{state.word}: {state.reason}" if state.reason else state.word),
            escape(stage.shell),
        )
    Console(soft_wrap=True).print(table)


def _state(stage: StageCommand, stale: dict[Path, str]) -> State:
    if not stage.output.exists() and not _is_begun(stage):
        return State("to do")
    from_stale = [
        f"was made from {stale[path]}, which is stale" for path in stage.needs if path in stale
    ]
    if reason := _why_stale(stage) or next(iter(from_stale), ""):
        return State("stale", reason)
    is_done = stage.output.exists() and (not stage.trains or RunDirectory(stage.kept).finished)
    return State("done" if is_done else "to do")


def _is_begun(stage: StageCommand) -> bool:
    """Whether a run is there that has not come to its end."""
    return (
        stage.trains
        and (stage.kept / "config.json").exists()
        and (stage.kept / "manifest.json").exists()
    )


def _why_stale(stage: StageCommand) -> str:
    if stage.judges:
        return why_judgement_is_stale(stage.output, _names(stage.needs, stage.output.parent))
    module = importlib.import_module(stage.module)
    if stage.trains:
        return why_run_is_stale(
            stage.kept,
            module.planned_run(stage.args),
            _given(stage, "--teacher"),
            _given(stage, "--tuned-by"),
        )
    return why_probe_is_stale(stage.output, module.planned_settings(stage.args))


def _given(stage: StageCommand, flag: str) -> Path | None:
    value = last_value(stage.args, flag)
    return None if value is None else Path(value)


def _names(outputs: Sequence[Path], home: Path) -> list[str]:
    """A run goes by its folder, a probe by its file."""
    return [
        (path.parent if path.name == DONE else path).relative_to(home).as_posix()
        for path in outputs
    ]
