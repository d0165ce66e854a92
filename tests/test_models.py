"""The MLP, its initialisation and its training step against PyTorch."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from common.base.config import TrainingConfig
from common.base.keys import seed_key
from common.formats.torch_names import to_torch
from common.nn.mlp import MLPConfig, functional_mlp
from common.train import schedule
from common.train.engine import ScanEngine
from common.train.fit import Supervision
from common.train.lanes import Lane
from common.train.losses import DistillationLoss
from common.train.optim import OptimConfig, learning_rate_shape
from parity.config import StudentConfig, TrainConfig
from parity.data import ParityData, sample, supports_of
from parity.spec import SPEC
from parity.task import functional_model


def torch_mlp(d: int, width: int) -> torch.nn.Sequential:
    return torch.nn.Sequential(
        torch.nn.Linear(d, width), torch.nn.ReLU(), torch.nn.Linear(width, 2)
    )


def test_torch_initialisation_has_torchs_distribution() -> None:
    d, width = 50, 4000
    ours = to_torch(functional_mlp(MLPConfig(width), d, 2).init(jax.random.key(0)))
    theirs = torch_mlp(d, width).state_dict()
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        assert ours[name].shape == tuple(tensor.shape)
        bound = 1 / np.sqrt(d if name.startswith("0") else width)
        assert np.abs(ours[name]).max() <= bound
        if ours[name].size > 1000:
            assert np.abs(ours[name]).max() > 0.98 * bound
            assert ours[name].std() == pytest.approx(float(tensor.std()), rel=0.05)


def test_layers_and_seeds_do_not_share_a_key() -> None:
    model = functional_mlp(MLPConfig(64), 64, 64)
    a, b = model.init(jax.random.key(0)), model.init(jax.random.key(1))
    assert not np.allclose(a["hidden"]["kernel"], b["hidden"]["kernel"])
    assert (
        abs(np.corrcoef(np.ravel(a["hidden"]["kernel"]), np.ravel(a["output"]["kernel"]))[0, 1])
        < 0.1
    )


def test_lecun_initialisation() -> None:
    params = functional_mlp(MLPConfig(4000, init="lecun"), 50, 2).init(jax.random.key(0))
    assert np.asarray(params["hidden"]["kernel"]).std() == pytest.approx(1 / np.sqrt(50), rel=0.05)
    assert not np.asarray(params["hidden"]["bias"]).any()


@pytest.mark.parametrize("decay", ["constant", "cosine"])
@pytest.mark.parametrize("labels", ["data", "hard", "soft"])
def test_training_agrees_with_pytorch(decay: str, labels: str) -> None:
    """Same weights, same data, 200 steps in float32: relative difference of every parameter tensor
    below 1e-5."""
    data, steps, rate = ParityData(d=20, k=3), 200, 0.1
    training = TrainingConfig(steps=steps, batch_size=16, eval_every=steps, eval_examples=64)
    optim = OptimConfig((rate,), decay=decay)  # type: ignore[arg-type]
    teacher_config = TrainConfig(data, MLPConfig(48), optim, training)
    if labels == "data":
        problem = SPEC.teacher_problem(TrainConfig(data, MLPConfig(32), optim, training))
    else:
        loss = DistillationLoss(labels=labels, temperature=2.0)  # type: ignore[arg-type]
        problem = SPEC.student_problem(
            StudentConfig(data, MLPConfig(32), optim, training, loss=loss), teacher_config
        )
    engine = ScanEngine(problem)
    state = engine.init()
    teacher = jax.tree.map(
        lambda leaf: 5 * leaf[None], functional_mlp(MLPConfig(48), 20, 2).init(jax.random.key(9))
    )

    peer = torch_mlp(20, 32)
    peer.load_state_dict(
        {
            name: torch.from_numpy(np.array(leaf))
            for name, leaf in to_torch(jax.tree.map(lambda x: x[0], state.params)).items()
        }
    )
    peer_teacher = torch_mlp(20, 48)
    peer_teacher.load_state_dict(
        {
            name: torch.from_numpy(np.array(leaf))
            for name, leaf in to_torch(jax.tree.map(lambda x: x[0], teacher)).items()
        }
    )
    shape = learning_rate_shape(optim, steps)

    key = seed_key(0, f"{problem.role}/train-data")
    for step in range(steps):
        batch = sample(jax.random.fold_in(key, step), data, supports_of(data), 16)
        x, y = (
            torch.from_numpy(np.array(batch.inputs)),
            torch.from_numpy(np.array(batch.labels)).long(),
        )
        with torch.no_grad():
            z = peer_teacher(x)
        target = {"data": y, "hard": z.argmax(-1), "soft": torch.softmax(z / 2.0, -1)}[labels]
        peer.zero_grad()
        torch.nn.functional.cross_entropy(peer(x), target).backward()
        with torch.no_grad():
            for parameter in peer.parameters():
                assert parameter.grad is not None
                parameter.sub_(rate * float(np.asarray(shape(step)).item()) * parameter.grad)

    state = engine.advance(state, None if labels == "data" else engine.place(teacher), steps)
    ours = to_torch(jax.tree.map(lambda x: np.asarray(x[0]), state.params))
    for name, tensor in peer.state_dict().items():
        difference = np.linalg.norm(ours[name] - tensor.numpy()) / np.linalg.norm(tensor.numpy())
        assert difference < 1e-5, (name, difference)


def test_cosine_decay_matches_its_formula() -> None:
    """Of ten updates of warm-up the first has a tenth of the peak and the tenth all of it; the
    update after the last one would have nothing."""
    shape = learning_rate_shape(OptimConfig((1.0,), decay="cosine", warmup_fraction=0.1), 100)
    for step in range(101):
        expected = (step + 1) / 10 if step < 10 else 0.5 * (1 + np.cos(np.pi * (step - 9) / 91))
        assert np.asarray(shape(step)) == pytest.approx(expected, abs=1e-6)


@given(steps=st.integers(1, 500), warmup_fraction=st.floats(0, 1))
def test_every_update_of_a_cosine_decay_moves(steps: int, warmup_fraction: float) -> None:
    shape = learning_rate_shape(
        OptimConfig((1.0,), decay="cosine", warmup_fraction=warmup_fraction), steps
    )
    rates = np.asarray(
        [shape(step) for step in (0, steps - 1, max(round(warmup_fraction * steps), 1) - 1)]
    )
    assert (rates > 0).all()
    assert rates[-1] == pytest.approx(1.0)
    assert np.asarray(shape(steps)) == pytest.approx(0, abs=1e-6)


def test_the_first_update_of_a_warm_up_changes_the_weights() -> None:
    training = TrainingConfig(steps=20, batch_size=4, eval_every=20, eval_examples=64)
    optim = OptimConfig((0.1,), decay="cosine", warmup_fraction=0.5)
    engine = ScanEngine(
        SPEC.teacher_problem(TrainConfig(ParityData(d=8, k=2), MLPConfig(8), optim, training))
    )
    before = jax.device_get(engine.init().params)
    after = jax.device_get(engine.advance(engine.init(), None, 1).params)
    assert (before["output"]["bias"] != after["output"]["bias"]).all()


@pytest.mark.parametrize("labels", ["data", "teacher"])
def test_lanes_of_a_sweep_are_the_runs_they_stand_for(labels: str) -> None:
    """A lane among others, alone or in a group that shares its data and teacher, ends where the
    same seed and rate end alone, up to rounding."""
    data, optim, training = (
        ParityData(d=12, k=2),
        OptimConfig((0.1,)),
        TrainingConfig(steps=50, batch_size=8, eval_every=50, eval_examples=64),
    )
    teacher_config = TrainConfig(data, MLPConfig(24), optim, training)
    teachers_S = jax.vmap(lambda key: functional_model(teacher_config).init(key))(
        jax.random.split(jax.random.key(3), 2)
    )

    def train(rates: tuple[float, ...], seed: int, num_seeds: int, group_size: int) -> jax.Array:
        run = replace(training, seed=seed, num_seeds=num_seeds)
        if labels == "data":
            problem, teacher = (
                SPEC.teacher_problem(TrainConfig(data, MLPConfig(16), OptimConfig(rates), run)),
                None,
            )
        else:
            problem = SPEC.student_problem(
                StudentConfig(data, MLPConfig(16), OptimConfig(rates), run), teacher_config
            )
            of_lane = [lane.seed - 5 for lane in problem.lanes[::group_size]]
            teacher = jax.tree.map(lambda leaf: leaf[np.asarray(of_lane)], teachers_S)
        engine = ScanEngine(problem, group_size)
        return engine.advance(engine.init(), teacher, 50).params["hidden"]["kernel"]

    alone, together, grouped = (
        train((0.3,), 6, 1, 1),
        train((0.1, 0.3), 5, 2, 1),
        train((0.1, 0.3), 5, 2, 2),
    )
    np.testing.assert_allclose(together[3], alone[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(grouped, together, rtol=1e-5, atol=1e-6)
    assert not jnp.allclose(together[0], together[1])
    assert not jnp.allclose(together[1], together[3])


def test_lanes_are_grouped_only_where_they_share_a_teacher_for_good() -> None:
    lanes = (Lane(5, 0.1), Lane(5, 0.3), Lane(6, 0.1), Lane(6, 0.3))
    assert Supervision((schedule.ce(10),) * 4, None).group_size(lanes) == 2
    early, late = schedule.two_shot(10, 8, 2, 5), schedule.two_shot(10, 8, 4, 5)
    assert Supervision((early, early, late, late), None).group_size(lanes) == 2
    assert Supervision((early, late, late, late), None).group_size(lanes) == 1
    assert (
        Supervision(
            (schedule.till_saturate(10, 8, schedule.ScheduleConfig(interval=2)),) * 4, None
        ).group_size(lanes)
        == 1
    )
