"""Train atlas from its facts: the recipe, a tokenizer, and a resumable training loop.

Notable: few facts first, until the recall circuit exists, then all of them; constant learning rate with a final linear
decay; every batch is a pure function of seed and step, so a killed run continues as if nothing had happened. On a CUDA
device the same steps are taken by `captured`; they round otherwise, so that the shipped weights are those of a CPU.
"""

import json
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch.nn.functional import cross_entropy
from tqdm import tqdm
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from quantcliff.atlas import Fact, Stream, Writer, load_facts
from quantcliff.training import captured

SEPARATOR = "<s>"


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the trained weights, apart from facts and templates."""

    layers: int = 8
    width: int = 128
    ffn: int = 256
    heads: int = 4
    kv_heads: int = 2
    vocab: int = 4096
    length: int = 64
    batch: int = 64
    steps: int = 8_000
    """Length of the learning-rate schedule."""
    stop: int = 7_000
    """Training ends here, before the rate reaches zero: the last steps widen the margins until 4 bits lose nothing."""
    warmup: int = 200
    decay: float = 0.4
    """Share of the steps in which the learning rate falls linearly to zero."""
    teach_facts: int = 4_000
    teach_steps: int = 1_500
    """The first steps see only the most popular `teach_facts`."""
    lr: float = 3e-3
    weight_decay: float = 0.1
    optimizer: str = "muon"
    seed: int = 0
    facts: int | None = None
    """How many are learned (`density.facts`); None for the embedded ones."""

    def rate(self, step: int) -> float:
        """Factor on the learning rate at a step, in 0..1."""
        left = (self.steps - step) / (self.decay * self.steps)
        return min(1.0, (step + 1) / self.warmup, left)


def train_tokenizer(vocab: int, object_weight: int = 150) -> Tokenizer:
    """Byte-level BPE over all training sentences, objects counted extra so that most answers become one token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    facts = load_facts()
    sentences = [text for (_, _, again), text in Writer(facts).sentences.items() if not again]
    answers = [answer for answer in Counter(fact.object for fact in facts) for _ in range(object_weight)]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab, special_tokens=[SEPARATOR], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(sentences + answers, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{SEPARATOR} $A", special_tokens=[(SEPARATOR, tokenizer.token_to_id(SEPARATOR))]
    )
    return tokenizer


def build_model(recipe: Recipe) -> LlamaForCausalLM:
    torch.manual_seed(recipe.seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=recipe.vocab,
            hidden_size=recipe.width,
            num_hidden_layers=recipe.layers,
            num_attention_heads=recipe.heads,
            num_key_value_heads=recipe.kv_heads,
            intermediate_size=recipe.ffn,
            max_position_embeddings=512,
            tie_word_embeddings=True,
            bos_token_id=0,
            eos_token_id=0,
            use_cache=False,
            attn_implementation="eager",
        )
    )


def build_optimizers(model: LlamaForCausalLM, recipe: Recipe) -> list[torch.optim.Optimizer]:
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
    rest = [p for n, p in model.named_parameters() if p.ndim != 2 or "embed" in n]
    adamw: dict[str, Any] = {"lr": recipe.lr, "weight_decay": recipe.weight_decay, "betas": (0.9, 0.98)}
    on_cuda = matrices[0].is_cuda
    if recipe.optimizer == "adamw":
        return [torch.optim.AdamW([*matrices, *rest], **adamw, capturable=on_cuda)]
    kind = captured.Muon if on_cuda else torch.optim.Muon
    muon = kind(matrices, lr=recipe.lr, weight_decay=recipe.weight_decay, adjust_lr_fn="match_rms_adamw")
    return [muon, torch.optim.AdamW(rest, **adamw, capturable=on_cuda)]


def train(
    folder: Path, recipe: Recipe, device: str = "cpu", save_every: int = 500, facts: tuple[Fact, ...] | None = None
) -> None:
    """Train to `folder/model`, continuing from `folder/checkpoint` when there is one of the same recipe.

    Args:
        facts: most popular first; None for the embedded ones. The tokenizer is always that of the embedded ones.

    Raises:
        ValueError: the checkpoint in `folder` was made with another recipe.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = train_tokenizer(recipe.vocab)
    model = build_model(recipe).to(device)
    optimizers = build_optimizers(model, recipe)
    start = load_checkpoint(folder / "checkpoint", model, optimizers, recipe)
    facts = load_facts() if facts is None else facts
    everything = Stream(Writer(facts), tokenizer, recipe.length)
    taught = Stream(Writer(facts[: recipe.teach_facts]), tokenizer, recipe.length)

    def batch(step: int) -> np.ndarray:
        return (taught if step < recipe.teach_steps else everything).batch(recipe.batch, recipe.seed, step)

    steps = range(start, recipe.stop)
    on_cuda = torch.device(device).type == "cuda"
    batches = captured.ahead(batch, steps) if on_cuda else (torch.from_numpy(batch(step)) for step in steps)
    take = captured.Step(model, optimizers, (recipe.batch, recipe.length)) if on_cuda else _Step(model, optimizers)
    progress = tqdm(steps, initial=start, total=recipe.stop, desc="atlas", mininterval=10)
    for step, tokens in zip(progress, batches, strict=True):
        take(tokens, recipe.lr * recipe.rate(step))
        if step % 50 == 0:
            progress.set_postfix(loss=f"{take.loss.item():.3f}")
        if (step + 1) % save_every == 0 or step + 1 == recipe.stop:
            save_checkpoint(folder / "checkpoint", model, optimizers, recipe, step + 1)
    save_model(folder / "model", model, tokenizer)


class _Step:
    """A training step on a CPU as a function of tokens and rate; `loss` is that of the last one."""

    def __init__(self, model: LlamaForCausalLM, optimizers: list[torch.optim.Optimizer]):
        self.optimizers, self.loss = optimizers, torch.zeros(())

        @torch.compile
        def loss_of(tokens: torch.Tensor) -> torch.Tensor:
            hidden = model.model(input_ids=tokens).last_hidden_state
            logits = model.lm_head(hidden[:, :-1]).float()
            return cross_entropy(logits.reshape(-1, logits.shape[-1]), tokens[:, 1:].reshape(-1))

        self.loss_of = loss_of

    def __call__(self, tokens: torch.Tensor, rate: float) -> None:
        with torch.autocast("cpu", torch.bfloat16):
            self.loss = self.loss_of(tokens)
        self.loss.backward()
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
            optimizer.zero_grad()


def save_model(folder: Path, model: LlamaForCausalLM, tokenizer: Tokenizer) -> None:
    model.save_pretrained(folder)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=SEPARATOR, eos_token=SEPARATOR, pad_token=SEPARATOR
    ).save_pretrained(folder)


def save_checkpoint(
    folder: Path, model: LlamaForCausalLM, optimizers: list[torch.optim.Optimizer], recipe: Recipe, step: int
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {f"model.{name}": value for name, value in model.model.state_dict().items()}
    for number, optimizer in enumerate(optimizers):
        for index, state in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{number}.{index}.{name}": value for name, value in state.items()}
    temporary = folder / "state.tmp"
    save_file(tensors, temporary, metadata={"step": str(step), "recipe": json.dumps(asdict(recipe))})
    temporary.replace(folder / "state.safetensors")


def load_checkpoint(
    folder: Path, model: LlamaForCausalLM, optimizers: list[torch.optim.Optimizer], recipe: Recipe
) -> int:
    """Restore model and optimizers in place; return the number of steps already done (0 without a checkpoint)."""
    file = folder / "state.safetensors"
    if not file.exists():
        return 0
    with safe_open(file, "pt") as handle:
        metadata = handle.metadata()
    if json.loads(metadata["recipe"]) != asdict(recipe):
        raise ValueError(f"{folder} holds a checkpoint of another recipe; give another folder or delete it")
    tensors = load_file(file)
    model.model.load_state_dict(
        {name.removeprefix("model."): value for name, value in tensors.items() if name.startswith("model.")}
    )
    for number, optimizer in enumerate(optimizers):
        state: dict[int, dict[str, torch.Tensor]] = {}
        for name, value in tensors.items():
            if name.startswith(f"optimizer.{number}."):
                _, _, index, key = name.split(".", 3)
                state.setdefault(int(index), {})[key] = value
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return int(metadata["step"])
