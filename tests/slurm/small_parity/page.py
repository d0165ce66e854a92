"""One figure: accuracy of teacher and student over training."""

from pathlib import Path

from figures import loaders, style
from figures.page import Page


class Curves:
    """The figure `curves`."""

    def draw(self, home: Path, folder: Path) -> Path:
        """Mean over seeds, and the middle half of them."""
        drawing, (axes,) = style.figure(1)
        for name, strategy in (("teacher", "teacher"), ("student", "one-shot")):
            examples, accuracy_SxE = loaders.curves(home / name)
            color = style.STRATEGY[strategy]
            style.curve_with_band(axes, examples, accuracy_SxE, color, style.LABEL[strategy])
        style.accuracy_axis(axes)
        axes.legend()
        return style.save(drawing, folder, "curves")

    def caption(self, home: Path) -> str:
        """What is drawn."""
        return "Accuracy of teacher and student over training examples."


PAGE = Page(title="Small parity", figures={"curves": Curves()}, figure_of={"L": "curves"})
