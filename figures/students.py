"""Students of masked prediction on a grammar: accuracy by strategy, what their teacher knows of the derivation, and the published accuracies."""

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes

from figures import loaders, style

STRATEGIES = ("ce", "one-shot", "progressive", "two-shot")


def draw(home: Path, folder: Path) -> Path:
    """Draw `students`.

    Args:
        home: `runs/pcfg/<preset>`.
        folder: where figures go.
    """
    drawing, (accuracy, ancestors, published) = style.figure(3)
    runs = {"teacher": home / "teacher", **{name: home / "student" / name for name in STRATEGIES}}
    largest = 0.0
    for name, run in runs.items():
        examples, accuracy_SxT = loaders.curves(run)
        style.curve_with_band(accuracy, examples, accuracy_SxT, style.STRATEGY[name], f"{style.LABEL[name]} ({len(accuracy_SxT)} seeds)")
        largest = max(largest, float(examples[-1]))
    ceiling = loaders.read_json(home / "teacher" / "probes" / "ceiling.json")["ceiling"]["accuracy_here"]
    accuracy.axhline(ceiling, color=style.GREY, linestyle="--", linewidth=1.2, label="best of all models")
    style.examples_axis(accuracy, largest)
    accuracy.set_xlabel(accuracy.get_xlabel().replace("examples", "sentences"))
    accuracy.set_ylim(0, 1.02)
    accuracy.set_ylabel("accuracy on selected tokens")
    accuracy.set_title("This run")
    accuracy.legend(loc="lower right")
    draw_ancestors(ancestors, pd.read_csv(home / "teacher" / "probes" / "nonterminals.csv"))
    draw_published(published)
    return style.save(drawing, folder, "students")


def draw_ancestors(axes: Axes, table: pd.DataFrame) -> None:
    """How well each probe reads each level's ancestors off the teacher, untrained and trained, mean over seeds."""
    mean = table.groupby(["probe", "step", "level"])["accuracy"].mean()
    chance = table.groupby("level")["chance"].first()
    bars = [(probe, step) for probe in ("linear", "mixing") for step in (table.step.min(), table.step.max())]
    colors = (style.GREY, style.BLACK, style.SKY, style.BLUE)
    for i, ((probe, step), color) in enumerate(zip(bars, colors, strict=True)):
        own, state = mean[probe][step], "untrained" if step == 0 else "trained"
        axes.bar([level + 0.2 * (i - 1.5) for level in own.index], own, width=0.19, color=color, label=f"{probe}, {state}")
    axes.set_axisbelow(True)
    axes.plot(chance.index, chance, "_", color=style.RED, markersize=44, markeredgewidth=2, label="commonest symbol")
    axes.set_xticks(chance.index, [f"level {level}" for level in chance.index])
    axes.set_ylim(0, 1.35)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1])
    axes.set_ylabel("accuracy of the ancestor")
    axes.set_title("Derivation in the hidden states")
    axes.legend(loc="upper center", ncols=2)


def draw_published(axes: Axes) -> None:
    """Final accuracy against the length of the run (paper, Figure 1 right: the whole of cfg3b, 32 heads to 8)."""
    table = loaders.targets("overview_acc", "pcfg_bert")
    for series, points in table.groupby("series", sort=False):
        name = str(series).replace("_", "-")
        axes.plot(points.x, points.y, "o--", color=style.STRATEGY[name], label=style.LABEL[name], linewidth=1.2, markersize=7)
    axes.set_xscale("log")
    axes.set_xticks(sorted(table.x.unique()), [f"{x:,.0f}" for x in sorted(table.x.unique())])
    axes.minorticks_off()
    axes.set_xlabel("steps of the run (batches of 512)")
    axes.set_ylabel("final accuracy")
    axes.set_title("Published (cfg3b, 32 heads to 8)")
    axes.legend(loc="lower right")
