"""The stages of the relay by size.

corpora/sample                            the corpus, where the experiment prepares it itself
runs/mlm.relay/<preset>/encoder/...       an encoder for each link, trained on text
runs/mlm.relay/<preset>/teacher           the largest link, taught by labels
runs/mlm.relay/<preset>/upper             where the chain has it, a link taught by that
runs/mlm.relay/<preset>/mid               the middle links, taught by the one before
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
from mlm.config import TrainConfig as EncoderConfig
from mlm.corpus import MANIFEST, read_manifest
from mlm.prepare.__main__ import main as prepare
from mlm.presets import PRESETS as TEXT_PRESETS
from mlm.relay.data import read_splits
from mlm.relay.model import ClassifierModel
from mlm.relay.presets import ARMS, LARGE, MID, SMALL, TEACHER, UNALIGNED, UPPER, Arm, Experiment
from mlm.relay.probe import PROBE
from mlm.relay.start import start_of
from mlm.train import main as train_encoder
from mlm.vocabulary import MODULE

ENCODER_MODULE = "mlm.train"


def plan_paper(planner: Planner, experiment: Experiment) -> None:
    """Corpus, encoders, the links from the largest on, and what each answers."""
    if experiment.encoder is not None:
        _encoders(planner, experiment, experiment.encoder)
    _upper_links(planner, experiment)
    for name, arm in ARMS.items():
        _last_links(planner, experiment, name, arm)


def check_sources(experiment: Experiment) -> None:
    """Raise a UserError if sentences, the corpus of encoders or encoders of others cannot be
    had."""
    for data in {experiment.teacher.data, experiment.student.data}:
        read_splits(data)
    if experiment.encoder is None:
        for link in experiment.links.values():
            start_of(link.start)
    elif experiment.sources is None:
        read_manifest(experiment.encoder.data.corpus)


def _upper_links(planner: Planner, experiment: Experiment) -> None:
    """The largest link, taught by labels, and those down to the middle ones, each taught by the one
    before; beside the middle ones those of which the head alone learns."""
    of_large = _starts(planner, experiment, LARGE)
    planner.train(TEACHER, of_large, _tuned_teacher(planner, experiment, of_large))
    above = LARGE
    if experiment.upper is not None:
        _taught_link(planner, experiment, UPPER, UPPER, 1, {}, above)
        above = UPPER
    for name, own in ((MID, {}), (UNALIGNED, {"model.head_only": True})):
        _taught_link(planner, experiment, name, MID, experiment.num_mids, own, above)
    for name in upper_runs(experiment):
        planner.probe(f"answers-{name}", PROBE, name, {})


def upper_runs(experiment: Experiment) -> dict[str, str]:
    """The runs of the links above the last one, and which link each is."""
    upper = {} if experiment.upper is None else {UPPER: UPPER}
    return {TEACHER: LARGE, **upper, MID: MID, UNALIGNED: UNALIGNED}


def _taught_link(
    planner: Planner,
    experiment: Experiment,
    name: str,
    link: str,
    num_seeds: int,
    overrides: Overrides,
    above: str,
) -> None:
    """A link above the last, taught by the first seed of another.

    Args:
        planner: of the stages.
        experiment: whose.
        name: of the run.
        link: which one it is.
        num_seeds: how many of them.
        overrides: how they differ from that link.
        above: the link that teaches.
    """
    teacher, first = TEACHER if above == LARGE else above, experiment.first_seeds
    taught = {**_model(experiment.links[link].model), **_starts(planner, experiment, link)}
    taught |= {"schedule": "one-shot", "teacher_seed": first[above], **overrides}
    tuned_by = _tuned(planner, experiment, name, taught, teacher)
    seeds = {"training.seed": first[link], "training.num_seeds": num_seeds}
    planner.distill(name, {**taught, **seeds}, teacher, tuned_by)


def _encoders(planner: Planner, experiment: Experiment, encoder: EncoderConfig) -> None:
    """The corpus, where the experiment makes it, and the encoder of each link."""
    corpus = encoder.data.corpus
    if experiment.sources is not None:
        words = (MODULE, *experiment.sources, "--out", str(corpus))
        planner.prepare("corpus", words, prepare, corpus / MANIFEST)
    for name, link in experiment.links.items():
        _encoder(planner, encoder, name, link.model)


def _encoder(planner: Planner, encoder: EncoderConfig, link: str, model: ClassifierModel) -> None:
    """A run of `mlm.train` for the encoder of a link, by flags beside its preset `quick`.

    Raises:
        UserError: there is one with other settings.
    """
    folder = planner.home / "encoder" / link
    size = {name: getattr(model, name) for name in ("heads", "head_size", "layers", "token_size")}
    config = to_dict(replace(encoder, model=replace(encoder.model, **size)))
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
        trains=True,
    )


def _trained_with(folder: Path) -> Any:
    return read_object(folder / CONFIG, ("config",), f"python -m {ENCODER_MODULE}")["config"]


def _model(model: ClassifierModel) -> Overrides:
    return {f"model.{name}": value for name, value in to_dict(model).items()}


def _starts(planner: Planner, experiment: Experiment, link: str) -> Overrides:
    """The encoder that a link begins with."""
    if experiment.encoder is None:
        return {"start.model": experiment.links[link].start.model}
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
    starts = {"start.model": None} if name == "random" else _starts(planner, experiment, SMALL)
    overrides = {**arm.overrides, **starts}
    if arm.teacher == TEACHER:
        overrides["teacher_seed"] = experiment.teacher.training.seed
    elif arm.teacher is not None:
        overrides["teacher_seed"] = experiment.first_seeds[MID] + number
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
