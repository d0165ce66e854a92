"""The claims about teachers of text (T1 to T3), judged on made-up runs."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from common.judge.phases import PhaseConfig
from common.judge.transition import NoTransition, Transition
from common.judge.verdict import Measurement, Verdict
from common.sequence import teacher_claims
from common.sequence.windows import BY_TOKEN, TABLE
from mlm import verdicts
from mlm.config import DETECTOR
from mlm.verdicts import (
    CLAIMS,
    MASKED,
    VISIBLE,
    half_way_step,
    half_way_table,
    late_claim,
    late_table,
    of_enough,
    passes,
    passing_claim,
    phases_claim,
    reference_measurements,
    rise_claim,
    rise_within,
)
from tests.test_token_claims import values

SEEDS = list(range(60, 68))
STEPS = (0, 100, 200, 300, 400, 600, 800, 1000)
DROP = Transition(start=150, middle=220, end=300, chosen=200, before=50, after=600)
FLAT = NoTransition("flat")
NONE = pd.DataFrame({"tokens": [], "seed": [], "step": []})
METRICS = [
    {"step": step, "eval_loss": [6.0 - step / 100 + 0.1 * (seed == SEEDS[0]) for seed in SEEDS]}
    for step in (0, 150, 300, 450)
]
TEACHERS = SimpleNamespace(manifest={"seeds": SEEDS}, metrics=lambda: METRICS)
Curves = Mapping[tuple[str, int], Sequence[Sequence[float]]]


@pytest.fixture
def made_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Curves], Path]:
    """Writes the medians of eight teachers, by kind and n, at `STEPS`."""
    for module in (teacher_claims, verdicts):
        monkeypatch.setattr(module, "RunDirectory", lambda _: TEACHERS)

    def write(curves: Curves) -> Path:
        rows = [
            {"seed": seed, "step": step, "kind": kind, "n": n, "median": median}
            for (kind, n), of_seeds in curves.items()
            for seed, medians in zip(SEEDS, of_seeds, strict=True)
            for step, median in zip(STEPS, medians, strict=True)
        ]
        probes = tmp_path / "teacher" / "probes"
        probes.mkdir(parents=True, exist_ok=True)
        pd.DataFrame(rows).to_csv(probes / TABLE, index=False)
        return tmp_path

    return write


def rising(at_end: float) -> list[float]:
    """From 0.1 at the drop's start (0.05 at step 100, 0.15 at 200) to a value at its end."""
    return [0.0, 0.05, 0.15, at_end, 0.7, 0.7, 0.72, 0.75]


def test_the_rise_is_that_from_start_to_end() -> None:
    assert rise_within(pd.Series(rising(0.5), index=STEPS), DROP) == pytest.approx(0.4)
    assert rise_within(pd.Series(rising(0.5), index=STEPS), FLAT) is None
    between = Transition(start=420, middle=430, end=440, chosen=430, before=0, after=600)
    assert rise_within(pd.Series(rising(0.5), index=STEPS), between) is None


@pytest.mark.parametrize(
    ("num_risen", "num_flat", "holds"),
    [
        (8, 0, True),
        (7, 0, True),
        (6, 0, False),
        (7, 1, True),
        (6, 1, None),
        (6, 2, None),
        (4, 2, False),
    ],
)
def test_neighbours_come_to_matter(
    num_risen: int, num_flat: int, holds: bool | None, made_up: Callable[[Curves], Path]
) -> None:
    """By 0.4 in some teachers, which is enough, by 0.29 in others; some have no drop."""
    phases = [DROP] * (8 - num_flat) + [FLAT] * num_flat
    of_seeds = [rising(0.5)] * num_risen + [rising(0.39)] * (8 - num_risen)
    home = made_up({(MASKED, 3): of_seeds, (MASKED, 2): [rising(0.1)] * 8})
    verdict = rise_claim(home, phases, NONE)
    assert verdict.holds is holds and verdict.undecided is (holds is None)
    found = values(verdict)
    assert found["teachers in which it does"] == num_risen / 8
    assert found["undecided teachers"] == num_flat / 8
    assert len(verdict.notes) == num_flat
    most_rise = 0.4 if num_risen > (8 - num_flat) / 2 else 0.29
    assert found["rise of the median of M_robust(3) within the drop, total variation"] == (
        pytest.approx(most_rise)
    )


def peaking(at: int, height: float = 0.3, end: float = 0.2) -> list[float]:
    return [height if step == at else end for step in STEPS]


@pytest.mark.parametrize(
    ("curve", "expected"),
    [
        (peaking(200), True),
        (peaking(600), True),  # twice the drop's end
        (peaking(800), False),  # too late
        (peaking(100), False),  # before the drop
        (peaking(300, end=0.224), True),
        (peaking(300, end=0.226), False),
        ([0.0, 0.1, 0.2, 0.2, 0.2, 0.2, 0.2, 0.3], False),
    ],
)
def test_a_curve_that_passes(curve: list[float], expected: bool) -> None:
    assert passes(pd.Series(curve, index=STEPS), DROP) is expected


def test_what_cannot_be_told_of_a_curve() -> None:
    curve = pd.Series(peaking(300), index=STEPS)
    assert passes(curve, FLAT) is None
    assert passes(curve[[0, 100, 800, 1000]], DROP) is None  # nothing probed where it should peak
    # The training ends before twice the drop's end: it may fall yet, or has fallen.
    rises = pd.Series([0.0, 0.1, 0.2, 0.3, 0.3], index=STEPS[:5])
    assert passes(rises, DROP) is None
    assert passes(curve[:5], DROP) is True


@pytest.mark.parametrize(
    ("twos", "threes", "holds"),
    [
        ([200] * 8, [300] * 8, True),
        ([200] * 8, [300] * 7 + [800], True),
        ([200] * 8, [300] * 6 + [800] * 2, False),
        ([800] + [200] * 7, [300] * 7 + [800], False),  # both windows in the same teachers
    ],
)
def test_neighbours_matter_for_a_while(
    twos: list[int], threes: list[int], holds: bool, made_up: Callable[[Curves], Path]
) -> None:
    home = made_up(
        {
            (VISIBLE, 2): [peaking(at, 0.2, 0.1) for at in twos],
            (VISIBLE, 3): [peaking(at) for at in threes],
            (VISIBLE, 5): [peaking(800)] * 8,
        }
    )
    verdict = passing_claim(home, [DROP] * 8)
    assert verdict.holds is holds and not verdict.undecided
    found = values(verdict)
    assert found["step of the peak, n=2"] == np.median(twos)
    assert found["peak of the median of M_robust(2), total variation"] == pytest.approx(0.2)
    assert found["part of the peak that is lost at the end, n=2"] == pytest.approx(0.5)
    assert "published: M_robust(3) falls from 0.27" in verdict.notes[0]
    undecided = passing_claim(home, [DROP] * 6 + [FLAT] * 2)
    assert undecided.holds is None or not holds
    assert undecided.undecided is (undecided.holds is None)


def judged(home: Path, phases: Sequence[Transition | NoTransition]) -> Verdict:
    return late_claim(home, phases, late_table(home, phases))


def gaining(share: float) -> list[float]:
    """Ends at 0.8, of which a share is gained after the drop's end at step 300."""
    return [0.0, 0.0, 0.3, 0.8 * (1 - share), 0.6, 0.7, 0.7, 0.8]


@pytest.mark.parametrize(("mean", "holds"), [(0.03, True), (-0.03, False), (0.003, None)])
def test_what_is_gained_late(
    mean: float, holds: bool | None, made_up: Callable[[Curves], Path]
) -> None:
    more_S = mean + 0.01 * np.asarray([1, -1, 2, -2, 0.5, -0.5, 1.5, -1.5])
    near_S = np.linspace(0.05, 0.2, 8)
    home = made_up(
        {
            (MASKED, 2): [gaining(share) for share in near_S],
            (MASKED, 5): [gaining(share) for share in near_S + 0.001],
            (MASKED, 11): [gaining(share) for share in near_S + more_S],
            (VISIBLE, 11): [gaining(0.9)] * 8,
        }
    )
    verdict = judged(home, [DROP] * 8)
    assert verdict.holds is holds and verdict.undecided is (holds is None)
    difference = verdict.measurements[0].estimate
    expected = scipy.stats.ttest_1samp(more_S, 0.0).confidence_interval(0.95)
    assert difference.value == pytest.approx(mean)
    assert (difference.low, difference.high) == pytest.approx((expected.low, expected.high))
    assert values(verdict)["late gain, g(2) (not judged)"] == pytest.approx(near_S.mean())
    table = late_table(home, [DROP] * 8)
    assert len(table) == 3 * 8
    of_first = table[(table.seed == SEEDS[0]) & (table.n == 2)].iloc[0]
    assert of_first.tolist() == pytest.approx([SEEDS[0], 2, 0.76, 0.8, 0.05])
    _, p_value = scipy.stats.ttest_1samp(more_S, 0.0)
    adjusted = values(verdict)["p of g(11) less g(2), adjusted for all n (not judged)"]
    assert adjusted == pytest.approx(p_value)  # the other one is smaller
    # Of two teachers, or of one, or of none, that have a drop.
    assert judged(home, [DROP] * 2 + [FLAT] * 6).measurements[0].estimate.num_seeds == 2
    for num_found in (1, 0):
        few = judged(home, [DROP] * num_found + [FLAT] * (8 - num_found))
        assert few.holds is None and few.undecided


def test_windows_that_were_not_probed(made_up: Callable[[Curves], Path]) -> None:
    verdict = judged(made_up({(MASKED, 3): [gaining(0.1)] * 8}), [DROP] * 8)
    assert verdict.holds is None and not verdict.undecided
    assert "windows of 2 and 11 tokens were not probed" in verdict.notes[0]


def test_the_steepest_fall_is_at_c1(
    made_up: Callable[[Curves], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    home = made_up({(VISIBLE, 3): [peaking(300)] * 8})
    for falls, holds in (([240] * 7 + [241], True), ([241] * 2 + [160] * 6, False)):
        monkeypatch.setattr(teacher_claims, "steepest_falls", lambda _, falls=falls: falls)
        verdict = phases_claim(home, [DROP] * 8)
        assert verdict.claim == "T1" and verdict.holds is holds
    assert values(verdict)["C1 less the peak of M_robust(3), token visible (not judged)"] == -100
    assert phases_claim(home, [DROP] * 6 + [FLAT] * 2).holds is False


def test_half_way_up() -> None:
    assert half_way_step([0, 100, 200, 300], [0.0, 0.1, 0.5, 0.4]) == pytest.approx(137.5)
    assert half_way_step([0, 100, 200], [0.3, 0.1, 0.6]) == 0
    assert math.isnan(half_way_step([0, 100], [0.0, 0.049]))


def test_which_tokens_come_first(made_up: Callable[[Curves], Path]) -> None:
    home = made_up({(MASKED, 3): [rising(0.5)] * 8})
    early, late = (0, 0.1, 0.2, 0.4, 0.4, 0.4, 0.4, 0.4), (0, 0, 0, 0.1, 0.3, 0.4, 0.4, 0.4)
    rows = [
        {"tokens": tokens, "num_pairs": 9, "seed": seed, "step": step, "kind": kind, "n": n}
        | {"median": median if (kind, n) == (MASKED, 3) else 1.0}
        for tokens, medians in {"function": early, "content": late, "first": early}.items()
        for seed in SEEDS
        for kind in (MASKED, VISIBLE)
        for n in (2, 3)
        for step, median in zip(STEPS, medians, strict=True)
    ]
    pd.DataFrame(rows).to_csv(home / "teacher" / "probes" / BY_TOKEN, index=False)
    table = half_way_table(home, ["teacher"])
    assert table.columns.tolist() == ["run", "tokens", "num_pairs", "seed", "step"]
    assert len(table) == 3 * 8
    found = values(rise_claim(home, [DROP] * 8, table))
    what = "step at which M_robust(3) is half-way up"
    assert found[f"{what}, function words (not judged)"] == 200
    assert found[f"{what}, content words (not judged)"] == pytest.approx(350)
    assert found[f"{what}, content words less function words (not judged)"] == pytest.approx(150)
    assert not [name for name in found if "continuations" in name]


def test_where_the_plateau_lies_beside_references(made_up: Callable[[Curves], Path]) -> None:
    """It ends at 4.5 nats, at 4.6 in one teacher."""
    home = made_up({(MASKED, 3): [rising(0.5)] * 8})
    references = pd.DataFrame(
        [
            {"reference": "unigram", "n": None, "loss": 5.0},
            {"reference": "bag", "n": None, "loss": 4.6},
            {"reference": "window", "n": 3, "loss": 4.0},
            {"reference": "window", "n": 11, "loss": 3.0},
        ]
    ).astype({"n": "Int64"})
    passed = pd.DataFrame(
        [
            {"reference": name, "n": n, "seed": seed, "step": step}
            for name, n, step in (
                ("unigram", None, 100),
                ("bag", None, 150),
                ("window", 3, 300),
                ("window", 11, None),
            )
            for seed in SEEDS
        ]
    ).astype({"n": "Int64", "step": "Int64"})
    measurements = reference_measurements(home, [DROP] * 8, references, passed)
    assert all("(not judged)" in measurement.name for measurement in measurements)
    found = {name.removesuffix(" (not judged)"): value for name, value in values_of(measurements)}
    less = "loss at the end of the plateau, less that of"
    assert found[f"{less} the frequencies of words"] == pytest.approx(-0.5)
    assert found[f"{less} a bag of words"] == pytest.approx(-0.1)
    assert found[f"{less} windows of 3 tokens"] == pytest.approx(0.5)
    passes_loss = "the teacher passes the loss of"
    assert found[f"{passes_loss} a bag of words"] == 150
    assert found[f"{passes_loss} windows of 3 tokens"] == 300
    assert found[f"{passes_loss} windows of 11 tokens"] == math.inf


def values_of(measurements: Sequence[Measurement]) -> list[tuple[str, float]]:
    return [(measurement.name, measurement.estimate.value) for measurement in measurements]


def test_few_teachers_are_not_judged() -> None:
    verdict = Verdict("T2m", True, (), ("seed 7: flat",))
    assert of_enough(verdict, 8) is verdict
    few = of_enough(verdict, 7)
    assert few.holds is None and not few.undecided
    assert few.notes == (
        "measured, not judged: of 8 teachers that it takes, these are 7",
        "seed 7: flat",
    )


def test_all_are_judged() -> None:
    assert list(CLAIMS) == ["T1", "T2m", "T2v", "T3", "T4", "T5", "T6", "T7"]
    assert CLAIMS["T1"].criterion.startswith(teacher_claims.STEEPEST_AT_C1.criterion)


def test_a_drop_of_text_is_found() -> None:
    """Of a curve such as small teachers on text have, and of none that stays on its plateau."""
    steps = [0, *range(25, 1201, 25)]
    known = {25: 6.15, 100: 5.75, 300: 5.61, 600: 5.42, 700: 5.12, 850: 4.67, 1200: 4.51}
    losses = np.interp(np.log(np.maximum(steps, 25)), np.log(list(known)), list(known.values()))
    found = DETECTOR.detect(steps, losses.tolist())
    assert isinstance(found, Transition)
    assert 500 <= found.start <= 650 and 800 <= found.end <= 900
    assert isinstance(PhaseConfig().detect(steps, losses.tolist()), NoTransition)
    stays = np.maximum(losses, 5.35)
    assert isinstance(DETECTOR.detect(steps, stays.tolist()), NoTransition)
