"""Charts of a grid of runs: answers kept over bits, and what the questions of the verdict found."""

import altair as alt
import pandas as pd

from quantcliff.charts.theme import finish, intervals, method_color

PERCENT = alt.Axis(format="%")


def kept(table: pd.DataFrame) -> alt.LayerChart:
    """Share of full precision's right answers kept, by model and bits, a point with its interval for each run."""
    shown = _runs(table)
    words = "; ".join(f"{row.run}, {row.way}: {row.estimate:.0%}" for row in shown.itertuples())
    return finish(
        _drawn(shown, "answers kept", PERCENT), "What each run keeps",
        f"Share of full precision's right answers that each run keeps: {words}.",
    )  # fmt: skip


def question(table: pd.DataFrame, name: str) -> alt.LayerChart:
    """What one question of the verdict found in each run that it could be asked of."""
    shown = _runs(table[table["measure"] == name])
    words = "; ".join(f"{row.run}, {row.way}: {row.estimate:.2f}" for row in shown.itertuples())
    return finish(
        _drawn(shown, name, alt.Axis()), f"The question '{name}'", f"What '{name}' found in each run: {words}.",
        height=200,
    )  # fmt: skip


def _runs(table: pd.DataFrame) -> pd.DataFrame:
    """Runs in order of model and bits, from most to least; seeds of one method stand side by side."""
    shown = table.sort_values(["model", "bits", "method", "seed"], ascending=[True, False, True, True])
    run = [f"{row.model}, {row.bits} bits" for row in shown.itertuples()]
    way = [f"{row.method}, seed {row.seed}" for row in shown.itertuples()]
    return shown.assign(run=run, way=way)


def _drawn(shown: pd.DataFrame, title: str, axis: alt.Axis) -> alt.LayerChart:
    return intervals(
        shown, alt.X("run:N", title=None, sort=None), alt.Y("estimate:Q", title=title, axis=axis),
        method_color(shown), offset="way", tooltip=["run", "way", "mode", "estimate", "low", "high", "n"],
    )  # fmt: skip
