"""The benchmarks run, and both ways of each give the same numbers."""

import importlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from quantcliff.probes import Probes
from quantcliff.study import Study


def test_every_pair_agrees_and_is_timed(tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    speed = importlib.import_module("speed")
    fact = {"relation": "r", "subject": "Rome", "object": "Italy", "prompt": "Rome lies in"}
    (tmp_path / "facts.jsonl").write_text(json.dumps(fact) + "\n", encoding="utf-8")
    study = Study(tiny_llama, method="rtn", bits=4, group_size=16, facts=tmp_path / "facts.jsonl", run=tmp_path / "run")
    ids = [np.random.default_rng(row).integers(1, 320, 4 + row % 3).tolist() for row in range(12)]
    table = pd.DataFrame({"prompt": list(map(str, range(12)))})
    study.known = Probes(ids, [[1]] * 12, np.tile([1, 2], (12, 1)), table, pd.DataFrame())
    rows = list(speed.measure(study, repeats=2))
    assert len(rows) == len(speed.PAIRS)
    assert all(row["least"] <= row["times faster"] <= row["most"] and row["ours, s"] > 0 for row in rows)
