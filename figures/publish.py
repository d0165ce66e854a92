"""`python -m figures.publish`: keep the small results of a preset (claims, tables, figures,
provenance) under `results/`, to be committed."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from common.base.config import PresetName, chosen_preset, parse
from common.base.errors import UserError, run_command
from common.judge.verdict import outcome_in_table
from common.runs.directory import RunDirectory
from common.runs.files import copy_file, refuse_filled, write_json, write_text
from figures import loaders, make, registry, tables

TABLE = "table.md"
_PROVENANCE = "provenance.json"
_TABLES = ("claims.json", loaders.BEYOND, "tuning.csv")
"""What every experiment has."""


@dataclass(frozen=True)
class PublishCommand:
    """Arguments of `python -m figures.publish`."""

    experiment: str = registry.EXPERIMENTS[0]
    """Whose runs: the name of an experiment."""
    preset: PresetName = "quick"
    root: Path = Path("runs")
    """Where runs are kept."""
    site: Path = Path("site")
    """Where `python -m figures.make` drew the figures."""
    out: Path = Path("results")
    """Results go to OUT/EXPERIMENT/PRESET."""


def main(args: list[str]) -> None:
    """Draw, then copy."""
    spec, page = make.chosen_experiment(args)
    preset = chosen_preset(args, spec.presets)
    command = parse(
        PublishCommand,
        args,
        prog="figures.publish",
        description=make.describe("Keep the small results of a preset, to be committed.", spec),
    )
    home, site, out = (
        folder / spec.name / preset.name for folder in (command.root, command.site, command.out)
    )
    named = page.data(home)
    for name in page.published:
        if name not in named and not (home / name).exists():
            raise UserError(
                f"the PAGE of {spec.name} publishes {name}, which is neither among its data nor in"
                f" {home}"
            )
    kept = (*_TABLES, *page.published)
    pictures = [f"{name}.png" for name in page.figures]
    made = page.tables(home) if home.is_dir() else {}
    ours = (*(Path(table).name for table in kept), *pictures, *made, tables.CURVES, TABLE)
    refuse_filled(out, _PROVENANCE, ours=ours)
    where = ("--root", str(command.root), "--out", str(command.site))
    make.main(["--experiment", spec.name, "--preset", preset.name, *where])
    out.mkdir(parents=True, exist_ok=True)
    drawn = [name for name in page.figures if name not in page.absent(preset.config, home)]
    copied = [home / name for name in kept if loaders.says_something(home / name)]
    for source in (*copied, *(site / f"{name}.png" for name in drawn)):
        copy_file(source, out / source.name)
    for name, table in {tables.CURVES: tables.curves(home), **_tables_of(made)}.items():
        write_text(out / name, table.to_csv(index=False, float_format="%.4g"))
    write_json(out / _PROVENANCE, provenance(home))
    write_text(out / TABLE, published_table(out, spec.name, preset.name))


def _tables_of(made: Mapping[str, tuple[str, pd.DataFrame]]) -> dict[str, pd.DataFrame]:
    return {name: table for name, (_, table) in made.items()}


def provenance(home: Path) -> dict[str, Any]:
    """Where the numbers come from, and what they cost."""
    manifests = [RunDirectory(home / run).manifest for run in loaders.runs_of(home)]
    kept = {
        name: manifests[0][name]
        for name in ("device", "packages", "python", "supports", "text")
        if name in manifests[0]
    }
    kept["commits"] = sorted({str(manifest["commit"]) for manifest in manifests})
    kept["seeds"] = seeds(home)
    return kept | {
        "training_seconds": round(sum(manifest["wall_seconds"] for manifest in manifests))
    }


def seeds(home: Path) -> dict[str, list[int]]:
    """The seeds of all runs by stage, `train` (teachers) and `distill` (students, on labels too),
    and those on which rates and first checkpoints are chosen, `tune`."""
    found: dict[str, set[int]] = {}
    for name in loaders.runs_of(home):
        run = RunDirectory(home / name)
        stage = "tune" if name.startswith(("tune/", "choose/")) else run.record["stage"]
        found.setdefault(stage, set()).update(run.manifest["seeds"])
    return {stage: sorted(of_stage) for stage, of_stage in found.items()}


def published_table(folder: Path, experiment: str, preset: str) -> str:
    """The claims table of published results, and below it the commits that made them and what their
    intervals are."""
    claims = claims_table(folder, experiment, preset)
    return f"{claims}\n{tables.label(folder, loaders.intervals(folder))}"


def claims_table(folder: Path, experiment: str, preset: str) -> str:
    """Claim, command that makes its runs, figure, verdict with every judged number."""
    page = registry.page_of(experiment)
    rows = [
        "| claim (criterion in the report) | command | figure | measured,"
        f" `{experiment}/{preset}` |",
        "| --- | --- | --- | --- |",
    ]
    for claim in loaders.claims(folder):
        measured = "; ".join(f"{item['name']} {item['text']}" for item in loaders.judged(claim))
        name = claim["claim"]
        beyond = " --beyond" if name in page.beyond else ""
        command = f"`python -m {experiment}.experiment --preset {preset}{beyond}`"
        rows.append(
            f"| {name}: {claim['title']} | {command} | {_link(folder, page.figure_of[name])} |"
            f" {outcome_in_table(claim)}: {measured} |"
        )
    return "\n".join(rows) + "\n"


def _link(folder: Path, figure: str) -> str:
    """Relative to the folder, where the table is; a figure that is not there any more has none."""
    return f"[{figure}]({figure}.png)" if (folder / f"{figure}.png").exists() else "none"


if __name__ == "__main__":
    run_command(main)
