"""The named experiments on next tokens, one lab note each."""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from common.base.config import Overrides, PositiveInt, Preset, TrainingConfig, configuration
from common.judge.phases import PhaseConfig
from common.runs.tuning import SweepConfig
from common.sequence.students import (
    BudgetConfig,
    FirstCheckpointConfig,
    FirstPhaseConfig,
    StudentRuns,
)
from common.sequence.windows import WindowConfig
from common.train.optim import published_adam
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


ON_DATA = ("ce", "one-shot", "progressive", "two-shot", "till-saturate", "projections")
"""Those whose students see the grammar's sentences."""


@configuration
class Experiment(StudentRuns):
    """Teacher and students of one preset."""

    teacher: TrainConfig
    student: StudentConfig
    """Defaults of `python -m pcfg.next_token.distill`."""
    compared: tuple[str, ...]
    """Names of the arms (`ARMS`) that students are compared under."""
    probe: WindowConfig
    probe_every: PositiveInt
    """Checkpoints from one that the probe of prefixes looks at to the next."""
    nonterminal: AncestorConfig
    """On the teacher; students are probed untrained and trained."""
    exact: WindowConfig
    """Of the exact distances; `num_sentences` is also that of the ceiling."""

    @property
    def arms(self) -> Mapping[str, Overrides]:
        """How the students of each arm differ from the experiment's."""
        return {name: ARMS[name] for name in self.compared}


def _quick() -> Experiment:
    data = PCFGData("cfg3f", start_level=3)
    supervised = NextTokenConfig(level=4)
    budget = TrainingConfig(
        steps=500, batch_size=32, eval_every=20, eval_examples=1024, seed=802, num_seeds=2
    )
    return Experiment(
        teacher=TrainConfig(
            data,
            gpt2(8, layers=3, dropout=0.0),
            published_adam((1e-3,), warmup_fraction=0.25),
            replace(budget, checkpoint_every=20),
            supervised,
        ),
        student=StudentConfig(
            data,
            gpt2(4, layers=3, dropout=0.0),
            published_adam((0.01,), warmup_fraction=0.1),
            replace(budget, steps=150, eval_every=30),
            supervised,
            supervision=ScheduleConfig(
                interval=20, speed=4, first_steps=90, without_transition="final"
            ),
        ),
        compared=("ce", "one-shot", "progressive", "two-shot"),
        probe=WindowConfig((1, 2, 3, 5), spacing=1, num_sentences=512),
        probe_every=6,
        nonterminal=AncestorConfig(every=0, num_train=512, num_eval=512),
        exact=WindowConfig((1, 2, 3, 5), spacing=1, num_sentences=512),
        first=FirstCheckpointConfig((-100, 200)),
    )


def _laptop() -> Experiment:
    data = PCFGData("cfg3f", start_level=2)
    supervised = NextTokenConfig(level=3)
    teacher, student = (
        replace(gpt2(heads, layers=3, dropout=0.0), dtype="float32") for heads in (8, 4)
    )
    budget = TrainingConfig(
        steps=2000, batch_size=64, eval_every=20, eval_examples=512, seed=820, num_seeds=8
    )
    return Experiment(
        teacher=TrainConfig(
            data,
            teacher,
            # A long warm-up, 500 steps, which stretches the plateau.
            published_adam((1e-3,), warmup_fraction=0.25),
            replace(budget, checkpoint_every=20),
            supervised,
        ),
        student=StudentConfig(
            data,
            student,
            published_adam((0.01,), warmup_fraction=0.1),
            replace(budget, steps=500, eval_every=25),
            supervised,
            supervision=ScheduleConfig(
                interval=50,
                speed=4,
                first_steps=300,
                without_transition="final",
                projection_steps=50,
                averaged=2,
                patience=50,
            ),
        ),
        compared=ON_DATA,
        probe=WindowConfig((1, 2, 3, 5, 7), spacing=1, num_sentences=256),
        probe_every=3,
        nonterminal=AncestorConfig(every=10, num_train=1024, num_eval=512),
        exact=WindowConfig((1, 2, 3, 5, 7), spacing=1, num_sentences=1024),
        first=FirstPhaseConfig(before=("before", "start"), after=("end", "after")),
        tuning=SweepConfig((0.003, 0.006, 0.012, 0.025), seed=1500, num_seeds=2),
    )


def _tokens_laptop() -> Experiment:
    laptop = _laptop()
    every_token = NextTokenConfig(predicts_end=True)
    return replace(
        laptop,
        teacher=replace(
            laptop.teacher,
            optim=published_adam((3e-3,), warmup_fraction=0.25),
            training=replace(laptop.teacher.training, seed=840),
            supervised=every_token,
        ),
        student=replace(
            laptop.student,
            training=replace(laptop.student.training, seed=840),
            supervised=every_token,
            # Most of a token's loss is left after any training, so that a drop is shallow.
            detector=PhaseConfig(depth=0.1),
        ),
        compared=tuple(arm for arm in ARMS if arm != "till-saturate"),
        probe=replace(laptop.probe, spacing=10),
        exact=replace(laptop.exact, spacing=10),
        tuning=SweepConfig((0.003, 0.006, 0.012, 0.025), seed=1540, num_seeds=2),
    )


def _paper() -> Experiment:
    data = PCFGData("cfg3f")
    supervised = NextTokenConfig(level=3)
    budget = TrainingConfig(
        steps=4000, batch_size=512, eval_every=100, eval_examples=4096, seed=0, num_seeds=1, parts=4
    )
    optim = published_adam((5e-3,))
    windows = WindowConfig((1, 2, 3, 5, 7), spacing=1, num_sentences=1024)
    return Experiment(
        teacher=TrainConfig(
            data, gpt2(32), optim, replace(budget, checkpoint_every=200), supervised
        ),
        student=StudentConfig(
            data,
            gpt2(8),
            optim,
            replace(budget, seed=42),
            supervised,
            supervision=ScheduleConfig(
                interval=200,
                speed=2,
                first_steps=1000,
                without_transition="final",
                projection_steps=200,
            ),
            teacher_seed=0,
        ),
        compared=ON_DATA,
        probe=windows,
        probe_every=1,
        nonterminal=AncestorConfig(every=4, num_train=10_240, num_eval=4096),
        exact=windows,
        first=FirstCheckpointConfig((-800, -400, -200, 200, 400, 1000, 2000)),
        heads=(16,),
        budgets=tuple(
            BudgetConfig(steps, interval=200, speed=2, first_steps=steps // 4)
            for steps in (2000, 8000, 16_000)
        ),
    )


QUICK_NOTE = (
    "cfg3f from its fourth level down (sentences of 8 to 27 tokens), the last token below each"
    " symbol of level 4, GPT-2 of 3 layers, 8 heads to 4, batch 32, 500 steps (students 150), 2"
    " seeds. Sentences so short leave hardly a plateau. Students run at one rate, untuned, and are"
    " measured, not judged. A minute or two on two CPU cores. Command: python -m"
    " pcfg.next_token.experiment --preset quick. Results: results/pcfg.next_token/quick."
)
LAPTOP_NOTE = (
    "cfg3f from its third level down (sentences of up to 81 tokens), the last token below each"
    " symbol of level 3, GPT-2 of 3 layers, 8 heads to 4, batch 64, 2000 steps with a warm-up over"
    " 500 (students 500), float32 on every machine, 8 seeds; the rate of each arm chosen from"
    " four, and the best first checkpoint from five, on 2 seeds of their own. Grammar, level,"
    " rates and budgets were explored on a GPU with seeds 900, 901, 910 to 913 and 1910 to 1913."
    " Two hours on two CPU cores, one stage on each. Command: python -m"
    " pcfg.next_token.experiment --preset laptop. Results: results/pcfg.next_token/laptop."
)
TOKENS_LAPTOP_NOTE = (
    "laptop with every token and the end of the sentence predicted, so that teachers can generate"
    " sentences: students of generations beside those of laptop, but for till-saturate's. The"
    " least drop of a teacher's loss is a tenth, not a fifth. Explored with the same seeds. Not"
    " run yet. Command: python -m pcfg.next_token.experiment --preset tokens-laptop."
)
PAPER_NOTE = (
    "The published hyper-parameters: the whole of cfg3f (64 to 729 tokens), the last token below"
    " each symbol of level 3, GPT-2 of 4 layers with 32 heads of size 8 to 8 (and 16), dropout 0.1,"
    " batches of 512 sentences, Adam (0.9, 0.95) at 5e-3 with 6% warm-up and cosine over 4000 steps"
    " (2,048,000 sentences), students also of 2000, 8000 and 16,000; a checkpoint every 200,"
    " progressive at speed 2. With one seed and one rate students are measured, not judged. Not run"
    " yet: a GPU's work. Command: python -m pcfg.next_token.experiment --preset paper."
)
PRESETS: dict[str, Preset[Experiment]] = {
    "quick": Preset("quick", QUICK_NOTE, _quick()),
    "laptop": Preset("laptop", LAPTOP_NOTE, _laptop()),
    "tokens-laptop": Preset("tokens-laptop", TOKENS_LAPTOP_NOTE, _tokens_laptop()),
    "paper": Preset("paper", PAPER_NOTE, _paper()),
}
