"""Judging an experiment's claims from the runs in its folder, and keeping the verdicts."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from common.base.errors import UserError
from common.experiment.source import source_hash
from common.experiment.spec import ExperimentSpec, Judgement, Part
from common.judge.stats import INTERVALS
from common.judge.verdict import plain, verdict_table
from common.runs.directory import DONE
from common.runs.files import write_json, write_text
from common.runs.lineage import MADE_FROM, SOURCE, VERSION, contents
from common.runs.tuning import tuning_table

TUNING = "tuning.csv"


def judge(
    spec: ExperimentSpec,
    part: Part,
    experiment: Any,
    home: Path,
    judged: Sequence[Path],
    preset: str | None,
) -> None:
    """Judge the claims of a part of an experiment; write tables and verdicts, and print these.

    Args:
        spec: whose claims.
        part: which of them.
        experiment: the configuration that was run.
        home: the folder of its runs.
        judged: the outputs of the stages that the verdicts are made from.
        preset: the name of the configuration, where it has one.

    Raises:
        UserError: a verdict is on a claim that the experiment does not declare.
    """
    judgement = part.judge(home, experiment)
    _check_declared(spec, judgement)
    tables = dict(judgement.tables)
    sweeps = sweeps_in(home / "tune", judged)
    if part is spec.paper and sweeps:
        tables[TUNING] = tuning_table(sweeps)
    for name, table in tables.items():
        write_text(home / name, table.to_csv(index=False, float_format="%.6g"))
    # Last, because it marks the end of the part.
    values = {
        "preset": preset,
        "intervals": INTERVALS,
        "claims": [plain(verdict, spec.claims) for verdict in judgement.verdicts],
        MADE_FROM: contents(home, names_of(judged, home)),
        VERSION: part.version,
        SOURCE: source_hash(spec.name),
    }
    write_json(home / part.output, values)
    Console(soft_wrap=True).print(verdict_table(judgement.verdicts, spec.claims))


def _check_declared(spec: ExperimentSpec, judgement: Judgement) -> None:
    for verdict in judgement.verdicts:
        if verdict.claim not in spec.claims:
            raise UserError(
                f"{spec.name} judges a claim {verdict.claim}, which its SPEC.claims does not have;"
                f" there are {', '.join(spec.claims)}"
            )


def names_of(outputs: Sequence[Path], home: Path) -> list[str]:
    """What a judgement calls the stages that it was made from: a run goes by its folder, a probe by
    its file, both below `home`."""
    named = [path.parent if path.name == DONE else path for path in outputs]
    return [path.relative_to(home).as_posix() for path in named]


def sweeps_in(folder: Path, outputs: Sequence[Path]) -> list[Path]:
    """The runs of a folder of sweeps; what else lies there is no part of the experiment."""
    return sorted(path.parent for path in outputs if path.parent.parent == folder)
