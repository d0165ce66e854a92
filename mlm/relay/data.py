"""Labelled sentences as token ids, and batches of them.

Rows are [CLS], the word pieces of a sentence, [SEP]. They lie in buckets by their length; a batch
is of one bucket, drawn as often as its rows are of all, so that a model need not read the padding
of the longest sentence (`common.nn.truncated`). Within a bucket rows are drawn with replacement.

Shapes: N sentences; B rows of T tokens; C classes.
"""

import functools
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from pydantic import Field
from tokenizers import Tokenizer

from common.base.config import Seed, configuration, fingerprint
from common.base.errors import UserError
from common.base.keys import purpose_key
from common.formats.fetch import folder_of
from common.nn.blocks import TokenInputs
from common.nn.functional import Batch
from common.runs.files import file_hash
from mlm.prepare.tokeniser import file_of
from mlm.relay.labelled import SAMPLE, Labelled, read_labelled
from mlm.relay.splits import Shares, Splits, split_apart
from mlm.vocabulary import WordPieces, vocabulary_of

KEPT = 4
"""How many data sets a process keeps."""
BUCKETS = (0.5, 0.8, 0.95, 1.0)
"""Shares of the training rows that are no longer than each bucket's."""
MULTIPLE = 8
"""Lengths of buckets are multiples of it, but for the longest."""
Share = Annotated[float, Field(gt=0, lt=1)]


@configuration
class SentenceConfig:
    """Which sentences are classified."""

    tokenizer: str
    """Of BERT's kind: a tokenizer.json, a prepared corpus or another folder that holds one, or
    hub:NAME."""
    train: str = SAMPLE
    """sample (rated sentences of movie reviews, which are downloaded once); a file with columns,
    .tsv (without quotes), .csv or .jsonl; or a data set of the hub, hub:NAME,split=S."""
    evaluation: str | None = None
    """The same of what trained models are asked; None: whole sentences of `train`. No phrase of
    them is trained on then."""
    test: str | None = None
    """Further sentences that trained models are asked."""
    text: str = "sentence"
    """The column of sentences."""
    label: str = "label"
    """The column of labels."""
    length: Annotated[int, Field(ge=3, le=512)] = 64
    """The most tokens of a row, [CLS] and [SEP] among them; longer sentences are cut off."""
    validation: Share = 0.05
    """Share of the whole sentences of `train` that runs are evaluated on while they train, and by
    which rates and checkpoints are chosen. No phrase of them is trained on either."""
    held_out: Share = 0.1
    """The same of those that are `evaluation`, where none is given."""
    seed: Seed = 0
    """Of what is held out."""

    @property
    def tokenizer_file(self) -> Path:
        """Where the tokeniser is, after a download if it is of the hub.

        Raises:
            UserError: there is none.
        """
        path = file_of(folder_of(self.tokenizer))
        if not path.is_file():
            raise UserError(f"{self.tokenizer} holds no tokeniser (tokenizer.json); give another")
        return path

    def load(self) -> "Sentences":
        """The sentences as rows.

        Raises:
            UserError: something cannot be read, or a class is unknown or has no example.
        """
        sources = (self.train, self.evaluation, self.test)
        files = {path for path in map(Path, filter(None, sources)) if path.is_file()}
        read = files | {self.tokenizer_file}
        hashes = tuple(sorted((str(path), file_hash(path)) for path in read))
        return _load(self, hashes)


class Rows(NamedTuple):
    """Sentences of one split, those of a bucket side by side."""

    tokens_NxT: np.ndarray | jax.Array
    length_N: np.ndarray | jax.Array
    """Tokens of each, [CLS] and [SEP] among them."""
    label_N: np.ndarray | jax.Array


@dataclass(frozen=True, eq=False)
class Sentences:
    """A data set as rows."""

    vocabulary: WordPieces
    labels: tuple[str, ...]
    """The names of the C classes, in the order of their numbers."""
    train: Rows
    validation: Rows
    evaluation: Rows
    test: Rows | None
    bounds: tuple[int, ...]
    """The length of each bucket, which rise."""
    stops: tuple[int, ...]
    """Where each bucket ends in `train`."""
    counts: dict[str, int]
    """Sentences of each split, those that were removed from training, and those that are cut
    off."""
    hash: str
    """Of all rows, labels, and the tokeniser."""


@functools.lru_cache(maxsize=KEPT)
def _load(config: SentenceConfig, _hashes: tuple[tuple[str, str], ...]) -> Sentences:
    """Made once for each content of the files."""
    path = config.tokenizer_file
    vocabulary = vocabulary_of(path)
    if not isinstance(vocabulary, WordPieces):
        raise UserError(f"{path} is no tokeniser of word pieces, which BERT has; give another")
    splits = read_splits(config)
    labels = label_names(splits, config)
    encode = functools.partial(_rows, Tokenizer.from_file(str(path)), vocabulary, labels, config)
    train, num_cut = encode(splits.train)
    validation, evaluation = (encode(part)[0] for part in (splits.validation, splits.evaluation))
    test = None if splits.test is None else encode(splits.test)[0]
    bounds = bucket_bounds(np.asarray(train.length_N), config.length)
    stops = np.searchsorted(np.asarray(train.length_N), bounds, side="right")
    counts = {**splits.counts, "cut off": num_cut}
    parts = [train, validation, evaluation, *([] if test is None else [test])]
    arrays = [np.asarray(leaf) for part in parts for leaf in part]
    identity = {"labels": labels, "tokenizer": file_hash(path)}
    hashes = [hashlib.sha256(leaf.tobytes()).hexdigest() for leaf in arrays]
    return Sentences(
        vocabulary,
        labels,
        train,
        validation,
        evaluation,
        test,
        bounds,
        tuple(stops.tolist()),
        counts,
        fingerprint({**identity, "arrays": hashes}),
    )


def read_splits(config: SentenceConfig) -> Splits:
    """What is trained on, and what is not."""

    def read(source: str | None) -> Labelled | None:
        return None if source is None else read_labelled(source, config.text, config.label)

    train = read_labelled(config.train, config.text, config.label)
    shares = Shares(config.validation, config.held_out)
    return split_apart(train, read(config.evaluation), read(config.test), shares, config.seed)


def label_names(splits: Splits, config: SentenceConfig) -> tuple[str, ...]:
    """The names of the classes, in alphabetical order.

    Raises:
        UserError: there is a single one; or one is known of sentences alone that are not trained
            on.
    """
    labels = tuple(sorted(set(splits.train.label_N.tolist())))
    if len(labels) < 2:
        raise UserError(
            f"all training sentences of {config.train} have the label {', '.join(labels)}"
        )
    parts = (
        (config.train, splits.validation),
        (config.evaluation or config.train, splits.evaluation),
        (config.test, splits.test),
    )
    for source, part in parts:
        known = set() if part is None else set(part.label_N.tolist())
        if unknown := sorted(known - set(labels)):
            raise UserError(
                f"{source}: no training sentence has the label"
                f" {', '.join(unknown)}; these have {', '.join(labels)}"
            )
    return labels


def bucket_bounds(length_N: np.ndarray, longest: int) -> tuple[int, ...]:
    """The length of each bucket, for rows of these lengths, `longest` at the most."""
    bounds = [int(np.quantile(length_N, share, method="higher")) for share in BUCKETS]
    rounded = {min(-(-bound // MULTIPLE) * MULTIPLE, longest) for bound in bounds}
    return tuple(sorted(rounded))


def _rows(
    tokenizer: Tokenizer,
    vocabulary: WordPieces,
    labels: tuple[str, ...],
    config: SentenceConfig,
    part: Labelled,
) -> tuple[Rows, int]:
    """The rows of a split from the shortest to the longest, and how many of them are cut off."""
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True
    encodings = tokenizer.encode_batch_fast(part.text_N.tolist(), add_special_tokens=False)
    most, ids = config.length - 2, vocabulary.ids
    tokens_NxT = np.full((len(part), config.length), ids.pad, np.int32)
    length_N = np.zeros(len(part), np.int32)
    for i, encoding in enumerate(encodings):
        row = [ids.cls, *encoding.ids[:most], ids.sep]
        tokens_NxT[i, : len(row)] = row
        length_N[i] = len(row)
    number_of = {label: number for number, label in enumerate(labels)}
    label_N = np.asarray([number_of[label] for label in part.label_N], np.int32)
    order_N = np.argsort(length_N, kind="stable")
    num_cut = sum(len(encoding.ids) > most for encoding in encodings)
    return Rows(tokens_NxT[order_N], length_N[order_N], label_N[order_N]), num_cut


def sample(rows: Rows, key: jax.Array, stops: tuple[int, ...], num_rows: int) -> Batch:
    """Draw training rows of one bucket; labels `(B,)`."""
    bucket_key, row_key = jax.random.split(purpose_key(key, "rows"))
    stop_K = np.asarray(stops)
    first_K = np.concatenate([[0], stop_K[:-1]])
    # The bucket of a row that is drawn from all of them.
    any_row = jax.random.randint(bucket_key, (), 0, stops[-1])
    bucket = jnp.sum(any_row >= jnp.asarray(stop_K))
    first, stop = jnp.asarray(first_K)[bucket], jnp.asarray(stop_K)[bucket]
    return batch_of(rows, jax.random.randint(row_key, (num_rows,), first, stop))


def batch_of(rows: Rows, number_B: jax.Array) -> Batch:
    """The rows of these numbers."""
    tokens_BxT = jnp.asarray(rows.tokens_NxT)[number_B]
    length_B = jnp.asarray(rows.length_N)[number_B]
    visible_BxT = jnp.arange(tokens_BxT.shape[1])[None] < length_B[:, None]
    labels_B = jnp.asarray(rows.label_N)[number_B]
    return Batch(TokenInputs(tokens_BxT, visible_BxT), labels_B, jnp.ones(len(number_B)))


def eval_batch(rows: Rows, num_rows: int) -> Batch:
    """So many rows, or all if there are fewer, spread evenly over the lengths."""
    count = len(rows.label_N)
    number_B = np.linspace(0, count - 1, min(num_rows, count)).round().astype(np.int32)
    return batch_of(rows, jnp.asarray(number_B))
