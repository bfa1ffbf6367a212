"""Whole objects beside first tokens."""

import json
from pathlib import Path

import pandas as pd
import pytest
import torch

from quantcliff import models
from quantcliff.diagnosis import objects
from quantcliff.probes import facts


def greedy(model: models.Model, prompt: str, n: int) -> str:
    """What a model writes after a prompt, by plain transformers; the special token at its front is kept."""
    ids = model.tokenizer(prompt, return_tensors="pt").input_ids
    wrote = model.hf.generate(ids, max_new_tokens=n, do_sample=False, pad_token_id=0)
    return model.tokenizer.decode(wrote[0, ids.shape[1] :]).strip()


@pytest.fixture(scope="module")
def model() -> models.Model:
    return models.load("atlas")


def test_a_whole_object_is_what_greedy_decoding_writes(model: models.Model) -> None:
    asked = facts.load("atlas", n_facts=80)
    found = objects.answered(model, asked)
    ends = facts.whole_objects(asked, model.tokenizer)
    for row, end, (_, fact) in zip(found.itertuples(), ends, asked.rows.iterrows(), strict=True):
        wrote = greedy(model, fact["prompt"], len(end[0]))
        assert row.whole == (wrote == fact["objects"][0])
        assert row.long == (len(end[0]) > 1)
    assert (found["first"] >= found["whole"]).all() and found["whole"].sum() > 0
    probes = facts.probe(asked, model.tokenizer)
    ids = [torch.tensor([row]) for row in probes.input_ids]
    first = [int(model.hf(row).logits[0, -1].argmax()) in right for row, right in zip(ids, probes.answers, strict=True)]
    assert found["first"].tolist() == first


def test_of_several_right_objects_one_is_enough(model: models.Model, tmp_path: Path) -> None:
    row = facts.load("atlas", n_facts=1).rows.iloc[0]
    wrote = greedy(model, row["prompt"], 3)
    half, whole = [f"{wrote} of nothing"], ["Nobody", wrote]
    lines = [{"prompt": row["prompt"], "subject": row["subject"], "objects": one} for one in (half, whole)]
    (tmp_path / "facts.jsonl").write_text("\n".join(map(json.dumps, lines)))
    found = objects.answered(model, facts.load(tmp_path / "facts.jsonl"))
    assert found["first"].tolist() == [True, True]
    assert found["whole"].tolist() == [False, True]


def test_shares_have_intervals_and_a_row_for_long_objects() -> None:
    rows = [("a", False, True, True), ("a", True, True, False), ("b", True, False, False)]
    table = pd.DataFrame(rows, columns=["relation", "long", "first", "whole"])
    found = objects.shares(table).set_index("facts asked")
    assert found["n"].to_dict() == {"all": 3, "object of several tokens": 2, "a": 2, "b": 1}
    assert found.loc["all", "first token"].startswith("66.7% (") and found.loc["all", "whole"].startswith("33.3% (")
    assert found.loc["b", "whole"].startswith("0.0% (0.0% to 79.")
