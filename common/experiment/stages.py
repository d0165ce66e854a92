"""The stages of an experiment: data, runs, probes of runs, and judgements.

Each knows the command that a person would type for it, the file that marks its end, the files that
it waits for, whether what is there was made from what it would be made from now, and how to be
carried out in this process.
"""

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from common.base.config import Overrides, Runtime, as_flags, to_dict, validate, with_overrides
from common.experiment import judging
from common.experiment.requests import RunRequest, planned_run, student_run, teacher_run
from common.experiment.source import source_hash
from common.experiment.spec import ExperimentSpec, Part, Probe
from common.runs.directory import DONE, RunDirectory
from common.runs.lineage import (
    SOURCE,
    why_judgement_is_stale,
    why_probe_is_stale,
    why_run_is_stale,
)
from common.runs.probing import FOLDER


class Stage(Protocol):
    """One stage."""

    @property
    def name(self) -> str:
        """In its experiment."""
        ...

    @property
    def output(self) -> Path:
        """The file that marks its end."""
        ...

    @property
    def needs(self) -> tuple[Path, ...]:
        """The outputs that it waits for."""
        ...

    @property
    def kept(self) -> Path:
        """What has to go for it to be made anew."""
        ...

    @property
    def command(self) -> tuple[str, ...]:
        """The module and the words that a person would type for it."""
        ...

    def is_begun(self) -> bool:
        """Whether something of it is there."""
        ...

    def is_done(self) -> bool:
        """Whether all of it is there, whatever it was made from."""
        ...

    def how_far(self) -> str:
        """Of one that is begun and not done, how far it is; empty if that counts for nothing."""
        ...

    def why_stale(self) -> str:
        """Why what is there is not what it would be made from now, to be read after its name; empty
        if it is."""
        ...

    def run(self, runtime: Runtime) -> None:
        """Carry it out."""
        ...


def shell(stage: Stage) -> str:
    """The command of a stage as typed."""
    return f"python -m {shlex.join(stage.command)}"


@dataclass(frozen=True)
class DataStage:
    """Data that runs read, made by a command of the experiment's own. What they are is for the runs
    to say, by the hashes that identify them."""

    name: str
    command: tuple[str, ...]
    main: Callable[[list[str]], None]
    """That of the command's module."""
    output: Path
    """The file that is written last, in a folder of the data's own."""
    trains: bool = False
    """Whether the command trains, by all processes where there are several."""
    needs: tuple[Path, ...] = ()

    @property
    def kept(self) -> Path:
        """The folder."""
        return self.output.parent

    def is_begun(self) -> bool:
        """Whether the data are complete; the command itself knows of parts of them."""
        return self.output.exists()

    def is_done(self) -> bool:
        """Whether they are complete."""
        return self.output.exists()

    def how_far(self) -> str:
        """Only the command knows."""
        return ""

    def why_stale(self) -> str:
        """They never are: other data make stale runs."""
        return ""

    def run(self, runtime: Runtime) -> None:
        """Make them."""
        self.main(list(self.command[1:]))


@dataclass(frozen=True)
class RunStage:
    """A run: of a teacher where `stage` is train, of students where it is distill."""

    name: str
    spec: ExperimentSpec
    preset: str | None
    """Whose configuration it begins with, by name; None: it has no name, and so no command."""
    base: Any
    """That configuration."""
    stage: str
    overrides: Overrides
    run_dir: Path
    teacher: Path | None = None
    tuned_by: Path | None = None
    data: tuple[Path, ...] = ()
    """Outputs of the stages that make its data."""

    @property
    def has_data(self) -> bool:
        """Whether these are there."""
        return all(path.exists() for path in self.data)

    @property
    def config(self) -> Any:
        """What is trained, before a sweep has chosen its rate."""
        config = with_overrides(self.base, self.overrides)
        return config if self.stage == "train" else self.spec.complete(config)

    @property
    def request(self) -> RunRequest:
        """The run as it is asked for."""
        config = with_overrides(self.base, self.overrides)
        return RunRequest(config, self.run_dir, self.tuned_by, self.teacher)

    @property
    def output(self) -> Path:
        """The marker of a finished run."""
        return self.run_dir / DONE

    @property
    def needs(self) -> tuple[Path, ...]:
        """Its data, and the runs whose directories it is given."""
        given = (self.tuned_by, self.teacher)
        return (*self.data, *(path / DONE for path in given if path is not None))

    @property
    def kept(self) -> Path:
        """The run directory."""
        return self.run_dir

    @property
    def command(self) -> tuple[str, ...]:
        """`train` or `distill` with the preset and what differs from it."""
        words = [f"{self.spec.name}.{self.stage}"]
        words += [] if self.preset is None else ["--preset", self.preset]
        words += ["--run-dir", str(self.run_dir), *as_flags(self.overrides)]
        words += [] if self.tuned_by is None else ["--tuned-by", str(self.tuned_by)]
        words += [] if self.teacher is None else ["--teacher", str(self.teacher)]
        return tuple(words)

    def is_begun(self) -> bool:
        """Whether there is a run, at its end or not."""
        return all((self.run_dir / name).exists() for name in ("config.json", "manifest.json"))

    def is_done(self) -> bool:
        """Whether the run has come to its end."""
        return self.output.exists() and RunDirectory(self.run_dir).finished

    def is_of_other_code(self) -> bool:
        """Whether the experiment's code was changed since the run began, as far as it says."""
        source = source_hash(self.spec.name)
        return RunDirectory(self.run_dir).manifest.get(SOURCE, source) != source

    def how_far(self) -> str:
        """The step from which it would go on."""
        return RunDirectory(self.run_dir).state

    def why_stale(self) -> str:
        """Another configuration, teacher or sweep, other data, or another version of the code. As
        long as there are no data, it is what it was."""
        if not self.has_data:
            return ""
        planned = planned_run(self.spec, self.stage, self.config)
        return why_run_is_stale(self.run_dir, planned, self.teacher, self.tuned_by)

    def run(self, runtime: Runtime) -> None:
        """Train."""
        make = teacher_run if self.stage == "train" else student_run
        make(self.spec, self.request).run(validate(runtime))


@dataclass(frozen=True)
class ProbeStage:
    """A probe of a run."""

    name: str
    probe: Probe
    overrides: Overrides
    run_dir: Path

    @property
    def settings(self) -> Any:
        """How it is measured."""
        return with_overrides(self.probe.settings, self.overrides)

    @property
    def output(self) -> Path:
        """The probe's JSON file, which is written last."""
        return self.run_dir / FOLDER / f"{self.probe.name}.json"

    @property
    def needs(self) -> tuple[Path, ...]:
        """The run."""
        return (self.run_dir / DONE,)

    @property
    def kept(self) -> Path:
        """The JSON file: without it the probe is made anew."""
        return self.output

    @property
    def command(self) -> tuple[str, ...]:
        """The probe's command."""
        return (self.probe.module, str(self.run_dir), *as_flags(self.overrides))

    def is_begun(self) -> bool:
        """Whether it is complete; parts of it count for nothing yet."""
        return self.output.exists()

    def is_done(self) -> bool:
        """Whether it is complete."""
        return self.output.exists()

    def how_far(self) -> str:
        """Nothing: it is made as a whole."""
        return ""

    def why_stale(self) -> str:
        """Another run, other settings, or another version of the probe."""
        return why_probe_is_stale(self.output, to_dict(self.settings), self.probe.version)

    def run(self, runtime: Runtime) -> None:
        """Measure."""
        self.probe.measure(self.run_dir, self.settings)


@dataclass(frozen=True)
class JudgementStage:
    """The claims, judged from all stages before it."""

    name: str
    spec: ExperimentSpec
    preset: str | None
    experiment: Any
    part: Part
    home: Path
    judged: Sequence[Path]
    """The outputs that it is made from."""

    @property
    def output(self) -> Path:
        """The verdicts, which are written last."""
        return self.home / self.part.output

    @property
    def needs(self) -> tuple[Path, ...]:
        """All that was planned before it."""
        return tuple(self.judged)

    @property
    def kept(self) -> Path:
        """The verdicts."""
        return self.output

    @property
    def command(self) -> tuple[str, ...]:
        """The experiment's command for claims."""
        words = [f"{self.spec.name}.claims"]
        words += [] if self.preset is None else ["--preset", self.preset]
        words += ["--root", str(self.home.parent.parent)]
        words += ["--beyond"] if self.part is self.spec.beyond else []
        return tuple(words)

    def is_begun(self) -> bool:
        """Whether there are verdicts."""
        return self.output.exists()

    def is_done(self) -> bool:
        """Whether there are verdicts."""
        return self.output.exists()

    def how_far(self) -> str:
        """Nothing: it is made as a whole."""
        return ""

    def why_stale(self) -> str:
        """Other runs or probes, another version of the judgement, or other code."""
        names = judging.names_of(self.judged, self.home)
        source = source_hash(self.spec.name)
        return why_judgement_is_stale(self.output, names, self.part.version, source)

    def run(self, runtime: Runtime) -> None:
        """Judge, write the verdicts and print them."""
        judging.judge(self.spec, self.part, self.experiment, self.home, self.judged, self.preset)
