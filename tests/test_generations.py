"""Students that learn the sentences of their teacher, end to end on a tiny grammar."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common.base.config import TrainingConfig
from common.base.errors import UserError
from common.base.mesh import BATCH
from common.nn.functional import Params
from common.nn.gpt2 import gpt2_flops
from common.runs.directory import RunDirectory
from common.runs.trajectory import Trajectory
from common.train import engine
from common.train.engine import ScanEngine, lane_key
from common.train.losses import label_cross_entropy, masked_mean
from common.train.optim import OptimConfig
from pcfg.data import PCFGData
from pcfg.next_token import distill, train
from pcfg.next_token.config import StudentConfig, TrainConfig, config_of, gpt2
from pcfg.next_token.data import NextTokenConfig
from pcfg.next_token.spec import SPEC
from pcfg.next_token.task import NextTokens, check_teacher, length_of, task_of
from tests.conftest import same_run

GRAMMAR = "S -> A B | B A\nA -> x y x | y y\nB -> y x x\n"
LANGUAGE = ("xyxyxx", "yyyxx", "yxxxyx", "yxxyy")
STEPS = 8
TEACHER = gpt2(3, layers=2)
DETECTED = ("--detector.contrast", "1.01", "--detector.depth", "0.1")
GENERATED = ("--schedule", "two-shot", "--sentences", "teacher")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    path = tmp_path_factory.mktemp("grammar") / "tiny.txt"
    path.write_text(GRAMMAR)
    words = (
        f"--data.grammar {path} --data.start-level 0 --model.layers 2"
        " --optim.learning-rate 5e-3 --optim.warmup-fraction 0.06"
        " --training.steps 128 --training.batch-size 32 --training.eval-every 8"
        " --training.eval-examples 64 --training.num-seeds 2 --seed 0"
        " --supervised.level None --supervised.predicts-end"
    )
    return words.split()


@pytest.fixture(scope="module")
def teacher(tiny: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("next_token") / "teacher"
    more = ("--model.heads", "4", "--training.checkpoint-every", "8")
    train.main(["--run-dir", str(path), *tiny, *more])
    return path


def student(run_dir: Path, tiny: list[str], teacher: Path, *more: str) -> list[str]:
    given = ("--model.heads", "2", "--training.steps", "64", "--teacher", str(teacher))
    return ["--run-dir", str(run_dir), *tiny, *given, *more]


def test_a_student_learns_from_sentences_of_two_checkpoints_and_resumes(
    teacher: Path, tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shots = (*GENERATED, "--supervision.first-steps", "24", *DETECTED)
    whole, killed = (
        student(tmp_path / name, tiny, teacher, *shots, "--runtime.resume-seconds", "1e-6")
        for name in ("whole", "killed")
    )
    distill.main(whole)
    first, *_, last = RunDirectory(tmp_path / "whole").metrics()
    assert max(last["eval_loss"]) < 0.5 * min(first["eval_loss"])
    assert max(first["teacher_step"]) < 128
    assert last["teacher_step"] == [128, 128]

    advance, calls = ScanEngine.advance, iter(range(1000))

    def interrupted(*rest):
        if next(calls) == 4:
            raise KeyboardInterrupt
        return advance(*rest)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(ScanEngine, "advance", interrupted)
        distill.main(killed)
    assert RunDirectory(tmp_path / "killed").manifest["resume"]["step"] == 32
    distill.main(killed)
    same_run(tmp_path / "killed", tmp_path / "whole")


def test_a_trained_teacher_generates_sentences_of_the_grammar(teacher: Path) -> None:
    """Most of them, and each; before training hardly any. All tokens are labels, and the end."""
    run = RunDirectory(teacher)
    config = config_of(run)
    task = replace(task_of(config), is_generated=True)
    vocabulary = task.sampler.vocabulary
    generate = task.generator(config.model)
    assert generate is not None
    shares = []
    for step in (0, 128):
        params = jax.tree.map(lambda leaf: leaf[0], Trajectory(run).restore(step))
        batch = jax.jit(generate, static_argnums=2)(params, jax.random.key(0), 512)
        inputs_BxT, labels_BxT = np.asarray(batch.inputs.tokens_BxT), np.asarray(batch.labels)
        assert inputs_BxT.shape == (512, length_of(config.supervised, task.sampler))
        assert (inputs_BxT[:, 0] == vocabulary.bos).all()
        np.testing.assert_array_equal(inputs_BxT[:, 1:], labels_BxT[:, :-1])
        np.testing.assert_array_equal(batch.mask, labels_BxT != vocabulary.pad)
        letters = {0: "x", 1: "y", vocabulary.eos: ".", vocabulary.pad: ""}
        found = ["".join(letters[token] for token in row) for row in labels_BxT.tolist()]
        sentences = [f"{sentence}." for sentence in LANGUAGE]
        shares.append([found.count(sentence) / len(found) for sentence in sentences])
    untrained, trained = shares
    assert sum(untrained) < 0.2
    assert sum(trained) > 0.9
    assert min(trained) > 0.1


def students(num_seeds: int, num_rates: int, group_size: int) -> tuple[ScanEngine, Params]:
    """Those of untrained teachers, and these teachers' parameters, one of each group."""
    training = TrainingConfig(STEPS, 6, eval_every=STEPS, eval_examples=8, num_seeds=num_seeds)
    of_teacher = TrainConfig(
        PCFGData("cfg3f", start_level=4),
        TEACHER,
        OptimConfig((0.01,)),
        training,
        NextTokenConfig(predicts_end=True),
    )
    rates = OptimConfig((0.01, 0.02)[:num_rates])
    fields = vars(of_teacher) | {"model": gpt2(2, layers=1, dropout=0.2), "optim": rates}
    config = StudentConfig(**fields, schedule="one-shot", sentences="teacher")
    made = ScanEngine(SPEC.student_problem(config, of_teacher), group_size)
    untrained = ScanEngine(SPEC.teacher_problem(of_teacher)).init().params

    def for_groups(leaf: np.ndarray) -> np.ndarray:
        # Far from uniform, so that it matters whose sentences a student learns.
        return np.repeat(10 * leaf, num_rates // group_size, axis=0)

    return made, made.place(jax.tree.map(for_groups, jax.device_get(untrained)))


def test_the_loss_is_that_of_the_labels_that_the_teacher_generates() -> None:
    made, teachers = students(num_seeds=2, num_rates=2, group_size=1)
    problem = made.problem
    before = jax.device_get(made.init().params)
    after = made.advance(made.init(), teachers, 1)

    @jax.jit
    @jax.vmap
    def loss_of(seed: jax.Array, params: Params, teacher: Params) -> jax.Array:
        keys = (lane_key(problem, seed, purpose) for purpose in ("train-data", "dropout"))
        of_data, of_dropout = (jax.random.fold_in(key, 0) for key in keys)
        batch = problem.sample((), of_data, teacher)
        logits = problem.model.apply(params, batch.inputs, of_dropout)
        return masked_mean(label_cross_entropy(logits, batch.labels), batch.mask)

    losses = loss_of(jnp.asarray([0, 0, 1, 1], jnp.uint32), before, jax.device_get(teachers))
    np.testing.assert_allclose(after.loss_sum, losses, rtol=1e-5)


@pytest.mark.parametrize(("num_seeds", "num_rates"), [(1, 1), (2, 2)])
def test_groups_and_devices_change_nothing(
    num_seeds: int, num_rates: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two devices share the batch of one lane, or have a group of two lanes each, whose teacher
    generates once."""
    alone, teachers = students(num_seeds, num_rates, group_size=1)
    expected = jax.device_get(alone.advance(alone.init(), teachers, STEPS))
    monkeypatch.setattr(engine, "LONG_STEP", 0.0)
    made, teachers = students(num_seeds, num_rates, group_size=num_rates)
    found = jax.device_get(made.advance(made.init(), teachers, STEPS))
    is_shared = num_seeds == 1
    assert (BATCH in made.mesh.axis_names) == is_shared
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), found, expected
    )
    program: Any = made.program("advance", pytest.fail)
    lowered = program.lower(made.data, made.lanes, made.init(), teachers, STEPS, None)
    task = made.problem.task
    assert isinstance(task, NextTokens)
    length = length_of(task.config, task.sampler)
    shape = f"{TEACHER.heads},{length},{TEACHER.head_size}]"
    text = lowered.compile().as_text()
    # Caches, of half a batch or of a whole one; of one batch for each group.
    assert (f"f32[3,{shape}" in text) == is_shared
    assert (f"f32[6,{shape}" in text) != is_shared
    assert f"f32[12,{shape}" not in text
    assert f"f32[2,6,{shape}" not in text


def test_a_generated_sentence_costs_a_forward_pass_of_the_teacher() -> None:
    problem = students(1, 1, 1)[0].problem
    task = problem.task
    assert isinstance(task, NextTokens)
    length = length_of(task.config, task.sampler)
    num_ids = task.sampler.vocabulary.size
    assert problem.work.teacher_flops == gpt2_flops(TEACHER, num_ids, length, length)


def test_till_saturate_and_shared_streams(teacher: Path, tiny: list[str], tmp_path: Path) -> None:
    more = "--schedule till-saturate --sentences teacher --supervision.interval 16"
    more += " --supervision.patience 16 --teacher-seed 1 --shared-stream"
    distill.main(student(tmp_path / "run", tiny, teacher, *more.split()))
    records = RunDirectory(tmp_path / "run").metrics()
    assert records[0]["teacher_step"] == [64, 64]
    assert records[-1]["teacher_step"] == [128, 128]
    assert max(records[-1]["eval_loss"]) < 0.6 * min(records[0]["eval_loss"])


def test_wrong_combinations(
    teacher: Path, tiny: list[str], tmp_path: Path, refused: Callable[..., str]
) -> None:
    def said(*more: str) -> str:
        args = student(tmp_path / "run", tiny, teacher, *more)
        return refused(distill.main, *args)

    projections = ("--schedule", "projections", "--supervision.projection-steps", "8")
    assert "projections does not learn from what a teacher predicts" in said(
        *projections, "--sentences", "teacher"
    )
    assert "ce does not learn from what a teacher predicts" in said(
        "--schedule", "ce", "--sentences", "teacher"
    )
    assert "only a teacher of every token" in said(*GENERATED, "--supervised.level", "1")
    assert "only a teacher of every token" in said(*GENERATED, "--supervised.no-predicts-end")
    assert "leave out --loss" in said(*GENERATED, "--loss.labels", "soft")
    assert not (tmp_path / "run").exists()


def test_a_teacher_of_other_tokens_does_not_generate(teacher: Path) -> None:
    run = RunDirectory(teacher)
    config = config_of(run)
    student = StudentConfig(**vars(config), schedule="one-shot", sentences="teacher")
    check_teacher(student, config, run)
    for supervised, words in (
        (NextTokenConfig(1, predicts_end=True), "symbol of level 1, the student .* every token"),
        (NextTokenConfig(), "not learnt to predict the end of sentences, the student is to"),
    ):
        with pytest.raises(UserError, match=words):
            check_teacher(student, replace(config, supervised=supervised), run)


def test_a_dry_run_says_who_generates(
    teacher: Path, tiny: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also before the teacher is there."""
    for path in (teacher, tmp_path / "nobody"):
        args = student(tmp_path / "run", tiny, path, "--schedule", "one-shot", "--dry-run")
        for more, is_told in (((), False), (("--sentences", "teacher"), True)):
            capsys.readouterr()
            try:
                distill.main([*args, *more])
            except UserError as error:
                assert "does not exist" in str(error)
            assert ("generated by checkpoint" in capsys.readouterr().out) == is_told
