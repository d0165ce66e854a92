"""Models of others as the models of text here: their configurations, what they have learnt, and
whether a corpus is of their tokeniser."""

from pathlib import Path

from tokenizers import Tokenizer

from common.base.config import fingerprint, to_dict, validate
from common.base.errors import UserError
from common.formats.folder import WEIGHTS_FILES, ModelFolder
from common.formats.foreign import ForeignModel
from common.nn.functional import Functional
from common.nn.neox import NeoXConfig
from common.runs.files import file_hash
from common.sequence.masking import CountedMaskingConfig
from common.train.problem import Task
from mlm.config import LoadedConfig, LoadedTraining
from mlm.corpus import Corpus
from mlm.data import TextConfig
from mlm.model import TextModel
from mlm.next_token.config import LoadedConfig as CausalConfig
from mlm.next_token.data import NextTextConfig
from mlm.next_token.model import NextTextModel
from mlm.next_token.task import task_of as causal_task_of
from mlm.prepare.tokeniser import given
from mlm.task import task_of
from mlm.vocabulary import BPE_VOCABULARY, TOKENIZER, ids_of

AnyLoaded = LoadedConfig | CausalConfig
PADDING = 512
"""The most token ids that a model knows beyond its tokeniser's (of Pythia's, 27 to 411, so that the
number is a multiple of a power of two)."""


def loaded_config(
    model: TextModel | NextTextModel,
    data: TextConfig,
    training: LoadedTraining,
    masking: CountedMaskingConfig,
) -> AnyLoaded:
    """The configuration of a run that holds a model.

    Args:
        model: which.
        data: what it is to be evaluated on.
        training: what is known of its own.
        masking: of what a BERT is evaluated on.

    Raises:
        UserError: masks are asked for of a model that masks nothing, or rows are too long for it.
    """
    is_masked = isinstance(model, TextModel)
    num_read = data.length if is_masked else data.length - 1
    if model.positions is not None and model.positions < num_read:
        raise UserError(
            f"rows have {data.length} tokens (--data.length), and the model has {model.positions}"
            " positions; give a smaller --data.length"
        )
    if is_masked:
        return validate(LoadedConfig(data, model, training, masking))
    if masking != CountedMaskingConfig():
        raise UserError(
            f"a {model.architecture} predicts the next token and masks none; leave out --masking"
        )
    rows = NextTextConfig(data.corpus, data.length, data.across_documents, data.seed)
    return validate(CausalConfig(rows, model, training))


def model_config_of(
    folder: ModelFolder, model: ForeignModel, vocabulary: int
) -> TextModel | NextTextModel:
    """The configuration here of a model that predicts tokens.

    Args:
        folder: the model's.
        model: which.
        vocabulary: tokens of the corpus, which may be fewer than a causal model knows.

    Raises:
        UserError: it has no head.
    """
    if model.kind == "causal":
        return NextTextModel(
            **to_dict(model.config),
            architecture="gpt-neox" if isinstance(model.config, NeoXConfig) else "gpt2",
            positions=model.positions,
            vocabulary=None if model.vocabulary == vocabulary else model.vocabulary,
        )
    if model.kind != "masked":
        raise UserError(
            f"{folder.path} holds a BERT without a head for masked prediction ({model.kind}), so"
            " that there is nothing to evaluate or to learn from it"
        )
    is_ordered = "position" in model.params
    return TextModel(
        **to_dict(model.config),
        positions=model.positions if is_ordered else None,
        ordered=is_ordered,
    )


def task_and_model(config: AnyLoaded) -> tuple[Task, Functional]:
    """What a loaded model has learnt, and the model."""
    if isinstance(config, CausalConfig):
        next_text = causal_task_of(config.data)
        return next_text, next_text.model(config.model)
    masked_text = task_of(config.data, config.masking)
    return masked_text, masked_text.model(config.model)


def refuse_other_tokenizer(folder: ModelFolder, corpus: Corpus) -> None:
    """Raise a UserError unless a model's tokeniser, where its folder has one, gives every piece the
    id that it has in a corpus."""
    theirs, ours = their_ids(folder.path), ids_of(corpus.path / TOKENIZER)
    if theirs is not None and theirs != ours:
        raise UserError(
            f"the tokeniser of {folder.path} ({fingerprint(theirs)[:12]}) is another than that of"
            f" {corpus.path} ({fingerprint(ours)[:12]}): the same ids are other pieces; prepare the"
            f" corpus with --tokenizer {folder.path}"
        )


def their_ids(folder: Path) -> dict[str, int] | None:
    """The ids of the tokens of a model's tokeniser; None: its folder has none."""
    if (folder / TOKENIZER).is_file():
        return ids_of(folder / TOKENIZER)
    for name in (BPE_VOCABULARY, "vocab.txt"):
        if (folder / name).is_file():
            tokenizer = Tokenizer.from_str(given(folder / name))
            return tokenizer.get_vocab(with_added_tokens=True)
    return None


def refuse_other_vocabulary(model: ForeignModel, corpus: Corpus, folder: ModelFolder) -> None:
    """Raise a UserError unless a model knows as many tokens as a corpus has; one of the next token
    may know some more, which no text has."""
    size = corpus.vocabulary.size
    most = size + PADDING if model.kind == "causal" else size
    if not size <= model.vocabulary <= most:
        raise UserError(
            f"{folder.path} knows {model.vocabulary:,} tokens, {corpus.path} has"
            f" {size:,}; prepare the corpus with the model's own tokeniser"
        )


def weights_hash(folder: Path) -> str:
    """Of all files of weights of a checkpoint."""
    files = sorted(folder.glob(WEIGHTS_FILES))
    return fingerprint({path.name: file_hash(path) for path in files})
