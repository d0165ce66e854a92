"""What can be wrong with the process that a command is started in: JAX's variables, and standard
streams that are closed or cannot show a letter."""

import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path


def jax_variables() -> str:
    """The variables from which JAX takes its settings, as they are set."""
    names = sorted(name for name in os.environ if name.startswith(("JAX_", "XLA_")))
    return ", ".join(f"{name}={os.environ[name]}" for name in names) or "none is set"


def import_jax() -> None:
    """Import JAX, which reads its variables then; a value that it cannot read ends the process with
    one message and exit code 2."""
    try:
        import jax  # noqa: F401, PLC0415
    except ValueError as error:
        print(
            f"error: JAX cannot read its environment variables ({jax_variables()}): {error}",
            file=sys.stderr,
        )
        sys.exit(2)


def missing_device() -> str | None:
    """What to do if JAX cannot use the device that it is told to; None if it can."""
    import jax  # noqa: PLC0415

    try:
        jax.devices()
        return None
    except (RuntimeError, AssertionError) as error:
        reason = str(error).split("\n")[0] or "no such device is found"
    advice = "unset JAX_PLATFORMS, or install what it names (see requirements.txt)"
    return f"JAX cannot start ({reason}) with the environment variables {jax_variables()}; {advice}"


def unreadable(arguments: Sequence[str]) -> str | None:
    """What to do about an argument, or a working directory, whose bytes are no text in this locale:
    libraries cannot open such paths."""
    for text in (*arguments, str(Path.cwd())):
        if any(
            "\udc80" <= letter <= "\udcff" for letter in text
        ):  # how Python passes on bytes that it cannot decode
            shown = text.encode(errors="backslashreplace").decode()
            return (
                f"{shown}: bytes that are no text in this locale; set PYTHONUTF8=1, or choose a"
                " path of other letters"
            )
    return None


def prepare_streams() -> None:
    """Let a closed stream lead nowhere, and escape what a stream's encoding cannot show.

    Otherwise the next file that is opened would get the number of a closed stream, and with it what
    libraries print.
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
    """Write what is left to be printed, while an error can still be told.

    Raises:
        OSError: it cannot be written; nothing more will be.
    """
    try:
        sys.stdout.flush()
    except OSError:
        close_stdout()
        raise


def close_stdout() -> None:
    """Let what is left to be printed lead nowhere, so that Python does not complain of it at the
    end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
