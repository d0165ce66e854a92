"""A small tokeniser of bytes, as GPT-2 and Pythia have it, for tests."""

from collections.abc import Sequence

from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, trainers

from mlm.vocabulary import TEXT_END

SIZE = 400


def byte_level(texts: Sequence[str]) -> Tokenizer:
    """GPT-2's kind, trained on some texts: `SIZE` tokens, the end of a text the first."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=SIZE,
        special_tokens=[TEXT_END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def like_pythia(texts: Sequence[str]) -> Tokenizer:
    """With Pythia's normalisation, its tokens for two and more spaces, and another special one."""
    tokenizer = byte_level(texts)
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.add_special_tokens(["<|padding|>"])
    tokenizer.add_tokens([AddedToken(" " * n, normalized=True) for n in range(8, 1, -1)])
    return tokenizer
