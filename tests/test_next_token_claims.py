"""The claims about next tokens (G1 to G7), judged on made-up runs."""

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from common.judge.transition import NoTransition, Transition
from common.judge.verdict import Verdict
from common.sequence import teacher_claims
from common.sequence.contrast_claims import first_claim, further_claim
from common.sequence.student_claims import CHOICE, FIRST, choice_table
from common.sequence.students import TEACHER, TUNED_TEACHER, student
from pcfg.next_token import verdicts
from pcfg.next_token.plateau import Optimum, Stretch, optima_of, stretch
from pcfg.next_token.presets import ARMS, PRESETS, Experiment
from pcfg.next_token.verdicts import (
    departure_claim,
    departure_step,
    phases_claim,
    plateau_claim,
    plateau_table,
    saturation_claim,
    shortest_first,
    substitutes_claim,
)
from tests.test_token_claims import SWEEP, MadeUp, values

UNTUNED = replace(PRESETS["quick"].config, tuning=None, compared=tuple(ARMS))
TUNED = replace(UNTUNED, tuning=SWEEP)
SEEDS = list(range(40, 48))
SPREAD = np.asarray([3, -3, 1, -1, 2, -2, 4, -4]) / np.std([3, -3, 1, -1, 2, -2, 4, -4], ddof=1)
"""Eight seeds of mean 0 and deviation 1."""
ORDINARY = 0.6 + 0.02 * SPREAD[::-1]
"""Accuracies of eight students."""


def drop(c1: int) -> Transition:
    start = 10 * (c1 // 20)
    return Transition(start=start, middle=c1, end=2 * c1, chosen=c1, before=0, after=4 * c1)


def gains(mean: float, p_value: float) -> np.ndarray:
    """Eight differences of this mean, of which Student's test has this p value."""
    statistic = scipy.stats.t.isf(p_value / 2, 7)
    return mean + SPREAD * abs(mean) * np.sqrt(8) / statistic


def further(evidence: MadeUp) -> Verdict:
    """G4."""
    return further_claim(evidence, "G4", ("progressive", "two-shot"))


def evidence_of(experiment: Experiment = TUNED, **better_by: Any) -> MadeUp:
    """Students whose accuracies are better by so much than ordinary ones."""
    added = {name.replace("_", "-"): gain for name, gain in better_by.items()}
    assert added.keys() <= ARMS.keys()
    final = {student(arm): ORDINARY + added.get(arm, 0.0) for arm in ARMS}
    return MadeUp(Path(), experiment, (), final)


@pytest.mark.parametrize(
    ("falls", "holds"),
    [
        ([320, 480, 400, 400, 400, 400, 400, 2000], True),
        ([319, 480, 400, 400, 400, 400, 400, 2000], False),
        ([400, 481, 400, 400, 400, 400, 400, 2000], False),
    ],
)
def test_the_steepest_fall_is_at_c1(
    falls: list[int], holds: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    curve = pd.Series([0.1, 0.2, 0.1], index=[0, 300, 600])
    monkeypatch.setattr(teacher_claims, "steepest_falls", lambda _: falls)
    monkeypatch.setattr(verdicts, "distance_curves", lambda _: [curve] * 8)
    monkeypatch.setattr(teacher_claims, "why_no_phases", lambda *_: ())
    verdict = phases_claim(Path(), [drop(400)] * 8)
    assert verdict.holds is holds
    name = "teachers with three phases that fall fastest at C1"
    assert values(verdict)[name] == (7 if holds else 6) / 8
    assert values(verdict)["C1 less the peak of robust(3) (not judged)"] == 100
    # One that has no phases may be the eighth, two may not.
    calm = [400] * 8
    monkeypatch.setattr(teacher_claims, "steepest_falls", lambda _: calm)
    for absent, expected in ((1, True), (2, False)):
        phases = [drop(400)] * (8 - absent) + [NoTransition("flat")] * absent
        assert phases_claim(Path(), phases).holds is expected


def test_optima_and_what_is_near_them() -> None:
    found = optima_of({3: 0.7, 0: 1.1, 1: 1.0})
    assert [optimum.n for optimum in found] == [0, 1]  # nothing follows the last
    assert [optimum.tolerance for optimum in found] == pytest.approx([0.02, 0.06])


def test_stretches() -> None:
    steps, losses = [0, 10, 20, 40, 80, 100], [9.0, 1.3, 1.0, 1.0, 1.0, 0.4]
    # Smoothed: 1.15, 1.1, 1.0, 0.8, 0.7 at the steps from 10 on.
    found = stretch(steps, losses, Optimum(1, 1.0, 0.12), None)
    assert found[:2] == (20, 40)
    assert found.share == pytest.approx(math.log(40 / 20) / math.log(100))
    assert stretch(steps, losses, Optimum(1, 1.0, 0.16), None)[:2] == (10, 40)
    assert stretch(steps, losses, Optimum(1, 1.0, 0.12), 20) == Stretch(20, 20, 0.0)
    assert stretch(steps, losses, Optimum(1, 1.0, 0.0), None) == Stretch(None, None, 0.0)


def test_the_longest_stretch_is_that_in_the_logarithm() -> None:
    """From 10 to 30, and from 60 to 100, between which there is a break."""
    steps = [10, 20, 30, 40, 50, 60, 70, 80, 90, 100]
    losses = [1.0, 1.0, 1.0, 1.0, 9.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    found = stretch(steps, losses, Optimum(1, 1.0, 0.1), None)
    assert found[:2] == (10, 30)
    assert found.share == pytest.approx(math.log(3) / math.log(100))


def made_up_plateaus(
    home: Path, levels: Mapping[str, float], monkeypatch: pytest.MonkeyPatch
) -> MadeUp:
    """Eight teachers of 1000 steps, one of them tuned on, whose losses stay at such levels from
    step 20 to C1 at step 200, and fall; the optima of 0, 1 and 2 tokens are 1.0, 0.9 and 0.6, or
    with positions 0.95, 0.85 and 0.55."""
    probes = home / TEACHER / "probes"
    probes.mkdir(parents=True)
    kinds = {"plateaus": (1.0, 0.9, 0.6), "plateaus_with_position": (0.95, 0.85, 0.55)}
    optima = {
        kind: {str(n): {"cross_entropy": loss} for n, loss in enumerate(losses)}
        for kind, losses in kinds.items()
    }
    (probes / "ceiling.json").write_text(json.dumps(optima))
    steps = [0, *range(10, 1001, 10)]

    def loss(level: float, step: int) -> float:
        if step < 20:
            return 2.0
        return level if step <= 200 else 0.2

    def run_of(levels_S: list[float], seeds: list[int]) -> Any:
        records = [
            {"step": step, "eval_loss": [loss(level, step) for level in levels_S]} for step in steps
        ]
        return SimpleNamespace(manifest={"seeds": seeds}, metrics=lambda: records)

    runs = {
        TEACHER: run_of([levels["report"]] * 6 + [levels["seventh"], levels["eighth"]], SEEDS),
        TUNED_TEACHER: run_of([levels["tuned"]], [7]),
    }

    class OfRuns(MadeUp):
        def run(self, name: str) -> Any:
            return runs[name]

    monkeypatch.setattr(teacher_claims, "RunDirectory", lambda path: runs[path.name])
    return OfRuns(home, TUNED, [drop(200)] * 8)


@pytest.mark.parametrize(
    ("levels", "holds"),
    [
        # The gap after n = 1 is 0.3 with positions: nearer than 0.06 to 0.85.
        ({"tuned": 0.85, "report": 0.9, "seventh": 0.8, "eighth": 1.2}, True),
        ({"tuned": 0.85, "report": 0.9, "seventh": 0.92, "eighth": 0.92}, False),
        # Near another optimum than that of the tuning seed.
        ({"tuned": 0.85, "report": 0.95, "seventh": 0.95, "eighth": 0.95}, False),
        # That one is near none.
        ({"tuned": 1.2, "report": 0.95, "seventh": 0.95, "eighth": 0.95}, False),
    ],
)
def test_plateaus_on_one_optimum(
    levels: dict[str, float], holds: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evidence = made_up_plateaus(tmp_path, levels, monkeypatch)
    table = plateau_table(evidence, drop(200))
    assert len(table) == 9 * 2 * 2
    chosen = table[table.chosen & (table.plateaus == "plateaus_with_position")]
    assert set(chosen.n) == (set() if levels["tuned"] == 1.2 else {1})
    verdict = plateau_claim(evidence, table)
    assert verdict.holds is holds and not verdict.undecided


def test_how_long_a_plateau_lies_on_its_optimum(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From step 30, by when nothing of the beginning is left in the average, to step 190."""
    levels = {"tuned": 0.86, "report": 0.86, "seventh": 0.86, "eighth": 1.2}
    evidence = made_up_plateaus(tmp_path, levels, monkeypatch)
    table = plateau_table(evidence, drop(200))
    found = values(plateau_claim(evidence, table))
    assert found["teachers whose plateau lies on the optimum of n=1"] == 7 / 8
    share = math.log(190 / 30) / math.log(1000)
    assert found["part of the logarithm of the run for which it does"] == pytest.approx(share)
    name = "loss at the end of the plateau, less this optimum (not judged)"
    assert found[name] == pytest.approx(0.01)
    blind = ", by optima that do not know the position (not judged)"
    assert found[f"teachers whose plateau lies on the optimum of n=1{blind}"] == 7 / 8
    name = "loss at the end of the plateau, less this optimum, by optima that do not know the"
    assert found[f"{name} position (not judged)"] == pytest.approx(-0.04)
    # Without a tuning seed nothing has fixed n.
    untuned = plateau_claim(evidence, plateau_table(evidence, None))
    assert untuned.holds is None and not untuned.undecided
    assert "no tuning seed" in untuned.notes[0]


def test_a_plateau_that_is_too_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenth of the logarithm of 1000 steps is a factor of two."""
    levels = {"tuned": 0.85, "report": 0.85, "seventh": 0.85, "eighth": 0.85}
    evidence = made_up_plateaus(tmp_path, levels, monkeypatch)
    for c1, holds in ((60, True), (50, False)):  # from 30 to 60, or to 50
        evidence = replace(evidence, phases=[drop(c1)] * 8)
        assert plateau_claim(evidence, plateau_table(evidence, drop(200))).holds is holds


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([100, 200, 300, 400, 500], True),
        ([100, 100, 100, 100, 200], True),
        ([100, 200, math.inf, math.inf, math.inf], True),
        ([100, 200, 300, 250, 500], False),
        ([math.inf, 100, 200, 300, 400], False),  # the shortest never departs, longer ones do
        ([200, 200, 200, 200, 200], None),
        ([100, math.inf, math.inf, math.inf, math.inf], None),
        ([math.inf] * 5, None),
    ],
)
def test_shortest_first(steps: list[float], expected: bool | None) -> None:
    assert shortest_first(steps) is expected


def test_departures_last_for_three_checkpoints() -> None:
    steps = [0, 10, 20, 30, 40, 50]
    assert departure_step(steps, [0.0, 0.1, 0.0, 0.06, 0.06, 0.06]) == 30
    assert departure_step(steps, [0.0, 0.1, 0.1, 0.05, 0.1, 0.1]) == math.inf
    assert departure_step(steps, [0.0, 0.0, 0.0, 0.0, 0.1, 0.1]) == math.inf
    assert departure_step(steps[:2], [0.1, 0.1]) == math.inf


def made_up_distances(home: Path, departs: list[dict[int, int | None]]) -> None:
    """close(n) of eight teachers, probed ten times, from 0 to 0.2 at these checkpoints."""
    probes = home / TEACHER / "probes"
    probes.mkdir(parents=True)
    rows = [
        {"seed": seed, "step": 100 * i, "kind": kind, "n": n}
        | {"median": 0.2 if kind == "close" and at is not None and i >= at else 0.0}
        for seed, of_teacher in zip(SEEDS, departs, strict=True)
        for n, at in of_teacher.items()
        for kind in ("robust", "close")
        for i in range(10)
    ]
    pd.DataFrame(rows).to_csv(probes / "ngram.csv", index=False)
    exact = [{"kind": "close", "n": n, "median": 0.5 / n} for n in (1, 2, 3, 5, 7, 9)]
    pd.DataFrame(exact).to_csv(probes / "ceiling.csv", index=False)


IN_ORDER = {1: 2, 2: 3, 3: 4, 5: 4, 7: None, 9: 1}
OUT_OF_ORDER = {1: 3, 2: 2, 3: 4, 5: 4, 7: None, 9: 1}
OPEN = {1: 3, 2: 3, 3: 3, 5: 3, 7: 3, 9: 1}


@pytest.mark.parametrize(
    ("departs", "holds"),
    [
        ([IN_ORDER] * 7 + [OUT_OF_ORDER], True),
        ([IN_ORDER] * 7 + [OPEN], True),
        ([IN_ORDER] * 6 + [OUT_OF_ORDER] * 2, False),
        ([IN_ORDER] * 6 + [OUT_OF_ORDER, OPEN], None),
        ([OPEN] * 8, None),
    ],
)
def test_order_of_departures(
    departs: list[dict[int, int | None]], holds: bool | None, tmp_path: Path
) -> None:
    made_up_distances(tmp_path, departs)
    verdict = departure_claim(tmp_path)
    assert verdict.holds is holds and verdict.undecided is (holds is None)


def test_departures_are_measured(tmp_path: Path) -> None:
    made_up_distances(tmp_path, [IN_ORDER] * 7 + [OPEN])
    found = departure_claim(tmp_path)
    assert values(found) == {
        "teachers in order": 7 / 8,
        "teachers out of order": 0,
        "undecided teachers": 1 / 8,
        "close(1) departs": 200,
        "close(2) departs": 300,
        "close(3) departs": 400,
        "close(5) departs": 400,
        "close(7) departs": math.inf,
    }
    departures = [m.estimate for m in found.measurements if m.name == "close(7) departs"]
    assert departures[0].num_censored == 7
    assert "close(1) 0.5, close(2) 0.25" in found.notes[0] and "close(9)" not in found.notes[0]


def outcome(verdict: Verdict) -> str:
    words = {True: "better", False: "worse", None: "undecided" if verdict.undecided else "open"}
    return words[verdict.holds]


def test_four_contrasts_hold_together() -> None:
    """Labels are far behind, so that the contrasts with one-shot decide: two of p = 0.02 are
    multiplied by two, two of p = 0.03 too."""
    for p_value, holds in ((0.02, True), (0.03, False)):
        gain = gains(0.01, p_value)
        verdict = further(evidence_of(ce=-0.2, progressive=gain, two_shot=gain))
        assert verdict.holds is holds and not verdict.undecided
        found = values(verdict)
        assert found["accuracy, progressive less one-shot"] == pytest.approx(0.01)
        assert found["accuracy, 2-shot less labels"] == pytest.approx(0.21)
        assert found["adjusted p of progressive less one-shot"] == pytest.approx(2 * p_value)
    # One alone of p = 0.03 is the largest and stays as it is.
    mixed = evidence_of(ce=-0.2, progressive=gains(0.01, 0.03), two_shot=gains(0.01, 1e-6))
    assert further(mixed).holds
    # Each of the four has to be better.
    for worse in ("progressive", "two_shot"):
        better = {"ce": -0.2, "progressive": gains(0.01, 1e-6), "two_shot": gains(0.01, 1e-6)}
        assert further(evidence_of(**better)).holds
        better[worse] = gains(-0.01, 1e-6)
        assert further(evidence_of(**better)).holds is False
    assert further(evidence_of(progressive=0.1, two_shot=0.1, ce=0.2)).holds is False


def firsts_of(**of_offset: np.ndarray) -> pd.DataFrame:
    """Eight students of each first checkpoint before, at and after C1; the one after it lies in no
    drop."""
    offsets = {"early": -100, "middle": 0, "late": 100}
    label_of = {-100: "-100", 0: "C1", 100: "+100"}
    return pd.DataFrame(
        [
            {"first": label_of[offset], "seed": seed, "first_step": 300 + offset}
            | {"in_drop": name != "late" and seed < SEEDS[5], "accuracy": accuracy}
            for name, offset in offsets.items()
            for seed, accuracy in zip(SEEDS, of_offset[name], strict=True)
        ]
    )


def test_a_first_checkpoint_that_was_chosen_elsewhere() -> None:
    def judged(chosen: pd.DataFrame, p_values: tuple[float, float] = (0.001, 0.001)) -> Verdict:
        firsts = firsts_of(
            early=ORDINARY - gains(0.02, p_values[0]),
            middle=ORDINARY,
            late=ORDINARY - gains(0.02, p_values[1]),
        )
        return first_claim(evidence_of(), "G5", {FIRST: firsts, CHOICE: chosen})

    chosen = firsts_of(early=ORDINARY, middle=ORDINARY + 0.1, late=ORDINARY)
    holds = judged(chosen)
    assert holds.holds
    assert values(holds)["accuracy, best first checkpoint less the earliest"] == pytest.approx(0.02)
    assert values(holds)["teachers in whose drop it lies"] == 5 / 8
    assert judged(chosen, (0.03, 0.001)).holds  # the larger of two p values
    assert judged(chosen, (0.03, 0.03)).holds is False
    # Chosen on the tuning seeds is what is compared, whatever is best on these.
    early = firsts_of(early=ORDINARY + 0.1, middle=ORDINARY, late=ORDINARY)
    late = firsts_of(early=ORDINARY, middle=ORDINARY, late=ORDINARY + 0.1)
    for elsewhere in (early, late):
        assert judged(elsewhere).holds is False


def test_a_best_first_checkpoint_outside_of_the_drop() -> None:
    firsts = firsts_of(early=ORDINARY - 0.1, middle=ORDINARY, late=ORDINARY - 0.1)
    assert first_claim(evidence_of(), "G5", {FIRST: firsts}).holds
    outside = firsts.assign(in_drop=firsts.seed < SEEDS[4])  # of four teachers of eight
    assert first_claim(evidence_of(), "G5", {FIRST: outside}).holds is False


@pytest.mark.parametrize(
    ("mean", "p_value", "expected"),
    [
        (0.03, 1e-6, "better"),
        (0.03, 0.04, "undecided"),  # above zero, but not above the margin
        (0.005, 1e-6, "undecided"),
        (-0.03, 1e-6, "worse"),
        (-0.03, 0.04, "undecided"),
    ],
)
def test_till_saturate(mean: float, p_value: float, expected: str) -> None:
    verdict = saturation_claim(evidence_of(till_saturate=gains(mean, p_value)))
    assert outcome(verdict) == expected
    assert verdict.notes[0].startswith(f"till-saturate against progressive: {expected}")
    assert ("no more than 0.01 apart" in verdict.notes[0]) is (mean == 0.005)


BETTER, WORSE, OPEN_GAIN = gains(0.02, 1e-5), gains(-0.02, 1e-5), gains(0.02, 0.2)


@pytest.mark.parametrize(
    ("generations", "projections", "expected"),
    [
        (BETTER, BETTER, "better"),
        (BETTER, WORSE, "worse"),
        (OPEN_GAIN, WORSE, "worse"),
        (BETTER, OPEN_GAIN, "undecided"),
        (gains(0.02, 0.03), gains(0.02, 0.03), "undecided"),  # twice each
        (gains(0.02, 0.02), gains(0.02, 0.02), "better"),
    ],
)
def test_curricula_without_probabilities(
    generations: np.ndarray, projections: np.ndarray, expected: str
) -> None:
    """Generations are compared with each other, at whatever level they are."""
    evidence = evidence_of(
        generations=-0.3, generations_two_shot=generations - 0.3, projections=projections
    )
    verdict = substitutes_claim(evidence)
    assert outcome(verdict) == expected
    found = values(verdict)
    name = "accuracy, generations (C1 first) less generations"
    assert found[name] == pytest.approx(np.mean(generations))
    assert found["accuracy, generations less labels (not judged)"] == pytest.approx(-0.3)


def test_untuned_students_are_measured_and_not_judged() -> None:
    better = {"ce": -0.2, "progressive": 0.1 + BETTER, "two_shot": BETTER, "projections": BETTER}
    firsts = firsts_of(early=ORDINARY - 0.1, middle=ORDINARY, late=ORDINARY - 0.1)

    def verdicts_on(experiment: Experiment) -> list[Verdict]:
        evidence = evidence_of(
            experiment, **better, till_saturate=0.2 + BETTER, generations_two_shot=BETTER
        )
        judged = [claim(evidence) for claim in (further, saturation_claim)]
        return [*judged, substitutes_claim(evidence), first_claim(evidence, "G5", {FIRST: firsts})]

    for tuned, untuned in zip(verdicts_on(TUNED), verdicts_on(UNTUNED), strict=True):
        assert tuned.holds
        assert untuned.holds is None and not untuned.undecided
        assert "not judged" in untuned.notes[0]
        assert untuned.measurements == tuned.measurements


def test_students_by_whom_a_first_checkpoint_is_chosen() -> None:
    """They have one teacher, whose phase tells whether their first checkpoints lie in its drop."""
    first_of = {"choose/at-100": 180, "choose/C1": 400, "choose/at+200": 600}

    class OfRuns(MadeUp):
        def run(self, name: str) -> Any:
            distinct = [{"segments": [{"teacher_step": first_of[name]}]}]
            schedules = {"distinct": distinct, "of_lane": [0, 0]}
            return SimpleNamespace(manifest={"seeds": [7, 8], "schedules": schedules})

    final = {name: np.asarray([0.7, 0.8]) for name in first_of}
    table = choice_table(OfRuns(Path(), TUNED, (), final), drop(400))
    assert table["first"].tolist() == ["-100", "-100", "C1", "C1", "+200", "+200"]
    assert table.first_step.tolist() == [180, 180, 400, 400, 600, 600]
    assert table.in_drop.tolist() == [False] * 2 + [True] * 4
    assert table.accuracy.tolist() == [0.7, 0.8] * 3
    absent = choice_table(OfRuns(Path(), TUNED, (), final), NoTransition("flat"))
    assert not absent.in_drop.any()
