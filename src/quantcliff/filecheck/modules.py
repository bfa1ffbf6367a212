"""Every linear layer of a quantized model beside the base's: groups that look odd, whether they do harm, in words."""

from collections.abc import Collection, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Int
from torch import Tensor

from quantcliff.filecheck.groups import KINDS, MATCH, compare, excess, faults
from quantcliff.filecheck.harm import PLAIN, Outcome, Trial, try_out
from quantcliff.filecheck.matrices import matrices
from quantcliff.models import Model, column_order, infer, layer_of, lies_on, linears
from quantcliff.quantizers import Link, links, unsmoothed

RAISED = 1.5
"""A module whose output is this many times as wrong as with plain rounding is at fault even where no group tells why:
on full precision's inputs and on its own. GPTQ at its worst, in a module with a massive activation, is at 1.1."""


def inspect(
    base: Model, quantized: Model, stated: dict[str, Any], prompts: Sequence[Sequence[int]] = ()
) -> pd.DataFrame:
    """Every linear layer and expert of a quantized model beside the base's, one row each.

    Args:
        stated: bits, group_size, symmetric, mixed and perhaps kind, as `levels.quantization_of` reads them. Where
            layers differ in bits (mixed), those of each module are read off its weights, first among its `grids`.
        prompts: token ids on which modules are run, to tell harm from what only looks odd (`harm`). Without any, every
            odd group counts as faulty.

    Returns:
        layer, module, stored_bits, groups (their number), excess, match, match_rounded, stretch, shift (medians over
        groups); error_ratio, error_ratio_own (`harm.Outcome`; NaN without prompts); odd (number of groups that look
        odd); fault (a key of `KINDS`, or ""), faulty (number of such groups), detail (in words); harmless (odd groups
        that do no harm, in words).
    """
    exact = unsmoothed(quantized, base, rounded=False)
    here, there = dict(matrices(exact.hf)), dict(matrices(quantized.hf))
    rows: dict[str, dict[str, Any]] = {}
    trials, seen = {}, {}
    for name in here:
        trials[name], groups, kind, belongs = _look(here[name], there[name], stated)
        odd = trials[name].odd
        seen[name] = groups.iloc[odd].assign(kind=kind.iloc[odd], belongs=pd.Series(belongs, dtype="Int64"))
        place = {"layer": layer_of(name), "module": name.split(f".{layer_of(name)}.", 1)[1]}
        rows[name] = place | {"stored_bits": trials[name].bits} | _summary(groups)
    layers = set(linears(base.hf.config))
    tried = {name: trial for name, trial in trials.items() if name in layers}
    outcomes = try_out(exact.hf, quantized.hf, tried, prompts) if prompts else {}
    for name, row in rows.items():
        row |= _judged(trials[name], seen[name], row, outcomes.get(name), stacked=name not in layers)
        if row["fault"] == "scale" and exact is not base:
            row["detail"] += _twin(name, links(base.hf), layers)
    return pd.DataFrame(list(rows.values()))


def _look(
    exact: Tensor, stored: Tensor, stated: dict[str, Any]
) -> tuple[Trial, pd.DataFrame, pd.Series, dict[int, int]]:
    """A module's trial, its groups, what looks odd about each, and where the weights of displaced ones belong."""
    w, q = (weight.float().cpu() for weight in (exact, stored))
    bits, size, symmetric = stated["bits"], stated["group_size"], bool(stated["symmetric"])
    levels = stated.get("kind", "int")
    order = None
    if stated.get("ordered") and (found := column_order(stored.cpu())):
        order, size = found
        w, q = w[:, order], q[:, order]
    if stated["mixed"]:
        named = next((grid for grid in stated.get("grids", ()) if lies_on(q, *grid[:2])), None)
        even = infer(q, stated.get("precision", 0.0)) if named is None else named[:2]
        bits, size, levels = (*even, "int") if even else (8, size, levels)
        symmetric = symmetric if named is None else named[2]
    size = w.shape[1] if size == -1 or w.shape[1] % size else size
    exact, stored = (x if order is None else x[:, order.to(x.device)] for x in (exact, stored))
    w, q = w.reshape(-1, size), q.reshape(-1, size)
    groups = compare(w, q, bits, symmetric, levels)
    kind, belongs = faults(groups, w, q, symmetric)
    odd: Int[np.ndarray, " odd"] = np.flatnonzero(kind != "")
    plain = bool(groups.loc[kind == "", "same"].mean() > PLAIN)
    poor = (groups["match"] < MATCH * groups["match_rounded"]).tolist()
    displaced = np.isin(odd, [group for group, home in belongs.items() if poor[home]])
    return Trial(exact, stored, bits, size, symmetric, odd, displaced, plain, order, levels), groups, kind, belongs


def _judged(
    trial: Trial, odd: pd.DataFrame, row: dict[str, Any], outcome: Outcome | None, stacked: bool
) -> dict[str, Any]:
    """What is said of a module with these odd groups.

    Where it was not run, all of them count; those of a stacked expert, which never is run, if they are the most part.
    """
    n, per_row = row["groups"], trial.exact.shape[1] // trial.size
    harmful = np.full(len(odd), not stacked or len(odd) > n / 2) if outcome is None else outcome.harmful
    found = _found(odd[harmful], n, per_row)
    ratios = (outcome.ratio, outcome.ratio_own) if outcome else (np.nan, np.nan)
    if not found["fault"] and min(ratios) > RAISED:
        detail = f"the weights {KINDS['error']}: its output is {min(ratios):.1f} times as wrong as with plain rounding"
        found = {"fault": "error", "faulty": n, "detail": detail}
    harmless = _found(odd[~harmful], n, per_row)["detail"]
    return {"error_ratio": ratios[0], "error_ratio_own": ratios[1], "odd": len(odd), **found, "harmless": harmless}


def _summary(groups: pd.DataFrame) -> dict[str, Any]:
    medians = {name: float(groups[name].median()) for name in ("match", "match_rounded", "stretch", "shift")}
    return {"groups": len(groups), "excess": excess(groups), **medians}


def _found(odd: pd.DataFrame, n_groups: int, per_row: int) -> dict[str, Any]:
    """fault, faulty and detail of a module with these odd groups; only the kind that most of them have is told."""
    if odd.empty:
        return {"fault": "", "faulty": 0, "detail": ""}
    name = max(KINDS, key=lambda kind: int((odd["kind"] == kind).sum()))
    bad = odd[odd["kind"] == name]
    where = "; ".join(_words(name, group, bad.loc[group], per_row) for group in list(bad.index)[:2])
    more = ", ..." if len(bad) > 2 else ""
    detail = f"{len(bad)} of {n_groups} groups {KINDS[name]} ({where}{more})"
    return {"fault": name, "faulty": len(bad), "detail": detail}


def _words(kind: str, group: int, row: pd.Series, per_row: int) -> str:
    def place(index: int) -> str:
        return f"row {index // per_row}" + (f" group {index % per_row}" if per_row > 1 else "")

    numbers = {
        "values": f"correlation {row['match']:.2f}, rounding leaves {row['match_rounded']:.2f}",
        "scale": f"{row['stretch']:.3g} times the size",
        "zero point": f"{row['shift']:+.1f} steps off",
    }
    return f"{place(group)}: " + (f"those of {place(int(row['belongs']))}" if kind == "order" else numbers[kind])


def _twin(name: str, found: Sequence[Link], layers: Collection[str]) -> str:
    """AWQ moves scales between two linear layers, so that from the weights alone either may be the wrong one."""
    pairs = [(link.first, reader) for link in found for reader in link.readers if link.first in layers]
    others = [first if second == name else second for first, second in pairs if name in (first, second)]
    short = [other.split(f".{layer_of(other)}.", 1)[1] for other in others]
    return f", or else those of {short[0]}, with which AWQ shares its scales" if short else ""


def faulty(table: pd.DataFrame) -> Iterator[str]:
    """One sentence per faulty module of a table of `inspect`, in layer order."""
    for row in table[table["fault"] != ""].itertuples():
        yield f"layer {row.layer}, {row.module}: {row.detail}"


def harmless(table: pd.DataFrame) -> Iterator[str]:
    """One sentence per module with odd groups that do no harm."""
    for row in table[table["harmless"] != ""].itertuples():
        yield (
            f"layer {row.layer}, {row.module}: {row.harmless}, odd and harmless: the error of the layer's output is "
            f"{row.error_ratio_own:.2f} times that of plain rounding"
        )
