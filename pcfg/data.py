"""Masked sentences of a grammar: the data of the experiment (paper section 4)."""

import hashlib

import jax

from common.base.config import NonNegativeInt, Seed, configuration
from common.base.errors import UserError
from common.base.keys import purpose_key, seed_key
from common.nn.functional import Batch
from common.runs.directory import RunDirectory
from common.sequence.masked_batches import masked_batch
from common.sequence.masking import MaskingConfig, mask_tokens
from pcfg.grammar import Grammar, load
from pcfg.sampler import Sampler


@configuration
class PCFGData:
    """The sentences of one grammar, or of a part of it."""

    grammar: str = "cfg3b"
    """A shipped grammar (cfg3b, cfg3b_original, cfg3f, cfg3g, cfg3h, cfg3i), or the path of a file
    of your own."""
    start_level: NonNegativeInt = 0
    """Sentences begin so many levels below the grammar's start, at any symbol of that level; every
    level makes them shorter."""
    start_symbol: str | None = None
    """Begin at this non-terminal instead."""
    seed: Seed = 0
    """Of the evaluation set."""

    def __post_init__(self) -> None:
        if self.start_level and self.start_symbol is not None:
            raise ValueError("give data.start_level or data.start_symbol, not both")

    def load(self) -> Grammar:
        """The grammar.

        Raises:
            UserError: it is missing or malformed, or has no such level or symbol.
        """
        return load(self.grammar).entered_at(self.start_level, self.start_symbol)

    @property
    def flags(self) -> str:
        """What decides which sentences there are, as on the command line."""
        if self.start_symbol is None:
            return f"--data.grammar {self.grammar} --data.start-level {self.start_level}"
        return f"--data.grammar {self.grammar} --data.start-symbol {self.start_symbol}"

    @property
    def first_level(self) -> int:
        """The level of the whole grammar at which sentences begin."""
        if self.start_symbol is None:
            return self.start_level
        return load(self.grammar).level_of(self.start_symbol)


def identity(grammar: Grammar) -> str:
    """SHA-256 of a grammar's rules: a file that has been edited is another grammar."""
    lines = [
        f"{symbol} -> {' '.join(rule.children)} [{rule.probability!r}]"
        for symbol, rules in grammar.rules.items()
        for rule in rules
    ]
    return hashlib.sha256("\n".join((" ".join(grammar.levels[0]), *lines)).encode()).hexdigest()


def refuse_edited(run: RunDirectory, data: PCFGData) -> None:
    """Raise a UserError if a run of these data learnt other rules than their grammar has now: the
    file was edited or replaced."""
    if run.record["grammar"] != identity(data.load()):
        raise UserError(
            f"{run.path} was trained on other rules than grammar {data.grammar} has now; put the"
            " grammar back as it was"
        )


def refuse_other_sentences(run: RunDirectory, theirs: PCFGData, ours: PCFGData) -> None:
    """Raise a UserError unless a teacher has learnt the sentences that its student is to see.

    Args:
        run: the teacher's.
        theirs: its data.
        ours: the student's.
    """
    if run.record["grammar"] == identity(ours.load()):
        return
    if theirs.flags == ours.flags:
        refuse_edited(run, theirs)
    raise UserError(
        f"the teacher {run.path} learnt other sentences ({theirs.flags}) than the student is to see"
        f" ({ours.flags}); give both the same grammar"
    )


def sample(key: jax.Array, sampler: Sampler, masking: MaskingConfig, num_sentences: int) -> Batch:
    """Draw masked sentences: tokens and what may be attended to, the sentences themselves as
    labels, and the selected positions; `(B, T)` each."""
    tokens_BxT = sampler.sample(purpose_key(key, "sentences"), num_sentences).tokens_BxT
    return masked(purpose_key(key, "masks"), sampler, masking, tokens_BxT)


def masked(
    key: jax.Array, sampler: Sampler, masking: MaskingConfig, tokens_BxT: jax.Array
) -> Batch:
    """Mask given sentences."""
    vocabulary = sampler.vocabulary
    as_seen = mask_tokens(
        key,
        tokens_BxT,
        vocabulary.is_terminal(tokens_BxT),
        masking,
        mask_id=vocabulary.mask,
        pad_id=vocabulary.pad,
        word_ids=vocabulary.terminal_ids,
    )
    return masked_batch(tokens_BxT, as_seen, fraction=masking.fraction, vocabulary=vocabulary.size)


def eval_batch(
    data: PCFGData, sampler: Sampler, masking: MaskingConfig, num_sentences: int
) -> Batch:
    """The fixed evaluation set: the same for all runs on these data, from a stream that training
    never uses."""
    return sample(seed_key(data.seed, "evaluation"), sampler, masking, num_sentences)
