"""Patching: the arithmetic on made numbers, the interventions against TransformerLens' own hooks on random models."""

import hypothesis.extra.numpy as hnp
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from quantcliff import models
from quantcliff.charts import Row
from quantcliff.charts import patching as charts
from quantcliff.errors import InputError
from quantcliff.models import Model
from quantcliff.probes import POSITIONS, Probes, aligned, inside, other_facts, spans
from quantcliff.stages import patching
from quantcliff.stages.patching import cut_in_two, interaction, log_odds, measure_variant, recovery, summarise
from quantcliff.stats import stratified
from quantcliff.study import FULL, Study
from quantcliff.tracing import (
    SETTERS,
    Patch,
    Runner,
    Trace,
    batches,
    generic_patch,
    own_stream,
    plan,
    score,
    site,
    sweep,
)

quick = settings(max_examples=50, deadline=None)

SUBJECT = np.array([[1, 3], [2, 2], [-1, -1]])
LENGTHS = np.array([6, 4, 5])


def test_spans_name_the_right_tokens():
    assert spans("last_subject", SUBJECT, LENGTHS).tolist() == [[3, 3], [2, 2], [-1, -1]]
    assert spans("subject", SUBJECT, LENGTHS).tolist() == [[1, 3], [2, 2], [-1, -1]]
    assert spans("last", SUBJECT, LENGTHS).tolist() == [[5, 5], [3, 3], [4, 4]]
    assert spans("all", SUBJECT, LENGTHS).tolist() == [[0, 5], [0, 3], [0, 4]]
    with pytest.raises(InputError, match="verb"):
        spans("verb", SUBJECT, LENGTHS)


def test_inside_marks_the_span_and_nothing_of_the_padding():
    marked = inside(spans("subject", SUBJECT, LENGTHS), 6)
    assert marked.astype(int).tolist() == [[0, 1, 1, 1, 0, 0], [0, 0, 1, 0, 0, 0], [0] * 6]
    assert inside(spans("all", SUBJECT, LENGTHS), 6).sum(axis=1).tolist() == LENGTHS.tolist()


@quick
@given(st.data())
def test_a_span_laid_on_another_keeps_its_end_and_stays_inside(data):
    def pair():
        first = data.draw(st.integers(0, 9))
        return np.array([[first, first + data.draw(st.integers(0, 9))]])

    to, source = pair(), pair()
    taken = aligned(to, source)[0]
    assert len(taken) == to[0, 1] - to[0, 0] + 1
    assert taken[-1] == source[0, 1]
    assert ((taken >= source[0, 0]) & (taken <= source[0, 1])).all()
    assert set(np.diff(taken).tolist()) <= {0, 1}
    assert aligned(to, to)[0].tolist() == list(range(to[0, 0], to[0, 1] + 1))


def test_no_span_needs_no_donor_token():
    assert [len(a) for a in aligned(np.array([[-1, -1], [0, 1]]), np.array([[-1, -1], [3, 4]]))] == [0, 2]


def test_the_control_is_another_fact_of_the_same_relation_and_of_like_length():
    relation = ["capital", "capital", "capital", "capital", "born", "born"]
    answers = [[7], [7, 8], [9], [9], [7], [5]]
    subject = np.tile([1, 2], (6, 1))
    lengths = np.array([5, 9, 9, 5, 5, 6])
    chosen = other_facts(relation, answers, subject, lengths)
    assert chosen.tolist() == [3, 2, 1, 0, 5, 4]


def test_the_control_looks_for_the_relation_first_then_for_the_length_and_then_draws():
    relation, answers, subject = ["capital"] * 4 + ["born"], [[n] for n in range(5)], np.tile([1, 2], (5, 1))
    lengths = np.array([10, 7, 12, 30, 30])
    for seed in range(10):
        assert other_facts(relation, answers, subject, lengths, seed).tolist() == [2, 0, 0, 2, 3]
    drawn = {tuple(other_facts(["capital"] * 5, answers, subject, np.full(5, 6), seed)) for seed in range(5)}
    assert len(drawn) > 1


@quick
@given(st.lists(st.tuples(st.sampled_from("ab"), st.sets(st.integers(0, 5), min_size=1)), min_size=2, max_size=20))
def test_the_control_never_shares_an_answer_and_leaves_the_relation_only_when_it_must(facts):
    relation, answers = [r for r, _ in facts], [sorted(a) for _, a in facts]
    subject, lengths = np.tile([1, 1], (len(facts), 1)), np.full(len(facts), 4)
    fit = [[j for j, b in enumerate(answers) if not set(a) & set(b)] for a in answers]
    for i, j in enumerate(other_facts(relation, answers, subject, lengths, seed=1)):
        assert j in fit[i] or (j == -1 and not fit[i])
        assert j == -1 or relation[j] == relation[i] or all(relation[k] != relation[i] for k in fit[i])


def test_the_control_gives_a_prompt_with_a_subject_a_donor_with_one():
    subject = np.array([[1, 2], [-1, -1], [1, 1]])
    chosen = other_facts(["a", "a", "b"], [[1], [2], [3]], subject, np.array([4, 4, 9]))
    assert chosen[0] == 2


probabilities = hnp.arrays(float, 12, elements=st.integers(0, 100).map(lambda percent: percent / 100))


@quick
@given(probabilities, st.floats(0.05, 0.5), st.floats(0, 1))
def test_recovery_is_0_at_the_recipient_1_at_the_donor_and_linear_between(recipient, gap, share):
    donor = recipient + gap
    patched = np.stack([recipient, donor, recipient + share * (donor - recipient), recipient - 0.5 * gap])
    result = recovery(patched, recipient, donor, resamples=50)
    for row, expected in zip(result, [0, 1, share, -0.5], strict=True):
        np.testing.assert_allclose(row, expected, atol=1e-6)


@quick
@given(probabilities, probabilities, probabilities)
def test_recovery_is_the_ratio_of_means_inside_its_interval_and_the_same_for_swapped_models(patched, recipient, donor):
    estimate, low, high = recovery(patched[None], recipient, donor, resamples=200)[0]
    if np.isnan(estimate):
        return
    assert estimate == pytest.approx((patched.mean() - recipient.mean()) / (donor.mean() - recipient.mean()))
    assert low <= high
    back = recovery(patched[None], donor, recipient, resamples=200)[0]
    np.testing.assert_allclose(back, [1 - estimate, 1 - high, 1 - low], atol=1e-6)


@quick
@given(probabilities, st.floats(0, 1), st.floats(0, 1))
def test_interaction_is_0_for_damage_that_adds_up_and_1_where_either_part_does_it_all(full, below, above):
    full = full + 1
    quantized = full - 1
    for (forward, reverse), expected in {
        (tuple(full - above), tuple(full - (1 - above))): 0,
        (tuple(quantized), tuple(quantized)): 1,
        (tuple(full), tuple(full)): -1,
        (tuple(full - above), tuple(full - below)): above + below - 1,
    }.items():
        found = interaction(np.array([forward]), np.array([reverse]), quantized, full)
        np.testing.assert_allclose(found, [[expected] * 3], atol=1e-6)


def test_halves_that_add_up_in_the_logits_interact_only_in_the_probability():
    def answered(margin):
        return 1 / (1 + np.exp(-margin))

    margin = np.linspace(2, 6, 12)
    four = [answered(margin - loss) for loss in (0, 8, 8, 16)]
    names = {"kind": "resid_post", "positions": "all", "donor": "same", "window": 1, "layer": 0}
    full, forward, reverse, quantized = (pd.DataFrame({"prompt": range(12), "probability": p, **names}) for p in four)
    found = cut_in_two(forward, reverse, quantized, full, {"all": np.arange(12)}).set_index("measure")
    assert found.loc["interaction", ["estimate", "low", "high"]].tolist() == pytest.approx([0, 0, 0], abs=1e-3)
    assert found.loc["interaction_probability", "low"] > 0.8
    assert found["n"].tolist() == [12, 12]
    assert log_odds(np.array([0.5, 0.9, 0.0]))[:2].tolist() == pytest.approx([0, np.log(9)])
    assert np.isfinite(log_odds(np.array([0.0, 1.0]))).all()


def test_recovery_is_undefined_where_there_is_nothing_to_recover():
    same = np.linspace(0, 1, 30)
    assert np.isnan(recovery(np.stack([same, same + 1]), same, same)).all()
    noise = np.where(np.arange(30) % 2, 0.01, -0.01)
    assert np.isnan(recovery((same + 1)[None], same, same + noise)).all()


def test_the_interval_leaves_out_the_few_draws_without_a_gap_and_needs_the_gaps_own_to_be_clear_of_0():
    noise = norm.ppf((np.arange(100) + 0.5) / 100)
    noise *= 10 / noise.std()  # so that the mean of 100 has a standard error of 1
    nothing, one = np.zeros(100), np.ones((1, 100))
    low = recovery(one, nothing, 2.2 + noise, resamples=20_000)[0, 1]
    assert low == pytest.approx(1 / (2.2 + 1.96), rel=0.02)
    assert np.isnan(recovery(one, nothing, 1.5 + noise)).all()


def test_recovery_weighs_prompts_by_what_they_lost():
    recipient, donor = np.array([0.0] * 20 + [0.50] * 20), np.array([1.0] * 20 + [0.501] * 20)
    patched = np.array([0.5] * 20 + [0.6] * 20)
    assert recovery(patched[None], recipient, donor)[0, 0] == pytest.approx(
        0.6, abs=0.01
    )  # the mean of ratios is 50.25


def test_the_interval_narrows_with_more_prompts():
    def width(n):
        draw = np.random.default_rng(0)
        recipient, donor = draw.uniform(0, 0.3, n), draw.uniform(0.7, 1, n)
        _, low, high = recovery(draw.uniform(0, 1, n)[None], recipient, donor)[0]
        return high - low

    assert width(1600) < 0.4 * width(100)


def prompts(n: int = 7) -> Probes:
    """Random prompts of different lengths, the last one without a subject; the answers are random too."""
    draw = np.random.default_rng(5)
    lengths = draw.integers(5, 12, n)
    subject = np.array([(1, 1 + i % 3) for i in range(n - 1)] + [(-1, -1)])
    table = pd.DataFrame({"relation": ["a", "b"] * (n // 2) + ["a"], "prompt": [str(i) for i in range(n)]})
    ids = [draw.integers(1, 320, k).tolist() for k in lengths]
    return Probes(ids, [[int(a)] for a in draw.permutation(320)[:n]], subject, table, pd.DataFrame())


def damaged(folder) -> Model:
    """The model with noise on the weights of its blocks; embedding, final norm and head as they were."""
    model, draw = models.load(folder), torch.Generator().manual_seed(3)
    for name, weight in model.hf.named_parameters():
        if "layers." in name and weight.ndim == 2:
            weight.data += 0.3 * weight.std() * torch.randn(weight.shape, generator=draw)
    return Model(model.hf, model.tokenizer, "damaged", "damaged")


@pytest.fixture(scope="module", params=["tiny_llama", "tiny_gemma", "tiny_neox"])
def pair(request, tmp_path_factory):
    """Runner of the full and of the damaged model, and traces of both on `prompts()`."""
    folder = request.getfixturevalue(request.param)
    runners = Runner(models.load(folder)), Runner(damaged(folder))
    traces = [Trace.record(r, prompts(), list(SETTERS), "all", tmp_path_factory.mktemp("trace")) for r in runners]
    return *runners, *traces


PROMPTS = prompts()
ROWS = np.arange(len(PROMPTS))
PARTNER = other_facts(PROMPTS.table["relation"].tolist(), PROMPTS.answers, PROMPTS.subject, PROMPTS.lengths)


@pytest.mark.parametrize("layers", [range(1), range(1, 2), range(2, 3), range(2), range(1, 3)])
@pytest.mark.parametrize("kind", list(SETTERS))
def test_a_partial_run_equals_a_full_run_under_transformerlens_own_hooks(pair, kind, layers):
    full, quantized, *_ = pair
    batch = next(batches(PROMPTS))
    names = [site(kind, layer) for layer in range(3)]
    _, clean = full.bridge.run_with_cache(batch.ids, names_filter=names)
    where = torch.rand(batch.ids.shape, generator=torch.Generator().manual_seed(0)) < 0.4

    def put(own, hook):
        own = own.clone()
        for row, position in where.nonzero().tolist():
            own[row, position] = clean[hook.name][row, position]
        return own

    hooks = [(site(kind, layer), put) for layer in layers]
    expected = quantized.bridge.run_with_hooks(batch.ids, fwd_hooks=hooks)[range(len(PROMPTS)), batch.last]
    donor = torch.stack([clean[name][where] for name in names], 1)
    stream = own_stream(quantized, batch.ids, batch.last)
    found = SETTERS[kind](quantized, stream, layers, where, donor, batch.last)
    assert torch.allclose(found, expected, atol=1e-5)
    untouched = quantized.bridge.run_with_hooks(batch.ids, fwd_hooks=[])[range(len(PROMPTS)), batch.last]
    assert not torch.allclose(found, untouched, atol=1e-3)


def test_only_what_follows_the_patch_is_run(pair):
    _, quantized, *_ = pair
    batch, ran = next(batches(PROMPTS)), []
    stream = own_stream(quantized, batch.ids, batch.last)
    where, donor = torch.zeros(batch.ids.shape, dtype=torch.bool), torch.zeros(0, 3, 32)
    handles = [quantized.bridge.blocks[n].mlp.register_forward_hook(lambda *_, n=n: ran.append(n)) for n in range(3)]
    for kind, expected in {"resid_post": [2], "attn_out": [1, 2], "mlp_out": [1, 2]}.items():
        ran.clear()
        generic_patch(quantized, stream, range(1, 2), where, donor, batch.last, kind=kind)
        assert ran == expected
    [handle.remove() for handle in handles]


def table(pair, patches, rows=ROWS, size=64):
    _, quantized, clean, _ = pair
    found = sweep(quantized, clean, PROMPTS, rows, PARTNER, patches, size)
    return found.sort_values([*found.columns[:6]]).reset_index(drop=True)


def test_the_whole_last_stream_gives_exactly_the_donors_answer_in_both_directions(pair):
    full, quantized, clean, noisy = pair
    for recipient, donor, source in ((quantized, clean, full), (full, noisy, quantized)):
        for positions in ("all", "last"):
            found = sweep(recipient, donor, PROMPTS, ROWS, PARTNER, plan(3, ["resid_post"], [positions])[-1:])
            expected = score(source, PROMPTS)
            found = found.set_index("prompt").sort_index()
            np.testing.assert_allclose(found["probability"], expected["probability"], rtol=1e-4)
            assert found["rank"].tolist() == expected["rank"].tolist()


@pytest.mark.parametrize("depth", [1, 2])
def test_the_reverse_patch_of_all_tokens_equals_quantizing_the_layers_below(tiny_llama, tmp_path, depth):
    below = tuple(f"layers.{layer}." for layer in range(depth))
    domino = models.splice(models.load(tiny_llama), damaged(tiny_llama), lambda name: any(b in name for b in below))
    there = Trace.record(Runner(damaged(tiny_llama)), PROMPTS, ["resid_post"], "all", tmp_path)
    patch = Patch("resid_post", "all", "same", 1, depth - 1)
    found = sweep(Runner(models.load(tiny_llama)), there, PROMPTS, ROWS, PARTNER, [patch]).set_index("prompt")
    expected = score(Runner(domino), PROMPTS)
    np.testing.assert_allclose(found.sort_index()["probability"], expected["probability"], rtol=1e-4)


def test_a_model_patched_with_itself_does_not_change(pair):
    _, quantized, _, noisy = pair
    found = sweep(quantized, noisy, PROMPTS, ROWS, PARTNER, plan(3) + plan(3, window=2))
    expected = score(quantized, PROMPTS).loc[found["prompt"]]
    np.testing.assert_allclose(found["probability"], expected["probability"], rtol=1e-4)


def test_patches_one_prompt_at_a_time_equal_a_ragged_batch(pair):
    patches = [patch for patch in plan(3, donors=["same", "other"]) if patch.layer == 1]
    batched, single = table(pair, patches), table(pair, patches, size=1)
    pd.testing.assert_frame_equal(batched, single, rtol=1e-4)


def test_sweep_works_on_some_of_the_prompts(pair):
    patches, some = plan(3, ["mlp_out"], donors=["same", "other"]), np.array([1, 4, 6])
    everything = table(pair, patches)
    expected = everything[everything["prompt"].isin(some)].reset_index(drop=True)
    pd.testing.assert_frame_equal(table(pair, patches, some), expected, rtol=1e-4)


def test_prompts_without_a_subject_have_no_rows_where_the_subject_is_patched(pair):
    counts = table(pair, plan(3, ["attn_out"])).groupby("positions")["prompt"].nunique()
    assert counts.to_dict() == {"all": 7, "last": 7, "last_subject": 6, "subject": 6}
    nothing = table(pair, plan(3, positions=["subject"]), rows=np.array([6]))
    assert len(nothing) == 0
    assert "probability" in nothing


def test_the_control_brings_the_answer_of_another_fact(pair):
    full, _, clean, _ = pair
    found = table(pair, [Patch("resid_post", "last", "other", 1, 2)]).set_index("prompt")
    assert (ROWS != PARTNER).all()
    stream = torch.tensor(clean["resid_post"][clean.offsets[1:] - 1, -1])
    theirs = torch.softmax(full.unembed(stream), -1)[PARTNER]
    expected = [theirs[i, PROMPTS.answers[i][0]].item() for i in ROWS]
    np.testing.assert_allclose(found["probability"], expected, rtol=1e-4)


def test_a_prompt_without_a_partner_has_no_control(pair):
    _, quantized, clean, _ = pair
    lonely = np.where(ROWS == 2, -1, PARTNER)
    found = sweep(quantized, clean, PROMPTS, ROWS, lonely, plan(3, ["mlp_out"], ["all"], ["other"]))
    assert set(found["prompt"]) == set(ROWS) - {2}


def test_windows(pair):
    patches = plan(3, window=1)
    assert patches == [Patch(k, p, "same", 1, layer) for k in SETTERS for p in POSITIONS for layer in range(3)]
    assert [list(patch.layers) for patch in plan(3, ["mlp_out"], ["all"], window=2)] == [[0, 1], [1, 2]]
    wide = table(pair, [Patch("resid_post", "all", "same", 2, 0)])
    narrow = table(pair, [Patch("resid_post", "all", "same", 1, 1)])
    np.testing.assert_allclose(wide["probability"], narrow["probability"], rtol=1e-5)
    differs = table(pair, [Patch("mlp_out", "all", "same", 2, 0)]), table(pair, [Patch("mlp_out", "all", "same", 1, 0)])
    assert not np.allclose(differs[0]["probability"], differs[1]["probability"], rtol=1e-2)


def test_summary_counts_what_came_back():
    patch = {"kind": "mlp_out", "positions": "all", "donor": "same", "window": 1, "layer": 0}
    ranks = [1, 1, 3, 9, 1]
    results = pd.DataFrame({"prompt": range(5), **patch, "rank": ranks, "probability": [0.8, 0.6, 0.2, 0.0, 0.9]})
    own = pd.DataFrame({"rank": [5, 6, 7, 8, 1], "probability": [0.1, 0.1, 0.1, 0.1, 0.9]})
    full = pd.DataFrame({"rank": [1, 1, 1, 1, 1], "probability": [0.9, 0.9, 0.9, 0.9, 0.9]})
    groups = {"lost": np.arange(4), "all": np.arange(5), "kept": np.array([4])}
    found = summarise(results, own, full, groups).set_index(["group", "measure"])
    assert (found.loc["lost", list(patch)] == list(patch.values())).all(axis=None)
    value = found["estimate"]
    assert value["lost", "recovery"] == pytest.approx(0.3 / 0.8)
    assert value["lost", "regained"] == value["lost", "accuracy"] == 0.5
    assert (value["all", "regained"], value["all", "accuracy"]) == (0.5, 0.6)
    assert (value["lost", "rank"], value["all", "rank"]) == (2, 1)
    assert found["n"].tolist() == [4, 4, 4, 4, 5, 4, 5, 5, 1, 0, 1, 1]
    assert found.loc[("lost", "regained"), ["low", "high"]].tolist() == pytest.approx([0.150, 0.850], abs=1e-3)
    assert np.isnan(value["kept", "recovery"])
    assert np.isnan(value["kept", "regained"])
    back = summarise(results, full, own, groups).set_index(["group", "measure"])["estimate"]
    assert back["lost", "recovery"] == pytest.approx(1 - 0.3 / 0.8)
    assert back["lost", "regained"] == 0.5


def test_in_reverse_regained_is_what_goes_and_the_median_rank_has_its_exact_interval():
    patch = {"kind": "mlp_out", "positions": "all", "donor": "same", "window": 1, "layer": 0}
    results = pd.DataFrame({"prompt": range(10), **patch, "rank": range(1, 11), "probability": 0.5})
    full = pd.DataFrame({"rank": [1] * 10, "probability": 0.9})
    quantized = pd.DataFrame({"rank": [5] * 10, "probability": 0.1})
    found = summarise(results, full, quantized, {"failure": np.arange(10)}).set_index("measure")
    assert found.loc["regained", "estimate"] == 0.9
    assert found.loc["rank", ["estimate", "low", "high"]].tolist() == [5.5, 2, 9]


@quick
@given(st.lists(st.booleans(), min_size=1), st.integers(1, 40))
def test_half_of_the_chosen_prompts_are_failures_where_there_are_so_many(flags, n):
    failure = np.array(flags)
    chosen = stratified(failure, n, seed=0)
    assert len(chosen) == len(set(chosen)) == min(n, len(failure))
    lost, kept = failure.sum(), (~failure).sum()
    if min(lost, kept) >= (n + 1) // 2:
        assert failure[chosen].sum() == n // 2
    assert list(chosen) == sorted(chosen)


@pytest.fixture(scope="module")
def study(tiny_llama, tmp_path_factory) -> Study:
    """A study of the random Llama, whose own first choices are the right answers, but for one that it does not know."""
    study = Study(model=tiny_llama, method="rtn", bits=2, group_size=32, run=tmp_path_factory.mktemp("run"))
    asked = prompts(41)
    first = score(Runner(study.model(FULL)), asked)["top1"].tolist()
    first[3] = (first[3] + 1) % 320
    study.probes = Probes(asked.input_ids, [[token] for token in first], asked.subject, asked.table, asked.dropped)
    return study


def test_measure_writes_one_tidy_table(study):
    found = patching.measure(study, n_prompts=20, window=2)
    pd.testing.assert_frame_equal(found, pd.read_parquet(study.run / "patching.parquet"))
    assert set(found["variant"]) == {"rtn-2bit-g32"}
    cells = ["variant", "direction", "group", "kind", "positions", "donor", "window", "layer", "measure"]
    assert not found.duplicated(cells).any()
    one = found[(found["measure"] == "recovery") & (found["group"] == "failure")]
    sizes = one.groupby(["direction", "kind", "donor", "window"]).size()
    assert sizes["forward", "resid_post"].to_dict() == {("other", 1): 12, ("same", 1): 12}
    assert sizes["forward", "mlp_out"].to_dict() == {("same", 1): 12, ("same", 2): 4}
    both = found[found["direction"] == "both"]
    assert set(both["measure"]) == {"interaction", "interaction_probability"}
    both = both[both["measure"] == "interaction_probability"]
    assert both.groupby("group")["layer"].apply(list).to_dict() == {"failure": [0, 1, 2], "robust": [0, 1, 2]}
    ends = one[(one["positions"] == "all") & (one["kind"] == "resid_post") & (one["donor"] == "same")]
    forward, reverse = (ends[ends["direction"] == name]["estimate"].to_numpy() for name in ("forward", "reverse"))
    np.testing.assert_allclose(both[both["group"] == "failure"]["estimate"], reverse - forward, atol=1e-9)
    assert sizes["reverse"].to_dict() == {("none", "none", 0): 1, ("resid_post", "same", 1): 12}
    last = one[(one["layer"] == 2) & one["positions"].isin(["all", "last"]) & (one["kind"] == "resid_post")]
    np.testing.assert_allclose(last.loc[last["donor"] == "same", "estimate"], 1, rtol=1e-4)
    assert (one.loc[one["kind"] == "none", "estimate"] == 0).all()


def test_measure_agrees_with_the_scores_of_both_models(study):
    found = measure_variant(study, "rtn-2bit-g32", n_prompts=20, kinds=["resid_post"], positions=["all"])
    known = study.groups[study.groups["known"]].reset_index(drop=True)
    failure = known["failure"].to_numpy()
    chosen = stratified(failure, 20, study.seed)
    ranks = study.scores("rtn-2bit-g32").loc[study.groups["known"], "rank"].to_numpy()
    assert len(ranks) == 40
    accuracy = found[found["measure"] == "accuracy"].set_index(["direction", "group", "kind", "donor", "layer"])
    for group, flags in {"failure": failure, "robust": ~failure}.items():
        mine = [prompt for prompt in chosen if flags[prompt]]
        row = accuracy.loc[("forward", group, "none", "none", -1)]
        assert (row["estimate"], row["n"]) == ((ranks[mine] == 1).mean(), len(mine))
        assert accuracy.loc[("reverse", group, "none", "none", -1), "estimate"] == 1
        assert accuracy.loc[("forward", group, "resid_post", "same", 2), "estimate"] == 1
    assert set(found["positions"]) == {"all", "none"}


def test_a_window_is_cut_to_the_layers_there_are(study):
    found = measure_variant(study, "rtn-2bit-g32", n_prompts=4, window=9, positions=["all"])
    wide = found[found["window"] > 1]
    assert set(wide["kind"]) == {"attn_out", "mlp_out"}
    assert set(zip(wide["window"], wide["layer"], strict=True)) == {(3, 0)}


def test_parts_can_be_patched_without_the_stream(study):
    found = measure_variant(study, "rtn-2bit-g32", n_prompts=6, kinds=["mlp_out"], positions=["all"])
    assert set(found["kind"]) == {"mlp_out", "none"}
    assert set(found.loc[found["direction"] == "reverse", "kind"]) == {"none"}


def test_failures_are_those_of_the_variants_own_method(study, monkeypatch):
    known = study.groups["known"]
    other = study.groups.assign(robust=known, failure=False)
    monkeypatch.setattr(Study, "groups_of", lambda self, method: {"rtn": other}[method])
    found = measure_variant(study, "rtn-2bit-g32", n_prompts=6, kinds=["resid_post"], positions=["all"])
    assert set(found["group"]) == {"robust"}


def specs(made) -> list[dict]:
    return [chart.to_dict() for chart in (made.charts if isinstance(made, Row) else [made])]


CHARTS = [charts.by_layer, charts.by_position, charts.by_part, charts.interaction]


@pytest.mark.parametrize("draw", CHARTS)
def test_charts_say_what_they_show(study, draw):
    for spec in specs(draw(patching.measure(study, n_prompts=20, window=2))):
        assert len(spec["description"]) > 80
        assert "failure facts" in f"{spec['title']} {spec['description']}".lower()
        assert spec["width"] == "container"
        (data,) = [rows for rows in spec["datasets"].values() if len(rows) > 1][:1]
        assert {row["group"] for row in data} == {"failure"}


@pytest.mark.parametrize("draw", CHARTS)
def test_charts_can_be_drawn_where_nothing_was_lost(study, draw):
    table = patching.measure(study, n_prompts=20, window=2)
    for spec in specs(draw(table.assign(estimate=np.nan))):
        assert spec["description"]


def test_axes_fit_what_is_drawn_and_a_control_beyond_them_is_left_out():
    cell = {"method": "gptq", "bits": 2, "group": "failure", "direction": "forward", "kind": "resid_post",
            "positions": "all", "window": 1, "measure": "recovery", "n": 9}  # fmt: skip
    rows = [(layer, donor, value, value - 0.02, value + 0.02)
            for layer in range(3) for donor, value in (("same", 0.1 * layer), ("other", 0.05 - layer))]  # fmt: skip
    table = pd.DataFrame(rows, columns=["layer", "donor", "estimate", "low", "high"]).assign(**cell)
    spec = charts.by_layer(table, "recovery").to_dict()
    inner, dashed = spec["layer"]
    domains = [layer["encoding"]["y"]["scale"]["domain"] for layer in (*inner["layer"], dashed)]
    assert domains == [[pytest.approx(-0.02), pytest.approx(0.22)]] * 3
    drawn = sorted(round(row["estimate"], 2) for data in spec["datasets"].values() for row in data)
    assert drawn == [0, 0.05, 0.1, 0.2]


def test_a_chart_shows_the_rows_it_is_asked_for(study):
    table = patching.measure(study, n_prompts=20, window=2)
    rows = charts.select(table, "recovery", direction="reverse", kind="resid_post", positions="last")
    expected = table[(table["direction"] == "reverse") & (table["positions"] == "last") & (table["group"] == "failure")]
    assert rows["estimate"].tolist() == expected.loc[expected["measure"] == "recovery", "estimate"].tolist()
    spec = charts.by_layer(table, "recovery", positions="last", direction="reverse").to_dict()
    assert "full precision" in spec["description"]
    (panel,) = charts.by_part(table).charts
    assert panel.to_dict()["title"] == ["2 bits"]


def test_donors_of_every_kind_and_the_right_fact_is_the_patch_of_the_chapter(study):
    study.known.table["band"] = pd.array([0] * len(study.known), dtype="Int64")
    found = patching.donors.measure(study, n_prompts=20)
    assert set(found["variant"]) == {"rtn-4bit-g32"}
    assert set(found["donor"]) == set(patching.donors.KINDS)
    top = found[(found["layer"] == 2) & (found["group"] == "failure")].set_index("donor")["estimate"]
    known, label = study.groups["known"], "rtn-4bit-g32"
    lost = study.scores("full")["probability"] - study.scores(label)["probability"]
    failure = study.groups["failure"][known].to_numpy()
    chosen = patching.donors.gains_of(study, label, 20)
    np.testing.assert_allclose(chosen[0][0, chosen[1], 2].mean(), top["own"], rtol=1e-5)
    assert set(np.round(chosen[0][0, :, 2], 5)) <= set(np.round(lost[known].to_numpy(), 5))
    assert chosen[1].sum() <= failure.sum()
    panels = [chart.to_dict() for chart in charts.donors(found).charts]
    assert [panel["title"] for panel in panels] == [["Failure facts"], ["Robust facts"]]
    assert "the right fact" in panels[0]["description"]
