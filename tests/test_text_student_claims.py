"""The claims about students of text (T4 to T7), judged on made-up runs."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from common.sequence.students import BudgetConfig, student
from mlm.presets import ARMS, LENGTHENED, PRESETS
from mlm.verdicts import accuracy_claim, lengths_claim, projections_claim
from tests.test_next_token_claims import BETTER, OPEN_GAIN, ORDINARY, WORSE, gains, outcome
from tests.test_token_claims import SWEEP, MadeUp, values

LONGER = tuple(BudgetConfig(steps, interval=10, speed=1, first_steps=9) for steps in (1600, 3200))
TUNED = replace(
    PRESETS["quick"].config, tuning=SWEEP, compared=tuple(ARMS), budgets=LONGER, tunes_lengths=True
)
NO_WORDS = pd.DataFrame({"run": [], "tokens": [], "seed": [], "step": []})


def evidence_of(better_by: dict[str, Any], budget: BudgetConfig | None = None) -> MadeUp:
    """Students of all lengths, whose accuracies are better by so much than ordinary ones; those of
    other lengths than the given one by 0.1 where they learn from early checkpoints."""
    early = {"progressive": BETTER + 0.1, "two-shot": BETTER + 0.1}
    final = {}
    for length in (None, *LONGER):
        added = better_by if length == budget else early
        for arm in ARMS:
            final[student(arm, length)] = ORDINARY + added.get(arm, 0.0)
    return MadeUp(Path(), TUNED, (), final)


@pytest.mark.parametrize(
    ("progressive", "holds"),
    [(BETTER, True), (WORSE, False), (gains(0.02, 0.03), False)],  # four contrasts: 0.03 is 0.06
)
def test_students_from_c1_on(progressive: np.ndarray, holds: bool) -> None:
    verdict = accuracy_claim(
        evidence_of({"progressive": progressive, "two-shot": BETTER}), NO_WORDS
    )
    assert verdict.holds is holds
    found = values(verdict)
    assert found["accuracy, progressive less labels"] == pytest.approx(np.mean(progressive))


def test_by_which_words_they_leave_the_plateau() -> None:
    rows = [
        {"run": run, "tokens": tokens, "num_pairs": 9, "seed": seed, "step": step + seed}
        for run, steps in {
            "teacher": {"function": 900.0, "content": 990.0},
            "student/two-shot": {"function": 200.0, "content": 350.0},
        }.items()
        for tokens, step in steps.items()
        for seed in range(3)
    ]
    on_plateau = [row | {"seed": 9, "step": math.nan} for row in rows if row["seed"] == 0]
    verdict = accuracy_claim(evidence_of({}), pd.DataFrame([*rows, *on_plateau]))
    found = {name: value for name, value in values(verdict).items() if "half-way" in name}
    what = "2-shot: step at which M_robust(3) is half-way up"
    assert found[f"{what}, function words (not judged)"] == 201
    assert found[f"{what}, content words (not judged)"] == 351
    assert found[f"{what}, content words less function words (not judged)"] == 150
    assert len(found) == 3


@pytest.mark.parametrize(
    ("projections", "two_shot", "expected"),
    [
        (0.1 + BETTER, 0.1, "better"),
        (BETTER, 0.1 + BETTER, "worse"),
        (0.1 + OPEN_GAIN, 0.1, "undecided"),
    ],
)
def test_projections_against_two(projections: np.ndarray, two_shot: Any, expected: str) -> None:
    evidence = evidence_of({"projections": projections, "two-shot": two_shot})
    verdict = projections_claim(evidence)
    assert outcome(verdict) == expected
    assert values(verdict)["accuracy, projections less one-shot"] == pytest.approx(
        np.mean(projections)
    )


def test_a_gain_that_lasts_does_so_at_every_length() -> None:
    early = {"progressive": BETTER, "two-shot": BETTER}
    assert lengths_claim(evidence_of({}, None)).holds
    for budget in LONGER:
        assert lengths_claim(evidence_of(early, budget)).holds
        for arm in early:
            verdict = lengths_claim(evidence_of(early | {arm: -BETTER}, budget))
            assert verdict.holds is False
            name = {"progressive": "progressive", "two-shot": "2-shot"}[arm]
            said = f"{name} less labels, {budget.steps:,} steps: worse"
            assert said in verdict.notes
    assert len(lengths_claim(evidence_of({}, None)).measurements) == 16


def test_some_arms_have_one_length() -> None:
    assert set(LENGTHENED) < set(ARMS)
    assert TUNED.lengthened == LENGTHENED
