"""Are the weights of a study's variants stored right? `filecheck.inspect` of each of them."""

import pandas as pd

from quantcliff.filecheck import PROMPTS, Findings, check, faulty, harmless, inspect
from quantcliff.memory import given_back
from quantcliff.models import grid_of
from quantcliff.study import Study

__all__ = ["faulty", "findings", "harmless", "inspect", "measure"]


def measure(study: Study) -> pd.DataFrame:
    """`inspect` of every variant -> RUN/weights.parquet, with the columns variant, method, bits and group_size.

    Modules are tried out on `PROMPTS` of the study's prompts.
    """
    prompts = study.probes.draw(PROMPTS, study.seed).input_ids

    def compute(label: str) -> pd.DataFrame:
        stated = grid_of(study.variant(label).path)
        assert stated
        with given_back():
            return inspect(study.base, study.model(label), stated, prompts)

    return study.table("weights", compute)


def findings(study: Study, label: str, table: pd.DataFrame) -> Findings:
    """`filecheck.check` of one variant; the table is that of `measure`."""
    prompts = study.probes.draw(PROMPTS, study.seed).input_ids
    rows = table[table["variant"] == label]
    return check(study.base, study.model(label), study.variant(label).path, rows, prompts)
