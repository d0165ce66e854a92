"""Bad input to the commands of next-token prediction: refused with what is wrong, where, and what
to do, before anything is written."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import pytest

from pcfg import train as masked_train
from pcfg.next_token import data, distill, train
from tests.test_bad_input import refused_in

GRAMMAR = "S -> A B | B A | A A\nA -> x y x | y y\nB -> y x x | x x y\n"
TINY = (
    *("--data.start-level", "0", "--model.layers", "1", "--model.heads", "1"),
    *("--training.steps", "4", "--training.batch-size", "2", "--training.num-seeds", "1"),
    *("--training.eval-every", "2", "--training.eval-examples", "8", "--training.seed", "0"),
)
TOKENS = ("--supervised.level", "None", "--supervised.predicts-end")
TEACHER = ("--training.checkpoint-every", "2")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With finished teachers of one grammar, of next tokens and of masked ones, and with what a
    student of theirs would say of itself."""
    home = tmp_path_factory.mktemp("home")
    (home / "grammar.txt").write_text(GRAMMAR)
    (home / "other.txt").write_text(GRAMMAR.replace("A -> x y x", "A -> x x x"))
    tiny = ("--data.grammar", str(home / "grammar.txt"), *TINY)
    masked_train.main(["--run-dir", str(home / "masked"), *tiny, *TEACHER])
    train.main(["--run-dir", str(home / "teacher"), *tiny, *TEACHER, *TOKENS])
    copied(home / "teacher", home / "student", stage="distill")
    return home


def copied(run: Path, to: Path, **changes: Any) -> None:
    """A copy of a run whose record says something else."""
    shutil.copytree(run, to)
    record = json.loads((to / "config.json").read_text())
    (to / "config.json").write_text(json.dumps(record | changes))


TRAIN, DISTILL, MASKED = (
    ("pcfg.next_token.train", *TOKENS),
    ("pcfg.next_token.distill", *TOKENS, "--teacher", "{home}/teacher", "--schedule", "one-shot"),
    ("pcfg.distill", "--teacher", "{home}/teacher", "--schedule", "one-shot"),
)
CASES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    # of a run
    "a level below the terminals": (
        (*TRAIN, "--supervised.level", "3"),
        ("--supervised.level 3: sentences of grammar have the levels 1 to 2", "choose one"),
    ),
    "the level of the start": (
        (*TRAIN, "--supervised.level", "0"),
        ("--supervised.level 0", "one token of each", "every token is level 2, or None"),
    ),
    "a level above the start": (
        (*TRAIN, "--data.grammar", "cfg3f", "--data.start-level", "3", "--supervised.level", "2"),
        ("--supervised.level 2", "cfg3f", "levels 4 to 6"),
    ),
    "a negative level": ((*TRAIN, "--supervised.level", "-1"), ("supervised.level",)),
    "sentences longer than the positions": (
        (*TRAIN, "--model.positions", "6"),
        ("--model.positions 6: the longest sentence takes 7", "give at least as many, or None"),
    ),
    "a vocabulary that is too small": (
        (*TRAIN, "--model.vocabulary", "5"),
        ("--model.vocabulary 5: the grammar has 6 token ids", "give at least as many, or None"),
    ),
    "a model of another kind": ((*TRAIN, "--compat", "author"), ("invalid choice",)),
    # of students
    "a masked teacher": (
        (*DISTILL, "--teacher", "{home}/masked"),
        (
            "the teacher {home}/masked is a run of `python -m pcfg.train`",
            "not learnt what these students are to learn: the next tokens of a grammar's sentences",
            "give --teacher a finished run of `python -m pcfg.next_token.train`",
        ),
    ),
    "a causal teacher of a masked student": (
        MASKED,
        (
            "the teacher {home}/teacher is a run of `python -m pcfg.next_token.train`",
            "not learnt what these students are to learn: masked sentences of a grammar",
            "give --teacher a finished run of `python -m pcfg.train`",
        ),
    ),
    "a student as the teacher": (
        (*DISTILL, "--teacher", "{home}/student"),
        (
            "the teacher {home}/student is itself a run of students",
            "give --teacher a finished run of `python -m pcfg.next_token.train`",
        ),
    ),
    "a teacher of another grammar": (
        (*DISTILL, "--data.grammar", "{home}/other.txt"),
        ("{home}/teacher learnt other sentences", "grammar.txt", "other.txt", "the same grammar"),
    ),
    "a teacher of other sentences of the grammar": (
        (*DISTILL, "--data.start-level", "1"),
        ("--data.start-level 0) than the student is to see", "--data.start-level 1)"),
    ),
    "a teacher of every token": (
        (*DISTILL, "--supervised.level", "1"),
        (
            "{home}/teacher has learnt to predict every token, the student is to predict the last"
            " token below each symbol of level 1",
            "give both the same --supervised.level",
        ),
    ),
    "a teacher of the end": (
        (*DISTILL, "--supervised.no-predicts-end"),
        (
            "{home}/teacher has learnt to predict the end of sentences, the student is not to",
            "give both --supervised.predicts-end, or both",
        ),
    ),
    "a teacher of fewer token ids": (
        (*DISTILL, "--compat", "authors"),
        ("{home}/teacher predicts 6 token ids, the student 50,257", "the same --model.vocabulary"),
    ),
    "no teacher": ((DISTILL[0], *TOKENS), ("needs --teacher", "`python -m pcfg.next_token.train`")),
    "generations without a teacher": (
        (DISTILL[0], *TOKENS, "--schedule", "ce", "--sentences", "teacher"),
        ("--sentences teacher: --schedule ce does not learn", "choose one-shot, progressive"),
    ),
    "generations for hidden layers": (
        (*DISTILL, "--schedule", "projections", "--sentences", "teacher"),
        ("--sentences teacher: --schedule projections does not", "choose one-shot, progressive"),
    ),
    "generations with a loss": (
        (*DISTILL, "--sentences", "teacher", "--loss.temperature", "2"),
        ("--sentences teacher: the generated sentences are themselves", "leave out --loss"),
    ),
    "generations of a level": (
        (*DISTILL, "--sentences", "teacher", "--supervised.level", "1"),
        ("--sentences teacher: only a teacher of every token", "give --supervised.level None"),
    ),
    "generations without an end": (
        (*DISTILL, "--sentences", "teacher", "--supervised.no-predicts-end"),
        ("--sentences teacher: only a teacher of every token", "--supervised.predicts-end"),
    ),
}


@pytest.mark.parametrize("what", CASES)
def test_bad_input(what: str, home: Path, refused: Callable[..., str]) -> None:
    (module, *args), words = CASES[what]
    args = ("--data.grammar", "{home}/grammar.txt", *TINY, *args, "--run-dir", "{home}/new")
    refused_in(home, refused, module, args, words)
    assert not (home / "new").exists()


def test_a_teacher_whose_grammar_has_been_edited(
    home: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    """The student is to see what the file says now."""
    edited = tmp_path / "grammar.txt"
    record = json.loads((home / "teacher" / "config.json").read_text())
    record["config"]["data"]["grammar"] = str(edited)
    copied(home / "teacher", tmp_path / "teacher", config=record["config"])
    shutil.copy(home / "other.txt", edited)
    taught = ("--teacher", tmp_path / "teacher", "--schedule", "one-shot")
    new = ("--run-dir", tmp_path / "new", "--data.grammar", edited)
    said = refused(distill.main, *new, *TINY, *TOKENS, *taught)
    was = f"{tmp_path / 'teacher'} was trained on other rules than grammar {edited} has now"
    assert was in said


def test_the_last_level_is_every_token(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """So that who was asked for the one may teach who is asked for the other."""
    level = ("--data.grammar", str(home / "grammar.txt"), *TINY, *TOKENS, "--supervised.level", "2")
    taught = ("--teacher", str(home / "teacher"), "--schedule", "one-shot", "--dry-run")
    distill.main(["--run-dir", str(tmp_path / "student"), *level, *taught])
    assert "dry run" in capsys.readouterr().out


def test_a_run_with_nothing_to_predict_is_refused(
    home: Path, refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last token of a sentence ends all levels, so that there always is something, unless
    supervision itself is wrong."""
    nothing = lambda *rest: jnp.zeros_like(rest[-1].tokens_BxT, bool)  # noqa: E731
    monkeypatch.setattr(data, "supervised", nothing)
    level = ("--supervised.level", "1", "--supervised.no-predicts-end")
    args = ("--data.grammar", str(home / "grammar.txt"), *TINY, *level)
    said = refused(train.main, "--run-dir", home / "new", *args, "--training.eval-examples", "9")
    assert "--supervised.level 1 leaves nothing to predict in the 9 examples" in said
    assert not (home / "new").exists()
