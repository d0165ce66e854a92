"""Numbers in, judgements out: statistics, transitions, phases, verdicts. It knows no files."""
