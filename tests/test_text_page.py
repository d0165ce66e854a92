"""The page of text: what its figures draw of made-up tables, and what they say."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from common.judge.phases import PhaseConfig
from common.sequence import student_claims
from common.sequence.windows import BY_TOKEN, TABLE
from figures import loaders, phases, registry, style
from figures.neighbours import LATE_GAINS, Neighbours, TokenKinds
from figures.phases import REFERENCES, Phases, draw_references, shade_drop
from mlm import probe, references, verdicts
from mlm.page import PAGE, detector_of
from mlm.token_kinds import WORDS

STEPS, SEEDS = (0, 100, 200, 400), (7, 8, 9)


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    plt.close("all")


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """What was drawn is kept; no teacher has a drop."""
    figures: list[Figure] = []

    def keep(drawing: Figure, folder: Path, name: str) -> Path:
        figures.append(drawing)
        return folder / f"{name}.png"

    monkeypatch.setattr(style, "save", keep)
    monkeypatch.setattr(phases, "drop_of", lambda *_: None)
    return figures


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Distances are a hundredth of n, more with every step and kind; those of each kind of token
    ten times the number of the kind."""
    home = tmp_path / "quick"
    probes = home / "teacher" / "probes"
    probes.mkdir(parents=True)
    rows = [
        {"step": step, "seed": seed, "kind": kind, "n": n}
        | {"median": 0.01 * n + step / 1e4 + 0.1 * i}
        for step in STEPS
        for seed in SEEDS
        for i, kind in enumerate(probe.KINDS)
        for n in (2, 3, 11)
    ]
    pd.DataFrame(rows).to_csv(probes / TABLE, index=False)
    of_kinds = [
        row | {"tokens": tokens, "num_pairs": 1000 + i, "median": 0.1 * i + row["step"] / 1e4}
        for i, tokens in enumerate(WORDS)
        for row in rows
    ]
    pd.DataFrame(of_kinds).to_csv(probes / BY_TOKEN, index=False)
    gains = [
        {"seed": seed, "n": n, "at_end": 0.5, "final": 0.6, "gain": 0.1 * i + 0.01 * seed}
        for seed in SEEDS
        for i, n in enumerate((2, 3, 11))
    ]
    pd.DataFrame(gains).to_csv(home / LATE_GAINS, index=False)
    return home


def ends(axes: Axes) -> dict[str, float]:
    """The last value of every labelled curve."""
    handles, labels = axes.get_legend_handles_labels()
    return {
        label: float(np.asarray(handle.get_ydata())[-1])
        for handle, label in zip(handles, labels, strict=True)
        if isinstance(handle, Line2D)
    }


def test_every_claim_has_a_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    if "mlm" not in registry.EXPERIMENTS:
        monkeypatch.setenv(registry.VARIABLE, "mlm")
    assert registry.page_of("mlm") is PAGE
    assert PAGE.figure_of.keys() == verdicts.CLAIMS.keys()
    tables = {REFERENCES, references.PASSED, verdicts.LATE_GAINS, verdicts.HALF_WAY}
    tables |= {student_claims.FINAL, student_claims.FIRST, student_claims.CHOICE}
    assert set(PAGE.data(Path())) == tables | {
        f"teacher/probes/{name}" for name in (TABLE, BY_TOKEN)
    }
    assert set(PAGE.published) > set(PAGE.data(Path()))
    assert (REFERENCES, LATE_GAINS) == (references.REFERENCES, verdicts.LATE_GAINS)


def test_every_distance_is_drawn_once() -> None:
    of_phases, of_neighbours = PAGE.figures["phases"], PAGE.figures["neighbours"]
    assert isinstance(of_phases, Phases) and isinstance(of_neighbours, Neighbours)
    shown = [*of_phases.context.titles, *of_neighbours.titles]
    assert sorted(shown) == sorted(probe.KINDS)


def test_references_are_lines(tmp_path: Path) -> None:
    _, (axes,) = style.figure(1)
    axes.set_ylim(2, 8)
    draw_references(axes, tmp_path)
    assert not axes.lines
    pd.DataFrame(
        [
            {"reference": "unigram", "n": None, "loss": 6.2},
            {"reference": "bag", "n": None, "loss": 5.6},
            {"reference": "window", "n": 3, "loss": 4.4},
            {"reference": "window", "n": 11, "loss": 3.9},
        ]
    ).to_csv(tmp_path / REFERENCES, index=False)
    draw_references(axes, tmp_path)
    found = ends(axes)
    assert found == {"frequencies of words": 6.2, "bag of words": 5.6, "window of n tokens": 4.4}
    heights = [np.asarray(line.get_ydata())[0] for line in axes.lines]
    assert heights == [6.2, 5.6, 4.4, 3.9]
    places = {text.get_text(): text.xy[1] for text in axes.texts}  # type: ignore[attr-defined]
    assert places == pytest.approx({"n=3": 4.4, "n=11": 3.9})


def test_the_phases_of_text(
    home: Path, drawn: list[Figure], monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = pd.DataFrame(
        [
            {"step": step, "lane": lane, "eval_loss": 7 - step / 200}
            for step in STEPS
            for lane in range(3)
        ]
    )
    monkeypatch.setattr(loaders, "metrics", lambda _: losses)
    monkeypatch.setattr(loaders, "config_of", lambda _: {"data": {"corpus": "corpora/mine"}})
    figure = PAGE.figures["phases"]
    figure.draw(home, home)
    loss, masked, visible, published, of_norms = drawn[0].axes
    assert loss.get_title() == "Loss (mine)" and ends(loss) == {"teacher, each seed": 5.0}
    last = {"2 tokens": 0.06, "3 tokens": 0.07, "11 tokens": 0.15}
    assert ends(masked) == pytest.approx(last)
    assert ends(visible) == pytest.approx({n: value + 0.2 for n, value in last.items()})
    for axes in (masked, visible):
        assert axes.get_ylim()[1] == pytest.approx(1.4 * max(ends(axes).values()))
    # Losses and distances on an axis of their own each, under one legend.
    assert np.asarray(published.lines[0].get_ydata()).tolist() == [6.7, 6.4, 4.3, 2.9, 2.1]
    halved = np.asarray(of_norms.lines[0].get_ydata())
    assert halved == pytest.approx([0.0015, 0.135, 0.0065, 0.00125])
    assert "50k" in [label.get_text() for label in published.get_xticklabels()]
    legend = published.get_legend()
    assert legend is not None and len(legend.get_texts()) == 3
    caption = figure.caption(home)
    assert "validation documents" in caption and "masked in all that is compared" in caption
    assert "bag of words" not in caption
    (home / REFERENCES).write_text("reference,n,loss\n")
    assert "bag of words" in figure.caption(home)


def test_neighbours(home: Path, drawn: list[Figure]) -> None:
    figure = PAGE.figures["neighbours"]
    figure.draw(home, home)
    masked, visible, gains = drawn[0].axes
    assert ends(masked)["11 tokens"] == pytest.approx(0.15 + 0.1)
    assert ends(visible)["11 tokens"] == pytest.approx(0.15 + 0.3)
    *teachers, mean = [np.asarray(line.get_ydata()) for line in gains.lines[:4]]
    assert [line[0] for line in teachers] == pytest.approx([0.07, 0.08, 0.09])
    assert mean == pytest.approx([0.08, 0.18, 0.28])
    assert [label.get_text() for label in gains.get_xticklabels()] == ["2", "3", "11"]
    assert "the mean with its 95% interval" in figure.caption(home)
    few = pd.read_csv(home / LATE_GAINS).query("seed == 7")
    few.to_csv(home / LATE_GAINS, index=False)
    assert "interval" not in figure.caption(home)
    few.iloc[:0].to_csv(home / LATE_GAINS, index=False)
    figure.draw(home, home)
    assert not drawn[1].axes[2].lines
    assert "No teacher has a drop" in figure.caption(home)


def test_kinds_of_tokens(home: Path, drawn: list[Figure]) -> None:
    figure = PAGE.figures["token_kinds"]
    assert isinstance(figure, TokenKinds) and figure.words is WORDS
    figure.draw(home, home)
    masked, visible = drawn[0].axes
    words = list(WORDS.values())
    for axes in (masked, visible):
        assert list(ends(axes)) == words
        assert list(ends(axes).values()) == pytest.approx([0.04, 0.14, 0.24, 0.34])
    assert "(1,000 function words, 1,001 content words, 1,002 first" in figure.caption(home)
    path = home / "teacher" / "probes" / BY_TOKEN
    pd.read_csv(path).query("tokens != 'function'").to_csv(path, index=False)
    figure.draw(home, home)
    assert list(ends(drawn[1].axes[0])) == words[1:]
    assert "function words," not in figure.caption(home)


def test_the_drop_is_that_of_the_preset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A drop of 14% is one of text, not one of grammars."""
    steps = [0, *range(25, 1201, 25)]
    known = {25: 6.15, 100: 5.75, 300: 5.61, 600: 5.42, 700: 5.12, 850: 4.67, 1200: 4.51}
    losses = np.interp(np.log(np.maximum(steps, 25)), np.log(list(known)), list(known.values()))
    table = pd.DataFrame({"step": steps, "lane": 0, "eval_loss": losses})
    monkeypatch.setattr(loaders, "metrics", lambda _: table)
    for detector, num_shades in ((detector_of(tmp_path / "laptop"), 1), (PhaseConfig(), 0)):
        _, (axes,) = style.figure(1)
        shade_drop(axes, tmp_path, detector)
        assert len(axes.patches) == num_shades
