"""Reads run files as tables."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from common.base.reading import read_object, read_table
from common.runs.directory import RunDirectory, finished_run, is_run

BY_STRATUM = "correlations_by_stratum.csv"
"""The table of a parity probe: absolute correlations by degree and overlap with the support."""
BEYOND = "beyond.json"
"""The claims on the runs of `parity.experiment --beyond`; written when all of these are done."""
PUBLISHED_SCALE = "paper"
"""The preset with the published hyper-parameters; the paper's points are drawn beside its curves
only."""
_TARGETS = Path(__file__).with_name("targets.csv")
_MADE_BY = "the experiment's command"


def runs_of(home: Path) -> list[str]:
    """The runs that the claims of an experiment were judged from, the teacher first, then students,
    then tuning."""
    judgements = [home / name for name in ("claims.json", BEYOND) if (home / name).exists()]
    judged: set[str] = set()
    for judgement in judgements:
        judged.update(json_of(judgement, "made_from")["made_from"])
    found = [name for name in judged if is_run(home / name)]
    return sorted(found, key=lambda name: (name != "teacher", name.startswith("tune/"), name))


def metrics(run: Path) -> pd.DataFrame:
    """The metrics of a run, one row for each evaluation and lane.

    Columns: step, examples, lane, seed, learning_rate, and every metric.
    """
    finished = finished_run(run)
    seeds, rates = finished.manifest["seeds"], finished.manifest["learning_rates"]
    rows = []
    for record in finished.metrics():
        evaluation = {"step": record["step"], "examples": record["examples"]}
        measured = {name: values for name, values in record.items() if isinstance(values, list)}
        for lane, (seed, rate) in enumerate(zip(seeds, rates, strict=True)):
            of_lane = {name: values_L[lane] for name, values_L in measured.items()}
            rows.append(evaluation | {"lane": lane, "seed": seed, "learning_rate": rate} | of_lane)
    return pd.DataFrame(rows)


def curves(run: Path, name: str = "accuracy") -> tuple[np.ndarray, np.ndarray]:
    """Examples `(E,)` and accuracy, or another metric, `(L, E)` of a run."""
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


def says_something(path: Path) -> bool:
    """Whether a file of results exists and, if it is a table, has rows. The table of an experiment
    without sweeps has none."""
    if not path.exists():
        return False
    return path.suffix != ".csv" or len(pd.read_csv(path)) > 0


def strata_of(teacher: Path) -> pd.DataFrame:
    """The correlations of a probed parity run by stratum."""
    columns = (
        "seed",
        "step",
        "examples",
        "degree",
        "overlap",
        "mean_abs",
        "low",
        "high",
        "noise_floor",
    )
    return table_of(teacher / "probes" / BY_STRATUM, *columns)


def claims(home: Path) -> list[dict[str, Any]]:
    """The judged claims of an experiment, then those on the runs beyond the paper where there are
    any."""
    beyond = json_of(home / BEYOND, "claims")["claims"] if (home / BEYOND).exists() else []
    return json_of(home / "claims.json", "claims")["claims"] + beyond


def judged(claim: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The measurements by which a claim was judged; those marked "not judged" are left out."""
    return [item for item in claim["measured"] if "not judged" not in item["name"]]


def intervals(home: Path) -> str:
    """What the intervals of the judged claims are."""
    return json_of(home / "claims.json", "intervals")["intervals"]


def has_tree(home: Path) -> bool:
    """Whether a parity experiment has its run on hierarchical parity, and all others beyond the
    paper."""
    return (home / BEYOND).exists() and is_run(home / "tree")


def replicas(home: Path) -> list[Path]:
    """The further teachers of a parity experiment, once they and their students are all there."""
    if not (home / BEYOND).exists():
        return []
    return [path for path in sorted(home.glob("teacher-*")) if is_run(path)]


def exact_of(home: Path) -> dict[str, Any] | None:
    """What the best models on an experiment's data reach: all that see n tokens only, and the best
    of all; None where nobody can know."""
    path = home / "teacher" / "probes" / "ceiling.json"
    if not path.exists():
        return None
    return json_of(path, "plateaus", "plateaus_with_position", "ceiling")


def grammar_of(run: Path) -> str:
    """What a PCFG run's sentences are, for a title."""
    data = config_of(run)["data"]
    name = Path(data["grammar"]).stem
    if data["start_symbol"]:
        return f"{name} from {data['start_symbol']}"
    return f"{name} from level {data['start_level']}" if data["start_level"] else name


def corpus_of(run: Path) -> str:
    """What a run on text has read, for a title: the name of the folder."""
    return Path(config_of(run)["data"]["corpus"]).name


def targets(figure: str, panel: str) -> pd.DataFrame:
    """Points of a published figure, read by eye (series, x, y, note)."""
    table = pd.read_csv(_TARGETS)
    return table[(table.figure == figure) & (table.panel == panel)]
