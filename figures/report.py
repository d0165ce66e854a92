"""The report page: claims, figures, settings, cost and provenance in one self-contained HTML file
beside its data."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
import pandas as pd

from common.base.size import size_of
from common.judge.verdict import outcome_of
from common.runs.directory import RunDirectory
from common.runs.files import copy_file, write_text
from figures import loaders, tables

_DATA = {
    "claims.json": "the claims as numbers",
    loaders.BEYOND: "the same on the runs that the paper does not have",
    "tuning.csv": "the learning-rate sweeps",
}
"""What every experiment has."""


@dataclass(frozen=True)
class Drawn:
    """A figure that has been drawn, and what it shows."""

    png: Path
    caption: str


@dataclass(frozen=True)
class Addition:
    """What a further experiment adds to a report, besides a figure."""

    claims: Sequence[Mapping[str, Any]]
    """As in `claims.json`."""
    tables: Sequence[tuple[Path, str, str]]
    """Files to copy, each with its name among the data and what it holds."""
    runs: str
    """What was run, for the table of costs."""
    seconds: float


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
    data: Mapping[str, str]
    """Tables of the experiment, by path in its folder, and what each holds."""
    tables: Mapping[str, tuple[str, pd.DataFrame]]
    """Tables that were made of its runs, by file name, and what each holds."""


def write(
    home: Path,
    folder: Path,
    subject: Subject,
    drawn: Sequence[Drawn],
    additions: Sequence[Addition] = (),
) -> Path:
    """Write `report.html` and a `data/` folder beside it.

    Args:
        home: `runs/<experiment>/<preset>`.
        folder: where the figures already are.
        subject: what it is about.
        drawn: the figures, in order.
        additions: claims, data and costs of further experiments.
    """
    data = copy_data(home, folder, subject, additions)
    runs = {name: RunDirectory(home / name) for name in loaders.runs_of(home)}
    provenance = runs["teacher"].manifest
    rows = [run_row(name, run) for name, run in runs.items()]
    rows += [
        {"name": addition.runs, "seconds": f"{addition.seconds:,.0f}"} for addition in additions
    ]
    seconds = sum(run.manifest["wall_seconds"] for run in runs.values()) + sum(
        addition.seconds for addition in additions
    )
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    page = environment.get_template("report.html.jinja").render(
        subject=subject,
        outcome_of=outcome_of,
        claims=[
            *loaders.claims(home),
            *(claim for addition in additions for claim in addition.claims),
        ],
        intervals=loaders.intervals(home),
        figures=[_embedded(figure) for figure in drawn],
        data=data,
        runs=rows,
        total_seconds=f"{seconds:,.0f}",
        provenance=[
            ("commit", provenance["commit"]),
            ("device", ", ".join(f"{key} {value}" for key, value in provenance["device"].items())),
            ("python", provenance["python"]),
            (
                "packages",
                ", ".join(f"{name} {version}" for name, version in provenance["packages"].items()),
            ),
            *(
                [
                    (
                        "support",
                        "; ".join(
                            ", ".join(map(str, support)) for support in provenance["supports"]
                        ),
                    )
                ]
                if "supports" in provenance
                else []
            ),
            *([("text", text_of(provenance))] if "text" in provenance else []),
            ("command", subject.command),
        ],
    )
    write_text(folder / "report.html", page)
    return folder / "report.html"


def text_of(provenance: Mapping[str, Any]) -> str:
    """The files that a run's text was made from, and their hashes."""
    files = [file for source in provenance["text"]["sources"] for file in source["inputs"]]
    return ", ".join(f"{file['name']} (SHA-256 {file['sha256']})" for file in files)


def copy_data(
    home: Path, folder: Path, subject: Subject, additions: Sequence[Addition]
) -> list[dict[str, str]]:
    """Keep the tables that the figures were drawn from, and every student's and the teacher's
    curves as one CSV; returns what the page says of each."""
    target = folder / "data"
    target.mkdir(parents=True, exist_ok=True)
    links = []

    def keep(name: str, text: str, content: Path | pd.DataFrame) -> None:
        if isinstance(content, Path):
            copy_file(content, target / name)
        else:
            write_text(target / name, content.to_csv(index=False, float_format="%.6g"))
        links.append({"href": f"data/{quote(name)}", "name": name, "text": text})

    for path, text in {**_DATA, **subject.data}.items():
        if loaders.says_something(home / path):
            keep(data_name(path), text, home / path)
    for name, (text, table) in subject.tables.items():
        keep(name, text, table)
    for addition in additions:
        for source, name, text in addition.tables:
            keep(name, text, source)
    curves = [
        loaders.metrics(home / run).assign(run=run)
        for run in loaders.runs_of(home)
        if not run.startswith(("tune/", "choose/"))
    ]
    keep(tables.CURVES, "accuracy and loss of every seed at every evaluation", pd.concat(curves))
    return links


def data_name(path: str) -> str:
    """What a table is called beside the report: the teacher's by its own name, others' with that of
    their run."""
    run, probes, name = Path(path).parts if path.count("/") == 2 else ("", "", Path(path).name)
    is_of_another = probes == "probes" and run != "teacher"
    return f"{run}_{name}" if is_of_another else name


def run_row(name: str, run: RunDirectory) -> dict[str, str]:
    """One line of the settings table."""
    config, manifest = run.record["config"], run.manifest
    seeds, rates, training = (
        sorted(set(manifest["seeds"])),
        sorted(set(manifest["learning_rates"])),
        config["training"],
    )
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
    return {
        "name": figure.png.stem,
        "caption": figure.caption,
        "data": data,
        "links": f"{figure.png.name}, {figure.png.stem}.pdf",
    }
