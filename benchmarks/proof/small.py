"""The two small models of the bench that are no Llama, made again from their recipe: GPT-NeoX and Qwen 3.

Each learns `Recipe.facts` of atlas' facts in atlas' sentences with atlas' tokenizer, and is asked in the one sentence
of each fact that it never saw. Attention and FFN of this GPT-NeoX run side by side, its layers have biases and its
norms too, its head is a matrix of its own; this Qwen 3 norms queries and keys. Every batch is a function of seed and
step, so a killed training goes on from its last checkpoint.
"""

import json
import time
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy
from tqdm import tqdm
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, PreTrainedModel, Qwen3Config, Qwen3ForCausalLM

from proof import steps
from quantcliff.atlas import MODEL, Fact, Stream, Writer, load_facts
from quantcliff.models import load, tokenizer_of
from quantcliff.probes import Facts
from quantcliff.probes import facts as fact_sources
from quantcliff.training.train import build_optimizers

NAMES = ("neox", "qwen3")


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the weights of a small model; the optimizer is atlas' (Muon and AdamW)."""

    name: str
    facts: int = 600
    draw: int = 7
    """Seed of the facts: at most five of one relation share an answer."""
    width: int = 128
    ffn: int = 256
    heads: int = 4
    layers: int = 4
    length: int = 64
    batch: int = 32
    steps: int = 450
    warmup: int = 30
    decay: float = 0.4
    lr: float = 5e-3
    weight_decay: float = 0.1
    optimizer: str = "muon"
    seed: int = 0

    def rate(self, step: int) -> float:
        """Factor on the learning rate at a step, in 0..1."""
        return min(1.0, (step + 1) / self.warmup, (self.steps - step) / (self.decay * self.steps))


RECIPES = {"neox": Recipe("neox", ffn=384), "qwen3": Recipe("qwen3", layers=5, seed=1)}


def asked(recipe: Recipe) -> Facts:
    """The facts of a recipe, each in the sentence that training leaves out."""
    return fact_sources.load("atlas", n_facts=recipe.facts, seed=recipe.draw)


def learned(recipe: Recipe) -> tuple[Fact, ...]:
    """The same facts, to write sentences from."""
    rows = {(row.relation, row.subject) for row in asked(recipe).rows.itertuples()}
    return tuple(fact for fact in load_facts() if (fact.relation, fact.subject) in rows)


def fact_file(folder: Path, recipe: Recipe) -> Path:
    """The facts of a recipe as a file that `diagnose` reads, written if it is not there."""
    file = folder / f"{recipe.name}.jsonl"
    if not file.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        rows = [
            {"relation": row.relation, "subject": row.subject, "object": row.objects[0], "prompt": row.prompt}
            for row in asked(recipe).rows.itertuples()
        ]
        file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


def documents(recipe: Recipe, n: int = 256, seed: int = 20_260_419) -> list[str]:
    """Text that GPTQ and AWQ are calibrated on: what the model was trained on, other draws."""
    return list(islice(Writer(learned(recipe)).texts(seed), n))


def build(recipe: Recipe, vocab: int) -> PreTrainedModel:
    """The model before training."""
    torch.manual_seed(recipe.seed)
    sizes = {
        "vocab_size": vocab, "hidden_size": recipe.width, "num_hidden_layers": recipe.layers,
        "num_attention_heads": recipe.heads, "intermediate_size": recipe.ffn, "max_position_embeddings": 512,
        "bos_token_id": 0, "eos_token_id": 0, "use_cache": False,
    }  # fmt: skip
    if recipe.name == "neox":
        return GPTNeoXForCausalLM(GPTNeoXConfig(**sizes, rotary_pct=0.5, attn_implementation="sdpa"))
    heads = {"num_key_value_heads": recipe.heads // 2, "head_dim": recipe.width // recipe.heads}
    return Qwen3ForCausalLM(Qwen3Config(**sizes, **heads, tie_word_embeddings=True, attn_implementation="sdpa"))


def train(folder: Path, recipe: Recipe, until: float = float("inf"), save_every: int = 50) -> bool:
    """Train into `folder`, or go on from the checkpoint beside it; whether the model is there now.

    Args:
        until: time (`time.time`) from which on the training stops at its next checkpoint.
    """
    if (folder / "model.safetensors").is_file():
        return True
    tokenizer = tokenizer_of(MODEL)
    model = build(recipe, len(tokenizer))
    optimizers = build_optimizers(model, recipe)  # type: ignore[arg-type]
    kept = folder.with_name(f"{folder.name}.checkpoint.safetensors")
    start = steps.restore(kept, dict(model.named_parameters()), optimizers)
    stream = Stream(Writer(learned(recipe)), tokenizer.backend_tokenizer, recipe.length)
    for step in tqdm(range(start, recipe.steps), initial=start, total=recipe.steps, desc=recipe.name, mininterval=5):
        tokens = torch.from_numpy(stream.batch(recipe.batch, recipe.seed, step))
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(input_ids=tokens).logits[:, :-1]
        cross_entropy(logits.float().reshape(-1, logits.shape[-1]), tokens[:, 1:].reshape(-1)).backward()
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = recipe.lr * recipe.rate(step)
            optimizer.step()
            optimizer.zero_grad()
        if (step + 1) % save_every == 0:
            steps.save(kept, dict(model.named_parameters()), optimizers, step + 1)
            if time.time() > until and step + 1 < recipe.steps:
                return False
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "recipe.json").write_text(json.dumps(asdict(recipe), indent=1) + "\n", encoding="utf-8")
    return True


def accuracy(folder: Path, recipe: Recipe) -> float:
    """Share of the recipe's facts that the finished model answers."""
    from quantcliff.tracing import Runner, score

    model = load(folder)
    probes = fact_sources.probe(asked(recipe), model.tokenizer)
    return float((score(Runner(model), probes)["rank"] == 1).mean())
