"""`python -m benchmarks.pcfg_bert`: milliseconds of a training step of the BERT for masked tokens
of sentences, the `quick` teacher, beside Hugging Face's; see `benchmarks.hugging_face`."""

from benchmarks.hugging_face import Compared, bench
from common.base.errors import run_command

BERT = Compared("BERT of `quick`", "pcfg_bert", "pcfg-quick")


def main(args: list[str]) -> None:
    """Time and print."""
    bench(BERT, args)


if __name__ == "__main__":
    run_command(main)
