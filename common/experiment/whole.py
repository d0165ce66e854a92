"""The stages of one or several plans as one whole: how many are done, and about how long the others
take."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean

from common.base.progress import above_bars, duration_text
from common.experiment.costs import known_costs
from common.experiment.stages import Stage


class Whole:
    """Counts stages while they are carried out one after another."""

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
    def carrying_out(self, output: Path) -> Iterator[None]:
        """A stage is carried out inside this block, and done at its end."""
        self._running, self._began = output, time.monotonic()
        yield
        self._took.append(time.monotonic() - self._began)
        self._running = None
        self._to_do.pop(output, None)

    def left(self) -> str:
        """About how long the stages take that are not done. Of which nothing is known, it is what
        those took, on the average, that were carried out here; empty before there is one."""
        seconds = 0.0
        for output, expected in self._to_do.items():
            if expected is None and not self._took:
                return ""
            of_stage = fmean(self._took) if expected is None else expected
            elapsed = time.monotonic() - self._began if output == self._running else 0.0
            seconds += max(of_stage - elapsed, 0.0)
        return f"about {duration_text(seconds)} left"


_counting: list[Whole] = []
"""That of the outermost block of `counted`."""


@contextmanager
def counted(to_do: Sequence[Stage], planned: Sequence[Stage]) -> Iterator[Whole]:
    """Inside this block the bars of stages have another above them, of all that are planned. A
    block inside another is part of that.

    Args:
        to_do: stages that are not done.
        planned: all stages.
    """
    if _counting:
        yield _counting[0]
        return
    costs = known_costs(to_do, planned)
    expected = {
        stage.output: costs[stage.output].seconds if stage.output in costs else None
        for stage in to_do
    }
    whole = Whole(len(planned) - len(to_do), expected)
    _counting.append(whole)
    try:
        with above_bars(whole):
            yield whole
    finally:
        _counting.clear()
