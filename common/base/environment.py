"""Checks of the process that a command is started in: JAX's environment variables, and standard
streams that are closed or cannot show a letter."""

import io
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

_ADDRESS = re.compile(r"^(?:--[\w.-]+=)?([a-z][a-z0-9+.-]*://\S*)", re.IGNORECASE)


def jax_variables() -> str:
    """The environment variables that JAX reads, as text."""
    names = sorted(name for name in os.environ if name.startswith(("JAX_", "XLA_")))
    return ", ".join(f"{name}={os.environ[name]}" for name in names) or "none is set"


def import_jax() -> None:
    """Import JAX, which then reads its environment variables. A value that it cannot read ends the
    process with one message and exit code 2."""
    try:
        import jax  # noqa: F401, PLC0415
    except ValueError as error:
        print(
            f"error: JAX cannot read its environment variables ({jax_variables()}): {error}",
            file=sys.stderr,
        )
        sys.exit(2)


def missing_device() -> str | None:
    """What to do if JAX cannot use the device that it is told to use; None if it can."""
    import jax  # noqa: PLC0415

    try:
        jax.devices()
        return None
    except (RuntimeError, AssertionError) as error:
        reason = str(error).split("\n")[0] or "no such device is found"
    advice = "unset JAX_PLATFORMS, or install what it names (see requirements.txt)"
    return f"JAX cannot start ({reason}) with the environment variables {jax_variables()}; {advice}"


def unreadable(arguments: Sequence[str]) -> str | None:
    """What to do about an argument or a working directory whose bytes are no text in this locale,
    which libraries cannot open, or an argument that is an address, of a bucket say; None if there
    is none."""
    for text in arguments:
        if found := _ADDRESS.search(text):
            return (
                f"{found[1]}: runs, corpora and other files are kept on a file system, not at an"
                " address; mount a bucket (gcsfuse, s3fs) or copy what it holds, and give the path"
            )
    for text in (*arguments, str(Path.cwd())):
        # Python passes on bytes that it cannot decode as letters of this range.
        if any("\udc80" <= letter <= "\udcff" for letter in text):
            shown = text.encode(errors="backslashreplace").decode()
            return (
                f"{shown}: bytes that are no text in this locale; set PYTHONUTF8=1, or choose a"
                " path of other letters"
            )
    return None


def prepare_streams() -> None:
    """Replace closed standard streams by the null device, and escape what an encoding cannot show.

    Otherwise the next file that is opened would get the number of a closed stream, and what
    libraries print would go into it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115, PTH123
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def flush_streams() -> None:
    """Print what is left in the buffer while an error can still be reported.

    Raises:
        OSError: it cannot be printed; nothing more will be.
    """
    try:
        sys.stdout.flush()
    except OSError:
        close_stdout()
        raise


def close_stdout() -> None:
    """Send what is left in the buffer to the null device, so that Python reports no error at its
    end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
