"""Charts of a verdict say what they show: the questions, and one of them over the depth of a model."""

import pandas as pd

from quantcliff.charts import verdict as charts
from quantcliff.stages.verdict import QUESTION, decide
from quantcliff.stages.verdict.rule import joined


def test_the_questions_of_every_model() -> None:
    values = {"forms": 0.6, "responds": 0.9, "alone": 0.5, "inherited": 0.1, "repair": float("nan")}
    rows = [
        {"signal": name, "layer": None, "value": value, "low": value - 0.2, "high": value, "n": 9, "control": 1.0,
         "note": ""}
        for name, value in values.items()
    ]  # fmt: skip
    found = decide("a", joined({QUESTION: pd.DataFrame(rows).astype({"layer": "Int64"})}))
    spec = charts.answers({"a": found}, {"a": "gptq 2"}).to_dict()
    said = "forms no (X 0.60), responds yes (0.90), alone yes (0.50?), inherited inherited (< 0.10)"
    assert f"gptq 2: {said}" in spec["description"]
    (data,) = spec["datasets"].values()
    assert {row["answer"] for row in data} <= set(charts.ANSWERS)


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
    alone = charts.over_depth(pd.DataFrame(rows).assign(signal="alone"), "atlas", "alone").to_dict()
    assert alone["description"].startswith("Answers that survive of atlas by depth")
