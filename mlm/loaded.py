"""Models of others as the models of text here: their configurations, what they have learnt, and
whether a corpus is of their tokeniser."""

from pathlib import Path

from common.base.config import fingerprint, to_dict, validate
from common.base.errors import UserError
from common.base.reading import read_object
from common.formats.folder import ModelFolder
from common.formats.foreign import ForeignModel
from common.nn.functional import Functional
from common.nn.neox import NeoXConfig
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
from mlm.task import task_of
from mlm.vocabulary import TOKENIZER, ids_of

AnyLoaded = LoadedConfig | CausalConfig


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
        UserError: masks are asked for of a model that masks nothing.
    """
    if isinstance(model, TextModel):
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
    """What a loaded model has learnt, and the model.

    Raises:
        UserError: the rows are longer than it has positions.
    """
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
    if (folder / "vocab.json").is_file():
        return read_object(folder / "vocab.json", (), "save_pretrained")
    if (folder / "vocab.txt").is_file():
        lines = (folder / "vocab.txt").read_text(encoding="utf-8").splitlines()
        return {piece: id_ for id_, piece in enumerate(lines)}
    return None


def refuse_other_vocabulary(model: ForeignModel, corpus: Corpus, folder: ModelFolder) -> None:
    """Raise a UserError unless a model knows as many tokens as a corpus has; one of the next token
    may know more, which no text has."""
    size = corpus.vocabulary.size
    if model.vocabulary < size or (model.vocabulary > size and model.kind != "causal"):
        raise UserError(
            f"{folder.path} knows {model.vocabulary:,} tokens, {corpus.path} has"
            f" {size:,}; prepare the corpus with the model's own tokeniser"
        )
