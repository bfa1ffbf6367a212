"""Whether the rules that were written down beforehand (`rules`) hold, on the tables of one model."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from quantcliff.stages.activations import lookup, massive
from quantcliff.stages.activations.measures import modes, value
from quantcliff.stages.activations.rules import FEWEST_LOST, MASSIVE, NORM, RETURNS, SINK
from quantcliff.stages.verdict.questions import BY_NAME
from quantcliff.stages.verdict.signals import BEST_KEPT

HOLDS, FAILS, UNKNOWN = "holds", "does not hold", "cannot be told"

REST = 0.1
"""Share in the largest channel at other tokens up to which activations at the first are its own."""

GONE = 0.1
"""Share of the answers below which they count as gone."""

Outcome = tuple[str, str, str]
"""Rule, outcome, evidence in words."""


def damaged(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of "kept" of ways with intact weights that lost enough to be asked about."""
    rows = table[(table["measure"] == "kept") & (table["weights"] == 16)]
    return rows[(rows["estimate"] < BEST_KEPT) & ((1 - rows["estimate"]) * rows["n"] >= FEWEST_LOST - 0.5)]


def outcomes(table: pd.DataFrame, activations: pd.DataFrame, searched: pd.DataFrame) -> pd.DataFrame:
    """The rules about modes, scales and repair.

    Args:
        table: of `measures.measure`; activations: of `massive.measure`; searched: of `lookup.measure`.

    Returns:
        rule, outcome (`HOLDS`, `FAILS`, `UNKNOWN`), evidence.
    """
    rows = [*_massive(activations), *_modes(table, searched), *_scales(table), *_cache(table), *_together(table)]
    return pd.DataFrame(rows, columns=["rule", "outcome", "evidence"])


def _said(held: bool | np.bool | None) -> str:
    return UNKNOWN if held is None else HOLDS if held else FAILS


def is_massive(activations: pd.DataFrame) -> bool:
    """Whether a model has massive activations."""
    first, rest = (massive.middle(activations, name) for name in ("first", "rest"))
    return first >= MASSIVE and rest <= REST


def _massive(activations: pd.DataFrame) -> Iterator[Outcome]:
    first, rest, sink, norm = (massive.middle(activations, name) for name in ("first", "rest", "sink", "norm"))
    words = f"largest channel {first:.0%} of the first token, {rest:.0%} of others"
    yield "the model has massive activations", _said(is_massive(activations)), words
    held, words = first >= MASSIVE and norm >= NORM, f"its norm is {norm:.0f} times that of others"
    yield "the model has massive activations, by the rule that replaced it", _said(held), words
    yield "the model has sinks", _said(sink >= SINK), f"{sink:.0%} of attention on the first token"


def _modes(table: pd.DataFrame, searched: pd.DataFrame) -> Iterator[Outcome]:
    hurt = damaged(table)
    asked = table[table["way"].isin(hurt["way"]) & (table["measure"] == "responds")].set_index("way")
    low = asked["estimate"].min() if len(asked) else np.nan
    held = None if not len(asked) else True if low >= RETURNS else False if (asked["high"] < RETURNS).any() else None
    words = (
        f"{len(asked)} ways, the least {low:.0%} ({asked['estimate'].idxmin()})" if len(asked) else "none is damaged"
    )
    yield "intact weights respond", _said(held), words
    mode = modes(table)[hurt["way"].tolist()]
    fallen = mode[mode == "computation collapse"]
    yield "so no collapse", _said(not len(fallen)), ", ".join(fallen.index) or f"none of {len(mode)}"
    widths = [width for width in (4, 3, 2) if np.isfinite(value(table, f"K{width}", "kept"))]
    pairs = {width: [value(table, f"{kind}{width}", "where, in place") for kind in "KV"] for width in widths}
    words = "; ".join(f"{width} bits {keys:.2f} and {values:.2f}" for width, (keys, values) in pairs.items())
    yield (
        "keys break where, values break what",
        _said(all(k > v for k, v in pairs.values())),
        f"keys and values: {words}",
    )
    if len(searched):
        way = str(searched["variant"].iloc[0])
        best = searched.loc[searched[searched["left"] == "keys"]["estimate"].idxmax()]
        found = lookup.named(searched, value(table, way, "responds"))
        words = f"{way}: exact keys of layer {best['layer']} bring back {best['estimate']:.0%}"
        yield "a third kind, lookup failure, is named", _said(found), words
    else:
        yield "a third kind, lookup failure, is named", UNKNOWN, "too few answers are lost"


def _beyond(table: pd.DataFrame, better: str, worse: str) -> tuple[bool, str]:
    """Whether one way keeps more than another, beyond both intervals; both shares in words."""
    held = value(table, better, "kept", "low") > value(table, worse, "kept", "high")
    return held, f"{value(table, better, 'kept'):.0%} and {value(table, worse, 'kept'):.0%}"


def _returned(table: pd.DataFrame, with_it: str, without: str) -> float:
    """Share of what a way loses that another keeps; NaN where it loses next to nothing."""
    before, after = value(table, without, "kept"), value(table, with_it, "kept")
    lost = (1 - before) * value(table, without, "kept", "n")
    return (after - before) / (1 - before) if lost >= FEWEST_LOST - 0.5 else np.nan


def _scales(table: pd.DataFrame) -> Iterator[Outcome]:
    held, words = _beyond(table, "W16A8", "W16A8 static")
    yield "static is worse", _said(held), f"by token and by tensor {words}"
    static = _returned(table, "W16A8 static -first", "W16A8 static")
    token = _returned(table, "W16A4 -first", "W16A4")
    known = np.isfinite([static, token]).all()
    words = f"brings back {static:.0%} at 8 bits static, {token:.0%} at 4 by token"
    yield (
        "the first token is why",
        _said(static >= RETURNS > token if known else None),
        words.replace("nan%", "nothing"),
    )
    held, words = _beyond(table, "W16A4 rotated", "W16A4")
    yield "rotation helps 4-bit inputs", _said(held), f"with and without {words}"


def _cache(table: pd.DataFrame) -> Iterator[Outcome]:
    held, words = _beyond(table, "K2 channel", "K2")
    yield "keys want their own scale by channel", _said(held), f"2 bits, by channel and by token {words}"
    hurt = damaged(table)
    hurt = hurt[hurt["what"].isin(["keys", "values", "keys and values"])]
    asked = table[table["way"].isin(hurt["way"]) & (table["measure"] == "repair")].set_index("way")["estimate"]
    words = f"{len(asked)} ways, the least {asked.min():.0%} ({asked.idxmin()})" if len(asked) else "none is damaged"
    cured = bool((asked >= BY_NAME["repair"].held_to).all()) if len(asked) else None
    yield "the cache can be repaired at any width", _said(cured), words
    pairs = [("K" + width, "V" + width) for width in "432" if np.isfinite(value(table, "K" + width, "kept"))]
    kept = {way: value(table, way, "kept") for pair in pairs for way in pair}
    refuted = any(_beyond(table, keys, values)[0] for keys, values in pairs)
    dearer = bool(pairs) and all(kept[keys] < kept[values] for keys, values in pairs)
    words = "; ".join(f"{keys} {kept[keys]:.0%}, {values} {kept[values]:.0%}" for keys, values in pairs)
    yield "keys cost more than values at every width", HOLDS if dearer else _said(False if refuted else None), words


def _together(table: pd.DataFrame) -> Iterator[Outcome]:
    """What weights and inputs do together, beside what each does by itself."""
    mode, kept = modes(table), table[table["measure"] == "kept"].set_index("way")
    both = {
        way: (f"W{row['weights']}A16", f"W16A{row['bits']}")
        for way, row in kept.iterrows()
        if row["what"] == "weights and inputs"
    }
    both = {way: parts for way, parts in both.items() if set(parts) <= set(mode.index)}
    worse = {way: min(parts, key=lambda part: kept.loc[part, "estimate"]) for way, parts in both.items()}
    words = "; ".join(f"{way} {mode[way]}, {part} {mode[part]}" for way, part in worse.items()) or "not measured"
    alike = all(mode[way] == mode[part] for way, part in worse.items())
    yield "together, the worse part decides", _said(alike if worse else None), words
    product = {way: float(np.prod([kept.loc[part, "estimate"] for part in parts])) for way, parts in both.items()}
    product = {way: share for way, share in product.items() if share > 0}
    inside = [kept.loc[way, "low"] <= share <= kept.loc[way, "high"] for way, share in product.items()]
    words = "; ".join(f"{way} {kept.loc[way, 'estimate']:.0%}, foretold {share:.0%}" for way, share in product.items())
    yield "losses multiply", _said(all(inside) if inside else None), words or "not measured"


def of_tasks(falls: pd.DataFrame, heads: pd.DataFrame, recall: str) -> pd.DataFrame:
    """The rules about tasks.

    Args:
        falls: of `tasks.falls`; heads: of `tasks.heads`; recall: the source of facts that are recalled.
    """
    full = falls[falls["variant"] == "full"].set_index("task")
    able = [task for task in full.index if task != recall and full.loc[task, "accuracy_low"] > full.loc[task, "floor"]]
    three = falls[falls["bits"] == 3].set_index("task")
    held = all(three.loc[recall, "kept_high"] < three.loc[task, "kept_low"] for task in able) if able else None
    words = ", ".join(f"{task.removeprefix('tasks:')} {three.loc[task, 'kept']:.0%}" for task in [recall, *able])
    rows = [("recall falls first", _said(held), f"kept at 3 bits: {words}")]
    mean = heads.merge(falls[["variant", "bits"]].drop_duplicates(), on="variant").groupby("bits")["score"].mean()
    if len(mean):
        share = mean / mean[16]
        held = bool(share[2] < RETURNS < share[4])
        words = ", ".join(f"{bits} bits {share[bits]:.0%}" for bits in (4, 3, 2))
        count = len(heads[["layer", "head"]].drop_duplicates())
        rows.append(
            ("collapse loses the induction heads", _said(held), f"{count} heads keep of their attention: {words}")
        )
    else:
        rows.append(("collapse loses the induction heads", UNKNOWN, "full precision has none"))
    return pd.DataFrame(rows, columns=["rule", "outcome", "evidence"])


def of_circuit(circuit: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """The rule about induction heads with quantized inputs or cache.

    Args:
        circuit: of `tasks.circuit`; table: of `measures.measure`, which has the same ways.
    """
    few = [value(table, way, "kept") < GONE for way in circuit["way"]]
    held = bool(((circuit["share"] < RETURNS) == few).all()) if len(circuit) else None
    words = "; ".join(f"{row.way} {row.share:.0%}" for row in circuit.itertuples()) or "full precision has none"
    rows = [("the circuit goes where answers go", _said(held), f"heads keep of their attention: {words}")]
    return pd.DataFrame(rows, columns=["rule", "outcome", "evidence"])
