"""A sweep says what plain transformers says with one hook, one prompt and one patch at a time, on six architectures."""

from itertools import product

import numpy as np
import pandas as pd
import pytest
import torch
from tiny import SIZES, save
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    MistralConfig,
    MistralForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)  # fmt: skip

from quantcliff import models
from quantcliff.models import Model
from quantcliff.probes import POSITIONS, Probes, aligned, other_facts, spans
from quantcliff.tracing import SETTERS, Patch, Runner, Trace, plan, sweep, sweeping
from quantcliff.tracing.past import remember, resumes, take

END = {"bos_token_id": 0, "eos_token_id": 0, "initializer_range": 0.2}
HEADS = {"num_key_value_heads": 2, "head_dim": 8}
MADE = {
    "qwen": lambda: Qwen3ForCausalLM(Qwen3Config(**SIZES, **HEADS, **END)),
    "mistral": lambda: MistralForCausalLM(MistralConfig(**SIZES, **HEADS, **END, sliding_window=4)),
    "gemma": lambda: Gemma2ForCausalLM(
        Gemma2Config(**SIZES, **HEADS, **END, pad_token_id=0, query_pre_attn_scalar=8, sliding_window=4)
    ),
    "gpt2": lambda: GPT2LMHeadModel(GPT2Config(vocab_size=320, n_embd=32, n_layer=3, n_head=4, n_positions=128, **END)),
}
"""Rotary positions, with windows narrower than the prompts, with post-norms too, learned positions."""

PARTS = {
    "default": {"resid_post": "", "attn_out": ".self_attn", "mlp_out": ".mlp"},
    "gemma": {"resid_post": "", "attn_out": ".post_attention_layernorm", "mlp_out": ".post_feedforward_layernorm"},
    "neox": {"resid_post": "", "attn_out": ".attention", "mlp_out": ".mlp"},
    "gpt2": {"resid_post": "", "attn_out": ".attn", "mlp_out": ".mlp"},
}
STACK = {"neox": "gpt_neox.layers", "gpt2": "transformer.h"}


def prompts(n: int = 9) -> Probes:
    """Random prompts of 5 to 11 tokens; subjects begin at token 1 to 4, the last prompt has none."""
    draw = np.random.default_rng(5)
    lengths = draw.integers(6, 12, n)
    subject = np.array([(1 + i % 4, 1 + i % 4 + i % 2) for i in range(n - 1)] + [(-1, -1)])
    table = pd.DataFrame({"relation": ["a", "b", "a"] * (n // 3), "prompt": [str(i) for i in range(n)]})
    ids = [draw.integers(1, 320, k).tolist() for k in lengths]
    return Probes(ids, [[int(a)] for a in draw.permutation(320)[:n]], subject, table, pd.DataFrame())


PROMPTS = prompts()
ROWS = np.arange(len(PROMPTS))
PARTNER = other_facts(PROMPTS.table["relation"].tolist(), PROMPTS.answers, PROMPTS.subject, PROMPTS.lengths)
PATCHES = plan(3, donors=["same", "other"]) + plan(3, ["attn_out", "mlp_out"], ["all", "subject"], window=2)
PATCHES += plan(3, ["resid_post"], ["last_subject"], window=3)


KEYS = ["prompt", "kind", "positions", "donor", "window", "layer"]


def damaged(folder) -> Model:
    model, draw = models.load(folder), torch.Generator().manual_seed(3)
    for name, weight in model.hf.named_parameters():
        if (".layers." in name or ".h." in name) and weight.ndim == 2:
            weight.data += 0.3 * weight.std() * torch.randn(weight.shape, generator=draw)
    return Model(model.hf, model.tokenizer, "damaged", "damaged")


@pytest.fixture(scope="module", params=["llama", "neox", *MADE])
def family(request, tmp_path_factory):
    """Its name, the folder of a random model, and a trace of the model on the prompts."""
    name = request.param
    if name in MADE:
        torch.manual_seed(4)
        folder = save(MADE[name](), tmp_path_factory.mktemp(name))
    else:
        folder = request.getfixturevalue(f"tiny_{name}")
    trace = Trace.record(Runner(models.load(folder)), PROMPTS, list(SETTERS), "all", tmp_path_factory.mktemp("trace"))
    return name, folder, trace


@pytest.fixture(scope="module")
@torch.no_grad()
def expected(family) -> pd.DataFrame:
    """Every patch by plain transformers: one prompt, no padding, no cache, the whole network."""
    name, folder, donor = family
    hf = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    worse = damaged(folder).hf
    models.turn_back(worse)  # GPT-2's layers lie on their side where transformers reads them
    hf.load_state_dict(worse.state_dict())
    rows = []
    for patch, prompt in product(sorted(PATCHES), ROWS):
        span, source = spans(patch.positions, PROMPTS.subject, PROMPTS.lengths), prompt
        if patch.donor == "other":
            source = PARTNER[prompt]
        if span[prompt, 0] < 0 or source < 0:
            continue
        to = np.arange(span[prompt, 0], span[prompt, 1] + 1)
        of = donor.offsets[source] + aligned(span[[prompt]], span[[source]])[0]
        handles = []
        for layer in patch.layers:
            values = torch.tensor(donor[patch.kind][of, layer])

            def hook(module, args, out, values=values, to=to):
                new = (out if isinstance(out, torch.Tensor) else out[0]).clone()
                new[0, to] = values
                return new if isinstance(out, torch.Tensor) else (new, *out[1:])

            part = PARTS.get(name, PARTS["default"])[patch.kind]
            module = hf.get_submodule(f"{STACK.get(name, 'model.layers')}.{layer}{part}")
            handles.append(module.register_forward_hook(hook))
        logits = hf(torch.tensor([PROMPTS.input_ids[prompt]]), use_cache=False).logits[0, -1].double()
        [handle.remove() for handle in handles]
        answer = logits[PROMPTS.answers[prompt][0]]
        others = np.delete(logits.numpy(), PROMPTS.answers[prompt][0])
        rows.append({
            "prompt": prompt, **vars(patch), "rank": 1 + (logits > answer).sum().item(),
            "probability": (answer - logits.logsumexp(0)).exp().item(),
            "margin": np.abs(others - answer.item()).min(),
        })  # fmt: skip
    return pd.DataFrame(rows).set_index(KEYS).sort_index()


@pytest.mark.parametrize("size", [2, 64])
def test_sweep_equals_plain_transformers_patch_by_patch(family, expected, size, monkeypatch):
    _, folder, trace = family
    monkeypatch.setattr(sweeping, "TOKENS_AT_ONCE", {2: 60, 64: 1024}[size])
    recipient = Runner(damaged(folder))
    assert resumes(recipient)
    found = sweep(recipient, trace, PROMPTS, ROWS, PARTNER, PATCHES, size).set_index(KEYS).sort_index()
    assert found.index.equals(expected.index)
    np.testing.assert_allclose(found["probability"], expected["probability"], atol=1e-5, rtol=1e-3)
    clear = expected["margin"] > 1e-4
    assert clear.mean() > 0.9
    assert (found["rank"] == expected["rank"])[clear].all()
    assert found["probability"].nunique() > 0.5 * len(found)  # the patches do something


def test_a_model_whose_cache_does_not_carry_on_is_read_from_the_start(family, monkeypatch):
    _, folder, trace = family
    recipient = Runner(damaged(folder))
    expected = sweep(recipient, trace, PROMPTS, ROWS, PARTNER, PATCHES)
    plain = Runner.run

    def forgetful(self, *args, past=None, **kwargs):
        return plain(self, *args, **kwargs)

    monkeypatch.setattr(Runner, "run", forgetful)
    recipient = Runner(damaged(folder))
    assert not resumes(recipient)
    found = sweep(recipient, trace, PROMPTS, ROWS, PARTNER, PATCHES)
    pd.testing.assert_frame_equal(found[KEYS], expected[KEYS])
    np.testing.assert_allclose(found["probability"], expected["probability"], atol=1e-5, rtol=1e-3)


def test_what_is_remembered_can_be_taken_again_and_again(family):
    _, folder, _ = family
    runner, ids = Runner(models.load(folder)), torch.arange(1, 19).reshape(2, 9)
    whole, past = runner.logits(ids), remember(runner, ids[:, :6])
    for rows in ([0, 1], [1, 1, 0]):
        again = runner.run(ids[rows, 6:], past=take(past, torch.tensor(rows)))[0]
        torch.testing.assert_close(again, whole[rows, 6:], atol=1e-4, rtol=1e-4)
    assert past.get_seq_length() == 6


def test_a_sweep_of_late_tokens_does_less_than_one_of_all(family):
    _, folder, trace = family
    recipient, work = Runner(damaged(folder)), {}
    assert resumes(recipient)  # tried before the work is counted
    for positions in POSITIONS:
        before = Runner.work
        sweep(recipient, trace, PROMPTS, ROWS[:-1], PARTNER, plan(3, ["attn_out"], [positions]))
        work[positions] = Runner.work - before
    assert work["last"] < work["subject"] <= work["all"]


def test_nothing_of_the_recipient_is_run_where_its_whole_stream_is_replaced(family):
    _, folder, trace = family
    recipient, tokens = Runner(damaged(folder)), int(PROMPTS.lengths.max()) * len(PROMPTS)
    before = Runner.work
    sweep(recipient, trace, PROMPTS, ROWS, PARTNER, [Patch("resid_post", "all", "same", 1, 1)])
    assert Runner.work - before < tokens * recipient.block_size + len(PROMPTS) * recipient.head_size
