"""`python -m mlm.prepare` from end to end, on made-up text."""

import errno
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest
from tokenizers import Tokenizer

from common.base.errors import RunError, UserError, run_command
from common.base.interruption import Preempted, ending
from mlm.corpus import MANIFEST, SPLITS, WORK, Corpus, Split, SplitName, open_corpus
from mlm.prepare import build, texts, tokens
from mlm.prepare.__main__ import main
from mlm.prepare.pool import Pool, Task, worker_pool
from mlm.vocabulary import SPECIAL_TOKENS
from tests.commands import REPOSITORY
from tests.made_up_text import documents, write_jsonl

FRACTION = 0.2
SMALL = ("--vocabulary-size", "640", "--validation-fraction", str(FRACTION), "--workers", "1")
TEXTS = documents(120)
MANY = [f"{i} {TEXTS[i % 120] * 20}" for i in range(1250)]
"""5 MB, two blocks: enough to be stopped on the way."""
NUM_BLOCKS = 8
"""Of these texts, in blocks of 4,000 bytes."""


def prepared(out: Path, *sources: object, flags: tuple[str, ...] = SMALL) -> Corpus:
    main([*map(str, sources), "--out", str(out), *flags])
    return open_corpus(out)


def ids_of(split: Split) -> list[list[int]]:
    """Of every document."""
    return [
        shard.tokens[start:end].tolist()
        for shard in split.shards
        for start, end in zip(shard.offsets[:-1], shard.offsets[1:], strict=True)
    ]


def texts_of(corpus: Corpus, name: SplitName) -> list[str]:
    """The documents of a split as far as its tokens tell: lower-case, without spaces or accents."""
    tokenizer = Tokenizer.from_file(str(corpus.path / "tokenizer.json"))
    return [plain(tokenizer.decode(ids)) for ids in ids_of(corpus.split(name))]


def plain(text: str) -> str:
    return text.lower().replace("é", "e").replace(" ", "")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Of all texts; change copies of it only."""
    home = tmp_path_factory.mktemp("corpus")
    return prepared(home / "out", write_jsonl(home / "texts.jsonl", TEXTS))


def test_every_document_is_in_one_split(corpus: Corpus) -> None:
    train, validation = (texts_of(corpus, name) for name in SPLITS)
    assert sorted(train + validation) == sorted(map(plain, TEXTS))
    assert 0.1 < len(validation) / len(TEXTS) < 0.3
    order = {plain(text): i for i, text in enumerate(TEXTS)}
    assert [order[text] for text in train] == sorted(order[text] for text in train)


def test_the_manifest_counts_and_hashes(corpus: Corpus) -> None:
    manifest = corpus.manifest
    corpus.verify()
    (source,) = manifest.sources
    assert source.name == "texts.jsonl"
    assert source.inputs[0].name == "texts.jsonl"
    for name in SPLITS:
        split = corpus.split(name)
        assert split.num_documents == len(ids_of(split)) == source.documents[name]
        assert split.num_tokens == sum(map(len, ids_of(split))) == source.tokens[name]
        assert all(shard.tokens.dtype == np.uint16 for shard in split.shards)
    assert {path.name for path in corpus.path.iterdir()} == {*manifest.files, MANIFEST}
    assert str(corpus.path.parent) not in (corpus.path / MANIFEST).read_text()


def test_the_tokeniser_has_not_seen_validation(corpus: Corpus, tmp_path: Path) -> None:
    """Other documents for validation leave it as it is."""
    train = [text for text in TEXTS if plain(text) in set(texts_of(corpus, "train"))]
    others = [text for text in documents(200, seed=1) if place(text) < FRACTION]
    assert len(others) > 20
    other = prepared(tmp_path / "out", write_jsonl(tmp_path / "a.jsonl", others + train))
    assert texts_of(other, "validation") == list(map(plain, others))
    name = "tokenizer.json"
    assert (other.path / name).read_bytes() == (corpus.path / name).read_bytes()


def place(text: str) -> float:
    """What decides between training and validation."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") / 2**64


@pytest.mark.parametrize("workers", ["1", "3"])
def test_the_corpus_depends_on_neither_workers_nor_blocks(
    workers: str, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(texts, "BLOCK_BYTES", 4000)
    path = write_jsonl(tmp_path / "texts.jsonl", TEXTS)
    assert (
        prepared(tmp_path / "out", path, flags=(*SMALL, "--workers", workers)).hash == corpus.hash
    )


def test_shards_are_cut_and_joined(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(texts, "BLOCK_BYTES", 2000)
    monkeypatch.setattr(tokens, "SHARD_TOKENS", 1500)
    cut = prepared(tmp_path / "out", write_jsonl(tmp_path / "texts.jsonl", TEXTS))
    for name in SPLITS:
        assert ids_of(cut.split(name)) == ids_of(corpus.split(name))
    shards = cut.split("train").shards
    assert len(shards) > 2
    assert all(len(shard.tokens) <= 1500 for shard in shards)


@pytest.mark.parametrize("stage", ["texts", "tokens", "shards"])
def test_a_command_that_was_stopped_goes_on(
    stage: str, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, name = {
        "texts": (texts, "write_text"),
        "tokens": (tokens, "write_tokens"),
        "shards": (tokens, "_write_array"),
    }[stage]
    write = getattr(module, name)
    num_written = 0

    def stops(*args: object) -> None:
        nonlocal num_written
        if num_written == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "part")
        num_written += 1
        write(*args)

    monkeypatch.setattr(texts, "BLOCK_BYTES", 4000)
    path = write_jsonl(tmp_path / "texts.jsonl", TEXTS)
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(module, name, stops)
        with pytest.raises(OSError, match="No space left"):
            prepared(out, path)
    with pytest.raises(UserError, match="not finished"):
        open_corpus(out)
    found = list((out / WORK).rglob("*.npz"))
    assert len(found) >= 2
    made_again = []

    def watched(file: IO[bytes], *args: Any) -> None:
        made_again.append(file.name)
        write_part(file, *args)

    write_part = texts.write_text
    monkeypatch.setattr(texts, "write_text", watched)
    assert prepared(out, path).hash == corpus.hash
    num_texts = sum(part.parent.name.startswith("texts-") for part in found)
    assert len(made_again) == NUM_BLOCKS - num_texts
    assert not (out / WORK).exists()


def test_killed_at_once_and_started_again(tmp_path: Path) -> None:
    """By SIGKILL, which no process can answer: its workers end, too."""
    path = write_jsonl(tmp_path / "texts.jsonl", MANY)
    command = [sys.executable, "-m", "mlm.prepare", str(path), "--out", str(tmp_path / "out")]
    process = subprocess.Popen([*command, *SMALL], cwd=REPOSITORY, stderr=subprocess.PIPE)
    while not list((tmp_path / "out").rglob("*.npz")):
        assert process.poll() is None
        time.sleep(0.02)
    workers = children(process.pid)
    assert workers
    process.kill()
    process.communicate()
    for _ in range(500):
        if not any(Path(f"/proc/{pid}").exists() for pid in workers):
            break
        time.sleep(0.02)
    else:
        pytest.fail("workers go on without the command")
    resumed = prepared(tmp_path / "out", path)
    resumed.verify()
    assert sum(resumed.split(name).num_documents for name in SPLITS) == len(MANY)


def children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [int(pid) for task in tasks for pid in (task / "children").read_text().split()]


def test_a_worker_is_started_whole_before_a_signal_ends_the_command() -> None:
    """Whichever thread takes the signal: a process that is half started would show a traceback."""
    started: list[str] = []

    class Executor:
        """In which a signal arrives while it starts a process."""

        def submit(self, function: object, *args: object) -> Future[None]:
            signal.raise_signal(signal.SIGTERM)
            sender = threading.Thread(target=os.kill, args=(os.getpid(), signal.SIGUSR1))
            sender.start()
            sender.join()
            started.append("whole")
            return Future()

    executor: Any = Executor()
    with ending(), pytest.raises(Preempted, match=r"SIG(TERM|USR1)"):
        next(Pool(executor, 1).results([Task("a", len, ("b",))]))
    assert started == ["whole"]


def test_sigterm_says_what_is_kept(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "texts.jsonl", MANY)
    command = [sys.executable, "-m", "mlm.prepare", str(path), "--out", str(tmp_path / "out")]
    process = subprocess.Popen(
        [*command, *SMALL], cwd=REPOSITORY, stderr=subprocess.PIPE, text=True
    )
    while not list((tmp_path / "out").rglob("*.npz")):
        time.sleep(0.02)
    process.terminate()
    _, message = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert "the same command goes on from there" in message
    assert len(message.splitlines()) == 1, message


def test_documents_that_are_left_out_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    for i, text in enumerate(TEXTS[:40]):
        (folder / f"{i:02d}.txt").write_text(text)
    (folder / "40.txt").write_text(" \n\t ")
    (folder / "41.txt").write_bytes(b"caf\xe9 in Latin-1")
    (folder / "42.txt").write_text(f"\ufeff\n{TEXTS[0]}\n")
    (folder / "43.txt").write_text("\x01\x02")
    (folder / ".DS_Store").write_text("no text")
    (folder / "notes.md").write_text("no text")
    path = write_jsonl(tmp_path / "b.jsonl", [*TEXTS[30:60], "", None, "\ud800"])
    corpus = prepared(tmp_path / "out", folder, f"{path},weight=2.5")
    said = " ".join(capsys.readouterr().err.split())
    assert "1 files are no text and are left out (notes.md)" in said
    assert "2 documents are no UTF-8 and left out; the first: 41.txt" in said
    first, second = corpus.manifest.sources
    assert sum(first.documents.values()) == 40
    assert (first.dropped.empty, first.dropped.duplicates, first.dropped.invalid) == (2, 1, 1)
    assert sum(second.documents.values()) == 20
    assert (second.dropped.empty, second.dropped.duplicates, second.dropped.invalid) == (2, 10, 1)
    shards = [shard for name in SPLITS for shard in corpus.split(name).shards]
    assert {(shard.source, shard.weight) for shard in shards} == {("folder", 1), ("b.jsonl", 2.5)}
    assert corpus.manifest.dropped.duplicates == 11


def test_a_corpus_is_made_once(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Callable[..., str]
) -> None:
    shutil.copytree(corpus.path, tmp_path / "out")
    path = write_jsonl(tmp_path / "texts.jsonl", TEXTS)
    monkeypatch.setattr(build, "read_texts", pytest.fail)
    assert prepared(tmp_path / "out", path).hash == corpus.hash
    out = ("--out", tmp_path / "out", *SMALL)
    assert "finished corpus of other" in refused(main, path, *out, "--vocabulary-size", "100")
    assert "finished corpus of other" in refused(main, f"{path},weight=2", *out)
    write_jsonl(path, TEXTS[1:])
    assert "finished corpus of other" in refused(main, path, *out)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "1.jpg").touch()
    assert "other things" in refused(main, path, "--out", tmp_path / "photos")


def test_what_cannot_be_a_corpus(tmp_path: Path, refused: Callable[..., str]) -> None:
    out = ("--out", tmp_path / "out", *SMALL)
    path = write_jsonl(tmp_path / "a.jsonl", TEXTS[:5], column="body")
    said = refused(main, path, *out)
    assert "a.jsonl, line 1: no column text; its columns are: id, body" in said
    assert prepared(tmp_path / "out", f"{path},column=body").split("train").num_documents
    said = refused(main, write_jsonl(tmp_path / "b.jsonl", ["", " "]), "--out", tmp_path / "b")
    assert "no document with a text" in said
    said = refused(main, write_jsonl(tmp_path / "c.jsonl", ["one"]), "--out", tmp_path / "c")
    assert "none of 1 documents is for validation" in said


def test_a_full_disk_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "part")

    monkeypatch.setattr(texts, "write_text", full)
    path = write_jsonl(tmp_path / "a.jsonl", TEXTS)
    monkeypatch.setattr(sys, "argv", ["mlm.prepare", str(path), "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as stop:
        run_command(main)
    assert stop.value.code == 1
    said = capfd.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert "the disk is full" in said[0]


def test_a_worker_that_is_killed_is_one_line() -> None:
    with worker_pool(1) as pool, pytest.raises(RunError, match="a worker process was killed"):
        list(pool.results([Task(0, os._exit, (9,))]))


def test_few_tasks_wait_at_a_time() -> None:
    num_drawn = num_done = 0

    def tasks() -> Iterator[Task]:
        nonlocal num_drawn
        for i in range(20):
            num_drawn += 1
            assert num_drawn - num_done <= 4
            yield Task(i, abs, (-i,))

    with worker_pool(2) as pool:
        for key, result in pool.results(tasks()):
            assert key == result
            num_done += 1
    assert num_done == 20


def test_a_large_vocabulary_has_larger_ids(tmp_path: Path) -> None:
    """The last pieces of this one have ids that two bytes cannot hold."""
    words = [f"w{i}x" for i in range(2**16)]
    vocabulary = tmp_path / "vocab.txt"
    vocabulary.write_text("\n".join([*SPECIAL_TOKENS.values(), *words]) + "\n")
    path = write_jsonl(tmp_path / "texts.jsonl", [f"{words[-1]} {words[i]}" for i in range(40)])
    corpus = prepared(tmp_path / "out", path, flags=(*SMALL, "--tokenizer", str(vocabulary)))
    documents_ = [ids for name in SPLITS for ids in ids_of(corpus.split(name))]
    assert sorted(documents_) == [[2**16 + 4, 5 + i] for i in range(40)]
    assert corpus.manifest.dtype == "uint32"
    assert "vocabulary_size" not in corpus.manifest.settings
