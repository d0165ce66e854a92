"""Sentences of a grammar for prediction of the next token, and which of their tokens are predicted.

A sentence is BOS and terminals, and EOS where the end is predicted too. Supervised is every
terminal, or the last one below each symbol of one level (a boundary). The last terminal below a
symbol is the last one below its last child, so that the boundaries of a level are among those of
the next. Published: levels 1 to 3 of cfg3f, without EOS.
"""

from typing import Annotated

import jax
from pydantic import Field

from common.base.config import configuration
from common.base.errors import UserError
from common.base.keys import purpose_key, seed_key
from common.nn.functional import Batch
from common.sequence.next_token_batches import next_token_batch
from pcfg.data import PCFGData
from pcfg.grammar import Grammar
from pcfg.sampler import Sampler, Sentences

FEW = 0.5
"""Share of a sentence's tokens below which only their logits are computed."""


@configuration
class NextTokenConfig:
    """What is predicted of a sentence."""

    level: Annotated[int, Field(ge=0)] | None = None
    """Only the last token below each symbol of this level, counted from the start of the whole
    grammar, whose start symbol is level 0; None: every token."""
    predicts_end: bool = False
    """Whether EOS is predicted as well."""

    @property
    def tokens(self) -> str:
        """Which terminals are predicted, in words."""
        if self.level is None:
            return "every token"
        return f"the last token below each symbol of level {self.level}"


def depth_of(config: NextTokenConfig, data: PCFGData, grammar: Grammar) -> int:
    """The supervised level as a level of the grammar that a run's sentences are drawn from.

    Args:
        config: what is predicted.
        data: the sentences.
        grammar: `data.load()`.

    Raises:
        UserError: the level lies above the sentences, below the terminals, or is that of the start.
    """
    first = data.first_level
    last = first + grammar.depth
    if config.level is None:
        return grammar.depth
    if first < config.level <= last:
        return config.level - first
    why = f"--supervised.level {config.level}: sentences of {grammar.name}"
    if config.level == first:
        raise UserError(
            f"{why} end once below level {first}, so that one token of each would be predicted;"
            f" every token is level {last}, or None"
        )
    raise UserError(
        f"{why} have the levels {first + 1} to {last}, the last of which is every token; choose one"
        " of them"
    )


def supervised(
    config: NextTokenConfig, depth: int, sampler: Sampler, sentences: Sentences
) -> jax.Array:
    """Which tokens are predicted, `(B, T)`.

    Args:
        config: what is predicted.
        depth: `depth_of` it.
        sampler: that of the sentences.
        sentences: as they were drawn.
    """
    vocabulary, tokens_BxT = sampler.vocabulary, sentences.tokens_BxT
    if is_every_token(depth, sampler):
        asked_BxT = vocabulary.is_terminal(tokens_BxT)
    else:
        asked_BxT = sentences.ends_BxTxD[:, :, depth]
    return asked_BxT | (tokens_BxT == vocabulary.eos) if config.predicts_end else asked_BxT


def is_every_token(depth: int, sampler: Sampler) -> bool:
    """Whether every token is one of the level, that of the terminals."""
    return depth == len(sampler.tables)


def num_asked(config: NextTokenConfig, depth: int, sampler: Sampler) -> int | None:
    """The most tokens that are supervised in a sentence; None if they are so many of them that
    logits at every position cost no more."""
    if is_every_token(depth, sampler):
        return None
    most = sampler.tables[depth].width + (1 if config.predicts_end else 0)
    return most if most < FEW * sampler.longest else None


def sample(
    key: jax.Array, config: NextTokenConfig, depth: int, sampler: Sampler, num_sentences: int
) -> Batch:
    """Draw sentences: all tokens but the last as inputs, the next one as labels, and which of them
    are predicted.

    Inputs are `(B, T)`, with T the length of the longest sentence, or one more with EOS. Labels and
    mask are so as well, or `(B, P)` where few tokens are predicted (`num_asked`).
    """
    sentences = _sentences(key, sampler, num_sentences)
    asked_BxT = supervised(config, depth, sampler, sentences)
    num_tokens = sampler.longest + (2 if config.predicts_end else 1)
    tokens_BxT, asked_BxT = sentences.tokens_BxT[:, :num_tokens], asked_BxT[:, :num_tokens]
    return next_token_batch(tokens_BxT, asked_BxT, num_asked(config, depth, sampler))


def eval_batch(
    data: PCFGData, config: NextTokenConfig, depth: int, sampler: Sampler, num_sentences: int
) -> Batch:
    """The fixed evaluation set: the same for all runs on these data, from a stream that training
    never uses."""
    return sample(_eval_key(data), config, depth, sampler, num_sentences)


def eval_sentences(data: PCFGData, sampler: Sampler, num_sentences: int) -> Sentences:
    """The first sentences of the evaluation set, with their derivations."""
    return _sentences(_eval_key(data), sampler, num_sentences)


def _eval_key(data: PCFGData) -> jax.Array:
    return seed_key(data.seed, "evaluation")


def _sentences(key: jax.Array, sampler: Sampler, num_sentences: int) -> Sentences:
    return sampler.sample(purpose_key(key, "sentences"), num_sentences)


def expected_symbols(grammar: Grammar) -> tuple[float, ...]:
    """The expected number of symbols of each level in a derivation, from the start's, one, to the
    terminals': by how many tokens a sentence is supervised at that level."""
    expected = dict.fromkeys(grammar.levels[0], 1 / len(grammar.levels[0]))
    numbers = [1.0]
    for level in range(grammar.depth):
        below = dict.fromkeys(grammar.levels[level + 1], 0.0)
        for symbol in grammar.levels[level]:
            for rule in grammar.rules[symbol]:
                for child in rule.children:
                    below[child] += expected[symbol] * rule.probability
        expected = below
        numbers.append(sum(expected.values()))
    return tuple(numbers)
