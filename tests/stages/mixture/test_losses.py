"""What is lost is lost by the half's own facts, pieces and copies."""

from pathlib import Path

import numpy as np
import pytest
import torch
from own_answers import OwnAnswers
from tiny import TEXT

from quantcliff.models import load, splice
from quantcliff.quantizers import rounding
from quantcliff.quantizers.scheme import Scheme
from quantcliff.stages.boundary.margins import margins
from quantcliff.stages.mixture import texts
from quantcliff.stages.mixture.losses import Gathered, Losses, works
from quantcliff.stages.mixture.readings import Bench
from quantcliff.stages.mixture.texts import COPIED, Half, readings
from quantcliff.study import Study
from quantcliff.tracing import Runner, score

FFN = "model.layers.2.mlp"
UNITS = {"0.q_proj": ["model.layers.0.self_attn.q_proj"], "2": [f"{FFN}.up_proj", f"{FFN}.down_proj"]}


@pytest.fixture
def study(tiny_llama: Path, tmp_path: Path) -> Study:
    return OwnAnswers(tiny_llama, method="rtn", bits="3", group_size=16, run=tmp_path / "run")


@pytest.fixture
def half(study: Study) -> Half:
    pieces = texts.pieces_of((study.base.tokenizer(text).input_ids for text in TEXT), 6)
    return Half(study.known.draw(25), pieces, texts.copies(pieces, [0], 4, 0))


def test_losses_are_those_of_the_plain_model(study: Study, half: Half) -> None:
    found = Bench(study.base, half).read({})
    hf = study.base.hf
    for row, ids in enumerate(half.facts.input_ids):
        logits = hf(torch.tensor([ids])).logits[0, -1]
        answer = max(torch.log_softmax(logits, -1)[half.facts.answers[row]])
        assert found.facts[row] == pytest.approx(-float(answer), abs=1e-4) and found.right[row]
    for row, ids in enumerate(half.pieces):
        whole = torch.nn.functional.cross_entropy(hf(torch.tensor([ids])).logits[0, :-1], torch.tensor(ids[1:]))
        assert found.text[row] == pytest.approx(float(whole) * (len(ids) - 1), rel=1e-4)
        assert found.tokens[row] == len(ids) - 1
    for row, ids in enumerate(half.copies):
        logits = hf(ids[None]).logits[0]
        again = torch.nn.functional.cross_entropy(logits[COPIED + 1 : -1], ids[COPIED + 2 :])
        assert found.copies[row] == pytest.approx(float(again), rel=1e-4)
    logits = torch.cat([hf(torch.tensor([ids])).logits[:, -1] for ids in half.facts.input_ids])
    assert found.margin == pytest.approx(
        (margins(logits, half.facts.answers) / logits.std(-1).mean()).detach().numpy(), rel=1e-3
    )


def test_both_readings_leave_out_their_first_token() -> None:
    ids = torch.tensor([[0, *range(1, COPIED + 1), *range(1, COPIED + 1)]])
    logits = torch.zeros(1, ids.shape[1], 30)
    logits[0, 0, 1] = logits[0, COPIED, 1] = -50.0
    first, second = readings(logits, ids)
    assert first[0] == pytest.approx(np.log(30)) and second[0] == pytest.approx(np.log(30))
    logits[0, COPIED + 1, 2] = -50.0
    assert readings(logits, ids)[1][0] > np.log(30) + 3 and readings(logits, ids)[0] == first


def test_one_unit_at_a_time_is_that_unit_alone(study: Study, half: Half) -> None:
    base = study.base
    coarse = rounding.rounded_model(base, Scheme("rtn", 2, 16))
    own = {name: coarse.hf.get_submodule(name).weight.detach() for names in UNITS.values() for name in names}
    bench = Bench(base, half)
    exact = bench.read({})
    alone = dict(bench.one_at_a_time(UNITS, {}, own))
    but = dict(bench.one_at_a_time(UNITS, own, {}))
    taken = {f"{name}.weight" for name in own}
    for unit, names in UNITS.items():
        mine = {f"{name}.weight" for name in names}
        for found, take in ((alone[unit], mine), (but[unit], taken - mine)):
            wanted = score(Runner(splice(base, coarse, take.__contains__)), half.facts)
            assert found.facts == pytest.approx(-wanted["logprob"].to_numpy(), abs=1e-4)
            assert (found.right == (wanted["rank"] == 1)).all()
    whole = bench.read(own)
    assert whole.total()["facts"] > exact.total()["facts"]
    assert bench.read({}).facts == pytest.approx(exact.facts), "it is put back"
    assert (
        load(study.parameters.model)
        .hf.get_submodule(UNITS["2"][0])
        .weight.equal(base.hf.get_submodule(UNITS["2"][0]).weight)
    ), "and the base was never touched"


def test_blocks_deal_rows_out(half: Half) -> None:
    right, text = np.ones(45, dtype=bool), np.arange(1.0, 41)
    losses = Losses(np.arange(45.0), right, np.ones(45), text, 1 + np.arange(40) // 20, np.zeros(0))
    found = losses.by_block()
    assert len(found) == texts.BLOCKS
    assert found["facts"].iloc[3] == np.mean([3, 23, 43]) and found["facts"].iloc[7] == np.mean([7, 27])
    assert found["text"].iloc[3] == (4 + 24) / 3 and found["copies"].isna().all()
    assert losses.total()["text"] == np.arange(1, 41).sum() / 60


def test_all_rows_are_asked_once(half: Half) -> None:
    found = works(half)
    for signal, n in (("facts", 25), ("text", 6), ("copies", 4)):
        rows = np.concatenate([work.rows for work in found if work.signal == signal])
        assert sorted(rows) == list(range(n))
    gathered = Gathered(half)
    assert gathered.found["text"].shape == (6,)
