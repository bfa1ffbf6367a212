"""Figures are taken from the right rows of the right tables, and held to the paper's as they should be."""

import pandas as pd
import pytest

from quantcliff.stages import smollm2
from quantcliff.stages.verdict.signals import SIGNALS

END = {"estimate": 0.5, "low": 0.4, "high": 0.6, "n": 40}


def row(**values: object) -> dict[str, object]:
    return {"method": "gptq", "bits": 2, **END, **values}


@pytest.fixture
def tables() -> dict[str, pd.DataFrame]:
    """One value of its own in every row that counts, and a decoy beside each."""
    signal = {"method": "gptq", "low": 0.0, "high": 1.0, "n": 40}
    verdict = [
        signal | {"bits": 4, "signal": "CKA diagonal", "layer": None, "value": 0.97, "reading": "intact"},
        signal | {"bits": 2, "signal": "CKA diagonal", "layer": None, "value": 0.29, "reading": "collapsed"},
        signal | {"bits": 2, "signal": "CKA diagonal", "layer": 3, "value": 0.11, "reading": "collapsed"},
        signal | {"bits": 4, "signal": "sign flips", "layer": None, "value": 0.1, "reading": "degraded"},
        signal | {"bits": 2, "signal": "sign flips", "layer": None, "value": 0.2, "reading": "degraded"},
    ]
    part = {"position": "last", "condition": "clean", "head": None}
    components = [
        row(**part, measure="sign_flips", layer=0, estimate=0.1, low=0.05, high=0.2),
        row(**part, measure="sign_flips", layer=1, estimate=0.3, low=0.25, high=0.5),
        row(**part | {"condition": "in_situ"}, measure="sign_flips", layer=0, estimate=0.9),
        row(**part | {"condition": "in_situ"}, measure="jsd", layer=0, estimate=0.7),
        row(**part | {"condition": "in_situ", "head": 1}, measure="jsd", layer=0, estimate=0.0),
        row(**part | {"position": "last_subject"}, measure="ffn_cosine", layer=0, estimate=0.0),
        row(**part, measure="ffn_cosine", layer=0, estimate=0.8),
    ]
    lost = {"measure": "accuracy", "half": "all", "part": "failure"}
    repair = [
        row(**lost, repair="protection", setting="first 2 layers", amount=2, estimate=0.68),
        row(**lost, repair="protection", setting="first 1 layer", amount=1, estimate=0.3),
        row(**lost | {"half": "test"}, repair="amplification", setting="after protection, peak, failure", amount=3,
            estimate=0.75),
        row(**lost, repair="compensation", setting="EoRA, rank 2", amount=2, estimate=0.1),
        row(**lost, repair="compensation", setting="EoRA, rank 8", amount=8, estimate=0.2),
        row(**lost, repair="domino", setting="first 1", amount=1, estimate=0.15),
        row(**lost | {"part": "robust"}, repair="domino", setting="first 1", amount=1, estimate=0.65),
        row(**lost, repair="domino", setting="last 1", amount=1, estimate=0.99),
    ]  # fmt: skip
    return {
        "verdict": pd.DataFrame(verdict),
        "components": pd.DataFrame(components),
        "repair": pd.DataFrame(repair),
        "patching_necessity": pd.DataFrame([row(measure="likeness", estimate=0.9), row(measure="dependence")]),
        "macro_paraphrases": pd.DataFrame([row(measure="any", estimate=0.3), row(measure="majority", estimate=0.2)]),
    }


def test_figures_by_hand(tables: dict[str, pd.DataFrame]) -> None:
    found = smollm2.figures(tables)
    two = found[found["bits"] == 2].set_index("figure")["estimate"]
    assert two.to_dict() == pytest.approx(
        {
            "CKA diagonal": 0.29, "sign flips": 0.2, "attention JSD": 0.7, "sign flips, clean input": 0.2,
            "FFN cosine, clean input": 0.8, "protection, failure facts": 0.68,
            "protection and amplification, failure facts": 0.75, "EoRA, failure facts": 0.2,
            "domino, layer 0, robust facts": 0.65, "domino, layer 0, failure facts": 0.15, "likeness": 0.9,
            "any paraphrase": 0.3, "most paraphrases": 0.2,
        }
    )  # fmt: skip
    clean = found[found["figure"] == "sign flips, clean input"].iloc[0]
    assert (clean["low"], clean["high"]) == pytest.approx((0.15, 0.35)), "means of the layers' bounds"


def test_beside_the_paper(tables: dict[str, pd.DataFrame]) -> None:
    found = smollm2.figures(tables)
    table = smollm2.beside({"small": found, "large": found[found["figure"] != "sign flips"]}).set_index("figure")
    assert table.loc["CKA diagonal", "paper, 2 bits"] == "dark"
    assert table.loc["CKA diagonal", "small, 2 bits"] == "0.29 (0.00 to 1.00)"
    assert table.loc["sign flips", "large, 2 bits"] == "-" and table.loc["sign flips", "paper, 4 bits"] == "-"
    assert set(smollm2.OWN) < set(table.index)


def test_agreement_is_a_change_of_reading(tables: dict[str, pd.DataFrame]) -> None:
    found = smollm2.agreement({"small": smollm2.figures(tables)}).set_index("signal")["small"]
    assert found["CKA diagonal"] == "yes" and found["sign flips"] == "no: degraded, then degraded"
    tables["verdict"]["reading"] = "not applicable"
    assert set(smollm2.agreement({"small": smollm2.figures(tables)})["small"]) == {"-"}


def test_the_papers_figures_name_signals_and_stand_once() -> None:
    said = smollm2.paper()
    assert not said.duplicated(["figure", "bits"]).any()
    assert {signal.name for signal in SIGNALS} <= set(said["figure"])
    assert said["words"].str.len().min() > 0
