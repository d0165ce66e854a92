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
import os
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TextIO

import jax
import numpy as np

from common.base import processes
from common.base.config import Runtime, TrainingConfig
from common.base.errors import RunError
from common.base.interruption import Notes, Preempted, noting
from common.base.progress import progress_bar
from common.judge.transition import Watch
from common.nn.functional import Params
from common.runs.directory import METRICS, RunDirectory
from common.runs.trajectory import Trajectory
from common.train import ring
from common.train.chunks import CHUNK_STEPS
from common.train.engine import Engine, Metrics, TrainState
from common.train.lanes import Lane
from common.train.problem import Problem
from common.train.schedule import Schedule, State
from common.train.stopping import Stopping, stopping


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
    """A run while it trains."""

    problem: Problem
    supervision: Supervision
    config: TrainingConfig
    run: RunDirectory
    runtime: Runtime
    engine: Engine
    watch: Watch
    trajectory: Trajectory = field(init=False)
    state: TrainState = field(init=False)
    step: int = 0
    """Updates that are done."""
    stopping: Stopping = field(init=False)
    checkpoint_steps: set[int] = field(init=False)
    metrics_file: TextIO = field(init=False)
    pending: tuple[int, list[int | None], Metrics] | None = None
    """A record whose metrics are still on the device: fetched one chunk late, so that the device is
    never waited for."""
    watched_L: list[float] = field(default_factory=list)
    """The watched metric of every lane, at the last evaluation."""
    teacher_params: Params | None = None
    teacher_steps_L: list[int | None] | None = None
    """The checkpoints in `teacher_params`; None: none has been loaded yet."""
    schedule_states_L: list[State] = field(default_factory=list)
    ring_state: ring.State = field(default_factory=dict)
    wall_seconds_before: float = 0.0
    """Spent by earlier processes."""
    began: float = field(default_factory=time.monotonic)
    last_save: float = field(default_factory=time.monotonic)

    def run_to_end(self) -> int:
        is_resumed = self._start()
        mode = "r+" if is_resumed else "w"
        path = self.run.path / METRICS if processes.is_first() else Path(os.devnull)
        with (
            path.open(mode) as self.metrics_file,
            noting() as signals,
            self._progress_bar() as progress,
        ):
            self.metrics_file.seek(0, os.SEEK_END)
            if not is_resumed:  # a resume state is saved after its step's events
                self._events()
            progress(self.step)
            while self.step < self.stopping.last_step:
                self._save_if_due(signals)
                self._call_teachers()
                self._advance()
                self._events()
                progress(self.step)
            self._flush()
            # Before signals are heeded elsewhere: one that came in the last chunk finds the run
            # finished.
            self.run.finish(self._wall_seconds())
            self.trajectory.drop_leftovers()
            self.run.mark_done()
        return self.step

    def _start(self) -> bool:
        """Begin, or go on with what an earlier process has saved; whether it is the latter."""
        self.trajectory = Trajectory(self.run)
        self.checkpoint_steps = set(self.config.checkpoint_steps())
        rates_L = [lane.learning_rate for lane in self.problem.lanes]
        self.state = self.engine.init()
        loaded = self.trajectory.load_resume(processes.gathered(self.state))
        if loaded is None:
            schedules_L = self.supervision.schedules_L
            self.schedule_states_L = [schedule.initial_state() for schedule in schedules_L]
            self.ring_state = ring.initial_state(len(self.problem.lanes))
            self.stopping = stopping(self.config, self.watch, rates_L, ())
            return False
        saved, host_state = loaded
        self.state, self.step = self.engine.place(saved), host_state["step"]
        self.schedule_states_L = host_state["schedules"]
        self.ring_state = host_state["ring"]
        self.wall_seconds_before = host_state["wall_seconds"]
        processes.by_first(lambda: self._truncate_metrics(host_state["metrics_bytes"]))
        self.stopping = stopping(self.config, self.watch, rates_L, self.run.metrics())
        return True

    def _progress_bar(self) -> AbstractContextManager[Callable[[int], None]]:
        return progress_bar(
            self.run.path.name,
            self.config.steps,
            self.step,
            per_unit=self.config.batch_size * len(self.problem.lanes),
            rate_unit="examples",
        )

    def _wall_seconds(self) -> float:
        return self.wall_seconds_before + time.monotonic() - self.began

    def _save_if_due(self, signals: Notes) -> None:
        """Save from time to time, by the clock of the first process, and when a signal asks any to
        stop.

        Raises:
            Preempted: one has.
        """
        is_time = time.monotonic() - self.last_save > self.runtime.resume_seconds
        asked = processes.largest(2 * (signals.first or 0) + (is_time and processes.is_first()))
        stop_signal = asked // 2 or None
        if not asked:
            return
        self._flush()
        self.trajectory.save_resume(
            self.step,
            self.state,
            metrics_bytes=self.metrics_file.tell(),
            schedules=self.schedule_states_L,
            ring=self.ring_state,
            wall_seconds=self._wall_seconds(),
        )
        self.last_save = time.monotonic()
        if stop_signal is not None:
            processes.largest(0)  # none leaves before the first one has saved
            raise Preempted(stop_signal, what_is_saved(self.run, self.config.steps))

    def _call_teachers(self) -> None:
        """Load the checkpoints that supervise the next steps, unless they are there."""
        wanted = self._teacher_steps(self.step)
        if wanted != self.teacher_steps_L:
            self.teacher_params, self.teacher_steps_L = self._load_teachers(wanted), wanted
            self._prefetch_teachers(self.step)

    def _advance(self) -> None:
        """Train up to the next event."""
        if self.pending is None:
            # Else a slow device would be asked for many chunks before the next look.
            jax.block_until_ready(self.state)
        stop = self._next_event()
        # Lanes differ in which checkpoint teaches them and when, not in whether a hidden layer
        # learns.
        layer = self.supervision.schedules_L[0].layer(self.step)
        num_steps = stop - self.step
        self.state = self.engine.advance(self.state, self.teacher_params, num_steps, layer)
        self._flush()
        self.step = stop

    def _truncate_metrics(self, size: int) -> None:
        path = self.run.path / METRICS
        if not path.exists() or path.stat().st_size < size:
            raise RunError(
                f"{path} is shorter than when the run was saved; delete {self.run.path} and run its"
                " command again"
            )
        with path.open("r+") as file:
            file.truncate(size)

    def _events(self) -> None:
        """What is due after the updates that are done: an evaluation, a checkpoint, the ring."""
        is_last = self.step == self.stopping.last_step
        is_evaluated = self.step % self.config.eval_every == 0 or is_last
        if is_evaluated:
            self._evaluate()
            is_last = self.step == self.stopping.last_step  # it may have turned out to be
        if self.step in self.checkpoint_steps or is_last:
            self._flush()  # a NaN is reported before it is saved
            self._check_divergence(processes.gathered(self.state.diverged_at))
            self.trajectory.save(self.step, self.state.params)
        ring_every = self.config.ring_every
        if is_evaluated and ring_every and self.step % ring_every == 0:
            self._turn_ring()

    def _evaluate(self) -> None:
        self.state, metrics = self.engine.record(self.state)
        teacher_steps_L = self._teacher_steps(min(self.step, self.config.steps - 1))
        self.pending = (self.step, teacher_steps_L, metrics)
        if self.config.watches:
            self.watched_L = processes.gathered(metrics[self.watch.metric]).tolist()
        if self.stopping.metric is not None:
            values_L = processes.gathered(metrics[self.stopping.metric])
            self.stopping.observe(self.step, values_L.tolist())
        if any(schedule.adaptive for schedule in self.supervision.schedules_L):
            self._observe(self.step, processes.gathered(metrics["accuracy"]))

    def _turn_ring(self) -> None:
        self._flush()
        self.ring_state, kept = ring.observe(
            self.ring_state,
            self.step,
            self.watched_L,
            self.config.ring_size,
            self.watch.detector,
        )
        waiting = self.ring_state["waiting"]
        if self.step in (*kept, *waiting):
            self.trajectory.save_waiting(self.step, self.state.params)
        if kept:
            self.trajectory.keep(kept)
        # A process that is killed goes on from an earlier step with some of these in its ring, sees
        # the same metric, and drops them as well.
        self.trajectory.drop_waiting_except(waiting)

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

    def _flush(self) -> None:
        if self.pending is None:
            return
        step, teacher_steps_L, metrics = self.pending
        self.pending = None
        host = processes.gathered(metrics)
        record: dict[str, Any] = {
            "step": step,
            "examples": step * self.config.batch_size,
            "teacher_step": teacher_steps_L,
        }
        record |= {name: _json_numbers(values_L) for name, values_L in host.items()}
        self.metrics_file.write(json.dumps(record, allow_nan=False) + "\n")
        self.metrics_file.flush()
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
        state = processes.gathered(self.engine.init())
        state = self.engine.place(state._replace(step=np.full_like(state.step, step)))
        teacher_params = self._load_teachers(self._teacher_steps(step))
        state = self.engine.advance(
            state, teacher_params, 1, self.supervision.schedules_L[0].layer(step)
        )
        return bool(processes.gathered(state.diverged_at)[lane])

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

    def _next_event(self) -> int:
        step, checkpoint_steps = self.step, self.checkpoint_steps
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
