"""Masked prediction on sentences of a grammar as a task: its data, its models, what a run needs."""

import functools
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import jax

from common.base.errors import UserError
from common.nn.bert import BERTConfig, bert_flops, functional_bert
from common.nn.functional import Batch, Functional, Inputs
from common.runs.directory import RunDirectory
from common.sequence.masked_batches import visible_mean
from common.sequence.masking import MaskingConfig
from common.train.problem import Data, Task
from common.train.speed import Work, training_work
from pcfg.config import StudentConfig, TrainConfig
from pcfg.data import PCFGData, eval_batch, refuse_other_sentences, sample
from pcfg.sampler import Sampler, make_sampler

PRODUCTS_ALONE = {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT"}
"""What YNNPACK, the CPU compiler's library, is given: it is slow in sums over one axis, which by
default it is given too."""


@dataclass(frozen=True)
class MaskedSentences(Task):
    """Sentences are drawn from keys by the sampler of a grammar, whose tables are small, so that
    there are no data to pass on."""

    problem: PCFGData
    masking: MaskingConfig
    sampler: Sampler
    """Of the grammar as it is now: a file of the same name may have had others."""

    @property
    def on_cpu(self) -> Mapping[str, Any]:
        """These models take four fifths of the time."""
        return PRODUCTS_ALONE

    @property
    def selected_by(self) -> str:
        """How many tokens are supervised, as on the command line."""
        return f"--masking.fraction {self.masking.fraction:g}"

    def sample(self, data: Data, key: jax.Array, num_examples: int) -> Batch:
        """Masked sentences."""
        return sample(key, self.sampler, self.masking, num_examples)

    def evaluation(self, data: Data, num_examples: int) -> Batch:
        """From a stream that training never uses."""
        return eval_batch(self.problem, self.sampler, self.masking, num_examples)

    def model(self, config: BERTConfig) -> Functional:
        """See `model_of`."""
        return model_of(config, self.sampler)

    def work(self, model: BERTConfig, teacher_model: BERTConfig | None) -> Work:
        """Of products alone, padding included."""
        vocabulary, length = self.sampler.vocabulary.size, self.sampler.longest + 2
        flops = functools.partial(
            bert_flops, vocabulary=vocabulary, length=length, num_asked=length
        )
        of_teacher = 0.0 if teacher_model is None else flops(teacher_model)
        return training_work(flops(model), of_teacher, length)

    def mean(self, losses: jax.Array, inputs: Inputs) -> jax.Array:
        """Over the positions that are seen; zero where none is."""
        return visible_mean(losses, inputs)


def task_of(config: TrainConfig) -> MaskedSentences:
    """What a run learns."""
    return MaskedSentences(config.data, config.masking, make_sampler(config.data.load()))


def functional_model(config: TrainConfig, sampler: Sampler) -> Functional:
    """The configured model; see `model_of`."""
    return model_of(config.model, sampler)


def model_of(model: BERTConfig, sampler: Sampler) -> Functional:
    """A model of a grammar's sentences; `apply` takes `TokenInputs` to logits `(B, T, V)` over all
    token ids."""
    size = sampler.vocabulary.size
    return functional_bert(model, size, sampler.longest + 2)


def check_teacher(student: StudentConfig, teacher: TrainConfig, run: RunDirectory) -> None:
    """Raise a UserError unless a teacher has learnt the sentences that its student is to see,
    masked in the same way."""
    refuse_other_sentences(run, teacher.data, student.data)
    for name, theirs in asdict(teacher.masking).items():
        ours = getattr(student.masking, name)
        if theirs != ours:
            flag = f"--masking.{name.replace('_', '-')}"
            raise UserError(
                f"the teacher {run.path} learnt with {flag} {theirs}, the student is to learn with"
                f" {ours}; give both the same {flag}, so that the teacher is asked about inputs of"
                " the kind it knows"
            )
