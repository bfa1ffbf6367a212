"""Where a study keeps what it has computed: one parquet file a table and variant, named after all it depends on."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pandas as pd

from quantcliff import tables

PACKAGE = Path(__file__).parents[1]

ABOVE = ("allocating", "book", "charts", "cli", "diagnosis", "foretelling", "grid", "planner", "training", "workshop")
"""What no stage imports: changing it changes no table."""


@dataclass(frozen=True)
class Shelf:
    """The tables in a run folder."""

    run: Path

    def kept(self, stage: str, label: str, content: object, compute: Callable[[], pd.DataFrame]) -> pd.DataFrame:
        """The table of a stage and a variant, computed only if none of the same content and source is there.

        Args:
            content: all that the rows depend on, as plain values.
        """
        path = self.place(stage, label, content)
        if not path.is_file():
            tables.write(compute(), path)
        return tables.read(path)

    def place(self, stage: str, label: str, content: object) -> Path:
        """The file of a table, whether it is there or not."""
        key = json.dumps([content, source_digest(stage)], sort_keys=True, default=str)
        return self.run / stage / f"{label}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.parquet"

    def whole(self, stage: str, parts: list[pd.DataFrame]) -> pd.DataFrame:
        """The parts in one table, written to RUN/STAGE.parquet."""
        whole = pd.concat(parts, ignore_index=True)
        tables.write(whole, self.run / f"{stage}.parquet")
        return whole


@cache
def source_digest(table: str) -> str:
    """16 hex digits that stand for the modules a table is made by, so that results of older code are not mistaken for
    new: all below the stages, and the table's own stage ("macro_paraphrases": macro), since no stage imports another.
    A table named after none of them, and the verdict's, which stands above them, may be made by any; scores by none.
    """
    stages = {path.stem for path in (PACKAGE / "stages").iterdir() if path.stem not in ("__init__", "verdict")}
    own = {stage for stage in stages if table == stage or table.startswith(f"{stage}_")}
    if not own and table != "scores":
        own = stages | {"verdict"}
    total = hashlib.sha256()
    for file in sorted(PACKAGE.rglob("*.py")):
        first, *rest = file.relative_to(PACKAGE).with_suffix("").parts
        if first not in ABOVE and (first != "stages" or rest[0] in {"__init__", *own}):
            total.update(file.read_bytes())
    return total.hexdigest()[:16]
