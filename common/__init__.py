"""What all experiments share: configuration, the training loop, trajectories, run directories,
statistics.

Axes. The name of an array ends in its axes, one letter each: `logits_BxC` has a row for each
example of a batch and a column for each class. A digit is an axis of that length, and a leading x
(`logits_xC`) means any axes before. A letter means the same in every file:

    A  monomials, sets of input coordinates          parity/correlations, parity/probe
    B  batch: examples or sentences                  everywhere
    C  classes: what logits are for                  everywhere
    D  depth: levels of a derivation                 pcfg/sampler, pcfg/nonterminal, pcfg/prefix
    E  evaluations or checkpoints of a run           parity/probe, common/sequence, figures
    F  functions of the input                        parity/correlations, parity/probe
    G  groups: lanes that see the same examples, or  common/train/engine, parity/blocked,
       values that a bootstrap draws together        common/judge/stats
    H  heads                                         common/nn, pcfg/nonterminal
    I  inputs: coordinates of an example             parity, common/nn/mlp
    J  members in order: children of a rule, tokens  pcfg/sampler, pcfg/ngrams,
       of an n-gram, coordinates of a monomial       parity/correlations
    K  width of a head                               common/nn, pcfg/nonterminal
    L  lanes: one seed x learning rate each          common/train, wherever runs are read
    M  width of a model: its hidden units            common/nn, parity/blocked, pcfg/nonterminal
    N  a list of any other things, which the         everywhere
       docstring names: examples, cases, targets
    O  observed tokens around a position             pcfg/ngrams
    P  probed positions: sentence and position, or   common/nn, common/sequence, pcfg/ceiling
       some positions of each sentence
    Q  queried positions                             common/nn
    R  resamples of a bootstrap                      common/judge/stats
    S  seeds                                         common/judge/stats, common/sequence, figures
    T  positions of a sequence: tokens, or places    common/nn, common/sequence, pcfg
       of the symbols of a level
    U  updates in order, of a chunk or of a block    parity/blocked
    V  vocabulary: tokens, or terminals              common/nn, common/sequence, pcfg, mlm
    W  lengths of a span                             pcfg/inside, pcfg/prefix
    X  alternatives of a symbol                      pcfg/sampler
    Y  symbols of a level                            pcfg/sampler, pcfg/inside
    Z  sizes of a problem or of its windows          common/judge/stats, parity/exponents,
                                                     common/sequence

Lanes train under `jax.vmap` or `jax.lax.map`: a function of one lane has no axis L in its names.
"""

from common.base.environment import import_jax

import_jax()
