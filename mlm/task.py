"""Masked prediction on text as a task: its data, its models, what a step costs."""

import functools
from dataclasses import dataclass

import jax

from common.nn.bert import BERTConfig, bert_flops, functional_bert
from common.nn.functional import Batch, Functional, Inputs
from common.sequence.masked_batches import visible_mean
from common.sequence.masking import CountedMaskingConfig
from common.train.problem import Data, Part, Task
from common.train.speed import Work, training_work
from mlm.data import Text, TextConfig, TextData, data_of, eval_batch, num_asked, sample
from mlm.rows import RowTable


@dataclass(frozen=True)
class MaskedText(Task):
    """Rows of a prepared corpus. Its tokens lie on the devices where they have room for them, else
    in the shards."""

    config: TextConfig
    masking: CountedMaskingConfig
    text: Text
    """The corpus as it is now: one of the same name may have had other tokens."""

    def data(self) -> TextData:
        """The vocabulary, and what is not trained on."""
        return data_of(self.text)

    def stored(self) -> RowTable:
        """The training rows."""
        return self.text.train

    def with_stored(self, data: TextData, part: Part) -> TextData:
        """With training rows."""
        return data._replace(train=part)

    def sample(self, data: Data, key: jax.Array, num_examples: int) -> Batch:
        """Masked rows."""
        return sample(data, key, self.text, self.masking, num_examples)

    def evaluation(self, data: Data, num_examples: int) -> Batch:
        """Of other documents."""
        return eval_batch(data, self.text, self.masking, self.config.seed, num_examples)

    def model(self, config: BERTConfig) -> Functional:
        """`apply` takes `TokenInputs` to logits `(B, P, V)`."""
        return functional_bert(config, self.text.vocabulary.size, self.text.length)

    def work(self, model: BERTConfig, teacher_model: BERTConfig | None) -> Work:
        """Of products alone, padding included."""
        length = self.text.length
        flops = functools.partial(
            bert_flops,
            vocabulary=self.text.vocabulary.size,
            length=length,
            num_asked=num_asked(length, self.masking),
        )
        of_teacher = 0.0 if teacher_model is None else flops(teacher_model)
        return training_work(flops(model), of_teacher, length)

    def mean(self, losses: jax.Array, inputs: Inputs) -> jax.Array:
        """Over the positions that are seen."""
        return visible_mean(losses, inputs)


def task_of(config: TextConfig, masking: CountedMaskingConfig) -> MaskedText:
    """What a run on these rows learns."""
    return MaskedText(config, masking, config.load())
