"""The claims about sparse parity, judged from run files by criteria fixed before the runs.

W (width; a Transformer's is that of its heads together), O (one-shot), P (progressive), S
(two-shot), C (curriculum), and E (a curriculum extracted from the final teacher); F (first
checkpoints) and R (C on further teachers) on the runs that the paper does not have. Reads metrics,
manifests and probe tables; loads no model.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from common.base.reading import read_table
from common.experiment.spec import Judgement
from common.judge.stats import (
    Estimate,
    compare_paired,
    median_over_seeds,
    proportion,
    ratio_of_medians,
)
from common.judge.transition import NoTransition, Transition
from common.judge.verdict import Claim, Measurement, Verdict, describe, every, within
from common.runs.transitions import transitions
from parity.correlations import floor_of_mean
from parity.evidence import Evidence, mostly_uncensored
from parity.first_checkpoints import first_checkpoint_claim, first_table, teachers
from parity.leak import ARGMAX, AT, BEFORE, PROBABILITY, read_leaks
from parity.plan import OTHER_LABELS, OTHER_ONE_SHOT
from parity.presets import Experiment
from parity.probe import IN_SUPPORT, read_strata

SIGNIFICANT, MOST_LEAK, MOST_BEFORE = 0.05, 0.8, 0.2
"""Of claim C: a p-value, the least share of seeds that leak, and the largest before."""
EQUIVALENT = (2 / 3, 1.5)
"""Of claim O2: ratios of medians that make no difference."""
TIMES = "learning_times.csv"
FIRST = "first_checkpoints.csv"
CLAIMS = {
    "W": Claim(
        "Wider models learn parity from fewer examples",
        "Median t90 falls monotonically over the widths, each at its best learning rate, at least"
        " 80% of seeds uncensored at each width.",
    ),
    "O": Claim(
        "One-shot distillation is no better than labels",
        "Median t90 of one-shot over that of CE, each at its best learning rate, lies within [0.8,"
        " 1.25]; at least 80% of seeds uncensored in both.",
    ),
    "P": Claim(
        "Progressive distillation follows the teacher",
        "Paired over seeds: median of t90(progressive) / t90(teacher) <= 1.5, and median t90(CE) /"
        " median t90(progressive) >= 2.5.",
    ),
    "S": Claim(
        "One checkpoint from inside the transition is enough",
        "Two-shot within the budget: from the detected checkpoint at least 80% of seeds learn; from"
        " the controls before and after it at most 20%.",
    ),
    "C": Claim(
        "The transition leaks the support in degree-1 correlations",
        "For each seed the support is ranked among random sets of as many coordinates that are"
        " disjoint from it (999, or all), by the largest value over the checkpoints of the detected"
        " transition of the moving average of 3 of the mean degree-1 |correlation|: p < 0.05 in at"
        " least 80% of seeds, and in at most 20% of those with a transition over as many"
        " checkpoints around the one before it (fewer, where there are not so many that are none of"
        " the transition's own).",
    ),
    "E": Claim(
        "Random projections of the final teacher's hidden layer are a curriculum too",
        "Median t90(CE) / median t90(projections) >= 2.5, as P asks of progressive; at least 80% of"
        " seeds uncensored.",
    ),
    "F": Claim(
        "Degree-1 correlations tell which first checkpoints teach",
        "Over two-shot students of first checkpoints across the transition: the in-support degree-1"
        " |correlation| of the checkpoint tells who learns with an area under the ROC curve >= 0.8,"
        " and no higher degree tells it better.",
    ),
    "O2": Claim(
        "One-shot distillation by soft labels is equivalent to labels",
        "Two one-sided tests, each at 5%, of median t90(one-shot) / median t90(CE), soft labels of"
        " the final teacher, both at their best learning rates: equivalent (the claim holds) if the"
        " whole 90% interval lies within [2/3, 1.5], different (it does not) if all of it lies"
        " outside, undecided otherwise; at least 80% of seeds uncensored in both.",
    ),
    "R": Claim(
        "The transition leaks the support in degree-1 correlations, in further teachers too",
        "The criterion of C, on the experiment's teacher and its replicas together.",
    ),
}


def judge_paper(home: Path, experiment: Experiment) -> Judgement:
    """The paper's claims, and E."""
    evidence = Evidence(home, experiment)
    judges = (
        width_claim,
        one_shot_claim,
        progressive_claim,
        two_shot_claim,
        curriculum_claim,
        projections_claim,
    )
    verdicts = [judge_one(evidence) for judge_one in judges]
    return Judgement(verdicts, {TIMES: times_table(evidence)})


def judge_beyond(home: Path, experiment: Experiment) -> Judgement:
    """The claims on the runs that the paper does not have."""
    evidence = Evidence(home, experiment)
    verdicts, tables = [], {}
    if experiment.first is not None:
        verdicts.append(first_checkpoint_claim(evidence))
        tables[FIRST] = first_table(evidence)
    if experiment.replicas:
        verdicts.append(replicas_claim(evidence))
    if experiment.equivalence is not None:
        verdicts.append(equivalence_claim(evidence))
    return Judgement(verdicts, tables)


def width_claim(evidence: Evidence) -> Verdict:
    """W: wider is faster. Of two widths that both lie beyond their budgets nobody knows which
    is."""
    times = {
        size: evidence.t90(evidence.label_run(size))
        for size in evidence.experiment.compared_budgets
    }
    estimates = {size: median_over_seeds(values) for size, values in times.items()}
    medians = [estimate.value for estimate in estimates.values()]
    falls = every(
        None if math.isinf(min(pair)) else pair[1] < pair[0] for pair in itertools.pairwise(medians)
    )
    holds = falls and all(mostly_uncensored(values) for values in times.values())
    measurements = tuple(
        Measurement(f"t90 at {size.text()}", estimate, "examples")
        for size, estimate in estimates.items()
    )
    student = evidence.experiment.student.model.size
    notes = (
        []
        if student in times
        else [
            f"the student's {student.text()}, not judged:"
            f" {describe(median_over_seeds(evidence.student_labels()))}"
        ]
    )
    return Verdict("W", holds, measurements, tuple(notes))


def one_shot_claim(evidence: Evidence) -> Verdict:
    """O: the final teacher is no better than the labels."""
    labels, one_shot = evidence.student_labels(), evidence.t90("student/one-shot")
    ratio = ratio_of_medians(labels, one_shot)
    holds = within(ratio, 0.8, 1.25) and mostly_uncensored(labels) and mostly_uncensored(one_shot)
    measurements, notes = [Measurement("t90 one-shot / CE", ratio)], []
    if evidence.experiment.student.loss.labels == "hard":
        soft_ratio = ratio_of_medians(labels, evidence.t90("student/one-shot-soft"))
        measurements.append(
            Measurement("the same with soft labels, temperature 1 (not judged)", soft_ratio)
        )
        if one_shot == labels:
            notes.append(
                "with hard labels a teacher without errors gives the data's own labels, so the two"
                " runs coincide"
            )
    return Verdict("O", holds, tuple(measurements), tuple(notes))


def equivalence_claim(evidence: Evidence) -> Verdict:
    """O2: with soft labels the final teacher is as good as the labels, or not."""
    labels, one_shot = evidence.t90(OTHER_LABELS), evidence.t90(OTHER_ONE_SHOT)
    ratio = ratio_of_medians(labels, one_shot, level=0.9)
    measurements = (
        Measurement("t90 one-shot / CE (90% interval)", ratio),
        Measurement("t90, CE (not judged)", median_over_seeds(labels), "examples"),
        Measurement("t90, one-shot (not judged)", median_over_seeds(one_shot), "examples"),
    )
    if not (mostly_uncensored(labels) and mostly_uncensored(one_shot)):
        why = "not judged: more than a fifth of the seeds have not learnt"
        return Verdict("O2", None, measurements, (why,))
    low, high = EQUIVALENT
    if low <= ratio.low and ratio.high <= high:
        return Verdict("O2", True, measurements)
    if ratio.high < low or high < ratio.low:
        return Verdict("O2", False, measurements)
    return Verdict("O2", None, measurements, undecided=True)


def progressive_claim(evidence: Evidence) -> Verdict:
    """P: the student keeps up with its teacher, and leaves the label student behind."""
    teacher, student = paired_with_teacher(evidence, "student/progressive")
    labels = evidence.student_labels()
    of_teacher, (gain, is_enough) = (
        compare_paired(teacher, student),
        evidence.gain_over_labels("student/progressive"),
    )
    follows, comparison = of_teacher.ratio, compare_paired(student, labels)
    notes = [
        f"progressive is faster than CE in {comparison.losses} of {len(labels)} seeds (sign test p"
        f" = {comparison.p_value:.2g})"
    ]
    if of_teacher.num_undefined:
        notes.append(
            f"of {len(student)} pairs of teacher and student {of_teacher.num_undefined} are left"
            " out: neither has learnt"
        )
    measurements = (
        Measurement("t90 progressive / its teacher", follows),
        Measurement("t90 CE / progressive", gain),
    )
    return Verdict("P", every((within(follows, high=1.5), is_enough)), measurements, tuple(notes))


def two_shot_claim(evidence: Evidence) -> Verdict:
    """S: the detected checkpoint works, the controls do not."""
    shares = {}
    for candidate, name in (
        ("during", "two-shot"),
        ("before", "two-shot-before"),
        ("after", "two-shot-after"),
    ):
        learnt = np.isfinite(evidence.t90(f"student/{name}"))
        shares[candidate] = proportion(int(learnt.sum()), len(learnt))
    holds = (
        shares["during"].value >= 0.8
        and shares["before"].value <= 0.2
        and shares["after"].value <= 0.2
    )
    training = evidence.experiment.student.training
    note = (
        f"budget {(evidence.experiment.short_steps or training.steps) * training.batch_size:,}"
        " examples"
    )
    return Verdict(
        "S",
        holds,
        tuple(
            Measurement(f"learnt, first checkpoint {name} the transition", share)
            for name, share in shares.items()
        ),
        (note,),
    )


def curriculum_claim(evidence: Evidence, names: Sequence[str] = ("teacher",)) -> Verdict:
    """C: the support stands out of random sets at the transition of the teachers of some runs, and
    not before it."""
    told = spike_measurements(evidence, names)
    if not evidence.experiment.has_disjoint_sets:
        why = "not judged: no set of as many coordinates is disjoint from the support"
        return Verdict("C", None, told, (why,))
    leaks = pd.concat([read_leaks(evidence.home / name) for name in names])
    num_seeds = sum(len(evidence.run(name).manifest["seeds"]) for name in names)
    num_found = leaks.seed.nunique()

    def share(window: str, output: str, degree: int, count: int) -> Estimate:
        of_seeds = leaks[
            (leaks.window == window) & (leaks.output == output) & (leaks.degree == degree)
        ]
        return proportion(int((of_seeds.p_value < SIGNIFICANT).sum()), count)

    leaking = share(AT, PROBABILITY, 1, num_seeds)
    before = share(BEFORE, PROBABILITY, 1, num_found)
    what = f"p < {SIGNIFICANT:g}"
    measurements = [
        Measurement(f"{what} at the transition", leaking),
        Measurement(f"{what} before it (control)", before),
        Measurement(
            f"{what} at the transition, of the argmax (not judged)",
            share(AT, ARGMAX, 1, num_seeds),
        ),
    ]
    for degree in sorted(set(leaks.degree) - {1}):
        where = f"degree {degree}, {what}"
        for text, window, count in (
            ("at the transition", AT, num_seeds),
            ("before it", BEFORE, num_found),
        ):
            found = share(window, PROBABILITY, degree, count)
            measurements.append(Measurement(f"{where} {text} (not judged)", found))
    notes = ["each seed has examples of its own; the random sets are the same"]
    if num_found < num_seeds:
        notes.append(f"{num_seeds - num_found} of {num_seeds} teachers have no transition")
    holds = leaking.value >= MOST_LEAK and before.value <= MOST_BEFORE
    return Verdict("C", holds, (*measurements, *told), tuple(notes))


def spike_measurements(evidence: Evidence, names: Sequence[str]) -> tuple[Measurement, ...]:
    """How high the degree-1 correlations in the support rise over the others at the transition, and
    whether they are gone at the end. (What C was judged by before: untrained weights alone give
    coordinates off the support a correlation.)"""
    ratios, below = [], []
    k = evidence.experiment.teacher.data.k
    for own_inside, own_strata, transition in _probed_teachers(evidence, names):
        if isinstance(transition, Transition):
            in_over_off = own_inside.mean_abs / own_strata.mean_abs
            ratios.append(in_over_off[transition.chosen])
        last = own_strata.index.max()
        floor = floor_of_mean(own_strata.noise_floor[last], k)
        below.append(bool(own_inside.mean_abs[last] <= floor))
    return (
        Measurement("in / off support at the transition (not judged)", median_over_seeds(ratios)),
        Measurement(
            "at the noise floor at the end (not judged)", proportion(sum(below), len(below))
        ),
    )


def replicas_claim(evidence: Evidence) -> Verdict:
    """R: C on all teachers, and when they learn."""
    names = teachers(evidence)
    verdict = curriculum_claim(evidence, names)
    times = [time for name in names for time in evidence.t90(name)]
    size = evidence.experiment.teacher.model.size.text()
    note = f"{size}, all teachers, in examples, not judged: {describe(median_over_seeds(times))}"
    return replace(verdict, claim="R", notes=(*verdict.notes, note))


def projections_claim(evidence: Evidence) -> Verdict:
    """E: the final teacher's hidden layer, randomly projected, is a curriculum."""
    labels, progressive, projections = (
        evidence.student_labels(),
        evidence.t90("student/progressive"),
        evidence.t90("student/projections"),
    )
    (gain, is_enough), of_progressive = (
        evidence.gain_over_labels("student/projections"),
        ratio_of_medians(progressive, labels),
    )
    share = (
        math.log(gain.value) / math.log(of_progressive.value)
        if 0 < gain.value < math.inf and 1 < of_progressive.value < math.inf
        else math.nan
    )
    measurements = (
        Measurement("t90 CE / projections", gain),
        Measurement(
            "t90 progressive / projections (not judged)", ratio_of_medians(projections, progressive)
        ),
    )
    note = (
        f"projections recover {share:.0%} of progressive's gain over CE, on a logarithmic scale"
        if math.isfinite(share)
        else ""
    )
    return Verdict(
        "E", is_enough and mostly_uncensored(projections), measurements, (note,) if note else ()
    )


def _probed_teachers(
    evidence: Evidence, names: Sequence[str]
) -> Iterator[tuple[pd.DataFrame, pd.DataFrame, Transition | NoTransition]]:
    """Degree-1 correlations in and off the support by step, and transition of every teacher in some
    runs."""
    for name in names:
        inside, strata = degree_one(evidence.home / name)
        run = evidence.run(name)
        for seed, transition in zip(
            run.manifest["seeds"],
            transitions(run, evidence.experiment.student.detector),
            strict=True,
        ):
            yield (
                inside[inside.seed == seed].set_index("step"),
                strata[strata.seed == seed].set_index("step"),
                transition,
            )


def degree_one(teacher: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Degree-1 correlations of a probed teacher: the mean over the support, and the single
    coordinates off the support; one row a seed and step."""
    inside = read_table(
        teacher / "probes" / IN_SUPPORT,
        ("seed", "step", "degree", "with_2p_minus_1"),
        "`python -m parity.probe`",
    )
    inside = inside[inside.degree == 1].assign(mean_abs=lambda table: table.with_2p_minus_1.abs())
    strata = read_strata(teacher)
    mean_inside = inside.groupby(["seed", "step"], as_index=False).agg({"mean_abs": "mean"})
    return mean_inside, strata[(strata.degree == 1) & (strata.overlap == 0)]


def paired_with_teacher(evidence: Evidence, student: str) -> tuple[list[float], list[float]]:
    """t90 of each student seed beside that of the teacher that taught it."""
    fixed = evidence.experiment.student.teacher_seed
    teachers = dict(
        zip(evidence.run("teacher").manifest["seeds"], evidence.t90("teacher"), strict=True)
    )
    seeds = evidence.run(student).manifest["seeds"]
    return [teachers[seed if fixed is None else fixed] for seed in seeds], evidence.t90(student)


def times_table(evidence: Evidence) -> pd.DataFrame:
    """Every learning time that a claim reads: run, seed, learning rate, t90 in examples (empty
    where censored) and the budget."""
    rows = []
    for name, times in evidence.times.items():
        run = evidence.run(name)
        budget = run.metrics()[-1]["examples"]
        for seed, rate, time in zip(
            run.manifest["seeds"], run.manifest["learning_rates"], times, strict=True
        ):
            rows.append(
                {
                    "run": name,
                    "seed": seed,
                    "learning_rate": rate,
                    "t90": None if math.isinf(time) else int(time),
                    "budget": budget,
                }
            )
    return pd.DataFrame(rows).astype({"t90": "Int64"})
