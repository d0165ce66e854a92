"""`python -m figures.publish`: keep the small results of a preset (claims, tables, figures,
provenance) under `results/`, to be committed."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from common.base.config import PresetName, parse
from common.base.errors import run_command
from common.judge.verdict import outcome_in_table
from common.runs.directory import RunDirectory
from common.runs.files import copy_file, refuse_filled, write_json, write_text
from figures import loaders, make, tables

TABLE = "table.md"
_PROVENANCE = "provenance.json"
_TABLES = (
    "claims.json",
    loaders.BEYOND,
    "learning_times.csv",
    "tuning.csv",
    tables.FIRST,
    "final_accuracy.csv",
    "student_nonterminals.csv",
)
_TABLES += tuple(
    f"teacher/probes/{name}"
    for name in ("ngram.csv", "ngram.json", "nonterminals.csv", "ceiling.json", "ceiling.csv")
)
_FIGURE_OF = {
    "W": "width",
    "O": "overview",
    "P": "overview",
    "S": "spike",
    "C": "spike",
    "E": "overview",
    "F": "first",
    "R": "transition",
}
_BEYOND = {"F", "R"}
"""Claims on the runs that the paper does not have."""
_FIGURE_OF |= {
    "B1": "phases",
    "B2": "phases",
    "B3": "phases",
    "B4": "students",
    "B5": "students",
    "B6": "ancestors",
}


@dataclass(frozen=True)
class PublishCommand:
    """Arguments of `python -m figures.publish`."""

    experiment: make.ExperimentName = "parity"
    """Whose runs."""
    preset: PresetName = "quick"
    """Which of its presets."""
    root: Path = Path("runs")
    """Where runs are kept."""
    site: Path = Path("site")
    """Where `python -m figures.make` drew the figures."""
    out: Path = Path("results")
    """Results go to OUT/EXPERIMENT/PRESET."""


def main(args: list[str]) -> None:
    """Draw, then copy."""
    name, page, preset = make.chosen_page(args)
    command = parse(
        PublishCommand,
        args,
        prog="figures.publish",
        description="Keep the small results of a preset, to be committed.",
    )
    home, site, out = (
        folder / name / preset.name for folder in (command.root, command.site, command.out)
    )
    written = [Path(table).name for table in _TABLES] + [
        f"{figure}.png" for figure in (*make.PARITY, *make.PCFG)
    ]
    refuse_filled(
        out, _PROVENANCE, ours=(*written, tables.CURVES, tables.CORRELATIONS, tables.LEVELS, TABLE)
    )
    make.main(
        [
            "--experiment",
            name,
            "--preset",
            preset.name,
            "--root",
            str(command.root),
            "--out",
            str(command.site),
        ]
    )
    out.mkdir(parents=True, exist_ok=True)
    copied = [home / name for name in _TABLES if loaders.says_something(home / name)]
    for source in (
        *copied,
        *(site / f"{figure}.png" for figure, _ in page.figures(preset.config, home)),
    ):
        copy_file(source, out / source.name)
    write_text(out / tables.CURVES, tables.curves(home).to_csv(index=False, float_format="%.4g"))
    if probed := tables.probed(home):
        write_text(
            out / tables.CORRELATIONS,
            pd.concat(map(tables.correlations, probed)).to_csv(index=False, float_format="%.4g"),
        )
    if name == "parity" and loaders.has_tree(home):
        write_text(out / tables.LEVELS, tables.levels(home).to_csv(index=False))
    write_json(out / _PROVENANCE, provenance(home))
    write_text(out / TABLE, published_table(out, name, preset.name))


def provenance(home: Path) -> dict[str, Any]:
    """Where the numbers come from, and what they cost."""
    manifests = [RunDirectory(home / run).manifest for run in loaders.runs_of(home)]
    kept = {
        name: manifests[0][name]
        for name in ("device", "packages", "python", "supports")
        if name in manifests[0]
    }
    kept["commits"] = sorted({str(manifest["commit"]) for manifest in manifests})
    kept["seeds"] = seeds(home)
    return kept | {
        "training_seconds": round(sum(manifest["wall_seconds"] for manifest in manifests))
    }


def seeds(home: Path) -> dict[str, list[int]]:
    """The seeds of all runs by stage, `train` (teachers) and `distill` (students, on labels too),
    and those of the sweeps, `tune`."""
    found: dict[str, set[int]] = {}
    for name in loaders.runs_of(home):
        run = RunDirectory(home / name)
        stage = "tune" if name.startswith("tune/") else run.record["stage"]
        found.setdefault(stage, set()).update(run.manifest["seeds"])
    return {stage: sorted(of_stage) for stage, of_stage in found.items()}


def published_table(folder: Path, experiment: str, preset: str) -> str:
    """The claims table of published results, and below it the commits that made them and what their
    intervals are."""
    claims = claims_table(folder, experiment, preset)
    return f"{claims}\n{tables.label(folder, loaders.intervals(folder))}"


def claims_table(folder: Path, experiment: str, preset: str) -> str:
    """Claim, command that makes its runs, figure, verdict with every judged number."""
    rows = [
        "| claim (criterion in the report) | command | figure | measured,"
        f" `{experiment}/{preset}` |",
        "| --- | --- | --- | --- |",
    ]
    for claim in loaders.claims(folder):
        measured = "; ".join(f"{item['name']} {item['text']}" for item in loaders.judged(claim))
        name = claim["claim"]
        beyond = " --beyond" if name in _BEYOND else ""
        command = f"`python -m {experiment}.experiment --preset {preset}{beyond}`"
        rows.append(
            f"| {name}: {claim['title']} | {command} | {_link(folder, _FIGURE_OF[name])} |"
            f" {outcome_in_table(claim['holds'])}: {measured} |"
        )
    return "\n".join(rows) + "\n"


def _link(folder: Path, figure: str) -> str:
    """Relative to the folder, where the table is; a figure that is not there any more has none."""
    return f"[{figure}]({figure}.png)" if (folder / f"{figure}.png").exists() else "none"


if __name__ == "__main__":
    run_command(main)
