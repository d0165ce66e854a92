"""Progress bars with rate and time left; silent when the output is not a terminal."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

_UNITS = (("days", 86_400), ("hours", 3600), ("minutes", 60))
_SHORT = 1.5
"""Less than so many of a unit are told in the next smaller one."""


class Whole(Protocol):
    """What the work of many bars belongs to."""

    @property
    def total(self) -> int:
        """Stages in all."""
        ...

    @property
    def done(self) -> int:
        """Stages that are done."""
        ...

    def left(self) -> str:
        """The time that the others take, as text; empty if it is not known."""
        ...


_wholes: list[Whole] = []
"""One for each block of `above_bars`, the innermost last."""


@contextmanager
def above_bars(whole: Whole) -> Iterator[None]:
    """Inside this block every bar has another above it, of the whole."""
    _wholes.append(whole)
    try:
        yield
    finally:
        _wholes.pop()


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
        TextColumn("{task.fields[unit]}"),
        TextColumn("{task.fields[rate]}"),
        _TimeLeft(elapsed_when_finished=True),
    )
    bar = Progress(*columns, console=console, disable=not console.is_terminal)
    above = [
        bar.add_task(
            "in all", total=whole.total, completed=whole.done, unit="stages", rate="", whole=whole
        )
        for whole in _wholes[-1:]
    ]
    task = bar.add_task(description, total=total, completed=done, unit=unit, rate="")

    def update(completed: int) -> None:
        elapsed = bar.tasks[task].elapsed or 0.0
        rate = (completed - done) * per_unit / elapsed if elapsed > 0 else 0.0
        shown = f"{rate:,.0f} {rate_unit}/s" if rate >= 1 else ""
        bar.update(task, completed=completed, rate=shown)

    with suppress(OSError):  # here and below: a terminal that has been closed is no reason to fail
        bar.start()
    try:
        yield update
    finally:
        for whole in above:  # what stays on the screen is the bar of the work that is over
            bar.update(whole, visible=False)
        with suppress(OSError):
            bar.stop()


class _TimeLeft(TimeRemainingColumn):
    """As the bar's own rate has it, or as its whole says."""

    def render(self, task: Task) -> Text:
        whole: Whole | None = task.fields.get("whole")
        if whole is None:
            return super().render(task)
        return Text(whole.left(), style="progress.remaining")


def duration_text(seconds: float) -> str:
    """A time in a fitting unit, to two digits: 40 seconds, 9 minutes, 2.5 hours."""
    for unit, length in _UNITS:
        if seconds >= _SHORT * length:
            count = seconds / length
            return f"{count:.0f} {unit}" if count >= 9.5 else f"{count:.2g} {unit}"
    return f"{max(round(seconds), 1)} second{'s' if seconds >= _SHORT else ''}"
