"""What every student's configuration says about its supervision, whatever is learnt."""

from dataclasses import KW_ONLY
from typing import Protocol

from common.base.config import Seed, configuration
from common.judge.transition import Detector
from common.train.losses import DistillationLoss
from common.train.problem import Trains
from common.train.schedule import ScheduleConfig, ScheduleName


@configuration
class StudentSettings:
    """A student under a supervision schedule. An experiment's configuration of a student is one of
    its teachers' with these fields and a `detector`, which finds the teacher's transition."""

    _: KW_ONLY
    schedule: ScheduleName = "progressive"
    """Which teacher checkpoint supervises which student step."""
    supervision: ScheduleConfig = ScheduleConfig()
    loss: DistillationLoss = DistillationLoss()
    teacher_seed: Seed | None = None
    """The teacher lane that teaches every student; without it student and teacher are paired by
    equal seeds."""
    shared_stream: bool = False
    """All seeds see the same examples, so that one teacher (--teacher-seed) answers once for all;
    they differ in their initial weights only."""


class Student(Trains, Protocol):
    """A configuration with the fields of `StudentSettings`, as this room reads it."""

    @property
    def schedule(self) -> ScheduleName:
        """Which schedule."""
        ...

    @property
    def supervision(self) -> ScheduleConfig:
        """Its parameters."""
        ...

    @property
    def loss(self) -> DistillationLoss:
        """What is learnt from the teacher."""
        ...

    @property
    def detector(self) -> Detector:
        """Finds the teacher's transition."""
        ...

    @property
    def teacher_seed(self) -> int | None:
        """The teacher lane of all students; None pairs equal seeds."""
        ...

    @property
    def shared_stream(self) -> bool:
        """All seeds see the same examples, about which a teacher is asked once."""
        ...
