"""Masked prediction on text as a task: its data, its models, what a step costs."""

import functools
from dataclasses import asdict, dataclass
from typing import Any

import jax

from common.base.config import TrainingConfig
from common.base.errors import UserError
from common.judge.transition import Watch
from common.nn.functional import Batch, Functional, Inputs
from common.runs.directory import RunDirectory
from common.sequence.masked_batches import visible_mean
from common.sequence.masking import CountedMaskingConfig
from common.train.problem import Data, Part, Task
from common.train.speed import Work, training_work
from mlm.config import LoadedConfig, StudentConfig, TrainConfig
from mlm.corpus import Corpus
from mlm.data import ReadsText, TextConfig, TextData, data_of, eval_batch, num_asked, sample
from mlm.model import TextModel, model_flops, model_of
from mlm.rows import RowTable
from mlm.text import Text
from mlm.vocabulary import TOKENIZER


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

    def model(self, config: TextModel) -> Functional:
        """`apply` takes `TokenInputs` to logits `(B, P, V)`."""
        return model_of(config, self.text.vocabulary.size, self.text.length)

    def work(self, model: TextModel, teacher_model: TextModel | None) -> Work:
        """Of products alone, padding included."""
        length = self.text.length
        flops = functools.partial(
            model_flops,
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


def identity_of(config: ReadsText) -> dict[str, str]:
    """What identifies a run besides its configuration: the hash of its corpus, and of the tokeniser
    in that."""
    corpus = config.data.load().corpus
    return {"corpus": corpus.hash, "tokenizer": tokenizer_hash(corpus)}


def tokenizer_hash(corpus: Corpus) -> str:
    """SHA-256 of its file."""
    return corpus.manifest.files[TOKENIZER]


def provenance_of(config: ReadsText) -> dict[str, Any]:
    """What is recorded of a run besides: what its corpus is made from, every file of which is what
    it was when it was prepared.

    Raises:
        RunError: one of them is not.
    """
    corpus = config.data.load().corpus
    corpus.verify()
    sources = [
        {
            "name": source.name,
            "weight": source.weight,
            "revision": source.revision,
            "inputs": [asdict(file) for file in source.inputs],
            "tokens": dict(source.tokens),
        }
        for source in corpus.manifest.sources
    ]
    return {"text": {"corpus": corpus.hash, "sources": sources}}


def check_teacher(
    student: StudentConfig, teacher: TrainConfig | LoadedConfig, run: RunDirectory
) -> None:
    """Raise a UserError unless a teacher reads what its student is to read: rows of the same corpus
    and of a length that it has learnt, masked in the same way."""
    refuse_other_text(student.data, teacher.data, run, teacher.model.is_of_one_length)
    refuse_longer_rows(run, teacher.model.positions, student.data.length)
    for name, theirs in asdict(teacher.masking).items():
        own = getattr(student.masking, name)
        if theirs != own:
            flag = f"--masking.{name.replace('_', '-')}"
            raise UserError(
                f"the teacher {run.path} learnt with {flag} {theirs}, the student is to learn with"
                f" {own}; give both the same {flag}, so that the teacher is asked about inputs of"
                " the kind it knows"
            )


def refuse_other_text(
    student: TextConfig, teacher: TextConfig, run: RunDirectory, is_of_one_length: bool
) -> None:
    """Raise a UserError unless a student reads what its teacher can teach.

    Args:
        student: what it reads.
        teacher: what its teacher has read.
        run: the teacher's.
        is_of_one_length: whether the teacher knows rows of its own length alone.
    """
    ours = student.load().corpus
    theirs, own = run.record["tokenizer"], tokenizer_hash(ours)
    if theirs != own:
        raise UserError(
            f"the teacher {run.path} was trained with another tokeniser ({short(theirs)}) than that"
            f" of {ours.path} ({short(own)}), so that its predictions are of other word pieces;"
            f" give --data.corpus the corpus of the teacher ({teacher.corpus}), or train a"
            " teacher on this one"
        )
    if run.record["corpus"] != ours.hash:
        raise UserError(
            f"the teacher {run.path} was trained on another corpus"
            f" ({short(run.record['corpus'])}) than {ours.path} is ({short(ours.hash)}), part of"
            " which may be what the student is evaluated on; give --data.corpus the corpus of the"
            f" teacher ({teacher.corpus}), or train a teacher on this one"
        )
    if is_of_one_length and teacher.length != student.length:
        raise UserError(
            f"the teacher {run.path} has learnt rows of --data.length {teacher.length} and has no"
            f" more positions, the student is to see rows of {student.length}; give both the same"
            " --data.length, or train a teacher with --model.positions"
        )


def refuse_longer_rows(run: RunDirectory, positions: int | None, num_read: int) -> None:
    """Raise a UserError unless a teacher can read so many tokens of a row.

    Args:
        run: the teacher's.
        positions: that it has; None: see `refuse_other_text`.
        num_read: by its student.
    """
    if positions is not None and positions < num_read:
        raise UserError(
            f"the teacher {run.path} has {positions} positions, the student reads {num_read} tokens"
            " of a row; give a smaller --data.length"
        )


def short(sha256: str) -> str:
    """The beginning of a hash, enough to tell two apart."""
    return sha256[:12]


def watch_of(config: TrainConfig | StudentConfig) -> Watch:
    """Nothing is watched while a run trains; see `nothing_watched`."""
    return nothing_watched(config.training)


def nothing_watched(training: TrainingConfig) -> Watch:
    """Nothing is watched while a run on text trains.

    Raises:
        UserError: something is to depend on it.
    """
    if training.watches:
        raise UserError(
            "--training.ring-every and --training.stop-after need the level of the plateau before a"
            " run begins, which nobody knows for text; leave them out"
        )
    return Watch()
