"""The form of a judged claim, as text, as a table and as JSON."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table

from common.judge.stats import INTERVALS, Estimate

UNDECIDED = "undecided"
"""Entry of a claim of `claims.json` that is judged and undecided; others have none."""


@dataclass(frozen=True)
class Measurement:
    """One number that a claim is judged by, with its interval over seeds."""

    name: str
    estimate: Estimate
    unit: str = ""


@dataclass(frozen=True)
class Verdict:
    """A claim judged."""

    claim: str
    holds: bool | None
    """None: the runs allow no judgement (their rates were chosen by no sweep, or a compared number
    lies beyond the budget), or they were judged and are `undecided`."""
    measurements: tuple[Measurement, ...]
    notes: tuple[str, ...] = ()
    undecided: bool = False
    """Whether the criterion, applied to these runs, leaves open whether the claim holds."""


@dataclass(frozen=True)
class Claim:
    """What is claimed, and the criterion by which it holds; both are fixed before the runs."""

    title: str
    criterion: str


def within(estimate: Estimate, low: float = -math.inf, high: float = math.inf) -> bool | None:
    """Whether a number lies between two others; None where it is undefined."""
    if math.isnan(estimate.value):
        return None
    return low <= estimate.value <= high


def every(parts: Iterable[bool | None]) -> bool | None:
    """Whether all parts of a criterion hold; None if no part fails, but one is undefined."""
    found = set(parts)
    if False in found:
        return False
    return None if None in found else True


def most(parts: Sequence[bool | None], share: float) -> bool | None:
    """Whether a criterion holds for at least this share of the seeds; None if that depends on those
    for which it is undecided.

    Args:
        parts: whether it holds, one for each seed.
        share: in [0, 1].
    """
    if parts.count(True) >= share * len(parts):
        return True
    return False if len(parts) - parts.count(False) < share * len(parts) else None


def describe(estimate: Estimate, unit: str = "") -> str:
    """A number as text: with its interval, if it has one, its unit, and the number of seeds."""
    if estimate.num_seeds == 0:
        return "not measured"
    censored = f", {estimate.num_censored} censored" if estimate.num_censored else ""
    seeds = f"({estimate.num_seeds} seeds{censored})"
    words = [_number(estimate.value)]
    if not math.isnan(estimate.low):
        words.append(f"[{_number(estimate.low)}, {_number(estimate.high)}]")
    if unit:
        words.append(unit)
    return " ".join([*words, seeds])


def outcome(holds: bool | None, undecided: bool) -> str:
    """A verdict in words; the arguments are two fields of `Verdict`."""
    if holds is None:
        return "undecided" if undecided else "not judged"
    return "holds" if holds else "does not hold"


def outcome_of(claim: Mapping[str, Any]) -> str:
    """The verdict on a claim of `claims.json` in words."""
    return outcome(claim["holds"], UNDECIDED in claim)


def outcome_in_table(claim: Mapping[str, Any]) -> str:
    """The same in Markdown; one that fails is bold."""
    return f"**{outcome_of(claim)}**" if claim["holds"] is False else outcome_of(claim)


def verdict_table(verdicts: Sequence[Verdict], claims: Mapping[str, Claim]) -> Table:
    """The claims for a terminal."""
    table = Table("claim", "criterion", "measured [95% interval]", "verdict", caption=INTERVALS)
    for verdict in verdicts:
        measured = "\n".join(
            f"{m.name}: {describe(m.estimate, m.unit)}" for m in verdict.measurements
        )
        claim, said = claims[verdict.claim], outcome(verdict.holds, verdict.undecided)
        table.add_row(f"{verdict.claim}: {claim.title}", claim.criterion, measured, said)
    return table


def plain(verdict: Verdict, claims: Mapping[str, Claim]) -> dict[str, Any]:
    """A verdict as JSON values; infinite numbers and NaN, which JSON lacks, become None."""
    measured = []
    for m in verdict.measurements:
        entry: dict[str, Any] = {"name": m.name, "text": describe(m.estimate, m.unit)}
        for key, value in asdict(m.estimate).items():
            entry[key] = value if math.isfinite(value) else None
        measured.append(entry)
    claim = claims[verdict.claim]
    titles = {"claim": verdict.claim, "title": claim.title, "criterion": claim.criterion}
    judged: dict[str, Any] = {"holds": verdict.holds}
    if verdict.undecided:
        judged[UNDECIDED] = True
    return titles | judged | {"measured": measured, "notes": list(verdict.notes)}


def _number(value: float) -> str:
    if math.isnan(value):
        return "undefined"
    if math.isinf(value):
        return "beyond budget"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
