"""How fast and how big is tracing on an 8B-shaped model? For a GPU with 40 GB or more.

    python benchmarks/big.py OUT.json

The model has Llama-3.1-8B's configuration and random bfloat16 weights made on the GPU: speed and memory do not depend
on what the weights say. Prompts are SmolLM2's facts in SmolLM2's tokens, whose ids all lie inside the vocabulary, in
batches of 64, shortest first, as every stage runs them. Measured in turn, `REPEATS` times over the same batches: a
plain forward pass of transformers (logits at every position; and at the last alone), our runner without records, with
the residual stream of all layers recorded, and a trace of it written to disk. Reported are tokens per second of whole
passes (median, least, most) and the peak of memory that PyTorch had allocated.
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from quantcliff import smollm2
from quantcliff.models import Model, tokenizer_of
from quantcliff.probes import Probes
from quantcliff.probes import facts as fact_sources
from quantcliff.tracing import Runner, Trace, batches, score, site

PROMPTS, REPEATS = 640, 5

SHAPE = {
    "vocab_size": 128_256, "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32,
    "num_key_value_heads": 8, "intermediate_size": 14_336, "max_position_embeddings": 131_072, "rope_theta": 500_000.0,
    "rms_norm_eps": 1e-5, "tie_word_embeddings": False, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
"""Llama-3.1-8B's, without its scaling of positions beyond 8,192 tokens."""

TINY = {"vocab_size": 49_152, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "intermediate_size": 128}  # fmt: skip
"""What is changed of it where there is no GPU: to see that the script runs."""


def build(device: str) -> LlamaForCausalLM:
    """The model, its weights drawn on the device."""
    shape = SHAPE | ({} if device == "cuda" else TINY)
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device(device):
            model = LlamaForCausalLM(LlamaConfig(**shape, attn_implementation="eager"))
    finally:
        torch.set_default_dtype(before)
    return model.eval().requires_grad_(False)


class Clock:
    """Seconds of a call on a device, and the peak of memory during all calls of one name."""

    def __init__(self, device: str, tokens: int):
        self.device, self.tokens = device, tokens
        self.found: dict[str, dict[str, float]] = {}

    def measure(self, name: str, work: Callable[[], object]) -> None:
        """`work` once unmeasured and `REPEATS` times measured."""
        work()
        self._wait()
        if self.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        rates = []
        for _ in range(REPEATS):
            start = time.perf_counter()
            work()
            self._wait()
            rates.append(self.tokens / (time.perf_counter() - start))
        peak = torch.cuda.max_memory_allocated() / 2**30 if self.device == "cuda" else float("nan")
        self.found[name] = {"median": median(rates), "least": min(rates), "most": max(rates), "peak_gib": peak}
        spread = f"{min(rates):,.0f} to {max(rates):,.0f}"
        print(f"{name}: {median(rates):,.0f} tokens/s ({spread}), {peak:.1f} GiB", flush=True)

    def _wait(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()


@torch.no_grad()
def measure(out: Path, device: str) -> None:
    tokenizer = tokenizer_of(smollm2.folder())
    probes = fact_sources.probe(fact_sources.load(smollm2.NAME, n_facts=PROMPTS), tokenizer)
    started = time.perf_counter()
    hf = build(device)
    parameters = sum(p.numel() for p in hf.parameters())
    print(f"{parameters:,} parameters after {time.perf_counter() - started:.0f} s", flush=True)
    groups = [batch.ids.to(device) for batch in batches(probes)]
    clock = Clock(device, sum(ids.numel() for ids in groups))
    for kind in ("sdpa", "eager"):
        hf.set_attn_implementation(kind)
        clock.measure(f"plain forward, {kind}", lambda: [hf(ids, use_cache=False) for ids in groups])
        clock.measure(f"plain forward, {kind}, last logits", lambda: [_last(hf, ids) for ids in groups])
    runner = Runner(Model(hf, tokenizer, "8B-shaped", "random"))
    ours(clock, runner, probes)
    about = {
        "device": torch.cuda.get_device_name() if device == "cuda" else device, "torch": torch.__version__,
        "parameters": parameters, "prompts": len(probes), "padded_tokens": clock.tokens, "rates": clock.found,
    }  # fmt: skip
    out.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


def _last(hf: LlamaForCausalLM, ids: torch.Tensor) -> torch.Tensor:
    return hf(ids, use_cache=False, logits_to_keep=1).logits


def ours(clock: Clock, runner: Runner, probes: Probes) -> None:
    """The same prompts by our runner, with ever more asked of it."""
    names = [site("resid_post", layer) for layer in range(runner.n_layers)]
    every = list(batches(probes))
    clock.measure("runner, last logits", lambda: [runner.run(batch.ids, last=batch.last) for batch in every])
    clock.measure("runner, every stream", lambda: [runner.run(b.ids, record=names, last=b.last) for b in every])
    clock.measure("score", lambda: score(runner, probes))
    with tempfile.TemporaryDirectory() as folder:
        turn = iter(range(1000))

        def trace() -> None:
            Trace.record(runner, probes, ["resid_post"], "last", Path(folder) / str(next(turn)))

        clock.measure("trace of every last stream", trace)


if __name__ == "__main__":
    measure(Path(sys.argv[1]), "cuda" if torch.cuda.is_available() else "cpu")
