"""The named experiments on text, one lab note each."""

from dataclasses import replace
from pathlib import Path

from common.base.config import PositiveInt, Preset, TrainingConfig, configuration
from common.sequence.windows import WindowConfig
from common.train.optim import OptimConfig
from common.train.schedule import ScheduleConfig
from mlm.config import StudentConfig, TrainConfig
from mlm.data import TextConfig
from mlm.model import TextModel

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
    """Optimiser updates of each."""
    eval_every: PositiveInt
    """Steps between evaluations."""
    seed: int
    """One for each reference."""


@configuration
class Experiment:
    """Teacher, references and students of one preset."""

    teacher: TrainConfig
    student: StudentConfig
    """Defaults of `python -m mlm.distill`."""
    references: ReferenceConfig
    probe: WindowConfig
    probe_every: PositiveInt
    """Checkpoints from one that the probe of windows looks at to the next."""
    sources: tuple[str, ...] | None = None
    """Words of `python -m mlm.prepare` that make the corpus; None: the user makes it."""


def _adam(rates: tuple[float, ...], warmup_fraction: float = 0.06) -> OptimConfig:
    # Published: Adam (0.9, 0.95) without decay, cosine. The clip of 1 is that of Hugging Face's
    # trainer, which the published runs of the other settings have.
    return OptimConfig(
        rates,
        decay="cosine",
        warmup_fraction=warmup_fraction,
        kind="adam",
        betas=(0.9, 0.95),
        clip_norm=1.0,
    )


def _quick() -> Experiment:
    data = TextConfig(SAMPLE, length=32)
    # A narrow model leaves its plateau late from BERT's initial 0.02.
    model = TextModel(heads=2, head_size=32, layers=2, init_std=0.06)
    budget = TrainingConfig(
        steps=800, batch_size=64, eval_every=20, eval_examples=512, seed=950, num_seeds=1
    )
    return Experiment(
        teacher=TrainConfig(data, model, _adam((3e-3,)), replace(budget, checkpoint_every=40)),
        student=StudentConfig(
            data,
            replace(model, heads=1),
            _adam((1.2e-2,)),
            replace(budget, steps=200),
            supervision=ScheduleConfig(
                interval=20, first_steps=80, without_transition="final", projection_steps=20
            ),
        ),
        references=ReferenceConfig(windows=(3, 7), steps=400, eval_every=20, seed=951),
        probe=WindowConfig((2, 3, 5, 7, 11, 15), spacing=8, num_sentences=1024),
        probe_every=2,
        sources=("sample", "--vocabulary-size", "1024"),
    )


def _laptop() -> Experiment:
    data = TextConfig(CORPORA / "laptop", length=32)
    model = TextModel(heads=4, head_size=32, layers=3, init_std=0.06)
    budget = TrainingConfig(
        steps=4000, batch_size=128, eval_every=50, eval_examples=2048, seed=960, num_seeds=8
    )
    return Experiment(
        teacher=TrainConfig(data, model, _adam((2e-3,)), replace(budget, checkpoint_every=50)),
        student=StudentConfig(
            data,
            replace(model, heads=1),
            _adam((1.2e-2,)),
            replace(budget, steps=800),
            supervision=ScheduleConfig(
                interval=100, speed=5, first_steps=300, without_transition="final"
            ),
        ),
        references=ReferenceConfig(windows=(3, 5, 7, 11), steps=6000, eval_every=50, seed=968),
        probe=WindowConfig((2, 3, 5, 7, 11, 15), spacing=8, num_sentences=1024),
        probe_every=2,
    )


def _paper() -> Experiment:
    data = TextConfig(CORPORA / "paper", length=128)
    model = TextModel(heads=12, head_size=64, layers=12, dropout=0.1, positions=512)
    budget = TrainingConfig(
        steps=120_000, batch_size=512, eval_every=1000, eval_examples=4096, seed=0, num_seeds=1
    )
    optim = _adam((1e-4,))
    return Experiment(
        teacher=TrainConfig(data, model, optim, replace(budget, checkpoint_every=2000)),
        student=StudentConfig(
            data,
            replace(model, heads=4),
            optim,
            budget,
            supervision=ScheduleConfig(
                interval=8000, first_steps=24_000, without_transition="final"
            ),
        ),
        references=ReferenceConfig(windows=(3, 5, 7, 11), steps=120_000, eval_every=1000, seed=1),
        probe=WindowConfig((2, 3, 5, 7, 11, 15), spacing=30, num_sentences=1024),
        probe_every=1,
    )


QUICK_NOTE = "Command: python -m mlm.experiment --preset quick."
LAPTOP_NOTE = "Command: python -m mlm.experiment --preset laptop."
PAPER_NOTE = "Command: python -m mlm.experiment --preset paper."
PRESETS: dict[str, Preset[Experiment]] = {
    "quick": Preset("quick", QUICK_NOTE, _quick()),
    "laptop": Preset("laptop", LAPTOP_NOTE, _laptop()),
    "paper": Preset("paper", PAPER_NOTE, _paper()),
}
