"""The table of the bench that comes with the package, and what it was made by (`made.json`)."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from quantcliff import disk, tables

FOLDER = Path(__file__).parent

TABLES = ("pairs", "files")


@dataclass(frozen=True)
class Shipped:
    """The shipped tables: `pairs`, one row a pair of the bench, and `files`, one row a healthy file."""

    folder: Path = FOLDER

    @cached_property
    def made(self) -> dict[str, Any]:
        """command, commit, other (commit -> machine: of results whose `verdict_by` or `label_by` is that commit, and of
        all runs of agreement), date, models (their recipe), files (sha256)."""
        return json.loads((self.folder / "made.json").read_text(encoding="utf-8"))

    def table(self, name: str) -> pd.DataFrame:
        """One of `TABLES`.

        Raises:
            InputError: there is no such table, or it is not the one that `made.json` speaks of.
        """
        path = tables.shipped(self.folder, name, "csv", self.made["files"])
        text = [
            "pair", "model", "method", "kind", "level", "strength", "headline", "mode", "old", "fault", "label",
            "after", "questions", "cosines", "cosine", "seed", "many", "text", "checkpoint", "source",
            "verdict_by", "label_by",
        ]  # fmt: skip
        return pd.read_csv(path, keep_default_na=True).pipe(_filled, text)


def ship(found: dict[str, pd.DataFrame], about: dict[str, Any], folder: Path = FOLDER) -> None:
    """Write the tables, with what they were made by."""
    hashes = {}
    for name in TABLES:
        path = folder / f"{name}.csv"
        found[name].to_csv(path, index=False, lineterminator="\n", float_format="%.4g")
        hashes[name] = disk.sha256(path)
    text = json.dumps({**about, "files": hashes}, indent=1) + "\n"
    (folder / "made.json").write_text(text, encoding="utf-8")


def _filled(table: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """Texts that are missing as ""."""
    here = [name for name in columns if name in table]
    return table.assign(**{name: table[name].astype(object).fillna("").astype(str) for name in here})
