"""What runs on the next tokens of text begin with."""

from dataclasses import replace

from common.base.config import Preset, TrainingConfig, configuration
from common.train.optim import published_adam
from common.train.schedule import ScheduleConfig
from mlm.next_token.config import StudentConfig, TrainConfig
from mlm.next_token.data import NextTextConfig
from mlm.next_token.model import NextTextModel
from mlm.presets import SAMPLE


@configuration
class Defaults:
    """Teacher and student."""

    teacher: TrainConfig
    student: StudentConfig


def _quick() -> Defaults:
    data, optim = NextTextConfig(SAMPLE, length=32), published_adam((3e-3,))
    model = NextTextModel(heads=4, head_size=32, layers=2)
    budget = TrainingConfig(
        steps=400, batch_size=64, eval_every=20, eval_examples=512, seed=1100, num_seeds=1
    )
    return Defaults(
        TrainConfig(data, model, optim, replace(budget, checkpoint_every=20)),
        StudentConfig(
            data,
            replace(model, heads=1),
            optim,
            budget,
            supervision=ScheduleConfig(interval=20, first_steps=200, without_transition="final"),
        ),
    )


QUICK_NOTE = (
    "The sample (python -m mlm.prepare sample --vocabulary-size 1024 --out corpora/sample), or any"
    " corpus by --data.corpus, in rows of 32 tokens; GPT-2 of two layers with 4 heads of 32,"
    " students of one head; batches of 64 rows, 400 steps, Adam (0.9, 0.95) at 3e-3, one seed."
    " A place to begin from, not a reproduction: nothing of it is published or tuned. Command:"
    " python -m mlm.next_token.train --preset quick --run-dir RUN."
)
PRESETS: dict[str, Preset[Defaults]] = {"quick": Preset("quick", QUICK_NOTE, _quick())}
