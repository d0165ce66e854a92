"""Counter-based randomness: every draw is a function of (seed, purpose, step) alone, whatever was
drawn before."""

import zlib

import jax


def purpose_key(key: jax.Array, purpose: str) -> jax.Array:
    """Derive the key of one named purpose ("init", "train-data", ...) from a scalar PRNG key."""
    return jax.random.fold_in(key, zlib.crc32(purpose.encode()))


def seed_key(seed: int, purpose: str) -> jax.Array:
    """The key of one purpose of one run seed."""
    return purpose_key(jax.random.key(seed), purpose)
