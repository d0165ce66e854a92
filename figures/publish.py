"""`python -m figures.publish`: keep the small results of a preset (claims, tables, figures, provenance) under `results/`, to be committed."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.config import PresetName, chosen_preset, parse
from common.errors import run_command
from common.runs import write_json, write_text
from figures import loaders, make
from figures.report import runs_of
from parity.presets import PRESETS

TABLE = "table.md"
_TABLES = ("claims.json", "learning_times.csv", "tuning.csv", "first_checkpoints.csv")
_FIGURE_OF = {"W": "width", "O": "overview", "P": "overview", "S": "spike", "C": "spike", "E": "overview", "F": "first"}


@dataclass(frozen=True)
class PublishCommand:
    """Arguments of `python -m figures.publish`."""

    preset: PresetName = "quick"
    """Which experiment."""
    root: Path = Path("runs")
    """Where runs are kept."""
    site: Path = Path("site")
    """Where `python -m figures.make` drew the figures."""
    out: Path = Path("results")
    """Results go to OUT/PRESET."""


def main(args: list[str]) -> None:
    """Draw, then copy."""
    preset = chosen_preset(args, PRESETS)
    command = parse(PublishCommand, args, prog="figures.publish", description="Keep the small results of a preset, to be committed.")
    make.main(["--preset", preset.name, "--root", str(command.root), "--out", str(command.site)])
    home, site, out = command.root / "parity" / preset.name, command.site / preset.name, command.out / preset.name
    out.mkdir(parents=True, exist_ok=True)
    tables = [home / name for name in _TABLES if (home / name).exists()]
    for source in (*tables, *(site / f"{name}.png" for name in make.figures_of(preset.config))):
        shutil.copyfile(source, out / source.name)
    write_json(out / "provenance.json", provenance(home))
    write_text(out / TABLE, claims_table(loaders.read_json(home / "claims.json")["claims"], preset.name))


def provenance(home: Path) -> dict[str, Any]:
    """Where the numbers come from, and what they cost."""
    manifests = [loaders.read_json(home / run / "manifest.json") for run in runs_of(home)]
    kept = {name: manifests[0][name] for name in ("commit", "device", "packages", "python", "seeds", "supports")}
    return kept | {"training_seconds": round(sum(manifest["wall_seconds"] for manifest in manifests))}


def claims_table(claims: list[dict[str, Any]], preset: str) -> str:
    """The README's table: claim, command, figure, verdict with every judged number."""
    rows = [f"| claim (criterion in the report) | command | figure | measured, `{preset}` |", "| --- | --- | --- | --- |"]
    for claim in claims:
        measured = "; ".join(f"{item['name']} {item['text']}" for item in claim["measured"] if "not judged" not in item["name"])
        name, verdict = claim["claim"], "holds" if claim["holds"] else "**does not hold**"
        figure = f"[{_FIGURE_OF[name]}](results/{preset}/{_FIGURE_OF[name]}.png)"
        command = "`make figures`" if preset == "quick" else f"`make figures PRESET={preset}`"
        rows.append(f"| {name}: {claim['title']} | {command} | {figure} | {verdict}: {measured} |")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    run_command(main)
