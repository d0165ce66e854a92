"""`python -m mlm.load`: checkpoints of a model that others have trained, as a run that every probe
of its kind reads and that can teach.

Each is evaluated on rows of a corpus that was prepared with the model's own tokeniser: a BERT as
runs of `mlm` are, GPT-2 and GPT-NeoX as those of `mlm.next_token`.
"""

import functools
import itertools
import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro
from rich.console import Console
from rich.markup import escape

from common.base.config import NonNegativeInt, parse, to_dict, validate
from common.base.errors import UserError, run_command
from common.base.mesh import set_up_devices
from common.base.progress import progress_bar
from common.formats.fetch import HUB, folder_of, name_and_revision
from common.formats.folder import open_folder
from common.formats.foreign import read_model
from common.formats.suites import Snapshot, refuse_twice
from common.judge.transition import NoTransition, Transition
from common.nn.functional import Params
from common.runs.directory import RunDirectory, opened
from common.runs.trajectory import Trajectory, describe_steps
from common.runs.transitions import transitions
from common.sequence.masking import CountedMaskingConfig
from common.train.engine import evaluated
from mlm.config import DETECTOR, LoadedTraining
from mlm.corpus import open_corpus
from mlm.data import TextConfig
from mlm.loaded import (
    AnyLoaded,
    loaded_config,
    model_config_of,
    refuse_other_tokenizer,
    refuse_other_vocabulary,
    task_and_model,
    their_ids,
    weights_hash,
)
from mlm.next_token.config import NAME as CAUSAL
from mlm.next_token.config import LoadedConfig as CausalConfig
from mlm.task import identity_of, provenance_of

DESCRIPTION = """\
Load checkpoints of a model that others have trained as a run, which every probe reads and which \
can teach. Start it again to go on.

A BERT predicts masked words (then: python -m mlm.probe, mlm.distill --teacher); GPT-2 and \
GPT-NeoX, which Pythia is, predict the next token (python -m mlm.next_token.probe, \
mlm.next_token.distill --teacher).

A checkpoint is a folder with config.json and safetensors files, as save_pretrained of \
transformers writes it. The corpus is one that was prepared with its tokeniser: python -m \
mlm.prepare my-texts --tokenizer FOLDER --out corpora/theirs. Published suites of checkpoints are \
loaded by python -m mlm.suite."""
STEP = re.compile(r"(?:step|checkpoint|ckpt)[-_]?(\d+)(k?)(?![a-z\d])|^(\d+)$")
"""How folders of checkpoints tell their steps: step20, checkpoint-20, a-model-step_20k, 20."""


@dataclass(frozen=True)
class LoadCommand:
    """Arguments of `python -m mlm.load`."""

    folders: tyro.conf.Positional[tuple[str, ...]]
    """The checkpoints of one model: folders, hub:NAME or hub:NAME,revision=R."""
    run_dir: Path
    data: TextConfig
    steps: tuple[NonNegativeInt, ...] | None = None
    """The step of each; None: as the folders' names say (step20, checkpoint-20, 20), 0 for a single
    one that says nothing."""
    batch_size: int = 1
    """Sequences that each of their updates has seen."""
    seed: int = 0
    """What to call their seed: students are paired with teachers by it."""
    eval_examples: int = 1024
    """Rows that every checkpoint is evaluated on."""
    masking: CountedMaskingConfig = CountedMaskingConfig()
    """Of what a BERT is evaluated on."""


def main(args: list[str]) -> None:
    """Load checkpoints, and say what came out."""
    set_up_devices()
    command = parse(LoadCommand, args, prog="mlm.load", description=DESCRIPTION)
    sources = sources_of(command.folders, command.steps)
    training = LoadedTraining(
        sources[-1].step, command.batch_size, command.eval_examples, command.seed
    )
    load(sources, command.run_dir, validate(command.data), training, command.masking)


def sources_of(words: Sequence[str], steps: Sequence[int] | None) -> list[Snapshot]:
    """Checkpoints in the order of their steps.

    Args:
        words: folders, or names on the hub.
        steps: of each; None: as the words tell.

    Raises:
        UserError: a step is not known, or is that of two of them; or a name cannot be had.
    """
    if not words:
        raise UserError("give the folder of a checkpoint, or of several")
    if steps is not None and len(steps) != len(words):
        raise UserError(f"--steps: {len(steps)} steps of {len(words)} folders")
    if steps is None:
        is_single = len(words) == 1
        steps = [step_of(told_by(word), 0 if is_single else None) for word in words]
    sources = sorted(map(Snapshot, steps, map(folder_of, words)))
    refuse_twice(sources)
    return sources


def told_by(word: str) -> str:
    """The part of a word that tells a step: the last folder of a path; of a name on the hub its
    revision, if there is one."""
    if not word.startswith(HUB):
        return Path(word).name
    name, revision = name_and_revision(word)
    return revision or name.rpartition("/")[2]


def step_of(name: str, otherwise: int | None = None) -> int:
    """The step that a name tells.

    Raises:
        UserError: it tells none, and there is no other.
    """
    found = STEP.search(name)
    if found is not None:
        return int(found[1] or found[3]) * (1000 if found[2] else 1)
    if otherwise is None:
        raise UserError(f"{name}: this name tells no step (step20, checkpoint-20); give --steps")
    return otherwise


def load(
    sources: Sequence[Snapshot],
    run_dir: Path,
    data: TextConfig,
    training: LoadedTraining,
    masking: CountedMaskingConfig,
) -> None:
    """Make a run of checkpoints of one model; one that is there already goes on.

    Raises:
        UserError: a folder cannot be read; the models differ; or the corpus is of another
            tokeniser, or has longer rows than the model has positions.
    """
    began = time.monotonic()
    first = open_folder(sources[0].folder)
    model = read_model(first)
    corpus = open_corpus(data.corpus)
    refuse_other_tokenizer(first, corpus)
    refuse_other_vocabulary(model, corpus, first)
    own = model_config_of(first, model, corpus.vocabulary.size)
    config = loaded_config(own, data, training, masking)
    record = {
        "experiment": CAUSAL if isinstance(config, CausalConfig) else "mlm",
        "stage": "load",
        "config": to_dict(config),
        **identity_of(config),
        "weights": {str(step): weights_hash(folder) for step, folder in sources},
        "paths": {str(step): str(folder) for step, folder in sources},
    }
    # Of neither is anything known.
    entries = {"seeds": [training.seed], "learning_rates": [0.0], "unused": list(model.unused)}
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    if their_ids(first.path) is None:
        unsure = (
            f"{first.path} has no tokeniser: whether its ids are those of the corpus is unknown"
        )
        console.print(f"[yellow]warning:[/] {escape(unsure)}")
    with opened(run_dir, record, **entries, **provenance_of(config)) as run:
        if run.finished:
            run.mark_done()
            console.print(f"{escape(str(run_dir))}: already finished, nothing to do")
            return
        add_checkpoints(run, config, sources)
        run.finish(time.monotonic() - began)
        run.mark_done()
    console.print(escape(last_words(run)))


def add_checkpoints(run: RunDirectory, config: AnyLoaded, sources: Sequence[Snapshot]) -> None:
    """Read, evaluate and save every checkpoint that the run does not have yet.

    Raises:
        UserError: one cannot be read, or is of another model.
    """
    task, functional = task_and_model(config)
    batch = task.evaluation(task.data(), config.training.eval_examples)
    evaluate = jax.jit(functools.partial(evaluated, task, functional))
    trajectory = Trajectory(run)
    known = {record["step"] for record in run.metrics()} & set(trajectory.steps())
    to_do = [source for source in sources if source.step not in known]
    done = len(sources) - len(to_do)
    with progress_bar(str(run.path), len(sources), done, "checkpoints") as update:
        for number, (step, folder) in enumerate(to_do, start=done + 1):
            params = params_of(folder, config)
            metrics = {name: float(value) for name, value in evaluate(params, batch).items()}
            trajectory.save(step, jax.tree.map(lambda leaf: leaf[None], params))
            append_record(run, step, config.training.batch_size, metrics)
            update(number)


def params_of(path: Path, first: AnyLoaded) -> Params:
    """The parameters of one checkpoint.

    Raises:
        UserError: it is of another model than the first one, or has another tokeniser.
    """
    folder, corpus = open_folder(path), open_corpus(first.data.corpus)
    model = read_model(folder)
    if model_config_of(folder, model, corpus.vocabulary.size) != first.model:
        raise UserError(f"{path} is a checkpoint of another model than the first one")
    refuse_other_tokenizer(folder, corpus)
    return model.params


def append_record(
    run: RunDirectory, step: int, batch_size: int, metrics: Mapping[str, float]
) -> None:
    """Add a line to the metrics of a run, as training writes it."""
    others: dict[str, Any] = {name: [value] for name, value in metrics.items()}
    record = {"step": step, "examples": step * batch_size, "teacher_step": [None], **others}
    with (run.path / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")


def last_words(run: RunDirectory) -> str:
    """What came out: checkpoints, equal ones among them, losses, and where the drop is."""
    losses = {record["step"]: record["eval_loss"][0] for record in run.metrics()}
    first, *_, last = losses.values() if len(losses) > 1 else [*losses.values()] * 2
    lines = [
        f"{run.path}: {len(losses)} checkpoints ({describe_steps(tuple(losses))}), loss"
        f" {first:.3f} to {last:.3f}"
    ]
    if unused := run.manifest["unused"]:
        lines.append(f"not used: {', '.join(unused)}")
    lines += [
        f"steps {' and '.join(map(str, steps))} have equal weights" for steps in equal_steps(run)
    ]
    if len(losses) > 1:
        lines.append(resolution(transitions(run, DETECTOR)[0], losses))
    return "\n".join(lines)


def equal_steps(run: RunDirectory) -> list[list[int]]:
    """Steps whose checkpoints are the same to the bit."""
    steps_of: dict[str, list[int]] = {}
    for step in Trajectory(run).steps():
        steps_of.setdefault(run.manifest["checkpoints"][str(step)], []).append(step)
    return [steps for steps in steps_of.values() if len(steps) > 1]


def resolution(found: Transition | NoTransition, losses: Mapping[int, float]) -> str:
    """Where the drop of a loss is, or between which checkpoints, where none lies in it."""
    if isinstance(found, Transition):
        inside = [step for step in losses if found.start < step < found.end]
        if inside:
            return f"its loss drops from step {found.start} to {found.end}, C1 is {found.chosen}"
        return f"not resolved: its loss drops between steps {found.start} and {found.end}"
    steps = list(losses)
    falls = {pair: losses[pair[0]] - losses[pair[1]] for pair in itertools.pairwise(steps)}
    before, after = max(falls, key=lambda pair: falls[pair])
    part = falls[before, after] / max(sum(falls.values()), np.finfo(float).tiny)
    return (
        f"no drop is found ({found.reason}); {part:.0%} of what its loss falls lies between steps"
        f" {before} and {after}: not resolved, if a drop is there"
    )


if __name__ == "__main__":
    run_command(main)
