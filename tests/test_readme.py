"""Every command of the READMEs is run here, or by `.ci/run` (the `make` targets), and every number
is compared with the published results."""

import importlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from common.base.errors import UserError
from common.experiment.plan import plan_preset
from common.experiment.stages import shell
from common.judge.flatness import recent_fall
from common.judge.stats import INTERVALS
from common.judge.verdict import outcome_in_table
from figures import law as figures_law
from figures import loaders, publish, readme, registry, reproduce
from mlm import presets as mlm_presets
from mlm.relay import presets as relay_presets
from parity import presets as parity_presets
from parity.law import LAW_PRESETS
from parity.spec import SPEC as PARITY
from pcfg import presets as pcfg_presets
from pcfg.next_token import presets as next_token_presets
from tests.commands import REPOSITORY, run_module
from tests.corpora import random_documents, write_corpus
from tests.made_up_text import documents

README, RESULTS_README, SPEED_README = PAGES = [
    (REPOSITORY / name).read_text() for name in readme.PAGES
]
RESULTS, SPEED = REPOSITORY / "results", REPOSITORY / "benchmarks" / "results"
MAX_WORDS = 900
"""Of the project's README, as `wc -w` counts them, tables included."""
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README + SPEED_README, re.S | re.M)
SHELL, PYTHON = (
    [text for language, text in BLOCKS if language == wanted] for wanted in ("", "python")
)
COMMANDS = [
    shlex.split(line, comments=True)
    for block in SHELL
    for line in block.splitlines()
    if line.strip()
]
MAKEFILE = (REPOSITORY / "Makefile").read_text()
PROBLEM = (
    *("--data.k", "2", "--training.steps", "256", "--training.eval-every", "16"),
    *("--training.eval-examples", "512"),
)
SENTENCES = (
    *("--model.layers", "1", "--model.heads", "1"),
    *("--training.batch-size", "4", "--training.num-seeds", "1"),
    *("--training.steps", "4", "--training.eval-every", "2", "--training.eval-examples", "8"),
    *("--training.checkpoint-every", "2"),
)
SMALLER = {
    "parity.train": (*PROBLEM, "--training.checkpoint-every", "32"),
    "parity.distill": (*PROBLEM, "--supervision.first-steps", "64"),
    "parity.probe": ("--num-examples", "512"),
    "common.export": ("--step", "256"),
    "pcfg.train": SENTENCES,
    "pcfg.probe": ("--num-sentences", "8"),
    "pcfg.next_token.train": SENTENCES,
    "pcfg.next_token.probe": ("--num-sentences", "16"),
    "mlm.prepare": ("--vocabulary-size", "200", "--workers", "1"),
    "mlm.train": SENTENCES,
    "mlm.distill": SENTENCES,
    "mlm.probe": ("--num-sentences", "16", "--sizes", "2", "3"),
    "mlm.load": ("--eval-examples", "8"),
    "mlm.relay": ("--steps", "2"),
}
"""What is added to commands here, so that they are over in seconds; the last value of a flag
counts."""
LAST_OF_TEXT = ("--step", "4")
"""What is added to the export of a run on text."""


def run(command: list[str], cwd: Path) -> str:
    done = subprocess.run(
        command,
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, f"{shlex.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_the_readme_is_short() -> None:
    assert len(README.split()) < MAX_WORDS


def test_make_targets_are_run_by_ci() -> None:
    targets = {command[1] for command in COMMANDS if command[0] == "make"}
    ci = (REPOSITORY / ".ci" / "run").read_text()
    assert {"figures", "test", "bench"} == targets
    assert "`make beyond`" in README
    for target in targets | {"beyond"}:
        assert re.search(rf"^{target}:", MAKEFILE, re.M)
        # These take minutes and are not tests: programs of `bench` are tried below, `beyond` runs
        # at a tiny size in test_experiment.
        assert target in ("bench", "beyond") or f"make {target}" in ci


@pytest.mark.parametrize("size", ["quick", "laptop", "paper", "transformer-quick"])
@pytest.mark.parametrize("beyond", [False, True])
def test_make_runs_what_a_preset_has(size: str, beyond: bool) -> None:
    """No command names a preset that it would refuse, and none that it would accept is missing."""
    known = {
        "parity.experiment": parity_presets.PRESETS,
        "parity.law": LAW_PRESETS,
        "pcfg.experiment": pcfg_presets.PRESETS,
        "pcfg.next_token.experiment": next_token_presets.PRESETS,
        "mlm.experiment": mlm_presets.PRESETS,
        "mlm.relay.experiment": relay_presets.PRESETS,
    }
    wanted = {
        (
            module,
            "--preset",
            name,
            *(("--beyond",) if beyond and module == "parity.experiment" else ()),
        )
        for module, presets in known.items()
        for name in (size, f"transformer-{size}")
        if name in presets and belongs(module, presets[name].config, beyond)
    }
    parts = list(reproduce.parts_of(size, beyond=beyond))
    assert {command for part in parts for command in part.commands} == wanted
    assert all(registry.spec_of(part.experiment).presets[part.preset] for part in parts)
    target = "beyond" if beyond else "figures"
    (line,) = [
        line
        for line in run(["make", "-n", target, f"PRESET={size}"], REPOSITORY).splitlines()
        if "figures.reproduce" in line
    ]
    assert line.split("figures.reproduce ")[1] == f"--preset {size}{' --beyond' if beyond else ''}"


def belongs(module: str, config: Any, beyond: bool) -> bool:
    """Whether `make figures`, or `make beyond`, is to run a preset of a module."""
    if not beyond:
        return module != "parity.law"
    return module == "parity.law" or (module == "parity.experiment" and config.goes_beyond)


def test_stage_commands_and_the_pytorch_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the order in which the README gives them, as a user would: each may read what an earlier
    one wrote. At a smaller size."""
    stages = [
        command
        for command in COMMANDS
        if command[:2] == ["python", "-m"] and command[2] not in ("figures.make", "benchmarks.gpu")
    ]  # those two are tried in tests of their own
    assert {"parity.train", "parity.distill", "parity.probe", "common.runs", "common.export"} <= {
        command[2] for command in stages
    }
    assert {command[2] for command in stages} >= SMALLER.keys()
    (tmp_path / "my-texts").mkdir()
    for i, text in enumerate(documents(120)):
        (tmp_path / "my-texts" / f"{i}.txt").write_text(text)
    rated = [f"{('good', 'bad')[i % 2]}\t{text}\n" for i, text in enumerate(documents(120))]
    (tmp_path / "my-rated.tsv").write_text("label\tsentence\n" + "".join(rated))
    for command in stages:
        if "--dry-run" in command:  # here, where its costs are made up
            importlib.import_module(command[2]).main([*command[3:], "--root", str(tmp_path)])
            continue
        smaller = SMALLER.get(command[2], ())
        if command[2:4] == ["common.export", "runs/my-text"]:
            smaller = LAST_OF_TEXT
        done = run_module(*command[2:], *smaller, cwd=tmp_path)
        assert done.returncode == 0, f"{shlex.join(command)}\n{done.stdout}\n{done.stderr}"
    assert len(PYTHON) == 1
    assert len([line for line in PYTHON[0].splitlines() if line.strip()]) == 5
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(PYTHON[0], names)
    import torch

    model = names["model"]
    assert isinstance(model, torch.nn.Module)
    assert model(torch.ones(3, 32)).shape == (3, 2)


def test_figures_are_drawn_by_the_command_of_the_readme() -> None:
    (command,) = [
        command for command in COMMANDS if command[:3] == ["python", "-m", "figures.make"]
    ]
    assert command[3:] == ["--preset", "quick"]


def test_snakemake_runs_the_commands_of_the_plan() -> None:
    """With what goes beyond the paper besides."""
    (command,) = [command for command in COMMANDS if command[0] == "snakemake"]
    assert "figures_parity_quick" in command
    flags = ("--dry-run", "--printshellcmds", "--forceall")
    shown = run(
        [sys.executable, "-m", "snakemake", "beyond_parity_quick", *command[1:], *flags], REPOSITORY
    )
    for stage in plan_preset(PARITY, "quick", Path("runs"), beyond=True):
        assert shell(stage).removeprefix("python ") in shown, stage.name


@pytest.mark.parametrize(
    ("command", "peer", "rows"),
    [
        ("parity_mlp --roles student --steps 2 --rounds 1", "PyTorch loop, 1 thread", "steps"),
        ("blocked --widths 8 --tables engines --rounds 1", "PyTorch loop, 1 thread", "steps"),
        ("blocked --widths 8 --d 32 --tables blocks --blocks 32 --rounds 1", "prod", "blocked"),
        (
            "pcfg_bert --scale tiny --seeds 2 --attentions sdpa --threads 1 --steps 1 --rounds 1",
            "Hugging Face, sdpa attention",
            "steps",
        ),
        (
            "pcfg_gpt2 --scale tiny --seeds 2 --attentions eager --threads 1 --steps 1 --rounds 1",
            "Hugging Face, eager attention",
            "steps",
        ),
        ("pcfg_sampler --sentences 64 --batch-size 8 --rounds 1", "plain recursion", None),
        (
            "mlm_bert --corpus small --scale tiny --attentions sdpa --threads 1 --steps 1"
            " --rounds 1",
            "products of matrices alone",
            None,
        ),
    ],
)
def test_benchmarks_run(command: str, peer: str, rows: str | None, tmp_path: Path) -> None:
    """And what those of training steps write has a row for one seed and a row for several."""
    name, *args = command.split()
    assert f"$(BIN)/python -m benchmarks.{name}" in MAKEFILE
    if "--corpus" in args:
        text = random_documents(0, 40, 80)
        write_corpus(tmp_path / "small", {"train": [(1.0, text)], "validation": [(1.0, text)]})
    out = () if rows is None else ("--out", "found.json")
    # Sides are started for one of these; all others would import libraries most of the time.
    forked = () if "blocks" in args else ("tests.forked_sides",)
    done = run_module(*forked, f"benchmarks.{name}", *args, *out, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert peer in done.stdout
    if rows is not None:
        one, many = json.loads((tmp_path / "found.json").read_text())[rows]
        assert one["seeds"] == 1 < many["seeds"]


def test_the_script_for_a_gpu_runs(tmp_path: Path) -> None:
    """Two of its parts, on a CPU, with small models."""
    out = tmp_path / "gpu.json"
    parts = ("batch-one", "batch-one, PyTorch")
    small = ("--scale", "tiny", "--rounds", "1", "--parts", *parts)
    done = run_module("benchmarks.gpu", "--out", out, *small)
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text())["parts"]
    assert found.keys() == set(parts)
    for part in parts:
        sides = [side for side in found[part].values() if isinstance(side, dict)]
        assert sides and all(side["microseconds_per_step"] > 0 for side in sides), found[part]


@pytest.mark.parametrize(
    "folder", sorted(path.parent for path in RESULTS.glob("*/*/claims.json")), ids=str
)
def test_a_published_table_is_what_the_claims_say(folder: Path) -> None:
    """Below it stand the commits that made it and what its intervals are."""
    experiment, preset = folder.parts[-2:]
    table = publish.published_table(folder, experiment, preset)
    assert (folder / publish.TABLE).read_text() == table
    assert json.loads((folder / "provenance.json").read_text())["commits"][0][:7] in table


def test_every_published_folder_is_linked() -> None:
    for folder in RESULTS.glob("*/*/"):
        assert f"({folder.relative_to(RESULTS)}/{publish.TABLE})" in RESULTS_README


def test_no_published_table_is_empty() -> None:
    for path in (*RESULTS.rglob("*.csv"), *SPEED.glob("*.csv")):
        assert len(pd.read_csv(path)) > 0, path


def test_curves_and_levels_are_of_one_run() -> None:
    """No curves of hierarchical parity stand beside a table of its levels of another run."""
    folder = RESULTS / "parity" / "quick"
    noted = json.loads((folder / "provenance.json").read_text()).get("levels", "")
    has_curves = (pd.read_csv(folder / "curves.csv").run == "tree").any()
    assert has_curves != ("later run" in noted)


def test_every_table_is_rendered_from_the_results() -> None:
    for text in PAGES:
        assert readme.render(text, REPOSITORY) == text
        tables = re.findall(r"^\|(?: *:?-+:? *\|)+$", text, re.M)
        assert len(tables) == text.count("<!-- table: "), "a table without a source"
    for name in readme.TABLES:
        assert "".join(PAGES).count(f"<!-- table: {name} -->\n| ") == 1


def test_rendering_changes_what_differs_and_nothing_else(tmp_path: Path) -> None:
    for folder in ("results", "benchmarks/results"):
        shutil.copytree(REPOSITORY / folder, tmp_path / folder)
    for name, text in zip(readme.PAGES, PAGES, strict=True):
        (tmp_path / name).write_text(text)
    wrong = README.replace(": 0.0558 |", ": 0.0559 |")
    wrong_below = RESULTS_README.replace("| 0.591 |", "| 0.592 |")
    assert wrong != README and wrong_below != RESULTS_README
    (tmp_path / "README.md").write_text(wrong)
    (tmp_path / "results" / "README.md").write_text(wrong_below)
    readme.main(["--root", str(tmp_path)])
    assert [(tmp_path / name).read_text() for name in readme.PAGES] == PAGES
    (tmp_path / "README.md").write_text("<!-- table: nonsense -->\n| a |\n")
    with pytest.raises(UserError, match=r"table: nonsense is unknown; there are parity, .*"):
        readme.main(["--root", str(tmp_path)])


def test_a_headline_is_the_first_judged_measurement_without_its_interval() -> None:
    """With its unit, and with the seeds that are censored where there are any."""
    beside = {
        "name": "a time, not judged",
        "text": "3 (5 seeds)",
        "num_seeds": 5,
        "num_censored": 0,
    }
    time = {"name": "t90", "text": "1,024 [96, beyond budget] examples (5 seeds)", "num_seeds": 5}
    ratio = {"name": "a ratio", "text": "undefined (8 seeds, 7 censored)", "num_seeds": 8}
    judged_time, judged_ratio = time | {"num_censored": 0}, ratio | {"num_censored": 7}
    assert readme.headline({"measured": [beside, judged_time, judged_ratio]}) == (
        "t90: 1,024 examples"
    )
    assert readme.headline({"measured": [judged_ratio, judged_time]}) == (
        "a ratio: undefined (7 of 8 seeds censored)"
    )


def test_headlines_are_the_numbers_of_the_claims() -> None:
    """Every claim of every preset that is shown with one, as far as the digits that are printed; of
    others the verdict."""
    for claim in judged("parity", "transformer-quick"):
        link = f"results/parity/transformer-quick/{publish.TABLE}"
        said = f"[{outcome_in_table(claim)}]({link}) |"
        (line,) = re.findall(rf"^\| {claim['claim']}: .*$", README, re.M)
        assert line.endswith(said), line
    for experiment, preset in (("parity", "quick"), ("pcfg", "laptop")):
        for claim in judged(experiment, preset):
            first = loaders.judged(claim)[0]
            link = f"results/{experiment}/{preset}/{publish.TABLE}"
            verdict = outcome_in_table(claim)
            (said,) = re.findall(
                rf"^\| {claim['claim']}: .*\[{re.escape(verdict)}\]\({link}\), "
                rf"{re.escape(first['name'])}: (\S+)",
                README,
                re.M,
            )
            if first["value"] is None:
                assert said in ("undefined", "beyond")
            else:
                assert float(said.replace(",", "")) == pytest.approx(first["value"], rel=0.005)


def of_results() -> Iterator[tuple[str, str]]:
    """Numbers of the published results in sentences: the text, and what must stand in it."""
    levels = pd.read_csv(RESULTS / "parity" / "quick" / "levels.csv")
    middles = levels.groupby("level").middle.median()
    first, second, third = (f"{middle / 1000:.0f}k" for middle in middles)
    yield (
        RESULTS_README,
        (
            f"with transitions at {first}, {second} and {third} examples (medians of"
            f" {levels.seed.nunique()} seeds)"
        ),
    )

    (one_shot,) = [claim for claim in judged("parity", "quick") if claim["claim"] == "O"]
    (soft,) = [item for item in one_shot["measured"] if "soft labels" in item["name"]]
    ratio, low, high = (f"{soft[name]:.2f}" for name in ("value", "low", "high"))
    yield RESULTS_README, f"one-shot takes {ratio} [{low}, {high}] of the examples of labels"

    times = pd.read_csv(RESULTS / "parity" / "paper" / "learning_times.csv")
    teachers = [
        f"{time / 1e6:.1f}M" for time in sorted(times[times.run.str.startswith("teacher")].t90)
    ]
    yield (
        RESULTS_README,
        f"Three teachers learn at {teachers[0]}, {teachers[1]} and {teachers[2]} examples",
    )

    law = json.loads((RESULTS / "law" / "quick" / "fits.json").read_text())["comparisons"]
    at_3, at_4 = (
        figures_law.interval_text(comparison["ce_minus_two_shot"], ".2f") for comparison in law
    )
    yield RESULTS_README, f"by {at_4} here"
    yield RESULTS_README, f"2-shot came out cheaper as well: {at_3}"

    yield RESULTS_README, INTERVALS


def of_earlier_results() -> Iterator[tuple[str, str]]:
    runs = ("8905739", "c8fea5e", "4ced548", "fee209d")
    ratios = [
        earlier("parity/quick", run, "C", "in / off support at the transition").value
        for run in runs
    ]
    areas = [earlier("parity/quick", run, "F", "area under ROC of degree 1").value for run in runs]
    yield (
        RESULTS_README,
        "({:.2f}, {:.2f}, {:.2f} and {:.2f} in over off the support".format(*ratios),
    )
    yield (
        RESULTS_README,
        "degree 1's area under ROC {:.2f}, {:.2f}, {:.2f} and {:.2f}".format(*areas),
    )
    labels = [
        in_thousands(earlier("parity/quick", run, "W", "t90 at width 100"))
        for run in (*runs[:2], runs[3])
    ]
    yield RESULTS_README, "Labels at width 100 needed {}, {} and {} examples".format(*labels)
    ones = [
        in_hundredths(earlier("parity/quick", run, "O", "t90 one-shot / CE")) for run in runs[:3]
    ]
    yield RESULTS_README, "made the ratio {}, {} and {}".format(*ones)
    yield (
        RESULTS_README,
        (
            f"{in_hundredths(earlier('law/quick', '493029a', 'k=4', 'labels less 2-shot'))} for the"
            " same seeds on another processor"
        ),
    )
    follows = earlier("parity/transformer-quick", "667999c", "P", "t90 progressive / its teacher")
    yield (
        RESULTS_README,
        f"(progressive / teacher {in_hundredths(follows)}",
    )
    heads = [
        earlier("parity/transformer-quick", "667999c", "W", f"t90 at {heads} heads").value / 1000
        for heads in (12, 18, 24)
    ]
    yield (
        RESULTS_README,
        "{:.0f}k, {:.0f}k and {:.0f}k examples at 12, 18 and 24 heads".format(*heads),
    )


def of_speed() -> Iterator[tuple[str, str]]:
    measured = json.loads((SPEED / "blocked.json").read_text())["seconds_of_rounds"]
    widest = measured["d=100, width 50000, batch 1, 2 cores"]
    blocked, products = (np.median(widest[side]) for side in ("blocked", "2 products"))
    yield SPEED_README, f"a step costs {blocked / products:.1f} times the two matrix products"
    plain, best = pd.read_csv(SPEED / "ratios.csv").itertuples(index=False)
    yield SPEED_README, f"{plain.low:.0f} to {plain.high:.0f} times as fast as by a plain recursion"
    yield (
        SPEED_README,
        f"{best.low:.0f} to {best.high:.0f} times as fast as by the best recursion of ours",
    )


def of_models_of_others() -> Iterator[tuple[str, str]]:
    """A suite that `transformers` trained and saved."""
    found = json.loads((SPEED / "foreign_suite.json").read_text())
    losses, transition = found["losses"], found["transition"]
    yield SPEED_README, f"save {len(losses)} checkpoints"
    off = max(abs(loss["ours"] - loss["theirs"]) for loss in losses)
    yield SPEED_README, f"to {off:.6f} nats"
    where = f"from step {transition['start']} to {transition['end']}, with C1 at step"
    yield SPEED_README, f"{where} {transition['chosen']}"


def of_costs() -> Iterator[tuple[str, str]]:
    minutes = pd.read_csv(SPEED / "costs.csv").set_index("what").minutes
    whole = f"{minutes['make figures in a fresh clone']:g} minutes on two CPU cores"
    yield README, f"`make figures` takes {whole}"
    notes = {
        f"{experiment}/{name}": preset.note
        for experiment in registry.EXPERIMENTS
        for name, preset in registry.spec_of(experiment).presets.items()
    }
    for name in ("parity/laptop", "parity/transformer-laptop", "pcfg/laptop"):
        yield notes[name], f"{minutes[name]:g} minutes on two"
    assert minutes["parity/paper"] / 60 == 12
    yield notes["parity/paper"], "Some twelve hours on two CPU cores"


def earlier(folder: str, commit: str, claim: str, name: str) -> pd.Series:
    """One measurement of an earlier publication."""
    history = pd.read_csv(RESULTS / "history.csv")
    (row,) = history[
        (history.folder == folder)
        & (history.commit == commit)
        & (history.claim == claim)
        & (history["name"] == name)
    ].index
    return history.loc[row]


def in_thousands(item: pd.Series) -> str:
    return f"{item.value / 1000:.0f}k [{item.low / 1000:.0f}k, {item.high / 1000:.0f}k]"


def in_hundredths(item: pd.Series) -> str:
    return f"{item.value:.2f} [{item.low:.2f}, {item.high:.2f}]"


def judged(experiment: str, preset: str) -> list[dict[str, Any]]:
    return json.loads((RESULTS / experiment / preset / "claims.json").read_text())["claims"]


@pytest.mark.parametrize(
    "sentences", [of_results, of_earlier_results, of_speed, of_costs, of_models_of_others]
)
def test_numbers_in_sentences_come_from_the_results(
    sentences: Callable[[], Iterator[tuple[str, str]]],
) -> None:
    assert [words for text, words in sentences() if words not in " ".join(text.split())] == []


def test_links_exist() -> None:
    """Of the pages, and of the published tables."""
    pages = [REPOSITORY / name for name in readme.PAGES]
    for page in (*pages, *RESULTS.rglob(publish.TABLE)):
        for link in re.findall(r"\]\(([^)]+)\)", page.read_text()):
            assert link.startswith("http") or (page.parent / link).exists(), f"{page}: {link}"


def test_notes_tell_settings_and_not_results() -> None:
    """A note names its command, and the folder of its results where there is one."""
    presets = {
        (experiment, name): preset
        for experiment in registry.EXPERIMENTS
        for name, preset in registry.spec_of(experiment).presets.items()
    } | {("law", name): preset for name, preset in LAW_PRESETS.items()}
    for (experiment, name), preset in presets.items():
        assert f"--preset {name}." in preset.note
        assert not re.search(r"Expect|t90|\bholds?\b|\bfails?\b|d\^\d", preset.note), name
        is_published = (RESULTS / experiment / name).exists()
        assert is_published == (f"Results: results/{experiment}/{name}." in preset.note)


def test_what_is_said_of_runs_on_a_gpu_is_in_their_file() -> None:
    """Times of stages, and how far the losses of references still fell."""
    without_flags, with_flags = json.loads((SPEED / "gpu_experiments.json").read_text())["calls"]
    said = " ".join((SPEED.parent / "README.md").read_text().split())
    teacher = without_flags["stages"]["pcfg.next_token/laptop/teacher"]["seconds"]
    assert f"a teacher of next tokens took {teacher:.0f} s" in said
    for stages, model in ((without_flags["stages"], "after"), (with_flags["stages"], "in")):
        seconds = int(stages["mlm/laptop/teacher"]["seconds"])
        assert f"{model} {seconds} s" in said
    words = " ".join(RESULTS_README.split())
    told = {
        "window-3": (12_000, "windows of 3 tokens still fell by {} at 12,000 steps"),
        "window-5": (8000, "of 5 by {} at 8000"),
        "window-11": (5000, "of 11 by {} at 5000"),
        "bag": (10_000, "bags of words by {} at 10,000"),
    }
    for name, (end, sentence) in told.items():
        curve = with_flags["losses_of_references"][name]
        until = curve["steps"].index(end) + 1
        fell = recent_fall(curve["steps"][:until], curve["eval_loss"][:until])
        assert sentence.format(f"{float(fell):.3f}") in words
