"""The published models of next-token prediction (`--compat authors`), and checkpoints in Hugging
Face's GPT-2."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import GPT2LMHeadModel

from common.base.config import TrainingConfig
from common.experiment.commands import distill_command, request_of, train_command
from common.nn.blocks import TokenInputs
from common.runs import export
from common.runs.directory import RunDirectory
from common.runs.trajectory import Trajectory
from common.train.optim import OptimConfig
from pcfg.data import PCFGData
from pcfg.next_token import distill, train
from pcfg.next_token.config import NextTokenModel, TrainConfig, config_of
from pcfg.next_token.data import NextTokenConfig
from pcfg.next_token.spec import SPEC
from pcfg.next_token.task import task_of
from tests.hugging_face import gpt2_of

VOCABULARY, POSITIONS = 50_257, 1024
SMALL = (
    *("--data.grammar", "cfg3f", "--data.start-level", "4", "--model.heads", "1"),
    *("--training.steps", "2", "--training.batch-size", "2", "--training.num-seeds", "1"),
    *("--training.eval-every", "2", "--training.eval-examples", "4", "--training.seed", "0"),
    *("--training.checkpoint-every", "2", "--supervised.level", "None"),
    "--supervised.predicts-end",
)


def test_the_published_teacher_has_gpt2s_defaults_and_its_student_layers_of_its_own() -> None:
    flags = ("--run-dir", "run", "--compat", "authors", "--model.layers", "3")
    teacher = request_of(train_command(SPEC, [*flags])).config.model
    student = request_of(distill_command(SPEC, [*flags])).config.model
    assert (teacher.layers, teacher.vocabulary, teacher.positions) == (12, VOCABULARY, POSITIONS)
    assert (student.layers, student.vocabulary, student.positions) == (3, VOCABULARY, POSITIONS)
    without = request_of(train_command(SPEC, [*flags[:2], *flags[4:]])).config.model
    assert (without.layers, without.vocabulary, without.positions) == (3, None, None)


def exported(run: Path, out: Path) -> GPT2LMHeadModel:
    """The last checkpoint of a run in Hugging Face's model, with the vocabulary and the positions
    that the file has."""
    step = Trajectory(RunDirectory(run)).steps()[-1]
    export.main([str(run), "--step", str(step), "--out", str(out)])
    with safe_open(out, "pt") as file:
        assert file.metadata()["experiment"] == "pcfg.next_token"
        assert file.metadata()["tie_word_embeddings"] == "false"
    return gpt2_of(load_file(out), config_of(RunDirectory(run)).model).eval()


def same_logits(run: Path, model: GPT2LMHeadModel) -> np.ndarray:
    """The logits of held-out sentences, after a look at whether they are ours too."""
    config = config_of(RunDirectory(run))
    task = task_of(config)
    step = Trajectory(RunDirectory(run)).steps()[-1]
    params = jax.tree.map(lambda leaf: leaf[0], Trajectory(RunDirectory(run)).restore(step))
    tokens_BxT = np.array(task.evaluation((), 4).inputs.tokens_BxT)
    inputs = TokenInputs(jnp.asarray(tokens_BxT))
    ours = np.asarray(jax.jit(task.model(config.model).apply)(params, inputs))
    with torch.no_grad():
        theirs = model(torch.from_numpy(tokens_BxT)).logits.numpy()
    assert np.abs(ours - theirs).max() / np.abs(theirs).max() < 1e-5
    return ours


def test_a_checkpoint_answers_in_hugging_faces_model_as_here(tmp_path: Path) -> None:
    """Of a model with positions to spare, which has learnt at boundaries."""
    run = tmp_path / "run"
    more = ("--model.layers", "2", "--model.positions", "40", "--supervised.level", "5")
    train.main(["--run-dir", str(run), *SMALL, *more])
    logits = same_logits(run, exported(run, tmp_path / "model.safetensors"))
    task = task_of(config_of(RunDirectory(run)))
    assert logits.shape == (4, task.sampler.longest + 1, task.sampler.vocabulary.size)


def test_published_runs_start_and_are_exported(tmp_path: Path) -> None:
    """The teacher's checkpoints, and those of a student."""
    authors = ("--compat", "authors")
    train.main(["--run-dir", str(tmp_path / "teacher"), *SMALL, *authors])
    labels = ("--schedule", "ce", "--model.layers", "1")
    distill.main(["--run-dir", str(tmp_path / "student"), *SMALL, *labels, *authors])
    for name, num_layers in (("teacher", 12), ("student", 1)):
        model = exported(tmp_path / name, tmp_path / f"{name}.safetensors")
        assert model.config.n_layer == num_layers
        assert model.config.n_positions == POSITIONS
        assert same_logits(tmp_path / name, model).shape[-1] == VOCABULARY


@pytest.mark.parametrize(("level", "most"), [(1, 3), (2, 9), (3, 27)])
def test_logits_of_many_ids_are_computed_at_few_positions(level: int, most: int) -> None:
    """Of whole sentences with the published boundaries: at 50,257 ids, those of all positions would
    take 75 GB of a batch of 512."""
    config = TrainConfig(
        PCFGData("cfg3f"),
        NextTokenModel(1, layers=1, vocabulary=VOCABULARY, positions=POSITIONS),
        OptimConfig((1e-3,), kind="adam"),
        TrainingConfig(1, 512, eval_every=1),
        NextTokenConfig(level),
    )
    problem = SPEC.teacher_problem(config)
    key = jax.eval_shape(lambda: jax.random.key(0))
    batch = jax.eval_shape(lambda key: problem.sample((), key), key)
    assert batch.inputs.tokens_BxT.shape == (512, 729)
    params = jax.eval_shape(problem.model.init, key)
    logits = jax.eval_shape(problem.model.apply, params, batch.inputs)
    assert logits.shape == (*batch.labels.shape, VOCABULARY) == (512, most, VOCABULARY)
