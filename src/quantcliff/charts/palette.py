"""The one place where colours stand: a model, a method, a width, a verdict looks the same in every chart.

Charts ask by the name they show: `color` for one, `scale` for several. `theme.finish` refuses a chart in which a name
has a colour other than its own. Every colour has a contrast of at least 3 against a light and a dark page, and those of
one family stay apart for readers who see no red or no green; tests/charts/test_palette.py computes both.
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import cycle
from numbers import Real
from typing import Any

import altair as alt

BITS = {8: "#1991ca", 4: "#069d5c", 3: "#d47808", 2: "#cd1a2c"}
"""Bit widths."""

BETWEEN = "#6458ce"
"""Widths between 3 and 2 bits."""

METHODS = {"gptq": "#8238fa", "awq": "#5b7d0a", "rtn": "#c748bd"}

MODELS = {"atlas": "#3a86c8", "SmolLM2": "#a8530b"}

FULL = "#676767"
"""Full precision, and the level at which nothing is lost or found."""

FULL_NAME = "full precision"
"""What charts and tables call the model that is not quantized."""

UNROUNDED = 16
"""Bits from which on a weight counts as full precision."""

BLUE, OCHRE, PINK, PLUM = SERIES = ("#2497fd", "#c58801", "#fc51aa", "#983eab")
"""For what is neither a model nor a method nor a width."""

NEUTRAL = BLUE
"""A mark that stands for nothing else."""

CONTROL = "#8d5d2d"
"""What an effect is held against."""

GOOD, LESS, MIXED, BAD, NOTHING = "#018655", "#b75e02", "#655ac1", "#c80e39", "#606672"
"""Readings, verdicts and answers; `LETTERS` stand out from all of them."""

LETTERS = PAPER = "white"

FAMILIES: Mapping[str, Mapping[str, str]] = {
    "widths": {str(bits): color for bits, color in BITS.items()} | {"between": BETWEEN, FULL_NAME: FULL},
    "methods": METHODS | {"full": FULL},
    "healed models": {name: METHODS[name] for name in ("gptq", "rtn")} | {"more bits": CONTROL},
    "methods in words": {"GPTQ": METHODS["gptq"], "rounding": METHODS["rtn"], "control": CONTROL},
    "models": MODELS,
    "models in words": {"the embedded model": MODELS["atlas"], "smollm2": MODELS["SmolLM2"]},
    "training": {"full precision knows": FULL} | {f"kept at {bits} bits": color for bits, color in BITS.items()},
    "facts": {"robust": BLUE, "failure": PINK},
    "rank of the answer": {"rank 1": "#2da0b5", "2 to 5": "#357847", "6 to 100": "#bc8b07", "101 to 1,000": "#945507",
                           "above 1,000": "#fc5273"},
    "patched tokens": {"the last subject token": OCHRE, "the whole subject": PINK, "the last token": BLUE,
                       "all tokens": PLUM},
    "patched parts": {"attention": PLUM, "FFN": PINK, "whole stream": BLUE},
    "donors": {"the right fact": BLUE, "another fact": CONTROL, "another, lost too": OCHRE, "another, as popular": PINK,
               "another, read quantized": PLUM},
    "what is quantized": {"weights": OCHRE, "inputs": PINK, "inputs, static": PINK, "keys and values": BLUE,
                          "cache": BLUE, "cache, KIVI": BLUE},
    "what of attention": {"weights": OCHRE, "inputs": PINK, "keys": PLUM, "values": BLUE},
    "healed facts": {"in the text": BLUE, "never seen": OCHRE},
    "losses": {"answers of facts": BLUE, "running text": OCHRE, "copies": PINK},
    "allocations": {"task": BLUE, "general": OCHRE, "both": PLUM, "even": CONTROL},
    "given": {"nothing": BLUE, "divergence": OCHRE, "all errors": PLUM},
    "facts learned": {"5,000 facts": BLUE, "20,000 facts": OCHRE, "60,000 facts": PLUM},
    "readings": {"intact": GOOD, "degraded": LESS, "collapsed": BAD, "not applicable": NOTHING},
    "verdicts": {"intact": GOOD, "signal degradation": LESS, "mixed": MIXED, "computation collapse": BAD,
                 "format bug": NOTHING},
    "answers": {"yes": GOOD, "no": BAD, "inherited": "#116ef3", "own": "#9e56b3", "not asked": NOTHING},
    "agreement": {"agrees": GOOD, "differs": BAD, "cannot be told": NOTHING},
    "stored weights": {"as rounding explains": NOTHING}
    | dict.fromkeys(("wrong order", "wrong values", "wrong scale", "wrong zero point", "error too large"), BAD),
}  # fmt: skip
"""What stands side by side in a chart: name -> colour."""

NAMES = {name: color for family in FAMILIES.values() for name, color in family.items()}


def color(name: object) -> str | None:
    """The colour of what charts call by this name (a number is a width); None where it has none.

    >>> color(4) == color("4") == BITS[4], color(32) == color("full precision"), color("mine")
    (True, True, None)
    """
    if not isinstance(name, Real):
        return NAMES.get(str(name))
    bits = float(name)
    return FULL if bits >= UNROUNDED else BETWEEN if 2 < bits < 3 else BITS.get(bits)  # type: ignore[call-overload]


def scale(names: Iterable[object]) -> alt.Scale:
    """Every name in its own colour; those that have none take turns with what the others leave of `SERIES`."""
    domain = list(names)
    own = [color(name) for name in domain]
    spare = cycle([one for one in SERIES if one not in own] or SERIES)
    return alt.Scale(domain=domain, range=[one or next(spare) for one in own])


def strays(chart: Any) -> Iterator[str]:
    """Names that have a colour other than their own in a chart, as `to_dict` gives it."""
    if isinstance(chart, list):
        for part in chart:
            yield from strays(part)
    elif isinstance(chart, dict):
        given = chart.get("scale")
        if isinstance(given, dict) and isinstance(given.get("range"), list) and "domain" in given:
            pairs = zip(given["domain"], given["range"], strict=False)
            yield from (str(name) for name, one in pairs if str(one).startswith("#") and color(name) not in (None, one))
        for key, part in chart.items():
            if key not in ("datasets", "config"):
                yield from strays(part)
