"""Healing SmolLM2 at 2 bits in groups of 64, on text that it writes itself. Made for a GPU: minutes there.

Written down before any of it was run, and left as it was written. The first half sentence about rates proved wrong:
none of all pairs that were tried made a loss rise, and the embedded model's was the best.

- *Rates.* The embedded model's make the loss of SmolLM2's layers rise, so rates are chosen once, for plain rounding,
  and used for every arm: of `RATES` for scales and zero points, and for weights, the pair with the least mean over the
  layers `TRIED` of log(loss kept / loss before), where loss is the normalised one on held-out sequences and a recipe of
  which no epoch is kept counts 0. `TRIED_ON` sequences, each layer given full precision's own stream. Of pairs that
  tie, the smaller rates.
- *Healing works* if the interval of the share of answers kept lies above that of the model as it is.
- *It needs the right target*, *it needs weights*: as for the embedded model (`trials`), on all facts.
- *More text heals more* if every step of the curve raises the share kept.
- What is asked are facts that SmolLM2 knows; its own text names some of them, so that there is no held-out half here;
  `named` tells those apart.
"""

from dataclasses import replace
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import pandas as pd

from quantcliff import smollm2, tables
from quantcliff.errors import InputError
from quantcliff.quantizers import healing
from quantcliff.quantizers.healing import Recipe
from quantcliff.stages.healing import named
from quantcliff.stages.healing.beside import beside
from quantcliff.stages.healing.edition import row
from quantcliff.stages.healing.text import TOKENS, own_documents
from quantcliff.stages.healing.trials import AS_IT_IS, CONTROLS, Arm, checkpoint, measure
from quantcliff.study import Study

FOLDER = Path(__file__).parent / "tables" / "smollm2"

METHODS = ("rtn", "gptq")
RATES = (0.01, 0.003, 0.001, 0.0003)
TRIED, TRIED_ON = (0, 10, 20), 512

CURVE, EQUAL = (2048, 128, 512, 8192), 2048
"""Sequences of 64 tokens of the learning curve, in the order in which they are made; and those of the controls."""

N_FACTS, N_DIAGNOSED, N_PROMPTS = 2390, 600, 80
"""Facts asked, all that it knows; those of a verdict; and prompts where a signal costs much per prompt."""


def study(method: str, run: Path, device: str, n_facts: int = N_FACTS) -> Study:
    return Study("smollm2", method=method, bits="2", group_size=64, facts="smollm2", n_facts=n_facts,
                 calibration="self:64x256", run=run, device=device)  # fmt: skip


def sweep(run: Path, device: str) -> pd.DataFrame:
    """Every pair of rates on every layer tried -> RUN/rates.parquet, made once.

    Returns:
        lr_grid, lr_weight, layer, and by epoch the columns of `fit`: epoch, plain, normalised, moved, kept.
    """
    file = run / "rates.parquet"
    if not file.is_file():
        own = study("rtn", run, device)
        (label,) = own.variants
        recipes = [Recipe(lr_grid=grid, lr_weight=weight) for grid, weight in product(RATES, RATES)]
        rows = healing.tried(
            smollm2.NAME, own.variant(label).path, own_documents(smollm2.NAME, TRIED_ON), recipes, TRIED,
            tokens=TOKENS, sequences=TRIED_ON, device=own.parameters.device,
        )  # fmt: skip
        found = pd.DataFrame(rows)
        pairs = [recipes[int(number)] for number in found.pop("recipe")]
        found.insert(0, "lr_weight", [recipe.lr_weight for recipe in pairs])
        found.insert(0, "lr_grid", [recipe.lr_grid for recipe in pairs])
        tables.write(found, file)
    return tables.read(file)


def chosen(found: pd.DataFrame) -> Recipe:
    """The recipe that the rule of this module chooses from a `sweep`."""
    keys = ["lr_grid", "lr_weight", "layer"]
    before = found[found["epoch"] == 0].set_index(keys)["normalised"]
    after = found[found["kept"] == 1].set_index(keys)["normalised"]
    score = np.log(after / before).groupby(level=["lr_grid", "lr_weight"]).mean().sort_index()
    grid, weight = score.idxmin()
    return Recipe(lr_grid=float(grid), lr_weight=float(weight))


def arms(method: str, recipe: Recipe) -> list[Arm]:
    """All arms of a method, in the order in which they are made: controls for plain rounding alone."""
    curve = [Arm("healed", n, recipe) for n in CURVE]
    controls = [Arm(name, EQUAL, replace(recipe, **CONTROLS[name])) for name in ("scales only", "wrong target")]  # type: ignore[arg-type]
    return [AS_IT_IS, *curve[:1], *(controls if method == "rtn" else []), *curve[1:]]


def make(run: Path, device: str, method: str, only: tuple[str, ...] = ()) -> pd.DataFrame:
    """`measure` of a method's arms in RUN, rates chosen first; a killed run goes on from where it was.

    Args:
        only: `"healed 128"`, `"as it is 0"`, ... for some arms; all where none is given.
    """
    recipe = chosen(sweep(run, device))
    tried = [arm for arm in arms(method, recipe) if not only or f"{arm.name} {arm.sequences}" in only]
    return measure(study(method, run / method, device), tried)


def diagnosed(run: Path, device: str, method: str, name: str, sequences: int) -> pd.DataFrame:
    """`beside` of one arm, whose model is made where it is not there; the column `model` holds method and arm."""
    own = study(method, run / method, device)
    (label,) = own.variants
    (arm,) = (a for a in arms(method, chosen(sweep(run, device))) if (a.name, a.sequences) == (name, sequences))
    folder = checkpoint(own, label, arm)
    few = study(method, run / method, device, N_DIAGNOSED)
    return beside(few, {model_of(method, name, sequences): folder}, N_PROMPTS)


def model_of(method: str, name: str, sequences: int) -> str:
    """What the column `model` of `diagnosed` calls an arm: `"rtn, healed 2048"`, `"rtn, as it is"`."""
    return f"{method}, {name} {sequences}" if sequences else f"{method}, {name}"


def was_read(run: Path, device: str) -> pd.DataFrame:
    """`named.measure` of plain rounding healed on `EQUAL` sequences."""
    return named.measure(study("rtn", run / "rtn", device), Arm("healed", EQUAL, chosen(sweep(run, device))))


def collected(run: Path) -> dict[str, pd.DataFrame]:
    """The tables in RUN as they ship: rates, healing (arms of both methods, in the order of `arms`), and, where they
    were measured, beside (`diagnosed` of all models) and named (`was_read`).

    Raises:
        InputError: a table is missing, or an arm lies there twice, made by two versions of the code.
    """
    found = {"rates": tables.read(run / "rates.parquet")}
    files = [file for method in METHODS for file in sorted((run / method / "healing").glob("*.parquet"))]
    made = [tables.read(file) for file in files]
    if not made:
        raise InputError(f"{run} holds no arm of {' or '.join(METHODS)}; run `quantcliff smollm2 heal {run}` first")
    order = [(method, one.name, one.sequences) for method in METHODS for one in arms(method, chosen(found["rates"]))]
    keys = [_key(table) for table in made]
    if twice := {key for key in keys if keys.count(key) > 1}:
        raise InputError(f"{run} holds tables of two versions of the arm {' '.join(map(str, min(twice)))}; delete one")
    made.sort(key=lambda table: order.index(_key(table)))
    found["healing"] = pd.concat(made, ignore_index=True)
    judged = [
        pd.concat([tables.read(folder / f"{name}.parquet") for name in ("verdict", "attention")]).assign(
            model=model_of(*_arm_of(method, folder.name))
        )
        for method in METHODS
        for folder in sorted((run / method / "beside").glob("*"), key=lambda path: _arm_of(method, path.name)[2])
    ]
    if judged:
        whole = pd.concat(judged, ignore_index=True)
        found["beside"] = whole[["model", *(column for column in whole if column != "model")]]
    if (file := run / "rtn" / f"{named.NAME}.parquet").is_file():
        found["named"] = tables.read(file)
    return found


def missing(found: pd.DataFrame, recipe: Recipe) -> list[str]:
    """Arms of the plan that a table `healing` has not, in words."""
    there = set(found[["method", "arm", "sequences"]].itertuples(index=False, name=None))
    planned = [(method, arm.name, arm.sequences) for method in METHODS for arm in arms(method, recipe)]
    return [model_of(*one) for one in planned if one not in there]


def _key(table: pd.DataFrame) -> tuple[str, str, int]:
    first = table.iloc[0]
    return str(first["method"]), str(first["arm"]), int(first["sequences"])


def _arm_of(method: str, folder: str) -> tuple[str, str, int]:
    """Method, arm and sequences of a checkpoint, by the name that `checkpoint` gives its folder."""
    *words, _ = folder.removeprefix(f"{method}-2bit-g64-").split("-")
    return (method, " ".join(words[:-1]), int(words[-1])) if words else (method, AS_IT_IS.name, AS_IT_IS.sequences)


def rules(healing: pd.DataFrame, told: pd.DataFrame | None = None) -> dict[str, bool]:
    """The rules of this module, and of `named`, in words, and whether each holds.

    Args:
        healing, told: the tables healing and named of `collected`.
    """

    def kept(arm: str, sequences: int, method: str = "rtn", part: str = "all") -> pd.Series:
        return row(healing if part == "all" or told is None else told, arm, sequences, part, "kept", method)

    bare, healed = kept("as it is", 0), kept("healed", EQUAL)
    gain = healed["estimate"] - bare["estimate"]
    there = healing[(healing["method"] == "rtn") & (healing["arm"] == "healed")]["sequences"]
    curve = [bare["estimate"], *(kept("healed", n)["estimate"] for n in sorted(set(there)))]
    found = {
        f"Healing works ({method}): the interval of the share kept lies above that of the model as it is.":
            kept("healed", EQUAL, method)["low"] > kept("as it is", 0, method)["high"]
        for method in METHODS
    } | {
        "It needs the right target: the wrong one brings back less than a tenth of what the right one does.":
            kept("wrong target", EQUAL)["estimate"] - bare["estimate"] < 0.1 * gain,
        "It needs weights: scales alone stay below, beyond the interval.":
            kept("scales only", EQUAL)["high"] < healed["low"],
        "More text heals more: every step of the curve raises the share kept.":
            all(one < other for one, other in pairwise(curve)),
    }  # fmt: skip
    if told is not None:
        never, others = (kept("healed", EQUAL, part=part) for part in ("never named", "named"))
        whole = row(told, "healed", EQUAL, "all", "kept", "rtn")
        found |= {
            "What returns was not read: facts that the text never names come back beyond the interval, at least half "
            "as much as the others.": never["low"] > bare["high"]
            and never["estimate"] - bare["estimate"] >= 0.5 * (others["estimate"] - bare["estimate"]),
            "The model rebuilt for this is the one of the table: its share of all facts lies in the interval there.":
                healed["low"] <= whole["estimate"] <= healed["high"],
        }  # fmt: skip
    return {words: bool(held) for words, held in found.items()}
