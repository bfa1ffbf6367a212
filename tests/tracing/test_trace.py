"""Hooks do what their names say, on four architectures; recordings are whole, reused and never silently broken."""

import errno
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, Qwen3Config, Qwen3ForCausalLM

import quantcliff.tracing as trace_module
from quantcliff import models
from quantcliff.errors import InputError
from quantcliff.probes import Probes
from quantcliff.tracing import Asked, Runner, Trace, batches, likeliest, rank_of, recording, score, score_logits, site

FAMILIES = ["llama", "gemma", "neox", "qwen"]


@pytest.fixture(scope="module")
def folders(tiny_llama, tiny_gemma, tiny_neox, tmp_path_factory):
    from tiny import SIZES, save

    torch.manual_seed(3)
    config = Qwen3Config(**SIZES, num_key_value_heads=2, head_dim=8, bos_token_id=0, initializer_range=0.2)
    qwen = save(Qwen3ForCausalLM(config), tmp_path_factory.mktemp("qwen"))
    return {"llama": tiny_llama, "gemma": tiny_gemma, "neox": tiny_neox, "qwen": qwen}


@pytest.fixture(scope="module")
def runners(folders):
    return {family: Runner(models.load(folders[family])) for family in FAMILIES}


@pytest.fixture(params=FAMILIES)
def runner(request, runners) -> Runner:
    return runners[request.param]


IDS = torch.randint(1, 320, (3, 12), generator=torch.Generator().manual_seed(0))


def close(a, b) -> bool:
    return torch.allclose(a, b, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_equal_plain_transformers(family, folders, runners):
    plain = AutoModelForCausalLM.from_pretrained(
        folders[family], dtype=torch.float32, attn_implementation="eager"
    ).eval()
    with torch.no_grad():
        assert close(runners[family].logits(IDS), plain(IDS).logits)


def test_sizes(runner):
    assert (runner.n_layers, runner.n_heads, runner.d_model, runner.d_ffn, runner.vocab) == (3, 4, 32, 64, 320)
    neox = "NeoX" in type(runner.model.hf).__name__
    assert runner.has_gate == (not neox)
    assert runner.parallel == neox


def test_restart_from_any_layer_equals_a_full_run_and_skips_the_layers_below(runner):
    sites = [site("resid_post", layer) for layer in range(3)]
    full, seen = runner.run(IDS, record=[site("resid_pre", 0), *sites])
    calls = []
    handles = [runner.bridge.blocks[n].attn.register_forward_hook(lambda *_, n=n: calls.append(n)) for n in range(3)]
    for start in range(4):
        calls.clear()
        stream = seen[site("resid_pre", 0)] if start == 0 else seen[sites[start - 1]]
        logits, upper = runner.run(stream, record=sites[start:], start_layer=start)
        assert close(logits, full)
        assert all(close(upper[name], seen[name]) for name in sites[start:])
        assert calls == list(range(start, 3))
    [handle.remove() for handle in handles]
    assert close(runner.logits(IDS), full)


def test_restart_with_an_edit_equals_the_full_run_with_that_edit(runner):
    noise = torch.randn(3, 12, 32, generator=torch.Generator().manual_seed(1))
    edits = {site("attn_out", 2): lambda t: t + noise}
    full, seen = runner.run(IDS, record=[site("resid_pre", 1)], edits=edits)
    assert close(runner.run(seen[site("resid_pre", 1)], edits=edits, start_layer=1)[0], full)


@pytest.mark.parametrize("kind", ["resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out"])
def test_an_edit_moves_exactly_what_the_docstring_says(runner, kind):
    if kind == "resid_mid" and runner.parallel:
        with pytest.raises(InputError, match="no site"):
            runner.run(IDS, edits={site(kind, 1): torch.zeros_like})
        return
    noise = torch.randn(3, 12, 32, generator=torch.Generator().manual_seed(1))
    kinds = ["resid_pre", "attn_out", "mlp_out", "resid_post"]
    sites = [site(k, 1) for k in kinds]
    plain, before = runner.run(IDS, record=[*sites, site("resid_pre", 2)])
    edited, after = runner.run(IDS, record=[*sites, site("resid_pre", 2)], edits={site(kind, 1): lambda t: t + noise})
    pre, attn, mlp, post = (after[name] for name in sites)
    assert (edited - plain).abs().max() > 0.1
    assert close(after[site("resid_pre", 2)], post)
    if kind in ("resid_pre", "attn_out", "mlp_out"):
        assert close(post, pre + attn + mlp)  # the edit is in the stream, skip connection included
        assert close(after[site(kind, 1)], before[site(kind, 1)] + noise)
    elif kind == "resid_post":
        assert close(post, before[site("resid_post", 1)] + noise)
    else:
        assert close(pre + attn, before[sites[0]] + before[sites[1]])  # the skip connection keeps the old value
        assert not close(mlp, before[site("mlp_out", 1)])


@pytest.mark.parametrize("kind", ["attn_in", "mlp_in", "pattern", "gate", "up", "post"])
def test_edits_inside_a_sublayer_reach_its_output_only(runner, kind):
    if kind == "up" and not runner.has_gate:
        pytest.skip("GPT-NeoX has no gate")
    out = "attn_out" if kind in ("attn_in", "pattern") else "mlp_out"
    before = runner.run(IDS, record=[site("resid_pre", 1), site(out, 1)])[1]
    after = runner.run(
        IDS, record=[site("resid_pre", 1), site(out, 1)], edits={site(kind, 1): lambda t: t * 0.5 + 0.1}
    )[1]
    assert close(after[site("resid_pre", 1)], before[site("resid_pre", 1)])
    assert not close(after[site(out, 1)], before[site(out, 1)])


def test_post_is_the_input_of_the_down_projection_and_gate_the_input_of_the_nonlinearity(runners, folders):
    seen = runners["llama"].run(IDS, record=[site(k, 0) for k in ("gate", "up", "post", "mlp_in", "mlp_out")])[1]
    mlp = AutoModelForCausalLM.from_pretrained(folders["llama"], dtype=torch.float32).model.layers[0].mlp
    gate, up, post, x, out = (seen[site(k, 0)] for k in ("gate", "up", "post", "mlp_in", "mlp_out"))
    with torch.no_grad():
        assert close(mlp.gate_proj(x), gate)
        assert close(mlp.up_proj(x), up)
        assert close(mlp.act_fn(gate) * up, post)
        assert close(mlp.down_proj(post), out)
    seen = runners["neox"].run(IDS, record=[site(k, 0) for k in ("gate", "post")])[1]
    assert close(torch.nn.functional.gelu(seen[site("gate", 0)]), seen[site("post", 0)])


def test_the_lens_at_the_top_is_the_output(runner):
    logits, seen = runner.run(IDS, record=[site("resid_post", 2)])
    assert close(runner.unembed(seen[site("resid_post", 2)]), logits)
    assert close(runner.unembed(seen[site("resid_post", 2)][0, 0]), logits[0, 0])


def test_head_at_the_last_token_only(runner):
    last = torch.tensor([3, 11, 0])
    assert close(runner.run(IDS, last=last)[0], runner.logits(IDS)[torch.arange(3), last])


def test_padding_changes_nothing(runner):
    padded = torch.cat([IDS, torch.zeros(3, 9, dtype=torch.long)], 1)
    assert close(runner.logits(padded)[:, :12], runner.logits(IDS))


def test_hooks_never_outlive_a_call(runner):
    plain = runner.logits(IDS)

    def fail(_):
        raise RuntimeError("an edit that fails")

    with pytest.raises(RuntimeError, match="an edit that fails"):
        runner.run(IDS, edits={site("resid_post", 1): fail}, last=torch.tensor([1, 2, 3]))
    assert torch.equal(runner.logits(IDS), plain)


def broken(folder: Path, spoil) -> Runner:
    model = models.load(folder)
    with torch.no_grad():
        spoil(model.hf)
    return Runner(model)


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (lambda hf: hf.model.layers[1].mlp.down_proj.weight.fill_(1e38), "layer 1, mlp_out"),
        (lambda hf: hf.model.layers[2].self_attn.o_proj.weight.fill_(torch.nan), "layer 2, attn_out"),
        (lambda hf: hf.model.embed_tokens.weight.fill_(torch.inf), "the embedding"),
        (lambda hf: hf.lm_head.weight.fill_(torch.nan), "the final norm or the head"),
    ],
)
def test_nan_and_inf_are_named_by_layer_and_module(tiny_llama, spoil, named):
    with pytest.raises(InputError, match=f"first in {named}"):
        broken(tiny_llama, spoil).logits(IDS)


def prompts(n: int = 9, seed: int = 0) -> Probes:
    """Random prompts of 3 tokens and more, in no order, with one or two right answers; the last one has no subject."""
    rng = np.random.default_rng(seed)
    lengths = rng.permutation(np.arange(3, 3 + n))
    return Probes(
        input_ids=[rng.integers(1, 320, length).tolist() for length in lengths],
        answers=[rng.choice(320, size=rng.integers(1, 3), replace=False).tolist() for _ in range(n)],
        subject=np.array([[1, 2]] * (n - 1) + [[-1, -1]]),
        table=pd.DataFrame({"prompt": [str(row) for row in range(n)]}),
        dropped=pd.DataFrame(),
    )


def rows(probes, runner, kind, index):
    """What a plain run of one unpadded prompt has at a kind of site: (pos, layer, width)."""
    names = [site(kind, layer) for layer in range(3)]
    seen = runner.run(torch.tensor([probes.input_ids[index]]), record=names)[1]
    return torch.stack([seen[name][0] for name in names], 1).numpy()


def test_trace_holds_what_plain_runs_of_single_prompts_give(runner, tmp_path):
    probes, kinds = prompts(), ["resid_post", "gate"]
    made = {where: Trace.record(runner, probes, kinds, where, tmp_path, size=4) for where in ("last", "all")}
    subject = Trace.record(runner, probes, kinds, "last_subject", tmp_path, size=4)
    for kind in kinds:
        assert made["last"][kind].shape == (9, 3, 32 if kind == "resid_post" else 64)
        for index in range(9):
            expected = rows(probes, runner, kind, index)
            span = slice(*made["all"].offsets[index : index + 2])
            np.testing.assert_allclose(made["all"][kind][span], expected, atol=1e-5)
            np.testing.assert_allclose(made["last"][kind][index], expected[-1], atol=1e-5)
            if index < 8:
                np.testing.assert_allclose(subject[kind][index], expected[2], atol=1e-5)
        assert np.isnan(subject[kind][8]).all()


def test_patterns_are_padded_to_the_longest_prompt(runner, tmp_path):
    probes = prompts()
    made = {w: Trace.record(runner, probes, ["pattern"], w, tmp_path, size=4) for w in ("last", "last_subject", "all")}
    assert made["last"]["pattern"].shape == (9, 3, 4, 11)
    names = [site("pattern", layer) for layer in range(3)]
    for index, ids in enumerate(probes.input_ids):
        seen = runner.run(torch.tensor([ids]), record=names)[1]
        expected = np.zeros((len(ids), 3, 4, 11), dtype=np.float32)
        expected[..., : len(ids)] = torch.stack([seen[name][0] for name in names]).permute(2, 0, 1, 3)
        span = slice(*made["all"].offsets[index : index + 2])
        np.testing.assert_allclose(made["all"]["pattern"][span], expected, atol=1e-5)
        np.testing.assert_allclose(made["last"]["pattern"][index], expected[-1], atol=1e-5)
        if index < 8:
            np.testing.assert_allclose(made["last_subject"]["pattern"][index], expected[2], atol=1e-5)


def test_trace_is_recorded_once_per_model_and_prompts(runners, tmp_path, monkeypatch):
    probes, runner = prompts(), runners["llama"]
    first = Trace.record(runner, probes, ["resid_post"], "last", tmp_path)
    asked = []
    run = Runner.run
    monkeypatch.setattr(Runner, "run", lambda self, *a, **k: asked.extend(k["record"]) or run(self, *a, **k))
    again = Trace.record(runner, probes, ["resid_post"], "last", tmp_path)
    assert not asked
    np.testing.assert_array_equal(again["resid_post"], first["resid_post"])
    Trace.record(runner, probes, ["resid_post", "mlp_out"], "last", tmp_path)
    assert asked == [site("mlp_out", layer) for layer in range(3)]
    assert Trace.record(runner, prompts(seed=1), ["resid_post"], "last", tmp_path).folder != first.folder
    assert Trace.record(runners["gemma"], probes, ["resid_post"], "last", tmp_path).folder != first.folder


def test_a_killed_recording_leaves_nothing_that_looks_finished(runners, tmp_path, monkeypatch):
    probes, runner, calls = prompts(), runners["llama"], []
    write = recording.Job.write

    def die(*args):
        calls.append(1)
        if len(calls) > 4:
            raise KeyboardInterrupt
        write(*args)

    monkeypatch.setattr(recording.Job, "write", die)
    with pytest.raises(KeyboardInterrupt):
        Trace.record(runner, probes, ["resid_post"], "last", tmp_path, size=3)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_several_sets_of_prompts_are_recorded_in_one_pass(runners, tmp_path, monkeypatch):
    probes, other, runner = prompts(), prompts(seed=1), runners["llama"]
    some = probes.select([8, 2, 5])  # the one without a subject first
    again = Probes(
        some.input_ids * 2, some.answers * 2, np.tile([0, 1], (6, 1)), pd.concat([some.table] * 2), some.dropped
    )
    asked = [
        Asked(probes, ["resid_post", "pattern"], "last"), Asked(some, ["gate", "pattern"], "last_subject"),
        Asked(some, ["resid_post", "pattern"], "all"), Asked(other, ["resid_post"], "last"),
        Asked(again, ["gate"], "last_subject"),
    ]  # fmt: skip
    apart = [Trace.record(runner, *wish, tmp_path / "apart") for wish in asked]
    tokens, run = [], Runner.run
    monkeypatch.setattr(Runner, "run", lambda self, ids, **k: tokens.append(len(ids)) or run(self, ids, **k))
    together = Trace.record_all(runner, asked, tmp_path / "together", size=4)
    assert sum(tokens) == 18, "each prompt is read once"
    for wish, one, other_trace in zip(asked, apart, together, strict=True):
        np.testing.assert_array_equal(one.offsets, other_trace.offsets)
        for kind in wish.kinds:
            np.testing.assert_allclose(other_trace[kind], one[kind], atol=1e-5)
    assert Trace.record_all(runner, asked, tmp_path / "together") and sum(tokens) == 18, "nothing is recorded again"


def test_scores_are_the_same_when_read_off_recorded_streams(runners, tmp_path):
    probes, runner = prompts(), runners["gemma"]
    stream = Trace.record(runner, probes, ["resid_post"], "last", tmp_path)["resid_post"][:, -1]
    logits = {index: runner.logits(torch.tensor([ids]))[0, -1] for index, ids in enumerate(probes.input_ids)}

    def reference(rows):
        return torch.stack([logits[row] * 0.5 for row in rows])

    found = trace_module.score_streams(runner, stream, probes.answers, reference, size=4)
    want = score(runner, probes, reference, size=4)
    assert list(found) == list(want) and found.index.tolist() == want.index.tolist()
    np.testing.assert_allclose(found, want, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["llama", "gemma", "neox"])
def test_a_run_that_ends_at_a_layer_gives_its_stream_to_the_head(runners, name):
    runner, ids = runners[name], torch.tensor([[1, 2, 3, 4], [5, 6, 7, 8]])
    _, seen = runner.run(ids, record=[site("resid_post", layer) for layer in range(3)])
    for end in (1, 2, 3):
        logits, own = runner.run(ids, record={site("resid_post", 0): lambda stream: stream[:, -1]}, end_layer=end)
        torch.testing.assert_close(logits, runner.unembed(seen[site("resid_post", end - 1)]), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(own[site("resid_post", 0)], seen[site("resid_post", 0)][:, -1])
    middle, _ = runner.run(seen[site("resid_post", 0)], start_layer=1, end_layer=2)
    torch.testing.assert_close(middle, runner.unembed(seen[site("resid_post", 1)]), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["llama", "gemma", "neox"])
def test_work_counts_blocks_by_token_and_the_head_by_row(runners, name):
    runner, ids, last = runners[name], torch.tensor([[1, 2, 3, 4], [5, 6, 7, 0]]), torch.tensor([3, 2])
    head = 320 * 32

    def work(call):
        before = Runner.work
        call()
        return Runner.work - before

    fresh, tied = type(runner.model.hf)(runner.model.hf.config), name == "gemma"
    assert 3 * runner.block_size == fresh.num_parameters() - (1 if tied else 2) * head
    ffn = sum(weight.numel() for name, weight in fresh.named_parameters() if "layers.2.mlp." in name)
    assert ffn > 0.4 * runner.block_size
    spared = 6 * ffn  # the last block's FFN runs at the last tokens only
    assert work(lambda: runner.run(ids, last=last)) == pytest.approx(8 * 3 * runner.block_size + 2 * head - spared)
    assert work(lambda: runner.run(ids)) == pytest.approx(8 * 3 * runner.block_size + 8 * head)
    stream = torch.zeros(2, 4, 32)
    whole = 8 * runner.block_size + 2 * head
    assert work(lambda: runner.run(stream, start_layer=2, last=last)) == pytest.approx(whole - spared)
    seen = [site("resid_post", 2)]
    assert work(lambda: runner.run(stream, seen, start_layer=2, last=last)) == pytest.approx(whole)
    assert work(lambda: runner.run(ids, end_layer=1, last=last)) == pytest.approx(8 * runner.block_size + 2 * head)
    assert work(lambda: runner.unembed(stream)) == pytest.approx(8 * head)
    assert runner.plain_work(np.array([4, 3])) == pytest.approx(7 * 3 * runner.block_size + 2 * head)


def test_a_full_disk_is_said_before_anything_is_written(runners, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(InputError, match="the disk is full"):
        Trace.record(runners["llama"], prompts(), ["resid_post"], "last", tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_nan_at_a_position_that_no_answer_is_read_from_is_found_too(runners, tmp_path, monkeypatch):
    run = Runner.run

    def spoiled(self, *args, record, **kwargs):
        pick, bad = record[site("gate", 1)], torch.zeros(1, 3, 64).index_fill(1, torch.tensor([0]), torch.nan)
        spoil = {
            site("gate", 1): lambda tensor: pick(tensor + torch.nn.functional.pad(bad, (0, 0, 0, tensor.shape[1] - 3)))
        }
        return run(self, *args, record=record | spoil, **kwargs)

    monkeypatch.setattr(Runner, "run", spoiled)
    with pytest.raises(InputError, match="NaN or Inf"):
        Trace.record(runners["llama"], prompts(), ["gate"], "last", tmp_path)


def test_batches_cover_every_prompt_once_and_pad_on_the_right():
    probes, seen = prompts(), []
    for batch in batches(probes, 4):
        seen.extend(batch.indices)
        for row, index in enumerate(batch.indices):
            assert batch.ids[row, : batch.lengths[row]].tolist() == probes.input_ids[index]
            assert not batch.ids[row, batch.lengths[row] :].any()
    assert sorted(seen) == list(range(9))


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10_000), st.integers(2, 40))
def test_rank_against_sorting(seed, vocab):
    random = np.random.default_rng(seed)
    logits = random.permutation(vocab).astype(np.float32)[None]
    answers = random.choice(vocab, size=random.integers(1, vocab), replace=False)
    order = np.argsort(-logits[0])
    first = min(int(np.flatnonzero(order == token)[0]) for token in answers)
    ahead = set(order[:first]) - set(answers)
    assert rank_of(torch.tensor(logits), [answers.tolist()]).tolist() == [1 + len(ahead)]


def test_ties_never_look_like_a_right_answer():
    assert rank_of(torch.zeros(1, 7), [[3]]).tolist() == [7]
    assert rank_of(torch.zeros(1, 7), [[3, 4]]).tolist() == [6]


def test_score_of_known_logits():
    table = score_logits(torch.log(torch.tensor([[0.1, 0.2, 0.3, 0.4]])), [[0, 2]])
    assert table[["answer", "rank", "top1"]].to_numpy().tolist() == [[2, 2, 3]]
    assert table["probability"][0] == pytest.approx(0.3)
    assert table["logprob"][0] == pytest.approx(np.log(0.3))
    assert table["entropy"][0] == pytest.approx(-sum(p * np.log(p) for p in (0.1, 0.2, 0.3, 0.4)))


def test_likeliest_of_some_tokens():
    logits = torch.log(torch.tensor([[0.1, 0.2, 0.3, 0.4]] * 3)) + torch.tensor([[0.0], [5.0], [0.0]])
    np.testing.assert_allclose(likeliest(logits, [[0, 2], [1], []]), [0.3, 0.2, np.nan], rtol=1e-6)


def test_score_keeps_the_order_of_the_prompts(runner):
    probes = prompts()
    table = score(runner, probes, size=4)
    assert list(table.index) == list(range(9))
    for index in range(9):
        logits = runner.logits(torch.tensor([probes.input_ids[index]]))[:, -1]
        alone = score_logits(logits, [probes.answers[index]])
        assert table["rank"][index] == alone["rank"][0]
        assert table["probability"][index] == pytest.approx(alone["probability"][0], abs=1e-5)


def test_nothing_to_score(runners):
    with pytest.raises(InputError, match="no prompt"):
        score(runners["llama"], prompts().select([]))


def test_bfloat16_is_recorded_as_float32(tiny_llama, tmp_path):
    half = Runner(models.load(tiny_llama, dtype="bfloat16"))
    assert Trace.record(half, prompts(), ["resid_post"], "last", tmp_path)["resid_post"].dtype == np.float32


def test_public_names():
    assert all(hasattr(trace_module, name) for name in trace_module.__all__)
