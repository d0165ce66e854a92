"""What can be wrong with the process that a command is started in: JAX's variables, and standard streams that are closed or cannot show a letter."""

import io
import os
import sys
import traceback

_STARTS_BACKENDS = "jax._src.xla_bridge"


def jax_variables() -> str:
    """The variables from which JAX takes its settings, as they are set."""
    names = sorted(name for name in os.environ if name.startswith(("JAX_", "XLA_")))
    return ", ".join(f"{name}={os.environ[name]}" for name in names) or "none is set"


def import_jax() -> None:
    """Import JAX, which reads its variables then; a value that it cannot read ends the process with one message and exit code 2."""
    try:
        import jax  # noqa: F401, PLC0415
    except ValueError as error:
        print(f"error: JAX cannot read its environment variables ({jax_variables()}): {error}", file=sys.stderr)
        sys.exit(2)


def explain_backend_error(error: Exception) -> str | None:
    """What to do about a device that JAX was told to use and cannot; None if the error is another."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    if not any(frame.f_globals.get("__name__") == _STARTS_BACKENDS for frame in frames):
        return None
    reason = str(error).split("\n")[0] or type(error).__name__
    advice = "unset JAX_PLATFORMS, or install what it names (see requirements.txt)"
    return f"JAX cannot start ({reason}) with the environment variables {jax_variables()}; {advice}"


def prepare_streams() -> None:
    """Let a closed stream lead nowhere, and escape what a stream's encoding cannot show.

    Otherwise the next file that is opened would get the number of a closed stream, and with it what libraries print.
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
    """Let what is left to be printed lead nowhere, so that Python does not complain of it at the end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
