"""The whole diagnosis of what is quantized while a model runs: signals, questions, verdict, and who is to blame."""

from functools import cache

import pandas as pd

from quantcliff.stages import components, verdict
from quantcliff.stages.verdict import Pair, Verdict, blame, causes, evidence
from quantcliff.stages.verdict.signals import read
from quantcliff.study import FULL, Study


def measure(study: Study, labels: list[str], n_prompts: int = 100) -> pd.DataFrame:
    """Signals and questions as `verdict.measure`, without its ladder, whose steps are about bits of weights."""
    full = cache(lambda: components.of_variant(study, FULL, n_prompts))

    def compute(label: str) -> pd.DataFrame:
        pair = Pair(study, label, n_prompts, full)
        return verdict.joined({verdict.SIGNAL: read(evidence.gather(pair)), verdict.QUESTION: causes.ask(pair)})

    return study.table("activations_verdict", compute, labels, n_prompts=n_prompts)


def verdicts(table: pd.DataFrame) -> dict[str, Verdict]:
    """The verdict on every variant of `measure`'s table."""
    return {str(label): verdict.decide(str(label), rows) for label, rows in table.groupby("variant", sort=False)}


def blamed(study: Study, labels: list[str], n_prompts: int = 100) -> pd.DataFrame:
    """`blame.of_variant` of some variants."""
    return pd.concat([blame.of_variant(study, label, n_prompts) for label in labels], ignore_index=True)
