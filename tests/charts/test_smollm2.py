"""Charts of two models side by side say what they show, and keep to their rows."""

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


def test_a_signal_over_depth() -> None:
    rows = [
        {"signal": signal, "layer": layer, "method": method, "bits": bits, "value": value + layer / 10,
         "low": value, "high": value + 0.5}
        for signal in ("CKA diagonal", "lens signal") for layer in (None, 0, 1, 2, 3) if layer is not None
        for method in ("gptq", "awq") for bits, value in ((4, 0.5), (2, 0.0))
    ]  # fmt: skip
    spec = charts.over_depth(pd.DataFrame(rows), "atlas", "CKA diagonal").to_dict()
    assert "at 4 bits 0.60 half-way up and 0.80 at last; at 2 bits 0.10" in spec["description"]
    (data,) = [part for part in spec["datasets"].values() if len(part) == 8]
    assert [row["depth"] for row in data if row["bits"] == 4] == [0.25, 0.5, 0.75, 1.0]
