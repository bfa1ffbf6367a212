"""Components: each measure against its definition, then the measured model against cases with a known answer."""

import copy
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy

from quantcliff import models, tables
from quantcliff.charts import components as charts
from quantcliff.models import Model
from quantcliff.probes import Probes
from quantcliff.stages.components import POSITIONS, Reading, Recorded, read
from quantcliff.stages.components import comparison as c
from quantcliff.stages.components import measures as m
from quantcliff.study import Study
from quantcliff.tracing import Runner, batches, site

seeds = st.integers(0, 2**31 - 1)
quick = settings(max_examples=25, deadline=None)


def patterns(seed: int, rows: int = 3, keys: int = 7, sharpness: float = 3.0) -> torch.Tensor:
    """Random probabilities over keys, some of them sharp."""
    noise = torch.randn(rows, keys, generator=torch.Generator().manual_seed(seed))
    return (sharpness * noise).softmax(-1)


def vectors(seed: int, rows: int = 3, width: int = 40) -> torch.Tensor:
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(seed))


def test_entropy_of_uniform_and_one_hot():
    uniform, one_hot = torch.full((1, 5), 0.2), torch.eye(5)[:1]
    assert m.normalised_entropy(uniform, torch.tensor([5])).item() == pytest.approx(1)
    assert m.normalised_entropy(one_hot, torch.tensor([5])).item() == 0


def test_a_sink_is_no_token_for_the_entropy_and_a_key_for_the_divergence():
    """Attention that lands on no token: the entropy is that of the rest, a sink that swallows more is a divergence."""
    pattern = patterns(0)
    sunk = 0.15 * pattern
    entropies = [m.normalised_entropy(rows, torch.tensor([7, 7, 7])) for rows in (pattern, sunk)]
    torch.testing.assert_close(*entropies)
    whole = [torch.cat([rows, (1 - rows.sum(-1, keepdim=True)).clamp(min=0)], -1) for rows in (pattern, sunk)]
    one, other = (rows.double().numpy() for rows in whole)
    expected = (
        entropy((one + other) / 2, base=2, axis=1) - (entropy(one, base=2, axis=1) + entropy(other, base=2, axis=1)) / 2
    )
    np.testing.assert_allclose(m.jensen_shannon(pattern, sunk), expected, atol=1e-5)
    assert m.jensen_shannon(sunk, sunk).max() == 0


def test_rows_in_half_precision_have_no_sink():
    pattern = patterns(1, keys=200).bfloat16().float()
    assert (pattern.sum(-1) != 1).all()
    torch.testing.assert_close(
        m.normalised_entropy(pattern, torch.tensor([200])), torch.special.entr(pattern).sum(-1) / math.log(200)
    )


def test_what_is_not_there_has_no_measure():
    there, absent = vectors(0), torch.full((3, 40), torch.nan)
    for measure in (m.sign_flips, m.top_overlap, m.cosine):
        assert measure(there, absent).isnan().all() and measure(absent, absent).isnan().all()
        assert not measure(there, there).isnan().any()


def test_entropy_counts_visible_keys_only():
    """A query at position 2 that looks evenly at its three keys has entropy 1, whatever padding follows."""
    scores = torch.zeros(6, 6).masked_fill(torch.ones(6, 6).triu(1).bool(), -torch.inf)
    causal = scores.softmax(-1)
    measured = m.normalised_entropy(causal, torch.arange(1, 7))
    assert measured[0].isnan()
    assert m.normalised_entropy(torch.tensor([0.9999]), torch.tensor(1)).isnan(), "not infinite either"
    torch.testing.assert_close(measured[1:], torch.ones(5))


@quick
@given(seeds, st.integers(1, 5))
def test_entropy_is_scipys_and_ignores_padding(seed, padding):
    p = patterns(seed)
    n_keys = torch.full((3,), 7)
    measured = m.normalised_entropy(p, n_keys)
    expected = [entropy(row.double().numpy()) / math.log(7) for row in p]
    torch.testing.assert_close(measured, torch.tensor(expected, dtype=torch.float32), atol=1e-6, rtol=1e-5)
    padded = torch.nn.functional.pad(p, (0, padding))
    torch.testing.assert_close(m.normalised_entropy(padded, n_keys), measured)


@quick
@given(seeds, seeds)
def test_jensen_shannon_is_scipys_symmetric_and_bounded(a, b):
    p, q = patterns(a), patterns(b)
    measured = m.jensen_shannon(p, q)
    expected = [jensenshannon(x.double().numpy(), y.double().numpy(), base=2) ** 2 for x, y in zip(p, q, strict=True)]
    np.testing.assert_allclose(measured.numpy(), expected, atol=1e-6)
    torch.testing.assert_close(m.jensen_shannon(q, p), measured)
    assert (measured >= 0).all()
    assert (measured <= 1).all()


@quick
@given(seeds, seeds)
def test_jensen_shannon_is_zero_only_for_equal_patterns(a, b):
    p, q = patterns(a), patterns(b)
    assert (m.jensen_shannon(p, p) == 0).all()
    assert ((m.jensen_shannon(p, q) > 0) == (a != b)).all()


def test_jensen_shannon_of_disjoint_patterns_is_one():
    p, q = torch.tensor([[0.5, 0.5, 0, 0]]), torch.tensor([[0, 0, 0.3, 0.7]])
    assert m.jensen_shannon(p, q).item() == pytest.approx(1)


@quick
@given(seeds, seeds, st.floats(0.01, 100))
def test_sign_flips_know_signs_only(a, b, scale):
    x, y = vectors(a), vectors(b)
    flips = m.sign_flips(x, y)
    torch.testing.assert_close(flips, m.sign_flips(x * scale, y))
    torch.testing.assert_close(flips, m.sign_flips(y, x))
    torch.testing.assert_close(flips, ((x > 0) != (y > 0)).float().mean(-1))
    torch.testing.assert_close(m.sign_flips(x, -y), 1 - flips)
    assert (m.sign_flips(x, x) == 0).all()
    assert (m.sign_flips(x, -x) == 1).all()


def test_sign_flips_of_unrelated_gates_are_half():
    assert m.sign_flips(vectors(0, 1, 40_000), vectors(1, 1, 40_000)).item() == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(
    ("n", "share", "k"),
    [(256, 0.01, 3), (100, 0.01, 1), (300, 0.01, 3), (700, 0.01, 7), (301, 0.01, 4), (10, 0.01, 1), (8, 1.0, 8)],
)
def test_top_count_rounds_up(n, share, k):
    assert m.top_count(n, share) == k


@pytest.mark.parametrize("share", [0.0, -0.1, 1.5])
def test_top_count_refuses_a_share_outside_its_range(share):
    with pytest.raises(ValueError, match="share"):
        m.top_count(10, share)


@quick
@given(seeds, seeds, st.sampled_from([0.01, 0.1, 0.25, 0.5]), st.floats(0.1, 10))
def test_top_overlap_is_set_arithmetic(a, b, share, scale):
    x, y = vectors(a), vectors(b)
    k = math.ceil(share * 40)
    expected = []
    for u, v in zip(x.abs().tolist(), y.abs().tolist(), strict=True):
        top = [set(sorted(range(40), key=lambda i, w=w: -w[i])[:k]) for w in (u, v)]
        expected.append(len(top[0] & top[1]) / len(top[0] | top[1]))
    measured = m.top_overlap(x, y, share)
    np.testing.assert_allclose(measured.numpy(), expected, rtol=1e-6)
    torch.testing.assert_close(m.top_overlap(-scale * x, y, share), measured)
    assert (m.top_overlap(x, x, share) == 1).all()


def test_chance_overlap_is_what_random_sets_give():
    x, y = vectors(0, 20_000), vectors(1, 20_000)
    for share in (0.01, 0.1, 0.5):
        assert m.top_overlap(x, y, share).mean().item() == pytest.approx(m.chance_overlap(40, share), abs=0.005)
    assert m.chance_overlap(40, 1.0) == pytest.approx(1)
    assert m.chance_overlap(100, 0.01) == pytest.approx(0.01)


@quick
@given(seeds, seeds, st.floats(0.1, 10))
def test_cosine_knows_direction_only(a, b, scale):
    x, y = vectors(a), vectors(b)
    measured = m.cosine(x, y)
    expected = (x * y).sum(-1) / (x.norm(dim=-1) * y.norm(dim=-1))
    torch.testing.assert_close(measured, expected)
    torch.testing.assert_close(m.cosine(scale * x, y), measured)
    torch.testing.assert_close(m.cosine(-x, y), -measured)
    rotation = torch.linalg.qr(vectors(a ^ 1, 40, 40)).Q
    torch.testing.assert_close(m.cosine(x @ rotation, y @ rotation), measured, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(m.cosine(x, x), torch.ones(3))


def prompts(n: int = 9, subjects: bool = True) -> Probes:
    """Prompts of 4 to 8 random tokens; the subject ends at token 2, the third prompt has none."""
    draw = np.random.default_rng(0)
    ids = [[0, *map(int, draw.integers(1, 300, size=3 + i % 5))] for i in range(n)]
    subject = np.tile(np.array([1, 2]), (n, 1)) if subjects else np.full((n, 2), -1)
    subject[2] = -1
    table = pd.DataFrame(
        {name: [f"{name} {i}" for i in range(n)] for name in ("relation", "subject", "object", "prompt")}
    )
    return Probes(
        ids, [[int(draw.integers(300))] for _ in range(n)], subject, table.assign(fact=range(n), band=0), table[:0]
    )


def damaged(model: Model, noise: float = 0.3) -> Model:
    """The same model with noise on the weights of its decoder layers, norms left alone."""
    hf, draw = copy.deepcopy(model.hf), torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, weight in hf.named_parameters():
            if "layers" in name and weight.ndim == 2:
                weight.add_(noise * weight.std() * torch.randn(weight.shape, generator=draw))
    return replace(model, hf=hf, name="damaged", digest="damaged")


@pytest.fixture(scope="module", params=["tiny_llama", "tiny_gemma", "tiny_neox"])
def pair(request) -> tuple[Path, Runner, Runner]:
    folder = request.getfixturevalue(request.param)
    return folder, Runner(models.load(folder)), Runner(damaged(models.load(folder)))


def read_all(runner: Runner, probes: Probes, stream=None) -> Reading:
    """One reading of all prompts at the last token, shortest prompt first."""
    batch = next(batches(probes, 99))
    return read(runner, batch, {"last": batch.last}, stream)["last"]


def beside(full: Runner, own: Runner, probes: Probes, folder: Path, **options) -> dict[c.Key, np.ndarray]:
    """`side_by_side` of all prompts, full precision recorded in `folder`."""
    return c.side_by_side(Recorded.of(full, probes, folder), own, **options)


def test_a_model_beside_itself_is_perfect(pair, tmp_path):
    _, full, _ = pair
    found = beside(full, full, prompts(), tmp_path)
    for (position, condition, measure, shuffled), values in found.items():
        if not shuffled:
            here = values[[0, 1, *range(3, 9)]] if position == "last_subject" else values
            perfect = {"jsd": 0, "sign_flips": 0, "attn_cosine": 1, "ffn_cosine": 1, "jaccard": 1}
            if measure in perfect:
                np.testing.assert_allclose(here, perfect[measure], atol=1e-5, err_msg=f"{condition} {measure}")
            else:
                np.testing.assert_allclose(here, found[position, "in_situ", measure, False][~np.isnan(values[:, 0, 0])])


def test_clean_input_is_what_one_damaged_component_gets(pair, tmp_path):
    """A model whose other parts are all in full precision feeds its one damaged component exactly the clean input."""
    folder, full, own = pair
    batch = next(batches(prompts(), 99))
    stream = Recorded.of(full, prompts(), tmp_path).clean(batch.indices, batch.ids.shape[1])
    clean, in_situ = read_all(own, prompts(), stream), read_all(own, prompts())
    base = models.load(folder)
    layer = f"layers.{(deep := 2)}."
    for take, kinds in (("attention", ("pattern", "attn_out")), ("mlp", ("gate", "post", "mlp_out"))):
        one = models.splice(base, damaged(base), lambda name, take=take: layer in name and take_of(name) == take)
        alone = read_all(Runner(one), prompts())
        for kind in kinds:
            torch.testing.assert_close(
                getattr(clean, kind)[:, deep], getattr(alone, kind)[:, deep], atol=1e-4, rtol=1e-4
            )
            assert not torch.allclose(getattr(in_situ, kind)[:, deep], getattr(alone, kind)[:, deep], atol=1e-3)


def take_of(name: str) -> str:
    return "mlp" if ".mlp." in name else "attention" if "attn" in name or "attention" in name else "norm"


def test_first_attention_inherits_no_damage(pair, tmp_path):
    """What the first attention reads is the embedding, which no quantizer touches."""
    _, full, own = pair
    found = beside(full, own, prompts(), tmp_path)
    for measure in ("entropy", "jsd", "attn_cosine"):
        in_situ, clean = (found["last", condition, measure, False] for condition in c.CONDITIONS)
        np.testing.assert_allclose(in_situ[:, 0], clean[:, 0], atol=1e-5)
        assert not np.allclose(in_situ[:, 1:], clean[:, 1:], atol=1e-3)


def test_measures_do_not_depend_on_batches_or_padding(pair, tmp_path):
    _, full, own = pair
    together, alone = (beside(full, own, prompts(), tmp_path, size=size) for size in (9, 1))
    assert len(together) == len(POSITIONS) * len(c.CONDITIONS) * (2 * len(c.COMPONENT) - 1)
    for key, values in alone.items():
        if key[-1]:
            assert np.isnan(values).all(), "a batch of one prompt has no other"
        else:
            np.testing.assert_allclose(values, together[key], atol=2e-5, err_msg=str(key))


def test_measures_are_those_of_recorded_sites(tiny_llama, tmp_path):
    """Against plain recordings of one prompt, so that positions, layers and heads are the right ones."""
    full, own = Runner(models.load(tiny_llama)), Runner(damaged(models.load(tiny_llama)))
    probes, row, layer = prompts(), 4, 1
    ids = torch.tensor([probes.input_ids[row]])
    found = beside(full, own, probes, tmp_path, share=0.1)
    kinds = ("pattern", "attn_out", "gate", "post", "mlp_out")
    names = [site(kind, layer) for kind in kinds]
    seen = [
        dict(zip(kinds, (runner.run(ids, record=names)[1][n] for n in names), strict=True)) for runner in (full, own)
    ]
    for position, at in (("last", ids.shape[1] - 1), ("last_subject", 2)):
        fp, q = ({k: t[0, :, at] if k == "pattern" else t[0, at] for k, t in one.items()} for one in seen)
        expected = {
            "entropy": m.normalised_entropy(q["pattern"], torch.tensor(at + 1)),
            "jsd": m.jensen_shannon(fp["pattern"], q["pattern"]),
            "attn_cosine": m.cosine(fp["attn_out"], q["attn_out"]),
            "sign_flips": m.sign_flips(fp["gate"], q["gate"]),
            "jaccard": m.top_overlap(fp["post"], q["post"], 0.1),
            "ffn_cosine": m.cosine(fp["mlp_out"], q["mlp_out"]),
        }
        for measure, value in expected.items():
            np.testing.assert_allclose(found[position, "in_situ", measure, False][row, layer], value, atol=1e-5)


def test_a_measure_without_any_value_has_rows_that_say_so():
    nothing = np.full((50, 2), np.nan)
    found = {("last", "clean", "jaccard", False): nothing, ("last", "clean", "jaccard", True): nothing,
             ("last", "clean", "ffn_cosine", False): np.ones((50, 2))}  # fmt: skip
    table = c.absent(found)
    assert table["layer"].tolist() == [0, 1] and set(table["measure"]) == {"jaccard"} and (table["n"] == 0).all()
    assert table["estimate"].isna().all() and list(table.columns) == list(c.table_of(found, {}).columns)


def test_a_layer_without_a_site_is_nan_and_the_others_are_as_they_are():
    draw = np.random.default_rng(0)
    whole = draw.random((50, 3, 4))
    partly = whole.copy()
    partly[:, 1] = np.nan
    one, other = (c.table_of({("last", "clean", "jsd", False): values}, {}) for values in (whole, partly))
    rows = one["layer"] != 1
    pd.testing.assert_frame_equal(one[rows], other[rows])
    assert other.loc[~rows, ["estimate", "low", "high"]].isna().all(axis=None) and (other.loc[~rows, "n"] == 0).all()


def test_prompts_without_subject_are_left_out(tiny_llama, tmp_path):
    full = Runner(models.load(tiny_llama))
    found = beside(full, full, prompts(), tmp_path)
    missing = np.isnan(found["last_subject", "clean", "jsd", False]).all((1, 2))
    assert missing.tolist() == [False, False, True] + [False] * 6
    assert not np.isnan(found["last", "clean", "jsd", False]).any()
    nowhere = beside(full, full, prompts(subjects=False), tmp_path)
    assert {key[0] for key in nowhere} == {"last"}


@quick
@given(st.lists(st.integers(1, 5), min_size=1, max_size=20), seeds)
def test_partners_are_other_prompts_of_equal_length(lengths, seed):
    n_keys = torch.tensor(lengths)
    partner = c.partners(n_keys, torch.Generator().manual_seed(seed))
    for row, other in enumerate(partner.tolist()):
        if other == -1:
            assert lengths.count(lengths[row]) == 1
        else:
            assert other != row
            assert lengths[other] == lengths[row]
    taken = partner[partner >= 0]
    assert len(taken.unique()) == len(taken)


def test_shuffled_sets_full_precision_of_another_prompt_beside_the_model(tiny_llama, tmp_path):
    full, own = Runner(models.load(tiny_llama)), Runner(damaged(models.load(tiny_llama)))
    probes = prompts().select([0, 5])
    found = beside(full, own, probes, tmp_path, share=0.1)
    theirs, ours = read_all(full, probes), read_all(own, probes)
    swapped = c.compare(theirs.rows(torch.tensor([1, 0])), ours, 0.1)
    for measure, values in swapped.items():
        np.testing.assert_allclose(found["last", "in_situ", measure, True], values, atol=1e-5)


def test_table_holds_means_over_prompts_and_heads():
    draw = np.random.default_rng(0)
    per_head, plain = draw.random((50, 2, 3)), draw.random((50, 2))
    plain[:10] = np.nan
    found = {
        ("last", "clean", "jsd", False): per_head,
        ("last", "clean", "jsd", True): per_head + 1,
        ("last", "clean", "sign_flips", False): plain,
        ("last", "clean", "jaccard", False): np.full((50, 2), np.nan),
    }
    table = c.table_of(found, {"sign_flips": 0.5})
    assert len(table) == 2 * (3 + 1) + 2
    assert set(table["measure"]) == {"jsd", "sign_flips"}
    jsd = table[(table["measure"] == "jsd") & (table["layer"] == 1)]
    one = jsd[jsd["head"] == 2].iloc[0]
    assert one["estimate"] == pytest.approx(per_head[:, 1, 2].mean())
    assert one["low"] < one["estimate"] < one["high"]
    mean = jsd[jsd["head"].isna()].iloc[0]
    assert mean["estimate"] == pytest.approx(per_head[:, 1].mean())
    assert mean["shuffled"] == pytest.approx(per_head[:, 1].mean() + 1)
    assert mean["high"] - mean["low"] < one["high"] - one["low"]
    flips = table[table["measure"] == "sign_flips"].iloc[0]
    assert (flips["n"], flips["chance"], flips["component"]) == (40, 0.5, "ffn")
    assert flips["estimate"] == pytest.approx(np.nanmean(plain[:, 0]))
    assert np.isnan(flips["shuffled"])


def test_some_prompts_give_what_all_of_them_give(pair, tmp_path):
    _, full, own = pair
    chosen = np.array([7, 2, 3])
    every, some = (beside(full, own, probes, tmp_path) for probes in (prompts(), prompts().select(chosen)))
    for key, values in some.items():
        if not key[-1]:
            np.testing.assert_allclose(values, every[key][chosen], atol=2e-5, err_msg=str(key))


def test_full_precision_is_run_once_for_all_variants(pair, tmp_path, monkeypatch):
    _, full, own = pair
    first = Recorded.of(full, prompts(), tmp_path)
    monkeypatch.setattr(full, "run", None)
    again = Recorded.of(full, prompts(), tmp_path)
    for recorded in (first, again):
        assert c.side_by_side(recorded, own)


def test_full_precision_beside_itself_is_read_from_its_trace(pair, tmp_path):
    _, full, _ = pair
    recorded = Recorded.of(full, prompts(), tmp_path)
    read, run = (c.side_by_side(recorded, own) for own in (None, full))
    assert read.keys() == run.keys()
    for key, values in run.items():
        np.testing.assert_allclose(read[key], values, atol=2e-5, err_msg=str(key))


def test_measure_of_a_study(tiny_llama, tmp_path):
    facts = tmp_path / "facts.jsonl"
    fact = {"relation": "r", "subject": "Rome", "object": "Italy", "prompt": "Rome lies in"}
    facts.write_text(json.dumps(fact) + "\n", encoding="utf-8")
    study = Study(str(tiny_llama), method="rtn", bits="8,2", group_size=32, facts=facts, run=tmp_path / "run")
    study.known = prompts()
    table = c.measure(study, share=0.1)
    assert set(table["variant"]) == {"full", "rtn-8bit-g32", "rtn-2bit-g32"}
    assert set(table["n"]) == {9, 8}
    assert tables.read(tmp_path / "run" / "components.parquet").equals(table)
    means = table[table["head"].isna()].groupby(["variant", "condition", "measure"])["estimate"].mean().unstack(0)
    for condition in c.CONDITIONS:
        by_measure = means.loc[condition]
        for measure in ("jsd", "sign_flips"):
            assert (
                0
                == by_measure["full"][measure]
                < by_measure["rtn-8bit-g32"][measure]
                < by_measure["rtn-2bit-g32"][measure]
            )
        for measure in ("attn_cosine", "ffn_cosine", "jaccard"):
            assert by_measure["rtn-8bit-g32"][measure] > by_measure["rtn-2bit-g32"][measure]
    assert table.loc[table["measure"] == "jaccard", "chance"].unique().tolist() == [m.chance_overlap(64, 0.1)]


def component_table() -> pd.DataFrame:
    """A table as `measure` gives it: 2 layers, 2 heads, two bit widths and full precision, made-up values."""
    rows = []
    for variant, bits, scale in (("full", 32, 0.0), ("rtn-4bit-g32", 4, 0.1), ("rtn-2bit-g32", 2, 0.4)):
        for measure, component in c.COMPONENT.items():
            perfect = c.PERFECT.get(measure, 0.5)
            sign = -1 if perfect == 1 else 1
            for condition, share in (("in_situ", 1.0), ("clean", 0.25)):
                for layer in range(2):
                    for head in [0, 1, pd.NA] if measure in ("jsd", "entropy") else [pd.NA]:
                        value = perfect + sign * scale * share * (1 + layer)
                        own = (variant, "full" if bits == 32 else "rtn", bits, component, measure, condition, "last")
                        rows.append((*own, layer, head, value, value - 0.01, value + 0.01, 9, 0.3, 0.0))
    columns = ["variant", "method", "bits", "component", "measure", "condition", "position", "layer", "head",
               "estimate", "low", "high", "n", "shuffled", "chance"]  # fmt: skip
    return pd.DataFrame(rows, columns=columns).astype({"head": "Int64"})


def test_summary_divides_own_from_inherited_damage():
    found = c.summary(component_table()).set_index(["bits", "measure"])
    assert set(found.index.get_level_values("measure")) == set(c.PERFECT)
    np.testing.assert_allclose(found["own"], 0.25)
    assert found.loc[(2, "sign_flips"), "in_situ"] == pytest.approx(0.6)
    assert found.loc[(2, "ffn_cosine"), "clean"] == pytest.approx(1 - 0.15)
    np.testing.assert_allclose(found["shuffled"], 0.3)


@pytest.mark.parametrize("measure", c.COMPONENT)
def test_chart_by_layer_says_what_it_shows(measure):
    spec = charts.layers(component_table(), measure, threshold=0.3).to_dict()
    assert charts.AXES[measure] in spec["description"]
    assert "2 bits in situ" in spec["description"]
    assert spec["width"] == "container"


def test_chart_of_heads_leaves_out_their_mean():
    spec = charts.heads(component_table()).to_dict()
    (data,) = spec["datasets"].values()
    assert len(data) == 2 * 2 * 2 * 2
    assert {row["head"] for row in data} == {0, 1}
    assert "head 0 of layer 1 at 2 bits in situ" in spec["description"]
