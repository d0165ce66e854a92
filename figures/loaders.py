"""Run files as tables."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from common.reading import read_object, read_table
from common.runs import RunDirectory, finished_run

BY_STRATUM = "correlations_by_stratum.csv"
"""The table of a parity probe: absolute correlations by degree and overlap with the support."""
PUBLISHED_SCALE = "paper"
"""The preset of the published hyper-parameters, beside whose curves the paper's points may stand."""
_TARGETS = Path(__file__).with_name("targets.csv")
_MADE_BY = "the experiment's command"


def runs_of(home: Path) -> list[str]:
    """All runs of an experiment, the teacher first, then students, then tuning."""
    found = [path.parent.relative_to(home).as_posix() for path in home.glob("**/manifest.json")]
    return sorted(found, key=lambda name: (name != "teacher", name.startswith("tune/"), name))


def metrics(run: Path) -> pd.DataFrame:
    """The metrics of a run, one row for each evaluation and lane: step, examples, lane, seed, learning_rate, and all that was measured."""
    finished = finished_run(run)
    manifest, rows = finished.manifest, []
    for record in finished.metrics():
        for lane, (seed, rate) in enumerate(zip(manifest["seeds"], manifest["learning_rates"], strict=True)):
            values = {name: of_lanes[lane] for name, of_lanes in record.items() if isinstance(of_lanes, list)}
            rows.append({"step": record["step"], "examples": record["examples"], "lane": lane, "seed": seed, "learning_rate": rate} | values)
    return pd.DataFrame(rows)


def curves(run: Path, name: str = "accuracy") -> tuple[np.ndarray, np.ndarray]:
    """Examples `(T,)` and accuracy, or another metric, `(lanes, T)` of a run."""
    table = metrics(run).pivot(index="examples", columns="lane", values=name)
    return table.index.to_numpy(), table.to_numpy(np.float64).T


def config_of(run: Path) -> dict[str, Any]:
    """What a run was asked for."""
    return RunDirectory(run).record["config"]


def json_of(path: Path, *keys: str) -> dict[str, Any]:
    """A JSON file among an experiment's results, which must have these keys."""
    return read_object(path, keys, _MADE_BY)


def table_of(path: Path, *columns: str) -> pd.DataFrame:
    """A CSV table among an experiment's results, which must have these columns."""
    return read_table(path, columns, _MADE_BY)


def strata_of(teacher: Path) -> pd.DataFrame:
    """The correlations of a probed parity run by stratum."""
    columns = ("seed", "step", "examples", "degree", "overlap", "mean_abs", "low", "high", "noise_floor")
    return table_of(teacher / "probes" / BY_STRATUM, *columns)


def grammar_of(run: Path) -> str:
    """What a PCFG run's sentences are, for a title."""
    data = config_of(run)["data"]
    where = data["start_symbol"] or (f"level {data['start_level']}" if data["start_level"] else "")
    return f"{Path(data['grammar']).stem} from {where}" if where else Path(data["grammar"]).stem


def targets(figure: str, panel: str) -> pd.DataFrame:
    """Points of a published figure, read by eye (series, x, y, note)."""
    table = pd.read_csv(_TARGETS)
    return table[(table.figure == figure) & (table.panel == panel)]
