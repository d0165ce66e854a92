"""`python -m figures.law`: learning time against d at fixed k, every seed, medians, fitted
exponents and the theory's slopes."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from common.base.config import parse
from common.base.errors import UserError, run_command
from common.judge.verdict import outcome_in_table
from common.runs.directory import RunDirectory
from common.runs.files import copy_file, refuse_filled, write_json, write_text
from common.runs.lineage import refuse_stale_judgement
from figures import loaders, report, style, tables

CAPTION = (
    "Learning time against the dimension d. Dots: seeds; large: their median with its 95% interval;"
    " triangles: seeds that did not learn within their budget, if any. Lines: fits to the medians,"
    " with exponents. Dashed: the theory's slopes, placed by hand. Students' own examples only."
)
COMMAND = "python -m parity.law --preset"
_TABLES = ("learning_times.csv", "tuning.csv", "fits.json")
_PROVENANCE, _TABLE, _PARAGRAPH = "provenance.json", "table.md", "paragraph.md"
_SHIFT = {"teacher": 0.97, "ce": 0.99, "progressive": 1.01, "two-shot": 1.03}


@dataclass(frozen=True)
class LawCommand:
    """Arguments of `python -m figures.law`."""

    preset: Literal["quick", "laptop"] = "quick"
    """The preset of `parity.law`."""
    root: Path = Path("runs")
    """Where runs are kept."""
    out: Path = Path("site")
    """The figure goes to OUT/law/PRESET."""
    publish: Path | None = None
    """Also keep figure, tables and provenance in PUBLISH/law/PRESET, to be committed."""


def main(args: list[str]) -> None:
    """Draw, and copy where asked."""
    command = parse(
        LawCommand,
        args,
        prog="figures.law",
        description="Draw learning time against d from the tables of parity.law.",
    )
    home = command.root / "law" / command.preset
    makes_it = f"{COMMAND} {command.preset} --root {command.root}"
    if not (home / "fits.json").exists():
        raise UserError(f"{home} is not complete; run `{makes_it}` first")
    refuse_stale_judgement(home / "fits.json", makes_it)
    png = draw(home, command.out / "law" / command.preset)
    print(png)
    if command.publish is not None:
        publish(home, png, command.publish / "law" / command.preset, command.preset)


def draw(home: Path, folder: Path) -> Path:
    """Draw `law`.

    Args:
        home: `runs/law/<preset>`.
        folder: where figures go.
    """
    fits = fits_of(home)["fits"]
    times = loaders.table_of(
        home / "learning_times.csv", "k", "d", "strategy", "seed", "t90", "budget"
    )
    ks = sorted({fit["k"] for fit in fits})
    drawing, panels = style.figure(len(ks), width=6.6, height=5.6)
    for axes, k in zip(panels, ks, strict=True):
        draw_panel(axes, [fit for fit in fits if fit["k"] == k], times[times.k == k])
        axes.set_title(f"k = {k}, {times[times.k == k].seed.nunique()} seeds")
    panels[0].set_ylabel("examples to 90% accuracy")
    return style.save(drawing, folder, "law")


def draw_panel(axes: Axes, fits: list[dict[str, Any]], times: pd.DataFrame) -> None:
    """Learning times of one k."""
    axes.set_xscale("log")
    axes.set_yscale("log")
    sizes = np.array(sorted(times.d.unique()), float)
    for fit in fits:
        name = fit["strategy"]
        own, color = times[times.strategy == name], style.STRATEGY[name]
        learnt, censored = own[own.t90.notna()], own[own.t90.isna()]
        axes.plot(learnt.d * _SHIFT[name], learnt.t90, ".", color=color, alpha=0.3, markersize=6)
        axes.plot(
            censored.d * _SHIFT[name],
            censored.budget,
            "^",
            color=color,
            fillstyle="none",
            markersize=7,
        )
        draw_medians(axes, fit, own.groupby("d").budget.max().to_dict(), color)
        if fit["prefactor"] is not None:
            axes.plot(
                sizes,
                fit["prefactor"] * sizes ** fit["exponent"]["value"],
                color=color,
                linewidth=1.6,
                label=legend_text(fit),
            )
    draw_guides(axes, fits, sizes)
    axes.plot([], [], color=style.GREY, linewidth=1.2, linestyle="--", label="slopes of the theory")
    axes.set_xticks(sizes, [f"{size:g}" for size in sizes])
    ticks = style.nice_log_ticks(times.t90.dropna().tolist() or [1.0])
    axes.set_yticks(ticks, [style.examples_text(tick) for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel("dimension d")
    axes.legend(loc="upper left")


def draw_medians(axes: Axes, fit: dict[str, Any], budgets: dict[int, int], color: str) -> None:
    """Medians with their intervals. An interval without an upper end is drawn up to the budget."""
    for median in fit["medians"]:
        if median["value"] is not None:
            at = median["d"] * _SHIFT[fit["strategy"]]
            axes.plot(
                [at, at],
                [median["low"], median["high"] or budgets[median["d"]]],
                color=color,
                linewidth=1.4,
            )
            axes.plot(at, median["value"], "o", color=color, markersize=8)


def legend_text(fit: dict[str, Any]) -> str:
    """A strategy with its exponent, typeset."""
    exponent = fit["exponent"]
    return (
        rf"{style.LABEL[fit['strategy']]}: $d^{{{exponent['value']:.2f}}}$ [{exponent['low']:.2f},"
        rf" {exponent['high']:.2f}]"
    )


def draw_guides(axes: Axes, fits: list[dict[str, Any]], sizes: np.ndarray) -> None:
    """The theory's slopes, apart from the fits: above that of labels, below that of two-shot."""
    for fit in fits:
        if fit["theory"] is not None and fit["prefactor"] is not None:
            factor, at = (1.5, sizes[0]) if fit["strategy"] == "ce" else (0.6, sizes[-1])
            fitted = factor * fit["prefactor"] * at ** fit["exponent"]["value"]
            guide = fitted * (sizes / at) ** fit["theory"]
            color = style.STRATEGY[fit["strategy"]]
            axes.plot(sizes, guide, color=color, linewidth=1.2, linestyle="--", alpha=0.7)
            text = {
                "xytext": (14, 0),
                "textcoords": "offset points",
                "va": "center",
                "fontsize": 12,
                "annotation_clip": False,
            }
            axes.annotate(f"$d^{fit['theory']}$", (sizes[-1], guide[-1]), color=color, **text)


def publish(home: Path, png: Path, out: Path, preset: str) -> None:
    """Keep the small results of a law: tables, figure, provenance, the table of its claims."""
    refuse_filled(out, _PROVENANCE, ours=(*_TABLES, png.name, _TABLE, _PARAGRAPH))
    out.mkdir(parents=True, exist_ok=True)
    for source in (*(home / name for name in _TABLES), png):
        copy_file(source, out / source.name)
    manifests = manifests_of(home)
    reported = manifests[min(name for name in manifests if Path(name).parts[1:] == ("teacher",))]
    kept: dict[str, Any] = {
        name: reported[name] for name in ("device", "packages", "python", "seeds")
    }
    kept["commits"] = sorted({str(manifest["commit"]) for manifest in manifests.values()})
    seconds = round(sum(manifest["wall_seconds"] for manifest in manifests.values()))
    write_json(out / _PROVENANCE, kept | {"training_seconds": seconds, "num_runs": len(manifests)})
    write_text(out / _TABLE, published_table(out, preset))
    write_text(out / _PARAGRAPH, paragraph(fits_of(out)))


def published_table(folder: Path, preset: str) -> str:
    """The table of a published law, and below it the commits that made it and what its intervals
    are."""
    values = fits_of(folder)
    return f"{table(values, preset)}\n{tables.label(folder, values['intervals'])}"


def fits_of(home: Path) -> dict[str, Any]:
    """The fitted exponents, and the comparisons made from them."""
    return loaders.json_of(home / "fits.json", "fits", "comparisons", "criterion", "intervals")


def manifests_of(home: Path) -> dict[str, dict[str, Any]]:
    """The manifests of the runs that a law was made from, by name."""
    names = loaders.json_of(home / "fits.json", "made_from")["made_from"]
    return {name: RunDirectory(home / name).manifest for name in names}


def caption(home: Path) -> str:
    """What the figure shows, and the exponents in words."""
    return f"{CAPTION} {paragraph(fits_of(home))}"


def addition(home: Path) -> report.Addition:
    """What the law adds to the report of the preset of its name."""
    manifests = manifests_of(home)
    texts = {
        "learning_times.csv": "t90 of every run and seed of the law",
        "tuning.csv": "the sweeps of the law",
        "fits.json": "the law's exponents and medians as numbers",
    }
    return report.Addition(
        claims=claims(fits_of(home)),
        tables=[(home / name, f"law_{name}", text) for name, text in texts.items()],
        runs=f"the law over d ({len(manifests)} runs)",
        seconds=sum(manifest["wall_seconds"] for manifest in manifests.values()),
    )


def claims(values: dict[str, Any]) -> list[dict[str, Any]]:
    """One claim for each k, in the form of `claims.json`."""
    judged = []
    for comparison in values["comparisons"]:
        k = comparison["k"]
        cost = "labels cost a higher power than" if k - 1 > 2 else "labels cost the same power as"
        difference = comparison["ce_minus_two_shot"]
        measured = [_measured("labels less 2-shot", interval_text(difference, ".2f"), difference)]
        for fit in values["fits"]:
            if fit["k"] == k:
                text = exponent_text(fit["exponent"])
                measured.append(_measured(style.LABEL[fit["strategy"]], text, fit["exponent"]))
        titles = {
            "claim": f"law, k={k}",
            "title": f"in d, {cost} 2-shot",
            "criterion": values["criterion"],
        }
        judged.append(titles | {"holds": comparison["holds"], "measured": measured, "notes": []})
    return judged


def _measured(name: str, text: str, estimate: dict[str, Any]) -> dict[str, Any]:
    seeds = {key: estimate[key] for key in ("num_seeds", "num_censored")}
    return {"name": name, "text": text} | seeds


def table(values: dict[str, Any], preset: str) -> str:
    """The claims of a law, a row for each k."""
    rows = [
        f"| claim | command | figure | measured, `law/{preset}` |",
        "| --- | --- | --- | --- |",
    ]
    for claim in claims(values):
        measured = "; ".join(f"{item['name']} {item['text']}" for item in claim["measured"])
        rows.append(
            f"| {claim['claim']}: {claim['title']} | `{COMMAND} {preset}` | [law](law.png) |"
            f" {outcome_in_table(claim)}: {measured} |"
        )
    return "\n".join(rows) + "\n"


def paragraph(values: dict[str, Any]) -> str:
    """The measured exponents beside the theory's, in words."""
    sentences = []
    for comparison in values["comparisons"]:
        of_k = {fit["strategy"]: fit for fit in values["fits"] if fit["k"] == comparison["k"]}
        sentences += [_exponents(comparison, of_k), _censored(of_k)]
        sentences += _ends(of_k, "rates_at_an_end", "rates")
        sentences += _ends(of_k, "first_stages_at_an_end", "first stages")
    sentences.append(
        "Intervals are over seeds; they leave out what another choice of rates, of first stages or"
        " of budgets would change."
    )
    return " ".join(sentences) + "\n"


def _exponents(comparison: dict[str, Any], of_k: dict[str, dict[str, Any]]) -> str:
    d_first, d_last = (of_k["ce"]["medians"][i]["d"] for i in (0, -1))
    text = {name: exponent_text(fit["exponent"]) for name, fit in of_k.items()}
    gain = interval_text(comparison["ce_over_two_shot"], ".1f")
    return (
        f"At k={comparison['k']}, d={d_first} to {d_last}, learning time grows as {text['ce']} on"
        f" labels ({theory_text(of_k['ce'])}), {text['two-shot']} under two checkpoints"
        f" ({theory_text(of_k['two-shot'])}), {text['progressive']} under all of them, and"
        f" {text['teacher']} for the teacher; labels less 2-shot"
        f" {interval_text(comparison['ce_minus_two_shot'], '.2f')}. At d={d_last} labels need"
        f" {gain} times the examples of 2-shot."
    )


def _censored(of_k: dict[str, dict[str, Any]]) -> str:
    exponents = [(fit["exponent"], len(fit["medians"])) for fit in of_k.values()]
    total = sum(exponent["num_seeds"] * num_sizes for exponent, num_sizes in exponents)
    num_censored = sum(exponent["num_censored"] for exponent, _ in exponents)
    return f"Of {total} runs {num_censored} did not learn within their budget."


def _ends(of_k: dict[str, dict[str, Any]], choice: str, name: str) -> list[str]:
    """A sentence on the choices at an end of their grid; none without any."""
    ends = [
        f"{style.LABEL[strategy]} at d={', '.join(map(str, fit[choice]))}"
        for strategy, fit in of_k.items()
        if fit[choice]
    ]
    return [f"Chosen {name} at an end of their grid: {'; '.join(ends)}."] if ends else []


def theory_text(fit: dict[str, Any]) -> str:
    """The theory's exponent, and whether it lies above, below or inside the measured interval."""
    exponent, theory = fit["exponent"], fit["theory"]
    if exponent["value"] is None:
        return f"theory: d^{theory}"
    place = "inside"
    if theory > exponent["high"]:
        place = "above"
    elif theory < exponent["low"]:
        place = "below"
    return f"theory: d^{theory}, {place} the interval"


def exponent_text(exponent: dict[str, Any]) -> str:
    """An exponent of d with its interval."""
    if exponent["value"] is None:
        return "no power that could be fitted"
    return f"d^{exponent['value']:.2f} [{exponent['low']:.2f}, {exponent['high']:.2f}]"


def interval_text(estimate: dict[str, Any], digits: str) -> str:
    """A number with its interval; what is infinite or missing lies beyond the budget."""
    shown = [
        "beyond budget" if estimate[name] is None else format(estimate[name], digits)
        for name in ("value", "low", "high")
    ]
    return f"{shown[0]} [{shown[1]}, {shown[2]}]"


if __name__ == "__main__":
    run_command(main)
