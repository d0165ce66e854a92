"""What every run does with its directory: say what would be done, refuse, skip, resume or train."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from common.base.config import Runtime, TrainingConfig
from common.base.errors import RunError, UserError
from common.base.interruption import telling
from common.judge.transition import Watch
from common.runs.directory import RunDirectory, opened, start_of_now
from common.runs.files import bytes_text, free_bytes
from common.runs.trajectory import Trajectory, describe_steps
from common.train import ring
from common.train.chunks import CHUNK_STEPS, chunk_steps
from common.train.engine import Engine, ScanEngine, init_lane
from common.train.fit import Supervision, fit, what_is_saved
from common.train.lanes import Lane
from common.train.problem import Problem
from common.train.schedule import FixedSchedule, Schedule
from common.train.speed import describe

VERSION = 1
"""Raised when training the same configuration of any experiment would come out otherwise."""


@dataclass(frozen=True)
class TrainingRun:
    """One training run as asked for."""

    run_dir: Path
    record: Mapping[str, Any]
    """What identifies the run: experiment, stage, config, teacher_hash; and `paths`, which do
    not."""
    problem: Problem
    training: TrainingConfig
    supervision: Supervision
    provenance: Mapping[str, Any]
    """Further manifest entries."""
    engine: Callable[[Problem, int], Engine] = ScanEngine
    """Makes what advances the state, from the problem and the group size."""
    watch: Watch = Watch()
    """When a transition begins and is done, for the ring of checkpoints and for an early end."""
    tells_speed: bool = False
    """Whether the run measures itself beside what its device can do."""
    teacher_steps: tuple[int, ...] = ()
    """The teacher's checkpoints, where one supervises."""

    def run(self, runtime: Runtime) -> None:
        """Train to the end, or say that this has been done.

        Raises:
            UserError: a checkpoint that the schedule needs is missing, or nothing is to be learnt.
            RunError: the disk has no room, or training failed.
        """
        self.check_schedules()
        console = Console(stderr=True, soft_wrap=True, highlight=False)
        self.check_supervised(console)
        group_size = self.supervision.group_size(self.problem.lanes)
        with (
            opened(self.run_dir, self.record, **self.manifest(group_size)) as run,
            telling(lambda: what_is_saved(run, self.training.steps)),
        ):
            if run.finished:
                Trajectory(run).drop_leftovers()  # of a process that was killed at the very end
                run.mark_done()
                console.print(f"{escape(str(self.run_dir))}: already finished, nothing to do")
                return
            Trajectory(run).discard_unsaved()
            self.check_disk(run)
            if warning := note_start(run):
                console.print(f"[yellow]warning:[/] {escape(warning)}")
            problem = replace(self.problem, device_bytes=runtime.device_bytes)
            engine = self.engine(problem, group_size)
            steps = fit(problem, self.supervision, self.training, run, runtime, engine, self.watch)
            console.print(self.last_words(run, steps, group_size, engine.num_devices))

    def manifest(self, group_size: int) -> dict[str, Any]:
        """What the manifest of a new run says of it."""
        lanes, schedules_L = self.problem.lanes, self.supervision.schedules_L
        distinct = list(dict.fromkeys(schedules_L))
        return {
            "seeds": [lane.seed for lane in lanes],
            "learning_rates": [lane.learning_rate for lane in lanes],
            "schedules": {
                "distinct": [asdict(schedule) for schedule in distinct],
                "of_lane": [distinct.index(schedule) for schedule in schedules_L],
            },
            **self.provenance,
            CHUNK_STEPS: chunk_steps(self.problem, self.training, group_size),
        }

    def last_words(self, run: RunDirectory, steps: int, group_size: int, num_devices: int) -> str:
        """What came out, where, and how fast."""
        num_lanes, seconds = len(self.problem.lanes), run.manifest["wall_seconds"]
        examples = steps * self.training.batch_size * num_lanes
        where = f"{escape(str(self.run_dir))}: {steps:,} steps x {num_lanes} lanes"
        rates = [f"{examples / seconds:,.0f} examples/s"]
        if self.tells_speed:
            speed = describe(self.problem.work, examples, seconds, num_devices, group_size)
            run.write_manifest(speed=speed)
            rates += [
                f"{speed['tokens_per_second']:,.0f} tokens/s",
                f"{speed['flops_per_second'] / 1e9:,.1f} GFLOP/s",
                f"{speed['utilisation']:.0%} of what a large product of matrices reaches here",
            ]
        return f"{where} in {seconds:.1f} s ({', '.join(rates)})"

    def check_supervised(self, console: Console) -> None:
        """Refuse a run that has nothing to be judged by; warn of one that has next to nothing to
        learn from.

        Raises:
            UserError: no position of the evaluation set is to be predicted, nor is likely to be one
                of training.
        """
        if not self.problem.task.selected_by:
            return  # all positions are
        training = self.training
        num_selected = float(np.sum(self.problem.evaluation().mask))
        if not num_selected:
            raise UserError(
                f"{self.problem.task.selected_by} leaves nothing to predict in the"
                f" {training.eval_examples:,} examples of the evaluation set, so that nothing could"
                " be judged; give a larger one, or more --training.eval-examples"
            )
        in_a_batch = num_selected * training.batch_size / training.eval_examples
        if in_a_batch < 1:
            text = (
                f"{self.problem.task.selected_by} leaves {in_a_batch:.2g} positions to predict in a"
                " batch, on the average: most updates learn nothing"
            )
            console.print(f"[yellow]warning:[/] {escape(text)}", highlight=False)

    def check_disk(self, run: RunDirectory) -> None:
        """Refuse to start, or to go on with, a run whose checkpoints cannot fit."""
        needed, free = self.bytes_to_write(run), free_bytes(self.run_dir)
        if needed > free:
            raise RunError(
                f"{self.run_dir}: what is still to be written needs {bytes_text(needed)}, the disk"
                f" has {bytes_text(free)} free; free {bytes_text(needed - free)} more and run the"
                " same command again"
            )

    def bytes_to_write(self, run: RunDirectory | None = None) -> int:
        """Size of all checkpoints of the run, of those that its ring may keep or let wait, and of
        the two resume states that exist for a moment.

        Args:
            run: the run as it is, whose checkpoints and resume state are there already; None: all
                of it.
        """
        checkpoint, resume = bytes_of_lane(self.problem)
        num_lanes, manifest = len(self.problem.lanes), {} if run is None else run.manifest
        num_checkpoints, num_resume_states = left_to_write(self.training, num_lanes, manifest)
        return num_lanes * (checkpoint * num_checkpoints + resume * num_resume_states)

    def dry_run(self) -> None:
        """Print what would be done: length, lanes, checkpoints, and which teacher checkpoint
        supervises which student steps.

        Raises:
            UserError: a checkpoint that the schedule needs is missing.
        """
        training, console = self.training, Console(soft_wrap=True)
        plan = Table(
            "",
            "",
            title=f"{escape(str(self.run_dir))} (dry run: nothing is trained or written)",
            show_header=False,
            title_justify="left",
        )
        plan.add_row(
            "steps",
            f"{training.steps:,} x {training.batch_size} = {training.steps * training.batch_size:,}"
            " examples",
        )
        if training.stop_after is not None:
            is_sweep = len({lane.learning_rate for lane in self.problem.lanes}) > 1
            who = "the median lane of the best learning rate" if is_sweep else "every lane"
            plan.add_row(
                "", f"sooner, at {training.stop_after:g} times the steps by which {who} has learnt"
            )
        if training.stop_when_flat is not None:
            plan.add_row(
                "",
                "sooner, once the loss of a quarter of the steps lies by less than"
                f" {training.stop_when_flat:g} below that of the quarter before",
            )
        plan.add_row("lanes", f"{len(self.problem.lanes)}: {describe_lanes(self.problem.lanes)}")
        plan.add_row(
            "evaluation",
            f"every {training.eval_every:,} steps on {training.eval_examples:,} examples",
        )
        if training.ring_every:
            plan.add_row(
                "ring",
                f"every {training.ring_every:,} steps through a transition, from"
                f" {training.ring_size} before it begins",
            )
        plan.add_row(
            "checkpoints",
            f"{describe_steps(training.checkpoint_steps())} ({bytes_text(self.bytes_to_write())})",
        )
        console.print(plan)
        groups: dict[Schedule, set[int]] = {}
        for schedule, lane in zip(self.supervision.schedules_L, self.problem.lanes, strict=True):
            groups.setdefault(schedule, set()).add(lane.seed)
        for schedule, seeds in groups.items():
            table = schedule_table(
                schedule, sorted(seeds), self.teacher_steps, self.problem.is_generated
            )
            console.print(table)
        self.check_schedules()

    def check_schedules(self) -> None:
        """Raise a UserError if a schedule asks for a checkpoint that the teacher does not have."""
        wanted = {
            step
            for schedule in self.supervision.schedules_L
            for step in schedule.possible_teacher_steps()
        }
        missing = sorted(wanted - set(self.teacher_steps))
        if missing:
            shown = ", ".join([*map(str, missing[:5]), *(["..."] if len(missing) > 5 else [])])
            raise UserError(
                f"the schedule asks for the teacher's checkpoint at step {shown}, which does not"
                f" exist; the teacher has {describe_steps(self.teacher_steps)}"
            )


def bytes_of_lane(problem: Problem) -> tuple[int, int]:
    """Bytes of one lane in a checkpoint, and in the state to resume from."""
    scalars = jax.ShapeDtypeStruct((), np.uint32), jax.ShapeDtypeStruct((), np.float32)
    state = jax.eval_shape(functools.partial(init_lane, problem), *scalars)
    checkpoint, resume = (
        sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
        for tree in (state.params, state)
    )
    return checkpoint, resume


def left_to_write(
    training: TrainingConfig, num_lanes: int, manifest: Mapping[str, Any]
) -> tuple[int, int]:
    """How many checkpoints a run may still write, those that its ring keeps or lets wait among
    them, and how many states to resume from, of which two exist for a moment.

    Args:
        training: its length and its grids.
        num_lanes: which its ring watches.
        manifest: of the run as it is, which has some of them already; empty: it is not begun.
    """
    most = len(training.checkpoint_steps())
    if training.ring_every:
        # One more than wait, because the oldest leaves after the newest has come.
        most_in_ring = ring.most_kept(num_lanes, training.ring_size) + training.ring_size + 1
        most += min(most_in_ring, training.steps // training.ring_every)
    there = manifest.get("checkpoints", {}) | manifest.get("waiting", {})
    return max(0, most - len(there)), 1 if "resume" in manifest else 2


def note_start(run: RunDirectory) -> str:
    """Write into the manifest that a process starts or goes on with a run: where, when, from which
    step, by which code.

    Returns:
        A warning if the run goes on on other devices than it was last on; else nothing.
    """
    resume = run.manifest.get("resume")
    start = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "step": resume["step"] if resume else 0,
    } | start_of_now()
    starts = run.manifest.get("starts", [])
    run.write_manifest(starts=[*starts, start])
    earlier, now = starts[-1]["device"] if starts else run.manifest["device"], start["device"]
    names = ("platform", "kind", "count", *(["processor"] if now["platform"] == "cpu" else []))
    changed = [
        f"{name} {earlier[name]} -> {now[name]}"
        for name in names
        if earlier.get(name, now[name]) != now[name]
    ]
    if resume is None or not changed:
        return ""
    return (
        f"{run.path} goes on with other devices than it had before ({', '.join(changed)}): they"
        " round differently, so that its numbers will not be to the bit those of a run on either"
        " alone"
    )


def describe_lanes(lanes: Sequence[Lane]) -> str:
    """Seeds and learning rates of a run in one line."""
    seeds, rates = (
        sorted({lane.seed for lane in lanes}),
        list(dict.fromkeys(lane.learning_rate for lane in lanes)),
    )
    return (
        f"seeds {seeds[0]}..{seeds[-1]}, learning rate {', '.join(f'{rate:g}' for rate in rates)}"
    )


def schedule_table(
    schedule: Schedule, seeds: Sequence[int], available: Sequence[int], is_generated: bool
) -> Table:
    """Which teacher checkpoint supervises which student steps, or generates their examples, and
    which of them are missing."""
    table = Table(
        "student steps",
        "examples generated by checkpoint" if is_generated else "teacher checkpoint",
        "",
        title=f"supervision of seeds {', '.join(map(str, seeds))}",
        title_justify="left",
    )

    def status(step: int | None) -> str:
        if step is None:
            return ""
        return "found" if step in available else "[bold red]MISSING[/]"

    if isinstance(schedule, FixedSchedule):
        for segment in schedule.segments:
            name = "labels" if segment.teacher_step is None else str(segment.teacher_step)
            name += "" if segment.layer is None else f", hidden layer {segment.layer}"
            table.add_row(
                f"{segment.start:,} .. {segment.stop - 1:,}", name, status(segment.teacher_step)
            )
    else:
        for step in schedule.teacher_steps:
            table.add_row("until saturated", str(step), status(step))
    return table
