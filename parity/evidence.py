"""What claims are judged from: the run files of one experiment."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from common.base.size import Size
from common.judge.stats import Estimate, median, ratio_of_medians
from common.judge.verdict import within
from common.runs.directory import RunDirectory, finished_run
from common.runs.tuning import learning_times
from parity.presets import Experiment

GAIN = 2.5
"""Claims P and E: labels need at least so many times the examples of a curriculum."""


@dataclass
class Evidence:
    """The learning times of an experiment's runs, read once."""

    home: Path
    experiment: Experiment
    times: dict[str, list[float]] = field(default_factory=dict)

    def run(self, name: str) -> RunDirectory:
        """One run of the experiment.

        Raises:
            UserError: it is missing or unfinished: a seed that is still training has not failed to
                learn.
        """
        return finished_run(self.home / name)

    def t90(self, name: str) -> list[float]:
        """t90 of every seed of a run, in examples."""
        if name not in self.times:
            self.times[name] = learning_times(self.run(name))
        return self.times[name]

    def label_run(self, size: Size) -> str:
        """The run that trained on labels at this size."""
        return self.experiment.label_runs[size]

    def student_labels(self) -> list[float]:
        """t90 of the student's model on labels."""
        return self.t90(self.label_run(self.experiment.student.model.size))

    def gain_over_labels(self, student: str) -> tuple[Estimate, bool | None]:
        """How many times the examples of a student its model needs on labels, and whether that is
        at least `GAIN`.

        None if it cannot be told: labels have not learnt in their budget, which is smaller than
        that.
        """
        gain = ratio_of_medians(self.t90(student), self.student_labels())
        budget = self.experiment.label_steps * self.experiment.student.training.batch_size
        if math.isinf(gain.value) and budget < GAIN * median(self.t90(student)):
            return gain, None
        return gain, within(gain, low=GAIN)


def mostly_uncensored(times: Sequence[float]) -> bool:
    """Whether at least 80% of the seeds learnt."""
    return bool(np.isfinite(times).mean() >= 0.8)
