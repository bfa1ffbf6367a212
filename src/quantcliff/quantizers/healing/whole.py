"""The scales of a whole model trained on next tokens, its codes and zero points as they are (E2E-QP of EfficientQAT,
arXiv 2407.11062): the second phase, after its layers were healed one by one.

A state is kept after every pass over the text, so that a killed run goes on from there and ends with the same bytes.
"""

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.func import functional_call
from tqdm import tqdm
from transformers import PreTrainedModel

from quantcliff import disk
from quantcliff.errors import InputError
from quantcliff.models import digest_of, load
from quantcliff.quantizers.calibration import rows_of
from quantcliff.quantizers.healing import stored
from quantcliff.quantizers.healing.fit import HELD_OUT, Recipe, rate_at
from quantcliff.quantizers.healing.grid import Grid
from quantcliff.quantizers.healing.run import REPORT, check, heal, plan_of

WHOLE_REPORT = "end_to_end.json"
"""Beside the weights: what was done, and the loss after every pass."""


@dataclass(frozen=True)
class EndToEnd:
    """How to train scales on next tokens.

    Attributes:
        epochs: passes over the text; the best on held-out sequences is kept, none at all included.
        batch: sequences at once.
        lr: learning rate, a share of each scale (cosine to a twentieth). The paper's 2e-5 for scales near .02 is 1e-3.
        clip: largest norm of a gradient, as in the paper.
        seed: order of the sequences.
    """

    epochs: int = 1
    batch: int = 32
    lr: float = 1e-3
    clip: float = 0.3
    seed: int = 0

    def check(self) -> None:
        """Raises InputError for a value out of range."""
        if self.epochs < 1 or self.batch < 1:
            raise InputError(f"epochs is {self.epochs} and batch {self.batch}; give at least 1 of each")
        if not (0 < self.lr < math.inf and 0 < self.clip < math.inf):
            raise InputError(f"the learning rate is {self.lr} and the clip {self.clip}; give positive numbers")


def end_to_end(
    quantized: str | Path,
    documents: Sequence[str],
    out: str | Path,
    recipe: EndToEnd | None = None,
    *,
    tokens: int = 64,
    sequences: int | None = None,
    device: str = "cpu",
) -> Path:
    """Train the scales of a packed compressed-tensors checkpoint on next tokens, into the new folder `out`.

    Args:
        documents: text to train on.
        tokens, sequences: sizes of what is made of the text (`rows_of`).

    Raises:
        InputError: a checkpoint of another kind, too little text, `out` exists, or OUT.scales belongs to another run.
    """
    recipe, out = recipe or EndToEnd(), Path(out)
    recipe.check()
    stored.check(quantized)
    with disk.making(out):
        disk.absent(out)
        model = load(quantized, device=device)
        ids = rows_of(model.tokenizer, documents, tokens, sequences)
        plan = plan_of(recipe, ids, quantized=quantized)
        run = _Run(model.hf, stored.read(quantized), ids.to(model.hf.device), recipe)
        state = out.with_name(f"{out.name}.scales")
        history = run.train(state, plan)
        with disk.whole(out) as part:
            stored.write(quantized, {name: grid.frozen() for name, grid in run.grids.items()}, part)
            disk.write(part / WHOLE_REPORT, json.dumps({**plan, "course": history}, indent=1) + "\n")
        state.unlink(missing_ok=True)
        return out


def heal_whole(
    base: str | Path,
    quantized: str | Path,
    documents: Sequence[str],
    out: str | Path,
    recipe: Recipe,
    then: EndToEnd,
    *,
    tokens: int = 64,
    sequences: int | None = None,
    device: str = "cpu",
) -> Path:
    """`heal` layer by layer into OUT.layers, and then `end_to_end` from there into the new folder `out`.

    Raises:
        InputError: as both, or OUT.layers belongs to another run.
    """
    out = Path(out)
    then.check()
    check(base, quantized, out, recipe)
    layers = out.with_name(f"{out.name}.layers")
    if not layers.exists():
        heal(base, quantized, documents, layers, recipe, tokens=tokens, sequences=sequences, device=device)
    made = json.loads((layers / REPORT).read_text(encoding="utf-8"))
    if (made["quantized"], made["recipe"]) != (digest_of(quantized), asdict(recipe)):
        raise InputError(f"{layers} holds layers of another run; delete it, or give another OUT")
    end_to_end(layers, documents, out, then, tokens=tokens, sequences=sequences, device=device)
    shutil.rmtree(layers)
    return out


class _Run:
    """A model whose scales are trained, and the text."""

    def __init__(self, hf: PreTrainedModel, matrices: Mapping[str, Any], ids: Int[Tensor, "_ token"], recipe: EndToEnd):
        self.hf, self.ids, self.recipe = hf.eval().requires_grad_(False), ids, recipe
        codes = {name: one.to(ids.device) for name, one in matrices.items()}
        self.grids = {name: Grid(one, one.weight, scales_only=True) for name, one in codes.items()}
        self.factors = [grid.factor for grid in self.grids.values()]
        self.held = max(1, len(ids) // HELD_OUT)
        self.optimizer = torch.optim.AdamW(self.factors, lr=recipe.lr, weight_decay=0.0)

    def train(self, state: Path, plan: Mapping[str, Any]) -> list[dict[str, float]]:
        """The course of training, a row an epoch (0 before it): loss, kept; the grids then hold the best epoch.

        Loss is in nats a token on held-out sequences, of the frozen grids.
        """
        order, best, history = torch.Generator().manual_seed(self.recipe.seed), self._factors(), [self._judge()]
        done = self._read(state, plan, order)
        if done:
            best, history = done
        steps = math.ceil((len(self.ids) - self.held) / self.recipe.batch)
        with tqdm(total=steps * self.recipe.epochs, desc="scales, end to end", disable=None) as bar:
            bar.update(steps * (len(history) - 1))
            for epoch in range(len(history) - 1, self.recipe.epochs):
                rows = torch.randperm(len(self.ids) - self.held, generator=order).split(self.recipe.batch)
                for number, chosen in enumerate(rows):
                    self._step(chosen, (epoch * steps + number) / (steps * self.recipe.epochs))
                    bar.update()
                history.append(loss := self._judge())
                best = self._factors() if loss < min(history[:-1]) else best
                self._write(state, plan, best, history)
        self._put(best)
        kept = history.index(min(history))
        return [{"epoch": float(i), "loss": loss, "kept": float(i == kept)} for i, loss in enumerate(history)]

    def _step(self, rows: Int[Tensor, " sequence"], done: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.lr * rate_at(done)
        self.optimizer.zero_grad(set_to_none=True)
        self._loss(rows, {name: grid() for name, grid in self.grids.items()}).backward()
        nn.utils.clip_grad_norm_(self.factors, self.recipe.clip)
        self.optimizer.step()

    def _loss(self, rows: Int[Tensor, " sequence"], weights: Mapping[str, Tensor]) -> Float[Tensor, ""]:
        ids = self.ids[rows.to(self.ids.device)]
        named = {f"{name}.weight": weight for name, weight in weights.items()}
        logits = functional_call(self.hf, named, (ids,), {"use_cache": False}).logits
        return nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1).float(), ids[:, 1:].flatten())

    @torch.no_grad()
    def _judge(self) -> float:
        weights = {name: grid.frozen().weight for name, grid in self.grids.items()}
        parts = torch.arange(len(self.ids) - self.held, len(self.ids)).split(self.recipe.batch)
        return sum(float(self._loss(rows, weights)) * len(rows) for rows in parts) / self.held

    def _factors(self) -> list[Tensor]:
        return [factor.detach().clone() for factor in self.factors]

    @torch.no_grad()
    def _put(self, factors: Sequence[Tensor]) -> None:
        for own, kept in zip(self.factors, factors, strict=True):
            own.copy_(kept)

    def _write(self, state: Path, plan: Mapping[str, Any], best: Sequence[Tensor], history: list[float]) -> None:
        tensors: dict[str, Tensor] = {}
        for number, (factor, kept) in enumerate(zip(self.factors, best, strict=True)):
            moments = self.optimizer.state[factor]
            parts = {"now": factor.detach(), "best": kept, "mean": moments["exp_avg"], "square": moments["exp_avg_sq"]}
            tensors |= {f"{part}.{number}": tensor.cpu().contiguous() for part, tensor in parts.items()}
        steps = float(self.optimizer.state[self.factors[0]]["step"])
        about = {"plan": dict(plan), "history": history, "steps": steps}
        with disk.whole(state) as part:
            save_file(tensors, part, {"about": json.dumps(about)})

    def _read(
        self, state: Path, plan: Mapping[str, Any], order: torch.Generator
    ) -> tuple[list[Tensor], list[float]] | None:
        if not state.is_file():
            return None
        with safe_open(state, "pt", device=str(self.ids.device)) as handle:
            about = json.loads(handle.metadata()["about"])
            if about["plan"] != dict(plan):
                raise InputError(f"{state} holds scales of another run; delete it, or give another OUT")
            self._put([handle.get_tensor(f"now.{number}") for number in range(len(self.factors))])
            for number, factor in enumerate(self.factors):
                self.optimizer.state[factor] = {
                    "step": torch.tensor(about["steps"]), "exp_avg": handle.get_tensor(f"mean.{number}"),
                    "exp_avg_sq": handle.get_tensor(f"square.{number}"),
                }  # fmt: skip
            best = [handle.get_tensor(f"best.{number}") for number in range(len(self.factors))]
        for _ in about["history"][1:]:
            torch.randperm(len(self.ids) - self.held, generator=order)
        return best, about["history"]
