"""The one training loop: between events it asks an engine to advance the state; at events it
records, saves and changes teachers.

Events lie at steps that depend on the configuration (and, for adaptive schedules, on the student's
own curve) and never on the clock, so that a run that was killed and resumed passes through the same
compiled chunks as one that was not, and ends with the same bits. Where events lie far apart the
loop looks up in between, at such steps too (`common.train.chunks`): whether it was asked to stop,
and whether its state is to be saved.
"""

import itertools
import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import jax
import numpy as np

from common.base.config import Runtime, TrainingConfig
from common.base.errors import RunError
from common.base.interruption import Preempted, noting
from common.base.progress import progress_bar
from common.judge.transition import Watch
from common.nn.functional import Params
from common.runs.directory import RunDirectory
from common.runs.trajectory import Trajectory
from common.train import ring
from common.train.chunks import CHUNK_STEPS
from common.train.engine import Engine, Metrics, Problem, TrainState
from common.train.lanes import Lane
from common.train.schedule import Schedule, State
from common.train.stopping import Stopping


class TeacherSource(Protocol):
    """Where the teacher's parameters come from."""

    def stacked(self, wanted: Sequence[tuple[int, int]]) -> Params:
        """The teachers of some student lanes, pairs (lane, teacher step), stacked along a leading
        axis."""
        ...

    def prefetch(self, steps: Iterable[int]) -> None:
        """Begin to read the checkpoints of these teacher steps."""
        ...


@dataclass(frozen=True)
class Supervision:
    """Who teaches each lane, and when."""

    schedules_L: tuple[Schedule, ...]
    teacher: TeacherSource | None

    def group_size(self, lanes: Sequence[Lane]) -> int:
        """How many neighbouring lanes always share data and teacher: those of one stream, unless
        each follows its own progress."""
        if any(schedule.adaptive for schedule in self.schedules_L):
            return 1
        blocks = [
            len(list(block))
            for _, block in itertools.groupby(
                zip(lanes, self.schedules_L, strict=True),
                key=lambda pair: (pair[0].stream, pair[1]),
            )
        ]
        return blocks[0] if len(set(blocks)) == 1 else 1


def fit(
    problem: Problem,
    supervision: Supervision,
    config: TrainingConfig,
    run: RunDirectory,
    runtime: Runtime,
    engine: Engine,
    watch: Watch,
) -> int:
    """Train all lanes of a run to the end, going on from its resume state if there is one.

    Args:
        problem: what is trained.
        supervision: one schedule a lane.
        config: length, evaluation and checkpoint grid.
        run: an opened run directory that is not finished.
        runtime: how often the resume state is saved.
        engine: advances the state.
        watch: when a transition begins and is done, for the ring of checkpoints and for a run that
            may end early.

    Returns:
        How many updates were made in all.

    Raises:
        RunError: a loss became NaN or infinite (in a sweep of learning rates: in every lane), or a
            file could not be written or verified.
        Preempted: a signal arrived; the state is saved.
    """
    return _Fit(problem, supervision, config, run, runtime, engine, watch).run_to_end()


@dataclass
class _Fit:
    problem: Problem
    supervision: Supervision
    config: TrainingConfig
    run: RunDirectory
    runtime: Runtime
    engine: Engine
    watch: Watch
    stopping: Stopping = field(init=False)
    pending: tuple[int, list[int | None], Metrics] | None = None
    """A record whose metrics are still on the device: fetched one chunk late, so that the device is
    never waited for."""
    schedule_states_L: list[State] = field(default_factory=list)
    ring_state: ring.State = field(default_factory=dict)
    wall_seconds_before: float = 0.0

    def run_to_end(self) -> int:
        trajectory = Trajectory(self.run)
        state, step = self._start(trajectory)
        rates_L = [lane.learning_rate for lane in self.problem.lanes]
        self.stopping = Stopping(
            self.config, self.watch, rates_L, self.run.metrics() if step is not None else ()
        )
        checkpoint_steps = set(self.config.checkpoint_steps())
        began = last_save = time.monotonic()
        examples_per_step = self.config.batch_size * len(self.problem.lanes)
        with (
            (self.run.path / "metrics.jsonl").open(
                "r+" if step is not None else "w"
            ) as metrics_file,
            noting() as signals,
            progress_bar(
                self.run.path.name,
                self.config.steps,
                step or 0,
                per_unit=examples_per_step,
                rate_unit="examples",
            ) as progress,
        ):
            metrics_file.seek(0, 2)
            teacher_params, teacher_steps_L = None, None
            resumed, step = step is not None, step or 0
            while True:
                if not resumed:  # a resume state is saved after its step's events
                    state = self._events(state, step, checkpoint_steps, trajectory, metrics_file)
                resumed = False
                progress(step)
                if step >= self.stopping.last_step:
                    self._flush(metrics_file)
                    break
                stop_signal = signals.first
                if (
                    stop_signal is not None
                    or time.monotonic() - last_save > self.runtime.resume_seconds
                ):
                    self._flush(metrics_file)
                    self._save_resume(
                        trajectory, state, step, metrics_file.tell(), time.monotonic() - began
                    )
                    last_save = time.monotonic()
                if stop_signal is not None:
                    raise Preempted(stop_signal, what_is_saved(self.run, self.config.steps))
                if (wanted := self._teacher_steps(step)) != teacher_steps_L:
                    teacher_params, teacher_steps_L = self._load_teachers(wanted), wanted
                    self._prefetch_teachers(step)
                if self.pending is None:
                    # Else a slow device would be asked for many chunks before the next look.
                    jax.block_until_ready(state)
                stop = self._next_event(step, checkpoint_steps)
                # Lanes differ in which checkpoint teaches them and when, not in whether a hidden
                # layer learns.
                state = self.engine.advance(
                    state, teacher_params, stop - step, self.supervision.schedules_L[0].layer(step)
                )
                self._flush(metrics_file)
                step = stop
            # Before signals are heeded elsewhere: one that came in the last chunk finds the run
            # finished.
            self.run.finish(self.wall_seconds_before + time.monotonic() - began)
            trajectory.drop_leftovers()
            self.run.mark_done()
        return step

    def _start(self, trajectory: Trajectory) -> tuple[TrainState, int | None]:
        state = self.engine.init()
        loaded = trajectory.load_resume(jax.device_get(state))
        if loaded is None:
            self.schedule_states_L = [
                schedule.initial_state() for schedule in self.supervision.schedules_L
            ]
            self.ring_state = ring.initial_state(len(self.problem.lanes))
            return state, None
        saved, host_state = loaded
        self.schedule_states_L = host_state["schedules"]
        self.ring_state = host_state["ring"]
        self.wall_seconds_before = host_state["wall_seconds"]
        self._truncate_metrics(host_state["metrics_bytes"])
        return self.engine.place(saved), host_state["step"]

    def _truncate_metrics(self, size: int) -> None:
        path = self.run.path / "metrics.jsonl"
        if not path.exists() or path.stat().st_size < size:
            raise RunError(
                f"{path} is shorter than when the run was saved; delete {self.run.path} and run its"
                " command again"
            )
        with path.open("r+") as file:
            file.truncate(size)

    def _events(
        self,
        state: TrainState,
        step: int,
        checkpoint_steps: set[int],
        trajectory: Trajectory,
        metrics_file: Any,
    ) -> TrainState:
        metrics = None
        if step % self.config.eval_every == 0 or step == self.stopping.last_step:
            state, metrics = self.engine.record(state)
            self.pending = (step, self._teacher_steps(min(step, self.config.steps - 1)), metrics)
            if self.stopping.watches:
                self.stopping.observe(step, np.asarray(metrics[self.watch.metric]).tolist())
            if any(schedule.adaptive for schedule in self.supervision.schedules_L):
                self._observe(step, np.asarray(metrics["accuracy"]))
        if step in checkpoint_steps or step == self.stopping.last_step:
            self._flush(metrics_file)  # a NaN is reported before it is saved
            self._check_divergence(np.asarray(state.diverged_at_L))
            trajectory.save(step, state.params)
        if metrics is not None and self.config.ring_every and step % self.config.ring_every == 0:
            self._flush(metrics_file)
            self._turn_ring(
                step, state, np.asarray(metrics[self.watch.metric]).tolist(), trajectory
            )
        return state

    def _turn_ring(
        self, step: int, state: TrainState, metric_L: list[float], trajectory: Trajectory
    ) -> None:
        self.ring_state, kept = ring.observe(
            self.ring_state, step, metric_L, self.config.ring_size, self.watch.detector
        )
        if step in (*kept, *self.ring_state["waiting"]):
            trajectory.save_waiting(step, state.params)
        if kept:
            trajectory.keep(kept)
        # A process that is killed goes on from an earlier step with some of these in its ring, sees
        # the same metric, and drops them as well.
        trajectory.drop_waiting_except(self.ring_state["waiting"])

    def _observe(self, step: int, accuracy_L: np.ndarray) -> None:
        # An adaptive schedule must know this evaluation before the next chunk starts; for a fixed
        # one this returns its state unchanged.
        schedules = zip(
            self.supervision.schedules_L, self.schedule_states_L, accuracy_L, strict=True
        )
        self.schedule_states_L = [
            schedule.observe(step, float(accuracy), state)
            for schedule, state, accuracy in schedules
        ]

    def _flush(self, metrics_file: Any) -> None:
        if self.pending is None:
            return
        step, teacher_steps_L, metrics = self.pending
        self.pending = None
        host = jax.device_get(metrics)
        record: dict[str, Any] = {
            "step": step,
            "examples": step * self.config.batch_size,
            "teacher_step": teacher_steps_L,
        }
        record |= {name: _json_numbers(values_L) for name, values_L in host.items()}
        metrics_file.write(json.dumps(record, allow_nan=False) + "\n")
        metrics_file.flush()
        self._check_divergence(host["diverged_at"])

    def _check_divergence(self, diverged_at_L: np.ndarray) -> None:
        bad = [(int(at), number) for number, at in enumerate(diverged_at_L) if at]
        is_sweep = len({lane.learning_rate for lane in self.problem.lanes}) > 1
        if not bad or (is_sweep and len(bad) < len(self.problem.lanes)):
            # A rate too large for some lanes of a sweep is a finding; it stands in the metrics.
            return
        at, number = min(bad)
        lane = self.problem.lanes[number]
        if self._is_undefined_untrained(at, number):
            advice = (
                "the untrained model's loss on the same examples is NaN or infinite too, so that"
                " the learning rate is not to blame: look at the data and at the model's, the"
                " loss's and the teacher's settings"
            )
        else:
            advice = "lower --optim.learning-rate"
        raise RunError(
            f"{self.run.path}: the training loss became NaN or infinite at step {at} (seed"
            f" {lane.seed}, learning rate {lane.learning_rate:g}); {advice}, and use a fresh"
            " --run-dir"
        )

    def _is_undefined_untrained(self, at: int, lane: int) -> bool:
        """Whether the examples of an update, counted from 1, give a lane's untrained model too a
        loss that is no number."""
        step = at - 1
        state = jax.device_get(self.engine.init())
        state = self.engine.place(state._replace(step_L=np.full_like(state.step_L, step)))
        teacher_params = self._load_teachers(self._teacher_steps(step))
        state = self.engine.advance(
            state, teacher_params, 1, self.supervision.schedules_L[0].layer(step)
        )
        return bool(np.asarray(state.diverged_at_L)[lane])

    def _save_resume(
        self,
        trajectory: Trajectory,
        state: TrainState,
        step: int,
        metrics_bytes: int,
        seconds: float,
    ) -> None:
        wall_seconds = self.wall_seconds_before + seconds
        host_state = {
            "schedules": self.schedule_states_L,
            "ring": self.ring_state,
            "wall_seconds": wall_seconds,
        }
        trajectory.save_resume(step, state, metrics_bytes=metrics_bytes, **host_state)

    def _teacher_steps(self, step: int) -> list[int | None]:
        return [
            schedule.teacher_step(step, state)
            for schedule, state in zip(
                self.supervision.schedules_L, self.schedule_states_L, strict=True
            )
        ]

    def _load_teachers(self, steps_L: list[int | None]) -> Params | None:
        if self.supervision.teacher is None:
            return None
        wanted = [(lane, step) for lane, step in enumerate(steps_L) if step is not None]
        return self.engine.place(
            self.supervision.teacher.stacked(wanted[:: self.engine.group_size])
        )

    def _prefetch_teachers(self, step: int) -> None:
        next_change = min(schedule.next_change(step) for schedule in self.supervision.schedules_L)
        if self.supervision.teacher is not None and next_change < self.config.steps:
            self.supervision.teacher.prefetch(
                step for step in self._teacher_steps(next_change) if step is not None
            )

    def _next_event(self, step: int, checkpoint_steps: set[int]) -> int:
        since_eval = step % self.config.eval_every
        next_eval = step - since_eval + self.config.eval_every
        # A run begun before chunks were bounded has no number of its own: its chunks reach to the
        # next event.
        chunk_steps = self.run.manifest.get(CHUNK_STEPS, self.config.eval_every)
        next_look = step - since_eval + (since_eval // chunk_steps + 1) * chunk_steps
        next_checkpoint = min((s for s in checkpoint_steps if s > step), default=self.config.steps)
        next_teacher = min(schedule.next_change(step) for schedule in self.supervision.schedules_L)
        return min(next_eval, next_look, next_checkpoint, next_teacher, self.stopping.last_step)


def _json_numbers(values: np.ndarray) -> list[float | int | None]:
    return [value if np.isfinite(value) else None for value in values.tolist()]


def what_is_saved(run: RunDirectory, steps: int) -> str:
    """What is left of a run if its process ends now, and what to do.

    Args:
        run: as this process knows it.
        steps: its length.
    """
    if run.finished:
        return f"{run.path} is finished"
    resume = run.manifest.get("resume")
    if resume is None:
        return f"nothing of {run.path} is saved yet; the same command begins it again"
    return (
        f"{run.path} is saved at step {resume['step']} of {steps}; the same command goes on from"
        " there"
    )
