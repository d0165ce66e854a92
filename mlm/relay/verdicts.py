"""The claims on the relay by size: arms of the last link, compared by what its seeds answer to
every held-out sentence. Reads the tables of answers; loads no model.
"""

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from common.base.errors import RunError
from common.base.reading import read_object
from common.experiment.spec import Judgement
from common.judge.stats import Estimate, crossed_difference, proportion
from common.judge.verdict import Claim, Measurement, Verdict
from common.runs.directory import MANIFEST
from common.runs.probing import FOLDER
from mlm.relay.plan import last_link, upper_runs
from mlm.relay.presets import ARMS, SMALL, Experiment
from mlm.relay.probe import NAME as ANSWERS
from mlm.relay.probe import PROBE, answers_of, right_answers

SIZES = "sizes.csv"
MODULE = "python -m mlm.relay.distill"
CONTRASTS = {
    "R1": ("labels", "relay"),
    "R2": ("one-hop", "relay"),
    "R3": ("random", "relay"),
    "R4": ("relay", "half"),
    "R5": ("unaligned", "relay"),
}
"""What each claim compares: the second arm is to be better."""
CRITERION = (
    "Accuracy of the last link on the sentences of `evaluation`, {better} less {worse}, paired over"
    " seeds and sentences: better (the claim holds) if the whole 95% interval of a bootstrap over"
    " both (`common.judge.stats.crossed_difference`) lies above zero and the difference does so"
    " under each middle link, worse (it does not) if both lie below, undecided otherwise. It is a"
    " claim about these encoders and these links above the last. Rates of every link and arm are"
    " chosen on other seeds and other sentences (`validation`), those of arms under the first"
    " middle link; all arms have the same updates."
)
TITLES = {
    "R1": "A relay brings the last link further than labels",
    "R2": "A relay brings the last link further than one hop from the largest",
    "R3": "A relay to a trained encoder comes further than one to random weights",
    "R4": "The middle link at half of its gain teaches better than at its end",
    "R5": "A middle link that has learnt the task teaches better than one whose head alone has",
}
CLAIMS = {
    name: Claim(TITLES[name], CRITERION.format(better=better, worse=worse))
    for name, (worse, better) in CONTRASTS.items()
}


def judge(home: Path, experiment: Experiment) -> Judgement:
    """All claims on the runs of an experiment."""
    answered = {arm: answers_of_arm(home, experiment, arm, "evaluation") for arm in ARMS}
    sizes = sizes_table(home, experiment)
    notes = []
    if experiment.student.data.test is not None:
        of_test = answers_of_arm(home, experiment, "relay", "test")
        notes.append(note_of_test(sizes, of_test.right_SxN.shape[1]))
    verdicts = []
    for claim, (worse, better) in CONTRASTS.items():
        found = verdict_of(
            claim, answered[worse], answered[better], experiment.num_mids, refusal(experiment)
        )
        if claim == "R4":
            found = with_halves(found, home, experiment)
        verdicts.append(replace(found, notes=(*found.notes, *notes)))
    return Judgement(verdicts, {SIZES: sizes})


def refusal(experiment: Experiment) -> str | None:
    """Why nothing is judged; None if it is."""
    if experiment.tuning is not None:
        return None
    return "measured, not judged: all arms run at one rate, which was not chosen for any of them"


class Answered(NamedTuple):
    """What the seeds of an arm answer, S of them to N sentences."""

    seed_S: list[str]
    label_N: np.ndarray
    right_SxN: np.ndarray


def runs_of(experiment: Experiment, arm: str) -> list[str]:
    """The runs of an arm of the last link, in the order of their seeds."""
    return [last_link(arm, number) for number in range(experiment.num_teachers(arm))]


def answers_of_arm(home: Path, experiment: Experiment, arm: str, split: str) -> Answered:
    """What the seeds of an arm answer to the sentences of a split, those under the first middle
    link first."""
    seed_S, rows, label_N = [], [], np.zeros(0)
    for run in runs_of(experiment, arm):
        table = answers_of(home / run)
        table = table[table["split"] == split]
        for seed, right_N in right_answers(table).items():
            seed_S.append(seed)
            rows.append(right_N)
        label_N = np.asarray(table["label"])
    return Answered(seed_S, label_N, np.stack(rows).astype(np.float64))


def verdict_of(
    claim: str, worse: Answered, better: Answered, num_mids: int, refused: str | None
) -> Verdict:
    """Whether one arm is better than another.

    Args:
        claim: its name.
        worse: what the one answers.
        better: what the other does.
        num_mids: middle links, under each of which as many seeds are, in order.
        refused: why nothing is judged; None: it is.

    Raises:
        RunError: the two are not of the same seeds and sentences.
    """
    is_paired = worse.seed_S == better.seed_S and np.array_equal(worse.label_N, better.label_N)
    if not is_paired:
        raise RunError(f"{claim}: the arms {CONTRASTS[claim]} are of other seeds or sentences")
    found = crossed_difference(worse.right_SxN, better.right_SxN)
    difference_S = (better.right_SxN - worse.right_SxN).mean(axis=1)
    under_mids = [float(part.mean()) for part in np.split(difference_S, num_mids)]
    names = CONTRASTS[claim]
    measurements = [
        Measurement(f"accuracy, {names[1]} less {names[0]}", found),
        Measurement(f"accuracy, {names[1]}", over_seeds(better.right_SxN)),
        Measurement(f"accuracy, {names[0]}", over_seeds(worse.right_SxN)),
    ]
    told = ", ".join(f"{value:+.4f}" for value in under_mids)
    notes = (f"under each middle link: {told}",)
    if refused is not None:
        return Verdict(claim, None, tuple(measurements), (refused, *notes))
    if found.low > 0 and min(under_mids) > 0:
        return Verdict(claim, True, tuple(measurements), notes)
    if found.high < 0 and max(under_mids) < 0:
        return Verdict(claim, False, tuple(measurements), notes)
    return Verdict(claim, None, tuple(measurements), notes, undecided=True)


def with_halves(verdict: Verdict, home: Path, experiment: Experiment) -> Verdict:
    """R4 with the steps that were taught from; not judged where a middle link has no half."""
    found = []
    for run in runs_of(experiment, "half"):
        found += read_object(home / run / MANIFEST, ("transitions",), MODULE)["transitions"]
    reasons = [transition["reason"] for transition in found if "reason" in transition]
    if reasons:
        why = f"not judged: a middle link has no half of a gain ({reasons[0]})"
        return Verdict(verdict.claim, None, verdict.measurements, (why, *verdict.notes))
    steps = sorted({transition["chosen"] for transition in found})
    note = f"half of the gain: steps {', '.join(map(str, steps))} of the middle links"
    return replace(verdict, notes=(*verdict.notes, note))


def over_seeds(right_SxN: np.ndarray) -> Estimate:
    """The accuracy, with the interval over seeds and sentences."""
    return crossed_difference(np.zeros_like(right_SxN), right_SxN)


def sizes_table(home: Path, experiment: Experiment) -> pd.DataFrame:
    """Every link and seed: link, arm, parameters, seed, and its accuracy on each split."""
    runs = [(link, "", run) for run, link in upper_runs(experiment).items()]
    runs += [(SMALL, arm, run) for arm in ARMS for run in runs_of(experiment, arm)]
    rows = []
    for link, arm, run in runs:
        path = home / run / FOLDER / f"{ANSWERS}.json"
        found = read_object(path, ("accuracy", "parameters"), f"python -m {PROBE.module}")
        for seed in found["accuracy"]["evaluation"]:
            accuracy = {split: of_seeds[seed] for split, of_seeds in found["accuracy"].items()}
            which = {"link": link, "arm": arm, "parameters": found["parameters"]}
            rows.append(which | {"seed": int(seed.removeprefix("seed_"))} | accuracy)
    return pd.DataFrame(rows)


def note_of_test(sizes: pd.DataFrame, num_sentences: int) -> str:
    """What the test sentences say, and what one seed could have told by them."""
    of_arm = sizes[sizes["link"] == SMALL].groupby("arm", sort=False)["test"]
    means = ", ".join(f"{arm} {mean:.4f}" for arm, mean in of_arm.mean().items())
    of_one_seed = []
    for arm in ("relay", "labels"):
        of_first = of_arm.first()[arm]
        found = proportion(round(of_first * num_sentences), num_sentences)
        of_one_seed.append(f"{arm} {found.value:.4f} [{found.low:.4f}, {found.high:.4f}]")
    return (
        f"on {num_sentences} test sentences, means over seeds: {means}; the first seed alone, with"
        f" its binomial intervals: {', '.join(of_one_seed)}"
    )
