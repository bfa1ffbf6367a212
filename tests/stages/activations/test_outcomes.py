"""Rules on tables that are made up: each holds, fails, and cannot be told."""

import pandas as pd
import pytest

from quantcliff.charts import activations as charts
from quantcliff.stages.activations.outcomes import FAILS, HOLDS, UNKNOWN, damaged, of_circuit, of_tasks, outcomes
from quantcliff.stages.activations.tasks import beside

NAMES = ("kept", "forms", "responds", "repair", "where, in place", "jsd, in place", "miss, in place")


def way(label: str, kept: float, weights: int = 16, what: str = "inputs", how: str = "by token", **more: float) -> list:
    """Rows of one way, all intervals 5 points to either side."""
    values = (
        dict.fromkeys(NAMES, 0.8) | {"kept": kept} | {name.replace("_", " "): value for name, value in more.items()}
    )
    bits = int("".join(letter for letter in label.split("A")[-1] if letter.isdigit())[:1] or 2)
    about = {"way": label, "weights": weights, "what": what, "how": how, "bits": bits, "n": 100, "control": 0.0}
    return [
        about | {"measure": name, "estimate": value, "low": value - 0.05, "high": value + 0.05}
        for name, value in values.items()
    ]


def where(value: float) -> dict[str, float]:
    return {"where, in place": value}


BASE = {
    "W16A8": 0.98, "W16A8 static": 0.5, "W16A8 static -first": 0.8, "W16A4": 0.3, "W16A4 -first": 0.4,
    "W16A4 rotated": 0.9,
}  # fmt: skip


def table(
    changed: dict[str, float] | None = None, *more: list, shares: tuple[float, float] = (0.4, 0.2)
) -> pd.DataFrame:
    rows = [row for label, kept in (BASE | (changed or {})).items() for row in way(label, kept)]
    for bits in (4, 3, 2):
        rows += way(f"K{bits}", 0.5, what="keys", **where(shares[0])) + way(
            f"V{bits}", 0.6, what="values", **where(shares[1])
        )
    rows += way("K2 channel", 0.9, what="keys", how="by channel") + way("KV2", 0.4, what="keys and values")
    return pd.DataFrame([*rows, *(row for extra in more for row in extra)])


def activations(first: float = 0.9, rest: float = 0.05, sink: float = 0.5, norm: float = 10.0) -> pd.DataFrame:
    rows = [
        (name, layer, value)
        for name, value in {"first": first, "rest": rest, "sink": sink, "norm": norm}.items()
        for layer in range(3)
    ]
    return pd.DataFrame(rows, columns=["measure", "layer", "estimate"])


def searched(keys: float = 0.1) -> pd.DataFrame:
    rows = [("KV2", "keys", 0, keys), ("KV2", "values", 0, 0.1)]
    return pd.DataFrame(rows, columns=["variant", "left", "layer", "estimate"])


def found(*args: object, **kwargs: object) -> dict[str, str]:
    what = {"activations": activations(), "searched": searched()} | {
        k: v for k, v in kwargs.items() if k in ("activations", "searched")
    }
    rest = {k: v for k, v in kwargs.items() if k not in what}
    own = table(*args, **rest)  # type: ignore[arg-type]
    return outcomes(own, what["activations"], what["searched"]).set_index("rule")["outcome"].to_dict()  # type: ignore[arg-type]


def test_everything_as_expected() -> None:
    unasked = dict.fromkeys(("together, the worse part decides", "losses multiply"), UNKNOWN)
    assert found() == dict.fromkeys(found(), HOLDS) | {"a third kind, lookup failure, is named": FAILS} | unasked


@pytest.mark.parametrize(
    ("first", "rest", "sink", "massive", "sinks"),
    [(0.5, 0.1, 0.3, HOLDS, HOLDS), (0.49, 0.1, 0.29, FAILS, FAILS), (0.9, 0.11, 0.9, FAILS, HOLDS)],
)
def test_massive_activations(first: float, rest: float, sink: float, massive: str, sinks: str) -> None:
    held = found(activations=activations(first, rest, sink))
    assert (held["the model has massive activations"], held["the model has sinks"]) == (massive, sinks)
    rule = "the model has massive activations, by the rule that replaced it"
    assert held[rule] == (HOLDS if first >= 0.5 else FAILS)
    assert found(activations=activations(first, rest, sink, 9.9))[rule] == FAILS


def test_intact_weights_that_do_not_respond() -> None:
    rule = "intact weights respond"
    assert found(None, way("W16A3", 0.2, responds=0.47))[rule] == UNKNOWN
    assert found(None, way("W16A3", 0.2, responds=0.4))[rule] == FAILS
    assert found(None, way("W2A16", 0.2, weights=2, responds=0.1))[rule] == HOLDS, "weights are not intact"
    assert found(None, way("W16A6", 0.95, responds=0.1))[rule] == HOLDS, "five lost answers are too few"


def test_a_collapse_with_intact_weights() -> None:
    assert found(None, way("W16A3", 0.2, responds=0.4, forms=0.5))["so no collapse"] == FAILS
    assert found(None, way("W16A3", 0.2, responds=0.4))["so no collapse"] == HOLDS


def test_keys_and_values() -> None:
    assert found(shares=(0.2, 0.2))["keys break where, values break what"] == FAILS
    assert found(shares=(0.1, 0.2))["keys break where, values break what"] == FAILS


def test_scales_and_rotation() -> None:
    assert found({"W16A8 static": 0.9})["static is worse"] == FAILS
    assert found({"W16A8 static -first": 0.74})["the first token is why"] == FAILS
    assert found({"W16A8 static": 0.4, "W16A8 static -first": 0.66})["the first token is why"] == FAILS
    assert found({"W16A4 -first": 0.66})["the first token is why"] == FAILS
    assert found({"W16A8 static": 0.95, "W16A8 static -first": 0.99})["the first token is why"] == UNKNOWN
    assert found({"W16A4 rotated": 0.39})["rotation helps 4-bit inputs"] == FAILS


def test_the_cache() -> None:
    rule = "the cache can be repaired at any width"
    assert found(None, way("KV3", 0.5, what="keys and values", repair=0.33))[rule] == FAILS
    assert found(None, way("W16A3", 0.5, repair=0.1))[rule] == HOLDS
    own = table()
    own.loc[(own["way"] == "K2 channel") & (own["measure"] == "kept"), ["estimate", "low", "high"]] = 0.55
    held = outcomes(own, activations(), searched()).set_index("rule")["outcome"]
    assert held["keys want their own scale by channel"] == FAILS


def test_a_third_kind() -> None:
    rule = "a third kind, lookup failure, is named"
    assert found(searched=searched(0.5))[rule] == HOLDS
    assert found(searched=searched()[:0])[rule] == UNKNOWN


def test_damaged_ways_have_intact_weights_and_lost_enough() -> None:
    own = table(None, way("W2A16", 0.1, weights=2), way("W16A6", 0.91))
    assert {"W2A16", "W16A6", "W16A8"}.isdisjoint(damaged(own)["way"])
    assert "W16A4" in set(damaged(own)["way"])


def test_weights_and_inputs_together() -> None:
    def held(kept: float, **more: float) -> tuple[str, str]:
        both = way("W4A4", kept, weights=4, what="weights and inputs", **more)
        rules = found(None, way("W4A16", 0.6, weights=4, what="weights", how="rounded"), both)
        return rules["together, the worse part decides"], rules["losses multiply"]

    assert held(0.2) == (HOLDS, HOLDS), "0.6 of 0.3 is 0.18"
    assert held(0.24) == (HOLDS, FAILS)
    assert held(0.2, forms=0.5, responds=0.4) == (FAILS, HOLDS), "neither part is a collapse"
    assert found(None, way("W2A4", 0.1, weights=2, what="weights and inputs"))["losses multiply"] == UNKNOWN, "one part"


def test_keys_and_values_at_every_width() -> None:
    def held(keys: dict[str, float], rest: float = 0.5) -> str:
        own = table()
        for label in ("K4", "K3", "K2"):
            at = (own["way"] == label) & (own["measure"] == "kept")
            kept = keys.get(label, rest)
            own.loc[at, ["estimate", "low", "high"]] = [kept, kept - 0.05, kept + 0.05]
        rules = outcomes(own, activations(), searched()).set_index("rule")["outcome"]
        return str(rules["keys cost more than values at every width"])

    assert held({}) == HOLDS, "values keep 60%"
    assert held({"K4": 0.65}) == UNKNOWN
    assert held({"K4": 0.71}) == FAILS


def test_the_circuit() -> None:
    own = table(None, way("K1", 0.05, what="keys"))

    def held(gone: float, there: float) -> str:
        rows = [("K1", gone), ("W16A4", there)]
        return str(of_circuit(pd.DataFrame(rows, columns=["way", "share"]), own)["outcome"].iloc[0])

    assert held(0.49, 0.5) == HOLDS
    assert held(0.5, 0.5) == FAILS and held(0.1, 0.49) == FAILS
    assert of_circuit(pd.DataFrame(columns=["way", "share"]), own)["outcome"].tolist() == [UNKNOWN]


def falls(recall: float, induction: float) -> pd.DataFrame:
    rows = []
    for task, three in {"facts": recall, "tasks:induction": induction, "tasks:comparison": 0.0}.items():
        for variant, bits, kept in (("full", 16, 1.0), ("w4", 4, 0.9), ("w3", 3, three), ("w2", 2, 0.0)):
            low = 0.9 if task != "tasks:comparison" else 0.4
            rows.append((task, variant, bits, low, 0.5, kept, kept - 0.05, kept + 0.05))
    columns = ["task", "variant", "bits", "accuracy_low", "floor", "kept", "kept_low", "kept_high"]
    return pd.DataFrame(rows, columns=columns)


def heads(four: float, two: float) -> pd.DataFrame:
    rows = [(label, 0, 1, score) for label, score in (("full", 0.6), ("w4", four), ("w3", 0.3), ("w2", two))]
    return pd.DataFrame(rows, columns=["variant", "layer", "head", "score"])


def test_tasks_and_heads() -> None:
    def held(recall: float, induction: float, four: float, two: float) -> list[str]:
        return of_tasks(falls(recall, induction), heads(four, two), "facts")["outcome"].tolist()

    assert held(0.5, 0.7, 0.5, 0.1) == [HOLDS, HOLDS]
    assert held(0.6, 0.7, 0.29, 0.1) == [FAILS, FAILS]
    assert held(0.8, 0.5, 0.5, 0.31) == [FAILS, FAILS]
    none = of_tasks(falls(0.5, 0.7).query("task != 'tasks:induction'"), heads(0.5, 0.1)[:0], "facts")
    assert none["outcome"].tolist() == [UNKNOWN, UNKNOWN]


def test_tasks_beside_recall() -> None:
    rows = falls(0.5, 0.7).query("task != 'tasks:comparison'")
    assert beside(rows, "facts", 3) == {"more": ["tasks:induction"], "fewer": [], "as many": []}
    groups = beside(falls(0.5, 0.58), "facts", 3)
    assert groups == {"more": [], "fewer": ["tasks:comparison"], "as many": ["tasks:induction"]}
    assert beside(rows, "facts", 2)["as many"] == ["tasks:induction"]


def test_charts_say_in_words_what_they_show() -> None:
    own = table(None, way("W4A16", 0.9, weights=4, what="weights", how="rounded"))
    assert (
        "weights at 4 bits 90%" in charts.kept(own).to_dict()["description"]
        or "90%" in charts.kept(own).to_dict()["description"]
    )
    assert "K2 0.80 and 0.80" in charts.attention(own).to_dict()["description"]
    assert "W16A4 30%; KV2 40%" in charts.repairs(own, ["W16A4", "KV2"]).to_dict()["description"]
    shown = falls(0.5, 0.7).assign(kept_low=0.0, kept_high=1.0)
    assert "induction at 3 bits 70%" in charts.tasks(shown).to_dict()["description"]
    two = pd.concat([activations().assign(model="a", low=0, high=1), activations(0.2).assign(model="b", low=0, high=1)])
    assert "a 90% at most; b 20% at most" in charts.sinks(two).to_dict()["description"]
