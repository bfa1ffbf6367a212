"""What healing has brought back in this book, by the verdict on the model as it was: from the shipped tables alone."""

from functools import cache

import pandas as pd

from quantcliff.stages import verdict
from quantcliff.stages.healing import edition, smollm2
from quantcliff.stages.healing.beside import ATTENTION
from quantcliff.stages.healing.edition import row
from quantcliff.stages.smollm2 import Shipped


@cache
def gains() -> pd.DataFrame:
    """One row per model and method at 2 bits, healed on the most text that its table has a verdict for.

    Returns:
        model, method, mode (the verdict before), tokens, before, after, low, high: shares of full precision's right
        answers kept, and the 95% interval of the one after; of the embedded model those on facts never seen.
    """
    rows = []
    own, real = Shipped(edition.FOLDER), Shipped(smollm2.FOLDER)
    unhealed = {"gptq": "as it is", "rtn": edition.ROUNDED[0]}
    for model, shipped, part, sequences, names in (
        ("atlas", own, "held-out", edition.SHOWN.sequences, unhealed),
        ("smollm2", real, "all", smollm2.EQUAL, {m: smollm2.model_of(m, "as it is", 0) for m in smollm2.METHODS}),
    ):
        table, beside = shipped.table("healing"), shipped.table("beside")
        for method, name in names.items():
            bare = row(table, "as it is", 0, part, "kept", method)
            after = row(table, "healed", sequences, part, "kept", method)
            signals = beside[(beside["model"] == name) & (beside["signal"] != ATTENTION)]
            rows.append({
                "model": model, "method": method, "mode": verdict.decide(name, signals).mode,
                "tokens": int(after["tokens"]), "before": bare["estimate"], "after": after["estimate"],
                "low": after["low"], "high": after["high"],
            })  # fmt: skip
    return pd.DataFrame(rows)
