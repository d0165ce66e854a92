"""What the report of sparse parity holds."""

from pathlib import Path

import pandas as pd

from figures import first, law, levels, loaders, overview, spike, tables, transition, width
from figures.page import Page, Study
from figures.report import Addition, Drawn
from parity.law import LAW_PRESETS
from parity.leak import TABLE as LEAKS
from parity.presets import Experiment


def absent(experiment: Experiment, home: Path) -> set[str]:
    """Figures of stages that the preset leaves out, or that have not been run: those beyond the
    paper."""
    has_beyond = (home / loaders.BEYOND).exists()
    missing = set()
    if experiment.tree is None or not has_beyond:
        missing.add("levels")
    if experiment.first is None or not has_beyond:
        missing.add("first")
    return missing


def footnote(experiment: Experiment) -> str:
    """What a learning time is, and where the learning rates come from."""
    if experiment.tuning is None:
        rates = "Learning rates are the preset's; no sweep of this experiment chose them."
    else:
        rates = "Learning rates were chosen on other seeds than those shown."
    return (
        "t90: first evaluation at or above 90% accuracy that is sustained for three evaluations, in"
        " training examples. A seed that does not get there within its budget is censored and ranks"
        f" after all others. {rates}"
    )


def find_law(home: Path, folder: Path) -> tuple[Drawn, Addition]:
    """Learning time against the dimension."""
    return Drawn(law.draw(home, folder), law.caption(home)), law.addition(home)


def data(home: Path) -> dict[str, str]:
    """Learning times, first checkpoints, and the probes of all teachers."""
    kept = {
        "learning_times.csv": "t90 of every run and seed",
        tables.FIRST: "every two-shot student of the sweep over first checkpoints",
    }
    for teacher in (home / "teacher", *loaders.replicas(home)):
        probes = f"{teacher.name}/probes"
        kept[f"{probes}/correlations_in_support.csv"] = (
            f"correlation of every checkpoint of {teacher.name} with every subset of the support"
        )
        kept[f"{probes}/{loaders.BY_STRATUM}"] = (
            "absolute correlations of the same by degree and overlap with the support"
        )
        if (home / probes / LEAKS).exists():
            kept[f"{probes}/{LEAKS}"] = (
                f"how far the support stands out of random sets at the transitions of"
                f" {teacher.name}, and before"
            )
    return kept


def made_tables(home: Path) -> dict[str, tuple[str, pd.DataFrame]]:
    """Correlations of the probed teachers, and transitions of the levels."""
    made = {}
    probed = tables.probed(home)
    if probed:
        text = "mean |correlation| of every checkpoint in and off the support"
        made[tables.CORRELATIONS] = text, pd.concat(map(tables.correlations, probed))
    if loaders.has_tree(home):
        text = "the transition of every level of hierarchical parity and seed"
        made[tables.LEVELS] = text, tables.levels(home)
    return made


PAGE = Page(
    title="Implicit curriculum in sparse parity",
    figures={
        "overview": overview,
        "spike": spike,
        "transition": transition,
        "width": width,
        "levels": levels,
        "first": first,
    },
    figure_of={
        "W": "width",
        "O": "overview",
        "P": "overview",
        "S": "spike",
        "C": "spike",
        "E": "overview",
        "F": "first",
        "R": "transition",
        "O2": "overview",
    },
    beyond=frozenset({"F", "R", "O2"}),
    data=data,
    published=("learning_times.csv", tables.FIRST),
    footnote=footnote,
    absent=absent,
    study=Study("law", "parity.law", "fits.json", find_law, tuple(LAW_PRESETS)),
    tables=made_tables,
)
