"""Claims about the students of masked prediction (B4 to B6): which supervision brings them furthest
within a budget."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from common.judge.stats import Estimate, paired_difference
from common.judge.transition import NoTransition, Transition
from common.judge.verdict import Measurement, Verdict
from common.runs.directory import RunDirectory, finished_run
from pcfg import nonterminal
from pcfg.plan import first_run, further_students, student
from pcfg.presets import STRATEGIES, Experiment

_BASELINES = ("one-shot", "ce")


@dataclass(frozen=True)
class Evidence:
    """The runs of one experiment, and the phases of its teachers."""

    home: Path
    experiment: Experiment
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
        judged = self.experiment.tuning is not None
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
        baseline: paired_difference(final[baseline], final["progressive"])
        for baseline in _BASELINES
    }
    measurements = [
        Measurement(f"accuracy, progressive less {_label(name)}", gain)
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
        (_means(final), rates_note(evidence)),
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
    means = _means({f"{offset:+d}": final[offset] for offset in offsets})
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


def structure_claim(evidence: Evidence) -> Verdict:
    """B6: what the students know of the derivation follows the same order."""
    table = structure_table(evidence)
    table = table[table.chance < 1].assign(trained=table.step > 0)
    mean = table.groupby(["probe", "trained", "strategy", "seed"]).accuracy.mean()  # over levels

    def known(probe: str, trained: bool) -> dict[str, list[float]]:
        return {
            name: (
                mean[probe][trained][name]
                .loc[evidence.run(student(name)).manifest["seeds"]]
                .tolist()
            )
            for name in STRATEGIES
        }

    linear, mixing = known("linear", True), known("mixing", True)
    gains = {
        baseline: paired_difference(linear[baseline], linear["progressive"])
        for baseline in _BASELINES
    }
    measurements = [
        Measurement(f"accuracy of non-terminals, progressive less {_label(name)}", gain)
        for name, gain in gains.items()
    ]
    for name in _BASELINES:
        gain = paired_difference(mixing[name], mixing["progressive"])
        measurements.append(
            Measurement(f"by the mixing probe, progressive less {_label(name)} (not judged)", gain)
        )
    for prefix, trained, untrained in (
        ("", linear, known("linear", False)),
        ("by the mixing probe, ", mixing, known("mixing", False)),
    ):
        for name in ("progressive", *_BASELINES):
            gain = paired_difference(untrained[name], trained[name])
            measurements.append(
                Measurement(f"{prefix}{_label(name)} less untrained (not judged)", gain)
            )
    return evidence.verdict(
        "B6",
        all(map(positive, gains.values())),
        measurements,
        (_means(linear), f"by the mixing probe, {_means(mixing)}"),
    )


def structure_table(evidence: Evidence) -> pd.DataFrame:
    """The probes of all students' non-terminals, untrained and trained, as `python -m
    pcfg.nonterminal` writes them, and the strategy."""
    tables = [
        nonterminal.read_accuracy(evidence.home / student(strategy)).assign(strategy=strategy)
        for strategy in STRATEGIES
    ]
    return pd.concat(tables, ignore_index=True)


def first_table(evidence: Evidence) -> pd.DataFrame:
    """One row for each two-shot student: offset (asked for), seed, first_step (of the teacher),
    in_drop, accuracy (at the end)."""
    rows = []
    phase_of = dict(zip(evidence.run("teacher").manifest["seeds"], evidence.phases, strict=True))
    for offset in sorted((0, *evidence.experiment.first.offsets)):
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
    experiment, rows = evidence.experiment, []
    names = {"teacher": "teacher"} | {student(strategy): strategy for strategy in STRATEGIES}
    names |= {name: strategy for name, strategy, *_ in further_students(experiment)}
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
    tuning = evidence.experiment.tuning
    ends = () if tuning is None else (min(tuning.learning_rate), max(tuning.learning_rate))
    rates = {
        strategy: evidence.run(student(strategy)).manifest["learning_rates"][0]
        for strategy in STRATEGIES
    }
    return "rates: " + ", ".join(
        f"{_label(name)} {rate:g}{' (an end of the grid)' if rate in ends else ''}"
        for name, rate in rates.items()
    )


def positive(estimate: Estimate) -> bool:
    """Whether the whole interval lies above zero."""
    return math.isfinite(estimate.low) and estimate.low > 0


def _means(values: Mapping[str, Sequence[float]]) -> str:
    return "means: " + ", ".join(
        f"{_label(name)} {np.mean(of_seeds):.3f}" for name, of_seeds in values.items()
    )


def _label(strategy: str) -> str:
    return {"ce": "labels", "two-shot": "2-shot"}.get(strategy, strategy)
