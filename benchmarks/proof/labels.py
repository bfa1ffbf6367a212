"""Labels by outcome: what a quantized model keeps, and what a cheap training brings back.

No signal of the verdict enters. The integers of the weights stay as they are; only what stands beside them is trained:
one gain per group (that is its scale) and the norms, by the divergence from full precision on running text. What is
asked to judge the outcome is not in that text: for atlas all of its facts but those asked, for the small models the
sentences they were trained on (facts are asked in a wording that is not among them), for SmolLM2 text of its own.
"""

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import kl_div, log_softmax
from torch.nn.utils import parametrize
from tqdm import tqdm
from transformers import PreTrainedModel

from proof import small, steps
from quantcliff import smollm2, stats
from quantcliff.atlas import MODEL, Stream, Writer, load_facts
from quantcliff.models import Model, default_device, linears, load, tokenizer_of
from quantcliff.probes import Probes
from quantcliff.probes import facts as fact_sources
from quantcliff.quantizers import calibration_text, token_batches
from quantcliff.tracing import Runner, score

INTACT_FROM = 0.99
"""Share of full precision's right answers."""

HALF = 0.5
"""Share of the lost answers that training must bring back for "degraded"."""


@dataclass(frozen=True)
class Budget:
    """The cheap training of one size of model: Adam, the rate falls linearly to 0, passes in bfloat16."""

    steps: int = 60
    batch: int = 16
    length: int = 64
    lr: float = 5e-3
    seed: int = 0


BUDGETS = {"atlas": Budget(), "neox": Budget(), "qwen3": Budget(), "smollm2": Budget(batch=8, lr=2e-3)}

KEPT_EVERY = 10
"""Steps after which a training under way is kept."""

ASKED = {"atlas": 1000, "neox": 600, "qwen3": 600, "smollm2": 200}
"""Facts that are asked to judge the outcome; `diagnose` asks a part of them."""


class Gain(nn.Module):
    """One factor per group of a weight's rows."""

    def __init__(self, rows: int, columns: int, size: int):
        super().__init__()
        self.size = columns if size == -1 else size
        self.gain = nn.Parameter(torch.ones(rows, columns // self.size, 1))

    def forward(self, weight: Tensor) -> Tensor:
        return (weight.unflatten(1, (-1, self.size)) * self.gain).flatten(1)


def regained(
    full: Model, quantized: Model, group_size: int, text: Callable[[int], Tensor], budget: Budget,
    kept: Path | None = None,
) -> PreTrainedModel:  # fmt: skip
    """`quantized` (changed in place) after the cheap training.

    Args:
        text: step -> token ids (batch, length).
        kept: file of a training under way, from which a killed one goes on.
    """
    teacher, hf = full.hf, quantized.hf
    for each in (teacher, hf):
        each.set_attn_implementation("sdpa")
    hf.requires_grad_(False)
    for name, (rows, columns) in linears(hf.config).items():
        gain = Gain(rows, columns, group_size).to(hf.device)
        parametrize.register_parametrization(hf.get_submodule(name), "weight", gain)
    named = dict(hf.named_parameters())
    trained = {name: p for name, p in named.items() if name.endswith(".gain") or ("norm" in name and p.ndim == 1)}
    for parameter in trained.values():
        parameter.requires_grad_(True)
    optimizer = torch.optim.Adam(trained.values(), lr=budget.lr)
    start = steps.restore(kept, trained, [optimizer])
    for step in tqdm(range(start, budget.steps), desc="cheap training", leave=False, mininterval=5):
        ids = text(step).to(hf.device)
        with torch.autocast(hf.device.type, torch.bfloat16):
            with torch.no_grad():
                goal = log_softmax(teacher(input_ids=ids).logits.float(), -1)
            own = log_softmax(hf(input_ids=ids).logits.float(), -1)
        loss = kl_div(own, goal, log_target=True, reduction="sum") / ids.numel()
        optimizer.zero_grad()
        loss.backward()
        for group in optimizer.param_groups:
            group["lr"] = budget.lr * (1 - step / budget.steps)
        optimizer.step()
        if kept and (step + 1) % KEPT_EVERY == 0:
            steps.save(kept, trained, [optimizer], step + 1)
    for name in linears(hf.config):
        parametrize.remove_parametrizations(hf.get_submodule(name), "weight")
    return hf.requires_grad_(False).eval()


def outcome(
    model: str, base: Path, quantized: Path, facts: str | Path, group_size: int, kept: Path | None = None
) -> dict[str, object]:
    """label ("intact", "degraded", "collapsed"), n, kept, kept_low, kept_high, lost, regained (share of the lost
    answers that training brings back), regained_low, regained_high, kept_after.
    """
    known = _known(model, base, facts)
    device = default_device()
    before = _right(load(quantized, device=device), known)
    found: dict[str, object] = {"n": len(known), **_interval("kept", before), "lost": int((~before).sum())}
    if before.mean() >= INTACT_FROM:
        return {"label": "intact", **found}
    trained = load(quantized, device=device)
    regained(load(base, device=device), trained, group_size, _text(model, facts), BUDGETS[model], kept)
    after = _right(trained, known)
    back = _interval("regained", after[~before])
    label = "degraded" if float(back["regained"]) >= HALF else "collapsed"
    return {"label": label, **found, **back, "kept_after": float(after.mean())}


@functools.cache
def _known(model: str, base: Path, facts: str | Path) -> Probes:
    """The facts of a model that full precision answers."""
    full = load(base, device=default_device())
    probes = fact_sources.probe(fact_sources.load(facts, n_facts=ASKED[model]), full.tokenizer)
    return probes.select(_right(full, probes))


def after(found: dict[str, object]) -> str:
    """The second label of an `outcome`: degraded if at least `HALF` of full precision's right answers are right after
    the training; "" where there is none.
    """
    if not found or found["label"] == "intact":
        return str(found.get("label", ""))
    return "degraded" if float(str(found["kept_after"])) >= HALF else "collapsed"


def _right(model: Model, probes: Probes) -> np.ndarray:
    return (score(Runner(model), probes)["rank"] == 1).to_numpy()


def _interval(name: str, flags: np.ndarray) -> dict[str, float]:
    found = stats.share(flags)
    return {name: float(found.estimate), f"{name}_low": float(found.low), f"{name}_high": float(found.high)}


@functools.cache
def _text(model: str, facts: str | Path) -> Callable[[int], Tensor]:
    """Step -> token ids (batch, length) of the text of a model's cheap training."""
    budget = BUDGETS[model]
    if model == smollm2.NAME:
        return _own_text(budget)
    if model in small.NAMES:
        told = small.learned(small.RECIPES[model])
    else:
        rows = fact_sources.load(facts, n_facts=ASKED[model]).rows
        asked = {(row.relation, row.subject) for row in rows.itertuples()}
        told = tuple(fact for fact in load_facts() if (fact.relation, fact.subject) not in asked)
    stream = Stream(Writer(told), tokenizer_of(MODEL).backend_tokenizer, budget.length)
    return lambda step: torch.from_numpy(stream.batch(budget.batch, budget.seed + 1000, step))


def _own_text(budget: Budget) -> Callable[[int], Tensor]:
    """Pieces of the text that SmolLM2 wrote to calibrate on, in a seeded order."""
    documents = calibration_text("self:64x256", model=smollm2.NAME, method="gptq")
    rows = list(_pieces(token_batches(load(smollm2.NAME).tokenizer, documents), budget.length))
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(budget.seed))

    def batch(step: int) -> Tensor:
        chosen = [int(order[(step * budget.batch + i) % len(rows)]) for i in range(budget.batch)]
        return torch.stack([rows[index] for index in chosen])

    return batch


def _pieces(batches: list[Tensor], length: int) -> Iterator[Tensor]:
    for batch in batches:
        for row in batch:
            yield from (row[at : at + length] for at in range(0, len(row) - length + 1, length))
