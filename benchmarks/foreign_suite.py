"""`python -m benchmarks.foreign_suite --corpus DIR --out FOLDER`: a suite of checkpoints that
`transformers` and PyTorch train and save, as others do, read back here: its losses, its transition,
its probe of windows, and students of it.

Rows and masks are those of the preset `quick`; everything else of the training is PyTorch's. Its
own losses at every checkpoint stand beside ours.
"""

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from transformers import BertConfig, BertForMaskedLM, get_cosine_schedule_with_warmup
from transformers.utils.logging import disable_progress_bar

from common.base.config import PositiveInt, parse
from common.base.errors import UserError, run_command
from common.base.mesh import set_up_devices
from common.formats.folder import TOKENIZER
from common.nn.functional import Batch
from common.runs.directory import RunDirectory
from common.runs.files import write_json
from common.runs.transitions import transitions
from common.sequence.windows import read_distances
from mlm import distill, probe
from mlm.config import LoadedTraining, TrainConfig
from mlm.load import Snapshot, load
from mlm.presets import PRESETS, SAMPLE
from mlm.spec import SPEC

RATE, WARM_UP, INIT_STD = 4e-3, 0.06, 0.06


@dataclass(frozen=True)
class SuiteCommand:
    """Arguments of `python -m benchmarks.foreign_suite`."""

    out: Path
    """A new folder for checkpoints and runs."""
    corpus: Path = SAMPLE
    """A folder that `python -m mlm.prepare` has made."""
    layers: PositiveInt = 1
    steps: PositiveInt = 1600
    every: PositiveInt = 50
    """Steps from one checkpoint to the next."""
    batch_size: PositiveInt = 128
    student_steps: PositiveInt = 400
    json: Path | None = None
    """A JSON file to write."""


def main(args: list[str]) -> None:
    """Train, read back, probe, teach, and print."""
    command = parse(
        SuiteCommand, args, prog="benchmarks.foreign_suite", description=(__doc__ or "").strip()
    )
    if command.out.exists():
        raise UserError(f"{command.out} is there already; choose another --out")
    set_up_devices()
    disable_progress_bar()
    quick = PRESETS["quick"].config.teacher
    config = replace(
        quick,
        data=replace(quick.data, corpus=command.corpus),
        training=replace(quick.training, batch_size=command.batch_size, eval_examples=1024),
    )
    theirs = train_theirs(command, config)
    run = command.out / "run"
    snapshots = [Snapshot(step, command.out / f"checkpoint-{step}") for step in theirs]
    training = LoadedTraining(command.steps, command.batch_size, config.training.eval_examples)
    load(snapshots, run, config.data, training, config.masking)
    probe.main([str(run), "--sizes", "2", "3", "11", "--spacing", "4", "--num-sentences", "768"])
    students = {name: student_accuracy(command, run, name) for name in ("one-shot", "two-shot")}
    found = summary(run, theirs, students)
    Console(soft_wrap=True).print(table_of(found))
    if command.json is not None:
        write_json(command.json, found)


def train_theirs(command: SuiteCommand, config: TrainConfig) -> dict[int, float]:
    """Train a BERT by PyTorch and save its checkpoints; returns their losses by step."""
    problem = SPEC.teacher_problem(config)
    text = config.data.load()
    torch.manual_seed(0)
    model = BertForMaskedLM(
        BertConfig(
            vocab_size=text.vocabulary.size,
            hidden_size=128,
            num_hidden_layers=command.layers,
            num_attention_heads=4,
            intermediate_size=512,
            max_position_embeddings=text.length,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            initializer_range=INIT_STD,
        )
    )
    optimiser = torch.optim.AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.95), weight_decay=0.0)
    schedule = get_cosine_schedule_with_warmup(
        optimiser, int(WARM_UP * command.steps), command.steps
    )
    draw = jax.jit(lambda step: problem.sample(problem.data(), jax.random.key(step)))
    held_out, losses = problem.evaluation(), {}
    for step in range(command.steps + 1):
        if step % command.every == 0:
            losses[step] = evaluate(model, held_out)
            folder = command.out / f"checkpoint-{step}"
            model.save_pretrained(folder)
            shutil.copy(command.corpus / TOKENIZER, folder)
        loss = loss_of(model, draw(step))
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
    return losses


def loss_of(model: Any, batch: Batch) -> torch.Tensor:
    """The mean cross-entropy at the selected positions, by their model."""
    inputs = batch.inputs
    tokens, at, labels = (
        torch.from_numpy(np.array(leaf, np.int64))
        for leaf in (inputs.tokens_BxT, inputs.at_BxP, batch.labels)
    )
    visible = None
    if inputs.visible_BxT is not None:
        visible = torch.from_numpy(np.array(inputs.visible_BxT, np.int64))
    hidden = model.bert(tokens, attention_mask=visible).last_hidden_state
    asked = torch.gather(hidden, 1, at[..., None].expand(-1, -1, hidden.shape[-1]))
    logits = model.cls(asked)
    losses = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), labels.flatten(), reduction="none"
    )
    counts = torch.from_numpy(np.array(batch.mask, np.float32)).flatten()
    return (losses * counts).sum() / counts.sum()


def evaluate(model: Any, batch: Batch) -> float:
    """The loss on held-out rows."""
    with torch.no_grad():
        return float(loss_of(model, batch))


def student_accuracy(command: SuiteCommand, run: Path, schedule: str) -> float:
    """What a student of the suite comes to."""
    out = command.out / schedule
    steps = str(command.student_steps)
    words = ["--data.corpus", str(command.corpus), "--teacher", str(run), "--teacher-seed", "0"]
    words += ["--schedule", schedule, "--model.layers", str(command.layers), "--run-dir", str(out)]
    words += ["--training.steps", steps, "--training.eval-every", steps]
    words += ["--training.batch-size", str(command.batch_size)]
    if schedule == "two-shot":
        words += ["--supervision.first-steps", str(command.student_steps // 2)]
    distill.main(words)
    return RunDirectory(out).metrics()[-1]["accuracy"][0]


def summary(run: Path, theirs: dict[int, float], students: dict[str, float]) -> dict[str, Any]:
    """What came out, as JSON values."""
    loaded = RunDirectory(run)
    ours = {record["step"]: record["eval_loss"][0] for record in loaded.metrics()}
    (found,) = transitions(loaded, PRESETS["quick"].config.student.detector)
    table = read_distances(run)
    masked = table[(table.kind == "robust_masked") & (table.n == 3)]
    return {
        "losses": [{"step": step, "theirs": theirs[step], "ours": ours[step]} for step in theirs],
        "transition": json.loads(json.dumps(vars(found))),
        "m_robust_3": [
            {"step": step, "median": median}
            for step, median in zip(masked.step.tolist(), masked["median"].tolist(), strict=True)
        ],
        "students": students,
    }


def table_of(found: dict[str, Any]) -> Table:
    """Losses beside each other, and M_robust(3)."""
    table = Table(
        "step",
        "loss, theirs",
        "loss, ours",
        "M_robust(3), masked",
        title=f"transition: {found['transition']}",
        caption=f"accuracy of students: {found['students']}",
    )
    for losses, distance in zip(found["losses"], found["m_robust_3"], strict=True):
        table.add_row(
            str(losses["step"]),
            f"{losses['theirs']:.6f}",
            f"{losses['ours']:.6f}",
            f"{distance['median']:.3f}",
        )
    return table


if __name__ == "__main__":
    run_command(main)
