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


def test_two_models_over_depth_on_one_axis() -> None:
    def table(layers: int, value: float) -> pd.DataFrame:
        ends = ("value", "low", "high")
        rows = [
            {"signal": signal, "method": method, "bits": bits, "layer": layer, **dict.fromkeys(ends, value)}
            for signal in ("alone", "responds") for method in ("gptq", "rtn") for bits in (4, 2)
            for layer in range(layers)
        ]  # fmt: skip
        return pd.DataFrame([*rows, {**rows[0], "layer": None, "value": 9.0}])

    spec = charts.over_depth({"small": table(4, 0.75), "large": table(10, 0.25)}, "alone", "answers kept").to_dict()
    (data,) = spec["datasets"].values()
    assert len(data) == 2 * (4 + 10)
    assert {row["depth"] for row in data if row["model"] == "small (4 layers)"} == {0.25, 0.5, 0.75, 1.0}
    assert max(row["depth"] for row in data if row["model"] == "large (10 layers)") == 1.0
    assert max(row["value"] for row in data) == 0.75
    assert "small (4 layers) at 4 bits 0.75 half-way up, 0.75 at last" in spec["description"]
    assert "Answers kept, by depth (gptq)" in spec["description"]
