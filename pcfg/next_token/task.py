"""Prediction of the next token as a task: its data, its models, what a run needs."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from common.base.errors import UserError
from common.base.keys import purpose_key
from common.judge.transition import DetectorConfig, Watch
from common.nn.functional import Batch, Functional, Inputs, Params
from common.nn.generate import Sampling, gpt2_generator
from common.nn.gpt2 import functional_gpt2, gpt2_flops
from common.runs.directory import RunDirectory
from common.sequence.next_token_batches import next_token_batch
from common.train.problem import Data, Generate, Task
from common.train.speed import Work, training_work
from pcfg.data import PCFGData, refuse_other_sentences
from pcfg.next_token.config import NextTokenModel, StudentConfig, TrainConfig
from pcfg.next_token.data import NextTokenConfig, depth_of, eval_batch, num_asked, sample
from pcfg.ngrams import last_tokens_optimum
from pcfg.sampler import Sampler, make_sampler
from pcfg.task import PRODUCTS_ALONE

PLATEAU_TOKENS = 1
"""The plateau that is known beforehand is that of the best model of so many last tokens."""
BEGIN, DONE = 0.06, 0.5
"""Shares of the plateau's loss that are gone when the drop begins, and when it is done."""


@dataclass(frozen=True)
class NextTokens(Task):
    """Sentences are drawn from keys by the sampler of a grammar, whose tables are small, so that
    there are no data to pass on."""

    problem: PCFGData
    config: NextTokenConfig
    depth: int
    """The supervised level, as one of the sampler's grammar."""
    sampler: Sampler
    """Of the grammar as it is now: a file of the same name may have had others."""
    is_generated: bool = False
    """Whether students learn sentences of their teacher's."""

    @property
    def on_cpu(self) -> Mapping[str, Any]:
        """As for masked sentences, whose models have the same parts."""
        return PRODUCTS_ALONE

    @property
    def selected_by(self) -> str:
        """Which tokens are supervised, as on the command line; every one, if it is not said."""
        return "" if self.config.level is None else f"--supervised.level {self.config.level}"

    def sample(self, data: Data, key: jax.Array, num_examples: int) -> Batch:
        """Sentences and which of their tokens are predicted."""
        return sample(key, self.config, self.depth, self.sampler, num_examples)

    def evaluation(self, data: Data, num_examples: int) -> Batch:
        """From a stream that training never uses."""
        return eval_batch(self.problem, self.config, self.depth, self.sampler, num_examples)

    def model(self, config: NextTokenModel) -> Functional:
        """See `model_of`."""
        return model_of(config, self.config, self.sampler)

    def generator(self, teacher_model: NextTokenModel) -> Generate | None:
        """Sentences of the teacher's, where they are asked for: every token of them is predicted,
        and the end. One that has not ended after as many tokens as a model reads is cut off."""
        if not self.is_generated:
            return None
        vocabulary, length = self.sampler.vocabulary, length_of(self.config, self.sampler)
        allowed = (*vocabulary.terminal_ids, vocabulary.eos)
        rule = Sampling(vocabulary.bos, vocabulary.eos, vocabulary.pad, allowed, length)
        num_ids = ids_of(teacher_model, self.sampler)
        sequences = gpt2_generator(teacher_model, num_ids, teacher_model.positions or length, rule)

        def generate(params: Params, key: jax.Array, num_examples: int) -> Batch:
            tokens_BxT = sequences(params, purpose_key(key, "generations"), num_examples)
            return next_token_batch(tokens_BxT, tokens_BxT != vocabulary.pad)

        return generate

    def work(self, model: NextTokenModel, teacher_model: NextTokenModel | None) -> Work:
        """Of products alone, padding included. To generate a sentence, a teacher computes the
        logits at every position once, as for an answer."""
        length = length_of(self.config, self.sampler)
        asked = num_asked(self.config, self.depth, self.sampler) or length

        def flops(config: NextTokenModel) -> float:
            return gpt2_flops(config, ids_of(config, self.sampler), length, asked)

        of_teacher = 0.0 if teacher_model is None else flops(teacher_model)
        return training_work(flops(model), of_teacher, length)

    def mean(self, losses: jax.Array, inputs: Inputs) -> jax.Array:
        """Over all tokens but padding."""
        is_token_BxT = inputs.tokens_BxT != self.sampler.vocabulary.pad
        num_tokens = jnp.sum(is_token_BxT, dtype=jnp.float32)
        return jnp.sum(losses * is_token_BxT) / jnp.maximum(num_tokens, 1)


def task_of(config: TrainConfig) -> NextTokens:
    """What a run learns.

    Raises:
        UserError: the supervised level is none of the sentences'.
    """
    grammar = config.data.load()
    depth = depth_of(config.supervised, config.data, grammar)
    is_generated = isinstance(config, StudentConfig) and config.sentences == "teacher"
    sampler = make_sampler(grammar)
    return NextTokens(config.data, config.supervised, depth, sampler, is_generated)


def functional_model(config: TrainConfig, sampler: Sampler) -> Functional:
    """The configured model; see `model_of`."""
    return model_of(config.model, config.supervised, sampler)


def model_of(model: NextTokenModel, supervised: NextTokenConfig, sampler: Sampler) -> Functional:
    """A model of a grammar's sentences; `apply` takes `TokenInputs` to logits `(B, P, V)` over all
    token ids.

    Raises:
        UserError: sentences have more tokens than the model has positions, or the grammar more ids
            than the model.
    """
    length, num_ids = length_of(supervised, sampler), ids_of(model, sampler)
    if model.positions is not None and model.positions < length:
        raise UserError(
            f"--model.positions {model.positions}: the longest sentence takes {length}, BOS among"
            " them; give at least as many, or None"
        )
    if num_ids < sampler.vocabulary.size:
        raise UserError(
            f"--model.vocabulary {num_ids}: the grammar has {sampler.vocabulary.size} token ids;"
            " give at least as many, or None"
        )
    return functional_gpt2(model, num_ids, model.positions or length, num_ids)


def length_of(supervised: NextTokenConfig, sampler: Sampler) -> int:
    """Tokens that a model reads of the longest sentence, BOS among them: all but the last one that
    is predicted."""
    return sampler.longest + 1 if supervised.predicts_end else sampler.longest


def ids_of(model: NextTokenModel, sampler: Sampler) -> int:
    """How many token ids a model has."""
    return model.vocabulary or sampler.vocabulary.size


def check_teacher(student: StudentConfig, teacher: TrainConfig, run: RunDirectory) -> None:
    """Raise a UserError unless a teacher has learnt to predict, of the same sentences, the tokens
    that its student is to predict."""
    refuse_other_sentences(run, teacher.data, student.data)
    of_teacher, of_student = task_of(teacher), task_of(student)
    if of_teacher.depth != of_student.depth:
        theirs, ours = (task.config.tokens for task in (of_teacher, of_student))
        raise UserError(
            f"the teacher {run.path} has learnt to predict {theirs}, the student is to predict"
            f" {ours}; give both the same --supervised.level, so that the teacher is asked for"
            " tokens of the kind it knows"
        )
    if teacher.supervised.predicts_end != student.supervised.predicts_end:
        theirs, ours = ("", "not ") if teacher.supervised.predicts_end else ("not ", "")
        raise UserError(
            f"the teacher {run.path} has {theirs}learnt to predict the end of sentences, the"
            f" student is {ours}to predict it; give both --supervised.predicts-end, or both"
            " --supervised.no-predicts-end"
        )
    theirs, ours = (ids_of(config.model, of_student.sampler) for config in (teacher, student))
    if theirs != ours:
        raise UserError(
            f"the teacher {run.path} predicts {theirs:,} token ids, the student {ours:,}; give both"
            " the same --model.vocabulary (or --compat)"
        )


@functools.cache
def plateau_of(data: PCFGData, supervised: NextTokenConfig) -> float:
    """The loss of the best model of the last `PLATEAU_TOKENS` tokens, nats."""
    grammar = data.load()
    depth = depth_of(supervised, data, grammar)
    optimum = last_tokens_optimum(grammar, PLATEAU_TOKENS, depth, supervised.predicts_end)
    return optimum.cross_entropy


def watch_of(config: TrainConfig | StudentConfig) -> Watch:
    """What to watch while a run trains: the loss on held-out sentences, from the plateau's to its
    half."""
    if not config.training.watches:
        return Watch()  # for grammars of many terminals the plateau is costly
    plateau = plateau_of(config.data, config.supervised)
    thresholds = DetectorConfig(plateau, 0.0, begin=BEGIN, enter=BEGIN, leave=DONE, done=DONE)
    return Watch("eval_loss", thresholds)
