"""The contract of all experiments: what an experiment says of itself, once. What is learnt without
being an experiment, with no claims, says the part of it that its runs need (`RunSpec`).

An experiment is its data, what is supervised, what it watches, its probes, its claims and its
presets. Everything else (training, distilling, planning, resuming, judging) is done here for all of
them alike.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from common.base.config import Preset
from common.judge.transition import Watch
from common.judge.verdict import Claim, Verdict
from common.runs.directory import RunDirectory
from common.runs.tuning import TunedBy
from common.train.engine import Engine, ScanEngine
from common.train.problem import Problem, Task, student_problem, teacher_problem


@dataclass(frozen=True)
class Probe:
    """A command that measures the checkpoints of a finished run."""

    module: str
    """Its name on the command line, `parity.probe` say."""
    name: str
    """Of its JSON file among the run's probes."""
    about: str
    """What it measures, a sentence for --help."""
    settings: Any
    """The defaults of its settings, a configuration."""
    measure: Callable[[Path, Any], None]
    """Probes the run in a directory with these settings."""
    version: int = 1
    """Raised when the same run and settings would be measured otherwise."""


@dataclass(frozen=True)
class Judgement:
    """The claims on an experiment's runs, and the tables that they were judged from."""

    verdicts: Sequence[Verdict]
    tables: Mapping[str, pd.DataFrame]
    """By the name of the CSV file beside the verdicts. The page's `data` and `published` say which
    of them go into report and results."""


@dataclass(frozen=True)
class Part:
    """Stages of an experiment that end with a judgement: those of the paper (or, without a paper,
    all), or those beyond it."""

    output: str
    """The JSON file of the judgement, in the experiment's folder."""
    plan: Callable[[Any, Any], None]
    """Plans the stages of an experiment's configuration, the second argument, by the methods of a
    `common.experiment.plan.Planner`, the first."""
    judge: Callable[[Path, Any], Judgement]
    """Judges the runs of an experiment's folder, which has this configuration."""
    applies: Callable[[Any], bool] = lambda _: True
    """Whether an experiment of this configuration has such stages."""
    version: int = 1
    """Raised when the same runs would be judged otherwise."""


class Flags:
    """Flags of `train` and `distill` beside those of the configuration; this one has none."""

    def defaults(self, config: Any, args: Sequence[str]) -> Any:
        """The configuration whose values are the defaults of all flags, after a look at `args`."""
        return config

    def applied_to(self, config: Any) -> Any:
        """The configuration as these flags change it, once all are parsed."""
        return config


@dataclass(frozen=True, kw_only=True)
class RunSpec:
    """What runs of teachers and students are. Configurations are `configuration` classes of its
    own.

    A preset's configuration has a `teacher` and a `student`: with the fields `model`, `optim` and
    `training` both, and the student with those of `StudentSettings` and a `detector` besides.
    """

    name: str
    """Of its package, and of its folder below `runs`."""
    subject: str
    """What is learnt: "sparse parity". For --help."""
    presets: Mapping[str, Preset[Any]]
    train_config: type
    student_config: type
    task: Callable[[Any], Task]
    """What a run of this configuration learns."""
    watch: Callable[[Any], Watch]
    """When the transition of such a run begins and is done, told while it trains. Its detector has
    the floor of the student's `detector`: chance, one half unless told otherwise."""
    check_teacher: Callable[[Any, Any, RunDirectory], None] = lambda *_: None
    """Raises a UserError if a teacher's run, of the second configuration, cannot teach a student of
    the first."""
    identity: Callable[[Any], Mapping[str, Any]] = lambda _: {}
    """What identifies a run besides its configuration: hashes of its data."""
    provenance: Callable[[Any], Mapping[str, Any]] = lambda _: {}
    """What is recorded of a run besides: what was drawn for it, say."""
    complete: Callable[[Any], Any] = lambda config: config
    """A student's configuration with what it leaves open."""
    engine: Callable[[Any], Callable[[Problem, int], Engine]] = lambda _: ScanEngine
    """What makes the engine of a run of this configuration, from its problem and group size."""
    kept_apart: str | None = None
    """The field of a configuration that says where something lies that runs begin with. Their
    identity has the hash of what is there instead (`identity`), and `paths` the place."""
    is_chain: bool = False
    """Whether students may teach; a run then records the hashes of all that have taught before
    it."""
    loaded_config: type | None = None
    """Of a run that holds models of others, of the stage `load`; None: there are none."""
    tuned_by: TunedBy = "time"
    """What the best rate of a sweep is best at."""
    tells_speed: bool = False
    """Whether runs measure themselves beside what their device can do."""
    flags: Flags = field(default_factory=Flags)
    """Further flags of `train` and `distill`, with their defaults: a dataclass."""
    version: int = 1
    """Raised when a run of the same configuration would come out otherwise: the runs that are there
    are stale then. A change of the experiment's code alone is only told of."""

    def teacher_problem(self, config: Any) -> Problem:
        """What a teacher of this configuration learns."""
        return teacher_problem(self.task(config), config)

    def student_problem(self, config: Any, teacher: Any | None) -> Problem:
        """What a student learns under a teacher of this configuration; None: from labels."""
        if teacher is None:
            loss, model = None, None
        else:
            loss, model = config.loss, teacher.model
        shared_stream = config.shared_stream
        return student_problem(self.task(config), config, loss, model, shared_stream=shared_stream)

    def config_of(self, run: RunDirectory) -> Any:
        """The configuration of a run of any stage.

        Raises:
            RunError: its file does not hold one of this version.
        """
        config_types = {"distill": self.student_config, "load": self.loaded_config}
        return run.config(config_types.get(run.record["stage"]) or self.train_config)


@dataclass(frozen=True, kw_only=True)
class ExperimentSpec(RunSpec):
    """An experiment: runs, and what is judged of them."""

    claims: Mapping[str, Claim]
    """All that are judged, by their short names."""
    paper: Part
    beyond: Part | None = None
    """What the paper does not have."""
    probes: Sequence[Probe] = ()
    check_sources: Callable[[Any], None] = lambda _: None
    """Raises a UserError if something is not there that an experiment of this configuration reads
    late: asked before its first stage, so that nobody finds out after hours."""

    @property
    def parts(self) -> tuple[Part, ...]:
        """The paper's, and what goes beyond it."""
        return (self.paper,) if self.beyond is None else (self.paper, self.beyond)

    def goes_beyond(self, experiment: Any) -> bool:
        """Whether an experiment of this configuration has stages that the paper does not have."""
        return self.beyond is not None and self.beyond.applies(experiment)
