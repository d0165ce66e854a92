"""`python -m tests.forked_sides MODULE ARGUMENTS`: a benchmark whose sides are forked, and not
started: a small one takes most of its time to import libraries, once for each side.

They are processes of their own all the same, and talk to the benchmark as `benchmarks.side` does;
but what has been imported for one of them, later ones have too. (Sides are started in
`tests.test_turns` and for one of the benchmarks that `tests.test_readme` tries.)
"""

import importlib
import os
import runpy
import subprocess
import sys
import traceback
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import IO, Any, NoReturn

from benchmarks import side, turns

FIRST_OWN = 3
"""Files with smaller numbers are the standard streams."""
MOST_FILES = 1024


class Forked:
    """What `benchmarks.turns` needs of a `subprocess.Popen`."""

    def __init__(
        self, command: Sequence[str], *, stderr: IO[bytes], env: Mapping[str, str], **_: Any
    ) -> None:
        """Begin `PYTHON -m benchmarks.side MAKE ARGUMENTS`, with its errors in a file and these
        variables."""
        make, arguments = command[3:]
        importlib.import_module(make.split(":")[0])
        sys.stdout.flush()
        its_in, our_out = os.pipe()
        our_in, its_out = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            _be_side(make, arguments, (its_in, its_out, stderr.fileno()), env)
        os.close(its_in)
        os.close(its_out)
        self.stdin = os.fdopen(our_out, "wb", buffering=0)
        self.stdout = os.fdopen(our_in, "rb", buffering=0)

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code, when it has ended: it does once its stdin is closed."""
        _, status = os.waitpid(self.pid, 0)
        return os.waitstatus_to_exitcode(status)


def _be_side(
    make: str, arguments: str, streams: tuple[int, int, int], env: Mapping[str, str]
) -> NoReturn:
    """Never returns to what the process that was forked was about to do."""
    code = 1
    try:
        os.setsid()
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
        os.closerange(FIRST_OWN, MOST_FILES)  # else the pipes of other sides would not end
        os.environ.clear()
        os.environ.update(env)
        sys.stdin = os.fdopen(0, closefd=False)
        side.main(make, arguments)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    turns.subprocess = SimpleNamespace(**vars(subprocess) | {"Popen": Forked})  # type: ignore
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
