"""The size of a model: what users and run directories call it."""

from common.base.config import to_dict
from common.base.size import Size, size_of
from common.nn.gpt2 import GPT2Config
from common.nn.mlp import MLPConfig


def test_names_of_sizes() -> None:
    wide, heads = MLPConfig(50_000).size, GPT2Config(4).size
    assert (wide.flag, wide.tag, wide.text(), wide.text(",")) == (
        "--model.width",
        "w50000",
        "width 50000",
        "width 50,000",
    )
    assert (heads.flag, heads.tag, heads.text()) == ("--model.heads", "h4", "4 heads")
    assert GPT2Config(1).size.text() == "1 head"
    assert sorted([Size("heads", 16), Size("heads", 4)]) == [heads, Size("heads", 16)]


def test_the_size_of_a_saved_model() -> None:
    for model in (MLPConfig(7), GPT2Config(3)):
        assert size_of(to_dict(model)) == model.size
