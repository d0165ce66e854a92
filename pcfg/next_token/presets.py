"""The named experiments on next tokens, one lab note each."""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from common.base.config import Overrides, PositiveInt, Preset, TrainingConfig, configuration
from common.sequence.students import FirstCheckpointConfig, StudentRuns
from common.sequence.windows import WindowConfig
from common.train.optim import OptimConfig
from common.train.schedule import ScheduleConfig
from pcfg.data import PCFGData
from pcfg.next_token.config import StudentConfig, TrainConfig, gpt2
from pcfg.next_token.data import NextTokenConfig
from pcfg.presets import AncestorConfig

ARMS: Mapping[str, Overrides] = MappingProxyType(
    {
        "ce": {"schedule": "ce"},
        "one-shot": {"schedule": "one-shot"},
        "progressive": {"schedule": "progressive"},
        "two-shot": {"schedule": "two-shot"},
        "till-saturate": {"schedule": "till-saturate"},
        "projections": {"schedule": "projections"},
        "generations": {"schedule": "one-shot", "sentences": "teacher"},
        "generations-two-shot": {"schedule": "two-shot", "sentences": "teacher"},
    }
)
"""What students are compared under. The last two learn from sentences that the teacher generates:
its final checkpoint, or C1 and then the final one."""


@configuration
class Experiment(StudentRuns):
    """Teacher and students of one preset."""

    teacher: TrainConfig
    student: StudentConfig
    """Defaults of `python -m pcfg.next_token.distill`."""
    probe: WindowConfig
    probe_every: PositiveInt
    """Checkpoints from one that the probe of prefixes looks at to the next."""
    nonterminal: AncestorConfig
    """On the teacher; students are probed untrained and trained."""
    exact: WindowConfig
    """Of the exact distances; `num_sentences` is also that of the ceiling."""

    @property
    def arms(self) -> Mapping[str, Overrides]:
        """See `ARMS`."""
        return ARMS


def _adam(rates: tuple[float, ...], warmup_fraction: float = 0.06) -> OptimConfig:
    # The gradient clip of 1 is what Hugging Face's trainer does unless told otherwise, as in the
    # published runs.
    return OptimConfig(
        rates,
        decay="cosine",
        warmup_fraction=warmup_fraction,
        kind="adam",
        betas=(0.9, 0.95),
        clip_norm=1.0,
    )


def _quick() -> Experiment:
    data = PCFGData(start_level=3)
    supervised = NextTokenConfig(predicts_end=True)
    budget = TrainingConfig(
        steps=1600, batch_size=64, eval_every=40, eval_examples=1024, seed=802, num_seeds=2
    )
    return Experiment(
        teacher=TrainConfig(
            data,
            gpt2(8, layers=3, dropout=0.0),
            _adam((3e-3,), warmup_fraction=0.25),
            replace(budget, checkpoint_every=40),
            supervised,
        ),
        student=StudentConfig(
            data,
            gpt2(2, layers=3, dropout=0.0),
            _adam((0.03,), warmup_fraction=0.2),
            replace(budget, steps=250, eval_every=50),
            supervised,
            supervision=ScheduleConfig(
                interval=25,
                speed=8,
                first_steps=150,
                without_transition="final",
                projection_steps=25,
                averaged=3,
                patience=50,
            ),
        ),
        probe=WindowConfig((1, 2, 3, 5, 7), spacing=5, num_sentences=640),
        probe_every=4,
        nonterminal=AncestorConfig(every=0, num_train=512, num_eval=512),
        exact=WindowConfig((1, 2, 3, 5, 7), spacing=5, num_sentences=1024),
        first=FirstCheckpointConfig((-200, 1000)),
    )


PRESETS: dict[str, Preset[Experiment]] = {
    "quick": Preset("quick", "work in progress", _quick()),
}
