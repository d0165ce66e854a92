"""What the report of masked prediction on text holds."""

from pathlib import Path

from common.judge.phases import PhaseConfig
from common.sequence.student_claims import CHOICE
from common.sequence.students import student
from figures import loaders, tables
from figures.contexts import TEXT
from figures.neighbours import LATE_GAINS, Neighbours, TokenKinds
from figures.page import Page
from figures.phases import REFERENCES, Phases, PublishedTeacher
from figures.student_windows import HALF_WAY, StudentWindows
from figures.students import Published, Students
from mlm.presets import PRESETS
from mlm.token_kinds import WORDS

DATA = {
    REFERENCES: "what models reach that see less of a row than the teacher",
    "passed.csv": "when every teacher's loss passes those",
    LATE_GAINS: "what part of the final M_robust(n) every teacher gains after its drop",
    HALF_WAY: "when M_robust(3), token masked, is half-way up for each kind of token",
    "final_accuracy.csv": "how far every run came within its length",
    tables.FIRST: "every two-shot student of the sweep over first checkpoints",
    CHOICE: "the same on the seeds on which the best first checkpoint was chosen",
    "teacher/probes/ngram.csv": "M_robust and M_close of every checkpoint",
    "teacher/probes/ngram_by_token.csv": "the same by kind of token",
}
RULE = (
    "A word is a function word if it stands in a list of English words of the closed classes"
    " (mlm/token_kinds.py), a content word if it begins with a letter and does not; numbers and"
    " punctuation are neither. A word's pieces are of its kind; the first one and all others are"
    " drawn apart, too."
)


PUBLISHED = Published(
    models="Wikipedia and Books",
    batch_size=512,
    lengths=("curr_real", "student_accuracy"),
    firsts=None,
    source="the paper's figure `curr_real` (right)",
)


def detector_of(home: Path) -> PhaseConfig:
    """What finds the drop of the teachers of a preset."""
    return PRESETS[home.name].config.student.detector


PAGE = Page(
    title="Implicit curriculum in masked prediction on text",
    figures={
        "phases": Phases(
            loaders.corpus_of,
            TEXT,
            lowest_loss=2.0,
            highest_loss=8.0,
            published=PublishedTeacher("curr_real", "Wikipedia and Books", has_two_axes=True),
            detector_of=detector_of,
        ),
        "neighbours": Neighbours(
            {
                "close_masked": "Token masked: $M_{close}$",
                "close_visible": "Token visible: $M_{close}$",
            },
            detector_of,
        ),
        "token_kinds": TokenKinds(
            {
                "robust_masked": "Token masked: $M_{robust}$, 3 tokens",
                "robust_visible": "Token visible: $M_{robust}$, 3 tokens",
            },
            WORDS,
            RULE,
            detector_of,
        ),
        "students": Students(loaders.corpus_of, TEXT, PUBLISHED),
        "student_windows": StudentWindows(
            {
                "robust_masked": "Token masked: $M_{robust}$, 3 tokens",
                "robust_visible": "Token visible: $M_{robust}$, 3 tokens",
            },
            WORDS,
            student,
        ),
    },
    figure_of={
        "T1": "phases",
        "T2m": "phases",
        "T2v": "phases",
        "T3": "neighbours",
        "T4": "students",
        "T5": "students",
        "T6": "students",
        "T7": "students",
    },
    absent=lambda experiment, _: set() if experiment.probes_students else {"student_windows"},
    data=lambda _: DATA,
    published=(*DATA, "teacher/probes/ngram.json"),
    footnote=lambda _: (
        "Distances are total variations, half of the L1 norm that the paper reports. The paper does"
        " not say whether the token at the position is masked in its M_robust of text, which falls"
        " from 0.27 to 0.0025. Masked, M_robust cannot be expected to fall: without the token, a"
        " language model predicts from its neighbours, the better it is the more. Visible, M_robust"
        " can fall, because the model comes to copy the token that it sees; then the fall does not"
        " say that neighbours cease to matter. Both are measured, and T2m and T2v judge them apart."
    ),
)
