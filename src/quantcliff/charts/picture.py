"""The picture of README.md: `python -m quantcliff.charts.picture TABLE.parquet OUT.png`, from the table of page 1.

The table lies beside it, as OUT.csv: a test holds the README to it, and page 1 holds it to the numbers of its build.
"""

import sys
from pathlib import Path

import pandas as pd
import vl_convert

from quantcliff.charts.front import cliff
from quantcliff.charts.palette import PAPER


def picture(table: pd.DataFrame) -> bytes:
    """PNG of the cliff, on white, from `book.front.results`."""
    spec = cliff(table).properties(width=620, height=300).to_dict()
    spec["config"]["background"] = PAPER
    spec["padding"] = 16
    return vl_convert.vegalite_to_png(spec, scale=2)


if __name__ == "__main__":
    source, out = sys.argv[1:]
    table = pd.read_parquet(source)
    Path(out).write_bytes(picture(table))
    table.round(6).to_csv(Path(out).with_suffix(".csv"), index=False)
