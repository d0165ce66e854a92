"""Progress bars with rate and time left; silent when the output is not a terminal."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


@contextmanager
def progress_bar(
    description: str,
    total: int,
    done: int = 0,
    unit: str = "steps",
    per_unit: int = 1,
    rate_unit: str = "steps",
) -> Iterator[Callable[[int], None]]:
    """A bar over `total` units; yields a function that takes the number completed.

    Args:
        description: what is going on.
        total: units in all.
        done: units completed before; they do not count towards the rate.
        unit: what a unit is called.
        per_unit: the rate that is shown, over units a second (examples a step x lanes, say).
        rate_unit: what the rate counts.
    """
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}", markup=False),  # it may be the name of a directory
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TextColumn(unit),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    bar = Progress(*columns, console=console, disable=not console.is_terminal)
    task = bar.add_task(description, total=total, completed=done, rate="")

    def update(completed: int) -> None:
        elapsed = bar.tasks[task].elapsed or 0.0
        rate = (completed - done) * per_unit / elapsed if elapsed > 0 else 0.0
        bar.update(task, completed=completed, rate=f"{rate:,.0f} {rate_unit}/s" if rate else "")

    with suppress(OSError):  # here and below: a terminal that has been closed is no reason to fail
        bar.start()
    try:
        yield update
    finally:
        with suppress(OSError):
            bar.stop()
