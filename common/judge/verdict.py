"""The form of a judged claim, as text, as a table and as JSON."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table

from common.judge.stats import INTERVALS, Estimate


@dataclass(frozen=True)
class Measurement:
    """One number of a claim, with its interval over seeds and what it is compared with."""

    name: str
    estimate: Estimate
    unit: str = ""


@dataclass(frozen=True)
class Verdict:
    """A claim judged."""

    claim: str
    holds: bool | None
    """None: measured, but by runs that do not allow a judgement (rates that no sweep chose, or what
    is compared lies beyond the budget)."""
    measurements: tuple[Measurement, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Claim:
    """What is claimed, and when it holds; fixed before the runs."""

    title: str
    criterion: str


def within(estimate: Estimate, low: float = -math.inf, high: float = math.inf) -> bool | None:
    """Whether a number lies between two others; None where it is undefined."""
    return None if math.isnan(estimate.value) else low <= estimate.value <= high


def every(parts: Iterable[bool | None]) -> bool | None:
    """Whether all parts of a criterion hold: not if one does not, and None if none fails but one is
    undefined."""
    found = set(parts)
    return False if False in found else None if None in found else True


def describe(estimate: Estimate, unit: str = "") -> str:
    """A number with its interval, where it has one, and how many seeds stand behind it."""
    if estimate.num_seeds == 0:
        return "not measured"
    censored = f", {estimate.num_censored} censored" if estimate.num_censored else ""
    seeds = f"({estimate.num_seeds} seeds{censored})"
    interval = (
        "" if math.isnan(estimate.low) else f" [{_number(estimate.low)}, {_number(estimate.high)}]"
    )
    return f"{_number(estimate.value)}{interval}{f' {unit}' if unit else ''} {seeds}"


def outcome(holds: bool | None) -> str:
    """A verdict in words."""
    return "not judged" if holds is None else "holds" if holds else "does not hold"


def outcome_in_table(holds: bool | None) -> str:
    """The same in Markdown, where a claim that fails stands out."""
    return f"**{outcome(holds)}**" if holds is False else outcome(holds)


def verdict_table(verdicts: Sequence[Verdict], claims: Mapping[str, Claim]) -> Table:
    """The claims for a terminal."""
    table = Table("claim", "criterion", "measured [95% interval]", "verdict", caption=INTERVALS)
    for verdict in verdicts:
        measured = "\n".join(
            f"{m.name}: {describe(m.estimate, m.unit)}" for m in verdict.measurements
        )
        claim = claims[verdict.claim]
        table.add_row(
            f"{verdict.claim}: {claim.title}", claim.criterion, measured, outcome(verdict.holds)
        )
    return table


def plain(verdict: Verdict, claims: Mapping[str, Claim]) -> dict[str, Any]:
    """JSON values of a verdict; infinite numbers become None, because JSON has no infinity."""
    measured = [
        {"name": m.name, "text": describe(m.estimate, m.unit)}
        | {
            key: None if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in asdict(m.estimate).items()
        }
        for m in verdict.measurements
    ]
    claim = claims[verdict.claim]
    titles = {"claim": verdict.claim, "title": claim.title, "criterion": claim.criterion}
    return titles | {"holds": verdict.holds, "measured": measured, "notes": list(verdict.notes)}


def _number(value: float) -> str:
    if math.isnan(value):
        return "undefined"
    if math.isinf(value):
        return "beyond budget"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
