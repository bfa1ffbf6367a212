"""Charts of the embedded model's page read their tables and say what they show."""

import pandas as pd

from quantcliff.atlas import FOLDER
from quantcliff.charts import atlas
from quantcliff.training.train import Recipe


def test_the_cliff_has_a_switch_for_the_group_size_and_keeps_its_data():
    rows = [
        ("full", 32, -1, 1.0),
        ("rtn", 8, 128, 0.99),
        ("rtn", 2, 128, 0.02),
        ("rtn", 8, 32, 1.0),
        ("rtn", 2, 32, 0.1),
    ]
    table = pd.DataFrame(rows, columns=["method", "bits", "group_size", "kept"])
    table = table.assign(low=table["kept"] - 0.01, high=table["kept"] + 0.01, rank_median=1.0)
    spec = atlas.cliff(table).to_dict()
    assert "rtn at 2 bits in groups of 128 with 2%" in spec["description"]
    assert [param["bind"]["options"] for param in spec["params"] if "bind" in param] == [[128, 32]]
    assert len(next(iter(spec["datasets"].values()))) == 4


def test_the_search_record_leads_to_the_shipped_model():
    records = pd.read_csv(FOLDER / "search.csv")
    spec = atlas.search(records).to_dict()
    drawn = pd.DataFrame(next(iter(spec["datasets"].values())))
    assert drawn["step"].max() == Recipe().stop
    assert set(drawn["measure"]) == {"full precision knows", *(f"kept at {bits} bits" for bits in (8, 4, 3, 2))}
    assert drawn["share"].between(0, 1).all()
