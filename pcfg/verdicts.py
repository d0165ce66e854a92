"""The claims about masked prediction on grammars, judged from run files by criteria fixed
beforehand.

B1 to B5 are those of every experiment on tokens (`common.sequence`), B6 is about what students know
of derivations. Reads metrics and probe tables; loads no model.
"""

from collections.abc import Sequence
from pathlib import Path

from common.experiment.spec import Judgement
from common.judge.stats import median_over_seeds, paired_difference
from common.judge.transition import NoTransition, Transition
from common.judge.verdict import Claim, Measurement, Verdict
from common.runs.directory import finished_run
from common.runs.transitions import transitions
from common.sequence import student_claims, teacher_claims
from common.sequence.student_claims import BASELINES, Evidence, label, means_note, positive
from common.sequence.students import STRATEGIES, TEACHER, student
from pcfg import ceiling
from pcfg.plateaus import best_losses
from pcfg.presets import Experiment
from pcfg.structure import STRUCTURE, structure_table

CLAIMS = {
    **teacher_claims.CLAIMS,
    **student_claims.CLAIMS,
    "B6": Claim(
        "What students know of the derivation follows the same order",
        "Linear probe of the non-terminals, mean over levels with more than one symbol, paired over"
        " seeds: progressive less one-shot, and progressive less labels, each with its 95% interval"
        " above 0. (The published probe, mixing, is measured beside it by the same contrasts.)",
    ),
}


def judge(home: Path, experiment: Experiment) -> Judgement:
    """All claims on the runs of an experiment."""
    phases = transitions(finished_run(home / TEACHER), experiment.student.detector)
    evidence = Evidence(home, experiment, phases)
    verdicts = [
        teacher_claims.phases_claim(home, phases, above_plateaus(home, phases)),
        teacher_claims.trigram_claim(home, phases),
        teacher_claims.closing_claim(home),
        student_claims.accuracy_claim(evidence),
        student_claims.sweep_claim(evidence),
        structure_claim(evidence),
    ]
    tables = {
        **student_claims.student_tables(evidence),
        STRUCTURE: structure_table(evidence),
    }
    return Judgement(verdicts, tables)


def above_plateaus(home: Path, phases: Sequence[Transition | NoTransition]) -> list[Measurement]:
    """How far the teachers' plateaus lie above those of the best 2-gram models, with and without
    positions, as far as these were computed."""
    measurements = []
    for plateaus, kind in zip(ceiling.PLATEAUS, ("", " with positions"), strict=True):
        losses = best_losses(home, plateaus)
        if 2 in losses and (gaps := teacher_claims.above(home, phases, losses[2])):
            name = (
                f"loss at the end of the plateau, less the best 2-gram model's{kind} (not judged)"
            )
            measurements.append(Measurement(name, median_over_seeds(gaps)))
    return measurements


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
        for baseline in BASELINES
    }
    measurements = [
        Measurement(f"accuracy of non-terminals, progressive less {label(name)}", gain)
        for name, gain in gains.items()
    ]
    for name in BASELINES:
        gain = paired_difference(mixing[name], mixing["progressive"])
        measurements.append(
            Measurement(f"by the mixing probe, progressive less {label(name)} (not judged)", gain)
        )
    for prefix, trained, untrained in (
        ("", linear, known("linear", False)),
        ("by the mixing probe, ", mixing, known("mixing", False)),
    ):
        for name in ("progressive", *BASELINES):
            gain = paired_difference(untrained[name], trained[name])
            measurements.append(
                Measurement(f"{prefix}{label(name)} less untrained (not judged)", gain)
            )
    return evidence.verdict(
        "B6",
        all(map(positive, gains.values())),
        measurements,
        (means_note(linear), f"by the mixing probe, {means_note(mixing)}"),
    )
