"""The stages of the relay by size.

corpora/sample                            the corpus, where the experiment prepares it itself
runs/mlm.relay/<preset>/encoder/...       an encoder for each link, trained on text
runs/mlm.relay/<preset>/teacher           the largest link, taught by labels
runs/mlm.relay/<preset>/mid               the middle links, taught by it
runs/mlm.relay/<preset>/unaligned         middle links of which the head alone has learnt the task
runs/mlm.relay/<preset>/tune/ARM          the sweep over the rates of an arm of the last link
runs/mlm.relay/<preset>/small/ARM/N       the last link under the middle link number N, or under
                                          something else
runs/mlm.relay/<preset>/claims.json       the claims, judged
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from common.base.config import Overrides, as_flags, to_dict
from common.experiment.plan import Planner
from common.runs.tuning import SweepConfig
from mlm.corpus import MANIFEST
from mlm.prepare.__main__ import main as prepare
from mlm.presets import PRESETS as TEXT_PRESETS
from mlm.relay.model import ClassifierModel
from mlm.relay.presets import ARMS, LARGE, MID, SMALL, TEACHER, UNALIGNED, Arm, Experiment
from mlm.relay.probe import PROBE
from mlm.train import main as train_encoder
from mlm.vocabulary import MODULE

ENCODER_MODULE = "mlm.train"


def plan_paper(planner: Planner, experiment: Experiment) -> None:
    """Corpus, encoders, the links from the largest on, and what each answers."""
    corpus = experiment.encoder.data.corpus
    if experiment.sources is not None:
        words = (MODULE, *experiment.sources, "--out", str(corpus))
        planner.prepare("corpus", words, prepare, corpus / MANIFEST)
    for link, model in experiment.links.items():
        _encoder(planner, experiment, link, model)
    planner.train(TEACHER, _starts(planner, LARGE))
    large_seed = experiment.teacher.training.seed
    mids = {**_model(experiment.mid), **_starts(planner, MID)}
    mids |= {"training.seed": large_seed + 1, "training.num_seeds": experiment.num_mids}
    learns = {"schedule": "one-shot", "teacher_seed": large_seed}
    planner.distill(MID, {**mids, **learns}, TEACHER)
    planner.distill(UNALIGNED, {**mids, "schedule": "ce", "model.head_only": True})
    for name in (TEACHER, MID, UNALIGNED):
        planner.probe(f"answers-{name}", PROBE, name, {})
    for name, arm in ARMS.items():
        if experiment.tuning is not None:
            _tune(planner, experiment, experiment.tuning, name, arm)
        _last_links(planner, experiment, name, arm)


def _encoder(planner: Planner, experiment: Experiment, link: str, model: ClassifierModel) -> None:
    """A run of `mlm.train` for the encoder of a link, by flags beside its preset `quick`."""
    config, folder = experiment.encoder, planner.home / "encoder" / link
    values = _flat(to_dict(replace(config, model=_as_encoder(experiment, model))))
    defaults = _flat(to_dict(TEXT_PRESETS["quick"].config.teacher))
    words = as_flags({name: value for name, value in values.items() if value != defaults[name]})
    planner.prepare(
        f"encoder/{link}",
        (ENCODER_MODULE, *words, "--run-dir", str(folder)),
        train_encoder,
        folder / "DONE",
    )


def _as_encoder(experiment: Experiment, model: ClassifierModel) -> Any:
    """The model of text with the size of a link."""
    size = {name: getattr(model, name) for name in ("heads", "head_size", "layers", "token_size")}
    return replace(experiment.encoder.model, **size)


def _flat(values: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Nested values by dotted names."""
    flat = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{before}{name}.")
        else:
            flat[f"{before}{name}"] = tuple(value) if isinstance(value, list) else value
    return flat


def _model(model: ClassifierModel) -> Overrides:
    return {f"model.{name}": value for name, value in to_dict(model).items()}


def _starts(planner: Planner, link: str) -> Overrides:
    return {"start.model": str(planner.home / "encoder" / link)}


def _last_links(planner: Planner, experiment: Experiment, name: str, arm: Arm) -> None:
    """All seeds under one teacher, or so many of them under each middle link."""
    training = experiment.student.training
    num_teachers = experiment.num_mids if arm.teacher in (MID, UNALIGNED) else 1
    each = training.num_seeds // num_teachers
    tuned_by = None if experiment.tuning is None else f"tune/{name}"
    for number in range(num_teachers):
        seeds = {"training.seed": training.seed + number * each, "training.num_seeds": each}
        overrides = {**_arm(planner, experiment, name, arm, number), **seeds}
        run = last_link(name, number)
        planner.distill(run, overrides, arm.teacher, tuned_by)
        planner.probe(f"answers-{name}-{number}", PROBE, run, {})


def _arm(
    planner: Planner, experiment: Experiment, name: str, arm: Arm, number: int
) -> dict[str, Any]:
    """How the last links of an arm differ from the experiment's student."""
    overrides = dict(arm.overrides)
    if name != "random":
        overrides |= _starts(planner, SMALL)
    if arm.teacher == TEACHER:
        overrides["teacher_seed"] = experiment.teacher.training.seed
    elif arm.teacher is not None:
        overrides["teacher_seed"] = experiment.teacher.training.seed + 1 + number
    return overrides


def _tune(
    planner: Planner, experiment: Experiment, tuning: SweepConfig, name: str, arm: Arm
) -> None:
    overrides = {
        **_arm(planner, experiment, name, arm, 0),
        "optim.learning_rate": tuning.learning_rate,
        "training.seed": tuning.seed,
        "training.num_seeds": tuning.num_seeds,
        "shared_stream": True,
    }
    planner.distill(f"tune/{name}", overrides, arm.teacher)


def last_link(arm: str, number: int) -> str:
    """The run of the last link of an arm under the middle link of this number."""
    return f"{SMALL}/{arm}/{number}"
