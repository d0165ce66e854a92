"""What the report of the relay by size holds."""

from figures.page import Page
from figures.relay import SIZES, Relay

DATA = {SIZES: "accuracy of every link and seed on each set of sentences, and its parameters"}

PAGE = Page(
    title="A relay of distillations by size: classifiers of sentences",
    figures={"relay": Relay()},
    figure_of=dict.fromkeys(("R1", "R2", "R3", "R4", "R5"), "relay"),
    data=lambda _: DATA,
    published=tuple(DATA),
    footnote=lambda _: (
        "Intervals are of a bootstrap over seeds and held-out sentences, for these encoders and"
        " these links above the last. Held out are whole sentences; no phrase of one is trained on,"
        " and no rate or checkpoint is chosen by them."
    ),
)
