"""Accuracy over examples: the teacher and its students, beside the same panel of the paper (Figure
1, left)."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes

from figures import loaders, style
from parity.presets import PRESETS

PUBLISHED = {
    "width": ("mlp_parity", "width 50,000 to 100"),
    "heads": ("transformer_parity", "32 heads to 4"),
}
"""By what the models differ in: the panel of the paper's figure, and the models in it."""


def draw(home: Path, folder: Path) -> Path:
    """Draw `overview`.

    Args:
        home: `runs/parity/<preset>`.
        folder: where figures go.
    """
    drawing, (ours, zoom, published) = style.figure(3)
    narrowest, label_run = next(iter(PRESETS[home.name].config.label_runs.items()))
    runs = {
        "ce": home / label_run,
        "one-shot": home / "student" / "one-shot",
        "progressive": home / "student" / "progressive",
        "two-shot": home / "student" / "two-shot",
        "projections": home / "student" / "projections",
        "teacher": home / "teacher",
    }
    budgets = [draw_run((ours, zoom), name, run) for name, run in runs.items()]
    budgets += draw_replicas(ours, loaders.replicas(home))
    teacher_budget = float(loaders.curves(home / "teacher")[0][-1])
    for axes, largest, title in (
        (ours, max(budgets), "This run"),
        (zoom, teacher_budget, "This run, the teacher's budget"),
    ):
        style.examples_axis(axes, largest)
        style.accuracy_axis(axes)
        axes.set_title(title)
    # Below all panels: bands may fill them.
    drawing.legend(*ours.get_legend_handles_labels(), loc="outside lower center", ncols=7)
    draw_published(published, *PUBLISHED[narrowest.name])
    return style.save(drawing, folder, "overview")


def draw_run(panels: Sequence[Axes], name: str, run: Path) -> float:
    """The accuracy of one run in each panel; returns its budget in examples."""
    examples, accuracy_SxE = loaders.curves(run)
    num_seeds = len(accuracy_SxE)
    label = f"{style.LABEL[name]} ({num_seeds} seed{'s' if num_seeds > 1 else ''})"
    # Dashed, because with hard labels it coincides with the label student.
    linestyle = "--" if name == "one-shot" else "-"
    for axes in panels:
        style.curve_with_band(axes, examples, accuracy_SxE, style.STRATEGY[name], label, linestyle)
    return float(examples[-1])


def draw_replicas(axes: Axes, replicas: Sequence[Path]) -> list[float]:
    """The accuracy of further teachers, thin; returns their budgets in examples."""
    budgets = []
    for i, run in enumerate(replicas):
        examples, accuracy_SxE = loaders.curves(run)
        axes.plot(
            examples,
            accuracy_SxE.T,
            color=style.BLACK,
            linewidth=0.8,
            alpha=0.6,
            label="further teachers" if i == 0 else None,
        )
        budgets.append(float(examples[-1]))
    return budgets


def caption(home: Path) -> str:
    """What the figure shows."""
    text = (
        "Accuracy on held-out examples. Lines: mean over seeds; bands: the middle half of the"
        " seeds."
    )
    if loaders.replicas(home):
        text += " Thin: further teachers."
    return f"{text} Right: points of the paper's Figure 1 (left)."


def draw_published(axes: Axes, panel: str, models: str) -> None:
    """The points of one panel of the paper (d=100, k=6)."""
    table = loaders.targets("overview_acc", panel)
    for series, points in table.groupby("series", sort=False):
        name = str(series).replace("_", "-")
        axes.plot(
            points.x,
            points.y,
            "o--",
            color=style.STRATEGY[name],
            label=style.LABEL[name],
            linewidth=1.2,
            markersize=7,
        )
    style.examples_axis(axes, float(table.x.max()) * 1.03)
    style.accuracy_axis(axes)
    axes.set_title(f"Published (d=100, {models})")
    axes.legend(loc="center left")
