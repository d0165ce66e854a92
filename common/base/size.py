"""The one number by which an experiment's models differ from each other: an MLP's width, a
Transformer's heads."""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple


class Size(NamedTuple):
    """A field of a model's configuration with its value; sizes of one kind of model are ordered by
    it."""

    name: Literal["width", "heads"]
    value: int

    @property
    def flag(self) -> str:
        """The option that sets it on the command line."""
        return f"--model.{self.name}"

    @property
    def tag(self) -> str:
        """How it appears in the name of a run: `w100`, `h4`."""
        return f"{self.name[0]}{self.value}"

    def text(self, number_format: str = "") -> str:
        """How a reader is told: "width 100", "4 heads"."""
        number = format(self.value, number_format)
        if self.name == "width":
            return f"width {number}"
        return f"{number} head{'' if self.value == 1 else 's'}"


def size_of(model: Mapping[str, Any]) -> Size:
    """The size of a model whose configuration was saved with a run; a Transformer is told by its
    heads."""
    return Size("heads", model["heads"]) if "heads" in model else Size("width", model["width"])
