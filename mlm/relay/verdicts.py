"""The claims on the relay by size: arms of the last link, compared by what its seeds answer to
every held-out sentence. Reads the tables of answers; loads no model.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from common.base.reading import read_object
from common.experiment.spec import Judgement
from common.judge.stats import Estimate, crossed_difference, proportion
from common.judge.verdict import Claim, Measurement, Verdict
from common.runs.probing import FOLDER
from mlm.relay.plan import last_link
from mlm.relay.presets import ARMS, LARGE, MID, SMALL, TEACHER, UNALIGNED, Experiment
from mlm.relay.probe import NAME as ANSWERS
from mlm.relay.probe import PROBE, answers_of, right_answers

SIZES = "sizes.csv"
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
    " both (`common.judge.stats.crossed_difference`) lies above zero, worse (it does not) if below,"
    " undecided otherwise. Rates are chosen for each arm on seeds of their own; all arms have the"
    " same updates."
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
    right = {arm: right_of(home, experiment, arm, "evaluation") for arm in ARMS}
    verdicts = [
        verdict_of(claim, right[worse], right[better], is_tuned=experiment.tuning is not None)
        for claim, (worse, better) in CONTRASTS.items()
    ]
    sizes = sizes_table(home, experiment)
    if experiment.student.data.test is not None:
        note = note_of_test(sizes, right_of(home, experiment, "relay", "test").shape[1])
        verdicts = [
            Verdict(v.claim, v.holds, v.measurements, (*v.notes, note), v.undecided)
            for v in verdicts
        ]
    return Judgement(verdicts, {SIZES: sizes})


def runs_of(experiment: Experiment, arm: str) -> list[str]:
    """The runs of an arm of the last link, in the order of their seeds."""
    num_teachers = experiment.num_mids if ARMS[arm].teacher in (MID, UNALIGNED) else 1
    return [last_link(arm, number) for number in range(num_teachers)]


def right_of(home: Path, experiment: Experiment, arm: str, split: str) -> np.ndarray:
    """Whether each seed of an arm answers each sentence of a split rightly, `(S, N)`."""
    rows = []
    for run in runs_of(experiment, arm):
        table = answers_of(home / run)
        rows += right_answers(table[table["split"] == split]).values()
    return np.stack(rows).astype(np.float64)


def verdict_of(
    claim: str, worse_SxN: np.ndarray, better_SxN: np.ndarray, *, is_tuned: bool
) -> Verdict:
    """Whether one arm is better than another.

    Args:
        claim: its name.
        worse_SxN: whether each seed of the one answers each sentence rightly.
        better_SxN: the same of the other.
        is_tuned: whether their rates were chosen; nothing is judged otherwise.
    """
    found = crossed_difference(worse_SxN, better_SxN)
    worse, better = CONTRASTS[claim]
    measurements = (
        Measurement(f"accuracy, {better} less {worse}", found),
        *(
            Measurement(f"accuracy, {arm}", over_seeds(right_SxN))
            for arm, right_SxN in ((better, better_SxN), (worse, worse_SxN))
        ),
    )
    if not is_tuned:
        why = "measured, not judged: all arms run at one rate, which was not chosen for any of them"
        return Verdict(claim, None, measurements, (why,))
    if found.low > 0:
        return Verdict(claim, True, measurements)
    if found.high < 0:
        return Verdict(claim, False, measurements)
    return Verdict(claim, None, measurements, undecided=not np.isnan(found.low))


def over_seeds(right_SxN: np.ndarray) -> Estimate:
    """The accuracy, with the interval over seeds and sentences."""
    return crossed_difference(np.zeros_like(right_SxN), right_SxN)


def sizes_table(home: Path, experiment: Experiment) -> pd.DataFrame:
    """Every link and seed: link, arm, parameters, seed, and its accuracy on each split."""
    runs = [(LARGE, "", TEACHER), (MID, "", MID), (UNALIGNED, "", UNALIGNED)]
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
