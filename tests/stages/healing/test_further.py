"""Other ways to spend the healing text: what is compared with what, and a part of the shipped table made again."""

from pathlib import Path

import pandas as pd
import pytest
import torch
from tiny import TEXT

from quantcliff import models
from quantcliff.quantizers.healing import rows_of
from quantcliff.stages import healing
from quantcliff.stages.healing import further, row
from quantcliff.stages.smollm2 import Shipped
from quantcliff.study import Study


@pytest.fixture(scope="module")
def tables() -> tuple[pd.DataFrame, pd.DataFrame]:
    shipped = Shipped(healing.FOLDER)
    return shipped.table("further"), shipped.table("healing")


def share(estimate: float, low: float, high: float) -> dict[str, float]:
    return {"estimate": estimate, "low": low, "high": high}


def test_more_is_beyond_both_intervals() -> None:
    assert further.more(share(0.5, 0.4, 0.6), share(0.3, 0.2, 0.35))
    assert not further.more(share(0.5, 0.4, 0.6), share(0.3, 0.2, 0.5)), "it lies in the other's interval"
    assert not further.more(share(0.5, 0.25, 0.6), share(0.3, 0.2, 0.35)), "the other lies in its own"
    assert not further.more(share(0.3, 0.2, 0.35), share(0.5, 0.4, 0.6))


@pytest.mark.parametrize("arm", ["autoround", further.HEALED, further.ALONE, further.LONGER])
def test_every_rule_looks_at_its_arm(tables: tuple[pd.DataFrame, pd.DataFrame], arm: str) -> None:
    """An arm that keeps nothing, or everything, turns its own rule over and no other."""
    found, shipped = tables
    before = further.rules(found, shipped)
    own = list(before)[["autoround", further.HEALED, further.ALONE, further.LONGER].index(arm)]
    outcomes = []
    for value in (0.0, 1.0):
        changed = found.copy()
        changed.loc[changed["arm"] == arm, ["estimate", "low", "high"]] = value
        after = further.rules(changed, shipped)
        assert {name: held for name, held in after.items() if name != own} == {
            name: held for name, held in before.items() if name != own
        }
        outcomes.append(after[own])
    assert outcomes == [arm in (further.ALONE, further.LONGER), arm == further.HEALED]


def test_enough_text_and_no_more(tmp_path: Path) -> None:
    study = Study("atlas", method="rtn", bits="2", run=tmp_path)
    text = healing.documents(healing.EQUAL)
    found = further.enough(study, text)
    sizes = [len(study.base.tokenizer(document).input_ids) for document in found]
    assert found == text[: len(found)]
    assert sum(sizes) >= healing.EQUAL * healing.TOKENS > sum(sizes[:-1])


def test_reading_longer_lowers_the_loss(
    tiny_neox: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(further, "TOKENS", 16)
    monkeypatch.setattr(further, "EQUAL", 40)
    monkeypatch.setattr(further, "LONGER_RATE", 1e-2)
    study = Study(tiny_neox, method="rtn", bits="2", group_size=16, facts="atlas", run=tmp_path / "run")
    out = further.in_full_precision(study, TEXT * 8, tmp_path / "longer")
    ids = rows_of(study.base.tokenizer, TEXT * 8, 16, 40)
    with torch.no_grad():
        before, after = (float(models.load(folder).hf(ids, labels=ids).loss) for folder in (tiny_neox, out))
    assert after < before - 0.5
    stamp = (out / "model.safetensors").stat().st_mtime_ns
    assert further.in_full_precision(study, TEXT, out) == out
    assert (out / "model.safetensors").stat().st_mtime_ns == stamp, "it is not made twice"


def test_a_part_of_the_shipped_table_made_again(tables: tuple[pd.DataFrame, pd.DataFrame], tmp_path: Path) -> None:
    """The text read in full precision, then plain rounding: the quickest of the ways."""
    study = Study("atlas", method="rtn", bits="2", run=tmp_path)
    longer = further.in_full_precision(study, healing.documents(healing.EQUAL), tmp_path / "longer")
    rounded = further.quantize(longer, further.Scheme("rtn", 2, 128), (), tmp_path / "quantized")
    again = further._rows(study, "rtn", further.LONGER, rounded)
    for part in ("all", "held-out"):
        here, there = (row(t, further.LONGER, healing.EQUAL, part, method="rtn") for t in (again, tables[0]))
        assert here["n"] == there["n"]
        assert here["estimate"] == pytest.approx(there["estimate"], abs=0.005)
