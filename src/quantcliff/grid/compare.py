"""All runs of a grid side by side: one table, one page."""

import json
from pathlib import Path

import jinja2
import pandas as pd

from quantcliff import disk, tables
from quantcliff.charts import grid as charts
from quantcliff.charts import vega_bundle
from quantcliff.diagnosis import report
from quantcliff.grid.cells import Grid

COLUMNS = ("cell", "model", "method", "bits", "seed", "mode", "exit_code", "measure", "estimate", "low", "high", "n")


def compare(grid: Grid) -> pd.DataFrame:
    """A row for each cell that is done, and for each checkpoint and measure; written to OUT/grid.parquet.

    Returns:
        cell, model, method, bits, seed, mode (the headline), exit_code, measure (kept: share of full precision's right
        answers; or a signal of the verdict), estimate, low, high, n.
    """
    rows = []
    for cell in grid.cells():
        file = Path(grid.out) / "cells" / cell.name / "verdict.json"
        if not file.is_file():
            continue
        found = json.loads(file.read_text(encoding="utf-8"))
        own = {"cell": cell.name, "model": Path(cell.model).name, "method": cell.method, "bits": cell.bits,
               "seed": cell.seed, "mode": found["mode"], "exit_code": found["exit_code"]}  # fmt: skip
        kept = found["accuracy_kept"]
        rows.append(own | {"measure": "kept", **kept})
        for question in found["questions"]:
            if question["answer"] != "not asked":
                told = {name: question[source] for name, source in
                        (("estimate", "value"), ("low", "low"), ("high", "high"), ("n", "n"))}  # fmt: skip
                rows.append(own | {"measure": question["question"], **told})
    whole = pd.DataFrame(rows, columns=list(COLUMNS))
    tables.write(whole, Path(grid.out) / "grid.parquet")
    return whole


def side_by_side(table: pd.DataFrame) -> pd.DataFrame:
    """The answers kept and the verdict, in words: a row for each model, method and seed, a column for each width."""
    kept = table[table["measure"] == "kept"]
    words = [f"{row.estimate:.0%} ({row.low:.0%} to {row.high:.0%}), {row.mode}" for row in kept.itertuples()]
    wide = kept.assign(words=words).pivot(index=["model", "method", "seed"], columns="bits", values="words")
    wide = wide[sorted(wide.columns, reverse=True)].fillna("not done")
    return wide.rename(columns="{} bits".format).rename_axis(columns=None).reset_index()


def page(grid: Grid, table: pd.DataFrame) -> Path:
    """OUT/grid.html, which needs no network: the comparison, its chart, and a link to the page of every cell."""
    template = Path(__file__).with_name("grid.html.j2").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    kept = table[table["measure"] == "kept"]
    drawn = [charts.kept(kept)] if len(kept) else []
    questions = [name for name in dict.fromkeys(table["measure"]) if name != "kept"]
    drawn += [charts.question(table, name) for name in questions]
    cells = [cell.name for cell in grid.cells()]
    text = environment.from_string(template).render(
        rows=side_by_side(table).to_dict("records") if len(kept) else [],
        cells=[{"name": name, "done": name in set(kept["cell"])} for name in cells],
        done=len(kept), n=len(cells), asked=grid.n_facts,
        charts=[{"spec": json.dumps(one.to_dict()).replace("</", "<\\/"), "words": one.to_dict()["description"]}
                for one in drawn],
        meaning={name: report.MEANING.get(name, "") for name in dict.fromkeys(kept["mode"])},
        bundle=vega_bundle().replace("</script", "<\\/script"),
    )  # fmt: skip
    file = Path(grid.out) / "grid.html"
    disk.write(file, text)
    return file
