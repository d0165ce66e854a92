"""Progress bars with rate and time left, above them one for the whole; silent where there is no
terminal."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import fmean

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

_UNITS = (("years", 31_536_000), ("days", 86_400), ("hours", 3600), ("minutes", 60))
_SHORT = 1.5
"""Less than so many of a unit are told in the next smaller one."""


class Whole:
    """The stages of one plan or of several: how many are done, and how long the others take."""

    def __init__(self, num_done: int, to_do: Mapping[Path, float | None]) -> None:
        """Begin to count.

        Args:
            num_done: stages that are done already.
            to_do: the seconds that every other stage is expected to take, by its output; None: not
                known.
        """
        self.total = num_done + len(to_do)
        self._to_do = dict(to_do)
        self._took: list[float] = []
        self._running: Path | None = None
        self._began = 0.0

    @property
    def done(self) -> int:
        """Stages that are done."""
        return self.total - len(self._to_do)

    @contextmanager
    def carrying_out(self, stage: Path) -> Iterator[None]:
        """A stage is carried out inside this block, and done at its end."""
        self._running, self._began = stage, time.monotonic()
        yield
        self._took.append(time.monotonic() - self._began)
        self._running = None
        self._to_do.pop(stage, None)

    def left(self) -> str:
        """About how long the stages take that are not done. Of which nothing is known, it is what
        those took, on the average, that were carried out here; empty before there is one."""
        seconds = 0.0
        for stage, expected in self._to_do.items():
            if expected is None and not self._took:
                return ""
            of_stage = fmean(self._took) if expected is None else expected
            elapsed = time.monotonic() - self._began if stage == self._running else 0.0
            seconds += max(of_stage - elapsed, 0.0)
        return f"about {duration_text(seconds)} left"


_shown: list[Whole] = []
"""What all bars belong to; at most one."""


def shown_whole() -> Whole | None:
    """What all bars belong to at this moment."""
    return _shown[0] if _shown else None


@contextmanager
def above_bars(whole: Whole) -> Iterator[None]:
    """Inside this block every bar has another above it, of the whole."""
    _shown.append(whole)
    try:
        yield
    finally:
        _shown.clear()


@contextmanager
def progress_bar(
    description: str,
    total: int | None,
    done: int = 0,
    unit: str = "steps",
    per_unit: int = 1,
    rate_unit: str = "steps",
) -> Iterator[Callable[[int], None]]:
    """A bar over `total` units; yields a function that takes the number completed.

    Args:
        description: what is going on.
        total: units in all; None: nobody knows.
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
        for whole in _shown
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
