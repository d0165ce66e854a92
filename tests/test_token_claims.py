"""The claims about teachers and students on tokens (B1 to B5), judged on made-up runs."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from common.judge.stats import proportion
from common.judge.transition import NoTransition, Transition
from common.judge.verdict import Measurement, Verdict
from common.runs.tuning import SweepConfig
from common.sequence import student_claims, teacher_claims
from common.sequence.student_claims import Evidence, accuracy_claim, first_table, sweep_claim
from common.sequence.students import FirstCheckpointConfig, StudentRuns, student
from common.sequence.teacher_claims import (
    closing_claim,
    closing_step,
    phases_claim,
    shortest_first,
    trigram_claim,
)

SWEEP = SweepConfig((3e-3, 1e-2, 2e-2, 3e-2), seed=15, num_seeds=2)
JUDGED = StudentRuns(first=FirstCheckpointConfig((-50, 400)), tuning=SWEEP)
UNTUNED = StudentRuns(first=JUDGED.first)
NOISE = np.asarray([0.01, -0.01, 0.02, 0.0])


@dataclass(frozen=True)
class MadeUp(Evidence):
    final: dict[str, np.ndarray] = field(default_factory=dict)

    def run(self, name: str) -> Any:
        return SimpleNamespace(manifest={"learning_rates": [0.02]})

    def accuracy(self, name: str) -> list[float]:
        return self.final[name].tolist()


def evidence_of(students: StudentRuns = JUDGED, **final: float) -> MadeUp:
    """Four seeds a strategy, whose accuracies move together."""
    runs = {student(strategy.replace("_", "-")): value + NOISE for strategy, value in final.items()}
    return MadeUp(Path(), students, (), runs)


def test_progressive_must_beat_both() -> None:
    spread = np.asarray([0.002, 0.0, -0.001, 0.001])

    def judged(evidence: MadeUp) -> bool | None:
        evidence.final[student("progressive")] = evidence.final[student("progressive")] + spread
        return accuracy_claim(evidence).holds

    assert judged(evidence_of(ce=0.7, one_shot=0.71, progressive=0.75, two_shot=0.74))
    assert judged(evidence_of(ce=0.7, one_shot=0.76, progressive=0.75, two_shot=0.74)) is False
    # A gain that is smaller than its uncertainty.
    assert judged(evidence_of(ce=0.7, one_shot=0.7495, progressive=0.75, two_shot=0.74)) is False
    # Untuned students are measured, not judged.
    assert (
        judged(evidence_of(UNTUNED, ce=0.7, one_shot=0.71, progressive=0.75, two_shot=0.74)) is None
    )


@pytest.mark.parametrize(
    ("means", "in_drop", "holds"),
    [
        ({-100: 0.7, 0: 0.8, 500: 0.72}, {0}, True),
        ({-100: 0.7, 0: 0.8, 500: 0.72}, {-100}, False),  # the best is not in the drop
        ({-100: 0.7, 0: 0.71, 500: 0.8}, {0, 500}, False),  # the latest is best
        (
            {-100: 0.799, 0: 0.8, 500: 0.72},
            {0},
            False,
        ),  # no better than the earliest, for all that these seeds tell
        ({-100: 0.7, 0: 0.8, 500: 0.799}, {0}, False),
    ],
)
def test_the_best_first_checkpoint(
    means: dict[int, float], in_drop: set[int], holds: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [
        {
            "first": "C1" if offset == 0 else f"{offset:+d}",
            "seed": seed,
            "first_step": 300 + offset,
            "in_drop": offset in in_drop,
            "accuracy": mean + noise + 0.002 * i * seed,
        }
        for i, (offset, mean) in enumerate(means.items())
        for seed, noise in enumerate(NOISE - 0.003 * i)
    ]
    monkeypatch.setattr(student_claims, "first_table", lambda _: pd.DataFrame(rows))
    verdict = sweep_claim(evidence_of())
    assert verdict.holds is holds
    best = max(means, key=lambda offset: means[offset])
    assert verdict.measurements[0].estimate.value == pytest.approx(
        means[best] - means[-100], abs=1e-9
    )


def test_first_checkpoints_are_those_that_taught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two teachers, one of which has no drop, and students of three first checkpoints."""
    drop = Transition(start=200, middle=300, end=500, chosen=300, before=100, after=900)
    first_of = {
        student("two-shot"): (300, 2000),
        "first/at-50": (250, 2000),
        "first/at+400": (700, 2000),
    }

    class OfRuns(MadeUp):
        def run(self, name: str) -> Any:
            distinct = [{"segments": [{"teacher_step": step}]} for step in first_of.get(name, ())]
            return SimpleNamespace(
                manifest={
                    "seeds": [7, 8],
                    "schedules": {"distinct": distinct[::-1], "of_lane": [1, 0]},
                }
            )

    final = {name: np.asarray([0.7, 0.8]) for name in first_of}
    table = first_table(OfRuns(Path(), JUDGED, (drop, NoTransition("flat")), final))
    assert table[table.seed == 7]["first"].tolist() == ["-50", "C1", "+400"]
    assert table[table.seed == 7].first_step.tolist() == [250, 300, 700]
    assert table[table.seed == 7].in_drop.tolist() == [True, True, False]
    assert (
        not table[table.seed == 8].in_drop.any() and (table[table.seed == 8].accuracy == 0.8).all()
    )


DROP = Transition(start=100, middle=200, end=400, chosen=200, before=50, after=600)
LOSSES = {0: 2.0, 50: 1.1, 100: 1.0, 150: 0.98, 200: 0.9, 300: 0.4, 400: 0.3, 600: 0.28}
METRICS = [{"step": step, "eval_loss": [loss, loss + 0.02]} for step, loss in LOSSES.items()]
TEACHERS = SimpleNamespace(manifest={"seeds": [7, 8]}, metrics=lambda: METRICS)


def made_up_teacher(
    home: Path, curves: dict[tuple[str, int], list[list[float]]], monkeypatch: pytest.MonkeyPatch
) -> list[Transition | NoTransition]:
    """Two teachers with one drop, probed every 100 steps: medians of (kind, n), a list for each
    seed, at the steps from 0 on."""
    rows = [
        {"seed": seed, "step": 100 * i, "kind": kind, "n": n, "median": median}
        for (kind, n), of_seeds in curves.items()
        for seed, medians in zip((7, 8), of_seeds, strict=True)
        for i, median in enumerate(medians)
    ]
    probes = home / "teacher" / "probes"
    probes.mkdir(parents=True)
    pd.DataFrame(rows).sample(frac=1, random_state=0).sort_values("step", kind="stable").to_csv(
        probes / "ngram.csv", index=False
    )
    monkeypatch.setattr(teacher_claims, "RunDirectory", lambda _: TEACHERS)
    return [DROP, DROP]


PEAKED = [0.0, 0.1, 0.2, 0.5, 0.1, 0.05, 0.04]


def values(verdict: Verdict) -> dict[str, float]:
    return {measurement.name: measurement.estimate.value for measurement in verdict.measurements}


def test_phases_of_every_teacher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    phases = made_up_teacher(tmp_path, {("robust", 3): [PEAKED, PEAKED]}, monkeypatch)
    further = Measurement("what the data are known for", proportion(1, 2))
    verdict = phases_claim(tmp_path, phases, (further,))
    assert verdict.measurements[-1] == further
    found = values(verdict)
    assert verdict.holds and found["teachers with three phases"] == 1
    # C1 is at 200; from 200 to 300 and 400 the loss falls fastest, and M_robust(3) peaks at 300.
    assert found["C1 less the steepest fall of the loss (not judged)"] == -100
    assert found["C1 less the peak of M_robust(3) (not judged)"] == -100
    absent = phases_claim(tmp_path, [phases[0], NoTransition("flat")])
    assert absent.holds is False and absent.notes == ("seed 8: flat",)


@pytest.mark.parametrize(
    ("other", "holds"),
    [
        ([0.0, 0.1, 0.5, 0.2, 0.1, 0.05, 0.04], True),
        ([0.0, 0.1, 0.2, 0.2, 0.1, 0.5, 0.04], False),  # peaks after the drop
        ([0.0, 0.1, 0.5, 0.2, 0.1, 0.1, 0.11], False),  # ends at more than a fifth
    ],
)
def test_a_trigram_stage_of_every_teacher(
    other: list[float], holds: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    verdict = trigram_claim(
        tmp_path,
        made_up_teacher(
            tmp_path, {("robust", 3): [PEAKED, other], ("robust", 2): [other, PEAKED]}, monkeypatch
        ),
    )
    assert verdict.holds is holds
    assert trigram_claim(tmp_path, [DROP, NoTransition("flat")]).holds is False


def test_a_lonely_peak_is_smoothed_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The curve's highest point stands alone in the tail; the judged one is raw, and the smoothed
    one stands beside it."""
    jagged = [0.0, 0.3, 0.4, 0.4, 0.1, 0.5, 0.0]
    found = values(
        trigram_claim(
            tmp_path, made_up_teacher(tmp_path, {("robust", 3): [jagged, jagged]}, monkeypatch)
        )
    )
    assert (found["peak within the drop"], found["smoothed peak within the drop (not judged)"]) == (
        0,
        1,
    )
    assert found["smoothed peak (not judged)"] == pytest.approx(1.1 / 3)
    assert found["peak / end"] == math.inf and found[
        "smoothed peak / end (not judged)"
    ] == pytest.approx(1.1 / 3 / 0.25)


@pytest.mark.parametrize(
    ("fives", "holds"),
    [([0.5, 1.0, 1.0, 1.0, 0.4, 0.4, 0.4], True), ([0.5, 1.0, 0.4, 0.4, 0.4, 0.4, 0.4], False)],
)
def test_short_windows_are_done_first(
    fives: list[float], holds: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threes, twos = (
        [0.5, 1.0, 1.0, 0.4, 0.4, 0.4, 0.4],
        [1.0] * 7,
    )  # windows of two tokens do not count
    curves = {
        ("close", 5): [fives, fives],
        ("close", 3): [threes, threes],
        ("close", 2): [twos, twos],
        ("robust", 3): [PEAKED, PEAKED],
    }
    made_up_teacher(tmp_path, curves, monkeypatch)
    verdict = closing_claim(tmp_path)
    assert verdict.holds is holds
    assert values(verdict)["below half its peak for good, n=3"] == 300


def test_closing_step() -> None:
    steps = [0, 10, 20, 30, 40]
    assert closing_step(steps, [0.0, 0.5, 1.0, 0.4, 0.3]) == 30
    assert closing_step(steps, [0.0, 1.0, 0.4, 0.6, 0.3]) == 40  # it comes back once
    assert closing_step(steps, [0.0, 1.0, 0.9, 0.8, 0.7]) == math.inf


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([200, 400, 600], True),
        ([200, 400, math.inf], True),
        ([400, 400, 600], False),
        ([600, 400, 200], False),
        ([math.inf, 400, 600], False),  # the shortest never, longer ones do
        ([200, math.inf, 600], False),
        ([200, math.inf, math.inf], False),  # one alone has no order
    ],
)
def test_shortest_first(steps: list[float], expected: bool) -> None:
    assert shortest_first(steps) is expected
