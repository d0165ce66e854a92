"""Token ids of masked prediction on a grammar: the terminals in the order of `grammar.terminals`,
then the special tokens."""

from dataclasses import dataclass

import jax


@dataclass(frozen=True)
class Vocabulary:
    """The ids. PAD is an id of its own, whereas in the published code it is the model's default 0,
    which is also a terminal."""

    num_terminals: int
    """Terminals are 0 to `num_terminals` - 1."""

    @property
    def terminal_ids(self) -> range:
        """Of the terminals."""
        return range(self.num_terminals)

    @property
    def bos(self) -> int:
        """Before every sentence."""
        return self.num_terminals

    @property
    def eos(self) -> int:
        """After every sentence."""
        return self.num_terminals + 1

    @property
    def pad(self) -> int:
        """After EOS, up to the longest sentence."""
        return self.num_terminals + 2

    @property
    def mask(self) -> int:
        """In place of a token to be predicted."""
        return self.num_terminals + 3

    @property
    def size(self) -> int:
        """Ids in all."""
        return self.num_terminals + 4

    def is_terminal(self, tokens: jax.Array) -> jax.Array:
        """Which tokens are terminals; `(...)` int to `(...)` bool."""
        return tokens < self.num_terminals
