"""Claims about what grammars alone have, judged on made-up runs: derivations and exact plateaus."""

import itertools
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from common.experiment.plan import plan_preset
from common.sequence import teacher_claims
from common.sequence.student_claims import final_table
from common.sequence.students import STRATEGIES
from pcfg import verdicts
from pcfg.presets import PRESETS
from pcfg.spec import SPEC
from pcfg.verdicts import above_plateaus, structure_claim
from tests.test_token_claims import DROP, JUDGED, NOISE, TEACHERS, MadeUp, values


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
    monkeypatch.setattr(verdicts, "structure_table", lambda _: shuffled)

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


def test_plateaus_above_the_best_models_of_two_tokens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    probes = tmp_path / "teacher" / "probes"
    probes.mkdir(parents=True)
    optimum = {
        "plateaus": {"2": {"cross_entropy": 0.9}},
        "plateaus_with_position": {"2": {"cross_entropy": 0.8}},
    }
    (probes / "ceiling.json").write_text(json.dumps(optimum))
    monkeypatch.setattr(teacher_claims, "RunDirectory", lambda _: TEACHERS)
    measurements = above_plateaus(tmp_path, [DROP, DROP])
    found = {measurement.name: measurement.estimate.value for measurement in measurements}
    assert found[
        "loss at the end of the plateau, less the best 2-gram model's (not judged)"
    ] == pytest.approx(0.11)
    assert found[
        "loss at the end of the plateau, less the best 2-gram model's with positions (not judged)"
    ] == pytest.approx(0.21)
