"""Any, most, all: counted by hand, and on the embedded model's own paraphrases."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from quantcliff.stages.macro import paraphrases
from quantcliff.study import FULL, Study


def test_any_most_and_all_by_hand() -> None:
    right = np.array([1, 1, 1, 1, 0, 0, 1, 1, 0, 0, 0, 0, 0, 1, 1], dtype=bool)
    fact = np.array([0, 0, 0, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 4, 4])
    found = paraphrases.table_of(right, fact).set_index("measure")
    assert found["n"].tolist() == [4] * 4, "the fifth fact has two paraphrases, too few"
    assert found.loc["any", "estimate"] == 3 / 4
    assert found.loc["majority", "estimate"] == 1 / 4, "half is not most"
    assert found.loc["all", "estimate"] == 1 / 4
    assert found.loc["prompts", "estimate"] == pytest.approx((1 + 1 / 3 + 1 / 2 + 0) / 4)
    assert (found["low"] <= found["estimate"]).all() and (found["estimate"] <= found["high"]).all()


def test_the_embedded_model_under_paraphrase(tmp_path: Path) -> None:
    study = Study(method="rtn", bits=2, n_facts=60, run=tmp_path)
    table = paraphrases.measure(study, n_facts=25)
    pd.testing.assert_frame_equal(table, pd.read_parquet(tmp_path / "macro_paraphrases.parquet"))
    wide = table.pivot(index="variant", columns="measure", values="estimate")
    assert (wide["any"] >= wide["majority"]).all() and (wide["majority"] >= wide["all"]).all()
    assert wide.loc[FULL, "all"] > 0.6 > 0.3 > wide.loc["rtn-2bit-g128", "majority"]
    assert (table["n"] == 25).all()


def test_facts_with_one_prompt_each_have_no_paraphrases(tiny_llama: Path, tmp_path: Path) -> None:
    line = {"prompt": "Rome lies in", "subject": "Rome", "object": "Italy"}
    (tmp_path / "facts.jsonl").write_text(json.dumps(line))
    study = Study(tiny_llama, method="rtn", bits=2, group_size=16, facts=tmp_path / "facts.jsonl", run=tmp_path)
    assert paraphrases.measure(study).empty
