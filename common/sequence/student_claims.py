"""Claims about the students of a token experiment (B4 and B5): which supervision brings them
furthest within a budget, and which first checkpoint; judged from run files by criteria fixed
beforehand."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from common.judge.stats import Estimate, paired_difference
from common.judge.transition import NoTransition, Transition
from common.judge.verdict import Claim, Measurement, Verdict
from common.runs.directory import RunDirectory, finished_run
from common.sequence.students import (
    STRATEGIES,
    TEACHER,
    StudentRuns,
    first_run,
    further_students,
    student,
)

FINAL = "final_accuracy.csv"
FIRST = "first_checkpoints.csv"
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
        holds: bool,
        measurements: Sequence[Measurement],
        notes: Sequence[str] = (),
    ) -> Verdict:
        """A verdict on students, who are judged only where each strategy has a rate of its own."""
        judged = self.students.tuning is not None
        return Verdict(
            claim,
            holds if judged else None,
            tuple(measurements),
            (
                tuple(notes)
                if judged
                else ("measured, not judged: these rates were not chosen by a sweep", *notes)
            ),
        )


def accuracy_claim(evidence: Evidence) -> Verdict:
    """B4: progressive brings the student further than one-shot and labels do."""
    final = {strategy: evidence.accuracy(student(strategy)) for strategy in STRATEGIES}
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
    by_offset = {int(str(offset)): own for offset, own in table.groupby("offset")}
    offsets = sorted(by_offset)
    best = max(offsets, key=lambda offset: by_offset[offset].accuracy.mean())
    inside = bool(by_offset[best].in_drop.mean() > 0.5)
    final = {offset: own.accuracy.tolist() for offset, own in by_offset.items()}
    ends = {"earliest": offsets[0], "latest": offsets[-1]}
    gains = {name: paired_difference(final[end], final[best]) for name, end in ends.items()}
    measurements = [
        Measurement(f"accuracy, best first checkpoint less the {name}", gain)
        for name, gain in gains.items()
    ]
    for name, end in ends.items():
        measurements.append(
            Measurement(
                f"accuracy, C1 less the {name} (not judged)",
                paired_difference(final[end], final[0]),
            )
        )
    means = means_note({f"{offset:+d}": final[offset] for offset in offsets})
    notes = [
        f"best: {best:+d} steps from C1, {'inside' if inside else 'outside'} the drop; {means}"
    ]
    notes += [
        f"the {name} is step {by_offset[end].first_step.min()} to {by_offset[end].first_step.max()}"
        for name, end in ends.items()
    ]
    if absent := sum(isinstance(phase, NoTransition) for phase in evidence.phases):
        notes.append(
            f"{absent} teachers have no drop; their final checkpoint teaches alone, whatever the"
            " offset"
        )
    return evidence.verdict(
        "B5", inside and all(map(positive, gains.values())), measurements, notes
    )


def first_table(evidence: Evidence) -> pd.DataFrame:
    """One row for each two-shot student: offset (asked for), seed, first_step (of the teacher),
    in_drop, accuracy (at the end)."""
    rows = []
    phase_of = dict(zip(evidence.run(TEACHER).manifest["seeds"], evidence.phases, strict=True))
    for offset in sorted((0, *evidence.students.first.offsets)):
        run = evidence.run(first_run(offset))
        schedules = run.manifest["schedules"]
        for lane, (seed, accuracy) in enumerate(
            zip(run.manifest["seeds"], evidence.accuracy(first_run(offset)), strict=True)
        ):
            first = schedules["distinct"][schedules["of_lane"][lane]]["segments"][0]["teacher_step"]
            phase = phase_of[seed]
            in_drop = isinstance(phase, Transition) and phase.start <= first <= phase.end
            rows.append(
                {
                    "offset": offset,
                    "seed": seed,
                    "first_step": first,
                    "in_drop": in_drop,
                    "accuracy": accuracy,
                }
            )
    return pd.DataFrame(rows)


def final_table(evidence: Evidence) -> pd.DataFrame:
    """How far every run came within its budget: run, strategy, heads, seed, learning rate,
    examples, accuracy and loss on the evaluation set."""
    rows = []
    names = {TEACHER: "teacher"} | {student(strategy): strategy for strategy in STRATEGIES}
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


def rates_note(evidence: Evidence) -> str:
    """The chosen rates, and which of them the sweep's grid may have cut short."""
    tuning = evidence.students.tuning
    ends = () if tuning is None else (min(tuning.learning_rate), max(tuning.learning_rate))
    rates = {
        strategy: evidence.run(student(strategy)).manifest["learning_rates"][0]
        for strategy in STRATEGIES
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


def label(strategy: str) -> str:
    """A strategy in words."""
    return {"ce": "labels", "two-shot": "2-shot"}.get(strategy, strategy)
