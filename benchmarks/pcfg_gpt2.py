"""`python -m benchmarks.pcfg_gpt2`: milliseconds of a training step of the GPT-2 for next tokens of
sentences, the `quick` teacher, beside Hugging Face's; see `benchmarks.hugging_face`."""

from benchmarks.hugging_face import Compared, bench
from common.base.errors import run_command

GPT2 = Compared("GPT-2 on next tokens of `quick`", "pcfg_gpt2", "next-token-quick")


def main(args: list[str]) -> None:
    """Time and print."""
    bench(GPT2, args)


if __name__ == "__main__":
    run_command(main)
