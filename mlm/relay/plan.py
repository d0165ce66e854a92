"""The stages of the relay by size.

corpora/sample                            the corpus, where the experiment prepares it itself
runs/mlm.relay/<preset>/encoder/...       an encoder for each link, trained on text
runs/mlm.relay/<preset>/teacher           the largest link, taught by labels
runs/mlm.relay/<preset>/mid               the middle links, taught by it
runs/mlm.relay/<preset>/mid-unaligned     middle links of which the head alone has learnt the task
runs/mlm.relay/<preset>/tune/NAME         the sweep over the rates of a link above, or of an arm of
                                          the last link
runs/mlm.relay/<preset>/small/ARM/N       the last link under the middle link number N, or under
                                          something else
runs/mlm.relay/<preset>/claims.json       the claims, judged
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

from common.base.config import Overrides, as_flags, flatten, to_dict
from common.base.errors import UserError
from common.base.reading import read_object
from common.experiment.plan import Planner
from common.runs.directory import CONFIG
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
    _upper_links(planner, experiment)
    for name, arm in ARMS.items():
        _last_links(planner, experiment, name, arm)


def _upper_links(planner: Planner, experiment: Experiment) -> None:
    """The largest link, taught by labels; by it the middle ones, and those that learn a head
    alone."""
    of_large = _starts(planner, LARGE)
    planner.train(TEACHER, of_large, _tuned_teacher(planner, experiment, of_large))
    seed = experiment.teacher.training.seed
    taught = {**_model(experiment.mid), **_starts(planner, MID), "schedule": "one-shot"}
    taught["teacher_seed"] = seed
    seeds = {"training.seed": seed + 1, "training.num_seeds": experiment.num_mids}
    for name, own in ((MID, {}), (UNALIGNED, {"model.head_only": True})):
        tuned_by = _tuned(planner, experiment, name, {**taught, **own}, TEACHER)
        planner.distill(name, {**taught, **own, **seeds}, TEACHER, tuned_by)
    for name in (TEACHER, MID, UNALIGNED):
        planner.probe(f"answers-{name}", PROBE, name, {})


def _encoder(planner: Planner, experiment: Experiment, link: str, model: ClassifierModel) -> None:
    """A run of `mlm.train` for the encoder of a link, by flags beside its preset `quick`.

    Raises:
        UserError: there is one with other settings.
    """
    folder = planner.home / "encoder" / link
    config = to_dict(replace(experiment.encoder, model=_as_encoder(experiment, model)))
    if (folder / "DONE").exists() and _trained_with(folder) != config:
        raise UserError(
            f"{folder} was trained with other settings than its experiment has now; delete it, or"
            " choose another --root"
        )
    defaults = flatten(to_dict(TEXT_PRESETS["quick"].config.teacher))
    overrides = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in flatten(config).items()
        if value != defaults[name]
    }
    planner.prepare(
        f"encoder/{link}",
        (ENCODER_MODULE, *as_flags(overrides), "--run-dir", str(folder)),
        train_encoder,
        folder / "DONE",
    )


def _trained_with(folder: Path) -> Any:
    return read_object(folder / CONFIG, ("config",), f"python -m {ENCODER_MODULE}")["config"]


def _as_encoder(experiment: Experiment, model: ClassifierModel) -> Any:
    """The model of text with the size of a link."""
    size = {name: getattr(model, name) for name in ("heads", "head_size", "layers", "token_size")}
    return replace(experiment.encoder.model, **size)


def _model(model: ClassifierModel) -> Overrides:
    return {f"model.{name}": value for name, value in to_dict(model).items()}


def _starts(planner: Planner, link: str) -> Overrides:
    return {"start.model": str(planner.home / "encoder" / link)}


def _last_links(planner: Planner, experiment: Experiment, name: str, arm: Arm) -> None:
    """All seeds under one teacher, or so many of them under each middle link."""
    training, num_teachers = experiment.student.training, experiment.num_teachers(name)
    each = training.num_seeds // num_teachers
    first = _arm(planner, experiment, name, arm, 0)
    tuned_by = _tuned(planner, experiment, name, first, arm.teacher)
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


def _tuned(
    planner: Planner, experiment: Experiment, name: str, overrides: Overrides, teacher: str | None
) -> str | None:
    """The sweep over the rates of a link or an arm, under the first of its teachers; None: there
    are no sweeps."""
    if experiment.tuning is None:
        return None
    run = f"tune/{name}"
    planner.distill(run, {**overrides, **_swept(experiment.tuning)}, teacher)
    return run


def _tuned_teacher(planner: Planner, experiment: Experiment, overrides: Overrides) -> str | None:
    """The same of the largest link."""
    if experiment.tuning is None:
        return None
    swept = _swept(experiment.tuning)
    del swept["shared_stream"]
    planner.train(f"tune/{TEACHER}", {**overrides, **swept})
    return f"tune/{TEACHER}"


def _swept(tuning: SweepConfig) -> dict[str, Any]:
    """All rates, on seeds that are used for nothing else and that see the same examples."""
    return {
        "optim.learning_rate": tuning.learning_rate,
        "training.seed": tuning.seed,
        "training.num_seeds": tuning.num_seeds,
        "shared_stream": True,
    }


def last_link(arm: str, number: int) -> str:
    """The run of the last link of an arm under the middle link of this number."""
    return f"{SMALL}/{arm}/{number}"
