"""`python -m benchmarks.side MODULE:FUNCTION ARGUMENTS`: one side of a benchmark, for
`benchmarks.turns`.

Calls the function with the arguments (JSON), runs a round to warm up, and tells what has been found
so far. Then it waits: for every line on stdin it times a round and tells the seconds, until stdin
ends. What it tells are lines of JSON on stdout; whatever libraries print goes to stderr.

It imports nothing but the function's module, so that no library stands beside a side that does not
need it.
"""

import importlib
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple


class Work(NamedTuple):
    """What a side's function returns."""

    advance: Callable[[], object]
    """One round, to its end."""
    facts: Mapping[str, float] = {}
    """What else there is to know of it, by name."""


def main(make: str, arguments: str) -> None:
    """Set up, warm up, and take turns."""
    told = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    module, function = make.split(":")
    work: Work = getattr(importlib.import_module(module), function)(**json.loads(arguments))
    work.advance()
    tell(told, {"facts": dict(work.facts)})
    for _ in sys.stdin:
        began = time.perf_counter()
        work.advance()
        tell(told, {"seconds": time.perf_counter() - began})


def tell(told: int, answer: Mapping[str, Any]) -> None:
    """One answer, into a file that is open under this number."""
    os.write(told, f"{json.dumps(answer)}\n".encode())


if __name__ == "__main__":
    main(*sys.argv[1:])
