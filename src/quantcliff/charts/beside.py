"""The chart of agreement: every figure of a paper, and what became of it on each model."""

import altair as alt
import pandas as pd

from quantcliff.charts import palette
from quantcliff.charts.palette import LETTERS
from quantcliff.charts.theme import finish

OUTCOMES = {"agrees": "=", "differs": "X", "cannot be told": "?"}
"""Outcome -> a mark that says the same as its colour."""


def agreement(table: pd.DataFrame) -> alt.LayerChart:
    """One row per figure and bits, one column per model, coloured by the outcome.

    Args:
        table: of `book.beside.beside`.
    """
    of = table["says"].str.extract(r"(\(.+\))", expand=False).fillna("")  # whose, where a figure stands twice
    name = (table["figure"] + ", " + table["bits"].astype(str) + " bits " + of).str.strip()
    name = name.where(table["stage"] == "Repair", name.str.replace(r" \(.+\)", "", regex=True))
    rows = table.assign(name=name, mark=table["outcome"].map(OUTCOMES))
    rows = rows[["name", "says", "model", "here", "outcome", "mark"]]
    axis = alt.Axis(labelFontSize=11, labelLimit=250, labelOverlap=False)
    base = alt.Chart(rows).encode(
        x=alt.X("model:N", sort=None, title=None, axis=alt.Axis(orient="top", labelAngle=0)),
        y=alt.Y("name:N", sort=None, title=None, axis=axis),
        tooltip=["name", alt.Tooltip("says", title="paper"), "model", "here", "outcome"],
    )
    legend = alt.Legend(columns=1, orient="bottom")
    cells = base.mark_rect(stroke="currentColor", strokeOpacity=0.3).encode(
        color=alt.Color("outcome:N", title=None, scale=palette.scale(OUTCOMES), legend=legend)
    )
    marks = base.mark_text(color=LETTERS, fontSize=12, fontWeight="bold").encode(text="mark:N")
    words = "; ".join(
        f"{model}: " + ", ".join(f"{count} {outcome}" for outcome, count in group["outcome"].value_counts().items())
        for model, group in rows.groupby("model", sort=False)
    )
    return finish(
        alt.layer(cells, marks), "The paper's figures, and ours",
        f"One row per figure of the paper, one column per model, coloured by whether ours agrees. {words}.",
        height=18 * rows["name"].nunique(),
    )  # fmt: skip
