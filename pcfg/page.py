"""What the report of masked prediction on grammars holds."""

from figures import loaders, tables
from figures.ancestors import Ancestors
from figures.contexts import MASKED
from figures.page import Page
from figures.phases import Phases, PublishedTeacher
from figures.students import Published, Students

DATA = {
    "final_accuracy.csv": "how far every run came within its budget",
    tables.FIRST: "every two-shot student of the sweep over first checkpoints",
    "student_nonterminals.csv": "accuracy of the non-terminal probes on students",
    "teacher/probes/nonterminals.csv": "the same on the teacher's checkpoints",
    "teacher/probes/ngram.csv": "M_robust and M_close of every checkpoint",
    "teacher/probes/ceiling.json": (
        "exact accuracy and loss of the best model, and of the best n-gram models"
    ),
    "teacher/probes/ceiling.csv": "M_robust and M_close of the best model",
}
PUBLISHED = Published(
    models="cfg3b, 32 heads to 8",
    batch_size=512,
    lengths=("overview_acc", "pcfg_bert"),
    firsts=("curr_pcfg", "two_shot_final_accuracy"),
    source="the paper's Figure 1 (right)",
)
PAGE = Page(
    title="Implicit curriculum in masked prediction on a grammar",
    figures={
        "phases": Phases(
            loaders.grammar_of,
            MASKED,
            highest_loss=1.25,
            published=PublishedTeacher("curr_pcfg", "cfg3b, 32 heads"),
        ),
        "students": Students(loaders.grammar_of, MASKED, PUBLISHED),
        "ancestors": Ancestors(
            "the non-terminals above every token can be read off the last hidden layer (level 0 is"
            " the start symbol): off the token's own position (linear), or off all positions,"
            " weighted by position (mixing)"
        ),
    },
    figure_of={
        "B1": "phases",
        "B2": "phases",
        "B3": "phases",
        "B4": "students",
        "B5": "students",
        "B6": "ancestors",
    },
    data=lambda _: DATA,
    published=(
        "final_accuracy.csv",
        tables.FIRST,
        "student_nonterminals.csv",
        "teacher/probes/nonterminals.csv",
        "teacher/probes/ngram.csv",
        "teacher/probes/ngram.json",
        "teacher/probes/ceiling.json",
        "teacher/probes/ceiling.csv",
    ),
    footnote=lambda _: (
        "Distances are total variations, half of the L1 norm that the paper reports."
    ),
)
