"""SmolLM2's facts, dissected, and its mean lens: tables that come with the package.

`quantcliff smollm2 dissect RUN` makes them again; `made.json` beside them says by which commit they were made and what
each file hashes to.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

from quantcliff.diagnosis.dissect.measure import ATTENTION, LENS, facts_of, measure
from quantcliff.probes import facts
from quantcliff.stages import logit_lens
from quantcliff.stages.smollm2 import Shipped
from quantcliff.study import Study, preset_of

FOLDER = Path(__file__).parent / "tables"


def study_of(run: Path, device: str = "auto", method: str = "", bits: str = "") -> Study:
    """A study of SmolLM2 as its preset has it; of all methods and widths unless some are named.

    Raises:
        InputError: SmolLM2 is not on this machine.
    """
    own = preset_of("smollm2")
    return Study(
        "smollm2", method=method or own.methods, bits=bits or own.widths, group_size=own.group_size, facts=own.facts,
        n_facts=own.n_facts, calibration=own.calibration, run=run, device=device,
    )  # fmt: skip


def make(run: Path, device: str = "auto") -> dict[str, pd.DataFrame]:
    """The tables facts, dissect and lens of SmolLM2; a stopped run goes on from its model.

    Returns:
        `measure.facts_of`, `measure.measure` (`small`), and of GPTQ and all known facts `mean_lens`.
    """
    study = study_of(run, device)
    found = {"facts": facts_of(study), "dissect": small(measure(study))}
    return found | {"lens": mean_lens(study_of(run, device, method="gptq"))}


def mean_lens(study: Study) -> pd.DataFrame:
    """The known facts' part of `logit_lens.measure`, from streams that `measure` has recorded.

    Written to RUN/dissect_lens.parquet.

    Returns:
        variant, method, bits; layer, measure (probability, rank_median, entropy, first), estimate, low, high, n.
    """
    none: list[list[int]] = [[] for _ in range(len(study.known))]

    def compute(label: str) -> pd.DataFrame:
        return logit_lens.summary(logit_lens.read_recorded(study, label, study.known, none), study.seed)

    return study.table("dissect_lens", compute, study.labels).drop(columns="group_size")


def small(table: pd.DataFrame) -> pd.DataFrame:
    """The table with what it needs and no more: attention in percent, other probabilities to 4 digits."""
    digits = (table["what"] == ATTENTION).map({True: 2, False: 4})
    values = [round(value, n) for value, n in zip(table["probability"].tolist(), digits, strict=True)]
    types = {"fact": "int8", "layer": "Int8", "place": "Int16", "rank": "Int32", "probability": "float32"}
    return table.assign(probability=values).drop(columns="group_size").astype(types)


def again(table: pd.DataFrame, known: pd.DataFrame, label: str, device: str = "auto") -> pd.DataFrame:
    """Ask the shipped facts of one model of SmolLM2 again, and hold the lens to the shipped one.

    Args:
        table, known: the shipped tables dissect and facts.
        label: "full", or a variant that is quickly made, such as "rtn-2bit-g64".

    Returns:
        One row a fact: difference (of the answer's probability after the last layer, now less then), same_ranks (share
        of layers at which the answer's rank is the same).
    """
    method, bits = ("rtn", "4") if label == "full" else (label.split("-")[0], label.split("-")[1].removesuffix("bit"))
    with TemporaryDirectory() as folder:
        study = study_of(Path(folder), device, method=method, bits=bits)
        found = facts.probe(study.facts, study.base.tokenizer)
        prompts = found.table["prompt"].tolist()
        probes = found.select([prompts.index(prompt) for prompt in known["prompt"]])
        now = logit_lens.read(study.runner(label), probes, [[] for _ in range(len(probes))])
    then = table[(table["what"] == LENS) & (table["variant"] == label) & table["fact"].isin(known["fact"])]
    then = then.sort_values(["fact", "layer"])
    shape = (len(probes), -1)
    ranks, last = then["rank"].to_numpy(int).reshape(shape), then["probability"].to_numpy(float).reshape(shape)[:, -1]
    return pd.DataFrame(
        {"difference": now["probability"][:, -1] - last, "same_ranks": (now["rank"] == ranks).mean(axis=1)}
    )


def shipped() -> Shipped:
    """What comes with the package: tables "facts", "dissect" and "lens"."""
    return Shipped(FOLDER)
