"""Tables of the SmolLM2 edition, which take an hour on a laptop and come with the package; and a part of them again.

`made.json` beside them says by which command and commit they were made, from which model and facts, and what each file
hashes to.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from quantcliff import smollm2, tables
from quantcliff.errors import InputError
from quantcliff.study import FULL, Study

STAGES = (
    "macro", "macro_paraphrases", "patching_necessity", "components", "repair", "verdict", "weights", "calibration"
)  # fmt: skip
"""Tables that are shipped, named as in a run folder (`calibration` by `quantcliff smollm2 calibrate RUN`); besides them
`scores`, the rank of every prompt by every model."""

FOLDER = Path(smollm2.__file__).parent / "tables"


@dataclass(frozen=True)
class Shipped:
    """The shipped tables."""

    folder: Path = FOLDER

    @cached_property
    def made(self) -> dict[str, Any]:
        """command, commit, later (commit -> tables made at that one), date, model, facts (digests), prompts, files
        (sha256)."""
        return json.loads((self.folder / "made.json").read_text(encoding="utf-8"))

    def table(self, name: str) -> pd.DataFrame:
        """One of `STAGES`, or "scores": variant, method, bits, prompt, rank, probability, row by row.

        Raises:
            InputError: there is no such table, or it is not the one that `made.json` speaks of.
        """
        return pd.read_parquet(tables.shipped(self.folder, name, "parquet", self.made["files"]))

    def stages(self) -> dict[str, pd.DataFrame]:
        """All of `STAGES`."""
        return {name: self.table(name) for name in STAGES}


def ship(run: Path, study: Study, about: dict[str, Any], out: Path = FOLDER) -> None:
    """Copy the tables of a finished run to `out`, with what they were made by.

    Args:
        study: of all methods and widths of that run; its scores are read back from the run folder.
        about: command, commit and date.

    Raises:
        InputError: the run lacks a table.
    """
    found = {name: tables.read(run / f"{name}.parquet") for name in STAGES}
    parts = [study.scores(label).assign(prompt=study.probes.table["prompt"]) for label in study.labels]
    columns = ["variant", "method", "bits", "prompt", "rank", "probability"]
    found["scores"] = pd.concat(parts, ignore_index=True)[columns].astype({"probability": "float32", "rank": "int32"})
    out.mkdir(parents=True, exist_ok=True)
    made = {**about, "model": study.base.digest, "facts": study.probes.digest, "prompts": len(study.probes)}
    tables.ship(found, made, out)


def ship_again(run: Path, names: Sequence[str], commit: str, out: Path = FOLDER) -> None:
    """Replace some of the shipped tables by those of a run that another commit made, and say so in `made.json`.

    Raises:
        InputError: a name that is no stage's, or the run lacks that table.
    """
    if strange := [name for name in names if name not in STAGES]:
        raise InputError(f"there is no shipped table {strange[0]!r}; the tables are {', '.join(STAGES)}")
    found = {name: tables.read(run / f"{name}.parquet") for name in names}
    made = json.loads((out / "made.json").read_text(encoding="utf-8"))
    later = {other: [name for name in held if name not in names] for other, held in made["later"].items()}
    later[commit] = sorted({*later.get(commit, []), *names})
    made["later"] = {other: held for other, held in later.items() if held}
    tables.ship(found, made, out)


def recheck(study: Study, scores: pd.DataFrame) -> pd.DataFrame:
    """Ask the prompts of a study again, of full precision and its variants, and hold the answers to the shipped ones.

    Args:
        study: of SmolLM2, few prompts and variants.
        scores: the shipped table `scores`.

    Returns:
        One row per model: variant, n (prompts found among the shipped ones), shipped and here (share answered right),
        same (share of prompts on which both agree whether the answer is first).
    """
    rows = []
    for label in study.labels:
        before = scores[scores["variant"] == label].set_index("prompt")["rank"]
        now = pd.Series(study.scores(label)["rank"].to_numpy(), index=study.probes.table["prompt"])
        now = now[now.index.isin(before.index) & ~now.index.duplicated()]
        then = before[~before.index.duplicated()].loc[now.index]
        agreeing = (then == 1).to_numpy() == (now == 1).to_numpy()
        rows.append(
            {"variant": "full precision" if label == FULL else label, "n": len(now), "shipped": (then == 1).mean(),
             "here": (now == 1).mean(), "same": agreeing.mean()}
        )  # fmt: skip
    return pd.DataFrame(rows)
