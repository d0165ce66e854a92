"""Classification of sentences as a task: its data, its models, what a run needs."""

from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from common.base.errors import UserError
from common.judge.transition import Watch
from common.nn.blocks import blocks_flops
from common.nn.functional import Batch, Functional, Inputs, Params
from common.nn.truncated import truncated
from common.runs.directory import RunDirectory
from common.runs.files import file_hash
from common.sequence.masked_batches import visible_mean
from common.train.problem import Data, Task
from common.train.speed import Work, training_work
from mlm.relay.config import StudentConfig, TrainConfig
from mlm.relay.data import Rows, SentenceConfig, Sentences, eval_batch, sample
from mlm.relay.model import ClassifierModel, model_of
from mlm.relay.start import Start, body_of, encoder_of, refuse_other_tokenizer, start_of


@dataclass(frozen=True)
class Classification(Task):
    """Sentences of a few classes, which are so few that devices hold them all."""

    config: SentenceConfig
    sentences: Sentences
    """As they are now: files of the same names may have had others."""
    begins: Start | None
    """The weights that models begin with."""

    def data(self) -> tuple[Rows, Rows]:
        """What is trained on, and what is not."""
        return self.sentences.train, self.sentences.validation

    def sample(self, data: Data, key: jax.Array, num_examples: int) -> Batch:
        """Of one bucket."""
        return sample(data[0], key, self.sentences.stops, num_examples)

    def evaluation(self, data: Data, num_examples: int) -> Batch:
        """Sentences that are not trained on."""
        return eval_batch(data[1], num_examples)

    def model(self, config: ClassifierModel) -> Functional:
        """See `model_of`; it reads no more padding than a bucket has."""
        sentences = self.sentences
        model = model_of(config, sentences.vocabulary.size, self.width, len(sentences.labels))
        return truncated(model, sorted({*sentences.bounds, self.width}))

    def start(self, config: ClassifierModel) -> Params | None:
        """The weights of a trained encoder, where they are asked for."""
        if self.begins is None:
            return None
        model = jax.eval_shape(self.model(config).init, jax.random.key(0))
        return body_of(encoder_of(self.begins), config, model, self.begins)

    def work(self, model: ClassifierModel, teacher_model: ClassifierModel | None) -> Work:
        """Of products alone, with the padding of buckets."""
        sizes = np.diff([0, *self.sentences.stops]) / self.sentences.stops[-1]

        def flops(config: ClassifierModel) -> float:
            each = [blocks_flops(config, bound, 1) for bound in self.sentences.bounds]
            return float(sizes @ each)

        tokens = round(float(sizes @ self.sentences.bounds))
        of_teacher = 0.0 if teacher_model is None else flops(teacher_model)
        return training_work(flops(model), of_teacher, tokens)

    def mean(self, losses: jax.Array, inputs: Inputs) -> jax.Array:
        """Over all tokens but padding."""
        return visible_mean(losses, inputs)

    @property
    def width(self) -> int:
        """T."""
        return self.sentences.train.tokens_NxT.shape[1]


def task_of(config: TrainConfig) -> Classification:
    """What a run learns.

    Raises:
        UserError: sentences or weights cannot be had, or are of two tokenisers.
    """
    begins = start_of(config.start)
    if begins is not None:
        refuse_other_tokenizer(begins, config.data.tokenizer_file)
    return Classification(config.data, config.data.load(), begins)


def identity_of(config: TrainConfig) -> dict[str, Any]:
    """What identifies a run besides its configuration."""
    sentences, begins = config.data.load(), start_of(config.start)
    return {
        "sentences": sentences.hash,
        "labels": list(sentences.labels),
        "tokenizer": file_hash(config.data.tokenizer_file),
        "start": None if begins is None else begins.hash,
    }


def provenance_of(config: TrainConfig) -> dict[str, Any]:
    """What is recorded of a run besides."""
    return {"counts": config.data.load().counts}


def check_teacher(
    student: StudentConfig, teacher: TrainConfig | StudentConfig, run: RunDirectory
) -> None:
    """Raise a UserError unless a teacher tells the same classes of the same sentences apart."""
    ours = student.data.load()
    theirs = run.record["labels"]
    if theirs != list(ours.labels):
        raise UserError(
            f"the teacher {run.path} tells {', '.join(theirs)} apart, in this order, the student"
            f" {', '.join(ours.labels)}; give both the same sentences"
        )
    if run.record["sentences"] != ours.hash:
        raise UserError(
            f"the teacher {run.path} has learnt other sentences than {student.data.train}, or"
            " through another tokeniser, and some of them may be what its student is evaluated on;"
            f" give both the same --data.* (it has {teacher.data.train}, {teacher.data.tokenizer})"
        )


def watch_of(config: TrainConfig) -> Watch:
    """The accuracy."""
    return Watch()
