"""Measures by hand, on tables that are made up; and one way through the whole stage."""

import numpy as np
import pandas as pd
import pytest
import torch

from quantcliff.stages import activations
from quantcliff.stages.activations import measures, tasks
from quantcliff.stages.activations.lookup import named
from quantcliff.stages.activations.ways import cache, inputs
from quantcliff.stages.verdict import Pair, causes
from quantcliff.study import FULL, Study
from quantcliff.tracing import Runner


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return Study("atlas", method="rtn", bits="8", n_facts=150, run=tmp_path_factory.mktemp("run"))


def test_the_where_share_by_hand() -> None:
    assert float(measures.where(np.array([0.1, 0.3]), np.array([0.5, 0.7]))) == pytest.approx(0.2 / 0.8)
    assert float(measures.where(0.3, 0.1)) == pytest.approx(0.75)
    batch = measures.where(np.array([[0.0, 0.5], [1.0, 1.0]]), np.array([[1.0, 0.5], [1.0, 2.0]]), axis=1)
    assert batch.tolist() == pytest.approx([0.25, 0.4])


def test_means_over_layers_leave_out_what_has_no_value() -> None:
    heads = np.array([[[0.1, 0.3], [np.nan, np.nan]], [[0.5, 0.5], [0.7, 0.9]], [[np.nan] * 2] * 2])
    found = {("last", "clean", "jsd", False): heads, ("last", "clean", "jsd", True): heads + 1}
    assert measures.over_layers(found, "clean", "jsd")[:2].tolist() == pytest.approx([0.2, 0.65])
    assert np.isnan(measures.over_layers(found, "clean", "jsd")[2])
    assert measures.over_layers(found, "clean", "jsd", True)[0] == pytest.approx(1.2)


def test_modes_follow_the_two_questions() -> None:
    def rows(way: str, kept: float, forms: float, responds: float) -> list[dict]:
        values = {"kept": kept, "forms": forms, "responds": responds}
        row = {"way": way, "low": np.nan, "high": np.nan, "n": 100, "control": np.nan}
        return [row | {"measure": name, "estimate": value} for name, value in values.items()]

    table = pd.DataFrame([
        *rows("a", 0.99, 0.1, 0.1), *rows("b", 0.9, 0.75, 0.5), *rows("c", 0.5, 0.74, 0.49), *rows("d", 0.5, 0.8, 0.4),
        *rows("e", 0.9, 0.8, np.nan),
    ])  # fmt: skip
    assert activations.modes(table).to_dict() == {
        "a": "intact", "b": "signal degradation", "c": "computation collapse", "d": "mixed", "e": "signal degradation",
    }  # fmt: skip
    assert activations.value(table, "c", "forms") == 0.74 and np.isnan(activations.value(table, "c", "nothing"))


def test_a_lookup_failure_needs_one_layer_whose_keys_and_not_values_bring_answers_back() -> None:
    def table(keys: list[float], values: float) -> pd.DataFrame:
        rows = [*(("keys", layer, value) for layer, value in enumerate(keys)), ("values", 1, values)]
        return pd.DataFrame(rows, columns=["left", "layer", "estimate"])

    assert named(table([0.1, 0.5], 0.4), 0.5)
    assert not named(table([0.1, 0.5], 0.5), 0.9)
    assert not named(table([0.1, 0.49], 0.1), 0.9)
    assert not named(table([0.1, 0.5], 0.1), 0.49)


def test_the_stage_on_two_ways(study: Study) -> None:
    table = activations.measure(study, [*inputs([3]), *cache([2])[1:3]], 40)
    assert list(dict.fromkeys(table["way"])) == ["W16A3", "K2", "V2"]
    of = {way: rows.set_index("measure") for way, rows in table.groupby("way")}
    for way, rows in of.items():
        known = study.known_scores(way)["rank"]
        assert rows.loc["kept", "estimate"] == (known == 1).mean() and rows.loc["kept", "n"] == len(known)
        assert rows.loc["lost_rank", "estimate"] == known[known > 1].median()
        pair = Pair(study, way, 40, pd.DataFrame)
        whole = causes.responds(pair)[0]
        assert rows.loc["responds", "estimate"] == pytest.approx(whole["value"])
        assert rows.loc["responds", "control"] == pytest.approx(whole["control"])
    assert of["V2"].loc["jsd, clean", "estimate"] == pytest.approx(0, abs=1e-6), (
        "values change no pattern of their layer"
    )
    assert of["K2"].loc["jsd, clean", "estimate"] > 0.001
    assert (table[table["measure"] == "where, in place"]["control"] > 0).all()


def test_keys_of_one_layer_alone_left(study: Study) -> None:
    (both,) = cache([2])[:1]
    activations.ways.add(study, [both])
    found = activations.lookup.measure(study, "KV2", 30)
    assert found["left"].tolist() == ["keys"] * 8 + ["values"] and (found["n"] == 30).all()
    assert found["layer"].iloc[-1] == found["layer"][found["estimate"][:8].idxmax()]
    assert found["estimate"].between(0, 1).all() and found["estimate"].max() > 0


def test_induction_heads_are_seen_where_they_look(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    """A made-up pattern that looks at what followed the same token before scores 1, and one step off it 0."""
    runner = Runner(study.model(FULL))
    assert tasks.induction(runner).shape == (8, 4) and tasks.induction(runner).max() < 0.1
    n, shift = tasks.LENGTH, 0

    def run(ids: torch.Tensor, record: list[str], last: torch.Tensor) -> tuple[None, dict[str, torch.Tensor]]:
        pattern = torch.zeros(len(ids), 2, ids.shape[1], ids.shape[1])
        for query in range(n + 1, 2 * n):
            pattern[:, 0, query, query - n + 1 + shift] = 1
        return None, dict.fromkeys(record, pattern)

    monkeypatch.setattr(runner, "run", run)
    assert tasks.induction(runner).tolist() == [[1.0, 0.0]] * 8
    shift = 1
    assert tasks.induction(runner).tolist() == [[0.0, 0.0]] * 8
    ids = tasks.twice(4096)
    assert (ids[:, 0] == 0).all() and (ids[:, 1 : n + 1] == ids[:, n + 1 :]).all()


def test_what_is_left_of_a_circuit(study: Study, tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Heads that are made up: two of full precision, of which 3-bit inputs leave a third and 2-bit keys all."""
    left = {FULL: 1.0, "W16A3": 1 / 3, "K2": 1.0}

    def induction(runner: Runner, seed: int) -> np.ndarray:
        return np.array([[0.6, 0.1], [0.2, 0.9]]) * left[runner.model.name]

    monkeypatch.setattr(tasks, "induction", induction)
    monkeypatch.setattr(tasks, "COPYING", "atlas")

    def asked(source: str) -> Study:
        return Study("atlas", method="rtn", bits="8", facts=source, n_facts=40, run=tmp_path)

    found = tasks.circuit(asked, study, [*inputs([3]), *cache([2])[1:2]]).set_index("way")
    assert found["share"].tolist() == pytest.approx([1 / 3, 1]) and found["n"].tolist() == [2, 2]
    assert found["score"].tolist() == pytest.approx([0.25, 0.75])
    assert (found["kept_low"] <= found["kept"]).all() and (found["kept"] < 1).all() and (found["known"] <= 40).all()
    monkeypatch.setattr(tasks, "induction", lambda runner, seed: np.zeros((2, 2)))
    assert tasks.circuit(asked, study, inputs([3])).empty


def test_tasks_fall(study: Study, tmp_path) -> None:
    found = tasks.falls(lambda source: Study("atlas", method="rtn", bits="2", facts=source, n_facts=40, run=tmp_path),
                        ["atlas"], ["rtn-2bit-g128"])  # fmt: skip
    full, two = (found[found["bits"] == bits].iloc[0] for bits in (16, 2))
    assert full["kept"] == 1 and full["accuracy"] == full["known"] / 40 and full["n"] == 40
    assert two["kept"] <= 0.2 and two["kept_low"] <= two["kept"] <= two["kept_high"]
    assert two["accuracy"] == pytest.approx(two["kept"] * two["known"] / 40, abs=0.03)
    assert 0 < full["floor"] < 1


def test_the_deciding_questions_again_of_more_answers(study: Study) -> None:
    few = activations.measure(study, inputs([3]), 40)
    more = measures.asked_again(study, inputs([3]), 90)
    assert more["way"].tolist() == ["W16A3"] * 2 and more["measure"].tolist() == ["forms", "responds"]
    asked = more.set_index("measure")["n"]
    lost = int((study.known_scores("W16A3")["rank"] > 1).sum())
    assert asked["responds"] == min(90, lost) > few.set_index("measure").loc["responds", "n"] == 40
