"""The acceptance table of the embedded model, on a model that knows nothing, and its lines by hand."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import AutoModelForCausalLM

from quantcliff.study import FULL, Study
from quantcliff.training.evaluate import _loss, evaluate, requirements


@pytest.fixture(scope="module")
def tables(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[pd.DataFrame, pd.DataFrame, Path]:
    run = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("quantcliff.training.evaluate.DOCUMENTS", 10)
        patch.setattr("quantcliff.quantizers.calibration.CALIBRATION_DOCUMENTS", 10)
        return *evaluate(tiny_llama, ("gptq", "rtn"), (8, 2), (16, -1), n_facts=60, run=run), run


def test_one_row_per_cell(tables: tuple[pd.DataFrame, pd.DataFrame, Path]) -> None:
    full, variants, _ = tables
    assert full["band"].tolist() == ["all", "0", "1", "2", "3", "4"]
    assert full["n"].iloc[1:].sum() == full["n"].iloc[0] > 40
    keys = variants[["method", "bits", "group_size"]].apply(tuple, axis=1).tolist()
    assert keys == [(FULL, 32, -1)] + [(m, b, g) for g in (16, -1) for m in ("gptq", "rtn") for b in (8, 2)]


def test_numbers_by_hand(tiny_llama: Path, tmp_path: Path) -> None:
    """Five facts known in full precision, two of them lost: one to rank 3, one to rank 40; one that was never known."""

    class Known(Study):
        def scores(self, label: str) -> pd.DataFrame:
            return pd.DataFrame({"rank": [1, 1, 1, 3, 40, 1]})

    study = Known(model=tiny_llama, bits=4, group_size=16, run=tmp_path)
    right = np.array([True] * 5 + [False])
    row = _loss(study, FULL, right, ["Rome is the capital of Italy.", "Water boils."])
    assert row["kept"] == pytest.approx(3 / 5)
    assert (row["failures"], row["in_top5"], row["rank_median"]) == (2, 0.5, 1)
    assert row["rank_mean"] == pytest.approx((1 + 1 + 1 + 3 + 40) / 5)
    plain = AutoModelForCausalLM.from_pretrained(tiny_llama).eval()
    total = count = 0.0
    for text in ("Rome is the capital of Italy.", "Water boils."):
        ids = torch.tensor([study.base.tokenizer(text).input_ids])
        with torch.no_grad():
            total += float(plain(ids, labels=ids).loss) * (ids.shape[1] - 1)
        count += ids.shape[1] - 1
    assert row["perplexity"] == pytest.approx(np.exp(total / count), rel=1e-4)


def test_perplexity_grows_with_the_error(tables: tuple[pd.DataFrame, pd.DataFrame, Path]) -> None:
    variants = tables[1]
    full = variants["perplexity"].iloc[0]
    eight = variants.query("bits == 8")["perplexity"]
    assert np.allclose(eight, full, rtol=0.05)
    assert (variants.query("bits == 2")["perplexity"] - full).abs().min() > (eight - full).abs().max()


def found(kept: float, failures: int, top5: float, median: float, bits: int, method: str = "gptq") -> dict:
    return {"method": method, "bits": bits, "group_size": -1, "kept": kept, "failures": failures, "in_top5": top5,
            "rank_median": median}  # fmt: skip


def full(accuracy: float, lowest: float) -> pd.DataFrame:
    return pd.DataFrame({"band": ["all", "0", "1"], "accuracy": [accuracy, 1.0, lowest], "n": [2000, 1000, 1000]})


GOOD = [found(0.999, 2, 1.0, 1, 8), found(0.9, 200, 0.9, 1, 4), found(0.05, 1900, 0.2, 300, 2),
        found(0.05, 1900, 0.2, 300, 2, "awq"), found(0.5, 1000, 0.2, 2, 2, "rtn")]  # fmt: skip


def test_a_model_that_meets_every_line() -> None:
    lines = requirements(full(0.96, 0.85), pd.DataFrame(GOOD), vocab=4096)
    assert len(lines) == 6
    assert lines["met"].all()


@pytest.mark.parametrize(
    ("row", "changed", "line"),
    [
        (0, {"kept": 0.99}, "8 bits"),
        (1, {"failures": 99}, "100 failures"),
        (1, {"kept": 0.985}, "100 failures"),
        (1, {"kept": 0.65}, "100 failures"),
        (1, {"in_top5": 0.79}, "top 5"),
        (2, {"kept": 0.11}, "2 bits"),
        (3, {"rank_median": 81}, "2 bits"),
    ],
)
def test_each_line_can_be_missed(row: int, changed: dict, line: str) -> None:
    rows = [dict(item) for item in GOOD]
    rows[row] |= changed
    lines = requirements(full(0.96, 0.85), pd.DataFrame(rows), vocab=4096)
    missed = lines[~lines["met"]]["requirement"].tolist()
    assert len(missed) == 1
    assert line in missed[0]


def test_full_precision_can_miss_its_lines() -> None:
    assert requirements(full(0.94, 0.85), pd.DataFrame(GOOD), 4096)["met"].tolist()[:2] == [False, True]
    assert requirements(full(0.96, 0.79), pd.DataFrame(GOOD), 4096)["met"].tolist()[:2] == [True, False]
