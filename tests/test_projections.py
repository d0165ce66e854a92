"""Learning from random projections of a hidden layer, against PyTorch; the schedule; the command
line."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from common.base.config import TrainingConfig
from common.base.errors import UserError
from common.formats.torch_names import to_torch
from common.judge.transition import DetectorConfig
from common.nn.blocks import TokenInputs
from common.nn.gpt2 import GPT2Config, functional_gpt2
from common.nn.mlp import MLPConfig
from common.nn.projections import projection_loss, random_projection
from common.runs.directory import RunDirectory
from common.runs.trajectory import Trajectory
from common.teach.teacher import TeacherRun, supervise
from common.train import schedule
from common.train.engine import ScanEngine, lane_key
from common.train.optim import OptimConfig
from common.train.schedule import Candidate, ScheduleConfig
from parity import distill, train
from parity.blocked import BlockedEngine
from parity.config import StudentConfig, TrainConfig
from parity.data import ParityData
from parity.presets import PRESETS
from parity.spec import SPEC
from tests.conftest import TINY, TINY_STUDENT, same_run

DATA = ParityData(10, 2)
NUM_STEPS = 40


@given(total=st.integers(1, 100), num_layers=st.integers(1, 4), each=st.integers(1, 40))
def test_layers_come_in_order_then_the_outputs(total: int, num_layers: int, each: int) -> None:
    built = schedule.projections(total, 500, num_layers, each)
    expected = [layer for layer in range(num_layers) for _ in range(each)] + [None] * total
    assert [built.layer(t) for t in range(total)] == expected[:total]
    assert {built.teacher_step(t, {}) for t in range(total)} == {500}
    assert built.possible_teacher_steps() == (500,)
    changes = [t for t in range(1, total) if built.layer(t) != built.layer(t - 1)]
    assert changes == [t for t in range(1, total) if built.next_change(t - 1) == t]


@pytest.mark.parametrize("engine", [ScanEngine, BlockedEngine])
def test_the_hidden_layer_learns_as_in_pytorch(engine: type[ScanEngine]) -> None:
    training = TrainingConfig(
        steps=NUM_STEPS, batch_size=8, eval_every=NUM_STEPS, seed=4, num_seeds=2
    )
    teacher = TrainConfig(DATA, MLPConfig(24), OptimConfig((0.1,)), training)
    problem = SPEC.student_problem(
        StudentConfig(DATA, MLPConfig(12), OptimConfig((0.3,)), training, schedule="projections"),
        teacher,
    )
    teacher_params = ScanEngine(SPEC.teacher_problem(teacher)).init().params
    ours = engine(problem)
    start = ours.init()
    untrained = jax.device_get(start.params)
    trained = jax.device_get(ours.advance(start, teacher_params, NUM_STEPS, 0).params)
    for lane, seed in enumerate(training.seeds):
        student, master = (
            torch.nn.Sequential(
                torch.nn.Linear(10, width), torch.nn.ReLU(), torch.nn.Linear(width, 2)
            )
            for width in (12, 24)
        )
        for model, params in ((student, untrained), (master, teacher_params)):
            own = to_torch(jax.tree.map(lambda leaf, lane=lane: leaf[lane], params))
            model.load_state_dict(
                {name: torch.from_numpy(np.array(leaf)) for name, leaf in own.items()}
            )
        student, master = student.double(), master.double()
        matrix = torch.from_numpy(
            np.array(
                random_projection(lane_key(problem, jnp.uint32(seed), "projection-0"), 24, 12),
                np.float64,
            )
        )
        optimizer = torch.optim.SGD(student.parameters(), 0.3)
        data_key = lane_key(problem, jnp.uint32(seed), "train-data")
        for step in range(NUM_STEPS):
            x = torch.from_numpy(
                np.array(problem.sample((), jax.random.fold_in(data_key, step)).inputs, np.float64)
            )
            loss = torch.nn.functional.mse_loss(student[:2](x), (master[:2](x) @ matrix).detach())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        own = to_torch(jax.tree.map(lambda leaf, lane=lane: leaf[lane], trained))
        for name, theirs in student.state_dict().items():
            np.testing.assert_allclose(own[name], theirs.numpy(), rtol=1e-4, atol=1e-5)
        assert not np.allclose(
            own["0.weight"],
            to_torch(jax.tree.map(lambda leaf, lane=lane: leaf[lane], untrained))["0.weight"],
            atol=1e-3,
        )
        np.testing.assert_array_equal(
            own["2.weight"], np.asarray(untrained["output"]["kernel"][lane]).T
        )


def test_projections_keep_mean_squares_and_differ_between_keys() -> None:
    one, other = (random_projection(jax.random.key(seed), 400, 300) for seed in (0, 1))
    assert float(jnp.mean(one**2)) == pytest.approx(1 / 400, rel=0.02)
    assert abs(float(jnp.mean(one * other))) < 1e-4


def test_a_transformer_learns_block_by_block() -> None:
    """The loss of block 0 moves nothing above block 0."""
    student, teacher = (
        functional_gpt2(GPT2Config(heads=heads, layers=2), 2, 6, 2) for heads in (1, 2)
    )
    params, teacher_params = (
        jax.jit(model.init)(jax.random.key(seed)) for seed, model in enumerate((student, teacher))
    )
    tokens_BxT = jax.random.bernoulli(jax.random.key(2), shape=(4, 6)).astype(jnp.int32)

    def loss(params: dict, layer: int) -> jax.Array:
        return jnp.mean(
            projection_loss(
                student,
                teacher,
                params,
                teacher_params,
                TokenInputs(tokens_BxT),
                layer,
                jax.random.key(3),
            )
        )

    grads_of = jax.jit(jax.grad(loss), static_argnums=1)
    for layer in (0, 1):
        grads = jax.device_get(grads_of(params, layer))
        moved = [
            i
            for i in ("0", "1")
            if any(np.any(leaf != 0) for leaf in jax.tree.leaves(grads["blocks"][i]))
        ]
        assert moved == ["0", "1"][: layer + 1]
        assert not any(np.any(leaf != 0) for leaf in jax.tree.leaves(grads["head"]))


def test_a_run_switches_from_layer_to_outputs_and_resumes(
    tiny_teacher: Path, tmp_path: Path
) -> None:
    args = [
        *TINY_STUDENT,
        "--teacher",
        str(tiny_teacher),
        "--schedule",
        "projections",
        "--supervision.projection-steps",
        "40",
    ]
    args += ["--training.checkpoint-every", "8"]
    distill.main(["--run-dir", str(tmp_path / "a"), *args])
    run = RunDirectory(tmp_path / "a")
    outputs = {step: Trajectory(run).restore(step)["output"]["kernel"] for step in (0, 40, 48)}
    np.testing.assert_array_equal(outputs[0], outputs[40])
    assert not np.array_equal(outputs[40], outputs[48])
    assert min(run.metrics()[-1]["accuracy"]) > 0.9
    distill.main(["--run-dir", str(tmp_path / "b"), *args, "--runtime.resume-seconds", "1e-6"])
    same_run(tmp_path / "a", tmp_path / "b")


def test_unlike_models_are_refused(
    refused: Callable[..., str], tiny_teacher: Path, tmp_path: Path
) -> None:
    args = (
        "--run-dir",
        tmp_path / "s",
        "--teacher",
        tiny_teacher,
        *TINY,
        "--model",
        "transformer",
        "--model.heads",
        "1",
        "--schedule",
        "projections",
    )
    assert "is GPT2 with 2 of them, the teacher's MLP with 1" in refused(distill.main, *args)


def test_first_checkpoint_may_be_moved(tiny_teacher: Path, tmp_path: Path) -> None:
    def first_steps(offset: int) -> list[int]:
        path = tmp_path / f"{offset}"
        args = [
            *TINY_STUDENT,
            "--teacher",
            str(tiny_teacher),
            "--schedule",
            "two-shot",
            f"--supervision.offset={offset}",
        ]
        distill.main(
            [
                "--run-dir",
                str(path),
                *args,
                "--training.steps",
                "8",
                "--training.eval-every",
                "8",
                "--supervision.first-steps",
                "4",
            ]
        )
        schedules = RunDirectory(path).manifest["schedules"]
        return [
            schedules["distinct"][i]["segments"][0]["teacher_step"] for i in schedules["of_lane"]
        ]

    detected = first_steps(0)
    assert first_steps(16) == [step + 16 for step in detected]
    assert first_steps(-7) == detected, "the nearest checkpoint"
    assert first_steps(-10_000) == [0, 0]


def test_schedules_begin_at_a_place_of_the_transition(tiny_teacher: Path) -> None:
    run, detector = RunDirectory(tiny_teacher), DetectorConfig()
    teacher = TeacherRun(run, run.manifest["seeds"], None)
    found = teacher.transitions(detector)
    places: dict[Candidate, str] = {
        "before": "before",
        "start": "start",
        "during": "chosen",
        "end": "end",
        "after": "after",
    }
    for candidate, field in places.items():
        config = ScheduleConfig(candidate=candidate, begin="transition", interval=8)
        expected = tuple(getattr(transition, field) for transition in found)
        assert teacher.first_steps(config, detector) == expected
        student = replace(PRESETS["quick"].config.student, detector=detector, supervision=config)
        supervision = supervise(replace(student, schedule="progressive"), teacher, 1)
        assert tuple(each.teacher_step(0, {}) for each in supervision.schedules_L) == expected
    flat = replace(detector, begin=0.98, enter=0.98, leave=0.985, done=0.999999)
    nowhere = ScheduleConfig(begin="transition", interval=8)
    student = replace(
        PRESETS["quick"].config.student,
        detector=flat,
        schedule="progressive",
        supervision=nowhere,
    )
    with pytest.raises(UserError, match="has no transition to teach from"):
        supervise(student, teacher, 1)
    alone = replace(student, supervision=replace(nowhere, without_transition="final"))
    for each in supervise(alone, teacher, 1).schedules_L:
        assert each.possible_teacher_steps() == (teacher.last_step(),)


def test_the_teacher_may_be_a_transformer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = (
        "--model",
        "transformer",
        "--data.d",
        "4",
        "--data.k",
        "2",
        "--training.steps",
        "1",
        "--training.batch-size",
        "2",
        "--model.heads",
        "1",
    )
    small = (
        *small,
        "--training.eval-every",
        "1",
        "--training.eval-examples",
        "16",
        "--training.num-seeds",
        "1",
    )
    train.main(["--run-dir", str(tmp_path / "t"), *small])
    capsys.readouterr()
    planned = (
        "--schedule",
        "projections",
        "--supervision.projection-steps",
        "30",
        "--training.steps",
        "80",
        "--dry-run",
    )
    distill.main(
        ["--run-dir", str(tmp_path / "s"), "--teacher", str(tmp_path / "t"), *small, *planned]
    )
    table = capsys.readouterr().out
    for line in ("0 .. 29", "30 .. 59", "60 .. 79", "1, hidden layer 0", "1, hidden layer 1"):
        assert line in table
