"""A verdict made up by hand, with what a report needs beside it."""

import numpy as np
import pandas as pd

from quantcliff.filecheck import Findings
from quantcliff.stages.verdict import Verdict
from quantcliff.stages.verdict.signals import SIGNALS
from quantcliff.stages.verdict.votes import Votes

NAN = float("nan")


def ladder(*rows: tuple[str, float, float, float, float]) -> pd.DataFrame:
    """Steps from (words, bits, kept, low, high)."""
    return pd.DataFrame(rows, columns=["step", "bits", "kept", "low", "high"]).assign(n=50, note="")


LADDER = ladder(
    ("as it is", 2.1, 0.02, 0.00, 0.10),
    ("layer 0 in 8 bits", 2.9, 0.04, 0.01, 0.13),
    ("layers 0 to 3 in 8 bits", 5.2, 0.34, 0.22, 0.48),
    ("all layers in 3 bits", 3.1, 0.72, 0.58, 0.83),
    ("all layers in 8 bits", 8.2, 1.00, 0.93, 1.00),
)

QUESTIONS = pd.DataFrame(
    [
        ("forms", "Does it form?", 0.66, 0.59, 0.73, 88, 1.0, 0.75, True, "no", True, "of the lost answers"),
        ("responds", "Does it respond?", 0.9, 0.8, 0.95, 100, 0.0, 0.5, True, "yes", True, "half after layer 5"),
        ("alone", "Is each layer good?", 0.6, 0.46, 0.72, 50, 1.0, 0.5, False, "yes", False, "layer 1, the worst"),
        ("inherited", "Is it their own?", NAN, NAN, NAN, 0, NAN, 0.5, False, "not asked", True, "none fails"),
    ],
    columns=["question", "asks", "value", "low", "high", "n", "control", "held_to", "decides", "answer", "sure",
             "note"],
)  # fmt: skip


def signals() -> pd.DataFrame:
    rows = [
        (s.name, 0.5, 0.4, 0.6, 100, 1.0, NAN, 1.0, "collapsed", True, 1, pd.NA, s.source, s.chosen, "")
        for s in SIGNALS
    ]
    columns = ["signal", "value", "low", "high", "n", "perfect", "threshold", "severity", "reading", "sure",
               "first_degraded", "first_collapsed", "source", "chosen", "note"]  # fmt: skip
    return pd.DataFrame(rows, columns=columns).assign(least=0.9, most=1.1)


def verdict(**other: object) -> Verdict:
    """Mixed, at 2 bits; `other` replaces fields."""
    fields: dict[str, object] = {
        "variant": "m-2bit", "mode": "mixed", "kept": 0.036, "kept_low": 0.018, "kept_high": 0.073, "n_known": 193,
        "questions": QUESTIONS, "ladder": LADDER, "former": Votes("mixed", (7, 11), ("Jaccard",)),
        "first": {"degraded": 0, "collapsed": 3},
        "file": Findings(checked="56 of 56 modules"), "signals": signals(),
    }  # fmt: skip
    return Verdict(**(fields | other))


def broken(sentence: str = "layer 1, self_attn.q_proj: 32 of 32 groups have the wrong scale") -> Verdict:
    """Nothing but the file was looked at."""
    nothing = {"questions": QUESTIONS[:0], "ladder": LADDER[:0], "signals": signals()[:0], "n_known": 0}
    file = Findings(faults=(sentence,), odd=("layer 2: odd",), checked="55 of 56 modules")
    first = {"degraded": None, "collapsed": None}
    return verdict(mode="format bug", kept=NAN, kept_low=NAN, kept_high=NAN, first=first,
                   former=Votes("signal degradation", (0, 0), ()), file=file, **nothing)  # fmt: skip


def stored(faulty: int = 1, clean: int = 3) -> pd.DataFrame:
    """A table of weights with so many faulty and clean modules."""
    n = faulty + clean
    return pd.DataFrame(
        {
            "variant": "m-2bit", "layer": range(n), "module": "self_attn.q_proj", "groups": 32, "excess": 1.0,
            "match": 0.9, "stretch": 1.0, "shift": 0.0,
            "fault": ["scale"] * faulty + [""] * clean, "faulty": [32] * faulty + [0] * clean, "detail": "",
        }
    )  # fmt: skip


def measured() -> pd.DataFrame:
    """Two layers of one signal, and one of a question, which no chart of signals may show."""
    rows = [("signal", "Jaccard", 0, 0.2), ("signal", "Jaccard", 1, 0.1), ("question", "alone", 0, np.nan)]
    found = pd.DataFrame(rows, columns=["kind", "signal", "layer", "value"]).assign(variant="m-2bit", n=100)
    numbers = dict.fromkeys(("low", "high", "perfect", "threshold", "severity"), 0.5)
    return found.assign(**numbers, reading="degraded").astype({"layer": "Int64"})


def examples(prompt: str = "The capital of Italy is", quantized: str = " the the") -> pd.DataFrame:
    rows = [(prompt, "Rome", " Rome, which", quantized, False), ("Two and two", "four", "", "four\nfour", True)]
    return pd.DataFrame(rows, columns=["prompt", "right", "full", "quantized", "kept"])


MADE = {
    "date": "2026-11-27 02:30 UTC", "versions": {"quantcliff": "0.1.0", "Python": "3.11.9"}, "base": "a base",
    "base_hash": "0123456789abcdef", "quantized": "out/{q}", "quantized_hash": "fedcba9876543210", "seed": 7,
    "device": "cpu", "dtype": "float32", "command": "quantcliff diagnose 'a base' 'out/{q}' --seed 7",
}  # fmt: skip
