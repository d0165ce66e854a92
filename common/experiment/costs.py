"""What the runs of a plan will cost on this machine: time, memory and disk.

Runs of one kind differ in seeds, rates and lengths, and not in what a step costs. Each kind is
measured once (`common.train.measuring`) and kept in the user's cache, until the code, the packages
or the devices change. Where that cannot be read or written it is measured again.
"""

import functools
import importlib.metadata
import json
import math
import os
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax

from common.base.config import fingerprint, flatten, from_dict, to_dict
from common.base.errors import RunError, UserError
from common.base.mesh import machine_cache
from common.base.progress import duration_text, progress_bar
from common.experiment.requests import IDLE_ON_LABELS, shared_layers
from common.experiment.source import source_hash
from common.experiment.spec import RunSpec
from common.experiment.stages import RunStage, Stage
from common.runs.directory import RunDirectory
from common.runs.files import bytes_text, write_json
from common.train import measuring, schedule
from common.train.chunks import chunk_steps
from common.train.fit import Supervision
from common.train.lanes import Lane, lanes_of
from common.train.measuring import Measured, Trial, machine_memory
from common.train.run import left_to_write

MOST_SECONDS_ON_CPUS = 12 * 3600.0
"""What takes longer is a GPU's work."""
MEASURING_SECONDS = 30.0
"""After so long, no further kind is measured, until the next command."""
MOST_KEPT = 1000
"""Measurements in the file; the oldest go."""
NO_COST = ("training.", "supervision.", "detector.", "schedule", "teacher_seed", "shared_stream")
"""How the names of the settings begin that do not tell what a step costs; of the training two do,
and whether lanes share their data is told by the size of their groups."""
NO_COST_EITHER = ("optim.learning_rate", "data.seed")


@dataclass(frozen=True)
class Cost:
    """What a stage, or several, will cost."""

    seconds: float
    memory: int
    """Bytes, at the most."""
    checkpoints: int
    """Bytes that stay on the disk."""
    resume: int
    """Further bytes, as long as it runs."""
    may_end_sooner: bool
    """It ends when it has learnt, or when its loss is flat; this is the cost of all its steps."""
    is_scaled: bool
    """It was not measured as it is: of the memory the least is known."""

    @property
    def time_text(self) -> str:
        """How long it takes, about or at most."""
        how = "at most" if self.may_end_sooner else "about"
        return f"{how} {duration_text(self.seconds)}"

    @property
    def memory_text(self) -> str:
        """How much memory it takes, about or at least."""
        return f"{'at least ' if self.is_scaled else ''}{bytes_text(self.memory)}"

    @property
    def disk(self) -> int:
        """Bytes of the disk."""
        return self.checkpoints + self.resume


def total(costs: Collection[Cost]) -> Cost:
    """The cost of runs one after another, at least one."""
    return Cost(
        seconds=sum(cost.seconds for cost in costs),
        memory=max(cost.memory for cost in costs),
        checkpoints=sum(cost.checkpoints for cost in costs),
        resume=max(cost.resume for cost in costs),
        may_end_sooner=any(cost.may_end_sooner for cost in costs),
        is_scaled=any(cost.is_scaled for cost in costs),
    )


def projected_costs(to_do: Sequence[Stage], planned: Sequence[Stage]) -> dict[Path, Cost]:
    """The cost of the runs that are to be done, by the stage's output. What is not known yet is
    measured; if time or memory does not suffice for that, it is scaled from the most similar kind.
    Empty if nothing could be measured.

    Args:
        to_do: stages; those that are no runs, or whose data are not made yet, are left out.
        planned: all stages, their teachers among them.
    """
    runs, known = _runs_to_do(to_do, planned), _read_known()
    if all(key in known for run in runs.values() for key in run.kinds.values()):
        return _costs_of(runs, known)
    trials = _trials(runs.values())
    _measure_missing(trials, known)
    return _costs_of(runs, _with_similar(trials, known))


def known_costs(to_do: Sequence[Stage], planned: Sequence[Stage]) -> dict[Path, Cost]:
    """The same without measuring: of those runs whose kinds have been measured before."""
    known = _read_known()
    return _costs_of(_runs_to_do(to_do, planned), known) if known else {}


def _trials(runs: Collection["RunToDo"]) -> dict[str, Trial]:
    """Steps of every kind, by its key; first those of which there is most to do."""
    trials: dict[str, Trial] = {}
    work: dict[str, float] = {}
    for run in runs:
        for layer, key in run.kinds.items():
            if key not in trials:
                trials[key], work[key] = run.trial(layer), 0.0
            work[key] += run.steps_of_layer[layer] * measuring.operations(trials[key])
    return dict(sorted(trials.items(), key=lambda item: -work[item[0]]))


def _measure_missing(trials: Mapping[str, Trial], known: dict[str, Measured]) -> None:
    """Measure steps of the kinds that are not known, add and keep them."""
    missing = [key for key in trials if key not in known]
    began = time.monotonic()
    with progress_bar(
        "measuring a step of each kind", len(missing), unit="kinds", rate_unit="kinds"
    ) as progress:
        for count, key in enumerate(missing, 1):
            if time.monotonic() - began > MEASURING_SECONDS:
                break
            with suppress(jax.errors.JaxRuntimeError):
                known[key] = measuring.measure(trials[key])
                _keep(key, known[key])
            progress(count)


def _with_similar(
    trials: Mapping[str, Trial], known: Mapping[str, Measured]
) -> dict[str, Measured]:
    """All kinds: those that are not known from the one whose steps are most similar in size."""
    measured = [key for key in trials if key in known]
    if not measured:
        return {}
    size = {key: math.log(measuring.operations(trial)) for key, trial in trials.items()}
    costs = {key: known[key] for key in measured}
    for key in trials.keys() - costs.keys():
        other = min(measured, key=lambda one: abs(size[one] - size[key]))
        costs[key] = measuring.scaled(trials[key], trials[other], known[other])
    return costs


def _costs_of(runs: Mapping[Path, "RunToDo"], known: Mapping[str, Measured]) -> dict[Path, Cost]:
    """Of those runs of whose steps every kind is known."""
    return {
        output: run.cost(known)
        for output, run in runs.items()
        if all(key in known for key in run.kinds.values())
    }


def describe_total(costs: Collection[Cost]) -> str:
    """What the runs that are to be done cost, at least one; what that leaves out; how many were not
    measured as they are; and whether it is no work for this machine; each in a line."""
    of_all, devices = total(costs), jax.devices()
    here = f"{len(devices)} {devices[0].platform.upper()} device{'s' * (len(devices) > 1)}"
    lines = [
        f"to do here, with {here}: {of_all.time_text}, {of_all.memory_text} of memory,"
        f" {bytes_text(of_all.disk)} of disk",
        "not counted: stages that train nothing",
    ]
    if num_scaled := sum(cost.is_scaled for cost in costs):
        lines.append(
            "scaled from a part of their examples or from similar runs:"
            f" {num_scaled} of {len(costs)} runs"
        )
    why = []
    if devices[0].platform == "cpu" and of_all.seconds > MOST_SECONDS_ON_CPUS:
        why.append(f"more than {duration_text(MOST_SECONDS_ON_CPUS)} on CPUs")
    if of_all.memory > machine_memory():
        why.append(f"more memory than the {bytes_text(machine_memory())} of this machine")
    if why:
        lines.append(f"a GPU's work: {', and '.join(why)}")
    return "\n".join(lines)


@dataclass(frozen=True)
class RunToDo:
    """A run that is to be done, as far as its costs go."""

    spec: RunSpec
    config: Any
    teacher: Any | None
    """The teacher's configuration; None: labels supervise."""
    is_student: bool
    manifest: Mapping[str, Any]
    """Of what there is of it already; empty: nothing."""

    @property
    def from_step(self) -> int:
        """The step from which it goes on."""
        return self.manifest.get("resume", {}).get("step", 0)

    @functools.cached_property
    def lanes(self) -> tuple[Lane, ...]:
        """As the problem has them."""
        training = self.config.training
        is_shared = self.is_student and self.config.shared_stream
        stream = training.seed if is_shared else None
        return lanes_of(training.seeds, self.config.optim.learning_rate, stream)

    @functools.cached_property
    def schedule(self) -> schedule.Schedule:
        """That of one lane; where a teacher's first checkpoint lies does not matter."""
        steps = self.config.training.steps
        if self.teacher is None:
            return schedule.ce(steps)
        name, settings = self.config.schedule, self.config.supervision
        last, num_layers = self.teacher.training.steps, 1
        if name == "projections":
            num_layers = shared_layers(self.spec, self.config, self.teacher)
        return schedule.build(name, settings, steps, last, 0, num_layers)

    @functools.cached_property
    def group_size(self) -> int:
        """Lanes that ask their teacher together."""
        return Supervision((self.schedule,) * len(self.lanes), None).group_size(self.lanes)

    @functools.cached_property
    def steps_of_layer(self) -> dict[int | None, int]:
        """How many steps are still to be made on each hidden layer, and, as None, on outputs."""
        if isinstance(self.schedule, schedule.TillSaturate):
            return {None: self.schedule.total_steps - self.from_step}
        steps: dict[int | None, int] = {}
        for segment in self.schedule.segments:
            left = segment.stop - max(segment.start, self.from_step)
            if left > 0:
                steps[segment.layer] = steps.get(segment.layer, 0) + left
        return steps or {None: 0}

    @functools.cached_property
    def kinds(self) -> dict[int | None, str]:
        """The key of every kind of step that is to be made, by the layer."""
        return {layer: self._kind(layer) for layer in self.steps_of_layer}

    def trial(self, layer: int | None) -> Trial:
        """What is tried to find out what such steps cost."""
        spec, config = self.spec, self.config
        if self.is_student:
            problem = spec.student_problem(config, self.teacher)
        else:
            problem = spec.teacher_problem(config)
        return Trial(
            problem=problem,
            engine=spec.engine(config),
            group_size=self.group_size,
            teacher=None if self.teacher is None else problem.task.model(self.teacher.model),
            layer=layer,
            chunk_steps=chunk_steps(problem, config.training, self.group_size),
        )

    def cost(self, known: Mapping[str, Measured]) -> Cost:
        """What it costs, if steps of its kinds cost so much."""
        training = self.config.training
        checkpoints, resume_states = left_to_write(training, len(self.lanes), self.manifest)
        of_layer = {layer: known[key] for layer, key in self.kinds.items()}
        measured = tuple(of_layer.values())
        steps_left = sum(self.steps_of_layer.values())
        evaluations = math.ceil(steps_left / training.eval_every) + 1
        seconds = evaluations * measured[0].evaluation
        seconds += sum(one.start for one in measured)
        seconds += sum(n * of_layer[layer].step for layer, n in self.steps_of_layer.items())
        return Cost(
            seconds=seconds,
            memory=max(one.memory for one in measured),
            checkpoints=checkpoints * measured[0].checkpoint,
            resume=resume_states * measured[0].resume,
            may_end_sooner=training.may_end_sooner,
            is_scaled=any(one.is_scaled for one in measured),
        )

    def _kind(self, layer: int | None) -> str:
        training, teacher = self.config.training, self.teacher
        no_cost = (*NO_COST, *NO_COST_EITHER, *(IDLE_ON_LABELS if teacher is None else ()))
        settings = flatten(to_dict(self.config))
        kind = {
            "experiment": self.spec.name,
            "data": dict(self.spec.identity(self.config)),
            "settings": {k: v for k, v in settings.items() if not k.startswith(no_cost)},
            "batch_size": training.batch_size,
            "eval_examples": training.eval_examples,
            "lanes": len(self.lanes),
            "group_size": self.group_size,
            "teacher": None if teacher is None else to_dict(teacher.model),
            "layer": layer,
            "source": source_hash(self.spec.name),
        }
        return fingerprint(kind | _machine())


def _runs_to_do(to_do: Sequence[Stage], planned: Sequence[Stage]) -> dict[Path, RunToDo]:
    """The runs among some stages, by the stage's output."""
    config_of = {stage.run_dir: stage.config for stage in planned if isinstance(stage, RunStage)}
    return {
        stage.output: RunToDo(
            spec=stage.spec,
            config=_with_one_rate(stage.config) if stage.tuned_by else stage.config,
            teacher=None if stage.teacher is None else config_of[stage.teacher],
            is_student=stage.stage == "distill",
            manifest=RunDirectory(stage.run_dir).manifest if stage.is_begun() else {},
        )
        for stage in to_do
        if isinstance(stage, RunStage) and stage.has_data
    }


def _with_one_rate(config: Any) -> Any:
    """The configuration as it is when a sweep has chosen its rate."""
    return replace(
        config, optim=replace(config.optim, learning_rate=config.optim.learning_rate[:1])
    )


@functools.cache
def _machine() -> dict[str, Any]:
    """What decides, beside the run, how fast it is."""
    device = jax.devices()[0]
    return {
        "packages": [importlib.metadata.version(name) for name in ("jax", "jaxlib")],
        "device": [device.platform, device.device_kind, jax.device_count()],
        "flags": os.environ.get("XLA_FLAGS", ""),
        "common": source_hash("common"),
    }


def _file() -> Path:
    return machine_cache("costs").with_suffix(".json")


def _read_known() -> dict[str, Measured]:
    """What has been measured on this machine, by the key of the kind."""
    known = {}
    for key, values in _read_file().items():
        with suppress(RunError, TypeError, ValueError):
            known[key] = from_dict(Measured, values, _file())
    return known


def _read_file() -> dict[str, Any]:
    """Empty if there is none, or one that cannot be read."""
    try:
        values = json.loads(_file().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def _keep(key: str, measured: Measured) -> None:
    """Keep a measurement, beside those that other processes may have made meanwhile."""
    values = list((_read_file() | {key: to_dict(measured)}).items())
    with suppress(OSError, UserError):
        _file().parent.mkdir(parents=True, exist_ok=True)
        write_json(_file(), dict(values[-MOST_KEPT:]))
