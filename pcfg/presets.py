"""The named PCFG experiments, one lab note each."""

from dataclasses import replace
from typing import Literal

from common.config import NonNegativeInt, PositiveInt, Preset, TrainingConfig, configuration
from common.optim import OptimConfig
from common.schedule import ScheduleConfig
from pcfg.config import StudentConfig, TrainConfig, bert
from pcfg.data import PCFGData

PCFGPresetName = Literal["quick", "laptop", "paper"]


@configuration
class WindowConfig:
    """Where and over what windows the n-gram probe looks; see `python -m pcfg.probe --help`."""

    sizes: tuple[PositiveInt, ...]
    every: PositiveInt
    num_sentences: PositiveInt


@configuration
class AncestorConfig:
    """What the non-terminal probe is trained and judged on; see `python -m pcfg.nonterminal --help`."""

    every: NonNegativeInt
    num_train: PositiveInt
    num_eval: PositiveInt


@configuration
class Experiment:
    """Teacher and students of one preset."""

    teacher: TrainConfig
    student: StudentConfig
    """Defaults of `python -m pcfg.distill`."""
    probe: WindowConfig
    nonterminal: AncestorConfig
    exact: WindowConfig
    """Windows of the Bayes-optimal distances, which are costly for long sentences; `num_sentences` is also that of the ceiling."""


def _adam(rate: float, warmup_fraction: float = 0.06) -> OptimConfig:
    # The gradient clip of 1 is what Hugging Face's trainer does unless told otherwise, as in the published runs.
    return OptimConfig((rate,), schedule="cosine", warmup_fraction=warmup_fraction, kind="adam", betas=(0.9, 0.95), clip_norm=1.0)


def _quick() -> Experiment:
    data = PCFGData(start_level=3)
    budget = TrainingConfig(steps=2000, batch_size=64, eval_every=20, eval_examples=1024, seed=700, num_seeds=2)
    # A long warm-up, because at the full rate the plateau is over after some fifty steps.
    optim = _adam(3e-3, warmup_fraction=0.2)
    return Experiment(
        teacher=TrainConfig(data, bert(8, layers=3, dropout=0.0), optim, replace(budget, checkpoint_every=60)),
        student=StudentConfig(
            data, bert(2, layers=3, dropout=0.0), optim, replace(budget, eval_every=100), supervision=ScheduleConfig(interval=240, first_steps=400)
        ),
        probe=WindowConfig((2, 3, 5, 7), every=5, num_sentences=800),
        nonterminal=AncestorConfig(every=0, num_train=1024, num_eval=512),
        exact=WindowConfig((2, 3, 5, 7), every=5, num_sentences=800),
    )


def _paper() -> Experiment:
    data = PCFGData()
    budget = TrainingConfig(steps=8000, batch_size=512, eval_every=200, eval_examples=1024, seed=0, num_seeds=1)
    return Experiment(
        teacher=TrainConfig(data, bert(32), _adam(5e-3), replace(budget, checkpoint_every=200)),
        student=StudentConfig(data, bert(8), _adam(5e-3), budget, supervision=ScheduleConfig(interval=1000, first_steps=2000)),
        probe=WindowConfig((2, 3, 4, 5, 7, 9), every=30, num_sentences=1024),
        nonterminal=AncestorConfig(every=5, num_train=10_240, num_eval=4096),
        exact=WindowConfig((2, 3, 4, 5, 7, 9), every=30, num_sentences=64),
    )


PRESETS: dict[str, Preset[Experiment]] = {
    "quick": Preset("quick", "cfg3b from its fourth level (sentences of 14 to 27 tokens), 8 heads to 2.", _quick()),
    "paper": Preset("paper", "The published hyper-parameters: the whole of cfg3b, 32 heads to 8, batches of 512 sentences.", _paper()),
}
