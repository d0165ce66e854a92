"""Tells while a run trains where its loss drops.

The detector of three phases (common/judge/phases.py) needs the whole curve. A ring of checkpoints
needs the level of the plateau beforehand. It is the loss of the best model that sees two tokens:
exact (pcfg/ngrams.py), and within a few hundredths of where the teachers' drops begin (B1).
"""

from common.base.errors import UserError
from common.judge.transition import DetectorConfig, Watch
from pcfg.ceiling import channel_of
from pcfg.config import StudentConfig, TrainConfig
from pcfg.ngrams import window_optimum

PLATEAU_WINDOW = 2
BEGIN, DONE = 0.06, 0.5
"""Shares of the plateau's loss that are gone when the drop begins, and when it is done."""


def watch_of(config: TrainConfig | StudentConfig) -> Watch:
    """What to watch: the loss on held-out sentences, from that of the best 2-gram model to its
    half.

    Raises:
        UserError: the loss counts BOS and EOS too, of which the grammar knows nothing.
    """
    if not config.training.watches:
        return Watch()  # for grammars of many terminals the plateau is costly
    if config.masking.select_special:
        raise UserError(
            "--training.ring-every and --training.stop-after tell the drop by the loss on words;"
            " leave out --masking.select-special"
        )
    plateau = window_optimum(
        config.data.load(),
        PLATEAU_WINDOW,
        channel_of(config.masking),
        hidden=config.masking.hide_selected,
    ).cross_entropy
    thresholds = DetectorConfig(plateau, 0.0, begin=BEGIN, enter=BEGIN, leave=DONE, done=DONE)
    return Watch("eval_loss", thresholds)
