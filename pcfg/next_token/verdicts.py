"""The claims about prediction of the next token, judged from run files by criteria fixed
beforehand.

G1 to G3 are about teachers: the phases of their loss, the plateau, the tokens that they predict
from. G4 to G7 compare students. Reads metrics and probe tables; loads no model.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from common.base.reading import read_table
from common.experiment.spec import Judgement
from common.judge.contrasts import beyond_margin, direction
from common.judge.stats import median_over_seeds, paired_difference, proportion
from common.judge.transition import NoTransition, Transition, lasting
from common.judge.verdict import Claim, Measurement, Verdict, every, most
from common.runs.directory import finished_run
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
    Evidence,
    final_accuracies,
    label,
    means_note,
    student_tables,
    tuned_phase,
)
from common.sequence.students import TEACHER, TUNED_TEACHER, student
from common.sequence.teacher_claims import (
    MOST,
    STEEPEST_AT_C1,
    Phases,
    above,
    distance_curves,
    peak_of,
    steepest_claim,
)
from common.sequence.windows import read_distances
from pcfg import ceiling
from pcfg.next_token.plateau import LONG, optima_of, stretch
from pcfg.next_token.presets import Experiment
from pcfg.plateaus import best_losses
from pcfg.structure import STRUCTURE, structure_table

PLATEAUS = "plateaus.csv"
JUDGED_BY = "plateaus_with_position"
MEASURED_BY = "plateaus"
"""Entries of `pcfg.ceiling.PLATEAUS`: the optima of G2, and those beside them. A model of learned
positions knows its own."""
SIZES = (1, 2, 3, 5, 7)
DEPARTED = 0.05
"""The total variation above which n tokens do not suffice any more."""
MARGIN = 0.01
"""In accuracy, of G6."""
CLAIMS: Mapping[str, Claim] = {
    "G1": STEEPEST_AT_C1,
    "G2": Claim(
        "The plateau lies on the optimum of a model of the last n tokens",
        "In at least 7/8 of the teachers the validation loss, a moving average of 3 evaluations, is"
        " nearer to the optimum of n last tokens than a fifth of the gap to the next optimum, of"
        " more tokens, without a break for at least a tenth of the logarithm of the run: the"
        " logarithm of the last step of the stretch over its first one, as a share of the logarithm"
        " of the run's steps. Evaluations from the first update to C1 count (all of them, where a"
        " teacher has no three phases). The models of the optima know the position, as GPT-2 with"
        " its learned positions can. n is the one whose optimum the teacher of the tuning seed is"
        " near for longest; the claim does not hold if that one is near none. (Optima that do not"
        " know the position are measured beside it, with an n of their own.)",
    ),
    "G3": Claim(
        "Short contexts cease to suffice first",
        "close(n) departs at the first of three probed checkpoints in a row at which its median"
        " lies above 0.05. A teacher is in order if the steps of n = 1, 2, 3, 5, 7 nowhere fall and"
        " somewhere rise; an n that does not depart by the end of training counts as last. A"
        " teacher is undecided if all steps are equal or fewer than two n depart. At least 7/8 of"
        " the teachers are in order; undecided, if the undecided ones could make so many.",
    ),
    "G4": Claim(
        "Progressive and 2-shot distillation bring a student further",
        further_criterion("progressive and 2-shot"),
    ),
    "G5": Claim(
        "The best first checkpoint of 2-shot, chosen on other seeds, lies in the teacher's drop",
        first_criterion("by its place in the phases or its distance from C1"),
    ),
    "G6": Claim(
        "Till-saturate brings a student further than progressive",
        "Accuracy at the end, paired over seeds, till-saturate less progressive: better (the claim"
        " holds) if the whole 95% interval lies above 0.01, worse (it does not) if below -0.01,"
        " undecided otherwise.",
    ),
    "G7": Claim(
        "Curricula of generations and of projections bring a student further",
        f"{PAIRED} two contrasts: sentences that the teacher generates at C1 first, against those"
        " of the final teacher alone; projections of the final teacher's layers, against one-shot."
        " Each is better or worse with p < 0.05, undecided otherwise. The claim holds if both are"
        " better, does not if one is worse, and is undecided otherwise.",
    ),
}

SUBSTITUTES = {"generations-two-shot", "projections"}
"""Arms that G7 is about."""


def judge(home: Path, experiment: Experiment) -> Judgement:
    """All claims on the runs of an experiment."""
    detector = experiment.student.detector
    phases = transitions(finished_run(home / TEACHER), detector)
    evidence = Evidence(home, experiment, phases)
    tuned = tuned_phase(evidence, detector)
    tables = student_tables(evidence, tuned)
    plateaus = plateau_table(evidence, tuned)
    tables |= {PLATEAUS: plateaus, STRUCTURE: structure_table(evidence)}
    verdicts = [
        phases_claim(home, phases),
        plateau_claim(evidence, plateaus),
        departure_claim(home),
        further_claim(evidence, "G4", ("progressive", "two-shot")),
        first_claim(evidence, "G5", tables),
    ]
    if "till-saturate" in experiment.arms:
        verdicts.append(saturation_claim(evidence))
    if not SUBSTITUTES.isdisjoint(experiment.arms):
        verdicts.append(substitutes_claim(evidence))
    return Judgement(verdicts, tables)


def phases_claim(home: Path, phases: Phases) -> Verdict:
    """G1: three phases, and C1 at the steepest fall."""
    peaks = [peak_of(curve).step for curve in distance_curves(home)]
    return steepest_claim("G1", home, phases, {"the peak of robust(3)": peaks})


def plateau_table(evidence: Evidence, tuned: Transition | NoTransition | None) -> pd.DataFrame:
    """How long every teacher's loss lies on every optimum.

    Columns: run, seed, plateaus (which kind of optimum, an entry of `ceiling.json`), n, optimum and
        tolerance (nats), first_step and last_step (of the stretch; empty if there is none), share
        (of the logarithm of the run), chosen (whether n has the longest stretch in the teacher of
        the tuning seed, or in these teachers, if there is none).

    Args:
        evidence: the runs.
        tuned: the phase of the teacher of the tuning seed; None if there is none.
    """
    phases_of: dict[str, Phases] = {TEACHER: evidence.phases}
    if tuned is not None:
        phases_of[TUNED_TEACHER] = [tuned]
    optima = {
        kind: optima_of(best_losses(evidence.home, kind)) for kind in (JUDGED_BY, MEASURED_BY)
    }
    rows = []
    for name, phases in phases_of.items():
        run = evidence.run(name)
        steps = [record["step"] for record in run.metrics()]
        curves = zip(*(record["eval_loss"] for record in run.metrics()), strict=True)
        for seed, phase, losses in zip(run.manifest["seeds"], phases, curves, strict=True):
            until = phase.chosen if isinstance(phase, Transition) else None
            rows += [
                {"run": name, "seed": seed, "plateaus": kind}
                | {"n": best.n, "optimum": best.loss, "tolerance": best.tolerance}
                | stretch(steps, losses, best, until)._asdict()
                for kind, of_kind in optima.items()
                for best in of_kind
            ]
    table = pd.DataFrame(rows)
    deciding = table[table.run == (TEACHER if tuned is None else TUNED_TEACHER)]
    share_of = deciding.groupby(["plateaus", "n"]).share.mean()
    chosen = set(share_of[share_of > 0].groupby("plateaus").idxmax())
    pairs = zip(table.plateaus, table.n, strict=True)
    return table.assign(chosen=[pair in chosen for pair in pairs])


def plateau_claim(evidence: Evidence, table: pd.DataFrame) -> Verdict:
    """G2: one n for all plateaus.

    Args:
        evidence: the runs.
        table: `plateau_table` of them.
    """
    is_fixed = TUNED_TEACHER in set(table.run)
    deciding = table[table.run == (TUNED_TEACHER if is_fixed else TEACHER)]
    measurements, notes = [], []
    lies_on: dict[str, list[bool]] = {}
    for kind, words, judged in (
        (JUDGED_BY, "", ""),
        (MEASURED_BY, ", by optima that do not know the position", " (not judged)"),
    ):
        own = table[(table.plateaus == kind) & (table.run == TEACHER) & table.chosen]
        # No row is chosen where the deciding teacher is near no optimum.
        which = f"n={own.n.iloc[0]}" if len(own) else "no n"
        lies_on[kind] = (own.share >= LONG).tolist() or [False] * len(evidence.phases)
        measurements.append(
            Measurement(
                f"teachers whose plateau lies on the optimum of {which}{words}{judged}",
                proportion(sum(lies_on[kind]), len(lies_on[kind])),
            )
        )
        if len(own):
            name = f"part of the logarithm of the run for which it does{words}{judged}"
            measurements.append(Measurement(name, median_over_seeds(own.share.tolist())))
            gaps = above(evidence.home, evidence.phases, float(own.optimum.iloc[0]))
            name = f"loss at the end of the plateau, less this optimum{words} (not judged)"
            measurements.append(Measurement(name, median_over_seeds(gaps), "nats"))
        share_of = deciding[deciding.plateaus == kind].groupby("n").share.mean()
        parts = ", ".join(f"n={n} {share:.3f}" for n, share in share_of.items())
        notes.append(f"{which} is chosen by parts of the logarithm of the run{words}: {parts}")
    if not is_fixed:
        why = "measured, not judged: no tuning seed has fixed n; it is these teachers' own"
        return Verdict("G2", None, tuple(measurements), (why, *notes))
    return Verdict("G2", most(lies_on[JUDGED_BY], MOST), tuple(measurements), tuple(notes))


def departure_claim(home: Path) -> Verdict:
    """G3: close(n) departs for small n first."""
    table = read_distances(home / TEACHER)
    table = table[(table.kind == "close") & table.n.isin(SIZES)]
    steps_SxZ = (
        table.groupby(["seed", "n"])
        .apply(lambda curve: departure_step(curve["step"].tolist(), curve["median"].tolist()))
        .unstack("n")
    )
    in_order = [shortest_first(steps.tolist()) for _, steps in steps_SxZ.iterrows()]
    measurements = [
        Measurement(name, proportion(in_order.count(outcome), len(in_order)))
        for name, outcome in (
            ("teachers in order", True),
            ("teachers out of order", False),
            ("undecided teachers", None),
        )
    ]
    measurements += [
        Measurement(f"close({n}) departs", median_over_seeds(steps.tolist()), "steps")
        for n, steps in steps_SxZ.items()
    ]
    holds = most(in_order, MOST)
    return Verdict("G3", holds, tuple(measurements), exact_note(home), undecided=holds is None)


def departure_step(steps: Sequence[int], medians: Sequence[float]) -> float:
    """The first step from which a distance stays above `DEPARTED` for three checkpoints; inf if
    there is none."""
    has_departed = lasting(np.asarray(medians, np.float64) > DEPARTED)
    return float(steps[int(has_departed.argmax())]) if has_departed.any() else math.inf


def shortest_first(steps: Sequence[float]) -> bool | None:
    """Whether steps, ordered by n, nowhere fall and somewhere rise; None if all are equal, or fewer
    than two are finite."""
    come = [step for step in steps if math.isfinite(step)]
    if len(come) < 2 or len(set(steps)) == 1:
        return None
    return list(steps) == sorted(steps)


def exact_note(home: Path) -> tuple[str]:
    """close(n) of the best model of all, which a perfect teacher ends at."""
    path = home / TEACHER / FOLDER / ceiling.TABLE
    table = read_table(path, ("kind", "n", "median"), "the command of the exact reference")
    best = table[(table.kind == "close") & table.n.isin(SIZES)]
    medians = zip(best.n, best["median"], strict=True)
    return (
        "medians of the best model of all: "
        + ", ".join(f"close({n}) {median:.3g}" for n, median in medians),
    )


def saturation_claim(evidence: Evidence) -> Verdict:
    """G6: when the next checkpoint comes, by the student or by the clock."""
    final = {name: evidence.accuracy(student(name)) for name in ("progressive", "till-saturate")}
    gain = paired_difference(final["progressive"], final["till-saturate"])
    is_better = beyond_margin(gain, MARGIN)
    found = f"till-saturate against progressive: {direction(is_better)}"
    if gain.low >= -MARGIN and gain.high <= MARGIN:
        found += f"; no more than {MARGIN:g} apart, with the whole interval"
    measurements = [Measurement("accuracy, till-saturate less progressive", gain)]
    return evidence.verdict("G6", is_better, measurements, (found, means_note(final)))


def substitutes_claim(evidence: Evidence) -> Verdict:
    """G7: curricula of generated sentences, and of the final teacher's layers."""
    final = final_accuracies(evidence)
    pairs = [("generations-two-shot", "generations"), ("projections", "one-shot")]
    found = compare(final, [pair for pair in pairs if pair[0] in final])
    measurements = measured(found)
    for arm, base in (("generations", "ce"), ("generations", "one-shot")):
        if arm in final:
            name = f"accuracy, {label(arm)} less {label(base)} (not judged)"
            measurements.append(Measurement(name, paired_difference(final[base], final[arm])))
    notes = (*said(found), means_note(final))
    if len(found) < len(pairs):
        why = (
            "measured, not judged: these teachers, who are asked at boundaries only, generate none"
        )
        return Verdict("G7", None, tuple(measurements), (why, *notes))
    holds = every(contrast.is_better for contrast in found.values())
    return evidence.verdict("G7", holds, measurements, notes)
