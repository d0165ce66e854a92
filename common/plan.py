"""An experiment as a list of stages, each the command that a person would type and the file that marks its end."""

import importlib
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from common.config import Runtime
from common.mesh import use_all_cores


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


def run_stages(stages: Sequence[StageCommand], runtime: Runtime) -> None:
    """Run those stages whose output does not exist, in order, in this process."""
    use_all_cores()
    console = Console(stderr=True, soft_wrap=True)
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
