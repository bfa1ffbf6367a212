"""What to do next, in sentences: they follow the mode, and every figure in them was measured.

Which steps of the ladder are named was written down before any was run:

- A step *helps* if its whole interval lies above that of the model as it is, on the same prompts.
- *Cheapest*: of the steps that help, the one with the fewest bits, of equal ones that which keeps most.
- *Enough*: of the steps that help and cannot be told from an intact model (the interval reaches `BEST_KEPT`), the one
  with the fewest bits. Where there is none, that which keeps most is named instead.

Healing (training on the bits that the model has) is named by this rule, written down before it was added:

- For computation collapse and mixed verdicts, right after the mode's sentence: there a repair without training has
  little or nothing to work on. For signal degradation protection comes first, so that the ladder alone is named.
- What to expect is what it brought to those models of the book whose own verdict was one of these two
  (`healing.gains`): the least and the most that they kept before and after, with the ends of the intervals. It was not
  measured on the model of the verdict, and the sentence says so.
"""

import pandas as pd

from quantcliff.quantizers.healing import passes
from quantcliff.stages.healing import gains
from quantcliff.stages.verdict import Verdict
from quantcliff.stages.verdict.signals import BEST_KEPT

FOLLOWS = {
    "signal degradation": "A repair has something to work on: give bits back where the steps below say they count.",
    "computation collapse": "A repair without training has nothing to work on. Quantize again with more bits, or train "
    "the weights.",
    "mixed": "A mixed verdict does not say what will help; the steps that were measured do.",
}
"""Mode -> the sentence in front of the ladder's own."""

HEALS = ("computation collapse", "mixed")
"""Modes for which healing is named."""


def advice(verdict: Verdict) -> list[str]:
    """What to do, most pressing first; a sentence or two for each thing."""
    file, found = verdict.file, []
    if file.faults:
        faults = "1 fault" if len(file.faults) == 1 else f"{len(file.faults)} faults"
        found.append(f"Write the file again before anything else: it has {faults}, first {file.faults[0]}.")
        if verdict.n_known:
            found.append("What follows is about the model as it is stored now.")
    if file.origin:
        found.append("Give the model that was quantized as base; until then every difference counts as damage.")
    if not verdict.n_known:
        return found
    if verdict.mode == "intact":
        found += [] if file.faults or file.origin else ["Nothing needs repair."]
    else:
        found += [FOLLOWS[verdict.mode], *_healing(verdict.mode), *_steps(verdict.ladder), *_where(verdict)]
    unsure = verdict.questions[(verdict.questions["answer"] != "not asked") & ~verdict.questions["sure"].astype(bool)]
    if len(unsure):
        names = " ".join(unsure["asks"])
        found.append(f"Not sure, since the interval allows the other answer too: {names}")
    if file.left_out:
        found.append(f"Not measured, so not covered by this advice: {'; '.join(file.left_out)}.")
    return found


def helps(ladder: pd.DataFrame) -> pd.Series:
    """Whether each step keeps more than the model as it is (the first row), beyond chance."""
    return ladder["low"] > ladder["high"].iloc[0]


def _healing(mode: str) -> list[str]:
    if mode not in HEALS:
        return []
    known = gains()
    known = known[known["mode"].isin(HEALS)]
    before, after, most = known["before"], known["after"], int(known["tokens"].max())
    return [
        "To train it layer by layer on the bits it has: `quantcliff heal BASE QUANTIZED OUT`, for packed "
        f"compressed-tensors checkpoints. Not tried on this model; in the book {len(known)} such models at 2 bits kept "
        f"{_range(before.min(), before.max())} of their answers before and {_range(after.min(), after.max())} after "
        f"(intervals from {known['low'].min():.0%} to {known['high'].max():.0%}), with {known['tokens'].min():,} to "
        f"{most:,} tokens of text. It costs as much as {passes()} plain forward passes of this model over it: with "
        f"{most:,} tokens, as much as reading {passes() * most:,} tokens once."
    ]


def _range(low: float, high: float) -> str:
    one, other = f"{low:.0%}", f"{high:.0%}"
    return one if one == other else f"{one} to {other}"


def _steps(ladder: pd.DataFrame) -> list[str]:
    if len(ladder) < 2:
        return []
    asis, good = ladder.iloc[0], helps(ladder)
    if not good.any():
        words = "; ".join(ladder["step"][1:])
        return [f"No step that was measured keeps more than the model as it is, as far as can be told: {words}."]
    order = ladder[good].sort_values(["bits", "kept"], ascending=[True, False], kind="stable")
    cheapest = order.iloc[0]
    found = [
        f"The cheapest step that helps: {cheapest['step']}. It takes {cheapest['bits']:.2f} bits per weight instead of "
        f"{asis['bits']:.2f} and keeps {_kept(cheapest)} of {int(asis['n'])} answers; as it is, {_kept(asis)}."
    ]
    close = order[order["high"] >= BEST_KEPT]
    most = close.iloc[0] if len(close) else order.sort_values("kept", ascending=False, kind="stable").iloc[0]
    start = "Enough to be as good as full precision, as far as can be told" if len(close) else "What keeps most"
    if most.name == cheapest.name:
        found.append(f"{start}: the same step.")
    else:
        found.append(f"{start}: {most['step']}, {most['bits']:.2f} bits per weight, keeps {_kept(most)}.")
    if idle := ladder["step"][1:][~good[1:]].tolist():
        found.append(f"No gain that stands out from chance: {'; '.join(idle)}.")
    return found


def _where(verdict: Verdict) -> list[str]:
    first = {name: layer for name, layer in verdict.first.items() if layer is not None}
    notes = {row.question: row.note for row in verdict.questions.itertuples() if row.answer != "not asked"}
    found = []
    if first:
        words = ", ".join(f"{name} from layer {layer} on" for name, layer in first.items())
        found.append(f"Where to look: half of the signals that tell layers apart read {words}.")
    if "alone" in notes:
        row = verdict.questions.set_index("question").loc["alone"]
        found.append(f"Quantized alone, {notes['alone']}, leaves {row['value']:.0%} of the answers.")
    return found


def _kept(step: pd.Series) -> str:
    return f"{step['kept']:.0%} ({step['low']:.0%} to {step['high']:.0%})"
