"""Hierarchical parity: accuracy at each level of the tree of labels over training, and when each level has its transition."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from common.transition import DetectorConfig, Transition, detect_on_metric
from figures import loaders, style


def draw(home: Path, folder: Path) -> Path:
    """Draw `levels`."""
    drawing, (accuracy, times) = style.figure(2)
    depth = loaders.read_json(home / "tree" / "config.json")["config"]["data"]["depth"]
    largest = 0.0
    for level in range(1, depth + 1):
        examples, values_SxT = loaders.curves(home / "tree", "accuracy" if level == depth else f"accuracy_level_{level}")
        color, chance, largest = style.series_color(level), 0.5**level, float(examples[-1])
        label = f"level {level}: {2**level} {'labels' if level == depth else 'nodes'}"
        style.curve_with_band(accuracy, examples, values_SxT, color, label)
        accuracy.axhline(chance, color=color, linewidth=1, linestyle=":")
        draw_transitions(times, level, examples, values_SxT, chance, color)
    for axes in (accuracy, times):
        style.examples_axis(axes, largest)
    accuracy.set_ylim(0, 1.03)
    accuracy.set_ylabel("accuracy (dotted: chance)")
    accuracy.set_title(f"{loaders.metrics(home / 'tree').seed.nunique()} seeds")
    accuracy.legend(loc="lower right")
    times.set_yticks(range(1, depth + 1), [f"level {level}" for level in range(1, depth + 1)])
    times.set_ylim(depth + 0.6, 0.4)
    times.set_title("Transition of each level (bar: median middle)")
    return style.save(drawing, folder, "levels")


def draw_transitions(axes: Axes, level: int, examples: np.ndarray, values_SxT: np.ndarray, chance: float, color: str) -> None:
    """A line from start to end of the transition of each seed, a dot in its middle, a bar at the median; seeds without one are counted."""
    found = [detect_on_metric(examples.tolist(), values_T.tolist(), DetectorConfig(floor=chance)) for values_T in values_SxT]
    seen = [transition for transition in found if isinstance(transition, Transition)]
    for transition, offset in zip(seen, np.linspace(-0.3, 0.3, max(len(seen), 1)), strict=False):
        axes.plot([transition.start, transition.end], [level + offset] * 2, color=color, linewidth=1.5, alpha=0.6)
        axes.plot(transition.middle, level + offset, "o", color=color, markersize=5)
    if seen:
        middle = float(np.median([transition.middle for transition in seen]))
        axes.plot([middle] * 2, [level - 0.4, level + 0.4], color=style.BLACK, linewidth=2.5)
    if missing := len(found) - len(seen):
        axes.annotate(f"{missing} without", (0.98, level), xycoords=("axes fraction", "data"), ha="right", va="center", fontsize=10)
