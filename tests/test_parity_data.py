"""Sparse-parity data: labels, distribution, support, streams."""

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.base.config import TrainingConfig
from common.base.errors import UserError
from common.base.keys import seed_key
from parity.data import ParityData, eval_batch, level_correct, sample, supports_of


# Few shapes, because each of them is compiled.
@given(
    d=st.sampled_from((1, 2, 9, 33, 70)),
    seed=st.integers(0, 1000),
    share=st.sampled_from((0.01, 0.2, 1)),
)
def test_labels_are_the_parity_of_the_support(d: int, seed: int, share: float) -> None:
    data = ParityData(d=d, k=max(1, int(share * d)), seed=seed)
    (support,) = supports_of(data)
    batch = sample(jax.random.key(seed), data, (support,), 32)
    x = np.asarray(batch.inputs)
    assert x.shape == (32, d)
    assert set(np.unique(x)) <= {-1.0, 1.0}
    np.testing.assert_array_equal(
        np.asarray(batch.labels), (np.prod(x[:, support], axis=1) > 0).astype(int)
    )


@given(d=st.integers(1, 60), k=st.integers(1, 60), seed=st.integers(0, 1000))
def test_a_drawn_support_has_k_distinct_coordinates(d: int, k: int, seed: int) -> None:
    if k > d:
        with pytest.raises(ValueError, match=r"data\.k"):
            ParityData(d=d, k=k, seed=seed)
        return
    (support,) = supports_of(ParityData(d=d, k=k, seed=seed))
    assert len(set(support)) == k
    assert set(support) <= set(range(d))
    assert (support,) == supports_of(ParityData(d=d, k=k, seed=seed))


def test_supports_differ_between_data_seeds() -> None:
    assert len({supports_of(ParityData(d=100, k=6, seed=seed)) for seed in range(10)}) == 10


def test_inputs_are_uniform_and_independent() -> None:
    data = ParityData(d=40, k=4)
    x = np.asarray(sample(jax.random.key(0), data, supports_of(data), 20_000).inputs)
    assert np.abs(x.mean(0)).max() < 5 / np.sqrt(20_000)
    covariance = x.T @ x / len(x) - np.eye(40)
    assert np.abs(covariance).max() < 5.5 / np.sqrt(20_000)


def test_evaluation_is_fixed_and_apart_from_training() -> None:
    data = ParityData(d=40, k=4)
    first, second = (
        eval_batch(data, supports_of(data), 4096),
        eval_batch(data, supports_of(data), 4096),
    )
    np.testing.assert_array_equal(first.inputs, second.inputs)
    train = np.asarray(
        sample(
            jax.random.fold_in(seed_key(0, "teacher/train-data"), 0), data, supports_of(data), 4096
        ).inputs
    )
    rows = {row.tobytes() for row in np.asarray(first.inputs)}
    assert not any(row.tobytes() in rows for row in train)


@pytest.mark.parametrize(
    ("support", "message"),
    [
        ((1, 1, 2), "twice"),
        ((1, 2), "has 2 coordinates"),
        ((1, 2, 10), "numbered 0 to"),
        ((-1, 2, 3), "numbered 0 to"),
    ],
)
def test_odd_supports_are_refused(support: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ParityData(d=10, k=3, support=support)


def test_the_published_draw_cancels_coordinates_drawn_twice() -> None:
    """With replacement some supports lose two coordinates at a time; the labels are the parity of
    what is left."""
    sizes = set()
    for seed in range(60):
        data = ParityData(6, 4, with_replacement=True, seed=seed)
        try:
            (support,) = supports_of(data)
        except UserError as error:
            assert "even number of times" in str(error)
            continue
        sizes.add(len(support))
        assert len(set(support)) == len(support)
        batch = sample(jax.random.key(seed), data, (support,), 64)
        np.testing.assert_array_equal(
            batch.labels, np.prod(np.asarray(batch.inputs)[:, support], axis=1) > 0
        )
    assert sizes == {2, 4}


@pytest.mark.parametrize(("depth", "k"), [(1, 3), (2, 2), (3, 2), (4, 1)])
def test_a_label_of_a_tree_has_the_largest_score(depth: int, k: int) -> None:
    """Brute force by the definition: the score of a leaf is the sum of signed parities along its
    path, + where the path turns left."""
    data = ParityData(20, k, depth=depth, seed=3)
    supports = supports_of(data)
    members = [i for support in supports for i in support]
    assert len(set(members)) == len(members) == k * (2**depth - 1)
    batch = sample(jax.random.key(0), data, supports, 200)
    labels = set()
    for x, label in zip(np.asarray(batch.inputs), np.asarray(batch.labels), strict=True):
        scores = {}
        for turns in itertools.product((1, 0), repeat=depth):  # 1: left
            node, score = 1, 0.0  # heap order from 1: the children of n are 2n, left, and 2n + 1
            for left in turns:
                score += (1 if left else -1) * np.prod(x[list(supports[node - 1])])
                node = 2 * node + (1 - left)
            scores[int("".join(map(str, turns)), 2)] = score
        best = max(scores.values())
        assert [leaf for leaf, score in scores.items() if score == best] == [label]
        labels.add(int(label))
    assert labels == set(range(2**depth))


def test_accuracy_of_a_level_sums_over_the_leaves_below() -> None:
    data = ParityData(8, 1, depth=2)
    probabilities = np.array([[0.3, 0.3, 0.4, 0.0], [0.1, 0.2, 0.3, 0.4], [0.0, 0.0, 0.45, 0.55]])
    correct = level_correct(
        data, jnp.log(jnp.asarray(probabilities) + 1e-9), jnp.asarray([2, 2, 0])
    )
    assert list(correct) == ["accuracy_level_1"]
    # The first row's best leaf is right, but its best half is not.
    np.testing.assert_array_equal(correct["accuracy_level_1"], [False, True, False])


def test_trees_that_do_not_fit_are_refused() -> None:
    with pytest.raises(
        ValueError,
        match=r"7 disjoint supports of data\.k = 3 coordinates: larger than data\.d = 20",
    ):
        ParityData(20, 3, depth=3)
    with pytest.raises(ValueError, match="with_replacement"):
        ParityData(20, 3, depth=2, with_replacement=True)


def test_a_tree_is_learnt_and_its_levels_are_recorded(
    tmp_path: Path, refused: Callable[..., str]
) -> None:
    from common.runs.directory import RunDirectory
    from parity import probe, train
    from tests.conftest import TINY_TEACHER

    train.main(
        [
            "--run-dir",
            str(tmp_path / "t"),
            *TINY_TEACHER,
            "--data.k",
            "1",
            "--data.depth",
            "2",
            "--training.steps",
            "512",
        ]
    )
    last = RunDirectory(tmp_path / "t").metrics()[-1]
    assert min(last["accuracy"]) > 0.9
    assert all(
        level >= leaf
        for level, leaf in zip(last["accuracy_level_1"], last["accuracy"], strict=True)
    )
    assert "4 labels" in refused(probe.main, tmp_path / "t")


def test_compat_authors_reaches_the_run(tmp_path: Path) -> None:
    from common.runs.directory import RunDirectory
    from parity import distill, train
    from tests.conftest import TINY_STUDENT, TINY_TEACHER

    train.main(
        ["--run-dir", str(tmp_path / "t"), *TINY_TEACHER, "--data.seed", "1", "--compat", "authors"]
    )
    args = [
        "--run-dir",
        str(tmp_path / "s"),
        "--teacher",
        str(tmp_path / "t"),
        *TINY_STUDENT,
        "--data.seed",
        "1",
        "--compat",
        "authors",
    ]
    distill.main(
        [
            *args,
            "--loss.labels",
            "soft",
            "--loss.direction",
            "reverse",
            "--schedule",
            "one-shot",
            "--optim.learning-rate",
            "1e-3",
        ]
    )
    for name in ("t", "s"):
        config = RunDirectory(tmp_path / name).record["config"]
        assert config["data"]["with_replacement"]
        assert config["training"]["eval_examples"] == 250
    assert config["loss"]["direction"] == "reverse-raw"


def test_compat_authors_on_a_tree_keeps_its_supports_disjoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from parity import train
    from tests.conftest import TINY_TEACHER

    tree = ("--data.depth", "2", "--data.k", "2", "--compat", "authors")
    train.main(["--run-dir", str(tmp_path / "t"), *TINY_TEACHER, *tree, "--dry-run"])
    assert "on 250 examples" in capsys.readouterr().out


def test_the_published_decay_counts_examples() -> None:
    """250k updates at batch 32 in a decay of 8M steps: the rate of every update as the authors'
    own would have it."""
    from common.nn.gpt2 import GPT2Config
    from common.train.optim import learning_rate_shape
    from parity.config import TrainConfig
    from parity.published import TEACHER_DEFAULTS, as_published, counted_in_examples

    updates, batch_size = 250_000, 32
    optim = TEACHER_DEFAULTS["transformer"][1]
    published = counted_in_examples(optim, batch_size)
    ours, theirs = (
        learning_rate_shape(published, updates),
        learning_rate_shape(optim, updates * batch_size),
    )
    for step in (0, 1, 1000, 100_000, 249_999):
        # optax counts down from one in float32, which leaves the first steps few digits.
        assert published.learning_rate[0] * np.asarray(ours(step)) == pytest.approx(
            3e-4 * np.asarray(theirs(step)), rel=1e-5, abs=1e-11
        )
    assert published.learning_rate[0] * np.asarray(ours(0)) > 0
    assert published.learning_rate[0] * np.asarray(ours(updates - 1)) == pytest.approx(
        0.5208 * 3e-4, rel=1e-4
    )

    config = TrainConfig(ParityData(8, 2), GPT2Config(2), optim, TrainingConfig(10, batch_size, 10))
    assert as_published(config).optim == published
    with pytest.raises(UserError, match="within its cosine"):
        as_published(replace(config, training=replace(config.training, batch_size=8)))
    for same in (
        replace(config, optim=replace(optim, decay="constant")),
        replace(config, training=replace(config.training, batch_size=1)),
    ):
        assert as_published(same).optim == same.optim
