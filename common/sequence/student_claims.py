"""Claims about the students of a token experiment (B4 and B5): which supervision brings them
furthest within a budget, and which first checkpoint; judged from run files by criteria fixed
beforehand."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from common.judge.stats import Estimate, paired_difference
from common.judge.transition import Detector, NoTransition, Transition
from common.judge.verdict import Claim, Measurement, Verdict
from common.runs.directory import RunDirectory, finished_run
from common.runs.transitions import transitions
from common.sequence.students import (
    C1,
    TEACHER,
    TUNED_TEACHER,
    BudgetConfig,
    First,
    StudentRuns,
    chosen_run,
    first_run,
    further_students,
    student,
)

FINAL = "final_accuracy.csv"
FIRST = "first_checkpoints.csv"
CHOICE = "chosen_first_checkpoint.csv"
BASELINES = ("one-shot", "ce")
"""What progressive distillation is compared with."""
CLAIMS = {
    "B4": Claim(
        "Progressive distillation brings a student further",
        "Accuracy at the end, paired over seeds: progressive less one-shot, and progressive less"
        " labels, each with its 95% interval above 0.",
    ),
    "B5": Claim(
        "The best first checkpoint of 2-shot lies in the teacher's drop",
        "Of the first checkpoints from plateau to tail the one with the best mean accuracy lies in"
        " the drop of most teachers, and its students beat those of the earliest and of the latest,"
        " paired over seeds, each with its 95% interval above 0. (The best is chosen and tested on"
        " the same seeds; C1, which is not chosen by its students, stands beside it.)",
    ),
}


@dataclass(frozen=True)
class Evidence:
    """The runs of one experiment, and the phases of its teachers."""

    home: Path
    students: StudentRuns
    """Which of them are students."""
    phases: Sequence[Transition | NoTransition]

    def run(self, name: str) -> RunDirectory:
        """One run.

        Raises:
            UserError: it is missing or unfinished.
        """
        return finished_run(self.home / name)

    def accuracy(self, name: str) -> list[float]:
        """Accuracy of every seed at the end of a run (a seed that diverged would have ended it)."""
        return self.run(name).metrics()[-1]["accuracy"]

    def verdict(
        self,
        claim: str,
        holds: bool | None,
        measurements: Sequence[Measurement],
        notes: Sequence[str] = (),
    ) -> Verdict:
        """A verdict on students, who are judged only where each strategy has a rate of its own;
        where it is None there, the claim is undecided."""
        if self.students.tuning is None:
            why = "measured, not judged: these rates were not chosen by a sweep"
            return Verdict(claim, None, tuple(measurements), (why, *notes))
        return Verdict(claim, holds, tuple(measurements), tuple(notes), undecided=holds is None)


def accuracy_claim(evidence: Evidence) -> Verdict:
    """B4: progressive brings the student further than one-shot and labels do."""
    final = final_accuracies(evidence)
    gains = {
        baseline: paired_difference(final[baseline], final["progressive"]) for baseline in BASELINES
    }
    measurements = [
        Measurement(f"accuracy, progressive less {label(name)}", gain)
        for name, gain in gains.items()
    ]
    measurements.append(
        Measurement(
            "accuracy, 2-shot less one-shot (not judged)",
            paired_difference(final["one-shot"], final["two-shot"]),
        )
    )
    measurements.append(
        Measurement(
            "accuracy, one-shot less labels (not judged)",
            paired_difference(final["ce"], final["one-shot"]),
        )
    )
    return evidence.verdict(
        "B4",
        all(map(positive, gains.values())),
        measurements,
        (means_note(final), rates_note(evidence)),
    )


def sweep_claim(evidence: Evidence) -> Verdict:
    """B5: the best first checkpoint lies in the drop."""
    table = first_table(evidence)
    best, inside = best_first(table), in_drops(table)
    final, ends = by_first(table), ends_of(table)
    gains = {name: paired_difference(final[end], final[best]) for name, end in ends.items()}
    measurements = [
        Measurement(f"accuracy, best first checkpoint less the {name}", gain)
        for name, gain in gains.items()
    ]
    for name, end in ends.items():
        measurements.append(
            Measurement(
                f"accuracy, C1 less the {name} (not judged)",
                paired_difference(final[end], final[C1.label]),
            )
        )
    where = "inside" if inside[best] else "outside"
    notes = [f"best: {best}, {where} the drop; {firsts_note(table)}"]
    notes += first_steps_notes(table, evidence.phases)
    return evidence.verdict(
        "B5", inside[best] and all(map(positive, gains.values())), measurements, notes
    )


def by_first(table: pd.DataFrame) -> dict[str, list[float]]:
    """The accuracies of every first checkpoint of `first_table`, in the order of the seeds; by its
    label, from the earliest."""
    groups = table.groupby("first", sort=False)
    return {str(first): own.accuracy.tolist() for first, own in groups}


def best_first(table: pd.DataFrame) -> str:
    """The first checkpoint with the best mean accuracy; of equals the earliest."""
    final = by_first(table)
    return max(final, key=lambda first: np.mean(final[first]))


def in_drops(table: pd.DataFrame) -> dict[str, bool]:
    """Whether a first checkpoint lies in the drop of most teachers."""
    share = table.groupby("first").in_drop.mean()
    return {str(first): bool(of_teachers > 0.5) for first, of_teachers in share.items()}


def ends_of(table: pd.DataFrame) -> dict[str, str]:
    """The earliest and the latest first checkpoint."""
    return {"earliest": table["first"].iloc[0], "latest": table["first"].iloc[-1]}


def firsts_note(table: pd.DataFrame) -> str:
    """The mean accuracy of every first checkpoint."""
    return means_note(by_first(table))


def first_steps_notes(
    table: pd.DataFrame, phases: Sequence[Transition | NoTransition]
) -> list[str]:
    """At which steps the earliest and the latest first checkpoint lie, and how many of the teachers
    have no drop."""
    notes = []
    for name, end in ends_of(table).items():
        steps = table[table["first"] == end].first_step
        notes.append(f"the {name} is step {steps.min()} to {steps.max()}")
    if absent := sum(isinstance(phase, NoTransition) for phase in phases):
        notes.append(
            f"{absent} teachers have no drop; their final checkpoint teaches alone, whatever the"
            " first one"
        )
    return notes


def tuned_phase(evidence: Evidence, detector: Detector) -> Transition | NoTransition | None:
    """The phases of the teacher by whose students rates and first checkpoints are chosen; None
    where there are no sweeps."""
    if evidence.students.tuning is None:
        return None
    (phase,) = transitions(evidence.run(TUNED_TEACHER), detector)
    return phase


def student_tables(
    evidence: Evidence, tuned: Transition | NoTransition | None = None
) -> dict[str, pd.DataFrame]:
    """How far all students came, by the names of their files.

    Args:
        evidence: the runs.
        tuned: `tuned_phase` of them, where the best first checkpoint is chosen on other seeds.
    """
    tables = {FINAL: final_table(evidence), FIRST: first_table(evidence)}
    if tuned is not None:
        tables[CHOICE] = choice_table(evidence, tuned)
    return tables


def first_table(evidence: Evidence) -> pd.DataFrame:
    """One row for each two-shot student, from the earliest first checkpoint to the latest: first
    (its label), seed, first_step (of the teacher), in_drop, accuracy (at the end)."""
    seeds = evidence.run(TEACHER).manifest["seeds"]
    return _first_table(evidence, first_run, dict(zip(seeds, evidence.phases, strict=True)))


def choice_table(evidence: Evidence, phase: Transition | NoTransition) -> pd.DataFrame:
    """The same of the students by whom the best first checkpoint is chosen.

    Args:
        evidence: the runs.
        phase: of the one teacher of them all.
    """
    seeds = evidence.run(chosen_run(C1)).manifest["seeds"]
    return _first_table(evidence, chosen_run, dict.fromkeys(seeds, phase))


def _first_table(
    evidence: Evidence,
    run_of: Callable[[First], str],
    phase_of: Mapping[int, Transition | NoTransition],
) -> pd.DataFrame:
    """As `first_table`.

    Args:
        evidence: the runs.
        run_of: the run of a first checkpoint.
        phase_of: that of the teacher of each seed.
    """
    rows = []
    for first in evidence.students.first.firsts:
        name = run_of(first)
        run = evidence.run(name)
        schedules = run.manifest["schedules"]
        for lane, (seed, accuracy) in enumerate(
            zip(run.manifest["seeds"], evidence.accuracy(name), strict=True)
        ):
            segments = schedules["distinct"][schedules["of_lane"][lane]]["segments"]
            first_step, phase = segments[0]["teacher_step"], phase_of[seed]
            in_drop = isinstance(phase, Transition) and phase.start <= first_step <= phase.end
            rows.append(
                {
                    "first": first.label,
                    "seed": seed,
                    "first_step": first_step,
                    "in_drop": in_drop,
                    "accuracy": accuracy,
                }
            )
    return pd.DataFrame(rows)


def final_table(evidence: Evidence) -> pd.DataFrame:
    """How far every run came within its budget: run, strategy, heads, seed, learning rate,
    examples, accuracy and loss on the evaluation set."""
    rows = []
    names = {TEACHER: "teacher"} | {student(arm): arm for arm in evidence.students.arms}
    names |= {name: strategy for name, strategy, *_ in further_students(evidence.students)}
    for name, strategy in names.items():
        run = evidence.run(name)
        last = run.metrics()[-1]
        columns = zip(
            run.manifest["seeds"],
            run.manifest["learning_rates"],
            evidence.accuracy(name),
            last["eval_loss"],
            strict=True,
        )
        where = {"run": name, "strategy": strategy, "heads": run.record["config"]["model"]["heads"]}
        rows += [
            where
            | {
                "seed": seed,
                "learning_rate": rate,
                "examples": last["examples"],
                "accuracy": accuracy,
                "eval_loss": loss,
            }
            for seed, rate, accuracy, loss in columns
        ]
    return pd.DataFrame(rows)


def final_accuracies(evidence: Evidence) -> dict[str, list[float]]:
    """Accuracy of every seed at the end, by arm."""
    return {arm: evidence.accuracy(student(arm)) for arm in evidence.students.arms}


def rates_note(evidence: Evidence, budget: BudgetConfig | None = None) -> str:
    """The chosen rates, and which of them the sweep's grid may have cut short; of the student's own
    length or of another."""
    tuning = evidence.students.tuning
    ends = () if tuning is None else (min(tuning.learning_rate), max(tuning.learning_rate))
    rates = {
        arm: evidence.run(student(arm, budget)).manifest["learning_rates"][0]
        for arm in (evidence.students.arms if budget is None else evidence.students.lengthened)
    }
    return "rates: " + ", ".join(
        f"{label(name)} {rate:g}{' (an end of the grid)' if rate in ends else ''}"
        for name, rate in rates.items()
    )


def positive(estimate: Estimate) -> bool:
    """Whether the whole interval lies above zero."""
    return math.isfinite(estimate.low) and estimate.low > 0


def means_note(values: Mapping[str, Sequence[float]]) -> str:
    """The mean over seeds of each strategy."""
    return "means: " + ", ".join(
        f"{label(name)} {np.mean(of_seeds):.3f}" for name, of_seeds in values.items()
    )


def label(arm: str) -> str:
    """An arm in words."""
    words = {
        "ce": "labels",
        "two-shot": "2-shot",
        "generations-two-shot": "generations (C1 first)",
        "progressive-untrained": "progressive from the first checkpoint",
    }
    return words.get(arm, arm)
