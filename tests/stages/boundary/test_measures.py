"""A cell's row says what its model does; what is on the shelf is not measured again."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from own_answers import OwnAnswers
from tiny import TEXT

from quantcliff.probes import Probes
from quantcliff.stages.boundary import Bench, Cell, made, measure, parted
from quantcliff.stages.boundary import measures as module
from quantcliff.stages.boundary.budget import decibels, snr
from quantcliff.stages.boundary.margins import margins
from quantcliff.stages.boundary.readings import Reference, layers_of
from quantcliff.study import Study
from quantcliff.tracing import Runner, ranks, relay, score, site

CELLS = [Cell("tiny", "rtn", 3.0, 16), Cell("tiny", "gptq", 2.0, 16, 0.1)]


@pytest.fixture
def study(tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    monkeypatch.setattr(module, "running_text", lambda study: TEXT)
    text = tmp_path / "text.txt"
    text.write_text("\n\n".join(TEXT))
    return OwnAnswers(tiny_llama, method="rtn", bits="3", group_size=16, run=tmp_path / "run", calibration=text)


@pytest.fixture
def rows(study: Study) -> pd.DataFrame:
    return measure(study, CELLS)


def test_a_row_says_what_the_model_does(study: Study, rows: pd.DataFrame) -> None:
    grid, layers = parted(rows).values()
    assert grid["cell"].tolist() == [cell.label for cell in CELLS] and len(layers) == 2 * 3
    for cell, row in zip(CELLS, grid.itertuples(), strict=True):
        own = made(study, cell)
        runner = Runner(own)
        probes = study.known
        rank = score(runner, probes)["rank"].to_numpy()
        assert (row.kept, row.n, row.n_lost) == ((rank == 1).mean(), len(probes), (rank > 1).sum())
        assert row.kept_low <= row.kept <= row.kept_high
        assert row.lost_rank == np.median(rank[rank > 1]) and row.rank == np.median(rank)
        full, mine = (
            torch.cat([reader.run(torch.tensor([ids]))[0][:, -1] for ids in probes.input_ids])
            for reader in (study.runner("full"), runner)
        )
        theirs, ours = (margins(logits, probes.answers).numpy() for logits in (full, mine))
        assert row.kappa == pytest.approx(theirs @ ours / (theirs @ theirs), rel=1e-3)
        scale = float(full.std(-1).mean() / mine.std(-1).mean())
        assert row.scaled_kappa == pytest.approx(row.kappa * scale, rel=1e-3)
        assert row.predicted == pytest.approx(row.scaled_predicted)
        last = relay(study.runner("full"), runner, [2], probes)[2]
        assert row.fed == (ranks(runner, last[:, -1], probes.answers) == 1).mean()
        lost = np.flatnonzero(rank > 1)
        if len(lost) >= module.FEWEST_LOST:
            assert row.responds == (ranks(runner, last[lost, -1], [probes.answers[i] for i in lost]) == 1).mean()
        assert row.mode in ("intact", "signal degradation", "computation collapse", "mixed")
    assert grid["fact_weight_snr"].iloc[0] > grid["fact_weight_snr"].iloc[1]
    assert grid["overfit"].iloc[0] == pytest.approx(1), "plain rounding is held against itself"
    assert grid["overfit"].iloc[1] < 1
    assert (grid["average_bits"] == [3 + 19 / 16, 2 + 18 / 16]).all()


def test_layers_add_up_to_the_stream(study: Study, rows: pd.DataFrame) -> None:
    layers = parted(rows)["layers"]
    total = layers["carried"] + layers["own"]
    cross = 2 * layers["rho"].fillna(0) * np.sqrt(layers["carried"] * layers["own"])
    assert layers["snr"].to_numpy() == pytest.approx(-10 * np.log10(total + cross), rel=1e-6)
    first = layers[layers["layer"] == 0]
    assert first["carried"].to_numpy() == pytest.approx(0) and first["amplification"].isna().all()
    assert (layers["amplification"].dropna() > 0).all()
    assert layers["sign_flips"].between(0, 1).all() and (layers["cka"] <= 1).all()


def test_streams_go_through_full_precisions_layers(study: Study) -> None:
    reference, order = Reference.of_facts(study.base, study.known)
    own = made(study, CELLS[1])
    runner = Runner(own)
    read = reference.beside(runner)
    probes = study.known.select(order)
    one = 7
    ids = torch.tensor([probes.input_ids[one]])
    names = [site("resid_pre", layer) for layer in range(3)]
    _, entering = runner.run(ids, record=names)
    for layer, name in enumerate(names):
        after = site("resid_post", layer)
        _, found = reference.runner.run(entering[name], record=[after], start_layer=layer, end_layer=layer + 1)
        assert read.through is not None
        assert read.through[one, layer] == pytest.approx(found[after][0, -1].numpy(), rel=1e-4, abs=1e-5)
    budget = layers_of(reference.full, read)
    assert budget[-1].snr == pytest.approx(snr(reference.full.streams[:, -1], read.streams[:, -1]))
    same = reference.beside(reference.runner)
    assert np.abs(same.through - same.streams).max() < 1e-4
    assert decibels(snr(reference.full.streams[:, 2], same.streams[:, 2])) > 100


def test_text_is_read_at_all_but_the_first_token(study: Study) -> None:
    ids = torch.tensor([study.known.input_ids[0][:3], study.known.input_ids[1][:3]])
    reference = Reference(study.base, [ids], last=False)
    logits = study.base.hf(ids).logits
    assert torch.allclose(reference.full.logits, logits[:, 1:].flatten(0, 1), atol=1e-4)
    assert reference.full.streams.shape == (4, 3, 32) and reference.full.gate is None
    inputs: list[torch.Tensor] = []
    module = study.base.hf.get_submodule("model.layers.0.mlp.gate_proj")
    handle = module.register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
    study.base.hf(ids)
    handle.remove()
    seen = inputs[0][:, 1:].flatten(0, 1).double()
    moment = reference.moments["model.layers.0.mlp.gate_proj"]
    assert torch.allclose(moment, seen.T @ seen / 4, rtol=1e-4)


def test_what_is_on_the_shelf_is_not_measured_again(
    study: Study, rows: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(self: Bench, cell: Cell) -> pd.DataFrame:
        raise AssertionError(f"{cell.label} measured again")

    monkeypatch.setattr(Bench, "measured", never)
    pd.testing.assert_frame_equal(measure(study, CELLS), rows)
    with pytest.raises(AssertionError, match=r"gptq-2bit-g16-d1 measured again"):
        measure(study, [*CELLS, Cell("tiny", "gptq", 2.0, 16, 1.0)])
    monkeypatch.setattr(module, "running_text", lambda study: TEXT[:3])
    with pytest.raises(AssertionError, match="measured again"):
        measure(study, CELLS)


def test_facts_are_read_in_an_order_that_is_told(study: Study) -> None:
    reference, order = Reference.of_facts(study.base, study.known)
    probes: Probes = study.known.select(order)
    assert sorted(order) == list(range(len(study.known)))
    assert sum(map(len, reference.batches)) == len(order)
    assert [row.tolist() for batch in reference.batches for row in batch] == probes.input_ids
