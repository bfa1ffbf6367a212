"""Every figure that the paper gives, taken from the tables of the stages: one row per figure, method and bits."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

Tables = Mapping[str, pd.DataFrame]
"""Stage -> its table, as the stage's `measure` returns it."""

COLUMNS = ["figure", "method", "bits", "estimate", "low", "high", "n", "reading"]

DOMINO = {1: "layer 0", 2: "layers 0 to 1", 6: "layers 0 to 5"}
"""Numbers of first layers in 2 bits for which the paper gives a figure (Llama-3.1-8B, 32 layers)."""

OWN = (
    "attention JSD", "sign flips, clean input", "Jaccard, clean input", "FFN cosine, clean input", "likeness",
    "any paraphrase", "most paraphrases", "all paraphrases", "EoRA, failure facts",
)  # fmt: skip
"""Figures for which the paper gives no number."""


def paper() -> pd.DataFrame:
    """What the paper (arXiv 2604.19884) reports, mostly for Llama-3.1-8B with GPTQ in groups of 128.

    Returns:
        figure, bits, value (missing where it only describes), words.
    """
    return pd.read_csv(Path(__file__).with_name("paper.csv"))


def figures(tables: Tables) -> pd.DataFrame:
    """All figures of one model.

    Args:
        tables: of the stages verdict, components, repair, patching_necessity and macro_paraphrases.

    Returns:
        Columns `COLUMNS`; `reading` is the verdict's of that signal, missing for figures that are none. Where layers
        are averaged, bounds are means of the layers' bounds, wide enough however layers hang together.
    """
    parts = [_signals(tables["verdict"]), _components(tables["components"]), _repair(tables["repair"])]
    necessity, again = tables["patching_necessity"], tables["macro_paraphrases"]
    parts.append(_plain(necessity[necessity["measure"] == "likeness"], "likeness"))
    for measure, name in {"any": "any paraphrase", "majority": "most paraphrases", "all": "all paraphrases"}.items():
        parts.append(_plain(again[again["measure"] == measure], name))
    found = pd.concat(parts, ignore_index=True)
    return found.assign(reading=found["reading"].where(found["reading"].notna(), None))[COLUMNS]


def _signals(table: pd.DataFrame) -> pd.DataFrame:
    whole = table[table["layer"].isna()]
    return whole.rename(columns={"signal": "figure", "value": "estimate"}).reindex(columns=COLUMNS)


def _plain(rows: pd.DataFrame, name: str) -> pd.DataFrame:
    return rows.assign(figure=name).reindex(columns=COLUMNS)


def _components(table: pd.DataFrame) -> pd.DataFrame:
    """Means over layers at the last token."""
    rows = table[(table["position"] == "last") & table["head"].isna() & (table["method"] != "full")]
    wanted = {
        ("jsd", "in_situ"): "attention JSD", ("sign_flips", "clean"): "sign flips, clean input",
        ("jaccard", "clean"): "Jaccard, clean input", ("ffn_cosine", "clean"): "FFN cosine, clean input",
    }  # fmt: skip
    parts = []
    for (measure, condition), name in wanted.items():
        mine = rows[(rows["measure"] == measure) & (rows["condition"] == condition)]
        means = mine.groupby(["method", "bits"], sort=False)[["estimate", "low", "high", "n"]].mean().reset_index()
        parts.append(_plain(means, name))
    return pd.concat(parts, ignore_index=True)


def _repair(table: pd.DataFrame) -> pd.DataFrame:
    """Shares of failure facts that repairs bring back, and what is left when only the first layers are quantized."""
    share = table[(table["measure"] == "accuracy")]
    all_facts, failure = share[share["half"] == "all"], share[(share["part"] == "failure")]
    two = failure[(failure["half"] == "all") & (failure["setting"] == "first 2 layers")]
    amplified = failure[(failure["half"] == "test") & (failure["setting"] == "after protection, peak, failure")]
    eora = failure[(failure["half"] == "all") & failure["setting"].str.startswith("EoRA")]
    eora = eora[eora["amount"] == eora["amount"].max()]
    parts = [
        _plain(two, "protection, failure facts"),
        _plain(amplified, "protection and amplification, failure facts"),
        _plain(eora, "EoRA, failure facts"),
    ]
    for count, words in DOMINO.items():
        rows = all_facts[(all_facts["repair"] == "domino") & (all_facts["setting"] == f"first {count}")]
        parts += [
            _plain(rows[rows["part"] == part], f"domino, {words}, {part} facts") for part in ("robust", "failure")
        ]
    return pd.concat(parts, ignore_index=True)


def beside(models: Mapping[str, pd.DataFrame], method: str = "gptq", bits: tuple[int, ...] = (4, 2)) -> pd.DataFrame:
    """One row per figure: the paper's words and each model's value with its interval, at each of `bits`.

    Args:
        models: name -> `figures` of that model.
    """
    said = paper().set_index(["figure", "bits"])["words"]
    names = list(dict.fromkeys([*paper()["figure"], *OWN]))
    rows = []
    for name in names:
        row = {"figure": name}
        for width in bits:
            row[f"paper, {width} bits"] = str(said.get((name, width), "-"))
            row |= {f"{model}, {width} bits": _cell(table, name, method, width) for model, table in models.items()}
        rows.append(row)
    return pd.DataFrame(rows)


def _cell(table: pd.DataFrame, name: str, method: str, bits: int) -> str:
    rows = table[(table["figure"] == name) & (table["method"] == method) & (table["bits"] == bits)]
    rows = rows.dropna(subset="estimate")
    if rows.empty:
        return "-"
    values = [float(rows[column].iloc[0]) for column in ("estimate", "low", "high")]
    style = ",.0f" if name == "answer rank" else ".2f"
    middle, low, high = (f"{round(value, 2) + 0.0:{style}}" for value in values)
    return f"{middle} ({low} to {high})"


def agreement(models: Mapping[str, pd.DataFrame], method: str = "gptq") -> pd.DataFrame:
    """Whether each signal tells two modes apart as the paper's does: read anything but collapsed at 4 bits, and
    collapsed at 2 (thresholds: `stages.verdict.signals`, fixed before any model was measured).

    Returns:
        signal, and for each model "yes", "no: ..." with what it reads, or "-" where it does not apply.
    """
    read = {name for table in models.values() for name in table.loc[table["reading"].notna(), "figure"]}
    signals = [name for name in paper()["figure"].unique() if name in read]
    rows = []
    for name in signals:
        row = {"signal": name}
        for model, table in models.items():
            four, two = (_reading(table, name, method, bits) for bits in (4, 2))
            if not four or not two or "not applicable" in (four, two):
                row[model] = "-"
            else:
                row[model] = "yes" if four != "collapsed" and two == "collapsed" else f"no: {four}, then {two}"
        rows.append(row)
    return pd.DataFrame(rows)


def _reading(table: pd.DataFrame, name: str, method: str, bits: int) -> str:
    rows = table[(table["figure"] == name) & (table["method"] == method) & (table["bits"] == bits)]
    found = rows["reading"].dropna()
    return str(found.iloc[0]) if len(found) else ""
