"""What whoever writes an experiment gets wrong is refused with a sentence, before anything runs."""

from dataclasses import replace
from pathlib import Path

import pytest

from common.base.errors import UserError
from common.experiment import judging
from common.experiment.commands import command
from common.experiment.plan import Planner
from common.experiment.source import source_hash
from common.experiment.spec import Judgement, Part
from common.judge.stats import Estimate
from common.judge.verdict import Measurement, Verdict
from figures import registry
from parity import page as parity_page
from parity.page import PAGE
from parity.probe import PROBE
from parity.spec import SPEC
from tests.tiny_experiment import tiny_experiment


@pytest.fixture
def planner(tmp_path: Path) -> Planner:
    """With one run planned."""
    found = Planner(SPEC, tiny_experiment(), tmp_path)
    found.train("teacher", {})
    return found


def test_a_plan_names_runs_that_it_has(planner: Planner) -> None:
    for role in ("teacher", "tuned_by"):
        with pytest.raises(UserError, match=r"teachers, which is no run .* these are teacher"):
            planner.distill("student", {}, **{role: "teachers"})
    with pytest.raises(UserError, match="gives probe the run student"):
        planner.probe("probe", PROBE, "student", {})
    with pytest.raises(UserError, match="two runs of the name teacher"):
        planner.train("teacher", {})
    assert [stage.name for stage in planner.stages] == ["teacher"]


def test_a_field_that_is_not_there_is_named(planner: Planner) -> None:
    named = r"Config has no field schedul; it has .*schedule"
    with pytest.raises(UserError, match=named):
        planner.distill("student", {"schedul": "one-shot"}, teacher="teacher")
    planner.train("another", {"schedul": "one-shot"})
    with pytest.raises(UserError, match=r"TrainConfig has no field schedul"):
        _ = planner.stages[-1].needs, planner.stages[-1].why_stale()


@pytest.mark.parametrize("schedule", ["progressive", "till-saturate"])
def test_students_ask_for_checkpoints_that_are_planned(planner: Planner, schedule: str) -> None:
    """Of every eighth step."""
    asks = {"schedule": schedule, "supervision.interval": 6, "supervision.speed": 2}
    with pytest.raises(UserError, match="step 12, of which teacher keeps no checkpoint"):
        planner.distill("student", asks, teacher="teacher")
    planner.distill("student", {**asks, "supervision.speed": 4}, teacher="teacher")


def test_a_verdict_is_on_a_claim_of_the_experiment(tmp_path: Path) -> None:
    verdict = Verdict("Z", True, (Measurement("accuracy", Estimate(1.0, 1.0, 1.0, 1)),))
    part = Part("claims.json", lambda *_: None, lambda *_: Judgement([verdict], {}))
    with pytest.raises(UserError, match=r"judges a claim Z, which its SPEC\.claims does not have"):
        judging.judge(SPEC, part, tiny_experiment(), tmp_path, (), None)
    assert not list(tmp_path.iterdir())


def test_every_claim_has_a_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = {**PAGE.figure_of, "C": "spikes"}
    monkeypatch.setattr(parity_page, "PAGE", replace(PAGE, figure_of=shown))
    with pytest.raises(UserError, match="no figure for claim C: figure_of gives spikes"):
        registry.page_of("parity")


def test_an_experiment_has_the_name_of_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    other = replace(SPEC, name="parities")
    with pytest.raises(UserError, match=r"there is no module parities\.train"):
        command(other, "train", "parity.train")(["--help"])
    monkeypatch.setattr("parity.spec.SPEC", other)
    with pytest.raises(UserError, match="SPEC of parity has the name parities"):
        registry.spec_of("parity")


@pytest.mark.parametrize(
    ("name", "missing"),
    [("nobody", "nobody"), ("nobody.inner", "nobody"), ("pcfg.nobody", "pcfg.nobody")],
)
def test_a_package_that_is_not_there_is_named(
    name: str, missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Be it the experiment's own, or one that it lies in."""
    monkeypatch.setenv(registry.VARIABLE, name)
    with pytest.raises(UserError, match=f"{registry.VARIABLE}: there is no package {missing} on"):
        registry.spec_of(name)


def test_the_hash_of_an_experiments_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of its modules but the page, which only draws; of one that is a package within another,
    all of that one's, of which it is made too."""
    package = tmp_path / "mine_and_nobodys"
    (package / "inner").mkdir(parents=True)
    for name in ("__init__.py", "spec.py", "page.py", "inner/task.py", "inner/page.py"):
        (package / name).write_text("")
    monkeypatch.syspath_prepend(tmp_path)

    def now() -> str:
        source_hash.cache_clear()
        assert source_hash(package.name) == source_hash(f"{package.name}.inner")
        return source_hash(package.name)

    before = now()
    (package / "page.py").write_text("CAPTION = 1\n")
    (package / "inner" / "page.py").write_text("CAPTION = 1\n")
    (package / "notes.txt").write_text("mine")
    assert now() == before
    (package / "inner" / "task.py").write_text("K = 3\n")
    assert now() != before
