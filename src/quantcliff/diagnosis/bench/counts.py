"""What is counted in the bench's table of pairs."""

from typing import Any

import pandas as pd

from quantcliff import stats

LABELS = ("intact", "degraded", "collapsed")

SAYS = {"intact": "intact", "signal degradation": "degraded", "computation collapse": "collapsed", "mixed": "mixed",
        "degraded": "degraded", "collapsed": "collapsed"}  # fmt: skip
"""Label that each verdict stands for; "mixed" is none."""

RULES = {"mode": "this rule", "old": "the former rule, by votes", "cosine": "cosine, layer by layer"}
"""Columns of the table that hold a rule's verdict."""

TRUTHS = {"label": "half of the lost answers come back", "after": "half of all answers are right after the training"}
"""Columns that hold a label by outcome: the one written down beforehand, and one added when it was seen to fail."""

WAYS = {"seed": "another seed", "many": "1,000 facts", "text": "next tokens of a text"}
"""Columns that hold the mode asked for in another way."""


def labelled(pairs: pd.DataFrame, truth: str = "label") -> pd.DataFrame:
    """The pairs that have a label (a key of `TRUTHS`) and were diagnosed."""
    return pairs[pairs[truth].isin(LABELS) & (pairs["mode"] != "")]


def confusion(pairs: pd.DataFrame, rule: str = "mode", truth: str = "label") -> pd.DataFrame:
    """Rows: the label by outcome; columns: what a rule says (a key of `RULES`), in number of pairs, and in the last
    ones right (the share), low, high (Wilson, 95%), n.
    """
    some = labelled(pairs, truth)
    some = some[some[rule] != ""]
    said = some[rule].map(SAYS)
    rows = []
    for label in LABELS:
        own = said[some[truth] == label]
        share = stats.share(own == label)
        counts = {name: int((own == name).sum()) for name in (*LABELS, "mixed")}
        rows.append({"label": label, **counts, "right": share.estimate, "low": share.low, "high": share.high,
                     "n": len(own)})  # fmt: skip
    return pd.DataFrame(rows)


def right(pairs: pd.DataFrame, truth: str = "label") -> pd.DataFrame:
    """One row per rule: rule, right (share of the labelled pairs it was asked about), low, high, n, opposite (number of
    pairs that are called collapsed and are degraded, or the other way round), undecided (called mixed).
    """
    rows = []
    for column, words in RULES.items():
        some = labelled(pairs, truth)
        some = some[some[column] != ""]
        said = some[column].map(SAYS)
        share = stats.share(said == some[truth])
        opposite = said.isin(LABELS[1:]) & some[truth].isin(LABELS[1:]) & (said != some[truth])
        rows.append({"rule": words, "right": share.estimate, "low": share.low, "high": share.high, "n": len(some),
                     "opposite": int(opposite.sum()), "undecided": int((said == "mixed").sum())})  # fmt: skip
    return pd.DataFrame(rows)


def against(pairs: pd.DataFrame, truth: str = "label") -> pd.DataFrame:
    """How much more often this rule is right than each other one, on the pairs that both were asked about: rule,
    difference (of the shares), low, high (bootstrap over pairs, 95%), n.
    """
    rows = []
    for column in [name for name in RULES if name != "mode"]:
        some = labelled(pairs, truth)
        some = some[some[column] != ""]
        own, other = (some[name].map(SAYS) == some[truth] for name in ("mode", column))
        found = stats.paired_difference(own.to_numpy(), other.to_numpy())
        rows.append({"rule": RULES[column], "difference": found.estimate, "low": found.low, "high": found.high,
                     "n": len(some)})  # fmt: skip
    return pd.DataFrame(rows)


def disagreeing(pairs: pd.DataFrame, truth: str = "label") -> pd.DataFrame:
    """Labelled pairs of which this rule says something else: pair, the label, label_kept, regained, kept_after, mode,
    old, cosine.
    """
    some = labelled(pairs, truth)
    columns = ["pair", truth, "label_kept", "regained", "kept_after", "mode", "old", "cosine"]
    return some.loc[some["mode"].map(SAYS) != some[truth], columns]


def found(pairs: pd.DataFrame) -> pd.DataFrame:
    """One row per kind of planted fault and model: kind, model, weak, middle, strong (its strength, and whether it was
    found with its place, called a fault with another place, called odd and harmless, or missed), smallest (the least
    strength found from which on all stronger ones are found too; "" where there is none).
    """
    rows = []
    for (kind, model), own in pairs[pairs["kind"] != ""].groupby(["kind", "model"], sort=False):
        row = {"kind": kind, "model": model, "smallest": ""}
        row |= {str(fault.level): f"{fault.strength}: {_outcome(fault)}" for fault in own.itertuples()}
        for fault in reversed(list(own.itertuples())):
            if str(fault.found) != "True":  # missing where it was not run
                break
            row["smallest"] = str(fault.strength)
        rows.append(row)
    return pd.DataFrame(rows, columns=["kind", "model", "weak", "middle", "strong", "smallest"])


def _outcome(fault: Any) -> str:
    if str(fault.found) == "True":
        return "found"
    if fault.headline == "":
        return "not run"
    if "format bug" in fault.headline or "not made" in fault.headline:
        return "noticed, place or kind wrong"
    return "called odd and harmless" if fault.odd > 0 else "missed"


def alarms(files: pd.DataFrame) -> pd.DataFrame:
    """False alarms over healthy files, by source and model: source, model, files, files_accused, modules, accused, high
    (upper end of the 95% Wilson interval of the share of modules that are accused).
    """
    rows = []
    for (source, model), own in files.groupby(["source", "model"], sort=False):
        modules, accused = int(own["modules"].sum()), int(own["accused"].sum())
        rows.append(
            {"source": source, "model": model, "files": len(own), "files_accused": int((own["fault"] != "").sum()),
             "modules": modules, "accused": accused, "high": stats.wilson(accused, modules)[1]}
        )  # fmt: skip
    return pd.DataFrame(rows)


def agreement(pairs: pd.DataFrame) -> pd.DataFrame:
    """One row per way of asking: way, same (number of pairs with the same mode), n, low, high (Wilson, 95%, of the
    share), others (those that differ).
    """
    rows = []
    for column, words in WAYS.items():
        own = pairs[(pairs[column] != "") & (pairs["mode"] != "")]
        differ = own[own[column] != own["mode"]]
        others = "; ".join(f"{row.pair}: {row.mode}, {getattr(row, column)}" for row in differ.itertuples())
        share = stats.share((own[column] == own["mode"]).to_numpy())
        rows.append({"way": words, "same": len(own) - len(differ), "n": len(own), "low": share.low, "high": share.high,
                     "others": others})  # fmt: skip
    return pd.DataFrame(rows)
