"""The paper's claims, one row each: published, measured here, and what `rules` makes of it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from quantcliff.stages.mixture import blends, modes, ranking
from quantcliff.stages.mixture.arms import COMPOSED
from quantcliff.stages.mixture.ranking import FAILS, HOLDS, UNKNOWN
from quantcliff.stages.mixture.rules import (
    AHEAD,
    COPY_POINT,
    EDGE,
    MAIN,
    NEAR,
    POINT,
    TEXT_POINT,
)
from quantcliff.stages.mixture.sensitivity import ALONE, DUAL
from quantcliff.stats import Interval

ENOUGH = 0.9

ALONE_HURTS = "Calibrating on the {} alone hurts the task (loss of answers beyond alpha 0.5, nats)"

NOT_MEASURED = "not measured"

BITS = 3
"""Width at which rankings are compared."""

Tables = Mapping[str, pd.DataFrame]


@dataclass(frozen=True)
class Finding:
    """One claim: in words, as published, as measured here, and the outcome."""

    claim: str
    published: str
    here: str
    outcome: str


def of_model(tables: Tables, model: str) -> dict[str, pd.DataFrame]:
    """The rows of one model."""
    return {name: table[table["model"] == model].reset_index(drop=True) for name, table in tables.items()}


def findings(tables: Tables) -> list[Finding]:
    """All claims, also those that one model's tables say nothing about."""
    sections = (rankings, mixtures, allocations, matches, sums, kinds)
    return [one for section in sections for one in section(tables)]


def said(found: Interval, form: str = "{:.2f}") -> str:
    """An interval in words."""
    return f"{form.format(found.estimate)} ({form.format(found.low)} to {form.format(found.high)})"


def _outcome(held: bool | np.bool) -> str:
    return HOLDS if held else FAILS


def rankings(tables: Tables) -> Iterator[Finding]:
    """Do two signals put the units in one order?"""
    table = tables["sensitivity"]
    task, general = (ranking.signal(table, name, BITS, ALONE) for name in ("facts", "text"))
    tau, splits = ranking.agreement(general, task), ranking.halved(general, task)
    yield Finding(
        "General loss and task rank the units differently (tau about 0)", "-0.08 (p 0.53)",
        f"{said(tau)}; halves {splits['cross'].mean():.2f}, ceiling {splits['ceiling'].mean():.2f}",
        ranking.illusion(tau, splits),
    )  # fmt: skip
    yield _in_context(table, general)
    layers = table[table["unit"] != ""].drop_duplicates("unit")
    last = layers["layer"].max()
    size = max(1, round(EDGE * (last + 1)))
    edge = ((layers["layer"] < size) | (layers["layer"] > last - size)).to_numpy()
    weights = layers["weights"][edge].sum() / layers["weights"].sum()

    def more(one: np.ndarray, other: np.ndarray) -> float:
        return ranking.edge_share(one.mean(0), edge) - ranking.edge_share(other.mean(0), edge)

    beyond = ranking.resampled(more, general, task)
    own = ranking.edge_share(general.mean(0), edge)
    here = f"first and last eighth: general {own:.0%}, beyond the task {said(beyond, '{:+.0%}')}; weights {weights:.0%}"
    yield Finding(
        "General loss is sensitive at both ends of the network, the task in the middle", "said, no figure", here,
        _outcome(bool(beyond.low > 0) and own > weights),
    )  # fmt: skip
    claim = "Alone and all-but-it rank the units differently (task)", "contested elsewhere"
    if not (table["way"] == DUAL).any():
        yield Finding(*claim, NOT_MEASURED, UNKNOWN)
    else:
        dual = -ranking.signal(table, "facts", BITS, DUAL)
        pair = ranking.halved(task, dual)
        below = (pair["cross"] < NEAR * pair["ceiling"]).mean()
        yield Finding(
            *claim,
            f"halves {pair['cross'].mean():.2f}, ceiling {pair['ceiling'].mean():.2f}",
            UNKNOWN if pair["ceiling"].mean() < ranking.CEILING else _outcome(below >= ranking.SURE),
        )  # fmt: skip


def _in_context(table: pd.DataFrame, general: ranking.Signal) -> Finding:
    """The first claim, of a task that the prompt itself teaches."""
    claim = "General loss and an in-context task (copying) rank the units differently", "-0.08 (p 0.53), reasoning"
    copied = ranking.signal(table, "copies", BITS, ALONE)
    if np.isnan(copied).any():
        return Finding(*claim, "full precision does not copy", UNKNOWN)
    tau, splits = ranking.agreement(general, copied), ranking.halved(general, copied)
    return Finding(
        *claim, f"{said(tau)}; halves {splits['cross'].mean():.2f}, ceiling {splits['ceiling'].mean():.2f}",
        ranking.illusion(tau, splits),
    )  # fmt: skip


def mixtures(tables: Tables) -> Iterator[Finding]:
    """What to calibrate on."""
    criteria = tables["criteria"]
    best = criteria["alpha"].iloc[int(criteria["to_task"].argmax())]
    yield Finding(
        "The cosine with the task's traces chooses a mixture", "0.5 and 0.75 general text",
        f"{best:g}; off the straight line by {(criteria['to_task'] - criteria['foretold']).abs().max():.4f} at most",
        _outcome(best not in (0.0, 1.0)),
    )  # fmt: skip
    pairs = tables["blend_pairs"]
    for alpha, words, published in ((0.0, "task", "68.3 and 74.1 against 68.9 and 74.1"),
                                    (1.0, "general text", "66.8 and 72.5 against 68.9 and 74.1")):  # fmt: skip
        if not len(pairs):
            yield Finding(ALONE_HURTS.format(words), published, NOT_MEASURED, UNKNOWN)
            continue
        rows = pairs[(pairs["alpha"] == alpha) & (pairs["measure"] == "facts")].set_index("bits")
        here = "; ".join(f"{bits} bits {said(_interval(row), '{:+.3f}')}" for bits, row in rows.iterrows())
        yield Finding(ALONE_HURTS.format(words), published, here, _outcome((rows["low"] > 0).any()))
    for bits, measured in tables["blends"].groupby("bits", sort=False):
        p, mu = blends.matters(measured, "facts"), blends.chosen_mu(criteria, measured)
        order = blends.order(criteria, measured, mu)
        held = blends.tried(criteria, measured)
        best = held["alpha"].iloc[int(blends.scored(held, mu).argmax())]
        oracle = blends.loss(measured).idxmin()
        yield Finding(
            f"The repaired criterion finds a good mixture ({bits} bits)", "-",
            f"chooses {best:g} (mu {mu:g}), best {oracle:g}; tau {order:.2f}; mixtures differ beyond draws: p {p:.3f}",
            UNKNOWN if p >= 0.05 else _outcome(order > 0.5),
        )  # fmt: skip
    if not len(tables["blends"]):
        yield Finding("The repaired criterion finds a good mixture", "-", NOT_MEASURED, UNKNOWN)


def _interval(row: pd.Series) -> Interval:
    return Interval(row["estimate"], row["low"], row["high"])


def pair(tables: Tables, against: str, measure: str, budget: float = MAIN) -> Interval:
    """`both` less another arm; NaN where that was not made."""
    rows = tables["pairs"]
    here = (
        (rows["against"] == against) & (rows["measure"] == measure) & (rows["budget"] == budget) & (rows["draw"] == 0)
    )
    return _interval(rows[here].iloc[0]) if here.any() else Interval(np.nan, np.nan, np.nan)


def beats(tables: Tables, against: str, budget: float = MAIN) -> str:
    """Whether `both` "beats" another, "ties" or "loses", as the rule has it."""
    kept, text = pair(tables, against, "kept", budget), pair(tables, against, "text", budget)
    if kept.low > 0 and text.low <= 0:
        return "beats"
    return "loses" if kept.high < 0 and text.high >= 0 else "ties"


def ahead(tables: Tables, of: str, random: str, measure: str) -> tuple[int, int]:
    """Random draws that an arm is ahead of at the main budget, all put together alike, and how many there are."""
    arms = tables["arms"]
    main = arms[arms["budget"] == MAIN].set_index("arm")
    if random not in main.index:
        return 0, 0
    alike = of + COMPOSED if of + COMPOSED in main.index else of
    own, others = float(main.loc[alike, measure]), np.atleast_1d(main.loc[random, measure])
    return int(((own > others) if measure == "kept" else (own < others)).sum()), len(others)


def allocations(tables: Tables) -> Iterator[Finding]:
    """Equal bits, differently spent."""
    published = {
        "general": "66.8 against 63.3", "task": "-", "even": "-", "dual": "-",
        "fisher": "-", "first": "-", "last": "-",
    }  # fmt: skip
    for name, words in published.items():
        kept, text = pair(tables, name, "kept"), pair(tables, name, "text")
        if np.isnan(kept.estimate):
            yield Finding(f"Both sensitivities beat {NAMES[name]}", words, NOT_MEASURED, UNKNOWN)
            continue
        result = beats(tables, name)
        here = f"answers {said(kept, '{:+.1%}')}, general loss {said(text, '{:+.3f}')}: {result}"
        yield Finding(f"Both sensitivities beat {NAMES[name]}", words, here, _outcome(result == "beats"))
    for name in ("random", "shuffled"):
        counts = {measure: ahead(tables, "both", name, measure) for measure in ("facts", "text")}
        words = "66.8 against 65.4" if name == "random" else "-"
        if not (n := counts["facts"][1]):
            yield Finding(f"Both sensitivities beat {NAMES[name]}", words, NOT_MEASURED, UNKNOWN)
        else:
            here = f"ahead of {counts['facts'][0]} of {n} in loss of answers, of {counts['text'][0]} in general loss"
            held = min(count for count, _ in counts.values()) >= AHEAD
            yield Finding(f"Both sensitivities beat {NAMES[name]}", words, here, _outcome(held))
    fewer, n = ahead(tables, "general", "random", "kept")
    here = f"keeps fewer answers than {n - fewer} of {n}" if n else NOT_MEASURED
    yield Finding(
        "General loss alone is worse than a random allocation", "63.3 against 65.4", here,
        _outcome(n - fewer >= AHEAD) if n else UNKNOWN,
    )  # fmt: skip


NAMES = {
    "general": "general loss alone", "task": "the task alone", "even": "an even spread", "dual": "the dual",
    "fisher": "Fisher information", "first": "the first layers", "last": "the last layers",
    "random": "random allocations", "shuffled": "the same widths on other units of the same size",
}  # fmt: skip
"""What an arm is called."""


def matches(tables: Tables) -> Iterator[Finding]:
    """Do 3.5 bits match 4?"""
    marks = {"kept": ("answers", -POINT, "{:+.1%}"), "text": ("general loss", TEXT_POINT, "{:+.3f}"),
             "copies": ("copying", COPY_POINT, "{:+.3f}")}  # fmt: skip
    published = {"gptq": "-", "awq": "68.9 against 69.4, perplexity 8.72 against 7.90", "rtn": "68.9 against 67.9"}
    for method, words in published.items():
        for measure, (name, mark, form) in marks.items():
            found = pair(tables, f"{method}, 4 bits", measure)
            claim, figures = f"3.5 bits match {method} at 4 bits: {name}", words if measure == "kept" else "-"
            if np.isnan(found.estimate):
                yield Finding(claim, figures, NOT_MEASURED, UNKNOWN)
                continue
            found = found if measure == "kept" else Interval(-found.estimate, -found.high, -found.low)
            outcome = HOLDS if found.low >= -abs(mark) else FAILS if found.high < 0 else UNKNOWN
            yield Finding(claim, figures, f"better by {said(found, form)}", outcome)


def sums(tables: Tables) -> Iterator[Finding]:
    """Does what units cost alone add up?"""
    arms = tables["arms"]
    mixed = arms[arms["budget"].notna() & arms["predicted_facts"].notna() & arms["chosen_facts"].notna()]
    for name in ("facts", "text"):
        ratio = mixed[f"chosen_{name}"] / mixed[f"predicted_{name}"]
        order = spearmanr(mixed[f"chosen_{name}"], mixed[f"predicted_{name}"]).statistic
        inside = ratio.between(NEAR, 1 / NEAR).mean()
        span = f"{ratio.median():.2f} ({ratio.min():.2f} to {ratio.max():.2f})"
        here = f"measured over foretold {span}, {inside:.0%} near 1; order {order:.2f}"
        words = "answers" if name == "facts" else "general loss"
        yield Finding(f"What units cost alone adds up ({words})", "assumed", here, _outcome(inside >= ENOUGH))
        yield Finding(f"What units cost alone orders models ({words})", "assumed", here, _outcome(order > ENOUGH))


def spared(tables: Tables) -> pd.DataFrame:
    """`modes.coordinates` of `both` at the main budget."""
    rows = tables["widths"]
    chosen = rows[(rows["arm"] == "both") & (rows["budget"] == MAIN)]
    return modes.coordinates(tables["sensitivity"], dict(zip(chosen["unit"], chosen["bits"], strict=True)))


def kinds(tables: Tables) -> Iterator[Finding]:
    """What is it that is spared?"""
    found = spared(tables)
    worst = found.loc[found["kappa"].idxmin()]
    yield Finding(
        "No unit collapses alone at 2 bits", "-",
        f"least contraction {worst['kappa']:.2f} (unit {worst['unit']}, keeps {worst['kept']:.0%})",
        _outcome(found["kappa"].min() > 0.5),
    )  # fmt: skip
    by = modes.differ(found).set_index("coordinate")
    noisy = by.loc["source_snr", "p"] < 0.05 and by.loc["source_snr", "spared"] < by.loc["source_snr", "others"]
    used = by.loc["facts", "p"] < 0.05 and by.loc["facts", "spared"] > by.loc["facts", "others"]
    named = {"source_snr": "source SNR, dB", "facts": "loss alone, nats"}
    figures = "; ".join(
        f"{words} {by.loc[name, 'spared']:.2f} against {by.loc[name, 'others']:.2f}, p {by.loc[name, 'p']:.3f}"
        for name, words in named.items()
    )
    yield Finding("What is spared is noisy", "-", figures, _outcome(noisy))
    yield Finding("What is spared is not noisy but used", "-", figures, _outcome(used and not noisy))
