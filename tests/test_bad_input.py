"""Bad input of every kind, to every command: one message, an exit code, no traceback, nothing of
the user's changed.

Beside the inputs that the tests of single commands have; these are the ones that a hurried user
gives.
"""

import importlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from common.base.errors import run_command
from tests.conftest import TINY_STUDENT, TINY_TEACHER


def empty_file(home: Path) -> None:
    (home / "file").touch()


def garbage_manifest(home: Path) -> None:
    (home / "teacher" / "manifest.json").write_text("\x00\x01 not JSON")


def list_as_config(home: Path) -> None:
    (home / "teacher" / "config.json").write_text("[]")


def other_version(home: Path) -> None:
    path = home / "teacher" / "config.json"
    record = json.loads(path.read_text())
    record["config"]["model"] = {"width": "wide"}
    path.write_text(json.dumps(record))


def no_metrics(home: Path) -> None:
    (home / "teacher" / "metrics.jsonl").write_text("{]\n")


def unreadable_checkpoint(home: Path) -> None:
    for path in (home / "teacher" / "checkpoints" / "256").rglob("*"):
        if path.is_file():
            path.write_bytes(b"")


def started_only(home: Path) -> None:
    path = home / "teacher" / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"status": "started"}))


def dangling_link(home: Path) -> None:
    (home / "link").symlink_to(home / "nowhere" / "at-all")


def read_only(home: Path) -> None:
    (home / "locked").mkdir(mode=0o500)


def cyclic_grammar(home: Path) -> None:
    (home / "grammar.txt").write_text("S -> S S | x\n")


def binary_grammar(home: Path) -> None:
    (home / "grammar.txt").write_bytes(b"\xff\xfe\x00S -> x")


def wrong_probabilities(home: Path) -> None:
    (home / "grammar.txt").write_text("S -> x [0.5] | y [0.6]\n")


def nothing(_: Path) -> None:
    """The input is bad as it is."""


TRAIN, STUDY = (
    ("parity.train", *TINY_TEACHER),
    ("parity.distill", *TINY_STUDENT, "--teacher", "{home}/teacher"),
)
GRAMMAR = (
    "pcfg.train",
    "--run-dir",
    "{home}/new",
    "--data.grammar",
    "{home}/grammar.txt",
    "--data.start-level",
    "0",
)
CASES: dict[str, tuple[Callable[[Path], None], tuple[str, ...], int]] = {
    # paths
    "the run directory is a file": (empty_file, (*TRAIN, "--run-dir", "{home}/file"), 2),
    "a parent of it is a file": (empty_file, (*TRAIN, "--run-dir", "{home}/file/run"), 2),
    "it is a link to nowhere": (dangling_link, (*TRAIN, "--run-dir", "{home}/link/run"), 2),
    "its name is too long": (nothing, (*TRAIN, "--run-dir", "{home}/" + 300 * "x"), 2),
    "it may not be written": (read_only, (*TRAIN, "--run-dir", "{home}/locked/run"), 2),
    "it is empty text": (nothing, (*TRAIN, "--run-dir", ""), 2),
    "the teacher is a file": (
        empty_file,
        (*STUDY[:-1], "{home}/file", "--run-dir", "{home}/new"),
        2,
    ),
    "the teacher is the student": (
        nothing,
        (*STUDY[:-1], "{home}/new", "--run-dir", "{home}/new"),
        2,
    ),
    "the sweep is a teacher's folder of nothing": (
        nothing,
        (*STUDY, "--tuned-by", "{home}", "--run-dir", "{home}/new"),
        2,
    ),
    "export into a folder that is not there": (
        nothing,
        ("common.export", "{home}/teacher", "--step", "256", "--out", "{home}/a/b.safetensors"),
        2,
    ),
    "export of no run": (
        nothing,
        ("common.export", "{home}", "--step", "256", "--out", "{home}/b.safetensors"),
        2,
    ),
    "show nothing": (nothing, ("common.runs", "{home}/nobody"), 2),
    "show a file": (empty_file, ("common.runs", "{home}/file"), 2),
    "figures without runs": (
        nothing,
        ("figures.make", "--root", "{home}/nobody", "--out", "{home}/site"),
        2,
    ),
    "publish without runs": (
        nothing,
        ("figures.publish", "--root", "{home}/nobody", "--out", "{home}/results"),
        2,
    ),
    "claims without runs": (nothing, ("parity.claims", "--root", "{home}/nobody"), 2),
    "claims of grammars without runs": (nothing, ("pcfg.claims", "--root", "{home}/nobody"), 2),
    "the law's figure without runs": (
        nothing,
        ("figures.law", "--root", "{home}/nobody", "--out", "{home}/site"),
        2,
    ),
    "tables of a folder of nothing": (nothing, ("figures.redraw", "{home}"), 2),
    # flags
    "a run without a directory": (nothing, TRAIN, 2),
    "a word for a number": (
        nothing,
        (*TRAIN, "--run-dir", "{home}/new", "--training.steps", "many"),
        2,
    ),
    "a fraction for a whole number": (
        nothing,
        (*TRAIN, "--run-dir", "{home}/new", "--training.batch-size", "2.5"),
        2,
    ),
    "no seeds": (nothing, (*TRAIN, "--run-dir", "{home}/new", "--training.num-seeds", "0"), 2),
    "a seed that is too large": (
        nothing,
        (*TRAIN, "--run-dir", "{home}/new", "--seed", "3000000000"),
        2,
    ),
    "an infinite rate": (
        nothing,
        (*TRAIN, "--run-dir", "{home}/new", "--optim.learning-rate", "inf"),
        2,
    ),
    "no rate at all": (nothing, (*TRAIN, "--run-dir", "{home}/new", "--optim.learning-rate"), 2),
    "a model of no kind": (nothing, (*TRAIN, "--run-dir", "{home}/new", "--model", "rnn"), 2),
    "a schedule that is none": (
        nothing,
        (*STUDY, "--run-dir", "{home}/new", "--schedule", "both"),
        2,
    ),
    "a ring between evaluations": (
        nothing,
        (*TRAIN, "--run-dir", "{home}/new", "--training.ring-every", "7"),
        2,
    ),
    "a teacher's seed that it lacks": (
        nothing,
        (*STUDY, "--run-dir", "{home}/new", "--teacher-seed", "77"),
        2,
    ),
    "a lane that a run lacks": (
        nothing,
        (
            "common.export",
            "{home}/teacher",
            "--step",
            "256",
            "--seed-index",
            "9",
            "--out",
            "{home}/x",
        ),
        2,
    ),
    "a negative lane": (
        nothing,
        (
            "common.export",
            "{home}/teacher",
            "--step",
            "256",
            "--seed-index",
            "-1",
            "--out",
            "{home}/x",
        ),
        2,
    ),
    "a preset of another experiment": (
        nothing,
        ("pcfg.experiment", "--preset", "transformer-quick"),
        2,
    ),
    "an experiment that is none": (nothing, ("figures.make", "--experiment", "mnist"), 2),
    "beyond where nothing is": (
        nothing,
        ("parity.claims", "--preset", "transformer-quick", "--beyond", "--root", "{home}"),
        2,
    ),
    "a probe of no examples": (
        nothing,
        ("parity.probe", "{home}/teacher", "--num-examples", "0"),
        2,
    ),
    "a probe of another experiment's run": (nothing, ("pcfg.probe", "{home}/teacher"), 2),
    "a flag of another command": (
        nothing,
        ("parity.probe", "{home}/teacher", "--preset", "quick"),
        2,
    ),
    # files
    "a manifest of garbage": (garbage_manifest, ("common.runs", "{home}/teacher"), 1),
    "a configuration that is a list": (list_as_config, ("common.runs", "{home}/teacher"), 2),
    "a configuration of another version": (other_version, ("parity.probe", "{home}/teacher"), 1),
    "metrics of garbage": (no_metrics, ("common.runs", "{home}/teacher"), 1),
    "an empty checkpoint": (
        unreadable_checkpoint,
        (*STUDY, "--schedule", "one-shot", "--run-dir", "{home}/new"),
        1,
    ),
    "an empty checkpoint to export": (
        unreadable_checkpoint,
        ("common.export", "{home}/teacher", "--step", "256", "--out", "{home}/x"),
        1,
    ),
    "an empty checkpoint to verify": (
        unreadable_checkpoint,
        ("common.runs", "{home}/teacher", "--verify"),
        1,
    ),
    "a teacher that is not finished": (started_only, (*STUDY, "--run-dir", "{home}/new"), 2),
    "a probe of what is not finished": (started_only, ("parity.probe", "{home}/teacher"), 2),
    "a grammar in a circle": (cyclic_grammar, GRAMMAR, 2),
    "a grammar that is no text": (binary_grammar, GRAMMAR, 2),
    "probabilities that do not add up": (wrong_probabilities, GRAMMAR, 2),
}


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # TensorStore's callbacks outlive a failed read
@pytest.mark.parametrize("what", CASES)
def test_bad_input_is_one_message(
    what: str,
    tiny_teacher: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    spoil, (module, *args), code = CASES[what]
    if spoil is read_only and os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    shutil.copytree(tiny_teacher, tmp_path / "teacher")
    spoil(tmp_path)
    before = contents(tmp_path)
    monkeypatch.setattr(
        sys, "argv", [module, *(arg.replace("{home}", str(tmp_path)) for arg in args)]
    )
    capfd.readouterr()
    with pytest.raises(SystemExit) as stop:
        run_command(
            importlib.import_module(
                "common.runs.__main__" if module == "common.runs" else module
            ).main
        )
    said = capfd.readouterr().err
    assert stop.value.code == code, said
    assert said.strip()
    assert "Traceback" not in said
    after = contents(tmp_path)
    assert before.items() <= after.items()
    assert code == 1 or after == before, "what is refused writes nothing"


def contents(home: Path) -> dict[str, bytes | None]:
    """Everything below a folder but locks, which those who look may touch, and empty folders of
    probes."""
    files = [path for path in home.rglob("*") if path.is_file() and "lock" not in path.name]
    return {str(path.relative_to(home)): path.read_bytes() for path in files}


def refused_in(
    home: Path,
    refused: Callable[..., str],
    module: str,
    args: Sequence[str],
    words: Sequence[str],
) -> None:
    """A command is refused in these words, and changes nothing in a folder; of arguments and words,
    `{home}` stands for that folder."""
    before = contents(home)
    main = importlib.import_module(module).main
    said = refused(main, *(arg.replace("{home}", str(home)) for arg in args))
    for part in words:
        assert part.replace("{home}", str(home)) in said, said
    assert contents(home) == before
