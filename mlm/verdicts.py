"""The claims about masked text, judged from run files by criteria fixed beforehand: those about
teachers where there are eight of them or more, those about students where their rates are tuned.

T1 is about the phases of their loss, T2m, T2v and T3 about the windows that they predict from,
with the token at the position masked (m) or visible (v). T4 to T7 compare students. Reads metrics
and probe tables; loads no model.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from common.base.reading import read_table
from common.experiment.spec import Judgement
from common.judge.contrasts import beyond_margin, contrasts
from common.judge.stats import Estimate, median_over_seeds, paired_difference, proportion
from common.judge.transition import NoTransition, Transition
from common.judge.verdict import Claim, Measurement, Verdict, every, most
from common.runs.directory import RunDirectory, finished_run
from common.runs.probing import FOLDER
from common.runs.transitions import transitions
from common.sequence.contrast_claims import (
    PAIRED,
    compare,
    first_claim,
    first_criterion,
    further_claim,
    further_criterion,
    measured,
    said,
)
from common.sequence.student_claims import (
    BASELINES,
    Evidence,
    final_accuracies,
    label,
    means_note,
    rates_note,
    student_tables,
    tuned_phase,
)
from common.sequence.students import TEACHER, student
from common.sequence.teacher_claims import (
    MOST,
    STEEPEST_AT_C1,
    Phases,
    above,
    distance_curves,
    peak_of,
    steepest_claim,
    why_no_phases,
)
from common.sequence.windows import BY_TOKEN, read_distances
from mlm.presets import Experiment
from mlm.references import PASSED, REFERENCES, passed_table, reference_table
from mlm.token_kinds import CONTENT, CONTINUATION, FIRST, FUNCTION, WORDS

MASKED, VISIBLE = "robust_masked", "robust_visible"
"""M_robust with the token masked, and with it visible."""
NUM_TEACHERS = 8
"""Of fewer nothing is judged."""
RISE = 0.3
"""Total variation, of T2m."""
PASSING = (2, 3)
"""n of the windows of T2v."""
FALL = 0.25
"""Part of its peak, of T2v."""
LEAST_HEIGHT = 0.05
"""Total variation. A curve that stays below has no half-way step: its model is still on its
plateau."""
EARLY = ("progressive", "two-shot")
"""Arms that learn from checkpoints before the final one, of T4 and T7."""
NEAR, FAR = 2, 11
"""n of the windows of T3."""
LATE_GAINS = "late_gains.csv"
HALF_WAY = "half_way.csv"
PUBLISHED_NOTE = (
    "published: M_robust(3) falls from 0.27 at C1 (8,000 steps) to 0.0025 (64,000), the L1 norm if"
    " it is the distance of the grammar experiment, total variations of half as much"
)
CLAIMS: Mapping[str, Claim] = {
    "T1": Claim(
        STEEPEST_AT_C1.title,
        f"{STEEPEST_AT_C1.criterion} A drop takes a tenth of the loss or more (quick: a"
        " twentieth).",
    ),
    "T2m": Claim(
        "With the token masked, its neighbours come to matter in the drop",
        "In at least 7/8 of the teachers the median of M_robust(3), with the token at the position"
        " masked, rises by at least 0.3 in total variation within the drop: its value at the drop's"
        " end less that at its start, each between the nearest probed checkpoints in proportion to"
        " steps. A teacher is undecided if it has no three phases, or if no probed checkpoint lies"
        " in its drop. The claim is undecided if the undecided teachers could make 7/8.",
    ),
    "T2v": Claim(
        "With the token visible, its neighbours matter for a while",
        "In at least 7/8 of the teachers the medians of M_robust(2) and M_robust(3), with the token"
        " at the position visible, both peak between the drop's start and twice its end, and end at"
        " least 25% below their peaks. A teacher is undecided if it has no three phases, if no"
        " probed checkpoint lies there, or if it fails and its training ends before twice the"
        " drop's end. The claim is undecided if the undecided teachers could make 7/8.",
    ),
    "T3": Claim(
        "What is gained late comes from further away",
        "Late gain g(n), with the token at the position masked: 1 less the median of M_robust(n) at"
        " the drop's end (between the nearest probed checkpoints in proportion to steps) over that"
        " at the end of training. g(11) less g(2), paired over the teachers that have three phases:"
        " the claim holds if Student's 95% interval lies above 0, does not if it lies below, and is"
        " undecided otherwise.",
    ),
    "T4": Claim(
        "Progressive distillation from C1 on, and 2-shot, bring a student further",
        further_criterion("progressive from C1 on and 2-shot"),
    ),
    "T5": Claim(
        "The best first checkpoint of 2-shot, chosen on other seeds, lies in the teacher's drop",
        first_criterion(
            "by its place in the phases (half of the plateau, start of the drop, C1,"
            " end of the drop, half of the tail)"
        ),
    ),
    "T6": Claim(
        "Projections of the final teacher's layers are a curriculum too",
        f"{PAIRED} two contrasts: projections against one-shot, and against 2-shot. Each is better"
        " or worse with p < 0.05, undecided otherwise. The claim holds if both are better, does not"
        " if one is worse, and is undecided otherwise.",
    ),
    "T7": Claim(
        "The gain lasts in longer runs",
        f"{PAIRED} the contrasts of T4 at every further length (lengths-laptop: two and four"
        " times the first), with rates tuned for it: each better with p < 0.05.",
    ),
}


def judge(home: Path, experiment: Experiment) -> Judgement:
    """All claims on the runs of an experiment."""
    detector = experiment.student.detector
    phases = transitions(finished_run(home / TEACHER), detector)
    references = reference_table(home, experiment)
    passed = passed_table(home, references)
    arms = experiment.arms if experiment.probes_students else ()
    probed = [TEACHER, *map(student, arms)]
    gains, half_way = late_table(home, phases), half_way_table(home, probed)
    of_teachers = half_way[half_way.run == TEACHER]
    on_teachers = [
        phases_claim(home, phases, reference_measurements(home, phases, references, passed)),
        rise_claim(home, phases, of_teachers),
        passing_claim(home, phases),
        late_claim(home, phases, gains),
    ]
    evidence = Evidence(home, experiment, phases)
    of_students = student_tables(evidence, tuned_phase(evidence, detector))
    on_students = [
        accuracy_claim(evidence, half_way),
        first_claim(evidence, "T5", of_students),
    ]
    if "projections" in experiment.arms:
        on_students.append(projections_claim(evidence))
    if experiment.budgets and experiment.tunes_lengths:
        on_students.append(lengths_claim(evidence))
    tables = {
        REFERENCES: references,
        PASSED: passed,
        LATE_GAINS: gains,
        HALF_WAY: half_way,
        **of_students,
    }
    enough = [of_enough(verdict, len(phases)) for verdict in on_teachers]
    return Judgement([*enough, *on_students], tables)


def of_enough(verdict: Verdict, num_teachers: int) -> Verdict:
    """A verdict on so many teachers, which are measured and not judged where they are few."""
    if num_teachers >= NUM_TEACHERS:
        return verdict
    why = (
        f"measured, not judged: of {NUM_TEACHERS} teachers that it takes, these are {num_teachers}"
    )
    return replace(verdict, holds=None, undecided=False, notes=(why, *verdict.notes))


def phases_claim(home: Path, phases: Phases, further: Sequence[Measurement] = ()) -> Verdict:
    """T1: three phases, and C1 at the steepest fall.

    Args:
        home: the folder of an experiment's runs.
        phases: of every teacher.
        further: what else was measured of the plateaus, and is not judged.
    """
    peaks = [peak_of(curve).step for curve in distance_curves(home, VISIBLE)]
    marks = {"the peak of M_robust(3), token visible": peaks}
    return steepest_claim("T1", home, phases, marks, further)


def reference_measurements(
    home: Path, phases: Phases, references: pd.DataFrame, passed: pd.DataFrame
) -> list[Measurement]:
    """Where the plateau lies beside models that see less of a row, and when the teacher passes
    those; nothing of it is judged.

    Args:
        home: the folder of an experiment's runs.
        phases: of every teacher.
        references: `reference_table` of them.
        passed: `passed_table` of them.
    """
    words_of = {"unigram": "the frequencies of words", "bag": "a bag of words"}
    measurements = []
    for row in references.fillna({"n": 0}).to_dict("records"):
        words = words_of.get(row["reference"], f"windows of {row['n']} tokens")
        gaps = above(home, phases, row["loss"])
        name = f"loss at the end of the plateau, less that of {words} (not judged)"
        measurements.append(Measurement(name, median_over_seeds(gaps), "nats"))
        is_of_it = (passed.reference == row["reference"]) & (passed.n.fillna(0) == row["n"])
        steps = passed[is_of_it].step.astype("Float64").fillna(math.inf).tolist()
        name = f"the teacher passes the loss of {words} (not judged)"
        measurements.append(Measurement(name, median_over_seeds(steps), "steps"))
    return measurements


def rise_claim(home: Path, phases: Phases, half_way: pd.DataFrame) -> Verdict:
    """T2m: M_robust(3) rises in the drop.

    Args:
        home: the folder of an experiment's runs.
        phases: of every teacher.
        half_way: `half_way_table` of these teachers.
    """
    curves = distance_curves(home, MASKED)
    rises = [rise_within(curve, phase) for curve, phase in zip(curves, phases, strict=True)]
    has_risen = [None if rise is None else rise >= RISE for rise in rises]
    measurements = [
        *counts("teachers in which it does", has_risen),
        Measurement(
            "rise of the median of M_robust(3) within the drop, total variation",
            median_over_seeds([rise for rise in rises if rise is not None]),
        ),
        Measurement(
            "M_robust(3) at the end of training (not judged)",
            median_over_seeds([float(curve.iloc[-1]) for curve in curves]),
        ),
        *half_way_measurements(half_way),
    ]
    return decided("T2m", most(has_risen, MOST), measurements, why_no_phases(home, phases))


def rise_within(curve: pd.Series, phase: Transition | NoTransition) -> float | None:
    """How far a curve by step rises within a drop; None if that cannot be told."""
    if isinstance(phase, NoTransition) or not is_probed(curve, phase.start, phase.end):
        return None
    return value_at(curve, phase.end) - value_at(curve, phase.start)


def passing_claim(home: Path, phases: Phases) -> Verdict:
    """T2v: M_robust(2) and M_robust(3) peak after the drop has begun, and fall."""
    curves_of = {n: distance_curves(home, VISIBLE, n) for n in PASSING}
    passes_of = {
        n: [passes(curve, phase) for curve, phase in zip(curves, phases, strict=True)]
        for n, curves in curves_of.items()
    }
    both = [every(of_teacher) for of_teacher in zip(*passes_of.values(), strict=True)]
    measurements = counts("teachers in which they do", both)
    for n, curves in curves_of.items():
        peaks = [peak_of(curve) for curve in curves]
        share = proportion(passes_of[n].count(True), len(phases))
        heights = median_over_seeds([peak.height for peak in peaks])
        steps = median_over_seeds([peak.step for peak in peaks])
        falls = median_over_seeds([1 - 1 / peak.ratio for peak in peaks])
        measurements += [
            Measurement(f"teachers in which n={n} does (not judged)", share),
            Measurement(f"peak of the median of M_robust({n}), total variation", heights),
            Measurement(f"step of the peak, n={n}", steps, "steps"),
            Measurement(f"part of the peak that is lost at the end, n={n}", falls),
        ]
    notes = (PUBLISHED_NOTE, *why_no_phases(home, phases))
    return decided("T2v", most(both, MOST), measurements, notes)


def passes(curve: pd.Series, phase: Transition | NoTransition) -> bool | None:
    """Whether a curve by step peaks between a drop's start and twice its end and falls from there;
    None if that cannot be told."""
    if isinstance(phase, NoTransition) or not is_probed(curve, phase.start, 2 * phase.end):
        return None
    peak = peak_of(curve)
    is_in_time = phase.start <= peak.step <= 2 * phase.end
    has_fallen = curve.iloc[-1] <= (1 - FALL) * peak.height
    if is_in_time and has_fallen:
        return True
    return False if curve.index[-1] >= 2 * phase.end else None


def late_claim(home: Path, phases: Phases, gains: pd.DataFrame) -> Verdict:
    """T3: long windows gain more than short ones after the drop.

    Args:
        home: the folder of an experiment's runs.
        phases: of every teacher.
        gains: `late_table` of them.
    """
    why_not = why_no_phases(home, phases)
    if gains.empty:
        return decided("T3", None, (), why_not)
    gain_of = {int(str(n)): own.gain.tolist() for n, own in gains.groupby("n")}
    if missing := [str(n) for n in (NEAR, FAR) if n not in gain_of]:
        why = f"measured, not judged: windows of {' and '.join(missing)} tokens were not probed"
        return Verdict("T3", None, (), (why, *why_not))
    difference = paired_difference(gain_of[NEAR], gain_of[FAR])
    measurements = [Measurement(f"late gain, g({FAR}) less g({NEAR})", difference)]
    for n, of_teachers in gain_of.items():
        mean = paired_difference([0.0] * len(of_teachers), of_teachers)
        measurements.append(Measurement(f"late gain, g({n}) (not judged)", mean))
    others = {
        f"g({n}) less g({NEAR})": (gain_of[NEAR], of_teachers)
        for n, of_teachers in gain_of.items()
        if n != NEAR
    }
    for name, contrast in contrasts(others).items():
        p_value = Estimate(contrast.p_value, math.nan, math.nan, difference.num_seeds)
        measurements.append(Measurement(f"p of {name}, adjusted for all n (not judged)", p_value))
    return decided("T3", beyond_margin(difference, 0.0), measurements, why_not)


def late_table(home: Path, phases: Phases) -> pd.DataFrame:
    """What part of its final value the median of every M_robust(n), with the token masked, gains
    after the drop, for the teachers that have one: seed, n, at_end (of the drop), final, gain."""
    table = read_distances(home / TEACHER)
    rows = []
    for n in sorted(table[table.kind == MASKED].n.unique().tolist()):
        of_teachers = zip(distance_curves(home, MASKED, n), phases, strict=True)
        seeds = RunDirectory(home / TEACHER).manifest["seeds"]
        for seed, (curve, phase) in zip(seeds, of_teachers, strict=True):
            if isinstance(phase, NoTransition):
                continue
            at_end, final = value_at(curve, phase.end), float(curve.iloc[-1])
            row = {"seed": seed, "n": n, "at_end": at_end, "final": final}
            rows.append(row | {"gain": 1 - at_end / final})
    return pd.DataFrame(rows, columns=["seed", "n", "at_end", "final", "gain"])


def half_way_table(home: Path, runs: Sequence[str]) -> pd.DataFrame:
    """When the median of M_robust(3), with the token masked, first reaches half its highest value,
    for each kind of token: run, tokens, num_pairs, seed, step (between probed checkpoints in
    proportion).

    Args:
        home: the folder of an experiment's runs.
        runs: those that were probed.
    """
    rows = []
    for run in runs:
        columns = ("tokens", "num_pairs", "seed", "step", "kind", "n", "median")
        table = read_table(home / run / FOLDER / BY_TOKEN, columns, "the probe's command")
        table = table[(table.kind == MASKED) & (table.n == 3)]
        groups = table.groupby(["tokens", "num_pairs", "seed"], sort=False)
        for (tokens, num_pairs, seed), curve in groups:
            step = half_way_step(curve.step.tolist(), curve["median"].tolist())
            row = {"run": run, "tokens": tokens, "num_pairs": num_pairs, "seed": seed}
            rows.append(row | {"step": step})
    return pd.DataFrame(rows, columns=["run", "tokens", "num_pairs", "seed", "step"])


def half_way_step(steps: Sequence[int], values: Sequence[float]) -> float:
    """Where a curve, straight between its points, first reaches half its highest value; NaN if it
    hardly rises."""
    if max(values) < LEAST_HEIGHT:
        return math.nan
    half = max(values) / 2
    after = int(np.argmax(np.asarray(values) >= half))
    if after == 0:
        return float(steps[0])
    return float(np.interp(half, values[after - 1 : after + 1], steps[after - 1 : after + 1]))


def half_way_measurements(table: pd.DataFrame) -> list[Measurement]:
    """Which tokens' neighbours come to matter first, in the seeds in which those of all kinds do;
    nothing of it is judged.

    Args:
        table: `half_way_table` of one run.
    """
    still_on_plateau = table.seed[table.step.isna()]
    risen = table[~table.seed.isin(still_on_plateau)]
    steps_of = {str(tokens): own.step.tolist() for tokens, own in risen.groupby("tokens")}
    what = "step at which M_robust(3) is half-way up"
    measurements = [
        Measurement(f"{what}, {words} (not judged)", median_over_seeds(steps_of[kind]), "steps")
        for kind, words in WORDS.items()
        if kind in steps_of
    ]
    for earlier, later in ((FUNCTION, CONTENT), (FIRST, CONTINUATION)):
        if earlier in steps_of and later in steps_of:
            name = f"{what}, {WORDS[later]} less {WORDS[earlier]} (not judged)"
            difference = paired_difference(steps_of[earlier], steps_of[later])
            measurements.append(Measurement(name, difference, "steps"))
    return measurements


def accuracy_claim(evidence: Evidence, half_way: pd.DataFrame) -> Verdict:
    """T4: checkpoints from C1 on bring a student further. Beside it, by which words its students
    leave the plateau.

    Args:
        evidence: the runs.
        half_way: `half_way_table` of them.
    """
    verdict = further_claim(evidence, "T4", EARLY)
    further = [
        Measurement(f"{label(arm)}: {measurement.name}", measurement.estimate, measurement.unit)
        for arm in evidence.students.arms
        for measurement in half_way_measurements(half_way[half_way.run == student(arm)])
    ]
    return replace(verdict, measurements=(*verdict.measurements, *further))


def projections_claim(evidence: Evidence) -> Verdict:
    """T6: a curriculum that needs no checkpoint but the final one."""
    final = final_accuracies(evidence)
    found = compare(final, [("projections", base) for base in ("one-shot", "two-shot")])
    holds = every(contrast.is_better for contrast in found.values())
    notes = (*said(found), means_note(final), rates_note(evidence))
    return evidence.verdict("T6", holds, measured(found), notes)


def lengths_claim(evidence: Evidence) -> Verdict:
    """T7: the same contrasts as T4 at other lengths."""
    pairs, notes = {}, []
    for budget in evidence.students.budgets:
        final = {
            arm: evidence.accuracy(student(arm, budget)) for arm in evidence.students.lengthened
        }
        notes.append(f"{budget.steps:,} steps: {means_note(final)}; {rates_note(evidence, budget)}")
        for arm, base in itertools.product(EARLY, BASELINES):
            name = f"{label(arm)} less {label(base)}, {budget.steps:,} steps"
            pairs[name] = (final[base], final[arm])
    found = contrasts(pairs)
    holds = all(contrast.is_better is True for contrast in found.values())
    return evidence.verdict("T7", holds, measured(found), (*said(found), *notes))


def value_at(curve: pd.Series, step: int) -> float:
    """A curve by step between its points, in proportion to steps."""
    return float(np.interp(step, curve.index.to_numpy(), curve.to_numpy()))


def is_probed(curve: pd.Series, first: int, last: int) -> bool:
    """Whether a curve by step has a point between two steps."""
    return bool(((curve.index >= first) & (curve.index <= last)).any())


def counts(name: str, parts: Sequence[bool | None]) -> list[Measurement]:
    """In how many teachers something is so, and of how many that is undecided."""
    return [
        Measurement(name, proportion(parts.count(True), len(parts))),
        Measurement("undecided teachers", proportion(parts.count(None), len(parts))),
    ]


def decided(
    claim: str, holds: bool | None, measurements: Sequence[Measurement], notes: Sequence[str]
) -> Verdict:
    """A verdict that is undecided where the data do not say."""
    return Verdict(claim, holds, tuple(measurements), tuple(notes), undecided=holds is None)
