"""Made-up documents for the tests of text."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

SYLLABLES = ("ba", "ko", "ri", "tu", "ne", "sha", "lo", "mi", "gra", "ve")
ENDINGS = (".", ".", ",", "!", " (so)", "")


def documents(count: int, seed: int = 0, words: int = 40) -> list[str]:
    """Different documents of words of one to three syllables, with capitals, accents and stops."""
    rng = np.random.default_rng(seed)
    return [
        " ".join(_word(rng) for _ in range(int(rng.integers(words // 2, words)))) + f" {seed}-{i}"
        for i in range(count)
    ]


def _word(rng: np.random.Generator) -> str:
    word = "".join(rng.choice(SYLLABLES, rng.integers(1, 4)))
    if rng.random() < 0.1:
        word = word.capitalize().replace("e", "é")
    return word + str(rng.choice(ENDINGS)) if rng.random() < 0.2 else word


def write_jsonl(path: Path, texts: Sequence[object], column: str = "text") -> Path:
    """A document a line."""
    path.write_text("".join(json.dumps({"id": 1, column: text}) + "\n" for text in texts))
    return path
