"""Where the probe of windows looks: in sentences of any length."""

import jax.numpy as jnp
import numpy as np
import pytest

from common.base.errors import UserError
from common.sequence.windows import HeldOut, ProbeConfig, WindowConfig, spacing_of

PAD, SPECIAL = 9, 8


def held_out(length: int, longest: int) -> HeldOut:
    """Two sentences between special tokens; the second is one word shorter, and padded."""
    tokens = np.full((2, length + 2), 1)
    tokens[:, 0], tokens[0, -1], tokens[1, -2:] = SPECIAL, SPECIAL, (SPECIAL, PAD)
    return HeldOut(jnp.asarray(tokens), jnp.asarray(tokens < SPECIAL), PAD, longest)


@pytest.mark.parametrize(("longest", "spacing"), [(6, 1), (27, 5), (149, 29), (432, 30)])
def test_positions_fit_into_short_sentences_and_are_the_papers_in_long_ones(
    longest: int, spacing: int
) -> None:
    assert spacing_of(longest) == spacing


def test_spacing_is_that_of_the_longest_sentence_there_can_be() -> None:
    """Not of the longest of those that happen to be held out."""
    pairs = held_out(12, longest=20).pairs(ProbeConfig(sizes=(1,)))
    assert pairs.position_P.tolist() == [4, 8, 12, 4, 8]
    pairs = held_out(12, longest=20).pairs(ProbeConfig(sizes=(3,), spacing=5))
    assert pairs.position_P.tolist() == [5, 10, 5, 10]
    assert not pairs.visible_PxT[-1, -1] and pairs.visible_PxT[:, :-1].all()


def test_no_position_is_refused() -> None:
    with pytest.raises(UserError, match="every 14 tokens there is no position in sentences of at"):
        held_out(12, longest=12).pairs(ProbeConfig(sizes=(1,), spacing=14))


def test_windows_of_a_preset_are_settings_of_the_probe() -> None:
    windows = WindowConfig((3, 5), spacing=4, num_sentences=8)
    assert ProbeConfig(**windows.overrides) == ProbeConfig((3, 5), 4, 8)
