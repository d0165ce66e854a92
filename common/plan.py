"""An experiment as a list of stages, each the command that a person would type and the file that marks its end."""

import importlib
import itertools
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from common.config import Runtime
from common.interruption import telling
from common.mesh import use_all_cores
from common.probing import FOLDER
from common.runs import DONE


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
        """Whether it saves resume states."""
        return self.module.endswith((".train", ".distill"))


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
        self._run(name, "distill", (*args, *(("--teacher", str(self.home / teacher)) if teacher else ())))

    def probe(self, name: str, module: str, run: str, output: str, *args: str) -> None:
        """A command of the package that reads a finished run and ends with the file `output` among its probes."""
        self._add(name, module, (str(self.home / run), *args), self.home / run / FOLDER / output, (self.done(run),))

    def claims(self, output: str) -> None:
        """The verdicts, after all that was planned before them."""
        needs = tuple(stage.output for stage in self.stages)
        self._add("claims", "claims", ("--preset", self.preset, "--root", str(self.home.parent.parent)), self.home / output, needs)

    def done(self, name: str) -> Path:
        """The file that marks the end of a run."""
        return self.home / name / DONE

    def _run(self, name: str, module: str, args: tuple[str, ...]) -> None:
        # A run waits for the runs whose directories it is given.
        needs = tuple(Path(value) / DONE for flag, value in itertools.pairwise(args) if flag in ("--teacher", "--tuned-by"))
        self._add(name, module, ("--preset", self.preset, "--run-dir", str(self.home / name), *args), self.done(name), needs)

    def _add(self, name: str, module: str, args: tuple[str, ...], output: Path, needs: tuple[Path, ...]) -> None:
        self.stages.append(StageCommand(name, f"{self.package}.{module}", args, output, needs))


def run_stages(stages: Sequence[StageCommand], runtime: Runtime) -> None:
    """Run those stages whose output does not exist, in order, in this process."""
    use_all_cores()
    console = Console(stderr=True, soft_wrap=True)

    def what_is_saved() -> str:
        num_done = sum(stage.output.exists() for stage in stages)
        return f"{num_done} of {len(stages)} stages are done; the same command goes on with the rest"

    with telling(what_is_saved):
        for i, stage in enumerate(stages):
            if not stage.output.exists():
                console.print(f"[bold]\\[{i + 1}/{len(stages)}] {stage.name}[/]  {stage.shell}", highlight=False)
                flags = ("--runtime.resume-seconds", str(runtime.resume_seconds)) if stage.trains else ()
                importlib.import_module(stage.module).main([*stage.args, *flags])


def print_plan(stages: Sequence[StageCommand]) -> None:
    """The stages as a table."""
    table = Table("stage", "state", "command")
    for stage in stages:
        table.add_row(stage.name, "done" if stage.output.exists() else "to do", stage.shell)
    Console(soft_wrap=True).print(table)
