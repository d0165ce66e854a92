"""Probabilistic context-free grammars whose derivations all have one depth (Allen-Zhu and Li 2023,
arXiv 2305.13673), and their text format.

    # A comment. The left side of the first rule is the start symbol.
    S -> A B | B A          # alternatives of equal probability
    A -> x y [0.25] | y x x [0.75]
    B -> x [0.5]
    B -> y y [0.5]          # the alternatives of a symbol may stand on several lines

Symbols are words; a symbol without a rule is a terminal. Every symbol belongs to one level: level 0
is the start, the last level are the terminals.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from common.base.errors import UserError

SHIPPED = Path(__file__).parent / "grammars"
_PROBABILITY = re.compile(r"\[(.*)\]$")


@dataclass(frozen=True)
class Rule:
    """One alternative of a symbol: its children, its probability, and its line in the file."""

    children: tuple[str, ...]
    probability: float
    line: int


@dataclass(frozen=True)
class Grammar:
    """A validated grammar: every symbol can be reached, all derivations have one depth, and the
    probabilities of a symbol's alternatives sum to 1."""

    name: str
    levels: tuple[tuple[str, ...], ...]
    """Symbols by level: levels[0] holds the start symbols, equally probable, levels[-1] the
    terminals. Terminals are sorted; other levels are in the order of the file's rules."""
    rules: Mapping[str, tuple[Rule, ...]]
    """Alternatives of every non-terminal."""

    def __hash__(self) -> int:
        return hash((self.name, self.levels, frozenset(self.rules.items())))

    @property
    def terminals(self) -> tuple[str, ...]:
        """The last level; a token is an index into it."""
        return self.levels[-1]

    @property
    def depth(self) -> int:
        """Rule applications between the start and a terminal."""
        return len(self.levels) - 1

    def length_bounds(self) -> tuple[int, int]:
        """Shortest and longest sentence, in terminals."""
        return self.width_bounds(self.depth)

    def width_bounds(self, level: int) -> tuple[int, int]:
        """The fewest and the most symbols of one level in a derivation."""
        shortest = dict.fromkeys(self.levels[level], 1)
        longest = dict.fromkeys(self.levels[level], 1)
        for above in reversed(self.levels[:level]):
            for symbol in above:
                shortest[symbol] = min(
                    sum(shortest[child] for child in rule.children) for rule in self.rules[symbol]
                )
                longest[symbol] = max(
                    sum(longest[child] for child in rule.children) for rule in self.rules[symbol]
                )
        starts = self.levels[0]
        return min(shortest[symbol] for symbol in starts), max(longest[symbol] for symbol in starts)

    def entered_at(self, level: int = 0, symbol: str | None = None) -> "Grammar":
        """The grammar of the sentences below one symbol, or below the symbols of one level, equally
        probable: a smaller version of the same problem.

        Raises:
            UserError: there is no such level or non-terminal.
        """
        if not 0 <= level < self.depth:
            raise UserError(
                f"grammar {self.name} has non-terminals at levels 0 to {self.depth - 1}; there is"
                f" no start level {level}"
            )
        if symbol is None:
            return _restricted(self, level, self.levels[level])
        return _restricted(self, self.level_of(symbol), (symbol,))

    def level_of(self, symbol: str) -> int:
        """The level of a non-terminal.

        Raises:
            UserError: there is none of this name.
        """
        for level, symbols in enumerate(self.levels[:-1]):
            if symbol in symbols:
                return level
        raise UserError(
            f"grammar {self.name} has no non-terminal {symbol!r} to start from; it has"
            f" {', '.join(self.rules)}"
        )


def load(name_or_path: str) -> Grammar:
    """A shipped grammar by name, or a user's by path.

    Raises:
        UserError: there is none, or it is malformed; the message names file, line and rule.
    """
    path = SHIPPED / f"{name_or_path}.txt"
    if not path.is_file():
        path = Path(name_or_path)
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        names = ", ".join(sorted(shipped.stem for shipped in SHIPPED.glob("*.txt")))
        raise UserError(
            f"{name_or_path}: neither a shipped grammar ({names}) nor a readable file ({error})"
        ) from None
    return parse_grammar(text, path.stem, str(path))


def parse_grammar(text: str, name: str, source: str) -> Grammar:
    """Read and validate the text format.

    Args:
        text: the rules.
        name: what to call the grammar.
        source: file named in errors.

    Raises:
        UserError: naming source, line and rule.
    """
    rules: dict[str, list[Rule]] = {}
    given: dict[str, bool] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if content := line.split("#", 1)[0].strip():
            _parse_line(content, f"{source}, line {number}", number, rules, given)
    if not rules:
        raise UserError(f"{source}: no rules; a rule is written `S -> A B | B A`")
    normalised = {
        symbol: _normalised(symbol, alternatives, source) for symbol, alternatives in rules.items()
    }
    start = next(iter(normalised))
    return Grammar(name, _levels(start, normalised, source), normalised)


def _parse_line(
    content: str, where: str, number: int, rules: dict[str, list[Rule]], given: dict[str, bool]
) -> None:
    """Add the alternatives of one line to the rules; `given` says which symbols have probabilities
    in the file."""
    left, arrow, right = content.partition("->")
    parent = left.split()
    if not arrow or len(parent) != 1:
        raise UserError(
            f"{where}: `{content}` is not a rule; write one symbol, `->`, and its alternatives, as"
            " in `S -> A B | B A`"
        )
    symbol = parent[0]
    for body in map(str.strip, right.split("|")):
        children, probability = _parse_alternative(body, content, where)
        is_given = not math.isnan(probability)
        if given.setdefault(symbol, is_given) != is_given:
            raise UserError(
                f"{where}: `{body}`: give all alternatives of {symbol} a probability, or none"
            )
        if any(rule.children == children for rule in rules.get(symbol, [])):
            raise UserError(f"{where}: `{symbol} -> {' '.join(children)}` is given twice")
        rules.setdefault(symbol, []).append(Rule(children, probability, number))


def _parse_alternative(body: str, content: str, where: str) -> tuple[tuple[str, ...], float]:
    """The children of an alternative and its probability, NaN if it has none."""
    match = _PROBABILITY.search(body)
    children = tuple(_PROBABILITY.sub("", body).split())
    if not children:
        raise UserError(
            f"{where}: `{content}` has an empty alternative; every alternative needs at least one"
            " symbol"
        )
    if match is not None and not _is_probability(match[1]):
        raise UserError(
            f"{where}: `{body}`: the probability [{match[1]}] is not a number above 0 and at most 1"
        )
    if stray := [child for child in children if child == "->" or "[" in child or "]" in child]:
        raise UserError(
            f"{where}: `{body}`: {stray[0]} is no symbol; one rule a line, and a probability, as in"
            " [0.25], ends its alternative"
        )
    return children, math.nan if match is None else float(match[1])


def _is_probability(text: str) -> bool:
    try:
        return 0 < float(text) <= 1
    except ValueError:
        return False


def _normalised(symbol: str, alternatives: list[Rule], source: str) -> tuple[Rule, ...]:
    if math.isnan(alternatives[0].probability):
        return tuple(Rule(rule.children, 1 / len(alternatives), rule.line) for rule in alternatives)
    total = sum(rule.probability for rule in alternatives)
    if abs(total - 1) > 1e-3:
        raise UserError(
            f"{source}, line {alternatives[0].line}: the probabilities of {symbol} sum to"
            f" {total:.6g}, not to 1"
        )
    return tuple(Rule(rule.children, rule.probability / total, rule.line) for rule in alternatives)


def _levels(
    start: str, rules: Mapping[str, tuple[Rule, ...]], source: str
) -> tuple[tuple[str, ...], ...]:
    """The symbols of every level. The level of a symbol is its distance from the start, which must
    be the same along every path."""
    _refuse_cycles(start, rules, source)
    level_of, last_use = _distances(start, rules, source)
    if unreachable := [symbol for symbol in rules if symbol not in level_of]:
        raise UserError(
            f"{source}, line {rules[unreachable[0]][0].line}: {unreachable[0]} cannot be reached"
            f" from the start symbol {start}"
        )
    bottom = max(level_of.values())
    for symbol, level in level_of.items():
        if symbol not in rules and level < bottom:
            what = f"{symbol} has no rule, so that it is a terminal, {level} level(s) below {start}"
            raise UserError(
                f"{source}, line {last_use[symbol]}: {what}; other terminals lie {bottom} below,"
                " and all must be equally deep"
            )
    inner = [tuple(s for s in rules if level_of[s] == level) for level in range(bottom)]
    terminals = [symbol for symbol, level in level_of.items() if level == bottom]
    return *inner, tuple(sorted(terminals, key=lambda symbol: (len(symbol), symbol)))


def _distances(
    start: str, rules: Mapping[str, tuple[Rule, ...]], source: str
) -> tuple[dict[str, int], dict[str, int]]:
    """The level of every symbol that can be reached, and the line that used it last.

    Raises:
        UserError: two paths to a symbol differ in length.
    """
    level_of, last_use = {start: 0}, {start: rules[start][0].line}
    frontier, depth = [start], 0
    while frontier:
        depth += 1
        below: dict[str, None] = {}
        for symbol in frontier:
            for rule in rules.get(symbol, ()):
                for child in rule.children:
                    if level_of.get(child, depth) != depth:
                        here = (
                            f"`{symbol} -> {' '.join(rule.children)}` uses {child} {depth} level(s)"
                            f" below {start}"
                        )
                        there = (
                            f"line {last_use[child]} uses it {level_of[child]} below; every symbol"
                            " must have one depth"
                        )
                        raise UserError(f"{source}, line {rule.line}: {here}, but {there}")
                    level_of[child], last_use[child] = depth, rule.line
                    below[child] = None
        frontier = list(below)
    return level_of, last_use


def _refuse_cycles(start: str, rules: Mapping[str, tuple[Rule, ...]], source: str) -> None:
    order = [start, *(symbol for symbol in rules if symbol != start)]
    children_of = {
        symbol: [child for rule in rules[symbol] for child in rule.children] for symbol in order
    }
    try:
        TopologicalSorter(children_of).prepare()
    except CycleError as error:
        cycle = error.args[1][::-1]  # from parent to child
        first = min(range(len(cycle) - 1), key=lambda i: order.index(cycle[i]))
        cycle = [*cycle[first:-1], *cycle[: first + 1]]
        line = next(rule.line for rule in rules[cycle[-2]] if cycle[-1] in rule.children)
        raise UserError(
            f"{source}, line {line}: the rules go in a circle, {' -> '.join(cycle)}; derivations"
            " must end, all at the same depth"
        ) from None


def _restricted(grammar: Grammar, level: int, start: tuple[str, ...]) -> Grammar:
    levels, rules = [start], {}
    for below in grammar.levels[level + 1 :]:
        rules |= {symbol: grammar.rules[symbol] for symbol in levels[-1]}
        used: set[str] = set()
        for symbol in levels[-1]:
            for rule in grammar.rules[symbol]:
                used.update(rule.children)
        levels.append(tuple(symbol for symbol in below if symbol in used))
    return Grammar(grammar.name, tuple(levels), rules)
