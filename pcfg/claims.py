"""`python -m pcfg.claims`: judge the claims of a preset from its run files, by criteria fixed before the runs.

B1 (phases) and B2 (the 3-gram stage), see `CLAIMS`. Reads metrics and probe tables; loads no model.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from rich.console import Console

from common.config import chosen_preset, parse
from common.errors import run_command
from common.runs import RunDirectory, write_json, write_text
from common.stats import bootstrap, proportion
from common.teacher import transitions
from common.transition import NoTransition, Transition
from common.verdict import Claim, Measurement, Verdict, plain, verdict_table
from pcfg.experiment import CLAIMS as OUTPUT
from pcfg.experiment import STRATEGIES
from pcfg.presets import PRESETS, PCFGPresetName
from pcfg.probe import TABLE

FINAL = "final_accuracy.csv"
CLAIMS = {
    "B1": Claim(
        "A teacher's loss has three phases",
        "The detector finds a plateau, a drop and a tail in the validation loss of every teacher seed, with C1 inside the drop.",
    ),
    "B2": Claim(
        "The teacher passes through a 3-gram stage",
        "For every teacher seed the median of M_robust(3) peaks within the drop, and ends at no more than a fifth of its peak.",
    ),
}


@dataclass(frozen=True)
class ClaimsCommand:
    """Arguments of `python -m pcfg.claims`."""

    preset: PCFGPresetName = "quick"
    """Which experiment."""
    root: Path = Path("runs")
    """Where runs are kept."""


def main(args: list[str]) -> None:
    """Judge and print."""
    preset = chosen_preset(args, PRESETS)
    command = parse(ClaimsCommand, args, prog="pcfg.claims", description="Judge the claims of a PCFG experiment from its run files.")
    home = command.root / "pcfg" / preset.name
    phases = transitions(RunDirectory(home / "teacher"), preset.config.student.detector)
    verdicts = [phases_claim(home, phases), trigram_claim(home, phases)]
    write_json(home / OUTPUT, {"preset": preset.name, "claims": [plain(verdict, CLAIMS) for verdict in verdicts]})
    write_text(home / FINAL, final_table(home).to_csv(index=False, float_format="%.6g"))
    Console(soft_wrap=True).print(verdict_table(verdicts, CLAIMS))


def phases_claim(home: Path, phases: list[Transition | NoTransition]) -> Verdict:
    """B1: plateau, drop, tail."""
    seeds = RunDirectory(home / "teacher").manifest["seeds"]
    found = [phase for phase in phases if isinstance(phase, Transition)]
    inside = [phase for phase in found if phase.start <= phase.chosen <= phase.end]
    share = proportion(len(inside), len(phases))
    measurements = [Measurement("teachers with three phases", share)]
    for name in ("start", "chosen", "end"):
        steps = [float(getattr(phase, name)) for phase in found]
        title = {"start": "end of the plateau", "chosen": "C1", "end": "end of the drop"}[name]
        measurements.append(Measurement(f"{title} (not judged)", bootstrap(steps), "steps"))
    reasons = [f"seed {seed}: {phase.reason}" for seed, phase in zip(seeds, phases, strict=True) if isinstance(phase, NoTransition)]
    return Verdict("B1", share.value == 1, tuple(measurements), tuple(reasons))


def trigram_claim(home: Path, phases: list[Transition | NoTransition]) -> Verdict:
    """B2: M_robust(3) rises and falls."""
    table = pd.read_csv(home / "teacher" / "probes" / TABLE)
    table = table[(table.kind == "robust") & (table.n == 3)]
    peaks, ratios, inside = [], [], 0
    for seed, phase in zip(RunDirectory(home / "teacher").manifest["seeds"], phases, strict=True):
        curve = table[table.seed == seed].set_index("step")["median"]
        peak = int(curve.to_numpy().argmax())
        peaks.append(float(curve.iloc[peak]))
        ratios.append(float(curve.iloc[peak] / curve.iloc[-1]) if curve.iloc[-1] > 0 else math.inf)
        inside += isinstance(phase, Transition) and phase.start <= curve.index[peak] <= phase.end
    holds = inside == len(phases) and min(ratios) >= 5
    measurements = (
        Measurement("peak within the drop", proportion(inside, len(phases))),
        Measurement("peak of the median of M_robust(3), total variation (not judged)", bootstrap(peaks)),
        Measurement("peak / end", bootstrap(ratios)),
    )
    return Verdict("B2", holds, measurements)


def final_table(home: Path) -> pd.DataFrame:
    """How far every run came within its budget: run, seed, learning rate, examples, accuracy and loss on the evaluation set."""
    rows = []
    for name in ("teacher", *(f"student/{strategy}" for strategy in STRATEGIES)):
        run = RunDirectory(home / name)
        last = run.metrics()[-1]
        columns = zip(run.manifest["seeds"], run.manifest["learning_rates"], last["accuracy"], last["eval_loss"], strict=True)
        rows += [
            {"run": name, "seed": seed, "learning_rate": rate, "examples": last["examples"], "accuracy": accuracy, "eval_loss": loss}
            for seed, rate, accuracy, loss in columns
        ]
    return pd.DataFrame(rows)


if __name__ == "__main__":
    run_command(main)
