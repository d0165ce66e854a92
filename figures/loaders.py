"""Run files as tables."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from common.errors import UserError
from common.runs import is_run

BY_STRATUM = "correlations_by_stratum.csv"
"""The table of a parity probe: absolute correlations by degree and overlap with the support."""
BEYOND = "beyond.json"
"""The claims on the runs of `parity.experiment --beyond`; where it is, they are all there."""
PUBLISHED_SCALE = "paper"
"""The preset of the published hyper-parameters, beside whose curves the paper's points may stand."""
_TARGETS = Path(__file__).with_name("targets.csv")


def runs_of(home: Path) -> list[str]:
    """The runs that the claims of an experiment were judged from, the teacher first, then students, then tuning."""
    judgements = [home / name for name in ("claims.json", BEYOND) if (home / name).exists()]
    judged = {name for judgement in judgements for name in read_json(judgement)["made_from"]}
    found = [name for name in judged if is_run(home / name)]
    return sorted(found, key=lambda name: (name != "teacher", name.startswith("tune/"), name))


def metrics(run: Path) -> pd.DataFrame:
    """The metrics of a run, one row for each evaluation and lane: step, examples, lane, seed, learning_rate, and all that was measured."""
    manifest = read_json(run / "manifest.json")
    if manifest["status"] != "finished":
        raise UserError(f"{run} is not finished; run its command again, it goes on from where it stopped")
    rows = []
    for line in (run / "metrics.jsonl").read_text().splitlines():
        record = json.loads(line)
        for lane, (seed, rate) in enumerate(zip(manifest["seeds"], manifest["learning_rates"], strict=True)):
            values = {name: of_lanes[lane] for name, of_lanes in record.items() if isinstance(of_lanes, list)}
            rows.append({"step": record["step"], "examples": record["examples"], "lane": lane, "seed": seed, "learning_rate": rate} | values)
    return pd.DataFrame(rows)


def curves(run: Path, name: str = "accuracy") -> tuple[np.ndarray, np.ndarray]:
    """Examples `(T,)` and accuracy, or another metric, `(lanes, T)` of a run."""
    table = metrics(run).pivot(index="examples", columns="lane", values=name)
    return table.index.to_numpy(), table.to_numpy(np.float64).T


def read_json(path: Path) -> dict[str, Any]:
    """One JSON file.

    Raises:
        UserError: it does not exist.
    """
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; run `python -m parity.experiment` for this preset first") from None


def claims(home: Path) -> list[dict[str, Any]]:
    """The judged claims of an experiment, then those on the runs beyond the paper where there are any."""
    beyond = read_json(home / BEYOND)["claims"] if (home / BEYOND).exists() else []
    return read_json(home / "claims.json")["claims"] + beyond


def replicas(home: Path) -> list[Path]:
    """The further teachers of a parity experiment, once they and their students are all there."""
    return [path for path in sorted(home.glob("teacher-*")) if is_run(path)] if (home / BEYOND).exists() else []


def grammar_of(run: Path) -> str:
    """What a PCFG run's sentences are, for a title."""
    data = read_json(run / "config.json")["config"]["data"]
    where = data["start_symbol"] or (f"level {data['start_level']}" if data["start_level"] else "")
    return f"{Path(data['grammar']).stem} from {where}" if where else Path(data["grammar"]).stem


def targets(figure: str, panel: str) -> pd.DataFrame:
    """Points of a published figure, read by eye (series, x, y, note)."""
    table = pd.read_csv(_TARGETS)
    return table[(table.figure == figure) & (table.panel == panel)]
