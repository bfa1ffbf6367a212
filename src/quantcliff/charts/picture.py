"""The picture of README.md: `python -m quantcliff.charts.picture TABLE.parquet OUT.png`, from a table of `macro`."""

import sys

import pandas as pd
import vl_convert

from quantcliff.charts.macro import accuracy


def picture(table: pd.DataFrame) -> bytes:
    """PNG of the share of known facts that survives, by bits and method, on white."""
    spec = accuracy(table).properties(width=620, height=300).to_dict()
    spec["config"]["background"] = "white"
    spec["padding"] = 16
    return vl_convert.vegalite_to_png(spec, scale=2)


if __name__ == "__main__":
    source, out = sys.argv[1:]
    with open(out, "wb") as file:
        file.write(picture(pd.read_parquet(source)))
