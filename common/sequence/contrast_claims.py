"""Claims that some students come further than others, judged by paired t tests whose p values are
adjusted for all contrasts of a claim (Holm's method)."""

import math
from collections.abc import Mapping, Sequence

import pandas as pd

from common.judge.contrasts import Contrast, contrasts, direction
from common.judge.stats import Estimate, paired_difference, proportion
from common.judge.verdict import Measurement, Verdict
from common.sequence.student_claims import (
    BASELINES,
    CHOICE,
    FIRST,
    Evidence,
    best_first,
    by_first,
    ends_of,
    final_accuracies,
    first_steps_notes,
    firsts_note,
    in_drops,
    label,
    means_note,
    rates_note,
)
from common.sequence.students import C1

PAIRED = (
    "Accuracy at the end, paired over seeds; two-sided paired t tests, with p values adjusted by"
    " Holm's method over"
)


def further_criterion(arms: str) -> str:
    """The criterion of `further_claim`, for two arms."""
    return (
        f"{PAIRED} four contrasts: {arms} are each better than one-shot and than labels, each with"
        " p < 0.05."
    )


def first_criterion(place: str) -> str:
    """The criterion of `first_claim`.

    Args:
        place: by what a first checkpoint is the same for another teacher.
    """
    return (
        "The first checkpoint with the best mean accuracy of the students on the tuning seeds,"
        f" {place}, lies in the drop of most teachers of the report seeds, and the students there"
        f" beat those of the earliest and of the latest. {PAIRED} these two contrasts: each better"
        " with p < 0.05."
    )


def further_claim(evidence: Evidence, claim: str, arms: Sequence[str]) -> Verdict:
    """Whether each of some arms is better than one-shot and than labels.

    Args:
        evidence: the runs.
        claim: its name.
        arms: those that teach from checkpoints before the final one.
    """
    final = final_accuracies(evidence)
    found = compare(final, [(arm, base) for arm in arms for base in BASELINES])
    measurements = measured(found)
    measurements.append(
        Measurement(
            "accuracy, one-shot less labels (not judged)",
            paired_difference(final["ce"], final["one-shot"]),
        )
    )
    holds = all(contrast.is_better is True for contrast in found.values())
    notes = (*said(found), means_note(final), rates_note(evidence))
    return evidence.verdict(claim, holds, measurements, notes)


def first_claim(evidence: Evidence, claim: str, tables: Mapping[str, pd.DataFrame]) -> Verdict:
    """Whether the best first checkpoint lies in the drop and beats the earliest and the latest.

    Args:
        evidence: the runs.
        claim: its name.
        tables: `student_tables` of them. Without one of a choice the best first checkpoint is that
            of these same students.
    """
    firsts, choice = tables[FIRST], tables.get(CHOICE)
    best = best_first(firsts if choice is None else choice)
    final, ends = by_first(firsts), ends_of(firsts)
    found = contrasts(
        {
            f"best first checkpoint less the {name}": (final[end], final[best])
            for name, end in ends.items()
        }
    )
    in_drop = firsts[firsts["first"] == best].in_drop
    measurements = measured(found)
    share = proportion(int(in_drop.sum()), len(in_drop))
    measurements.append(Measurement("teachers in whose drop it lies", share))
    for name, end in ends.items():
        gain = paired_difference(final[end], final[C1.label])
        measurements.append(Measurement(f"accuracy, C1 less the {name} (not judged)", gain))
    beats = all(contrast.is_better is True for contrast in found.values())
    notes = [f"best on these seeds: {best_first(firsts)}; {firsts_note(firsts)}"]
    if choice is not None:
        notes.append(f"chosen on the tuning seeds: {best}; {firsts_note(choice)}")
    notes += [*said(found), *first_steps_notes(firsts, evidence.phases)]
    return evidence.verdict(claim, in_drops(firsts)[best] and beats, measurements, notes)


def compare(
    final: Mapping[str, Sequence[float]], pairs: Sequence[tuple[str, str]]
) -> dict[str, Contrast]:
    """The contrasts of one claim: each arm less what it is compared with, by name."""
    return contrasts(
        {f"{label(arm)} less {label(base)}": (final[base], final[arm]) for arm, base in pairs}
    )


def measured(found: Mapping[str, Contrast]) -> list[Measurement]:
    """Difference and adjusted p value of each contrast."""
    measurements = []
    for name, contrast in found.items():
        difference = contrast.difference
        p_value = Estimate(contrast.p_value, math.nan, math.nan, difference.num_seeds)
        measurements.append(Measurement(f"accuracy, {name}", difference))
        measurements.append(Measurement(f"adjusted p of {name}", p_value))
    return measurements


def said(found: Mapping[str, Contrast]) -> list[str]:
    """What each contrast shows."""
    return [f"{name}: {direction(contrast.is_better)}" for name, contrast in found.items()]
