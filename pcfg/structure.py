"""What students know of derivations, as a table of all of them."""

import pandas as pd

from common.sequence.student_claims import Evidence
from common.sequence.students import student
from pcfg.nonterminal import read_accuracy

STRUCTURE = "student_nonterminals.csv"


def structure_table(evidence: Evidence) -> pd.DataFrame:
    """The probes of all students' non-terminals, untrained and trained, as the probe's command
    writes them, and the strategy."""
    tables = [
        read_accuracy(evidence.home / student(strategy)).assign(strategy=strategy)
        for strategy in evidence.students.arms
    ]
    return pd.concat(tables, ignore_index=True)
