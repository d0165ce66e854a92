"""The same training steps as a plain PyTorch loop, written as one would write them by hand.

Its process has no need of JAX, so that nothing of ours is imported but `benchmarks.side`.
"""

from collections.abc import Iterator

import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset

from benchmarks.side import Work

Batch = tuple[torch.Tensor, torch.Tensor]


def mlp(d: int, width: int) -> nn.Sequential:
    """d -> width ReLU -> 2."""
    return nn.Sequential(nn.Linear(d, width), nn.ReLU(), nn.Linear(width, 2))


def fresh_batches(d: int, k: int, batch_size: int) -> Iterator[Batch]:
    """Endless batches, drawn whole: the cheapest way to make them in PyTorch."""
    while True:
        x = torch.randint(0, 2, (batch_size, d)).float().mul_(2).sub_(1)
        yield x, (x[:, :k].prod(1) > 0).long()


class ParityExamples(IterableDataset[Batch]):
    """Endless single examples, for a DataLoader to collate."""

    def __init__(self, d: int, k: int) -> None:
        self.d, self.k = d, k

    def __iter__(self) -> Iterator[Batch]:
        for x, y in fresh_batches(self.d, self.k, 1):
            yield x[0], y[0]


def loaded_batches(d: int, k: int, batch_size: int) -> Iterator[Batch]:
    """The same batches through a DataLoader in the training process."""
    yield from DataLoader(ParityExamples(d, k), batch_size=batch_size)


def loop(
    d: int,
    k: int,
    width: int,
    batch_size: int,
    rate: float,
    steps: int,
    threads: int,
    loaded: bool,
    teacher_width: int | None,
) -> Work:
    """Rounds of `steps` updates of one model, on batches drawn whole or through a DataLoader."""
    torch.set_num_threads(threads)
    model, teacher = mlp(d, width), None if teacher_width is None else mlp(d, teacher_width)
    batches = loaded_batches(d, k, batch_size) if loaded else fresh_batches(d, k, batch_size)
    return Work(lambda: train(model, teacher, batches, rate, steps))


def train(
    model: nn.Module,
    teacher: nn.Module | None,
    batches: Iterator[Batch],
    rate: float,
    steps: int,
) -> None:
    """`steps` updates of SGD on the labels, or on a teacher's hard labels."""
    optimizer, loss_fn = torch.optim.SGD(model.parameters(), lr=rate), nn.CrossEntropyLoss()
    for _ in range(steps):
        x, y = next(batches)
        if teacher is not None:
            with torch.no_grad():
                y = teacher(x).argmax(1)
        optimizer.zero_grad()
        loss_fn(model(x), y).backward()
        optimizer.step()
