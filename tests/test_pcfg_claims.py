"""The claims about a grammar's students, judged on made-up runs, and the curve that B3 reads."""

import itertools
import json
import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from common.experiment.plan import plan_preset
from common.judge.transition import NoTransition, Transition
from common.judge.verdict import Verdict
from pcfg import students
from pcfg import verdicts as claims
from pcfg.plan import student
from pcfg.presets import PRESETS, STRATEGIES, Experiment, FirstCheckpointConfig
from pcfg.spec import SPEC
from pcfg.students import Evidence, accuracy_claim, final_table, structure_claim, sweep_claim
from pcfg.verdicts import closing_claim, closing_step, phases_claim, shortest_first, trigram_claim
from tests.test_pcfg_experiment import SWEEP

JUDGED = replace(PRESETS["quick"].config, tuning=SWEEP)
NOISE = np.asarray([0.01, -0.01, 0.02, 0.0])


@dataclass(frozen=True)
class MadeUp(Evidence):
    final: dict[str, np.ndarray] = field(default_factory=dict)

    def run(self, name: str) -> Any:
        return SimpleNamespace(manifest={"learning_rates": [0.02]})

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
    assert (
        judged(
            evidence_of(
                PRESETS["quick"].config, ce=0.7, one_shot=0.71, progressive=0.75, two_shot=0.74
            )
        )
        is None
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
            "offset": offset,
            "seed": seed,
            "first_step": 300 + offset,
            "in_drop": offset in in_drop,
            "accuracy": mean + noise + 0.002 * i * seed,
        }
        for i, (offset, mean) in enumerate(means.items())
        for seed, noise in enumerate(NOISE - 0.003 * i)
    ]
    monkeypatch.setattr(students, "first_table", lambda _: pd.DataFrame(rows))
    verdict = sweep_claim(evidence_of())
    assert verdict.holds is holds
    best = max(means, key=lambda offset: means[offset])
    assert verdict.measurements[0].estimate.value == pytest.approx(
        means[best] - means[-100], abs=1e-9
    )


def test_first_checkpoints_are_those_that_taught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two teachers, one of which has no drop, and students of three offsets."""
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

    experiment = replace(JUDGED, first=FirstCheckpointConfig((-50, 400)))
    final = {name: np.asarray([0.7, 0.8]) for name in first_of}
    table = students.first_table(OfRuns(Path(), experiment, (drop, NoTransition("flat")), final))
    assert table[table.seed == 7].first_step.tolist() == [250, 300, 700]
    assert table[table.seed == 7].in_drop.tolist() == [True, True, False]
    assert (
        not table[table.seed == 8].in_drop.any() and (table[table.seed == 8].accuracy == 0.8).all()
    )


def test_students_of_every_length_and_size() -> None:
    """The paper's: 8 and 16 heads, 2000 to 16,000 steps, each a run with flags of its own and a row
    of the final table."""
    paper = PRESETS["paper"].config
    by_name = {
        stage.name: stage.command[1:]
        for stage in plan_preset(SPEC, "paper", Path())
        if stage.command[0] == "pcfg.distill"
    }
    assert {
        "heads/16/student/ce",
        "heads/16/budget/2000/two-shot",
        "heads/16/budget/16000/progressive",
        "budget/16000/progressive",
    } <= by_name.keys()

    def flags(name: str) -> dict[str, str]:
        return {
            flag: value
            for flag, value in itertools.pairwise(by_name[name])
            if flag.startswith("--")
        }

    long = flags("heads/16/budget/16000/progressive")
    assert {
        "--model.heads": "16",
        "--training.steps": "16000",
        "--supervision.interval": "1000",
        "--supervision.speed": "1",
    }.items() <= long.items()
    assert "--model.heads" not in flags(
        "budget/16000/progressive"
    ) and "--training.steps" not in flags("heads/16/student/ce")

    class OfRuns(MadeUp):
        def run(self, name: str) -> Any:
            heads = int(name.split("/")[1]) if name.startswith("heads/") else 8
            last = {"accuracy": [0.5], "eval_loss": [1.0], "examples": 512}
            manifest = {"seeds": [0], "learning_rates": [5e-3]}
            return SimpleNamespace(
                manifest=manifest,
                metrics=lambda: [last],
                record={"config": {"model": {"heads": heads}}},
            )

        def accuracy(self, name: str) -> list[float]:
            return [0.5]

    table = final_table(OfRuns(Path(), paper, ()))
    assert len(table) == 1 + 2 * 4 * len(STRATEGIES) == table.run.nunique()
    assert (table.heads == 16).sum() == 4 * len(STRATEGIES)


@pytest.mark.parametrize(("gain", "holds"), [(0.05, True), (0.0, False)])
def test_structure(gain: float, holds: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only trained students, the linear probe and levels of several symbols count, and seeds are
    paired."""
    rows = []
    for strategy in STRATEGIES:
        for seed, noise in zip((7, 8, 9, 10), NOISE, strict=True):
            known = 0.6 + noise + 0.001 * (seed % 3) + (gain if strategy == "progressive" else 0)
            where = {"strategy": strategy, "seed": seed}
            rows += [
                where
                | {
                    "probe": "linear",
                    "step": 500,
                    "level": 1,
                    "chance": 0.4,
                    "accuracy": known,
                }
            ]
            decoy = 0.9 if strategy == "ce" else 0.1
            rows += [
                where
                | {
                    "probe": "linear",
                    "step": 500,
                    "level": 0,
                    "chance": 1.0,
                    "accuracy": decoy,
                }
            ]
            rows += [
                where | {"probe": "linear", "step": 0, "level": 1, "chance": 0.4, "accuracy": decoy}
            ]
            for step in (0, 500):
                rows += [
                    where
                    | {
                        "probe": "mixing",
                        "step": step,
                        "level": 1,
                        "chance": 0.4,
                        "accuracy": decoy if step else 0.3 + noise,
                    }
                ]
    shuffled = pd.DataFrame(rows).sample(frac=1, random_state=0)
    monkeypatch.setattr(students, "structure_table", lambda _: shuffled)

    class OfRuns(MadeUp):
        def run(self, name: str) -> Any:
            return SimpleNamespace(manifest={"seeds": [7, 8, 9, 10]})

    verdict = structure_claim(OfRuns(Path(), JUDGED, (), {}))
    assert verdict.holds is holds
    found = values(verdict)
    assert verdict.measurements[0].estimate.value == pytest.approx(gain)
    # The mixing probe's contrasts are the same ones, and judge nothing.
    assert (
        len(found) == 2 * (2 + 3)
        and sum("mixing" in name and "not judged" in name for name in found) == 5
    )
    assert found["by the mixing probe, progressive less labels (not judged)"] == pytest.approx(-0.8)
    assert found["by the mixing probe, labels less untrained (not judged)"] == pytest.approx(
        0.9 - 0.305
    )


DROP = Transition(start=100, middle=200, end=400, chosen=200, before=50, after=600)


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
    optimum = {
        "plateaus": {"2": {"cross_entropy": 0.9}},
        "plateaus_with_position": {"2": {"cross_entropy": 0.8}},
    }
    (probes / "ceiling.json").write_text(json.dumps(optimum))
    losses = {0: 2.0, 50: 1.1, 100: 1.0, 150: 0.98, 200: 0.9, 300: 0.4, 400: 0.3, 600: 0.28}
    metrics = [{"step": step, "eval_loss": [loss, loss + 0.02]} for step, loss in losses.items()]
    monkeypatch.setattr(
        claims,
        "RunDirectory",
        lambda _: SimpleNamespace(manifest={"seeds": [7, 8]}, metrics=lambda: metrics),
    )
    return [DROP, DROP]


PEAKED = [0.0, 0.1, 0.2, 0.5, 0.1, 0.05, 0.04]


def values(verdict: Verdict) -> dict[str, float]:
    return {measurement.name: measurement.estimate.value for measurement in verdict.measurements}


def test_phases_of_every_teacher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    phases = made_up_teacher(tmp_path, {("robust", 3): [PEAKED, PEAKED]}, monkeypatch)
    verdict = phases_claim(tmp_path, phases)
    found = values(verdict)
    assert verdict.holds and found["teachers with three phases"] == 1
    # C1 is at 200; from 200 to 300 and 400 the loss falls fastest, and M_robust(3) peaks at 300.
    assert found["C1 less the steepest fall of the loss (not judged)"] == -100
    assert found["C1 less the peak of M_robust(3) (not judged)"] == -100
    assert found[
        "loss at the end of the plateau, less the best 2-gram model's (not judged)"
    ] == pytest.approx(0.11)
    assert found[
        "loss at the end of the plateau, less the best 2-gram model's with positions (not judged)"
    ] == pytest.approx(0.21)
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
