"""One layer trained on its quantized grid to give what full precision's gives, and the best of its epochs kept."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from quantcliff.errors import InputError
from quantcliff.quantizers.healing.grid import Codes, Grid
from quantcliff.quantizers.healing.term import GRADIENT, RANDOM, Term

Run = Callable[[Tensor, Mapping[str, Tensor]], Tensor]
"""From the stream and the weights of a layer's matrices to its output."""

QUIET = 0.01
"""Share of the median channel's variance that every channel is given on top, so that a dead one does not rule."""

HELD_OUT = 16
"""One sequence in so many is not trained on and chooses the epoch."""

TARGETS = ("own", "wrong")
ALONG = ("", GRADIENT, RANDOM)


@dataclass(frozen=True)
class Recipe:
    """How to train a layer. Rates are in steps of the grid (weights, zero points) and shares (scales); *chosen*.

    Attributes:
        epochs: passes over the text; the best on held-out sequences is kept, none at all included.
        batch: sequences at once.
        lr_grid, lr_weight: learning rates of scales and zero points, and of weights; cosine to a twentieth.
        scales_only: train scales alone, codes and zero points stay.
        target: "own" layer's output in full precision; "wrong" (a control) that of the layer half the depth away.
        plain: minimise the plain squared error; else every channel counts in units of its own variance.
        seed: order of the sequences.
        along: which vector the layer is to hand back as full precision's does (`term`): "gradient", "random" (a
            control), or none.
        smooth: weight of that; 0 measures it only.
    """

    epochs: int = 4
    batch: int = 32
    lr_grid: float = 0.01
    lr_weight: float = 0.01
    scales_only: bool = False
    target: str = "own"
    plain: bool = False
    seed: int = 0
    along: str = ""
    smooth: float = 0.0

    def check(self) -> None:
        """Raises InputError for a value out of range."""
        if self.epochs < 1 or self.batch < 1:
            raise InputError(f"epochs is {self.epochs} and batch {self.batch}; give at least 1 of each")
        if not (0 < self.lr_grid < math.inf and 0 < self.lr_weight < math.inf):
            raise InputError(f"learning rates are {self.lr_grid} and {self.lr_weight}; give positive numbers")
        if self.target not in TARGETS:
            raise InputError(f"target is {self.target!r}; choose one of {', '.join(TARGETS)}")
        if self.along not in ALONG or not 0 <= self.smooth < math.inf or (self.smooth and not self.along):
            raise InputError(
                f"along is {self.along!r} and smooth {self.smooth}; give gradient or random, and a weight of at least 0"
            )


def channel_units(target: Float[Tensor, "sequence token d_model"]) -> Float[Tensor, " d_model"]:
    """Variance of each channel over all tokens, a share `QUIET` of the median channel's added.

    In units of it one channel that is a thousand times larger than the rest counts as any other, not a million times.
    """
    variance = target.flatten(0, 1).var(0, correction=0)
    return variance + QUIET * variance.median()


def fit(
    run: Run,
    grids: Mapping[str, Grid],
    stream: Float[Tensor, "sequence token d_in"],
    target: Float[Tensor, "sequence token d_out"],
    recipe: Recipe,
    seed: int,
    tick: Callable[[], object] = lambda: None,
    term: Term | None = None,
) -> tuple[dict[str, Codes], list[dict[str, float]]]:
    """The grids' best epoch, frozen, and the course of training.

    Args:
        stream, target: input and wanted output, sequence by sequence; the last ones are held out.
        tick: called after every step.
        term: of these sequences; what it adds to the loss does not choose the epoch.

    Returns:
        Codes by name; and a row an epoch, 0 before training: plain and normalised (mean squared error on held-out
        sequences, of the frozen grid), moved (share of codes that are not those of the epoch before), kept (1 for the
        epoch that was chosen), with a term also gradient (`Term.error` on held-out sequences).
    """
    held = max(1, len(stream) // HELD_OUT)
    order = torch.Generator().manual_seed(seed)
    unit = channel_units(target[:-held])
    wanted = torch.ones_like(unit) if recipe.plain else unit
    steps = recipe.epochs * math.ceil((len(stream) - held) / recipe.batch)
    optimizer = torch.optim.AdamW(_groups(grids, recipe), weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate_at(step / steps))
    best = {name: grid.frozen() for name, grid in grids.items()}

    def judged(codes: Mapping[str, Codes]) -> dict[str, float]:
        return _judge(run, codes, stream[-held:], target[-held:], unit, recipe.batch) | _handed_back(
            run, codes, stream, held, term, recipe.batch
        )

    last, history = best, [judged(best) | {"moved": 0.0}]
    least, number = history[0]["plain" if recipe.plain else "normalised"], 0
    for epoch in range(1, recipe.epochs + 1):
        for rows in torch.randperm(len(stream) - held, generator=order).split(recipe.batch):
            weights = {f"{name}.weight": grid() for name, grid in grids.items()}
            x = stream[rows].requires_grad_(term is not None and term.weight > 0)
            y = run(x, weights)
            error = ((y - target[rows]).square() / wanted).mean()
            if term is not None and term.weight > 0:
                error = error + term.weight * term.error(x, y, rows)
            optimizer.zero_grad(set_to_none=True)
            error.backward()
            optimizer.step()
            schedule.step()
            tick()
        now = {name: grid.frozen() for name, grid in grids.items()}
        found = judged(now)
        history.append(found | {"moved": _moved(last, now)})
        if (loss := found["plain" if recipe.plain else "normalised"]) < least:
            best, least, number = now, loss, epoch
        last = now
    return best, [row | {"epoch": float(i), "kept": float(i == number)} for i, row in enumerate(history)]


def _groups(grids: Mapping[str, Grid], recipe: Recipe) -> list[dict]:
    scales = [part for grid in grids.values() for part in (grid.factor, grid.zero) if part.requires_grad]
    weights = [grid.steps for grid in grids.values() if grid.steps.requires_grad]
    return [{"params": scales, "lr": recipe.lr_grid}] + [{"params": weights, "lr": recipe.lr_weight}] * bool(weights)


def rate_at(done: float) -> float:
    """Share of the learning rate: a cosine from 1 to 1/20."""
    return 0.05 + 0.95 * (1 + math.cos(math.pi * min(done, 1.0))) / 2


@torch.no_grad()
def _judge(
    run: Run, codes: Mapping[str, Codes], stream: Tensor, target: Tensor, unit: Tensor, rows: int
) -> dict[str, float]:
    weights = {f"{name}.weight": one.weight for name, one in codes.items()}
    total = torch.zeros_like(unit, dtype=torch.float64)
    for x, y in zip(stream.split(rows), target.split(rows), strict=True):
        total += (run(x, weights) - y).square().double().sum((0, 1))
    total /= target.shape[0] * target.shape[1]
    return {"plain": float(total.mean()), "normalised": float((total / unit).mean())}


def _handed_back(
    run: Run, codes: Mapping[str, Codes], stream: Tensor, held: int, term: Term | None, rows: int
) -> dict[str, float]:
    if term is None:
        return {}
    weights = {f"{name}.weight": one.weight for name, one in codes.items()}
    total = 0.0
    for part in torch.arange(len(stream) - held, len(stream), device=stream.device).split(rows):
        x = stream[part].requires_grad_()
        total += term.error(x, run(x, weights), part).item() * len(part)
    return {"gradient": total / held}


def _moved(before: Mapping[str, Codes], after: Mapping[str, Codes]) -> float:
    changed = sum(int((after[name].codes != one.codes).sum()) for name, one in before.items())
    return changed / sum(one.codes.numel() for one in before.values())
