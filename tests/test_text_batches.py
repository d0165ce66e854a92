"""Batches of text: from plain ids to what a model sees; from the devices and from the host, the
same bits."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from common.base.config import TrainingConfig
from common.base.errors import UserError
from common.sequence.masking import CountedMaskingConfig
from common.train import engine, feed
from common.train.engine import Metrics, ScanEngine, TrainState
from common.train.optim import OptimConfig
from common.train.problem import Problem, Trains, teacher_problem
from mlm.data import TextConfig
from mlm.model import TextModel
from mlm.task import MaskedText, task_of
from tests.corpora import NUM_SPECIAL, random_documents, write_corpus

LENGTH, STEPS, BATCH = 14, 11, 6
MASKING = CountedMaskingConfig(0.3, whole_words=True)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sources of different weights."""
    return write_corpus(
        tmp_path_factory.mktemp("corpora") / "small",
        {
            "train": [(1.0, random_documents(0, 80, 40)), (3.0, random_documents(1, 40, 60))],
            "validation": [(1.0, random_documents(2, 30, 40))],
        },
    )


@pytest.fixture(scope="module")
def task(corpus: Path) -> MaskedText:
    return task_of(TextConfig(corpus, LENGTH), MASKING)


class Config:
    """What `teacher_problem` reads of a configuration."""

    model = TextModel(2, layers=1, dropout=0.1)
    optim = OptimConfig((1e-3,), kind="adam")

    def __init__(self, num_seeds: int) -> None:
        self.training = TrainingConfig(
            STEPS, BATCH, eval_every=STEPS, eval_examples=16, num_seeds=num_seeds
        )


def problem_of(task: MaskedText, num_seeds: int, device_bytes: int) -> Problem:
    config: Trains = Config(num_seeds)
    problem = teacher_problem(task, config)
    return replace(problem, device_bytes=device_bytes, programs={})


def test_a_batch_is_made_of_rows_of_the_corpus(task: MaskedText) -> None:
    problem = problem_of(task, 1, 2**30)
    batch = jax.device_get(jax.jit(problem.sample)(problem.data(), jax.random.key(0)))
    inputs, visible, at = batch.inputs.tokens_BxT, batch.inputs.visible_BxT, batch.inputs.at_BxP
    ids, text = task.text.pieces.ids, task.text
    size = round(0.3 * (LENGTH - 2))
    assert at.shape == batch.labels.shape == batch.mask.shape == (BATCH, size)
    tokens = inputs.copy()
    for row, places, labels, mask in zip(tokens, at, batch.labels, batch.mask, strict=True):
        row[places[mask > 0]] = labels[mask > 0]
    documents = [
        shard.tokens[first:stop].tolist()
        for shard in text.train.shards
        for first, stop in zip(shard.offsets[:-1], shard.offsets[1:], strict=True)
    ]
    for row, seen in zip(tokens.tolist(), visible, strict=True):
        length = int(seen.sum())
        assert row[0] == ids.cls
        assert row[length - 1] == ids.sep
        assert set(row[length:]) <= {ids.pad}
        own = row[1 : length - 1]
        assert any(
            document[i : i + len(own)] == own
            for document in documents
            for i in range(len(document))
        )
    assert (batch.labels[batch.mask > 0] >= NUM_SPECIAL).all()


def test_the_unknown_and_special_tokens_are_never_asked_for(tmp_path: Path) -> None:
    """Nor drawn as random words."""
    unknown = 1
    documents = [[unknown, NUM_SPECIAL] * 20]
    path = write_corpus(
        tmp_path / "c", {"train": [(1.0, documents)], "validation": [(1.0, documents)]}
    )
    masking = CountedMaskingConfig(1.0, mask_share=0.0, random_share=1.0)
    task = task_of(TextConfig(path, LENGTH), masking)
    assert task.text.word_ids == tuple(range(NUM_SPECIAL, NUM_SPECIAL + 40))
    problem = problem_of(task, 1, 2**30)
    batch = jax.device_get(jax.jit(problem.sample)(problem.data(), jax.random.key(0)))
    assert set(batch.labels[batch.mask > 0].tolist()) == {NUM_SPECIAL}
    assert (
        np.take_along_axis(batch.inputs.tokens_BxT, batch.inputs.at_BxP, 1)[batch.mask > 0]
        >= NUM_SPECIAL
    ).all()


def test_the_evaluation_set_is_fixed_and_of_validation_documents(task: MaskedText) -> None:
    """Whatever lies on the device."""
    first, second = (jax.device_get(problem_of(task, 1, room).evaluation()) for room in (0, 2**30))
    jax.tree.map(np.testing.assert_array_equal, first, second)
    other = task_of(replace(task.config, seed=1), MASKING)
    changed = jax.device_get(problem_of(other, 1, 0).evaluation())
    assert (changed.inputs.tokens_BxT != first.inputs.tokens_BxT).any()


def test_tasks_of_the_same_rows_are_equal(task: MaskedText, corpus: Path) -> None:
    assert task_of(TextConfig(corpus, LENGTH), MASKING) == task
    assert task_of(TextConfig(corpus, LENGTH + 1), MASKING) != task


def trained(problem: Problem, chunks: tuple[int, ...]) -> tuple[ScanEngine, TrainState, Metrics]:
    made = ScanEngine(problem)
    state = made.init()
    for num_steps in chunks:
        state = made.advance(state, None, num_steps)
    return made, *made.record(state)


def test_every_batch_has_the_same_bits_from_the_devices_and_from_the_host(
    task: MaskedText, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of all streams, wherever in its part a step lies."""
    monkeypatch.setattr(feed, "PART_BYTES", 3 * 2 * BATCH * task.stored().example_bytes)
    problem = problem_of(task, 2, 0)
    made, data = ScanEngine(problem), problem_of(task, 2, 2**30).data()
    assert made.feed is not None
    sample = jax.jit(problem.sample)
    for first, num_steps in ((0, 3), (3, 2), (5, 3), (20, 1)):
        part = task.with_stored(made.data, made.feed.part(first, num_steps))
        for step in range(first, first + num_steps):
            for seed in (0, 1):
                stream = engine.lane_key(problem, jax.numpy.uint32(seed), "train-data")
                key = jax.random.fold_in(stream, step)
                fed, whole = (jax.device_get(sample(own, key)) for own in (part, data))
                jax.tree.map(np.testing.assert_array_equal, fed, whole)


@pytest.mark.parametrize(("num_seeds", "is_shared"), [(1, True), (2, False)])
def test_steps_are_the_same_from_the_devices_and_from_the_host(
    task: MaskedText, num_seeds: int, is_shared: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To rounding, which is that of two programs, over devices that share a batch and over lanes;
    in chunks of any length, of whose steps a part has three."""
    monkeypatch.setattr(feed, "PART_BYTES", 3 * num_seeds * BATCH * task.stored().example_bytes)
    monkeypatch.setattr(engine, "LONG_STEP", 0.0 if is_shared else 1e20)
    whole, *expected = trained(problem_of(task, num_seeds, 2**30), (4, 1, 6))
    fed, *found = trained(problem_of(task, num_seeds, task.stored().nbytes - 1), (4, 1, 6))
    assert whole.feed is None
    assert fed.feed is not None
    assert fed.feed.num_steps == 3
    assert fed.num_devices == whole.num_devices == 2
    one, other = jax.device_get(found), jax.device_get(expected)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), one, other)
    assert one[0].step.tolist() == [STEPS] * num_seeds
    assert one[1]["train_loss"] == pytest.approx(other[1]["train_loss"], rel=1e-6)


def test_a_device_holds_of_a_fed_corpus_what_its_steps_need(
    task: MaskedText, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "PART_BYTES", 1)
    fed = ScanEngine(problem_of(task, 1, 0))
    assert fed.feed is not None
    part: Any = fed.feed.part(0, 1)
    assert part.number_R.shape == (BATCH,)
    assert part.text_N.shape == (BATCH * (LENGTH - 2),)
    assert fed.data.train.number_R.shape == (1,)


class Stream:
    """Stored numbers, and which of them have been read in which thread."""

    nbytes = example_bytes = 1

    def __init__(self) -> None:
        self.read: list[list[int]] = []

    def draw(self, key: jax.Array, num_examples: int) -> jax.Array:
        raise NotImplementedError

    def whole(self) -> np.ndarray:
        raise NotImplementedError

    def part(self, numbers_N: np.ndarray) -> np.ndarray:
        self.read.append(numbers_N.tolist())
        return numbers_N


@pytest.fixture
def fed(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Stream, feed.Feed]]:
    """Steps with one example each, whose number is that of the step; four in a part."""
    monkeypatch.setattr(feed, "PART_BYTES", 4)
    stream = Stream()
    numbers = lambda first, count: jax.numpy.arange(first, first + count)  # noqa: E731
    yield stream, feed.Feed(stream, numbers, lambda part: part, 1)


def test_parts_are_read_ahead_and_once(fed: tuple[Stream, feed.Feed]) -> None:
    stream, made = fed
    for first, num_steps in ((0, 4), (4, 4), (8, 4)):
        assert set(range(first, first + num_steps)) <= set(made.part(first, num_steps).tolist())
    assert made.coming is not None
    made.coming[1].result()
    assert stream.read == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11], [12, 13, 14, 15]]


def test_a_part_serves_as_many_chunks_as_it_covers(fed: tuple[Stream, feed.Feed]) -> None:
    stream, made = fed
    for first in range(0, 8, 2):
        assert {first, first + 1} <= set(made.part(first, 2).tolist())
    assert made.coming is not None
    made.coming[1].result()
    assert stream.read == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]


def test_a_run_that_goes_on_elsewhere_reads_what_it_needs(fed: tuple[Stream, feed.Feed]) -> None:
    """Also after another step than the expected one."""
    _, made = fed
    assert made.part(0, 4).tolist() == [0, 1, 2, 3]
    assert made.part(100, 3).tolist() == [100, 101, 102, 103]
    assert made.part(1, 2).tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("num_steps", "pieces"), [(1, [1]), (4, [4]), (5, [3, 2]), (12, [4, 4, 4]), (9, [3, 3, 3])]
)
def test_chunks_are_cut_evenly(
    num_steps: int, pieces: list[int], fed: tuple[Stream, feed.Feed]
) -> None:
    assert fed[1].pieces(num_steps) == pieces


def test_an_error_of_the_reader_is_the_training_s(
    fed: tuple[Stream, feed.Feed], monkeypatch: pytest.MonkeyPatch
) -> None:
    stream, made = fed

    def fail(numbers_N: np.ndarray) -> np.ndarray:
        raise OSError("gone")

    monkeypatch.setattr(stream, "part", fail)
    with pytest.raises(OSError, match="gone"):
        made.part(0, 4)


def test_a_corpus_shorter_than_a_row_is_refused(tmp_path: Path) -> None:
    documents = [(1.0, [[NUM_SPECIAL] * 9])]
    path = write_corpus(tmp_path / "c", {"train": documents, "validation": documents})
    with pytest.raises(UserError, match="9 tokens of text where one row takes 12"):
        TextConfig(path, LENGTH).load()
