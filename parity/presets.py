"""The named parity experiments, one lab note each."""

from dataclasses import replace
from typing import Annotated

from pydantic import Field

from common.base.config import PositiveInt, Preset, Seed, TrainingConfig, configuration
from common.base.size import Size
from common.nn.gpt2 import GPT2Config
from common.nn.mlp import MLPConfig
from common.runs.tuning import SweepConfig
from common.train.losses import DistillationLoss
from common.train.optim import OptimConfig
from common.train.schedule import ScheduleConfig
from parity.config import StudentConfig, TrainConfig
from parity.data import ParityData
from parity.published import STUDENT_DEFAULTS, TEACHER_DEFAULTS


@configuration
class TuningConfig(SweepConfig):
    """The sweeps, and whether the teacher's rate is chosen by one."""

    teacher: bool = True
    """False: the teacher keeps the preset's rate, because the rate at which it learns soonest is
    over before its transition could teach anybody."""


@configuration
class TreeConfig:
    """What distinguishes the run on hierarchical parity from the teacher's."""

    k: PositiveInt
    depth: PositiveInt
    steps: PositiveInt
    eval_every: PositiveInt


@configuration
class FirstCheckpointConfig:
    """Two-shot students for each of several first checkpoints: which of them teach, and what do
    they carry?"""

    offsets: Annotated[tuple[int, ...], Field(min_length=2)]
    """Teacher steps from the detected checkpoint."""
    first_steps: PositiveInt
    """Student steps on the first checkpoint."""
    steps: PositiveInt
    """Student steps in all."""
    eval_every: PositiveInt
    num_seeds: PositiveInt


@configuration
class ReplicaConfig:
    """A further teacher, trained as a run of its own because one is all that a machine can take at
    a time."""

    seed: Seed
    steps: PositiveInt
    stop_after: Annotated[float, Field(ge=1)]
    """It ends sooner than the first: only checkpoints of the transition, and a final one that
    answers without errors, are asked of it."""


@configuration
class EquivalenceConfig:
    """Labels and one-shot distillation by soft labels on many seeds of their own, to tell whether
    they are equivalent."""

    seed: Seed
    num_seeds: PositiveInt


@configuration
class Experiment:
    """Teacher, students and baselines of one preset, as `python -m parity.experiment` runs them."""

    teacher: TrainConfig
    student: StudentConfig
    """Defaults of `python -m parity.distill`; its budget is that of progressive and two-shot."""
    label_steps: PositiveInt
    """Budget of the student's model on labels and of one-shot, long enough for most seeds to
    learn."""
    sizes: tuple[tuple[PositiveInt, PositiveInt], ...]
    """Widths of an MLP, or heads of a Transformer, trained on labels and compared with each other
    (claim W), each with its budget in steps."""
    tuning: TuningConfig | None
    """None: the published learning rates are used as they are."""
    probe_examples: PositiveInt
    """Examples over which correlations are averaged."""
    tree: TreeConfig | None = None
    """The teacher's model on hierarchical parity, drawn as `levels`; None leaves it out."""
    first: FirstCheckpointConfig | None = None
    """The sweep over first checkpoints, drawn as `first`; None leaves it out."""
    replicas: tuple[ReplicaConfig, ...] = ()
    """Further teachers for that sweep."""
    equivalence: EquivalenceConfig | None = None
    """The seeds of claim O2; None leaves it out."""
    short_steps: PositiveInt | None = None
    """Budget of two-shot and projections, where it is less than that of progressive."""

    def __post_init__(self) -> None:
        if self.teacher.model.size.name != self.student.model.size.name:
            raise ValueError("teacher and student are models of two kinds")
        if self.replicas and self.first is None:
            raise ValueError(
                "replicas are further teachers for the sweep over first checkpoints, which this"
                " experiment leaves out"
            )
        if (
            self.teacher.model.size in self.label_budgets
            and self.tuning is not None
            and not self.tuning.teacher
        ):
            raise ValueError(
                f"the teacher's {self.teacher.model.size.text()} cannot be compared with tuned"
                " models: its rate is not tuned"
            )
        if self.compared_budgets.get(self.student.model.size, self.label_steps) != self.label_steps:
            raise ValueError(
                f"sizes gives the student's {self.student.model.size.text()} another budget than"
                " label_steps"
            )

    @property
    def goes_beyond(self) -> bool:
        """Whether it has runs that the paper does not have."""
        return any(part is not None for part in (self.tree, self.first, self.equivalence))

    @property
    def has_disjoint_sets(self) -> bool:
        """Whether there are sets of as many coordinates as the support has that are disjoint from
        it, beside which claim C puts it."""
        return self.teacher.data.d >= 2 * self.teacher.data.k

    @property
    def compared_budgets(self) -> dict[Size, int]:
        """Steps on labels of every size of claim W, narrowest first."""
        return {self.student.model.size._replace(value=value): steps for value, steps in self.sizes}

    @property
    def label_budgets(self) -> dict[Size, int]:
        """Steps on labels of the student's size and of every size of claim W."""
        return {self.student.model.size: self.label_steps} | self.compared_budgets

    @property
    def label_runs(self) -> dict[Size, str]:
        """Which run trains on labels at each of these sizes, narrowest first: the teacher is one
        where its size is compared."""
        teacher = self.teacher.model.size
        return {
            size: "teacher" if size == teacher else f"student/ce-{size.tag}"
            for size in sorted(self.label_budgets)
        }


def _quick() -> Experiment:
    data = ParityData(d=32, k=6)
    budget = TrainingConfig(
        steps=6144, batch_size=32, eval_every=128, eval_examples=2048, seed=200, num_seeds=10
    )
    return Experiment(
        teacher=TrainConfig(
            data, MLPConfig(1000), OptimConfig((0.6,)), replace(budget, checkpoint_every=128)
        ),
        student=StudentConfig(
            data,
            MLPConfig(50),
            OptimConfig((0.6,)),
            replace(budget, stop_after=1.25),
            supervision=ScheduleConfig(interval=512, first_steps=2432, projection_steps=512),
        ),
        label_steps=65_536,
        sizes=((100, 32_768), (300, 16_384), (1000, 8192)),
        tuning=TuningConfig((0.2, 0.4, 0.6, 0.8), seed=1000, num_seeds=6),
        probe_examples=32_768,
        tree=TreeConfig(k=4, depth=3, steps=5120, eval_every=64),
        first=FirstCheckpointConfig(
            (-1536, -1024, -512, 0, 512, 1024, 1536),
            first_steps=2432,
            steps=6144,
            eval_every=128,
            num_seeds=10,
        ),
        equivalence=EquivalenceConfig(seed=2000, num_seeds=40),
    )


def _laptop() -> Experiment:
    data = ParityData(d=50, k=6)
    budget = TrainingConfig(
        steps=24_576, batch_size=64, eval_every=128, eval_examples=4096, seed=300, num_seeds=10
    )
    return Experiment(
        teacher=TrainConfig(
            data, MLPConfig(2000), OptimConfig((0.6,)), replace(budget, checkpoint_every=128)
        ),
        student=StudentConfig(
            data,
            MLPConfig(50),
            OptimConfig((0.5,)),
            replace(budget, stop_after=1.25),
            supervision=ScheduleConfig(interval=1024, first_steps=4096, projection_steps=1024),
        ),
        label_steps=196_608,
        sizes=((100, 131_072), (300, 65_536), (1000, 49_152)),
        tuning=TuningConfig((0.3, 0.5, 0.7, 1.0), seed=1000, num_seeds=8),
        probe_examples=16_384,
        first=FirstCheckpointConfig(
            (-3072, -2048, -1024, 0, 1024, 2048, 3072),
            first_steps=4096,
            steps=24_576,
            eval_every=128,
            num_seeds=10,
        ),
    )


def _paper() -> Experiment:
    data = ParityData(d=100, k=6)
    # A published transition takes 3 of these checkpoints; the ring keeps it at 5k steps, however
    # long after its start the coarse grid would see it.
    grid = TrainingConfig(
        steps=20_000_000,
        batch_size=1,
        eval_every=5_000,
        eval_examples=4096,
        checkpoint_every=100_000,
        stop_after=2.5,
        seed=0,
        num_seeds=1,
    )
    teacher = replace(grid, ring_every=5_000, ring_size=60)
    student = TrainingConfig(
        steps=20_000_000,
        batch_size=1,
        eval_every=100_000,
        eval_examples=4096,
        stop_after=2.5,
        seed=0,
        num_seeds=3,
    )
    return Experiment(
        teacher=TrainConfig(data, MLPConfig(50_000), OptimConfig((0.005,)), teacher),
        student=StudentConfig(
            data,
            MLPConfig(100),
            OptimConfig((0.01,), decay="cosine", warmup_fraction=0.06),
            student,
            supervision=ScheduleConfig(
                interval=100_000, first_steps=1_000_000, projection_steps=100_000
            ),
            teacher_seed=0,
            shared_stream=True,
        ),
        label_steps=20_000_000,
        sizes=((100, 20_000_000), (1000, 20_000_000), (50_000, 20_000_000)),
        tuning=None,
        probe_examples=40_000,
        first=FirstCheckpointConfig(
            (-200_000, -100_000, *range(-60_000, 70_000, 10_000), 100_000, 200_000),
            first_steps=400_000,
            steps=800_000,
            eval_every=20_000,
            num_seeds=1,
        ),
        short_steps=2_000_000,
        replicas=tuple(ReplicaConfig(seed, steps=20_000_000, stop_after=1.1) for seed in (1, 2)),
    )


def _gpt2(heads: int) -> GPT2Config:
    """A small GPT-2; from GPT-2's own narrow initial weights it would leave the plateau late."""
    return GPT2Config(heads, head_size=4, layers=1, init_std=0.2)


def _transformer_quick() -> Experiment:
    data = ParityData(d=16, k=4)
    budget = TrainingConfig(
        steps=9600, batch_size=32, eval_every=160, eval_examples=1024, seed=440, num_seeds=8
    )
    # At this rate the teacher's transition lasts some 500 updates. A student learns from a
    # checkpoint inside it that stays for some hundred updates, and not from a new one every 40.
    teacher = TrainConfig(
        data, _gpt2(16), OptimConfig((1e-4,), kind="adam"), replace(budget, checkpoint_every=160)
    )
    supervision = ScheduleConfig(interval=320, first_steps=1920, projection_steps=320)
    return Experiment(
        teacher=teacher,
        student=StudentConfig(
            data,
            _gpt2(4),
            OptimConfig((1e-3,), kind="adam"),
            replace(budget, stop_after=1.25),
            supervision=supervision,
            loss=DistillationLoss(labels="soft"),
        ),
        label_steps=24_000,  # enough to judge P whenever progressive learns within its budget
        sizes=((12, 8000), (18, 3200), (24, 3200)),
        tuning=None,
        probe_examples=4096,
        short_steps=3200,
    )


def _transformer_laptop() -> Experiment:
    quick = _transformer_quick()
    seeds = {"seed": 510, "num_seeds": 10}
    return replace(
        quick,
        teacher=replace(quick.teacher, training=replace(quick.teacher.training, **seeds)),
        student=replace(quick.student, training=replace(quick.student.training, **seeds)),
        label_steps=16_000,
        sizes=((12, 8000), (18, 4800), (24, 4000)),
        tuning=TuningConfig((5e-4, 1e-3, 2e-3, 4e-3), seed=1190, num_seeds=4, teacher=False),
        probe_examples=16_384,
        short_steps=4000,
    )


def _transformer_paper() -> Experiment:
    data = ParityData(d=100, k=6)
    # 8M examples; a checkpoint every 100k of them, as in the preset `paper`.
    budget = TrainingConfig(
        steps=250_000, batch_size=32, eval_every=3125, eval_examples=4096, seed=0, num_seeds=3
    )
    teacher = replace(budget, num_seeds=1, eval_every=625, checkpoint_every=3125)
    supervision = ScheduleConfig(interval=3125, first_steps=31_250, projection_steps=3125)
    return Experiment(
        teacher=TrainConfig(data, *TEACHER_DEFAULTS["transformer"], teacher),
        student=StudentConfig(
            data,
            *STUDENT_DEFAULTS["transformer"],
            budget,
            supervision=supervision,
            teacher_seed=0,
        ),
        label_steps=250_000,
        sizes=((4, 250_000), (8, 250_000), (32, 250_000)),
        tuning=None,
        probe_examples=100_000,
    )


QUICK_NOTE = (
    "d=32, k=6, width 1000 to 50, batch 32, hard labels, 10 seeds; every learning rate chosen on 6"
    " other seeds. Judges six claims in 4 to 5 minutes on two slow CPU cores; with --beyond F as"
    " well, and hierarchical parity beside it. Command: python -m parity.experiment --preset quick."
    " Results: results/parity/quick."
)
LAPTOP_NOTE = (
    "d=50, k=6, width 2000 to 50, batch 64, hard labels, 10 seeds; every learning rate chosen on 8"
    " other seeds. The same claims on a harder problem, in 54 minutes on two busy CPU cores."
    " Command: python -m parity.experiment --preset laptop. Results: results/parity/laptop."
)
PAPER_NOTE = (
    "The published hyper-parameters: d=100, k=6, width 50,000 to 100, batch 1, learning rate 0.005"
    " (teacher, constant) and 0.01 (students, cosine with 6% warm-up), 20M steps (two-shot and"
    " projections 2M) or 2.5 times those by which a run has learnt; a checkpoint every 100k, and"
    " every 5k through the teacher's transition; two more teachers, which end at 1.1 times that,"
    " for the sweep over first checkpoints. The seeds of the students share one stream of examples,"
    " so the teacher answers once for all. Some twelve hours on two CPU cores. Command: python -m"
    " parity.experiment --preset paper. Results: results/parity/paper."
)
TRANSFORMER_QUICK_NOTE = (
    "GPT-2 of one layer, initial weights wide for its width, d=16, k=4, 16 heads of size 4 to 4,"
    " batch 32, soft labels, 8 seeds. No sweep: the students' rate, the interval, the first stage"
    " and the budgets were chosen on seeds 1180 to 1187, the teacher's rate so low that its"
    " transition lasts some hundred updates. The fourth setting; results/README.md tells of the"
    " first three. 5 minutes on two CPU cores. Command: python -m parity.experiment --preset"
    " transformer-quick. Results: results/parity/transformer-quick."
)
TRANSFORMER_LAPTOP_NOTE = (
    "transformer-quick with 10 seeds, every student's rate chosen from four on 4 others, labels and"
    " one-shot of 512k examples, 2-shot and projections of 128k. 14 minutes on two CPU cores."
    " Command: python -m parity.experiment --preset transformer-laptop. Results:"
    " results/parity/transformer-laptop."
)
TRANSFORMER_PAPER_NOTE = (
    "The published hyper-parameters: GPT-2 of two layers with 32 heads of size 8 to 4, d=100, k=6,"
    " dropout 0.1, Adam, batch 32, learning rate 3e-4 (teacher) and 1e-4 (students), 6% warm-up and"
    " cosine over 250k updates (8M examples; the published rate only rises: --compat authors), a"
    " checkpoint every 100k examples; activations in bfloat16 on an accelerator. Not run yet: the"
    " teacher alone takes 8e15 operations, a GPU's work. Command: python -m parity.experiment"
    " --preset transformer-paper."
)
PRESETS: dict[str, Preset[Experiment]] = {
    "quick": Preset("quick", QUICK_NOTE, _quick()),
    "laptop": Preset("laptop", LAPTOP_NOTE, _laptop()),
    "paper": Preset("paper", PAPER_NOTE, _paper()),
    "transformer-quick": Preset("transformer-quick", TRANSFORMER_QUICK_NOTE, _transformer_quick()),
    "transformer-laptop": Preset(
        "transformer-laptop", TRANSFORMER_LAPTOP_NOTE, _transformer_laptop()
    ),
    "transformer-paper": Preset("transformer-paper", TRANSFORMER_PAPER_NOTE, _transformer_paper()),
}
