"""The size of a model, in which an experiment's models differ: an MLP's width, a Transformer's
heads."""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple


class Size(NamedTuple):
    """A field of a model's configuration with its value, by which sizes of one kind are ordered."""

    name: Literal["width", "heads"]
    value: int

    @property
    def flag(self) -> str:
        """The command-line flag that sets it."""
        return f"--model.{self.name}"

    @property
    def tag(self) -> str:
        """Its form in the name of a run: `w100`, `h4`."""
        return f"{self.name[0]}{self.value}"

    def text(self, number_format: str = "") -> str:
        """Its form in a sentence: "width 100", "4 heads"."""
        number = format(self.value, number_format)
        if self.name == "width":
            return f"width {number}"
        return f"{number} head{'' if self.value == 1 else 's'}"


def size_of(model: Mapping[str, Any]) -> Size:
    """The size of a model from its saved configuration; only a Transformer's has heads."""
    if "heads" in model:
        return Size("heads", model["heads"])
    return Size("width", model["width"])
