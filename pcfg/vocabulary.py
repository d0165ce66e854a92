"""Token ids of masked prediction on a grammar: the terminals in the order of `grammar.terminals`,
then the special tokens."""

from dataclasses import dataclass

import jax


@dataclass(frozen=True)
class Vocabulary:
    """The ids. PAD has one of its own; in the published code it is 0, which is also a terminal."""

    num_terminals: int
    """Terminals are 0 to `num_terminals` - 1."""

    @property
    def terminal_ids(self) -> range:
        """Ids of the terminals."""
        return range(self.num_terminals)

    @property
    def bos(self) -> int:
        """BOS, before every sentence."""
        return self.num_terminals

    @property
    def eos(self) -> int:
        """EOS, after every sentence."""
        return self.num_terminals + 1

    @property
    def pad(self) -> int:
        """PAD, after EOS up to the length of the longest sentence."""
        return self.num_terminals + 2

    @property
    def mask(self) -> int:
        """MASK, in place of a token to be predicted."""
        return self.num_terminals + 3

    @property
    def size(self) -> int:
        """The number of ids."""
        return self.num_terminals + 4

    def is_terminal(self, tokens: jax.Array) -> jax.Array:
        """Which tokens are terminals; `(...)` int to `(...)` bool."""
        return tokens < self.num_terminals
