"""The claims about a grammar's students, judged on made-up runs, and the curve that B3 reads."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from common.verdict import Measurement
from pcfg import students
from pcfg.claims import closing_step
from pcfg.experiment import student
from pcfg.presets import PRESETS, Experiment
from pcfg.students import Evidence, accuracy_claim, sweep_claim
from tests.test_pcfg_runs import SWEEP

JUDGED = replace(PRESETS["quick"].config, tuning=SWEEP)
NOISE = np.asarray([0.01, -0.01, 0.02, 0.0])


@dataclass(frozen=True)
class MadeUp(Evidence):
    final: dict[str, np.ndarray] = field(default_factory=dict)

    def accuracy(self, name: str) -> list[float]:
        return self.final[name].tolist()


def evidence_of(experiment: Experiment = JUDGED, **final: float) -> MadeUp:
    """Four seeds a strategy, whose accuracies move together."""
    runs = {student(strategy.replace("_", "-")): value + NOISE for strategy, value in final.items()}
    return MadeUp(Path(), experiment, (), runs)


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
    assert judged(evidence_of(PRESETS["quick"].config, ce=0.7, one_shot=0.71, progressive=0.75, two_shot=0.74)) is None


@pytest.mark.parametrize(
    ("means", "in_drop", "holds"),
    [
        ({-100: 0.7, 0: 0.8, 500: 0.72}, {0}, True),
        ({-100: 0.7, 0: 0.71, 500: 0.8}, {0}, False),  # the latest is best
        ({-100: 0.7, 0: 0.8, 500: 0.72}, {-100}, False),  # the best is not in the drop
    ],
)
def test_the_best_first_checkpoint(means: dict[int, float], in_drop: set[int], holds: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        {"offset": offset, "seed": seed, "first_step": offset, "in_drop": offset in in_drop, "accuracy": mean + noise + 0.001 * (offset % 7) * seed}
        for offset, mean in means.items()
        for seed, noise in enumerate(NOISE)
    ]
    monkeypatch.setattr(students, "first_table", lambda _: pd.DataFrame(rows))
    verdict = sweep_claim(evidence_of())
    assert verdict.holds is holds
    best_over_earliest: Measurement = verdict.measurements[0]
    best = max(means, key=lambda offset: means[offset])
    assert best_over_earliest.estimate.value == pytest.approx(means[best] - means[-100], abs=0.01)


def test_closing_step() -> None:
    steps = [0, 10, 20, 30, 40]
    assert closing_step(steps, [0.0, 0.5, 1.0, 0.4, 0.3]) == 30
    assert closing_step(steps, [0.0, 1.0, 0.4, 0.6, 0.3]) == 40  # it comes back once
    assert closing_step(steps, [0.0, 1.0, 0.9, 0.8, 0.7]) is None
