"""`python -m figures.readme`: write the tables of the three READMEs anew from published results.

Each of them stands below a comment that names it, `<!-- table: parity -->`.
"""

import itertools
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from common.base.config import parse
from common.base.errors import UserError, run_command
from common.judge.verdict import outcome_in_table
from common.runs.files import write_text
from common.sequence.students import STRATEGIES
from figures import law, loaders, publish

PAGES = ("README.md", "results/README.md", "benchmarks/README.md")
"""The files that have tables, below the folder of the repository."""
_TABLE = re.compile(r"(?m)^<!-- table: (.+) -->\n(?:\|.*\n)*")


@dataclass(frozen=True)
class ReadmeCommand:
    """Arguments of `python -m figures.readme`."""

    root: Path = Path()
    """The folder of the repository: its READMEs are changed in place, from its results."""


def main(args: list[str]) -> None:
    """Render every page, and write what has changed."""
    description = "Write the tables of the READMEs anew from the published results."
    root = parse(ReadmeCommand, args, prog="figures.readme", description=description).root
    for name in PAGES:
        page = root / name
        write_text(page, render(page.read_text(encoding="utf-8"), root))
        print(page)


def render(text: str, root: Path) -> str:
    """A text in which every marked table says what the results say.

    Args:
        text: a page.
        root: the folder of the repository.

    Raises:
        UserError: a mark names no table that is known.
    """

    def table(found: re.Match[str]) -> str:
        name = found[1]
        if name not in TABLES:
            raise UserError(f"table: {name} is unknown; there are {', '.join(TABLES)}")
        return f"<!-- table: {name} -->\n{TABLES[name](root)}"

    return _TABLE.sub(table, text)


def claims_table(
    root: Path,
    experiment: str,
    presets: Mapping[str, str],
    results: str = "results/",
    num_measured: int = 1,
) -> str:
    """A line for each claim of an experiment: for each of some published presets the verdict, which
    links all measurements, and perhaps the first of them.

    Args:
        root: the folder of the repository.
        experiment: whose claims.
        presets: by their names, what they are called in the head of the table.
        results: where the results lie, seen from the page.
        num_measured: presets whose measurements stand there.
    """
    judged = {preset: claims_of(root, experiment, preset) for preset in presets}
    titles = {name: claim["title"] for claims in judged.values() for name, claim in claims.items()}
    heads = [f"{subject} (`{experiment}/{preset}`)" for preset, subject in presets.items()]
    rows = [("claim", *heads), ("---",) * (1 + len(heads))]
    for name, title in titles.items():
        cells = []
        for number, (preset, claims) in enumerate(judged.items()):
            link = f"{results}{experiment}/{preset}/{publish.TABLE}"
            is_measured = number < num_measured
            cells.append(outcome(claims[name], link, is_measured) if name in claims else "not run")
        rows.append((f"{name}: {title}", *cells))
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def claims_of(root: Path, experiment: str, preset: str) -> dict[str, dict[str, Any]]:
    """The published claims of a preset, by name."""
    folder = root / "results" / experiment / preset
    claims = law.claims(law.fits_of(folder)) if experiment == "law" else loaders.claims(folder)
    return {claim["claim"]: claim for claim in claims}


def verdicts_table(root: Path, published: Sequence[str]) -> str:
    """Which claims of some presets hold, and which do not, by their short names.

    Args:
        root: of the repository.
        published: results of presets, EXPERIMENT/PRESET.
    """
    names_of: dict[tuple[str, str], list[str]] = {}
    for folder in published:
        for name, claim in claims_of(root, *folder.split("/")).items():
            names_of.setdefault((folder, outcome_in_table(claim)), []).append(name)
    outcomes = list(dict.fromkeys(outcome for _, outcome in names_of))
    rows = [["claims", *outcomes], ["---"] * (1 + len(outcomes))]
    for folder in published:
        link = f"[`{folder}`](results/{folder}/{publish.TABLE})"
        named = [", ".join(names_of.get((folder, outcome), ["none"])) for outcome in outcomes]
        rows.append([link, *named])
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def outcome(claim: Mapping[str, Any], link: str, is_measured: bool) -> str:
    """A cell of the table of claims, with or without a measurement."""
    verdict = f"[{outcome_in_table(claim)}]({link})"
    return f"{verdict}, {headline(claim)}" if is_measured else verdict


def headline(claim: Mapping[str, Any]) -> str:
    """The first measurement by which a claim was judged: its value and unit without the interval,
    and how many seeds are censored, where some are."""
    first = loaders.judged(claim)[0]
    without_interval = re.sub(r" \[[^]]*\]", "", first["text"])
    value = re.sub(r" \([^)]*\)$", "", without_interval)  # the number of seeds
    said = f"{first['name']}: {value}"
    if not first["num_censored"]:
        return said
    return f"{said} ({first['num_censored']} of {first['num_seeds']} seeds censored)"


def steps_table(root: Path) -> str:
    """Training steps beside PyTorch's: a row for each, with one seed and with several."""
    rows = ["| step | PyTorch | here, 1 seed | here, seeds together |", "| --- | --- | --- | --- |"]
    for path in sorted((root / _SPEED).glob("*.json")):
        speeds = json.loads(path.read_text()).get("steps", [])
        for step, of_step in itertools.groupby(speeds, key=lambda speed: speed["step"]):
            one, many = of_step
            peer = f"{_digits(one['pytorch'], 3)} {one['unit']}"
            unit = " ms" if one["unit"] == "ms" else ""
            alone = f"{_digits(one['here'], 3)}{unit} ({_digits(one['times'], 2)}x)"
            together = f"{_digits(many['here'], 3)}{unit}, {many['seeds']} seeds"
            rows.append(
                f"| {step} | {peer} | {alone} | {together} ({_digits(many['times'], 2)}x) |"
            )
    return "\n".join(rows) + "\n"


def blocked_table(root: Path) -> str:
    """What a step in blocks costs, by width, examples in a block, dimension and seeds."""
    costs = loaders.json_of(root / _SPEED / "blocked.json", "blocked")["blocked"]
    problems = sorted({(cost["d"], cost["seeds"]) for cost in costs})
    shapes = sorted({(cost["width"], cost["block"]) for cost in costs})
    cells = {
        (cost["width"], cost["block"], cost["d"], cost["seeds"]): (
            f"{_digits(cost['ms'], 3)} ({_digits(cost['megabytes'], 2)} MB)"
        )
        for cost in costs
    }
    heads = [f"d={d}, {seeds} seed{'s' if seeds > 1 else ''}" for d, seeds in problems]
    rows = [
        f"| ms a step and seed (memory of the step) | block | {' | '.join(heads)} |",
        "| --- | --- |" + " --- |" * len(heads),
    ]
    for width, block in shapes:
        of_shape = [cells.get((width, block, *problem), "") for problem in problems]
        rows.append(f"| width {_thousands(width)} | {block} | {' | '.join(of_shape)} |")
    return "\n".join(rows) + "\n"


GPU_STEPS = (
    ("batch-one", "width 50,000, batch 1, in blocks", "blocked, width 50000", "width 50000"),
    ("batch-one", "the same, one by one", "scan, width 50000", "width 50000"),
    ("batch-one", "width 100, batch 1, in blocks", "blocked, width 100", "width 100"),
    ("batch-one", "the same, one by one", "scan, width 100", "width 100"),
    ("quick", "`quick` teacher", "teacher", "teacher"),
    ("quick", "`quick` student", "student", "student"),
    ("transformer-paper", "GPT-2, 32 heads, float32", "teacher, {}, float32", "teacher, float32"),
    (
        "transformer-paper",
        "GPT-2, 32 heads, bfloat16",
        "teacher, {}, dtype auto",
        "teacher, bfloat16 autocast",
    ),
    ("pcfg-quick", "BERT of `quick`, bfloat16", "teacher", "teacher, bfloat16 autocast"),
    ("pcfg-paper", "BERT of `paper`, bfloat16", "teacher", "teacher, bfloat16 autocast"),
)
"""Part of the measurement, name of the step, and what our side and the peer's are called there; the
number of seeds stands in the braces, or at the end."""


def gpu_table(root: Path) -> str:
    """Training steps on a GPU beside PyTorch's or Hugging Face's, in microseconds."""
    parts = loaders.json_of(root / _SPEED / "gpu.json", "parts")["parts"]
    rows = ["| microseconds a step | peer | here, 1 seed | here, seeds together |"]
    rows.append("| --- | --- | --- | --- |")
    for part, step, ours, theirs in GPU_STEPS:
        of_peer = next(found for name, found in parts.items() if name.startswith(f"{part}, "))
        together = ""
        for seeds in (3, 8, 10):
            side = parts[part].get(_side(ours, f"{seeds} seeds"))
            if side is not None:
                together = f"{_microseconds(side)}, {seeds} seeds"
        alone = _microseconds(parts[part][_side(ours, "1 seed")])
        rows.append(f"| {step} | {_microseconds(of_peer[theirs])} | {alone} | {together} |")
    return "\n".join(rows) + "\n"


def _side(name: str, seeds: str) -> str:
    return name.format(seeds) if "{}" in name else f"{name}, {seeds}"


def _microseconds(side: Mapping[str, Any]) -> str:
    value = side["microseconds_per_step"]
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def costs_table(root: Path) -> str:
    """How long whole experiments take."""
    table = pd.read_csv(root / _SPEED / "costs.csv")
    rows = [f"| {what} | {minutes:g} |" for what, minutes in table.itertuples(index=False)]
    return "\n".join(["| experiment | minutes on two CPU cores |", "| --- | --- |", *rows]) + "\n"


def published_students_table(folder: Path) -> str:
    """The final accuracies of a published preset beside the paper's (Figure 1 right, and its panel
    of 2-shot), as a Markdown table.

    Args:
        folder: `results/pcfg/PRESET`; students of the first length and all others have one teacher.
    """
    final = loaders.table_of(folder / "final_accuracy.csv", "strategy", "examples", "accuracy")
    mean = final.groupby(["strategy", "examples"]).accuracy.mean()
    (teacher,) = mean["teacher"]
    best = loaders.json_of(folder / "ceiling.json", "ceiling")["ceiling"]["accuracy"]
    heads = (
        "final accuracy",
        "labels",
        "one-shot",
        "progressive",
        "2-shot",
        "teacher",
        "best possible",
    )
    rows = [heads, ("---",) * len(heads)]
    for sentences in sorted(mean[STRATEGIES[0]].index):
        ours = [f"{mean[name][sentences]:.3f}" for name in STRATEGIES]
        rows.append((f"here, {sentences:,} sentences", *ours, f"{teacher:.3f}", f"{best:.3f}"))
    points = loaders.targets("overview_acc", "pcfg_bert").pivot(
        index="x", columns="series", values="y"
    )
    for steps, point in points.iterrows():
        theirs = [f"{point[name]:.3f}" for name in ("ce", "one_shot", "progressive")]
        rows.append(
            (
                f"published, {float(str(steps)):.0f} batches of 512",
                *theirs,
                "",
                f"{point['teacher']:.3f}",
                "",
            )
        )
    panel = loaders.targets("curr_pcfg", "two_shot_final_accuracy").set_index("note").y
    rows.append(
        (
            "published, panel of 2-shot",
            "",
            f"{panel['= one-shot']:.3f}",
            "",
            f"{panel['best, = C1']:.3f}",
            "",
            "",
        )
    )
    cells = [[f" {cell} " if cell else " " for cell in row] for row in rows]
    return "".join(f"|{'|'.join(row)}|\n" for row in cells)


def _thousands(width: int) -> str:
    return f"{width:,}" if width >= 10_000 else str(width)


def _digits(value: float, digits: int) -> str:
    rounded = float(f"{value:.{digits}g}")
    return f"{rounded:,.0f}" if rounded >= 100 else f"{rounded:g}"


_SPEED = Path("benchmarks", "results")
TABLES: dict[str, Callable[[Path], str]] = {
    "parity": lambda root: claims_table(
        root, "parity", {"quick": "MLP", "transformer-quick": "Transformer"}
    ),
    "law": lambda root: claims_table(
        root, "law", {"quick": "exponents of the learning time in d"}, results=""
    ),
    "pcfg": lambda root: claims_table(root, "pcfg", {"laptop": "BERT"}),
    "mlm": lambda root: claims_table(
        root,
        "mlm",
        {"laptop": "BERT on text", "lengths-laptop": "other teachers, longer students"},
        results="",
        num_measured=2,
    ),
    "pcfg.next_token": lambda root: claims_table(
        root, "pcfg.next_token", {"laptop": "GPT-2 at boundaries"}, results=""
    ),
    "further verdicts": lambda root: verdicts_table(
        root, ("pcfg.next_token/laptop", "mlm/laptop", "mlm/lengths-laptop")
    ),
    "pcfg/laptop beside the published students": lambda root: published_students_table(
        root / "results" / "pcfg" / "laptop"
    ),
    "speed of steps": steps_table,
    "speed of blocked steps": blocked_table,
    "costs": costs_table,
    "speed on a GPU": gpu_table,
}
"""What renders each table, from the folder of the repository."""


if __name__ == "__main__":
    run_command(main)
