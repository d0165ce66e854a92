"""The grammars' text format, what it refuses, and the facts of the shipped ones."""

import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.base.errors import UserError
from pcfg.grammar import SHIPPED, Grammar, load, parse_grammar
from pcfg.sampler import make_sampler

TINY = """
S -> A B [0.7] | B [0.05] | A A B [0.25]   # the start
A -> x y [0.9]
A -> z [0.1]
B -> x [0.2] | y [0.5] | z y x [0.3]
"""


def rules_of(grammar: Grammar) -> dict[str, set[tuple[str, ...]]]:
    return {symbol: {rule.children for rule in rules} for symbol, rules in grammar.rules.items()}


def distribution(grammar: Grammar, symbol: str) -> dict[tuple[str, ...], float]:
    """Every sentence below a symbol with its probability, by brute force."""
    if symbol not in grammar.rules:
        return {(symbol,): 1.0}
    found: dict[tuple[str, ...], float] = {}
    for rule in grammar.rules[symbol]:
        for parts in itertools.product(
            *(distribution(grammar, child).items() for child in rule.children)
        ):
            sentence, probability = (
                tuple(itertools.chain.from_iterable(words for words, _ in parts)),
                rule.probability,
            )
            for _, factor in parts:
                probability *= factor
            found[sentence] = found.get(sentence, 0.0) + probability
    return found


@st.composite
def grammar_texts(draw: st.DrawFn) -> str:
    """Small random grammars of one depth."""
    depth = draw(st.integers(1, 3))
    lines, symbols = [], ["s"]
    for level in range(depth):
        below = [f"{'abc'[level]}{i}" for i in range(draw(st.integers(1, 3)))]
        used: set[str] = set()
        for symbol in symbols:
            alternatives = draw(
                st.lists(
                    st.lists(st.sampled_from(below), min_size=1, max_size=2),
                    min_size=1,
                    max_size=3,
                    unique_by=tuple,
                )
            )
            lines.append(
                f"{symbol} -> {' | '.join(' '.join(alternative) for alternative in alternatives)}"
            )
            used.update(itertools.chain.from_iterable(alternatives))
        symbols = sorted(used)
    return "\n".join(lines)


def test_the_format() -> None:
    grammar = parse_grammar(TINY, "tiny", "tiny.txt")
    assert grammar.levels == (("S",), ("A", "B"), ("x", "y", "z"))
    assert (grammar.depth, grammar.terminals, grammar.length_bounds()) == (
        2,
        ("x", "y", "z"),
        (1, 7),
    )
    assert rules_of(grammar)["A"] == {("x", "y"), ("z",)}
    assert [rule.probability for rule in grammar.rules["S"]] == pytest.approx([0.7, 0.05, 0.25])
    assert [rule.line for rule in grammar.rules["A"]] == [3, 4]
    uniform = parse_grammar("S -> x | y | x y", "tiny", "tiny.txt")
    assert [rule.probability for rule in uniform.rules["S"]] == pytest.approx([1 / 3] * 3)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("# nothing", ("no rules", "`S -> A B | B A`")),
        ("S -> x\nS = y", ("line 2", "`S = y` is not a rule")),
        ("S -> x\n\nS T -> y", ("line 3", "`S T -> y` is not a rule")),
        ("-> y", ("line 1", "`-> y` is not a rule")),
        ("S -> x -> y", ("line 1", "`x -> y`", "-> is no symbol")),
        ("S -> x |  | y", ("line 1", "`S -> x |  | y`", "empty alternative")),
        ("S ->", ("line 1", "`S ->`", "empty alternative")),
        ("S -> [1.0]", ("line 1", "`S -> [1.0]`", "empty alternative")),
        ("S -> x y | y\nS -> x y", ("line 2", "`S -> x y` is given twice")),
        (
            "S -> x [0.5] | y",
            ("line 1", "`y`", "give all alternatives of S a probability, or none"),
        ),
        (
            "S -> x\nS -> y [0.5]",
            ("line 2", "`y [0.5]`", "give all alternatives of S a probability, or none"),
        ),
        (
            "S -> x [half] | y [0.5]",
            ("line 1", "`x [half]`", "[half] is not a number above 0 and at most 1"),
        ),
        ("S -> x [nan] | y [0.5]", ("line 1", "`x [nan]`", "not a number above 0")),
        ("S -> x [0] | y [1]", ("line 1", "`x [0]`", "not a number above 0")),
        ("S -> x [1.5] | y [-0.5]", ("line 1", "`x [1.5]`", "at most 1")),
        ("S -> [0.5] x | y [0.5]", ("line 1", "`[0.5] x`", "[0.5] is no symbol")),
        ("S -> x [0.5 | y", ("line 1", "`x [0.5`", "[0.5 is no symbol")),
        (
            "S -> A\nA -> x [0.5] | y [0.4]",
            ("line 2", "the probabilities of A sum to 0.9, not to 1"),
        ),
        ("S -> A\nA -> B x\nB -> A", ("line 3", "in a circle, A -> B -> A")),
        ("S -> x\nA -> A", ("line 2", "in a circle, A -> A")),
        ("S -> A\nA -> x\nB -> y", ("line 3", "B cannot be reached from the start symbol S")),
        (
            "S -> A C\nA -> C x\nC -> x",
            ("line 2", "`A -> C x` uses C 2 level(s) below S, but line 1 uses it 1 below"),
        ),
        (
            "S -> A B | B Aa\nA -> x\nB -> y",
            ("line 1", "Aa has no rule, so that it is a terminal, 1 level(s) below S", "2 below"),
        ),
    ],
)
def test_errors_name_file_line_and_rule(text: str, parts: tuple[str, ...]) -> None:
    with pytest.raises(UserError) as caught:
        parse_grammar(text, "mine", "grammars/mine.txt")
    assert str(caught.value).startswith("grammars/mine.txt")
    for part in parts:
        assert part in str(caught.value)


def test_what_cannot_be_read_or_entered(tmp_path: Path) -> None:
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00")
    for name in ("cfg3x", str(tmp_path), str(tmp_path / "binary.txt")):
        with pytest.raises(
            UserError,
            match=r"neither a shipped grammar .*cfg3b, cfg3b_original.* nor a readable file",
        ) as caught:
            load(name)
        assert str(caught.value).startswith(name)
    grammar = load("cfg3b")
    for level in (-1, 6):
        with pytest.raises(
            UserError,
            match=f"cfg3b has non-terminals at levels 0 to 5; there is no start level {level}",
        ):
            grammar.entered_at(level)
    for symbol in ("23", "1"):
        with pytest.raises(
            UserError, match=f"cfg3b has no non-terminal '{symbol}' to start from; it has 22, 21"
        ):
            grammar.entered_at(symbol=symbol)


@given(text=grammar_texts())
def test_bounds_are_those_of_all_sentences(text: str) -> None:
    grammar = parse_grammar(text, "random", "random.txt")

    def lengths(symbol: str) -> set[int]:
        if symbol not in grammar.rules:
            return {1}
        return {
            sum(parts)
            for rule in grammar.rules[symbol]
            for parts in itertools.product(*(lengths(child) for child in rule.children))
        }

    for level, symbols in enumerate(grammar.levels[:-1]):
        found = set.union(*(lengths(symbol) for symbol in symbols))
        assert grammar.entered_at(level).length_bounds() == (min(found), max(found))
        for symbol in symbols:
            below = grammar.entered_at(symbol=symbol)
            assert below.length_bounds() == (min(lengths(symbol)), max(lengths(symbol)))
            assert set(below.rules) == {name for row in below.levels[:-1] for name in row}
    assert grammar.width_bounds(0) == (1, 1)
    assert grammar.width_bounds(grammar.depth) == grammar.length_bounds()


def test_shipped_grammars() -> None:
    names = sorted(path.stem for path in SHIPPED.glob("*.txt"))
    assert names == ["cfg3b", "cfg3b_original", "cfg3f", "cfg3g", "cfg3h", "cfg3i"]
    for name in names:
        grammar = load(name)
        assert (grammar.name, grammar.depth, grammar.levels[0], grammar.terminals) == (
            name,
            6,
            ("22",),
            ("1", "2", "3"),
        )
        assert all(
            len({rule.probability for rule in rules}) == 1 for rules in grammar.rules.values()
        )
    cfg3b, original = load("cfg3b"), load("cfg3b_original")
    assert [cfg3b.entered_at(level).length_bounds() for level in range(5)] == [
        (161, 432),
        (70, 216),
        (35, 72),
        (14, 27),
        (7, 9),
    ]
    assert rules_of(original) == rules_of(cfg3b) | {"9": {("3", "2", "1"), ("2", "1")}}
    assert rules_of(cfg3b)["9"] == {("3", "2", "1")}


def test_a_grammar_of_any_depth_is_read_and_a_deep_circle_is_found() -> None:
    chain = [f"S{i} -> S{i + 1}" for i in range(3000)]
    assert parse_grammar("\n".join([*chain, "S3000 -> x"]), "deep", "deep.txt").depth == 3001
    with pytest.raises(
        UserError, match=r"line 3001: the rules go in a circle, S0 -> S1 -> .* -> S3000 -> S0"
    ):
        parse_grammar("\n".join([*chain, "S3000 -> S0"]), "deep", "deep.txt")


def test_sentences_that_would_fill_the_memory_are_refused() -> None:
    doubling = [f"S{i} -> S{i + 1} S{i + 1}" for i in range(1500)]
    with pytest.raises(UserError, match="more than 1,048,576 tokens; begin at a lower level"):
        make_sampler(parse_grammar("\n".join([*doubling, "S1500 -> x"]), "long", "long.txt"))
