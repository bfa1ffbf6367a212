"""Charts of the embedded model's own page: the cliff by group size, and the cliff along the training run."""

import altair as alt
import pandas as pd

from quantcliff.charts import palette
from quantcliff.charts.palette import BITS
from quantcliff.charts.theme import finish, lines, method_color

PERCENT = alt.Axis(format="%")


def cliff(variants: pd.DataFrame) -> alt.LayerChart:
    """Share of the right answers kept by bits and method, with a switch for the group size.

    Args:
        variants: second table of `quantcliff.atlas.evaluate.evaluate`.
    """
    rows = variants[variants["method"] != "full"]
    sizes = [int(size) for size in rows["group_size"].unique()]
    choose = alt.selection_point(
        fields=["group_size"], value=sizes[0], bind=alt.binding_radio(options=sizes, name="group size ")
    )
    x = alt.X("bits:N", title="bits per weight", scale=alt.Scale(domain=sorted(set(rows["bits"]), reverse=True)))
    y = alt.Y("kept:Q", title="right answers kept", axis=PERCENT, scale=alt.Scale(domain=[0, 1]))
    tooltip = [
        "method:N", "bits:Q", "group_size:Q", alt.Tooltip("kept", format=".1%"), alt.Tooltip("low", format=".1%"),
        alt.Tooltip("high", format=".1%"), alt.Tooltip("rank_median", format=",.0f"),
    ]  # fmt: skip
    chart = lines(rows, x, y, method_color(rows), tooltip=tooltip)
    worst = rows.loc[rows["kept"].idxmin()]
    return finish(
        chart.transform_filter(choose).add_params(choose),
        "Right answers kept, by group size",
        f"One line per method from 8 bits down to 2; a switch chooses the group size. The lowest point is "
        f"{worst['method']} at {worst['bits']} bits in groups of {worst['group_size']} with {worst['kept']:.0%}.",
    )


def search(records: pd.DataFrame) -> alt.LayerChart:
    """Known facts and the share of them kept at each bit width, by training step of the shipped run.

    Args:
        records: `quantcliff/atlas/search.csv`; only the rows of the run named "shipped" are drawn.
    """
    run = records[(records["run"] == "shipped") & (records["group_size"] == 128)]
    names = {"accuracy": "full precision knows", **{f"kept_{bits}bit": f"kept at {bits} bits" for bits in BITS}}
    rows = run.melt("step", list(names), "measure", "share")
    rows["measure"] = rows["measure"].map(names)
    color = alt.Color("measure:N", title=None, scale=palette.scale(names.values()))
    x = alt.X("step:Q", title="training steps", scale=alt.Scale(zero=False))
    y = alt.Y("share:Q", title="share", axis=PERCENT, scale=alt.Scale(domain=[0, 1]))
    tooltip = ["step:Q", "measure:N", alt.Tooltip("share", format=".1%")]
    chart = lines(rows, x, y, color, low=None, high=None, tooltip=tooltip)
    first, last = run.iloc[0], run.iloc[-1]
    return finish(
        chart,
        "The cliff along the training run",
        f"Lines over training steps. Knowledge in full precision grows from {first['accuracy']:.0%} to "
        f"{last['accuracy']:.0%}; what 4 bits keep of it stays near {last['kept_4bit']:.0%}, and what 2 bits keep "
        f"stays below {max(run['kept_2bit']):.0%}.",
    )
