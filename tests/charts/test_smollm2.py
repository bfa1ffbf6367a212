"""The chart of several models side by side says what it shows, and keeps to its rows."""

import pandas as pd

from quantcliff.charts import smollm2 as charts


def test_the_map_of_verdicts() -> None:
    rows = [
        {"model": model, "method": method, "bits": bits, "mode": mode, "kept": kept}
        for model in ("atlas", "SmolLM2") for method in ("gptq", "rtn")
        for bits, mode, kept in ((4, "signal degradation", 0.95), (2, "computation collapse", 0.01))
    ]  # fmt: skip
    rows[-1]["mode"] = "mixed"
    spec = charts.verdict_map(pd.DataFrame(rows)).to_dict()
    assert "SmolLM2 at 2 bits: computation collapse 1 of 2, mixed 1 of 2" in spec["description"]
    (data,) = [part for part in spec["datasets"].values() if len(part) == 8]
    assert {row["row"] for row in data} == {"atlas, gptq", "atlas, rtn", "SmolLM2, gptq", "SmolLM2, rtn"}
    assert data[0]["text"] == "/ 95%" and data[1]["text"] == "X 1%"
