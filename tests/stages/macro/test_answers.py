"""Ranks, probabilities, divergence and perplexity against direct calculation; the whole table on the embedded model."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import entropy
from transformers import AutoModelForCausalLM

from quantcliff import models
from quantcliff.charts import macro as charts
from quantcliff.probes import Probes
from quantcliff.stages.macro import answers as macro
from quantcliff.study import Study
from quantcliff.tracing import Runner, divergence, score_logits


def logits(seed: int, *shape: int) -> torch.Tensor:
    return 3 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000))
def test_divergence_is_scipys_and_not_symmetric(seed):
    a, b = logits(seed, 4, 11), logits(seed + 1, 4, 11)
    p, q = a.double().softmax(-1).numpy(), b.double().softmax(-1).numpy()
    np.testing.assert_allclose(divergence(a, b).numpy(), entropy(p, q, axis=-1), rtol=1e-6)
    np.testing.assert_allclose(divergence(a, a).numpy(), 0, atol=1e-12)
    np.testing.assert_allclose(divergence(a + 5, b - 7).numpy(), divergence(a, b).numpy(), rtol=1e-4)


def test_losses_equal_transformers_own_and_ignore_padding(tiny_llama):
    runner = Runner(models.load(tiny_llama))
    plain = AutoModelForCausalLM.from_pretrained(tiny_llama, dtype=torch.float32)
    random = np.random.default_rng(0)
    documents = [random.integers(1, 320, size).tolist() for size in (9, 2, 30, 17)]
    found = macro.document_losses(runner, documents)
    for index, ids in enumerate(documents):
        batch = torch.tensor([ids])
        with torch.no_grad():
            loss = plain(batch, labels=batch).loss.item()
        assert found[index] == pytest.approx(loss * (len(ids) - 1), rel=1e-5)
    interval = macro.perplexity(found, np.array([len(ids) - 1 for ids in documents]))
    assert interval.estimate == pytest.approx(np.exp(found.sum() / (9 + 2 + 30 + 17 - 4)))
    assert interval.low < interval.estimate < interval.high


def test_perplexity_of_even_chances_is_the_number_of_choices():
    ids = torch.tensor([[1, 2, 3, 0], [4, 5, 6, 7]])
    lengths = torch.tensor([3, 4])
    found = macro.losses(torch.zeros(2, 4, 50), ids, lengths).numpy()
    assert macro.perplexity(found, np.array([2, 3])).estimate == pytest.approx(50)


def test_summary_of_known_ranks():
    scores = pd.DataFrame({"rank": [1, 1, 5, 6, 2000], "probability": [0.9, 0.8, 0.1, 0.1, 0.1], "kl": [0, 0, 1, 1, 3]})
    found = macro.summary(scores).set_index("measure")
    expected = {
        "accuracy": 2 / 5, "top5": 3 / 5, "probability": 0.4, "rank_mean": 2013 / 5, "rank_median": 5, "kl": 1,
        "rank 1": 2 / 5, "rank 2 to 5": 1 / 5,
        "rank 6 to 100": 1 / 5, "rank 101 to 1,000": 0, "rank above 1,000": 1 / 5,
    }  # fmt: skip
    expected |= {"lost_in_top5": 1 / 3, "lost_rank_median": 6}
    assert found["estimate"].to_dict() == pytest.approx(expected)
    medians = ["rank_median", "lost_rank_median"]  # of too few ranks to be bounded
    assert found.loc[medians, ["low", "high"]].isna().all(axis=None)
    assert (found["low"] <= found["estimate"]).drop(medians).all()
    assert (found["high"] >= found["estimate"]).drop(medians).all()
    assert (found["n"].drop(["lost_in_top5", "lost_rank_median"]) == 5).all()
    assert found["n"]["lost_in_top5"] == 3
    assert found["low"]["accuracy"] > 0  # Wilson, not the normal approximation
    assert found["high"]["accuracy"] < 0.8


def test_buckets_share_every_rank_out_once():
    ranks = pd.DataFrame({"rank": range(1, 3000), "probability": 0.5, "kl": 0.0})
    found = macro.summary(ranks)
    buckets = found[found["measure"].str.startswith("rank ")]
    assert len(buckets) == len(macro.BUCKETS)
    assert buckets["estimate"].sum() == pytest.approx(1)


def test_summary_of_no_prompt_has_no_numbers():
    found = macro.summary(pd.DataFrame({"rank": [], "probability": [], "kl": []}))
    assert found["estimate"].isna().all()
    assert set(found["n"]) == {0}


def test_majority_guess_counts_the_commonest_answer_of_each_relation():
    probes = Probes(
        input_ids=[[1]] * 6,
        answers=[[5], [5], [6], [7], [8], [9, 5]],
        subject=np.full((6, 2), -1),
        table=pd.DataFrame({"relation": ["a", "a", "a", "b", "b", "b"], "prompt": list("abcdef")}),
        dropped=pd.DataFrame(),
    )
    assert macro.majority_guess(probes) == pytest.approx(3 / 6)


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Study:
    return Study(method="rtn", bits="8,2", n_facts=60, run=tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def table(study) -> pd.DataFrame:
    return macro.measure(study)


def test_estimate_picks_one_number(table):
    accuracy = macro.estimate(table, "rtn-2bit-g128", "accuracy")
    assert accuracy == pick(table, "rtn-2bit-g128", "accuracy", "known")["estimate"]
    assert np.isnan(macro.estimate(table, "gptq-2bit-g128", "accuracy"))


def pick(table, label, measure, part="all", split="group"):
    same = (table["variant"] == label) & (table["measure"] == measure)
    rows = table[same & (table["part"] == part) & (table["split"] == split)]
    assert len(rows) == 1
    return rows.iloc[0]


def test_the_table_agrees_with_the_scores_it_comes_from(study, table):
    assert set(table["variant"]) == set(study.labels)
    for label in study.labels:
        rank = study.scores(label)["rank"]
        assert pick(table, label, "accuracy")["estimate"] == pytest.approx((rank == 1).mean())
        assert pick(table, label, "top5")["estimate"] == pytest.approx((rank <= 5).mean())
        assert pick(table, label, "rank_median")["estimate"] == np.median(rank)
    assert pick(table, "full", "accuracy", "known")["estimate"] == 1
    assert pick(table, "full", "kl")["estimate"] == pytest.approx(0, abs=1e-6)
    kl = [pick(table, label, "kl")["estimate"] for label in study.labels]
    assert kl == sorted(kl)
    assert (study.run / "macro.parquet").is_file()


def test_kl_is_that_of_two_plain_runs(study):
    scores = study.scores("rtn-2bit-g128")
    index = 7
    last = [
        study.model(label).hf(torch.tensor([study.probes.input_ids[index]])).logits[:, -1]
        for label in ("full", "rtn-2bit-g128")
    ]
    assert scores["kl"][index] == pytest.approx(divergence(*last).item(), rel=1e-3)


def test_perplexity_grows_and_accuracy_falls_where_bits_are_taken(table):
    perplexity = [
        pick(table, label, "perplexity", "held-out", "text") for label in ("full", "rtn-8bit-g128", "rtn-2bit-g128")
    ]
    assert 1 < perplexity[0]["estimate"] < perplexity[2]["estimate"]
    assert perplexity[0]["estimate"] == pytest.approx(perplexity[1]["estimate"], rel=0.05)
    assert perplexity[0]["n"] == macro.DOCUMENTS


def test_bands_and_relations_share_the_known_prompts_out(table):
    known = pick(table, "full", "accuracy", "known")["n"]
    for split in ("band", "relation"):
        rows = table[(table["variant"] == "full") & (table["split"] == split) & (table["measure"] == "accuracy")]
        assert rows["n"].sum() == known
        assert (rows["estimate"] == 1).all()


def test_differences_to_round_to_nearest():
    ours = score_logits(torch.eye(4), [[0], [1], [2], [0]]).assign(kl=0.5)
    theirs = score_logits(torch.eye(4), [[0], [0], [0], [0]]).assign(kl=2.0)
    found = macro._over_rtn(ours, theirs, 0).set_index("measure")
    assert found["estimate"]["accuracy_over_rtn"] == pytest.approx(0.5)
    assert found["estimate"]["kl_over_rtn"] == pytest.approx(-1.5)


def test_round_to_nearest_is_the_rival_of_the_same_bits_only(tmp_path):
    study = Study(method="gptq,rtn", bits="4,2", n_facts=20, run=tmp_path)
    assert macro._rtn(study, "gptq-2bit-g128") == "rtn-2bit-g128"
    assert macro._rtn(study, "rtn-2bit-g128") is None
    assert macro._rtn(study, "full") is None
    assert macro._rtn(Study(method="gptq", bits=4, n_facts=20, run=tmp_path), "gptq-4bit-g128") is None


def test_running_text(tmp_path):
    study = Study(method="rtn", bits=2, n_facts=20, run=tmp_path)
    text = macro.running_text(study)
    assert len(text) == macro.DOCUMENTS
    assert not set(text) & {row for row in study.calibration_text if row.count(".") > 3}
    other = Study(model=models.folder_of("atlas"), method="rtn", bits=2, n_facts=20, run=tmp_path)
    assert macro.running_text(other) == []
    assert np.isnan(macro._text(other, "full", [])["estimate"][0])
    file = tmp_path / "text.txt"
    file.write_text("one line\nanother line\n")
    assert macro.running_text(Study(model=models.folder_of("atlas"), bits=2, calibration=file, run=tmp_path)) == [
        "one line",
        "another line",
    ]


def test_accuracy_table(table):
    shown = macro.accuracy_table(table)
    assert list(shown.columns) == ["method", "full", "8", "2"]
    assert shown.loc[0, "method"] == "rtn"
    assert shown.loc[0, "2"] == pick(table, "rtn-2bit-g128", "accuracy", "known")["estimate"]
    assert shown.loc[0, "full"] == 1


def test_a_row_of_weights_has_one_panel_a_bit_width_on_one_scale():
    rows = [(i, w, round(w * b) / b, b) for b in (4, 2) for i, w in enumerate((-0.9, 0.1, 1.3))]
    row = charts.rounding(pd.DataFrame(rows, columns=["position", "weight", "rounded", "bits"]))
    made = [chart.to_dict() for chart in row.charts]
    assert [chart["title"] for chart in made] == [["4 bits"], ["2 bits"]]
    scales = [layer["encoding"]["y"]["scale"]["domain"] for chart in made for layer in chart["layer"]]
    assert scales == [[-1.0, 1.5]] * 4
    assert "at 4 bits, which has 3 different heights" in made[0]["description"]
    page = row._repr_html_()
    assert page.count("vegaEmbed(outputDiv") == 2
    assert "auto-fit" in page


CHARTS = [charts.accuracy, charts.ranks, charts.median_rank, charts.bands, charts.relations, charts.perplexity]


@pytest.mark.parametrize("chart", CHARTS)
def test_charts_draw_the_table_and_can_be_read_aloud(table, chart):
    made = chart(table).to_dict()
    assert made["title"]
    assert len(made["description"]) > 60
    assert any(len(rows) for rows in made["datasets"].values())
