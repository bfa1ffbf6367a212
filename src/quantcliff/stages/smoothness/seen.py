"""What one model does on the inputs, number by number, and beside full precision."""

from dataclasses import dataclass, field, replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from quantcliff.models import Model
from quantcliff.quantizers.healing.blocks import Blocks
from quantcliff.stages.smoothness import candidates, slopes, tree
from quantcliff.stages.smoothness.inputs import NEAR, RANDOM, Inputs, Sizes

RADII = (0.01, 0.03, 0.1, 0.3, 1.0)
"""Steps of the finite slopes, in mean norms of an embedding."""

INSIDE, ALL = "but first", "all"
"""Tokens that a gradient is looked at: those that count (`Inputs.inside`), or all but the last."""

Key = tuple[str, str, float]
"""Measure, part, and radius, layer or depth (NaN where there is none)."""

Values = dict[Key, np.ndarray]

NONE = float("nan")


SHARES = frozenset({"direction", "direction_chance", "survival", "survival_chance", "own_shared", "paths_kept"})
"""Measures that compare with full precision already; no ratio to its own is told."""


def but_last(inside: Bool[Tensor, "sequence token"]) -> Bool[Tensor, "sequence token"]:
    """All tokens but the last."""
    return torch.arange(inside.shape[1]).expand_as(inside) < inside.shape[1] - 1


@dataclass(frozen=True, eq=False)
class Seen:
    """A model at one temperature.

    Attributes:
        tau: factor on its logits.
        values: one number for each sequence or start.
        gradient: of the loss by the input embeddings.
        unions: effective candidates of every start's neighbours, by kind.
        nodes: the tree of every start, by depth.
    """

    tau: float
    values: dict[Key, Float[np.ndarray, " unit"]]
    gradient: Float[Tensor, "sequence token d_model"]
    unions: dict[str, Bool[Tensor, "prefix vocab"]]
    nodes: list[list[set[tree.Path]]] = field(repr=False)

    def beside(self, full: "Seen", inside: Bool[Tensor, "sequence token"]) -> "Seen":
        """With what needs both models among the values: direction of gradients, surviving candidates and paths.

        `direction_chance`, `survival_chance`: beside full precision on the sequence, or start, that comes before.
        `paths_kept`: of full precision's paths at the last depth, over the starts where it has any.
        """
        found = dict(self.values)
        cosines = slopes.cosines(self.gradient, full.gradient)
        chance = slopes.cosines(self.gradient, full.gradient.roll(1, 0))
        for part, here in {INSIDE: inside, ALL: but_last(inside)}.items():
            found["direction", part, NONE] = slopes.averaged(cosines, here).numpy()
            found["direction_chance", part, NONE] = slopes.averaged(chance, here).numpy()
        for kind, union in self.unions.items():
            theirs = full.unions[kind]
            found["survival", kind, NONE] = candidates.share_in(theirs, union)
            found["survival_chance", kind, NONE] = candidates.share_in(theirs, union.roll(1, 0))
            found["own_shared", kind, NONE] = candidates.share_in(union, theirs)
        depth = len(self.nodes[0]) - 1
        pairs = [(own[-1], theirs[-1]) for own, theirs in zip(self.nodes, full.nodes, strict=True)]
        found["paths_kept", "", float(depth + 1)] = np.array(
            [len(own & theirs) / len(theirs) for own, theirs in pairs if theirs]
        )
        return replace(self, values=found)


@dataclass(frozen=True, eq=False)
class Looking:
    """Inputs, and what all models of a base share.

    Attributes:
        unit: mean norm of full precision's embeddings at the tokens that count.
        entropy: full precision's mean, nats, to which twins are brought; None for full precision itself.
    """

    inputs: Inputs
    sizes: Sizes
    unit: float
    entropy: float | None = None
    seed: int = 0

    @classmethod
    def of(cls, base: Model, inputs: Inputs, sizes: Sizes, seed: int = 0) -> "Looking":
        e = slopes.embedded(base.hf, inputs.ids).norm(dim=-1).cpu()
        found = cls(inputs, sizes, float(e[inputs.inside].mean()), None, seed)
        logits = found.text_logits(base)
        return replace(found, entropy=float(candidates.entropy(torch.softmax(logits, -1)).mean()))

    @torch.no_grad()
    def text_logits(self, model: Model) -> Float[Tensor, "n vocab"]:
        """At the tokens that count of the first sequences."""
        found = []
        for rows in torch.arange(min(self.sizes.finite, len(self.inputs.ids))).split(slopes.ROWS):
            logits = model.hf(self.inputs.ids[rows].to(model.hf.device), use_cache=False).logits.float().cpu()
            found.append(logits[self.inputs.inside[rows]])
        return torch.cat(found)

    def twin(self, model: Model) -> float:
        """The factor on the logits that gives the model full precision's mean entropy."""
        assert self.entropy is not None
        return candidates.matching(self.text_logits(model), self.entropy)

    def look(self, model: Model, taus: tuple[float, ...]) -> list[Seen]:
        """The model at every temperature; Jacobians, which end before the logits, at the first alone."""
        gradients = slopes.input_gradients(model.hf, self.inputs.ids, taus)
        embeddings = slopes.embedded(model.hf, self.inputs.ids)
        steps, depths = self._steps(model, taus), self._depths(model)
        around, unions = self._around(model, taus)
        found = []
        for number, (tau, gradient) in enumerate(zip(taus, gradients, strict=True)):
            values = self._norms(slopes.scaled_norms(gradient, embeddings))
            values |= steps[number] | around[number] | (depths if number == 0 else {})
            nodes = tree.trees(model.hf, self.inputs.starts[: self.sizes.trees], tau, self.sizes.depth, self.sizes.cap)
            for depth in range(self.sizes.depth):
                values["nodes", "", float(depth + 1)] = np.array([float(len(own[depth])) for own in nodes])
            if self.sizes.samples:
                values["distinct", "", NONE] = tree.distinct(
                    model.hf,
                    self.inputs.starts[: self.sizes.trees],
                    tau,
                    self.sizes.depth,
                    self.sizes.samples,
                    self.seed,
                )
            found.append(Seen(tau, values, gradient, unions[number], nodes))
        return found

    def _norms(self, norms: Tensor) -> dict[Key, np.ndarray]:
        values: dict[Key, np.ndarray] = {}
        for part, here in {INSIDE: self.inputs.inside, ALL: but_last(self.inputs.inside)}.items():
            values["norm", part, NONE] = slopes.averaged(norms, here).numpy()
            values["spread", part, NONE] = slopes.spread(norms, here).numpy()
        return values

    def _steps(self, model: Model, taus: tuple[float, ...]) -> list[dict[Key, np.ndarray]]:
        n, sizes = self.sizes.finite, self.sizes
        ids, inside = self.inputs.ids[:n], self.inputs.inside[:n]
        found = slopes.finite_slopes(model.hf, ids, inside, RADII, self.unit, sizes.directions, taus, self.seed)
        return [{("slope", "", radius): own[place].numpy() for place, radius in enumerate(RADII)} for own in found]

    def _depths(self, model: Model) -> dict[Key, np.ndarray]:
        if not self.sizes.probes:
            return {}
        n = self.sizes.finite
        blocks = Blocks(model, self.inputs.ids[:1])
        pair = slopes.jacobian_norms(blocks, self.inputs.ids[:n], self.inputs.inside[:n], self.sizes.probes, self.seed)
        return {
            ("jacobian", part, float(layer)): row.numpy()
            for part, values in zip((INSIDE, ALL), pair, strict=True)
            for layer, row in enumerate(values)
        }

    def _around(self, model: Model, taus: tuple[float, ...]) -> tuple[list[Values], list[dict[str, Tensor]]]:
        own = candidates.next_logits(model.hf, self.inputs.starts[: self.sizes.prefixes])
        values: list[Values] = [{} for _ in taus]
        unions: list[dict[str, Tensor]] = [{} for _ in taus]
        for kind in (NEAR, RANDOM):
            rows = self.inputs.neighbours[kind]
            logits = list(candidates.next_logits(model.hf, rows.flatten(0, 1)).unflatten(0, rows.shape[:2]))
            for number, found in enumerate(candidates.around(own, logits, taus)):
                values[number] |= {(name, kind, NONE): numbers for name, numbers in found.sizes.items()}
                unions[number][kind] = found.union
        for number, tau in enumerate(taus):
            at = candidates.effective(torch.softmax(tau * own, -1))
            values[number] |= {(name, "start", NONE): numbers.numpy() for name, numbers in at.items()}
        return values, unions
