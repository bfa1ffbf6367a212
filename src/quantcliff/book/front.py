"""What the first page and the README say: how much is kept and which failure it is, in sentences made from verdicts."""

from collections.abc import Iterable

import pandas as pd

from quantcliff.stages import verdict

NAMES = {"gptq": "GPTQ", "awq": "AWQ", "rtn": "RTN"}

SMALL, REAL = "atlas", "SmolLM2"
"""The two models of the book."""


def results(model: str, table: pd.DataFrame, stored: pd.DataFrame) -> pd.DataFrame:
    """One row for each quantized model: what it keeps, and which failure it is.

    Args:
        model: name of the model that was quantized.
        table: from `stages.verdict.measure`.
        stored: from `stages.verdict.weights.measure`.

    Returns:
        columns model, method, bits, kept (share of full precision's right answers), low, high (95%), n, mode,
        forms, forms_low, responds, responds_low, repair (shares; NaN where it was not asked).
    """
    known = table.drop_duplicates("variant").set_index("variant")
    rows = []
    for label, one in verdict.verdicts(table, stored).items():
        asked = one.questions.set_index("question")
        rows.append({
            "model": model, "method": known.loc[label, "method"], "bits": int(known.loc[label, "bits"]),
            "kept": one.kept, "low": one.kept_low, "high": one.kept_high, "n": one.n_known, "mode": one.mode,
            "forms": asked.loc["forms", "value"], "forms_low": asked.loc["forms", "low"],
            "responds": asked.loc["responds", "value"],
            "responds_low": asked.loc["responds", "low"], "repair": asked.loc["repair", "value"],
        })  # fmt: skip
    return pd.DataFrame(rows)


def span(shares: Iterable[float]) -> str:
    """Shares as one phrase.

    Example:
        >>> span([0.944, 0.964]), span([0.62, 0.62]), span([0.0, 0.001]), span([0.0, 0.02])
        ('94% to 96%', '62%', 'none', 'at most 2%')
    """
    known = list(shares)
    low, high = f"{min(known):.0%}", f"{max(known):.0%}"
    if high == "0%":
        return "none"
    return high if low == high else f"at most {high}" if low == "0%" else f"{low} to {high}"


def headline(table: pd.DataFrame) -> list[str]:
    """The three sentences with which book and README begin, from `results` of both models at 4, 3 and 2 bits."""
    small, real = (table[table["model"] == name].set_index("bits") for name in (SMALL, REAL))
    kept = {name: [span(rows.loc[bits, "kept"]) for bits in (4, 3, 2)] for name, rows in (("s", small), ("r", real))}
    both = table[table["bits"].isin([3, 4])]
    gone = real.loc[2][real.loc[2]["mode"] == "computation collapse"]
    left = real.loc[2][real.loc[2]["mode"] == "mixed"]
    return [
        f"Of what it answers in full precision, a small model that has learned 20,000 facts keeps {kept['s'][0]} at 4 "
        f"bits, {kept['s'][1]} at 3 bits and {kept['s'][2]} at 2 bits, depending on the method; SmolLM2, a language "
        f"model of 135 million weights, keeps {kept['r'][0]}, {kept['r'][1]} and {kept['r'][2]}.",
        f"At 4 and 3 bits both models lose precision and no more: lost answers still take shape, and the last layer, "
        f"fed with full precision's input, gives {span(both['responds'].dropna())} of them again (*signal "
        f"degradation*).",
        f"At 2 bits the small model still responds in this way ({span(small.loc[2, 'responds'])}), but SmolLM2 does "
        f"not with {_with(gone)}: nothing of the answer takes shape in it (*computation collapse*); with {_with(left)} "
        f"it responds, but to no avail, since there too nothing takes shape (*mixed*).",
    ]


def _with(rows: pd.DataFrame) -> str:
    named = zip(rows["method"], rows["responds"], strict=True)
    return _list(f"{NAMES.get(method, method)} ({share:.0%})" for method, share in named)


def _list(parts: Iterable[str]) -> str:
    *first, last = list(parts)
    return f"{', '.join(first)} and {last}" if first else last


def summary(table: pd.DataFrame) -> list[str]:
    """Two sentences for each model of `results`, whatever its methods and widths: what is kept, and the verdicts."""
    said = []
    for name, rows in table.groupby("model", sort=False):
        kept = _list(f"{span(part['kept'])} at {bits} bits" for bits, part in rows.groupby("bits", sort=False))
        said.append(f"Of what it answers in full precision, {name} keeps {kept}.")
        phrases: dict[str, list[str]] = {}
        for bits, of_width in rows.groupby("bits", sort=False):
            phrase = _list(_mode(mode, part, rows) for mode, part in of_width.groupby("mode", sort=False))
            phrases.setdefault(phrase, []).append(str(bits))
        modes = "; ".join(f"at {_list(bits)} bits {phrase}" for phrase, bits in phrases.items())
        said.append(f"The verdict on {name}: {modes}.")
    return said


def _mode(mode: str, part: pd.DataFrame, rows: pd.DataFrame) -> str:
    methods = list(dict.fromkeys(part["method"]))
    every = len(methods) == rows["method"].nunique()
    return mode if every else f"{mode} with {_list(NAMES.get(method, method) for method in methods)}"
