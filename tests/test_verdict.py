"""Verdicts in words and in files."""

import pytest

from common.judge.stats import proportion
from common.judge.verdict import (
    Claim,
    Measurement,
    Verdict,
    most,
    outcome_in_table,
    outcome_of,
    plain,
)

CLAIMS = {"X": Claim("It is so", "By this criterion.")}


@pytest.mark.parametrize(
    ("holds", "undecided", "said", "in_table"),
    [
        (True, False, "holds", "holds"),
        (False, False, "does not hold", "**does not hold**"),
        (None, False, "not judged", "not judged"),
        (None, True, "undecided", "undecided"),
    ],
)
def test_what_a_verdict_is_called(
    holds: bool | None, undecided: bool, said: str, in_table: str
) -> None:
    measured = (Measurement("a share", proportion(1, 2)),)
    claim = plain(Verdict("X", holds, measured, undecided=undecided), CLAIMS)
    assert outcome_of(claim) == said
    assert outcome_in_table(claim) == in_table
    assert claim["holds"] is holds


@pytest.mark.parametrize(
    ("true", "false", "undecided", "expected"),
    [
        (7, 1, 0, True),
        (7, 0, 1, True),
        (6, 2, 0, False),
        (6, 1, 1, None),  # the last one may make it seven
        (5, 2, 1, False),
        (0, 0, 8, None),
    ],
)
def test_most(true: int, false: int, undecided: int, expected: bool | None) -> None:
    parts = [True] * true + [False] * false + [None] * undecided
    assert most(parts, 7 / 8) is expected
