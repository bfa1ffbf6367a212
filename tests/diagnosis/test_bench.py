"""What is counted in the bench's table is counted right, and the shipped table is the one that made.json speaks of."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from quantcliff.diagnosis import bench
from quantcliff.diagnosis.bench.shipped import FOLDER, TABLES, ship
from quantcliff.errors import InputError


def table(**columns: list) -> pd.DataFrame:
    length = max(map(len, columns.values()))
    blank = dict.fromkeys(
        ["kind", "level", "strength", "headline", "mode", "old", "label", "after", "cosine", "seed", "many", "text"],
        [""] * length,
    )
    numbers = dict.fromkeys(["label_kept", "regained", "kept_after"], [0.5] * length)
    return pd.DataFrame(
        {"pair": list(map(str, range(length))), "model": ["atlas"] * length} | blank | numbers | columns
    )


def test_labels_and_verdicts_are_crossed() -> None:
    pairs = table(
        label=["intact", "degraded", "degraded", "collapsed", "collapsed", ""],
        mode=["intact", "signal degradation", "computation collapse", "mixed", "computation collapse", "intact"],
        old=["intact"] * 6,
        cosine=["intact", "collapsed", "degraded", "collapsed", "degraded", "intact"],
    )
    counts = bench.confusion(pairs).set_index("label")
    assert counts.loc["degraded", list(bench.LABELS)].tolist() == [0, 1, 1]
    assert counts.loc["collapsed", ["mixed", "collapsed", "n"]].tolist() == [1, 1, 2]
    assert counts.loc["degraded", "right"] == 0.5
    rules = bench.right(pairs).set_index("rule")
    assert rules.loc["this rule", ["right", "n", "opposite", "undecided"]].tolist() == [0.6, 5, 1, 1]
    assert rules.loc[bench.RULES["old"], ["right", "opposite"]].tolist() == [0.2, 0]
    assert rules.loc[bench.RULES["cosine"], ["right", "opposite"]].tolist() == [0.6, 2]
    assert bench.disagreeing(pairs)["pair"].tolist() == ["2", "3"]
    asked = bench.right(pairs.assign(cosine=["intact", "", "degraded", "", "degraded", "intact"])).set_index("rule")
    assert asked.loc[bench.RULES["cosine"], ["right", "n"]].tolist() == [2 / 3, 3], "what was not asked is not wrong"
    assert bench.confusion(pairs.assign(cosine=""), "cosine")["n"].tolist() == [0, 0, 0]
    beside = bench.against(pairs).set_index("rule")
    assert beside["difference"].tolist() == pytest.approx([0.4, 0.0]) and beside["n"].tolist() == [5, 5]
    assert (beside["low"] <= beside["difference"]).all() and (beside["difference"] <= beside["high"]).all()
    other = pairs.assign(after=["intact", "degraded", "collapsed", "", "", ""])
    assert bench.right(other, "after")["right"].tolist() == [1, 1 / 3, 1 / 3]
    assert bench.confusion(other, "mode", "after")["n"].tolist() == [1, 1, 1]


def test_the_smallest_fault_found_is_that_from_which_on_all_are() -> None:
    pairs = table(
        kind=["a"] * 3 + ["b"] * 3 + ["c"] * 3,
        level=["weak", "middle", "strong"] * 3,
        strength=["1", "2", "3"] * 3,
        headline=["format bug, intact"] * 3 + ["intact", "format bug, intact", "format bug, intact"] + [""] * 3,
        found=[True, False, True, False, True, True, None, None, None],
        odd=[0] * 9,
    )
    rows = bench.found(pairs).set_index("kind")
    assert rows["smallest"].tolist() == ["3", "2", ""]
    assert rows.loc["a", "middle"] == "2: noticed, place or kind wrong"
    assert rows.loc["b", "weak"] == "1: missed"
    assert rows.loc["c", "strong"] == "3: not run"
    assert bench.found(pairs.assign(odd=1)).loc[1, "weak"] == "1: called odd and harmless"


def test_false_alarms_and_agreement_are_counted() -> None:
    files = pd.DataFrame(
        {"source": ["s", "s", "t"], "model": ["m"] * 3, "modules": [10, 30, 5], "accused": [0, 2, 0],
         "fault": ["", "layer 1", ""]}
    )  # fmt: skip
    rows = bench.alarms(files)
    assert rows[["files", "files_accused", "modules", "accused"]].to_numpy().tolist() == [[2, 1, 40, 2], [1, 0, 5, 0]]
    assert rows.loc[0, "high"] == pytest.approx(0.165, abs=0.01)
    pairs = table(mode=["mixed", "intact", "intact"], seed=["mixed", "mixed", ""])
    row = bench.agreement(pairs).set_index("way").loc["another seed"]
    assert (row["same"], row["n"], row["others"]) == (1, 2, "1: intact, mixed")
    assert row["low"] < 0.5 < row["high"]


def test_what_is_shipped_is_read_back_and_no_other_file(tmp_path: Path) -> None:
    pairs = table(mode=["intact"], kept=[0.98765])
    ship({"pairs": pairs, "files": pd.DataFrame({"checkpoint": ["c"], "fault": [""]})}, {"commit": "0"}, tmp_path)
    found = bench.Shipped(tmp_path)
    assert found.made["commit"] == "0"
    assert found.table("pairs").loc[0, ["mode", "old", "kept"]].tolist() == ["intact", "", 0.9877]
    (tmp_path / "pairs.csv").write_text("pair\n", encoding="utf-8")
    with pytest.raises(InputError, match="not the file"):
        found.table("pairs")
    with pytest.raises(InputError, match="no shipped table 'others'"):
        found.table("others")


@pytest.mark.skipif(not (FOLDER / "made.json").is_file(), reason="the bench has not been shipped yet")
def test_the_shipped_bench_is_whole(tmp_path: Path) -> None:
    made = json.loads((FOLDER / "made.json").read_text(encoding="utf-8"))
    assert set(made["files"]) == set(TABLES)
    for name in TABLES:
        shutil.copy(FOLDER / f"{name}.csv", tmp_path)
    shutil.copy(FOLDER / "made.json", tmp_path)
    pairs = bench.Shipped(tmp_path).table("pairs")
    assert len(pairs) >= 80 and pairs["pair"].is_unique
    assert pairs.loc[pairs["kind"] != "", "kind"].nunique() >= 14
