"""Commands as processes of their own, without starting Python for each: that would take longer than
most of them run.

A server process imports what commands need and is forked for each (`multiprocessing`'s forkserver).
XLA's threads start after the fork, so that the child is what `python -m MODULE` would be from its
first line on, and signals reach it as they would reach that.
"""

import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Mapping
from multiprocessing.process import BaseProcess
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    [f"parity.{stage}" for stage in ("train", "distill", "probe", "law", "experiment", "claims")]
    + [
        f"pcfg.{stage}"
        for stage in ("train", "distill", "probe", "nonterminal", "ceiling", "experiment", "claims")
    ]
    + ["common.export", "common.runs.__main__", "figures.reproduce", "figures.publish"]
)


def start_module(
    module: str,
    *args: object,
    cwd: Path = REPOSITORY,
    out: Path | None = None,
    err: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> BaseProcess:
    """Start `python -m module args`.

    Args:
        module: what to run.
        *args: its arguments.
        cwd: where.
        out: file for what it prints; None: nowhere.
        err: the same for its errors.
        environment: variables besides those of the tests. Folders in PYTHONPATH come first.
    """
    files = [str(path or os.devnull) for path in (out, err)]
    process = _CONTEXT.Process(
        target=_run,
        args=(module, [str(arg) for arg in args], str(cwd), *files, dict(environment or {})),
    )
    process.start()
    return process


def run_module(
    module: str,
    *args: object,
    cwd: Path = REPOSITORY,
    environment: Mapping[str, str] | None = None,
    timeout: float = 300,
) -> subprocess.CompletedProcess[str]:
    """Run `python -m module args` to its end as a user would; see `start_module`."""
    with tempfile.TemporaryDirectory() as scratch:
        out, err = Path(scratch) / "out", Path(scratch) / "err"
        process = start_module(module, *args, cwd=cwd, out=out, err=err, environment=environment)
        process.join(timeout)
        if process.is_alive():
            process.kill()
            raise TimeoutError(
                f"{module} {args}: still running after {timeout} s\n{err.read_text()}"
            )
        return subprocess.CompletedProcess(
            [module, *map(str, args)], process.exitcode or 0, out.read_text(), err.read_text()
        )


def _run(
    module: str, args: list[str], cwd: str, out: str, err: str, environment: dict[str, str]
) -> None:
    os.chdir(cwd)
    os.environ.update(environment)
    sys.path[:0] = filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))
    for path, stream in ((out, sys.stdout), (err, sys.stderr)):
        stream.flush()
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, stream.fileno())
        os.close(file)
    sys.argv = [module, *args]
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", "'.*' found in sys.modules", RuntimeWarning
        )  # it has been imported, that is the point
        runpy.run_module(module, run_name="__main__", alter_sys=True)
