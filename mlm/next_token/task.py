"""Prediction of the next token of text as a task: its data, its models, what a step costs."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from common.base.errors import UserError
from common.judge.transition import Watch
from common.nn.functional import Batch, Functional, Inputs
from common.runs.directory import RunDirectory
from common.train.problem import Data, Part, Task
from common.train.speed import Work, training_work
from mlm.next_token.config import LoadedConfig, StudentConfig, TrainConfig
from mlm.next_token.data import NextTextConfig, NextTextData, data_of, eval_batch, sample
from mlm.next_token.model import NextTextModel, model_flops, model_of
from mlm.rows import RowTable
from mlm.task import nothing_watched, refuse_longer_rows, refuse_other_text
from mlm.text import Text


@dataclass(frozen=True)
class NextText(Task):
    """Rows of a prepared corpus. Its tokens lie on the devices where they have room for them, else
    in the shards."""

    config: NextTextConfig
    text: Text
    """The corpus as it is now: one of the same name may have had other tokens."""

    def data(self) -> NextTextData:
        """The vocabulary, and what is not trained on."""
        return data_of(self.text)

    def stored(self) -> RowTable:
        """The training rows."""
        return self.text.train

    def with_stored(self, data: NextTextData, part: Part) -> NextTextData:
        """With training rows."""
        return data._replace(train=part)

    def sample(self, data: Data, key: jax.Array, num_examples: int) -> Batch:
        """Rows, and which of their tokens are predicted."""
        return sample(data, key, self.text, num_examples)

    def evaluation(self, data: Data, num_examples: int) -> Batch:
        """Of other documents."""
        return eval_batch(data, self.text, self.config.seed, num_examples)

    def model(self, config: NextTextModel) -> Functional:
        """See `model_of`."""
        return model_of(config, self.text.vocabulary.size, self.text.length)

    def work(self, model: NextTextModel, teacher_model: NextTextModel | None) -> Work:
        """Of products alone, padding included."""
        size, num_read = self.text.vocabulary.size, self.text.length - 1
        of_teacher = 0.0 if teacher_model is None else model_flops(teacher_model, size, num_read)
        return training_work(model_flops(model, size, num_read), of_teacher, num_read)

    def mean(self, losses: jax.Array, inputs: Inputs) -> jax.Array:
        """Over all tokens but padding, of which the first one of a row, where it is the same, is
        not."""
        is_token_BxT = inputs.tokens_BxT != self.text.frame.pad
        is_token_BxT = is_token_BxT.at[:, 0].set(True)
        return jnp.sum(losses * is_token_BxT) / jnp.sum(is_token_BxT, dtype=jnp.float32)


def task_of(config: NextTextConfig) -> NextText:
    """What a run on these rows learns."""
    return NextText(config, config.load())


def check_teacher(
    student: StudentConfig, teacher: TrainConfig | LoadedConfig, run: RunDirectory
) -> None:
    """Raise a UserError unless a teacher reads what its student is to read, and predicts the ids
    that it does."""
    refuse_other_text(student.data, teacher.data, run, teacher.model.is_of_one_length)
    refuse_longer_rows(run, teacher.model.positions, student.data.length - 1)
    is_alike = teacher.model.architecture == student.model.architecture
    if student.schedule == "projections" and not is_alike:
        raise UserError(
            "--schedule projections pairs the hidden layers of student and teacher, which"
            f" must be of one kind: the student's model is {student.model.architecture}, the"
            f" teacher's {teacher.model.architecture}"
        )
    size = student.data.load().vocabulary.size
    theirs, ours = (config.model.num_ids(size) for config in (teacher, student))
    if theirs != ours:
        raise UserError(
            f"the teacher {run.path} predicts {theirs:,} token ids, the student {ours:,}; give"
            f" --model.vocabulary {theirs}"
        )


def watch_of(config: TrainConfig | StudentConfig) -> Watch:
    """Nothing is watched while a run trains; see `mlm.task.nothing_watched`."""
    return nothing_watched(config.training)
