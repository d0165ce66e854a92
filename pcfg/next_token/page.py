"""What the report of prediction of the next token holds."""

from pathlib import Path

import pandas as pd

from common.sequence.student_claims import CHOICE
from figures import loaders, tables
from figures.ancestors import Ancestors
from figures.contexts import CAUSAL
from figures.page import Page
from figures.phases import PLATEAUS, Phases
from figures.students import Students

DATA = {
    "final_accuracy.csv": "how far every run came within its budget",
    tables.FIRST: "every two-shot student of the sweep over first checkpoints",
    CHOICE: "the same on the seeds on which the best first checkpoint was chosen",
    PLATEAUS: "how long every teacher's loss stays near the optimum of the last n tokens",
    "student_nonterminals.csv": "accuracy of the non-terminal probes on students",
    "teacher/probes/nonterminals.csv": "the same on the teacher's checkpoints",
    "teacher/probes/ngram.csv": "close(n) and robust(n) of every checkpoint",
    "teacher/probes/ceiling.json": (
        "exact accuracy and loss of the best model, at every level of boundaries, and of the best"
        " models of the last n tokens"
    ),
    "teacher/probes/ceiling.csv": "close(n) and robust(n) of the best model",
}
CEILINGS = "ceilings.csv"


def ceilings(home: Path) -> pd.DataFrame:
    """What the best model of all scores where a span of each level ends: level, accuracy and
    cross_entropy (nats) with their standard errors as estimates over all sentences, num_positions;
    levels are those of the whole grammar."""
    path = home / "teacher" / "probes" / "ceiling.json"
    columns = [
        "accuracy",
        "accuracy_error",
        "cross_entropy",
        "cross_entropy_error",
        "num_positions",
    ]
    levels = loaders.json_of(path, "levels")["levels"]
    table = pd.DataFrame.from_dict(levels, orient="index")[columns]
    return table.rename_axis("level").reset_index()


PAGE = Page(
    title="Implicit curriculum in prediction of the next token of a grammar's sentences",
    figures={
        "phases": Phases(loaders.grammar_of, CAUSAL, highest_loss=1.8, published=None),
        "students": Students(loaders.grammar_of, CAUSAL, published=None),
        "ancestors": Ancestors(
            "the non-terminal that has just ended can be read off the last hidden layer, at the"
            " tokens at which one of its level ends (levels are those of the whole grammar, whose"
            " start symbol is level 0): off that token's own position (linear), or off all"
            " positions up to it, weighted by position (mixing)"
        ),
    },
    figure_of={
        "G1": "phases",
        "G2": "phases",
        "G3": "phases",
        "G4": "students",
        "G5": "students",
        "G6": "students",
        "G7": "students",
    },
    data=lambda _: DATA,
    tables=lambda home: {
        CEILINGS: ("exact accuracy and loss of the best model, level by level", ceilings(home))
    },
    published=(
        *DATA,
        "teacher/probes/ngram.json",
    ),
    footnote=lambda _: (
        "Distances are total variations, half of the L1 norm. Of claims that one thing is better"
        ' than another, "holds" says better, "does not hold" of G6 and G7 says worse.'
    ),
)
