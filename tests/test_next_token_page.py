"""The page of next-token prediction: what its figures draw of made-up tables, and what they say."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.patches import Rectangle

from common.sequence.student_claims import CHOICE
from figures import registry, style
from figures.ancestors import draw_students
from figures.contexts import CAUSAL
from figures.phases import PLATEAUS, JudgedOptimum, judged_of
from figures.students import Students, draw_arms, draw_ceiling, draw_firsts
from pcfg.next_token.page import PAGE, ceilings
from pcfg.next_token.presets import ARMS


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    plt.close("all")


def test_every_claim_has_a_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    if "pcfg.next_token" not in registry.EXPERIMENTS:
        monkeypatch.setenv(registry.VARIABLE, "pcfg.next_token")
    assert registry.page_of("pcfg.next_token") is PAGE
    assert set(PAGE.published) >= set(PAGE.data(Path()))


def test_every_arm_has_a_look_of_its_own() -> None:
    looks = [(style.STRATEGY[arm], style.LINE[arm]) for arm in ARMS]
    assert len(set(looks)) == len(ARMS)
    assert all((style.HATCH[arm] == "") is (style.LINE[arm] == "-") for arm in ARMS)
    assert len({style.LABEL[arm] for arm in ARMS}) == len(ARMS)


def test_ceilings_of_every_level(tmp_path: Path) -> None:
    probes = tmp_path / "teacher" / "probes"
    probes.mkdir(parents=True)
    scores = {"accuracy": 0.9, "accuracy_error": 0.01, "cross_entropy": 0.2}
    scores |= {"cross_entropy_error": 0.02, "num_positions": 100, "accuracy_here": 0.91}
    levels = {"4": scores, "5": scores | {"accuracy": 0.8}}
    (probes / "ceiling.json").write_text(json.dumps({"levels": levels}))
    table = ceilings(tmp_path)
    assert table.level.tolist() == ["4", "5"] and table.accuracy.tolist() == [0.9, 0.8]
    assert "accuracy_here" not in table


def test_the_optimum_that_plateaus_are_judged_by(tmp_path: Path) -> None:
    assert judged_of(tmp_path) is None
    kinds = ("plateaus", "plateaus_with_position")
    table = pd.DataFrame(
        [
            {"plateaus": kind, "n": n, "optimum": 1 - n / 10, "tolerance": 0.02}
            | {"chosen": n == chosen}
            for kind, chosen in zip(kinds, (1, 2), strict=True)
            for n in (0, 1, 2)
        ]
    )
    table.to_csv(tmp_path / PLATEAUS, index=False)
    assert judged_of(tmp_path) == JudgedOptimum(2, 0.8, 0.02)
    table.assign(chosen=False).to_csv(tmp_path / PLATEAUS, index=False)
    assert judged_of(tmp_path) is None


def test_lines_that_lie_close_share_a_label() -> None:
    _, (axes,) = style.figure(1)
    axes.set_ylim(0, 1)
    levels = {"10": 0.36, "1": 0.9, "3": 0.42, "2": 0.6, "5": 0.39}
    style.label_sizes(axes, levels, style.BLUE)
    texts = {text.get_text(): text.xy[1] for text in axes.texts}  # type: ignore[attr-defined]
    assert texts == pytest.approx({"n=1": 0.9, "n=2": 0.6, "n=3-10": 0.39})


FINAL = pd.DataFrame(
    [
        {"run": arm, "strategy": arm, "heads": 2, "seed": seed, "examples": 100}
        | {"accuracy": 0.7 + 0.01 * i + 0.001 * seed}
        for i, arm in enumerate(("teacher", *ARMS))
        for seed in range(3)
    ]
)


def test_the_end_of_every_arm() -> None:
    _, (axes,) = style.figure(1)
    draw_arms(axes, FINAL)
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == [style.LABEL[name] for name in ("teacher", *ARMS)]
    ours = style.STRATEGY["till-saturate"]
    (mean,) = [line for line in axes.lines if line.get_color() == ours and line.get_marker() == "o"]
    place = ["teacher", *ARMS].index("till-saturate")
    assert np.asarray(mean.get_xdata()) == pytest.approx([0.701 + 0.01 * place])


def sweep(best: int) -> pd.DataFrame:
    """Students of three first checkpoints, of which one is best."""
    return pd.DataFrame(
        [
            {"first": "C1" if offset == 0 else f"{offset:+d}", "seed": seed}
            | {"first_step": 400 + offset, "in_drop": offset == 0}
            | {"accuracy": 0.7 + (0.05 if offset == best else 0.0)}
            for offset in (-200, 0, 400)
            for seed in (7, 8, 9)
        ]
    )


def test_a_choice_on_other_seeds_is_drawn_and_spoken_of(tmp_path: Path) -> None:
    _, (alone, chosen) = style.figure(2)
    draw_firsts(alone, sweep(0), None, None)
    draw_firsts(chosen, sweep(0), sweep(400), None)
    (star,) = [line for line in chosen.lines if line.get_marker() == "*"]
    assert (star.get_xdata(), star.get_ydata()) == ([2.0], [0.75])
    assert "*" not in [line.get_marker() for line in alone.lines]
    # A ceiling above the axes is a number; one within them is a line.
    for axes, ceiling, said in ((alone, 0.99, "0.990"), (chosen, 0.75, "best of all models")):
        num_lines = len(axes.lines)
        draw_ceiling(axes, ceiling)
        assert axes.texts[-1].get_text().endswith(said)
        assert len(axes.lines) == num_lines + (ceiling == 0.75)

    FINAL.to_csv(tmp_path / "final_accuracy.csv", index=False)
    swept = tmp_path / "first_checkpoints.csv"
    sweep(0).to_csv(swept, index=False)
    figure = Students(lambda _: "made up", CAUSAL, published=None)
    assert "chosen" not in figure.caption(tmp_path)
    sweep(400).to_csv(tmp_path / CHOICE, index=False)
    caption = figure.caption(tmp_path)
    assert "other seeds, by whom the best (star) was chosen" in caption
    assert "every seed and the mean with its 95% interval" in caption
    assert "paper" not in caption and "best model" not in caption
    sweep(0).assign(in_drop=False).to_csv(swept, index=False)
    assert "no teacher has a transition" in figure.caption(tmp_path)


def test_non_terminals_of_every_arm() -> None:
    rows = [
        {"strategy": arm, "step": step, "seed": seed, "level": level, "chance": 0.4}
        | {"accuracy": 0.5 + 0.01 * i}
        for i, arm in enumerate(ARMS)
        for step in (0, 250)
        for seed in range(3)
        for level in (3, 4, 5)
    ]
    _, (axes,) = style.figure(1)
    draw_students(axes, pd.DataFrame(rows))
    _, labels = axes.get_legend_handles_labels()
    names = ["untrained", *(style.LABEL[arm] for arm in ARMS)]
    assert [label for label in labels if label != "commonest symbol"] == names
    bars = [bar for bar in axes.patches if isinstance(bar, Rectangle)]
    assert max(bar.get_height() for bar in bars) == pytest.approx(0.57)
    edges = [bar.get_x() for bar in bars if bar.get_x() < 3.5]
    assert len(set(edges)) == 1 + len(ARMS) and max(edges) - min(edges) < 0.8
