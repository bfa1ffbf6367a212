"""Every linear layer of a quantized model beside the base's: groups that look odd, whether they do harm, in words."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

from quantcliff.errors import InputError
from quantcliff.filecheck.groups import KINDS, compare, excess, faults
from quantcliff.filecheck.harm import PLAIN, Trial, try_out
from quantcliff.models import Model, infer, layer_of, linears
from quantcliff.quantizers import CHAINS, unsmoothed

ALIKE = 0.9
"""Cosine that the two models' embeddings must have, at 4 bits still 0.99; unrelated or rotated ones have about 0."""

ROWS = 4096
"""Rows of the embeddings that are compared at a time."""


def inspect(
    base: Model, quantized: Model, stated: dict[str, Any], prompts: Sequence[Sequence[int]] = ()
) -> pd.DataFrame:
    """Every linear layer of a quantized model beside the base's, one row each.

    Args:
        stated: bits, group_size, symmetric and mixed, as `levels.quantization_of` reads them. Where layers differ in
            bits (mixed), those of each module are read off its weights.
        prompts: token ids on which modules are run, to tell harm from what only looks odd (`harm`). Without any, every
            odd group counts as faulty.

    Returns:
        layer, module, stored_bits, groups (their number), excess, match, match_rounded, stretch, shift (medians over
        groups); error_ratio, error_ratio_own (`harm.Outcome`; NaN without prompts); odd (number of groups that look
        odd); fault (a key of `KINDS`, or ""), faulty (number of such groups), detail (in words); harmless (odd groups
        that do no harm, in words).

    Raises:
        InputError: the embeddings have nothing in common, so this is not the base of that model.
    """
    check_base(base, quantized)
    exact = unsmoothed(quantized, base)
    here, there = dict(exact.hf.named_parameters()), dict(quantized.hf.named_parameters())
    rows, trials, seen = {}, {}, {}
    for name in linears(base.hf.config):
        w, q = (parameters[f"{name}.weight"].detach().double().cpu() for parameters in (here, there))
        bits, size = stated["bits"], stated["group_size"]
        if stated["mixed"]:
            bits, size = infer(q) or (8, size)
        size = w.shape[1] if size == -1 or w.shape[1] % size else size
        symmetric = bool(stated["symmetric"])
        groups = compare(w.reshape(-1, size), q.reshape(-1, size), bits, symmetric)
        kind, belongs = faults(groups, w.reshape(-1, size), q.reshape(-1, size))
        odd = np.flatnonzero(kind != "")
        place = {"layer": layer_of(name), "module": name.split(f".{layer_of(name)}.", 1)[1], "stored_bits": bits}
        rows[name] = place | _summary(groups)
        seen[name] = groups.iloc[odd].assign(kind=kind.iloc[odd], belongs=pd.Series(belongs, dtype="Int64"))
        plain = abs(excess(groups[kind == ""]) - 1) < PLAIN
        exact_weight, stored_weight = (parameters[f"{name}.weight"].detach() for parameters in (here, there))
        displaced = (kind.iloc[odd] == "order").to_numpy()
        trials[name] = Trial(exact_weight, stored_weight, bits, size, symmetric, odd, displaced, plain)
    outcomes = try_out(exact.hf, quantized.hf, trials, prompts) if prompts else {}
    for name, row in rows.items():
        trial, groups, outcome = trials[name], seen[name], outcomes.get(name)
        harmful = outcome.harmful if outcome else np.ones(len(groups), dtype=bool)
        row |= {"error_ratio": outcome.ratio if outcome else np.nan}
        row |= {"error_ratio_own": outcome.ratio_own if outcome else np.nan, "odd": len(groups)}
        row |= _found(groups[harmful], row["groups"], trial.exact.shape[1] // trial.size)
        row["harmless"] = _found(groups[~harmful], row["groups"], trial.exact.shape[1] // trial.size)["detail"]
        if row["fault"] == "scale" and exact is not base:
            row["detail"] += _twin(row["module"])
    return pd.DataFrame(list(rows.values()))


def check_base(base: Model, quantized: Model) -> None:
    """Raises InputError where the embeddings of the two models have nothing in common."""
    both = [model.hf.get_input_embeddings().weight.detach() for model in (base, quantized)]
    sums = torch.zeros(3, dtype=torch.float64)
    for rows in zip(*(weight.split(ROWS) for weight in both), strict=True):
        one, other = (part.double().cpu() for part in rows)
        sums += torch.stack([(one * other).sum(), one.pow(2).sum(), other.pow(2).sum()])
    cosine = float(sums[0] / (sums[1] * sums[2]).sqrt())
    if cosine < ALIKE:
        raise InputError(
            f"{quantized.name} was not made from {base.name}: their embeddings have a cosine of {cosine:.2f}; give the "
            "model that was quantized (a rotated one cannot be compared)"
        )


def _summary(groups: pd.DataFrame) -> dict[str, Any]:
    medians = {name: float(groups[name].median()) for name in ("match", "match_rounded", "stretch", "shift")}
    return {"groups": len(groups), "excess": excess(groups), **medians}


def _found(odd: pd.DataFrame, n_groups: int, per_row: int) -> dict[str, Any]:
    """fault, faulty and detail of a module with these odd groups; only the first kind is told."""
    found = [name for name in KINDS if (odd["kind"] == name).any()]
    if not found:
        return {"fault": "", "faulty": 0, "detail": ""}
    name = found[0]
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


def _twin(module: str) -> str:
    """AWQ moves scales between two linear layers, so that from the weights alone either may be the wrong one."""
    others = [first if second == module else second for first, second in CHAINS if module in (first, second)]
    return f", or else those of {others[0]}, with which AWQ shares its scales" if others else ""


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
