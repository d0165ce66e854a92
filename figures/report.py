"""The report page: claims, figures, settings, cost and provenance in one self-contained HTML file beside its data."""

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from common.runs import write_text
from common.runs.files import copy_file
from common.size import size_of
from common.verdict import outcome
from figures import loaders

_DATA = {
    "learning_times.csv": "t90 of every run and seed",
    "tuning.csv": "the learning-rate sweeps",
    "first_checkpoints.csv": "every two-shot student of the sweep over first checkpoints",
    "claims.json": "the claims as numbers",
    loaders.BEYOND: "the same on the runs that the paper does not have",
    "final_accuracy.csv": "how far every run came within its budget",
    "teacher/probes/ngram.csv": "M_robust and M_close of every checkpoint",
    "student_nonterminals.csv": "accuracy of the non-terminal probes on students",
    "teacher/probes/nonterminals.csv": "the same on the teacher's checkpoints",
    "teacher/probes/ceiling.json": "exact accuracy and loss of the best model, and of the best n-gram models",
    "teacher/probes/ceiling.csv": "M_robust and M_close of the best model",
    "teacher/probes/correlations_in_support.csv": "correlation of every checkpoint with every subset of the support",
    f"teacher/probes/{loaders.BY_STRATUM}": "absolute correlations by degree and overlap with the support",
}


@dataclass(frozen=True)
class Drawn:
    """A figure that has been drawn, and what it shows."""

    png: Path
    caption: str


@dataclass(frozen=True)
class Subject:
    """What a report is about."""

    title: str
    preset: str
    note: str
    """The preset's."""
    command: str
    """That made the runs."""
    footnote: str
    """How to read the claims."""


def write(home: Path, folder: Path, subject: Subject, drawn: list[Drawn]) -> Path:
    """Write `report.html` and a `data/` folder beside it.

    Args:
        home: `runs/<experiment>/<preset>`.
        folder: where the figures already are.
        subject: what it is about.
        drawn: the figures, in order.
    """
    data = copy_data(home, folder)
    manifests = {run: loaders.read_json(home / run / "manifest.json") for run in loaders.runs_of(home)}
    provenance = manifests["teacher"]
    rows = [run_row(home, name, manifest) for name, manifest in manifests.items()]
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined)
    page = environment.get_template("report.html.jinja").render(
        subject=subject,
        outcome=outcome,
        claims=loaders.claims(home),
        figures=[_embedded(figure) for figure in drawn],
        data=data,
        runs=rows,
        total_seconds=f"{sum(manifest['wall_seconds'] for manifest in manifests.values()):,.0f}",
        provenance=[
            ("commit", provenance["commit"]),
            ("device", ", ".join(f"{key} {value}" for key, value in provenance["device"].items())),
            ("python", provenance["python"]),
            ("packages", ", ".join(f"{name} {version}" for name, version in provenance["packages"].items())),
            *([("support", "; ".join(", ".join(map(str, support)) for support in provenance["supports"]))] if "supports" in provenance else []),
            ("command", subject.command),
        ],
    )
    write_text(folder / "report.html", page)
    return folder / "report.html"


def copy_data(home: Path, folder: Path) -> list[dict[str, str]]:
    """Copy the tables that the figures were drawn from, and every student's and the teacher's curves as one CSV."""
    target = folder / "data"
    target.mkdir(parents=True, exist_ok=True)
    links = []
    for source, text in _DATA.items():
        if (home / source).exists():
            copy_file(home / source, target / Path(source).name)
            links.append({"href": f"data/{Path(source).name}", "text": text})
    tables = [loaders.metrics(home / run).assign(run=run) for run in loaders.runs_of(home) if not run.startswith("tune/")]
    write_text(target / "curves.csv", pd.concat(tables).to_csv(index=False, float_format="%.6g"))
    return [*links, {"href": "data/curves.csv", "text": "accuracy and loss of every seed at every evaluation"}]


def run_row(home: Path, name: str, manifest: dict[str, Any]) -> dict[str, str]:
    """One line of the settings table."""
    config = loaders.read_json(home / name / "config.json")["config"]
    seeds, rates, training = sorted(set(manifest["seeds"])), sorted(set(manifest["learning_rates"])), config["training"]
    return {
        "name": name,
        "model": size_of(config["model"]).text(","),
        "schedule": config.get("schedule", "labels").replace("ce", "labels"),
        "rates": ", ".join(f"{rate:g}" for rate in rates),
        "batch": str(training["batch_size"]),
        "examples": f"{training['steps'] * training['batch_size']:,}",
        "seeds": f"{seeds[0]} to {seeds[-1]}" if len(seeds) > 1 else str(seeds[0]),
        "seconds": f"{manifest['wall_seconds']:.1f}",
    }


def _embedded(figure: Drawn) -> dict[str, str]:
    data = base64.b64encode(figure.png.read_bytes()).decode()
    return {"name": figure.png.stem, "caption": figure.caption, "data": data, "links": f"{figure.png.name}, {figure.png.stem}.pdf"}
