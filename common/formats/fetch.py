"""Models of the Hugging Face hub, downloaded into its cache."""

import importlib
from contextlib import suppress
from pathlib import Path
from typing import Any

from common.base.errors import UserError
from common.formats.folder import CONFIG, PICKLES, conversion

HUB = "hub:"
_FILES = ("*.json", "*.safetensors", "vocab.txt", "merges.txt")


def folder_of(word: str) -> Path:
    """The folder that a user means: a path, or hub:NAME or hub:NAME,revision=R, which is
    downloaded.

    Raises:
        UserError: the hub cannot be reached, has no such model, or has its weights as pickles
            alone.
    """
    if not word.startswith(HUB):
        return Path(word)
    name, revision = name_and_revision(word)
    return fetched(name, revision)


def name_and_revision(word: str) -> tuple[str, str | None]:
    """Of hub:NAME or hub:NAME,revision=R.

    Raises:
        UserError: it is neither.
    """
    name, _, option = word.removeprefix(HUB).partition(",")
    if not name or (option and not option.startswith("revision=")):
        raise UserError(f"{word}: give {HUB}NAME or {HUB}NAME,revision=R")
    return name, option.removeprefix("revision=") or None


def fetched(name: str, revision: str | None) -> Path:
    """The folder of a model of the hub; without a connection that of an earlier download. Raises as
    `folder_of` does."""
    hub = _hub()
    try:
        files = hub.HfApi().list_repo_files(name, revision=revision)
    except Exception as error:  # libraries of several makers raise what they like
        with suppress(Exception):
            return Path(hub.snapshot_download(name, revision=revision, local_files_only=True))
        raise _not_reached(name, revision, error) from None
    if not any(file.endswith(".safetensors") for file in files):
        if any(file in files for file in PICKLES):
            raise UserError(f"the model {name} {conversion(Path(name))}")
        raise UserError(f"the model {name} of the hub has no weights in safetensors files")
    try:
        return Path(hub.snapshot_download(name, revision=revision, allow_patterns=_FILES))
    except Exception as error:
        raise _not_reached(name, revision, error) from None


def revisions_of(name: str) -> list[str]:
    """The names of all branches and tags of a model of the hub: what there is, not what there
    should be.

    Raises:
        UserError: the hub cannot be reached, or has no such model.
    """
    try:
        refs = _hub().HfApi().list_repo_refs(name)
    except Exception as error:
        raise _not_reached(name, None, error) from None
    return sorted(ref.name for ref in (*refs.branches, *refs.tags))


def _hub() -> Any:
    try:
        return importlib.import_module("huggingface_hub")
    except ImportError:
        raise UserError(
            "a model of the hub needs the package huggingface-hub; pip install huggingface-hub, or"
            f" give the folder of a model, with {CONFIG} in it"
        ) from None


def _not_reached(name: str, revision: str | None, error: Exception) -> UserError:
    at = "" if revision is None else f", revision {revision}"
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return UserError(
        f"the model {name}{at} of the hub cannot be had: {reason}. Without a connection, give the"
        " folder of a copy"
    )
