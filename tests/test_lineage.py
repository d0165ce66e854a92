"""What belongs together: a stage is done, to do, or stale with the reason by name; nothing goes on
from what is stale."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from common.base.config import Runtime, as_flags
from common.base.errors import RunError, UserError
from common.experiment.judging import names_of
from common.experiment.plan import Planner, made_by_other_code, print_plan, run_stages, states
from common.experiment.stages import ProbeStage, Stage
from common.runs.directory import RunDirectory
from common.runs.lineage import MADE_FROM, SOURCE, VERSION, contents, why_judgement_is_stale
from common.train.run import TrainingRun
from parity import probe, train
from parity.presets import PRESETS, Experiment
from parity.spec import SPEC

PROBLEM = {
    "data.d": 8,
    "data.k": 2,
    "training.steps": 256,
    "training.batch_size": 16,
    "training.eval_every": 16,
    "training.eval_examples": 512,
    "training.seed": 0,
    "training.num_seeds": 2,
}
TEACHER = {
    **PROBLEM,
    "model.width": 64,
    "training.checkpoint_every": 16,
    "optim.learning_rate": (0.5,),
}
STUDENT = {**PROBLEM, "model.width": 16}
NAMES = ("tune/ce", "teacher", "probe", "student/one-shot")
SUMMARY = f"{probe.PROBE.name}.json"


def planned(
    home: Path,
    rates: tuple[float, ...] = (0.3, 0.5),
    num_examples: int = 512,
    experiment: Experiment = PRESETS["quick"].config,
) -> list[Stage]:
    """A sweep, a teacher, its probe, and a student who is tuned by the one and taught by the
    other."""
    planner = Planner(SPEC, experiment, home)
    sweep = {"schedule": "ce", "training.steps": 128, "optim.learning_rate": rates}
    planner.distill("tune/ce", {**STUDENT, "training.seed": 7, **sweep})
    planner.train("teacher", TEACHER)
    planner.probe("probe", probe.PROBE, "teacher", {"num_examples": num_examples})
    planner.distill("student/one-shot", {**STUDENT, "schedule": "one-shot"}, "teacher", "tune/ce")
    assert tuple(stage.name for stage in planner.stages) == NAMES
    return planner.stages


def found(stages: list[Stage]) -> dict[str, str]:
    """The state of every stage, as the plan shows it."""
    return {
        stage.name: f"{state.word}: {state.reason}" if state.reason else state.word
        for stage, state in zip(stages, states(stages), strict=True)
    }


@pytest.fixture(scope="module")
def finished(tiny_teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("lineage")
    shutil.copytree(tiny_teacher, home / "teacher", ignore=shutil.ignore_patterns("probes"))
    run_stages(planned(home), Runtime())
    return home


@pytest.fixture
def home(finished: Path, tmp_path: Path) -> Path:
    """The finished runs, elsewhere: where they lie is no part of what they are."""
    shutil.copytree(finished, tmp_path / "home")
    return tmp_path / "home"


def change(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def forget(path: Path) -> None:
    """A record as it was before it said what it was made from."""
    record = json.loads(path.read_text())
    del record[MADE_FROM]
    path.write_text(json.dumps(record))


def test_what_is_finished_is_done(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted((path, path.stat().st_mtime_ns) for path in home.rglob("*"))
    assert found(planned(home)) == dict.fromkeys(NAMES, "done")
    run_stages(planned(home), Runtime())
    assert "4 of 4 stages are done" in capsys.readouterr().err
    assert before == sorted((path, path.stat().st_mtime_ns) for path in home.rglob("*"))


def test_every_record_names_what_it_was_made_from(finished: Path) -> None:
    student, rates = RunDirectory(finished / "student" / "one-shot"), (0.3, 0.5)
    sources = student.manifest[MADE_FROM]
    assert sources["teacher"] == {
        "path": str(finished / "teacher"),
        "hash": student.record["teacher_hash"],
    }
    assert sources["tuned_by"]["path"] == str(finished / "tune" / "ce")
    assert [sources["tuned_by"]["learning_rate"]] == student.record["config"]["optim"][
        "learning_rate"
    ]
    assert sources["tuned_by"]["learning_rate"] in rates
    summary = json.loads((finished / "teacher" / "probes" / SUMMARY).read_text())
    assert summary[MADE_FROM]["run"]["hash"] == sources["teacher"]["hash"]


def test_a_teacher_trained_again(home: Path) -> None:
    """The same bits are the same teacher. At another rate, or of other seeds, it is stale, and so
    is the student of the old one; nothing is run."""
    teacher = home / "teacher"
    shutil.rmtree(teacher)
    train.main(["--preset", "quick", "--run-dir", str(teacher), *as_flags(TEACHER)])
    assert found(planned(home)) == dict.fromkeys(NAMES, "done") | {"probe": "to do"}
    for flag, value, name, planned_value in (
        ("--optim.learning-rate", "0.3", "optim.learning_rate", "0.5"),
        ("--training.seed", "5", "training.seed", "0"),
    ):
        shutil.rmtree(teacher)
        train.main(["--run-dir", str(teacher), *as_flags(TEACHER), flag, value])
        with pytest.raises(UserError) as refused:
            run_stages(planned(home), Runtime())
        message = str(refused.value)
        assert "2 of 4 stages are stale" in message
        assert (
            f"  teacher was trained with {name} = {value}, the preset now says {planned_value}\n"
            in message
        )
        assert (
            f"  student/one-shot was taught by another teacher than the one in {teacher} (trained"
            " again since)\n" in message
        )
        assert message.splitlines()[-2:] == [f"  {teacher}", f"  {home / 'student' / 'one-shot'}"]
        assert not (teacher / "probes").exists(), "time was spent on a probe"


def test_a_teacher_that_comes_out_other_stops_the_experiment(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its student is found to be stale only when the teacher is there again: then nothing more is
    run."""
    shutil.rmtree(home / "teacher")
    run = TrainingRun.run

    def other(self: TrainingRun, runtime: Runtime) -> None:
        run(self, runtime)
        change(home / "teacher" / "manifest.json", checkpoints={"0": "other", "256": "bits"})

    monkeypatch.setattr(TrainingRun, "run", other)
    monkeypatch.setattr(ProbeStage, "run", lambda *_: None)
    assert found(planned(home)) == dict.fromkeys(NAMES, "done") | {
        "teacher": "to do",
        "probe": "to do",
    }
    with pytest.raises(UserError, match="student/one-shot was taught by another teacher"):
        run_stages(planned(home), Runtime())


def test_a_sweep_run_again(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(home / "tune" / "ce" / "manifest.json", checkpoints={"0": "other", "128": "bits"})
    reason = (
        f"had its learning rate chosen by another sweep than the one in {home / 'tune' / 'ce'}"
        " (trained again since)"
    )
    assert found(planned(home)) == dict.fromkeys(NAMES, "done") | {
        "student/one-shot": f"stale: {reason}"
    }
    print_plan(planned(home))
    assert "stale: had its" in capsys.readouterr().out


def test_what_was_made_from_a_stale_stage_is_stale(home: Path) -> None:
    states_now = found(planned(home, rates=(0.3, 0.8)))
    assert (
        states_now["tune/ce"]
        == "stale: was trained with optim.learning_rate = 0.3, 0.5, the preset now says 0.3, 0.8"
    )
    assert states_now["student/one-shot"] == "stale: was made from tune/ce, which is stale"
    assert states_now["teacher"] == states_now["probe"] == "done"


def test_an_edited_preset(home: Path) -> None:
    """Of finished runs and of those that have just begun; students who learn from labels do not use
    what was edited."""
    config = PRESETS["quick"].config
    edited = replace(
        config,
        student=replace(
            config.student, supervision=replace(config.student.supervision, interval=256)
        ),
    )
    student = home / "student" / "one-shot"
    for _ in range(2):
        states_now = found(planned(home, experiment=edited))
        assert (
            states_now["student/one-shot"]
            == "stale: was trained with supervision.interval = 512, the preset now says 256"
        )
        assert states_now["teacher"] == states_now["tune/ce"] == "done"
        change(student / "manifest.json", status="started")
        (student / "DONE").unlink(missing_ok=True)


def test_probes_of_another_run_or_with_other_settings(
    home: Path, refused: Callable[..., str]
) -> None:
    assert (
        found(planned(home, num_examples=1024))["probe"]
        == "stale: was made with num_examples = 512, the preset now says 1024"
    )
    change(home / "teacher" / "manifest.json", checkpoints={"0": "other", "256": "bits"})
    reason = f"was made of another run than the one in {home / 'teacher'} (trained again since)"
    assert found(planned(home))["probe"] == f"stale: {reason}"
    assert "holds a probe of another run" in refused(
        probe.main, home / "teacher", "--num-examples", 512
    )


def test_records_of_older_versions_are_compared_as_far_as_they_go(home: Path) -> None:
    student = home / "student" / "one-shot"
    for path in (
        home / "teacher" / "probes" / SUMMARY,
        *(home / name / "manifest.json" for name in NAMES if name != "probe"),
    ):
        if MADE_FROM in json.loads(path.read_text()):
            forget(path)
    assert found(planned(home)) == dict.fromkeys(NAMES, "done")
    record = json.loads((student / "config.json").read_text())
    (chosen,) = record["config"]["optim"]["learning_rate"]
    record["config"]["optim"]["learning_rate"] = [0.4]
    change(student / "config.json", **record)
    reason = (
        f"was trained with optim.learning_rate = 0.4, the sweep in {home / 'tune' / 'ce'} chooses"
        f" {chosen}"
    )
    assert found(planned(home))["student/one-shot"] == f"stale: {reason}"
    record["config"]["optim"]["learning_rate"] = [chosen]
    change(student / "config.json", **record | {"teacher_hash": "another"})
    assert "was taught by another teacher" in found(planned(home))["student/one-shot"]


def test_a_judgement_is_of_the_runs_that_it_names(home: Path) -> None:
    claims, outputs = home / "claims.json", [stage.output for stage in planned(home)]
    claims.write_text(json.dumps({"claims": []}))
    assert "does not say which runs it was made from" in why_judgement_is_stale(claims)
    change(claims, **{MADE_FROM: contents(home, names_of(outputs, home))})
    names = ["tune/ce", "teacher", f"teacher/probes/{SUMMARY}", "student/one-shot"]
    assert list(json.loads(claims.read_text())[MADE_FROM]) == names
    assert why_judgement_is_stale(claims) == why_judgement_is_stale(claims, names) == ""
    assert "other runs than those that are there: tune/ce" in why_judgement_is_stale(
        claims, names[1:]
    )
    shutil.rmtree(home / "teacher")
    assert "are there: teacher, teacher/probes/correlations.json" in why_judgement_is_stale(claims)
    claims.write_text(claims.read_text()[:-5])
    with pytest.raises(RunError, match=r"claims\.json is damaged.*delete it"):
        why_judgement_is_stale(claims)


def test_code_that_declares_another_version_makes_its_results_stale(home: Path) -> None:
    """Of runs, probes and judgements; the reason is named."""
    for name in ("teacher", "student/one-shot"):
        change(home / name / "manifest.json", **{VERSION: "0.1"})
    change(home / "teacher" / "probes" / SUMMARY, **{VERSION: 0})
    states_now = found(planned(home))
    reason = "stale: was made by version {} of its code, now {}"
    assert states_now["tune/ce"] == "done"
    assert states_now["teacher"] == reason.format("0.1", "1.1")
    assert states_now["probe"] == reason.format(0, 1)
    assert states_now["student/one-shot"] == reason.format("0.1", "1.1")
    claims = home / "claims.json"
    claims.write_text(json.dumps({MADE_FROM: {}, VERSION: 1}))
    assert why_judgement_is_stale(claims, (), 1) == ""
    assert why_judgement_is_stale(claims, (), 2) == "was made by version 1 of its code, now 2"


def test_other_code_of_an_experiment_is_told_of(home: Path) -> None:
    """Runs stay what they are, since most changes change none; judgements are made again."""
    stages = planned(home)
    assert made_by_other_code(stages) == ""
    change(home / "student" / "one-shot" / "manifest.json", **{SOURCE: "of yesterday"})
    assert found(stages)["student/one-shot"] == "done"
    note = made_by_other_code(stages)
    assert note.startswith("1 of these runs were made before the code of parity was changed,")
    assert "student/one-shot first" in note and "raise the version" in note
    claims = home / "claims.json"
    claims.write_text(json.dumps({MADE_FROM: {}, VERSION: 1, SOURCE: "of yesterday"}))
    assert why_judgement_is_stale(claims, (), 1) == ""
    assert "before the experiment's code was changed" in why_judgement_is_stale(
        claims, (), 1, "of today"
    )
