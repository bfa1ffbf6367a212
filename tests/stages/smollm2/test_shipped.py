"""Shipped tables are what they say they are, and a part of them comes out again."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tiny import random_probes

from quantcliff import smollm2 as model
from quantcliff import tables
from quantcliff.errors import InputError
from quantcliff.stages import smollm2
from quantcliff.stages.smollm2.shipped import FOLDER
from quantcliff.study import Study

needed = pytest.mark.skipif(not (FOLDER / "made.json").is_file(), reason="no tables of SmolLM2 are shipped yet")


@pytest.fixture
def study(tiny_llama: Path, tmp_path: Path) -> Study:
    study = Study(tiny_llama, method="rtn", bits="4,2", group_size=16, n_facts=12, run=tmp_path / "run")
    study.probes = random_probes(12)
    return study


def shipped(study: Study, out: Path) -> smollm2.Shipped:
    for name in smollm2.STAGES:
        tables.write(pd.DataFrame({"estimate": [len(name)]}), study.run / f"{name}.parquet")
    smollm2.ship(study.run, study, {"command": "c", "commit": "0" * 40}, out)
    return smollm2.Shipped(out)


def test_what_is_shipped_is_read_back(study: Study, tmp_path: Path) -> None:
    found = shipped(study, tmp_path / "out")
    assert found.made["command"] == "c" and found.made["model"] == study.base.digest and found.made["prompts"] == 12
    assert found.stages()["repair"]["estimate"].tolist() == [6]
    scores = found.table("scores")
    assert scores["variant"].unique().tolist() == study.labels and len(scores) == 36
    with pytest.raises(InputError, match="no shipped table 'other'"):
        found.table("other")


def test_a_changed_table_is_refused(study: Study, tmp_path: Path) -> None:
    found = shipped(study, tmp_path / "out")
    tables.write(pd.DataFrame({"estimate": [7]}), tmp_path / "out" / "repair.parquet")
    with pytest.raises(InputError, match=r"repair\.parquet is not the file that made\.json"):
        found.table("repair")


def test_some_tables_are_replaced_by_those_of_another_commit(study: Study, tmp_path: Path) -> None:
    out = tmp_path / "out"
    before = shipped(study, out)
    verdict, scores = before.table("verdict"), before.table("scores")
    run = tmp_path / "another"
    for name, value in (("verdict", 1), ("weights", 2)):
        tables.write(pd.DataFrame({"value": [value]}), run / f"{name}.parquet")
    made = json.loads((out / "made.json").read_text()) | {"later": {"a": ["verdict", "macro"]}}
    (out / "made.json").write_text(json.dumps(made))
    smollm2.ship_again(run, ["verdict"], "b", out)
    smollm2.ship_again(run, ["weights"], "b", out)
    after = smollm2.Shipped(out)
    assert after.made["later"] == {"a": ["macro"], "b": ["verdict", "weights"]}
    assert after.table("verdict")["value"].tolist() == [1] and len(verdict)
    pd.testing.assert_frame_equal(after.table("scores"), scores)
    with pytest.raises(InputError, match="no shipped table 'verdicts'"):
        smollm2.ship_again(run, ["verdicts"], "b", out)


def test_a_run_that_is_not_finished_is_not_shipped(study: Study, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no table"):
        smollm2.ship(study.run, study, {}, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_asked_again(study: Study, tmp_path: Path) -> None:
    scores = shipped(study, tmp_path / "out").table("scores")
    scores["rank"] = np.where(scores.index % 2, 1, 9)
    for label in study.labels:
        before = scores.loc[scores["variant"] == label, "rank"].to_numpy() == 1
        now = study.scores(label)["rank"].to_numpy() == 1
        row = smollm2.recheck(study, scores).set_index("variant").loc["full precision" if label == "full" else label]
        assert row["n"] == 12 and row["shipped"] == before.mean() and row["here"] == now.mean()
        assert row["same"] == (before == now).mean()
    assert (smollm2.recheck(study, scores[scores["prompt"] == "prompt 3"])["n"] == 1).all()


@needed
def test_every_shipped_table_is_whole() -> None:
    found = smollm2.Shipped()
    assert {*smollm2.STAGES, "scores"} == set(found.made["files"]) and all(len(t) for t in found.stages().values())
    assert len(found.made["commit"]) == 40 and "quantcliff" in found.made["command"]
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 3e6, "small enough for git"


@needed
@pytest.mark.skipif(not model.folder().is_dir(), reason=f"SmolLM2 is not here: {model.HOW}")
def test_a_part_of_the_shipped_tables_is_made_again(tmp_path: Path) -> None:
    study = Study("smollm2", method="rtn", bits="4,2", group_size=64, facts="smollm2", n_facts=24, run=tmp_path)
    found = smollm2.recheck(study, smollm2.Shipped().table("scores"))
    assert found["variant"].tolist() == ["full precision", "rtn-4bit-g64", "rtn-2bit-g64"]
    assert (found["n"] >= 20).all() and (found["same"] >= 0.95).all()
    shutil.rmtree(tmp_path / "quantized")
    assert json.loads((FOLDER / "made.json").read_text())["model"] == study.base.digest
