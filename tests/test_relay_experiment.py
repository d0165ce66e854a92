"""The relay by size as an experiment: its plan, its claims, its figure."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from common.base.config import Runtime
from common.base.errors import UserError
from common.experiment.plan import plan, run_stages
from common.experiment.stages import DataStage, JudgementStage, RunStage
from common.runs.directory import RunDirectory
from common.runs.files import write_json
from figures import loaders
from mlm.data import TextConfig
from mlm.prepare.__main__ import main as prepare
from mlm.relay import experiment
from mlm.relay.data import SentenceConfig
from mlm.relay.page import PAGE
from mlm.relay.presets import ARMS, PRESETS, Experiment, Link
from mlm.relay.spec import SPEC
from mlm.relay.verdicts import CLAIMS, SIZES, judge, runs_of
from tests.made_up_text import documents, write_jsonl
from tests.test_relay import TEXTS, write_sentences

QUICK = PRESETS["quick"].config


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Experiment]:
    """An experiment of a few steps and two middle links, run; and its folder."""
    home = tmp_path_factory.mktemp("home")
    texts = write_jsonl(home / "texts.jsonl", TEXTS)
    small = ("--vocabulary-size", "200", "--workers", "1")
    prepare([str(texts), *small, "--out", str(home / "corpus")])
    write_sentences(home / "rated.tsv", ("good", "bad"))
    held_out = documents(20, seed=1, words=8)
    lines = [f"{('good', 'bad')[i % 2]}\t{text}" for i, text in enumerate(held_out)]
    (home / "dev.tsv").write_text("label\tsentence\n" + "\n".join(lines) + "\n")
    experiment = tiny_experiment(home)
    stages = plan(SPEC, experiment, home / "runs" / "mlm.relay" / "quick")
    run_stages(stages, Runtime())
    return home / "runs" / "mlm.relay" / "quick", experiment


def tiny_experiment(home: Path) -> Experiment:
    data = SentenceConfig(
        str(home / "corpus"), str(home / "rated.tsv"), test=str(home / "dev.tsv"), length=40
    )
    size = {"head_size": 4, "layers": 1, "positions": 40}
    budget = replace(QUICK.student.training, steps=10, batch_size=8, eval_every=2, eval_examples=24)
    budget = replace(budget, checkpoint_every=2)
    assert QUICK.encoder is not None
    encoder = replace(
        QUICK.encoder,
        data=TextConfig(home / "corpus", length=12),
        model=replace(QUICK.encoder.model, **size),
        training=replace(QUICK.encoder.training, steps=2, batch_size=2, eval_examples=8),
    )
    return replace(
        QUICK,
        encoder=encoder,
        teacher=replace(
            QUICK.teacher,
            data=data,
            model=replace(QUICK.teacher.model, **size),
            training=replace(budget, seed=7, num_seeds=1),
        ),
        upper=Link(replace(QUICK.mid.model, **size)),
        mid=Link(replace(QUICK.mid.model, **size)),
        num_mids=2,
        student=replace(
            QUICK.student,
            data=data,
            model=replace(QUICK.student.model, **size),
            training=replace(budget, num_seeds=4),
            supervision=replace(QUICK.student.supervision, first_steps=10),
        ),
        sources=None,
    )


def test_every_last_link_is_paired_with_a_middle_one(tiny: tuple[Path, Experiment]) -> None:
    home, experiment = tiny
    relay = [RunDirectory(home / run) for run in runs_of(experiment, "relay")]
    assert [run.manifest["seeds"] for run in relay] == [[1220, 1221], [1222, 1223]]
    assert [run.record["config"]["teacher_seed"] for run in relay] == [9, 10]
    stages = plan(SPEC, experiment, home)
    assert all(stage.is_done() for stage in stages if not isinstance(stage, JudgementStage))
    assert not any(stage.why_stale() for stage in stages if not isinstance(stage, DataStage))
    (hop,) = (RunDirectory(home / run) for run in runs_of(experiment, "one-hop"))
    assert hop.manifest["seeds"] == [1220, 1221, 1222, 1223]
    assert len(hop.record["chain"]) == 1 and len(relay[0].record["chain"]) == 3
    assert RunDirectory(home / "small/random/0").record["start"] is None
    assert hop.record["start"] is not None


def test_sizes_and_verdicts_are_of_these_runs(tiny: tuple[Path, Experiment]) -> None:
    home, _ = tiny
    sizes = pd.read_csv(home / SIZES)
    last = sizes[sizes.link == "small"]
    assert last.groupby("arm").seed.nunique().to_dict() == dict.fromkeys(ARMS, 4)
    assert last.parameters.nunique() == 1
    assert last.parameters.iloc[0] < sizes[sizes.link == "large"].parameters.iloc[0]
    claims = loaders.claims(home)
    assert [claim["claim"] for claim in claims] == list(CLAIMS)
    assert all(claim["holds"] is None for claim in claims)
    assert "not judged: all arms run at one rate" in claims[0]["notes"][0]
    assert "on 20 test sentences, means over seeds: labels 0." in claims[0]["notes"][2]
    assert claims[0]["notes"][1].startswith("under each middle link: ")
    accuracy = last[last.arm == "relay"].evaluation.mean()
    assert claims[0]["measured"][1]["value"] == pytest.approx(accuracy)


def test_the_figure_is_drawn(tiny: tuple[Path, Experiment], tmp_path: Path) -> None:
    figure = PAGE.figures["relay"]
    assert figure.draw(tiny[0], tmp_path).exists()
    assert "(4 seeds, each a point)" in figure.caption(tiny[0])


def made_up(
    home: Path, experiment: Experiment, shares: Mapping[str, float], *, has_halves: bool = True
) -> None:
    """Answers that are right in these shares of 2,000 sentences, for every run."""
    rng = np.random.default_rng(0)
    label_N = rng.integers(0, 2, 2000)
    runs = [(arm, run) for arm in ARMS for run in runs_of(experiment, arm)]
    for arm, run in [*runs, ("", "teacher"), ("", "mid"), ("", "mid-unaligned")]:
        each = 8 // experiment.num_teachers(arm) if arm else 1
        first = each * int(run[-1]) if arm else 0
        columns = {"split": "evaluation", "sentence": range(2000), "label": label_N}
        for seed in range(first, first + each):
            is_right_N = rng.random(2000) < shares.get(arm, 0.7)
            columns[f"seed_{seed}"] = np.where(is_right_N, label_N, 1 - label_N)
        folder = home / run / "probes"
        folder.mkdir(parents=True)
        pd.DataFrame(columns).to_csv(folder / "answers.csv", index=False)
        if arm == "half":
            found = {"chosen": 40} if has_halves else {"reason": "too little"}
            (home / run / "config.json").write_text("{}")
            write_json(home / run / "manifest.json", {"transitions": [found] * each})
        accuracy = {"evaluation": {f"seed_{seed}": 0.7 for seed in range(each)}}
        write_json(folder / "answers.json", {"accuracy": accuracy, "parameters": 10})


def test_claims_are_what_the_answers_say(tmp_path: Path) -> None:
    """Better, worse, and neither."""
    experiment = without_test(PRESETS["laptop"].config)
    made_up(tmp_path, experiment, {"labels": 0.6, "half": 0.65, "random": 0.6, "unaligned": 0.8})
    judged = {verdict.claim: verdict for verdict in judge(tmp_path, experiment).verdicts}
    assert [judged[claim].holds for claim in CLAIMS] == [True, None, True, False, False]
    assert judged["R2"].undecided
    difference = judged["R1"].measurements[0].estimate
    assert 0.05 < difference.low < difference.value < difference.high < 0.15
    assert "half of the gain: steps 40" in judged["R4"].notes[-1]


def test_a_middle_link_without_a_half_is_no_test_of_it(tmp_path: Path) -> None:
    experiment = without_test(PRESETS["laptop"].config)
    made_up(tmp_path, experiment, {"half": 0.6}, has_halves=False)
    judged = {verdict.claim: verdict for verdict in judge(tmp_path, experiment).verdicts}
    assert judged["R4"].holds is None and not judged["R4"].undecided
    assert "a middle link has no half of a gain (too little)" in judged["R4"].notes[0]


def without_test(experiment: Experiment) -> Experiment:
    """Whose students are asked the sentences of `evaluation` alone."""
    student = experiment.student
    return replace(experiment, student=replace(student, data=replace(student.data, test=None)))


def test_what_is_missing_is_told_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Callable[..., str]
) -> None:
    monkeypatch.chdir(tmp_path)
    laptop = ("--preset", "laptop")
    assert "corpora/sst2/train.tsv does not exist" in refused(experiment.main, *laptop)
    (tmp_path / "corpora" / "sst2").mkdir(parents=True)
    write_sentences(tmp_path / "corpora" / "sst2" / "train.tsv", ("good", "bad"))
    assert "corpora/sst2/dev.tsv does not exist" in refused(experiment.main, *laptop)
    held_out = documents(20, seed=1, words=8)
    lines = "".join(f"bad\t{text}\n" for text in held_out)
    (tmp_path / "corpora" / "sst2" / "dev.tsv").write_text(f"label\tsentence\n{lines}")
    assert "corpora/relay is no folder of a prepared corpus" in refused(experiment.main, *laptop)
    assert not (tmp_path / "runs").exists()


def test_encoders_of_others_are_named_for_every_link(tmp_path: Path) -> None:
    paper = PRESETS["paper"].config
    assert list(paper.links) == ["large", "upper", "mid", "small"]
    with pytest.raises(ValueError, match=r"every link needs a start\.model"):
        replace(paper, mid=Link(paper.mid.model))
    stages = {stage.name: stage for stage in plan(SPEC, paper, tmp_path)}
    starts = {
        name: stage.config.start.model
        for name, stage in stages.items()
        if isinstance(stage, RunStage) and not name.startswith("tune/")
    }
    names = {"teacher": "large", "upper": "upper", "mid": "mid", "mid-unaligned": "mid"}
    for run, link in names.items():
        assert starts[run] == paper.links[link].start.model
    assert starts["small/relay/1"] == "hub:NeuML/bert-hash-femto"
    assert starts["small/random/1"] is None


def test_middle_links_share_the_seeds_equally() -> None:
    with pytest.raises(ValueError, match="num_mids = 3 cannot share 2 seeds"):
        replace(QUICK, num_mids=3)


def test_everything_is_tuned_where_there_are_sweeps(tmp_path: Path) -> None:
    """Links above the last, too; and an encoder of other settings is refused."""
    experiment = PRESETS["laptop"].config
    names = [stage.name for stage in plan(SPEC, experiment, tmp_path)]
    swept = {name.removeprefix("tune/") for name in names if name.startswith("tune/")}
    assert swept == {"teacher", "mid", "mid-unaligned", *ARMS}
    folder = tmp_path / "encoder" / "large"
    folder.mkdir(parents=True)
    (folder / "DONE").touch()
    write_json(
        folder / "config.json", {"experiment": "mlm", "stage": "train", "config": {}, "paths": {}}
    )
    write_json(folder / "manifest.json", {})
    with pytest.raises(UserError, match="was trained with other settings than its experiment"):
        plan(SPEC, experiment, tmp_path)
