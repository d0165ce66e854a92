"""What is known of the published runs: models, optimisers, and where their code deviates."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from common.base.config import last_value
from common.base.errors import UserError
from common.experiment.spec import Flags
from common.nn.gpt2 import GPT2Config
from common.nn.mlp import MLPConfig
from common.train.optim import OptimConfig
from parity.config import ConfigT, ModelConfig, StudentConfig

ModelName = Literal["mlp", "transformer"]
Compat = Literal["none", "authors"]
"""Whose deviations from the paper's text to follow: nobody's, or those of the authors' code where
they change numbers."""
ModelDefaults = Mapping[str, tuple[ModelConfig, OptimConfig]]
"""Of each ModelName."""
TEACHER_DEFAULTS: ModelDefaults = {
    "mlp": (MLPConfig(50_000), OptimConfig((0.005,))),
    "transformer": (
        GPT2Config(heads=32, dropout=0.1),
        OptimConfig((3e-4,), decay="cosine", kind="adam"),
    ),
}
STUDENT_DEFAULTS: ModelDefaults = {
    "mlp": (MLPConfig(100), OptimConfig((0.01,), decay="cosine")),
    "transformer": (
        GPT2Config(heads=4, dropout=0.1),
        OptimConfig((1e-4,), decay="cosine", kind="adam"),
    ),
}
"""Published models with their published optimisers (paper section 3); warm-up counts updates,
`--compat authors` examples."""


@dataclass(frozen=True)
class ParityFlags(Flags):
    """Flags of runs on parity beside those of their configuration."""

    model: ModelName | None = None
    """Instead of the preset's model: sets the defaults of --model.* and --optim.* to the published
    ones."""
    compat: Compat = "none"
    """authors: follow the published code where it deviates (support, evaluation examples, weights
    of reverse KL, length of a cosine decay)."""

    def defaults(self, config: Any, args: Sequence[str]) -> Any:
        """The preset's configuration, or with `--model NAME` of another kind than the preset's that
        model and its optimiser in their place."""
        of_kind = STUDENT_DEFAULTS if isinstance(config, StudentConfig) else TEACHER_DEFAULTS
        name = last_value(args, "--model")
        if name is None or name not in of_kind:
            return config
        model, optim = of_kind[name]
        if isinstance(config.model, type(model)):
            return config
        return replace(config, model=model, optim=optim)

    def applied_to(self, config: Any) -> Any:
        """The configuration, with the published code's deviations where they are asked for."""
        return as_published(config) if self.compat == "authors" else config


def as_published(config: ConfigT) -> ConfigT:
    """The same run with the deviations of the published code that change its numbers.

    The support (unless it is a tree's) is drawn with replacement (utils.py), accuracy is measured
    on 250 examples (boolean_expts.py), reverse KL is weighted by raw logits
    (boolean_distill_expts.py), and a cosine decay is as long as there are examples (see
    `counted_in_examples`). The rest concerns a single update of millions (a warm-up whose first
    update has a rate of zero), or the dropout that stayed on in a Transformer's evaluation and in
    its teacher's answers, which no flag brings back.
    """
    drawn = (
        config.data.support is None and config.data.depth == 1
    )  # the published trees' supports are disjoint, as ours are
    data, training = (
        replace(config.data, with_replacement=drawn),
        replace(config.training, eval_examples=250),
    )
    config = replace(
        config,
        data=data,
        training=training,
        optim=counted_in_examples(config.optim, training.batch_size),
    )
    if not isinstance(config, StudentConfig):
        return config
    direction = "forward" if config.loss.direction == "forward" else "reverse-raw"
    return replace(config, loss=replace(config.loss, direction=direction))


def counted_in_examples(optim: OptimConfig, batch_size: int) -> OptimConfig:
    """The optimiser where a cosine decay is as long as the run has examples, although only
    updates advance it (boolean_expts.py, n_steps).

    With the published batches of 32 the run ends before the warm-up does: the rate rises in a line,
    to 0.52 of its peak if the warm-up is 6%.

    Raises:
        UserError: the run ends within the cosine.
    """
    if optim.decay == "constant" or batch_size == 1:
        return optim
    warmup_of_updates = optim.warmup_fraction * batch_size
    if warmup_of_updates < 1:
        raise UserError(
            f"--compat authors: the published decay, {batch_size} times as long as the run,"
            " would end within its cosine; it is followed only where training.batch_size x"
            " optim.warmup_fraction >= 1, or with --optim.decay constant"
        )
    return replace(
        optim,
        learning_rate=tuple(rate / warmup_of_updates for rate in optim.learning_rate),
        warmup_fraction=1.0,
    )
